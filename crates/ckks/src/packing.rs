//! Packing: what many ciphertexts hold at multiples of M becomes one ciphertext, and back. With [`Arithmetic::weigh`] a whole linear layer.
//!
//! π projects on Z\[X^M\]. Wanted is Σ X^i·π(x_i), i < M. For a step of 1, 2, 4, … M/2 let g = 1 + N/step: σ_g keeps X^(2·step·j) and turns
//! X^step into −X^step. With A what is packed of the even leaves and B of the odd ones, at twice the step, (A + X^step·B) +
//! σ_g(A − X^step·B) is what is packed of all, doubled: one switch of keys for every two that meet, and one for every step at which a leaf is alone.
//! M comes out as a factor, so leaves are multiplied by M^−1 modulo Q before anything adds an error: exact, no scale moves. At the last step of all,
//! N/2, it is the conjugation that turns X^step into −X^step.
//!
//! The tree is PackLWEs of \[CDKS21\] (Chen, Dai, Kim, Song, *Efficient Homomorphic Conversion Between (Ring) LWE Ciphertexts*), here for
//! polynomials whose places all stay. Its keys are nested: those for M are among those for 2M.
//!
//! Error: with V the deviation of one switch of keys in a coefficient, V·√((M² − 1)/3) where all M leaves are there: the switch at step M/2^l
//! is doubled l − 1 times.

use crate::folded::{Convolution, WeightRows};
use crate::keys::{KeyName, conjugation_element, galois_element};
use crate::{Arithmetic, Coefficients, Complex64, Encoder, Error, Parameters};
use rayon::prelude::*;
use std::ops::Range;

/// Values in coefficients of an interpreter.
type Of<A> = Coefficients<<A as Arithmetic>::Value>;

/// Σ X^to·π(X^−from·x) over the leaves (from, to, x), π the projection on Z\[X^spacing\]; `to` are below the spacing, each once. Their level and
/// scale; [`switches`] says the work, [`packing_keys`] the keys.
///
/// # Errors
/// [`Error::Conformance`] for no leaf, for places that are taken twice or beyond the spacing, or for a spacing that is no power of two of at most N.
pub fn pack<A: Arithmetic + ?Sized>(
    a: &A,
    leaves: &[(usize, usize, &Of<A>)],
    spacing: usize,
) -> Result<Of<A>, Error> {
    let n = a.parameters().n();
    let mut places: Vec<usize> = leaves.iter().map(|(_, to, _)| *to).collect();
    places.sort_unstable();
    let distinct = places.windows(2).all(|w| w[0] < w[1]);
    let fit = places.last().is_some_and(|&last| last < spacing);
    if !spacing.is_power_of_two() || spacing > n || !distinct || !fit {
        let reason = format!(
            "{} leaves at {places:?} of {spacing} in a ring of degree {n}",
            leaves.len()
        );
        return Err(Error::conformance("packing", reason));
    }
    tree(a, leaves.to_vec(), 1, spacing)
}

/// What is packed of leaves that agree modulo `step`, the least of them at exponent 0.
fn tree<A: Arithmetic + ?Sized>(
    a: &A,
    leaves: Vec<(usize, usize, &Of<A>)>,
    step: usize,
    spacing: usize,
) -> Result<Of<A>, Error> {
    if step == spacing {
        let (from, _, x) = leaves[0];
        let x = divided(a, x, spacing)?;
        return match from {
            0 => Ok(x),
            _ => a.shift(&x, -(from as i64)),
        };
    }
    let (odd, even): (Vec<_>, Vec<_>) = leaves.into_iter().partition(|(_, to, _)| to & step != 0);
    let moved = |leaves| a.shift(&tree(a, leaves, 2 * step, spacing)?, step as i64);
    if odd.is_empty() {
        let x = tree(a, even, 2 * step, spacing)?;
        return x.plus(a, &turned(a, &x, step)?);
    }
    if even.is_empty() {
        let y = moved(odd)?;
        return minus(a, &y, &turned(a, &y, step)?);
    }
    let (x, y) = (tree(a, even, 2 * step, spacing)?, moved(odd)?);
    let image = turned(a, &minus(a, &x, &y)?, step)?;
    x.plus(a, &y)?.plus(a, &image)
}

/// The classes of coefficients modulo `spacing`: class i as a polynomial in X^spacing, all else zero. spacing − 1 switches of keys, with
/// the keys of packing. What a class keeps has the operand's error and, for M classes, V·√((M² − 1)/3) more.
///
/// # Errors
/// [`Error::Conformance`] for a spacing that is no power of two of at most N.
pub fn unpack<A: Arithmetic + ?Sized>(
    a: &A,
    x: &Of<A>,
    spacing: usize,
) -> Result<Vec<Of<A>>, Error> {
    let n = a.parameters().n();
    if !spacing.is_power_of_two() || spacing > n {
        let reason = format!("{spacing} classes in a ring of degree {n}");
        return Err(Error::conformance("unpacking", reason));
    }
    let mut classes = vec![divided(a, x, spacing)?];
    let mut step = 1;
    // classes modulo `step`, in order; each has its class at multiples of the step
    while step < spacing {
        let (mut even, mut odd) = (Vec::new(), Vec::new());
        for c in &classes {
            let image = turned(a, c, step)?;
            even.push(c.plus(a, &image)?);
            odd.push(a.shift(&minus(a, c, &image)?, -(step as i64))?);
        }
        even.append(&mut odd);
        classes = even;
        step *= 2;
    }
    Ok(classes)
}

/// A linear layer: products, then packing: see [`Arithmetic::convolve`].
///
/// # Errors
/// Other operands than the layer's input, ones that differ in level or scale, and what the reader of weights refuses.
pub fn convolve<A: Arithmetic + ?Sized>(
    a: &A,
    xs: &[Of<A>],
    layer: &Convolution,
    weights: &dyn WeightRows,
    scale: f64,
) -> Result<Vec<Option<Of<A>>>, Error> {
    let each = layer.output().channels_each();
    let classes = layer.output().ciphertexts() / layer.outputs().div_ceil(each);
    let mut out = Vec::with_capacity(layer.output().ciphertexts());
    for (k, first) in (0..layer.outputs()).step_by(each).enumerate() {
        let outputs = first..layer.outputs().min(first + each);
        let products = a.weigh(xs, layer, outputs, weights, scale)?;
        let packed = (k * classes..(k + 1) * classes)
            .into_par_iter()
            .map(|number| {
                let leaves = layer.leaves(number);
                let leaves: Vec<_> = leaves
                    .iter()
                    .map(|leaf| (leaf.from, leaf.to, &products[leaf.output - first]))
                    .collect();
                match leaves.is_empty() {
                    true => Ok(None),
                    false => a.pack(&leaves, layer.spacing()).map(Some),
                }
            });
        out.extend(packed.collect::<Result<Vec<_>, Error>>()?);
    }
    Ok(out)
}

/// Whether ciphertexts in coefficients are the input of a layer in this ring, and outputs are the layer's.
pub(crate) fn fits<A: Arithmetic + ?Sized>(
    a: &A,
    xs: &[Of<A>],
    layer: &Convolution,
    outputs: &Range<usize>,
) -> Result<(), Error> {
    let needed = layer.input().ciphertexts();
    let (degree, n) = (layer.input().degree(), a.parameters().n());
    let reason = if xs.len() != needed {
        format!("{} input ciphertexts, not {needed}", xs.len())
    } else if degree != n {
        format!("folded for degree {degree}, but the ring has {n}")
    } else if outputs.end > layer.outputs() {
        format!("outputs {outputs:?} of {}", layer.outputs())
    } else {
        return Ok(());
    };
    Err(Error::conformance("linear layer", reason))
}

/// [`Arithmetic::weigh`] by products with plaintexts in slots: what any engine can do.
pub(crate) fn weigh<A: Arithmetic + ?Sized>(
    a: &A,
    xs: &[Of<A>],
    layer: &Convolution,
    outputs: Range<usize>,
    weights: &dyn WeightRows,
    scale: f64,
) -> Result<Vec<Of<A>>, Error> {
    fits(a, xs, layer, &outputs)?;
    let mut row = vec![0; layer.row()];
    outputs
        .map(|o| {
            weights.read(o..o + 1, &mut row)?;
            let mut sum: Option<A::Value> = None;
            for read in layer.reads(o) {
                let polynomial = layer.polynomial(read, &row, scale);
                let v = slots(a.context().encoder(), &polynomial)?;
                let y = a.mul_plain(xs[read.ciphertext].value(), &v, scale)?;
                sum = Some(match sum {
                    None => y,
                    Some(x) => a.add(&x, &y)?,
                });
            }
            let sum = sum.ok_or_else(|| {
                Error::conformance("linear layer", "an output that reads no channel")
            })?;
            Coefficients::of(a, sum)
        })
        .collect()
}

/// [`Arithmetic::shift`] by a product with a plaintext in slots.
pub(crate) fn shift<A: Arithmetic + ?Sized>(
    a: &A,
    x: &Of<A>,
    exponent: i64,
) -> Result<Of<A>, Error> {
    let n = a.parameters().n();
    let at = exponent.rem_euclid(2 * n as i64) as usize;
    let mut polynomial = vec![0.0; n];
    polynomial[at % n] = if at < n { 1.0 } else { -1.0 };
    let v = slots(a.context().encoder(), &polynomial)?;
    Coefficients::of(a, a.mul_plain(x.value(), &v, 1.0)?)
}

/// The slots of a polynomial with these N coefficients.
fn slots(encoder: &Encoder, polynomial: &[f64]) -> Result<Vec<Complex64>, Error> {
    let (re, im) = polynomial.split_at(polynomial.len() / 2);
    let mut v: Vec<Complex64> = re
        .iter()
        .zip(im)
        .map(|(&re, &im)| Complex64::new(re, im))
        .collect();
    encoder.to_slots(&mut v)?;
    Ok(v)
}

fn minus<A: Arithmetic + ?Sized>(a: &A, x: &Of<A>, y: &Of<A>) -> Result<Of<A>, Error> {
    Coefficients::of(a, a.sub(x.value(), y.value())?)
}

/// x·m^−1, with all coefficients.
fn divided<A: Arithmetic + ?Sized>(a: &A, x: &Of<A>, m: usize) -> Result<Of<A>, Error> {
    let all = a.with_slots(x.value(), a.parameters().max_slots())?;
    match m {
        1 => Coefficients::of(a, all),
        _ => Coefficients::of(a, a.divide_exactly(&all, m as u64)?),
    }
}

/// The image under the automorphism of a step.
fn turned<A: Arithmetic + ?Sized>(a: &A, x: &Of<A>, step: usize) -> Result<Of<A>, Error> {
    let y = match rotation(a.parameters().n(), step) {
        Some(by) => a.rotate(x.value(), by)?,
        None => a.conjugate(x.value())?,
    };
    Coefficients::of(a, y)
}

/// The rotation that is the automorphism of a step, 5^by = 1 + N/step modulo 2N; for N/2 it is the conjugation instead.
fn rotation(n: usize, step: usize) -> Option<i64> {
    if 2 * step == n {
        return None;
    }
    let modulus = 2 * n as u64;
    let (mut by, mut power, mut base) = (0i64, 1, 5u64);
    let wanted = 1 + (n / step) as u64;
    let mut bit = 1;
    // 5^(2^i) is 1 + 2^(i + 2) modulo 2^(i + 3): bit by bit from below
    while power != wanted % modulus {
        if (power ^ wanted) & (4 * bit) != 0 {
            power = power * base % modulus;
            by += bit as i64;
        }
        base = base * base % modulus;
        bit *= 2;
    }
    Some(by)
}

/// How many switches of keys packing takes for leaves at these places (each below the spacing, each once), by step, for 1, 2, 4, …: a node of the tree for
/// every residue modulo the step. For all places together one less than their number.
pub fn switches(places: &[usize], spacing: usize) -> Vec<usize> {
    // residues of the largest step; each half of them laid onto the other is those of the step before
    let mut taken = vec![false; spacing.max(2) / 2];
    let largest = taken.len();
    places.iter().for_each(|to| taken[to % largest] = true);
    let mut counts = Vec::new();
    for step in steps(spacing).collect::<Vec<_>>().into_iter().rev() {
        for i in step..taken.len() {
            taken[i - step] |= taken[i];
        }
        taken.truncate(step);
        counts.push(taken.iter().filter(|&&t| t).count());
    }
    counts.reverse();
    counts
}

/// 1, 2, 4, … below the spacing.
fn steps(spacing: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(1usize), |s| s.checked_mul(2)).take_while(move |&s| s < spacing)
}

/// The keys that packing and unpacking with this spacing need, by step, for 1, 2, 4, …: nested.
pub fn packing_keys(parameters: &Parameters, spacing: usize) -> Vec<KeyName> {
    let element = |step| match rotation(parameters.n(), step) {
        Some(by) => galois_element(parameters, by),
        None => conjugation_element(parameters),
    };
    steps(spacing)
        .map(|step| KeyName::Galois(element(step)))
        .collect()
}

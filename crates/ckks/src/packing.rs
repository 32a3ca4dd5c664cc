//! Packing: what many ciphertexts hold at multiples of M becomes one ciphertext, and back. With [`Context::weigh`] a whole linear layer.
//!
//! π projects on Z\[X^M\]. Wanted is Σ X^i·π(x_i), i < M. For a step of 1, 2, 4, … M/2 let g = 1 + N/step: σ_g keeps X^(2·step·j) and turns
//! X^step into −X^step. With A what is packed of the even leaves and B of the odd ones, at twice the step, (A + X^step·B) +
//! σ_g(A − X^step·B) is what is packed of all, doubled: one switch of keys for every two that meet, and one for every step at which a leaf is alone.
//! M comes out as a factor, so leaves are multiplied by M^−1 modulo Q before anything adds an error: exact, no scale moves.
//!
//! The tree is PackLWEs of \[CDKS21\] (Chen, Dai, Kim, Song, *Efficient Homomorphic Conversion Between (Ring) LWE Ciphertexts*), here for
//! polynomials whose places all stay. Its keys are nested: those for M are among those for 2M.
//!
//! Error: with V the deviation of one switch of keys in a coefficient, V·√((M² − 1)/3) where all M leaves are there: the switch at step M/2^l
//! is doubled l − 1 times.

use crate::folded::{Convolution, WeightRows};
use crate::keys::{KeyName, KeyRequest};
use crate::{Error, Level, Parameters};

/// What packing is made of, on values in coefficients.
///
/// # Errors
/// Operands that do not fit together, or a missing key: see [`Error`].
#[allow(clippy::missing_errors_doc, reason = "said once, above")]
pub trait Fold: Sync {
    /// A ciphertext, coefficients, or a record of what is known about them.
    type Folded: Clone + Send + Sync;

    /// The parameters of the ring.
    fn ring_parameters(&self) -> &Parameters;
    /// x + y.
    fn plus(&self, x: &Self::Folded, y: &Self::Folded) -> Result<Self::Folded, Error>;
    /// x − y.
    fn minus(&self, x: &Self::Folded, y: &Self::Folded) -> Result<Self::Folded, Error>;
    /// X^exponent·x, exactly.
    fn shifted(&self, x: &Self::Folded, exponent: i64) -> Result<Self::Folded, Error>;
    /// x(X^g), g odd.
    fn automorphism(&self, x: &Self::Folded, g: u64) -> Result<Self::Folded, Error>;
    /// x·m^−1 modulo Q, exactly: x itself must not be a multiple of m, but what is made of it must be.
    fn divided(&self, x: &Self::Folded, m: usize) -> Result<Self::Folded, Error>;
    /// The products of a layer for outputs `outputs`, before packing: see [`crate::Context::weigh`].
    fn weigh(
        &self,
        xs: &[Self::Folded],
        layer: &Convolution,
        outputs: std::ops::Range<usize>,
        weights: &(impl WeightRows + ?Sized),
        scale: f64,
    ) -> Result<Vec<Self::Folded>, Error>;

    /// Σ X^to·π(X^−from·x) over the leaves (from, to, x), π the projection on Z\[X^spacing\]; `to` are below the spacing, each once.
    ///
    /// # Errors
    /// [`Error::Conformance`] for no leaf, for places that are taken twice or beyond the spacing, or for a spacing that is no power of two of at most N.
    fn pack(
        &self,
        leaves: &[(usize, usize, &Self::Folded)],
        spacing: usize,
    ) -> Result<Self::Folded, Error> {
        let n = self.ring_parameters().n();
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
        tree(self, leaves.to_vec(), 1, spacing)
    }
    /// The ciphertexts of the classes of coefficients modulo `spacing`: class i as a polynomial in X^spacing, all else zero.
    /// spacing − 1 switches of keys, with the keys of packing.
    ///
    /// # Errors
    /// [`Error::Conformance`] for a spacing that is no power of two of at most N.
    fn unpack(&self, x: &Self::Folded, spacing: usize) -> Result<Vec<Self::Folded>, Error> {
        let n = self.ring_parameters().n();
        if !spacing.is_power_of_two() || spacing > n {
            let reason = format!("{spacing} classes in a ring of degree {n}");
            return Err(Error::conformance("unpacking", reason));
        }
        let mut classes = vec![self.divided(x, spacing)?];
        let mut step = 1;
        // classes modulo `step`, in order; each has its class at multiples of the step
        while step < spacing {
            let mut next = Vec::with_capacity(2 * classes.len());
            for c in &classes {
                let image = self.automorphism(c, element(n, step))?;
                next.push(self.plus(c, &image)?);
            }
            for (c, even) in classes.iter().zip(next.clone()) {
                // 2c − (c + σc) = c − σc
                let odd = self.minus(&self.plus(c, c)?, &even)?;
                next.push(self.shifted(&odd, -(step as i64))?);
            }
            classes = next;
            step *= 2;
        }
        Ok(classes)
    }
    /// A linear layer: products, then packing. Nothing where no channel of the output lies. The result is at the operands' level, at
    /// the product of both scales.
    ///
    /// # Errors
    /// As [`crate::Context::weigh`].
    fn convolve(
        &self,
        xs: &[Self::Folded],
        layer: &Convolution,
        weights: &(impl WeightRows + ?Sized),
        scale: f64,
    ) -> Result<Vec<Option<Self::Folded>>, Error> {
        let each = layer.output().channels_each();
        let numbers = layer.output().ciphertexts() / layer.outputs().div_ceil(each);
        let mut out = Vec::with_capacity(layer.output().ciphertexts());
        for (k, first) in (0..layer.outputs()).step_by(each).enumerate() {
            let outputs = first..layer.outputs().min(first + each);
            let products = self.weigh(xs, layer, outputs, weights, scale)?;
            for number in k * numbers..(k + 1) * numbers {
                let leaves = layer.leaves(number);
                let leaves: Vec<_> = leaves
                    .iter()
                    .map(|leaf| (leaf.from, leaf.to, &products[leaf.output - first]))
                    .collect();
                out.push(match leaves.is_empty() {
                    true => None,
                    false => Some(self.pack(&leaves, layer.spacing())?),
                });
            }
        }
        Ok(out)
    }
}

/// The automorphism of a step: 1 + N/step.
fn element(n: usize, step: usize) -> u64 {
    1 + (n / step) as u64
}

/// What is packed of leaves that agree modulo `step`, those of the least at exponent 0.
fn tree<F: Fold + ?Sized>(
    f: &F,
    leaves: Vec<(usize, usize, &F::Folded)>,
    step: usize,
    spacing: usize,
) -> Result<F::Folded, Error> {
    if step == spacing {
        let (from, _, x) = leaves[0];
        let x = f.divided(x, spacing)?;
        return match from {
            0 => Ok(x),
            _ => f.shifted(&x, -(from as i64)),
        };
    }
    let (odd, even): (Vec<_>, Vec<_>) = leaves.into_iter().partition(|(_, to, _)| to & step != 0);
    let g = element(f.ring_parameters().n(), step);
    let moved = |leaves| f.shifted(&tree(f, leaves, 2 * step, spacing)?, step as i64);
    if odd.is_empty() {
        let a = tree(f, even, 2 * step, spacing)?;
        return f.plus(&a, &f.automorphism(&a, g)?);
    }
    if even.is_empty() {
        let b = moved(odd)?;
        return f.minus(&b, &f.automorphism(&b, g)?);
    }
    let (a, b) = rayon::join(|| tree(f, even, 2 * step, spacing), || moved(odd));
    let (a, b) = (a?, b?);
    let image = f.automorphism(&f.minus(&a, &b)?, g)?;
    f.plus(&f.plus(&a, &b)?, &image)
}

/// How many switches of keys packing takes for leaves at these places (each below the spacing, each once).
pub fn switches(places: &[usize], spacing: usize) -> usize {
    fn count(places: Vec<usize>, step: usize, spacing: usize) -> usize {
        if step == spacing || places.is_empty() {
            return 0;
        }
        let (odd, even): (Vec<usize>, Vec<usize>) =
            places.into_iter().partition(|to| to & step != 0);
        1 + count(odd, 2 * step, spacing) + count(even, 2 * step, spacing)
    }
    count(places.to_vec(), 1, spacing)
}

/// The Galois keys that packing and unpacking with this spacing need at a level: log2 of the spacing.
pub fn packing_keys(parameters: &Parameters, spacing: usize, level: Level) -> KeyRequest {
    let mut request = KeyRequest::default();
    let mut step = 1;
    while step < spacing {
        let name = KeyName::Galois(element(parameters.n(), step));
        request.need(name, parameters.key_limit(level));
        step *= 2;
    }
    request
}

//! What a bootstrap computes with: CoeffToSlot and SlotToCoeff as products of sparse matrices: the special FFT's stages, grouped [CHKKS18, BMTH21].
//!
//! CoeffToSlot leaves coefficients in bit-reversed order and SlotToCoeff takes them so: EvalMod does not mind.

use crate::map::{Term, Values};
use crate::{BlockMap, Complex64, Encoder, Error, Parameters, Polynomial, typing};
use std::collections::BTreeMap;

/// What SlotToCoeff takes and CoeffToSlot leaves for the 2n coefficients of a polynomial in X^(N/2n).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// n complex slots: coefficients j and j + n are real and imaginary part.
    Complex,
    /// 2n real slots, below n = N/2: one EvalMod serves them all.
    Real,
}

/// What a bootstrap, whole or half, keeps encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeptTransforms {
    /// Complex slots of its transforms.
    pub slots: usize,
    /// Their form.
    pub form: Form,
    /// Target and gain, which SlotToCoeff's first map sees.
    pub(crate) first: (usize, u64),
}

/// What a bootstrap of n slots computes ([`crate::Context::transforms`]).
#[derive(Debug)]
pub struct Transforms {
    /// CoeffToSlot's maps, in the order of application.
    pub coeff_to_slot: Vec<BlockMap>,
    /// SlotToCoeff's maps, in the order of application.
    pub slot_to_coeff: Vec<BlockMap>,
    /// EvalMod's cosine, in the even powers.
    pub cosine: Polynomial,
}

/// EvalMod's variable is w = (v − 1/4)/R with R = K + 1/2.
pub(crate) fn radius(range: usize) -> f64 {
    range as f64 + 0.5
}

impl Transforms {
    pub(crate) fn new(
        parameters: &Parameters,
        encoder: &Encoder,
        slots: usize,
        form: Form,
    ) -> Result<Self, Error> {
        let spec = typing::bootstrapping(parameters)?;
        // the trace multiplies by N/2n, the sum with the conjugate by 2
        let trace = (parameters.max_slots() / slots) as f64;
        let scale = 1.0 / (2.0 * radius(spec.range) * trace);
        let (coeff_to_slot, slot_to_coeff) = transforms(parameters, encoder, slots, form, scale)?;
        let angle =
            2.0 * std::f64::consts::PI * radius(spec.range) / f64::from(1u32 << spec.double_angles);
        let degree = spec.degree & !1;
        let nodes = 4 * (degree + 1);
        let coefficients = (0..=degree)
            .map(|k| {
                if k % 2 == 1 {
                    return 0.0;
                }
                let sum: f64 = (0..nodes)
                    .map(|i| {
                        let t = std::f64::consts::PI * (i as f64 + 0.5) / nodes as f64;
                        (angle * t.cos()).cos() * (k as f64 * t).cos()
                    })
                    .sum();
                sum * if k == 0 { 1.0 } else { 2.0 } / nodes as f64
            })
            .collect();
        Ok(Self {
            coeff_to_slot,
            slot_to_coeff,
            cosine: Polynomial::new(coefficients)?,
        })
    }
}

/// A matrix by signed diagonals: `out[j] = Σ d[offset][j]·in[j + offset]`; entries whose column leaves 0..n are zero.
type Diagonals = BTreeMap<i64, Vec<Complex64>>;

/// One FFT stage (len), forward: coefficients → slots.
fn forward_stage(encoder: &Encoder, n: usize, len: usize) -> Diagonals {
    let w = encoder.twiddles(n, len);
    let half = len / 2;
    let zero = Complex64::new(0.0, 0.0);
    let one = Complex64::new(1.0, 0.0);
    let fill = |f: &dyn Fn(usize) -> Complex64| (0..n).map(|j| f(j % len)).collect::<Vec<_>>();
    BTreeMap::from([
        (0, fill(&|j| if j < half { one } else { -w[j - half] })),
        (half as i64, fill(&|j| if j < half { w[j] } else { zero })),
        (-(half as i64), fill(&|j| if j < half { zero } else { one })),
    ])
}

/// The inverse stage, slots → coefficients: half the conjugate transpose.
fn inverse_stage(encoder: &Encoder, n: usize, len: usize) -> Diagonals {
    let forward = forward_stage(encoder, n, len);
    let transposed = forward.into_iter().map(|(offset, v)| {
        let row = |j: usize| (j as i64 - offset).rem_euclid(n as i64) as usize;
        let entries = (0..n).map(|j| v[row(j)].conj() * 0.5);
        (-offset, entries.collect())
    });
    transposed.collect()
}

/// a after b.
fn compose(a: &Diagonals, b: &Diagonals, n: usize) -> Diagonals {
    let mut out = Diagonals::new();
    for (&i, x) in a {
        for (&k, y) in b {
            let d = out
                .entry(i + k)
                .or_insert_with(|| vec![Complex64::new(0.0, 0.0); n]);
            // rows whose column j + i is one of b's rows
            let by = (i.unsigned_abs() as usize).min(n);
            let rows = n - by;
            let (row, column) = if i < 0 { (by, 0) } else { (0, by) };
            let (d, x) = (&mut d[row..][..rows], &x[row..][..rows]);
            for ((d, x), y) in d.iter_mut().zip(x).zip(&y[column..][..rows]) {
                *d += x * y;
            }
        }
    }
    out.retain(|_, v| v.iter().any(|x| x.norm_sqr() != 0.0));
    out
}

fn identity(n: usize) -> Diagonals {
    BTreeMap::from([(0, vec![Complex64::new(1.0, 0.0); n])])
}

/// How a map on n slots is carried over to vectors of 2n slots. A sparse bootstrap keeps the real parts of n coefficients in
/// the first half and those of n more in the second, so that one EvalMod serves both. All groups but the outermost act
/// within halves, so the factors ∓i sit in the outermost groups, whose diagonals have the full period anyway.
#[derive(Clone, Copy, PartialEq)]
enum Halves {
    /// n slots in and out.
    One,
    /// The same map on both halves.
    Both,
    /// A vector of period n becomes (A·x, −i·A·x).
    Split,
    /// (x, y) becomes A·x + i·A·y, of period n.
    Merge,
}

/// One group of stages and the bits of its offsets that are baby steps.
#[derive(Clone, Debug)]
struct Group {
    stages: std::ops::Range<usize>,
    babies: usize,
}

/// Stages 1..=log n from the small strides up, in `levels` groups as equal as possible: an inner group of k stages has 2^(k+1) − 1
/// diagonals, so that the largest one decides. The larger groups come first, where diagonals have short periods and take little
/// memory. Baby steps are the same three bits of the offset (at N = 2^16) for all slot counts, wherever a group begins:
/// the giant steps around them differ by one key or two, and all slot counts share the rest. The outermost group has `more` bits of them.
fn groups(log_n: usize, log_max: usize, levels: usize, more: usize) -> Vec<Group> {
    let widest = log_max.div_ceil(levels);
    let mut start = 0;
    (0..levels)
        .map(|g| {
            let stages = start..start + (log_n - start).div_ceil(levels - g);
            start = stages.end;
            let more = if g + 1 == levels { more } else { 0 };
            let bits = (widest + 1).div_ceil(2) + more;
            // at least all but one of the bits within the group, where it has so many
            let low = (g * widest)
                .min((stages.end + 1).saturating_sub(bits))
                .max(stages.start);
            Group {
                stages,
                babies: ((1 << bits) - 1) << low,
            }
        })
        .collect()
}

/// (diagonals, period) of each group's map for n slots, from the small strides up: only the outermost has the full period.
pub(crate) fn sizes(
    parameters: &Parameters,
    n: usize,
    form: Form,
    levels: usize,
) -> Vec<(usize, usize)> {
    let max = parameters.max_slots();
    let log = |slots: usize| slots.trailing_zeros() as usize;
    let groups = groups(log(n), log(max), levels, 0).into_iter().enumerate();
    groups
        .map(|(g, Group { stages, .. })| match g + 1 == levels {
            true => (
                1 << stages.len(),
                n * if n < max && form == Form::Real { 2 } else { 1 },
            ),
            false => ((2 << stages.len()) - 1, 1 << stages.end),
        })
        .collect()
}

/// Turns signed diagonals into a block map; the bits `babies` of an offset are its baby step.
fn to_map(
    d: &Diagonals,
    n: usize,
    max_slots: usize,
    factor: f64,
    babies: usize,
    halves: Halves,
) -> Result<BlockMap, Error> {
    let slots = if halves == Halves::One { n } else { 2 * n };
    // offsets that coincide modulo the period of the operand are merged; all others keep a representative modulo N/2, so
    // that all slot counts share rotations
    let period = if halves == Halves::Split { n } else { slots } as i64;
    let outermost = d.keys().any(|k| 2 * k.unsigned_abs() as i64 >= n as i64);
    let mut merged: BTreeMap<usize, Vec<Complex64>> = BTreeMap::new();
    let mut add = |offset: i64, value: &dyn Fn(usize) -> Complex64| {
        let place = offset.rem_euclid(if outermost { period } else { max_slots as i64 }) as usize;
        let entry = merged
            .entry(place)
            .or_insert_with(|| vec![Complex64::new(0.0, 0.0); slots]);
        for (j, e) in entry.iter_mut().enumerate() {
            *e += value(j) * factor;
        }
    };
    let i = Complex64::new(0.0, 1.0);
    for (&offset, v) in d {
        match halves {
            Halves::One | Halves::Both => add(offset, &|j| v[j % n]),
            Halves::Split => add(offset, &|j| if j < n { v[j] } else { -i * v[j - n] }),
            Halves::Merge => {
                add(offset, &|j| if j < n { v[j] } else { i * v[j - n] });
                add(offset + n as i64, &|j| {
                    if j < n { i * v[j] } else { v[j - n] }
                });
            }
        }
    }
    let terms = merged
        .into_iter()
        .map(|(offset, values)| {
            let baby = offset & babies;
            Term {
                input: 0,
                output: 0,
                giant: offset - baby,
                baby,
                values: Values::Complex(shorten(values).into()),
            }
        })
        .collect();
    BlockMap::new(slots, 1, 1, terms, Vec::new())
}

/// The shortest period.
fn shorten(mut v: Vec<Complex64>) -> Vec<Complex64> {
    while v.len() > 1 {
        let half = v.len() / 2;
        if v[..half]
            .iter()
            .zip(&v[half..])
            // in squares: a root for each of millions of entries was a fifth of the time that estimates took
            .any(|(a, b)| (a - b).norm_sqr() > 1e-28 * (1.0 + a.norm_sqr()))
        {
            break;
        }
        v.truncate(half);
    }
    v
}

/// Both transforms for n slots: (CoeffToSlot, SlotToCoeff), each in the order of application.
///
/// In complex form and for n = N/2 CoeffToSlot yields w = re + i·im of the coefficients; else it goes over to 2n slots: the real part of
/// slots 0..n is re and of n..2n is im, and SlotToCoeff's last map comes back. CoeffToSlot is scaled by `scale`.
fn transforms(
    parameters: &Parameters,
    encoder: &Encoder,
    n: usize,
    form: Form,
    scale: f64,
) -> Result<(Vec<BlockMap>, Vec<BlockMap>), Error> {
    let spec = typing::bootstrapping(parameters)?;
    let max = parameters.max_slots();
    let log_n = n.trailing_zeros() as usize;
    let log_max = max.trailing_zeros() as usize;
    let whole = n == max || form == Form::Complex;
    let halves = |last: bool, outermost: Halves| match (whole, last) {
        (true, _) => Halves::One,
        (false, true) => outermost,
        (false, false) => Halves::Both,
    };
    // a name for each map: slots, direction, form and group
    let pin = |up: usize, g: usize| log_n << 8 | up << 7 | usize::from(whole && n < max) << 6 | g;
    let levels = spec.coeff_to_slot.levels;
    // a plaintext of period p is rounded with an error of about √p in its slots: maps of larger period get larger entries
    // of a raised ciphertext a baby step costs a fifth of a giant step, and its key a third
    let ranges = groups(log_n, log_max, levels, usize::from(n == max));
    let weight = |stages: &std::ops::Range<usize>| (1u64 << stages.end) as f64;
    let mean: f64 = ranges
        .iter()
        .map(|r| weight(&r.stages).sqrt().log2())
        .sum::<f64>()
        / levels as f64;
    let entry = (scale / n as f64).powf(1.0 / levels as f64);
    let mut down = Vec::new();
    for (g, Group { stages, babies }) in ranges.into_iter().enumerate().rev() {
        let factor =
            entry * (weight(&stages).sqrt().log2() - mean).exp2() * (1u64 << stages.len()) as f64;
        let mut d = identity(n);
        for s in stages.clone().rev() {
            d = compose(&inverse_stage(encoder, n, 2 << s), &d, n);
        }
        let halves = halves(g + 1 == levels, Halves::Split);
        let map = to_map(&d, n, max, factor, babies, halves)?;
        down.push(map.pinned(pin(0, g)));
    }
    let mut up = Vec::new();
    let levels = spec.slot_to_coeff.levels;
    for (g, Group { stages, babies }) in (groups(log_n, log_max, levels, 0).into_iter()).enumerate()
    {
        let mut d = identity(n);
        for s in stages.clone() {
            d = compose(&forward_stage(encoder, n, 2 << s), &d, n);
        }
        let halves = halves(g + 1 == levels, Halves::Merge);
        let map = to_map(&d, n, max, 1.0, babies, halves)?;
        up.push(map.pinned(pin(1, g)));
    }
    Ok((down, up))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(map: &BlockMap, x: &[Complex64]) -> Vec<Complex64> {
        let n = map.slots();
        let mut y = vec![Complex64::new(0.0, 0.0); n];
        for t in map.terms() {
            for (j, y) in y.iter_mut().enumerate() {
                *y += t.values.at(j) * x[(j + t.giant + t.baby) % x.len()];
            }
        }
        for &f in map.folds() {
            y = (0..n).map(|j| y[j] + y[(j + f) % n]).collect();
        }
        y
    }

    #[test]
    fn transforms_are_the_encoder_and_undo_each_other() {
        let parameters = Parameters::new(crate::ParametersSpec::toy(10)).expect("toy");
        let encoder = Encoder::new(512);
        let forms = [Form::Real, Form::Complex];
        let sizes = [8usize, 64, 128, 256, 512];
        for (n, form) in sizes.into_iter().flat_map(|n| forms.map(|f| (n, f))) {
            let (down, up) = transforms(&parameters, &encoder, n, form, 1.0).expect("transforms");
            let x: Vec<Complex64> = (0..n)
                .map(|j| Complex64::new((j as f64).sin(), (j as f64 * 1.7).cos()))
                .collect();
            let mut w = x.clone();
            encoder.to_coefficients(&mut w).expect("fits");
            let mut y = x.clone();
            for m in &down {
                y = apply(m, &y);
            }
            let bits = n.trailing_zeros();
            for j in 0..n {
                let r = j.reverse_bits() >> (usize::BITS - bits);
                if n == 512 || form == Form::Complex {
                    assert!((y[j] - w[r]).norm() < 1e-12, "n {n} slot {j}");
                } else {
                    assert!(
                        (y[j].re - w[r].re).abs() < 1e-12 && (y[j + n].re - w[r].im).abs() < 1e-12,
                        "n {n} slot {j}"
                    );
                }
            }
            if n < 512 && form == Form::Real {
                y.iter_mut().for_each(|v| v.im = 0.0);
            }
            for m in &up {
                y = apply(m, &y);
            }
            assert!((0..n).all(|j| (y[j] - x[j]).norm() < 1e-11), "n {n}");
        }
    }
}

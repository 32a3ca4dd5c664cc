//! Polynomials on [−1, 1] in the Chebyshev basis at minimal depth, with errorless scales.
//!
//! Paterson–Stockmeyer with the recursion p = q·T_{2^k} + r [BMTH21, §5]; every quotient's scale is a free target of its
//! constants, so that all products land on the canonical scale exactly. A degree d costs ⌈log2(d+1)⌉ levels.

use crate::{Arithmetic, Error, Level, Polynomial, typing};
use std::collections::BTreeMap;

/// Evaluates p(x), |x| ≤ 1.
///
/// # Errors
/// If fewer than `p.depth()` levels are left.
pub fn evaluate<A: Arithmetic + ?Sized>(
    a: &A,
    x: &A::Value,
    p: &Polynomial,
) -> Result<A::Value, Error> {
    let here = a.info(x);
    let needed = p.depth();
    let out_of_levels = Error::Levels {
        operation: "polynomial",
        needed,
        had: here.level.index(),
    };
    let target = (0..needed)
        .try_fold(here.level, |level, _| a.parameters().below(level))
        .ok_or(out_of_levels)?;
    let above = a.parameters().above(target, here.level);
    let canonical = (a.parameters().scale_below(above)).unwrap_or(a.parameters().scale(target));
    let scale = canonical * a.parameters().modulus(above);
    typing::scales("polynomial", here.scale, a.parameters().scale(here.level))?;
    let unscaled = match p.even_part_in_t2() {
        Some((half, t1)) => {
            let t2 = double(a, x, x, None)?;
            let mut powers = Powers::new(a, t2, &half)?;
            powers.first = (t1 != 0.0).then(|| (x.clone(), t1));
            powers.evaluate(&half, above, scale)?
        }
        None => {
            Powers::new(a, x.clone(), p.coefficients())?.evaluate(p.coefficients(), above, scale)?
        }
    };
    a.with_exact_scale(&finish(a, unscaled)?, canonical)
}

/// Relinearised where needed, and rescaled.
fn finish<A: Arithmetic + ?Sized>(a: &A, x: Partial<A::Value>) -> Result<A::Value, Error> {
    match x {
        Partial::Linear(v) => a.rescale(&v),
        Partial::Quadratic(v) => a.relinearize_rescale(&v),
    }
}

/// A sum that is not yet rescaled.
enum Partial<V> {
    /// Of degree 1.
    Linear(V),
    /// Of degree 2, to be relinearised.
    Quadratic(V),
}

/// 2·x·y − z (z = 1 where absent): Chebyshev's product rule, one level.
pub(crate) fn double<A: Arithmetic + ?Sized>(
    a: &A,
    x: &A::Value,
    y: &A::Value,
    minus: Option<&A::Value>,
) -> Result<A::Value, Error> {
    let level = a.info(x).level.min(a.info(y).level);
    let x = a.align(x, level)?;
    let y = a.align(y, level)?;
    let scale = a.info(&x).scale * a.info(&y).scale;
    let sum = match minus {
        None => a.mul_combination((2.0, &x, &y), &[], -1.0)?,
        Some(z) => a.mul_combination((2.0, &x, &y), &[(-1.0, z)], 0.0)?,
    };
    typing::below(a.parameters(), "polynomial", level)?;
    let canonical = (a.parameters().scale_below(level)).unwrap_or(scale);
    let y = a.with_exact_scale(&a.relinearize_rescale(&sum)?, canonical)?;
    a.assume_bound(&y, 1.0)
}

/// The powers T_k that are at hand.
struct Powers<'a, A: Arithmetic + ?Sized> {
    a: &'a A,
    t: BTreeMap<usize, A::Value>,
    /// A term c·x of the variable before T_2 was taken, added once at the end.
    first: Option<(A::Value, f64)>,
}

impl<'a, A: Arithmetic + ?Sized> Powers<'a, A> {
    /// Chooses the number of baby steps with the fewest products and computes the powers needed.
    fn new(a: &'a A, x: A::Value, coefficients: &[f64]) -> Result<Self, Error> {
        let degree = coefficients.len() - 1;
        let wanted = wanted_powers(degree);
        let mut powers = Self {
            a,
            t: BTreeMap::from([(1, x)]),
            first: None,
        };
        for k in wanted {
            powers.power(k)?;
        }
        Ok(powers)
    }
    fn power(&mut self, k: usize) -> Result<(), Error> {
        if self.t.contains_key(&k) {
            return Ok(());
        }
        // T_{i+j} = 2 T_i T_j − T_{i−j}; i the largest power of two below k keeps the depth minimal
        let i = if k.is_power_of_two() {
            k / 2
        } else {
            1 << k.ilog2()
        };
        let j = k - i;
        self.power(i)?;
        self.power(j)?;
        let value = if i == j {
            double(self.a, &self.t[&i], &self.t[&j], None)?
        } else {
            self.power(i - j)?;
            double(self.a, &self.t[&i], &self.t[&j], Some(&self.t[&(i - j)]))?
        };
        self.t.insert(k, value);
        Ok(())
    }
    fn evaluate(&self, c: &[f64], level: Level, scale: f64) -> Result<Partial<A::Value>, Error> {
        self.node(c, level, scale, self.first.as_ref())
    }
    /// Σ cᵢTᵢ at `level` and `scale`, before a rescale.
    fn node(
        &self,
        c: &[f64],
        level: Level,
        scale: f64,
        extra: Option<&(A::Value, f64)>,
    ) -> Result<Partial<A::Value>, Error> {
        let a = self.a;
        let degree = c.len() - 1;
        let available =
            |i: usize| c[i] == 0.0 || self.t.get(&i).is_some_and(|t| a.info(t).level >= level);
        if (1..=degree).all(available) {
            let mut terms: Vec<(f64, &A::Value)> = (1..=degree)
                .filter(|&i| c[i] != 0.0)
                .map(|i| (c[i], &self.t[&i]))
                .collect();
            if let Some((x, t1)) = extra {
                terms.push((*t1, x));
            }
            if terms.is_empty() {
                terms.push((0.0, &self.t[&1]));
            }
            return Ok(Partial::Linear(
                a.linear_combination(&terms, c[0], level, scale)?,
            ));
        }
        let k = 1usize << degree.ilog2();
        let (q, r) = divide(c, k);
        let t = a.drop_to(&self.t[&k], level)?;
        let t_scale = a.info(&t).scale;
        let above = a.parameters().above(level, a.info(&self.t[&1]).level);
        let q = self.node(
            &q,
            above,
            scale / t_scale * a.parameters().modulus(above),
            None,
        )?;
        let q = finish(a, q)?;
        let product = a.with_exact_scale(&a.mul(&q, &t)?, scale)?;
        let sum = match self.node(&r, level, scale, extra)? {
            Partial::Linear(r) | Partial::Quadratic(r) => a.add(&product, &r)?,
        };
        Ok(Partial::Quadratic(sum))
    }
}

/// p = q·T_k + r with deg q ≤ deg p − k and deg r < k, by T_{k+i} = 2 T_k T_i − T_{k−i}.
fn divide(c: &[f64], k: usize) -> (Vec<f64>, Vec<f64>) {
    let degree = c.len() - 1;
    let mut r: Vec<f64> = c[..k].to_vec();
    let mut q = vec![0.0; degree - k + 1];
    q[0] = c[k];
    for i in 1..=degree - k {
        q[i] = 2.0 * c[k + i];
        r[k - i] -= c[k + i];
    }
    while r.len() > 1 && r.last() == Some(&0.0) {
        r.pop();
    }
    (q, r)
}

/// The powers to compute: T_k below the power-of-two number of baby steps with the fewest products, and the giants.
fn wanted_powers(degree: usize) -> Vec<usize> {
    let depth = crate::parameters::depth_of(degree);
    let mut best: Option<(usize, Vec<usize>)> = None;
    for log_baby in 1..=depth.max(1) {
        let baby = 1usize << log_baby;
        let mut wanted: Vec<usize> = (2..baby.min(degree + 1)).collect();
        wanted.extend(
            (log_baby..usize::BITS as usize)
                .map(|e| 1usize << e)
                .take_while(|&k| k <= degree),
        );
        wanted.sort_unstable();
        wanted.dedup();
        let count = wanted.len() + nodes(degree, baby, depth.saturating_sub(1));
        if best.as_ref().is_none_or(|b| count < b.0) {
            best = Some((count, wanted));
        }
    }
    best.map_or(Vec::new(), |b| b.1)
}

/// Products in the recursion; `budget` = levels consumed above the node.
fn nodes(degree: usize, baby: usize, budget: usize) -> usize {
    let highest = degree.next_power_of_two().trailing_zeros() as usize;
    if degree < baby.max(2) && (degree < 2 || highest <= budget) {
        return 0;
    }
    let k = 1usize << degree.ilog2();
    1 + nodes(degree - k, baby, budget.saturating_sub(1)) + nodes(k - 1, baby, budget)
}

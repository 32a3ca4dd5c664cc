//! The alarm: sums by which a client sees that a value left its interval under encryption.
//!
//! Where a polynomial, root or division takes an operand that calibration did not foresee, its result is nobody's promise: it grows, wraps in a
//! bootstrap and comes back as something of ordinary size. The server cannot see it. So the compiler adds sums of high even powers of all those
//! operands to the plan (`compiler`'s `alarm` says which powers, and how large the sums may be), and their ciphertext goes along with the answer.
//! Even powers cannot cancel: one operand far outside is seen whatever the others are, and so is garbage, which fills all sums alike.
//!
//! The sums have a ciphertext of their own. In the imaginary part of the answer, which is free, their error, large for what is an alarm's purpose,
//! would be part of the answer's bound, on which sharing rests.
//!
//! It finds accidents: a server that lies can send any sums.

use crate::Register;
use ckks::{Arithmetic, Complex64, Error, Level, Parameters};
use serde::{Deserialize, Serialize};

/// Where a plan's alarm is, and what it may read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// The register that holds it after the last step.
    pub register: Register,
    /// Period of its slots: a power of two. In a batch of b inputs side by side in slots, slot j is a sum over values of input j modulo b; where inputs have
    /// places of their own, in coefficients, sums are over all of them.
    pub slots: usize,
    /// Its level.
    pub level: usize,
    /// The most that a sum may be, plan units.
    pub threshold: f64,
    /// How far a value may lie from the middle of its interval, in half widths, without any sum beyond the threshold: a value farther out is seen
    /// for certain, unless the sums wrap. Of an interval whose middle is not 0 that holds at the end farther from 0; the other is not watched, since
    /// powers are taken about 0.
    pub reach: f64,
    /// Ciphertexts that it watches.
    pub watched: usize,
}

impl Alarm {
    /// Refuses what does not fit.
    pub(crate) fn check(&self, parameters: &Parameters, batch: usize) -> Result<(), String> {
        let (slots, most) = (self.slots, parameters.max_slots());
        if !slots.is_power_of_two() || slots > most || slots < batch {
            return Err(format!(
                "an alarm of {slots} slots, a power of two from {batch} to {most} is needed"
            ));
        }
        let (level, levels) = (self.level, parameters.residual().index());
        if level > levels {
            return Err(format!("an alarm at level {level}, but {levels} exist"));
        }
        let positive = |v: f64| v.is_finite() && v > 0.0;
        match positive(self.threshold) && positive(self.reach) {
            true => Ok(()),
            false => Err(format!(
                "an alarm at {} that is certain beyond {}: neither may be zero or infinite",
                self.threshold, self.reach
            )),
        }
    }

    /// The largest sum of each input of a batch that lies side by side, else of all: of magnitudes, since what wraps may have any sign and phase. What is no number is infinite.
    pub(crate) fn sums(slots: &[Complex64], batch: usize) -> Vec<f64> {
        let mut sums = vec![0.0f64; batch];
        for (j, z) in slots.iter().enumerate() {
            let most = z.re.abs().max(z.im.abs());
            let sum = &mut sums[j % batch];
            *sum = match z.re.is_nan() || z.im.is_nan() {
                true => f64::INFINITY,
                false => sum.max(most),
            };
        }
        sums
    }

    /// The first input whose sum is largest, and that sum.
    pub(crate) fn largest(sums: &[f64]) -> (usize, f64) {
        let each = sums.iter().copied().enumerate();
        each.fold(
            (0, 0.0),
            |most, one| if one.1 > most.1 { one } else { most },
        )
    }
}

impl std::fmt::Display for Alarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "watches {} ciphertexts in {} sums of at most {:.2}; a value farther than {:.2} half widths from the middle of its interval is seen, at an end that is no nearer to 0 than the other",
            self.watched, self.slots, self.threshold, self.reach
        )
    }
}

/// What squares of canonical operands at a level are multiplied by, since their result is at the canonical scale below: 1 where the
/// result lies at a level for slots, as scales follow the primes there. Where it lies below the lowest of these, scales are made for linear layers:
/// S²/Q is another than that of the level below.
pub fn gain(parameters: &Parameters, level: usize) -> f64 {
    let level = Level::new(level);
    match parameters.below(level) {
        Some(below) if level <= parameters.floor() => {
            let scale = parameters.scale(level);
            scale / parameters.modulus(level) * (scale / parameters.scale(below))
        }
        _ => 1.0,
    }
}

/// Σ (c·x)² of operands that are brought to `level` first, times [`gain`], and what comes after them is added:
/// [`Operation::Squares`](crate::Operation::Squares).
///
/// # Errors
/// What the interpreter refuses.
pub(crate) fn squares<A: Arithmetic + ?Sized>(
    a: &A,
    inputs: &[(f64, Register)],
    xs: &[A::Value],
    level: usize,
) -> Result<A::Value, Error> {
    let (p, level) = (a.parameters(), Level::new(level));
    let below = p.below(level).ok_or(Error::Levels {
        operation: "alarm",
        needed: 1,
        had: 0,
    })?;
    let mut sum: Option<A::Value> = None;
    for ((factor, _), x) in inputs.iter().zip(xs) {
        // what lies there already is not copied
        let brought = match *factor == 1.0 && a.info(x).level == level {
            true => None,
            false => Some(scaled(a, x, *factor, level)?),
        };
        let x = brought.as_ref().unwrap_or(x);
        let square = a.mul(x, x)?;
        sum = Some(match sum {
            None => square,
            Some(sum) => a.add(&sum, &square)?,
        });
    }
    let sum = sum.ok_or_else(|| Error::conformance("alarm", "no operand"))?;
    let (y, scale) = (a.relinearize_rescale(&sum)?, p.scale(below));
    let y = match level > p.floor() {
        true => a.with_exact_scale(&y, scale)?,
        false => a.with_scale(&y, scale)?,
    };
    match xs.get(inputs.len()) {
        None => Ok(y),
        Some(more) => a.add(&y, more),
    }
}

/// c·x at a level, which must be below x's unless c is 1.
fn scaled<A: Arithmetic + ?Sized>(
    a: &A,
    x: &A::Value,
    factor: f64,
    level: Level,
) -> Result<A::Value, Error> {
    let (p, here) = (a.parameters(), a.info(x).level);
    if factor == 1.0 {
        return a.align(x, level);
    }
    if here.index() <= level.index() {
        return Err(Error::Levels {
            operation: "alarm",
            needed: level.index() + 1,
            had: here.index(),
        });
    }
    let (above, scale) = (p.above(level, here), p.scale(level));
    let y = a.linear_combination(&[(factor, x)], 0.0, above, scale * p.modulus(above))?;
    a.with_exact_scale(&a.rescale(&y)?, scale)
}

/// Sums of the slots that are `slots` apart, at a level: [`Operation::Fold`](crate::Operation::Fold).
///
/// # Errors
/// What the interpreter refuses.
pub(crate) fn fold<A: Arithmetic + ?Sized>(
    a: &A,
    x: &A::Value,
    slots: usize,
    level: usize,
) -> Result<A::Value, Error> {
    let mut by = a.info(x).slots;
    let mut y = x.clone();
    while by > slots {
        by /= 2;
        y = a.add(&y, &a.rotate(&y, by as i64)?)?;
    }
    a.align(&a.with_slots(&y, by)?, Level::new(level))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_sum_names_its_input() {
        let z = |re, im| Complex64::new(re, im);
        let slots = [z(0.5, 0.0), z(0.1, -3.0), z(-2.0, 0.0), z(0.2, 0.1)];
        assert_eq!(Alarm::sums(&slots, 2), [2.0, 3.0]);
        assert_eq!(Alarm::largest(&[2.0, 3.0]), (1, 3.0));
        // what is no number is no small sum
        let broken = Alarm::sums(&[z(f64::NAN, 0.0), z(1.0, 0.0)], 2);
        assert_eq!(Alarm::largest(&broken), (0, f64::INFINITY));
    }
}

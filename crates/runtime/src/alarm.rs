//! The alarm: sums by which a client sees that a value left its interval under encryption.
//!
//! Where a polynomial, root or division takes an operand that calibration did not foresee, its result is nobody's promise: it grows, wraps in a
//! bootstrap and comes back as something of ordinary size. The server cannot see it. So the compiler adds sums of high even powers of all those
//! operands to the plan (`compiler`'s `alarm` says which powers, and how large the sums may be), and their ciphertext goes along with the answer.
//! Even powers cannot cancel: one operand far outside is seen whatever the others are, and so is garbage, which fills all sums alike.
//!
//! The sums have a ciphertext of their own, or several where inputs of a batch share ciphertexts of coefficients: operands of which each slot has
//! another owner are not summed, so that each sum is one input's ([`Owners`]). In the imaginary part of the answer, which is free, their error, large for what is an alarm's purpose,
//! would be part of the answer's bound, on which sharing rests.
//!
//! It finds accidents: a server that lies can send any sums.

use crate::Register;
use ckks::{Arithmetic, Complex64, Error, Level, Parameters};
use serde::{Deserialize, Serialize};

/// Most ciphertexts of sums that a plan may have.
const MOST: usize = 1 << 11;
/// Sums that differ by less than this share of the largest count as the same: fewer inputs than a batch takes are repeated, and the first is named.
const ALIKE: f64 = 0.02;

/// How many inputs an answer is of, and how many of them lie side by side in slots: 1 where each has places of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inputs {
    pub(crate) all: usize,
    pub(crate) side_by_side: usize,
}

/// Where a plan's alarm is, and what it may read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// Its ciphertext, or the first of several.
    #[serde(flatten)]
    pub first: Sums,
    /// Their level.
    pub level: usize,
    /// The most that a sum may be, plan units.
    pub threshold: f64,
    /// How far a value may lie from the middle of its interval, in half widths, without any sum beyond the threshold: a value farther out is seen
    /// for certain, unless the sums wrap. Of an interval whose middle is not 0 that holds at the end farther from 0; the other is not watched, since
    /// powers are taken about 0.
    pub reach: f64,
    /// Ciphertexts that it watches.
    pub watched: usize,
    /// Further ciphertexts of sums, of inputs that share ciphertexts of coefficients otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<Sums>,
}

/// One ciphertext of an alarm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    /// The register that holds it after the last step.
    pub register: Register,
    /// Period of its slots: a power of two.
    pub slots: usize,
    /// Whose each sum is. Without it slot j is a sum over values of input j modulo b in a batch of b inputs side by side in slots; where inputs have
    /// places of their own, in coefficients, sums are then over all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owners: Option<Owners>,
}

/// Whose values lie in which slots, where inputs of a batch follow each other in coefficients.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Owners {
    /// Slots one after another that have the same owner: a power of two.
    run: usize,
    /// The input of each run, repeated over the slots: a power of two of them.
    inputs: Vec<u32>,
}

impl Owners {
    /// The input of each run of so many slots, both powers of two, in the shortest form.
    pub fn new(run: usize, inputs: Vec<u32>) -> Self {
        let (mut run, mut inputs) = (run, inputs);
        while inputs.len() > 1 && inputs[..inputs.len() / 2] == inputs[inputs.len() / 2..] {
            inputs.truncate(inputs.len() / 2);
        }
        while inputs.len() > 1 && inputs.chunks(2).all(|pair| pair.first() == pair.last()) {
            inputs = inputs.into_iter().step_by(2).collect();
            run *= 2;
        }
        if inputs.len() == 1 {
            run = 1;
        }
        Self { run, inputs }
    }
    /// Slots after which owners repeat.
    pub fn period(&self) -> usize {
        self.run.saturating_mul(self.inputs.len())
    }
    /// How many runs there are before owners repeat.
    pub fn runs(&self) -> usize {
        self.inputs.len()
    }
    /// The input whose value a slot has.
    pub(crate) fn of(&self, slot: usize) -> usize {
        self.inputs[slot / self.run % self.inputs.len()] as usize
    }
    /// Refuses what does not fit so many slots and inputs.
    fn check(&self, slots: usize, batch: usize) -> Result<(), String> {
        let (run, runs) = (self.run, self.inputs.len());
        if !run.is_power_of_two() || !runs.is_power_of_two() || self.period() > slots {
            return Err(format!(
                "owners of {runs} runs of {run} slots each: powers of two that fit into {slots} slots are needed"
            ));
        }
        match self.inputs.iter().find(|b| **b as usize >= batch) {
            Some(b) => Err(format!("sums of input {b}, but there are {batch}")),
            None => Ok(()),
        }
    }
}

impl Alarm {
    /// Its ciphertexts, in the order in which they stand beside an answer.
    pub fn sums(&self) -> impl Iterator<Item = &Sums> {
        std::iter::once(&self.first).chain(&self.more)
    }
    /// Refuses what does not fit, or not this answer.
    pub(crate) fn check(&self, parameters: &Parameters, answer: Inputs) -> Result<(), String> {
        let (least, most) = (answer.side_by_side, parameters.max_slots());
        if self.more.len() >= MOST {
            let count = 1 + self.more.len();
            return Err(format!("an alarm of {count} ciphertexts, at most {MOST}"));
        }
        for Sums { slots, owners, .. } in self.sums() {
            if !slots.is_power_of_two() || *slots > most || *slots < least {
                return Err(format!(
                    "an alarm of {slots} slots, a power of two from {least} to {most} is needed"
                ));
            }
            let Some(owners) = owners else { continue };
            if least > 1 {
                return Err("owners of slots, but inputs lie side by side in them".into());
            }
            owners.check(*slots, answer.all)?;
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
}

/// What an alarm's ciphertexts read: largest magnitudes of sums, since what wraps may have any sign and phase. What is no number is infinite.
pub(crate) struct Readings {
    /// Inputs side by side in slots.
    beside: usize,
    /// Of sums that are one input's.
    inputs: Vec<f64>,
    /// Of sums that are over all inputs.
    all: f64,
}

impl Readings {
    /// Of nothing so far, beside this answer.
    pub(crate) fn new(answer: Inputs) -> Self {
        Self {
            beside: answer.side_by_side,
            inputs: vec![0.0; answer.all],
            all: 0.0,
        }
    }
    /// Looks at the slots of one ciphertext.
    pub(crate) fn see(&mut self, sums: &Sums, slots: &[Complex64]) {
        let period = sums.owners.as_ref().map_or(self.beside, Owners::period);
        // slots that repeat may be given once
        let count = slots.len().max(period);
        for (j, z) in slots.iter().cycle().take(count).enumerate() {
            let read = match z.re.is_nan() || z.im.is_nan() {
                true => f64::INFINITY,
                false => z.re.abs().max(z.im.abs()),
            };
            let sum = match &sums.owners {
                Some(owners) => &mut self.inputs[owners.of(j)],
                None if self.beside == self.inputs.len() => &mut self.inputs[j % self.beside],
                None => &mut self.all,
            };
            *sum = sum.max(read);
        }
    }
    /// For each input the largest sum that has values of it.
    pub(crate) fn each(&self) -> Vec<f64> {
        self.inputs.iter().map(|sum| sum.max(self.all)).collect()
    }
    /// The largest sum, and of a batch the first input whose it is, where it is not a sum over all.
    pub(crate) fn largest(&self) -> (Option<usize>, f64) {
        let most = self.inputs.iter().copied().fold(0.0, f64::max);
        if self.all > most || self.inputs.len() == 1 {
            return (None, most.max(self.all));
        }
        let alike = |sum: &f64| *sum == most || *sum > (1.0 - ALIKE) * most;
        (self.inputs.iter().position(alike), most)
    }
}

impl std::fmt::Display for Alarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sums: usize = self.sums().map(|s| s.slots).sum();
        write!(f, "watches {} ciphertexts in {sums} sums", self.watched)?;
        if !self.more.is_empty() {
            write!(f, " of {} ciphertexts", 1 + self.more.len())?;
        }
        write!(
            f,
            " of at most {:.2}; a value farther than {:.2} half widths from the middle of its interval is seen, at an end that is no nearer to 0 than the other",
            self.threshold, self.reach
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

    const fn inputs(all: usize, side_by_side: usize) -> Inputs {
        Inputs { all, side_by_side }
    }
    fn sums(owners: Option<Owners>) -> Sums {
        Sums {
            register: 1,
            slots: 4,
            owners,
        }
    }
    fn reals<const N: usize>(values: [f64; N]) -> [Complex64; N] {
        values.map(|re| Complex64::new(re, 0.0))
    }

    #[test]
    fn the_largest_sum_names_its_input() {
        let z = |re, im| Complex64::new(re, im);
        let read = |inputs: Inputs, slots: &[Complex64]| {
            let mut readings = Readings::new(inputs);
            readings.see(&sums(None), slots);
            readings
        };
        let slots = [z(0.5, 0.0), z(0.1, -3.0), z(-2.0, 0.0), z(0.2, 0.1)];
        let (two, one) = (inputs(2, 2), inputs(1, 1));
        assert_eq!(read(two, &slots).each(), [2.0, 3.0]);
        assert_eq!(read(two, &slots).largest(), (Some(1), 3.0));
        // of one input there is nothing to name
        assert_eq!(read(one, &slots).largest(), (None, 3.0));
        // what is no number is no small sum
        let broken = read(two, &[z(f64::NAN, 0.0), z(1.0, 0.0)]);
        assert_eq!(broken.largest(), (Some(0), f64::INFINITY));
        // with places of their own, sums without owners are over all
        let all = read(inputs(2, 1), &slots);
        assert_eq!((all.each(), all.largest()), (vec![3.0; 2], (None, 3.0)));
        // an input that is there twice is named first
        let twice = read(two, &reals([2.99, 3.0]));
        assert_eq!(twice.largest(), (Some(0), 3.0));
    }

    #[test]
    fn owners_name_inputs_with_places_of_their_own() {
        let mut readings = Readings::new(inputs(4, 1));
        let shared = Owners::new(1, vec![0, 2, 1, 3]);
        readings.see(&sums(Some(shared)), &reals([0.1, 0.2, 0.3, 0.4]));
        readings.see(&sums(Some(Owners::new(1, vec![1]))), &reals([0.5, 0.6]));
        assert_eq!(readings.each(), [0.1, 0.6, 0.2, 0.4]);
        assert_eq!(readings.largest(), (Some(1), 0.6));
        // slots that repeat count for all whose they are
        let runs = Owners::new(2, vec![2, 3]);
        readings.see(&sums(Some(runs)), &reals([0.7, 0.0]));
        assert_eq!(readings.each(), [0.1, 0.6, 0.7, 0.7]);
        readings.see(&sums(None), &reals([0.9]));
        assert_eq!(readings.largest(), (None, 0.9));
    }

    #[test]
    fn owners_that_do_not_fit_are_refused() {
        let parameters = ckks::ParametersSpec::toy_levelled(6, 3);
        let parameters = Parameters::new(parameters).expect("valid");
        let alarm = |owners: Option<Owners>| Alarm {
            first: sums(None),
            level: 0,
            threshold: 1.0,
            reach: 1.5,
            watched: 1,
            more: vec![sums(owners)],
        };
        let (shared, beside) = (inputs(2, 1), inputs(2, 2));
        let owners = |run, inputs: &[u32]| {
            let inputs = inputs.to_vec();
            Some(Owners { run, inputs })
        };
        let check = |owners| alarm(owners).check(&parameters, shared);
        for fits in [None, owners(1, &[1]), owners(2, &[0, 1]), owners(4, &[0])] {
            check(fits).expect("fits");
        }
        for (word, broken) in [
            ("powers of two", owners(0, &[0])),
            ("powers of two", owners(3, &[0])),
            ("powers of two", owners(1, &[])),
            ("powers of two", owners(1, &[0, 1, 0])),
            ("fit into 4 slots", owners(2, &[0, 1, 1, 0])),
            ("fit into 4 slots", owners(1 << 63, &[0, 1])),
            ("sums of input 2", owners(1, &[2])),
        ] {
            let message = check(broken).expect_err(word);
            assert!(message.contains(word), "{message}");
        }
        let message = alarm(owners(1, &[1])).check(&parameters, beside);
        let message = message.expect_err("side by side");
        assert!(message.contains("side by side"), "{message}");
        let many = Alarm {
            more: vec![sums(None); MOST],
            ..alarm(None)
        };
        let message = many.check(&parameters, shared).expect_err("too many");
        assert!(message.contains("at most 2048"), "{message}");
    }

    #[test]
    fn owners_have_one_form() {
        let of = |run, inputs: &[u32]| Owners::new(run, inputs.to_vec());
        assert_eq!(of(4, &[1, 1, 0, 0, 1, 1, 0, 0]), of(8, &[1, 0]));
        assert_eq!(of(4, &[3, 3, 3, 3]), of(1, &[3]));
        assert_eq!(of(2, &[0, 1, 1, 0]).period(), 8);
        let owners = of(2, &[0, 1, 1, 0, 0, 1, 1, 0]);
        let had: Vec<usize> = (0..10).map(|s| owners.of(s)).collect();
        assert_eq!(had, [0, 0, 1, 1, 1, 1, 0, 0, 0, 0]);
    }
}

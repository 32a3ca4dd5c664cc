//! How wrong an answer will be, by simulation.
//!
//! A plan's bound multiplies worst cases, which is no use where a network divides: a doubling of Goldschmidt's multiplies the bound, while
//! in truth errors of quotient and divisor shrink or cancel. What is bounded badly is simulated well: the plan is read by
//! [`Clear`] on an input, and after every step each slot of each result is given a complex Gaussian error of the root mean square that the
//! meter predicts for *that step alone*, its operands exact ([`Noise`]). Errors then travel through products, divisions and bootstraps as
//! they do under encryption, correlations included. The difference from the same run without errors is one draw of the answer's error.
//!
//! The meter's formulas are measured on ciphertexts (`docs/noise.md`): exact, or above the truth (constants' magnitude for a factor's, all
//! coefficients of a ring for those of few slots). What one step's error has and the simulation lacks are its tails, products of two
//! Gaussians where it draws one, and its correlation between slots; an answer sums thousands of them. The sine's bias is in both runs and
//! drops out: [`Clear`] has it, the network's own oracle doesn't.

use crate::check::Overshoot;
pub use crate::simulated::Simulated;
use crate::verified::VerifiedPlan;
use crate::wire::ports::{place, place_all};
use crate::{Register, Result, State};
use ckks::clear::{SPLIT_MIX_STEP, split_mix};
use ckks::{Arithmetic, Clear, Complex64};
use std::collections::BTreeMap;
use std::f64::consts::TAU;

/// Root mean square of the error that every step adds by itself, in plan units, by the registers that it writes; and of a fresh encryption.
#[derive(Clone, Debug, PartialEq)]
pub struct Noise {
    input: f64,
    steps: Vec<BTreeMap<Register, f64>>,
}

impl Noise {
    /// Of a plan.
    ///
    /// # Errors
    /// `Error::Plan`: none for a verified plan.
    pub fn of(plan: &VerifiedPlan) -> Result<Self> {
        let (input, steps) = plan.own_deviations()?;
        Ok(Self { input, steps })
    }

    /// The largest of all steps, plan units.
    pub fn largest(&self) -> f64 {
        let all = self.steps.iter().flat_map(|s| s.values());
        all.copied().fold(self.input, f64::max)
    }
}

/// Answers of two runs in the clear side by side, network units.
#[derive(Clone, Debug, PartialEq)]
pub struct SideBySide {
    /// Without errors.
    pub exact: Vec<f64>,
    /// With one draw of all steps' errors.
    pub noisy: Vec<f64>,
    /// The layer whose operands went farthest beyond their intervals without errors, at places without a value, too, and how far from the middle, in half
    /// widths.
    pub beyond: Option<(String, f64)>,
}

/// Multiplications of simulated runs, about: half a minute.
const PRODUCTS: f64 = 3e10;
/// Runs at least, and at most where answers have few values, if that many multiplications allow them; and the errors wanted in all.
const RUNS: (usize, usize, usize) = (8, 32, 256);

/// A generator of normal numbers: a model, nothing secret.
struct Normal(u64);

impl Normal {
    fn uniform(&mut self) -> f64 {
        let bits = split_mix(self.0);
        self.0 = self.0.wrapping_add(SPLIT_MIX_STEP);
        ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }
    /// Real and imaginary part independent, E|e|² = 1.
    fn complex(&mut self) -> Complex64 {
        let radius = (-self.uniform().ln()).sqrt();
        let (sin, cos) = (TAU * self.uniform()).sin_cos();
        Complex64::new(radius * cos, radius * sin)
    }
    fn disturb(&mut self, values: &mut [Complex64], deviation: f64) {
        for v in values {
            *v += self.complex() * deviation;
        }
    }
}

/// How many runs are to be simulated of a plan with so many multiplications, whose answer has so many values.
pub fn runs(products: f64, values: usize) -> usize {
    let (least, most, errors) = RUNS;
    let wanted = errors.div_ceil(values.max(1)).clamp(least, most) as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most so many runs"
    )]
    let runs = (PRODUCTS / (2.0 * products).max(1.0)).clamp(1.0, wanted) as usize;
    runs
}

impl VerifiedPlan {
    /// How many runs are to be simulated, two answers each: fewer of large plans.
    pub fn runs_to_simulate(&self) -> usize {
        let n = self.parameters().n();
        let steps = self.plan().steps.iter();
        let products: f64 = steps.map(|s| s.operation.clear_products(n)).sum();
        runs(products, self.plan().output.elements())
    }

    /// The answers that the plan computes in f64 on a tensor in network units, exactly and with one draw of all steps' errors. Operands of
    /// polynomials that leave their interval are brought back to its end in both: that is where inputs of calibration may be, too.
    ///
    /// # Errors
    /// As [`VerifiedPlan::simulate`].
    pub fn simulate_both(
        &self,
        tensor: &[f64],
        (noise, seed): (&Noise, u64),
    ) -> Result<SideBySide> {
        let plan = self.plan();
        let mut normal = Normal(seed);
        let port = (&plan.input, self.parameters());
        let mut inputs = place(port, &plan.description, tensor)?;
        let (exactly, mut exact) = self.start_in_the_clear(&inputs)?;
        (inputs.iter_mut()).for_each(|v| normal.disturb(v, noise.input));
        let (noisily, mut noisy) = self.start_in_the_clear(&inputs)?;
        let mut beyond: Option<(String, f64)> = None;
        while exact.next < plan.steps.len() {
            let index = exact.next;
            let step = &plan.steps[index];
            if step.keeps_interval() {
                let excess = self.excess(step, &exact)?;
                let farther = |e: &Overshoot| beyond.as_ref().is_none_or(|b| e.times > b.1);
                if let Some(e) = excess.filter(farther) {
                    beyond = Some((step.layer.clone(), e.times));
                }
                for r in step.operation.reads() {
                    if let (Some(x), Some(y)) = (exact.live.get_mut(&r), noisy.live.get_mut(&r)) {
                        bring_back(&mut x.values, &mut y.values);
                    }
                }
            }
            self.advance(&exactly, &mut exact, &mut ())?;
            self.advance(&noisily, &mut noisy, &mut ())?;
            for (r, &deviation) in &noise.steps[index] {
                if let Some(v) = noisy.live.get_mut(r) {
                    normal.disturb(&mut v.values, deviation);
                }
            }
        }
        Ok(SideBySide {
            exact: self.clear_answer(&exact)?,
            noisy: self.clear_answer(&noisy)?,
            beyond,
        })
    }

    /// The answer that the plan computes in f64 on a tensor in network units: exactly, or with one draw of all steps' errors. Unlike
    /// [`ClearTwin`](crate::ClearTwin), it refuses no value that leaves its range.
    ///
    /// # Errors
    /// As [`Client::encrypt`](crate::Client::encrypt), or what the interpreter refuses.
    pub fn simulate(&self, tensor: &[f64], noise: Option<(&Noise, u64)>) -> Result<Vec<f64>> {
        Ok(self.simulate_with_alarm(tensor, noise)?.0)
    }

    /// As [`VerifiedPlan::simulate`], and for each input of a batch the largest of the alarm's sums that has values of it; none where the plan has no alarm.
    ///
    /// # Errors
    /// As [`VerifiedPlan::simulate`].
    pub fn simulate_with_alarm(
        &self,
        tensor: &[f64],
        noise: Option<(&Noise, u64)>,
    ) -> Result<(Vec<f64>, Vec<f64>)> {
        let plan = self.plan();
        let mut normal = noise.map(|(n, seed)| (n, Normal(seed)));
        let mut inputs = place((&plan.input, self.parameters()), &plan.description, tensor)?;
        if let Some((noise, normal)) = &mut normal {
            let deviation = noise.input;
            inputs.iter_mut().for_each(|v| normal.disturb(v, deviation));
        }
        let (clear, mut state) = self.start_in_the_clear(&inputs)?;
        self.carry_out(&clear, &mut state, &mut normal)?;
        Ok((self.clear_answer(&state)?, self.clear_alarm(&state)))
    }
}

impl VerifiedPlan {
    /// All steps that are left, each result with its errors where some are drawn.
    fn carry_out(
        &self,
        clear: &Clear,
        state: &mut State<<Clear as Arithmetic>::Value>,
        normal: &mut Option<(&Noise, Normal)>,
    ) -> Result<()> {
        while state.next < self.plan().steps.len() {
            let index = state.next;
            self.advance(clear, state, &mut ())?;
            if let Some((noise, normal)) = normal {
                for (r, &deviation) in &noise.steps[index] {
                    if let Some(v) = state.live.get_mut(r) {
                        normal.disturb(&mut v.values, deviation);
                    }
                }
            }
        }
        Ok(())
    }

    /// The answers that a step computes in f64 on the inputs of a sequence, in order, with what each run leaves for the next: exactly, or with one draw of all
    /// steps' errors in every run, so that errors of what is kept go on as they do under encryption.
    ///
    /// # Errors
    /// As [`VerifiedPlan::simulate`]; [`crate::Error::Input`] for a plan that keeps nothing, or more runs than it has.
    pub fn simulate_sequence(
        &self,
        tensors: &[Vec<f64>],
        noise: Option<(&Noise, u64)>,
    ) -> Result<Vec<Vec<f64>>> {
        let plan = self.plan();
        self.require_runs(tensors.len())?;
        let mut normal = noise.map(|(n, seed)| (n, Normal(seed)));
        let zeros = |k: &crate::Kept| vec![vec![Complex64::new(0.0, 0.0); k.slots]; k.before.len()];
        let mut kept: Vec<Vec<Complex64>> = plan.kept().iter().flat_map(zeros).collect();
        let mut answers = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            let (parameters, description) = (self.parameters(), &plan.description);
            let mut slots = place_all(plan.inputs(), parameters, description, tensor)?;
            if let Some((noise, normal)) = &mut normal {
                let deviation = noise.input;
                slots.iter_mut().for_each(|v| normal.disturb(v, deviation));
            }
            slots.append(&mut kept);
            let (clear, mut state) = self.start_in_the_clear(&slots)?;
            self.carry_out(&clear, &mut state, &mut normal)?;
            answers.push(self.clear_answer(&state)?);
            kept = self.left(&state)?.into_iter().map(|v| v.values).collect();
        }
        Ok(answers)
    }
}

/// Real parts of `exact` back to [−1, 1], and those of `noisy` by as much.
fn bring_back(exact: &mut [Complex64], noisy: &mut [Complex64]) {
    for (x, y) in exact.iter_mut().zip(noisy) {
        let kept = x.re.clamp(-1.0, 1.0);
        y.re += kept - x.re;
        x.re = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stated_of_errors_covers_the_output_that_errs_most() {
        let mut normal = Normal(1);
        let mut draw = |deviation: f64| 2f64.sqrt() * deviation * normal.complex().re;
        // one of a hundred values errs a hundred times as much as the others
        let runs: Vec<Vec<f64>> = (0..8)
            .map(|_| {
                (0..100)
                    .map(|o| draw(if o == 7 { 1e-3 } else { 1e-5 }))
                    .collect()
            })
            .collect();
        let s = Simulated::of(&runs, Some(&runs)).expect("numbers");
        assert!((8e-3..4e-2).contains(&s.error), "{s:?}");
        assert_eq!(s.network, Some(s.error));
        // all alike: at least 16 deviations, and not much more
        let alike: Vec<Vec<f64>> = (0..2)
            .map(|_| (0..1000).map(|_| draw(1.0)).collect())
            .collect();
        let s = Simulated::of(&alike, None).expect("numbers");
        assert!(
            (16.0..40.0).contains(&s.error) && s.network.is_none(),
            "{s:?}"
        );
        assert!(s.check().is_ok());
    }

    #[test]
    fn what_is_no_number_states_nothing() {
        assert!(Simulated::of(&[vec![1.0, f64::NAN]], None).is_none());
        assert!(Simulated::of(&[vec![0.0]], None).is_none());
        assert!(Simulated::of(&[], None).is_none());
        let wrong = Simulated {
            error: f64::INFINITY,
            network: None,
            runs: 1,
        };
        assert!(wrong.check().is_err());
    }
}

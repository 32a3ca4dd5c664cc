//! Checks against the clear twin: ranges on one input, and lock-step precision of an encrypted run.

use crate::Register;
use crate::interpreter::{Done, Observer, State};
use crate::plan::Step;
use crate::verified::VerifiedPlan;
use crate::wire::ClientSpec;
use crate::wire::ports::{coefficients, place};
use crate::{Client, Error, Help, Result};
use ckks::{Arithmetic, Clear, Complex64, Engine, Evaluator};
use std::collections::BTreeMap;

/// What the clear twin's values may go beyond an interval, plan units: rounding and the transforms' own error are no excess.
const ROUNDING: f64 = 1e-4;
/// Half widths below which an interval counts as wider when an excess is measured by it: what rounding makes of a constant is not far.
const LEAST_HALF: f64 = 1e-3;

/// The clear twin of a plan on one input.
pub struct ClearTwin<'a> {
    plan: &'a VerifiedPlan,
    clear: Clear,
    state: State<<Clear as Arithmetic>::Value>,
}

impl std::fmt::Debug for ClearTwin<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClearTwin")
            .field("next", &self.state.next)
            .finish_non_exhaustive()
    }
}

impl<'a> ClearTwin<'a> {
    /// The twin before the first step, on a tensor in network units.
    ///
    /// # Errors
    /// As [`Client::encrypt`].
    pub fn new(plan: &'a VerifiedPlan, spec: &ClientSpec, tensor: &[f64]) -> Result<Self> {
        let port = (&plan.plan().input, plan.parameters());
        let slots = place(port, &spec.description, tensor)?;
        Self::from_slots(plan, &slots)
    }
    fn from_slots(plan: &'a VerifiedPlan, slots: &[Vec<Complex64>]) -> Result<Self> {
        let (clear, state) = plan.start_in_the_clear(slots)?;
        Ok(Self { plan, clear, state })
    }
    /// Carries out the next step; refuses operands that leave the calibrated range.
    ///
    /// # Errors
    /// [`Error::Range`], or what the interpreter refuses.
    pub fn advance(&mut self) -> Result<Vec<(Register, Vec<Complex64>)>> {
        let Some(step) = self.plan.plan().steps.get(self.state.next) else {
            return Ok(Vec::new());
        };
        self.plan.check_ranges(step, &self.state)?;
        let mut results = Collect(Vec::new());
        self.plan
            .advance(&self.clear, &mut self.state, &mut results)?;
        Ok(results.0)
    }
    /// Carries out the rest; gives the output tensor in network units.
    ///
    /// # Errors
    /// As [`ClearTwin::advance`].
    pub fn finish(mut self) -> Result<Vec<f64>> {
        while self.state.next < self.plan.plan().steps.len() {
            self.advance()?;
        }
        self.plan.clear_answer(&self.state)
    }
}

impl VerifiedPlan {
    /// Refuses operands of a step, in the clear, that leave their range: what packing leaves at places without a value counts, too.
    fn check_ranges(&self, step: &Step, state: &State<<Clear as Arithmetic>::Value>) -> Result<()> {
        match self.excess(step, state)? {
            Some(e) => Err(Error::Range {
                layer: step.layer.clone(),
                reached: e.reached,
                limit: e.limit,
            }),
            None => Ok(()),
        }
    }

    /// The operand of a step, in the clear, that leaves its range farthest, if any does.
    pub(crate) fn excess(
        &self,
        step: &Step,
        state: &State<<Clear as Arithmetic>::Value>,
    ) -> Result<Option<Overshoot>> {
        let mut worst: Option<Overshoot> = None;
        for r in step.operation.reads() {
            let (Some(v), unit) = (state.live.get(&r), self.unit(r).abs()) else {
                continue;
            };
            let mut seen = |value: f64, range: (f64, f64), rounding: f64| {
                let Some(times) = outside(value, range, rounding) else {
                    return;
                };
                if worst.as_ref().is_none_or(|w| times > w.times) {
                    worst = Some(Overshoot {
                        times,
                        reached: value * unit,
                        limit: unit * if value < range.0 { range.0 } else { range.1 },
                    });
                }
            };
            let ranged = step.operation.is_function() && !step.keeps_interval();
            let ranged = ranged && step.interval.is_none();
            if let Some(limit) = step.operation.operand_limit().filter(|_| !ranged) {
                for z in v.values.iter() {
                    seen(z.re, (-limit, limit), ROUNDING);
                    seen(z.im, (-limit, limit), ROUNDING);
                    // slots without a value hold nothing
                    if let Some(interval) = step.interval.filter(|_| z.re.abs() > ROUNDING) {
                        seen(z.re, interval, ROUNDING);
                    }
                }
            }
            if let Some(limit) = step.operation.coefficient_limit() {
                for x in coefficients(self.parameters(), &v.values)? {
                    seen(x, (-limit, limit), 1e-4 * limit);
                }
            }
        }
        Ok(worst)
    }
}

/// How far a value outside of an interval lies from its middle, in half widths; what is no number is as far as can be.
fn outside(value: f64, (low, high): (f64, f64), rounding: f64) -> Option<f64> {
    if value.is_nan() {
        return Some(f64::INFINITY);
    }
    let half = (0.5 * (high - low)).max(LEAST_HALF);
    let inside = (low - rounding..=high + rounding).contains(&value);
    (!inside).then(|| (value - 0.5 * (low + high)).abs() / half)
}

/// An operand that leaves its range.
#[derive(Debug, PartialEq)]
pub(crate) struct Overshoot {
    /// How far it lies from the middle, in half widths.
    pub(crate) times: f64,
    /// It, in network units.
    reached: f64,
    /// The end that it left, in network units.
    limit: f64,
}

struct Collect(Vec<(Register, Vec<Complex64>)>);

impl Observer<<Clear as Arithmetic>::Value> for Collect {
    fn end(&mut self, done: &Done<'_, <Clear as Arithmetic>::Value>) -> Result<()> {
        self.0 = done
            .results
            .iter()
            .map(|(r, v)| (*r, v.values.clone()))
            .collect();
        Ok(())
    }
}

/// Precision of one step, in plan units.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct StepPrecision {
    /// Largest error of real and imaginary parts.
    pub largest: f64,
    /// Mean error of real and imaginary parts.
    pub mean: f64,
    /// Largest magnitude of the true values.
    pub magnitude: f64,
}

/// What to do with an error beyond its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// Stop at once, naming the layer.
    Stop,
    /// Go on: measure only.
    Measure,
}

/// An engine and the clear twin in lock-step, on the owner's machine.
#[derive(Debug)]
pub struct LockStep<'a, E: Engine = Evaluator> {
    plan: &'a VerifiedPlan,
    engine: &'a E,
    client: &'a Client,
    twin: ClearTwin<'a>,
    excess: Excess,
    /// Precision of each step, by index.
    pub steps: BTreeMap<usize, StepPrecision>,
}

impl<'a, E: Engine> LockStep<'a, E> {
    /// Beside a run on an input that the client can decrypt.
    ///
    /// # Errors
    /// If the key belongs to other parameters, or the input does not fit.
    pub fn new(
        plan: &'a VerifiedPlan,
        engine: &'a E,
        client: &'a Client,
        state: &State<E::Value>,
        excess: Excess,
    ) -> Result<Self> {
        if state.next != 0 {
            return Err(Error::Input {
                reason: "a check needs the whole run and the key that encrypted its input".into(),
                remedy: Help::Anew.with("run from the beginning, with the key of this input"),
            });
        }
        client.key().expect(&state.key, "the encrypted input")?;
        let port = &plan.plan().input;
        let slots = port
            .registers
            .iter()
            .filter_map(|r| state.live.get(r))
            .map(|v| Ok(client.secret_key().decrypt(&engine.download(v)?)?))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            plan,
            engine,
            client,
            twin: ClearTwin::from_slots(plan, &slots)?,
            excess,
            steps: BTreeMap::new(),
        })
    }
    /// After the last step: the precision of each, and the clear twin's output in network units.
    ///
    /// # Errors
    /// As [`ClearTwin::finish`].
    pub fn finish(self) -> Result<(BTreeMap<usize, StepPrecision>, Vec<f64>)> {
        Ok((self.steps, self.twin.finish()?))
    }
}

impl<E: Engine> Observer<E::Value> for LockStep<'_, E> {
    fn end(&mut self, done: &Done<'_, E::Value>) -> Result<()> {
        let truth = self.twin.advance()?;
        let (mut largest, mut sum, mut count, mut magnitude) = (0.0f64, 0.0f64, 0usize, 0.0f64);
        for ((_, v), (_, want)) in done.results.iter().zip(&truth) {
            let had = self.engine.download(v)?;
            let had = self.client.secret_key().decrypt(&had)?;
            for (j, w) in want.iter().enumerate() {
                let h = had[j % had.len()];
                for e in [(h.re - w.re).abs(), (h.im - w.im).abs()] {
                    largest = if e.is_nan() {
                        f64::INFINITY
                    } else {
                        largest.max(e)
                    };
                    sum += e;
                    count += 1;
                }
                magnitude = magnitude.max(w.re.abs()).max(w.im.abs());
            }
        }
        self.steps.insert(
            done.index,
            StepPrecision {
                largest,
                mean: sum / count.max(1) as f64,
                magnitude,
            },
        );
        let bound = self.plan.facts().steps[done.index].error_bound;
        if self.excess == Excess::Stop && largest > bound {
            return Err(Error::Check {
                step: done.index,
                layer: done.step.layer.clone(),
                error: largest * done.step.unit.abs(),
                bound: bound * done.step.unit.abs(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_a_value_lies_is_measured_by_its_interval() {
        let of = |value, range| outside(value, range, ROUNDING);
        assert_eq!(of(-1e-4, (0.0, 1.0)), None);
        // the end's own size does not matter
        assert!(of(-2e-4, (0.0, 1.0)).is_some_and(|t| (t - 1.000_4).abs() < 1e-9));
        assert!(of(0.05, (0.2, 1.0)).is_some_and(|t| (t - 1.375).abs() < 1e-9));
        assert!(of(-0.4, (0.2, 1.0)).is_some_and(|t| (t - 2.5).abs() < 1e-9));
        assert_eq!(of(f64::NAN, (-1.0, 1.0)), Some(f64::INFINITY));
        assert_eq!(of(f64::INFINITY, (-1.0, 1.0)), Some(f64::INFINITY));
        // a constant's rounding
        assert!(of(0.500_2, (0.5, 0.5)).is_some_and(|t| t < 1.0));
    }
}

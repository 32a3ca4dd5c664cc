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
    pub(crate) fn check_ranges(
        &self,
        step: &Step,
        state: &State<<Clear as Arithmetic>::Value>,
    ) -> Result<()> {
        for r in step.operation.reads() {
            let (Some(v), unit) = (state.live.get(&r), self.unit(r).abs()) else {
                continue;
            };
            let left = |reached: f64, limit: f64| Error::Range {
                layer: step.layer.clone(),
                reached: reached * unit,
                limit: limit * unit,
            };
            if let Some(limit) = step.operation.operand_limit() {
                let sizes = v.values.iter().map(|z| z.re.abs().max(z.im.abs()));
                let reached = sizes.fold(0.0, f64::max);
                if !reached.is_finite() || reached > limit + ROUNDING {
                    return Err(left(reached, limit));
                }
                let Some((low, high)) = step.interval else {
                    continue;
                };
                // slots without a value hold nothing
                let values = v.values.iter().map(|z| z.re);
                for value in values.filter(|re| re.abs() > ROUNDING) {
                    if value < low - ROUNDING {
                        return Err(left(value, low));
                    }
                    if value > high + ROUNDING {
                        return Err(left(value, high));
                    }
                }
            }
            if let Some(limit) = step.operation.coefficient_limit() {
                let values = coefficients(self.parameters(), &v.values)?;
                let reached = values.iter().fold(0.0f64, |m, x| m.max(x.abs()));
                if !reached.is_finite() || reached > limit * 1.000_1 {
                    return Err(left(reached, limit));
                }
            }
        }
        Ok(())
    }
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
                remedy: Help::Resume.with("run from the beginning, with the key of this input"),
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

//! Carrying out a verified plan over any interpreter.

use crate::Register;
use crate::alarm::Readings;
use crate::machine::cpu_seconds;
use crate::plan::Step;
use crate::verified::VerifiedPlan;
use crate::wire::KeyId;
use crate::wire::ports::gather;
use crate::{Error, Help, Result};
use ckks::{Arithmetic, Clear, Complex64, Level};
use std::collections::BTreeMap;
use std::time::Instant;

/// Seed of the clear twin's simulated ModRaise, the same for all runs.
const CLEAR_SEED: u64 = 0x706f_6c79_7665_696c;

/// What registers hold in the clear.
type ClearValue = <Clear as Arithmetic>::Value;

/// Where a run stands: the next step and the registers that are still needed.
#[derive(Clone, Debug)]
pub struct State<V> {
    /// Index of the next step.
    pub next: usize,
    /// The key pair of its values; zero in the clear.
    pub key: KeyId,
    /// Registers that later steps or the output read.
    pub live: BTreeMap<Register, V>,
}

/// A step that was just carried out.
#[derive(Debug)]
pub struct Done<'a, V> {
    /// Its index.
    pub index: usize,
    /// The step.
    pub step: &'a Step,
    /// Its results.
    pub results: &'a [(Register, V)],
    /// Where the run stands now: what the rest needs.
    pub state: &'a State<V>,
    /// Wall seconds that it took.
    pub seconds: f64,
    /// CPU seconds that it took.
    pub cpu_seconds: f64,
}

/// Watches a run.
pub trait Observer<V> {
    /// A step begins.
    fn begin(&mut self, index: usize, step: &Step) {
        let _ = (index, step);
    }
    /// A step has ended; an error stops the run.
    ///
    /// # Errors
    /// What the observer finds.
    fn end(&mut self, done: &Done<'_, V>) -> Result<()>;
}

/// Watches nothing.
impl<V> Observer<V> for () {
    fn end(&mut self, _: &Done<'_, V>) -> Result<()> {
        Ok(())
    }
}

/// Several observers, in order.
impl<V> Observer<V> for [&mut dyn Observer<V>] {
    fn begin(&mut self, index: usize, step: &Step) {
        self.iter_mut().for_each(|o| o.begin(index, step));
    }
    fn end(&mut self, done: &Done<'_, V>) -> Result<()> {
        self.iter_mut().try_for_each(|o| o.end(done))
    }
}

impl VerifiedPlan {
    /// The state before the first step; `key` is the key pair of the values, zero in the clear.
    ///
    /// # Errors
    /// [`Error::Input`] for another number of values than the input ports and what is kept have.
    pub fn start<V>(&self, inputs: Vec<V>, key: KeyId) -> Result<State<V>> {
        let given = self.plan().given().flat_map(|g| g.0.iter().copied());
        let registers: Vec<Register> = given.collect();
        if inputs.len() != registers.len() {
            return Err(Error::Input {
                reason: format!(
                    "{} ciphertexts, the plan takes {}",
                    inputs.len(),
                    registers.len()
                ),
                remedy: Help::Encrypt.with("encrypt for this plan"),
            });
        }
        Ok(State {
            next: 0,
            key,
            live: registers.into_iter().zip(inputs).collect(),
        })
    }

    /// Carries out the steps from `state` on; gives the output port's values, then the alarm where the plan has one. Registers are dropped at their last use.
    ///
    /// # Errors
    /// [`Error::Step`] with the layer, or what the observer finds.
    pub fn run<A: Arithmetic>(
        &self,
        a: &A,
        mut state: State<A::Value>,
        observer: &mut (impl Observer<A::Value> + ?Sized),
    ) -> Result<Vec<A::Value>> {
        while state.next < self.plan().steps.len() {
            self.advance(a, &mut state, observer)?;
        }
        self.answer(&state)
    }

    /// As [`VerifiedPlan::run`], and what is kept for the next run.
    ///
    /// # Errors
    /// As [`VerifiedPlan::run`].
    pub fn run_keeping<A: Arithmetic>(
        &self,
        a: &A,
        mut state: State<A::Value>,
        observer: &mut (impl Observer<A::Value> + ?Sized),
    ) -> Result<[Vec<A::Value>; 2]> {
        while state.next < self.plan().steps.len() {
            self.advance(a, &mut state, observer)?;
        }
        Ok([self.answer(&state)?, self.left(&state)?])
    }

    /// What is kept after the last step.
    pub(crate) fn left<V: Clone>(&self, state: &State<V>) -> Result<Vec<V>> {
        let after = self.plan().kept().iter().flat_map(|k| &k.after);
        let value = |r| {
            state.live.get(r).cloned().ok_or_else(|| Error::Port {
                port: "sequence".into(),
                reason: format!("register {r} is not alive in this state"),
            })
        };
        after.map(value).collect()
    }

    /// The output port's values after the last step, and the alarm.
    fn answer<V: Clone>(&self, state: &State<V>) -> Result<Vec<V>> {
        let value = |r| {
            state.live.get(r).cloned().ok_or_else(|| Error::Port {
                port: "output".into(),
                reason: format!("register {r} is not alive in this state"),
            })
        };
        let plan = self.plan();
        let alarm = plan.description.alarm.iter().flat_map(|a| a.sums());
        let alarm = alarm.map(|s| &s.register);
        (plan.output.registers.iter().chain(alarm).map(value)).collect()
    }

    /// The state before the first step in the clear, of slots in plan units.
    pub(crate) fn start_in_the_clear(
        &self,
        slots: &[Vec<Complex64>],
    ) -> Result<(Clear, State<ClearValue>)> {
        let clear = Clear::new(self.context(), CLEAR_SEED);
        let levels = self
            .plan()
            .given()
            .flat_map(|(registers, level, _)| registers.iter().map(move |_| Level::new(level)));
        let inputs = slots.iter().zip(levels);
        let inputs = inputs.map(|(v, level)| Ok(clear.input(v, level)?));
        let state = self.start(inputs.collect::<Result<_>>()?, KeyId::default())?;
        Ok((clear, state))
    }

    /// The output tensor after the last step in the clear, in network units.
    pub(crate) fn clear_answer(&self, state: &State<ClearValue>) -> Result<Vec<f64>> {
        let values = self.answer(state)?.into_iter().map(|v| v.values);
        let port = &self.plan().output;
        let values = values.take(port.registers.len());
        gather((port, self.parameters()), &values.collect::<Vec<_>>())
    }

    /// What the alarm reads in the clear for each input of a batch; nothing where there is none.
    pub(crate) fn clear_alarm(&self, state: &State<ClearValue>) -> Vec<f64> {
        let Some(alarm) = &self.plan().description.alarm else {
            return Vec::new();
        };
        let mut readings = Readings::new(self.plan().output.inputs());
        for sums in alarm.sums() {
            if let Some(v) = state.live.get(&sums.register) {
                readings.see(sums, &v.values);
            }
        }
        readings.each()
    }

    /// Carries out one step.
    ///
    /// # Errors
    /// As [`VerifiedPlan::run`].
    pub fn advance<A: Arithmetic>(
        &self,
        a: &A,
        state: &mut State<A::Value>,
        observer: &mut (impl Observer<A::Value> + ?Sized),
    ) -> Result<()> {
        let index = state.next;
        let Some(step) = self.plan().steps.get(index) else {
            return Ok(());
        };
        observer.begin(index, step);
        let (clock, cpu) = (Instant::now(), cpu_seconds());
        let released = &self.facts().steps[index].released;
        let reads = step.operation.reads();
        let operands: Vec<A::Value> = (reads.iter().enumerate())
            .map(|(k, r)| {
                // the last use takes the value, others share it
                let value = if released.contains(r) && !reads[k + 1..].contains(r) {
                    state.live.remove(r)
                } else {
                    state.live.get(r).cloned()
                };
                value.ok_or_else(|| Error::Plan {
                    step: index,
                    layer: step.layer.clone(),
                    reason: format!("register {r} is not alive in this state"),
                })
            })
            .collect::<Result<_>>()?;
        let values = step
            .operation
            .apply(a, &operands)
            .map_err(|source| Error::Step {
                step: index,
                layer: step.layer.clone(),
                source,
            })?;
        drop(operands);
        let results: Vec<(Register, A::Value)> =
            step.operation.writes().into_iter().zip(values).collect();
        for (r, v) in &results {
            if !released.contains(r) {
                state.live.insert(*r, v.clone());
            }
        }
        state.next = index + 1;
        observer.end(&Done {
            index,
            step,
            results: &results,
            state,
            seconds: clock.elapsed().as_secs_f64(),
            cpu_seconds: cpu_seconds() - cpu,
        })
    }
}

/// Measures every step.
#[derive(Clone, Debug, Default)]
pub struct Stopwatch {
    /// (wall, CPU) seconds of each step carried out, by index.
    pub steps: BTreeMap<usize, (f64, f64)>,
}

impl<V> Observer<V> for Stopwatch {
    fn end(&mut self, done: &Done<'_, V>) -> Result<()> {
        self.steps
            .insert(done.index, (done.seconds, done.cpu_seconds));
        Ok(())
    }
}

/// One progress message.
#[derive(Clone, Debug)]
pub struct Progress<'a> {
    /// Layer that begins.
    pub layer: &'a str,
    /// What it does.
    pub doing: &'static str,
    /// Steps done and steps in all.
    pub steps: (usize, usize),
    /// Seconds since the start.
    pub elapsed: f64,
    /// Estimate of the seconds that remain.
    pub remaining: f64,
}

/// Reports progress with an estimate that learns from the steps done.
pub struct Reporter<'a> {
    predicted: Vec<f64>,
    first: Option<usize>,
    clock: Instant,
    tell: &'a mut dyn FnMut(Progress<'_>),
}

impl<'a> Reporter<'a> {
    /// For a plan; `predicted` is each step's predicted wall time.
    pub fn new(predicted: Vec<f64>, tell: &'a mut dyn FnMut(Progress<'_>)) -> Self {
        Self {
            predicted,
            first: None,
            clock: Instant::now(),
            tell,
        }
    }
}

impl std::fmt::Debug for Reporter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reporter")
            .field("steps", &self.predicted.len())
            .finish_non_exhaustive()
    }
}

impl<V> Observer<V> for Reporter<'_> {
    fn begin(&mut self, index: usize, step: &Step) {
        let first = *self.first.get_or_insert(index);
        let elapsed = self.clock.elapsed().as_secs_f64();
        let predicted = |steps: Option<&[f64]>| -> f64 { steps.unwrap_or_default().iter().sum() };
        let done = predicted(self.predicted.get(first..index));
        let rest = predicted(self.predicted.get(index..));
        let pace = if done > 0.0 && elapsed > 0.0 {
            elapsed / done
        } else {
            1.0
        };
        (self.tell)(Progress {
            layer: &step.layer,
            doing: step.operation.doing(),
            steps: (index, self.predicted.len()),
            elapsed,
            remaining: rest * pace,
        });
    }
    fn end(&mut self, _: &Done<'_, V>) -> Result<()> {
        Ok(())
    }
}

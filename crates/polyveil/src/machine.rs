//! What a machine's operations cost: tables, probes, predictions, and what `measure` finds.

use crate::error::{Error, Help, Result};
use crate::files;
use crate::progress::{Listener, Say, duration, silent};
use crate::session::{Precision, Session, rng};
use ckks::Cost;
use ckks::security::KeySecurity;
use ckks::{Parameters, ParametersSpec};
use cost::workload::{self, OPERATIONS, Operation, Reading, Workload};
use cost::{MachineCost, Observation, Probe, Residual, Threading, Trust, fit};
use runtime::machine::{cpu_seconds, require_memory};
use runtime::machine_file::{MACHINE_FILE_LIMIT, MachineFile, Origin};
use runtime::placement::READ_RATE;
use runtime::{Basis, Placement, Prediction, VerifiedPlan, limits, size};
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The costs to plan and to predict with, before any probe.
#[derive(Clone, Debug)]
pub struct Machine {
    cost: MachineCost,
    source: String,
    trust: Trust,
}

/// Whether a prediction is scaled to what the machine does at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Probing {
    /// A second's probe scales the table.
    #[default]
    Probe,
    /// The table as it is: the same input gives the same prediction.
    AsItIs,
}

impl Default for Machine {
    /// The costs that ship with the library.
    fn default() -> Self {
        Self {
            cost: MachineCost::default(),
            source: "shipped with the program".into(),
            trust: Trust::OtherMachine,
        }
    }
}

impl Machine {
    /// The costs in a file that [`measure`] made; the shipped ones where another engine or processor made it, which is said.
    ///
    /// # Errors
    /// A file that is absent, or no cost table.
    pub fn open(path: &Path, tell: Listener<'_>) -> Result<Self> {
        let file = std::fs::File::open(path).map_err(|e| {
            Error::refused(format!("{}: {e}", path.display()), Help::MeasureMachine)
        })?;
        drop(file);
        let name = path.display().to_string();
        let file = MachineFile::read(&files::read(path, MACHINE_FILE_LIMIT)?, &name)?;
        if let Some(why) = file.stale(&Origin::here()?) {
            tell.note(format_args!(
                "note: {name} is left aside ({why}): using the shipped cost table; measure this machine again"
            ));
            return Ok(Self::default());
        }
        Ok(Self {
            cost: file.cost,
            source: format!("{name}, measured {}", file.date),
            trust: Trust::SameMachine,
        })
    }

    /// The costs.
    pub fn cost(&self) -> &MachineCost {
        &self.cost
    }

    /// What plans are made for: the table alone, without a probe, so that the plan is the same tomorrow.
    pub fn target(&self, max_memory: Option<u64>) -> compiler::Target {
        compiler::Target {
            cost: self.cost.table,
            max_memory,
            ..compiler::Target::default()
        }
    }

    /// What predictions rest on.
    ///
    /// # Errors
    /// Those of the probe.
    pub fn basis(&self, probing: Probing) -> Result<Basis> {
        let (cost, scaled) = match probing {
            Probing::AsItIs => (self.cost, None),
            // a prediction must not be what fails for want of memory
            Probing::Probe if limits::here().is_some_and(|room| room.bytes < PROBE_BYTES) => {
                (self.cost, None)
            }
            Probing::Probe => {
                let (cost, ratios) = self.cost.scaled_by(&probe()?, self.trust);
                (cost, Some(ratios))
            }
        };
        Ok(Basis {
            source: self.source.clone(),
            cost,
            scaled,
        })
    }

    /// What a run will cost on as many threads as the caller's pool has, with some keys on disk where there is a placement. A run that takes less
    /// memory than a probe is predicted by the table as it is: what is said of its memory holds, and the probe would take longer than the run.
    ///
    /// # Errors
    /// Those of the probe.
    pub fn predict(
        &self,
        plan: &VerifiedPlan,
        placement: Option<&Placement>,
        probing: Probing,
    ) -> Result<Prediction> {
        let peak = placement.map_or(plan.facts().peak_bytes, |p| p.peak_bytes);
        let probing = match peak < PROBE_BYTES {
            true => Probing::AsItIs,
            false => probing,
        };
        let made = Prediction::new(plan, self.basis(probing)?, rayon::current_num_threads());
        Ok(match placement {
            Some(placement) => made.with_keys_on_disk(placement),
            None => made,
        })
    }
}

/// A prediction in words, as it is said before a run.
pub fn forecast(plan: &VerifiedPlan, made: &Prediction, placement: Option<&Placement>) -> String {
    let (facts, p, b) = (plan.facts(), plan.parameters(), &made.basis);
    let mut text = format!(
        "{}: {} steps, {} bootstraps: about {} on {} quiet cores ({} of CPU time), at most {} of memory; evaluation keys {}\neach value of the answer is within {:.1e} of the polynomial network's in the clear; values reach {:.3}\nparameters {}: N = 2^{}, {} bits of security; cost table: {}",
        plan.plan().description.name,
        plan.plan().steps.len(),
        facts.bootstraps,
        duration(made.seconds),
        made.threads,
        duration(made.cpu_seconds),
        size(made.peak_bytes),
        size(facts.key_file_bytes),
        plan.answer_bounds().of_network(),
        plan.answer_bounds().magnitude,
        p.spec().name,
        p.spec().log_n,
        p.security_bits(),
        b.source
    );
    if let Some(r) = b.scaled {
        text += &format!(
            ", scaled by a probe: arithmetic × {:.2}, memory × {:.2}",
            r.compute, r.memory
        );
    }
    text += "\n";
    if p.spec().is_toy() {
        text += TOY;
    }
    if let Some(p) = placement {
        text += &format!(
            "keys on disk: {} of {} stay in memory, the others are read {} times, {} in all, for about {} more (at an assumed {}/s, checksums included)\n",
            p.kept.len(),
            facts.keys.0.len(),
            p.reads,
            size(p.read_bytes),
            duration(p.seconds()),
            size(READ_RATE as u64)
        );
    }
    text
}

/// What is said of a toy parameter set.
const TOY: &str = "INSECURE: this is a toy parameter set; it protects nothing\n";

/// What each published key's security rests on, in indented lines; a warning for toy parameters.
pub(crate) fn security(p: &Parameters, indent: &str) -> String {
    let mut text = String::new();
    if p.spec().is_toy() {
        text += TOY;
    }
    for k in p.key_security() {
        text += &format!("{indent}{}\n", judged(&k));
    }
    text
}

/// What a kind of key is, and what its security rests on.
pub(crate) fn judged(k: &KeySecurity) -> String {
    format!(
        "{}: log modulus {:.1}, {} bits ({})",
        k.name, k.log_modulus, k.bits, k.source
    )
}

/// A pool of so many threads.
pub(crate) fn pool(threads: usize) -> Result<rayon::ThreadPool> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|e| format!("{threads} threads: {e}").into())
}

/// What a probe takes, and a little more.
const PROBE_BYTES: u64 = 600 << 20;

/// CPU and wall seconds since now.
pub(crate) fn clock() -> impl Fn() -> Reading {
    let start = Instant::now();
    move || Reading {
        cpu: cpu_seconds(),
        wall: start.elapsed().as_secs_f64(),
    }
}

fn probe() -> Result<Probe> {
    Ok(pool(1)?.install(|| workload::probe(&cpu_seconds, &mut rng()))?)
}

/// Days since 1970 as year-month-day, by the Gregorian calendar (Howard Hinnant's `civil_from_days`).
fn date(days: u64) -> String {
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    format!("{:04}-{month:02}-{day:02}", year + era * 400 + later)
}

/// Begins a step's number in the name of its observation.
const STEP: &str = ", step ";
/// Runs of the network that a table is fitted to.
const NETWORK_RUNS: usize = 3;
/// How much they count beside the single operations, by step and in all.
const NETWORK_WEIGHT: f64 = 15.0;
/// Share of the wall time that a thread runs at least, on a machine that has nothing else to do.
const QUIET: f64 = 0.95;

/// Times of a network's steps under encryption, each the least of several runs: other programs only add to it.
struct Steps {
    /// Counted work and CPU seconds, by step.
    observed: Vec<(Cost, f64)>,
    /// Counted work of all steps.
    total: Cost,
    /// Share of the threads' wall time that was CPU time.
    busy: f64,
}

fn steps(graph: &nn::PolyGraph, input: &nn::Tensor, tell: Listener<'_>) -> Result<Steps> {
    // planned for N = 2^16, whose table it is, and with the shipped one, so that what is measured does not depend on what was measured before
    let plan = Arc::new(crate::compile(
        graph,
        &compiler::Target {
            parameters: Some(ParametersSpec::standard()),
            ..compiler::Target::default()
        },
    )?);
    let prediction = Machine::default().predict(&plan, None, Probing::AsItIs)?;
    crate::require_memory(&plan, prediction.peak_bytes, None)?;
    let session = Session::new(plan.clone(), graph, prediction, tell)?;
    let mut watches = Vec::new();
    for run in 1..=NETWORK_RUNS {
        tell.count("the network, run", run, NETWORK_RUNS);
        let outcome = session.run(input.values(), Precision::Unmeasured, &mut silent)?;
        watches.push(outcome.measured.steps);
    }
    let sum = |of: fn(&(f64, f64)) -> f64| -> f64 {
        watches.iter().flat_map(|w| w.values()).map(of).sum()
    };
    let of = |step: usize| watches.iter().map(|w| w[&step].1).fold(f64::MAX, f64::min);
    Ok(Steps {
        observed: (plan.facts().steps.iter().enumerate())
            .map(|(i, fact)| (fact.cost, of(i)))
            .collect(),
        total: plan.facts().total,
        busy: sum(|s| s.1) / (rayon::current_num_threads() as f64 * sum(|s| s.0)),
    })
}

/// What a machine's operations were measured to cost, and how the table fits them.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// The table as a file.
    pub file: MachineFile,
    residuals: Vec<Residual>,
}

impl std::fmt::Display for Measurement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{:24} {:>12} {:>12} {:>8}",
            "", "measured ms", "by table", "off"
        )?;
        // steps are many; the file has them all
        let shown = |r: &&Residual| !r.operation.contains(STEP);
        for r in self.residuals.iter().filter(shown) {
            writeln!(
                f,
                "{:24} {:>12.3} {:>12.3} {:>+7.1}%",
                r.operation,
                r.seconds * 1e3,
                r.fitted * 1e3,
                r.relative() * 100.0
            )?;
        }
        let threading = self.file.cost.threading;
        writeln!(
            f,
            "on {} threads: CPU time {:.2} times that of one, cores busy {:.0} % of the wall time",
            threading.threads,
            1.0 / threading.alone,
            threading.busy * 100.0
        )
    }
}

/// Measures this machine's operations on one and on all threads of the caller's pool, medians of so many runs; fitted to the steps of a
/// network with this input too, where one is given.
///
/// # Errors
/// A lack of memory; measurements that no table fits.
pub fn measure(
    runs: usize,
    network: Option<(&nn::PolyGraph, &nn::Tensor)>,
    tell: Listener<'_>,
) -> Result<Measurement> {
    // the machine may become faster or slower meanwhile
    let mut probes = vec![probe()?];
    let timed = Timed::measure(runs, tell)?;
    probes.push(probe()?);
    let mut observations: Vec<Observation> = (timed.operations.iter().zip(&timed.all))
        .map(|((o, cost), t)| Observation {
            operation: o.name.into(),
            cost: *cost,
            seconds: t.cpu,
            weight: o.weight,
        })
        .collect();
    let steps = network
        .map(|(graph, input)| steps(graph, input, tell))
        .transpose()?;
    if let Some(steps) = &steps {
        probes.push(probe()?);
        let all: f64 = steps.observed.iter().map(|s| s.1).sum();
        let numbered = steps.observed.iter().enumerate();
        observations.extend(numbered.map(|(i, &(cost, seconds))| Observation {
            operation: format!("network{STEP}{i}"),
            cost,
            seconds,
            weight: NETWORK_WEIGHT * seconds / all,
        }));
        // adds up what the steps of a run add up to
        observations.push(Observation {
            operation: "network".into(),
            cost: steps.total,
            seconds: all,
            weight: NETWORK_WEIGHT,
        });
    }
    let (table, residuals) = fit(&observations, &MachineCost::default().table)?;
    let (mut threading, quiet) = timed.threading();
    if let Some(steps) = &steps {
        threading.busy = steps.busy.min(1.0);
    }
    if quiet < QUIET {
        threading.busy = MachineCost::default().threading.busy;
        tell.note(format_args!(
            "note: other programs kept this machine busy (one thread ran {:.0} % of the time): CPU times are measured, the ratio of wall to CPU time is the shipped one; measure again when it is quiet",
            quiet * 100.0
        ));
    }
    let cost = MachineCost {
        table,
        threading,
        probe: Probe::median(&probes).ok_or("no probe was taken")?,
    };
    cost.check()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let days = now.map_or(0, |d| d.as_secs() / 86400);
    Ok(Measurement {
        file: MachineFile::new(Origin::here()?, date(days), cost, &residuals),
        residuals,
    })
}

/// Times of single operations, on one and on all threads.
struct Timed {
    operations: Vec<(Operation, Cost)>,
    single: Vec<Reading>,
    all: Vec<Reading>,
    threads: usize,
}

impl Timed {
    fn measure(runs: usize, tell: Listener<'_>) -> Result<Self> {
        let threads = rayon::current_num_threads();
        let p = Parameters::new(ParametersSpec::standard())?;
        let request = workload::keys(&p, &OPERATIONS)?;
        let keys = request.memory(&p);
        tell.note(format_args!(
            "measuring {} operations on {threads} threads; making {} keys, {} in memory",
            OPERATIONS.len(),
            request.0.len(),
            size(keys)
        ));
        // beside the keys: tables and buffers
        require_memory("measuring", keys + (1 << 30), None)?;
        let mut work = Workload::new(&p, &OPERATIONS, &mut rng())?;
        let clock = clock();
        let operations: Vec<_> = work.operations().collect();
        let mut on = |threads: usize| -> Result<Vec<Reading>> {
            let pool = pool(threads)?;
            (0..operations.len())
                .map(|i| {
                    let taken = pool.install(|| workload::time(runs, &clock, || work.run(i)))?;
                    tell.note(format_args!(
                        "  {:24} {threads} threads  cpu {:>10.3} ms  wall {:>10.3} ms",
                        operations[i].0.name,
                        taken.cpu * 1e3,
                        taken.wall * 1e3
                    ));
                    Ok(taken)
                })
                .collect()
        };
        let single = on(1)?;
        let all = match threads {
            1 => single.clone(),
            _ => on(threads)?,
        };
        Ok(Self {
            operations,
            single,
            all,
            threads,
        })
    }

    /// How threads share the machine, and how quiet it was: one thread on a quiet machine has a core for itself.
    fn threading(&self) -> (Threading, f64) {
        let circuits = |f: &dyn Fn(usize) -> f64| {
            let all = (0..self.operations.len()).filter(|&i| self.operations[i].0.is_circuit());
            workload::median(all.map(f))
        };
        let (single, all) = (&self.single, &self.all);
        let threading = Threading {
            threads: self.threads,
            alone: circuits(&|i| single[i].cpu / all[i].cpu),
            busy: circuits(&|i| all[i].cpu / (self.threads as f64 * all[i].wall)).min(1.0),
        };
        (threading, circuits(&|i| single[i].cpu / single[i].wall))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_dates() {
        for (days, want) in [
            (0, "1970-01-01"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_453, "2025-12-31"),
            (20_454, "2026-01-01"),
        ] {
            assert_eq!(date(days), want);
        }
    }
}

//! What one machine takes for the units of work that [`Meter`](ckks::Meter) counts: fitted to measured operations, scaled by a probe.
//!
//! Reading order: [`MachineCost`] (what is predicted with) → [`fit`] (where its table comes from) → [`Probe`] (how it follows the machine).
//! What is measured lies in [`workload`]. Clocks and files are the caller's.

use crate::workload::{self, Probe};
use ckks::keys::KeyName;
use ckks::work::UNITS;
use ckks::{Cost, CostTable, Error, Parameters};
use serde::{Deserialize, Serialize};

/// Which units wait for memory rather than for arithmetic: they stream over operands that do not stay in the caches.
const STREAMING: [bool; UNITS] = [false, true, false, true, false, false];

/// How CPU and wall time follow the number of threads.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Threading {
    /// Threads that the table was measured with, at least 1.
    pub threads: usize,
    /// CPU time of the same work on one thread, relative to these: below 1 where threads share caches, memory or a core.
    pub alone: f64,
    /// Share of these threads' wall time that is CPU time, at most 1: limbs are uneven and some loops are serial.
    pub busy: f64,
}

/// Costs of one machine for rings of N = 2^16.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineCost {
    /// CPU seconds of one unit of each kind of work.
    pub table: CostTable,
    /// How they follow the number of threads.
    pub threading: Threading,
    /// What the probe took when the table was measured.
    pub probe: Probe,
}

impl Default for MachineCost {
    /// The shipped default: [`CostTable::default`], with the probe of the same machine; a measured one takes its place.
    fn default() -> Self {
        Self {
            table: CostTable::default(),
            threading: Threading {
                threads: 2,
                alone: 0.898,
                busy: 0.952,
            },
            probe: Probe {
                reference: 0.1005e-3,
                stream: 3.89e-3,
                key_switch: 6.30e-3,
                fresh: 2.1,
            },
        }
    }
}

impl MachineCost {
    /// Refuses what cannot have been measured: for tables from files.
    ///
    /// # Errors
    /// [`Error::Conformance`] with the entry that is wrong.
    pub fn check(&self) -> Result<(), Error> {
        let refuse = |reason: &str| Err(Error::conformance("cost table", reason));
        // an hour for a unit is no measurement
        let plausible = |x: f64| (0.0..3600.0).contains(&x);
        let units = self.table.units();
        if !units.iter().all(|&x| plausible(x)) || units.iter().all(|&x| x == 0.0) {
            return refuse("a unit's cost is not a time, or all are 0");
        }
        let Threading {
            threads,
            alone,
            busy,
        } = self.threading;
        if threads == 0 || !(0.05..=20.0).contains(&alone) || !(0.01..=1.0).contains(&busy) {
            return refuse("threads must be at least 1, `alone` 0.05 to 20 and `busy` 0.01 to 1");
        }
        let mut probe = self.probe.parts().into_iter().chain([self.probe.fresh]);
        if !probe.all(|x| x > 0.0 && plausible(x)) {
            return refuse("a time of the probe is not positive");
        }
        Ok(())
    }
    /// CPU seconds to get `bytes` of memory from the system.
    pub fn fresh(&self, bytes: u64) -> f64 {
        bytes as f64 * 1e-9 * self.probe.fresh
    }
    /// CPU seconds of one unit of each kind of work on `threads` threads: between one and the measured number by interpolation,
    /// beyond as there.
    pub fn on(&self, threads: usize) -> CostTable {
        let alone = self.threading.alone;
        self.table
            .scaled(alone + (1.0 - alone) * self.crowd(threads))
    }
    /// CPU and wall seconds of making these evaluation keys, each with its limbs.
    pub fn keys(
        &self,
        parameters: &Parameters,
        keys: impl IntoIterator<Item = (KeyName, usize)>,
        threads: usize,
    ) -> (f64, f64) {
        let keys = keys.into_iter();
        let work = keys.map(|(name, limit)| ckks::work::key(parameters, name, limit));
        let cpu = work
            .fold(Cost::default(), Cost::plus)
            .seconds(&self.on(threads).for_ring(parameters.spec().log_n));
        (cpu, self.wall(cpu, threads))
    }
    /// Wall seconds of so many CPU seconds on `threads` quiet cores.
    pub fn wall(&self, cpu_seconds: f64, threads: usize) -> f64 {
        let busy = 1.0 - (1.0 - self.threading.busy) * self.crowd(threads);
        cpu_seconds / (threads.max(1) as f64 * busy)
    }
    /// 0 for one thread, 1 for the measured number and more.
    fn crowd(&self, threads: usize) -> f64 {
        let most = self.threading.threads.max(2) as f64 - 1.0;
        (threads.max(1) as f64 - 1.0).min(most) / most
    }
    /// The same costs on a machine that is as fast as `now` says, and by how much they were scaled.
    ///
    /// Kinds of work that stream over memory follow the geometric mean of the stream and the key switch (arithmetic and caches, as in
    /// a run), the others that of the reference loop (pure arithmetic) and the key switch. Each ratio is held to `trust`.
    #[must_use]
    pub fn scaled_by(&self, now: &Probe, trust: Trust) -> (Self, Ratios) {
        let (least, most) = trust.bounds();
        let [reference, stream, key_switch] = {
            let then = self.probe.parts();
            let now = now.parts();
            std::array::from_fn(|i| now[i] / then[i])
        };
        let hold = |x: f64| {
            if x.is_finite() {
                x.clamp(least, most)
            } else {
                1.0
            }
        };
        let ratios = Ratios {
            compute: hold((reference * key_switch).sqrt()),
            memory: hold((stream * key_switch).sqrt()),
        };
        let mut units = self.table.units();
        for (unit, streams) in units.iter_mut().zip(STREAMING) {
            *unit *= if streams {
                ratios.memory
            } else {
                ratios.compute
            };
        }
        let scaled = Self {
            table: units.into(),
            probe: *now,
            ..*self
        };
        (scaled, ratios)
    }
}

/// How far a probe may move a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The table was measured on this machine: ½ to 4 times, for clocks that change and neighbours.
    SameMachine,
    /// It was measured on another: 1/16 to 16 times, from the fastest processor to one without vector instructions.
    OtherMachine,
}

impl Trust {
    const fn bounds(self) -> (f64, f64) {
        match self {
            Self::SameMachine => (0.5, 4.0),
            Self::OtherMachine => (1.0 / 16.0, 16.0),
        }
    }
}

/// By how much a probe scaled a table.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ratios {
    /// Arithmetic.
    pub compute: f64,
    /// Streams over memory.
    pub memory: f64,
}

/// An operation whose work is counted and whose time was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// Its name, for the report.
    pub operation: String,
    /// Its work, counted.
    pub cost: Cost,
    /// Its CPU seconds.
    pub seconds: f64,
    /// How much it counts beside the others.
    pub weight: f64,
}

/// An operation under a fitted table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Residual {
    /// Its name.
    pub operation: String,
    /// CPU seconds, measured.
    pub seconds: f64,
    /// CPU seconds by the table.
    pub fitted: f64,
}

impl Residual {
    /// By how much the table is wrong, relative to the measurement.
    pub fn relative(&self) -> f64 {
        self.fitted / self.seconds - 1.0
    }
}

/// What counting leaves out of an operation's time (relative).
const OBSERVATION_DEVIATION: f64 = 0.03;
/// How far a unit's cost may lie from the prior's, once that is scaled as a whole (relative).
const PRIOR_DEVIATION: f64 = 0.5;

/// The table that explains the observations best.
///
/// The maximum a posteriori: Σ_i w_i·(fitted_i/measured_i − 1)²/σ² + Σ_j (unit_j/(s·prior_j) − 1)²/τ² is least over units ≥ 0, with
/// σ = 3 %, τ = 50 %, s the median of the observations relative to the prior; solved by coordinate descent.
///
/// # Errors
/// Without observations, or where a time, a count or a unit of the prior is not positive and finite.
pub fn fit(
    observations: &[Observation],
    prior: &CostTable,
) -> Result<(CostTable, Vec<Residual>), Error> {
    let refuse = |reason: String| Error::conformance("cost table", reason);
    let prior = prior.units();
    if observations.is_empty() || !prior.iter().all(|&x| x > 0.0 && x.is_finite()) {
        return Err(refuse(
            "a fit needs operations and a prior with positive costs".into(),
        ));
    }
    for o in observations {
        let counts = o.cost.units();
        let fine = |x: f64| x >= 0.0 && x.is_finite();
        let measured = o.seconds > 0.0 && fine(o.seconds) && fine(o.weight);
        let counted = counts.iter().all(|&c| fine(c)) && counts.iter().any(|&c| c > 0.0);
        if !measured || !counted {
            return Err(refuse(format!(
                "`{}` was not measured: {} s",
                o.operation, o.seconds
            )));
        }
    }
    let under = |o: &Observation, units: &[f64; UNITS]| -> f64 {
        o.cost.units().iter().zip(units).map(|(c, u)| c * u).sum()
    };
    let ratios = observations.iter().map(|o| o.seconds / under(o, &prior));
    let scale = workload::median(ratios);
    // shares[j]: of an operation's measured time, what unit j explains at the scaled prior
    let rows: Vec<(f64, [f64; UNITS])> = observations
        .iter()
        .map(|o| {
            let counts = o.cost.units();
            let shares = std::array::from_fn(|j| counts[j] * prior[j] * scale / o.seconds);
            (o.weight, shares)
        })
        .collect();
    let ridge = (OBSERVATION_DEVIATION / PRIOR_DEVIATION).powi(2);
    let mut matrix = [[0.0; UNITS]; UNITS];
    let mut target = [0.0; UNITS];
    for (weight, shares) in &rows {
        for j in 0..UNITS {
            target[j] += weight * shares[j];
            for k in 0..UNITS {
                matrix[j][k] += weight * shares[j] * shares[k];
            }
        }
    }
    for j in 0..UNITS {
        matrix[j][j] += ridge;
        target[j] += ridge;
    }
    // strictly convex, so the descent converges to the one minimum
    let mut factor = [1.0; UNITS];
    for _ in 0..100_000 {
        let mut moved = 0.0f64;
        for j in 0..UNITS {
            let others: f64 = (0..UNITS)
                .filter(|&k| k != j)
                .map(|k| matrix[j][k] * factor[k])
                .sum();
            let best = ((target[j] - others) / matrix[j][j]).max(0.0);
            moved = moved.max((best - factor[j]).abs());
            factor[j] = best;
        }
        if moved < 1e-13 {
            break;
        }
    }
    let fitted: [f64; UNITS] = std::array::from_fn(|j| prior[j] * scale * factor[j]);
    let residuals = observations
        .iter()
        .map(|o| Residual {
            operation: o.operation.clone(),
            seconds: o.seconds,
            fitted: under(o, &fitted),
        })
        .collect();
    Ok((fitted.into(), residuals))
}

/// Names the counts that a table was fitted to: a table is for one meter only.
///
/// The CRC-32 of what the meter counts for the workload on a small ring, so that no change of the counts is forgotten.
///
/// # Errors
/// If the workload does not run on the toy ring, which a test excludes.
pub fn meter_version() -> Result<String, Error> {
    let mut text = String::new();
    for cost in workload::counted(&workload::fingerprint_parameters()?)? {
        for count in cost.units() {
            text += &format!("{count:.3} ");
        }
    }
    Ok(format!("{:08x}", crc32fast::hash(text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(had: &CostTable, want: &CostTable, within: f64) {
        for (h, w) in had.units().iter().zip(want.units()) {
            assert!((h / w - 1.0).abs() < within, "{had:?}\n{want:?}");
        }
    }

    /// Operations of the workload with times by a known table.
    fn observed(truth: &CostTable, disturb: impl Fn(usize) -> f64) -> Vec<Observation> {
        let p = workload::fingerprint_parameters().expect("valid");
        workload::counted(&p)
            .expect("runs")
            .into_iter()
            .enumerate()
            .map(|(i, cost)| Observation {
                operation: format!("operation {i}"),
                cost,
                seconds: cost.seconds(truth) * disturb(i),
                weight: 1.0,
            })
            .collect()
    }

    #[test]
    fn a_fit_recovers_the_table_that_made_the_times() {
        let truth = CostTable {
            ntt: 0.5e-3,
            multiply_add: 50e-6,
            conversion: 20e-6,
            pass: 120e-6,
            expansion: 100e-6,
            encode: 3e-9,
        };
        let (table, residuals) =
            fit(&observed(&truth, |_| 1.0), &CostTable::default()).expect("fits");
        close(&table, &truth, 0.05);
        assert!(
            residuals.iter().all(|r| r.relative().abs() < 0.01),
            "{residuals:?}"
        );
        // times that counting explains to 3 % only
        let noisy = observed(&truth, |i| 1.0 + 0.03 * [1.0, -1.0, 0.5, -0.7, 0.2][i % 5]);
        let (table, residuals) = fit(&noisy, &CostTable::default()).expect("fits");
        close(&table, &truth, 0.3);
        assert!(
            residuals.iter().all(|r| r.relative().abs() < 0.05),
            "{residuals:?}"
        );
    }

    #[test]
    fn what_is_not_observed_follows_the_prior_and_nothing_is_negative() {
        let ntts = Observation {
            operation: "transforms".into(),
            cost: Cost {
                ntts: 10.0,
                ..Cost::default()
            },
            seconds: 30.0 * CostTable::default().ntt,
            weight: 1.0,
        };
        let (table, _) = fit(std::slice::from_ref(&ntts), &CostTable::default()).expect("fits");
        close(&table, &CostTable::default().scaled(3.0), 1e-9);
        // less time with passes than without: they would have to cost less than nothing
        let both = Observation {
            operation: "transforms and passes".into(),
            cost: Cost {
                passes: 100.0,
                ..ntts.cost
            },
            seconds: 0.7 * ntts.seconds,
            weight: 1.0,
        };
        let (table, residuals) = fit(&[ntts, both], &CostTable::default()).expect("fits");
        assert!(table.units().iter().all(|&u| u >= 0.0), "{table:?}");
        assert!(
            residuals.iter().any(|r| r.relative().abs() > 0.05),
            "{residuals:?}"
        );
    }

    #[test]
    fn fits_without_measurements_are_refused() {
        let prior = CostTable::default();
        assert!(fit(&[], &prior).is_err());
        let mut o = observed(&prior, |_| 1.0);
        o[3].seconds = 0.0;
        let message = fit(&o, &prior).expect_err("no time").to_string();
        assert!(message.contains("operation 3"), "{message}");
        assert!(fit(&observed(&prior, |_| 1.0), &prior.scaled(0.0)).is_err());
    }

    #[test]
    fn probes_scale_arithmetic_and_streams_apart() {
        let machine = MachineCost::default();
        let Probe {
            reference,
            stream,
            key_switch,
            fresh,
        } = machine.probe;
        let (same, ratios) = machine.scaled_by(&machine.probe, Trust::SameMachine);
        assert_eq!((same, ratios.compute, ratios.memory), (machine, 1.0, 1.0));
        let now = Probe {
            reference: 2.0 * reference,
            stream: 3.125 * stream,
            key_switch: 1.125 * key_switch,
            fresh: 0.1 * fresh,
        };
        let (scaled, ratios) = machine.scaled_by(&now, Trust::SameMachine);
        assert!((ratios.compute - 1.5).abs() < 1e-12 && (ratios.memory - 1.875).abs() < 1e-12);
        let expected = CostTable {
            multiply_add: 1.875 * machine.table.multiply_add,
            pass: 1.875 * machine.table.pass,
            ..machine.table.scaled(1.5)
        };
        close(&scaled.table, &expected, 1e-12);
        // fresh memory costs what the probe saw, whatever the table's machine took
        let gigabytes = scaled.fresh(3_000_000_000) / (0.3 * fresh);
        assert!((gigabytes - 1.0).abs() < 1e-12);
        // scaling back by the old probe gives the old table
        close(
            &scaled
                .scaled_by(&machine.probe, Trust::OtherMachine)
                .0
                .table,
            &machine.table,
            1e-12,
        );
        for (factor, trust, want) in [
            (1000.0, Trust::SameMachine, 4.0),
            (0.001, Trust::SameMachine, 0.5),
            (8.0, Trust::OtherMachine, 8.0),
            (1000.0, Trust::OtherMachine, 16.0),
        ] {
            let now = Probe {
                reference: factor * reference,
                stream: factor * stream,
                key_switch: factor * key_switch,
                fresh,
            };
            let (_, ratios) = machine.scaled_by(&now, trust);
            assert!(
                (ratios.compute / want - 1.0).abs() < 1e-12
                    && (ratios.memory / want - 1.0).abs() < 1e-12,
                "{factor} {trust:?} {ratios:?}"
            );
        }
    }

    #[test]
    fn the_middle_of_some_probes_is_taken_by_loop() {
        let probe = |reference, stream| Probe {
            reference,
            stream,
            key_switch: 1.0,
            fresh: 2.0,
        };
        let probes = [probe(3.0, 1.0), probe(1.0, 2.0), probe(2.0, 9.0)];
        assert_eq!(Probe::median(&probes), Some(probe(2.0, 2.0)));
        assert_eq!(Probe::median(&[]), None);
    }

    #[test]
    fn threads_change_cpu_and_wall_time() {
        let machine = MachineCost {
            threading: Threading {
                threads: 3,
                alone: 0.8,
                busy: 0.9,
            },
            ..MachineCost::default()
        };
        let ntt = |threads| machine.on(threads).ntt / machine.table.ntt;
        assert!((ntt(1) - 0.8).abs() < 1e-12 && (ntt(2) - 0.9).abs() < 1e-12);
        assert!((ntt(3) - 1.0).abs() < 1e-12 && (ntt(64) - 1.0).abs() < 1e-12);
        assert_eq!(machine.wall(10.0, 1), 10.0);
        assert!((machine.wall(10.0, 3) - 10.0 / 2.7).abs() < 1e-12);
        assert!((machine.wall(10.0, 2) - 10.0 / 1.9).abs() < 1e-12);
    }

    #[test]
    fn tables_that_nobody_measured_are_refused() {
        let good = MachineCost::default();
        good.check().expect("the shipped one");
        let mut bad = [good; 7];
        bad[0].table.ntt = f64::NAN;
        bad[1].table.pass = -1e-6;
        bad[2].table = good.table.scaled(0.0);
        bad[3].threading.threads = 0;
        bad[4].threading.busy = 1.5;
        bad[5].probe.stream = 0.0;
        bad[6].probe.fresh = f64::INFINITY;
        for machine in bad {
            assert!(machine.check().is_err(), "{machine:?}");
        }
    }

    #[test]
    fn the_meter_has_a_version() {
        let version = meter_version().expect("runs");
        assert_eq!((version.len(), meter_version()), (8, Ok(version)));
    }
}

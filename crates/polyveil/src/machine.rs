//! The cost table of this machine: found, probed, announced before a run; measured and saved by `bench --save`.

use crate::commands::{atomically, prediction, rng};
use crate::demo;
use crate::network::named;
use crate::terminal::{duration, note};
use crate::{Embedded, Result};
use ckks::machine_cost::{MachineCost, Observation, Probe, Threading, Trust, fit};
use ckks::workload::{self, OPERATIONS, Reading, Workload};
use ckks::{Parameters, ParametersSpec};
use clap::Args;
use runtime::machine::{cpu_seconds, require_memory};
use runtime::machine_file::{MACHINE_FILE_LIMIT, MachineFile, Origin};
use runtime::placement::READ_RATE;
use runtime::{Basis, Placement, Prediction, VerifiedPlan, size};
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Options of every command that predicts.
#[derive(Args, Debug, Default)]
pub struct PredictionArgs {
    /// Cost table of this machine (`bench --save` writes it), or `shipped` [default: POLYVEIL_MACHINE, else
    /// polyveil/machine.json in the user's configuration folder, else the shipped one].
    #[arg(long, value_name = "FILE")]
    machine: Option<PathBuf>,
    /// Predict from the table as it is: without the probe, the same input gives the same prediction.
    #[arg(long)]
    no_probe: bool,
    /// Write the prediction as JSON, before anything runs.
    #[arg(long, value_name = "FILE")]
    prediction: Option<PathBuf>,
}

/// Where the table lies.
#[derive(Debug, PartialEq)]
enum Place {
    Shipped,
    /// Asked for: it must be there.
    Asked(PathBuf),
    /// The user's own, if there is one.
    Usual(PathBuf),
}

/// From the option and the environment; a relative configuration folder is none, by the XDG base directory specification.
fn place(option: Option<&Path>, variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Place {
    let set = |name: &str| variable(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(asked) = option
        .map(Path::to_path_buf)
        .or_else(|| set("POLYVEIL_MACHINE"))
    {
        return if asked.as_os_str() == "shipped" {
            Place::Shipped
        } else {
            Place::Asked(asked)
        };
    }
    let absolute = |p: PathBuf| p.is_absolute().then_some(p);
    set("XDG_CONFIG_HOME")
        .and_then(absolute)
        .or_else(|| set("HOME").and_then(absolute).map(|h| h.join(".config")))
        .map_or(Place::Shipped, |folder| {
            Place::Usual(folder.join("polyveil").join("machine.json"))
        })
}

/// The costs to plan and to predict with, before any probe.
#[derive(Clone, Debug)]
pub struct Machine {
    pub cost: MachineCost,
    source: String,
    trust: Trust,
}

impl Machine {
    fn shipped() -> Self {
        Self {
            cost: MachineCost::default(),
            source: "shipped with the program".into(),
            trust: Trust::OtherMachine,
        }
    }
    /// The table that these options name.
    pub fn load(a: &PredictionArgs) -> Result<Self> {
        Self::open(a.machine.as_deref())
    }
    /// The table of this name, or the usual one.
    pub fn open(name: Option<&Path>) -> Result<Self> {
        let (path, asked) = match place(name, |v| std::env::var_os(v)) {
            Place::Shipped => return Ok(Self::shipped()),
            Place::Asked(path) => (path, true),
            Place::Usual(path) => (path, false),
        };
        let file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(e) if !asked && e.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::shipped());
            }
            Err(e) => {
                return Err(format!(
                    "{}: {e}; `polyveil bench --save` measures a cost table, `--machine shipped` does without",
                    path.display()
                )
                .into());
            }
        };
        let mut bytes = Vec::new();
        file.take(MACHINE_FILE_LIMIT + 1)
            .read_to_end(&mut bytes)
            .map_err(named(&path))?;
        let name = path.display().to_string();
        let file = MachineFile::read(&bytes, &name)?;
        if let Some(why) = file.stale(&Origin::here()?) {
            note(format_args!(
                "note: {name} is left aside ({why}): using the shipped cost table; measure again with `polyveil bench --save`"
            ));
            return Ok(Self::shipped());
        }
        Ok(Self {
            cost: file.cost,
            source: format!("{name}, measured {}", file.date),
            trust: Trust::SameMachine,
        })
    }
    /// The costs as they are.
    pub fn basis(&self) -> Basis {
        Basis {
            source: self.source.clone(),
            cost: self.cost,
            scaled: None,
        }
    }
    /// The costs now.
    fn probed(&self) -> Result<Basis> {
        let now = probe()?;
        let (cost, ratios) = self.cost.scaled_by(&now, self.trust);
        Ok(Basis {
            source: self.source.clone(),
            cost,
            scaled: Some(ratios),
        })
    }
    /// Probes, then prints and stores what the run will cost, with some keys on disk where there is a placement. Nothing changes
    /// it afterwards.
    pub fn announce(
        &self,
        a: &PredictionArgs,
        plan: &VerifiedPlan,
        placement: Option<&Placement>,
        threads: usize,
    ) -> Result<Prediction> {
        let basis = if a.no_probe {
            self.basis()
        } else {
            self.probed()?
        };
        let mut made = Prediction::new(plan, basis, threads);
        if let Some(placement) = placement {
            made = made.with_keys_on_disk(placement);
        }
        eprint!("{}", prediction(plan, &made));
        if let Some(p) = placement {
            note(format_args!(
                "keys on disk: {} of {} stay in memory, the others are read {} times, {} in all, for about {} more (at an assumed {}/s, checksums included)",
                p.kept.len(),
                plan.facts().keys.0.len(),
                p.reads,
                size(p.read_bytes),
                duration(p.seconds()),
                size(READ_RATE as u64)
            ));
        }
        if let Some(path) = &a.prediction {
            std::fs::write(path, made.to_json() + "\n").map_err(named(path))?;
        }
        Ok(made)
    }
}

/// What a prediction rests on, in a line.
pub fn basis(b: &Basis) -> String {
    match b.scaled {
        Some(r) => format!(
            "cost table: {}, scaled by a probe: arithmetic × {:.2}, memory × {:.2}",
            b.source, r.compute, r.memory
        ),
        None => format!("cost table: {}", b.source),
    }
}

fn pool(threads: usize) -> Result<rayon::ThreadPool> {
    Ok(rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()?)
}

fn alone() -> Result<rayon::ThreadPool> {
    pool(1)
}

fn probe() -> Result<Probe> {
    Ok(alone()?.install(|| workload::probe(&cpu_seconds, &mut rng()))?)
}

/// Options of `bench --save`.
#[derive(Args, Debug)]
pub struct SaveArgs {
    /// Measure this machine's cost table (half a minute), and keep it where predictions look for it.
    #[arg(long, conflicts_with_all = ["quick", "only", "log_slots", "targets"])]
    save: bool,
    /// With --save: fit it to the embedded network's steps too, which are what deep networks do (two minutes and 6 GB).
    #[arg(long, requires = "save")]
    with_network: bool,
    /// With --save: where the table goes [default: POLYVEIL_MACHINE, else polyveil/machine.json in the user's configuration
    /// folder].
    #[arg(long, value_name = "FILE", requires = "save")]
    machine: Option<PathBuf>,
}

impl SaveArgs {
    pub fn asked(&self) -> bool {
        self.save
    }
}

/// Days since 1970 as year-month-day, by the Gregorian calendar.
fn date(days: u64) -> String {
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let (mut year, mut day) = (1970, days);
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [
        31,
        28 + u64::from(leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    format!("{year:04}-{:02}-{:02}", month + 1, day + 1)
}

/// The upper one of an even number.
fn median(mut v: Vec<f64>) -> f64 {
    v.sort_by(f64::total_cmp);
    v[v.len() / 2]
}

/// Begins a step's number in the name of its observation.
const STEP: &str = ", step ";
/// Runs of the embedded network that a table is fitted to.
const NETWORK_RUNS: usize = 3;
/// How much they count beside the single operations, by step and in all.
const NETWORK_WEIGHT: f64 = 15.0;
/// Share of the wall time that a thread runs at least, on a machine that has nothing else to do.
const QUIET: f64 = 0.95;

/// Measures this machine and writes its cost table.
pub fn save(
    a: &SaveArgs,
    runs: usize,
    json: bool,
    threads: usize,
    embedded: Embedded,
) -> Result<()> {
    let path = match place(a.machine.as_deref(), |v| std::env::var_os(v)) {
        Place::Asked(path) | Place::Usual(path) => path,
        Place::Shipped => {
            return Err("the cost table has no place: neither XDG_CONFIG_HOME nor HOME is set; say where with --machine FILE".into());
        }
    };
    let p = Parameters::new(ParametersSpec::standard())?;
    let request = workload::keys(&p, &OPERATIONS)?;
    let keys: u64 = request
        .0
        .iter()
        .map(|(&key, &limit)| ckks::SwitchingKey::bytes_for(&p, key, limit))
        .sum();
    note(format_args!(
        "measuring {} operations on {threads} threads; making {} keys, {} in memory",
        OPERATIONS.len(),
        request.0.len(),
        size(keys)
    ));
    // beside the keys: tables and buffers
    require_memory("measuring", keys + (1 << 30), None)?;
    // the machine may become faster or slower meanwhile
    let mut probes = vec![probe()?];
    let mut work = Workload::new(&p, &OPERATIONS, &mut rng())?;
    let start = Instant::now();
    let clock = || Reading {
        cpu: cpu_seconds(),
        wall: start.elapsed().as_secs_f64(),
    };
    let listed: Vec<_> = work.operations().collect();
    let mut on = |threads: usize| -> Result<Vec<Reading>> {
        pool(threads)?.install(|| {
            (0..listed.len())
                .map(|i| {
                    let taken = workload::time(runs, &clock, || work.run(i))?;
                    note(format_args!(
                        "  {:24} {threads} threads  cpu {:>10.3} ms  wall {:>10.3} ms",
                        listed[i].0.name,
                        taken.cpu * 1e3,
                        taken.wall * 1e3
                    ));
                    Ok(taken)
                })
                .collect()
        })
    };
    let single = on(1)?;
    let all = if threads > 1 {
        on(threads)?
    } else {
        single.clone()
    };
    drop(work);
    probes.push(probe()?);
    let mut observations: Vec<Observation> = listed
        .iter()
        .zip(&all)
        .map(|((o, cost), t)| Observation {
            operation: o.name.into(),
            cost: *cost,
            seconds: t.cpu,
            weight: o.weight,
        })
        .collect();
    let network = if a.with_network {
        Some(demo::steps(threads, NETWORK_RUNS, embedded)?)
    } else {
        None
    };
    if let Some(steps) = &network {
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
    let circuits = |f: &dyn Fn(usize) -> f64| {
        median(
            (0..listed.len())
                .filter(|&i| listed[i].0.is_circuit())
                .map(f)
                .collect(),
        )
    };
    // one thread on a quiet machine has a core for itself
    let quiet = circuits(&|i| single[i].cpu / single[i].wall);
    let mut threading = Threading {
        threads,
        alone: circuits(&|i| single[i].cpu / all[i].cpu),
        busy: circuits(&|i| all[i].cpu / (threads as f64 * all[i].wall)).min(1.0),
    };
    if let Some(steps) = &network {
        threading.busy = steps.busy.min(1.0);
    }
    if quiet < QUIET {
        threading.busy = MachineCost::default().threading.busy;
        note(format_args!(
            "note: other programs kept this machine busy (one thread ran {:.0} % of the time): CPU times are measured, the ratio of wall to CPU time is the shipped one; measure again when it is quiet",
            quiet * 100.0
        ));
    }
    let cost = MachineCost {
        table,
        threading,
        probe: Probe::median(&probes).expect("one was taken"),
    };
    cost.check()?;
    let mut text = String::new();
    writeln!(
        text,
        "{:24} {:>12} {:>12} {:>8}",
        "", "measured ms", "by table", "off"
    )?;
    // steps are many; the file has them all
    for r in residuals.iter().filter(|r| !r.operation.contains(STEP)) {
        writeln!(
            text,
            "{:24} {:>12.3} {:>12.3} {:>+7.1}%",
            r.operation,
            r.seconds * 1e3,
            r.fitted * 1e3,
            r.relative() * 100.0
        )?;
    }
    eprint!("{text}");
    note(format_args!(
        "on {threads} threads: CPU time {:.2} times that of one, cores busy {:.0} % of the wall time",
        1.0 / threading.alone,
        threading.busy * 100.0
    ));
    let days = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() / 86400;
    let file = MachineFile::new(Origin::here()?, date(days), cost, &residuals);
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(named(folder))?;
    }
    atomically(&path, 0o644, |mut out, _| {
        out.write_all(file.to_json().as_bytes())?;
        Ok(out.flush()?)
    })?;
    note(format_args!("wrote {}", path.display()));
    if json {
        print!("{}", file.to_json());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_looked_for_where_the_user_says() {
        let from = |option: Option<&str>, set: &[(&str, &str)]| {
            place(option.map(Path::new), |name| {
                let found = set.iter().find(|(n, _)| *n == name)?;
                Some(found.1.into())
            })
        };
        let home = ("HOME", "/home/ada");
        assert_eq!(
            from(None, &[home]),
            Place::Usual("/home/ada/.config/polyveil/machine.json".into())
        );
        assert_eq!(
            from(None, &[home, ("XDG_CONFIG_HOME", "/etc/ada")]),
            Place::Usual("/etc/ada/polyveil/machine.json".into())
        );
        for none in ["", "relative"] {
            assert_eq!(
                from(None, &[home, ("XDG_CONFIG_HOME", none)]),
                from(None, &[home])
            );
        }
        let variable = ("POLYVEIL_MACHINE", "here.json");
        assert_eq!(
            from(None, &[home, variable]),
            Place::Asked("here.json".into())
        );
        assert_eq!(
            from(Some("there.json"), &[home, variable]),
            Place::Asked("there.json".into())
        );
        assert_eq!(from(Some("shipped"), &[home, variable]), Place::Shipped);
        assert_eq!(from(None, &[]), Place::Shipped);
    }

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

//! bench: what the engine does on this machine.

use crate::Result;
use crate::commands::rng;
use crate::machine::{self, SaveArgs};
use crate::terminal::note;
use ckks::workload::{self, CIRCUITS, Reading, Reference, Subjects, circuit, random};
use ckks::{
    Arithmetic, Bootstrap, Ciphertext, Complex64, Evaluator, KeyRequest, Level, Meter, Parameters,
    ParametersSpec, SecretKey,
};
use clap::Args;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use runtime::machine::{cpu_seconds, peak_bytes};
use serde_json::{Map, Value, json};
use std::time::Instant;

/// Options of `bench`.
#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    /// An insecure toy ring: everything in seconds.
    #[arg(long)]
    quick: bool,
    /// Print an array of JSON objects on stdout.
    #[arg(long)]
    json: bool,
    /// Only rows whose name contains this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Runs per row; the median is reported.
    #[arg(long, default_value_t = 7, value_name = "N")]
    runs: usize,
    /// Bootstraps per row for the time.
    #[arg(long, default_value_t = 2, value_name = "N")]
    bootstrap_runs: usize,
    /// Random seeds per class of inputs for the bootstrap's precision.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seeds: u64,
    /// Slot counts of the bootstraps, as log2, separated by commas [default: the ring's full count].
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    log_slots: Vec<u32>,
    #[command(flatten)]
    save: SaveArgs,
}

/// A row's numbers.
struct Row {
    name: String,
    n: usize,
    limbs: usize,
    threads: usize,
    cpu_ms: f64,
    wall_ms: f64,
    runs: usize,
    more: Map<String, Value>,
}

impl Row {
    fn json(&self) -> Value {
        let mut object = json!({ "name": self.name, "n": self.n, "limbs": self.limbs, "threads": self.threads, "cpu_ms": self.cpu_ms, "wall_ms": self.wall_ms, "runs": self.runs, "backend": ring::backend().name() });
        if let Some(o) = object.as_object_mut() {
            o.extend(self.more.clone());
        }
        object
    }
    fn text(&self) -> String {
        let more: String = self
            .more
            .iter()
            .map(|(k, v)| {
                format!(
                    "  {k} {}",
                    v.as_f64().map_or_else(
                        || v.to_string(),
                        |f| if f.fract() == 0.0 {
                            format!("{f:.0}")
                        } else {
                            format!("{f:.2}")
                        }
                    )
                )
            })
            .collect();
        format!(
            "{:24} {:>3} limbs  {} threads  cpu {:>10.3} ms  wall {:>10.3} ms  ({} runs){more}",
            self.name, self.limbs, self.threads, self.cpu_ms, self.wall_ms, self.runs
        )
    }
}

/// Medians of (CPU, wall) milliseconds of one call.
fn time(runs: usize, call: impl FnMut() -> Result<()>) -> Result<(f64, f64)> {
    let start = Instant::now();
    let clock = || Reading {
        cpu: cpu_seconds(),
        wall: start.elapsed().as_secs_f64(),
    };
    let taken = workload::time(runs, &clock, call)?;
    Ok((taken.cpu * 1e3, taken.wall * 1e3))
}

pub(crate) fn bench(a: &BenchArgs, threads: usize) -> Result<()> {
    if a.save.asked() {
        return machine::save(&a.save, a.runs, a.json, threads);
    }
    let spec = if a.quick {
        ParametersSpec::toy(11)
    } else {
        ParametersSpec::standard()
    };
    let p = Parameters::new(spec)?;
    let name = |row: &str| format!("{row} 2^{}", p.spec().log_n);
    let wanted = |name: &str| a.only.as_ref().is_none_or(|o| name.contains(o.as_str()));
    note(format_args!("kernels: {}", ring::backend()));
    let mut rows: Vec<Row> = Vec::new();
    let mut counts = vec![1];
    if threads > 1 {
        counts.push(threads);
    }
    let show = |rows: &mut Vec<Row>, row: Row| {
        note(row.text());
        rows.push(row);
    };
    let plain_row =
        |name: String, limbs: usize, threads: usize, (cpu_ms, wall_ms): (f64, f64), runs: usize| {
            Row {
                name,
                n: p.n(),
                limbs,
                threads,
                cpu_ms,
                wall_ms,
                runs,
                more: Map::new(),
            }
        };
    if wanted("reference") {
        let mut reference = Reference::default();
        let t = time(a.runs, || {
            reference.run();
            Ok(())
        })?;
        show(
            &mut rows,
            Row {
                n: ring::reference::WORDS,
                ..plain_row("reference".into(), 1, 1, t, a.runs)
            },
        );
    }
    if wanted(&name("ntt")) {
        let mut limb: Vec<u64> = (0..p.n() as u64).collect();
        let t = time(a.runs, || {
            p.ring().ntt(0).forward(&mut limb);
            Ok(())
        })?;
        show(&mut rows, plain_row(name("ntt"), 1, 1, t, a.runs));
    }
    let mut rng_fixed = ChaCha20Rng::seed_from_u64(1);
    let full = p.max_slots();
    let subjects = Subjects::new(full, &mut rng_fixed)?;
    let level = p.residual();
    let log_slots = if a.log_slots.is_empty() {
        vec![full.ilog2()]
    } else {
        a.log_slots.clone()
    };
    let chosen: Vec<&str> = CIRCUITS.into_iter().filter(|r| wanted(&name(r))).collect();
    let bootstraps: Vec<Bootstrap> = if wanted(&name("bootstrap")) {
        log_slots
            .iter()
            .map(|&l| Bootstrap {
                slots: 1usize << l.min(full.ilog2()),
                target: level.index(),
                gain: 2.0,
            })
            .collect()
    } else {
        Vec::new()
    };
    if !chosen.is_empty() || !bootstraps.is_empty() {
        let meter = Meter::new(&p);
        for row in &chosen {
            circuit(&meter, row, &meter.input(level, full, 1.0)?, &subjects)?;
        }
        for b in &bootstraps {
            meter.bootstrap(&meter.input(Level::new(0), b.slots, 0.5)?, b)?;
        }
        let request: KeyRequest = meter.keys();
        note(format_args!(
            "making {} keys, {}",
            request.0.len(),
            runtime::size(request.bytes(&p))
        ));
        let secret = SecretKey::generate(&p, &mut rng())?;
        let evaluator = Evaluator::new(&p, secret.evaluation_keys(&request, &mut rng())?)?;
        let x = secret
            .encrypt(&random(full, &mut rng_fixed), level, &mut rng())?
            .expand(&p);
        for &t in &counts {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(t).build()?;
            pool.install(|| -> Result<()> {
                for row in &chosen {
                    let taken = time(a.runs, || Ok(circuit(&evaluator, row, &x, &subjects)?))?;
                    show(
                        &mut rows,
                        plain_row(name(row), p.limbs(level).len(), t, taken, a.runs),
                    );
                }
                for b in &bootstraps {
                    let row = bootstrap_row(&p, &secret, &evaluator, b, t, a)?;
                    show(
                        &mut rows,
                        Row {
                            name: name("bootstrap"),
                            ..row
                        },
                    );
                }
                Ok(())
            })?;
        }
    }
    if rows.is_empty() {
        return Err(format!(
            "no row is called like {:?}; rows: reference, ntt, {}, bootstrap",
            a.only.as_deref().unwrap_or(""),
            CIRCUITS.join(", ")
        )
        .into());
    }
    if a.json {
        println!("{:#}", Value::Array(rows.iter().map(Row::json).collect()));
    }
    Ok(())
}

/// Classes of inputs for the precision, each with |x| ≤ 1: see docs/benchmarks.md.
fn inputs(slots: usize, seed: u64) -> [(&'static str, Vec<Complex64>); 5] {
    let mut rng = ChaCha20Rng::seed_from_u64(0xb007 + seed);
    let one = Complex64::new(1.0, 0.0);
    let zero = Complex64::new(0.0, 0.0);
    let chosen = rng.next_u64() as usize % slots;
    let block = (slots / 16).max(1);
    let values = random(block, &mut rng);
    [
        ("uniform", random(slots, &mut rng)),
        ("ones", vec![one; slots]),
        ("minus_ones", vec![-one; slots]),
        (
            "one_slot",
            (0..slots)
                .map(|j| if j == chosen { one } else { zero })
                .collect(),
        ),
        ("blocks", (0..slots).map(|j| values[j % block]).collect()),
    ]
}

fn bootstrap_row(
    p: &Parameters,
    secret: &SecretKey,
    evaluator: &Evaluator,
    b: &Bootstrap,
    threads: usize,
    a: &BenchArgs,
) -> Result<Row> {
    let encrypt = |v: &[Complex64]| -> Result<Ciphertext> {
        // |x| ≤ 1 is stored as x/2; the gain of 2 brings it back
        let half: Vec<Complex64> = v.iter().map(|z| z / 2.0).collect();
        Ok(secret.encrypt(&half, Level::new(0), &mut rng())?.expand(p))
    };
    let (mut worst, mut mean) = (f64::INFINITY, f64::INFINITY);
    let mut by_class = Map::new();
    let mut left = 0;
    for seed in 0..a.seeds.max(1) {
        for (class, v) in inputs(b.slots, seed) {
            let y = evaluator.bootstrap(&encrypt(&v)?, b)?;
            left = y.level().index();
            let had = secret.decrypt(&y)?;
            let errors: Vec<f64> = v
                .iter()
                .zip(&had)
                .flat_map(|(v, h)| [(v.re - h.re).abs(), (v.im - h.im).abs()])
                .collect();
            let largest = -errors
                .iter()
                .copied()
                .fold(f64::MIN_POSITIVE, f64::max)
                .log2();
            let average = -(errors.iter().sum::<f64>() / errors.len() as f64)
                .max(f64::MIN_POSITIVE)
                .log2();
            worst = worst.min(largest);
            mean = mean.min(average);
            let entry = by_class
                .entry(class)
                .or_insert_with(|| json!([f64::INFINITY, f64::INFINITY]));
            let old = |i: usize| entry[i].as_f64().unwrap_or(f64::INFINITY);
            *entry = json!([old(0).min(largest), old(1).min(average)]);
        }
    }
    let x = encrypt(&inputs(b.slots, 0)[0].1)?;
    let runs = a.bootstrap_runs.max(1);
    let (cpu_ms, wall_ms) = time(runs, || {
        evaluator.bootstrap(&x, b).map(drop).map_err(Into::into)
    })?;
    let bits = p.modulus(Level::new(left.max(1))).log2();
    let mut more = Map::new();
    for (key, value) in [
        ("slots", json!(b.slots)),
        ("levels_left", json!(left)),
        ("level_bits", json!(bits)),
        ("worst_bits", json!(worst)),
        ("mean_bits", json!(mean)),
        ("peak_bytes", json!(peak_bytes())),
        ("classes", Value::Object(by_class)),
    ] {
        more.insert(key.into(), value);
    }
    Ok(Row {
        name: String::new(),
        n: p.n(),
        limbs: p.limbs(p.top(Level::new(b.target))).len(),
        threads,
        cpu_ms,
        wall_ms,
        runs,
        more,
    })
}

//! What the engine does on this machine.

mod coefficients;

use crate::error::Result;
use crate::machine::{clock, pool};
use crate::progress::{Listener, Say};
use crate::session::rng;
use ckks::coefficients::Parts;
use ckks::{
    Arithmetic, Bootstrap, Ciphertext, Clear, Coefficients, Complex64, Context, Evaluator,
    HalfBootstrap, KeyRequest, Level, Meter, Parameters, ParametersSpec, SecretKey,
};
use cost::workload::{
    CIRCUITS, Reference, Subjects, Timing, circuit, random, time_beside_reference,
};
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use rayon::prelude::*;
use runtime::machine::{peak_bytes, processor, require_memory};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What is measured.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
pub struct Benching {
    /// On an insecure toy ring: everything in seconds.
    #[cfg_attr(feature = "clap", arg(long = "quick"))]
    pub toy: bool,
    /// Only rows whose name contains this.
    #[cfg_attr(feature = "clap", arg(long, value_name = "TEXT"))]
    pub only: Option<String>,
    /// Runs per row; the median counts.
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", default_value_t = 7))]
    pub runs: usize,
    /// Bootstraps per row for the time; the median counts.
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", default_value_t = 5))]
    pub bootstrap_runs: usize,
    /// Random seeds per class of inputs for the bootstrap's precision.
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", default_value_t = 1))]
    pub seeds: u64,
    /// Slot counts of the bootstraps, as log2; if none are given all slots, half and an eighth of them.
    #[cfg_attr(
        feature = "clap",
        arg(long, value_delimiter = ',', value_name = "LIST")
    )]
    pub log_slots: Vec<usize>,
    /// Levels that the bootstraps return to; if none are given the highest, and 4.
    #[cfg_attr(
        feature = "clap",
        arg(long, value_delimiter = ',', value_name = "LIST")
    )]
    pub targets: Vec<usize>,
    /// Free levels of the sets that half bootstraps are measured in; if none are given 2, 4 and 9.
    #[cfg_attr(
        feature = "clap",
        arg(long, value_delimiter = ',', value_name = "LIST")
    )]
    pub free_levels: Vec<usize>,
}

impl Default for Benching {
    fn default() -> Self {
        Self {
            toy: false,
            only: None,
            runs: 7,
            bootstrap_runs: 5,
            seeds: 1,
            log_slots: Vec::new(),
            targets: Vec::new(),
            free_levels: Vec::new(),
        }
    }
}

/// What was measured of one operation on so many threads; JSON has the same names.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Row {
    pub(crate) name: String,
    pub(crate) threads: usize,
    pub(crate) cpu_ms: f64,
    pub(crate) wall_ms: f64,
    pub(crate) references: f64,
    pub(crate) reference_ms: f64,
    pub(crate) runs: usize,
    pub(crate) backend: String,
    pub(crate) processor: String,
    pub(crate) commit: Option<String>,
    pub(crate) n: Option<usize>,
    pub(crate) limbs: Option<usize>,
    pub(crate) parameters: Option<Set>,
    pub(crate) bytes: Option<usize>,
    pub(crate) gb_per_s: Option<f64>,
    pub(crate) slots: Option<usize>,
    pub(crate) levels_left: Option<usize>,
    pub(crate) level_bits: Option<f64>,
    pub(crate) worst_bits: Option<f64>,
    pub(crate) mean_bits: Option<f64>,
    pub(crate) rms_bits: Option<f64>,
    pub(crate) free_levels: Option<usize>,
    pub(crate) peak_bytes: Option<u64>,
    /// Worst and mean bits of each class of inputs.
    classes: Option<BTreeMap<String, [f64; 2]>>,
}

/// The parameters that an operation was measured with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Set {
    pub(crate) name: String,
    pub(crate) log_qp: f64,
    pub(crate) dnum: usize,
    pub(crate) limbs: usize,
}

impl Row {
    fn new(name: &str, threads: usize, timing: Timing, runs: usize) -> Self {
        Self {
            name: name.into(),
            threads,
            cpu_ms: timing.taken.cpu * 1e3,
            wall_ms: timing.taken.wall * 1e3,
            references: timing.references,
            reference_ms: timing.reference * 1e3,
            runs,
            backend: ring::backend().name().into(),
            processor: processor(),
            ..Self::default()
        }
    }
    /// On `limbs` limbs of a parameter set's ring.
    fn on(self, p: &Parameters, limbs: usize) -> Self {
        let set = Set {
            name: p.spec().name.clone(),
            log_qp: p.log_qp(),
            dnum: p.spec().dnum,
            limbs: p.limbs(p.top(p.residual())).len(),
        };
        Self {
            n: Some(p.n()),
            limbs: Some(limbs),
            parameters: Some(set),
            ..self
        }
    }
    /// Moves this much memory in each run.
    fn moving(self, bytes: usize) -> Self {
        Self {
            bytes: Some(bytes),
            gb_per_s: Some(bytes as f64 / 1e6 / self.wall_ms),
            ..self
        }
    }
    /// As JSON, with the commit that the program was built from, where it is known.
    pub fn json(&self, commit: Option<&str>) -> Value {
        let commit = commit.map(String::from);
        let mut row = json!(Self {
            commit,
            ..self.clone()
        });
        if let Some(fields) = row.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        row
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let limbs = self
            .limbs
            .map_or_else(String::new, |l| format!("{l} limbs"));
        write!(
            f,
            "{:22} {limbs:>8}  {} threads  cpu {:>10.3} ms  wall {:>10.3} ms  {:>8.1} references  ({} runs)",
            self.name, self.threads, self.cpu_ms, self.wall_ms, self.references, self.runs
        )?;
        for (name, value) in [
            ("bytes", self.bytes.map(|v| v.to_string())),
            ("free_levels", self.free_levels.map(|v| v.to_string())),
            ("gb_per_s", self.gb_per_s.map(two)),
            ("level_bits", self.level_bits.map(two)),
            ("levels_left", self.levels_left.map(|v| v.to_string())),
            ("mean_bits", self.mean_bits.map(two)),
            ("peak_bytes", self.peak_bytes.map(|v| v.to_string())),
            ("rms_bits", self.rms_bits.map(two)),
            ("slots", self.slots.map(|v| v.to_string())),
            ("worst_bits", self.worst_bits.map(two)),
        ] {
            if let Some(value) = value {
                write!(f, "  {name} {value}")?;
            }
        }
        Ok(())
    }
}

fn two(v: f64) -> String {
    format!("{v:.2}")
}

/// Medians of one call, the reference before and after each run.
fn time(runs: usize, call: impl FnMut() -> Result<()>) -> Result<Timing> {
    time_beside_reference(runs, &clock(), call)
}

/// On so many threads.
fn on(threads: usize, runs: usize, call: impl FnMut() -> Result<()> + Send) -> Result<Timing> {
    pool(threads)?.install(|| time(runs, call))
}

/// What is asked for, and where finished rows go.
struct Bench<'a, 't> {
    a: &'a Benching,
    tell: Listener<'t>,
    /// Thread counts: one, and all if there are more.
    counts: Vec<usize>,
    rows: Vec<Row>,
}

impl Bench<'_, '_> {
    fn wants(&self, name: &str) -> bool {
        self.a
            .only
            .as_ref()
            .is_none_or(|o| name.contains(o.as_str()))
    }
    fn add(&mut self, row: Row) {
        self.tell.note(&row);
        self.rows.push(row);
    }
    fn runs(&self) -> usize {
        self.a.runs.max(1)
    }
}

/// Measures on one thread and on all of the caller's pool; each row is told as well.
///
/// # Errors
/// No row of that name, slots and levels that the rings don't have, a lack of memory.
pub fn bench(a: &Benching, tell: Listener<'_>) -> Result<Vec<Row>> {
    let threads = rayon::current_num_threads();
    let set = |spec: ParametersSpec, toy: &str| {
        Parameters::new(match a.toy {
            true => ParametersSpec {
                name: toy.into(),
                log_n: 11,
                ..spec
            },
            false => spec,
        })
    };
    tell.note(format_args!("kernels: {}", ring::backend()));
    let mut counts = vec![1];
    if threads > 1 {
        counts.push(threads);
    }
    let mut bench = Bench {
        a,
        tell,
        counts,
        rows: Vec::new(),
    };
    machine_rows(&mut bench)?;
    if !a.toy {
        ring::buffer::reserve(KEPT_BYTES);
    }
    // one after the other: neither's keys are in memory with the other's
    circuit_rows(&mut bench, &set(twenty_seven_limbs(), "toy-levelled-11")?)?;
    bootstrap_rows(&mut bench, &set(ParametersSpec::standard(), "toy-11")?)?;
    let free_levels = match &a.free_levels[..] {
        [] => &[2, 4, 9],
        given => given,
    };
    for &k in free_levels {
        let p = set(ParametersSpec::coefficients(k)?, "toy-coefficients-11")?;
        half_bootstrap_rows(&mut bench, &p, k)?;
    }
    let set = set(ParametersSpec::coefficients(4)?, "toy-coefficients-11")?;
    let wanted = coefficients::Wanted {
        runs: bench.runs(),
        counts: &bench.counts,
        row: &|name| bench.wants(name),
    };
    for (name, threads, timing, p) in coefficients::rows(&set, if a.toy { 8 } else { 13 }, &wanted)?
    {
        let limbs = p.limbs(p.residual()).len();
        bench.add(Row::new(&name, threads, timing, bench.runs()).on(&p, limbs));
    }
    if bench.rows.is_empty() {
        return Err(format!(
            "no row is called like {:?}; rows: reference, stream, ntt, {}, bootstrap, half_bootstrap, pair, key_switch",
            a.only.as_deref().unwrap_or(""),
            CIRCUITS.join(", ")
        )
        .into());
    }
    Ok(bench.rows)
}

/// Of as many limbs as other libraries' sets for the same security, to compare single operations with theirs.
fn twenty_seven_limbs() -> ParametersSpec {
    ParametersSpec {
        name: "levelled-16".into(),
        special_bits: vec![46; 10],
        ..ParametersSpec::levelled(16, 26, 45, 9)
    }
}

/// Room for the buffers of any row, reserved as `run` reserves its plan's: freed buffers keep their pages, so that no row times the
/// kernel that clears them.
const KEPT_BYTES: usize = 2 << 30;

/// Words of the buffer that is streamed: half a gigabyte, which is in no cache.
const STREAM_WORDS: usize = 1 << 26;

/// What the machine does without us: the reference, and memory read and written back.
fn machine_rows(bench: &mut Bench<'_, '_>) -> Result<()> {
    let runs = bench.runs();
    if bench.wants("reference") {
        let mut reference = Reference::default();
        let timing = on(1, runs, || {
            reference.run();
            Ok(())
        })?;
        bench.add(Row::new("reference", 1, timing, runs));
    }
    if bench.wants("stream") {
        let words = if bench.a.toy { 1 << 20 } else { STREAM_WORDS };
        let mut buffer = vec![1u64; words];
        for threads in bench.counts.clone() {
            let timing = on(threads, runs, || {
                // in place: what is written was read, so that no line is fetched only to be overwritten
                buffer.par_chunks_mut(1 << 16).for_each(|part| {
                    part.iter_mut().for_each(|w| *w = w.wrapping_add(1));
                });
                std::hint::black_box(&buffer);
                Ok(())
            })?;
            let row = Row::new("stream", threads, timing, runs);
            bench.add(row.moving(2 * size_of_val(&buffer[..])));
        }
    }
    Ok(())
}

/// One transform, and the circuits at the top of a levelled set.
fn circuit_rows(bench: &mut Bench<'_, '_>, p: &Parameters) -> Result<()> {
    let name = |row: &str| format!("{row} 2^{}", p.spec().log_n);
    let runs = bench.runs();
    if bench.wants(&name("ntt")) {
        // a level's prime; the one of 50 bits takes a correction in every butterfly
        for (row, index) in [("ntt", 1), ("ntt_50", 0)] {
            let mut limb: Vec<u64> = (0..p.n() as u64).collect();
            let timing = on(1, runs, || {
                p.ring().ntt(index).forward(&mut limb);
                Ok(())
            })?;
            bench.add(Row::new(&name(row), 1, timing, runs).on(p, 1));
        }
    }
    let chosen: Vec<&str> = CIRCUITS
        .into_iter()
        .filter(|r| bench.wants(&name(row_of(r))))
        .collect();
    if chosen.is_empty() {
        return Ok(());
    }
    let mut rng_fixed = ChaCha20Rng::seed_from_u64(1);
    let (slots, level) = (p.max_slots(), p.residual());
    let subjects = Subjects::new(slots, &mut rng_fixed)?;
    let context = Context::new(p);
    let meter = Meter::new(&context);
    let input = meter.input(level, slots, 1.0)?;
    for row in &chosen {
        circuit(&meter, row, [&input, &input], &subjects)?;
    }
    let secret = SecretKey::generate(p, &mut rng());
    let evaluator = evaluator(bench, &context, &secret, &meter.keys())?;
    let mut operand = || -> Result<Ciphertext> {
        let x = secret.encrypt(&random(slots, &mut rng_fixed), level, &mut rng())?;
        Ok(x.expand(p))
    };
    let (x, y) = (operand()?, operand()?);
    let limbs = p.limbs(level).len();
    let ciphertext = 2 * limbs * p.n() * size_of::<u64>();
    let plain = context.encode(&subjects.plain, p.modulus(level), level)?;
    for threads in bench.counts.clone() {
        for row in &chosen {
            let timing = on(threads, runs, || {
                Ok(circuit(&evaluator, row, [&x, &y], &subjects)?)
            })?;
            let measured = Row::new(&name(row_of(row)), threads, timing, runs).on(p, limbs);
            bench.add(match *row {
                "add" => measured.moving(3 * ciphertext),
                _ => measured,
            });
            if *row == "mul_plain" {
                let timing = on(threads, runs, || {
                    Ok(evaluator.mul_encoded(&x, &plain).map(drop)?)
                })?;
                let measured = Row::new(&name(row), threads, timing, runs).on(p, limbs);
                bench.add(measured.moving(5 * ciphertext / 2));
            }
        }
    }
    Ok(())
}

/// A circuit's row: those on plaintexts are named for plaintexts that are encoded already, as the peers' are.
fn row_of(circuit: &'static str) -> &'static str {
    match circuit {
        "mul_plain" => "mul_plain_encoding",
        "linear_64" => "linear_64_encoding",
        "linear_64_kept" => "linear_64",
        other => other,
    }
}

/// Makes keys, if there is memory for them and for what is beside them.
fn evaluator(
    bench: &mut Bench<'_, '_>,
    context: &Context,
    secret: &SecretKey,
    request: &KeyRequest,
) -> Result<Evaluator> {
    let p = context.parameters();
    let keys = request.memory(p);
    bench.tell.note(format_args!(
        "making {} keys, {} in memory",
        request.0.len(),
        runtime::size(keys)
    ));
    if !bench.a.toy {
        // buffers, and a bootstrap's encoded transforms
        let beside = if p.bootstrap().is_some() {
            4 << 30
        } else {
            1 << 30
        };
        require_memory("measuring", keys + beside, None)?;
    }
    let keys = secret.evaluation_keys(request, &mut rng())?;
    Ok(Evaluator::new(context, keys))
}

/// Bootstraps for every slot count, target and number of threads.
fn bootstrap_rows(bench: &mut Bench<'_, '_>, p: &Parameters) -> Result<()> {
    // levels are counted from where SlotToCoeff begins
    let floor = p.floor();
    let name = format!("bootstrap 2^{}", p.spec().log_n);
    if !bench.wants(&name) {
        return Ok(());
    }
    let (full, highest) = (p.max_slots().ilog2(), p.residual().index());
    let highest = highest - floor.index();
    let or = |given: &[usize], default: &[usize]| match given {
        [] => default.to_vec(),
        _ => given.to_vec(),
    };
    let most = full as usize;
    let log_slots = or(&bench.a.log_slots, &[most, most - 1, most - 3]);
    let targets = or(&bench.a.targets, &[highest, 4]);
    if let Some(l) = log_slots.iter().find(|&&l| l > most) {
        return Err(format!("2^{l} slots: this ring has 2^{most}; ask for at most {most}").into());
    }
    if let Some(t) = targets.iter().find(|&&t| t == 0 || t > highest) {
        return Err(format!(
            "level {t}: a bootstrap of these parameters returns to level 1 to {highest}"
        )
        .into());
    }
    let bootstraps: Vec<Bootstrap> = targets
        .iter()
        .flat_map(|&target| {
            log_slots.iter().map(move |&l| Bootstrap {
                slots: 1 << l,
                target: floor.index() + target,
                gain: 2.0,
            })
        })
        .collect();
    let context = Context::new(p);
    let meter = Meter::new(&context);
    for b in &bootstraps {
        let x = meter.input(floor, b.slots, 0.5)?;
        let second = Some(x.clone());
        meter.bootstrap(&Parts { first: x, second }, b)?;
    }
    let secret = SecretKey::generate(p, &mut rng());
    let mut evaluator = evaluator(bench, &context, &secret, &meter.keys())?;
    for b in &bootstraps {
        for threads in bench.counts.clone() {
            let row = pool(threads)?
                .install(|| bootstrap_row(p, &secret, &evaluator, b, threads, bench.a))?;
            bench.add(Row {
                name: name.clone(),
                ..row
            });
        }
        // without the encoded diagonals of this one
        evaluator = Evaluator::new(&Context::new(p), evaluator.into_keys());
    }
    Ok(())
}

/// Classes of inputs for the precision, each with |x| ≤ 1.
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

/// Bits of precision: of the worst, the mean and the root mean square of errors.
fn precision(errors: &[f64]) -> [f64; 3] {
    let worst = errors.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    let squares = errors.iter().map(|e| e * e).sum::<f64>() / errors.len() as f64;
    let all = [worst, mean, squares.sqrt()];
    all.map(|e| -e.max(f64::MIN_POSITIVE).log2())
}

/// The lowest figures of all inputs, and of each class the worst and the mean.
struct Precision {
    all: [f64; 3],
    classes: BTreeMap<String, [f64; 2]>,
}

impl Precision {
    /// Of these classes of inputs, each with its errors.
    fn of<'a>(all: impl IntoIterator<Item = Result<(&'a str, Vec<f64>)>>) -> Result<Self> {
        let mut seen = Self {
            all: [f64::INFINITY; 3],
            classes: BTreeMap::new(),
        };
        for errors in all {
            let (class, errors) = errors?;
            let bits = precision(&errors);
            let of_class = (seen.classes.entry(class.into())).or_insert([f64::INFINITY; 2]);
            let lower =
                |into: &mut [f64]| into.iter_mut().zip(bits).for_each(|(x, y)| *x = x.min(y));
            lower(&mut seen.all);
            lower(of_class);
        }
        Ok(seen)
    }
    fn into_row(self, row: Row) -> Row {
        let [worst, mean, rms] = self.all;
        Row {
            worst_bits: Some(worst),
            mean_bits: Some(mean),
            rms_bits: Some(rms),
            classes: Some(self.classes),
            ..row
        }
    }
}

/// Measures one bootstrap, on one thread its precision too: the lowest figures of all inputs, and those of each class.
fn bootstrap_row(
    p: &Parameters,
    secret: &SecretKey,
    evaluator: &Evaluator,
    b: &Bootstrap,
    threads: usize,
    a: &Benching,
) -> Result<Row> {
    let encrypt = |v: &[Complex64]| -> Result<Parts<Ciphertext>> {
        // |x| ≤ 1 is stored as x/2; the gain of 2 brings it back
        let half = |part: fn(&Complex64) -> f64| -> Result<Ciphertext> {
            let half: Vec<Complex64> = (v.iter().map(part))
                .map(|x| Complex64::new(x / 2.0, 0.0))
                .collect();
            Ok(secret.encrypt(&half, p.floor(), &mut rng())?.expand(p))
        };
        Ok(Parts {
            first: half(|z| z.re)?,
            second: Some(half(|z| z.im)?),
        })
    };
    let x = encrypt(&inputs(b.slots, 0)[0].1)?;
    let runs = a.bootstrap_runs.max(1);
    let mut left = 0;
    let timing = time(runs, || {
        left = evaluator.bootstrap(&x, b)?.first.level().index();
        Ok(())
    })?;
    let limbs = p.limbs(p.top(Level::new(b.target))).len();
    let row = Row {
        slots: Some(b.slots),
        levels_left: Some(left - p.floor().index()),
        level_bits: Some(p.modulus(Level::new(left.max(1))).log2()),
        peak_bytes: Some(peak_bytes()),
        ..Row::new("", threads, timing, runs).on(p, limbs)
    };
    if threads > 1 {
        return Ok(row);
    }
    let seeds = 0..a.seeds.max(1);
    let precision = Precision::of(seeds.flat_map(|s| inputs(b.slots, s)).map(|(class, v)| {
        let had = evaluator.bootstrap(&encrypt(&v)?, b)?.into_vec();
        let mut errors = Vec::with_capacity(2 * v.len());
        for (had, part) in had.iter().zip([|z: &Complex64| z.re, |z: &Complex64| z.im]) {
            let had = secret.decrypt(had)?;
            errors.extend(v.iter().zip(&had).map(|(w, h)| (part(w) - h.re).abs()));
        }
        Ok((class, errors))
    }))?;
    Ok(precision.into_row(row))
}

/// Half bootstraps for every slot count and number of threads.
fn half_bootstrap_rows(bench: &mut Bench<'_, '_>, p: &Parameters, free: usize) -> Result<()> {
    let name = format!("half_bootstrap 2^{}", p.spec().log_n);
    if !bench.wants(&name) {
        return Ok(());
    }
    let most = p.max_slots().ilog2() as usize;
    let log_slots = match &bench.a.log_slots[..] {
        [] => vec![most, most - 3],
        given => given.to_vec(),
    };
    if let Some(l) = log_slots.iter().find(|&&l| l > most) {
        return Err(format!("2^{l} slots: this ring has 2^{most}; ask for at most {most}").into());
    }
    let (context, base) = (Context::new(p), Level::new(0));
    let meter = Meter::new(&context);
    let h = HalfBootstrap {
        target: p.residual().index(),
    };
    for l in &log_slots {
        let x = Coefficients::of(&meter, meter.input(base, 1 << l, 0.5)?)?;
        meter.half_bootstrap(&x, &h)?;
    }
    let secret = SecretKey::generate(p, &mut rng());
    let mut evaluator = evaluator(bench, &context, &secret, &meter.keys())?;
    for l in log_slots {
        for threads in bench.counts.clone() {
            let row = pool(threads)?.install(|| {
                half_bootstrap_row(&secret, &evaluator, (1 << l, h), threads, bench.a)
            })?;
            bench.add(Row {
                name: name.clone(),
                free_levels: Some(free),
                ..row
            });
        }
        evaluator = Evaluator::new(&Context::new(p), evaluator.into_keys());
    }
    Ok(())
}

/// Measures one half bootstrap, on one thread its precision too: errors of values up to 1/2 beside what it means ([`HalfBootstrap`]), which
/// holds the sine's known bias.
fn half_bootstrap_row(
    secret: &SecretKey,
    evaluator: &Evaluator,
    (slots, h): (usize, HalfBootstrap),
    threads: usize,
    a: &Benching,
) -> Result<Row> {
    let (p, base) = (evaluator.parameters(), Level::new(0));
    let encrypt = |v: &[f64]| -> Result<Coefficients> {
        let c = secret.encrypt_coefficients(v, base, &mut rng())?;
        Ok(Coefficients::of(evaluator, c.expand(p))?)
    };
    // real and imaginary parts are the coefficients, up to 1/2
    let values = |v: &[Complex64]| -> Vec<f64> {
        let imaginary = v.iter().map(|z| z.im / 2.0);
        v.iter().map(|z| z.re / 2.0).chain(imaginary).collect()
    };
    let x = encrypt(&values(&inputs(slots, 0)[0].1))?;
    let runs = a.bootstrap_runs.max(1);
    let timing = time(runs, || {
        evaluator.half_bootstrap(&x, &h)?;
        Ok(())
    })?;
    let limbs = p.limbs(p.top(p.residual())).len();
    let row = Row {
        slots: Some(slots),
        level_bits: Some(p.modulus(p.residual()).log2()),
        peak_bytes: Some(peak_bytes()),
        ..Row::new("", threads, timing, runs).on(p, limbs)
    };
    if threads > 1 {
        return Ok(row);
    }
    let clear = Clear::new(&Context::new(p), 0);
    let seeds = 0..a.seeds.max(1);
    let precision = Precision::of(seeds.flat_map(|s| inputs(slots, s)).map(|(class, v)| {
        let v = values(&v);
        let meant = clear.half_bootstrap(&clear.coefficients(&v, base)?, &h)?;
        let had = evaluator.half_bootstrap(&encrypt(&v)?, &h)?;
        let mut errors = Vec::with_capacity(v.len());
        let parts = [
            Some((&meant.first, &had.first)),
            meant.second.as_ref().zip(had.second.as_ref()),
        ];
        for (meant, had) in parts.into_iter().flatten() {
            let had = secret.decrypt(had)?;
            errors.extend(
                had.iter()
                    .zip(&meant.values)
                    .map(|(h, m)| (h.re - m.re).abs()),
            );
        }
        Ok((class, errors))
    }))?;
    Ok(precision.into_row(row))
}

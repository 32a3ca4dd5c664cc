//! Fuzzes every decoder of bytes from outside: structure-aware mutation of small valid files, on stable Rust.
//!
//! ```text
//! cargo run --profile fuzz -p polyveil-fuzz -- [--decoder NAME] [--executions N] [--seed S] [--seconds T]
//! ```
//! Execution `n` depends on the seed, the decoder's name and `n` only, so every failure can be made again. Failures are: a panic
//! (overflow checks and debug assertions are on in this profile), memory beyond the decoder's limit (`allocation`, `decoders`),
//! an accepted mutant that breaks a law of its decoder, an execution of more than a minute. See docs/fuzzing.md.

mod allocation;
mod archives;
mod container;
mod decoder;
mod decoders;
mod json;
mod models;
mod png;
mod protobuf;
mod safetensors;
mod scratch;
mod toml;
mod toy;

use polyveil_fuzz::{bytes, random, torch, zip};

use allocation::Usage;
use clap::Parser;
use decoder::Decoder;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: allocation::Counting = allocation::Counting;

/// Stack of the thread that decodes: what Rust gives to threads.
const STACK: usize = 2 << 20;
/// An execution that takes longer is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// The execution that is under way, for reports from the allocator and the watchdog.
struct Current {
    decoder: &'static str,
    seed: u64,
    execution: u64,
    bytes: Vec<u8>,
    began: Option<Instant>,
    out: PathBuf,
}

static CURRENT: Mutex<Current> = Mutex::new(Current {
    decoder: "",
    seed: 0,
    execution: 0,
    bytes: Vec::new(),
    began: None,
    out: PathBuf::new(),
});

fn current() -> std::sync::MutexGuard<'static, Current> {
    CURRENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says what failed and keeps its bytes.
fn report(what: &str) {
    let c = current();
    let file = c.out.join(format!(
        "polyveil-fuzz-{}-{}-{}",
        c.decoder, c.seed, c.execution
    ));
    let kept = match std::fs::write(&file, &c.bytes) {
        Ok(()) => format!("{} bytes in {}", c.bytes.len(), file.display()),
        Err(e) => format!("its {} bytes could not be written: {e}", c.bytes.len()),
    };
    eprintln!(
        "\nFAILED: {what}\n  decoder {}, seed {}, execution {}; {kept}\n  again: --decoder {} --replay {}",
        c.decoder,
        c.seed,
        c.execution,
        c.decoder,
        file.display()
    );
}

fn exceeded(held: usize, limit: usize) -> ! {
    report(&format!("{held} bytes held, the limit is {limit}"));
    eprintln!("{}", std::backtrace::Backtrace::force_capture());
    scratch::clear();
    std::process::exit(1);
}

/// Ends the process when an execution hangs.
fn watch() {
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let late = current().began.is_some_and(|b| b.elapsed() > PATIENCE);
        if late {
            report("an execution takes more than a minute");
            scratch::clear();
            std::process::exit(1);
        }
    }
}

/// Fuzzes every decoder of bytes from outside.
#[derive(clap::Parser)]
struct Options {
    /// Only this one (may be repeated); all without it.
    #[arg(long = "decoder", value_name = "NAME")]
    decoders: Vec<String>,
    /// How many, of each decoder.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    executions: u64,
    /// Number of the first execution.
    #[arg(long, default_value_t = 0, value_name = "N")]
    first: u64,
    /// Decides every mutant.
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
    /// At most, of each decoder.
    #[arg(long, value_name = "T")]
    seconds: Option<f64>,
    /// Where the bytes of a failure are written.
    #[arg(long, default_value = ".", value_name = "DIR")]
    out: PathBuf,
    /// Write each mutant to DIR/polyveil-fuzz-last before it is decoded: for executions that kill the process.
    #[arg(long)]
    keep: bool,
    /// List the decoders.
    #[arg(long)]
    list: bool,
    /// Decode this file once.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
}

/// What came out for one decoder.
#[derive(Default)]
struct Tally {
    executions: u64,
    accepted: u64,
    usage: Usage,
    slowest: Duration,
    seconds: f64,
}

/// One execution; false where it failed.
fn execute(decoder: &Decoder, bytes: &[u8], tally: &mut Tally) -> bool {
    let began = Instant::now();
    {
        let mut c = current();
        c.bytes.clear();
        c.bytes.extend_from_slice(bytes);
        c.began = Some(began);
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| decoder.run(bytes)));
    current().began = None;
    tally.executions += 1;
    tally.slowest = tally.slowest.max(began.elapsed());
    match outcome {
        Ok((Ok(accepted), usage)) => {
            tally.accepted += u64::from(accepted);
            tally.usage.peak = tally.usage.peak.max(usage.peak);
            tally.usage.largest = tally.usage.largest.max(usage.largest);
            true
        }
        Ok((Err(law), _)) => {
            report(&format!("accepted, but not true: {law}"));
            false
        }
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied());
            report(&format!("panic: {}", text.unwrap_or("without a message")));
            false
        }
    }
}

/// Fuzzes one decoder; None where an execution failed.
fn fuzz(decoder: &Decoder, o: &Options) -> Option<Tally> {
    let mut tally = Tally::default();
    let began = Instant::now();
    let mut said = began;
    {
        let mut c = current();
        (c.decoder, c.seed) = (decoder.name, o.seed);
    }
    for seed in &decoder.seeds {
        if !execute(decoder, seed, &mut tally) {
            return None;
        }
        if tally.accepted != tally.executions {
            report("a seed is refused");
            return None;
        }
    }
    tally = Tally::default();
    for execution in o.first..o.first.saturating_add(o.executions) {
        {
            let mut c = current();
            c.execution = execution;
            c.bytes.clear();
        }
        // repairing a mutant's digests reads its parameters
        let Ok(bytes) = catch_unwind(AssertUnwindSafe(|| decoder.mutant(o.seed, execution))) else {
            report("panic while the mutant was made");
            return None;
        };
        if o.keep
            && let Err(e) = std::fs::write(o.out.join("polyveil-fuzz-last"), &bytes)
        {
            eprintln!("--keep: {e}");
            return None;
        }
        if !execute(decoder, &bytes, &mut tally) {
            return None;
        }
        if tally.executions % 64 == 0 {
            let seconds = began.elapsed().as_secs_f64();
            if o.seconds.is_some_and(|most| seconds > most) {
                break;
            }
            if said.elapsed() > Duration::from_secs(2) {
                said = Instant::now();
                let rate = tally.executions as f64 / seconds;
                let left = (o.executions - tally.executions) as f64 / rate;
                eprintln!(
                    "{:16} execution {execution}, {} of {} ({rate:.0}/s, {left:.0} s left), {} accepted",
                    decoder.name, tally.executions, o.executions, tally.accepted
                );
            }
        }
    }
    tally.seconds = began.elapsed().as_secs_f64();
    Some(tally)
}

fn table(results: &[(&str, Tally)]) -> String {
    let mut text = String::from(
        "decoder          executions  accepted  rejected   peak bytes largest alloc  slowest ms executions/s\n",
    );
    for (name, t) in results {
        text += &format!(
            "{name:16} {:10} {:9} {:9} {:12} {:13} {:11.1} {:12.0}\n",
            t.executions,
            t.accepted,
            t.executions - t.accepted,
            t.usage.peak,
            t.usage.largest,
            t.slowest.as_secs_f64() * 1e3,
            t.executions as f64 / t.seconds.max(1e-9)
        );
    }
    text
}

fn replay(decoder: &Decoder, file: &Path) -> Result<bool, String> {
    let bytes = std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let mut tally = Tally::default();
    let fine = execute(decoder, &bytes, &mut tally);
    if fine {
        let verdict = ["rejected", "accepted"][usize::from(tally.accepted == 1)];
        let (length, held, limit) = (bytes.len(), tally.usage.peak, decoder.limit(&bytes));
        let name = decoder.name;
        println!("{name}: {verdict} {length} bytes, {held} held at most, {limit} allowed");
    }
    Ok(fine)
}

/// Runs on the calling thread; whether all went well.
fn run(o: &Options) -> Result<bool, String> {
    let all = decoders::all();
    if o.list {
        for d in &all {
            let sizes: Vec<usize> = d.seeds.iter().map(Vec::len).collect();
            println!("{:16} seeds of {sizes:?} bytes", d.name);
        }
        return Ok(true);
    }
    if let Some(unknown) = o.decoders.iter().find(|n| all.iter().all(|d| d.name != *n)) {
        return Err(format!("--decoder {unknown} is unknown; --list lists them"));
    }
    let wanted: Vec<&Decoder> = all
        .iter()
        .filter(|d| o.decoders.is_empty() || o.decoders.iter().any(|n| n == d.name))
        .collect();
    current().out = o.out.clone();
    if let Some(file) = &o.replay {
        let [decoder] = wanted[..] else {
            return Err("--replay needs one --decoder".into());
        };
        let mut c = current();
        c.decoder = decoder.name;
        drop(c);
        return replay(decoder, file);
    }
    let mut results = Vec::new();
    for decoder in wanted {
        let Some(tally) = fuzz(decoder, o) else {
            print!("{}", table(&results));
            return Ok(false);
        };
        results.push((decoder.name, tally));
    }
    print!("{}", table(&results));
    Ok(true)
}

/// On one thread of its own, with the stack of a thread, so that nothing else counts.
fn alone<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, String> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .stack_size(STACK)
        .build();
    Ok(pool.map_err(|e| e.to_string())?.install(work))
}

fn main() {
    let o = Options::parse();
    // reported with the bytes, once
    std::panic::set_hook(Box::new(|info| eprintln!("{info}")));
    let _ = allocation::EXCEEDED.set(exceeded);
    drop(std::thread::spawn(watch));
    let result = alone(|| run(&o)).and_then(|done| done);
    scratch::clear();
    match result {
        Ok(true) => {}
        Ok(false) => std::process::exit(1),
        Err(e) => {
            eprintln!("{e}");
            std::process::exit(2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, since a failure of the allocator ends the process. `POLYVEIL_FUZZ_EXECUTIONS` asks for more than 2000 mutants of each.
    #[test]
    fn every_decoder_survives_mutants_and_accepts_its_seeds() {
        let _ = allocation::EXCEEDED.set(exceeded);
        let asked = std::env::var("POLYVEIL_FUZZ_EXECUTIONS").ok();
        let o = Options {
            executions: asked.map_or(2000, |n| n.parse().expect("a number")),
            out: std::env::temp_dir(),
            ..Options::parse_from(["fuzz"])
        };
        alone(|| {
            for decoder in decoders::all() {
                let tally = fuzz(&decoder, &o).unwrap_or_else(|| panic!("{} failed", decoder.name));
                // mutation that never gets past the first check would test nothing
                assert!(
                    tally.executions == o.executions
                        && tally.accepted > 0
                        && tally.accepted < tally.executions,
                    "{}: {} of {} accepted",
                    decoder.name,
                    tally.accepted,
                    tally.executions
                );
                assert_eq!(
                    decoder.mutant(1, 7),
                    decoder.mutant(1, 7),
                    "executions can be made again"
                );
            }
        })
        .expect("a thread");
        scratch::clear();
    }

    #[test]
    fn the_allocator_counts_one_execution() {
        let (kept, usage) = allocation::counted(1 << 20, || {
            drop(vec![0u8; 5000]);
            vec![0u8; 1000]
        });
        assert_eq!((kept.len(), usage.largest), (1000, 5000));
        assert_eq!(usage.peak, 5000);
    }

    #[test]
    fn words_are_read() {
        let read = |words: &[&str]| Options::try_parse_from([&["fuzz"], words].concat());
        let o = read(&["--decoder", "plan", "--executions", "5", "--seed", "9"]).expect("valid");
        assert_eq!((o.decoders.len(), o.executions, o.seed), (1, 5, 9));
        assert!(
            read(&["--seed", "x"]).is_err()
                && read(&["--what"]).is_err()
                && read(&["--out"]).is_err()
        );
    }
}

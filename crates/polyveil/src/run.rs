//! run: the server's side on files.

use crate::commands::{atomically, folder_of, memory, placement};
use crate::evaluate::largest_error;
use crate::machine::{Machine, PredictionArgs};
use crate::network::{self, named, open};
use crate::terminal::{Line, duration, note};
use crate::{Result, size};
use ckks::Ciphertext;
use clap::Args;
use runtime::checkpoint::{Checkpointer, checkpoint_bytes, input_digest, read_checkpoint};
use runtime::machine::{cpu_seconds, peak_bytes, require_disk};
use runtime::preparation::{Preparation, Prepared};
use runtime::report::{Answer, Measured};
use runtime::wire::container::expect_together;
use runtime::{
    Excess, LockStep, Observer, Placement, Report, Reporter, Server, Stopwatch, VerifiedPlan,
};
use std::io::BufReader;
use std::path::PathBuf;
use std::sync::Arc;

/// Options of `run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// The plan.
    #[arg(long, value_name = "FILE")]
    plan: PathBuf,
    /// The client's evaluation keys.
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// The encrypted input.
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Where the encrypted answer goes.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Go on from the checkpoint of a killed run.
    #[arg(long)]
    resume: bool,
    /// Where checkpoints go [default: OUTPUT.checkpoint].
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Run the clear twin in lock-step and stop at the first layer whose error exceeds its bound (needs --key too).
    #[arg(long)]
    check: bool,
    /// client.key, for --check on the owner's machine only.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Print one JSON object on stdout.
    #[arg(long)]
    json: bool,
    /// Write the report as SVG.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Keep this limit, for example 6GB: leave keys on disk where they do not all fit, refuse where even that does not help.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_memory: Option<u64>,
    /// Leave keys on disk and read each when it is used; with --max-memory, those used most stay in memory as far as they fit. The
    /// key file must stay as it is until the run ends.
    #[arg(long)]
    keys_on_disk: bool,
    #[command(flatten)]
    predict: PredictionArgs,
}

pub fn run(a: &RunArgs, threads: usize) -> Result<()> {
    let keys = match (&a.keys, a.check, &a.key) {
        (None, true, _) | (_, true, None) => {
            return Err("--check compares with the clear twin on the owner's machine: it needs both --keys evaluation.keys and --key client.key".into());
        }
        (None, false, _) => return Err("the client's evaluation keys are needed: --keys evaluation.keys (`polyveil keygen` makes them)".into()),
        (_, false, Some(_)) => return Err("a server must not be given client.key; --key is for --check on the owner's machine only".into()),
        (Some(keys), _, _) => keys,
    };
    if a.check && a.resume {
        return Err("--check follows a run from its beginning: leave --resume out".into());
    }
    let plan = Arc::new(network::plan(&a.plan)?);
    let mut together = vec![a.plan.as_path(), keys, &a.input];
    together.extend(a.key.as_deref());
    expect_together(&together)?;
    let placement = placement(&plan, a.max_memory, a.keys_on_disk);
    let prediction =
        Machine::load(&a.predict)?.announce(&a.predict, &plan, placement.as_ref(), threads)?;
    memory(&plan, prediction.peak_bytes(), a.max_memory)?;
    let checkpoint = a.checkpoint.clone().unwrap_or_else(|| {
        let mut path = a.output.clone().into_os_string();
        path.push(".checkpoint");
        path.into()
    });
    // a new checkpoint is complete before the old one goes
    require_disk(folder_of(&checkpoint), 2 * checkpoint_bytes(&plan))?;
    let digest = input_digest(open(&a.input)?, &a.input.display().to_string())?;
    let preparation = prepare(&plan, placement.as_ref());
    let mut line = Line::new();
    let (file, name) = (open(keys)?, keys.display().to_string());
    let mut tell = |done, all| line.show(&format!("  reading key {done}/{all}"));
    let server = match &placement {
        Some(p) => Server::open(plan.clone(), file, &name, &p.kept, &mut tell)?,
        None => {
            let file = BufReader::with_capacity(1 << 20, file);
            Server::read(plan.clone(), file, &name, &mut tell)?
        }
    };
    line.done();
    fetched(&preparation.finish());
    let fresh = server.read_input(
        BufReader::new(open(&a.input)?),
        &a.input.display().to_string(),
    )?;
    let state = if a.resume {
        server.resume(read_checkpoint(&checkpoint, &plan, &digest, server.key())?)?
    } else {
        fresh
    };
    if a.resume {
        note(format_args!(
            "going on at step {} of {}",
            state.next + 1,
            plan.plan().steps.len()
        ));
    }
    let client = a
        .key
        .as_ref()
        .map(|key| network::client(key, None))
        .transpose()?;
    let mut check = client
        .as_ref()
        .map(|c| LockStep::new(&plan, server.engine(), c, &state, Excess::Stop))
        .transpose()?;
    let mut watch = Stopwatch::default();
    let mut tell = |p: runtime::Progress<'_>| line.progress(&p);
    let mut reporter = Reporter::new(prediction.step_seconds(), &mut tell);
    let mut saver = Checkpointer::new(&plan, server.engine(), checkpoint.clone(), digest);
    let cpu = cpu_seconds();
    let answer = {
        let mut observers: Vec<&mut dyn Observer<Ciphertext>> =
            vec![&mut reporter, &mut watch, &mut saver];
        if let Some(c) = check.as_mut() {
            observers.push(c);
        }
        server.run(state, &mut observers[..])?
    };
    line.done();
    let answer_bytes = atomically(&a.output, 0o644, |out, name| {
        Ok(server.write_answer(&answer, out, name).map(drop)?)
    })
    .and_then(|()| Ok(std::fs::metadata(&a.output)?.len()))?;
    if checkpoint.exists() {
        std::fs::remove_file(&checkpoint).map_err(named(&checkpoint))?;
    }
    let seconds: f64 = watch.steps.values().map(|s| s.0).sum();
    let step_cpu: f64 = watch.steps.values().map(|s| s.1).sum();
    note(format_args!(
        "evaluated in {} ({:.1} CPU seconds; the process used {:.1} since it started to evaluate)",
        duration(seconds),
        step_cpu,
        cpu_seconds() - cpu
    ));
    let mut found = Answer::default();
    let mut precision = std::collections::BTreeMap::new();
    if let (Some(client), Some(check)) = (&client, check) {
        let (steps, truth) = check.finish()?;
        precision = steps;
        let logits = client.decrypt(&answer)?;
        found = answer_of(logits, &truth, &network::task(client)?.labels);
        note("every layer stayed within its predicted bound");
    }
    let measured = Measured {
        steps: watch.steps,
        precision,
        seconds: Some(seconds),
        cpu_seconds: Some(step_cpu),
        peak_bytes: Some(peak_bytes()),
        input_bytes: Some(std::fs::metadata(&a.input)?.len()),
        answer_bytes: Some(answer_bytes),
    };
    let report = Report::new(&plan, &prediction, &measured, found);
    publish(&report, a.json, a.report.as_deref())?;
    note(format_args!(
        "wrote {} (only the owner of client.key can decrypt it: `polyveil decrypt`)",
        a.output.display()
    ));
    Ok(())
}

/// Begins to fetch the memory that a plan's run will use.
pub fn prepare(plan: &VerifiedPlan, placement: Option<&Placement>) -> Preparation {
    Preparation::begin(plan.facts().buffer_bytes(placement))
}

pub fn fetched(p: &Prepared) {
    note(format_args!(
        "fetched {} of memory before the first step, beside the keys: {:.1} CPU seconds",
        runtime::size(p.bytes),
        p.cpu_seconds
    ));
}

/// Encrypted logits beside the clear twin's.
pub fn answer_of(logits: Vec<f64>, truth: &[f64], labels: &[String]) -> Answer {
    let best = |v: &[f64]| network::top(v, 1).first().copied();
    Answer {
        class: best(&logits),
        label: best(&logits).map(|c| network::label(labels, c)),
        clear_class: best(truth),
        max_abs_error: Some(largest_error(&logits, truth)),
        logits,
    }
}

/// Prints a report: JSON alone on stdout, or the table; SVG into a file.
pub fn publish(report: &Report, json: bool, svg: Option<&std::path::Path>) -> Result<()> {
    if json {
        println!("{}", report.to_json());
    } else {
        print!("{}", report.to_text());
    }
    if let Some(path) = svg {
        std::fs::write(path, report.to_svg()).map_err(named(path))?;
        note(format_args!("wrote {}", path.display()));
    }
    Ok(())
}

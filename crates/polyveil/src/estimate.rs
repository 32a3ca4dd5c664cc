//! estimate: what transformers would cost, from their shapes alone, beside what P2 (arXiv 2410.09457) published.

use crate::commands::{memory, rng, target};
use crate::demo::serve;
use crate::evaluate::through;
use crate::machine::Machine;
use crate::network::named;
use crate::terminal::{duration, note};
use crate::{Result, size};
use clap::Args;
use compiler::{Scale, Sketch, Target, sketch};
use nn::approximations::Substitute;
use nn::attention::{AttentionScheme, Denominator, PowerSoftmax};
use runtime::machine::available_memory;
use runtime::{Basis, Client, Prediction, Purpose, Work};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use zoo::shape::{Polynomials, TransformerShape};

/// Most bytes of a config.json.
const CONFIG_LIMIT: u64 = 1 << 20;
/// ε of Power-Softmax over the mean of the powers.
const EPSILON: f64 = 0.25;
/// By how much intervals are wider than those of random weights: so that they are like those of networks trained here
/// (`training/stories/polynomial4.programs.csv`).
const WIDENED: f64 = 4.0;

/// Options of `estimate`.
#[derive(Args, Debug)]
pub struct EstimateArgs {
    /// Names of published models, or config.json files (Llama, GPT-NeoX, BERT, RoBERTa).
    #[arg(value_name = "SHAPE", required_unless_present = "all")]
    shapes: Vec<String>,
    /// All published models that are known.
    #[arg(long)]
    all: bool,
    /// Tokens of an input; several are several rows.
    #[arg(long, value_name = "N", default_value = "128")]
    length: Vec<usize>,
    /// Inputs in one run, a power of two [default: 1, and as many as there are slots for with one channel in a ciphertext].
    #[arg(long, value_name = "N")]
    batch: Vec<usize>,
    /// Exponent of Power-Softmax, even.
    #[arg(long, value_name = "P", default_value_t = 4)]
    power: u32,
    /// Bits of divisions and roots.
    #[arg(long, value_name = "BITS", default_value_t = 12.0)]
    bits: f64,
    /// Degree of activations.
    #[arg(long, value_name = "N", default_value_t = 15)]
    degree: usize,
    /// Take fewer rotation keys where a run needs more memory than this [default: what is free here].
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_memory: Option<u64>,
    /// Cost table of this machine (`bench --save` writes it), or `shipped`.
    #[arg(long, value_name = "FILE")]
    machine: Option<PathBuf>,
    /// Also make each network with random weights, compile it, and run it encrypted: what the estimate is worth on this machine.
    #[arg(long)]
    run: bool,
    /// One JSON object for each row instead of tables.
    #[arg(long)]
    json: bool,
}

/// Seconds that P2 measured on one A100, by model and tokens: the whole run by purpose, in the order of [`Work::ALL`].
const PUBLISHED_RUN: (&str, usize, f64, [f64; 6]) =
    ("pythia-70m", 128, 93.0, [28.0, 17.0, 18.6, 8.8, 7.7, 15.0]);
/// Of its operator alone, all layers.
const PUBLISHED_ATTENTION: [(&str, usize, f64); 3] = [
    ("pythia-70m", 128, 2.7),
    ("pythia-70m", 1024, 8.6),
    ("llama-7b", 128, 16.6),
];

/// One row.
struct Row {
    name: String,
    parameters: u64,
    length: usize,
    batch: usize,
    sketch: Sketch,
    /// CPU seconds by purpose.
    purposes: BTreeMap<&'static str, f64>,
    /// CPU seconds of Power-Softmax, bootstraps for it included.
    attention: f64,
    cpu_seconds: f64,
    seconds: f64,
    training: [u64; 2],
    /// Levels of divisions, roots: least and most.
    levels: [(u32, u32); 2],
    took: f64,
    measured: Option<Measured>,
}

/// A run of the network with random weights.
struct Measured {
    compiled: f64,
    seconds: f64,
    cpu_seconds: f64,
    bootstraps: u64,
    keys: usize,
    peak_bytes: u64,
    /// Of the plan: CPU seconds, peak.
    predicted: (f64, u64),
    /// Largest error of the answer, and its largest value.
    error: (f64, f64),
}

/// Sketches and prints.
pub fn estimate(a: &EstimateArgs, threads: usize) -> Result<()> {
    let machine = Machine::open(a.machine.as_deref())?;
    let basis = machine.basis();
    let limit = a.max_memory.or_else(available_memory);
    let mut names: Vec<String> = a.shapes.clone();
    if a.all {
        names.extend(
            TransformerShape::published_names()
                .iter()
                .map(|&n| n.into()),
        );
    }
    let shapes: Vec<(String, TransformerShape)> = (names.into_iter())
        .map(|name| Ok((short(&name), open(&name)?)))
        .collect::<Result<_>>()?;
    let slots = ckks::Parameters::new(ckks::ParametersSpec::standard())?.max_slots();
    for (name, shape) in &shapes {
        for &length in &a.length {
            if length < 2 || length > slots {
                return Err(format!("--length must be 2 to {slots}, it is {length}").into());
            }
            if length > shape.sizes().max_length {
                note(format_args!(
                    "{name} knows {} positions; {length} are costed as if it knew them",
                    shape.sizes().max_length
                ));
            }
        }
    }
    let mut rows: Vec<Row> = Vec::new();
    for &length in &a.length {
        let full = (slots / length.next_power_of_two()).max(1);
        let batches: Vec<usize> = match &a.batch[..] {
            [] => vec![1, full],
            given => given.to_vec(),
        };
        for (name, shape) in &shapes {
            for &batch in &batches {
                let start = Instant::now();
                let mut row = row(a, (name, shape), (length, batch), &basis, (threads, limit))?;
                row.took = start.elapsed().as_secs_f64();
                note(format_args!(
                    "{name}, {length} tokens, batch {batch}: sketched in {:.1} s, at most {} so far",
                    row.took,
                    runtime::size(runtime::machine::peak_bytes())
                ));
                if a.run {
                    row.measured = Some(run(a, shape, &row, (&machine, &basis), (threads, limit))?);
                }
                if a.json {
                    println!("{}", as_json(&row, limit));
                } else {
                    rows.push(row);
                }
            }
        }
    }
    if !a.json {
        print!("{}", tables(&rows, &basis, (threads, limit)));
    }
    Ok(())
}

/// A published model's shape, or that of a config.json.
fn open(name: &str) -> Result<TransformerShape> {
    if let Some(shape) = TransformerShape::published(name) {
        return Ok(shape);
    }
    let path = Path::new(name);
    let path = if path.is_dir() {
        path.join("config.json")
    } else {
        path.to_path_buf()
    };
    let file = std::fs::File::open(&path).map_err(|e| {
        format!(
            "{name}: no such file ({e}), and no published model that is known: {}",
            TransformerShape::published_names().join(", ")
        )
    })?;
    let mut text = String::new();
    file.take(CONFIG_LIMIT)
        .read_to_string(&mut text)
        .map_err(named(&path))?;
    Ok(TransformerShape::from_json(&text).map_err(|e| format!("{}: {e}", path.display()))?)
}

/// A model's name for tables: that of its folder, where a file is given.
fn short(name: &str) -> String {
    let path = Path::new(name);
    let folder = match path.file_name().is_some_and(|f| f == "config.json") {
        true => path.parent().and_then(Path::file_name),
        false => path.file_name(),
    };
    folder.map_or_else(|| name.into(), |f| f.to_string_lossy().into_owned())
}

fn scheme(a: &EstimateArgs) -> Result<AttentionScheme> {
    let power = PowerSoftmax::new(a.power, EPSILON)?.over(Denominator::Mean);
    Ok(AttentionScheme::Power(power))
}

fn polynomials(a: &EstimateArgs) -> Polynomials {
    Polynomials {
        bits: a.bits,
        degree: a.degree,
        widened: WIDENED,
    }
}

/// Makes the network with random weights, compiles it, and runs it encrypted beside its twin in the clear.
fn run(
    a: &EstimateArgs,
    shape: &TransformerShape,
    row: &Row,
    (machine, basis): (&Machine, &Basis),
    (threads, limit): (usize, Option<u64>),
) -> Result<Measured> {
    note(format_args!(
        "{}: making the network with random weights and its plan, before a run of about {}",
        row.name,
        duration(row.seconds)
    ));
    let start = Instant::now();
    let lowered = shape
        .random(scheme(a)?, row.length)?
        .polynomials(polynomials(a))?;
    let target = Target {
        batch: row.batch,
        ..target(machine, limit)
    };
    let plan = Arc::new(compiler::compile(&lowered.graph, &target)?);
    let compiled = start.elapsed().as_secs_f64();
    let facts = plan.facts();
    let prediction = Prediction::new(&plan, basis.clone(), threads);
    note(format_args!(
        "{}: {} bootstraps, {} keys, peak {}, {} on {threads} threads; made in {}",
        row.name,
        facts.bootstraps,
        facts.keys.0.len(),
        runtime::size(facts.peak_bytes),
        duration(prediction.seconds()),
        duration(compiled)
    ));
    memory(&plan, facts.peak_bytes, limit)?;
    let inputs: Vec<nn::Tensor> = (0..row.batch)
        .map(|i| zoo::shape::sequence(lowered.graph.input_shape(), i as u64))
        .collect();
    let client = Client::new(
        plan.client_file(crate::network::task_of(&lowered.graph))?,
        &mut rng(),
    )?;
    let server = serve(&client, &plan)?;
    let values: Vec<f64> = inputs.iter().flat_map(|x| x.values().to_vec()).collect();
    let begun = Instant::now();
    let (answer, watch) = through((&client, &server), &prediction, &values)?;
    let seconds = begun.elapsed().as_secs_f64();
    let peak_bytes = runtime::machine::peak_bytes();
    // its memory is the twin's now
    drop(server);
    let mut error = (0.0f64, 0.0f64);
    let each = answer.chunks(answer.len() / inputs.len());
    for (x, answer) in inputs.iter().zip(each) {
        let twin = lowered.graph.evaluate(x)?.output;
        for (a, t) in answer.iter().zip(twin.values()) {
            error = (error.0.max((a - t).abs()), error.1.max(t.abs()));
        }
    }
    Ok(Measured {
        compiled,
        seconds,
        cpu_seconds: watch.steps.values().map(|s| s.1).sum(),
        bootstraps: facts.bootstraps,
        keys: facts.keys.0.len(),
        peak_bytes,
        predicted: (prediction.cpu_seconds(), facts.peak_bytes),
        error,
    })
}

fn row(
    a: &EstimateArgs,
    (name, shape): (&str, &TransformerShape),
    (length, batch): (usize, usize),
    basis: &Basis,
    (threads, limit): (usize, Option<u64>),
) -> Result<Row> {
    let small = shape.stand_in(scheme(a)?)?;
    let lowered = small.polynomials(polynomials(a))?;
    let mut levels = [(u32::MAX, 0); 2];
    for (node, piece) in &lowered.approximations.by_node {
        if let Substitute::Program(p) = piece {
            let attention = matches!(small.graph.node(*node).op(), nn::Op::Attention(_));
            let (least, most) = &mut levels[usize::from(!attention)];
            (*least, *most) = ((*least).min(p.depth()), (*most).max(p.depth()));
        }
    }
    let scale = Scale {
        channels: small.channels.clone(),
        tokens: (small.tokens, length),
        narrowed: small.head,
    };
    let target = Target {
        cost: basis.cost.on(threads),
        batch,
        max_memory: limit,
        ..Target::default()
    };
    let sketch = sketch(&lowered.graph, &scale, &target)?;
    let mut purposes: BTreeMap<&'static str, f64> = BTreeMap::new();
    let mut attention = 0.0;
    for part in &sketch.parts {
        *purposes.entry(part.work.name()).or_default() += part.seconds;
        if part.purpose == Purpose::Attention {
            attention += part.seconds;
        }
    }
    let cpu_seconds = sketch.cpu_seconds();
    Ok(Row {
        name: name.into(),
        parameters: shape.parameters()?,
        length,
        batch,
        purposes,
        attention,
        cpu_seconds,
        seconds: basis.cost.wall(cpu_seconds, threads),
        training: [
            shape.training_bytes(length, 1, false)?,
            shape.training_bytes(length, 1, true)?,
        ],
        levels,
        sketch,
        took: 0.0,
        measured: None,
    })
}

fn fits(row: &Row, limit: Option<u64>) -> Option<bool> {
    limit.map(|l| row.sketch.peak_bytes <= l)
}

fn as_json(row: &Row, limit: Option<u64>) -> serde_json::Value {
    let s = &row.sketch;
    json!({
        "model": row.name,
        "parameters": row.parameters,
        "tokens": row.length,
        "batch": row.batch,
        "levels": s.levels,
        "bootstraps": s.bootstraps,
        "bootstrapped_tensors": s.places,
        "input_ciphertexts": s.ports.0,
        "answer_ciphertexts": s.ports.1,
        "keys": s.keys.0.len(),
        "key_bytes": s.key_bytes,
        "weight_bytes": s.weight_bytes,
        "peak_bytes": s.peak_bytes,
        "fits": fits(row, limit),
        "cpu_seconds": row.cpu_seconds,
        "seconds": row.seconds,
        "cpu_seconds_by_purpose": row.purposes,
        "power_softmax_cpu_seconds": row.attention,
        "training_bytes": row.training[0],
        "training_bytes_recomputing": row.training[1],
        "division_levels": [row.levels[0].0, row.levels[0].1],
        "root_levels": [row.levels[1].0, row.levels[1].1],
        "sketched_in_seconds": row.took,
        "measured": row.measured.as_ref().map(|m| json!({
            "compiled_in_seconds": m.compiled,
            "seconds": m.seconds,
            "cpu_seconds": m.cpu_seconds,
            "bootstraps": m.bootstraps,
            "keys": m.keys,
            "peak_bytes": m.peak_bytes,
            "plan_cpu_seconds": m.predicted.0,
            "plan_peak_bytes": m.predicted.1,
            "largest_error": m.error.0,
            "largest_value": m.error.1,
        })),
    })
}

/// Three digits are as many as an estimate has.
fn digits(x: f64) -> String {
    match x {
        x if x < 10.0 => format!("{x:.1}"),
        x if x < 1000.0 => format!("{x:.0}"),
        x => {
            let whole = format!("{x:.0}");
            let mut grouped = String::new();
            for (i, c) in whole.chars().enumerate() {
                if i > 0 && (whole.len() - i).is_multiple_of(3) {
                    grouped.push(',');
                }
                grouped.push(c);
            }
            grouped
        }
    }
}

fn tables(rows: &[Row], basis: &Basis, (threads, limit): (usize, Option<u64>)) -> String {
    let giga = |bytes: u64| digits(bytes as f64 / 1e9);
    let mut t = String::new();
    let mut line = |text: String| {
        t += &text;
        t.push('\n');
    };
    let room = limit.map_or("an unknown amount of memory".into(), runtime::size);
    line(format!(
        "128-bit security (standard-16); {threads} threads, cost table {}; {room} of memory.",
        basis.source
    ));
    let range = |i: usize| {
        let all = rows.iter().map(|r| r.levels[i]);
        let least = all.clone().map(|l| l.0).min().unwrap_or(0);
        let most = all.map(|l| l.1).max().unwrap_or(0);
        format!("{least} to {most}")
    };
    line(format!(
        "Divisions take {} levels, roots {}.\n",
        range(0),
        range(1)
    ));
    line(format!(
        "| model | M parameters | tokens | batch | levels | bootstraps | keys, GB | weights, GB | peak, GB | fits | CPU s | on {threads} threads | for one input |"
    ));
    line("|---|---:|---:|---:|---:|---:|---:|---:|---:|---|---:|---:|---:|".into());
    for r in rows {
        let s = &r.sketch;
        let fits = match fits(r, limit) {
            Some(true) => "yes",
            Some(false) => "no",
            None => "?",
        };
        line(format!(
            "| {} | {} | {} | {} | {} | {} | {}, {} | {} | {} | {fits} | {} | {} | {} |",
            r.name,
            digits(r.parameters as f64 / 1e6),
            r.length,
            r.batch,
            s.levels,
            digits(s.bootstraps as f64),
            s.keys.0.len(),
            giga(s.key_bytes),
            giga(s.weight_bytes),
            giga(s.peak_bytes),
            digits(r.cpu_seconds),
            duration(r.seconds),
            duration(r.seconds / r.batch as f64),
        ));
    }
    line("\nWhere the CPU seconds go, and what P2 measured on one A100:\n".into());
    let names = Work::ALL.map(Work::name);
    line(format!(
        "| model | tokens | batch | {} | all |",
        names.join(" | ")
    ));
    line(format!("|---|---:|---:|{}", "---:|".repeat(7)));
    for r in rows {
        let each = names.map(|n| digits(r.purposes.get(n).copied().unwrap_or(0.0)));
        line(format!(
            "| {} | {} | {} | {} | {} |",
            r.name,
            r.length,
            r.batch,
            each.join(" | "),
            digits(r.cpu_seconds)
        ));
        let (name, length, all, each) = PUBLISHED_RUN;
        if (r.name.as_str(), r.length, r.batch) == (name, length, 1) {
            line(format!(
                "| {name}, P2, A100 seconds | {length} | 1 | {} | {} |",
                each.map(digits).join(" | "),
                digits(all)
            ));
        }
    }
    line("\nPower-Softmax alone, from scores to weights, in all layers:\n".into());
    line(
        "| model | tokens | batch | CPU s with its bootstraps | without | P2, A100 seconds |"
            .into(),
    );
    line("|---|---:|---:|---:|---:|---:|".into());
    for r in rows {
        let published = PUBLISHED_ATTENTION
            .iter()
            .find(|p| (p.0, p.1, 1) == (r.name.as_str(), r.length, r.batch))
            .map_or("–".into(), |p| digits(p.2));
        let alone = r.purposes.get(Work::Attention.name());
        line(format!(
            "| {} | {} | {} | {} | {} | {published} |",
            r.name,
            r.length,
            r.batch,
            digits(r.attention),
            digits(alone.copied().unwrap_or(0.0))
        ));
    }
    line("\nTraining by AdamW in f32, one sequence at a time (`parts` makes batches of any size of it):\n".into());
    line("| model | tokens | GB, everything kept | GB, blocks recomputed |".into());
    line("|---|---:|---:|---:|".into());
    let mut seen = Vec::new();
    for r in rows {
        if seen.contains(&(&r.name, r.length)) {
            continue;
        }
        seen.push((&r.name, r.length));
        line(format!(
            "| {} | {} | {} | {} |",
            r.name,
            r.length,
            giga(r.training[0]),
            giga(r.training[1])
        ));
    }
    let measured = || rows.iter().filter_map(|r| Some((r, r.measured.as_ref()?)));
    if measured().next().is_some() {
        line("\nWith random weights, compiled and run encrypted here (estimated, predicted of the plan, measured):\n".into());
        line("| model | tokens | batch | bootstraps | keys | CPU s | s | peak, GB | compiled in | largest error, of values up to |".into());
        line("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|".into());
    }
    for (r, m) in measured() {
        let s = &r.sketch;
        line(format!(
            "| {} | {} | {} | {}, {} | {}, {} | {}, {}, {} | {}, {} | {}, {}, {} | {} | {:.1e}, {:.1} |",
            r.name,
            r.length,
            r.batch,
            s.bootstraps,
            m.bootstraps,
            s.keys.0.len(),
            m.keys,
            digits(r.cpu_seconds),
            digits(m.predicted.0),
            digits(m.cpu_seconds),
            digits(r.seconds),
            digits(m.seconds),
            giga(s.peak_bytes),
            giga(m.predicted.1),
            giga(m.peak_bytes),
            duration(m.compiled),
            m.error.0,
            m.error.1
        ));
    }
    let largest = (rows.iter())
        .filter(|r| fits(r, limit) == Some(true))
        .max_by_key(|r| (r.parameters, r.length, std::cmp::Reverse(r.batch)));
    if let Some(r) = largest {
        line(format!(
            "\nThe largest of these that fits this machine: {} with {} tokens, batch {}, {} in all, {} for one input.",
            r.name,
            r.length,
            r.batch,
            duration(r.seconds),
            duration(r.seconds / r.batch as f64)
        ));
    } else if limit.is_some() {
        line("\nNone of these fits this machine.".into());
    }
    t
}

//! What a file is, and who may see it.

use crate::error::{Error, Help, Result, named};
use crate::files;
use crate::inputs::listed;
use crate::machine::{self, Machine, Probing, forecast};
use crate::network::{self, CLIENT_FILE};
use crate::progress::duration;
use nn::format::{DEFAULT_LIMIT, artefact, read_limited};
use nn::{Nonlinearity, Op};
use runtime::machine::require_room;
use runtime::wire::container::{HEADER_LEN, Header, Kind, short};
use runtime::{ClientFile, VerifiedPlan, limits, size};
use serde_json::{Value, json};
use std::io::{Cursor, Read, Seek};
use std::path::Path;
use task::{Normalization, Outputs, Task};

/// A file, explained.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// In words.
    pub text: String,
    /// As one JSON object.
    pub json: Value,
    /// What a network needs before it can be compiled.
    pub help: Option<Help>,
}

const WHO_MAY_SEE_MODELS: &str = "whoever may know the model: weights are in the clear";

/// Explains any of our files; what a plan will cost is predicted for this machine.
///
/// # Errors
/// Files of another kind, and damaged ones.
pub fn inspect(path: &Path, machine: &Machine) -> Result<Inspection> {
    let held = held(path)?;
    let mut magic = [0u8; 5];
    let ours = open(path, &held)?.read_exact(&mut magic).is_ok() && &magic == b"PVEIL";
    match ours {
        true => container(path, &held, machine),
        false => model(path, held),
    }
}

/// What can be read but once, as a pipe, since it is read more than once: no more than its header says.
fn held(path: &Path) -> Result<Option<Vec<u8>>> {
    if std::fs::metadata(path).map_err(named(path))?.is_file() {
        return Ok(None);
    }
    let (name, mut all) = (path.display().to_string(), Vec::new());
    let mut pipe = files::open(path)?;
    (pipe.by_ref().take(HEADER_LEN).read_to_end(&mut all)).map_err(named(path))?;
    let length = match Header::read(&mut &all[..], &name) {
        Ok(header) if header.kind == Kind::ClientKey => {
            let what = "a secret key is not kept in memory to look at it; name its file";
            return Err(named(path)(what));
        }
        Ok(header) => {
            let needed = limits::resident().saturating_add(header.length);
            require_room(&name, needed, ", or save it to a file first")?;
            header.length
        }
        Err(_) if artefact::begins_like_one(&all) => DEFAULT_LIMIT,
        Err(_) => 0,
    };
    let rest = length.saturating_add(1).saturating_sub(all.len() as u64);
    (pipe.take(rest).read_to_end(&mut all)).map_err(named(path))?;
    let (limit, had) = (DEFAULT_LIMIT, all.len() as u64);
    if had > limit && artefact::begins_like_one(&all) {
        let what = name;
        return Err(nn::Error::TooLarge { what, limit, had }.into());
    }
    Ok(Some(all))
}

trait Source: Read + Seek {}
impl<S: Read + Seek> Source for S {}

fn open<'a>(path: &Path, held: &'a Option<Vec<u8>>) -> Result<Box<dyn Source + 'a>> {
    Ok(match held {
        Some(bytes) => Box::new(Cursor::new(bytes)),
        None => Box::new(files::open(path)?),
    })
}

fn container(path: &Path, held: &Option<Vec<u8>>, machine: &Machine) -> Result<Inspection> {
    let name = path.display().to_string();
    let i = runtime::inspection::inspect(open(path, held)?, &name)?;
    let on_disk = match held {
        Some(bytes) => bytes.len() as u64,
        None => std::fs::metadata(path)?.len(),
    };
    if on_disk != i.length {
        return Err(format!("{name}: length: the file has {on_disk} bytes but says {}; the file is damaged: copy or make it again", i.length).into());
    }
    let mut text = format!(
        "{name}\n  kind         {}\n  who may see  {}\n  version      {}\n  length       {}\n  plan         {}\n",
        i.kind.name(),
        i.kind.who_may_see(),
        i.version,
        size(i.length),
        i.plan_digest
    );
    let keys = i.parameters.as_ref().map(ckks::Parameters::key_security);
    let keys = keys.unwrap_or_default();
    if let Some(p) = &i.parameters {
        let weights = p.spec().weight_bits();
        let weights = weights.map(|b| format!(", weights of {b} bits"));
        text += &format!(
            "  parameters   {} (digest {}): N = 2^{}, log Q {:.1}, log P {:.1}, log QP {:.1}, {} residual levels{}\n  security     {} bits\n",
            p.spec().name,
            i.parameters_digest,
            p.spec().log_n,
            p.log_q(),
            p.log_p(),
            p.log_qp(),
            p.residual().index() - p.floor().index(),
            weights.unwrap_or_default(),
            p.security_bits()
        );
        text += &machine::security(p, "    ");
    }
    if let Some(key) = &i.key {
        text += &format!("  key          {key}\n");
    }
    // a key's inputs are those of the client file that it was made from, a plan's those of the one that was written with it
    let client = match i.kind {
        Kind::ClientFile => Some(ClientFile::read(open(path, held)?, &name)?),
        Kind::ClientKey => {
            let beside = network::client_file(&path.with_file_name(CLIENT_FILE)).ok();
            beside.filter(|c| i.details.contains(&("client file", short(c.digest()))))
        }
        Kind::Plan => {
            let beside = network::client_file(&path.with_extension("client")).ok();
            beside.filter(|c| short(&c.spec().plan) == i.plan_digest)
        }
        _ => None,
    };
    let client = client.filter(|c| !c.task().is_empty());
    let task = client.map(|c| Task::from_bytes(c.task())).transpose();
    let task = task.map_err(|e| named(path)(format!("its client file: {e}")))?;
    if let Some(task) = &task {
        text += &format!("  task is of   {}\n", task.kind());
        text += &meaning(task);
    }
    for (what, value) in &i.details {
        text += &format!("  {what:12} {value}\n");
    }
    let mut object = json!({
        "file": name,
        "kind": i.kind,
        "who_may_see": i.kind.who_may_see(),
        "version": i.version,
        "bytes": i.length,
        "plan": i.plan_digest,
        "key": i.key.map(|k| k.to_string()),
        "task": task.as_ref().map(Task::kind),
        "normalization": task.as_ref().and_then(normalization),
        "labels": task.as_ref().and_then(Task::outputs).map(Outputs::names),
        "positions": task.as_ref().and_then(positions),
        "parameters": i.parameters.as_ref().map(|p| p.spec()),
        "parameters_digest": i.parameters_digest,
        "log_qp": i.parameters.as_ref().map(|p| p.log_qp()),
        "security_bits": i.parameters.as_ref().map(|p| p.security_bits()),
        "security": keys.iter().map(|k| json!({ "key": k.name, "log_modulus": k.log_modulus, "bits": k.bits, "source": k.source })).collect::<Vec<_>>(),
        "details": i.details.iter().map(|(k, v)| json!([k, v])).collect::<Vec<_>>(),
    });
    if i.kind == Kind::Plan {
        let plan = match held {
            Some(bytes) => VerifiedPlan::read(&bytes[..], &name).map_err(alone(path))?,
            None => network::plan(path)?,
        };
        let made = machine.predict(&plan, None, Probing::AsItIs)?;
        let (bounds, values) = (plan.answer_bounds(), plan.plan().output.elements());
        text += &format!("  answer       {values} values of {bounds}\n\n");
        text += &forecast(&plan, &made, None);
        text += &format!(
            "{} of memory are fetched from the system before the first step, in about {}\nwhy these parameters:\n",
            size(made.fresh_bytes),
            duration(made.fresh_cpu_seconds)
        );
        for line in plan.plan().description.parameters.lines() {
            text += &format!("  {line}\n");
        }
        text += "\n";
        text += &compiler::describe(&plan);
        object["answer"] = json!(bounds);
        object["alarm"] = json!(plan.plan().description.alarm);
        object["bootstraps"] = json!(plan.facts().bootstraps);
        object["key_bytes"] = json!(plan.facts().key_file_bytes);
        object["predicted_peak_bytes"] = json!(plan.facts().peak_bytes);
        object["predicted_seconds"] = json!(made.seconds);
    }
    Ok(Inspection {
        text,
        json: object,
        help: None,
    })
}

/// Of a plan from a pipe, which has no name that its weights could have, too.
fn alone(path: &Path) -> impl FnOnce(runtime::Error) -> Error + '_ {
    move |e| match e {
        runtime::Error::File { field, .. } if field == "weights" => named(path)(
            "the weights of this plan lie in a file beside it, of its name, which a pipe does not have; name the plan's file",
        ),
        e => e.into(),
    }
}

fn model(path: &Path, held: Option<Vec<u8>>) -> Result<Inspection> {
    let bytes = held.map_or_else(|| read_limited(path, DEFAULT_LIMIT), Ok)?;
    if !artefact::recognises(&bytes) {
        return Err(format!("{}: this is neither a file of Polyveil's nor a .pvm model; trained networks (.pt, .th, .safetensors, .onnx) are calibrated first", path.display()).into());
    }
    let (g, m) = artefact::graph_from_bytes(&bytes).map_err(named(path))?;
    // None while there are activations or maxima.
    let ranges = match artefact::from_bytes(&bytes) {
        Ok(p) => Some(p.ranges().is_some()),
        Err(
            nn::Error::NotPolynomial { .. }
            | nn::Error::Maximum { .. }
            | nn::Error::Softmax { .. }
            | nn::Error::NotLowered { .. },
        ) => None,
        Err(e) => return Err(named(path)(e)),
    };
    let (said, help) = match ranges {
        Some(true) => ("calibrated", None),
        Some(false) => (
            "missing: calibrate it before compiling",
            Some(Help::Calibrate),
        ),
        None => (
            "none: calibration or adaptation makes this network polynomial first",
            Some(Help::MakePolynomial),
        ),
    };
    let polynomials: Vec<(&str, &approx::Polynomial)> = g
        .nodes()
        .iter()
        .filter_map(|n| match n.op() {
            Op::Elementwise(Nonlinearity::Polynomial(p)) => Some((n.name(), p)),
            _ => None,
        })
        .collect();
    let maxima = g
        .nodes()
        .iter()
        .filter(|n| matches!(n.op(), Op::MaxPool(_)))
        .count();
    let mut text = format!(
        "{}\n  kind         {}\n  who may see  {}\n  length       {}\n  network      {}\n  input        {}\n  output       {}\n  nodes        {}, {} of them polynomials\n  ranges       {said}\n",
        path.display(),
        "model",
        WHO_MAY_SEE_MODELS,
        size(bytes.len() as u64),
        m.name,
        g.input().shape(),
        g.output().shape(),
        g.nodes().len(),
        polynomials.len()
    );
    if maxima > 0 {
        text += &format!("  maxima       {maxima}: adaptation replaces them by average pools\n");
    }
    for line in &m.provenance {
        text += &format!("  made         {line}\n");
    }
    let task = Task::of(&m).map_err(named(path))?;
    let (mut prompt_tokens, mut sentence_tokens) = (None, None);
    match &task {
        Some(Task::Prompts(p)) => {
            prompt_tokens = Some(p.length());
            text += &format!(
                "  prompts      up to {} tokens of {}, {} public at the beginning\n",
                p.length(),
                p.embedding().rows(),
                p.public()
            );
        }
        Some(Task::Sentences(s)) => {
            sentence_tokens = Some(s.length());
            text += &format!(
                "  sentences    up to {} tokens of {}\n",
                s.length(),
                s.tokenizer().len()
            );
        }
        _ => {}
    }
    text += &task.as_ref().map(meaning).unwrap_or_default();
    let outputs = task.as_ref().and_then(Task::outputs);
    if let Some(record) = &m.training {
        text += "  training\n";
        training(record, "    ", &mut text);
    }
    for (node, a) in g.activations() {
        text += &format!("    {:20} {a}\n", node.name());
    }
    for (node, p) in &polynomials {
        text += &format!(
            "    {node:20} degree {:2} on [{:.3}, {:.3}]\n",
            p.degree(),
            p.interval().0,
            p.interval().1
        );
    }
    let object = json!({
        "file": path.display().to_string(), "kind": "Model", "who_may_see": WHO_MAY_SEE_MODELS, "bytes": bytes.len(),
        "network": m.name, "labels": outputs.map_or(&[][..], Outputs::names), "nodes": g.nodes().len(), "polynomials": polynomials.len(), "activations": g.activations().count(), "maxima": maxima,
        "calibrated": ranges == Some(true), "provenance": m.provenance, "training": m.training,
        "normalization": task.as_ref().and_then(normalization),
        "prompt_tokens": prompt_tokens,
        "sentence_tokens": sentence_tokens,
    });
    Ok(Inspection {
        text,
        json: object,
        help,
    })
}

/// What is taken from inputs and divided by.
fn normalization(task: &Task) -> Option<&Normalization> {
    match task {
        Task::Pictures(t) => Some(t.normalization()),
        Task::Vectors(t) => t.normalization(),
        _ => None,
    }
}

/// The positions of a prompt that answers hold, where these are not all.
fn positions(task: &Task) -> Option<&[usize]> {
    match task {
        Task::Prompts(t) => t.positions(),
        _ => None,
    }
}

/// How pixels or rows become inputs, and what outputs are.
fn meaning(task: &Task) -> String {
    let mut text = match (task, normalization(task)) {
        (Task::Pictures(_), Some(n)) => format!("  pixels       {n} (v from 0 to 255)\n"),
        (Task::Vectors(t), n) if t.shape().as_image().is_some() => {
            let (shape, channels) = (t.shape(), t.shape().dims()[0]);
            let each = shape.len() / channels;
            let line = |n: &Normalization| {
                let digits = |v: f64| (v * 1e6).round() / 1e6;
                let line = |c: usize| {
                    let (mean, deviation) = (n.mean[c * each], n.deviation[c * each]);
                    format!(
                        "    channel {c:<12} (v − {})/{}\n",
                        digits(mean),
                        digits(deviation)
                    )
                };
                (0..channels).map(line).collect::<String>()
            };
            let values = n.map_or_else(
                || "as they are\n".into(),
                |n| format!("each v becomes\n{}", line(n)),
            );
            format!("  rows         numbers of shape {shape}, one behind the other, {values}")
        }
        (Task::Vectors(t), Some(n)) => {
            let digits = |v: f64| (v * 1e6).round() / 1e6;
            let columns = t.columns().iter().zip(n.mean.iter().zip(&n.deviation));
            let each = columns.map(|(name, (mean, deviation))| {
                let (mean, deviation) = (digits(*mean), digits(*deviation));
                format!("    {name:20} (v − {mean})/{deviation}\n")
            });
            "  rows         each column v becomes\n".to_string() + &each.collect::<String>()
        }
        (Task::Vectors(t), None) => {
            format!("  rows         as they are: {}\n", listed(t.columns()))
        }
        _ => String::new(),
    };
    if let Some(chosen) = positions(task) {
        let positions = crate::positions::listed(chosen);
        text += &format!(
            "  answers      logits of {} {positions} alone, from 0, a public first token not counted\n",
            ["position", "positions"][usize::from(chosen.len() > 1)]
        );
    }
    if let Some(outputs) = task.outputs() {
        let names = match outputs.names() {
            [] => "without names".into(),
            names => listed(names),
        };
        let taken = match outputs {
            Outputs::Classes(_) => "; whoever decrypts takes the softmax of these scores",
            Outputs::Labels(_) => "; whoever decrypts takes the sigmoid of these scores",
            _ => "",
        };
        text += &format!("  outputs      {}: {names}{taken}\n", outputs.kind());
    }
    text
}

/// A record as indented lines; texts of several lines keep them.
fn training(record: &Value, indent: &str, text: &mut String) {
    let deeper = format!("{indent}  ");
    let Value::Object(fields) = record else {
        *text += &format!("{indent}{record}\n");
        return;
    };
    for (key, value) in fields {
        match value {
            Value::Object(_) => {
                *text += &format!("{indent}{key}\n");
                training(value, &deeper, text);
            }
            Value::String(s) if s.contains('\n') => {
                *text += &format!("{indent}{key}\n");
                for line in s.lines() {
                    *text += &format!("{deeper}{line}\n");
                }
            }
            Value::String(s) => *text += &format!("{indent}{key:18} {s}\n"),
            other => *text += &format!("{indent}{key:18} {other}\n"),
        }
    }
}

//! The commands: arguments become calls of the library, and what it gives is printed. JSON goes to stdout alone.

use crate::arguments::*;
use crate::place;
use crate::terminal::{Line, goes_on, note, say, say_line};
use polyveil::calibrate::{self, Calibrating, Material, Meaning, Pools};
use polyveil::client::{Client, Input, Release, expect_own, refusal};
use polyveil::data::Answers;
use polyveil::estimate::Estimating;
use polyveil::evaluate::{Evaluation, Set};
use polyveil::files::{Content, Output};
use polyveil::inputs::Source;
use polyveil::keys::KeygenOptions;
use polyveil::machine::{Machine, Probing, forecast};
use polyveil::nn::attention::{Denominator, PowerSoftmax};
use polyveil::nn::lower::Numerator;
use polyveil::nn::{PolyGraph, Tensor};
use polyveil::progress::duration;
use polyveil::runtime::machine::cpu_seconds;
use polyveil::runtime::report::{Answer, Measured};
use polyveil::runtime::sharing::{DEFAULT_CLASS_BITS, DEFAULT_SECURITY, Flooding, Terms};
use polyveil::runtime::wire::container::Kind;
use polyveil::runtime::{Placement, Prediction, Report, VerifiedPlan, size};
use polyveil::serve::Serving;
use polyveil::session::Precision;
use polyveil::task::tokenizer::Long;
use polyveil::task::{Outputs, Task};
use polyveil::{Error, Result, compiler, network, nn};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Instant;

static MODEL: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/model"));
static PICTURE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/picture"));
/// Where this is built from, if the build could know.
const COMMIT: Option<&str> = option_env!("POLYVEIL_COMMIT");

/// What is said where nothing could be said of what lies beside the values.
const UNSEEN: &str = "no input that could be made up keeps the network's intervals, so what lies at places without a value was not looked at, and answers may be refused for it: before you rely on this plan, run it on an input of yours with `run --check`, or compile it with `--layers slots`";
/// What stands in place of a promise about shared answers, where the bound multiplies worst cases through divisions.
const NO_BOUND: &str = "the bound for all inputs multiplies worst cases through divisions and says nothing here. Sharing rests on it: such answers can't be shared (`decrypt --share`)";

/// Calls with a line of progress on stderr.
fn with_line<T>(work: impl FnOnce(polyveil::Listener<'_>) -> Result<T>) -> Result<T> {
    let mut line = Line::new();
    work(&mut |p| line.hear(p))
}

/// Compiles, and says what that will take before and how long it has taken meanwhile.
fn compiled(
    graph: &PolyGraph,
    target: &compiler::Target,
) -> Result<(VerifiedPlan, Option<compiler::Needs>)> {
    let needs = polyveil::foreseen(graph, target, &mut |p| note(p.message));
    let (start, before) = (Instant::now(), cpu_seconds());
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let tell = move || {
        let mut line = Line::new();
        while stopped.recv_timeout(line.pause()) == Err(RecvTimeoutError::Timeout) {
            let so_far = duration(start.elapsed().as_secs_f64());
            line.show(&format!("  compiling, {so_far} so far"));
        }
    };
    let plan = std::thread::scope(|scope| {
        // where a thread can't be had, nothing is said meanwhile
        drop(std::thread::Builder::new().spawn_scoped(scope, tell));
        let plan = polyveil::compile(graph, target);
        drop(stop);
        plan
    })?;
    note(format_args!(
        "compiled in {:.1} CPU seconds",
        cpu_seconds() - before
    ));
    Ok((plan, needs))
}

/// Prints a report: JSON alone on stdout, or the table, on stderr where stdout holds something else; SVG into a file.
fn publish(report: &Report, json: bool, beside: bool, svg: Option<(Output, &Path)>) -> Result<()> {
    if let Some((file, path)) = svg {
        file.write_bytes(report.to_svg().as_bytes())?;
        wrote(path);
    }
    match (beside, json) {
        (true, _) => note(report.to_text().trim_end()),
        (_, true) => say_line(report.to_json())?,
        _ => say(report.to_text())?,
    }
    Ok(())
}

/// A file for what will be made, opened before the work.
fn output(
    path: &Path,
    content: Content,
    others: &[&Path],
    overwrite: OverwriteArgs,
) -> Result<Output> {
    let existing = overwrite.existing();
    Output::create(path, content, others, existing, &mut |p| note(p.message))
}

/// A file that is asked for, opened before the work.
fn opened<'a>(
    path: Option<&'a Path>,
    content: Content,
    others: &[&Path],
    overwrite: OverwriteArgs,
) -> Result<Option<(Output, &'a Path)>> {
    let open = |path| Ok((output(path, content, others, overwrite)?, path));
    path.map(open).transpose()
}

/// Says as JSON, where that is asked for, why an answer is not shown.
fn say_refusal(e: &Error, json: bool) {
    if let Some(why) = refusal(e).filter(|_| json) {
        // the error is what is told where this can't be
        let _ = say_line(why);
    }
}

/// Warns of a model in which nothing would tell of damage.
fn look_at(model: &Path) {
    if let Some(warning) = network::without_checksum(model) {
        note(format_args!("warning: {warning}"));
    }
}

fn wrote(path: &Path) {
    note(format_args!("wrote {}", path.display()));
}

impl PredictionArgs {
    fn machine(&self) -> Result<Machine> {
        with_line(|tell| place::machine(self.machine.as_deref(), tell))
    }

    /// Says what a run will cost, and stores it. Nothing changes it afterwards.
    fn announce(
        &self,
        to: Option<Output>,
        machine: &Machine,
        plan: &VerifiedPlan,
        placement: Option<&Placement>,
    ) -> Result<Prediction> {
        let probing = match self.no_probe {
            true => Probing::AsItIs,
            false => Probing::Probe,
        };
        let made = machine.predict(plan, placement, probing)?;
        note(forecast(plan, &made, placement).trim_end());
        if let Some(file) = to {
            file.write_bytes((made.to_json() + "\n").as_bytes())?;
        }
        Ok(made)
    }

    /// The prediction's file, opened before the work.
    fn file(&self, others: &[&Path], overwrite: OverwriteArgs) -> Result<Option<Output>> {
        let machine = self.machine.as_deref();
        let others: Vec<&Path> = others.iter().copied().chain(machine).collect();
        let open = |path: &PathBuf| output(path, Content::Prediction, &others, overwrite);
        self.prediction.as_ref().map(open).transpose()
    }
}

/// The demo's network, or the one that is asked for.
fn demo_network(model: Option<&Path>) -> Result<PolyGraph> {
    match model {
        Some(path) => {
            look_at(path);
            network::load_polynomial(path)
        }
        None if MODEL.is_empty() => Err("this program was built without its embedded network: models/resnet20-poly.pvm was missing; give one with --model FILE.pvm (`polyveil calibrate` makes one)".into()),
        None => Ok(nn::format::artefact::from_bytes(MODEL)?),
    }
}

/// The values of the demo's picture, or of the one that is asked for.
fn demo_input(a: &DemoArgs, graph: &PolyGraph) -> Result<Tensor> {
    let task = network::task_of_graph(graph)?;
    match &a.image {
        Some(path) => {
            let source = Source {
                picture: true,
                scale: a.resize,
                ..Source::of(path)
            };
            with_line(|tell| polyveil::inputs::tensor(&task, &source, 0, tell))
        }
        None if PICTURE.is_empty() => Err("this program was built without its embedded picture: models/picture.png was missing; give one with --image FILE.png".into()),
        None => {
            let fitted = match &task {
                Task::Pictures(t) if a.resize => Some(t.size()),
                _ => None,
            };
            polyveil::demo::encoded(PICTURE, fitted, &task)
        }
    }
}

impl RowArgs {
    /// A file or folder with what is said of its part and rows.
    fn source(&self, path: &Path) -> Source {
        Source {
            answers: Answers::of(self.class_column.clone(), &self.value_columns),
            without: self.without.clone(),
            heading: self.heading.unwrap_or_default(),
            split: self.split,
            ..Source::of(path)
        }
    }
}

pub(crate) fn demo(a: &DemoArgs) -> Result<()> {
    let others = a.model.iter().chain(&a.image);
    let others: Vec<&Path> = others.map(PathBuf::as_path).collect();
    let report_file = opened(a.report.as_deref(), Content::Chart, &others, a.overwrite)?;
    let others: Vec<&Path> = others.into_iter().chain(a.report.as_deref()).collect();
    let prediction_file = a.predict.file(&others, a.overwrite)?;
    let graph = demo_network(a.model.as_deref())?;
    let input = demo_input(a, &graph)?;
    let machine = a.predict.machine()?;
    let plan = Arc::new(compiled(&graph, &machine.target(a.max_memory))?.0);
    let prediction = a.predict.announce(prediction_file, &machine, &plan, None)?;
    polyveil::require_memory(&plan, prediction.peak_bytes, a.max_memory)?;
    let precision = match a.no_precision {
        true => Precision::Unmeasured,
        false => Precision::EveryLayer,
    };
    let report = with_line(|tell| {
        polyveil::demo::demonstrate(&graph, &plan, prediction, &input, precision, tell)
    });
    let report = report.inspect_err(|e| say_refusal(e, a.json))?;
    let (found, task) = (&report.answer, network::task_of_graph(&graph)?);
    if !a.json {
        let values = [&found.logits[..], &found.values].concat();
        say_line(network::answer_lines(&task.decode(&values)?))?;
        let off = found.max_abs_error.unwrap_or(f64::NAN);
        match (found.class, found.clear_class) {
            (Some(class), Some(clear)) => {
                let labels = task.outputs().map_or(&[][..], Outputs::names);
                let label = |c| network::label(labels, c);
                say_line(format_args!(
                    "encrypted: {}, the polynomial network in the clear: {} — {}; largest difference of a logit {off:.2e}\n",
                    label(class),
                    label(clear),
                    match class == clear {
                        true => "the same class",
                        false => "ANOTHER class",
                    },
                ))?;
            }
            _ => say_line(format_args!(
                "largest difference from the polynomial network in the clear: {off:.2e}\n"
            ))?,
        }
    }
    publish(&report, a.json, false, report_file)?;
    let saw = format!(
        "What the server saw: {} of ciphertext and {} of evaluation keys, and it sent back {} of ciphertext; never a pixel, a logit or the secret key.",
        size(report.input_bytes.unwrap_or_default()),
        size(report.key_bytes),
        size(report.answer_bytes.unwrap_or_default())
    );
    match a.json {
        true => note(saw),
        false => say_line(saw)?,
    }
    Ok(())
}

impl TextArgs {
    fn attention(&self) -> Result<Option<PowerSoftmax>> {
        let Some(exponent) = self.power else {
            return Ok(None);
        };
        let power = PowerSoftmax::new(exponent, self.epsilon)?;
        Ok(Some(match self.power_mean {
            true => power.over(Denominator::Mean),
            false => power,
        }))
    }
}

pub(crate) fn values(a: &ValuesArgs) -> Result<()> {
    let (activation, output) = (a.activation.as_deref(), a.network_output.as_deref());
    look_at(&a.model);
    let y = network::values(&a.model, activation, output, &a.input)?;
    say_line(network::json(&y, &mut |p| note(p.message)))
}

impl CalibrateArgs {
    fn options(&self) -> Result<Calibrating> {
        let (a, t) = (self, &self.text);
        let values = match &a.values[..] {
            [] => &a.rows.value_columns,
            _ => &a.values,
        };
        let names = [&a.labels[..], values].concat();
        Ok(Calibrating {
            name: a.name.clone(),
            outputs: match (a.answers, &a.labels[..], &values[..]) {
                (Some(AnswerKind::Classes), ..) => Some(Meaning::Classes(names)),
                (Some(AnswerKind::Labels), ..) => Some(Meaning::Labels(names)),
                (Some(AnswerKind::Values), ..) => Some(Meaning::Values(names)),
                (Some(AnswerKind::Tensor), ..) => Some(Meaning::Tensor),
                (None, [], []) => None,
                (None, [], _) => Some(Meaning::Values(names)),
                (None, ..) => Some(Meaning::Classes(names)),
            },
            activation: a.activation.clone(),
            network_output: a.network_output.clone(),
            pools: match a.pool {
                Some(PoolKind::Average) => Pools::Average,
                None => Pools::AsTheyAre,
            },
            normalization: a.pixels.stated(),
            degree: a.degree,
            margin: a.margin,
            limit: a.limit,
            leave_out: t.leave_out,
            attention: t.attention()?,
            bits: t.bits,
            numerator: match t.carry {
                true => Numerator::Carried,
                false => Numerator::Apart,
            },
            length: t.length,
            tokenizer: t
                .tokenizer
                .as_deref()
                .map(calibrate::tokenizer)
                .transpose()?,
            first: t.first,
        })
    }
}

pub(crate) fn calibrate(a: &CalibrateArgs) -> Result<()> {
    let (t, s) = (&a.text, &a.sentences);
    let material = match (&t.text, &t.tokens, &s.sentences) {
        (Some(path), ..) => Material::Text(path.clone()),
        (_, Some(path), _) => Material::Tokens(path.clone()),
        (.., Some(path)) => Material::Sentences(Source {
            cut: s.truncate,
            ..Source::of(path)
        }),
        _ => {
            let source = |path: &PathBuf| Source {
                scale: a.resize,
                ..a.rows.source(path)
            };
            Material::Inputs(a.data.iter().map(source).collect())
        }
    };
    let mut others = material.files();
    let beside = t.tokenizer.iter().chain([&a.model]);
    others.extend(beside.map(PathBuf::as_path));
    let output = output(&a.output, Content::Model, &others, a.overwrite)?;
    look_at(&a.model);
    let options = a.options()?;
    let graph =
        with_line(|tell| polyveil::calibrate::calibrate(&a.model, &material, &options, tell))?;
    output.write_bytes(&nn::format::artefact::to_bytes(&graph)?)?;
    wrote(&a.output);
    Ok(())
}

pub(crate) fn compile(a: &CompileArgs) -> Result<()> {
    let existing = a.overwrite.existing();
    let mut tell = |p: polyveil::Progress<'_>| note(p.message);
    let machine = a.predict.machine.as_deref();
    let inputs: Vec<&Path> = machine.into_iter().chain([a.model.as_path()]).collect();
    let files = network::PlanFiles::create(&a.output, &inputs, existing, &mut tell)?;
    let beside = ["client", "weights"].map(|ending| a.output.with_extension(ending));
    let others = [&a.model, &a.output, &beside[0], &beside[1]].map(PathBuf::as_path);
    let prediction_file = a.predict.file(&others, a.overwrite)?;
    look_at(&a.model);
    let graph = (a.answering.positions).cut(network::load_polynomial(&a.model)?)?;
    let machine = a.predict.machine()?;
    let target = compiler::Target {
        parameters: a.parameters.clone(),
        layers: a.layers,
        keys_on_disk: true,
        batch: a.batch,
        watch: match a.no_alarm {
            true => compiler::Watch::Nothing,
            false => compiler::Watch::Operands,
        },
        ..machine.target(a.max_memory)
    };
    let (plan, needs) = compiled(&graph, &target).map_err(|e| e.within(&a.model))?;
    let serving = Serving {
        max_memory: a.max_memory,
        ..Serving::default()
    };
    let placement = serving.placement(&plan);
    let made = (a.predict).announce(prediction_file, &machine, &plan, placement.as_ref())?;
    let (bounds, values) = (plan.answer_bounds(), plan.plan().output.elements());
    let task = network::task_of_graph(&graph).ok();
    let outputs = task.as_ref().and_then(Task::outputs);
    if network::divides(&plan) {
        note(NO_BOUND);
    } else if outputs.and_then(Outputs::classes).is_some() {
        let once = Flooding::new(bounds, values, DEFAULT_SECURITY, 1)?;
        note(format_args!(
            "of an answer that is passed on (`decrypt --share`) the best class must lead by {:.1e}, as the class alone (`--class-only`) by {:.1e}",
            once.needed_margin(DEFAULT_CLASS_BITS),
            2.0 * bounds.shared_error()
        ));
    }
    if network::is_unseen_beside(&plan) {
        note(UNSEEN);
    }
    match &plan.plan().description.alarm {
        Some(alarm) => note(format_args!("the alarm {alarm}")),
        None => note("no alarm: nobody will see that a value left its interval"),
    }
    let beside = files.save(&plan, &graph)?;
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
    let file = |path: &Path| format!("{} ({})", path.display(), size(length(path)));
    match &beside.client {
        Some(client) => {
            let weights = beside.weights.as_deref().map_or_else(String::new, |w| {
                format!(" with its weights beside it, {}", file(w))
            });
            note(format_args!(
                "wrote {}{weights} for the server (`polyveil inspect` says more of it), and {} for clients: keys are made from it",
                file(&a.output),
                file(client)
            ));
        }
        None => note("wrote the plan alone: a client file is written beside a plan that is a file"),
    }
    if a.json {
        let report = Report::new(&plan, &made, &Measured::default(), Answer::default());
        let mut json = serde_json::to_value(&report).map_err(|e| Error::from(e.to_string()))?;
        json["compiling"] = serde_json::json!(needs);
        say_line(format_args!("{json:#}"))?;
    }
    Ok(())
}

pub(crate) fn keygen(a: &KeygenArgs) -> Result<()> {
    let options = KeygenOptions {
        replace: a.replace,
        accept_toy: a.insecure_toy,
    };
    let machine = PredictionArgs::default().machine()?;
    let keys =
        with_line(|tell| polyveil::keys::keygen(&a.client, &a.output, options, &machine, tell))?;
    note(format_args!(
        "wrote {} (secret: keep it; never send it) and {} (send it to the server)",
        keys.secret.display(),
        keys.public.display()
    ));
    Ok(())
}

pub(crate) fn encrypt(a: &EncryptArgs) -> Result<()> {
    let long = match a.truncate {
        true => Long::Cut,
        false => Long::Refuse,
    };
    let source = |path: &Path| Source {
        scale: a.resize,
        ..a.rows.source(path)
    };
    let image = |path: &PathBuf| {
        let source = Source {
            picture: true,
            ..source(path)
        };
        Input::Item(source, 0)
    };
    let mut inputs: Vec<Input> = a.image.iter().map(image).collect();
    inputs.extend(a.text.iter().map(|text| Input::Text(text.clone(), long)));
    let items = a.index.iter().zip(a.data.iter().cycle());
    inputs.extend(items.map(|(&i, path)| Input::Item(source(path), i)));
    let beside = a.client.clone().unwrap_or_else(|| client_beside(&a.key));
    let mut others = vec![a.key.as_path(), &beside];
    others.extend(inputs.iter().flat_map(Input::files));
    let content = Content::Container(Kind::Input);
    let output = output(&a.output, content, &others, a.overwrite)?;
    let (batch, count) = with_line(|tell| {
        let client = Client::open(&a.key, a.client.as_deref())?;
        own_key(&a.key)?;
        client.encrypt_file(&inputs, output, tell)?;
        Ok((client.keys().spec().input.batch, inputs.len()))
    })?;
    note(format_args!(
        "wrote {} (send it to the server)",
        a.output.display()
    ));
    if batch > 1 {
        note(format_args!(
            "it holds {count} of {batch} inputs, which nothing tells later: `polyveil decrypt --count {count}`"
        ));
    }
    Ok(())
}

/// The client file that goes with a key where none is named.
fn client_beside(key: &Path) -> PathBuf {
    key.with_file_name(network::CLIENT_FILE)
}

/// Warns where others may read a secret key.
fn own_key(path: &Path) -> Result<()> {
    if let Some(warning) = polyveil::files::readable_by_others(path)? {
        note(format_args!("warning: {warning}"));
    }
    Ok(())
}

pub(crate) fn run(a: &RunArgs) -> Result<()> {
    let keys = match (&a.keys, a.check, &a.key) {
        (None, true, _) | (_, true, None) => {
            return Err("--check compares with the run in the clear on the owner's machine: it needs both --keys evaluation.keys and --key client.key".into());
        }
        (None, false, _) => return Err("the client's evaluation keys are needed: --keys evaluation.keys (`polyveil keygen` makes them)".into()),
        (_, false, Some(_)) => return Err("a server must not be given client.key; --key is for --check on the owner's machine only".into()),
        (Some(keys), _, _) => keys,
    };
    if a.check && a.resume {
        return Err("--check follows a run from its beginning: leave --resume out".into());
    }
    let serving = Serving {
        plan: a.plan.clone(),
        keys: keys.clone(),
        input: a.input.clone(),
        output: a.output.clone(),
        existing: a.overwrite.existing(),
        checkpoint: a.checkpoint.clone(),
        resume: a.resume,
        keys_on_disk: a.keys_on_disk,
        max_memory: a.max_memory,
        check: a.key.clone(),
    };
    let (kept, weights) = (serving.kept(), a.plan.with_extension("weights"));
    let beside = a.key.as_deref().map(client_beside);
    let mut others = vec![a.plan.as_path(), keys, &a.input, &a.output, &kept, &weights];
    let more = a.key.iter().chain(&beside).chain(&a.predict.machine);
    others.extend(more.map(PathBuf::as_path));
    let content = match a.check {
        true => Content::PrivateChart,
        false => Content::Chart,
    };
    let report_file = opened(a.report.as_deref(), content, &others, a.overwrite)?;
    others.extend(a.report.as_deref());
    let prediction_file = a.predict.file(&others, a.overwrite)?;
    a.key.as_deref().map_or(Ok(()), own_key)?;
    serving.expect(&mut |p| note(p.message))?;
    let limits = polyveil::runtime::Limits {
        unpacked: a.max_memory,
    };
    let plan = Arc::new(network::plan_within(&a.plan, limits)?);
    let placement = serving.placement(&plan);
    let machine = a.predict.machine()?;
    let prediction = (a.predict).announce(prediction_file, &machine, &plan, placement.as_ref())?;
    goes_on(
        "if it came to a bootstrap, the same command with --resume goes on from the last one, with the same answer",
    );
    let report = with_line(|tell| {
        polyveil::serve::serve(&plan, &prediction, placement.as_ref(), &serving, tell)
    })?;
    let taken = [Some(&a.output), a.report.as_ref()].contains(&Some(&"/dev/stdout".into()));
    publish(&report, a.json, taken, report_file)?;
    note(format_args!(
        "wrote {} (only the owner of client.key can decrypt it: `polyveil decrypt`)",
        a.output.display()
    ));
    Ok(())
}

pub(crate) fn decrypt(a: &DecryptArgs) -> Result<()> {
    let terms = Terms {
        security: a.security_bits,
        releases: a.releases,
        class_bits: Some(a.class_bits),
    };
    let release = match (a.share, a.class_only) {
        (false, _) => Release::Private,
        (true, false) => Release::Shared(terms),
        (true, true) => Release::Class(terms),
    };
    if a.share {
        goes_on("this try may count as a release already; start again if nothing was printed");
    }
    let beside = a.client.clone().unwrap_or_else(|| client_beside(&a.key));
    // there may be no record yet
    let record = a
        .key
        .with_file_name(polyveil::runtime::sharing::RECORD_NAME);
    let others = [&a.answer, &a.key, &beside, &record].map(PathBuf::as_path);
    // before an answer that is shared is counted
    let array = opened(a.npy.as_deref(), Content::Array, &others, a.overwrite)?;
    let each = with_line(|tell| {
        expect_own(&a.key, &a.answer)?;
        let client = Client::open(&a.key, a.client.as_deref())?;
        own_key(&a.key)?;
        let batch = client.keys().spec().output.batch;
        if batch > 1 && a.count.is_none() && a.text.is_empty() {
            note(format_args!(
                "one answer of a plan that takes {batch}: --count N says how many were encrypted together"
            ));
        }
        client.decrypt_file(&a.answer, &release, (&a.text, a.count), tell)
    });
    let each = each.inspect_err(|e| say_refusal(e, a.json))?;
    if !a.share {
        let classes = each.iter().any(|d| d.json["answers"] == "classes");
        let shared = "; `--share` makes what may be passed on";
        note(format_args!(
            "keep this to yourself: whoever sees decrypted values can attack the key (IND-CPA-D, SECURITY.md){}",
            ["", shared][usize::from(classes)]
        ));
    }
    if let Some((file, path)) = array {
        file.write_bytes(&polyveil::client::array(&each)?)?;
        wrote(path);
    }
    for answer in each {
        match a.json {
            true => say_line(answer.json)?,
            false => say(answer.text)?,
        }
    }
    Ok(())
}

pub(crate) fn evaluate(a: &EvaluateArgs) -> Result<()> {
    let inputs = |path: &Path| {
        Set::Inputs(Source {
            cut: a.truncate,
            ..a.data.rows.source(path)
        })
    };
    let (set, kind) = match (&a.data.data, &a.prompts, &a.sentences, &a.lambada, &a.piqa) {
        (Some(path), ..) => (inputs(path), None),
        (_, Some(path), ..) => (inputs(path), Some("prompts")),
        (_, _, Some(path), ..) => (inputs(path), Some("sentences")),
        (.., Some(path), _) => (Set::Lambada(path.clone()), Some("prompts")),
        (.., Some(path)) => {
            let labels = a.labels.clone().unwrap_or_default();
            (Set::Piqa(path.clone(), labels), Some("prompts"))
        }
        _ => return Err("something to evaluate on is needed: --data DATA".into()),
    };
    let mut others = set.files();
    let beside = a.plan.iter().chain([&a.model, &a.output]);
    others.extend(beside.map(PathBuf::as_path));
    let prediction_file = a.predict.file(&others, a.overwrite)?;
    look_at(&a.model);
    let graph = (a.answering.positions).cut(network::load_polynomial(&a.model)?)?;
    let task = network::task_of_graph(&graph)?;
    if let Some(kind) = kind.filter(|k| *k != task.kind()) {
        let model = a.model.display();
        return Err(format!("{model}: this network takes {}, no {kind}", task.kind()).into());
    }
    goes_on("the same command does what is missing");
    let evaluation = Evaluation::open(&graph, &task, &set, (a.skip, a.count), &a.output)?;
    let missing = with_line(|tell| evaluation.missing(tell))?;
    if !missing.is_empty() {
        let machine = a.predict.machine()?;
        let plan = match &a.plan {
            Some(path) => {
                let plan = network::plan(path)?;
                network::require_plan_of(&plan, &graph).map_err(|e| e.within(path))?;
                plan
            }
            None => {
                let target = compiler::Target {
                    batch: a.batch,
                    ..machine.target(a.max_memory)
                };
                compiled(&graph, &target).map_err(|e| e.within(&a.model))?.0
            }
        };
        let plan = Arc::new(plan);
        let prediction = (a.predict).announce(prediction_file, &machine, &plan, None)?;
        polyveil::require_memory(&plan, prediction.peak_bytes, a.max_memory)?;
        let report = with_line(|tell| evaluation.run(&plan, prediction, &missing, tell))?;
        note(report.breakdown().trim_end());
    }
    let summary = evaluation.summary()?;
    match a.json {
        true => say_line(summary),
        false => say(polyveil::evaluate::in_words(&summary)),
    }
}

pub(crate) fn estimate(a: &EstimateArgs) -> Result<()> {
    let mut models = a.shapes.clone();
    if a.all {
        models.extend(polyveil::estimate::published());
    }
    let is_file = |m: &String| polyveil::estimate_pictures::is_network(m);
    if a.estimating.size.is_some() || models.iter().any(is_file) {
        if a.estimating.save.is_some() && (models.len() > 1 || a.all) {
            return Err("--save keeps one network: name one shape".into());
        }
        if a.all {
            models = polyveil::estimate_pictures::published();
        }
        let mut refused = 0;
        for model in &models {
            let one = with_line(|tell| {
                let options = Estimating {
                    existing: a.overwrite.existing(),
                    machine: place::machine(a.machine.as_deref(), tell)?,
                    ..a.estimating.clone()
                };
                polyveil::estimate_pictures::pictures(model, &options, tell)
            });
            let one = match one {
                // the others are still asked for
                Err(e) if models.len() > 1 => {
                    note(format_args!("{model}: {e}"));
                    refused += 1;
                    continue;
                }
                one => one?,
            };
            match a.json {
                true => say_line(serde_json::json!(one))?,
                false => say(one)?,
            }
        }
        return match refused {
            0 => Ok(()),
            n => Err(format!("{n} of {} networks can't be estimated", models.len()).into()),
        };
    }
    let pictures = polyveil::estimate_pictures::published();
    if let Some(name) = models.iter().find(|m| pictures.contains(m)) {
        return Err(
            format!("{name} takes pictures; say their height and width: --size 224").into(),
        );
    }
    let estimates = with_line(|tell| {
        let options = Estimating {
            machine: place::machine(a.machine.as_deref(), tell)?,
            ..a.estimating.clone()
        };
        polyveil::estimate::estimate(&models, &options, tell)
    })?;
    match a.json {
        true => estimates.json().iter().try_for_each(say_line),
        false => say(estimates),
    }
}

pub(crate) fn inspect(a: &InspectArgs) -> Result<()> {
    look_at(&a.file);
    let found = polyveil::inspect::inspect(&a.file, &PredictionArgs::default().machine()?)?;
    if found.json["kind"] == "ClientKey" {
        own_key(&a.file)?;
    }
    match a.json {
        true => say_line(format_args!("{:#}", found.json))?,
        false => {
            say(&found.text)?;
            if let Some(how) = found.help.and_then(crate::remedy::option) {
                say_line(format_args!("  next         {how}"))?;
            }
        }
    }
    Ok(())
}

pub(crate) fn bench(a: &BenchArgs) -> Result<()> {
    if a.save.save {
        return save(a);
    }
    if let Some(file) = &a.table {
        let text = polyveil::bench_table::markdown(file)
            .map_err(|e| format!("{e}; `polyveil bench --json > FILE` writes them"))?;
        return say(text);
    }
    let rows = with_line(|tell| polyveil::bench::bench(&a.benching, tell))?;
    if a.json {
        let rows: Vec<_> = rows.iter().map(|r| r.json(COMMIT)).collect();
        say_line(format_args!("{:#}", serde_json::Value::from(rows)))?;
    }
    Ok(())
}

/// Measures this machine and writes its cost table.
fn save(a: &BenchArgs) -> Result<()> {
    let path = place::destination(a.save.machine.as_deref())?;
    let demo = DemoArgs::default();
    let network = match a.save.with_network {
        true => {
            let graph = demo_network(None)?;
            let input = demo_input(&demo, &graph)?;
            Some((graph, input))
        }
        false => None,
    };
    let network = network.as_ref().map(|(graph, input)| (graph, input));
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|e| Error::from(e).within(folder))?;
    }
    let output = output(&path, Content::CostTable, &[], a.save.overwrite)?;
    let measured = with_line(|tell| polyveil::machine::measure(a.benching.runs, network, tell))?;
    note(measured.to_string().trim_end());
    output.write_bytes(measured.file.to_json().as_bytes())?;
    wrote(&path);
    if a.json {
        say(measured.file.to_json())?;
    }
    Ok(())
}

/// Prints what a shell reads to complete this program's commands and options.
pub(crate) fn completions(shell: clap_complete::Shell, mut command: clap::Command) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "polyveil", &mut script);
    say(String::from_utf8_lossy(&script))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Calibrate {
        #[command(flatten)]
        arguments: CalibrateArgs,
    }

    #[test]
    fn without_options_calibration_is_the_librarys() {
        let parsed = |more: &[&str]| {
            let least = ["calibrate", "net.onnx", "--data", "rows.csv", "-o", "x.pvm"];
            let all = least.iter().chain(more);
            let options = Calibrate::parse_from(all).arguments.options();
            options.expect("they fit")
        };
        assert_eq!(parsed(&[]), Calibrating::default());
        let lowered = nn::lower::Options::default();
        assert_eq!(parsed(&[]).numerator, lowered.numerator);
        assert_eq!(parsed(&[]).bits, lowered.bits);
        for other in [&["--carry"][..], &["--degree", "16"], &["--bits", "13"]] {
            assert_ne!(parsed(other), Calibrating::default());
        }
    }
}

//! demo: client, server and back in one process, through bytes.

use crate::arguments::DemoArgs;
use crate::commands::{memory, rng, target};
use crate::machine::Machine;
use crate::network::{self, label, load_polynomial, named, top_lines};
use crate::run::{answer_of, fetched, prepare, publish};
use crate::terminal::{Line, duration, note};
use crate::{Embedded, Result};
use ckks::Ciphertext;
use ckks::meter::Cost;
use nn::picture::{Picture, imagenet_normalization};
use nn::{PolyGraph, Tensor};
use runtime::machine::peak_bytes;
use runtime::report::Measured;
use runtime::{
    ClearTwin, Client, Excess, LockStep, Observer, Report, Reporter, Server, Stopwatch,
    VerifiedPlan, size,
};
use std::io::{BufReader, BufWriter, Write};
use std::sync::Arc;
use std::time::Instant;

fn network(a: &DemoArgs, embedded: Embedded) -> Result<PolyGraph> {
    match &a.model {
        Some(path) => load_polynomial(path),
        None if embedded.model.is_empty() => Err("this program was built without its embedded network: models/resnet20-poly.pvm was missing; give one with --model FILE.pvm (`polyveil calibrate` makes one)".into()),
        None => Ok(nn::format::artefact::from_bytes(embedded.model)?),
    }
}

fn input(a: &DemoArgs, graph: &PolyGraph, embedded: Embedded) -> Result<Tensor> {
    let picture = match &a.image {
        Some(path) => Picture::load(path).map_err(named(path))?,
        None if embedded.picture.is_empty() => return Err("this program was built without its embedded picture: models/picture.png was missing; give one with --image FILE.png".into()),
        None => Picture::from_bytes(embedded.picture)?,
    };
    let normalization = graph
        .metadata()
        .normalization
        .clone()
        .unwrap_or_else(imagenet_normalization);
    let tensor = network::picture(&picture, graph.input_shape(), &normalization, a.resize);
    match &a.image {
        Some(path) => tensor.map_err(named(path)),
        None => tensor,
    }
}

/// Client → bytes → server, one key at a time through a pipe, so that neither side ever holds the file; the memory for the run is
/// fetched meanwhile.
pub fn serve(client: &Client, plan: &Arc<VerifiedPlan>) -> Result<Server> {
    let start = Instant::now();
    let preparation = prepare(plan, None);
    let mut line = Line::new();
    let (reader, writer) = std::io::pipe()?;
    let server = std::thread::scope(|scope| {
        let made = scope.spawn(|| {
            client
                .write_evaluation_keys(
                    BufWriter::with_capacity(1 << 20, writer),
                    "evaluation keys",
                    &mut rng(),
                    &mut |_, _| {},
                )
                .and_then(|mut w| {
                    w.flush().map_err(|source| runtime::Error::Io {
                        file: "evaluation keys".into(),
                        source,
                    })
                })
        });
        let server = Server::read(
            plan.clone(),
            BufReader::with_capacity(1 << 20, reader),
            "evaluation keys",
            &mut |done, all| line.show(&format!("  key {done}/{all}")),
        );
        match made.join() {
            Ok(Err(e)) if server.is_ok() => Err(e),
            _ => server,
        }
    })?;
    line.done();
    note(format_args!(
        "made and sent {} of evaluation keys in {}",
        size(plan.facts().key_file_bytes),
        duration(start.elapsed().as_secs_f64())
    ));
    fetched(&preparation.finish());
    Ok(server)
}

/// Times of the embedded network's steps under encryption, each the least of `runs`: other programs only add to it.
pub struct Steps {
    /// Counted work and CPU seconds, by step.
    pub observed: Vec<(Cost, f64)>,
    /// Counted work of all steps.
    pub total: Cost,
    /// Share of the threads' wall time that was CPU time.
    pub busy: f64,
}

pub fn steps(threads: usize, runs: usize, embedded: Embedded) -> Result<Steps> {
    let a = DemoArgs::default();
    let graph = network(&a, embedded)?;
    let tensor = input(&a, &graph, embedded)?;
    // planned with the shipped table, so that what is measured does not depend on what was measured before
    let plan = Arc::new(compiler::compile(&graph, &compiler::Target::default())?);
    memory(&plan, plan.facts().peak_bytes, None)?;
    let client = Client::new(plan.client_file(network::task_of(&graph))?, &mut rng())?;
    let server = serve(&client, &plan)?;
    let request = client.encrypt(tensor.values(), &mut rng())?;
    let mut watches = Vec::new();
    let mut line = Line::new();
    for run in 1..=runs {
        line.show(&format!("  the embedded network, {run} of {runs}"));
        let mut watch = Stopwatch::default();
        server.run(server.start(&request)?, &mut watch)?;
        watches.push(watch.steps);
    }
    line.done();
    let all = || watches.iter().flat_map(|w| w.values());
    let wall: f64 = all().map(|s| s.0).sum();
    let cpu: f64 = all().map(|s| s.1).sum();
    let of = |step: usize| watches.iter().map(|w| w[&step].1).fold(f64::MAX, f64::min);
    Ok(Steps {
        observed: (plan.facts().steps.iter().enumerate())
            .map(|(i, fact)| (fact.cost, of(i)))
            .collect(),
        total: plan.facts().total,
        busy: cpu / (threads as f64 * wall),
    })
}

pub fn demo(a: &DemoArgs, threads: usize, embedded: Embedded) -> Result<()> {
    let graph = network(a, embedded)?;
    let tensor = input(a, &graph, embedded)?;
    let start = Instant::now();
    let machine = Machine::load(&a.predict)?;
    let plan = Arc::new(compiler::compile(&graph, &target(&machine, a.max_memory))?);
    note(format_args!(
        "compiled in {}",
        duration(start.elapsed().as_secs_f64())
    ));
    let prediction = machine.announce(&a.predict, &plan, None, threads)?;
    memory(&plan, plan.facts().peak_bytes, a.max_memory)?;

    // the clear twins: the network's own oracle, and the plan read by `Clear`
    let oracle = graph.evaluate(&tensor)?;
    if let Some(outside) = oracle.outside.first() {
        return Err(format!("this picture leaves the calibrated ranges in the clear twin ({outside}); calibrate on data that covers such pictures (`polyveil calibrate`) or choose another").into());
    }
    let oracle = oracle.output.into_values();
    let client = Client::new(plan.client_file(network::task_of(&graph))?, &mut rng())?;
    let start = Instant::now();
    let twin = ClearTwin::new(&plan, client.spec(), tensor.values())?.finish()?;
    let planned = twin
        .iter()
        .zip(&oracle)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max);
    note(format_args!(
        "clear twin in {}: the plan in f64 differs from the network by at most {planned:.1e}",
        duration(start.elapsed().as_secs_f64())
    ));

    let server = serve(&client, &plan)?;
    let request = client.write_input(tensor.values(), Vec::new(), "encrypted input", &mut rng())?;

    let state = server.read_input(&request[..], "encrypted input")?;
    let mut check = if a.no_precision {
        None
    } else {
        Some(LockStep::new(
            &plan,
            server.engine(),
            &client,
            &state,
            Excess::Measure,
        )?)
    };
    let mut line = Line::new();
    let mut watch = Stopwatch::default();
    let mut tell = |p: runtime::Progress<'_>| line.progress(&p);
    let mut reporter = Reporter::new(prediction.step_seconds(), &mut tell);
    let answer = {
        let mut observers: Vec<&mut dyn Observer<Ciphertext>> = vec![&mut reporter, &mut watch];
        if let Some(c) = check.as_mut() {
            observers.push(c);
        }
        server.run(state, &mut observers[..])?
    };
    line.done();
    let answer = server.write_answer(&answer, Vec::new(), "encrypted answer")?;

    let logits = client.read_answer(&answer[..], "encrypted answer")?;
    let labels = &graph.metadata().labels;
    let found = answer_of(logits.clone(), &oracle, labels);
    let measured = Measured {
        seconds: Some(watch.steps.values().map(|s| s.0).sum()),
        cpu_seconds: Some(watch.steps.values().map(|s| s.1).sum()),
        steps: watch.steps,
        precision: check.map(|c| c.steps).unwrap_or_default(),
        peak_bytes: Some(peak_bytes()),
        input_bytes: Some(request.len() as u64),
        answer_bytes: Some(answer.len() as u64),
    };
    let report = Report::new(&plan, &prediction, &measured, found.clone());
    if !a.json {
        println!("{}", top_lines(&logits, labels));
        let same = if found.class == found.clear_class {
            "the same class"
        } else {
            "ANOTHER class"
        };
        println!(
            "encrypted: {}, clear twin: {} — {same}; largest difference of a logit {:.2e}\n",
            found.class.map_or_else(String::new, |c| label(labels, c)),
            found
                .clear_class
                .map_or_else(String::new, |c| label(labels, c)),
            found.max_abs_error.unwrap_or(f64::NAN)
        );
    }
    publish(&report, a.json, a.report.as_deref())?;
    let saw = format!(
        "What the server saw: {} of ciphertext and {} of evaluation keys, and it sent back {} of ciphertext; never a pixel, a logit or the secret key.",
        size(request.len() as u64),
        size(plan.facts().key_file_bytes),
        size(answer.len() as u64)
    );
    if a.json {
        note(saw)
    } else {
        println!("{saw}")
    }
    Ok(())
}

//! What commands leave for each other: a training run's approximations and characters, lines of results, rows of a bench.

use super::language;
use crate::decoder::{Decoder, Law, Outcome, Probe, again, law, published_limit, same, text_limit};
use crate::json;
use crate::scratch::Scratch;
use approx::{Function, Method, Polynomial, Program};
use nn::approximations::{Approximations, Substitute};
use nn::{AttentionScheme, Graph, Linear, Network, Op, PolyGraph, PowerSoftmax, Range};
use nn::{Shape, Tensor};
use polyveil::bench::Row;
use polyveil::evaluate::{Evaluation, Set, in_words};
use polyveil::inputs::{Given, Source};
use polyveil::{bench_table, progress::silent, training};
use runtime::{Basis, Prediction, VerifiedPlan};
use std::path::Path;
use std::sync::Arc;
use task::{Outputs, Task, Tokenizer};
use zoo::language::LanguageModel;

/// A way for each function of the network that is none of a circuit.
fn substitutes(graph: &Graph, root: Method, quotient: Method) -> Approximations {
    let program = |function, method| {
        let program = Program::new(function, (0.5, 8.0), method);
        Substitute::Program(program.expect("a valid seed"))
    };
    let of = |op: &Op<_>| match op {
        Op::Norm(_) => Some(program(Function::RootQuotient, root)),
        Op::Attention(_) => Some(program(Function::Quotient, quotient)),
        Op::Elementwise(_) => {
            let p = Polynomial::new(vec![0.5, 0.25, 0.125], (-2.0, 3.0));
            Some(Substitute::Polynomial(p.expect("a valid seed")))
        }
        _ => None,
    };
    let nodes = graph.nodes().iter();
    Approximations {
        first: 0,
        by_node: nodes.filter_map(|n| Some((n.id(), of(n.op())?))).collect(),
    }
}

fn approximations() -> Decoder {
    let model = LanguageModel::from_bytes(&language::model(false)).expect("a valid seed");
    let scheme = AttentionScheme::Power(PowerSoftmax::new(2, 0.5).expect("a valid seed"));
    let graph = model.graph(2, scheme).expect("a valid seed");
    let ways = [
        (
            Method::Polynomial { degree: 3 },
            Method::Goldschmidt { steps: 3 },
        ),
        (
            Method::Newton {
                degree: 1,
                steps: 2,
            },
            Method::OverRelaxation { start: 3, steps: 2 },
        ),
        (
            Method::RelaxedNewton {
                degree: 2,
                steps: 1,
            },
            Method::Polynomial { degree: 4 },
        ),
    ];
    // the last begins behind the network's end
    let mut first = [0, 0, 40].into_iter();
    let seeds = ways.map(|(root, quotient)| {
        let mut seed = substitutes(&graph, root, quotient);
        seed.first = first.next().unwrap_or_default();
        (seed.to_json(&graph).expect("a valid seed")).into_bytes()
    });
    let x = Tensor::zeros(graph.input().shape());
    let for_read = graph.clone();
    let read = move |b: &[u8]| Approximations::from_json(&for_read, &String::from_utf8_lossy(b));
    Decoder::new("approximations", seeds.into())
        // where an iteration starts is fitted anew: grids of Remez' exchange, whatever the file says
        .within(|bytes| text_limit(bytes) + (2 << 20))
        .mutants(json::generate)
        .reads(read, move |found| {
            let text = again(found.to_json(&graph))?;
            same(&found, Approximations::from_json(&graph, &text))?;
            // who goes on from them: what does not fit is refused
            drop(graph.evaluate_with(&found, &x));
            drop(nn::lower::expand(&graph, &found, None));
            Ok(())
        })
}

fn check_alphabet(tokenizer: Tokenizer) -> Law {
    let Tokenizer::Characters(list) = &tokenizer else {
        return Ok(());
    };
    let text = again(serde_json::to_string(list))?;
    same(&tokenizer, Tokenizer::from_bytes(text.as_bytes()))?;
    for text in ["", "ab ü", "\u{0}"] {
        // refused where a character is none of them
        if let Ok(tokens) = tokenizer.encode(text) {
            let holds = again(tokenizer.decode(&tokens))? == text;
            law(holds, "a text is what its tokens say")?;
        }
    }
    Ok(())
}

/// Rows of two numbers, and a network that tells two classes of them apart.
struct Evaluated {
    graph: PolyGraph,
    task: Task,
    set: Set,
}

impl Evaluated {
    fn new() -> Self {
        let mut b = Network::<Polynomial>::builder();
        let x = b.input("x", Shape::Vector(2)).expect("a valid seed");
        let weight = crate::models::parameter(&[2, 2]);
        let linear = Op::Linear(Linear { weight, bias: None });
        let y = b.add("y", linear, &[x]).expect("a valid seed");
        let graph = PolyGraph::from(b.finish(y).expect("a valid seed"));
        let (min, max) = (-2.0, 2.0);
        let ranges = vec![Range { min, max }; graph.nodes().len()];
        let names = || ["cat", "dog"].map(String::from);
        let outputs = Outputs::Classes(names().into());
        let task = task::Vectors::new(vec!["a".into(), "b".into()], None, outputs);
        let task = Task::Vectors(task.expect("a valid seed"));
        let metadata = nn::Metadata {
            name: "toy".into(),
            task: Some(task.to_bytes()),
            ..nn::Metadata::default()
        };
        let known = data::Known::Classes {
            names: names().into(),
            labels: [0, 1, 1].into(),
        };
        let rows = data::Vectors::new(2, vec![0.5, 1.0, -1.0, 0.25, 1.5, 0.0], known);
        Self {
            graph: (graph.with_ranges(ranges).expect("a valid seed")).with_metadata(metadata),
            task,
            set: Set::Inputs(Source::given(
                "rows",
                Given::Rows(rows.expect("a valid seed")),
            )),
        }
    }
    fn open(&self, path: &Path) -> polyveil::Result<Evaluation<'_>> {
        Evaluation::open(&self.graph, &self.task, &self.set, (0, 3), path)
    }
    /// Results of an encrypted run, on a toy ring.
    fn results(&self, path: &Path) -> Vec<u8> {
        let target = compiler::Target {
            parameters: Some(ckks::ParametersSpec::toy_levelled(8, 4)),
            ..compiler::Target::default()
        };
        let plan = compiler::compile(&self.graph, &target).expect("a valid seed");
        let plan: Arc<VerifiedPlan> = plan.into();
        let prediction = Prediction::new(&plan, Basis::shipped(), 1);
        let evaluation = self.open(path).expect("a new file");
        let missing = evaluation.missing(&mut silent).expect("a valid seed");
        (evaluation.run(&plan, prediction, &missing, &mut silent)).expect("a valid seed");
        std::fs::read(path).expect("a scratch file")
    }
}

fn check_results(own: &Evaluated, scratch: &Scratch, probe: &mut Probe<'_>) -> Outcome {
    let path = scratch.write("r.jsonl", probe.bytes);
    let opened = probe.count(|_| own.open(&path));
    let Ok(opened) = opened else {
        return Ok(false);
    };
    let lines = opened.results();
    let missing = again(opened.missing(&mut silent))?;
    let summary = again(opened.summary())?;
    drop((opened, in_words(&summary)));
    let text: String = lines.iter().map(|l| format!("{l}\n")).collect();
    let path = scratch.write("again.jsonl", text.as_bytes());
    let back = again(own.open(&path))?;
    // what says of no result what it is of is not kept
    let head = |l: &serde_json::Value| l["model"].is_string() && l["read_as"].is_string();
    let any = !lines.iter().all(head);
    let lines = if any { lines } else { Vec::new() };
    same(&lines, Ok::<_, String>(back.results()))?;
    same(&missing, back.missing(&mut silent))?;
    law(
        again(back.summary())? == summary,
        "the same lines say the same",
    )?;
    Ok(true)
}

/// Lines that were read are told in the same words when they are written again, each by itself.
fn check_medians(scratch: &Scratch, probe: &mut Probe<'_>) -> Outcome {
    let path = scratch.write("r.jsonl", probe.bytes);
    let Ok(said) = probe.count(|_| training::table::medians(&path)) else {
        return Ok(false);
    };
    let text = String::from_utf8_lossy(probe.bytes).into_owned();
    let mut lines = String::new();
    for line in text.lines().filter(|l| !l.is_empty()) {
        let line: serde_json::Value = again(serde_json::from_str(line))?;
        lines += &format!("{line}\n");
    }
    let path = scratch.write("again.jsonl", lines.as_bytes());
    same(&said, training::table::medians(&path)).map(|()| true)
}

/// Rows of an operation, of memory and of a bootstrap.
fn bench_rows() -> Vec<u8> {
    let row = |name: &str, threads: usize, more: &str| {
        format!(
            r#"{{"backend": "ifma", "commit": "b90c187", "cpu_ms": 0.101, "name": "{name}", "processor": "AMD EPYC", "reference_ms": 0.1, "references": 1.01, "runs": 7, "threads": {threads}, "wall_ms": 0.11{more}}}"#
        )
    };
    let set = r#", "limbs": 1, "n": 65536, "parameters": {"dnum": 3, "limbs": 27, "log_qp": 1679.9, "name": "levelled-16"}"#;
    let bootstrap = format!(
        r#"{set}, "slots": 32768, "levels_left": 10, "free_levels": 10, "level_bits": 44.8, "worst_bits": 18.6, "mean_bits": 21.5, "rms_bits": 21.0, "peak_bytes": 9000000, "classes": {{"bits": [18.6, 21.5]}}"#
    );
    let rows = [
        row("reference", 1, ""),
        row("stream", 2, r#", "bytes": 1073741824, "gb_per_s": 48.8"#),
        row("ntt 2^16", 1, set),
        row("bootstrap 2^16", 1, &bootstrap),
        row("bootstrap 2^16", 2, &bootstrap),
    ];
    format!("[{}]", rows.join(",")).into_bytes()
}

fn check_bench(scratch: &Scratch, probe: &mut Probe<'_>) -> Outcome {
    let path = scratch.write("bench.json", probe.bytes);
    let Ok(said) = probe.count(|_| bench_table::markdown(&path)) else {
        return Ok(false);
    };
    let rows: Vec<Row> = again(serde_json::from_slice(probe.bytes))?;
    let text = again(serde_json::to_string(&rows))?;
    let back: Vec<Row> = again(serde_json::from_str(&text))?;
    same(&text, serde_json::to_string(&back))?;
    let path = scratch.write("again.json", text.as_bytes());
    same(&said, bench_table::markdown(&path)).map(|()| true)
}

/// Beside that the buffer through which a file is read.
fn limit(bytes: &[u8]) -> usize {
    text_limit(bytes) + (2 << 20)
}

pub(super) fn all() -> Vec<Decoder> {
    let alphabet = r#"["a","b","\u00fc"," ","\ud83d\ude00"]"#;
    let own = Evaluated::new();
    let [lines, told, rows] = ["results", "medians", "bench"].map(Scratch::new);
    let results = own.results(&lines.path().join("seed.jsonl"));
    let mut others = results[..results.len() - 9].to_vec();
    others.extend(b"\n{\"index\": 1, \"outside\": \"act1\"}\n{\"index\": 2, \"refused\": \"magnitude\", \"measured\": 9.5, \"allowed\": 2}\n");
    vec![
        approximations(),
        Decoder::new("alphabet", vec![alphabet.into()])
            .within(published_limit)
            .mutants(json::generate)
            .reads(Tokenizer::from_bytes, check_alphabet),
        Decoder::new("results", vec![results.clone(), others])
            .mutants(json::generate)
            .decodes(move |probe| check_results(&own, &lines, probe)),
        Decoder::new("medians", vec![results])
            .within(limit)
            .mutants(json::generate)
            .decodes(move |probe| check_medians(&told, probe)),
        Decoder::new("bench-rows", vec![bench_rows()])
            .within(limit)
            .mutants(json::generate)
            .decodes(move |probe| check_bench(&rows, probe)),
    ]
}

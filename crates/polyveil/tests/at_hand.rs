//! The library without files: networks, inputs and results at hand.

use ckks::ParametersSpec;
use data::{Dataset, Known, Vectors};
use nn::{Graph, Linear, Metadata, Nonlinearity, Op, Parameter, Shape};
use polyveil::calibrate::{Calibrating, Material, Meaning, calibrate, calibrate_network};
use polyveil::compiler::Target;
use polyveil::evaluate::{Evaluation, Set};
use polyveil::inputs::{Given, Source};
use polyveil::machine::{Machine, Probing};
use polyveil::progress::silent;
use polyveil::{compile, network, network::Network};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use task::tokenizer::WordPiece;
use task::{Outputs, Stated, Tokenizer};
use zoo::architecture::{Architecture, llama};
use zoo::bert;
use zoo::blocks::Sizes;
use zoo::encoder::Encoder;
use zoo::language::LanguageModel;
use zoo::trained::{Run, TrainedEncoder, TrainedLanguageModel};

const XOR: &[u8] = include_bytes!("../data/xor.onnx");

/// The truth table, its second row so.
fn table(second: [f64; 2]) -> Vectors {
    let values = [&[0.0, 0.0][..], &second, &[1.0, 0.0, 1.0, 1.0]].concat();
    let known = Known::Classes {
        names: ["equal".into(), "different".into()].into(),
        labels: [0, 1, 1, 0].into(),
    };
    Vectors::new(2, values, known).expect("fits")
}

fn source(given: Given) -> [Source; 1] {
    [Source::given("truth table", given)]
}

fn options() -> Calibrating {
    Calibrating {
        degree: 7,
        normalization: Stated::named("none"),
        ..Calibrating::default()
    }
}

fn calibrated(given: Given) -> polyveil::Result<nn::PolyGraph> {
    let network = network::from_bytes(XOR, None, None)?;
    calibrate_network(network, &source(given), &options(), &mut silent)
}

#[test]
fn inputs_at_hand_make_the_network_that_files_make() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/data");
    let rows = Material::Inputs(vec![Source::of(Path::new(data).join("xor.csv"))]);
    let of_files = calibrate(
        &Path::new(data).join("xor.onnx"),
        &rows,
        &options(),
        &mut silent,
    );
    let of_files = of_files.expect("calibrates");
    let all = table([0.0, 1.0]);
    for given in [
        Given::Tensors(Shape::Vector(2), all.clone()),
        Given::Rows(all),
    ] {
        let graph = calibrated(given).expect("calibrates");
        assert_eq!(graph.network(), of_files.network());
        assert_eq!(graph.ranges(), of_files.ranges());
        assert_eq!(graph.metadata().name, "network");
        assert_eq!(graph.metadata().provenance, ["calibrated on 4 inputs"]);
        let task = network::task_of_graph(&graph).expect("a task");
        let names = task.outputs().map(Outputs::names);
        assert_eq!(names, Some(&["equal".into(), "different".into()][..]));
    }
}

#[test]
fn pictures_at_hand_are_normalised_as_is_stated() {
    let graph = || {
        let mut b = Graph::builder();
        let x = b.input("x", Shape::image(1, 2, 2)).expect("valid");
        let x = b.add("flat", Op::Flatten, &[x]).expect("valid");
        let weight: Vec<f32> = (0..8).map(|i| i as f32 / 8.0 - 0.4).collect();
        let dense = Op::Linear(Linear {
            weight: Parameter::new("dense", [2, 4], weight).expect("finite"),
            bias: None,
        });
        let x = b.add("dense", dense, &[x]).expect("valid");
        let silu = Op::Elementwise(Nonlinearity::Activation(approx::Activation::Silu));
        let x = b.add("act", silu, &[x]).expect("valid");
        let shares = Op::Softmax(nn::Softmax::Shares);
        let x = b.add("shares", shares, &[x]).expect("valid");
        Network::Trained(b.finish(x).expect("valid"), Metadata::default())
    };
    let shape = data::Shape {
        height: 2,
        width: 2,
        channels: 1,
    };
    let pixels: Vec<u8> = (0..16).map(|i| 15 * i).collect();
    let classes = vec!["dark".into(), "bright".into()];
    let set = Dataset::from_pixels(shape, classes, pixels.clone(), &[0, 0, 1, 1]);
    let tensors = pixels.iter().map(|&v| f64::from(v) / 127.5 - 1.0).collect();
    let tensors = Vectors::new(4, tensors, Known::Nothing).expect("fits");
    let options = Calibrating {
        normalization: Stated::named("half"),
        ..options()
    };
    let [of_pictures, of_tensors] = [
        Given::Pictures(set.expect("fits")),
        Given::Tensors(Shape::image(1, 2, 2), tensors),
    ]
    .map(|given| {
        let made = calibrate_network(graph(), &source(given), &options, &mut silent);
        made.expect("calibrates")
    });
    let range = |g: &nn::PolyGraph| g.range(g.output().id()).expect("calibrated");
    let [a, b] = [range(&of_pictures), range(&of_tensors)];
    assert!((a.min - b.min).abs() < 1e-6 && (a.max - b.max).abs() < 1e-6);
    assert!(a.max > a.min + 0.1);
    let made = &of_pictures.metadata().provenance;
    assert!(made[0].contains("softmax at the network's end"), "{made:?}");
    let task = network::task_of_graph(&of_pictures).expect("a task");
    let names = task.outputs().map(Outputs::names);
    assert_eq!(names, Some(&["dark".into(), "bright".into()][..]));
}

/// Whoever reads the answers takes the softmax: of classes only, whether or not data say so.
#[test]
fn a_network_that_ends_in_a_softmax_gives_classes_and_nothing_else() {
    let rows =
        || Given::Rows(Vectors::new(2, vec![0.5, -0.5, 1.0, 0.25], Known::Nothing).expect("fits"));
    for last in [nn::Softmax::Shares, nn::Softmax::Logarithms] {
        let network = || {
            let mut b = Graph::builder();
            let x = b.input("x", Shape::Vector(2)).expect("valid");
            let weight = Parameter::new("w", [3, 2], vec![0.5, 0.1, -0.3, 0.4, 0.2, -0.6]);
            let dense = Op::Linear(Linear {
                weight: weight.expect("finite"),
                bias: None,
            });
            let y = b.add("y", dense, &[x]).expect("valid");
            let y = b.add("shares", Op::Softmax(last), &[y]).expect("valid");
            Network::Trained(b.finish(y).expect("valid"), Metadata::default())
        };
        let made = |outputs| {
            let options = Calibrating {
                outputs,
                ..options()
            };
            calibrate_network(network(), &source(rows()), &options, &mut silent)
        };
        let task = network::task_of_graph(&made(None).expect("calibrates")).expect("a task");
        assert_eq!(task.outputs(), Some(&Outputs::Classes(Vec::new())));
        let names: Vec<String> = ["a", "b", "c"].map(String::from).into();
        let task = made(Some(Meaning::Classes(names.clone()))).expect("calibrates");
        let task = network::task_of_graph(&task).expect("a task");
        assert_eq!(task.outputs(), Some(&Outputs::Classes(names.clone())));
        for said in [
            Meaning::Labels(names.clone()),
            Meaning::Values(names),
            Meaning::Tensor,
        ] {
            let refused = made(Some(said)).expect_err("no classes").to_string();
            assert!(
                refused.contains("softmax") && refused.contains("classes"),
                "{refused}"
            );
        }
    }
}

/// A network's file may say what no softmax's outputs are.
#[test]
fn a_file_s_task_does_not_make_values_of_a_softmax() {
    let (b, y) = ending_in(Op::Softmax(nn::Softmax::Shares));
    let metadata = saying(Outputs::Values(Vec::new()));
    let network = Network::Trained(b.finish(y).expect("valid"), metadata);
    let made = calibrate_network(network, &source(rows()), &options(), &mut silent);
    let refused = made.expect_err("no classes").to_string();
    assert!(
        refused.contains("softmax") && refused.contains("classes"),
        "{refused}"
    );
}

/// Two numbers to four, and an operator behind them.
fn ending_in(last: Op<Nonlinearity>) -> (nn::NetworkBuilder<Nonlinearity>, nn::NodeId) {
    let mut b = Graph::builder();
    let x = b.input("x", Shape::Vector(2)).expect("valid");
    let weight = vec![0.5, 0.1, -0.3, 0.4, 0.2, -0.6, 0.7, 0.2];
    let dense = Op::Linear(Linear {
        weight: Parameter::new("w", [4, 2], weight).expect("finite"),
        bias: None,
    });
    let y = b.add("y", dense, &[x]).expect("valid");
    let y = b.add("last", last, &[y]).expect("valid");
    (b, y)
}

/// Of a file that says what the outputs of two numbers are.
fn saying(outputs: Outputs) -> Metadata {
    let columns = ["a", "b"].map(String::from).to_vec();
    let task = task::Vectors::new(columns, None, outputs).expect("fits");
    Metadata {
        task: Some(task::Task::Vectors(task).to_bytes()),
        ..Metadata::default()
    }
}

fn rows() -> Given {
    Given::Rows(Vectors::new(2, vec![0.5, -0.5, 1.0, 0.25], Known::Nothing).expect("fits"))
}

/// What a sigmoid gives is probabilities; in positions they keep their shape, as all numbers do.
#[test]
fn a_map_that_ends_in_a_sigmoid_keeps_its_shape() {
    let map = Shape::image(1, 2, 2);
    let labels = || ["a", "b", "c", "d"].map(String::from).to_vec();
    for (shape, own, outputs) in [
        (None, None, Outputs::Probabilities(Vec::new())),
        (Some(map), None, Outputs::Tensor(map)),
        // whatever the file says, no softmax or sigmoid is taken of them
        (
            None,
            Some(Outputs::Labels(labels())),
            Outputs::Probabilities(labels()),
        ),
        (
            Some(map),
            Some(Outputs::Classes(labels())),
            Outputs::Probabilities(labels()),
        ),
        (Some(map), Some(Outputs::Tensor(map)), Outputs::Tensor(map)),
    ] {
        let sigmoid = Op::Elementwise(Nonlinearity::Activation(approx::Activation::Sigmoid));
        let (mut b, mut y) = ending_in(sigmoid);
        if let Some(shape) = shape {
            y = b.add("map", Op::Reshape(shape), &[y]).expect("valid");
        }
        let metadata = own.map_or_else(Metadata::default, saying);
        let network = Network::Trained(b.finish(y).expect("valid"), metadata);
        let made = calibrate_network(network, &source(rows()), &options(), &mut silent);
        let task = network::task_of_graph(&made.expect("calibrates")).expect("a task");
        assert_eq!(task.outputs(), Some(&outputs));
    }
}

/// Compiled, such a network failed at the end, by the bounds of its answer.
#[test]
fn a_network_that_gives_nothing_but_zeros_is_refused_at_once() {
    let network = || {
        let mut b = Graph::builder();
        let x = b.input("x", Shape::Vector(2)).expect("valid");
        let zeros = Op::Linear(Linear {
            weight: Parameter::new("w", [3, 2], vec![0.0; 6]).expect("finite"),
            bias: None,
        });
        let y = b.add("scores", zeros, &[x]).expect("valid");
        b.finish(y).expect("valid")
    };
    let given = Network::Trained(network(), Metadata::default());
    let made = calibrate_network(given, &source(rows()), &options(), &mut silent);
    let graph = nn::PolyGraph::try_from(network()).expect("linear");
    let none = nn::Range { min: 0.0, max: 0.0 };
    let graph = graph.with_ranges(vec![none; 2]).expect("fits");
    for refused in [
        made.expect_err("zeros"),
        polyveil::needs(&graph, &Target::default()).expect_err("zeros"),
        compile(&graph, &Target::default()).expect_err("zeros"),
    ] {
        let refused = refused.to_string();
        for word in ["node scores", "gave 0", "weights"] {
            assert!(refused.contains(word), "{word:?} is missing in {refused}");
        }
    }
}

#[test]
fn inputs_at_hand_are_evaluated_and_results_stay_at_hand() {
    let all = Given::Tensors(Shape::Vector(2), table([0.0, 1.0]));
    let graph = calibrated(all.clone()).expect("calibrates");
    let task = network::task_of_graph(&graph).expect("a task");
    let target = Target {
        parameters: Some(ParametersSpec::toy_levelled(9, 6)),
        ..Target::default()
    };
    let plan = Arc::new(compile(&graph, &target).expect("compiles"));
    let prediction = Machine::default().predict(&plan, None, Probing::AsItIs);
    let prediction = prediction.expect("predicts");
    let [inputs] = source(all);
    let set = Set::Inputs(inputs);
    let evaluation = Evaluation::new(&graph, &task, &set, (0, 10)).expect("fits");
    let missing = evaluation.missing(&mut silent).expect("all fit");
    assert_eq!(missing, [0, 1, 2, 3]);
    assert!(evaluation.results().is_empty());
    let run = |evaluation: &Evaluation<'_>, missing: &[usize]| {
        evaluation.run(&plan, prediction.clone(), missing, &mut silent)
    };
    run(&evaluation, &missing).expect("runs");
    let results = evaluation.results();
    let of = |key: &str| -> Vec<u64> { results.iter().filter_map(|l| l[key].as_u64()).collect() };
    assert_eq!(of("index"), [0, 1, 2, 3]);
    assert_eq!(of("class"), [0, 1, 1, 0]);
    assert_eq!(of("true_class"), of("class"));
    assert!(
        (results.iter().skip(1)).all(|l| l["max_abs_error"].as_f64().is_some_and(|e| e < 1e-3))
    );
    let summary = evaluation.summary().expect("all lines");
    assert_eq!(
        (&summary["inputs"], &summary["right"]),
        (&4.into(), &4.into())
    );
    assert_eq!(evaluation.missing(&mut silent).expect("none"), [0; 0]);

    // a file of results knows which inputs it is of
    let name = format!("polyveil-at-hand-{}.jsonl", std::process::id());
    let path = std::env::temp_dir().join(name);
    let opened = Evaluation::open(&graph, &task, &set, (0, 1), &path).expect("fits");
    run(&opened, &[0]).expect("runs");
    drop(opened);
    let [other] = source(Given::Tensors(Shape::Vector(2), table([0.0, 0.5])));
    let other = Set::Inputs(other);
    let refused = Evaluation::open(&graph, &task, &other, (0, 1), &path).err();
    let opened =
        Evaluation::open(&graph, &task, &set, (0, 2), &path).map(|e| e.missing(&mut silent));
    std::fs::remove_file(&path).expect("there");
    let refused = refused.expect("other inputs").to_string();
    assert!(
        refused.contains("its results are of other data"),
        "{refused}"
    );
    assert_eq!(opened.expect("the same").expect("fit"), [1]);
}

#[test]
fn an_input_beyond_the_plans_bound_is_left_out_and_no_other() {
    let mut b = nn::Network::<approx::Polynomial>::builder();
    let x = b.input("x", Shape::Vector(2)).expect("valid");
    // no polynomial, whose interval it could leave in the clear
    let turn = Op::Linear(Linear {
        weight: Parameter::new("turn", [2, 2], vec![0.6, -0.8, 0.8, 0.6]).expect("finite"),
        bias: None,
    });
    let x = b.add("turn", turn, &[x]).expect("valid");
    let names = |all: [&str; 2]| all.map(String::from).into();
    let outputs = Outputs::Values(names(["a", "b"]));
    let vectors = task::Vectors::new(names(["left", "right"]), None, outputs);
    let task = task::Task::Vectors(vectors.expect("valid"));
    let range = nn::Range {
        min: -1.5,
        max: 1.5,
    };
    let graph = nn::PolyGraph::from(b.finish(x).expect("valid"));
    let graph = graph.with_ranges(vec![range; 2]).expect("of each node");
    let graph = graph.with_metadata(Metadata {
        name: "turn".into(),
        task: Some(task.to_bytes()),
        ..Metadata::default()
    });
    let target = Target {
        parameters: Some(ParametersSpec::toy_levelled(9, 6)),
        ..Target::default()
    };
    let plan = Arc::new(compile(&graph, &target).expect("compiles"));
    let prediction = Machine::default().predict(&plan, None, Probing::AsItIs);
    let rows = Vectors::new(2, vec![0.5, -0.5, 9.0, 0.0, 1.0, 1.0], Known::Nothing);
    let [inputs] = source(Given::Tensors(Shape::Vector(2), rows.expect("fits")));
    let set = Set::Inputs(inputs);
    let evaluation = Evaluation::new(&graph, &task, &set, (0, 10)).expect("fits");
    let missing = evaluation.missing(&mut silent).expect("all fit");
    let run = evaluation.run(&plan, prediction.expect("predicts"), &missing, &mut silent);
    run.expect("runs");
    let results = evaluation.results();
    let outside: Vec<_> = (results.iter().filter(|l| l["index"].is_u64()))
        .map(|l| l["outside"].as_str())
        .collect();
    assert!(
        matches!(outside[..], [None, Some(why), None] if why.contains("magnitude 9.0000")),
        "{outside:?}"
    );
    let summary = evaluation.summary().expect("all lines");
    assert_eq!([&summary["inputs"], &summary["left_out"]], [2, 1]);
}

#[test]
fn what_is_at_hand_is_refused_as_files_are() {
    let says = |given: Given, words: &[&str]| {
        let refused = calibrated(given).expect_err("does not fit").to_string();
        assert!(words.iter().all(|w| refused.contains(w)), "{refused}");
    };
    let three = Vectors::new(3, vec![0.0; 6], Known::Nothing).expect("fits");
    says(Given::Rows(three.clone()), &["3", "2"]);
    says(Given::Tensors(Shape::Vector(3), three), &["3", "2"]);
    let shape = data::Shape {
        height: 1,
        width: 1,
        channels: 3,
    };
    let picture = Dataset::from_pixels(shape, vec!["cat".into()], vec![0; 3], &[0]);
    let pictures = Given::Pictures(picture.expect("fits"));
    says(pictures, &["truth table", "rows of numbers", "pictures"]);
    let foreign: [(&[u8], &str); 3] = [
        (b"no network", "none of the formats"),
        (b"\x89HDF\r\n\x1a\n and so on", "tf2onnx.convert.from_keras"),
        (b"\x1c\0\0\0TFL3 and so on", "with tf2onnx.convert"),
    ];
    for (bytes, way) in foreign {
        let refused = network::from_bytes(bytes, None, None).err();
        let refused = refused.expect("no format").to_string();
        assert!(refused.contains(way), "{refused}");
    }
}

/// Data that say what is right show a network whose classes stand in another order, or whose inputs are scaled in another way.
#[test]
fn what_the_data_say_is_held_against_the_network() {
    let said = |labels: [usize; 4]| {
        let values = [0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0].repeat(5);
        let known = Known::Classes {
            names: ["equal".into(), "different".into()].into(),
            labels: labels.repeat(5).into(),
        };
        let rows = Given::Rows(Vectors::new(2, values, known).expect("fits"));
        let network = network::from_bytes(XOR, None, None).expect("reads");
        let mut said = Vec::new();
        calibrate_network(network, &source(rows), &options(), &mut |p| {
            said.push(p.message.to_string());
        })
        .expect("calibrates");
        said.join("\n")
    };
    let right = said([0, 1, 1, 0]);
    assert!(
        right.contains("of 20 of them whose class is known the network itself has 20 right, the polynomial one 20"),
        "{right}"
    );
    assert!(!right.contains("guessing"), "{right}");
    let swapped = said([1, 0, 0, 1]);
    assert!(
        swapped.contains("has 0 right") && swapped.contains("no better than guessing"),
        "{swapped}"
    );
}

/// One block of two heads of width 2.
fn sizes(vocabulary: usize) -> Sizes {
    Sizes {
        layers: 1,
        width: 4,
        hidden: 4,
        heads: 2,
        kv_heads: 2,
        head: 2,
        vocabulary,
        max_length: 16,
    }
}

/// Calibrates on values, and the same model on files; they come to the same.
fn both(
    at_hand: polyveil::Result<nn::PolyGraph>,
    (model, material): (&Path, &Material),
    options: &Calibrating,
) -> nn::PolyGraph {
    let of_files = calibrate(model, material, options, &mut silent).expect("calibrates");
    std::fs::remove_dir_all(model).expect("there");
    let at_hand = at_hand.expect("calibrates");
    assert_eq!(at_hand.network(), of_files.network());
    assert_eq!(at_hand.ranges(), of_files.ranges());
    assert_eq!(at_hand.metadata().task, of_files.metadata().task);
    assert_eq!(at_hand.metadata().name, "network");
    at_hand
}

/// Which of these inputs a network takes.
fn taken(graph: &nn::PolyGraph, given: Given) -> Vec<usize> {
    let task = network::task_of_graph(graph).expect("a task");
    let [inputs] = source(given);
    let set = Set::Inputs(inputs);
    let evaluation = Evaluation::new(graph, &task, &set, (0, 10)).expect("fits");
    evaluation.missing(&mut silent).expect("all fit")
}

#[test]
fn a_language_model_at_hand_is_calibrated_on_texts_or_tokens() {
    let config = llama::Config {
        sizes: sizes(4),
        epsilon: 1e-2,
        base: 100.0,
        tied: true,
    };
    let model = LanguageModel::random(Architecture::Llama(config), 1).expect("fits");
    let trained = || TrainedLanguageModel {
        model: model.clone(),
        run: Run::default(),
    };
    let options = Calibrating {
        tokenizer: Some(Tokenizer::Characters("abcd".chars().collect())),
        attention: Some(nn::PowerSoftmax::new(2, 0.1).expect("even")),
        length: Some(4),
        limit: Some(3),
        ..Calibrating::default()
    };
    let text = "abcdbcadacbdddabcab";
    let tokens = text.bytes().map(|b| u32::from(b - b'a')).collect();
    let made = |given| calibrate_network(trained(), &source(given), &options, &mut silent);
    let of_texts = made(Given::Texts(vec![text[..7].into(), text[7..].into()]));
    let of_tokens = made(Given::Tokens(tokens)).expect("calibrates");
    let folder = std::env::temp_dir().join(format!("polyveil-language-{}", std::process::id()));
    model.save(&folder).expect("saves");
    std::fs::write(folder.join("text.txt"), text).expect("writes");
    let material = Material::Text(folder.join("text.txt"));
    let of_texts = both(of_texts, (&folder, &material), &options);
    assert_eq!(of_texts, of_tokens);
    let prompts = Given::Texts(vec!["ab".into(), "dcba".into()]);
    assert_eq!(taken(&of_texts, prompts), [0, 1]);

    for (given, words) in [
        (Given::Tokens(vec![9; 9]), "token 0 of the text is 9"),
        (Given::Texts(vec!["abcx".into()]), "truth table"),
        (Given::Rows(table([0.0, 1.0])), "on text or tokens"),
    ] {
        let refused = made(given).expect_err("does not fit").to_string();
        assert!(refused.contains(words), "{refused}");
    }
}

#[test]
fn an_encoder_at_hand_is_calibrated_on_sentences() {
    let lines = [("a fine film", 1), ("a dull film", 0), ("fine", 1)];
    let words = lines.iter().flat_map(|(text, _)| text.split(' '));
    let counted: BTreeMap<String, u64> = words.map(|w| (w.to_string(), 1)).collect();
    let wordpiece = WordPiece::train(&counted, 24).expect("a vocabulary");
    let vocabulary = wordpiece.to_text();
    let tokenizer = Tokenizer::WordPiece(wordpiece.into());
    let config = bert::Config {
        family: bert::Family::Bert,
        sizes: sizes(tokenizer.len()),
        types: 2,
        epsilon: 1e-2,
        padding: tokenizer.padding().expect("BERT's"),
        activation: approx::Activation::Gelu,
        head: bert::Head::Classification {
            labels: vec!["bad".into(), "good".into()],
        },
    };
    let encoder = Encoder::random(config, 1).expect("fits");
    let options = Calibrating {
        attention: Some(nn::PowerSoftmax::new(2, 0.1).expect("even")),
        ..Calibrating::default()
    };
    let set = |lines: &[(&str, usize)]| {
        let lines = lines.iter().map(|(text, class)| (text.to_string(), *class));
        Given::Sentences(data::Sentences::new(lines.collect(), None).expect("sentences"))
    };
    let made = |given| {
        let trained = TrainedEncoder::new(encoder.clone(), tokenizer.clone(), Run::default());
        let trained = trained.expect("fits");
        calibrate_network(trained, &source(given), &options, &mut silent)
    };
    let folder = std::env::temp_dir().join(format!("polyveil-encoder-{}", std::process::id()));
    encoder.save(&folder).expect("saves");
    let file: String = lines.iter().map(|(t, c)| format!("{c}\t{t}\n")).collect();
    let sentences = folder.join("sentences.tsv");
    std::fs::write(folder.join("vocab.txt"), vocabulary).expect("writes");
    std::fs::write(&sentences, file).expect("writes");
    let material = Material::Sentences(Source::of(sentences));
    let graph = both(made(set(&lines)), (&folder, &material), &options);
    assert_eq!(taken(&graph, set(&lines[1..])), [0, 1]);

    for (given, words) in [
        (set(&[("fine", 2)]), "class 2"),
        (set(&[("a fine dull film a fine", 0)]), "truth table"),
        (Given::Texts(vec!["fine".into()]), "these are others"),
    ] {
        let refused = made(given).expect_err("does not fit").to_string();
        assert!(refused.contains(words), "{refused}");
    }
    let other = TrainedEncoder::new(
        encoder,
        Tokenizer::Characters(vec!['a'; 99]),
        Run::default(),
    );
    let refused = other.expect_err("another vocabulary").to_string();
    assert!(refused.contains("tokens of the vocabulary"), "{refused}");
}

#[test]
fn a_softmax_that_is_no_attention_is_named_where_powers_are_asked_for() {
    let dense = |name: &str| {
        let weight = Parameter::new(name, [2, 2], vec![0.5, -1.0, 1.0, 0.25]).expect("finite");
        Op::Linear(Linear { weight, bias: None })
    };
    let calibrated = |middle: Option<Op<Nonlinearity>>| {
        let mut b = Graph::builder();
        let x = b.input("x", Shape::Vector(2)).expect("valid");
        let mut y = b.add("before", dense("before"), &[x]).expect("valid");
        if let Some(op) = middle {
            y = b.add("gate", op, &[y]).expect("valid");
        }
        let y = b.add("behind", dense("behind"), &[y]).expect("valid");
        let given = Network::Trained(b.finish(y).expect("valid"), Metadata::default());
        let options = Calibrating {
            attention: Some(nn::PowerSoftmax::new(2, 0.1).expect("even")),
            ..options()
        };
        let all = Given::Rows(table([0.0, 1.0]));
        let e = calibrate_network(given, &source(all), &options, &mut silent);
        e.expect_err("nothing that powers stand for").to_string()
    };
    let e = calibrated(Some(Op::Softmax(nn::Softmax::Shares)));
    for words in ["node gate takes a softmax", "as many queries as keys"] {
        assert!(e.contains(words), "{words:?} is missing in {e}");
    }
    let e = calibrated(None);
    assert!(e.contains("no attention that weighs by softmax"), "{e}");
}

#[test]
fn statistics_along_the_last_axis_of_a_sequence_have_a_way_in() {
    let mut b = Graph::builder();
    let x = b.input("x", Shape::image(4, 1, 2)).expect("valid");
    let y = b.add("mean", Op::GlobalAvgPool, &[x]).expect("valid");
    let given = Network::Trained(b.finish(y).expect("valid"), Metadata::default());
    let values: Vec<f64> = (0..16).map(f64::from).collect();
    let rows = Vectors::new(8, values, Known::Nothing).expect("fits");
    let options = Calibrating {
        normalization: Stated {
            mean: vec![0.5, 1.0],
            ..Stated::default()
        },
        ..Calibrating::default()
    };
    let e = calibrate_network(given, &source(Given::Rows(rows)), &options, &mut silent);
    let e = e.expect_err("two means for four").to_string();
    for words in ["(4, 2)", "4 needed, 2 given", "Sub and a Div"] {
        assert!(e.contains(words), "{words:?} is missing in {e}");
    }
}

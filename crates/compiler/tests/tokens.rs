//! Transformers with their linear layers in coefficients, in the clear, against the f64 oracle.

mod support;

use ckks::ParametersSpec;
use ckks::parameters::{WEIGHT_BITS, Zone};
use nn::attention::{AttentionScheme, Denominator, PowerSoftmax};
use nn::calibrate::FitOptions;
use nn::lower::{Options, adapt};
use nn::{Op, PolyGraph, Rearrange, Tensor};
use polyveil_compiler::{Layers, Target, compile};
use rand_core::SeedableRng;
use runtime::folding::Term;
use runtime::machine::{cpu_seconds, peak_bytes};
use runtime::{
    ClearTwin, Client, Excess, Limits, LockStep, Operation, Purpose, Server, VerifiedPlan,
};
use std::sync::Arc;
use support::transformer::{SMALL, Size, attention, transformer};
use zoo::shape::{Polynomials, TransformerShape};
use zoo::vit::{Config, Start, VisionTransformer};

fn target(log_n: u32) -> Target {
    Target {
        parameters: Some(ParametersSpec::toy_coefficients(log_n, 9).expect("a preset")),
        layers: Layers::Coefficients,
        ..Target::default()
    }
}

fn largest(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(0.0, |m, x| f64::max(m, x.abs()))
}

fn check(log_n: u32, size: Size) -> VerifiedPlan {
    let (graph, inputs) = transformer(3, size, 4);
    let plan = compile(&graph, &target(log_n)).unwrap_or_else(|e| panic!("{size:?}: {e}"));
    if std::env::var_os("SHOW").is_some() {
        println!("{}", polyveil_compiler::describe(&plan));
    }
    for x in &inputs[..2] {
        compare(&format!("{size:?}"), &graph, &plan, x);
    }
    plan
}

fn compare(name: &str, graph: &PolyGraph, plan: &VerifiedPlan, x: &Tensor) {
    let want = graph.evaluate(x).expect("runs").output;
    let twin = ClearTwin::new(plan, &plan.client_spec(), x.values()).expect("fits");
    let had = twin.finish().unwrap_or_else(|e| panic!("{name}: {e}"));
    let most = largest(want.values().iter().copied());
    let error = largest(had.iter().zip(want.values()).map(|(a, b)| a - b));
    let bootstraps = plan.facts().bootstraps;
    println!("{name}: {error:.1e} of {most:.1e}, {bootstraps} bootstraps");
    assert!(
        had.len() == want.values().len() && error < 5e-3 * most,
        "{name}: {error} of {most}"
    );
}

#[test]
fn transformer_layers() {
    let with = |change: &dyn Fn(&mut Size)| {
        let mut size = SMALL;
        change(&mut size);
        size
    };
    for (log_n, size) in [
        // as many distances in a part as a head has channels
        (9, SMALL),
        // more, so that they take two ciphertexts; several ciphertexts of heads
        (8, with(&|s| s.length = 16)),
        // fewer, so that they repeat; a head of no power of two
        (9, with(&|s| (s.width, s.heads, s.kv_heads) = (12, 2, 2))),
        // heads that share keys and values
        (9, with(&|s| (s.width, s.heads, s.kv_heads) = (16, 4, 2))),
        // lengths that fill nothing, padding, a public first token, and all of it
        (8, with(&|s| s.length = 11)),
        (9, with(&|s| (s.length, s.valid) = (8, Some(6)))),
        (8, with(&|s| (s.length, s.public) = (16, true))),
        (
            9,
            with(&|s| {
                (s.length, s.valid, s.public) = (7, Some(5), true);
                (s.width, s.heads, s.kv_heads) = (12, 2, 1);
            }),
        ),
    ] {
        let plan = check(log_n, size);
        let weighs = |o: &Operation| matches!(o, Operation::Weigh { .. });
        let count = plan
            .plan()
            .steps
            .iter()
            .filter(|s| weighs(&s.operation))
            .count();
        assert!(count >= 7, "{count}");
    }
}

/// Heads, widths, lengths and masks drawn at random: in the clear all, one of four on ciphertexts beside the twin, step by step.
#[test]
fn random_transformers_compute_what_the_oracle_says() {
    let mut random = support::Random(11);
    let mut one_of = |list: &[usize]| {
        let at = (random.uniform().abs() * list.len() as f64) as usize;
        list[at.min(list.len() - 1)]
    };
    for trial in 0..20 {
        let (kv_heads, shared, head) = (one_of(&[1, 2, 3]), one_of(&[1, 2]), one_of(&[2, 4, 6]));
        let (heads, length) = (kv_heads * shared, one_of(&[5, 6, 7, 8, 9, 11, 13, 16]));
        let public = one_of(&[0, 0, 1]) == 1;
        let size = Size {
            width: heads * head,
            heads,
            kv_heads,
            hidden: one_of(&[5, 12, 18]),
            vocabulary: one_of(&[0, 7, 21]),
            length,
            public,
            valid: [None, Some(length - one_of(&[1, 2]))][one_of(&[0, 1])],
            ..SMALL
        };
        let (graph, inputs) = transformer(20 + trial, size, 4);
        let plan = compile(&graph, &target(9)).unwrap_or_else(|e| panic!("{size:?}: {e}"));
        compare(
            &format!("{size:?}"),
            &graph,
            &plan,
            &inputs[trial as usize % 4],
        );
        if trial % 4 == 0 {
            let had = on_ciphertexts(&plan, &inputs[0], true);
            let want = graph.evaluate(&inputs[0]).expect("runs").output;
            let off = largest(had.iter().zip(want.values()).map(|(a, b)| a - b));
            assert!(
                off < 5e-3 * largest(want.values().iter().copied()),
                "{size:?}: {off}"
            );
        }
    }
}

/// The same plan comes back where its weights lie in a file beside it; gives bytes of a weight.
fn beside(plan: &VerifiedPlan) -> f64 {
    let (out, weights) = ((Vec::new(), "plan"), (Vec::new(), "weights"));
    let (file, weights) = plan.plan().write_beside(out, weights).expect("written");
    let kernels = plan.plan().steps.iter().flat_map(|s| match &s.operation {
        Operation::Weigh { terms, .. } => &terms[..],
        _ => &[],
    });
    let count = kernels.map(|t| match t {
        Term::Kernel { weights, .. } => weights.len(),
        Term::Multiple { .. } => 0,
    });
    let count: usize = count.sum();
    let each = plan.plan().integer_bytes() as f64 / count as f64;
    let name = format!("polyveil-{}-{count}.weights", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, &weights).expect("written");
    let back = VerifiedPlan::read_within(&file[..], "plan", Limits::default(), Some(&path));
    let back = back.expect("read");
    std::fs::remove_file(&path).expect("removed");
    assert!(back.plan() == plan.plan() && back.digest() == plan.digest());
    each
}

/// What integer weights of each precision change, in the clear under a sine that is all but straight, where little else is left, and on ciphertexts
/// under the presets' sine.
#[test]
fn weights_of_more_bits_are_nearer_to_the_network() {
    let (graph, inputs) = transformer(3, SMALL, 4);
    let [mut clear, mut encrypted, mut bytes] = [[0.0f64; 2]; 3];
    for (k, bits) in WEIGHT_BITS.into_iter().enumerate() {
        let usual = ParametersSpec::toy_coefficients(9, 9).expect("a preset");
        let usual = usual.with_weight_bits(bits);
        let mut straight = usual.clone();
        // 2^12 times straighter; values land at a scale that is lower by as much as they lie lower in q0
        (straight.residual, straight.log_scale) = (Zone::new(9, &[36]), 36);
        straight.bootstrap.as_mut().expect("bootstraps").log_ratio += 6.0;
        let compiled = |set: ParametersSpec| {
            let target = Target {
                parameters: Some(set),
                ..target(9)
            };
            compile(&graph, &target).expect("compiles")
        };
        let plan = compiled(straight);
        for x in &inputs {
            let want = graph.evaluate(x).expect("runs").output;
            let twin = ClearTwin::new(&plan, &plan.client_spec(), x.values()).expect("fits");
            let had = twin.finish().expect("in range");
            clear[k] = clear[k].max(largest(had.iter().zip(want.values()).map(|(a, b)| a - b)));
        }
        let want = graph.evaluate(&inputs[0]).expect("runs").output;
        let plan = compiled(usual);
        bytes[k] = beside(&plan);
        let had = on_ciphertexts(&plan, &inputs[0], true);
        encrypted[k] = largest(had.iter().zip(want.values()).map(|(a, b)| a - b));
    }
    println!(
        "of {WEIGHT_BITS:?} bits: {clear:?} in the clear, {encrypted:?} encrypted, {bytes:?} bytes a weight"
    );
    assert!(bytes[0] < bytes[1] && bytes[1] <= 4.0, "{bytes:?}");
    // 2^4 nearer, but that the largest error need not be of the same value
    assert!(clear[1] < clear[0] / 8.0, "{clear:?}");
    // the sine is left
    assert!(encrypted[1] < 0.75 * encrypted[0], "{encrypted:?}");
}

/// A row is one head's attention of one token: each is held to f64's on its own, relative to the largest value that it could give.
#[test]
fn ten_thousand_rows_of_attention_are_those_of_f64() {
    let size = Size {
        width: 16,
        heads: 4,
        kv_heads: 2,
        length: 16,
        ..SMALL
    };
    let (head, rows) = (size.width / size.heads, size.heads * size.length);
    let (graph, inputs) = attention(5, size, 10_000usize.div_ceil(rows));
    let plan = compile(&graph, &target(9)).expect("compiles");
    let (mut count, mut worst) = (0, 0.0f64);
    for x in &inputs {
        let want = graph.evaluate(x).expect("runs").output;
        let twin = ClearTwin::new(&plan, &plan.client_spec(), x.values()).expect("fits");
        let had = twin.finish().expect("in range");
        let most = largest(want.values().iter().copied());
        for row in 0..rows {
            let (of, token) = (row / size.length, row % size.length);
            let places = (0..head).map(|c| (of * head + c) * size.length + token);
            let off = largest(places.map(|i| had[i] - want.values()[i]));
            worst = worst.max(off / most);
            count += 1;
        }
    }
    println!("{count} rows, the worst {worst:.1e} off");
    assert!(count >= 10_000 && worst < 5e-3, "{count}, {worst}");
}

/// Through files, on ciphertexts: client, server, client; the answer. Every step beside the clear twin, if `checked`.
fn on_ciphertexts(compiled: &VerifiedPlan, x: &Tensor, checked: bool) -> Vec<f64> {
    let file = compiled.plan().write(Vec::new(), "plan").expect("written");
    let plan = Arc::new(VerifiedPlan::read(&file[..], "plan").expect("read"));
    assert_eq!(plan.plan(), compiled.plan());
    let rng = |seed| rand_chacha::ChaCha20Rng::seed_from_u64(seed);
    let client = Client::new(plan.client_file([].into()).expect("no task"), &mut rng(1));
    let keys = client
        .write_evaluation_keys(Vec::new(), "keys", &mut rng(2), &mut |_, _| {})
        .expect("keys");
    let server = Server::read(plan.clone(), &keys[..], "keys", &mut |_, _| {}).expect("server");
    drop(keys);
    let input = client
        .write_input(x.values(), Vec::new(), "input", &mut rng(3))
        .expect("input");
    let state = server.read_input(&input[..], "input").expect("belongs");
    let before = cpu_seconds();
    let answer = match checked {
        false => server.run(state, &mut ()).expect("runs"),
        true => {
            let mut check = LockStep::new(&plan, server.engine(), &client, &state, Excess::Stop)
                .expect("starts");
            server
                .run(state, &mut check)
                .expect("every step within its bound")
        }
    };
    println!("{:.1} CPU s", cpu_seconds() - before);
    let bytes = server
        .write_answer(&answer, Vec::new(), "answer")
        .expect("answer");
    client.read_answer(&bytes[..], "answer").expect("an answer")
}

/// Sentences of several lengths, how long they are encrypted with them.
#[test]
fn encoders() {
    let text = r#"{"model_type": "bert", "hidden_act": "gelu", "hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 2,
        "num_attention_heads": 2, "vocab_size": 30, "max_position_embeddings": 64, "type_vocab_size": 2}"#;
    let shape = TransformerShape::from_json(text).expect("a configuration");
    let power = PowerSoftmax::new(4, 0.25)
        .expect("valid")
        .over(Denominator::Mean);
    let polynomials = Polynomials {
        bits: 10.0,
        degree: 7,
        widened: 4.0,
    };
    for (log_n, length, tokens) in [(8, 8, 6), (9, 11, 11), (9, 11, 7)] {
        let made = shape.random(AttentionScheme::Power(power), length);
        let graph = made.expect("made").polynomials(polynomials);
        let graph = graph.expect("within reach").graph;
        let plan = compile(&graph, &target(log_n)).unwrap_or_else(|e| panic!("{length}: {e}"));
        let mut x = zoo::shape::sequence(graph.input_shape(), 3);
        let all = x.values().len();
        x.values_mut()[all - length + tokens..].fill(0.0);
        compare(&format!("{tokens} of {length}"), &graph, &plan, &x);
    }
}

/// Vision transformers: pixels that only move, positions that differ from token to token, an answer of the class token's.
fn pictures(family: &str, size: usize, patch: usize) -> (PolyGraph, Vec<Tensor>) {
    let text = format!(
        r#"{{{family}, "hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 2, "num_channels": 2,
        "image_size": {size}, "patch_size": {patch}, "layer_norm_eps": 0.01}}"#
    );
    let config = Config::from_json(&text).expect("a configuration");
    let mut random = support::Random(5);
    let model = VisionTransformer::new(config, |name, shape| {
        let gain = f32::from(u8::from(name.contains("norm") && name.ends_with("weight")));
        let inputs = shape.last().copied().unwrap_or(1) as f64;
        let size = if shape.len() == 2 {
            1.2 / inputs.sqrt()
        } else {
            0.3
        };
        let values = random.parameter(shape, size);
        values.values().iter().map(|v| gain + v).collect()
    });
    let power = PowerSoftmax::new(2, 0.25)
        .expect("valid")
        .over(Denominator::Mean);
    let graph = model
        .expect("fits")
        .graph(AttentionScheme::Power(power), Start::Picture)
        .expect("builds");
    let shape = graph.input().shape();
    let inputs: Vec<Tensor> = (0..12).map(|_| random.tensor(shape)).collect();
    let options = Options {
        bits: 10.0,
        margin: 0.5,
        activations: FitOptions {
            degree: 7,
            margin: 0.25,
            ..FitOptions::default()
        },
        ..Options::default()
    };
    (
        adapt(&graph, &inputs, &options)
            .expect("within reach")
            .graph,
        inputs,
    )
}

const VIT: &str = r#""model_type": "vit", "num_labels": 3"#;
const CLIP: &str = r#""model_type": "clip_vision_model", "projection_dim": 4"#;

#[test]
fn vision_transformers() {
    for (log_n, family, size, patch) in [(8, VIT, 6, 3), (9, CLIP, 6, 2), (9, VIT, 8, 2)] {
        let (graph, inputs) = pictures(family, size, patch);
        let plan = compile(&graph, &target(log_n)).unwrap_or_else(|e| panic!("{size}: {e}"));
        assert_eq!(plan.plan().input.shape, [2, size, size]);
        for x in &inputs[..2] {
            compare(&format!("{size} by {patch}"), &graph, &plan, x);
        }
        let weighs = |o: &Operation| matches!(o, Operation::Weigh { .. });
        let steps = plan.plan().steps.iter();
        assert!(steps.filter(|s| weighs(&s.operation)).count() >= 13);
        // the same in slots
        let slots = Target {
            parameters: Some(ParametersSpec::toy(10)),
            layers: Layers::Slots,
            ..Target::default()
        };
        let plan = compile(&graph, &slots).unwrap_or_else(|e| panic!("{size}: {e}"));
        compare(
            &format!("{size} by {patch} in slots"),
            &graph,
            &plan,
            &inputs[0],
        );
        // tokens take no more room than they have: a picture's planes are not theirs
        let mut steps = plan.plan().steps.iter();
        let first = steps.find(|s| matches!(s.operation, Operation::Linear { .. }));
        assert_eq!(first.expect("a map").operation.writes().len(), 1);
    }
}

#[test]
fn a_vision_transformer_on_ciphertexts() {
    let (graph, inputs) = pictures(VIT, 6, 3);
    let plan = compile(&graph, &target(8)).expect("compiles");
    let had = on_ciphertexts(&plan, &inputs[0], true);
    let want = graph.evaluate(&inputs[0]).expect("runs").output;
    let off = largest(had.iter().zip(want.values()).map(|(a, b)| a - b));
    assert!(off < 5e-3 * largest(want.values().iter().copied()), "{off}");
}

/// Patches that overlap, or leave pixels out, are not moves of a picture.
#[test]
fn pictures_that_are_not_cut_into_patches_are_refused() {
    let mut b = nn::Network::builder();
    let x = b
        .input("picture", nn::Shape::image(1, 3, 4))
        .expect("valid");
    let shape = nn::Shape::image(2, 1, 6);
    let offsets = vec![vec![0, 1], vec![0, 1, 2, 4, 5, 6]];
    let cut = Op::Rearrange(Rearrange { shape, offsets });
    let x = b.add("patches", cut, &[x]).expect("valid");
    let unfold = Op::Unfold(nn::Unfold {
        rows: 6,
        boundary: nn::Boundary::Cyclic,
    });
    let x = b.add("keys", unfold, &[x]).expect("valid");
    let network: nn::Network<approx::Polynomial> = b.finish(x).expect("valid");
    let one = nn::Range {
        min: -1.0,
        max: 1.0,
    };
    let graph = PolyGraph::from(network);
    let graph = graph.with_ranges(vec![one; 3]).expect("as many");
    let e = compile(&graph, &target(8)).expect_err("refused");
    assert!(e.to_string().contains("each pixel once"), "{e}");
}

#[test]
fn a_layer_on_ciphertexts() {
    on_both(SMALL);
}

#[test]
fn a_layer_with_a_public_token_and_padding_on_ciphertexts() {
    on_both(Size {
        length: 7,
        valid: Some(5),
        public: true,
        ..SMALL
    });
}

fn on_both(size: Size) {
    let (graph, inputs) = transformer(3, size, 4);
    let plan = compile(&graph, &target(9)).expect("compiles");
    let had = on_ciphertexts(&plan, &inputs[0], true);
    let twin = ClearTwin::new(&plan, &plan.client_spec(), inputs[0].values()).expect("fits");
    let clear = twin.finish().expect("runs");
    let error = largest(had.iter().zip(&clear).map(|(a, b)| a - b));
    let stated = plan.answer_bounds().error;
    println!("error {error:.2e}, stated {stated:.2e}");
    assert!(error <= stated.min(1e-3), "{error}, {stated}");
    let want = graph.evaluate(&inputs[0]).expect("runs").output;
    let off = largest(had.iter().zip(want.values()).map(|(a, b)| a - b));
    assert!(off < 5e-3 * largest(want.values().iter().copied()), "{off}");
}

/// GPT-NeoX's structure.
fn neox(layers: usize, width: usize, heads: usize, vocabulary: usize) -> TransformerShape {
    let text = format!(
        r#"{{"model_type": "gpt_neox", "hidden_act": "gelu", "hidden_size": {width}, "intermediate_size": {}, "num_hidden_layers": {layers},
        "num_attention_heads": {heads}, "vocab_size": {vocabulary}, "max_position_embeddings": 2048}}"#,
        4 * width
    );
    TransformerShape::from_json(&text).expect("a configuration")
}

/// Published structures with few channels, attention over the mean of the powers.
#[test]
fn published_structures() {
    let power = PowerSoftmax::new(4, 0.25)
        .expect("valid")
        .over(Denominator::Mean);
    let shape = neox(2, 512, 8, 512);
    let small = shape
        .stand_in(AttentionScheme::Power(power))
        .expect("narrowed");
    let polynomials = Polynomials {
        bits: 10.0,
        degree: 7,
        widened: 1.25,
    };
    let graph = small.polynomials(polynomials).expect("within reach").graph;
    let plan = compile(&graph, &target(9)).unwrap_or_else(|e| panic!("{e}"));
    let x = zoo::shape::sequence(graph.input_shape(), 3);
    compare("gpt_neox", &graph, &plan, &x);
    // one square of each part for both norms of a layer, and for the last
    let square = |s: &&runtime::Step| s.layer.ends_with("squares") && s.purpose == Purpose::Norm;
    assert_eq!(plan.plan().steps.iter().filter(square).count(), 2 * 3);
}

/// Shows what is alive where most is.
fn most_alive(plan: &VerifiedPlan) {
    let mut held = std::collections::BTreeMap::new();
    let mut most = (0, 0, held.clone());
    let mut bytes = 0;
    let size = |l: usize| ckks::memory::ciphertext(plan.parameters(), ckks::Level::new(l));
    for (index, (step, facts)) in plan
        .plan()
        .steps
        .iter()
        .zip(&plan.facts().steps)
        .enumerate()
    {
        for r in step.operation.writes() {
            let one = size(facts.level_out);
            bytes += one;
            held.insert(r, (step.layer.clone(), step.operation.doing(), one));
        }
        if bytes > most.0 {
            most = (bytes, index, held.clone());
        }
        for r in &facts.released {
            bytes -= held.remove(r).map_or(0, |h| h.2);
        }
    }
    let (bytes, index, held) = most;
    let step = &plan.plan().steps[index];
    let all = bytes as f64 / 1e9;
    println!(
        "{all:.2} GB alive at {index} {} {}",
        step.layer,
        step.operation.doing()
    );
    let mut by: std::collections::BTreeMap<_, (usize, u64)> = Default::default();
    for (layer, doing, size) in held.into_values() {
        let entry = by.entry((layer, doing)).or_default();
        *entry = (entry.0 + 1, entry.1 + size);
    }
    for ((layer, doing), (count, size)) in by {
        println!(
            "    {layer:50} {doing:25} {count:5} {:.3} GB",
            size as f64 / 1e9
        );
    }
}

/// What full sizes cost, by count. Run by hand.
#[test]
#[ignore = "minutes"]
fn full_sizes() {
    let power = PowerSoftmax::new(4, 0.25)
        .expect("valid")
        .over(Denominator::Mean);
    let number =
        |name: &str, or: usize| std::env::var(name).map_or(or, |v| v.parse().expect("a number"));
    let shape = neox(
        number("LAYERS", 1),
        number("WIDTH", 512),
        number("HEADS", 8),
        number("WORDS", 512),
    );
    let made = shape
        .random(AttentionScheme::Power(power), 128)
        .expect("made");
    let polynomials = Polynomials {
        bits: 12.0,
        degree: 15,
        widened: 4.0,
    };
    let graph = made.polynomials(polynomials).expect("within reach").graph;
    println!("lowered");
    let target = Target {
        layers: Layers::Coefficients,
        key_seconds: 1e-3 * number("KEY", 20) as f64,
        ..Target::default()
    };
    let start = std::time::Instant::now();
    let plan = compile(&graph, &target).unwrap_or_else(|e| panic!("{e}"));
    println!("compiled in {:?}", start.elapsed());
    let seconds = plan.predicted_steps(&target.cost);
    let mut by: std::collections::BTreeMap<String, (usize, f64)> = Default::default();
    for (s, seconds) in plan.plan().steps.iter().zip(&seconds) {
        let doing = format!("{} {:?}", s.operation.doing(), s.purpose);
        let entry = by.entry(doing).or_default();
        *entry = (entry.0 + 1, entry.1 + seconds);
    }
    for (doing, (count, seconds)) in by {
        println!("{doing:60} {count:6} {seconds:8.2}");
    }
    let mut dearest: Vec<_> = plan.plan().steps.iter().zip(&seconds).collect();
    dearest.sort_by(|a, b| b.1.total_cmp(a.1));
    for (s, seconds) in &dearest[..30] {
        println!("{:50} {:30} {seconds:8.2}", s.layer, s.operation.doing());
    }
    most_alive(&plan);
    let facts = plan.facts();
    println!(
        "{:.2} GB without keys, {:.2} of them in buffers",
        facts.peak_without_keys as f64 / 1e9,
        facts.working_bytes as f64 / 1e9
    );
    println!(
        "{:.1} CPU s, peak {:.2} GB, {} keys of {:.2} GB, {} bootstraps",
        seconds.iter().sum::<f64>(),
        facts.peak_bytes as f64 / 1e9,
        facts.keys.0.len(),
        facts.key_file_bytes as f64 / 1e9,
        facts.bootstraps
    );
    if std::env::var_os("RUN").is_some() {
        let x = zoo::shape::sequence(graph.input_shape(), 77);
        let want = graph.evaluate(&x).expect("runs").output;
        let had = on_ciphertexts(&plan, &x, false);
        let most = largest(want.values().iter().copied());
        let off = largest(had.iter().zip(want.values()).map(|(a, b)| a - b));
        let peak = peak_bytes() as f64 / 1e9;
        println!("error {off:.1e} of {most:.1}, peak {peak:.2} GB");
    }
}

/// What the whole network's answer has at these positions.
fn columns(all: &Tensor, positions: &[usize]) -> Vec<f64> {
    let rows = all.values().chunks(all.shape().columns());
    rows.flat_map(|row| positions.iter().map(|p| row[*p]))
        .collect()
}

/// An answer at some positions is what the whole network gives there, in fewer ciphertexts where layers lie in slots, or one position is asked for.
#[test]
fn an_answer_at_some_positions_is_that_of_all() {
    let size = |length, public| Size {
        layers: 2,
        vocabulary: 100,
        length,
        public,
        ..SMALL
    };
    let power = PowerSoftmax::new(4, 0.25).expect("valid");
    let polynomials = Polynomials {
        bits: 10.0,
        degree: 7,
        widened: 1.25,
    };
    let parallel = neox(2, 128, 4, 128)
        .stand_in(AttentionScheme::Power(power.over(Denominator::Mean)))
        .expect("narrowed");
    let parallel = parallel.polynomials(polynomials).expect("within reach");
    let sequence = |i| zoo::shape::sequence(parallel.graph.input_shape(), i);
    let slots = Target {
        parameters: Some(ParametersSpec::toy(9)),
        layers: Layers::Slots,
        ..Target::default()
    };
    let [(full, x), (short, y)] = [size(8, false), size(7, true)].map(|s| transformer(7, s, 4));
    for (name, graph, input, target, several) in [
        ("in coefficients", &full, &x[0], target(8), true),
        ("behind a public token", &short, &y[0], target(8), false),
        ("parallel", &parallel.graph, &sequence(3), target(8), false),
        ("in slots", &full, &x[0], slots, true),
    ] {
        let length = graph.output().shape().columns();
        let whole = compile(graph, &target).unwrap_or_else(|e| panic!("{name}: {e}"));
        let all = graph.evaluate(input).expect("runs").output;
        let seconds = |plan: &VerifiedPlan| plan.predicted_steps(&target.cost).iter().sum::<f64>();
        for positions in [vec![length - 1], vec![0], vec![1, 3]] {
            if positions.len() > 1 && !several {
                continue;
            }
            let cut = graph.at_positions(&positions).expect("within");
            let want = cut.evaluate(input).expect("runs").output;
            let here = columns(&all, &positions);
            let off = largest(here.iter().zip(want.values()).map(|(a, b)| a - b));
            assert!(off < 1e-12, "{name}: {off}");
            let plan = compile(&cut, &target).unwrap_or_else(|e| panic!("{name}: {e}"));
            compare(name, &cut, &plan, input);
            let answers = |plan: &VerifiedPlan| plan.plan().output.registers.len();
            let (own, of_all) = (answers(&plan), answers(&whole));
            println!(
                "{name} at {positions:?}: {own} of {of_all} ciphertexts, {:.2} of {:.2} CPU s",
                seconds(&plan),
                seconds(&whole)
            );
            if positions.len() == 1 || target.layers == Layers::Slots {
                assert!(own < of_all, "{name}: {own} of {of_all} ciphertexts");
            }
            if positions == [length - 1] {
                let had = on_ciphertexts(&plan, input, true);
                let off = largest(had.iter().zip(want.values()).map(|(a, b)| a - b));
                let most = largest(want.values().iter().copied());
                assert!(off < 5e-3 * most, "{name}: {off} of {most}");
            }
        }
    }
}

//! Language models in training: against finite differences, against the oracle, resumed, with parts, with recomputation; text drawn from them.

#[path = "../../zoo/tests/suite/oracle/language.rs"]
mod oracle;

use data::{Text, Windows};
use nn::attention::{AttentionScheme, Denominator, PowerSoftmax, Scaling};
use oracle::Oracle;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use train::activation::{Function, RangeLoss};
use train::approximations;
use train::generate::{Generator, Sampling, corpus};
use train::inverse::Iteration;
use train::inverse::VarianceLoss;
use train::language::{self, LanguageConfig, Network, Passages};
use train::loss::Loss;
use train::mode::Mode;
use train::pass::Inputs;
use train::{Error, Event, Model, Trainer};
use zoo::architecture::Architecture;
use zoo::architecture::gpt_neox;
use zoo::language::LanguageModel;

const VOCABULARY: usize = 7;
const LENGTH: usize = 6;

fn power(exponent: u32, denominator: Denominator, scaling: Scaling) -> AttentionScheme {
    let p = PowerSoftmax::new(exponent, 1e-2).expect("an exponent");
    AttentionScheme::Power(p.over(denominator).scaled(scaling))
}

fn llama(layers: usize, tied: bool) -> LanguageModel {
    Network::Llama {
        layers,
        width: 8,
        heads: 4,
        kv_heads: Some(2),
        hidden: Some(12),
        tied,
        attention: AttentionScheme::Softmax,
    }
    .load(VOCABULARY, 32, 3)
    .and_then(|m| {
        // larger than new ones are, so that differences of norms' inverse roots are derivatives
        let values: Vec<f32> = m.embedding().values().iter().map(|v| 30.0 * v).collect();
        let larger = nn::Parameter::new("embedding", m.embedding().shape().to_vec(), values)?;
        Ok(m.with_embedding(&larger)?)
    })
    .expect("a model")
}

/// Pythia's shape: biases, layer norms, a part of the channels turned.
fn neox() -> LanguageModel {
    let config = gpt_neox::Config {
        sizes: zoo::blocks::Sizes {
            width: 8,
            hidden: 16,
            layers: 2,
            heads: 2,
            kv_heads: 2,
            head: 4,
            vocabulary: VOCABULARY,
            max_length: 32,
        },
        epsilon: 1e-5,
        rotary_share: 0.5,
        base: 10_000.0,
        parallel: true,
        tied: false,
    };
    let mut state = 5u32;
    LanguageModel::new(Architecture::GptNeoX(config), |_, shape| {
        let values = (0..shape.iter().product::<usize>()).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        });
        values.map(|v| 0.7 * v).collect()
    })
    .expect("a model")
}

fn tokens(windows: usize) -> (Vec<u32>, Vec<usize>) {
    let at = |i: usize| (i * 7919 % 1009 + i / 3) % VOCABULARY;
    let n = windows * LENGTH;
    (
        (0..n).map(|i| at(i) as u32).collect(),
        (1..=n).map(at).collect(),
    )
}

fn loss(model: &mut Model, windows: usize) -> f64 {
    let (tokens, next) = tokens(windows);
    let outputs = model.run(Inputs::Tokens(&tokens), Mode::Train).to_vec();
    let outcome = Loss::default().evaluate(&outputs, &next, None);
    outcome.loss + model.backward(outcome.gradient)
}

fn gradients(model: &mut Model, windows: usize) -> Vec<Vec<f32>> {
    model.clear_gradients();
    loss(model, windows);
    model
        .parameters
        .iter()
        .map(|p| p.gradient.clone())
        .collect()
}

/// Along the gradient of each parameter the loss changes by the gradient's square: every element is in it.
fn check(what: &str, mut model: Model) {
    let windows = 3;
    for p in &mut model.parameters {
        p.trainable = true;
    }
    let all = gradients(&mut model, windows);
    for (k, gradient) in all.iter().enumerate() {
        let norm = gradient
            .iter()
            .map(|g| f64::from(*g).powi(2))
            .sum::<f64>()
            .sqrt();
        let name = model.parameters[k].name.clone();
        let old = model.parameters[k].values.clone();
        assert!(norm > 1e-5, "{what}: nothing depends on {name}");
        let h = 4e-3;
        let mut at = |sign: f64| {
            for ((v, o), g) in model.parameters[k]
                .values
                .iter_mut()
                .zip(&old)
                .zip(gradient)
            {
                *v = (f64::from(*o) + sign * h * f64::from(*g) / norm) as f32;
            }
            loss(&mut model, windows)
        };
        let slope = (at(1.0) - at(-1.0)) / (2.0 * h);
        model.parameters[k].values = old;
        assert!(
            (slope - norm).abs() < 0.02 * norm + 3e-4,
            "{what}, {name}: difference {slope}, gradient {norm}"
        );
    }
}

fn schemes() -> Vec<AttentionScheme> {
    vec![
        AttentionScheme::Softmax,
        power(4, Denominator::Sum, Scaling::Largest),
        power(4, Denominator::Mean, Scaling::None),
        power(6, Denominator::Mean, Scaling::Largest),
        power(2, Denominator::Sum, Scaling::None),
    ]
}

#[test]
fn gradients_are_differences() {
    for scheme in schemes() {
        for (what, language) in [
            ("llama, tied", llama(2, true)),
            ("llama", llama(2, false)),
            ("gpt-neox", neox()),
        ] {
            let model = language::model(&language, LENGTH, scheme).expect("trains");
            check(&format!("{what}, {scheme}"), model);
        }
    }
}

#[test]
fn gradients_of_polynomials_programs_and_losses_on_ranges() {
    for public in [0, 1] {
        for variance_loss in [
            VarianceLoss::Spread { weight: 0.1 },
            VarianceLoss::Largest { weight: 0.05 },
        ] {
            let scheme = power(4, Denominator::Mean, Scaling::None);
            let mut m = language::model(&llama(2, false), LENGTH, scheme).expect("trains");
            m.public = public;
            m.variance_loss = variance_loss;
            m.division_loss = variance_loss;
            m.range_loss = RangeLoss::Boundary {
                weight: 0.2,
                edge: 0.3,
            };
            let units = m.units().count();
            for i in 0..units {
                m.set_polynomial(
                    i,
                    &[0.4, 0.6, 0.2, -0.05, 0.03],
                    (-4.0, 4.5),
                    Function::Polynomial,
                );
            }
            for u in m.units_mut() {
                u.target = (-0.5, 0.6);
            }
            // ranges, then programs on them
            loss(&mut m, 3);
            let how = Iteration {
                bits: 16.0,
                factor: 4.0,
                carried: public == 0,
                pictures: 1,
            };
            for u in m.inverses_mut() {
                u.substitute(&how).expect("a program");
            }
            assert_eq!(
                m.inverses().count(),
                2 * 3 + 1,
                "two norms and a division a block, a norm at the end"
            );
            m.clear_ranges();
            agree(&mut m);
            check(&format!("{variance_loss:?}, {public} public"), m);
        }
    }
}

/// The oracle of graph and pieces computes what the model computes without any guard.
fn agree(m: &mut Model) {
    let (tokens, _) = tokens(1);
    let outputs = m.run(Inputs::Tokens(&tokens), Mode::Evaluate).to_vec();
    let (table, _) = m.embedding().expect("an embedding");
    let width = table.len() / VOCABULARY;
    let mut x = vec![0.0; width * LENGTH];
    for (t, &token) in tokens.iter().enumerate() {
        for c in 0..width {
            x[c * LENGTH + t] = f64::from(table[token as usize * width + c]);
        }
    }
    let graph = approximations::graph(m).expect("exports");
    let input = nn::Tensor::new(graph.input().shape(), x).expect("fits");
    let pieces = approximations::substitutes(m).expect("pieces");
    assert_eq!(pieces.by_node.len(), 7 + 2, "two activations");
    let json = pieces.to_json(&graph).expect("writes");
    let back = nn::approximations::Approximations::from_json(&graph, &json).expect("reads");
    assert_eq!(back, pieces);
    let e =
        nn::approximations::Approximations::from_json(&graph, &json.replace("model.norm", "other"));
    let e = e.expect_err("no such node").to_string();
    assert!(e.contains("no such node"), "{e}");
    let oracle = graph.evaluate_with(&pieces, &input).expect("evaluates");
    for (t, row) in outputs.chunks_exact(VOCABULARY).enumerate() {
        for (v, a) in row.iter().enumerate() {
            let b = oracle.output.values()[v * LENGTH + t];
            assert!(
                (f64::from(*a) - b).abs() < 2e-4 * (1.0 + b.abs()),
                "position {t}: {a} against the oracle's {b}"
            );
        }
    }
}

#[test]
fn the_exported_model_computes_what_the_model_computes() {
    for scheme in schemes() {
        for language in [llama(2, true), llama(1, false), neox()] {
            let mut m = language::model(&language, LENGTH, scheme).expect("trains");
            // weights that are not the initial ones
            for p in &mut m.parameters {
                for (i, v) in p.values.iter_mut().enumerate() {
                    *v += 0.05 * ((i % 7) as f32 - 3.0);
                }
            }
            let out = language::trained(&language, &m).expect("exports");
            assert_eq!(out.architecture().tied(), language.architecture().tied());
            let (tokens, _) = tokens(1);
            let outputs = m.run(Inputs::Tokens(&tokens), Mode::Evaluate).to_vec();
            let oracle = out.logits(&tokens, scheme).expect("evaluates");
            for (t, row) in outputs.chunks_exact(VOCABULARY).enumerate() {
                for (v, a) in row.iter().enumerate() {
                    let b = oracle.values()[v * LENGTH + t];
                    assert!(
                        (f64::from(*a) - b).abs() < 2e-4 * (1.0 + b.abs()),
                        "{scheme}, position {t}: {a} against the oracle's {b}"
                    );
                }
            }
        }
    }
}

#[test]
fn recomputation_changes_no_bit_and_takes_less_memory() {
    let scheme = power(4, Denominator::Mean, Scaling::None);
    let make = |recompute| {
        let mut m = language::model(&llama(8, false), LENGTH, scheme).expect("trains");
        m.recompute = recompute;
        m.public = 1;
        m.variance_loss = VarianceLoss::Spread { weight: 0.1 };
        m.division_loss = VarianceLoss::Spread { weight: 0.1 };
        for i in 0..m.units().count() {
            m.set_polynomial(i, &[0.4, 0.6, 0.2], (-0.2, 0.3), Function::Polynomial);
        }
        // clamped inputs are kept, too
        for u in m.units_mut() {
            u.guard = Some(0.1);
        }
        m
    };
    let (mut plain, mut again) = (make(false), make(true));
    assert_eq!(gradients(&mut plain, 3), gradients(&mut again, 3));
    assert_eq!(
        gradients(&mut plain, 3),
        gradients(&mut again, 3),
        "a second time"
    );
    let seen = |m: &Model| m.units().map(|u| u.seen).collect::<Vec<_>>();
    assert_eq!(seen(&plain), seen(&again), "nothing is recorded twice");
    let (a, b) = (again.held(), plain.held());
    assert!(2 * a < b, "{a} floats with recomputation, {b} without");
}

fn folder(name: &str) -> PathBuf {
    let path =
        std::env::temp_dir().join(format!("polyveil-language-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("a folder");
    path
}

const CONFIG: &str = r#"
seed = 4
batch = 8
network = { kind = "llama", layers = 1, width = 16, heads = 2, attention = { power = { exponent = 4, epsilon = 1e-2, denominator = "mean", scaling = "largest" } } }
teacher = { kind = "llama", layers = 1, width = 8, heads = 2 }
data = { text = "none", length = 8, held_out = 300, begin = 0 }
[[stage]]
name = "float"
epochs = 5.6
rate = { peak = 1e-2, warm_up = 0.1 }
rule = { kind = "adam-w", betas = [0.9, 0.99], decay = 0.1 }
clipping = { kind = "norm", limit = 1.0 }
loss = { teacher = 0.05, temperature = 1.0 }
patience = 2
[[stage]]
name = "activations"
epochs = 1.0
rate = { peak = 5e-3 }
rule = { kind = "adam-w", betas = [0.9, 0.99], decay = 0.1 }
coefficient_rate = 0.1
loss = { teacher = 0.05, temperature = 1.0 }
range_loss = { kind = "boundary", weight = 0.01, edge = 0.8 }
variance_loss = { kind = "spread", weight = 0.01 }
division_loss = { kind = "spread", weight = 0.01 }
substitution = { degree = 6, order = { kind = "blend", share = 0.5 }, margin = 0.3, pictures = 40 }
guard = 0.1
parts = 2
[[stage]]
name = "programs"
epochs = 0.5
rate = { peak = 1e-3 }
loss = { teacher = 0.05, temperature = 1.0 }
rule = { kind = "adam-w", betas = [0.9, 0.99], decay = 0.1 }
variance_loss = { kind = "spread", weight = 0.01 }
division_loss = { kind = "spread", weight = 0.01 }
roots = { bits = 12.0, factor = 2.0 }
divisions = { bits = 12.0, factor = 2.0 }
recompute = true
"#;

/// Words of a small grammar: what follows is predictable in part.
fn passages(config: &LanguageConfig) -> Passages {
    let mut state = 9u32;
    let mut text = Vec::new();
    while text.len() < 2500 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.extend_from_slice(match state >> 30 {
            0 => &[0, 1, 2, 3, 4][..],
            1 => &[0, 2, 2, 5, 1, 6],
            2 => &[0, 5, 4, 3],
            _ => &[0, 6, 6, 1],
        });
    }
    let text = Text::new(text, VOCABULARY).expect("tokens");
    let (train, held_out) = text.split(config.data.held_out).expect("both");
    let windows = |t| Windows::new(t, config.data.length, config.data.begin).expect("windows");
    Passages {
        train: windows(train),
        held_out: windows(held_out),
        alphabet: None,
    }
}

fn bits(model: &Model) -> Vec<u32> {
    let values = model.parameters.iter().flat_map(|p| &p.values);
    let programs = model.inverses().map(|u| u.value(1.0, Mode::Evaluate));
    values.copied().chain(programs).map(f32::to_bits).collect()
}

/// Runs to the end, stopping and starting again after so many steps; gives back weights, log, and the last score's loss.
fn run(config: &LanguageConfig, folder: &Path, every: usize) -> (Vec<u32>, String, f64) {
    loop {
        let passages = passages(config);
        let (_, model, teacher) = language::models(config, &passages).expect("models");
        let mut trainer =
            Trainer::new(config, model, teacher, passages, Some(folder)).expect("a run");
        let mut steps = 0;
        let end = trainer
            .run(&mut |e| {
                steps += usize::from(matches!(e, Event::Step { .. }));
                if steps >= every {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
            .expect("runs");
        if end == train::End::Finished {
            let log = std::fs::read_to_string(folder.join("log.csv")).expect("a log");
            let loss = trainer.score().expect("scores").loss;
            return (bits(&trainer.model), log, loss);
        }
    }
}

#[test]
fn runs_learn_become_polynomial_and_resume_exactly() {
    let config = LanguageConfig::parse(CONFIG).expect("parses");
    let (weights, log, loss) = run(&config, &folder("whole"), usize::MAX);
    for every in [17, 90] {
        let (again, log_again, _) = run(&config, &folder(&format!("every-{every}")), every);
        assert!(
            weights == again,
            "stopped every {every} steps, other weights"
        );
        assert_eq!(log, log_again);
    }
    // uniform guessing gives ln 7 = 1.95
    assert!(loss < 0.6, "the polynomial network's loss is {loss}");
    let rows: Vec<Vec<&str>> = log.lines().map(|l| l.split(',').collect()).collect();
    let of = |stage: &str, when: &str| -> f64 {
        let row = rows
            .iter()
            .find(|r| r[0] == stage && r[1] == when)
            .expect("a row");
        row[11].parse().expect("a loss")
    };
    for stage in ["activations", "programs"] {
        let (before, after) = (of(stage, "before"), of(stage, "substituted"));
        assert!(
            before < 0.6 && (after - before).abs() < 0.2,
            "{stage}: {before}, then {after}"
        );
    }
    let last = rows.last().expect("a row");
    assert_eq!(last[8], "0", "values outside of intervals: {log}");
}

#[test]
fn parts_add_up_to_the_whole() {
    let of = |parts: usize| {
        let text = CONFIG
            .split("[[stage]]")
            .take(2)
            .collect::<Vec<_>>()
            .join("[[stage]]");
        let text = text.replace("epochs = 5.6", &format!("epochs = 0.1\nparts = {parts}"));
        // Adam turns rounding of small gradients into steps
        let adam = r#"kind = "adam-w", betas = [0.9, 0.99], decay = 0.1"#;
        let text = text.replace(adam, r#"kind = "sgd", momentum = 0.9, decay = 0.0"#);
        let config = LanguageConfig::parse(&text).expect("parses");
        let (weights, ..) = run(&config, &folder(&format!("parts-{parts}")), usize::MAX);
        weights.into_iter().map(f32::from_bits).collect::<Vec<_>>()
    };
    let whole = of(1);
    for parts in [2, 3, 8] {
        for (a, b) in of(parts).iter().zip(&whole) {
            assert!(
                (a - b).abs() < 2e-3 * (1.0 + b.abs()),
                "{parts} parts: {a}, not {b}"
            );
        }
    }
}

#[test]
fn generation_is_the_forward_pass() {
    for scheme in schemes() {
        for language in [llama(2, true), neox()] {
            let mut whole = language::model(&language, LENGTH, scheme).expect("trains");
            let (tokens, _) = tokens(3);
            let outputs = whole.run(Inputs::Tokens(&tokens), Mode::Evaluate).to_vec();
            let mut generator = Generator::new(&language, scheme, 10).expect("generates");
            generator.begin(3);
            let mut rows = vec![0, 1, 2];
            for t in 0..LENGTH {
                if t == 3 {
                    generator.remove(0);
                    rows = vec![2, 1];
                }
                let next: Vec<u32> = rows.iter().map(|r| tokens[r * LENGTH + t]).collect();
                let logits = generator.step(&next);
                for (logits, r) in logits.chunks_exact(VOCABULARY).zip(&rows) {
                    let want = &outputs[(r * LENGTH + t) * VOCABULARY..][..VOCABULARY];
                    for (a, b) in logits.iter().zip(want) {
                        assert!(
                            (a - b).abs() < 1e-4 * (1.0 + b.abs()),
                            "{scheme}, {t}: {a}, not {b}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn corpora_follow_the_seed_and_go_on_where_they_were_stopped() {
    let language = llama(2, false);
    let sampling = Sampling {
        seed: 3,
        temperature: 1.0,
        begin: 0,
        end: None,
        length: 20,
        batch: 5,
    };
    let at = folder("corpus");
    let draw = |name: &str, sampling: &Sampling, tokens| {
        let path = at.join(name);
        corpus(
            &language,
            AttentionScheme::Softmax,
            sampling,
            tokens,
            &path,
            &mut |_| {},
        )
        .map(|p| (p, std::fs::read(path).expect("a file")))
    };
    let (progress, whole) = draw("whole", &sampling, 400).expect("draws");
    assert_eq!(whole.len() as u64, 2 * progress.tokens);
    draw("parts", &sampling, 100).expect("draws");
    // half a round that a kill left behind
    let half = [std::fs::read(at.join("parts")).expect("a file"), vec![1; 9]].concat();
    std::fs::write(at.join("parts"), half).expect("writes");
    assert!(
        draw("parts", &sampling, 400).expect("draws").1 == whole,
        "stopped and gone on"
    );
    let wide = Sampling {
        batch: 8,
        ..sampling.clone()
    };
    let (_, other) = draw("wide", &wide, 400).expect("draws");
    let shorter = other.len().min(whole.len());
    assert_eq!(
        other[..shorter],
        whole[..shorter],
        "what runs beside a sequence has no part in it"
    );
    let seeded = Sampling {
        seed: 4,
        ..sampling.clone()
    };
    assert!(draw("seed", &seeded, 400).expect("draws").1 != whole);
    let e = draw("whole", &seeded, 800).expect_err("another seed");
    assert!(matches!(e, Error::Configuration { .. }), "{e}");
    // frequencies of the first drawn token are the model's
    let many = Sampling {
        batch: 4000,
        length: 2,
        ..sampling
    };
    let mut generator = Generator::new(&language, AttentionScheme::Softmax, 2).expect("generates");
    generator.begin(1);
    let logits = generator.step(&[0]);
    let sum: f32 = logits.iter().map(|l| l.exp()).sum();
    let drawn = many.round(&mut generator, 0).expect("draws");
    for (token, logit) in logits.iter().enumerate().skip(1) {
        let share = drawn
            .iter()
            .filter(|s| s.get(1) == Some(&(token as u32)))
            .count() as f32
            / 4000.0;
        let p = logit.exp() / sum;
        assert!(
            (share - p).abs() < 4.0 * (p / 4000.0).sqrt(),
            "token {token}: {share}, not {p}"
        );
    }
}

#[test]
fn refusals_name_the_remedy() {
    let parse = |from: &str, to: &str| LanguageConfig::parse(&CONFIG.replace(from, to));
    for (from, to, words) in [
        ("length = 8", "length = 0", "windows of 1 to 65,536"),
        ("parts = 2", "parts = 9", "no more than the batch has"),
        (
            "roots = { bits = 12.0",
            "roots = { bits = 0.0",
            "1 to 60 bits",
        ),
        (
            "spread\", weight = 0.01 }\nsub",
            "spread\", weight = -1.0 }\nsub",
            "at least 0",
        ),
        ("exponent = 4", "exponent = 3", "3"),
    ] {
        let e = parse(from, to).expect_err(to).to_string();
        assert!(e.contains(words), "{to}: {e}");
    }
    let config = parse("heads = 2, att", "heads = 3, att").expect("parses");
    let e = language::models(&config, &passages(&config))
        .expect_err("heads")
        .to_string();
    assert!(e.contains("divides the width 16"), "{e}");
    // softmax's divisions are no program's
    let (head, tail) = CONFIG.split_once(", attention").expect("an attention");
    let rest = tail.split_once("\nteacher").expect("a teacher").1;
    let softmax = format!("{head} }}\nteacher{rest}");
    let config = LanguageConfig::parse(&softmax).expect("parses");
    let data = passages(&config);
    let (_, model, teacher) = language::models(&config, &data).expect("models");
    let mut trainer =
        Trainer::new(&config, model, teacher, data, Some(&folder("softmax"))).expect("a run");
    let e = trainer
        .run(&mut |_| ControlFlow::Continue(()))
        .expect_err("no program")
        .to_string();
    assert!(
        e.contains("divisions = programs") && e.contains("Power-Softmax's are"),
        "{e}"
    );
    // a model of other windows, another vocabulary
    let config = LanguageConfig::parse(CONFIG).expect("parses");
    let data = passages(&config);
    let other =
        language::model(&llama(1, false), LENGTH, AttentionScheme::Softmax).expect("trains");
    let e = Trainer::new(&config, other, None, data, Some(&folder("shape")))
        .err()
        .expect("refused");
    assert!(matches!(e, Error::Shape { .. }), "{e}");
    let mut m =
        language::model(&llama(1, false), LENGTH, AttentionScheme::Softmax).expect("trains");
    let e = m
        .embed(Some(vec![0.0; 9]))
        .expect_err("no rows of 8")
        .to_string();
    assert!(e.contains("a row for each token"), "{e}");
}

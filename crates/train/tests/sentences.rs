//! Encoders in training: against finite differences, against the oracle, through all stages, and every refusal.

#[path = "../../zoo/tests/suite/oracle/encoder.rs"]
mod oracle;

use nn::attention::{AttentionScheme, Denominator, PowerSoftmax, Scaling};
use oracle::Oracle;
use std::ops::ControlFlow;
use std::path::PathBuf;
use task::tokenizer::{Tokenizer, WordPiece, published::letter};
use train::batch::IGNORED;
use train::loss::Loss;
use train::mode::Mode;
use train::pass::Inputs;
use train::sentences::{self, Corpus, Network, SentenceConfig};
use train::{Error, Model, Trainer};
use zoo::bert::{Config, Family, Head};
use zoo::encoder::{Encoder, Start};
use zoo::trained::TrainedEncoder;

const LENGTH: usize = 6;
const VOCABULARY: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ngood\nbad\nfilm\nnot\n,\n";

fn power(scaling: Scaling, denominator: Denominator) -> AttentionScheme {
    let p = PowerSoftmax::new(4, 1e-2).expect("an exponent");
    AttentionScheme::Power(p.over(denominator).scaled(scaling))
}

fn vocabulary() -> Tokenizer {
    WordPiece::from_text(VOCABULARY).expect("reads").into()
}

fn classes() -> Head {
    Head::Classification {
        labels: vec!["negative".into(), "positive".into()],
    }
}

fn encoder(head: Head) -> Encoder {
    let network = Network::Bert {
        layers: 2,
        width: 8,
        heads: 2,
        hidden: 12,
        activation: "gelu".into(),
        attention: AttentionScheme::Softmax,
    };
    let made = network.load(head, &vocabulary(), LENGTH, 3).expect("fits");
    // larger than new ones are, so that differences of norms' inverse roots are derivatives
    let larger = |p: &nn::Parameter, by: f32| {
        let values = p.values().iter().map(|v| by * v).collect::<Vec<f32>>();
        nn::Parameter::new("larger", p.shape().to_vec(), values).expect("finite")
    };
    let positions = nn::Parameter::new("positions", [LENGTH, 8], made.positions()).expect("finite");
    let words = larger(made.words(), 20.0);
    made.with_embeddings(&words, &larger(&positions, 20.0))
        .expect("fits")
}

/// Three sentences of 6, 4 and 3 tokens.
fn tokens() -> Vec<u32> {
    vec![2, 5, 7, 9, 6, 3, 2, 8, 5, 3, 0, 0, 2, 6, 3, 0, 0, 0]
}

fn labels(model: &Model) -> Vec<usize> {
    match model.positions() {
        1 => vec![1, 0, 0],
        _ => (0..18)
            .map(|i| {
                if [2, 4, 8, 13].contains(&i) {
                    5 + i % 4
                } else {
                    IGNORED
                }
            })
            .collect(),
    }
}

fn loss(model: &mut Model) -> f64 {
    let labels = labels(model);
    let outputs = model.run(Inputs::Tokens(&tokens()), Mode::Train).to_vec();
    let outcome = Loss::default().evaluate(&outputs, &labels, None);
    outcome.loss + model.backward(outcome.gradient)
}

#[test]
fn gradients_are_differences() {
    for head in [classes(), Head::MaskedLanguage] {
        for scheme in [
            AttentionScheme::Softmax,
            power(Scaling::Largest, Denominator::Sum),
            power(Scaling::None, Denominator::Mean),
        ] {
            let mut model =
                sentences::model(&encoder(head.clone()), LENGTH, scheme).expect("builds");
            model.clear_gradients();
            loss(&mut model);
            let all: Vec<Vec<f32>> = model
                .parameters
                .iter()
                .map(|p| p.gradient.clone())
                .collect();
            for (k, gradient) in all.iter().enumerate() {
                let norm = gradient
                    .iter()
                    .map(|g| f64::from(*g).powi(2))
                    .sum::<f64>()
                    .sqrt();
                let name = model.parameters[k].name.clone();
                let old = model.parameters[k].values.clone();
                let h = 4e-3;
                let mut at = |sign: f64| {
                    let values = model.parameters[k]
                        .values
                        .iter_mut()
                        .zip(&old)
                        .zip(gradient);
                    for ((v, o), g) in values {
                        *v = (f64::from(*o) + sign * h * f64::from(*g) / norm.max(1e-9)) as f32;
                    }
                    loss(&mut model)
                };
                let slope = (at(1.0) - at(-1.0)) / (2.0 * h);
                model.parameters[k].values = old;
                // a bias of keys moves no softmax
                let still = scheme == AttentionScheme::Softmax && name.ends_with("key.bias");
                assert!(still || norm > 1e-6, "{scheme}: nothing depends on {name}");
                assert!(
                    (slope - norm).abs() < 0.02 * norm + 3e-4,
                    "{scheme}, {name}: difference {slope}, gradient {norm}"
                );
            }
        }
    }
}

#[test]
fn a_model_in_training_is_the_encoder() {
    for head in [classes(), Head::MaskedLanguage] {
        for scheme in [
            AttentionScheme::Softmax,
            power(Scaling::Largest, Denominator::Mean),
            power(Scaling::None, Denominator::Sum),
        ] {
            let encoder = encoder(head.clone());
            let mut model = sentences::model(&encoder, LENGTH, scheme).expect("builds");
            let outputs = model
                .run(Inputs::Tokens(&tokens()), Mode::Evaluate)
                .to_vec();
            let all = tokens();
            let rows = outputs
                .chunks(outputs.len() / 3)
                .zip(all.chunks(LENGTH).map(<[u32]>::to_vec));
            for (row, sentence) in rows {
                let sentence: Vec<u32> = sentence.into_iter().filter(|&t| t > 0).collect();
                let logits = encoder
                    .logits(&sentence, &[], LENGTH, scheme)
                    .expect("fits");
                let (positions, outputs) = (model.positions(), row.len() / model.positions());
                for t in 0..sentence.len().min(positions) {
                    for c in 0..outputs {
                        let (own, other) = (
                            f64::from(row[t * outputs + c]),
                            logits.values()[c * positions + t],
                        );
                        assert!(
                            (own - other).abs() < 1e-4,
                            "{scheme}, {t}, {c}: {own} and {other}"
                        );
                    }
                }
            }
            let same = sentences::trained(&encoder, &model).expect("finite");
            let input = |e: &Encoder| e.logits(&[2, 5, 3], &[], LENGTH, scheme).expect("fits");
            for (a, b) in input(&same).values().iter().zip(input(&encoder).values()) {
                assert!((a - b).abs() < 1e-5);
            }
        }
    }
}

fn folder(name: &str) -> PathBuf {
    let path =
        std::env::temp_dir().join(format!("polyveil-sentences-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&path).expect("a scratch folder");
    path
}

fn files(name: &str) -> PathBuf {
    let path = folder(name);
    let mut lines = String::from("label\tsentence\n");
    for i in 0..60 {
        let (label, word) = if i % 2 == 0 { (1, "good") } else { (0, "bad") };
        lines += &match i % 6 {
            0 | 3 => format!("{label}\t{word} film\n"),
            1 | 2 => format!("{label}\tfilm , {word}\n"),
            _ => format!("{}\tnot {word}\n", 1 - label),
        };
    }
    std::fs::write(path.join("s.tsv"), lines).expect("writes");
    std::fs::write(path.join("vocab.txt"), VOCABULARY).expect("writes");
    path
}

fn config(folder: &std::path::Path, network: &str, data: &str, stages: &str) -> String {
    let at = folder.display();
    format!(
        "batch = 8\n[network]\n{network}\n[data]\nsentences = \"{at}/s.tsv\"\nvocabulary = \"{at}/vocab.txt\"\nlength = 6\nheld_out = 1\nheld_out_words = 3\nlabels = [\"negative\", \"positive\"]\n{data}\n{stages}"
    )
}

const BERT: &str = "kind = \"bert\"\nlayers = 1\nwidth = 8\nheads = 2\nhidden = 12\nattention = { power = { exponent = 2, epsilon = 0.1, denominator = \"mean\", scaling = \"largest\" } }";

fn run(text: &str, folder: &std::path::Path) -> (Vec<String>, SentenceConfig) {
    let config = SentenceConfig::parse(text).expect("a configuration");
    let corpus = Corpus::open(&config.data).expect("opens");
    let (encoder, model, teacher) = sentences::models(&config, &corpus).expect("builds");
    let mut trainer = Trainer::new(&config, model, teacher, corpus, Some(folder)).expect("starts");
    let _end = trainer
        .run(&mut |_| ControlFlow::Continue(()))
        .expect("trains");
    sentences::export(folder, &mut trainer, &encoder).expect("writes");
    let log = trainer.position().log.clone();
    (log, config)
}

#[test]
fn from_hidden_tokens_to_polynomials() {
    let at = files("all");
    let (masked, twin, polynomial) = (at.join("masked"), at.join("twin"), at.join("polynomial"));
    let adam = "rule = { kind = \"adam-w\", betas = [0.9, 0.99], decay = 0.01 }\nrate = { peak = 1e-2, warm_up = 0.1, last = 0.1 }\n";
    let stage = |name: &str, epochs: f64, more: &str| {
        format!("[[stage]]\nname = \"{name}\"\nepochs = {epochs}\n{adam}{more}\n")
    };
    let hide = "objective = { masked = { share = 0.3, words = 2 } }";
    run(
        &config(&at, BERT, hide, &stage("masked", 10.0, "")),
        &masked,
    );
    let file = |path: &std::path::Path, scaling: &str| {
        format!(
            "kind = \"file\"\npath = \"{}\"\nattention = {{ power = {{ exponent = 2, epsilon = 0.1, denominator = \"mean\", scaling = \"{scaling}\" }} }}",
            path.display()
        )
    };
    let (log, _) = run(
        &config(
            &at,
            &file(&masked, "largest"),
            "",
            &stage("classes", 40.0, ""),
        ),
        &twin,
    );
    let last = log.last().expect("a line");
    let accuracy: f64 = last
        .split(',')
        .nth(6)
        .and_then(|v| v.parse().ok())
        .expect("a number");
    assert!(accuracy > 0.9, "{last}");
    let stages = [
        stage(
            "activations",
            4.0,
            "substitution = { degree = [8, 9], margin = 0.3 }\nguard = 0.1",
        ),
        stage("roots", 2.0, "roots = { bits = 12.0, factor = 4.0 }"),
        stage(
            "divisions",
            2.0,
            "divisions = { bits = 12.0, factor = 4.0 }",
        ),
    ];
    run(
        &config(&at, &file(&twin, "none"), "", &stages.concat()),
        &polynomial,
    );

    let trained = TrainedEncoder::load(&polynomial).expect("reads");
    assert_eq!(trained.length, LENGTH);
    assert_eq!(trained.labels().expect("classes"), ["negative", "positive"]);
    let graph = trained.graph(Start::Normalized).expect("builds");
    // an activation, the pooler's, two norms and a division
    assert_eq!(
        (trained
            .run
            .approximations(&graph)
            .expect("fit")
            .expect("some")
            .by_node)
            .len(),
        5
    );
    let all: Vec<Vec<u32>> = ["good film", "film , good", "not good", "bad film"]
        .map(|s| trained.tokenizer.sequence(s).expect("words"))
        .to_vec();
    let made = trained
        .polynomials(&all, &nn::lower::Options::default(), 0)
        .expect("lowers");
    for (tokens, class) in all.iter().zip([1, 1, 0, 0]) {
        let x = made.format.input(tokens).expect("fits");
        let answer = made.graph.evaluate(&x).expect("fits");
        assert!(answer.outside.is_empty());
        assert_eq!(answer.output.argmax(), class, "{tokens:?}");
    }
    // an encoder that guesses tokens does not classify, and softmax has no polynomial
    let masked = TrainedEncoder::load(&masked).expect("reads");
    let e = masked.polynomials(&all, &nn::lower::Options::default(), 0);
    assert!(
        e.expect_err("no classes")
            .to_string()
            .contains("does not classify")
    );
    let mut softmax = TrainedEncoder::load(&twin).expect("reads");
    softmax.attention = AttentionScheme::Softmax;
    let e = softmax.polynomials(&all, &nn::lower::Options::default(), 0);
    assert!(
        e.expect_err("softmax")
            .to_string()
            .contains("Power-Softmax")
    );
    // another vocabulary
    std::fs::write(polynomial.join("vocab.txt"), format!("{VOCABULARY}more\n")).expect("writes");
    let e = TrainedEncoder::load(&polynomial).expect_err("11 tokens");
    assert!(
        matches!(
            e,
            task::Error::Nn(nn::Error::Count {
                needed: 10,
                had: 11,
                ..
            })
        ),
        "{e}"
    );
    std::fs::remove_dir_all(&at).expect("was written");
}

/// A `tokenizer.json` of RoBERTa's kind: bytes, and what is around sentences.
fn bytes() -> String {
    let special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"];
    let names = special.map(String::from).into_iter();
    let names = names.chain((0..=255).map(|b| letter(b).to_string()));
    let vocabulary: serde_json::Map<String, serde_json::Value> =
        names.zip(0..).map(|(n, i)| (n, i.into())).collect();
    serde_json::json!({
        "added_tokens": special.iter().zip(0..).map(|(n, i)| serde_json::json!({"id": i, "content": n, "special": true, "normalized": false})).collect::<Vec<_>>(),
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
        "post_processor": {"type": "RobertaProcessing", "cls": ["<s>", 0], "sep": ["</s>", 2], "add_prefix_space": false},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    })
    .to_string()
}

#[test]
fn a_roberta_is_trained_with_its_own_tokenizer() {
    let at = files("roberta");
    std::fs::write(at.join("tokenizer.json"), bytes()).expect("writes");
    let length = 16;
    let config_of = |head| Config {
        family: Family::Roberta,
        sizes: zoo::blocks::Sizes {
            layers: 1,
            width: 8,
            hidden: 12,
            heads: 2,
            kv_heads: 2,
            head: 4,
            // rounded up, as published ones are
            vocabulary: 264,
            max_length: length,
        },
        types: 1,
        epsilon: 1e-5,
        padding: 1,
        activation: approx::Activation::Gelu,
        head,
    };
    let fresh =
        |name: &str, shape: &[usize]| zoo::random::uniform(5, name, shape.iter().product(), 0.3);
    let model = at.join("model");
    let encoder = Encoder::new(config_of(classes()), fresh).expect("fits");
    encoder.save(&model).expect("writes");
    let network = format!("kind = \"file\"\npath = {model:?}");
    let with = |objective: &str| {
        config(
            &at,
            &network,
            objective,
            "[[stage]]\nepochs = 1.0\nrate = { peak = 1e-2 }\n",
        )
        .replace("vocab.txt", "tokenizer.json")
        .replace("length = 6", "length = 16")
    };
    for (name, objective) in [
        (
            "masked",
            "objective = { masked = { share = 0.3, words = 2 } }",
        ),
        ("classes", ""),
    ] {
        let out = at.join(name);
        let (log, _) = run(&with(objective), &out);
        assert_eq!(log.len(), 1, "{log:?}");
        let trained = TrainedEncoder::load(&out).expect("reads");
        assert_eq!((trained.length, trained.tokenizer.len()), (length, 261));
        assert_eq!(trained.tokenizer.frame(), [vec![0], vec![2]]);
        assert_ne!(trained.encoder.words(), encoder.words());
    }
    // no token of a published vocabulary stands for padding
    std::fs::write(
        at.join("tokenizer.json"),
        bytes().replace("<pad>", "<none>"),
    )
    .expect("writes");
    let parsed = SentenceConfig::parse(&with("")).expect("a configuration");
    let e = Corpus::open(&parsed.data)
        .expect_err("no padding")
        .to_string();
    assert!(e.contains("vocabulary") && e.contains("<pad>"), "{e}");
    std::fs::remove_dir_all(&at).expect("was written");
}

#[test]
fn what_is_refused() {
    let at = files("refused");
    let parse = |network: &str, data: &str| {
        let text = config(&at, network, data, "[[stage]]\n");
        SentenceConfig::parse(&text)
    };
    for (data, why) in [
        (
            "objective = { masked = { share = 1.0, words = 1 } }",
            "objective.share",
        ),
        ("unknown = 1", "unknown"),
    ] {
        let e = parse(BERT, data).expect_err(why).to_string();
        assert!(e.contains(why), "{e}");
    }
    let with = |from: &str, to: &str| {
        let text = config(&at, BERT, "", "[[stage]]\n").replace(from, to);
        let config = SentenceConfig::parse(&text)?;
        let corpus = Corpus::open(&config.data)?;
        sentences::models(&config, &corpus).map(drop)
    };
    for (from, to, why) in [
        ("length = 6", "length = 2", "sentences of 3"),
        ("length = 6", "length = 4", "truncate = true"),
        (
            "\"negative\", \"positive\"",
            "\"one\"",
            "at least two classes",
        ),
        ("held_out = 1", "held_out = 1000", "can't be held out"),
        (
            "held_out_words = 3",
            "held_out_words = 9",
            "can't be held out",
        ),
        ("heads = 2", "heads = 3", "don't divide"),
        (
            "hidden = 12",
            "hidden = 12\nactivation = \"maxout\"",
            "known are relu, silu, gelu",
        ),
        ("[data]", "[batch_norms]\n[data]", "batch_norms"),
        ("s.tsv", "nowhere.tsv", "nowhere.tsv"),
        ("vocab.txt", "nowhere.txt", "nowhere.txt"),
    ] {
        let e = with(from, to).expect_err(why).to_string();
        assert!(e.contains(why), "{to}: {e}");
    }
    // a label that is none of the classes, with its line
    let lines = std::fs::read_to_string(at.join("s.tsv")).expect("there");
    std::fs::write(at.join("s.tsv"), lines.replacen("1\t", "2\t", 1)).expect("writes");
    let e = with("", "").expect_err("a third class").to_string();
    assert!(e.contains("line 2 has the label \"2\""), "{e}");
    std::fs::write(at.join("s.tsv"), lines).expect("writes");
    // a vocabulary that is not the encoder's
    let path = at.join("other");
    encoder(classes()).save(&path).expect("writes");
    std::fs::write(at.join("vocab.txt"), format!("{VOCABULARY}more\n")).expect("writes");
    let other = format!("kind = \"file\"\npath = \"{}\"", path.display());
    let config = parse(&other, "").expect("a configuration");
    let e = sentences::models(&config, &Corpus::open(&config.data).expect("opens"));
    let e = e.map(drop).expect_err("11 tokens");
    assert!(
        matches!(
            e,
            Error::Network(nn::Error::Count {
                needed: 10,
                had: 11,
                ..
            })
        ),
        "{e}"
    );
    std::fs::remove_dir_all(&at).expect("was written");
}

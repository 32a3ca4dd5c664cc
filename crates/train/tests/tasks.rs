//! Likelihoods of text: against the oracle, whatever the batch, with a run's pieces, and every refusal.

#[path = "../../zoo/tests/suite/oracle/language.rs"]
mod oracle;

use nn::approximations::{Approximations, Substitute};
use nn::attention::{AttentionScheme, Denominator, PowerSoftmax, Scaling};
use oracle::Oracle;
use train::Error;
use train::language::Network;
use train::tasks::{Judge, Likelihood, Request, Stage, windows};
use zoo::language::LanguageModel;

fn llama(tied: bool) -> LanguageModel {
    Network::Llama {
        layers: 2,
        width: 8,
        heads: 4,
        kv_heads: Some(2),
        hidden: Some(12),
        tied,
        attention: AttentionScheme::Softmax,
    }
    .load(7, 40, 3)
    .and_then(|m| {
        // larger than new ones are, so that something is likely
        let values: Vec<f32> = m.embedding().values().iter().map(|v| 50.0 * v).collect();
        let larger = nn::Parameter::new("embedding", m.embedding().shape().to_vec(), values)?;
        Ok(m.with_embedding(&larger)?)
    })
    .expect("a model")
}

fn power() -> AttentionScheme {
    let p = PowerSoftmax::new(4, 1e-2).expect("an exponent");
    AttentionScheme::Power(p.over(Denominator::Mean).scaled(Scaling::Largest))
}

/// Sequences of different lengths, different parts of which are asked for.
fn requests() -> Vec<Request> {
    let of = |length: usize, first: usize| Request {
        tokens: (0..length)
            .map(|i| ((i * i + 3 * length) % 7) as u32)
            .collect(),
        first,
    };
    vec![
        of(20, 1),
        of(5, 4),
        of(16, 10),
        of(17, 3),
        of(2, 1),
        of(40, 30),
    ]
}

/// By the logits of the f64 oracle.
fn expected(r: &Request, logits: impl Fn(&[u32]) -> Vec<f64>) -> Likelihood {
    let tokens = &r.tokens;
    let (logits, n) = (logits(tokens), tokens.len());
    let (mut sum, mut greedy) = (0.0, true);
    for i in r.first..n {
        let row: Vec<f64> = (0..7).map(|c| logits[c * n + i - 1]).collect();
        let own = row[tokens[i] as usize];
        sum += own - row.iter().map(|l| l.exp()).sum::<f64>().ln();
        greedy &= row.iter().all(|l| *l <= own);
    }
    Likelihood {
        sum,
        tokens: n - r.first,
        greedy,
    }
}

fn agree(had: &[Likelihood], needed: &[Likelihood]) {
    assert_eq!(had.len(), needed.len());
    for (a, b) in had.iter().zip(needed) {
        assert!((a.sum - b.sum).abs() < 1e-3, "{a:?} {b:?}");
        assert_eq!((a.tokens, a.greedy), (b.tokens, b.greedy), "{a:?} {b:?}");
    }
}

#[test]
fn likelihoods_are_the_oracle_s() {
    for tied in [true, false] {
        let language = llama(tied);
        for scheme in [AttentionScheme::Softmax, power()] {
            let needed: Vec<Likelihood> = requests()
                .iter()
                .map(|r| {
                    expected(r, |t| {
                        language.logits(t, scheme).expect("fits").values().to_vec()
                    })
                })
                .collect();
            let mut judge = Judge::new(&language, scheme, None);
            let mut told = Vec::new();
            let had = judge
                .likelihoods(&requests(), &mut |n| told.push(n))
                .expect("judged");
            agree(&had, &needed);
            assert_eq!(
                (told.last(), judge.outside, judge.tokens),
                (Some(&6), 0, 100)
            );
            // alone or beside others, the same bits
            for (r, l) in requests().iter().zip(&had) {
                let alone = Judge::new(&language, scheme, None)
                    .likelihoods(std::slice::from_ref(r), &mut |_| {})
                    .expect("judged");
                assert_eq!(alone, [*l]);
            }
        }
    }
    // something is found and something isn't, or nothing was tested
    let language = llama(true);
    let had = Judge::new(&language, AttentionScheme::Softmax, None)
        .likelihoods(&requests(), &mut |_| {})
        .expect("judged");
    assert!(
        had.iter().any(|l| l.sum / (l.tokens as f64) < -0.5),
        "{had:?}"
    );
}

/// A polynomial for each activation, and programs for each root and division, on intervals that hold everything.
fn pieces(language: &LanguageModel) -> String {
    use approx::{Function, Polynomial};
    let graph = language.graph(4, power()).expect("a graph");
    let mut by_node = std::collections::BTreeMap::new();
    for node in graph.nodes() {
        let program = |function, interval| {
            Substitute::Program(
                approx::iteration::choose(function, interval, 10.0, u32::MAX).expect("a program"),
            )
        };
        let piece = match node.op() {
            nn::Op::Elementwise(_) => Substitute::Polynomial(
                Polynomial::new(vec![0.4, 0.5, 0.3], (-40.0, 40.0)).expect("finite"),
            ),
            nn::Op::Norm(_) => program(Function::InverseSquareRoot, (1e-5, 1e3)),
            nn::Op::Attention(_) => program(Function::Reciprocal, (1e-2, 1e4)),
            _ => continue,
        };
        by_node.insert(node.id(), piece);
    }
    Approximations { first: 0, by_node }
        .to_json(&graph)
        .expect("JSON")
}

#[test]
fn pieces_count_up_to_a_stage() {
    let language = llama(true);
    let json = pieces(&language);
    let mut sums = Vec::new();
    for stage in Stage::ALL {
        let needed: Vec<Likelihood> = requests()
            .iter()
            .map(|r| {
                expected(r, |t| {
                    let graph = language.graph(t.len(), power()).expect("a graph");
                    let mut pieces = Approximations::from_json(&graph, &json).expect("fits");
                    pieces.by_node.retain(|id, _| {
                        let own = match graph.node(*id).op() {
                            nn::Op::Elementwise(_) => Stage::Activations,
                            nn::Op::Norm(_) => Stage::Roots,
                            _ => Stage::Divisions,
                        };
                        own <= stage
                    });
                    let x = language.embed(t).expect("known");
                    let e = graph.evaluate_with(&pieces, &x).expect("fits");
                    e.output.into_values()
                })
            })
            .collect();
        let mut judge = Judge::new(&language, power(), Some((&json, stage)));
        let had = judge.likelihoods(&requests(), &mut |_| {}).expect("judged");
        agree(&had, &needed);
        assert_eq!(judge.outside, 0);
        sums.push(had.iter().map(|l| l.sum).sum::<f64>());
        assert!(!stage.name().is_empty());
    }
    sums.dedup();
    assert_eq!(sums.len(), 4, "each stage changes something: {sums:?}");

    // an interval that does not hold what comes is counted, not hidden
    let narrow = json.replace("-40.0", "-0.5").replace("40.0", "0.5");
    let mut judge = Judge::new(&language, power(), Some((&narrow, Stage::Activations)));
    judge.likelihoods(&requests(), &mut |_| {}).expect("judged");
    assert!(judge.outside > 0);
    // softmax has no division that a program could stand for
    let mut judge = Judge::new(
        &language,
        AttentionScheme::Softmax,
        Some((&json, Stage::Divisions)),
    );
    let e = judge
        .likelihoods(&requests(), &mut |_| {})
        .expect_err("softmax");
    assert!(e.to_string().contains("self_attn"), "{e}");
}

#[test]
fn windows_find_every_token_once() {
    let tokens: Vec<u32> = (0..50).collect();
    for (length, stride) in [(10, 5), (10, 9), (7, 1), (50, 3)] {
        let mut found = vec![0; 50];
        for w in windows(&tokens, length, stride).expect("windows") {
            assert_eq!(w.tokens.len(), length);
            w.tokens[w.first..]
                .iter()
                .for_each(|&t| found[t as usize] += 1);
        }
        let last = found.iter().rposition(|&n| n > 0).expect("some");
        assert!(
            found[1..=last].iter().all(|&n| n == 1) && found[0] == 0,
            "{found:?}"
        );
        assert!(50 - last <= stride);
    }
    for (length, stride, word) in [(10, 0, "stride"), (10, 10, "stride"), (51, 5, "50 tokens")] {
        let e = windows(&tokens, length, stride).expect_err(word);
        assert!(e.to_string().contains(word), "{e}");
    }
}

#[test]
fn requests_that_no_model_can_judge() {
    let language = llama(true);
    let judge = |tokens: Vec<u32>, first| {
        Judge::new(&language, AttentionScheme::Softmax, None)
            .likelihoods(&[Request { tokens, first }], &mut |_| {})
            .expect_err("refused")
    };
    let e = judge(vec![1; 41], 3);
    assert!(
        matches!(e, Error::Task(task::Error::TooLong { had: 41, limit: 40 })),
        "{e}"
    );
    let e = judge(vec![1, 7], 1);
    assert!(
        matches!(
            e,
            Error::Task(task::Error::Token {
                token: 7,
                vocabulary: 7
            })
        ),
        "{e}"
    );
    for (tokens, first) in [(vec![1, 2], 0), (vec![1, 2], 2), (vec![1], 1)] {
        let e = judge(tokens, first);
        assert!(
            matches!(
                e,
                Error::Setting {
                    setting: "first",
                    ..
                }
            ),
            "{e}"
        );
    }
    let mut judge = Judge::new(&language, power(), Some(("{}", Stage::Divisions)));
    assert!(judge.likelihoods(&requests(), &mut |_| {}).is_err());
}

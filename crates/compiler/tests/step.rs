//! One token against encrypted keys and values: a step compiles to a plan whose runs, one after the other, give the logits of the sequence's network.

use ckks::ParametersSpec;
use nn::approximations::Approximations;
use nn::calibrate::FitOptions;
use nn::lower::{Options, adapt, adapt_step};
use nn::{AttentionScheme, PolyGraph, PowerSoftmax, Tensor};
use polyveil_compiler::{Layers, Target, compile};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use runtime::noise::Simulated;
use runtime::{Cache, Client, Error, Noise, Server, VerifiedPlan};
use std::sync::Arc;
use zoo::architecture::{Architecture, gpt_neox, llama};
use zoo::blocks::Sizes;
use zoo::language::LanguageModel;
use zoo::step::Step;

const CONTEXT: usize = 8;

const SIZES: Sizes = Sizes {
    layers: 1,
    width: 8,
    hidden: 12,
    heads: 4,
    kv_heads: 2,
    head: 2,
    vocabulary: 13,
    max_length: 16,
};

/// Two query heads to each of keys and values, all channels turning.
fn grouped() -> Architecture {
    Architecture::Llama(llama::Config {
        sizes: SIZES,
        epsilon: 1e-2,
        base: 100.0,
        tied: true,
    })
}

/// Half of a head's channels turning.
fn partly_turning() -> Architecture {
    Architecture::GptNeoX(gpt_neox::Config {
        sizes: Sizes {
            heads: 2,
            kv_heads: 2,
            head: 4,
            // more logits than slots
            vocabulary: 300,
            ..SIZES
        },
        epsilon: 1e-2,
        rotary_share: 0.5,
        base: 100.0,
        parallel: true,
        tied: false,
    })
}

/// A step with the intervals of its sequence's network, the inputs of some sequences, and the logits that the latter gives at every position.
struct Made {
    graph: PolyGraph,
    sequences: Vec<Vec<Vec<Tensor>>>,
    logits: Vec<Vec<Vec<f64>>>,
}

fn made(architecture: Architecture, exponent: u32) -> Made {
    let model = LanguageModel::random(architecture, 5).expect("fits");
    let power = PowerSoftmax::new(exponent, 0.1).expect("even");
    let scheme = AttentionScheme::Power(power);
    let token = |s: u32, t: u32| (7 * s + 5 * t * t + 3 * t * s) % 13;
    let tokens: Vec<Vec<u32>> = (0..6)
        .map(|s| (0..CONTEXT as u32).map(|t| token(s, t)).collect())
        .collect();
    let data: Vec<Tensor> = (tokens.iter())
        .map(|t| model.embed(t).expect("known"))
        .collect();
    let graph = model.graph(CONTEXT, scheme).expect("fits");
    let options = Options {
        bits: 10.0,
        activations: FitOptions {
            degree: 7,
            ..FitOptions::default()
        },
        ..Options::default()
    };
    let whole = adapt(&graph, &data, &options).expect("adapts");
    let step = model.step(CONTEXT, scheme).expect("fits");
    let json = whole.approximations.to_json(&graph).expect("writes");
    let approximations = Approximations::from_json(&step.graph, &json).expect("same names");
    let sequences: Vec<_> = tokens.iter().map(|t| inputs(&model, &step, t)).collect();
    let logits = data.iter().map(|x| {
        let all = graph
            .evaluate_with(&whole.approximations, x)
            .expect("fits")
            .output;
        let at = |t: usize| all.values().iter().skip(t).step_by(CONTEXT).copied();
        (0..CONTEXT).map(|t| at(t).collect()).collect()
    });
    Made {
        graph: adapt_step(&step.graph, &approximations, &sequences, None).expect("lowers"),
        logits: logits.collect(),
        sequences,
    }
}

fn inputs(model: &LanguageModel, step: &Step, tokens: &[u32]) -> Vec<Vec<Tensor>> {
    let one = |(position, token): (usize, &u32)| {
        let x = model.embed(&[*token]).expect("known");
        step.inputs(x.values(), position).expect("within")
    };
    tokens.iter().enumerate().map(one).collect()
}

/// As a client gives them: one after another.
fn together(inputs: &[Tensor]) -> Vec<f64> {
    inputs
        .iter()
        .flat_map(|x| x.values().iter().copied())
        .collect()
}

fn target() -> Target {
    Target {
        parameters: Some(ParametersSpec::toy(9)),
        ..Target::default()
    }
}

fn largest(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    let pairs = a.iter().flatten().zip(b.iter().flatten());
    pairs.map(|(x, y)| (x - y).abs()).fold(0.0, f64::max)
}

fn magnitude(logits: &[Vec<f64>]) -> f64 {
    let all = logits.iter().flatten();
    all.fold(0.0, |m, x| m.max(x.abs()))
}

/// What is stated of the error of any run of a sequence: as for prompts, of simulated runs, in which errors of what is kept go on.
fn stated(plan: &VerifiedPlan, made: &Made) -> Simulated {
    let noise = Noise::of(plan).expect("verified");
    let mut runs = Vec::new();
    for (seed, (sequence, logits)) in made.sequences.iter().zip(&made.logits).enumerate() {
        let tensors: Vec<Vec<f64>> = sequence.iter().map(|x| together(x)).collect();
        let noisy = plan.simulate_sequence(&tensors, Some((&noise, seed as u64)));
        for (own, exact) in noisy.expect("runs").iter().zip(logits) {
            runs.push(
                own.iter()
                    .zip(exact)
                    .map(|(a, b)| a - b)
                    .collect::<Vec<f64>>(),
            );
        }
    }
    Simulated::of(&runs, Some(&runs)).expect("numbers")
}

/// The plan, whose runs in the clear differ from the sequence's network by at most this share of the largest logit.
fn of_the_sequence(made: &Made, target: &Target, exact: f64) -> VerifiedPlan {
    let plan = compile(&made.graph, target).expect("compiles");
    let sequence = plan.plan().sequence.as_ref().expect("a step");
    assert_eq!((sequence.runs, sequence.more.len()), (CONTEXT, 2));
    assert_eq!(sequence.kept.len(), made.graph.kept().len());
    for (sequence, logits) in made.sequences.iter().zip(&made.logits) {
        let tensors: Vec<Vec<f64>> = sequence.iter().map(|x| together(x)).collect();
        let own = plan.simulate_sequence(&tensors, None).expect("runs");
        let error = largest(&own, logits);
        let most = magnitude(logits);
        println!("without noise {error:.1e} of {most:.1e}");
        assert!(error < exact * most, "{error} of {most}");
    }
    let bytes = plan.plan().write(Vec::new(), "plan").expect("writes");
    let read = VerifiedPlan::read(&bytes[..], "plan").expect("reads");
    assert_eq!((read.plan(), read.digest()), (plan.plan(), plan.digest()));
    plan
}

/// Runs of a sequence on ciphertexts, whose error is what was stated before; what is left after them.
fn encrypted(
    made: &Made,
    plan: VerifiedPlan,
    tokens: usize,
) -> (Arc<VerifiedPlan>, Server, Client, Cache) {
    let stated = stated(&plan, made);
    let most = magnitude(&made.logits[1]);
    println!("{stated:?} of {most:.1e}");
    assert!(stated.error < 0.25 * most, "{stated:?} of {most}");
    let error = stated.error;
    let plan = Arc::new(plan.stating(stated));
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    let file = plan.client_file(Vec::new().into()).expect("fits");
    let client = Client::new(file, &mut rng);
    let keys = client.evaluation_keys(&mut rng).expect("makes");
    let server = Server::new(plan.clone(), keys).expect("has all keys");
    let sequence = made.sequences[1].iter().zip(&made.logits[1]);
    let mut cache = Cache::empty(&plan, server.key()).expect("a step");
    for (t, (inputs, logits)) in sequence.enumerate().take(tokens) {
        assert_eq!(cache.runs(), t);
        let input = client.input(&together(inputs), &mut rng).expect("encrypts");
        assert_eq!(input.len() as u64, client.input_bytes());
        let input = plan
            .read_input(&input[..], "input", server.key())
            .expect("reads");
        // what is kept lies in a file between two tokens
        let bytes = cache.write(&plan, Vec::new(), "cache").expect("writes");
        let kept = Cache::read(&plan, server.key(), &bytes[..], "cache").expect("reads");
        let (answer, after) = server.step(&input, &kept, &mut ()).expect("runs");
        let own = client.decrypt(&answer).expect("can be right");
        let off = largest(&[own], std::slice::from_ref(logits));
        assert!(off <= error, "token {t}: {off}, {error} stated");
        cache = after;
    }
    (plan, server, client, cache)
}

#[test]
fn tokens_go_one_by_one_against_encrypted_keys_and_values() {
    let made = made(grouped(), 4);
    let plan = of_the_sequence(&made, &target(), 1e-3);
    let (plan, server, client, cache) = encrypted(&made, plan, CONTEXT);
    let bytes = cache.write(&plan, Vec::new(), "cache").expect("writes");
    assert_eq!(bytes.len() as u64, Cache::file_bytes(&plan));
    refusals(
        &plan,
        &server,
        &client,
        (&bytes, &together(&made.sequences[1][0])),
    );
}

/// The matrices of the token in coefficients, what is kept in slots.
#[test]
fn a_step_s_matrices_lie_in_coefficients() {
    let made = made(partly_turning(), 2);
    let set = ParametersSpec::toy_coefficients(9, 9).expect("consistent");
    let target = Target {
        parameters: Some(set),
        layers: Layers::Coefficients,
        ..Target::default()
    };
    let plan = of_the_sequence(&made, &target, 1e-2);
    let weighs = |s: &&runtime::Step| matches!(s.operation, runtime::Operation::Weigh { .. });
    let count = plan.plan().steps.iter().filter(weighs).count();
    assert!(count >= 6, "{count} matrices in coefficients");
    encrypted(&made, plan, 3);
}

/// A cache that is full, of another client, of another plan, damaged; and a run without one.
fn refusals(
    plan: &Arc<VerifiedPlan>,
    server: &Server,
    client: &Client,
    (bytes, tensor): (&[u8], &[f64]),
) {
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let input = client.encrypt(tensor, &mut rng).expect("encrypts");
    let full = Cache::read(plan, server.key(), bytes, "cache").expect("reads");
    let e = server
        .step(&input, &full, &mut ())
        .expect_err("no place is left");
    assert!(e.to_string().contains("8 at most"), "{e}");
    let e = server.start(&input).expect_err("without a cache");
    assert!(e.to_string().contains("last run left"), "{e}");
    let other = Client::new(client.file().clone(), &mut rng);
    let e = Cache::read(plan, other.key(), bytes, "cache").expect_err("another client's");
    assert!(matches!(e, Error::OtherKey { .. }), "{e}");
    let own = Cache::empty(plan, other.key()).expect("a step");
    let e = server
        .step(&input, &own, &mut ())
        .expect_err("another client's");
    assert!(matches!(e, Error::OtherKey { .. }), "{e}");
    let changed = plan.as_ref().clone().because("another plan".into());
    let e = Cache::read(&changed, server.key(), bytes, "cache").expect_err("another plan's");
    assert!(matches!(e, Error::File { .. }), "{e}");
    let mut damaged = bytes.to_vec();
    damaged[bytes.len() / 2] ^= 1;
    assert!(Cache::read(plan, server.key(), &damaged[..], "cache").is_err());
    assert!(Cache::read(plan, server.key(), &bytes[..bytes.len() - 1], "cache").is_err());
    let e = client.encrypt(&tensor[1..], &mut rng).expect_err("too few");
    assert!(e.to_string().contains("embedding, angles and place"), "{e}");
}

#[test]
fn a_step_with_partly_turning_heads_is_its_sequence_and_what_it_cannot_have_is_refused() {
    let made = made(partly_turning(), 2);
    let plan = of_the_sequence(&made, &target(), 1e-3);
    let batch = Target {
        batch: 2,
        ..target()
    };
    let e = compile(&made.graph, &batch).expect_err("a batch");
    assert!(e.to_string().contains("one sequence"), "{e}");
    let coefficients = Target {
        layers: Layers::Coefficients,
        ..target()
    };
    let e = compile(&made.graph, &coefficients).expect_err("in coefficients");
    assert!(e.to_string().contains("levels of products"), "{e}");
    let tensors: Vec<Vec<f64>> = vec![together(&made.sequences[0][0]); CONTEXT + 1];
    assert!(
        plan.simulate_sequence(&tensors, None).is_err(),
        "one run too many"
    );
    // what is left otherwise than it is taken
    let mut plan = plan.plan().clone();
    if let Some(sequence) = &mut plan.sequence {
        sequence.kept[0].unit *= 1.5;
    }
    let e = VerifiedPlan::new(plan).expect_err("another unit");
    assert!(e.to_string().contains("not left as it comes in"), "{e}");
}

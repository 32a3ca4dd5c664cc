//! One token at a time is the whole sequence: logits of a step's graph against those of the sequence's at the same position.

use crate::assert_close;
use crate::lower::{model, precise, tiny_llama, tiny_neox};
use crate::oracle::language::Oracle;
use nn::approximations::Approximations;
use nn::attention::{Denominator, Undivided};
use nn::format::artefact;
use nn::lower::{adapt, adapt_step, expand};
use nn::{AttentionScheme, Error, Graph, Op, PowerSoftmax, Shape, Tensor};
use zoo::language::LanguageModel;
use zoo::step::Step;

const CONTEXT: usize = 7;

fn power() -> AttentionScheme {
    AttentionScheme::Power(PowerSoftmax::new(4, 1e-2).expect("even"))
}

fn both() -> [LanguageModel; 2] {
    [tiny_llama(), tiny_neox()].map(model)
}

fn tokens(seed: u32, length: usize) -> Vec<u32> {
    (0..length as u32)
        .map(|t| (5 * t * t + 3 * t + seed) % 13)
        .collect()
}

/// The inputs of every step of a sequence.
fn steps(model: &LanguageModel, step: &Step, tokens: &[u32]) -> Vec<Vec<Tensor>> {
    let inputs = |(position, token): (usize, &u32)| {
        let x = model.embed(&[*token]).expect("known");
        step.inputs(x.values(), position).expect("within")
    };
    tokens.iter().enumerate().map(inputs).collect()
}

/// Logits of all positions, token by token.
fn token_by_token(
    graph: &Graph,
    approximations: &Approximations,
    steps: &[Vec<Tensor>],
) -> Vec<Vec<f64>> {
    let (mut kept, mut logits) = (graph.nothing_kept(), Vec::new());
    for inputs in steps {
        let trace = graph
            .evaluate_step(approximations, inputs, &kept)
            .expect("fits");
        kept = graph.left(&trace);
        logits.push(trace.values[graph.output().id().index()].values().to_vec());
    }
    logits
}

fn column(all: &Tensor, t: usize) -> Vec<f64> {
    all.values()
        .iter()
        .skip(t)
        .step_by(all.shape().columns())
        .copied()
        .collect()
}

#[test]
fn a_step_computes_the_sequence_s_logits() {
    for model in both() {
        let step = model.step(CONTEXT, power()).expect("fits");
        // shorter than the context, too
        for (seed, length) in [(1, CONTEXT), (4, CONTEXT), (2, 3)] {
            let tokens = tokens(seed, length);
            let whole = model.logits(&tokens, power()).expect("fits");
            let none = Approximations::default();
            let own = token_by_token(&step.graph, &none, &steps(&model, &step, &tokens));
            for (t, own) in own.iter().enumerate() {
                assert_close(own, &column(&whole, t), 1e-12);
            }
        }
    }
}

#[test]
fn a_step_takes_the_sequence_s_intervals_and_lowers_to_the_same() {
    for model in both() {
        let sequences: Vec<Vec<u32>> = (0..6).map(|seed| tokens(seed, CONTEXT)).collect();
        let graph = model.graph(CONTEXT, power()).expect("fits");
        let data = sequences.iter().map(|t| model.embed(t).expect("known"));
        let data: Vec<Tensor> = data.collect();
        let whole = adapt(&graph, &data, &precise()).expect("adapts");
        let step = model.step(CONTEXT, power()).expect("fits");
        let json = whole.approximations.to_json(&graph).expect("writes");
        let approximations = Approximations::from_json(&step.graph, &json).expect("same names");
        assert_eq!(
            approximations.by_node.len(),
            whole.approximations.by_node.len()
        );
        let all: Vec<Vec<Vec<Tensor>>> =
            sequences.iter().map(|t| steps(&model, &step, t)).collect();
        let lowered = adapt_step(&step.graph, &approximations, &all, None).expect("lowers");
        assert_eq!(
            lowered.kept().len(),
            2 * model.architecture().sizes().layers
        );
        assert_eq!(lowered.inputs().count(), 3);
        // as a file
        let bytes = artefact::to_bytes(&lowered).expect("writes");
        assert_eq!(artefact::from_bytes(&bytes).expect("reads"), lowered);
        for (x, steps) in data.iter().zip(&all) {
            let whole = graph
                .evaluate_with(&whole.approximations, x)
                .expect("fits")
                .output;
            let own = token_by_token(&step.graph, &approximations, steps);
            let (mut kept, none) = (lowered.nothing_kept(), Approximations::default());
            for (t, inputs) in steps.iter().enumerate() {
                assert_close(&own[t], &column(&whole, t), 1e-9);
                let trace = lowered.evaluate_step(&none, inputs, &kept).expect("fits");
                kept = lowered.left(&trace);
                let logits = &trace.values[lowered.output().id().index()];
                assert_close(logits.values(), &own[t], 1e-9);
            }
        }
    }
}

#[test]
fn what_a_step_cannot_be_is_refused() {
    let [llama, _] = both();
    let step = llama.step(CONTEXT, power()).expect("fits");
    let x = llama.embed(&[3]).expect("known");
    let e = step.inputs(x.values(), CONTEXT).expect_err("beyond");
    assert!(e.to_string().contains("begin anew"), "{e}");
    let mean = PowerSoftmax::new(4, 1e-2)
        .expect("even")
        .over(Denominator::Mean);
    let undivided = AttentionScheme::Undivided(Undivided::new(4).expect("even"));
    for scheme in [
        AttentionScheme::Softmax,
        AttentionScheme::Power(mean),
        undivided,
    ] {
        let e = llama.step(CONTEXT, scheme).expect_err("zeros weigh");
        assert!(e.to_string().contains("not there yet"), "{e}");
    }
    assert!(llama.step(1, power()).is_err());
    assert!(
        llama.step(17, power()).is_err(),
        "longer than the model knows"
    );
    // a network of one input is asked for
    let e = step.graph.evaluate(&x).expect_err("several inputs");
    assert!(matches!(e, Error::Inputs(7)), "{e}");
    let inputs = step.inputs(x.values(), 0).expect("within");
    let none = Approximations::default();
    let kept = step.graph.nothing_kept();
    let e = step
        .graph
        .evaluate_step(&none, &inputs, &kept[1..])
        .expect_err("one is missing");
    assert!(matches!(e, Error::Count { .. }), "{e}");
    assert!(
        expand(&step.graph, &none, Some(x.values())).is_err(),
        "no public first token"
    );
}

#[test]
fn only_sums_are_kept() {
    let mut b = Graph::builder();
    let x = b.input("x", Shape::image(2, 1, 1)).expect("fits");
    let before = b.input("before", Shape::image(2, 1, 1)).expect("fits");
    let product = b.add("product", Op::Mul, &[before, x]).expect("fits");
    let kept = [nn::Kept {
        before,
        after: product,
    }];
    let e = b
        .clone()
        .finish_step(product, &kept)
        .expect_err("a product");
    assert!(e.to_string().contains("its sum"), "{e}");
    let sum = b.add("sum", Op::Add, &[before, x]).expect("fits");
    let kept = [nn::Kept { before, after: sum }];
    // the product reads it, too
    assert!(b.clone().finish_step(product, &kept).is_err());
    assert!(
        b.finish_step(sum, &[])
            .expect("two inputs")
            .require_one_input()
            .is_err()
    );
}

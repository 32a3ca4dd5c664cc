//! Language models as `nn::lower` writes them: their plans compute what they compute.

mod support;

use ckks::ParametersSpec;
use nn::attention::Denominator;
use nn::calibrate::FitOptions;
use nn::lower::{Numerator, Options, adapt, after_first};
use nn::{AttentionScheme, PowerSoftmax, Tensor};
use polyveil_compiler::{Target, compile, summarise};
use runtime::Purpose;
use support::{Random, agree};
use zoo::architecture::Architecture;
use zoo::architecture::{gpt_neox, llama};
use zoo::bert;
use zoo::encoder::{Encoder, Start};
use zoo::language::LanguageModel;

const LENGTH: usize = 5;

fn model(architecture: Architecture) -> LanguageModel {
    let mut random = Random(5);
    LanguageModel::new(architecture, |name, shape| {
        let gain = if shape.len() == 1 && name.ends_with("weight") {
            1.0
        } else {
            0.0
        };
        let p = random.parameter(shape, 0.5);
        p.values().iter().map(|v| gain + v).collect()
    })
    .expect("fits")
}

#[test]
fn small_language_models() {
    let llama = Architecture::Llama(llama::Config {
        sizes: zoo::blocks::Sizes {
            width: 8,
            hidden: 12,
            layers: 1,
            heads: 4,
            kv_heads: 2,
            head: 2,
            vocabulary: 13,
            max_length: 16,
        },
        epsilon: 1e-2,
        base: 100.0,
        tied: true,
    });
    let neox = Architecture::GptNeoX(gpt_neox::Config {
        sizes: zoo::blocks::Sizes {
            width: 8,
            hidden: 10,
            layers: 1,
            heads: 2,
            kv_heads: 2,
            head: 4,
            vocabulary: 13,
            max_length: 16,
        },
        epsilon: 1e-2,
        rotary_share: 0.5,
        base: 100.0,
        parallel: true,
        tied: false,
    });
    for (architecture, numerator, over) in [
        (llama, Numerator::Carried, Denominator::Sum),
        (neox, Numerator::Apart, Denominator::Mean),
    ] {
        let model = model(architecture);
        let power = PowerSoftmax::new(4, 1e-1).expect("even").over(over);
        let graph = model
            .graph(LENGTH, AttentionScheme::Power(power))
            .expect("builds");
        let data: Vec<Tensor> = [[1, 2, 3, 4, 5], [1, 7, 7, 12, 0], [1, 9, 10, 11, 6]]
            .iter()
            .map(|tokens| model.embed(tokens).expect("known"))
            .collect();
        let begin = data[0].values().iter().step_by(LENGTH).copied().collect();
        for begin in [Some(begin), None] {
            let first = usize::from(begin.is_some());
            let options = Options {
                bits: 10.0,
                numerator,
                activations: FitOptions {
                    degree: 7,
                    ..FitOptions::default()
                },
                begin,
                ..Options::default()
            };
            let lowered = adapt(&graph, &data, &options).expect("lowers");
            let inputs: Vec<Tensor> = data
                .iter()
                .map(|x| after_first(x, first).expect("longer"))
                .collect();
            let target = Target {
                parameters: Some(ParametersSpec::toy(10)),
                ..Target::default()
            };
            let plan = agree(&lowered.graph, &target, &inputs, 1e-4);
            let summary = summarise(&plan);
            println!(
                "{numerator:?} {over:?} first {first}: {} maps, {} diagonals, {} bootstraps, {} steps",
                summary.maps,
                summary.diagonals,
                summary.bootstraps,
                plan.steps.len()
            );
            runtime::VerifiedPlan::new(plan).expect("a sound plan");
        }
    }
}

/// BERT's norms are named `LayerNorm` and lie in the blocks of attention: their steps count as norms all the same.
#[test]
fn an_encoders_norms_are_norms() {
    let config = bert::Config {
        family: bert::Family::Bert,
        sizes: zoo::blocks::Sizes {
            width: 8,
            hidden: 12,
            layers: 1,
            heads: 2,
            kv_heads: 2,
            head: 4,
            vocabulary: 13,
            max_length: 5,
        },
        types: 2,
        epsilon: 1e-1,
        padding: 0,
        activation: approx::Activation::Gelu,
        head: bert::Head::Classification {
            labels: vec!["no".into(), "yes".into()],
        },
    };
    let mut random = Random(5);
    let model = Encoder::new(config, |name, shape| {
        let gain = f32::from(u8::from(name.ends_with("LayerNorm.weight")));
        let p = random.parameter(shape, 0.3);
        p.values().iter().map(|v| gain + v).collect()
    })
    .expect("fits");
    let power = AttentionScheme::Power(PowerSoftmax::new(4, 1e-1).expect("even"));
    let graph = model
        .graph(LENGTH, power, Start::Normalized)
        .expect("builds");
    let shape = graph.input().shape();
    let data: Vec<Tensor> = (0..3).map(|i| zoo::shape::sequence(shape, i)).collect();
    let options = Options {
        bits: 8.0,
        activations: FitOptions {
            degree: 7,
            ..FitOptions::default()
        },
        ..Options::default()
    };
    let lowered = adapt(&graph, &data, &options).expect("lowers");
    let target = Target {
        parameters: Some(ParametersSpec::toy(10)),
        ..Target::default()
    };
    let plan = compile(&lowered.graph, &target).expect("compiles");
    let plan = plan.plan();
    let mut of_norms = 0;
    for step in &plan.steps {
        let norm = step.layer.contains("LayerNorm");
        of_norms += usize::from(norm);
        assert_eq!(
            norm,
            step.purpose == Purpose::Norm,
            "{}: {:?}",
            step.layer,
            step.purpose
        );
    }
    assert!(of_norms > 10);
    for (layer, purpose) in [
        ("/division", Purpose::Attention),
        ("/weighed", Purpose::Products),
        ("intermediate.dense", Purpose::Weights),
    ] {
        let mut steps = plan.steps.iter().filter(|s| s.layer.contains(layer));
        assert!(steps.any(|s| s.purpose == purpose), "{layer}");
    }
}

//! Vision transformers against references made by `golden/vit.py`, how their files are read, and every refusal.

use crate::language::{golden, numbers, tiny};
use crate::{Stream, assert_close, broken_tensors_are_named, misshapen};
use approx::Activation;
use nn::attention::{AttentionScheme, PowerSoftmax};
use nn::format::state_dict::StateDict;
use nn::format::{Checkpoint, artefact};
use nn::lower::{Options, adapt};
use nn::{Error, Graph, Metadata, Op, Shape, Tensor};
use serde_json::{Value, json};
use task::{Outputs, Task};
use zoo::vit::{Config, Start, VisionTransformer};
use zoo::{Model, Options as Reading};

const TINY: [&str; 2] = ["tiny_vit.json", "tiny_clip.json"];

fn picture(number: u32, config: &Config) -> Tensor {
    let shape = Shape::image(
        config.picture.channels,
        config.picture.size,
        config.picture.size,
    );
    let value = |i: usize| {
        let number = f64::from(number);
        ((i as f64 + 1.0) * (0.37 + 0.011 * number) + number).sin()
    };
    Tensor::new(shape, (0..shape.len()).map(value).collect()).expect("fits")
}

fn check(model: &VisionTransformer, answers: &Value) {
    let graph = model.graph(AttentionScheme::Softmax, Start::Picture);
    let graph = graph.expect("builds");
    for (number, answer) in (0..).zip(answers.as_array().expect("some")) {
        let x = picture(number, model.config());
        let own = graph.evaluate(&x).expect("fits").output;
        assert_close(own.values(), &numbers(answer), 1e-6);
    }
}

#[test]
fn tiny_networks_are_hugging_faces() {
    for name in TINY {
        let golden = golden(name);
        let (config, tensors) = tiny(&golden);
        let model = VisionTransformer::from_checkpoint(&config, &StateDict::new(tensors));
        check(&model.expect("reads"), &golden["answers"]);
    }
}

#[test]
fn a_tiny_network_is_open_ais() {
    let golden = golden("tiny_open_clip.json");
    let (_, tensors) = tiny(&golden);
    let read =
        |tensors: StateDict| VisionTransformer::from_open_clip(&tensors, Activation::QuickGelu);
    let model = read(StateDict::new(tensors.clone())).expect("reads");
    assert_eq!(
        (model.config().sizes.heads, model.config().picture.size),
        (2, 12)
    );
    check(&model, &golden["answers"]);
    for broken in tensors.keys() {
        let mut without = tensors.clone();
        without.remove(broken);
        // how many layers there are is told by their first norms
        if !broken.ends_with("ln_1.weight") {
            let e = read(StateDict::new(without)).expect_err("broken");
            assert!(
                matches!(&e, Error::MissingTensor { tensor, .. } if tensor == broken),
                "{e}"
            );
        }
        assert!(read(misshapen(&tensors, broken)).is_err(), "{broken}");
    }
}

#[test]
fn a_registry_reads_them_with_their_task() {
    let of = |name: &str, preprocessor: Option<Value>, options: &Reading| {
        let (config, tensors) = tiny(&golden(name));
        let checkpoint = Checkpoint {
            config: (name != "tiny_open_clip.json").then_some(config),
            preprocessor: preprocessor.map(|v| v.to_string()),
            tensors: StateDict::new(tensors),
        };
        zoo::identify(&checkpoint, options)
    };
    let trained = |name, preprocessor, options: &Reading| -> (Graph, Metadata) {
        match of(name, preprocessor, options).expect("claimed") {
            Model::Trained(graph, metadata) => (graph, metadata),
            other => panic!("{other:?}"),
        }
    };
    let task = |metadata: &Metadata| match Task::of(metadata).expect("reads") {
        Some(Task::Pictures(p)) => Some(p),
        None => None,
        other => panic!("{other:?}"),
    };
    let plain = Reading::default();
    // nobody says how pixels become numbers
    let (graph, metadata) = trained("tiny_vit.json", None, &plain);
    assert_eq!(graph.input().shape(), Shape::image(3, 12, 12));
    assert_eq!(graph.output().shape(), Shape::Vector(3));
    assert!(task(&metadata).is_none());
    let half = json!({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.25, 0.5], "rescale_factor": 0.003_921_568_627_450_98});
    let (_, metadata) = trained("tiny_vit.json", Some(half.clone()), &plain);
    let pictures = task(&metadata).expect("a task");
    assert_eq!(pictures.normalization().deviation, [0.5, 0.25, 0.5]);
    let names = ["cat", "dog", "bird"].map(String::from).to_vec();
    assert_eq!(*pictures.outputs(), Outputs::Classes(names));
    let (_, metadata) = trained("tiny_clip.json", None, &plain);
    let pictures = task(&metadata).expect("a task");
    assert!((pictures.normalization().mean[0] - 0.481_454_66).abs() < 1e-9);
    assert_eq!(*pictures.outputs(), Outputs::Values(Vec::new()));
    let unstated = of("tiny_open_clip.json", None, &plain).expect_err("no activation");
    assert!(matches!(unstated, Error::Unstated { .. }), "{unstated}");
    let named = Reading::from(Some(Activation::QuickGelu));
    let (graph, _) = trained("tiny_open_clip.json", None, &named);
    assert_eq!(graph.output().shape(), Shape::Vector(6));
    for (field, value, why) in [
        ("image_mean", json!([0.5]), "image_mean must have 3 numbers"),
        ("rescale_factor", json!(1.0), "scaled by 1"),
        ("do_rescale", json!(false), "scaled by 1"),
    ] {
        let mut broken = half.clone();
        broken[field] = value;
        let e = of("tiny_vit.json", Some(broken), &plain).expect_err(why);
        assert!(e.to_string().contains(why), "{e}");
    }
}

#[test]
fn broken_checkpoints_name_their_tensor() {
    for name in TINY {
        let (config, tensors) = tiny(&golden(name));
        broken_tensors_are_named(&tensors, |tensors| {
            VisionTransformer::from_checkpoint(&config, &tensors).expect_err("broken")
        });
    }
}

#[test]
fn configurations_refuse_what_they_do_not_know() {
    let of = |name: &str, field: &str, value: Value| {
        let mut config = golden(name)["config"].clone();
        config[field] = value;
        Config::from_json(&config.to_string())
    };
    for name in TINY {
        for (field, value, why) in [
            ("model_type", json!("deit"), "model_type is deit"),
            (
                "architectures",
                json!(["ViTModel"]),
                "architectures is ViTModel",
            ),
            ("hidden_act", json!("glu"), "hidden_act is glu"),
            ("patch_size", json!(5), "patches of 5×5"),
            ("patch_size", json!(12), "patches of 12×12"),
            ("image_size", json!([12, 12]), "image_size is [12,12]"),
            ("image_size", json!(1 << 20), "too large"),
            ("num_channels", json!(1 << 24), "too large"),
            ("num_attention_heads", json!(5), "5 heads"),
            ("num_hidden_layers", json!(2000), "2000 layers"),
        ] {
            let e = of(name, field, value).expect_err(why);
            assert!(e.to_string().contains(why), "{name}: {e}");
        }
    }
    // what Hugging Face's writers leave out, and CLIP's two towers together
    let base =
        r#"{"model_type": "vit", "architectures": ["ViTForImageClassification"], "num_labels": 7}"#;
    let base = Config::from_json(base).expect("ViT-B/16");
    assert_eq!((base.sizes.max_length, base.sizes.vocabulary), (197, 7));
    let both = r#"{"model_type": "clip", "projection_dim": 640, "vision_config": {"hidden_size": 64, "num_attention_heads": 4}}"#;
    let both = Config::from_json(both).expect("CLIP's");
    assert_eq!((both.sizes.width, both.sizes.vocabulary), (64, 640));
    assert_eq!(both.activation, Activation::QuickGelu);
}

#[test]
fn a_lowered_network_is_its_graph_with_polynomials() {
    for name in TINY {
        let (config, _) = tiny(&golden(name));
        let config = Config::from_json(&config).expect("known");
        let mut s = Stream::new(71);
        let model = VisionTransformer::new(config, |name, shape| {
            let gain = f32::from(u8::from(name.contains("norm") && name.ends_with("weight")));
            let p = s.parameter(shape);
            let small = if shape.len() == 2 { 0.4 } else { 0.2 };
            p.values().iter().map(|v| gain + small * v).collect()
        });
        let model = model.expect("fits");
        let power = AttentionScheme::Power(PowerSoftmax::new(4, 0.1).expect("even"));
        let graph = model.graph(power, Start::Picture).expect("builds");
        let shape = graph.input().shape();
        let data: Vec<Tensor> = (0..20).map(|_| s.tensor(shape)).collect();
        let options = Options {
            bits: 16.0,
            ..Options::default()
        };
        let lowered = adapt(&graph, &data, &options).expect("lowers");
        for x in &data {
            let own = lowered.graph.evaluate(x).expect("fits").output;
            let exact = graph.evaluate(x).expect("fits").output;
            assert_close(own.values(), exact.values(), 1e-2);
        }
        let moves = |op: &Op<_>| matches!(op, Op::Rearrange(_));
        assert!(lowered.graph.nodes().iter().any(|n| moves(n.op())));
        let again = artefact::from_bytes(&artefact::to_bytes(&lowered.graph).expect("writes"));
        assert_eq!(again.expect("reads"), lowered.graph);
    }
}

//! A vision transformer from the command line: checkpoint and pictures, polynomials, plan, keys, picture, class; and what is refused on the way.

mod support;

use image::ImageFormat;
use nn::format::artefact;
use nn::format::state_dict::{StateDict, StateTensor};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use support::{Folder, done, refused};
use task::{Picture, Task};
use zoo::random::uniform;

const SIZE: u32 = 8;

/// The tensors of Hugging Face's `ViTForImageClassification`, width 8, one layer, patches of 4×4.
fn tensors() -> BTreeMap<String, StateTensor> {
    let mut all = BTreeMap::new();
    let mut keep = |name: &str, shape: &[usize], mean: f64| {
        let inputs: usize = shape[1.min(shape.len() - 1)..].iter().product();
        let bound = if shape.len() > 1 {
            1.5 / (inputs as f64).sqrt()
        } else {
            0.2
        };
        let values = uniform(3, name, shape.iter().product(), bound);
        let values = values.iter().map(|v| mean + f64::from(*v)).collect();
        let shape = shape.to_vec();
        all.insert(name.to_string(), StateTensor { shape, values });
    };
    keep("vit.embeddings.cls_token", &[1, 1, 8], 0.0);
    keep("vit.embeddings.position_embeddings", &[1, 5, 8], 0.0);
    let mut layer = |name: &str, shape: &[usize], mean: f64| {
        keep(&format!("{name}.weight"), shape, mean);
        keep(&format!("{name}.bias"), &shape[..1], 0.0);
    };
    layer(
        "vit.embeddings.patch_embeddings.projection",
        &[8, 3, 4, 4],
        0.0,
    );
    layer("vit.layernorm", &[8], 1.0);
    layer("classifier", &[2, 8], 0.0);
    for (name, shape, mean) in [
        ("layernorm_before", &[8][..], 1.0),
        ("layernorm_after", &[8], 1.0),
        ("attention.attention.query", &[8, 8], 0.0),
        ("attention.attention.key", &[8, 8], 0.0),
        ("attention.attention.value", &[8, 8], 0.0),
        ("attention.output.dense", &[8, 8], 0.0),
        ("intermediate.dense", &[12, 8], 0.0),
        ("output.dense", &[8, 12], 0.0),
    ] {
        layer(&format!("vit.encoder.layer.0.{name}"), shape, mean);
    }
    all
}

/// A picture of noise around a level.
fn png(seed: u64) -> Vec<u8> {
    let noise = uniform(seed, "pixels", (SIZE * SIZE * 3) as usize, 90.0);
    let level = 90.0 + 75.0 * (seed % 2) as f32;
    let pixels: Vec<u8> = noise.iter().map(|v| (v + level) as u8).collect();
    let picture = image::RgbImage::from_raw(SIZE, SIZE, pixels).expect("as many");
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, ImageFormat::Png)
        .expect("encodes");
    bytes.into_inner()
}

/// A checkpoint, and a folder of pictures.
fn checkpoint(folder: &Folder) -> (String, String) {
    let config = json!({
        "model_type": "vit", "architectures": ["ViTForImageClassification"], "hidden_size": 8, "intermediate_size": 12,
        "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": SIZE, "patch_size": 4, "layer_norm_eps": 1e-2,
        "id2label": {"0": "night", "1": "day"},
    });
    let path = folder.path("model");
    let saved = StateDict::new(tensors()).save_folder(Path::new(&path), &config.to_string());
    saved.expect("saves");
    std::fs::create_dir_all(folder.path("pictures")).expect("a folder");
    for seed in 0..16 {
        folder.file(&format!("pictures/{seed}.png"), &png(seed));
    }
    (path, folder.path("pictures"))
}

#[test]
fn a_picture_goes_through_all_commands_and_comes_back_with_the_twins_class() {
    let folder = Folder::new("vision-whole");
    let (model, pictures) = checkpoint(&folder);
    let pvm = folder.path("tiny.pvm");
    let plain =
        format!("calibrate {model} --data {pictures} --bits 10 --degree 7 --margin 0.5 -o {pvm}");
    refused(&plain, &[], &["by softmax", "--power 4"]);
    let calibrate = format!("{plain} --power 2 --epsilon 0.1");
    // nobody says how pixels become numbers
    refused(&calibrate, &[], &["normal"]);
    let half = json!({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]});
    folder.file(
        "model/preprocessor_config.json",
        half.to_string().as_bytes(),
    );
    let (_, notes) = done(&calibrate, &[]);
    for words in [
        "(v/255 − 0.5)/0.5",
        "attention by softmax becomes",
        "answers beside the network's own",
    ] {
        assert!(notes.contains(words), "{words} is not in {notes}");
    }
    let again = folder.path("again.pvm");
    refused(
        &format!("calibrate {pvm} --data {pictures} --power 2 -o {again}"),
        &[],
        &["no attention that weighs by softmax"],
    );

    let graph = artefact::load(Path::new(&pvm), 1 << 24).expect("reads");
    let Ok(Some(Task::Pictures(format))) = Task::of(graph.metadata()) else {
        panic!("a vision transformer takes pictures")
    };
    assert_eq!(format.outputs().names(), ["night", "day"]);
    for (name, layers, parameters) in [
        (
            "slots",
            compiler::Layers::Slots,
            ckks::ParametersSpec::toy(11),
        ),
        (
            "coefficients",
            compiler::Layers::Coefficients,
            ckks::ParametersSpec::toy_coefficients(9, 9).expect("a preset"),
        ),
    ] {
        let target = compiler::Target {
            parameters: Some(parameters),
            layers,
            ..compiler::Target::default()
        };
        let plan = compiler::compile(&graph, &target).expect("compiles");
        let client = plan.client_file(graph.metadata().task.clone().unwrap_or_default());
        let client = client.expect("its task").write(Vec::new(), "x");
        let at = |file: &str| folder.path(&format!("{name}.{file}"));
        folder.file(&format!("{name}.client"), &client.expect("writes"));
        let bytes = plan.plan().write(Vec::new(), "x").expect("writes");
        let plan = folder.file(&format!("{name}.plan"), &bytes);
        let (keys, input, answer) = (at("keys"), at("input"), at("answer"));
        done(
            &format!("keygen {} -o {keys} --insecure-toy", at("client")),
            &[],
        );
        let picture = folder.file("night.png", &png(100));
        done(
            &format!("encrypt --key {keys}/client.key --image {picture} -o {input}"),
            &[],
        );
        let run = format!("run --plan {plan} --keys {keys}/evaluation.keys --input {input}");
        let (report, _) = done(&format!("{run} -o {answer}"), &[]);
        assert!(report.contains("Power-Softmax"), "{report}");
        let x = Picture::from_bytes(&png(100)).expect("a picture");
        let x = format.input(&x).expect("fits");
        let twin = graph.evaluate(&x).expect("evaluates").output;
        let decrypt = format!("decrypt --key {keys}/client.key {answer} --json");
        let json: Value = serde_json::from_str(&done(&decrypt, &[]).0).expect("JSON");
        let logits = json["logits"].as_array().expect("two");
        for (a, b) in logits.iter().zip(twin.values()) {
            let error = (a.as_f64().expect("a number") - b).abs();
            assert!(error < 5e-3, "{name}: {json} {:?}", twin.values());
        }
        assert_eq!(json["class"], twin.argmax());
    }
}

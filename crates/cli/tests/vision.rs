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

/// The tensors of OpenAI's tower with convolutions: stages of one block, of 2 channels at first, for pictures of 32×32, which end as one place.
fn tower() -> BTreeMap<String, StateTensor> {
    let mut all = BTreeMap::new();
    let mut keep = |name: &str, shape: &[usize], mean: f64| {
        let inputs: usize = shape.iter().skip(1).product();
        let bound = match shape.len() {
            1 => 0.1,
            _ => 1.5 / (inputs as f64).sqrt(),
        };
        let values = uniform(3, name, shape.iter().product(), bound);
        let values = values.iter().map(|v| mean + f64::from(*v)).collect();
        let shape = shape.to_vec();
        all.insert(format!("visual.{name}"), StateTensor { shape, values });
    };
    let mut layer = |conv: &str, norm: &str, shape: [usize; 3]| {
        let [to, from, kernel] = shape;
        keep(&format!("{conv}.weight"), &[to, from, kernel, kernel], 0.0);
        for (part, mean) in [
            ("weight", 1.0),
            ("bias", 0.0),
            ("running_mean", 0.0),
            ("running_var", 1.0),
        ] {
            keep(&format!("{norm}.{part}"), &[to], mean);
        }
    };
    layer("conv1", "bn1", [1, 3, 3]);
    layer("conv2", "bn2", [1, 1, 3]);
    layer("conv3", "bn3", [2, 1, 3]);
    let mut from = 2;
    for stage in 1..=4 {
        let width = 1 << stage;
        let at = |part: &str| format!("layer{stage}.0.{part}");
        layer(&at("conv1"), &at("bn1"), [width, from, 1]);
        layer(&at("conv2"), &at("bn2"), [width, width, 3]);
        layer(&at("conv3"), &at("bn3"), [4 * width, width, 1]);
        layer(
            &at("downsample.0"),
            &at("downsample.1"),
            [4 * width, from, 1],
        );
        from = 4 * width;
    }
    keep("attnpool.positional_embedding", &[2, 64], 0.0);
    for (part, outputs) in [
        ("q_proj", 64),
        ("k_proj", 64),
        ("v_proj", 64),
        ("c_proj", 3),
    ] {
        keep(&format!("attnpool.{part}.weight"), &[outputs, 64], 0.0);
        keep(&format!("attnpool.{part}.bias"), &[outputs], 0.0);
    }
    all
}

#[test]
fn a_tower_of_convolutions_ends_in_attention() {
    let folder = Folder::new("vision-tower");
    let bytes = StateDict::new(tower()).to_safetensors().expect("writes");
    let model = folder.file("rn.safetensors", &bytes);
    std::fs::create_dir_all(folder.path("pictures")).expect("a folder");
    for seed in 0..16 {
        let noise = uniform(seed, "pixels", 32 * 32 * 3, 100.0);
        let pixels = noise.iter().map(|v| (v + 120.0) as u8).collect();
        let picture = image::RgbImage::from_raw(32, 32, pixels).expect("as many");
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture
            .write_to(&mut bytes, ImageFormat::Png)
            .expect("encodes");
        folder.file(&format!("pictures/{seed}.png"), &bytes.into_inner());
    }
    let (pictures, pvm) = (folder.path("pictures"), folder.path("rn.pvm"));
    let calibrate = format!(
        "calibrate {model} --data {pictures} --bits 10 --degree 4 --margin 0.5 --power 2 --epsilon 0.1 -o {pvm}"
    );
    let (_, notes) = done(&calibrate, &[]);
    // as CLIP's networks take pixels
    assert!(notes.contains("(v/255 − [0.481455"), "{notes}");
    let graph = artefact::load(Path::new(&pvm), 1 << 26).expect("reads");
    let target = |layers, parameters| compiler::Target {
        parameters: Some(parameters),
        layers,
        ..compiler::Target::default()
    };
    // pictures, not tokens, go in: convolutions and attention are together in slots
    let preset = ckks::ParametersSpec::toy_coefficients(11, 9).expect("a preset");
    let target_in = target(compiler::Layers::Coefficients, preset);
    let refused = compiler::compile(&graph, &target_in).expect_err("no sequence");
    let refused = refused.to_string();
    assert!(
        refused.contains("layer input") && refused.contains("layers in slots"),
        "{refused}"
    );
    let target_in = target(compiler::Layers::Slots, ckks::ParametersSpec::toy(12));
    let plan = compiler::compile(&graph, &target_in).expect("compiles");
    let client = plan.client_file(graph.metadata().task.clone().expect("a task"));
    let client = client.expect("its task").write(Vec::new(), "x");
    let client = folder.file("toy.client", &client.expect("writes"));
    let bytes = plan.plan().write(Vec::new(), "x").expect("writes");
    let plan = folder.file("toy.plan", &bytes);
    let [keys, input, answer] = ["keys", "x.input", "x.answer"].map(|name| folder.path(name));
    done(&format!("keygen {client} -o {keys} --insecure-toy"), &[]);
    let picture = folder.path("pictures/3.png");
    done(
        &format!("encrypt --key {keys}/client.key --image {picture} -o {input}"),
        &[],
    );
    let run = format!("run --plan {plan} --keys {keys}/evaluation.keys --input {input}");
    done(&format!("{run} -o {answer}"), &[]);
    let Ok(Some(Task::Pictures(format))) = Task::of(graph.metadata()) else {
        panic!("a tower takes pictures")
    };
    let x = Picture::load(Path::new(&picture)).expect("a picture");
    let x = format.input(&x).expect("fits");
    let twin = graph.evaluate(&x).expect("evaluates").output;
    let decrypt = format!("decrypt --key {keys}/client.key {answer} --json");
    let json: Value = serde_json::from_str(&done(&decrypt, &[]).0).expect("JSON");
    let values = json["values"].as_array().expect("an embedding");
    assert_eq!(values.len(), 3, "{json}");
    for (a, b) in values.iter().zip(twin.values()) {
        let error = (a["value"].as_f64().expect("a number") - b).abs();
        assert!(error < 5e-3, "{json} {:?}", twin.values());
    }
}

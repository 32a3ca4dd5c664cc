//! CIFAR ResNets from state dicts.

use crate::misshapen;
use approx::Activation;
use nn::format::state_dict::{StateDict, StateTensor};
use nn::{Error, Op};
use std::collections::BTreeMap;
use zoo::resnet;

/// A ResNet-8 with 2, 4, 8 channels and 3 classes.
pub(crate) fn small_resnet() -> BTreeMap<String, StateTensor> {
    let mut s = crate::Stream::new(9);
    let mut t = BTreeMap::new();
    let mut put = |name: String, shape: &[usize], positive: bool| {
        let values = (0..shape.iter().product()).map(|_| {
            if positive {
                1.0 + 0.5 * s.next()
            } else {
                f64::from(0.4 * s.next() as f32)
            }
        });
        t.insert(
            name,
            StateTensor {
                shape: shape.to_vec(),
                values: values.collect(),
            },
        );
    };
    let norm = |put: &mut dyn FnMut(String, &[usize], bool), name: &str, c: usize| {
        for (part, positive) in [
            ("weight", true),
            ("bias", false),
            ("running_mean", false),
            ("running_var", true),
        ] {
            put(format!("{name}.{part}"), &[c], positive);
        }
    };
    put("conv1.weight".into(), &[2, 3, 3, 3], false);
    norm(&mut put, "bn1", 2);
    let mut from = 2;
    for (stage, to) in [(1, 2), (2, 4), (3, 8)] {
        for (conv, inputs) in [(1, from), (2, to)] {
            put(
                format!("layer{stage}.0.conv{conv}.weight"),
                &[to, inputs, 3, 3],
                false,
            );
            norm(&mut put, &format!("layer{stage}.0.bn{conv}"), to);
        }
        from = to;
    }
    put("fc.weight".into(), &[3, 8], false);
    put("fc.bias".into(), &[3], false);
    t
}

#[test]
fn resnet_definitions_name_what_is_missing() {
    let whole = small_resnet();
    let dict = StateDict::new(whole.clone());
    assert_eq!(resnet::depth(&dict), 8);
    let graph = resnet::from_state_dict(&dict, Activation::Gelu).expect("builds");
    assert_eq!(graph.activations().count(), 7);
    assert!(
        matches!(graph.find("layer2.0.shortcut.pad").map(|n| n.op()), Some(Op::Pad(p)) if p.channels == (1, 1))
    );
    for missing in [
        "layer2.0.bn1.running_var",
        "layer3.0.conv1.weight",
        "fc.bias",
        "conv1.weight",
    ] {
        let mut part = whole.clone();
        part.remove(missing);
        let e =
            resnet::from_state_dict(&StateDict::new(part), Activation::Silu).expect_err("missing");
        assert!(
            matches!(&e, Error::MissingTensor { tensor, .. } if tensor == missing),
            "{e}"
        );
    }
    let mut bad = whole.clone();
    bad.get_mut("layer1.0.conv2.weight").expect("there").values[5] = f64::NAN;
    let e = resnet::from_state_dict(&StateDict::new(bad), Activation::Silu).expect_err("NaN");
    assert!(
        matches!(&e, Error::NotFinite { tensor, index: 5, .. } if tensor == "layer1.0.conv2.weight"),
        "{e}"
    );
}

#[test]
fn polynomials_from_the_state_dict() {
    let mut whole = small_resnet();
    let names = [
        "act1",
        "layer1.0.act1",
        "layer1.0.act2",
        "layer2.0.act1",
        "layer2.0.act2",
        "layer3.0.act1",
        "layer3.0.act2",
    ];
    for name in names {
        whole.insert(
            format!("{name}.poly"),
            StateTensor {
                shape: vec![3],
                values: vec![0.5, 1.0, 0.25],
            },
        );
        whole.insert(
            format!("{name}.interval"),
            StateTensor {
                shape: vec![2],
                values: vec![-4.0, 6.0],
            },
        );
    }
    let poly =
        resnet::from_state_dict_with_polynomials(&StateDict::new(whole.clone())).expect("builds");
    assert_eq!(
        poly.polynomials()
            .map(|(n, _)| n.name().to_string())
            .collect::<Vec<_>>(),
        names
    );
    assert!(
        poly.polynomials()
            .all(|(_, p)| p.interval() == (-4.0, 6.0) && p.degree() == 2)
    );
    let change = |name: &str, values: Vec<f64>| {
        let mut w = whole.clone();
        w.insert(
            name.into(),
            StateTensor {
                shape: vec![values.len()],
                values,
            },
        );
        resnet::from_state_dict_with_polynomials(&StateDict::new(w))
    };
    assert!(
        matches!(change("act1.interval", vec![1.0, 0.0]), Err(Error::Approximation { node, .. }) if node == "act1")
    );
    assert!(matches!(
        change("act1.interval", vec![1.0]),
        Err(Error::Length { .. })
    ));
    assert!(
        matches!(change("layer1.0.act2.poly", vec![f64::NAN]), Err(Error::Approximation { node, .. }) if node == "layer1.0.act2")
    );
    whole.remove("layer3.0.act2.poly");
    assert!(matches!(
        resnet::from_state_dict_with_polynomials(&StateDict::new(whole)),
        Err(Error::MissingTensor { .. })
    ));
}

/// A folder of this test's own that goes with it.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("polyveil-zoo-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("creates");
        Self(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> std::path::PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).expect("writes");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_state_dict_without_its_activation_is_not_taken_for_one_of_relus() {
    let folder = Folder::new("unstated");
    let weights = StateDict::new(small_resnet());
    let path = folder.file("net.onnx", &weights.to_safetensors().expect("writes"));
    // a file is what its content says, whatever it is called
    let e = zoo::open(&path, &zoo::Options::default()).expect_err("no activation");
    assert!(matches!(e, Error::Unstated { .. }), "{e}");
    let text = e.to_string();
    for word in ["ResNet", "activation", "silu", "hardswish"] {
        assert!(text.contains(word), "{text}");
    }
    let options = zoo::Options {
        activation: Some(Activation::Silu),
        ..zoo::Options::default()
    };
    let model = zoo::open(&path, &options).expect("named");
    let (graph, _) = model.graph().expect("of one shape");
    assert_eq!(graph.activations().count(), 7);
}

#[test]
fn tensors_that_no_family_claims_are_refused_by_every_family() {
    let one = |name: &str, shape: &[usize]| {
        let tensor = StateTensor {
            shape: shape.to_vec(),
            values: vec![0.5; shape.iter().product()],
        };
        (name.to_string(), tensor)
    };
    let checkpoint = nn::format::Checkpoint {
        config: None,
        preprocessor: None,
        tensors: StateDict::new(BTreeMap::from([
            one("stem.weight", &[4, 3, 7, 7]),
            one("head.weight", &[10, 4]),
        ])),
    };
    let e = zoo::identify(&checkpoint, &zoo::Options::default()).expect_err("foreign");
    let text = e.to_string();
    for word in [
        "ResNet for small pictures: it has no tensor conv1.weight",
        "language model: there is no config.json",
        "encoder: there is no config.json",
        "multilayer perceptron: tensor stem.weight of shape [4, 3, 7, 7]",
    ] {
        assert!(text.contains(word), "{text}");
    }
    let gpt = nn::format::Checkpoint {
        config: Some("{\"model_type\": \"gpt2\"}".into()),
        ..checkpoint
    };
    let text = zoo::identify(&gpt, &zoo::Options::default())
        .expect_err("unknown")
        .to_string();
    assert!(
        text.contains("model_type is gpt2, known are llama, gpt_neox"),
        "{text}"
    );
}

fn checkpoint(tensors: BTreeMap<String, StateTensor>) -> nn::format::Checkpoint {
    nn::format::Checkpoint {
        config: None,
        preprocessor: None,
        tensors: StateDict::new(tensors),
    }
}

#[test]
fn what_training_leaves_before_all_names_changes_nothing_and_the_family_is_said() {
    let options = zoo::Options::from(Some(Activation::Silu));
    let read = |tensors| {
        let model = zoo::identify(&checkpoint(tensors), &options).expect("reads");
        model.graph().expect("of one shape")
    };
    let (plain, metadata) = read(small_resnet());
    let family = format!("{}ResNet for small pictures", zoo::READ_AS);
    assert_eq!(metadata.provenance, [family]);
    for prefix in ["net.", "_orig_mod.", "module.net."] {
        let tensors = small_resnet().into_iter();
        let tensors = tensors.map(|(name, t)| (format!("{prefix}{name}"), t));
        assert_eq!(read(tensors.collect()).0, plain, "{prefix}");
    }
}

#[test]
fn large_pictures_of_one_channel_go_in_as_onnx() {
    let tensor = |shape: &[usize]| StateTensor {
        shape: shape.to_vec(),
        values: vec![0.0; shape.iter().product()],
    };
    let tensors = BTreeMap::from([
        ("conv1.weight".to_string(), tensor(&[4, 1, 7, 7])),
        ("layer4.0.conv1.weight".to_string(), tensor(&[4, 4, 3, 3])),
    ]);
    let options = zoo::Options::from(Some(Activation::Relu));
    let e = zoo::identify(&checkpoint(tensors), &options).expect_err("grey");
    let e = e.to_string();
    assert!(e.contains("1 channels") && e.contains("ONNX"), "{e}");
}

#[test]
fn a_perceptron_is_one_file_and_one_line() {
    let layer = |name: &str, shape: &[usize]| {
        let count: usize = shape.iter().product();
        let values = (0..count).map(|i| (i as f64 * 0.37).sin()).collect();
        let tensor = StateTensor {
            shape: shape.to_vec(),
            values,
        };
        (name.to_string(), tensor)
    };
    let tensors = BTreeMap::from([
        layer("net.10.weight", &[2, 5]),
        layer("net.2.weight", &[5, 4]),
        layer("net.2.bias", &[5]),
        layer("net.0.weight", &[4, 3]),
        layer("net.0.bias", &[4]),
    ]);
    let values = |name: &str| tensors[name].values.clone();
    let folder = Folder::new("perceptron");
    let path = folder.file(
        "weights",
        &StateDict::new(tensors.clone())
            .to_safetensors()
            .expect("writes"),
    );
    let options = zoo::Options {
        activation: Some(Activation::HardSwish),
        ..zoo::Options::default()
    };
    let (graph, _) = zoo::open(&path, &options)
        .and_then(zoo::Model::graph)
        .expect("reads");
    let x = [0.3, -1.2, 0.7];
    let dense = |w: &[f64], b: Option<&[f64]>, x: &[f64]| -> Vec<f64> {
        w.chunks(x.len())
            .enumerate()
            .map(|(i, row)| {
                let sum: f64 = row
                    .iter()
                    .zip(x)
                    .map(|(w, x)| f64::from(*w as f32) * x)
                    .sum();
                sum + b.map_or(0.0, |b| f64::from(b[i] as f32))
            })
            .collect()
    };
    let swish = |x: Vec<f64>| -> Vec<f64> {
        x.into_iter()
            .map(|v| v * (v + 3.0).clamp(0.0, 6.0) / 6.0)
            .collect()
    };
    let y = swish(dense(
        &values("net.0.weight"),
        Some(&values("net.0.bias")),
        &x,
    ));
    let y = swish(dense(
        &values("net.2.weight"),
        Some(&values("net.2.bias")),
        &y,
    ));
    let y = dense(&values("net.10.weight"), None, &y);
    let input = nn::Tensor::new(nn::Shape::Vector(3), x.to_vec()).expect("fits");
    let own = graph.evaluate(&input).expect("evaluates").output;
    crate::assert_close(own.values(), &y, 1e-12);
}

#[test]
#[ignore = "seconds in release: networks of full size"]
fn published_networks_give_what_torch_gives() {
    give_what_torch_gives(include_str!("../golden/torchvision.txt"));
}

#[test]
fn convnexts_give_what_torch_gives() {
    give_what_torch_gives(include_str!("../golden/convnext.txt"));
}

#[test]
fn efficientnets_give_what_timm_gives() {
    give_what_torch_gives(include_str!("../golden/efficientnet.txt"));
}

#[test]
fn clips_residual_towers_give_what_torch_gives() {
    give_what_torch_gives(include_str!("../golden/clip_resnet.txt"));
}

/// State dicts with weights that a formula makes on both sides (`golden/pictures.py`).
fn give_what_torch_gives(networks: &str) {
    let values = |t: usize, name: &str, shape: &[usize]| -> Vec<f64> {
        let inputs: usize = shape.iter().skip(1).product();
        let value = |i: usize| {
            let h = ((7919 * t + 104_729 * i) % 65521) as f64 / 65521.0 - 0.5;
            let v = match name {
                n if n.ends_with("running_var") => 1.0 + h,
                n if n.ends_with("running_mean") || n.ends_with("bias") => 0.2 * h,
                _ if shape.len() == 1 => 1.0 + 0.4 * h,
                _ => h * (24.0 / inputs as f64).sqrt(),
            };
            f64::from(v as f32)
        };
        (0..shape.iter().product()).map(value).collect()
    };
    let picture = |shape: nn::Shape| {
        let picture = values(999, "running_mean", &shape.dims()).into_iter();
        nn::Tensor::new(shape, picture.map(|v| 2.0 * v).collect()).expect("fits")
    };
    let (mut name, mut activation, mut tensors) = ("", None, BTreeMap::new());
    for line in networks.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["network", n, a] => (name, activation) = (n, Activation::named(a)),
            ["tensor", n, ref shape @ ..] => {
                let shape: Vec<usize> =
                    shape.iter().map(|d| d.parse().expect("a length")).collect();
                let values = values(tensors.len(), n, &shape);
                tensors.insert(n.to_string(), StateTensor { shape, values });
            }
            ["outputs", ref outputs @ ..] => {
                let config = name.contains("efficientnet").then(|| {
                    let about = serde_json::json!({ "input_size": [3, 72, 72] });
                    let config =
                        serde_json::json!({ "architecture": name, "pretrained_cfg": about });
                    config.to_string()
                });
                let tensors = std::mem::take(&mut tensors);
                let mut more = tensors.clone();
                let checkpoint = nn::format::Checkpoint {
                    config,
                    preprocessor: None,
                    tensors: StateDict::new(tensors),
                };
                let options = zoo::Options {
                    activation,
                    ..zoo::Options::default()
                };
                // what nobody reads would be left out of what the network computes
                let first = more.keys().next().expect("tensors").clone();
                let visual = ["", "visual."][usize::from(first.starts_with("visual."))];
                let extra = StateTensor {
                    shape: vec![1],
                    values: vec![0.5],
                };
                more.insert(format!("{visual}layer1.0.extra.weight"), extra.clone());
                more.insert(format!("{visual}bn1.num_batches_tracked"), extra);
                let more = nn::format::Checkpoint {
                    tensors: StateDict::new(more),
                    ..checkpoint.clone()
                };
                let e = zoo::identify(&more, &options).expect_err("a tensor is left");
                let e = e.to_string();
                let tower_alone = name.contains("clip") && visual.is_empty();
                assert!(
                    tower_alone || e.contains("layer1.0.extra.weight is no part"),
                    "{e}"
                );
                let model = zoo::identify(&checkpoint, &options).expect(name);
                let (graph, _) = model.graph().expect("of one shape");
                let picture = picture(graph.input().shape());
                let had = graph.evaluate(&picture).expect("fits").output;
                let torch: Vec<f64> = outputs
                    .iter()
                    .map(|v| v.parse().expect("a number"))
                    .collect();
                let largest = torch.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
                assert_eq!(had.values().len(), torch.len(), "{name}");
                for (a, b) in had.values().iter().zip(&torch) {
                    assert!((a - b).abs() < 1e-4 * largest, "{name}: {a}, {b}");
                }
            }
            _ => panic!("{line}"),
        }
    }
}

#[test]
fn an_efficientnet_is_read_with_the_configuration_beside_it() {
    let of = |text: &str| zoo::efficientnet::Config::from_json(text);
    let lite = r#"{"architecture": "tf_efficientnet_lite1"}"#;
    let usual = of(lite).expect("known");
    assert_eq!(
        (usual.size, usual.pads),
        ((240, 240), zoo::efficientnet::Pads::Same)
    );
    assert_eq!(usual.normalization.mean, [0.5; 3]);
    let own = r#"{"architecture": "efficientnet_lite0", "pretrained_cfg": {"input_size": [3, 64, 96], "mean": [0.1, 0.2, 0.3]}}"#;
    let own = of(own).expect("known");
    assert_eq!((own.size, own.normalization.mean[2]), ((64, 96), 0.3));
    for (text, words) in [
        (
            r#"{"architecture": "efficientnet_b0"}"#,
            "efficientnet_lite0 to efficientnet_lite4",
        ),
        (
            r#"{"architecture": "efficientnet_lite9"}"#,
            "efficientnet_lite9",
        ),
        (r#"{"model_type": "bert"}"#, "architecture is"),
        (
            r#"{"architecture": "efficientnet_lite0", "input_size": [1, 64, 64]}"#,
            "input_size",
        ),
        (
            r#"{"architecture": "efficientnet_lite0", "std": [1, 0, 1]}"#,
            "std",
        ),
        (
            r#"{"architecture": "efficientnet_lite0", "mean": [1]}"#,
            "mean must have three",
        ),
    ] {
        let refused = of(text).expect_err(words).to_string();
        assert!(refused.contains(words), "{refused}");
    }
    // a file of weights, and what lies beside it
    let folder = std::env::temp_dir().join(format!("polyveil-timm-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let tensors = ["conv_stem.weight", "blocks.0.0.conv_dw.weight"].map(|name| {
        let (shape, values) = (vec![1, 1, 1, 1], vec![1.0]);
        (name.to_string(), StateTensor { shape, values })
    });
    let file = folder.join("lite.safetensors");
    let bytes = StateDict::new(tensors.into())
        .to_safetensors()
        .expect("writes");
    std::fs::write(&file, bytes).expect("a file");
    let says = |config: Option<&str>| {
        let beside = folder.join("config.json");
        match config {
            Some(text) => std::fs::write(beside, text).expect("a file"),
            None => drop(std::fs::remove_file(beside)),
        }
        zoo::open(&file, &zoo::Options::default())
            .expect_err("incomplete")
            .to_string()
    };
    let without = says(None);
    assert!(
        without.contains("put timm's config.json beside its file"),
        "{without}"
    );
    // one that is not timm's says nothing of this file
    assert_eq!(says(Some(r#"{"model_type": "vit"}"#)), without);
    let with = says(Some(lite));
    assert!(
        with.contains("bn1.weight") || with.contains("conv_stem"),
        "{with}"
    );
    std::fs::remove_dir_all(&folder).expect("there");
}

/// The first network of a listing, with weights that say little.
fn first_of(listing: &str) -> BTreeMap<String, StateTensor> {
    let mut lines = listing.lines().skip(1);
    let tensors = std::iter::from_fn(|| lines.next()?.strip_prefix("tensor ")).map(|line| {
        let (name, shape) = line.split_once(' ').expect("a name and lengths");
        let shape: Vec<usize> = (shape.split(' '))
            .map(|d| d.parse().expect("a length"))
            .collect();
        let values = vec![0.1; shape.iter().product()];
        (name.to_string(), StateTensor { shape, values })
    });
    tensors.collect()
}

#[test]
fn towers_and_lites_without_a_tensor_or_with_another_shape_are_refused() {
    let lite = r#"{"architecture": "efficientnet_lite0", "input_size": [3, 32, 32]}"#;
    for (listing, config) in [
        (include_str!("../golden/clip_resnet.txt"), None),
        (include_str!("../golden/efficientnet.txt"), Some(lite)),
    ] {
        let tensors = first_of(listing);
        let read = |tensors: StateDict| {
            let checkpoint = nn::format::Checkpoint {
                config: config.map(String::from),
                preprocessor: None,
                tensors,
            };
            zoo::identify(&checkpoint, &zoo::Options::default())
        };
        read(StateDict::new(tensors.clone())).expect("whole");
        for name in tensors.keys() {
            assert!(read(misshapen(&tensors, name)).is_err(), "{name}");
            let mut without = tensors.clone();
            without.remove(name);
            // how many blocks there are is told by some of their tensors, which block has a projection by others
            if let Err(e) = read(StateDict::new(without)) {
                let named = matches!(&e, Error::MissingTensor { tensor, .. } if tensor == name);
                // behind what all names begin with, a tower without its pooling is a ResNet with tensors left over, once it is asked for
                let declined = matches!(
                    e,
                    Error::Unclaimed(_) | Error::Invalid { .. } | Error::Unstated { .. }
                );
                assert!(
                    named
                        || declined
                        || e.to_string().contains("convolutions end")
                        || e.to_string().contains("is no part of the network"),
                    "{e}"
                );
            }
        }
    }
}

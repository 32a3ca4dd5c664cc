//! The `.pvm` file: what is written is read, byte for byte the same each time, and nothing broken passes.

use crate::Stream;
use approx::{Activation, Polynomial};
use polyveil_nn::format::{Content, artefact, state_dict::StateDict};
use polyveil_nn::{
    AvgPool, AxisSlice, BatchNorm, Conv2d, Error, Graph, Linear, MaxPool, Metadata, Network, Op,
    Pad, Padding, PolyGraph, Range, Shape, Slice,
};

/// Every operator once.
fn network() -> PolyGraph {
    let mut s = Stream::new(5);
    let mut b = Network::<Polynomial>::builder();
    let x = b.input("input", Shape::image(2, 8, 8)).expect("valid");
    let conv = Conv2d {
        bias: Some(s.parameter(&[4])),
        stride: (2, 1),
        padding: Padding {
            top: 1,
            bottom: 2,
            left: 0,
            right: 2,
        },
        dilation: (1, 2),
        groups: 2,
        ..Conv2d::new(s.parameter(&[4, 1, 3, 2]))
    };
    let y = b.add("conv", Op::Conv2d(conv), &[x]).expect("valid");
    let positive =
        polyveil_nn::Parameter::new("v", [4], vec![0.5, 1.0, 2.0, 0.25]).expect("finite");
    let norm = BatchNorm {
        scale: s.parameter(&[4]),
        bias: s.parameter(&[4]),
        mean: s.parameter(&[4]),
        variance: positive,
        epsilon: 1e-5,
    };
    let y = b.add("bn", Op::BatchNorm(norm), &[y]).expect("valid");
    let p = Polynomial::new(vec![0.1, 0.5, 1.0 / 3.0], (-2.5, 3.0)).expect("valid");
    let y = b.add("act", Op::Elementwise(p), &[y]).expect("valid");
    let z = b.add("identity", Op::Identity, &[y]).expect("valid");
    let y = b.add("sum", Op::Add, &[y, z]).expect("valid");
    let shape = b.shape(y);
    let c = b
        .add(
            "constant",
            Op::Constant(shape, s.parameter(&shape.dims())),
            &[],
        )
        .expect("valid");
    let y = b.add("product", Op::Mul, &[y, c]).expect("valid");
    let pool = AvgPool {
        kernel: (2, 3),
        stride: (1, 2),
        padding: Padding {
            top: 1,
            ..Padding::default()
        },
        count_include_pad: true,
    };
    let y = b.add("pool", Op::AvgPool(pool), &[y]).expect("valid");
    let y = b
        .add(
            "pad",
            Op::Pad(Pad {
                channels: (1, 0),
                spatial: Padding::same(1),
            }),
            &[y],
        )
        .expect("valid");
    let dims = b.shape(y).dims();
    let axes = dims
        .iter()
        .map(|&end| AxisSlice {
            begin: 0,
            end,
            step: 2,
        })
        .collect();
    let y = b
        .add("slice", Op::Slice(Slice { axes }), &[y])
        .expect("valid");
    let y = b.add("global", Op::GlobalAvgPool, &[y]).expect("valid");
    let y = b.add("flatten", Op::Flatten, &[y]).expect("valid");
    let n = b.shape(y).len();
    let y = b
        .add("reshape", Op::Reshape(Shape::Vector(n)), &[y])
        .expect("valid");
    let y = b
        .add(
            "fc",
            Op::Linear(Linear {
                weight: s.parameter(&[2, n]),
                bias: Some(s.parameter(&[2])),
            }),
            &[y],
        )
        .expect("valid");
    let graph = PolyGraph::from(b.finish(y).expect("valid"));
    let ranges = (0..graph.nodes().len())
        .map(|i| Range {
            min: -(i as f64) / 3.0,
            max: 0.1,
        })
        .collect();
    let metadata = Metadata {
        name: "täst".into(),
        provenance: vec!["made by a test".into()],
        training: None,
        task: None,
    };
    graph
        .with_ranges(ranges)
        .expect("fits")
        .with_metadata(metadata)
}

fn read(bytes: &[u8]) -> Result<PolyGraph, Error> {
    artefact::from_bytes(bytes)
}

/// The file with its JSON header changed.
fn with_header(bytes: &[u8], change: impl Fn(String) -> String) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    let header = String::from_utf8(bytes[8..8 + length].to_vec()).expect("UTF-8");
    assert!(header.contains("\"polyveil\":\"8\""));
    // of a version without checksums, so that what is changed is what is refused
    let header = change(header.replace("\"polyveil\":\"8\"", "\"polyveil\":\"7\""));
    [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        &bytes[8 + length..],
    ]
    .concat()
}

#[test]
fn round_trip_is_exact_and_deterministic() {
    let graph = network();
    let bytes = artefact::to_bytes(&graph).expect("writes");
    assert_eq!(bytes, artefact::to_bytes(&graph.clone()).expect("writes"));
    let back = read(&bytes).expect("reads");
    assert_eq!(back, graph);
    assert!(artefact::recognises(&bytes));
    assert!(!artefact::recognises(b"something else"));
    // It is a safetensors file for everybody else.
    let dict = StateDict::from_bytes(&bytes).expect("reads");
    assert_eq!(
        dict.require("act.poly").expect("there").values,
        vec![0.1, 0.5, 1.0 / 3.0]
    );
    let path = std::env::temp_dir().join(format!("polyveil-{}.pvm", std::process::id()));
    std::fs::write(&path, &bytes).expect("writes");
    assert_eq!(artefact::load(&path, 1 << 20).expect("loads"), graph);
    assert!(matches!(
        artefact::load(&path, 100),
        Err(Error::TooLarge { .. })
    ));
    std::fs::remove_file(&path).expect("removes");
    assert!(artefact::begins_like_one(&bytes[..100]) && !artefact::begins_like_one(b"x"));
}

/// With an activation and a maximum, or either.
fn trained(activation: bool, maximum: bool) -> Graph {
    let mut s = Stream::new(6);
    let mut b = Graph::builder();
    let x = b.input("x", Shape::image(2, 5, 5)).expect("valid");
    let conv = Conv2d::new(s.parameter(&[3, 2, 2, 2]));
    let mut y = b.add("conv", Op::Conv2d(conv), &[x]).expect("valid");
    if activation {
        let gelu = Op::Elementwise(Activation::Gelu.into());
        y = b.add("act", gelu, &[y]).expect("valid");
    }
    if maximum {
        let pool = MaxPool {
            kernel: (3, 2),
            stride: (2, 1),
            padding: Padding {
                top: 1,
                bottom: 0,
                left: 1,
                right: 0,
            },
            ceil_mode: true,
        };
        y = b.add("pool", Op::MaxPool(pool), &[y]).expect("valid");
    }
    let p = Polynomial::new(vec![0.1, 0.5, 1.0 / 3.0], (-2.5, 3.0)).expect("valid");
    y = b.add("p", Op::Elementwise(p.into()), &[y]).expect("valid");
    b.finish(y).expect("valid")
}

#[test]
fn trained_networks_and_their_record() {
    let metadata = Metadata {
        name: "trained".into(),
        provenance: vec!["trained by a test".into()],
        training: Some(
            serde_json::json!({"epochs": 3, "accuracy": 1.0 / 3.0, "data": {"train": "abc"}}),
        ),
        ..Metadata::default()
    };
    let graph = trained(true, true);
    let bytes = artefact::graph_to_bytes(&graph, &metadata).expect("writes");
    assert_eq!(
        bytes,
        artefact::graph_to_bytes(&graph, &metadata).expect("writes")
    );
    assert!(artefact::recognises(&bytes));
    assert_eq!(
        artefact::graph_from_bytes(&bytes).expect("reads"),
        (graph.clone(), metadata.clone())
    );
    let path = std::env::temp_dir().join(format!("polyveil-trained-{}.pvm", std::process::id()));
    std::fs::write(&path, &bytes).expect("writes");
    match polyveil_nn::format::open(&path, None).expect("loads") {
        Content::Trained(g, m) => assert_eq!((g, m), (graph, metadata.clone())),
        other => panic!("{other:?}"),
    }
    std::fs::remove_file(&path).expect("removes");

    // as a polynomial network: one line that names node and remedy
    let e = read(&bytes).expect_err("an activation").to_string();
    for word in ["act", "gelu", "calibrating", "adapting"] {
        assert!(e.contains(word) && !e.contains('\n'), "{e}");
    }
    let maximum = artefact::graph_to_bytes(&trained(false, true), &metadata).expect("writes");
    assert!(matches!(read(&maximum), Err(Error::Maximum(node)) if node == "pool"));
    // a polynomial network is the same file by either way, and either way reads it
    let graph = trained(false, false);
    let poly = PolyGraph::try_from(graph.clone())
        .expect("polynomial")
        .with_metadata(metadata.clone());
    let bytes = artefact::to_bytes(&poly).expect("writes");
    assert_eq!(
        bytes,
        artefact::graph_to_bytes(&graph, &metadata).expect("writes")
    );
    assert_eq!(read(&bytes).expect("reads"), poly);
    assert_eq!(
        artefact::graph_from_bytes(&bytes).expect("reads"),
        (graph.clone(), metadata)
    );
    let ranged = artefact::to_bytes(&network()).expect("writes");
    assert_eq!(
        artefact::graph_from_bytes(&ranged).expect("reads").1,
        *network().metadata()
    );
}

#[test]
fn a_task_is_kept_as_it_is_and_what_was_said_before_tasks_is_refused() {
    let task: Vec<u8> = (0..=255).collect();
    let metadata = Metadata {
        task: Some(task.clone().into()),
        ..network().metadata().clone()
    };
    let with = network().with_metadata(metadata);
    let bytes = artefact::to_bytes(&with).expect("writes");
    let back = read(&bytes).expect("reads");
    assert_eq!(back, with);
    assert_eq!(back.metadata().task.as_deref(), Some(&task[..]));
    let bytes = artefact::to_bytes(&network()).expect("writes");
    let said = |said: &str| {
        let old = format!(r#"\"name\":\"täst\",{said},"#);
        let bytes = with_header(&bytes, |h| h.replace(r#"\"name\":\"täst\","#, &old));
        read(&bytes)
    };
    let nothing = r#"\"labels\":[],\"normalization\":null"#;
    assert_eq!(said(nothing).expect("nothing was said"), network());
    for field in [r#"\"labels\":[\"a\"]"#, r#"\"prompts\":{}"#] {
        let e = said(field).expect_err("said").to_string();
        assert!(e.contains("before version 7"), "{e}");
    }
}

#[test]
fn files_of_before_the_training_record_load_and_stay_as_they_are() {
    let bytes = artefact::to_bytes(&network()).expect("writes");
    let bytes = with_header(&bytes, |h| {
        assert!(!h.contains("training"));
        h
    });
    assert_eq!(read(&bytes).expect("reads").metadata().training, None);
}

#[test]
fn every_flipped_bit_is_found() {
    let good = artefact::to_bytes(&network()).expect("writes");
    // what plans name a network by is the checksum in its file
    let digest = artefact::digest(&network()).expect("writes");
    let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
    assert!(String::from_utf8_lossy(&good).contains(&format!("\"blake3\":\"{hex}\"")));
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        assert!(artefact::graph_from_bytes(&bad).is_err(), "byte {at}");
    }
}

#[test]
fn truncation_and_foreign_files() {
    let bytes = artefact::to_bytes(&network()).expect("writes");
    for length in 0..bytes.len() {
        let e = read(&bytes[..length]).expect_err("truncated");
        assert!(matches!(e, Error::Truncated { .. }), "{length}: {e}");
    }
    assert!(matches!(
        read(b"PK\x03\x04 some zip archive"),
        Err(Error::Malformed { .. })
    ));
    let weights = with_header(&bytes, |h| h.replace("\"polyveil\":", "\"other\":"));
    assert!(
        matches!(read(&weights), Err(Error::Malformed { detail, .. }) if detail.contains("weights"))
    );
    let bare = with_header(&bytes, |h| h.replace("\"graph\":", "\"grape\":"));
    assert!(
        matches!(read(&bare), Err(Error::Malformed { detail, .. }) if detail.contains("missing"))
    );
}

#[test]
fn foreign_versions_and_broken_descriptions() {
    let bytes = artefact::to_bytes(&network()).expect("writes");
    let later = with_header(&bytes, |h| {
        h.replace("\"polyveil\":\"7\"", "\"polyveil\":\"9\"")
    });
    let e = read(&later).expect_err("later version");
    assert!(
        matches!(&e, Error::Version { had, .. } if had == "9"),
        "{e}"
    );
    let change = |from: &str, to: &str| read(&with_header(&bytes, |h| h.replace(from, to)));
    assert!(matches!(
        change(r#"\"Flatten\""#, r#"\"Fatten\""#),
        Err(Error::Malformed { .. })
    ));
    assert!(
        matches!(change(r#"\"groups\":2"#, r#"\"groups\":3"#), Err(Error::Invalid { node, .. }) if node == "conv")
    );
    assert!(
        matches!(change(r#"\"name\":\"bn\""#, r#"\"name\":\"conv\""#), Err(Error::MissingTensor { tensor, .. }) if tensor == "conv.scale")
    );
    assert!(matches!(
        change(r#"\"inputs\":[0]"#, r#"\"inputs\":[99]"#),
        Err(Error::Dangling { .. })
    ));
    assert!(matches!(
        change(r#"\"output\":14"#, r#"\"output\":3"#),
        Err(Error::Malformed { .. } | Error::Count { .. })
    ));
    assert!(matches!(
        change("\"dtype\":\"F64\"", "\"dtype\":\"I64\""),
        Err(Error::Malformed { .. })
    ));
}

#[test]
fn values_that_are_not_numbers_are_refused() {
    let graph = network();
    let bytes = artefact::to_bytes(&graph).expect("writes");
    let bytes = with_header(&bytes, |h| h);
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).expect("JSON");
    let poison = |tensor: &str, nan: &[u8]| {
        let at = 8
            + length
            + header[tensor]["data_offsets"][0]
                .as_u64()
                .expect("an offset") as usize;
        let mut bytes = bytes.clone();
        bytes[at..at + nan.len()].copy_from_slice(nan);
        read(&bytes).expect_err("NaN")
    };
    for (tensor, nan) in [
        ("conv.weight", f32::NAN.to_le_bytes().to_vec()),
        ("fc.bias", f32::INFINITY.to_le_bytes().to_vec()),
        ("act.poly", f64::NAN.to_le_bytes().to_vec()),
        ("ranges", f64::NAN.to_le_bytes().to_vec()),
    ] {
        let e = poison(tensor, &nan);
        assert!(
            matches!(&e, Error::NotFinite { tensor: t, .. } if t == tensor),
            "{e}"
        );
    }
    assert!(matches!(
        poison("act.interval", &9f64.to_le_bytes()),
        Error::Approximation { .. }
    ));
    assert!(matches!(
        poison("ranges", &9f64.to_le_bytes()),
        Error::Range { .. }
    ));
}

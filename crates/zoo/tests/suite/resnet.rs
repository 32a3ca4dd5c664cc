//! CIFAR ResNets from state dicts.

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

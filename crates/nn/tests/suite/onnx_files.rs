//! Chains of random operators with onnxruntime's answers (`tools/chains.py`), single operators that were read wrongly once, and tensors whose values lie in files beside the model.

use crate::onnx::{floats, model, node};
use polyveil_nn::format::onnx::{self, Options};
use polyveil_nn::format::onnx_proto::{EntryProto, TensorProto};
use polyveil_nn::{Error, Graph, Tensor};
use prost::Message;
use std::path::{Path, PathBuf};

#[test]
fn chains_of_operators_give_what_onnxruntime_gives() {
    assert!(as_stated(include_bytes!("../golden/chains.bin")) > 100);
}

/// Choices by constants, attention under constant masks, Einsum, running sums, lookups by constant places, products whose batches are broadcast, Resize by fractions, Clip between far ends, reductions of nothing, negative pads, folded constants.
#[test]
fn single_operators_give_what_onnxruntime_gives() {
    assert!(as_stated(include_bytes!("../golden/operators.bin")) > 220);
}

/// How many models a golden file has; each must give its answer.
fn as_stated(mut rest: &[u8]) -> usize {
    let mut part = || {
        let (length, after) = rest.split_at_checked(4)?;
        let length = u32::from_le_bytes(length.try_into().expect("four")) as usize;
        let (bytes, after) = after.split_at(length);
        rest = after;
        Some(bytes)
    };
    let numbers = |bytes: &[u8]| -> Vec<f64> {
        let words = bytes.chunks_exact(4).map(|b| b.try_into().expect("four"));
        words.map(|b| f64::from(f32::from_le_bytes(b))).collect()
    };
    let mut count = 0;
    while let Some(bytes) = part() {
        let (x, y) = (part().expect("an input"), part().expect("an answer"));
        let (x, y) = (numbers(x), numbers(y));
        let graph = onnx::from_bytes(bytes).unwrap_or_else(|e| panic!("chain {count}: {e}"));
        let x = Tensor::new(graph.input().shape(), x).expect("fits");
        let had = graph.evaluate(&x).expect("fits").output;
        assert_eq!(had.values().len(), y.len(), "chain {count}");
        let largest = y.iter().fold(1e-3, |m: f64, v| m.max(v.abs()));
        for (a, b) in had.values().iter().zip(&y) {
            assert!((a - b).abs() <= 1e-4 * largest, "chain {count}: {a}, {b}");
        }
        count += 1;
    }
    count
}

/// A folder of this test's own.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("polyveil-onnx-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("made");
    folder
}

/// y = x + w, the three values of w said to lie elsewhere.
fn outside(entries: &[(&str, &str)]) -> Vec<u8> {
    let entry = |(key, value): &(&str, &str)| EntryProto {
        key: (*key).into(),
        value: (*value).into(),
    };
    let w = TensorProto {
        raw_data: Vec::new(),
        data_location: 1,
        external_data: entries.iter().map(entry).collect(),
        ..floats("w", &[3], &[])
    };
    model(
        &[1, 3],
        vec![node("Add", &["x", "w"], "y", vec![])],
        vec![w],
    )
    .encode_to_vec()
}

fn read(folder: &Path, entries: &[(&str, &str)]) -> Result<Graph, Error> {
    let options = Options {
        folder: Some(folder),
        ..Options::default()
    };
    onnx::read(&outside(entries), options)
}

#[test]
fn values_in_files_beside_the_model_are_read() {
    let here = folder("read");
    let bytes: Vec<u8> = (1..=5).flat_map(|v| (v as f32).to_le_bytes()).collect();
    std::fs::write(here.join("net.onnx.data"), bytes).expect("written");
    std::fs::create_dir_all(here.join("below")).expect("made");
    std::fs::copy(here.join("net.onnx.data"), here.join("below/w")).expect("copied");
    let x = Tensor::new(polyveil_nn::Shape::Vector(3), vec![0.0; 3]).expect("fits");
    let of = |entries: &[(&str, &str)]| {
        let graph = read(&here, entries).expect("reads");
        graph.evaluate(&x).expect("fits").output.values().to_vec()
    };
    let at = ("location", "net.onnx.data");
    assert_eq!(of(&[at]), [1.0, 2.0, 3.0]);
    assert_eq!(
        of(&[at, ("offset", "8"), ("length", "12")]),
        [3.0, 4.0, 5.0]
    );
    assert_eq!(
        of(&[("location", "./below/w"), ("checksum", "-")]),
        [1.0, 2.0, 3.0]
    );
    assert_eq!(of(&[("location", "below\\w")]), [1.0, 2.0, 3.0]);
    // a file of its own, by the path that the program takes
    std::fs::write(here.join("net.onnx"), outside(&[at])).expect("written");
    assert!(polyveil_nn::format::open(&here.join("net.onnx"), None).is_ok());
    std::fs::remove_dir_all(here).expect("removed");
}

#[test]
fn values_in_other_places_are_refused() {
    let all = folder("refused");
    let here = all.join("model");
    std::fs::create_dir_all(here.join("folder")).expect("made");
    let bytes = [0u8; 16];
    std::fs::write(all.join("secret"), bytes).expect("written");
    std::fs::write(here.join("w"), bytes).expect("written");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(all.join("secret"), here.join("link")).expect("made");
        std::os::unix::fs::symlink(&all, here.join("up")).expect("made");
    }
    let absolute = all.join("secret");
    let absolute = absolute.to_str().expect("plain");
    let w = ("location", "w");
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[], "names no file"),
        (&[("location", "")], "names no file"),
        (&[("location", ".")], "names no file"),
        (
            &[("location", "../secret")],
            "outside of the model's folder",
        ),
        (
            &[("location", "folder/../../secret")],
            "outside of the model's folder",
        ),
        (
            &[("location", "..\\secret")],
            "outside of the model's folder",
        ),
        (&[("location", absolute)], "absolute"),
        (&[("location", "C:\\secret")], "absolute"),
        (&[("location", "folder")], "no file"),
        (&[("location", "absent")], "can't be read"),
        (&[w, ("offset", "8")], "too short"),
        (&[w, ("offset", "18446744073709551615")], "too short"),
        (&[w, ("length", "16")], "its shape needs 12"),
        (&[w, ("offset", "-1")], "no number"),
    ];
    let links: &[(&[(&str, &str)], &str)] = &[
        (&[("location", "link")], "link"),
        (&[("location", "up/secret")], "link"),
    ];
    let links = if cfg!(unix) { links } else { &[] };
    for (entries, said) in cases.iter().chain(links) {
        let e = read(&here, entries).expect_err("refused").to_string();
        assert!(
            e.contains(said) && e.contains("tensor w"),
            "{entries:?}: {e}"
        );
    }
    let e = onnx::from_bytes(&outside(&[w])).expect_err("refused");
    assert!(e.to_string().contains("external_data=False"), "{e}");
    std::fs::remove_dir_all(all).expect("removed");
}

/// Small files that ask for much: each is refused before it is made.
#[test]
fn movements_that_multiply_are_refused() {
    use crate::onnx::{import, integers, ints};
    let refused = |op: &str, list: &[i64]| {
        let nodes = vec![node(op, &["x", "l"], "y", vec![])];
        import(&[1, 3], nodes, vec![integers("l", list)])
            .expect_err(op)
            .to_string()
    };
    for (op, list) in [
        ("Expand", &[1 << 25, 1, 3][..]),
        ("Tile", &[1 << 25, 1]),
        ("Tile", &[1, i64::MAX]),
        ("Pad", &[0, 0, 0, 1 << 29]),
        ("Pad", &[0, i64::MIN, 0, 1]),
        ("Pad", &[0, 0, 0, i64::MAX]),
    ] {
        let e = refused(op, list);
        assert!(e.contains("n_y") || e.contains("constants"), "{op}: {e}");
    }
    let huge = vec![node("Reshape", &["x", "l"], "y", vec![])];
    let e = import(&[1, 1 << 14, 1 << 13], huge, vec![integers("l", &[-1])]).expect_err("refused");
    assert!(e.to_string().contains("constants"), "{e}");
    let wide = floats("w", &[1, 1, 1, 1], &[1.0]);
    let strides = ints("strides", &[1 << 30, 1 << 30]);
    let nodes = vec![node("ConvTranspose", &["x", "w"], "y", vec![strides])];
    assert!(import(&[1, 1, 8, 8], nodes, vec![wide]).is_err());
}

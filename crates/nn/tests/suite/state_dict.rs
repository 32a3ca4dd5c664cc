//! Torch checkpoints made by hand, byte for byte, and safetensors.

use polyveil_nn::format::state_dict::{StateDict, StateTensor};
use polyveil_nn::{Error, format};

fn text(s: &str) -> Vec<u8> {
    let mut out = vec![b'X'];
    out.extend((s.len() as u32).to_le_bytes());
    out.extend(s.bytes());
    out
}

/// `{"state_dict": {"w": tensor(2, 3) stored transposed, "n": int64 scalar}}` with storages "0" (f32 × 6) and "1" (i64 × 1).
fn pickle() -> Vec<u8> {
    let storage = |kind: &str, key: &str, length: u8| {
        [
            b"(".to_vec(),
            text("storage"),
            format!("ctorch\n{kind}\n").into_bytes(),
            text(key),
            text("cpu"),
            vec![b'K', length],
            b"tQ".to_vec(),
        ]
        .concat()
    };
    let tensor = |storage: Vec<u8>, shape: &[u8], stride: &[u8]| {
        [
            b"ctorch._utils\n_rebuild_tensor_v2\n(".to_vec(),
            storage,
            b"K\0".to_vec(),
            shape.to_vec(),
            stride.to_vec(),
            b"\x89ccollections\nOrderedDict\n)RtR".to_vec(),
        ]
        .concat()
    };
    [
        b"\x80\x02}".to_vec(),
        text("state_dict"),
        b"}(".to_vec(),
        text("module.w"),
        tensor(
            storage("FloatStorage", "0", 6),
            b"K\x02K\x03\x86",
            b"K\x01K\x02\x86",
        ),
        text("n"),
        tensor(storage("LongStorage", "1", 1), b")", b")"),
        b"us.".to_vec(),
    ]
    .concat()
}

fn floats() -> Vec<u8> {
    [0.0f32, 3.0, 1.0, 4.0, 2.0, 5.0]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect()
}

fn legacy(magic: &[u8]) -> Vec<u8> {
    let keys = [b"\x80\x02](".to_vec(), text("0"), text("1"), b"e.".to_vec()].concat();
    let mut out = [
        magic.to_vec(),
        b"\x80\x02M\xe9\x03.".to_vec(),
        [
            b"\x80\x02}".to_vec(),
            text("little_endian"),
            b"\x88s.".to_vec(),
        ]
        .concat(),
        pickle(),
        keys,
    ]
    .concat();
    out.extend(6u64.to_le_bytes());
    out.extend(floats());
    out.extend(1u64.to_le_bytes());
    out.extend(7i64.to_le_bytes());
    out
}

const MAGIC: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";

/// A zip of stored entries.
fn zip(entries: &[(&str, Vec<u8>)], method: u8) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let offset = out.len() as u32;
        let common = |v: &mut Vec<u8>| {
            v.extend([20, 0, 0, 0, method, 0, 0, 0, 0, 0]);
            v.extend(crc32fast::hash(data).to_le_bytes());
            v.extend((data.len() as u32).to_le_bytes());
            v.extend((data.len() as u32).to_le_bytes());
            v.extend((name.len() as u16).to_le_bytes());
            v.extend([0, 0]);
        };
        out.extend(b"PK\x03\x04");
        common(&mut out);
        out.extend(name.bytes());
        out.extend(data);
        directory.extend(b"PK\x01\x02\x14\x00");
        common(&mut directory);
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.bytes());
    }
    let (start, size) = (out.len() as u32, directory.len() as u32);
    out.extend(directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    for _ in 0..2 {
        out.extend((entries.len() as u16).to_le_bytes());
    }
    out.extend(size.to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0, 0]);
    out
}

fn torch_zip(method: u8) -> Vec<u8> {
    let entries = [
        ("m/data.pkl", pickle()),
        ("m/byteorder", b"little".to_vec()),
        ("m/data/0", floats()),
        ("m/data/1", 7i64.to_le_bytes().to_vec()),
    ];
    zip(&entries, method)
}

fn check(dict: &StateDict) {
    assert_eq!(dict.tensors().len(), 2);
    let w = dict.require("w").expect("behind its prefix");
    assert_eq!(
        (w.shape.as_slice(), w.values.as_slice()),
        ([2, 3].as_slice(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0].as_slice())
    );
    let n = dict.require("n").expect("there");
    assert_eq!((n.shape.len(), n.values.as_slice()), (0, [7.0].as_slice()));
}

#[test]
fn both_torch_formats_and_strides() {
    check(&StateDict::from_bytes(&legacy(MAGIC)).expect("reads"));
    check(&StateDict::from_bytes(&torch_zip(0)).expect("reads"));
}

#[test]
fn truncation_anywhere_is_an_error_never_a_panic() {
    // a damaged member, which its checksum in the directory tells
    let mut damaged = torch_zip(0);
    let at = damaged.windows(24).position(|w| w == floats());
    damaged[at.expect("there")] ^= 1;
    let e = StateDict::from_bytes(&damaged)
        .expect_err("damaged")
        .to_string();
    assert!(e.contains("m/data/0") && e.contains("damaged"), "{e}");
    for whole in [legacy(MAGIC), torch_zip(0)] {
        for length in 0..whole.len() {
            let e = StateDict::from_bytes(&whole[..length]).expect_err("truncated");
            assert!(
                matches!(e, Error::Truncated { .. } | Error::Malformed { .. }),
                "{length}: {e}"
            );
        }
    }
}

#[test]
fn flipped_bytes_never_panic() {
    for whole in [legacy(MAGIC), torch_zip(0)] {
        for i in 0..whole.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[i] ^= flip;
                drop(StateDict::from_bytes(&bytes));
            }
        }
    }
}

#[test]
fn foreign_files_are_told_apart() {
    assert!(
        matches!(StateDict::from_bytes(&torch_zip(8)), Err(Error::Malformed { detail, .. }) if detail.contains("compressed"))
    );
    assert!(
        matches!(StateDict::from_bytes(&zip(&[("word/document.xml", vec![])], 0)), Err(Error::Malformed { detail, .. }) if detail.contains("data.pkl") && detail.contains("ONNX"))
    );
    assert!(
        matches!(StateDict::from_bytes(b"\x80\x02K\x05."), Err(Error::Malformed { detail, .. }) if detail.contains("torch.save"))
    );
    assert!(matches!(
        StateDict::from_bytes(b"%PDF-1.7 and so on"),
        Err(Error::Malformed { .. })
    ));
    let mut version = legacy(MAGIC);
    version[MAGIC.len() + 3] = 0xea;
    assert!(matches!(
        StateDict::from_bytes(&version),
        Err(Error::Version { .. })
    ));
    let evil = zip(
        &[(
            "m/data.pkl",
            b"\x80\x02cposix\nsystem\nX\x02\0\0\0ls\x85R.".to_vec(),
        )],
        0,
    );
    let e = StateDict::from_bytes(&evil).expect_err("refused");
    assert!(
        matches!(&e, Error::PickleGlobal(global) if global == "posix.system"),
        "{e}"
    );
    assert!(e.to_string().contains("state_dict"), "{e}");
    assert!(e.to_string().contains("ONNX"), "{e}");
}

#[test]
fn what_all_names_begin_with_is_passed_over() {
    let dict = |names: &[&str]| {
        let tensor = |name: &&str| {
            let (shape, values) = (vec![1], vec![name.len() as f64]);
            (name.to_string(), StateTensor { shape, values })
        };
        StateDict::new(names.iter().map(tensor).collect())
    };
    for prefix in [
        "net.",
        "_orig_mod.",
        "module.",
        "module._orig_mod.",
        "a.b.c.",
    ] {
        let names = ["conv1.weight", "conv1.bias", "fc.weight"].map(|n| format!("{prefix}{n}"));
        let dict = dict(&names.each_ref().map(String::as_str));
        assert!(dict.find("conv1.weight").is_some(), "{prefix}");
        assert!(dict.find("fc.weight").is_some() && dict.find("fc.bias").is_none());
        assert_eq!(dict.unread(), [&names[1]], "{prefix}");
    }
    // a name as it stands comes first, and what only some begin with stays
    let own = dict(&["net.a", "net.net.a"]);
    let found = own.find("net.a").expect("there");
    assert_eq!(found.values, [5.0]);
    assert!(dict(&["net.a", "other.b"]).find("a").is_none());
}

#[test]
fn reading_is_limited() {
    let path = std::env::temp_dir().join(format!("polyveil-limit-{}", std::process::id()));
    std::fs::write(&path, [0; 100]).expect("writes");
    assert!(matches!(
        format::read_limited(&path, 99),
        Err(Error::TooLarge {
            limit: 99,
            had: 100,
            ..
        })
    ));
    assert_eq!(format::read_limited(&path, 100).expect("reads").len(), 100);
    std::fs::remove_file(&path).expect("removes");
    assert!(matches!(StateDict::load(&path, 100), Err(Error::Io { .. })));
}

// Hostile files. Found by reading and by `polyveil-fuzz`.

/// `{"a": tensor, "b": tensor}` on one storage "0" that is described in two ways.
fn two_descriptions() -> Vec<u8> {
    let tensor = |kind: &str, length: &[u8], shape: &[u8], offset: &[u8]| {
        [
            b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
            text("storage"),
            format!("ctorch\n{kind}\n").into_bytes(),
            text("0"),
            text("cpu"),
            length.to_vec(),
            b"tQ".to_vec(),
            offset.to_vec(),
            shape.to_vec(),
            b")\x89)tR".to_vec(),
        ]
        .concat()
    };
    let far = b"\x8a\x08\xfe\xff\xff\xff\xff\xff\xff\x7f";
    let end = b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f";
    let pickle = [
        b"\x80\x02}(".to_vec(),
        text("a"),
        tensor("DoubleStorage", end, b")", far),
        text("b"),
        tensor("FloatStorage", b"K\x01", b")", b"K\0"),
        b"u.".to_vec(),
    ]
    .concat();
    [
        MAGIC.to_vec(),
        b"\x80\x02M\xe9\x03.".to_vec(),
        b"\x80\x02}.".to_vec(),
        pickle,
        [b"\x80\x02](".to_vec(), text("0"), b"e.".to_vec()].concat(),
        1u64.to_le_bytes().to_vec(),
        1f32.to_le_bytes().to_vec(),
    ]
    .concat()
}

#[test]
fn one_storage_has_one_description() {
    let message = StateDict::from_bytes(&two_descriptions())
        .expect_err("hostile")
        .to_string();
    assert!(message.contains("storage 0"), "{message}");
}

#[test]
fn tensors_have_few_axes_and_short_names() {
    // a shape of many axes could be used for many tensors, and a long name for many entries
    let file = |name: &str, axes: usize| {
        let shape = [b"(".to_vec(), b"K\x01".repeat(axes), b"t".to_vec()].concat();
        let pickle = [
            b"\x80\x02}".to_vec(),
            text(name),
            b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
            text("storage"),
            b"ctorch\nFloatStorage\n".to_vec(),
            text("0"),
            text("cpu"),
            b"K\x01tQK\0".to_vec(),
            shape.clone(),
            shape,
            b"\x89)tRs.".to_vec(),
        ]
        .concat();
        zip(&[("m/data.pkl", pickle), ("m/data/0", vec![0; 4])], 0)
    };
    assert!(StateDict::from_bytes(&file("w", 8)).is_ok());
    let message = StateDict::from_bytes(&file("w", 9))
        .expect_err("hostile")
        .to_string();
    assert!(message.contains("axes"), "{message}");
    let message = StateDict::from_bytes(&file(&"w".repeat(5000), 1))
        .expect_err("hostile")
        .to_string();
    assert!(
        message.contains("5000 bytes") && message.len() < 300,
        "{message}"
    );
}

/// `golden/torchscript.py` wrote it: half precision, code compressed.
const TORCHSCRIPT: &[u8] = include_bytes!("../golden/torchscript.pt");

#[test]
fn a_torchscript_archive_is_its_state_dict() {
    let dict = StateDict::from_bytes(TORCHSCRIPT).expect("reads");
    let block = |at: usize| {
        let part = move |(name, shape): &(&str, Vec<usize>)| {
            (format!("visual.{at}.{name}"), shape.clone())
        };
        let parts = [
            ("conv1.weight", vec![2, 1, 1, 1]),
            ("bn1.weight", vec![2]),
            ("bn1.bias", vec![2]),
            ("bn1.running_mean", vec![2]),
            ("bn1.running_var", vec![2]),
            ("bn1.num_batches_tracked", vec![]),
        ];
        parts.iter().map(part).collect::<Vec<_>>()
    };
    // the first block is the last one, too
    let mut expected = [block(0), block(3)].concat();
    expected.extend([
        ("visual.2.weight".to_string(), vec![1, 2, 1, 1]),
        ("visual.2.bias".to_string(), vec![1]),
        ("text_projection".to_string(), vec![2, 3]),
        ("context_length".to_string(), vec![]),
    ]);
    assert_eq!(dict.tensors().len(), expected.len());
    for (name, shape) in expected {
        let tensor = dict.require(&name).expect("there");
        assert_eq!(tensor.shape, shape, "{name}");
        for (i, &v) in tensor.values.iter().enumerate() {
            let value = match name.as_str() {
                "context_length" => 77.0,
                n if n.ends_with("tracked") => 0.0,
                _ => i as f64 / 8.0 - 0.5,
            };
            assert_eq!(v, value, "{name}[{i}]");
        }
    }
    // its entries with a damaged pickle, which no checksum tells of
    let entries = format::zip::entries(TORCHSCRIPT).expect("a zip");
    let stored = entries
        .iter()
        .filter(|(_, e)| e.method == format::zip::STORED);
    let mut stored: Vec<(&str, Vec<u8>)> = stored.map(|(n, e)| (*n, e.bytes.to_vec())).collect();
    assert_eq!(
        StateDict::from_bytes(&zip(&stored, 0)).expect("reads"),
        dict
    );
    let at = stored
        .iter()
        .position(|(n, _)| n.ends_with("/data.pkl"))
        .expect("there");
    for i in 0..stored[at].1.len() {
        for flip in [0x01, 0x08, 0x80, 0xff] {
            stored[at].1[i] ^= flip;
            drop(StateDict::from_bytes(&zip(&stored, 0)));
            stored[at].1[i] ^= flip;
        }
    }
    for length in (0..TORCHSCRIPT.len()).step_by(7) {
        assert!(StateDict::from_bytes(&TORCHSCRIPT[..length]).is_err());
    }
}

#[test]
fn hostile_modules_are_refused() {
    // classes and attributes of a pickle, zipped
    let refused = |pickle: Vec<u8>| {
        let e = StateDict::from_bytes(&zip(&[("m/data.pkl", pickle)], 0)).expect_err("hostile");
        e.to_string()
    };
    let class = b"c__torch__\nNet\n)\x81";
    // a module within itself
    let cycle = [b"\x80\x02", &class[..], b"q\0}", &text("a")[..], b"h\0sb."].concat();
    let said = refused(cycle);
    assert!(
        said.contains("name of") || said.contains("attributes"),
        "{said}"
    );
    // forty modules, each of which has the one before twice
    let mut doubled = [b"\x80\x02", &class[..], b"}bq\0"].concat();
    for _ in 0..40 {
        let twice = [
            b"0",
            &class[..],
            b"}(",
            &text("a")[..],
            b"h\0",
            &text("b")[..],
            b"h\0ubq\0",
        ];
        doubled.extend(twice.concat());
    }
    doubled.push(b'.');
    let said = refused(doubled);
    assert!(said.contains("attributes"), "{said}");
    // a state that is no dict, no state, no tensors
    for (state, words) in [
        (&b"K\x01b."[..], "state of its own"),
        (&b"."[..], "state of its own"),
        (&b"}b."[..], "no tensors"),
    ] {
        let said = refused([b"\x80\x02", &class[..], state].concat());
        assert!(said.contains(words), "{said}");
    }
    let said = refused(b"\x80\x02cmodel\nNet\n)\x81}b.".to_vec());
    assert!(said.contains("model.Net"), "{said}");
}

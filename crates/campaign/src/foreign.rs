//! The smallest valid files of other people's formats.

use flate2::{Compression, write::ZlibEncoder};
use image::{ColorType, ImageFormat};
use polyveil_fuzz::torch;
use polyveil_fuzz::zip::{self, Entry};
use std::io::{Cursor, Write};

/// NumPy arrays of bytes in a zip: name, shape, values.
pub(crate) fn npz(arrays: &[(&str, &[usize], &[u8])]) -> Vec<u8> {
    let members: Vec<_> = (arrays.iter())
        .map(|(name, shape, values)| {
            let axes: String = shape.iter().map(|a| format!("{a}, ")).collect();
            let text = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({axes}), }}\n");
            let mut out = b"\x93NUMPY\x01\0".to_vec();
            out.extend((text.len() as u16).to_le_bytes());
            out.extend(text.as_bytes());
            out.extend(*values);
            Entry {
                name: format!("{name}.npy").into_bytes(),
                method: 0,
                data: out,
            }
        })
        .collect();
    zip::file(&members).0
}

fn encoded(width: usize, height: usize, pixels: &[u8], format: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    let (width, height) = (width as u32, height as u32);
    image::write_buffer_with_format(&mut out, pixels, width, height, ColorType::Rgb8, format)
        .expect("a picture");
    out.into_inner()
}

/// Interleaved RGB pixels as PNG.
pub(crate) fn png(width: usize, height: usize, pixels: &[u8]) -> Vec<u8> {
    encoded(width, height, pixels, ImageFormat::Png)
}

/// Interleaved RGB pixels as JPEG.
pub(crate) fn jpeg(width: usize, height: usize, pixels: &[u8]) -> Vec<u8> {
    encoded(width, height, pixels, ImageFormat::Jpeg)
}

/// A JPEG of one colour, 8 by 8, from its components as they are stored: one block each, in one scan, or progressive in one for the means and one
/// for each component's rest. Four components are Adobe's CMYK.
pub(crate) fn flat_jpeg(components: &[u8], progressive: bool) -> Vec<u8> {
    let mut out = vec![0xff, 0xd8];
    let mut segment = |marker: u8, body: &[u8], data: &str| {
        out.extend([0xff, marker]);
        out.extend((body.len() as u16 + 2).to_be_bytes());
        out.extend(body);
        let mut bits = data.to_owned();
        while !bits.len().is_multiple_of(8) {
            bits.push('1');
        }
        for byte in bits.as_bytes().chunks(8) {
            let byte = byte.iter().fold(0u8, |v, b| v << 1 | (b - b'0'));
            out.push(byte);
            if byte == 0xff {
                out.push(0);
            }
        }
    };
    let count = components.len() as u8;
    if count == 4 {
        segment(0xee, b"Adobe\0\x64\0\0\0\0\0", "");
    }
    segment(0xdb, &[&[0][..], &[1; 64]].concat(), "");
    let each = |more: &[u8]| -> Vec<u8> {
        (1..=count)
            .flat_map(|id| [&[id][..], more].concat())
            .collect()
    };
    let frame = [&[8, 0, 8, 0, 8, count][..], &each(&[0x11, 0])].concat();
    segment(if progressive { 0xc2 } else { 0xc0 }, &frame, "");
    // means: twelve sizes of four bits; the rest: nothing follows, one bit
    let sizes: Vec<u8> = (0..12).collect();
    segment(
        0xc4,
        &[&[0, 0, 0, 0, 12][..], &[0; 12], &sizes].concat(),
        "",
    );
    segment(0xc4, &[&[0x10, 1][..], &[0; 15], &[0]].concat(), "");
    let mean = |v: u8| {
        let d = 8 * (i32::from(v) - 128);
        let size = 32 - d.unsigned_abs().leading_zeros();
        let bits = if d < 0 { d + (1 << size) - 1 } else { d };
        match size {
            0 => "0000".to_string(),
            _ => format!("{size:04b}{bits:0width$b}", width = size as usize),
        }
    };
    let rest = if progressive { "" } else { "0" };
    let data: String = components.iter().map(|&v| mean(v) + rest).collect();
    let last = if progressive { 0 } else { 63 };
    segment(
        0xda,
        &[&[count][..], &each(&[0]), &[0, last, 0]].concat(),
        &data,
    );
    for id in (1..=count).filter(|_| progressive) {
        segment(0xda, &[1, id, 0, 1, 63, 0], "0");
    }
    out.extend([0xff, 0xd9]);
    out
}

/// A model of llama2.c for [`tokenizer`]: one layer of width 8, four heads, two of keys.
pub(crate) fn llama2c() -> Vec<u8> {
    let (width, hidden, heads, kv, tokens, longest) = (8, 12, 4, 2, PIECES.len(), 16);
    let mut out = Vec::new();
    for n in [width, hidden, 1, heads, kv, tokens, longest] {
        out.extend((n as i32).to_le_bytes());
    }
    let head = width / heads;
    let (square, keys, wide) = (width * width, width * kv * head, width * hidden);
    for (count, norm) in [
        (tokens * width, false),
        (width, true),
        (square + 2 * keys + square, false),
        (width, true),
        (3 * wide, false),
        (width, true),
        (longest * head, false),
    ] {
        let value = |i: usize| {
            if norm {
                1.0
            } else {
                (i * 7919 % 17) as f32 / 16.0 - 0.5
            }
        };
        out.extend((0..count).flat_map(|i| value(i).to_le_bytes()));
    }
    out
}

/// A JPEG with an EXIF segment that says how it is turned (1 to 8).
pub(crate) fn turned(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
    let mut out = jpeg[..2].to_vec();
    out.extend([0xff, 0xe1]);
    out.extend((exif.len() as u16 + 2).to_be_bytes());
    out.extend(exif);
    out.extend(&jpeg[2..]);
    out
}

/// A PNG from its parts: colour type, bits, bytes of all lines with their filters, and chunks before the data.
pub(crate) fn raw_png(
    (width, height): (u32, u32),
    (bits, colour): (u8, u8),
    lines: &[u8],
    before: &[(&[u8; 4], Vec<u8>)],
) -> Vec<u8> {
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8; 4], data: &[u8]| {
        out.extend((data.len() as u32).to_be_bytes());
        let mut body = kind.to_vec();
        body.extend(data);
        out.extend(&body);
        out.extend(crc32fast::hash(&body).to_be_bytes());
    };
    let mut head = width.to_be_bytes().to_vec();
    head.extend(height.to_be_bytes());
    head.extend([bits, colour, 0, 0, 0]);
    chunk(b"IHDR", &head);
    for (kind, data) in before {
        chunk(kind, data);
    }
    chunk(b"IDAT", &stored(lines));
    chunk(b"IEND", &[]);
    out
}

/// A zlib stream of stored blocks.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut out = ZlibEncoder::new(Vec::new(), Compression::none());
    out.write_all(bytes).expect("memory takes it");
    out.finish().expect("memory takes it")
}

/// CIFAR-10's binary form.
pub(crate) fn cifar(count: usize) -> Vec<u8> {
    (0..count)
        .flat_map(|i| {
            let pixels = (0..3072).map(move |p| ((p * 7 + i * 31) % 251) as u8);
            std::iter::once((i % 10) as u8).chain(pixels)
        })
        .collect()
}

/// A field of a protobuf message that holds bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    out.extend(varint(bytes.len() as u64));
    out.extend(bytes);
    out
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value > 127 {
        out.push(value as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn whole(number: u8, value: u64) -> Vec<u8> {
    [vec![number << 3], varint(value)].concat()
}

/// An ONNX network of rows: two dense layers with a ReLU between them.
pub(crate) fn onnx(inputs: usize, hidden: usize, outputs: usize) -> Vec<u8> {
    let value = |name: &str, dims: [usize; 2]| {
        let dims: Vec<u8> = (dims.iter())
            .flat_map(|&d| field(1, &whole(1, d as u64)))
            .collect();
        let tensor = [whole(1, 1), field(2, &dims)].concat();
        [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
    };
    let tensor = |name: &str, dims: &[usize]| {
        let count: usize = dims.iter().product();
        let raw: Vec<u8> = (0..count)
            .flat_map(|i| ((i * 7 % 11) as f32 / 8.0 - 0.6).to_le_bytes())
            .collect();
        let mut out: Vec<u8> = dims.iter().flat_map(|&d| whole(1, d as u64)).collect();
        out.extend(whole(2, 1));
        out.extend(field(8, name.as_bytes()));
        out.extend(field(9, &raw));
        out
    };
    let node = |op: &str, inputs: &[&str], output: &str, transposed: bool| {
        let mut out: Vec<u8> = inputs.iter().flat_map(|i| field(1, i.as_bytes())).collect();
        out.extend(field(2, output.as_bytes()));
        out.extend(field(3, format!("node_{output}").as_bytes()));
        out.extend(field(4, op.as_bytes()));
        if transposed {
            // AttributeProto: name 1, i 3, type 20
            let attribute = [field(1, b"transB"), whole(3, 1), vec![0xa0, 1, 2]].concat();
            out.extend(field(5, &attribute));
        }
        out
    };
    let graph = [
        field(1, &node("Gemm", &["x", "w", "b"], "h", true)),
        field(1, &node("Relu", &["h"], "r", false)),
        field(1, &node("Gemm", &["r", "v", "c"], "y", true)),
        field(2, b"toy"),
        field(5, &tensor("w", &[hidden, inputs])),
        field(5, &tensor("b", &[hidden])),
        field(5, &tensor("v", &[outputs, hidden])),
        field(5, &tensor("c", &[outputs])),
        field(11, &value("x", [1, inputs])),
        field(12, &value("y", [1, outputs])),
    ]
    .concat();
    [
        whole(1, 8),
        field(7, &graph),
        field(8, &[field(1, b""), whole(2, 17)].concat()),
    ]
    .concat()
}

/// The tensors of the smallest network of the residual family: name and shape.
fn residual() -> Vec<(String, Vec<usize>)> {
    let mut all = Vec::new();
    let mut layer = |conv: &str, norm: &str, kernel: usize| {
        let channels = if conv == "conv1" { 3 } else { 1 };
        all.push((format!("{conv}.weight"), vec![1, channels, kernel, kernel]));
        for part in ["weight", "bias", "running_mean", "running_var"] {
            all.push((format!("{norm}.{part}"), vec![1]));
        }
    };
    layer("conv1", "bn1", 3);
    for stage in 1..=3 {
        for conv in 1..=2 {
            let name = |kind: &str| format!("layer{stage}.0.{kind}{conv}");
            layer(&name("conv"), &name("bn"), 3);
        }
    }
    layer("layer3.0.shortcut.0", "layer3.0.shortcut.1", 1);
    all.push(("linear.weight".into(), vec![10, 1]));
    all.push(("linear.bias".into(), vec![10]));
    all
}

/// The same network as PyTorch saves it: a zip with a pickle and a file for each tensor. The first member with weights is `m/data/0`.
pub(crate) fn torch() -> Vec<u8> {
    let bytes = |all: &[usize]| all.iter().map(|&d| d as u8).collect::<Vec<_>>();
    let all: Vec<_> = (residual().into_iter())
        .map(|(name, shape)| {
            let strides: Vec<usize> = (1..=shape.len())
                .map(|d| shape[d..].iter().product())
                .collect();
            (name, bytes(&shape), bytes(&strides), shape)
        })
        .collect();
    let tensors: Vec<torch::Tensor<'_>> = (all.iter())
        .map(|(name, dims, strides, shape)| {
            let count = shape.iter().product();
            (&name[..], "FloatStorage", 4, count, &dims[..], &strides[..])
        })
        .collect();
    torch::zip(&tensors, torch::Root::Plain).bytes()
}

/// The same network in safetensors.
pub(crate) fn safetensors() -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, shape) in residual() {
        let begin = data.len();
        let count: usize = shape.iter().product();
        data.extend((0..count).flat_map(|k| (0.5 + k as f32 / 16.0).to_le_bytes()));
        let entry = serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()]});
        header.insert(name, entry);
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.as_bytes());
    out.extend(data);
    out
}

pub(crate) const PIECES: [&str; 12] = [
    "<unk>", "\n<s>\n", "\n</s>\n", " ", "a", "b", "c", "d", "ab", "cd", " a", "abcd",
];

/// llama2.c's tokenizer.
pub(crate) fn tokenizer() -> Vec<u8> {
    let mut bytes = 6i32.to_le_bytes().to_vec();
    for (i, piece) in PIECES.iter().enumerate() {
        bytes.extend((i as f32).to_le_bytes());
        bytes.extend((piece.len() as i32).to_le_bytes());
        bytes.extend(piece.as_bytes());
    }
    bytes
}

//! Seeds: the smallest networks and pictures that use everything that their formats have.

use crate::random::Random;
use crate::torch::Tensor;
use crate::{bytes, safetensors as file};
use approx::{Activation, Polynomial};
use image::{ColorType, DynamicImage, ImageFormat};
use nn::format::artefact;
use nn::format::onnx_proto::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use nn::{
    AvgPool, AxisSlice, BatchNorm, Conv2d, Graph, Linear, MaxPool, Metadata, Network, Nonlinearity,
    Op, Pad, Padding, Parameter, PolyGraph, Range, Shape, Slice,
};
use prost::Message;
use serde_json::{Map, Value, json};
use std::io::Cursor;

/// A few tensors of different types, one of them transposed.
pub(crate) fn tensors() -> Vec<Tensor<'static>> {
    vec![
        ("module.w", "FloatStorage", 4, 6, &[2, 3], &[1, 2]),
        ("n", "LongStorage", 8, 1, &[], &[]),
        ("h", "HalfStorage", 2, 4, &[2, 2], &[2, 1]),
        ("b", "BFloat16Storage", 2, 3, &[3], &[1]),
        ("d", "DoubleStorage", 8, 2, &[1, 2], &[2, 1]),
        ("u", "ByteStorage", 1, 5, &[5], &[1]),
    ]
}

/// The smallest network of the residual family: one channel, one block in each stage. Name, shape, strides.
pub(crate) fn resnet() -> Vec<(String, Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    let mut layer = |conv: &str, norm: &str, kernel: u8| {
        all.push((
            format!("{conv}.weight"),
            vec![1, 1, kernel, kernel],
            vec![kernel * kernel, kernel * kernel, kernel, 1],
        ));
        for part in ["weight", "bias", "running_mean", "running_var"] {
            all.push((format!("{norm}.{part}"), vec![1], vec![1]));
        }
    };
    layer("conv1", "bn1", 3);
    for stage in 1..=3 {
        for conv in 1..=2 {
            layer(
                &format!("layer{stage}.0.conv{conv}"),
                &format!("layer{stage}.0.bn{conv}"),
                3,
            );
        }
    }
    layer("layer3.0.shortcut.0", "layer3.0.shortcut.1", 1);
    all.push(("linear.weight".into(), vec![2, 1], vec![1, 1]));
    all.push(("linear.bias".into(), vec![2], vec![1]));
    all
}

/// A tensor of f32.
pub(crate) fn entry<'a>(name: &'a str, shape: &'a [u8], stride: &'a [u8]) -> Tensor<'a> {
    (
        name,
        "FloatStorage",
        4,
        shape.iter().map(|&d| usize::from(d)).product(),
        shape,
        stride,
    )
}

fn safetensors_file(all: &[(String, &str, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    for (name, dtype, shape, bytes) in all {
        let begin = data.len();
        data.extend(bytes);
        header.insert(
            name.clone(),
            json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, data.len()]}),
        );
    }
    file::file(Value::Object(header).to_string().as_bytes(), &data)
}

/// Tensors of several types, and a polynomial network as a state dict.
pub(crate) fn safetensors() -> Vec<Vec<u8>> {
    let some = [
        ("f", "F32", vec![2, 2], 16),
        ("h", "F16", vec![3], 6),
        ("b", "BF16", vec![], 2),
        ("l", "I64", vec![1, 2], 16),
        ("u", "U8", vec![0, 3], 0),
    ]
    .map(|(n, t, s, length)| (n.to_owned(), t, s, vec![0x3f; length]));
    let ones = |count: usize| [0u8, 0, 0x80, 0x3f].repeat(count);
    let mut network: Vec<_> = resnet()
        .into_iter()
        .map(|(name, shape, _)| {
            let shape: Vec<usize> = shape.into_iter().map(usize::from).collect();
            let count = shape.iter().product();
            (name, "F32", shape, ones(count))
        })
        .collect();
    let mut doubles = |name: String, all: &[f64]| {
        let bytes = all.iter().flat_map(|v| v.to_le_bytes()).collect();
        network.push((name, "F64", vec![all.len()], bytes));
    };
    let acts = (1..=3).flat_map(|s| (1..=2).map(move |a| format!("layer{s}.0.act{a}")));
    for act in acts.chain(["act1".to_owned()]) {
        doubles(format!("{act}.poly"), &[0.25, 0.5, 0.125]);
        doubles(format!("{act}.interval"), &[-2.0, 3.0]);
    }
    vec![safetensors_file(&some), safetensors_file(&network)]
}

/// Small numbers.
pub(crate) fn parameter(shape: &[usize]) -> Parameter {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| 0.25 + i as f32 / 8.0).collect();
    Parameter::new("seed", shape, values).expect("a valid seed")
}

fn every_operator() -> PolyGraph {
    let mut b = Network::<Polynomial>::builder();
    let mut last = b.input("x", Shape::image(2, 4, 4)).expect("a valid seed");
    let conv = Conv2d {
        bias: Some(parameter(&[2])),
        padding: Padding::same(1),
        groups: 2,
        ..Conv2d::new(parameter(&[2, 1, 3, 3]))
    };
    let norm = BatchNorm {
        scale: parameter(&[2]),
        bias: parameter(&[2]),
        mean: parameter(&[2]),
        variance: parameter(&[2]),
        epsilon: 1e-5,
    };
    let polynomial = Polynomial::new(vec![0.5, 0.25, 0.125], (-2.0, 3.0)).expect("a valid seed");
    let pool = AvgPool {
        kernel: (2, 2),
        stride: (1, 1),
        padding: Padding::default(),
        count_include_pad: true,
    };
    let pad = Pad {
        channels: (0, 1),
        spatial: Padding::same(1),
    };
    let axis = |begin, end, step| AxisSlice { begin, end, step };
    let slice = Slice {
        axes: vec![axis(0, 2, 1), axis(1, 5, 2), axis(0, 5, 3)],
    };
    let chain = [
        ("conv", Op::Conv2d(conv)),
        ("norm", Op::BatchNorm(norm)),
        ("act", Op::Elementwise(polynomial)),
        ("pool", Op::AvgPool(pool)),
        ("pad", Op::Pad(pad)),
        ("slice", Op::Slice(slice)),
        ("same", Op::Identity),
        ("reshape", Op::Reshape(Shape::image(4, 2, 1))),
        ("mean", Op::GlobalAvgPool),
        ("flatten", Op::Flatten),
    ];
    for (name, op) in chain {
        last = b.add(name, op, &[last]).expect("a valid seed");
    }
    let mut add = |name, op, inputs: &[_]| b.add(name, op, inputs).expect("a valid seed");
    let constant = Op::Constant(Shape::Vector(4), parameter(&[4]));
    let shift = add("shift", constant, &[]);
    last = add("add", Op::Add, &[last, shift]);
    last = add("mul", Op::Mul, &[last, last]);
    let dense = Linear {
        weight: parameter(&[2, 4]),
        bias: Some(parameter(&[2])),
    };
    last = add("dense", Op::Linear(dense), &[last]);
    let graph = PolyGraph::from(b.finish(last).expect("a valid seed"));
    let (min, max) = (-1.5, 2.25);
    let ranges = vec![Range { min, max }; graph.nodes().len()];
    let metadata = Metadata {
        name: "toy".into(),
        provenance: vec!["made for fuzzing".into()],
        training: None,
        task: Some(b"what only clients read".as_slice().into()),
    };
    graph
        .with_ranges(ranges)
        .expect("a valid seed")
        .with_metadata(metadata)
}

/// A network with every operator, a small one without ranges and metadata, and one that is not polynomial.
pub(crate) fn artefacts() -> Vec<Vec<u8>> {
    let mut b = Network::<Polynomial>::builder();
    let x = b.input("x", Shape::Vector(3)).expect("a valid seed");
    let dense = Linear {
        weight: parameter(&[2, 3]),
        bias: None,
    };
    let y = b.add("y", Op::Linear(dense), &[x]).expect("a valid seed");
    let small = PolyGraph::from(b.finish(y).expect("a valid seed"));
    let large = every_operator();
    let bytes = |g: &PolyGraph| artefact::to_bytes(g).expect("a valid seed");
    let mut all = vec![bytes(&small), trained(), bytes(&large), bytes(&large)];
    // of a version without checksums: what is mutated is to come further than to the checksum
    for file in &mut all {
        let version = b"\"polyveil\":\"8\"";
        let at = file.windows(version.len()).position(|w| w == version);
        file[at.expect("a version") + version.len() - 2] = b'7';
    }
    all
}

/// Every activation, a polynomial among them, a maximum and a training record.
fn trained() -> Vec<u8> {
    let mut b = Graph::builder();
    let x = b.input("x", Shape::image(1, 5, 5)).expect("a valid seed");
    let pool = MaxPool {
        kernel: (2, 3),
        stride: (2, 2),
        padding: Padding::same(1),
        ceil_mode: true,
    };
    let polynomial = Polynomial::new(vec![0.5, 0.25], (-2.0, 3.0)).expect("a valid seed");
    let functions = Activation::ALL.map(Nonlinearity::from);
    let mut y = x;
    for (i, f) in functions.into_iter().chain([polynomial.into()]).enumerate() {
        y = b
            .add(format!("act{i}"), Op::Elementwise(f), &[y])
            .expect("a valid seed");
    }
    let y = b.add("max", Op::MaxPool(pool), &[y]).expect("a valid seed");
    let graph = b.finish(y).expect("a valid seed");
    let metadata = Metadata {
        training: Some(json!({"epochs": 2, "data": ["abc", 0.5, null]})),
        ..Metadata::default()
    };
    artefact::graph_to_bytes(&graph, &metadata).expect("a valid seed")
}

fn info(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = dims
        .iter()
        .map(|&d| DimensionProto {
            dim_value: d,
            dim_param: String::new(),
        })
        .collect();
    let tensor_type = Some(TensorTypeProto {
        elem_type: 1,
        shape: Some(TensorShapeProto { dim }),
    });
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { tensor_type }),
    }
}

fn floats(name: &str, dims: &[i64]) -> TensorProto {
    let count: i64 = dims.iter().product();
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: 1,
        raw_data: (0..count)
            .flat_map(|i| (0.25 + i as f32 / 8.0).to_le_bytes())
            .collect(),
        ..TensorProto::default()
    }
}

fn scalar(name: &str, value: f32) -> TensorProto {
    TensorProto {
        name: name.into(),
        data_type: 1,
        float_data: vec![value],
        ..TensorProto::default()
    }
}

fn integers(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: vec![values.len() as i64],
        data_type: 7,
        int64_data: values.to_vec(),
        ..TensorProto::default()
    }
}

/// From `name=value`: whole numbers where there are commas, one, a fraction, or a text; `value` holds a tensor.
fn attribute(text: &str) -> AttributeProto {
    let (name, value) = text.split_once('=').expect("a valid seed");
    let numbers: Option<Vec<i64>> = value.split(',').map(|v| v.parse().ok()).collect();
    let mut a = AttributeProto {
        name: name.into(),
        ..AttributeProto::default()
    };
    a.r#type = match (numbers, value.parse()) {
        (Some(all), _) if name == "value" => {
            a.t = Some(integers("", &all));
            4
        }
        (Some(all), _) if all.len() > 1 => {
            a.ints = all;
            7
        }
        (Some(all), _) => {
            a.i = all[0];
            2
        }
        (None, Ok(f)) => {
            a.f = f;
            1
        }
        (None, Err(_)) => {
            a.s = value.into();
            3
        }
    };
    a
}

/// From `Operator input … > output attribute …`.
fn node(line: &str) -> NodeProto {
    let (call, rest) = line.split_once(" > ").expect("a valid seed");
    let mut call = call.split(' ').map(String::from);
    let mut rest = rest.split(' ');
    let output = rest.next().unwrap_or_default();
    NodeProto {
        op_type: call.next().unwrap_or_default(),
        input: call.collect(),
        output: vec![output.into()],
        name: format!("n_{output}"),
        attribute: rest.map(attribute).collect(),
        domain: String::new(),
    }
}

fn model(input: &[i64], nodes: &str, initializer: Vec<TensorProto>) -> Vec<u8> {
    let model = ModelProto {
        ir_version: 8,
        producer_name: "seed".into(),
        graph: Some(GraphProto {
            node: nodes.trim().lines().map(|l| node(l.trim())).collect(),
            name: "g".into(),
            initializer,
            input: vec![info("x", input)],
            output: vec![info("y", &[])],
            ..GraphProto::default()
        }),
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: 17,
        }],
        ..ModelProto::default()
    };
    model.encode_to_vec()
}

/// Convolutional, dense, activations made of pieces, and shapes computed from constants.
pub(crate) fn onnx() -> Vec<Vec<u8>> {
    let convolutional = model(
        &[1, 2, 5, 5],
        "Conv x w b > c pads=1,0,1,2 strides=2,1 kernel_shape=3,3
        BatchNormalization c s b b s > d epsilon=1e-5
        Relu d > e
        Conv e v > f auto_pad=SAME_UPPER dilations=2,2 group=3
        Add e f > g
        AveragePool g > h kernel_shape=2,2 count_include_pad=1
        GlobalAveragePool h > i
        Flatten i > j axis=1
        Gemm j m b > k alpha=0.5 transB=1
        Mul k b > l
        Dropout l > y",
        vec![
            floats("w", &[3, 2, 3, 3]),
            floats("b", &[3]),
            floats("s", &[3]),
            floats("v", &[3, 1, 3, 3]),
            floats("m", &[3, 3]),
        ],
    );
    let activations = model(
        &[0, 3],
        "Div x root > a
        Erf a > b
        Add b one > c
        Mul x c > d
        Mul d half > e
        Sigmoid e > f
        Mul e f > g
        MatMul g m > h
        Tanh h > i
        Gelu i > y",
        vec![
            scalar("root", std::f32::consts::SQRT_2),
            scalar("one", 1.0),
            scalar("half", 0.5),
            floats("m", &[3, 2]),
        ],
    );
    let shapes = model(
        &[1, 2, 4, 4],
        "Pad x pads > a
        Slice a starts ends axes steps > b
        Shape b > c
        Constant > s value_int=0
        Gather c s > d axis=0
        Unsqueeze d zero > e
        Cast rest > f to=7
        Concat e f > g axis=0
        Reshape b g > h
        Constant > i value=2,3
        ReduceMean x i > j keepdims=1
        Squeeze j i > k
        Identity k > l
        Unsqueeze l i > m
        Reshape m flat > n
        MatMul h w > o
        Add n o > y",
        vec![
            integers("pads", &[0, 1, 1, 1, 0, 0, 1, 1]),
            integers("starts", &[0, 1]),
            integers("ends", &[-1, 9]),
            integers("axes", &[1, -1]),
            integers("steps", &[1, 2]),
            integers("zero", &[0]),
            integers("rest", &[-1]),
            integers("flat", &[1, 2]),
            floats("w", &[36, 2]),
        ],
    );
    vec![
        convolutional,
        activations,
        shapes,
        attention(),
        lookups(),
        moves(),
    ]
}

/// Attention with a mask of keys, as it is written out.
fn attention() -> Vec<u8> {
    model(
        &[1, 3, 4],
        "MatMul x q > a
        MatMul x k > b
        MatMul x v > c
        Transpose b > d perm=0,2,1
        MatMul a d > e
        Where hidden far e > f
        Softmax f > g axis=-1
        MatMul g c > y",
        vec![
            floats("q", &[4, 4]),
            floats("k", &[4, 4]),
            floats("v", &[4, 4]),
            integers("hidden", &[0, 0, 1]),
            scalar("far", -1e9),
        ],
    )
}

/// Products by letters, sums along an axis, lookups and choices by constants, and what is computed of constants.
fn lookups() -> Vec<u8> {
    model(
        &[1, 2, 3],
        "Transpose x > a perm=0,2,1
        Einsum a w > b equation=bij,jk->bik
        Trilu b > c upper=0
        CumSum c one > d
        Reshape at two > e
        GatherND d e > f
        MatMul m n > g
        Softmax g > h axis=-1
        ReduceSum h all > i keepdims=0
        NonZero chosen > j
        Squeeze j zero > k
        Gather f k > l axis=0
        Mul l i > m0
        Where first m0 small > n0
        Unsqueeze n0 zero > y",
        vec![
            floats("w", &[2, 4]),
            floats("m", &[2, 2, 3]),
            floats("n", &[2, 3, 2]),
            integers("one", &[1]),
            integers("zero", &[0]),
            integers("at", &[0, 1, 2, 0, 0, 3]),
            integers("two", &[2, 3]),
            integers("all", &[0, 1, 2]),
            integers("chosen", &[1, 1, 0]),
            integers("first", &[1, 0]),
            scalar("small", 0.5),
        ],
    )
}

/// Sizes, channels to places and back, norms, gates and channels after each other.
fn moves() -> Vec<u8> {
    model(
        &[1, 4, 4, 4],
        "Resize x   sizes > a mode=linear
        DepthToSpace a > b blocksize=2 mode=CRD
        ConvTranspose b w > c strides=2,2
        InstanceNormalization c s t > d epsilon=1e-5
        ReduceMean d > e axes=2,3 keepdims=1
        HardSigmoid e > f alpha=0.25 beta=0.5
        Expand f shape > g
        Mul d g > h
        Concat h d > i axis=1
        PRelu i slope > j
        GlobalAveragePool j > k
        Flatten k > l axis=1
        LayerNormalization l u v > y axis=-1",
        vec![
            integers("sizes", &[1, 4, 8, 8]),
            integers("shape", &[1, 2, 32, 32]),
            floats("w", &[1, 2, 2, 2]),
            floats("s", &[2]),
            floats("t", &[2]),
            floats("slope", &[4, 1, 1]),
            floats("u", &[4]),
            floats("v", &[4]),
        ],
    )
}

/// 6×5 pixels that differ.
fn picture(color: ColorType, format: ImageFormat) -> Vec<u8> {
    let length = 6 * 5 * usize::from(color.bytes_per_pixel());
    let pixels: Vec<u8> = (0..length).map(|i| (i * 37) as u8).collect();
    let mut out = Cursor::new(Vec::new());
    image::write_buffer_with_format(&mut out, &pixels, 6, 5, color, format).expect("a valid seed");
    out.into_inner()
}

/// Black pixels.
fn black(picture: DynamicImage) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    picture
        .write_to(&mut out, ImageFormat::Png)
        .expect("a valid seed");
    out.into_inner()
}

/// 6×5 pixels, grey, coloured, transparent, deep.
pub(crate) fn png() -> Vec<Vec<u8>> {
    use ColorType::{L8, L16, Rgb8, Rgba8};
    [L8, Rgb8, Rgba8, L16]
        .map(|c| picture(c, ImageFormat::Png))
        .to_vec()
}

/// 1024×1024 pixels in some KiB: 3 MiB as red, green and blue.
pub(crate) fn large_png() -> Vec<u8> {
    black(DynamicImage::new_luma8(1024, 1024))
}

/// 6×5 pixels, coloured and grey; and a PNG, as what lies in the file is told by its first bytes, not by its name.
pub(crate) fn jpeg() -> Vec<Vec<u8>> {
    let [coloured, grey] = [ColorType::Rgb8, ColorType::L8].map(|c| picture(c, ImageFormat::Jpeg));
    vec![coloured, grey, black(DynamicImage::new_rgb8(2, 2))]
}

/// One mutant of a JPEG file: segments are moved, doubled and cut, the frame's header is edited, the rest is bytes.
pub(crate) fn mutate_jpeg(r: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut out = r.pick(seeds).clone();
    for _ in 0..r.few() {
        let markers: Vec<usize> = (0..out.len().saturating_sub(3))
            .filter(|&i| out[i] == 0xff && !matches!(out[i + 1], 0 | 0xff))
            .collect();
        let at = markers.get(r.below(markers.len())).copied().unwrap_or(0);
        let length = |l: &[u8]| 2 + usize::from(u16::from_be_bytes([l[0], l[1]]));
        let end = (at + out.get(at + 2..at + 4).map_or(0, length)).min(out.len());
        match r.below(8) {
            0 => drop(out.drain(at..end)),
            1 => {
                let part = out[at..end].to_vec();
                bytes::insert(&mut out, end, &part);
            }
            2 => {
                let value = (r.boundary() as u16).to_be_bytes();
                bytes::put(&mut out, at + 2, &value);
            }
            3 if at + 1 < out.len() => {
                out[at + 1] = *r.pick(&[
                    0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc9, 0xd0, 0xd8, 0xd9, 0xda, 0xdb, 0xdd, 0xe0,
                    0xe1, 0xe2, 0xee, 0xfe,
                ])
            }
            4 => {
                // precision, height, width, components of the frame
                if let Some(frame) = markers
                    .iter()
                    .copied()
                    .find(|&i| (0xc0..=0xc2).contains(&out[i + 1]) && i + 19 < out.len())
                {
                    let at = frame + 4 + r.below(15);
                    let large = r.one_in(256);
                    // large pictures cost time, so they are rare
                    out[at] = if at < frame + 9 && !large {
                        r.below(40) as u8
                    } else {
                        r.next() as u8
                    };
                    if !large && (frame + 5..frame + 9).contains(&at) {
                        (out[frame + 5], out[frame + 7]) = (0, 0);
                    }
                }
            }
            _ => bytes::mutate(r, &mut out),
        }
    }
    out
}

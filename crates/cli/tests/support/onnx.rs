//! Small ONNX files of pictures.

use nn::format::onnx_proto::{
    DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use prost::Message;

fn info(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = |&dim_value: &i64| DimensionProto {
        dim_value,
        ..DimensionProto::default()
    };
    let shape = TensorShapeProto {
        dim: dims.iter().map(dim).collect(),
    };
    let tensor_type = Some(TensorTypeProto {
        elem_type: 1,
        shape: Some(shape),
    });
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { tensor_type }),
    }
}

/// Each channel's mean over a picture of 8×8, behind these operators with one constant for each input but the first.
pub(crate) fn means(channels: i64, operators: &[(&str, &[&[f32]])]) -> Vec<u8> {
    means_of(&[1, channels, 8, 8], operators)
}

/// As [`means`], over an input of these axes.
pub(crate) fn means_of(input: &[i64], operators: &[(&str, &[&[f32]])]) -> Vec<u8> {
    let (mut node, mut initializer) = (Vec::new(), Vec::new());
    let last = [("GlobalAveragePool", &[][..]), ("Flatten", &[])];
    let mut from = "x".to_string();
    for (i, (op, constants)) in operators.iter().chain(&last).enumerate() {
        let mut inputs = vec![from];
        for (j, values) in constants.iter().enumerate() {
            let mut dims = vec![values.len() as i64];
            // sums and products are by channel
            if *op != "BatchNormalization" && values.len() > 1 {
                dims.extend([1, 1]);
            }
            inputs.push(format!("c{i}_{j}"));
            initializer.push(TensorProto {
                name: format!("c{i}_{j}"),
                dims,
                data_type: 1,
                float_data: values.to_vec(),
                ..TensorProto::default()
            });
        }
        from = format!("v{i}");
        node.push(NodeProto {
            input: inputs,
            output: vec![from.clone()],
            op_type: op.to_string(),
            ..NodeProto::default()
        });
    }
    let model = ModelProto {
        ir_version: 8,
        graph: Some(GraphProto {
            node,
            initializer,
            input: vec![info("x", input)],
            output: vec![info(&from, &[])],
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

//! Import of single ONNX operators: attributes, constant inputs, shapes without their batch axis.

use super::element::Element;
use super::onnx_constant::{Constant, FOLDED, fold, type_name};
use super::onnx_import::{Import, Pattern, Value, constant_node, standard};
use super::onnx_proto::{AttributeProto, NodeProto};
use super::onnx_schema;
use crate::Result;
use crate::error::Error;
use crate::graph::NodeId;
use crate::op::{BatchNorm, Conv2d, Linear, MaxPool, Nonlinearity, Op, Padding, PaddingCounts};
use crate::tensor::{Parameter, Shape};
use approx::Activation;

/// One node being imported.
pub(super) struct Importing<'i, 'a> {
    pub(super) import: &'i mut Import<'a>,
    pub(super) node: &'a NodeProto,
    pub(super) name: String,
}

impl<'a> Importing<'_, 'a> {
    pub(super) fn invalid(&self, detail: impl Into<String>) -> Error {
        Error::invalid(&self.name, &self.node.op_type, detail)
    }

    fn unsupported(&self, remedy: &str) -> Error {
        let operator = match self.node.domain.as_str() {
            "" => self.node.op_type.clone(),
            domain => format!("{domain}.{}", self.node.op_type),
        };
        Error::UnsupportedOperator {
            node: self.name.clone(),
            operator,
            remedy: remedy.into(),
        }
    }

    pub(super) fn add(&mut self, op: Op<Nonlinearity>, inputs: &[NodeId]) -> Result<Value> {
        let id = self.import.network.add(&self.name, op, inputs)?;
        Ok(Value::Node(id))
    }

    /// An auxiliary node before or after the named one.
    pub(super) fn add_as(
        &mut self,
        suffix: &str,
        op: Op<Nonlinearity>,
        inputs: &[NodeId],
    ) -> Result<NodeId> {
        let name = format!("{}.{suffix}", self.name);
        self.import.network.add(name, op, inputs)
    }

    /// The name of input number `i`, None when absent.
    fn input(&self, i: usize) -> Option<&'a str> {
        let name = self.node.input.get(i).map(String::as_str);
        name.filter(|n| !n.is_empty())
    }

    fn value_of(&self, i: usize) -> Result<&Value> {
        let name = self.input(i);
        let name = name.ok_or_else(|| self.invalid(format!("input {i} is missing")))?;
        let value = self.import.values.get(name);
        value.ok_or_else(|| self.invalid(format!("input {name} is not computed before it")))
    }

    pub(super) fn computed(&self, i: usize) -> Result<NodeId> {
        match self.value_of(i)? {
            Value::Node(id) => Ok(*id),
            _ => Err(self.invalid(format!(
                "input {i} is a constant where a computed value is needed"
            ))),
        }
    }

    fn constant(&self, i: usize) -> Result<&Constant> {
        match self.value_of(i)? {
            Value::Constant(c) => Ok(c),
            Value::Node(_) => {
                Err(self.invalid(format!("input {i} is computed where a constant is needed")))
            }
        }
    }

    pub(super) fn optional_constant(&self, i: usize) -> Result<Option<&Constant>> {
        self.input(i).map(|_| self.constant(i)).transpose()
    }

    fn parameter(&self, i: usize) -> Result<Parameter> {
        let c = self.constant(i)?;
        self.import.charge(c.values.len())?;
        self.weight(i, c.dims.clone(), &c.values)
    }

    fn weight(&self, i: usize, dims: Vec<usize>, values: &[f64]) -> Result<Parameter> {
        let values: Vec<_> = values.iter().map(|&v| v as f32).collect();
        Parameter::new(self.input(i).unwrap_or(&self.name), dims, values)
    }

    fn attribute(&self, name: &str) -> Option<&'a AttributeProto> {
        self.node.attribute.iter().find(|a| a.name == name)
    }

    pub(super) fn integer(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |a| a.i)
    }

    pub(super) fn float(&self, name: &str, default: f64) -> f64 {
        self.attribute(name).map_or(default, |a| f64::from(a.f))
    }

    pub(super) fn text(&self, name: &str) -> String {
        let text = self.attribute(name).map(|a| &a.s[..]).unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    }

    fn integers(&self, name: &str) -> Option<&'a [i64]> {
        self.attribute(name).map(|a| &a.ints[..])
    }

    /// The integers of input number `i`, None when absent.
    pub(super) fn integers_of(&self, i: usize) -> Result<Option<Vec<i64>>> {
        let given = self.optional_constant(i)?.map(Constant::integers);
        let whole = || self.invalid(format!("input {i} must hold integers"));
        given.map(|g| g.ok_or_else(whole)).transpose()
    }

    /// A list from an attribute (old operator sets) or else from input number `i`.
    pub(super) fn list(&self, attribute: &str, i: usize) -> Result<Option<Vec<i64>>> {
        match self.integers(attribute) {
            Some(_) if self.input(i).is_some() => Err(self.invalid(format!(
                "{attribute} is given twice: as attribute and as input"
            ))),
            Some(list) => Ok(Some(list.to_vec())),
            None => self.integers_of(i),
        }
    }

    /// Two positive numbers; 1, 1 when absent.
    fn pair(&self, name: &str) -> Result<(usize, usize)> {
        match self.integers(name) {
            None => Ok((1, 1)),
            Some(&[a, b]) if a > 0 && b > 0 => Ok((self.length(a)?, self.length(b)?)),
            Some(other) => {
                Err(self.invalid(format!("{name} {other:?} is not two positive numbers")))
            }
        }
    }

    pub(super) fn length(&self, v: i64) -> Result<usize> {
        // Far above every real network, and small enough that sums can't overflow.
        let size = usize::try_from(v).ok().filter(|&v| v <= 1 << 30);
        size.ok_or_else(|| self.invalid(format!("{v} is no possible size here")))
    }

    pub(super) fn shape(&self, id: NodeId) -> Shape {
        self.import.network.shape(id)
    }

    /// The value that the node gives; it is added to the network.
    pub(super) fn value(mut self) -> Result<Value> {
        let node = self.node;
        if !standard(&node.domain) {
            return Err(self.unsupported("export with the standard ONNX operators"));
        }
        if let Some(detail) = onnx_schema::refusal(node) {
            return Err(self.invalid(detail));
        }
        if let Pattern::Activation(a, x) = self.import.pattern(node) {
            let Some(Value::Node(x)) = self.import.values.get(x).cloned() else {
                return Err(self.invalid("an activation of a constant"));
            };
            return self.add(Op::Elementwise(a.into()), &[x]);
        }
        if node.op_type == "Constant" {
            return constant_node(node).map(Value::Constant);
        }
        let constants: Option<Vec<&Constant>> = (0..node.input.len())
            .map(|i| match self.value_of(i) {
                Ok(Value::Constant(c)) => Some(c),
                _ => None,
            })
            .collect();
        if let Some(constants) = constants.filter(|c| !c.is_empty()) {
            // these two make new values, the others pass them on
            if matches!(node.op_type.as_str(), "Concat" | "Gather") {
                self.import
                    .charge(constants.iter().map(|c| c.values.len()).sum())?;
            }
            let folded = fold(node, &constants).map(Value::Constant);
            return folded.ok_or_else(|| self.unsupported(&format!(
                "all of its inputs are constants, and of such only these are computed here, where ONNX says what they give: {FOLDED}; fold the model's constants first, as onnx-simplifier and ONNX Runtime's offline optimisation do"
            )));
        }
        match node.op_type.as_str() {
            "Conv" => self.conv(),
            "Gemm" => self.gemm(),
            "MatMul" => self.matmul(),
            "Add" | "Mul" | "Sub" | "Div" => self.binary(),
            "BatchNormalization" => self.batch_norm(),
            "Gelu" if !matches!(self.text("approximate").as_str(), "" | "none") => {
                Err(self.unsupported("its tanh form is another function; export with approximate=\"none\""))
            }
            "AveragePool" => self.average_pool(),
            "GlobalAveragePool" => self.unary(Op::GlobalAvgPool),
            "MaxPool" => {
                if self.node.output.get(1).is_some_and(|o| !o.is_empty()) {
                    return Err(self.unsupported("its second output, the positions of the maxima, is not read; export without return_indices"));
                }
                let (x, pool) = self.windows()?;
                self.add(Op::MaxPool(pool), &[x])
            }
            "GlobalMaxPool" => {
                let x = self.computed(0)?;
                let size = self.spatial(x)?;
                let pool = MaxPool { kernel: size, stride: size, padding: Padding::default(), ceil_mode: false };
                self.add(Op::MaxPool(pool), &[x])
            }
            "ReduceMean" => self.reduce_mean(),
            "Pad" => self.pad(),
            "Concat" => self.concat(),
            "Slice" => self.slice(),
            "Flatten" => self.flatten(),
            "Reshape" => self.reshape(),
            "Squeeze" => self.squeeze(),
            "Unsqueeze" => self.unsqueeze(),
            "Shape" => {
                let dims = self.shape(self.computed(0)?).dims().into_iter();
                let dims: Vec<f64> = std::iter::once(1).chain(dims).map(|d| d as f64).collect();
                let rank = dims.len() as i64;
                let at = |name, default| {
                    let v = self.integer(name, default);
                    (if v < 0 { v.saturating_add(rank) } else { v }).clamp(0, rank) as usize
                };
                let (start, end) = (at("start", 0), at("end", rank));
                let asked = dims[start..end.max(start)].iter().copied();
                Ok(Value::Constant(Constant::list(Element::I64, asked)))
            }
            "Identity" => self.unary(Op::Identity),
            "Cast" => match self.integer("to", 0) {
                // the network computes in floats anyway
                1 | 10 | 11 | 16 => self.unary(Op::Identity),
                to => Err(self.unsupported(&format!(
                    "it makes computed values {}, which is no polynomial; export the model without it",
                    type_name(to)
                ))),
            },
            "Dropout" => {
                if self.optional_constant(2)?.is_some_and(|t| t.scalar() != Some(0.0)) {
                    return Err(self.unsupported("it is in training mode; export in eval mode"));
                }
                self.unary(Op::Identity)
            }
            "LeakyRelu" | "HardSigmoid" | "Elu" | "PRelu" | "Clip" | "Softmax" => Err(self.unsupported(&format!(
                "use one of {} inside and leave a final Softmax to the client",
                Activation::names()
            ))),
            operator => match Activation::of_onnx_operator(operator) {
                Some(a) => self.unary(Op::Elementwise(a.into())),
                None => Err(self.unsupported(&format!("read are {}", onnx_schema::names()))),
            },
        }
    }

    fn unary(&mut self, op: Op<Nonlinearity>) -> Result<Value> {
        let x = self.computed(0)?;
        self.add(op, &[x])
    }

    /// Explicit pads or those that `auto_pad` asks for; `spans` are the dilated kernel's sizes.
    fn padding(
        &self,
        size: (usize, usize),
        spans: (usize, usize),
        stride: (usize, usize),
    ) -> Result<Padding> {
        let same = |length: usize, span: usize, stride: usize| {
            (length.div_ceil(stride).saturating_sub(1) * stride)
                .saturating_add(span)
                .saturating_sub(length)
        };
        match self.text("auto_pad").as_str() {
            "" | "NOTSET" => match self.integers("pads") {
                None => Ok(Padding::default()),
                Some(&[top, left, bottom, right]) => {
                    let side = |v: i64| self.length(v);
                    Ok([side(top)?, side(bottom)?, side(left)?, side(right)?].into())
                }
                Some(other) => Err(self.invalid(format!("pads {other:?} are not four numbers"))),
            },
            "VALID" => Ok(Padding::default()),
            mode @ ("SAME_UPPER" | "SAME_LOWER") => {
                let h = same(size.0, spans.0, stride.0);
                let w = same(size.1, spans.1, stride.1);
                let upper = |n: usize| [n / 2, n.div_ceil(2)][usize::from(mode == "SAME_LOWER")];
                let (top, left) = (upper(h), upper(w));
                Ok([top, h - top, left, w - left].into())
            }
            other => Err(self.invalid(format!("auto_pad {other} is unknown"))),
        }
    }

    pub(super) fn spatial(&self, x: NodeId) -> Result<(usize, usize)> {
        match self.shape(x) {
            Shape::Image { height, width, .. } => Ok((height, width)),
            other => Err(self.invalid(format!("needs an image, {other} was given"))),
        }
    }

    /// Channels, or features, one value's after the other's: each with channels of zeros around, summed.
    fn concat(&mut self) -> Result<Value> {
        let count = self.node.input.len();
        let mut parts = Vec::new();
        for i in 0..count {
            let x = self.computed(i)?;
            parts.push(match self.shape(x) {
                Shape::Vector(n) => {
                    let to = Op::Reshape(Shape::image(n, 1, 1));
                    (self.add_as(&format!("part{i}.picture"), to, &[x])?, n, 1)
                }
                shape => match shape.as_image() {
                    Some((channels, ..)) => (x, channels, 3),
                    None => return Err(self.unsupported("of other values than pictures and rows")),
                },
            });
        }
        let axes = parts[0].2;
        let axis = self.integer("axis", 1);
        let along = if axis < 0 { axis + axes + 1 } else { axis };
        if along != 1 || parts.iter().any(|p| p.2 != axes) {
            return Err(self.unsupported("along another axis than channels or features"));
        }
        let sizes: Vec<usize> = parts.iter().map(|p| p.1).collect();
        let total = sizes.iter().try_fold(0usize, |sum, n| sum.checked_add(*n));
        let total = self.length(total.and_then(|t| t.try_into().ok()).unwrap_or(i64::MAX))?;
        let (mut sum, mut before): (Option<NodeId>, usize) = (None, 0);
        for (i, &(x, channels, _)) in parts.iter().enumerate() {
            let pad = Op::Pad(crate::Pad {
                channels: (before, total - before - channels),
                spatial: Padding::default(),
            });
            let y = self.add_as(&format!("part{i}"), pad, &[x])?;
            before += channels;
            sum = Some(match sum {
                None => y,
                Some(s) => self.add_as(&format!("sum{i}"), Op::Add, &[s, y])?,
            });
        }
        let sum = sum.ok_or_else(|| self.invalid("no inputs"))?;
        match axes {
            1 => self.add(Op::Flatten, &[sum]),
            _ => self.add(Op::Identity, &[sum]),
        }
    }

    fn conv(&mut self) -> Result<Value> {
        let x = self.computed(0)?;
        let weight = self.parameter(1)?;
        let &[_, _, kh, kw] = weight.shape() else {
            return Err(self.invalid(format!(
                "weight of shape {:?}; only convolutions over two axes are read",
                weight.shape()
            )));
        };
        let stated = self.integers("kernel_shape");
        if stated.is_some_and(|k| *k != [kh as i64, kw as i64]) {
            return Err(self.invalid("kernel_shape is not that of the weight"));
        }
        let (stride, dilation) = (self.pair("strides")?, self.pair("dilations")?);
        let span = |k: usize, d: usize| k.saturating_sub(1).saturating_mul(d).saturating_add(1);
        let spans = (span(kh, dilation.0), span(kw, dilation.1));
        let padding = self.padding(self.spatial(x)?, spans, stride)?;
        let bias = self.input(2).map(|_| self.parameter(2)).transpose()?;
        let groups = self.length(self.integer("group", 1))?;
        let conv = Conv2d {
            weight,
            bias,
            stride,
            padding,
            dilation,
            groups,
        };
        self.add(Op::Conv2d(conv), &[x])
    }

    /// The first input, which must be a vector.
    fn vector(&mut self) -> Result<NodeId> {
        let x = self.computed(0)?;
        match self.shape(x) {
            Shape::Vector(_) => Ok(x),
            shape => Err(self.invalid(format!("needs (batch, features), {shape} was given"))),
        }
    }

    fn gemm(&mut self) -> Result<Value> {
        let x = self.vector()?;
        if self.integer("transA", 0) != 0 {
            return Err(self.invalid("transA is not supported"));
        }
        let (alpha, beta) = (self.float("alpha", 1.0), self.float("beta", 1.0));
        let weight = self.matrix(1, self.integer("transB", 0) != 0, alpha)?;
        let out = weight.shape()[0];
        let bias = match self.optional_constant(2)? {
            None => None,
            Some(c) => {
                self.import.charge(out)?;
                let mut values = c.broadcast(&[1, out]).ok_or_else(|| {
                    self.invalid(format!("bias of shape {:?} for {out} outputs", c.dims))
                })?;
                values.iter_mut().for_each(|v| *v *= beta);
                Some(self.weight(2, vec![out], &values)?)
            }
        };
        self.add(Op::Linear(Linear { weight, bias }), &[x])
    }

    /// Constant input number `i` as `(out, in)`, times `factor`; stored as `(in, out)` unless `transposed`.
    fn matrix(&self, i: usize, transposed: bool, factor: f64) -> Result<Parameter> {
        let c = self.constant(i)?;
        let &[rows, columns] = &c.dims[..] else {
            return Err(self.invalid(format!("weight of shape {:?} is no matrix", c.dims)));
        };
        self.import.charge(c.values.len())?;
        let mut values: Vec<f64> = c.values.iter().map(|v| factor * v).collect();
        if transposed {
            return self.weight(i, vec![rows, columns], &values);
        }
        // without values there is nothing to transpose, however many rows or columns there are
        if !values.is_empty() {
            let column = |o: usize| values[o..].iter().step_by(columns).copied();
            values = (0..columns).flat_map(column).collect();
        }
        self.weight(i, vec![columns, rows], &values)
    }

    fn matmul(&mut self) -> Result<Value> {
        let x = self.vector()?;
        let weight = self.matrix(1, false, 1.0)?;
        self.add(Op::Linear(Linear { weight, bias: None }), &[x])
    }

    /// Add, Mul, Sub and Div; a constant that is taken away or divided by is one that is added or multiplied by.
    fn binary(&mut self) -> Result<Value> {
        let operator = self.node.op_type.as_str();
        let op = match operator {
            "Add" | "Sub" => Op::Add,
            _ => Op::Mul,
        };
        let (mut x, constant, which) = match (self.value_of(0)?, self.value_of(1)?) {
            (Value::Node(a), Value::Node(b)) => {
                let (a, b) = (*a, *b);
                return match operator {
                    "Sub" => Err(self.unsupported(
                        "of two computed values; multiply the second by -1 and add them",
                    )),
                    "Div" => Err(self.unsupported(
                        "by a computed value is no polynomial; divide by constants only",
                    )),
                    _ => self.add(op, &[a, b]),
                };
            }
            (Value::Node(x), Value::Constant(c)) => (*x, c.clone(), 1),
            (Value::Constant(c), Value::Node(x)) => (*x, c.clone(), 0),
            _ => return Err(self.invalid("both inputs are constants")),
        };
        let shape = self.shape(x);
        let dims: Vec<usize> = std::iter::once(1).chain(shape.dims()).collect();
        self.import.charge(shape.len())?;
        let mut values = constant.broadcast(&dims).ok_or_else(|| {
            self.invalid(format!(
                "a constant of shape {:?} does not fit {shape}",
                constant.dims
            ))
        })?;
        match (operator, which) {
            ("Sub", 1) => values.iter_mut().for_each(|v| *v = -*v),
            ("Div", 1) => values.iter_mut().for_each(|v| *v = 1.0 / *v),
            ("Sub", _) => {
                self.import.charge(shape.len())?;
                let all = Parameter::new(&self.name, shape.dims(), vec![-1.0; shape.len()])?;
                let minus = self.add_as("minus", Op::Constant(shape, all), &[])?;
                x = self.add_as("negative", Op::Mul, &[x, minus])?;
            }
            ("Div", _) => {
                return Err(self.unsupported(
                    "by a computed value is no polynomial; divide by constants only",
                ));
            }
            _ => {}
        }
        let parameter = self.weight(which, shape.dims(), &values)?;
        let c = self.add_as("constant", Op::Constant(shape, parameter), &[])?;
        self.add(op, &[x, c])
    }

    fn batch_norm(&mut self) -> Result<Value> {
        let x = self.computed(0)?;
        // before operator set 14 its other outputs say so
        let others = self.node.output.iter().skip(1).any(|o| !o.is_empty());
        if others || self.integer("training_mode", 0) != 0 {
            return Err(self.invalid("it is in training mode; export in eval mode"));
        }
        if self.integer("spatial", 1) != 1 {
            return Err(self.invalid("spatial is 0; only normalisation by channel is read"));
        }
        let norm = BatchNorm {
            scale: self.parameter(1)?,
            bias: self.parameter(2)?,
            mean: self.parameter(3)?,
            variance: self.parameter(4)?,
            epsilon: self.float("epsilon", 1e-5),
        };
        self.add(Op::BatchNorm(norm), &[x])
    }

    fn average_pool(&mut self) -> Result<Value> {
        let (x, windows) = self.windows()?;
        let padding = match self.integer("count_include_pad", 0) {
            0 => PaddingCounts::Not,
            _ => PaddingCounts::AsZeros,
        };
        let (zeros, pool) = windows.average(self.spatial(x)?, padding);
        let x = match zeros {
            Some(pad) => self.add_as("pad", Op::Pad(pad), &[x])?,
            None => x,
        };
        self.add(Op::AvgPool(pool), &[x])
    }

    /// The windows of a pooling operator over its input.
    fn windows(&mut self) -> Result<(NodeId, MaxPool)> {
        let x = self.computed(0)?;
        let dilations = self.integers("dilations").unwrap_or_default();
        if dilations.iter().any(|&d| d != 1) {
            return Err(self.invalid("dilations are not supported; export without"));
        }
        if self.integers("kernel_shape").is_none() {
            return Err(self.invalid("kernel_shape is missing"));
        }
        let (kernel, stride) = (self.pair("kernel_shape")?, self.pair("strides")?);
        let padding = self.padding(self.spatial(x)?, kernel, stride)?;
        let ceil_mode = self.integer("ceil_mode", 0) != 0;
        let pool = MaxPool {
            kernel,
            stride,
            padding,
            ceil_mode,
        };
        Ok((x, pool))
    }
}

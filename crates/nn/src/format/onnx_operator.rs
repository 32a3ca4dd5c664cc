//! Import of single ONNX operators: their attributes and inputs, and which function reads each.

use super::element::Element;
use super::onnx_constant::{Constant, type_name};
use super::onnx_import::{Import, Imported, Stop, Value, View, standard};
use super::onnx_proto::{AttributeProto, NodeProto};
use super::onnx_schema;
use crate::Result;
use crate::error::Error;
use crate::graph::NodeId;
use crate::op::{Nonlinearity, NormKind, Op, Softmax};
use crate::tensor::{Parameter, Shape};
use approx::Activation;

/// Ends of a Clip of this magnitude and more are beyond every value.
const MOST_CLIPPED: f64 = 1e9;

/// Ends of a Clip that are further apart are two functions.
const WIDE_CLIP: f64 = 1e3;

/// One node being imported.
pub(super) struct Importing<'i, 'a> {
    pub(super) import: &'i mut Import<'a>,
    pub(super) node: &'a NodeProto,
    pub(super) name: String,
}

/// Whether an operator moves values and computes nothing, of constants as of computed values.
pub(super) fn moves(operator: &str) -> bool {
    matches!(
        operator,
        "Reshape"
            | "Flatten"
            | "Squeeze"
            | "Unsqueeze"
            | "Transpose"
            | "Slice"
            | "Gather"
            | "GatherElements"
            | "GatherND"
            | "Expand"
            | "Tile"
            | "Pad"
            | "DepthToSpace"
            | "SpaceToDepth"
            | "Identity"
            | "Dropout"
    )
}

/// An index below this length, which counts from the end where it is negative.
pub(super) fn below(index: i64, length: usize) -> Option<usize> {
    let from_end = if index < 0 { length as i64 } else { 0 };
    let found = usize::try_from(index.saturating_add(from_end)).ok();
    found.filter(|&i| i < length)
}

impl<'a> Importing<'_, 'a> {
    pub(super) fn invalid(&self, detail: impl Into<String>) -> Error {
        Error::invalid(&self.name, &self.node.op_type, detail)
    }

    pub(super) fn refuse<T>(&self, detail: impl Into<String>) -> Imported<T> {
        Err(Stop::New(self.invalid(detail)))
    }

    pub(super) fn unsupported(&self, remedy: &str) -> Error {
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

    /// The named node.
    pub(super) fn add(&mut self, op: Op<Nonlinearity>, inputs: &[NodeId]) -> Imported<NodeId> {
        let name = match self.import.network.contains(&self.name) {
            false => self.name.clone(),
            true => self.import.free_name(&self.name),
        };
        Ok(self.import.network.add(name, op, inputs)?)
    }

    /// An auxiliary node before or after the named one; the named one itself where its operator comes to one node.
    pub(super) fn add_as(
        &mut self,
        suffix: &str,
        op: Op<Nonlinearity>,
        inputs: &[NodeId],
    ) -> Imported<NodeId> {
        if suffix.is_empty() {
            return self.add(op, inputs);
        }
        let name = self.import.free_name(&format!("{}.{suffix}", self.name));
        Ok(self.import.network.add(name, op, inputs)?)
    }

    /// The name of input number `i`, None when absent.
    pub(super) fn input(&self, i: usize) -> Option<&'a str> {
        let name = self.node.input.get(i).map(String::as_str);
        name.filter(|n| !n.is_empty())
    }

    /// Input number `i`.
    pub(super) fn operand(&self, i: usize) -> Imported {
        let name = self.input(i);
        let name = name.ok_or_else(|| self.invalid(format!("input {i} is missing")))?;
        match self.import.values.get(name) {
            Some(Value::Refused(why)) => return Err(Stop::Earlier(*why)),
            Some(value) => return Ok(value.clone()),
            None => {}
        }
        let t = self.import.initializers.get(name);
        let t = t.ok_or_else(|| self.invalid(format!("input {name} is not computed before it")))?;
        let constant = Constant::from_proto(t, &self.import.external)?;
        self.import.charge(constant.values.len())?;
        Ok(Value::Constant(constant))
    }

    pub(super) fn computed(&self, i: usize) -> Imported<View> {
        match self.operand(i)? {
            Value::Node(view) => Ok(view),
            _ => self.refuse(format!(
                "input {i} is a constant where a computed value is needed"
            )),
        }
    }

    pub(super) fn constant(&self, i: usize) -> Imported<Constant> {
        match self.operand(i)? {
            Value::Constant(c) => Ok(c),
            _ => self.refuse(format!("input {i} is computed where a constant is needed")),
        }
    }

    pub(super) fn optional_constant(&self, i: usize) -> Imported<Option<Constant>> {
        self.input(i).map(|_| self.constant(i)).transpose()
    }

    pub(super) fn parameter(&self, i: usize) -> Imported<Parameter> {
        let c = self.constant(i)?;
        self.weight(i, c.dims.clone(), &c.values)
    }

    pub(super) fn weight(&self, i: usize, dims: Vec<usize>, values: &[f64]) -> Imported<Parameter> {
        let values: Vec<_> = values.iter().map(|&v| v as f32).collect();
        Ok(Parameter::new(
            self.input(i).unwrap_or(&self.name),
            dims,
            values,
        )?)
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&'a AttributeProto> {
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

    pub(super) fn integers(&self, name: &str) -> Option<&'a [i64]> {
        self.attribute(name).map(|a| &a.ints[..])
    }

    /// The integers of input number `i`, None when absent.
    pub(super) fn integers_of(&self, i: usize) -> Imported<Option<Vec<i64>>> {
        let given = self.optional_constant(i)?.map(|c| c.integers());
        let whole = || Stop::New(self.invalid(format!("input {i} must hold integers")));
        given.map(|g| g.ok_or_else(whole)).transpose()
    }

    /// A list from an attribute (old operator sets) or else from input number `i`.
    pub(super) fn list(&self, attribute: &str, i: usize) -> Imported<Option<Vec<i64>>> {
        match self.integers(attribute) {
            Some(_) if self.input(i).is_some() => self.refuse(format!(
                "{attribute} is given twice: as attribute and as input"
            )),
            Some(list) => Ok(Some(list.to_vec())),
            None => self.integers_of(i),
        }
    }

    pub(super) fn length(&self, v: i64) -> Result<usize> {
        // Far above every real network, and small enough that sums can't overflow.
        let size = usize::try_from(v).ok().filter(|&v| v <= 1 << 30);
        size.ok_or_else(|| self.invalid(format!("{v} is no possible size here")))
    }

    pub(super) fn lengths(&self, all: &[i64]) -> Result<Vec<usize>> {
        all.iter().map(|&v| self.length(v)).collect()
    }

    pub(super) fn shape(&self, id: NodeId) -> Shape {
        self.import.network.shape(id)
    }

    /// Axis of a tensor of so many, not negative.
    pub(super) fn axis(&self, axis: i64, rank: usize) -> Result<usize> {
        below(axis, rank)
            .ok_or_else(|| self.invalid(format!("axis {axis} lies outside of the tensor's {rank}")))
    }

    /// Axes, not negative, sorted.
    pub(super) fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>> {
        let axes = axes.iter().map(|&a| self.axis(a, rank));
        let mut axes = axes.collect::<Result<Vec<_>>>()?;
        axes.sort_unstable();
        match axes.windows(2).any(|pair| pair[0] == pair[1]) {
            true => Err(self.invalid("an axis is named twice")),
            false => Ok(axes),
        }
    }

    /// The axes that are reduced; None where nothing is summed, but what is done to each value stays.
    pub(super) fn reduced_axes(&self, rank: usize) -> Imported<Option<Vec<usize>>> {
        let list = self.list("axes", 1)?.unwrap_or_default();
        Ok(match list.is_empty() {
            true if self.integer("noop_with_empty_axes", 0) != 0 => None,
            true => Some((0..rank).collect()),
            false => Some(self.axes(&list, rank)?),
        })
    }

    /// The values that the node gives; what it computes is added to the network.
    pub(super) fn values(mut self) -> Imported<Vec<Value>> {
        let node = self.node;
        if !standard(&node.domain) {
            return Err(self
                .unsupported("export with the standard ONNX operators")
                .into());
        }
        if let Some(detail) = onnx_schema::refusal(node) {
            return self.refuse(detail);
        }
        if let Some((a, x)) = self.import.pattern(node)
            && let Some(Value::Node(x)) = self.import.values.get(x).cloned()
        {
            return Ok(vec![Value::Node(self.act("", a, &x)?)]);
        }
        if node.op_type == "Constant" {
            return Ok(vec![Value::Constant(self.stated()?)]);
        }
        // softmax as torch guards it against rows of which nothing is seen
        if node.op_type == "Where" && self.guarded(node).is_some() {
            return Ok(vec![Value::Node(self.computed(2)?)]);
        }
        if node.op_type == "Split" {
            return self.split();
        }
        if let Some(constant) = self.folded()? {
            return Ok(vec![Value::Constant(constant)]);
        }
        self.value().map(|v| vec![v])
    }

    fn value(&mut self) -> Imported {
        let computed = match self.node.op_type.as_str() {
            "Cast" => return self.movement(),
            operator if moves(operator) => return self.movement(),
            "Where" => return self.choice(),
            "Einsum" => return self.einsum(),
            "Conv" => self.conv(),
            "ConvTranspose" => self.conv_transpose(),
            "Gemm" => self.gemm(),
            "MatMul" => self.matmul(),
            "Attention" => self.attention_operator(),
            "Add" | "Mul" | "Sub" | "Div" | "Pow" | "Sum" | "Mean" | "Max" | "Min" | "PRelu" => {
                self.arithmetic()
            }
            "Neg" => self.computed(0).and_then(|x| self.affine(&x, -1.0, 0.0)),
            "Abs" => self.computed(0).and_then(|x| self.absolute(&x)),
            "BatchNormalization" => self.batch_norm(),
            "InstanceNormalization" => self.instance_norm(),
            "GroupNormalization" => self.group_norm(),
            "LayerNormalization" => self.layer_norm(NormKind::Layer),
            "RMSNormalization" => self.layer_norm(NormKind::RootMeanSquare),
            "LpNormalization" => self.lp_norm(),
            "AveragePool" => self.average_pool(),
            "MaxPool" => self.max_pool(),
            "GlobalAveragePool" => self.computed(0).and_then(|x| {
                let spatial: Vec<usize> = (2..x.axes.rank()).collect();
                self.mean(&x, &spatial)
            }),
            "GlobalMaxPool" => self.computed(0).and_then(|x| {
                let spatial: Vec<usize> = (2..x.axes.rank()).collect();
                self.maximum(&x, &spatial)
            }),
            "ReduceMean" | "ReduceSum" | "ReduceL2" | "ReduceSumSquare" | "ReduceMax"
            | "ReduceMin" => self.reduce(),
            "CumSum" => self.running_sum(),
            "Trilu" => self.part_of_matrix(),
            "Concat" => self.concat(),
            "Resize" | "Upsample" => self.resize(),
            "Softmax" => self.softmax(Softmax::Shares),
            "LogSoftmax" => self.softmax(Softmax::Logarithms),
            "Shape" => return self.shape_value(),

            _ => self.activation(),
        };
        computed.map(Value::Node)
    }

    /// The `x` of `Where(IsNaN(x), c, x)`.
    pub(super) fn guarded(&self, node: &NodeProto) -> Option<String> {
        let [asked, _, x] = &node.input[..] else {
            return None;
        };
        let test = self.import.made_by(asked, "IsNaN")?;
        (test.input.first() == Some(x)).then(|| x.clone())
    }

    /// The lengths of a tensor's axes, or of those that are asked for.
    fn shape_value(&mut self) -> Imported {
        let dims = match self.operand(0)? {
            Value::Node(view) => view.axes.dims(),
            Value::Constant(c) => c.dims,
            Value::Refused(why) => return Err(Stop::Earlier(why)),
        };
        let rank = dims.len() as i64;
        let at = |name, default| {
            let v = self.integer(name, default);
            (if v < 0 { v.saturating_add(rank) } else { v }).clamp(0, rank) as usize
        };
        let (start, end) = (at("start", 0), at("end", rank));
        let asked = dims[start..end.max(start)].iter().map(|&d| d as f64);
        Ok(Value::Constant(Constant::list(Element::I64, asked)))
    }

    /// A function of each value, with what its attributes say.
    fn activation(&mut self) -> Imported<View> {
        let operator = self.node.op_type.as_str();
        let known = Activation::of_onnx_operator(operator);
        let parameters = matches!(
            operator,
            "LeakyRelu"
                | "HardSigmoid"
                | "Elu"
                | "Celu"
                | "Selu"
                | "Clip"
                | "Gelu"
                | "Sqrt"
                | "Reciprocal"
                | "ThresholdedRelu"
        );
        if known.is_none() && !parameters {
            return Err(self.unsupported(&self.advice()).into());
        }
        let x = self.computed(0)?;
        match operator {
            "Gelu" => match self.text("approximate").as_str() {
                "" | "none" => self.act("", Activation::Gelu, &x),
                "tanh" => self.act("", Activation::GeluTanh, &x),
                other => self.refuse(format!("approximate is {other:?}; none and tanh are read")),
            },
            "LeakyRelu" => {
                let alpha = self.float("alpha", 0.01);
                self.sloped(&x, alpha)
            }
            "HardSigmoid" => {
                let (alpha, beta) = (self.float("alpha", 0.2), self.float("beta", 0.5));
                self.hard_sigmoid(&x, alpha, beta)
            }
            "Clip" => self.clip(&x),
            "Elu" => {
                let alpha = self.float("alpha", 1.0);
                self.elu(&x, (alpha, 1.0), 1.0)
            }
            "Celu" => {
                let alpha = self.float("alpha", 1.0);
                if alpha <= 0.0 {
                    return self.refuse(format!("alpha is {alpha}; only positive ones are read"));
                }
                self.elu(&x, (alpha, alpha), 1.0)
            }
            "Selu" => {
                let alpha = self.float("alpha", 1.673_263_2);
                let gamma = self.float("gamma", 1.050_701);
                if (alpha - 1.673_263_2).abs() < 1e-5 && (gamma - 1.050_701).abs() < 1e-5 {
                    return self.act("", Activation::Selu, &x);
                }
                self.elu(&x, (alpha, 1.0), gamma)
            }
            "Sqrt" => self.act("", Activation::Sqrt, &x),
            "Reciprocal" => self.act("", Activation::Reciprocal, &x),
            _ => match known {
                Some(known) => self.act("", known, &x),
                None => Err(self.unsupported(&self.advice()).into()),
            },
        }
    }

    /// What helps where an operator is not read.
    pub(super) fn advice(&self) -> String {
        let hint = match self.node.op_type.as_str() {
            "Exp" | "Log" | "Sin" | "Cos" | "Erf" => {
                "it is read of constants only; a softmax, a sigmoid, a softplus, an ELU or a GELU that is written out of it is read where it is exported as the function that it is (torch.softmax, torch.sigmoid, …), and in the place of another the network is to be trained with one of these; "
            }
            operator if onnx_schema::of_constants(operator) => "it is read of constants only; ",
            "LSTM" | "GRU" | "RNN" => {
                "recurrent networks are not read; use convolutions or attention; "
            }
            "Where" | "Greater" | "Less" | "Equal" | "ArgMax" | "TopK" | "NonZero" | "Floor"
            | "Ceil" | "Round" | "Sign" => {
                "comparing and rounding computed values is no polynomial; leave it to the client; "
            }
            "GridSample" | "RoiAlign" | "NonMaxSuppression" => {
                "places that depend on computed values are not read; "
            }
            _ => "",
        };
        format!("{hint}read are {}", onnx_schema::names())
    }

    /// 2·ReLU(x) − x.
    pub(super) fn absolute(&mut self, x: &View) -> Imported<View> {
        let positive = self.act("positive", Activation::Relu, x)?;
        let twice = self.affine(&positive, 2.0, 0.0)?;
        let less = self.affine(x, -1.0, 0.0)?;
        self.both(Op::Add, &twice, &less)
    }

    /// α·x + (1 − α)·ReLU(x).
    fn sloped(&mut self, x: &View, alpha: f64) -> Imported<View> {
        let positive = self.act("positive", Activation::Relu, x)?;
        let positive = self.affine(&positive, 1.0 - alpha, 0.0)?;
        let all = self.affine(x, alpha, 0.0)?;
        self.both(Op::Add, &all, &positive)
    }

    /// min(max(αx + β, 0), 1).
    pub(super) fn hard_sigmoid(&mut self, x: &View, alpha: f64, beta: f64) -> Imported<View> {
        // the registry's is that of x/6 + 1/2
        let (factor, shift) = (6.0 * alpha, 6.0 * beta - 3.0);
        let inner = match (factor - 1.0).abs() < 1e-6 && shift.abs() < 1e-6 {
            true => x.clone(),
            false => self.affine(x, factor, shift)?,
        };
        self.act("", Activation::HardSigmoid, &inner)
    }

    /// γ·(x above 0, α(e^(x/β) − 1) below) = γα·ELU(x/β) + γ(1 − α/β)·ReLU(x), where β is 1 or α.
    fn elu(&mut self, x: &View, (alpha, beta): (f64, f64), gamma: f64) -> Imported<View> {
        let inner = self.affine(x, 1.0 / beta, 0.0)?;
        let y = self.act("", Activation::Elu, &inner)?;
        let y = self.affine(&y, gamma * alpha, 0.0)?;
        let rest = gamma * (1.0 - alpha / beta);
        if rest == 0.0 {
            return Ok(y);
        }
        let positive = self.act("positive", Activation::Relu, x)?;
        let positive = self.affine(&positive, rest, 0.0)?;
        self.both(Op::Add, &y, &positive)
    }

    fn clip(&mut self, x: &View) -> Imported<View> {
        let end = |name: &str, i: usize| -> Imported<Option<f64>> {
            let given = match self.attribute(name) {
                Some(a) => Some(f64::from(a.f)),
                None => self
                    .optional_constant(i)?
                    .map(|c| c.scalar().unwrap_or(f64::NAN)),
            };
            Ok(given)
        };
        // no encrypted value gets as large as the ends that exporters write for none
        let low = end("min", 1)?.filter(|&v| v.is_nan() || v > -MOST_CLIPPED);
        let high = end("max", 2)?.filter(|&v| v.is_nan() || v < MOST_CLIPPED);
        match (low, high) {
            (None, None) => Ok(x.clone()),
            (Some(low), Some(high)) if low < high => {
                if (low, high) == (0.0, 6.0) {
                    return self.act("", Activation::Relu6, x);
                }
                let width = high - low;
                if width > WIDE_CLIP {
                    // low + ReLU(x − low) − ReLU(x − high): what is divided by the width would lose as much precision
                    let above = self.affine(x, 1.0, -low)?;
                    let above = self.act("above", Activation::Relu, &above)?;
                    let over = self.affine(x, 1.0, -high)?;
                    let over = self.act("over", Activation::Relu, &over)?;
                    let over = self.affine(&over, -1.0, low)?;
                    return self.both(Op::Add, &above, &over);
                }
                let y = self.hard_sigmoid(x, 1.0 / width, -low / width)?;
                self.affine(&y, width, low)
            }
            (Some(low), None) if low < MOST_CLIPPED => {
                let above = self.affine(x, 1.0, -low)?;
                let above = self.act("", Activation::Relu, &above)?;
                self.affine(&above, 1.0, low)
            }
            (None, Some(high)) if high > -MOST_CLIPPED => {
                let below = self.affine(x, -1.0, high)?;
                let below = self.act("", Activation::Relu, &below)?;
                self.affine(&below, -1.0, high)
            }
            _ => {
                let said = |v: Option<f64>| v.map_or("none".into(), |v| v.to_string());
                self.refuse(format!(
                    "its ends {} and {} are not in order, or no numbers to compute with",
                    said(low),
                    said(high)
                ))
            }
        }
    }

    /// The greatest over these axes, which stay with length 1.
    pub(super) fn maximum(&mut self, x: &View, over: &[usize]) -> Imported<View> {
        let dims = x.axes.dims();
        let laid = self.laid(x)?;
        let mut order: Vec<usize> = laid.order;
        order.retain(|k| !over.contains(k));
        let count = |axes: &[usize]| axes.iter().map(|&k| dims[k]).product::<usize>();
        let (outer, n) = (count(&order), count(over));
        order.extend(over);
        let to = match self.shape(x.node).as_image() {
            Some((c, h, w)) if c == outer && h * w == n => Shape::image(c, h, w),
            _ => Shape::image(outer, 1, n),
        };
        let node = self.placed(x, &order, to)?;
        let kernel = to.as_image().map_or((1, 1), |(_, h, w)| (h, w));
        let pool = crate::op::MaxPool {
            kernel,
            stride: kernel,
            padding: crate::op::Padding::default(),
            ceil_mode: false,
        };
        let node = self.add_as("", Op::MaxPool(pool), &[node])?;
        let mut out = dims;
        over.iter().for_each(|&k| out[k] = 1);
        self.stored(node, &out, &order)
    }

    /// What type a Cast makes of computed values; the network computes in floats anyway.
    pub(super) fn cast_computed(&self) -> Imported<()> {
        match self.integer("to", 0) {
            1 | 10 | 11 | 16 => Ok(()),
            to => Err(self.unsupported(&format!(
                "it makes computed values {}, which is no polynomial; export the model without it",
                type_name(to)
            ))
            .into()),
        }
    }
}

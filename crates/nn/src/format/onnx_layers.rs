//! Import of convolutions, pooling, dense layers, norms with weights, and products of matrices; attention as exporters write it.

use super::element::Element;
use super::onnx_axes::Axes;
use super::onnx_constant::Constant;
use super::onnx_import::{Imported, Stop, Value, View};
use super::onnx_move::broadcast_dims;
use super::onnx_operator::Importing;
use super::onnx_proto::NodeProto;
use crate::attention::{AttentionScheme, Mask, Order};
use crate::op::{
    Attention, BatchNorm, Conv2d, MaxPool, NormKind, Op, Padding, PaddingCounts, Softmax,
};
use crate::tensor::{Parameter, Shape};

/// Two numbers, of rows and columns.
type Pair = (usize, usize);

impl Importing<'_, '_> {
    /// Positive numbers for each spatial axis, of which there are one or two; 1 where absent.
    fn pair(&self, name: &str) -> Imported<Pair> {
        match self.integers(name) {
            None => Ok((1, 1)),
            Some(&[a]) if a > 0 => Ok((1, self.length(a)?)),
            Some(&[a, b]) if a > 0 && b > 0 => Ok((self.length(a)?, self.length(b)?)),
            Some(other) => self.refuse(format!(
                "{name} {other:?} is not one or two positive numbers"
            )),
        }
    }

    /// Explicit pads or those that `auto_pad` asks for; `spans` are the dilated kernel's sizes.
    fn padding(&self, size: Pair, spans: Pair, stride: Pair) -> Imported<Padding> {
        let same = |length: usize, span: usize, stride: usize| {
            (length.div_ceil(stride).saturating_sub(1) * stride)
                .saturating_add(span)
                .saturating_sub(length)
        };
        let side = |v: i64| self.length(v);
        match self.text("auto_pad").as_str() {
            "" | "NOTSET" => match self.integers("pads") {
                None => Ok(Padding::default()),
                Some(&[left, right]) => Ok([0, 0, side(left)?, side(right)?].into()),
                Some(&[top, left, bottom, right]) => {
                    Ok([side(top)?, side(bottom)?, side(left)?, side(right)?].into())
                }
                Some(other) => self.refuse(format!("pads {other:?} are not two or four numbers")),
            },
            "VALID" => Ok(Padding::default()),
            mode @ ("SAME_UPPER" | "SAME_LOWER") => {
                let h = same(size.0, spans.0, stride.0);
                let w = same(size.1, spans.1, stride.1);
                let upper = |n: usize| [n / 2, n.div_ceil(2)][usize::from(mode == "SAME_LOWER")];
                let (top, left) = (upper(h), upper(w));
                Ok([top, h - top, left, w - left].into())
            }
            other => self.refuse(format!("auto_pad {other} is unknown")),
        }
    }

    /// A kernel over one or two axes as one over two.
    fn kernel(&self) -> Imported<(Vec<usize>, Constant)> {
        let weight = self.constant(1)?;
        let dims = match weight.dims[..] {
            [o, c, k] => vec![o, c, 1, k],
            [_, _, _, _] => weight.dims.clone(),
            _ => {
                return self.refuse(format!(
                    "weight of shape {:?}; only convolutions over one or two axes are read",
                    weight.dims
                ));
            }
        };
        let stated = self.integers("kernel_shape");
        let spatial: Vec<i64> = weight.dims[2..].iter().map(|&d| d as i64).collect();
        if stated.is_some_and(|k| *k != spatial) {
            return self.refuse("kernel_shape is not that of the weight");
        }
        Ok((dims, weight))
    }

    /// A picture's, or a signal's, result with as many axes as it has.
    fn pictured(&self, node: crate::NodeId, rank: usize) -> Imported<View> {
        let (c, h, w) = self
            .shape(node)
            .as_image()
            .unwrap_or((self.shape(node).len(), 1, 1));
        let dims = match rank {
            3 => vec![1, c, w],
            _ => vec![1, c, h, w],
        };
        let order: Vec<usize> = (0..dims.len()).collect();
        self.stored(node, &dims, &order)
    }

    fn sizes(&self, x: crate::NodeId) -> Pair {
        self.shape(x).as_image().map_or((1, 1), |(_, h, w)| (h, w))
    }

    pub(super) fn conv(&mut self) -> Imported<View> {
        let view = self.computed(0)?;
        let (dims, weight) = self.kernel()?;
        let rank = view.axes.rank();
        if weight.dims.len() != rank {
            return self.refuse(format!(
                "weight of shape {:?} for a tensor of {rank} axes",
                weight.dims
            ));
        }
        let x = self.picture(&view)?;
        let (kh, kw) = (dims[2], dims[3]);
        let weight = self.weight(1, dims, &weight.values)?;
        let (stride, dilation) = (self.pair("strides")?, self.pair("dilations")?);
        let span = |k: usize, d: usize| k.saturating_sub(1).saturating_mul(d).saturating_add(1);
        let spans = (span(kh, dilation.0), span(kw, dilation.1));
        let padding = self.padding(self.sizes(x), spans, stride)?;
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
        let node = self.add(Op::Conv2d(conv), &[x])?;
        self.pictured(node, rank)
    }

    /// A convolution, turned, of the picture with zeros between and around its values.
    pub(super) fn conv_transpose(&mut self) -> Imported<View> {
        let view = self.computed(0)?;
        let (dims, weight) = self.kernel()?;
        let rank = view.axes.rank();
        let x = self.picture(&view)?;
        let Some((c, h, w)) = self.shape(x).as_image() else {
            return self.refuse("needs a picture");
        };
        let &[channels, per_group, kh, kw] = &dims[..] else {
            return self.refuse("its weight has no four axes");
        };
        let groups = self.length(self.integer("group", 1))?;
        if self.attribute("output_shape").is_some()
            || !matches!(self.text("auto_pad").as_str(), "" | "NOTSET" | "VALID")
        {
            return self.refuse("output_shape and auto_pad are not read; export with pads");
        }
        if weight.dims.len() != rank
            || groups == 0
            || channels != c
            || channels % groups != 0
            || kh == 0
            || kw == 0
        {
            return self.refuse(format!(
                "weight of shape {:?} in {groups} groups for {c} channels",
                weight.dims
            ));
        }
        let (stride, dilation) = (self.pair("strides")?, self.pair("dilations")?);
        let pads = self.padding((h, w), (1, 1), (1, 1))?;
        let more = match self.integers("output_padding") {
            None => (0, 0),
            Some(&[a]) => (0, self.length(a)?),
            Some(&[a, b]) => (self.length(a)?, self.length(b)?),
            Some(other) => {
                return self.refuse(format!(
                    "output_padding {other:?} is not one or two numbers"
                ));
            }
        };
        // where each value of the widened picture comes from along one axis
        let axis = |n: usize, k: usize, s: usize, d: usize, (begin, end): Pair, more: usize| {
            let reach = (k - 1).saturating_mul(d) as i64;
            let (first, length) = (begin as i64 - reach, ((n - 1) * s + 1) as i64);
            let last = length + reach - end as i64 + more as i64;
            let at = |t: i64| match usize::try_from(t) {
                Ok(t) if t < length as usize && t.is_multiple_of(s) => Some(t / s),
                _ => None,
            };
            // longer ones are refused below
            let last = if last - first > 1 << 20 { first } else { last };
            (first..last).map(at).collect::<Vec<_>>()
        };
        let rows = axis(h, kh, stride.0, dilation.0, (pads.top, pads.bottom), more.0);
        let columns = axis(w, kw, stride.1, dilation.1, (pads.left, pads.right), more.1);
        let axes = Axes::row_major(&[c, h, w]).ok_or_else(|| self.invalid("it is too large"))?;
        self.bounded(&[c, rows.len(), columns.len()])?;
        if rows.is_empty() || columns.is_empty() {
            return self.refuse("its pads leave nothing, or its strides too much");
        }
        let widened = View {
            node: x,
            axes: axes.chosen(1, &rows).chosen(2, &columns),
        };
        let to = Shape::image(c, rows.len(), columns.len());
        let x = self.placed(&widened, &[0, 1, 2], to)?;
        // (C, O/G, Kh, Kw) to (O, C/G, Kh, Kw), each kernel from its end
        let block = channels / groups;
        let mut values = Vec::with_capacity(weight.values.len());
        for o in 0..per_group * groups {
            let (g, p) = (o / per_group, o % per_group);
            for i in 0..block {
                let kernel =
                    &weight.values[((g * block + i) * per_group + p) * kh * kw..][..kh * kw];
                values.extend(kernel.iter().rev());
            }
        }
        let weight = self.weight(1, vec![per_group * groups, block, kh, kw], &values)?;
        let bias = self.input(2).map(|_| self.parameter(2)).transpose()?;
        let conv = Conv2d {
            bias,
            groups,
            dilation,
            ..Conv2d::new(weight)
        };
        let node = self.add(Op::Conv2d(conv), &[x])?;
        self.pictured(node, rank)
    }

    pub(super) fn gemm(&mut self) -> Imported<View> {
        let (alpha, beta) = (self.float("alpha", 1.0), self.float("beta", 1.0));
        let transposed = |name: &str| self.integer(name, 0) != 0;
        let (ta, tb) = (transposed("transA"), transposed("transB"));
        let x = match self.operand(0)? {
            Value::Node(view) => view,
            _ => return self.refuse("its first input is a constant"),
        };
        if x.axes.rank() != 2 {
            return self.refuse(format!(
                "needs (batch, features), {:?} was given",
                x.axes.dims()
            ));
        }
        let Value::Constant(c) = self.operand(1)? else {
            return self.refuse("both of its inputs are computed; export as MatMul");
        };
        let over = if ta { 0 } else { 1 };
        let weight = self.matrix(&c, tb, alpha)?;
        let &[out, _] = weight.shape() else {
            return self.refuse("its weight is no matrix");
        };
        if weight.values().is_empty() {
            return self.refuse(format!("its weight of shape {:?} has no values", c.dims));
        }
        let rows = x.axes.dims()[1 - over];
        let mut late = None;
        let bias = match self.optional_constant(2)? {
            None => None,
            Some(c) if rows == 1 || c.dims.iter().rev().skip(1).all(|&d| d == 1) => {
                let Some(values) = c.broadcast(&[1, out]) else {
                    return self.refuse(format!("bias of shape {:?} for {out} outputs", c.dims));
                };
                let values: Vec<f64> = values.iter().map(|v| v * beta).collect();
                Some(self.weight(2, vec![out], &values)?)
            }
            Some(c) => {
                late = Some(c);
                None
            }
        };
        let y = self.contract(&x, &[], &[over], weight, bias)?;
        match late {
            Some(c) => self.with_constant(Op::Add, &y, &c, |v| beta * v),
            None => Ok(y),
        }
    }

    /// A constant as `(out, in)`, times `factor`; stored as `(in, out)` unless `transposed`.
    fn matrix(&self, c: &Constant, transposed: bool, factor: f64) -> Imported<Parameter> {
        let &[rows, columns] = &c.dims[..] else {
            return self.refuse(format!("weight of shape {:?} is no matrix", c.dims));
        };
        let values = |v: &[f64]| v.iter().map(|v| (factor * v) as f32).collect::<Vec<f32>>();
        let name = self.input(1).unwrap_or(&self.name);
        if transposed {
            return Ok(Parameter::new(name, [rows, columns], values(&c.values))?);
        }
        let Some(axes) = Axes::row_major(&c.dims) else {
            return self.refuse("its weight is too large");
        };
        let turned = axes.transposed(&[1, 0]).gather(&c.values);
        Ok(Parameter::new(name, [columns, rows], values(&turned))?)
    }

    pub(super) fn matmul(&mut self) -> Imported<View> {
        let (a, b) = (self.operand(0)?, self.operand(1)?);
        if let (Value::Node(a), Value::Node(b)) = (&a, &b)
            && let Some(y) = self.attention(a, b)?
        {
            return Ok(y);
        }
        match self.product(a, b)? {
            Value::Node(y) => Ok(y),
            _ => self.refuse("both inputs are constants"),
        }
    }

    /// The product of two matrices, or of as many as their axes before the last two name.
    pub(super) fn product(&mut self, a: Value, b: Value) -> Imported {
        let y = match (a, b) {
            (Value::Node(x), Value::Constant(w)) => self.times_weight(&x, &w),
            (Value::Constant(w), Value::Node(x)) => {
                // Wx is (xᵀWᵀ)ᵀ
                let Some(axes) = Axes::row_major(&w.dims) else {
                    return self.refuse("its weight is too large");
                };
                let w_turned = w.moved(&axes.transposed(&turned(axes.rank())));
                let rank = x.axes.rank();
                if rank == 1 {
                    return self.times_weight(&x, &w_turned).map(Value::Node);
                }
                let y = self.times_weight(&x.transposed(&turned(rank)), &w_turned)?;
                match w.dims.len() {
                    1 => Ok(y),
                    _ => Ok(y.transposed(&turned(y.axes.rank()))),
                }
            }
            (Value::Node(a), Value::Node(b)) => self.product_of_two(&a, &b),
            (Value::Constant(a), Value::Constant(b)) => {
                return match self.multiplied(&a, &b)? {
                    Some(c) => Ok(Value::Constant(c)),
                    None => self.refuse("its constants are no matrices"),
                };
            }
            (Value::Refused(why), _) | (_, Value::Refused(why)) => Err(Stop::Earlier(why)),
        };
        y.map(Value::Node)
    }

    fn times_weight(&mut self, x: &View, w: &Constant) -> Imported<View> {
        let rank = x.axes.rank();
        let dims = x.axes.dims();
        let (batch, k, n) = match w.dims[..] {
            [k] => (&[][..], k, None),
            [ref batch @ .., k, n] => (batch, k, Some(n)),
            [] => return self.refuse("a scalar is no matrix"),
        };
        if rank == 0 || dims[rank - 1] != k {
            return self.refuse(format!(
                "matrices of {dims:?} and {:?} can't be multiplied",
                w.dims
            ));
        }
        // all axes of both before the last two, as many of each
        let own = &dims[..rank.saturating_sub(2)];
        let Some(to) = broadcast_dims(own, batch) else {
            return self.refuse(format!(
                "matrices of {dims:?} and {:?} can't be multiplied: the axes before the last two differ",
                w.dims
            ));
        };
        let (m, outputs) = (if rank < 2 { 1 } else { dims[rank - 2] }, n.unwrap_or(1));
        self.bounded(&[&to[..], &[m, outputs]].concat())?;
        let filled =
            |d: &[usize], last: [usize; 2]| [&vec![1; to.len() - d.len()][..], d, &last].concat();
        let (from, weights) = (filled(own, [m, k]), filled(batch, [k, outputs]));
        // a matrix for each index of axes that both have; axes that only the constant has are outputs, those that only x has are positions
        let has = |k: &usize| weights[*k] > 1;
        let groups: Vec<usize> = (0..to.len()).filter(|k| has(k) && from[*k] > 1).collect();
        let more: Vec<usize> = (0..to.len()).filter(|k| has(k) && from[*k] == 1).collect();
        let ones: Vec<usize> = (0..to.len()).filter(|k| !has(k)).collect();
        let Some(axes) = Axes::row_major(&weights) else {
            return self.refuse("its weight is too large");
        };
        let order = [&ones[..], &groups, &more, &[to.len() + 1, to.len()]].concat();
        let values = axes.transposed(&order).gather(&w.values);
        if values.is_empty() {
            return self.refuse(format!("its weight of shape {:?} has no values", w.dims));
        }
        let weight = self.weight(1, vec![values.len() / k, k], &values)?;
        let x = self.view_as(x, from.clone())?;
        let y = self.contract(&x, &groups, &[to.len() + 1], weight, None)?;
        let mut split = from[..=to.len()].to_vec();
        split.extend(more.iter().map(|&k| to[k]));
        split.push(outputs);
        let y = self.view_as(&y, split)?;
        let place = |k: usize| match more.iter().position(|&j| j == k) {
            Some(at) => to.len() + 1 + at,
            None => k,
        };
        let order: Vec<usize> = (more.iter().copied())
            .chain((0..=to.len()).map(place))
            .chain([to.len() + 1 + more.len()])
            .collect();
        let mut result = to;
        result.extend((rank > 1).then_some(m));
        result.extend(n);
        self.view_as(&y.transposed(&order), result)
    }

    /// The product of two computed matrices: all products of their values, and sums of these.
    fn product_of_two(&mut self, a: &View, b: &View) -> Imported<View> {
        let (da, db) = (a.axes.dims(), b.axes.dims());
        let (&[ref ba @ .., m, k], &[ref bb @ .., l, n]) = (&da[..], &db[..]) else {
            return self.refuse("of a vector it is read with constants only");
        };
        let Some(batch) = broadcast_dims(ba, bb).filter(|_| k == l) else {
            return self.refuse(format!("matrices of {da:?} and {db:?} can't be multiplied"));
        };
        let mut to = batch.clone();
        to.extend([m, k, n]);
        self.bounded(&to)?;
        let rank = to.len();
        let wide = |v: &View, axis| v.with(v.axes.unsqueezed(&[axis])).broadcast(&to);
        let (Some(a), Some(b)) = (wide(a, da.len()), wide(b, db.len() - 2)) else {
            return self.refuse("its matrices can't be broadcast");
        };
        let products = self.both(Op::Mul, &a, &b)?;
        let sum = self.sum(&products, &[rank - 2])?;
        to.remove(rank - 2);
        self.view_as(&sum, to)
    }

    /// The attention of which this is the last product, if one of its inputs is a softmax of scores that [`Op::Attention`] takes: the first, or, turned,
    /// the second, as non-local blocks have it.
    fn attention(&mut self, a: &View, b: &View) -> Imported<Option<View>> {
        let rank = a.axes.rank();
        if rank < 2 || rank != b.axes.rank() {
            return Ok(None);
        }
        let first = self.input(0).unwrap_or_default().to_string();
        if let Some(y) = self.attention_by(first, b)? {
            return Ok(Some(y));
        }
        let order = turned(rank);
        let second = self.behind(self.input(1).unwrap_or_default().to_string());
        let Some(transpose) = self.import.made_by(&second, "Transpose") else {
            return Ok(None);
        };
        let perm = transpose.attribute.iter().find(|a| a.name == "perm");
        let swaps = perm.is_some_and(|p| p.ints.iter().map(|&k| k as usize).eq(order.clone()));
        let Some(softmax) = transpose.input.first().filter(|_| swaps) else {
            return Ok(None);
        };
        // V·Wᵀ is (W·Vᵀ)ᵀ
        let y = self.attention_by(softmax.clone(), &a.transposed(&order))?;
        Ok(y.map(|y| y.transposed(&order)))
    }

    /// The value before what changes nothing where a network is used, and before the guard of a softmax.
    fn behind(&self, mut name: String) -> String {
        for operator in ["Dropout", "Identity", "Cast"].repeat(2) {
            if let Some(n) = self.import.made_by(&name, operator)
                && let Some(from) = n.input.first()
            {
                name = from.clone();
            }
            if let Some(n) = self.import.made_by(&name, "Where")
                && let Some(x) = self.guarded(n)
            {
                name = x;
            }
        }
        name
    }

    /// The constant of this name, if it is one.
    fn constant_named(&self, name: &str) -> Imported<Option<Constant>> {
        let constant = match self.import.values.get(name) {
            Some(Value::Constant(c)) => Some(c.clone()),
            Some(_) => None,
            None => match self.import.initializers.get(name) {
                Some(t) => Some(Constant::from_proto(t, &self.import.external)?),
                None => None,
            },
        };
        let count = constant.as_ref().map_or(0, |c| c.values.len());
        self.import.charge(count)?;
        Ok(constant)
    }

    /// The attention of weights of this name and of these values.
    fn attention_by(&mut self, weights: String, values: &View) -> Imported<Option<View>> {
        let rank = values.axes.rank();
        let Some(softmax) = self.import.made_by(&self.behind(weights), "Softmax") else {
            return Ok(None);
        };
        let axis = softmax.attribute.iter().find(|a| a.name == "axis");
        let axis = axis.map_or(if self.import.opset < 13 { 1 } else { -1 }, |a| a.i);
        if !(axis == -1 || axis == rank as i64 - 1) {
            return Ok(None);
        }
        // from the scores back to the product: scalars that multiply them, masks that are added or put in their place
        let (mut scale, mut seen, mut masked) = (1.0, Seen::default(), Vec::new());
        let mut name = softmax.input.first().cloned().unwrap_or_default();
        // a file may be a circle
        let mut steps = 0..16;
        let product: &NodeProto = loop {
            if steps.next().is_none() {
                return Ok(None);
            }
            name = self.behind(name);
            if let Some(n) = self.import.made_by(&name, "MatMul") {
                break n;
            }
            let operator = ["Mul", "Div", "Add", "Where"];
            let found = operator
                .iter()
                .find_map(|o| Some((*o, self.import.made_by(&name, o)?)));
            let Some((operator, n)) = found else {
                return Ok(None);
            };
            if operator == "Where" {
                let Some((mask, other)) = self.mask_in_place(n, scale)? else {
                    return Ok(None);
                };
                if !seen.less(&mask, scale) {
                    return Ok(None);
                }
                masked.push(mask.dims);
                name = other;
                continue;
            }
            let [a, b] = &n.input[..] else {
                return Ok(None);
            };
            let scalar = |v: &str| self.import.scalar(v);
            name = match (operator, scalar(a), scalar(b)) {
                ("Mul", None, Some(c)) | ("Mul", Some(c), None) => {
                    scale *= c;
                    if scalar(a).is_some() {
                        b.clone()
                    } else {
                        a.clone()
                    }
                }
                ("Div", None, Some(c)) => {
                    scale /= c;
                    a.clone()
                }
                ("Add", _, _) => {
                    let (mask, other) = match self.constant_named(b)? {
                        Some(mask) => (mask, a),
                        None => match self.constant_named(a)? {
                            Some(mask) => (mask, b),
                            None => return Ok(None),
                        },
                    };
                    if !seen.less(&mask, scale) {
                        return Ok(None);
                    }
                    masked.push(mask.dims);
                    other.clone()
                }
                _ => return Ok(None),
            };
        };
        let view = |name: Option<&String>| match self.import.values.get(name?.as_str()) {
            Some(Value::Node(v)) => Some(v.clone()),
            _ => None,
        };
        let (Some(q), Some(k)) = (view(product.input.first()), view(product.input.get(1))) else {
            return Ok(None);
        };
        // a mask of more axes, or longer ones, makes more scores
        let scores = scores(&q, &k);
        let within = |mask: &Vec<usize>| broadcast_dims(&scores, mask).as_ref() == Some(&scores);
        match masked.iter().all(within) {
            true => self.attend([&q, &k, values], scale, seen.mask()),
            false => Ok(None),
        }
    }

    /// What a Where leaves of scores in whose place it puts numbers that hide them: truths, and the scores' name.
    fn mask_in_place(
        &self,
        choice: &NodeProto,
        scale: f64,
    ) -> Imported<Option<(Constant, String)>> {
        let [condition, a, b] = &choice.input[..] else {
            return Ok(None);
        };
        let Some(condition) = self.constant_named(condition)? else {
            return Ok(None);
        };
        let (hidden, other, shown) = match self.constant_named(a)? {
            Some(hidden) => (hidden, b, false),
            None => match self.constant_named(b)? {
                Some(hidden) => (hidden, a, true),
                None => return Ok(None),
            },
        };
        let hides = hidden.values.iter().all(|v| v * scale <= HIDING);
        let dims = broadcast_dims(&condition.dims, &hidden.dims);
        let Some(dims) = dims.filter(|_| hides) else {
            return Ok(None);
        };
        self.room(&dims)?;
        let Some(values) = condition.broadcast(&dims) else {
            return Ok(None);
        };
        let truths = values
            .iter()
            .map(|&v| f64::from(u8::from((v != 0.0) == shown)));
        let truths = Constant::new(Element::Bool, dims, truths);
        Ok(Some((truths, other.clone())))
    }

    /// Attention of queries (…, L, d), keys (…, d, L) and values (…, L, d), if they fit. Where queries and keys are narrower than values, or wider, the
    /// others get zeros beside them.
    fn attend(&mut self, [q, k, v]: [&View; 3], scale: f64, mask: Mask) -> Imported<Option<View>> {
        let dims = q.axes.dims();
        let rank = dims.len();
        let (&[ref batch @ .., length, width], Some(&own)) = (&dims[..], v.axes.dims().last())
        else {
            return Ok(None);
        };
        let of = |last: [usize; 2]| [batch, &last].concat();
        if k.axes.dims() != of([width, length])
            || v.axes.dims() != of([length, own])
            || mask.valid.is_some_and(|n| n > length)
        {
            return Ok(None);
        }
        let wide = width.max(own);
        self.bounded(&of([length, wide]))?;
        let padded = |x: &View, axis: usize| {
            let had = x.axes.dims()[axis];
            let all: Vec<_> = (0..wide).map(|i| (i < had).then_some(i)).collect();
            match had == wide {
                true => x.clone(),
                false => x.with(x.axes.chosen(axis, &all)),
            }
        };
        let (q, k, v) = (
            padded(q, rank - 1),
            padded(k, rank - 2),
            padded(v, rank - 1),
        );
        let heads: usize = batch.iter().product();
        let to = Shape::image(heads * wide, 1, length);
        let plain: Vec<usize> = (0..rank).collect();
        let order = turned(rank);
        let nodes = [
            self.placed(&q, &order, to)?,
            self.placed(&k, &plain, to)?,
            self.placed(&v, &order, to)?,
        ];
        let op = Attention {
            heads,
            kv_heads: heads,
            scale,
            mask,
            scheme: AttentionScheme::Softmax,
        };
        let node = self.add(Op::Attention(op), &nodes)?;
        let y = self.stored(node, &of([length, wide]), &order)?;
        let all: Vec<_> = (0..own).map(Some).collect();
        Ok(Some(match own == wide {
            true => y,
            false => y.with(y.axes.chosen(rank - 1, &all)),
        }))
    }

    /// The operator of opset 23.
    pub(super) fn attention_operator(&mut self) -> Imported<View> {
        let [q, k, v] = [self.computed(0)?, self.computed(1)?, self.computed(2)?];
        if q.axes.rank() != 4 || self.float("softcap", 0.0) != 0.0 {
            return self.refuse("only queries, keys and values (batch, heads, length, width) without softcap are read; export with opset 20");
        }
        if (4..self.node.input.len()).any(|i| self.input(i).is_some()) {
            return self.refuse("keys and values of earlier positions, and how many of them count, are not read; export without a cache (use_cache=False)");
        }
        let width = q.axes.dims()[3] as f64;
        let scale = self.float("scale", 1.0 / width.sqrt());
        let mut seen = Seen {
            causal: self.integer("is_causal", 0) != 0,
            ..Seen::default()
        };
        if k.axes.rank() != 4 || v.axes.rank() != 4 {
            return self.refuse("its keys and values don't have four axes as its queries do");
        }
        let k = k.transposed(&[0, 1, 3, 2]);
        if let Some(mask) = self.optional_constant(3)? {
            let scores = scores(&q, &k);
            if broadcast_dims(&scores, &mask.dims).as_ref() != Some(&scores) {
                return self.refuse(format!(
                    "its mask has shape {:?}, its scores {scores:?}",
                    mask.dims
                ));
            }
            if !seen.less(&mask, 1.0) {
                return self.refuse(
                    "its mask hides others than the keys behind each query and the last keys of all, which is not read",
                );
            }
        }
        if let Some(y) = self.attend([&q, &k, &v], scale, seen.mask())? {
            return Ok(y);
        }
        if seen != Seen::default() {
            return self
                .refuse("queries and keys are not as many, which is read without a mask only");
        }
        let scores = self.product_of_two(&q, &k)?;
        let scores = self.affine(&scores, scale, 0.0)?;
        let weights = self.over_channels(&scores, &[3], |_, _| Ok(Op::Softmax(Softmax::Shares)))?;
        self.product_of_two(&weights, &v)
    }

    pub(super) fn batch_norm(&mut self) -> Imported<View> {
        let view = self.computed(0)?;
        // before operator set 14 its other outputs say so
        let others = self.node.output.iter().skip(1).any(|o| !o.is_empty());
        if others || self.integer("training_mode", 0) != 0 {
            return self.refuse("it is in training mode; export in eval mode");
        }
        if self.integer("spatial", 1) != 1 {
            return self.refuse("spatial is 0; only normalisation by channel is read");
        }
        let norm = BatchNorm {
            scale: self.parameter(1)?,
            bias: self.parameter(2)?,
            mean: self.parameter(3)?,
            variance: self.parameter(4)?,
            epsilon: self.float("epsilon", 1e-5),
        };
        let dims = view.axes.dims();
        let order: Vec<usize> = (0..dims.len()).collect();
        let node = match dims[..] {
            [1, n] => self.placed(&view, &order, Shape::Vector(n))?,
            [1, c, ref spatial @ ..] if spatial.len() > 2 => {
                let rows = spatial[..spatial.len() - 1].iter().product();
                self.placed(
                    &view,
                    &order,
                    Shape::image(c, rows, spatial[spatial.len() - 1]),
                )?
            }
            [rows, c] => {
                // one row after the other
                let node = self.placed(&view, &[1, 0], Shape::image(c, 1, rows))?;
                let node = self.add(Op::BatchNorm(norm), &[node])?;
                return self.stored(node, &dims, &[1, 0]);
            }
            _ => self.picture(&view)?,
        };
        let node = self.add(Op::BatchNorm(norm), &[node])?;
        self.stored(node, &dims, &order)
    }

    pub(super) fn layer_norm(&mut self, kind: NormKind) -> Imported<View> {
        let x = self.computed(0)?;
        let rank = x.axes.rank();
        if self.node.output.iter().skip(1).any(|o| !o.is_empty()) {
            return self.refuse("its mean and deviation are not read");
        }
        let first = self.axis(self.integer("axis", -1), rank)?;
        let axes: Vec<usize> = (first..rank).collect();
        let epsilon = self.float("epsilon", 1e-5);
        let channels: usize = axes.iter().map(|&k| x.axes.dims()[k]).product();
        let whole = |at: &Self, i: usize| -> Imported<Option<Parameter>> {
            let Some(c) = at.optional_constant(i)? else {
                return Ok(None);
            };
            let lengths: Vec<usize> = axes.iter().map(|&k| x.axes.dims()[k]).collect();
            match c.broadcast(&lengths) {
                Some(values) => at.weight(i, vec![channels], &values).map(Some),
                None => at.refuse(format!("weights of shape {:?} for {lengths:?}", c.dims)),
            }
        };
        let (scale, bias) = (whole(self, 1)?, whole(self, 2)?);
        self.normalised(&x, &axes, (kind, epsilon), scale, bias)
    }

    pub(super) fn instance_norm(&mut self) -> Imported<View> {
        let x = self.computed(0)?;
        let dims = x.axes.dims();
        let spatial: Vec<usize> = (2..dims.len()).collect();
        let epsilon = self.float("epsilon", 1e-5);
        let y = self.normalised(&x, &spatial, (NormKind::Layer, epsilon), None, None)?;
        self.scaled(&y, 1)
    }

    /// Times input 1, plus input 2, one number for each index of the axis.
    fn scaled(&mut self, x: &View, axis: usize) -> Imported<View> {
        let rank = x.axes.rank();
        let (scale, bias) = (self.constant(1)?, self.constant(2)?);
        let along = |c: &Constant| {
            let mut dims = vec![1; rank];
            dims[axis] = c.values.len();
            c.with_dims(dims)
        };
        let mut y = x.clone();
        if scale.values.iter().any(|&v| v != 1.0) {
            y = self.with_constant(Op::Mul, &y, &along(&scale), |v| v)?;
        }
        if bias.values.iter().any(|&v| v != 0.0) {
            y = self.with_constant(Op::Add, &y, &along(&bias), |v| v)?;
        }
        Ok(y)
    }

    pub(super) fn group_norm(&mut self) -> Imported<View> {
        let x = self.computed(0)?;
        let dims = x.axes.dims();
        let groups = self.length(self.integer("num_groups", 1))?;
        if dims.len() < 2 || groups == 0 || dims[1] % groups != 0 {
            return self.refuse(format!(
                "{groups} groups don't divide the channels of {dims:?}"
            ));
        }
        let rest = x.axes.count() / dims[0] / groups;
        let grouped = self.view_as(&x, vec![dims[0], groups, rest])?;
        let epsilon = self.float("epsilon", 1e-5);
        let y = self.normalised(&grouped, &[2], (NormKind::Layer, epsilon), None, None)?;
        let y = self.view_as(&y, dims)?;
        if self.constant(1)?.values.len() == groups && groups != y.axes.dims()[1] {
            return self.refuse(
                "scale and bias for each group are not read; export with opset 21 or later",
            );
        }
        self.scaled(&y, 1)
    }

    pub(super) fn average_pool(&mut self) -> Imported<View> {
        let (x, windows, rank) = self.windows()?;
        let padding = match self.integer("count_include_pad", 0) {
            0 => PaddingCounts::Not,
            _ => PaddingCounts::AsZeros,
        };
        let (zeros, pool) = windows.average(self.sizes(x), padding);
        let x = match zeros {
            Some(pad) => self.add_as("pad", Op::Pad(pad), &[x])?,
            None => x,
        };
        let node = self.add(Op::AvgPool(pool), &[x])?;
        self.pictured(node, rank)
    }

    pub(super) fn max_pool(&mut self) -> Imported<View> {
        if self.node.output.get(1).is_some_and(|o| !o.is_empty()) {
            return Err(self.unsupported("its second output, the positions of the maxima, is not read; export without return_indices").into());
        }
        let (x, pool, rank) = self.windows()?;
        let node = self.add(Op::MaxPool(pool), &[x])?;
        self.pictured(node, rank)
    }

    /// The windows of a pooling operator over its input, and how many axes that has.
    fn windows(&mut self) -> Imported<(crate::NodeId, MaxPool, usize)> {
        let view = self.computed(0)?;
        let dilations = self.integers("dilations").unwrap_or_default();
        if dilations.iter().any(|&d| d != 1) {
            return self.refuse("dilations are not supported; export without");
        }
        let Some(kernel) = self.integers("kernel_shape") else {
            return self.refuse("kernel_shape is missing");
        };
        let rank = view.axes.rank();
        if kernel.len() + 2 != rank {
            return self.refuse(format!(
                "kernel_shape {kernel:?} for a tensor of {rank} axes"
            ));
        }
        let x = self.picture(&view)?;
        let (kernel, stride) = (self.pair("kernel_shape")?, self.pair("strides")?);
        let padding = self.padding(self.sizes(x), kernel, stride)?;
        let ceil_mode = self.integer("ceil_mode", 0) != 0;
        Ok((
            x,
            MaxPool {
                kernel,
                stride,
                padding,
                ceil_mode,
            },
            rank,
        ))
    }
}

/// The shape of the scores of queries (…, L, d) and keys (…, d, S).
fn scores(q: &View, k: &View) -> Vec<usize> {
    let (mut scores, keys) = (q.axes.dims(), k.axes.dims());
    if let (Some(to), Some(from)) = (scores.last_mut(), keys.last()) {
        *to = *from;
    }
    scores
}

/// The order of so many axes in which the last two change places.
fn turned(rank: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rank).collect();
    if let [.., p, q] = &mut order[..] {
        std::mem::swap(p, q);
    }
    order
}

/// What is added to a score of this much or less hides its key.
const HIDING: f64 = -1e4;

/// Which keys are seen: those behind a query or not, and those from a position on or not.
#[derive(Default, PartialEq)]
struct Seen {
    causal: bool,
    valid: Option<usize>,
}

impl Seen {
    /// Less what a mask of scores (…, L, L) hides: numbers to be added before they are scaled, or truths of what is seen. False for one that hides others than
    /// the keys behind each query and the last keys of all.
    fn less(&mut self, mask: &Constant, scale: f64) -> bool {
        let truths = mask.element == Element::Bool;
        let shows = |v: f64| if truths { v != 0.0 } else { v == 0.0 };
        let hides = |v: f64| {
            if truths {
                v == 0.0
            } else {
                v * scale <= HIDING
            }
        };
        if mask.values.iter().all(|&v| shows(v)) {
            return true;
        }
        let columns = mask.dims.last().copied().unwrap_or(1);
        let rows = mask.dims.iter().rev().nth(1).copied().unwrap_or(1);
        // how many each query sees, the first ones
        let first = |row: &[f64]| {
            let count = row.iter().take_while(|v| shows(**v)).count();
            (count > 0 && row[count..].iter().all(|v| hides(*v))).then_some(count)
        };
        let counts = mask.values.chunks(columns.max(1)).map(first);
        let Some(counts) = counts.collect::<Option<Vec<usize>>>() else {
            return false;
        };
        let most = counts.iter().copied().max().unwrap_or(columns);
        let before = |(row, &count): (usize, &usize)| count == most.min(row % rows + 1);
        let causal = !counts.iter().all(|&count| count == most);
        if causal && !(rows == columns && counts.iter().enumerate().all(before)) {
            return false;
        }
        self.causal |= causal;
        if most < columns {
            self.valid = Some(self.valid.map_or(most, |n| n.min(most)));
        }
        true
    }

    fn mask(&self) -> Mask {
        Mask {
            order: if self.causal {
                Order::Causal
            } else {
                Order::Full
            },
            valid: self.valid,
        }
    }
}

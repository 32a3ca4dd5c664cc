//! Import of sums, products, differences and quotients with every broadcasting, powers, greatest and least of two, reductions, softmax.

use super::element::Element;
use super::onnx_constant::Constant;
use super::onnx_import::{Imported, Stop, Value, View};
use super::onnx_move::broadcast_dims;
use super::onnx_operator::Importing;
use super::onnx_place::{Laid, shape_of};
use super::onnx_proto::NodeProto;
use crate::op::{NormKind, Op, Softmax};
use crate::tensor::Parameter;
use approx::Activation;

/// What stands for −∞ in a mask, as exporters write it that have no infinities.
const HIDDEN: f64 = -1e9;

impl Importing<'_, '_> {
    /// Add, Mul and their like, of any number of inputs where ONNX has so.
    pub(super) fn arithmetic(&mut self) -> Imported<View> {
        let inputs = (0..self.node.input.len()).map(|i| self.operand(i));
        let mut inputs = inputs.collect::<Imported<Vec<Value>>>()?.into_iter();
        let operator = self.node.op_type.as_str();
        if operator == "Div"
            && let Some((x, mean, epsilon)) = self.import.norm(self.node)
            && let Some(Value::Node(x)) = self.import.values.get(x).cloned()
            && let Some(axes) = self.axes_of(mean, x.axes.rank())
            && epsilon > 0.0
        {
            return self.normalised(&x, &axes, (NormKind::Layer, epsilon), None, None);
        }
        let Some(mut result) = inputs.next() else {
            return self.refuse("it has no inputs");
        };
        let count = self.node.input.len();
        for next in inputs {
            result = Value::Node(self.two(operator, &result, &next)?);
        }
        match (result, operator) {
            (Value::Node(view), "Mean") => self.affine(&view, 1.0 / count as f64, 0.0),
            (Value::Node(view), _) => Ok(view),
            _ => self.refuse("it has no computed input"),
        }
    }

    /// The axes that a reduction names, from its attribute or a constant.
    fn axes_of(&self, reduction: &NodeProto, rank: usize) -> Option<Vec<usize>> {
        let attribute = reduction.attribute.iter().find(|a| a.name == "axes");
        let keeps = reduction.attribute.iter().find(|a| a.name == "keepdims");
        let list = match (attribute, reduction.input.get(1)) {
            (Some(a), _) => a.ints.clone(),
            (None, Some(name)) => match self.import.values.get(name.as_str()) {
                Some(Value::Constant(c)) => c.integers()?,
                Some(_) => return None,
                None => Constant::from_proto(
                    self.import.initializers.get(name.as_str())?,
                    &self.import.external,
                )
                .ok()?
                .integers()?,
            },
            _ => return None,
        };
        keeps.is_none_or(|k| k.i == 1).then_some(())?;
        self.axes(&list, rank).ok()
    }

    fn two(&mut self, operator: &str, a: &Value, b: &Value) -> Imported<View> {
        match (a, b) {
            (Value::Refused(why), _) | (_, Value::Refused(why)) => Err(Stop::Earlier(*why)),
            (Value::Constant(_), Value::Constant(_)) => {
                self.refuse("two of its inputs are constants, which come before the others")
            }
            (Value::Node(x), Value::Node(y)) => self.two_computed(operator, x, y),
            (Value::Node(x), Value::Constant(c)) => match operator {
                "Add" => self.plus(x, c),
                "Sum" | "Mean" => self.with_constant(Op::Add, x, c, |v| v),
                "Sub" => self.with_constant(Op::Add, x, c, |v| -v),
                "Mul" => self.with_constant(Op::Mul, x, c, |v| v),
                "Div" => self.with_constant(Op::Mul, x, c, |v| 1.0 / v),
                "Pow" => self.power(x, c),
                "PRelu" => {
                    // c·x + (1 − c)·ReLU(x)
                    let positive = self.act("positive", Activation::Relu, x)?;
                    let positive = self.with_constant(Op::Mul, &positive, c, |v| 1.0 - v)?;
                    let all = self.with_constant(Op::Mul, x, c, |v| v)?;
                    self.both(Op::Add, &all, &positive)
                }
                _ => self.extreme(operator, x, c),
            },
            (Value::Constant(c), Value::Node(x)) => match operator {
                "Add" => self.plus(x, c),
                "Sum" | "Mean" => self.with_constant(Op::Add, x, c, |v| v),
                "Mul" => self.with_constant(Op::Mul, x, c, |v| v),
                "Sub" => {
                    let minus = self.affine(x, -1.0, 0.0)?;
                    self.with_constant(Op::Add, &minus, c, |v| v)
                }
                "Div" => {
                    let inverse = self.inverse(x)?;
                    self.with_constant(Op::Mul, &inverse, c, |v| v)
                }
                "Max" | "Min" => self.extreme(operator, x, c),
                _ => self.refuse("its second input is computed, which is no polynomial"),
            },
        }
    }

    /// A sum. A mask's −∞ is a large number where softmaxes alone see it, which make 0 of either.
    fn plus(&mut self, x: &View, c: &Constant) -> Imported<View> {
        let masks = c.values.contains(&f64::NEG_INFINITY) && self.masks_softmax(x, c)?;
        let value = |v: f64| match masks && v == f64::NEG_INFINITY {
            true => HIDDEN,
            false => v,
        };
        self.with_constant(Op::Add, x, c, value)
    }

    /// Whether nothing but softmaxes takes what this node gives. One that runs over places that this mask hides all has no answer, and is refused.
    fn masks_softmax(&self, x: &View, mask: &Constant) -> Imported<bool> {
        let (graph, own) = (self.import.graph, self.node.output.first());
        let takes = |n: &&NodeProto| n.input.iter().any(|i| Some(i) == own);
        let users: Vec<&NodeProto> = graph.node.iter().filter(takes).collect();
        let alone = !users.is_empty()
            && users.iter().all(|n| n.op_type == "Softmax")
            && graph.output.iter().all(|o| Some(&o.name) != own);
        let rank = x.axes.rank().max(mask.dims.len());
        let last = |n: &&NodeProto| {
            let axis = n.attribute.iter().find(|a| a.name == "axis");
            axis.is_none_or(|a| a.i == -1 || a.i == rank as i64 - 1)
        };
        let row = mask.dims.last().copied().unwrap_or(1).max(1);
        let hides = |row: &[f64]| row.iter().all(|&v| v == f64::NEG_INFINITY);
        match alone && users.iter().any(last) && mask.values.chunks(row).any(hides) {
            true => self.refuse("its mask hides all that a softmax runs over, whose answer is NaN, or zeros where the exporter guards it; let every query see a key, at least itself"),
            false => Ok(alone),
        }
    }

    /// Where a constant chooses: m·a + (1 − m)·b, of which what is not taken is no more than multiplied by 0.
    pub(super) fn choice(&mut self) -> Imported {
        let Value::Constant(condition) = self.operand(0)? else {
            return Err(self.unsupported(&self.advice()).into());
        };
        let (a, b) = (self.operand(1)?, self.operand(2)?);
        let all = [&a, &b].map(|v| self.dims_of(v));
        let dims = broadcast_dims(&all[0], &all[1]);
        let dims = dims.and_then(|d| broadcast_dims(&d, &condition.dims));
        let Some(dims) = dims else {
            return self.refuse(format!(
                "needs three shapes that can be broadcast, {:?}, {:?} and {:?} were given",
                condition.dims, all[0], all[1]
            ));
        };
        self.bounded(&dims)?;
        let taken = |first: bool| condition.values.iter().all(|&v| (v != 0.0) == first);
        for (first, value) in [(true, &a), (false, &b)] {
            if taken(first) {
                self.import.charge(dims.iter().sum())?;
                return self.moved(value.clone(), |axes| axes.broadcast(&dims));
            }
        }
        // 1 where the first, or the second, is taken
        let mask = |first: bool| {
            let values = condition.values.iter();
            let values = values.map(|&v| f64::from(u8::from((v != 0.0) == first)));
            Constant::new(Element::F32, condition.dims.clone(), values)
        };
        self.import.charge(2 * condition.values.len())?;
        let y = match (&a, &b) {
            (Value::Node(x), Value::Node(y)) => {
                let x = self.with_constant(Op::Mul, x, &mask(true), |v| v)?;
                let y = self.with_constant(Op::Mul, y, &mask(false), |v| v)?;
                self.both(Op::Add, &x, &y)?
            }
            (Value::Node(x), Value::Constant(c)) => self.filled_in(x, &mask(true), c)?,
            (Value::Constant(c), Value::Node(y)) => self.filled_in(y, &mask(false), c)?,
            (Value::Refused(why), _) | (_, Value::Refused(why)) => return Err(Stop::Earlier(*why)),
            _ => return self.refuse("its inputs are constants, which come before the others"),
        };
        Ok(Value::Node(y))
    }

    /// x where the mask is 1, the constant where it is 0: its −∞ is a large number where softmaxes alone see it.
    fn filled_in(&mut self, x: &View, mask: &Constant, c: &Constant) -> Imported<View> {
        let unfit = || Stop::New(self.invalid("its constants can't be broadcast"));
        let dims = broadcast_dims(&mask.dims, &c.dims).ok_or_else(unfit)?;
        self.room(&dims)?;
        let (Some(kept), Some(values)) = (mask.broadcast(&dims), c.broadcast(&dims)) else {
            return Err(unfit());
        };
        let values = kept.iter().zip(values.iter());
        let values = values.map(|(&kept, &v)| if kept == 0.0 { v } else { 0.0 });
        let fill = Constant::new(Element::F32, dims, values);
        if let Some(v) = fill.values.iter().find(|v| !v.is_finite())
            && !(*v == f64::NEG_INFINITY && self.masks_softmax(x, &fill)?)
        {
            return self.refuse(format!(
                "it puts {v} in the place of computed values, which nothing but a softmax's −inf can be computed with; put a number there"
            ));
        }
        let x = self.with_constant(Op::Mul, x, mask, |v| v)?;
        self.with_constant(Op::Add, &x, &fill, |v| {
            if v == f64::NEG_INFINITY { HIDDEN } else { v }
        })
    }

    /// Each value and those before it along an axis, summed: a matrix of ones and zeros.
    pub(super) fn running_sum(&mut self) -> Imported<View> {
        let x = self.computed(0)?;
        let rank = x.axes.rank();
        let Some(axis) = self.constant(1)?.scalar() else {
            return self.refuse("its axis is not one number");
        };
        let axis = self.axis(axis as i64, rank)?;
        let n = x.axes.dims()[axis];
        self.import.charge(self.bounded(&[n, n])?)?;
        let (exclusive, reverse) = self.running();
        let one = |i: usize| {
            let (to, from) = (i / n, i % n);
            let (late, early) = if reverse { (from, to) } else { (to, from) };
            f32::from(u8::from(early < late || early == late && !exclusive))
        };
        let weight = Parameter::new(&self.name, [n, n], (0..n * n).map(one).collect::<Vec<_>>())?;
        self.mapped_along(&x, axis, weight)
    }

    /// A matrix (to, from) on every line of values along an axis, which stays where it is.
    pub(super) fn mapped_along(
        &mut self,
        x: &View,
        axis: usize,
        weight: Parameter,
    ) -> Imported<View> {
        let mapped = self.contract(x, &[], &[axis], weight, None)?;
        // the new axis comes last
        let last = x.axes.rank() - 1;
        let mut order: Vec<usize> = (0..last).collect();
        order.insert(axis, last);
        Ok(mapped.transposed(&order))
    }

    /// Trilu: what lies above, or below, a diagonal of the last two axes; the rest times 0.
    pub(super) fn part_of_matrix(&mut self) -> Imported<View> {
        let x = self.computed(0)?;
        let dims = x.axes.dims();
        let &[.., rows, columns] = &dims[..] else {
            return self.refuse(format!("needs matrices, {dims:?} was given"));
        };
        let count = self.room(&[rows, columns])?;
        let ones = Constant::new(Element::F32, vec![rows, columns], vec![1.0; count]);
        let from = self.optional_constant(1)?;
        let given: Vec<&Constant> = [Some(&ones), from.as_ref()].into_iter().flatten().collect();
        match self.triangle(&given)? {
            Some(mask) => self.with_constant(Op::Mul, &x, &mask, |v| v),
            None => self.refuse("its diagonal is not one number"),
        }
    }

    fn two_computed(&mut self, operator: &str, x: &View, y: &View) -> Imported<View> {
        match operator {
            "Add" | "Sum" | "Mean" => self.both(Op::Add, x, y),
            "Mul" => self.both(Op::Mul, x, y),
            "Sub" => {
                let minus = self.affine(y, -1.0, 0.0)?;
                self.both(Op::Add, x, &minus)
            }
            "Div" => {
                let inverse = self.inverse(y)?;
                self.both(Op::Mul, x, &inverse)
            }
            "Max" | "Min" => {
                // x + ReLU(y − x), x − ReLU(x − y)
                let (of, sign) = if operator == "Max" {
                    (x, 1.0)
                } else {
                    (y, -1.0)
                };
                let other = if operator == "Max" { y } else { x };
                let minus = self.affine(of, -1.0, 0.0)?;
                let over = self.both(Op::Add, other, &minus)?;
                let over = self.act("over", Activation::Relu, &over)?;
                let over = self.affine(&over, sign, 0.0)?;
                self.both(Op::Add, x, &over)
            }
            _ => self.refuse("of two computed values it is no polynomial"),
        }
    }

    /// The greater, or lesser, of x and a constant: c + ReLU(x − c), c − ReLU(c − x).
    fn extreme(&mut self, operator: &str, x: &View, c: &Constant) -> Imported<View> {
        let sign = if operator == "Max" { 1.0 } else { -1.0 };
        let x = self.affine(x, sign, 0.0)?;
        let over = self.with_constant(Op::Add, &x, c, |v| -sign * v)?;
        let over = self.act("over", Activation::Relu, &over)?;
        let over = self.affine(&over, sign, 0.0)?;
        self.with_constant(Op::Add, &over, c, |v| v)
    }

    fn power(&mut self, x: &View, c: &Constant) -> Imported<View> {
        match c.scalar() {
            Some(1.0) => Ok(x.clone()),
            Some(0.5) => self.root(x),
            Some(-1.0) => self.inverse(x),
            Some(-0.5) => {
                let root = self.root(x)?;
                self.inverse(&root)
            }
            Some(p) if p.fract() == 0.0 && (2.0..=16.0).contains(&p) => {
                // from the highest bit on: squared, and times x where the bit is set
                let p = p as u32;
                let mut y = x.clone();
                for bit in (0..p.ilog2()).rev() {
                    y = self.both(Op::Mul, &y, &y)?;
                    if p >> bit & 1 == 1 {
                        y = self.both(Op::Mul, &y, x)?;
                    }
                }
                Ok(y)
            }
            _ => self.refuse("only whole powers from 1 to 16, 0.5, -0.5 and -1 are read"),
        }
    }

    /// A sum or a product of two computed tensors, each broadcast to the other.
    pub(super) fn both(
        &mut self,
        op: Op<crate::Nonlinearity>,
        x: &View,
        y: &View,
    ) -> Imported<View> {
        let (a, b) = (x.axes.dims(), y.axes.dims());
        let Some(dims) = broadcast_dims(&a, &b) else {
            return self.refuse(format!(
                "needs two shapes that can be broadcast, {a:?} and {b:?} were given"
            ));
        };
        self.bounded(&dims)?;
        let (Some(x), Some(y)) = (x.broadcast(&dims), y.broadcast(&dims)) else {
            return self.refuse(format!("{a:?} and {b:?} can't be broadcast"));
        };
        // where one of them lies already, the other is brought
        let at = |s: &Self, v: &View| {
            let shape = s.shape(v.node);
            v.axes.order(shape.len()).map(|order| (order, shape))
        };
        let (order, shape) = match at(self, &x).or_else(|| at(self, &y)) {
            Some(found) => found,
            None => ((0..dims.len()).collect(), shape_of(&dims)),
        };
        let (p, q) = (
            self.placed(&x, &order, shape)?,
            self.placed(&y, &order, shape)?,
        );
        let node = self.add_as("", op, &[p, q])?;
        self.stored(node, &dims, &order)
    }

    /// A sum or a product with a constant, of which `of` is taken.
    pub(super) fn with_constant(
        &mut self,
        op: Op<crate::Nonlinearity>,
        x: &View,
        c: &Constant,
        of: impl Fn(f64) -> f64,
    ) -> Imported<View> {
        if let Some(v) = c.scalar().filter(|_| c.dims.len() <= x.axes.rank()) {
            let v = of(v);
            return match op {
                Op::Mul => self.affine(x, v, 0.0),
                _ => self.affine(x, 1.0, v),
            };
        }
        let own = x.axes.dims();
        let unfit = |at: &Self| {
            at.refuse(format!(
                "a constant of shape {:?} does not fit {own:?}",
                c.dims
            ))
        };
        let Some(dims) = broadcast_dims(&own, &c.dims) else {
            return unfit(self);
        };
        self.bounded(&dims)?;
        let Some(x) = x.broadcast(&dims) else {
            return unfit(self);
        };
        let Laid { node, order } = self.laid(&x)?;
        self.import.charge(dims.iter().product())?;
        let axes = super::onnx_axes::Axes::row_major(&c.dims).and_then(|a| a.broadcast(&dims));
        let Some(axes) = axes else {
            return unfit(self);
        };
        let values = axes.transposed(&order).gather(&c.values);
        let values: Vec<f32> = values.iter().map(|&v| of(v) as f32).collect();
        let shape = self.shape(node);
        let p = Parameter::new(&self.name, shape.dims(), values)?;
        let c = self.add_as("constant", Op::Constant(shape, p), &[])?;
        let node = self.add_as("", op, &[node, c])?;
        self.stored(node, &dims, &order)
    }

    pub(super) fn reduce(&mut self) -> Imported<View> {
        let x = self.computed(0)?;
        let rank = x.axes.rank();
        let Some(axes) = self.reduced_axes(rank)? else {
            return match self.node.op_type.as_str() {
                "ReduceL2" => self.absolute(&x),
                "ReduceSumSquare" => self.both(Op::Mul, &x, &x),
                _ => Ok(x),
            };
        };
        let y = match self.node.op_type.as_str() {
            "ReduceMean" => self.mean(&x, &axes)?,
            "ReduceSum" => self.sum(&x, &axes)?,
            "ReduceMax" => self.maximum(&x, &axes)?,
            "ReduceMin" => {
                let minus = self.affine(&x, -1.0, 0.0)?;
                let most = self.maximum(&minus, &axes)?;
                self.affine(&most, -1.0, 0.0)?
            }
            operator => {
                let squares = self.both(Op::Mul, &x, &x)?;
                let sum = self.sum(&squares, &axes)?;
                match operator {
                    "ReduceL2" => self.root(&sum)?,
                    _ => sum,
                }
            }
        };
        if self.integer("keepdims", 1) != 0 {
            return Ok(y);
        }
        let dims = x.axes.dims();
        let kept = (0..rank).filter(|k| !axes.contains(k)).map(|k| dims[k]);
        self.view_as(&y, kept.collect())
    }

    pub(super) fn sum(&mut self, x: &View, axes: &[usize]) -> Imported<View> {
        let dims = x.axes.dims();
        let count: usize = axes.iter().map(|&k| dims[k]).product();
        let mean = self.mean(x, axes)?;
        self.affine(&mean, count as f64, 0.0)
    }

    fn root(&mut self, x: &View) -> Imported<View> {
        self.act("root", Activation::Sqrt, x)
    }

    fn inverse(&mut self, x: &View) -> Imported<View> {
        self.act("inverse", Activation::Reciprocal, x)
    }

    pub(super) fn softmax(&mut self, kind: Softmax) -> Imported<View> {
        let x = self.computed(0)?;
        let rank = x.axes.rank();
        let old = self.import.opset < 13;
        let axis = self.axis(self.integer("axis", if old { 1 } else { -1 }), rank)?;
        // once over all axes from this one on
        let axes: Vec<usize> = if old {
            (axis..rank).collect()
        } else {
            vec![axis]
        };
        self.over_channels(&x, &axes, |_, _| Ok(Op::Softmax(kind)))
    }

    pub(super) fn lp_norm(&mut self) -> Imported<View> {
        let x = self.computed(0)?;
        if self.integer("p", 2) != 2 {
            return self.refuse("only the norm of p = 2 is read");
        }
        let axis = self.axis(self.integer("axis", -1), x.axes.rank())?;
        let squares = self.both(Op::Mul, &x, &x)?;
        let sum = self.sum(&squares, &[axis])?;
        let root = self.root(&sum)?;
        let inverse = self.inverse(&root)?;
        self.both(Op::Mul, &x, &inverse)
    }
}

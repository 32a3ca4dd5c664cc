//! What operators give whose inputs are all constants: what exporters leave of shapes, positions, masks and weights.

use super::element::Element;
use super::onnx_axes::Axes;
use super::onnx_constant::{Constant, constant_node, element, wrapped};
use super::onnx_import::{Imported, Stop, Value};
use super::onnx_move::broadcast_dims;
use super::onnx_operator::{Importing, moves};
use approx::Activation;
use std::rc::Rc;

impl Importing<'_, '_> {
    /// The node's value where all of its inputs are constants; None where one is computed, and for operators that move values.
    pub(super) fn folded(&mut self) -> Imported<Option<Constant>> {
        let operator = self.node.op_type.as_str();
        let mut inputs = Vec::new();
        for i in 0..self.node.input.len() {
            if self.input(i).is_none() {
                inputs.push(None);
                continue;
            }
            match self.operand(i)? {
                Value::Constant(c) => inputs.push(Some(c)),
                Value::Node(_) => return Ok(None),
                Value::Refused(why) => return Err(Stop::Earlier(why)),
            }
        }
        // Einsum is taken apart into what is computed of constants as well
        let elsewhere = moves(operator) || matches!(operator, "Shape" | "Einsum");
        if inputs.is_empty() || elsewhere {
            return Ok(None);
        }
        let given: Vec<&Constant> = inputs.iter().flatten().collect();
        let first = match given.first() {
            Some(first) => *first,
            None => return self.refuse("it has no inputs"),
        };
        let folded = match operator {
            "Cast" => {
                let to = element(self.integer("to", 0));
                to.and_then(|to| first.cast(to))
            }
            "Concat" => self.joined(&given)?,
            "Range" => self.range(&given)?,
            "ConstantOfShape" => self.filled(first)?,
            "Where" => self.chosen(&given)?,
            "Size" => Some(Constant::of(Element::I64, first.values.len() as f64)),
            "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceMin" | "ReduceProd" | "ReduceL2"
            | "ReduceSumSquare" => self.reduced(first)?,
            "MatMul" => match &given[..] {
                [a, b] => self.multiplied(a, b)?,
                _ => None,
            },
            "Gemm" => self.dense(&given)?,
            "NonZero" => self.places(first)?,
            "DequantizeLinear" => self.dequantised(&given)?,
            "BatchNormalization" | "InstanceNormalization" => self.normalised_constant(&given)?,
            "Softmax" | "LogSoftmax" => self.shared(first)?,
            "CumSum" => self.summed(&given)?,
            "Trilu" => self.triangle(&given)?,
            "ScatterND" => self.scattered(&given)?,
            "Clip" => {
                let end = |i: usize, name: &str, none: f64| match inputs.get(i) {
                    Some(Some(c)) => c.scalar().unwrap_or(none),
                    _ => self.float(name, none),
                };
                let (low, high) = (
                    end(1, "min", f64::NEG_INFINITY),
                    end(2, "max", f64::INFINITY),
                );
                Some(mapped(first, |v| lesser(greater(v, low), high)))
            }
            _ => match &given[..] {
                [x] => self.function(x),
                _ => self.combined(&given)?,
            },
        };
        let folded = folded.ok_or_else(|| self.unsupported(
            "all of its inputs are constants, and of such this is not computed here, or ONNX leaves open what it gives; fold the model's constants first, as onnx-simplifier and ONNX Runtime's offline optimisation do"
        ))?;
        Ok(Some(folded))
    }

    /// Accounts for a new constant of these lengths and gives how many values it has.
    pub(super) fn room(&self, dims: &[usize]) -> Imported<usize> {
        let count = self.bounded(dims)?;
        self.import.charge(count)?;
        Ok(count)
    }

    fn function(&self, x: &Constant) -> Option<Constant> {
        let f: fn(f64) -> f64 = match self.node.op_type.as_str() {
            "Neg" => |v| -v,
            "Abs" => f64::abs,
            "Sqrt" => f64::sqrt,
            "Exp" => f64::exp,
            "Log" => f64::ln,
            "Ceil" => f64::ceil,
            "Floor" => f64::floor,
            "Round" => f64::round_ties_even,
            "Sin" => f64::sin,
            "Cos" => f64::cos,
            "Erf" => libm_erf,
            "Reciprocal" => |v| 1.0 / v,
            "Sign" => |v| if v == 0.0 { 0.0 } else { v.signum() },
            "Not" => |v| f64::from(u8::from(v == 0.0)),
            "IsNaN" => {
                return Some(Constant {
                    element: Element::Bool,
                    ..mapped(x, |v| f64::from(u8::from(v.is_nan())))
                });
            }
            operator => {
                // those with attributes are other functions
                let known = Activation::of_onnx_operator(operator)
                    .filter(|_| self.node.attribute.is_empty())?;
                return Some(mapped(x, |v| known.value(v)));
            }
        };
        Some(mapped(x, f))
    }

    fn combined(&self, given: &[&Constant]) -> Imported<Option<Constant>> {
        let operator = self.node.op_type.as_str();
        let truth = matches!(
            operator,
            "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "And" | "Or" | "Xor"
        );
        let [first, rest @ ..] = given else {
            return Ok(None);
        };
        let mut result = (*first).clone();
        for next in rest {
            let Some(dims) = broadcast_dims(&result.dims, &next.dims) else {
                return self.refuse(format!(
                    "{:?} and {:?} can't be broadcast",
                    result.dims, next.dims
                ));
            };
            self.room(&dims)?;
            let (Some(a), Some(b)) = (result.broadcast(&dims), next.broadcast(&dims)) else {
                return Ok(None);
            };
            let element = if truth { Element::Bool } else { result.element };
            let whole = result.element.is_integer();
            let is = |t: bool| f64::from(u8::from(t));
            let fmod = self.integer("fmod", 0) != 0;
            let one = |a: f64, b: f64| {
                Some(match operator {
                    "Add" | "Sum" | "Mean" => a + b,
                    "Sub" => a - b,
                    "Mul" => a * b,
                    "Div" if whole && b == 0.0 => return None,
                    "Div" if whole => (a / b).trunc(),
                    "Div" => a / b,
                    "Pow" => a.powf(b),
                    "Mod" if b == 0.0 => return None,
                    "Mod" if fmod => a % b,
                    "Mod" => a - b * (a / b).floor(),
                    "Max" => greater(a, b),
                    "Min" => lesser(a, b),
                    "Equal" => is(a == b),
                    "Less" => is(a < b),
                    "LessOrEqual" => is(a <= b),
                    "Greater" => is(a > b),
                    "GreaterOrEqual" => is(a >= b),
                    "And" => is(a != 0.0 && b != 0.0),
                    "Or" => is(a != 0.0 || b != 0.0),
                    "Xor" => is((a != 0.0) != (b != 0.0)),
                    _ => return None,
                })
            };
            // integers are kept as f64
            let kept = |v: f64| !whole || v.abs() < (1u64 << 53) as f64;
            if ![&a, &b].iter().all(|c| c.iter().all(|&v| kept(v))) {
                return self.refuse("integers of 2^53 and more are not computed with here; fold the model's constants first, as onnx-simplifier does");
            }
            let both = (a.iter().zip(b.iter())).map(|(&a, &b)| {
                let v = one(a, b).filter(|&v| truth || kept(v))?;
                Some(rounded(element, v))
            });
            let Some(values) = both.collect::<Option<Rc<[f64]>>>() else {
                return Ok(None);
            };
            result = Constant {
                element,
                dims,
                values,
            };
        }
        if operator == "Mean" {
            let count = given.len() as f64;
            result = mapped(&result, |v| v / count);
        }
        Ok(Some(result))
    }

    fn joined(&self, given: &[&Constant]) -> Imported<Option<Constant>> {
        let first = given[0];
        let axis = self.axis(self.integer("axis", 0), first.dims.len())?;
        let alike = |c: &&Constant| {
            c.dims.len() == first.dims.len()
                && c.element == first.element
                && (0..c.dims.len()).all(|k| k == axis || c.dims[k] == first.dims[k])
        };
        if !given.iter().all(alike) {
            return self.refuse("its constants differ in type or lengths");
        }
        let mut dims = first.dims.clone();
        dims[axis] = given
            .iter()
            .map(|c| c.dims[axis])
            .fold(0usize, usize::saturating_add);
        let count = self.room(&dims)?;
        let outer: usize = dims[..axis].iter().product();
        let mut values = Vec::with_capacity(count);
        for o in 0..outer {
            for c in given {
                let block = c.values.len() / outer.max(1);
                values.extend_from_slice(&c.values[o * block..(o + 1) * block]);
            }
        }
        Ok(Some(Constant::new(first.element, dims, values)))
    }

    fn range(&self, given: &[&Constant]) -> Imported<Option<Constant>> {
        let numbers: Option<Vec<f64>> = given.iter().map(|c| c.scalar()).collect();
        let Some(&[start, limit, step]) = numbers.as_deref() else {
            return Ok(None);
        };
        let count = ((limit - start) / step).ceil().max(0.0);
        if count.is_nan() || count > f64::from(1 << 24) {
            return self.refuse(format!(
                "from {start} to {limit} by {step} are too many values"
            ));
        }
        let count = self.room(&[count as usize])?;
        let values = (0..count).map(|i| start + i as f64 * step);
        Ok(Some(Constant::list(given[0].element, values)))
    }

    fn filled(&self, shape: &Constant) -> Imported<Option<Constant>> {
        let dims = self.lengths(&shape.integers().unwrap_or_default())?;
        if dims.len() > super::onnx_constant::MOST_AXES {
            return Ok(None);
        }
        let value = match self.attribute("value").and_then(|a| a.t.as_ref()) {
            Some(t) => Constant::from_proto(t, &self.import.external)?,
            None => Constant::of(Element::F32, 0.0),
        };
        let Some(v) = value.scalar() else {
            return Ok(None);
        };
        let count = self.room(&dims)?;
        Ok(Some(Constant::new(value.element, dims, vec![v; count])))
    }

    fn chosen(&self, given: &[&Constant]) -> Imported<Option<Constant>> {
        let &[c, a, b] = given else {
            return Ok(None);
        };
        let dims = broadcast_dims(&a.dims, &b.dims).and_then(|d| broadcast_dims(&d, &c.dims));
        let Some(dims) = dims else {
            return self.refuse("its constants can't be broadcast");
        };
        self.room(&dims)?;
        let (Some(c), Some(x), Some(y)) =
            (c.broadcast(&dims), a.broadcast(&dims), b.broadcast(&dims))
        else {
            return Ok(None);
        };
        let values = c
            .iter()
            .zip(x.iter().zip(y.iter()))
            .map(|(&c, (&x, &y))| if c != 0.0 { x } else { y });
        Ok(Some(Constant::new(a.element, dims, values)))
    }

    fn reduced(&self, x: &Constant) -> Imported<Option<Constant>> {
        let rank = x.dims.len();
        let Some(axes) = self.reduced_axes(rank)? else {
            return Ok(Some(match self.node.op_type.as_str() {
                "ReduceL2" => mapped(x, f64::abs),
                "ReduceSumSquare" => mapped(x, |v| v * v),
                _ => x.clone(),
            }));
        };
        let kept: Vec<usize> = (0..rank).filter(|k| !axes.contains(k)).collect();
        let n: usize = axes.iter().map(|&k| x.dims[k]).product();
        let Some(all) = Axes::row_major(&x.dims).filter(|_| n > 0) else {
            return Ok(None);
        };
        self.room(&x.dims)?;
        let order = [&kept[..], &axes].concat();
        let together = all.transposed(&order).gather(&x.values);
        let operator = self.node.op_type.as_str();
        let values = together.chunks(n).map(|v| {
            let sum = || v.iter().sum::<f64>();
            let squares = || v.iter().map(|v| v * v).sum::<f64>();
            let value = match operator {
                "ReduceMean" => sum() / n as f64,
                "ReduceSum" => sum(),
                "ReduceMax" => v.iter().copied().fold(f64::NEG_INFINITY, greater),
                "ReduceMin" => v.iter().copied().fold(f64::INFINITY, lesser),
                "ReduceProd" => v.iter().product(),
                "ReduceL2" => squares().sqrt(),
                _ => squares(),
            };
            rounded(x.element, value)
        });
        let keeps = self.integer("keepdims", 1) != 0;
        let dims = (0..rank).filter(|k| keeps || !axes.contains(k));
        let dims = dims
            .map(|k| if axes.contains(&k) { 1 } else { x.dims[k] })
            .collect();
        Ok(Some(Constant::new(x.element, dims, values)))
    }

    /// The product of two matrices, or of as many as both have before their last two axes, each broadcast to the other.
    pub(super) fn multiplied(&self, a: &Constant, b: &Constant) -> Imported<Option<Constant>> {
        // a vector is a row on the left, a column on the right
        let row = [&vec![1; usize::from(a.dims.len() == 1)][..], &a.dims].concat();
        let column = [&b.dims[..], &vec![1; usize::from(b.dims.len() == 1)]].concat();
        let (&[ref own @ .., m, k], &[ref others @ .., l, n]) = (&row[..], &column[..]) else {
            return Ok(None);
        };
        let Some(batch) = broadcast_dims(own, others).filter(|_| k == l) else {
            return self.refuse(format!(
                "matrices of {:?} and {:?} can't be multiplied",
                a.dims, b.dims
            ));
        };
        let of = |last: &[usize]| [&batch[..], last].concat();
        let count = self.room(&of(&[m, n]))?;
        let work = self.bounded(&of(&[m, k, n]))?;
        self.import.charge(work / 64)?;
        let all = |c: &Constant, own: &[usize], to: Vec<usize>| -> Imported<Option<Rc<[f64]>>> {
            if own != to {
                self.room(&to)?;
            }
            Ok(c.with_dims(own.to_vec()).broadcast(&to))
        };
        let (Some(left), Some(right)) = (all(a, &row, of(&[m, k]))?, all(b, &column, of(&[k, n]))?)
        else {
            return Ok(None);
        };
        // of no values the other lengths may be anything
        let blocks = count.checked_div(m.saturating_mul(n)).unwrap_or(0);
        let mut values = Vec::with_capacity(count);
        for block in 0..blocks {
            let right = &right[block * k * n..][..k * n];
            for i in 0..m {
                let row = &left[(block * m + i) * k..][..k];
                for j in 0..n {
                    let column = right.iter().skip(j).step_by(n);
                    let sum: f64 = row.iter().zip(column).map(|(x, y)| x * y).sum();
                    values.push(rounded(a.element, sum));
                }
            }
        }
        let mut dims = batch;
        dims.extend((a.dims.len() > 1).then_some(m));
        dims.extend((b.dims.len() > 1).then_some(n));
        Ok(Some(Constant::new(a.element, dims, values)))
    }

    /// α·AB + β·C, each matrix turned where it is asked for.
    fn dense(&self, given: &[&Constant]) -> Imported<Option<Constant>> {
        let &[a, b, ref bias @ ..] = given else {
            return Ok(None);
        };
        let turned = |c: &Constant, name: &str| {
            let axes = Axes::row_major(&c.dims).filter(|a| a.rank() == 2)?;
            Some(match self.integer(name, 0) {
                0 => c.clone(),
                _ => c.moved(&axes.transposed(&[1, 0])),
            })
        };
        self.import.charge(a.values.len())?;
        self.import.charge(b.values.len())?;
        let (Some(a), Some(b)) = (turned(a, "transA"), turned(b, "transB")) else {
            return Ok(None);
        };
        let (alpha, beta) = (self.float("alpha", 1.0), self.float("beta", 1.0));
        let Some(product) = self.multiplied(&a, &b)? else {
            return Ok(None);
        };
        let scaled = mapped(&product, |v| alpha * v);
        let [c] = bias else {
            return Ok(Some(scaled));
        };
        let Some(c) = c.broadcast(&scaled.dims) else {
            return self.refuse(format!("bias of shape {:?} for {:?}", c.dims, scaled.dims));
        };
        let sums = scaled.values.iter().zip(c.iter());
        let sums = sums.map(|(v, c)| rounded(scaled.element, v + beta * c));
        Ok(Some(scaled.with_values(sums)))
    }

    /// The sums over these axes, which go.
    pub(super) fn total(&self, x: &Constant, axes: &[usize]) -> Imported<Constant> {
        let kept: Vec<usize> = (0..x.dims.len()).filter(|k| !axes.contains(k)).collect();
        let n: usize = axes.iter().map(|&k| x.dims[k]).product();
        let Some(all) = Axes::row_major(&x.dims).filter(|_| n > 0) else {
            return self.refuse(format!(
                "a constant of shape {:?} is empty or too large",
                x.dims
            ));
        };
        self.room(&x.dims)?;
        let together = all
            .transposed(&[&kept[..], axes].concat())
            .gather(&x.values);
        let sums = together
            .chunks(n)
            .map(|v| rounded(x.element, v.iter().sum()));
        let dims = kept.iter().map(|&k| x.dims[k]).collect();
        Ok(Constant::new(x.element, dims, sums))
    }

    /// Shares of 1 along an axis, or their logarithms; before operator set 13 over all axes from it on.
    fn shared(&self, x: &Constant) -> Imported<Option<Constant>> {
        let rank = x.dims.len();
        let old = self.import.opset < 13;
        let axis = self.axis(self.integer("axis", if old { 1 } else { -1 }), rank)?;
        let over = |k: usize| k == axis || old && k > axis;
        let (over, kept): (Vec<usize>, Vec<usize>) = (0..rank).partition(|&k| over(k));
        let n: usize = over.iter().map(|&k| x.dims[k]).product();
        let order = [kept, over].concat();
        let (Some(from), Some(to)) = (Axes::row_major(&x.dims), Axes::stored(&x.dims, &order))
        else {
            return Ok(None);
        };
        self.room(&x.dims)?;
        let logarithms = self.node.op_type == "LogSoftmax";
        let mut shares = Vec::with_capacity(x.values.len());
        for row in from.transposed(&order).gather(&x.values).chunks(n.max(1)) {
            let most = row.iter().copied().fold(f64::NEG_INFINITY, greater);
            let sum: f64 = row.iter().map(|v| (v - most).exp()).sum();
            shares.extend(row.iter().map(|v| match logarithms {
                true => v - most - sum.ln(),
                false => (v - most).exp() / sum,
            }));
        }
        let shares = to.gather(&shares);
        Ok(Some(x.with_values(
            shares.iter().map(|&v| rounded(x.element, v)),
        )))
    }

    /// The places of what is not zero: for each axis a row of indices.
    fn places(&self, x: &Constant) -> Imported<Option<Constant>> {
        let rank = x.dims.len();
        let found = (0..x.values.len()).filter(|&i| x.values[i] != 0.0);
        let found: Vec<usize> = found.collect();
        if rank == 0 {
            return Ok(None);
        }
        self.room(&[rank, found.len()])?;
        let step = |k: usize| x.dims[k + 1..].iter().product::<usize>();
        let along = |k: usize| found.iter().map(move |i| (i / step(k) % x.dims[k]) as f64);
        let values: Vec<f64> = (0..rank).flat_map(along).collect();
        Ok(Some(Constant::new(
            Element::I64,
            vec![rank, found.len()],
            values,
        )))
    }

    /// (x − zero)·scale, of all values or along an axis.
    fn dequantised(&self, given: &[&Constant]) -> Imported<Option<Constant>> {
        let &[x, scale, ref zero @ ..] = given else {
            return Ok(None);
        };
        if self.integer("block_size", 0) != 0 {
            return Ok(None);
        }
        let to = match self.integer("output_dtype", 0) {
            0 => Some(scale.element),
            to => element(to).filter(|to| !to.is_integer() && *to != Element::Bool),
        };
        let Some(to) = to else {
            return Ok(None);
        };
        let count = self.room(&x.dims)?;
        let (length, inner) = match scale.values.len() {
            1 => (1, count.max(1)),
            n => {
                let axis = self.axis(self.integer("axis", 1), x.dims.len())?;
                if x.dims[axis] != n {
                    return self.refuse(format!("{n} scales for axis {axis} of {:?}", x.dims));
                }
                (n, x.dims[axis + 1..].iter().product::<usize>().max(1))
            }
        };
        let zero = match zero {
            [] => None,
            [z] if z.values.len() == scale.values.len() => Some(*z),
            _ => return Ok(None),
        };
        let values = x.values.iter().enumerate().map(|(i, v)| {
            let c = i / inner % length;
            let less = zero.map_or(0.0, |z| z.values[c]);
            to.nearest((v - less) * scale.values[c])
        });
        Ok(Some(Constant::new(to, x.dims.clone(), values)))
    }

    /// Weights that are standardised: over all but the channel, by their own mean and variance or by those given.
    fn normalised_constant(&self, given: &[&Constant]) -> Imported<Option<Constant>> {
        let &[x, scale, bias, ref rest @ ..] = given else {
            return Ok(None);
        };
        let (own, outer) = match (self.node.op_type.as_str(), rest) {
            ("InstanceNormalization", []) => (true, true),
            ("BatchNormalization", [_, _]) => (self.integer("training_mode", 0) != 0, false),
            _ => return Ok(None),
        };
        let &[batch, channels, ref spatial @ ..] = &x.dims[..] else {
            return Ok(None);
        };
        let inner: usize = spatial.iter().product();
        let short = |c: &&Constant| c.values.len() < channels;
        if given[1..].iter().any(short) || inner == 0 || batch == 0 {
            return Ok(None);
        }
        let count = self.room(&x.dims)?;
        let epsilon = self.float("epsilon", 1e-5);
        let mut values = vec![0.0; count];
        let blocks = if outer { batch } else { 1 };
        let each = batch / blocks;
        for b in 0..blocks {
            for c in 0..channels {
                let places = || {
                    (0..each).flat_map(move |e| {
                        ((b * each + e) * channels + c) * inner
                            ..((b * each + e) * channels + c + 1) * inner
                    })
                };
                let n = (each * inner) as f64;
                let (mean, variance) = match own {
                    true => {
                        let mean = places().map(|i| x.values[i]).sum::<f64>() / n;
                        (
                            mean,
                            places().map(|i| (x.values[i] - mean).powi(2)).sum::<f64>() / n,
                        )
                    }
                    false => (rest[0].values[c], rest[1].values[c]),
                };
                let factor = scale.values[c] / (variance + epsilon).sqrt();
                for i in places() {
                    values[i] = rounded(x.element, (x.values[i] - mean) * factor + bias.values[c]);
                }
            }
        }
        Ok(Some(x.with_values(values)))
    }

    fn summed(&self, given: &[&Constant]) -> Imported<Option<Constant>> {
        let &[x, axis] = given else {
            return Ok(None);
        };
        let axis = axis.scalar().map_or(0, |a| a as i64);
        let axis = self.axis(axis, x.dims.len())?;
        let (exclusive, reverse) = self.running();
        self.room(&x.dims)?;
        let inner: usize = x.dims[axis + 1..].iter().product();
        let length = x.dims[axis];
        let mut values = x.values.to_vec();
        let first = |i: &usize| (i / inner).is_multiple_of(length);
        for start in (0..values.len()).filter(first) {
            let mut sum = 0.0;
            for k in 0..length {
                let k = if reverse { length - 1 - k } else { k };
                let v = &mut values[start + k * inner];
                let before = sum;
                sum = rounded(x.element, sum + *v);
                *v = if exclusive { before } else { sum };
            }
        }
        Ok(Some(x.with_values(values)))
    }

    /// Whether a CumSum leaves each value's own out, and whether it begins at the end.
    pub(super) fn running(&self) -> (bool, bool) {
        let set = |name| self.integer(name, 0) != 0;
        (set("exclusive"), set("reverse"))
    }

    pub(super) fn triangle(&self, given: &[&Constant]) -> Imported<Option<Constant>> {
        let x = given[0];
        let &[.., rows, columns] = &x.dims[..] else {
            return Ok(None);
        };
        let k = given.get(1).and_then(|k| k.scalar()).unwrap_or(0.0);
        let upper = self.integer("upper", 1) != 0;
        self.room(&x.dims)?;
        let values = x.values.iter().enumerate().map(|(i, &v)| {
            let (r, c) = (i / columns.max(1) % rows.max(1), i % columns.max(1));
            let by = c as f64 - r as f64;
            if (upper && by >= k) || (!upper && by <= k) {
                v
            } else {
                0.0
            }
        });
        Ok(Some(x.with_values(values)))
    }

    fn scattered(&self, given: &[&Constant]) -> Imported<Option<Constant>> {
        let (&[x, indices, updates], "" | "none") = (given, self.text("reduction").as_str()) else {
            return Ok(None);
        };
        let Some((&depth, _)) = indices.dims.split_last() else {
            return Ok(None);
        };
        if depth == 0 || depth > x.dims.len() {
            return Ok(None);
        }
        self.room(&x.dims)?;
        let block: usize = x.dims[depth..].iter().product();
        let mut values = x.values.to_vec();
        if updates.values.len() != indices.values.len() / depth * block {
            return Ok(None);
        }
        for (index, update) in indices
            .values
            .chunks(depth)
            .zip(updates.values.chunks(block.max(1)))
        {
            let mut at = 0;
            for (&i, &d) in index.iter().zip(&x.dims) {
                let i = if i < 0.0 { i + d as f64 } else { i };
                if !(i >= 0.0 && i < d as f64) {
                    return self.refuse(format!("an index lies outside of {:?}", x.dims));
                }
                at = at * d + i as usize;
            }
            values[at * block..][..block].copy_from_slice(update);
        }
        Ok(Some(x.with_values(values)))
    }

    /// The value of a Constant node.
    pub(super) fn stated(&self) -> Imported<Constant> {
        let constant = constant_node(self.node, &self.import.external)?;
        self.import.charge(constant.values.len())?;
        Ok(constant)
    }
}

fn libm_erf(v: f64) -> f64 {
    // x·Φ(x) is known to full precision, and Φ(x) = (1 + erf(x/√2))/2
    let x = v * std::f64::consts::SQRT_2;
    match x == 0.0 {
        true => 0.0,
        false => 2.0 * Activation::Gelu.value(x) / x - 1.0,
    }
}

/// The number as its type has it.
fn rounded(element: Element, v: f64) -> f64 {
    match element {
        _ if element.is_integer() && v.is_finite() => wrapped(element, v.trunc() as i128),
        _ => element.nearest(v),
    }
}

/// The greater of two numbers, NaN where one is: `f64::max` gives the other then.
fn greater(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.max(b)
    }
}

fn lesser(a: f64, b: f64) -> f64 {
    -greater(-a, -b)
}

fn mapped(x: &Constant, f: impl Fn(f64) -> f64) -> Constant {
    x.with_values(x.values.iter().map(|&v| rounded(x.element, f(v))))
}

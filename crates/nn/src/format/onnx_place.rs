//! Tensors brought to the places where operators need them, and what is built on that: functions of each value, linear maps along axes, means,
//! norms.

use super::onnx_axes::Axes;
use super::onnx_import::{Import, Imported, Stop, View};
use super::onnx_operator::Importing;
use crate::Result;
use crate::graph::NodeId;
use crate::op::{
    AvgPool, AxisSlice, Conv2d, Linear, Nonlinearity, Norm, NormKind, Op, Pad, Padding, Rearrange,
    Slice,
};
use crate::tensor::{Parameter, Shape};
use approx::Activation;

/// The shape that a tensor of these axes has as a network's value: the batch is left out where it is 1.
pub(super) fn shape_of(dims: &[usize]) -> Shape {
    let inner = match dims {
        [1, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    };
    match *inner {
        [] => Shape::Vector(1),
        [n] => Shape::Vector(n),
        [a, b] => Shape::image(a, 1, b),
        [a, ref middle @ .., b] => {
            let rows = middle.iter().fold(1usize, |p, &d| p.saturating_mul(d));
            Shape::image(a, rows, b)
        }
    }
}

impl Import<'_> {
    /// The node that has exactly a view's values, the axes in this order, outermost first.
    pub(super) fn placed(
        &mut self,
        name: &str,
        view: &View,
        order: &[usize],
        to: Shape,
    ) -> Result<NodeId> {
        let from = self.network.shape(view.node);
        let axes = view.axes.transposed(order);
        let same: Vec<usize> = (0..order.len()).collect();
        if Axes::row_major(&axes.dims()).as_ref() == Some(&axes) && axes.count() == from.len() {
            if from == to {
                return Ok(view.node);
            }
            let op = match to {
                Shape::Vector(_) => Op::Flatten,
                _ => Op::Reshape(to),
            };
            let name = self.free_name(&format!("{name}.shape"));
            return self.network.add(name, op, &[view.node]);
        }
        self.charge(axes.size())?;
        let offsets = axes.offsets(&same);
        let name = self.free_name(&format!("{name}.places"));
        let merged = || merged(&offsets, from);
        if let Some(op) = known(&offsets, from).or_else(|| known(&merged()?, from)) {
            let id = self.network.add(name.clone(), op, &[view.node])?;
            let whole = Axes::row_major(&[to.len()]);
            let had = self.network.shape(id);
            if had.len() == to.len()
                && let Some(axes) = whole
            {
                return self.placed(&name, &View { node: id, axes }, &[0], to);
            }
        }
        let op = Op::Rearrange(Rearrange { shape: to, offsets });
        self.network.add(name, op, &[view.node])
    }

    /// The network's result: the tensor row-major.
    pub(super) fn result(&mut self, name: &str, view: &View) -> Result<NodeId> {
        let dims = view.axes.dims();
        let order: Vec<usize> = (0..dims.len()).collect();
        let count = self.network.shape(view.node).len();
        if view.axes.order(count).as_deref() == Some(&order[..])
            && self.network.shape(view.node).dims().len() == shape_of(&dims).dims().len()
        {
            return Ok(view.node);
        }
        self.placed(name, view, &order, shape_of(&dims))
    }
}

/// The slice or the padding that these offsets into a picture or a vector are, if they are one.
fn known(offsets: &[Vec<u32>], from: Shape) -> Option<Op<Nonlinearity>> {
    let dims = from.dims();
    let mut steps: Vec<usize> = vec![1; dims.len()];
    for k in (0..dims.len().saturating_sub(1)).rev() {
        steps[k] = steps[k + 1] * dims[k + 1];
    }
    // offsets that choose along no axis of a picture but one are along that one
    let mut chosen: Vec<Vec<Option<usize>>> = Vec::new();
    let mut base = 0usize;
    let mut lists = offsets.iter().peekable();
    for (&d, &step) in dims.iter().zip(&steps) {
        let along = |o: &&Vec<u32>| {
            let first = o.iter().find(|o| **o != Rearrange::ZERO);
            let last = o.iter().rfind(|o| **o != Rearrange::ZERO);
            match (first, last) {
                (Some(&a), Some(&b)) if a != b => (a.abs_diff(b) as usize).is_multiple_of(step),
                _ => true,
            }
        };
        let Some(list) = lists.next_if(along) else {
            chosen.push(vec![Some(0)]);
            continue;
        };
        if list.len() == 1 && d == 1 {
            base += *list.first()? as usize;
            chosen.push(vec![Some(0)]);
            continue;
        }
        let smallest = list.iter().filter(|o| **o != Rearrange::ZERO).min()?;
        base += *smallest as usize;
        let index = |&o: &u32| match o {
            Rearrange::ZERO => Some(None),
            o => {
                let by = (o - smallest) as usize;
                by.is_multiple_of(step).then_some(Some(by / step))
            }
        };
        chosen.push(list.iter().map(index).collect::<Option<_>>()?);
    }
    if lists.next().is_some() {
        return None;
    }
    // what is left over is where each axis begins
    for ((c, &d), &step) in chosen.iter_mut().zip(&dims).zip(&steps) {
        let begin = base / step;
        base %= step;
        for i in c.iter_mut().flatten() {
            *i += begin;
            if *i >= d {
                return None;
            }
        }
    }
    slice(&chosen).or_else(|| padding(&chosen, &dims))
}

/// The same offsets along fewer axes: those that go on where another ends, and the rows and columns of a picture apart where all are taken.
fn merged(offsets: &[Vec<u32>], from: Shape) -> Option<Vec<Vec<u32>>> {
    let step = |o: &[u32]| match *o {
        [a, b, ..] => b.checked_sub(a),
        _ => None,
    };
    let even = |o: &[u32], step: u32| o.windows(2).all(|w| w[0].checked_add(step) == Some(w[1]));
    let mut out: Vec<Vec<u32>> = Vec::new();
    for list in offsets {
        let joined = out.last_mut().filter(|last| {
            let (Some(outer), Some(inner)) = (step(last), step(list)) else {
                return false;
            };
            let ends = inner.checked_mul(list.len() as u32) == Some(outer) && list[0] == 0;
            ends && even(last, outer) && even(list, inner)
        });
        match joined {
            Some(last) => {
                *last = last
                    .iter()
                    .flat_map(|a| list.iter().map(move |b| a + b))
                    .collect()
            }
            None => out.push(list.clone()),
        }
    }
    if let (Some((_, h, w)), Some(last)) = (from.as_image(), out.last())
        && h > 1
        && last.len() == h * w
        && last.iter().enumerate().all(|(i, &o)| o as usize == i)
    {
        out.pop();
        out.push((0..h).map(|i| (i * w) as u32).collect());
        out.push((0..w as u32).collect());
    }
    Some(out)
}

fn slice(chosen: &[Vec<Option<usize>>]) -> Option<Op<Nonlinearity>> {
    let axis = |c: &Vec<Option<usize>>| {
        let indices = c.iter().copied().collect::<Option<Vec<usize>>>()?;
        let (first, last) = (*indices.first()?, *indices.last()?);
        let step = match indices.get(1) {
            Some(second) => second.checked_sub(first).filter(|s| *s > 0)?,
            None => 1,
        };
        let even = indices
            .iter()
            .enumerate()
            .all(|(k, &i)| i == first + k * step);
        even.then_some(AxisSlice {
            begin: first,
            end: last + 1,
            step,
        })
    };
    let axes = chosen.iter().map(axis).collect::<Option<Vec<_>>>()?;
    Some(Op::Slice(Slice { axes }))
}

fn padding(chosen: &[Vec<Option<usize>>], dims: &[usize]) -> Option<Op<Nonlinearity>> {
    let around = |(c, &d): (&Vec<Option<usize>>, &usize)| {
        let before = c.iter().position(Option::is_some)?;
        let after = c.len().checked_sub(before + d)?;
        let whole = c[before..before + d]
            .iter()
            .enumerate()
            .all(|(k, i)| *i == Some(k));
        let zeros = c[before + d..].iter().all(Option::is_none);
        (whole && zeros).then_some((before, after))
    };
    let sides = chosen
        .iter()
        .zip(dims)
        .map(around)
        .collect::<Option<Vec<_>>>()?;
    let [channels, rows, columns] = sides[..] else {
        return None;
    };
    Some(Op::Pad(Pad {
        channels,
        spatial: [rows.0, rows.1, columns.0, columns.1].into(),
    }))
}

/// A tensor as a node, and in which order its axes lie there.
pub(super) struct Laid {
    pub(super) node: NodeId,
    pub(super) order: Vec<usize>,
}

impl Importing<'_, '_> {
    pub(super) fn stored(&self, node: NodeId, dims: &[usize], order: &[usize]) -> Imported<View> {
        self.import
            .charge(dims.iter().fold(0, |s, &d| s.saturating_add(d)))?;
        let axes = Axes::stored(dims, order);
        let axes = axes.ok_or_else(|| self.invalid("it has too many values"))?;
        Ok(View { node, axes })
    }

    /// The node that has exactly these values, the axes in this order.
    pub(super) fn placed(&mut self, x: &View, order: &[usize], to: Shape) -> Imported<NodeId> {
        if to.checked_len() != Some(x.axes.count()) {
            return Err(Stop::New(self.invalid(format!(
                "a tensor of shape {:?} is empty or too large",
                x.axes.dims()
            ))));
        }
        let name = self.name.clone();
        Ok(self.import.placed(&name, x, order, to)?)
    }

    /// The tensor as a node that has each of its values once: the one that it is part of, where it has no others.
    pub(super) fn laid(&mut self, x: &View) -> Imported<Laid> {
        let count = self.shape(x.node).len();
        if let Some(order) = x.axes.order(count) {
            return Ok(Laid {
                node: x.node,
                order,
            });
        }
        let order: Vec<usize> = (0..x.axes.rank()).collect();
        let node = self.placed(x, &order, shape_of(&x.axes.dims()))?;
        Ok(Laid { node, order })
    }

    /// The tensor's values, row-major, as a picture (1, C, H, W) or a signal (1, C, L) without its batch.
    pub(super) fn picture(&mut self, x: &View) -> Imported<NodeId> {
        let dims = x.axes.dims();
        let to = match dims[..] {
            [1, c, l] => Shape::image(c, 1, l),
            [1, c, h, w] => Shape::image(c, h, w),
            [batch, _, _] | [batch, _, _, _] if batch != 1 => {
                return Err(Stop::New(self.invalid(format!(
                    "needs one picture, {batch} were given, of shape {dims:?}"
                ))));
            }
            [_, _, _, _, _] => {
                return Err(Stop::New(self.invalid(format!(
                    "{dims:?} has three axes behind the channels; pictures and signals have two or one"
                ))));
            }
            _ => {
                return Err(Stop::New(self.invalid(format!(
                    "needs a picture (1, channels, height, width) or a signal (1, channels, length), {dims:?} was given"
                ))));
            }
        };
        let order: Vec<usize> = (0..dims.len()).collect();
        self.placed(x, &order, to)
    }

    /// What an operator makes of each value by itself.
    pub(super) fn each(&mut self, suffix: &str, op: Op<Nonlinearity>, x: &View) -> Imported<View> {
        let count = self.shape(x.node).len();
        // values that are not needed would count among those that are calibrated
        if !x.axes.zeros() && x.axes.count() >= count {
            let node = self.add_as(suffix, op, &[x.node])?;
            return Ok(View {
                node,
                axes: x.axes.clone(),
            });
        }
        let laid = self.laid(x)?;
        let node = self.add_as(suffix, op, &[laid.node])?;
        self.stored(node, &x.axes.dims(), &laid.order)
    }

    pub(super) fn act(&mut self, suffix: &str, f: Activation, x: &View) -> Imported<View> {
        self.each(suffix, Op::Elementwise(f.into()), x)
    }

    /// factor·x + shift.
    pub(super) fn affine(&mut self, x: &View, factor: f64, shift: f64) -> Imported<View> {
        if factor == 1.0 && shift == 0.0 {
            return Ok(x.clone());
        }
        if !factor.is_finite() || !shift.is_finite() {
            return Err(Stop::New(self.invalid(format!(
                "its constants come to {factor} and {shift}, which are no weights"
            ))));
        }
        let f = Nonlinearity::affine(&self.name, factor, shift)?;
        self.each("affine", Op::Elementwise(f), x)
    }

    /// The sum over the axes `over` of the values times weights: `weight` is (groups·N, K), K along `over`, a block of N rows for each of the indices
    /// along `groups`. The result has all axes but `over` in their order, then N.
    pub(super) fn contract(
        &mut self,
        x: &View,
        groups: &[usize],
        over: &[usize],
        weight: Parameter,
        bias: Option<Parameter>,
    ) -> Imported<View> {
        let dims = x.axes.dims();
        let laid = x.axes.order(self.shape(x.node).len());
        let others = laid.unwrap_or_else(|| (0..dims.len()).collect());
        let mut rest = others;
        rest.retain(|k| !groups.contains(k) && !over.contains(k));
        let count = |axes: &[usize]| axes.iter().map(|&k| dims[k]).product::<usize>();
        let (blocks, columns) = (count(groups), count(over));
        let channels = blocks * columns;
        let spots = count(&rest);
        let order: Vec<usize> = [groups, over, &rest].concat();
        let rows = weight.shape()[0];
        let per_group = rows / blocks.max(1);
        let node = if spots == 1 && blocks == 1 {
            // what only changes places goes into the weights: a picture whose channels were last is flattened in another order
            let (x, weight) = match self.moved_columns(x, &order, &weight)? {
                Some(weight) => {
                    let axes = Axes::row_major(&[channels]).unwrap_or(x.axes.clone());
                    (
                        self.placed(&x.with(axes), &[0], Shape::Vector(channels))?,
                        weight,
                    )
                }
                None => (self.placed(x, &order, Shape::Vector(channels))?, weight),
            };
            self.add(Op::Linear(Linear { weight, bias }), &[x])?
        } else {
            let to = self.spread(x.node, channels, &rest, &dims);
            let x = self.placed(x, &order, to)?;
            let weight = weight.reshaped(&self.name, &[rows, columns, 1, 1])?;
            let conv = Conv2d {
                bias,
                groups: blocks,
                ..Conv2d::new(weight)
            };
            self.add(Op::Conv2d(conv), &[x])?
        };
        let kept: Vec<usize> = (0..dims.len()).filter(|k| !over.contains(k)).collect();
        let mut out: Vec<usize> = kept.iter().map(|&k| dims[k]).collect();
        out.push(per_group);
        let place = |k: &usize| kept.iter().position(|j| j == k);
        let mut stored: Vec<usize> = groups.iter().filter_map(place).collect();
        stored.push(kept.len());
        stored.extend(rest.iter().filter_map(place));
        self.stored(node, &out, &stored)
    }

    /// A matrix on a view, its axes in this order, as one on its node's values in their own: where the view has each of them once, but elsewhere.
    fn moved_columns(
        &self,
        x: &View,
        order: &[usize],
        weight: &Parameter,
    ) -> Imported<Option<Parameter>> {
        let axes = x.axes.transposed(order);
        let count = self.shape(x.node).len();
        if axes.count() != count || Axes::row_major(&axes.dims()).as_ref() == Some(&axes) {
            return Ok(None);
        }
        self.import.charge(weight.values().len())?;
        let same: Vec<usize> = (0..order.len()).collect();
        let all = Rearrange {
            shape: Shape::Vector(count),
            offsets: axes.offsets(&same),
        };
        let (mut columns, mut next) = (vec![None; count], 0);
        all.each(|from| {
            if let Some(column) = from.and_then(|i| columns.get_mut(i)) {
                *column = Some(next);
            }
            next += 1;
        });
        let Some(columns) = columns.into_iter().collect::<Option<Vec<usize>>>() else {
            return Ok(None);
        };
        let rows = weight.values().chunks_exact(count);
        let values: Vec<f32> = rows
            .flat_map(|row| columns.iter().map(|&c| row[c]))
            .collect();
        let moved = Parameter::new(&self.name, weight.shape(), values)?;
        Ok(Some(moved))
    }

    /// Channels and the picture that other axes, in this order, make: the one that the node has already, if that fits.
    fn spread(&self, node: NodeId, channels: usize, rest: &[usize], dims: &[usize]) -> Shape {
        let lengths: Vec<usize> = rest.iter().map(|&k| dims[k]).filter(|&d| d > 1).collect();
        let all: usize = lengths.iter().product();
        match (self.shape(node).as_image(), &lengths[..]) {
            (Some((c, h, w)), _) if c == channels && h * w == all => Shape::image(c, h, w),
            (_, []) => Shape::image(channels, 1, 1),
            (_, [l]) => Shape::image(channels, 1, *l),
            (_, [first, others @ ..]) => Shape::image(channels, *first, others.iter().product()),
        }
    }

    /// The mean over these axes, which stay with length 1.
    pub(super) fn mean(&mut self, x: &View, over: &[usize]) -> Imported<View> {
        let dims = x.axes.dims();
        let mut out = dims.clone();
        over.iter().for_each(|&k| out[k] = 1);
        let laid = self.laid(x)?;
        let mut order = laid.order;
        let mut node = laid.node;
        let inside = |k: &usize| over.contains(k) && dims[*k] > 1;
        let first = order.iter().position(inside);
        let last = order.iter().rposition(inside);
        let (Some(first), Some(last)) = (first, last) else {
            return self.stored(node, &out, &order);
        };
        let count = |axes: &[usize]| axes.iter().map(|&k| dims[k]).product::<usize>();
        let (mut outer, mut n, mut inner) = (
            count(&order[..first]),
            count(over),
            count(&order[last + 1..]),
        );
        if count(&order[first..=last]) != n {
            // bring what is summed together, innermost
            order.retain(|k| !over.contains(k));
            (outer, inner) = (count(&order), 1);
            order.extend(over);
            n = count(over);
            let to = Shape::image(outer, 1, n);
            node = self.placed(x, &order, to)?;
        }
        let (from, of) = (self.shape(node), |c, h, w| Shape::image(c, h, w));
        let whole = |node| View {
            node,
            axes: Axes::row_major(&[from.len()]).unwrap_or(x.axes.clone()),
        };
        let window = |kernel| {
            Op::AvgPool(AvgPool {
                kernel,
                stride: kernel,
                padding: Padding::default(),
                count_include_pad: true,
            })
        };
        let node = match from.as_image() {
            Some((c, h, w)) if outer == c && h * w == n => self.add(Op::GlobalAvgPool, &[node])?,
            Some((c, h, w)) if outer == c * h && w == n && h > 1 => {
                self.add(window((1, w)), &[node])?
            }
            Some((c, h, w)) if outer == c && h == n && w == inner => {
                self.add(window((h, 1)), &[node])?
            }
            _ if inner == 1 => {
                let node = self.placed(&whole(node), &[0], of(outer, 1, n))?;
                self.add(Op::GlobalAvgPool, &[node])?
            }
            _ if outer == 1 => {
                let to = match from.as_image() {
                    Some((c, h, w)) if c == n => of(c, h, w),
                    _ => of(n, 1, inner),
                };
                let node = self.placed(&whole(node), &[0], to)?;
                let weight = vec![1.0 / n as f32; n];
                let weight = Parameter::new(&self.name, [1, n, 1, 1], weight)?;
                self.add(Op::Conv2d(Conv2d::new(weight)), &[node])?
            }
            _ => {
                let node = self.placed(&whole(node), &[0], of(outer, n, inner))?;
                self.add(window((n, 1)), &[node])?
            }
        };
        self.stored(node, &out, &order)
    }

    /// The tensor with these axes as channels, and what is to be done to each position's channels.
    pub(super) fn over_channels(
        &mut self,
        x: &View,
        axes: &[usize],
        op: impl FnOnce(usize, &str) -> Result<Op<Nonlinearity>>,
    ) -> Imported<View> {
        let dims = x.axes.dims();
        let laid = x.axes.order(self.shape(x.node).len());
        let mut rest = laid.unwrap_or_else(|| (0..dims.len()).collect());
        rest.retain(|k| !axes.contains(k));
        let channels: usize = axes.iter().map(|&k| dims[k]).product();
        let to = match rest.iter().all(|&k| dims[k] == 1) {
            true => Shape::Vector(channels),
            false => self.spread(x.node, channels, &rest, &dims),
        };
        let order = [axes, &rest[..]].concat();
        let node = self.placed(x, &order, to)?;
        let op = op(channels, &self.name)?;
        let node = self.add(op, &[node])?;
        self.stored(node, &dims, &order)
    }

    /// Normalised over these axes.
    pub(super) fn normalised(
        &mut self,
        x: &View,
        axes: &[usize],
        (kind, epsilon): (NormKind, f64),
        scale: Option<Parameter>,
        bias: Option<Parameter>,
    ) -> Imported<View> {
        self.over_channels(x, axes, |channels, name| {
            let scale = match scale {
                Some(s) => s.reshaped(name, &[channels])?,
                None => Parameter::new(name, [channels], vec![1.0; channels])?,
            };
            let bias = bias.map(|b| b.reshaped(name, &[channels])).transpose()?;
            Ok(Op::Norm(Norm {
                kind,
                scale,
                epsilon,
                bias,
            }))
        })
    }

    /// A computed tensor as a row-major node of its own.
    pub(super) fn compact(&mut self, x: &View) -> Imported<View> {
        let dims = x.axes.dims();
        let order: Vec<usize> = (0..dims.len()).collect();
        let node = self.placed(x, &order, shape_of(&dims))?;
        let axes = Axes::row_major(&dims).ok_or_else(|| self.invalid("it has too many values"))?;
        Ok(View { node, axes })
    }
}

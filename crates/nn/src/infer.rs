//! The shape of an operator's output, and every check on its parameters.

use crate::Result;
use crate::attention::{Order, Scheme};
use crate::error::Error;
use crate::op::{
    Attention, BatchNorm, Boundary, Conv2d, Linear, Norm, Op, Pad, Padding, Rearrange, Rotary,
    Slice, Unfold,
};
use crate::tensor::{Parameter, Shape};

type Checked<T = Shape> = std::result::Result<T, String>;

/// The shape that `op` gives for inputs of these shapes.
pub(crate) fn infer<N>(node: &str, op: &Op<N>, inputs: &[Shape]) -> Result<Shape> {
    let invalid = |detail: String| Error::invalid(node, op.name(), detail);
    if inputs.len() != op.arity() {
        return Err(invalid(format!(
            "takes {} inputs, {} were given",
            op.arity(),
            inputs.len()
        )));
    }
    let shape = match (op, inputs) {
        (Op::Input(shape), _) => Ok(*shape),
        (Op::Constant(shape, p), _) => constant(*shape, p),
        (Op::Conv2d(c), &[x]) => convolution(c, x),
        (Op::Linear(l), &[x]) => linear(l, x),
        (Op::BatchNorm(b), &[x]) => batch_norm(b, x),
        (Op::Elementwise(_) | Op::Identity, &[x]) => Ok(x),
        (Op::Add | Op::Mul, &[x, y]) if x == y => Ok(x),
        (Op::Add | Op::Mul, &[x, y]) => {
            Err(format!("needs two equal shapes, {x} and {y} were given"))
        }
        (Op::AvgPool(p), &[x]) => pool(p.kernel, p.stride, p.padding, x),
        (Op::MaxPool(p), &[x]) => {
            image(x).and_then(|(_, h, w)| pool(p.kernel, p.stride, p.reach((h, w)), x))
        }
        (Op::GlobalAvgPool, &[x]) => image(x).map(|(c, _, _)| Shape::image(c, 1, 1)),
        (Op::Norm(n), &[x]) => norm(n, x),
        (Op::Rotary(r), &[x]) => rotary(r, x),
        (Op::Attention(a), &[q, k, v]) => attention(a, q, k, v),
        (Op::Attention(a), &[q, k, v, marks]) => attention(a, q, k, v).and_then(|y| {
            let (_, length) = sequence(q)?;
            if marks == Shape::image(1, 1, length) {
                return Ok(y);
            }
            Err(format!(
                "needs one mark for each of {length} positions, {marks} was given"
            ))
        }),
        (Op::Unfold(u), &[x]) => unfold(*u, x),
        (Op::Repeat(r), &[x]) => match (sequence(x), r.rows) {
            (_, 0) => Err("needs at least one row".into()),
            (Ok((c, length)), rows) => Ok(Shape::image(c, rows, length)),
            (Err(e), _) => Err(e),
        },
        (Op::Pad(p), &[x]) => pad(*p, x),
        (Op::Slice(s), &[x]) => slice(s, x),
        (Op::Rearrange(r), &[x]) => rearrange(r, x),
        (Op::Softmax(_), &[x]) => Ok(x),
        (Op::Flatten, &[x]) => Ok(Shape::Vector(x.len())),
        (Op::Reshape(to), &[x]) if to.checked_len() == Some(x.len()) => Ok(*to),
        (Op::Reshape(to), &[x]) => Err(format!(
            "can't turn {x} into {to}: the numbers of values differ"
        )),
        _ => Err("unexpected number of inputs".into()),
    }
    .map_err(invalid)?;
    if shape.checked_len().is_none() {
        return Err(invalid(format!(
            "its shape {shape} is empty or larger than {} values",
            crate::shape::MAX_VALUES
        )));
    }
    Ok(shape)
}

fn image(shape: Shape) -> Checked<(usize, usize, usize)> {
    let needed = "an image (channels, height, width)";
    (shape.as_image()).ok_or_else(|| format!("needs {needed}, {shape} was given"))
}

/// Refuses a parameter, where there is one, of another shape.
fn lengths(what: &str, p: Option<&Parameter>, needed: &[usize]) -> Checked<()> {
    match p.map(Parameter::shape) {
        Some(had) if had != needed => {
            Err(format!("{what} must have shape {needed:?}, it has {had:?}"))
        }
        _ => Ok(()),
    }
}

fn constant(shape: Shape, p: &Parameter) -> Checked {
    match p.values().len() {
        had if shape.checked_len() == Some(had) => Ok(shape),
        had => Err(format!("shape {shape} does not fit {had} values")),
    }
}

/// Number of window positions along one axis, None when the window doesn't fit or something is zero.
fn positions(
    length: usize,
    before: usize,
    after: usize,
    window: usize,
    stride: usize,
) -> Option<usize> {
    if stride == 0 || window == 0 {
        return None;
    }
    let padded = length.checked_add(before)?.checked_add(after)?;
    Some(padded.checked_sub(window)? / stride + 1)
}

fn windows(
    (h, w): (usize, usize),
    p: Padding,
    (kh, kw): (usize, usize),
    stride: (usize, usize),
) -> Checked<(usize, usize)> {
    match (
        positions(h, p.top, p.bottom, kh, stride.0),
        positions(w, p.left, p.right, kw, stride.1),
    ) {
        (Some(oh), Some(ow)) => Ok((oh, ow)),
        _ => Err(format!(
            "window {kh}×{kw} with stride {stride:?} and padding {p:?} does not fit an image of {h}×{w}"
        )),
    }
}

fn convolution(c: &Conv2d, x: Shape) -> Checked {
    let (channels, h, w) = image(x)?;
    let &[out, per_group, kh, kw] = c.weight.shape() else {
        return Err(format!(
            "weight must have 4 axes (O, C/groups, Kh, Kw), it has shape {:?}",
            c.weight.shape()
        ));
    };
    if c.groups == 0 || channels % c.groups != 0 || out % c.groups != 0 || out == 0 {
        return Err(format!(
            "{} groups must divide {channels} input and {out} output channels",
            c.groups
        ));
    }
    if per_group != channels / c.groups {
        return Err(format!(
            "weight takes {} channels, the input has {channels}",
            per_group.saturating_mul(c.groups)
        ));
    }
    lengths("bias", c.bias.as_ref(), &[out])?;
    let span = |k: usize, d: usize| {
        let reach = k.checked_sub(1)?.checked_mul(d)?;
        reach.checked_add(1).filter(|_| d > 0)
    };
    let (Some(sh), Some(sw)) = (span(kh, c.dilation.0), span(kw, c.dilation.1)) else {
        return Err(format!(
            "kernel {kh}×{kw} with dilation {:?} is not possible",
            c.dilation
        ));
    };
    let (oh, ow) = windows((h, w), c.padding, (sh, sw), c.stride)?;
    Ok(Shape::image(out, oh, ow))
}

fn linear(l: &Linear, x: Shape) -> Checked {
    let &[out, features] = l.weight.shape() else {
        return Err(format!(
            "weight must have 2 axes (out, in), it has shape {:?}",
            l.weight.shape()
        ));
    };
    if x != Shape::Vector(features) {
        return Err(format!(
            "weight takes ({features}), {x} was given; put a Flatten before it"
        ));
    }
    lengths("bias", l.bias.as_ref(), &[out])?;
    Ok(Shape::Vector(out))
}

fn batch_norm(b: &BatchNorm, x: Shape) -> Checked {
    let channels = x.dims()[0];
    for (what, p) in [
        ("scale", &b.scale),
        ("bias", &b.bias),
        ("mean", &b.mean),
        ("variance", &b.variance),
    ] {
        lengths(what, Some(p), &[channels])?;
    }
    if !b.epsilon.is_finite() || b.epsilon < 0.0 {
        return Err(format!(
            "epsilon is {}, it must be a small positive number",
            b.epsilon
        ));
    }
    let mut variances = b.variance.values().iter();
    match variances.find(|&&v| v < 0.0 || f64::from(v) + b.epsilon <= 0.0) {
        Some(v) => Err(format!(
            "variance {v} with epsilon {} is not positive",
            b.epsilon
        )),
        None => Ok(x),
    }
}

fn pool(kernel: (usize, usize), stride: (usize, usize), p: Padding, x: Shape) -> Checked {
    let (channels, h, w) = image(x)?;
    let (oh, ow) = windows((h, w), p, kernel, stride)?;
    // So that no window lies outside of the image.
    if p.top.max(p.bottom) >= kernel.0 || p.left.max(p.right) >= kernel.1 {
        return Err(format!(
            "padding {p:?} must be smaller than the window {kernel:?}"
        ));
    }
    Ok(Shape::image(channels, oh, ow))
}

/// Channels and length.
fn sequence(shape: Shape) -> Checked<(usize, usize)> {
    match shape.as_image() {
        Some((channels, 1, length)) => Ok((channels, length)),
        _ => Err(format!(
            "needs a sequence (channels, 1, length), {shape} was given"
        )),
    }
}

fn norm(n: &Norm, x: Shape) -> Checked {
    let channels = x.dims()[0];
    lengths("scale", Some(&n.scale), &[channels])?;
    lengths("bias", n.bias.as_ref(), &[channels])?;
    if n.epsilon.is_finite() && n.epsilon > 0.0 {
        Ok(x)
    } else {
        Err(format!(
            "epsilon is {}, it must be a small positive number",
            n.epsilon
        ))
    }
}

fn rotary(r: &Rotary, x: Shape) -> Checked {
    let (channels, length) = sequence(x)?;
    if r.head == 0 || channels % r.head != 0 {
        return Err(format!(
            "heads of {} channels must divide {channels} channels",
            r.head
        ));
    }
    if !r.rotated.is_multiple_of(2) || r.rotated > r.head {
        return Err(format!(
            "{} rotated channels must be even and at most the head's {}",
            r.rotated, r.head
        ));
    }
    if !(r.base.is_finite() && r.base > 1.0) {
        return Err(format!("base is {}, it must be above 1", r.base));
    }
    // Positions are exact in f64.
    match r.first.checked_add(length) {
        Some(last) if last as u64 <= 1 << 52 => Ok(x),
        _ => Err(format!("first position {} is too large", r.first)),
    }
}

fn attention(a: &Attention, q: Shape, k: Shape, v: Shape) -> Checked {
    let (queries, length) = sequence(q)?;
    let kept = a.mask.order == Order::Kept;
    let (keys, key_length) = match k.as_image() {
        Some((keys, _, 1)) if kept => (keys, 1),
        _ if kept => return Err(format!("needs a kept key in each row, {k} was given")),
        _ => sequence(k)?,
    };
    if kept && (length != 1 || a.mask.valid.is_some()) {
        return Err(format!("{length} queries to kept keys, which are for one"));
    }
    if kept && !a.scheme.passes_over_zeros() {
        return Err(format!(
            "{} gives weight to places for keys that are not there yet",
            a.scheme
        ));
    }
    if k != v {
        return Err(format!(
            "keys and values must have one shape, {k} and {v} were given"
        ));
    }
    if length != key_length {
        return Err(format!(
            "queries and keys must be as many, {length} and {key_length} were given"
        ));
    }
    if a.kv_heads == 0 || a.heads == 0 || !a.heads.is_multiple_of(a.kv_heads) {
        return Err(format!(
            "{} key/value heads must divide {} heads",
            a.kv_heads, a.heads
        ));
    }
    if queries % a.heads != 0 || Some(keys) != (queries / a.heads).checked_mul(a.kv_heads) {
        return Err(format!(
            "{} heads with {} key/value heads don't fit {queries} and {keys} channels",
            a.heads, a.kv_heads
        ));
    }
    if !a.scale.is_finite() {
        return Err(format!("scale is {}, it must be finite", a.scale));
    }
    match a.mask.valid {
        Some(n) if n == 0 || n > length => {
            Err(format!("{n} of {length} positions can't be tokens"))
        }
        _ => Ok(q),
    }
}

fn unfold(u: Unfold, x: Shape) -> Checked {
    let (channels, length) = sequence(x)?;
    let most = match u.boundary {
        Boundary::Causal => usize::MAX,
        Boundary::Cyclic => length,
    };
    if u.rows == 0 || u.rows > most {
        return Err(format!(
            "{} rows can't be, at least 1 and cyclic ones at most the length {length}",
            u.rows
        ));
    }
    Ok(Shape::image(channels, u.rows, length))
}

fn pad(p: Pad, x: Shape) -> Checked {
    let (c, h, w) = image(x)?;
    let sum = |n: usize, a: usize, b: usize| n.checked_add(a)?.checked_add(b);
    match (
        sum(c, p.channels.0, p.channels.1),
        sum(h, p.spatial.top, p.spatial.bottom),
        sum(w, p.spatial.left, p.spatial.right),
    ) {
        (Some(c), Some(h), Some(w)) => Ok(Shape::image(c, h, w)),
        _ => Err("padding is too large".into()),
    }
}

/// Most axes of a [`Rearrange`].
const MOST_AXES: usize = 16;

fn rearrange(r: &Rearrange, x: Shape) -> Checked {
    let lengths: Vec<usize> = r.offsets.iter().map(Vec::len).collect();
    if r.offsets.len() > MOST_AXES || crate::tensor::product(&lengths) != Some(r.shape.len()) {
        return Err(format!(
            "offsets along axes of lengths {lengths:?} don't fit {}",
            r.shape
        ));
    }
    let placed = |o: &&u32| **o != Rearrange::ZERO;
    let largest = r.offsets.iter().map(|o| o.iter().filter(placed).max());
    let last: u64 = largest.map(|m| m.map_or(0, |&o| u64::from(o))).sum();
    if last >= x.len() as u64 {
        return Err(format!("takes value number {last}, {x} was given"));
    }
    Ok(r.shape)
}

fn slice(s: &Slice, x: Shape) -> Checked {
    let dims = x.dims();
    if s.axes.len() != dims.len() {
        return Err(format!(
            "needs one selection for each of the {} axes, {} were given",
            dims.len(),
            s.axes.len()
        ));
    }
    for (axis, (a, &d)) in s.axes.iter().zip(&dims).enumerate() {
        if a.step == 0 || a.begin >= a.end || a.end > d {
            return Err(format!(
                "selection {}..{} step {} on axis {axis} of length {d} is not possible",
                a.begin, a.end, a.step
            ));
        }
    }
    Ok(match s.axes[..] {
        [c, h, w] => Shape::image(c.len(), h.len(), w.len()),
        _ => Shape::Vector(s.axes[0].len()),
    })
}

//! Linear operators of pictures as convolutions: every one of them is a kernel, and a chain of them is one where that is no larger.

use crate::Error;
use crate::linear_op::unsupported;
use nn::{Op, PolyNode, Rearrange, Shape};
use std::sync::Arc;

/// A convolution in double precision, from channels × height × width to channels × height × width:
/// out\[o, y, x\] = Σ w\[o, c, j, i\]·in\[c, s·y + j − before₀, s·x + i − before₁\] over the channels c of o's group; zero outside of the picture.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kernel {
    pub(crate) from: [usize; 3],
    pub(crate) to: [usize; 3],
    /// Rows and columns.
    pub(crate) size: [usize; 2],
    pub(crate) before: [usize; 2],
    pub(crate) stride: usize,
    pub(crate) groups: usize,
    /// In the order output, channel of its group, row, column; without rows and columns where it is `flat`. None where only the shape is known.
    /// Kernels are handed on more often than they change.
    pub(crate) weights: Arc<Vec<f64>>,
    /// Whether each weight stands for all rows and columns, as in a mean.
    pub(crate) flat: bool,
}

/// Whether weights are looked at, or the shape alone: what a plan costs does not depend on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    Weights,
    Shapes,
}

/// Channels, height and width of what is a picture or a vector.
pub(crate) fn image(shape: Shape) -> [usize; 3] {
    match shape {
        Shape::Image {
            channels,
            height,
            width,
        } => [channels, height, width],
        other => [other.len(), 1, 1],
    }
}

/// Weights of a composed kernel for each of the two that it is made of.
const LARGER: usize = 4;

impl Kernel {
    /// One factor for each channel.
    pub(crate) fn diagonal(shape: [usize; 3], factors: Vec<f64>) -> Self {
        Self {
            from: shape,
            to: shape,
            size: [1, 1],
            before: [0, 0],
            stride: 1,
            groups: shape[0],
            weights: factors.into(),
            flat: true,
        }
    }
    /// Channels of another shape, or zeros, as they are or, where they are single values, at every place.
    pub(crate) fn rearranged(r: &Rearrange, from: [usize; 3], to: [usize; 3]) -> Option<Self> {
        let (single, places) = (from[1..] == [1, 1], to[1] * to[2]);
        if !single && from[1..] != to[1..] {
            return None;
        }
        // of each channel, the one that it is; every place of it has to agree
        let mut sources: Vec<Option<Option<usize>>> = vec![None; to[0]];
        let (mut at, mut alike) = (0, true);
        r.each(|position| {
            let (channel, place) = (at / places, at % places);
            at += 1;
            let source = match position {
                Some(p) if single => Some(p),
                Some(p) if p % places == place => Some(p / places),
                Some(_) => return alike = false,
                None => None,
            };
            match sources.get_mut(channel) {
                Some(known) => alike &= *known.get_or_insert(source) == source,
                None => alike = false,
            }
        });
        let sources: Vec<Option<usize>> = sources.into_iter().flatten().collect();
        if !alike || sources.len() != to[0] || sources.iter().flatten().any(|s| *s >= from[0]) {
            return None;
        }
        let own = from[0] == to[0] && sources.iter().enumerate().all(|(c, s)| *s == Some(c));
        let weights = match own {
            true => vec![1.0; to[0]],
            false => {
                let mut rows = vec![0.0; to[0] * from[0]];
                for (row, source) in rows.chunks_mut(from[0]).zip(&sources) {
                    source.iter().for_each(|s| row[*s] = 1.0);
                }
                rows
            }
        };
        let spread = single && places > 1;
        Some(Self {
            from,
            to,
            size: if spread { [to[1], to[2]] } else { [1, 1] },
            before: if spread {
                [to[1] - 1, to[2] - 1]
            } else {
                [0, 0]
            },
            stride: 1,
            groups: if own { to[0] } else { 1 },
            weights: weights.into(),
            flat: true,
        })
    }
    /// Whether it takes single values to every place of a picture.
    pub(crate) fn spreads(&self) -> bool {
        let [height, width] = [self.to[1], self.to[2]];
        self.from[1..] == [1, 1]
            && self.flat
            && self.stride == 1
            && height * width > 1
            && self.size == [height, width]
            && self.before == [height - 1, width - 1]
    }
    /// Every value as it is.
    pub(crate) fn identity(shape: [usize; 3]) -> Self {
        Self::diagonal(shape, vec![1.0; shape[0]])
    }
    /// Whether its weights are not known.
    pub(crate) fn is_shape(&self) -> bool {
        self.weights.is_empty()
    }
    /// How many weights it has.
    pub(crate) fn count(&self) -> usize {
        let taps = if self.flat { 1 } else { self.taps() };
        self.to[0] * (self.from[0] / self.groups) * taps
    }
    /// The factor, where every value is multiplied by the same.
    pub(crate) fn scalar(&self) -> Option<f64> {
        let first = *self.weights.first()?;
        (self.is_diagonal() && self.weights.iter().all(|w| *w == first)).then_some(first)
    }
    /// Whether every channel is multiplied by a factor, and nothing else.
    pub(crate) fn is_diagonal(&self) -> bool {
        self.is_pointwise() && self.groups == self.from[0] && self.from == self.to
    }
    /// Whether it mixes channels of one place only.
    pub(crate) fn is_pointwise(&self) -> bool {
        self.size == [1, 1]
            && self.before == [0, 0]
            && self.stride == 1
            && self.from[1..] == self.to[1..]
    }
    /// Rows times columns.
    fn taps(&self) -> usize {
        self.size[0] * self.size[1]
    }
    /// Channels that an output reads, and outputs of a group.
    fn per(&self) -> (usize, usize) {
        (self.from[0] / self.groups, self.to[0] / self.groups)
    }
    fn weight(&self, o: usize, c: usize, tap: usize) -> f64 {
        let row = o * (self.from[0] / self.groups) + c;
        match self.flat {
            true => self.weights[row],
            false => self.weights[row * self.taps() + tap],
        }
    }
    /// What an output takes of an input channel at its own place: none where it reads none of it, 1 where weights are not known.
    pub(crate) fn between(&self, output: usize, input: usize) -> Option<f64> {
        let ((per, each), [outputs, inputs]) = (self.per(), [self.to[0], self.from[0]]);
        if output >= outputs || input >= inputs || output / each != input / per {
            return None;
        }
        Some(match self.is_shape() {
            true => 1.0,
            false => self.weight(output, input % per, 0),
        })
    }
    /// How far outputs look beyond the picture: above, to the left, below, to the right.
    pub(crate) fn beyond(&self) -> [usize; 4] {
        let after = |d: usize| {
            let last = (self.to[1 + d] - 1) * self.stride + self.size[d] - 1;
            last.saturating_sub(self.before[d] + self.from[1 + d] - 1)
        };
        [self.before[0], self.before[1], after(0), after(1)]
    }
    /// The same with rows and columns of zeros, where it begins farther before its place than it is long.
    pub(crate) fn grown(self) -> Self {
        let size = [0, 1].map(|d| self.size[d].max(self.before[d] + 1));
        self.among_zeros([0, 0], size)
    }
    /// The same as part of a kernel of this size, which has zeros elsewhere; its first row and column there.
    fn among_zeros(self, first: [usize; 2], size: [usize; 2]) -> Self {
        if size == self.size {
            return self;
        }
        let (rows, taps) = (self.to[0] * self.per().0, size[0] * size[1]);
        let mut weights = vec![0.0; if self.is_shape() { 0 } else { rows * taps }];
        for (row, to) in weights.chunks_mut(taps).enumerate() {
            for tap in 0..self.taps() {
                let (y, x) = (tap / self.size[1], tap % self.size[1]);
                let at = (first[0] + y) * size[1] + first[1] + x;
                to[at] = match self.flat {
                    true => self.weights[row],
                    false => self.weights[row * self.taps() + tap],
                };
            }
        }
        Self {
            size,
            weights: weights.into(),
            flat: false,
            ..self
        }
    }
    /// What gives every `step`-th row and column of the result, from this row and column on.
    pub(crate) fn every(&self, step: usize, first: [usize; 2]) -> Self {
        let [outs, height, width] = self.to;
        let skipped = first.map(|f| f * self.stride);
        // what would begin behind its place begins there, with zeros
        let zeros = [0, 1].map(|d| skipped[d].saturating_sub(self.before[d]));
        let size = [0, 1].map(|d| self.size[d] + zeros[d]);
        let left = |length: usize, d: usize| length.saturating_sub(first[d]).div_ceil(step);
        Self {
            to: [outs, left(height, 0), left(width, 1)],
            before: [0, 1].map(|d| self.before[d].saturating_sub(skipped[d])),
            stride: self.stride * step,
            ..self.clone().among_zeros(zeros, size)
        }
    }
    /// Each channel of another shape seen so many rows farther down and columns farther to the right, times a factor; zero where nothing is.
    pub(crate) fn moved(from: [usize; 3], to: [usize; 3], by: [usize; 2], factor: f64) -> Self {
        Self {
            to,
            before: by,
            ..Self::diagonal(from, vec![factor; from[0]])
        }
    }
    /// Whether it takes one place to one, and what it would give outside of its picture, wherever `next` looks there, is zero.
    fn ends_before(&self, next: &Self) -> bool {
        let beyond = next.beyond();
        let quiet = |d: usize| {
            // above and to the left it looks at what is farther there still
            beyond[2 + d] == 0 || self.to[1 + d] >= self.before[d] + self.from[1 + d]
        };
        self.size == [1, 1] && self.stride == 1 && quiet(0) && quiet(1)
    }
    /// The same for so many tensors, whose channels follow each other: each in groups of its own.
    pub(crate) fn beside(&mut self, tensors: usize) {
        self.from[0] *= tensors;
        self.to[0] *= tensors;
        self.groups *= tensors;
        self.weights = self.weights.repeat(tensors).into();
    }
    /// What it makes of a tensor.
    pub(crate) fn apply(&self, x: &[f64]) -> Vec<f64> {
        let ([_, h, w], [outs, oh, ow], (per, each)) = (self.from, self.to, self.per());
        let mut out = vec![0.0; outs * oh * ow];
        for (o, out) in out.chunks_mut(oh * ow).enumerate() {
            for c in 0..per {
                let plane = &x[(o / each * per + c) * h * w..][..h * w];
                for j in 0..self.size[0] {
                    for i in 0..self.size[1] {
                        let weight = self.weight(o, c, j * self.size[1] + i);
                        if weight == 0.0 {
                            continue;
                        }
                        for y in 0..oh {
                            let row = (y * self.stride + j).wrapping_sub(self.before[0]);
                            if row >= h {
                                continue;
                            }
                            for at in 0..ow {
                                let column = (at * self.stride + i).wrapping_sub(self.before[1]);
                                if column < w {
                                    out[y * ow + at] += weight * plane[row * w + column];
                                }
                            }
                        }
                    }
                }
            }
        }
        out
    }

    /// What it gives times a factor for each channel.
    fn scaled(&self, factors: &[f64]) -> Self {
        let rows = self.weights.chunks(self.weights.len() / self.to[0]);
        // as sums that begin with 0 have it, a factor of 0 leaves nothing, whatever the weight is
        let scaled = |(row, v): (&[f64], &f64)| match *v {
            0.0 => vec![0.0; row.len()],
            v => row.iter().map(|w| 0.0 + v * w).collect(),
        };
        let weights: Vec<f64> = rows.zip(factors).flat_map(scaled).collect();
        Self {
            weights: weights.into(),
            ..self.clone()
        }
    }

    /// The kernel of `self` and then `next`, where it is exact and not much larger than both.
    ///
    /// It is exact where the second one's zeros around what lies between are what the first one gives there: where it looks at none, one
    /// of the two is a matrix at every place, or the first one only moves a picture that ends with its result.
    pub(crate) fn then(&self, next: &Self) -> Option<Self> {
        let inside = next.beyond() == [0; 4];
        if !(self.is_pointwise() || next.is_pointwise() || inside || self.ends_before(next)) {
            return None;
        }
        let groups = gcd(self.groups, next.groups);
        let flat = (self.flat && next.is_pointwise()) || (self.is_pointwise() && next.flat);
        let size = [0, 1].map(|d| (next.size[d] - 1) * self.stride + self.size[d]);
        let (per, outs) = (self.from[0] / groups, next.to[0]);
        let taps = if flat { 1 } else { size[0] * size[1] };
        let count = outs * per * taps;
        let diagonal = self.is_diagonal() || next.is_diagonal();
        if !diagonal && count > LARGER * (self.count() + next.count()) {
            return None;
        }
        let known = !(self.is_shape() || next.is_shape());
        if known && next.is_diagonal() && groups == self.groups {
            return Some(Self {
                flat,
                ..self.scaled(&next.weights)
            });
        }
        let mut weights = vec![0.0; if known { count } else { 0 }];
        let ((next_per, next_each), (self_per, self_each)) = (next.per(), self.per());
        let (first, second) = if flat {
            (1, 1)
        } else {
            (self.taps(), next.taps())
        };
        for o in 0..if known { outs } else { 0 } {
            let group = o / (outs / groups);
            for k in 0..next_per {
                let middle = o / next_each * next_per + k;
                for b in 0..second {
                    let v = next.weight(o, k, b);
                    if v == 0.0 {
                        continue;
                    }
                    for c in 0..self_per {
                        let channel = middle / self_each * self_per + c - group * per;
                        let row = &mut weights[(o * per + channel) * taps..][..taps];
                        for a in 0..first {
                            let at = |d: usize, tap: [usize; 2], step: usize| tap[d] * step;
                            let (t, s) = (
                                [a / self.size[1], a % self.size[1]],
                                [b / next.size[1], b % next.size[1]],
                            );
                            let y = at(0, t, 1) + at(0, s, self.stride);
                            let x = at(1, t, 1) + at(1, s, self.stride);
                            let to = if flat { 0 } else { y * size[1] + x };
                            row[to] += v * self.weight(middle, c, a);
                        }
                    }
                }
            }
        }
        // of two strides, one matters at least where the other's result is more than a place
        Some(Self {
            from: self.from,
            to: next.to,
            size,
            before: [0, 1].map(|d| self.before[d] + next.before[d] * self.stride),
            stride: self.stride * next.stride,
            groups,
            weights: weights.into(),
            flat,
        })
    }

    /// The same between tensors that are held as p² phases of each channel: value (c, y, x) is at channel c·p² + (y mod p)·p + x mod p and place
    /// (⌊y/p⌋, ⌊x/p⌋). None where the result's phases do not suit the operand's.
    pub(crate) fn in_phases(&self, from: usize, to: usize) -> Option<Self> {
        if from == 1 && to == 1 {
            return Some(self.clone());
        }
        if from == to && self.is_diagonal() {
            let factors = self.weights.iter();
            let factors = factors.flat_map(|w| std::iter::repeat_n(*w, from * from));
            let all = [self.from[1] % from, self.from[2] % from] == [0, 0];
            return all.then(|| Self::diagonal(phased(self.from, from), factors.collect()));
        }
        if from == 1 && self.spreads() {
            // all phases of a channel are the same picture
            let fits = self.to[1..].iter().all(|l| l % to == 0);
            let [channels, height, width] = phased(self.to, to);
            let rows = self.weights.chunks(self.per().0);
            let weights: Vec<f64> = rows.flat_map(|row| row.repeat(to * to)).collect();
            return fits.then(|| Self {
                to: [channels, height, width],
                size: [height, width],
                before: [height - 1, width - 1],
                weights: weights.into(),
                ..self.clone()
            });
        }
        let ([_, h, w], [outs, oh, ow]) = (self.from, self.to);
        let fits = [h, w].iter().all(|l| l % from == 0) && [oh, ow].iter().all(|l| l % to == 0);
        // one place may step as it likes
        let step = match (oh, ow) {
            (1, 1) => from * self.stride,
            _ => to * self.stride,
        };
        if !fits || step % from != 0 {
            return None;
        }
        let (per, _) = self.per();
        // the row, or column, that output phase q and row j of the kernel look at: phase and place
        let look = |d: usize, q: usize, j: usize| {
            let at = (self.stride * q + j) as i64 - self.before[d] as i64;
            let p = from as i64;
            (at.rem_euclid(p) as usize, at.div_euclid(p))
        };
        let reach = |d: usize| {
            let all = (0..to).flat_map(|q| [look(d, q, 0).1, look(d, q, self.size[d] - 1).1]);
            all.fold((0, 0), |(a, b): (i64, i64), x| (a.min(x), b.max(x)))
        };
        let reach = [reach(0), reach(1)];
        let size = reach.map(|(a, b)| (b - a + 1) as usize);
        let taps = size[0] * size[1];
        let inputs = per * from * from;
        let known = !self.is_shape();
        let count = outs * to * to * inputs * taps;
        let mut weights = vec![0.0; if known { count } else { 0 }];
        for o in 0..if known { outs } else { 0 } {
            for (qy, qx) in (0..to * to).map(|q| (q / to, q % to)) {
                let row = (o * to + qy) * to + qx;
                let row = &mut weights[row * inputs * taps..][..inputs * taps];
                for c in 0..per {
                    for j in 0..self.size[0] {
                        for i in 0..self.size[1] {
                            let ((py, y), (px, x)) = (look(0, qy, j), look(1, qx, i));
                            let channel = (c * from + py) * from + px;
                            let y = (y - reach[0].0) as usize;
                            let x = (x - reach[1].0) as usize;
                            row[channel * taps + y * size[1] + x] +=
                                self.weight(o, c, j * self.size[1] + i);
                        }
                    }
                }
            }
        }
        Some(Self {
            from: phased(self.from, from),
            to: phased(self.to, to),
            size,
            before: reach.map(|(a, _)| (-a) as usize),
            stride: step / from,
            groups: self.groups,
            weights: weights.into(),
            flat: false,
        })
    }

    /// The operator of a node that is linear in its only input, with its bias by channel; None where it only renames positions.
    /// A flattened picture is still one here: a dense layer looks at all of its places.
    pub(crate) fn of(
        node: &PolyNode,
        from: [usize; 3],
        stated: Shape,
        reading: Reading,
    ) -> Result<Option<(Self, Vec<f64>)>, Error> {
        let to = image(node.shape());
        let renames = matches!(node.op(), Op::Flatten | Op::Identity)
            || matches!(
                (node.op(), node.shape()),
                (Op::Reshape(_), Shape::Vector(_))
            );
        if renames || (matches!(node.op(), Op::Reshape(_)) && to == from) {
            return Ok(None);
        }
        if image(stated) != from && !matches!(node.op(), Op::Linear(_)) {
            return Err(unsupported(
                node,
                "it takes a flattened picture".into(),
                "flatten before dense layers only",
            ));
        }
        let none = || vec![0.0; to[0]];
        let one = |stride: (usize, usize)| match stride {
            (s, t) if s == t || to[2] == 1 => Ok(s),
            (_, t) if to[1] == 1 => Ok(t),
            (s, t) => Err(unsupported(
                node,
                format!("strides {s} and {t}"),
                "take one stride for rows and columns",
            )),
        };
        let kernel = match node.op() {
            Op::Conv2d(c) => {
                let (kh, kw) = c.kernel();
                let size = [(kh - 1) * c.dilation.0 + 1, (kw - 1) * c.dilation.1 + 1];
                let had = match reading {
                    Reading::Weights => c.weight.values(),
                    Reading::Shapes => &[],
                };
                let mut weights = vec![0.0; had.len() / (kh * kw) * size[0] * size[1]];
                for (k, &w) in had.iter().enumerate() {
                    let (row, j, i) = (k / (kh * kw), k / kw % kh, k % kw);
                    let at = (row * size[0] + j * c.dilation.0) * size[1] + i * c.dilation.1;
                    weights[at] = f64::from(w);
                }
                let kernel = Self {
                    from,
                    to,
                    size,
                    before: [c.padding.top, c.padding.left],
                    stride: one(c.stride)?,
                    groups: c.groups,
                    weights: weights.into(),
                    flat: false,
                };
                let bias = c.bias.as_ref().map_or_else(none, nn::Parameter::to_f64);
                return Ok(Some((kernel, bias)));
            }
            Op::Linear(l) => {
                let kernel = Self {
                    from,
                    to,
                    size: [from[1], from[2]],
                    before: [0, 0],
                    stride: 1,
                    groups: 1,
                    weights: match reading {
                        Reading::Weights => l.weight.to_f64().into(),
                        Reading::Shapes => Arc::default(),
                    },
                    flat: false,
                };
                let bias = l.bias.as_ref().map_or_else(none, nn::Parameter::to_f64);
                return Ok(Some((kernel, bias)));
            }
            Op::BatchNorm(b) => {
                let (factors, offsets) = b.factor_and_offset().into_iter().unzip();
                return Ok(Some((Self::diagonal(from, factors), offsets)));
            }
            Op::AvgPool(p) => {
                let pad = p.padding;
                if !p.count_include_pad && pad != nn::Padding::default() {
                    return Err(unsupported(
                        node,
                        "its divisor is another one at the border".into(),
                        "let padding count, or take none",
                    ));
                }
                let (kh, kw) = p.kernel;
                Self {
                    from,
                    to,
                    size: [kh, kw],
                    before: [pad.top, pad.left],
                    stride: one(p.stride)?,
                    groups: from[0],
                    weights: vec![1.0 / (kh * kw) as f64; from[0]].into(),
                    flat: true,
                }
            }
            Op::GlobalAvgPool => Self {
                from,
                to,
                size: [from[1], from[2]],
                before: [0, 0],
                stride: 1,
                groups: from[0],
                weights: vec![1.0 / (from[1] * from[2]) as f64; from[0]].into(),
                flat: true,
            },
            Op::Slice(_) | Op::Pad(_) => Self::selection(node, from, to)?,
            Op::Rearrange(r) => Self::rearranged(r, from, to).ok_or_else(|| {
                unsupported(
                    node,
                    "it moves values from place to place".into(),
                    "compile it with linear layers in slots",
                )
            })?,
            _ => {
                return Err(unsupported(
                    node,
                    "it is not known in coefficients".into(),
                    "compile it with linear layers in slots",
                ));
            }
        };
        Ok(Some((kernel, none())))
    }
    /// Channels, rows and columns added or left out, or taken in steps.
    fn selection(node: &PolyNode, from: [usize; 3], to: [usize; 3]) -> Result<Self, Error> {
        // channels of zeros before, first channel and step, first row and column and step, rows and columns of zeros before
        let (zeros, channel, step, first, stride, before) = match node.op() {
            Op::Pad(p) => {
                let before = [p.spatial.top, p.spatial.left];
                (p.channels.0, 0, 1, [0, 0], 1, before)
            }
            Op::Slice(s) => match &s.axes[..] {
                [a] if from[1..] == [1, 1] => (0, a.begin, a.step, [0, 0], 1, [0, 0]),
                [a, b, c] if b.step == c.step || to[1] == 1 || to[2] == 1 => {
                    let stride = if to[1] == 1 { c.step } else { b.step };
                    (0, a.begin, a.step, [b.begin, c.begin], stride, [0, 0])
                }
                _ => {
                    let remedy = "take one step for rows and columns, before they are flattened";
                    return Err(unsupported(node, "a slice of other steps".into(), remedy));
                }
            },
            _ => {
                let remedy = "pad and slice pictures";
                return Err(unsupported(node, "it is no selection".into(), remedy));
            }
        };
        let size = first.map(|f| f + 1);
        let taps = size[0] * size[1];
        let mut weights = vec![0.0; to[0] * from[0] * taps];
        for o in zeros..to[0] {
            let c = channel.saturating_add((o - zeros).saturating_mul(step));
            if c < from[0] {
                weights[(o * from[0] + c) * taps + taps - 1] = 1.0;
            }
        }
        Ok(Self {
            from,
            to,
            size,
            before,
            stride,
            groups: 1,
            weights: weights.into(),
            flat: taps == 1,
        })
    }
}

/// A shape in p² phases.
pub(crate) fn phased([c, h, w]: [usize; 3], p: usize) -> [usize; 3] {
    [c * p * p, h / p, w / p]
}

pub(crate) fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A factor for each channel behind a kernel, beside what both make of a tensor.
    #[test]
    fn a_kernel_times_factors_is_both() {
        for (groups, size, flat) in [(1, [3, 3], false), (2, [1, 1], false), (4, [2, 2], true)] {
            let (from, to) = ([4, 5, 5], [4, 5, 5]);
            let taps = if flat { 1 } else { size[0] * size[1] };
            let weights = (0..4 * (4 / groups) * taps).map(|k| (k % 7) as f64 - 3.0);
            let kernel = Kernel {
                from,
                to,
                size,
                before: [0, 0],
                stride: 1,
                groups,
                weights: weights.collect::<Vec<_>>().into(),
                flat,
            };
            let factors = Kernel::diagonal(to, vec![0.5, -1.0, 0.0, 3.0]);
            let both = kernel.then(&factors).expect("no larger");
            let x: Vec<f64> = (0..100).map(|k| (k % 11) as f64 - 5.0).collect();
            assert_eq!(both.apply(&x), factors.apply(&kernel.apply(&x)));
            assert_eq!(both.count(), kernel.count());
        }
    }
}

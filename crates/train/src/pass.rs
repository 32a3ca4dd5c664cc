//! Forward and backward passes.

use crate::dirac::Dirac;
use crate::layout::hwc;
use crate::mode::Mode;
use crate::model::{Layer, Model, Norm};
use crate::parameter::Parameter;
use crate::sequence::Public;
use crate::workspace::Workspace;
use kernels::{Convolution, Statistics, Turning};
use nn::{AvgPool, Pad, Shape, Slice};

/// What a model is given.
#[derive(Debug, Clone, Copy)]
pub enum Inputs<'a> {
    /// A batch of pictures, `(n, h, w, c)`, or of vectors.
    Numbers(&'a [f32]),
    /// A batch of windows of tokens, `(n, length)`.
    Tokens(&'a [u16]),
}

impl Model {
    /// The outputs for a batch of inputs `(n, h, w, c)`: `n` rows.
    ///
    /// # Panics
    /// When `input` is not `batch` pictures of the input's shape.
    pub fn forward(&mut self, input: Vec<f32>, batch: usize, mode: Mode) -> &[f32] {
        assert_eq!(
            input.len(),
            batch * self.input_shape().len(),
            "the input is a whole batch"
        );
        self.forward_to(self.output, input, batch, mode);
        self.values[self.output].as_deref().unwrap_or(&[])
    }

    /// Forgets the last batch; the next one has so many inputs.
    pub(crate) fn begin(&mut self, batch: usize) {
        self.batch = batch;
        for v in self.values.iter_mut().filter_map(Option::take) {
            self.workspace.give(v);
        }
    }

    /// A forward pass up to a node, whose values stay.
    pub(crate) fn forward_to(&mut self, last: usize, input: Vec<f32>, batch: usize, mode: Mode) {
        self.begin(batch);
        let mut input = Some(input);
        let mut segment = 0;
        for i in 0..=last {
            let value = match &self.layers[i] {
                Layer::Input => input.take().unwrap_or_default(),
                _ => self.compute(i, mode),
            };
            self.values[i] = Some(value);
            if mode == Mode::Evaluate {
                for &j in &self.inputs[i] {
                    if self.last_use[j] == i
                        && j != last
                        && let Some(v) = self.values[j].take()
                    {
                        self.workspace.give(v);
                    }
                }
            } else if self.recompute && self.cuts.binary_search(&i).is_ok() {
                for j in segment + 1..i {
                    self.forget(j);
                }
                segment = i;
            }
        }
    }

    /// The outputs for a batch of inputs of either kind.
    ///
    /// # Panics
    /// When `inputs` is no whole batch, or tokens are given to a model without an embedding.
    pub fn run(&mut self, inputs: Inputs<'_>, mode: Mode) -> &[f32] {
        match inputs {
            Inputs::Numbers(x) => {
                let batch = x.len() / self.input_shape().len();
                let x = self.workspace.copy(x);
                self.forward(x, batch, mode)
            }
            Inputs::Tokens(tokens) => {
                let Some(embedding) = &mut self.embedding else {
                    unreachable!("a model that is given tokens has an embedding");
                };
                let x = embedding.gather(tokens, &self.parameters, &mut self.workspace);
                let batch = x.len() / self.input_shape().len();
                self.forward(x, batch, mode)
            }
        }
    }

    /// Gives back what a forward pass keeps of a node, unless it is a constant.
    fn forget(&mut self, i: usize) {
        if matches!(self.layers[i], Layer::Constant(_) | Layer::Input) {
            return;
        }
        if let Some(v) = self.values[i].take() {
            self.workspace.give(v);
        }
        if let Layer::Activation(u) = &mut self.layers[i] {
            u.forget(&mut self.workspace);
        }
    }

    pub(crate) fn compute(&mut self, i: usize, mode: Mode) -> Vec<f32> {
        let Self {
            layers,
            inputs,
            shapes,
            parameters,
            values,
            workspace,
            batch,
            momentum,
            public: first,
            frozen,
            ..
        } = self;
        let n = *batch;
        let value = |k: usize| values[inputs[i][k]].as_deref().unwrap_or(&[]);
        let shape = shapes[i];
        let (height, width, channels) = hwc(shape);
        let public = Public {
            first: *first,
            length: height * width,
        };
        let mut y = workspace.take(n * shape.len());
        match &mut layers[i] {
            Layer::Input => {}
            Layer::Constant(c) => {
                for row in y.chunks_exact_mut(c.len()) {
                    row.copy_from_slice(c);
                }
            }
            Layer::Convolution {
                geometry,
                weight,
                bias,
                dirac,
            } => {
                let bias = bias.map(|b| &parameters[b].values[..]);
                let w = &parameters[*weight].values;
                let effective = dirac.as_ref().map(|d| {
                    let (a, b) = (&parameters[d.identity].values, &parameters[d.share].values);
                    d.effective(w, a, b)
                });
                let w = effective.as_ref().unwrap_or(w);
                at(geometry, n).forward(value(0), w, bias, &mut y);
            }
            Layer::Linear {
                from,
                to,
                weight,
                bias,
            } => {
                let beta = match bias {
                    None => 0.0,
                    Some(b) => {
                        for row in y.chunks_exact_mut(*to) {
                            row.copy_from_slice(&parameters[*b].values);
                        }
                        1.0
                    }
                };
                let (x, w) = (value(0), &parameters[*weight].values);
                let rows = y.len() / *to;
                use kernels::Transpose::No;
                kernels::gemm((rows, *to, *from), 1.0, (x, No), (w, No), beta, &mut y);
            }
            Layer::BatchNorm(b) => {
                let momentum = (!*frozen).then_some(*momentum);
                batch_norm(b, value(0), &mut y, parameters, mode, momentum);
            }
            Layer::Activation(u) => {
                let x = value(0);
                if public.first == 0 {
                    u.forward(x, &mut y, parameters, mode, workspace);
                } else {
                    u.exact(x, &mut y, parameters);
                    let x = public.without(x, channels, workspace);
                    let mut out = workspace.take(x.len());
                    u.forward(&x, &mut out, parameters, mode, workspace);
                    public.put(&out, channels, &mut y);
                    workspace.give(x);
                    workspace.give(out);
                }
            }
            Layer::RowNorm(norm) => {
                norm.forward(value(0), &mut y, parameters, mode, public);
            }
            Layer::Rotary(turn) => turn.turn(value(0), Turning::Forwards, &mut y),
            Layer::Attention(a) => {
                let marks = (inputs[i].len() > 3).then(|| value(3));
                a.forward(
                    ([value(0), value(1), value(2)], marks),
                    &mut y,
                    n,
                    mode,
                    public,
                );
            }
            Layer::Add => kernels::add(value(0), value(1), &mut y),
            Layer::Mul => {
                for ((y, a), b) in y.iter_mut().zip(value(0)).zip(value(1)) {
                    *y = a * b;
                }
            }
            Layer::AveragePool(p) => {
                kernels::average_pool_forward(
                    &window(p, n, shapes[inputs[i][0]], shape),
                    value(0),
                    &mut y,
                );
            }
            Layer::GlobalAverage => {
                kernels::global_average_forward(
                    n,
                    shapes[inputs[i][0]].len() / channels,
                    channels,
                    value(0),
                    &mut y,
                );
            }
            Layer::Pad(p) => {
                y.fill(0.0);
                padded(*p, n, shapes[inputs[i][0]], shape, |from, to| {
                    y[to.clone()].copy_from_slice(&value(0)[from]);
                });
            }
            Layer::Slice(s) => sliced(s, n, shapes[inputs[i][0]], |from, to| {
                y[to] = value(0)[from]
            }),
            Layer::Reorder { from, to } => reorder(*from, *to, value(0), &mut y),
            Layer::Identity => y.copy_from_slice(value(0)),
        }
        y
    }

    /// Adds the gradients of all parameters, given the loss's derivative by the outputs of the last forward pass (in [`Mode::Train`]).
    /// Gives back the range and variance losses' sum, whose gradients are added too.
    pub fn backward(&mut self, output: Vec<f32>) -> f64 {
        let mut gradients: Vec<Option<Vec<f32>>> = self.layers.iter().map(|_| None).collect();
        gradients[self.output] = Some(output);
        let mut penalty = 0.0;
        for i in (0..self.layers.len()).rev() {
            if self.recompute
                && let Ok(cut) = self.cuts.binary_search(&i)
            {
                // what lies between this cut and the one before
                let before = cut.checked_sub(1).map_or(0, |c| self.cuts[c]);
                for j in before + 1..i {
                    if self.values[j].is_none() {
                        self.values[j] = Some(self.compute(j, Mode::Again));
                    }
                }
            }
            if let Some(dy) = gradients[i].take() {
                penalty += self.backward_node(i, dy, &mut gradients);
            }
            if self.recompute {
                self.forget(i);
            }
        }
        penalty
    }

    /// The backward pass of one node: adds to its inputs' gradients and its parameters', gives back its loss.
    fn backward_node(&mut self, i: usize, dy: Vec<f32>, gradients: &mut [Option<Vec<f32>>]) -> f64 {
        let Self {
            layers,
            inputs,
            shapes,
            parameters,
            values,
            workspace,
            batch,
            range_loss,
            variance_loss,
            division_loss,
            share,
            embedding,
            output,
            public: first,
            frozen,
            ..
        } = self;
        let (height, width, channels) = hwc(shapes[i]);
        let public = Public {
            first: *first,
            length: height * width,
        };
        let penalty = range_loss.times(*share);
        let n = *batch;
        let source = |k: usize| inputs[i][k];
        let value = |k: usize| values[inputs[i][k]].as_deref().unwrap_or(&[]);
        let from = inputs[i].first().map_or(Shape::Vector(0), |&j| shapes[j]);
        let mut loss = 0.0;
        // pictures need no gradient
        let needed = inputs[i].iter().any(|&j| {
            !inputs[j].is_empty() || (embedding.is_some() && matches!(layers[j], Layer::Input))
        });
        let dx = match &mut layers[i] {
            Layer::Input | Layer::Constant(_) => {
                if let (Layer::Input, Some(e)) = (&layers[i], embedding) {
                    e.backward(&dy, parameters);
                }
                None
            }
            Layer::Convolution {
                geometry,
                weight,
                bias,
                dirac,
            } => {
                let mut dx = needed.then(|| workspace.take(n * from.len()));
                let which = (*weight, *bias, dirac.as_ref());
                let geometry = at(geometry, n);
                convolution_backward(
                    &geometry,
                    which,
                    value(0),
                    &dy,
                    dx.as_deref_mut(),
                    parameters,
                );
                dx
            }
            Layer::Linear {
                from,
                to,
                weight,
                bias,
            } => {
                let mut dx = needed.then(|| workspace.take(dy.len() / *to * *from));
                let sizes = (*from, *to);
                linear_backward(
                    sizes,
                    (*weight, *bias),
                    value(0),
                    &dy,
                    dx.as_deref_mut(),
                    parameters,
                );
                dx
            }
            Layer::BatchNorm(b) => {
                let statistics = match *frozen {
                    true => Statistics::Fixed,
                    false => Statistics::Batch,
                };
                let mut dx = workspace.take(dy.len());
                batch_norm_backward(b, value(0), &dy, statistics, &mut dx, parameters);
                Some(dx)
            }
            Layer::Activation(u) => {
                let mut dx = workspace.take(dy.len());
                let (h, w, _) = hwc(shapes[*output]);
                let rows = n * h * w;
                let x = value(0);
                if public.first == 0 {
                    loss = u.backward(x, &dy, &mut dx, parameters, penalty, rows, workspace);
                } else {
                    u.exact_backward(x, &dy, &mut dx, parameters);
                    let x = public.without(x, channels, workspace);
                    let g = public.without(&dy, channels, workspace);
                    let mut d = workspace.take(x.len());
                    loss = u.backward(&x, &g, &mut d, parameters, penalty, rows, workspace);
                    public.put(&d, channels, &mut dx);
                    for v in [x, g, d] {
                        workspace.give(v);
                    }
                }
                Some(dx)
            }
            Layer::RowNorm(norm) => {
                let mut dx = workspace.take(dy.len());
                loss = norm.backward(
                    value(0),
                    &dy,
                    &mut dx,
                    parameters,
                    (*variance_loss, *share),
                    public,
                );
                Some(dx)
            }
            Layer::Attention(a) => {
                let [mut dq, mut dk, mut dv] =
                    [0, 1, 2].map(|k| workspace.take(n * shapes[source(k)].len()));
                let marks = (inputs[i].len() > 3).then(|| value(3));
                loss = a.backward(
                    ([value(0), value(1), value(2)], marks),
                    &dy,
                    [&mut dq, &mut dk, &mut dv],
                    n,
                    (*division_loss, *share),
                    public,
                );
                for (k, d) in [dq, dk, dv].into_iter().enumerate() {
                    accumulate(&mut gradients[source(k)], d, workspace);
                }
                None
            }
            _ => {
                self.backward_plain(i, dy, gradients);
                return 0.0;
            }
        };
        if let Some(dx) = dx {
            accumulate(&mut gradients[source(0)], dx, workspace);
        }
        workspace.give(dy);
        loss
    }

    /// Of a node without parameters and losses.
    fn backward_plain(&mut self, i: usize, dy: Vec<f32>, gradients: &mut [Option<Vec<f32>>]) {
        let Self {
            layers,
            inputs,
            shapes,
            values,
            workspace,
            batch,
            ..
        } = self;
        let n = *batch;
        let source = |k: usize| inputs[i][k];
        let value = |k: usize| values[inputs[i][k]].as_deref().unwrap_or(&[]);
        let from = inputs[i].first().map_or(Shape::Vector(0), |&j| shapes[j]);
        let dx = match &layers[i] {
            Layer::Rotary(turn) => {
                let mut dx = workspace.take(dy.len());
                turn.turn(&dy, Turning::Backwards, &mut dx);
                Some(dx)
            }
            Layer::Add => {
                let copy = workspace.copy(&dy);
                accumulate(&mut gradients[source(0)], copy, workspace);
                accumulate(&mut gradients[source(1)], dy, workspace);
                return;
            }
            Layer::Mul => {
                for (k, other) in [(0, 1), (1, 0)] {
                    let mut dx = workspace.take(dy.len());
                    for ((d, g), v) in dx.iter_mut().zip(&dy).zip(value(other)) {
                        *d = g * v;
                    }
                    accumulate(&mut gradients[source(k)], dx, workspace);
                }
                None
            }
            Layer::AveragePool(p) => {
                let mut dx = workspace.take(n * from.len());
                kernels::average_pool_backward(&window(p, n, from, shapes[i]), &dy, &mut dx);
                Some(dx)
            }
            Layer::GlobalAverage => {
                let (h, w, c) = hwc(from);
                let mut dx = workspace.take(n * from.len());
                kernels::global_average_backward(n, h * w, c, &dy, &mut dx);
                Some(dx)
            }
            Layer::Pad(p) => {
                let mut dx = workspace.zeros(n * from.len());
                padded(*p, n, from, shapes[i], |from, to| {
                    dx[from].copy_from_slice(&dy[to])
                });
                Some(dx)
            }
            Layer::Slice(s) => {
                let mut dx = workspace.zeros(n * from.len());
                sliced(s, n, from, |from, to| dx[from] = dy[to]);
                Some(dx)
            }
            Layer::Reorder { from, to } => {
                let mut dx = workspace.take(dy.len());
                reorder(*to, *from, &dy, &mut dx);
                Some(dx)
            }
            Layer::Identity => return accumulate(&mut gradients[source(0)], dy, workspace),
            _ => None,
        };
        if let Some(dx) = dx {
            accumulate(&mut gradients[source(0)], dx, workspace);
        }
        workspace.give(dy);
    }
}

/// A layer's convolution, for so many pictures.
fn at(layer: &Convolution, batch: usize) -> Convolution {
    Convolution { batch, ..*layer }
}

/// Of a convolution with these weights, bias and Dirac's parameterisation; overwrites `dx` where it is wanted.
fn convolution_backward(
    convolution: &Convolution,
    (weight, bias, dirac): (usize, Option<usize>, Option<&Dirac>),
    x: &[f32],
    dy: &[f32],
    dx: Option<&mut [f32]>,
    parameters: &mut [Parameter],
) {
    let mut db = bias.map(|b| std::mem::take(&mut parameters[b].gradient));
    let mut effective = None;
    match dirac {
        None => {
            let dw = &mut parameters[weight].gradient;
            convolution.backward_weight(x, dy, dw, db.as_deref_mut());
        }
        Some(d) => {
            let [w, a, s] = [weight, d.identity, d.share].map(|k| &parameters[k].values);
            let mut de = vec![0.0; w.len()];
            convolution.backward_weight(x, dy, &mut de, db.as_deref_mut());
            effective = Some(d.effective(w, a, s));
            let (dw, da, ds) = d.backward(&de, w, s);
            for (k, d) in [(weight, dw), (d.identity, da), (d.share, ds)] {
                kernels::axpy(1.0, &d, &mut parameters[k].gradient);
            }
        }
    }
    if let Some(dx) = dx {
        let w = effective.as_ref().unwrap_or(&parameters[weight].values);
        convolution.backward_input(dy, w, dx);
    }
    if let (Some(b), Some(db)) = (bias, db) {
        parameters[b].gradient = db;
    }
}

/// Of a linear layer with these weights and bias; overwrites `dx` where it is wanted.
fn linear_backward(
    (from, to): (usize, usize),
    (weight, bias): (usize, Option<usize>),
    x: &[f32],
    dy: &[f32],
    dx: Option<&mut [f32]>,
    parameters: &mut [Parameter],
) {
    use kernels::Transpose::{No, Yes};
    if let Some(b) = bias {
        for row in dy.chunks_exact(to) {
            kernels::axpy(1.0, row, &mut parameters[b].gradient);
        }
    }
    let p = &mut parameters[weight];
    let rows = dy.len() / to;
    let shape = (from, to, rows);
    kernels::gemm(shape, 1.0, (x, Yes), (dy, No), 1.0, &mut p.gradient);
    if let Some(dx) = dx {
        let shape = (rows, from, to);
        kernels::gemm(shape, 1.0, (dy, No), (&p.values, Yes), 0.0, dx);
    }
}

fn accumulate(sum: &mut Option<Vec<f32>>, dx: Vec<f32>, workspace: &mut Workspace) {
    match sum {
        None => *sum = Some(dx),
        Some(s) => {
            kernels::axpy(1.0, &dx, s);
            workspace.give(dx);
        }
    }
}

fn batch_norm(
    b: &mut Norm,
    x: &[f32],
    y: &mut [f32],
    parameters: &[Parameter],
    mode: Mode,
    momentum: Option<f32>,
) {
    let channels = b.mean.len();
    let (scale, bias) = (&parameters[b.scale].values, &parameters[b.bias].values);
    let inverse =
        |v: &[f32]| -> Vec<f32> { v.iter().map(|v| 1.0 / (v + b.epsilon).sqrt()).collect() };
    let again = b.batch.clone().filter(|_| mode == Mode::Again);
    let (mean, inverse) = match (mode, momentum) {
        (Mode::Again, _) => again.unwrap_or_default(),
        (Mode::Evaluate, _) => (b.mean.clone(), inverse(&b.variance)),
        (Mode::Train, None) => {
            let fixed = (b.mean.clone(), inverse(&b.variance));
            b.batch = Some(fixed.clone());
            fixed
        }
        (Mode::Train, Some(momentum)) => {
            let (mean, variance) = kernels::batch_norm_statistics(channels, x);
            let rows = (x.len() / channels) as f32;
            // running variances are unbiased, as everywhere
            let unbiased = rows / (rows - 1.0).max(1.0);
            let inverse = inverse(&variance);
            for c in 0..channels {
                b.mean[c] += momentum * (mean[c] - b.mean[c]);
                b.variance[c] += momentum * (unbiased * variance[c] - b.variance[c]);
            }
            b.batch = Some((mean.clone(), inverse.clone()));
            (mean, inverse)
        }
    };
    let factor: Vec<f32> = scale.iter().zip(&inverse).map(|(s, i)| s * i).collect();
    let offset: Vec<f32> = (0..channels)
        .map(|c| bias[c] - mean[c] * factor[c])
        .collect();
    kernels::channel_affine(channels, x, &factor, &offset, y);
}

fn batch_norm_backward(
    b: &Norm,
    x: &[f32],
    dy: &[f32],
    statistics: Statistics,
    dx: &mut [f32],
    parameters: &mut [Parameter],
) {
    let Some((mean, inverse)) = &b.batch else {
        unreachable!("a backward pass follows a forward pass in training mode");
    };
    let mut dscale = std::mem::take(&mut parameters[b.scale].gradient);
    let mut dbias = std::mem::take(&mut parameters[b.bias].gradient);
    let scale = &parameters[b.scale].values;
    kernels::batch_norm_backward(
        b.mean.len(),
        x,
        dy,
        mean,
        inverse,
        statistics,
        scale,
        dx,
        &mut dscale,
        &mut dbias,
    );
    parameters[b.scale].gradient = dscale;
    parameters[b.bias].gradient = dbias;
}

/// Calls `copy(from, to)` with the index of each selected value in the input and in the output.
fn sliced(s: &Slice, n: usize, from: Shape, mut copy: impl FnMut(usize, usize)) {
    let (h, w, c) = hwc(from);
    let axis = |k: usize| {
        let a = s.axes[k];
        (a.begin..a.end).step_by(a.step)
    };
    let (rows, columns, channels) = match s.axes.len() {
        3 => (axis(1), axis(2), axis(0)),
        _ => ((0..1).step_by(1), (0..1).step_by(1), axis(0)),
    };
    let mut to = 0;
    for image in 0..n {
        for y in rows.clone() {
            for x in columns.clone() {
                let pixel = ((image * h + y) * w + x) * c;
                for channel in channels.clone() {
                    copy(pixel + channel, to);
                    to += 1;
                }
            }
        }
    }
}

/// Calls `copy(from, to)` with the ranges of each pixel's channels in the input and in the output.
fn padded(
    p: Pad,
    n: usize,
    from: Shape,
    to: Shape,
    mut copy: impl FnMut(std::ops::Range<usize>, std::ops::Range<usize>),
) {
    let ((h, w, c), (th, tw, tc)) = (hwc(from), hwc(to));
    for image in 0..n {
        for y in 0..h {
            for x in 0..w {
                let a = ((image * h + y) * w + x) * c;
                let b = ((image * th + y + p.spatial.top) * tw + x + p.spatial.left) * tc
                    + p.channels.0;
                copy(a..a + c, b..b + c);
            }
        }
    }
}

fn window(p: &AvgPool, batch: usize, from: Shape, to: Shape) -> kernels::Window {
    let (oh, ow, _) = hwc(to);
    kernels::Window {
        batch,
        input: hwc(from),
        output: (oh, ow),
        kernel: p.kernel,
        stride: p.stride,
        padding: (p.padding.top, p.padding.left),
    }
}

/// From one shape's `(h, w, c)` to another's, keeping the values' order as `(c, h, w)`.
fn reorder(from: Shape, to: Shape, x: &[f32], y: &mut [f32]) {
    let ((h, w, c), (th, tw, tc)) = (hwc(from), hwc(to));
    let same = (h * w == 1 || c == 1) && (th * tw == 1 || tc == 1);
    if same {
        y.copy_from_slice(x);
        return;
    }
    let size = h * w * c;
    for (x, y) in x.chunks_exact(size).zip(y.chunks_exact_mut(size)) {
        for k in 0..size {
            // position k in (c, h, w) order on both sides
            let (channel, pixel) = (k / (h * w), k % (h * w));
            let (to_channel, to_pixel) = (k / (th * tw), k % (th * tw));
            y[to_pixel * tc + to_channel] = x[pixel * c + channel];
        }
    }
}

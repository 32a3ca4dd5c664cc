//! Forward and backward passes.

use crate::activation::{RangeLoss, Unit};
use crate::layout::hwc;
use crate::mode::Mode;
use crate::model::{Dense, Filter, Layer, Model, Norm};
use crate::parameter::Parameter;
use crate::sequence::Public;
use crate::workspace::Workspace;
use kernels::Transpose::{No, Yes};
use kernels::{Convolution, Statistics, Turning};
use nn::{AvgPool, Shape};
use std::borrow::Cow;

/// What a model is given.
#[derive(Debug, Clone, Copy)]
pub enum Inputs<'a> {
    /// A batch of pictures, `(n, h, w, c)`, or of vectors.
    Numbers(&'a [f32]),
    /// A batch of windows of tokens, `(n, length)`.
    Tokens(&'a [u32]),
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
    pub(crate) fn begin(&mut self, batch: usize, mode: Mode) {
        for v in self.values.iter_mut().filter_map(Option::take) {
            self.workspace.give(v);
        }
        // parts of a batch in training may differ in size again and again
        let (trained, trains) = (self.training, mode.trains());
        if trained != trains || (!trains && batch != self.batch) {
            self.workspace.clear();
        }
        (self.batch, self.training) = (batch, trains);
    }

    /// A forward pass up to a node, whose values stay.
    pub(crate) fn forward_to(&mut self, last: usize, input: Vec<f32>, batch: usize, mode: Mode) {
        self.begin(batch, mode);
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
            } else if self.recompute && self.cuts().binary_search(&i).is_ok() {
                // what is needed behind the cut stays
                for j in segment..i {
                    if self.last_use[j] <= i {
                        self.forget(j);
                    }
                }
                segment = i + 1;
                self.workspace.clear();
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
                self.begin(batch, mode);
                let x = self.workspace.copy(x);
                self.forward(x, batch, mode)
            }
            Inputs::Tokens(tokens) => {
                let (rows, columns, _) = hwc(self.input_shape());
                self.begin(tokens.len() / (rows * columns), mode);
                let Some(embedding) = &mut self.embedding else {
                    unreachable!("a model that is given tokens has an embedding");
                };
                let x = embedding.gather(tokens, &self.parameters, &mut self.workspace);
                let batch = x.len() / self.input_shape().len();
                self.forward(x, batch, mode)
            }
        }
    }

    /// Gives back what a forward pass keeps of a node, unless it is the input, which can't be made again.
    fn forget(&mut self, i: usize) {
        if matches!(self.layers[i], Layer::Input) {
            return;
        }
        if let Some(v) = self.values[i].take() {
            self.workspace.give(v);
        }
    }

    pub(crate) fn compute(&mut self, i: usize, mode: Mode) -> Vec<f32> {
        let n = self.batch;
        let value = |k: usize| self.values[self.inputs[i][k]].as_deref().unwrap_or(&[]);
        let shape = self.shapes[i];
        let from = self.inputs[i].first().map_or(shape, |&j| self.shapes[j]);
        let (height, width, channels) = hwc(shape);
        let public = Public {
            first: self.public,
            length: height * width,
        };
        let mut y = self.workspace.take(n * shape.len());
        match &mut self.layers[i] {
            Layer::Input => {}
            Layer::Constant(c) => {
                for row in y.chunks_exact_mut(c.len()) {
                    row.copy_from_slice(c);
                }
            }
            Layer::Convolution(c) => {
                let bias = c.bias.map(|b| &self.parameters[b].values[..]);
                c.at(n)
                    .forward(value(0), &c.weights(&self.parameters), bias, &mut y);
            }
            Layer::Linear(l) => l.forward(value(0), &mut y, &self.parameters),
            Layer::BatchNorm(b) => {
                let momentum = (!self.frozen).then_some(self.momentum);
                b.forward(value(0), &mut y, &self.parameters, mode, momentum);
            }
            Layer::Activation(u) => {
                let (beside, values) = ((public, channels), (value(0), &mut y[..]));
                u.forward_beside(beside, values, &self.parameters, mode, &mut self.workspace);
            }
            Layer::RowNorm(norm) => {
                norm.forward(value(0), &mut y, &self.parameters, mode, public);
            }
            Layer::Rotary(turn) => turn.turn(value(0), Turning::Forwards, &mut y),
            Layer::Attention(a) => {
                let marks = (self.inputs[i].len() > 3).then(|| value(3));
                let given = ([value(0), value(1), value(2)], marks);
                a.forward(given, &mut y, n, mode, public);
            }
            Layer::Add => kernels::add(value(0), value(1), &mut y),
            Layer::Mul => {
                for ((y, a), b) in y.iter_mut().zip(value(0)).zip(value(1)) {
                    *y = a * b;
                }
            }
            Layer::AveragePool(p) => {
                kernels::average_pool_forward(&window(p, n, from, shape), value(0), &mut y);
            }
            Layer::Rearrange(places) => {
                let (x, size) = (value(0), places.len());
                for (x, y) in x.chunks_exact(from.len()).zip(y.chunks_exact_mut(size)) {
                    for (y, &place) in y.iter_mut().zip(places.iter()) {
                        *y = x.get(place as usize).copied().unwrap_or(0.0);
                    }
                }
            }
            Layer::Softmax(kind) => kernels::softmax_forward(*kind, channels, value(0), &mut y),
            Layer::Affine { factor, shift } => {
                for (y, x) in y.iter_mut().zip(value(0)) {
                    *y = *factor * x + *shift;
                }
            }
            Layer::Identity => y.copy_from_slice(value(0)),
        }
        y
    }

    /// Adds the gradients of all parameters, given the loss's derivative by the outputs of the last forward pass (in [`Mode::Train`]).
    /// Gives back the range and variance losses' sum, whose gradients are added too.
    pub fn backward(&mut self, output: Vec<f32>) -> f64 {
        let mut gradients: Vec<Option<Vec<f32>>> = self.layers.iter().map(|_| None).collect();
        gradients[self.output] = Some(self.workspace.copy(&output));
        drop(output);
        let mut penalty = 0.0;
        for i in (0..self.layers.len()).rev() {
            if self.recompute
                && let Ok(cut) = self.cuts().binary_search(&i)
            {
                self.workspace.clear();
                // what lies between this cut and the one before
                let first = cut.checked_sub(1).map_or(0, |c| self.cuts()[c] + 1);
                for j in first..i {
                    if self.values[j].is_none() {
                        self.values[j] = Some(self.compute(j, Mode::Again));
                    }
                }
            }
            if let Some(dy) = gradients[i].take() {
                penalty += self.backward_node(i, dy, &mut gradients);
            }
            self.forget(i);
        }
        penalty
    }

    /// Whether a gradient by the first input of a node leads to any parameter: pictures and constants need none.
    pub(crate) fn needs_gradient(&self, i: usize) -> bool {
        self.inputs[i].iter().any(|&j| {
            !self.inputs[j].is_empty()
                || (self.embedding.is_some() && matches!(self.layers[j], Layer::Input))
        })
    }

    /// The backward pass of one node: adds to its inputs' gradients and its parameters', gives back its loss.
    fn backward_node(&mut self, i: usize, dy: Vec<f32>, gradients: &mut [Option<Vec<f32>>]) -> f64 {
        let (height, width, channels) = hwc(self.shapes[i]);
        let public = Public {
            first: self.public,
            length: height * width,
        };
        let n = self.batch;
        let source = |k: usize| self.inputs[i][k];
        let value = |k: usize| self.values[self.inputs[i][k]].as_deref().unwrap_or(&[]);
        let from = (self.inputs[i].first()).map_or(Shape::Vector(0), |&j| self.shapes[j]);
        let mut loss = 0.0;
        let needed = self.needs_gradient(i);
        // by the first input, and by the others
        let (mut dx, mut others) = (self.workspace.take(n * from.len()), Vec::new());
        match &mut self.layers[i] {
            Layer::Input => {
                if let Some(e) = &mut self.embedding {
                    e.backward(&dy, &mut self.parameters);
                }
            }
            Layer::Constant(_) => {}
            Layer::Convolution(c) => {
                let dx = needed.then_some(&mut dx[..]);
                c.backward(n, value(0), &dy, dx, &mut self.parameters);
            }
            Layer::Linear(l) => {
                l.backward(
                    value(0),
                    &dy,
                    needed.then_some(&mut dx[..]),
                    &mut self.parameters,
                );
            }
            Layer::BatchNorm(b) => {
                let statistics = match self.frozen {
                    true => Statistics::Fixed,
                    false => Statistics::Batch,
                };
                b.backward(value(0), &dy, statistics, &mut dx, &mut self.parameters);
            }
            Layer::Activation(u) => {
                let (h, w, _) = hwc(self.shapes[self.output]);
                let (penalty, rows) = (self.range_loss.times(self.share), n * h * w);
                let beside = (public, channels);
                loss = u.backward_beside(
                    beside,
                    (value(0), &dy, &mut dx),
                    &mut self.parameters,
                    (penalty, rows),
                    &mut self.workspace,
                );
            }
            Layer::RowNorm(norm) => {
                let shared = (self.variance_loss, self.share);
                loss = norm.backward(value(0), &dy, &mut dx, &mut self.parameters, shared, public);
            }
            Layer::Attention(a) => {
                let [mut dk, mut dv] =
                    [1, 2].map(|k| self.workspace.take(n * self.shapes[source(k)].len()));
                let marks = (self.inputs[i].len() > 3).then(|| value(3));
                let given = ([value(0), value(1), value(2)], marks);
                let slopes = [&mut dx[..], &mut dk, &mut dv];
                loss = a.backward(
                    given,
                    &dy,
                    slopes,
                    n,
                    (self.division_loss, self.share),
                    public,
                );
                others.extend([(1, dk), (2, dv)]);
            }
            Layer::Add => {
                dx.copy_from_slice(&dy);
                others.push((1, self.workspace.copy(&dy)));
            }
            Layer::Mul => {
                let mut other = self.workspace.take(dy.len());
                for (dx, k) in [(&mut dx, 1), (&mut other, 0)] {
                    for ((d, g), v) in dx.iter_mut().zip(&dy).zip(value(k)) {
                        *d = g * v;
                    }
                }
                others.push((1, other));
            }
            Layer::Rotary(turn) => turn.turn(&dy, Turning::Backwards, &mut dx),
            Layer::AveragePool(p) => {
                kernels::average_pool_backward(&window(p, n, from, self.shapes[i]), &dy, &mut dx);
            }
            Layer::Rearrange(places) => {
                dx.fill(0.0);
                let size = places.len();
                for (dx, dy) in dx.chunks_exact_mut(from.len()).zip(dy.chunks_exact(size)) {
                    for (dy, &place) in dy.iter().zip(places.iter()) {
                        if let Some(dx) = dx.get_mut(place as usize) {
                            *dx += dy;
                        }
                    }
                }
            }
            Layer::Softmax(kind) => {
                let y = self.values[i].as_deref().unwrap_or(&[]);
                kernels::softmax_backward(*kind, channels, y, &dy, &mut dx);
            }
            Layer::Affine { factor, .. } => {
                for (dx, dy) in dx.iter_mut().zip(&dy) {
                    *dx = *factor * dy;
                }
            }
            Layer::Identity => dx.copy_from_slice(&dy),
        }
        match needed {
            true => accumulate(&mut gradients[source(0)], dx, &mut self.workspace),
            false => self.workspace.give(dx),
        }
        for (k, dx) in others {
            accumulate(&mut gradients[source(k)], dx, &mut self.workspace);
        }
        self.workspace.give(dy);
        loss
    }
}

impl Unit {
    /// [`Unit::forward`] of what is not public; the exact function of what is.
    fn forward_beside(
        &mut self,
        (public, channels): (Public, usize),
        (x, y): (&[f32], &mut [f32]),
        parameters: &[Parameter],
        mode: Mode,
        workspace: &mut Workspace,
    ) {
        if public.first == 0 {
            return self.forward(x, y, parameters, mode, workspace);
        }
        self.exact(x, y, parameters);
        let x = public.without(x, channels, workspace);
        let mut out = workspace.take(x.len());
        self.forward(&x, &mut out, parameters, mode, workspace);
        public.put(&out, channels, y);
        workspace.give(x);
        workspace.give(out);
    }

    /// [`Unit::backward`] of what is not public; the exact function's of what is.
    fn backward_beside(
        &mut self,
        (public, channels): (Public, usize),
        (x, dy, dx): (&[f32], &[f32], &mut [f32]),
        parameters: &mut [Parameter],
        (penalty, rows): (RangeLoss, usize),
        workspace: &mut Workspace,
    ) -> f64 {
        if public.first == 0 {
            return self.backward(x, dy, dx, parameters, penalty, rows, workspace);
        }
        self.exact_backward(x, dy, dx, parameters);
        let x = public.without(x, channels, workspace);
        let g = public.without(dy, channels, workspace);
        let mut d = workspace.take(x.len());
        let loss = self.backward(&x, &g, &mut d, parameters, penalty, rows, workspace);
        public.put(&d, channels, dx);
        for v in [x, g, d] {
            workspace.give(v);
        }
        loss
    }
}

impl Filter {
    /// For so many pictures.
    fn at(&self, batch: usize) -> Convolution {
        Convolution {
            batch,
            ..self.geometry
        }
    }

    /// The weights that it computes with, `(Kh, Kw, C/G, O)`.
    pub(crate) fn weights<'a>(&self, parameters: &'a [Parameter]) -> Cow<'a, [f32]> {
        let of = |p: usize| &parameters[p].values[..];
        match &self.dirac {
            None => Cow::Borrowed(of(self.weight)),
            Some(d) => Cow::Owned(d.effective(of(self.weight), of(d.identity), of(d.share))),
        }
    }

    /// Overwrites `dx` where it is wanted.
    fn backward(
        &self,
        batch: usize,
        x: &[f32],
        dy: &[f32],
        dx: Option<&mut [f32]>,
        parameters: &mut [Parameter],
    ) {
        let convolution = self.at(batch);
        if let Some(dx) = dx {
            convolution.backward_input(dy, &self.weights(parameters), dx);
        }
        let bias = self.bias;
        let mut db = bias.map(|b| std::mem::take(&mut parameters[b].gradient));
        match &self.dirac {
            None => {
                let dw = &mut parameters[self.weight].gradient;
                convolution.backward_weight(x, dy, dw, db.as_deref_mut());
            }
            Some(d) => {
                let [w, s] = [self.weight, d.share].map(|k| &parameters[k].values);
                let mut de = vec![0.0; w.len()];
                convolution.backward_weight(x, dy, &mut de, db.as_deref_mut());
                let (dw, da, ds) = d.backward(&de, w, s);
                for (k, d) in [(self.weight, dw), (d.identity, da), (d.share, ds)] {
                    kernels::axpy(1.0, &d, &mut parameters[k].gradient);
                }
            }
        }
        if let (Some(b), Some(db)) = (bias, db) {
            parameters[b].gradient = db;
        }
    }
}

impl Dense {
    /// Of rows of what it is given.
    pub(crate) fn forward(&self, x: &[f32], y: &mut [f32], parameters: &[Parameter]) {
        if let Some(b) = self.bias {
            for row in y.chunks_exact_mut(self.to) {
                row.copy_from_slice(&parameters[b].values);
            }
        }
        let beta = if self.bias.is_some() { 1.0 } else { 0.0 };
        let shape = (y.len() / self.to, self.to, self.from);
        let w = &parameters[self.weight].values;
        kernels::gemm(shape, 1.0, (x, No), (w, No), beta, y);
    }

    /// Overwrites `dx` where it is wanted.
    fn backward(
        &self,
        x: &[f32],
        dy: &[f32],
        dx: Option<&mut [f32]>,
        parameters: &mut [Parameter],
    ) {
        if let Some(b) = self.bias {
            for row in dy.chunks_exact(self.to) {
                kernels::axpy(1.0, row, &mut parameters[b].gradient);
            }
        }
        let p = &mut parameters[self.weight];
        let rows = dy.len() / self.to;
        let shape = (self.from, self.to, rows);
        kernels::gemm(shape, 1.0, (x, Yes), (dy, No), 1.0, &mut p.gradient);
        if let Some(dx) = dx {
            let shape = (rows, self.from, self.to);
            kernels::gemm(shape, 1.0, (dy, No), (&p.values, Yes), 0.0, dx);
        }
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

impl Norm {
    fn forward(
        &mut self,
        x: &[f32],
        y: &mut [f32],
        parameters: &[Parameter],
        mode: Mode,
        momentum: Option<f32>,
    ) {
        let channels = self.mean.len();
        let epsilon = self.epsilon;
        let inverse =
            |v: &[f32]| -> Vec<f32> { v.iter().map(|v| 1.0 / (v + epsilon).sqrt()).collect() };
        let (mean, inverse) = match (mode, momentum) {
            (Mode::Again, _) => self.batch.clone().unwrap_or_default(),
            (Mode::Evaluate, _) | (Mode::Train, None) => {
                (self.mean.clone(), inverse(&self.variance))
            }
            (Mode::Train, Some(momentum)) => {
                let (mean, variance) = kernels::batch_norm_statistics(channels, x);
                let rows = (x.len() / channels) as f32;
                // running variances are unbiased, as everywhere
                let unbiased = rows / (rows - 1.0).max(1.0);
                for c in 0..channels {
                    self.mean[c] += momentum * (mean[c] - self.mean[c]);
                    self.variance[c] += momentum * (unbiased * variance[c] - self.variance[c]);
                }
                (mean, inverse(&variance))
            }
        };
        let (scale, bias) = (
            &parameters[self.scale].values,
            &parameters[self.bias].values,
        );
        let factor: Vec<f32> = scale.iter().zip(&inverse).map(|(s, i)| s * i).collect();
        let offset: Vec<f32> = (0..channels)
            .map(|c| bias[c] - mean[c] * factor[c])
            .collect();
        kernels::channel_affine(channels, x, &factor, &offset, y);
        if mode == Mode::Train {
            self.batch = Some((mean, inverse));
        }
    }

    fn backward(
        &self,
        x: &[f32],
        dy: &[f32],
        statistics: Statistics,
        dx: &mut [f32],
        parameters: &mut [Parameter],
    ) {
        let Some((mean, inverse)) = &self.batch else {
            unreachable!("a backward pass follows a forward pass in training mode");
        };
        let [mut dscale, mut dbias] =
            [self.scale, self.bias].map(|p| std::mem::take(&mut parameters[p].gradient));
        let scale = &parameters[self.scale].values;
        kernels::batch_norm_backward(
            self.mean.len(),
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
        parameters[self.scale].gradient = dscale;
        parameters[self.bias].gradient = dbias;
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
        divisor: match p.count_include_pad {
            true => kernels::Divisor::Window,
            false => kernels::Divisor::Picture,
        },
    }
}

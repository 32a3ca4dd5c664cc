//! What training takes of memory, and where a backward pass that computes values again cuts a network.
//!
//! A pass is walked through with lengths in the place of numbers, taking and giving back the same buffers (`Workspace`), so that what is
//! predicted is what will be held. With recomputation a forward pass keeps, at each cut, what is needed behind it; the backward pass makes
//! the values between two cuts again from that. With cuts every √n of n equal layers it holds about 2√n values instead of n
//! (T. Chen et al., "Training Deep Nets with Sublinear Memory Cost" (2016)); layers are not equal, so cuts are chosen by what they save.

use crate::config::Stage;
use crate::layout::hwc;
use crate::model::{Layer, Model};
use crate::workspace::{Buffer, Workspace};

/// A buffer of which only the length is there.
#[derive(Debug, Clone, Copy)]
struct Length(usize);

impl Buffer for Length {
    fn new(length: usize) -> Self {
        Self(length)
    }

    fn length(&self) -> usize {
        self.0
    }
}

/// What a training pass keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Everything.
    Everything,
    /// What is needed behind cuts; the rest is made again.
    Boundaries,
}

/// A pass of which only lengths are known.
struct Walk<'a> {
    model: &'a Model,
    cuts: &'a [usize],
    batch: usize,
    workspace: Workspace<Length>,
    values: Vec<Option<Length>>,
}

impl<'a> Walk<'a> {
    fn new(model: &'a Model, cuts: &'a [usize]) -> Self {
        Self {
            model,
            cuts,
            batch: 0,
            workspace: Workspace::default(),
            values: model.layers.iter().map(|_| None).collect(),
        }
    }

    fn length(&self, node: usize) -> usize {
        self.batch * self.model.shapes[node].len()
    }

    fn begin(&mut self, batch: usize) {
        for v in self.values.iter_mut().filter_map(Option::take) {
            self.workspace.give(v);
        }
        self.batch = batch;
    }

    /// What activations take and give back at once, in either direction.
    fn borrow(&mut self, node: usize) {
        let Layer::Activation(unit) = &self.model.layers[node] else {
            return;
        };
        let (h, w, channels) = hwc(self.model.shapes[node]);
        let public = self.model.public;
        let mut lengths = Vec::new();
        let mut length = self.length(node);
        if public > 0 {
            // what is not public, its results, and the way back its gradient
            length = self.batch * (h * w).saturating_sub(public) * channels;
            lengths.extend([length; 3]);
        }
        lengths.extend(vec![length; unit.buffers()]);
        let taken: Vec<Length> = lengths.iter().map(|&l| self.workspace.take(l)).collect();
        taken.into_iter().for_each(|l| self.workspace.give(l));
    }

    fn compute(&mut self, node: usize) {
        self.values[node] = Some(self.workspace.take(self.length(node)));
        self.borrow(node);
    }

    fn forget(&mut self, node: usize) {
        if !matches!(self.model.layers[node], Layer::Input)
            && let Some(v) = self.values[node].take()
        {
            self.workspace.give(v);
        }
    }

    fn evaluate(&mut self, batch: usize) {
        self.begin(batch);
        for i in 0..self.values.len() {
            self.compute(i);
            for &j in &self.model.inputs[i] {
                if self.model.last_use[j] == i
                    && let Some(v) = self.values[j].take()
                {
                    self.workspace.give(v);
                }
            }
        }
    }

    fn forward(&mut self, batch: usize) {
        self.begin(batch);
        let mut segment = 0;
        for i in 0..self.values.len() {
            self.compute(i);
            if self.cuts.binary_search(&i).is_ok() {
                for j in segment..i {
                    if self.model.last_use[j] <= i {
                        self.forget(j);
                    }
                }
                segment = i + 1;
                self.workspace.clear();
            }
        }
    }

    fn backward(&mut self) {
        let mut gradients: Vec<Option<Length>> = self.values.iter().map(|_| None).collect();
        let output = self.model.output;
        gradients[output] = Some(self.workspace.take(self.length(output)));
        for i in (0..self.values.len()).rev() {
            if let Ok(cut) = self.cuts.binary_search(&i) {
                self.workspace.clear();
                let first = cut.checked_sub(1).map_or(0, |c| self.cuts[c] + 1);
                for j in first..i {
                    if self.values[j].is_none() {
                        self.compute(j);
                    }
                }
            }
            if let Some(dy) = gradients[i].take() {
                self.backward_node(i, dy, &mut gradients);
            }
            self.forget(i);
        }
    }

    fn backward_node(&mut self, node: usize, dy: Length, gradients: &mut [Option<Length>]) {
        let model = self.model;
        let inputs = &model.inputs[node];
        let first = inputs.first().map_or(0, |&j| self.length(j));
        let dx = self.workspace.take(first);
        self.borrow(node);
        let others = match model.layers[node] {
            Layer::Attention(_) => 1..3,
            Layer::Add | Layer::Mul => 1..2,
            _ => 0..0,
        };
        let others: Vec<(usize, Length)> = others
            .map(|k| (inputs[k], self.workspace.take(self.length(inputs[k]))))
            .collect();
        match model.needs_gradient(node) {
            true => self.accumulate(&mut gradients[inputs[0]], dx),
            false => self.workspace.give(dx),
        }
        for (j, d) in others {
            self.accumulate(&mut gradients[j], d);
        }
        self.workspace.give(dy);
    }

    fn accumulate(&mut self, sum: &mut Option<Length>, dx: Length) {
        match sum {
            None => *sum = Some(dx),
            Some(_) => self.workspace.give(dx),
        }
    }
}

/// How many floats the values of a segment may have, of all: the choices that are tried.
const CHOICES: i32 = 40;

impl Model {
    /// The most floats that steps on batches (parts of batches) of these sizes hold, beside the parameters.
    #[must_use]
    pub fn floats_in_training(&self, kept: Kept, batches: &[usize]) -> usize {
        let cuts = match kept {
            Kept::Everything => &[][..],
            Kept::Boundaries => self.cuts(),
        };
        self.floats_with(cuts, batches) + batches.iter().copied().max().unwrap_or(0) * self.rows()
    }

    fn floats_with(&self, cuts: &[usize], batches: &[usize]) -> usize {
        let mut walk = Walk::new(self, cuts);
        for &batch in batches {
            walk.forward(batch);
            walk.backward();
        }
        walk.workspace.most()
    }

    /// The most floats that a pass without training holds, beside the parameters.
    #[must_use]
    pub fn floats_in_evaluation(&self, batch: usize) -> usize {
        let mut walk = Walk::new(self, &[]);
        walk.evaluate(batch);
        walk.workspace.most() + batch * self.rows()
    }

    /// What layers keep of each row of one input: moments and divisors.
    fn rows(&self) -> usize {
        let kept = |(i, layer): (usize, &Layer)| {
            let (h, w, _) = hwc(self.shapes[i]);
            match layer {
                Layer::RowNorm(_) => 3 * h * w,
                Layer::Attention(a) => 3 * a.heads() * h * w,
                _ => 0,
            }
        };
        self.layers.iter().enumerate().map(kept).sum()
    }

    /// The cuts with which a step on one input holds least; chosen when they are first asked for.
    pub(crate) fn cuts(&self) -> &[usize] {
        self.cuts.get_or_init(|| self.best_cuts())
    }

    fn best_cuts(&self) -> Vec<usize> {
        let all: usize = self.shapes.iter().map(|s| s.len()).sum();
        let mut best = (self.floats_with(&[], &[1]), Vec::new());
        for k in 1..=CHOICES {
            // from half of all down to a thousandth
            let limit = (all as f64 * 0.5f64.powf(f64::from(k) / 4.0)) as usize;
            let Some(cuts) = self.cuts_within(limit) else {
                break;
            };
            let floats = self.floats_with(&cuts, &[1]);
            if floats < best.0 {
                best = (floats, cuts);
            }
        }
        best.1
    }

    /// Of the cuts whose segments have no more values than `limit`, those that keep fewest; None where one layer alone has more.
    fn cuts_within(&self, limit: usize) -> Option<Vec<usize>> {
        let length = |i: usize| match self.layers[i] {
            // is there in any case
            Layer::Input => 0,
            _ => self.shapes[i].len(),
        };
        let count = self.layers.len();
        // of the nodes before this one: the fewest floats that are kept, and where the last segment begins
        let mut best: Vec<Option<(usize, usize)>> = vec![None; count + 1];
        best[0] = Some((0, 0));
        for end in 1..=count {
            let (mut values, mut kept) = (0, 0);
            for begin in (0..end).rev() {
                values += length(begin);
                if values > limit {
                    break;
                }
                if self.last_use[begin] >= end {
                    kept += length(begin);
                }
                if let Some((before, _)) = best[begin]
                    && best[end].is_none_or(|(b, _)| before + kept < b)
                {
                    best[end] = Some((before + kept, begin));
                }
            }
        }
        let mut cuts = Vec::new();
        let mut end = count;
        while let Some((_, begin)) = best[end]
            && begin > 0
        {
            cuts.push(begin - 1);
            end = begin;
        }
        best[count]?;
        cuts.reverse();
        Some(cuts)
    }

    /// Bytes that training takes as a run has it, if its stages keep at most this, and `teacher` answers beside it: what passes over the parts of
    /// a batch hold, or a pass over a whole batch without training, and of every parameter its value, its gradient, two moments and what a
    /// checkpoint holds of it.
    #[must_use]
    pub fn training_bytes(
        &self,
        (batch, stages): (usize, &[Stage]),
        kept: Kept,
        teacher: Option<&Model>,
    ) -> u64 {
        let parameters: usize = self.parameters.iter().map(|p| p.values.len()).sum();
        let step = |s: &Stage| {
            let parts = parts(batch, s.parts);
            let kept = if s.recompute { Kept::Boundaries } else { kept };
            let taught = parts
                .first()
                .map_or(0, |&n| teacher.map_or(0, |t| t.floats_in_evaluation(n)));
            self.floats_in_training(kept, &parts) + taught
        };
        // statistics are measured on whole batches
        let measured = |s: &Stage| match s.reestimate {
            true => self.floats_in_training(kept, &[batch]),
            false => 0,
        };
        let steps = stages.iter().map(|s| step(s).max(measured(s))).max();
        let passes = steps.unwrap_or(0).max(self.floats_in_evaluation(batch));
        4 * (passes + 6 * parameters) as u64
    }
}

/// The different sizes of a batch's parts, the largest first.
fn parts(batch: usize, parts: usize) -> Vec<usize> {
    let size = batch.div_ceil(parts.max(1)).max(1);
    let mut sizes = vec![size.min(batch)];
    if !batch.is_multiple_of(size) {
        sizes.push(batch % size);
    }
    sizes
}

//! Layers of sequences in training: normalisation of rows, rotary positions, attention, embeddings. A sequence of L tokens is a picture of one
//! row of L pixels, so a batch is `n·L` rows of channels.

use crate::inverse::{InverseUnit, VarianceLoss};
use crate::mode::Mode;
use crate::parameter::Parameter;
use crate::workspace::Workspace;
use approx::Function;
use kernels::{Centre, RowSums, Rows, Turning, Weighting};
use nn::attention::{Denominator, Order, Scaling};
use nn::{AttentionScheme, NormKind, Pairing, Shape};
use std::borrow::Cow;

/// Positions at the beginning of every sequence that are public: computed in the clear under encryption, so exactly, and no interval needs to
/// hold them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Public {
    /// How many.
    pub(crate) first: usize,
    /// Positions of a sequence.
    pub(crate) length: usize,
}

/// A loss, and which share of it counts.
pub(crate) type Shared = (VarianceLoss, f32);

impl Public {
    /// Whether the row of this number, counted through all sequences, is public.
    pub(crate) fn is(self, row: usize) -> bool {
        row % self.length < self.first
    }

    /// What is not public, of one value a row.
    fn others(self, x: &[f32]) -> Cow<'_, [f32]> {
        if self.first == 0 {
            return Cow::Borrowed(x);
        }
        let rows = x.iter().enumerate().filter(|(i, _)| !self.is(*i));
        Cow::Owned(rows.map(|(_, v)| *v).collect())
    }

    /// A unit's inverse (root) of a divisor in the row of this number: exact where it is public.
    fn inverse(self, unit: &InverseUnit, mode: Mode) -> impl Fn(usize, f32) -> f32 + Sync + '_ {
        move |row, d| match self.is(row) {
            true => unit.exact(d),
            false => unit.value(d, mode),
        }
    }

    fn loss(self, (loss, share): Shared, divisors: &[f32]) -> (f64, Option<Vec<f32>>) {
        let (lost, slopes) = loss.evaluate(&self.others(divisors), share);
        let slopes = slopes.map(|s| {
            let mut all = vec![0.0; divisors.len()];
            self.put(&s, 1, &mut all);
            all
        });
        (lost, slopes)
    }

    /// The channels of rows that are not public, one after the other.
    pub(crate) fn without(self, x: &[f32], channels: usize, workspace: &mut Workspace) -> Vec<f32> {
        let rows = x.len() / channels;
        let mut out = workspace.take((rows - rows / self.length * self.first) * channels);
        let kept = x
            .chunks_exact(channels)
            .enumerate()
            .filter(|(i, _)| !self.is(*i));
        for (to, (_, from)) in out.chunks_exact_mut(channels).zip(kept) {
            to.copy_from_slice(from);
        }
        out
    }

    /// Puts them back.
    pub(crate) fn put(self, of: &[f32], channels: usize, y: &mut [f32]) {
        let rows = y
            .chunks_exact_mut(channels)
            .enumerate()
            .filter(|(i, _)| !self.is(*i));
        for (from, (_, to)) in of.chunks_exact(channels).zip(rows) {
            to.copy_from_slice(from);
        }
    }
}

/// A layer normalisation, or one by the root mean square.
#[derive(Debug)]
pub(crate) struct RowNorm {
    pub(crate) scale: usize,
    pub(crate) bias: Option<usize>,
    pub(crate) centre: Centre,
    pub(crate) root: InverseUnit,
    /// Whether it is computed by who encrypts, so exactly, and by no program.
    pub(crate) clear: bool,
    /// Of the last training batch: means, variances + ε, what was multiplied with.
    kept: Option<[Vec<f32>; 3]>,
}

impl RowNorm {
    pub(crate) fn new(name: &str, norm: &nn::Norm, scale: usize, bias: Option<usize>) -> Self {
        Self {
            scale,
            bias,
            centre: match norm.kind {
                NormKind::Layer => Centre::Mean,
                _ => Centre::Zero,
            },
            root: InverseUnit::new(name, Function::InverseSquareRoot, norm.epsilon as f32),
            clear: false,
            kept: None,
        }
    }

    pub(crate) fn forward(
        &mut self,
        x: &[f32],
        y: &mut [f32],
        parameters: &[Parameter],
        mode: Mode,
        public: Public,
    ) {
        let scale = &parameters[self.scale].values;
        let rows = x.len() / scale.len();
        let (mut mean, mut divisor) = (vec![0.0; rows], vec![0.0; rows]);
        kernels::row_moments(scale.len(), x, self.centre, &mut mean, &mut divisor);
        divisor.iter_mut().for_each(|v| *v += self.root.least);
        if mode.records() {
            self.root.record(&public.others(&divisor));
        }
        let inverse = public.inverse(&self.root, mode);
        let divisors = divisor.iter().enumerate();
        let inverse: Vec<f32> = divisors.map(|(i, &d)| inverse(i, d)).collect();
        let bias = self.bias.map(|b| &parameters[b].values[..]);
        kernels::row_norm_forward(x, &mean, &inverse, scale, bias, y);
        self.kept = mode.trains().then_some([mean, divisor, inverse]);
    }

    /// Gives back the variance loss.
    pub(crate) fn backward(
        &mut self,
        x: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        parameters: &mut [Parameter],
        loss: Shared,
        public: Public,
    ) -> f64 {
        let Some([mean, divisor, inverse]) = self.kept.take() else {
            unreachable!("a backward pass follows a forward pass in training mode");
        };
        let (lost, extra) = match self.clear {
            true => (0.0, None),
            false => public.loss(loss, &divisor),
        };
        // a program's derivative is that of what it approximates
        let slope: Vec<f32> = inverse.iter().map(|r| -0.5 * r * r * r).collect();
        let rows = Rows {
            mean: &mean,
            inverse: &inverse,
            slope: &slope,
            extra: extra.as_deref(),
            centred: self.centre == Centre::Mean,
        };
        let mut dscale = std::mem::take(&mut parameters[self.scale].gradient);
        let mut dbias = self
            .bias
            .map(|b| std::mem::take(&mut parameters[b].gradient));
        let scale = &parameters[self.scale].values;
        kernels::row_norm_backward(x, dy, &rows, scale, dx, &mut dscale, dbias.as_deref_mut());
        parameters[self.scale].gradient = dscale;
        if let (Some(b), Some(d)) = (self.bias, dbias) {
            parameters[b].gradient = d;
        }
        lost
    }
}

/// Rotary positions.
#[derive(Debug)]
pub(crate) struct Turn {
    rotary: nn::Rotary,
    heads: usize,
    cosine: Vec<f32>,
    sine: Vec<f32>,
    positions: usize,
}

/// Cosines and sines of the angles at these positions.
fn tables(rotary: &nn::Rotary, positions: std::ops::Range<usize>) -> (Vec<f32>, Vec<f32>) {
    let pairs = rotary.rotated / 2;
    let angles = positions.flat_map(|t| (0..pairs).map(move |k| rotary.angle(k, t)));
    angles.map(|a| (a.cos() as f32, a.sin() as f32)).unzip()
}

impl Turn {
    pub(crate) fn new(rotary: &nn::Rotary, shape: Shape) -> Self {
        let (_, positions, channels) = crate::layout::hwc(shape);
        let (cosine, sine) = tables(rotary, 0..positions);
        Self {
            rotary: *rotary,
            heads: channels / rotary.head,
            cosine,
            sine,
            positions,
        }
    }

    pub(crate) fn turn(&self, x: &[f32], turning: Turning, y: &mut [f32]) {
        self.by(&self.cosine, &self.sine, self.positions)
            .turn(x, turning, y);
    }

    /// Rows that are all at this position.
    pub(crate) fn turn_at(&self, position: usize, x: &[f32], y: &mut [f32]) {
        let (cosine, sine) = tables(&self.rotary, position..position + 1);
        self.by(&cosine, &sine, 1).turn(x, Turning::Forwards, y);
    }

    fn by<'a>(&self, cosine: &'a [f32], sine: &'a [f32], positions: usize) -> kernels::Rotary<'a> {
        kernels::Rotary {
            heads: self.heads,
            width: self.rotary.head,
            pairs: match self.rotary.pairing {
                Pairing::Adjacent => kernels::Pairs::Adjacent,
                Pairing::Half => kernels::Pairs::Halves,
            },
            cosine,
            sine,
            positions,
        }
    }
}

/// An attention.
#[derive(Debug)]
pub(crate) struct Attend {
    /// With batch 1; a pass sets the batch.
    shape: kernels::Attention,
    /// How many positions of every sequence are tokens, where not all are.
    valid: Option<usize>,
    pub(crate) division: InverseUnit,
    /// Of the last training batch.
    sums: Option<RowSums>,
}

/// Queries, keys and values, and marks of the keys that are no padding, where a mask takes them.
pub(crate) type Marked<'a> = ([&'a [f32]; 3], Option<&'a [f32]>);

/// How many positions of each sequence are marked: those up to the last marked one.
fn within(marks: &[f32], length: usize) -> Vec<usize> {
    let last = |m: &[f32]| m.iter().rposition(|&v| v > 0.0).map_or(1, |i| i + 1);
    marks.chunks_exact(length).map(last).collect()
}

/// The rows of keys (or of their gradient) multiplied by their marks, as a circuit does it.
fn marked(rows: &[f32], marks: &[f32]) -> Vec<f32> {
    let channels = rows.len() / marks.len();
    let rows = rows.chunks_exact(channels).zip(marks);
    rows.flat_map(|(row, &m)| row.iter().map(move |v| v * m))
        .collect()
}

impl Attend {
    pub(crate) fn new(name: &str, a: &nn::Attention, queries: Shape) -> Self {
        let (_, length, channels) = crate::layout::hwc(queries);
        let (weighting, least) = match a.scheme {
            AttentionScheme::Softmax => (Weighting::Softmax, 1.0),
            AttentionScheme::Power(p) => (
                Weighting::Power {
                    exponent: p.exponent(),
                    epsilon: p.epsilon() as f32,
                    stable: p.scaling() == Scaling::Largest,
                    mean: p.denominator() == Denominator::Mean,
                },
                p.epsilon() as f32,
            ),
            AttentionScheme::Undivided(u) => (Weighting::Undivided { exponent: u.into() }, 1.0),
        };
        Self {
            shape: kernels::Attention {
                batch: 1,
                length,
                heads: a.heads,
                kv_heads: a.kv_heads,
                width: channels / a.heads,
                scale: a.scale as f32,
                causal: a.mask.order == Order::Causal,
                weighting,
            },
            valid: a.mask.valid,
            division: InverseUnit::new(name, Function::Reciprocal, least),
            sums: None,
        }
    }

    /// Of its queries.
    pub(crate) fn heads(&self) -> usize {
        self.shape.heads
    }

    /// Whether its rows are divided by sums or means of powers, which a program may do.
    pub(crate) fn powers(&self) -> bool {
        matches!(self.shape.weighting, Weighting::Power { .. })
    }

    /// Takes powers as they are from now on, as a homomorphic circuit does: the same weights, but divisors that a program may divide by.
    pub(crate) fn unscale(&mut self) {
        if let Weighting::Power { stable, .. } = &mut self.shape.weighting {
            *stable = false;
        }
    }

    pub(crate) fn stable(&self) -> bool {
        matches!(self.shape.weighting, Weighting::Power { stable: true, .. })
    }

    pub(crate) fn at(&self, batch: usize) -> kernels::Attention {
        kernels::Attention {
            batch,
            ..self.shape
        }
    }

    pub(crate) fn forward(
        &mut self,
        ([q, k, v], marks): Marked<'_>,
        y: &mut [f32],
        batch: usize,
        mode: Mode,
        public: Public,
    ) {
        let (seen, keys) = self.seen(k, marks, batch);
        let k = keys.as_deref().unwrap_or(k);
        let sums = {
            let inverse = public.inverse(&self.division, mode);
            self.at(batch).forward(q, k, v, &seen, &inverse, y)
        };
        if mode.records()
            && let Weighting::Power { exponent, .. } = self.shape.weighting
        {
            // as they are without scaling
            let divisors: Vec<f32> = sums
                .divisor
                .iter()
                .zip(&sums.shift)
                .map(|(d, c)| d * c.powi(exponent as i32))
                .collect();
            self.division.record(&public.others(&divisors));
        }
        self.sums = mode.trains().then_some(sums);
    }

    /// What marks do: softmax sees only what is marked, powers see keys of zeros elsewhere. Neither sees what is no token.
    fn seen(
        &self,
        k: &[f32],
        marks: Option<&[f32]>,
        batch: usize,
    ) -> (Vec<usize>, Option<Vec<f32>>) {
        let softmax = self.shape.weighting == Weighting::Softmax;
        let keys = marks.filter(|_| !softmax).map(|m| marked(k, m));
        let mut seen = match (marks.filter(|_| softmax), self.valid) {
            (Some(m), _) => within(m, self.shape.length),
            (None, Some(valid)) => vec![valid; batch],
            (None, None) => Vec::new(),
        };
        if let Some(valid) = self.valid {
            seen.iter_mut().for_each(|s| *s = valid.min(*s));
        }
        (seen, keys)
    }

    /// One position more of each sequence, against caches ([`kernels::Attention::step`]).
    pub(crate) fn step(
        &self,
        q: &[f32],
        [keys, values]: [&[f32]; 2],
        batch: usize,
        (positions, capacity): (usize, usize),
        public: Public,
        y: &mut [f32],
    ) {
        let inverse = public.inverse(&self.division, Mode::Evaluate);
        self.at(batch)
            .step(q, keys, values, (positions, capacity), &inverse, y);
    }

    /// Overwrites the three gradients; gives back the loss on divisors.
    pub(crate) fn backward(
        &mut self,
        ([q, k, v], marks): Marked<'_>,
        dy: &[f32],
        [dq, dk, dv]: [&mut [f32]; 3],
        batch: usize,
        loss: Shared,
        public: Public,
    ) -> f64 {
        let Some(sums) = self.sums.take() else {
            unreachable!("a backward pass follows a forward pass in training mode");
        };
        let (lost, extra) = if self.powers() && !self.stable() {
            public.loss(loss, &sums.divisor)
        } else {
            (0.0, None)
        };
        let (_, keys) = self.seen(k, marks, batch);
        let k = keys.as_deref().unwrap_or(k);
        self.at(batch)
            .backward([q, k, v], dy, &sums, extra.as_deref(), [dq, &mut *dk, dv]);
        if let (Some(m), Some(_)) = (marks, &keys) {
            dk.copy_from_slice(&marked(dk, m));
        }
        lost
    }
}

/// Where a model's inputs come from, when they are rows of a table chosen by tokens.
#[derive(Debug)]
pub(crate) struct Embedding {
    /// Index of the table, `(vocabulary, width)`, or of the output's weights, `(width, vocabulary)`, whose transpose it is.
    pub(crate) parameter: usize,
    pub(crate) tied: bool,
    pub(crate) width: usize,
    /// Of sentences: what is added by position, and marks in a last channel.
    pub(crate) sentences: Option<Places>,
    /// Of the last batch.
    tokens: Vec<u32>,
}

/// Positions of sentences that are filled up with padding.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places {
    /// Index of the table of positions, a row of the embedding's width each.
    pub(crate) parameter: usize,
    /// Positions of a sentence.
    pub(crate) length: usize,
    /// The row of the first position.
    pub(crate) first: usize,
    /// What fills up; it is not marked.
    pub(crate) padding: u32,
    /// The row that padding takes, if not its place's.
    pub(crate) padding_row: Option<usize>,
}

impl Places {
    fn row(&self, i: usize, token: u32) -> usize {
        match self.padding_row {
            Some(row) if token == self.padding => row,
            _ => self.first + i % self.length,
        }
    }
}

impl Embedding {
    pub(crate) fn new(parameter: usize, tied: bool, width: usize) -> Self {
        Self {
            parameter,
            tied,
            width,
            sentences: None,
            tokens: Vec::new(),
        }
    }

    /// The table, `(vocabulary, width)`.
    pub(crate) fn table(&self, parameters: &[Parameter]) -> Vec<f32> {
        let values = &parameters[self.parameter].values;
        if self.tied {
            crate::layout::transposed(values, self.width, values.len() / self.width)
        } else {
            values.clone()
        }
    }

    pub(crate) fn gather(
        &mut self,
        tokens: &[u32],
        parameters: &[Parameter],
        workspace: &mut Workspace,
    ) -> Vec<f32> {
        self.tokens.clear();
        self.tokens.extend_from_slice(tokens);
        let table = self.table(parameters);
        let Some(places) = self.sentences else {
            let mut y = workspace.take(tokens.len() * self.width);
            kernels::gather(&table, self.width, tokens, &mut y);
            return y;
        };
        let w = self.width;
        let positions = &parameters[places.parameter].values;
        let mut y = workspace.take(tokens.len() * (w + 1));
        for (i, (y, &token)) in y.chunks_exact_mut(w + 1).zip(tokens).enumerate() {
            let word = &table[token as usize * w..][..w];
            let position = &positions[places.row(i, token) * w..][..w];
            for ((y, a), b) in y.iter_mut().zip(word).zip(position) {
                *y = a + b;
            }
            y[w] = f32::from(u8::from(token != places.padding));
        }
        y
    }

    pub(crate) fn backward(&self, dy: &[f32], parameters: &mut [Parameter]) {
        let sum;
        let dy = match self.sentences {
            None => dy,
            Some(places) => {
                let w = self.width;
                let rows = dy.chunks_exact(w + 1).map(|row| &row[..w]);
                let gradient = &mut parameters[places.parameter].gradient;
                for (i, (row, &token)) in rows.clone().zip(&self.tokens).enumerate() {
                    let at = places.row(i, token) * w;
                    kernels::axpy(1.0, row, &mut gradient[at..at + w]);
                }
                sum = rows.flatten().copied().collect::<Vec<f32>>();
                &sum
            }
        };
        let gradient = &mut parameters[self.parameter].gradient;
        if self.tied {
            let mut table = vec![0.0; gradient.len()];
            kernels::scatter_add(dy, self.width, &self.tokens, &mut table);
            let vocabulary = table.len() / self.width;
            let transposed = crate::layout::transposed(&table, vocabulary, self.width);
            kernels::axpy(1.0, &transposed, gradient);
        } else {
            kernels::scatter_add(dy, self.width, &self.tokens, gradient);
        }
    }
}

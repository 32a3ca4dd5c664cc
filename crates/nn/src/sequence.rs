//! The oracle's loops over sequences, on shapes that the graph's construction has checked. All values f64, `(channels, length)` row-major.

use crate::attention::{Order, Scheme};
use crate::op::{Attention, Boundary, Norm, NormKind, Repeat, Rotary, Unfold};
use crate::tensor::{Shape, Tensor};

impl Norm {
    /// Its value on `(C, area)`, row by row.
    #[must_use]
    pub fn apply(&self, x: &[f64], area: usize) -> Vec<f64> {
        norm_by(self, x, area, |_, c, variance| c / variance.sqrt())
    }
}

/// As [`Norm::apply`], c/√(variance + ε) by `quotient(position, c, variance + ε)`, called for all channels of a position in turn.
pub(crate) fn norm_by(
    n: &Norm,
    x: &[f64],
    area: usize,
    mut quotient: impl FnMut(usize, f64, f64) -> f64,
) -> Vec<f64> {
    let channels = n.scale.values().len();
    let mut y = vec![0.0; x.len()];
    for t in 0..area {
        let column = || x[t..].iter().step_by(area);
        let mean = match n.kind {
            NormKind::Layer => column().sum::<f64>() / channels as f64,
            NormKind::RootMeanSquare => 0.0,
        };
        let squares: f64 = column().map(|v| (v - mean).powi(2)).sum();
        let variance = squares / channels as f64 + n.epsilon;
        for (c, (v, &scale)) in column().zip(n.scale.values()).enumerate() {
            let bias = n.bias.as_ref().map_or(0.0, |b| f64::from(b.values()[c]));
            y[c * area + t] = f64::from(scale) * quotient(t, v - mean, variance) + bias;
        }
    }
    y
}

impl Attention {
    /// How many keys there are: as many as columns, or where keys are kept, as rows.
    pub(crate) fn keys(&self, keys: Shape) -> usize {
        match (self.mask.order, keys.as_image()) {
            (Order::Kept, Some((_, rows, _))) => rows,
            _ => keys.columns(),
        }
    }

    /// How many queries there are to so many keys.
    fn queries(&self, keys: usize) -> usize {
        match self.mask.order {
            Order::Kept => 1,
            _ => keys,
        }
    }

    /// Calls `row(head, position, scores, weights)` with the keys that each query sees, from the queries and keys `(H·d, 1, L)` that are the
    /// node's first two inputs ([`Trace`](crate::Trace) has them); of an attention with marks, as if all were marked.
    pub fn observe(
        &self,
        queries: &Tensor,
        keys: &Tensor,
        mut row: impl FnMut(usize, usize, &[f64], &[f64]),
    ) {
        let length = self.keys(keys.shape());
        let mut weights = vec![0.0; length];
        let (q, k) = (queries.values(), keys.values());
        scores(self, [q, k], None, length, |head, i, scores| {
            let weights = &mut weights[..scores.len()];
            self.scheme.weights(scores, weights);
            row(head, i, scores, weights);
        });
    }
}

pub(crate) fn rotary(r: &Rotary, x: &[f64], length: usize) -> Vec<f64> {
    let mut y = x.to_vec();
    for k in 0..r.rotated / 2 {
        let (a, b) = r.pair(k);
        for t in 0..length {
            let (sin, cos) = r.angle(k, t).sin_cos();
            for head in (0..x.len()).step_by(r.head * length) {
                let (a, b) = (head + a * length + t, head + b * length + t);
                y[a] = x[a] * cos - x[b] * sin;
                y[b] = x[a] * sin + x[b] * cos;
            }
        }
    }
    y
}

pub(crate) fn attention(
    a: &Attention,
    qkv: [&[f64]; 3],
    marks: Option<&[f64]>,
    length: usize,
) -> Vec<f64> {
    attention_by(a, qkv, marks, length, |scores, weights| {
        a.scheme.weights(scores, weights);
    })
}

/// As [`attention`], weights from visible scores by `weigh`.
pub(crate) fn attention_by(
    a: &Attention,
    [q, k, v]: [&[f64]; 3],
    marks: Option<&[f64]>,
    length: usize,
    mut weigh: impl FnMut(&[f64], &mut [f64]),
) -> Vec<f64> {
    let queries = a.queries(length);
    let width = q.len() / a.heads / queries;
    let mut y = vec![0.0; q.len()];
    let mut weights = vec![0.0; length];
    scores(a, [q, k], marks, length, |head, i, scores| {
        let weights = &mut weights[..scores.len()];
        weigh(scores, weights);
        let group = head / (a.heads / a.kv_heads);
        for c in 0..width {
            let values = &v[(group * width + c) * length..][..length];
            y[(head * width + c) * queries + i] =
                weights.iter().zip(values).map(|(w, v)| w * v).sum();
        }
    });
    y
}

/// Calls `row(head, position, scores)` with the scores of the keys that the position sees, those of unmarked ones among them as they weigh
/// nothing.
pub(crate) fn scores(
    a: &Attention,
    [q, k]: [&[f64]; 2],
    marks: Option<&[f64]>,
    length: usize,
    mut row: impl FnMut(usize, usize, &[f64]),
) {
    let queries = a.queries(length);
    let width = q.len() / a.heads / queries;
    let mut scores = vec![0.0; length];
    for head in 0..a.heads {
        let group = head / (a.heads / a.kv_heads);
        let (q, k) = (
            &q[head * width * queries..][..width * queries],
            &k[group * width * length..][..width * length],
        );
        for i in 0..queries {
            let scores = &mut scores[..a.mask.visible(i, length)];
            scores.fill(0.0);
            for (q, k) in q.chunks(queries).zip(k.chunks(length)) {
                for (s, k) in scores.iter_mut().zip(k) {
                    *s += q[i] * k;
                }
            }
            for s in scores.iter_mut() {
                *s *= a.scale;
            }
            for (s, &mark) in scores.iter_mut().zip(marks.unwrap_or_default()) {
                *s = a.scheme.marked(*s, mark);
            }
            row(head, i, scores);
        }
    }
}

pub(crate) fn unfold(u: Unfold, x: &[f64], length: usize) -> Vec<f64> {
    let mut y = vec![0.0; x.len() * u.rows];
    for (channel, rows) in x.chunks(length).zip(y.chunks_mut(u.rows * length)) {
        for (d, row) in rows.chunks_mut(length).enumerate().take(length) {
            row[d..].copy_from_slice(&channel[..length - d]);
            if u.boundary == Boundary::Cyclic {
                row[..d].copy_from_slice(&channel[length - d..]);
            }
        }
    }
    y
}

pub(crate) fn repeat(r: Repeat, x: &[f64], length: usize) -> Vec<f64> {
    x.chunks(length)
        .flat_map(|channel| std::iter::repeat_n(channel, r.rows).flatten().copied())
        .collect()
}

//! Attention: rows of weights from scores of queries with keys, and the weighted sums of values.
//!
//! Scores are taken again in the backward pass, a block of rows of one head at a time, so that no pass holds the square of the length; what is
//! kept are three numbers a row ([`RowSums`]).

use crate::function::exp;
use crate::gemm::{Serial, Transpose};
use crate::has_size;
use crate::instructions::{Instructions, Vector, fused, instructions, kernels};
use rayon::prelude::*;

/// How a row of scores becomes weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Weighting {
    /// e^s/Σe^s.
    Softmax,
    /// κ·s^p/(ε·c^(−p) + κ·Σs^p) with s divided by c.
    /// Reference: Zimerman et al., *Power-Softmax* (arXiv 2410.09457).
    Power {
        /// p, even.
        exponent: u32,
        /// ε.
        epsilon: f32,
        /// Whether c is the row's largest magnitude (1 otherwise): the same weights, from powers that don't overflow.
        stable: bool,
        /// Whether κ is 1 over the number of visible scores (1 otherwise): the divisor is then a mean, whose size doesn't grow with the row.
        mean: bool,
    },
    /// s^p over the number of visible scores: nothing is divided.
    Undivided {
        /// p, even.
        exponent: u32,
    },
}

/// The shape of an attention: queries and outputs are `batch·length × heads·width`, keys and values `batch·length × kv_heads·width`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Sequences.
    pub batch: usize,
    /// Positions of each.
    pub length: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values; divides `heads`, and neighbouring heads share them.
    pub kv_heads: usize,
    /// Channels of a head.
    pub width: usize,
    /// Scores are multiplied by this, usually 1/√width.
    pub scale: f32,
    /// Whether a position sees itself and earlier ones only.
    pub causal: bool,
    /// From scores to weights.
    pub weighting: Weighting,
}

/// What a forward pass keeps of each row, `batch × heads × length`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowSums {
    /// The largest score (softmax), or what scores were divided by (powers).
    pub shift: Vec<f32>,
    /// The divisor: Σe^(s − shift), or ε·c^(−p) + κ·Σs^p.
    pub divisor: Vec<f32>,
    /// What the weights were multiplied with: an inverse of the divisor.
    pub inverse: Vec<f32>,
    /// How many positions of each sequence are seen; all where it ends.
    pub within: Vec<usize>,
}

/// An inverse of the divisor of the row at a position: exact, or what a circuit computes.
pub type Inverse<'a> = &'a (dyn Fn(usize, f32) -> f32 + Sync);

/// Rows of a block.
const ROWS: usize = 32;

/// The channels of one head out of rows of all heads.
fn head(x: &[f32], (channels, width): (usize, usize), head: usize) -> Vec<f32> {
    x.chunks_exact(channels)
        .flat_map(|row| &row[head * width..][..width])
        .copied()
        .collect()
}

fn put_head(of: &[f32], (channels, width): (usize, usize), head: usize, y: &mut [f32]) {
    for (row, of) in y.chunks_exact_mut(channels).zip(of.chunks_exact(width)) {
        row[head * width..][..width].copy_from_slice(of);
    }
}

impl Attention {
    fn check(&self, q: &[f32], k: &[f32], v: &[f32], y: &[f32]) {
        assert!(
            self.kv_heads > 0 && self.width > 0 && self.heads.is_multiple_of(self.kv_heads),
            "Attention: heads of keys and values divide the heads"
        );
        let of = |heads: usize| [self.batch, self.length, heads, self.width];
        assert!(
            has_size(q, &of(self.heads))
                && y.len() == q.len()
                && has_size(k, &of(self.kv_heads))
                && v.len() == k.len(),
            "Attention: queries and outputs are rows × heads·width, keys and values rows × kv_heads·width"
        );
        if let Weighting::Power { exponent, .. } | Weighting::Undivided { exponent } =
            self.weighting
        {
            assert!(
                exponent > 0 && exponent.is_multiple_of(2),
                "Attention: the exponent is even"
            );
        }
    }

    /// Scores that row `i` of sequence `n` sees.
    fn visible(&self, i: usize, n: usize, within: &[usize]) -> usize {
        let all = if self.causal { i + 1 } else { self.length };
        within.get(n).map_or(all, |&w| all.min(w))
    }

    /// Calls `f` for each sequence and each head of keys and values, with its keys and values.
    fn tasks<T: Send>(
        &self,
        k: &[f32],
        v: &[f32],
        f: impl Fn(usize, usize, &[f32], &[f32]) -> T + Sync,
    ) -> Vec<T> {
        let shape = (self.kv_heads * self.width, self.width);
        let size = self.length * shape.0;
        (0..self.batch * self.kv_heads)
            .into_par_iter()
            .map(|task| {
                let (n, h) = (task / self.kv_heads, task % self.kv_heads);
                let keys = head(&k[n * size..][..size], shape, h);
                let values = head(&v[n * size..][..size], shape, h);
                f(n, h, &keys, &values)
            })
            .collect()
    }

    /// The outputs; gives back what the backward pass needs. Of each sequence only so many positions are seen, at least one, as `within` says,
    /// and the others are padding; all are seen where it is empty.
    pub fn forward(
        &self,
        q: &[f32],
        k: &[f32],
        v: &[f32],
        within: &[usize],
        inverse: Inverse<'_>,
        y: &mut [f32],
    ) -> RowSums {
        self.check(q, k, v, y);
        assert!(
            within.iter().all(|w| (1..=self.length).contains(w)),
            "Attention: of each sequence at least one position is seen"
        );
        let instructions = instructions();
        let (l, d) = (self.length, self.width);
        let (channels, group) = (self.heads * d, self.heads / self.kv_heads);
        let done = self.tasks(k, v, |n, h, keys, values| {
            let mut serial = Serial::new(instructions);
            let mut scores = Vec::new();
            (0..group)
                .map(|g| {
                    let at = h * group + g;
                    let queries = head(&q[n * l * channels..][..l * channels], (channels, d), at);
                    let mut out = vec![0.0f32; l * d];
                    let mut sums = RowSums::default();
                    for first in (0..l).step_by(ROWS) {
                        let last = (first + ROWS).min(l);
                        let (rows, seen) = (last - first, self.visible(last - 1, n, within));
                        let (q, k) = (&queries[first * d..last * d], &keys[..seen * d]);
                        self.scores(&mut serial, q, k, &mut scores);
                        for (row, s) in scores.chunks_exact_mut(seen).enumerate() {
                            let (s, unseen) = s.split_at_mut(self.visible(first + row, n, within));
                            let (c, divisor, r) =
                                weights(instructions, self.weighting, s, first + row, inverse);
                            unseen.fill(0.0);
                            sums.shift.push(c);
                            sums.divisor.push(divisor);
                            sums.inverse.push(r);
                        }
                        use Transpose::No;
                        let (s, v) = ((&scores[..], No), (&values[..seen * d], No));
                        let out = &mut out[first * d..last * d];
                        serial.gemm((rows, d, seen), 1.0, s, v, 0.0, out);
                    }
                    (out, sums)
                })
                .collect::<Vec<_>>()
        });
        let mut all = RowSums {
            within: within.to_vec(),
            ..RowSums::default()
        };
        for (i, (out, sums)) in done.into_iter().flatten().enumerate() {
            let (n, h) = (i / self.heads, i % self.heads);
            put_head(
                &out,
                (channels, d),
                h,
                &mut y[n * l * channels..][..l * channels],
            );
            all.shift.extend(sums.shift);
            all.divisor.extend(sums.divisor);
            all.inverse.extend(sums.inverse);
        }
        all
    }

    fn scores(&self, serial: &mut Serial, q: &[f32], k: &[f32], scores: &mut Vec<f32>) {
        let (rows, seen) = (q.len() / self.width, k.len() / self.width);
        scores.resize(rows * seen, 0.0);
        use Transpose::{No, Yes};
        let shape = (rows, seen, self.width);
        serial.gemm(shape, self.scale, (q, No), (k, Yes), 0.0, scores);
    }

    /// The gradients by queries, keys and values; overwrites dq, dk and dv. `extra` is the derivative of further
    /// losses by each divisor, at fixed shifts.
    pub fn backward(
        &self,
        [q, k, v]: [&[f32]; 3],
        dy: &[f32],
        sums: &RowSums,
        extra: Option<&[f32]>,
        [dq, dk, dv]: [&mut [f32]; 3],
    ) {
        self.check(q, k, v, dy);
        self.check(dq, dk, dv, dy);
        let rows = self.batch * self.heads * self.length;
        assert!(
            [sums.shift.len(), sums.divisor.len(), sums.inverse.len()] == [rows; 3]
                && extra.is_none_or(|e| e.len() == rows),
            "Attention: the sums are of batch × heads × length rows"
        );
        let instructions = instructions();
        let (l, d) = (self.length, self.width);
        let (channels, group) = (self.heads * d, self.heads / self.kv_heads);
        use Transpose::{No, Yes};
        let done = self.tasks(k, v, |n, h, keys, values| {
            let mut serial = Serial::new(instructions);
            let (mut scores, mut slopes) = (Vec::new(), Vec::new());
            let (mut dkeys, mut dvalues) = (vec![0.0f32; l * d], vec![0.0f32; l * d]);
            let mut dqueries = Vec::new();
            for g in 0..group {
                let at = h * group + g;
                let part = n * l * channels..(n + 1) * l * channels;
                let queries = head(&q[part.clone()], (channels, d), at);
                let dout = head(&dy[part], (channels, d), at);
                let mut dhead = vec![0.0f32; l * d];
                for first in (0..l).step_by(ROWS) {
                    let last = (first + ROWS).min(l);
                    let (rows, seen) = (last - first, self.visible(last - 1, n, &sums.within));
                    let block = first * d..last * d;
                    let k = &keys[..seen * d];
                    self.scores(&mut serial, &queries[block.clone()], k, &mut scores);
                    // the derivative by the weights
                    slopes.resize(rows * seen, 0.0);
                    let (dout, v) = (&dout[block.clone()], &values[..seen * d]);
                    let shape = (rows, seen, d);
                    serial.gemm(shape, 1.0, (dout, No), (v, Yes), 0.0, &mut slopes);
                    for row in 0..rows {
                        let i = (n * self.heads + at) * l + first + row;
                        let visible = self.visible(first + row, n, &sums.within);
                        let block = row * seen..(row + 1) * seen;
                        let (s, unseen) = scores[block.clone()].split_at_mut(visible);
                        let (ds, dunseen) = slopes[block].split_at_mut(visible);
                        unseen.fill(0.0);
                        dunseen.fill(0.0);
                        slopes_of(
                            instructions,
                            self.weighting,
                            s,
                            ds,
                            sums.shift[i],
                            sums.inverse[i],
                            extra.map_or(0.0, |e| e[i]),
                        );
                    }
                    let (shape, s, q) =
                        ((seen, d, rows), (&scores[..], Yes), &queries[block.clone()]);
                    serial.gemm(shape, 1.0, s, (dout, No), 1.0, &mut dvalues[..seen * d]);
                    let dk = &mut dkeys[..seen * d];
                    serial.gemm(shape, self.scale, (&slopes, Yes), (q, No), 1.0, dk);
                    let (shape, dq) = ((rows, d, seen), &mut dhead[block]);
                    serial.gemm(shape, self.scale, (&slopes, No), (k, No), 0.0, dq);
                }
                dqueries.push(dhead);
            }
            (dqueries, dkeys, dvalues)
        });
        let kv = self.kv_heads * d;
        for (task, (dqueries, dkeys, dvalues)) in done.into_iter().enumerate() {
            let (n, h) = (task / self.kv_heads, task % self.kv_heads);
            for (g, dhead) in dqueries.iter().enumerate() {
                let dq = &mut dq[n * l * channels..][..l * channels];
                put_head(dhead, (channels, d), h * group + g, dq);
            }
            put_head(&dkeys, (kv, d), h, &mut dk[n * l * kv..][..l * kv]);
            put_head(&dvalues, (kv, d), h, &mut dv[n * l * kv..][..l * kv]);
        }
    }

    /// One position more of each sequence: queries `batch × heads·width` against the first `positions` columns of the caches, which hold the
    /// keys and values so far as `batch × kv_heads × width × capacity`. `length` and `causal` do not matter.
    pub fn step(
        &self,
        q: &[f32],
        keys: &[f32],
        values: &[f32],
        (positions, capacity): (usize, usize),
        inverse: Inverse<'_>,
        y: &mut [f32],
    ) {
        let d = self.width;
        assert!(
            has_size(q, &[self.batch, self.heads, d])
                && y.len() == q.len()
                && has_size(keys, &[self.batch, self.kv_heads, d, capacity])
                && values.len() == keys.len()
                && (1..=capacity).contains(&positions),
            "Attention: a step takes one row of queries a sequence, and caches that hold its position"
        );
        let (channels, group) = (self.heads * d, self.heads / self.kv_heads);
        let cache = self.kv_heads * d * capacity;
        let instructions = instructions();
        // a few sequences a task, whatever the number of threads
        const FEW: usize = 8;
        y.par_chunks_mut(FEW * channels)
            .zip(q.par_chunks(FEW * channels))
            .zip(keys.par_chunks(FEW * cache))
            .zip(values.par_chunks(FEW * cache))
            .for_each(|(((y, q), keys), values)| {
                let mut scores = vec![0.0f32; positions];
                let heads = y.chunks_exact_mut(d).zip(q.chunks_exact(d));
                for (i, (y, q)) in heads.enumerate() {
                    let at =
                        (i / self.heads * self.kv_heads + i % self.heads / group) * d * capacity;
                    let (keys, values) =
                        (&keys[at..][..d * capacity], &values[at..][..d * capacity]);
                    score_step(instructions, self.scale, q, keys, capacity, &mut scores);
                    let at = positions - 1;
                    weights(instructions, self.weighting, &mut scores, at, inverse);
                    mixture(instructions, &scores, values, capacity, y);
                }
            });
    }
}

kernels! {
    /// scores = scale·Σ q\[c\]·keys\[c\].
    fn score_step<V>(
        scale: f32,
        q: &[f32],
        keys: &[f32],
        capacity: usize,
        scores: &mut [f32],
    ) {
        let n = scores.len();
        scores.fill(0.0);
        for (&q, keys) in q.iter().zip(keys.chunks_exact(capacity)) {
            let q = q * scale;
            for (s, &k) in scores.iter_mut().zip(&keys[..n]) {
                *s = fused::<V>(q, k, *s);
            }
        }
    }
}

/// Sums that are taken side by side.
const WIDE: usize = 16;

kernels! {
    /// y\[c\] = Σ scores·values\[c\].
    fn mixture<V>(scores: &[f32], values: &[f32], capacity: usize, y: &mut [f32]) {
        let n = scores.len();
        for (y, values) in y.iter_mut().zip(values.chunks_exact(capacity)) {
            let values = &values[..n];
            let mut sums = [0.0f32; WIDE];
            let (s, s_rest) = scores.as_chunks::<WIDE>();
            let (v, v_rest) = values.as_chunks::<WIDE>();
            for (s, v) in s.iter().zip(v) {
                for i in 0..WIDE {
                    sums[i] = fused::<V>(s[i], v[i], sums[i]);
                }
            }
            for (i, (s, v)) in s_rest.iter().zip(v_rest).enumerate() {
                sums[i] = fused::<V>(*s, *v, sums[i]);
            }
            *y = sums.iter().sum();
        }
    }
}

/// Turns visible scores into weights; gives back shift, divisor and its inverse.
fn weights(
    instructions: Instructions,
    weighting: Weighting,
    s: &mut [f32],
    position: usize,
    inverse: Inverse<'_>,
) -> (f32, f32, f32) {
    let visible = s.len() as f32;
    let (shift, sum) = powers(instructions, weighting, s);
    let (divisor, factor) = match weighting {
        Weighting::Softmax => (sum, 1.0),
        Weighting::Power {
            exponent,
            epsilon,
            mean,
            ..
        } => {
            let kappa = if mean { 1.0 / visible } else { 1.0 };
            // of a row whose powers vanish beside ε the lift is infinite, and the weights are 0
            let lift = if epsilon > 0.0 {
                epsilon * shift.powi(exponent as i32).recip()
            } else {
                0.0
            };
            (lift + kappa * sum, kappa)
        }
        // no inverse is asked for
        Weighting::Undivided { .. } => {
            scaled(instructions, 1.0 / visible, s);
            return (shift, 1.0, 1.0);
        }
    };
    // a row of zeros without ε weighs nothing
    let r = if divisor == 0.0 {
        0.0
    } else {
        inverse(position, divisor)
    };
    scaled(instructions, factor * r, s);
    (shift, divisor, r)
}

kernels! {
    fn scaled<V>(factor: f32, s: &mut [f32]) {
        for s in s {
            *s *= factor;
        }
    }
}

/// The largest of `f(s)`, side by side.
#[inline(always)]
pub(crate) fn largest(s: &[f32], start: f32, f: impl Fn(f32) -> f32) -> f32 {
    let mut wide = [start; WIDE];
    let (whole, rest) = s.as_chunks::<WIDE>();
    for s in whole {
        for i in 0..WIDE {
            let v = f(s[i]);
            wide[i] = if v > wide[i] { v } else { wide[i] };
        }
    }
    for (w, &s) in wide.iter_mut().zip(rest) {
        let v = f(s);
        *w = if v > *w { v } else { *w };
    }
    wide.iter().fold(start, |a, &b| a.max(b))
}

/// Replaces each element by `f` of it; gives back the sum, taken side by side.
#[inline(always)]
fn replace(s: &mut [f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0f32; WIDE];
    let (whole, rest) = s.as_chunks_mut::<WIDE>();
    for s in whole {
        for i in 0..WIDE {
            s[i] = f(s[i]);
            sums[i] += s[i];
        }
    }
    for (sum, s) in sums.iter_mut().zip(rest) {
        *s = f(*s);
        *sum += *s;
    }
    sums.iter().map(|&s| f64::from(s)).sum::<f64>() as f32
}

/// u^(2·half − 1), u^(2·half).
#[inline(always)]
fn power(u: f32, half: u32) -> (f32, f32) {
    let square = u * u;
    let mut odd = u;
    for _ in 1..half {
        odd *= square;
    }
    (odd, odd * u)
}

/// `$body` with the exponent's half as a constant where it is small, so that loops over elements are vectors.
macro_rules! by_half {
    ($exponent:expr, |$half:ident| $body:expr) => {
        match $exponent / 2 {
            1 => {
                let $half = 1u32;
                $body
            }
            2 => {
                let $half = 2u32;
                $body
            }
            3 => {
                let $half = 3u32;
                $body
            }
            4 => {
                let $half = 4u32;
                $body
            }
            $half => $body,
        }
    };
}

/// What keeps a row of zeros from a division by zero.
const TINY: f32 = 1e-20;

kernels! {
    /// Turns scores into e^(s − largest), or into (s/c)^p; gives back the shift and the sum.
    fn powers<V>(weighting: Weighting, s: &mut [f32]) -> (f32, f32) {
        match weighting {
            Weighting::Softmax => {
                let shift = largest(s, f32::NEG_INFINITY, |v| v);
                (shift, replace(s, |v| exp::<V>(v - shift)))
            }
            Weighting::Power {
                exponent, stable, ..
            } => {
                let c = if stable {
                    largest(s, TINY, f32::abs)
                } else {
                    1.0
                };
                let factor = 1.0 / c;
                let sum = by_half!(exponent, |half| replace(s, |v| power(v * factor, half).1));
                (c, sum)
            }
            Weighting::Undivided { exponent } => {
                let sum = by_half!(exponent, |half| replace(s, |v| power(v, half).1));
                (1.0, sum)
            }
        }
    }
}

/// Σ a·b, side by side.
#[inline(always)]
fn dot<V: Vector>(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; WIDE];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<WIDE>(), b.as_chunks::<WIDE>());
    for (a, b) in a.iter().zip(b) {
        for i in 0..WIDE {
            sums[i] = fused::<V>(a[i], b[i], sums[i]);
        }
    }
    for (i, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        sums[i] = fused::<V>(*a, *b, sums[i]);
    }
    sums.iter().map(|&s| f64::from(s)).sum::<f64>() as f32
}

kernels! {
    /// Turns scores into weights, and the derivative by the weights into that by the scores.
    fn slopes_of<V>(
        weighting: Weighting,
        s: &mut [f32],
        ds: &mut [f32],
        shift: f32,
        r: f32,
        extra: f32,
    ) {
        match weighting {
            Weighting::Softmax => {
                for s in s.iter_mut() {
                    *s = exp::<V>(*s - shift) * r;
                }
                // the divisor is a sum of e^(s − shift), each the weight over r
                let lift = extra / r;
                let t = dot::<V>(s, ds) - lift;
                for (ds, s) in ds.iter_mut().zip(s.iter()) {
                    *ds = s * (*ds - t);
                }
            }
            Weighting::Power { exponent, mean, .. } => {
                let kappa = if mean { 1.0 / s.len() as f32 } else { 1.0 };
                let factor = 1.0 / shift;
                let weight = kappa * r;
                let t = by_half!(exponent, |half| {
                    let mut sums = [0.0f32; WIDE];
                    for (i, (s, ds)) in s.iter().zip(ds.iter()).enumerate() {
                        let a = power(*s * factor, half).1;
                        sums[i % WIDE] = fused::<V>(a * weight, *ds, sums[i % WIDE]);
                    }
                    sums.iter().map(|&s| f64::from(s)).sum::<f64>() as f32
                });
                // weights do not depend on c, so no derivative goes through it
                let divisor = extra - r * t;
                let p = exponent as f32;
                by_half!(exponent, |half| {
                    for (s, ds) in s.iter_mut().zip(ds.iter_mut()) {
                        let (odd, even) = power(*s * factor, half);
                        *ds = p * odd * factor * kappa * fused::<V>(r, *ds, divisor);
                        *s = even * weight;
                    }
                });
            }
            Weighting::Undivided { exponent } => {
                let share = 1.0 / s.len() as f32;
                let slope = exponent as f32 * share;
                by_half!(exponent, |half| {
                    for (s, ds) in s.iter_mut().zip(ds.iter_mut()) {
                        let (odd, even) = power(*s, half);
                        *ds *= slope * odd;
                        *s = even * share;
                    }
                });
            }
        }
    }
}

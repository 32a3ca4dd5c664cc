//! Dirac parameterisation of convolutions: skip connections that are folded into the weights.
//!
//! `W = diag(a)·I + diag(b)·W̄`, with `I` the identity in the kernel's centre and `W̄` the weights with each output channel's row
//! divided by its norm; `a` starts at 1, `b` at 0.1. After training `W` is an ordinary convolution.
//! Reference: Zagoruyko, Komodakis, *DiracNets* (arXiv 1706.00388); used against skip connections by Drucker, Zimerman (arXiv 2306.06736).

/// The shape of a kernel `(Kh, Kw, C, O)` and the two extra parameters' places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dirac {
    /// Index of `a`, one per output channel.
    pub(crate) identity: usize,
    /// Index of `b`, one per output channel.
    pub(crate) share: usize,
    /// `(Kh, Kw, C, O)`.
    pub(crate) shape: (usize, usize, usize, usize),
}

/// Added to a row's squared norm.
const EPSILON: f32 = 1e-12;

impl Dirac {
    /// Where the identity's entry of output channel `o` lies, if the channel has one.
    fn diagonal(&self, o: usize) -> Option<usize> {
        let (kh, kw, c, out) = self.shape;
        (o < c).then(|| ((kh / 2 * kw + kw / 2) * c + o) * out + o)
    }

    fn norms(&self, w: &[f32]) -> Vec<f32> {
        let out = self.shape.3;
        let mut squares = vec![EPSILON; out];
        for row in w.chunks_exact(out) {
            for (s, v) in squares.iter_mut().zip(row) {
                *s += v * v;
            }
        }
        squares.into_iter().map(f32::sqrt).collect()
    }

    /// The convolution's weights.
    pub(crate) fn effective(&self, w: &[f32], a: &[f32], b: &[f32]) -> Vec<f32> {
        let norms = self.norms(w);
        let out = self.shape.3;
        let factors: Vec<f32> = b.iter().zip(&norms).map(|(b, n)| b / n).collect();
        let mut e = w.to_vec();
        for row in e.chunks_exact_mut(out) {
            for (v, f) in row.iter_mut().zip(&factors) {
                *v *= f;
            }
        }
        for (o, &a) in a.iter().enumerate() {
            if let Some(i) = self.diagonal(o) {
                e[i] += a;
            }
        }
        e
    }

    /// From the gradient of the effective weights to those of `w`, `a` and `b`.
    pub(crate) fn backward(
        &self,
        de: &[f32],
        w: &[f32],
        b: &[f32],
    ) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let norms = self.norms(w);
        let out = self.shape.3;
        let mut along = vec![0.0f32; out];
        for (d, row) in de.chunks_exact(out).zip(w.chunks_exact(out)) {
            for o in 0..out {
                along[o] += d[o] * row[o] / norms[o];
            }
        }
        let mut dw = vec![0.0; w.len()];
        for ((d, row), to) in de
            .chunks_exact(out)
            .zip(w.chunks_exact(out))
            .zip(dw.chunks_exact_mut(out))
        {
            for o in 0..out {
                to[o] = b[o] / norms[o] * (d[o] - along[o] * row[o] / norms[o]);
            }
        }
        let da = (0..out)
            .map(|o| self.diagonal(o).map_or(0.0, |i| de[i]))
            .collect();
        (dw, da, along)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_are_the_differences() {
        let dirac = Dirac {
            identity: 0,
            share: 0,
            shape: (3, 3, 2, 3),
        };
        let w: Vec<f32> = (0..54)
            .map(|i| ((i * 37 % 19) as f32 - 9.0) / 10.0)
            .collect();
        let de: Vec<f32> = (0..54)
            .map(|i| ((i * 23 % 17) as f32 - 8.0) / 8.0)
            .collect();
        let (a, b) = (vec![1.0, 0.9, 1.1], vec![0.1, 0.3, 0.2]);
        let loss = |w: &[f32], a: &[f32], b: &[f32]| -> f64 {
            let e = dirac.effective(w, a, b);
            e.iter()
                .zip(&de)
                .map(|(e, d)| f64::from(*e) * f64::from(*d))
                .sum()
        };
        let (dw, da, db) = dirac.backward(&de, &w, &b);
        let h = 1e-2f32;
        let shifted = |v: &[f32], i: usize, h: f32| {
            let mut v = v.to_vec();
            v[i] += h;
            v
        };
        for (i, &d) in dw.iter().enumerate().step_by(7) {
            let slope = (loss(&shifted(&w, i, h), &a, &b) - loss(&shifted(&w, i, -h), &a, &b))
                / (2.0 * f64::from(h));
            assert!(
                (slope - f64::from(d)).abs() < 2e-3,
                "w[{i}]: {slope} against {d}"
            );
        }
        for i in 0..3 {
            let slope = (loss(&w, &shifted(&a, i, h), &b) - loss(&w, &shifted(&a, i, -h), &b))
                / (2.0 * f64::from(h));
            assert!(
                (slope - f64::from(da[i])).abs() < 1e-3,
                "a[{i}]: {slope} against {}",
                da[i]
            );
            let slope = (loss(&w, &a, &shifted(&b, i, h)) - loss(&w, &a, &shifted(&b, i, -h)))
                / (2.0 * f64::from(h));
            assert!(
                (slope - f64::from(db[i])).abs() < 1e-3,
                "b[{i}]: {slope} against {}",
                db[i]
            );
        }
    }
}

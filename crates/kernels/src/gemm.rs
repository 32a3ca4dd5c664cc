//! Matrix products.

use rayon::prelude::*;

/// Whether a factor of [`gemm`] is used as it lies or transposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transpose {
    /// The matrix as it lies.
    No,
    /// Its transpose.
    Yes,
}

/// c = alpha·op(a)·op(b) + beta·c, all row-major: op(a) is `m × k`, op(b) is `k × n`, c is `m × n`.
///
/// A matrix under `Transpose::Yes` lies as its transpose: a as `k × m`, b as `n × k`. With `beta` = 0, c is written without being read.
#[expect(
    clippy::too_many_arguments,
    reason = "the argument list of BLAS, which every reader knows"
)]
pub fn gemm(
    m: usize,
    n: usize,
    k: usize,
    alpha: f32,
    a: &[f32],
    ta: Transpose,
    b: &[f32],
    tb: Transpose,
    beta: f32,
    c: &mut [f32],
) {
    assert!(
        a.len() == m * k && b.len() == k * n && c.len() == m * n,
        "gemm: a matrix's length is not its shape's"
    );
    if m * n == 0 {
        return;
    }
    c.par_chunks_mut(n).enumerate().for_each(|(row, c)| {
        if beta == 0.0 {
            c.fill(0.0);
        } else {
            c.iter_mut().for_each(|c| *c *= beta);
        }
        let at = |i: usize| {
            alpha
                * if ta == Transpose::No {
                    a[row * k + i]
                } else {
                    a[i * m + row]
                }
        };
        match tb {
            Transpose::No => {
                for i in 0..k {
                    let factor = at(i);
                    c.iter_mut()
                        .zip(&b[i * n..][..n])
                        .for_each(|(c, b)| *c += factor * b);
                }
            }
            Transpose::Yes => {
                for (c, b) in c.iter_mut().zip(b.chunks(k.max(1))) {
                    *c += b.iter().enumerate().map(|(i, b)| at(i) * b).sum::<f32>();
                }
            }
        }
    });
}

//! Single-precision kernels for training neural networks on CPUs, forwards and backwards.
//!
//! Every tensor is a row-major `rows × channels` slice of `f32`: pictures are NHWC, so rows = n·h·w. Convolution weights are
//! `(kh, kw, c_in / groups, c_out)` (HWIO), output channels contiguous.
//!
//! Results are bit-identical for any number of threads on one machine: work is cut into parts that do not depend on the number of
//! threads, and partial sums are added in a fixed order. They are not identical across instruction sets, whose sums have another
//! order. The instruction set (AVX-512, AVX2 with FMA, or portable code) is chosen at run time; every vector kernel has a portable
//! twin that agrees within the tolerance stated in its test.
//!
//! Slices of a wrong length are the caller's bug: every function panics on them.
//!
//! Modules in reading order: [`convolution`], [`gemm`](mod@gemm), [`normalization`], [`function`], [`chebyshev`], [`range`], [`elementwise`], [`pool`];
//! of transformers: [`attention`], [`row_norm`], [`rotary`], [`embedding`].
//!
//! The crate knows nothing of networks, of graphs of gradients, or of files.

pub mod attention;
pub mod chebyshev;
pub mod convolution;
pub mod elementwise;
pub mod embedding;
pub mod function;
pub mod gemm;
pub mod instructions;
pub mod normalization;
pub mod pool;
pub mod range;
pub mod rotary;
pub mod row_norm;
pub mod softmax;
mod tile;

pub use attention::{Attention, Inverse, RowSums, Weighting};
pub use chebyshev::{chebyshev_backward, chebyshev_forward};
pub use convolution::Convolution;
pub use elementwise::{add, axpy};
pub use embedding::{gather, scatter_add};
pub use function::{Function, function_backward, function_forward};
pub use gemm::{Factor, Transpose, gemm};
pub use instructions::{Instructions, instructions, with_instructions};
pub use normalization::{Statistics, batch_norm_backward, batch_norm_statistics, channel_affine};
pub use pool::{Divisor, Window, average_pool_backward, average_pool_forward};
pub use range::{boundary_loss, extremes};
pub use rotary::{Pairs, Rotary, Turning};
pub use row_norm::{Centre, Rows, row_moments, row_norm_backward, row_norm_forward};
pub use softmax::{Softmax, softmax_backward, softmax_forward};

/// Whether a slice is as long as its shape says. A shape whose product is no number of this machine is nobody's.
fn has_size(slice: &[f32], shape: &[usize]) -> bool {
    shape.contains(&0) && slice.is_empty()
        || shape
            .iter()
            .try_fold(1usize, |size, &n| size.checked_mul(n))
            == Some(slice.len())
}

/// Elements per part of an elementwise pass: small enough to balance two threads, large enough that a part pays for its task.
const PART: usize = 1 << 15;

//! Matrix products.
//!
//! Both factors are packed in the order of the register tiles: op(b) once, in panels of two vectors of columns; op(a) by each task, its
//! block of rows and `DEPTH` of k at a time. A tile's part of a panel stays in L1 for all tiles of the block.

use crate::has_size;
use crate::instructions::{Instructions, instructions, kernels};
use crate::tile::{Start, Tile, packed_size, rows_at, sizes, vectors_at};
use rayon::prelude::*;

/// Whether a factor of [`gemm`] is used as it lies or transposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transpose {
    /// The matrix as it lies.
    No,
    /// Its transpose.
    Yes,
}

/// Products per pass over a block of rows: a panel's part (two vectors of columns) fits L1.
const DEPTH: usize = 192;
/// Rows per task, at most; fewer where the matrix has few.
const BLOCK: usize = 48;
/// Tasks that a small matrix is cut into, whatever the number of threads.
const TASKS: usize = 8;

/// A factor of [`gemm`]: a row-major matrix, and how it is used.
pub type Factor<'a> = (&'a [f32], Transpose);

/// c = alpha·op(a)·op(b) + beta·c, all row-major: op(a) is `m × k`, op(b) is `k × n`, c is `m × n`.
///
/// A matrix under `Transpose::Yes` lies as its transpose: a as `k × m`, b as `n × k`. With `beta` = 0, c is written without being read.
pub fn gemm(
    (m, n, k): (usize, usize, usize),
    alpha: f32,
    a: Factor<'_>,
    b: Factor<'_>,
    beta: f32,
    c: &mut [f32],
) {
    assert!(
        has_size(a.0, &[m, k]) && has_size(b.0, &[k, n]) && has_size(c, &[m, n]),
        "gemm: a matrix's length is not its shape's"
    );
    if m == 0 || n == 0 {
        return;
    }
    let instructions = instructions();
    let (lanes, most) = sizes(instructions);
    let mut panels = vec![0.0f32; packed_size(n, k, lanes)];
    if k > 0 {
        panels
            .par_chunks_mut(2 * lanes * k)
            .enumerate()
            .for_each(|(i, panel)| pack_columns(panel, 2 * lanes * i, (n, k), b));
    }
    let rows = m
        .div_ceil(TASKS)
        .next_multiple_of(most)
        .min(BLOCK.next_multiple_of(most));
    let product = Product {
        instructions,
        most,
        shape: (m, n, k),
        alpha,
        a,
        panels: &panels,
        beta,
    };
    c.par_chunks_mut(rows * n).enumerate().for_each_init(
        || vec![0.0f32; rows * DEPTH.min(k)],
        |packed, (i, c)| {
            if beta == 0.0 && k == 0 {
                c.fill(0.0);
            } else if beta != 0.0 && beta != 1.0 {
                c.iter_mut().for_each(|c| *c *= beta);
            }
            product.rows(i * rows, packed, c);
        },
    );
}

/// Products on the calling thread alone, inside of a larger task; its buffers are used again.
pub(crate) struct Serial {
    instructions: Instructions,
    panels: Vec<f32>,
    packed: Vec<f32>,
}

impl Serial {
    pub(crate) fn new(instructions: Instructions) -> Self {
        Self {
            instructions,
            panels: Vec::new(),
            packed: Vec::new(),
        }
    }

    /// [`gemm`], which sums in the same order.
    pub(crate) fn gemm(
        &mut self,
        (m, n, k): (usize, usize, usize),
        alpha: f32,
        a: Factor<'_>,
        b: Factor<'_>,
        beta: f32,
        c: &mut [f32],
    ) {
        assert!(
            has_size(a.0, &[m, k]) && has_size(b.0, &[k, n]) && has_size(c, &[m, n]) && k > 0,
            "gemm: a matrix's length is not its shape's"
        );
        assert!(
            beta == 0.0 || beta == 1.0,
            "gemm: inside of a task, c is written or added to"
        );
        if m == 0 || n == 0 {
            return;
        }
        let (lanes, most) = sizes(self.instructions);
        let width = 2 * lanes;
        // columns beyond n are computed and never stored
        self.panels.resize(packed_size(n, k, lanes), 0.0);
        for (i, panel) in self.panels.chunks_mut(width * k).enumerate() {
            pack_columns(panel, width * i, (n, k), b);
        }
        let rows = BLOCK.next_multiple_of(most);
        self.packed
            .resize(rows.min(m.next_multiple_of(most)) * DEPTH.min(k), 0.0);
        let product = Product {
            instructions: self.instructions,
            most,
            shape: (m, n, k),
            alpha,
            a,
            panels: &self.panels,
            beta,
        };
        for (i, c) in c.chunks_mut(rows * n).enumerate() {
            product.rows(i * rows, &mut self.packed, c);
        }
    }
}

/// A product whose op(b) is packed.
struct Product<'a> {
    instructions: Instructions,
    /// Rows of a tile, at most.
    most: usize,
    shape: (usize, usize, usize),
    alpha: f32,
    a: Factor<'a>,
    panels: &'a [f32],
    beta: f32,
}

impl Product<'_> {
    /// The rows of c from `row` on; `packed` has room for `DEPTH` columns of theirs.
    fn rows(&self, row: usize, packed: &mut [f32], c: &mut [f32]) {
        let (_, n, k) = self.shape;
        let count = c.len() / n;
        for first in (0..k).step_by(DEPTH) {
            let depth = DEPTH.min(k - first);
            self.pack_rows(packed, (row, count), (first, depth));
            let start = if first == 0 && self.beta == 0.0 {
                Start::Zero
            } else {
                Start::Output
            };
            block(
                self.instructions,
                n,
                k,
                first,
                depth,
                count,
                packed,
                self.panels,
                start,
                c,
            );
        }
    }

    /// alpha·op(a), rows `row..row + count` and columns `first..first + depth`, tile by tile.
    fn pack_rows(
        &self,
        packed: &mut [f32],
        (row, count): (usize, usize),
        (first, depth): (usize, usize),
    ) {
        let ((m, _, k), (a, ta), alpha) = (self.shape, self.a, self.alpha);
        let mut at = 0;
        while at < count {
            let rows = rows_at(count, at, self.most);
            let tile = &mut packed[at * depth..][..rows * depth];
            match ta {
                Transpose::Yes => {
                    let columns = a[first * m..].chunks_exact(m);
                    for (tile, a) in tile.chunks_exact_mut(rows).zip(columns) {
                        tile.iter_mut()
                            .zip(&a[row + at..])
                            .for_each(|(t, a)| *t = alpha * a);
                    }
                }
                Transpose::No => {
                    for r in 0..rows {
                        let a = &a[(row + at + r) * k + first..][..depth];
                        for (tile, a) in tile.chunks_exact_mut(rows).zip(a) {
                            tile[r] = alpha * a;
                        }
                    }
                }
            }
            at += rows;
        }
    }
}

/// Columns of op(b) from `first` on, as many as the panel has; those beyond n are zeros.
fn pack_columns(panel: &mut [f32], first: usize, (n, k): (usize, usize), (b, tb): Factor<'_>) {
    let width = panel.len() / k;
    let count = width.min(n - first);
    match tb {
        Transpose::No => {
            for (panel, b) in panel.chunks_exact_mut(width).zip(b.chunks_exact(n)) {
                panel[..count].copy_from_slice(&b[first..][..count]);
            }
        }
        Transpose::Yes => {
            // a few rows of the panel at a time: its lines stay in L1 until they are full
            for (part, panel) in panel.chunks_mut(width * 16).enumerate() {
                for (column, b) in b[first * k..][..count * k].chunks_exact(k).enumerate() {
                    for (panel, &b) in panel.chunks_exact_mut(width).zip(&b[part * 16..]) {
                        panel[column] = b;
                    }
                }
            }
        }
    }
}

kernels! {
    /// A block of rows of c, and `depth` products from `first` on of each of its elements.
    fn block<V>(
        n: usize,
        k: usize,
        first: usize,
        depth: usize,
        count: usize,
        packed: &[f32],
        panels: &[f32],
        start: Start,
        c: &mut [f32],
    ) {
        let mut column = 0;
        while column < n {
            let vectors = vectors_at(n, column, V::LANES);
            let width = vectors * V::LANES;
            let columns = width.min(n - column);
            let panel = column * k + first * width;
            assert!(panel + depth * width <= panels.len() && count * depth <= packed.len());
            let mut row = 0;
            while row < count {
                let rows = rows_at(count, row, V::ROWS[1]);
                let to = row * n + column;
                assert!(to + (rows - 1) * n + columns <= c.len());
                // SAFETY: the assertions above: `depth` rows of the panel, `depth` columns of the tile, and its elements of c
                unsafe {
                    let tile = Tile {
                        x: packed.as_ptr().add(row * depth),
                        taps: &[0],
                        channels: depth,
                        pitch: rows,
                        w: panels.as_ptr().add(panel),
                        start,
                        y: c.as_mut_ptr().add(to),
                        y_pitch: n,
                        columns,
                    };
                    tile.run::<V>(rows, vectors);
                }
                row += rows;
            }
            column += columns;
        }
    }
}

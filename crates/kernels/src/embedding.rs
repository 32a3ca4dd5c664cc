//! Embeddings: rows of a table, chosen by tokens.

use crate::has_size;

/// Row i of y is row `tokens[i]` of the table (`vocabulary × width`).
pub fn gather(table: &[f32], width: usize, tokens: &[u32], y: &mut [f32]) {
    assert!(
        has_size(y, &[tokens.len(), width]),
        "gather: y is tokens × width"
    );
    for (y, &t) in y.chunks_exact_mut(width).zip(tokens) {
        y.copy_from_slice(&table[t as usize * width..][..width]);
    }
}

/// Adds row i of dy to row `tokens[i]` of the table's gradient, in the order of the tokens.
pub fn scatter_add(dy: &[f32], width: usize, tokens: &[u32], table: &mut [f32]) {
    assert!(
        has_size(dy, &[tokens.len(), width]),
        "scatter_add: dy is tokens × width"
    );
    for (dy, &t) in dy.chunks_exact(width).zip(tokens) {
        let row = &mut table[t as usize * width..][..width];
        for (r, d) in row.iter_mut().zip(dy) {
            *r += d;
        }
    }
}

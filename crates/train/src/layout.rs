//! Orders of axes: `(c, h, w)` in graphs, `(h, w, c)` in training.

use nn::Shape;

/// `(h, w, c)` of a node's shape.
pub(crate) fn hwc(shape: Shape) -> (usize, usize, usize) {
    let (channels, height, width) = shape.as_image().unwrap_or((shape.len(), 1, 1));
    (height, width, channels)
}

/// From `(c, h, w)` to `(h, w, c)`.
pub(crate) fn to_hwc(values: &[f32], shape: Shape) -> Vec<f32> {
    let (h, w, c) = hwc(shape);
    transposed(values, c, h * w)
}

/// The transpose of a row-major matrix.
pub(crate) fn transposed<T: Copy + Default>(m: &[T], rows: usize, columns: usize) -> Vec<T> {
    let mut out = vec![T::default(); m.len()];
    for r in 0..rows {
        for c in 0..columns {
            out[c * rows + r] = m[r * columns + c];
        }
    }
    out
}

/// From `(O, C, Kh, Kw)` to `(Kh, Kw, C, O)`.
pub(crate) fn to_hwio(w: &[f32], shape: &[usize]) -> Vec<f32> {
    transposed(&w_ck(w, shape), shape[0], w.len() / shape[0])
}

/// `(O, C, K)` to `(O, K, C)`.
fn w_ck(w: &[f32], shape: &[usize]) -> Vec<f32> {
    let (c, k) = (shape[1], shape[2] * shape[3]);
    w.chunks_exact(c * k)
        .flat_map(|row| transposed(row, c, k))
        .collect()
}

/// From `(Kh, Kw, C, O)` to `(O, C, Kh, Kw)`, which is `shape`.
pub(crate) fn to_oihw(w: &[f32], shape: &[usize]) -> Vec<f32> {
    let (c, k) = (shape[1], shape[2] * shape[3]);
    transposed(w, w.len() / shape[0], shape[0])
        .chunks_exact(c * k)
        .flat_map(|row| transposed(row, k, c))
        .collect()
}

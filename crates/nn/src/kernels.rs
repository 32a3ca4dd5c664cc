//! The oracle's loops, on shapes that the graph's construction has checked. All values f64, all images `(C, H, W)` row-major.

use crate::op::{
    AvgPool, BatchNorm, Conv2d, Linear, MaxPool, Pad, Padding, Slice, Softmax, window,
};
use crate::tensor::Shape;
use ndarray::{ArrayView2, ArrayViewMut2, linalg::general_mat_mul};

type Axes = (usize, usize, usize);

/// Input columns `(ow, iw)` that tap `v` reaches: the range of `ow` with `0 ≤ ow·stride + offset < width`.
fn valid(out: usize, width: usize, stride: usize, offset: isize) -> std::ops::Range<usize> {
    let first = offset.min(0).unsigned_abs().div_ceil(stride);
    let room = (width as isize - offset).max(0).unsigned_abs();
    let last = room.div_ceil(stride).min(out);
    first.min(last)..last
}

/// Convolution as one matrix product per group: rows of the patch matrix are (channel, kernel row, kernel column), columns are
/// output positions.
pub(crate) fn conv2d(
    c: &Conv2d,
    x: &[f64],
    (channels, h, w): Axes,
    (out, oh, ow): Axes,
) -> Vec<f64> {
    let (kh, kw) = c.kernel();
    let (cg, og) = (channels / c.groups, out / c.groups);
    let (rows, columns) = (cg * kh * kw, oh * ow);
    let weight = c.weight.to_f64();
    let mut y = vec![0.0; out * columns];
    if let Some(bias) = &c.bias {
        for (chunk, &b) in y.chunks_mut(columns).zip(bias.values()) {
            chunk.fill(f64::from(b));
        }
    }
    let mut patches = vec![0.0; rows * columns];
    for g in 0..c.groups {
        patches.fill(0.0);
        for ch in 0..cg {
            let image = &x[(g * cg + ch) * h * w..][..h * w];
            for u in 0..kh {
                let row_offset = (u * c.dilation.0) as isize - c.padding.top as isize;
                for v in 0..kw {
                    let offset = (v * c.dilation.1) as isize - c.padding.left as isize;
                    let row = &mut patches[((ch * kh + u) * kw + v) * columns..][..columns];
                    let span = valid(ow, w, c.stride.1, offset);
                    if span.is_empty() {
                        continue;
                    }
                    for i in valid(oh, h, c.stride.0, row_offset) {
                        let line = &image
                            [(i as isize * c.stride.0 as isize + row_offset) as usize * w..][..w];
                        let target = &mut row[i * ow..][..ow];
                        if c.stride.1 == 1 {
                            let from = (span.start as isize + offset) as usize;
                            target[span.clone()].copy_from_slice(&line[from..from + span.len()]);
                        } else {
                            for j in span.clone() {
                                target[j] =
                                    line[(j as isize * c.stride.1 as isize + offset) as usize];
                            }
                        }
                    }
                }
            }
        }
        let a = ArrayView2::from_shape((og, rows), &weight[g * og * rows..][..og * rows]);
        let b = ArrayView2::from_shape((rows, columns), &patches[..]);
        let y =
            ArrayViewMut2::from_shape((og, columns), &mut y[g * og * columns..][..og * columns]);
        if let (Ok(a), Ok(b), Ok(mut y)) = (a, b, y) {
            general_mat_mul(1.0, &a, &b, 1.0, &mut y);
        } else {
            debug_assert!(false, "slices are cut to the shapes just above");
        }
    }
    y
}

pub(crate) fn linear(l: &Linear, x: &[f64]) -> Vec<f64> {
    let rows = l.weight.values().chunks(x.len().max(1));
    let mut y: Vec<f64> = rows
        .map(|row| row.iter().zip(x).map(|(&w, &v)| f64::from(w) * v).sum())
        .collect();
    if let Some(bias) = &l.bias {
        for (v, &b) in y.iter_mut().zip(bias.values()) {
            *v += f64::from(b);
        }
    }
    y
}

pub(crate) fn batch_norm(b: &BatchNorm, x: &[f64]) -> Vec<f64> {
    let maps = b.factor_and_offset();
    let area = x.len() / maps.len();
    x.chunks(area)
        .zip(maps)
        .flat_map(|(c, (factor, offset))| c.iter().map(move |v| factor * v + offset))
        .collect()
}

pub(crate) fn avg_pool(p: &AvgPool, x: &[f64], from: Axes, to: Axes) -> Vec<f64> {
    let whole = p.count_include_pad.then_some(p.kernel.0 * p.kernel.1);
    pool(
        (p.kernel, p.stride, p.padding),
        x,
        from,
        to,
        |rows, inside| {
            let sum: f64 = rows.map(|row| row.iter().sum::<f64>()).sum();
            sum / whole.unwrap_or(inside).max(1) as f64
        },
    )
}

pub(crate) fn max_pool(p: &MaxPool, x: &[f64], from: Axes, to: Axes) -> Vec<f64> {
    // NaN wins, as everywhere in the oracle: what a network overflows to must be visible.
    let larger = |m, &v: &f64| if v > m || v.is_nan() { v } else { m };
    pool((p.kernel, p.stride, p.padding), x, from, to, |rows, _| {
        rows.flatten().fold(f64::NEG_INFINITY, larger)
    })
}

/// Kernel, stride and padding of a pooling operator.
type Windows = ((usize, usize), (usize, usize), Padding);

/// One value for each window, of its rows on the image and how many values they hold.
fn pool(
    (kernel, stride, padding): Windows,
    x: &[f64],
    (_, h, w): Axes,
    (channels, oh, ow): Axes,
    value: impl Fn(&mut dyn Iterator<Item = &[f64]>, usize) -> f64,
) -> Vec<f64> {
    let mut y = Vec::with_capacity(channels * oh * ow);
    for image in x.chunks(h * w) {
        for i in 0..oh {
            let rows = window(i, stride.0, padding.top, kernel.0, h);
            for j in 0..ow {
                let columns = window(j, stride.1, padding.left, kernel.1, w);
                let inside = rows.len() * columns.len();
                let mut rows = rows.clone().map(|r| &image[r * w..][columns.clone()]);
                y.push(value(&mut rows, inside));
            }
        }
    }
    y
}

pub(crate) fn pad(p: Pad, x: &[f64], (channels, h, w): Axes, (oc, oh, ow): Axes) -> Vec<f64> {
    let mut y = vec![0.0; oc * oh * ow];
    for c in 0..channels {
        for i in 0..h {
            let to = ((c + p.channels.0) * oh + i + p.spatial.top) * ow + p.spatial.left;
            y[to..to + w].copy_from_slice(&x[(c * h + i) * w..][..w]);
        }
    }
    y
}

/// Over the channels of `(channels, area)`.
pub(crate) fn softmax(s: Softmax, x: &[f64], channels: usize) -> Vec<f64> {
    let area = x.len() / channels.max(1);
    let mut y = x.to_vec();
    for t in 0..area {
        let column = || x[t..].iter().step_by(area);
        let most = column().fold(f64::NEG_INFINITY, |m, &v| m.max(v));
        let sum: f64 = column().map(|v| (v - most).exp()).sum();
        for (v, &x) in y[t..].iter_mut().step_by(area).zip(column()) {
            *v = match s {
                Softmax::Shares => (x - most).exp() / sum,
                Softmax::Logarithms => x - most - sum.ln(),
            };
        }
    }
    y
}

pub(crate) fn slice(s: &Slice, x: &[f64], from: Shape) -> Vec<f64> {
    let mut y = x.to_vec();
    // One axis at a time, the last first: y is (outer, axis, inner).
    let mut dims = from.dims();
    for axis in (0..dims.len()).rev() {
        let selection = s.axes[axis];
        let inner: usize = dims[axis + 1..].iter().product();
        let length = dims[axis];
        let mut next = Vec::with_capacity(y.len());
        for block in y.chunks(length * inner) {
            for k in (selection.begin..selection.end).step_by(selection.step) {
                next.extend_from_slice(&block[k * inner..][..inner]);
            }
        }
        dims[axis] = selection.len();
        y = next;
    }
    y
}

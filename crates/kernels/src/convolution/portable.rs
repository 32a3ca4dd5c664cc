//! The portable twins: one picture each, any geometry.

use super::Convolution;

/// Calls `visit(output pixel, input pixel, tap)` for every product of pixels that a convolution makes within one picture.
fn each(shape: &Convolution, mut visit: impl FnMut(usize, usize, usize)) {
    let (h, w, _) = shape.input;
    for oy in 0..shape.output.0 {
        for ox in 0..shape.output.1 {
            for ky in 0..shape.kernel.0 {
                let y = (oy * shape.stride.0 + ky * shape.dilation.0).wrapping_sub(shape.padding.0);
                if y >= h {
                    continue;
                }
                for kx in 0..shape.kernel.1 {
                    let x =
                        (ox * shape.stride.1 + kx * shape.dilation.1).wrapping_sub(shape.padding.1);
                    if x < w {
                        visit(
                            oy * shape.output.1 + ox,
                            y * w + x,
                            ky * shape.kernel.1 + kx,
                        );
                    }
                }
            }
        }
    }
}

pub(super) fn forward(
    shape: &Convolution,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    let (cin, cout) = (shape.input.2, shape.output.2);
    let (gin, gout) = (cin / shape.groups, cout / shape.groups);
    for y in y.chunks_exact_mut(cout) {
        match bias {
            Some(bias) => y.copy_from_slice(bias),
            None => y.fill(0.0),
        }
    }
    each(shape, |o, i, tap| {
        let (x, y) = (&x[i * cin..][..cin], &mut y[o * cout..][..cout]);
        for g in 0..shape.groups {
            let y = &mut y[g * gout..][..gout];
            for (c, &x) in x[g * gin..][..gin].iter().enumerate() {
                let w = &w[(tap * gin + c) * cout + g * gout..][..gout];
                y.iter_mut().zip(w).for_each(|(y, w)| *y += x * w);
            }
        }
    });
}

pub(super) fn backward_input(shape: &Convolution, dy: &[f32], w: &[f32], dx: &mut [f32]) {
    let (cin, cout) = (shape.input.2, shape.output.2);
    let (gin, gout) = (cin / shape.groups, cout / shape.groups);
    dx.fill(0.0);
    each(shape, |o, i, tap| {
        let (dx, dy) = (&mut dx[i * cin..][..cin], &dy[o * cout..][..cout]);
        for g in 0..shape.groups {
            let dy = &dy[g * gout..][..gout];
            for (c, dx) in dx[g * gin..][..gin].iter_mut().enumerate() {
                let w = &w[(tap * gin + c) * cout + g * gout..][..gout];
                *dx += dy.iter().zip(w).map(|(dy, w)| dy * w).sum::<f32>();
            }
        }
    });
}

pub(super) fn backward_weight(shape: &Convolution, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let (cin, cout) = (shape.input.2, shape.output.2);
    let (gin, gout) = (cin / shape.groups, cout / shape.groups);
    each(shape, |o, i, tap| {
        let (x, dy) = (&x[i * cin..][..cin], &dy[o * cout..][..cout]);
        for g in 0..shape.groups {
            let dy = &dy[g * gout..][..gout];
            for (c, &x) in x[g * gin..][..gin].iter().enumerate() {
                let dw = &mut dw[(tap * gin + c) * cout + g * gout..][..gout];
                dw.iter_mut().zip(dy).for_each(|(dw, dy)| *dw += x * dy);
            }
        }
    });
}

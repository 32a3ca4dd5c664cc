//! Every kernel, under every set of instructions of this machine, against its definition in f64: so the twins agree within twice the
//! tolerances below. And the same bits for any number of threads.

use kernels::*;

/// Uniform in [−1, 1), reproducible.
fn random(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state >> 40) as f32 / (1u64 << 23) as f32) - 1.0
        })
        .collect()
}

/// |got − want| ≤ tolerance·max(1, largest |want|), elementwise; `what` names the case.
fn close(what: &str, got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    let scale = want.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        assert!(
            (f64::from(g) - w).abs() <= tolerance * scale,
            "{what}: element {i} is {g}, not {w} (scale {scale})"
        );
    }
}

/// (y, dx, dw, db) of a convolution by its definition, in f64.
fn convolution(s: &Convolution, x: &[f32], w: &[f32], bias: &[f32], dy: &[f32]) -> [Vec<f64>; 4] {
    let (h, width, cin) = s.input;
    let (oh, ow, cout) = s.output;
    let (gin, gout) = (cin / s.groups, cout / s.groups);
    let mut out = [
        vec![0.0; dy.len()],
        vec![0.0; x.len()],
        vec![0.0; w.len()],
        vec![0.0; cout],
    ];
    for n in 0..s.batch {
        for oy in 0..oh {
            for ox in 0..ow {
                for co in 0..cout {
                    let o = ((n * oh + oy) * ow + ox) * cout + co;
                    out[0][o] += f64::from(bias[co]);
                    out[3][co] += f64::from(dy[o]);
                    for ky in 0..s.kernel.0 {
                        for kx in 0..s.kernel.1 {
                            let iy = (oy * s.stride.0 + ky * s.dilation.0) as isize
                                - s.padding.0 as isize;
                            let ix = (ox * s.stride.1 + kx * s.dilation.1) as isize
                                - s.padding.1 as isize;
                            if iy < 0 || ix < 0 || iy >= h as isize || ix >= width as isize {
                                continue;
                            }
                            for ci in 0..gin {
                                let i = ((n * h + iy as usize) * width + ix as usize) * cin
                                    + co / gout * gin
                                    + ci;
                                let k = ((ky * s.kernel.1 + kx) * gin + ci) * cout + co;
                                out[0][o] += f64::from(x[i]) * f64::from(w[k]);
                                out[1][i] += f64::from(dy[o]) * f64::from(w[k]);
                                out[2][k] += f64::from(x[i]) * f64::from(dy[o]);
                            }
                        }
                    }
                }
            }
        }
    }
    out
}

/// A convolution with the output's size from PyTorch's formula.
#[expect(clippy::too_many_arguments, reason = "the parameters of a convolution")]
fn shape(
    batch: usize,
    input: (usize, usize, usize),
    cout: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
    groups: usize,
) -> Convolution {
    let size = |n: usize| (n + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1;
    Convolution {
        batch,
        input,
        output: (size(input.0), size(input.1), cout),
        kernel: (kernel, kernel),
        stride: (stride, stride),
        dilation: (dilation, dilation),
        padding: (padding, padding),
        groups,
    }
}

fn shapes() -> Vec<Convolution> {
    let mut list = vec![
        shape(3, (32, 32, 3), 16, 3, 1, 1, 1, 1),
        shape(3, (32, 32, 16), 16, 3, 1, 1, 1, 1),
        shape(3, (32, 32, 16), 32, 3, 2, 1, 1, 1),
        shape(3, (16, 16, 32), 32, 3, 1, 1, 1, 1),
        shape(3, (16, 16, 32), 64, 3, 2, 1, 1, 1),
        shape(3, (8, 8, 64), 64, 3, 1, 1, 1, 1),
        shape(3, (32, 32, 16), 32, 1, 2, 0, 1, 1),
        shape(2, (9, 7, 5), 11, 3, 1, 1, 1, 1),
        shape(2, (13, 10, 18), 35, 3, 2, 1, 1, 1),
        shape(2, (12, 12, 8), 24, 5, 3, 2, 1, 1),
        shape(2, (14, 15, 16), 16, 3, 1, 2, 2, 1),
        shape(2, (15, 14, 16), 48, 3, 2, 1, 2, 1),
        shape(5, (6, 6, 12), 20, 3, 1, 1, 1, 2),
        shape(2, (6, 6, 64), 64, 3, 2, 1, 1, 4),
        shape(2, (14, 14, 96), 96, 7, 1, 3, 1, 96),
        shape(2, (9, 11, 19), 19, 5, 1, 2, 1, 19),
        shape(2, (9, 9, 32), 32, 3, 2, 1, 1, 32),
        shape(2, (9, 9, 33), 33, 3, 1, 2, 2, 33),
        shape(2, (4, 4, 8), 16, 3, 1, 0, 1, 8),
        shape(1, (28, 28, 1), 6, 5, 1, 2, 1, 1),
        shape(2, (1, 1, 256), 100, 1, 1, 0, 1, 1),
        shape(2, (32, 32, 3), 96, 4, 4, 0, 1, 1),
        shape(2, (3, 3, 16), 16, 3, 1, 1, 1, 1),
        shape(17, (5, 5, 16), 16, 3, 2, 0, 1, 1),
        shape(2, (20, 20, 3), 64, 7, 2, 3, 1, 1),
    ];
    // asymmetric: unequal kernel, stride, padding; an output that stops before the picture ends, and one that goes beyond it
    list.push(Convolution {
        kernel: (1, 3),
        stride: (2, 1),
        padding: (0, 1),
        ..shape(2, (8, 8, 16), 16, 1, 1, 0, 1, 1)
    });
    list.last_mut().expect("just pushed").output = (4, 8, 16);
    list.push(Convolution {
        output: (5, 6, 32),
        ..shape(2, (8, 8, 16), 32, 3, 1, 1, 1, 1)
    });
    list.push(Convolution {
        output: (11, 10, 32),
        padding: (0, 3),
        ..shape(2, (8, 8, 16), 32, 3, 1, 1, 1, 1)
    });
    list
}

fn check_convolutions() {
    for s in shapes() {
        let x = random(1, s.batch * s.input.0 * s.input.1 * s.input.2);
        let w = random(
            2,
            s.kernel.0 * s.kernel.1 * s.input.2 / s.groups * s.output.2,
        );
        let bias = random(3, s.output.2);
        let dy = random(4, s.batch * s.output.0 * s.output.1 * s.output.2);
        let [y64, dx64, dw64, db64] = convolution(&s, &x, &w, &bias, &dy);
        let mut y = vec![f32::NAN; dy.len()];
        s.forward(&x, &w, Some(&bias), &mut y);
        close(&format!("{s:?} forward"), &y, &y64, 2e-6);
        let mut dx = vec![f32::NAN; x.len()];
        s.backward_input(&dy, &w, &mut dx);
        close(&format!("{s:?} backward_input"), &dx, &dx64, 2e-6);
        // gradients are added: start from something else than 0
        let (mut dw, mut db) = (random(5, w.len()), random(6, bias.len()));
        let want: Vec<f64> = dw
            .iter()
            .zip(&dw64)
            .map(|(&a, b)| f64::from(a) + b)
            .collect();
        let want_bias: Vec<f64> = db
            .iter()
            .zip(&db64)
            .map(|(&a, b)| f64::from(a) + b)
            .collect();
        s.backward_weight(&x, &dy, &mut dw, Some(&mut db));
        close(&format!("{s:?} backward_weight"), &dw, &want, 2e-6);
        close(&format!("{s:?} bias gradient"), &db, &want_bias, 1e-6);
        // without bias
        let without: Vec<f64> = y64
            .iter()
            .enumerate()
            .map(|(i, v)| v - f64::from(bias[i % s.output.2]))
            .collect();
        s.forward(&x, &w, None, &mut y);
        close(&format!("{s:?} forward without bias"), &y, &without, 2e-6);
    }
}

fn check_matrix_products() {
    use Transpose::{No, Yes};
    for (m, n, k) in [
        (1, 1, 1),
        (3, 5, 7),
        (12, 32, 64),
        (64, 64, 64),
        (65, 33, 129),
        (130, 70, 300),
        (1, 100, 50),
        (40, 1, 9),
        (5, 4, 0),
        (200, 257, 513),
    ] {
        let (a, b, c0) = (random(1, m * k), random(2, k * n), random(3, m * n));
        for (ta, tb) in [(No, No), (No, Yes), (Yes, No), (Yes, Yes)] {
            for (alpha, beta) in [(1.0f32, 0.0f32), (0.5, 1.0), (-2.0, 0.25)] {
                let mut want = vec![0.0f64; m * n];
                for i in 0..m {
                    for j in 0..n {
                        let dot: f64 = (0..k)
                            .map(|l| {
                                let a = if ta == No { a[i * k + l] } else { a[l * m + i] };
                                let b = if tb == No { b[l * n + j] } else { b[j * k + l] };
                                f64::from(a) * f64::from(b)
                            })
                            .sum();
                        want[i * n + j] =
                            f64::from(alpha) * dot + f64::from(beta) * f64::from(c0[i * n + j]);
                    }
                }
                let mut c = if beta == 0.0 {
                    vec![f32::NAN; m * n]
                } else {
                    c0.clone()
                };
                gemm((m, n, k), alpha, (&a, ta), (&b, tb), beta, &mut c);
                close(
                    &format!("gemm {m} {n} {k} {ta:?} {tb:?} {alpha} {beta}"),
                    &c,
                    &want,
                    2e-6,
                );
            }
        }
    }
}

fn check_batch_normalisation() {
    for (rows, channels) in [(1000, 16), (77, 5), (4096, 64), (3, 100), (70_000, 3)] {
        // a mean of 1000 deviations: sums of squares in f32 would lose the variance
        let x: Vec<f32> = random(1, rows * channels)
            .iter()
            .map(|v| 0.01 * v + 10.0)
            .collect();
        let dy = random(2, rows * channels);
        let scale = random(3, channels);
        let column = |v: &[f32], c: usize| -> Vec<f64> {
            v.iter()
                .skip(c)
                .step_by(channels)
                .map(|&v| f64::from(v))
                .collect()
        };
        let (mean, variance) = batch_norm_statistics(channels, &x);
        let n = rows as f64;
        let (mut dx64, mut dscale64, mut dbias64) = (vec![0.0; x.len()], vec![], vec![]);
        let mut inverse = vec![];
        for c in 0..channels {
            let (x, dy) = (column(&x, c), column(&dy, c));
            let m = x.iter().sum::<f64>() / n;
            let v = x.iter().map(|x| (x - m).powi(2)).sum::<f64>() / n;
            assert!(
                (f64::from(mean[c]) - m).abs() < 1e-6 * 10.0,
                "mean of channel {c}: {} not {m}",
                mean[c]
            );
            assert!(
                (f64::from(variance[c]) - v).abs() < 1e-5 * v,
                "variance of channel {c}: {} not {v}",
                variance[c]
            );
            let r = f64::from((1.0 / (v + 1e-5).sqrt()) as f32);
            let m = f64::from(mean[c]);
            inverse.push(r as f32);
            let hat: Vec<f64> = x.iter().map(|x| (x - m) * r).collect();
            let (sum, product) = (
                dy.iter().sum::<f64>(),
                dy.iter().zip(&hat).map(|(a, b)| a * b).sum::<f64>(),
            );
            dscale64.push(1.0 + product);
            dbias64.push(1.0 + sum);
            for i in 0..rows {
                dx64[i * channels + c] =
                    f64::from(scale[c]) * r * (dy[i] - sum / n - hat[i] * product / n);
            }
        }
        let fixed64: Vec<f64> = (0..x.len())
            .map(|i| f64::from(dy[i]) * f64::from(scale[i % channels] * inverse[i % channels]))
            .collect();
        for (fixed, dx64) in [(false, &dx64), (true, &fixed64)] {
            let (mut dx, mut dscale, mut dbias) = (
                vec![f32::NAN; x.len()],
                vec![1.0; channels],
                vec![1.0; channels],
            );
            batch_norm_backward(
                channels,
                &x,
                &dy,
                &mean,
                &inverse,
                if fixed {
                    Statistics::Fixed
                } else {
                    Statistics::Batch
                },
                &scale,
                &mut dx,
                &mut dscale,
                &mut dbias,
            );
            close("batch_norm dx", &dx, dx64, 1e-6);
            close("batch_norm dscale", &dscale, &dscale64, 1e-6);
            close("batch_norm dbias", &dbias, &dbias64, 1e-6);
        }
        let offset = random(7, channels);
        let mut y = vec![f32::NAN; x.len()];
        channel_affine(channels, &x, &scale, &offset, &mut y);
        let want: Vec<f64> = x
            .iter()
            .enumerate()
            .map(|(i, &x)| {
                f64::from(x) * f64::from(scale[i % channels]) + f64::from(offset[i % channels])
            })
            .collect();
        close("channel_affine", &y, &want, 2e-7);
    }
}

fn check_chebyshev_series() {
    for degree in [0, 1, 2, 7, 15, 31, 63] {
        let coefficients = random(9, degree + 1);
        let interval = (-3.0f32, 5.0f32);
        let x: Vec<f32> = random(10, 70_001).iter().map(|v| 1.0 + 4.0 * v).collect();
        let dy = random(11, x.len());
        let (mut y64, mut dx64, mut dc64) = (vec![], vec![], vec![1.0f64; degree + 1]);
        for (&x, &dy) in x.iter().zip(&dy) {
            let t = (f64::from(x) - 1.0) / 4.0;
            let (mut value, mut slope) = (0.0, 0.0);
            let (mut t0, mut t1) = (1.0, t);
            let (mut d0, mut d1) = (0.0, 1.0);
            for (k, &c) in coefficients.iter().enumerate() {
                value += f64::from(c) * t0;
                slope += f64::from(c) * d0;
                dc64[k] += f64::from(dy) * t0;
                (t0, t1, d0, d1) = (t1, 2.0 * t * t1 - t0, d1, 2.0 * t1 + 2.0 * t * d1 - d0);
            }
            y64.push(value);
            dx64.push(f64::from(dy) * slope / 4.0);
        }
        let (mut y, mut dx, mut dc) = (
            vec![f32::NAN; x.len()],
            vec![f32::NAN; x.len()],
            vec![1.0f64; degree + 1],
        );
        chebyshev_forward(&coefficients, interval, &x, &mut y);
        // the rounding of t alone moves p by p'·2^-24, at most degree² of it
        close("chebyshev value", &y, &y64, 1e-6 * (1 + degree) as f64);
        chebyshev_backward(&coefficients, interval, &x, &dy, &mut dx, Some(&mut dc));
        close("chebyshev slope", &dx, &dx64, 1e-6 * (1 + degree) as f64);
        let dc: Vec<f32> = dc.iter().map(|&d| d as f32).collect();
        close("chebyshev coefficients", &dc, &dc64, 1e-5);
    }
}

/// Φ by Simpson's rule from 0: independent of every series in the kernels.
fn phi(x: f64) -> f64 {
    let steps = 400;
    let h = x / f64::from(steps);
    let density = |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let sum: f64 = (0..steps)
        .map(|i| {
            density(h * f64::from(i))
                + 4.0 * density(h * (f64::from(i) + 0.5))
                + density(h * (f64::from(i) + 1.0))
        })
        .sum();
    0.5 + sum * h / 6.0
}

fn check_functions() {
    let mut x: Vec<f32> = random(12, 5000).iter().map(|v| 12.0 * v).collect();
    x.extend(random(13, 1000));
    x.extend([
        0.0, -0.0, 1e-8, -1e-8, 20.0, -20.0, 88.0, -88.0, 100.0, -100.0, 1e30, -1e30, 3.0, -3.0,
        5.5, -5.5,
    ]);
    let dy = random(14, x.len());
    for f in [
        Function::Relu,
        Function::Silu,
        Function::Gelu,
        Function::Sigmoid,
        Function::Tanh,
        Function::Other {
            value: f64::sin,
            derivative: f64::cos,
        },
    ] {
        let (mut y, mut dx) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
        function_forward(f, &x, &mut y);
        function_backward(f, &x, &dy, &mut dx);
        for i in 0..x.len() {
            let t = f64::from(x[i]);
            let s = 1.0 / (1.0 + (-t).exp());
            let p = if t.abs() > 12.0 {
                f64::from(t > 0.0)
            } else {
                phi(t)
            };
            let (value, slope) = match f {
                Function::Relu => (t.max(0.0), f64::from(t > 0.0)),
                Function::Silu => (t * s, s + t * s * (1.0 - s)),
                Function::Gelu => (
                    t * p,
                    p + if t.abs() > 30.0 {
                        0.0
                    } else {
                        t * (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()
                    },
                ),
                Function::Sigmoid => (s, s * (1.0 - s)),
                Function::Tanh => (t.tanh(), 1.0 - t.tanh().powi(2)),
                Function::Other { value, derivative } => (value(t), derivative(t)),
            };
            let slope = slope * f64::from(dy[i]);
            assert!(
                (f64::from(y[i]) - value).abs() <= 4e-7 * value.abs().max(1.0),
                "{f:?}({}) is {}, not {value}",
                x[i],
                y[i]
            );
            assert!(
                (f64::from(dx[i]) - slope).abs() <= 1e-6,
                "{f:?}'({}) is {}, not {slope}",
                x[i],
                dx[i]
            );
        }
        // NaN stays NaN
        let mut y = [0.0f32; 17];
        function_forward(f, &[f32::NAN; 17], &mut y);
        assert!(y.iter().all(|y| y.is_nan()), "{f:?}(NaN)");
    }
}

fn check_extremes() {
    let n = 100_003;
    for at in [0, 1, 15, 16, 17, 32_767, 32_768, n - 17, n - 2, n - 1] {
        let mut x = random(15, n);
        x[at] = 7.0;
        x[n - 1 - at] = -9.0;
        assert_eq!(extremes(&x), (-9.0, 7.0), "at {at}");
        x[at] = f32::NAN;
        let (lo, hi) = extremes(&x);
        assert!(lo.is_nan() && hi.is_nan(), "NaN at {at}");
    }
    assert_eq!(extremes(&[]), (f32::INFINITY, f32::NEG_INFINITY));
}

fn check_boundary_loss() {
    let x: Vec<f32> = random(16, 70_003).iter().map(|v| 8.0 * v).collect();
    let start = random(17, x.len());
    let mut dx = start.clone();
    let (interval, edge, weight) = ((-3.0f32, 5.0f32), 0.9f32, 0.125f32);
    let loss = boundary_loss(&x, interval, edge, weight, &mut dx);
    let mut want = 0.0;
    let mut dx64 = vec![];
    for (&x, &d) in x.iter().zip(&start) {
        let t = (f64::from(x) - 1.0) / 4.0;
        let u = (t.abs() - f64::from(edge)).max(0.0);
        want += 0.125 * u * u;
        dx64.push(f64::from(d) + 0.125 * 2.0 * u * t.signum() / 4.0);
    }
    assert!((loss - want).abs() < 1e-5 * want, "{loss} not {want}");
    close("boundary gradient", &dx, &dx64, 1e-6);
}

fn check_sums() {
    let (x, y) = (random(18, 70_003), random(19, 70_003));
    let mut out = vec![f32::NAN; x.len()];
    add(&x, &y, &mut out);
    close(
        "add",
        &out,
        &x.iter()
            .zip(&y)
            .map(|(&a, &b)| f64::from(a) + f64::from(b))
            .collect::<Vec<_>>(),
        1e-7,
    );
    let mut out = y.clone();
    axpy(-0.75, &x, &mut out);
    close(
        "axpy",
        &out,
        &x.iter()
            .zip(&y)
            .map(|(&a, &b)| f64::from(b) - 0.75 * f64::from(a))
            .collect::<Vec<_>>(),
        2e-7,
    );
}

fn check_pools() {
    for (kernel, stride, padding, size) in [
        ((2, 2), (2, 2), (0, 0), (4, 5)),
        ((3, 2), (2, 1), (1, 1), (4, 11)),
        ((8, 10), (8, 10), (0, 0), (1, 1)),
    ] {
        let window = Window {
            batch: 3,
            input: (8, 10, 19),
            output: size,
            kernel,
            stride,
            padding,
            divisor: Divisor::Window,
        };
        let x = random(20, 3 * 8 * 10 * 19);
        let dy = random(21, 3 * size.0 * size.1 * 19);
        // an average is a depthwise convolution with constant weights
        let s = Convolution {
            batch: 3,
            input: (8, 10, 19),
            output: (size.0, size.1, 19),
            kernel,
            stride,
            dilation: (1, 1),
            padding,
            groups: 19,
        };
        let w = vec![1.0; kernel.0 * kernel.1 * 19];
        let [y64, dx64, ..] = convolution(&s, &x, &w, &[0.0; 19], &dy);
        let area = (kernel.0 * kernel.1) as f64;
        let (mut y, mut dx) = (vec![f32::NAN; dy.len()], vec![f32::NAN; x.len()]);
        average_pool_forward(&window, &x, &mut y);
        average_pool_backward(&window, &dy, &mut dx);
        close(
            "average_pool_forward",
            &y,
            &y64.iter().map(|v| v / area).collect::<Vec<_>>(),
            1e-6,
        );
        close(
            "average_pool_backward",
            &dx,
            &dx64.iter().map(|v| v / area).collect::<Vec<_>>(),
            1e-6,
        );
        // the same of a picture of ones says which share of a window lies in the picture
        let within = Window {
            divisor: Divisor::Picture,
            ..window
        };
        let [share64, ..] = convolution(&s, &vec![1.0; x.len()], &w, &[0.0; 19], &dy);
        let [_, dx64, ..] = convolution(
            &s,
            &x,
            &w,
            &[0.0; 19],
            &dy.iter()
                .zip(&share64)
                .map(|(d, n)| (f64::from(*d) / n) as f32)
                .collect::<Vec<_>>(),
        );
        average_pool_forward(&within, &x, &mut y);
        average_pool_backward(&within, &dy, &mut dx);
        let mean: Vec<f64> = y64.iter().zip(&share64).map(|(v, n)| v / n).collect();
        close("average_pool_forward of what is there", &y, &mean, 1e-6);
        close("average_pool_backward of what is there", &dx, &dx64, 1e-6);
    }
}

fn check_softmax() {
    for (rows, n) in [(3, 1), (5, 7), (40, 33)] {
        let (x, dy) = (random(30, rows * n), random(31, rows * n));
        for kind in [Softmax::Shares, Softmax::Logarithms] {
            let (mut y64, mut dx64) = (Vec::new(), Vec::new());
            for (x, dy) in x.chunks(n).zip(dy.chunks(n)) {
                let e: Vec<f64> = x.iter().map(|&v| (20.0 * f64::from(v)).exp()).collect();
                let sum: f64 = e.iter().sum();
                let total: f64 = dy.iter().map(|&d| f64::from(d)).sum();
                let mean: f64 = e.iter().zip(dy).map(|(e, &d)| e / sum * f64::from(d)).sum();
                for (e, &dy) in e.iter().zip(dy) {
                    let (share, dy) = (e / sum, f64::from(dy));
                    y64.push(match kind {
                        Softmax::Shares => share,
                        Softmax::Logarithms => share.ln(),
                    });
                    dx64.push(match kind {
                        Softmax::Shares => share * (dy - mean),
                        Softmax::Logarithms => dy - share * total,
                    });
                }
            }
            let x: Vec<f32> = x.iter().map(|v| 20.0 * v).collect();
            let (mut y, mut dx) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
            softmax_forward(kind, n, &x, &mut y);
            softmax_backward(kind, n, &y, &dy, &mut dx);
            close("softmax_forward", &y, &y64, 1e-5);
            close("softmax_backward", &dx, &dx64, 1e-5);
        }
    }
}

/// Runs a check under each set of instructions that this machine has.
fn everywhere(check: fn()) {
    let best = instructions();
    for limit in [
        Instructions::Avx512,
        Instructions::Avx2,
        Instructions::Portable,
    ]
    .into_iter()
    .filter(|&limit| limit <= best)
    {
        with_instructions(limit, || {
            assert_eq!(instructions(), limit);
            println!("{limit:?}");
            check();
        });
    }
}

macro_rules! everywhere {
    ($($name:ident: $check:ident,)*) => {
        $(#[test] fn $name() { everywhere($check); })*
    };
}

everywhere! {
    convolutions_are_their_definition: check_convolutions,
    matrix_products_are_their_definition: check_matrix_products,
    batch_normalisation_is_its_definition: check_batch_normalisation,
    chebyshev_series_are_their_definition: check_chebyshev_series,
    functions_are_their_definition: check_functions,
    extremes_see_every_element: check_extremes,
    boundary_loss_is_its_definition: check_boundary_loss,
    sums_are_their_definition: check_sums,
    pools_are_their_definition: check_pools,
    softmaxes_are_their_definition: check_softmax,
}

/// Every result of a training step's kernels, as bits, on so many threads.
fn bits(threads: usize) -> Vec<u32> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .expect("a pool");
    pool.install(|| {
        let mut out: Vec<f32> = vec![];
        for s in shapes() {
            let x = random(1, s.batch * s.input.0 * s.input.1 * s.input.2);
            let w = random(
                2,
                s.kernel.0 * s.kernel.1 * s.input.2 / s.groups * s.output.2,
            );
            let dy = random(4, s.batch * s.output.0 * s.output.1 * s.output.2);
            let (mut y, mut dx, mut dw, mut db) = (
                vec![0.0; dy.len()],
                vec![0.0; x.len()],
                vec![0.0; w.len()],
                vec![0.0; s.output.2],
            );
            s.forward(&x, &w, None, &mut y);
            s.backward_input(&dy, &w, &mut dx);
            s.backward_weight(&x, &dy, &mut dw, Some(&mut db));
            out.extend([y, dx, dw, db].concat());
        }
        let (m, n, k) = (130, 70, 300);
        let mut c = vec![0.0; m * n];
        let (a, b) = (random(1, m * k), random(2, k * n));
        let (a, b) = ((&a[..], Transpose::No), (&b[..], Transpose::No));
        gemm((m, n, k), 1.0, a, b, 0.0, &mut c);
        out.extend(&c);
        let (x, dy) = (random(5, 500_000), random(6, 500_000));
        let (mean, variance) = batch_norm_statistics(20, &x);
        let (mut dx, mut dscale, mut dbias) = (vec![0.0; x.len()], vec![0.0; 20], vec![0.0; 20]);
        batch_norm_backward(
            20,
            &x,
            &dy,
            &mean,
            &variance,
            Statistics::Batch,
            &variance,
            &mut dx,
            &mut dscale,
            &mut dbias,
        );
        out.extend([mean, variance, dscale, dbias].concat());
        let mut dc = vec![0.0f64; 16];
        chebyshev_backward(&random(7, 16), (-1.0, 1.0), &x, &dy, &mut dx, Some(&mut dc));
        let loss = boundary_loss(&x, (-1.0, 1.0), 0.5, 1.0, &mut dx);
        out.extend(&dx);
        out.iter()
            .map(|v| v.to_bits())
            .chain(
                dc.iter()
                    .chain([&loss])
                    .flat_map(|d| [d.to_bits() as u32, (d.to_bits() >> 32) as u32]),
            )
            .collect()
    })
}

#[test]
fn threads_do_not_change_a_bit() {
    let one = bits(1);
    for threads in [2, 3, 5] {
        assert!(
            bits(threads) == one,
            "{threads} threads give other bits than one"
        );
    }
}

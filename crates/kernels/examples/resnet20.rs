//! Milliseconds and GMAC/s of every convolution of a training step of ResNet-20 on CIFAR, batch 64, and of the elementwise kernels.
//!
//! `cargo run --release -p polyveil-kernels --example resnet20 [portable|avx2|avx512]`; RAYON_NUM_THREADS sets the threads.

use kernels::*;
use std::hint::black_box;
use std::time::Instant;

const REPEATS: usize = 7;

/// The median of `REPEATS` runs, in milliseconds.
fn milliseconds(mut f: impl FnMut()) -> f64 {
    f();
    let mut times: Vec<f64> = (0..REPEATS)
        .map(|_| {
            let start = Instant::now();
            f();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[REPEATS / 2]
}

fn values(n: usize) -> Vec<f32> {
    (0..n)
        .map(|i| ((i * 2_654_435_761) % 2001) as f32 / 1000.0 - 1.0)
        .collect()
}

fn convolution(name: &str, times: usize, s: Convolution, input: bool) -> f64 {
    let x = values(s.batch * s.input.0 * s.input.1 * s.input.2);
    let w = values(s.kernel.0 * s.kernel.1 * s.input.2 / s.groups * s.output.2);
    let dy = values(s.batch * s.output.0 * s.output.1 * s.output.2);
    let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), w.clone());
    let macs = (w.len() * s.batch * s.output.0 * s.output.1) as f64;
    let forward = milliseconds(|| s.forward(&x, &w, None, black_box(&mut y)));
    let backward = if input {
        milliseconds(|| s.backward_input(&dy, &w, black_box(&mut dx)))
    } else {
        0.0
    };
    let weight = milliseconds(|| s.backward_weight(&x, &dy, black_box(&mut dw), None));
    let rate = |ms: f64| if ms > 0.0 { macs / ms / 1e6 } else { 0.0 };
    println!(
        "{name:<22} × {times}  forward {forward:6.2} ms {:5.1}   input {backward:6.2} ms {:5.1}   weight {weight:6.2} ms {:5.1}  GMAC/s",
        rate(forward),
        rate(backward),
        rate(weight)
    );
    times as f64 * (forward + backward + weight)
}

/// `size` and `channels` of the input; same padding.
fn square(
    batch: usize,
    size: usize,
    channels: (usize, usize),
    kernel: usize,
    stride: usize,
    groups: usize,
) -> Convolution {
    let out = size.div_ceil(stride);
    Convolution {
        batch,
        input: (size, size, channels.0),
        output: (out, out, channels.1),
        kernel: (kernel, kernel),
        stride: (stride, stride),
        dilation: (1, 1),
        padding: (kernel / 2, kernel / 2),
        groups,
    }
}

fn main() {
    let limit = match std::env::args().nth(1).as_deref() {
        Some("portable") => Instructions::Portable,
        Some("avx2") => Instructions::Avx2,
        None | Some("avx512") => Instructions::Avx512,
        Some(other) => panic!("unknown instructions {other}: portable, avx2 or avx512"),
    };
    with_instructions(limit, measure);
}

fn measure() {
    println!("{:?}, {} threads", instructions(), rayon_threads());
    let mut total = 0.0;
    total += convolution("3→16, 32×32", 1, square(64, 32, (3, 16), 3, 1, 1), false);
    total += convolution("16→16, 32×32", 6, square(64, 32, (16, 16), 3, 1, 1), true);
    total += convolution(
        "16→32, 32×32, stride 2",
        1,
        square(64, 32, (16, 32), 3, 2, 1),
        true,
    );
    total += convolution("32→32, 16×16", 5, square(64, 16, (32, 32), 3, 1, 1), true);
    total += convolution(
        "32→64, 16×16, stride 2",
        1,
        square(64, 16, (32, 64), 3, 2, 1),
        true,
    );
    total += convolution("64→64, 8×8", 5, square(64, 8, (64, 64), 3, 1, 1), true);
    println!("convolutions of a training step of ResNet-20, batch 64: {total:.1} ms");
    total = convolution(
        "depthwise 7×7, 96, 56×56",
        1,
        square(8, 56, (96, 96), 7, 1, 96),
        true,
    );
    println!("depthwise convolution of ConvNeXt, batch 8, forwards and backwards: {total:.1} ms");
    for n in [256, 512, 1024] {
        let (a, b, mut c) = (values(n * n), values(n * n), vec![0.0; n * n]);
        let mut time = |t: Transpose| {
            milliseconds(|| gemm((n, n, n), 1.0, (&a, t), (&b, t), 0.0, black_box(&mut c)))
        };
        let (ms, transposed) = (time(Transpose::No), time(Transpose::Yes));
        let rate = |ms: f64| (n * n * n) as f64 / ms / 1e6;
        println!(
            "gemm {n:4}: {ms:7.2} ms {:5.1} GMAC/s; both transposed {transposed:7.2} ms {:5.1} GMAC/s",
            rate(ms),
            rate(transposed)
        );
    }
    elementwise();
}

fn elementwise() {
    let (channels, n) = (16, 64 * 32 * 32 * 16);
    let (x, dy, mut y, mut dx) = (values(n), values(n), vec![0.0; n], vec![0.0; n]);
    let (mean, variance) = batch_norm_statistics(channels, &x);
    let coefficients = values(16);
    let (mut ds, mut db) = (vec![0.0; channels], vec![0.0; channels]);
    let line = |name: &str, ms: f64| print!("{name} {ms:.2}, ");
    print!("elementwise on 64×32×32×16, ms: ");
    line(
        "batch_norm_statistics",
        milliseconds(|| drop(black_box(batch_norm_statistics(channels, &x)))),
    );
    line(
        "channel_affine",
        milliseconds(|| channel_affine(channels, &x, &mean, &variance, black_box(&mut y))),
    );
    line(
        "batch_norm_backward",
        milliseconds(|| {
            batch_norm_backward(
                channels,
                &x,
                &dy,
                &mean,
                &variance,
                Statistics::Batch,
                &variance,
                black_box(&mut dx),
                &mut ds,
                &mut db,
            )
        }),
    );
    for f in [
        Function::Relu,
        Function::Silu,
        Function::Gelu,
        Function::Sigmoid,
        Function::Tanh,
    ] {
        line(
            &format!("{f:?}"),
            milliseconds(|| function_forward(f, &x, black_box(&mut y))),
        );
        line(
            &format!("{f:?}'"),
            milliseconds(|| function_backward(f, &x, &dy, black_box(&mut dx))),
        );
    }
    line(
        "chebyshev 15",
        milliseconds(|| chebyshev_forward(&coefficients, (-1.0, 1.0), &x, black_box(&mut y))),
    );
    let mut dc = vec![0.0; 16];
    line(
        "chebyshev' 15",
        milliseconds(|| {
            chebyshev_backward(
                &coefficients,
                (-1.0, 1.0),
                &x,
                &dy,
                black_box(&mut dx),
                Some(&mut dc),
            )
        }),
    );
    line(
        "extremes",
        milliseconds(|| {
            black_box(extremes(&x));
        }),
    );
    line(
        "boundary_loss",
        milliseconds(|| {
            black_box(boundary_loss(&x, (-1.0, 1.0), 0.9, 1.0, &mut dx));
        }),
    );
    line("axpy", milliseconds(|| axpy(0.5, &x, black_box(&mut y))));
    line("add", milliseconds(|| add(&x, &dy, black_box(&mut y))));
    println!();
}

fn rayon_threads() -> usize {
    std::env::var("RAYON_NUM_THREADS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into))
}

//! The kernels of transformers, under every set of instructions of this machine: forwards against their definitions in f64, backwards against
//! central differences of those definitions. And the same bits for any number of threads.

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

fn wide(v: &[f32]) -> Vec<f64> {
    v.iter().map(|&v| f64::from(v)).collect()
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

/// The derivative of Σ dy·f(x) by each element of x, by central differences in f64.
fn slopes(x: &[f64], dy: &[f64], f: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    let h = 1e-5;
    let mut x = x.to_vec();
    (0..x.len())
        .map(|i| {
            let old = x[i];
            x[i] = old + h;
            let up = f(&x);
            x[i] = old - h;
            let down = f(&x);
            x[i] = old;
            let change = up.iter().zip(&down).zip(dy);
            change.map(|((u, d), g)| g * (u - d)).sum::<f64>() / (2.0 * h)
        })
        .collect()
}

fn every(f: impl Fn()) {
    for limit in [
        Instructions::Portable,
        Instructions::Avx2,
        Instructions::Avx512,
    ] {
        with_instructions(limit, &f);
    }
}

/// Normalisation of rows in f64, y = (x − μ)/√(v + ε)·scale + bias, and Σ weight·v² on the variances.
fn normalized(n: usize, x: &[f64], scale: &[f64], bias: &[f64], centred: bool) -> Vec<f64> {
    x.chunks_exact(n)
        .flat_map(|row| {
            let m = if centred {
                row.iter().sum::<f64>() / n as f64
            } else {
                0.0
            };
            let v = row.iter().map(|x| (x - m).powi(2)).sum::<f64>() / n as f64;
            let r = 1.0 / (v + 1e-3).sqrt();
            (0..n)
                .map(|c| (row[c] - m) * r * scale[c] + bias[c])
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn row_normalisations() {
    every(|| {
        for (rows, n) in [(1, 1), (3, 8), (7, 33), (40, 16), (5, 128)] {
            for centred in [true, false] {
                let what = format!("{rows} × {n}, centred {centred}");
                let x: Vec<f32> = random(1, rows * n).iter().map(|v| 3.0 * v + 0.5).collect();
                let dy = random(2, rows * n);
                let (scale, bias) = (random(3, n), random(4, n));
                let (mut mean, mut variance) = (vec![f32::NAN; rows], vec![f32::NAN; rows]);
                let centre = if centred { Centre::Mean } else { Centre::Zero };
                row_moments(n, &x, centre, &mut mean, &mut variance);
                let inverse: Vec<f32> = variance.iter().map(|v| 1.0 / (v + 1e-3).sqrt()).collect();
                let slope: Vec<f32> = inverse.iter().map(|r| -0.5 * r.powi(3)).collect();
                let mut y = vec![f32::NAN; x.len()];
                row_norm_forward(&x, &mean, &inverse, &scale, Some(&bias), &mut y);
                let (x64, s64, b64, dy64) = (wide(&x), wide(&scale), wide(&bias), wide(&dy));
                close(&what, &y, &normalized(n, &x64, &s64, &b64, centred), 2e-6);
                row_norm_forward(&x, &mean, &inverse, &scale, None, &mut y);
                let zeros = vec![0.0; n];
                close(&what, &y, &normalized(n, &x64, &s64, &zeros, centred), 2e-6);

                // a further loss Σ e·v with derivatives e
                let extra = random(5, rows);
                let e64 = wide(&extra);
                let dx64 = {
                    let by_y = slopes(&x64, &dy64, |x| normalized(n, x, &s64, &b64, centred));
                    let by_v = slopes(&x64, &e64, |x| {
                        let ones = vec![1.0; n];
                        x.chunks_exact(n)
                            .map(|row| {
                                let m = if centred {
                                    row.iter().sum::<f64>() / n as f64
                                } else {
                                    0.0
                                };
                                row.iter()
                                    .zip(&ones)
                                    .map(|(x, o)| o * (x - m).powi(2))
                                    .sum::<f64>()
                                    / n as f64
                            })
                            .collect()
                    });
                    by_y.iter()
                        .zip(&by_v)
                        .map(|(a, b)| a + b)
                        .collect::<Vec<_>>()
                };
                let known = Rows {
                    mean: &mean,
                    inverse: &inverse,
                    slope: &slope,
                    extra: Some(&extra),
                    centred,
                };
                let mut dx = vec![f32::NAN; x.len()];
                let (mut dscale, mut dbias) = (vec![1.0; n], vec![2.0; n]);
                row_norm_backward(
                    &x,
                    &dy,
                    &known,
                    &scale,
                    &mut dx,
                    &mut dscale,
                    Some(&mut dbias),
                );
                close(&format!("{what}, dx"), &dx, &dx64, 1e-5);
                let ds64 = slopes(&s64, &dy64, |s| normalized(n, &x64, s, &b64, centred));
                let db64 = slopes(&b64, &dy64, |b| normalized(n, &x64, &s64, b, centred));
                let plus = |v: Vec<f64>, o: f64| v.into_iter().map(|v| v + o).collect::<Vec<_>>();
                close(&format!("{what}, dscale"), &dscale, &plus(ds64, 1.0), 1e-5);
                close(&format!("{what}, dbias"), &dbias, &plus(db64, 2.0), 1e-5);
            }
        }
    });
}

#[test]
fn rotations() {
    every(|| {
        for (heads, width, pairs) in [(1, 2, 1), (4, 8, 4), (3, 16, 2), (2, 32, 16)] {
            let positions = 5;
            let x = random(1, 3 * positions * heads * width);
            let angles = random(2, positions * pairs);
            let (cosine, sine): (Vec<f32>, Vec<f32>) =
                angles.iter().map(|a| (a.cos(), a.sin())).unzip();
            for order in [Pairs::Adjacent, Pairs::Halves] {
                let rotary = Rotary {
                    heads,
                    width,
                    pairs: order,
                    cosine: &cosine,
                    sine: &sine,
                    positions,
                };
                let mut want = wide(&x);
                for (row, values) in want.chunks_exact_mut(heads * width).enumerate() {
                    for head in values.chunks_exact_mut(width) {
                        for i in 0..pairs {
                            let (a, b) = match order {
                                Pairs::Adjacent => (2 * i, 2 * i + 1),
                                Pairs::Halves => (i, i + pairs),
                            };
                            let t = f64::from(angles[row % positions * pairs + i]);
                            let (u, v) = (head[a], head[b]);
                            head[a] = u * t.cos() - v * t.sin();
                            head[b] = u * t.sin() + v * t.cos();
                        }
                    }
                }
                let mut y = vec![f32::NAN; x.len()];
                rotary.turn(&x, Turning::Forwards, &mut y);
                close("turn", &y, &want, 5e-7);
                let mut back = vec![f32::NAN; x.len()];
                rotary.turn(&y, Turning::Backwards, &mut back);
                close("and back", &back, &wide(&x), 5e-7);
            }
        }
    });
}

#[test]
fn embeddings() {
    let (vocabulary, width) = (7, 5);
    let table = random(1, vocabulary * width);
    let tokens = [3u32, 0, 6, 3, 3];
    let mut y = vec![f32::NAN; tokens.len() * width];
    gather(&table, width, &tokens, &mut y);
    for (row, &t) in y.chunks_exact(width).zip(&tokens) {
        assert_eq!(row, &table[t as usize * width..][..width]);
    }
    let dy = random(2, y.len());
    let mut gradient = vec![1.0f32; table.len()];
    scatter_add(&dy, width, &tokens, &mut gradient);
    let mut want = vec![1.0f64; table.len()];
    for (i, &t) in tokens.iter().enumerate() {
        for c in 0..width {
            want[t as usize * width + c] += f64::from(dy[i * width + c]);
        }
    }
    close("scatter_add", &gradient, &want, 1e-6);
}

/// Attention by its definition, in f64.
fn attention(s: &Attention, q: &[f64], k: &[f64], v: &[f64]) -> Vec<f64> {
    let (l, d) = (s.length, s.width);
    let (wide, narrow) = (s.heads * d, s.kv_heads * d);
    let mut y = vec![0.0; q.len()];
    for n in 0..s.batch {
        for h in 0..s.heads {
            let kv = h / (s.heads / s.kv_heads);
            for i in 0..l {
                let visible = if s.causal { i + 1 } else { l };
                let scores: Vec<f64> = (0..visible)
                    .map(|j| {
                        let dot = (0..d).map(|c| {
                            q[(n * l + i) * wide + h * d + c] * k[(n * l + j) * narrow + kv * d + c]
                        });
                        dot.sum::<f64>() * f64::from(s.scale)
                    })
                    .collect();
                let weights: Vec<f64> = match s.weighting {
                    Weighting::Softmax => {
                        let e: Vec<f64> = scores.iter().map(|s| s.exp()).collect();
                        let sum: f64 = e.iter().sum();
                        e.iter().map(|e| e / sum).collect()
                    }
                    Weighting::Power {
                        exponent,
                        epsilon,
                        mean,
                        ..
                    } => {
                        let a: Vec<f64> = scores.iter().map(|s| s.powi(exponent as i32)).collect();
                        let kappa = if mean { 1.0 / visible as f64 } else { 1.0 };
                        let divisor = f64::from(epsilon) + kappa * a.iter().sum::<f64>();
                        a.iter().map(|a| kappa * a / divisor).collect()
                    }
                    Weighting::Undivided { exponent } => {
                        let powers = scores.iter().map(|s| s.powi(exponent as i32));
                        powers.map(|a| a / visible as f64).collect()
                    }
                };
                for c in 0..d {
                    y[(n * l + i) * wide + h * d + c] = (0..visible)
                        .map(|j| weights[j] * v[(n * l + j) * narrow + kv * d + c])
                        .sum();
                }
            }
        }
    }
    y
}

fn weightings() -> Vec<Weighting> {
    let power = |exponent, epsilon, stable, mean| Weighting::Power {
        exponent,
        epsilon,
        stable,
        mean,
    };
    vec![
        Weighting::Softmax,
        power(2, 1e-3, false, false),
        power(4, 1e-3, true, false),
        power(4, 1e-2, false, true),
        power(6, 1e-3, true, true),
        power(8, 1e-3, true, false),
        power(10, 1e-4, true, true),
        power(12, 1e-4, true, false),
        Weighting::Undivided { exponent: 2 },
        Weighting::Undivided { exponent: 10 },
    ]
}

fn exact(_: usize, divisor: f32) -> f32 {
    1.0 / divisor
}

#[test]
fn attentions() {
    every(|| {
        // lengths below, at and above a block of rows; grouped heads; odd widths
        for (batch, length, heads, kv_heads, width) in [
            (2, 5, 2, 2, 8),
            (1, 32, 4, 2, 3),
            (2, 33, 2, 1, 8),
            (1, 70, 1, 1, 20),
        ] {
            for weighting in weightings() {
                for causal in [true, false] {
                    let s = Attention {
                        batch,
                        length,
                        heads,
                        kv_heads,
                        width,
                        scale: 0.7,
                        causal,
                        weighting,
                    };
                    let rows = batch * length;
                    let q: Vec<f32> = random(1, rows * heads * width)
                        .iter()
                        .map(|v| 1.5 * v)
                        .collect();
                    let k = random(2, rows * kv_heads * width);
                    let v = random(3, k.len());
                    let mut y = vec![f32::NAN; q.len()];
                    let sums = s.forward(&q, &k, &v, &[], &exact, &mut y);
                    assert_eq!(sums.divisor.len(), batch * heads * length);
                    let (q64, k64, v64) = (wide(&q), wide(&k), wide(&v));
                    let what = format!("{s:?}");
                    close(&what, &y, &attention(&s, &q64, &k64, &v64), 5e-6);
                    if rows > 40 && heads > 1 {
                        continue;
                    }
                    let dy = random(4, y.len());
                    let dy64 = wide(&dy);
                    let (mut dq, mut dk, mut dv) = (
                        vec![f32::NAN; q.len()],
                        vec![f32::NAN; k.len()],
                        vec![f32::NAN; v.len()],
                    );
                    s.backward([&q, &k, &v], &dy, &sums, None, [&mut dq, &mut dk, &mut dv]);
                    if rows * width > 400 {
                        // differences by each value take the square of the length: a direction instead
                        let by = |x: &[f64], seed, f: &dyn Fn(&[f64]) -> Vec<f64>| {
                            let direction = wide(&random(seed, x.len()));
                            let at = |t: f64| -> Vec<f64> {
                                f(&x.iter()
                                    .zip(&direction)
                                    .map(|(x, d)| x + t * d)
                                    .collect::<Vec<_>>())
                            };
                            let (up, down) = (at(1e-6), at(-1e-6));
                            let slope: f64 = up
                                .iter()
                                .zip(&down)
                                .zip(&dy64)
                                .map(|((u, d), g)| g * (u - d))
                                .sum();
                            (slope / 2e-6, direction)
                        };
                        for (name, (slope, direction), got) in [
                            ("dq", by(&q64, 7, &|q| attention(&s, q, &k64, &v64)), &dq),
                            ("dk", by(&k64, 8, &|k| attention(&s, &q64, k, &v64)), &dk),
                            ("dv", by(&v64, 9, &|v| attention(&s, &q64, &k64, v)), &dv),
                        ] {
                            let along: f64 = got
                                .iter()
                                .zip(&direction)
                                .map(|(g, d)| f64::from(*g) * d)
                                .sum();
                            assert!(
                                (along - slope).abs() < 1e-3 * (1.0 + slope.abs()),
                                "{what} {name}: {along} not {slope}"
                            );
                        }
                        continue;
                    }
                    let want = slopes(&q64, &dy64, |q| attention(&s, q, &k64, &v64));
                    close(&format!("{what} dq"), &dq, &want, 2e-5);
                    let want = slopes(&k64, &dy64, |k| attention(&s, &q64, k, &v64));
                    close(&format!("{what} dk"), &dk, &want, 2e-5);
                    let want = slopes(&v64, &dy64, |v| attention(&s, &q64, &k64, v));
                    close(&format!("{what} dv"), &dv, &want, 2e-5);
                }
            }
        }
    });
}

/// A loss on the divisors and any inverse go through the backward pass: here Σ e·divisor, and an inverse that is off by a twentieth.
#[test]
fn losses_on_divisors() {
    for mean in [true, false] {
        let s = Attention {
            batch: 1,
            length: 6,
            heads: 2,
            kv_heads: 1,
            width: 4,
            scale: 0.5,
            causal: true,
            weighting: Weighting::Power {
                exponent: 4,
                epsilon: 1e-2,
                stable: false,
                mean,
            },
        };
        let (q, k, v) = (random(1, 48), random(2, 24), random(3, 24));
        let extra = random(4, 12);
        let mut y = vec![0.0; 48];
        let sums = s.forward(&q, &k, &v, &[], &exact, &mut y);
        let zeros = vec![0.0; 48];
        let (mut dq, mut dk, mut dv) = (vec![0.0; 48], vec![0.0; 24], vec![0.0; 24]);
        s.backward(
            [&q, &k, &v],
            &zeros,
            &sums,
            Some(&extra),
            [&mut dq, &mut dk, &mut dv],
        );
        assert!(
            dv.iter().all(|v| *v == 0.0),
            "values have no part in divisors"
        );
        let divisors = |q: &[f64]| -> Vec<f64> {
            let mut out = Vec::new();
            for h in 0..2 {
                for i in 0..6 {
                    let sum: f64 = (0..=i)
                        .map(|j| {
                            let dot: f64 = (0..4)
                                .map(|c| q[i * 8 + h * 4 + c] * f64::from(k[j * 4 + c]))
                                .sum();
                            (0.5 * dot).powi(4)
                        })
                        .sum();
                    out.push(1e-2 + sum / if mean { (i + 1) as f64 } else { 1.0 });
                }
            }
            out
        };
        close("divisors", &sums.divisor, &divisors(&wide(&q)), 1e-6);
        let want = slopes(&wide(&q), &wide(&extra), divisors);
        close("dq of a loss on divisors", &dq, &want, 1e-6);
        let scaled = s.forward(
            &q,
            &k,
            &v,
            &[],
            &|at, d| if at == 1 { 0.95 / d } else { 1.0 / d },
            &mut [0.0; 48],
        );
        let ratio = scaled.inverse[7] / sums.inverse[7];
        assert!(
            (ratio - 0.95).abs() < 1e-6,
            "the given inverse is used: {ratio}"
        );
    }
}

#[test]
fn one_position_at_a_time_is_the_whole_sequence() {
    every(|| {
        for weighting in weightings() {
            let (batch, length, heads, kv_heads, width) = (11, 19, 4, 2, 8);
            let s = Attention {
                batch,
                length,
                heads,
                kv_heads,
                width,
                scale: 0.35,
                causal: true,
                weighting,
            };
            let rows = batch * length;
            let q: Vec<f32> = random(1, rows * heads * width)
                .iter()
                .map(|v| 2.0 * v)
                .collect();
            let (k, v) = (
                random(2, rows * kv_heads * width),
                random(3, rows * kv_heads * width),
            );
            let mut whole = vec![0.0; q.len()];
            s.forward(&q, &k, &v, &[], &exact, &mut whole);
            let capacity = 24;
            let (mut keys, mut values) = (
                vec![f32::NAN; batch * kv_heads * width * capacity],
                vec![f32::NAN; batch * kv_heads * width * capacity],
            );
            let narrow = kv_heads * width;
            for t in 0..length {
                let mut query = Vec::new();
                for n in 0..batch {
                    query
                        .extend_from_slice(&q[(n * length + t) * heads * width..][..heads * width]);
                    for c in 0..narrow {
                        let at = (n * narrow + c) * capacity + t;
                        keys[at] = k[(n * length + t) * narrow + c];
                        values[at] = v[(n * length + t) * narrow + c];
                    }
                }
                let mut y = vec![f32::NAN; query.len()];
                s.step(&query, &keys, &values, (t + 1, capacity), &exact, &mut y);
                for n in 0..batch {
                    let want = wide(&whole[(n * length + t) * heads * width..][..heads * width]);
                    close(
                        "step",
                        &y[n * heads * width..][..heads * width],
                        &want,
                        5e-6,
                    );
                }
            }
        }
    });
}

/// Bits of every kernel's result on so many threads.
fn bits(threads: usize) -> Vec<u32> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .expect("threads");
    pool.install(|| {
        let mut out = Vec::new();
        let (rows, n) = (3000, 40);
        let (x, dy) = (random(1, rows * n), random(2, rows * n));
        let (mut mean, mut variance) = (vec![0.0; rows], vec![0.0; rows]);
        row_moments(n, &x, Centre::Mean, &mut mean, &mut variance);
        let inverse: Vec<f32> = variance.iter().map(|v| 1.0 / (v + 1e-3).sqrt()).collect();
        let known = Rows {
            mean: &mean,
            inverse: &inverse,
            slope: &mean,
            extra: None,
            centred: true,
        };
        let (mut dx, mut dscale, mut dbias) = (vec![0.0; x.len()], vec![0.0; n], vec![0.0; n]);
        row_norm_backward(
            &x,
            &dy,
            &known,
            &random(3, n),
            &mut dx,
            &mut dscale,
            Some(&mut dbias),
        );
        out.extend([dx, dscale, dbias, variance.clone()].concat());
        let s = Attention {
            batch: 3,
            length: 70,
            heads: 4,
            kv_heads: 2,
            width: 8,
            scale: 0.3,
            causal: true,
            weighting: Weighting::Softmax,
        };
        let q = random(4, 210 * 32);
        let (k, v) = (random(5, 210 * 16), random(6, 210 * 16));
        let mut y = vec![0.0; q.len()];
        let sums = s.forward(&q, &k, &v, &[], &exact, &mut y);
        let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
        s.backward([&q, &k, &v], &y, &sums, None, [&mut dq, &mut dk, &mut dv]);
        out.extend([y, dq, dk, dv].concat());
        out.iter().map(|v| v.to_bits()).collect()
    })
}

#[test]
fn threads_do_not_change_a_bit() {
    let one = bits(1);
    for threads in [2, 3] {
        assert!(
            bits(threads) == one,
            "{threads} threads give other bits than one"
        );
    }
}

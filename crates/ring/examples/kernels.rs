//! Times the kernels: `cargo run --release -p polyveil-ring --example kernels [log_n] [portable]`.

use std::hint::black_box;
use std::time::Instant;

use polyveil_ring::buffer::AlignedVec;
use polyveil_ring::{
    Backend, Conversion, Expander, Ring, automorphism, backend, force_backend, limb, ntt_primes,
};

/// The shortest of many runs, in microseconds.
fn time(name: &str, bytes: usize, mut f: impl FnMut()) {
    f();
    let mut best = f64::INFINITY;
    let start = Instant::now();
    let mut runs = 0;
    while start.elapsed().as_secs_f64() < 0.3 || runs < 5 {
        let t = Instant::now();
        f();
        best = best.min(t.elapsed().as_secs_f64());
        runs += 1;
    }
    println!(
        "{name:42} {:9.1} us {:7.2} GB/s",
        best * 1e6,
        bytes as f64 / best / 1e9
    );
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let log_n = arguments.get(1).and_then(|a| a.parse().ok()).unwrap_or(16);
    if arguments.iter().any(|a| a == "portable") {
        force_backend(Some(Backend::Portable));
    }
    println!("{:?}, N = 2^{log_n}", backend());
    let start = Instant::now();
    let ring = Ring::new(log_n, &ntt_primes(log_n, 1 << 50, 24, &[])?)?;
    println!(
        "tables of 24 moduli: {:.1} ms",
        start.elapsed().as_secs_f64() * 1e3
    );
    let n = ring.n();
    let expander = Expander::new([1; 32]);
    let limbs: Vec<AlignedVec> = (0..24)
        .map(|i| {
            let mut a = AlignedVec::zeroed(n);
            expander.uniform(i as u64, ring.modulus(i), &mut a);
            a
        })
        .collect();
    let (q, mut a) = (ring.modulus(0), limbs[0].clone());
    time("forward", 0, || ring.ntt(0).forward(black_box(&mut a)));
    time("inverse", 0, || ring.ntt(0).inverse(black_box(&mut a)));
    let mut many = limbs.clone();
    time("forward, 24 limbs one after the other", 0, || {
        many.iter_mut()
            .enumerate()
            .for_each(|(i, a)| ring.ntt(i).forward(a));
    });
    time("inverse, 24 limbs one after the other", 0, || {
        many.iter_mut()
            .enumerate()
            .for_each(|(i, a)| ring.ntt(i).inverse(a));
    });
    let b = many[0].clone();
    time("add", 24 * n, || limb::add(q, black_box(&mut a), &b));
    time("mul", 24 * n, || limb::mul(q, black_box(&mut a), &b));
    time("mul_scalar_add", 24 * n, || {
        limb::mul_scalar_add(q, black_box(&mut a), &b, 12345)
    });
    let perm = automorphism(log_n, 5);
    time("permute", 20 * n, || {
        limb::permute(black_box(&mut a), &b, &perm)
    });
    for terms in [1, 3, 4, 8, 12] {
        // All residues count as residues of the smallest modulus here: only the time matters.
        let small = ring.modulus(23);
        let mut reduced = limbs.clone();
        reduced
            .iter_mut()
            .for_each(|l| l.iter_mut().for_each(|x| *x = small.reduce(*x)));
        let pairs: Vec<_> = (0..terms)
            .map(|k| (&reduced[k][..], &reduced[k + 12][..]))
            .collect();
        time(
            &format!("dot, {terms} terms"),
            16 * n * terms + 8 * n,
            || limb::dot(small, black_box(&mut a), &pairs),
        );
        let list = |from: usize| -> Vec<&[u64]> {
            (0..terms).map(|k| &reduced[(k + from) % 24][..]).collect()
        };
        let (x, y0, y1) = (list(0), list(12), list(6));
        let mut a1 = AlignedVec::zeroed(n);
        time(
            &format!("dot2, {terms} terms"),
            24 * n * terms + 16 * n,
            || limb::dot2(small, black_box(&mut a), black_box(&mut a1), &x, &y0, &y1),
        );
        for run in [1, 64] {
            let y: Vec<_> = y0.iter().map(|y| &y[..n / run]).collect();
            time(
                &format!("dot2_runs, {terms} terms, runs of {run}"),
                16 * n * (terms + 1) + 8 * n * terms / run,
                || limb::dot2_runs(small, black_box(&mut a), black_box(&mut a1), &x, &y1, &y),
            );
        }
        for run in [8, 64] {
            let pairs: Vec<_> = (0..terms)
                .map(|k| (&reduced[k][..], &reduced[k + 12][..n / run]))
                .collect();
            time(
                &format!("dot_runs, {terms} terms, runs of {run}"),
                8 * n * (terms + 1),
                || {
                    limb::dot_runs(small, black_box(&mut a), &pairs);
                },
            );
        }
    }
    // A key of 96 MiB and more, from memory: every call takes the next limbs of it.
    let small = ring.modulus(23);
    let key: Vec<AlignedVec> = (0..192).map(|i| limbs[i % 24].clone()).collect();
    let x: Vec<&[u64]> = limbs[..3].iter().map(|l| &l[..]).collect();
    let mut a1 = AlignedVec::zeroed(n);
    let mut at = 0;
    time("key product by dot, 3 + 3 limbs of key", 80 * n, || {
        let part = &key[at..at + 6];
        at = (at + 6) % 192;
        for (out, y) in [(&mut a, &part[..3]), (&mut a1, &part[3..])] {
            let pairs: Vec<_> = x.iter().zip(y).map(|(x, y)| (*x, &y[..])).collect();
            limb::dot(small, black_box(out), &pairs);
        }
    });
    time("key product by dot2, 3 + 3 limbs of key", 80 * n, || {
        let part: Vec<&[u64]> = key[at..at + 6].iter().map(|y| &y[..]).collect();
        at = (at + 6) % 192;
        limb::dot2(
            small,
            black_box(&mut a),
            black_box(&mut a1),
            &x,
            &part[..3],
            &part[3..],
        );
    });
    for (k, targets) in [(1, 1), (4, 20), (8, 16)] {
        let conversion = Conversion::new(&ring.moduli()[..k], &ring.moduli()[24 - targets..])?;
        let src: Vec<&[u64]> = limbs[..k].iter().map(|l| &l[..]).collect();
        let mut out = vec![AlignedVec::zeroed(n); targets];
        let mut dst: Vec<&mut [u64]> = out.iter_mut().map(|o| &mut o[..]).collect();
        time(
            &format!("convert {k} to {targets} (all threads)"),
            8 * n * (k + targets),
            || conversion.apply(&src, black_box(&mut dst)),
        );
        let (mut y, mut v) = (AlignedVec::zeroed(k * n), AlignedVec::zeroed(n));
        time(
            &format!("convert {k} to {targets}: prepare (all threads)"),
            0,
            || conversion.prepare(&src, &mut y, &mut v),
        );
        time(&format!("convert {k} to {targets}: finish one"), 0, || {
            conversion.finish(&y, &v, 0, black_box(dst[0]))
        });
    }
    time("uniform", 8 * n, || {
        expander.uniform(7, q, black_box(&mut a))
    });
    let x: Vec<i64> = (0..n as i64).map(|i| i * 7919 - 1000).collect();
    let wide: Vec<i128> = x.iter().map(|&x| i128::from(x) << 40).collect();
    time("from_i64", 16 * n, || {
        limb::from_i64(q, black_box(&mut a), &x)
    });
    time("from_i128", 24 * n, || {
        limb::from_i128(q, black_box(&mut a), &wide)
    });
    time("lift_centered", 16 * n, || {
        limb::lift_centered(q, ring.modulus(1), black_box(&mut a), &b)
    });
    Ok(())
}

//! Times the kernels of `ring` on every backend that this machine has, and the NTT of `tfhe-ntt` beside them:
//! `RAYON_NUM_THREADS=1 cargo bench --manifest-path benches/Cargo.toml [-- FILTER]`.
//!
//! Ring degree 2^16, one limb per call unless the name says otherwise. Names end in the backend. All is on one thread except
//! `prepare all`, which uses as many as it is given.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use polyveil_ring::buffer::AlignedVec;
use polyveil_ring::{
    Backend, Conversion, Expander, Modulus, Ring, automorphism, force_backend, limb, ntt_primes,
};

const LOG_N: u32 = 16;
const N: usize = 1 << LOG_N;

fn primes(bits: u32, count: usize) -> Vec<u64> {
    ntt_primes(LOG_N, 1 << bits, count, &[]).expect("there are such primes")
}

fn uniform(q: &Modulus, stream: u64) -> AlignedVec {
    let mut a = AlignedVec::zeroed(N);
    Expander::new([1; 32]).uniform(stream, q, &mut a);
    a
}

/// The transforms in place on one limb, hot, and on 24 limbs with their own tables, 37 MB in all.
fn ntt(c: &mut Criterion) {
    for bits in [40, 46, 50] {
        let ring = Ring::new(LOG_N, &primes(bits, 1)).expect("ring");
        let (table, mut a) = (ring.ntt(0), uniform(ring.modulus(0), 0));
        let mut group = c.benchmark_group(format!("ntt_forward/{bits} bits"));
        for backend in Backend::available() {
            force_backend(Some(backend));
            group.bench_function(backend.name(), |b| {
                b.iter(|| table.forward(black_box(&mut a)));
            });
        }
        let plan = tfhe_ntt::prime64::Plan::try_new(N, ring.modulus(0).value()).expect("plan");
        group.bench_function("tfhe-ntt", |b| b.iter(|| plan.fwd(black_box(&mut a))));
        group.finish();
        let mut group = c.benchmark_group(format!("ntt_inverse/{bits} bits"));
        for backend in Backend::available() {
            force_backend(Some(backend));
            group.bench_function(backend.name(), |b| {
                b.iter(|| table.inverse(black_box(&mut a)));
            });
        }
        // Without the factor 1/N.
        group.bench_function("tfhe-ntt", |b| b.iter(|| plan.inv(black_box(&mut a))));
        group.finish();
    }
    let ring = Ring::new(LOG_N, &primes(46, 24)).expect("ring");
    let mut limbs: Vec<AlignedVec> = (0..24).map(|i| uniform(ring.modulus(i), 0)).collect();
    let mut group = c.benchmark_group("ntt_forward/24 limbs of 46 bits in turn");
    group.throughput(Throughput::Elements(24));
    for backend in Backend::available() {
        force_backend(Some(backend));
        group.bench_function(backend.name(), |b| {
            b.iter(|| {
                let limbs = limbs.iter_mut().enumerate();
                limbs.for_each(|(i, a)| ring.ntt(i).forward(black_box(a)));
            });
        });
    }
}

/// Kernels on one limb: the words of the inputs are residues of every modulus used.
fn limbs(c: &mut Criterion) {
    let ring = Ring::new(LOG_N, &primes(50, 1)).expect("ring");
    let q = ring.modulus(0);
    let x: Vec<AlignedVec> = (0..48).map(|i| uniform(q, i)).collect();
    let (mut a, mut a1) = (x[0].clone(), x[1].clone());
    let perm = automorphism(LOG_N, 5);
    let signed: Vec<i64> = (0..N as i64).map(|i| (i << 40) - (1 << 55)).collect();
    for backend in Backend::available() {
        force_backend(Some(backend));
        let mut one = |name: &str, call: &mut dyn FnMut(&mut [u64], &mut [u64])| {
            c.bench_function(&format!("{name}/{backend}"), |b| {
                b.iter(|| call(black_box(&mut a), black_box(&mut a1)));
            });
        };
        one("mul", &mut |a, _| limb::mul(q, a, &x[2]));
        one("mul_scalar_add", &mut |a, _| {
            limb::mul_scalar_add(q, a, &x[2], 12345)
        });
        one("permute", &mut |a, _| limb::permute(a, &x[2], &perm));
        one("expand", &mut |a, _| {
            Expander::new([2; 32]).uniform(0, q, a)
        });
        one("from_i64", &mut |a, _| limb::from_i64(q, a, &signed));
        for terms in [3, 16] {
            let list = |from: usize| -> Vec<&[u64]> {
                x[from..from + terms].iter().map(|x| &x[..]).collect()
            };
            let (digits, key0, key1) = (list(0), list(16), list(32));
            one(&format!("dot2/{terms} terms"), &mut |a, a1| {
                limb::dot2(q, a, a1, &digits, &key0, &key1);
            });
        }
    }
}

/// Basis conversion of one limb in (`prepare`) and out (`finish_many`), from few and from many moduli.
fn conversion(c: &mut Criterion) {
    let moduli: Vec<Modulus> = primes(46, 24)
        .into_iter()
        .map(|q| Modulus::new(q).expect("prime"))
        .collect();
    for sources in [4, 9] {
        let (source, target) = moduli.split_at(sources);
        let conversion = Conversion::new(source, target).expect("conversion");
        let limbs: Vec<AlignedVec> = source.iter().map(|q| uniform(q, 0)).collect();
        let limbs: Vec<&[u64]> = limbs.iter().map(|l| &l[..]).collect();
        let mut y = AlignedVec::zeroed(sources * N);
        let (mut v, mut out) = (AlignedVec::zeroed(N), AlignedVec::zeroed(N));
        for backend in Backend::available() {
            force_backend(Some(backend));
            let mut group = c.benchmark_group(format!("convert/{sources} moduli"));
            group.throughput(Throughput::Elements(sources as u64));
            group.bench_function(BenchmarkId::new("prepare all", backend), |b| {
                b.iter(|| conversion.prepare(&limbs, black_box(&mut y), black_box(&mut v)));
            });
            group.throughput(Throughput::Elements(1));
            group.bench_function(BenchmarkId::new("finish one", backend), |b| {
                b.iter(|| conversion.finish_many(&y, &v, &mut [(0, black_box(&mut out))]));
            });
            group.finish();
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(50)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800));
    targets = ntt, limbs, conversion
}
criterion_main!(benches);

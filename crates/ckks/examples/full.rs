//! Full-size bootstrap: time and precision (development probe).
use ckks::*;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use std::time::Instant;
fn sys() -> f64 {
    let s = std::fs::read_to_string("/proc/self/stat").unwrap();
    let f: Vec<&str> = s.rsplit(')').next().unwrap().split_whitespace().collect();
    f[12].parse::<f64>().unwrap() / 100.0
}
fn cpu() -> f64 {
    let s = std::fs::read_to_string("/proc/self/stat").unwrap();
    let f: Vec<&str> = s.rsplit(')').next().unwrap().split_whitespace().collect();
    (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) / 100.0
}
fn main() {
    let threads: usize = std::env::args().nth(1).map_or(1, |x| x.parse().unwrap());
    let slots: usize = std::env::args()
        .nth(2)
        .map_or(1 << 15, |x| x.parse().unwrap());
    let target: usize = std::env::args().nth(3).map_or(10, |x| x.parse().unwrap());
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .unwrap();
    let p = Parameters::new(ParametersSpec::standard()).unwrap();
    println!("{p:?} security {}", p.security_bits());
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let sk = SecretKey::generate(&p, &mut rng).unwrap();
    let b = Bootstrap {
        slots,
        target,
        gain: 2.0,
    };
    let meter = Meter::new(&p);
    let m = meter
        .bootstrap(&meter.input(Level::new(0), slots, 0.5).unwrap(), &b)
        .unwrap();
    println!(
        "meter: error bound 2^{:.1}, sigma 2^{:.1} cost {:?} -> {:.2} s",
        m.error_bound().log2(),
        m.deviation.log2(),
        meter.cost(),
        meter.cost().seconds(&Default::default())
    );
    let request = meter.keys();
    println!(
        "{} keys, {:.2} GB",
        request.0.len(),
        request.bytes(&p) as f64 / 1e9
    );
    let t = Instant::now();
    let keys = sk.evaluation_keys(&request, &mut rng).unwrap();
    println!("keygen {:.1} s", t.elapsed().as_secs_f64());
    let ev = Evaluator::new(&p, keys).unwrap();
    let mut f = || f64::from(rng.next_u32()) / f64::from(u32::MAX) * 2.0 - 1.0;
    for class in [0, 1, 2, 1, 2] {
        let x: Vec<Complex64> = (0..slots).map(|j| match class { 0 => Complex64::new(f(), f()) * std::f64::consts::FRAC_1_SQRT_2, 1 => Complex64::new(1.0, 0.0), _ => Complex64::new(if j == 0 { 1.0 } else { 0.0 }, 0.0) } * 0.5).collect();
        let mut r2 = ChaCha20Rng::seed_from_u64(7);
        let ct = sk.encrypt(&x, Level::new(0), &mut r2).unwrap().expand(&p);
        let (t, c, k) = (Instant::now(), cpu(), sys());
        let y = ev.bootstrap(&ct, &b).unwrap();
        let (w, c) = (t.elapsed().as_secs_f64(), cpu() - c);
        println!("sys {:.2}", sys() - k);
        let got = sk.decrypt(&y).unwrap();
        let err: Vec<f64> = x
            .iter()
            .zip(&got)
            .flat_map(|(a, b)| [(2.0 * a.re - b.re).abs(), (2.0 * a.im - b.im).abs()])
            .collect();
        let worst = err.iter().cloned().fold(0.0, f64::max);
        let mean = err.iter().sum::<f64>() / err.len() as f64;
        let clear = Clear::new(&p, 3);
        let cl = clear
            .bootstrap(&clear.input(&x, Level::new(0)).unwrap(), &b)
            .unwrap();
        let dev = cl
            .values
            .iter()
            .zip(&got)
            .map(|(a, b)| (a - b).norm())
            .fold(0.0, f64::max);
        println!(
            "class {class}: {w:.2} s wall {c:.2} s cpu; worst {:.1} mean {:.1} bits; against Clear 2^{:.1}",
            -worst.log2(),
            -mean.log2(),
            dev.log2()
        );
    }
    println!(
        "{}",
        std::fs::read_to_string("/proc/self/status")
            .unwrap()
            .lines()
            .find(|l| l.starts_with("VmHWM"))
            .unwrap()
    );
}

//! CPU milliseconds of single operations at full size, measured beside the meter's prediction (development probe).
use ckks::*;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
fn cpu() -> f64 {
    let s = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    s.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1e9
}
fn main() {
    rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .use_current_thread()
        .build_global()
        .unwrap();
    let p = Parameters::new(ParametersSpec::standard()).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let sk = SecretKey::generate(&p, &mut rng).unwrap();
    let meter = Meter::new(&p);
    let top = p.top(p.residual());
    let x = meter.input(Level::new(0), 1 << 15, 0.5).unwrap();
    let mx = meter.mod_raise(&x, top).unwrap();
    meter.rotate(&mx, 1).unwrap();
    meter.rotate(&mx, 3).unwrap();
    meter.rotate(&mx, 2).unwrap();
    meter.relinearize(&meter.mul(&mx, &mx).unwrap()).unwrap();
    let values: Vec<Complex64> = (0..1 << 15)
        .map(|j| Complex64::new((j as f64).sin(), 0.1))
        .collect();
    let map = |count: usize, babies: usize| {
        BlockMap::with_stride_split(
            1 << 15,
            1,
            1,
            (0..count)
                .map(|d| (0, 0, d, map::Values::Complex(values.clone().into())))
                .collect(),
            1,
            babies,
            vec![],
        )
        .unwrap()
    };
    let m = map(64, 8);
    meter
        .linear(&[mx], &m, p.scale(p.below(top).unwrap()))
        .unwrap();
    let keys = sk.evaluation_keys(&meter.keys(), &mut rng).unwrap();
    let ev = Evaluator::new(&p, keys).unwrap();
    let ct = sk
        .encrypt(&values, Level::new(0), &mut rng)
        .unwrap()
        .expand(&p);
    let c = ev.mod_raise(&ct, top).unwrap();
    let ten = ev.drop_to(&c, p.residual()).unwrap();
    let mten = meter.drop_to(&mx, p.residual()).unwrap();
    macro_rules! row {
        ($name:expr, $m:expr, $e:expr) => {{
            let before = meter.cost();
            let _ = $m;
            let cost = meter.cost().since(before);
            let mut best = f64::MAX;
            for _ in 0..3 {
                let t = cpu();
                let _ = $e;
                best = best.min(cpu() - t);
            }
            println!(
                "{:24} {:8.1} ms, predicted {:8.1}; {:?}",
                $name,
                best * 1e3,
                cost.seconds(&Default::default()) * 1e3,
                cost.primitives(&Default::default())
                    .iter()
                    .map(|x| format!("{} {:.0}", x.0, x.2 * 1e3))
                    .collect::<Vec<_>>()
            );
        }};
    }
    row!(
        "mod_raise",
        meter.mod_raise(&x, top).unwrap(),
        ev.mod_raise(&ct, top).unwrap()
    );
    row!("add", meter.add(&mx, &mx).unwrap(), ev.add(&c, &c).unwrap());
    row!(
        "rotate full",
        meter.rotate(&mx, 1).unwrap(),
        ev.rotate(&c, 1).unwrap()
    );
    row!(
        "rotate 3 hoisted",
        meter.rotate_many(&mx, &[1, 2, 3]).unwrap(),
        ev.rotate_many(&c, &[1, 2, 3]).unwrap()
    );
    row!(
        "rotate level 10",
        meter.rotate(&mten, 1).unwrap(),
        ev.rotate(&ten, 1).unwrap()
    );
    row!(
        "mul full",
        meter.mul(&mx, &mx).unwrap(),
        ev.mul(&c, &c).unwrap()
    );
    let (mm, cc) = (meter.mul(&mx, &mx).unwrap(), ev.mul(&c, &c).unwrap());
    row!(
        "relinearize",
        meter.relinearize(&mm).unwrap(),
        ev.relinearize(&cc).unwrap()
    );
    row!(
        "rescale",
        meter.rescale(&mx).unwrap(),
        ev.rescale(&c).unwrap()
    );
    let s = p.scale(p.below(top).unwrap());
    row!(
        "linear 64 full period",
        meter.linear(&[mx], &m, s).unwrap(),
        ev.linear(&[c.clone()], &m, s).unwrap()
    );
}

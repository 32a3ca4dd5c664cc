//! What the presets with values in coefficients cost, counted: the figures of `docs/performance.md`.

use ckks::coefficients::Parts;
use ckks::{
    Arithmetic, Bootstrap, Coefficients, Context, CostTable, Descent, HalfBootstrap, Level, Meter,
    Parameters, ParametersSpec, SwitchingKey,
};

/// Seconds by the shipped table, relative to today's full bootstrap to ten levels.
fn seconds(meter: &Meter) -> f64 {
    meter.cost().seconds(&CostTable::default())
}

fn key_bytes(meter: &Meter) -> u64 {
    let keys = meter.keys();
    let bytes = |(&name, &limit)| SwitchingKey::bytes_for(meter.parameters(), name, limit);
    keys.0.iter().map(bytes).sum()
}

/// A bootstrap of one or two vectors to the highest level.
fn whole(log_slots: u32, vectors: usize) -> f64 {
    let context = Context::new(&Parameters::new(ParametersSpec::standard()).expect("secure"));
    let p = context.parameters();
    let meter = Meter::new(&context);
    let b = Bootstrap {
        slots: 1 << log_slots,
        target: p.residual().index(),
        gain: 1.0,
    };
    let x = meter.input(p.floor(), b.slots, 0.5).expect("fits");
    let x = Parts {
        second: (vectors == 2).then(|| x.clone()),
        first: x,
    };
    meter.bootstrap(&x, &b).expect("levels");
    println!(
        "{}: {vectors} of 2^{log_slots} slots: {} limbs, log QP {:.1}, {} keys of {:.2} GB, {:.3} s",
        p.spec().name,
        p.limbs(p.top(p.residual())).len(),
        p.log_qp(),
        meter.keys().0.len(),
        key_bytes(&meter) as f64 / 1e9,
        seconds(&meter)
    );
    seconds(&meter)
}

#[test]
fn half_bootstraps_and_bootstraps_of_few_slots_cost_less() {
    let (full, mut wrong) = (whole(15, 2), Vec::new());
    // by log2 of the slots: what one vector takes of a full bootstrap, and what two take
    for (log_slots, most) in [
        (15, [0.78, 1.0]),
        (14, [0.67, 0.97]),
        (12, [0.58, 0.81]),
        (9, [0.56, 0.76]),
    ] {
        for (vectors, most) in (1..).zip(most) {
            let share = whole(log_slots, vectors) / full;
            if share > most || share <= most - 0.05 {
                wrong.push(format!("{vectors} of 2^{log_slots}: {share}"));
            }
        }
    }
    // share of a full bootstrap, and gigabytes of all keys
    for (free, most, gigabytes) in [
        (2, 0.62, 1.0),
        (3, 0.67, 1.05),
        (4, 0.71, 1.1),
        (5, 0.76, 1.15),
        (6, 0.80, 1.2),
        (7, 0.84, 1.25),
        (8, 0.88, 1.3),
        (9, 0.92, 1.35),
    ] {
        let spec = ParametersSpec::coefficients(free).expect("a preset");
        let context = Context::new(&Parameters::new(spec).expect("secure"));
        let p = context.parameters();
        let meter = Meter::new(&context);
        let slots = p.max_slots();
        let x = meter.input(Level::new(0), slots, 0.5).expect("fits");
        let x = Coefficients::of(&meter, x).expect("level 0");
        let target = p.residual().index();
        (meter.half_bootstrap(&x, &HalfBootstrap { target })).expect("levels");
        let half = seconds(&meter);
        println!("a half bootstrap to {free} free levels: {:?}", meter.cost());
        let x = meter.input(p.floor(), slots, 0.5).expect("fits");
        let parts = Parts {
            first: x.clone(),
            second: Some(x),
        };
        let d = Descent {
            slots,
            scale: p.scale(p.products()),
            masks: Vec::new(),
        };
        meter.to_coefficients(&parts, &d).expect("levels");
        println!(
            "{free} free levels: {} limbs, log QP {:.1}, {} special primes, {} keys of {:.2} GB; half bootstrap {half:.3} s, {:.3} of full; way down {:.3} s",
            p.limbs(p.top(p.residual())).len(),
            p.log_qp(),
            p.special().len(),
            meter.keys().0.len(),
            key_bytes(&meter) as f64 / 1e9,
            half / full,
            seconds(&meter) - half,
        );
        if half / full >= most || key_bytes(&meter) as f64 >= gigabytes * 1e9 {
            wrong.push(format!("{free} free levels"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

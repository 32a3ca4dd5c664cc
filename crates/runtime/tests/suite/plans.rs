//! Plans: their files, and what does not verify.

use crate::support::*;
use ckks::map::{Term, Values};
use ckks::{BlockMap, Bootstrap, Complex64, ParametersSpec};
use polyveil_runtime::*;
use std::sync::Arc;

#[test]
fn plans_survive_their_file_and_are_byte_identical() {
    let p = levelled();
    let bytes = p.write(Vec::new(), "x.plan").expect("writes");
    let (again, digest) = Plan::read(&bytes[..], "x.plan").expect("reads");
    assert_eq!((&again, digest), (&p, p.digest()));
    assert_eq!(again.write(Vec::new(), "x.plan").expect("writes"), bytes);
}

#[test]
fn parameters_under_128_bits_are_refused_unless_named_toy() {
    let mut p = levelled();
    p.parameters.name = "fast".into();
    let message = VerifiedPlan::new(p).expect_err("refused").to_string();
    assert!(message.contains("128"), "{message}");
}

#[test]
fn plans_that_do_not_hold_together_are_refused_with_step_and_layer() {
    let refused = |change: &dyn Fn(&mut Plan)| {
        let mut p = levelled();
        change(&mut p);
        VerifiedPlan::new(p).expect_err("refused").to_string()
    };
    let message = refused(&|p| {
        p.steps[1].operation = Operation::Square {
            input: 7,
            output: 2,
            constant: 0.0,
        }
    });
    assert!(
        message.contains("act1") && message.contains("register 7"),
        "{message}"
    );
    let message = refused(&|p| p.steps[2] = linear("conv2", 2, 1, SECOND));
    assert!(message.contains("written twice"), "{message}");
    let message = refused(&|p| {
        p.steps[3].operation = Operation::Align {
            input: 2,
            output: 4,
            level: 2,
        }
    });
    assert!(message.contains("add"), "{message}");
    assert!(
        refused(&|p| p.steps[1].operation = Operation::Square {
            input: 1,
            output: 2,
            constant: f64::NAN
        })
        .contains("finite")
    );
    // what a terminal would obey, or what turns text round
    for name in ["a\u{1b}[2J", "a\nb", "a\u{202e}b"] {
        for change in [
            &|p: &mut Plan| p.steps[1].layer = name.into(),
            &|p: &mut Plan| p.output.name = name.into(),
            &|p: &mut Plan| p.description.name = name.into(),
        ] as [&dyn Fn(&mut Plan); 3]
        {
            let message = refused(change);
            assert!(message.contains("no control characters"), "{message}");
        }
    }
    for interval in [(0.5, -0.5), (-2.0, 0.5), (f64::NAN, 0.5)] {
        let message = refused(&|p| p.steps[1].interval = Some(interval));
        assert!(
            message.contains("act1") && message.contains("interval"),
            "{message}"
        );
    }
    assert!(refused(&|p| p.steps[0].interval = Some((-0.5, 0.5))).contains("linear map"));
    assert!(refused(&|p| p.output.level = 0).contains("level"));
    assert!(refused(&|p| p.output.places[3] = (1, 0)).contains("place"));
    assert!(refused(&|p| p.input.level = 1).contains("level"));
    assert!(
        refused(&|p| {
            p.steps[1].operation = Operation::Bootstrap {
                inputs: vec![1],
                outputs: vec![2],
                bootstrap: Bootstrap {
                    slots: SLOTS,
                    target: 3,
                    gain: 1.0,
                },
            };
        })
        .contains("bootstrapping")
    );
    assert!(refused(&|p| p.steps[0].unit = 0.0).contains("unit"));
}

#[test]
fn nan_weights_do_not_construct() {
    let bad = Values::Complex(vec![Complex64::new(f64::NAN, 0.0); SLOTS].into());
    let message = BlockMap::new(
        SLOTS,
        1,
        1,
        vec![Term {
            input: 0,
            output: 0,
            giant: 0,
            baby: 0,
            values: bad,
        }],
        vec![],
    )
    .expect_err("refused")
    .to_string();
    assert!(message.contains("NaN"), "{message}");
}

// Hostile files. Found by reading and by `polyveil-fuzz`.

#[test]
fn a_specification_of_impossibly_many_primes_is_refused() {
    let levels = |levels| ckks::parameters::Zone {
        levels,
        bits: vec![40; 2],
    };
    for residual in [levels(usize::MAX), levels(usize::MAX / 2 + 1), levels(65)] {
        let spec = ParametersSpec {
            residual,
            ..ParametersSpec::toy_levelled(6, 4)
        };
        let message = checked_parameters(spec, "x.plan")
            .expect_err("hostile")
            .to_string();
        assert!(
            message.contains("x.plan") && message.contains("out of range"),
            "{message}"
        );
    }
}

#[test]
fn outputs_that_share_a_bias_share_its_memory() {
    let mut p = levelled();
    let term = |output| Term {
        input: 0,
        output,
        giant: 0,
        baby: 0,
        values: Values::Real(vec![0.5].into()),
    };
    let outputs = 100;
    let map = BlockMap::new(SLOTS, 1, outputs, (0..outputs).map(term).collect(), vec![]);
    p.steps[0].operation = Operation::Linear {
        inputs: vec![0],
        outputs: (10..10 + outputs).collect(),
        map: map.expect("valid"),
        bias: (0..outputs)
            .map(|_| Some(vec![0.125; SLOTS].into()))
            .collect(),
        period: SLOTS,
    };
    let bytes = p.write(Vec::new(), "x.plan").expect("writes");
    let (again, _) = Plan::read(&bytes[..], "x.plan").expect("reads");
    assert_eq!(again, p);
    let Operation::Linear { bias, .. } = &again.steps[0].operation else {
        panic!("a linear step");
    };
    let first = bias[0].as_ref().expect("a bias");
    assert!(bias.iter().flatten().all(|b| Arc::ptr_eq(b, first)));
}

#[test]
fn many_registers_alive_over_many_steps_are_counted() {
    let mut p = levelled();
    let step = |operation| Step {
        layer: "many".into(),
        purpose: Purpose::Weights,
        operation,
        unit: 1.0,
        interval: None,
    };
    // nothing is released: the last steps read what the first ones wrote
    let count = 3000;
    let first = (0..count).map(|i| Operation::Align {
        input: 0,
        output: 10 + i,
        level: 1,
    });
    let last = (0..count).map(|i| Operation::Add {
        left: 10 + i,
        right: 10 + count - 1 - i,
        output: 10 + count + i,
    });
    p.steps = first.chain(last).map(step).collect();
    p.output.registers = vec![10 + count];
    p.output.level = 1;
    let plan = VerifiedPlan::new(p).expect("sound");
    // two polynomials of two limbs each
    let least = count as u64 * 2 * 2 * 8 * plan.parameters().n() as u64;
    assert!(plan.facts().peak_bytes > least);
    assert_eq!(plan.live_after(2 * count - 1).expect("a step").len(), 1);
}

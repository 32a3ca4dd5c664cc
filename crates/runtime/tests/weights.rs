//! A plan's weights stand in memory once, also while it is verified and its digest is made. A program of its own: it measures the process.

use ckks::map::{Term, Values};
use ckks::{BlockMap, ParametersSpec};
use polyveil_runtime::machine::peak_bytes;
use polyveil_runtime::*;
use std::sync::Arc;

const SLOTS: usize = 4096;
const MAPS: usize = 12;
const DIAGONALS: usize = 1024;
/// 192 MiB.
const WEIGHTS: u64 = (MAPS * DIAGONALS * SLOTS * 4) as u64;

/// Maps of one input, each with diagonals that no other has.
fn plan() -> Plan {
    let mut state = 1u32;
    let mut number = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    let mut term = |i: usize| Term {
        input: 0,
        output: 0,
        giant: i / 32 * 32,
        baby: i % 32,
        values: Values::Real(
            (0..SLOTS)
                .map(|_| number() / 1024.0)
                .collect::<Arc<[f32]>>(),
        ),
    };
    let mut step = |m: usize| Step {
        layer: format!("map {m}"),
        purpose: Purpose::Weights,
        operation: Operation::Linear {
            inputs: vec![0],
            outputs: vec![1 + m],
            map: BlockMap::new(SLOTS, 1, 1, (0..DIAGONALS).map(&mut term).collect(), vec![])
                .expect("valid"),
            bias: vec![None],
            period: SLOTS,
        },
        unit: 1.0,
        interval: None,
    };
    let port = |register: usize, level: usize| Port {
        name: "x".into(),
        shape: vec![1],
        registers: vec![register],
        slots: SLOTS,
        places: vec![(0, 0)],
        batch: 1,
        level,
        unit: 1.0,
    };
    Plan {
        parameters: ParametersSpec::toy_levelled(13, 2),
        description: Description {
            name: "large".into(),
            input_bound: 1.0,
            ..Description::default()
        },
        input: port(0, 1),
        output: port(MAPS, 0),
        sequence: None,
        steps: (0..MAPS).map(&mut step).collect(),
    }
}

#[test]
fn verification_and_digest_hold_no_second_copy_of_the_weights() {
    let plan = plan();
    // the peak so far becomes what is resident now
    if std::fs::write("/proc/self/clear_refs", "5").is_err() {
        return;
    }
    let before = peak_bytes();
    assert!(before > WEIGHTS, "{before}");
    let plan = VerifiedPlan::new(plan).expect("sound");
    let digest = *plan.digest();
    let more = peak_bytes() - before;
    assert!(
        more < WEIGHTS / 4,
        "{more} bytes beside {WEIGHTS} of weights"
    );
    assert_eq!(digest, plan.plan().digest());
}

//! The schemes' equalities and their refusals.

use super::*;
use crate::error::Error;

/// Rows of 1 to 40 scores in about [−3, 3].
fn rows() -> Vec<Vec<f64>> {
    let mut state = 7u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((state >> 11) as f64 / (1u64 << 53) as f64 - 0.5) * 6.0
    };
    (1..=40).map(|n| (0..n).map(|_| next()).collect()).collect()
}

fn weights(scheme: impl Scheme, scores: &[f64]) -> Vec<f64> {
    let mut w = vec![f64::NAN; scores.len()];
    scheme.weights(scores, &mut w);
    w
}

fn close(a: &[f64], b: &[f64], tolerance: f64) {
    assert_eq!(a.len(), b.len());
    for (x, y) in a.iter().zip(b) {
        assert!((x - y).abs() <= tolerance, "{a:?}\n{b:?}");
    }
}

fn powers() -> impl Iterator<Item = PowerSoftmax> {
    (2..=12)
        .step_by(2)
        .flat_map(|p| [0.0, 1e-3, 0.5].map(|e| PowerSoftmax::new(p, e).expect("even")))
}

#[test]
fn stable_is_plain() {
    for power in powers() {
        for row in rows() {
            for over in [Denominator::Sum, Denominator::Mean] {
                let power = power.over(over);
                let plain = weights(power.scaled(Scaling::None), &row);
                close(
                    &weights(power.scaled(Scaling::Largest), &row),
                    &plain,
                    1e-12,
                );
            }
        }
    }
}

#[test]
fn stable_takes_what_overflows() {
    let power = PowerSoftmax::new(12, 1e-3).expect("even");
    let row = [1e30, -1e30, 2e30];
    let mut w = [0.0; 3];
    power.scaled(Scaling::None).weights(&row, &mut w);
    assert!(w.iter().any(|w| w.is_nan()), "plain overflows: {w:?}");
    power.weights(&row, &mut w);
    assert!((w[2] - 1.0 / (1.0 + 2.0 * 0.5f64.powi(12))).abs() < 1e-6);
    // far below ε, nothing is left, and nothing breaks
    power.weights(&[1e-30, 0.0], &mut w[..2]);
    assert_eq!(w[..2], [0.0, 0.0]);
    power.weights(&[f64::NAN, 1.0], &mut w[..2]);
    assert!(w[0].is_nan() && w[1].is_nan());
}

#[test]
fn length_agnostic_is_plain_with_scaled_epsilon() {
    for power in powers() {
        for row in rows() {
            let n = row.len() as f64;
            let same = PowerSoftmax::new(power.exponent(), power.epsilon() * n).expect("even");
            let mean = power.over(Denominator::Mean);
            close(&weights(mean, &row), &weights(same, &row), 1e-12);
            // the divisor that a circuit inverts, with the public 1/n in single precision
            let by_hand: Vec<f64> = row
                .iter()
                .map(|x| x.powi(power.exponent() as i32) * share(row.len()) / mean.divisor(&row))
                .collect();
            close(&weights(mean, &row), &by_hand, 1e-7);
        }
    }
}

#[test]
fn rows_sum_to_their_share() {
    for power in powers() {
        for row in rows() {
            let s: f64 = row.iter().map(|x| x.powi(power.exponent() as i32)).sum();
            let total: f64 = weights(power, &row).iter().sum();
            assert!((total - s / (power.epsilon() + s)).abs() < 1e-12);
            assert!((power.divisor(&row) - power.epsilon() - s).abs() <= 1e-12 * (1.0 + s));
        }
    }
    for row in rows() {
        let total: f64 = weights(Softmax, &row).iter().sum();
        assert!((total - 1.0).abs() < 1e-12);
    }
    assert_eq!(
        weights(PowerSoftmax::new(4, 0.0).expect("even"), &[0.0, 0.0]),
        [0.0, 0.0]
    );
}

#[test]
fn masked_keys_weigh_nothing() {
    // masks multiply the scores before the power
    for power in powers() {
        for row in rows() {
            let visible = row.len().div_ceil(2);
            let masked: Vec<f64> = (0..row.len())
                .map(|j| if j < visible { row[j] } else { 0.0 })
                .collect();
            let w = weights(power, &masked);
            assert!(w[visible..].iter().all(|&w| w == 0.0));
            close(&w[..visible], &weights(power, &row[..visible]), 1e-12);
        }
    }
}

#[test]
fn refusals() {
    for odd in [0, 1, 3, 5, 7, 13, 14, 258] {
        let e = PowerSoftmax::new(odd, 0.0).expect_err("refused");
        assert!(matches!(e, Error::Exponent(had) if had == odd), "{e}");
        let text = format!(
            r#"{{"power":{{"exponent":{odd},"epsilon":0.1,"denominator":"sum","scaling":"none"}}}}"#
        );
        assert!(serde_json::from_str::<AttentionScheme>(&text).is_err());
    }
    for epsilon in [-1e-3, f64::NAN, f64::INFINITY] {
        assert!(matches!(
            PowerSoftmax::new(4, epsilon),
            Err(Error::Epsilon(_))
        ));
    }
    let scheme = AttentionScheme::Power(
        PowerSoftmax::new(6, 1e-3)
            .expect("even")
            .over(Denominator::Mean)
            .scaled(Scaling::None),
    );
    let text = serde_json::to_string(&scheme).expect("writes");
    assert_eq!(
        serde_json::from_str::<AttentionScheme>(&text).expect("reads"),
        scheme
    );
}

#[test]
fn masks_by_position() {
    let mask = Mask {
        valid: Some(3),
        ..Mask::CAUSAL
    };
    let seen = |m: Mask| (0..5).map(|i| m.visible(i, 5)).collect::<Vec<_>>();
    assert_eq!(seen(Mask::CAUSAL), [1, 2, 3, 4, 5]);
    assert_eq!(seen(Mask::FULL), [5; 5]);
    assert_eq!(seen(mask), [1, 2, 3, 3, 3]);
}

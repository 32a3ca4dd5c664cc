//! Activation functions and their derivatives.

use crate::PART;
use rayon::prelude::*;

/// An elementwise function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// max(x, 0); the derivative at 0 is 0.
    Relu,
    /// x·sigmoid(x).
    Silu,
    /// x·Φ(x) with the exact Φ(x) = (1 + erf(x/√2))/2, not the tanh form.
    Gelu,
    /// 1/(1 + e^(−x)).
    Sigmoid,
    /// tanh x.
    Tanh,
}

/// y = f(x).
pub fn function_forward(f: Function, x: &[f32], y: &mut [f32]) {
    assert_eq!(
        x.len(),
        y.len(),
        "function_forward: x and y differ in length"
    );
    y.par_chunks_mut(PART)
        .zip(x.par_chunks(PART))
        .for_each(|(y, x)| {
            for (y, &x) in y.iter_mut().zip(x) {
                *y = value(f, x);
            }
        });
}

/// dx = dy·f′(x); overwrites dx.
pub fn function_backward(f: Function, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    assert!(
        x.len() == dx.len() && dy.len() == dx.len(),
        "function_backward: x, dy and dx differ in length"
    );
    dx.par_chunks_mut(PART)
        .zip(x.par_chunks(PART).zip(dy.par_chunks(PART)))
        .for_each(|(dx, (x, dy))| {
            for (dx, (&x, &dy)) in dx.iter_mut().zip(x.iter().zip(dy)) {
                *dx = dy * derivative(f, x);
            }
        });
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Φ(x), the distribution function of the standard normal.
fn phi(x: f32) -> f32 {
    // Abramowitz and Stegun 7.1.26 is not accurate enough; the series and the continued fraction are, in f64
    let z = f64::from(x) / std::f64::consts::SQRT_2;
    let a = z.abs();
    let tail = if a < 2.5 {
        let (mut term, mut sum, mut n) = (a, a, 0.0);
        while term > 1e-18 * sum {
            n += 1.0;
            term *= 2.0 * a * a / (2.0 * n + 1.0);
            sum += term;
        }
        1.0 - 2.0 / std::f64::consts::PI.sqrt() * (-a * a).exp() * sum
    } else {
        let mut fraction = a;
        for n in (1..=60).rev() {
            fraction = a + f64::from(n) / 2.0 / fraction;
        }
        (-a * a).exp() / (fraction * std::f64::consts::PI.sqrt())
    };
    (if z < 0.0 {
        tail / 2.0
    } else {
        1.0 - tail / 2.0
    }) as f32
}

fn value(f: Function, x: f32) -> f32 {
    match f {
        Function::Relu => {
            if x < 0.0 {
                0.0
            } else {
                x
            }
        }
        Function::Silu => x * sigmoid(x),
        Function::Gelu => x * phi(x),
        Function::Sigmoid => sigmoid(x),
        Function::Tanh => x.tanh(),
    }
}

fn derivative(f: Function, x: f32) -> f32 {
    match f {
        Function::Relu => {
            if x > 0.0 {
                1.0
            } else {
                0.0
            }
        }
        Function::Silu => {
            let s = sigmoid(x);
            s + x * s * (1.0 - s)
        }
        Function::Gelu => phi(x) + x * (-0.5 * x * x).exp() * 0.398_942_3,
        Function::Sigmoid => {
            let s = sigmoid(x);
            s * (1.0 - s)
        }
        Function::Tanh => {
            let t = x.tanh();
            1.0 - t * t
        }
    }
}

//! Activation functions and their derivatives.
//!
//! Each is a few branch-free operations on one float, written so that the compiler makes vectors of them in every kernel's loop.

use crate::PART;
use crate::instructions::{Vector, fused, instructions, kernels};
use rayon::prelude::*;

/// An elementwise function.
#[derive(Clone, Copy, Debug)]
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
    /// Any other function, one float after another in double precision: correct, and slower than the ones above.
    Other {
        /// f(x).
        value: fn(f64) -> f64,
        /// f′(x).
        derivative: fn(f64) -> f64,
    },
}

impl Function {
    /// The function of this name, in lower case, that has a kernel of its own.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "relu" => Self::Relu,
            "silu" => Self::Silu,
            "gelu" => Self::Gelu,
            "sigmoid" => Self::Sigmoid,
            "tanh" => Self::Tanh,
            _ => return None,
        })
    }
}

/// y = f(x).
pub fn function_forward(f: Function, x: &[f32], y: &mut [f32]) {
    assert_eq!(
        x.len(),
        y.len(),
        "function_forward: x and y differ in length"
    );
    let instructions = instructions();
    y.par_chunks_mut(PART)
        .zip(x.par_chunks(PART))
        .for_each(|(y, x)| forward(instructions, f, x, y));
}

/// dx = dy·f′(x); overwrites dx.
pub fn function_backward(f: Function, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    assert!(
        x.len() == dx.len() && dy.len() == dx.len(),
        "function_backward: x, dy and dx differ in length"
    );
    let instructions = instructions();
    dx.par_chunks_mut(PART)
        .zip(x.par_chunks(PART).zip(dy.par_chunks(PART)))
        .for_each(|(dx, (x, dy))| backward(instructions, f, x, dy, dx));
}

kernels! {
    fn forward<V>(f: Function, x: &[f32], y: &mut [f32]) {
        macro_rules! each {
            ($value:expr) => {
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = $value(x);
                }
            };
        }
        match f {
            Function::Relu => each!(|x: f32| if x < 0.0 { 0.0 } else { x }),
            Function::Silu => each!(|x: f32| x * sigmoid::<V>(x).0),
            Function::Gelu => each!(|x: f32| x * normal::<V>(x).0),
            Function::Sigmoid => each!(|x: f32| sigmoid::<V>(x).0),
            Function::Tanh => each!(tanh::<V>),
            Function::Other { value, .. } => each!(|x: f32| value(f64::from(x)) as f32),
        }
    }
}

kernels! {
    fn backward<V>(f: Function, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        macro_rules! each {
            ($derivative:expr) => {
                for (dx, (&x, &dy)) in dx.iter_mut().zip(x.iter().zip(dy)) {
                    *dx = dy * $derivative(x);
                }
            };
        }
        match f {
            Function::Relu => each!(|x: f32| if x > 0.0 { 1.0 } else { 0.0 }),
            Function::Silu => each!(|x: f32| {
                let (s, slope) = sigmoid::<V>(x);
                fused::<V>(x, slope, s)
            }),
            Function::Gelu => each!(|x: f32| {
                let (phi, density) = normal::<V>(x);
                fused::<V>(x, density, phi)
            }),
            Function::Sigmoid => each!(|x: f32| sigmoid::<V>(x).1),
            Function::Tanh => each!(|x: f32| {
                let t = tanh::<V>(x);
                fused::<V>(-t, t, 1.0)
            }),
            Function::Other { derivative, .. } => {
                each!(|x: f32| derivative(f64::from(x)) as f32);
            }
        }
    }
}

/// (2^n, e^r − 1) with e^x = 2^n·e^r, for −87 ≤ x ≤ 0; relative error of e^x below 2e-7, of e^x − 1 as well where n = 0.
#[inline(always)]
fn exp_parts<V: Vector>(x: f32) -> (f32, f32) {
    // adding 1.5·2^23 rounds to an integer, which is then in the low bits
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts: the first has nine bits, so that n·HIGH is exact even unfused
    const HIGH: f32 = 0.693_359_4;
    const LOW: f32 = (std::f64::consts::LN_2 - HIGH as f64) as f32;
    let shifted = fused::<V>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = fused::<V>(n, -LOW, fused::<V>(n, -HIGH, x));
    // Taylor: |r| ≤ ln 2/2, the first term left out is below 6e-9
    let mut p = 1.0 / 5040.0;
    p = fused::<V>(p, r, 1.0 / 720.0);
    p = fused::<V>(p, r, 1.0 / 120.0);
    p = fused::<V>(p, r, 1.0 / 24.0);
    p = fused::<V>(p, r, 1.0 / 6.0);
    p = fused::<V>(p, r, 0.5);
    let p = fused::<V>(p * r, r, r);
    (f32::from_bits(shifted.to_bits().wrapping_add(127) << 23), p)
}

/// The least argument whose exponential is normal; below it, 0 is taken.
const LEAST: f32 = -87.0;

/// e^x for x ≤ 0.
#[inline(always)]
pub(crate) fn exp<V: Vector>(x: f32) -> f32 {
    let (scale, p) = exp_parts::<V>(x);
    // a NaN is not below and stays
    if x < LEAST {
        0.0
    } else {
        fused::<V>(scale, p, scale)
    }
}

/// The sigmoid function and its derivative.
#[inline(always)]
fn sigmoid<V: Vector>(x: f32) -> (f32, f32) {
    let e = exp::<V>(-x.abs());
    let q = 1.0 / (1.0 + e);
    let small = e * q;
    (if x < 0.0 { small } else { q }, small * q)
}

/// tanh x, with a small relative error near 0 too.
#[inline(always)]
fn tanh<V: Vector>(x: f32) -> f32 {
    let argument = -2.0 * x.abs();
    let (scale, p) = exp_parts::<V>(argument);
    // e^(−2|x|) − 1
    let less = if argument < LEAST {
        -1.0
    } else {
        fused::<V>(scale, p, scale - 1.0)
    };
    (-less / (2.0 + less)).copysign(x)
}

/// Φ(x) and the density φ(x) of the standard normal distribution.
///
/// The tail is 1 − Φ(a) = e^(−a²/2)·t·h(t) with t = 1/(1 + 0.35·a). h is interpolated at the nine Chebyshev nodes of t's range for
/// 0 ≤ a ≤ 14.2, where the tail leaves the normal floats: relative error 4e-8. Coefficients are of powers of t moved to [−1, 1].
#[inline(always)]
fn normal<V: Vector>(x: f32) -> (f32, f32) {
    const SLOPE: f64 = 0.35;
    const FIRST: f64 = 1.0 / (1.0 + SLOPE * 14.2);
    const SCALE: f32 = (2.0 / (1.0 - FIRST)) as f32;
    const SHIFT: f32 = (-(1.0 + FIRST) / (1.0 - FIRST)) as f32;
    const H: [f32; 9] = [
        2.840_092_8e-1,
        1.632_304_3e-1,
        5.219_211e-2,
        3.686_106_3e-3,
        -3.006_762_8e-3,
        -3.860_3e-4,
        2.844_415_4e-4,
        1.718_845_1e-5,
        -2.676_762e-5,
    ];
    let a = x.abs();
    let t = 1.0 / fused::<V>(a, SLOPE as f32, 1.0);
    let s = fused::<V>(t, SCALE, SHIFT);
    let mut h = H[8];
    for k in (0..8).rev() {
        h = fused::<V>(h, s, H[k]);
    }
    let e = exp::<V>(-0.5 * a * a);
    let tail = e * t * h;
    (if x < 0.0 { tail } else { 1.0 - tail }, e * 0.398_942_3)
}

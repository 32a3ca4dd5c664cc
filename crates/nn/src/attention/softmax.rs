//! Softmax.

use super::{Circuit, Division, Scheme};
use crate::Result;

/// `w_j = e^(x_j)/Σ e^(x_i)`, computed after subtracting the largest score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Softmax;

impl Scheme for Softmax {
    fn weights(&self, scores: &[f64], weights: &mut [f64]) {
        let largest = scores
            .iter()
            .fold(scores[0], |m, &x| if x > m { x } else { m });
        let mut sum = 0.0;
        for (w, &x) in weights.iter_mut().zip(scores) {
            *w = (x - largest).exp();
            sum += *w;
        }
        for w in weights {
            *w /= sum;
        }
    }

    fn division(&self) -> std::result::Result<Option<Division>, &'static str> {
        Err("softmax has no polynomial form here; take Power-Softmax and train the network with it")
    }

    fn numerators(&self, scores: &[f64], numerators: &mut [f64]) {
        self.weights(scores, numerators);
    }

    fn divisor(&self, _: &[f64]) -> f64 {
        1.0
    }

    fn marked(&self, score: f64, mark: f64) -> f64 {
        if mark == 0.0 {
            f64::NEG_INFINITY
        } else {
            score
        }
    }

    fn passes_over_zeros(&self) -> bool {
        false
    }

    fn circuit<C: Circuit>(&self, _: &mut C, scores: C::Value) -> Result<C::Value> {
        // never asked, since there is no division to choose a program for
        Ok(scores)
    }
}

impl std::fmt::Display for Softmax {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("softmax")
    }
}

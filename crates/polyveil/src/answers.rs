//! Answers beside those in the clear.

use crate::error::Result;
use crate::network;
use runtime::VerifiedPlan;
use runtime::report::Answer;

/// Encrypted logits beside the clear ones.
pub(crate) fn answer_of(logits: Vec<f64>, truth: &[f64], labels: &[String]) -> Answer {
    let best = |v: &[f64]| (!v.is_empty()).then(|| task::scores::argmax(v));
    Answer {
        class: best(&logits),
        label: best(&logits).map(|c| network::label(labels, c)),
        clear_class: best(truth),
        max_abs_error: Some(largest_error(&logits, truth)),
        logits,
    }
}

/// The largest difference; infinite where one is NaN, which would be no maximum.
pub(crate) fn largest_error(answer: &[f64], truth: &[f64]) -> f64 {
    answer.iter().zip(truth).fold(0.0, |most, (a, t)| {
        let e = (a - t).abs();
        if e.is_nan() {
            f64::INFINITY
        } else {
            e.max(most)
        }
    })
}

/// Checks a run's predicted peak against the limit and what is free.
///
/// # Errors
/// A lack of memory.
pub fn require_memory(plan: &VerifiedPlan, peak: u64, max_memory: Option<u64>) -> Result<()> {
    let what = format!("this plan for {}", plan.plan().description.name);
    Ok(runtime::machine::require_memory(&what, peak, max_memory)?)
}

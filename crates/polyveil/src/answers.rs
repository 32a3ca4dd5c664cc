//! Answers beside those in the clear.

use crate::error::{Error, Result};
use crate::network;
use runtime::VerifiedPlan;
use runtime::report::Answer;
use task::{Outputs, Task};

/// An encrypted answer beside the clear one.
pub(crate) fn answer_of(values: Vec<f64>, truth: &[f64], task: &Task) -> Answer {
    let labels = task.outputs().and_then(Outputs::classes);
    let best = |v: &[f64]| labels.map(|_| task::scores::argmax(v));
    let class = best(&values);
    let mut answer = Answer {
        answers: task.outputs().map_or("tokens", Outputs::kind),
        class,
        label: class.zip(labels).map(|(c, l)| network::label(l, c)),
        clear_class: best(truth),
        max_abs_error: Some(largest_error(&values, truth)),
        ..Answer::default()
    };
    match task.outputs() {
        Some(Outputs::Classes(_) | Outputs::Labels(_)) | None => answer.logits = values,
        Some(_) => answer.values = values,
    }
    answer
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
    let enough = runtime::machine::require_memory(&what, peak, max_memory);
    enough.map_err(|e| at_its_peak(plan, e))
}

/// A lack of memory for a run, with the layer that takes most of what is not keys.
pub(crate) fn at_its_peak(plan: &VerifiedPlan, mut e: runtime::Error) -> Error {
    if let runtime::Error::Memory { what, .. } = &mut e
        && let Ok(Some(step)) = plan.peak_step()
    {
        *what += &format!(", at its peak in layer {},", step.layer);
    }
    e.into()
}

//! A network's answer on an encrypted input beside its answer in the clear, with everything in one process.

use crate::Result;
use crate::answer_of;
use crate::error::{Error, Help};
use crate::progress::{Listener, Say, duration};
use crate::session::{Precision, Session};
use nn::{PolyGraph, Tensor};
use runtime::{ClearTwin, Prediction, Report, VerifiedPlan};
use std::sync::Arc;
use std::time::Instant;
use task::{Picture, Task};

/// Encrypts an input, runs the plan, decrypts, and reports.
///
/// # Errors
/// An input that leaves the calibrated ranges; those of [`Session`].
pub fn demonstrate(
    graph: &PolyGraph,
    plan: &Arc<VerifiedPlan>,
    prediction: Prediction,
    input: &Tensor,
    precision: Precision,
    tell: Listener<'_>,
) -> Result<Report> {
    // what is compared with: the network in f64, and the plan in f64
    let oracle = graph.evaluate(input)?;
    if let Some(outside) = oracle.outside.first() {
        let what = format!("this input leaves the calibrated ranges in the clear ({outside})");
        return Err(Error::refused(what, Help::Calibrate));
    }
    let oracle = oracle.output.into_values();
    let start = Instant::now();
    let clear = ClearTwin::new(plan, &plan.client_spec(), input.values())?.finish()?;
    tell.note(format_args!(
        "in the clear in {}: what is run encrypted differs from the polynomial network by at most {:.1e} without encryption",
        duration(start.elapsed().as_secs_f64()),
        crate::largest_error(&clear, &oracle)
    ));
    let session = Session::new(plan.clone(), graph, prediction, tell)?;
    let outcome = session.run(input.values(), precision, tell)?;
    let task = crate::network::task_of_graph(graph)?;
    let found = answer_of(outcome.values, &oracle, &task);
    Ok(Report::new(
        plan,
        session.prediction(),
        &outcome.measured,
        found,
    ))
}

/// A picture's bytes as the network of this task takes them, fitted to a width and height where these are given.
///
/// # Errors
/// What is no picture, or one of another size than the network's.
pub fn encoded(bytes: &[u8], fitted: Option<(usize, usize)>, task: &Task) -> Result<Tensor> {
    let mut picture = Picture::from_bytes(bytes)?;
    if let Some((width, height)) = fitted {
        picture = picture.fit(width, height);
    }
    Ok(task.encode(&task::Input::Picture(&picture))?)
}

//! What simulated runs ([`crate::noise`]) say of an answer's error.

use serde::{Deserialize, Serialize};

/// How many deviations of simulated errors are stated. An error in slots is a product of two Gaussians, P(> t deviations) ≈ exp(−2t)
/// (`docs/noise.md`): 2^−46 for each value of an answer.
const DEVIATIONS: f64 = 16.0;
/// How many times the largest simulated error is stated at least: what divides has tails of its own.
const LARGEST: f64 = 4.0;
/// An output's deviation is judged by its own errors and by as many of all outputs' mean square.
const COMMON: f64 = 2.0;
/// What simulated runs say of an answer's error, network units.
///
/// Of each kind of error the root mean square of every value over the runs is taken, and of the largest of them `DEVIATIONS` times are stated. It is the word
/// of whoever compiled the plan; who has the plan can simulate it again (`docs/noise.md`, which says with what probability it holds).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Simulated {
    /// What encryption adds to the plan's exact answer.
    pub error: f64,
    /// The difference of the plan's exact answer and the network's; none where the runs do not show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<f64>,
    /// Runs.
    pub runs: u32,
}

impl Simulated {
    /// From the errors of each run, and where they are known the differences between plan and network for each. None where one of them is no number, or
    /// there is no error at all.
    pub fn of(errors: &[Vec<f64>], network: Option<&[Vec<f64>]>) -> Option<Self> {
        let error = stated(errors)?;
        let network = match network {
            Some(n) => Some(stated(n)?),
            None => None,
        };
        let runs = u32::try_from(errors.len()).ok()?;
        (error > 0.0).then_some(Self {
            error,
            network,
            runs,
        })
    }
    /// Refuses what no simulation gives.
    pub(crate) fn check(&self) -> std::result::Result<(), String> {
        let network = self.network.unwrap_or(0.0);
        let fits = self.error.is_finite() && self.error > 0.0 && network.is_finite();
        match fits && network >= 0.0 && self.runs > 0 {
            true => Ok(()),
            false => Err(format!(
                "errors of {} and {network} in {} simulated runs",
                self.error, self.runs
            )),
        }
    }
}

impl std::fmt::Display for Simulated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plural = if self.runs == 1 { "" } else { "s" };
        write!(
            f,
            "{DEVIATIONS} deviations in {} simulated run{plural}",
            self.runs
        )
    }
}

/// What is stated of errors of several runs; none where one is no number.
fn stated(runs: &[Vec<f64>]) -> Option<f64> {
    let outputs = runs.first()?.len();
    if outputs == 0 || runs.iter().any(|r| r.len() != outputs) {
        return None;
    }
    let all = || runs.iter().flatten();
    if all().any(|e| !e.is_finite()) {
        return None;
    }
    let mean = all().map(|e| e * e).sum::<f64>() / (outputs * runs.len()) as f64;
    let own = |o: usize| runs.iter().map(|r| r[o] * r[o]).sum::<f64>();
    let most = (0..outputs).map(own).fold(0.0, f64::max);
    let deviation = ((most + COMMON * mean) / (runs.len() as f64 + COMMON)).sqrt();
    let largest = all().fold(0.0f64, |m, e| m.max(e.abs()));
    Some((DEVIATIONS * deviation).max(LARGEST * largest))
}

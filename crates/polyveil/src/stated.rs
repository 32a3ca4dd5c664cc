//! What the error of an answer is stated to be, before anything is encrypted, where a plan's own bound says little: simulated on what is compiled
//! (`docs/noise.md`, "What is stated").

use crate::error::Result;
use nn::{PolyGraph, Shape, Tensor};
use rayon::prelude::*;
use runtime::noise::Simulated;
use runtime::{Noise, VerifiedPlan};
use task::Task;

/// A bound of at most this share of the largest value is stated as it is.
const SMALL: f64 = 1.0 / 16384.0;
/// How many times fewer runs look at such a bound.
const FEWER: usize = 8;
/// How often an input that leaves an interval is drawn nearer to the middle of its range, each time to half of the distance.
const NEARER: i32 = 2;

/// Samples to simulate on.
pub(crate) enum Samples {
    /// Of calibration, in turn.
    Examples(Vec<Tensor>),
    /// Made up by number, drawn nearer to the middle of their range so often.
    Made(Box<dyn Fn(u64, i32) -> Result<Tensor> + Sync>),
}

impl Samples {
    /// What a network's task brings along, or random ones within the input's range.
    pub(crate) fn of(graph: &PolyGraph) -> Result<Self> {
        let examples = match Task::of(graph.metadata())? {
            Some(task) => task.examples()?,
            None => Vec::new(),
        };
        if !examples.is_empty() {
            return Ok(Self::Examples(examples));
        }
        let (shape, range) = (graph.input_shape(), graph.range(graph.input().id()));
        let (low, high) = range.map_or((-1.0, 1.0), |r| (r.min, r.max));
        Ok(Self::Made(Box::new(move |number, nearer| {
            let mut values = match shape {
                Shape::Image { .. } => picture(shape, number)?.into_values(),
                other => zoo::random::uniform(number, "input", other.len(), 1.0)
                    .into_iter()
                    .map(f64::from)
                    .collect(),
            };
            let most = values.iter().fold(f64::MIN_POSITIVE, |m, v| m.max(v.abs()));
            let (middle, half) = (0.5 * (low + high), 0.5 * (high - low));
            let factor = half / most * 0.5f64.powi(nearer);
            values.iter_mut().for_each(|v| *v = middle + factor * *v);
            Ok(Tensor::new(shape, values)?)
        })))
    }
    /// An input, and what the network makes of it where no value leaves its interval.
    fn number(&self, graph: &PolyGraph, number: u64) -> Result<(Tensor, Option<Vec<f64>>)> {
        let mut nearer = 0;
        loop {
            let x = match self {
                Self::Examples(all) => all[number as usize % all.len()].clone(),
                Self::Made(make) => make(number, nearer)?,
            };
            let clear = graph.evaluate(&x)?;
            let within = clear.outside.is_empty();
            if within || nearer == NEARER || matches!(self, Self::Examples(_)) {
                return Ok((x, within.then(|| clear.output.into_values())));
            }
            nearer += 1;
        }
    }
}

/// A random picture: smooth in the large, noisy in the small.
pub(crate) fn picture(shape: Shape, seed: u64) -> Result<Tensor> {
    let count = shape.len();
    let noise = zoo::random::uniform(seed, "picture", count, 1.0);
    let waves = zoo::random::uniform(seed, "waves", 12, 1.0);
    let [channels, height, width] = shape.dims()[..] else {
        return Err("a picture has channels, rows and columns".into());
    };
    let mut values = Vec::with_capacity(count);
    for c in 0..channels {
        for y in 0..height {
            for x in 0..width {
                let at = [y as f64 / height as f64, x as f64 / width as f64];
                let mut v = 0.5 * f64::from(noise[values.len()]);
                for k in 0..3 {
                    let wave = &waves[4 * k..4 * k + 4];
                    let phase = f64::from(wave[0]) * at[0] + f64::from(wave[1]) * at[1];
                    v += 0.6 * (9.0 * phase + 3.0 * f64::from(wave[2]) + c as f64).sin();
                }
                values.push(v);
            }
        }
    }
    Ok(Tensor::new(shape, values)?)
}

/// The plan, stating what simulated runs say where its bound says little, or where they say more: the bound takes what a matrix mixes as independent,
/// and weights that somebody chose can undo that.
pub(crate) fn stating(
    plan: VerifiedPlan,
    graph: &PolyGraph,
    inputs: &Samples,
) -> Result<VerifiedPlan> {
    let bounds = plan.answer_bounds();
    let small = bounds.of_network() <= SMALL * bounds.magnitude;
    let fewer = if small { FEWER } else { 1 };
    let runs = plan.runs_to_simulate().div_ceil(fewer);
    Ok(match simulated(&plan, graph, inputs, runs)? {
        Some(simulated) if !small || simulated.error > bounds.error => plan.stating(simulated),
        _ => plan,
    })
}

/// What so many simulated runs say of a plan's error, and of its difference to the network in the clear; none where they diverge.
pub(crate) fn simulated(
    plan: &VerifiedPlan,
    graph: &PolyGraph,
    inputs: &Samples,
    runs: usize,
) -> Result<Option<Simulated>> {
    let noise = Noise::of(plan)?;
    let batch = plan.plan().input.batch as u64;
    let run = |run: u64| -> Result<(Vec<f64>, Option<Vec<f64>>)> {
        let (mut values, mut clear) = (Vec::new(), Some(Vec::new()));
        for number in run * batch..(run + 1) * batch {
            let (x, exact) = inputs.number(graph, number)?;
            values.extend_from_slice(x.values());
            clear = clear.zip(exact).map(|(mut all, one)| {
                all.extend(one);
                all
            });
        }
        let [exact, noisy] = plan.simulate_both(&values, (&noise, run + 1))?;
        let apart = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect();
        let network = clear.map(|clear| apart(&exact, &clear));
        Ok((apart(&noisy, &exact), network))
    };
    let runs: Vec<_> = (0..runs as u64)
        .into_par_iter()
        .map(run)
        .collect::<Result<_>>()?;
    let (errors, network): (Vec<_>, Vec<_>) = runs.into_iter().unzip();
    let network: Option<Vec<_>> = network.into_iter().collect();
    Ok(Simulated::of(&errors, network.as_deref()))
}

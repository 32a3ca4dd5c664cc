//! What the error of an answer is stated to be, before anything is encrypted, where a plan's own bound says little: simulated on what is compiled
//! (`docs/noise.md`, "What is stated").

use crate::calibrate::Calibrating;
use crate::error::{Error, Help, Result};
use crate::network::{divides, in_coefficients};
use nn::{PolyGraph, Shape, Tensor};
use rayon::prelude::*;
use runtime::noise::{SideBySide, Simulated};
use runtime::{Noise, VerifiedPlan};
use task::Task;

/// A bound of at most this share of the largest value is stated as it is, where no weights are integers.
const SMALL: f64 = 1.0 / 16384.0;
/// The same where a network divides and inputs are made up: errors depend on the divisor, and these may miss the smallest ones, which rows that somebody has do not.
const DIVIDED: f64 = 1.0 / 64.0;
/// How many times fewer runs look at such a bound.
const FEWER: usize = 8;
/// How many times as far as an interval values may reach: sines, integer weights.
const BEYOND: f64 = 1.001;
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
        let (shape, (low, high)) = (graph.input_shape(), input_range(graph));
        Ok(Self::Made(Box::new(move |number, nearer| {
            let mut values = made_up(shape, number)?.into_values();
            let most = values.iter().fold(f64::MIN_POSITIVE, |m, v| m.max(v.abs()));
            let (middle, half) = (0.5 * (low + high), 0.5 * (high - low));
            let factor = half / most * 0.5f64.powi(nearer);
            values.iter_mut().for_each(|v| *v = middle + factor * *v);
            Ok(Tensor::new(shape, values)?)
        })))
    }
    /// The largest share of the largest value at which a plan's bound is stated.
    fn stated_share(&self, plan: &VerifiedPlan) -> f64 {
        match self {
            Self::Made(_) if divides(plan) => DIVIDED,
            _ => SMALL,
        }
    }
    /// Inputs whose values are the same everywhere, where inputs are made up: a kernel that leaves nothing of them does so but where part of it lies beside.
    fn even(&self, graph: &PolyGraph) -> Result<Vec<Tensor>> {
        let Self::Made(_) = self else {
            return Ok(Vec::new());
        };
        let (shape, (low, high)) = (graph.input_shape(), input_range(graph));
        let of = |level: f64| Tensor::new(shape, vec![level; shape.len()]);
        let all = [low, high, 0.5 * (low + high)].map(of);
        Ok(all.into_iter().collect::<std::result::Result<_, _>>()?)
    }
    /// An input, and what the network makes of it where no value leaves its interval.
    pub(crate) fn number(
        &self,
        graph: &PolyGraph,
        number: u64,
    ) -> Result<(Tensor, Option<Vec<f64>>)> {
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

/// Where an input's values lie.
fn input_range(graph: &PolyGraph) -> (f64, f64) {
    let range = graph.range(graph.input().id());
    range.map_or((-1.0, 1.0), |r| (r.min, r.max))
}

/// An input that nobody has: a picture, or numbers from −1 to 1.
pub(crate) fn made_up(shape: Shape, number: u64) -> Result<Tensor> {
    if let Shape::Image { .. } = shape {
        return picture(shape, number);
    }
    let values = zoo::random::uniform(number, "input", shape.len(), 1.0);
    let values = values.into_iter().map(f64::from);
    Ok(Tensor::new(shape, values.collect())?)
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

/// The plan, stating what simulated runs say where its bound says little or weights are integers, and where they say more: the bound takes what a matrix
/// mixes as independent, and weights that somebody chose can undo that. Refuses one of which they say that what lies at places without a value leaves
/// intervals: it would refuse inputs, or raise the alarm, though none of the network's values does.
pub(crate) fn stating(
    plan: VerifiedPlan,
    graph: &PolyGraph,
    inputs: &Samples,
) -> Result<VerifiedPlan> {
    let bounds = plan.answer_bounds();
    let integers = in_coefficients(&plan);
    let small = bounds.of_network() <= inputs.stated_share(&plan) * bounds.magnitude && !integers;
    let fewer = if small { FEWER } else { 1 };
    let count = plan.runs_to_simulate().div_ceil(fewer);
    let (simulated, mut beyond) = runs(&plan, graph, inputs, count)?;
    if integers && beyond.is_none() {
        beyond = beyond_on(&plan, graph, &inputs.even(graph)?)?;
    }
    if let Some((layer, times)) = beyond {
        // an interval is as wide as what was seen and its margins, which the network's file does not say
        let (wider, usual) = (0.5 * (times - 1.0), Calibrating::default().margin);
        let margin = |had: f64| (100.0 * (had * times + wider)).ceil() / 100.0;
        let what = format!(
            "layer {layer}: on inputs whose values keep their intervals, what lies at places without a value reaches {times:.2} times as far as the interval, and inputs would be refused: intervals must be wider by {wider:.3} of their width at both ends, which is a margin of {} where it was {usual}, of {} where it was {}",
            margin(usual),
            margin(5.0 * usual),
            5.0 * usual
        );
        let help = match integers {
            true => Help::WidenOrSlots,
            false => Help::Widen,
        };
        return Err(Error::refused(what, help));
    }
    Ok(match simulated {
        Some(simulated) if !small || simulated.error > bounds.error => plan.stating(simulated),
        _ => plan,
    })
}

/// What so many simulated runs say of a plan's error, and of its difference to the network in the clear; none where they diverge.
pub(crate) fn simulated(
    plan: &VerifiedPlan,
    graph: &PolyGraph,
    inputs: &Samples,
    count: usize,
) -> Result<Option<Simulated>> {
    Ok(runs(plan, graph, inputs, count)?.0)
}

/// A layer whose operands go beyond their range, and by how many times.
type Beyond = Option<(String, f64)>;
/// Errors of a run by encryption, and of the plan beside the network in the clear where its values keep their intervals; what went beyond.
type Run = (Vec<f64>, (Option<Vec<f64>>, Beyond));

/// The same, and which layer's operands go farthest beyond their range on inputs whose values keep their intervals.
fn runs(
    plan: &VerifiedPlan,
    graph: &PolyGraph,
    inputs: &Samples,
    count: usize,
) -> Result<(Option<Simulated>, Beyond)> {
    let noise = Noise::of(plan)?;
    let batch = plan.plan().input.batch as u64;
    let run = |run: u64| -> Result<Run> {
        let (mut values, mut clear) = (Vec::new(), Some(Vec::new()));
        for number in run * batch..(run + 1) * batch {
            let (x, exact) = inputs.number(graph, number)?;
            values.extend_from_slice(x.values());
            clear = clear.zip(exact).map(|(mut all, one)| {
                all.extend(one);
                all
            });
        }
        let SideBySide {
            exact,
            noisy,
            beyond,
        } = plan.simulate_both(&values, (&noise, run + 1))?;
        let apart = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect();
        let beyond = beyond.filter(|b| clear.is_some() && b.1 > BEYOND);
        let network = clear.map(|clear| apart(&exact, &clear));
        Ok((apart(&noisy, &exact), (network, beyond)))
    };
    let runs: Vec<_> = (0..count as u64)
        .into_par_iter()
        .map(run)
        .collect::<Result<_>>()?;
    let (errors, rest): (Vec<_>, Vec<_>) = runs.into_iter().unzip();
    let (network, beyond): (Vec<_>, Vec<_>) = rest.into_iter().unzip();
    // those whose inputs kept the network's intervals
    let network: Vec<_> = network.into_iter().flatten().collect();
    let network = (!network.is_empty()).then_some(network);
    let beyond = (beyond.into_iter().flatten()).max_by(|a, b| a.1.total_cmp(&b.1));
    Ok((Simulated::of(&errors, network.as_deref()), beyond))
}

/// Which layer's operands go farthest beyond their range on those of these inputs whose values keep their intervals.
fn beyond_on(plan: &VerifiedPlan, graph: &PolyGraph, inputs: &[Tensor]) -> Result<Beyond> {
    let noise = Noise::of(plan)?;
    let batch = plan.plan().input.batch;
    let of = |x: &Tensor| -> Result<Beyond> {
        if !graph.evaluate(x)?.outside.is_empty() {
            return Ok(None);
        }
        let run = plan.simulate_both(&x.values().repeat(batch), (&noise, 0))?;
        Ok(run.beyond.filter(|b| b.1 > BEYOND))
    };
    let all: Vec<Beyond> = inputs.par_iter().map(of).collect::<Result<_>>()?;
    Ok((all.into_iter().flatten()).max_by(|a, b| a.1.total_cmp(&b.1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::Activation;
    use compiler::Layers;
    use nn::calibrate::FitOptions;
    use nn::lower::{Options, adapt};
    use nn::{Conv2d, Network, Nonlinearity, Op, Padding, Parameter};
    use runtime::Operation;
    use runtime::folding::Term;

    /// What becomes of a plan of a convolution that calibration saw even pictures through, with layers there.
    fn compiled(padding: usize, margin: f64, layers: Layers) -> Result<VerifiedPlan> {
        compiled_on(padding, margin, layers, |_, seen| {
            Ok(Samples::Examples(seen))
        })
    }

    /// The same, simulated on other inputs than calibration's.
    fn compiled_on(
        padding: usize,
        margin: f64,
        layers: Layers,
        samples: impl FnOnce(&PolyGraph, Vec<Tensor>) -> Result<Samples>,
    ) -> Result<VerifiedPlan> {
        let mut b = Network::builder();
        let shape = Shape::image(1, 8, 8);
        let x = b.input("input", shape)?;
        // of an even picture nothing is left, but where a part of the kernel lies beside it
        let mut weights = vec![-0.125; 9];
        weights[4] = 1.0;
        let conv = Conv2d {
            padding: Padding::same(padding),
            ..Conv2d::new(Parameter::new("conv", [1, 1, 3, 3], weights)?)
        };
        let x = b.add("conv", Op::Conv2d(conv), &[x])?;
        let silu = Op::Elementwise(Nonlinearity::Activation(Activation::Silu));
        let x = b.add("act", silu, &[x])?;
        let x = b.add("pool", Op::GlobalAvgPool, &[x])?;
        let graph = b.finish(x)?;
        let even = |i: u64| {
            let noise = zoo::random::uniform(i, "noise", shape.len(), 0.05);
            let level = 0.2 * (i as f64 - 4.5);
            let values = noise.into_iter().map(|v| level + f64::from(v)).collect();
            Tensor::new(shape, values)
        };
        let inputs = (0..10)
            .map(even)
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let activations = FitOptions {
            degree: 4,
            margin,
            ..FitOptions::default()
        };
        let options = Options {
            activations,
            ..Options::default()
        };
        let graph = adapt(&graph, &inputs, &options)?.graph;
        let target = compiler::Target {
            parameters: Some(match layers {
                Layers::Slots => ckks::ParametersSpec::toy(11),
                _ => ckks::ParametersSpec::toy_coefficients(10, 3)?,
            }),
            layers,
            ..compiler::Target::default()
        };
        let plan = crate::compiled(&graph, &target)?;
        let samples = samples(&graph, inputs)?;
        stating(plan, &graph, &samples)
    }

    #[test]
    fn what_lies_beside_a_picture_must_keep_the_interval() {
        let inside = Layers::Coefficients;
        let refused = compiled(0, 0.1, inside).expect_err("inputs would be refused");
        let said = refused.to_string();
        assert!(
            said.contains("layer act") && said.contains("places without a value"),
            "{said}"
        );
        // both of what helps does
        assert_eq!(refused.help(), Some(Help::WidenOrSlots));
        let margin = said
            .split("a margin of ")
            .nth(1)
            .and_then(|m| m.split(' ').next());
        let margin = margin.and_then(|m| m.parse().ok()).expect("a number");
        compiled(0, margin, inside).expect("what lies there is within intervals as wide");
        compiled(0, 0.1, Layers::Slots).expect("nothing lies there");
        let plan = compiled(1, 0.1, inside).expect("the picture's own border is calibrated on");
        assert!(plan.answer_bounds().simulated.is_some());
    }

    /// Calibration saw even pictures, of which no made-up one is: those that are the same everywhere are looked at, too.
    #[test]
    fn what_lies_beside_even_pictures_is_looked_at() {
        let made = |margin| {
            compiled_on(0, margin, Layers::Coefficients, |graph, _| {
                Samples::of(graph)
            })
        };
        let refused = made(0.1).expect_err("inputs would be refused").to_string();
        assert!(refused.contains("places without a value"), "{refused}");
        let plan = made(40.0).expect("intervals as wide as what lies there");
        assert!(!crate::network::is_unseen_beside(&plan));
        // where none keeps the intervals, that is said
        let shape = Shape::image(1, 8, 8);
        let point = move |_, _| {
            let mut values = vec![0.0; shape.len()];
            values[27] = 1.0;
            Ok(Tensor::new(shape, values)?)
        };
        let unseen = compiled_on(1, 0.1, Layers::Coefficients, |_, _| {
            Ok(Samples::Made(Box::new(point)))
        });
        let unseen = unseen.expect("compiles");
        assert!(
            unseen
                .answer_bounds()
                .simulated
                .is_none_or(|s| s.network.is_none())
        );
    }

    /// A norm of rows that calibration saw even, of a row that is as far from 0 in the mean and not even.
    #[test]
    fn what_a_norm_squares_keeps_no_interval() -> Result<()> {
        let mut b = Network::builder();
        let shape = Shape::Vector(8);
        let x = b.input("input", shape)?;
        let norm = nn::Norm {
            kind: nn::NormKind::Layer,
            scale: Parameter::new("scale", [8], vec![1.0; 8])?,
            epsilon: 0.05,
            bias: None,
        };
        let x = b.add("norm", Op::Norm(norm), &[x])?;
        let dense = nn::Linear {
            weight: Parameter::new(
                "dense",
                [2, 8],
                (0..16).map(|i| 0.1 * i as f32).collect::<Vec<_>>(),
            )?,
            bias: None,
        };
        let x = b.add("dense", Op::Linear(dense), &[x])?;
        let graph = b.finish(x)?;
        let row = move |values: [f64; 8]| Tensor::new(shape, values.to_vec());
        let regular = [1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0];
        let even = [row(regular)?, row(regular.map(|v| -0.9 * v))?];
        let uneven = row([2.6, -1.0, -0.4, -0.2, -0.2, -0.2, -0.2, -0.4])?;
        let options = Options {
            input: Some(nn::Range {
                min: -3.0,
                max: 3.0,
            }),
            ..Options::default()
        };
        let graph = adapt(&graph, &even, &options)?.graph;
        assert!(graph.evaluate(&uneven)?.outside.is_empty());
        let target = compiler::Target {
            parameters: Some(ckks::ParametersSpec::toy_levelled(10, 16)),
            ..compiler::Target::default()
        };
        let compiled = || crate::compiled(&graph, &target);
        stating(compiled()?, &graph, &Samples::Examples(vec![uneven]))?;
        // rows that are made up may have no small variance, by which errors are largest: the bound is stated up to larger ones
        let made = Samples::Made(Box::new(move |_, _| Ok(row(regular)?)));
        let bounds = stating(compiled()?, &graph, &made)?.answer_bounds();
        assert_eq!(bounds.stated_error(), bounds.error);
        let share = |of: &Samples| Ok::<_, Error>(of.stated_share(&compiled()?));
        assert_eq!(share(&made)?, DIVIDED);
        assert_eq!(share(&Samples::Examples(vec![row(regular)?]))?, SMALL);
        Ok(())
    }

    #[test]
    fn a_plan_whose_weights_leave_memory_is_the_same() {
        let plan = compiled(1, 0.1, Layers::Coefficients).expect("compiles");
        let held = |t: &Term| match t {
            Term::Kernel { weights, .. } => weights.held_bytes(),
            Term::Multiple { .. } => 0,
        };
        let integers = |of: &VerifiedPlan| -> u64 {
            let weights = |o: &Operation| match o {
                Operation::Weigh { terms, .. } => terms.iter().map(held).sum(),
                _ => 0,
            };
            of.plan().steps.iter().map(|s| weights(&s.operation)).sum()
        };
        assert!(integers(&plan) > 0);
        let mut said = String::new();
        let mut tell = |p: crate::Progress<'_>| said += p.message;
        let stored = crate::network::through_files(&plan, &mut tell).expect("writes and reads");
        assert_eq!(integers(&stored), 0);
        assert_eq!(stored.plan().digest(), plan.plan().digest());
        assert!(said.contains("TMPDIR"), "{said}");
    }
}

//! Power-Softmax beside softmax by its usual approximation, on the same engine: levels, bootstraps, predicted time (2410.09457, Table 5, at our size).
//!
//! ```text
//! cargo run --release -p polyveil-compiler --example attention -- [LENGTH [RANGE [ENCRYPTED]]]
//! ```
//! One attention of stories260K's size (64 channels, 8 heads, LENGTH tokens, causal), random weights such that scores reach ±RANGE on the inputs;
//! every interval is what eight inputs show, widened by a quarter; divisions to 12 bits by the program of fewest levels (`approx::iteration`).
//!
//! - *Power-Softmax*, p = 4, ε = 0.1, over the mean: as `nn::lower` writes it.
//! - *exp and division*: `e^(s − max)` by a polynomial of degree 8 and squarings, max a public bound of all scores, then one division (as NEXUS).

#[path = "../tests/support/mod.rs"]
mod support;

use approx::iteration::{self, Function, INPUT, Program, Step};
use approx::{Polynomial, remez};
use nn::approximations::{Approximations, Substitute};
use nn::attention::{AttentionScheme, Denominator, Mask, PowerSoftmax};
use nn::calibrate::calibrate;
use nn::lower::{Numerator, Options, adapt};
use nn::{
    Attention, Boundary, Conv2d, Graph, Network, NetworkBuilder, NodeId, Op, Parameter, PolyGraph,
    Repeat, Shape, Tensor, Unfold,
};
use polyveil_compiler::{Target, compile, summarise};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use rayon::prelude::*;
use runtime::{Basis, Client, Prediction, Server, Stopwatch, VerifiedPlan};
use std::sync::Arc;
use std::time::Instant;
use support::Random;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const WIDTH: usize = 64;
const HEADS: usize = 8;
const BITS: f64 = 12.0;
const BUDGET: u32 = 40;
/// By which factor less one what the inputs show is widened.
const MARGIN: f64 = 0.25;
/// Of the exponential.
const DEGREE: usize = 8;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, default: f64| -> std::result::Result<f64, std::num::ParseFloatError> {
        arguments.get(i).map_or(Ok(default), |a| a.parse())
    };
    let (length, range) = (number(0, 32.0)? as usize, number(1, 16.0)?);
    let encrypted = number(2, 0.0)? > 0.0;
    let mut random = Random(5);
    let inputs: Vec<Tensor> = (0..8)
        .map(|_| random.tensor(Shape::image(WIDTH, 1, length)))
        .collect();
    let mut weights: Vec<Parameter> = (0..3)
        .map(|_| random.parameter(&[WIDTH, WIDTH, 1, 1], (3.0 / WIDTH as f64).sqrt()))
        .collect();
    // queries are scaled to the range
    let c = Circuit::new(&weights, length)?;
    let scores = c.scores;
    let (low, high) = hull(&c.network.finish(scores)?.into(), &inputs)?;
    let factor = (range / high.max(-low)) as f32;
    let scaled: Vec<f32> = weights[0].values().iter().map(|w| w * factor).collect();
    weights[0] = Parameter::new("q", [WIDTH, WIDTH, 1, 1], scaled)?;

    println!("{length} tokens, scores within ±{range}");
    println!(
        "| attention | levels | bootstraps | keys, GB | peak, GB | predicted CPU s | predicted s, 2 threads | measured CPU s, s | largest error |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    let (graph, levels) = power_softmax(&weights, &inputs, length)?;
    report("Power-Softmax, p = 4", graph, levels, &inputs, encrypted)?;
    let (graph, levels) = softmax(&weights, &inputs, length, range)?;
    report("exp and division", graph, levels, &inputs, encrypted)
}

/// By `nn::lower`; levels from the scores on.
fn power_softmax(
    weights: &[Parameter],
    inputs: &[Tensor],
    length: usize,
) -> Result<(PolyGraph, u32)> {
    let mut b = Graph::builder();
    let x = b.input("tokens", Shape::image(WIDTH, 1, length))?;
    let mut qkv = Vec::new();
    for (name, w) in ["q", "k", "v"].iter().zip(weights) {
        qkv.push(b.add(*name, Op::Conv2d(Conv2d::new(w.clone())), &[x])?);
    }
    let scheme = PowerSoftmax::new(4, 0.1)?.over(Denominator::Mean);
    let attention = Attention {
        heads: HEADS,
        kv_heads: HEADS,
        scale: 1.0,
        mask: Mask::CAUSAL,
        scheme: AttentionScheme::Power(scheme),
    };
    let y = b.add("attention", Op::Attention(attention), &qkv)?;
    let options = Options {
        bits: BITS,
        budget: BUDGET,
        margin: MARGIN,
        numerator: Numerator::Apart,
        ..Options::default()
    };
    let lowered = adapt(&b.finish(y)?, inputs, &options)?;
    let division: u32 = lowered
        .approximations
        .by_node
        .values()
        .map(|piece| match piece {
            Substitute::Program(p) => p.depth(),
            Substitute::Polynomial(p) => p.depth(),
        })
        .sum();
    // two for the power, one for the shares, one for the numerator
    Ok((lowered.graph, division + 4))
}

/// Levels from the scores on.
fn softmax(
    weights: &[Parameter],
    inputs: &[Tensor],
    length: usize,
    range: f64,
) -> Result<(PolyGraph, u32)> {
    let mut c = Circuit::new(weights, length)?;
    let most = range * (1.0 + MARGIN);
    // e^((s − most)/2^k), its argument in [−4, 0]
    let squarings = (2.0 * most / 4.0).log2().ceil().max(0.0) as u32;
    let part = f64::from(squarings).exp2();
    let e = remez(|s| ((s - most) / part).exp(), (-most, most), DEGREE)?.polynomial;
    let mut levels = e.depth() + 1 + squarings;
    let mut y = c.add(Op::Elementwise(e), &[c.scores])?;
    y = c.mul(y, c.mask)?;
    for _ in 0..squarings {
        y = c.mul(y, y)?;
    }
    let weighed = c.mul(y, c.values)?;
    let (sum, numerator) = (c.sum(y)?, c.sum(weighed)?);
    let reciprocal = c.reciprocal(sum, inputs, &mut levels)?;
    let answer = c.mul(reciprocal, numerator)?;
    Ok((
        calibrated(c.network.finish(answer)?.into(), inputs)?,
        levels + 1,
    ))
}

/// An attention from tokens to scores, and what more is put on them.
struct Circuit {
    network: NetworkBuilder<Polynomial>,
    nodes: usize,
    /// Every channel of a head has the head's score, a row for each distance.
    scores: NodeId,
    values: NodeId,
    /// 1 where a key is seen.
    mask: NodeId,
    length: usize,
}

impl Circuit {
    fn new(weights: &[Parameter], length: usize) -> Result<Self> {
        let mut network = Network::builder();
        let x = network.input("tokens", Shape::image(WIDTH, 1, length))?;
        let mut c = Self {
            network,
            nodes: 0,
            scores: x,
            values: x,
            mask: x,
            length,
        };
        let project = |c: &mut Self, w: &Parameter| c.add(Op::Conv2d(Conv2d::new(w.clone())), &[x]);
        let (q, k, v) = (
            project(&mut c, &weights[0])?,
            project(&mut c, &weights[1])?,
            project(&mut c, &weights[2])?,
        );
        let unfold = Op::Unfold(Unfold {
            rows: length,
            boundary: Boundary::Causal,
        });
        let keys = c.add(unfold.clone(), &[k])?;
        c.values = c.add(unfold, &[v])?;
        let queries = c.add(Op::Repeat(Repeat { rows: length }), &[q])?;
        let products = c.mul(queries, keys)?;
        let head = WIDTH / HEADS;
        c.scores = c.add(ones(WIDTH, head, 1, HEADS)?, &[products])?;
        let row = |d: usize| (0..length).map(move |i| f32::from(u8::from(d <= i)));
        let mask: Vec<f32> = (0..length).flat_map(row).collect();
        let shape = Shape::image(WIDTH, length, length);
        let mask = Parameter::new("mask", shape.dims(), mask.repeat(WIDTH))?;
        c.mask = c.add(Op::Constant(shape, mask), &[])?;
        Ok(c)
    }

    fn add(&mut self, op: Op<Polynomial>, inputs: &[NodeId]) -> Result<NodeId> {
        self.nodes += 1;
        Ok(self
            .network
            .add(format!("node{}", self.nodes), op, inputs)?)
    }

    fn mul(&mut self, x: NodeId, y: NodeId) -> Result<NodeId> {
        self.add(Op::Mul, &[x, y])
    }

    fn affine(&mut self, x: NodeId, factor: f64, shift: f64) -> Result<NodeId> {
        const WIDE: f64 = (1u64 << 40) as f64;
        let p = Polynomial::from_monomial(&[shift, factor], (-WIDE, WIDE))?;
        self.add(Op::Elementwise(p), &[x])
    }

    /// Over the distances.
    fn sum(&mut self, x: NodeId) -> Result<NodeId> {
        self.add(ones(WIDTH, 1, self.length, WIDTH)?, &[x])
    }

    /// 1/x on what the inputs show; its depth is added to `levels`.
    fn reciprocal(&mut self, x: NodeId, inputs: &[Tensor], levels: &mut u32) -> Result<NodeId> {
        let (low, high) = hull(&self.network.clone().finish(x)?.into(), inputs)?;
        let interval = (low / (1.0 + MARGIN), high * (1.0 + MARGIN));
        let program: Program = iteration::choose(Function::Reciprocal, interval, BITS, BUDGET)
            .map_err(|e| format!("divisors from {low:.1e} to {high:.1e}: {e}"))?;
        *levels += program.depth();
        let (scale, shift) = program.input();
        let input = self.affine(x, scale, shift)?;
        let mut values = vec![input; 2];
        debug_assert_eq!(INPUT, 0);
        for step in program.steps() {
            let value = match step {
                Step::Polynomial { of, polynomial } => {
                    self.add(Op::Elementwise(polynomial.clone()), &[values[*of]])?
                }
                Step::Sum { terms, constant } => {
                    let (factor, first) = terms[0];
                    let first = self.affine(values[first], factor, *constant)?;
                    self.terms(first, &terms[1..], &values)?
                }
                Step::Multiply {
                    factor,
                    left,
                    right,
                    add,
                    constant,
                } => {
                    let product = self.mul(values[*left], values[*right])?;
                    let first = self.affine(product, f64::from(*factor), *constant)?;
                    self.terms(first, add, &values)?
                }
            };
            values.push(value);
        }
        self.affine(values[values.len() - 1], program.output(), 0.0)
    }

    fn terms(
        &mut self,
        first: NodeId,
        terms: &[(f64, usize)],
        values: &[NodeId],
    ) -> Result<NodeId> {
        let mut sum = first;
        for &(factor, v) in terms {
            let term = self.affine(values[v], factor, 0.0)?;
            sum = self.add(Op::Add, &[sum, term])?;
        }
        Ok(sum)
    }
}

/// Sums over so many channels of a group and rows; every channel has its group's.
fn ones(channels: usize, from: usize, rows: usize, groups: usize) -> Result<Op<Polynomial>> {
    let weight = Parameter::new(
        "ones",
        [channels, from, rows, 1],
        vec![1.0; channels * from * rows],
    )?;
    Ok(Op::Conv2d(Conv2d {
        groups,
        ..Conv2d::new(weight)
    }))
}

/// Between which values all outputs lie.
fn hull(graph: &PolyGraph, inputs: &[Tensor]) -> Result<(f64, f64)> {
    let mut hull = (f64::INFINITY, f64::NEG_INFINITY);
    for x in inputs {
        for &v in graph.evaluate(x)?.output.values() {
            hull = (hull.0.min(v), hull.1.max(v));
        }
    }
    Ok(hull)
}

fn calibrated(graph: PolyGraph, inputs: &[Tensor]) -> Result<PolyGraph> {
    let seen = calibrate(
        graph.network(),
        &Approximations::default(),
        inputs.par_iter().map(|x| Ok(x.clone())),
    )?;
    Ok(graph.with_ranges(seen.ranges)?)
}

fn report(
    name: &str,
    graph: PolyGraph,
    levels: u32,
    inputs: &[Tensor],
    encrypted: bool,
) -> Result<()> {
    let plan = Arc::new(compile(&graph, &Target::default())?);
    let bootstraps = summarise(plan.plan()).bootstraps;
    let facts = plan.facts();
    let (keys, peak) = (facts.key_file_bytes, facts.peak_bytes);
    let prediction = |threads| Prediction::new(&plan, Basis::shipped(), threads);
    let (cpu, wall) = (prediction(1).cpu_seconds, prediction(2).seconds);
    let measured = if encrypted {
        run(plan.clone(), &graph, &inputs[0])?
    } else {
        "– | –".into()
    };
    println!(
        "| {name} | {levels} | {bootstraps} | {:.2} | {:.2} | {cpu:.1} | {wall:.1} | {measured} |",
        keys as f64 / 1e9,
        peak as f64 / 1e9,
    );
    Ok(())
}

/// On ciphertexts, against the clear twin.
fn run(plan: Arc<VerifiedPlan>, graph: &PolyGraph, input: &Tensor) -> Result<String> {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let client = Client::new(
        plan.client_file(graph.metadata().task.clone().unwrap_or_default())?,
        &mut rng,
    );
    let keys = client.write_evaluation_keys(Vec::new(), "keys", &mut rng, &mut |_, _| {})?;
    let server = Server::read(plan, &keys[..], "keys", &mut |_, _| {})?;
    drop(keys);
    let encrypted = client.encrypt(input.values(), &mut rng)?;
    let mut line = String::new();
    // twice, since the first run fetches fresh pages
    for _ in 0..2 {
        let mut watch = Stopwatch::default();
        let start = Instant::now();
        let answer = client.decrypt(&server.run(server.start(&encrypted)?, &mut watch)?)?;
        let wall = start.elapsed().as_secs_f64();
        let cpu: f64 = watch.steps.values().map(|s| s.1).sum();
        let want = graph.evaluate(input)?.output;
        let errors = answer.iter().zip(want.values()).map(|(a, b)| (a - b).abs());
        line = format!("{cpu:.1}, {wall:.1} | {:.1e}", errors.fold(0.0, f64::max));
    }
    Ok(line)
}

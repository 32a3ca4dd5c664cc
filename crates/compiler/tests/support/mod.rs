//! Random networks, and an interpreter of plans that knows nothing of levels and noise.
#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod transformer;

use approx::{Activation, Polynomial};
use ckks::BlockMap;
use nn::calibrate::FitOptions;
use nn::lower::{Options, Outliers, adapt};
use nn::{
    BatchNorm, Conv2d, Graph, Linear, Network, NetworkBuilder, NodeId, Nonlinearity, Op, Padding,
    Parameter, PolyGraph, Shape, Tensor,
};
use polyveil_compiler::{CostTable, Target, compile};
use runtime::{Operation, Plan, VerifiedPlan};

/// The same network with polynomials in the place of activations, one after the other.
pub(crate) fn replaced(
    graph: &Graph,
    polynomials: impl IntoIterator<Item = Polynomial>,
) -> PolyGraph {
    let mut polynomials = polynomials.into_iter();
    let next = |_: &str, f| match f {
        Nonlinearity::Activation(_) => Ok(polynomials.next().expect("one for each activation")),
        Nonlinearity::Polynomial(p) => Ok(p),
    };
    let nodes = graph.clone().try_map::<Polynomial>(next);
    PolyGraph::from(nodes.expect("polynomials alone"))
}

/// What the alarm takes of a plan's CPU time, predicted.
pub(crate) fn alarm_share(plan: &VerifiedPlan, cost: &CostTable) -> f64 {
    let seconds = plan.predicted_steps(cost);
    let of = plan.plan().steps.iter().zip(&seconds);
    let alarm = of.filter(|(s, _)| s.work() == runtime::Work::Alarm);
    alarm.map(|(_, s)| s).sum::<f64>() / seconds.iter().sum::<f64>()
}

/// Of a plan with a bootstrap the alarm takes 2 % of the CPU time at most.
pub(crate) fn little_alarm(name: &str, plan: &VerifiedPlan, cost: &CostTable) {
    let (share, bootstraps) = (alarm_share(plan, cost), plan.facts().bootstraps);
    println!(
        "{name}: {bootstraps} bootstraps, the alarm takes {:.2} %",
        100.0 * share
    );
    let little = 0.0 < share && share <= 0.02;
    assert!(bootstraps == 0 || little, "{name}: {share}");
}

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// Uniform in [−1, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
    pub(crate) fn parameter(&mut self, shape: &[usize], size: f64) -> Parameter {
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| (size * self.uniform()) as f32)
            .collect();
        Parameter::new("random", shape, values).expect("finite")
    }
    pub(crate) fn positive(&mut self, n: usize) -> Parameter {
        let values: Vec<f32> = (0..n)
            .map(|_| (1.0 + 0.5 * self.uniform()) as f32)
            .collect();
        Parameter::new("random", [n], values).expect("finite")
    }
    pub(crate) fn tensor(&mut self, shape: Shape) -> Tensor {
        Tensor::new(shape, (0..shape.len()).map(|_| self.uniform()).collect()).expect("fits")
    }
    pub(crate) fn convolution(
        &mut self,
        from: usize,
        to: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Conv2d {
        let size = (3.0 / (from * kernel * kernel) as f64).sqrt();
        Conv2d {
            stride: (stride, stride),
            padding: Padding::same(padding),
            ..Conv2d::new(self.parameter(&[to, from, kernel, kernel], size))
        }
    }
    pub(crate) fn norm(&mut self, n: usize) -> BatchNorm {
        BatchNorm {
            scale: self.positive(n),
            bias: self.parameter(&[n], 0.3),
            mean: self.parameter(&[n], 0.3),
            variance: self.positive(n),
            epsilon: 1e-5,
        }
    }
    pub(crate) fn dense(&mut self, from: usize, to: usize) -> Linear {
        Linear {
            weight: self.parameter(&[to, from], (3.0 / from as f64).sqrt()),
            bias: Some(self.parameter(&[to], 0.3)),
        }
    }
}

pub(crate) type Builder = NetworkBuilder<Nonlinearity>;

/// conv → bn, named.
pub(crate) fn conv_bn(
    b: &mut Builder,
    random: &mut Random,
    name: &str,
    x: NodeId,
    conv: Conv2d,
) -> NodeId {
    let channels = conv.out_channels();
    let y = b.add(name, Op::Conv2d(conv), &[x]).expect("valid");
    b.add(
        format!("{name}.bn"),
        Op::BatchNorm(random.norm(channels)),
        &[y],
    )
    .expect("valid")
}

pub(crate) fn act(b: &mut Builder, name: &str, x: NodeId, a: Activation) -> NodeId {
    b.add(name, Op::Elementwise(Nonlinearity::Activation(a)), &[x])
        .expect("valid")
}

/// A ResNet for small pictures: stages of `blocks` basic blocks with shortcut A.
pub(crate) fn resnet(
    random: &mut Random,
    size: usize,
    widths: &[usize],
    blocks: usize,
    classes: usize,
) -> Graph {
    let mut b = Network::builder();
    let x = b
        .input("input", Shape::image(3, size, size))
        .expect("valid");
    let conv = random.convolution(3, widths[0], 3, 1, 1);
    let x = conv_bn(&mut b, random, "conv1", x, conv);
    let mut x = act(&mut b, "act1", x, Activation::Silu);
    let mut from = widths[0];
    for (stage, &width) in widths.iter().enumerate() {
        for block in 0..blocks {
            let name = format!("layer{}.{block}", stage + 1);
            let stride = if block == 0 && stage > 0 { 2 } else { 1 };
            let conv = random.convolution(from, width, 3, stride, 1);
            let y = conv_bn(&mut b, random, &format!("{name}.conv1"), x, conv);
            let y = act(&mut b, &format!("{name}.act1"), y, Activation::Silu);
            let conv = random.convolution(width, width, 3, 1, 1);
            let y = conv_bn(&mut b, random, &format!("{name}.conv2"), y, conv);
            let shortcut = if stride == 1 {
                x
            } else {
                shortcut_a(&mut b, &name, x, width)
            };
            let y = b
                .add(format!("{name}.add"), Op::Add, &[y, shortcut])
                .expect("valid");
            x = act(&mut b, &format!("{name}.act2"), y, Activation::Silu);
            from = width;
        }
    }
    let x = b.add("pool", Op::GlobalAvgPool, &[x]).expect("valid");
    let x = b.add("flatten", Op::Flatten, &[x]).expect("valid");
    let x = b
        .add("linear", Op::Linear(random.dense(from, classes)), &[x])
        .expect("valid");
    b.finish(x).expect("valid")
}

/// Every second row and column, zero channels on both sides.
pub(crate) fn shortcut_a(b: &mut Builder, name: &str, x: NodeId, width: usize) -> NodeId {
    let Shape::Image {
        channels,
        height,
        width: columns,
    } = b.shape(x)
    else {
        panic!("a picture")
    };
    let every = |n: usize, step| nn::AxisSlice {
        begin: 0,
        end: n,
        step,
    };
    let slice = nn::Slice {
        axes: vec![every(channels, 1), every(height, 2), every(columns, 2)],
    };
    let y = b
        .add(format!("{name}.slice"), Op::Slice(slice), &[x])
        .expect("valid");
    let more = width - channels;
    let pad = nn::Pad {
        channels: (more / 2, more - more / 2),
        spatial: Padding::default(),
    };
    b.add(format!("{name}.pad"), Op::Pad(pad), &[y])
        .expect("valid")
}

/// The polynomial twin, calibrated on random inputs.
pub(crate) fn twin(
    graph: &Graph,
    random: &mut Random,
    inputs: usize,
    degree: usize,
) -> (PolyGraph, Vec<Tensor>) {
    let data: Vec<Tensor> = (0..inputs)
        .map(|_| random.tensor(graph.input().shape()))
        .collect();
    let options = Options {
        activations: FitOptions {
            degree,
            margin: 0.3,
            ..FitOptions::default()
        },
        outliers: Outliers::Keep,
        ..Options::default()
    };
    let graph = adapt(graph, &data, &options).expect("finite").graph;
    (graph, data)
}

/// Applies a map by its definition.
pub(crate) fn apply(map: &BlockMap, xs: &[&[f64]]) -> Vec<Vec<f64>> {
    let n = map.slots();
    let mut ys = vec![vec![0.0; n]; map.outputs()];
    for t in map.terms() {
        let x = xs[t.input];
        for (j, y) in ys[t.output].iter_mut().enumerate() {
            *y += t.values.at(j).re * x[(j + t.giant + t.baby) % n % x.len()];
        }
    }
    for y in &mut ys {
        for &f in map.folds() {
            *y = (0..n).map(|j| y[j] + y[(j + f) % n]).collect();
        }
    }
    ys
}

/// Real parts, and imaginary parts where two values are joined.
type Complex = (Vec<f64>, Option<Vec<f64>>);

/// Runs a plan on as many inputs as it takes at a time, or fewer; checks periods, intervals and bootstraps on the way.
pub(crate) fn run(plan: &Plan, inputs: &[Tensor]) -> Vec<Vec<f64>> {
    let batch = plan.input.batch;
    let mut registers: Vec<Option<Complex>> = Vec::new();
    let put = |registers: &mut Vec<Option<Complex>>, r: usize, v: Complex| {
        if registers.len() <= r {
            registers.resize(r + 1, None);
        }
        assert!(registers[r].is_none(), "register {r} is written twice");
        registers[r] = Some(v);
    };
    for (c, &r) in plan.input.registers.iter().enumerate() {
        let mut v = vec![0.0; plan.input.slots];
        for b in 0..batch {
            let input = &inputs[b % inputs.len()];
            for (&(ciphertext, slot), x) in plan.input.places.iter().zip(input.values()) {
                if ciphertext as usize == c {
                    v[slot as usize * batch + b] = x / plan.input.unit;
                }
            }
        }
        put(&mut registers, r, (v, None));
    }
    for step in &plan.steps {
        let read = |r: usize| registers[r].clone().expect("written before");
        let real = |r: usize| read(r).0;
        let largest = |v: &[f64]| v.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        let within = |v: &[f64], limit: f64| {
            assert!(
                largest(v) <= limit * (1.0 + 1e-6),
                "{}: {} over {limit}",
                step.layer,
                largest(v)
            )
        };
        let map = |r: usize, limit: f64, f: &dyn Fn(f64) -> f64| {
            let v = real(r);
            within(&v, limit);
            v.into_iter().map(f).collect::<Vec<f64>>()
        };
        let both = |x: usize, y: usize, f: &dyn Fn(f64, f64) -> f64| {
            real(x)
                .into_iter()
                .zip(real(y))
                .map(|(a, b)| f(a, b))
                .collect::<Vec<f64>>()
        };
        let results: Vec<Complex> = match &step.operation {
            Operation::Linear {
                inputs,
                map,
                bias,
                period,
                ..
            } => {
                let xs: Vec<Vec<f64>> = inputs.iter().map(|&r| real(r)).collect();
                let xs: Vec<&[f64]> = xs.iter().map(Vec::as_slice).collect();
                let mut ys = apply(map, &xs);
                for (y, b) in ys.iter_mut().zip(bias) {
                    for (j, v) in y.iter().enumerate() {
                        assert!(
                            (v - y[j % period]).abs() < 1e-5,
                            "{}: period {period} does not hold",
                            step.layer
                        );
                    }
                    y.truncate(*period);
                    if let Some(b) = b {
                        y.iter_mut()
                            .enumerate()
                            .for_each(|(j, v)| *v += b[j % b.len()]);
                    }
                }
                ys.into_iter().map(|y| (y, None)).collect()
            }
            Operation::Polynomial {
                input, polynomial, ..
            } => vec![(map(*input, 1.0, &|x| polynomial.evaluate(x)), None)],
            Operation::Square {
                input, constant, ..
            } => vec![(map(*input, 1.0, &|x| x * x + constant), None)],
            Operation::Quartic {
                input,
                coefficients: [a, b, d, e],
                ..
            } => {
                vec![(
                    map(*input, 1.0, &|x| {
                        (x * x + a * x + b) * (x * x - a * x + d) + e
                    }),
                    None,
                )]
            }
            Operation::Add { left, right, .. } => vec![(both(*left, *right, &|x, y| x + y), None)],
            Operation::Multiply {
                left,
                right,
                more,
                factor,
                add,
                constant,
                bound,
                ..
            } => {
                let (x, y) = (real(*left), real(*right));
                let added: Vec<(f64, Vec<f64>)> = add.iter().map(|&(c, r)| (c, real(r))).collect();
                let length = added
                    .iter()
                    .map(|a| a.1.len())
                    .chain([x.len(), y.len()])
                    .max()
                    .expect("two at least");
                let more: Vec<[Vec<f64>; 2]> =
                    more.iter().map(|p| [real(p.0), real(p.1)]).collect();
                let at = |v: &[f64], j: usize| v[j % v.len()];
                let result: Vec<f64> = (0..length)
                    .map(|j| {
                        let more = more.iter().map(|[x, y]| at(x, j) * at(y, j));
                        f64::from(*factor) * (at(&x, j) * at(&y, j) + more.sum::<f64>())
                            + added.iter().map(|(c, v)| c * at(v, j)).sum::<f64>()
                            + constant
                    })
                    .collect();
                within(&result, *bound);
                vec![(result, None)]
            }
            Operation::Align { input, .. } => vec![read(*input)],
            Operation::Squares { inputs, sum, .. } => {
                let mut y = sum.map_or_else(|| vec![0.0], &real);
                for &(c, r) in inputs {
                    let x = real(r);
                    let length = y.len().max(x.len());
                    let each = |j: usize| y[j % y.len()] + (c * x[j % x.len()]).powi(2);
                    y = (0..length).map(each).collect();
                }
                vec![(y, None)]
            }
            Operation::Fold { input, slots, .. } => {
                let x = real(*input);
                let fold = |j| (j..x.len()).step_by(*slots).map(|k| x[k]).sum();
                vec![((0..(*slots).min(x.len())).map(fold).collect(), None)]
            }
            Operation::Bootstrap {
                inputs, bootstrap, ..
            } => {
                let refresh = |r: &usize| {
                    let v = real(*r);
                    assert_eq!(v.len(), bootstrap.slots);
                    within(&v, 0.5);
                    (v.into_iter().map(|x| bootstrap.gain * x).collect(), None)
                };
                inputs.iter().map(refresh).collect()
            }
            other => panic!("{}: nothing in coefficients here", other.doing()),
        };
        for (r, v) in step.operation.writes().into_iter().zip(results) {
            put(&mut registers, r, v);
        }
    }
    let outputs: Vec<Complex> = plan
        .output
        .registers
        .iter()
        .map(|&r| registers[r].clone().expect("written"))
        .collect();
    beside(plan, &outputs);
    let outputs: Vec<Vec<f64>> = outputs.into_iter().map(|v| v.0).collect();
    let batch = plan.output.batch;
    let one = |b: usize| {
        let places = plan.output.places.iter();
        places
            .map(|&(c, s)| plan.output.unit * outputs[c as usize][s as usize * batch + b])
            .collect()
    };
    (0..inputs.len()).map(one).collect()
}

/// What a client asks of an answer beside its values: imaginary parts and slots that no value has hold no more than the plan says.
fn beside(plan: &Plan, outputs: &[Complex]) {
    let bounds = VerifiedPlan::new(plan.clone())
        .expect("was verified")
        .answer_bounds();
    let (port, unit) = (&plan.output, plan.output.unit.abs());
    let mut used = vec![vec![false; port.slots]; outputs.len()];
    for &(c, s) in &port.places {
        used[c as usize][s as usize * port.batch..][..port.batch].fill(true);
    }
    for ((re, im), used) in outputs.iter().zip(used) {
        assert!(im.is_none() || bounds.imaginary > 0.0);
        for (j, used) in used.iter().enumerate() {
            let most = if *used {
                bounds.magnitude
            } else {
                bounds.unused
            };
            let had = re[j % re.len()].abs() * unit;
            // weights are in single precision
            assert!(
                had <= most + 1e-6 * bounds.magnitude,
                "slot {j}: {had}, at most {most}"
            );
        }
    }
}

/// The level of a plan's input, from the lowest at which values lie in slots.
pub(crate) fn free_level(plan: &Plan) -> usize {
    let parameters = ckks::Parameters::new(plan.parameters.clone()).expect("checked");
    plan.input.level - parameters.floor().index()
}

/// A plan as text.
pub(crate) fn describe(plan: &Plan) -> String {
    polyveil_compiler::describe(&VerifiedPlan::new(plan.clone()).expect("was verified"))
}

/// The level of each register, in the order in which they are written; None for one that no step writes.
///
/// A register whose level would be negative is None, too: no verified plan has one.
fn levels(plan: &Plan) -> Vec<Option<usize>> {
    let count = plan
        .steps
        .iter()
        .flat_map(|s| s.operation.writes())
        .chain(plan.input.registers.iter().copied())
        .max()
        .map_or(0, |m| m + 1);
    let mut levels = vec![None; count];
    for &r in &plan.input.registers {
        levels[r] = Some(plan.input.level);
    }
    for step in &plan.steps {
        let from = operand_level(&step.operation, &levels);
        let to = match &step.operation {
            Operation::Align { level, .. } => from.filter(|f| f >= level).map(|_| *level),
            Operation::Bootstrap { bootstrap, .. } => from.map(|_| bootstrap.target),
            Operation::Fold { level, .. } => from.filter(|f| f >= level).map(|_| *level),
            Operation::Squares {
                inputs, sum, level, ..
            } => {
                // a factor takes a level
                let fits = |(c, r): &(f64, usize)| {
                    levels[*r].is_some_and(|l| l > *level || (l == *level && *c == 1.0))
                };
                let below = level.checked_sub(1);
                let sums = sum.iter().all(|r| levels[*r] == below);
                below.filter(|_| inputs.iter().all(fits) && sums)
            }
            other => from.and_then(|f| f.checked_sub(depth(other))),
        };
        for r in step.operation.writes() {
            levels[r] = to;
        }
    }
    levels
}

/// The lowest level among operands, None if one has none or they differ where they must not.
fn operand_level(operation: &Operation, levels: &[Option<usize>]) -> Option<usize> {
    let reads = operation.reads();
    let first = *levels.get(*reads.first()?)?;
    reads
        .iter()
        .all(|&r| levels.get(r).copied().flatten() == first)
        .then_some(first)
        .flatten()
}

/// Levels that an operation takes.
fn depth(operation: &Operation) -> usize {
    match operation {
        Operation::Linear { .. } | Operation::Square { .. } | Operation::Multiply { .. } => 1,
        Operation::Quartic { .. } => 2,
        Operation::Polynomial { polynomial, .. } => polynomial.depth(),
        _ => 0,
    }
}

/// Compiles, checks that no level is negative, and compares the plan with the oracle on every input, relative to the largest value.
pub(crate) fn agree(graph: &PolyGraph, target: &Target, inputs: &[Tensor], tolerance: f64) -> Plan {
    let plan = compile(graph, target).expect("compiles").plan().clone();
    let levels = levels(&plan);
    for step in &plan.steps {
        for r in step
            .operation
            .reads()
            .into_iter()
            .chain(step.operation.writes())
        {
            assert!(
                levels[r].is_some(),
                "{}: no level is left for register {r}",
                step.layer
            );
        }
    }
    for r in &plan.output.registers {
        assert_eq!(levels[*r], Some(plan.output.level));
    }
    let got = inputs.chunks(plan.input.batch).flat_map(|i| run(&plan, i));
    for (input, got) in inputs.iter().zip(got) {
        let want = graph.evaluate(input).expect("fits").output;
        let size = want.values().iter().fold(1e-3f64, |m, x| m.max(x.abs()));
        assert_eq!(got.len(), want.values().len());
        for (i, (g, w)) in got.iter().zip(want.values()).enumerate() {
            assert!(
                (g - w).abs() <= tolerance * size,
                "value {i}: plan {g}, oracle {w}\n{}",
                describe(&plan)
            );
        }
    }
    plan
}

//! The alarm ([`runtime::alarm`]) on inputs within the intervals and on inputs that leave them: no false alarm, and no wrong answer that neither an alarm
//! nor another test of the answer tells.
//!
//! "Wrong" is off by more than what is stated, from the polynomial network in the clear. What is computed in the clear has the errors of encryption
//! ([`runtime::Noise`]), the sines of bootstraps and their wrapping.

use approx::Activation;
use nn::calibrate::FitOptions;
use nn::lower::{Options, Outliers, adapt};
use nn::{
    AvgPool, Conv2d, Graph, Linear, Network, NetworkBuilder, NodeId, Nonlinearity, Op, Padding,
    Parameter, PolyGraph, Shape, Tensor,
};
use polyveil::compiler::{Layers, Target, Watch, coefficients, compile};
use polyveil::runtime::{self, AnswerTest, ClearTwin, Client, Noise, Server, VerifiedPlan};
use polyveil::session::rng;
use polyveil::{ckks, network};
use rayon::prelude::*;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Numbers in [−1, 1): SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
    fn parameter(&mut self, shape: &[usize], size: f64) -> Parameter {
        let count = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|_| (size * self.next()) as f32).collect();
        Parameter::new("random", shape, values).expect("finite")
    }
}

const SIDE: usize = 8;

/// Convolutions of 4 channels with SiLU behind each, then 3 classes.
fn convolutions(depth: usize) -> Graph {
    let mut random = Random(5);
    let mut b = Network::<Nonlinearity>::builder();
    let mut x = (b.input("input", Shape::image(3, SIDE, SIDE))).expect("valid");
    for i in 0..depth {
        let from = if i == 0 { 3 } else { 4 };
        let size = (3.0 / (9 * from) as f64).sqrt() * 1.4;
        let conv = Conv2d {
            padding: Padding::same(1),
            bias: Some(random.parameter(&[4], 0.3)),
            ..Conv2d::new(random.parameter(&[4, from, 3, 3], size))
        };
        x = (b.add(format!("conv{i}"), Op::Conv2d(conv), &[x])).expect("valid");
        let act = Op::Elementwise(Nonlinearity::Activation(Activation::Silu));
        x = b.add(format!("act{i}"), act, &[x]).expect("valid");
    }
    let pool = AvgPool {
        kernel: (4, 4),
        stride: (4, 4),
        padding: Padding::default(),
        count_include_pad: true,
    };
    x = b.add("pool", Op::AvgPool(pool), &[x]).expect("valid");
    x = b.add("flatten", Op::Flatten, &[x]).expect("valid");
    let linear = Linear {
        weight: random.parameter(&[3, 16], 1.5),
        bias: Some(random.parameter(&[3], 0.2)),
    };
    x = b.add("linear", Op::Linear(linear), &[x]).expect("valid");
    b.finish(x).expect("valid")
}

/// Smooth pictures, each with a black and a white pixel: they cover all values, and yet others leave the intervals.
fn soft(random: &mut Random) -> Vec<f64> {
    let [tint, dx, dy] = [0.3, 0.15, 0.15].map(|most| most * random.next());
    let value = |i: usize, random: &mut Random| {
        let (c, x, y) = (i / 64, (i % SIDE) as f64, (i / SIDE % SIDE) as f64);
        match i % 64 {
            0 => -2.0,
            63 => 2.0,
            _ => tint * (c as f64 - 1.0) + dx * (x - 3.5) + dy * (y - 3.5) + 0.25 * random.next(),
        }
    };
    (0..3 * SIDE * SIDE).map(|i| value(i, random)).collect()
}

/// Pictures that are not like these: checks, stripes, noise, halves, more contrast.
fn odd(random: &mut Random, n: usize) -> Vec<f64> {
    let like = soft(random);
    let strength = 0.6 + 1.4 * random.next().abs();
    let value = |i: usize, random: &mut Random| {
        let (c, x, y) = (i / 64, i % SIDE, i / SIDE % SIDE);
        let on = |yes: bool| if yes { strength } else { -strength };
        match n % 12 {
            0 => strength,
            1 => -strength,
            2 => on((x + y) % 2 == 0),
            3 => on((x / 2 + y / 2) % 2 == 0),
            4 => on(x % 2 == 0),
            5 => on(y % 4 < 2),
            6 => on(random.next() > 0.0),
            7 => strength * random.next(),
            8 => on(x < 4),
            9 => on(c == 0),
            10 => (3.0 * like[i]).clamp(-2.4, 2.4),
            _ => on(y < 4),
        }
    };
    (0..3 * SIDE * SIDE).map(|i| value(i, random)).collect()
}

fn polynomial(graph: &Graph, degree: usize) -> PolyGraph {
    let mut random = Random(9);
    let shape = graph.input().shape();
    let inputs: Vec<Tensor> = (0..200)
        .map(|_| Tensor::new(shape, soft(&mut random)).expect("fits"))
        .collect();
    let options = Options {
        activations: FitOptions {
            degree,
            margin: 0.1,
            ..FitOptions::default()
        },
        outliers: Outliers::Keep,
        ..Options::default()
    };
    adapt(graph, &inputs, &options).expect("finite").graph
}

/// How far an answer may be from the network's.
fn stated(plan: &VerifiedPlan) -> f64 {
    plan.answer_bounds().of_network()
}

/// What became of the inputs.
#[derive(Default, Debug)]
struct Tally {
    inside: usize,
    outside: usize,
    /// Inside, and the alarm told otherwise.
    false_alarms: usize,
    /// Not encrypted, since a value of the input itself is too large; none of the others.
    not_taken: usize,
    alarms: usize,
    /// Outside, refused by the answer's magnitude.
    refused: usize,
    wrong: usize,
    /// Wrong, and nothing tells.
    unseen: usize,
    /// The largest reading inside, of the threshold.
    reading: f64,
}

impl Tally {
    fn plus(mut self, other: Self) -> Self {
        self.inside += other.inside;
        self.outside += other.outside;
        self.false_alarms += other.false_alarms;
        self.not_taken += other.not_taken;
        self.alarms += other.alarms;
        self.refused += other.refused;
        self.wrong += other.wrong;
        self.unseen += other.unseen;
        self.reading = self.reading.max(other.reading);
        self
    }
    /// One input in the clear.
    fn of(
        (plan, graph, noise): (&VerifiedPlan, &PolyGraph, &Noise),
        (x, seed): (&Tensor, u64),
        stated: f64,
    ) -> Self {
        let clear = graph.evaluate(x).expect("fits");
        // of the network's intervals and of the plan's ranges, as `evaluate` has it
        let twin = ClearTwin::new(plan, &plan.client_spec(), x.values());
        let twin = twin.and_then(ClearTwin::finish);
        let inside = clear.outside.is_empty() && twin.is_ok();
        let mut tally = Self {
            inside: usize::from(inside),
            outside: usize::from(!inside),
            ..Self::default()
        };
        let noise = Some((noise, seed));
        let (values, sums) = match plan.simulate_with_alarm(x.values(), noise) {
            Ok(found) => found,
            Err(runtime::Error::Input { .. }) => {
                return Self {
                    not_taken: 1,
                    ..Self::default()
                };
            }
            Err(e) => panic!("{e}"),
        };
        let alarm = plan.plan().description.alarm.as_ref().expect("an alarm");
        let bounds = plan.answer_bounds();
        let most = sums.iter().copied().fold(0.0, f64::max);
        let alarmed = most > alarm.threshold;
        // beyond that an answer is refused, or doubted in words where its error's bound says nothing
        let most_value = bounds.magnitude + bounds.error.min(bounds.magnitude);
        let refused = values.iter().any(|v| v.is_nan() || v.abs() > most_value);
        let pairs = values.iter().zip(clear.output.values());
        let off = pairs.map(|(a, b)| (a - b).abs());
        let off = off.fold(0.0, |m: f64, v| if v <= m { m } else { v });
        let wrong = off.is_nan() || off > stated;
        match inside {
            true => {
                tally.false_alarms = usize::from(alarmed);
                tally.reading = most / alarm.threshold;
                assert!(!wrong, "inside and off by {off}");
            }
            false => {
                tally.alarms = usize::from(alarmed);
                tally.refused = usize::from(refused);
                tally.wrong = usize::from(wrong);
                tally.unseen = usize::from(wrong && !refused && !alarmed);
            }
        }
        tally
    }
    fn all(plan: &VerifiedPlan, graph: &PolyGraph, inputs: &[Tensor], stated: f64) -> Self {
        let noise = Noise::of(plan).expect("verified");
        let each = inputs.par_iter().enumerate();
        each.map(|(i, x)| Self::of((plan, graph, &noise), (x, i as u64), stated))
            .reduce(Self::default, Self::plus)
    }
    fn holds(&self, inside: usize, outside: usize) {
        assert!(
            self.inside >= inside && self.outside >= outside,
            "too few: {self:?}"
        );
        assert_eq!((self.false_alarms, self.unseen), (0, 0), "{self:?}");
        assert!(self.alarms > 0 && self.reading < 0.5, "{self:?}");
    }
}

fn inputs(shape: Shape, inside: usize, outside: usize) -> Vec<Tensor> {
    let mut random = Random(77);
    let like = (0..inside).map(|_| soft(&mut random)).collect::<Vec<_>>();
    let unlike = (0..outside).map(|n| odd(&mut random, n));
    let all = like.into_iter().chain(unlike);
    all.map(|v| Tensor::new(shape, v).expect("fits")).collect()
}

/// The small networks: name, network, plan.
fn networks() -> Vec<(&'static str, PolyGraph, VerifiedPlan)> {
    let target = |parameters| Target {
        parameters: Some(parameters),
        ..Target::default()
    };
    let made = |depth, degree| polynomial(&convolutions(depth), degree);
    let in_slots = |name, graph: PolyGraph, parameters| {
        let plan = compile(&graph, &target(parameters)).expect("compiles");
        (name, graph, plan)
    };
    let coefficients = {
        let graph = made(2, 4);
        let set = ckks::ParametersSpec::toy_coefficients(10, 2).expect("a preset");
        let plan = coefficients::compile(&graph, &target(set)).expect("compiles");
        ("coefficients", graph, plan)
    };
    vec![
        in_slots(
            "levelled",
            made(2, 4),
            ckks::ParametersSpec::toy_levelled(9, 10),
        ),
        in_slots("bootstraps", made(3, 7), ckks::ParametersSpec::toy(9)),
        coefficients,
    ]
}

#[test]
fn in_the_clear_nothing_wrong_is_unseen_and_nothing_right_alarms() {
    for (name, graph, plan) in networks() {
        let shape = graph.input_shape();
        let tally = Tally::all(&plan, &graph, &inputs(shape, 120, 120), stated(&plan));
        println!(
            "{name}: {tally:?}; {}",
            plan.plan().description.alarm.as_ref().expect("one")
        );
        tally.holds(100, 30);
    }
}

/// One 2 or −2 times each channel, the channels in another order, with a SiLU behind: of two values in, each twice, it makes two.
fn turned(b: &mut NetworkBuilder<Nonlinearity>, i: usize, x: NodeId) -> NodeId {
    let sign = if i.is_multiple_of(2) { 2.0 } else { -2.0 };
    let one = |at: usize| {
        if (at / 3 + i / 3) % 3 == at % 3 {
            sign
        } else {
            0.0
        }
    };
    let weights: Vec<f32> = (0..9).map(one).collect();
    let conv = Conv2d::new(Parameter::new("turns", [3, 3, 1, 1], weights).expect("valid"));
    let conv = (b.add(format!("conv{i}"), Op::Conv2d(conv), &[x])).expect("valid");
    let act = Op::Elementwise(Nonlinearity::Activation(Activation::Silu));
    (b.add(format!("act{i}"), act, &[conv])).expect("valid")
}

/// Operands that all lie at the ends of their intervals, in all slots: `before` activations one behind the other, then `count` beside each other, of
/// inputs that are 1 or −1.
fn at_the_ends(
    (before, count): (usize, usize),
    degree: usize,
    target: &Target,
) -> (PolyGraph, VerifiedPlan) {
    let mut random = Random(3);
    let mut b = Network::<Nonlinearity>::builder();
    let mut x = (b.input("input", Shape::image(3, SIDE, SIDE))).expect("valid");
    for i in 0..before {
        x = turned(&mut b, i, x);
    }
    let mut sum = turned(&mut b, before, x);
    for i in before + 1..before + count {
        let one = turned(&mut b, i, x);
        sum = (b.add(format!("add{i}"), Op::Add, &[sum, one])).expect("valid");
    }
    let x = (b.add("flatten", Op::Flatten, &[sum])).expect("valid");
    let linear = Linear {
        weight: random.parameter(&[3, 192], 0.1),
        bias: None,
    };
    let x = b.add("linear", Op::Linear(linear), &[x]).expect("valid");
    let graph = b.finish(x).expect("valid");
    let inputs: Vec<Tensor> = (0..20)
        .map(|_| ends(graph.input().shape(), &mut random))
        .collect();
    let options = Options {
        activations: FitOptions {
            degree,
            margin: 0.0,
            ..FitOptions::default()
        },
        outliers: Outliers::Keep,
        ..Options::default()
    };
    let graph = adapt(&graph, &inputs, &options).expect("finite").graph;
    let coefficients =
        (target.parameters.as_ref()).is_some_and(|p| p.name.contains("coefficients"));
    let plan = match coefficients {
        true => coefficients::compile(&graph, target),
        false => compile(&graph, target),
    };
    (graph, plan.expect("compiles"))
}

fn ends(shape: Shape, random: &mut Random) -> Tensor {
    let values = (0..shape.len()).map(|_| random.next().signum()).collect();
    Tensor::new(shape, values).expect("fits")
}

#[test]
fn all_values_at_the_ends_of_their_intervals_are_no_alarm() {
    let levelled = || ckks::ParametersSpec::toy_levelled(9, 10);
    let coefficients = ckks::ParametersSpec::toy_coefficients(10, 2).expect("a preset");
    no_alarm_at_the_ends(&[
        ("levelled", levelled(), (0, 9), &[2, 4, 7]),
        (
            "bootstraps",
            ckks::ParametersSpec::toy(9),
            (0, 9),
            &[2, 4, 7],
        ),
        ("coefficients", coefficients, (0, 9), &[2, 4]),
        // few levels are left above the bottom
        ("deep", levelled(), (3, 9), &[2]),
    ]);
}

/// So many that few slots are folded.
#[test]
#[ignore = "a minute: cargo test --release -p polyveil --test alarm -- --ignored many_at_their_ends"]
fn many_at_their_ends_are_no_alarm() {
    no_alarm_at_the_ends(&[("many", ckks::ParametersSpec::toy(9), (3, 70), &[2])]);
}

/// Name, parameters, activations behind and beside each other, degrees.
type Ends<'a> = (&'a str, ckks::ParametersSpec, (usize, usize), &'a [usize]);

fn no_alarm_at_the_ends(cases: &[Ends<'_>]) {
    for (name, set, operands, degrees) in cases {
        for &degree in *degrees {
            let target = Target {
                parameters: Some(set.clone()),
                ..Target::default()
            };
            let (graph, plan) = at_the_ends(*operands, degree, &target);
            let alarm = plan.plan().description.alarm.clone().expect("one");
            println!("{name}, degree {degree}: level {}, {alarm}", alarm.level);
            let noise = Noise::of(&plan).expect("verified");
            let mut random = Random(8);
            for seed in 0..5 {
                let x = ends(graph.input_shape(), &mut random);
                let clear = graph.evaluate(&x).expect("fits");
                assert!(clear.outside.is_empty(), "{:?}", clear.outside);
                let run = plan.simulate_with_alarm(x.values(), Some((&noise, seed)));
                let (values, sums) = run.expect("runs");
                let off = values.iter().zip(clear.output.values());
                let off = off.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                let most = sums.iter().copied().fold(0.0, f64::max);
                println!("  reads {most:.4}, off by {off:.1e}");
                assert!(off <= stated(&plan), "{name}: off by {off}");
                assert!(
                    most <= alarm.threshold,
                    "{name}, degree {degree}: {most}, {alarm}"
                );
                // nor is it so far below that nothing would be one; quartics in coefficients take less than their interval
                if *name != "coefficients" || degree == 2 {
                    // of many operands most lie near the middle where others are at their ends
                    let share = if *name == "many" { 0.02 } else { 0.05 };
                    assert!(most > share * alarm.threshold, "{name}: {most}, {alarm}");
                }
            }
        }
    }
}

/// Up to so many inputs of each kind through client, server and client: nothing inside is refused, nothing outside is wrong and shown.
fn on_ciphertexts(
    name: &str,
    (graph, stated): (&PolyGraph, f64),
    plan: VerifiedPlan,
    all: &[Tensor],
    most: usize,
) {
    let plan = Arc::new(plan);
    let file = plan.client_file(network::task_bytes(graph));
    let client = Client::new(file.expect("its task"), &mut rng());
    let keys = client.evaluation_keys(&mut rng()).expect("keys");
    let server = Server::new(plan.clone(), keys).expect("server");
    let (mut inside, mut outside, mut alarms, mut refused) = (0, 0, 0, 0);
    for x in all {
        let clear = graph.evaluate(x).expect("fits");
        let twin = ClearTwin::new(&plan, &plan.client_spec(), x.values());
        let within = clear.outside.is_empty() && twin.and_then(ClearTwin::finish).is_ok();
        let count = if within { &mut inside } else { &mut outside };
        if *count == most {
            continue;
        }
        // a value of the input itself may be too large
        let Ok(request) = client.input(x.values(), &mut rng()) else {
            continue;
        };
        *count += 1;
        let answer = server.answer(&request, &mut ()).expect("runs");
        match client.read_doubtful(&answer[..], "answer") {
            Ok(judged) => {
                let pairs = judged.values.iter().zip(clear.output.values());
                let off = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(off <= stated, "{name}: unseen, off by {off}");
                let reads = judged.alarm.expect("the plan has one");
                assert_eq!(reads.test, AnswerTest::Alarm);
                println!("{name}, within {within}: off by {off:.1e}, {reads:?}");
                // what it reads is what the clear says
                let (_, sums) = plan.simulate_with_alarm(x.values(), None).expect("runs");
                let want = sums.iter().copied().fold(0.0, f64::max);
                assert!(
                    (reads.measured - want).abs() < 1e-2 * (1.0 + want),
                    "{name}: {reads:?}, {want}"
                );
            }
            Err(runtime::Error::Answer { why, .. }) => {
                assert!(!within, "{name}: a false alarm, {why}");
                println!("{name}, within {within}: {why}");
                alarms += usize::from(why.test == AnswerTest::Alarm);
                refused += 1;
            }
            Err(e) => panic!("{e}"),
        }
    }
    println!(
        "{name}: {inside} inside, {outside} outside, {refused} refused, {alarms} by the alarm"
    );
    assert_eq!((inside, outside), (most, most), "{name}");
    assert!(refused > 0, "{name}");
}

#[test]
fn on_ciphertexts_ten_within_and_ten_outside() {
    for (name, graph, plan) in networks() {
        let all = inputs(graph.input_shape(), 10, 60);
        on_ciphertexts(name, (&graph, stated(&plan)), plan, &all, 10);
    }
}

/// A language model of one layer, for so many tokens.
fn language(tokens: usize) -> PolyGraph {
    use zoo::architecture::{Architecture, llama};
    use zoo::{blocks::Sizes, shape};
    let config = llama::Config {
        sizes: Sizes {
            width: 8,
            hidden: 12,
            layers: 1,
            heads: 4,
            kv_heads: 2,
            head: 2,
            vocabulary: 31,
            max_length: 64,
        },
        epsilon: 1e-5,
        base: 1e4,
        tied: false,
    };
    let scheme = nn::attention::PowerSoftmax::new(4, 0.1).expect("valid");
    let scheme = nn::attention::AttentionScheme::Power(scheme);
    let network = shape::TransformerShape::Language(Architecture::Llama(config));
    let network = network.random(scheme, tokens).expect("random");
    let options = shape::Polynomials {
        bits: 8.0,
        degree: 7,
        widened: 1.25,
    };
    network.polynomials(options).expect("polynomial").graph
}

/// Its bound multiplies worst cases and says nothing, so what is stated is four times the largest error of others, as `evaluate` states it.
fn stated_of_others(graph: &PolyGraph, plan: &VerifiedPlan) -> f64 {
    let noise = Noise::of(plan).expect("verified");
    let off = |i: u64| {
        let (x, seen) = (
            zoo::shape::sequence(graph.input_shape(), i),
            Some((&noise, i)),
        );
        let had = plan.simulate(x.values(), seen).expect("runs");
        let clear = graph.evaluate(&x).expect("fits").output;
        let pairs = had.iter().zip(clear.values());
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    };
    let largest = (1000..1030).into_par_iter().map(off);
    4.0 * largest.reduce(|| 0.0, f64::max)
}

/// So many prompts like those of calibration, and as many that are larger by up to six, in all values or in some.
fn prompts(graph: &PolyGraph, plan: &VerifiedPlan, count: u64) -> Vec<Tensor> {
    let like = |i: u64| zoo::shape::sequence(graph.input_shape(), i);
    let most = 0.999 * plan.plan().description.input_bound;
    let odd = |i: u64| {
        let mut x = like(i).into_values();
        let factor = 1.2 + 0.1 * (i % 48) as f64;
        for v in x
            .iter_mut()
            .skip(i as usize % 5)
            .step_by(1 + i as usize % 3)
        {
            *v = (*v * factor).clamp(-most, most);
        }
        Tensor::new(graph.input_shape(), x).expect("fits")
    };
    (2000..2000 + count)
        .map(like)
        .chain((0..count).map(odd))
        .collect()
}

#[test]
fn of_a_transformer_in_the_clear() {
    let graph = language(4);
    let target = Target {
        parameters: Some(ckks::ParametersSpec::toy(9)),
        ..Target::default()
    };
    let plan = compile(&graph, &target).expect("compiles");
    let (stated, all) = (stated_of_others(&graph, &plan), prompts(&graph, &plan, 120));
    let tally = Tally::all(&plan, &graph, &all, stated);
    let alarm = plan.plan().description.alarm.as_ref().expect("one");
    println!("transformer: stated {stated:.1e}, {tally:?}; {alarm}");
    tally.holds(80, 30);
}

/// In slots and in coefficients.
#[test]
fn prompts_on_ciphertexts_ten_within_and_ten_outside() {
    let coefficients = ckks::ParametersSpec::toy_coefficients(8, 9).expect("a preset");
    let slots = ckks::ParametersSpec::toy(9);
    for (name, tokens, parameters, layers) in [
        ("prompts in slots", 4, slots, Layers::Slots),
        (
            "prompts in coefficients",
            8,
            coefficients,
            Layers::Coefficients,
        ),
    ] {
        let graph = language(tokens);
        let target = Target {
            parameters: Some(parameters),
            layers,
            ..Target::default()
        };
        let plan = compile(&graph, &target).expect("compiles");
        let (stated, all) = (stated_of_others(&graph, &plan), prompts(&graph, &plan, 60));
        on_ciphertexts(name, (&graph, stated), plan, &all, 10);
    }
}

#[test]
fn a_batch_names_the_input() {
    let graph = polynomial(&convolutions(2), 4);
    let target = |parameters| Target {
        parameters: Some(parameters),
        batch: 4,
        // the answer may be larger than what is outside makes it, so that the alarm has its say
        range_margin: 4.0,
        ..Target::default()
    };
    let slots = target(ckks::ParametersSpec::toy_levelled(9, 10));
    let plan = compile(&graph, &slots).expect("compiles");
    names_the_input("slots", &graph, plan, 1);
    // in coefficients: ciphertexts of their own, two that share one, four
    for (log_n, ciphertexts) in [(10, 4), (11, 2), (12, 1)] {
        let set = ckks::ParametersSpec::toy_coefficients(log_n, 2).expect("a preset");
        let plan = coefficients::compile(&graph, &target(set)).expect("compiles");
        let name = format!("coefficients, 2^{log_n}");
        names_the_input(&name, &graph, plan, ciphertexts);
    }
}

/// Of four inputs, one of which is outside, that one is named, by so many ciphertexts of sums; four inside have their answers.
fn names_the_input(name: &str, graph: &PolyGraph, plan: VerifiedPlan, ciphertexts: usize) {
    let plan = Arc::new(plan);
    let file = plan
        .client_file(network::task_bytes(graph))
        .expect("its task");
    let client = Client::new(file, &mut rng());
    let keys = client.evaluation_keys(&mut rng()).expect("keys");
    let server = Server::new(plan.clone(), keys).expect("server");
    let mut random = Random(3);
    let alarm = plan.plan().description.alarm.as_ref().expect("an alarm");
    println!("{name}: {alarm}");
    assert_eq!(alarm.sums().count(), ciphertexts, "{name}");
    for at in [0, 2, 3] {
        let mut values: Vec<f64> = (0..4).flat_map(|_| soft(&mut random)).collect();
        let each = values.len() / 4;
        // one input outside, as little as is seen, with the others as they were
        let over = (10..30).find_map(|tenths| {
            for v in &mut values[at * each..][..each] {
                *v = 0.1 * f64::from(tenths) * v.signum();
            }
            let (_, sums) = plan.simulate_with_alarm(&values, None).expect("runs");
            let over: Vec<usize> = (0..4).filter(|&b| sums[b] > alarm.threshold).collect();
            (!over.is_empty()).then_some(over)
        });
        assert_eq!(over.as_deref(), Some(&[at][..]), "{name}");
        let request = client.input(&values, &mut rng()).expect("encrypts");
        let answer = server.answer(&request, &mut ()).expect("runs");
        let message = match client.read_answer(&answer[..], "answer") {
            Err(e) => e.to_string(),
            Ok(_) => panic!("{name}: the alarm is silent"),
        };
        assert!(
            message.contains(&format!("input {at} ")),
            "{name}: {message}"
        );
        assert!(message.contains("left its interval"), "{name}: {message}");
    }
    let inside: Vec<Vec<f64>> = (0..4).map(|_| soft(&mut random)).collect();
    let request = client.input(&inside.concat(), &mut rng());
    let answer = server.answer(&request.expect("encrypts"), &mut ());
    let judged = client.read_doubtful(&answer.expect("runs")[..], "answer");
    let judged = judged.expect("all keep their intervals");
    let reads = judged.alarm.expect("the plan has one");
    assert!(reads.measured < 0.5 * alarm.threshold, "{name}: {reads:?}");
    for (x, had) in inside.into_iter().zip(judged.values.chunks(3)) {
        let x = Tensor::new(graph.input_shape(), x).expect("fits");
        let want = graph.evaluate(&x).expect("runs").output;
        let pairs = had.iter().zip(want.values());
        let off = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(off <= stated(&plan), "{name}: off by {off}");
    }
}

#[test]
fn a_plan_without_an_alarm_says_so_and_its_answers_have_none() {
    let graph = polynomial(&convolutions(1), 4);
    let with = Target {
        parameters: Some(ckks::ParametersSpec::toy_levelled(9, 10)),
        ..Target::default()
    };
    let without = Target {
        watch: Watch::Nothing,
        ..with.clone()
    };
    let (with, without) = [with, without]
        .map(|t| compile(&graph, &t).expect("compiles"))
        .into();
    assert!(without.plan().description.alarm.is_none());
    assert!(polyveil::compiler::describe(&without).contains("no alarm"));
    assert!(polyveil::compiler::describe(&with).contains("alarm: watches 1 "));
    // the answer's own bound is the same
    let bounds = [&with, &without].map(|p| p.answer_bounds());
    assert_eq!(bounds[0], bounds[1]);
}

/// The picture's own pixels, channel by channel, of a CIFAR file.
fn cifar(path: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).expect("a file of labelled pictures of 3,073 bytes each");
    let planes = bytes.chunks_exact(3073).map(|c| &c[1..]);
    planes
        .map(|p| (0..3072).map(|i| p[i % 3 * 1024 + i / 3]).collect())
        .collect()
}

/// Pictures of 32 × 32 that no photograph is like.
fn patterns(pictures: &[Vec<u8>], count: usize) -> Vec<Vec<u8>> {
    let mut random = Random(4);
    let of = |n: usize, random: &mut Random| -> Vec<u8> {
        let photo = &pictures[n * 7 % pictures.len()];
        let size = 1 << (n / 16 % 5);
        let strength =
            60.0 + 67.0 * random.next().abs() * if n.is_multiple_of(3) { 1.0 } else { 1.9 };
        let colour: [f64; 3] = std::array::from_fn(|_| random.next().signum());
        let flips: Vec<bool> = (0..1024).map(|_| random.next() > 0.0).collect();
        let value = |i: usize, random: &mut Random| {
            let (c, x, y) = (i % 3, i / 3 % 32, i / 96);
            let on = |yes: bool| 127.5 + if yes { strength } else { -strength };
            let px = f64::from(photo[i]) - 127.5;
            match n % 16 {
                0 | 1 => on((x / size + y / size).is_multiple_of(2)),
                2 => on((x / size).is_multiple_of(2)),
                3 => on((y / size).is_multiple_of(2)),
                4 => {
                    127.5
                        + strength
                            * colour[c]
                            * if (x / size).is_multiple_of(2) {
                                1.0
                            } else {
                                -1.0
                            }
                }
                5 => on(flips[i / 3]),
                6 => on(flips[y / size * 32 + x / size]),
                7 => 127.5 + strength * random.next(),
                8 => 127.5 + 4.0 * px,
                9 => 127.5 - 2.0 * px,
                10 => 127.5 + px.signum() * strength,
                11 => on(flips[i / 3]) * 0.5 + 0.5 * f64::from(photo[i]),
                12 => on(((x * x + y * y) / (8 * size)).is_multiple_of(2)),
                13 => on(c == n / 16 % 3),
                14 => on((x + n) % 7 < 3 && (y + n) % 5 < 2),
                _ => on(x % (size + 1) == 0 || y % (size + 1) == 0),
            }
        };
        (0..3072)
            .map(|i| value(i, random).round().clamp(0.0, 255.0) as u8)
            .collect()
    };
    (0..count).map(|n| of(n, &mut random)).collect()
}

/// The embedded network, or that of `POLYVEIL_ALARM_MODEL`; pictures of `POLYVEIL_CIFAR` that keep all intervals, and patterns that leave one.
fn embedded(inside: usize, outside: usize) -> Option<(PolyGraph, VerifiedPlan, Vec<Tensor>)> {
    let Ok(files) = std::env::var("POLYVEIL_CIFAR") else {
        println!("skipped: POLYVEIL_CIFAR names no pictures");
        return None;
    };
    let pictures: Vec<Vec<u8>> = files.split(':').flat_map(|f| cifar(Path::new(f))).collect();
    let model = std::env::var("POLYVEIL_ALARM_MODEL").unwrap_or_else(|_| {
        concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../models/resnet20-poly.pvm"
        )
        .into()
    });
    let graph = network::load_polynomial(Path::new(&model)).expect("loads");
    let plan = compile(&graph, &Target::default()).expect("compiles");
    println!("{}", plan.plan().description.alarm.as_ref().expect("one"));
    let task = network::task_of_graph(&graph).expect("a task");
    let encode = |pixels: Vec<u8>| {
        let picture = polyveil::task::Picture::from_pixels(32, 32, 3, pixels).expect("fits");
        (task.encode(&polyveil::task::Input::Picture(&picture))).expect("fits")
    };
    let kind = |tensors: Vec<Tensor>, within: bool, most: usize| -> Vec<Tensor> {
        let of = |x: &Tensor| graph.evaluate(x).expect("fits").outside.is_empty() == within;
        let all = tensors.into_par_iter().filter(of);
        all.collect::<Vec<_>>().into_iter().take(most).collect()
    };
    let odd = patterns(&pictures, 4 * outside);
    let photos = pictures.into_iter().take(inside + inside / 10 + 1);
    let mut all = kind(photos.map(encode).collect(), true, inside);
    all.extend(kind(odd.into_iter().map(encode).collect(), false, outside));
    println!("{} pictures", all.len());
    Some((graph, plan, all))
}

/// `POLYVEIL_CIFAR=FILE[:FILE] cargo test --release -p polyveil --test alarm -- --ignored --nocapture the_embedded_network_in_the_clear`;
/// `POLYVEIL_EACH` outside and four times as many inside.
#[test]
#[ignore = "half an hour, and pictures that are not in this repository"]
fn the_embedded_network_in_the_clear() {
    let each = std::env::var("POLYVEIL_EACH").ok();
    let outside = each.and_then(|n| n.parse().ok()).unwrap_or(500);
    let inside = 4 * outside;
    let Some((graph, plan, all)) = embedded(inside, outside) else {
        return;
    };
    let (start, mut tally) = (Instant::now(), Tally::default());
    for some in all.chunks(100) {
        tally = tally.plus(Tally::all(&plan, &graph, some, stated(&plan)));
        println!("{:.0} s: {tally:?}", start.elapsed().as_secs_f64());
    }
    tally.holds(inside, outside);
}

/// Prompts of a language model of real size, one a line, within its intervals and alone:
/// `POLYVEIL_LANGUAGE=stories.pvm POLYVEIL_PROMPTS=training/stories/prompts.txt cargo test -p polyveil --test alarm -- --ignored --nocapture prompts`.
#[test]
#[ignore = "minutes, and a network that is not in this repository"]
fn prompts_of_a_language_model_in_the_clear() {
    let (Ok(model), Ok(prompts)) = (
        std::env::var("POLYVEIL_LANGUAGE"),
        std::env::var("POLYVEIL_PROMPTS"),
    ) else {
        println!("skipped: POLYVEIL_LANGUAGE and POLYVEIL_PROMPTS name no files");
        return;
    };
    let graph = network::load_polynomial(Path::new(&model)).expect("loads");
    let plan = compile(&graph, &Target::default()).expect("compiles");
    let alarm = plan.plan().description.alarm.clone().expect("an alarm");
    let task = network::task_of_graph(&graph).expect("a task");
    let (mut inside, mut false_alarms) = (0, 0);
    for line in std::fs::read_to_string(prompts).expect("a file").lines() {
        let Ok(x) = task.encode(&polyveil::task::Input::Text(line)) else {
            continue;
        };
        let outside = graph.evaluate(&x).expect("fits").outside;
        let sums = plan.simulate_with_alarm(x.values(), None).expect("runs").1;
        let most = sums.iter().copied().fold(0.0, f64::max);
        println!(
            "{most:.1} of {:.1}: {line}: outside {outside:?}",
            alarm.threshold
        );
        inside += usize::from(outside.is_empty());
        false_alarms += usize::from(outside.is_empty() && most > alarm.threshold);
    }
    assert!(
        inside > 0 && false_alarms == 0,
        "{false_alarms} of {inside}"
    );
}

/// `POLYVEIL_CIFAR=FILE cargo test --release -p polyveil --test alarm -- --ignored --nocapture the_embedded_network_on_ciphertexts`; `POLYVEIL_EACH` of
/// each kind.
#[test]
#[ignore = "a quarter of an hour and 6 GB, and pictures that are not in this repository"]
fn the_embedded_network_on_ciphertexts() {
    let each = std::env::var("POLYVEIL_EACH")
        .ok()
        .and_then(|n| n.parse().ok());
    let each = each.unwrap_or(10);
    if let Some((graph, plan, all)) = embedded(each, 3 * each) {
        on_ciphertexts("embedded", (&graph, stated(&plan)), plan, &all, each);
    }
}

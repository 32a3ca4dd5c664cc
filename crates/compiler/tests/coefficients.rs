//! Networks with every linear layer in coefficients, in the clear, against the f64 oracle: what lies at places without a value included.

mod support;

use approx::Activation;
use ckks::{CostTable, ParametersSpec};
use nn::op::{AvgPool, BatchNorm};
use nn::{
    Conv2d, Graph, Network, NodeId, Op, Padding, Parameter, PolyGraph, Rearrange, Shape, Tensor,
};
use polyveil_compiler::{Target, coefficients};
use runtime::checkpoint::{Checkpointer, read_checkpoint_from};
use runtime::folding::{Folding, Term, Within};
use runtime::{ClearTwin, Client, Excess, Limits, LockStep, Operation, Plan, Server, VerifiedPlan};
use std::collections::BTreeSet;
use std::sync::Arc;
use support::{Builder, Random, act, conv_bn, resnet, twin};

fn target(log_n: u32) -> Target {
    target_of(log_n, 2)
}

fn target_of(log_n: u32, levels: usize) -> Target {
    Target {
        parameters: Some(ParametersSpec::toy_coefficients(log_n, levels).expect("a preset")),
        ..Target::default()
    }
}

/// The plan's answers in the clear: weights are integers, sines take the place of the identity.
fn in_the_clear(plan: &VerifiedPlan, input: &Tensor) -> Vec<f64> {
    let twin = ClearTwin::new(plan, &plan.client_spec(), input.values()).expect("fits");
    twin.finish().unwrap_or_else(|e| panic!("{e}"))
}

/// Infinite where a value is none.
fn largest(values: impl IntoIterator<Item = f64>) -> f64 {
    let sizes = values.into_iter().map(|x| match x.is_nan() {
        true => f64::INFINITY,
        false => x.abs(),
    });
    sizes.fold(0.0, f64::max)
}

/// Compiles and compares on a few inputs.
fn check(name: &str, graph: &PolyGraph, data: &[Tensor], log_n: u32) -> VerifiedPlan {
    check_for(name, graph, data, &target(log_n))
}

fn check_for(name: &str, graph: &PolyGraph, data: &[Tensor], target: &Target) -> VerifiedPlan {
    let plan = coefficients::compile(graph, target).unwrap_or_else(|e| panic!("{name}: {e}"));
    for x in &data[..2] {
        let want = graph.evaluate(x).expect("runs").output;
        let had = in_the_clear(&plan, x);
        let size = largest(want.values().iter().copied());
        let error = largest(had.iter().zip(want.values()).map(|(a, b)| a - b));
        // the bound leaves the sine out
        let stated = plan.answer_bounds().of_network();
        println!("{name}: {error:.1e} of {stated:.1e}, values to {size:.1e}");
        assert!(
            had.len() == want.values().len() && error <= stated && error < 2e-3 * size,
            "{name}: {error} of {stated}, values to {size}"
        );
    }
    plan
}

/// Two convolutions with an activation between, a mean and a dense layer.
struct Shapes {
    channels: [usize; 3],
    size: [usize; 2],
    kernels: [[usize; 2]; 2],
    strides: [usize; 2],
    groups: [usize; 2],
    pads: [[usize; 4]; 2],
}

fn small(random: &mut Random, s: &Shapes) -> Graph {
    let mut b = Network::builder();
    let shape = Shape::image(s.channels[0], s.size[0], s.size[1]);
    let mut x = b.input("input", shape).expect("valid");
    for i in 0..2 {
        let (from, to) = (s.channels[i] / s.groups[i], s.channels[i + 1]);
        let [kh, kw] = s.kernels[i];
        let size = (3.0 / (from * kh * kw) as f64).sqrt();
        let conv = Conv2d {
            stride: (s.strides[i], s.strides[i]),
            padding: s.pads[i].into(),
            groups: s.groups[i],
            bias: Some(random.parameter(&[to], 0.2)),
            ..Conv2d::new(random.parameter(&[to, from, kh, kw], size))
        };
        x = conv_bn(&mut b, random, &format!("conv{i}"), x, conv);
        x = act(&mut b, &format!("act{i}"), x, Activation::Silu);
    }
    head(&mut b, random, x, s.channels[2], 5)
}

fn head(b: &mut Builder, random: &mut Random, x: NodeId, from: usize, classes: usize) -> Graph {
    let x = b.add("pool", Op::GlobalAvgPool, &[x]).expect("valid");
    let x = b.add("flatten", Op::Flatten, &[x]).expect("valid");
    let dense = Op::Linear(random.dense(from, classes));
    let x = b.add("linear", dense, &[x]).expect("valid");
    std::mem::replace(b, Network::builder())
        .finish(x)
        .expect("valid")
}

#[test]
fn kernels_strides_groups_and_channel_counts() {
    let usual = || Shapes {
        channels: [3, 4, 6],
        size: [8, 8],
        kernels: [[3, 3]; 2],
        strides: [1, 1],
        groups: [1, 1],
        pads: [[1; 4]; 2],
    };
    let with = |change: &dyn Fn(&mut Shapes)| {
        let mut s = usual();
        change(&mut s);
        s
    };
    let mut all = vec![
        ("usual", usual(), 10),
        ("a stride of 2", with(&|s| s.strides = [1, 2]), 10),
        ("two strides", with(&|s| s.strides = [2, 2]), 10),
        (
            "a stride of 3",
            with(&|s| (s.size, s.strides) = ([9, 9], [3, 1])),
            11,
        ),
        (
            "odd and strided",
            with(&|s| (s.size, s.strides) = ([7, 5], [2, 2])),
            11,
        ),
        (
            "phases",
            with(&|s| (s.size, s.strides) = ([16, 16], [2, 2])),
            10,
        ),
        (
            "rows and columns",
            with(&|s| (s.kernels, s.pads) = ([[1, 5], [3, 1]], [[0, 0, 2, 2], [1, 1, 0, 0]])),
            11,
        ),
        ("no padding", with(&|s| s.pads = [[0; 4]; 2]), 10),
        (
            "padding on one side",
            with(&|s| s.pads = [[1, 0, 0, 1], [0, 1, 1, 0]]),
            11,
        ),
        (
            "depthwise",
            with(&|s| (s.channels, s.groups) = ([4, 4, 8], [4, 4])),
            10,
        ),
        (
            "groups",
            with(&|s| (s.channels, s.groups) = ([4, 6, 4], [2, 2])),
            10,
        ),
        (
            "5×5",
            with(&|s| (s.kernels, s.pads) = ([[5, 5]; 2], [[2; 4]; 2])),
            11,
        ),
    ];
    for channels in [1, 3, 7, 8, 9] {
        let s = with(&|s| s.channels = [channels, channels, 9]);
        all.push(("channels", s, 11));
    }
    for (k, (name, shapes, log_n)) in all.into_iter().enumerate() {
        let mut random = Random(100 + k as u64);
        let graph = small(&mut random, &shapes);
        let (graph, data) = twin(&graph, &mut random, 24, 4);
        check(name, &graph, &data, log_n);
    }
}

/// A convolution with a random kernel, stride, padding on each side and groups, for pictures of this shape; no result is empty.
fn any_convolution(random: &mut Random, [from, height, width]: [usize; 3]) -> Conv2d {
    let mut pick = |least: usize, most: usize| least + random.next() as usize % (most - least + 1);
    let divisors: Vec<usize> = (1..=from).filter(|g| from % g == 0).collect();
    let groups = divisors[pick(0, divisors.len() - 1)];
    let to = groups * pick(1, 9usize.div_ceil(groups));
    let size = [height, width].map(|l| pick(1, 5.min(l)));
    // as wide as the kernel, and more
    let pads = [size[0], size[0], size[1], size[1]].map(|k| pick(0, k));
    let stride = pick(1, 3);
    let bound = (3.0 / (from / groups * size[0] * size[1]) as f64).sqrt();
    Conv2d {
        stride: (stride, stride),
        padding: pads.into(),
        groups,
        bias: Some(random.parameter(&[to], 0.2)),
        ..Conv2d::new(random.parameter(&[to, from / groups, size[0], size[1]], bound))
    }
}

/// Convolutions, means over windows, sums, channels after each other, crops and margins at random, between activations: in the clear, and every sixth on
/// ciphertexts as well.
#[test]
fn random_networks_compute_what_the_oracle_says() {
    for seed in 0..24 {
        let mut random = Random(1000 + seed);
        let mut b = Network::builder();
        let size = |random: &mut Random| 5 + random.next() as usize % 6;
        let (channels, height) = (1 + random.next() as usize % 5, size(&mut random));
        let shape = Shape::image(channels, height, size(&mut random));
        let mut x = b.input("input", shape).expect("valid");
        for i in 0..2 {
            let dims = b.shape(x).dims();
            let dims = [dims[0], dims[1], dims[2]];
            let conv = any_convolution(&mut random, dims);
            let mut y = conv_bn(&mut b, &mut random, &format!("conv{i}"), x, conv);
            let [c, h, w] = <[usize; 3]>::try_from(b.shape(y).dims()).expect("a picture");
            let add = |b: &mut Builder, what: &str, op, x: &[NodeId]| {
                b.add(format!("{what}{i}"), op, x).expect("valid")
            };
            match random.next() % 5 {
                // padding on all sides before a mean over windows that overlap
                0 => {
                    let pool = AvgPool {
                        kernel: (h.min(3), w.min(2)),
                        stride: (2, 2),
                        padding: [h.min(3) / 2, 0, 0, w.min(2) / 2].into(),
                        count_include_pad: true,
                    };
                    y = add(&mut b, "mean", Op::AvgPool(pool), &[y]);
                }
                // a channel more, a margin, and the picture's middle again
                1 => {
                    let pad = nn::Pad {
                        channels: (1, 0),
                        spatial: [1, 2, 2, 0].into(),
                    };
                    y = add(&mut b, "margin", Op::Pad(pad), &[y]);
                    let axis = |begin, end| nn::AxisSlice {
                        begin,
                        end,
                        step: 1,
                    };
                    let axes = vec![axis(0, c + 1), axis(1, h + 1), axis(1, w + 2)];
                    y = add(&mut b, "crop", Op::Slice(nn::Slice { axes }), &[y]);
                }
                // itself, and its channels the other way round by a convolution, after each other
                2 => {
                    let conv = random.convolution(c, 2, 1, 1, 0);
                    let z = add(&mut b, "beside", Op::Conv2d(conv), &[y]);
                    let pad = |before, after| {
                        Op::Pad(nn::Pad {
                            channels: (before, after),
                            spatial: Padding::default(),
                        })
                    };
                    let first = add(&mut b, "first", pad(0, 2), &[y]);
                    let second = add(&mut b, "second", pad(c, 0), &[z]);
                    y = add(&mut b, "concat", Op::Add, &[first, second]);
                }
                // used twice
                3 => {
                    let conv = random.convolution(c, c, 3, 1, 1);
                    let z = add(&mut b, "branch", Op::Conv2d(conv), &[y]);
                    y = add(&mut b, "add", Op::Add, &[y, z]);
                }
                _ => {}
            }
            x = act(&mut b, &format!("act{i}"), y, Activation::Silu);
        }
        let x = b.add("flatten", Op::Flatten, &[x]).expect("valid");
        let dense = Op::Linear(random.dense(b.shape(x).len(), 3));
        let x = b.add("linear", dense, &[x]).expect("valid");
        let graph = b.finish(x).expect("valid");
        let (graph, data) = twin(&graph, &mut random, 24, 4);
        let plan = check(&format!("network {seed}"), &graph, &data, 12);
        if seed % 6 == 0 {
            on_ciphertexts(&plan, &graph, &data[0]);
        }
    }
}

#[test]
fn residual_networks_and_pooling() {
    let mut random = Random(7);
    let graph = resnet(&mut random, 8, &[4, 8], 1, 5);
    let (graph, data) = twin(&graph, &mut random, 24, 4);
    check("shortcut A", &graph, &data, 10);

    // the stem of larger networks, a projection on the shortcut, a batch norm in front of a convolution
    let mut b = Network::builder();
    let x = b.input("input", Shape::image(3, 16, 16)).expect("valid");
    let conv = random.convolution(3, 4, 7, 2, 3);
    let x = conv_bn(&mut b, &mut random, "conv1", x, conv);
    let x = act(&mut b, "act1", x, Activation::Silu);
    let pool = AvgPool {
        kernel: (3, 3),
        stride: (2, 2),
        padding: Padding::same(1),
        count_include_pad: true,
    };
    let x = b.add("maxpool", Op::AvgPool(pool), &[x]).expect("valid");
    let conv = random.convolution(4, 8, 3, 2, 1);
    let y = conv_bn(&mut b, &mut random, "a", x, conv);
    let y = act(&mut b, "act2", y, Activation::Silu);
    let conv = random.convolution(8, 8, 3, 1, 1);
    let y = conv_bn(&mut b, &mut random, "b", y, conv);
    let conv = random.convolution(4, 8, 1, 2, 0);
    let z = conv_bn(&mut b, &mut random, "shortcut", x, conv);
    let x = b.add("add", Op::Add, &[y, z]).expect("valid");
    let x = act(&mut b, "act3", x, Activation::Silu);
    let norm: BatchNorm = random.norm(8);
    let x = b.add("bn", Op::BatchNorm(norm), &[x]).expect("valid");
    let conv = random.convolution(8, 4, 1, 1, 0);
    let x = conv_bn(&mut b, &mut random, "c", x, conv);
    let x = act(&mut b, "act4", x, Activation::Silu);
    let graph = head(&mut b, &mut random, x, 4, 5);
    let (graph, data) = twin(&graph, &mut random, 24, 4);
    check("stem, pooling, projection", &graph, &data, 11);
}

/// The stem of larger networks with a mean like this, and a block whose shortcut is what the mean gives, or a layer of one place of it.
fn stem(random: &mut Random, size: [usize; 2], pool: AvgPool, projected: bool) -> Graph {
    let mut b = Network::builder();
    let x = b
        .input("input", Shape::image(3, size[0], size[1]))
        .expect("valid");
    let conv = random.convolution(3, 32, 5, 2, 2);
    let x = conv_bn(&mut b, random, "conv1", x, conv);
    let x = act(&mut b, "act1", x, Activation::Silu);
    let x = b.add("mean", Op::AvgPool(pool), &[x]).expect("valid");
    let (to, stride) = if projected { (40, 2) } else { (32, 1) };
    let conv = random.convolution(32, to, 3, stride, 1);
    let y = conv_bn(&mut b, random, "a", x, conv);
    let y = act(&mut b, "act2", y, Activation::Silu);
    let conv = random.convolution(to, to, 3, 1, 1);
    let y = conv_bn(&mut b, random, "b", y, conv);
    let x = match projected {
        true => {
            let conv = random.convolution(32, to, 1, stride, 0);
            conv_bn(&mut b, random, "shortcut", x, conv)
        }
        false => x,
    };
    let x = b.add("add", Op::Add, &[y, x]).expect("valid");
    let x = act(&mut b, "act3", x, Activation::Silu);
    head(&mut b, random, x, to, 5)
}

/// Half bootstraps of values that a mean gives.
fn refreshed_means(plan: &VerifiedPlan) -> usize {
    let steps = plan.plan().steps.iter().filter(|s| s.layer == "mean");
    let up = |s: &&runtime::Step| matches!(s.operation, Operation::HalfBootstrap { .. });
    steps.filter(up).count()
}

/// Whether a mean is a sum in slots.
fn is_gathered(plan: &VerifiedPlan) -> bool {
    let down = |s: &runtime::Step| matches!(s.operation, Operation::Descend { .. });
    let mut steps = plan.plan().steps.iter();
    refreshed_means(plan) == 0 && steps.any(|s| s.layer == "mean" && down(s))
}

/// Zeros around a mean are those that layers behind it take, at every border: none of its values goes up by itself.
#[test]
fn means_of_activations_are_sums_in_slots() {
    let mut random = Random(21);
    let pool = |kernel: (usize, usize), step: usize, padding: [usize; 4]| AvgPool {
        kernel,
        stride: (step, step),
        padding: padding.into(),
        count_include_pad: true,
    };
    let usual = pool((3, 3), 2, [1; 4]);
    for (name, size, pool, projected) in [
        ("as in larger networks", [32, 32], usual, false),
        ("with a projection", [32, 32], usual, true),
        ("2×2", [32, 32], pool((2, 2), 2, [0; 4]), false),
        ("2×3", [32, 32], pool((2, 3), 2, [0, 0, 1, 1]), true),
    ] {
        let graph = stem(&mut random, size, pool, projected);
        let (graph, data) = twin(&graph, &mut random, 12, 4);
        let plan = check_for(name, &graph, &data, &target_of(12, 3));
        assert!(is_gathered(&plan), "{name}");
        estimated(name, &graph, &target_of(12, 3));
        if name == "as in larger networks" {
            on_ciphertexts(&plan, &graph, &data[0]);
        }
    }
}

/// Means of any windows: summed in slots where that can be, values of their own elsewhere.
#[test]
fn means_of_any_windows_compute_what_the_oracle_says() {
    let mut gathered = 0;
    for seed in 0..12 {
        let mut random = Random(2000 + seed);
        let mut pick =
            |least: usize, most: usize| least + random.next() as usize % (most - least + 1);
        let size = [0; 2].map(|_| 4 * pick(5, 8));
        let kernel = (pick(1, 4), pick(1, 4));
        let step = pick(1, 3);
        let include = pick(0, 3) > 0;
        let padding = match include {
            true => [kernel.0, kernel.0, kernel.1, kernel.1].map(|k| pick(0, k - 1)),
            false => [0; 4],
        };
        let pool = AvgPool {
            kernel,
            stride: (step, step),
            padding: padding.into(),
            count_include_pad: include,
        };
        let projected = pick(0, 1) == 1;
        let name = format!("{seed}: {pool:?} of {size:?}");
        let graph = stem(&mut random, size, pool, projected);
        let (graph, data) = twin(&graph, &mut random, 12, 4);
        let plan = check_for(&name, &graph, &data, &target_of(12, 3));
        println!("{name}: summed in slots {}", is_gathered(&plan));
        gathered += usize::from(is_gathered(&plan));
    }
    assert!(gathered > 0, "none");
    // other divisors at the border are refused as they were
    let pool = AvgPool {
        kernel: (3, 3),
        stride: (2, 2),
        padding: Padding::same(1),
        count_include_pad: false,
    };
    let mut random = Random(22);
    let graph = stem(&mut random, [32, 32], pool, false);
    let (graph, _) = twin(&graph, &mut random, 12, 4);
    let told = coefficients::compile(&graph, &target(11)).expect_err("no mean");
    assert!(told.to_string().contains("at the border"), "{told}");
}

/// The mean behind the stem of a published network has no half bootstrap.
#[test]
fn the_stem_of_a_published_network_has_no_half_bootstraps_of_its_mean() {
    let polynomial = approx::remez(|x| Activation::Silu.value(x), (-4.0, 4.0), 4).expect("fits");
    let network = zoo::imagenet::ImageNet::named("resnet18", 224, Activation::Silu);
    let graph = network
        .expect("known")
        .outline(&polynomial.polynomial)
        .expect("builds");
    let estimate = coefficients::estimate(&graph, &Target::default()).expect("counts");
    println!("{estimate:?}");
    assert_eq!(estimate.bootstraps, 48);
}

/// What is said of shapes alone is what the plan says: work, memory and keys.
fn estimated(name: &str, graph: &PolyGraph, target: &Target) {
    let plan = coefficients::compile(graph, target).unwrap_or_else(|e| panic!("{name}: {e}"));
    let estimate = coefficients::estimate(graph, target).expect("as much");
    let (facts, steps) = (plan.facts(), plan.predicted_steps(&target.cost));
    let near = |what: &str, had: f64, want: f64, within: f64| {
        assert!(
            (had / want - 1.0).abs() < within,
            "{name}: {what} {had}, {want}"
        )
    };
    let bytes = |of: u64| of as f64;
    near("CPU s", estimate.cpu_seconds, steps.iter().sum(), 0.1);
    near(
        "peak",
        bytes(estimate.peak_bytes),
        bytes(facts.peak_bytes),
        0.15,
    );
    near(
        "keys",
        bytes(estimate.key_bytes),
        bytes(facts.key_file_bytes),
        0.1,
    );
    assert_eq!(
        (estimate.keys, estimate.bootstraps),
        (facts.keys.0.len(), facts.bootstraps)
    );
}

#[test]
fn shapes_alone_say_what_a_plan_costs() {
    let mut random = Random(8);
    let graph = resnet(&mut random, 8, &[4, 8], 2, 5);
    let (graph, _) = twin(&graph, &mut random, 2, 4);
    estimated("a residual network", &graph, &target(10));
    for name in ["resnet18", "mobilenet_v2"] {
        let network = zoo::imagenet::ImageNet::named(name, 32, Activation::Silu).expect("known");
        let polynomial =
            approx::remez(|x| Activation::Silu.value(x), (-4.0, 4.0), 4).expect("fits");
        let graph = network.outline(&polynomial.polynomial).expect("builds");
        estimated(name, &graph, &target(12));
    }
}

/// At full size, layers wherever they cost least.
#[test]
#[ignore = "sixteen networks of up to 144 million weights"]
fn shapes_alone_say_what_published_networks_cost() {
    let polynomial = approx::remez(|x| Activation::Silu.value(x), (-4.0, 4.0), 4).expect("fits");
    for name in zoo::imagenet::ImageNet::NAMES {
        let network = zoo::imagenet::ImageNet::named(name, 224, Activation::Silu).expect("known");
        let graph = network.outline(&polynomial.polynomial).expect("builds");
        estimated(name, &graph, &Target::default());
    }
}

/// What `layers` counts for each half bootstrap before it looks closer is no more than one takes.
#[test]
fn half_bootstraps_take_so_much() {
    use ckks::{Arithmetic, Coefficients, Context, HalfBootstrap, Level, Meter, Parameters};
    let spec = ParametersSpec::coefficients(2).expect("a preset");
    let parameters = Parameters::new(spec).expect("secure");
    let meter = Meter::new(&Context::new(&parameters));
    let x = meter.input(Level::new(0), 4, 0.5).expect("fits");
    let x = Coefficients::of(&meter, x).expect("in coefficients");
    let target = parameters.residual().index();
    meter
        .half_bootstrap(&x, &HalfBootstrap { target })
        .expect("counts");
    let seconds = meter.cost().seconds(&Target::default().cost);
    let transforms = seconds / Target::default().cost.ntt;
    println!("{transforms} transforms");
    assert!(transforms > 6000.0 && transforms < 40_000.0, "{transforms}");
}

fn rng(seed: u64) -> rand_chacha::ChaCha20Rng {
    rand_core::SeedableRng::seed_from_u64(seed)
}

/// Whether layers are carried out in the small ring, in order.
fn within(plan: &VerifiedPlan) -> Vec<Within> {
    let steps = plan.plan().steps.iter();
    let within = steps.filter_map(|s| match s.operation {
        Operation::Weigh { within, .. } => Some(within),
        _ => None,
    });
    within.collect()
}

/// The same plan with every layer in the ring of its ciphertexts.
fn in_one_ring(plan: &VerifiedPlan) -> VerifiedPlan {
    let mut plan = plan.plan().clone();
    plan.parameters = plan.parameters.with_small_ring(None);
    for step in &mut plan.steps {
        if let Operation::Weigh { within, .. } = &mut step.operation {
            *within = Within::Whole;
        }
    }
    VerifiedPlan::new(plan).expect("holds together")
}

fn strided(random: &mut Random) -> (PolyGraph, Vec<Tensor>) {
    let shapes = Shapes {
        channels: [3, 8, 16],
        size: [8, 8],
        kernels: [[3, 3]; 2],
        strides: [1, 2],
        groups: [1, 1],
        pads: [[1; 4]; 2],
    };
    let graph = small(random, &shapes);
    twin(&graph, random, 24, 4)
}

/// A run from bytes to bytes.
struct Ran {
    server: Server,
    keys: Vec<u8>,
    input: Vec<u8>,
    answer: Vec<u8>,
}

/// Through files: client, server, client; every step beside the clear twin.
fn on_ciphertexts(compiled: &VerifiedPlan, graph: &PolyGraph, x: &Tensor) -> Ran {
    let file = compiled.plan().write(Vec::new(), "plan").expect("written");
    let plan = Arc::new(VerifiedPlan::read(&file[..], "plan").expect("read"));
    assert_eq!(plan.plan(), compiled.plan());
    let client = plan.client_file([].into()).expect("no task");
    let client = Client::new(client, &mut rng(1));
    let keys = client
        .write_evaluation_keys(Vec::new(), "keys", &mut rng(2), &mut |_, _| {})
        .expect("keys");
    assert_eq!(keys.len() as u64, plan.facts().key_file_bytes);
    let server = Server::read(plan.clone(), &keys[..], "keys", &mut |_, _| {}).expect("server");
    let held = server.engine().keys().bytes();
    let sizes = plan.facts().key_sizes.values();
    assert_eq!(held, sizes.map(|s| s.memory).sum::<u64>());
    let input = client
        .write_input(x.values(), Vec::new(), "input", &mut rng(3))
        .expect("input");
    let state = server.read_input(&input[..], "input").expect("belongs");
    let mut check =
        LockStep::new(&plan, server.engine(), &client, &state, Excess::Stop).expect("starts");
    let answer = server
        .run(state, &mut check)
        .expect("every step within its bound");
    let bytes = server
        .write_answer(&answer, Vec::new(), "answer")
        .expect("answer");
    let had = client
        .read_answer(&bytes[..], "answer")
        .expect("an answer that can be");
    let (steps, clear) = check.finish().expect("runs");
    for (step, (index, p)) in plan.plan().steps.iter().zip(&steps) {
        let bound = plan.facts().steps[*index].error_bound;
        println!(
            "{:28} {:10} {:.1e} of {:.1e}",
            step.operation.doing(),
            step.layer,
            p.largest,
            bound
        );
    }
    let (error, stated) = (
        largest(had.iter().zip(&clear).map(|(a, b)| a - b)),
        plan.answer_bounds().error,
    );
    println!("error {error:.2e}, stated {stated:.2e}");
    // neither below the error nor of no use
    assert!(
        error <= stated && stated < 300.0 * error,
        "{error} of {stated}"
    );
    let network = graph.evaluate(x).expect("runs").output;
    let size = largest(network.values().iter().copied());
    assert!(largest(had.iter().zip(network.values()).map(|(a, b)| a - b)) < 3e-3 * size);
    Ran {
        server,
        keys,
        input,
        answer: bytes,
    }
}

/// With keys that are read when they are used.
fn with_stored_keys(ran: &Ran) {
    let (stored, none) = (tempfile(&ran.keys), BTreeSet::new());
    let server = Server::open(
        ran.server.plan().clone(),
        stored,
        "keys",
        &none,
        &mut |_, _| {},
    );
    let server = server.expect("server");
    let state = server.read_input(&ran.input[..], "input").expect("belongs");
    let again = server.run(state, &mut ()).expect("runs");
    let again = server.write_answer(&again, Vec::new(), "answer");
    assert!(again.expect("answer") == ran.answer, "another answer");
}

/// Runs that are left at any step go on from a checkpoint, on one thread or two, to the same answer, bit for bit.
fn resumed(ran: &Ran) {
    let server = &ran.server;
    let (plan, digest) = (server.plan(), [7; 32]);
    let mut state = server.read_input(&ran.input[..], "input").expect("belongs");
    let count = plan.plan().steps.len();
    for step in 0..count {
        plan.advance(server.engine(), &mut state, &mut ())
            .expect("a step");
        if step * 5 / count == (step + 1) * 5 / count {
            continue;
        }
        let file = Checkpointer::new(plan, server.engine(), "checkpoint".into(), digest)
            .write(&state, Vec::new(), "checkpoint")
            .expect("written");
        let read = read_checkpoint_from(&file[..], "checkpoint", plan, &digest, server.key());
        let read = server.resume(read.expect("belongs")).expect("fits");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1 + step % 2);
        let pool = pool.build().expect("threads");
        let again = pool.install(|| server.run(read, &mut ())).expect("runs");
        let again = server.write_answer(&again, Vec::new(), "answer");
        assert!(again.expect("answer") == ran.answer, "after step {step}");
    }
}

/// The same plan with one weight more by 1.
fn altered(plan: &VerifiedPlan) -> VerifiedPlan {
    let mut plan = plan.plan().clone();
    let terms = plan.steps.iter_mut().find_map(|s| match &mut s.operation {
        Operation::Weigh { terms, .. } => Some(terms),
        _ => None,
    });
    let Some(Term::Kernel { weights, .. }) = terms.and_then(|t| t.first_mut()) else {
        panic!("a layer");
    };
    let mut all = vec![0; weights.len()];
    weights.read(0, &mut all).expect("held");
    all[0] += 1;
    *weights = all.into();
    VerifiedPlan::new(plan).expect("holds together")
}

/// With weights in a file beside the plan: the same plan, and the same answer from rows that are read when they are used. Files that do not
/// belong, are cut, missing or changed are refused in one line.
fn with_weights_beside(ran: &Ran) {
    let (compiled, name) = (ran.server.plan(), "net.plan");
    let path = std::env::temp_dir().join(format!("polyveil-{}.weights", std::process::id()));
    let written = |plan: &VerifiedPlan| {
        let (out, weights) = ((Vec::new(), name), (Vec::new(), "net.weights"));
        plan.plan().write_beside(out, weights).expect("written")
    };
    let (file, weights) = written(compiled);
    let read = |beside: Option<&std::path::Path>| {
        VerifiedPlan::read_within(&file[..], name, Limits::default(), beside)
    };
    let with = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("written");
        read(Some(&path))
    };
    let plan = Arc::new(with(&weights).expect("belongs"));
    assert!(plan.plan() == compiled.plan() && plan.digest() == compiled.digest());
    assert_eq!(plan.plan().write(Vec::new(), "x").expect("written"), {
        compiled.plan().write(Vec::new(), "x").expect("written")
    });
    let held = compiled.facts().peak_without_keys - plan.facts().peak_without_keys;
    let count = |t: &Term| match t {
        Term::Kernel { weights, .. } => weights.held_bytes(),
        Term::Multiple { .. } => 0,
    };
    let terms = compiled
        .plan()
        .steps
        .iter()
        .flat_map(|s| match &s.operation {
            Operation::Weigh { terms, .. } => &terms[..],
            _ => &[],
        });
    assert_eq!(held, terms.map(count).sum::<u64>());

    let server = Server::read(plan.clone(), &ran.keys[..], "keys", &mut |_, _| {});
    let server = server.expect("server");
    let run = || {
        let state = server.read_input(&ran.input[..], "input").expect("belongs");
        let answer = server.run(state, &mut ())?;
        server.write_answer(&answer, Vec::new(), "answer")
    };
    assert!(run().expect("runs") == ran.answer, "another answer");

    let refused = |read: Result<VerifiedPlan, runtime::Error>, what: &str| {
        let told = read.map(drop).expect_err(what).to_string();
        assert!(
            !told.contains('\n') && told.contains(".weights") | told.contains(name),
            "{what}: {told}"
        );
        told
    };
    refused(read(None), "nothing given");
    let told = refused(read(Some("nowhere.weights".as_ref())), "missing");
    assert!(told.contains("compile again"), "{told}");
    for length in [0, 100, 192, 300, weights.len() / 2, weights.len() - 1] {
        refused(with(&weights[..length]), "short");
    }
    refused(with(&[&weights[..], &[0]].concat()), "long");
    refused(with(&file), "a plan");
    let (_, others) = written(&in_one_ring(compiled));
    let told = refused(with(&others), "another plan's");
    assert!(told.contains("another plan"), "{told}");
    for k in 0..200 {
        let mut bytes = weights.clone();
        bytes[k * 7919 % weights.len()] ^= 1 << (k % 8);
        refused(with(&bytes), "changed");
    }
    let (_, altered) = written(&altered(compiled));
    let told = refused(
        with(&[&weights[..192], &altered[192..]].concat()),
        "altered",
    );
    assert!(told.contains("digest"), "{told}");

    // the open file changes under a run
    with(&weights).expect("belongs");
    let server = Server::read(
        Arc::new(read(Some(&path)).expect("belongs")),
        &ran.keys[..],
        "keys",
        &mut |_, _| {},
    );
    let server = server.expect("server");
    let mut bytes = weights.clone();
    bytes[204] ^= 1;
    std::fs::write(&path, &bytes).expect("written");
    let state = server.read_input(&ran.input[..], "input").expect("belongs");
    let error = server.run(state, &mut ()).map(drop).expect_err("changed");
    let told = error.to_string();
    assert!(
        told.contains(".weights") && told.contains("changed"),
        "{told}"
    );
    assert_eq!(error.help(), Some(runtime::Help::Resume));
    std::fs::remove_file(&path).expect("removed");
}

/// An open file that has no name any more.
fn tempfile(bytes: &[u8]) -> std::fs::File {
    let path = std::env::temp_dir().join(format!("polyveil-keys-{}", std::process::id()));
    std::fs::write(&path, bytes).expect("written");
    let file = std::fs::File::open(&path).expect("there");
    std::fs::remove_file(&path).expect("removed");
    file
}

#[test]
fn a_network_in_coefficients_runs_on_ciphertexts() {
    let mut random = Random(11);
    let (graph, data) = strided(&mut random);
    let compiled = check("small", &graph, &data, 10);
    let rings = within(&compiled);
    assert!(rings.contains(&Within::Small), "{rings:?}");
    let ran = on_ciphertexts(&compiled, &graph, &data[0]);
    with_stored_keys(&ran);
    with_weights_beside(&ran);
    resumed(&ran);
    let one = in_one_ring(&compiled);
    on_ciphertexts(&one, &graph, &data[0]);
    let steps = |plan: &VerifiedPlan| plan.facts().total.seconds(&CostTable::default());
    assert!(steps(&compiled) < steps(&one));
    // the same values, garbage included, whichever way
    let [a, b] = [&compiled, &one].map(|p| in_the_clear(p, &data[0]));
    assert!(largest(a.iter().zip(&b).map(|(a, b)| a - b)) < 1e-9);
}

/// Through twenty layers the bound stays of the size of errors, encryption's and that of integer weights.
#[test]
fn what_a_deep_networks_answer_may_be_off_by_is_stated_closely() {
    let mut random = Random(13);
    let graph = resnet(&mut random, 8, &[4, 8], 5, 5);
    let (graph, data) = twin(&graph, &mut random, 24, 4);
    let plan = check_for("deep", &graph, &data, &target_of(10, 4));
    on_ciphertexts(&plan, &graph, &data[0]);
    let bounds = plan.answer_bounds();
    let off = data.iter().take(4).map(|x| {
        let (want, had) = (
            graph.evaluate(x).expect("runs").output,
            in_the_clear(&plan, x),
        );
        largest(had.iter().zip(want.values()).map(|(a, b)| a - b))
    });
    let off = largest(off);
    println!("integer weights: {off:.1e} of {:.1e}", bounds.weights);
    assert!(off <= bounds.weights);
}

/// Convolutions, each followed by a layer of one place that widens it, with or without an activation between; groups, sums, channels that fill nothing.
fn widened(random: &mut Random, [narrow, wide, groups]: [usize; 3], between: bool) -> Graph {
    let mut b = Network::builder();
    let mut x = b.input("input", Shape::image(3, 7, 7)).expect("valid");
    let mut from = 3;
    for i in 0..2 {
        let conv = random.convolution(from, narrow, 3, 1, 1);
        let before = x;
        x = conv_bn(&mut b, random, &format!("conv{i}"), x, conv);
        if between {
            x = act(&mut b, &format!("narrow{i}"), x, Activation::Silu);
        } else if from == narrow {
            x = b
                .add(format!("add{i}"), Op::Add, &[x, before])
                .expect("valid");
        }
        let size = (3.0 / (narrow / groups) as f64).sqrt();
        let wider = Conv2d {
            groups,
            bias: Some(random.parameter(&[wide], 0.2)),
            ..Conv2d::new(random.parameter(&[wide, narrow / groups, 1, 1], size))
        };
        x = conv_bn(&mut b, random, &format!("wider{i}"), x, wider);
        x = act(&mut b, &format!("act{i}"), x, Activation::Silu);
        from = wide;
    }
    head(&mut b, random, x, wide, 5)
}

/// Layers of one place stay in slots between activations where their diagonals are cheaper than a way down and up; both ways mean the same.
#[test]
fn layers_of_one_place_stay_in_slots_where_that_is_cheaper() {
    let mut random = Random(17);
    for (shape, between) in [
        ([16, 64, 1], true),
        ([12, 44, 2], true),
        ([10, 50, 5], false),
    ] {
        let graph = widened(&mut random, shape, between);
        let (graph, data) = twin(&graph, &mut random, 12, 4);
        let name = format!("{shape:?} {between}");
        let plan = check_for(&name, &graph, &data, &target_of(10, 5));
        let maps = |o: &Operation| matches!(o, Operation::Linear { .. });
        let count = plan
            .plan()
            .steps
            .iter()
            .filter(|s| maps(&s.operation))
            .count();
        let plain = coefficients::compile(&graph, &target(10)).expect("compiles");
        let seconds =
            |p: &VerifiedPlan| p.predicted_steps(&CostTable::default()).iter().sum::<f64>();
        println!(
            "{name}: {count} maps, {:.4} and {:.4} CPU seconds",
            seconds(&plan),
            seconds(&plain)
        );
        assert!(
            !plain.plan().steps.iter().any(|s| maps(&s.operation)),
            "{name}"
        );
        assert!(count > 0, "{name}");
        estimated(&name, &graph, &target_of(10, 5));
        if shape[0] == 16 {
            on_ciphertexts(&plan, &graph, &data[0]);
        }
    }
}

/// Values of up to 9 before an activation of values up to 0.001: the weights between are larger than integers may be, which slots don't mind.
#[test]
fn weights_beyond_the_integers_name_the_way_out() {
    let mut b = Network::builder();
    let x = b.input("input", Shape::image(1, 4, 4)).expect("valid");
    let weight = Parameter::new("one", [1, 1, 1, 1], vec![1.0]).expect("finite");
    let conv = Op::Conv2d(Conv2d::new(weight));
    let x = b.add("conv", conv, &[x]).expect("valid");
    let p = approx::Polynomial::from_monomial(&[0.0, 0.0, 9.0], (-0.001, 0.001)).expect("valid");
    let x = b.add("act", Op::Elementwise(p), &[x]).expect("valid");
    let graph = PolyGraph::from(b.finish(x).expect("valid"));
    let range = nn::Range {
        min: -9.0,
        max: 9.0,
    };
    let ranges = vec![range; graph.nodes().len()];
    let graph = graph.with_ranges(ranges).expect("one each");
    let told = coefficients::compile(&graph, &target(10)).map(|_| ());
    let text = told.expect_err("too large").to_string();
    assert!(
        text.contains("up to 256") && text.contains("in slots"),
        "{text}"
    );
}

/// Inputs of one answer each, more of them than slots that hold their answers.
#[test]
fn a_batch_of_single_answers_lies_in_coefficients() {
    let mut random = Random(41);
    let mut b = Network::builder();
    let x = b.input("input", Shape::image(1, 6, 6)).expect("valid");
    let conv = random.convolution(1, 2, 3, 1, 1);
    let x = conv_bn(&mut b, &mut random, "conv", x, conv);
    let x = act(&mut b, "act", x, Activation::Silu);
    let x = b.add("pool", Op::GlobalAvgPool, &[x]).expect("valid");
    let x = b.add("flatten", Op::Flatten, &[x]).expect("valid");
    let dense = Op::Linear(random.dense(2, 1));
    let x = b.add("linear", dense, &[x]).expect("valid");
    let graph = b.finish(x).expect("valid");
    let (graph, _) = twin(&graph, &mut random, 12, 4);
    for batch in [8, 16] {
        let target = Target {
            batch,
            ..target(10)
        };
        let plan =
            coefficients::compile(&graph, &target).unwrap_or_else(|e| panic!("{batch}: {e}"));
        assert_eq!(plan.plan().output.batch, batch);
    }
}

/// A tensor's channels, or single values, put elsewhere.
fn moved(b: &mut Builder, name: &str, x: NodeId, shape: Shape, offsets: Vec<Vec<u32>>) -> NodeId {
    let moves = Op::Rearrange(Rearrange { shape, offsets });
    b.add(name, moves, &[x]).expect("valid")
}

/// How a block multiplies its values.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Gate {
    /// By a number for each channel, made of the channels' means through few channels.
    Channels,
    /// The same of the means alone, which is a value of its own first.
    Straight,
    /// By one number for each place.
    Places,
    /// By a linear layer of them, squared as well.
    Twice,
}

/// A layer of steps of two, its channels shuffled, and a block whose values are multiplied by what is made of them, beside a shortcut.
fn gated(random: &mut Random, channels: usize, size: [usize; 2], gate: Gate) -> Graph {
    let mut b = Network::builder();
    let add = |b: &mut Builder, name: &str, op, x: &[NodeId]| b.add(name, op, x).expect("valid");
    let input = Shape::image(3, size[0], size[1]);
    let x = b.input("input", input).expect("valid");
    let conv = random.convolution(3, channels, 3, 2, 1);
    let x = conv_bn(&mut b, random, "conv", x, conv);
    let shape = b.shape(x);
    let [_, h, w] = <[usize; 3]>::try_from(shape.dims()).expect("a picture");
    let numbers = |count: usize, step: usize| (0..count).map(|i| (i * step) as u32).collect();
    let (rows, columns): (Vec<u32>, Vec<u32>) = (numbers(h, w), numbers(w, 1));
    let turned = (0..channels).map(|c| ((c * 5 + 1) % channels * h * w) as u32);
    let offsets = vec![turned.collect(), rows.clone(), columns.clone()];
    let shortcut = moved(&mut b, "shuffle", x, shape, offsets);
    let x = act(&mut b, "act", shortcut, Activation::Silu);
    // few channels hold values far from 0, so that what is made of zeros is out of the next interval
    let dense = |random: &mut Random, from: usize, to: usize| {
        let size = (3.0 / from as f64).sqrt();
        let far = Parameter::new("far", [to], vec![4.0; to]).expect("finite");
        Op::Conv2d(Conv2d {
            bias: Some(match to {
                2 => far,
                _ => random.parameter(&[to], 0.3),
            }),
            ..Conv2d::new(random.parameter(&[to, from, 1, 1], size))
        })
    };
    let spread = |b: &mut Builder, x| {
        let offsets = vec![numbers(channels, 1), vec![0; h], vec![0; w]];
        moved(b, "spread", x, shape, offsets)
    };
    let g = match gate {
        Gate::Channels | Gate::Straight => {
            let mut g = add(&mut b, "squeeze", Op::GlobalAvgPool, &[x]);
            let mut from = channels;
            if gate == Gate::Channels {
                g = add(&mut b, "fewer", dense(random, channels, 2), &[g]);
                g = act(&mut b, "few", g, Activation::Silu);
                from = 2;
            }
            g = add(&mut b, "more", dense(random, from, channels), &[g]);
            g = act(&mut b, "gate", g, Activation::Sigmoid);
            spread(&mut b, g)
        }
        Gate::Places => {
            let g = add(&mut b, "fewer", dense(random, channels, 1), &[x]);
            let g = act(&mut b, "gate", g, Activation::Sigmoid);
            let offsets = vec![vec![0; channels], rows, columns];
            moved(&mut b, "spread", g, shape, offsets)
        }
        Gate::Twice => {
            let g = add(&mut b, "mix", dense(random, channels, channels), &[x]);
            add(&mut b, "square", Op::Mul, &[g, g])
        }
    };
    let x = add(&mut b, "product", Op::Mul, &[x, g]);
    let conv = random.convolution(channels, channels, 3, 1, 1);
    let x = conv_bn(&mut b, random, "last", x, conv);
    let x = add(&mut b, "add", Op::Add, &[x, shortcut]);
    let x = act(&mut b, "end", x, Activation::Silu);
    head(&mut b, random, x, channels, 5)
}

/// Products of values, as in squeeze-and-excite, are taken in slots, whose layers lie in coefficients all the same; a gate of single values is applied
/// where they are multiplied.
#[test]
fn values_are_multiplied_in_slots() {
    let mut random = Random(31);
    for (channels, size, gate, log_n) in [
        (6, [11, 9], Gate::Channels, 10),
        (5, [16, 16], Gate::Straight, 10),
        (7, [9, 14], Gate::Places, 10),
        (4, [10, 10], Gate::Twice, 10),
        // held in phases
        (5, [48, 48], Gate::Channels, 12),
        (3, [56, 40], Gate::Straight, 12),
    ] {
        let name = format!("{gate:?} of {channels} channels, {size:?}");
        let graph = gated(&mut random, channels, size, gate);
        let (graph, data) = twin(&graph, &mut random, 24, 4);
        // as where nobody names a set: means over many places have small weights
        let spec = ParametersSpec::toy_coefficients(log_n, 4).expect("a preset");
        let target = Target {
            parameters: Some(spec.with_weight_bits(20)),
            ..Target::default()
        };
        let plan = check_for(&name, &graph, &data, &target);
        estimated(&name, &graph, &target);
        let up = |layer: &str| {
            let steps = plan.plan().steps.iter().filter(|s| s.layer == layer);
            let up = |s: &&runtime::Step| matches!(s.operation, Operation::HalfBootstrap { .. });
            steps.filter(up).count()
        };
        if gate == Gate::Channels {
            assert_eq!(up("spread"), 0, "{name}");
        }
        if log_n == 10 {
            on_ciphertexts(&plan, &graph, &data[0]);
        }
    }
    let graph = gated(&mut random, 4, [40, 40], Gate::Channels);
    let (graph, _) = twin(&graph, &mut random, 12, 4);
    // a mean over 400 places has small weights
    let estimate = coefficients::estimate(&graph, &Target::default()).expect("counts");
    assert_eq!(estimate.parameters, "coefficients-16-3-20");
    let told = coefficients::compile(&graph, &target(10)).map(|_| ());
    let text = told.expect_err("a level is missing").to_string();
    assert!(text.contains("3 levels"), "{text}");
}

#[test]
fn a_small_ring_is_named_in_the_parameters_or_not_used() {
    let mut random = Random(11);
    let (graph, _) = strided(&mut random);
    let compiled = coefficients::compile(&graph, &target(10)).expect("compiles");
    let p = compiled.parameters();
    let names: Vec<String> = p.key_security().into_iter().map(|k| k.name).collect();
    let small = names.iter().filter(|n| n.contains("degree 2^7"));
    assert_eq!(small.count(), 3, "{names:?}");
    let mut plan = compiled.plan().clone();
    plan.parameters = plan.parameters.with_small_ring(None);
    let text = VerifiedPlan::new(plan)
        .expect_err("no small ring")
        .to_string();
    assert!(text.contains("name no small ring"), "{text}");
    for log_n in [3, 10, 11] {
        let mut plan = compiled.plan().clone();
        plan.parameters = plan.parameters.with_small_ring(Some(log_n));
        let text = VerifiedPlan::new(plan)
            .expect_err("no such ring")
            .to_string();
        assert!(text.contains("a small ring of degree"), "{text}");
    }
    // classes that are no whole channels
    let mut plan = compiled.plan().clone();
    for step in &mut plan.steps {
        if let Operation::Weigh { within, .. } = &mut step.operation {
            *within = Within::Small;
        }
    }
    plan.parameters = plan.parameters.with_small_ring(Some(4));
    let text = VerifiedPlan::new(plan).expect_err("too small").to_string();
    assert!(text.contains("residue classes"), "{text}");
}

/// Several inputs in one run, fewer of them too; what a ciphertext has room for costs little more.
#[test]
fn inputs_share_ciphertexts() {
    let mut random = Random(13);
    let graph = resnet(&mut random, 8, &[4, 8], 1, 5);
    let (graph, data) = twin(&graph, &mut random, 24, 4);
    let of = |batch| Target {
        batch,
        ..target(12)
    };
    let seconds = |plan: &VerifiedPlan| plan.predicted_steps(&Target::default().cost).iter().sum();
    let one: f64 = seconds(&coefficients::compile(&graph, &of(1)).expect("compiles"));
    let compiled = coefficients::compile(&graph, &of(4)).expect("compiles");
    let plan = &compiled;
    let (four, inputs): (f64, usize) = (seconds(plan), plan.plan().input.registers.len());
    println!("{four} for four, {one} for one; {inputs} ciphertexts");
    assert!(four < 2.0 * one, "{four}, {one}");
    let beside = |count: usize| -> (Vec<f64>, Vec<f64>) {
        let values = data[..count].iter().flat_map(|x| x.values().to_vec());
        let values: Vec<f64> = values.collect();
        let twin = ClearTwin::new(plan, &plan.client_spec(), &values).expect("fits");
        (values, twin.finish().expect("within its intervals"))
    };
    for count in [4, 3] {
        let had = beside(count).1;
        assert_eq!(had.len(), 4 * 5);
        for (x, had) in data[..count].iter().zip(had.chunks(5)) {
            let want = graph.evaluate(x).expect("runs").output;
            let size = largest(want.values().iter().copied());
            let error = largest(had.iter().zip(want.values()).map(|(a, b)| a - b));
            assert!(error < 2e-3 * size, "{error} of {size}");
        }
    }
    let file = plan.plan().write(Vec::new(), "plan").expect("written");
    let plan = Arc::new(VerifiedPlan::read(&file[..], "plan").expect("read"));
    assert_eq!(plan.plan(), compiled.plan());
    let file = plan.client_file([].into()).expect("no task");
    let bytes = file.write(Vec::new(), "client").expect("written");
    assert_eq!(
        runtime::ClientFile::read(&bytes[..], "client").expect("read"),
        file
    );
    let client = Client::new(file, &mut rng(1));
    let keys = client.evaluation_keys(&mut rng(2)).expect("keys");
    let server = Server::new(plan.clone(), keys).expect("server");
    for count in [4, 3] {
        let (values, clear) = beside(count);
        let input = client.input(&values, &mut rng(3)).expect("encrypts");
        let answer = server.answer(&input, &mut ()).expect("runs");
        let had = client.answer(&answer).expect("an answer that can be");
        let error = largest(had.iter().zip(&clear).map(|(a, b)| a - b));
        let stated = plan.answer_bounds().stated_error();
        println!("{count} on ciphertexts: error {error:.1e} of {stated:.1e}");
        assert!(had.len() == 4 * 5 && error <= stated, "{error} of {stated}");
        // a ciphertext less than the alarm has
        let state = server.read_input(&input[..], "input").expect("belongs");
        let mut answer = server.run(state, &mut ()).expect("runs");
        answer.ciphertexts.pop();
        assert!(client.decrypt(&answer).is_err());
    }
    let refused = coefficients::compile(&graph, &of(3)).expect_err("no power of two");
    assert!(refused.to_string().contains("power of two"), "{refused}");
}

/// Of a batch each of the alarm's sums is one input's, wherever its channels lie: what is in the others does not change it, and what is in it does.
#[test]
fn sums_of_the_alarm_are_one_inputs_each() {
    let mut random = Random(21);
    let shapes = |channels, size, strides| Shapes {
        channels,
        size,
        kernels: [[3, 3]; 2],
        strides,
        groups: [1, 1],
        pads: [[1; 4]; 2],
    };
    let residual = |random: &mut Random| resnet(random, 8, &[4, 8], 1, 5);
    let dense = {
        let mut b = Network::builder();
        let mut x = b.input("input", Shape::Vector(16)).expect("valid");
        for (i, (from, to)) in [(16, 32), (32, 48), (48, 5)].into_iter().enumerate() {
            if i > 0 {
                x = act(&mut b, &format!("act{i}"), x, Activation::Silu);
            }
            let dense = Op::Linear(random.dense(from, to));
            x = b.add(format!("dense{i}"), dense, &[x]).expect("valid");
        }
        b.finish(x).expect("valid")
    };
    let uneven = shapes([3, 5, 11], [8, 8], [1, 2]);
    let phases = shapes([3, 4, 6], [16, 16], [2, 2]);
    let networks = [
        ("residual, shared", residual(&mut random), (12, 2), 4),
        ("residual, their own", residual(&mut random), (9, 2), 4),
        ("uneven", small(&mut random, &uneven), (10, 2), 4),
        ("many, uneven", small(&mut random, &uneven), (10, 2), 32),
        ("phases", small(&mut random, &phases), (10, 2), 2),
        (
            "layers in slots",
            widened(&mut random, [16, 64, 1], true),
            (10, 5),
            4,
        ),
        ("one place", dense.clone(), (10, 2), 4),
        ("one place, a part for each half", dense, (9, 2), 16),
    ];
    for (name, graph, (log_n, levels), batch) in networks {
        let (graph, data) = twin(&graph, &mut random, 40, 4);
        let target = Target {
            batch,
            range_margin: 4.0,
            ..target_of(log_n, levels)
        };
        let plan = coefficients::compile(&graph, &target).unwrap_or_else(|e| panic!("{name}: {e}"));
        let alarm = plan.plan().description.alarm.as_ref().expect("one");
        println!("{name}: {} of {batch}, {alarm}", alarm.sums().count());
        assert!(
            alarm.sums().all(|s| s.owners.is_some()) && alarm.sums().count() <= batch.max(16),
            "{name}: {alarm:?}"
        );
        let sums = |of: &dyn Fn(usize) -> f64| {
            let all = data[..batch].iter().enumerate();
            let values = all.flat_map(|(b, x)| x.values().iter().map(move |v| of(b) * v));
            let values: Vec<f64> = values.collect();
            let (_, sums) = plan.simulate_with_alarm(&values, None).expect("runs");
            sums
        };
        let as_they_are = sums(&|_| 1.0);
        for at in [0, 1, batch / 2, batch - 1] {
            let one_outside = sums(&|b| if b == at { 1.7 } else { 1.0 });
            for (b, (had, was)) in one_outside.iter().zip(&as_they_are).enumerate() {
                match b == at {
                    true => assert!(*had > 4.0 * was, "{name}: {had} of input {b}, {was}"),
                    false => assert!(
                        (had / was - 1.0).abs() < 1e-6,
                        "{name}: {had} of input {b}, {was}, where input {at} is outside"
                    ),
                }
            }
        }
    }
}

#[test]
fn plans_that_do_not_hold_together_are_refused() {
    let mut random = Random(12);
    let graph = resnet(&mut random, 8, &[4, 8], 1, 5);
    let (graph, _) = twin(&graph, &mut random, 24, 4);
    let plan = coefficients::compile(&graph, &target(10)).expect("compiles");
    let refused = |what: &str, change: &dyn Fn(&mut Plan)| {
        let mut plan = plan.plan().clone();
        change(&mut plan);
        let text = VerifiedPlan::new(plan).expect_err(what).to_string();
        assert!(text.contains(what), "{what}: {text}");
    };
    let weigh = |plan: &mut Plan, f: &dyn Fn(&mut Vec<Term>, &mut Folding)| {
        let steps = plan.steps.iter_mut().map(|s| &mut s.operation);
        let found = steps.filter_map(|o| match o {
            Operation::Weigh { terms, to, .. } => Some((terms, to)),
            _ => None,
        });
        found.take(1).for_each(|(terms, to)| f(terms, to));
    };
    let kernel = |plan: &mut Plan, f: &dyn Fn(&mut Term)| weigh(plan, &|terms, _| f(&mut terms[0]));
    refused("at most", &|p| {
        kernel(p, &|t| {
            if let Term::Kernel { weights, .. } = t {
                *weights = vec![i32::MAX; weights.len()].into();
            }
        });
    });
    refused("weights", &|p| {
        kernel(p, &|t| {
            if let Term::Kernel { weights, .. } = t {
                *weights = vec![1; weights.len() - 1].into();
            }
        });
    });
    refused("rows above", &|p| {
        kernel(p, &|t| {
            if let Term::Kernel {
                kernel,
                before,
                weights,
                ..
            } = t
            {
                let rows = weights.len() / (kernel[0] * kernel[1]);
                (*kernel, *before) = ([63, 1], [32, 0]);
                *weights = vec![1; rows * 63].into();
            }
        });
    });
    refused("powers of two", &|p| weigh(p, &|_, to| to.spacing = 3));
    refused("not in slots", &|p| {
        let input = p.input.registers[0];
        let mut step = p.steps[0].clone();
        step.operation = Operation::Square {
            input,
            output: 1 << 16,
            constant: 0.0,
        };
        p.steps.insert(0, step);
    });
    refused("half bootstrap", &|p| {
        for s in &mut p.steps {
            if let Operation::HalfBootstrap { gain, .. } = &mut s.operation {
                *gain = 0;
            }
        }
    });
}

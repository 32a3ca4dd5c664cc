//! Seeds of the project's own files: toy plans with every operation, their two sides and all that these exchange.

use ckks::map::{Classes, Term, Values};
use ckks::parameters::{BootstrapSpec, Zone};
use ckks::{BlockMap, Bootstrap, Complex64, ParametersSpec, Polynomial};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use runtime::checkpoint::Checkpointer;
use runtime::folding::{Folding, TermOn, Within};
use runtime::wire::task_digest;
use runtime::{
    Cache, Client, ClientFile, Description, Kept, Operation, Owners, Plan, Port, Purpose, Sequence,
    Server, Step, Sums, VerifiedPlan,
};
use std::sync::Arc;

pub(crate) const SLOTS: usize = 8;

fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

fn levelled(levels: usize) -> ParametersSpec {
    ParametersSpec {
        name: "toy-fuzz".into(),
        log_n: 4,
        base_bits: 30,
        residual: Zone::new(levels, &[25]),
        bootstrap: None,
        special_bits: vec![30; levels.div_ceil(2)],
        dnum: 2,
        log_scale: 25,
    }
}

fn bootstrapped() -> ParametersSpec {
    ParametersSpec {
        base_bits: 50,
        residual: Zone::new(2, &[42]),
        log_scale: 42,
        bootstrap: Some(BootstrapSpec {
            product: Zone::new(0, &[30]),
            log_ratio: 10.65,
            small_ring: None,
            weight_bits: 16,
            slot_to_coeff: Zone::new(1, &[37]),
            eval_mod: vec![Zone::new(3, &[50])],
            coeff_to_slot: Zone::new(1, &[50]),
            hamming_weight: 4,
            range: 2,
            degree: 3,
            double_angles: 1,
        }),
        special_bits: vec![50; 5],
        ..levelled(2)
    }
}

/// Values in coefficients, and a small ring.
fn with_small_ring() -> ParametersSpec {
    ParametersSpec {
        log_n: 6,
        base_bits: 50,
        residual: Zone::new(1, &[42]),
        bootstrap: Some(BootstrapSpec {
            product: Zone::new(1, &[30]),
            log_ratio: 10.65,
            small_ring: Some(4),
            weight_bits: 16,
            slot_to_coeff: Zone::new(1, &[38]),
            eval_mod: vec![Zone::new(3, &[50])],
            coeff_to_slot: Zone::new(1, &[50]),
            hamming_weight: 4,
            range: 2,
            degree: 3,
            double_angles: 1,
        }),
        special_bits: vec![49; 5],
        log_scale: 42,
        ..levelled(1)
    }
}

/// Two channels of 2×2 among the coefficients of a ring of degree 2^6, in two layers with a square between: both have these weights, of so many bits.
pub(crate) fn in_coefficients(weights: [i32; 4], bits: u32) -> Plan {
    let folding = || Folding {
        spacing: 8,
        gap: 4,
        pitch: 2,
        shape: [2, 2, 2],
    };
    let weigh = |input, output, within| Operation::Weigh {
        outputs: vec![output],
        to: folding(),
        terms: vec![
            TermOn::Kernel {
                inputs: vec![input],
                from: folding(),
                kernel: [1, 1],
                before: [0, 0],
                stride: 1,
                groups: 1,
                flat: false,
                weights: weights.to_vec().into(),
            },
            TermOn::Multiple {
                inputs: vec![input],
                factor: 1 << (bits - 2),
            },
        ],
        bias: vec![Some(vec![0.0625, -0.125].into())],
        within,
    };
    let operations = vec![
        weigh(0, 1, Within::Small),
        Operation::HalfBootstrap {
            input: 1,
            outputs: vec![2],
            slots: SLOTS,
            target: 3,
            gain: 1,
        },
        Operation::Square {
            input: 2,
            output: 3,
            constant: 0.125,
        },
        Operation::Descend {
            inputs: vec![3],
            output: 4,
            to: folding(),
        },
        weigh(4, 5, Within::Whole),
    ];
    let parameters = with_small_ring().with_weight_bits(bits);
    let mut plan = plan(parameters, (5, 0), operations);
    plan.input.level = 1;
    plan
}

fn port(name: &str, register: usize, level: usize, unit: f64) -> Port {
    Port {
        name: name.into(),
        shape: vec![SLOTS],
        registers: vec![register],
        slots: SLOTS,
        places: (0..SLOTS as u32).map(|s| (0, s)).collect(),
        batch: 1,
        level,
        unit,
    }
}

fn linear(input: usize, outputs: &[usize], folds: Vec<usize>) -> Operation {
    let term = |output, giant, baby, values| Term {
        input: 0,
        output,
        giant,
        baby,
        values,
    };
    let real = |w: f32| Values::Real(vec![w; SLOTS].into());
    let kernel = |mask: Option<u8>| Values::Kernel {
        weights: vec![0.0625, -0.125].into(),
        classes: Classes::new(2, vec![0, 1, 1, 0]).into(),
        mask: mask.map(|m| [m].into()),
    };
    let complex = Values::Complex(vec![Complex64::new(0.25, -0.125); 2].into());
    let terms = outputs
        .iter()
        .enumerate()
        .flat_map(|(o, _)| {
            [
                term(o, 0, 0, real(0.5)),
                term(o, 2, 1, real(-0.25)),
                term(o, 0, 1, complex.clone()),
                term(o, 2, 0, kernel((o % 2 == 1).then_some(0b0111))),
            ]
        })
        .collect();
    Operation::Linear {
        inputs: vec![input],
        outputs: outputs.to_vec(),
        map: BlockMap::new(SLOTS, 1, outputs.len(), terms, folds).expect("a valid seed"),
        bias: outputs
            .iter()
            .map(|o| (o % 2 == 1).then(|| vec![0.125, -0.5].into()))
            .collect(),
        period: SLOTS,
    }
}

fn plan(parameters: ParametersSpec, output: (usize, usize), operations: Vec<Operation>) -> Plan {
    let level = parameters.residual.levels;
    Plan {
        parameters,
        description: Description {
            name: "toy".into(),
            input_bound: 2.0,
            task: task_digest(TASK),
            ..Description::default()
        },
        input: port("x", 0, level, 2.0),
        output: port("y", output.0, output.1, -3.0),
        sequence: None,
        steps: operations
            .into_iter()
            .enumerate()
            .map(|(i, operation)| Step {
                layer: format!("layer{}", i / 2),
                purpose: Purpose::Weights,
                operation,
                unit: 1.0,
                interval: None,
            })
            .collect(),
    }
}

/// Plans with every operation; the first is cheap to verify.
pub(crate) fn plans() -> [Plan; 4] {
    let arithmetic = vec![
        linear(0, &[1, 2], vec![1]),
        Operation::Align {
            input: 1,
            output: 3,
            level: 1,
        },
        Operation::Multiply {
            left: 1,
            right: 2,
            more: vec![(1, 1)],
            output: 4,
            factor: 2,
            add: vec![(0.5, 1)],
            constant: -0.25,
            bound: 1.5,
        },
        Operation::Add {
            left: 3,
            right: 4,
            output: 5,
        },
    ];
    let polynomials = vec![
        Operation::Polynomial {
            input: 0,
            output: 1,
            polynomial: Polynomial::new(vec![0.25, 0.5, 0.0, 0.125]).expect("a valid seed"),
        },
        Operation::Quartic {
            input: 1,
            output: 2,
            coefficients: [0.5, -0.25, 0.125, 0.25],
        },
        Operation::Square {
            input: 2,
            output: 3,
            constant: -0.25,
        },
        Operation::Squares {
            inputs: vec![(0.5, 0), (1.0, 1)],
            sum: None,
            output: 4,
            level: 2,
        },
        Operation::Squares {
            inputs: vec![(1.0, 4)],
            sum: Some(3),
            output: 5,
            level: 1,
        },
        Operation::Fold {
            input: 5,
            output: 6,
            slots: 4,
            level: 0,
        },
    ];
    let bootstraps = vec![
        Operation::Bootstrap {
            inputs: vec![0, 0],
            outputs: vec![1, 2],
            bootstrap: Bootstrap {
                slots: SLOTS,
                target: 2,
                gain: 1.0,
            },
        },
        Operation::Add {
            left: 1,
            right: 2,
            output: 3,
        },
    ];
    let mut polynomials = plan(levelled(5), (3, 0), polynomials);
    let sums = |register, slots, owners| Sums {
        register,
        slots,
        owners,
    };
    polynomials.description.alarm = Some(runtime::Alarm {
        first: sums(6, 4, None),
        level: 0,
        threshold: 64.0,
        reach: 1.5,
        watched: 1,
        more: vec![sums(5, SLOTS, Some(Owners::new(2, vec![0, 0])))],
    });
    polynomials.description.simulated = Some(runtime::noise::Simulated {
        error: 1e-3,
        network: Some(1e-4),
        runs: 8,
    });
    [
        plan(levelled(3), (5, 1), arithmetic),
        polynomials,
        plan(bootstrapped(), (3, 2), bootstraps),
        in_coefficients([1 << 14, -(1 << 13), 77, 1 << 12], 16),
    ]
}

/// The last of them with weights of more bits.
pub(crate) fn fine() -> Plan {
    in_coefficients([1 << 18, -(1 << 17), 1237, 1 << 16], 20)
}

/// A plan that is a step of a sequence of three: what it keeps is the sum of what came in and of the input at a place.
pub(crate) fn step() -> Plan {
    let operations = vec![
        Operation::Multiply {
            left: 0,
            right: 1,
            more: Vec::new(),
            output: 3,
            factor: 1,
            add: Vec::new(),
            constant: 0.0,
            bound: 1.0,
        },
        Operation::Add {
            left: 2,
            right: 3,
            output: 4,
        },
        Operation::Square {
            input: 4,
            output: 5,
            constant: 0.25,
        },
    ];
    let mut plan = plan(levelled(3), (5, 1), operations);
    plan.sequence = Some(Sequence {
        more: vec![port("place", 1, 3, 1.0)],
        kept: vec![Kept {
            name: "sum".into(),
            before: vec![2],
            after: vec![4],
            slots: SLOTS,
            level: 2,
            unit: 1.0,
        }],
        runs: 3,
    });
    plan
}

/// The files of a sequence.
pub(crate) struct Steps {
    pub(crate) plan: VerifiedPlan,
    pub(crate) server: Server,
    pub(crate) file: Vec<u8>,
    pub(crate) client_file: Vec<u8>,
    pub(crate) input: Vec<u8>,
    /// Before the first run, and after it.
    pub(crate) caches: [Vec<u8>; 2],
}

impl Steps {
    pub(crate) fn new() -> Self {
        let plan = VerifiedPlan::new(step()).expect("a valid seed");
        let file = plan.client_file(TASK.into()).expect("a valid seed");
        let client = Client::new(file.clone(), &mut rng(1));
        let keys = client.evaluation_keys(&mut rng(2)).expect("a valid seed");
        let server = Server::new(Arc::new(plan.clone()), keys).expect("a valid seed");
        let tensor = [[0.5; SLOTS], [1.0; SLOTS]].concat();
        let input = client.input(&tensor, &mut rng(3)).expect("in memory");
        let first = Cache::empty(&plan, client.key()).expect("a valid seed");
        let read = plan.read_input(&input[..], "seed", client.key());
        let read = read.expect("a valid seed");
        let (_, second) = server.step(&read, &first, &mut ()).expect("runs");
        let write = |c: &Cache| c.write(&plan, Vec::new(), "seed").expect("in memory");
        let caches = [write(&first), write(&second)];
        Self {
            file: plan.plan().write(Vec::new(), "seed").expect("in memory"),
            client_file: file.write(Vec::new(), "seed").expect("in memory"),
            plan,
            server,
            input,
            caches,
        }
    }
}

/// One plan with its two sides and all files that they exchange.
pub(crate) struct Toy {
    pub(crate) plan: Arc<VerifiedPlan>,
    pub(crate) client: Client,
    pub(crate) server: Server,
    pub(crate) file: ClientFile,
    pub(crate) client_file: Vec<u8>,
    pub(crate) client_key: Vec<u8>,
    pub(crate) keys: Vec<u8>,
    pub(crate) input: Vec<u8>,
    pub(crate) answer: Vec<u8>,
    pub(crate) checkpoint: Vec<u8>,
}

/// The task of every client file.
pub(crate) const TASK: &[u8] = b"task of cats and dogs";

/// The input that checkpoints belong to.
pub(crate) const INPUT: [u8; 32] = [7; 32];

impl Toy {
    pub(crate) fn new(plan: Plan) -> Self {
        Self::of(plan, TASK)
    }
    /// The same with another task.
    pub(crate) fn of(mut plan: Plan, task: &[u8]) -> Self {
        plan.description.task = task_digest(task);
        let plan = Arc::new(VerifiedPlan::new(plan).expect("a valid seed"));
        let file = plan.client_file(task.into()).expect("a valid seed");
        let client = Client::new(file.clone(), &mut rng(1));
        let client_file = file.write(Vec::new(), "seed").expect("in memory");
        let client_key = client.write(Vec::new(), "seed").expect("in memory");
        let keys = client
            .write_evaluation_keys(Vec::new(), "seed", &mut rng(2), &mut |_, _| {})
            .expect("in memory");
        let server =
            Server::read(plan.clone(), &keys[..], "seed", &mut |_, _| {}).expect("a valid seed");
        let input = client
            .write_input(&[0.5; SLOTS], Vec::new(), "seed", &mut rng(3))
            .expect("in memory");
        let mut state = server.read_input(&input[..], "seed").expect("a valid seed");
        plan.advance(server.engine(), &mut state, &mut ())
            .expect("a step");
        let checkpoint = Checkpointer::new(&plan, server.engine(), "seed".into(), INPUT)
            .write(&state, Vec::new(), "seed")
            .expect("in memory");
        let answer = server.run(state, &mut ()).expect("runs");
        let answer = server
            .write_answer(&answer, Vec::new(), "seed")
            .expect("in memory");
        Self {
            plan,
            client,
            server,
            file,
            client_file,
            client_key,
            keys,
            input,
            answer,
            checkpoint,
        }
    }
}

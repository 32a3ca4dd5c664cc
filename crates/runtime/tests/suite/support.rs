//! Toy plans with their two sides.

use ckks::map::{Term, Values};
use ckks::{BlockMap, Bootstrap, ParametersSpec, Polynomial};
use polyveil_runtime::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

pub(crate) const SLOTS: usize = 16;

/// A circulant map with three diagonals; its definition on real vectors is `circulant`.
pub(crate) fn map(weights: [f32; 3]) -> BlockMap {
    let diagonal = |w: f32| Values::Real(vec![w; SLOTS].into());
    let term = |offset: usize, w: f32| Term {
        input: 0,
        output: 0,
        giant: offset & !1,
        baby: offset & 1,
        values: diagonal(w),
    };
    BlockMap::new(
        SLOTS,
        1,
        1,
        vec![
            term(0, weights[0]),
            term(1, weights[1]),
            term(5, weights[2]),
        ],
        vec![],
    )
    .expect("valid")
}

pub(crate) fn circulant(weights: [f32; 3], x: &[f64]) -> Vec<f64> {
    let w = weights.map(f64::from);
    (0..SLOTS)
        .map(|j| w[0] * x[j] + w[1] * x[(j + 1) % SLOTS] + w[2] * x[(j + 5) % SLOTS])
        .collect()
}

pub(crate) fn port(name: &str, register: usize, level: usize, unit: f64) -> Port {
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

pub(crate) fn linear(layer: &str, input: usize, output: usize, weights: [f32; 3]) -> Step {
    let bias = vec![Some(vec![0.125].into())];
    Step {
        layer: layer.into(),
        purpose: Purpose::Weights,
        operation: Operation::Linear {
            inputs: vec![input],
            outputs: vec![output],
            map: map(weights),
            bias,
            period: SLOTS,
        },
        unit: 1.0,
        interval: None,
    }
}

pub(crate) const FIRST: [f32; 3] = [0.3, -0.2, 0.25];

pub(crate) const SECOND: [f32; 3] = [0.5, 0.1, -0.3];

/// linear → x² − 0.25 → linear, plus the square again; input unit 2.
pub(crate) fn levelled() -> Plan {
    Plan {
        parameters: ParametersSpec::toy_levelled(6, 4),
        description: Description {
            name: "toy".into(),
            input_bound: 2.0,
            ..Description::default()
        },
        input: port("x", 0, 4, 2.0),
        output: port("y", 5, 1, -3.0),
        sequence: None,
        steps: vec![
            linear("conv1", 0, 1, FIRST),
            Step {
                layer: "act1".into(),
                purpose: Purpose::Weights,
                operation: Operation::Square {
                    input: 1,
                    output: 2,
                    constant: -0.25,
                },
                unit: 1.0,
                interval: None,
            },
            linear("conv2", 2, 3, SECOND),
            Step {
                layer: "add".into(),
                purpose: Purpose::Weights,
                operation: Operation::Align {
                    input: 2,
                    output: 4,
                    level: 1,
                },
                unit: 1.0,
                interval: None,
            },
            Step {
                layer: "add".into(),
                purpose: Purpose::Weights,
                operation: Operation::Add {
                    left: 3,
                    right: 4,
                    output: 5,
                },
                unit: -3.0,
                interval: None,
            },
        ],
    }
}

pub(crate) fn levelled_truth(x: &[f64]) -> Vec<f64> {
    let x: Vec<f64> = x.iter().map(|v| v / 2.0).collect();
    let s: Vec<f64> = circulant(FIRST, &x)
        .iter()
        .map(|v| (v + 0.125) * (v + 0.125) - 0.25)
        .collect();
    circulant(SECOND, &s)
        .iter()
        .zip(&s)
        .map(|(v, s)| (v + 0.125 + s) * -3.0)
        .collect()
}

pub(crate) fn tensor() -> Vec<f64> {
    (0..SLOTS).map(|i| (i as f64 * 0.7).sin() * 1.5).collect()
}

pub(crate) fn plan(plan: Plan) -> Arc<VerifiedPlan> {
    Arc::new(VerifiedPlan::new(plan).expect("verifies"))
}

/// Without a task.
pub(crate) fn client_file(plan: &VerifiedPlan) -> ClientFile {
    plan.client_file([].into()).expect("no task")
}

pub(crate) struct Files {
    pub(crate) plan: Arc<VerifiedPlan>,
    pub(crate) client: Client,
    pub(crate) keys: Vec<u8>,
    pub(crate) input: Vec<u8>,
}

pub(crate) fn files(p: Plan) -> Files {
    let plan = plan(p);
    let client = Client::new(client_file(&plan), &mut rng(1));
    let mut calls = 0;
    let keys = client
        .write_evaluation_keys(Vec::new(), "keys", &mut rng(2), &mut |_, _| calls += 1)
        .expect("keys");
    assert_eq!(
        (keys.len() as u64, calls),
        (client.evaluation_keys_bytes(), plan.facts().keys.0.len())
    );
    assert_eq!(keys.len() as u64, plan.facts().key_file_bytes);
    let bound = plan.plan().description.input_bound;
    let x: Vec<f64> = tensor().iter().map(|v| v * bound / 2.0).collect();
    let input = client
        .write_input(&x, Vec::new(), "input", &mut rng(3))
        .expect("input");
    assert_eq!(input.len() as u64, client.input_bytes());
    Files {
        plan,
        client,
        keys,
        input,
    }
}

impl Files {
    pub(crate) fn server(&self) -> Server {
        Server::read(self.plan.clone(), &self.keys[..], "keys", &mut |_, _| {}).expect("server")
    }
}

pub(crate) fn close(had: &[f64], want: &[f64], within: f64) {
    assert_eq!(had.len(), want.len());
    for (h, w) in had.iter().zip(want) {
        assert!((h - w).abs() <= within, "{had:?}\n{want:?}");
    }
}

/// linear → bootstrap → polynomial → bootstrap → linear.
pub(crate) fn bootstrapped() -> Plan {
    let bootstrap = |input, output| Operation::Bootstrap {
        inputs: vec![input],
        outputs: vec![output],
        bootstrap: Bootstrap {
            slots: SLOTS,
            target: 7,
            gain: 1.0,
        },
    };
    let polynomial = Polynomial::new(vec![0.1, 0.3, 0.05]).expect("valid");
    Plan {
        parameters: ParametersSpec::toy(9),
        description: Description {
            name: "toy".into(),
            input_bound: 1.0,
            ..Description::default()
        },
        input: port("x", 0, 5, 2.0),
        output: port("y", 5, 6, 1.0),
        sequence: None,
        steps: vec![
            linear("conv1", 0, 1, FIRST),
            Step {
                layer: "refresh1".into(),
                purpose: Purpose::Weights,
                operation: bootstrap(1, 2),
                unit: 1.0,
                interval: None,
            },
            Step {
                layer: "act1".into(),
                purpose: Purpose::Weights,
                operation: Operation::Polynomial {
                    input: 2,
                    output: 3,
                    polynomial,
                },
                unit: 1.0,
                interval: None,
            },
            Step {
                layer: "refresh2".into(),
                purpose: Purpose::Weights,
                operation: bootstrap(3, 4),
                unit: 1.0,
                interval: None,
            },
            linear("fc", 4, 5, SECOND),
        ],
    }
}

/// Two tensors side by side: every slot of the map of one is two.
pub(crate) fn batched() -> Plan {
    let weight = |offset: usize| -> Arc<[f32]> {
        (0..SLOTS)
            .map(|j| ((3 * j + offset) as f32).cos() / 4.0)
            .collect()
    };
    let term = |offset: usize| Term {
        input: 0,
        output: 0,
        giant: 2 * (offset & !1),
        baby: 2 * (offset & 1),
        values: Values::runs(weight(offset), 2),
    };
    let two = |p: Port| Port {
        slots: 2 * SLOTS,
        batch: 2,
        ..p
    };
    let terms = [0, 1, 5].map(term).to_vec();
    Plan {
        input: two(port("x", 0, 2, 2.0)),
        output: two(port("y", 1, 1, 2.0)),
        sequence: None,
        steps: vec![Step {
            layer: "conv".into(),
            purpose: Purpose::Weights,
            operation: Operation::Linear {
                inputs: vec![0],
                outputs: vec![1],
                map: BlockMap::new(2 * SLOTS, 1, 1, terms, vec![]).expect("valid"),
                bias: vec![None],
                period: 2 * SLOTS,
            },
            unit: 2.0,
            interval: None,
        }],
        ..levelled()
    }
}

/// A folder that goes when the test ends.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("polyveil-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).expect("writes");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The answer file's bytes.
pub(crate) fn answer(server: &Server, input: &[u8]) -> Result<Vec<u8>> {
    server.answer(input, &mut ())
}

/// The same plan, other keys.
pub(crate) fn other(f: &Files) -> Files {
    let client = Client::new(client_file(&f.plan), &mut rng(11));
    let keys = client
        .write_evaluation_keys(Vec::new(), "keys", &mut rng(12), &mut |_, _| {})
        .expect("keys");
    let bound = f.plan.plan().description.input_bound;
    let x: Vec<f64> = tensor().iter().map(|v| v * bound / 2.0).collect();
    let input = client
        .write_input(&x, Vec::new(), "input", &mut rng(13))
        .expect("input");
    Files {
        plan: f.plan.clone(),
        client,
        keys,
        input,
    }
}

/// `levelled` with an alarm: the square of its square's operand, and that again.
pub(crate) fn watched() -> Plan {
    let mut p = levelled();
    let step = |operation| Step {
        layer: "alarm".into(),
        purpose: Purpose::Repacking,
        operation,
        unit: 1.0,
        interval: None,
    };
    let squares = |inputs, sum, output, level| Operation::Squares {
        inputs,
        sum,
        output,
        level,
    };
    let (input, output, slots, level) = (8, 9, 4, 0);
    // a factor at a level below the operand's, and a second operand
    p.steps.splice(
        1..1,
        [
            squares(vec![(0.5, 1), (1.0, 1)], None, 6, 2),
            squares(vec![(1.0, 6)], None, 7, 1),
            squares(vec![(1.0, 6)], Some(7), 8, 1),
            Operation::Fold {
                input,
                output,
                slots,
                level,
            },
        ]
        .map(step),
    );
    p.description.alarm = Some(Alarm {
        first: Sums {
            register: 9,
            slots: 4,
            owners: None,
        },
        level: 0,
        threshold: 40.0,
        reach: 1.5,
        watched: 1,
        more: Vec::new(),
    });
    p
}

/// What its alarm reads: of every fourth slot.
pub(crate) fn watched_truth(x: &[f64]) -> Vec<f64> {
    let x: Vec<f64> = x.iter().map(|v| v / 2.0).collect();
    let t = circulant(FIRST, &x);
    let each = t.iter().map(|v| 2.0 * (1.25 * (v + 0.125).powi(2)).powi(2));
    let each: Vec<f64> = each.collect();
    (0..4)
        .map(|j| (0..4).map(|k| each[j + 4 * k]).sum())
        .collect()
}

/// Held by measurements that look at the whole process, or need a core: one at a time.
pub(crate) fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let held = ALONE.lock();
    held.unwrap_or_else(std::sync::PoisonError::into_inner)
}

//! The error bound is a bound: no error of any run of any plan lies above it, whatever its values share.

use crate::support::*;
use ckks::map::{Term, Values};
use ckks::{BlockMap, ParametersSpec, Polynomial};
use polyveil_runtime::*;
use rand_core::RngCore;

fn step(operation: Operation) -> Step {
    Step {
        layer: "step".into(),
        purpose: Purpose::Weights,
        operation,
        unit: 1.0,
        interval: None,
    }
}

/// From register 0 at the top to `output`, on inputs up to `bound`.
fn toy(steps: Vec<Step>, (output, level): (usize, usize), bound: f64) -> Plan {
    Plan {
        parameters: ParametersSpec::toy_levelled(6, 10),
        description: Description {
            name: "toy".into(),
            input_bound: bound,
            ..Description::default()
        },
        input: port("x", 0, 10, 1.0),
        output: port("y", output, level, 1.0),
        sequence: None,
        steps,
    }
}

/// The largest error of so many runs, as a part of the bound.
fn part_of_bound(p: Plan, runs: u64) -> f64 {
    let plan = plan(p);
    let client = Client::new(client_file(&plan), &mut rng(1));
    let keys = client
        .write_evaluation_keys(Vec::new(), "keys", &mut rng(2), &mut |_, _| {})
        .expect("keys");
    let server = Server::read(plan.clone(), &keys[..], "keys", &mut |_, _| {}).expect("server");
    let bound = plan.plan().description.input_bound;
    let x: Vec<f64> = tensor().iter().map(|v| v * bound / 2.0).collect();
    let want = plan.simulate(&x, None).expect("runs");
    let mut worst = 0.0f64;
    for seed in 0..runs {
        let input = client
            .write_input(&x, Vec::new(), "input", &mut rng(100 + seed))
            .expect("input");
        let state = server.read_input(&input[..], "input").expect("input");
        let answer = server.run(state, &mut ()).expect("runs");
        // an answer smaller than its error is no answer to a client, but an error all the same
        let had = client.secret_key().decrypt(&answer.ciphertexts[0]);
        let had = had.expect("decrypts");
        for (h, w) in had.iter().zip(&want) {
            worst = worst.max((h.re - w).abs());
        }
    }
    worst / plan.facts().output_error
}

/// y = 2^k·x by k additions of a value to itself, each by `double(from, to)`.
fn doublings(k: usize, levels: usize, double: impl Fn(usize, usize) -> Vec<Step>) -> Plan {
    let first = double(0, 1);
    let per: usize = first.iter().map(|s| s.operation.writes().len()).sum();
    let mut steps: Vec<Step> = (0..k).flat_map(|i| double(per * i, per * i + 1)).collect();
    let level = 10 - levels * k - 1;
    steps.push(step(Operation::Align {
        input: per * k,
        output: per * k + 1,
        level,
    }));
    toy(steps, (per * k + 1, level), (-(k as f64)).exp2())
}

fn add(left: usize, right: usize, output: usize) -> Step {
    step(Operation::Add {
        left,
        right,
        output,
    })
}

fn matrix(inputs: Vec<usize>, output: usize, terms: Vec<Term>, folds: Vec<usize>) -> Step {
    step(Operation::Linear {
        map: BlockMap::new(SLOTS, inputs.len(), 1, terms, folds).expect("valid"),
        inputs,
        outputs: vec![output],
        bias: vec![None],
        period: SLOTS,
    })
}

fn term(input: usize, offset: usize, weight: f32) -> Term {
    Term {
        input,
        output: 0,
        giant: 0,
        baby: offset,
        values: Values::Real(vec![weight].into()),
    }
}

#[test]
fn a_value_added_to_itself_is_within_its_bound() {
    // once 0.51, 1.9, 7.3, 32 and 123 times the bound
    for k in [8, 12, 16, 20, 24] {
        let part = part_of_bound(doublings(k, 0, |from, to| vec![add(from, from, to)]), 20);
        println!("{k} doublings: largest error of 20 runs {part:.3} of the bound");
        assert!(part < 1.0 && part > 1e-3, "{k} doublings: {part}");
    }
}

#[test]
fn whatever_two_values_share_is_within_the_bound() {
    let k = 8;
    let cases: [(&str, Plan); 4] = [
        // x and a copy of x as two inputs of a matrix
        (
            "matrix",
            doublings(k, 1, |from, to| {
                vec![matrix(
                    vec![from, from],
                    to,
                    vec![term(0, 0, 1.0), term(1, 0, 1.0)],
                    vec![],
                )]
            }),
        ),
        // the same offset twice
        (
            "terms",
            doublings(k, 1, |from, to| {
                let twice = Term {
                    giant: SLOTS - 3,
                    ..term(0, 3, 1.0)
                };
                vec![matrix(vec![from], to, vec![term(0, 0, 1.0), twice], vec![])]
            }),
        ),
        // rotated and rotated back, then added
        (
            "rotations",
            doublings(4, 2, |from, to| {
                let level = |r: usize| 10 - 2 * (r / 4 + 1);
                vec![
                    matrix(vec![from], to, vec![term(0, 5, 1.0)], vec![]),
                    matrix(vec![to], to + 1, vec![term(0, SLOTS - 5, 1.0)], vec![]),
                    step(Operation::Align {
                        input: from,
                        output: to + 2,
                        level: level(from),
                    }),
                    add(to + 1, to + 2, to + 3),
                ]
            }),
        ),
        // one value in all slots, summed over them: 16 times as much, of 16 equal errors
        (
            "replicas",
            doublings(k, 1, |from, to| {
                vec![matrix(
                    vec![from],
                    to,
                    vec![term(0, 0, 0.125)],
                    vec![8, 4, 2, 1],
                )]
            }),
        ),
    ];
    for (name, plan) in cases {
        let part = part_of_bound(plan, 10);
        println!("{name}: largest error of 10 runs {part:.4} of the bound");
        assert!(part < 0.5, "{name}: {part}");
    }
}

#[test]
fn weights_in_single_precision_are_within_the_bound() {
    // once the only bound was that of encryption, which on a small ring is less than what the plan's weights have lost
    let weights = [0.1f64, 0.2, 0.7];
    let terms = weights.iter().enumerate();
    let terms = terms.map(|(k, &w)| term(0, k, w as f32)).collect();
    let plan = plan(toy(vec![matrix(vec![0], 1, terms, vec![])], (1, 9), 1.0));
    let (stated, bounds) = (plan.facts().output_error, plan.answer_bounds());
    let ones = vec![1.0; SLOTS];
    let had = plan.simulate(&ones, None).expect("runs")[0];
    let rounding = (had - weights.iter().sum::<f64>()).abs();
    println!("{bounds}; of rounded weights {rounding:.1e}");
    assert!(rounding > stated, "{rounding:e} {stated:e}");
    assert!(rounding < bounds.weights && bounds.weights < 1e-5);
    assert_eq!(bounds.of_network(), stated + bounds.weights);
}

#[test]
fn bounds_beyond_all_numbers_are_stated_as_the_largest() {
    // (10^38)^9, and that times nothing: neither may count as no error
    let huge = |from: usize| matrix(vec![from], from + 1, vec![term(0, 0, 1e38)], vec![]);
    let mut steps: Vec<Step> = (0..9).map(huge).collect();
    let stated = |steps: &[Step], output, level| {
        let plan = plan(toy(steps.to_vec(), (output, level), 1.0));
        client_file(&plan);
        plan.answer_bounds().of_network()
    };
    assert_eq!(stated(&steps, 9, 1), f64::MAX);
    let mut nothing = matrix(vec![9], 10, vec![term(0, 0, 0.0)], vec![]);
    if let Operation::Linear { bias, .. } = &mut nothing.operation {
        *bias = vec![Some([0.5].into())];
    }
    steps.push(nothing);
    assert_eq!(stated(&steps, 10, 0), f64::MAX);
}

/// A random plan: values that share all kinds of things, within their promises whatever the input.
struct Random {
    rng: rand_chacha::ChaCha20Rng,
    steps: Vec<Step>,
    /// Register, level, bound on its magnitude.
    values: Vec<(usize, usize, f64)>,
    registers: usize,
}

impl Random {
    fn below(&mut self, n: usize) -> usize {
        (self.rng.next_u32() as usize) % n
    }
    fn unit(&mut self) -> f64 {
        f64::from(self.rng.next_u32()) / f64::from(u32::MAX) * 2.0 - 1.0
    }
    fn value(&mut self) -> (usize, usize, f64) {
        // what came last is read most
        let n = self.values.len();
        let back = self.below(n.min(4));
        self.values[n - 1 - back]
    }
    fn register(&mut self) -> usize {
        self.registers += 1;
        self.registers
    }
    fn push(&mut self, operation: Operation, level: usize, bound: f64) {
        for r in operation.writes() {
            self.values.push((r, level, bound));
        }
        self.steps.push(step(operation));
    }
    /// The value's register at a level.
    fn at(&mut self, (input, had, _): (usize, usize, f64), level: usize) -> usize {
        if had == level {
            return input;
        }
        let output = self.register();
        self.steps.push(step(Operation::Align {
            input,
            output,
            level,
        }));
        output
    }
    /// Two values at one level, which may be one value.
    fn two(&mut self) -> ((usize, f64), (usize, f64), usize) {
        let x = self.value();
        let y = if self.below(2) == 0 { x } else { self.value() };
        let level = x.1.min(y.1);
        let (a, b) = (self.at(x, level), self.at(y, level));
        ((a, x.2), (b, y.2), level)
    }
    fn linear(&mut self) {
        let count = 1 + self.below(3);
        let values: Vec<_> = (0..count).map(|_| self.value()).collect();
        let level = values.iter().map(|v| v.1).min().unwrap_or(0);
        if level == 0 {
            return;
        }
        let bound = values.iter().map(|v| v.2).fold(0.0, f64::max);
        let inputs: Vec<usize> = values.into_iter().map(|v| self.at(v, level)).collect();
        let outputs: Vec<usize> = (0..1 + self.below(2)).map(|_| self.register()).collect();
        let folds = match self.below(4) {
            0 => vec![8, 4, 2, 1],
            1 => vec![4, 8],
            _ => vec![],
        };
        let folded = (1usize << folds.len()) as f64;
        let mut terms = Vec::new();
        for output in 0..outputs.len() {
            for input in 0..inputs.len() {
                for _ in 0..1 + self.below(5) {
                    let length = [1, 4, SLOTS][self.below(3)];
                    let constant = self.below(2) == 0;
                    let scale = 0.2 / (folded * inputs.len() as f64);
                    let values: Vec<f32> = (0..length)
                        .map(|_| if constant { scale } else { scale * self.unit() } as f32)
                        .collect();
                    terms.push(Term {
                        input,
                        output,
                        giant: 4 * self.below(4),
                        baby: self.below(4),
                        values: Values::Real(values.into()),
                    });
                }
            }
        }
        let map = BlockMap::new(SLOTS, inputs.len(), outputs.len(), terms, folds).expect("valid");
        let bias = vec![None; outputs.len()];
        let period = SLOTS;
        self.push(
            Operation::Linear {
                inputs,
                outputs,
                map,
                bias,
                period,
            },
            level - 1,
            bound,
        );
    }
    fn grow(&mut self) {
        match self.below(7) {
            0 | 1 => {
                let ((left, a), (right, b), level) = self.two();
                if a + b <= 1.0 {
                    let output = self.register();
                    self.push(
                        Operation::Add {
                            left,
                            right,
                            output,
                        },
                        level,
                        a + b,
                    );
                }
            }
            2 | 3 => self.linear(),
            4 => {
                let (input, level, bound) = self.value();
                if level > 0 {
                    let output = self.register();
                    let constant = 0.0;
                    self.push(
                        Operation::Square {
                            input,
                            output,
                            constant,
                        },
                        level - 1,
                        bound * bound,
                    );
                }
            }
            5 => {
                let (input, level, _) = self.value();
                let c: Vec<f64> = (0..4).map(|_| self.unit() / 4.0).collect();
                let polynomial = Polynomial::new(c).expect("finite");
                if level >= 2 {
                    let output = self.register();
                    let depth = polynomial.depth();
                    self.push(
                        Operation::Polynomial {
                            input,
                            output,
                            polynomial,
                        },
                        level - depth,
                        1.0,
                    );
                }
            }
            _ => {
                let ((left, a), (right, b), level) = self.two();
                if level > 0 {
                    let output = self.register();
                    let product = Operation::Multiply {
                        left,
                        right,
                        more: vec![],
                        output,
                        factor: 1,
                        add: vec![],
                        constant: 0.0,
                        bound: 1.0,
                    };
                    self.push(product, level - 1, a * b);
                }
            }
        }
    }
    fn plan(seed: u64) -> Plan {
        let mut r = Self {
            rng: rng(seed),
            steps: Vec::new(),
            values: Vec::new(),
            registers: 0,
        };
        let bound = (-(r.below(12) as f64)).exp2();
        r.values.push((0, 10, bound));
        while r.steps.len() < 14 {
            let before = r.steps.len();
            r.grow();
            // nothing goes on from the last level
            if r.steps.len() == before && r.values.iter().rev().take(4).all(|v| v.1 == 0) {
                break;
            }
        }
        let (register, level, _) = r.values[r.values.len() - 1];
        toy(r.steps, (register, level), bound)
    }
}

#[test]
fn random_plans_are_within_their_bounds() {
    let mut parts: Vec<f64> = (0..60)
        .map(|seed| {
            let part = part_of_bound(Random::plan(seed), 3);
            assert!(part < 1.0, "plan {seed}: {part} of the bound");
            part
        })
        .collect();
    parts.sort_by(f64::total_cmp);
    println!(
        "largest error as a part of the bound: median {:.4}, most {:.4}",
        parts[parts.len() / 2],
        parts[parts.len() - 1]
    );
}

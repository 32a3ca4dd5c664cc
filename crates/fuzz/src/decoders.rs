//! Every decoder of bytes from outside: valid seeds made here, a mutator, the limit on memory, and the laws that what it accepts keeps.

use crate::allocation::{Usage, counted};
use crate::random::Random;
use crate::{bytes, container, models, png, protobuf, safetensors, torch};
use ckks::keys::{EvaluationKeys, KeyName, SwitchingKey};
use ckks::map::{Term, Values};
use ckks::parameters::{BootstrapSpec, Zone};
use ckks::{BlockMap, Bootstrap, Ciphertext, Complex64, ParametersSpec, Polynomial};
use nn::format::{artefact, onnx, state_dict::StateDict};
use nn::models::resnet_cifar;
use nn::picture::{Picture, cifar_records, imagenet_normalization};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use runtime::checkpoint::{Checkpointer, read_checkpoint_from};
use runtime::client::read_evaluation_keys;
use runtime::container::{Kind, Writer};
use runtime::packing::pack;
use runtime::{Client, Description, Operation, Plan, Port, Server, State, Step, VerifiedPlan};
use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;

/// What an execution found: whether the bytes were accepted, or the law that is broken.
pub(crate) type Outcome = Result<bool, String>;

type Generate = Box<dyn Fn(&mut Random) -> Vec<u8> + Send + Sync>;
type Decode = Box<dyn Fn(&mut Probe<'_>) -> Outcome + Send + Sync>;

/// A decoder with what fuzzing it takes.
pub(crate) struct Decoder {
    pub(crate) name: &'static str,
    /// Valid files.
    pub(crate) seeds: Vec<Vec<u8>>,
    /// Most bytes that decoding may hold at once.
    limit: fn(&[u8]) -> usize,
    generate: Generate,
    decode: Decode,
}

/// Counts what decoding allocates, apart from what checking its result does.
pub(crate) struct Probe<'a> {
    bytes: &'a [u8],
    limit: usize,
    usage: Usage,
}

impl<'a> Probe<'a> {
    fn count<T>(&mut self, decode: impl FnOnce(&'a [u8]) -> T) -> T {
        let bytes = self.bytes;
        let (out, usage) = counted(self.limit, || decode(bytes));
        self.usage.peak = self.usage.peak.max(usage.peak);
        self.usage.largest = self.usage.largest.max(usage.largest);
        out
    }
}

impl Decoder {
    /// The mutant of one execution.
    pub(crate) fn mutant(&self, seed: u64, execution: u64) -> Vec<u8> {
        (self.generate)(&mut Random::new(seed, self.name, execution))
    }
    /// Most bytes that decoding these may hold at once.
    pub(crate) fn limit(&self, bytes: &[u8]) -> usize {
        (self.limit)(bytes)
    }
    /// Decodes and checks.
    pub(crate) fn run(&self, bytes: &[u8]) -> (Outcome, Usage) {
        let mut probe = Probe {
            bytes,
            limit: self.limit(bytes),
            usage: Usage::default(),
        };
        ((self.decode)(&mut probe), probe.usage)
    }
}

fn law(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.into()) }
}

fn again<T>(result: Result<T, impl std::fmt::Display>) -> Result<T, String> {
    result.map_err(|e| format!("what was accepted and written is refused: {e}"))
}

// ── limits: docs/fuzzing.md has them as a table ──────────────────────────────────────────────────────────────────────

/// What every decoder may hold whatever its input: messages, tables, 64 KiB pieces of a file.
const BASE: usize = 256 << 10;

fn text_limit(bytes: &[u8]) -> usize {
    BASE + 256 * bytes.len()
}

/// The ring that a file asks for: at most 160 primes, 30 bytes for each coefficient.
fn container_limit(bytes: &[u8]) -> usize {
    let key = b"\"log_n\":";
    let asked = bytes
        .windows(key.len())
        .enumerate()
        .filter(|(_, w)| w == key);
    let log_n = asked.map(|(i, _)| {
        let digits = bytes[i + key.len()..]
            .iter()
            .take_while(|b| b.is_ascii_digit());
        digits
            .take(3)
            .fold(0u32, |v, b| 10 * v + u32::from(b - b'0'))
    });
    let log_n = log_n.filter(|&n| n <= 17).max().unwrap_or(4);
    text_limit(bytes) + 160 * 30 * (1 << log_n)
}

/// Deflate expands at most 1032-fold; weights are held as bytes and as numbers.
fn plan_limit(bytes: &[u8]) -> usize {
    container_limit(bytes) + 2 * 1032 * bytes.len()
}

/// Protobuf records of two bytes take up to 500 in memory; constants may be multiplied to 2^24 values of f64 and f32.
fn onnx_limit(bytes: &[u8]) -> usize {
    BASE + 1024 * bytes.len() + 16 * (1 << 24)
}

/// 512 MiB for the picture, and the decoder's own tables.
fn picture_limit(bytes: &[u8]) -> usize {
    text_limit(bytes) + (512 << 20) + (16 << 20)
}

// ── the project's own files ──────────────────────────────────────────────────────────────────────────────────────────

const SLOTS: usize = 8;

fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

fn levelled(levels: usize) -> ParametersSpec {
    ParametersSpec {
        name: "toy-fuzz".into(),
        log_n: 4,
        base_bits: 30,
        residual: Zone {
            levels,
            bits: vec![25],
        },
        bootstrap: None,
        special_bits: vec![30; levels.div_ceil(2)],
        dnum: 2,
        log_scale: 25,
    }
}

fn bootstrapped() -> ParametersSpec {
    let zone = |levels, bits: &[u32]| Zone {
        levels,
        bits: bits.to_vec(),
    };
    ParametersSpec {
        bootstrap: Some(BootstrapSpec {
            slot_to_coeff: zone(1, &[30]),
            eval_mod: zone(3, &[25, 25]),
            coeff_to_slot: zone(1, &[40]),
            hamming_weight: 4,
            range: 2,
            degree: 3,
            double_angles: 1,
            log_raise: 0,
        }),
        special_bits: vec![50; 4],
        ..levelled(2)
    }
}

fn port(name: &str, register: usize, level: usize, unit: f64) -> Port {
    Port {
        name: name.into(),
        shape: vec![SLOTS],
        registers: vec![register],
        slots: SLOTS,
        places: (0..SLOTS as u32).map(|s| (0, s)).collect(),
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
    let complex = Values::Complex(vec![Complex64::new(0.25, -0.125); 2].into());
    let terms = outputs
        .iter()
        .enumerate()
        .flat_map(|(o, _)| {
            [
                term(o, 0, 0, real(0.5)),
                term(o, 2, 1, real(-0.25)),
                term(o, 0, 1, complex.clone()),
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
            mean: vec![0.5],
            deviation: vec![0.25],
            labels: vec!["cat".into(), "dog".into()],
            input_bound: 2.0,
        },
        input: port("x", 0, level, 2.0),
        output: port("y", output.0, output.1, -3.0),
        steps: operations
            .into_iter()
            .enumerate()
            .map(|(i, operation)| Step {
                layer: format!("layer{}", i / 2),
                operation,
                unit: 1.0,
            })
            .collect(),
    }
}

/// Plans with every operation; the first is cheap to verify.
fn plans() -> Vec<Plan> {
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
    ];
    let bootstraps = vec![
        Operation::Join {
            left: 0,
            right: 0,
            output: 1,
        },
        Operation::Bootstrap {
            input: 1,
            output: 2,
            bootstrap: Bootstrap {
                slots: SLOTS,
                target: 2,
                gain: 1.0,
            },
        },
        Operation::Split {
            input: 2,
            real: 3,
            imaginary: 4,
        },
        Operation::Add {
            left: 3,
            right: 4,
            output: 5,
        },
    ];
    vec![
        plan(levelled(3), (5, 1), arithmetic),
        plan(levelled(5), (3, 0), polynomials),
        plan(bootstrapped(), (5, 2), bootstraps),
    ]
}

/// One plan with its two sides and all files that they exchange.
struct Toy {
    plan: Arc<VerifiedPlan>,
    client: Client,
    server: Server,
    client_key: Vec<u8>,
    keys: Vec<u8>,
    input: Vec<u8>,
    answer: Vec<u8>,
    checkpoint: Vec<u8>,
}

/// The input that checkpoints belong to.
const INPUT: [u8; 32] = [7; 32];

impl Toy {
    fn new(plan: Plan) -> Self {
        let plan = Arc::new(VerifiedPlan::new(plan).expect("a valid seed"));
        let client = Client::new(plan.client_spec(), &mut rng(1)).expect("a valid seed");
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
        plan.advance(server.evaluator(), &mut state, &mut ())
            .expect("a step");
        let checkpoint = Checkpointer::new(&plan, "seed".into(), INPUT)
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
            client_key,
            keys,
            input,
            answer,
            checkpoint,
        }
    }
}

fn same_limbs<L: std::ops::Deref<Target = [u64]>>(
    a: impl Iterator<Item = L>,
    b: impl Iterator<Item = L>,
) -> bool {
    a.map(|x| x.to_vec()).eq(b.map(|x| x.to_vec()))
}

fn same_state(a: &State<Ciphertext>, b: &State<Ciphertext>) -> bool {
    a.next == b.next
        && a.live.len() == b.live.len()
        && a.live.iter().zip(&b.live).all(|((r, x), (s, y))| {
            (r, x.level(), x.slots()) == (s, y.level(), y.slots())
                && same_limbs(x.limbs(), y.limbs())
        })
}

/// Evaluation keys as a file.
fn write_keys(toy: &Toy, keys: &EvaluationKeys) -> Result<Vec<u8>, runtime::Error> {
    let p = toy.plan.parameters();
    let list: Vec<(KeyName, usize)> = keys
        .iter()
        .map(|(&name, key)| (name, key.limit()))
        .collect();
    let head = serde_json::to_vec(&(p.spec(), &list)).unwrap_or_default();
    let bodies: Vec<Vec<u8>> = keys
        .iter()
        .map(|(&name, key)| {
            let mut body = key.seed().to_vec();
            for (limb, q) in key.limbs().zip(SwitchingKey::layout(p, name, key.limit())) {
                pack(&limb, q.bits(), &mut body);
            }
            body
        })
        .collect();
    let mut sections = vec![(*b"list", head.len() as u64)];
    sections.extend(bodies.iter().map(|b| (*b"key ", b.len() as u64)));
    let digest = runtime::parameters_digest(p);
    let mut file = Writer::new(
        Vec::new(),
        "again",
        Kind::EvaluationKeys,
        digest,
        [0; 32],
        sections,
    )?;
    file.section(&head)?;
    for body in &bodies {
        file.section(body)?;
    }
    file.finish()
}

fn own(
    name: &'static str,
    limit: fn(&[u8]) -> usize,
    seeds: Vec<Vec<u8>>,
    decode: Decode,
) -> Decoder {
    let parts: Vec<container::Parts> = seeds.iter().map(|s| container::Parts::of(s)).collect();
    Decoder {
        name,
        seeds,
        limit,
        generate: Box::new(move |r| container::generate(r, &parts)),
        decode,
    }
}

fn own_files() -> Vec<Decoder> {
    let plans = plans();
    let toy = Arc::new(Toy::new(plans[0].clone()));
    let full = Arc::new(Toy::new(plans[2].clone()));
    let files: Vec<Vec<u8>> = plans
        .iter()
        .map(|p| p.write(Vec::new(), "seed").expect("in memory"))
        .collect();
    let all: Vec<Vec<u8>> = [
        &toy.client_key,
        &toy.input,
        &toy.answer,
        &toy.checkpoint,
        &files[0],
        &toy.keys,
        &full.client_key,
        &full.keys,
        &files[2],
    ]
    .into_iter()
    .cloned()
    .collect();
    let (for_keys, for_input, for_answer, for_checkpoint) =
        (full.clone(), toy.clone(), toy.clone(), toy.clone());
    vec![
        own(
            "plan",
            plan_limit,
            files,
            Box::new(|probe| {
                let Ok(plan) = probe.count(|b| VerifiedPlan::read(b, "mutant")) else {
                    return Ok(false);
                };
                // what `polyveil inspect` says of it
                let text = compiler::describe(plan.plan());
                let seconds =
                    runtime::Prediction::new(&plan, runtime::prediction::Basis::shipped(), 2)
                        .seconds();
                law(
                    !text.is_empty() && !seconds.is_nan(),
                    "a verified plan has a description and a predicted time",
                )?;
                let bytes = again(plan.plan().write(Vec::new(), "again"))?;
                let (back, digest) = again(Plan::read(&bytes[..], "again"))?;
                law(
                    &back == plan.plan(),
                    "a plan read, written and read is the same",
                )?;
                law(
                    digest == back.digest(),
                    "a plan's digest is that of its content",
                )?;
                Ok(true)
            }),
        ),
        own(
            "client-key",
            container_limit,
            vec![toy.client_key.clone(), full.client_key.clone()],
            Box::new(|probe| {
                let Ok(client) = probe.count(|b| Client::read(b, "mutant")) else {
                    return Ok(false);
                };
                let bytes = again(client.write(Vec::new(), "again"))?;
                let back = again(Client::read(&bytes[..], "again"))?;
                law(
                    back.spec() == client.spec(),
                    "a client's specification read, written and read is the same",
                )?;
                law(
                    back.secret_key().coefficients() == client.secret_key().coefficients(),
                    "a secret key read, written and read is the same",
                )?;
                Ok(true)
            }),
        ),
        own(
            "evaluation-keys",
            container_limit,
            vec![full.keys.clone()],
            Box::new(move |probe| {
                let toy = &for_keys;
                let (p, needed) = (toy.plan.parameters(), &toy.plan.facts().keys);
                let read = |b: &[u8]| read_evaluation_keys(b, "mutant", p, needed, &mut |_, _| {});
                let Ok(keys) = probe.count(read) else {
                    return Ok(false);
                };
                let back = again(read(&again(write_keys(toy, &keys))?))?;
                let same =
                    |((n, a), (m, b)): ((&KeyName, &SwitchingKey), (&KeyName, &SwitchingKey))| {
                        (n, a.seed(), a.limit()) == (m, b.seed(), b.limit())
                            && same_limbs(a.limbs(), b.limbs())
                    };
                law(
                    keys.request() == back.request() && keys.iter().zip(back.iter()).all(same),
                    "keys read, written and read are the same",
                )?;
                Ok(true)
            }),
        ),
        own(
            "input",
            container_limit,
            vec![toy.input.clone()],
            Box::new(move |probe| {
                let toy = &for_input;
                let Ok(state) = probe.count(|b| toy.server.read_input(b, "mutant")) else {
                    return Ok(false);
                };
                let p = toy.plan.parameters();
                for c in state.live.values() {
                    let indices = p.limbs(c.level());
                    let conform = c.limbs().enumerate().all(|(k, limb)| {
                        let q = p.prime(indices[k % indices.len()]).value();
                        limb.iter().all(|&x| x < q)
                    });
                    law(
                        conform && c.degree() == 1,
                        "every residue is below its prime",
                    )?;
                }
                law(
                    state.live.keys().eq(&toy.plan.plan().input.registers),
                    "an input has the plan's registers",
                )?;
                Ok(true)
            }),
        ),
        own(
            "answer",
            container_limit,
            vec![toy.answer.clone()],
            Box::new(move |probe| {
                let Ok(values) = probe.count(|b| for_answer.client.read_answer(b, "mutant")) else {
                    return Ok(false);
                };
                law(
                    values.len() == SLOTS && values.iter().all(|v| v.is_finite()),
                    "an answer is finite and has the plan's shape",
                )?;
                Ok(true)
            }),
        ),
        own(
            "checkpoint",
            container_limit,
            vec![toy.checkpoint.clone()],
            Box::new(move |probe| {
                let plan = &for_checkpoint.plan;
                let Ok(state) = probe.count(|b| read_checkpoint_from(b, "mutant", plan, &INPUT))
                else {
                    return Ok(false);
                };
                let bytes = again(Checkpointer::new(plan, "again".into(), INPUT).write(
                    &state,
                    Vec::new(),
                    "again",
                ))?;
                let back = again(read_checkpoint_from(&bytes[..], "again", plan, &INPUT))?;
                law(
                    same_state(&state, &back),
                    "a state read, written and read is the same",
                )?;
                Ok(true)
            }),
        ),
        own(
            "inspect",
            container_limit,
            all,
            Box::new(|probe| {
                let Ok(found) =
                    probe.count(|b| runtime::inspection::inspect(Cursor::new(b), "mutant"))
                else {
                    return Ok(false);
                };
                law(
                    !ckks::security::keys(&found.parameters).is_empty(),
                    "parameters have a security",
                )?;
                Ok(true)
            }),
        ),
    ]
}

// ── networks and pictures ────────────────────────────────────────────────────────────────────────────────────────────

fn check_state_dict(probe: &mut Probe<'_>) -> Outcome {
    let Ok(dict) = probe.count(StateDict::from_bytes) else {
        return Ok(false);
    };
    for (name, t) in dict.tensors() {
        law(
            t.shape.iter().product::<usize>() == t.values.len(),
            "a tensor's shape fits its values",
        )?;
        law(dict.find(name).is_some(), "a tensor is found by its name")?;
    }
    // who reads state dicts
    law(
        resnet_cifar::depth(&dict) >= 2,
        "a network has two layers at least",
    )?;
    let trained = resnet_cifar::from_state_dict(&dict, approx::Activation::Relu);
    if let Ok(g) = resnet_cifar::from_state_dict_with_polynomials(&dict) {
        law(trained.is_ok(), "polynomials are the only difference")?;
        check_graph(&g)?;
    }
    Ok(true)
}

/// The laws of a polynomial network and of its file.
fn check_graph(g: &nn::PolyGraph) -> Result<(), String> {
    for n in g.nodes() {
        law(
            n.shape().checked_len().is_some(),
            "a node has a possible shape",
        )?;
        law(
            n.inputs().iter().all(|i| *i < n.id()),
            "a node's inputs come before it",
        )?;
    }
    let bytes = again(artefact::to_bytes(g))?;
    law(
        artefact::recognises(&bytes),
        "a written model is recognised",
    )?;
    let back = again(artefact::from_bytes(&bytes))?;
    law(&back == g, "a model read, written and read is the same")?;
    law(
        again(artefact::to_bytes(&back))? == bytes,
        "the same model gives the same bytes",
    )
}

fn check_picture(probe: &mut Probe<'_>) -> Outcome {
    let Ok(picture) = probe.count(Picture::from_bytes) else {
        return Ok(false);
    };
    let (width, height) = picture.size();
    law(
        (1..=16_384).contains(&width) && (1..=16_384).contains(&height),
        "a picture has a possible size",
    )?;
    if width * height <= 1 << 12 {
        let tensor = again(picture.to_tensor(
            nn::Shape::image(3, height, width),
            &imagenet_normalization(),
        ))?;
        law(
            tensor.values().iter().all(|v| v.is_finite()),
            "pixels are finite",
        )?;
    }
    Ok(true)
}

fn networks() -> Vec<Decoder> {
    let (tensors, resnet) = (models::tensors(), models::resnet());
    let resnet: Vec<torch::Entry<'_>> = resnet
        .iter()
        .map(|(n, shape, stride)| models::entry(n, shape, stride))
        .collect();
    let legacy = vec![
        torch::legacy(&tensors, true),
        torch::legacy(&tensors, false),
        torch::legacy(&resnet, false),
    ];
    let zips = vec![
        torch::zip(&tensors, true),
        torch::zip(&tensors, false),
        torch::zip(&resnet, false),
    ];
    let plain = models::safetensors();
    let plain_parts: Vec<_> = plain.iter().map(|f| safetensors::parts(f)).collect();
    let pvm = models::artefacts();
    let pvm_parts: Vec<_> = pvm.iter().map(|f| safetensors::parts(f)).collect();
    let onnx_seeds = models::onnx();
    let trees: Vec<_> = onnx_seeds
        .iter()
        .map(|f| protobuf::parse(f).expect("a valid seed"))
        .collect();
    vec![
        Decoder {
            name: "torch-legacy",
            seeds: legacy.iter().map(torch::Legacy::bytes).collect(),
            limit: text_limit,
            generate: Box::new(move |r| torch::generate_legacy(r, &legacy)),
            decode: Box::new(check_state_dict),
        },
        Decoder {
            name: "torch-zip",
            seeds: zips.iter().map(|z| z.bytes().0).collect(),
            limit: text_limit,
            generate: Box::new(move |r| torch::generate_zip(r, &zips)),
            decode: Box::new(check_state_dict),
        },
        Decoder {
            name: "safetensors",
            seeds: plain,
            limit: text_limit,
            generate: Box::new(move |r| safetensors::generate(r, &plain_parts)),
            decode: Box::new(check_state_dict),
        },
        Decoder {
            name: "pvm",
            seeds: pvm,
            limit: text_limit,
            generate: Box::new(move |r| safetensors::generate(r, &pvm_parts)),
            decode: Box::new(|probe| {
                let (recognised, read) =
                    probe.count(|b| (artefact::recognises(b), artefact::graph_from_bytes(b)));
                let Ok((graph, metadata)) = read else {
                    return Ok(false);
                };
                law(recognised, "a model that can be read is recognised")?;
                let bytes = again(artefact::graph_to_bytes(&graph, &metadata))?;
                law(
                    again(artefact::graph_from_bytes(&bytes))? == (graph, metadata),
                    "a network read, written and read is the same",
                )?;
                if let Ok(graph) = probe.count(artefact::from_bytes) {
                    check_graph(&graph)?;
                }
                Ok(true)
            }),
        },
        Decoder {
            name: "onnx",
            seeds: onnx_seeds,
            limit: onnx_limit,
            generate: Box::new(move |r| protobuf::generate(r, &trees)),
            decode: Box::new(|probe| {
                let Ok(graph) = probe.count(onnx::from_bytes) else {
                    return Ok(false);
                };
                for n in graph.nodes() {
                    law(
                        n.shape().checked_len().is_some(),
                        "a node has a possible shape",
                    )?;
                    law(
                        n.inputs().iter().all(|i| *i < n.id()),
                        "a node's inputs come before it",
                    )?;
                }
                if let Ok(graph) = nn::PolyGraph::try_from(graph) {
                    // constants as large as the whole picture are not worth the time
                    if graph.nodes().iter().all(|n| n.shape().len() <= 1 << 12) {
                        check_graph(&graph)?;
                    }
                }
                Ok(true)
            }),
        },
    ]
}

fn pictures() -> Vec<Decoder> {
    let cifar = models::cifar();
    let (png_files, jpeg) = (models::png(), models::jpeg());
    let chunks: Vec<_> = png_files.iter().map(|f| png::parse(f)).collect();
    let (cifar_seeds, jpeg_seeds) = (cifar.clone(), jpeg.clone());
    vec![
        Decoder {
            name: "cifar",
            seeds: cifar,
            limit: text_limit,
            generate: Box::new(move |r| {
                let mut out = r.pick(&cifar_seeds).clone();
                let at = 3073 * r.below(out.len() / 3073);
                if r.one_in(2) {
                    out[at] = r.below(16) as u8;
                } else {
                    (0..r.few()).for_each(|_| bytes::mutate(r, &mut out));
                }
                out
            }),
            decode: Box::new(|probe| {
                let Ok(records) = probe.count(cifar_records) else {
                    return Ok(false);
                };
                let back: Vec<u8> = records
                    .iter()
                    .flat_map(|r| std::iter::once(r.label).chain(r.pixels.iter().copied()))
                    .collect();
                law(back == probe.bytes, "records hold the file's bytes")?;
                law(records.iter().all(|r| r.label < 10), "labels are digits")?;
                again(records[0].to_tensor(&imagenet_normalization()))?;
                Ok(true)
            }),
        },
        Decoder {
            name: "png",
            seeds: png_files,
            limit: picture_limit,
            generate: Box::new(move |r| png::generate(r, &chunks)),
            decode: Box::new(check_picture),
        },
        Decoder {
            name: "jpeg",
            seeds: jpeg,
            limit: picture_limit,
            generate: Box::new(move |r| models::mutate_jpeg(r, &jpeg_seeds)),
            decode: Box::new(check_picture),
        },
    ]
}

/// All decoders; each name is unique.
pub(crate) fn all() -> Vec<Decoder> {
    let mut all = own_files();
    all.extend(networks());
    all.extend(pictures());
    let names: BTreeMap<&str, usize> = all.iter().map(|d| (d.name, d.seeds.len())).collect();
    debug_assert!(names.len() == all.len() && names.values().all(|&seeds| seeds > 0));
    all
}

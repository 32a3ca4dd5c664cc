//! The project's own files.

use crate::archives::{join, split};
use crate::container::{Parts, generate};
use crate::decoder::{
    Decoder, Law, Outcome, Probe, again, container_limit, law, plan_limit, same, stored_limit,
};
use crate::scratch::Scratch;
use crate::toy::{INPUT, SLOTS, Steps, TASK, Toy, fine, in_coefficients, plans};
use ckks::keys::{EvaluationKeys, KeyName, SwitchingKey};
use ckks::parameters::WEIGHT_BITS;
use ckks::{Ciphertext, Evaluator};
use runtime::checkpoint::{Checkpointer, read_checkpoint_from};
use runtime::wire::ServerKeys;
use runtime::{
    Basis, Cache, Client, ClientFile, Limits, Plan, Prediction, Server, State, VerifiedPlan,
};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

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

/// What a mutant is called in errors.
const NAME: &str = "mutant";

fn own(name: &'static str, seeds: &[&Vec<u8>]) -> Decoder {
    Decoder::new(name, seeds.iter().map(|s| s.to_vec()).collect())
        .within(container_limit)
        .apart(Parts::of, generate)
}

fn check_plan(plan: VerifiedPlan) -> Law {
    // what inspection says of it
    let text = compiler::describe(&plan);
    let seconds = Prediction::new(&plan, Basis::shipped(), 2).seconds;
    let holds = !text.is_empty() && !seconds.is_nan();
    law(
        holds,
        "a verified plan has a description and a predicted time",
    )?;
    let bytes = again(plan.plan().write(Vec::new(), NAME))?;
    let (back, digest) = again(Plan::read(&bytes[..], NAME))?;
    let holds = digest == back.digest();
    law(holds, "a plan's digest is that of its content")?;
    same(plan.plan(), Ok::<_, String>(back))
}

/// What the first of two sides reads, or else the second, and whose it is.
fn of_either<T, E>(
    two: [&'static Toy; 2],
    read: impl Fn(&'static Toy) -> Result<T, E>,
) -> Result<(&'static Toy, T), E> {
    let [one, other] = two.map(|t| read(t).map(|v| (t, v)));
    one.or(other)
}

fn check_client_key(file: &ClientFile, client: &Client) -> Law {
    let bytes = again(client.write(Vec::new(), NAME))?;
    let back = again(Client::read(&bytes[..], NAME, file.clone()))?;
    law(
        back.key() == client.key()
            && back.secret_key().coefficients() == client.secret_key().coefficients(),
        "a key and its id read, written and read are the same",
    )
}

fn read_keys(toy: &Toy, bytes: &[u8]) -> Result<ServerKeys, runtime::Error> {
    let (p, needed) = (toy.plan.parameters(), &toy.plan.facts().keys);
    ServerKeys::read(bytes, NAME, p, needed, &mut |_, _| {})
}

fn check_keys(toy: &Toy, keys: &ServerKeys) -> Law {
    let (p, digest) = (toy.plan.parameters(), *toy.plan.digest());
    let bytes = again(keys.write(Vec::new(), NAME, p, digest))?;
    let back = again(read_keys(toy, &bytes))?;
    let same = |((n, a), (m, b)): ((&KeyName, &SwitchingKey), (&KeyName, &SwitchingKey))| {
        (n, a.seed(), a.limit()) == (m, b.seed(), b.limit()) && same_limbs(a.limbs(), b.limbs())
    };
    law(
        keys.id == back.id
            && keys.keys.request() == back.keys.request()
            && keys.keys.iter().zip(back.keys.iter()).all(same),
        "keys read, written and read are the same",
    )
}

fn check_input(toy: &Toy, state: &State<Ciphertext>) -> Law {
    let p = toy.plan.parameters();
    for c in state.live.values() {
        let indices = p.limbs(c.level());
        let conform = c.limbs().enumerate().all(|(k, limb)| {
            let q = p.prime(indices[k % indices.len()]).value();
            limb.iter().all(|&x| x < q)
        });
        let holds = conform && c.degree() == 1;
        law(holds, "every residue is below its prime")?;
    }
    let holds = state.live.keys().eq(&toy.plan.plan().input.registers);
    law(holds, "an input has the plan's registers")
}

/// What is kept reads as it was written, and a run either goes on from it or says that the sequence is full.
fn check_cache(steps: &Steps, cache: &Cache) -> Law {
    let (plan, key) = (&steps.plan, steps.server.key());
    let bytes = again(cache.write(plan, Vec::new(), NAME))?;
    let back = again(Cache::read(plan, key, &bytes[..], NAME))?;
    let holds = bytes == again(back.write(plan, Vec::new(), NAME))?;
    law(
        holds && cache.runs() <= 3,
        "a cache read, written and read is the same",
    )?;
    let input = again(plan.read_input(&steps.input[..], NAME, key))?;
    match steps.server.step(&input, cache, &mut ()) {
        Ok((_, after)) => law(after.runs() == cache.runs() + 1, "a run is counted"),
        Err(_) => law(cache.runs() == 3, "a sequence that is not full goes on"),
    }
}

fn read_state(toy: &Toy, bytes: &[u8]) -> Result<State<Ciphertext>, runtime::Error> {
    read_checkpoint_from(bytes, NAME, &toy.plan, &INPUT, toy.client.key())
}

fn check_state(toy: &Toy, state: &State<Ciphertext>) -> Law {
    let engine = Evaluator::new(toy.plan.context(), EvaluationKeys::new());
    let writer = Checkpointer::new(&toy.plan, &engine, NAME.into(), INPUT);
    let bytes = again(writer.write(state, Vec::new(), NAME))?;
    let back = again(read_state(toy, &bytes))?;
    let holds = same_state(state, &back);
    law(holds, "a state read, written and read is the same")
}

/// A key file that stays on disk, opened as it is, and one that becomes a mutant after it was opened.
fn stored_keys(toy: &'static Toy) -> impl Fn(&mut Probe<'_>) -> Outcome {
    let scratch = Scratch::new("keys");
    let open = |plan: &Arc<VerifiedPlan>, path: &Path| {
        let (file, none) = (File::open(path).expect("a scratch file"), BTreeSet::new());
        Server::open(plan.clone(), file, NAME, &none, &mut |_, _| {})
    };
    let path = scratch.write("evaluation.keys", &toy.keys);
    let server = open(&toy.plan, &path).expect("a valid seed");
    move |probe| {
        scratch.write("evaluation.keys", probe.bytes);
        let opened = probe.count(|_| open(&toy.plan, &path));
        let read = read_keys(toy, probe.bytes);
        let holds = opened.is_ok() == read.is_ok();
        law(holds, "keys are refused or not, wherever they stay")?;
        let answer = |server: &Server, probe: &mut Probe<'_>| {
            let state = again(toy.server.read_input(&toy.input[..], NAME))?;
            let Ok(answer) = probe.count(|_| server.run(state, &mut ())) else {
                return Ok(None);
            };
            again(server.write_answer(&answer, Vec::new(), NAME)).map(Some)
        };
        if let (Ok(opened), Ok(read)) = (&opened, read) {
            let read = again(Server::new(toy.plan.clone(), read))?;
            let same = answer(opened, probe)? == answer(&read, probe)?;
            law(same, "answers are the same wherever keys stay")?;
        }
        let changed = answer(&server, probe)?;
        let holds = changed.is_none_or(|a| a == toy.answer);
        law(holds, "a key that changed after it was checked is not used")?;
        Ok(opened.is_ok())
    }
}

/// A plan with its weights in a file beside it.
fn beside(weights: [i32; 4], bits: u32) -> [Vec<u8>; 2] {
    let plan = in_coefficients(weights, bits);
    let files = plan.write_beside((Vec::new(), NAME), (Vec::new(), NAME));
    files.expect("in memory").into()
}

/// Plans and the weights beside them, of 16 and 20 bits and of two to four bytes each: either is a mutant, or both are of other weights. With flags of 1 the
/// weights change after they were checked.
fn weights() -> Decoder {
    let pairs = [(77, 16), (1 << 17, 16), (1 << 25, 16), (1 << 22, 20)];
    let pairs = pairs.map(|(w, bits)| beside([1 << 14, -w, w, 5], bits));
    let seeds = pairs.iter().map(|p| join(0, p)).collect();
    let apart = [0, 1].map(|i| pairs.each_ref().map(|p| Parts::of(&p[i])));
    let scratch = Scratch::new("weights");
    let open = move |plan: &[u8], path: &Path| {
        Plan::read_within(plan, NAME, Limits::default(), Some(path))
    };
    let write = |plan: &Plan| plan.write_beside((Vec::new(), NAME), (Vec::new(), NAME));
    Decoder::new("weights", seeds)
        .within(plan_limit)
        .mutants(move |r, _| {
            let at = r.below(pairs.len());
            let mut pair = pairs[at].clone();
            match r.below(8) {
                0 => {
                    let other = [(); 4].map(|()| r.boundary() as i32);
                    pair = beside(other.map(|w| w.max(-i32::MAX)), *r.pick(&WEIGHT_BITS));
                }
                1 => pair[0] = generate(r, &apart[0][at..]),
                _ => pair[1] = generate(r, &apart[1][at..]),
            }
            join(r.below(2) as u8, &pair)
        })
        .decodes(move |probe| {
            let (flags, parts) = split(probe.bytes, 2);
            let path = scratch.write("a.weights", parts[1]);
            let Ok((plan, digest)) = probe.count(|_| open(parts[0], &path)) else {
                return Ok(false);
            };
            let (file, stored) = again(write(&plan))?;
            // a header may name keys, which weights have nothing to do with
            let holds = stored[192..] == parts[1][192..];
            law(holds, "weights are written as they were read")?;
            let path = scratch.write("b.weights", &stored);
            let (back, same_digest) = again(open(&file, &path))?;
            law(
                digest == same_digest,
                "a plan's digest is that of its weights",
            )?;
            same(&plan, Ok::<_, String>(back))?;
            // what is read later is held to what was checked
            if flags & 1 == 1 {
                let mut changed = stored;
                let last = changed.len() - 33;
                changed[last] ^= 1;
                scratch.write("a.weights", &changed);
                law(write(&plan).is_err(), "weights that changed are not used")?;
            }
            Ok(true)
        })
}

pub(super) fn all() -> Vec<Decoder> {
    let plans = plans();
    // for as long as the program runs
    let [toy, full, rings] =
        [&plans[0], &plans[2], &plans[3]].map(|p| &*Box::leak(Box::new(Toy::new(p.clone()))));
    // files of the second are no files of the first
    let two = [toy, rings];
    let steps = &*Box::leak(Box::new(Steps::new()));
    let files = plans.map(|p| p.write(Vec::new(), NAME).expect("in memory"));
    let fine = VerifiedPlan::new(fine()).expect("a valid seed");
    let fine_file = fine.plan().write(Vec::new(), NAME).expect("in memory");
    let fine_client = fine.client_file(TASK.into()).expect("a valid seed");
    let fine_client = fine_client.write(Vec::new(), NAME).expect("in memory");
    let every = [
        &toy.client_file,
        &toy.client_key,
        &toy.input,
        &toy.answer,
        &toy.checkpoint,
        &files[0],
        &toy.keys,
        &full.client_file,
        &full.keys,
        &files[2],
        &rings.keys,
        &files[3],
        &fine_file,
        &steps.file,
        &steps.client_file,
        &steps.input,
        &steps.caches[1],
    ];
    vec![
        weights(),
        own(
            "plan",
            &(files.iter().chain([&fine_file, &steps.file])).collect::<Vec<_>>(),
        )
        .within(plan_limit)
        .reads(|b| VerifiedPlan::read(b, NAME), check_plan),
        own("inspect", &every).reads(
            |b| runtime::inspection::inspect(Cursor::new(b), NAME),
            |found| {
                let secure = |p: &ckks::Parameters| !p.key_security().is_empty();
                let all = found.parameters.iter().all(secure);
                law(all, "parameters have a security")
            },
        ),
        own(
            "client-file",
            &[
                &toy.client_file,
                &full.client_file,
                &steps.client_file,
                &fine_client,
            ],
        )
        .reads(
            |b| ClientFile::read(b, NAME),
            |file| {
                let bytes = again(file.write(Vec::new(), NAME))?;
                same(&file, ClientFile::read(&bytes[..], NAME))
            },
        ),
        own("client-key", &[&toy.client_key]).reads(
            |b| Client::read(b, NAME, toy.file.clone()),
            |client| check_client_key(&toy.file, &client),
        ),
        own("evaluation-keys", &[&full.keys])
            .reads(|b| read_keys(full, b), |read| check_keys(full, &read)),
        own("ring-keys", &[&rings.keys])
            .reads(|b| read_keys(rings, b), |read| check_keys(rings, &read)),
        own("stored-keys", &[&toy.keys])
            .within(stored_limit)
            .decodes(stored_keys(toy)),
        own("input", &two.map(|t| &t.input)).reads(
            move |b| of_either(two, |t| t.server.read_input(b, NAME)),
            |(toy, state)| check_input(toy, &state),
        ),
        own("step-input", &[&steps.input]).reads(
            |b| steps.plan.read_input(b, NAME, steps.server.key()),
            |input| {
                let holds = input.ciphertexts.len() == 2;
                law(
                    holds,
                    "a step's input has a ciphertext for each of its ports'",
                )
            },
        ),
        own("cache", &steps.caches.each_ref()).reads(
            |b| Cache::read(&steps.plan, steps.server.key(), b, NAME),
            |cache| check_cache(steps, &cache),
        ),
        own("answer", &two.map(|t| &t.answer)).reads(
            // toys compute nothing that makes sense: what cannot be right has been read, too
            move |b| {
                of_either(two, |t| match t.client.read_doubtful(b, NAME) {
                    Err(runtime::Error::Answer { .. }) => Ok(None),
                    judged => judged.map(|j| Some(j.values)),
                })
            },
            |(_, values)| {
                let fine = |v: &Vec<f64>| v.len() == SLOTS && v.iter().all(|v| v.is_finite());
                law(
                    values.as_ref().is_none_or(fine),
                    "an answer is finite and has the plan's shape",
                )
            },
        ),
        own("checkpoint", &two.map(|t| &t.checkpoint)).reads(
            move |b| of_either(two, |t| read_state(t, b)),
            |(toy, read)| check_state(toy, &read),
        ),
    ]
}

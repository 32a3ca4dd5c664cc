//! The project's own files.

use super::{
    Decode, Decoder, Outcome, Probe, again, container_limit, law, plan_limit, stored_limit,
};
use crate::container;
use crate::scratch::Scratch;
use crate::toy::{INPUT, SLOTS, Toy, plans};
use ckks::keys::{EvaluationKeys, KeyName, SwitchingKey};
use ckks::{Ciphertext, Evaluator};
use runtime::checkpoint::{Checkpointer, read_checkpoint_from};
use runtime::wire::ServerKeys;
use runtime::{Client, ClientFile, Plan, Server, State, VerifiedPlan};
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

/// A key file that stays on disk, opened as it is, and one that becomes a mutant after it was opened.
fn stored_keys(toy: Arc<Toy>) -> impl Fn(&mut Probe<'_>) -> Outcome {
    let scratch = Scratch::new("keys");
    let open = |plan: &Arc<VerifiedPlan>, path: &Path| {
        let file = File::open(path).expect("a scratch file");
        Server::open(
            plan.clone(),
            file,
            "mutant",
            &BTreeSet::new(),
            &mut |_, _| {},
        )
    };
    let path = scratch.write("evaluation.keys", &toy.keys);
    let server = open(&toy.plan, &path).expect("a valid seed");
    move |probe| {
        scratch.write("evaluation.keys", probe.bytes);
        let opened = probe.count(|_| open(&toy.plan, &path));
        let (p, needed) = (toy.plan.parameters(), &toy.plan.facts().keys);
        let read = ServerKeys::read(probe.bytes, "mutant", p, needed, &mut |_, _| {});
        law(
            opened.is_ok() == read.is_ok(),
            "keys are refused or not, wherever they stay",
        )?;
        let answer = |server: &Server, probe: &mut Probe<'_>| {
            let state = again(toy.server.read_input(&toy.input[..], "seed"))?;
            let Ok(answer) = probe.count(|_| server.run(state, &mut ())) else {
                return Ok(None);
            };
            again(server.write_answer(&answer, Vec::new(), "again")).map(Some)
        };
        if let (Ok(opened), Ok(read)) = (&opened, read) {
            let read = again(Server::new(toy.plan.clone(), read))?;
            let same = answer(opened, probe)? == answer(&read, probe)?;
            law(same, "answers are the same wherever keys stay")?;
        }
        let changed = answer(&server, probe)?;
        law(
            changed.is_none_or(|a| a == toy.answer),
            "a key that changed after it was checked is not used",
        )?;
        Ok(opened.is_ok())
    }
}

pub(super) fn all() -> Vec<Decoder> {
    let plans = plans();
    let toy = Arc::new(Toy::new(plans[0].clone()));
    let full = Arc::new(Toy::new(plans[2].clone()));
    let files: Vec<Vec<u8>> = plans
        .iter()
        .map(|p| p.write(Vec::new(), "seed").expect("in memory"))
        .collect();
    let all: Vec<Vec<u8>> = [
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
    ]
    .into_iter()
    .cloned()
    .collect();
    let mut decoders = vec![
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
                    (found.parameters.iter()).all(|p| !p.key_security().is_empty()),
                    "parameters have a security",
                )?;
                Ok(true)
            }),
        ),
    ];
    decoders.extend(keys(&toy, &full));
    decoders.extend(ciphertexts(&toy));
    decoders
}

/// What clients make once: their file, the secret key, evaluation keys.
fn keys(toy: &Arc<Toy>, full: &Arc<Toy>) -> Vec<Decoder> {
    let (for_client, for_keys) = (toy.clone(), full.clone());
    vec![
        own(
            "client-file",
            container_limit,
            vec![toy.client_file.clone(), full.client_file.clone()],
            Box::new(|probe| {
                let Ok(file) = probe.count(|b| ClientFile::read(b, "mutant")) else {
                    return Ok(false);
                };
                let bytes = again(file.write(Vec::new(), "again"))?;
                let back = again(ClientFile::read(&bytes[..], "again"))?;
                law(
                    back == file,
                    "a client file read, written and read is the same",
                )?;
                Ok(true)
            }),
        ),
        own(
            "client-key",
            container_limit,
            vec![toy.client_key.clone()],
            Box::new(move |probe| {
                let file = &for_client.file;
                let Ok(client) = probe.count(|b| Client::read(b, "mutant", file.clone())) else {
                    return Ok(false);
                };
                let bytes = again(client.write(Vec::new(), "again"))?;
                let back = again(Client::read(&bytes[..], "again", file.clone()))?;
                law(
                    back.key() == client.key(),
                    "a key's id read, written and read is the same",
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
                let read = |b: &[u8]| ServerKeys::read(b, "mutant", p, needed, &mut |_, _| {});
                let Ok(keys) = probe.count(read) else {
                    return Ok(false);
                };
                let bytes = again(keys.write(Vec::new(), "again", p, *toy.plan.digest()))?;
                let back = again(read(&bytes))?;
                let same =
                    |((n, a), (m, b)): ((&KeyName, &SwitchingKey), (&KeyName, &SwitchingKey))| {
                        (n, a.seed(), a.limit()) == (m, b.seed(), b.limit())
                            && same_limbs(a.limbs(), b.limbs())
                    };
                law(
                    keys.id == back.id
                        && keys.keys.request() == back.keys.request()
                        && keys.keys.iter().zip(back.keys.iter()).all(same),
                    "keys read, written and read are the same",
                )?;
                Ok(true)
            }),
        ),
        own(
            "stored-keys",
            stored_limit,
            vec![toy.keys.clone()],
            Box::new(stored_keys(toy.clone())),
        ),
    ]
}

/// What goes to and fro: inputs, answers, states of runs.
fn ciphertexts(toy: &Arc<Toy>) -> Vec<Decoder> {
    let [for_input, for_answer, for_checkpoint] = [0; 3].map(|_| toy.clone());
    vec![
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
                let (plan, key) = (&for_checkpoint.plan, for_checkpoint.client.key());
                let Ok(state) =
                    probe.count(|b| read_checkpoint_from(b, "mutant", plan, &INPUT, key))
                else {
                    return Ok(false);
                };
                let engine = Evaluator::new(plan.context(), EvaluationKeys::new());
                let bytes = again(
                    Checkpointer::new(plan, &engine, "again".into(), INPUT).write(
                        &state,
                        Vec::new(),
                        "again",
                    ),
                )?;
                let back = again(read_checkpoint_from(&bytes[..], "again", plan, &INPUT, key))?;
                law(
                    same_state(&state, &back),
                    "a state read, written and read is the same",
                )?;
                Ok(true)
            }),
        ),
    ]
}

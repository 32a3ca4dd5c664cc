//! Looks at a deployment as a client sees it: from the address to a decrypted answer, with keys of its own that go afterwards.

use crate::client::{EncryptedInput, PublicKeys, Remote};
use crate::error::{Code, Error, Result};
use crate::records::Plan;
use polyveil::progress::duration;
use polyveil::runtime::{Client, size};
use serde_json::Value;
use std::path::Path;
use std::time::Instant;

/// Goes the whole way with the plan of this name, or the one that takes least; `folder` takes a client's public files meanwhile.
///
/// # Errors
/// The first thing that is not as it should be.
pub fn examine(
    remote: &Remote,
    plan: Option<&str>,
    folder: &Path,
    tell: &mut dyn FnMut(&str),
) -> Result<()> {
    let found = remote.health()?;
    tell(&format!(
        "the service answers: interface {}",
        found["interface"]
    ));
    let mut plans = remote.plans()?;
    plans.sort_by(|a, b| a.cpu_seconds.total_cmp(&b.cpu_seconds));
    tell(&format!(
        "the token is good; {} plans are served",
        plans.len()
    ));
    let plan = match plan {
        Some(name) => remote.plan(name)?,
        None => plans.into_iter().next().ok_or_else(|| {
            let remedy = "publish a plan first";
            Error::new(
                Code::NoSuchPlan,
                "no plan is served: nothing more can be tried",
                remedy,
            )
        })?,
    };
    if plan.insecure {
        tell(&format!(
            "INSECURE: {} is a toy that protects nothing",
            plan.name
        ));
    }
    let file = remote.client_file(&plan)?;
    tell(&format!(
        "{}: its client file is whole and of this plan; keys of {}, about {} a run",
        plan.name,
        size(plan.key_bytes),
        duration(plan.seconds)
    ));
    let mut rng = polyveil::session::rng();
    let client = Client::new(file, &mut rng);
    let path = folder.join("doctor.keys");
    let made = (|| {
        let out = disk::Output::create(&path, disk::Access::Owner).map_err(Error::io("keys"))?;
        let out = std::io::BufWriter::with_capacity(1 << 20, out);
        let out = client.write_evaluation_keys(out, "keys", &mut rng, &mut |_, _| {})?;
        let out = out
            .into_inner()
            .map_err(|e| Error::io("keys")(e.into_error()))?;
        out.finish().map_err(Error::io("keys"))?;
        PublicKeys::open(&path)
    })();
    let done = made.and_then(|keys| {
        let start = Instant::now();
        remote.upload(&plan.name, &keys, &mut |_| {})?;
        tell(&format!(
            "keys are there ({})",
            duration(start.elapsed().as_secs_f64())
        ));
        let asked = ask(remote, &plan, &client, &keys, tell);
        // whatever came of it, nothing of this stays at the service
        let gone = remote.delete_keys(keys.digest());
        asked.and(gone)
    });
    let _ = std::fs::remove_file(&path);
    done?;
    tell("all is well");
    Ok(())
}

fn ask(
    remote: &Remote,
    plan: &Plan,
    client: &Client,
    keys: &PublicKeys,
    tell: &mut dyn FnMut(&str),
) -> Result<()> {
    let count = plan.shape.iter().product::<usize>();
    let input = client.input(&vec![0.0; count], &mut polyveil::session::rng())?;
    let input = EncryptedInput::from_bytes(input)?;
    let start = Instant::now();
    let job = remote.ask(&plan.name, keys.digest(), &input)?;
    let id = job["id"].as_str().unwrap_or_default().to_string();
    let finish = || -> Result<(Value, Vec<u8>)> {
        let job = remote.wait(&id, &mut |_| {})?;
        let mut answer = Vec::new();
        remote.answer(&job, &mut answer, &mut |_| {})?;
        Ok((job, answer))
    };
    let finished = finish();
    remote.delete_job(&id)?;
    let (job, answer) = finished?;
    tell(&format!(
        "an input of zeros was evaluated in {} ({:.2} CPU seconds, {:.2} predicted)",
        duration(start.elapsed().as_secs_f64()),
        job["cpu_seconds"].as_f64().unwrap_or_default(),
        plan.cpu_seconds
    ));
    client.answer(&answer)?;
    tell("its answer decrypts, and can be right");
    Ok(())
}

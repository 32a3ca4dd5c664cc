//! calibrate, compile, keygen, encrypt, decrypt.

use crate::Result;
use crate::arguments::{CalibrateArgs, CompileArgs, DecryptArgs, EncryptArgs, KeygenArgs};
use crate::machine::{self, Machine, PredictionArgs};
use crate::network::{
    self, Network, client, input_shape, load, load_polynomial, named, normalization, open,
    top_lines,
};
use crate::terminal::{Line, duration, note};
use crate::{sentences, text};
use nn::calibrate::{Degree, FitOptions};
use nn::lower::{Numerator, Options, Outliers, adapt};
use nn::picture::{Picture, imagenet_normalization};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use rayon::prelude::*;
use runtime::machine::{require_disk, require_memory};
use runtime::report::{Answer, Measured};
use runtime::sharing::{DEFAULT_CLASS_BITS, DEFAULT_SECURITY, Flooding, RECORD_NAME, Terms};
use runtime::{Client, Placement, Prediction, Report, VerifiedPlan, size};
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Fresh randomness from the operating system.
pub fn rng() -> ChaCha20Rng {
    ChaCha20Rng::from_os_rng()
}

/// Writes beside `path` and moves the finished file there.
pub fn atomically<T>(
    path: &Path,
    mode: u32,
    write: impl FnOnce(BufWriter<File>, &str) -> Result<T>,
) -> Result<T> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let name = path.display().to_string();
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&partial)
        .map_err(named(&partial))?;
    let written = write(BufWriter::with_capacity(1 << 20, file), &name);
    match written {
        Ok(v) => {
            std::fs::rename(&partial, path).map_err(named(path))?;
            Ok(v)
        }
        Err(e) => {
            // the first error is the one to tell
            let _ = std::fs::remove_file(&partial);
            Err(e)
        }
    }
}

pub fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

pub fn calibrate(a: &CalibrateArgs) -> Result<()> {
    let network = load(&a.model, a.activation.as_deref())?;
    let shape = match &network {
        Network::Trained(g, _) => {
            // Said before the data is read: calibration alone can't help such a network.
            g.refuse_maxima().map_err(network::named(&a.model))?;
            g.input().shape()
        }
        Network::Polynomial(g) => g.input_shape(),
    };
    let normalization = match &network {
        Network::Polynomial(g) => g.metadata().normalization.clone(),
        Network::Trained(_, metadata) => metadata.normalization.clone(),
    }
    .unwrap_or_else(imagenet_normalization);
    let inputs = network::data(&a.data, shape, &normalization, a.limit.unwrap_or(2000))?;
    note(format_args!("calibrating on {} inputs", inputs.len()));
    let graph = match network {
        Network::Trained(g, metadata) => {
            let options = Options {
                outliers: Outliers::Keep,
                ..lowering(a)
            };
            let adapted = adapt(&g, &inputs, &options)?;
            for fit in &adapted.fits {
                note(format_args!(
                    "  {}: saw [{:.3}, {:.3}], degree {}, error {:.2e}",
                    fit.node, fit.seen.min, fit.seen.max, a.degree, fit.root_mean_square_error
                ));
            }
            if !adapted.outside.is_empty() {
                note(format_args!(
                    "warning: on {} inputs a value leaves its polynomial's interval; widen with --margin or raise --degree",
                    adapted.outside.len()
                ));
            }
            adapted.graph.with_metadata(metadata)?
        }
        Network::Polynomial(g) => {
            let seen = {
                let inputs = inputs.par_iter().cloned().map(Ok);
                nn::calibrate::calibrate(g.network(), inputs)?
            };
            if seen.outside > 0 {
                note(format_args!(
                    "warning: on {} inputs a value leaves its polynomial's interval",
                    seen.outside
                ));
            }
            g.with_ranges(seen.ranges)?
        }
    };
    let stem = a
        .model
        .file_stem()
        .map_or_else(|| "network".into(), |s| s.to_string_lossy().into_owned());
    let provenance = format!(
        "calibrated from {} on {} inputs",
        a.model
            .file_name()
            .map_or_else(String::new, |n| n.to_string_lossy().into_owned()),
        inputs.len()
    );
    let graph = network::with_metadata(
        graph,
        a.name.clone().unwrap_or(stem),
        a.labels.clone(),
        normalization,
        provenance,
    )?;
    nn::format::artefact::save(&graph, &a.output)?;
    note(format_args!("wrote {}", a.output.display()));
    Ok(())
}

/// How a network becomes polynomial, whatever its task: the one place where arguments become these options.
pub fn lowering(a: &CalibrateArgs) -> Options {
    Options {
        bits: a.text.bits,
        numerator: match a.text.carry {
            true => Numerator::Carried,
            false => Numerator::Apart,
        },
        activations: FitOptions {
            degree: Degree::Fixed(a.degree),
            margin: a.margin,
            ..FitOptions::default()
        },
        ..Options::default()
    }
}

/// What is printed before anything runs.
pub fn prediction(plan: &VerifiedPlan, made: &Prediction) -> String {
    let (facts, p, threads) = (plan.facts(), plan.parameters(), made.threads());
    let keys = p.key_security();
    let (fresh, fetching) = made.fresh();
    let mut text = format!(
        "{}: {} steps, {} bootstraps; on {threads} quiet cores about {} ({:.0} CPU seconds), at most {} of memory,\nbefore that, once, {} fetched from the system in about {:.1} CPU seconds; evaluation keys {}, error of the answer at most {:.1e}\n",
        plan.plan().description.name,
        plan.plan().steps.len(),
        facts.bootstraps,
        duration(made.seconds()),
        made.cpu_seconds(),
        size(made.peak_bytes()),
        size(fresh),
        fetching,
        size(facts.key_file_bytes),
        facts.output_error,
    );
    text += &machine::basis(made.basis());
    text.push('\n');
    text += &format!(
        "parameters {}: N = 2^{}, log QP = {:.1}, {} bits of security\n",
        p.spec().name,
        p.spec().log_n,
        p.log_qp(),
        p.security_bits()
    );
    if p.spec().is_toy() {
        text += "INSECURE: this is a toy parameter set; it protects nothing\n";
    }
    for k in keys {
        text += &format!(
            "  {}: log modulus {:.1}, {} bits ({})\n",
            k.name, k.log_modulus, k.bits, k.source
        );
    }
    text
}

/// What plans are made for: the table alone, without the probe, so that the plan is the same tomorrow.
pub fn target(machine: &Machine, max_memory: Option<u64>) -> compiler::Target {
    compiler::Target {
        cost: machine.cost.table,
        max_memory,
        ..compiler::Target::default()
    }
}

pub fn compile(a: &CompileArgs, threads: usize) -> Result<()> {
    let graph = load_polynomial(&a.model)?;
    let machine = Machine::load(&a.predict)?;
    let target = compiler::Target {
        keys_on_disk: true,
        batch: a.batch,
        ..target(&machine, a.max_memory)
    };
    let plan = compiler::compile(&graph, &target).map_err(named(&a.model))?;
    let placement = placement(&plan, a.max_memory, false);
    let made = machine.announce(&a.predict, &plan, placement.as_ref(), threads)?;
    let (bounds, values) = (plan.answer_bounds(), plan.plan().output.places.len());
    if text::divides(plan.plan()) {
        note(text::BOUND);
    } else {
        let once = Flooding::new(bounds, values, DEFAULT_SECURITY, 1)?;
        eprintln!(
            "an answer that is shared (`decrypt --share`), once, at {DEFAULT_SECURITY} bits: noise of deviation {:.1e}; its class needs a margin of {:.1e}, values reach {:.1e}; the class alone (`--class-only`) needs {:.1e}",
            once.sigma(),
            once.needed_margin(DEFAULT_CLASS_BITS),
            bounds.magnitude,
            2.0 * bounds.error
        );
    }
    let client = plan.client_file(network::task_of(&graph))?;
    let client_path = a.output.with_extension("client");
    if client_path == a.output {
        return Err("the client file is written beside the plan, with the extension `client`: give the plan another name".into());
    }
    atomically(&a.output, 0o644, |out, name| {
        Ok(plan.plan().write(out, name).map(drop)?)
    })?;
    atomically(&client_path, 0o644, |out, name| {
        Ok(client.write(out, name).map(drop)?)
    })?;
    note(format_args!(
        "wrote {} ({}; for the server) and {} ({}; for clients, keys are made from it)",
        a.output.display(),
        size(std::fs::metadata(&a.output)?.len()),
        client_path.display(),
        size(std::fs::metadata(&client_path)?.len())
    ));
    if a.json {
        println!(
            "{}",
            Report::new(&plan, &made, &Measured::default(), Answer::default()).to_json()
        );
    }
    Ok(())
}

/// Which keys `run` leaves on disk: none where the plan keeps the limit without that.
pub fn placement(plan: &VerifiedPlan, most: Option<u64>, forced: bool) -> Option<Placement> {
    let facts = plan.facts();
    (forced || most.is_some_and(|m| m < facts.peak_bytes))
        .then(|| facts.keys_on_disk(most.unwrap_or(0)))
}

pub fn keygen(a: &KeygenArgs, threads: usize) -> Result<()> {
    let file = network::client_file(&a.client)?;
    let (secret, public, beside) = (
        a.output.join("client.key"),
        a.output.join("evaluation.keys"),
        a.output.join(network::CLIENT_FILE),
    );
    let parameters = file.parameters();
    if parameters.spec().is_toy() && !a.insecure_toy {
        return Err(format!("{}: `{}` is a toy parameter set that protects nothing; ask for it by name with --insecure-toy, or compile for a secure one", a.client.display(), parameters.spec().name).into());
    }
    if !a.replace && (secret.exists() || public.exists()) {
        return Err(format!("{} already holds keys; choose another folder, or --replace them (what was encrypted with them is then lost)", a.output.display()).into());
    }
    std::fs::create_dir_all(&a.output).map_err(named(&a.output))?;
    let keys = file.spec().keys.len();
    // one key at a time: a product and an expansion for each limb
    let limbs: usize = file
        .spec()
        .keys
        .iter()
        .map(|&(k, l)| ckks::SwitchingKey::layout(parameters, k, l).len())
        .sum();
    let cost = Machine::load(&PredictionArgs::default())?.cost;
    let table = cost.on(threads);
    let cpu = limbs as f64 * (table.ntt + table.expansion + 3.0 * table.pass);
    let seconds = cost.wall(cpu, threads);
    let mut rng = rng();
    let client = Client::new(file, &mut rng)?;
    let bytes = client.evaluation_keys_bytes();
    note(format_args!(
        "making {keys} evaluation keys: {} on disk, about {}",
        size(bytes),
        duration(seconds)
    ));
    require_disk(&a.output, bytes + (1 << 20))?;
    place_client_file(&a.client, &beside)?;
    let mut line = Line::new();
    atomically(&public, 0o644, |out, name| {
        Ok(client
            .write_evaluation_keys(out, name, &mut rng, &mut |done, all| {
                line.show(&format!("  key {done}/{all}"))
            })
            .map(drop)?)
    })?;
    line.done();
    atomically(&secret, 0o600, |out, name| {
        Ok(client.write(out, name).map(drop)?)
    })?;
    // answers that were shared under the key that is gone now
    let record = a.output.join(RECORD_NAME);
    if a.replace && record.exists() {
        std::fs::remove_file(&record).map_err(named(&record))?;
    }
    note(format_args!(
        "wrote {} (secret: keep it; never send it) and {} (send it to the server)",
        secret.display(),
        public.display()
    ));
    Ok(())
}

/// Puts the client file beside the keys that were made from it.
fn place_client_file(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        if from.canonicalize()? == to.canonicalize()? {
            return Ok(());
        }
        std::fs::remove_file(to).map_err(named(to))?;
    }
    if std::fs::hard_link(from, to).is_err() {
        std::fs::copy(from, to).map_err(named(to))?;
    }
    Ok(())
}

pub fn encrypt(a: &EncryptArgs) -> Result<()> {
    let client = client(&a.key, a.client.as_deref())?;
    let task = network::task(&client)?;
    let normalization = normalization(&task);
    let shape = input_shape(client.spec())?;
    let language = text::format(&task)?;
    let sentences = sentences::format(&task)?;
    if a.truncate && sentences.is_none() {
        return Err("--truncate goes with plans that classify sentences".into());
    }
    let values = match (&a.data, a.index) {
        _ if language.is_some() || sentences.is_some() || !a.text.is_empty() => match &sentences {
            Some(format) => sentences::inputs(format, &a.text, a.truncate)?,
            None => text::inputs(language.as_ref(), &a.text)?,
        },
        (Some(path), Some(index)) => {
            let options = data::Options {
                split: a.split,
                ..data::Options::default()
            };
            let set = data::Dataset::open(path, &options)?.0;
            let s = set.shape();
            let picture = Picture::from_pixels(
                s.width,
                s.height,
                s.channels,
                set.pixels(index)?.into_owned(),
            );
            let picture = picture.ok_or_else(|| format!("pictures {s} are no pictures"))?;
            network::picture(&picture, shape, &normalization, a.resize)
                .map_err(named(path))?
                .into_values()
        }
        _ if a.image.is_empty() => {
            return Err("a picture is needed: --image FILE, or --data FILE --index N".into());
        }
        _ => {
            let mut values = Vec::new();
            for path in &a.image {
                let picture = Picture::load(path)?;
                let tensor = network::picture(&picture, shape, &normalization, a.resize);
                values.extend(tensor.map_err(named(path))?.into_values());
            }
            values
        }
    };
    note(format_args!(
        "encrypting into {} ciphertexts: {}, about a second",
        client.spec().input.registers.len(),
        size(client.input_bytes())
    ));
    require_disk(folder_of(&a.output), client.input_bytes())?;
    atomically(&a.output, 0o644, |out, name| {
        Ok(client
            .write_input(&values, out, name, &mut rng())
            .map(drop)?)
    })?;
    note(format_args!(
        "wrote {} (send it to the server)",
        a.output.display()
    ));
    Ok(())
}

pub fn decrypt(a: &DecryptArgs) -> Result<()> {
    let client = client(&a.key, a.client.as_deref())?;
    let task = network::task(&client)?;
    let name = a.answer.display().to_string();
    let answer = BufReader::new(open(&a.answer)?);
    let labels = &task.labels;
    if let Some(language) = text::format(&task)? {
        return text::decrypt(a, &client, &language);
    }
    let sentences = sentences::format(&task)?;
    if !a.text.is_empty() && sentences.is_none() {
        return Err(text::NO_LANGUAGE.into());
    }
    if a.share && sentences.is_some() {
        return Err("answers of an encoder can't be shared: their worst-case error bound is too wide for noise to leave a class standing; keep them to yourself".into());
    }
    let terms = Terms {
        security: a.security_bits,
        releases: a.releases,
        class_bits: a.class_bits,
    };
    // one key has one record, by whatever link it is reached
    let record = || -> Result<PathBuf> {
        let key = a.key.canonicalize().map_err(named(&a.key))?;
        Ok(folder_of(&key).join(RECORD_NAME))
    };
    if a.class_only {
        let shared = client.share_class(answer, &name, &record()?, &terms)?;
        note(&shared);
        insecure(&client);
        if a.json {
            println!(
                "{}",
                serde_json::json!({ "class": shared.class, "label": labels.get(shared.class), "may_be_shared": true, "sharing": shared })
            );
        } else {
            println!("{}", network::label(labels, shared.class));
        }
        return Ok(());
    }
    let (logits, shared) = if a.share {
        let shared = client.share_answer(answer, &name, &record()?, &terms, &mut rng())?;
        (shared.values.clone(), Some(shared))
    } else {
        (client.read_answer(answer, &name)?, None)
    };
    match &shared {
        Some(s) => note(s),
        None => note(
            "keep this to yourself: whoever sees decrypted values can attack the key (IND-CPA-D, SECURITY.md); `--share` makes what may be passed on",
        ),
    }
    insecure(&client);
    for logits in answers(&client, &logits, a.count.max(a.text.len()))? {
        let best = network::top(logits, 1)[0];
        if a.json {
            println!(
                "{}",
                serde_json::json!({ "class": best, "label": labels.get(best), "logits": logits, "error_bound": client.spec().answer.error, "may_be_shared": shared.is_some(), "sharing": shared })
            );
        } else {
            print!("{}", top_lines(logits, labels));
        }
    }
    Ok(())
}

/// The first `count` answers of a batch.
pub fn answers<'a>(
    client: &Client,
    values: &'a [f64],
    count: usize,
) -> Result<impl Iterator<Item = &'a [f64]>> {
    let port = &client.spec().output;
    if count > port.batch {
        return Err(format!("{count} answers: the plan takes {} at a time", port.batch).into());
    }
    Ok(values.chunks(port.places.len()).take(count))
}

pub fn insecure(client: &Client) {
    if client.parameters().spec().is_toy() {
        note("INSECURE: these are the keys of a toy parameter set, which protects nothing");
    }
}

/// Checks a run's predicted peak against the limit and what is free.
pub fn memory(plan: &VerifiedPlan, peak: u64, most: Option<u64>) -> Result<()> {
    Ok(require_memory(
        &format!("this plan for {}", plan.plan().description.name),
        peak,
        most,
    )?)
}

//! What work takes of memory, checked before it starts.

use crate::error::Result;
#[cfg(feature = "train")]
use crate::progress::{Listener, Say};
use ckks::keys::{KeyName, SwitchingKey};
use ckks::{Level, memory};
use nn::Shape;
use runtime::limits;
use runtime::machine::require_room;
use runtime::{ClientFile, size};
#[cfg(feature = "train")]
use train::memory::Kept;

/// Bytes of a process that makes a client's keys.
///
/// # Errors
/// A lack of memory.
pub(crate) fn keygen(file: &ClientFile) -> Result<u64> {
    let p = file.parameters();
    let keys = &file.spec().keys;
    let bytes = |&(key, limit): &(KeyName, usize)| (SwitchingKey::bytes_for(p, key, limit), key);
    let largest = keys.iter().map(bytes).max();
    let most = largest.map_or(0, |(most, _)| most);
    // which layers ask for them the plan knows, not the client file
    let mut what = format!("making the {} keys of {}", keys.len(), network(file));
    if let Some((most, key)) = largest {
        what += &format!(", of {} at most ({key}),", size(most));
    }
    required(&what, memory::key_generation(p, most))
}

/// What data take at most, of the bytes of what is read: tables as text and as numbers, with what parsing takes; sets as they are read and as they are kept.
const READ: u64 = 5;

/// Bytes of data that may be read where memory is what it is, `most` at most.
pub(crate) fn data_limit(most: u64) -> u64 {
    limits::here().map_or(most, |room| most.min(room.bytes / READ))
}

/// Bytes that reading a file takes, of one whose length says it.
pub(crate) fn reading(path: &std::path::Path) -> u64 {
    READ * std::fs::metadata(path).map_or(0, |m| m.len())
}

/// Bytes of a process that decodes a picture, on each thread where pictures are read on all of them at once.
///
/// # Errors
/// A lack of memory; what the header says is no picture.
pub(crate) fn picture(path: &std::path::Path, bytes: &[u8]) -> Result<u64> {
    let decoding = task::Picture::decoding(bytes)?;
    let threads = rayon::current_thread_index().map_or(1, |_| rayon::current_num_threads());
    let needed = limits::resident() + decoding.bytes * threads as u64;
    let what = format!(
        "decoding {}, {}×{} pixels,",
        path.display(),
        decoding.width,
        decoding.height
    );
    require_room(&what, needed, ", or scale the picture down first")?;
    Ok(needed)
}

fn network(file: &ClientFile) -> &str {
    &file.spec().description.name
}

/// Bytes of a process that encrypts the inputs of one run, of these names.
///
/// # Errors
/// A lack of memory.
pub(crate) fn encrypt(file: &ClientFile, names: &str) -> Result<u64> {
    let port = &file.spec().input;
    let (level, count) = (Level::new(port.level), port.registers.len());
    let what = format!(
        "encrypting {names}, the input {} of {},",
        port.name,
        network(file)
    );
    let bytes = memory::encryption(file.parameters(), level, count);
    required(&what, bytes)
}

/// Bytes of a process that decrypts the answer of one run.
///
/// # Errors
/// A lack of memory.
pub(crate) fn decrypt(file: &ClientFile) -> Result<u64> {
    let port = &file.spec().output;
    let (level, count) = (Level::new(port.level), port.registers.len());
    let what = format!("decrypting an answer of {}", network(file));
    required(&what, memory::decryption(file.parameters(), level, count))
}

/// From now on the process's largest size is counted anew, where the system can.
pub(crate) fn forget_peak() {
    use rustix::process::{DumpableBehavior, dumpable_behavior, set_dumpable_behavior};
    // nothing but a figure depends on it; of a process that dumps no core that file is root's
    let kept = dumpable_behavior();
    let _ = set_dumpable_behavior(DumpableBehavior::Dumpable);
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let _ = kept.and_then(set_dumpable_behavior);
}

fn required(what: &str, bytes: u64) -> Result<u64> {
    require_room(what, bytes, "")?;
    Ok(bytes)
}

/// Refuses to calibrate a network whose values have these shapes on so many inputs, the first of the shapes, where memory is short: inputs
/// are all kept, and each thread has all values of one of them.
///
/// # Errors
/// A lack of memory.
pub(crate) fn calibrate(shapes: &[Shape], inputs: usize) -> Result<()> {
    let input = shapes.first().map_or(0, |shape| shape.len() as u64);
    let each: u64 = shapes.iter().map(|shape| shape.len() as u64).sum();
    let bytes = 8 * (input * inputs as u64 + each * rayon::current_num_threads() as u64);
    let what = format!("calibrating on {inputs} inputs of {}", size(8 * input));
    let more = ", or calibrate on fewer inputs or with fewer threads";
    Ok(require_room(&what, limits::resident() + bytes, more)?)
}

/// What a training run's passes keep: everything where there is room, or else what values are computed again from, which is said. Refuses a run that has
/// no room for that either.
///
/// # Errors
/// A lack of memory.
#[cfg(feature = "train")]
pub(crate) fn train(
    (model, teacher): (&train::Model, Option<&train::Model>),
    (batch, stages): (usize, &[train::config::Stage]),
    tell: Listener<'_>,
) -> Result<Kept> {
    let what = format!("training on batches of {batch}");
    let needed = |kept| limits::resident() + model.training_bytes((batch, stages), kept, teacher);
    let all = needed(Kept::Everything);
    if require_room(&what, all, "").is_ok() {
        return Ok(Kept::Everything);
    }
    let parts = stages.iter().map(|s| s.parts.max(1)).min();
    let mut instead = ", or train on smaller batches or in more parts".to_string();
    if let Some(layer) = largest(model.template(), batch.div_ceil(parts.unwrap_or(1))) {
        instead += &format!(": layer {layer} takes most");
    }
    let least = needed(Kept::Boundaries);
    require_room(&what, least, instead)?;
    tell.note(format!(
        "{what} would take about {}, more than there is: values are computed again in backward passes, which takes about {} and up to a third more time, and changes no result",
        size(all),
        size(least)
    ));
    Ok(Kept::Boundaries)
}

/// The layer that takes most of [`train::Model::training_bytes`]: the results that are kept of so many inputs and, six times, weights. Attention keeps no
/// scores: they are made again.
#[cfg(feature = "train")]
fn largest(graph: &nn::Graph, inputs: usize) -> Option<&str> {
    let bytes = |n: &nn::Node<nn::Nonlinearity>| {
        let values = match n.op() {
            nn::Op::Constant(..) => 0,
            _ => n.shape().len(),
        };
        let weights: usize = match n.op() {
            nn::Op::Linear(l) => l.weight.shape().iter().product(),
            nn::Op::Conv2d(c) => c.weight.shape().iter().product(),
            _ => 0,
        };
        inputs * values + 6 * weights
    };
    graph
        .nodes()
        .iter()
        .max_by_key(|n| bytes(n))
        .map(nn::Node::name)
}

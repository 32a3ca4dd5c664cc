//! What work takes of memory, checked before it starts.

use crate::error::Result;
use ckks::keys::{KeyName, SwitchingKey};
use ckks::{Level, memory};
use nn::Shape;
use runtime::limits;
use runtime::machine::require_room;
use runtime::{ClientFile, size};

/// Bytes of a process that makes a client's keys.
///
/// # Errors
/// A lack of memory.
pub(crate) fn keygen(file: &ClientFile) -> Result<u64> {
    let p = file.parameters();
    let bytes = |&(key, limit): &(KeyName, usize)| SwitchingKey::bytes_for(p, key, limit);
    let most = file.spec().keys.iter().map(bytes).max().unwrap_or(0);
    required("making keys", memory::key_generation(p, most))
}

/// Bytes of a process that encrypts the inputs of one run.
///
/// # Errors
/// A lack of memory.
pub(crate) fn encrypt(file: &ClientFile) -> Result<u64> {
    let port = &file.spec().input;
    let (level, count) = (Level::new(port.level), port.registers.len());
    required(
        "encrypting",
        memory::encryption(file.parameters(), level, count),
    )
}

/// Bytes of a process that decrypts the answer of one run.
///
/// # Errors
/// A lack of memory.
pub(crate) fn decrypt(file: &ClientFile) -> Result<u64> {
    let port = &file.spec().output;
    let (level, count) = (Level::new(port.level), port.registers.len());
    required(
        "decrypting",
        memory::decryption(file.parameters(), level, count),
    )
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

/// Refuses a training run where memory is short.
///
/// # Errors
/// A lack of memory.
#[cfg(feature = "train")]
pub(crate) fn train<N, D>(model: &train::Model, run: &train::config::Run<N, D>) -> Result<()> {
    let what = format!("training on batches of {}", run.batch);
    let needed = limits::resident() + model.training_bytes(run);
    Ok(require_room(
        &what,
        needed,
        ", or train on smaller batches or in more parts",
    )?)
}

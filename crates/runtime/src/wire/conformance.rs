//! From untrusted bytes to checked objects: parameters, key lists, residues.

use crate::machine::require_room;
use crate::wire::container::Digest;
use crate::wire::packing::packed_len;
use crate::{Error, Help, Result, limits};
use ckks::keys::{KeyName, KeyRequest, SwitchingKey};
use ckks::parameters::{BootstrapSpec, Zone};
use ckks::{Level, Parameters, ParametersSpec, memory};

/// A list of keys as it is written: names and limits.
pub(crate) type KeyList = Vec<(KeyName, usize)>;

/// Most primes in one parameter set that files may ask for.
const PRIMES_LIMIT: usize = 160;

pub(crate) fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data with string keys is always JSON")
}

/// Checks a specification from a file before primes are searched for; `name` is the file's, for the message.
///
/// # Errors
/// [`Error::File`], field `parameters`; [`Error::Memory`] where there is no room for the ring's tables.
pub fn parameters(spec: ParametersSpec, name: &str) -> Result<Parameters> {
    let small = |z: &Zone| z.levels <= 64 && (1..=4).contains(&z.bits.len());
    let zones = |b: &BootstrapSpec| -> Vec<Zone> {
        let mut all = vec![
            b.product.clone(),
            b.slot_to_coeff.clone(),
            b.coeff_to_slot.clone(),
        ];
        all.extend(b.eval_mod.iter().take(PRIMES_LIMIT).cloned());
        all
    };
    let bootstrap = spec.bootstrap.as_ref().is_none_or(|b| {
        (zones(b).iter()).all(small)
            && b.eval_mod.len() <= 64
            && b.degree <= 1023
            && b.double_angles <= 16
            && b.range <= 1 << 16
    });
    if !small(&spec.residual)
        || !bootstrap
        || spec.primes() > PRIMES_LIMIT
        || spec.name.len() > 200
        || spec.log_scale > 200
        || spec.log_n > 17
    {
        let problem = "the specification is out of range";
        let remedy = "make the file again with this program";
        return Err(Error::file(name, "parameters", problem, remedy));
    }
    let what = format!("{name}: parameter set {}", spec.name);
    require_room(&what, limits::resident() + memory::tables(&spec), "")?;
    Parameters::new(spec).map_err(|e| {
        let remedy = "compile for another parameter set";
        Error::file(name, "parameters", e.to_string(), remedy)
    })
}

/// BLAKE3 of the specification and its primes.
pub fn parameters_digest(parameters: &Parameters) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&json(parameters.spec()));
    for q in parameters.ring().moduli() {
        hasher.update(&q.value().to_le_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// Refuses names and limits that these parameters do not have.
pub(crate) fn key_request(
    list: &KeyList,
    parameters: &Parameters,
    name: &str,
) -> Result<KeyRequest> {
    let refuse = |problem: String| {
        let remedy = Help::MakeKeys.with("make new keys for this plan");
        Error::file(name, "list of keys", problem, remedy)
    };
    let mut request = KeyRequest::default();
    for &(key, limit) in list {
        if !key.exists(parameters, limit) {
            return Err(refuse(format!(
                "{key} up to prime {limit}, but the chain has {} and N is {}",
                parameters.special()[0],
                parameters.n()
            )));
        }
        if request.0.insert(key, limit).is_some() {
            return Err(refuse(format!("{key} occurs twice")));
        }
    }
    Ok(request)
}

/// Payload bytes of one key's section.
pub(crate) fn key_bytes(parameters: &Parameters, key: KeyName, limit: usize) -> u64 {
    32 + SwitchingKey::layout(parameters, key, limit)
        .iter()
        .map(|q| packed_len(SwitchingKey::degree(parameters, key), q.bits()) as u64)
        .sum::<u64>()
}

/// Bytes of one polynomial at a level.
pub(crate) fn poly_bytes(parameters: &Parameters, level: Level) -> u64 {
    parameters
        .limbs(level)
        .iter()
        .map(|&i| packed_len(parameters.n(), parameters.prime(i).bits()) as u64)
        .sum()
}

/// A level that is part of the residual chain.
pub(crate) fn residual_level(parameters: &Parameters, index: usize, name: &str) -> Result<Level> {
    let levels = parameters.residual().index();
    if index > levels {
        let problem = format!("{index}, but {levels} levels exist");
        let remedy = "make the file again for this plan";
        return Err(Error::file(name, "level", problem, remedy));
    }
    Ok(Level::new(index))
}

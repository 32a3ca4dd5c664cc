//! What the evaluator takes of memory: one formula for each thing that it holds, used by whoever plans, verifies or predicts a run.

pub use crate::dft::KeptTransforms;
use crate::work::{At, Hoisting};
use crate::{Form, Level, MapSize, Parameters, ParametersSpec, dft};
use std::collections::BTreeSet;

/// Code and what every process has, beyond what is counted: half of it is the program itself.
const CODE_BYTES: u64 = 32 << 20;

/// The allocator's slack and what else grows with a run: a quarter of what is counted, and no more than this. Plans of a few layers
/// took no more than what is counted and [`CODE_BYTES`]; large ones had up to 0.2 GB more.
const MOST_SLACK: u64 = 184 << 20;

/// Diagonals of which a limb is encoded at a time, on each thread: half a mebibyte each.
pub(crate) const ENCODED: usize = 512;

/// Threads that are counted to work on the limbs of a map: those of the largest runs that were measured. Each more takes [`map_thread`].
pub const THREADS: usize = 2;

/// Buffers that wait to be used again, next to those in use: the embedded ResNet-20 and a ResNet-18 at 224 px had less than 0.1 GB of them, a
/// ResNet-152 on two threads 0.28 GB (docs/performance.md, "Predictions").
const WAITING: u64 = 340 << 20;

/// Bytes of a ciphertext.
pub fn ciphertext(parameters: &Parameters, level: Level) -> u64 {
    2 * 8 * (parameters.limbs(level).len() * parameters.n()) as u64
}

/// Bytes of a polynomial modulo QP.
fn extended(parameters: &Parameters, level: Level) -> u64 {
    8 * ((parameters.limbs(level).len() + parameters.special_at(level).len()) * parameters.n())
        as u64
}

/// Bytes that a map at this level needs beside its operands: a pair of sums for every giant step, a pair modulo QP in all, and digits; rotated
/// inputs where they are whole ([`Hoisting::Single`]); two words of eight bytes for each of `values` slots of diagonals as coefficients; and
/// [`map_thread`] on each of [`THREADS`].
pub fn map(parameters: &Parameters, level: Level, size: &MapSize, values: usize) -> u64 {
    let (extended, sums) = (extended(parameters, level), size.giants + size.unmoved);
    let needed = match At::new(parameters, level).hoisting(size) {
        Hoisting::Double => extended * (2 * (sums + size.outputs) + size.inputs + 2) as u64,
        Hoisting::Single => {
            let whole = ciphertext(parameters, level) * (size.babies + sums) as u64;
            whole + extended * (2 * size.outputs + size.inputs + 4) as u64
        }
    };
    let threads = THREADS as u64 * map_thread(parameters, level, size, values);
    needed + threads + 16 * values as u64
}

/// Bytes that a map takes on each thread: a limb of each rotated input where these are not whole, and of the diagonals that are encoded at a time,
/// which are those of an inner sum at least: it has one for each input and baby step at most.
pub fn map_thread(parameters: &Parameters, level: Level, size: &MapSize, values: usize) -> u64 {
    let together = size.diagonals.min(ENCODED.max(size.babies + size.inputs));
    let encoded = values / size.diagonals.max(1) * together;
    let copies = match At::new(parameters, level).hoisting(size) {
        Hoisting::Double => parameters.n() * size.babies,
        Hoisting::Single => 0,
    };
    16 * (copies + encoded) as u64
}

/// Bytes that a bootstrap to this level needs beside its operand.
pub fn bootstrap(parameters: &Parameters, target: usize) -> u64 {
    let top = parameters.top(Level::new(target));
    let stages = parameters.bootstrap().map_or(0, |b| {
        parameters
            .max_slots()
            .ilog2()
            .div_ceil(b.coeff_to_slot.levels as u32)
    });
    // half of the bits of a map's diagonals are giant steps
    extended(parameters, top) * ((2 << stages.div_ceil(2)) + 5)
}

/// Bytes that a product or a polynomial, which keeps its powers, needs beside its operands.
pub fn product(parameters: &Parameters, level: Level) -> u64 {
    let limbs = parameters.limbs(level);
    let digits = parameters.digits().iter();
    let digits = digits.filter(|d| limbs.iter().any(|i| d.contains(i)));
    extended(parameters, level) * (digits.count() as u64 + 8)
}

/// Bytes of the bootstraps' diagonals, which are kept encoded: for each slot count and form (and, for SlotToCoeff's first map, target and
/// gain) one group of butterflies for each level.
pub fn transforms(
    parameters: &Parameters,
    bootstraps: impl IntoIterator<Item = KeptTransforms>,
) -> u64 {
    let Some(spec) = parameters.bootstrap() else {
        return 0;
    };
    let different: BTreeSet<KeptTransforms> = bootstraps.into_iter().collect();
    let kinds: BTreeSet<(usize, Form)> = different.iter().map(|t| (t.slots, t.form)).collect();
    let limbs = |level: Level| parameters.limbs(level).len() + parameters.special_at(level).len();
    // a period of p complex slots is kept as 2p words per limb, eight at least
    let bytes =
        |(terms, period): (usize, usize), limbs| (8 * terms * (2 * period).max(8) * limbs) as u64;
    let mut total = 0;
    let top = parameters.top(parameters.residual());
    for (slots, form) in kinds {
        let mut level = top;
        for size in dft::sizes(parameters, slots, form, spec.coeff_to_slot.levels)
            .into_iter()
            .rev()
        {
            total += match level == top && slots == parameters.max_slots() {
                // of a raised operand
                true => bytes(size, parameters.limbs(level).len() + 1),
                false => bytes(size, limbs(level)),
            };
            level = parameters.below(level).unwrap_or(level);
        }
        // the last map also brings both halves together
        let merged = if slots < parameters.max_slots() && form == Form::Real {
            2
        } else {
            1
        };
        let alike = |t: &&KeptTransforms| (t.slots, t.form) == (slots, form);
        let different = different.iter().filter(alike).count();
        level = parameters.products();
        let count = spec.slot_to_coeff.levels;
        let sizes = dft::sizes(parameters, slots, form, count);
        for (i, (terms, period)) in sizes.into_iter().enumerate().rev() {
            level = parameters.above(level, top);
            let times =
                if i == 0 { different } else { 1 } * if i + 1 == count { merged } else { 1 };
            total += bytes((terms * times, period), limbs(level));
        }
    }
    total
}

/// Bytes of the first maps of SlotToCoeff that multiply by masks, each kept encoded: for each its slots, the number of masks and their period.
pub fn masked_maps(
    parameters: &Parameters,
    masks: impl IntoIterator<Item = (usize, usize, usize)>,
) -> u64 {
    let Some(spec) = parameters.bootstrap() else {
        return 0;
    };
    let floor = parameters.floor();
    let limbs = parameters.limbs(floor).len() + parameters.special_at(floor).len();
    let each = masks.into_iter().map(|(slots, count, period)| {
        let sizes = dft::sizes(parameters, slots, Form::Real, spec.slot_to_coeff.levels);
        let first = sizes.first().copied();
        first.map_or(0, |(terms, own)| {
            (16 * count * terms * own.max(period) * limbs) as u64
        })
    });
    each.sum()
}

/// Bytes of a server's process besides keys and weights, where ciphertexts and steps take `peak` at most and it does these bootstraps.
pub fn process(
    parameters: &Parameters,
    bootstraps: impl IntoIterator<Item = KeptTransforms>,
    peak: u64,
) -> u64 {
    let pool = peak.min(WAITING);
    let bottoms = parameters.bottoms().into_iter().flatten().map(all_limbs);
    let limbs = all_limbs(parameters) + bottoms.sum::<u64>();
    let counted = 30 * limbs + transforms(parameters, bootstraps) + peak + pool;
    CODE_BYTES + counted + (counted / 4).min(MOST_SLACK)
}

/// Words of a polynomial modulo every prime.
fn all_limbs(parameters: &Parameters) -> u64 {
    (parameters.ring().moduli().len() * parameters.n()) as u64
}

/// Bytes of the ring's tables for each word of a polynomial modulo every prime.
const TABLES: u64 = 22;

/// Bytes of the ring's tables of a set, to be counted before they are made.
pub fn tables(spec: &ParametersSpec) -> u64 {
    TABLES * ((spec.primes() as u64) << spec.log_n)
}

/// Code and the allocator's slack of a client's process.
const CLIENT_BYTES: u64 = 16 << 20;

/// Bytes of a client's process that holds the ring's tables and its secret key, beside what it makes.
pub fn client(parameters: &Parameters) -> u64 {
    CLIENT_BYTES + (TABLES + 8) * all_limbs(parameters)
}

/// Bytes of a client's process that makes evaluation keys one after the other, of this size at most.
pub fn key_generation(parameters: &Parameters, key: u64) -> u64 {
    // beside it the sparse secret, and what it leads to
    client(parameters) + 16 * all_limbs(parameters) + key
}

/// Bytes of a client's process that encrypts this many ciphertexts.
pub fn encryption(parameters: &Parameters, level: Level, count: usize) -> u64 {
    client(parameters) + count as u64 * ciphertext(parameters, level) / 2
}

/// Bytes of a client's process that decrypts this many ciphertexts, looks at all slots of one after the other, and judges them.
pub fn decryption(parameters: &Parameters, level: Level, count: usize) -> u64 {
    // a copy with all slots, and its phase
    client(parameters) + (count as u64 + 2) * ciphertext(parameters, level)
}

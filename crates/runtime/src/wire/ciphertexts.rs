//! Ciphertexts in files: inputs, answers, and what a checkpoint holds.

use super::conformance::{self, poly_bytes};
use super::packing::{pack, packed_len, unpack};
use super::{
    KeyId,
    container::{DAMAGED, Ids, Kind, Reader, Writer},
};
use crate::alarm::Alarm;
use crate::plan::Port;
use crate::{Error, Result};
use ckks::{Ciphertext, Level, Parameters, ParametersSpec, SeededCiphertext};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};

pub(crate) const META: [u8; 4] = *b"meta";
pub(crate) const CIPHERTEXT: [u8; 4] = *b"ctxt";
const ALARM: [u8; 4] = *b"alrm";
/// The one kind of alarm that there is: the ciphertext of a plan's sums, residues of two polynomials.
const SUMS: [u8; 4] = 1u32.to_le_bytes();

/// Ciphertexts of one client: an input or an answer.
#[derive(Clone, Debug)]
pub struct Encrypted<C> {
    /// The key pair that they belong to.
    pub key: KeyId,
    /// One for each register of the port; of an answer whose plan has an alarm, its own after them.
    pub ciphertexts: Vec<C>,
}

/// What an input or answer file says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PortMeta {
    pub(crate) parameters: ParametersSpec,
    pub(crate) ciphertexts: usize,
    pub(crate) level: usize,
    pub(crate) slots: usize,
    /// Of a step's further inputs: ciphertexts, slots and level.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) more: Vec<[usize; 3]>,
}

impl PortMeta {
    pub(crate) fn new(parameters: &Parameters, port: &Port) -> Self {
        Self {
            parameters: parameters.spec().clone(),
            ciphertexts: port.registers.len(),
            level: port.level,
            slots: port.slots,
            more: Vec::new(),
        }
    }
    /// Of a client's inputs.
    pub(crate) fn of<'p>(parameters: &Parameters, ports: impl Iterator<Item = &'p Port>) -> Self {
        let mut ports = ports;
        let first = ports.next().map(|p| Self::new(parameters, p));
        let more = ports.map(|p| [p.registers.len(), p.slots, p.level]);
        Self {
            more: more.collect(),
            ..first.unwrap_or_else(|| Self {
                parameters: parameters.spec().clone(),
                ciphertexts: 0,
                level: 0,
                slots: 0,
                more: Vec::new(),
            })
        }
    }
    fn expect(&self, port: &Port, name: &str) -> Result<()> {
        let had = (self.ciphertexts, self.slots, self.level);
        let needed = (port.registers.len(), port.slots, port.level);
        if had == needed {
            return Ok(());
        }
        let problem = format!(
            "{} ciphertexts of {} slots at level {}, the plan's port `{}` has {} of {} at {}",
            had.0, had.1, had.2, port.name, needed.0, needed.1, needed.2
        );
        let remedy = "make the file again for this plan";
        Err(Error::file(name, "section `meta`", problem, remedy))
    }
}

/// Reads residues of one limb from the current section.
pub(crate) fn read_limb<R: Read>(
    file: &mut Reader<R>,
    bits: u32,
    bytes: &mut Vec<u8>,
    limb: &mut [u64],
) -> Result<()> {
    bytes.resize(packed_len(limb.len(), bits), 0);
    file.take(bytes)?;
    unpack(bytes, bits, limb);
    Ok(())
}

/// Residues that do not conform, seen before the checksum was reached.
pub(crate) fn conform(e: Error, name: &str) -> Error {
    match e {
        Error::Ckks(e) => Error::file(name, "residues", e.to_string(), DAMAGED),
        other => other,
    }
}

/// Reads an encrypted input.
///
/// # Errors
/// [`Error::File`] with the field that is wrong.
pub(crate) fn read_input(
    input: impl Read,
    name: &str,
    parameters: &Parameters,
    ids: &Ids,
    ports: &[&Port],
) -> Result<Encrypted<SeededCiphertext>> {
    let mut file = Reader::new(input, name, Kind::Input)?;
    file.expect(ids)?;
    let meta: PortMeta = file.json(META, 1 << 20)?;
    let [first, more @ ..] = ports else {
        return Err(Error::file(
            name,
            "header",
            "a plan without inputs",
            DAMAGED,
        ));
    };
    meta.expect(first, name)?;
    let sizes = more.iter().map(|p| [p.registers.len(), p.slots, p.level]);
    if !sizes.eq(meta.more.iter().copied()) {
        let problem = format!(
            "ciphertexts, slots and levels of further inputs: {:?}",
            meta.more
        );
        let remedy = "make the file again for this plan";
        return Err(Error::file(name, "section `meta`", problem, remedy));
    }
    let mut bytes = Vec::new();
    let mut out = Vec::with_capacity(meta.ciphertexts);
    let all = ports
        .iter()
        .flat_map(|p| p.registers.iter().map(move |_| p));
    for port in all {
        let level = Level::new(port.level);
        let indices = parameters.limbs(level).clone();
        file.begin_exact(CIPHERTEXT, 32 + poly_bytes(parameters, level))?;
        let mut seed = [0u8; 32];
        file.take(&mut seed)?;
        let c = SeededCiphertext::read(parameters, level, port.slots, seed, |k, limb| {
            let bits = parameters.prime(indices[k]).bits();
            read_limb(&mut file, bits, &mut bytes, limb)
        });
        out.push(c.map_err(|e| conform(e, name))?);
        file.end()?;
    }
    file.finish()?;
    Ok(Encrypted {
        key: ids.key,
        ciphertexts: out,
    })
}

/// Payload bytes of a whole ciphertext.
pub(crate) fn ciphertext_bytes(parameters: &Parameters, level: Level) -> u64 {
    2 * poly_bytes(parameters, level)
}

/// Writes all limbs of a ciphertext of degree 1 into the current section.
pub(crate) fn write_ciphertext<W: Write>(
    file: &mut Writer<W>,
    parameters: &Parameters,
    c: &Ciphertext,
) -> Result<()> {
    write_limbs(file, parameters, c.level(), c.limbs())
}

/// Writes the limbs of polynomials at a level into the current section.
pub(crate) fn write_limbs<'a, W: Write>(
    file: &mut Writer<W>,
    parameters: &Parameters,
    level: Level,
    limbs: impl Iterator<Item = &'a [u64]>,
) -> Result<()> {
    let mut bytes = Vec::new();
    for (limb, &i) in limbs.zip(parameters.limbs(level).iter().cycle()) {
        bytes.clear();
        pack(limb, parameters.prime(i).bits(), &mut bytes);
        file.write(&bytes)?;
    }
    Ok(())
}

/// Reads the next section as a ciphertext of degree 1 at a level's canonical scale.
pub(crate) fn read_ciphertext<R: Read>(
    file: &mut Reader<R>,
    parameters: &Parameters,
    level: Level,
    slots: usize,
) -> Result<Ciphertext> {
    file.begin_exact(CIPHERTEXT, ciphertext_bytes(parameters, level))?;
    read_residues(file, parameters, level, slots)
}

/// Reads the rest of the current section as a ciphertext of degree 1 at a level's canonical scale.
fn read_residues<R: Read>(
    file: &mut Reader<R>,
    parameters: &Parameters,
    level: Level,
    slots: usize,
) -> Result<Ciphertext> {
    let name = file.name().to_owned();
    let indices = parameters.limbs(level).clone();
    let mut bytes = Vec::new();
    let c = Ciphertext::read(parameters, level, slots, |k, limb| {
        let bits = parameters.prime(indices[k % indices.len()]).bits();
        read_limb(file, bits, &mut bytes, limb)
    });
    let c = c.map_err(|e| conform(e, &name))?;
    file.end()?;
    Ok(c)
}

/// Writes an answer file: what is more than the port's ciphertexts is the alarm's.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn write_answer<W: Write>(
    answer: &[Ciphertext],
    out: W,
    name: &str,
    parameters: &Parameters,
    ids: Ids,
    port: &Port,
) -> Result<W> {
    let meta = conformance::json(&PortMeta::new(parameters, port));
    let (values, alarm) = answer.split_at(port.registers.len().min(answer.len()));
    let length = |c: &Ciphertext| ciphertext_bytes(parameters, c.level());
    let own = values.iter().map(|c| (CIPHERTEXT, length(c)));
    let alarms = alarm.iter().map(|c| (ALARM, SUMS.len() as u64 + length(c)));
    let sections = std::iter::once((META, meta.len() as u64)).chain(own.chain(alarms));
    let mut file = Writer::new(out, name, Kind::Answer, ids, sections.collect())?;
    file.section(&meta)?;
    for c in values {
        file.begin()?;
        write_ciphertext(&mut file, parameters, c)?;
    }
    for c in alarm {
        file.begin()?;
        file.write(&SUMS)?;
        write_ciphertext(&mut file, parameters, c)?;
    }
    file.finish()
}

/// Reads an answer file.
///
/// # Errors
/// [`Error::File`] with the field that is wrong, [`Error::OtherKey`].
pub(crate) fn read_answer(
    input: impl Read,
    name: &str,
    parameters: &Parameters,
    ids: &Ids,
    (port, alarm): (&Port, Option<&Alarm>),
) -> Result<Encrypted<Ciphertext>> {
    let mut file = Reader::new(input, name, Kind::Answer)?;
    file.expect(ids)?;
    let meta: PortMeta = file.json(META, 1 << 20)?;
    meta.expect(port, name)?;
    let mut ciphertexts = (0..meta.ciphertexts)
        .map(|_| read_ciphertext(&mut file, parameters, Level::new(meta.level), meta.slots))
        .collect::<Result<Vec<_>>>()?;
    for (level, sums) in alarm.iter().flat_map(|a| a.sums().map(|s| (a.level, s))) {
        let of = (Level::new(level), sums.slots);
        ciphertexts.push(read_alarm(&mut file, parameters, Some(of))?);
    }
    if alarm.is_none() && file.header().sections as usize > 1 + meta.ciphertexts {
        ciphertexts.push(read_alarm(&mut file, parameters, None)?);
    }
    file.finish()?;
    Ok(Encrypted {
        key: ids.key,
        ciphertexts,
    })
}

/// What may stand beside an answer: a kind (four bytes, little endian) and what that kind says, here a ciphertext at this level of so many slots. An alarm that cannot be read, or that the plan does
/// not have, must not be passed over.
fn read_alarm<R: Read>(
    file: &mut Reader<R>,
    parameters: &Parameters,
    sums: Option<(Level, usize)>,
) -> Result<Ciphertext> {
    let length = file.begin(ALARM, u64::MAX)?;
    let mut kind = [0; 4];
    file.take(&mut kind)?;
    let refuse = |file: &Reader<R>, problem: String, remedy| {
        Err(Error::file(file.name(), "section `alrm`", problem, remedy))
    };
    if kind != SUMS {
        let number = u32::from_le_bytes(kind);
        let problem = format!("an alarm of kind {number}, which this program cannot read");
        let remedy = "a newer program computed this answer: update this one";
        return refuse(file, problem, remedy);
    }
    let Some((level, slots)) = sums else {
        let problem = "an alarm, which this plan does not have";
        return refuse(file, problem.into(), "run the plan of this key");
    };
    let needed = SUMS.len() as u64 + ciphertext_bytes(parameters, level);
    if length != needed {
        let problem = format!("{length} bytes, but {needed} are needed");
        return refuse(file, problem, DAMAGED);
    }
    read_residues(file, parameters, level, slots)
}

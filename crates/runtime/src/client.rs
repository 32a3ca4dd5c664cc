//! The client: holds the secret key, encrypts inputs, decrypts answers.

use crate::class::{self, SharedClass};
use crate::conformance::{self, KeyList, key_bytes, key_request, parameters_digest, poly_bytes};
use crate::container::{Digest, Kind, Reader, Writer, file_length};
use crate::packing::{pack, packed_len, unpack};
use crate::plan::{Description, Port};
use crate::sharing::{self, AnswerBounds, Shared, Terms};
use crate::{Error, Result, releases};
use ckks::keys::{EvaluationKeys, KeyName, KeyRequest, SecretKey, SeededCiphertext, SwitchingKey};
use ckks::{Ciphertext, Complex64, Level, Parameters, ParametersSpec};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::path::Path;
use zeroize::Zeroizing;

pub(crate) const SPEC: [u8; 4] = *b"spec";
const SECRET: [u8; 4] = *b"skey";
const LIST: [u8; 4] = *b"list";
pub(crate) const KEY: [u8; 4] = *b"key ";
const META: [u8; 4] = *b"meta";
const CIPHERTEXT: [u8; 4] = *b"ctxt";
/// Most bytes of JSON in these files (the places of a large picture's pixels are the bulk).
const JSON_LIMIT: u64 = 64 << 20;

/// What the client must know of a plan: nothing about weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientSpec {
    /// Parameter set.
    pub parameters: ParametersSpec,
    /// Name, normalisation, labels, bound on inputs.
    pub description: Description,
    /// How the input lies in slots.
    pub input: Port,
    /// How the output lies in slots.
    pub output: Port,
    /// How wrong and how large the output may be.
    pub answer: AnswerBounds,
    /// The evaluation keys that the plan needs.
    pub keys: KeyList,
    /// Digest of the plan.
    pub plan: Digest,
}

impl ClientSpec {
    /// The evaluation keys that the plan needs.
    pub fn key_request(&self) -> KeyRequest {
        KeyRequest(self.keys.iter().copied().collect())
    }
}

/// Holds the secret key. Never send it or its file to anyone.
#[derive(Debug)]
pub struct Client {
    spec: ClientSpec,
    parameters: Parameters,
    digest: Digest,
    secret: SecretKey,
}

impl Client {
    /// Draws a secret key for a plan.
    ///
    /// # Errors
    /// If the specification does not hold together.
    pub fn new(spec: ClientSpec, rng: &mut impl CryptoRng) -> Result<Self> {
        let parameters = checked(&spec, "plan")?;
        let secret = SecretKey::generate(&parameters, rng)?;
        Ok(Self {
            digest: parameters_digest(&parameters),
            spec,
            parameters,
            secret,
        })
    }
    /// What it knows of the plan.
    pub fn spec(&self) -> &ClientSpec {
        &self.spec
    }
    /// The parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }
    /// The secret key, for checks on the owner's machine.
    pub fn secret_key(&self) -> &SecretKey {
        &self.secret
    }

    /// Writes `client.key`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write<W: Write>(&self, out: W, name: &str) -> Result<W> {
        let spec = conformance::json(&self.spec);
        let secret: Zeroizing<Vec<u8>> = Zeroizing::new(
            self.secret
                .coefficients()
                .iter()
                .map(|&c| c.to_le_bytes()[0])
                .collect(),
        );
        let mut file = Writer::new(
            out,
            name,
            Kind::ClientKey,
            self.digest,
            self.spec.plan,
            vec![(SPEC, spec.len() as u64), (SECRET, secret.len() as u64)],
        )?;
        file.section(&spec)?;
        file.section(&secret)?;
        file.finish()
    }
    /// Reads `client.key`.
    ///
    /// # Errors
    /// [`Error::File`] with the field that is wrong.
    pub fn read(input: impl Read, name: &str) -> Result<Self> {
        let mut file = Reader::new(input, name, Kind::ClientKey)?;
        let spec: ClientSpec = file.json(SPEC, JSON_LIMIT)?;
        let parameters = checked(&spec, name)?;
        let digest = parameters_digest(&parameters);
        file.expect_parameters(&digest, &spec.parameters.name)?;
        file.expect_plan(&spec.plan)?;
        let mut bytes = Zeroizing::new(vec![0u8; parameters.n()]);
        file.begin_exact(SECRET, parameters.n() as u64)?;
        file.take(&mut bytes)?;
        file.end()?;
        file.finish()?;
        let coefficients: Zeroizing<Vec<i8>> =
            Zeroizing::new(bytes.iter().map(|&b| i8::from_le_bytes([b])).collect());
        let secret = SecretKey::from_coefficients(&parameters, &coefficients).map_err(|e| {
            Error::file(
                name,
                "section `skey`",
                e.to_string(),
                "run `polyveil keygen` again",
            )
        })?;
        Ok(Self {
            spec,
            parameters,
            digest,
            secret,
        })
    }

    /// Bytes of the evaluation keys' file.
    pub fn evaluation_keys_bytes(&self) -> u64 {
        evaluation_keys_bytes(&self.parameters, &self.spec)
    }
    /// Makes the evaluation keys and writes them one by one: only one is in memory at a time.
    ///
    /// `progress` is called after each key with the number made and the number of all.
    ///
    /// # Errors
    /// [`Error::Io`], or what the scheme refuses.
    pub fn write_evaluation_keys<W: Write>(
        &self,
        out: W,
        name: &str,
        rng: &mut impl CryptoRng,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<W> {
        let request = self.spec.key_request();
        let head = conformance::json(&(&self.spec.parameters, &self.spec.keys));
        let keys: KeyList = request.0.into_iter().collect();
        let mut sections = vec![(LIST, head.len() as u64)];
        sections.extend(
            keys.iter()
                .map(|&(key, limit)| (KEY, key_bytes(&self.parameters, key, limit))),
        );
        let mut file = Writer::new(
            out,
            name,
            Kind::EvaluationKeys,
            self.digest,
            self.spec.plan,
            sections,
        )?;
        file.section(&head)?;
        let mut together = Vec::new();
        let mut bytes = Vec::new();
        for (done, &(key, limit)) in keys.iter().enumerate() {
            let made = match key {
                KeyName::DenseToSparse | KeyName::SparseToDense => {
                    if together.is_empty() {
                        let sparse_to_dense = keys
                            .iter()
                            .find(|k| k.0 == KeyName::SparseToDense)
                            .map_or(1, |k| k.1);
                        together = self.secret.encapsulation_keys(sparse_to_dense, rng)?.into();
                    }
                    let at = together
                        .iter()
                        .position(|(k, _): &(KeyName, SwitchingKey)| *k == key)
                        .ok_or(ckks::Error::MissingKey {
                            key: key.to_string(),
                            level: 0,
                        })?;
                    together.swap_remove(at).1
                }
                _ => self.secret.key(key, limit, rng)?,
            };
            file.begin()?;
            file.write(made.seed())?;
            for (limb, q) in made
                .limbs()
                .zip(SwitchingKey::layout(&self.parameters, key, limit))
            {
                bytes.clear();
                pack(&limb, q.bits(), &mut bytes);
                file.write(&bytes)?;
            }
            progress(done + 1, keys.len());
        }
        file.finish()
    }

    /// Bytes of one encrypted input.
    pub fn input_bytes(&self) -> u64 {
        let one = 32 + poly_bytes(&self.parameters, Level::new(self.spec.input.level));
        file_length(
            std::iter::once(conformance::json(&self.meta()).len() as u64)
                .chain(self.spec.input.registers.iter().map(|_| one)),
        )
    }
    fn meta(&self) -> PortMeta {
        PortMeta::new(&self.parameters, &self.spec.input)
    }
    /// Encrypts a tensor (row-major, in network units) for the plan's input port; for a plan that takes a batch, up to as many, one after
    /// another.
    ///
    /// # Errors
    /// [`Error::Input`] for another shape or number, values that are not finite or beyond the calibrated bound.
    pub fn encrypt(
        &self,
        tensor: &[f64],
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<SeededCiphertext>> {
        let port = &self.spec.input;
        let mut slots = place(port, &self.spec.description, tensor)?;
        let out = slots
            .iter()
            .map(|v| Ok(self.secret.encrypt(v, Level::new(port.level), rng)?))
            .collect();
        for v in &mut slots {
            v.iter_mut().for_each(|z| (z.re, z.im) = (0.0, 0.0));
        }
        out
    }
    /// Encrypts and writes the input file.
    ///
    /// # Errors
    /// As [`Client::encrypt`], and [`Error::Io`].
    pub fn write_input<W: Write>(
        &self,
        tensor: &[f64],
        out: W,
        name: &str,
        rng: &mut impl CryptoRng,
    ) -> Result<W> {
        let ciphertexts = self.encrypt(tensor, rng)?;
        let meta = conformance::json(&self.meta());
        let level = Level::new(self.spec.input.level);
        let mut sections = vec![(META, meta.len() as u64)];
        sections.extend(
            ciphertexts
                .iter()
                .map(|_| (CIPHERTEXT, 32 + poly_bytes(&self.parameters, level))),
        );
        let mut file = Writer::new(
            out,
            name,
            Kind::Input,
            self.digest,
            self.spec.plan,
            sections,
        )?;
        file.section(&meta)?;
        let mut bytes = Vec::new();
        for c in &ciphertexts {
            file.begin()?;
            file.write(c.seed())?;
            for (limb, &i) in c.limbs().zip(self.parameters.limbs(level).iter()) {
                bytes.clear();
                pack(limb, self.parameters.prime(i).bits(), &mut bytes);
                file.write(&bytes)?;
            }
        }
        file.finish()
    }

    /// Decrypts an answer: the output tensor, row-major, in network units; of a batch, as many as the plan takes, one after another. Must not leave the client: see [`Client::share_answer`].
    ///
    /// # Errors
    /// If the number of ciphertexts differs from the plan's.
    pub fn decrypt(&self, answer: &[Ciphertext]) -> Result<Vec<f64>> {
        let port = &self.spec.output;
        if answer.len() != port.registers.len() {
            return Err(Error::Input {
                reason: format!(
                    "{} ciphertexts, the answer has {}",
                    answer.len(),
                    port.registers.len()
                ),
                remedy: "give the answer that `polyveil run` wrote for this plan".into(),
            });
        }
        let slots: Vec<Vec<Complex64>> = answer
            .iter()
            .map(|c| Ok(self.secret.decrypt(c)?))
            .collect::<Result<_>>()?;
        Ok(gather(port, &slots))
    }
    /// Reads and decrypts an answer file. The values must not leave the client: see [`Client::share_answer`].
    ///
    /// # Errors
    /// [`Error::File`] with the field that is wrong.
    pub fn read_answer(&self, input: impl Read, name: &str) -> Result<Vec<f64>> {
        let answer = read_answer(input, name, &self.parameters, &self.digest, &self.spec)?;
        self.decrypt(&answer)
    }
    /// Noise is counted for one answer: a batch of them is not shared.
    fn alone(&self) -> Result<()> {
        match self.spec.output.batch {
            1 => Ok(()),
            n => Err(Error::Sharing {
                reason: format!("the answer is that of {n} inputs, noise is sized for one"),
                remedy: "compile without --batch for answers that are passed on".into(),
            }),
        }
    }
    /// Reads an answer file and makes of it what may be passed on, under the terms in `record`, the key's list of shared answers:
    /// noisy values, as [`sharing`] explains.
    ///
    /// # Errors
    /// [`Error::Sharing`] where it must not be shared, [`Error::File`] and [`Error::Io`] for the answer and the record.
    pub fn share_answer(
        &self,
        input: impl Read,
        name: &str,
        record: &Path,
        terms: &Terms,
        rng: &mut impl CryptoRng,
    ) -> Result<Shared> {
        self.alone()?;
        let values = self.read_answer(input, name)?;
        let key = releases::key_name(self.secret.coefficients());
        sharing::share(values, self.spec.answer, &key, record, terms, rng)
    }
    /// Reads an answer file and gives its class alone, where that says nothing about the error; counted in the same `record`.
    ///
    /// # Errors
    /// As [`Client::share_answer`].
    pub fn share_class(
        &self,
        input: impl Read,
        name: &str,
        record: &Path,
        terms: &Terms,
    ) -> Result<SharedClass> {
        self.alone()?;
        let values = Zeroizing::new(self.read_answer(input, name)?);
        let key = releases::key_name(self.secret.coefficients());
        class::share(&values, self.spec.answer, &key, record, terms)
    }
}

/// Bytes of the evaluation keys' file for a plan.
pub fn evaluation_keys_bytes(parameters: &Parameters, spec: &ClientSpec) -> u64 {
    let head = conformance::json(&(&spec.parameters, &spec.keys)).len() as u64;
    file_length(
        std::iter::once(head).chain(
            spec.keys
                .iter()
                .map(|&(key, limit)| key_bytes(parameters, key, limit)),
        ),
    )
}

fn checked(spec: &ClientSpec, name: &str) -> Result<Parameters> {
    let parameters = conformance::parameters(spec.parameters.clone(), name)?;
    key_request(&spec.keys, &parameters, name)?;
    for (what, port) in [("input", &spec.input), ("output", &spec.output)] {
        check_port(port, &parameters)
            .map_err(|reason| Error::file(name, what, reason, "compile the plan again"))?;
    }
    spec.answer.check().map_err(|reason| {
        Error::file(
            name,
            "bounds of the answer",
            reason,
            "compile the plan again",
        )
    })?;
    Ok(parameters)
}

/// What must hold for every port.
pub(crate) fn check_port(port: &Port, parameters: &Parameters) -> std::result::Result<(), String> {
    let elements = port
        .shape
        .iter()
        .try_fold(1usize, |p, &d| p.checked_mul(d))
        .unwrap_or(usize::MAX);
    if port.places.len() != elements || elements == 0 {
        return Err(format!(
            "{} places for {elements} elements",
            port.places.len()
        ));
    }
    if !port.slots.is_power_of_two() || port.slots > parameters.max_slots() {
        return Err(format!(
            "{} slots (a power of two of at most {} is needed)",
            port.slots,
            parameters.max_slots()
        ));
    }
    if port.registers.is_empty() || port.registers.len() > elements {
        return Err(format!(
            "{} ciphertexts for {elements} elements",
            port.registers.len()
        ));
    }
    if !port.batch.is_power_of_two() || port.batch > port.slots {
        return Err(format!(
            "a batch of {} in {} slots (a power of two of at most as many is needed)",
            port.batch, port.slots
        ));
    }
    let each = port.slots / port.batch;
    if let Some((c, s)) = port
        .places
        .iter()
        .find(|(c, s)| *c as usize >= port.registers.len() || *s as usize >= each)
    {
        return Err(format!("a place (ciphertext {c}, slot {s}) does not exist"));
    }
    if port.level > parameters.residual().index() {
        return Err(format!(
            "level {}, but {} exist",
            port.level,
            parameters.residual().index()
        ));
    }
    if !(port.unit.is_finite() && port.unit != 0.0) {
        return Err(format!("unit {}", port.unit));
    }
    Ok(())
}

/// Tensors laid into slots, in plan units: as many as the port's batch, or fewer, which then are repeated, since what fills the rest must be
/// as tame as they are.
pub(crate) fn place(
    port: &Port,
    description: &Description,
    tensor: &[f64],
) -> Result<Vec<Vec<Complex64>>> {
    let each = port.places.len();
    if tensor.is_empty() || !tensor.len().is_multiple_of(each) {
        return Err(Error::Input {
            reason: format!(
                "{} values, the network takes {:?} = {each}",
                tensor.len(),
                port.shape,
            ),
            remedy: "give a picture of that size, or ask for resizing (`--resize`)".into(),
        });
    }
    let count = tensor.len() / each;
    if count > port.batch {
        return Err(Error::Input {
            reason: format!("{count} inputs, the plan takes {} at a time", port.batch),
            remedy: "run them in turns, or compile for more (`polyveil compile --batch N`)".into(),
        });
    }
    if let Some((i, v)) = tensor.iter().enumerate().find(|(_, v)| !v.is_finite()) {
        return Err(Error::Input {
            reason: format!("value {i} is {v}"),
            remedy: "all values must be finite: look at the picture and its normalisation".into(),
        });
    }
    if !(description.input_bound.is_finite() && description.input_bound > 0.0) {
        return Err(Error::Input {
            reason: "the plan has no calibrated bound on its input".into(),
            remedy: "calibrate the model (`polyveil calibrate`) and compile it again".into(),
        });
    }
    let largest = tensor.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    if largest > description.input_bound {
        return Err(Error::Input {
            reason: format!("a value of magnitude {largest:.4} exceeds the calibrated bound {:.4}", description.input_bound),
            remedy: "check the normalisation, or calibrate on data that covers such inputs (`polyveil calibrate`) and compile again".into(),
        });
    }
    let mut slots = vec![vec![Complex64::new(0.0, 0.0); port.slots]; port.registers.len()];
    for b in 0..port.batch {
        let one = &tensor[b % count * each..][..each];
        for (&(c, s), &v) in port.places.iter().zip(one) {
            slots[c as usize][s as usize * port.batch + b].re = v / port.unit;
        }
    }
    Ok(slots)
}

/// The tensors of a batch read from slots, one after another, in network units.
pub(crate) fn gather(port: &Port, slots: &[Vec<Complex64>]) -> Vec<f64> {
    (0..port.batch)
        .flat_map(|b| {
            port.places.iter().map(move |&(c, s)| {
                let v = &slots[c as usize];
                v[(s as usize * port.batch + b) % v.len()].re * port.unit
            })
        })
        .collect()
}

/// What an input or answer file says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PortMeta {
    parameters: ParametersSpec,
    pub(crate) ciphertexts: usize,
    pub(crate) level: usize,
    pub(crate) slots: usize,
}

impl PortMeta {
    pub(crate) fn new(parameters: &Parameters, port: &Port) -> Self {
        Self {
            parameters: parameters.spec().clone(),
            ciphertexts: port.registers.len(),
            level: port.level,
            slots: port.slots,
        }
    }
    fn expect(&self, port: &Port, name: &str) -> Result<()> {
        if self.ciphertexts == port.registers.len()
            && self.level == port.level
            && self.slots == port.slots
        {
            return Ok(());
        }
        Err(Error::file(
            name,
            "section `meta`",
            format!(
                "{} ciphertexts of {} slots at level {}, the plan's port `{}` has {} of {} at {}",
                self.ciphertexts,
                self.slots,
                self.level,
                port.name,
                port.registers.len(),
                port.slots,
                port.level
            ),
            "make the file again for this plan",
        ))
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

/// Reads evaluation keys one by one; `needed` says what the plan must have.
///
/// # Errors
/// [`Error::File`] with the field that is wrong.
pub fn read_evaluation_keys(
    input: impl Read,
    name: &str,
    parameters: &Parameters,
    needed: &KeyRequest,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<EvaluationKeys> {
    let mut keys = EvaluationKeys::new();
    each_key(input, name, parameters, needed, progress, |section, key| {
        keys.insert(section.key, key);
    })?;
    Ok(keys)
}

/// Where a key lies in its file.
pub(crate) struct SectionOfKey {
    pub(crate) key: KeyName,
    pub(crate) limit: usize,
    /// Offset of the section's head.
    pub(crate) offset: u64,
    /// BLAKE3 of the section's head and payload.
    pub(crate) checksum: Digest,
}

/// Checks a file of evaluation keys from end to end and hands its keys on one by one; what was handed on counts only once all of
/// the file has passed.
pub(crate) fn each_key(
    input: impl Read,
    name: &str,
    parameters: &Parameters,
    needed: &KeyRequest,
    progress: &mut dyn FnMut(usize, usize),
    mut found: impl FnMut(SectionOfKey, SwitchingKey),
) -> Result<()> {
    let mut file = Reader::new(input, name, Kind::EvaluationKeys)?;
    file.expect_parameters(&parameters_digest(parameters), &parameters.spec().name)?;
    let (_, list): (ParametersSpec, KeyList) = file.json(LIST, 1 << 20)?;
    let request = key_request(&list, parameters, name)?;
    if let Some((key, limit)) = needed
        .0
        .iter()
        .find(|(key, limit)| request.0.get(key).is_none_or(|had| had < *limit))
    {
        return Err(Error::file(
            name,
            "list of keys",
            format!("no {key} up to prime {limit}, which this plan needs"),
            "run `polyveil keygen` again for this plan",
        ));
    }
    let mut bytes = Vec::new();
    for (done, &(key, limit)) in list.iter().enumerate() {
        let layout = SwitchingKey::layout(parameters, key, limit);
        let offset = file.position();
        file.begin_exact(KEY, key_bytes(parameters, key, limit))?;
        let mut seed = [0u8; 32];
        file.take(&mut seed)?;
        let read = SwitchingKey::read(parameters, key, limit, seed, |k, limb| {
            read_limb(&mut file, layout[k].bits(), &mut bytes, limb)
        });
        let made = read.map_err(|e| conform(e, name))?;
        let checksum = file.end()?;
        let section = SectionOfKey {
            key,
            limit,
            offset,
            checksum,
        };
        found(section, made);
        progress(done + 1, list.len());
    }
    file.finish()?;
    Ok(())
}

/// Residues that do not conform, seen before the checksum was reached.
fn conform(e: Error, name: &str) -> Error {
    match e {
        Error::Ckks(e) => Error::file(
            name,
            "residues",
            e.to_string(),
            "the file is damaged: copy or make it again",
        ),
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
    plan: &Digest,
    port: &Port,
) -> Result<Vec<SeededCiphertext>> {
    let mut file = Reader::new(input, name, Kind::Input)?;
    file.expect_parameters(&parameters_digest(parameters), &parameters.spec().name)?;
    file.expect_plan(plan)?;
    let meta: PortMeta = file.json(META, 1 << 20)?;
    meta.expect(port, name)?;
    let level = Level::new(port.level);
    let indices = parameters.limbs(level).clone();
    let mut bytes = Vec::new();
    let mut out = Vec::with_capacity(meta.ciphertexts);
    for _ in 0..meta.ciphertexts {
        file.begin_exact(CIPHERTEXT, 32 + poly_bytes(parameters, level))?;
        let mut seed = [0u8; 32];
        file.take(&mut seed)?;
        let c = SeededCiphertext::read(parameters, level, port.slots, seed, |k, limb| {
            read_limb(
                &mut file,
                parameters.prime(indices[k]).bits(),
                &mut bytes,
                limb,
            )
        });
        out.push(c.map_err(|e| conform(e, name))?);
        file.end()?;
    }
    file.finish()?;
    Ok(out)
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
    let indices = parameters.limbs(c.level());
    let mut bytes = Vec::new();
    for (k, limb) in c.limbs().enumerate() {
        bytes.clear();
        pack(
            limb,
            parameters.prime(indices[k % indices.len()]).bits(),
            &mut bytes,
        );
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
    let name = file.name().to_owned();
    let indices = parameters.limbs(level).clone();
    let mut bytes = Vec::new();
    file.begin_exact(CIPHERTEXT, ciphertext_bytes(parameters, level))?;
    let c = Ciphertext::read(parameters, level, slots, |k, limb| {
        read_limb(
            file,
            parameters.prime(indices[k % indices.len()]).bits(),
            &mut bytes,
            limb,
        )
    });
    let c = c.map_err(|e| conform(e, &name))?;
    file.end()?;
    Ok(c)
}

/// Writes an answer file.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn write_answer<W: Write>(
    answer: &[Ciphertext],
    out: W,
    name: &str,
    parameters: &Parameters,
    plan: &Digest,
    port: &Port,
) -> Result<W> {
    let meta = conformance::json(&PortMeta::new(parameters, port));
    let mut sections = vec![(META, meta.len() as u64)];
    sections.extend(
        answer
            .iter()
            .map(|c| (CIPHERTEXT, ciphertext_bytes(parameters, c.level()))),
    );
    let mut file = Writer::new(
        out,
        name,
        Kind::Answer,
        parameters_digest(parameters),
        *plan,
        sections,
    )?;
    file.section(&meta)?;
    for c in answer {
        file.begin()?;
        write_ciphertext(&mut file, parameters, c)?;
    }
    file.finish()
}

fn read_answer(
    input: impl Read,
    name: &str,
    parameters: &Parameters,
    digest: &Digest,
    spec: &ClientSpec,
) -> Result<Vec<Ciphertext>> {
    let mut file = Reader::new(input, name, Kind::Answer)?;
    file.expect_parameters(digest, &spec.parameters.name)?;
    file.expect_plan(&spec.plan)?;
    let meta: PortMeta = file.json(META, 1 << 20)?;
    meta.expect(&spec.output, name)?;
    let answer = (0..meta.ciphertexts)
        .map(|_| read_ciphertext(&mut file, parameters, Level::new(meta.level), meta.slots))
        .collect::<Result<_>>()?;
    file.finish()?;
    Ok(answer)
}

//! The client: holds the secret key, encrypts inputs, decrypts answers.

use crate::sharing::class::{self, SharedClass};
use crate::sharing::{self, Shared, Terms, releases};
use crate::wire::ciphertexts::{CIPHERTEXT, META, PortMeta, read_answer};
use crate::wire::client_file::{ClientSpec, checked};
use crate::wire::conformance::{self, KeyList, key_bytes, parameters_digest, poly_bytes};
use crate::wire::container::{Digest, Kind, Reader, Writer, file_length};
use crate::wire::keys::{KEY, LIST, evaluation_keys_bytes};
use crate::wire::packing::pack;
use crate::wire::ports::{gather, place};
use crate::{Error, Result};
use ckks::keys::{KeyName, SwitchingKey};
use ckks::{Ciphertext, Complex64, Level, Parameters, SecretKey, SeededCiphertext};
use rand_core::CryptoRng;
use std::io::{Read, Write};
use std::path::Path;
use zeroize::Zeroizing;

pub(crate) const SPEC: [u8; 4] = *b"spec";
const SECRET: [u8; 4] = *b"skey";
/// Most bytes of JSON in these files (the places of a large picture's pixels are the bulk).
const JSON_LIMIT: u64 = 64 << 20;

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

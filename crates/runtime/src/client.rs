//! The client: holds the secret key, encrypts inputs, decrypts answers.

use crate::alarm::Alarm;
use crate::answer::Judge;
use crate::measure::Measure;
use crate::wire::ciphertexts::{CIPHERTEXT, META, PortMeta, read_answer, write_limbs};
use crate::wire::client_file::{ClientFile, ClientSpec};
use crate::wire::conformance::{self, poly_bytes};
use crate::wire::keys::{KeysWriter, evaluation_keys_bytes};
use crate::wire::ports::{coefficients, gather, place_all};
use crate::wire::{Encrypted, ServerKeys};
use crate::wire::{
    KeyId,
    container::{Ids, Kind, Reader, Writer, file_length, write_file},
};
use crate::{Error, Help, Result};
use ckks::keys::{EvaluationKeys, KeyName, SwitchingKey};
use ckks::{Ciphertext, Complex64, Info, KeyMaker, Level, Parameters, SecretKey, SeededCiphertext};
use rand_core::CryptoRng;
use std::io::{Read, Write};
use zeroize::Zeroizing;

/// A decrypted answer that no test refuses. For the owner's eyes.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The output tensor, row-major, in network units; of a batch, one after another.
    pub values: Vec<f64>,
    /// What speaks against them, where the error's bound is too wide to tell whether they can be right.
    pub doubt: Option<Measure>,
    /// What the alarm reads, of at most what is allowed; none where the plan has no alarm and nobody knows whether a value left its interval.
    pub alarm: Option<Measure>,
}

const SECRET: [u8; 4] = *b"skey";

/// Holds the secret key. Never send it or its file to anyone.
#[derive(Debug)]
pub struct Client {
    file: ClientFile,
    key: KeyId,
    secret: SecretKey,
}

impl Client {
    /// Draws a secret key.
    pub fn new(file: ClientFile, rng: &mut impl CryptoRng) -> Self {
        let secret = SecretKey::generate(file.parameters(), rng);
        Self {
            file,
            key: KeyId::draw(rng),
            secret,
        }
    }
    /// What it knows of the plan.
    pub fn spec(&self) -> &ClientSpec {
        self.file.spec()
    }
    /// Its client file.
    pub fn file(&self) -> &ClientFile {
        &self.file
    }
    /// The parameters.
    pub fn parameters(&self) -> &Parameters {
        self.file.parameters()
    }
    /// The id of its key pair.
    pub fn key(&self) -> KeyId {
        self.key
    }
    /// The secret key, for checks on the owner's machine.
    pub fn secret_key(&self) -> &SecretKey {
        &self.secret
    }
    /// What its inputs and answers belong to.
    fn ids(&self) -> Ids {
        Ids {
            client: [0; 32],
            ..self.own_ids()
        }
    }
    /// What its key belongs to.
    fn own_ids(&self) -> Ids {
        Ids {
            key: self.key,
            ..*self.file.ids()
        }
    }

    /// Writes the client's key.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write<W: Write>(&self, out: W, name: &str) -> Result<W> {
        let coefficients = self.secret.coefficients().iter();
        let secret: Zeroizing<Vec<u8>> =
            Zeroizing::new(coefficients.map(|&c| c.to_le_bytes()[0]).collect());
        let sections: [([u8; 4], &[u8]); 1] = [(SECRET, &secret)];
        write_file(out, name, Kind::ClientKey, self.own_ids(), &sections)
    }
    /// Reads a client's key, which was made from this client file.
    ///
    /// # Errors
    /// [`Error::File`] with the field that is wrong, or for another client file.
    pub fn read(input: impl Read, name: &str, client: ClientFile) -> Result<Self> {
        let mut file = Reader::new(input, name, Kind::ClientKey)?;
        let key = file.header().ids.key;
        file.expect(&Ids {
            key,
            ..*client.ids()
        })?;
        let parameters = client.parameters();
        let mut bytes = Zeroizing::new(vec![0u8; parameters.n()]);
        file.begin_exact(SECRET, parameters.n() as u64)?;
        file.take(&mut bytes)?;
        file.end()?;
        file.finish()?;
        let coefficients: Zeroizing<Vec<i8>> =
            Zeroizing::new(bytes.iter().map(|&b| i8::from_le_bytes([b])).collect());
        let secret = SecretKey::from_coefficients(parameters, &coefficients)
            .map_err(|e| Error::file(name, "section `skey`", e.to_string(), "make new keys"))?;
        Ok(Self {
            file: client,
            key,
            secret,
        })
    }

    /// Bytes of the evaluation keys' file.
    pub fn evaluation_keys_bytes(&self) -> u64 {
        evaluation_keys_bytes(self.file.parameters(), &self.spec().keys)
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
        let keys = &self.spec().keys;
        let mut file = KeysWriter::new(out, name, self.ids(), self.file.parameters(), keys)?;
        let mut done = 0;
        self.each_key(rng, |name, key| {
            file.put(name, &key)?;
            done += 1;
            progress(done, keys.len());
            Ok(())
        })?;
        file.finish()
    }
    /// Makes the evaluation keys, in memory.
    ///
    /// # Errors
    /// What the scheme refuses.
    pub fn evaluation_keys(&self, rng: &mut impl CryptoRng) -> Result<ServerKeys> {
        let mut keys = EvaluationKeys::new();
        self.each_key(rng, |name, key| {
            keys.insert(name, key);
            Ok(())
        })?;
        Ok(ServerKeys { id: self.key, keys })
    }
    fn each_key(
        &self,
        rng: &mut impl CryptoRng,
        mut found: impl FnMut(KeyName, SwitchingKey) -> Result<()>,
    ) -> Result<()> {
        let mut maker = KeyMaker::new(&self.secret);
        for &(key, limit) in &self.spec().keys {
            found(key, maker.make(key, limit, rng)?)?;
        }
        Ok(())
    }

    /// Bytes of one encrypted input.
    pub fn input_bytes(&self) -> u64 {
        let one = |level| 32 + poly_bytes(self.file.parameters(), level);
        let meta = conformance::json(&self.meta()).len() as u64;
        file_length(std::iter::once(meta).chain(self.levels().map(one)))
    }
    fn meta(&self) -> PortMeta {
        PortMeta::of(self.file.parameters(), self.spec().inputs())
    }
    /// Of each ciphertext of an input.
    fn levels(&self) -> impl Iterator<Item = Level> {
        let ports = self.spec().inputs();
        ports.flat_map(|p| p.registers.iter().map(|_| Level::new(p.level)))
    }
    /// Encrypts a tensor (row-major, in network units) for the plan's input port; for a plan that takes a batch, up to as many, one after
    /// another; for a step of a sequence, those of all its ports, one after another.
    ///
    /// # Errors
    /// [`Error::Input`] for another shape or number, values that are not finite or beyond the calibrated bound.
    pub fn encrypt(
        &self,
        tensor: &[f64],
        rng: &mut impl CryptoRng,
    ) -> Result<Encrypted<SeededCiphertext>> {
        let (spec, parameters) = (self.spec(), self.parameters());
        let mut slots = place_all(spec.inputs(), parameters, &spec.description, tensor)?;
        let each = slots.iter().zip(self.levels());
        let ciphertexts = each.map(|(v, level)| Ok(self.secret.encrypt(v, level, rng)?));
        let ciphertexts = ciphertexts.collect::<Result<_>>();
        slots.iter_mut().for_each(|v| ckks::encoder::wipe(v));
        Ok(Encrypted {
            key: self.key,
            ciphertexts: ciphertexts?,
        })
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
        let ciphertexts = self.encrypt(tensor, rng)?.ciphertexts;
        let meta = conformance::json(&self.meta());
        let parameters = self.parameters();
        let lengths = self
            .levels()
            .map(|level| 32 + poly_bytes(parameters, level));
        let (ids, head) = (self.ids(), (META, &meta[..]));
        let mut file = Writer::list(out, name, Kind::Input, ids, head, CIPHERTEXT, lengths)?;
        for (c, level) in ciphertexts.iter().zip(self.levels()) {
            file.begin()?;
            file.write(c.seed())?;
            write_limbs(&mut file, parameters, level, c.limbs())?;
        }
        file.finish()
    }

    /// Encrypts into bytes.
    ///
    /// # Errors
    /// As [`Client::encrypt`].
    pub fn input(&self, tensor: &[f64], rng: &mut impl CryptoRng) -> Result<Vec<u8>> {
        self.write_input(tensor, Vec::new(), "encrypted input", rng)
    }

    /// Decrypts an answer: the output tensor, row-major, in network units; of a batch, as many as the plan takes, one after another. Must not leave the client: see [`Client::share_answer`].
    ///
    /// # Errors
    /// If the number of ciphertexts differs from the plan's, [`Error::OtherKey`] for another client's answer, [`Error::Answer`] for one that can't
    /// be right.
    pub fn decrypt(&self, answer: &Encrypted<Ciphertext>) -> Result<Vec<f64>> {
        self.decrypt_named(answer, "the answer")
    }
    fn decrypt_named(&self, answer: &Encrypted<Ciphertext>, what: &str) -> Result<Vec<f64>> {
        match self.judged(answer, what)? {
            Judged {
                values,
                doubt: None,
                ..
            } => Ok(values),
            Judged {
                doubt: Some(why), ..
            } => Err(Error::Answer {
                what: what.into(),
                why,
                counted: None,
            }),
        }
    }
    fn judged(&self, answer: &Encrypted<Ciphertext>, what: &str) -> Result<Judged> {
        let (values, judge) = self.open(answer, what)?;
        match judge.refuses() {
            None => Ok(Judged {
                values,
                doubt: judge.doubts(),
                alarm: judge.alarm(),
            }),
            Some(why) => Err(Error::Answer {
                what: what.into(),
                why,
                counted: None,
            }),
        }
    }
    /// What the tests of an answer measure, which [`Client::decrypt`] refuses where one fails. For the owner's eyes, as the answer is.
    ///
    /// # Errors
    /// As [`Client::decrypt`], but for answers that can't be right.
    pub fn measures(&self, answer: &Encrypted<Ciphertext>) -> Result<Vec<Measure>> {
        Ok(self.open(answer, "the answer")?.1.measures())
    }
    /// The values, and what is to be judged.
    fn open(&self, answer: &Encrypted<Ciphertext>, what: &str) -> Result<(Vec<f64>, Judge<'_>)> {
        self.key.expect(&answer.key, what)?;
        let answer = &answer.ciphertexts;
        let (port, alarm) = (&self.spec().output, self.alarm());
        let count = port.registers.len() + alarm.map_or(0, |a| a.sums().count());
        if answer.len() != count {
            return Err(Error::Input {
                reason: format!("{} ciphertexts, the answer has {count}", answer.len()),
                remedy: Help::Run.with("give the answer of a run of this plan"),
            });
        }
        let spec = self.parameters().spec();
        let mut judge = Judge::new(port, spec, self.spec().answer, alarm);
        let mut slots: Vec<Vec<Complex64>> = Vec::with_capacity(answer.len());
        let in_coefficients = port.in_coefficients(spec);
        for (i, c) in answer.iter().enumerate() {
            if let Some(number) = i.checked_sub(port.registers.len()) {
                judge.see_alarm(number, &self.secret.decrypt(&self.whole(c)?)?);
                continue;
            }
            let values = self.secret.decrypt(c)?;
            if in_coefficients {
                let all = self.secret.decrypt(&self.whole(c)?)?;
                judge.see_coefficients(i, &coefficients(self.parameters(), &all)?);
                slots.push(values);
                continue;
            }
            match c.slots() == self.parameters().max_slots() {
                true => judge.see(i, &values),
                false => judge.see(i, &self.secret.decrypt(&self.whole(c)?)?),
            }
            slots.push(values);
        }
        let values = gather((port, self.parameters()), &slots)?;
        slots.iter_mut().for_each(|v| ckks::encoder::wipe(v));
        Ok((values, judge))
    }
    /// The plan's alarm.
    fn alarm(&self) -> Option<&Alarm> {
        self.spec().description.alarm.as_ref()
    }
    /// Reads an answer and its alarm.
    fn encrypted(&self, input: impl Read, name: &str) -> Result<Encrypted<Ciphertext>> {
        let (ids, port) = (self.ids(), &self.spec().output);
        read_answer(input, name, self.parameters(), &ids, (port, self.alarm()))
    }
    /// The same ciphertext with all slots of the ring, of which its own are one period.
    fn whole(&self, c: &Ciphertext) -> Result<Ciphertext> {
        let info = Info {
            level: c.level(),
            scale: c.scale(),
            slots: self.parameters().max_slots(),
            degree: c.degree(),
        };
        let polynomials = c.polynomials().to_vec();
        Ok(Ciphertext::from_polynomials(
            self.parameters(),
            polynomials,
            info,
        )?)
    }
    /// Reads and decrypts an answer file. The values must not leave the client: see [`Client::share_answer`].
    ///
    /// # Errors
    /// [`Error::File`] with the field that is wrong, [`Error::Answer`] for one that can't be right or of which nobody can tell.
    pub fn read_answer(&self, input: impl Read, name: &str) -> Result<Vec<f64>> {
        self.decrypt_named(&self.encrypted(input, name)?, name)
    }
    /// As [`Client::read_answer`], but where the error's bound is too wide to tell whether the values can be right they come with what speaks
    /// against them, and with what the alarm reads.
    ///
    /// # Errors
    /// As [`Client::read_answer`].
    pub fn read_doubtful(&self, input: impl Read, name: &str) -> Result<Judged> {
        self.judged(&self.encrypted(input, name)?, name)
    }
    /// Decrypts an answer's bytes. The values must not leave the client: see [`Client::share_answer`].
    ///
    /// # Errors
    /// As [`Client::read_answer`].
    pub fn answer(&self, bytes: &[u8]) -> Result<Vec<f64>> {
        self.read_answer(bytes, "encrypted answer")
    }
}

//! Secret key, encryption and seed-compressed evaluation keys.
//!
//! A switching key from secret `t` to secret `s` holds, for each digit d, (b, a) with b + a·s = P·g_d·t + e modulo QP, where
//! g_d ≡ 1 modulo the digit's primes and 0 modulo Q's others; a is expanded from a seed. A Galois key for σ switches from s to
//! σ⁻¹(s): the automorphism is then applied after the inner product, to two polynomials instead of to every digit.

use crate::{Ciphertext, Complex64, Encoder, Error, Level, Parameters};
use rand_core::CryptoRng;
use rayon::prelude::*;
use ring::buffer::AlignedVec;
use ring::{Expander, Modulus, Ntt, PackedLimb, RnsPoly};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use zeroize::{Zeroize, Zeroizing};

/// Which key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum KeyName {
    /// s² → s.
    Relinearization,
    /// σ_g for X → X^g: rotations and the conjugation.
    Galois(u64),
    /// Dense → ephemeral sparse secret, modulo q0 times one more prime only [BTH22].
    DenseToSparse,
    /// Sparse → dense.
    SparseToDense,
}

impl std::fmt::Display for KeyName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Relinearization => write!(f, "relinearisation key"),
            Self::Galois(g) => write!(f, "Galois key for X^{g}"),
            Self::DenseToSparse => write!(f, "dense-to-sparse key"),
            Self::SparseToDense => write!(f, "sparse-to-dense key"),
        }
    }
}

/// Which keys a plan needs, each with the number of Q's primes (from the bottom of the chain) that it must cover.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRequest(pub BTreeMap<KeyName, usize>);

impl KeyRequest {
    /// Asks for a key up to a number of primes; keeps the larger of two requests.
    pub fn need(&mut self, name: KeyName, limit: usize) {
        let entry = self.0.entry(name).or_insert(0);
        *entry = (*entry).max(limit);
    }
    /// Adds another request.
    pub fn merge(&mut self, other: &Self) {
        for (&name, &limit) in &other.0 {
            self.need(name, limit);
        }
    }
    /// Bytes of the key files, bit-packed.
    pub fn bytes(&self, parameters: &Parameters) -> u64 {
        self.0
            .iter()
            .map(|(&name, &limit)| {
                SwitchingKey::layout(parameters, name, limit)
                    .iter()
                    .map(|q| u64::from(q.bits()) * parameters.n() as u64 / 8)
                    .sum::<u64>()
                    + 64
            })
            .sum()
    }
}

/// How often a circuit uses each key, and which keys one operation holds at the same time: what keys that are not all in memory
/// cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyUse {
    /// How many times each key is asked for.
    pub times: BTreeMap<KeyName, u64>,
    /// Keys that an operation holds together, ascending: a block map its baby steps'. All others are held alone.
    pub together: BTreeSet<Vec<KeyName>>,
}

/// Galois element of a rotation to the left by `by` slots: 5^by modulo 2N.
pub fn galois_element(parameters: &Parameters, by: i64) -> u64 {
    let m = 2 * parameters.n() as u64;
    let order = parameters.max_slots() as i64;
    let mut exponent = by.rem_euclid(order) as u64;
    let (mut g, mut base) = (1u64, 5u64);
    while exponent > 0 {
        if exponent & 1 == 1 {
            g = g * base % m;
        }
        base = base * base % m;
        exponent >>= 1;
    }
    g
}

/// Galois element of the conjugation.
pub fn conjugation_element(parameters: &Parameters) -> u64 {
    2 * parameters.n() as u64 - 1
}

/// One switching key, seed-compressed.
#[derive(Clone, Debug)]
pub struct SwitchingKey {
    seed: [u8; 32],
    limit: usize,
    /// Ring indices of each digit's limbs.
    indices: Vec<usize>,
    /// b of each digit, limb by limb, in NTT form: packed, since the whole set is read once per use.
    digits: Vec<Vec<PackedLimb>>,
}

impl SwitchingKey {
    /// The seed of its uniform halves.
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }
    /// Number of Q's primes that it covers.
    pub fn limit(&self) -> usize {
        self.limit
    }
    /// Number of digits.
    pub fn digit_count(&self) -> usize {
        self.digits.len()
    }
    /// One limb of a digit's b, by its position.
    pub(crate) fn b(&self, digit: usize, position: usize) -> &PackedLimb {
        &self.digits[digit][position]
    }
    /// Where a ring index lies among its limbs.
    pub(crate) fn position(&self, limb: usize) -> usize {
        if limb < self.limit && self.indices.get(limb) == Some(&limb) {
            limb
        } else {
            self.indices
                .iter()
                .position(|&i| i == limb)
                .unwrap_or(usize::MAX)
        }
    }
    pub(crate) fn expander(&self) -> Expander {
        Expander::new(self.seed)
    }
    /// Stream number of one limb's uniform half.
    pub(crate) fn stream(digit: usize, limb: usize) -> u64 {
        ((digit as u64) << 32) | limb as u64
    }
    /// Ring indices of each digit's limbs.
    pub(crate) fn indices(parameters: &Parameters, name: KeyName, limit: usize) -> Vec<usize> {
        match name {
            KeyName::DenseToSparse => vec![0, parameters.encapsulation_prime()],
            _ => (0..limit)
                .chain(parameters.special().iter().copied())
                .collect(),
        }
    }
    pub(crate) fn digits_for(parameters: &Parameters, name: KeyName, limit: usize) -> usize {
        match name {
            KeyName::DenseToSparse => 1,
            _ => parameters
                .digits()
                .iter()
                .filter(|d| d.start < limit)
                .count(),
        }
    }
    /// Modulus of each limb, in the order of [`SwitchingKey::limbs`].
    pub fn layout(parameters: &Parameters, name: KeyName, limit: usize) -> Vec<Modulus> {
        let one: Vec<Modulus> = Self::indices(parameters, name, limit)
            .iter()
            .map(|&i| *parameters.prime(i))
            .collect();
        (0..Self::digits_for(parameters, name, limit))
            .flat_map(|_| one.clone())
            .collect()
    }
    /// Bytes in memory of such a key.
    pub fn bytes_for(parameters: &Parameters, name: KeyName, limit: usize) -> u64 {
        Self::layout(parameters, name, limit)
            .iter()
            .map(|q| (ring::packed::packed_bytes(q) * parameters.n()) as u64)
            .sum()
    }
    /// Its limbs, digit by digit.
    pub fn limbs(&self) -> impl Iterator<Item = AlignedVec> {
        self.digits.iter().flatten().map(|packed| {
            let mut limb = AlignedVec::dirty(packed.n());
            packed.unpack(0, &mut limb);
            limb
        })
    }
    /// Bytes in memory.
    pub fn bytes(&self) -> u64 {
        self.digits.iter().flatten().map(|l| l.bytes() as u64).sum()
    }
    /// Reads a key limb by limb; `read(k, limb)` fills the k-th of [`SwitchingKey::layout`].
    ///
    /// # Errors
    /// What the reader refuses, a limit beyond the chain, or a residue that is not below its prime.
    pub fn read<E: From<Error>>(
        parameters: &Parameters,
        name: KeyName,
        limit: usize,
        seed: [u8; 32],
        mut read: impl FnMut(usize, &mut [u64]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let q_limbs = parameters.special()[0];
        if limit == 0
            || limit > q_limbs
            || matches!(name, KeyName::Galois(g) if g % 2 == 0 || g >= 2 * parameters.n() as u64)
        {
            return Err(Error::Conformance {
                object: "evaluation key",
                reason: format!("{name} up to prime {limit} of {q_limbs}"),
            }
            .into());
        }
        let indices = Self::indices(parameters, name, limit);
        let mut digits = Vec::new();
        let mut limb = AlignedVec::dirty(parameters.n());
        let mut k = 0;
        for _ in 0..Self::digits_for(parameters, name, limit) {
            let mut poly = Vec::with_capacity(indices.len());
            for &index in &indices {
                read(k, &mut limb)?;
                let q = parameters.prime(index);
                if limb.iter().any(|&x| x >= q.value()) {
                    return Err(Error::Conformance {
                        object: "evaluation key",
                        reason: format!("{name}: a residue is not below its prime"),
                    }
                    .into());
                }
                poly.push(PackedLimb::new(q, &limb));
                k += 1;
            }
            digits.push(poly);
        }
        Ok(Self {
            seed,
            limit,
            indices,
            digits,
        })
    }
}

/// Brings a key that is not in memory.
type Load = dyn Fn(KeyName) -> Result<SwitchingKey, Error> + Send + Sync;

/// Keys that are brought each time they are used.
#[derive(Clone)]
struct Stored {
    limits: KeyRequest,
    load: Arc<Load>,
}

/// All evaluation keys of one client; holds no secret. Keys are in memory, or brought from where they are stored when they are
/// used and dropped after it.
#[derive(Clone, Default)]
pub struct EvaluationKeys {
    held: BTreeMap<KeyName, Arc<SwitchingKey>>,
    stored: Option<Stored>,
}

impl std::fmt::Debug for EvaluationKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stored = self.stored.as_ref().map_or(0, |s| s.limits.0.len());
        write!(
            f,
            "EvaluationKeys({} in memory, {stored} stored)",
            self.held.len()
        )
    }
}

impl EvaluationKeys {
    /// No keys.
    pub fn new() -> Self {
        Self::default()
    }
    /// Adds a key that stays in memory.
    pub fn insert(&mut self, name: KeyName, key: SwitchingKey) {
        self.held.insert(name, Arc::new(key));
    }
    /// Adds keys that `load` brings, each covering at least what `limits` says of it. It may be called by several threads at once;
    /// what it returns must be the client's key, whenever it is called.
    #[must_use]
    pub fn with_stored(
        mut self,
        limits: KeyRequest,
        load: impl Fn(KeyName) -> Result<SwitchingKey, Error> + Send + Sync + 'static,
    ) -> Self {
        self.stored = Some(Stored {
            limits,
            load: Arc::new(load),
        });
        self
    }
    /// The keys in memory.
    pub fn iter(&self) -> impl Iterator<Item = (&KeyName, &SwitchingKey)> {
        self.held.iter().map(|(name, key)| (name, &**key))
    }
    /// What they cover, in memory or stored.
    pub fn request(&self) -> KeyRequest {
        let mut all = KeyRequest(self.held.iter().map(|(&n, k)| (n, k.limit)).collect());
        if let Some(stored) = &self.stored {
            all.merge(&stored.limits);
        }
        all
    }
    /// Bytes of the keys in memory.
    pub fn bytes(&self) -> u64 {
        self.iter().map(|(_, key)| key.bytes()).sum()
    }
    /// Whether there is such a key and it covers the first `limit` primes; brings nothing.
    pub(crate) fn check(&self, name: KeyName, limit: usize, level: usize) -> Result<(), Error> {
        let held = self.held.get(&name).is_some_and(|k| k.limit >= limit);
        let stored = || {
            let known = self.stored.as_ref()?.limits.0.get(&name)?;
            Some(*known >= limit)
        };
        if held || stored().unwrap_or(false) {
            return Ok(());
        }
        Err(Error::MissingKey {
            key: name.to_string(),
            level,
        })
    }
    /// The key, if it covers the first `limit` primes.
    pub(crate) fn find(
        &self,
        name: KeyName,
        limit: usize,
        level: usize,
    ) -> Result<Arc<SwitchingKey>, Error> {
        self.check(name, limit, level)?;
        if let Some(key) = self.held.get(&name).filter(|k| k.limit >= limit) {
            return Ok(key.clone());
        }
        let brought = self.stored.as_ref().map(|s| (s.load)(name)).transpose()?;
        brought
            .filter(|k| k.limit >= limit)
            .map(Arc::new)
            .ok_or_else(|| Error::MissingKey {
                key: name.to_string(),
                level,
            })
    }
}

/// A fresh ciphertext: c0 and the seed of c1.
#[derive(Clone, Debug)]
pub struct SeededCiphertext {
    seed: [u8; 32],
    level: Level,
    slots: usize,
    c0: RnsPoly<Ntt>,
}

impl SeededCiphertext {
    /// The seed of c1.
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }
    /// Its level.
    pub fn level(&self) -> Level {
        self.level
    }
    /// Its slots.
    pub fn slots(&self) -> usize {
        self.slots
    }
    /// Limbs of c0.
    pub fn limbs(&self) -> impl Iterator<Item = &[u64]> {
        (0..self.c0.limbs()).map(|k| self.c0.limb(k))
    }
    /// The ciphertext, at the canonical scale.
    pub fn expand(&self, parameters: &Parameters) -> Ciphertext {
        let expander = Expander::new(self.seed);
        let indices = self.c0.indices().to_vec();
        let c1 = RnsPoly::from_limbs(parameters.ring(), indices.clone(), |k, limb| {
            expander.uniform(indices[k] as u64, parameters.prime(indices[k]), limb);
        });
        Ciphertext {
            polys: vec![self.c0.clone(), c1],
            level: self.level,
            scale: parameters.scale(self.level),
            slots: self.slots,
        }
    }
    /// Reads one limb by limb.
    ///
    /// # Errors
    /// What the reader refuses, an impossible level or slot count, or a residue that is not below its prime.
    pub fn read<E: From<Error>>(
        parameters: &Parameters,
        level: Level,
        slots: usize,
        seed: [u8; 32],
        read: impl FnMut(usize, &mut [u64]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let c0 = crate::evaluator::read_poly(parameters, level, slots, read)?;
        Ok(Self {
            seed,
            level,
            slots,
            c0,
        })
    }
}

/// The secret key: a dense ternary polynomial. Never leaves the client.
pub struct SecretKey {
    parameters: Parameters,
    encoder: Encoder,
    coefficients: Zeroizing<Vec<i8>>,
    /// In NTT form for every prime; wiped on drop.
    ntt: RnsPoly<Ntt>,
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretKey([redacted])")
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        for limb in self.ntt.limbs_mut() {
            limb.zeroize();
        }
    }
}

fn random_seed(rng: &mut impl CryptoRng) -> [u8; 32] {
    let mut seed = [0u8; 32];
    rng.fill_bytes(&mut seed);
    seed
}

fn small_ntt(parameters: &Parameters, indices: &[usize], x: &[i8]) -> RnsPoly<Ntt> {
    let wide: Zeroizing<Vec<i64>> = Zeroizing::new(x.iter().map(|&v| i64::from(v)).collect());
    RnsPoly::from_limbs(parameters.ring(), indices.to_vec(), |k, limb| {
        ring::limb::from_i64(parameters.prime(indices[k]), limb, &wide);
        parameters.ring().ntt(indices[k]).forward(limb);
    })
}

impl SecretKey {
    /// Draws a key.
    ///
    /// # Errors
    /// Never for checked parameters; kept for symmetry with [`SecretKey::from_coefficients`].
    pub fn generate(parameters: &Parameters, rng: &mut impl CryptoRng) -> Result<Self, Error> {
        let coefficients = ring::ternary(rng, parameters.n());
        Self::from_coefficients(parameters, &coefficients)
    }
    /// The ternary coefficients, for the client's key file.
    pub fn coefficients(&self) -> &[i8] {
        &self.coefficients
    }
    /// From ternary coefficients.
    ///
    /// # Errors
    /// If their number is not N or one is not −1, 0 or 1.
    pub fn from_coefficients(parameters: &Parameters, coefficients: &[i8]) -> Result<Self, Error> {
        if coefficients.len() != parameters.n()
            || coefficients.iter().any(|c| !(-1..=1).contains(c))
        {
            return Err(Error::Conformance {
                object: "secret key",
                reason: format!("{} ternary coefficients are needed", parameters.n()),
            });
        }
        let all: Vec<usize> = (0..parameters.ring().moduli().len()).collect();
        Ok(Self {
            parameters: parameters.clone(),
            encoder: Encoder::new(parameters.max_slots()),
            coefficients: Zeroizing::new(coefficients.to_vec()),
            ntt: small_ntt(parameters, &all, coefficients),
        })
    }
    /// Encrypts a vector (length = slots) at a residual level and its canonical scale.
    ///
    /// # Errors
    /// If the vector does not fit or a value is too large.
    pub fn encrypt(
        &self,
        v: &[Complex64],
        level: Level,
        rng: &mut impl CryptoRng,
    ) -> Result<SeededCiphertext, Error> {
        let p = &self.parameters;
        let coefficients = self.encoder.encode(v, p.scale(level))?;
        let indices = p.limbs(level).to_vec();
        let gap = p.n() / coefficients.len();
        let noise = ring::gaussian(rng, p.n());
        let mut message: Zeroizing<Vec<i64>> =
            Zeroizing::new(noise.iter().map(|&e| i64::from(e)).collect());
        for (j, &c) in coefficients.iter().enumerate() {
            message[j * gap] += c;
        }
        let seed = random_seed(rng);
        let expander = Expander::new(seed);
        let c0 = RnsPoly::from_limbs(p.ring(), indices.clone(), |k, limb| {
            let q = p.prime(indices[k]);
            expander.uniform(indices[k] as u64, q, limb);
            let mut m = vec![0u64; p.n()];
            ring::limb::from_i64(q, &mut m, &message);
            p.ring().ntt(indices[k]).forward(&mut m);
            ring::limb::mul(q, limb, self.ntt.limb(indices[k]));
            // c0 = m − c1·s
            ring::limb::sub(q, &mut m, limb);
            limb.copy_from_slice(&m);
        });
        Ok(SeededCiphertext {
            seed,
            level,
            slots: v.len(),
            c0,
        })
    }
    /// Decrypts to the slots of one period. The answer carries the scheme's noise: see SECURITY.md before publishing it.
    ///
    /// # Errors
    /// If the ciphertext is not of degree 1 or 2.
    pub fn decrypt(&self, x: &Ciphertext) -> Result<Vec<Complex64>, Error> {
        let p = &self.parameters;
        let indices = x.polys[0].indices().to_vec();
        let phase = RnsPoly::<Ntt>::from_limbs(p.ring(), indices.clone(), |k, limb| {
            let q = p.prime(indices[k]);
            let s = self.ntt.limb(indices[k]);
            limb.copy_from_slice(x.polys[x.polys.len() - 1].limb(k));
            for c in x.polys.iter().rev().skip(1) {
                ring::limb::mul(q, limb, s);
                ring::limb::add(q, limb, c.limb(k));
            }
        });
        let phase = phase.into_coeff(p.ring());
        let gap = p.n() / (2 * x.slots);
        let limbs: Vec<&[u64]> = (0..phase.limbs()).map(|k| phase.limb(k)).collect();
        let moduli: Vec<Modulus> = indices.iter().map(|&i| *p.prime(i)).collect();
        let coefficients = center(&moduli, &limbs, (0..2 * x.slots).map(|j| j * gap), x.scale);
        self.encoder.decode(&coefficients)
    }
    /// Makes one key that covers Q's first `limit` primes.
    ///
    /// # Errors
    /// [`Error::Conformance`] for keys that can't stand alone: the two encapsulation keys are made together by
    /// [`SecretKey::encapsulation_keys`].
    pub fn key(
        &self,
        name: KeyName,
        limit: usize,
        rng: &mut impl CryptoRng,
    ) -> Result<SwitchingKey, Error> {
        let p = &self.parameters;
        let indices = SwitchingKey::indices(p, name, limit);
        let (from, to) = match name {
            KeyName::Relinearization => {
                let mut square = self.ntt.clone();
                square.mul_assign(&self.ntt);
                (square, self.ntt.clone())
            }
            KeyName::Galois(g) => {
                // σ_g⁻¹ = σ_h with g·h ≡ 1 modulo 2N
                let inverse = inverse_odd(g, 2 * p.n() as u64);
                (
                    self.ntt.clone(),
                    self.ntt
                        .automorphism(&ring::automorphism(p.spec().log_n, inverse)),
                )
            }
            KeyName::DenseToSparse | KeyName::SparseToDense => {
                return Err(Error::Conformance {
                    object: "key request",
                    reason: "encapsulation keys are made together".into(),
                });
            }
        };
        Ok(self.switching_key(name, limit, &indices, &from, &to, rng))
    }
    /// Draws an ephemeral secret of weight h and makes both encapsulation keys [BTH22]; the secret is dropped.
    ///
    /// # Errors
    /// If the parameters have no bootstrapping.
    pub fn encapsulation_keys(
        &self,
        limit: usize,
        rng: &mut impl CryptoRng,
    ) -> Result<[(KeyName, SwitchingKey); 2], Error> {
        let p = &self.parameters;
        let b = p.bootstrap().ok_or(Error::Conformance {
            object: "key request",
            reason: "these parameters have no bootstrapping".into(),
        })?;
        let sparse = ring::sparse_ternary(rng, p.n(), b.hamming_weight);
        let all: Vec<usize> = (0..p.ring().moduli().len()).collect();
        let mut sparse = small_ntt(p, &all, &sparse);
        let down = SwitchingKey::indices(p, KeyName::DenseToSparse, 1);
        let up = SwitchingKey::indices(p, KeyName::SparseToDense, limit);
        let keys = [
            (
                KeyName::DenseToSparse,
                self.switching_key(KeyName::DenseToSparse, 1, &down, &self.ntt, &sparse, rng),
            ),
            (
                KeyName::SparseToDense,
                self.switching_key(KeyName::SparseToDense, limit, &up, &sparse, &self.ntt, rng),
            ),
        ];
        for limb in sparse.limbs_mut() {
            limb.zeroize();
        }
        Ok(keys)
    }
    /// Makes all keys of a request.
    ///
    /// # Errors
    /// As [`SecretKey::key`].
    pub fn evaluation_keys(
        &self,
        request: &KeyRequest,
        rng: &mut impl CryptoRng,
    ) -> Result<EvaluationKeys, Error> {
        let mut keys = EvaluationKeys::new();
        for (&name, &limit) in &request.0 {
            match name {
                KeyName::DenseToSparse => {}
                KeyName::SparseToDense => {
                    for (name, key) in self.encapsulation_keys(limit, rng)? {
                        keys.insert(name, key);
                    }
                }
                _ => keys.insert(name, self.key(name, limit, rng)?),
            }
        }
        Ok(keys)
    }
    fn switching_key(
        &self,
        name: KeyName,
        limit: usize,
        indices: &[usize],
        from: &RnsPoly<Ntt>,
        to: &RnsPoly<Ntt>,
        rng: &mut impl CryptoRng,
    ) -> SwitchingKey {
        let p = &self.parameters;
        let seed = random_seed(rng);
        let expander = Expander::new(seed);
        let digits = (0..SwitchingKey::digits_for(p, name, limit))
            .map(|d| {
                let noise = ring::gaussian(rng, p.n());
                let noise: Zeroizing<Vec<i64>> =
                    Zeroizing::new(noise.iter().map(|&e| i64::from(e)).collect());
                let limb_of = |k: usize| {
                    let index = indices[k];
                    let q = p.prime(index);
                    let mut limb = AlignedVec::dirty(p.n());
                    expander.uniform(SwitchingKey::stream(d, index), q, &mut limb);
                    let mut e = vec![0u64; p.n()];
                    ring::limb::from_i64(q, &mut e, &noise);
                    p.ring().ntt(index).forward(&mut e);
                    ring::limb::mul(q, &mut limb, to.limb(index));
                    ring::limb::sub(q, &mut e, &limb);
                    let (gadget, in_digit) = match name {
                        KeyName::DenseToSparse => {
                            (q.reduce(p.prime(indices[1]).value()), index == 0)
                        }
                        _ => (
                            if index < limit {
                                p.special_product_mod(index)
                            } else {
                                0
                            },
                            p.digits()[d].contains(&index),
                        ),
                    };
                    if in_digit {
                        ring::limb::mul_scalar_add(q, &mut e, from.limb(index), gadget);
                    }
                    PackedLimb::new(q, &e)
                };
                (0..indices.len()).into_par_iter().map(limb_of).collect()
            })
            .collect();
        SwitchingKey {
            seed,
            limit,
            indices: indices.to_vec(),
            digits,
        }
    }
}

/// The inverse of an odd number modulo a power of two.
pub(crate) fn inverse_odd(g: u64, modulus: u64) -> u64 {
    let mut x = g; // correct to 3 bits; each step doubles
    for _ in 0..6 {
        x = x.wrapping_mul(2u64.wrapping_sub(g.wrapping_mul(x)));
    }
    x & (modulus - 1)
}

/// Centered values of RNS coefficients divided by the scale, by Garner's mixed-radix digits: exact but for the last division.
fn center(
    moduli: &[Modulus],
    limbs: &[&[u64]],
    at: impl Iterator<Item = usize>,
    scale: f64,
) -> Vec<f64> {
    let k = moduli.len();
    // inverses[i][j] = q_j^-1 mod q_i, j < i
    let inverses: Vec<Vec<u64>> = (0..k)
        .map(|i| {
            (0..i)
                .map(|j| moduli[i].inv(moduli[i].reduce(moduli[j].value())))
                .collect()
        })
        .collect();
    let halves: Vec<u64> = {
        // mixed-radix digits of (Q − 1)/2: all digits (q_i − 1)/2 because Q is odd
        moduli.iter().map(|q| (q.value() - 1) / 2).collect()
    };
    at.map(|j| {
        let mut digits = vec![0u64; k];
        for i in 0..k {
            let q = &moduli[i];
            let mut x = limbs[i][j];
            for (d, inverse) in digits[..i].iter().zip(&inverses[i]) {
                x = q.mul(q.sub(x, q.reduce(*d)), *inverse);
            }
            digits[i] = x;
        }
        // negative if above (Q − 1)/2: compare from the top digit
        let negative = (0..k)
            .rev()
            .find(|&i| digits[i] != halves[i])
            .is_some_and(|i| digits[i] > halves[i]);
        if negative {
            // Q − x has digits: complement plus one
            let mut carry = true;
            for (d, q) in digits.iter_mut().zip(moduli) {
                let c = q.value() - 1 - *d;
                *d = if carry { c + 1 } else { c };
                carry = carry && *d == q.value();
                if *d == q.value() {
                    *d = 0;
                }
            }
        }
        let mut value = 0.0f64;
        for i in (0..k).rev() {
            value = value * moduli[i].value() as f64 + digits[i] as f64;
        }
        (if negative { -value } else { value }) / scale
    })
    .collect()
}

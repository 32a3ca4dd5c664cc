//! Names, requests and types of evaluation keys. Nothing here holds a secret.
//!
//! A switching key from secret `t` to secret `s` holds, for each digit d, (b, a) with b + a·s = P·g_d·t + e modulo QP, where
//! g_d ≡ 1 modulo the digit's primes and 0 modulo Q's others; a is expanded from a seed. A Galois key for σ switches from s to
//! σ⁻¹(s): the automorphism is then applied after the inner product, to two polynomials instead of to every digit.

use crate::{Error, Parameters};
use ring::buffer::AlignedVec;
use ring::{Expander, Modulus, PackedLimb};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Which key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum KeyName {
    /// s² → s.
    Relinearization,
    /// σ_g for X → X^g: rotations and the conjugation.
    Galois(u64),
    /// Dense → ephemeral sparse secret, modulo q0 times one more prime only \[BTH22\].
    DenseToSparse,
    /// Sparse → σ_g⁻¹(dense): what ModRaise ends with, and the automorphism X → X^g after it. The raised polynomial, below q0, is its only digit.
    Raise(u64),
    /// s → s'(X^t), down to the small ring ([`crate::ring_switch`]).
    RingDown,
    /// s'(X^t) → s, up again.
    RingUp,
    /// σ_g for X → X^g in the small ring, under s'.
    Small(u64),
}

impl KeyName {
    /// What both keys of a change of rings are laid out as among the lowest levels: with all digits, from one secret to another.
    pub(crate) const CHANGE: Self = Self::Relinearization;

    /// The parameters that a key of this name is laid out by, and its name there: keys of a change of rings belong to the lowest levels alone.
    fn home(self, parameters: &Parameters) -> (&Parameters, Self) {
        match (self, parameters.bottoms()) {
            (Self::RingDown | Self::RingUp, Some([wide, _])) => (wide, Self::CHANGE),
            (Self::Small(g), Some([_, small])) => (small, Self::Galois(g)),
            _ => (parameters, self),
        }
    }
    /// Whether parameters have keys of this name that cover so many of Q's primes.
    pub fn exists(self, parameters: &Parameters, limit: usize) -> bool {
        let (home, name) = self.home(parameters);
        let odd = |g: u64| g % 2 == 1 && g < 2 * home.n() as u64;
        let known = match name {
            Self::Galois(g) => odd(g),
            // as the keys of a change of rings are laid out
            Self::Relinearization => true,
            Self::DenseToSparse => parameters.bootstrap().is_some(),
            Self::Raise(g) => odd(g) && parameters.bootstrap().is_some(),
            Self::RingDown | Self::RingUp | Self::Small(_) => false,
        };
        known && (1..=home.special()[0]).contains(&limit)
    }
}

impl std::fmt::Display for KeyName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Relinearization => write!(f, "relinearisation key"),
            Self::Galois(g) => write!(f, "Galois key for X^{g}"),
            Self::DenseToSparse => write!(f, "dense-to-sparse key"),
            Self::Raise(1) => write!(f, "sparse-to-dense key"),
            Self::Raise(g) => write!(f, "sparse-to-dense key for X^{g}"),
            Self::RingDown => write!(f, "key down to the small ring"),
            Self::RingUp => write!(f, "key up from the small ring"),
            Self::Small(g) => write!(f, "Galois key for X^{g} in the small ring"),
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
    /// Bytes of the keys in memory.
    pub fn memory(&self, parameters: &Parameters) -> u64 {
        let bytes = |(&name, &limit)| SwitchingKey::bytes_for(parameters, name, limit);
        self.0.iter().map(bytes).sum()
    }
    /// Bytes of the key files, bit-packed.
    pub fn bytes(&self, parameters: &Parameters) -> u64 {
        self.0
            .iter()
            .map(|(&name, &limit)| {
                SwitchingKey::layout(parameters, name, limit)
                    .iter()
                    .map(|q| {
                        u64::from(q.bits()) * SwitchingKey::degree(parameters, name) as u64 / 8
                    })
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
    pub(crate) fn from_parts(
        seed: [u8; 32],
        limit: usize,
        indices: Vec<usize>,
        digits: Vec<Vec<PackedLimb>>,
    ) -> Self {
        Self {
            seed,
            limit,
            indices,
            digits,
        }
    }
    /// One limb of a digit's b in NTT form, by its position ([`SwitchingKey::position`]).
    pub fn b(&self, digit: usize, position: usize) -> &PackedLimb {
        &self.digits[digit][position]
    }
    /// Where a ring index lies among each digit's limbs, if the key covers it.
    pub fn position(&self, limb: usize) -> Option<usize> {
        if limb < self.limit && self.indices.get(limb) == Some(&limb) {
            Some(limb)
        } else {
            self.indices.iter().position(|&i| i == limb)
        }
    }
    /// Expands its uniform halves: limb `index` of digit `d` is stream [`SwitchingKey::stream`]`(d, index)`, in NTT form.
    pub fn expander(&self) -> Expander {
        Expander::new(self.seed)
    }
    /// Stream number of one limb's uniform half.
    pub fn stream(digit: usize, limb: usize) -> u64 {
        ((digit as u64) << 32) | limb as u64
    }
    /// Degree of the ring that it lies in.
    pub fn degree(parameters: &Parameters, name: KeyName) -> usize {
        name.home(parameters).0.n()
    }
    /// Ring indices of each digit's limbs, in the ring that it lies in.
    pub(crate) fn indices(parameters: &Parameters, name: KeyName, limit: usize) -> Vec<usize> {
        let (parameters, name) = name.home(parameters);
        match name {
            KeyName::DenseToSparse => vec![0, parameters.encapsulation_prime()],
            KeyName::Raise(_) => (0..limit).chain([parameters.raising_prime()]).collect(),
            _ => (0..limit)
                .chain(parameters.special_up_to(limit).iter().copied())
                .collect(),
        }
    }
    pub(crate) fn digits_for(parameters: &Parameters, name: KeyName, limit: usize) -> usize {
        let (parameters, name) = name.home(parameters);
        match name {
            KeyName::DenseToSparse | KeyName::Raise(_) => 1,
            _ => parameters
                .digits()
                .iter()
                .filter(|d| d.start < limit)
                .count(),
        }
    }
    /// Modulus of each limb, in the order of [`SwitchingKey::limbs`].
    pub fn layout(parameters: &Parameters, name: KeyName, limit: usize) -> Vec<Modulus> {
        let (parameters, name) = name.home(parameters);
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
            .map(|q| (ring::packed::packed_bytes(q) * Self::degree(parameters, name)) as u64)
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
        if !name.exists(parameters, limit) {
            let reason = format!("{name} up to prime {limit}");
            return Err(Error::conformance("evaluation key", reason).into());
        }
        let (parameters, home) = name.home(parameters);
        let indices = Self::indices(parameters, home, limit);
        let mut digits = Vec::new();
        let mut limb = AlignedVec::dirty(parameters.n());
        let mut k = 0;
        for _ in 0..Self::digits_for(parameters, home, limit) {
            let mut poly = Vec::with_capacity(indices.len());
            for &index in &indices {
                read(k, &mut limb)?;
                let q = parameters.prime(index);
                if limb.iter().any(|&x| x >= q.value()) {
                    let reason = format!("{name}: a residue is not below its prime");
                    return Err(Error::conformance("evaluation key", reason).into());
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

/// Loads a key that is not in memory.
type Load = dyn Fn(KeyName) -> Result<SwitchingKey, Error> + Send + Sync;

/// Keys that are loaded each time they are used.
#[derive(Clone)]
struct Stored {
    limits: KeyRequest,
    load: Arc<Load>,
}

/// All evaluation keys of one client; holds no secret. Keys are in memory, or loaded from where they are stored when they are
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
    /// Adds keys that `load` reads when they are used, each covering at least what `limits` says of it. It may be called by several threads at once;
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
    /// Those of the small ring, by their names there; they stay among these, too.
    pub fn in_small_ring(&self) -> Self {
        let inner = |name: &KeyName| match name {
            KeyName::Small(g) => Some(KeyName::Galois(*g)),
            _ => None,
        };
        let held = self.held.iter();
        let stored = self.stored.clone().map(|Stored { limits, load }| {
            let limits = limits.0.iter();
            let limits = limits.filter_map(|(n, limit)| Some((inner(n)?, *limit)));
            let load = move |name| match name {
                KeyName::Galois(g) => load(KeyName::Small(g)),
                other => load(other),
            };
            Stored {
                limits: KeyRequest(limits.collect()),
                load: Arc::new(load),
            }
        });
        Self {
            held: held
                .filter_map(|(n, key)| Some((inner(n)?, key.clone())))
                .collect(),
            stored,
        }
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
    /// Whether there is such a key and it covers the first `limit` primes; loads nothing. `level` is for the message.
    ///
    /// # Errors
    /// [`Error::MissingKey`].
    pub fn check(&self, name: KeyName, limit: usize, level: usize) -> Result<(), Error> {
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
    /// The key, if it covers the first `limit` primes ([`Parameters::key_limit`]). `level` is for the message.
    ///
    /// # Errors
    /// [`Error::MissingKey`], or what loading a stored key refuses.
    pub fn find(
        &self,
        name: KeyName,
        limit: usize,
        level: usize,
    ) -> Result<Arc<SwitchingKey>, Error> {
        self.check(name, limit, level)?;
        if let Some(key) = self.held.get(&name).filter(|k| k.limit >= limit) {
            return Ok(key.clone());
        }
        let loaded = self.stored.as_ref().map(|s| (s.load)(name)).transpose()?;
        loaded
            .filter(|k| k.limit >= limit)
            .map(Arc::new)
            .ok_or_else(|| Error::MissingKey {
                key: name.to_string(),
                level,
            })
    }
}

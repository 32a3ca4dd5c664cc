//! What all clients of a parameter set share: the encoder, the bootstraps' transforms and the tables and encoded plaintexts
//! that evaluation keeps. Nothing here belongs to a client.

use crate::ciphertext::EncodedPlain;
use crate::dft::{Form, Transforms};
use crate::tables::{Digits, Division, Permutation, Plains};
use crate::{BlockMap, Complex64, Encoder, Error, Level, Parameters};
use rayon::prelude::*;
use ring::buffer::AlignedVec;
use ring::{Monomial, limb};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Things that are made once; the first of each key that is finished stays.
struct Cache<K, V>(Mutex<HashMap<K, Arc<V>>>);

impl<K: Eq + Hash, V> Cache<K, V> {
    fn new() -> Self {
        Self(Mutex::default())
    }
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Arc<V>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // consistent between statements
    }
    /// The lock is not held while `make` runs, which may use all threads.
    fn get<E>(&self, key: K, make: impl FnOnce() -> Result<V, E>) -> Result<Arc<V>, E> {
        if let Some(found) = self.lock().get(&key) {
            return Ok(found.clone());
        }
        let made = Arc::new(make()?);
        Ok(self.lock().entry(key).or_insert(made).clone())
    }
    fn get_or(&self, key: K, make: impl FnOnce() -> V) -> Arc<V> {
        let Ok(v) = self.get::<std::convert::Infallible>(key, || Ok(make()));
        v
    }
}

/// Names of kept maps from here on are given in the order in which they are made; those below belong to the transforms.
const FIRST_PIN: usize = 1 << (usize::BITS / 2);

struct Inner {
    parameters: Parameters,
    encoder: Encoder,
    /// For every ring index: the square root of −1 that X^(N/2) takes in the first half of the NTT order.
    imaginary: Vec<u64>,
    /// By log2 of the slot count: in real form, and in complex form.
    transforms: Vec<[OnceLock<Transforms>; 2]>,
    permutations: Cache<u64, Permutation>,
    divisions: Cache<(Vec<usize>, Vec<usize>), Division>,
    decompositions: Cache<Level, Digits>,
    /// X^(2^l), the shifts that packing is made of.
    monomials: Cache<i64, Monomial>,
    /// Encoded diagonals of the bootstraps' maps, by (map, level, scale).
    pinned: Cache<(usize, usize, u64), Plains>,
    /// First maps of SlotToCoeff that multiply by masks, too: by slots and masks, as bits.
    masked: Cache<(usize, Vec<Vec<u32>>), BlockMap>,
    pins: AtomicUsize,
    /// Of the lowest levels, in this ring and in the small one that the parameters name.
    bottoms: Option<[Context; 2]>,
}

/// Parameters with everything that is computed from them alone, as it is needed; cheap to clone, and clones share it. One
/// context serves any number of clients: [`crate::Evaluator`] adds one client's keys.
#[derive(Clone)]
pub struct Context(Arc<Inner>);

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Context({:?})", self.0.parameters)
    }
}

impl Context {
    /// For these parameters, with nothing kept yet.
    pub fn new(parameters: &Parameters) -> Self {
        let imaginary = (0..parameters.ring().moduli().len())
            .map(|i| {
                // Y^4 in the ring of degree 8 is X^(N/2)
                let mut y = [0u64; 8];
                y[4] = 1;
                parameters.ring().ntt(i).forward_sized(&mut y);
                y[0]
            })
            .collect();
        Self(Arc::new(Inner {
            parameters: parameters.clone(),
            encoder: Encoder::new(parameters.max_slots()),
            imaginary,
            transforms: (0..parameters.spec().log_n)
                .map(|_| [const { OnceLock::new() }; 2])
                .collect(),
            permutations: Cache::new(),
            divisions: Cache::new(),
            decompositions: Cache::new(),
            monomials: Cache::new(),
            pinned: Cache::new(),
            masked: Cache::new(),
            pins: AtomicUsize::new(FIRST_PIN),
            bottoms: parameters.bottoms().map(|p| p.each_ref().map(Self::new)),
        }))
    }
    /// The parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.0.parameters
    }
    /// Those of [`Parameters::bottoms`].
    pub fn bottoms(&self) -> Option<&[Self; 2]> {
        self.0.bottoms.as_ref()
    }
    /// The encoder.
    pub fn encoder(&self) -> &Encoder {
        &self.0.encoder
    }
    /// What a bootstrap of this many slots (a power of two of at most N/2) computes, made once. All slots have one form.
    ///
    /// # Errors
    /// [`Error::NoBootstrapping`], or [`Error::Slots`].
    pub fn transforms(&self, slots: usize, form: Form) -> Result<&Transforms, Error> {
        crate::typing::slots(self.parameters(), "bootstrap", slots)?;
        let complex = form == Form::Complex || slots == self.parameters().max_slots();
        let cell = &self.0.transforms[slots.trailing_zeros() as usize][usize::from(complex)];
        if let Some(t) = cell.get() {
            return Ok(t);
        }
        let made = Transforms::new(self.parameters(), self.encoder(), slots, form)?;
        Ok(cell.get_or_init(|| made))
    }
    /// Bytes of the encoded plaintexts that are kept: the diagonals of the bootstraps' maps. They do not grow with the clients.
    pub fn encoded_bytes(&self) -> u64 {
        let pinned = self.0.pinned.lock();
        pinned.values().map(|p| p.encoded_bytes()).sum()
    }
    /// A plaintext in NTT form: values at `scale`, for ciphertexts at `level` or below on the same chain.
    ///
    /// # Errors
    /// If the values do not fit.
    pub fn encode(&self, v: &[Complex64], scale: f64, level: Level) -> Result<EncodedPlain, Error> {
        let coefficients = self.encoder().encode(v, scale)?;
        let indices = self.parameters().limbs(level).clone();
        Ok(EncodedPlain {
            limbs: indices
                .par_iter()
                .map(|&i| self.encode_limb(&coefficients, i))
                .collect(),
            indices,
            level,
            scale,
            slots: v.len(),
        })
    }
    /// Encodes for one ring index; the result's length divides N (a plaintext in a subring is kept short, at least 8 words).
    pub(crate) fn encode_limb(&self, coefficients: &[i64], index: usize) -> AlignedVec {
        let mut out = AlignedVec::dirty(coefficients.len().max(8));
        let q = self.parameters().prime(index);
        if coefficients.len() == out.len() {
            limb::from_i64(q, &mut out, coefficients);
        } else {
            let gap = out.len() / coefficients.len();
            out.fill(0);
            for (j, &c) in coefficients.iter().enumerate() {
                out[j * gap] = q.from_i64(c);
            }
        }
        self.parameters().ring().ntt(index).forward_sized(&mut out);
        out
    }
    /// The diagonals of a map for operands at a level, at a scale: those of a map with a pin are encoded once and kept, for the level's special primes or
    /// `only` these.
    pub(crate) fn plains(
        &self,
        map: &BlockMap,
        (level, scale): (Level, f64),
        only: Option<&[usize]>,
    ) -> Result<Arc<Plains>, Error> {
        let coefficients = |scale: f64| -> Result<Vec<Vec<i64>>, Error> {
            map.terms()
                .par_iter()
                .map(|t| self.encoder().encode(&t.values.rotated(t.giant), scale))
                .collect()
        };
        let Some(pin) = map.pin() else {
            return Ok(Arc::new(Plains::Coefficients(coefficients(scale)?)));
        };
        // scales that differ by the order of operations only are one: kept plaintexts do not depend on who came first
        let scale = f64::from_bits((scale.to_bits() + 0x80) & !0xff);
        // one set of limbs serves every target level; scales differ where a gain enters
        let key = (pin, level.index(), scale.to_bits());
        self.0.pinned.get(key, || {
            let (p, level) = (self.parameters(), Level::new(level.index()));
            let special = only.unwrap_or_else(|| p.special_at(level));
            let extended: Vec<usize> = p.limbs(level).iter().chain(special).copied().collect();
            let most = self.parameters().ring().moduli().len();
            let encoded = coefficients(scale)?
                .into_par_iter()
                .map(|c| {
                    let mut limbs: Vec<Option<AlignedVec>> = (0..most).map(|_| None).collect();
                    for &i in extended.iter() {
                        limbs[i] = Some(self.encode_limb(&c, i));
                    }
                    limbs
                })
                .collect();
            Ok(Plains::Encoded(encoded))
        })
    }
    /// What `make` makes of the first map of SlotToCoeff for these slots and masks: made once, and its diagonals are kept encoded.
    pub(crate) fn masked(
        &self,
        slots: usize,
        masks: &[Arc<[f32]>],
        make: impl FnOnce() -> Result<BlockMap, Error>,
    ) -> Result<Arc<BlockMap>, Error> {
        let bits = |m: &Arc<[f32]>| m.iter().map(|v| v.to_bits()).collect();
        let key = (slots, masks.iter().map(bits).collect());
        self.0.masked.get(key, || {
            Ok(make()?.pinned(self.0.pins.fetch_add(1, Ordering::Relaxed)))
        })
    }
    pub(crate) fn imaginary(&self, index: usize) -> u64 {
        self.0.imaginary[index]
    }
    pub(crate) fn permutation(&self, g: u64) -> Arc<Permutation> {
        let log_n = self.parameters().spec().log_n;
        let make = || Permutation::new(log_n, g);
        self.0.permutations.get_or(g, make)
    }
    /// X^exponent. Powers of two are kept: they are used again and again, and all of them take two polynomials.
    pub(crate) fn monomial(&self, exponent: i64) -> Arc<Monomial> {
        let make = || Monomial::new(self.parameters().ring(), exponent);
        match exponent.unsigned_abs().is_power_of_two() {
            true => self.0.monomials.get_or(exponent, make),
            false => Arc::new(make()),
        }
    }
    pub(crate) fn digits(&self, level: Level) -> Arc<Digits> {
        let make = || Digits::new(self.parameters(), level);
        self.0.decompositions.get_or(level, make)
    }
    pub(crate) fn division(&self, keep: &[usize], drop: &[usize]) -> Arc<Division> {
        let make = || Division::new(self.parameters(), keep, drop);
        self.0
            .divisions
            .get_or((keep.to_vec(), drop.to_vec()), make)
    }
}

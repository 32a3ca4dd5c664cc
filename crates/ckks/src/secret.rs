//! The secret key: key generation, encryption and decryption. Only the client's side imports this module.

use crate::ciphertext::{Ciphertext, SeededCiphertext};
use crate::encoder::wipe;
use crate::keys::{EvaluationKeys, KeyName, KeyRequest, SwitchingKey};
use crate::typing::{self, Info};
use crate::{
    Coefficients, Complex64, Encoder, Error, Level, Parameters, RingSwitch, RingSwitchKeys,
};
use rand_core::CryptoRng;
use rayon::prelude::*;
use ring::buffer::AlignedVec;
use ring::{Coeff, Expander, Form, Modulus, Ntt, PackedLimb, RnsPoly};
use zeroize::{Zeroize, Zeroizing};

/// The secret key: a dense ternary polynomial. Never leaves the client.
pub struct SecretKey {
    parameters: Parameters,
    encoder: Encoder,
    coefficients: Zeroizing<Vec<i8>>,
    /// In NTT form for every prime.
    ntt: Secret<Ntt>,
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretKey([redacted])")
    }
}

/// A polynomial that is as good as the secret key; wiped on drop. It must share its limbs with no other.
struct Secret<F: Form>(RnsPoly<F>);

impl<F: Form> Drop for Secret<F> {
    fn drop(&mut self) {
        for limb in self.0.limbs_mut() {
            limb.zeroize();
        }
    }
}

fn random_seed(rng: &mut impl CryptoRng) -> [u8; 32] {
    let mut seed = [0u8; 32];
    rng.fill_bytes(&mut seed);
    seed
}

fn small_ntt(parameters: &Parameters, indices: &[usize], x: &[i8]) -> Secret<Ntt> {
    let wide: Zeroizing<Vec<i64>> = Zeroizing::new(x.iter().map(|&v| i64::from(v)).collect());
    Secret(RnsPoly::from_limbs(
        parameters.ring(),
        indices.to_vec(),
        |k, limb| {
            ring::limb::from_i64(parameters.prime(indices[k]), limb, &wide);
            parameters.ring().ntt(indices[k]).forward(limb);
        },
    ))
}

impl SecretKey {
    /// Draws a key.
    pub fn generate(parameters: &Parameters, rng: &mut impl CryptoRng) -> Self {
        Self::of(parameters, ring::ternary(rng, parameters.n()))
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
            let reason = format!("{} ternary coefficients are needed", parameters.n());
            return Err(Error::conformance("secret key", reason));
        }
        Ok(Self::of(parameters, Zeroizing::new(coefficients.to_vec())))
    }
    fn of(parameters: &Parameters, coefficients: Zeroizing<Vec<i8>>) -> Self {
        let all: Vec<usize> = (0..parameters.ring().moduli().len()).collect();
        Self {
            parameters: parameters.clone(),
            encoder: Encoder::new(parameters.max_slots()),
            ntt: small_ntt(parameters, &all, &coefficients),
            coefficients,
        }
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
        let mut values = v.to_vec();
        let coefficients = self.encoder.encode_in_place(&mut values, p.scale(level));
        wipe(&mut values);
        self.encrypt_integers(&Zeroizing::new(coefficients?), level, rng)
    }
    /// Encrypts 2n real values in coefficients at a level below SlotToCoeff and its canonical scale.
    ///
    /// # Errors
    /// If the values do not fit, one is too large, or the level lies above.
    pub fn encrypt_coefficients(
        &self,
        v: &[f64],
        level: Level,
        rng: &mut impl CryptoRng,
    ) -> Result<SeededCiphertext, Error> {
        let p = &self.parameters;
        typing::in_coefficients(p, "encryption in coefficients", level)?;
        typing::slots(p, "encryption in coefficients", v.len() / 2)?;
        let scale = p.scale(level);
        let integer = |x: &f64| match crate::evaluator::integer(x * scale) {
            Ok(k) if k.unsigned_abs() < 1 << 62 => i64::try_from(k).ok(),
            _ => None,
        };
        let coefficients: Option<Vec<i64>> = v.iter().map(integer).collect();
        let coefficients = coefficients.ok_or(Error::Encode {
            magnitude: v.iter().fold(0.0, |most, x| most.max(x.abs())),
            log_scale: scale.log2(),
        })?;
        self.encrypt_integers(&Zeroizing::new(coefficients), level, rng)
    }
    fn encrypt_integers(
        &self,
        coefficients: &[i64],
        level: Level,
        rng: &mut impl CryptoRng,
    ) -> Result<SeededCiphertext, Error> {
        let p = &self.parameters;
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
            let mut m = Zeroizing::new(vec![0u64; p.n()]);
            ring::limb::from_i64(q, &mut m, &message);
            p.ring().ntt(indices[k]).forward(&mut m);
            ring::limb::mul(q, limb, self.ntt.0.limb(indices[k]));
            // c0 = m − c1·s
            ring::limb::sub(q, &mut m, limb);
            limb.copy_from_slice(&m);
        });
        Ok(SeededCiphertext {
            seed,
            level,
            slots: coefficients.len() / 2,
            c0,
        })
    }
    /// Decrypts to the slots of one period. The answer carries the scheme's noise: see SECURITY.md before publishing it.
    ///
    /// # Errors
    /// If the ciphertext is not of degree 1 or 2.
    pub fn decrypt(&self, x: &Ciphertext) -> Result<Vec<Complex64>, Error> {
        self.encoder.decode(&self.open(x))
    }
    /// Decrypts to the 2n values in coefficients.
    pub fn decrypt_coefficients(&self, x: &Coefficients) -> Zeroizing<Vec<f64>> {
        self.open(x.value())
    }
    /// The phase's coefficients, divided by the scale.
    fn open(&self, x: &Ciphertext) -> Zeroizing<Vec<f64>> {
        let p = &self.parameters;
        let indices = x.polys[0].indices().to_vec();
        // with the public ciphertext, the phase is as good as the key
        let phase = Secret(RnsPoly::<Coeff>::from_limbs(
            p.ring(),
            indices.clone(),
            |k, limb| {
                let q = p.prime(indices[k]);
                let s = self.ntt.0.limb(indices[k]);
                limb.copy_from_slice(x.polys[x.polys.len() - 1].limb(k));
                for c in x.polys.iter().rev().skip(1) {
                    ring::limb::mul(q, limb, s);
                    ring::limb::add(q, limb, c.limb(k));
                }
                p.ring().ntt(indices[k]).inverse(limb);
            },
        ));
        let phase = &phase.0;
        let Info { slots, scale, .. } = x.info;
        let gap = p.n() / (2 * slots);
        let limbs: Vec<&[u64]> = (0..phase.limbs()).map(|k| phase.limb(k)).collect();
        let moduli: Vec<Modulus> = indices.iter().map(|&i| *p.prime(i)).collect();
        let at = (0..2 * slots).map(|j| j * gap);
        Zeroizing::new(center(&moduli, &limbs, at, scale))
    }
    /// Makes one key that covers Q's first `limit` primes.
    ///
    /// # Errors
    /// [`Error::Conformance`] for keys from or to a secret that several share: [`KeyMaker`] makes these.
    pub fn key(
        &self,
        name: KeyName,
        limit: usize,
        rng: &mut impl CryptoRng,
    ) -> Result<SwitchingKey, Error> {
        let own = &self.ntt.0;
        match name {
            KeyName::Relinearization => {
                let mut square = Secret(own.clone());
                square.0.mul_assign(own);
                Ok(self.switching_key(name, limit, &square.0, own, rng))
            }
            KeyName::Galois(g) => {
                Ok(self.switching_key(name, limit, own, &self.turned_back(g).0, rng))
            }
            other => {
                let reason = format!("{other}: it is made together with others of its kind");
                Err(Error::conformance("key request", reason))
            }
        }
    }
    /// σ_g⁻¹(s).
    fn turned_back(&self, g: u64) -> Secret<Ntt> {
        // σ_g⁻¹ = σ_h with g·h ≡ 1 modulo 2N
        let inverse = inverse_odd(g, 2 * self.parameters.n() as u64);
        let image = ring::automorphism(self.parameters.spec().log_n, inverse);
        Secret(self.ntt.0.automorphism(&image))
    }
    /// Draws a secret of the small ring, for one set of keys ([`SecretKey::small_ring_key`]); to be dropped after.
    ///
    /// # Errors
    /// [`Error::Parameters`] if the parameters have no small ring.
    pub fn small_ring_secret(&self, rng: &mut impl CryptoRng) -> Result<Self, Error> {
        let [_, small] = typing::small_ring(&self.parameters, self.parameters.bottoms())?;
        Ok(Self::generate(small, rng))
    }
    /// Makes one key of the change to the small ring, under its secret `small` or to it.
    ///
    /// # Errors
    /// [`Error::Conformance`] for other keys, or a secret of another ring.
    pub fn small_ring_key(
        &self,
        name: KeyName,
        limit: usize,
        small: &Self,
        rng: &mut impl CryptoRng,
    ) -> Result<SwitchingKey, Error> {
        let [wide, inner] = typing::small_ring(&self.parameters, self.parameters.bottoms())?;
        match name {
            _ if &small.parameters != inner => {
                let reason = "the secret is not of the small ring";
                Err(Error::conformance("change of rings", reason))
            }
            KeyName::Small(g) => small.key(KeyName::Galois(g), limit, rng),
            KeyName::RingDown | KeyName::RingUp => self.between(wide, small, name, limit, rng),
            other => Err(Error::conformance("change of rings", other.to_string())),
        }
    }
    /// The key down or up, in the set of the lowest levels.
    fn between(
        &self,
        wide: &Parameters,
        small: &Self,
        name: KeyName,
        limit: usize,
        rng: &mut impl CryptoRng,
    ) -> Result<SwitchingKey, Error> {
        let own = Self::of(wide, self.coefficients.clone());
        let t = wide.n() / small.parameters.n();
        let mut spread = Zeroizing::new(vec![0i8; wide.n()]);
        for (j, &s) in small.coefficients.iter().enumerate() {
            spread[t * j] = s;
        }
        let all: Vec<usize> = (0..wide.ring().moduli().len()).collect();
        let spread = small_ntt(wide, &all, &spread);
        let (from, to) = match name {
            KeyName::RingDown => (&own.ntt.0, &spread.0),
            _ => (&spread.0, &own.ntt.0),
        };
        Ok(own.switching_key(KeyName::CHANGE, limit, from, to, rng))
    }
    /// Draws the ephemeral sparse secret of the keys of one encapsulation \[BTH22\]; to be dropped after.
    fn sparse_secret(&self, rng: &mut impl CryptoRng) -> Result<Self, Error> {
        let b = typing::bootstrapping(&self.parameters)?;
        let sparse = ring::sparse_ternary(rng, self.parameters.n(), b.hamming_weight);
        Ok(Self::of(&self.parameters, sparse))
    }
    /// Makes one key of an encapsulation, to or from the sparse secret, of the same ring.
    fn encapsulation_key(
        &self,
        name: KeyName,
        limit: usize,
        sparse: &Self,
        rng: &mut impl CryptoRng,
    ) -> Result<SwitchingKey, Error> {
        let (own, sparse) = (&self.ntt.0, &sparse.ntt.0);
        match name {
            KeyName::DenseToSparse => Ok(self.switching_key(name, limit, own, sparse, rng)),
            KeyName::Raise(g) => {
                Ok(self.switching_key(name, limit, sparse, &self.turned_back(g).0, rng))
            }
            other => Err(Error::conformance("encapsulation", other.to_string())),
        }
    }
    /// The keys of a change of rings under `small`, a secret of the small ring that was drawn for them and is to be dropped; `request` says
    /// which keys are used there.
    ///
    /// # Errors
    /// [`Error::Conformance`] if the secrets are not of these rings; as [`SecretKey::evaluation_keys`].
    pub fn ring_switch_keys(
        &self,
        switch: &RingSwitch,
        small: &SecretKey,
        request: &KeyRequest,
        rng: &mut impl CryptoRng,
    ) -> Result<RingSwitchKeys, Error> {
        let wide = switch.wide().parameters();
        if &small.parameters != switch.small().parameters() || wide.n() != self.parameters.n() {
            let reason = "the secrets are not of its two rings";
            return Err(Error::conformance("change of rings", reason));
        }
        let limit = wide.key_limit(wide.residual());
        let mut key = |name| self.between(wide, small, name, limit, rng);
        Ok(RingSwitchKeys {
            down: key(KeyName::RingDown)?,
            up: key(KeyName::RingUp)?,
            small: small.evaluation_keys(request, rng)?,
        })
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
        let mut maker = KeyMaker::new(self);
        for (&name, &limit) in &request.0 {
            keys.insert(name, maker.make(name, limit, rng)?);
        }
        Ok(keys)
    }
    fn switching_key(
        &self,
        name: KeyName,
        limit: usize,
        from: &RnsPoly<Ntt>,
        to: &RnsPoly<Ntt>,
        rng: &mut impl CryptoRng,
    ) -> SwitchingKey {
        let p = &self.parameters;
        let indices = &SwitchingKey::indices(p, name, limit);
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
                    let mut e = Zeroizing::new(vec![0u64; p.n()]);
                    ring::limb::from_i64(q, &mut e, &noise);
                    p.ring().ntt(index).forward(&mut e);
                    ring::limb::mul(q, &mut limb, to.limb(index));
                    ring::limb::sub(q, &mut e, &limb);
                    let (gadget, in_digit) = match name {
                        KeyName::DenseToSparse => {
                            (q.reduce(p.prime(indices[1]).value()), index == 0)
                        }
                        KeyName::Raise(_) => {
                            let special = p.product_mod(&[p.raising_prime()], index);
                            (special, index < limit)
                        }
                        _ => (
                            if index < limit {
                                p.product_mod(p.special(), index)
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
        SwitchingKey::from_parts(seed, limit, indices.to_vec(), digits)
    }
}

/// Makes the keys of one request one after the other. What several of them share, a sparse secret or one of the small ring, is drawn once and dropped
/// with this.
#[derive(Debug)]
pub struct KeyMaker<'a> {
    secret: &'a SecretKey,
    sparse: Option<SecretKey>,
    small: Option<SecretKey>,
}

impl<'a> KeyMaker<'a> {
    /// Keys of this secret; nothing is drawn yet.
    pub fn new(secret: &'a SecretKey) -> Self {
        Self {
            secret,
            sparse: None,
            small: None,
        }
    }
    /// Makes one key that covers Q's first `limit` primes.
    ///
    /// # Errors
    /// If the parameters have no such key.
    pub fn make(
        &mut self,
        name: KeyName,
        limit: usize,
        rng: &mut impl CryptoRng,
    ) -> Result<SwitchingKey, Error> {
        let secret = self.secret;
        match name {
            KeyName::DenseToSparse | KeyName::Raise(_) => {
                let sparse = match &self.sparse {
                    Some(sparse) => sparse,
                    None => self.sparse.insert(secret.sparse_secret(rng)?),
                };
                secret.encapsulation_key(name, limit, sparse, rng)
            }
            KeyName::RingDown | KeyName::RingUp | KeyName::Small(_) => {
                let small = match &self.small {
                    Some(small) => small,
                    None => self.small.insert(secret.small_ring_secret(rng)?),
                };
                secret.small_ring_key(name, limit, small, rng)
            }
            _ => secret.key(name, limit, rng),
        }
    }
}

/// The inverse of an odd number modulo a power of two.
fn inverse_odd(g: u64, modulus: u64) -> u64 {
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

//! The evaluator: ciphertexts in, ciphertexts out. Holds public keys only.
//!
//! Key switching is hybrid \[HK20\]: digits of the modulus, special modulus P, inner products with keys whose uniform halves are
//! expanded from their seed limb by limb. Everything runs limb by limb: conversion, NTT and inner product of one limb
//! happen while it sits in the cache.

mod linear;
mod switch;

use crate::arithmetic::{Info, same_scale};
use crate::keys::{KeyName, conjugation_element, galois_element};
use crate::parameters::Level;
use crate::{
    Arithmetic, BlockMap, Ciphertext, Complex64, Encoder, Error, EvaluationKeys, Parameters,
};
use rayon::prelude::*;
use ring::buffer::AlignedVec;
use ring::{Ntt, RnsPoly, limb};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use switch::{Digits, Division, Landing, Permutation};

/// Computes on ciphertexts with one client's evaluation keys.
pub struct Evaluator {
    parameters: Parameters,
    encoder: Encoder,
    keys: EvaluationKeys,
    /// For every ring index: the square root of −1 that X^(N/2) takes in the first half of the NTT order.
    imaginary: Vec<u64>,
    permutations: Mutex<HashMap<u64, Arc<Permutation>>>,
    divisions: Mutex<HashMap<(Vec<usize>, Vec<usize>), Arc<Division>>>,
    decompositions: Mutex<HashMap<Level, Arc<Digits>>>,
    /// Encoded diagonals of the bootstrap's maps.
    pinned: Mutex<HashMap<(usize, usize, u64), Arc<linear::Plains>>>,
}

fn lock<T>(m: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner) // caches are consistent between statements
}

impl std::fmt::Debug for Evaluator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Evaluator({:?}, {} keys)",
            self.parameters,
            self.keys.request().0.len()
        )
    }
}

impl Evaluator {
    /// Takes one client's keys.
    ///
    /// # Errors
    /// Never at present: keys conform by construction.
    pub fn new(parameters: &Parameters, keys: EvaluationKeys) -> Result<Self, Error> {
        let imaginary = (0..parameters.ring().moduli().len())
            .map(|i| {
                // Y^4 in the ring of degree 8 is X^(N/2)
                let mut y = [0u64; 8];
                y[4] = 1;
                parameters.ring().ntt(i).forward_sized(&mut y);
                y[0]
            })
            .collect();
        Ok(Self {
            parameters: parameters.clone(),
            encoder: Encoder::new(parameters.max_slots()),
            keys,
            imaginary,
            permutations: Mutex::default(),
            divisions: Mutex::default(),
            decompositions: Mutex::default(),
            pinned: Mutex::default(),
        })
    }
    /// The keys.
    pub fn keys(&self) -> &EvaluationKeys {
        &self.keys
    }
    /// Gives the keys back and drops all else, such as the encoded diagonals of bootstraps: gigabytes after several kinds of them.
    pub fn into_keys(self) -> EvaluationKeys {
        self.keys
    }
    pub(crate) fn permutation(&self, g: u64) -> Arc<Permutation> {
        lock(&self.permutations)
            .entry(g)
            .or_insert_with(|| Arc::new(Permutation::new(self.parameters.spec().log_n, g)))
            .clone()
    }
    fn wrap(&self, polys: Vec<RnsPoly<Ntt>>, level: Level, scale: f64, slots: usize) -> Ciphertext {
        Ciphertext {
            polys,
            level,
            scale,
            slots,
        }
    }
    /// Encodes for one ring index; the result's length divides N (a plaintext in a subring is kept short, at least 8 words).
    fn encode_limb(&self, coefficients: &[i64], index: usize, out: &mut [u64]) {
        let q = self.parameters.prime(index);
        if coefficients.len() == out.len() {
            limb::from_i64(q, out, coefficients);
        } else {
            let gap = out.len() / coefficients.len();
            out.fill(0);
            for (j, &c) in coefficients.iter().enumerate() {
                out[j * gap] = q.from_i64(c);
            }
        }
        self.parameters.ring().ntt(index).forward_sized(out);
    }
    fn binary(
        &self,
        operation: &'static str,
        x: &Ciphertext,
        y: &Ciphertext,
        f: impl Fn(&ring::Modulus, &mut [u64], &[u64], &[u64]) + Sync,
        missing: impl Fn(&ring::Modulus, &mut [u64]) + Sync,
    ) -> Result<Ciphertext, Error> {
        check_pair(operation, x, y)?;
        let ring = self.parameters.ring();
        let count = x.polys.len().max(y.polys.len());
        let polys = (0..count)
            .map(|p| match (x.polys.get(p), y.polys.get(p)) {
                (Some(a), Some(b)) => {
                    let indices: Arc<[usize]> = a.indices().into();
                    RnsPoly::from_limbs(ring, indices, |k, out| {
                        f(a.modulus(k), out, a.limb(k), b.limb(k))
                    })
                }
                (Some(a), None) => a.clone(),
                (None, Some(b)) => {
                    let mut b = b.clone();
                    b.each_limb(|_, q, limb| missing(q, limb));
                    b
                }
                (None, None) => unreachable!("p is below the larger degree"),
            })
            .collect();
        Ok(self.wrap(polys, x.level, x.scale, x.slots.max(y.slots)))
    }
    /// The images under several automorphisms, which share one decomposition and its digits.
    fn rotate_by(&self, x: &Ciphertext, elements: &[u64]) -> Result<Vec<Ciphertext>, Error> {
        if x.polys.len() != 2 {
            return Err(Error::Degree {
                operation: "rotate",
                needed: 1,
                had: x.degree(),
            });
        }
        let keys = elements
            .iter()
            .map(|&g| {
                self.keys.find(
                    KeyName::Galois(g),
                    self.parameters.key_limit(x.level),
                    x.level.index(),
                )
            })
            .collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let d = self.decompose(x.polys[1].clone(), x.level);
        // kept for all keys; for one alone, each limb's are used where they are made
        let all = (keys.len() > 1).then(|| d.all());
        Ok(keys
            .iter()
            .zip(elements)
            .map(|(key, &g)| {
                let landing = Landing {
                    keep: self.parameters.limbs(x.level),
                    drop: self.parameters.special(),
                    plus: [Some(&x.polys[0]), None],
                    permutation: Some(&self.permutation(g)),
                };
                let polys = self.switch(&d, all.as_ref(), key, &landing).into();
                self.wrap(polys, x.level, x.scale, x.slots)
            })
            .collect())
    }
    /// A plaintext for [`Self::mul_encoded`], in NTT form: values at `scale`, for ciphertexts at `level` or below on the same chain.
    ///
    /// # Errors
    /// If the values do not fit.
    pub fn encode(&self, v: &[Complex64], scale: f64, level: Level) -> Result<EncodedPlain, Error> {
        let coefficients = self.encoder.encode(v, scale)?;
        let words = coefficients.len().max(8).min(self.parameters.n());
        let indices = self.parameters.limbs(level).clone();
        let limbs = indices
            .par_iter()
            .map(|&i| {
                let mut out = AlignedVec::dirty(words);
                self.encode_limb(&coefficients, i, &mut out);
                out
            })
            .collect();
        Ok(EncodedPlain {
            indices,
            limbs,
            scale,
            slots: v.len(),
        })
    }
    /// x·v for an encoded v: no rescale, scales multiply.
    ///
    /// # Errors
    /// If the plaintext was encoded for a lower level.
    pub fn mul_encoded(&self, x: &Ciphertext, v: &EncodedPlain) -> Result<Ciphertext, Error> {
        let indices: Arc<[usize]> = x.polys[0].indices().into();
        let at = indices
            .iter()
            .map(|i| v.indices.binary_search(i))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| Error::Levels {
                operation: "mul_encoded",
                needed: x.level.index(),
                had: v.indices.len(),
            })?;
        let polys = x
            .polys
            .iter()
            .map(|p| {
                RnsPoly::from_limbs(self.parameters.ring(), indices.clone(), |k, out| {
                    let (q, plain) = (p.modulus(k), &v.limbs[at[k]]);
                    if plain.len() == out.len() {
                        limb::mul_to(q, out, p.limb(k), plain);
                    } else {
                        limb::dot_runs(q, out, &[(p.limb(k), plain)]);
                    }
                })
            })
            .collect();
        Ok(self.wrap(polys, x.level, x.scale * v.scale, x.slots.max(v.slots)))
    }
}

/// A plaintext in NTT form, limb by limb; short where its values repeat.
pub struct EncodedPlain {
    indices: Arc<[usize]>,
    limbs: Vec<AlignedVec>,
    scale: f64,
    slots: usize,
}

impl std::fmt::Debug for EncodedPlain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EncodedPlain({} limbs)", self.limbs.len())
    }
}

fn check_pair(operation: &'static str, x: &Ciphertext, y: &Ciphertext) -> Result<(), Error> {
    if x.level != y.level {
        return Err(Error::LevelMismatch {
            operation,
            left: x.level.index(),
            right: y.level.index(),
        });
    }
    if !same_scale(x.scale, y.scale) {
        return Err(Error::ScaleMismatch {
            operation,
            left: x.scale.log2(),
            right: y.scale.log2(),
        });
    }
    Ok(())
}

/// The integer nearest to x.
#[expect(clippy::cast_possible_truncation, reason = "checked against 2^126")]
pub(crate) fn integer(x: f64) -> Result<i128, Error> {
    if x.abs() < 126f64.exp2() {
        Ok(x.round() as i128)
    } else {
        Err(Error::Encode {
            magnitude: x,
            log_scale: 0.0,
        })
    }
}

impl Arithmetic for Evaluator {
    type Value = Ciphertext;

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }
    fn info(&self, x: &Ciphertext) -> Info {
        Info {
            level: x.level,
            scale: x.scale,
            slots: x.slots,
        }
    }
    fn add(&self, x: &Ciphertext, y: &Ciphertext) -> Result<Ciphertext, Error> {
        self.binary("add", x, y, limb::add_to, |_, _| {})
    }
    fn sub(&self, x: &Ciphertext, y: &Ciphertext) -> Result<Ciphertext, Error> {
        self.binary("sub", x, y, limb::sub_to, limb::neg)
    }
    fn add_plain(&self, x: &Ciphertext, v: &[Complex64]) -> Result<Ciphertext, Error> {
        let coefficients = self.encoder.encode(v, x.scale)?;
        let mut y = x.clone();
        let n = self.parameters.n();
        let indices: Arc<[usize]> = x.polys[0].indices().into();
        let words = coefficients.len().max(8);
        let run = n / words;
        y.polys[0].each_limb(|k, q, out| {
            let mut plain = AlignedVec::dirty(words);
            self.encode_limb(&coefficients, indices[k], &mut plain);
            for (chunk, &p) in out.chunks_mut(run).zip(plain.iter()) {
                limb::add_scalar(q, chunk, p);
            }
        });
        y.slots = x.slots.max(v.len());
        Ok(y)
    }
    fn mul_plain(&self, x: &Ciphertext, v: &[Complex64], scale: f64) -> Result<Ciphertext, Error> {
        self.mul_encoded(x, &self.encode(v, scale, x.level)?)
    }
    fn linear_combination(
        &self,
        terms: &[(f64, &Ciphertext)],
        constant: f64,
        level: Level,
        scale: f64,
    ) -> Result<Ciphertext, Error> {
        let indices = self.parameters.limbs(level).clone();
        let mut prepared = Vec::with_capacity(terms.len());
        for (c, x) in terms {
            if x.level < level {
                return Err(Error::Levels {
                    operation: "linear combination",
                    needed: level.index(),
                    had: x.level.index(),
                });
            }
            let positions = switch::positions(x.polys[0].indices(), &indices);
            prepared.push((integer(c * (scale / x.scale))?, *x, positions));
        }
        let constant = integer(constant * scale)?;
        let count = terms.iter().map(|(_, x)| x.polys.len()).max().unwrap_or(2);
        let polys = (0..count)
            .map(|p| {
                RnsPoly::from_limbs(self.parameters.ring(), indices.clone(), |k, out| {
                    let q = self.parameters.prime(indices[k]);
                    let mut begun = false;
                    for (c, x, positions) in &prepared {
                        let Some(source) = x.polys.get(p).map(|x| x.limb(positions[k])) else {
                            continue;
                        };
                        if begun {
                            limb::mul_scalar_add(q, out, source, q.from_i128(*c));
                        } else {
                            limb::mul_scalar_to(q, out, source, q.from_i128(*c));
                        }
                        begun = true;
                    }
                    if !begun {
                        out.fill(0);
                    }
                    if p == 0 && constant != 0 {
                        limb::add_scalar(q, out, q.from_i128(constant));
                    }
                })
            })
            .collect();
        let slots = terms.iter().map(|(_, x)| x.slots).max().unwrap_or(1);
        Ok(self.wrap(polys, level, scale, slots))
    }
    fn mul_integer(&self, x: &Ciphertext, k: i64) -> Result<Ciphertext, Error> {
        let mut y = x.clone();
        for p in &mut y.polys {
            p.each_limb(|_, q, limb| limb::mul_scalar(q, limb, q.from_i64(k)));
        }
        Ok(y)
    }
    fn mul_i(&self, x: &Ciphertext) -> Result<Ciphertext, Error> {
        let mut y = x.clone();
        let half = self.parameters.n() / 2;
        for p in &mut y.polys {
            let indices: Arc<[usize]> = p.indices().into();
            p.each_limb(|k, q, limb| {
                let i = self.imaginary[indices[k]];
                let (first, second) = limb.split_at_mut(half);
                limb::mul_scalar(q, first, i);
                limb::mul_scalar(q, second, q.neg(i));
            });
        }
        Ok(y)
    }
    fn mul(&self, x: &Ciphertext, y: &Ciphertext) -> Result<Ciphertext, Error> {
        if x.level != y.level {
            return Err(Error::LevelMismatch {
                operation: "mul",
                left: x.level.index(),
                right: y.level.index(),
            });
        }
        if x.polys.len() != 2 || y.polys.len() != 2 {
            return Err(Error::Degree {
                operation: "mul",
                needed: 1,
                had: x.degree().max(y.degree()),
            });
        }
        let (a, b) = (&x.polys, &y.polys);
        let indices: Arc<[usize]> = a[0].indices().into();
        let polys = (0..3usize)
            .map(|p| {
                RnsPoly::from_limbs(self.parameters.ring(), indices.clone(), |k, out| {
                    let q = a[0].modulus(k);
                    match p {
                        0 => limb::mul_to(q, out, a[0].limb(k), b[0].limb(k)),
                        1 => limb::dot(
                            q,
                            out,
                            &[(a[0].limb(k), b[1].limb(k)), (a[1].limb(k), b[0].limb(k))],
                        ),
                        _ => limb::mul_to(q, out, a[1].limb(k), b[1].limb(k)),
                    }
                })
            })
            .collect();
        Ok(self.wrap(polys, x.level, x.scale * y.scale, x.slots.max(y.slots)))
    }
    fn relinearize(&self, x: &Ciphertext) -> Result<Ciphertext, Error> {
        if x.polys.len() == 2 {
            return Ok(x.clone());
        }
        let key = self.keys.find(
            KeyName::Relinearization,
            self.parameters.key_limit(x.level),
            x.level.index(),
        )?;
        let landing = Landing {
            keep: self.parameters.limbs(x.level),
            drop: self.parameters.special(),
            plus: [Some(&x.polys[0]), Some(&x.polys[1])],
            permutation: None,
        };
        let d = self.decompose(x.polys[2].clone(), x.level);
        let polys = self.switch(&d, None, &key, &landing).into();
        Ok(self.wrap(polys, x.level, x.scale, x.slots))
    }
    fn rescale(&self, x: &Ciphertext) -> Result<Ciphertext, Error> {
        let below = self.parameters.below(x.level).ok_or(Error::Levels {
            operation: "rescale",
            needed: 1,
            had: 0,
        })?;
        let keep = self.parameters.limbs(below).clone();
        let group = self.parameters.group(x.level);
        let polys = match &x.polys[..] {
            [c0, c1] => self.divide_all([c0, c1], &keep, group).into(),
            all => all.iter().map(|p| self.divide(p, &keep, group)).collect(),
        };
        Ok(self.wrap(
            polys,
            below,
            x.scale / self.parameters.modulus(x.level),
            x.slots,
        ))
    }
    fn relinearize_rescale(&self, x: &Ciphertext) -> Result<Ciphertext, Error> {
        if x.polys.len() == 2 {
            return self.rescale(x);
        }
        let p = &self.parameters;
        let key = self.keys.find(
            KeyName::Relinearization,
            self.parameters.key_limit(x.level),
            x.level.index(),
        )?;
        let below = p.below(x.level).ok_or(Error::Levels {
            operation: "rescale",
            needed: 1,
            had: 0,
        })?;
        let drop_all: Vec<usize> = p
            .group(x.level)
            .iter()
            .chain(p.special().iter())
            .copied()
            .collect();
        let landing = Landing {
            keep: p.limbs(below),
            drop: &drop_all,
            plus: [Some(&x.polys[0]), Some(&x.polys[1])],
            permutation: None,
        };
        let d = self.decompose(x.polys[2].clone(), x.level);
        let polys = self.switch(&d, None, &key, &landing).into();
        Ok(self.wrap(polys, below, x.scale / p.modulus(x.level), x.slots))
    }
    fn drop_to(&self, x: &Ciphertext, level: Level) -> Result<Ciphertext, Error> {
        if x.level == level {
            return Ok(x.clone());
        }
        if x.level < level {
            return Err(Error::Levels {
                operation: "drop",
                needed: level.index(),
                had: x.level.index(),
            });
        }
        let keep = self.parameters.limbs(level).clone();
        let polys = x
            .polys
            .iter()
            .map(|p| p.select(&switch::positions(p.indices(), &keep)))
            .collect();
        Ok(self.wrap(polys, level, x.scale, x.slots))
    }
    fn with_scale(&self, x: &Ciphertext, scale: f64) -> Result<Ciphertext, Error> {
        Ok(Ciphertext { scale, ..x.clone() })
    }
    fn rotate(&self, x: &Ciphertext, by: i64) -> Result<Ciphertext, Error> {
        if by.rem_euclid(x.slots as i64) == 0 {
            return Ok(x.clone());
        }
        Ok(self
            .rotate_by(x, &[galois_element(&self.parameters, by)])?
            .swap_remove(0))
    }
    fn conjugate(&self, x: &Ciphertext) -> Result<Ciphertext, Error> {
        Ok(self
            .rotate_by(x, &[conjugation_element(&self.parameters)])?
            .swap_remove(0))
    }
    fn mod_raise(&self, x: &Ciphertext, to: Level) -> Result<Ciphertext, Error> {
        self.raise(x, to)
    }
    fn with_slots(&self, x: &Ciphertext, slots: usize) -> Result<Ciphertext, Error> {
        if !slots.is_power_of_two() || slots > self.parameters.max_slots() {
            return Err(Error::Slots {
                operation: "with_slots",
                slots,
                most: self.parameters.max_slots(),
            });
        }
        Ok(Ciphertext { slots, ..x.clone() })
    }
    fn rotate_many(&self, x: &Ciphertext, by: &[i64]) -> Result<Vec<Ciphertext>, Error> {
        let moved = |k: &i64| k.rem_euclid(x.slots as i64) != 0;
        let elements: Vec<u64> = by
            .iter()
            .filter(|k| moved(k))
            .map(|&k| galois_element(&self.parameters, k))
            .collect();
        let mut rotated = self.rotate_by(x, &elements)?.into_iter();
        by.iter()
            .map(|k| {
                if moved(k) {
                    rotated.next().ok_or(Error::Conformance {
                        object: "rotation",
                        reason: "fewer results than elements".into(),
                    })
                } else {
                    Ok(x.clone())
                }
            })
            .collect()
    }
    fn linear(
        &self,
        xs: &[Ciphertext],
        map: &BlockMap,
        scale: f64,
    ) -> Result<Vec<Ciphertext>, Error> {
        self.linear_hoisted(xs, map, scale)
    }
}

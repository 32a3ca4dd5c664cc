//! The evaluator: ciphertexts in, ciphertexts out. Holds public keys only.
//!
//! Key switching is hybrid \[HK20\]: digits of the modulus, special modulus P, inner products with keys whose uniform halves are
//! expanded from their seed limb by limb. Everything runs limb by limb: conversion, NTT and inner product of one limb
//! happen while it sits in the cache.

mod linear;
mod narrow;
mod switch;

use crate::ciphertext::EncodedPlain;
use crate::keys::{KeyName, conjugation_element, galois_element};
use crate::ring_switch::Small;
use crate::typing::{self, Info};
use crate::{
    Arithmetic, BlockMap, Ciphertext, Coefficients, Complex64, Context, Convolution, Engine, Error,
    EvaluationKeys, KeyRequest, Level, RingSwitch, RingSwitchKeys, WeightRows, packing,
};
use ring::{Ntt, RnsPoly, limb};
use std::sync::Arc;
use switch::{ModDown, Turn};

/// Computes on ciphertexts with one client's evaluation keys; all else it shares with other clients' evaluators.
pub struct Evaluator {
    context: Context,
    keys: EvaluationKeys,
    small: Option<Box<Small<Evaluator>>>,
}

impl std::fmt::Debug for Evaluator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Evaluator({:?}, {} keys)",
            self.parameters(),
            self.keys.request().0.len()
        )
    }
}

impl Evaluator {
    /// Takes one client's keys, which conform to the context's parameters.
    pub fn new(context: &Context, keys: EvaluationKeys) -> Self {
        let small = RingSwitch::of(context).map(|switch| {
            let inner = Self::new(switch.small(), keys.in_small_ring());
            Box::new(Small::new(switch, inner))
        });
        Self {
            context: context.clone(),
            keys,
            small,
        }
    }
    /// With a small ring and its keys, which conform to it.
    #[must_use]
    pub fn with_small(mut self, switch: &RingSwitch, keys: RingSwitchKeys) -> Self {
        self.keys.insert(KeyName::RingDown, keys.down);
        self.keys.insert(KeyName::RingUp, keys.up);
        let inner = Self::new(switch.small(), keys.small);
        self.small = Some(Box::new(Small::new(switch.clone(), inner)));
        self
    }
    /// The keys.
    pub fn keys(&self) -> &EvaluationKeys {
        &self.keys
    }
    /// Gives the keys back.
    pub fn into_keys(self) -> EvaluationKeys {
        self.keys
    }
    fn binary(
        &self,
        operation: &'static str,
        x: &Ciphertext,
        y: &Ciphertext,
        f: impl Fn(&ring::Modulus, &mut [u64], &[u64], &[u64]) + Sync,
        missing: impl Fn(&ring::Modulus, &mut [u64]) + Sync,
    ) -> Result<Ciphertext, Error> {
        let info = typing::sum(operation, &x.info, &y.info)?;
        let ring = self.parameters().ring();
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
        Ok(Ciphertext { polys, info })
    }
    /// The images under several automorphisms, which share one decomposition and its digits.
    fn rotate_by(&self, x: &Ciphertext, elements: &[u64]) -> Result<Vec<Ciphertext>, Error> {
        let info = x.info;
        typing::linear_degree("rotate", &info)?;
        let keys = elements
            .iter()
            .map(|&g| self.key(KeyName::Galois(g), x.info.level))
            .collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let context = &self.context;
        let d = context.decompose(x.polys[1].clone(), x.info.level);
        // kept for all keys; for one alone, each limb's are used where they are made
        let all = (keys.len() > 1).then(|| d.all());
        Ok(keys
            .iter()
            .zip(elements)
            .map(|(key, &g)| {
                let permutation = context.permutation(g);
                let end = ModDown {
                    keep: self.parameters().limbs(x.info.level),
                    drop: self.parameters().special_at(x.info.level),
                    add: [Some(&x.polys[0]), None],
                    automorphism: Some(&permutation),
                };
                let polys = context.switch(&d, all.as_ref(), key, &end).into();
                Ciphertext { polys, info }
            })
            .collect())
    }
    /// Every polynomial times what stands for an integer modulo each prime.
    fn times(&self, x: &Ciphertext, factor: impl Fn(&ring::Modulus) -> u64 + Sync) -> Ciphertext {
        let ring = self.parameters().ring();
        let polys = x.polys.iter().map(|p| {
            RnsPoly::from_limbs(ring, p.indices(), |k, out| {
                let q = p.modulus(k);
                limb::mul_scalar_to(q, out, p.limb(k), factor(q));
            })
        });
        Ciphertext {
            polys: polys.collect(),
            info: x.info,
        }
    }
    fn key(&self, name: KeyName, level: Level) -> Result<Arc<crate::SwitchingKey>, Error> {
        let limit = self.parameters().key_limit(level);
        self.keys.find(name, limit, level.index())
    }
    /// The key that leads a raised ciphertext from the sparse secret, and the rotation after it.
    fn raising(&self, by: usize, to: Level) -> Result<Turn, Error> {
        let g = galois_element(self.parameters(), by as i64);
        Ok((
            self.key(KeyName::Raise(g), to)?,
            self.context.permutation(g),
        ))
    }
    /// A value of degree 2 switched to degree 1, divided by P and by `group`, whose primes end the level's.
    fn relinearized(
        &self,
        x: &Ciphertext,
        to: Level,
        group: &[usize],
    ) -> Result<Vec<RnsPoly<ring::Ntt>>, Error> {
        let p = self.parameters();
        let key = self.key(KeyName::Relinearization, x.info.level)?;
        let special = p.special_at(x.info.level);
        let drop: Vec<usize> = group.iter().chain(special).copied().collect();
        let end = ModDown {
            keep: p.limbs(to),
            drop: &drop,
            add: [Some(&x.polys[0]), Some(&x.polys[1])],
            automorphism: None,
        };
        let d = self.context.decompose(x.polys[2].clone(), x.info.level);
        Ok(self.context.switch(&d, None, &key, &end).into())
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
                needed: x.info.level.index(),
                had: v.level.index(),
            })?;
        let info = typing::plain(self.parameters(), "mul_encoded", &x.info, v.slots, v.scale)?;
        let polys = x
            .polys
            .iter()
            .map(|p| {
                RnsPoly::from_limbs(self.parameters().ring(), indices.clone(), |k, out| {
                    let (q, plain) = (p.modulus(k), &v.limbs[at[k]]);
                    if plain.len() == out.len() {
                        limb::mul_to(q, out, p.limb(k), plain);
                    } else {
                        limb::dot_runs(q, out, &[(p.limb(k), plain)]);
                    }
                })
            })
            .collect();
        Ok(Ciphertext { polys, info })
    }
}

/// Limb k of polynomial p of the product of two values of degree 1.
fn product_limb(
    q: &ring::Modulus,
    (a, b): (&[RnsPoly<Ntt>], &[RnsPoly<Ntt>]),
    (p, k): (usize, usize),
    out: &mut [u64],
) {
    match p {
        0 => limb::mul_to(q, out, a[0].limb(k), b[0].limb(k)),
        1 => limb::dot(
            q,
            out,
            &[(a[0].limb(k), b[1].limb(k)), (a[1].limb(k), b[0].limb(k))],
        ),
        _ => limb::mul_to(q, out, a[1].limb(k), b[1].limb(k)),
    }
}

/// A term of a sum: the integer that lifts it to the sum's scale, and where the sum's limbs lie among its own.
type Prepared<'a> = (i128, &'a Ciphertext, Vec<usize>);

fn prepared<'a>(
    terms: &[(f64, &'a Ciphertext)],
    indices: &[usize],
    scale: f64,
) -> Result<Vec<Prepared<'a>>, Error> {
    let one = |&(c, x): &(f64, &'a Ciphertext)| {
        let positions = switch::positions(x.polys[0].indices(), indices);
        Ok((integer(c * (scale / x.info.scale))?, x, positions))
    };
    terms.iter().map(one).collect()
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

    fn context(&self) -> &Context {
        &self.context
    }
    fn info(&self, x: &Ciphertext) -> Info {
        x.info
    }
    fn add(&self, x: &Ciphertext, y: &Ciphertext) -> Result<Ciphertext, Error> {
        self.binary("add", x, y, limb::add_to, |_, _| {})
    }
    fn sub(&self, x: &Ciphertext, y: &Ciphertext) -> Result<Ciphertext, Error> {
        self.binary("sub", x, y, limb::sub_to, limb::neg)
    }
    fn add_plain(&self, x: &Ciphertext, v: &[Complex64]) -> Result<Ciphertext, Error> {
        let info = typing::plain(self.parameters(), "add_plain", &x.info, v.len(), 1.0)?;
        let coefficients = self.context.encoder().encode(v, x.info.scale)?;
        let mut y = x.clone();
        let indices: Arc<[usize]> = x.polys[0].indices().into();
        y.polys[0].each_limb(|k, q, out| {
            let plain = self.context.encode_limb(&coefficients, indices[k]);
            let run = out.len() / plain.len();
            for (chunk, &p) in out.chunks_mut(run).zip(plain.iter()) {
                limb::add_scalar(q, chunk, p);
            }
        });
        y.info = info;
        Ok(y)
    }
    fn mul_plain(&self, x: &Ciphertext, v: &[Complex64], scale: f64) -> Result<Ciphertext, Error> {
        self.mul_encoded(x, &self.context.encode(v, scale, x.info.level)?)
    }
    fn linear_combination(
        &self,
        terms: &[(f64, &Ciphertext)],
        constant: f64,
        level: Level,
        scale: f64,
    ) -> Result<Ciphertext, Error> {
        let info = typing::combination(terms.iter().map(|(_, x)| x.info), level, scale)?;
        let indices = self.parameters().limbs(level).clone();
        let prepared = prepared(terms, &indices, scale)?;
        let constant = integer(constant * scale)?;
        let polys = (0..=info.degree)
            .map(|p| {
                RnsPoly::from_limbs(self.parameters().ring(), indices.clone(), |k, out| {
                    let q = self.parameters().prime(indices[k]);
                    let factors: Vec<([u64; 1], &[u64])> = prepared
                        .iter()
                        .filter_map(|(c, x, at)| {
                            Some(([q.from_i128(*c)], x.polys.get(p)?.limb(at[k])))
                        })
                        .collect();
                    match &factors[..] {
                        [([c], x)] => limb::mul_scalar_to(q, out, x, *c),
                        all => {
                            let pairs: Vec<_> = all.iter().map(|(c, x)| (*x, &c[..])).collect();
                            limb::dot_runs(q, out, &pairs);
                        }
                    }
                    if p == 0 && constant != 0 {
                        limb::add_scalar(q, out, q.from_i128(constant));
                    }
                })
            })
            .collect();
        Ok(Ciphertext { polys, info })
    }
    fn mul_combination(
        &self,
        (factor, x, y): (f64, &Ciphertext, &Ciphertext),
        terms: &[(f64, &Ciphertext)],
        constant: f64,
    ) -> Result<Ciphertext, Error> {
        let product = typing::product(&x.info, &y.info)?;
        let (level, scale) = (product.level, product.scale);
        let infos = std::iter::once(product).chain(terms.iter().map(|(_, x)| x.info));
        let info = typing::combination(infos, level, scale)?;
        let indices = self.parameters().limbs(level).clone();
        let prepared = prepared(terms, &indices, scale)?;
        let (factor, constant) = (integer(factor)?, integer(constant * scale)?);
        let polys = (0..3usize)
            .map(|p| {
                RnsPoly::from_limbs(self.parameters().ring(), indices.clone(), |k, out| {
                    let q = self.parameters().prime(indices[k]);
                    product_limb(q, (&x.polys, &y.polys), (p, k), out);
                    if factor != 1 {
                        limb::mul_scalar(q, out, q.from_i128(factor));
                    }
                    for (c, x, at) in &prepared {
                        if let Some(x) = x.polys.get(p) {
                            limb::mul_scalar_add(q, out, x.limb(at[k]), q.from_i128(*c));
                        }
                    }
                    if p == 0 && constant != 0 {
                        limb::add_scalar(q, out, q.from_i128(constant));
                    }
                })
            })
            .collect();
        Ok(Ciphertext { polys, info })
    }
    fn mul_integer(&self, x: &Ciphertext, k: i64) -> Result<Ciphertext, Error> {
        Ok(self.times(x, |q| q.from_i64(k)))
    }
    fn divide_exactly(&self, x: &Ciphertext, m: u64) -> Result<Ciphertext, Error> {
        Ok(self.times(x, |q| q.inv(q.reduce(m))))
    }
    fn shift(&self, x: &Coefficients, exponent: i64) -> Result<Coefficients, Error> {
        let x = x.value();
        let factor = self.context.monomial(exponent);
        let polys = x.polys.iter().map(|c| factor.times(c)).collect();
        Coefficients::of(self, Ciphertext { polys, ..*x })
    }
    fn weigh(
        &self,
        xs: &[Coefficients],
        layer: &Convolution,
        outputs: std::ops::Range<usize>,
        weights: &dyn WeightRows,
        scale: f64,
    ) -> Result<Vec<Coefficients>, Error> {
        packing::fits(self, xs, layer, &outputs)?;
        let products = self.context.weigh(xs, layer, outputs, weights, scale)?;
        let products = products.into_iter();
        products.map(|y| Coefficients::of(self, y)).collect()
    }
    fn small(&self) -> Option<&Self> {
        Some(&*self.small.as_ref()?.inner)
    }
    fn narrow(&self, x: &Coefficients) -> Result<Vec<Coefficients>, Error> {
        self.narrowed(x.value())
    }
    fn widen(&self, classes: &[Option<Coefficients>]) -> Result<Coefficients, Error> {
        Coefficients::of(self, self.widened(classes)?)
    }
    fn mul_i(&self, x: &Ciphertext) -> Result<Ciphertext, Error> {
        let half = self.parameters().n() / 2;
        let polys = x.polys.iter().map(|p| {
            let indices: Arc<[usize]> = p.indices().into();
            RnsPoly::from_limbs(self.parameters().ring(), indices.clone(), |k, out| {
                let (q, i) = (p.modulus(k), self.context.imaginary(indices[k]));
                let (first, second) = out.split_at_mut(half);
                let (from, rest) = p.limb(k).split_at(half);
                limb::mul_scalar_to(q, first, from, i);
                limb::mul_scalar_to(q, second, rest, q.neg(i));
            })
        });
        Ok(Ciphertext {
            polys: polys.collect(),
            info: x.info,
        })
    }
    fn mul(&self, x: &Ciphertext, y: &Ciphertext) -> Result<Ciphertext, Error> {
        let info = typing::product(&x.info, &y.info)?;
        let (a, b) = (&x.polys, &y.polys);
        let indices: Arc<[usize]> = a[0].indices().into();
        let polys = (0..3usize)
            .map(|p| {
                RnsPoly::from_limbs(self.parameters().ring(), indices.clone(), |k, out| {
                    product_limb(a[0].modulus(k), (a, b), (p, k), out);
                })
            })
            .collect();
        Ok(Ciphertext { polys, info })
    }
    fn relinearize(&self, x: &Ciphertext) -> Result<Ciphertext, Error> {
        if x.polys.len() == 2 {
            return Ok(x.clone());
        }
        let polys = self.relinearized(x, x.info.level, &[])?;
        let info = Info {
            degree: 1,
            ..x.info
        };
        Ok(Ciphertext { polys, info })
    }
    fn rescale(&self, x: &Ciphertext) -> Result<Ciphertext, Error> {
        let info = typing::rescaled(self.parameters(), &x.info)?;
        let keep = self.parameters().limbs(info.level);
        let group = self.parameters().group(x.info.level);
        let polys = match &x.polys[..] {
            [c0, c1] => self.context.divide_all([c0, c1], keep, group).into(),
            all => all
                .iter()
                .map(|p| self.context.divide(p, keep, group))
                .collect(),
        };
        Ok(Ciphertext { polys, info })
    }
    fn relinearize_rescale(&self, x: &Ciphertext) -> Result<Ciphertext, Error> {
        if x.polys.len() == 2 {
            return self.rescale(x);
        }
        let info = typing::rescaled(self.parameters(), &x.info)?;
        let info = Info { degree: 1, ..info };
        let group = self.parameters().group(x.info.level);
        let polys = self.relinearized(x, info.level, group)?;
        Ok(Ciphertext { polys, info })
    }
    fn drop_to(&self, x: &Ciphertext, level: Level) -> Result<Ciphertext, Error> {
        if x.info.level == level {
            return Ok(x.clone());
        }
        let info = typing::dropped(&x.info, level)?;
        let keep = self.parameters().limbs(level).clone();
        let polys = x
            .polys
            .iter()
            .map(|p| p.select(&switch::positions(p.indices(), &keep)))
            .collect();
        Ok(Ciphertext { polys, info })
    }
    fn with_scale(&self, x: &Ciphertext, scale: f64) -> Result<Ciphertext, Error> {
        let info = Info { scale, ..x.info };
        Ok(Ciphertext { info, ..x.clone() })
    }
    fn rotate(&self, x: &Ciphertext, by: i64) -> Result<Ciphertext, Error> {
        if by.rem_euclid(x.info.slots as i64) == 0 {
            return Ok(x.clone());
        }
        Ok(self
            .rotate_by(x, &[galois_element(self.parameters(), by)])?
            .swap_remove(0))
    }
    fn conjugate(&self, x: &Ciphertext) -> Result<Ciphertext, Error> {
        Ok(self
            .rotate_by(x, &[conjugation_element(self.parameters())])?
            .swap_remove(0))
    }
    fn mod_raise(&self, x: &Ciphertext, to: Level, by: &[usize]) -> Result<Ciphertext, Error> {
        let info = typing::raised(self.parameters(), &x.info, to, by.len())?;
        let turns: Vec<Turn> = by
            .iter()
            .map(|&by| self.raising(by, to))
            .collect::<Result<_, _>>()?;
        let raised = self.context.raise(&self.keys, x, to)?;
        let polys = self.context.raised_images(&raised, &turns, to).into();
        Ok(Ciphertext { polys, info })
    }
    fn raise_linear(
        &self,
        x: &Ciphertext,
        to: Level,
        map: &BlockMap,
        scale: f64,
    ) -> Result<Vec<Ciphertext>, Error> {
        self.linear_raised(x, to, map, scale)
    }
    fn with_slots(&self, x: &Ciphertext, slots: usize) -> Result<Ciphertext, Error> {
        typing::slots(self.parameters(), "with_slots", slots)?;
        let info = Info { slots, ..x.info };
        Ok(Ciphertext { info, ..x.clone() })
    }
    fn rotate_many(&self, x: &Ciphertext, by: &[i64]) -> Result<Vec<Ciphertext>, Error> {
        let moved = |k: &i64| k.rem_euclid(x.info.slots as i64) != 0;
        let elements: Vec<u64> = by
            .iter()
            .filter(|k| moved(k))
            .map(|&k| galois_element(self.parameters(), k))
            .collect();
        let mut rotated = self.rotate_by(x, &elements)?.into_iter();
        by.iter()
            .map(|k| {
                let y = if moved(k) { rotated.next() } else { None };
                Ok(y.unwrap_or_else(|| x.clone()))
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

impl Engine for Evaluator {
    fn upload(&self, x: Ciphertext) -> Result<Ciphertext, Error> {
        Ok(x)
    }
    fn download(&self, x: &Ciphertext) -> Result<Ciphertext, Error> {
        Ok(x.clone())
    }
    fn key_request(&self) -> KeyRequest {
        self.keys.request()
    }
    fn held_bytes(&self) -> u64 {
        self.keys.bytes() + self.context.encoded_bytes()
    }
}

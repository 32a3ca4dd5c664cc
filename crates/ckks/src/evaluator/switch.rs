//! Key switching: decomposition into digits, inner products with keys, exact division by special or level primes, ModRaise.

use super::{Ciphertext, Evaluator, lock};
use crate::keys::{KeyName, SwitchingKey};
use crate::{Error, Level};
use rayon::prelude::*;
use ring::buffer::AlignedVec;
use ring::{Coeff, Conversion, Modulus, Ntt, RnsPoly, limb};
use std::sync::Arc;

/// Division of a polynomial modulo `keep ∪ drop` by the product of `drop`, rounded to the nearest integer.
pub(crate) struct Division {
    conversion: Conversion,
    /// (∏ drop)⁻¹ modulo each kept prime.
    inverses: Vec<u64>,
}

/// One digit of a decomposition at a level.
pub(crate) struct Digit {
    /// Positions of its limbs in the level's limb list.
    own: Vec<usize>,
    conversion: Conversion,
    /// For each position of the extended list (level's limbs, then P): the conversion's target, or none for its own limbs.
    targets: Vec<Option<usize>>,
}

/// How a polynomial at a level decomposes.
pub(crate) struct Digits {
    pub(crate) digits: Vec<Digit>,
    /// The level's limbs, then P's.
    pub(crate) extended: Arc<[usize]>,
    /// Number of the level's limbs.
    pub(crate) kept: usize,
}

/// A decomposed polynomial, ready for inner products at any limb.
pub(crate) struct Decomposed {
    pub(crate) shape: Arc<Digits>,
    ntt: RnsPoly<Ntt>,
    parts: Vec<(AlignedVec, AlignedVec)>,
}

impl Decomposed {
    /// Limb `position` (of the extended list) of one digit, in NTT form.
    pub(crate) fn limb(&self, digit: usize, position: usize, out: &mut [u64]) {
        let d = &self.shape.digits[digit];
        match d.targets[position] {
            None => out.copy_from_slice(self.ntt.limb(position)),
            Some(target) => {
                let (y, v) = &self.parts[digit];
                d.conversion.finish(y, v, target, out);
                self.ntt
                    .ring()
                    .ntt(self.shape.extended[position])
                    .forward(out);
            }
        }
    }
}

/// Positions of `wanted` in `list` (both ascending).
pub(crate) fn positions(list: &[usize], wanted: &[usize]) -> Vec<usize> {
    wanted
        .iter()
        .map(|w| {
            list.binary_search(w)
                .expect("a lower level's limbs are among a higher level's")
        })
        .collect()
}

impl Evaluator {
    /// How many of Q's primes a key must cover for a level.
    pub(crate) fn limit(&self, level: Level) -> usize {
        limit(&self.parameters, level)
    }
    pub(crate) fn digits(&self, level: Level) -> Arc<Digits> {
        lock(&self.decompositions)
            .entry(level)
            .or_insert_with(|| {
                let p = &self.parameters;
                let kept = p.limbs(level).clone();
                let extended: Arc<[usize]> =
                    kept.iter().chain(p.special().iter()).copied().collect();
                let digits = p
                    .digits()
                    .iter()
                    .filter_map(|range| {
                        let own: Vec<usize> = (0..kept.len())
                            .filter(|&k| range.contains(&kept[k]))
                            .collect();
                        if own.is_empty() {
                            return None;
                        }
                        let source: Vec<Modulus> = own.iter().map(|&k| *p.prime(kept[k])).collect();
                        let mut target = Vec::new();
                        let targets = (0..extended.len())
                            .map(|k| {
                                (!own.contains(&k)).then(|| {
                                    target.push(*p.prime(extended[k]));
                                    target.len() - 1
                                })
                            })
                            .collect();
                        let conversion = Conversion::new(&source, &target)
                            .expect("distinct primes, at most a digit's number");
                        Some(Digit {
                            own,
                            conversion,
                            targets,
                        })
                    })
                    .collect();
                Arc::new(Digits {
                    digits,
                    extended,
                    kept: kept.len(),
                })
            })
            .clone()
    }
    pub(crate) fn decompose(&self, c: &RnsPoly<Ntt>, level: Level) -> Decomposed {
        let coefficients = c.clone().into_coeff(self.parameters.ring());
        self.decompose_from(c.clone(), &coefficients, level)
    }
    /// The same polynomial in both forms.
    pub(crate) fn decompose_from(
        &self,
        ntt: RnsPoly<Ntt>,
        coefficients: &RnsPoly<Coeff>,
        level: Level,
    ) -> Decomposed {
        let shape = self.digits(level);
        let n = self.parameters.n();
        let parts = shape
            .digits
            .iter()
            .map(|d| {
                let source: Vec<&[u64]> = d.own.iter().map(|&k| coefficients.limb(k)).collect();
                let mut y = AlignedVec::dirty(d.own.len() * n);
                let mut v = AlignedVec::dirty(n);
                d.conversion.prepare(&source, &mut y, &mut v);
                (y, v)
            })
            .collect();
        Decomposed { shape, ntt, parts }
    }
    /// Σ_d digit_d·(b_d, a_d) over the extended limbs.
    pub(crate) fn inner_product(
        &self,
        d: &Decomposed,
        key: &SwitchingKey,
    ) -> (RnsPoly<Ntt>, RnsPoly<Ntt>) {
        let ring = self.parameters.ring();
        let extended = d.shape.extended.clone();
        let mut u0 = RnsPoly::<Ntt>::zero(ring, extended.clone());
        let mut u1 = RnsPoly::<Ntt>::zero(ring, extended.clone());
        let digits = d.shape.digits.len();
        u0.par_limbs_mut()
            .zip(u1.par_limbs_mut())
            .enumerate()
            .for_each(|(k, (u0, u1))| {
                let mut scratch = Scratch::new(digits, self.parameters.n());
                scratch.fill(d, k);
                scratch.times_key(self.parameters.prime(extended[k]), extended[k], key, u0, u1);
            });
        (u0, u1)
    }
    fn division(&self, keep: &[usize], drop: &[usize]) -> Arc<Division> {
        lock(&self.divisions)
            .entry((keep.to_vec(), drop.to_vec()))
            .or_insert_with(|| {
                let p = &self.parameters;
                let source: Vec<Modulus> = drop.iter().map(|&i| *p.prime(i)).collect();
                let target: Vec<Modulus> = keep.iter().map(|&i| *p.prime(i)).collect();
                let inverses = target
                    .iter()
                    .map(|q| {
                        q.inv(
                            source
                                .iter()
                                .fold(1, |acc, d| q.mul(acc, q.reduce(d.value()))),
                        )
                    })
                    .collect();
                Arc::new(Division {
                    conversion: Conversion::new(&source, &target).expect("distinct primes, few"),
                    inverses,
                })
            })
            .clone()
    }
    /// round(x / ∏ drop) modulo `keep`; x has exactly the limbs `keep ∪ drop`.
    pub(crate) fn divide(
        &self,
        x: &RnsPoly<Ntt>,
        keep: &Arc<[usize]>,
        drop: &[usize],
    ) -> RnsPoly<Ntt> {
        let ring = self.parameters.ring();
        let division = self.division(keep, drop);
        let (y, v) = self.remainder(x, drop, &division);
        let kept = positions_any(x.indices(), keep);
        RnsPoly::from_limbs(ring, keep.clone(), |k, out| {
            let q = self.parameters.prime(keep[k]);
            let mut r = AlignedVec::dirty(ring.n());
            division.conversion.finish(&y, &v, k, &mut r);
            ring.ntt(keep[k]).forward(&mut r);
            out.copy_from_slice(x.limb(kept[k]));
            limb::sub_mul_scalar(q, out, &r, division.inverses[k]);
        })
    }
    fn remainder(
        &self,
        x: &RnsPoly<Ntt>,
        drop: &[usize],
        division: &Division,
    ) -> (AlignedVec, AlignedVec) {
        let ring = self.parameters.ring();
        let n = ring.n();
        let dropped = positions_any(x.indices(), drop);
        let rest = RnsPoly::<Coeff>::from_limbs(ring, drop.to_vec(), |k, out| {
            out.copy_from_slice(x.limb(dropped[k]));
            ring.ntt(drop[k]).inverse(out);
        });
        let source: Vec<&[u64]> = (0..drop.len()).map(|k| rest.limb(k)).collect();
        let mut y = AlignedVec::dirty(drop.len() * n);
        let mut v = AlignedVec::dirty(n);
        division.conversion.prepare(&source, &mut y, &mut v);
        (y, v)
    }
    /// ModDown: round(x/P) at a level.
    pub(crate) fn divide_special(&self, x: &RnsPoly<Ntt>, level: Level) -> RnsPoly<Ntt> {
        let special = self.parameters.special().clone();
        self.divide(x, self.parameters.limbs(level), &special)
    }
    /// ModDown, then the result decomposed.
    pub(crate) fn divide_and_decompose(&self, x: &RnsPoly<Ntt>, level: Level) -> Decomposed {
        let c = self.divide_special(x, level);
        self.decompose(&c, level)
    }
    /// ModRaise with sparse-secret encapsulation [BTH22]: switch to the sparse secret modulo q0, lift, switch back.
    pub(crate) fn raise(&self, x: &Ciphertext, to: Level) -> Result<Ciphertext, Error> {
        let p = &self.parameters;
        let ring = p.ring();
        if x.level.index() != 0 || x.polys.len() != 2 {
            return Err(Error::Levels {
                operation: "mod_raise (from level 0)",
                needed: 0,
                had: x.level.index(),
            });
        }
        let n = p.n();
        let base = *p.prime(0);
        let extra = p.encapsulation_prime();
        let down = self.keys.find(KeyName::DenseToSparse, 1, 0)?;
        let up = self
            .keys
            .find(KeyName::SparseToDense, self.limit(to), to.index())?;
        // dense → sparse modulo q0·p
        let c1 = x.polys[1].clone().into_coeff(ring);
        let both: Arc<[usize]> = [0, extra].into();
        let expander = down.expander();
        let switched: Vec<RnsPoly<Ntt>> = (0..2)
            .map(|half| {
                RnsPoly::from_limbs(ring, both.clone(), |k, out| {
                    let q = p.prime(both[k]);
                    if k == 0 {
                        out.copy_from_slice(x.polys[1].limb(0));
                    } else {
                        limb::lift_centered(&base, q, out, c1.limb(0));
                        ring.ntt(both[k]).forward(out);
                    }
                    if half == 0 {
                        limb::mul(q, out, down.b(0).limb(k));
                    } else {
                        let mut a = AlignedVec::dirty(n);
                        expander.uniform(SwitchingKey::stream(0, both[k]), q, &mut a);
                        limb::mul(q, out, &a);
                    }
                })
            })
            .collect();
        let keep: Arc<[usize]> = [0].into();
        let mut c0 = self.divide(&switched[0], &keep, &[extra]);
        let c1 = self.divide(&switched[1], &keep, &[extra]);
        c0.add_assign(&x.polys[0]);
        // lift
        let limbs = p.limbs(to).clone();
        let raise = |c: RnsPoly<Ntt>| {
            let c = c.into_coeff(ring);
            RnsPoly::<Coeff>::from_limbs(ring, limbs.clone(), |k, out| {
                if limbs[k] == 0 {
                    out.copy_from_slice(c.limb(0));
                } else {
                    limb::lift_centered(&base, p.prime(limbs[k]), out, c.limb(0));
                }
            })
        };
        let mut c0 = raise(c0).into_ntt(ring);
        let c1 = raise(c1);
        // sparse → dense
        let d = self.decompose_from(c1.clone().into_ntt(ring), &c1, to);
        let (u0, u1) = self.inner_product(&d, up);
        c0.add_assign(&self.divide_special(&u0, to));
        let c1 = self.divide_special(&u1, to);
        Ok(Ciphertext {
            polys: vec![c0, c1],
            level: to,
            scale: x.scale,
            slots: p.max_slots(),
        })
    }
}

/// Positions of `wanted` in `list`, which need not be ascending as a whole.
fn positions_any(list: &[usize], wanted: &[usize]) -> Vec<usize> {
    wanted
        .iter()
        .map(|w| {
            list.iter()
                .position(|l| l == w)
                .expect("the limbs to divide by are there")
        })
        .collect()
}

/// How many of Q's primes a key must cover for a level.
pub(crate) fn limit(parameters: &crate::Parameters, level: Level) -> usize {
    parameters.limbs(level).last().map_or(0, |&i| i + 1)
}

/// The digits of one limb, and one limb of a key's uniform half.
pub(crate) struct Scratch {
    digits: Vec<AlignedVec>,
    a: Vec<AlignedVec>,
}

impl Scratch {
    pub(crate) fn new(digits: usize, n: usize) -> Self {
        let make = || (0..digits).map(|_| AlignedVec::dirty(n)).collect();
        Self {
            digits: make(),
            a: make(),
        }
    }
    /// Loads limb `position` of every digit.
    pub(crate) fn fill(&mut self, d: &Decomposed, position: usize) {
        for (i, out) in self.digits.iter_mut().enumerate() {
            d.limb(i, position, out);
        }
    }
    /// (Σ digit·b, Σ digit·a) at the ring index that was loaded.
    pub(crate) fn times_key(
        &mut self,
        q: &Modulus,
        index: usize,
        key: &SwitchingKey,
        u0: &mut [u64],
        u1: &mut [u64],
    ) {
        let expander = key.expander();
        for (d, a) in self.a.iter_mut().enumerate() {
            expander.uniform(SwitchingKey::stream(d, index), q, a);
        }
        let at = key.position(index);
        let x: Vec<&[u64]> = self.digits.iter().map(|x| &x[..]).collect();
        let b: Vec<&[u64]> = (0..x.len()).map(|d| key.b(d).limb(at)).collect();
        let a: Vec<&[u64]> = self.a.iter().map(|a| &a[..]).collect();
        limb::dot2(q, u0, u1, &x, &b, &a);
    }
}

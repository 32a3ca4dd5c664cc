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

/// How many limbs one task works on at a time: what a basis conversion reads is then read once for all of them, and what it
/// gives still lies in a near cache when it is used.
const CHUNK: usize = 2;

/// Coefficients of an inner product at a time: both halves of a key's digits are made where the nearest caches hold them.
const TILE: usize = 4096;

/// Ranges of about [`CHUNK`] limbs that cover 0..len, as many for every thread.
pub(crate) fn chunks(len: usize) -> Vec<std::ops::Range<usize>> {
    let threads = rayon::current_num_threads();
    let count = len
        .div_ceil(CHUNK)
        .next_multiple_of(threads)
        .clamp(1, len.max(1));
    (0..count)
        .map(|c| c * len / count..(c + 1) * len / count)
        .collect()
}

/// The digits of a range of limbs in NTT form.
pub(crate) struct DigitLimbs<'a> {
    decomposed: &'a Decomposed,
    start: usize,
    /// [digit][limb of the range]; nothing where the limb is the digit's own.
    converted: Vec<Vec<Option<AlignedVec>>>,
}

impl DigitLimbs<'_> {
    /// The digits at a position of the extended list.
    pub(crate) fn at(&self, position: usize) -> Vec<&[u64]> {
        self.converted
            .iter()
            .map(|limbs| match &limbs[position - self.start] {
                Some(limb) => &limb[..],
                None => self.decomposed.ntt.limb(position),
            })
            .collect()
    }
}

impl Decomposed {
    /// Limbs `range` (positions of the extended list) of all digits.
    pub(crate) fn limbs(&self, range: &std::ops::Range<usize>) -> DigitLimbs<'_> {
        let ring = self.ntt.ring();
        let converted = self
            .shape
            .digits
            .iter()
            .zip(&self.parts)
            .map(|(digit, (y, v))| {
                let mut limbs: Vec<Option<AlignedVec>> = range
                    .clone()
                    .map(|k| digit.targets[k].map(|_| AlignedVec::dirty(ring.n())))
                    .collect();
                let mut wanted: Vec<(usize, &mut [u64])> = limbs
                    .iter_mut()
                    .zip(range.clone())
                    .filter_map(|(limb, k)| Some((digit.targets[k]?, &mut limb.as_mut()?[..])))
                    .collect();
                digit.conversion.finish_many(y, v, &mut wanted);
                for (limb, k) in limbs.iter_mut().zip(range.clone()) {
                    if let Some(limb) = limb {
                        ring.ntt(self.shape.extended[k]).forward(limb);
                    }
                }
                limbs
            })
            .collect();
        DigitLimbs {
            decomposed: self,
            start: range.start,
            converted,
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
        self.inner_products(d, &[key]).swap_remove(0)
    }
    /// The same for several keys, which share the digits.
    pub(crate) fn inner_products(
        &self,
        d: &Decomposed,
        keys: &[&SwitchingKey],
    ) -> Vec<(RnsPoly<Ntt>, RnsPoly<Ntt>)> {
        let ring = self.parameters.ring();
        let extended = d.shape.extended.clone();
        let rows: Vec<Vec<(AlignedVec, AlignedVec)>> = chunks(extended.len())
            .into_par_iter()
            .flat_map_iter(|range| {
                let digits = d.limbs(&range);
                range
                    .map(|k| {
                        let digits = digits.at(k);
                        keys.iter()
                            .map(|key| {
                                let (mut u0, mut u1) =
                                    (AlignedVec::dirty(ring.n()), AlignedVec::dirty(ring.n()));
                                self.times_key(&digits, extended[k], key, &mut u0, &mut u1);
                                (u0, u1)
                            })
                            .collect()
                    })
                    .collect::<Vec<_>>()
            })
            .collect();
        let mut columns: Vec<(Vec<AlignedVec>, Vec<AlignedVec>)> =
            keys.iter().map(|_| Default::default()).collect();
        for row in rows {
            for (column, (u0, u1)) in columns.iter_mut().zip(row) {
                column.0.push(u0);
                column.1.push(u1);
            }
        }
        columns
            .into_iter()
            .map(|(u0, u1)| {
                (
                    RnsPoly::from_parts(ring, extended.clone(), u0),
                    RnsPoly::from_parts(ring, extended.clone(), u1),
                )
            })
            .collect()
    }
    /// (Σ digit·b, Σ digit·a) at a ring index.
    pub(crate) fn times_key(
        &self,
        digits: &[&[u64]],
        index: usize,
        key: &SwitchingKey,
        u0: &mut [u64],
        u1: &mut [u64],
    ) {
        let q = self.parameters.prime(index);
        let expander = key.expander();
        let at = key.position(index);
        let count = digits.len();
        let tile = TILE.min(u0.len());
        let mut streams: Vec<_> = (0..count)
            .map(|d| expander.begin(SwitchingKey::stream(d, index), q))
            .collect();
        let mut halves = AlignedVec::dirty(2 * count * tile);
        for start in (0..u0.len()).step_by(tile) {
            let span = start..start + tile;
            for (d, half) in halves.chunks_exact_mut(2 * tile).enumerate() {
                let (a, b) = half.split_at_mut(tile);
                streams[d].fill(a);
                key.b(d, at).unpack(start, b);
            }
            let (a, b): (Vec<&[u64]>, Vec<&[u64]>) = halves
                .chunks_exact(2 * tile)
                .map(|half| half.split_at(tile))
                .unzip();
            let x: Vec<&[u64]> = digits.iter().map(|x| &x[span.clone()]).collect();
            limb::dot2(q, &mut u0[span.clone()], &mut u1[span], &x, &b, &a);
        }
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
    /// round(x / ∏ drop) modulo `keep` for every x; they have exactly the limbs `keep ∪ drop`.
    pub(crate) fn divide_all<const M: usize>(
        &self,
        xs: [&RnsPoly<Ntt>; M],
        keep: &Arc<[usize]>,
        drop: &[usize],
    ) -> [RnsPoly<Ntt>; M] {
        let ring = self.parameters.ring();
        let n = ring.n();
        let division = self.division(keep, drop);
        let dropped = positions_any(xs[0].indices(), drop);
        let kept = positions_any(xs[0].indices(), keep);
        let mut rest: Vec<AlignedVec> = (0..M * drop.len())
            .into_par_iter()
            .map(|i| {
                let (m, k) = (i / drop.len(), i % drop.len());
                let mut limb = AlignedVec::dirty(n);
                limb.copy_from_slice(xs[m].limb(dropped[k]));
                ring.ntt(drop[k]).inverse(&mut limb);
                limb
            })
            .collect();
        // a remainder modulo one prime is lifted as it is
        let single = (drop.len() == 1).then(|| self.parameters.prime(drop[0]));
        let mut remainders: Vec<(AlignedVec, AlignedVec)> = Vec::with_capacity(M);
        if single.is_none() {
            remainders.extend(rest.chunks(drop.len()).map(|rest| {
                let source: Vec<&[u64]> = rest.iter().map(|limb| &limb[..]).collect();
                let (mut y, mut v) = (AlignedVec::dirty(drop.len() * n), AlignedVec::dirty(n));
                division.conversion.prepare(&source, &mut y, &mut v);
                (y, v)
            }));
            rest.clear();
        }
        let limbs: Vec<Vec<AlignedVec>> = chunks(keep.len())
            .into_par_iter()
            .flat_map_iter(|range| {
                let mut limbs: Vec<Vec<AlignedVec>> = range
                    .clone()
                    .map(|_| (0..M).map(|_| AlignedVec::dirty(n)).collect())
                    .collect();
                for (m, (y, v)) in remainders.iter().enumerate() {
                    let mut wanted: Vec<(usize, &mut [u64])> = range
                        .clone()
                        .zip(&mut limbs)
                        .map(|(k, limbs)| (k, &mut limbs[m][..]))
                        .collect();
                    division.conversion.finish_many(y, v, &mut wanted);
                }
                for (k, limbs) in range.zip(&mut limbs) {
                    let q = self.parameters.prime(keep[k]);
                    for (m, (x, r)) in xs.iter().zip(limbs).enumerate() {
                        if let Some(base) = single {
                            limb::lift_centered(base, q, r, &rest[m]);
                        }
                        ring.ntt(keep[k]).forward(r);
                        // (x − r)/∏ drop
                        limb::sub_mul_scalar(q, r, x.limb(kept[k]), q.neg(division.inverses[k]));
                    }
                }
                limbs
            })
            .collect();
        let mut columns: [Vec<AlignedVec>; M] =
            std::array::from_fn(|_| Vec::with_capacity(keep.len()));
        for row in limbs {
            columns
                .iter_mut()
                .zip(row)
                .for_each(|(c, limb)| c.push(limb));
        }
        columns.map(|c| RnsPoly::from_parts(ring, keep.clone(), c))
    }
    pub(crate) fn divide(
        &self,
        x: &RnsPoly<Ntt>,
        keep: &Arc<[usize]>,
        drop: &[usize],
    ) -> RnsPoly<Ntt> {
        let [y] = self.divide_all([x], keep, drop);
        y
    }
    /// ModDown: round(x/P) at a level.
    pub(crate) fn divide_special<const M: usize>(
        &self,
        xs: [&RnsPoly<Ntt>; M],
        level: Level,
    ) -> [RnsPoly<Ntt>; M] {
        let special = self.parameters.special().clone();
        self.divide_all(xs, self.parameters.limbs(level), &special)
    }
    /// ModDown, then the result decomposed.
    pub(crate) fn divide_and_decompose(&self, x: &RnsPoly<Ntt>, level: Level) -> Decomposed {
        let [c] = self.divide_special([x], level);
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
        let limit = self.limit(to);
        self.keys.check(KeyName::SparseToDense, limit, to.index())?;
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
                    let mut key = AlignedVec::dirty(n);
                    if half == 0 {
                        down.b(0, k).unpack(0, &mut key);
                    } else {
                        expander.uniform(SwitchingKey::stream(0, both[k]), q, &mut key);
                    }
                    limb::mul(q, out, &key);
                })
            })
            .collect();
        let keep: Arc<[usize]> = [0].into();
        drop(down);
        let [mut c0, c1] = self.divide_all([&switched[0], &switched[1]], &keep, &[extra]);
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
        let up = self.keys.find(KeyName::SparseToDense, limit, to.index())?;
        let (u0, u1) = self.inner_product(&d, &up);
        let [v0, c1] = self.divide_special([&u0, &u1], to);
        c0.add_assign(&v0);
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

//! Block maps by double-hoisted baby-step giant-step [BMTH21, Alg. 6], limb by limb.
//!
//! Babies share one decomposition and stay in QP; products with the diagonals accumulate in QP; each giant step costs one
//! ModDown of one polynomial and one inner product; one division by P and the level's primes ends the map.

use super::switch::{DigitLimbs, KeyLimb, chunks};
use super::{Evaluator, lock};
use crate::arithmetic::same_scale;
use crate::keys::{KeyName, galois_element};
use crate::{Arithmetic, BlockMap, Ciphertext, Complex64, Error};
use rayon::prelude::*;
use ring::buffer::AlignedVec;
use ring::{Ntt, RnsPoly, limb};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// The diagonals of a map, rotated back by their giant steps.
pub(crate) enum Plains {
    /// As small integers; encoded limb by limb where they are used.
    Coefficients(Vec<Vec<i64>>),
    /// Encoded, [term][ring index], for the limbs of the chain without skipped levels: for maps that are used again and again.
    Encoded(Vec<Vec<Option<AlignedVec>>>),
}

/// A borrowed or an owned encoded limb.
enum Cow<'a, T> {
    Borrowed(&'a T),
    Owned(T),
}

impl<T> std::ops::Deref for Cow<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        match self {
            Cow::Borrowed(x) => x,
            Cow::Owned(x) => x,
        }
    }
}

/// Coefficients that all giant steps go through before the next ones: a tile of 16 babies takes half a second-level cache.
const TILE: usize = 4096;

/// Diagonals of which a limb is encoded at a time, on each thread: half a mebibyte each.
const ENCODED: usize = 512;

/// A rotated input's limb and a diagonal's.
type Factor<'a> = (&'a (AlignedVec, AlignedVec), Cow<'a, AlignedVec>);

/// A pair of accumulators in QP.
type Pair = (RnsPoly<Ntt>, RnsPoly<Ntt>);

impl Evaluator {
    fn encode_term(&self, coefficients: &[i64], index: usize) -> AlignedVec {
        let mut plain = AlignedVec::dirty(coefficients.len().max(8));
        self.encode_limb(coefficients, index, &mut plain);
        plain
    }
    fn plains(
        &self,
        map: &BlockMap,
        level: crate::Level,
        scale: f64,
    ) -> Result<Arc<Plains>, Error> {
        // scales that differ by the order of operations only are one: kept plaintexts do not depend on who came first
        let scale = match map.pin() {
            Some(_) => f64::from_bits((scale.to_bits() + 0x80) & !0xff),
            None => scale,
        };
        let make = || -> Result<Vec<Vec<i64>>, Error> {
            map.terms()
                .par_iter()
                .map(|t| {
                    let len = t.values.len();
                    let v: Vec<Complex64> = (0..len)
                        .map(|j| t.values.at(j + len - t.giant % len))
                        .collect();
                    self.encoder.encode(&v, scale)
                })
                .collect()
        };
        let Some(pin) = map.pin() else {
            return Ok(Arc::new(Plains::Coefficients(make()?)));
        };
        // one set of limbs serves every target level; scales differ where a gain enters
        let key = (pin, level.index(), scale.to_bits());
        if let Some(found) = lock(&self.pinned).get(&key) {
            return Ok(found.clone());
        }
        let extended = self
            .digits(crate::Level::new(level.index()))
            .extended
            .clone();
        let most = self.parameters.ring().moduli().len();
        let encoded = make()?
            .into_par_iter()
            .map(|c| {
                let mut limbs: Vec<Option<AlignedVec>> = (0..most).map(|_| None).collect();
                for &i in extended.iter() {
                    limbs[i] = Some(self.encode_term(&c, i));
                }
                limbs
            })
            .collect();
        let plains = Arc::new(Plains::Encoded(encoded));
        lock(&self.pinned).insert(key, plains.clone());
        Ok(plains)
    }
    pub(crate) fn linear_hoisted(
        &self,
        xs: &[Ciphertext],
        map: &BlockMap,
        scale: f64,
    ) -> Result<Vec<Ciphertext>, Error> {
        let (level, plain_scale) = crate::map::prepare(self, xs, map, scale)?;
        if let Some(x) = xs.iter().find(|x| x.polys.len() != 2) {
            return Err(Error::Degree {
                operation: "linear",
                needed: 1,
                had: x.degree(),
            });
        }
        let p = &self.parameters;
        let ring = p.ring();
        let n = p.n();
        let slots = map.slots() as i64;
        // nothing where a rotation leaves every slot in its place
        let element =
            |by: usize| ((by as i64).rem_euclid(slots) != 0).then(|| galois_element(p, by as i64));
        let limit = p.key_limit(level);
        let key_of = |g: u64| self.keys.find(KeyName::Galois(g), limit, level.index());
        let babies: Vec<Vec<usize>> = (0..map.inputs()).map(|i| map.babies(i)).collect();
        let groups: Vec<(usize, usize)> = (0..map.outputs())
            .flat_map(|o| map.giants(o).into_iter().map(move |g| (o, g)))
            .collect();
        // a missing key is reported before any work
        let steps = babies.iter().flatten().chain(groups.iter().map(|(_, g)| g));
        for g in steps.filter_map(|&by| element(by)) {
            self.keys.check(KeyName::Galois(g), limit, level.index())?;
        }
        // Every limb needs all baby steps, so their keys are held together; a giant step's is taken when it comes.
        let moving = babies.iter().flatten().filter_map(|&by| element(by));
        let held: BTreeMap<u64, _> = moving
            .collect::<BTreeSet<u64>>()
            .into_iter()
            .map(|g| Ok((g, (key_of(g)?, self.permutation(g)))))
            .collect::<Result<_, Error>>()?;
        let baby_keys: Vec<Vec<_>> = babies
            .iter()
            .map(|bs| {
                bs.iter()
                    .map(|&by| element(by).map(|g| &held[&g]))
                    .collect()
            })
            .collect();
        let plains = self.plains(map, level, plain_scale)?;
        let mut terms_of: BTreeMap<(usize, usize), Vec<(usize, usize, usize)>> = BTreeMap::new();
        for (k, t) in map.terms().iter().enumerate() {
            let b = babies[t.input]
                .binary_search(&t.baby)
                .expect("babies lists every baby step");
            terms_of
                .entry((t.output, t.giant))
                .or_default()
                .push((t.input, b, k));
        }
        // giant steps whose diagonals are encoded at a time
        let mut together: Vec<Range<usize>> = Vec::new();
        let mut terms = 0;
        for (i, group) in groups.iter().enumerate() {
            let more = terms_of[group].len();
            match together.last_mut() {
                Some(last) if terms + more <= ENCODED => (last.end, terms) = (i + 1, terms + more),
                _ => {
                    together.push(i..i + 1);
                    terms = more;
                }
            }
        }
        let decomposed: Vec<_> = xs
            .iter()
            .zip(&baby_keys)
            .map(|(x, keys)| {
                keys.iter()
                    .any(Option::is_some)
                    .then(|| self.decompose(x.polys[1].clone(), level))
            })
            .collect();
        let shape = self.digits(level);
        // without a rotation nothing is ever modulo P
        let moves = map.moves();
        let extended = if moves {
            shape.extended.clone()
        } else {
            p.limbs(level).clone()
        };
        let pieces = chunks(extended.len());
        let limb_of = |k: usize,
                       digits: &[Option<DigitLimbs<'_>>]|
         -> Vec<(AlignedVec, AlignedVec)> {
            let index = extended[k];
            let q = p.prime(index);
            let in_q = k < shape.kept;
            let special = if moves {
                p.special_product_mod(index)
            } else {
                1
            };
            // rotated[input][baby]: nothing where it vanishes modulo this prime (P·x modulo a special prime)
            let rotated: Vec<Vec<Option<(AlignedVec, AlignedVec)>>> = xs
                .iter()
                .enumerate()
                .map(|(i, x)| {
                    let digits = digits[i].as_ref().map_or_else(Vec::new, |d| d.at(k));
                    let mut out: Vec<Option<(AlignedVec, AlignedVec)>> =
                        Vec::with_capacity(baby_keys[i].len());
                    let mut plain_at = None;
                    for (b, key) in baby_keys[i].iter().enumerate() {
                        out.push(match key {
                            None => {
                                plain_at = Some(b);
                                None
                            }
                            Some((key, permutation)) => {
                                let expander = key.expander();
                                let mut key =
                                    KeyLimb::new(key, &expander, digits.len(), index, ring);
                                let (mut u0, mut u1) =
                                    (AlignedVec::dirty(key.tile), AlignedVec::dirty(key.tile));
                                let (mut r0, mut r1) = (AlignedVec::dirty(n), AlignedVec::dirty(n));
                                for start in (0..n).step_by(key.tile) {
                                    key.times(&digits, start, &mut u0, &mut u1);
                                    if in_q {
                                        let c0 = &x.polys[0].limb(k)[start..start + key.tile];
                                        limb::mul_scalar_add(q, &mut u0, c0, special);
                                    }
                                    permutation.place(start, &u0, &mut r0);
                                    permutation.place(start, &u1, &mut r1);
                                }
                                Some((r0, r1))
                            }
                        });
                    }
                    if let (Some(b), true) = (plain_at, in_q) {
                        let lifted = [0, 1].map(|m| {
                            let mut c = AlignedVec::dirty(n);
                            limb::mul_scalar_to(q, &mut c, x.polys[m].limb(k), special);
                            c
                        });
                        out[b] = Some(lifted.into());
                    }
                    out
                })
                .collect();
            let factors_of = |group: &(usize, usize)| -> Vec<Factor<'_>> {
                let factor = |&(i, b, t): &(usize, usize, usize)| {
                    let x = rotated[i][b].as_ref()?;
                    let y = match &*plains {
                        Plains::Encoded(limbs) => Cow::Borrowed(
                            limbs[t][index]
                                .as_ref()
                                .expect("a level's limbs are among the whole chain's"),
                        ),
                        Plains::Coefficients(all) => Cow::Owned(self.encode_term(&all[t], index)),
                    };
                    Some((x, y))
                };
                terms_of[group].iter().filter_map(factor).collect()
            };
            let mut sums: Vec<(AlignedVec, AlignedVec)> = groups
                .iter()
                .map(|_| (AlignedVec::dirty(n), AlignedVec::dirty(n)))
                .collect();
            // tile by tile, so that a tile of all babies stays in the near caches for all giants
            let tile = TILE.min(n);
            for range in &together {
                let factors: Vec<Vec<Factor<'_>>> =
                    groups[range.clone()].iter().map(factors_of).collect();
                for at in (0..n).step_by(tile) {
                    for (factors, (out0, out1)) in factors.iter().zip(&mut sums[range.clone()]) {
                        let x0: Vec<&[u64]> =
                            factors.iter().map(|(x, _)| &x.0[at..at + tile]).collect();
                        let x1: Vec<&[u64]> =
                            factors.iter().map(|(x, _)| &x.1[at..at + tile]).collect();
                        let y: Vec<&[u64]> = factors
                            .iter()
                            .map(|(_, y)| {
                                let run = n / y.len();
                                &y[at / run..(at + tile).div_ceil(run)]
                            })
                            .collect();
                        limb::dot2_runs(
                            q,
                            &mut out0[at..at + tile],
                            &mut out1[at..at + tile],
                            &x0,
                            &x1,
                            &y,
                        );
                    }
                }
            }
            sums
        };
        let rows: Vec<Vec<(AlignedVec, AlignedVec)>> = pieces
            .par_iter()
            .flat_map_iter(|range| {
                let digits: Vec<Option<DigitLimbs<'_>>> = decomposed
                    .iter()
                    .map(|d| d.as_ref().map(|d| d.limbs(range)))
                    .collect();
                range
                    .clone()
                    .map(|k| limb_of(k, &digits))
                    .collect::<Vec<_>>()
            })
            .collect();
        let mut columns: Vec<(Vec<AlignedVec>, Vec<AlignedVec>)> =
            groups.iter().map(|_| Default::default()).collect();
        for row in rows {
            for (column, (s0, s1)) in columns.iter_mut().zip(row) {
                column.0.push(s0);
                column.1.push(s1);
            }
        }
        let sums = columns.into_iter().map(|(s0, s1)| -> Pair {
            (
                RnsPoly::from_parts(ring, extended.clone(), s0),
                RnsPoly::from_parts(ring, extended.clone(), s1),
            )
        });
        let mut totals: Vec<Option<Pair>> = (0..map.outputs()).map(|_| None).collect();
        drop(baby_keys);
        drop(held);
        for (&(o, giant), sum) in groups.iter().zip(sums) {
            let total = &mut totals[o];
            match element(giant) {
                None => match total {
                    None => *total = Some(sum),
                    Some(t) => {
                        t.0.add_assign(&sum.0);
                        t.1.add_assign(&sum.1);
                    }
                },
                Some(g) => {
                    let (s0, s1) = sum;
                    let d = self.divide_and_decompose(&s1, level);
                    drop(s1);
                    let (key, permutation) = (key_of(g)?, self.permutation(g));
                    let expander = key.expander();
                    let t = total.get_or_insert_with(|| {
                        (
                            RnsPoly::zero(ring, extended.clone()),
                            RnsPoly::zero(ring, extended.clone()),
                        )
                    });
                    let mut rows: Vec<(&mut [u64], &mut [u64])> =
                        t.0.limbs_mut().zip(t.1.limbs_mut()).collect();
                    let mut parts: Vec<(Range<usize>, &mut [(&mut [u64], &mut [u64])])> =
                        Vec::with_capacity(pieces.len());
                    let mut rest = &mut rows[..];
                    for range in &pieces {
                        let (part, more) = rest.split_at_mut(range.len());
                        parts.push((range.clone(), part));
                        rest = more;
                    }
                    parts.into_par_iter().for_each(|(range, part)| {
                        let digits = d.limbs(&range);
                        for (k, (t0, t1)) in range.zip(part) {
                            let (q, digits) = (p.prime(extended[k]), digits.at(k));
                            let mut key =
                                KeyLimb::new(&key, &expander, digits.len(), extended[k], ring);
                            let (mut u0, mut u1) =
                                (AlignedVec::dirty(key.tile), AlignedVec::dirty(key.tile));
                            for start in (0..n).step_by(key.tile) {
                                key.times(&digits, start, &mut u0, &mut u1);
                                limb::add(q, &mut u0, &s0.limb(k)[start..start + key.tile]);
                                permutation.add(q, start, &u0, t0);
                                permutation.add(q, start, &u1, t1);
                            }
                        }
                    });
                }
            }
        }
        let below = p.below(level).ok_or(Error::Levels {
            operation: "linear",
            needed: 1,
            had: 0,
        })?;
        let keep = p.limbs(below).clone();
        let special: &[usize] = if moves { p.special() } else { &[] };
        let drop_all: Vec<usize> = p
            .group(level)
            .iter()
            .chain(special.iter())
            .copied()
            .collect();
        totals
            .into_iter()
            .map(|t| {
                let (t0, t1) = t.expect("every output of a block map has a term");
                let y = if map.folds().is_empty() {
                    Ciphertext {
                        polys: self.divide_all([&t0, &t1], &keep, &drop_all).into(),
                        level: below,
                        scale,
                        slots: map.slots(),
                    }
                } else {
                    let polys = self.divide_special([&t0, &t1], level).into();
                    let mut y = Ciphertext {
                        polys,
                        level,
                        scale: xs[0].scale * plain_scale,
                        slots: map.slots(),
                    };
                    for &f in map.folds() {
                        y = self.add(&y, &self.rotate(&y, f as i64)?)?;
                    }
                    let y = self.rescale(&y)?;
                    debug_assert!(same_scale(y.scale, scale));
                    Ciphertext { scale, ..y }
                };
                Ok(y)
            })
            .collect()
    }
}

//! Key switching: decomposition into digits, inner products with keys, exact division by special or level primes, ModRaise.
//!
//! A key switch writes nothing modulo QP: the limbs to divide by come first, and each limb that stays is multiplied by the key,
//! divided, added to and permuted tile by tile, in the nearest caches.

use crate::keys::{EvaluationKeys, KeyName, SwitchingKey};
use crate::tables::{Digits, Permutation, TILE};
use crate::{Ciphertext, Context, Error, Level, Parameters};
use rayon::prelude::*;
use ring::buffer::AlignedVec;
use ring::{Coeff, Expander, Modulus, Ntt, RnsPoly, Uniform, limb};
use std::sync::Arc;

/// What is done with a limb of every digit and that of a key, tile by tile.
type DigitsTimesKey<'a> = dyn FnMut(usize, &[&[u64]], &mut KeyLimb<'_>) + 'a;

/// A decomposed polynomial, ready for inner products at any limb.
pub(crate) struct Decomposed {
    pub(crate) shape: Arc<Digits>,
    ntt: RnsPoly<Ntt>,
    parts: Vec<(AlignedVec, AlignedVec)>,
}

/// How many limbs one task works on at a time: what a basis conversion reads is then read once for all of them, and what it
/// gives still lies in a near cache when it is used.
const CHUNK: usize = 4;

/// One limb of a key: the products of digits with both its halves, tile by tile from the first on.
pub(crate) struct KeyLimb<'a> {
    q: &'a Modulus,
    key: &'a SwitchingKey,
    at: usize,
    streams: Vec<Uniform<'a>>,
    /// Per digit: a tile of a, a tile of b.
    halves: AlignedVec,
    /// Coefficients per tile.
    pub(crate) tile: usize,
}

impl<'a> KeyLimb<'a> {
    /// The limb at a ring index, of as many digits as there are; `expander` is the key's.
    pub(crate) fn new(
        key: &'a SwitchingKey,
        expander: &'a Expander,
        digits: usize,
        index: usize,
        ring: &'a ring::Ring,
    ) -> Self {
        let (q, tile) = (ring.modulus(index), TILE.min(ring.n()));
        Self {
            q,
            key,
            at: key
                .position(index)
                .expect("keys are checked to cover the level"),
            streams: (0..digits)
                .map(|d| expander.begin(SwitchingKey::stream(d, index), q))
                .collect(),
            halves: AlignedVec::dirty(2 * digits * tile),
            tile,
        }
    }
    /// (Σ digit·b, Σ digit·a) of the tile that begins at `start`; tiles come in order.
    pub(crate) fn times(
        &mut self,
        digits: &[&[u64]],
        start: usize,
        u0: &mut [u64],
        u1: &mut [u64],
    ) {
        let tile = self.tile;
        for (d, half) in self.halves.chunks_exact_mut(2 * tile).enumerate() {
            let (a, b) = half.split_at_mut(tile);
            self.streams[d].fill(a);
            let packed = self.key.b(d, self.at);
            if packed.whole().is_none() {
                packed.unpack(start, b);
            }
        }
        let halves = self.halves.chunks_exact(2 * tile).enumerate();
        let (a, b): (Vec<&[u64]>, Vec<&[u64]>) = halves
            .map(|(d, half)| {
                let (a, b) = half.split_at(tile);
                // read where it lies, if it is not packed
                let whole = self.key.b(d, self.at).whole();
                (a, whole.map_or(b, |w| &w[start..start + tile]))
            })
            .unzip();
        let x: Vec<&[u64]> = digits.iter().map(|x| &x[start..start + tile]).collect();
        limb::dot2(self.q, u0, u1, &x, &b, &a);
    }
}

/// What a key switch ends with: a division, a sum and an automorphism.
pub(crate) struct ModDown<'a> {
    /// The limbs that stay, the first ones of the digits' level.
    pub(crate) keep: &'a Arc<[usize]>,
    /// The other limbs of the level, then its special ones: their product is divided by.
    pub(crate) drop: &'a [usize],
    /// Polynomials at the level, added before the division after multiplication by P'.
    pub(crate) add: [Option<&'a RnsPoly<Ntt>>; 2],
    /// Applied last.
    pub(crate) automorphism: Option<&'a Permutation>,
}

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
    /// All limbs, for several inner products.
    pub(crate) fn all(&self) -> DigitLimbs<'_> {
        let parts: Vec<DigitLimbs<'_>> = chunks(self.shape.extended.len())
            .par_iter()
            .map(|range| self.limbs(range))
            .collect();
        let mut converted: Vec<Vec<Option<AlignedVec>>> =
            self.parts.iter().map(|_| Vec::new()).collect();
        for part in parts {
            for (limbs, more) in converted.iter_mut().zip(part.converted) {
                limbs.extend(more);
            }
        }
        DigitLimbs {
            decomposed: self,
            start: 0,
            converted,
        }
    }
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

impl Context {
    pub(crate) fn decompose(&self, c: RnsPoly<Ntt>, level: Level) -> Decomposed {
        let shape = self.digits(level);
        let c = match &shape.scaling {
            None => c,
            // not in place: the limbs may be shared
            Some(scaling) => RnsPoly::from_limbs(c.ring(), c.indices(), |k, out| {
                limb::mul_scalar_to(c.modulus(k), out, c.limb(k), scaling[k]);
            }),
        };
        let coefficients = c.to_coeff();
        self.decompose_scaled(shape, c, &coefficients)
    }
    /// The same polynomial in both forms, multiplied by what the shape says.
    fn decompose_scaled(
        &self,
        shape: Arc<Digits>,
        ntt: RnsPoly<Ntt>,
        coefficients: &RnsPoly<Coeff>,
    ) -> Decomposed {
        let n = self.parameters().n();
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
    /// (Σ digit·b, Σ digit·a), divided, added to and permuted as `end` says. `all` are the digits' limbs where they are kept;
    /// else each is made where it is used.
    pub(crate) fn switch(
        &self,
        d: &Decomposed,
        all: Option<&DigitLimbs<'_>>,
        key: &SwitchingKey,
        end: &ModDown<'_>,
    ) -> [RnsPoly<Ntt>; 2] {
        let (p, ring) = (self.parameters(), self.parameters().ring());
        let n = ring.n();
        let extended = &d.shape.extended;
        let stay = end.keep.len();
        assert!(
            extended[..stay] == end.keep[..] && extended[stay..] == *end.drop,
            "the limbs to keep come before those to divide by"
        );
        let expander = key.expander();
        // all digits of some limbs, and their products with the key tile by tile
        let each = |range: &std::ops::Range<usize>, f: &mut DigitsTimesKey<'_>| {
            let own = all.is_none().then(|| d.limbs(range));
            let Some(digits) = all.or(own.as_ref()) else {
                return;
            };
            for k in range.clone() {
                let digits = digits.at(k);
                let mut limb = KeyLimb::new(key, &expander, digits.len(), extended[k], ring);
                f(k, &digits, &mut limb);
            }
        };
        let special = &d.shape.special;
        // the limbs to divide by, in coefficient form
        let rest: Vec<[AlignedVec; 2]> = chunks(end.drop.len())
            .into_par_iter()
            .flat_map_iter(|range| {
                let range = stay + range.start..stay + range.end;
                let mut limbs = Vec::with_capacity(range.len());
                each(&range, &mut |k, digits, key| {
                    let mut u = [AlignedVec::dirty(n), AlignedVec::dirty(n)];
                    let [u0, u1] = &mut u;
                    for start in (0..n).step_by(key.tile) {
                        let span = start..start + key.tile;
                        key.times(digits, start, &mut u0[span.clone()], &mut u1[span]);
                    }
                    for (u, add) in u.iter_mut().zip(end.add) {
                        if let (Some(c), Some(&special)) = (add, special.get(k)) {
                            limb::mul_scalar_add(p.prime(extended[k]), u, c.limb(k), special);
                        }
                        ring.ntt(extended[k]).inverse(u);
                    }
                    limbs.push(u);
                });
                limbs
            })
            .collect();
        let division = self.division(end.keep, end.drop);
        let (rest0, rest1) = rest.into_iter().map(|[u0, u1]| (u0, u1)).unzip();
        let remainders = [rest0, rest1].map(|rest| division.prepare(rest));
        let limbs: Vec<[AlignedVec; 2]> = chunks(stay)
            .into_par_iter()
            .flat_map_iter(|range| {
                let remainders = remainders
                    .each_ref()
                    .map(|r| division.lift(r, &range, end.keep, ring));
                let mut limbs = Vec::with_capacity(range.len());
                each(&range, &mut |k, digits, key| {
                    let (q, inverse) = (p.prime(extended[k]), division.inverses[k]);
                    let factor = q.mul(special[k], inverse);
                    let mut product = [AlignedVec::dirty(key.tile), AlignedVec::dirty(key.tile)];
                    let mut out = [AlignedVec::dirty(n), AlignedVec::dirty(n)];
                    for start in (0..n).step_by(key.tile) {
                        let span = start..start + key.tile;
                        let [u0, u1] = &mut product;
                        key.times(digits, start, u0, u1);
                        for m in 0..2 {
                            let u = &mut product[m][..];
                            let r = &remainders[m][k - range.start];
                            limb::sub_mul_scalar(q, u, &r[span.clone()], inverse);
                            match end.add[m].map(|c| &c.limb(k)[span.clone()]) {
                                None => {}
                                Some(c) if factor == 1 => limb::add(q, u, c),
                                Some(c) => limb::mul_scalar_add(q, u, c, factor),
                            }
                            match end.automorphism {
                                None => out[m][span.clone()].copy_from_slice(u),
                                Some(permutation) => permutation.place(start, u, &mut out[m]),
                            }
                        }
                    }
                    limbs.push(out);
                });
                limbs
            })
            .collect();
        columns(ring, end.keep, limbs)
    }
    /// round(x / ∏ drop) modulo `keep` for every x; they have exactly the limbs `keep ∪ drop`.
    pub(crate) fn divide_all<const M: usize>(
        &self,
        xs: [&RnsPoly<Ntt>; M],
        keep: &Arc<[usize]>,
        drop: &[usize],
    ) -> [RnsPoly<Ntt>; M] {
        let ring = self.parameters().ring();
        let division = self.division(keep, drop);
        let dropped = positions(xs[0].indices(), drop);
        let kept = positions(xs[0].indices(), keep);
        let remainders = xs.map(|x| {
            let rest = (0..drop.len()).into_par_iter().map(|k| {
                let mut limb = AlignedVec::dirty(ring.n());
                ring.ntt(drop[k]).inverse_to(&mut limb, x.limb(dropped[k]));
                limb
            });
            division.prepare(rest.collect())
        });
        let limbs: Vec<[AlignedVec; M]> = chunks(keep.len())
            .into_par_iter()
            .flat_map_iter(|range| {
                let mut lifted = remainders
                    .each_ref()
                    .map(|r| division.lift(r, &range, keep, ring).into_iter());
                range
                    .map(|k| {
                        let q = self.parameters().prime(keep[k]);
                        std::array::from_fn(|m| {
                            let mut r = lifted[m].next().expect("one limb for each of the range");
                            // (x − r)/∏ drop
                            let inverse = q.neg(division.inverses[k]);
                            limb::sub_mul_scalar(q, &mut r, xs[m].limb(kept[k]), inverse);
                            r
                        })
                    })
                    .collect::<Vec<_>>()
            })
            .collect();
        columns(ring, keep, limbs)
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
    /// ModRaise with sparse-secret encapsulation \[BTH22\]: switch to the sparse secret modulo q0, lift.
    pub(crate) fn raise(
        &self,
        keys: &EvaluationKeys,
        x: &Ciphertext,
        to: Level,
    ) -> Result<Raised, Error> {
        let p = self.parameters();
        let ring = p.ring();
        let n = p.n();
        let base = *p.prime(0);
        let extra = p.encapsulation_prime();
        let down = keys.find(KeyName::DenseToSparse, 1, 0)?;
        // dense → sparse modulo q0·p
        let c1 = x.polys[1].clone().into_coeff();
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
        let special = [p.raising_prime()];
        let extended: Arc<[usize]> = limbs.iter().chain(&special).copied().collect();
        let raise = |c: RnsPoly<Ntt>, limbs: &Arc<[usize]>| {
            let c = c.into_coeff();
            let lifted = RnsPoly::<Coeff>::from_limbs(ring, limbs.clone(), |k, out| {
                if limbs[k] == 0 {
                    out.copy_from_slice(c.limb(0));
                } else {
                    limb::lift_centered(&base, p.prime(limbs[k]), out, c.limb(0));
                }
            });
            lifted.into_ntt()
        };
        Ok(Raised {
            c0: raise(c0, &limbs),
            c1: raise(c1, &extended),
            extended,
        })
    }
    /// The sum of a raised ciphertext's images under automorphisms, divided by the keys' special prime.
    pub(crate) fn raised_images(&self, x: &Raised, keys: &[Turn], to: Level) -> [RnsPoly<Ntt>; 2] {
        let p = self.parameters();
        let limbs: Vec<[AlignedVec; 2]> = chunks(x.extended.len())
            .into_par_iter()
            .flat_map_iter(|range| {
                let limb = |k: usize| {
                    let mut images = keys.iter().map(|turn| x.image(p, k, turn));
                    let (mut u0, mut u1) = images.next().expect("at least one rotation");
                    for (v0, v1) in images {
                        limb::add(p.prime(x.extended[k]), &mut u0, &v0);
                        limb::add(p.prime(x.extended[k]), &mut u1, &v1);
                    }
                    [u0, u1]
                };
                range.map(limb).collect::<Vec<_>>()
            })
            .collect();
        let [u0, u1] = columns(p.ring(), &x.extended, limbs);
        self.divide_all([&u0, &u1], p.limbs(to), &[p.raising_prime()])
    }
}

/// A key and the automorphism that is applied after it.
pub(crate) type Turn = (Arc<SwitchingKey>, Arc<Permutation>);

/// A ciphertext after ModRaise, still under the sparse secret.
pub(crate) struct Raised {
    /// Its level's limbs, then the special one of the keys that lead on.
    pub(crate) extended: Arc<[usize]>,
    /// At the level's limbs.
    c0: RnsPoly<Ntt>,
    /// At all of them: below q0, it is the only digit.
    c1: RnsPoly<Ntt>,
}

impl Raised {
    /// Limb k of an image, times the special prime.
    pub(crate) fn image(&self, p: &Parameters, k: usize, turn: &Turn) -> (AlignedVec, AlignedVec) {
        let index = self.extended[k];
        let c0 = (k + 1 < self.extended.len()).then(|| {
            let special = p.product_mod(&[p.raising_prime()], index);
            (self.c0.limb(k), special)
        });
        image(p.ring(), index, &[self.c1.limb(k)], c0, turn)
    }
}

/// One limb of (factor·c0 + Σ digit·b, Σ digit·a) under an automorphism.
pub(crate) fn image(
    ring: &ring::Ring,
    index: usize,
    digits: &[&[u64]],
    c0: Option<(&[u64], u64)>,
    (key, permutation): &Turn,
) -> (AlignedVec, AlignedVec) {
    let n = ring.n();
    let expander = key.expander();
    let mut key = KeyLimb::new(key, &expander, digits.len(), index, ring);
    let (mut u0, mut u1) = (AlignedVec::dirty(key.tile), AlignedVec::dirty(key.tile));
    let (mut r0, mut r1) = (AlignedVec::dirty(n), AlignedVec::dirty(n));
    for start in (0..n).step_by(key.tile) {
        key.times(digits, start, &mut u0, &mut u1);
        if let Some((c0, factor)) = c0 {
            limb::mul_scalar_add(
                ring.modulus(index),
                &mut u0,
                &c0[start..][..key.tile],
                factor,
            );
        }
        permutation.place(start, &u0, &mut r0);
        permutation.place(start, &u1, &mut r1);
    }
    (r0, r1)
}

/// Polynomials from their limbs, one of each in turn.
fn columns<const M: usize>(
    ring: &ring::Ring,
    indices: &Arc<[usize]>,
    rows: Vec<[AlignedVec; M]>,
) -> [RnsPoly<Ntt>; M] {
    let mut columns = [const { Vec::new() }; M];
    for row in rows {
        columns
            .iter_mut()
            .zip(row)
            .for_each(|(c, limb)| c.push(limb));
    }
    columns.map(|c| RnsPoly::from_parts(ring, indices.clone(), c))
}

/// Positions of `wanted` in `list`, which need not be ascending as a whole.
pub(crate) fn positions(list: &[usize], wanted: &[usize]) -> Vec<usize> {
    wanted
        .iter()
        .map(|w| {
            list.iter()
                .position(|l| l == w)
                .expect("a level's limbs are among those of the levels above it")
        })
        .collect()
}

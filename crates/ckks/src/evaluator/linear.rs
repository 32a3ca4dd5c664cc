//! Block maps by hoisted baby-step giant-step, limb by limb.
//!
//! Babies share one decomposition. Double-hoisted [BMTH21, Alg. 6] they stay in QP, as do products with the diagonals; each giant step, or difference of
//! two, costs one ModDown of one polynomial and one inner product. Single-hoisted [HS18] babies are divided by P, products stay in Q, and a giant step
//! costs no ModDown: cheaper where diagonals are many ([`crate::work::At::hoisting`]). One division by P and the level's primes ends the map.
//! The babies of a raised ciphertext need no decomposition ([`Raised`]) and stay modulo Q and one special prime.

use super::Evaluator;
use super::switch::{Decomposed, DigitLimbs, KeyLimb, Raised, Turn, chunks, image};
use crate::keys::{KeyName, galois_element};
use crate::linear::Typed;
use crate::map::GiantRotation;
use crate::memory::ENCODED;
use crate::tables::Plains;
use crate::typing::Info;
use crate::work::{At, Hoisting};
use crate::{Arithmetic, BlockMap, Ciphertext, Error, Level, MapSize, typing};
use rayon::prelude::*;
use ring::buffer::AlignedVec;
use ring::{Ntt, RnsPoly, limb};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// The terms of an inner sum: input, place of the baby step, term.
type Terms = Vec<(usize, usize, usize)>;

/// One limb of both polynomials of a ciphertext.
type Limbs = (AlignedVec, AlignedVec);

/// A limb of a rotated input by input and place of the baby step: nothing where it vanishes modulo this prime (P·x modulo a special prime).
type RotatedLimb<'a> = dyn Fn(usize, usize) -> Option<[&'a [u64]; 2]> + 'a;

/// A rotated input's limb and a diagonal's.
type Factor<'a> = ([&'a [u64]; 2], Cow<'a, AlignedVec>);

/// A pair of accumulators in Q or QP.
type Pair = (RnsPoly<Ntt>, RnsPoly<Ntt>);

/// What a map is of.
enum Operands<'a> {
    Ciphertexts(&'a [Ciphertext]),
    Raised(Raised),
}

/// A map's terms, arranged for its evaluation at a level.
struct Hoisted<'a> {
    evaluator: &'a Evaluator,
    operands: Operands<'a>,
    map: &'a BlockMap,
    typed: Typed,
    /// Scale of the operands.
    scale: f64,
    /// Baby steps of each input, ascending.
    babies: Vec<Vec<usize>>,
    /// (output, giant step) of each inner sum.
    groups: Vec<(usize, usize)>,
    /// The rotations of each output's inner sums.
    giant_rotations: Vec<Vec<GiantRotation>>,
    hoisting: Hoisting,
    /// Ring indices of the sums' limbs: the level's, then, of double hoisting, P's, or of a raised operand, the first of P.
    limbs: Arc<[usize]>,
    /// Those of QP.
    extended: Arc<[usize]>,
    /// How many of them are the level's.
    kept: usize,
    /// The limbs in ranges, one for each task.
    ranges: Vec<Range<usize>>,
}

impl Evaluator {
    pub(crate) fn linear_hoisted(
        &self,
        xs: &[Ciphertext],
        map: &BlockMap,
        scale: f64,
    ) -> Result<Vec<Ciphertext>, Error> {
        let typed = crate::linear::typed(self, xs, map, scale)?;
        let (operands, scale) = (Operands::Ciphertexts(xs), xs[0].info.scale);
        self.hoisted(Hoisted::new(self, operands, map, (typed, scale)))
    }
    pub(crate) fn linear_raised(
        &self,
        x: &Ciphertext,
        to: Level,
        map: &BlockMap,
        scale: f64,
    ) -> Result<Vec<Ciphertext>, Error> {
        let info = typing::raised(self.parameters(), &x.info, to, 1)?;
        let typed = crate::linear::typed_at(self.parameters(), &[info], map, scale)?;
        let raised = self.context.raise(&self.keys, x, to)?;
        let operands = Operands::Raised(raised);
        self.hoisted(Hoisted::new(self, operands, map, (typed, info.scale)))
    }
    fn hoisted(&self, map: Hoisted<'_>) -> Result<Vec<Ciphertext>, Error> {
        map.check_keys()?;
        let mut totals: Vec<Option<Pair>> = (0..map.map.outputs()).map(|_| None).collect();
        let mut sums: BTreeMap<(usize, usize), Pair> = BTreeMap::new();
        for (&(output, giant), sum) in map.groups.iter().zip(map.inner_sums()?) {
            match map.element(giant) {
                None => map.add(&mut totals[output], sum),
                Some(_) => drop(sums.insert((output, giant), sum)),
            }
        }
        for (output, giant_rotations) in map.giant_rotations.iter().enumerate() {
            for &GiantRotation { giant, onto, by } in giant_rotations {
                let Some(sum) = sums.remove(&(output, giant)) else {
                    continue;
                };
                let Some(onto) = onto else {
                    map.add_rotated(&mut totals[output], by, sum)?;
                    continue;
                };
                let mut total = sums.remove(&(output, onto));
                map.add_rotated(&mut total, by, sum)?;
                sums.extend(total.map(|total| ((output, onto), total)));
            }
        }
        totals
            .into_iter()
            .map(|t| map.finish(t.expect("every output of a block map has a term")))
            .collect()
    }
}

impl<'a> Hoisted<'a> {
    fn new(
        evaluator: &'a Evaluator,
        operands: Operands<'a>,
        map: &'a BlockMap,
        (typed, scale): (Typed, f64),
    ) -> Self {
        let shape = evaluator.context.digits(typed.level);
        let hoisting = At::new(evaluator.parameters(), typed.level).hoisting(&MapSize::of(map));
        let limbs = match (&operands, hoisting) {
            (Operands::Raised(x), _) => x.extended.clone(),
            (_, Hoisting::Double) => shape.extended.clone(),
            (_, Hoisting::Single) => evaluator.parameters().limbs(typed.level).clone(),
        };
        Self {
            evaluator,
            operands,
            map,
            typed,
            scale,
            babies: (0..map.inputs()).map(|i| map.babies(i)).collect(),
            groups: (0..map.outputs())
                .flat_map(|o| map.giants(o).into_iter().map(move |g| (o, g)))
                .collect(),
            giant_rotations: map.giant_rotations(),
            kept: shape.kept,
            ranges: chunks(limbs.len()),
            hoisting,
            limbs,
            extended: shape.extended.clone(),
        }
    }
    /// The Galois element of a step; nothing where the rotation leaves every slot in its place.
    fn element(&self, by: usize) -> Option<u64> {
        let moved = !by.is_multiple_of(self.map.slots());
        moved.then(|| galois_element(self.evaluator.parameters(), by as i64))
    }
    fn key(&self, g: u64) -> Result<Turn, Error> {
        let key = self.evaluator.key(KeyName::Galois(g), self.typed.level)?;
        Ok((key, self.evaluator.context.permutation(g)))
    }
    /// A missing key is reported before any work.
    fn check_keys(&self) -> Result<(), Error> {
        let level = self.typed.level;
        let limit = self.evaluator.parameters().key_limit(level);
        let giant_rotations = self.giant_rotations.iter().flatten().map(|c| c.by);
        let babies = self.babies.iter().flatten().copied();
        let galois = |by| self.element(by).map(KeyName::Galois);
        let names: Vec<KeyName> = match self.operands {
            Operands::Ciphertexts(_) => babies.chain(giant_rotations).filter_map(galois).collect(),
            Operands::Raised(_) => {
                let raise = |by| galois_element(self.evaluator.parameters(), by as i64);
                let babies = babies.map(|by| KeyName::Raise(raise(by)));
                babies.chain(giant_rotations.filter_map(galois)).collect()
            }
        };
        let check = |name| self.evaluator.keys.check(name, limit, level.index());
        names.into_iter().try_for_each(check)
    }
    /// The special primes of what has so many limbs, and those that it is not yet multiplied by.
    fn special(&self, limbs: usize) -> (&[usize], &[usize]) {
        let special = self.evaluator.parameters().special_at(self.typed.level);
        special.split_at(limbs - self.kept)
    }
    /// What lifts a limb of what has so many limbs to QP.
    fn lifting(&self, limbs: usize, index: usize) -> u64 {
        let p = self.evaluator.parameters();
        p.product_mod(self.special(limbs).1, index)
    }
    /// The terms of each inner sum: (input, place of the baby step, term).
    fn terms(&self) -> Vec<Terms> {
        let mut terms_of: BTreeMap<(usize, usize), Terms> = BTreeMap::new();
        for (k, t) in self.map.terms().iter().enumerate() {
            let b = self.babies[t.input]
                .binary_search(&t.baby)
                .expect("babies lists every baby step");
            terms_of
                .entry((t.output, t.giant))
                .or_default()
                .push((t.input, b, k));
        }
        self.groups
            .iter()
            .map(|g| terms_of.remove(g).unwrap_or_default())
            .collect()
    }
    /// Σ diagonal ⊙ rotated input, before each giant step.
    fn inner_sums(&self) -> Result<Vec<Pair>, Error> {
        let context = &self.evaluator.context;
        let only = match self.operands {
            Operands::Ciphertexts(_) => None,
            Operands::Raised(_) => Some(self.special(self.limbs.len()).0),
        };
        let at = (self.typed.level, self.typed.plain_scale);
        let plains = context.plains(self.map, at, only)?;
        let terms = self.terms();
        let together = together(&terms);
        let rows = match (&self.operands, self.hoisting) {
            (Operands::Raised(x), _) => {
                let turn = |&by: &usize| self.evaluator.raising(by, self.typed.level);
                let turns: Vec<Turn> =
                    (self.babies[0].iter().map(turn)).collect::<Result<_, Error>>()?;
                let row = |k: usize| {
                    let image = |turn: &Turn| x.image(context.parameters(), k, turn);
                    let images: Vec<Limbs> = turns.iter().map(image).collect();
                    let limb = |_: usize, b: usize| {
                        let (c0, c1) = &images[b];
                        Some([&c0[..], &c1[..]])
                    };
                    self.sums(k, &limb, &plains, &terms, &together)
                };
                (self.ranges.par_iter())
                    .flat_map_iter(|range| range.clone().map(row).collect::<Vec<_>>())
                    .collect()
            }
            (Operands::Ciphertexts(xs), Hoisting::Double) => {
                self.rows_in_qp(xs, &plains, &terms, &together)?
            }
            (Operands::Ciphertexts(xs), Hoisting::Single) => {
                let rotate = |(x, babies): (&Ciphertext, &Vec<usize>)| {
                    let elements: Vec<Option<u64>> =
                        babies.iter().map(|&by| self.element(by)).collect();
                    let moved: Vec<u64> = elements.iter().copied().flatten().collect();
                    let mut moved = self.evaluator.rotate_by(x, &moved)?.into_iter();
                    let each = elements.iter().map(|e| e.and_then(|_| moved.next()));
                    Ok(each.map(|y| y.unwrap_or_else(|| x.clone())).collect())
                };
                let rotated: Vec<Vec<Ciphertext>> = (xs.iter().zip(&self.babies))
                    .map(rotate)
                    .collect::<Result<_, Error>>()?;
                let row = |k: usize| {
                    let limb = |i: usize, b: usize| {
                        let polys: &[RnsPoly<Ntt>] = &rotated[i][b].polys;
                        Some([polys[0].limb(k), polys[1].limb(k)])
                    };
                    self.sums(k, &limb, &plains, &terms, &together)
                };
                (self.ranges.par_iter())
                    .flat_map_iter(|range| range.clone().map(row).collect::<Vec<_>>())
                    .collect()
            }
        };
        let mut columns: Vec<(Vec<AlignedVec>, Vec<AlignedVec>)> =
            self.groups.iter().map(|_| Default::default()).collect();
        for row in rows {
            for (column, (s0, s1)) in columns.iter_mut().zip(row) {
                column.0.push(s0);
                column.1.push(s1);
            }
        }
        let ring = context.parameters().ring();
        let poly = |limbs| RnsPoly::from_parts(ring, self.limbs.clone(), limbs);
        Ok(columns
            .into_iter()
            .map(|(s0, s1)| (poly(s0), poly(s1)))
            .collect())
    }
    /// Every limb of all inner sums of double hoisting.
    fn rows_in_qp(
        &self,
        xs: &[Ciphertext],
        plains: &Plains,
        terms: &[Terms],
        together: &[Range<usize>],
    ) -> Result<Vec<Vec<Limbs>>, Error> {
        let context = &self.evaluator.context;
        // Every limb needs all baby steps, so their keys are held together; a giant step's is taken when it comes.
        let moving = self.babies.iter().flatten();
        let held: BTreeMap<u64, Turn> = moving
            .filter_map(|&by| self.element(by))
            .collect::<BTreeSet<u64>>()
            .into_iter()
            .map(|g| Ok((g, self.key(g)?)))
            .collect::<Result<_, Error>>()?;
        let keys: Vec<Vec<Option<&Turn>>> = self
            .babies
            .iter()
            .map(|bs| {
                let key = |&by: &usize| self.element(by).map(|g| &held[&g]);
                bs.iter().map(key).collect()
            })
            .collect();
        let decomposed: Vec<Option<Decomposed>> = xs
            .iter()
            .zip(&keys)
            .map(|(x, keys)| {
                let moved = keys.iter().any(Option::is_some);
                moved.then(|| context.decompose(x.polys[1].clone(), self.typed.level))
            })
            .collect();
        let rows = self.ranges.par_iter().flat_map_iter(|range| {
            let digits: Vec<Option<DigitLimbs<'_>>> = decomposed
                .iter()
                .map(|d| d.as_ref().map(|d| d.limbs(range)))
                .collect();
            range
                .clone()
                .map(|k| {
                    let rotated = self.rotated(xs, k, &digits, &keys);
                    let limb = |i: usize, b: usize| {
                        let (c0, c1) = rotated[i][b].as_ref()?;
                        Some([&c0[..], &c1[..]])
                    };
                    self.sums(k, &limb, plains, terms, together)
                })
                .collect::<Vec<_>>()
        });
        Ok(rows.collect())
    }
    /// Limb k of every rotated input, [input][baby]: nothing where it vanishes modulo this prime (P·x modulo a special prime).
    fn rotated(
        &self,
        xs: &[Ciphertext],
        k: usize,
        digits: &[Option<DigitLimbs<'_>>],
        keys: &[Vec<Option<&Turn>>],
    ) -> Vec<Vec<Option<Limbs>>> {
        let ring = self.evaluator.parameters().ring();
        let index = self.limbs[k];
        let in_q = k < self.kept;
        let special = self.lifting(self.kept, index);
        let lifted = |x: &Ciphertext| {
            let [c0, c1] = [0, 1].map(|m| {
                let mut c = AlignedVec::dirty(ring.n());
                limb::mul_scalar_to(ring.modulus(index), &mut c, x.polys[m].limb(k), special);
                c
            });
            (c0, c1)
        };
        xs.iter()
            .zip(digits)
            .zip(keys)
            .map(|((x, digits), keys)| {
                let digits = digits.as_ref().map_or_else(Vec::new, |d| d.at(k));
                let c0 = || in_q.then(|| (x.polys[0].limb(k), special));
                keys.iter()
                    .map(|turn| match turn {
                        Some(turn) => Some(image(ring, index, &digits, c0(), turn)),
                        None => in_q.then(|| lifted(x)),
                    })
                    .collect()
            })
            .collect()
    }
    /// Limb k of every inner sum, by pieces: one of all babies stays in the nearest cache for all giants.
    fn sums<'b>(
        &'b self,
        k: usize,
        rotated: &RotatedLimb<'b>,
        plains: &'b Plains,
        terms: &[Terms],
        together: &[Range<usize>],
    ) -> Vec<Limbs> {
        let ring = self.evaluator.parameters().ring();
        let (n, index) = (ring.n(), self.limbs[k]);
        let q = ring.modulus(index);
        let factor = |&(i, b, t): &(usize, usize, usize)| -> Option<Factor<'b>> {
            let x = rotated(i, b)?;
            let y = match plains {
                Plains::Encoded(limbs) => Cow::Borrowed(
                    limbs[t][index]
                        .as_ref()
                        .expect("a level's limbs are among the whole chain's"),
                ),
                Plains::Coefficients(all) => {
                    Cow::Owned(self.evaluator.context.encode_limb(&all[t], index))
                }
            };
            Some((x, y))
        };
        let mut sums: Vec<Limbs> = self
            .groups
            .iter()
            .map(|_| (AlignedVec::dirty(n), AlignedVec::dirty(n)))
            .collect();
        for range in together {
            let factors: Vec<Vec<Factor<'_>>> = terms[range.clone()]
                .iter()
                .map(|terms| terms.iter().filter_map(factor).collect())
                .collect();
            let lists: Vec<Vec<limb::Shared<'_>>> = factors
                .iter()
                .map(|f| f.iter().map(|(x, y)| (*x, &y[..])).collect())
                .collect();
            let mut out: Vec<[&mut [u64]; 2]> = sums[range.clone()]
                .iter_mut()
                .map(|(s0, s1)| [&mut s0[..], &mut s1[..]])
                .collect();
            limb::dot2_runs_each(q, &mut out, &lists);
        }
        sums
    }
    /// A sum times those special primes that it has not yet, modulo QP.
    fn widened(&self, sum: Pair) -> Pair {
        let ring = self.evaluator.parameters().ring();
        let widen = |x: RnsPoly<Ntt>| {
            let limbs = x.indices().len();
            if limbs == self.extended.len() {
                return x;
            }
            RnsPoly::from_limbs(ring, self.extended.clone(), |k, out| {
                let index = self.extended[k];
                match k < limbs {
                    true => {
                        let factor = self.lifting(limbs, index);
                        limb::mul_scalar_to(ring.modulus(index), out, x.limb(k), factor);
                    }
                    false => out.fill(0),
                }
            })
        };
        (widen(sum.0), widen(sum.1))
    }
    /// Adds an inner sum to an output's total.
    fn add(&self, total: &mut Option<Pair>, sum: Pair) {
        *total = Some(match total.take() {
            None => sum,
            Some(t) => {
                let alike = t.0.indices().len() == sum.0.indices().len();
                let wide = |pair| if alike { pair } else { self.widened(pair) };
                let (mut t, sum) = (wide(t), wide(sum));
                t.0.add_assign(&sum.0);
                t.1.add_assign(&sum.1);
                t
            }
        });
    }
    /// Adds an inner sum, rotated, to an output's total or to another sum, modulo QP.
    fn add_rotated(&self, total: &mut Option<Pair>, giant: usize, sum: Pair) -> Result<(), Error> {
        let Some(g) = self.element(giant) else {
            self.add(total, sum);
            return Ok(());
        };
        let ring = self.evaluator.parameters().ring();
        let (s0, s1) = sum;
        let context = &self.evaluator.context;
        let (level, limbs) = (self.typed.level, s1.indices().len());
        let d = match self.special(limbs).0 {
            [] => context.decompose(s1, level),
            special => {
                let keep = context.parameters().limbs(level);
                context.decompose(context.divide(&s1, keep, special), level)
            }
        };
        let (key, permutation) = self.key(g)?;
        let expander = key.expander();
        let zero = || RnsPoly::zero(ring, self.extended.clone());
        let before = total.take().map(|t| self.widened(t));
        let t = total.insert(before.unwrap_or_else(|| (zero(), zero())));
        let mut rows: Vec<(&mut [u64], &mut [u64])> =
            t.0.limbs_mut().zip(t.1.limbs_mut()).collect();
        let ranges = chunks(self.extended.len());
        let mut parts = Vec::with_capacity(ranges.len());
        let mut rest = &mut rows[..];
        for range in ranges {
            let (part, more) = rest.split_at_mut(range.len());
            parts.push((range, part));
            rest = more;
        }
        parts.into_par_iter().for_each(|(range, part)| {
            let digits = d.limbs(&range);
            for (k, (t0, t1)) in range.zip(part) {
                let (index, digits) = (self.extended[k], digits.at(k));
                let q = ring.modulus(index);
                let mut key = KeyLimb::new(&key, &expander, digits.len(), index, ring);
                let factor = self.lifting(limbs, index);
                let (mut u0, mut u1) = (AlignedVec::dirty(key.tile), AlignedVec::dirty(key.tile));
                for start in (0..ring.n()).step_by(key.tile) {
                    key.times(&digits, start, &mut u0, &mut u1);
                    let span = start..start + key.tile;
                    match factor {
                        _ if k >= limbs => {}
                        1 => limb::add(q, &mut u0, &s0.limb(k)[span]),
                        _ => limb::mul_scalar_add(q, &mut u0, &s0.limb(k)[span], factor),
                    }
                    permutation.add(q, start, &u0, t0);
                    permutation.add(q, start, &u1, t1);
                }
            }
        });
        Ok(())
    }
    /// Divides an output's total by P and the level's primes, folded between the two where the map folds.
    fn finish(&self, (t0, t1): Pair) -> Result<Ciphertext, Error> {
        let (e, level, result) = (self.evaluator, self.typed.level, self.typed.result);
        let p = e.parameters();
        let (special, _) = self.special(t0.indices().len());
        if self.map.folds().is_empty() {
            let drop = [p.group(level), special].concat();
            let keep = p.limbs(result.level);
            let polys = e.context.divide_all([&t0, &t1], keep, &drop).into();
            return Ok(Ciphertext {
                polys,
                info: result,
            });
        }
        let info = Info {
            level,
            scale: self.scale * self.typed.plain_scale,
            ..result
        };
        let polys = match special {
            [] => vec![t0, t1],
            _ => (e.context.divide_all([&t0, &t1], p.limbs(level), special)).into(),
        };
        let mut y = Ciphertext { polys, info };
        for &f in self.map.folds() {
            y = e.add(&y, &e.rotate(&y, f as i64)?)?;
        }
        let y = e.rescale(&y)?;
        e.with_exact_scale(&y, result.scale)
    }
}

/// Ranges of inner sums whose diagonals are encoded at a time.
fn together(terms: &[Vec<(usize, usize, usize)>]) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut sum = 0;
    for (i, terms) in terms.iter().enumerate() {
        match ranges.last_mut() {
            Some(last) if sum + terms.len() <= ENCODED => {
                (last.end, sum) = (i + 1, sum + terms.len());
            }
            _ => {
                ranges.push(i..i + 1);
                sum = terms.len();
            }
        }
    }
    ranges
}

//! Tables that key switching needs, made once for a parameter set and kept by a [`crate::Context`].

use crate::{Level, Parameters};
use ring::buffer::AlignedVec;
use ring::{Conversion, Modulus, limb};
use std::sync::Arc;

/// Coefficients of an inner product at a time: both halves of a key's digits are made where the nearest caches hold them.
pub(crate) const TILE: usize = 4096;

/// Division of a polynomial modulo `keep ∪ drop` by the product of `drop`, rounded to the nearest integer.
pub(crate) struct Division {
    conversion: Conversion,
    /// (∏ drop)⁻¹ modulo each kept prime.
    pub(crate) inverses: Vec<u64>,
}

/// The remainder of a division in coefficient form, modulo the primes to divide by.
pub(crate) enum Remainder {
    /// Of a single prime.
    Residues(AlignedVec),
    /// Of several, prepared for the conversion.
    Prepared(AlignedVec, AlignedVec),
}

impl Division {
    pub(crate) fn new(p: &Parameters, keep: &[usize], drop: &[usize]) -> Self {
        let source: Vec<Modulus> = drop.iter().map(|&i| *p.prime(i)).collect();
        let target: Vec<Modulus> = keep.iter().map(|&i| *p.prime(i)).collect();
        let product = |q: &Modulus| {
            source
                .iter()
                .fold(1, |acc, d| q.mul(acc, q.reduce(d.value())))
        };
        Self {
            inverses: target.iter().map(|q| q.inv(product(q))).collect(),
            conversion: Conversion::new(&source, &target).expect("distinct primes, few"),
        }
    }
    pub(crate) fn prepare(&self, limbs: Vec<AlignedVec>) -> Remainder {
        match <[AlignedVec; 1]>::try_from(limbs) {
            Ok([limb]) => Remainder::Residues(limb),
            Err(limbs) => {
                let source: Vec<&[u64]> = limbs.iter().map(|limb| &limb[..]).collect();
                let n = source[0].len();
                let (mut y, mut v) = (AlignedVec::dirty(limbs.len() * n), AlignedVec::dirty(n));
                self.conversion.prepare(&source, &mut y, &mut v);
                Remainder::Prepared(y, v)
            }
        }
    }
    /// The centered remainder modulo the primes `keep[range]`, in NTT form.
    pub(crate) fn lift(
        &self,
        remainder: &Remainder,
        range: &std::ops::Range<usize>,
        keep: &[usize],
        ring: &ring::Ring,
    ) -> Vec<AlignedVec> {
        let mut limbs: Vec<AlignedVec> =
            range.clone().map(|_| AlignedVec::dirty(ring.n())).collect();
        if let Remainder::Prepared(y, v) = remainder {
            let mut wanted: Vec<(usize, &mut [u64])> = range
                .clone()
                .zip(limbs.iter_mut().map(|l| &mut l[..]))
                .collect();
            self.conversion.finish_many(y, v, &mut wanted);
        }
        for (k, limb) in range.clone().zip(&mut limbs) {
            if let Remainder::Residues(x) = remainder {
                let base = &self.conversion.source()[0];
                limb::lift_centered(base, ring.modulus(keep[k]), limb, x);
            }
            ring.ntt(keep[k]).forward(limb);
        }
        limbs
    }
}

/// One digit of a decomposition at a level.
pub(crate) struct Digit {
    /// Positions of its limbs in the level's limb list.
    pub(crate) own: Vec<usize>,
    pub(crate) conversion: Conversion,
    /// For each position of the extended list (level's limbs, then P): the conversion's target, or none for its own limbs.
    pub(crate) targets: Vec<Option<usize>>,
}

/// How a polynomial at a level decomposes.
pub(crate) struct Digits {
    pub(crate) digits: Vec<Digit>,
    /// The level's limbs, then those of P', its special primes.
    pub(crate) extended: Arc<[usize]>,
    /// Number of the level's limbs.
    pub(crate) kept: usize,
    /// P' modulo each of them.
    pub(crate) special: Vec<u64>,
    /// (P/P')⁻¹ modulo each of them, where it is not 1: what a polynomial is multiplied by before it is decomposed ([`Parameters::special_at`]).
    pub(crate) scaling: Option<Vec<u64>>,
}

impl Digit {
    /// The digit of some ring indices at a level; nothing where the level has none of them.
    fn new(
        p: &Parameters,
        kept: &[usize],
        extended: &[usize],
        range: &std::ops::Range<usize>,
    ) -> Option<Self> {
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
        let conversion =
            Conversion::new(&source, &target).expect("distinct primes, at most a digit's number");
        Some(Self {
            own,
            conversion,
            targets,
        })
    }
}

impl Digits {
    pub(crate) fn new(p: &Parameters, level: Level) -> Self {
        let (kept, special) = (p.limbs(level), p.special_at(level));
        let extended: Arc<[usize]> = kept.iter().chain(special).copied().collect();
        let rest = &p.special()[special.len()..];
        let inverse = |&i: &usize| p.prime(i).inv(p.product_mod(rest, i));
        Self {
            special: kept.iter().map(|&i| p.product_mod(special, i)).collect(),
            scaling: (!rest.is_empty()).then(|| kept.iter().map(inverse).collect()),
            digits: p
                .digits()
                .iter()
                .filter_map(|range| Digit::new(p, kept, &extended, range))
                .collect(),
            extended,
            kept: kept.len(),
        }
    }
}

/// An automorphism of the NTT form, tile by tile: aligned blocks stay together.
pub(crate) struct Permutation {
    /// For each word of the image, where in its tile it comes from.
    within: Vec<u32>,
    /// For each tile, where its image begins.
    images: Vec<usize>,
}

impl Permutation {
    pub(crate) fn new(log_n: u32, g: u64) -> Self {
        let mut within = ring::automorphism(log_n, g);
        let tile = TILE.min(within.len());
        let mut images = vec![0; within.len() / tile];
        for (i, block) in within.chunks_mut(tile).enumerate() {
            images[block[0] as usize / tile] = i * tile;
            block.iter_mut().for_each(|p| *p &= tile as u32 - 1);
        }
        Self { within, images }
    }
    fn image(&self, start: usize, tile: usize) -> std::ops::Range<usize> {
        let at = self.images[start / tile];
        at..at + tile
    }
    /// Writes a tile's image where it belongs in the whole limb.
    pub(crate) fn place(&self, start: usize, tile: &[u64], out: &mut [u64]) {
        let at = self.image(start, tile.len());
        limb::permute(&mut out[at.clone()], tile, &self.within[at]);
    }
    /// Adds a tile's image where it belongs in the whole limb.
    pub(crate) fn add(&self, q: &Modulus, start: usize, tile: &[u64], acc: &mut [u64]) {
        let at = self.image(start, tile.len());
        limb::permute_add(q, &mut acc[at.clone()], tile, &self.within[at]);
    }
}

/// The diagonals of a map, rotated back by their giant steps.
pub(crate) enum Plains {
    /// As small integers; encoded limb by limb where they are used.
    Coefficients(Vec<Vec<i64>>),
    /// Encoded, [term][ring index], for the limbs of the chain without skipped levels: for maps that are used again and again.
    Encoded(Vec<Vec<Option<AlignedVec>>>),
}

impl Plains {
    /// Bytes of encoded limbs.
    pub(crate) fn encoded_bytes(&self) -> u64 {
        match self {
            Plains::Coefficients(_) => 0,
            Plains::Encoded(terms) => terms
                .iter()
                .flatten()
                .flatten()
                .map(|limb| 8 * limb.len() as u64)
                .sum(),
        }
    }
}

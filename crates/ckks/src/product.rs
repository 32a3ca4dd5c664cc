//! Products of ciphertexts on coefficients with polynomials of integer weights: a linear layer before packing.
//!
//! A polynomial of weights lives for one product: written into a buffer that is used again, transformed, multiplied, overwritten. Outputs
//! are computed in tiles, so that the transforms of a few input ciphertexts are read once for several outputs while they lie
//! in a near cache: for wide layers they are many megabytes, which every output would stream from memory.

use crate::folded::{Convolution, Read, WeightRows};
use crate::typing::{self, Info};
use crate::{Ciphertext, Coefficients, Context, Error};
use rayon::prelude::*;
use ring::buffer::AlignedVec;
use ring::{Modulus, RnsPoly, limb};
use std::ops::Range;

/// Outputs of a tile.
const OUTPUTS: usize = 8;
/// Words of input that a tile multiplies at a time, of one prime: half a megabyte.
const WORDS: usize = 1 << 16;

/// Sums over one prime for one output: of c0 and of c1.
type Sums = [AlignedVec; 2];

impl Context {
    /// [`crate::Arithmetic::weigh`] on ciphertexts that are the layer's input.
    ///
    /// Cost per pair ([`Convolution::pairs`]) and prime: one NTT, 2·N multiply-adds.
    pub(crate) fn weigh(
        &self,
        xs: &[Coefficients],
        layer: &Convolution,
        outputs: Range<usize>,
        weights: &dyn WeightRows,
        scale: f64,
    ) -> Result<Vec<Ciphertext>, Error> {
        let info = self.weighed(xs, scale)?;
        let tiles: Vec<Range<usize>> = outputs
            .clone()
            .step_by(OUTPUTS)
            .map(|o| o..outputs.end.min(o + OUTPUTS))
            .collect();
        let tiles: Vec<Vec<Ciphertext>> = tiles
            .into_par_iter()
            .map(|outputs| {
                let mut rows = vec![0; layer.row() * outputs.len()];
                weights.read(outputs.clone(), &mut rows)?;
                Ok(self.tile(xs, layer, outputs, &rows, info))
            })
            .collect::<Result<_, Error>>()?;
        Ok(tiles.into_iter().flatten().collect())
    }
    /// Checks the operands; where the results stand.
    fn weighed(&self, xs: &[Coefficients], scale: f64) -> Result<Info, Error> {
        let Some(first) = xs.first() else {
            return Err(Error::conformance("linear layer", "no input"));
        };
        let first = first.value().info;
        for x in xs.iter().map(|x| x.value().info) {
            typing::levels("weigh", first.level, x.level)?;
            typing::scales("weigh", first.scale, x.scale)?;
        }
        Ok(Info {
            scale: first.scale * scale,
            slots: self.parameters().max_slots(),
            ..first
        })
    }
    fn tile(
        &self,
        xs: &[Coefficients],
        layer: &Convolution,
        outputs: Range<usize>,
        rows: &[i32],
        info: Info,
    ) -> Vec<Ciphertext> {
        let ring = self.parameters().ring();
        let n = ring.n();
        let indices = self.parameters().limbs(info.level);
        let together = (WORDS / (2 * n)).max(4);
        let mut weights: Vec<AlignedVec> = (0..together).map(|_| AlignedVec::dirty(n)).collect();
        let mut part: Sums = [AlignedVec::dirty(n), AlignedVec::dirty(n)];
        // [output][prime]
        let mut sums: Vec<Vec<Option<Sums>>> = outputs
            .clone()
            .map(|_| (0..indices.len()).map(|_| None).collect())
            .collect();
        for (k, &index) in indices.iter().enumerate() {
            for first in (0..xs.len()).step_by(together) {
                for (i, sums) in sums.iter_mut().enumerate() {
                    let row = &rows[i * layer.row()..][..layer.row()];
                    let reads = layer.reads(outputs.start + i);
                    let from = reads.partition_point(|r| r.ciphertext < first);
                    let to = reads.partition_point(|r| r.ciphertext < first + together);
                    let reads = &reads[from..to];
                    if reads.is_empty() {
                        continue;
                    }
                    for (read, out) in reads.iter().zip(&mut weights) {
                        polynomial(layer, read, row, ring.modulus(index), out);
                        ring.ntt(index).forward(out);
                    }
                    let of = |p: usize| -> Vec<&[u64]> {
                        let xs = reads.iter().map(|r| xs[r.ciphertext].value());
                        xs.map(|x| x.polys[p].limb(k)).collect()
                    };
                    let factors: Vec<&[u64]> =
                        weights.iter().take(reads.len()).map(|w| &w[..]).collect();
                    let q = ring.modulus(index);
                    match &mut sums[k] {
                        None => {
                            let mut new = [AlignedVec::dirty(n), AlignedVec::dirty(n)];
                            let [s0, s1] = &mut new;
                            limb::dot2(q, s0, s1, &factors, &of(0), &of(1));
                            sums[k] = Some(new);
                        }
                        Some(sums) => {
                            let [s0, s1] = &mut part;
                            limb::dot2(q, s0, s1, &factors, &of(0), &of(1));
                            sums.iter_mut()
                                .zip(&part)
                                .for_each(|(s, p)| limb::add(q, s, p));
                        }
                    }
                }
            }
        }
        let ciphertext = |sums: Vec<Option<Sums>>| {
            let sums = sums
                .into_iter()
                .map(|s| s.unwrap_or_else(|| [AlignedVec::zeroed(n), AlignedVec::zeroed(n)]));
            let (c0, c1) = sums.map(|[c0, c1]| (c0, c1)).unzip();
            Ciphertext {
                polys: [c0, c1]
                    .map(|c| RnsPoly::from_parts(ring, indices.clone(), c))
                    .into(),
                info,
            }
        };
        sums.into_iter().map(ciphertext).collect()
    }
}

/// Writes the polynomial of weights that a row multiplies one ciphertext by.
fn polynomial(layer: &Convolution, read: &Read, row: &[i32], q: &Modulus, out: &mut [u64]) {
    let n = out.len();
    out.fill(0);
    layer.terms(read, row, |e, w| {
        // X^(−e) is −X^(n − e) for e in 1..=n
        let at = (-e).rem_euclid(2 * n as i64) as usize;
        let size = u64::from(w.unsigned_abs());
        let size = if size < q.value() {
            size
        } else {
            q.reduce(size)
        };
        let to = &mut out[at % n];
        *to = if (w < 0) == (at >= n) {
            q.add(*to, size)
        } else {
            q.sub(*to, size)
        };
    });
}

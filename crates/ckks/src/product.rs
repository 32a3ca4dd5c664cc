//! Products of ciphertexts on coefficients with polynomials of integer weights: a linear layer before packing.
//!
//! A polynomial of weights lives for one product: written into a buffer that is used again, transformed, multiplied, overwritten. Outputs
//! are computed in tiles, so that the transforms of a few input ciphertexts are read once for several outputs while they lie
//! in a near cache: for wide layers they are many megabytes, which every output would stream from memory.

use crate::folded::{Convolution, Read, WeightRows};
use crate::typing::{self, Info};
use crate::{Ciphertext, Context, Error};
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
    /// The products of a layer for some of its outputs: for each a ciphertext with the output's places at the coefficients that
    /// [`Convolution::leaves`] names, and what may be anything at all others.
    ///
    /// Weights are integers, `scale` times those that the layer is meant to have; the result's scale is the product of both, its level the
    /// operands'. No key, no error of its own.
    ///
    /// Cost per pair ([`Convolution::pairs`]) and prime: one NTT, 2·N multiply-adds.
    ///
    /// # Errors
    /// Other ciphertexts than the layer's input, ones that differ in level or scale, outputs that it has not, and what the reader of
    /// weights refuses.
    pub fn weigh(
        &self,
        xs: &[Ciphertext],
        layer: &Convolution,
        outputs: Range<usize>,
        weights: &(impl WeightRows + ?Sized),
        scale: f64,
    ) -> Result<Vec<Ciphertext>, Error> {
        let info = self.weighed(xs, layer, &outputs, scale)?;
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
    fn weighed(
        &self,
        xs: &[Ciphertext],
        layer: &Convolution,
        outputs: &Range<usize>,
        scale: f64,
    ) -> Result<Info, Error> {
        let needed = layer.input().ciphertexts();
        let refuse = |reason: String| Err(Error::conformance("linear layer", reason));
        let Some(first) = xs.first().filter(|_| xs.len() == needed) else {
            return refuse(format!("{} input ciphertexts, not {needed}", xs.len()));
        };
        if layer.input().degree() != self.parameters().n() {
            let (had, n) = (layer.input().degree(), self.parameters().n());
            return refuse(format!("folded for degree {had}, but the ring has {n}"));
        }
        if outputs.end > layer.outputs() {
            return refuse(format!("outputs {outputs:?} of {}", layer.outputs()));
        }
        for x in xs {
            typing::linear_degree("weigh", &x.info)?;
            typing::levels("weigh", first.info.level, x.info.level)?;
            typing::scales("weigh", first.info.scale, x.info.scale)?;
        }
        Ok(Info {
            scale: first.info.scale * scale,
            slots: self.parameters().max_slots(),
            ..first.info
        })
    }
    fn tile(
        &self,
        xs: &[Ciphertext],
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
                        let xs = reads.iter().map(|r| &xs[r.ciphertext]);
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

//! Where the values of a linear layer lie in coefficients: those of tokens ([`Tokens`]), or of one token alone.
//!
//! One token's channels lie in slots one after the other, in a ciphertext that repeats with their number P, a power of two. In coefficients they are P values of a sparse
//! ciphertext, n/P coefficients apart, in bit-reversed order in each half: the order in which a half bootstrap of P/2 slots leaves them where they were. Where they are
//! more than half of the ring, two ciphertexts of slots are one of coefficients. There is nothing at other places, and nothing is masked.

use super::tokens::Tokens;
use crate::layout::{Layout, narrow};
use ckks::coefficients::slot_of;
use runtime::folding::Folding;

/// Least number of values of a half bootstrap.
const LEAST: usize = 8;

/// How a layout's values lie in coefficients.
pub(crate) struct Low {
    /// Of each channel.
    pub(crate) leaves: Vec<usize>,
    pub(crate) folding: Folding,
    /// Ciphertexts.
    pub(crate) ciphertexts: usize,
    /// Ciphertexts of slots for each.
    pub(crate) parts: usize,
}

impl Low {
    /// Of a layout in a ring of degree n, if its values can lie in coefficients.
    pub(crate) fn of(layout: &Layout, n: usize) -> Option<Self> {
        if layout.is_table() {
            let leaves = Tokens::leaves(layout)?;
            return Some(Self {
                folding: Tokens::folding(layout, &leaves),
                leaves,
                ciphertexts: layout.ciphertexts / 2,
                parts: 2,
            });
        }
        if !is_vector(layout) || layout.period > n / 2 || layout.period < LEAST {
            return None;
        }
        let parts = layout.ciphertexts.min(2);
        if parts == 2 && (layout.period < n / 2 || layout.ciphertexts % 2 == 1) {
            return None;
        }
        let half = layout.period / (3 - parts);
        let leaf = |&(ciphertext, slot): &(u32, u32)| {
            let value = ciphertext as usize * layout.period + slot as usize;
            value / half * half + slot_of(value % half, half)
        };
        let leaves: Vec<usize> = layout.places().iter().map(leaf).collect();
        let last = leaves.iter().max().map_or(0, |l| l + 1);
        Some(Self {
            folding: Folding {
                spacing: n,
                gap: n / (2 * half),
                pitch: 1,
                shape: [last, 1, 1],
            },
            leaves,
            ciphertexts: layout.ciphertexts / parts,
            parts,
        })
    }

    /// Ciphertext and number of each value of a layout without tokens, in the order of coefficients.
    pub(crate) fn places(&self) -> Vec<(u32, u32)> {
        let each = self.folding.spacing / self.folding.gap;
        let of = |leaf: &usize| (narrow(leaf / each), narrow(leaf % each));
        self.leaves.iter().map(of).collect()
    }
}

/// Whether it is of one token: a column of channels, one after the other.
pub(crate) fn is_vector(layout: &Layout) -> bool {
    layout.by_column() && layout.shape().columns() == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use ckks::Folded;
    use nn::Shape;

    #[test]
    fn one_token_s_channels_go_down_and_up_to_the_slots_where_they_were() {
        let n = 64;
        for channels in [5, 8, 13, 32, 33, 60] {
            let layout = Layout::fresh(Shape::image(channels, 1, 1), n / 2);
            let low = Low::of(&layout, n).expect("a vector");
            let f = &low.folding;
            let folded = Folded::new(n, f.spacing, f.gap, f.pitch, f.shape).expect("fits");
            assert_eq!(folded.ciphertexts(), low.ciphertexts);
            assert_eq!(low.parts * low.ciphertexts, layout.ciphertexts);
            // Parts: the first half of the values, then the second, each in bit-reversed order
            let half = n / f.gap / 2;
            for (place, leaf) in layout.places().iter().zip(&low.leaves) {
                let slot = leaf / half * half + slot_of(leaf % half, half);
                assert_eq!(slot, place.0 as usize * layout.period + place.1 as usize);
            }
            assert!(f.masks(n).is_empty(), "nothing to mask");
        }
        let few = Layout::fresh(Shape::image(3, 1, 1), n / 2);
        assert!(Low::of(&few, n).is_none());
        let rows = Layout::unfolded(Shape::image(8, 4, 1), n / 2);
        assert!(Low::of(&rows, n).is_none());
    }
}

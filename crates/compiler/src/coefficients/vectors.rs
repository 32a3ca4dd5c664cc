//! Where the values of a linear layer lie in coefficients: those of tokens ([`Tokens`]), or of one token alone.
//!
//! One token's channels lie in slots one after the other, in a ciphertext that repeats with their number P, a power of two. In coefficients they are P values of a sparse
//! ciphertext, n/P coefficients apart, in bit-reversed order in each half: the order in which a half bootstrap of P/2 slots leaves them where they were. There is
//! nothing at other places, and nothing is masked. Where they are more than a ciphertext's slots, as an answer's logits may be, they only go down: a part of them to a
//! ciphertext, since packing holds all of a ciphertext's channels at once.

use super::tokens::Tokens;
use crate::layout::{Layout, narrow};
use ckks::coefficients::slot_of;
use runtime::folding::Folding;

/// Least number of values of a half bootstrap.
const LEAST: usize = 8;
/// Coefficients from one channel to the next in an answer of more channels than a ciphertext has slots.
const ANSWER: usize = 16;

/// How a layout's values lie in coefficients.
pub(crate) struct Low {
    /// Of each channel.
    pub(crate) leaves: Vec<usize>,
    pub(crate) folding: Folding,
    /// Ciphertexts.
    pub(crate) ciphertexts: usize,
    /// Ciphertexts of slots for each; none for an answer that goes up no more.
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
        let folding = |gap: usize, last: usize| Folding {
            spacing: n,
            gap,
            pitch: 1,
            shape: [last, 1, 1],
        };
        if layout.ciphertexts > 1 {
            let channels = layout.shape().len();
            return Some(Self {
                leaves: (0..channels).collect(),
                folding: folding(ANSWER, channels),
                ciphertexts: channels.div_ceil(n / ANSWER),
                parts: 0,
            });
        }
        let half = layout.period / 2;
        let leaf = |&(_, slot): &(u32, u32)| {
            let value = slot as usize;
            value / half * half + slot_of(value % half, half)
        };
        let leaves: Vec<usize> = layout.places().iter().map(leaf).collect();
        let last = leaves.iter().max().map_or(0, |l| l + 1);
        Some(Self {
            folding: folding(n / layout.period, last),
            leaves,
            ciphertexts: 1,
            parts: 1,
        })
    }

    /// Whether half bootstraps bring it up to where it lies in slots.
    pub(crate) fn rises(&self) -> bool {
        self.parts > 0
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
        for channels in [5, 8, 13, 32] {
            let layout = Layout::fresh(Shape::image(channels, 1, 1), n / 2);
            let low = Low::of(&layout, n).expect("a vector");
            let f = &low.folding;
            let folded = Folded::new(n, f.spacing, f.gap, f.pitch, f.shape).expect("fits");
            assert_eq!(folded.ciphertexts(), low.ciphertexts);
            assert_eq!((low.parts, low.ciphertexts), (1, 1));
            // Parts: the first half of the values, then the second, each in bit-reversed order
            let half = n / f.gap / 2;
            for (place, leaf) in layout.places().iter().zip(&low.leaves) {
                let slot = leaf / half * half + slot_of(leaf % half, half);
                assert_eq!(slot, place.0 as usize * layout.period + place.1 as usize);
            }
            assert!(f.masks(n).is_empty(), "nothing to mask");
        }
        // an answer's: in order, four to a ciphertext
        let layout = Layout::fresh(Shape::image(61, 1, 1), n / 2);
        let low = Low::of(&layout, n).expect("an answer");
        let f = &low.folding;
        let folded = Folded::new(n, f.spacing, f.gap, f.pitch, f.shape).expect("fits");
        assert_eq!((folded.ciphertexts(), low.ciphertexts), (16, 16));
        assert!(!low.rises());
        assert_eq!(low.places()[5], (1, 1));
        let few = Layout::fresh(Shape::image(3, 1, 1), n / 2);
        assert!(Low::of(&few, n).is_none());
        let rows = Layout::unfolded(Shape::image(8, 4, 1), n / 2);
        assert!(Low::of(&rows, n).is_none());
    }
}

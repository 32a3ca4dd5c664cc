//! [`crate::reference`] in IFMA. Never optimised: see there.

use super::load;
use crate::reference::{LANES, TERMS, WORDS, fold};
use std::arch::x86_64::*;

#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(crate) fn reference(out: &mut [u64; WORDS], x: &[u64; WORDS], y: &[u64; WORDS]) {
    let (x, y) = (x.as_chunks::<LANES>().0, y.as_chunks::<LANES>().0);
    for (r, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let (mut low, mut high) = (_mm512_setzero_si512(), _mm512_setzero_si512());
        for k in 0..TERMS {
            let (x, y) = (load(&x[(r + k) % x.len()]), load(&y[k % y.len()]));
            low = _mm512_madd52lo_epu64(low, x, y);
            high = _mm512_madd52hi_epu64(high, x, y);
        }
        let (mut l, mut h) = ([0; LANES], [0; LANES]);
        super::store(&mut l, low);
        super::store(&mut h, high);
        *out = std::array::from_fn(|j| fold(u128::from(l[j]) + (u128::from(h[j]) << 52)));
    }
}

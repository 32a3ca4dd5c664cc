//! Residues as bit strings: each at its prime's bit length, lowest bits first.

/// Bytes of `n` residues of `bits` bits each.
pub(crate) fn packed_len(n: usize, bits: u32) -> usize {
    (n * bits as usize).div_ceil(8)
}

/// Appends `values` (each below `2^bits`, bits in 1..=56) to `out`.
pub(crate) fn pack(values: &[u64], bits: u32, out: &mut Vec<u8>) {
    debug_assert!((1..=56).contains(&bits));
    out.reserve(packed_len(values.len(), bits) + 8);
    let end = out.len() + packed_len(values.len(), bits);
    let (mut word, mut fill) = (0u64, 0u32);
    for &v in values {
        debug_assert!(v >> bits == 0);
        word |= v << fill;
        if fill + bits >= 64 {
            out.extend_from_slice(&word.to_le_bytes());
            // 64 - fill is in 1..=bits here, so the shift is below 64
            word = v >> (64 - fill);
            fill = fill + bits - 64;
        } else {
            fill += bits;
        }
    }
    if fill > 0 {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.truncate(end);
}

/// Reads `out.len()` values of `bits` bits (1..=56) from `bytes`, which holds exactly `packed_len` bytes.
///
/// # Panics
/// If `bytes` has another length.
pub(crate) fn unpack(bytes: &[u8], bits: u32, out: &mut [u64]) {
    assert_eq!(
        bytes.len(),
        packed_len(out.len(), bits),
        "packed residues have an exact length"
    );
    let mask = (1u64 << bits) - 1;
    // all but the last few values can be read as one whole word each
    let whole = if bytes.len() < 8 {
        0
    } else {
        (((bytes.len() - 8) * 8) / bits as usize + 1).min(out.len())
    };
    let (head, tail) = out.split_at_mut(whole);
    let mut at = 0usize;
    for v in head {
        let word = bytes[at >> 3..(at >> 3) + 8]
            .try_into()
            .map_or(0, u64::from_le_bytes);
        *v = (word >> (at & 7)) & mask;
        at += bits as usize;
    }
    for v in tail {
        let mut word = [0u8; 8];
        let rest = &bytes[at >> 3..];
        let take = rest.len().min(8);
        word[..take].copy_from_slice(&rest[..take]);
        *v = (u64::from_le_bytes(word) >> (at & 7)) & mask;
        at += bits as usize;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_round_trips_at_every_width_and_length() {
        let mut x = 0x9e37_79b9_7f4a_7c15u64;
        for bits in 1..=56u32 {
            for n in [0usize, 1, 2, 3, 7, 8, 9, 16, 64, 100] {
                let values: Vec<u64> = (0..n)
                    .map(|i| {
                        x = x
                            .wrapping_mul(6364136223846793005)
                            .wrapping_add(1442695040888963407);
                        if i % 5 == 0 {
                            (1 << bits) - 1
                        } else {
                            x >> (64 - bits)
                        }
                    })
                    .collect();
                let mut bytes = vec![0xee];
                pack(&values, bits, &mut bytes);
                assert_eq!(bytes.len(), 1 + packed_len(n, bits));
                let mut back = vec![1; n];
                unpack(&bytes[1..], bits, &mut back);
                assert_eq!(values, back, "{bits} bits, {n} values");
            }
        }
    }
}

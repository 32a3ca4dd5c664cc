//! Reproducible numbers: the same for the same seed on every machine.

/// So many numbers, uniform in ±bound; each depends on seed, name and its place only.
#[must_use]
pub fn uniform(seed: u64, name: &str, count: usize, bound: f64) -> Vec<f32> {
    // FNV-1a of the name chooses the stream.
    let stream = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    });
    let key = mix(mix(seed).wrapping_add(stream));
    (0..count as u64)
        .map(|i| {
            let bits = mix(key.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            // 53 bits in [0, 1)
            let unit = (bits >> 11) as f64 / (1u64 << 53) as f64;
            (bound * (2.0 * unit - 1.0)) as f32
        })
        .collect()
}

/// The output function of SplitMix64 (Steele, Lea, Flood 2014): a counter in, 64 well-mixed bits out.
#[must_use]
pub fn mix(v: u64) -> u64 {
    let v = v.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let v = (v ^ (v >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let v = (v ^ (v >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    v ^ (v >> 31)
}

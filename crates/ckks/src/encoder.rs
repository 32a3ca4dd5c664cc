//! Slots ↔ coefficients: the canonical embedding of n complex slots into Z\[Y\]/(Y^(2n)+1), Y = X^(N/2n).
//!
//! Slot j is the evaluation at ζ^(5^j), ζ = exp(2πi/4n); the transform is the special FFT of HEAAN [CKKS17, CHKKS18].
//! Coefficients 0..n hold the "real" half, n..2n the "imaginary" half: w = re + i·im is the transform of the slots.

use crate::{Complex64, Error};
use std::sync::{Arc, OnceLock};
use zeroize::Zeroize;

/// Twiddles of one size.
struct Table {
    /// For each stage len = 2, 4, …, n: exp(2πi·(5^j mod 4·len)/(4·len)), j < len/2.
    stages: Vec<Vec<Complex64>>,
}

impl Table {
    fn new(n: usize) -> Self {
        let stages = (1..=n.trailing_zeros())
            .map(|s| {
                let len = 1usize << s;
                let m = 4 * len;
                let mut power = 1usize;
                (0..len / 2)
                    .map(|_| {
                        let angle = 2.0 * std::f64::consts::PI * power as f64 / m as f64;
                        power = power * 5 % m;
                        Complex64::from_polar(1.0, angle)
                    })
                    .collect()
            })
            .collect();
        Self { stages }
    }
}

/// Encodes and decodes vectors of up to `max_slots` slots; cheap to clone.
#[derive(Clone)]
pub struct Encoder {
    tables: Arc<Vec<OnceLock<Table>>>,
    max_slots: usize,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Encoder")
    }
}

fn bit_reverse(v: &mut [Complex64]) {
    let bits = v.len().trailing_zeros();
    if bits == 0 {
        return;
    }
    for i in 0..v.len() {
        let j = i.reverse_bits() >> (usize::BITS - bits);
        if i < j {
            v.swap(i, j);
        }
    }
}

/// Overwrites values, whatever the compiler thinks of it.
pub fn wipe(values: &mut [Complex64]) {
    for z in values {
        z.re.zeroize();
        z.im.zeroize();
    }
}

impl Encoder {
    /// For vectors of at most `max_slots` slots (a power of two).
    pub fn new(max_slots: usize) -> Self {
        let count = max_slots.trailing_zeros() as usize + 1;
        Self {
            tables: Arc::new((0..count).map(|_| OnceLock::new()).collect()),
            max_slots,
        }
    }
    fn table(&self, n: usize) -> &Table {
        self.tables[n.trailing_zeros() as usize].get_or_init(|| Table::new(n))
    }
    /// One stage's twiddles (len = 2^stage), for building transform matrices.
    pub(crate) fn twiddles(&self, n: usize, len: usize) -> &[Complex64] {
        &self.table(n).stages[len.trailing_zeros() as usize - 1]
    }
    fn check(&self, n: usize) -> Result<(), Error> {
        if n.is_power_of_two() && n <= self.max_slots {
            Ok(())
        } else {
            Err(Error::Slots {
                operation: "encode",
                slots: n,
                most: self.max_slots,
            })
        }
    }
    /// Slots → w = re + i·im of the coefficients, in place. O(n log n).
    ///
    /// # Errors
    /// If the length is not a power of two or too large.
    pub fn to_coefficients(&self, v: &mut [Complex64]) -> Result<(), Error> {
        let n = v.len();
        self.check(n)?;
        let table = self.table(n);
        for stage in table.stages.iter().rev() {
            let half = stage.len();
            for block in v.chunks_exact_mut(2 * half) {
                let (lo, hi) = block.split_at_mut(half);
                for ((x, y), w) in lo.iter_mut().zip(hi).zip(stage) {
                    let (a, b) = (*x, *y);
                    *x = a + b;
                    *y = (a - b) * w.conj();
                }
            }
        }
        bit_reverse(v);
        let inverse = 1.0 / n as f64;
        for x in v {
            *x *= inverse;
        }
        Ok(())
    }
    /// w = re + i·im of the coefficients → slots, in place.
    ///
    /// # Errors
    /// If the length is not a power of two or too large.
    pub fn to_slots(&self, v: &mut [Complex64]) -> Result<(), Error> {
        let n = v.len();
        self.check(n)?;
        bit_reverse(v);
        for stage in &self.table(n).stages {
            let half = stage.len();
            for block in v.chunks_exact_mut(2 * half) {
                let (lo, hi) = block.split_at_mut(half);
                for ((x, y), w) in lo.iter_mut().zip(hi).zip(stage) {
                    let (a, b) = (*x, *y * w);
                    *x = a + b;
                    *y = a - b;
                }
            }
        }
        Ok(())
    }
    /// Slots → 2n integer coefficients in Y at `scale`, rounded.
    ///
    /// # Errors
    /// If the length does not fit, a value is not finite, or a coefficient reaches 2^62.
    pub fn encode(&self, v: &[Complex64], scale: f64) -> Result<Vec<i64>, Error> {
        self.encode_in_place(&mut v.to_vec(), scale)
    }
    /// As [`Encoder::encode`]; leaves what is in between in `w`, for owners of secrets, who wipe it.
    pub(crate) fn encode_in_place(
        &self,
        w: &mut [Complex64],
        scale: f64,
    ) -> Result<Vec<i64>, Error> {
        self.to_coefficients(w)?;
        let n = w.len();
        let mut out = vec![0i64; 2 * n];
        let limit = 62f64.exp2();
        for (j, c) in w.iter().enumerate() {
            let (re, im) = (c.re * scale, c.im * scale);
            if !(re.abs() < limit && im.abs() < limit) {
                self.to_slots(w)?;
                let magnitude = w.iter().map(|x| x.norm()).fold(0.0, |a: f64, b| {
                    if b.is_nan() { f64::NAN } else { a.max(b) }
                });
                return Err(Error::Encode {
                    magnitude,
                    log_scale: scale.log2(),
                });
            }
            #[expect(clippy::cast_possible_truncation, reason = "below 2^62, checked above")]
            {
                out[j] = re.round() as i64;
                out[j + n] = im.round() as i64;
            }
        }
        Ok(out)
    }
    /// 2n coefficients in Y (already divided by the scale) → n slots.
    ///
    /// # Errors
    /// If the length does not fit.
    pub fn decode(&self, coefficients: &[f64]) -> Result<Vec<Complex64>, Error> {
        let n = coefficients.len() / 2;
        let mut w: Vec<Complex64> = (0..n)
            .map(|j| Complex64::new(coefficients[j], coefficients[j + n]))
            .collect();
        self.to_slots(&mut w)?;
        Ok(w)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_evaluations_at_powers_of_five() {
        let n = 8;
        let encoder = Encoder::new(n);
        let coefficients: Vec<f64> = (0..2 * n).map(|i| (i as f64 * 0.7).sin()).collect();
        let slots = encoder.decode(&coefficients).expect("fits");
        let mut power = 1usize;
        for s in &slots {
            let z = Complex64::from_polar(
                1.0,
                2.0 * std::f64::consts::PI * power as f64 / (4 * n) as f64,
            );
            let direct: Complex64 = coefficients
                .iter()
                .rev()
                .fold(Complex64::new(0.0, 0.0), |acc, &c| acc * z + c);
            assert!((direct - s).norm() < 1e-12);
            power = power * 5 % (4 * n);
        }
    }

    #[test]
    fn encode_then_decode_is_the_identity() {
        let encoder = Encoder::new(64);
        for n in [1usize, 2, 16, 64] {
            let v: Vec<Complex64> = (0..n)
                .map(|i| Complex64::new((i as f64).cos(), (i as f64 * 3.0).sin()))
                .collect();
            let c = encoder.encode(&v, 50f64.exp2()).expect("fits");
            let back = encoder
                .decode(
                    &c.iter()
                        .map(|&x| x as f64 / 50f64.exp2())
                        .collect::<Vec<_>>(),
                )
                .expect("fits");
            assert!(v.iter().zip(&back).all(|(a, b)| (a - b).norm() < 1e-12));
        }
        assert!(
            encoder
                .encode(&[Complex64::new(f64::NAN, 0.0)], 1.0)
                .is_err()
        );
        assert!(encoder.encode(&[Complex64::new(0.0, 0.0); 3], 1.0).is_err());
    }
}

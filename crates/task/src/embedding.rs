//! Embeddings of any size, held as the checkpoint stored them.

use crate::bytes::{Reader, Writer};
use crate::error::{Error, Result};
use nn::format::half_to_f64;
use nn::{Parameter, Tensor};
use std::ops::Range;
use std::sync::Arc;

/// How a number is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// The upper half of single precision.
    Bf16,
    /// Half precision (IEEE 754).
    F16,
    /// Single precision.
    F32,
}

impl Precision {
    /// In the order of their numbers, the narrow ones first.
    const ALL: [Self; 3] = [Self::Bf16, Self::F16, Self::F32];

    /// Bytes of a number.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// Whether it holds this number exactly.
    fn holds(self, v: f32) -> bool {
        match self {
            Self::F32 => true,
            Self::F16 => to_half(v).is_some(),
            Self::Bf16 => v.to_bits() & 0xffff == 0,
        }
    }

    fn write(self, v: f32, out: &mut Vec<u8>) {
        match self {
            Self::F32 => out.extend(v.to_le_bytes()),
            Self::F16 => out.extend(to_half(v).unwrap_or_default().to_le_bytes()),
            Self::Bf16 => out.extend(((v.to_bits() >> 16) as u16).to_le_bytes()),
        }
    }

    /// The number in this chunk of bytes.
    fn read(self, raw: &[u8]) -> f64 {
        match *raw {
            [a, b] if self == Self::F16 => half_to_f64(u16::from_le_bytes([a, b])),
            [a, b] => f32::from_le_bytes([0, 0, a, b]).into(),
            [a, b, c, d] => f32::from_le_bytes([a, b, c, d]).into(),
            _ => f64::NAN,
        }
    }
}

/// The half that equals a single, if there is one.
fn to_half(v: f32) -> Option<u16> {
    let bits = v.to_bits();
    let (sign, mantissa) = ((bits >> 16) as u16 & 0x8000, bits & 0x7f_ffff);
    let exponent = (bits >> 23 & 0xff) as i32 - 127;
    if (-14..=15).contains(&exponent) {
        let exact = mantissa & 0x1fff == 0;
        return exact.then(|| sign | ((exponent + 15) as u16) << 10 | (mantissa >> 13) as u16);
    }
    // zero and subnormal halves are multiples of 2^-24
    let units = f64::from(v.abs()) * f64::from(1 << 24);
    (units < 1024.0 && units.fract() == 0.0).then_some(sign | units as u16)
}

/// A table `(V, D)`: a row for each token. Copies share the numbers.
#[derive(Clone)]
pub struct Embedding {
    rows: usize,
    width: usize,
    precision: Precision,
    bytes: Arc<[u8]>,
    /// Where in the bytes its numbers are.
    part: Range<usize>,
}

impl std::fmt::Debug for Embedding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rows, width, .. } = self;
        write!(f, "Embedding({rows}, {width}, {:?})", self.precision)
    }
}

impl PartialEq for Embedding {
    fn eq(&self, other: &Self) -> bool {
        let shape = |e: &Self| (e.rows, e.width, e.precision);
        shape(self) == shape(other) && self.stored() == other.stored()
    }
}

impl Embedding {
    /// A tensor `(V, D)` in the narrowest precision that holds all its numbers exactly: what a checkpoint stored in half precision comes back as
    /// half precision.
    ///
    /// # Errors
    /// [`Error::Malformed`] for another shape.
    pub fn new(table: &Parameter) -> Result<Self> {
        let &[rows, width] = table.shape() else {
            return Err(malformed(format!(
                "shape {:?}, which is not (tokens, channels)",
                table.shape()
            )));
        };
        let values = table.values();
        let holds = |p: &Precision| values.iter().all(|&v| p.holds(v));
        let precision = Precision::ALL.into_iter().find(holds);
        let precision = precision.unwrap_or(Precision::F32);
        let mut bytes = Vec::with_capacity(values.len() * precision.bytes());
        values.iter().for_each(|&v| precision.write(v, &mut bytes));
        let all = 0..bytes.len();
        Self::stored_in(rows, width, precision, bytes.into(), all)
    }

    /// Numbers that lie, low byte first and row by row, in a part of `bytes`, which is shared and not copied.
    ///
    /// # Errors
    /// [`Error::Malformed`] for another count of bytes or a number that is not finite.
    pub fn stored_in(
        rows: usize,
        width: usize,
        precision: Precision,
        bytes: Arc<[u8]>,
        part: Range<usize>,
    ) -> Result<Self> {
        let needed = rows
            .checked_mul(width)
            .and_then(|n| n.checked_mul(precision.bytes()));
        let had = bytes.get(part.clone()).map(<[u8]>::len);
        if needed.is_none() || needed == Some(0) || needed != had {
            return Err(malformed(format!(
                "{rows} rows of {width} numbers in {} bytes",
                part.len()
            )));
        }
        let out = Self {
            rows,
            width,
            precision,
            bytes,
            part,
        };
        if let Some((i, v)) = out.values().enumerate().find(|(_, v)| !v.is_finite()) {
            return Err(malformed(format!("number {i} is {v}")));
        }
        Ok(out)
    }

    fn stored(&self) -> &[u8] {
        &self.bytes[self.part.clone()]
    }

    /// Number of tokens V.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Channels of a token D.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// How numbers are stored.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// All numbers, row by row.
    pub fn values(&self) -> impl Iterator<Item = f64> {
        let each = self.stored().chunks_exact(self.precision.bytes());
        each.map(|raw| self.precision.read(raw))
    }

    /// A token's numbers.
    ///
    /// # Errors
    /// [`Error::Token`].
    pub fn row(&self, token: u32) -> Result<impl Iterator<Item = f64>> {
        let stride = self.width * self.precision.bytes();
        let start = (token as usize).checked_mul(stride);
        let row = start.and_then(|s| self.stored().get(s..s + stride));
        let vocabulary = self.rows;
        let row = row.ok_or(Error::Token { token, vocabulary })?;
        let each = row.chunks_exact(self.precision.bytes());
        Ok(each.map(|raw| self.precision.read(raw)))
    }

    /// The tokens' rows as columns, `(D, 1, L)`.
    ///
    /// # Errors
    /// [`Error::Token`]; [`Error::Nn`] for no tokens.
    pub fn sequence(&self, tokens: &[u32]) -> Result<Tensor> {
        let rows: Result<Vec<_>> = tokens.iter().map(|&t| self.row(t)).collect();
        Ok(Tensor::sequence(self.width, rows?)?)
    }

    /// The largest magnitude.
    #[must_use]
    pub fn bound(&self) -> f64 {
        self.values().fold(0.0, |m, v| m.max(v.abs()))
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.size(self.rows);
        w.size(self.width);
        w.u8(self.precision as u8);
        w.bytes(self.stored());
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self> {
        let (rows, width) = (r.size()?, r.size()?);
        let precision = r.one_of("precision", &Precision::ALL)?;
        let part = r.section()?;
        Self::stored_in(rows, width, precision, Arc::clone(r.all), part)
    }
}

fn malformed(detail: String) -> Error {
    Error::malformed("embedding", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_comes_back() {
        for h in (0..=u16::MAX).filter(|h| h >> 10 & 31 != 31) {
            let v = half_to_f64(h) as f32;
            assert_eq!(to_half(v), Some(h), "{h:#x} is {v}");
        }
        for v in [1.0 + 1.0 / 4096.0, 65536.0, 2f32.powi(-25), 1e-30] {
            assert_eq!(to_half(v), None, "{v}");
        }
    }

    #[test]
    fn the_checkpoints_precision_is_kept() {
        for (values, precision) in [
            (
                [1.0, -0.5, 2f32.powi(-24), 1.0 + 1.0 / 1024.0],
                Precision::F16,
            ),
            ([1.0, -0.5, 2f32.powi(-100), 3.0], Precision::Bf16),
            ([1.0, -0.1, 0.0, 3.0], Precision::F32),
        ] {
            let table = Parameter::new("e", [2, 2], values).expect("fits");
            let e = Embedding::new(&table).expect("a table");
            assert_eq!(e.precision(), precision);
            assert_eq!(e.values().collect::<Vec<_>>(), table.to_f64());
            let x = e.sequence(&[1, 0, 1]).expect("known tokens");
            let [a, b, c, d] = values.map(f64::from);
            assert_eq!(x.values(), [c, a, c, d, b, d]);
            assert!(matches!(e.sequence(&[2]), Err(Error::Token { .. })));
        }
    }
}

//! Elements of stored tensors, of every type that is read.

/// One tensor of a state dict. Values may still be NaN; [`StateDict::parameter`](super::state_dict::StateDict::parameter) checks.
#[derive(Debug, Clone, PartialEq)]
pub struct StateTensor {
    /// Axis lengths, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Values, row-major.
    pub values: Vec<f64>,
}

/// Element types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    F16,
    Bf16,
    F32,
    F64,
    I8,
    U8,
    Bool,
    I16,
    I32,
    I64,
}

impl Element {
    /// Bytes per element.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    /// Whether it holds whole numbers.
    pub(crate) fn is_integer(self) -> bool {
        matches!(
            self,
            Self::I8 | Self::U8 | Self::I16 | Self::I32 | Self::I64
        )
    }

    /// Elements that lie one behind the other.
    pub(crate) fn decode_all(self, raw: &[u8]) -> impl Iterator<Item = f64> {
        raw.chunks_exact(self.size())
            .map(move |raw| decode(self, raw))
    }
}

/// One little-endian element; `raw` has the element's size.
pub(crate) fn decode(element: Element, raw: &[u8]) -> f64 {
    let mut wide = [0u8; 8];
    wide[..raw.len()].copy_from_slice(raw);
    let bits = u64::from_le_bytes(wide);
    match element {
        Element::F64 => f64::from_bits(bits),
        Element::F32 => f64::from(f32::from_bits(bits as u32)),
        Element::Bf16 => f64::from(f32::from_bits((bits as u32) << 16)),
        Element::F16 => half_to_f64(bits as u16),
        Element::I8 => f64::from(bits as u8 as i8),
        Element::U8 | Element::Bool => f64::from(bits as u8),
        Element::I16 => f64::from(bits as u16 as i16),
        Element::I32 => f64::from(bits as u32 as i32),
        Element::I64 => bits as i64 as f64,
    }
}

/// The number that an IEEE 754 binary16 is.
#[must_use]
pub fn half_to_f64(h: u16) -> f64 {
    let sign = if h >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(h >> 10 & 31), f64::from(h & 1023));
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        e => (1024.0 + fraction) * 2f64.powi(e - 25),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision() {
        for (bits, value) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x0001, 5.960_464_477_539_063e-8),
            (0x7bff, 65504.0),
        ] {
            assert_eq!(half_to_f64(bits), value);
        }
        assert!(half_to_f64(0x7e00).is_nan());
        assert_eq!(decode(Element::Bf16, &[0x80, 0x3f]), 1.0);
        assert_eq!(decode(Element::I64, &(-5i64).to_le_bytes()), -5.0);
        assert_eq!(decode(Element::I8, &[0xff]), -1.0);
    }
}

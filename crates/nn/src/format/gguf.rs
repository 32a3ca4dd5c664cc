//! GGUF (llama.cpp's files), version 3: metadata, and tensors of which some are quantised in blocks.
//!
//! **Layout**, little-endian: `GGUF`, u32 version, u64 number of tensors, u64 number of metadata entries; each entry a string (u64 length, UTF-8), a
//! u32 type and the value; each tensor a string, u32 number of axes, u64 axes (innermost first), u32 type, u64 offset into the data; then, at
//! a multiple of `general.alignment` (32 if absent), the data.
//!
//! | type | block | value |
//! |---|---|---|
//! | F32, F16 | 1 | itself |
//! | Q8_0 | 32 values: f16 d, 32 × i8 q | d·q |
//! | Q4_1 | 32 values: f16 d, f16 m, 16 bytes: the low halves of all are values 0 to 15, the high ones 16 to 31 | d·q + m |
//!
//! Other types are refused by name. Which tensors a model needs is known to the model families, not here.

use super::element::half_to_f64;
use crate::Result;
use crate::error::Error;
use crate::tensor::product;
use std::collections::BTreeMap;

const FORMAT: &str = "GGUF";
const MAGIC: &[u8; 4] = b"GGUF";
/// Values of a quantised block.
const BLOCK: usize = 32;
const MAX_AXES: usize = 4;
/// No size is larger.
const MAX_SIZE: u64 = 1 << 24;

fn malformed(detail: impl Into<String>) -> Error {
    Error::malformed(FORMAT, detail)
}

/// Whether the bytes begin like a GGUF.
#[must_use]
pub fn recognises(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// An unsigned number of any width.
    Unsigned(u64),
    /// A signed number of any width.
    Signed(i64),
    /// Single precision.
    F32(f32),
    /// Double precision.
    F64(f64),
    /// Yes or no.
    Bool(bool),
    /// Text.
    Text(&'a str),
    /// Texts.
    Texts(Vec<&'a str>),
    /// Numbers of any kind, as they lie; none is used but the kinds of tokens.
    Numbers(Vec<i64>),
    /// An array that nothing here asks for.
    Other,
}

impl std::fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unsigned(v) => v.fmt(f),
            Self::Signed(v) => v.fmt(f),
            Self::F32(v) => v.fmt(f),
            Self::F64(v) => v.fmt(f),
            Self::Bool(v) => v.fmt(f),
            Self::Text(v) => write!(f, "{v:?}"),
            Self::Texts(_) | Self::Numbers(_) | Self::Other => f.write_str("an array"),
        }
    }
}

/// How a tensor's values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    F32,
    F16,
    Q4_1,
    Q8_0,
}

impl Kind {
    fn of(tensor: &str, code: u32) -> Result<Self> {
        Ok(match code {
            0 => Self::F32,
            1 => Self::F16,
            3 => Self::Q4_1,
            8 => Self::Q8_0,
            other => {
                return Err(malformed(format!(
                    "tensor {tensor} has type {}; F32, F16, Q8_0 and Q4_1 are read: quantise the model to one of them",
                    name(other)
                )));
            }
        })
    }

    /// Values and bytes of a block.
    fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 => (1, 2),
            Self::Q4_1 => (BLOCK, 20),
            Self::Q8_0 => (BLOCK, 34),
        }
    }
}

/// What llama.cpp calls a type.
fn name(code: u32) -> String {
    const NAMES: [&str; 31] = [
        "F32", "F16", "Q4_0", "Q4_1", "", "", "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K",
        "Q4_K", "Q5_K", "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S",
        "IQ2_S", "IQ4_XS", "I8", "I16", "I32", "I64", "F64", "IQ1_M", "BF16",
    ];
    match NAMES.get(code as usize) {
        Some(name) if !name.is_empty() => (*name).into(),
        _ => format!("number {code}"),
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Tensor<'a> {
    /// Outermost axis first.
    shape: Vec<usize>,
    kind: Kind,
    data: &'a [u8],
}

/// A file's metadata and tensors, whose bytes stay where they are until asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct File<'a> {
    metadata: BTreeMap<&'a str, Value<'a>>,
    tensors: BTreeMap<&'a str, Tensor<'a>>,
}

impl<'a> File<'a> {
    /// From a file's bytes.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::Version`], [`Error::Malformed`] with the entry or tensor.
    pub fn read(bytes: &'a [u8]) -> Result<Self> {
        let mut r = Reader { bytes, at: 0 };
        if r.take(4, "its head")? != MAGIC {
            return Err(malformed("it does not begin with GGUF"));
        }
        let version = r.u32("its version")?;
        if version != 3 {
            return Err(Error::Version {
                format: FORMAT,
                had: version.to_string(),
                known: "3",
            });
        }
        let tensors = r.u64("its number of tensors")?;
        let entries = r.u64("its number of entries")?;
        let mut metadata = BTreeMap::new();
        for i in 0..entries {
            let key = r.text(&format!("the key of entry {i}"))?;
            let kind = r.u32(key)?;
            let value = r.value(key, kind)?;
            if metadata.insert(key, value).is_some() {
                return Err(malformed(format!("{key} is given twice")));
            }
        }
        let mut heads = (0..tensors)
            .map(|i| r.head(i))
            .collect::<Result<Vec<_>>>()?;
        let alignment = match metadata.get("general.alignment") {
            None => 32,
            Some(Value::Unsigned(n)) if n.is_power_of_two() && *n <= 1 << 20 => *n as usize,
            Some(other) => {
                return Err(malformed(format!(
                    "general.alignment is {other:?}, it must be a power of two"
                )));
            }
        };
        let data = bytes.get(r.at.next_multiple_of(alignment)..).unwrap_or(&[]);
        let mut tensors = BTreeMap::new();
        // tensors that share bytes could take more memory than any multiple of the file's size
        heads.sort_by_key(|h| h.offset);
        let mut end = 0;
        for head in heads {
            if head.offset < end {
                return Err(malformed(format!(
                    "tensor {} lies at {}, before the end of another at {end}",
                    head.name, head.offset
                )));
            }
            let start = head.offset;
            let (name, tensor) = head.find(data, alignment)?;
            end = start + tensor.data.len() as u64;
            if tensors.insert(name, tensor).is_some() {
                return Err(malformed(format!("tensor {name} is given twice")));
            }
        }
        Ok(Self { metadata, tensors })
    }

    /// The metadata by key.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<&'a str, Value<'a>> {
        &self.metadata
    }

    /// The tensors' names with their shapes, outermost axis first.
    pub fn tensors(&self) -> impl Iterator<Item = (&'a str, &[usize])> {
        self.tensors
            .iter()
            .map(|(name, t)| (*name, t.shape.as_slice()))
    }

    /// A tensor's values in single precision, which must be of this shape.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::TensorShape`].
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let t = self.tensors.get(name);
        let t = t.ok_or_else(|| Error::missing(name, self.tensors.keys().copied()))?;
        if t.shape != shape {
            return Err(Error::shape(name, shape, &t.shape));
        }
        Ok(dequantised(t.kind, t.data))
    }
}

/// Metadata by key, checked.
impl File<'_> {
    /// The whole number, from 1 to a limit, under this key.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn size(&self, key: &str) -> Result<usize> {
        self.optional_size(key)?
            .ok_or_else(|| malformed(format!("{key} is missing")))
    }

    /// As [`File::size`]; None where the key is missing.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn optional_size(&self, key: &str) -> Result<Option<usize>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Unsigned(n)) if (1..=MAX_SIZE).contains(n) => Ok(Some(*n as usize)),
            Some(other) => Err(malformed(format!(
                "{key} is {other}, it must be a whole number from 1 to {MAX_SIZE}"
            ))),
        }
    }

    /// The positive number under this key (the shortest decimal that is this single), or what is usual where the key is missing.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn number(&self, key: &str, usual: Option<f64>) -> Result<f64> {
        let Some(had) = self.metadata.get(key) else {
            return usual.ok_or_else(|| malformed(format!("{key} is missing")));
        };
        let value = match had {
            Value::F32(v) => v.to_string().parse().unwrap_or(f64::NAN),
            Value::F64(v) => *v,
            _ => f64::NAN,
        };
        if value.is_finite() && value > 0.0 {
            return Ok(value);
        }
        Err(malformed(format!("{key} is {had}, it must be above 0")))
    }

    /// Refuses another value under this key than the known ones; absent, it is one of them.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn only(&self, key: &str, known: &[Value<'_>]) -> Result<()> {
        match self.metadata.get(key) {
            Some(v) if !known.contains(v) => {
                let known: Vec<_> = known.iter().map(Value::to_string).collect();
                let known = known.join(" or ");
                Err(malformed(format!("{key} is {v}, only {known} is known")))
            }
            _ => Ok(()),
        }
    }

    /// The token under this key, one of so many; None where the key is missing.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn token(&self, key: &str, tokens: usize) -> Result<Option<u32>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Unsigned(n)) if (*n as usize) < tokens => Ok(u32::try_from(*n).ok()),
            Some(v) => Err(malformed(format!(
                "{key} is {v}, there are {tokens} tokens"
            ))),
        }
    }
}

fn half(bytes: [u8; 2]) -> f32 {
    half_to_f64(u16::from_le_bytes(bytes)) as f32
}

/// The values of whole blocks.
fn dequantised(kind: Kind, data: &[u8]) -> Vec<f32> {
    match kind {
        Kind::F32 => {
            let words = data.as_chunks::<4>().0.iter();
            words.map(|b| f32::from_le_bytes(*b)).collect()
        }
        Kind::F16 => data.as_chunks::<2>().0.iter().map(|b| half(*b)).collect(),
        Kind::Q8_0 => {
            let blocks = data.as_chunks::<34>().0;
            let mut out = Vec::with_capacity(BLOCK * blocks.len());
            for [low, high, values @ ..] in blocks {
                let d = half([*low, *high]);
                out.extend(values.iter().map(|&q| d * f32::from(q.cast_signed())));
            }
            out
        }
        Kind::Q4_1 => {
            let blocks = data.as_chunks::<20>().0;
            let mut out = Vec::with_capacity(BLOCK * blocks.len());
            for [a, b, c, e, values @ ..] in blocks {
                let (d, m) = (half([*a, *b]), half([*c, *e]));
                let value = |q: u8| d * f32::from(q) + m;
                out.extend(values.iter().map(|&q| value(q & 15)));
                out.extend(values.iter().map(|&q| value(q >> 4)));
            }
            out
        }
    }
}

/// A tensor as the file announces it.
struct Head<'a> {
    name: &'a str,
    shape: Vec<usize>,
    kind: Kind,
    offset: u64,
}

impl<'a> Head<'a> {
    fn find(self, data: &'a [u8], alignment: usize) -> Result<(&'a str, Tensor<'a>)> {
        let Self {
            name,
            shape,
            kind,
            offset,
        } = self;
        let overflow = || malformed(format!("tensor {name} has axes {shape:?}, which overflow"));
        let values = product(&shape).ok_or_else(overflow)?;
        let (block, size) = kind.block();
        let row = shape.last().copied().unwrap_or(0);
        if row % block != 0 {
            return Err(malformed(format!(
                "tensor {name} has rows of {row} values, which are no whole blocks of {block}"
            )));
        }
        let length = (values / block).checked_mul(size).ok_or_else(overflow)?;
        let start = usize::try_from(offset).ok().filter(|o| o % alignment == 0);
        let start = start.ok_or_else(|| {
            malformed(format!(
                "tensor {name} lies at {offset}, which is no multiple of {alignment}"
            ))
        })?;
        let end = start.checked_add(length).ok_or_else(overflow)?;
        let had = data.len();
        let data = data.get(start..end).ok_or_else(|| {
            Error::truncated(
                FORMAT,
                format!("tensor {name} takes bytes {start} to {end} of the data, {had} are there"),
            )
        })?;
        Ok((name, Tensor { shape, kind, data }))
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn take(&mut self, n: usize, what: &str) -> Result<&'a [u8]> {
        if n > self.rest() {
            return Err(Error::truncated(
                FORMAT,
                format!("{what} takes {n} bytes, {} are left", self.rest()),
            ));
        }
        self.at += n;
        Ok(&self.bytes[self.at - n..self.at])
    }

    /// A little-endian number of `n` ≤ 8 bytes.
    fn number(&mut self, n: usize, what: &str) -> Result<u64> {
        let bytes = self.take(n, what)?.iter().rev();
        Ok(bytes.fold(0, |v, &b| v << 8 | u64::from(b)))
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        Ok(self.number(4, what)? as u32)
    }

    fn u64(&mut self, what: &str) -> Result<u64> {
        self.number(8, what)
    }

    /// A length that is followed by at least so many bytes for each unit.
    fn length(&mut self, unit: usize, what: &str) -> Result<usize> {
        let n = self.u64(what)?;
        let fits = usize::try_from(n).ok();
        let fits = fits.filter(|n| n.checked_mul(unit).is_some_and(|b| b <= self.rest()));
        fits.ok_or_else(|| {
            Error::truncated(
                FORMAT,
                format!("{what} has {n} entries, {} bytes are left", self.rest()),
            )
        })
    }

    fn text(&mut self, what: &str) -> Result<&'a str> {
        let n = self.length(1, what)?;
        std::str::from_utf8(self.take(n, what)?)
            .map_err(|_| malformed(format!("{what} is not UTF-8")))
    }

    fn value(&mut self, key: &str, kind: u32) -> Result<Value<'a>> {
        Ok(match kind {
            7 => match self.number(1, key)? {
                b @ (0 | 1) => Value::Bool(b == 1),
                other => {
                    return Err(malformed(format!("{key} is {other}, yes is 1 and no is 0")));
                }
            },
            8 => Value::Text(self.text(key)?),
            9 => self.array(key)?,
            _ => self.scalar(key, kind)?,
        })
    }

    fn scalar(&mut self, key: &str, kind: u32) -> Result<Value<'a>> {
        let width = width(kind)
            .ok_or_else(|| malformed(format!("{key} is of type {kind}, which is unknown")))?;
        let raw = self.number(width, key)?;
        // sign-extended from its width
        let signed = || {
            let unused = 64 - 8 * width as u32;
            (raw << unused).cast_signed() >> unused
        };
        Ok(match kind {
            1 | 3 | 5 | 11 => Value::Signed(signed()),
            6 => Value::F32(f32::from_bits(raw as u32)),
            12 => Value::F64(f64::from_bits(raw)),
            _ => Value::Unsigned(raw),
        })
    }

    fn array(&mut self, key: &str) -> Result<Value<'a>> {
        let kind = self.u32(key)?;
        if kind == 8 {
            let n = self.length(8, key)?;
            let texts = (0..n).map(|i| self.text(&format!("{key}[{i}]")));
            return Ok(Value::Texts(texts.collect::<Result<_>>()?));
        }
        let width = if kind == 7 { Some(1) } else { width(kind) };
        let width = width.ok_or_else(|| {
            malformed(format!(
                "{key} is an array of type {kind}; of texts and numbers are read"
            ))
        })?;
        let n = self.length(width, key)?;
        if !matches!(kind, 4 | 5) {
            self.take(n * width, key)?;
            return Ok(Value::Other);
        }
        let mut numbers = Vec::with_capacity(n);
        for _ in 0..n {
            match self.scalar(key, kind)? {
                Value::Signed(v) => numbers.push(v),
                Value::Unsigned(v) => numbers.push(v.cast_signed()),
                _ => {}
            }
        }
        Ok(Value::Numbers(numbers))
    }

    fn head(&mut self, i: u64) -> Result<Head<'a>> {
        let name = self.text(&format!("the name of tensor {i}"))?;
        let what = format!("tensor {name}");
        let axes = self.u32(&what)? as usize;
        if axes == 0 || axes > MAX_AXES {
            return Err(malformed(format!(
                "{what} has {axes} axes, 1 to {MAX_AXES} are possible"
            )));
        }
        let mut shape = Vec::new();
        for _ in 0..axes {
            let d = self.u64(&what)?;
            let d = usize::try_from(d).ok().filter(|d| *d > 0);
            shape.push(d.ok_or_else(|| malformed(format!("{what} has an empty axis")))?);
        }
        shape.reverse();
        let kind = Kind::of(name, self.u32(&what)?)?;
        let offset = self.u64(&what)?;
        Ok(Head {
            name,
            shape,
            kind,
            offset,
        })
    }
}

/// Bytes of a number of this type.
fn width(kind: u32) -> Option<usize> {
    match kind {
        0 | 1 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

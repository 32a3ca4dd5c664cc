//! `.npy`: one NumPy array of bytes, integers or floats, in either byte order.

use crate::Result;
use crate::error::Error;
use crate::files::{picture_shape, read_all, unpacked};
use crate::shape::Shape;
use nn::format::half_to_f64;
use std::path::Path;

/// What every `.npy` file begins with.
pub(crate) const MARK: &[u8] = b"\x93NUMPY";

/// Where an array stands, for errors: a file, and the array's name in a file of several.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) path: &'a Path,
    pub(crate) format: &'static str,
    /// "it" in a file of one array.
    pub(crate) name: &'a str,
}

impl<'a> Place<'a> {
    /// The array of this name in the same file.
    pub(crate) fn of(self, name: &'a str) -> Self {
        Self { name, ..self }
    }

    pub(crate) fn malformed(self, detail: impl std::fmt::Display) -> Error {
        Error::malformed(self.path, self.format, format!("{} {detail}", self.name))
    }
}

/// The types of values that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    Unsigned,
    Signed,
    Float,
}

/// An array, its values in the order of its axes.
pub(crate) struct Array {
    pub(crate) dims: Vec<usize>,
    kind: Kind,
    /// NumPy's name of the type.
    description: String,
    /// Bytes of a value, which are big-endian where `big`.
    size: usize,
    big: bool,
    /// Whether the first axis runs fastest.
    fortran: bool,
    bytes: Vec<u8>,
}

/// The lengths of the axes and the numbers, row-major, of an array of at most `limit` bytes.
///
/// # Errors
/// Files that can't be read or are no such array.
pub fn read_numbers(path: &Path, limit: u64) -> Result<(Vec<usize>, Vec<f64>)> {
    let place = Place {
        path,
        format: "NumPy array",
        name: "it",
    };
    let bytes = read_all(unpacked(path)?, limit, path, place.format)?;
    let array = Array::read(bytes, place)?;
    if array.fortran && array.dims.len() > 1 {
        return Err(place.malformed("is in Fortran order; save numpy.ascontiguousarray of it"));
    }
    let count = array.bytes.len() / array.size.max(1);
    let numbers = (0..count).map(|i| array.number(i)).collect();
    Ok((array.dims, numbers))
}

/// An array of these lengths of axes, row-major, in 64 bits.
#[must_use]
pub fn array_bytes(dims: &[usize], numbers: &[f64]) -> Vec<u8> {
    let dims: String = dims.iter().map(|d| format!("{d},")).collect();
    let head = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({dims}), }}");
    // the values begin at a multiple of 64, behind a line's end
    let length = (MARK.len() + 4 + head.len() + 1).next_multiple_of(64) - MARK.len() - 4;
    let mut bytes = [MARK, &[1, 0]].concat();
    bytes.extend(u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
    bytes.extend(format!("{head:<width$}\n", width = length - 1).bytes());
    bytes.extend(numbers.iter().flat_map(|v| v.to_le_bytes()));
    bytes
}

/// What follows `'key':` in an array's head.
fn field<'a>(head: &'a str, key: &str) -> Option<&'a str> {
    let at = head.find(&format!("'{key}':"))? + key.len() + 3;
    Some(head[at..].trim_start())
}

impl Array {
    /// The array of `.npy` bytes.
    pub(crate) fn read(mut bytes: Vec<u8>, place: Place<'_>) -> Result<Self> {
        let broken =
            || place.malformed("is no NumPy array; save it with numpy.save or numpy.savez");
        let (head, length) = match bytes[..] {
            [0x93, b'N', b'U', b'M', b'P', b'Y', 1, _, a, b, ..] => {
                (10, u32::from(u16::from_le_bytes([a, b])))
            }
            [0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, _, a, b, c, d, ..] => {
                (12, u32::from_le_bytes([a, b, c, d]))
            }
            _ => return Err(broken()),
        };
        let start = head + length as usize;
        let text = bytes.get(head..start).ok_or_else(broken)?;
        let text = std::str::from_utf8(text).map_err(|_| broken())?;
        let description = field(text, "descr").ok_or_else(broken)?;
        let description = description.split([',', '}']).next().unwrap_or_default();
        let description = description.trim().trim_matches('\'').to_owned();
        let letters = description.as_bytes();
        let (kind, size) = match letters.get(1..) {
            Some([b'b', b'1']) => (Kind::Bool, 1),
            Some([b'u', n @ (b'1' | b'2' | b'4' | b'8')]) => (Kind::Unsigned, n - b'0'),
            Some([b'i', n @ (b'1' | b'2' | b'4' | b'8')]) => (Kind::Signed, n - b'0'),
            Some([b'f', n @ (b'2' | b'4' | b'8')]) => (Kind::Float, n - b'0'),
            _ => {
                return Err(place.malformed(format_args!(
                    "holds values of type '{description}'; integers, booleans and floats of 16, 32 or 64 bits are read: convert it with .astype"
                )));
            }
        };
        let fortran = match field(text, "fortran_order") {
            Some(v) if v.starts_with("False") => false,
            Some(v) if v.starts_with("True") => true,
            _ => return Err(broken()),
        };
        let dims = field(text, "shape")
            .and_then(|s| s.strip_prefix('(')?.split_once(')'))
            .and_then(|(dims, _)| {
                let dims = dims.split(',').map(str::trim).filter(|d| !d.is_empty());
                dims.map(|d| d.parse::<usize>().ok())
                    .collect::<Option<Vec<_>>>()
            })
            .ok_or_else(broken)?;
        let size = usize::from(size);
        let needed = dims.iter().try_fold(size, |p, &d| p.checked_mul(d));
        if needed != Some(bytes.len() - start) {
            return Err(place.malformed(format_args!(
                "promises {dims:?} values, {} are there; copy or download it again",
                (bytes.len() - start) / size
            )));
        }
        bytes.drain(..start);
        Ok(Self {
            big: letters[0] == b'>',
            dims,
            kind,
            description,
            size,
            fortran,
            bytes,
        })
    }

    /// Pictures, one byte a value: `(N, H, W)`, `(N, H, W, C)` or `(N, C, H, W)` of 1 or 3 channels, of bytes, of whole numbers from 0 to 255 in any
    /// type, or of floats from 0 to 1 that are such numbers divided by 255, which is told.
    pub(crate) fn pictures(self, place: Place<'_>) -> Result<(Vec<u8>, Shape, bool)> {
        let (shape, turned) = match (picture_shape(&self.dims), &self.dims[..]) {
            (Some(shape), _) => (shape, false),
            (None, &[n, c @ (1 | 3), h, w]) => match picture_shape(&[n, h, w, c]) {
                Some(shape) => (shape, true),
                None => return Err(self.no_pictures(place)),
            },
            _ => return Err(self.no_pictures(place)),
        };
        if self.fortran && self.dims.len() > 1 {
            return Err(place.malformed("is in Fortran order; save numpy.ascontiguousarray of it"));
        }
        let (bytes, divided) = match (self.kind, self.size) {
            (Kind::Bool, _) => {
                return Err(place.malformed(
                    "holds booleans, of which nothing says whether true is 1 of 255 or 255; save pictures of 0 and 255, as .astype('uint8') * 255, or floats from 0 to 1",
                ));
            }
            (Kind::Unsigned, 1) => (self.bytes, false),
            _ => self.as_bytes(place)?,
        };
        if !turned {
            return Ok((bytes, shape, divided));
        }
        let (area, c) = (shape.height * shape.width, shape.channels);
        let pixels = bytes
            .chunks_exact((area * c).max(1))
            .flat_map(|picture| (0..area * c).map(move |i| picture[i % c * area + i / c]));
        Ok((pixels.collect(), shape, divided))
    }

    fn no_pictures(&self, place: Place<'_>) -> Error {
        let dims = &self.dims;
        place.malformed(format_args!(
            "has shape {dims:?}; (N, H, W), (N, H, W, C) and (N, C, H, W) of 1 or 3 channels are read"
        ))
    }

    /// Numbers of another type as the bytes that they are, and whether they were such bytes divided by 255.
    fn as_bytes(&self, place: Place<'_>) -> Result<(Vec<u8>, bool)> {
        let count = self.bytes.len() / self.size.max(1);
        if let Some(at) = (0..count).find(|&i| !self.number(i).is_finite()) {
            return Err(place.malformed(format_args!(
                "holds {} (value {at}, counted from 0), no pixel of a picture; replace what is no finite number",
                self.number(at)
            )));
        }
        let most = (0..count).map(|i| self.number(i)).fold(0.0, f64::max);
        let divided = self.kind == Kind::Float && most <= 1.0;
        let factor = if divided { 255.0 } else { 1.0 };
        let byte = |i: usize| {
            let v = factor * self.number(i);
            let near = (v - v.round()).abs() < 1e-3 && (0.0..=255.0).contains(&v.round());
            near.then(|| v.round() as u8).ok_or_else(|| {
                place.malformed(format_args!(
                    "holds {} (type '{}'), which is neither a whole number from 0 to 255 nor one divided by 255, as pictures of 8 bits have; save them before they are normalised, as .astype('uint8'); other numbers are read as rows, of an array that is saved alone, as .npy",
                    self.number(i),
                    self.description
                ))
            })
        };
        let bytes: Result<_> = (0..count).map(byte).collect();
        Ok((bytes?, divided))
    }

    /// Value `i` of the file, as it was written: its bits with the low byte first.
    fn word(&self, i: usize) -> [u8; 8] {
        let mut word = [0; 8];
        let bytes = &self.bytes[i * self.size..(i + 1) * self.size];
        word[..self.size].copy_from_slice(bytes);
        if self.big {
            word[..self.size].reverse();
        }
        word
    }

    fn integer(&self, i: usize) -> i128 {
        let word = u64::from_le_bytes(self.word(i));
        let unused = 64 - 8 * self.size as u32;
        match self.kind {
            Kind::Signed => i128::from((word << unused) as i64 >> unused),
            _ => i128::from(word),
        }
    }

    fn number(&self, i: usize) -> f64 {
        let word = self.word(i);
        let [a, b, c, d, ..] = word;
        match (self.kind, self.size) {
            (Kind::Float, 2) => half_to_f64(u16::from_le_bytes([a, b])),
            (Kind::Float, 4) => f64::from(f32::from_le_bytes([a, b, c, d])),
            (Kind::Float, _) => f64::from_le_bytes(word),
            _ => self.integer(i) as f64,
        }
    }

    /// Class numbers, one for each row: `(N)` or `(N, 1)` of any type of integers.
    pub(crate) fn labels(&self, place: Place<'_>) -> Result<Vec<u16>> {
        let ([_] | [_, 1]) = self.dims[..] else {
            return Err(place.malformed(format_args!(
                "has shape {:?}; one label for each, (N) or (N, 1), is read; several labels for each are read as numbers, 0 or 1, of a network that gives labels",
                self.dims
            )));
        };
        if self.kind == Kind::Float {
            return Err(place.malformed(format_args!(
                "holds values of type '{}', labels are integers; convert it with .astype('int64'), or read it as numbers to predict",
                self.description
            )));
        }
        let label = |i| {
            u16::try_from(self.integer(i)).map_err(|_| {
                place.malformed(format_args!(
                    "has the label {} in row {i}, counted from 0; classes are numbered from 0 to at most 65,535",
                    self.integer(i)
                ))
            })
        };
        (0..self.dims[0]).map(label).collect()
    }

    /// Whether it can hold several labels for each row: `(N, L)` of two or more.
    pub(crate) fn is_several(&self) -> bool {
        matches!(self.dims[..], [_, width] if width > 1)
    }

    /// Which of several labels hold, row by row: numbers 0 and 1 of any type.
    pub(crate) fn several(&self, place: Place<'_>) -> Result<Vec<bool>> {
        let (rows, width) = match self.dims[..] {
            [rows, width] => (rows, width),
            _ => return Ok(Vec::new()),
        };
        let at = |i: usize| match self.fortran {
            true => i % width * rows + i / width,
            false => i,
        };
        let holds = |i: usize| match self.number(at(i)) {
            v if v == 0.0 || v == 1.0 => Ok(v == 1.0),
            v => Err(Error::cell(
                place.path,
                "row",
                (i / width, i % width),
                format!(
                    " of {}, counted from 0, is {v}; of several labels each is 0 or 1: it holds or it does not",
                    place.name
                ),
            )),
        };
        (0..rows * width).map(holds).collect()
    }

    /// Refuses vectors of more axes than one that are not of this shape, and pixels, which a network of pictures does not take as they are.
    pub(crate) fn check_shape(&self, place: Place<'_>, shape: nn::Shape) -> Result<()> {
        let [_, axes @ ..] = &self.dims[..] else {
            return Ok(());
        };
        if axes.len() > 1 && !shape.holds(axes) {
            return Err(place.malformed(format_args!(
                "has shape {:?}, the network takes inputs of shape {shape}: (N, channels, length), (N, channels, height, width) or (N, {}) are read; numpy.transpose brings axes into that order",
                self.dims,
                shape.len()
            )));
        }
        match shape {
            nn::Shape::Image { height: 2.., .. } if self.kind != Kind::Float => {
                Err(place.malformed(format_args!(
                    "holds values of type '{}', as pixels have, and numbers are taken as they are; save the floats that the network takes, or pictures of 1 or 3 channels as .npz",
                    self.description
                )))
            }
            _ => Ok(()),
        }
    }

    /// Finite numbers row by row and how many a row has; one axis is one row, or a column of numbers.
    pub(crate) fn rows(&self, place: Place<'_>, one_axis: OneAxis) -> Result<(Vec<f64>, usize)> {
        if self.fortran && self.dims.len() > 2 {
            return Err(place.malformed("is in Fortran order; save numpy.ascontiguousarray of it"));
        }
        let (rows, rest) = match (&self.dims[..], one_axis) {
            (rest, OneAxis::Row) if rest.len() == 1 => (1, rest),
            ([rows, rest @ ..], _) => (*rows, rest),
            ([], _) => return Err(place.malformed("is a single number; vectors are (N, D)")),
        };
        let width = rest.iter().try_fold(1usize, |p, &d| p.checked_mul(d));
        let Some(width @ 1..) = width else {
            return Err(
                place.malformed(format_args!("has shape {:?}, rows of no values", self.dims))
            );
        };
        let at = |i: usize| match self.fortran && self.dims.len() == 2 {
            true => i % width * rows + i / width,
            false => i,
        };
        let value = |i: usize| match self.number(at(i)) {
            v if v.is_finite() => Ok(v),
            v => Err(Error::cell(
                place.path,
                "row",
                (i / width, i % width),
                format!(
                    " of {}, counted from 0, is {v}; replace what is no finite number, or leave its row out",
                    place.name
                ),
            )),
        };
        let values = (0..rows * width).map(value).collect::<Result<Vec<f64>>>()?;
        Ok((values, width))
    }
}

/// What an array of one axis is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OneAxis {
    /// One vector.
    Row,
    /// One number for each vector.
    Column,
}

//! Integer weights of layers in coefficients: in memory, or in a file beside the plan, of which a few rows are in memory at a time; and before they are
//! written, made anew of what they come from whenever they are read ([`Integers::made`]).
//!
//! A file of weights holds a plan's integer vectors one after the other, each in as few bytes as its largest needs. It is read once from end to end
//! when its plan is read: the digest of each vector goes into the plan's, so that a file of another plan, or one that was changed, is
//! refused. What is read later, by position into buffers that are used again, is held to what that pass saw, block by block.

use crate::machine::read_at;
use crate::wire::container::{Digest, Ids, Kind, Reader, Writer};
use crate::{Error, Help, Result};
use ckks::folded::Shared;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Write};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

const ROWS: [u8; 4] = *b"rows";
/// Numbers that are looked at at once.
pub(crate) const BLOCK: usize = 1 << 14;
/// Bytes of a file that are held to one checksum.
const CHECKED: usize = 1 << 16;
const REMEDY: &str = "put the file of the same compilation beside the plan, under the plan's name with the ending `weights`, or compile again";

/// The integer weights of one kernel, wherever they lie. Clones share them.
#[derive(Clone)]
pub struct Integers(Place);

#[derive(Clone)]
enum Place {
    Held(Arc<Vec<i32>>),
    Made(Arc<Made>),
    Stored(Stored),
}

/// Writes the numbers from a place on.
type Make = dyn Fn(usize, &mut [i32]) + Send + Sync;

/// A vector that exists a few rows at a time.
struct Made {
    length: usize,
    /// Bytes of memory that it counts as.
    held_bytes: u64,
    largest: u32,
    /// Whether all numbers are the same.
    uniform: bool,
    make: Box<Make>,
    digest: OnceLock<Digest>,
}

/// A vector in a file.
#[derive(Clone)]
struct Stored {
    file: Arc<WeightFile>,
    /// Its first byte in the section.
    first: u64,
    length: usize,
    width: Width,
    digest: Digest,
    largest: u32,
}

/// Bytes of a number in a file: the low ones of its two's complement, little endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub(crate) struct Width(u8);

impl TryFrom<u8> for Width {
    type Error = String;

    fn try_from(bytes: u8) -> Result<Self, String> {
        match bytes {
            2..=4 => Ok(Self(bytes)),
            _ => Err(format!("weights of {bytes} bytes; they have 2 to 4")),
        }
    }
}

impl From<Width> for u8 {
    fn from(width: Width) -> Self {
        width.0
    }
}

impl Width {
    /// The least for numbers of this magnitude.
    fn of(largest: u32) -> Self {
        match largest {
            0..0x8000 => Self(2),
            0x8000..0x80_0000 => Self(3),
            _ => Self(4),
        }
    }
    fn bytes(self) -> usize {
        usize::from(self.0)
    }
    fn encode(self, values: &[i32], out: &mut Vec<u8>) {
        out.clear();
        for v in values {
            out.extend_from_slice(&v.to_le_bytes()[..self.bytes()]);
        }
    }
    fn decode(self, bytes: &[u8], out: &mut [i32]) {
        match self.0 {
            2 => (out.iter_mut().zip(bytes.as_chunks::<2>().0))
                .for_each(|(v, b)| *v = i32::from(i16::from_le_bytes(*b))),
            3 => (out.iter_mut().zip(bytes.as_chunks::<3>().0))
                .for_each(|(v, b)| *v = i32::from_le_bytes([0, b[0], b[1], b[2]]) >> 8),
            _ => (out.iter_mut().zip(bytes.as_chunks::<4>().0))
                .for_each(|(v, b)| *v = i32::from_le_bytes(*b)),
        }
    }
}

impl From<Vec<i32>> for Integers {
    fn from(values: Vec<i32>) -> Self {
        Self(Place::Held(Arc::new(values)))
    }
}

impl FromIterator<i32> for Integers {
    fn from_iter<I: IntoIterator<Item = i32>>(values: I) -> Self {
        values.into_iter().collect::<Vec<_>>().into()
    }
}

impl std::fmt::Debug for Integers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} integers", self.len())
    }
}

/// The same numbers, wherever they lie.
impl PartialEq for Integers {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Place::Held(a), Place::Held(b)) => a == b,
            _ => self.len() == other.len() && self.digest() == other.digest(),
        }
    }
}

impl Integers {
    /// So many numbers, the largest of this magnitude, made again whenever they are read, always the same: `make` writes those from a place on.
    pub fn made(
        length: usize,
        largest: u32,
        make: impl Fn(usize, &mut [i32]) + Send + Sync + 'static,
    ) -> Self {
        Self(Place::Made(Arc::new(Made {
            length,
            largest,
            held_bytes: 0,
            uniform: false,
            make: Box::new(make),
            digest: OnceLock::new(),
        })))
    }
    /// Ones that stand for so many weights of which nobody knows more. They count as held in memory, as those will be, and take none.
    pub fn unknown(length: usize) -> Self {
        Self(Place::Made(Arc::new(Made {
            length,
            largest: 1,
            held_bytes: 4 * length as u64,
            uniform: true,
            make: Box::new(|_, out| out.fill(1)),
            digest: OnceLock::new(),
        })))
    }
    /// How many.
    pub fn len(&self) -> usize {
        match &self.0 {
            Place::Held(v) => v.len(),
            Place::Made(m) => m.length,
            Place::Stored(s) => s.length,
        }
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Bytes of memory that they take for good.
    pub fn held_bytes(&self) -> u64 {
        match &self.0 {
            Place::Held(v) => 4 * v.len() as u64,
            Place::Made(m) => m.held_bytes,
            Place::Stored(_) => 0,
        }
    }
    /// Bytes that they take in a file of weights.
    pub fn stored_bytes(&self) -> u64 {
        (self.width().bytes() * self.len()) as u64
    }
    /// The largest magnitude.
    pub(crate) fn largest(&self) -> u32 {
        match &self.0 {
            Place::Held(v) => v.iter().map(|w| w.unsigned_abs()).max().unwrap_or(0),
            Place::Made(m) => m.largest,
            Place::Stored(s) => s.largest,
        }
    }
    pub(crate) fn width(&self) -> Width {
        match &self.0 {
            // as it lies there, though a lesser one may do
            Place::Stored(s) => s.width,
            Place::Held(_) | Place::Made(_) => Width::of(self.largest()),
        }
    }
    /// What tells them from others, as long as any clone lives.
    pub(crate) fn identity(&self) -> (usize, u64) {
        match &self.0 {
            Place::Held(v) => (Arc::as_ptr(v) as usize, u64::MAX),
            Place::Made(m) => (Arc::as_ptr(m) as usize, u64::MAX),
            Place::Stored(s) => (Arc::as_ptr(&s.file) as usize, s.first),
        }
    }
    /// Whether all numbers are the same by the way they are made.
    pub(crate) fn uniform(&self) -> bool {
        matches!(&self.0, Place::Made(m) if m.uniform)
    }
    /// The same, which keeps them alive.
    pub(crate) fn shared(&self) -> Shared {
        match &self.0 {
            Place::Held(v) => Shared::new(v.clone(), u64::MAX),
            Place::Made(m) => Shared::new(m.clone(), u64::MAX),
            Place::Stored(s) => Shared::new(s.file.clone(), s.first),
        }
    }
    /// BLAKE3 of the numbers, four bytes each.
    pub(crate) fn digest(&self) -> Digest {
        match &self.0 {
            Place::Held(v) => hash(v),
            Place::Made(m) => *m.digest.get_or_init(|| m.hash()),
            Place::Stored(s) => s.digest,
        }
    }
    /// Writes the numbers from place `from` on.
    ///
    /// # Errors
    /// [`ckks::Error::Conformance`] beyond their end; [`ckks::Error::StoredWeights`] where a file can't be read or was changed.
    pub fn read(&self, from: usize, out: &mut [i32]) -> Result<(), ckks::Error> {
        let end = from.checked_add(out.len()).filter(|end| *end <= self.len());
        let Some(end) = end else {
            let reason = format!("{} from {from} on, of {}", out.len(), self.len());
            return Err(ckks::Error::conformance("weights", reason));
        };
        match &self.0 {
            Place::Held(v) => out.copy_from_slice(&v[from..end]),
            Place::Made(m) => (m.make)(from, out),
            Place::Stored(s) => s.file.read(s, from, out)?,
        }
        Ok(())
    }
    /// All numbers, some at a time.
    pub(crate) fn blocks(
        &self,
        mut take: impl FnMut(&[i32]) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        match &self.0 {
            Place::Held(v) => v.chunks(BLOCK).try_for_each(take),
            Place::Made(_) | Place::Stored(_) => {
                let length = self.len();
                let mut block = vec![0; BLOCK.min(length)];
                for from in (0..length).step_by(BLOCK) {
                    let block = &mut block[..BLOCK.min(length - from)];
                    self.read(from, block).map_err(std::io::Error::other)?;
                    take(block)?;
                }
                Ok(())
            }
        }
    }
}

impl Made {
    fn hash(&self) -> Digest {
        let (mut hasher, mut block) = (blake3::Hasher::new(), vec![0; BLOCK]);
        for from in (0..self.length).step_by(BLOCK) {
            let block = &mut block[..BLOCK.min(self.length - from)];
            (self.make)(from, block);
            add(&mut hasher, block);
        }
        *hasher.finalize().as_bytes()
    }
}

fn hash(values: &[i32]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    values.chunks(BLOCK).for_each(|v| add(&mut hasher, v));
    *hasher.finalize().as_bytes()
}

fn add(hasher: &mut blake3::Hasher, values: &[i32]) {
    let mut bytes = Vec::new();
    Width(4).encode(values, &mut bytes);
    hasher.update(&bytes);
}

/// A checked file of weights.
struct WeightFile {
    file: File,
    name: String,
    /// Where its section's payload begins, and how long it is.
    start: u64,
    length: u64,
    /// Of each block of the payload.
    sums: Vec<Digest>,
    /// Buffers that wait to be used again.
    buffers: Mutex<Vec<Vec<u8>>>,
}

impl std::fmt::Debug for WeightFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WeightFile({}, {} bytes)", self.name, self.length)
    }
}

impl WeightFile {
    fn read(&self, of: &Stored, from: usize, out: &mut [i32]) -> Result<(), ckks::Error> {
        let fail = |reason: String| ckks::Error::StoredWeights { reason };
        let changed = || {
            fail(format!(
                "the weight file {} changed while in use; put the file of the plan back, leave it alone until the run ends, and go on from the last checkpoint",
                self.name
            ))
        };
        let width = of.width.bytes();
        let begin = of.first + (from * width) as u64;
        let end = begin + (out.len() * width) as u64;
        // whole blocks, since these are what there are checksums of
        let block = CHECKED as u64;
        let (first, last) = (begin / block, end.div_ceil(block));
        let (low, high) = (first * block, (last * block).min(self.length));
        let buffers = || self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = buffers().pop().unwrap_or_default();
        bytes.resize((high - low) as usize, 0);
        match read_at(&self.file, &mut bytes, self.start + low) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Err(changed()),
            Err(e) => return Err(fail(format!("{}: {e}", self.name))),
        }
        let sums = self.sums.get(first as usize..last as usize);
        let right = bytes.chunks(CHECKED).map(|b| *blake3::hash(b).as_bytes());
        if !sums.is_some_and(|sums| right.eq(sums.iter().copied())) {
            return Err(changed());
        }
        let at = (begin - low) as usize..(end - low) as usize;
        of.width.decode(&bytes[at], out);
        buffers().push(bytes);
        Ok(())
    }
}

/// The checksums of blocks of what passes.
#[derive(Default)]
struct Sums {
    done: Vec<Digest>,
    hasher: blake3::Hasher,
    had: usize,
}

impl Sums {
    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHECKED - self.had));
            self.hasher.update(now);
            self.had += now.len();
            bytes = later;
            if self.had == CHECKED {
                self.end();
            }
        }
    }
    fn end(&mut self) {
        if self.had > 0 {
            self.done.push(*self.hasher.finalize().as_bytes());
        }
        (self.hasher, self.had) = (blake3::Hasher::new(), 0);
    }
}

/// Writes a file of weights of the plan with these digests.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn write<'a, W: Write>(
    out: W,
    name: &str,
    ids: Ids,
    vectors: impl Iterator<Item = &'a Integers> + Clone,
) -> Result<W> {
    let length = vectors.clone().map(Integers::stored_bytes).sum();
    let mut file = Writer::new(out, name, Kind::Weights, ids, vec![(ROWS, length)])?;
    file.begin()?;
    let mut bytes = Vec::new();
    for vector in vectors {
        let width = vector.width();
        let mut refused = None;
        let passed = vector.blocks(|values| {
            width.encode(values, &mut bytes);
            file.write(&bytes).map_err(|e| {
                refused = Some(e);
                std::io::Error::other("refused")
            })
        });
        if let Some(refused) = refused {
            return Err(refused);
        }
        passed.map_err(Error::io(name))?;
    }
    file.finish()
}

/// Weights that are no regular file.
pub(crate) fn no_file(name: &str) -> Error {
    let problem = "rows are read from any place of it, but it is no regular file";
    Error::file(name, "kind of file", problem, REMEDY)
}

/// Reads a file of weights from end to end: its vectors, of these lengths and widths. Whether they are those of the plan is told by
/// their digests, which go into the plan's.
///
/// # Errors
/// [`Error::File`] for a file of another kind or plan, one that is too short, too long or damaged; [`Error::Io`].
pub(crate) fn open(
    file: File,
    name: &str,
    ids: &Ids,
    vectors: &[(usize, Width)],
) -> Result<Vec<Integers>> {
    let refuse = |field: &str, problem: String| Error::file(name, field, problem, REMEDY);
    if !file.metadata().map_err(Error::io(name))?.is_file() {
        return Err(no_file(name));
    }
    let mut reader = Reader::new(
        BufReader::with_capacity(1 << 20, &file),
        name,
        Kind::Weights,
    )?;
    let had = reader.header().ids;
    if had.plan != ids.plan || had.parameters != ids.parameters {
        return Err(refuse(
            "plan",
            "these are the weights of another plan".into(),
        ));
    }
    let each = |&(length, width): &(usize, Width)| (length * width.bytes()) as u64;
    let length = vectors.iter().map(each).sum();
    reader.begin_exact(ROWS, length)?;
    let start = reader.position();
    let mut sums = Sums::default();
    let mut read = Vec::with_capacity(vectors.len());
    let (mut bytes, mut values) = (Vec::new(), vec![0; BLOCK]);
    for &(length, width) in vectors {
        let (mut hasher, mut largest) = (blake3::Hasher::new(), 0);
        for from in (0..length).step_by(BLOCK) {
            let values = &mut values[..BLOCK.min(length - from)];
            bytes.resize(values.len() * width.bytes(), 0);
            reader.take(&mut bytes)?;
            sums.pass(&bytes);
            width.decode(&bytes, values);
            add(&mut hasher, values);
            largest = values.iter().fold(largest, |m, v| v.unsigned_abs().max(m));
        }
        read.push((*hasher.finalize().as_bytes(), largest));
    }
    sums.end();
    reader.end()?;
    drop(reader.finish()?);
    let file = Arc::new(WeightFile {
        file,
        name: name.into(),
        start,
        length,
        sums: sums.done,
        buffers: Mutex::default(),
    });
    let mut first = 0;
    let stored = vectors.iter().zip(read).map(|(v, (digest, largest))| {
        let at = first;
        first += each(v);
        Integers(Place::Stored(Stored {
            file: file.clone(),
            first: at,
            length: v.0,
            width: v.1,
            digest,
            largest,
        }))
    });
    Ok(stored.collect())
}

/// Says where a plan's weights are to be, whose reader was given no file.
pub(crate) fn missing(name: &str) -> Error {
    let problem = "its weights lie in a file beside it, which was not given";
    let remedy = Help::Compile.with(REMEDY);
    Error::file(name, "weights", problem, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At both ends of what each width holds, up to the largest weights of either precision, 2^24 and 2^28.
    #[test]
    fn numbers_come_back_in_as_few_bytes_as_the_largest_needs() {
        for (largest, bytes) in [
            (0x7fff, 2),
            (0x8000, 3),
            (0x7f_ffff, 3),
            (0x80_0000, 4),
            (1 << 24, 4),
            (1 << 28, 4),
        ] {
            let values = [0, 1, -1, largest, -largest, 77 - largest];
            let held: Integers = values.into_iter().collect();
            let width = held.width();
            assert_eq!(u8::from(width), bytes, "{largest}");
            let (mut file, mut back) = (Vec::new(), [5; 6]);
            width.encode(&values, &mut file);
            assert_eq!(file.len() as u64, held.stored_bytes());
            width.decode(&file, &mut back);
            assert_eq!(back, values);
        }
    }

    #[test]
    fn numbers_that_are_made_are_those_that_are_held() {
        let length = 3 * BLOCK + 5;
        let number = |i: usize| i32::try_from(i * 7919 % 40_000).unwrap_or(0) - 20_000;
        let held: Integers = (0..length).map(number).collect();
        let make = move |from: usize, out: &mut [i32]| {
            (from..).zip(out).for_each(|(i, w)| *w = number(i));
        };
        let made = Integers::made(length, held.largest(), make);
        assert_eq!(made, held);
        assert_eq!((made.digest(), made.width()), (held.digest(), held.width()));
        assert_eq!(
            (made.held_bytes(), made.identity()),
            (0, made.clone().identity())
        );
        let mut some = [0; 9];
        made.read(BLOCK - 4, &mut some).expect("within");
        assert_eq!(some[8], number(BLOCK + 4));
        assert!(made.read(length - 8, &mut some).is_err());
        let other = Integers::made(length, 20_000, |_, out| out.fill(1));
        assert_ne!(other, held);
        let unknown = Integers::unknown(length);
        let ones: Integers = std::iter::repeat_n(1, length).collect();
        assert_eq!(unknown, ones);
        assert_eq!(unknown.held_bytes(), ones.held_bytes());
    }
}

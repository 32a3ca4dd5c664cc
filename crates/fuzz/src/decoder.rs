//! A decoder with what fuzzing it takes: valid seeds, a mutator, the limit on memory, and the laws that what it accepts keeps.

use crate::allocation::{Usage, counted};
use crate::bytes;
use crate::random::Random;

/// What an execution found: whether the bytes were accepted, or the law that is broken.
pub(crate) type Outcome = Result<bool, String>;

/// A law that what was accepted keeps, or how it is broken.
pub(crate) type Law = Result<(), String>;
/// Makes a mutant of some seeds.
type Generate = Box<dyn Fn(&mut Random, &[Vec<u8>]) -> Vec<u8> + Send + Sync>;
type Decode = Box<dyn Fn(&mut Probe<'_>) -> Outcome + Send + Sync>;

/// A decoder with what fuzzing it takes.
pub(crate) struct Decoder {
    pub(crate) name: &'static str,
    /// Valid files.
    pub(crate) seeds: Vec<Vec<u8>>,
    /// Most bytes that decoding may hold at once.
    limit: fn(&[u8]) -> usize,
    generate: Generate,
    decode: Decode,
}

/// Counts what decoding allocates, apart from what checking its result does.
pub(crate) struct Probe<'a> {
    pub(crate) bytes: &'a [u8],
    limit: usize,
    usage: Usage,
}

impl<'a> Probe<'a> {
    pub(crate) fn count<T>(&mut self, decode: impl FnOnce(&'a [u8]) -> T) -> T {
        let bytes = self.bytes;
        let (out, usage) = counted(self.limit, || decode(bytes));
        self.usage.peak = self.usage.peak.max(usage.peak);
        self.usage.largest = self.usage.largest.max(usage.largest);
        out
    }
}

impl Decoder {
    /// Of these files, which may take what texts take; nothing is known of how they are made, and nothing is decoded yet.
    pub(crate) fn new(name: &'static str, seeds: Vec<Vec<u8>>) -> Self {
        Self {
            name,
            seeds,
            limit: text_limit,
            generate: Box::new(bytes::generate),
            decode: Box::new(|_| Ok(false)),
        }
    }
    /// Decoding may hold so much at once.
    pub(crate) fn within(self, limit: fn(&[u8]) -> usize) -> Self {
        Self { limit, ..self }
    }
    /// Mutants are made by this.
    pub(crate) fn mutants(
        self,
        generate: impl Fn(&mut Random, &[Vec<u8>]) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let generate = Box::new(generate);
        Self { generate, ..self }
    }
    /// Mutants are made of seeds that are taken apart.
    pub(crate) fn apart<T: Send + Sync + 'static>(
        self,
        parse: impl Fn(&[u8]) -> T,
        generate: fn(&mut Random, &[T]) -> Vec<u8>,
    ) -> Self {
        let parts: Vec<T> = self.seeds.iter().map(|s| parse(s)).collect();
        self.mutants(move |r, _| generate(r, &parts))
    }
    /// What decodes and checks.
    pub(crate) fn decodes(
        self,
        decode: impl Fn(&mut Probe<'_>) -> Outcome + Send + Sync + 'static,
    ) -> Self {
        let decode = Box::new(decode);
        Self { decode, ..self }
    }
    /// Bytes that `read` accepts, and the laws that what it reads keeps.
    pub(crate) fn reads<T, E>(
        self,
        read: impl Fn(&[u8]) -> Result<T, E> + Send + Sync + 'static,
        check: impl Fn(T) -> Law + Send + Sync + 'static,
    ) -> Self {
        self.decodes(move |probe| match probe.count(&read) {
            Ok(value) => check(value).map(|()| true),
            Err(_) => Ok(false),
        })
    }
    /// The mutant of one execution.
    pub(crate) fn mutant(&self, seed: u64, execution: u64) -> Vec<u8> {
        (self.generate)(&mut Random::new(seed, self.name, execution), &self.seeds)
    }
    /// Most bytes that decoding these may hold at once.
    pub(crate) fn limit(&self, bytes: &[u8]) -> usize {
        (self.limit)(bytes)
    }
    /// Decodes and checks.
    pub(crate) fn run(&self, bytes: &[u8]) -> (Outcome, Usage) {
        let mut probe = Probe {
            bytes,
            limit: self.limit(bytes),
            usage: Usage::default(),
        };
        ((self.decode)(&mut probe), probe.usage)
    }
}

pub(crate) fn law(holds: bool, what: &str) -> Law {
    if holds { Ok(()) } else { Err(what.into()) }
}

/// What was read, written and read is the same.
pub(crate) fn same<T: PartialEq>(value: &T, back: Result<T, impl std::fmt::Display>) -> Law {
    let back = again(back)?;
    law(&back == value, "what is read, written and read is the same")
}

pub(crate) fn again<T>(result: Result<T, impl std::fmt::Display>) -> Result<T, String> {
    result.map_err(|e| format!("what was accepted and written is refused: {e}"))
}

// ── limits: docs/fuzzing.md has them as a table ──────────────────────────────────────────────────────────────────────

/// What every decoder may hold whatever its input: messages, tables, 64 KiB pieces of a file.
const BASE: usize = 256 << 10;

pub(crate) fn text_limit(bytes: &[u8]) -> usize {
    BASE + 256 * bytes.len()
}

/// Weights as they are read and as the graph has them.
pub(crate) fn model_limit(bytes: &[u8]) -> usize {
    BASE + 512 * bytes.len()
}

/// Tables of a thousandfold of words, whatever the file.
pub(crate) fn published_limit(bytes: &[u8]) -> usize {
    (8 << 20) + 512 * bytes.len()
}

/// The ring that a file asks for: at most 160 primes, 30 bytes for each coefficient.
pub(crate) fn container_limit(bytes: &[u8]) -> usize {
    let key = b"\"log_n\":";
    let asked = bytes
        .windows(key.len())
        .enumerate()
        .filter(|(_, w)| w == key);
    let log_n = asked.map(|(i, _)| {
        let digits = bytes[i + key.len()..]
            .iter()
            .take_while(|b| b.is_ascii_digit());
        digits
            .take(3)
            .fold(0u32, |v, b| 10 * v + u32::from(b - b'0'))
    });
    let log_n = log_n.filter(|&n| n <= 17).max().unwrap_or(4);
    text_limit(bytes) + 160 * 30 * (1 << log_n)
}

/// Beside that the buffer through which the file is read.
pub(crate) fn stored_limit(bytes: &[u8]) -> usize {
    container_limit(bytes) + (1 << 20)
}

/// Deflate expands at most 1032-fold; weights are held as bytes and as numbers.
pub(crate) fn plan_limit(bytes: &[u8]) -> usize {
    container_limit(bytes) + 2 * 1032 * bytes.len()
}

/// Protobuf records of two bytes take up to 500 in memory; constants may be multiplied to 2^24 values of f64 and f32.
pub(crate) fn onnx_limit(bytes: &[u8]) -> usize {
    BASE + 1024 * bytes.len() + 16 * (1 << 24)
}

/// 512 MiB for the picture, and the decoder's own tables.
pub(crate) fn picture_limit(bytes: &[u8]) -> usize {
    text_limit(bytes) + (512 << 20) + (16 << 20)
}

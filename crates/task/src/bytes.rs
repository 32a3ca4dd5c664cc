//! Binary records: numbers with the low byte first, sections with their length before them.

use crate::error::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

fn malformed(detail: impl Into<String>) -> Error {
    Error::malformed("task", detail)
}

/// A record being written.
#[derive(Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn u8(&mut self, v: u8) {
        self.0.push(v);
    }

    pub(crate) fn u32(&mut self, v: u32) {
        self.0.extend(v.to_le_bytes());
    }

    pub(crate) fn size(&mut self, v: usize) {
        self.0.extend((v as u64).to_le_bytes());
    }

    pub(crate) fn f64(&mut self, v: f64) {
        self.0.extend(v.to_le_bytes());
    }

    pub(crate) fn bytes(&mut self, v: &[u8]) {
        self.size(v.len());
        self.0.extend_from_slice(v);
    }

    pub(crate) fn list<T>(
        &mut self,
        all: impl ExactSizeIterator<Item = T>,
        mut each: impl FnMut(&mut Self, T),
    ) {
        self.size(all.len());
        all.for_each(|v| each(self, v));
    }

    pub(crate) fn texts(&mut self, all: &[String]) {
        self.list(all.iter(), |w, t| w.bytes(t.as_bytes()));
    }

    pub(crate) fn tokens(&mut self, all: &[u32]) {
        self.list(all.iter(), |w, &t| w.u32(t));
    }

    pub(crate) fn numbers(&mut self, all: &[f64]) {
        self.list(all.iter(), |w, &v| w.f64(v));
    }

    pub(crate) fn option<T>(&mut self, v: Option<T>, each: impl FnOnce(&mut Self, T)) {
        self.u8(v.is_some().into());
        if let Some(v) = v {
            each(self, v);
        }
    }
}

/// A record being read. Nothing is allocated for a count that the rest of the record could not hold.
pub(crate) struct Reader<'a> {
    pub(crate) all: &'a Arc<[u8]>,
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(all: &'a Arc<[u8]>) -> Self {
        Self { all, at: 0 }
    }

    fn take(&mut self, n: usize) -> Result<Range<usize>> {
        let end = self.at.checked_add(n).filter(|&e| e <= self.all.len());
        let end = end.ok_or_else(|| {
            malformed(format!(
                "it ends at byte {}, {n} more are needed after byte {}",
                self.all.len(),
                self.at
            ))
        })?;
        let range = self.at..end;
        self.at = end;
        Ok(range)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let range = self.take(N)?;
        let mut out = [0; N];
        out.copy_from_slice(&self.all[range]);
        Ok(out)
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn f64(&mut self) -> Result<f64> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    pub(crate) fn size(&mut self) -> Result<usize> {
        let v = u64::from_le_bytes(self.array()?);
        usize::try_from(v).map_err(|_| malformed(format!("{v} is too large for a size")))
    }

    /// A section's place in the record.
    pub(crate) fn section(&mut self) -> Result<Range<usize>> {
        let length = self.size()?;
        self.take(length)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8]> {
        let range = self.section()?;
        Ok(&self.all[range])
    }

    pub(crate) fn text(&mut self) -> Result<String> {
        let text = std::str::from_utf8(self.bytes()?);
        text.map(Into::into)
            .map_err(|e| malformed(format!("a text in it is no UTF-8: {e}")))
    }

    /// A list whose entries take at least `least` bytes each.
    pub(crate) fn list<T>(
        &mut self,
        least: usize,
        mut each: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let count = self.size()?;
        let rest = self.all.len() - self.at;
        if count > rest / least.max(1) {
            return Err(malformed(format!(
                "a list of {count} entries, {rest} bytes follow"
            )));
        }
        (0..count).map(|_| each(self)).collect()
    }

    pub(crate) fn texts(&mut self) -> Result<Vec<String>> {
        self.list(8, Self::text)
    }

    pub(crate) fn tokens(&mut self) -> Result<Vec<u32>> {
        self.list(4, Self::u32)
    }

    pub(crate) fn numbers(&mut self) -> Result<Vec<f64>> {
        self.list(8, Self::f64)
    }

    pub(crate) fn option<T>(
        &mut self,
        each: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<Option<T>> {
        let there = self.one_of("mark of something optional", &[false, true])?;
        there.then(|| each(self)).transpose()
    }

    /// One of these values, by its number.
    pub(crate) fn one_of<T: Copy>(&mut self, what: &str, all: &[T]) -> Result<T> {
        let number = self.u8()?;
        let known = all.get(usize::from(number)).copied();
        known.ok_or_else(|| self.unknown(what, number))
    }

    /// What is said of a number that stands for nothing.
    pub(crate) fn unknown(&self, what: &str, had: u8) -> Error {
        malformed(format!("{had} is no {what} (before byte {})", self.at))
    }

    pub(crate) fn at_end(&self) -> bool {
        self.at == self.all.len()
    }

    pub(crate) fn end(&self) -> Result<()> {
        match self.all.len() - self.at {
            0 => Ok(()),
            rest => Err(malformed(format!("{rest} bytes follow its end"))),
        }
    }
}

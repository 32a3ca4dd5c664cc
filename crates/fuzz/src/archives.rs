//! Sets of pictures: IDX and NumPy arrays, tars, and files that belong together.

use crate::bytes::{self, MOST};
use crate::random::Random;
use crate::zip::Entry;

/// Several files, and which options they are opened with, as one: a byte of flags, then each file after its length.
pub(crate) fn join(flags: u8, files: &[Vec<u8>]) -> Vec<u8> {
    let mut out = vec![flags];
    for f in files {
        out.extend((f.len() as u32).to_le_bytes());
        out.extend(f);
    }
    out
}

/// Flags and `count` files of any bytes: what is missing is empty.
pub(crate) fn split(bytes: &[u8], count: usize) -> (u8, Vec<&[u8]>) {
    let (flags, mut rest) = bytes.split_first().map_or((0, bytes), |(f, r)| (*f, r));
    let mut files = Vec::new();
    for _ in 0..count {
        let (length, after) = rest
            .split_first_chunk()
            .map_or((0, &rest[..0]), |(l, r)| (u32::from_le_bytes(*l), r));
        let (file, after) = after.split_at(after.len().min(length as usize));
        files.push(file);
        rest = after;
    }
    (flags, files)
}

/// An array of bytes: the axes' lengths, then the values.
#[derive(Clone)]
pub(crate) struct Array {
    pub(crate) axes: Vec<u64>,
    pub(crate) values: Vec<u8>,
}

impl Array {
    pub(crate) fn new(axes: &[u64]) -> Self {
        let count = axes.iter().product::<u64>() as usize;
        Self {
            axes: axes.to_vec(),
            values: (0..count).map(|i| (i % 3) as u8).collect(),
        }
    }

    pub(crate) fn mutate(&mut self, r: &mut Random) {
        let at = r.below(self.axes.len());
        match r.below(6) {
            0 if !self.axes.is_empty() => self.axes[at] = r.boundary(),
            1 if !self.axes.is_empty() => self.axes[at] = r.below(8) as u64,
            2 => self.axes.insert(at, r.below(4) as u64),
            3 if !self.axes.is_empty() => drop(self.axes.remove(at)),
            4 => {
                // as many values as promised, where that is little
                let count = self.axes.iter().try_fold(1u64, |p, &a| p.checked_mul(a));
                let count = count.filter(|&c| c <= 1 << 12).unwrap_or(0) as usize;
                self.values.resize(count, 1);
            }
            _ => bytes::mutate(r, &mut self.values),
        }
    }

    /// As an IDX file; with `r`, its type is sometimes another.
    pub(crate) fn idx(&self, r: Option<&mut Random>) -> Vec<u8> {
        let kind = r.map_or(8, |r| if r.one_in(64) { r.below(16) as u8 } else { 8 });
        let mut out = vec![0, 0, kind, self.axes.len() as u8];
        for &a in &self.axes {
            out.extend((a as u32).to_be_bytes());
        }
        out.extend(&self.values);
        out
    }

    /// As a NumPy file; with `r`, its head is sometimes another.
    pub(crate) fn npy(&self, r: Option<&mut Random>) -> Vec<u8> {
        let axes: String = self.axes.iter().map(|a| format!("{a}, ")).collect();
        let text =
            format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({axes}), }}          \n");
        let (mut head, mut version, mut length) = (text.into_bytes(), 1, None);
        if let Some(r) = r {
            if r.one_in(8) {
                bytes::mutate(r, &mut head);
            }
            if r.one_in(16) {
                version = r.below(5) as u8;
            }
            length = r.one_in(64).then(|| r.boundary());
        }
        let length = length.unwrap_or(head.len() as u64).to_le_bytes();
        let mut out = b"\x93NUMPY".to_vec();
        out.extend([version, 0]);
        out.extend(&length[..if version == 1 { 2 } else { 4 }]);
        out.extend(head);
        out.extend(&self.values);
        out
    }
}

/// Arrays by name, as the entries of an `.npz` file.
pub(crate) fn npz<'a>(arrays: impl IntoIterator<Item = (&'a str, Vec<u8>)>) -> Vec<Entry> {
    let entry = |(name, data)| Entry {
        name: format!("{name}.npy").into_bytes(),
        method: 8,
        data,
    };
    arrays.into_iter().map(entry).collect()
}

/// A tar's member.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: u8,
    pub(crate) data: Vec<u8>,
}

impl Member {
    pub(crate) fn new(name: &str, kind: u8, data: &[u8]) -> Self {
        Self {
            name: name.into(),
            kind,
            data: data.to_vec(),
        }
    }
}

/// The archive, checksums right; with `r`, fields of heads are sometimes others.
pub(crate) fn tar(members: &[Member], mut r: Option<&mut Random>) -> Vec<u8> {
    let mut out = Vec::new();
    for m in members {
        let mut head = [0u8; 512];
        let length = m.name.len().min(100);
        head[..length].copy_from_slice(&m.name[..length]);
        head[124..136].copy_from_slice(format!("{:011o}\0", m.data.len()).as_bytes());
        head[156] = m.kind;
        head[257..265].copy_from_slice(b"ustar\x0000");
        let mut right = true;
        if let Some(r) = r.as_deref_mut() {
            right = !r.one_in(64);
            if r.one_in(16) {
                // name, size (octal or not), kind, mark, prefix
                let (at, width) = *r.pick(&[(0, 100), (124, 12), (156, 1), (257, 8), (345, 155)]);
                let place = at + r.below(width);
                match r.below(3) {
                    0 => head[place] = r.next() as u8,
                    1 => head[place] = b'0' + r.below(8) as u8,
                    _ => {
                        head[124] = 0x80;
                        head[128..136].copy_from_slice(&r.boundary().to_be_bytes());
                    }
                }
            }
        }
        head[148..156].fill(b' ');
        let sum: u32 = head.iter().map(|&b| u32::from(b)).sum();
        if right {
            head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        out.extend(head);
        out.extend(&m.data);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// One mutant; what pictures are made of is exchanged and mutated too.
pub(crate) fn generate_tar(r: &mut Random, seed: &[Member], pictures: &[Vec<u8>]) -> Vec<u8> {
    let mut members = seed.to_vec();
    for _ in 0..r.few() {
        let count = members.len();
        let at = r.below(count);
        match r.below(8) {
            _ if count == 0 => {}
            0 => drop(members.remove(at)),
            1 => members.insert(at, members[at].clone()),
            2 => members.swap(at, r.below(count)),
            3 => members[at].kind = *r.pick(&[0, b'0', b'1', b'5', b'7', b'L', b'S', b'g', b'x']),
            4 => bytes::mutate(r, &mut members[at].name),
            5 => members[at].data = r.pick(pictures).clone(),
            6 => {
                const NAMES: &str = "train/cat/1.png ./train/dog/.2.jpg val/cat/3.PNG cat/4.jpeg \
                    ../../cat/5.png /6.png a//b/./7.png train/\u{ff}/8.png";
                members[at].name = r.word(NAMES);
            }
            _ => bytes::mutate(r, &mut members[at].data),
        }
    }
    let out = tar(&members, Some(&mut *r));
    bytes::finish(r, out)
}

/// Packed once in four times, and then seldom damaged; cut where it is too large.
pub(crate) fn packed(r: &mut Random, raw: Vec<u8>) -> Vec<u8> {
    let mut out = raw;
    if r.one_in(4) {
        out = bytes::gzip(&out);
        if r.one_in(8) {
            bytes::mutate(r, &mut out);
        }
    }
    out.truncate(MOST);
    out
}

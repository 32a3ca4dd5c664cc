//! Sets are made here, read, and compared with what went in.
#![allow(
    clippy::unwrap_used,
    clippy::missing_errors_doc,
    reason = "a test fails by panicking"
)]

mod batches;
mod formats;
mod nearest;
mod refusals;
mod sentences;
mod shared;
mod tasks;
mod text;
mod vectors;

use data::{Dataset, Resize, Shape};
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A folder that goes when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("polyveil-data-{}-{name}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Values that differ everywhere and repeat after 251.
fn values(count: usize, seed: usize) -> Vec<u8> {
    (0..count)
        .map(|i| ((i * 7 + i / 251 + seed * 31) % 251) as u8)
        .collect()
}

fn planes(pixels: &[u8], channels: usize) -> Vec<u8> {
    (0..channels)
        .flat_map(|c| pixels.iter().skip(c).step_by(channels).copied())
        .collect()
}

fn png(pixels: &[u8], width: usize, height: usize, channels: usize) -> Vec<u8> {
    let kind = if channels == 1 {
        image::ExtendedColorType::L8
    } else {
        image::ExtendedColorType::Rgb8
    };
    let mut out = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut out);
    image::ImageEncoder::write_image(encoder, pixels, width as u32, height as u32, kind).unwrap();
    out
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn npy(kind: &str, dims: &str, values: &[u8]) -> Vec<u8> {
    let head = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {dims}, }}\n");
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((head.len() as u16).to_le_bytes());
    out.extend(head.as_bytes());
    out.extend(values);
    out
}

/// A zip of deflated entries, as numpy.savez_compressed writes it.
fn zip(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in entries {
        let mut packed = DeflateEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(bytes).unwrap();
        let packed = packed.finish().unwrap();
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        let mut common = vec![20, 0, 0, 0, 8, 0, 0, 0, 0, 0];
        common.extend(crc.sum().to_le_bytes());
        common.extend((packed.len() as u32).to_le_bytes());
        common.extend((bytes.len() as u32).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend((out.len() as u32).to_le_bytes());
        directory.extend(name.as_bytes());
        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend(name.as_bytes());
        out.extend(packed);
    }
    let at = out.len() as u32;
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend((entries.len() as u16).to_le_bytes());
    out.extend((entries.len() as u16).to_le_bytes());
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(at.to_le_bytes());
    out.extend([0, 0]);
    out
}

/// One member of a tar with its padding.
fn member(name: &str, kind: u8, bytes: &[u8]) -> Vec<u8> {
    let mut head = [0u8; 512];
    head[..name.len()].copy_from_slice(name.as_bytes());
    head[124..136].copy_from_slice(format!("{:011o}\0", bytes.len()).as_bytes());
    head[156] = kind;
    head[257..265].copy_from_slice(b"ustar\x0000");
    check(&mut head);
    let mut out = head.to_vec();
    out.extend(bytes);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

/// Writes the checksum.
fn check(head: &mut [u8; 512]) {
    head[148..156].fill(b' ');
    let sum: u32 = head.iter().map(|&b| u32::from(b)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn tar(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out: Vec<u8> = members
        .iter()
        .flat_map(|(n, b)| member(n, b'0', b))
        .collect();
    out.resize(out.len() + 1024, 0);
    out
}

fn idx(dims: &[usize], values: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0, 8, dims.len() as u8];
    for &d in dims {
        out.extend((d as u32).to_be_bytes());
    }
    out.extend(values);
    out
}

/// The largest square in the middle, scaled.
fn square(size: usize) -> Resize {
    Resize {
        height: size,
        width: size,
        shorter: size,
    }
}

/// `count` pictures of random-looking values in `classes` classes, not sorted.
fn toy(count: usize, shape: Shape, classes: usize) -> Dataset {
    let labels: Vec<usize> = (0..count).map(|i| i * 7 % classes).collect();
    let names = (0..classes).map(|c| format!("class {c}")).collect();
    Dataset::from_pixels(shape, names, values(count * shape.len(), 3), &labels).unwrap()
}

fn labels(set: &Dataset) -> Vec<usize> {
    (0..set.len()).map(|i| set.label(i)).collect()
}

fn all_pixels(set: &Dataset) -> Vec<u8> {
    (0..set.len())
        .flat_map(|i| set.pixels(i).unwrap().into_owned())
        .collect()
}

fn shape(height: usize, width: usize, channels: usize) -> Shape {
    Shape {
        height,
        width,
        channels,
    }
}

/// The error's line, which names the file and what to do.
fn refused(path: &Path, options: &data::Options) -> String {
    let error = Dataset::open(path, options)
        .expect_err("is refused")
        .to_string();
    assert!(!error.contains('\n'), "one line: {error}");
    error
}

//! CIFAR-10 and CIFAR-100 binary files: 1 or 2 label bytes, then 32×32 red, green and blue values.

use crate::error::Error;
use crate::files::{Raw, name, numbers, read_all, unpacked};
use crate::options::{Options, of_split};
use crate::split::Split;
use crate::{Result, Shape};
use std::path::{Path, PathBuf};

const AREA: usize = 32 * 32;
const FORMAT: &str = "CIFAR binary";
const CIFAR_10: &str = "airplane automobile bird cat deer dog frog horse ship truck";

/// Number of label bytes of a file's records, 1 or 2.
fn label_bytes(path: &Path, bytes: &[u8]) -> Result<usize> {
    let fits = |labels: usize| bytes.len().is_multiple_of(labels + 3 * AREA);
    match (fits(1), fits(2)) {
        (true, false) => Ok(1),
        (false, true) => Ok(2),
        // 3074·k records of one or 3073·k of the other: every 3073rd byte is a digit only if it is a label
        (true, true) if bytes.chunks_exact(1 + 3 * AREA).all(|r| r[0] < 10) => Ok(1),
        (true, true) => Ok(2),
        (false, false) => Err(Error::truncated(
            path,
            FORMAT,
            format!(
                "its {} bytes are neither whole records of {} bytes (CIFAR-10) nor of {} (CIFAR-100)",
                bytes.len(),
                1 + 3 * AREA,
                2 + 3 * AREA
            ),
        )),
    }
}

/// The names that the published archives have beside the data, or these where there are none.
fn names_beside(file: &Path, list: &str, usual: Vec<String>) -> Result<Vec<String>> {
    let path = file.with_file_name(list);
    if !path.is_file() {
        return Ok(usual);
    }
    let text = read_all(unpacked(&path)?, 1 << 16, &path, "list of classes")?;
    let text = String::from_utf8_lossy(&text);
    let names = text.lines().map(|l| l.trim().to_owned());
    let names: Vec<String> = names.filter(|l| !l.is_empty()).collect();
    let (had, needed) = (names.len(), usual.len());
    if had == needed {
        return Ok(names);
    }
    let detail = format!("it has {had} names, {needed} are needed; remove it or give the classes");
    Err(Error::malformed(path, "list of classes", detail))
}

/// The files of one set, one after the other.
pub(crate) fn open(path: &Path, files: Vec<PathBuf>, options: &Options) -> Result<Raw> {
    let parts = files.into_iter().map(|f| (Split::of_file(&name(&f)), f));
    let (mut pixels, mut labels, mut kind) = (Vec::new(), Vec::new(), None);
    for file in of_split(path, options.split, parts.collect())? {
        let left = options.memory_limit.saturating_sub(pixels.len() as u64);
        let bytes = read_all(unpacked(&file)?, left, &file, FORMAT)?;
        if bytes.is_empty() {
            let detail = "the file is empty; copy or download it again";
            return Err(Error::content(file, detail));
        }
        let count = label_bytes(&file, &bytes)?;
        if *kind.get_or_insert(count) != count {
            let detail = "CIFAR-10 and CIFAR-100 files lie in one folder; name one file";
            return Err(Error::malformed(file, FORMAT, detail));
        }
        if options.coarse && count == 1 {
            return Err(Error::option(format!(
                "{}: coarse labels are asked for, which only CIFAR-100 has; leave that out",
                file.display()
            )));
        }
        for record in bytes.chunks_exact(count + 3 * AREA) {
            let (label, planes) = record.split_at(count);
            labels.push(label[if options.coarse { 0 } else { count - 1 }].into());
            for i in 0..AREA {
                pixels.extend([planes[i], planes[AREA + i], planes[2 * AREA + i]]);
            }
        }
    }
    let beside = match path.is_dir() {
        true => path.join("-"),
        false => path.into(),
    };
    let classes = match (kind, options.coarse) {
        _ if options.classes.is_some() => Vec::new(),
        (Some(2), true) => names_beside(&beside, "coarse_label_names.txt", numbers(20))?,
        (Some(2), false) => names_beside(&beside, "fine_label_names.txt", numbers(100))?,
        _ => {
            let usual = CIFAR_10.split(' ').map(str::to_owned).collect();
            names_beside(&beside, "batches.meta.txt", usual)?
        }
    };
    Ok(Raw {
        shape: Shape {
            height: 32,
            width: 32,
            channels: 3,
        },
        pixels,
        labels,
        classes,
        holding: Vec::new(),
        divided: false,
    })
}

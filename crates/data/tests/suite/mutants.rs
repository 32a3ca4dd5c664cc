//! Mutants of small files are read or refused: no panic, and what is accepted can be used. Checksums are repaired, or little would
//! get past them. (`cargo test --profile fuzz` adds overflow checks.)

use super::*;
use data::{Damaged, Options, Split};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }

    /// Bits, bytes, numbers at boundaries, digits, cuts, copies.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            // the beginning, where heads are, more often
            let most = if self.below(2) == 0 {
                bytes.len()
            } else {
                bytes.len().min(200)
            };
            let at = self.below(most);
            let Some(byte) = bytes.get_mut(at) else {
                return;
            };
            match self.below(8) {
                0 => *byte ^= 1 << self.below(8),
                1 => *byte = [0, 1, 0x7f, 0x80, 0xff, b'(', b'\''][self.below(7)],
                2 => *byte = b'0' + self.below(10) as u8,
                3 => {
                    let end = bytes.len().min(at + [2, 4, 8][self.below(3)]);
                    bytes[at..end].fill([0, 0xff, 0x7f, 0x80][self.below(4)]);
                }
                4 => bytes.truncate(at),
                5 => {
                    let end = bytes.len().min(at + self.below(40));
                    drop(bytes.drain(at..end));
                }
                6 => {
                    let end = bytes.len().min(at + self.below(600));
                    let part = bytes[at..end].to_vec();
                    drop(bytes.splice(at..at, part));
                }
                _ => bytes.insert(at, self.below(256) as u8),
            }
        }
    }
}

/// How many of the mutants are accepted.
fn survive(
    name: &str,
    count: usize,
    options: &Options,
    make: impl Fn(&mut Random, &Folder) -> PathBuf,
) {
    let folder = Folder::new(&format!("mutants-{name}"));
    let mut accepted = 0;
    for n in 0..count {
        let path = make(&mut Random(n as u64), &folder);
        if let Ok((set, _)) = Dataset::open(&path, options) {
            accepted += 1;
            assert!(!set.is_empty() && set.shape().len() > 0);
            for i in 0..set.len() {
                assert_eq!(set.pixels(i).unwrap().len(), set.shape().len());
                assert!(set.label(i) < set.classes().len());
            }
        }
    }
    assert!(
        (1..count).contains(&accepted),
        "{name}: {accepted} of {count} accepted"
    );
}

fn limited() -> Options {
    Options {
        memory_limit: 1 << 20,
        ..Options::default()
    }
}

#[test]
fn of_tars() {
    let members = [
        member("@", b'L', b"train/cat/1.png\0"),
        member("cut", b'0', &png(&values(12, 1), 2, 2, 3)),
        member("@", b'x', b"24 path=train/dog/a.png\n"),
        member("cut", b'0', &png(&values(12, 2), 2, 2, 3)),
        member("train/dog/b.png", b'0', &png(&values(12, 3), 2, 2, 3)),
    ];
    let whole = [members.concat(), vec![0; 1024]].concat();
    let skip = Options {
        damaged: Damaged::Skip,
        ..limited()
    };
    survive("tar", 1000, &skip, |r, folder| {
        let mut bytes = whole.clone();
        r.mutate(&mut bytes);
        if r.below(8) > 0 {
            for block in bytes.chunks_exact_mut(512) {
                if block[257..262] == *b"ustar" {
                    check(block.as_mut_array().unwrap());
                }
            }
        }
        folder.file("a.tar", &bytes)
    });
}

#[test]
fn of_npz() {
    let images = npy("|u1", "(3, 2, 2)", &values(12, 0));
    let labels = npy("|u1", "(3, 1)", &[0, 1, 2]);
    let train = Options {
        split: Some(Split::Train),
        ..limited()
    };
    survive("npz", 1000, &train, |r, folder| {
        let (mut x, mut y) = (images.clone(), labels.clone());
        match r.below(3) {
            0 => r.mutate(&mut x),
            1 => r.mutate(&mut y),
            _ => {}
        }
        let mut bytes = zip(&[("train_images.npy", x), ("train_labels.npy", y)]);
        if r.below(3) == 0 {
            r.mutate(&mut bytes);
        }
        folder.file("a.npz", &bytes)
    });
}

#[test]
fn of_idx_and_cifar() {
    let (images, labels) = (idx(&[3, 2, 2], &values(12, 0)), idx(&[3], &[0, 1, 2]));
    survive("idx", 1000, &limited(), |r, folder| {
        let (mut x, mut y) = (images.clone(), labels.clone());
        let which = if r.below(3) > 0 { &mut x } else { &mut y };
        r.mutate(which);
        let pack = r.below(2) == 0;
        folder.file("labels-idx1-ubyte", &y);
        folder.file("images-idx3-ubyte", &if pack { gzip(&x) } else { x })
    });
    let record = [vec![1, 2], values(3072, 0)].concat();
    survive("cifar", 500, &limited(), |r, folder| {
        let mut bytes = [&record[r.below(2)..], &record[r.below(2)..]].concat();
        r.mutate(&mut bytes);
        folder.file("a.bin", &bytes)
    });
}

//! What all tries share: toy networks with random weights, their plans, two clients of each, and pictures.

use crate::fault::{Fault, Kind, Verdict};
use nn::{PolyGraph, Tensor};
use runtime::VerifiedPlan;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;
use task::{Input, Picture, Task};

/// Pictures are this wide and high, with three channels.
pub(crate) const SIDE: usize = 8;
pub(crate) const PIXELS: usize = 3 * SIDE * SIDE;
/// A network of the laboratory's with keys that protect, and the demonstration's: their files are among the tries', made where a group asks for them.
pub(crate) const STANDARD: &str = "tries/standard";
pub(crate) const EMBEDDED: &str = "tries/embedded";
pub(crate) const LABELS: [&str; 3] = ["cat", "dog", "owl"];

/// A network, its plan, and what its clients are compared with.
pub(crate) struct Net {
    pub(crate) name: &'static str,
    pub(crate) graph: PolyGraph,
    pub(crate) task: Task,
    pub(crate) plan: VerifiedPlan,
    /// How long one run of its plan takes here, on one thread.
    pub(crate) run: Duration,
}

pub(crate) struct Lab {
    pub(crate) polyveil: PathBuf,
    pub(crate) train: PathBuf,
    pub(crate) root: PathBuf,
    pub(crate) seed: u64,
    pub(crate) nets: Vec<Net>,
    /// [`STANDARD`] and [`EMBEDDED`], once they are made.
    pub(crate) full: [OnceLock<Verdict<Net>>; 2],
    /// Pixels of the set, training pictures first.
    pub(crate) pictures: Vec<Vec<u8>>,
}

/// Width and height of a square picture.
pub(crate) fn side(pixels: &[u8]) -> usize {
    (pixels.len() / 3).isqrt()
}

impl Net {
    /// A picture as the network takes it.
    pub(crate) fn encode(&self, pixels: &[u8]) -> Tensor {
        let side = side(pixels);
        let picture = Picture::from_pixels(side, side, 3, pixels.to_vec()).expect("fits");
        (self.task.encode(&Input::Picture(&picture))).expect("fits")
    }
    /// What the network says in the clear, and whether a value leaves an interval.
    pub(crate) fn clear(&self, pixels: &[u8]) -> (Vec<f64>, bool) {
        let evaluation = self.graph.evaluate(&self.encode(pixels)).expect("fits");
        (
            evaluation.output.values().to_vec(),
            !evaluation.outside.is_empty(),
        )
    }
    /// Compares what was decrypted with the clear network's answer for these pixels.
    ///
    /// Outside of an interval, a wrong answer of ordinary size is one that the alarm should have told: [`Kind::Unseen`].
    pub(crate) fn compare(&self, json: &serde_json::Value, pixels: &[u8]) -> Verdict {
        let (clear, outside) = self.clear(pixels);
        let had: Vec<f64> = match (json["logits"].as_array(), json["values"].as_array()) {
            (Some(all), _) => all.iter().filter_map(serde_json::Value::as_f64).collect(),
            (_, Some(all)) => all.iter().filter_map(|v| v["value"].as_f64()).collect(),
            _ => return Err(Fault::other(format!("no values in {json}"))),
        };
        let bound = json["error_bound"].as_f64().unwrap_or(0.0);
        let ordinary = bound + self.plan.answer_bounds().magnitude;
        let wrong = match outside && had.iter().all(|h| h.abs() <= ordinary) {
            true => Kind::Unseen,
            false => Kind::Silent,
        };
        let off = (had.iter().zip(&clear)).map(|(h, c)| (h - c).abs());
        // a value that is no number is off, too
        let off = off.fold(0.0, |most: f64, v| if v <= most { most } else { v });
        if had.len() != clear.len() || off.is_nan() || off > bound {
            let few = |all: &[f64]| -> Vec<String> {
                (all.iter().take(3)).map(|v| format!("{v:.4e}")).collect()
            };
            let (had, clear) = (few(&had).join(" "), few(&clear).join(" "));
            let text = format!("off by {off:.3e}, {bound:.3e} is stated: {had} for {clear}");
            return Err(Fault::new(wrong, text));
        }
        let best = |v: &[f64]| (0..v.len()).max_by(|&a, &b| v[a].total_cmp(&v[b]));
        if let (Some(class), Some(right)) = (json["class"].as_u64(), best(&clear))
            && class as usize != right
            && clear[right] - clear[class as usize] > 2.0 * bound
        {
            let text = format!("class {class}, the clear network says {right}");
            return Err(Fault::new(wrong, text));
        }
        Ok(())
    }
}

impl Lab {
    pub(crate) fn net(&self, name: &str) -> &Net {
        let full = self.full.iter().filter_map(|f| f.get()?.as_ref().ok());
        let mut all = self.nets.iter().chain(full);
        all.find(|n| n.name == name)
            .expect("a network of the laboratory")
    }

    /// Length, time, number and mode of every file: what changes where somebody wrote into the laboratory.
    pub(crate) fn stamp(&self) -> Vec<(PathBuf, [u64; 4])> {
        use std::os::unix::fs::MetadataExt;
        fn walk(folder: &Path, out: &mut Vec<(PathBuf, [u64; 4])>) {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            for path in entries.map(|e| e.path()) {
                if let Ok(m) = fs::symlink_metadata(&path) {
                    if m.is_dir() && path.file_name() != Some("tries".as_ref()) {
                        walk(&path, out);
                    } else if m.is_file() {
                        let time = (m.mtime() as u64).wrapping_mul(1_000_000_000);
                        let time = time.wrapping_add(m.mtime_nsec() as u64);
                        out.push((path, [m.len(), time, m.ino(), u64::from(m.mode())]));
                    }
                }
            }
        }
        let mut out = Vec::new();
        walk(&self.root, &mut out);
        out.sort();
        out
    }
}

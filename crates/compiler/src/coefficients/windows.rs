//! Means over windows as sums in slots. Rows 0, s, 2s… of what a mean with steps of s looks at are one picture, rows 1, s + 1… another, and so on, and
//! the same of columns: all of these lie at the places of the result. What a window takes at the result's own place is then a sum without any move; what it takes
//! one place before is another sum, of which the last row must not be seen, since a window beyond the result would look at it. So every sum goes down
//! with zeros where the result ends, and the mean is a sum of moved pictures that is exactly zero around it: layers behind it take these for
//! their own zeros, and it needs no value of its own.

use nn::{Op, PolyNode};
use std::collections::{BTreeMap, BTreeSet};

/// Largest step: pictures of s² parts, each with half bootstraps of its own.
const LARGEST_STEP: usize = 4;

/// A mean of pictures.
#[derive(Debug, PartialEq)]
pub(crate) struct Mean {
    /// Rows and columns from one window to the next.
    pub(crate) step: usize,
    /// What each value of a window counts.
    pub(crate) factor: f64,
    /// Of rows and of columns.
    runs: [Vec<Run>; 2],
}

/// What windows take as many places before theirs.
#[derive(Debug, PartialEq)]
struct Run {
    before: usize,
    /// How many rows, or columns, are seen.
    size: usize,
    /// Which of every `step`.
    phases: BTreeSet<usize>,
}

/// Pictures that are summed in slots: their first rows and columns, how much of the sum is seen, and from how many rows and columns before.
#[derive(Debug, PartialEq)]
pub(crate) struct Sum {
    pub(crate) phases: Vec<[usize; 2]>,
    pub(crate) size: [usize; 2],
    pub(crate) before: [usize; 2],
}

/// A mean's windows, if it is one whose windows end within the step from their own place on, in steps of few rows and columns, with one divisor.
pub(crate) fn of(node: &PolyNode, from: [usize; 3], to: [usize; 3]) -> Option<Mean> {
    let Op::AvgPool(p) = node.op() else {
        return None;
    };
    let (step, pad) = (p.stride.0, p.padding);
    let divided = p.count_include_pad || pad == nn::Padding::default();
    if p.stride.1 != step || !(2..=LARGEST_STEP).contains(&step) || !divided {
        return None;
    }
    let [rows, columns] = [(p.kernel.0, pad.top, 1), (p.kernel.1, pad.left, 2)]
        .map(|(kernel, pad, d)| runs(kernel, step, pad, from[d], to[d]));
    Some(Mean {
        step,
        factor: 1.0 / (p.kernel.0 * p.kernel.1) as f64,
        runs: [rows?, columns?],
    })
}

/// The runs of windows of so many rows, in steps, so many of them before the picture of `from` rows, for `to` results.
fn runs(kernel: usize, step: usize, pad: usize, from: usize, to: usize) -> Option<Vec<Run>> {
    let mut runs: BTreeMap<(usize, usize), BTreeSet<usize>> = BTreeMap::new();
    for row in 0..kernel {
        // row − pad = step·place + phase; places behind the window's own would need zeros in front
        let before = pad.saturating_sub(row).div_ceil(step);
        let phase = row + step * before - pad;
        if phase >= step {
            return None;
        }
        let there = from.saturating_sub(phase).div_ceil(step);
        let size = there.min(to.saturating_sub(before));
        if size > 0 {
            runs.entry((before, size)).or_default().insert(phase);
        }
    }
    let runs = runs.into_iter().map(|((before, size), phases)| Run {
        before,
        size,
        phases,
    });
    Some(runs.collect::<Vec<_>>()).filter(|r| !r.is_empty())
}

impl Mean {
    /// The first row and column of each picture that is needed.
    pub(crate) fn phases(&self) -> Vec<[usize; 2]> {
        let all = self.sums().into_iter().flat_map(|s| s.phases);
        all.collect::<BTreeSet<_>>().into_iter().collect()
    }
    /// What is summed.
    pub(crate) fn sums(&self) -> Vec<Sum> {
        let [rows, columns] = &self.runs;
        let pairs = rows
            .iter()
            .flat_map(|y| columns.iter().map(move |x| (y, x)));
        let sums = pairs.map(|(y, x)| Sum {
            phases: (y.phases.iter())
                .flat_map(|a| x.phases.iter().map(move |b| [*a, *b]))
                .collect(),
            size: [y.size, x.size],
            before: [y.before, x.before],
        });
        sums.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What windows see of a row, place by place, is what their runs see; beyond the results they see nothing.
    #[test]
    fn runs_are_their_windows() {
        let mut known = 0;
        for (kernel, step) in (1..=5).flat_map(|k| (2..=4).map(move |s| (k, s))) {
            for (pad, from) in (0..kernel).flat_map(|p| (kernel..12).map(move |f| (p, f))) {
                for after in 0..kernel {
                    let to = (from + pad + after - kernel) / step + 1;
                    let Some(runs) = runs(kernel, step, pad, from, to) else {
                        continue;
                    };
                    known += 1;
                    for y in 0..2 * to {
                        let mut seen: Vec<usize> = (runs.iter())
                            .filter(|r| y >= r.before && y - r.before < r.size)
                            .flat_map(|r| (r.phases.iter()).map(|p| (y - r.before) * step + p))
                            .collect();
                        seen.sort_unstable();
                        let rows = (y * step..y * step + kernel).filter(|row| *row >= pad);
                        let rows: Vec<usize> = rows.map(|row| row - pad).collect();
                        let want = rows.into_iter().filter(|row| *row < from && y < to);
                        assert_eq!(
                            seen,
                            want.collect::<Vec<_>>(),
                            "{kernel} {step} {pad} {from} {after} {y}"
                        );
                    }
                }
            }
        }
        assert!(known > 100, "{known}");
    }
}

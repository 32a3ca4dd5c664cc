//! The peak of a run that steps through a tensor's rows as `order` has it: depth first where tensors are large.

use super::Draft;
use super::maps::{Counted, Mixing, Pattern, Rowed, pieces};
use crate::emit::MOST_AT_ONCE;
use crate::normal::{Id, Kind};
use crate::schedule::{Decision, Stage};
use ckks::MapSize;
use ckks::memory;
use runtime::liveness::{Liveness, Resident};

impl Draft<'_> {
    /// The most that ciphertexts and a step's sums take.
    pub(super) fn peak(
        &self,
        stages: &[Stage],
        counts: &[Counted],
        decisions: &[Decision],
        level_of: &dyn Fn(Id) -> usize,
    ) -> u64 {
        let parameters = self.cost.parameters();
        let count = stages.len();
        let reads = stages.iter().map(|s| s.sources.iter().copied());
        let liveness = Liveness::new(reads, [self.normal.output]);
        let mut summed = vec![false; count];
        for (v, stage) in stages.iter().enumerate() {
            for &w in &stage.sources {
                summed[w] |= !self.layouts[v].by_row();
            }
        }
        let mut mixed = vec![false; count];
        for (w, stage) in stages.iter().enumerate().rev() {
            if self.layouts[w].by_row() {
                let sums = matches!(self.normal.quantities[w].kind, Kind::Linear { .. });
                let mixes = mixed[w] || sums;
                for &v in stage.sources.iter().filter(|&&v| self.layouts[v].by_row()) {
                    mixed[v] |= mixes;
                }
            }
        }
        let most = counts.iter().map(|c| c.different).max().unwrap_or(1);
        let deep = self.target.batch > 1 || most > MOST_AT_ONCE;
        // an unfolding makes all rows at once
        let made = |v: Id| {
            matches!(self.normal.quantities[v].kind, Kind::Linear { .. })
                && stages[v].sources.iter().any(|&w| !self.layouts[w].by_row())
        };
        // of an unfolded tensor, one head's rows where they are made at once or waited for, else one row's
        let alive = |v: Id| {
            let t = Rowed::of(&self.layouts[v]);
            let all = counts[v].different;
            if !deep || t.rows == 1 {
                return all;
            }
            // sums over a head's channels wait for all of its ciphertexts
            let together = if mixed[v] {
                self.head_ciphertexts(v)
            } else {
                1
            };
            let together = together.min(counts[v].different.div_ceil(t.rows));
            let apart = (counts[v].different / t.rows / together).max(1);
            match made(v) || summed[v] {
                true => all.div_ceil(apart),
                false => all.div_ceil(apart * t.rows),
            }
        };
        let bytes = |v: Id, level: usize| {
            alive(v) as u64 * memory::ciphertext(parameters, self.cost.level(level))
        };
        let mut resident = Resident::default();
        for v in 0..count {
            let d = decisions[v];
            let size = &counts[v].size;
            let parts = pieces(&counts[v]);
            let share = |n: usize| n.div_ceil(parts);
            let piece = MapSize {
                diagonals: share(size.diagonals),
                babies: share(size.babies),
                giants: share(size.giants + size.unmoved),
                unmoved: 0,
                inputs: size.inputs.div_ceil(counts[v].apart.max(1)),
                decomposed: share(size.decomposed),
                outputs: share(size.outputs),
                values: size.values / parts,
                butterflies: size.butterflies / parts as f64,
                ..*size
            };
            let refresh = |to| memory::bootstrap(parameters, self.cost.level(to).index());
            let working = memory::map(parameters, self.cost.level(d.level), &piece, piece.values)
                .max(d.bootstrap.map_or(0, refresh));
            // row by row, a result takes the place of what it is made of
            let row_by_row = deep && Rowed::of(&self.layouts[v]).rows > 1 && !made(v);
            let own = stages[v].sources.iter().copied().chain([v]);
            let (before, after): (Vec<usize>, Vec<usize>) = (liveness.ending(v, own).into_iter())
                .partition(|&w| row_by_row && w < v && self.layouts[w].by_row());
            for w in before {
                resident.release(bytes(w, level_of(w)));
            }
            resident.hold(bytes(v, level_of(v)));
            resident.work(working);
            for w in after {
                resident.release(bytes(w, level_of(w)));
            }
        }
        resident.peak()
    }

    /// Ciphertexts that the channels of a head take.
    fn head_ciphertexts(&self, v: Id) -> usize {
        let t = Rowed::of(&self.layouts[v]);
        let groups = self.normal.quantities.iter().find_map(|q| match &q.kind {
            Kind::Linear { terms, .. } => {
                terms
                    .iter()
                    .find_map(|t| match Pattern::of(&t.1, &q.layer).ok()? {
                        Pattern {
                            mixing: Mixing::Groups(g),
                            uniform: true,
                            ..
                        } => Some(g),
                        _ => None,
                    })
            }
            _ => None,
        });
        (t.channels / groups.unwrap_or(1) / t.held).max(1)
    }
}

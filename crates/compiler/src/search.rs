//! Plans under a memory limit.

use crate::draft::Draft;
use crate::error::Error;
use crate::pack::Packed;
use crate::schedule::Decision;
use crate::split::{Splits, split_all};
use runtime::VerifiedPlan;

/// How many times its worth a rotation key counts where memory is short: fewer keys, more rotations.
pub(crate) const KEY_PRICE_FACTORS: [f64; 5] = [1.0, 5.0, 50.0, 500.0, 5000.0];

impl Draft<'_> {
    /// The cheapest plan whose predicted peak keeps the limit: `first`, or one with fewer rotation keys and more rotations, or whose
    /// bootstraps all reach the same level, so that fewer encoded transforms are kept, or one whose run leaves keys on disk.
    ///
    /// All candidates are made of the same packed maps and share their weights where these are the same.
    pub(crate) fn within(
        &self,
        packed: &[Option<Packed>],
        (splits, decisions): (Splits, Vec<Decision>),
        limit: u64,
    ) -> Result<VerifiedPlan, Error> {
        let plan = |splits: &Splits, decisions: &[Decision]| self.plan(packed, splits, decisions);
        let first = plan(&splits, &decisions)?;
        let mut smallest = u64::MAX;
        // what the limit adds to a plan's seconds, if it keeps the limit at all
        let mut extra = |plan: &VerifiedPlan| -> Option<f64> {
            let facts = plan.facts();
            if facts.peak_bytes <= limit {
                return Some(0.0);
            }
            smallest = smallest.min(facts.peak_bytes);
            if !self.target.keys_on_disk {
                return None;
            }
            let placement = facts.keys_on_disk(limit);
            smallest = smallest.min(placement.peak_bytes);
            (placement.peak_bytes <= limit).then(|| placement.seconds())
        };
        if extra(&first) == Some(0.0) {
            return Ok(first);
        }
        let mut all = vec![splits];
        for factor in KEY_PRICE_FACTORS {
            let made = split_all(
                (packed, &self.tallies),
                &self.cost,
                factor * self.key_price(),
            );
            if !all.contains(&made) {
                all.push(made);
            }
        }
        let levels = 1..=self.cost.levels();
        let mut choices: Vec<(f64, usize, Vec<Decision>)> = Vec::new();
        for (index, splits) in all.iter().enumerate() {
            for target in std::iter::once(None).chain(levels.clone().rev().map(Some)) {
                // a target that some layer cannot do with is no choice
                if let Ok((decisions, price)) = self.schedule(splits, target)
                    && !choices.iter().any(|c| c.1 == index && c.2 == decisions)
                {
                    choices.push((price, index, decisions));
                }
            }
        }
        choices.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut best: Option<(f64, VerifiedPlan)> = None;
        for (price, index, decisions) in &choices {
            if best.as_ref().is_some_and(|b| b.0 <= *price) {
                break;
            }
            let plan = plan(&all[*index], decisions)?;
            if let Some(seconds) = extra(&plan)
                && best.as_ref().is_none_or(|b| price + seconds < b.0)
            {
                best = Some((price + seconds, plan));
            }
        }
        best.map(|b| b.1).ok_or_else(|| Error::Memory {
            network: self.graph.metadata().name.clone(),
            needed: smallest,
            had: limit,
        })
    }
}

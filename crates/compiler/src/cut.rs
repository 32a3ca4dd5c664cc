//! Whether a chain of linear operators is one map or two: the cheaper one.
//!
//! Composing saves a level, and mostly work; but the diagonals of a product can be as many as the product of both numbers (a projection
//! of 64 channels, then a sequence unfolded by 32 rows: 2048 instead of 64 and 32). Costs are estimated from numbers of diagonals alone,
//! a level's is its share of a bootstrap.

use crate::cost::CostModel;
use crate::error::Error;
use crate::layout::Layout;
use crate::linear_op::{Chain, chain_row, columnwise};
use crate::normal::{Builder, Expression, Id};
use crate::schedule::Refresh;
use crate::shifted::{Kinds, Sets};
use crate::sketch;
use ckks::MapSize;
use nn::{NodeId, PolyNode};
use std::sync::Arc;

impl Builder<'_> {
    /// The value as the rest of its chain after a node at which it is better cut, whose value is made on its own; as it is where one map
    /// is cheaper.
    pub(crate) fn cut(
        &mut self,
        node: &PolyNode,
        value: Expression,
        layout: &Layout,
    ) -> Result<Expression, Error> {
        let mixing = |t: &(Id, Chain)| t.1.iter().filter(|l| l.op.mixes()).count();
        // without bootstraps a level has no price: there are only so many
        let one = !value.terms.iter().any(|t| mixing(t) > 1);
        if one || !self.cost.has_bootstrap() {
            return Ok(value);
        }
        let period = match self.sized {
            Some((scale, slots)) => scale.layout(layout, slots)?.period,
            None => layout.period,
        };
        self.cost.prepare([period])?;
        let level = self.cost.levels().div_ceil(2).max(1);
        let levels = self.cost.levels();
        let deeper = self.cost.bootstrap(period, 1, levels) / levels.max(1) as f64;
        // Diagonals hold as many entries as they are long, at most: often that says enough, and entries are many.
        let at_least = |c: &Self, terms: &[(Id, Chain)], rows: usize, length: usize| {
            let (count, alike) = entries(terms, rows);
            let diagonals = count / length;
            let stored = if alike { 1 } else { length };
            let size = MapSize {
                diagonals,
                values: diagonals * c.cost.stored(stored),
                butterflies: diagonals as f64 * c.cost.butterflies(stored),
                ..MapSize::default()
            };
            match c.sized {
                None => c.cost.linear(&size, level),
                Some(_) => 0.0,
            }
        };
        let longest = |c: &Self, terms: &[(Id, Chain)], period: usize| {
            let sources = terms.iter().map(|t| c.quantities[t.0].layout.period);
            sources.max().unwrap_or(1).max(period)
        };
        let mut ways = Vec::new();
        for link in &value.terms[0].1 {
            let Some(rest) = self.after(&value, link.before) else {
                continue;
            };
            let inner = &self.values[link.before.index()];
            let from = self.layout_of(node.name(), inner)?;
            let least = at_least(
                self,
                &inner.terms,
                inner.shape.len(),
                longest(self, &inner.terms, from.period),
            ) + at_least(
                self,
                &rest.terms,
                value.shape.len(),
                from.period.max(layout.period),
            );
            ways.push((least, link.before, from, rest));
        }
        ways.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut best: Option<(f64, NodeId, Expression)> = None;
        for (least, at, from, rest) in ways {
            if best.as_ref().is_some_and(|b| least > 2.0 * b.0) {
                continue;
            }
            let inner = &self.values[at.index()];
            let first = self.estimate(&inner.terms, None, &from)?;
            let second = self.estimate(&rest.terms, Some(&from), layout)?;
            let two = self.cost.linear(&second, level) + self.cost.linear(&first, level) + deeper;
            if best.as_ref().is_none_or(|b| two < b.0) {
                best = Some((two, at, rest));
            }
        }
        let Some((two, at, mut rest)) = best else {
            return Ok(value);
        };
        let length = longest(self, &value.terms, layout.period);
        if at_least(self, &value.terms, value.shape.len(), length) <= 2.0 * two {
            let whole = self.estimate(&value.terms, None, layout)?;
            if self.cost.linear(&whole, level) <= two {
                return Ok(value);
            }
        }
        let inner = self.values[at.index()].clone();
        let id = match inner.direct() {
            Some(id) => id,
            None => {
                let id = self.linear(self.graph.node(at), inner, None)?;
                self.values[at.index()] = self.value(id);
                id
            }
        };
        rest.terms.iter_mut().for_each(|t| t.0 = id);
        // what names the chain may lie in its first half: its end names the second
        rest.name = (0, Some(node.id()));
        Ok(rest)
    }

    /// What is done to the value of `at`, if the whole value is made of it; sources are left open.
    fn after(&self, value: &Expression, at: NodeId) -> Option<Expression> {
        // of a mean that a node itself lacks there is none
        let inner = self.values.get(at.index())?;
        if inner.terms.is_empty() {
            return None;
        }
        let mut rests: Vec<(Chain, usize, usize)> = Vec::new();
        for (_, chain) in &value.terms {
            let i = chain.iter().position(|l| l.before == at)?;
            let rest = &chain[i..];
            let same = |other: &Chain| {
                other.len() == rest.len() && other.iter().zip(rest).all(|(a, b)| Arc::ptr_eq(a, b))
            };
            match rests.iter_mut().find(|r| same(&r.0)) {
                Some(r) => r.1 += 1,
                None => rests.push((rest.to_vec(), 1, chain[i].terms)),
            }
        }
        // a sum with itself has its terms several times
        if rests.iter().any(|r| r.1 != r.2) {
            return None;
        }
        let mut bias = value.bias.clone();
        if inner.bias.iter().any(|&b| b != 0.0) {
            for (r, b) in bias.iter_mut().enumerate() {
                for (rest, ..) in &rests {
                    chain_row(rest, r, 1.0, &mut |c, w| *b -= w * inner.bias[c]);
                }
            }
        }
        Some(Expression {
            terms: rests.into_iter().map(|r| (0, r.0)).collect(),
            bias,
            shape: value.shape,
            name: value.name,
        })
    }

    /// Sizes of the map from the terms' sources, or from one that is to be made in `from`.
    fn estimate(
        &self,
        terms: &[(Id, Chain)],
        from: Option<&Layout>,
        to: &Layout,
    ) -> Result<MapSize, Error> {
        let mut sources: Vec<Id> = terms.iter().map(|t| t.0).collect();
        sources.sort_unstable();
        sources.dedup();
        let layout = |source: Id| from.unwrap_or(&self.quantities[source].layout);
        let chains = |source: Id| terms.iter().filter(move |t| t.0 == source).map(|t| &t.1);
        let Some((scale, slots)) = self.sized else {
            let sizes = sources.into_iter().map(|source| {
                let chains: Vec<&Chain> = chains(source).collect();
                size(self.cost, &chains, layout(source), to)
            });
            return Ok(sizes.fold(MapSize::default(), MapSize::beside));
        };
        let full: Vec<(Layout, Chain)> = (sources.iter())
            .flat_map(|&s| chains(s).map(move |c| (s, c)))
            .map(|(s, c)| Ok((scale.layout(layout(s), slots)?, c.clone())))
            .collect::<Result<_, Error>>()?;
        let to = scale.layout(to, slots)?;
        sketch::size(self.cost, &full, &to)
    }
}

/// About how many entries the chains have in so many rows, and whether all weights are the same: of rows spread over all.
fn entries(terms: &[(Id, Chain)], rows: usize) -> (usize, bool) {
    const ROWS: usize = 61;
    let step = rows.div_ceil(ROWS).max(1);
    let (mut found, mut alike, mut first) = (0usize, true, None);
    for r in (0..rows).step_by(step) {
        for (_, chain) in terms {
            chain_row(chain, r, 1.0, &mut |_, w| {
                found += usize::from(w != 0.0);
                alike &= w == 0.0 || *first.get_or_insert(w) == w;
            });
        }
    }
    (found.saturating_mul(step), alike)
}

/// A diagonal as far as it is known.
#[derive(Clone, Copy, PartialEq)]
enum Seen {
    No,
    /// So many entries, all of this weight.
    Same(f64, usize),
    Various,
}

impl Seen {
    /// With so many more entries of this weight.
    fn with(self, weight: f64, more: usize) -> Self {
        match self {
            Self::No => Self::Same(weight, more),
            Self::Same(known, count) if known == weight => Self::Same(known, count + more),
            _ => Self::Various,
        }
    }
}

/// Diagonals are counted, the rest supposed: as many baby as giant steps, values that don't repeat unless they are all the same.
fn size(cost: &CostModel, chains: &[&Chain], from: &Layout, to: &Layout) -> MapSize {
    let columns = match from.by_column() && to.by_column() {
        true => columnwise(chains.iter().copied(), from.shape(), to.shape()).unwrap_or(1),
        false => 1,
    };
    let kinds = match columns {
        1 => Kinds::of(chains.iter().copied(), from, to),
        _ => None,
    };
    sized(cost, chains, (from, to), (columns, kinds.as_ref()))
}

/// The same, where so many columns are treated alike and it is known what places are.
fn sized(
    cost: &CostModel,
    chains: &[&Chain],
    (from, to): (&Layout, &Layout),
    (columns, kinds): (usize, Option<&Kinds>),
) -> MapSize {
    let (inputs, outputs) = (from.ciphertexts, to.ciphertexts);
    let modulus = from.period.min(to.period);
    let places = from.places();
    let made = to.places();
    let mut rows = vec![Vec::new(); outputs];
    for (r, (output, _)) in made.iter().enumerate().step_by(columns) {
        rows[*output as usize].push(r);
    }
    let length = from.period.max(to.period);
    let (mut diagonals, mut constants) = (0, 0);
    // rotations of inputs, of sums for outputs, or some of both
    let (mut offsets, mut of_input, mut of_output) = (
        vec![false; modulus],
        vec![false; inputs * modulus],
        vec![false; outputs * modulus],
    );
    // one output's diagonals at a time: those of all may be more than there is memory for
    let (mut seen, mut found) = (vec![Seen::No; inputs * modulus], Vec::new());
    for (output, rows) in rows.iter().enumerate() {
        for set in Sets::of(kinds, rows.iter().copied(), &made).iter() {
            let all = set.slots.len();
            for chain in chains {
                chain_row(chain, set.first, 1.0, &mut |c, w| {
                    if w != 0.0 {
                        let (input, p) = places[c];
                        let offset = p.wrapping_sub(set.slots[0]) as usize & (modulus - 1);
                        let here = set.before(p, from.period);
                        for (input, count) in
                            [(input as usize, here), (input as usize + 1, all - here)]
                        {
                            if count > 0 {
                                let i = input * modulus + offset;
                                if seen[i] == Seen::No {
                                    found.push(i);
                                }
                                seen[i] = seen[i].with(w, count * columns);
                            }
                        }
                    }
                });
            }
        }
        for i in found.drain(..) {
            let entry = std::mem::replace(&mut seen[i], Seen::No);
            diagonals += 1;
            constants += usize::from(matches!(entry, Seen::Same(_, count) if count == length));
            let offset = i % modulus;
            offsets[offset] = true;
            if offset != 0 {
                of_input[i] = true;
                of_output[output * modulus + offset] = true;
            }
        }
    }
    let count = |of: &[bool]| of.iter().filter(|&&u| u).count();
    let different = count(&offsets);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate of a small count"
    )]
    let steps = (different as f64).sqrt().ceil() as usize - usize::from(different > 0);
    let level = cost.levels().div_ceil(2);
    let seconds =
        |s: &(usize, usize)| s.0 as f64 * cost.baby(level) + s.1 as f64 * cost.giant(level);
    let ways = [
        (steps * inputs, steps * outputs),
        (count(&of_input), 0),
        (0, count(&of_output)),
    ];
    let (babies, giants) = ways
        .into_iter()
        .min_by(|a, b| seconds(a).total_cmp(&seconds(b)))
        .unwrap_or_default();
    let (several, one) = (diagonals - constants, constants);
    MapSize {
        diagonals,
        babies,
        giants,
        unmoved: outputs,
        folds: (length / to.period).ilog2() as usize,
        inputs,
        decomposed: if babies > 0 { inputs } else { 0 },
        outputs,
        values: several * cost.stored(length) + one * cost.stored(1),
        butterflies: several as f64 * cost.butterflies(length) + one as f64 * cost.butterflies(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Target;
    use crate::draft::Draft;
    use crate::normal::Kind;
    use crate::random::Random;
    use ckks::ParametersSpec;

    #[test]
    fn rows_that_are_shifted_are_counted_as_they_are_one_by_one() {
        let mut random = Random(3);
        let mut known = 0;
        for case in 0..40 {
            let graph = random.pictures();
            let target = Target::default();
            let set = ParametersSpec::toy_levelled([7, 8, 10, 12][case % 4], 8);
            let draft = Draft::normal(&graph, &target, set, None).expect("known");
            let all = &draft.normal.quantities;
            for q in all {
                let Kind::Linear { terms, .. } = &q.kind else {
                    continue;
                };
                for source in q.sources() {
                    let own = terms.iter().filter(|t| t.0 == source).map(|t| &t.1);
                    let (chains, from) = (own.collect::<Vec<_>>(), &all[source].layout);
                    let kinds = Kinds::of(chains.iter().copied(), from, &q.layout);
                    known += usize::from(kinds.is_some());
                    let of = |kinds| sized(&draft.cost, &chains, (from, &q.layout), (1, kinds));
                    assert_eq!(of(kinds.as_ref()), of(None), "{} of {case}", q.layer);
                }
            }
        }
        assert!(known > 40, "{known}");
    }
}

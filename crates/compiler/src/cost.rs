//! What operations cost, in CPU seconds: the planner's only view of the machine.
//!
//! Counts of work come from [`ckks::Meter`], seconds per unit of work from a [`CostTable`]. Maps are weighed by their sizes alone, by
//! the meter's own formula (a test holds both equal), since the split is chosen among thousands of candidates.

use crate::Error;
use ckks::meter::{Cost, CostTable};
use ckks::{Bootstrap, Context, Level, Meter, Parameters};
use runtime::Operation;
use std::collections::BTreeMap;

/// Sizes of a block map.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct MapSize {
    /// Diagonals.
    pub(crate) diagonals: usize,
    /// Baby rotations, 0 not counted, summed over inputs.
    pub(crate) babies: usize,
    /// Giant rotations, 0 not counted, summed over outputs.
    pub(crate) giants: usize,
    /// Giant steps of 0, summed over outputs.
    pub(crate) unmoved: usize,
    /// Rotations folded onto the outputs of the map.
    pub(crate) folds: usize,
    /// Input ciphertexts.
    pub(crate) inputs: usize,
    /// Input ciphertexts with baby rotations.
    pub(crate) decomposed: usize,
    /// Output ciphertexts.
    pub(crate) outputs: usize,
    /// Stored values of all diagonals.
    pub(crate) values: usize,
    /// Butterflies of encoding them.
    pub(crate) butterflies: f64,
}

/// Costs for one parameter set.
///
/// Periods and lengths are those of one input; where a batch lies side by side, each slot stands for `batch` of a ciphertext's.
pub(crate) struct CostModel {
    context: Context,
    table: CostTable,
    batch: usize,
    /// Seconds of a bootstrap to level 1 and to the highest, by slots.
    bootstraps: BTreeMap<usize, (f64, f64)>,
    /// Seconds of an alignment to each level.
    aligns: Vec<f64>,
}

impl CostModel {
    /// For these parameters and values with these periods.
    pub(crate) fn new(
        parameters: Parameters,
        table: CostTable,
        batch: usize,
        periods: impl IntoIterator<Item = usize>,
    ) -> Result<Self, Error> {
        let mut model = Self {
            context: Context::new(&parameters),
            table,
            batch,
            bootstraps: BTreeMap::new(),
            aligns: Vec::new(),
        };
        let levels = model.levels();
        for level in 0..levels {
            let seconds = model.operation(
                &Operation::Align {
                    input: 0,
                    output: 1,
                    level,
                },
                levels,
            )?;
            model.aligns.push(seconds);
        }
        model.aligns.push(0.0);
        model.prepare(periods)?;
        Ok(model)
    }

    /// Learns what bootstraps of values with these periods cost.
    pub(crate) fn prepare(
        &mut self,
        periods: impl IntoIterator<Item = usize>,
    ) -> Result<(), Error> {
        let levels = self.levels();
        if self.has_bootstrap() {
            for slots in periods {
                if !self.bootstraps.contains_key(&slots) {
                    let to = |target| {
                        self.operation(
                            &Operation::Bootstrap {
                                input: 0,
                                output: 1,
                                bootstrap: Bootstrap {
                                    slots: slots * self.batch,
                                    target,
                                    gain: 1.0,
                                },
                            },
                            0,
                        )
                    };
                    let ends = (to(1.min(levels))?, to(levels)?);
                    self.bootstraps.insert(slots, ends);
                }
            }
        }
        Ok(())
    }

    /// Values that encoding a diagonal works on; a plaintext shorter than four values is encoded as four.
    pub(crate) fn stored(&self, len: usize) -> usize {
        self.real(len).max(4)
    }
    /// Butterflies of encoding a diagonal.
    pub(crate) fn butterflies(&self, len: usize) -> f64 {
        butterflies(self.real(len))
    }
    /// Slots of a diagonal of this length: a constant one stays one value.
    fn real(&self, len: usize) -> usize {
        if len == 1 { 1 } else { len * self.batch }
    }

    /// The context.
    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// The parameters.
    pub(crate) fn parameters(&self) -> &Parameters {
        self.context.parameters()
    }

    /// Highest residual level.
    pub(crate) fn levels(&self) -> usize {
        self.parameters().residual().index()
    }

    /// Whether there is bootstrapping.
    pub(crate) fn has_bootstrap(&self) -> bool {
        self.parameters().bootstrap().is_some()
    }

    /// An operation of one or two operands at `level`, as the meter counts it.
    pub(crate) fn operation(&self, operation: &Operation, level: usize) -> Result<f64, Error> {
        let meter = Meter::new(&self.context);
        let slots = match operation {
            Operation::Bootstrap { bootstrap, .. } => bootstrap.slots,
            _ => 4,
        };
        let x = meter.input(Level::new(level), slots, 0.5)?;
        match operation {
            // the definition alone: the noise of a polynomial takes longer to bound than its cost
            Operation::Polynomial { polynomial, .. } => {
                ckks::polynomial::evaluate(&meter, &x, polynomial).map(|_| ())?
            }
            other => other
                .apply(&meter, &vec![x; other.reads().len()])
                .map(|_| ())?,
        }
        Ok(meter.cost().seconds(&self.table))
    }

    /// A bootstrap of one ciphertext to `target`.
    pub(crate) fn bootstrap(&self, slots: usize, target: usize) -> f64 {
        let (low, high) = self
            .bootstraps
            .get(&slots)
            .copied()
            .unwrap_or((f64::INFINITY, f64::INFINITY));
        let span = self.levels().saturating_sub(1).max(1) as f64;
        low + (high - low) * (target.saturating_sub(1)) as f64 / span
    }

    /// Moving a value down to `level`.
    pub(crate) fn align(&self, level: usize) -> f64 {
        self.aligns.get(level).copied().unwrap_or(0.0)
    }

    /// (limbs, special limbs, sizes of digits) at a level.
    fn shape(&self, level: usize) -> (f64, f64, Vec<f64>) {
        let p = self.parameters();
        let kept = p.limbs(Level::new(level));
        let digits = p
            .digits()
            .iter()
            .map(|d| kept.iter().filter(|k| d.contains(k)).count() as f64)
            .filter(|&c| c > 0.0)
            .collect();
        (kept.len() as f64, p.special().len() as f64, digits)
    }
    fn decomposition(&self, level: usize) -> Cost {
        let (kept, special, digits) = self.shape(level);
        let all = kept + special;
        Cost {
            ntts: kept + digits.iter().map(|d| all - d).sum::<f64>(),
            conversions: kept + digits.iter().map(|d| (all - d) * d).sum::<f64>(),
            passes: 2.0 * kept,
            ..Cost::default()
        }
    }
    fn times_key(&self, level: usize) -> Cost {
        let (kept, special, digits) = self.shape(level);
        let d = digits.len() as f64;
        Cost {
            multiply_adds: 2.0 * d * (kept + special),
            expansions: d * (kept + special),
            ..Cost::default()
        }
    }
    fn division(keep: f64, drop: f64) -> Cost {
        Cost {
            ntts: keep + drop,
            conversions: drop + drop * keep,
            passes: 2.0 * keep + drop,
            ..Cost::default()
        }
    }
    fn passes(count: f64) -> Cost {
        Cost {
            passes: count,
            ..Cost::default()
        }
    }

    fn baby_cost(&self, level: usize) -> Cost {
        let (kept, special, _) = self.shape(level);
        self.times_key(level)
            .plus(Self::passes(2.0 * (kept + special) + kept))
    }
    fn giant_cost(&self, level: usize) -> Cost {
        let (kept, special, _) = self.shape(level);
        Self::division(kept, special)
            .plus(self.decomposition(level))
            .plus(self.times_key(level))
            .plus(Self::passes(3.0 * (kept + special)))
    }
    /// One baby rotation more.
    pub(crate) fn baby(&self, level: usize) -> f64 {
        self.baby_cost(level).seconds(&self.table)
    }
    /// One giant rotation more.
    pub(crate) fn giant(&self, level: usize) -> f64 {
        self.giant_cost(level).seconds(&self.table)
    }

    /// A block map at `level`, which must be at least 1.
    pub(crate) fn linear(&self, size: &MapSize, level: usize) -> f64 {
        let (kept, special, _) = self.shape(level);
        let moves = size.babies + size.giants + size.folds > 0;
        let special = if moves { special } else { 0.0 };
        let all = kept + special;
        let low = self.shape(level.saturating_sub(1)).0;
        let group = self.parameters().group(Level::new(level)).len() as f64;
        let times = |cost: Cost, count: usize| cost.seconds(&self.table) * count as f64;
        let two = |cost: Cost| cost.plus(cost);
        let words = 2.0 * size.values as f64 / self.parameters().n() as f64;
        let plain = Cost {
            encodes: size.butterflies,
            ntts: all * words,
            passes: all * words,
            multiply_adds: 2.0 * all * size.diagonals as f64,
            ..Cost::default()
        };
        let end = if size.folds == 0 {
            two(Self::division(low, group + special))
        } else {
            two(Self::division(kept, special)).plus(two(Self::division(low, group)))
        };
        let rotation = two(Self::division(kept, special))
            .plus(self.decomposition(level))
            .plus(self.times_key(level))
            .plus(Self::passes(5.0 * kept));
        times(plain, 1)
            + times(Self::passes(2.0 * kept), size.inputs)
            + times(self.decomposition(level), size.decomposed)
            + times(self.baby_cost(level), size.babies)
            + times(self.giant_cost(level), size.giants)
            + times(Self::passes(2.0 * all), size.unmoved)
            + times(end, size.outputs)
            + times(rotation, size.folds * size.outputs)
    }
}

/// Sizes of a map.
pub(crate) fn map_size(map: &ckks::BlockMap) -> MapSize {
    let moved = |steps: &[usize]| steps.iter().filter(|&&s| s != 0).count();
    let babies: Vec<usize> = (0..map.inputs()).map(|i| moved(&map.babies(i))).collect();
    let giants: Vec<Vec<usize>> = (0..map.outputs()).map(|o| map.giants(o)).collect();
    let lengths = || map.terms().iter().map(|t| t.values.len());
    MapSize {
        diagonals: map.terms().len(),
        babies: babies.iter().sum(),
        giants: giants.iter().map(|g| moved(g)).sum(),
        unmoved: giants.iter().map(|g| g.len() - moved(g)).sum(),
        folds: map.folds().len(),
        inputs: map.inputs(),
        decomposed: babies.iter().filter(|&&b| b > 0).count(),
        outputs: map.outputs(),
        values: lengths().map(|n| n.max(4)).sum(),
        butterflies: lengths().map(butterflies).sum(),
    }
}

/// Butterflies of encoding `len` slots.
fn butterflies(len: usize) -> f64 {
    len as f64 * (len as f64).log2().max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ckks::map::{Term, Values};
    use ckks::{Arithmetic, BlockMap, ParametersSpec};

    #[test]
    fn maps_cost_what_the_meter_counts() {
        let parameters = Parameters::new(ParametersSpec::toy(10)).expect("valid");
        let model =
            CostModel::new(parameters.clone(), CostTable::default(), 1, [64]).expect("valid");
        for (inputs, outputs, folds) in [
            (1, 1, vec![]),
            (2, 1, vec![]),
            (2, 3, vec![]),
            (1, 1, vec![16, 32, 64]),
        ] {
            let term = |i: usize| Term {
                input: i % inputs,
                output: i % outputs,
                giant: i / 5 * 8,
                baby: i % 5,
                values: Values::Real(vec![1.0; 128 >> (i % 4)].into()),
            };
            let map = BlockMap::new(128, inputs, outputs, (0..40).map(term).collect(), folds)
                .expect("valid");
            for level in [1, 5, 10] {
                let meter = Meter::new(&Context::new(&parameters));
                let x = meter.input(Level::new(level), 128, 1.0).expect("fits");
                meter
                    .linear(
                        &vec![x; inputs],
                        &map,
                        parameters.scale(Level::new(level - 1)),
                    )
                    .expect("fits");
                let counted = meter.cost().seconds(&CostTable::default());
                let modelled = model.linear(&map_size(&map), level);
                assert!(
                    (modelled / counted - 1.0).abs() < 0.1,
                    "{inputs} in, {outputs} out, level {level}: {modelled} and {counted}"
                );
            }
        }
    }
}

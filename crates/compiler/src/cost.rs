//! What operations cost, in CPU seconds: the planner's only view of the machine.
//!
//! Counts of work come from [`ckks::Meter`], seconds per unit of work from a [`CostTable`]. Maps are weighed by their sizes alone, by
//! the meter's own formula, since the split is chosen among thousands of candidates.

use crate::error::Error;
use crate::schedule::{Machine, Refresh};
use ckks::map::Giants;
use ckks::work::At;
use ckks::{Bootstrap, Context, CostTable, Level, MapSize, Meter, Parameters, ReadWeights};
use runtime::Operation;
use std::collections::BTreeMap;

/// Costs for one parameter set.
///
/// Levels are free ones: 0 is the lowest at which values lie in slots ([`CostModel::level`]). Periods and lengths are those of one input; where a batch
/// lies side by side, each slot stands for `batch` of a ciphertext's.
pub(crate) struct CostModel {
    context: Context,
    /// What was read of the context's transforms, and of the weights of plans under it.
    read: ReadWeights,
    table: CostTable,
    batch: usize,
    /// Seconds of bootstraps of one vector and of two, to level 1 and to the highest, by slots.
    bootstraps: BTreeMap<usize, [(f64, f64); 2]>,
    /// Seconds of half bootstraps to each level, by the period of what they give, where there are any.
    rises: BTreeMap<usize, Vec<f64>>,
    /// Seconds of an alignment to each level.
    aligns: Vec<f64>,
}

impl CostModel {
    /// For these parameters, with a table for N = 2^16; [`CostModel::prepare`] follows.
    pub(crate) fn new(
        parameters: &Parameters,
        table: CostTable,
        batch: usize,
    ) -> Result<Self, Error> {
        let mut model = Self {
            context: Context::new(parameters),
            read: ReadWeights::default(),
            table: table.for_ring(parameters.spec().log_n),
            batch,
            bootstraps: BTreeMap::new(),
            rises: BTreeMap::new(),
            aligns: Vec::new(),
        };
        let levels = model.levels();
        for level in 0..levels {
            let (input, output) = (0, 1);
            let align = Operation::Align {
                input,
                output,
                level: model.level(level).index(),
            };
            model.aligns.push(model.operation(&align, levels)?);
        }
        model.aligns.push(0.0);
        if parameters.products() > Level::new(0) {
            model.rise_to(parameters.max_slots())?;
        }
        Ok(model)
    }

    /// Learns what half bootstraps cost that give values of this period.
    fn rise_to(&mut self, period: usize) -> Result<(), Error> {
        let levels = 0..=self.levels();
        let seconds = levels.map(|t| self.half(period, t));
        let seconds = seconds.collect::<Result<_, _>>()?;
        self.rises.insert(period, seconds);
        Ok(())
    }

    fn half(&self, period: usize, target: usize) -> Result<f64, Error> {
        let meter = Meter::new(&self.context).sharing(&self.read);
        let whole = period == self.parameters().max_slots();
        let slots = if whole { period } else { period / 2 };
        let x = meter.input(Level::new(0), slots, 0.5)?;
        let operation = Operation::HalfBootstrap {
            input: 0,
            outputs: if whole { vec![1, 2] } else { vec![1] },
            slots,
            target: self.level(target).index(),
            gain: 1,
        };
        operation.apply(&meter, &[x])?;
        Ok(meter.cost().seconds(&self.table))
    }

    /// Learns what bootstraps of values with these periods cost.
    pub(crate) fn prepare(
        &mut self,
        periods: impl IntoIterator<Item = usize>,
    ) -> Result<(), Error> {
        let levels = self.levels();
        for slots in periods {
            // of fewer than four slots there are none
            if !self.rises.is_empty() && slots >= 8 && !self.rises.contains_key(&slots) {
                self.rise_to(slots)?;
            }
            if !self.has_bootstrap() || self.bootstraps.contains_key(&slots) {
                continue;
            }
            let to = |vectors, target| {
                let bootstrap = Bootstrap {
                    slots: slots * self.batch,
                    target: self.level(target).index(),
                    gain: 1.0,
                };
                let operation = Operation::Bootstrap {
                    inputs: vec![0; vectors],
                    outputs: (1..=vectors).collect(),
                    bootstrap,
                };
                self.operation(&operation, 0)
            };
            let ends = |vectors| -> Result<_, Error> {
                Ok((to(vectors, 1.min(levels))?, to(vectors, levels)?))
            };
            self.bootstraps.insert(slots, [ends(1)?, ends(2)?]);
        }
        Ok(())
    }

    /// Values that encoding a diagonal works on; a plaintext shorter than four values is encoded as four.
    pub(crate) fn stored(&self, len: usize) -> usize {
        MapSize::stored(self.real(len))
    }
    /// Butterflies of encoding a diagonal.
    pub(crate) fn butterflies(&self, len: usize) -> f64 {
        MapSize::butterflies_of(self.real(len))
    }
    /// Slots of a diagonal of this length: a constant one stays one value.
    fn real(&self, len: usize) -> usize {
        if len == 1 { 1 } else { len * self.batch }
    }

    /// The context.
    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// What was read of weights under it.
    pub(crate) fn read(&self) -> &ReadWeights {
        &self.read
    }

    /// The parameters.
    pub(crate) fn parameters(&self) -> &Parameters {
        self.context.parameters()
    }

    /// Highest free level.
    pub(crate) fn levels(&self) -> usize {
        self.parameters().residual().index() - self.parameters().floor().index()
    }
    /// A free level in the chain.
    pub(crate) fn level(&self, free: usize) -> Level {
        Level::new(self.parameters().floor().index() + free)
    }

    /// Whether there is bootstrapping.
    pub(crate) fn has_bootstrap(&self) -> bool {
        self.parameters().bootstrap().is_some()
    }

    /// How maps rotate their sums: without bootstrapping, whose own keys are most, by as few keys as they can.
    pub(crate) fn giants(&self) -> Giants {
        match self.has_bootstrap() {
            true => Giants::Apart,
            false => Giants::Chained,
        }
    }

    /// What encrypting at a level counts: it costs the client and the wire a little.
    pub(crate) fn encrypted(&self, level: usize) -> f64 {
        1e-3 * level as f64 * ckks::work::ring_share(self.parameters().spec().log_n)
    }

    /// An operation of one or two operands at `level`, as the meter counts it.
    pub(crate) fn operation(&self, operation: &Operation, level: usize) -> Result<f64, Error> {
        self.operation_at(operation, self.level(level))
    }
    /// [`CostModel::operation`] at any level of the chain.
    pub(crate) fn operation_at(&self, operation: &Operation, level: Level) -> Result<f64, Error> {
        let meter = Meter::new(&self.context).sharing(&self.read);
        let slots = match operation {
            Operation::Bootstrap { bootstrap, .. } => bootstrap.slots,
            _ => 4,
        };
        let x = meter.input(level, slots, 0.5)?;
        match operation {
            // the definition alone: the noise of a polynomial takes longer to bound than its cost
            Operation::Polynomial { polynomial, .. } => {
                ckks::polynomial::evaluate(&meter, &x, polynomial)?;
            }
            other => drop(other.apply(&meter, &vec![x; other.reads().len()])?),
        }
        Ok(meter.cost().seconds(&self.table))
    }

    /// Seconds at each level of the operands, 0 below `depth`.
    pub(crate) fn by_level(
        &self,
        depth: usize,
        seconds: impl Fn(usize) -> Result<f64, Error>,
    ) -> Result<Vec<f64>, Error> {
        (0..=self.levels())
            .map(|level| {
                if level < depth {
                    Ok(0.0)
                } else {
                    seconds(level)
                }
            })
            .collect()
    }

    /// What schedules are made for, without any limit.
    pub(crate) fn machine(&self) -> Machine<'_> {
        Machine {
            refresh: self,
            levels: self.levels(),
            bootstraps: self.has_bootstrap(),
            target: None,
            most_bootstraps: None,
            parameters: &self.parameters().spec().name,
        }
    }

    /// The work at a level.
    fn at(&self, level: usize) -> At<'_> {
        At::new(self.parameters(), self.level(level))
    }
    /// One baby rotation more.
    pub(crate) fn baby(&self, level: usize) -> f64 {
        self.at(level).baby().seconds(&self.table)
    }
    /// One giant rotation more.
    pub(crate) fn giant(&self, level: usize) -> f64 {
        self.at(level).giant().seconds(&self.table)
    }

    /// A block map at `level`, which must be at least 1.
    pub(crate) fn linear(&self, size: &MapSize, level: usize) -> f64 {
        self.maps_at(level)(size)
    }
    /// [`CostModel::linear`] for many maps at one level.
    pub(crate) fn maps_at(&self, level: usize) -> impl Fn(&MapSize) -> f64 {
        let at = self.at(level);
        move |size| at.map(size).seconds(&self.table)
    }
}

impl Refresh for CostModel {
    fn bootstrap(&self, slots: usize, vectors: usize, target: usize) -> f64 {
        let Some([one, two]) = self.bootstraps.get(&slots) else {
            return f64::INFINITY;
        };
        let span = self.levels().saturating_sub(1).max(1) as f64;
        let at = |(low, high): &(f64, f64)| {
            low + (high - low) * (target.saturating_sub(1)) as f64 / span
        };
        (vectors / 2) as f64 * at(two) + (vectors % 2) as f64 * at(one)
    }
    fn rise(&self, slots: usize, vectors: usize, target: usize) -> f64 {
        let each = self.rises.get(&slots).and_then(|r| r.get(target));
        let each = each.copied().unwrap_or(f64::INFINITY);
        let together = match slots == self.parameters().max_slots() {
            true => vectors.div_ceil(2),
            false => vectors,
        };
        together as f64 * each
    }
    fn align(&self, level: usize) -> f64 {
        self.aligns.get(level).copied().unwrap_or(0.0)
    }
}

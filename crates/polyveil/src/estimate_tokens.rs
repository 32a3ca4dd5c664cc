//! What a transformer with linear layers in coefficients would take, from its shape: plans of its first block and of its first two are made, and every
//! further block takes as much as the second adds.

use crate::error::Result;
use compiler::{CostTable, Layers, Target};
use nn::attention::AttentionScheme;
use runtime::{Operation, Plan, Purpose, VerifiedPlan, size};
use std::collections::BTreeMap;
use zoo::shape::{Polynomials, TransformerShape};

/// Bytes that compiling takes for each weight: as an integer, and what is made of it row by row. The network's own are random and made where they are read.
const EACH_WEIGHT: u64 = 5;

/// What a run would take.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Whole {
    /// CPU seconds by what steps are for ([`runtime::Work`]), one thread.
    pub seconds: BTreeMap<&'static str, f64>,
    /// CPU seconds of Power-Softmax, its bootstraps included.
    pub attention: f64,
    /// Bootstraps.
    pub bootstraps: u64,
    /// Ciphertexts of the input and of the answer.
    pub ports: (usize, usize),
    /// Evaluation keys.
    pub keys: usize,
    /// Their bytes as a file.
    pub key_bytes: u64,
    /// Bytes of the matrices' integers as a file.
    pub weight_bytes: u64,
    /// Bytes of maps, which stay in memory: a part of `peak_bytes`.
    pub held_bytes: u64,
    /// Peak memory of the server, keys included.
    pub peak_bytes: u64,
}

impl Whole {
    /// What a plan takes.
    #[must_use]
    pub fn of(plan: &VerifiedPlan, cost: &CostTable) -> Self {
        let (facts, own) = (plan.facts(), plan.plan());
        let mut seconds: BTreeMap<&'static str, f64> = BTreeMap::new();
        let mut attention = 0.0;
        for (step, taken) in own.steps.iter().zip(plan.predicted_steps(cost)) {
            *seconds.entry(step.work().name()).or_default() += taken;
            if step.purpose == Purpose::Attention {
                attention += taken;
            }
        }
        Self {
            seconds,
            attention,
            bootstraps: facts.bootstraps,
            ports: (own.input.registers.len(), own.output.registers.len()),
            keys: facts.keys.0.len(),
            key_bytes: facts.key_file_bytes,
            weight_bytes: own.integer_bytes(),
            held_bytes: held_bytes(own),
            peak_bytes: facts.peak_bytes,
        }
    }

    /// CPU seconds of all steps.
    #[must_use]
    pub fn cpu_seconds(&self) -> f64 {
        self.seconds.values().sum()
    }

    /// With so many more blocks, each taking what this one's last adds to `before`. They use its keys, and its memory again but for maps, which stay
    /// there.
    fn extended(mut self, before: &Self, blocks: u32) -> Self {
        let more = f64::from(blocks);
        for (name, seconds) in &mut self.seconds {
            let first = before.seconds.get(name).copied().unwrap_or(0.0);
            *seconds += more * (*seconds - first);
        }
        self.attention += more * (self.attention - before.attention);
        let whole = |one: u64, two: u64| two + u64::from(blocks) * two.saturating_sub(one);
        self.bootstraps = whole(before.bootstraps, self.bootstraps);
        self.weight_bytes = whole(before.weight_bytes, self.weight_bytes);
        let held_bytes = whole(before.held_bytes, self.held_bytes);
        self.peak_bytes += held_bytes - self.held_bytes;
        self.held_bytes = held_bytes;
        self
    }
}

/// Bytes of a plan's maps, which stay in memory: vectors that several share once.
pub(crate) fn held_bytes(plan: &Plan) -> u64 {
    let maps = plan.steps.iter().filter_map(|s| match &s.operation {
        Operation::Linear { map, .. } => Some(map),
        _ => None,
    });
    let values = maps.flat_map(|map| map.terms().iter().flat_map(|t| t.values.stored()));
    let once: BTreeMap<usize, usize> = values.collect();
    once.into_values().map(|bytes| bytes as u64).sum()
}

/// What a run of one input of `length` tokens would take with linear layers in coefficients, whatever the target's choice; with an answer at these positions, at all if none are said.
///
/// # Errors
/// Those of [`TransformerShape::lowered`] and [`compiler::compile`]; too little memory for two blocks.
pub fn whole(
    shape: &TransformerShape,
    (length, positions): (usize, Option<&[usize]>),
    (scheme, polynomials): (AttentionScheme, Polynomials),
    target: &Target,
) -> Result<Whole> {
    let target = Target {
        layers: Layers::Coefficients,
        ..target.clone()
    };
    let blocks = shape.sizes().layers;
    let of = |blocks: usize| -> Result<Whole> {
        let part = shape.first(blocks);
        let needed = EACH_WEIGHT * part.parameters()?;
        if let Some(room) = target.room.filter(|r| r.bytes < needed) {
            let (needed, had) = (size(needed), size(room.bytes));
            return Err(
                format!("plans of {blocks} blocks take {needed} to make, {had} are free").into(),
            );
        }
        let mut graph = part.lowered(scheme, length, polynomials)?;
        if let Some(positions) = positions {
            graph = graph.at_positions(positions)?;
        }
        let plan = compiler::compile(&graph, &target)?;
        Ok(Whole::of(&plan, &target.cost))
    };
    if blocks < 2 {
        return of(blocks);
    }
    let (one, two) = (of(1)?, of(2)?);
    let more = u32::try_from(blocks - 2).map_err(|e| e.to_string())?;
    Ok(two.extended(&one, more))
}

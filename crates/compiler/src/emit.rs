//! Writes the plan: registers, alignments, steps and ports.

use crate::activation::Form;
use crate::coefficients::tokens::Tokens;
use crate::coefficients::vectors::Low;
use crate::coefficients::weigh::{self, Scaled};
use crate::error::Error;
use crate::layout::narrow;
use crate::linear_op::Chain;
use crate::normal::{Domain, Id, Kind, Normal, Quantity};
use crate::order::depth_first;
use crate::pack::{Input, Packed, Twins, drop_repetitions};
use crate::schedule::Decision;
use crate::split::Split;
use crate::units::Units;
use ckks::map::{Classes, Giants, Term, Values};
use ckks::{BlockMap, Bootstrap, Parameters};
use runtime::{Kept, Operation, Port, Register, Sequence, Step};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Weak};

/// What plans hold of weights: the same stands in memory once, whichever plan has it.
#[derive(Default)]
pub(crate) struct Shared {
    /// Weights, by a hash of their values.
    weights: HashMap<u64, Vec<Weak<[f32]>>>,
    /// Classes of a batch, by the address of those of one input, which are kept, too; and by their number where each run has its own.
    batched: HashMap<usize, [Arc<Classes>; 2]>,
    runs: HashMap<usize, Arc<Classes>>,
    /// Of each quantity as it was written last: plans that are compared mostly have the same units.
    scaled: HashMap<Id, Multiplied>,
}

/// What diagonals were multiplied by, by input, as bits, and what they became.
type Multiplied = (Vec<u64>, Vec<Arc<[f32]>>);

/// An odd number whose multiples spread their bits: 2^64 by the golden ratio.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

impl Shared {
    fn get(&mut self, values: Vec<f32>) -> Arc<[f32]> {
        let mix = |h: u64, v: &f32| (h.rotate_left(5) ^ u64::from(v.to_bits())).wrapping_mul(MIX);
        let alike = self.weights.entry(values.iter().fold(0, mix)).or_default();
        alike.retain(|w| w.strong_count() > 0);
        let same = |v: &Arc<[f32]>| {
            let mut both = v.iter().zip(&values);
            v.len() == values.len() && both.all(|(a, b)| a.to_bits() == b.to_bits())
        };
        if let Some(found) = alike.iter().filter_map(Weak::upgrade).find(same) {
            return found;
        }
        let new: Arc<[f32]> = values.into();
        alike.push(Arc::downgrade(&new));
        new
    }

    /// Values of a batch with these weights: each as often as there are inputs side by side.
    fn values(&mut self, like: &Values, weights: Arc<[f32]>, batch: usize) -> Values {
        let count = weights.len();
        match like {
            Values::Kernel { classes, mask, .. } => {
                let wider = || [classes.clone(), classes.wider(batch).into()];
                let address = Arc::as_ptr(classes) as usize;
                Values::Kernel {
                    weights,
                    classes: match batch {
                        1 => classes.clone(),
                        _ => self.batched.entry(address).or_insert_with(wider)[1].clone(),
                    },
                    mask: mask.clone(),
                }
            }
            _ if batch == 1 || count == 1 => Values::Real(weights),
            _ => {
                let runs = || Classes::runs(count, batch).into();
                Values::Kernel {
                    weights,
                    classes: self.runs.entry(count).or_insert_with(runs).clone(),
                    mask: None,
                }
            }
        }
    }
}

/// Where no tensor takes more ciphertexts, tensors are made one after the other, else depth first.
pub(crate) const MOST_AT_ONCE: usize = 32;

/// Most giant steps of one map, beside which an output or two: their sums, each a ciphertext and more, are alive together. What a larger map
/// shares, its rotated inputs, is made again for every piece.
pub(crate) const MOST_SUMS: usize = 128;

/// Most diagonals of one map that rotates: each is half a mebibyte while the map is carried out.
pub(crate) const MOST_DIAGONALS: usize = 4096;

/// Most results of a map that rotates nothing: all are summed at once, beside what is summed.
pub(crate) const MOST_RESULTS: usize = 32;

/// Most results of a map that moves slots: each has rotated inputs of its own, and all of a piece are alive together.
pub(crate) const MOST_COPIES: usize = 8;

/// All that is decided.
pub(crate) struct Draft<'a> {
    pub(crate) normal: &'a Normal,
    pub(crate) decisions: &'a [Decision],
    pub(crate) units: &'a [Units],
    pub(crate) twins: &'a [Twins],
    pub(crate) splits: &'a [Option<Split>],
    pub(crate) weights: &'a RefCell<Shared>,
    /// How maps rotate their sums.
    pub(crate) giants: Giants,
    /// Inputs side by side: each slot of the layouts is as many of a ciphertext's.
    pub(crate) batch: usize,
    /// The chain's.
    pub(crate) parameters: &'a Parameters,
    /// Shapes of the input and the answer, and which of their tensors' values they show, where these are not all that there are.
    pub(crate) ports: &'a Option<[Shown; 2]>,
}

/// A shape, and the number of each of its values in the tensor that holds them.
pub(crate) type Shown = (Vec<usize>, Vec<usize>);

impl Draft<'_> {
    /// The chain's level of a free one.
    fn level(&self, free: usize) -> usize {
        self.parameters.floor().index() + free
    }
}

/// What is emitted.
pub(crate) struct Emitted {
    pub(crate) steps: Vec<Step>,
    pub(crate) input: Port,
    pub(crate) output: Port,
    pub(crate) sequence: Option<Sequence>,
}

/// The steps and the ports, whose inputs, answer and what is kept are called so.
pub(crate) fn emit(
    draft: &Draft<'_>,
    packed: &[Option<Packed>],
    (inputs, answer, kept): (&[&str], &str, &[&str]),
) -> Result<Emitted, Error> {
    let &Draft {
        normal,
        twins,
        splits,
        batch,
        ..
    } = draft;
    let mut writer = Writer {
        draft,
        steps: Vec::new(),
        next: 0,
        registers: Vec::new(),
        aligned: BTreeMap::new(),
        low: BTreeMap::new(),
    };
    for (v, (packed, split)) in packed.iter().zip(splits).enumerate() {
        writer.quantity(v, packed.as_ref().zip(split.as_ref()))?;
    }
    let shown = |which: usize, places: Vec<(u32, u32)>| match draft.ports {
        None => places,
        Some(ports) => ports[which].1.iter().map(|&i| places[i]).collect(),
    };
    let port = |name: &str, v: Id, which: usize, level: usize| {
        let q = &normal.quantities[v];
        let places = q.layout.places().into_iter();
        let places = places.map(|(c, s)| (narrow(twins[v].of[c as usize]), s));
        Port {
            name: name.into(),
            shape: (draft.ports.as_ref()).map_or_else(|| q.shape.dims(), |p| p[which].0.clone()),
            registers: writer.registers[v].clone(),
            slots: q.layout.period * batch,
            places: shown(which, places.collect()),
            batch,
            level: draft.level(level),
            unit: draft.units[v].unit(),
        }
    };
    let first = inputs.first().copied().unwrap_or_default();
    let input = port(first, 0, 0, draft.decisions[0].level);
    let mut output = port(answer, normal.output, 1, writer.level(normal.output));
    if normal.quantities[normal.output].domain == Domain::Coefficients {
        let layout = &normal.quantities[normal.output].layout;
        output.level = 0;
        match Low::of(layout, draft.parameters.n()) {
            Some(low) if !layout.is_table() => {
                output.slots = low.folding.slots(draft.parameters.n());
                output.places = shown(1, low.places());
            }
            _ => output.places = shown(1, Tokens::coefficients(layout)),
        }
    }
    let more = normal.more.iter().zip(inputs.iter().skip(1));
    let more = more.map(|(&v, name)| port(name, v, 0, draft.decisions[v].level));
    let kept = normal.kept.iter().zip(kept);
    let kept = kept.map(|(&(before, after), name)| Kept {
        name: (*name).into(),
        before: writer.registers[before].clone(),
        after: writer.registers[after].clone(),
        slots: normal.quantities[before].layout.period * batch,
        level: draft.level(draft.decisions[before].level),
        unit: draft.units[before].unit(),
    });
    // a row a token
    let rows = normal
        .kept
        .iter()
        .map(|(v, _)| normal.quantities[*v].shape.dims());
    let runs = rows.filter_map(|d| d.get(1).copied()).min();
    let sequence = runs.map(|runs| Sequence {
        more: more.collect(),
        kept: kept.collect(),
        runs,
    });
    let most = twins.iter().map(|t| t.count).max().unwrap_or(0);
    let steps = if batch == 1 && most <= MOST_AT_ONCE {
        writer.steps
    } else {
        let kept = sequence.iter().flat_map(|s| &s.kept).flat_map(|k| &k.after);
        let ends: Vec<Register> = output.registers.iter().chain(kept).copied().collect();
        depth_first(writer.steps, &ends)
    };
    Ok(Emitted {
        steps,
        input,
        output,
        sequence,
    })
}

/// The diagonals of a map, by pieces that share nothing: of each, inputs that no other one reads. Where nothing is rotated, and so nothing
/// but loads is shared, pieces are of [`MOST_RESULTS`] at most, and of [`MOST_COPIES`] where results have rotations of their own; else of [`MOST_SUMS`] giant steps and [`MOST_DIAGONALS`] diagonals.
fn pieces(packed: &Packed, split: &Split, copies: bool) -> Vec<Vec<usize>> {
    // which input's group an input belongs to
    let mut group: Vec<usize> = (0..packed.inputs.len()).collect();
    fn find(group: &mut [usize], mut i: usize) -> usize {
        while group[i] != i {
            group[i] = group[group[i]];
            i = group[i];
        }
        i
    }
    let mut reads: Vec<Option<usize>> = vec![None; packed.outputs];
    for d in &packed.diagonals {
        match reads[d.output] {
            None => reads[d.output] = Some(d.input),
            Some(other) => {
                let (a, b) = (find(&mut group, d.input), find(&mut group, other));
                group[a.max(b)] = a.min(b);
            }
        }
    }
    let moves = !packed.folds.is_empty() || split.steps.iter().any(|s| *s != (0, 0));
    // results of several ciphertexts each are summed together, so that what they read is made in the order in which it is shared
    let sums = copies && packed.inputs.len() > packed.outputs;
    if sums && packed.outputs <= MOST_COPIES {
        group.fill(0);
    }
    // what each result takes of a piece, in shares of it
    let weights: Vec<f64> = if moves {
        let mut giants = vec![BTreeSet::new(); packed.outputs];
        let mut diagonals = vec![0usize; packed.outputs];
        for (d, step) in packed.diagonals.iter().zip(&split.steps) {
            giants[d.output].insert(step.0);
            diagonals[d.output] += 1;
        }
        (giants.iter().zip(&diagonals))
            .map(|(g, &d)| {
                let least = if copies {
                    1.0 / MOST_COPIES as f64
                } else {
                    0.0
                };
                let diagonals = d as f64 / MOST_DIAGONALS as f64;
                least.max(g.len() as f64 / MOST_SUMS as f64).max(diagonals)
            })
            .collect()
    } else {
        vec![1.0 / MOST_RESULTS as f64; packed.outputs]
    };
    // by group and the number of the piece within it
    let mut pieces: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
    // of each group, the piece that is being filled and how full it is
    let mut filling: BTreeMap<usize, (usize, f64)> = BTreeMap::new();
    let mut piece_of: Vec<Option<(usize, usize)>> = vec![None; packed.outputs];
    for (k, d) in packed.diagonals.iter().enumerate() {
        let of = find(&mut group, d.input);
        let piece = *piece_of[d.output].get_or_insert_with(|| {
            let (piece, full) = filling.entry(of).or_default();
            if *full > 0.0 && *full + weights[d.output] > 1.0 + 1e-9 {
                (*piece, *full) = (*piece + 1, 0.0);
            }
            *full += weights[d.output];
            (of, *piece)
        });
        pieces.entry(piece).or_default().push(k);
    }
    pieces.into_values().collect()
}

/// The shortest period of `values`, each as a run of `batch`; a constant stays one value.
fn runs(mut values: Vec<f64>, batch: usize) -> Vec<f64> {
    if batch == 1 {
        return values;
    }
    drop_repetitions(&mut values);
    match values[..] {
        [one] => vec![one],
        _ => (values.into_iter())
            .flat_map(|v| std::iter::repeat_n(v, batch))
            .collect(),
    }
}

struct Writer<'a> {
    draft: &'a Draft<'a>,
    steps: Vec<Step>,
    next: Register,
    /// Of each quantity's different ciphertexts, as consumers see them.
    registers: Vec<Vec<Register>>,
    /// Copies at lower levels.
    aligned: BTreeMap<(Id, usize), Vec<Register>>,
    /// Copies in coefficients.
    low: BTreeMap<Id, Vec<Register>>,
}

impl Writer<'_> {
    fn fresh(&mut self) -> Register {
        self.next += 1;
        self.next - 1
    }

    /// A step of quantity `v`'s layer.
    fn step(&mut self, v: Id, unit: f64, operation: Operation) {
        let q = &self.draft.normal.quantities[v];
        self.steps.push(Step {
            layer: q.layer.clone(),
            purpose: q.purpose,
            operation,
            unit,
            interval: None,
        });
    }

    fn level(&self, v: Id) -> usize {
        let d = self.draft.decisions[v];
        d.bootstrap
            .unwrap_or(d.level - self.draft.normal.quantities[v].depth)
    }

    /// The registers of quantity `v` at `level`, for quantity `reader`.
    fn at(&mut self, v: Id, level: usize, reader: Id) -> Vec<Register> {
        if self.level(v) == level {
            return self.registers[v].clone();
        }
        if let Some(found) = self.aligned.get(&(v, level)) {
            return found.clone();
        }
        let unit = self.draft.units[v].unit();
        let mut copies = Vec::with_capacity(self.registers[v].len());
        for input in self.registers[v].clone() {
            let output = self.fresh();
            let align = Operation::Align {
                input,
                output,
                level: self.draft.level(level),
            };
            self.step(reader, unit, align);
            copies.push(output);
        }
        self.aligned.insert((v, level), copies.clone());
        copies
    }

    fn quantity(&mut self, v: Id, map: Option<(&Packed, &Split)>) -> Result<(), Error> {
        let q = &self.draft.normal.quantities[v];
        let level = self.draft.decisions[v].level;
        let before = self.draft.units[v].before();
        let outputs = match &q.kind {
            Kind::Input => (0..self.draft.twins[v].count)
                .map(|_| self.fresh())
                .collect(),
            Kind::Linear { terms, bias } if q.domain == Domain::Coefficients => {
                let outputs = self.weigh(v, (terms, bias))?;
                self.registers.push(outputs);
                return Ok(());
            }
            Kind::Linear { bias, .. } => match map {
                Some(map) => self.linear(v, q, map, bias)?,
                None => Vec::new(),
            },
            Kind::Moved { .. } => match map {
                Some(map) => self.linear(v, q, map, &[])?,
                None => Vec::new(),
            },
            Kind::Dot {
                left, right, pairs, ..
            } => {
                let unit = self.draft.units[v].raw();
                let [left, right] = [left, right].map(|&w| self.at(w, level, v));
                let mut outputs = Vec::with_capacity(pairs.len());
                for pairs in pairs.iter() {
                    let mut pairs = pairs.iter().map(|&(l, r)| (left[l], right[r]));
                    let Some((left, right)) = pairs.next() else {
                        continue;
                    };
                    let output = self.fresh();
                    let operation = Operation::Multiply {
                        left,
                        right,
                        more: pairs.collect(),
                        output,
                        factor: self.draft.units[v].times,
                        add: Vec::new(),
                        constant: 0.0,
                        bound: (q.bound / unit.abs()).max(1.0),
                    };
                    self.step(v, unit, operation);
                    outputs.push(output);
                }
                outputs
            }
            Kind::Sum { kept, new } => {
                let unit = self.draft.units[v].unit();
                let [left, right] = [kept, new].map(|&w| self.at(w, level, v));
                let twins = &self.draft.twins[*new].of;
                let pairs: Vec<_> = (left.into_iter().zip(twins))
                    .map(|(left, &t)| (left, right[t]))
                    .collect();
                let mut outputs = Vec::with_capacity(pairs.len());
                for (left, right) in pairs {
                    let output = self.fresh();
                    let operation = Operation::Add {
                        left,
                        right,
                        output,
                    };
                    self.step(v, unit, operation);
                    outputs.push(output);
                }
                outputs
            }
            Kind::Polynomial { argument, .. } => {
                let inputs = self.at(*argument, level, v);
                let zero = Form::General {
                    coefficients: vec![0.0],
                };
                let form = self.draft.units[v].form.as_ref().unwrap_or(&zero);
                let mut outputs = Vec::with_capacity(inputs.len());
                for input in inputs {
                    let output = self.fresh();
                    self.step(v, before, form.operation(input, output)?);
                    if let Some(step) = self.steps.last_mut() {
                        step.interval = self.draft.units[v].interval;
                    }
                    outputs.push(output);
                }
                outputs
            }
            Kind::Product {
                left,
                right,
                add,
                constant,
                ..
            } => {
                let unit = self.draft.units[v].raw();
                let operands_small = self.draft.normal.quantities[*left].reach <= 1.0;
                let [left, right] = [left, right].map(|&w| self.at(w, level, v));
                let add: Vec<(f64, Vec<Register>)> = add
                    .iter()
                    .map(|&(c, w)| {
                        let c = c * self.draft.units[w].unit() / unit;
                        (c, self.at(w, level, v))
                    })
                    .collect();
                let bound = (q.bound / unit.abs()).max(1.0);
                let factor = self.draft.units[v].times;
                let constant = constant / unit;
                (self.draft.twins[v].operands.iter())
                    .map(|operands| {
                        let output = self.fresh();
                        let (left, right) = (left[operands[0]], right[operands[1]]);
                        let add = add.iter().zip(&operands[2..]);
                        let small = bound == 1.0 && operands_small;
                        let operation = if left == right && small && add.len() == 0 && factor == 1 {
                            Operation::Square {
                                input: left,
                                output,
                                constant,
                            }
                        } else {
                            Operation::Multiply {
                                left,
                                right,
                                more: Vec::new(),
                                output,
                                factor,
                                add: add.map(|((c, all), &i)| (*c, all[i])).collect(),
                                constant,
                                bound,
                            }
                        };
                        self.step(v, unit, operation);
                        output
                    })
                    .collect()
            }
        };
        let outputs = match self.draft.decisions[v].bootstrap {
            Some(target) => self.bootstrap(v, q, outputs, target)?,
            None => outputs,
        };
        self.registers.push(outputs);
        Ok(())
    }

    /// A linear map in coefficients: down, weighed, and up unless it is the answer.
    fn weigh(
        &mut self,
        v: Id,
        (terms, bias): (&[(Id, Chain)], &[f64]),
    ) -> Result<Vec<Register>, Error> {
        let draft = self.draft;
        let (all, n) = (&draft.normal.quantities, draft.parameters.n());
        for source in all[v].sources() {
            if self.low.contains_key(&source) {
                continue;
            }
            let Some(below) = Low::of(&all[source].layout, n) else {
                continue;
            };
            let parts = self.registers[source].clone();
            let mut low = Vec::with_capacity(below.ciphertexts);
            for parts in parts.chunks(below.parts.max(1)) {
                let (inputs, output) = (parts.to_vec(), self.fresh());
                let to = below.folding.clone();
                let operation = Operation::Descend { inputs, output, to };
                self.step(source, draft.units[source].unit(), operation);
                low.push(output);
            }
            self.low.insert(source, low);
        }
        let units = &draft.units[v];
        let own = Low::of(&all[v].layout, n);
        let (count, each) = own.as_ref().map_or((0, 2), |l| (l.ciphertexts, l.parts));
        let slots = own.map_or(0, |l| l.folding.slots(n));
        let outputs: Vec<Register> = (0..count).map(|_| self.fresh()).collect();
        let low = |source: Id| (self.low[&source].clone(), draft.units[source].unit());
        let operation = weigh::operation(
            &all[v],
            (terms, bias),
            |source| &all[source].layout,
            low,
            Scaled::By(units),
            (outputs.clone(), draft.parameters),
        )?;
        self.step(v, units.before(), operation);
        let Some(target) = draft.decisions[v].bootstrap else {
            return Ok(outputs);
        };
        let mut up = Vec::with_capacity(each * count);
        for input in outputs {
            let parts: Vec<Register> = (0..each).map(|_| self.fresh()).collect();
            let operation = Operation::HalfBootstrap {
                input,
                outputs: parts.clone(),
                slots,
                target: draft.level(target),
                gain: units.times,
            };
            self.step(v, units.unit(), operation);
            up.extend(parts);
        }
        Ok(up)
    }

    fn linear(
        &mut self,
        v: Id,
        q: &Quantity,
        (packed, split): (&Packed, &Split),
        bias: &[f64],
    ) -> Result<Vec<Register>, Error> {
        let level = self.draft.decisions[v].level;
        let Units { scale, shift, .. } = self.draft.units[v];
        let mut inputs = Vec::with_capacity(packed.inputs.len());
        for i in &packed.inputs {
            inputs.push(self.at(i.source, level, v)[i.ciphertext]);
        }
        let factor = |i: &Input| scale * self.draft.units[i.source].unit();
        let factors: Vec<f64> = packed.inputs.iter().map(factor).collect();
        let mut added: Vec<Vec<f64>> = vec![vec![0.0; packed.period]; packed.outputs];
        for ((ciphertext, slot), b) in q.layout.places().into_iter().zip(bias) {
            let value = scale * (b + shift);
            if !value.is_finite() {
                return Err(Error::Weight {
                    layer: q.layer.clone(),
                    value,
                });
            }
            added[self.draft.twins[v].of[ciphertext as usize]][slot as usize] = value;
        }
        if let Kind::Moved { moves, .. } = &q.kind {
            for (result, values) in &moves.added {
                added[*result] = values.iter().map(|b| scale * b).collect();
            }
        }
        let batch = self.draft.batch;
        let mut bias: Vec<Option<Arc<[f64]>>> = added
            .into_iter()
            .map(|b| b.iter().any(|&x| x != 0.0).then(|| runs(b, batch).into()))
            .collect();
        let outputs: Vec<Register> = (0..packed.outputs).map(|_| self.fresh()).collect();
        let before = self.draft.units[v].before();
        let copies = matches!(q.kind, Kind::Moved { .. });
        let weights = self.weights(v, q, packed, &factors)?;
        for piece in pieces(packed, split, copies) {
            let mut used: Vec<usize> = piece.iter().map(|&d| packed.diagonals[d].input).collect();
            let mut made: Vec<usize> = piece.iter().map(|&d| packed.diagonals[d].output).collect();
            for list in [&mut used, &mut made] {
                list.sort_unstable();
                list.dedup();
            }
            let mut terms = Vec::with_capacity(piece.len());
            for k in piece {
                let d = &packed.diagonals[k];
                let (giant, baby) = split.steps[k];
                let mut shared = self.draft.weights.borrow_mut();
                terms.push(Term {
                    input: used.binary_search(&d.input).unwrap_or_default(),
                    output: made.binary_search(&d.output).unwrap_or_default(),
                    giant: giant * batch,
                    baby: baby * batch,
                    values: shared.values(&d.values, weights[k].clone(), batch),
                });
            }
            let map = BlockMap::new(
                packed.slots * batch,
                used.len(),
                made.len(),
                terms,
                packed.folds.iter().map(|f| f * batch).collect(),
            )?
            .with_giants(self.draft.giants);
            let operation = Operation::Linear {
                inputs: used.iter().map(|&i| inputs[i]).collect(),
                outputs: made.iter().map(|&o| outputs[o]).collect(),
                map,
                bias: made.iter().map(|&o| bias[o].take()).collect(),
                period: packed.period * batch,
            };
            self.step(v, before, operation);
        }
        Ok(outputs)
    }

    /// What a map's diagonals hold, each multiplied by its input's factor.
    fn weights(
        &self,
        v: Id,
        q: &Quantity,
        packed: &Packed,
        factors: &[f64],
    ) -> Result<Vec<Arc<[f32]>>, Error> {
        let mut shared = self.draft.weights.borrow_mut();
        let bits: Vec<u64> = factors.iter().map(|f| f.to_bits()).collect();
        if let Some((known, weights)) = shared.scaled.get(&v)
            && *known == bits
        {
            return Ok(weights.clone());
        }
        let mut weights = Vec::with_capacity(packed.diagonals.len());
        for d in &packed.diagonals {
            let scaled = |&w: &f32| {
                let value = f64::from(w) * factors[d.input];
                #[expect(clippy::cast_possible_truncation, reason = "checked to be finite")]
                let single = value as f32;
                single.is_finite().then_some(single).ok_or(value)
            };
            let all: Result<Vec<f32>, f64> = d.values.weights().iter().map(scaled).collect();
            let all = all.map_err(|value| Error::Weight {
                layer: q.layer.clone(),
                value,
            })?;
            weights.push(shared.get(all));
        }
        shared.scaled.insert(v, (bits, weights.clone()));
        Ok(weights)
    }

    /// Refreshes every ciphertext, two together where there are two.
    fn bootstrap(
        &mut self,
        v: Id,
        q: &Quantity,
        inputs: Vec<Register>,
        target: usize,
    ) -> Result<Vec<Register>, Error> {
        let (units, slots) = (&self.draft.units[v], q.layout.period * self.draft.batch);
        let inputs = self.normalised(v, q, inputs)?;
        let bootstrap = Bootstrap {
            slots,
            target: self.draft.level(target),
            gain: units.gain,
        };
        let mut outputs = Vec::with_capacity(inputs.len());
        for inputs in inputs.chunks(2) {
            let made: Vec<Register> = inputs.iter().map(|_| self.fresh()).collect();
            let operation = Operation::Bootstrap {
                inputs: inputs.to_vec(),
                outputs: made.clone(),
                bootstrap,
            };
            self.step(v, units.unit(), operation);
            outputs.extend(made);
        }
        Ok(outputs)
    }

    /// Brings a product that outgrows a bootstrap down to 1/2: a map without rotations.
    fn normalised(
        &mut self,
        v: Id,
        q: &Quantity,
        inputs: Vec<Register>,
    ) -> Result<Vec<Register>, Error> {
        let factor = self.draft.units[v].normaliser;
        if factor == 1.0 {
            return Ok(inputs);
        }
        let slots = q.layout.period * self.draft.batch;
        let mut outputs = Vec::with_capacity(inputs.len());
        for input in inputs {
            let output = self.fresh();
            #[expect(clippy::cast_possible_truncation, reason = "below 1/2")]
            let term = Term {
                input: 0,
                output: 0,
                giant: 0,
                baby: 0,
                values: Values::Real(vec![factor as f32].into()),
            };
            let operation = Operation::Linear {
                inputs: vec![input],
                outputs: vec![output],
                map: BlockMap::new(slots, 1, 1, vec![term], Vec::new())?,
                bias: vec![None],
                period: slots,
            };
            self.step(v, self.draft.units[v].before(), operation);
            outputs.push(output);
        }
        Ok(outputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_weights_are_held_once_while_a_plan_holds_them() {
        let mut shared = Shared::default();
        let one = shared.get(vec![1.0, -0.5]);
        assert!(Arc::ptr_eq(&one, &shared.get(vec![1.0, -0.5])));
        // the sign of zero is a weight's own
        let zeros = [shared.get(vec![0.0]), shared.get(vec![-0.0])];
        assert!(!Arc::ptr_eq(&zeros[0], &zeros[1]));
        drop(one);
        assert!(
            shared
                .weights
                .values()
                .flatten()
                .any(|w| w.strong_count() == 0)
        );
        let again = shared.get(vec![1.0, -0.5]);
        assert_eq!(Arc::strong_count(&again), 1);
    }
}

//! Writes the plan: units, integer weights, biases, steps and ports.

use super::kernel::Kernel;
use super::layout::{self, Laid};
use super::network::{Id, Kind, Quantity};
use super::slots::{self, Stays};
use super::weigh::integer;
use crate::Error;
use crate::activation::Form;
use crate::alarm::Owned;
use crate::layout::narrow;
use ckks::{Folded, HalfBootstrap, Parameters};
use runtime::folding::{Folding, Term, Within};
use runtime::{Integers, Operation, Port, Register, Step};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How a quantity's values become a plan's.
#[derive(Clone, Debug)]
struct Units {
    /// Plan value = scale·(network value + shift).
    scale: f64,
    shift: f64,
    /// What a half bootstrap of it multiplies by, beside its [`HalfBootstrap::ratio`], or a product.
    gain: u32,
    /// Where that lands: as low as what follows allows, with as few limbs above.
    landing: HalfBootstrap,
    /// For an activation, what is done in slots.
    form: Option<Form>,
}

/// Largest magnitude of a coefficient that goes up.
const MOST: f64 = 0.5;

/// Largest integer that a product is multiplied by: values that fill less lose digits.
const MOST_GAIN: u32 = 1 << 6;

/// What is written.
pub(crate) struct Emitted {
    pub(crate) steps: Vec<Step>,
    /// Input and output.
    pub(crate) ports: [Port; 2],
    /// Of a batch, whose values polynomials take.
    pub(crate) owned: Owned,
}

/// The steps and the two ports.
pub(crate) fn emit(
    quantities: &[Quantity],
    laid: &Laid,
    parameters: &Parameters,
    stays: &Stays,
    (names, shapes, batch): ([&str; 2], [Vec<usize>; 2], usize),
) -> Result<Emitted, Error> {
    let units = units(quantities, parameters, stays)?;
    let mut writer = Writer {
        quantities,
        laid,
        stays,
        parameters,
        batch,
        units,
        steps: Vec::new(),
        next: 0,
        shapes: BTreeMap::new(),
        registers: Vec::new(),
        slots: Vec::new(),
        held: Vec::new(),
        owned: Owned::new(),
    };
    for v in 0..quantities.len() {
        writer.quantity(v)?;
    }
    let last = quantities.len() - 1;
    let [from, to] = shapes;
    let input = writer.port(0, names[0], from, parameters.products().index());
    let output = writer.port(last, names[1], to, 0);
    Ok(Emitted {
        ports: [input, output],
        steps: writer.steps,
        owned: writer.owned,
    })
}

fn units(
    quantities: &[Quantity],
    parameters: &Parameters,
    stays: &Stays,
) -> Result<Vec<Units>, Error> {
    let floor = parameters.floor().index();
    let landing = |levels: usize| HalfBootstrap {
        target: floor + levels,
    };
    let plain = |scale: f64| Units {
        scale,
        shift: 0.0,
        gain: 1,
        landing: landing(0),
        form: None,
    };
    let mut all: Vec<Units> = quantities.iter().map(|q| plain(1.0 / q.bound)).collect();
    let had = parameters.residual().index() - parameters.floor().index();
    for (v, q) in quantities.iter().enumerate() {
        let argument = match &q.kind {
            Kind::Activation { argument, .. } => argument,
            Kind::Sum { of } => {
                all[v] = plain(all[of[0]].scale);
                continue;
            }
            Kind::Product { of: [a, b] } => {
                let scale = all[*a].scale * all[*b].scale;
                let gain = product_gain(scale * q.bound);
                all[v] = Units {
                    gain,
                    ..plain(scale * f64::from(gain))
                };
                continue;
            }
            _ => continue,
        };
        let needed = stays.levels[v];
        let Some(activation) = q.kind.activation() else {
            let scale = MOST / q.bound;
            let ratio = landing(needed).ratio(parameters);
            let below = Units {
                landing: landing(needed),
                ..plain(scale)
            };
            (all[*argument], all[v]) = (below, plain(scale * ratio));
            continue;
        };
        if needed > had {
            return Err(Error::Depth {
                layer: q.layer.clone(),
                needed,
                had,
                degree: (1 << had.saturating_sub(stays.left[v])) - 1,
                parameters: parameters.spec().name.clone(),
            });
        }
        let landing = landing(needed);
        let (ratio, gain) = match (stays.linear[*argument], landing.ratio(parameters)) {
            // it comes in slots
            (true, _) => (1.0, 1),
            (false, ratio) if activation.amplitude > MOST * ratio => (ratio, 2),
            (false, ratio) => (ratio, 1),
        };
        all[*argument] = Units {
            scale: activation.scale / (f64::from(gain) * ratio),
            shift: activation.shift,
            gain,
            landing,
            form: None,
        };
        all[v] = Units {
            form: Some(activation.form),
            ..plain(1.0 / activation.unit)
        };
    }
    Ok(all)
}

/// The integer that a product whose values reach so far is multiplied by, for nothing.
fn product_gain(reach: f64) -> u32 {
    (1..=MOST_GAIN.ilog2())
        .map(|k| 1 << k)
        .take_while(|gain| f64::from(*gain) * reach <= 1.0)
        .last()
        .unwrap_or(1)
}

struct Writer<'a> {
    quantities: &'a [Quantity],
    laid: &'a Laid,
    stays: &'a Stays,
    parameters: &'a Parameters,
    batch: usize,
    units: Vec<Units>,
    steps: Vec<Step>,
    next: Register,
    /// Weights of kernels of which the shape alone is known, by their number.
    shapes: BTreeMap<usize, Integers>,
    /// Of each quantity, its ciphertexts in coefficients.
    registers: Vec<Vec<Register>>,
    /// The same in slots, where layers or sums read them there: the parts of each ciphertext.
    slots: Vec<Vec<Vec<Register>>>,
    /// Steps of sums, and of what they add, by ciphertext: each is finished before the next begins, so that few lie in slots together.
    held: Vec<Vec<Step>>,
    owned: Owned,
}

impl Writer<'_> {
    fn register(&mut self) -> Register {
        self.next += 1;
        self.next - 1
    }
    fn step(&mut self, v: Id, operation: Operation, unit: f64) {
        let q = &self.quantities[v];
        self.steps.push(Step {
            layer: q.layer.clone(),
            purpose: q.purpose,
            operation,
            unit,
            interval: None,
        });
    }
    fn quantity(&mut self, v: Id) -> Result<(), Error> {
        let quantities = self.quantities;
        let count = self.laid.layouts[v].ciphertexts();
        let kind = &quantities[v].kind;
        let waits = self.is_summed(v) || self.is_multiplied(v);
        if !(waits || matches!(kind, Kind::Sum { .. } | Kind::Product { .. })) {
            self.steps.extend(self.held.drain(..).flatten());
        }
        let mut in_slots = Vec::new();
        let (up, down) = (
            self.stays.read(quantities, v, true),
            self.stays.read(quantities, v, false),
        );
        let registers = match kind {
            Kind::Input => (0..count).map(|_| self.register()).collect(),
            Kind::Sum { of } => {
                let mut registers = Vec::new();
                for number in 0..count {
                    let first = self.steps.len();
                    let sum = self.summed(v, of, number);
                    registers.push(self.lowered(v, sum));
                    self.hold(number, first);
                }
                registers
            }
            Kind::Product { of } => {
                let mut registers = Vec::new();
                for number in 0..count {
                    let first = self.steps.len();
                    let made = self.multiplied(v, *of, number);
                    if down || !up {
                        registers.push(self.lowered(v, made.clone()));
                    }
                    in_slots.push(made);
                    self.hold(number, first);
                }
                registers
            }
            Kind::Activation { argument, .. } if waits => {
                for number in 0..count {
                    let first = self.steps.len();
                    in_slots.push(self.activated(v, *argument, number)?);
                    self.hold(number, first);
                }
                Vec::new()
            }
            Kind::Linear { bias, .. } if self.stays.linear[v] => {
                in_slots = self.mapped(v, bias)?;
                Vec::new()
            }
            Kind::Linear { bias, .. } => {
                let outputs: Vec<Register> = (0..count).map(|_| self.register()).collect();
                let operation = Operation::Weigh {
                    outputs: outputs.clone(),
                    to: Folding::from(&self.laid.layouts[v]),
                    terms: self.terms(v)?,
                    bias: self.biases(v, bias),
                    within: Within::Whole,
                };
                self.step(v, operation, 1.0 / self.units[v].scale);
                outputs
            }
            Kind::Activation { argument, .. } => {
                let mut registers = Vec::new();
                for number in 0..count {
                    let made = self.activated(v, *argument, number)?;
                    // what nobody reads is the answer's
                    if down || !up {
                        registers.push(self.lowered(v, made.clone()));
                    }
                    if up {
                        in_slots.push(made);
                    }
                }
                registers
            }
        };
        self.registers.push(registers);
        self.slots.push(in_slots);
        Ok(())
    }
    /// Says whose the slots of a polynomial's operand are, in a batch.
    fn own(&mut self, argument: Id, number: usize, parts: &[Register]) {
        if self.batch > 1 {
            let layout = &self.laid.layouts[argument];
            let of = |part| layout::owners(layout, (number, part), self.batch);
            let owned = parts.iter().enumerate().map(|(part, r)| (*r, of(part)));
            self.owned.extend(owned);
        }
    }
    /// One ciphertext of an activation in slots: its parts.
    fn activated(&mut self, v: Id, argument: Id, number: usize) -> Result<Vec<Register>, Error> {
        let up = match self.slots[argument].get(number) {
            Some(parts) => parts.clone(),
            None => self.raised(argument, self.registers[argument][number]),
        };
        if self.quantities[v].kind.activation().is_some() {
            self.own(argument, number, &up);
        }
        self.functions(v, up)
    }
    /// Whether a quantity is an activation that the next one, a product, reads and nothing else: each of its ciphertexts is multiplied before the next.
    fn is_multiplied(&self, v: Id) -> bool {
        let reads = |q: &Quantity| match &q.kind {
            Kind::Product { of } => of.contains(&v),
            Kind::Linear { terms, .. } => terms.iter().any(|t| t.0 == v),
            _ => false,
        };
        let mut after = self.quantities.iter().skip(v + 1);
        let activation = matches!(self.quantities[v].kind, Kind::Activation { .. });
        let next = |q: &Quantity| matches!(q.kind, Kind::Product { .. }) && reads(q);
        activation && after.next().is_some_and(next) && !after.any(reads)
    }
    /// One ciphertext of a product in slots: its parts.
    fn multiplied(&mut self, v: Id, of: [Id; 2], number: usize) -> Vec<Register> {
        let Units { scale, gain, .. } = self.units[v];
        let [left, right] = of.map(|id| self.at(v, id, number));
        let pairs = left.into_iter().zip(right);
        let parts = pairs.map(|(left, right)| {
            let output = self.register();
            let operation = Operation::Multiply {
                left,
                right,
                more: Vec::new(),
                output,
                factor: gain,
                add: Vec::new(),
                constant: 0.0,
                bound: 1.0,
            };
            self.step(v, operation, 1.0 / scale);
            output
        });
        parts.collect()
    }
    /// One ciphertext of an operand of a product: its parts, at the product's level.
    fn at(&mut self, v: Id, operand: Id, number: usize) -> Vec<Register> {
        let parts = self.slots[operand][number].clone();
        let needed = self.stays.levels[v] + 1;
        if self.stays.left[operand] == needed {
            return parts;
        }
        let level = self.parameters.floor().index() + needed;
        let unit = 1.0 / self.units[operand].scale;
        let lower = parts.into_iter().map(|input| {
            let output = self.register();
            let operation = Operation::Align {
                input,
                output,
                level,
            };
            self.step(operand, operation, unit);
            output
        });
        lower.collect()
    }
    /// Whether a quantity is a summand of sums in slots, which then are all that read it.
    fn is_summed(&self, v: Id) -> bool {
        let sums = |q: &Quantity| matches!(&q.kind, Kind::Sum { of } if of.contains(&v));
        self.quantities.iter().any(sums)
    }
    /// Puts the steps from here on behind those of the same ciphertext.
    fn hold(&mut self, number: usize, first: usize) {
        let steps = self.steps.split_off(first);
        self.held
            .resize_with(self.held.len().max(number + 1), Vec::new);
        self.held[number].extend(steps);
    }
    /// One ciphertext of a sum in slots: its parts.
    fn summed(&mut self, v: Id, of: &[Id], number: usize) -> Vec<Register> {
        let mut parts: Vec<Register> = self.slots[of[0]][number].clone();
        for id in &of[1..] {
            for (part, left) in parts.iter_mut().enumerate() {
                let (right, output) = (self.slots[*id][number][part], self.register());
                let operation = Operation::Add {
                    left: std::mem::replace(left, output),
                    right,
                    output,
                };
                self.step(v, operation, 1.0 / self.units[v].scale);
            }
        }
        parts
    }
    /// A linear layer in slots: the parts of each ciphertext of the result.
    fn mapped(&mut self, v: Id, bias: &[f64]) -> Result<Vec<Vec<Register>>, Error> {
        let Some((source, kernel)) = slots::between_activations(self.quantities, v) else {
            return Ok(Vec::new());
        };
        let (from, to) = (&self.laid.layouts[source], &self.laid.layouts[v]);
        let factor = self.units[v].scale / self.units[source].scale;
        let kernel = (kernel, self.laid.phases[v]);
        let map = slots::map(&self.quantities[v].layer, kernel, (from, to), factor)?;
        let biases = self.biases(v, bias);
        let mut parts = vec![Vec::new(); to.ciphertexts()];
        for part in 0..2 {
            let inputs = self.slots[source].iter().map(|parts| parts[part]).collect();
            let outputs: Vec<Register> = parts.iter().map(|_| self.register()).collect();
            let half = map.slots();
            let of = |b: &Arc<[f64]>| Arc::from(slots::bias(b, part, half));
            let operation = Operation::Linear {
                inputs,
                outputs: outputs.clone(),
                map: map.clone(),
                bias: biases.iter().map(|b| b.as_ref().map(of)).collect(),
                period: half,
            };
            self.step(v, operation, 1.0 / self.units[v].scale);
            (parts.iter_mut().zip(outputs)).for_each(|(p, r)| p.push(r));
        }
        Ok(parts)
    }
    /// One ciphertext up: its parts.
    fn raised(&mut self, argument: Id, input: Register) -> Vec<Register> {
        let to = Folding::from(&self.laid.layouts[argument]);
        let slots = to.slots(self.parameters.n());
        let parts = if slots == self.parameters.max_slots() {
            2
        } else {
            1
        };
        let outputs: Vec<Register> = (0..parts).map(|_| self.register()).collect();
        let Units {
            scale,
            gain,
            landing,
            ..
        } = self.units[argument];
        let ratio = landing.ratio(self.parameters);
        let rise = Operation::HalfBootstrap {
            input,
            outputs: outputs.clone(),
            slots,
            target: landing.target,
            gain,
        };
        self.step(argument, rise, 1.0 / (scale * f64::from(gain) * ratio));
        outputs
    }
    /// The polynomial of each part.
    fn functions(&mut self, v: Id, parts: Vec<Register>) -> Result<Vec<Register>, Error> {
        let Some(form) = self.units[v].form.clone() else {
            return Ok(parts);
        };
        let unit = 1.0 / self.units[v].scale;
        let mut made = Vec::with_capacity(parts.len());
        for x in parts {
            let y = self.register();
            self.step(v, form.operation(x, y)?, unit);
            made.push(y);
        }
        Ok(made)
    }
    /// One ciphertext down.
    fn lowered(&mut self, v: Id, inputs: Vec<Register>) -> Register {
        let output = self.register();
        let to = Folding::from(&self.laid.layouts[v]);
        let operation = Operation::Descend { inputs, output, to };
        self.step(v, operation, 1.0 / self.units[v].scale);
        output
    }
    fn terms(&mut self, v: Id) -> Result<Vec<Term>, Error> {
        let scale = self.units[v].scale * self.parameters.weight_unit();
        let kernels = self.laid.kernels[v].iter();
        kernels
            .map(|(id, k)| {
                let factor = scale / self.units[*id].scale;
                let integer =
                    |w: f64| integer(&self.quantities[v].layer, w * factor, self.parameters);
                let inputs = self.registers[*id].clone();
                let (from, to) = (&self.laid.layouts[*id], &self.laid.layouts[v]);
                let k = &everywhere(k, from, to);
                match k.scalar() {
                    Some(w) if from == to => Ok(Term::Multiple {
                        inputs,
                        factor: integer(w)?,
                    }),
                    _ if k.is_shape() => {
                        // what it costs does not depend on them; in memory they would be larger than the network where kernels are in phases
                        let ones = || Integers::unknown(k.count());
                        let weights = self.shapes.entry(k.count()).or_insert_with(ones);
                        Ok(kernel_term(inputs, from, k, weights.clone()))
                    }
                    _ => {
                        // rounding takes long, and what only moves values has hardly anything else
                        let weights = k.weights.iter().map(|w| match *w {
                            0.0 => Ok(0),
                            w => integer(w),
                        });
                        let weights: Integers = weights.collect::<Result<_, _>>()?;
                        Ok(kernel_term(inputs, from, k, weights))
                    }
                }
            })
            .collect()
    }
    /// What is added to each ciphertext: to what lies beside the picture, what its nearest place gets.
    fn biases(&self, v: Id, bias: &[f64]) -> Vec<Option<Arc<[f64]>>> {
        let Units { scale, shift, .. } = self.units[v];
        let (layout, p) = (&self.laid.layouts[v], self.laid.phases[v]);
        let [_, h, w] = self.quantities[v].shape;
        let ([channels, height, width], each) = (layout.shape(), layout.channels_each());
        let value = |c: usize, y: usize, x: usize| {
            let (channel, phase) = (c / (p * p), c % (p * p));
            let row = (y.min(height - 1) * p + phase / p).min(h - 1);
            let column = (x.min(width - 1) * p + phase % p).min(w - 1);
            let bias = bias.get((channel * h + row) * w + column);
            scale * (bias.unwrap_or(&0.0) + shift)
        };
        let planes = bias.chunks_exact(h * w);
        let constant = planes.into_iter().all(|c| c.iter().all(|b| *b == c[0]));
        let places = match constant {
            true => 1,
            false => layout.degree() / layout.spacing(),
        };
        let one = |number: usize| {
            let mut values = vec![0.0; each * places];
            for (c, channel) in (number * each..channels.min((number + 1) * each)).enumerate() {
                for place in 0..places {
                    let (y, x) = (place / layout.pitch(), place % layout.pitch());
                    values[c + each * place] = value(channel, y, x);
                }
            }
            (values.iter().any(|v| *v != 0.0)).then(|| values.into())
        };
        (0..layout.ciphertexts()).map(one).collect()
    }
    fn port(&self, v: Id, name: &str, shape: Vec<usize>, level: usize) -> Port {
        let (layout, p) = (&self.laid.layouts[v], self.laid.phases[v]);
        let [channels, h, w] = self.quantities[v].shape;
        let mut places = Vec::with_capacity(channels * h * w);
        for c in 0..channels {
            for y in 0..h {
                for x in 0..w {
                    let channel = (c * p + y % p) * p + x % p;
                    let (ciphertext, at) = layout.at(channel, y / p, x / p);
                    places.push((narrow(ciphertext), narrow(at / layout.gap())));
                }
            }
        }
        Port {
            name: name.into(),
            shape,
            registers: self.registers[v].clone(),
            slots: Folding::from(layout).slots(self.parameters.n()),
            places,
            batch: self.batch,
            level,
            unit: 1.0 / self.units[v].scale,
        }
    }
}

/// A kernel that takes single values to every place of a picture, as one that takes them beside it, too: what follows has no interval for anything else.
fn everywhere(k: &Kernel, from: &Folded, to: &Folded) -> Kernel {
    let (places, pitch) = (to.degree() / to.spacing(), to.pitch());
    if !k.spreads() || from.spacing() != to.spacing() || places % pitch != 0 {
        return k.clone();
    }
    let size = [places / pitch, pitch];
    Kernel {
        size,
        before: size.map(|s| s - 1),
        ..k.clone()
    }
}

fn kernel_term(inputs: Vec<Register>, from: &Folded, k: &Kernel, weights: Integers) -> Term {
    Term::Kernel {
        inputs,
        from: from.into(),
        kernel: k.size,
        before: k.before,
        stride: k.stride,
        groups: k.groups,
        flat: k.flat,
        weights,
    }
}

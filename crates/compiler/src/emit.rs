//! Writes the plan: registers, alignments, steps and ports.

use crate::Error;
use crate::activation::Form;
use crate::normal::{Id, Kind, Normal, Quantity};
use crate::pack::Packed;
use crate::schedule::Decision;
use crate::split::Split;
use crate::units::Units;
use ckks::map::{Term, Values};
use ckks::{BlockMap, Bootstrap, Polynomial};
use runtime::plan::{Operation, Port, Register, Step};
use std::collections::BTreeMap;

/// A map's diagonals and their split; emptied when the map is written.
pub(crate) type Maps = Vec<Option<(Packed, Split)>>;

/// The steps and the two ports.
pub(crate) fn emit(
    normal: &Normal,
    mut maps: Maps,
    decisions: &[Decision],
    units: &[Units],
    names: [&str; 2],
) -> Result<(Vec<Step>, Port, Port), Error> {
    let mut writer = Writer {
        normal,
        decisions,
        units,
        steps: Vec::new(),
        next: 0,
        registers: Vec::new(),
        aligned: BTreeMap::new(),
    };
    for (v, map) in maps.iter_mut().enumerate() {
        writer.quantity(v, map.take())?;
    }
    let port = |v: Id, name: &str, level: usize| {
        let q = &normal.quantities[v];
        Port {
            name: name.into(),
            shape: q.shape.dims(),
            registers: writer.registers[v].clone(),
            slots: q.layout.period,
            places: q.layout.places(),
            level,
            unit: units[v].unit(),
        }
    };
    let input = port(0, names[0], decisions[0].level);
    let output = port(normal.output, names[1], writer.level(normal.output));
    Ok((writer.steps, input, output))
}

struct Writer<'a> {
    normal: &'a Normal,
    decisions: &'a [Decision],
    units: &'a [Units],
    steps: Vec<Step>,
    next: Register,
    /// Of each quantity, as consumers see it.
    registers: Vec<Vec<Register>>,
    /// Copies at lower levels.
    aligned: BTreeMap<(Id, usize), Vec<Register>>,
}

impl Writer<'_> {
    fn fresh(&mut self) -> Register {
        self.next += 1;
        self.next - 1
    }

    fn step(&mut self, layer: &str, unit: f64, operation: Operation) {
        self.steps.push(Step {
            layer: layer.into(),
            operation,
            unit,
        });
    }

    fn level(&self, v: Id) -> usize {
        let d = self.decisions[v];
        d.bootstrap
            .unwrap_or(d.level - self.normal.quantities[v].depth)
    }

    /// The registers of quantity `v` at `level`.
    fn at(&mut self, v: Id, level: usize, layer: &str) -> Vec<Register> {
        if self.level(v) == level {
            return self.registers[v].clone();
        }
        if let Some(found) = self.aligned.get(&(v, level)) {
            return found.clone();
        }
        let unit = self.units[v].unit();
        let copies: Vec<Register> = self.registers[v]
            .clone()
            .into_iter()
            .map(|input| {
                let output = self.fresh();
                self.step(
                    layer,
                    unit,
                    Operation::Align {
                        input,
                        output,
                        level,
                    },
                );
                output
            })
            .collect();
        self.aligned.insert((v, level), copies.clone());
        copies
    }

    fn quantity(&mut self, v: Id, map: Option<(Packed, Split)>) -> Result<(), Error> {
        let q = &self.normal.quantities[v];
        let level = self.decisions[v].level;
        let before = self.units[v].before();
        let outputs = match &q.kind {
            Kind::Input => (0..q.layout.ciphertexts).map(|_| self.fresh()).collect(),
            Kind::Linear { bias, .. } => match map {
                Some(map) => self.linear(v, q, map, bias)?,
                None => Vec::new(),
            },
            Kind::Polynomial { argument, .. } => {
                let inputs = self.at(*argument, level, &q.layer);
                let form = self.units[v].form.clone().unwrap_or(Form::General {
                    coefficients: vec![0.0],
                });
                inputs
                    .into_iter()
                    .map(|input| {
                        let output = self.fresh();
                        let operation = match &form {
                            Form::Square { constant } => Operation::Square {
                                input,
                                output,
                                constant: *constant,
                            },
                            Form::Quartic { coefficients } => Operation::Quartic {
                                input,
                                output,
                                coefficients: *coefficients,
                            },
                            Form::General { coefficients } => Operation::Polynomial {
                                input,
                                output,
                                polynomial: Polynomial::new(coefficients.clone())?,
                            },
                        };
                        self.step(&q.layer, before, operation);
                        Ok(output)
                    })
                    .collect::<Result<_, Error>>()?
            }
            Kind::Product {
                left,
                right,
                add,
                constant,
                ..
            } => {
                let unit = self.units[v].raw();
                let operands_small = self.normal.quantities[*left].reach <= 1.0;
                let [left, right] = [left, right].map(|&w| self.at(w, level, &q.layer));
                let add: Vec<(f64, Vec<Register>)> = add
                    .iter()
                    .map(|&(c, w)| {
                        let c = c * self.units[w].unit() / unit;
                        (c, self.at(w, level, &q.layer))
                    })
                    .collect();
                let bound = (q.bound / unit.abs()).max(1.0);
                let factor = self.units[v].times;
                let constant = constant / unit;
                (0..q.layout.ciphertexts)
                    .map(|i| {
                        let output = self.fresh();
                        // one ciphertext where there are several is the same for all
                        let of = |all: &[Register]| all[i % all.len()];
                        let (left, right) = (of(&left), of(&right));
                        let small = bound == 1.0 && operands_small;
                        let operation = if left == right && small && add.is_empty() && factor == 1 {
                            Operation::Square {
                                input: left,
                                output,
                                constant,
                            }
                        } else {
                            Operation::Multiply {
                                left,
                                right,
                                output,
                                factor,
                                add: add.iter().map(|(c, all)| (*c, of(all))).collect(),
                                constant,
                                bound,
                            }
                        };
                        self.step(&q.layer, unit, operation);
                        output
                    })
                    .collect()
            }
        };
        let outputs = match self.decisions[v].bootstrap {
            Some(target) => self.bootstrap(v, q, outputs, target)?,
            None => outputs,
        };
        self.registers.push(outputs);
        Ok(())
    }

    fn linear(
        &mut self,
        v: Id,
        q: &Quantity,
        (packed, split): (Packed, Split),
        bias: &[f64],
    ) -> Result<Vec<Register>, Error> {
        let level = self.decisions[v].level;
        let Units { scale, shift, .. } = self.units[v];
        let mut inputs = Vec::with_capacity(packed.inputs.len());
        for i in &packed.inputs {
            inputs.push(self.at(i.source, level, &q.layer)[i.ciphertext]);
        }
        let factors: Vec<f64> = packed
            .inputs
            .iter()
            .map(|i| scale * self.units[i.source].unit())
            .collect();
        let mut terms = Vec::with_capacity(packed.diagonals.len());
        for (d, (giant, baby)) in packed.diagonals.into_iter().zip(split.steps) {
            let factor = factors[d.input];
            #[expect(clippy::cast_possible_truncation, reason = "checked to be finite")]
            let values: Vec<f32> = d
                .values
                .iter()
                .map(|&x| (f64::from(x) * factor) as f32)
                .collect();
            if let Some(i) = values.iter().position(|x| !x.is_finite()) {
                return Err(Error::Weight {
                    layer: q.layer.clone(),
                    value: f64::from(d.values[i]) * factor,
                });
            }
            terms.push(Term {
                input: d.input,
                output: d.output,
                giant,
                baby,
                values: Values::Real(values.into()),
            });
        }
        let map = BlockMap::new(
            packed.slots,
            packed.inputs.len(),
            packed.outputs,
            terms,
            packed.folds,
        )?;
        let mut added: Vec<Vec<f64>> = vec![vec![0.0; packed.period]; packed.outputs];
        for ((ciphertext, slot), b) in q.layout.places().into_iter().zip(bias) {
            let value = scale * (b + shift);
            if !value.is_finite() {
                return Err(Error::Weight {
                    layer: q.layer.clone(),
                    value,
                });
            }
            added[ciphertext as usize][slot as usize] = value;
        }
        let bias = added
            .into_iter()
            .map(|b| b.iter().any(|&x| x != 0.0).then(|| b.into()))
            .collect();
        let outputs: Vec<Register> = (0..packed.outputs).map(|_| self.fresh()).collect();
        let operation = Operation::Linear {
            inputs,
            outputs: outputs.clone(),
            map,
            bias,
            period: packed.period,
        };
        self.step(&q.layer, self.units[v].before(), operation);
        Ok(outputs)
    }

    /// Refreshes every ciphertext, two real ones as one complex one where there are two.
    fn bootstrap(
        &mut self,
        v: Id,
        q: &Quantity,
        inputs: Vec<Register>,
        target: usize,
    ) -> Result<Vec<Register>, Error> {
        let (before, after, gain) = (
            self.units[v].before(),
            self.units[v].unit(),
            self.units[v].gain,
        );
        let slots = q.layout.period;
        let inputs = self.normalised(v, q, inputs)?;
        let mut outputs = Vec::with_capacity(inputs.len());
        for pair in inputs.chunks(2) {
            let output = self.fresh();
            if let &[left, right] = pair {
                let (refreshed, real, imaginary) = (self.fresh(), self.fresh(), self.fresh());
                self.step(
                    &q.layer,
                    before,
                    Operation::Join {
                        left,
                        right,
                        output,
                    },
                );
                // Split doubles
                let bootstrap = Bootstrap {
                    slots,
                    target,
                    gain: 0.5 * gain,
                };
                self.step(
                    &q.layer,
                    2.0 * after,
                    Operation::Bootstrap {
                        input: output,
                        output: refreshed,
                        bootstrap,
                    },
                );
                self.step(
                    &q.layer,
                    after,
                    Operation::Split {
                        input: refreshed,
                        real,
                        imaginary,
                    },
                );
                outputs.extend([real, imaginary]);
            } else {
                let bootstrap = Bootstrap {
                    slots,
                    target,
                    gain,
                };
                self.step(
                    &q.layer,
                    after,
                    Operation::Bootstrap {
                        input: pair[0],
                        output,
                        bootstrap,
                    },
                );
                outputs.push(output);
            }
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
        let factor = self.units[v].normaliser;
        if factor == 1.0 {
            return Ok(inputs);
        }
        let slots = q.layout.period;
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
            self.step(&q.layer, self.units[v].before(), operation);
            outputs.push(output);
        }
        Ok(outputs)
    }
}

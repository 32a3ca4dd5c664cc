//! Plans as files: a head, the steps, and the weights, deduplicated and deflated.
//!
//! Sections: `head` (JSON: parameters, description, ports), `plcs` (where the ports' values lie), `step` (JSON: the steps, weights by number), `tabl` (kind and length
//! of each weight vector), `blob` (all weights, little endian, deflated). The digest covers the first four and the weights as
//! they are, not as they are deflated.

use crate::plan::{Description, Operation, Plan, Port, Purpose, Register, Step};
use crate::wire::conformance::{self, parameters_digest};
use crate::wire::container::{Digest, Ids, Kind, Reader, Writer};
use crate::wire::ports::{PLACES, places_bytes, read_places};
use crate::{Error, Result};
use ckks::map::{Term, Values};
use ckks::{BlockMap, Bootstrap, Complex64, ParametersSpec, Polynomial};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::Arc;

const HEAD: [u8; 4] = *b"head";
const STEPS: [u8; 4] = *b"step";
const TABLE: [u8; 4] = *b"tabl";
const BLOB: [u8; 4] = *b"blob";
/// Most bytes of JSON in one section.
const JSON_LIMIT: u64 = 256 << 20;
/// Most bytes of weights, as they are.
const BLOB_LIMIT: u64 = 16 << 30;

#[derive(Serialize, Deserialize)]
struct Head {
    parameters: ParametersSpec,
    description: Description,
    input: Port,
    output: Port,
}

#[derive(Serialize, Deserialize)]
struct StoredStep {
    layer: String,
    purpose: Purpose,
    unit: f64,
    operation: Stored,
}

/// (input, output, giant, baby, weights)
type StoredTerm = (usize, usize, usize, usize, usize);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stored {
    Linear {
        inputs: Vec<Register>,
        outputs: Vec<Register>,
        slots: usize,
        period: usize,
        /// Slots that each weight stands for.
        #[serde(default = "unit_run", skip_serializing_if = "is_unit_run")]
        run: usize,
        folds: Vec<usize>,
        bias: Vec<Option<usize>>,
        terms: Vec<StoredTerm>,
    },
    Polynomial {
        input: Register,
        output: Register,
        coefficients: Vec<f64>,
    },
    Square {
        input: Register,
        output: Register,
        constant: f64,
    },
    Quartic {
        input: Register,
        output: Register,
        coefficients: [f64; 4],
    },
    Add {
        left: Register,
        right: Register,
        output: Register,
    },
    Multiply {
        left: Register,
        right: Register,
        output: Register,
        #[serde(default = "one", skip_serializing_if = "is_one")]
        factor: u32,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        add: Vec<(f64, Register)>,
        #[serde(default, skip_serializing_if = "is_zero")]
        constant: f64,
        #[serde(default = "unity", skip_serializing_if = "is_unity")]
        bound: f64,
    },
    Align {
        input: Register,
        output: Register,
        level: usize,
    },
    Bootstrap {
        input: Register,
        output: Register,
        bootstrap: Bootstrap,
    },
    Join {
        left: Register,
        right: Register,
        output: Register,
    },
    Split {
        input: Register,
        real: Register,
        imaginary: Register,
    },
}

// what a plain product has, left out of files
fn one() -> u32 {
    1
}
fn is_one(x: &u32) -> bool {
    *x == 1
}
fn unit_run() -> usize {
    1
}
fn is_unit_run(x: &usize) -> bool {
    *x == 1
}
fn is_zero(x: &f64) -> bool {
    *x == 0.0
}
fn unity() -> f64 {
    1.0
}
fn is_unity(x: &f64) -> bool {
    *x == 1.0
}

/// How a weight vector is stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Form {
    /// f32.
    Single,
    /// f64.
    Double,
    /// Pairs of f64.
    Complex,
}

impl Form {
    const fn width(self) -> usize {
        match self {
            Self::Single => 4,
            Self::Double => 8,
            Self::Complex => 16,
        }
    }
}

/// Weight vectors in order of first use, each once.
#[derive(Default)]
struct Weights {
    table: Vec<(Form, usize)>,
    bytes: Vec<Vec<u8>>,
    seen: HashMap<(Form, Digest), usize>,
}

impl Weights {
    fn put(&mut self, form: Form, bytes: Vec<u8>) -> usize {
        let key = (form, *blake3::hash(&bytes).as_bytes());
        *self.seen.entry(key).or_insert_with(|| {
            self.table.push((form, bytes.len() / form.width()));
            self.bytes.push(bytes);
            self.table.len() - 1
        })
    }
    fn values(&mut self, v: &Values) -> usize {
        match v {
            Values::Real(v) | Values::Runs { values: v, .. } => self.put(
                Form::Single,
                v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            ),
            Values::Complex(v) => self.put(
                Form::Complex,
                v.iter()
                    .flat_map(|z| [z.re.to_le_bytes(), z.im.to_le_bytes()])
                    .flatten()
                    .collect(),
            ),
        }
    }
}

fn store(operation: &Operation, weights: &mut Weights) -> Stored {
    match operation.clone() {
        Operation::Linear {
            inputs,
            outputs,
            map,
            bias,
            period,
        } => Stored::Linear {
            inputs,
            outputs,
            slots: map.slots(),
            period,
            run: map.run(),
            folds: map.folds().to_vec(),
            bias: bias
                .into_iter()
                .map(|b| {
                    b.map(|b| {
                        weights.put(
                            Form::Double,
                            b.iter().flat_map(|x| x.to_le_bytes()).collect(),
                        )
                    })
                })
                .collect(),
            terms: map
                .terms()
                .iter()
                .map(|t| {
                    (
                        t.input,
                        t.output,
                        t.giant,
                        t.baby,
                        weights.values(&t.values),
                    )
                })
                .collect(),
        },
        Operation::Polynomial {
            input,
            output,
            polynomial,
        } => Stored::Polynomial {
            input,
            output,
            coefficients: polynomial.coefficients().to_vec(),
        },
        Operation::Square {
            input,
            output,
            constant,
        } => Stored::Square {
            input,
            output,
            constant,
        },
        Operation::Quartic {
            input,
            output,
            coefficients,
        } => Stored::Quartic {
            input,
            output,
            coefficients,
        },
        Operation::Add {
            left,
            right,
            output,
        } => Stored::Add {
            left,
            right,
            output,
        },
        Operation::Multiply {
            left,
            right,
            output,
            factor,
            ref add,
            constant,
            bound,
        } => Stored::Multiply {
            left,
            right,
            output,
            factor,
            add: add.clone(),
            constant,
            bound,
        },
        Operation::Align {
            input,
            output,
            level,
        } => Stored::Align {
            input,
            output,
            level,
        },
        Operation::Bootstrap {
            input,
            output,
            bootstrap,
        } => Stored::Bootstrap {
            input,
            output,
            bootstrap,
        },
        Operation::Join {
            left,
            right,
            output,
        } => Stored::Join {
            left,
            right,
            output,
        },
        Operation::Split {
            input,
            real,
            imaginary,
        } => Stored::Split {
            input,
            real,
            imaginary,
        },
    }
}

struct Encoded {
    head: Vec<u8>,
    places: Vec<u8>,
    steps: Vec<u8>,
    table: Vec<u8>,
    weights: Vec<Vec<u8>>,
}

impl Encoded {
    fn new(plan: &Plan) -> Self {
        let mut weights = Weights::default();
        let steps: Vec<StoredStep> = plan
            .steps
            .iter()
            .map(|s| StoredStep {
                layer: s.layer.clone(),
                purpose: s.purpose,
                unit: s.unit,
                operation: store(&s.operation, &mut weights),
            })
            .collect();
        let head = Head {
            parameters: plan.parameters.clone(),
            description: plan.description.clone(),
            input: plan.input.clone(),
            output: plan.output.clone(),
        };
        Self {
            head: conformance::json(&head),
            places: places_bytes(&plan.input, &plan.output),
            steps: conformance::json(&steps),
            table: conformance::json(&weights.table),
            weights: weights.bytes,
        }
    }
    fn digest(&self) -> Digest {
        digest(
            [&self.head, &self.places, &self.steps, &self.table],
            self.weights.iter().map(Vec::as_slice),
        )
    }
}

fn digest<'a>(parts: [&[u8]; 4], weights: impl Iterator<Item = &'a [u8]>) -> Digest {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    weights.for_each(|w| {
        hasher.update(w);
    });
    *hasher.finalize().as_bytes()
}

impl Plan {
    /// BLAKE3 of the plan's content: what ties keys, inputs and answers to it.
    pub fn digest(&self) -> Digest {
        Encoded::new(self).digest()
    }

    /// Writes the plan file.
    ///
    /// # Errors
    /// If the parameters do not hold together, or the file cannot be written.
    pub fn write<W: Write>(&self, out: W, name: &str) -> Result<W> {
        let parameters = conformance::parameters(self.parameters.clone(), name)?;
        let encoded = Encoded::new(self);
        let mut deflate =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        for w in &encoded.weights {
            deflate.write_all(w).map_err(Error::io(name))?;
        }
        let blob = deflate.finish().map_err(Error::io(name))?;
        let sections = [
            (HEAD, &encoded.head),
            (PLACES, &encoded.places),
            (STEPS, &encoded.steps),
            (TABLE, &encoded.table),
            (BLOB, &blob),
        ];
        let lengths = sections
            .iter()
            .map(|(tag, bytes)| (*tag, bytes.len() as u64))
            .collect();
        let mut file = Writer::new(
            out,
            name,
            Kind::Plan,
            Ids {
                parameters: parameters_digest(&parameters),
                plan: encoded.digest(),
                ..Ids::default()
            },
            lengths,
        )?;
        for (_, bytes) in sections {
            file.section(bytes)?;
        }
        file.finish()
    }

    /// Reads a plan file; gives the plan and its digest.
    ///
    /// # Errors
    /// [`Error::File`] with the field that is wrong.
    pub fn read(input: impl Read, name: &str) -> Result<(Self, Digest)> {
        let mut file = Reader::new(input, name, Kind::Plan)?;
        let head_bytes = file.section(HEAD, JSON_LIMIT)?;
        let mut head: Head = conformance::from_json(&head_bytes, name, "section `head`")?;
        let parameters = conformance::parameters(head.parameters.clone(), name)?;
        file.expect_parameters(&parameters_digest(&parameters))?;
        let places = read_places(&mut file, &mut head.input, &mut head.output)?;
        let step_bytes = file.section(STEPS, JSON_LIMIT)?;
        let steps: Vec<StoredStep> = conformance::from_json(&step_bytes, name, "section `step`")?;
        let table_bytes = file.section(TABLE, JSON_LIMIT)?;
        let table: Vec<(Form, usize)> =
            conformance::from_json(&table_bytes, name, "section `tabl`")?;
        let refuse = |problem: String| {
            Error::file(name, "section `tabl`", problem, "compile the plan again")
        };
        let mut total = 0u64;
        for (form, length) in &table {
            if *length == 0 || *length > parameters.max_slots() {
                return Err(refuse(format!(
                    "a weight vector of length {length}, but {} slots exist",
                    parameters.max_slots()
                )));
            }
            total += (form.width() * length) as u64;
        }
        if total > BLOB_LIMIT {
            return Err(refuse(format!(
                "{total} bytes of weights, at most {BLOB_LIMIT} are read"
            )));
        }
        // deflate expands at most 1032-fold, so memory is bounded by what the file really holds
        let blob = file.section(BLOB, BLOB_LIMIT)?;
        let wanted = *file.header();
        file.finish()?;
        let mut inflate = flate2::read::DeflateDecoder::new(&blob[..]);
        let mut raw = Vec::with_capacity(table.len());
        for (form, length) in &table {
            let mut bytes = vec![0u8; form.width() * length];
            inflate.read_exact(&mut bytes).map_err(|_| {
                Error::file(
                    name,
                    "section `blob`",
                    "it holds fewer weights than its table says",
                    "compile the plan again",
                )
            })?;
            raw.push(bytes);
        }
        let mut extra = [0u8; 1];
        if !matches!(inflate.read(&mut extra), Ok(0)) {
            return Err(Error::file(
                name,
                "section `blob`",
                "it holds more weights than its table says",
                "compile the plan again",
            ));
        }
        let digest = digest(
            [&head_bytes, &places, &step_bytes, &table_bytes],
            raw.iter().map(Vec::as_slice),
        );
        if digest != wanted.ids.plan {
            return Err(Error::file(
                name,
                "plan digest",
                "the content does not match the digest in the header",
                "compile the plan again",
            ));
        }
        let mut loaded = Loaded {
            name,
            table: &table,
            raw: &raw,
            values: vec![None; table.len()],
            biases: HashMap::new(),
        };
        let steps = steps
            .into_iter()
            .map(|s| {
                Ok(Step {
                    layer: s.layer,
                    purpose: s.purpose,
                    unit: s.unit,
                    operation: loaded.restore(s.operation)?,
                })
            })
            .collect::<Result<_>>()?;
        Ok((
            Self {
                parameters: head.parameters,
                description: head.description,
                input: head.input,
                output: head.output,
                steps,
            },
            digest,
        ))
    }
}

struct Loaded<'a> {
    name: &'a str,
    table: &'a [(Form, usize)],
    raw: &'a [Vec<u8>],
    /// Restored once: many terms and outputs may share a vector.
    values: Vec<Option<Values>>,
    biases: HashMap<usize, Arc<[f64]>>,
}

fn f64s(bytes: &[u8]) -> impl Iterator<Item = f64> + '_ {
    bytes
        .chunks_exact(8)
        .map(|c| f64::from_le_bytes(c.try_into().unwrap_or_default()))
}

impl Loaded<'_> {
    fn refuse(&self, problem: String) -> Error {
        Error::file(
            self.name,
            "section `step`",
            problem,
            "compile the plan again",
        )
    }
    fn find(&self, index: usize) -> Result<(Form, &[u8])> {
        match (self.table.get(index), self.raw.get(index)) {
            (Some((form, _)), Some(bytes)) => Ok((*form, bytes)),
            _ => Err(self.refuse(format!("weight vector {index} does not exist"))),
        }
    }
    fn values(&mut self, index: usize) -> Result<Values> {
        if let Some(Some(v)) = self.values.get(index) {
            return Ok(v.clone());
        }
        let v = match self.find(index)? {
            (Form::Single, b) => Values::Real(
                b.chunks_exact(4)
                    .map(|c| f32::from_le_bytes(c.try_into().unwrap_or_default()))
                    .collect(),
            ),
            (Form::Complex, b) => {
                let parts: Vec<f64> = f64s(b).collect();
                Values::Complex(
                    parts
                        .chunks_exact(2)
                        .map(|p| Complex64::new(p[0], p[1]))
                        .collect::<Arc<[_]>>(),
                )
            }
            (Form::Double, _) => {
                return Err(self.refuse(format!("weight vector {index} is a bias, not a diagonal")));
            }
        };
        self.values[index] = Some(v.clone());
        Ok(v)
    }
    fn bias(&mut self, index: usize) -> Result<Arc<[f64]>> {
        if let Some(v) = self.biases.get(&index) {
            return Ok(v.clone());
        }
        let v: Arc<[f64]> = match self.find(index)? {
            (Form::Double, b) => f64s(b).collect(),
            _ => {
                return Err(self.refuse(format!("weight vector {index} is a diagonal, not a bias")));
            }
        };
        self.biases.insert(index, v.clone());
        Ok(v)
    }
    fn restore(&mut self, stored: Stored) -> Result<Operation> {
        Ok(match stored {
            Stored::Linear {
                inputs,
                outputs,
                slots,
                period,
                run,
                folds,
                bias,
                terms,
            } => {
                if !run.is_power_of_two() {
                    return Err(self.refuse(format!("runs of {run} slots")));
                }
                let terms: Vec<Term> = terms
                    .into_iter()
                    .map(|(input, output, giant, baby, values)| {
                        Ok(Term {
                            input,
                            output,
                            giant,
                            baby,
                            values: match self.values(values)? {
                                Values::Real(v) => Values::runs(v, run),
                                other => other,
                            },
                        })
                    })
                    .collect::<Result<_>>()?;
                // a map has one term at least for each output, so these counts are bounded by the file
                let most = inputs.len().max(outputs.len());
                if outputs.is_empty() || inputs.is_empty() || most > 1 << 16 {
                    return Err(self.refuse("a linear map without inputs or outputs".into()));
                }
                // interpreters go through all terms for each input and output
                if most.saturating_mul(terms.len()) > 1 << 30 {
                    return Err(self.refuse(format!(
                        "a linear map of {} terms between {} and {} ciphertexts",
                        terms.len(),
                        inputs.len(),
                        outputs.len()
                    )));
                }
                let map = BlockMap::new(slots, inputs.len(), outputs.len(), terms, folds)
                    .map_err(|e| self.refuse(e.to_string()))?;
                let bias = bias
                    .into_iter()
                    .map(|b| b.map(|b| self.bias(b)).transpose())
                    .collect::<Result<_>>()?;
                Operation::Linear {
                    inputs,
                    outputs,
                    map,
                    bias,
                    period,
                }
            }
            Stored::Polynomial {
                input,
                output,
                coefficients,
            } => Operation::Polynomial {
                input,
                output,
                polynomial: Polynomial::new(coefficients)
                    .map_err(|e| self.refuse(e.to_string()))?,
            },
            Stored::Square {
                input,
                output,
                constant,
            } => Operation::Square {
                input,
                output,
                constant,
            },
            Stored::Quartic {
                input,
                output,
                coefficients,
            } => Operation::Quartic {
                input,
                output,
                coefficients,
            },
            Stored::Add {
                left,
                right,
                output,
            } => Operation::Add {
                left,
                right,
                output,
            },
            Stored::Multiply {
                left,
                right,
                output,
                factor,
                add,
                constant,
                bound,
            } => Operation::Multiply {
                left,
                right,
                output,
                factor,
                add,
                constant,
                bound,
            },
            Stored::Align {
                input,
                output,
                level,
            } => Operation::Align {
                input,
                output,
                level,
            },
            Stored::Bootstrap {
                input,
                output,
                bootstrap,
            } => Operation::Bootstrap {
                input,
                output,
                bootstrap,
            },
            Stored::Join {
                left,
                right,
                output,
            } => Operation::Join {
                left,
                right,
                output,
            },
            Stored::Split {
                input,
                real,
                imaginary,
            } => Operation::Split {
                input,
                real,
                imaginary,
            },
        })
    }
}

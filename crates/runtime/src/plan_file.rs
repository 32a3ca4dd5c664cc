//! Plans as files: a head, the steps, and the weights, deduplicated and deflated.
//!
//! Sections: `head` (JSON: parameters, description, ports), `plcs` (where the ports' values lie), `step` (JSON: the steps, weights by number), `tabl` (kind and length
//! of each vector), `blob` (all weights, classes and masks, little endian, deflated). The digest covers the first four and each weight vector's own
//! digest, as it is and not as it is deflated. Weights go through a small buffer: neither digest nor file takes a second copy of them.
//!
//! Integers of layers in coefficients may lie in a file beside the plan instead ([`integers`]); `wide` then says in how many bytes each. The digest is the
//! same either way.

use crate::integers::{self, BLOCK, Integers, Width};
use crate::operation::{Operation, OperationOn};
use crate::plan::{Description, Plan, Port, Sequence, Step};
use crate::wire::conformance::{self, parameters_digest};
use crate::wire::container::{Digest, Ids, Kind, Reader, from_json, hash_parts, write_file};
use crate::wire::ports::{PLACES, places_bytes, read_places};
use crate::{Error, Help, Result, size};
use ckks::map::{Classes, Giants, Term, Values};
use ckks::{BlockMap, Complex64, Parameters, ParametersSpec};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

const HEAD: [u8; 4] = *b"head";
const STEPS: [u8; 4] = *b"step";
const TABLE: [u8; 4] = *b"tabl";
const BLOB: [u8; 4] = *b"blob";
const WIDE: [u8; 4] = *b"wide";
/// Most bytes of JSON in one section.
const JSON_LIMIT: u64 = 256 << 20;
/// Most bytes of weights, as they are.
const BLOB_LIMIT: u64 = 16 << 30;
/// Most integer weights of one layer.
const INTEGERS_LIMIT: usize = 1 << 28;
/// Bytes of weights that a file may hold whatever it is, and for each byte of theirs in it. Sparse networks have 50 times as many.
const UNPACKED: (u64, u64) = (16 << 20, 100);
/// Bytes of integers from which on they lie in a file beside the plan.
pub const BESIDE_FROM: u64 = 1 << 20;
const REMEDY: &str = "compile the plan again";

/// What reading a plan that somebody else made may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of weights, as they are in memory. Without it, 16 MiB and a hundred times what the file has of them: deflate could make a
    /// thousand of each.
    pub unpacked: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    parameters: ParametersSpec,
    description: Description,
    input: Port,
    output: Port,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sequence: Option<Sequence>,
}

/// A linear map as the file has it.
#[derive(Serialize, Deserialize)]
struct StoredMap {
    slots: usize,
    folds: Vec<usize>,
    /// How sums before giant steps are rotated.
    #[serde(default, skip_serializing_if = "Giants::apart")]
    giants: Giants,
    /// Input, output, giant and baby step, then the numbers of weights and, where there are such, of classes and of a mask.
    terms: Vec<Vec<usize>>,
}

/// An operation with numbers of weight vectors in place of weights.
type StoredOperation = OperationOn<StoredMap, usize, usize>;

/// How a weight vector is stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Form {
    /// f32.
    Single,
    /// f64.
    Double,
    /// Pairs of f64.
    Complex,
    /// i32: weights of layers in coefficients.
    Integer,
    /// u16: which weight stands in each run of so many slots.
    Classes(usize),
    /// Bits of runs of slots, the lowest first.
    Mask,
}

impl Form {
    const fn width(self) -> usize {
        match self {
            Self::Single | Self::Integer => 4,
            Self::Double => 8,
            Self::Complex => 16,
            Self::Classes(_) => 2,
            Self::Mask => 1,
        }
    }
}

/// Where a plan's integers lie.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In its own file.
    Inside,
    /// In a file beside it.
    Beside,
}

/// A weight vector, shared with the plan.
#[derive(Clone)]
enum Vector {
    Single(Arc<[f32]>),
    Double(Arc<[f64]>),
    Complex(Arc<[Complex64]>),
    Integer(Integers),
    Classes(Arc<Classes>),
    Mask(Arc<[u8]>),
}

impl Vector {
    /// Where it lies, and how it is stored.
    fn shape(&self) -> ((usize, u64), Form, usize) {
        match self {
            Self::Single(v) => ((v.as_ptr() as usize, 0), Form::Single, v.len()),
            Self::Double(v) => ((v.as_ptr() as usize, 0), Form::Double, v.len()),
            Self::Complex(v) => ((v.as_ptr() as usize, 0), Form::Complex, v.len()),
            Self::Integer(v) => (v.identity(), Form::Integer, v.len()),
            Self::Classes(v) => {
                let (of, run) = (v.of(), v.run());
                ((of.as_ptr() as usize, 0), Form::Classes(run), of.len())
            }
            Self::Mask(v) => ((v.as_ptr() as usize, 0), Form::Mask, v.len()),
        }
    }

    fn is_finite(&self) -> bool {
        match self {
            Self::Single(v) => v.iter().all(|x| x.is_finite()),
            Self::Double(v) => v.iter().all(|x| x.is_finite()),
            Self::Complex(v) => v.iter().all(|z| z.re.is_finite() && z.im.is_finite()),
            Self::Integer(_) | Self::Classes(_) | Self::Mask(_) => true,
        }
    }

    /// Its bytes, little endian, in small blocks.
    fn bytes(&self, mut take: impl FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<()> {
        match self {
            Self::Single(v) => blocks(v, &mut take, |x, out| out.extend(x.to_le_bytes())),
            Self::Double(v) => blocks(v, &mut take, |x, out| out.extend(x.to_le_bytes())),
            Self::Integer(v) => {
                v.blocks(|v| blocks(v, &mut take, |x, out| out.extend(x.to_le_bytes())))
            }
            Self::Classes(v) => blocks(v.of(), &mut take, |x, out| out.extend(x.to_le_bytes())),
            Self::Mask(v) => take(v),
            Self::Complex(v) => blocks(v, &mut take, |z, out| {
                out.extend(z.re.to_le_bytes());
                out.extend(z.im.to_le_bytes());
            }),
        }
    }

    /// From as many bytes as it takes, and the digest of these.
    fn read(form: Form, length: usize, from: &mut impl Read) -> std::io::Result<(Self, Digest)> {
        let single = |b: &[u8]| f32::from_le_bytes(b.try_into().unwrap_or_default());
        let double = |b: &[u8]| f64::from_le_bytes(b.try_into().unwrap_or_default());
        let complex = |b: &[u8]| Complex64::new(double(&b[..8]), double(&b[8..]));
        let integer = |b: &[u8]| i32::from_le_bytes(b.try_into().unwrap_or_default());
        let class = |b: &[u8]| u16::from_le_bytes(b.try_into().unwrap_or_default());
        let (width, mut hasher) = (form.width(), blake3::Hasher::new());
        let vector = match form {
            Form::Single => {
                Self::Single(values(from, &mut hasher, (width, length), single)?.into())
            }
            Form::Double => {
                Self::Double(values(from, &mut hasher, (width, length), double)?.into())
            }
            Form::Complex => {
                Self::Complex(values(from, &mut hasher, (width, length), complex)?.into())
            }
            Form::Integer => {
                let values = values(from, &mut hasher, (width, length), integer)?;
                Self::Integer(values.into())
            }
            Form::Classes(run) => {
                let of = values(from, &mut hasher, (width, length), class)?;
                Self::Classes(Classes::new(run, of).into())
            }
            Form::Mask => Self::Mask(values(from, &mut hasher, (width, length), |b| b[0])?.into()),
        };
        Ok((vector, *hasher.finalize().as_bytes()))
    }
}

fn blocks<T: Copy>(
    values: &[T],
    take: &mut impl FnMut(&[u8]) -> std::io::Result<()>,
    put: impl Fn(T, &mut Vec<u8>),
) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    for block in values.chunks(BLOCK) {
        bytes.clear();
        block.iter().for_each(|&x| put(x, &mut bytes));
        take(&bytes)?;
    }
    Ok(())
}

/// Values of a vector for which memory is taken before they are read.
const AT_ONCE: usize = 1 << 16;

fn values<T>(
    from: &mut impl Read,
    hasher: &mut blake3::Hasher,
    (width, length): (usize, usize),
    value: impl Fn(&[u8]) -> T,
) -> std::io::Result<Vec<T>> {
    // a longer vector grows as it is read: its length is somebody's word
    let mut values = Vec::with_capacity(length.min(AT_ONCE));
    let mut bytes = vec![0; width * BLOCK.min(length)];
    while values.len() < length {
        let block = &mut bytes[..width * BLOCK.min(length - values.len())];
        from.read_exact(block)?;
        hasher.update(block);
        values.extend(block.chunks_exact(width).map(&value));
    }
    Ok(values)
}

/// The different weight vectors of a plan, in the order of their first use.
#[derive(Default)]
struct Weights {
    table: Vec<(Form, usize)>,
    vectors: Vec<Vector>,
    digests: Vec<Digest>,
    by_place: HashMap<((usize, u64), Form, usize), usize>,
    by_digest: HashMap<(Form, Digest), usize>,
}

impl Weights {
    fn put(&mut self, vector: Vector) -> usize {
        let place = vector.shape();
        if let Some(&number) = self.by_place.get(&place) {
            return number;
        }
        let digest = hashed(&vector);
        let (_, form, length) = place;
        let next = self.table.len();
        let number = *self.by_digest.entry((form, digest)).or_insert(next);
        if number == next {
            self.table.push((form, length));
            self.vectors.push(vector);
            self.digests.push(digest);
        }
        self.by_place.insert(place, number);
        number
    }

    fn store(&mut self, operation: &Operation) -> StoredOperation {
        let all = RefCell::new(self);
        let put = |vector| all.borrow_mut().put(vector);
        let linear = |map: BlockMap, bias: Vec<Option<Arc<[f64]>>>| {
            let terms = map.terms().iter().map(|t| {
                let mut term = vec![t.input, t.output, t.giant, t.baby];
                match &t.values {
                    Values::Real(v) => term.push(put(Vector::Single(v.clone()))),
                    Values::Complex(v) => term.push(put(Vector::Complex(v.clone()))),
                    Values::Kernel {
                        weights,
                        classes,
                        mask,
                    } => {
                        term.push(put(Vector::Single(weights.clone())));
                        term.push(put(Vector::Classes(classes.clone())));
                        term.extend(mask.iter().map(|m| put(Vector::Mask(m.clone()))));
                    }
                }
                term
            });
            let map = StoredMap {
                terms: terms.collect(),
                slots: map.slots(),
                folds: map.folds().to_vec(),
                giants: map.giant_steps(),
            };
            let bias = bias.into_iter().map(|b| b.map(|b| put(Vector::Double(b))));
            Ok::<_, std::convert::Infallible>((map, bias.collect()))
        };
        let bias = |b| Ok(put(Vector::Double(b)));
        let stored = (operation.clone()).try_map(linear, bias, |w| Ok(put(Vector::Integer(w))));
        match stored {
            Ok(stored) => stored,
            Err(never) => match never {},
        }
    }
}

fn hashed(vector: &Vector) -> Digest {
    if let Vector::Integer(v) = vector {
        return v.digest();
    }
    let mut hasher = blake3::Hasher::new();
    let hash = |bytes: &[u8]| {
        hasher.update(bytes);
        Ok(())
    };
    // hashing never fails
    let _ = vector.bytes(hash);
    *hasher.finalize().as_bytes()
}

/// All of a plan's file but its weights' bytes.
struct Encoded {
    head: Vec<u8>,
    places: Vec<u8>,
    steps: Vec<u8>,
    table: Vec<u8>,
    weights: Weights,
}

impl Encoded {
    fn new(plan: &Plan) -> Self {
        let mut weights = Weights::default();
        let steps: Vec<Step<StoredOperation>> = (plan.steps.iter())
            .map(|s| Step {
                layer: s.layer.clone(),
                purpose: s.purpose,
                operation: weights.store(&s.operation),
                unit: s.unit,
                interval: s.interval,
            })
            .collect();
        let head = Head {
            parameters: plan.parameters.clone(),
            description: plan.description.clone(),
            input: plan.input.clone(),
            output: plan.output.clone(),
            sequence: plan.sequence.clone(),
        };
        Self {
            head: conformance::json(&head),
            places: places_bytes((&plan.input, &plan.output), plan.sequence.as_ref()),
            steps: conformance::json(&steps),
            table: conformance::json(&weights.table),
            weights,
        }
    }
    fn integers(&self) -> impl Iterator<Item = &Integers> + Clone {
        self.weights.vectors.iter().filter_map(|v| match v {
            Vector::Integer(v) => Some(v),
            _ => None,
        })
    }
    fn ids(&self, parameters: &Parameters) -> Ids {
        Ids {
            parameters: parameters_digest(parameters),
            plan: self.digest(),
            ..Ids::default()
        }
    }
    fn digest(&self) -> Digest {
        digest(
            &[&self.head, &self.places, &self.steps, &self.table],
            &self.weights.digests,
        )
    }
}

fn digest(parts: &[&[u8]], weights: &[Digest]) -> Digest {
    let mut hasher = hash_parts(parts);
    weights.iter().for_each(|w| {
        hasher.update(w);
    });
    *hasher.finalize().as_bytes()
}

impl Plan {
    /// BLAKE3 of the plan's content: what ties keys, inputs and answers to it.
    pub fn digest(&self) -> Digest {
        Encoded::new(self).digest()
    }

    /// Writes the plan file, with all weights in it.
    ///
    /// # Errors
    /// If the parameters do not hold together, or the file cannot be written.
    pub fn write<W: Write>(&self, out: W, name: &str) -> Result<W> {
        self.write_as(&Encoded::new(self), out, name, Place::Inside)
    }

    /// Writes the plan file, and the file beside it that has its integers.
    ///
    /// # Errors
    /// As [`Plan::write`].
    pub fn write_beside<W: Write, V: Write>(
        &self,
        (out, name): (W, &str),
        (weights, weights_name): (V, &str),
    ) -> Result<(W, V)> {
        let parameters = conformance::parameters(self.parameters.clone(), name)?;
        let encoded = Encoded::new(self);
        let ids = encoded.ids(&parameters);
        let weights = integers::write(weights, weights_name, ids, encoded.integers())?;
        let out = self.write_as(&encoded, out, name, Place::Beside)?;
        Ok((out, weights))
    }

    /// Bytes of integers that a file beside it would have.
    pub fn integer_bytes(&self) -> u64 {
        let encoded = Encoded::new(self);
        encoded.integers().map(Integers::stored_bytes).sum()
    }

    fn write_as<W: Write>(&self, encoded: &Encoded, out: W, name: &str, place: Place) -> Result<W> {
        let parameters = conformance::parameters(self.parameters.clone(), name)?;
        let mut deflate =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        for vector in &encoded.weights.vectors {
            if place == Place::Beside && matches!(vector, Vector::Integer(_)) {
                continue;
            }
            let written = vector.bytes(|bytes| deflate.write_all(bytes));
            written.map_err(Error::io(name))?;
        }
        let blob = deflate.finish().map_err(Error::io(name))?;
        let mut sections: Vec<([u8; 4], &[u8])> = vec![
            (HEAD, &encoded.head),
            (PLACES, &encoded.places),
            (STEPS, &encoded.steps),
            (TABLE, &encoded.table),
            (BLOB, &blob),
        ];
        let widths: Vec<Width> = match place {
            Place::Inside => Vec::new(),
            Place::Beside => encoded.integers().map(Integers::width).collect(),
        };
        let widths = conformance::json(&widths);
        if place == Place::Beside {
            sections.push((WIDE, &widths));
        }
        write_file(out, name, Kind::Plan, encoded.ids(&parameters), &sections)
    }

    /// Reads a plan file; gives the plan and its digest.
    ///
    /// # Errors
    /// [`Error::File`] with the field that is wrong.
    pub fn read(input: impl Read, name: &str) -> Result<(Self, Digest)> {
        Self::read_within(input, name, Limits::default(), None)
    }

    /// As [`Plan::read`], within limits of the caller's; `beside` is where its integers are, if they are not in it.
    ///
    /// # Errors
    /// [`Error::File`] with the file and the field that is wrong.
    pub fn read_within(
        input: impl Read,
        name: &str,
        limits: Limits,
        beside: Option<&Path>,
    ) -> Result<(Self, Digest)> {
        let mut file = Reader::new(input, name, Kind::Plan)?;
        let head_bytes = file.section(HEAD, JSON_LIMIT)?;
        let mut head: Head = from_json(&head_bytes, name, "section `head`")?;
        let parameters = conformance::parameters(head.parameters.clone(), name)?;
        file.expect_parameters(&parameters_digest(&parameters))?;
        let ports = (&mut head.input, &mut head.output);
        let places = read_places(&mut file, ports, head.sequence.as_mut())?;
        let refuse = |field: &str, problem: String| Error::file(name, field, problem, REMEDY);
        let step_bytes = file.section(STEPS, JSON_LIMIT)?;
        let steps: Vec<Step<StoredOperation>> = from_json(&step_bytes, name, "section `step`")?;
        let table_bytes = file.section(TABLE, JSON_LIMIT)?;
        let table: Vec<(Form, usize)> = from_json(&table_bytes, name, "section `tabl`")?;
        let place = match file.header().sections {
            6.. => Place::Beside,
            _ => Place::Inside,
        };
        let unpacked =
            check_table(&table, &parameters, place).map_err(|e| refuse("section `tabl`", e))?;
        let blob = file.section(BLOB, BLOB_LIMIT)?;
        let (any, each) = UNPACKED;
        let most = (limits.unpacked).unwrap_or(any.saturating_add(blob.len() as u64 * each));
        if unpacked > most {
            let problem = format!(
                "{} of weights in {} of the file, and not more than {} are unpacked",
                size(unpacked),
                size(blob.len() as u64),
                size(most)
            );
            let remedy = Help::Memory.with("if whoever made it is trusted, allow more memory");
            return Err(Error::file(name, "section `tabl`", problem, remedy));
        }
        let wanted = *file.header();
        let integers = match place {
            Place::Inside => Vec::new(),
            Place::Beside => {
                let widths = file.section(WIDE, JSON_LIMIT)?;
                let widths: Vec<Width> = from_json(&widths, name, "section `wide`")?;
                stored_beside(&table, &widths, (beside, name), &wanted.ids)?
            }
        };
        file.finish()?;
        let inflated = inflate(&blob, &table, integers);
        let (weights, digests) = inflated.map_err(|e| refuse("section `blob`", e.into()))?;
        drop(blob);
        let digest = digest(&[&head_bytes, &places, &step_bytes, &table_bytes], &digests);
        if digest != wanted.ids.plan {
            let problem = match place {
                Place::Inside => "the content does not match the digest in the header",
                Place::Beside => {
                    "its content and the weights beside it do not match the digest in the header"
                }
            };
            return Err(refuse("plan digest", problem.into()));
        }
        let restored = |s: Step<StoredOperation>| {
            Ok(Step {
                layer: s.layer,
                purpose: s.purpose,
                operation: restore(s.operation, &weights)?,
                unit: s.unit,
                interval: s.interval,
            })
        };
        let steps: std::result::Result<_, String> = steps.into_iter().map(restored).collect();
        let plan = Self {
            parameters: head.parameters,
            description: head.description,
            input: head.input,
            output: head.output,
            sequence: head.sequence,
            steps: steps.map_err(|e| refuse("section `step`", e))?,
        };
        Ok((plan, digest))
    }
}

/// Opens the integers that lie beside a plan.
fn stored_beside(
    table: &[(Form, usize)],
    widths: &[Width],
    (beside, name): (Option<&Path>, &str),
    ids: &Ids,
) -> Result<Vec<Integers>> {
    let lengths = table.iter().filter(|(form, _)| *form == Form::Integer);
    let lengths: Vec<usize> = lengths.map(|(_, length)| *length).collect();
    if lengths.len() != widths.len() {
        let problem = format!("{} widths of {} vectors", widths.len(), lengths.len());
        return Err(Error::file(name, "section `wide`", problem, REMEDY));
    }
    let path = beside.ok_or_else(|| integers::missing(name))?;
    let weights = path.display().to_string();
    let refuse = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => integers::missing(name),
        _ => Error::io(&weights)(e),
    };
    // before it is opened: a pipe that nobody writes into would be waited for
    if !std::fs::metadata(path).map_err(refuse)?.is_file() {
        return Err(integers::no_file(&weights));
    }
    let file = std::fs::File::open(path).map_err(refuse)?;
    let vectors: Vec<(usize, Width)> = lengths.into_iter().zip(widths.iter().copied()).collect();
    integers::open(file, &weights, ids, &vectors)
}

/// The bytes of a table's weight vectors in the plan's own file, or why it cannot be.
fn check_table(
    table: &[(Form, usize)],
    parameters: &Parameters,
    place: Place,
) -> std::result::Result<u64, String> {
    let mut total = 0u64;
    for (form, length) in table {
        let most = match form {
            Form::Integer => INTEGERS_LIMIT,
            // a bias in coefficients
            Form::Double => parameters.n(),
            Form::Single | Form::Complex => parameters.max_slots(),
            Form::Classes(run) => parameters.max_slots() / run.max(&1),
            Form::Mask => parameters.max_slots().div_ceil(8),
        };
        if *length == 0 || *length > most {
            return Err(format!(
                "a weight vector of length {length}, at most {most} are possible"
            ));
        }
        if *form != Form::Integer || place == Place::Inside {
            total = total.saturating_add((form.width() * length) as u64);
        }
    }
    if total > BLOB_LIMIT {
        return Err(format!(
            "{total} bytes of weights, at most {BLOB_LIMIT} are read"
        ));
    }
    Ok(total)
}

/// The weight vectors, all of them finite, and their digests; `integers` are those that lie beside the plan, if there are any.
fn inflate(
    blob: &[u8],
    table: &[(Form, usize)],
    integers: Vec<Integers>,
) -> std::result::Result<(Vec<Vector>, Vec<Digest>), &'static str> {
    let mut inflate = flate2::read::DeflateDecoder::new(blob);
    let mut integers = integers.into_iter();
    let both = table
        .iter()
        .map(|&(form, length)| {
            if form == Form::Integer
                && let Some(stored) = integers.next()
            {
                let digest = stored.digest();
                return Ok((Vector::Integer(stored), digest));
            }
            let read = Vector::read(form, length, &mut inflate);
            let (vector, digest) =
                read.map_err(|_| "it holds fewer weights than its table says")?;
            match vector.is_finite() {
                true => Ok((vector, digest)),
                false => Err("a weight is NaN or infinite"),
            }
        })
        .collect::<std::result::Result<Vec<_>, _>>()?;
    match inflate.read(&mut [0u8; 1]) {
        Ok(0) => Ok(both.into_iter().unzip()),
        _ => Err("it holds more weights than its table says"),
    }
}

fn kernel(weights: &Arc<[f32]>, classes: &Arc<Classes>, mask: Option<&Arc<[u8]>>) -> Values {
    Values::Kernel {
        weights: weights.clone(),
        classes: classes.clone(),
        mask: mask.cloned(),
    }
}

/// An operation with its weights.
fn restore(stored: StoredOperation, weights: &[Vector]) -> std::result::Result<Operation, String> {
    // a map has one term at least for each output, so these counts are bounded by the file
    let (inputs, outputs) = match &stored {
        OperationOn::Linear {
            inputs, outputs, ..
        } => (inputs.len(), outputs.len()),
        _ => (0, 0),
    };
    let find = |number: usize| {
        let vector = weights.get(number);
        vector.ok_or_else(|| format!("weight vector {number} does not exist"))
    };
    let of_bias = |number: usize| match find(number)? {
        Vector::Double(v) => Ok(v.clone()),
        _ => Err(format!("weight vector {number} is no bias")),
    };
    let of_rows = |number: usize| match find(number)? {
        Vector::Integer(v) => Ok(v.clone()),
        _ => Err(format!("weight vector {number} has no integers")),
    };
    let values = |numbers: &[usize]| {
        let found: Vec<&Vector> = numbers
            .iter()
            .map(|&n| find(n))
            .collect::<std::result::Result<_, _>>()?;
        match found[..] {
            [Vector::Single(v)] => Ok(Values::Real(v.clone())),
            [Vector::Complex(v)] => Ok(Values::Complex(v.clone())),
            [Vector::Single(v), Vector::Classes(c)] => Ok(kernel(v, c, None)),
            [Vector::Single(v), Vector::Classes(c), Vector::Mask(m)] => Ok(kernel(v, c, Some(m))),
            _ => Err(format!("vectors {numbers:?} are no diagonal")),
        }
    };
    let linear = |map: StoredMap, bias: Vec<Option<usize>>| {
        let terms = map.terms.iter();
        let terms: Vec<Term> = terms
            .map(|term| match term[..] {
                [input, output, giant, baby, ref numbers @ ..] => Ok(Term {
                    input,
                    output,
                    giant,
                    baby,
                    values: values(numbers)?,
                }),
                _ => Err(format!("the term {term:?}")),
            })
            .collect::<std::result::Result<_, String>>()?;
        let most = inputs.max(outputs);
        if inputs == 0 || outputs == 0 || most > 1 << 16 {
            return Err(format!(
                "a linear map from {inputs} to {outputs} ciphertexts"
            ));
        }
        // interpreters go through all terms for each input and output
        if most.saturating_mul(terms.len()) > 1 << 30 {
            return Err(format!(
                "a linear map of {} terms between {inputs} and {outputs} ciphertexts",
                terms.len(),
            ));
        }
        let giants = map.giants;
        let map = BlockMap::of_finite(map.slots, inputs, outputs, terms, map.folds);
        let bias = bias.into_iter().map(|b| match b.map(|b| (b, find(b))) {
            None => Ok(None),
            Some((_, Ok(Vector::Double(v)))) => Ok(Some(v.clone())),
            Some((_, Err(problem))) => Err(problem),
            Some((number, Ok(_))) => {
                Err(format!("weight vector {number} is a diagonal, not a bias"))
            }
        });
        Ok((
            map.map_err(|e| e.to_string())?.with_giants(giants),
            bias.collect::<std::result::Result<_, String>>()?,
        ))
    };
    stored.try_map(linear, of_bias, of_rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_that_is_not_there_takes_no_memory() {
        for form in [Form::Integer, Form::Double, Form::Mask] {
            let read = Vector::read(form, 1 << 44, &mut &[1u8; 100][..]);
            assert!(read.is_err());
        }
    }
}

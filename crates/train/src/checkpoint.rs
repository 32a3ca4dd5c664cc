//! Checkpoints: everything that a run needs to go on as if it had not stopped.
//!
//! A safetensors file with the parameters, the optimiser's moments, the normalisations' statistics and the units' state; `state` in its
//! metadata is JSON: the configuration, the position, the log so far. Written beside the old one and renamed, so that a kill leaves one
//! of both whole.

use crate::activation::{Function, Seen};
use crate::error::{Error, Result};
use crate::inverse::numerator;
use crate::model::Model;
use crate::optimizer::Optimizer;
use crate::parameter::{Kind, Parameter};
use nn::format::seal;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

/// The file in a run's folder by which it goes on.
pub const CHECKPOINT: &str = "checkpoint.safetensors";
/// The configuration there, as it is carried out.
pub const CONFIGURATION: &str = "run.toml";
/// Version 1 had no checksum, and is read.
const VERSION: &str = "2";
const UNSEALED: &str = "1";
/// Larger files are refused (weights of a billion parameters with two moments).
const LIMIT: u64 = 16 << 30;
/// Steps, pictures and values that a run counts stay below.
const MOST_COUNTED: u64 = 1 << 53;
/// Of a polynomial: degree 255, as in configurations.
const MOST_COEFFICIENTS: usize = 256;

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The stage, from 0.
    pub stage: usize,
    /// The pass over the data within the stage.
    pub epoch: usize,
    /// Batches of that pass that are done.
    pub batch: usize,
    /// Passes over the data in earlier stages, which decide the order of this one.
    pub passes: u64,
    /// Sums over the pass so far: loss, range loss, right, pictures, steps left out.
    pub sums: Sums,
    /// Best accuracy on held-out pictures (lowest loss on held-out text, negative) in this stage, and its pass.
    pub best: Option<(f64, usize)>,
    /// Activations that this stage has made polynomial one by one so far.
    #[serde(default)]
    pub substituted: usize,
    /// Rows of the log so far.
    pub log: Vec<String>,
    /// Rows of the range log so far.
    pub ranges: Vec<String>,
}

/// Sums over the pictures of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Sums {
    /// Of the loss on outputs, times pictures.
    pub loss: f64,
    /// Of the range loss, over steps.
    pub range_loss: f64,
    /// Pictures classified rightly in training.
    pub right: u64,
    /// Pictures.
    pub pictures: u64,
    /// Steps.
    pub steps: u64,
    /// Steps whose gradient was no number and which changed nothing.
    pub skipped: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    configuration: String,
    position: Position,
    steps: u64,
    outside: Vec<u64>,
    #[serde(default)]
    outside_of_programs: Vec<u64>,
    coefficients: Vec<Option<usize>>,
    trainable: Vec<String>,
}

fn broken(path: &Path, detail: impl std::fmt::Display) -> Error {
    let remedy = "the checkpoint can't be used, start from an older one or anew";
    Error::checkpoint(path, format!("{detail}; {remedy}"))
}

/// Twelve numbers that a unit's state is; NaN for what is not there.
fn unit_state(u: &crate::activation::Unit) -> Vec<f32> {
    let (tag, ratio) = match u.function {
        Function::Original => (0.0, 0.0),
        Function::Polynomial => (1.0, 0.0),
        Function::Blend { ratio } => (2.0, ratio),
    };
    let (q0, q1) = u.quantiles.unwrap_or((f32::NAN, f32::NAN));
    vec![
        tag,
        ratio,
        u.domain.0,
        u.domain.1,
        u.target.0,
        u.target.1,
        u.seen.low,
        u.seen.high,
        q0,
        q1,
        u.guard.unwrap_or(f32::NAN),
        f32::from(u8::from(u.seen.nan)),
    ]
}

/// Whether a unit's numbers are some that a run can have: others would train something else than was saved, or not at all.
fn conforms(v: &[f32], coefficients: Option<usize>) -> bool {
    let function = match v[0] {
        0.0 => true,
        1.0 => coefficients.is_some(),
        2.0 => coefficients.is_some() && (0.0..=1.0).contains(&v[1]),
        _ => false,
    };
    let domain = v[2] < v[3] && (v[3] - v[2]).is_finite();
    let guard = v[10].is_nan() || (v[10].is_finite() && v[10] >= 0.0);
    function && domain && guard && [0.0, 1.0].contains(&v[11])
}

impl Position {
    /// Whether nothing that is computed with it overflows.
    fn plausible(&self) -> bool {
        let s = &self.sums;
        let places = [self.stage, self.epoch, self.batch, self.substituted];
        let best = self.best.map(|b| b.1);
        places.into_iter().chain(best).all(|n| n < 1 << 32)
            && self.passes < 1 << 32
            && [s.right, s.pictures, s.steps, s.skipped]
                .into_iter()
                .all(|n| n < MOST_COUNTED)
    }
}

/// Seven numbers that an inverse's state is.
fn inverse_state(u: &crate::inverse::InverseUnit) -> Vec<f32> {
    vec![
        match &u.program {
            None => 0.0,
            Some(p) if p.function().has_numerator() => 2.0,
            Some(_) => 1.0,
        },
        u.domain.0,
        u.domain.1,
        u.bits,
        u.seen.low,
        u.seen.high,
        f32::from(u8::from(u.seen.nan)),
    ]
}

/// Writes a checkpoint.
///
/// # Errors
/// [`Error::File`].
pub fn save(
    path: &Path,
    model: &Model,
    optimizer: &Optimizer,
    position: &Position,
    configuration: &str,
) -> Result<()> {
    write_whole(path, &to_bytes(model, optimizer, position, configuration)?)
}

pub(crate) fn to_bytes(
    model: &Model,
    optimizer: &Optimizer,
    position: &Position,
    configuration: &str,
) -> Result<Vec<u8>> {
    let path = Path::new(CHECKPOINT);
    let mut tensors: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |what: &str, name: &str, values: &[f32]| {
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        tensors.push((format!("{what}:{name}"), bytes));
    };
    for (i, p) in model.parameters.iter().enumerate() {
        add("value", &p.name, &p.values);
        for (what, moments) in [("first", &optimizer.first), ("second", &optimizer.second)] {
            if let Some(m) = moments.get(i).filter(|m| !m.is_empty()) {
                add(what, &p.name, m);
            }
        }
    }
    for (name, norm) in model.norms() {
        add("mean", name, &norm.mean);
        add("variance", name, &norm.variance);
    }
    for u in model.units() {
        add("unit", &u.name, &unit_state(u));
    }
    for u in model.inverses() {
        add("inverse", &u.name, &inverse_state(u));
    }
    let trainable = model.parameters.iter().filter(|p| p.trainable);
    let state = State {
        configuration: configuration.into(),
        position: position.clone(),
        steps: optimizer.steps,
        outside: model.units().map(|u| u.seen.outside).collect(),
        outside_of_programs: model.inverses().map(|u| u.seen.outside).collect(),
        coefficients: model.units().map(|u| u.coefficients).collect(),
        trainable: trainable.map(|p| p.name.clone()).collect(),
    };
    let json = serde_json::to_string(&state).map_err(|e| broken(path, e))?;
    let metadata = HashMap::from([
        ("polyveil-checkpoint".to_string(), VERSION.to_string()),
        ("state".to_string(), json),
        (seal::KEY.to_string(), seal::OPEN.to_string()),
    ]);
    let views = tensors.iter().map(|(name, bytes)| {
        let view = TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes)?;
        Ok((name.as_str(), view))
    });
    let views: std::result::Result<Vec<_>, safetensors::SafeTensorError> = views.collect();
    let views = views.map_err(|e| broken(path, e))?;
    let mut file = safetensors::serialize(views, Some(metadata)).map_err(|e| broken(path, e))?;
    seal::order(&mut file);
    seal::seal(&mut file);
    Ok(file)
}

/// Writes a file beside its place and renames it, so that nobody ever sees half of it.
///
/// # Errors
/// [`Error::File`].
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    disk::write(path, disk::Access::Everyone, bytes).map_err(Error::file(path))
}

/// The vectors of a checkpoint.
struct Reader<'a> {
    path: &'a Path,
    tensors: SafeTensors<'a>,
}

impl Reader<'_> {
    fn broken(&self, detail: impl std::fmt::Display) -> Error {
        broken(self.path, detail)
    }

    /// A vector, of this length where it is known.
    fn vector(&self, name: String, length: Option<usize>) -> Result<Vec<f32>> {
        let t = self
            .tensors
            .tensor(&name)
            .map_err(|_| self.broken(format_args!("{name} is missing")))?;
        let v: Vec<f32> = t
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        if t.dtype() != Dtype::F32 || length.is_some_and(|n| n != v.len()) {
            return Err(self.broken(format_args!(
                "{name} has {} values of type {:?}, {} of type F32 are needed",
                v.len(),
                t.dtype(),
                length.unwrap_or(v.len())
            )));
        }
        Ok(v)
    }
}

/// Puts a checkpoint into a model made from the same configuration; gives back where the run stood.
///
/// # Errors
/// [`Error::Checkpoint`] for a file that is damaged or another model's, [`Error::Configuration`] for another configuration's.
pub fn restore(
    path: &Path,
    model: &mut Model,
    optimizer: &mut Optimizer,
    configuration: &str,
) -> Result<Position> {
    from_bytes((path, &read(path)?), model, optimizer, configuration)
}

/// The bytes of a checkpoint's file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let fail = Error::file(path);
    let size = std::fs::metadata(path).map_err(fail)?.len();
    if size > LIMIT {
        return Err(broken(
            path,
            format_args!("{size} bytes are more than a checkpoint may have ({LIMIT})"),
        ));
    }
    std::fs::read(path).map_err(fail)
}

pub(crate) fn from_bytes(
    (path, bytes): (&Path, &[u8]),
    model: &mut Model,
    optimizer: &mut Optimizer,
    configuration: &str,
) -> Result<Position> {
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| broken(path, e))?;
    let state = state(path, bytes)?;
    same_configuration(path, &state.configuration, configuration)?;
    let r = Reader { path, tensors };
    restore_units(&r, &state, model)?;
    restore_inverses(&r, &state, model)?;
    restore_parameters(&r, &state, model, optimizer)?;
    for (name, norm) in model.norms_mut() {
        norm.mean = r.vector(format!("mean:{name}"), Some(norm.mean.len()))?;
        norm.variance = r.vector(format!("variance:{name}"), Some(norm.variance.len()))?;
    }
    Ok(state.position)
}

/// The state in a checkpoint's metadata, where it is one that a run can have.
fn state(path: &Path, bytes: &[u8]) -> Result<State> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| broken(path, e))?;
    let metadata = header
        .metadata()
        .as_ref()
        .ok_or_else(|| broken(path, "no metadata"))?;
    let version = metadata.get("polyveil-checkpoint").ok_or_else(|| {
        let detail = "a safetensors file that is no checkpoint of a training run";
        broken(path, detail)
    })?;
    if version == VERSION && !seal::intact(bytes) {
        return Err(broken(
            path,
            "its bytes do not match their checksum: it is damaged",
        ));
    }
    if ![VERSION, UNSEALED].contains(&version.as_str()) {
        let detail =
            format!("a checkpoint of version {version}, this program reads version {VERSION}");
        return Err(broken(path, detail));
    }
    let json = metadata
        .get("state")
        .ok_or_else(|| broken(path, "no state"))?;
    let state: State = serde_json::from_str(json).map_err(|e| broken(path, e))?;
    if !state.position.plausible()
        || state.steps >= MOST_COUNTED
        || state.outside.iter().any(|&n| n >= MOST_COUNTED)
    {
        return Err(broken(path, "its position is none that a run comes to"));
    }
    Ok(state)
}

fn restore_units(r: &Reader<'_>, state: &State, model: &mut Model) -> Result<()> {
    let mut units = Vec::new();
    for (i, u) in model.units().enumerate() {
        let v = r.vector(format!("unit:{}", u.name), Some(12))?;
        let coefficients = state.coefficients.get(i).copied().flatten();
        if !conforms(&v, coefficients) {
            return Err(r.broken(format_args!(
                "unit:{} has numbers that no activation has",
                u.name
            )));
        }
        let outside = state.outside.get(i).copied().unwrap_or(0);
        units.push((v, outside, coefficients, u.name.clone()));
    }
    // coefficients that substitutions added, here and there
    let added = |model: &Model| {
        let last = model.parameters.len().checked_sub(1)?;
        let known = state.coefficients.contains(&Some(last));
        (model.parameters[last].kind == Kind::Coefficient && !known).then_some(())
    };
    while added(model).is_some() {
        model.parameters.pop();
    }
    for (_, _, coefficients, name) in &units {
        let Some(i) = *coefficients else { continue };
        let name = format!("{name}.coefficients");
        match model.parameters.get(i) {
            Some(p) if p.name == name => {}
            None if i == model.parameters.len() => {
                let values = r.vector(format!("value:{name}"), None)?;
                let parameter = Parameter::new(name, Kind::Coefficient, values);
                model.parameters.push(parameter);
            }
            _ => return Err(r.broken(format_args!("{name} are not at place {i}"))),
        }
    }
    for (u, (v, outside, coefficients, _)) in model.units_mut().zip(&units) {
        u.function = match v[0] {
            0.0 => Function::Original,
            1.0 => Function::Polynomial,
            _ => Function::Blend { ratio: v[1] },
        };
        u.domain = (v[2], v[3]);
        u.target = (v[4], v[5]);
        u.seen = Seen {
            low: v[6],
            high: v[7],
            outside: *outside,
            nan: v[11] != 0.0,
        };
        u.quantiles = (!v[8].is_nan()).then_some((v[8], v[9]));
        u.guard = (!v[10].is_nan()).then_some(v[10]);
        u.coefficients = *coefficients;
    }
    Ok(())
}

fn restore_inverses(r: &Reader<'_>, state: &State, model: &mut Model) -> Result<()> {
    let mut inverses = Vec::new();
    for u in model.inverses() {
        inverses.push(r.vector(format!("inverse:{}", u.name), Some(7))?);
    }
    for (i, (u, v)) in model.inverses_mut().zip(inverses).enumerate() {
        u.program = None;
        if v[0] != 0.0 {
            u.set((v[1], v[2]), v[3], numerator(v[0] == 2.0))
                .map_err(|e| r.broken(format_args!("{}: {e}", u.name)))?;
        }
        u.seen = Seen {
            low: v[4],
            high: v[5],
            outside: state.outside_of_programs.get(i).copied().unwrap_or(0),
            nan: v[6] != 0.0,
        };
    }
    Ok(())
}

fn restore_parameters(
    r: &Reader<'_>,
    state: &State,
    model: &mut Model,
    optimizer: &mut Optimizer,
) -> Result<()> {
    optimizer.steps = state.steps;
    optimizer.first = vec![Vec::new(); model.parameters.len()];
    optimizer.second = vec![Vec::new(); model.parameters.len()];
    for (i, p) in model.parameters.iter_mut().enumerate() {
        // a substitution may have changed a polynomial's degree
        let length = (p.kind != Kind::Coefficient).then_some(p.values.len());
        p.values = r.vector(format!("value:{}", p.name), length)?;
        if p.kind == Kind::Coefficient && !(1..=MOST_COEFFICIENTS).contains(&p.values.len()) {
            return Err(r.broken(format_args!(
                "{} are {}, 1 to {MOST_COEFFICIENTS} are possible",
                p.name,
                p.values.len()
            )));
        }
        p.gradient = vec![0.0; p.values.len()];
        p.trainable = state.trainable.contains(&p.name);
        for (what, moments) in [
            ("first", &mut optimizer.first),
            ("second", &mut optimizer.second),
        ] {
            let name = format!("{what}:{}", p.name);
            if r.tensors.tensor(&name).is_ok() {
                moments[i] = r.vector(name, Some(p.values.len()))?;
            }
        }
    }
    Ok(())
}

/// The first line in which two configurations differ, as an error.
fn same_configuration(path: &Path, there: &str, here: &str) -> Result<()> {
    let (mut a, mut b) = (there.lines(), here.lines());
    loop {
        let (x, y) = match (a.next(), b.next()) {
            (None, None) => return Ok(()),
            (x, y) if x == y => continue,
            (x, y) => (x.unwrap_or("(nothing)"), y.unwrap_or("(nothing)")),
        };
        let part = |line: &str, i: usize| line.splitn(2, " = ").nth(i).unwrap_or(line).to_string();
        return Err(Error::Configuration {
            path: path.display().to_string(),
            field: part(x, 0),
            had: part(x, 1),
            needed: part(y, 1),
        });
    }
}

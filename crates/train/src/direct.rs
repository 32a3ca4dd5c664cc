//! Runs whose data are what the network takes, pictures and vectors: from a configuration to a trainer, and from a trained model to its
//! artefact, with intervals measured, ranges calibrated and the run's record inside.

use crate::approximations::{record, substitutes};
use crate::batch::Values;
use crate::checkpoint::write_whole;
use crate::config::{self, Run};
use crate::error::{Error, Result};
use crate::inverse::Iteration;
use crate::mode::Mode;
use crate::model::{Model, Parameterization};
use crate::networks;
use crate::pass::Inputs;
use crate::score::Score;
use crate::sources::Direct;
use crate::surgery;
use crate::trainer::{Trainer, remove};
use nn::format::artefact;
use nn::lower::{self, Numerator, Options, Outliers};
use nn::{Graph, Metadata, PolyGraph};
use serde_json::json;
use std::path::PathBuf;
use zoo::Model as Network;

/// Inputs on which the f64 oracle measures every node's range.
const RANGED: usize = 500;
/// No activation's input lies beyond this unless a polynomial exploded before it.
const EXPLODED: f32 = 1e4;

/// A trained network of which no polynomial network was made.
const UNFINISHED: &str = "unfinished.pvm";

/// What a run begins with.
pub struct Start<S> {
    /// The data.
    pub sources: S,
    /// The network in training.
    pub model: Model,
    /// Who teaches it.
    pub teacher: Option<Model>,
    /// What the network's file says.
    pub metadata: Metadata,
}

/// What is in memory in the place of the files that a configuration names.
pub struct AtHand<S: Direct> {
    /// The network to start from, which teaches where one from a file would.
    pub network: (Graph, Metadata),
    /// The data; those that the configuration names if none.
    pub set: Option<S::Set>,
}

/// The data, network and teacher that a configuration names, or that are at hand; maxima become averages, since no polynomial computes a maximum, and a
/// softmax at the end goes.
///
/// # Errors
/// Those of [`Direct::open`], [`networks::graph`], `surgery::insert_batch_norms`, and of [`lower::check`] where the run ends in polynomials.
pub fn start<S: Direct>(
    run: &Run<config::Network, S::Data>,
    at_hand: Option<AtHand<S>>,
) -> Result<Start<S>> {
    let (network, set) = at_hand.map_or((None, None), |a| (Some(a.network), a.set));
    type Size = ((usize, usize, usize), usize);
    let open = |named: &config::Network, (input, outputs): Size| match (named, &network) {
        (config::Network::File { .. }, Some((graph, metadata))) => {
            Ok((graph.clone(), metadata.clone(), Parameterization::Plain))
        }
        _ => networks::graph(named, input, outputs, run.seed),
    };
    // a network from a file says what it takes; new ones take what the data are
    let from_file = matches!(run.network, config::Network::File { .. });
    let there = from_file.then(|| open(&run.network, Size::default()));
    let there = there.transpose()?;
    let takes = there.as_ref().map(|(graph, ..)| graph.input().shape());
    let mut sources = match set {
        Some(set) => S::of(&run.data, set, takes)?,
        None => S::open(&run.data, takes)?,
    };
    let size = (sources.input(), sources.outputs());
    let (graph, metadata, parameterization) = match there {
        Some(there) => there,
        None => open(&run.network, size)?,
    };
    // the loss takes the softmax, and so does whoever reads the answers
    let graph = graph.without_last_softmax()?.unwrap_or(graph);
    let mut graph = graph.with_average_pools()?;
    if let Some(place) = &run.batch_norms {
        graph = surgery::insert_batch_norms(&graph, place)?;
    }
    if run.stages.iter().any(|s| s.substitution.is_some()) {
        lower::check(&graph)?;
    }
    let model = Model::new(graph, parameterization)?;
    sources.adopt(&run.data, from_file.then_some(&metadata))?;
    let teacher = run.teacher.as_ref().map(|t| {
        let (graph, _, parameterization) = open(t, size)?;
        Model::new(graph, parameterization)
    });
    let teacher = teacher.transpose()?;
    Ok(Start {
        sources,
        model,
        teacher,
        metadata,
    })
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// On what is held out.
    pub score: Score,
    /// On how many inputs intervals were measured, and how many of them were left out; None while no activation is a polynomial.
    pub measured: Option<(usize, usize)>,
    /// The network; polynomial, if all its activations are.
    pub network: Network,
    /// Its file, of a run with a folder.
    pub path: Option<PathBuf>,
}

/// Measures the intervals of polynomials, divisions and roots, scores, and writes `network.pvm` into the run's folder, if it has one. At most `allowed` inputs
/// may drive a polynomial out of all bounds; where there are more, or something else fails, the network is kept in `unfinished.pvm`
/// there. Of a run without a folder nothing is written: what was trained is in the trainer, and lost with it.
///
/// # Errors
/// [`Error::Unfinished`]; of a run without a folder, what it holds.
pub fn finish<S: Direct>(
    trainer: &mut Trainer<'_, S>,
    metadata: Metadata,
    allowed: usize,
) -> Result<Finished> {
    let outcome = finished(trainer, metadata.clone(), allowed);
    outcome.map_err(|e| unfinished(trainer, metadata, e))
}

fn finished<S: Direct>(
    trainer: &mut Trainer<'_, S>,
    mut metadata: Metadata,
    allowed: usize,
) -> Result<Finished> {
    let programs = trainer.model.inverses().next().is_some() && is_polynomial(&trainer.model)?;
    let mut measured = None;
    if programs || trainer.model.units().any(|u| u.coefficients.is_some()) {
        measured = Some(measure_intervals(trainer, 0.125, allowed)?);
    }
    let score = trainer.score()?;
    metadata.task = Some(trainer.sources().task(&metadata)?.to_bytes());
    let (name, data) = trainer.sources().record(measured.map_or(0, |m| m.1));
    let mut held_out = json!({
        "right": score.right,
        "pictures": score.answers,
        "values_outside_intervals": score.outside,
    });
    if !score.errors.is_empty() {
        let errors = score.errors.iter();
        held_out["rmse"] = errors.clone().map(|e| e.rmse).collect();
        held_out["r2"] = errors.map(|e| e.r2).collect();
    }
    let mut entries = json!({
        "seed": trainer.config.seed,
        "held_out": held_out,
        "log": trainer.position().log,
    });
    entries[name] = data;
    let folder = trainer.folder.as_deref();
    record(&mut metadata, folder, &trainer.text, entries);
    let made = polynomial(&trainer.model, trainer.sources(), metadata.clone(), allowed)?;
    let (network, bytes) = match made {
        Some(graph) => {
            let bytes = folder.map(|_| artefact::to_bytes(&graph)).transpose()?;
            (Network::Polynomial(Box::new(graph)), bytes)
        }
        None => {
            let graph = trainer.model.to_graph()?;
            let bytes = folder.map(|_| artefact::graph_to_bytes(&graph, &metadata));
            let bytes = bytes.transpose()?;
            (Network::Trained(graph, metadata), bytes)
        }
    };
    let path = folder.map(|f| f.join("network.pvm"));
    if let (Some(folder), Some(path), Some(bytes)) = (folder, &path, bytes) {
        write_whole(path, &bytes)?;
        // of an earlier try
        remove(&folder.join(UNFINISHED))?;
    }
    Ok(Finished {
        score,
        measured,
        network,
        path,
    })
}

/// Keeps a trained network of which no polynomial network was made; the error says where.
fn unfinished<S: Direct>(trainer: &Trainer<'_, S>, mut metadata: Metadata, e: Error) -> Error {
    let Some(folder) = &trainer.folder else {
        return e;
    };
    let path = folder.join(UNFINISHED);
    if let Ok(task) = trainer.sources().task(&metadata) {
        metadata.task = Some(task.to_bytes());
    }
    let keep = || -> Result<()> {
        let bytes = artefact::graph_to_bytes(&trainer.model.to_graph()?, &metadata)?;
        write_whole(&path, &bytes)
    };
    Error::Unfinished {
        error: Box::new(e),
        kept: match keep() {
            Ok(()) => path.display().to_string(),
            Err(e) => format!("the checkpoint alone: {e}"),
        },
    }
}

/// Declares the polynomials' intervals from what they see on all training inputs that calibrate and the held-out ones, as they are and
/// mirrored where that is an input too, widened by `margin` times their width at each end; divisions and roots of a polynomial network that have
/// no program yet get one for what they see there, as [`lower::fit`] chooses it. Gives back how many inputs were seen, and how
/// many of them, at most `allowed`, were left out because one of a polynomial's values exploded.
///
/// # Errors
/// What the data bring; [`Error::Exploded`]; [`Error::Fit`].
pub(crate) fn measure_intervals<S: Direct>(
    trainer: &mut Trainer<'_, S>,
    margin: f32,
    allowed: usize,
) -> Result<(usize, usize)> {
    let batch = trainer.config.batch;
    let sources = trainer.sources();
    let sets = [
        sources.to_calibrate(batch, usize::MAX)?,
        sources.held_out(batch)?,
    ];
    trainer.model.clear_ranges();
    let programs = is_polynomial(&trainer.model)?;
    if programs {
        trainer.model.unscale_powers();
    }
    let (mut seen, mut left_out) = (0, 0);
    for batch in sets.into_iter().flatten() {
        let Values::Numbers(x) = batch?.values else {
            continue;
        };
        let mirrored = trainer.sources().mirrored(&x);
        let model = &mut trainer.model;
        let one = model.input_shape().len();
        seen += x.len() / one;
        let before = model.seen();
        look(model, [Some(&x), mirrored.as_deref()]);
        if exploded(model).is_none() {
            continue;
        }
        model.set_seen(&before);
        for (i, a) in x.chunks_exact(one).enumerate() {
            let before = model.seen();
            let b = mirrored.as_ref().map(|m| &m[i * one..(i + 1) * one]);
            look(model, [Some(a), b]);
            if let Some(node) = exploded(model) {
                left_out += 1;
                if left_out > allowed {
                    let limit = EXPLODED;
                    return Err(Error::Exploded { node, limit });
                }
                model.set_seen(&before);
            }
        }
    }
    trainer.model.redeclare_domains(margin)?;
    if programs {
        let how = Options::default();
        let how = Iteration {
            bits: how.bits,
            factor: 1.0 + how.margin,
            carried: how.numerator == Numerator::Carried,
            pictures: seen,
        };
        for u in trainer.model.inverses_mut().filter(|u| u.program.is_none()) {
            u.substitute(&how)?;
        }
    }
    trainer.model.clear_ranges();
    Ok((seen, left_out))
}

fn look(model: &mut Model, inputs: [Option<&[f32]>; 2]) {
    for x in inputs.into_iter().flatten() {
        model.run(Inputs::Numbers(x), Mode::Evaluate);
    }
}

/// The first activation whose input lies beyond all bounds.
fn exploded(model: &Model) -> Option<String> {
    let bounded = |u: &&crate::activation::Unit| {
        !u.seen.nan && u.seen.low >= -EXPLODED && u.seen.high <= EXPLODED
    };
    model.units().find(|u| !bounded(u)).map(|u| u.name.clone())
}

/// Whether all activations are polynomials.
fn is_polynomial(model: &Model) -> Result<bool> {
    Ok(model.to_graph()?.activations().next().is_none())
}

/// The polynomial network with calibrated ranges, or None while some activation is no polynomial; by the lowering that `calibrate` uses, with
/// what training left in place of functions. At most `allowed` inputs are in no range; where none may be, all are.
///
/// # Errors
/// [`Error::Network`], what the data bring.
pub fn polynomial<S: Direct>(
    model: &Model,
    sources: &S,
    metadata: Metadata,
    allowed: usize,
) -> Result<Option<PolyGraph>> {
    if !is_polynomial(model)? {
        return Ok(None);
    }
    let options = Options {
        given: Some(substitutes(model)?),
        outliers: match allowed {
            0 => Outliers::Keep,
            most => Outliers::LeaveOut(most),
        },
        ..Options::default()
    };
    let inputs = sources.examples(RANGED)?;
    let made = lower::adapt(&model.to_graph()?, &inputs, &options)?;
    Ok(Some(made.graph.with_metadata(metadata)))
}

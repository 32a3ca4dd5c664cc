//! Degrees and bootstraps under a budget. What is measured and how it is searched is `train::search`; here the compiler and the
//! runtime say what networks cost.

use super::run::{Place, Saving, direct};
use super::start::{Original, Start, schedule};
use crate::error::{Error, Result, named};
use crate::files::{Content, Existing, Output, expect_folder};
use crate::machine::{Machine, Probing};
use crate::progress::{Listener, Say};
use compiler::{Layers, Outline, Target};
use nn::approximations::Approximations;
use nn::{Graph, Nonlinearity, PolyGraph};
use rayon::prelude::*;
use runtime::Basis;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use train::config::{Config, Degrees, Order, Substitution};
pub use train::search::Budget;
use train::search::report::{self, Row};
use train::search::sensitivity::Bench;
use train::search::{Cost, Costs, Point, Sensitivity};
use train::sources::Direct;
use train::{Model, Parameterization, Sources};

/// Pictures on which ranges outside of activations are measured.
const RANGED: usize = 100;

/// What is searched.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
pub struct Searching {
    /// What a run may take, for example 60s, 6bootstraps or 5GB; several are all kept.
    #[cfg_attr(
        feature = "clap",
        arg(long = "budget", required = true, value_name = "BUDGET", value_parser = budget)
    )]
    pub budgets: Vec<Budget>,
    /// Degrees to choose from: for each number of levels the largest is worth its price.
    #[cfg_attr(
        feature = "clap",
        arg(
            long,
            value_delimiter = ',',
            value_name = "LIST",
            default_value = "2,3,4,7,15"
        )
    )]
    pub degrees: Vec<usize>,
    /// Calibration pictures on which sensitivities are measured.
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", default_value_t = 500))]
    pub pictures: usize,
    /// Networks of the front that are compiled, measured and drawn.
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", default_value_t = 16))]
    pub points: usize,
    /// What operations cost on the machine that will run the network.
    #[cfg_attr(feature = "clap", arg(skip))]
    pub machine: Machine,
    /// Threads of the run that is predicted.
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", default_value_t = 2))]
    pub run_threads: usize,
    /// Passes to fine-tune the chosen network with at once.
    #[cfg_attr(feature = "clap", arg(long, value_name = "EPOCHS"))]
    pub fine_tune: Option<f64>,
}

impl Default for Searching {
    fn default() -> Self {
        Self {
            budgets: Vec::new(),
            degrees: vec![2, 3, 4, 7, 15],
            pictures: 500,
            points: 16,
            machine: Machine::default(),
            run_threads: 2,
            fine_tune: None,
        }
    }
}

impl Searching {
    fn budget(&self) -> String {
        let all: Vec<String> = self.budgets.iter().map(Budget::to_string).collect();
        all.join(", ")
    }
}

/// A budget as it is written: 60s, 2min, 6bootstraps, 5GB.
///
/// # Errors
/// Another text.
pub fn budget(text: &str) -> std::result::Result<Budget, String> {
    let refused =
        || format!("`{text}` is not a budget; write for example 60s, 2min, 6bootstraps or 5GB");
    let text = text.trim();
    let digits = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, unit) = (&text[..digits], text[digits..].trim());
    let seconds = |factor: f64| {
        let seconds = factor * number.parse::<f64>().map_err(|_| refused())?;
        if seconds > 0.0 {
            Ok(Budget::Seconds(seconds))
        } else {
            Err(refused())
        }
    };
    match unit {
        "s" => seconds(1.0),
        "min" => seconds(60.0),
        "bootstrap" | "bootstraps" => number
            .parse()
            .map(Budget::Bootstraps)
            .map_err(|_| refused()),
        "" => Err(refused()),
        _ => runtime::parse_size(text)
            .map(Budget::Bytes)
            .ok_or_else(refused),
    }
}

/// The compiler's and the runtime's word on costs.
struct Planner<'a> {
    graph: &'a Graph,
    ranges: Vec<nn::Range>,
    sensitivity: &'a Sensitivity,
    target: Target,
    basis: Basis,
    threads: usize,
    outline: Outline,
    known: Mutex<HashMap<Vec<usize>, Cost>>,
}

fn cost_error(e: impl std::error::Error + Send + Sync + 'static) -> train::Error {
    train::Error::Cost(Box::new(e))
}

/// The network with these polynomials.
fn network(
    graph: &Graph,
    ranges: &[nn::Range],
    s: &Sensitivity,
    choice: &[usize],
) -> train::Result<PolyGraph> {
    let mut polynomials = s
        .polynomials
        .iter()
        .zip(choice)
        .map(|(row, &k)| row[k].clone());
    let network = graph.clone().try_map(|node, function| match function {
        Nonlinearity::Polynomial(p) => Ok(p),
        Nonlinearity::Activation(a) => polynomials.next().ok_or_else(|| nn::Error::NotPolynomial {
            node: node.into(),
            function: a.to_string(),
        }),
    })?;
    Ok(PolyGraph::from(network).with_ranges(ranges.to_vec())?)
}

impl Costs for Planner<'_> {
    fn cheapest(
        &self,
        prices: &[Vec<f64>],
        most_bootstraps: Option<usize>,
    ) -> train::Result<Option<Point>> {
        let found = self
            .outline
            .cheapest(prices, most_bootstraps)
            .map_err(cost_error)?;
        Ok(found.map(|c| Point {
            choice: c.alternatives,
            cpu_seconds: c.cpu_seconds,
            bootstraps: c.bootstraps,
            divergence: 0.0,
        }))
    }

    fn exact(&self, choice: &[usize]) -> train::Result<Cost> {
        if let Some(known) = self.known.lock().ok().and_then(|k| k.get(choice).copied()) {
            return Ok(known);
        }
        let graph = network(self.graph, &self.ranges, self.sensitivity, choice)?;
        // a network that keeps no memory limit is compiled without, so that what it takes is known
        let unlimited = Target {
            max_memory: None,
            ..self.target.clone()
        };
        let plan = match crate::compiled(&graph, &self.target) {
            Err(Error::Compiler(compiler::Error::Memory { .. })) => {
                crate::compiled(&graph, &unlimited)
            }
            other => other,
        }
        .map_err(cost_error)?;
        let cost = super::price::cost(&plan, self.basis.clone(), self.threads);
        if let Ok(mut known) = self.known.lock() {
            known.insert(choice.to_vec(), cost);
        }
        Ok(cost)
    }
}

/// Measures sensitivities, searches, and writes front.csv, front.md, front.svg and run.toml, with which the chosen network is fine-tuned;
/// gives what was chosen, in words.
///
/// # Errors
/// Networks and pictures that do not fit; budgets that nothing keeps.
pub fn search(
    from: &Start,
    a: &Searching,
    (output, existing): (&Path, Existing),
    tell: Listener<'_>,
) -> Result<String> {
    expect_folder(output)?;
    let made = !output.exists();
    std::fs::create_dir_all(output).map_err(named(output))?;
    let found = search_into(from, a, (output, existing), tell);
    if made && found.is_err() {
        // only where nothing is in it
        let _ = std::fs::remove_dir(output);
    }
    found
}

/// The files of a search, opened before it.
struct Files([Output; 4]);

impl Files {
    fn open(
        from: &Start,
        (folder, existing): (&Path, Existing),
        tell: Listener<'_>,
    ) -> Result<Self> {
        let inputs: Vec<&Path> = [&from.model, &from.data.train]
            .into_iter()
            .chain(&from.data.second)
            .map(PathBuf::as_path)
            .collect();
        let mut open = |name: &str, content| {
            Output::create(&folder.join(name), content, &inputs, existing, tell)
        };
        Ok(Self([
            open("front.csv", Content::Other)?,
            open("front.md", Content::Other)?,
            open("front.svg", Content::Chart)?,
            open("run.toml", Content::Other)?,
        ]))
    }
}

fn search_into(
    from: &Start,
    a: &Searching,
    (output, existing): (&Path, Existing),
    tell: Listener<'_>,
) -> Result<String> {
    let files = Files::open(from, (output, existing), tell)?;
    let mut degrees = a.degrees.clone();
    degrees.sort_unstable();
    degrees.dedup();
    if degrees.first().is_none_or(|&d| d < 2) || degrees.last().is_none_or(|&d| d > 255) {
        return Err("degrees from 2 to 255 are needed, for example 2, 4, 7 and 15".into());
    }
    let original = &from.original()?;
    let from = &Start {
        data: original.normalised(from.data.clone(), tell),
        ..from.clone()
    };
    let mut sources = Sources::open(&from.data, None)?;
    let basis = a.machine.basis(Probing::AsItIs)?;
    let bytes = a.budgets.iter().filter_map(|b| match *b {
        Budget::Bytes(most) => Some(most),
        _ => None,
    });
    let mut target = a.machine.target(bytes.min());
    let bootstraps = |b: &Budget| matches!(b, Budget::Bootstraps(_));
    if a.budgets.iter().any(bootstraps) {
        // in coefficients every activation takes one, whatever its degree
        target.layers = Layers::Slots;
    }
    let (graph, metadata) = original.network.clone();
    let mut model = Model::new(graph, Parameterization::Plain)?;
    sources.adopt(&from.data, Some(&metadata))?;
    let how = Substitution {
        degree: Degrees::One(2),
        order: Order::All,
        margin: 0.1,
        interval: None,
        floor: 0.02,
        pictures: 2000,
    };
    let bench = Bench::new(&mut model, &sources, &how, a.pictures, 50)?;
    tell.note(format_args!(
        "measuring {} activations at degrees {degrees:?} on {} pictures",
        model.units().count(),
        a.pictures
    ));
    let sensitivity = bench.measure(&mut model, &how, &degrees, &mut |done, all| {
        tell.count("measured", done, all);
    })?;
    let graph = model.template().clone();
    let tensors = sources.examples(RANGED)?;
    let ranges = nn::calibrate::calibrate(
        &graph,
        &Approximations::default(),
        tensors.into_par_iter().map(Ok),
    )?
    .ranges;
    let highest = vec![sensitivity.degrees.len() - 1; sensitivity.names.len()];
    let base = network(&graph, &ranges, &sensitivity, &highest)?;
    let planner = Planner {
        outline: Outline::new(&base, &sensitivity.polynomials, &target)?,
        graph: &graph,
        ranges,
        sensitivity: &sensitivity,
        target,
        basis,
        threads: a.run_threads,
        known: Mutex::default(),
    };
    let candidates = train::search::candidates(&planner, &sensitivity)?;
    let front = train::search::front(&candidates);
    tell.note(format_args!(
        "{} networks to choose from, {} on the front",
        candidates.len(),
        front.len()
    ));
    let (chosen, cost) = train::search::pick(&planner, &sensitivity, &candidates, &a.budgets)?;
    let chosen_degrees = sensitivity.degrees_of(&chosen.choice);
    let found = format!(
        "{}: degrees {chosen_degrees:?}, {cost} predicted, sum of divergences {:.4}",
        a.budget(),
        chosen.divergence
    );
    tell.note(&found);
    let mut shown = train::search::thinned(&front, a.points);
    if !shown.contains(&chosen) {
        shown.push(chosen.clone());
        shown.sort_by(|a, b| a.cpu_seconds.total_cmp(&b.cpu_seconds));
    }
    let costs: Vec<Cost> = shown
        .par_iter()
        .map(|p| planner.exact(&p.choice))
        .collect::<train::Result<_>>()?;
    let mut rows = Vec::new();
    for (point, cost) in shown.into_iter().zip(costs) {
        let whole = bench.whole(&mut model, &sources, &sensitivity, &point.choice)?;
        rows.push(Row {
            chosen: point == chosen,
            point,
            cost,
            whole,
        });
    }
    let name = match metadata.name.is_empty() {
        true => crate::files::name(&from.model),
        false => metadata.name,
    };
    let config = fine_tuning((original, from), a, &chosen_degrees, tell);
    write(files, a, (&name, &degrees), (&rows, &sensitivity), &config)?;
    tell.note(format_args!(
        "wrote front.csv, front.md, front.svg and run.toml in {}",
        output.display()
    ));
    if a.fine_tune.is_some() {
        direct::<Sources>(
            (&config, None),
            "pictures",
            Place {
                folder: Some(&output.join("run")),
                config: None,
            },
            &Saving {
                existing,
                ..Saving::default()
            },
            tell,
        )?;
    }
    Ok(found)
}

/// Writes what was found.
fn write(
    Files([csv, markdown, svg, toml]): Files,
    a: &Searching,
    (name, degrees): (&str, &[usize]),
    (rows, sensitivity): (&[Row], &Sensitivity),
    config: &Config,
) -> Result<()> {
    let degrees: Vec<String> = degrees.iter().map(usize::to_string).collect();
    let what = format!(
        "{name}, budget {}, degrees {}",
        a.budget(),
        degrees.join(",")
    );
    let title = format!("{name} before fine-tuning (labels: bootstraps)");
    csv.write_bytes(report::csv(rows, sensitivity).as_bytes())?;
    markdown.write_bytes(report::markdown(rows, sensitivity).as_bytes())?;
    svg.write_bytes(report::chart(rows, &title, &what)?.as_bytes())?;
    toml.write_bytes(config.to_toml()?.as_bytes())
}

/// The schedule of adaptation for the median degree.
fn fine_tuning(
    (original, from): (&Original, &Start),
    a: &Searching,
    degrees: &[usize],
    tell: Listener<'_>,
) -> Config {
    let mut sorted = degrees.to_vec();
    sorted.sort_unstable();
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or(2);
    let mut stages = schedule(median, a.fine_tune, None, from.data.second.is_some());
    for stage in &mut stages {
        stage.name = "mixed-degrees".into();
        if let Some(s) = &mut stage.substitution {
            s.degree = Degrees::Each(degrees.to_vec());
        }
    }
    original.config((from.seed, from.data.clone()), stages, tell)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_seconds_bootstraps_or_memory() {
        assert_eq!(budget("60s"), Ok(Budget::Seconds(60.0)));
        assert_eq!(budget("1.5 min"), Ok(Budget::Seconds(90.0)));
        assert_eq!(budget("6bootstraps"), Ok(Budget::Bootstraps(6)));
        assert_eq!(budget("1 bootstrap"), Ok(Budget::Bootstraps(1)));
        assert_eq!(budget("5GB"), Ok(Budget::Bytes(5_000_000_000)));
        for bad in ["60", "", "s", "0s", "6.5bootstraps", "5 parsecs", "-3s"] {
            let message = budget(bad).expect_err(bad);
            assert!(
                message.contains("60s, 2min, 6bootstraps or 5GB"),
                "{message}"
            );
        }
    }
}

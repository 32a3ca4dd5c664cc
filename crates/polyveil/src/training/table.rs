//! `polyveil-train table`: networks side by side, accuracy and price.

use super::price::{Price, price};
use super::run::{Judged, judge, paired_interval, wilson};
use crate::Result;
use clap::Args;
use nn::PolyGraph;
use std::fmt::Write;
use std::path::PathBuf;

/// Options of `table`.
#[derive(Args, Debug)]
pub struct TableArgs {
    /// NAME=FILE of each network; accuracy is compared with the first.
    #[arg(required = true, num_args = 1.., value_name = "NAME=FILE", value_parser = named)]
    models: Vec<(String, PathBuf)>,
    /// Activation of networks whose files do not say.
    #[arg(long, value_name = "NAME")]
    activation: Option<String>,
    /// Labelled pictures that neither training nor a choice has seen.
    #[arg(long, value_name = "DATA")]
    data: PathBuf,
    /// NAME=FILE of encrypted results (`polyveil evaluate -o FILE`) of one of the networks.
    #[arg(long, value_name = "NAME=FILE", value_parser = named)]
    measured: Vec<(String, PathBuf)>,
    /// Writes Markdown there instead of stdout.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn named(text: &str) -> std::result::Result<(String, PathBuf), String> {
    let (name, path) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is not NAME=FILE"))?;
    Ok((name.into(), path.into()))
}

pub fn table(a: &TableArgs) -> Result<()> {
    let (set, _) = data::Dataset::open(&a.data, &data::Options::default())?;
    let mut text = format!(
        "{} pictures of `{}`. Accuracy in f64 without any guard, with Wilson's 95 % interval; gained and lost pictures against the first row, with a 95 % interval of the difference in points. \
         Levels are those of the activations. Predicted: shipped cost table, two threads.\n\n\
         | network | right | accuracy, % | gained, lost | difference, points | values outside, pictures | degrees | levels | bootstraps | predicted CPU s | predicted s | predicted GB | measured s (CPU s), pictures |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
        set.len(),
        a.data
            .file_name()
            .map_or_else(String::new, |n| n.to_string_lossy().into_owned()),
    );
    let mut first: Option<Vec<bool>> = None;
    for (name, path) in &a.models {
        let activation = a.activation.as_deref().and_then(approx::Activation::named);
        let (graph, metadata) = zoo::open(path, &zoo::Options { activation })
            .and_then(zoo::Model::graph)
            .map_err(|e| format!("{}: {e}", path.display()))?;
        let Judged {
            right,
            outside,
            pictures,
            ..
        } = judge(&graph, &metadata, &set)?;
        let count = right.iter().filter(|&&r| r).count();
        let (low, high) = wilson(count, right.len());
        let paired = match &first {
            None => "| – | –".into(),
            Some(f) => {
                let gained = right.iter().zip(f).filter(|&(&r, &f)| r && !f).count();
                let lost = right.iter().zip(f).filter(|&(&r, &f)| !r && f).count();
                let (low, high) = paired_interval(gained, lost, right.len());
                let d = 100.0 * (gained as f64 - lost as f64) / right.len() as f64;
                format!("| {gained}, {lost} | {d:+.1} [{low:+.1}, {high:+.1}]")
            }
        };
        let polynomial = match nn::format::artefact::load(path, nn::format::DEFAULT_LIMIT) {
            Ok(g) => Some(g),
            Err(_) => PolyGraph::try_from(graph)
                .ok()
                .filter(|g| g.ranges().is_some()),
        };
        let cost = polynomial.as_ref().map(price).transpose()?;
        let measured = a
            .measured
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, p)| measured(p))
            .transpose()?;
        let _ = writeln!(
            text,
            "| {name} | {count} | {:.1} [{low:.1}, {high:.1}] {paired} | {outside}, {pictures} | {} | {} |",
            100.0 * count as f64 / right.len() as f64,
            polynomial.as_ref().map_or_else(|| "–".into(), degrees),
            columns(cost.as_ref(), measured.as_deref())
        );
        first.get_or_insert(right);
    }
    match &a.output {
        None => print!("{text}"),
        Some(path) => std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))?,
    }
    Ok(())
}

/// "4" where all degrees are equal, "2–15" otherwise.
fn degrees(graph: &PolyGraph) -> String {
    let all: Vec<usize> = graph.polynomials().map(|(_, p)| p.degree()).collect();
    match (all.iter().min(), all.iter().max()) {
        (Some(a), Some(b)) if a == b => a.to_string(),
        (Some(a), Some(b)) => format!("{a}–{b}"),
        _ => "–".into(),
    }
}

fn columns(cost: Option<&Price>, measured: Option<&str>) -> String {
    let measured = measured.unwrap_or("–");
    match cost {
        None => format!("– | – | – | – | – | {measured}"),
        Some(p) => format!(
            "{} | {} | {:.0} | {:.0} | {:.2} | {measured}",
            p.levels,
            p.bootstraps,
            p.cpu_seconds,
            p.seconds,
            p.peak_bytes as f64 / 1e9
        ),
    }
}

/// Medians of a file of encrypted results.
fn measured(path: &std::path::Path) -> Result<String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let (mut wall, mut cpu, mut agree) = (Vec::new(), Vec::new(), 0);
    for line in text.lines().filter(|l| !l.is_empty()) {
        let v: serde_json::Value =
            serde_json::from_str(line).map_err(|e| format!("{}: {e}", path.display()))?;
        // a line of another kind: the prediction, or a picture that was left out
        if v.get("seconds").is_none() {
            continue;
        }
        let number = |k: &str| {
            v.get(k)
                .and_then(serde_json::Value::as_f64)
                .ok_or_else(|| format!("{}: no {k}", path.display()))
        };
        wall.push(number("seconds")?);
        cpu.push(number("cpu_seconds")?);
        agree += usize::from(v.get("class") == v.get("clear_class"));
    }
    if wall.is_empty() {
        return Err(format!("{}: no results in it", path.display()).into());
    }
    let median = |v: &mut Vec<f64>| {
        v.sort_by(f64::total_cmp);
        v[v.len() / 2]
    };
    let n = wall.len();
    Ok(format!(
        "{:.0} ({:.0}), {agree} of {n} classes as in clear",
        median(&mut wall),
        median(&mut cpu)
    ))
}

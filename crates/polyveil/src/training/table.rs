//! Networks side by side: accuracy and price.

use super::price::{levels, price};
use super::score::{difference, judge, paired, wilson};
use crate::error::{Result, named};
use crate::files::name;
use crate::inputs::{Inputs, Source};
use crate::markdown::{Table, interval, or_none};
use crate::network::task_of;
use cost::workload::median;
use nn::PolyGraph;
use std::path::{Path, PathBuf};
use train::search::Cost;

/// A name and a file.
pub type Named = (String, PathBuf);

/// Networks on labelled pictures that neither training nor a choice has seen, compared with the first, as Markdown: accuracy, degrees, levels,
/// bootstraps, predicted latency, and measured where there are results of an evaluation. `activation` is that of networks whose files do not
/// say.
///
/// # Errors
/// Networks, pictures and results that can't be read or do not fit.
pub fn table(
    models: &[Named],
    measured: &[Named],
    data: &Path,
    activation: Option<&str>,
) -> Result<String> {
    let source = Source::of(data);
    let (mut table, mut first, mut count_all) = (Table::default(), None::<Vec<bool>>, 0);
    for (name, path) in models {
        let activation = activation.and_then(approx::Activation::named);
        let (graph, metadata) = zoo::open(path, &activation.into())
            .and_then(zoo::Model::graph)
            .map_err(named(path))?;
        let task = task_of(&metadata, graph.input().shape(), graph.output().shape());
        let task = task.map_err(named(path))?;
        let outputs = graph.output().shape().len();
        let inputs = Inputs::labelled(&task, &source, Some(outputs))?;
        let judged = judge(&inputs, |x| graph.evaluate(x)).map_err(named(path))?;
        count_all = inputs.len();
        let (count, all) = (judged.count(), judged.right.len());
        let pair = first.as_ref().map(|f| paired(&judged.right, f));
        let polynomial = match nn::format::artefact::load(path, nn::format::DEFAULT_LIMIT) {
            Ok(g) => Some(g),
            Err(_) => PolyGraph::try_from(graph)
                .ok()
                .filter(|g| g.ranges().is_some()),
        };
        let cost = polynomial.as_ref().map(price).transpose()?;
        let levels = polynomial.as_ref().map(levels).transpose()?;
        let of = |cell: fn(&Cost) -> String| or_none(cost.as_ref().map(cell));
        let results = measured.iter().find(|(n, _)| n == name);
        let results = results.map(|(_, path)| medians(path)).transpose()?;
        let (share, ends) = (100.0 * count as f64 / all as f64, wilson(count, all));
        let outside = format!("{}, {}", judged.outside, judged.inputs_outside);
        let peak = of(|p| format!("{:.2}", p.bytes as f64 / 1e9));
        table.row([
            ("network", name.clone()),
            ("right", count.to_string()),
            ("accuracy, %", format!("{share:.1} {}", interval(ends))),
            (
                "gained, lost: points",
                or_none(pair.map(|p| difference(p, all))),
            ),
            ("values outside, pictures", outside),
            ("degrees", or_none(polynomial.as_ref().map(degrees))),
            ("levels", or_none(levels)),
            ("bootstraps", of(|p| p.bootstraps.to_string())),
            ("predicted CPU s", of(|p| format!("{:.0}", p.cpu_seconds))),
            ("predicted s", of(|p| format!("{:.0}", p.seconds))),
            ("predicted GB", peak),
            ("measured s (CPU s), pictures", or_none(results)),
        ]);
        first.get_or_insert(judged.right);
    }
    Ok(format!(
        "{} pictures of `{}`. Accuracy in f64 without any guard, with Wilson's 95 % interval; gained and lost pictures against the first row, with a 95 % interval of the difference in points. \
         Levels are those of the activations. Predicted: shipped cost table, two threads.\n\n{table}",
        count_all,
        name(data)
    ))
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

/// More than any evaluation writes.
const LIMIT: u64 = 1 << 30;

/// Medians of a file of encrypted results.
///
/// # Errors
/// A file of anything else.
pub fn medians(path: &Path) -> Result<String> {
    let text = String::from_utf8(crate::files::read(path, LIMIT)?);
    let text = text.map_err(|e| named(path)(e.to_string()))?;
    let (mut wall, mut cpu, mut agree) = (Vec::new(), Vec::new(), 0);
    for line in text.lines().filter(|l| !l.is_empty()) {
        let v: serde_json::Value =
            serde_json::from_str(line).map_err(|e| named(path)(e.to_string()))?;
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
        let same = |own: &str, clear: &str| v.get(own) == v.get(clear);
        agree += usize::from(same("class", "clear_class") && same("labels", "clear_labels"));
    }
    if wall.is_empty() {
        return Err(format!("{}: no results in it", path.display()).into());
    }
    let (n, wall, cpu) = (
        wall.len(),
        median(wall.into_iter()),
        median(cpu.into_iter()),
    );
    Ok(format!(
        "{wall:.0} ({cpu:.0}), {agree} of {n} answers as in clear"
    ))
}

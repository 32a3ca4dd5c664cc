//! How well networks classify labelled inputs, in f64 and without any guard: each against the first, paired.

use crate::calibrate::{End, Meaning, with_outputs};
use crate::error::{Error, Help, Result, named};
use crate::inputs::{Inputs, Source};
use crate::markdown::{Table, interval, or_none};
use crate::normalization::Foreign;
use crate::progress::{Listener, Say};
use approx::Activation;
use nn::Tensor;
use nn::evaluate::Evaluation;
use rayon::prelude::*;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use task::{Stated, Task};
use train::score::Errors;
use zoo::encoder::Start;
use zoo::trained::TrainedEncoder;

/// A network's score.
#[derive(Debug, Clone)]
pub struct Scored {
    model: String,
    /// What inputs are.
    noun: &'static str,
    judged: Judged,
    /// Gained and lost against the first.
    paired: Option<(usize, usize)>,
    finding: Option<Finding>,
    labels: Vec<String>,
}

/// All scores; as lines of text.
#[derive(Debug, Clone)]
pub struct Scores(Vec<Scored>);

/// Scores networks on labelled inputs: pictures or rows, or sentences where they are folders of runs on sentences; `activation` and what is
/// `stated` of a normalisation are those of networks whose files do not say.
///
/// # Errors
/// Networks and data that can't be read or do not fit each other.
pub fn score(
    models: &[PathBuf],
    source: &Source,
    activation: Option<&str>,
    stated: &Stated,
    tell: Listener<'_>,
) -> Result<Scores> {
    let activation = activation.map(train::networks::activation).transpose()?;
    let labels = match models {
        [_] => None,
        models => labels_of(models, activation)?,
    };
    let mut rows: Vec<Scored> = Vec::new();
    let silent = Stated::default();
    for path in models {
        let model = zoo::open(path, &activation.into()).map_err(named(path))?;
        let (task, judged) = match model {
            zoo::Model::Encoder(_) => {
                if *stated != silent {
                    tell.note(format_args!(
                        "warning: {}: sentences are not normalised; what you say of that is not taken",
                        path.display()
                    ));
                }
                encoder(path, source)?
            }
            model => {
                let (graph, metadata) = model.graph().map_err(named(path))?;
                let said = metadata.task.as_ref().map_or(stated, |_| &silent);
                let foreign = Foreign::of(&graph, &metadata);
                // signals, and other numbers in a shape, are no pictures; nothing is measured on what is scored
                let measured = said.name.as_deref() == Some("measured");
                let rows = metadata.task.is_none() && !measured && source.is_rows(foreign.input);
                let rows = rows.then(|| source.rows(None, foreign.input));
                let rows = rows.transpose()?;
                let mut task = (foreign.task(said, rows.as_ref(), tell)).map_err(named(path))?;
                let unheard = metadata.task.is_some() && *stated != silent;
                if unheard && foreign.task(stated, None, &mut |_| {}).ok().as_ref() != Some(&task) {
                    tell.note(format_args!(
                        "warning: {}: its file says how inputs are normalised, and that is taken; what you say is for networks whose files do not",
                        path.display()
                    ));
                }
                if let (Some(names), None) = (&labels, &metadata.task) {
                    let names = names.clone();
                    let outputs = End::of(&graph).outputs(Meaning::Labels(names), foreign.output);
                    let outputs = outputs.map_err(named(path))?;
                    task = with_outputs(task, outputs).map_err(named(path))?;
                }
                let outputs = graph.output().shape().len();
                let inputs = Inputs::labelled(&task, source, Some(outputs))?;
                inputs.warn([0; 2], tell);
                let classes = inputs.names().len();
                if inputs.class(0).is_some()
                    && outputs > 1
                    && classes != outputs
                    && !inputs.matched()
                {
                    tell.note(format_args!(
                        "warning: the data have {classes} classes, {} has {outputs} outputs, the largest of which is taken for its class",
                        path.display()
                    ));
                }
                let judged = judge(&inputs, |x| graph.evaluate(x)).map_err(named(path))?;
                (task, judged)
            }
        };
        let first = rows.first().map(|f| &f.judged.right);
        rows.push(Scored {
            model: path.display().to_string(),
            noun: task.kind(),
            paired: first.map(|f| paired(&judged.right, f)),
            finding: finding(&judged),
            labels: task.outputs().map_or_else(Vec::new, |o| o.names().to_vec()),
            judged,
        });
    }
    Ok(Scores(rows))
}

/// The names of the labels that one of these networks gives: what others give that do not say it.
fn labels_of(models: &[PathBuf], activation: Option<Activation>) -> Result<Option<Vec<String>>> {
    for path in models {
        let model = zoo::open(path, &activation.into()).map_err(named(path))?;
        if let zoo::Model::Encoder(_) = model {
            continue;
        }
        let (_, metadata) = model.graph().map_err(named(path))?;
        let task = Task::of(&metadata).map_err(named(path))?;
        let outputs = task.as_ref().and_then(Task::outputs);
        if let Some(labels) = outputs.filter(|o| o.least().is_some()) {
            return Ok(Some(labels.names().to_vec()));
        }
    }
    Ok(None)
}

/// An encoder with what stands in place of functions where a run left it so.
fn encoder(path: &Path, source: &Source) -> Result<(Task, Judged)> {
    let trained = TrainedEncoder::load(path).map_err(named(path))?;
    let graph = trained.graph(Start::Normalized).map_err(named(path))?;
    let own = trained.run.approximations(&graph).map_err(named(path))?;
    let own = own.unwrap_or_default();
    let format = trained.format(Vec::new()).map_err(named(path))?;
    let task = Task::Sentences(format);
    let inputs = Inputs::open(&task, source)?;
    let judged = judge(&inputs, |x| graph.evaluate_with(&own, x))?;
    Ok((task, judged))
}

impl Scored {
    fn json(&self) -> Value {
        let j = &self.judged;
        let (right, all) = (j.count(), j.right.len());
        json!({
            "model": self.model, "right": right, self.noun: all, "interval_95": wilson(right, all),
            "gained": self.paired.map(|p| p.0), "lost": self.paired.map(|p| p.1),
            "values_outside": j.outside, format!("{}_outside", self.noun): j.inputs_outside, "cut": j.cut, "rmse": j.errors.iter().map(|e| e.rmse).collect::<Vec<_>>(), "r2": j.errors.iter().map(|e| e.r2).collect::<Vec<_>>(),
            "labels": self.judged.labels.iter().map(|l| json!({ "label": l.name, "right": l.right, "holds": l.holds, "found": l.found })).collect::<Vec<_>>(),
            "two_classes": self.finding.as_ref().map(|t| json!({ "auc": t.auc, "positive_right": t.positive.0, "positives": t.positive.1, "negative_right": t.negative.0, "negatives": t.negative.1 })),
        })
    }
}

impl Scores {
    /// As JSON objects.
    pub fn json(&self) -> Vec<Value> {
        self.0.iter().map(Scored::json).collect()
    }
}

impl std::fmt::Display for Scores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (mut table, mut two) = (Table::default(), String::new());
        for s in &self.0 {
            let (right, all) = (s.judged.count(), s.judged.right.len());
            let cut = match s.judged.cut {
                0 => String::new(),
                cut => format!(" ({cut} cut)"),
            };
            let paired = or_none(s.paired.map(|p| difference(p, all)));
            let outside = format!("{}, {}", s.judged.outside, s.judged.inputs_outside);
            table.row([
                ("network", format!("{}{cut}", s.model)),
                ("right", format!("{right} of {all}")),
                ("accuracy, 95 %", share(right, all)),
                ("gained, lost against the first", paired),
                ("values outside an interval, inputs", outside),
            ]);
            if !s.judged.labels.is_empty() {
                let (labels, noun) = (s.judged.labels.len(), s.noun);
                let _ = writeln!(
                    two,
                    "{}: right are {noun} of which all {labels} labels are",
                    s.model
                );
            }
            for l in &s.judged.labels {
                let _ = writeln!(
                    two,
                    "{}: {} right on {} of {all}, {}; it holds for {}, found in {} of these",
                    s.model,
                    l.name,
                    l.right,
                    share(l.right, all),
                    l.holds,
                    l.found
                );
            }
            for e in &s.judged.errors {
                let _ = writeln!(two, "{}: RMSE {:.4}, R² {:.4}", s.model, e.rmse, e.r2);
            }
            if let Some(t) = &s.finding {
                let part = |(right, all): (usize, usize), what: &str, class: usize| {
                    let label = s
                        .labels
                        .get(class)
                        .cloned()
                        .unwrap_or_else(|| class.to_string());
                    let share = share(right, all);
                    format!("{what} ({label}) {right} of {all}, {share}")
                };
                let _ = writeln!(
                    two,
                    "{}: area under the ROC curve {:.4}; {}; {}",
                    s.model,
                    t.auc,
                    part(t.positive, "sensitivity", 1),
                    part(t.negative, "specificity", 0)
                );
            }
        }
        write!(f, "{table}{two}")
    }
}

fn share(right: usize, all: usize) -> String {
    let share = 100.0 * right as f64 / all as f64;
    format!("{share:.1} % {}", interval(wilson(right, all)))
}

/// Gained and lost, and the difference in points.
pub(super) fn difference((gained, lost): (usize, usize), all: usize) -> String {
    let points = 100.0 * (gained as f64 - lost as f64) / all as f64;
    let interval = interval_signed(paired_interval(gained, lost, all));
    format!("{gained}, {lost}: {points:+.1} {interval}")
}

fn interval_signed((low, high): (f64, f64)) -> String {
    format!("[{low:+.1}, {high:+.1}]")
}

/// How many are right that were wrong in the first, and the other way round.
pub(super) fn paired(right: &[bool], first: &[bool]) -> (usize, usize) {
    let count = |a: &[bool], b: &[bool]| a.iter().zip(b).filter(|&(&a, &b)| a && !b).count();
    (count(right, first), count(first, right))
}

/// What a network does with labelled inputs, in f64.
#[derive(Debug, Clone, Default)]
pub(super) struct Judged {
    /// Which are classified rightly, of several labels all; of rows with numbers to predict none.
    pub(super) right: Vec<bool>,
    /// The classes.
    classes: Vec<usize>,
    /// How far the second of two classes is ahead of the first; empty for other numbers of classes.
    margins: Vec<f64>,
    /// Values outside of intervals.
    pub(super) outside: u64,
    /// Inputs that have such values.
    pub(super) inputs_outside: usize,
    /// Texts that were cut.
    cut: usize,
    /// Of each number to predict.
    errors: Vec<Errors>,
    /// Of each label that holds or does not.
    labels: Vec<Label>,
}

/// How a network does on one of several labels.
#[derive(Debug, Clone, Default)]
struct Label {
    name: String,
    /// Inputs on which it is right.
    right: usize,
    /// Inputs for which it holds.
    holds: usize,
    /// Those of these that are right.
    found: usize,
}

impl Judged {
    /// How many are right.
    pub(super) fn count(&self) -> usize {
        self.right.iter().filter(|&&r| r).count()
    }
}

/// Judges a network on inputs.
pub(super) fn judge(
    inputs: &Inputs<'_>,
    network: impl Fn(&Tensor) -> nn::Result<Evaluation> + Sync,
) -> Result<Judged> {
    let each: Vec<(Evaluation, bool)> = (0..inputs.len())
        .into_par_iter()
        .map(|i| {
            let encoded = inputs.encode(i)?;
            let cut = encoded.tokens.is_some_and(|t| t.1);
            Ok((network(&encoded.tensor)?, cut))
        })
        .collect::<Result<_>>()?;
    let labels = inputs.outputs().filter(|o| o.least().is_some());
    let mut out = Judged::default();
    match (labels, inputs.holding(0)) {
        (Some(labels), Some(first)) => {
            let named = |i| Label {
                name: labels.name(i),
                ..Label::default()
            };
            out.labels = (0..first.len()).map(named).collect();
        }
        (Some(_), None) if inputs.class(0).is_none() => {
            return Err(Error::refused(
                "the network gives labels, each of which holds or does not, and nothing says which of them do",
                Help::NameLabels,
            ));
        }
        _ => {}
    }
    let (mut predicted, mut targets, mut width) = (Vec::new(), Vec::new(), 0);
    for (i, (e, cut)) in each.iter().enumerate() {
        let outside: u64 = e.outside.iter().map(|o| o.count as u64).sum();
        out.outside += outside;
        out.inputs_outside += usize::from(outside > 0);
        out.cut += usize::from(*cut);
        if let (Some(right), Some(labels)) = (inputs.holding(i), labels) {
            let had = labels.holding(e.output.values()).unwrap_or_default();
            for ((label, &right), &had) in out.labels.iter_mut().zip(right).zip(&had) {
                label.right += usize::from(had == right);
                label.holds += usize::from(right);
                label.found += usize::from(right && had);
            }
            out.right.push(had == right);
            continue;
        }
        if let Some(class) = inputs.class(i) {
            let classes = e.output.values().len();
            if class >= classes {
                let outputs = classes;
                let classes = class + 1;
                return Err(train::Error::Classes { outputs, classes }.into());
            }
            out.right.push(e.output.argmax() == class);
            out.classes.push(class);
            if let [first, second] = e.output.values() {
                out.margins.push(second - first);
            }
        }
        for (value, target) in e.output.values().iter().zip(inputs.target(i)) {
            predicted.push(*value);
            targets.push(*target);
        }
        width = inputs.target(i).len();
    }
    out.errors = Errors::of(&predicted, &targets, width);
    if out.right.is_empty() && out.errors.is_empty() {
        return Err("the data do not say which answers are right: name their classes, or the numbers that are to be predicted".into());
    }
    Ok(out)
}

/// What tests of two classes are judged by, the second class being the finding (a disease).
#[derive(Debug, Clone, Default)]
struct Finding {
    /// Of pictures with the finding: found, all.
    positive: (usize, usize),
    /// Of the others: cleared, all.
    negative: (usize, usize),
    /// Area under the receiver operating characteristic: the share of pairs, one picture of each class, in which the one with the
    /// finding is ahead; ties count half.
    auc: f64,
}

/// None unless there are two classes and pictures of both.
fn finding(judged: &Judged) -> Option<Finding> {
    let mut found = Finding::default();
    let mut order: Vec<usize> = (0..judged.margins.len()).collect();
    order.sort_by(|&a, &b| judged.margins[a].total_cmp(&judged.margins[b]));
    let mut pairs = 0.0;
    for ties in order.chunk_by(|&a, &b| judged.margins[a] == judged.margins[b]) {
        let positive = ties.iter().filter(|&&i| judged.classes[i] == 1).count();
        let negative = ties.len() - positive;
        pairs += positive as f64 * (found.negative.1 as f64 + negative as f64 / 2.0);
        let right = |class: usize| {
            ties.iter()
                .filter(|&&i| judged.classes[i] == class && judged.right[i])
                .count()
        };
        found.positive = (found.positive.0 + right(1), found.positive.1 + positive);
        found.negative = (found.negative.0 + right(0), found.negative.1 + negative);
    }
    let all = (found.positive.1 * found.negative.1) as f64;
    found.auc = pairs / all;
    (all > 0.0).then_some(found)
}

/// Wilson's 95 % interval of a share, in per cent.
pub(super) fn wilson(right: usize, of: usize) -> (f64, f64) {
    let (n, z) = (of.max(1) as f64, 1.96);
    let p = right as f64 / n;
    let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    (100.0 * (centre - half), 100.0 * (centre + half))
}

/// The 95 % interval of a paired difference of shares, in points (normal approximation).
pub(super) fn paired_interval(gained: usize, lost: usize, of: usize) -> (f64, f64) {
    let (g, l, n) = (gained as f64, lost as f64, of.max(1) as f64);
    let d = (g - l) / n;
    let half = 1.96 * ((g + l - (g - l).powi(2) / n).max(0.0)).sqrt() / n;
    (100.0 * (d - half), 100.0 * (d + half))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_under_the_curve_counts_pairs() {
        let labels = [1, 0, 1, 0, 0];
        // of six pairs four are in order and one is a tie
        let margins = vec![2.0, -1.0, 0.5, 0.5, 1.0];
        let right = margins
            .iter()
            .zip(labels)
            .map(|(&m, l)| (m > 0.0) == (l == 1))
            .collect();
        let judged = Judged {
            right,
            margins,
            classes: labels.to_vec(),
            ..Judged::default()
        };
        let f = finding(&judged).expect("two classes");
        assert_eq!((f.positive, f.negative), ((2, 2), (1, 3)));
        assert!((f.auc - 4.5 / 6.0).abs() < 1e-12, "{}", f.auc);
        let judged = Judged {
            right: vec![true; 2],
            margins: vec![1.0; 2],
            classes: vec![1; 2],
            ..Judged::default()
        };
        assert!(finding(&judged).is_none());
    }
}

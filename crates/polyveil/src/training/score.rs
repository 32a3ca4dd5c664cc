//! How well networks classify labelled inputs, in f64 and without any guard: each against the first, paired.

use crate::error::{Result, named};
use crate::evaluate::Excess;
use crate::markdown::{Table, interval, or_none};
use data::{Dataset, Sentences};
use nn::Metadata;
use rayon::prelude::*;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use zoo::encoder::Start;
use zoo::sentences::Trained;

/// What networks are scored on.
#[derive(Debug, Clone)]
pub enum Labelled {
    /// Labelled pictures, of which part.
    Pictures(PathBuf, Option<data::Split>),
    /// Labelled sentences; the networks are folders of runs on sentences.
    Sentences(PathBuf, Excess),
}

/// A network's score.
#[derive(Debug, Clone)]
pub struct Scored {
    model: String,
    judged: Judged,
    /// Gained and lost against the first.
    paired: Option<(usize, usize)>,
    finding: Option<Finding>,
    labels: Vec<String>,
    cut: Option<usize>,
}

/// All scores; as lines of text.
#[derive(Debug, Clone)]
pub struct Scores(Vec<Scored>);

/// Scores networks; `activation` is that of networks whose files do not say.
///
/// # Errors
/// Networks and data that can't be read or do not fit each other.
pub fn score(models: &[PathBuf], set: &Labelled, activation: Option<&str>) -> Result<Scores> {
    let mut rows: Vec<Scored> = Vec::new();
    let mut add = |model: &Path, mut scored: Scored| {
        scored.model = model.display().to_string();
        let first = rows.first().map(|f| &f.judged.right);
        scored.paired = first.map(|f| paired(&scored.judged.right, f));
        rows.push(scored);
    };
    match set {
        Labelled::Pictures(path, split) => {
            let options = data::Options {
                split: *split,
                ..data::Options::default()
            };
            let (set, _) = Dataset::open(path, &options)?;
            let activation = activation.map(train::networks::activation).transpose()?;
            for model in models {
                let (graph, metadata) = zoo::open(model, &zoo::Options { activation })
                    .and_then(zoo::Model::graph)
                    .map_err(named(model))?;
                let judged = judge(&graph, &metadata, &set).map_err(named(model))?;
                let task = task::Task::of(&metadata).map_err(named(model))?;
                let labels = task.as_ref().and_then(task::Task::outputs);
                let labels = labels.map_or(&[][..], task::Outputs::names);
                let label = |c: usize| labels.get(c).unwrap_or(&set.classes()[c]).clone();
                let scored = Scored {
                    finding: finding(&judged, &set),
                    labels: (0..set.classes().len()).map(label).collect(),
                    ..Scored::of(judged)
                };
                add(model, scored);
            }
        }
        Labelled::Sentences(path, excess) => {
            for model in models {
                add(model, sentences(model, path, *excess)?);
            }
        }
    }
    Ok(Scores(rows))
}

impl Scored {
    fn of(judged: Judged) -> Self {
        Self {
            model: String::new(),
            judged,
            paired: None,
            finding: None,
            labels: Vec::new(),
            cut: None,
        }
    }

    fn json(&self) -> Value {
        let j = &self.judged;
        let (right, all) = (j.count(), j.right.len());
        let mut row = json!({
            "model": self.model, "right": right, "interval_95": wilson(right, all), "gained": self.paired.map(|p| p.0), "lost": self.paired.map(|p| p.1),
        });
        match self.cut {
            Some(cut) => {
                row["sentences"] = all.into();
                row["sentences_outside"] = j.pictures.into();
                row["cut"] = cut.into();
            }
            None => {
                row["pictures"] = all.into();
                row["values_outside"] = j.outside.into();
                row["pictures_outside"] = j.pictures.into();
                row["two_classes"] = json!(self.finding.as_ref().map(|t| json!({ "auc": t.auc, "positive_right": t.positive.0, "positives": t.positive.1, "negative_right": t.negative.0, "negatives": t.negative.1 })));
            }
        }
        row
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
        let mut table = Table::new(&[
            "network",
            "right",
            "accuracy, 95 %",
            "gained, lost against the first",
            "values outside an interval, inputs",
        ]);
        let mut two = String::new();
        for s in &self.0 {
            let (right, all) = (s.judged.count(), s.judged.right.len());
            let cut = match s.cut {
                Some(cut @ 1..) => format!(" ({cut} sentences cut)"),
                _ => String::new(),
            };
            table.row([
                format!("{}{cut}", s.model),
                format!("{right} of {all}"),
                share(right, all),
                or_none(s.paired.map(|p| difference(p, all))),
                format!("{}, {}", s.judged.outside, s.judged.pictures),
            ]);
            if let Some(t) = &s.finding {
                let part = |(right, all): (usize, usize), what: &str, class: usize| {
                    let (label, share) = (&s.labels[class], share(right, all));
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

/// An encoder on labelled sentences, with what stands in place of functions where a run left it so.
fn sentences(model: &Path, path: &Path, excess: Excess) -> Result<Scored> {
    let trained = Trained::load(model).map_err(named(model))?;
    let labels = trained.labels().map_err(named(model))?.to_vec();
    let set = Sentences::open(path, Some(labels.len()))?;
    let length = trained.length;
    let graph = trained.graph(Start::Normalized).map_err(named(model))?;
    let pieces = trained.pieces(&graph).map_err(named(model))?;
    let judged: Vec<(bool, u64, bool)> = set
        .lines()
        .par_iter()
        .enumerate()
        .map(|(i, (text, label))| -> Result<_> {
            let place = format!("{}: sentence {}", path.display(), i + 1);
            let (tokens, cut) = (trained.tokenizer)
                .within(text, length, excess.into())
                .map_err(named(Path::new(&place)))?;
            let x = trained
                .encoder
                .input(&tokens, &[], length, Start::Normalized)?;
            let e = graph.evaluate_with(&pieces, &x)?;
            let outside = e.outside.iter().map(|o| o.count as u64).sum();
            Ok((e.output.argmax() == *label, outside, cut))
        })
        .collect::<Result<_>>()?;
    Ok(Scored {
        cut: Some(judged.iter().filter(|j| j.2).count()),
        ..Scored::of(Judged {
            right: judged.iter().map(|j| j.0).collect(),
            margins: Vec::new(),
            outside: judged.iter().map(|j| j.1).sum(),
            pictures: judged.iter().filter(|j| j.1 > 0).count(),
        })
    })
}

/// What a network does with labelled pictures, in f64.
#[derive(Debug, Clone)]
pub(super) struct Judged {
    /// Which are classified rightly.
    pub(super) right: Vec<bool>,
    /// How far the second of two classes is ahead of the first; empty for other numbers of classes.
    margins: Vec<f64>,
    /// Values outside of intervals.
    pub(super) outside: u64,
    /// In how many pictures.
    pub(super) pictures: usize,
}

impl Judged {
    /// How many are right.
    pub(super) fn count(&self) -> usize {
        self.right.iter().filter(|&&r| r).count()
    }
}

pub(super) fn judge(graph: &nn::Graph, metadata: &Metadata, set: &Dataset) -> Result<Judged> {
    let task = crate::network::task_of(metadata, graph.input().shape(), graph.output().shape())?;
    let normalization = crate::network::pictures(&task)?.normalization();
    let classes = graph.output().shape().len();
    if classes != set.classes().len() {
        return Err(train::Error::Classes {
            outputs: classes,
            classes: set.classes().len(),
        }
        .into());
    }
    let results: Vec<(bool, Option<f64>, u64)> = (0..set.len())
        .into_par_iter()
        .map(|i| -> Result<_> {
            let e = graph.evaluate(&set.tensor(i, normalization)?)?;
            let outside = e.outside.iter().map(|o| o.count as u64).sum();
            let margin = match e.output.values() {
                [first, second] => Some(second - first),
                _ => None,
            };
            Ok((e.output.argmax() == set.label(i), margin, outside))
        })
        .collect::<Result<_>>()?;
    Ok(Judged {
        right: results.iter().map(|r| r.0).collect(),
        margins: results.iter().filter_map(|r| r.1).collect(),
        outside: results.iter().map(|r| r.2).sum(),
        pictures: results.iter().filter(|r| r.2 > 0).count(),
    })
}

/// What tests of two classes are judged by, the second class being the finding (a disease).
#[derive(Debug, Clone)]
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
fn finding(judged: &Judged, set: &Dataset) -> Option<Finding> {
    let mut found = Finding {
        positive: (0, 0),
        negative: (0, 0),
        auc: 0.0,
    };
    let mut order: Vec<usize> = (0..judged.margins.len()).collect();
    order.sort_by(|&a, &b| judged.margins[a].total_cmp(&judged.margins[b]));
    let mut pairs = 0.0;
    for ties in order.chunk_by(|&a, &b| judged.margins[a] == judged.margins[b]) {
        let positive = ties.iter().filter(|&&i| set.label(i) == 1).count();
        let negative = ties.len() - positive;
        pairs += positive as f64 * (found.negative.1 as f64 + negative as f64 / 2.0);
        let right = |class: usize| {
            ties.iter()
                .filter(|&&i| set.label(i) == class && judged.right[i])
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
        let shape = data::Shape {
            height: 1,
            width: 1,
            channels: 1,
        };
        let labels = [1, 0, 1, 0, 0];
        let classes = vec!["no".into(), "yes".into()];
        let set = data::Dataset::from_pixels(shape, classes, vec![0; 5], &labels).expect("a set");
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
            outside: 0,
            pictures: 0,
        };
        let f = finding(&judged, &set).expect("two classes");
        assert_eq!((f.positive, f.negative), ((2, 2), (1, 3)));
        assert!((f.auc - 4.5 / 6.0).abs() < 1e-12, "{}", f.auc);
        let only = set.subset(&[0, 2]).expect("a subset");
        let judged = Judged {
            right: vec![true; 2],
            margins: vec![1.0; 2],
            outside: 0,
            pictures: 0,
        };
        assert!(finding(&judged, &only).is_none());
    }
}

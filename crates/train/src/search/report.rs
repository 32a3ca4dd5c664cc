//! The front as a table for machines, a table for people, and a chart.

use super::{Cost, Point, Sensitivity, Whole};
use crate::plot::{Axis, Figure, Join, Panel, PlotError, Point as Dot, Scale, Series};
use std::fmt::Write as _;

/// A network of the front with all that is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What the search foresaw.
    pub point: Point,
    /// Its exact cost.
    pub cost: Cost,
    /// The network measured, before any training.
    pub whole: Whole,
    /// Whether it is the one that was chosen.
    pub chosen: bool,
}

fn degrees(s: &Sensitivity, choice: &[usize]) -> String {
    s.degrees_of(choice)
        .iter()
        .map(usize::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}

/// One line for each network.
#[must_use]
pub fn csv(rows: &[Row], s: &Sensitivity) -> String {
    let mut text = String::from(
        "seconds,cpu_seconds,bootstraps,bytes,foreseen_cpu_seconds,sum_of_divergences,divergence,held_out_right,held_out_pictures,held_out_values_outside,chosen,degrees\n",
    );
    for r in rows {
        let (c, w) = (&r.cost, &r.whole);
        let _ = writeln!(
            text,
            "{:.3},{:.3},{},{},{:.3},{:.6},{:.6},{},{},{},{},{}",
            c.seconds,
            c.cpu_seconds,
            c.bootstraps,
            c.bytes,
            r.point.cpu_seconds,
            r.point.divergence,
            w.divergence,
            w.held_out.right,
            w.held_out.pictures,
            w.held_out.outside,
            u8::from(r.chosen),
            degrees(s, &r.point.choice)
        );
    }
    text
}

/// The front, how good the additive model is on it, and the sensitivities.
#[must_use]
pub fn markdown(rows: &[Row], s: &Sensitivity) -> String {
    let mut text = String::from(
        "| seconds | bootstraps | GB | sum of divergences | divergence | held-out % | degrees |\n|---:|---:|---:|---:|---:|---:|---|\n",
    );
    for r in rows {
        let bold = if r.chosen { "**" } else { "" };
        let _ = writeln!(
            text,
            "| {bold}{:.1}{bold} | {} | {:.2} | {:.4} | {:.4} | {:.1} | {} |",
            r.cost.seconds,
            r.cost.bootstraps,
            r.cost.bytes as f64 / 1e9,
            r.point.divergence,
            r.whole.divergence,
            100.0 * r.whole.held_out.accuracy(),
            degrees(s, &r.point.choice)
        );
    }
    let model = additivity(rows);
    let _ = writeln!(
        text,
        "\nOf these {} networks, sum and measured divergence have rank correlation {:.3}; measured over sum: median {:.2}, from {:.2} to {:.2}.\n",
        rows.len(),
        model.rank_correlation,
        model.ratio.1,
        model.ratio.0,
        model.ratio.2
    );
    let heads: Vec<String> = s.degrees.iter().map(|d| format!(" {d} |")).collect();
    let _ = writeln!(
        text,
        "Divergence of each activation alone, by degree:\n\n| activation |{}\n|---|{}",
        heads.concat(),
        "---:|".repeat(heads.len())
    );
    for (name, row) in s.names.iter().zip(&s.divergence) {
        let cells: Vec<String> = row.iter().map(|d| format!(" {d:.5} |")).collect();
        let _ = writeln!(text, "| {name} |{}", cells.concat());
    }
    text
}

/// How good the additive model is.
#[derive(Debug, Clone, PartialEq)]
pub struct Additivity {
    /// Spearman's, of sums and measured divergences.
    pub rank_correlation: f64,
    /// Measured over sum: smallest, median, largest.
    pub ratio: (f64, f64, f64),
}

/// Compares sums with measured divergences.
#[must_use]
pub(crate) fn additivity(rows: &[Row]) -> Additivity {
    let ranks = |value: &dyn Fn(&Row) -> f64| -> Vec<f64> {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by(|&a, &b| value(&rows[a]).total_cmp(&value(&rows[b])));
        let mut ranks = vec![0.0; rows.len()];
        for (rank, i) in order.into_iter().enumerate() {
            ranks[i] = rank as f64;
        }
        ranks
    };
    let (a, b) = (
        ranks(&|r| r.point.divergence),
        ranks(&|r| r.whole.divergence),
    );
    let n = rows.len() as f64;
    let squares: f64 = a.iter().zip(&b).map(|(x, y)| (x - y).powi(2)).sum();
    let mut ratios: Vec<f64> = rows
        .iter()
        .map(|r| r.whole.divergence / r.point.divergence.max(1e-12))
        .collect();
    ratios.sort_by(f64::total_cmp);
    let at = |i: usize| ratios.get(i).copied().unwrap_or(f64::NAN);
    Additivity {
        rank_correlation: if rows.len() > 1 {
            1.0 - 6.0 * squares / (n * (n * n - 1.0))
        } else {
            f64::NAN
        },
        ratio: (at(0), at(rows.len() / 2), at(rows.len().saturating_sub(1))),
    }
}

/// The divergences and the share of held-out pictures wrong, before fine-tuning, against predicted latency; labels count bootstraps.
///
/// # Errors
/// [`PlotError`].
pub fn chart(rows: &[Row], title: &str, command: &str) -> Result<String, PlotError> {
    let label = |r: &Row| {
        if r.chosen {
            "chosen".to_string()
        } else {
            r.cost.bootstraps.to_string()
        }
    };
    let dots = |value: &dyn Fn(&Row) -> f64, label: &dyn Fn(&Row) -> String| -> Vec<Dot> {
        let all = rows.iter().map(|r| Dot {
            x: r.cost.seconds,
            y: value(r),
            label: label(r),
        });
        all.filter(|d| d.y.is_finite() && d.y > 0.0).collect()
    };
    let nothing = |_: &Row| String::new();
    let series = |name: &str, points: Vec<Dot>, join| Series {
        name: name.into(),
        points,
        join,
    };
    let wrong = |r: &Row| 1.0 - r.whole.held_out.accuracy();
    let mut all = vec![
        series(
            "sum, each activation alone",
            dots(&|r| r.point.divergence, &label),
            Join::Line,
        ),
        series(
            "whole network",
            dots(&|r| r.whole.divergence, &nothing),
            Join::Points,
        ),
        series(
            "share of pictures wrong",
            dots(&wrong, &nothing),
            Join::Points,
        ),
    ];
    all.retain(|s| !s.points.is_empty());
    Figure {
        title: title.into(),
        command: command.into(),
        x: Axis {
            label: "predicted seconds".into(),
            scale: Scale::Linear,
        },
        y: Axis {
            label: "KL divergence; share wrong (before fine-tuning)".into(),
            scale: Scale::Log,
        },
        panels: vec![Panel {
            title: String::new(),
            series: all,
        }],
    }
    .svg()
}

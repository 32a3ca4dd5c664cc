//! The front as a table for machines, a table for people, and a chart.

use super::{Cost, Point, Sensitivity, Whole};
use crate::error::Result;
use crate::plot::{Axis, Figure, Join, Panel, Point as Dot, Scale, Series};
use crate::table::Table;

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

/// One line for each network.
#[must_use]
pub fn csv(rows: &[Row], s: &Sensitivity) -> String {
    let mut text = String::from(
        "seconds,cpu_seconds,bootstraps,bytes,foreseen_cpu_seconds,sum_of_divergences,divergence,held_out_right,held_out_pictures,held_out_values_outside,chosen,degrees\n",
    );
    for r in rows {
        let (c, w) = (&r.cost, &r.whole);
        text += &format!(
            "{:.3},{:.3},{},{},{:.3},{:.6},{:.6},{},{},{},{},{}\n",
            c.seconds,
            c.cpu_seconds,
            c.bootstraps,
            c.bytes,
            r.point.cpu_seconds,
            r.point.divergence,
            w.divergence,
            w.held_out.right,
            w.held_out.answers,
            w.held_out.outside,
            u8::from(r.chosen),
            s.degrees_text(&r.point.choice)
        );
    }
    text
}

/// The front, how good the additive model is on it, and the sensitivities.
#[must_use]
pub fn markdown(rows: &[Row], s: &Sensitivity) -> String {
    let (mut front, mut alone) = (Table::default(), Table::default());
    for r in rows {
        let bold = if r.chosen { "**" } else { "" };
        let (w, percent) = (&r.whole, 100.0 * r.whole.held_out.accuracy());
        front.row([
            ("seconds", format!("{bold}{:.1}{bold}", r.cost.seconds)),
            ("bootstraps", r.cost.bootstraps.to_string()),
            ("GB", format!("{:.2}", r.cost.bytes as f64 / 1e9)),
            ("sum of divergences", format!("{:.4}", r.point.divergence)),
            ("divergence", format!("{:.4}", w.divergence)),
            ("held-out %", format!("{percent:.1}")),
            ("degrees", s.degrees_text(&r.point.choice)),
        ]);
    }
    for (name, row) in s.names.iter().zip(&s.divergence) {
        let each = s.degrees.iter().zip(row);
        let each = each.map(|(degree, d)| (degree.to_string(), format!("{d:.5}")));
        alone.row(
            [("activation".into(), name.clone())]
                .into_iter()
                .chain(each),
        );
    }
    let model = additivity(rows);
    format!(
        "{front}\nOf these {} networks, sum and measured divergence have rank correlation {:.3}; measured over sum: median {:.2}, from {:.2} to {:.2}.\n\nDivergence of each activation alone, by degree:\n\n{alone}",
        rows.len(),
        model.rank_correlation,
        model.ratio.1,
        model.ratio.0,
        model.ratio.2
    )
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
/// [`crate::Error::Chart`].
pub fn chart(rows: &[Row], title: &str, command: &str) -> Result<String> {
    let mut series = Vec::new();
    let mut add =
        |name: &str, join, value: &dyn Fn(&Row) -> f64, label: &dyn Fn(&Row) -> String| {
            for r in rows
                .iter()
                .filter(|r| value(r).is_finite() && value(r) > 0.0)
            {
                let dot = Dot {
                    x: r.cost.seconds,
                    y: value(r),
                    label: label(r),
                };
                Series::add(&mut series, name.into(), join, dot);
            }
        };
    let label = |r: &Row| match r.chosen {
        true => "chosen".to_string(),
        false => r.cost.bootstraps.to_string(),
    };
    let nothing = |_: &Row| String::new();
    let sum = |r: &Row| r.point.divergence;
    add("sum, each activation alone", Join::Line, &sum, &label);
    let whole = |r: &Row| r.whole.divergence;
    add("whole network", Join::Points, &whole, &nothing);
    let wrong = |r: &Row| 1.0 - r.whole.held_out.accuracy();
    add("share of pictures wrong", Join::Points, &wrong, &nothing);
    Figure {
        title: title.into(),
        command: command.into(),
        x: Axis::new("predicted seconds", Scale::Linear),
        y: Axis::new(
            "KL divergence; share wrong (before fine-tuning)",
            Scale::Log,
        ),
        panels: vec![Panel {
            title: String::new(),
            series,
        }],
    }
    .svg()
}

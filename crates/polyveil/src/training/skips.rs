//! The same network with every kind of skip connection, trained alike.

use super::price::price;
use super::run::{Place, Saving, direct};
use crate::error::Result;
use crate::markdown::Table;
use crate::progress::{Listener, Say};
use std::path::Path;
use train::config::Network;
use train::plot::{Axis, Figure, Join, Panel, Point, Scale, Series};
use train::{Config, Sources};

/// What replaces skip connections, and how it reads.
const VARIANTS: [(&str, &str); 4] = [
    ("standard", "as they are"),
    ("none", "removed"),
    ("dirac", "removed by Dirac parameterisation"),
    (
        "long-shared",
        "Dirac parameterisation and long skips of one source",
    ),
];

/// Trains each variant in a folder of its own (going on where it was stopped), and compares.
pub(super) fn study(
    path: &Path,
    runs: &Path,
    saving: &Saving,
    tell: Listener<'_>,
) -> Result<(String, Figure)> {
    let config = Config::load(path)?;
    let (mut table, mut points) = (Table::default(), Vec::new());
    for (skip, reads) in VARIANTS {
        let mut config = config.clone();
        match &mut config.network {
            Network::Resnet { skip: s, .. } => *s = skip.into(),
            _ => return Err("the study of skip connections trains a `resnet` from new weights: set [network] kind = \"resnet\"".into()),
        }
        let folder = runs.join(skip);
        tell.note(format_args!("== {reads} =="));
        let place = Place {
            folder: Some(&folder),
            config: Some(path),
        };
        let made = direct::<Sources>((&config, None), "pictures", place, saving, tell)?;
        let zoo::Model::Polynomial(graph) = made.network else {
            return Err("the configuration's last stage must leave polynomials".into());
        };
        let (p, score) = (price(&graph)?, made.score);
        let right = format!("{} of {}", score.right, score.answers);
        table.row([
            ("skip connections", reads.to_string()),
            ("held-out pictures right", right),
            ("accuracy, %", format!("{:.1}", 100.0 * score.accuracy())),
            ("values outside", score.outside.to_string()),
            ("bootstraps", p.bootstraps.to_string()),
            ("predicted CPU s", format!("{:.1}", p.cpu_seconds)),
            ("predicted s", format!("{:.1}", p.seconds)),
            ("predicted GB", format!("{:.2}", p.bytes as f64 / 1e9)),
        ]);
        points.push(Series {
            name: reads.into(),
            points: vec![Point {
                x: p.cpu_seconds,
                y: 100.0 * score.accuracy(),
                label: format!("{} bootstraps", p.bootstraps),
            }],
            join: Join::Points,
        });
    }
    let figure = Figure {
        title: "Skip connections: accuracy against predicted latency".into(),
        command: String::new(),
        x: Axis::new("predicted CPU seconds", Scale::Linear),
        y: Axis::new("accuracy on held-out pictures, %", Scale::Linear),
        panels: vec![Panel {
            title: String::new(),
            series: points,
        }],
    };
    Ok((table.to_string(), figure))
}

//! `polyveil-train study skips`: the same network with every kind of skip connection, trained alike.

use super::price::price;
use super::run::{Saving, execute};
use crate::Result;
use std::fmt::Write;
use std::path::Path;
use train::Config;
use train::config::Network;
use train::plot::{Axis, Figure, Join, Panel, Point, Scale, Series};

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
pub fn study(config: &Path, runs: &Path, saving: &Saving) -> Result<(String, Figure)> {
    let config = Config::load(config)?;
    let mut text = String::from(
        "| skip connections | held-out pictures right | accuracy, % | values outside | bootstraps | predicted CPU s | predicted s | predicted GB |\n|---|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    let mut points = Vec::new();
    for (skip, reads) in VARIANTS {
        let mut config = config.clone();
        match &mut config.network {
            Network::Resnet { skip: s, .. } => *s = skip.into(),
            _ => return Err("the study of skip connections trains a `resnet` from new weights: set [network] kind = \"resnet\"".into()),
        }
        let folder = runs.join(skip);
        eprintln!("== {reads} ==");
        let score = execute(&config, &folder, saving)?;
        let graph =
            nn::format::artefact::load(&folder.join("network.pvm"), nn::format::DEFAULT_LIMIT)
                .map_err(|e| {
                    format!("{e}; the configuration's last stage must leave polynomials")
                })?;
        let p = price(&graph)?;
        let _ = writeln!(
            text,
            "| {reads} | {} of {} | {:.1} | {} | {} | {:.1} | {:.1} | {:.2} |",
            score.right,
            score.pictures,
            100.0 * score.accuracy(),
            score.outside,
            p.bootstraps,
            p.cpu_seconds,
            p.seconds,
            p.peak_bytes as f64 / 1e9
        );
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
        x: Axis {
            label: "predicted CPU seconds".into(),
            scale: Scale::Linear,
        },
        y: Axis {
            label: "accuracy on held-out pictures, %".into(),
            scale: Scale::Linear,
        },
        panels: vec![Panel {
            title: String::new(),
            series: points,
        }],
    };
    Ok((text, figure))
}

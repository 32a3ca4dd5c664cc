//! Where attention looks: mean distance and entropy of every head's weights, softmax against Power-Softmax (2410.09457, §5, "inductive bias").
//!
//! Weights w of one query are first divided by their sum, which is below 1 for Power-Softmax. **Distance** is `Σ w_j·(i − j)`, in tokens;
//! **entropy** is `−Σ w_j·ln w_j` over `ln(i + 1)`, which is 1 for even weights over the i + 1 keys seen and 0 for a single key. Both are means over
//! all queries but a window's first, which sees itself alone, and over all windows.

use crate::error::{Result, need};
use crate::plot::{Axis, Figure, Join, Panel, Point, Scale, Series};
use crate::table::Table;
use data::Windows;
use nn::attention::Scheme;
use nn::{AttentionScheme, Op};
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use task::scores::log_probability;
use zoo::language::LanguageModel;

/// One head.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Head {
    /// Its layer, from 0.
    pub layer: usize,
    /// Its number in the layer, from 0.
    pub head: usize,
    /// Mean distance to what it looks at, in tokens.
    pub distance: f64,
    /// Mean entropy of its weights, as a part of the largest possible.
    pub entropy: f64,
}

/// One network.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// What it is called in tables.
    pub name: String,
    /// Mean loss, in nats a token, on the windows looked at.
    pub loss: f64,
    /// Between which values all scores lie.
    pub scores: (f64, f64),
    /// Between which values all divisors lie: `Σ e^s` of softmax, [`nn::PowerSoftmax::divisor`] of Power-Softmax.
    pub divisors: (f64, f64),
    /// All heads, layer by layer.
    pub heads: Vec<Head>,
}

/// Of one layer on one window.
#[derive(Clone)]
struct Layer {
    heads: Vec<Sums>,
    scores: (f64, f64),
    divisors: (f64, f64),
}

const NOTHING: (f64, f64) = (f64::INFINITY, f64::NEG_INFINITY);

fn hull(a: (f64, f64), b: (f64, f64)) -> (f64, f64) {
    (a.0.min(b.0), a.1.max(b.1))
}

fn divisor(scheme: AttentionScheme, scores: &[f64]) -> f64 {
    match scheme {
        AttentionScheme::Power(power) => power.divisor(scores),
        _ => scores.iter().map(|s| s.exp()).sum(),
    }
}

#[derive(Clone, Copy, Default)]
struct Sums {
    distance: f64,
    entropy: f64,
    queries: f64,
}

/// Looks at so many windows, evenly spread over the text.
///
/// # Errors
/// [`crate::Error::Network`] for windows that are longer than the model knows or tokens that it doesn't; [`crate::Error::Setting`] for no window.
pub fn observe(
    name: &str,
    language: &LanguageModel,
    scheme: AttentionScheme,
    windows: &Windows,
    count: usize,
) -> Result<Observed> {
    let graph = language.graph(windows.length(), scheme)?;
    let numbers = data::spread(windows.len(), count);
    let count = numbers.len();
    let remedy = "look at one window at least, of a text that has one";
    need(count > 0, "windows", 0, remedy)?;
    let layers: Vec<_> = graph
        .nodes()
        .iter()
        .filter_map(|n| match n.op() {
            Op::Attention(a) => Some((a, n.inputs())),
            _ => None,
        })
        .collect();
    let seen: Vec<(f64, Vec<Layer>)> = numbers
        .into_par_iter()
        .map(|i| {
            let (mut tokens, mut next) = (Vec::new(), Vec::new());
            windows.window(i, &mut tokens, &mut next);
            let trace = graph.evaluate_all(&language.embed(&tokens)?)?;
            let logits = &trace.values[graph.output().id().index()];
            let loss = mean_loss(logits.values(), &next);
            let sums = layers
                .iter()
                .map(|(attention, inputs)| {
                    let mut layer = Layer {
                        heads: vec![Sums::default(); attention.heads],
                        scores: NOTHING,
                        divisors: NOTHING,
                    };
                    let value = |k: usize| &trace.values[inputs[k].index()];
                    attention.observe(value(0), value(1), |head, i, scores, weights| {
                        add(&mut layer.heads[head], i, weights);
                        for &s in scores {
                            layer.scores = hull(layer.scores, (s, s));
                        }
                        let d = divisor(scheme, scores);
                        layer.divisors = hull(layer.divisors, (d, d));
                    });
                    layer
                })
                .collect();
            Ok((loss, sums))
        })
        .collect::<Result<_>>()?;
    let mut heads = Vec::new();
    for (layer, (attention, _)) in layers.iter().enumerate() {
        for head in 0..attention.heads {
            let mut all = Sums::default();
            for (_, layers) in &seen {
                let s = layers[layer].heads[head];
                all.distance += s.distance;
                all.entropy += s.entropy;
                all.queries += s.queries;
            }
            heads.push(Head {
                layer,
                head,
                distance: all.distance / all.queries,
                entropy: all.entropy / all.queries,
            });
        }
    }
    let each = || seen.iter().flat_map(|(_, layers)| layers);
    Ok(Observed {
        name: name.into(),
        scores: each().map(|l| l.scores).fold(NOTHING, hull),
        divisors: each().map(|l| l.divisors).fold(NOTHING, hull),
        loss: seen.iter().map(|(loss, _)| loss).sum::<f64>() / count as f64,
        heads,
    })
}

/// A query's weights; rows that weigh nothing (scores that are all 0) look nowhere and don't count.
fn add(sums: &mut Sums, position: usize, weights: &[f64]) {
    let total: f64 = weights.iter().sum();
    if position == 0 || total <= 0.0 {
        return;
    }
    for (j, w) in weights.iter().enumerate() {
        let w = w / total;
        sums.distance += w * (position as f64 - j as f64).abs();
        if w > 0.0 {
            sums.entropy -= w * w.ln() / (weights.len() as f64).ln();
        }
    }
    sums.queries += 1.0;
}

/// Mean cross-entropy of logits `(V, 1, L)`.
fn mean_loss(logits: &[f64], next: &[usize]) -> f64 {
    let length = next.len();
    let lost = |(t, &right): (usize, &usize)| {
        let column: Vec<f64> = logits.iter().skip(t).step_by(length).copied().collect();
        -log_probability(&column, right)
    };
    next.iter().enumerate().map(lost).sum::<f64>() / length as f64
}

/// Distance and entropy of even weights over windows of this length.
#[must_use]
pub fn even(length: usize) -> (f64, f64) {
    (
        (1..length).map(|i| i as f64 / 2.0).sum::<f64>() / (length as f64 - 1.0),
        1.0,
    )
}

/// Mean distance and entropy.
fn means<'a>(heads: impl Iterator<Item = &'a Head> + Clone) -> [f64; 2] {
    let n = heads.clone().count().max(1) as f64;
    let mean = |of: fn(&Head) -> f64| heads.clone().map(of).sum::<f64>() / n;
    [mean(|h| h.distance), mean(|h| h.entropy)]
}

/// Markdown: means of networks and layers, then every head.
#[must_use]
pub fn markdown(networks: &[Observed], length: usize) -> String {
    let heads = networks.iter().flat_map(|n| &n.heads);
    let layers = heads.map(|h| h.layer + 1).max().unwrap_or(0);
    let (mut table, mut each) = (Table::default(), Table::default());
    for n in networks {
        let [distance, entropy] = means(n.heads.iter());
        let (s, d) = (n.scores, n.divisors);
        let mut row = vec![
            ("network".to_string(), n.name.clone()),
            ("loss".into(), format!("{:.4}", n.loss)),
            ("scores".into(), format!("{:.1} to {:.1}", s.0, s.1)),
            ("divisors".into(), format!("{:.1e} to {:.1e}", d.0, d.1)),
            ("mean distance".into(), format!("{distance:.2}")),
            ("mean entropy".into(), format!("{entropy:.2}")),
        ];
        row.extend((0..layers).map(|layer| {
            let [distance, entropy] = means(n.heads.iter().filter(|h| h.layer == layer));
            let head = format!("layer {}: distance, entropy", layer + 1);
            (head, format!("{distance:.2}, {entropy:.2}"))
        }));
        table.row(row);
    }
    for row in 0..networks.iter().map(|n| n.heads.len()).max().unwrap_or(0) {
        let place = |h: &Head| format!("{}, {}", h.layer + 1, h.head + 1);
        let first = networks.iter().find_map(|n| n.heads.get(row)).map(place);
        let head = ("layer, head", first.unwrap_or_default());
        let cells = networks.iter().map(|n| match n.heads.get(row) {
            Some(h) => (
                n.name.as_str(),
                format!("{:.2}, {:.2}", h.distance, h.entropy),
            ),
            None => (n.name.as_str(), "–".into()),
        });
        each.row([head].into_iter().chain(cells));
    }
    format!(
        "Even weights over all keys seen: {:.1} tokens, 1.00.\n\n{table}\nDistance, entropy of every head:\n\n{each}",
        even(length).0
    )
}

/// How [`csv`] begins.
pub const COLUMNS: &str = "network,loss,layer,head,distance,entropy";

/// All heads as comma-separated values.
#[must_use]
pub fn csv(networks: &[Observed]) -> String {
    let mut out = format!("{COLUMNS}\n");
    for n in networks {
        let name = n.name.replace(',', ";");
        for h in &n.heads {
            let (layer, head) = (h.layer + 1, h.head + 1);
            out += &format!(
                "{name},{:.4},{layer},{head},{:.4},{:.4}\n",
                n.loss, h.distance, h.entropy
            );
        }
    }
    out
}

/// A panel for each network: entropy against distance, a point for each head, layers apart.
///
/// # Errors
/// [`crate::Error::Chart`] without networks.
pub fn chart(networks: &[Observed], command: &str) -> Result<String> {
    let panel = |n: &Observed| {
        let mut series = Vec::new();
        for h in &n.heads {
            let point = Point {
                x: h.distance,
                y: h.entropy,
                label: String::new(),
            };
            let name = format!("layer {}", h.layer + 1);
            Series::add(&mut series, name, Join::Points, point);
        }
        Panel {
            title: n.name.clone(),
            series,
        }
    };
    Figure {
        title: "Where attention looks: a point for each head".into(),
        command: command.into(),
        x: Axis::new("mean distance, tokens", Scale::Linear),
        y: Axis::new("entropy / largest possible", Scale::Linear),
        panels: networks.iter().map(panel).collect(),
    }
    .svg()
}

#[cfg(test)]
mod tests {
    use super::*;
    use data::Text;
    use zoo::architecture::Architecture;
    use zoo::architecture::llama;

    fn tiny() -> LanguageModel {
        let config = llama::Config {
            sizes: zoo::blocks::Sizes {
                width: 8,
                hidden: 8,
                layers: 2,
                heads: 2,
                kv_heads: 1,
                head: 4,
                vocabulary: 5,
                max_length: 8,
            },
            epsilon: 1e-5,
            base: 10_000.0,
            tied: false,
        };
        LanguageModel::new(Architecture::Llama(config), |name, shape| {
            let count = shape.iter().product();
            // queries of 0: all scores are alike
            if name.contains("q_proj") {
                return vec![0.0; count];
            }
            (0..count)
                .map(|i| ((i * 7 + name.len()) % 11) as f32 / 11.0 - 0.4)
                .collect()
        })
        .expect("a model")
    }

    #[test]
    fn alike_scores_look_everywhere_under_softmax() {
        let text = Text::new((0..64u32).map(|i| i * i % 5).collect(), 5).expect("text");
        let windows = Windows::new(text, 8, None).expect("windows");
        let softmax =
            observe("softmax", &tiny(), AttentionScheme::Softmax, &windows, 3).expect("observed");
        assert_eq!(softmax.heads.len(), 4);
        for h in &softmax.heads {
            assert!((h.distance - even(8).0).abs() < 1e-12, "{h:?}");
            assert!((h.entropy - 1.0).abs() < 1e-12, "{h:?}");
        }
        assert_eq!(softmax.scores, (0.0, 0.0));
        assert_eq!(softmax.divisors, (1.0, 8.0));
        let table = markdown(std::slice::from_ref(&softmax), 8);
        assert!(table.contains("| 2, 2 | 2.00, 1.00 |"), "{table}");
        assert_eq!(csv(std::slice::from_ref(&softmax)).lines().count(), 5);
        assert!(
            chart(&[softmax], "command")
                .expect("drawn")
                .contains("layer 2")
        );
    }

    #[test]
    fn a_sharp_row_looks_at_one_token() {
        let mut sums = Sums::default();
        add(&mut sums, 3, &[0.0, 0.5, 0.0, 0.0]);
        add(&mut sums, 2, &[0.0, 0.0, 0.0]);
        assert_eq!((sums.distance, sums.entropy, sums.queries), (2.0, 0.0, 1.0));
    }
}

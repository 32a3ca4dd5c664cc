//! What a run cost and how precise it was: as a table, JSON and SVG.

use crate::check::StepPrecision;
use crate::plan::{Class, Step};
use crate::prediction::{Basis, Prediction};
use crate::size;
use crate::verify::VerifiedPlan;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// One layer.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LayerReport {
    /// Its name in the network.
    pub layer: String,
    /// What its steps do.
    pub steps: Vec<&'static str>,
    /// Wall seconds; none where it was not run.
    pub seconds: Option<f64>,
    /// Share of all wall seconds.
    pub share: Option<f64>,
    /// CPU seconds.
    pub cpu_seconds: Option<f64>,
    /// Predicted CPU seconds.
    pub predicted_cpu_seconds: f64,
    /// Level before.
    pub level_in: usize,
    /// Level after.
    pub level_out: usize,
    /// −log2 of the largest error relative to full range 1 (plan units), measured against the clear twin.
    pub precision_bits: Option<f64>,
    /// The same from the predicted bound.
    pub predicted_bits: f64,
}

/// A share of the time.
#[derive(Clone, Debug, Serialize)]
pub struct Share {
    /// Of what.
    pub name: String,
    /// Measured wall seconds, where steps can be told apart.
    pub seconds: Option<f64>,
    /// Measured CPU seconds, where steps can be told apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// Predicted CPU seconds.
    pub predicted_cpu_seconds: f64,
    /// Its share: measured where it is, else predicted.
    pub share: f64,
    /// How often, where it is counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<f64>,
}

/// What the answer was and how it compares.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Answer {
    /// Predicted class of the encrypted run; none where nobody could decrypt.
    pub class: Option<usize>,
    /// Its label.
    pub label: Option<String>,
    /// Class of the clear twin.
    pub clear_class: Option<usize>,
    /// Largest difference of a logit from the clear twin.
    pub max_abs_error: Option<f64>,
    /// Logits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logits: Vec<f64>,
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Name of the network.
    pub network: String,
    /// Name of the parameter set.
    pub parameters: String,
    /// The answer.
    #[serde(flatten)]
    pub answer: Answer,
    /// Wall seconds of the encrypted evaluation.
    pub seconds: Option<f64>,
    /// Predicted.
    pub predicted_seconds: f64,
    /// CPU seconds of the encrypted evaluation.
    pub cpu_seconds: Option<f64>,
    /// Predicted.
    pub predicted_cpu_seconds: f64,
    /// Largest resident size of the process (VmHWM).
    pub peak_bytes: Option<u64>,
    /// Predicted.
    pub predicted_peak_bytes: u64,
    /// Bytes of the evaluation keys' file.
    pub key_bytes: u64,
    /// Bytes of the encrypted input.
    pub input_bytes: Option<u64>,
    /// Bytes of the encrypted answer.
    pub answer_bytes: Option<u64>,
    /// Security of the weakest published key.
    pub security_bits: u32,
    /// log2 of the largest published modulus.
    pub log_qp: f64,
    /// Bootstraps.
    pub bootstraps: u64,
    /// Threads.
    pub threads: usize,
    /// What the predictions rest on, fixed before the run.
    pub basis: Basis,
    /// By layer, in order.
    pub layers: Vec<LayerReport>,
    /// By class of operation.
    pub classes: Vec<Share>,
    /// By primitive, from the counts.
    pub primitives: Vec<Share>,
}

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// (wall, CPU) seconds by step.
    pub steps: BTreeMap<usize, (f64, f64)>,
    /// Precision by step.
    pub precision: BTreeMap<usize, StepPrecision>,
    /// Wall seconds of the whole evaluation.
    pub seconds: Option<f64>,
    /// CPU seconds of the whole evaluation.
    pub cpu_seconds: Option<f64>,
    /// Peak memory.
    pub peak_bytes: Option<u64>,
    /// Bytes of the encrypted input.
    pub input_bytes: Option<u64>,
    /// Bytes of the encrypted answer.
    pub answer_bytes: Option<u64>,
}

const fn class_name(class: Class) -> &'static str {
    match class {
        Class::Linear => "linear maps",
        Class::Activation => "activations",
        Class::Bootstrap => "bootstraps",
        Class::Other => "joins and alignments",
    }
}

/// The steps' time by whatever `group` calls them, in the order of the groups: measured where it is, else predicted.
pub fn shares<G: Ord>(
    plan: &VerifiedPlan,
    prediction: &Prediction,
    measured: &Measured,
    group: impl Fn(&Step) -> G,
    name: impl Fn(&G) -> &'static str,
) -> Vec<Share> {
    let mut groups: BTreeMap<G, (Option<f64>, Option<f64>, f64)> = BTreeMap::new();
    for (i, step) in plan.plan().steps.iter().enumerate() {
        let sum = groups.entry(group(step)).or_default();
        sum.2 += prediction.steps().get(i).copied().unwrap_or(0.0);
        if let Some((wall, cpu)) = measured.steps.get(&i) {
            sum.0 = Some(sum.0.unwrap_or(0.0) + wall);
            sum.1 = Some(sum.1.unwrap_or(0.0) + cpu);
        }
    }
    let total: f64 = groups.values().filter_map(|g| g.0).sum();
    let predicted = prediction.cpu_seconds();
    let part = |x: f64, of: f64| x / of.max(f64::MIN_POSITIVE);
    groups
        .into_iter()
        .map(|(group, (seconds, cpu_seconds, cpu))| Share {
            name: name(&group).into(),
            seconds,
            cpu_seconds,
            predicted_cpu_seconds: cpu,
            share: seconds.map_or(part(cpu, predicted), |s| part(s, total)),
            count: None,
        })
        .collect()
}

/// Shares as a table for a terminal.
pub fn shares_to_text(title: &str, shares: &[Share]) -> String {
    let mut t = String::new();
    let seconds = |s: Option<f64>| s.map_or("-".to_owned(), |s| format!("{s:.2}"));
    // writing to a String never fails
    let _ = writeln!(
        t,
        "\n{title:28}  {:>8}  {:>8}  {:>6}  {:>15}",
        "wall s", "cpu s", "share", "predicted cpu s"
    );
    for s in shares {
        let _ = writeln!(
            t,
            "{:28}  {:>8}  {:>8}  {:>5.1}%  {:>15.2}",
            s.name,
            seconds(s.seconds),
            seconds(s.cpu_seconds),
            s.share * 100.0,
            s.predicted_cpu_seconds
        );
    }
    t
}

/// Counted work as a table for a terminal.
pub fn primitives_to_text(primitives: &[Share]) -> String {
    let mut t = String::new();
    let _ = writeln!(
        t,
        "\n{:22}  {:>12}  {:>6}  {:>15}   (counted; time by the cost table)",
        "primitive", "count", "share", "predicted cpu s"
    );
    for p in primitives {
        let count = p.count.map_or("-".to_owned(), |c| format!("{c:.0}"));
        let _ = writeln!(
            t,
            "{:22}  {:>12}  {:>5.1}%  {:>15.2}",
            p.name,
            count,
            p.share * 100.0,
            p.predicted_cpu_seconds
        );
    }
    t
}

impl Report {
    /// From a plan, the prediction that was made before the run, and what was measured (nothing: the prediction alone).
    pub fn new(
        plan: &VerifiedPlan,
        prediction: &Prediction,
        measured: &Measured,
        answer: Answer,
    ) -> Self {
        let facts = plan.facts();
        let parameters = plan.parameters();
        let mut layers: Vec<LayerReport> = Vec::new();
        for (i, (step, fact)) in plan.plan().steps.iter().zip(&facts.steps).enumerate() {
            let predicted = prediction.steps().get(i).copied().unwrap_or(0.0);
            let time = measured.steps.get(&i);
            if layers.last().is_none_or(|l| l.layer != step.layer) {
                layers.push(LayerReport {
                    layer: step.layer.clone(),
                    level_in: fact.level_in,
                    predicted_bits: f64::INFINITY,
                    ..LayerReport::default()
                });
            }
            let Some(layer) = layers.last_mut() else {
                continue;
            };
            layer.steps.push(step.operation.doing());
            layer.level_out = fact.level_out;
            layer.predicted_cpu_seconds += predicted;
            layer.predicted_bits = -fact.error_bound.log2();
            if let Some((wall, cpu)) = time {
                layer.seconds = Some(layer.seconds.unwrap_or(0.0) + wall);
                layer.cpu_seconds = Some(layer.cpu_seconds.unwrap_or(0.0) + cpu);
            }
            if let Some(p) = measured.precision.get(&i) {
                layer.precision_bits = Some(-p.largest.max(f64::MIN_POSITIVE).log2());
            }
        }
        let total: f64 = layers.iter().filter_map(|l| l.seconds).sum();
        for l in &mut layers {
            l.share = l.seconds.map(|s| s / total.max(f64::MIN_POSITIVE));
        }
        let class = |step: &Step| step.operation.class();
        let classes = shares(plan, prediction, measured, class, |&c| class_name(c));
        Self {
            network: plan.plan().description.name.clone(),
            parameters: parameters.spec().name.clone(),
            answer,
            seconds: measured.seconds,
            predicted_seconds: prediction.seconds(),
            cpu_seconds: measured.cpu_seconds,
            predicted_cpu_seconds: prediction.cpu_seconds(),
            peak_bytes: measured.peak_bytes,
            predicted_peak_bytes: prediction.peak_bytes(),
            key_bytes: facts.key_file_bytes,
            input_bytes: measured.input_bytes,
            answer_bytes: measured.answer_bytes,
            security_bits: parameters.security_bits(),
            log_qp: parameters.log_qp(),
            bootstraps: facts.bootstraps,
            threads: prediction.threads(),
            basis: prediction.basis().clone(),
            layers,
            classes,
            primitives: crate::verify::primitives(&facts.total, &prediction.table()),
        }
    }

    /// One JSON object.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain data is always JSON")
    }

    /// A table for a terminal.
    pub fn to_text(&self) -> String {
        let mut t = String::new();
        let seconds = |s: Option<f64>| s.map_or("-".to_owned(), |s| format!("{s:.2}"));
        let wide = self
            .layers
            .iter()
            .map(|l| l.layer.chars().count())
            .max()
            .unwrap_or(5)
            .max(5);
        // writing to a String never fails
        let _ = writeln!(
            t,
            "{:wide$}  {:>8}  {:>6}  {:>8}  {:>9}  {:>7}  {:>9}  {:>9}",
            "layer", "wall s", "share", "cpu s", "predicted", "level", "bits", "bits ≥"
        );
        for l in &self.layers {
            let _ = writeln!(
                t,
                "{:wide$}  {:>8}  {:>6}  {:>8}  {:>9.2}  {:>7}  {:>9}  {:>9.1}",
                l.layer,
                seconds(l.seconds),
                l.share
                    .map_or("-".to_owned(), |s| format!("{:.1}%", s * 100.0)),
                seconds(l.cpu_seconds),
                l.predicted_cpu_seconds,
                format!("{}→{}", l.level_in, l.level_out),
                l.precision_bits
                    .map_or("-".to_owned(), |b| format!("{b:.1}")),
                l.predicted_bits,
            );
        }
        t += &shares_to_text("class", &self.classes);
        t += &primitives_to_text(&self.primitives);
        let beside = |measured: Option<String>, predicted: String| {
            format!(
                "{:>12}  {:>12}",
                measured.unwrap_or_else(|| "-".into()),
                predicted
            )
        };
        let _ = writeln!(t, "\n{:22}  {:>12}  {:>12}", "", "measured", "predicted");
        let _ = writeln!(
            t,
            "{:22}  {}",
            "wall time",
            beside(
                self.seconds.map(|s| format!("{s:.1} s")),
                format!("{:.1} s", self.predicted_seconds)
            )
        );
        let _ = writeln!(
            t,
            "{:22}  {}",
            "CPU time",
            beside(
                self.cpu_seconds.map(|s| format!("{s:.1} s")),
                format!("{:.1} s", self.predicted_cpu_seconds)
            )
        );
        let _ = writeln!(
            t,
            "{:22}  {}",
            "peak memory",
            beside(self.peak_bytes.map(size), size(self.predicted_peak_bytes))
        );
        let _ = writeln!(
            t,
            "\nevaluation keys {}, encrypted input {}, encrypted answer {}",
            size(self.key_bytes),
            self.input_bytes.map_or("-".into(), size),
            self.answer_bytes.map_or("-".into(), size)
        );
        let _ = writeln!(
            t,
            "{} bootstraps, {} threads, parameters {}: log QP {:.1}, security {} bits",
            self.bootstraps, self.threads, self.parameters, self.log_qp, self.security_bits
        );
        t
    }

    /// A drawing: time by layer (bars by class colour), the staircase of levels, bits of precision.
    pub fn to_svg(&self) -> String {
        const ROW: f64 = 16.0;
        const LEFT: f64 = 190.0;
        const BAR: f64 = 420.0;
        const STAIRS: f64 = 170.0;
        const BITS: f64 = 150.0;
        let top = 64.0;
        let width = LEFT + BAR + STAIRS + BITS + 120.0;
        let height = top + ROW * self.layers.len() as f64 + 60.0;
        let time = |l: &LayerReport| l.seconds.unwrap_or(l.predicted_cpu_seconds);
        let longest = self
            .layers
            .iter()
            .map(time)
            .fold(f64::MIN_POSITIVE, f64::max);
        let levels = self
            .layers
            .iter()
            .map(|l| l.level_in.max(l.level_out))
            .max()
            .unwrap_or(1)
            .max(1) as f64;
        let most_bits = self
            .layers
            .iter()
            .filter_map(|l| l.precision_bits.or(Some(l.predicted_bits)))
            .filter(|b| b.is_finite())
            .fold(1.0, f64::max);
        let mut s = String::new();
        let measured = if self.seconds.is_some() {
            "measured"
        } else {
            "predicted"
        };
        let _ = write!(
            s,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"sans-serif\" font-size=\"11\">"
        );
        let _ = write!(s, "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>");
        let _ = write!(
            s,
            "<text x=\"10\" y=\"20\" font-size=\"14\" font-weight=\"bold\">{} — {:.1} s {measured}, {} bootstraps, {} bits of security</text>",
            escape(&self.network),
            self.seconds.unwrap_or(self.predicted_seconds),
            self.bootstraps,
            self.security_bits
        );
        let x2 = LEFT + BAR + 70.0;
        let x3 = x2 + STAIRS + 20.0;
        for (x, title) in [
            (LEFT, format!("seconds ({measured})")),
            (x2, "level".into()),
            (
                x3,
                "bits of precision (bar: predicted bound, dot: measured)".into(),
            ),
        ] {
            let _ = write!(
                s,
                "<text x=\"{x:.0}\" y=\"{:.0}\" fill=\"#555\">{title}</text>",
                top - 12.0
            );
        }
        let mut stairs = String::new();
        for (i, l) in self.layers.iter().enumerate() {
            let y = top + ROW * i as f64;
            let w = BAR * time(l) / longest;
            let colour = if l.steps.contains(&"bootstrap") {
                "#b5473c"
            } else if l.steps.contains(&"linear map") {
                "#3c6fb5"
            } else if l
                .steps
                .iter()
                .any(|d| ["polynomial", "quartic", "square", "multiply"].contains(d))
            {
                "#4a9a5b"
            } else {
                "#999999"
            };
            let _ = write!(
                s,
                "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                y + 11.0,
                escape(&l.layer)
            );
            let _ = write!(
                s,
                "<rect x=\"{LEFT:.0}\" y=\"{:.1}\" width=\"{w:.1}\" height=\"{:.0}\" fill=\"{colour}\"/>",
                y + 2.0,
                ROW - 4.0
            );
            let _ = write!(
                s,
                "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"#333\">{:.2}</text>",
                LEFT + w + 4.0,
                y + 11.0,
                time(l)
            );
            let at = |level: usize| x2 + STAIRS * level as f64 / levels;
            let _ = write!(
                stairs,
                "{:.1},{:.1} {:.1},{:.1} ",
                at(l.level_in),
                y,
                at(l.level_out),
                y + ROW
            );
            if l.predicted_bits.is_finite() && l.predicted_bits > 0.0 {
                let _ = write!(
                    s,
                    "<rect x=\"{x3:.0}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.0}\" fill=\"#ddd\"/>",
                    y + 2.0,
                    BITS * l.predicted_bits / most_bits,
                    ROW - 4.0
                );
            }
            if let Some(b) = l.precision_bits.filter(|b| b.is_finite()) {
                let _ = write!(
                    s,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"#333\"><title>{b:.1} bits</title></circle>",
                    x3 + BITS * b.max(0.0) / most_bits,
                    y + ROW / 2.0
                );
            }
        }
        let _ = write!(
            s,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"#333\" stroke-width=\"1.5\"/>",
            stairs.trim_end()
        );
        let y = height - 24.0;
        for (i, (colour, name)) in [
            ("#3c6fb5", "linear maps"),
            ("#4a9a5b", "activations"),
            ("#b5473c", "bootstraps"),
            ("#999999", "joins and alignments"),
        ]
        .iter()
        .enumerate()
        {
            let x = LEFT + 150.0 * i as f64;
            let _ = write!(
                s,
                "<rect x=\"{x:.0}\" y=\"{:.0}\" width=\"10\" height=\"10\" fill=\"{colour}\"/><text x=\"{:.0}\" y=\"{:.0}\">{name}</text>",
                y - 9.0,
                x + 14.0,
                y
            );
        }
        s.push_str("</svg>\n");
        s
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

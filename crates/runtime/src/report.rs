//! What a run cost and how precise it was: as a table, JSON and SVG.

use crate::check::StepPrecision;
use crate::operation::Work;
use crate::prediction::{Basis, Prediction};
use crate::size;
use crate::verified::VerifiedPlan;
use ckks::{Cost, CostTable};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

mod svg;

/// What stands on a report with decrypted values or their errors.
const PRIVATE: &str =
    "for the key's owner alone: decrypted values and their errors can be used to attack the key";

/// One layer.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LayerReport {
    /// Its name in the network.
    pub layer: String,
    /// What its steps do.
    pub steps: Vec<&'static str>,
    /// Predicted CPU seconds by what they count as.
    #[serde(skip)]
    pub seconds_by_work: BTreeMap<Work, f64>,
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
    /// What the answer consists of: classes, values and so on; empty where nobody could decrypt.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub answers: &'static str,
    /// Predicted class of the encrypted run; none where nobody could decrypt, or the answer is no class.
    pub class: Option<usize>,
    /// Its label.
    pub label: Option<String>,
    /// Class of the clear twin.
    pub clear_class: Option<usize>,
    /// Largest difference of a value from the clear twin.
    pub max_abs_error: Option<f64>,
    /// Logits, of classes, labels and tokens.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logits: Vec<f64>,
    /// Other values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<f64>,
    /// False for what was decrypted under a user's own key: it is for nobody else's eyes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub may_be_shared: Option<bool>,
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Name of the network.
    pub network: String,
    /// Name of the parameter set.
    pub parameters: String,
    /// Bits after the point of integer weights, where the set has products in coefficients.
    pub weight_bits: Option<u32>,
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
    /// By what it is for.
    pub purposes: Vec<Share>,
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

/// The steps' time by what it counts as: measured where it is, else predicted.
fn shares(plan: &VerifiedPlan, prediction: &Prediction, measured: &Measured) -> Vec<Share> {
    let mut groups: BTreeMap<Work, (Option<f64>, Option<f64>, f64)> = BTreeMap::new();
    for (i, step) in plan.plan().steps.iter().enumerate() {
        let sum = groups.entry(step.work()).or_default();
        sum.2 += prediction.steps.get(i).copied().unwrap_or(0.0);
        if let Some((wall, cpu)) = measured.steps.get(&i) {
            sum.0 = Some(sum.0.unwrap_or(0.0) + wall);
            sum.1 = Some(sum.1.unwrap_or(0.0) + cpu);
        }
    }
    let total: f64 = groups.values().filter_map(|g| g.0).sum();
    let predicted = prediction.cpu_seconds;
    let part = |x: f64, of: f64| x / of.max(f64::MIN_POSITIVE);
    groups
        .into_iter()
        .map(|(work, (seconds, cpu_seconds, cpu))| Share {
            name: work.name().into(),
            seconds,
            cpu_seconds,
            predicted_cpu_seconds: cpu,
            share: seconds.map_or(part(cpu, predicted), |s| part(s, total)),
            count: None,
        })
        .collect()
}

/// Predicted CPU time by primitive, and the larger units of which they are part.
fn primitives(cost: &Cost, table: &CostTable) -> Vec<Share> {
    let total = cost.seconds(table).max(f64::MIN_POSITIVE);
    let mut shares: Vec<Share> = cost
        .primitives(table)
        .into_iter()
        .map(|(name, count, seconds)| Share {
            name: name.into(),
            seconds: None,
            cpu_seconds: None,
            predicted_cpu_seconds: seconds,
            share: seconds / total,
            count: Some(count),
        })
        .collect();
    shares.sort_by(|a, b| b.predicted_cpu_seconds.total_cmp(&a.predicted_cpu_seconds));
    shares
}

/// What was measured, if it was.
fn decimals(measured: Option<f64>, places: usize) -> String {
    measured.map_or("-".into(), |x| format!("{x:.places$}"))
}

/// Shares as a table for a terminal.
fn shares_to_text(title: &str, shares: &[Share]) -> String {
    let mut t = String::new();
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
            decimals(s.seconds, 2),
            decimals(s.cpu_seconds, 2),
            s.share * 100.0,
            s.predicted_cpu_seconds
        );
    }
    t
}

/// Counted work as a table for a terminal.
fn primitives_to_text(primitives: &[Share]) -> String {
    let mut t = String::new();
    let _ = writeln!(
        t,
        "\n{:22}  {:>12}  {:>6}  {:>15}   (counted; time by the cost table)",
        "primitive", "count", "share", "predicted cpu s"
    );
    for p in primitives {
        let count = decimals(p.count, 0);
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
            let predicted = prediction.steps.get(i).copied().unwrap_or(0.0);
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
            let of_work = layer.seconds_by_work.entry(step.work()).or_default();
            *of_work += predicted;
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
        Self {
            network: plan.plan().description.name.clone(),
            parameters: parameters.spec().name.clone(),
            weight_bits: parameters.spec().weight_bits(),
            answer,
            seconds: measured.seconds,
            predicted_seconds: prediction.seconds,
            cpu_seconds: measured.cpu_seconds,
            predicted_cpu_seconds: prediction.cpu_seconds,
            peak_bytes: measured.peak_bytes,
            predicted_peak_bytes: prediction.peak_bytes,
            key_bytes: facts.key_file_bytes,
            input_bytes: measured.input_bytes,
            answer_bytes: measured.answer_bytes,
            security_bits: parameters.security_bits(),
            log_qp: parameters.log_qp(),
            bootstraps: facts.bootstraps,
            threads: prediction.threads,
            basis: prediction.basis.clone(),
            layers,
            purposes: shares(plan, prediction, measured),
            primitives: primitives(
                &facts.total,
                &prediction.table().for_ring(parameters.spec().log_n),
            ),
        }
    }

    /// Whether it tells what must not be shared.
    fn is_private(&self) -> bool {
        self.answer.may_be_shared == Some(false)
    }

    /// One JSON object.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain data is always JSON")
    }

    /// Where the time goes, by purpose and by primitive, as tables for a terminal.
    pub fn breakdown(&self) -> String {
        shares_to_text("purpose", &self.purposes) + &primitives_to_text(&self.primitives)
    }

    /// A table for a terminal.
    pub fn to_text(&self) -> String {
        let mut t = String::new();
        let names = self.layers.iter().map(|l| l.layer.chars().count());
        let wide = names.max().unwrap_or(5).max(5);
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
                decimals(l.seconds, 2),
                (l.share).map_or("-".into(), |s| format!("{:.1}%", s * 100.0)),
                decimals(l.cpu_seconds, 2),
                l.predicted_cpu_seconds,
                format!("{}→{}", l.level_in, l.level_out),
                decimals(l.precision_bits, 1),
                l.predicted_bits,
            );
        }
        t += &self.breakdown();
        if self.is_private() {
            let _ = writeln!(t, "\n{PRIVATE}");
        }
        let _ = writeln!(t, "\n{:22}  {:>12}  {:>12}", "", "measured", "predicted");
        let time = |s: f64| match s {
            s if s < 1.0 => format!("{s:.3} s"),
            s => format!("{s:.1} s"),
        };
        let (peak, predicted_peak) = (self.peak_bytes, self.predicted_peak_bytes);
        for (what, measured, predicted) in [
            (
                "wall time",
                self.seconds.map(time),
                time(self.predicted_seconds),
            ),
            (
                "CPU time",
                self.cpu_seconds.map(time),
                time(self.predicted_cpu_seconds),
            ),
            ("peak memory", peak.map(size), size(predicted_peak)),
        ] {
            let measured = measured.unwrap_or_else(|| "-".into());
            let _ = writeln!(t, "{what:22}  {measured:>12}  {predicted:>12}");
        }
        let weights = self.weight_bits.map(|b| format!(", weights of {b} bits"));
        let _ = writeln!(
            t,
            "\nevaluation keys {}, encrypted input {}, encrypted answer {}",
            size(self.key_bytes),
            self.input_bytes.map_or("-".into(), size),
            self.answer_bytes.map_or("-".into(), size)
        );
        let _ = writeln!(
            t,
            "{} bootstraps, {} threads, parameters {}: log QP {:.1}, security {} bits{}",
            self.bootstraps,
            self.threads,
            self.parameters,
            self.log_qp,
            self.security_bits,
            weights.unwrap_or_default()
        );
        t
    }
}

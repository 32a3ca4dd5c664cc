//! Language models on text, LAMBADA and PIQA, side by side.

use super::corpus::tokens_of;
use super::score::wilson;
use crate::error::{Error, Help, Result, named};
use crate::inputs::text;
use crate::markdown::{Table, interval, or_none};
use crate::progress::{Listener, Say};
use crate::questions::{Questions, Sequence};
use nn::AttentionScheme;
use nn::attention::{Denominator, PowerSoftmax, Scaling};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Instant;
use task::Tokenizer;
use train::tasks::{Judge, Likelihood, Request, Stage, windows};
use zoo::trained::{Run, TrainedLanguageModel};

/// What language models are asked.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
pub struct Asking {
    /// How text is cut: tokenizer.json, a GGUF, a run's alphabet.json, or a file of llama2.c; if none, by the first model's own files.
    #[cfg_attr(feature = "clap", arg(long, value_name = "FILE"))]
    pub tokenizer: Option<PathBuf>,
    /// A text, for perplexity.
    #[cfg_attr(feature = "clap", arg(long, value_name = "FILE"))]
    pub text: Option<PathBuf>,
    /// Tokens that the model sees at once.
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", default_value_t = 512))]
    pub window: usize,
    /// Tokens from one window's beginning to the next one's, the last so many of each are found; half a window if none.
    #[cfg_attr(feature = "clap", arg(long, value_name = "N"))]
    pub stride: Option<usize>,
    /// No more windows than so many, from the text's beginning.
    #[cfg_attr(feature = "clap", arg(long, value_name = "N"))]
    pub windows: Option<usize>,
    /// LAMBADA: JSON lines with `text`, whose last word is to be found.
    #[cfg_attr(feature = "clap", arg(long, value_name = "FILE"))]
    pub lambada: Option<PathBuf>,
    /// PIQA: questions, and which answer is right.
    #[cfg_attr(feature = "clap", arg(skip))]
    pub piqa: Option<(PathBuf, PathBuf)>,
    /// No more passages and no more questions than so many, from the files' beginnings.
    #[cfg_attr(feature = "clap", arg(long, value_name = "N"))]
    pub limit: Option<usize>,
    /// So many solved examples stand before each passage and question: those that follow it in its file.
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", default_value_t = 0))]
    pub shots: usize,
    /// Models that don't say their attention are judged with this Power-Softmax, too.
    #[cfg_attr(feature = "clap", arg(skip))]
    pub power: Option<PowerSoftmax>,
    /// A run's polynomials and programs are judged one kind after the other, too, not only all of them.
    #[cfg_attr(feature = "clap", arg(long = "stages"))]
    pub by_kind: bool,
}

impl Default for Asking {
    fn default() -> Self {
        Self {
            tokenizer: None,
            text: None,
            window: 512,
            stride: None,
            windows: None,
            lambada: None,
            piqa: None,
            limit: None,
            shots: 0,
            power: None,
            by_kind: false,
        }
    }
}

/// How language models did; a table in Markdown as text.
#[derive(Debug, Clone)]
pub struct Answers(pub Vec<Value>);

/// What all models are asked.
struct Asked {
    text: Option<(Vec<Request>, f64)>,
    /// LAMBADA, PIQA, with a request for each sequence.
    questions: Vec<(Questions, Vec<Request>)>,
}

/// Judges language models: folders of runs, checkpoints, or files of llama.cpp or llama2.c. Texts are laid out and scored as in EleutherAI's
/// lm-evaluation-harness.
///
/// # Errors
/// Models and files that can't be read or do not fit each other.
pub fn judge(models: &[PathBuf], a: &Asking, tell: Listener<'_>) -> Result<Answers> {
    if a.text.is_none() && a.lambada.is_none() && a.piqa.is_none() {
        return Err("nothing to judge by: a text, LAMBADA or PIQA is needed".into());
    }
    let first = models.first().ok_or("no models")?;
    let path = a.tokenizer.as_ref().unwrap_or(first);
    let vocabulary = Tokenizer::load(path)
        .map_err(named(path))
        .map_err(|e| match a.tokenizer {
            Some(_) => e,
            None => Error::refused(e.to_string(), Help::NameTokenizer),
        })?;
    let asked = Asked::read(a, &vocabulary)?;
    let mut rows = Vec::new();
    for path in models {
        let trained = TrainedLanguageModel::load(path).map_err(named(path))?;
        let size = trained.model.architecture().sizes().vocabulary;
        if vocabulary.len() > size {
            return Err(named(path)(format!(
                "the model knows {size} tokens, the tokenizer {}; give the one that belongs to it",
                vocabulary.len()
            )));
        }
        for (attention, pieces) in variants(a, &trained.run) {
            let mut judge = Judge::new(&trained.model, attention, pieces);
            let row = asked.judge(path, attention, pieces, &mut judge, tell);
            rows.push(row.map_err(named(path))?);
        }
    }
    Ok(Answers(rows))
}

type Variant<'a> = (AttentionScheme, Option<(&'a str, Stage)>);

/// What of a model is judged: its attention, or softmax and Power-Softmax where it has none of its own; its approximations, or each stage of them.
fn variants<'a>(a: &Asking, run: &'a Run) -> Vec<Variant<'a>> {
    let Some(attention) = run.attention else {
        let power = a.power.map(|p| {
            let power = p.over(Denominator::Mean).scaled(Scaling::Largest);
            (AttentionScheme::Power(power), None)
        });
        let softmax = (AttentionScheme::Softmax, None);
        return [softmax].into_iter().chain(power).collect();
    };
    let Some(json) = run.approximations.as_deref() else {
        return vec![(attention, None)];
    };
    let stages = &Stage::ALL[if a.by_kind { 0 } else { 3 }..];
    let each = stages.iter().map(|&s| (attention, Some((json, s))));
    each.collect()
}

/// A sequence for models that are judged in the clear.
fn request(v: &Tokenizer, all: &Questions, index: usize, shots: usize) -> Result<Request> {
    let encode = |text: &str| Ok(tokens_of(v, text)?);
    let Sequence { tokens, first } = all.sequence(index, shots, encode)?;
    if first == 0 || first >= tokens.len() {
        return Err(format!(
            "{}, line {}: {first} of its {} tokens are before what is to be found; some must be, and some must not",
            all.name(),
            index / all.each() + 1,
            tokens.len()
        )
        .into());
    }
    Ok(Request { tokens, first })
}

impl Asked {
    fn read(a: &Asking, v: &Tokenizer) -> Result<Self> {
        let limit = a.limit.unwrap_or(usize::MAX);
        let text = a.text.as_deref().map(|path| -> Result<_> {
            let text = text(path)?;
            let tokens = tokens_of(v, &text).map_err(named(path))?;
            let bytes = text.len() as f64 / tokens.len().max(1) as f64;
            let mut all = windows(&tokens, a.window, a.stride.unwrap_or(a.window / 2))
                .map_err(named(path))?;
            all.truncate(a.windows.unwrap_or(usize::MAX));
            Ok((all, bytes))
        });
        let mut questions = Vec::new();
        let lambada = a.lambada.as_deref().map(Questions::lambada);
        let piqa = a
            .piqa
            .as_ref()
            .map(|(path, labels)| Questions::piqa(path, labels));
        for all in lambada.into_iter().chain(piqa) {
            let all = all?;
            all.require(a.shots)?;
            let count = limit.min(all.len()) * all.each();
            let requests = (0..count).map(|index| request(v, &all, index, a.shots));
            let requests = requests.collect::<Result<_>>()?;
            questions.push((all, requests));
        }
        Ok(Self {
            text: text.transpose()?,
            questions,
        })
    }

    /// One row of results.
    fn judge(
        &self,
        path: &Path,
        attention: AttentionScheme,
        pieces: Option<(&str, Stage)>,
        judge: &mut Judge<'_>,
        tell: Listener<'_>,
    ) -> Result<Value> {
        let began = Instant::now();
        let mut row = json!({
            "model": path.display().to_string(),
            "attention": attention,
            "pieces": pieces.map_or(Stage::Exact, |p| p.1).name(),
        });
        if let Some((requests, bytes)) = &self.text {
            let found = likelihoods(judge, requests, "text", tell)?;
            let (sum, tokens) = total(&found);
            let nats = -sum / tokens as f64;
            row["text"] = json!({
                "nats": nats, "perplexity": nats.exp(), "bits_per_byte": nats / std::f64::consts::LN_2 / bytes, "tokens": tokens, "windows": found.len(),
            });
        }
        for (all, requests) in &self.questions {
            let found = likelihoods(judge, requests, all.name(), tell)?;
            let sum = |i: usize| found.get(i).map(|l| l.sum);
            if let Questions::Lambada(_) = all {
                let n = found.len();
                let right = found.iter().filter(|l| l.greedy).count();
                row["lambada"] = json!({
                    "right": right, "passages": n, "interval_95": wilson(right, n), "perplexity": (-total(&found).0 / n as f64).exp(),
                    "sums": found.iter().map(|l| l.sum).collect::<Vec<_>>(),
                });
                continue;
            }
            let [n, plain, normal] = all.better(sum);
            row["piqa"] = json!({
                "right": plain, "right_normalised": normal, "questions": n, "interval_95": wilson(plain, n), "interval_95_normalised": wilson(normal, n),
                "sums": found.chunks(2).map(|p| p.iter().map(|l| l.sum).collect::<Vec<_>>()).collect::<Vec<_>>(),
            });
        }
        row["values_outside"] = judge.outside.into();
        row["tokens_a_second"] = (judge.tokens as f64 / began.elapsed().as_secs_f64()).into();
        Ok(row)
    }
}

fn total(found: &[Likelihood]) -> (f64, usize) {
    found
        .iter()
        .fold((0.0, 0), |(s, n), l| (s + l.sum, n + l.tokens))
}

fn likelihoods(
    judge: &mut Judge<'_>,
    requests: &[Request],
    what: &str,
    tell: Listener<'_>,
) -> Result<Vec<Likelihood>> {
    let found = judge.likelihoods(requests, &mut |done| tell.count(what, done, requests.len()));
    found.map_err(named(Path::new(what)))
}

impl std::fmt::Display for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = Table::default();
        let number =
            |v: &Value, digits: usize| or_none(v.as_f64().map(|x| format!("{x:.digits$}")));
        let share = |of: &Value, right: &str, all: &str, between: &str| {
            let ends = of[between].as_array().map(Vec::as_slice);
            match (of[right].as_f64(), of[all].as_f64(), ends) {
                (Some(right), Some(all), Some([low, high])) => {
                    let ends = (
                        low.as_f64().unwrap_or(f64::NAN),
                        high.as_f64().unwrap_or(f64::NAN),
                    );
                    format!("{:.1} {}", 100.0 * right / all, interval(ends))
                }
                _ => or_none(None::<String>),
            }
        };
        for row in &self.0 {
            let (t, l, p) = (&row["text"], &row["lambada"], &row["piqa"]);
            let text = |key: &str| row[key].as_str().unwrap_or_default().to_string();
            let normal = share(p, "right_normalised", "questions", "interval_95_normalised");
            table.row([
                ("model", text("model")),
                ("attention", attention(&row["attention"])),
                ("approximated", text("pieces")),
                ("nats a token", number(&t["nats"], 4)),
                ("perplexity", number(&t["perplexity"], 2)),
                ("LAMBADA, %", share(l, "right", "passages", "interval_95")),
                ("last-word perplexity", number(&l["perplexity"], 1)),
                ("PIQA, %", share(p, "right", "questions", "interval_95")),
                ("by length, %", normal),
                ("values outside", row["values_outside"].to_string()),
                ("tokens/s", number(&row["tokens_a_second"], 0)),
            ]);
        }
        write!(f, "{table}")
    }
}

fn attention(scheme: &Value) -> String {
    match (scheme.as_str(), &scheme["power"]["exponent"]) {
        (Some(name), _) => name.into(),
        (None, p) if p.is_number() => {
            format!("power {p}, ε {}", scheme["power"]["epsilon"])
        }
        _ => scheme.to_string(),
    }
}

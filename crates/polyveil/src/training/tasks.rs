//! Language models on text, LAMBADA and PIQA, side by side.

use super::corpus::{short_tokens, text};
use super::score::wilson;
use crate::error::{Error, Help, Result, named};
use crate::markdown::{Table, interval, or_none};
use crate::progress::{Listener, Say};
use data::tasks::{Passage, Question, lambada, piqa};
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
pub struct Asking {
    /// How text is cut; by the first model's own files if none.
    pub tokenizer: Option<PathBuf>,
    /// A text, for perplexity.
    pub text: Option<PathBuf>,
    /// Tokens that the model sees at once.
    pub window: usize,
    /// Tokens from one window's beginning to the next one's, the last so many of each are found; half a window if none.
    pub stride: Option<usize>,
    /// No more windows than so many, from the text's beginning.
    pub windows: Option<usize>,
    /// LAMBADA: passages whose last word is to be found.
    pub lambada: Option<PathBuf>,
    /// PIQA: questions, and which answer is right.
    pub piqa: Option<(PathBuf, PathBuf)>,
    /// No more passages and no more questions than so many, from the files' beginnings.
    pub limit: Option<usize>,
    /// So many solved examples stand before each passage and question: those that follow it in its file.
    pub shots: usize,
    /// Models that don't say their attention are judged with this Power-Softmax, too.
    pub power: Option<PowerSoftmax>,
    /// A run's polynomials and programs are judged one kind after the other, too, not only all of them.
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
    lambada: Vec<Request>,
    piqa: Vec<(Question, [Request; 2])>,
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

/// What of a model is judged: its attention, or softmax and Power-Softmax where it has none of its own; its pieces, or each stage of them.
fn variants<'a>(a: &Asking, run: &'a Run) -> Vec<Variant<'a>> {
    let Some(attention) = run.attention else {
        let power = a.power.map(|p| {
            let power = p.over(Denominator::Mean).scaled(Scaling::Largest);
            (AttentionScheme::Power(power), None)
        });
        let softmax = (AttentionScheme::Softmax, None);
        return [softmax].into_iter().chain(power).collect();
    };
    let Some(json) = run.pieces.as_deref() else {
        return vec![(attention, None)];
    };
    let stages = &Stage::ALL[if a.by_kind { 0 } else { 3 }..];
    let each = stages.iter().map(|&s| (attention, Some((json, s))));
    each.collect()
}

/// A context and what follows it. Spaces at the context's end go to what follows, as in lm-evaluation-harness, since tokens begin with their space.
fn request(v: &Tokenizer, context: &str, rest: &str, what: &str) -> Result<Request> {
    let kept = context.trim_end();
    let rest = format!("{}{rest}", &context[kept.len()..]);
    let what = Path::new(what);
    let tokens = short_tokens(v, &format!("{kept}{rest}")).map_err(named(what))?;
    let first = short_tokens(v, kept).map_err(named(what))?.len();
    if first == 0 || first >= tokens.len() {
        return Err(named(what)(format!(
            "{first} of its {} tokens are before what is to be found; some must be, and some must not",
            tokens.len()
        )));
    }
    Ok(Request { tokens, first })
}

/// `shots` solved examples, then the context: those that follow number `i`, the first behind the last.
fn with_examples(context: String, i: usize, shots: usize, solved: &[String]) -> String {
    let before = (1..=shots).map(|k| solved[(i + k) % solved.len()].as_str());
    before
        .chain([context.as_str()])
        .collect::<Vec<_>>()
        .join("\n\n")
}

fn enough(shots: usize, had: usize, what: &str) -> Result<()> {
    if shots >= had {
        return Err(format!(
            "{shots} solved examples: {what} has {had} in all, one of which is asked"
        )
        .into());
    }
    Ok(())
}

impl Asked {
    fn read(a: &Asking, v: &Tokenizer) -> Result<Self> {
        let limit = a.limit.unwrap_or(usize::MAX);
        let text = a.text.as_deref().map(|path| -> Result<_> {
            let text = text(path)?;
            let tokens = short_tokens(v, &text).map_err(named(path))?;
            let bytes = text.len() as f64 / tokens.len().max(1) as f64;
            let mut all = windows(&tokens, a.window, a.stride.unwrap_or(a.window / 2))
                .map_err(named(path))?;
            all.truncate(a.windows.unwrap_or(usize::MAX));
            Ok((all, bytes))
        });
        let mut out = Self {
            text: text.transpose()?,
            lambada: Vec::new(),
            piqa: Vec::new(),
        };
        if let Some(path) = &a.lambada {
            let passages = lambada(path)?;
            enough(a.shots, passages.len(), "LAMBADA")?;
            let solved = |p: &Passage| format!("{} {}", p.context, p.word);
            let solved: Vec<String> = passages.iter().map(solved).collect();
            for (i, p) in passages.into_iter().enumerate().take(limit) {
                let continuation = p.continuation();
                let context = with_examples(p.context, i, a.shots, &solved);
                let what = format!("LAMBADA, line {}", i + 1);
                out.lambada
                    .push(request(v, &context, &continuation, &what)?);
            }
        }
        if let Some((path, labels)) = &a.piqa {
            let questions = piqa(path, labels)?;
            enough(a.shots, questions.len(), "PIQA")?;
            let solved = |q: &Question| q.prompt() + &q.continuation(q.right);
            let solved: Vec<String> = questions.iter().map(solved).collect();
            for (i, q) in questions.into_iter().enumerate().take(limit) {
                let context = with_examples(q.prompt(), i, a.shots, &solved);
                let what = format!("PIQA, line {}", i + 1);
                let of = |k: usize| request(v, &context, &q.continuation(k), &what);
                let both = [of(0)?, of(1)?];
                out.piqa.push((q, both));
            }
        }
        Ok(out)
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
        if !self.lambada.is_empty() {
            let found = likelihoods(judge, &self.lambada, "LAMBADA", tell)?;
            let (sum, n) = (total(&found).0, found.len());
            let right = found.iter().filter(|l| l.greedy).count();
            row["lambada"] = json!({
                "right": right, "passages": n, "interval_95": wilson(right, n), "perplexity": (-sum / n as f64).exp(),
                "sums": found.iter().map(|l| l.sum).collect::<Vec<_>>(),
            });
        }
        if !self.piqa.is_empty() {
            let requests: Vec<Request> = self.piqa.iter().flat_map(|(_, r)| r.clone()).collect();
            let found = likelihoods(judge, &requests, "PIQA", tell)?;
            let pairs = found.as_chunks::<2>().0;
            let n = pairs.len();
            // the first of equals, as numpy's argmax has it
            let right = |length: fn(&str) -> f64| {
                let each = self.piqa.iter().zip(pairs).filter(|((q, _), [a, b])| {
                    let [x, y] = [(a, 0), (b, 1)].map(|(l, k)| l.sum / length(&q.answers[k]));
                    usize::from(y > x) == q.right
                });
                each.count()
            };
            let (plain, normal) = (right(|_| 1.0), right(|s| s.chars().count() as f64));
            row["piqa"] = json!({
                "right": plain, "right_normalised": normal, "questions": n, "interval_95": wilson(plain, n), "interval_95_normalised": wilson(normal, n),
                "sums": pairs.iter().map(|[a, b]| [a.sum, b.sum]).collect::<Vec<_>>(),
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
        let mut table = Table::new(&[
            "model",
            "attention",
            "approximated",
            "nats a token",
            "perplexity",
            "LAMBADA, %",
            "last-word perplexity",
            "PIQA, %",
            "by length, %",
            "values outside",
            "tokens/s",
        ]);
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
            table.row([
                row["model"].as_str().unwrap_or_default().to_string(),
                attention(&row["attention"]),
                row["pieces"].as_str().unwrap_or_default().to_string(),
                number(&t["nats"], 4),
                number(&t["perplexity"], 2),
                share(l, "right", "passages", "interval_95"),
                number(&l["perplexity"], 1),
                share(p, "right", "questions", "interval_95"),
                share(p, "right_normalised", "questions", "interval_95_normalised"),
                row["values_outside"].to_string(),
                number(&row["tokens_a_second"], 0),
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

//! Language models on text, LAMBADA and PIQA, side by side; and text files as tokens.

use super::run::wilson;
use super::vocabulary::Vocabulary;
use crate::Result;
use clap::Args;
use data::tasks::{Passage, Question, lambada, piqa};
use nn::AttentionScheme;
use nn::attention::{Denominator, PowerSoftmax, Scaling};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use train::tasks::{Judge, Likelihood, Request, Stage, windows};
use zoo::prompts::Trained;

/// Options of `tasks`.
#[derive(Args, Debug)]
pub struct TasksArgs {
    /// Runs' folders, folders with config.json and model.safetensors, or files of llama.cpp (GGUF) or llama2.c.
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// How text is cut: tokenizer.json, a GGUF, a run's alphabet.json, or a file of llama2.c [default: the first model].
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// A text, for perplexity.
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Tokens that the model sees at once.
    #[arg(long, default_value_t = 512, value_name = "N")]
    window: usize,
    /// Tokens from one window's beginning to the next one's, the last so many of each are found [default: half a window].
    #[arg(long, value_name = "N")]
    stride: Option<usize>,
    /// No more windows than so many, from the text's beginning.
    #[arg(long, value_name = "N")]
    windows: Option<usize>,
    /// LAMBADA: JSON lines with `text`, whose last word is to be found.
    #[arg(long, value_name = "FILE")]
    lambada: Option<PathBuf>,
    /// PIQA: JSON lines with `goal`, `sol1` and `sol2`.
    #[arg(long, value_name = "FILE", requires = "labels")]
    piqa: Option<PathBuf>,
    /// PIQA's right answers, 0 or 1 a line.
    #[arg(long, value_name = "FILE", requires = "piqa")]
    labels: Option<PathBuf>,
    /// No more passages and no more questions than so many, from the files' beginnings.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// So many solved examples stand before each passage and question: those that follow it in its file.
    #[arg(long, default_value_t = 0, value_name = "N")]
    shots: usize,
    /// Models that don't say their attention are judged with this Power-Softmax (of means), too.
    #[arg(long, value_name = "P")]
    power: Option<u32>,
    /// Its ε.
    #[arg(long, default_value_t = 1e-3, value_name = "E", requires = "power")]
    epsilon: f64,
    /// A run's polynomials and programs one kind after the other, too, not only all of them.
    #[arg(long)]
    stages: bool,
    /// Prints JSON instead of a table, with every passage's and answer's log-likelihood.
    #[arg(long)]
    json: bool,
}

/// What all models are asked.
struct Asked {
    text: Option<(Vec<Request>, f64)>,
    lambada: Vec<Request>,
    piqa: Vec<(Question, [Request; 2])>,
}

pub fn tasks(a: &TasksArgs) -> Result<()> {
    if a.text.is_none() && a.lambada.is_none() && a.piqa.is_none() {
        return Err("nothing to judge by: give --text, --lambada or --piqa with --labels".into());
    }
    let vocabulary =
        Vocabulary::load(a.tokenizer.as_ref().unwrap_or(&a.models[0])).map_err(|e| {
            match a.tokenizer {
                Some(_) => e,
                None => format!("{e}; name what cuts text for this model: --tokenizer FILE").into(),
            }
        })?;
    let asked = Asked::read(a, &vocabulary)?;
    let mut rows = Vec::new();
    for path in &a.models {
        let named = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let trained = Trained::load(path).map_err(|e| named(&e))?;
        let size = trained.model.architecture().sizes().vocabulary;
        if vocabulary.len() > size {
            return Err(named(&format!(
                "the model knows {size} tokens, the tokenizer {}; give the one that belongs to it",
                vocabulary.len()
            ))
            .into());
        }
        for (attention, pieces) in variants(a, &trained)? {
            let mut judge = Judge::new(&trained.model, attention, pieces);
            rows.push(
                asked
                    .judge(path, attention, pieces, &mut judge)
                    .map_err(|e| named(&e))?,
            );
        }
    }
    if a.json {
        println!("{:#}", Value::from(rows));
        return Ok(());
    }
    println!("{}", table(&rows));
    Ok(())
}

type Variant<'a> = (AttentionScheme, Option<(&'a str, Stage)>);

/// What of a model is judged: its attention, or softmax and Power-Softmax where it has none of its own; its pieces, or each stage of them.
fn variants<'a>(a: &TasksArgs, trained: &'a Trained) -> Result<Vec<Variant<'a>>> {
    let Some(attention) = trained.attention else {
        let mut all = vec![(AttentionScheme::Softmax, None)];
        if let Some(p) = a.power {
            let power = PowerSoftmax::new(p, a.epsilon)?;
            let power = power.over(Denominator::Mean).scaled(Scaling::Largest);
            all.push((AttentionScheme::Power(power), None));
        }
        return Ok(all);
    };
    let Some(json) = trained.pieces.as_deref() else {
        return Ok(vec![(attention, None)]);
    };
    let stages = if a.stages {
        &Stage::ALL[..]
    } else {
        &Stage::ALL[3..]
    };
    Ok(stages
        .iter()
        .map(|&s| (attention, Some((json, s))))
        .collect())
}

/// A context and what follows it. Spaces at the context's end go to what follows, as in lm-evaluation-harness, since tokens begin with their space.
fn request(v: &Vocabulary, context: &str, rest: &str, what: &str) -> Result<Request> {
    let kept = context.trim_end();
    let rest = format!("{}{rest}", &context[kept.len()..]);
    let named = |e: &dyn std::fmt::Display| format!("{what}: {e}");
    let tokens = v.encode(&format!("{kept}{rest}")).map_err(|e| named(&e))?;
    let first = v.encode(kept).map_err(|e| named(&e))?.len();
    if first == 0 || first >= tokens.len() {
        return Err(named(&format!(
            "{first} of its {} tokens are before what is to be found; some must be, and some must not",
            tokens.len()
        ))
        .into());
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
        return Err(
            format!("--shots {shots}: {what} has {had} in all, one of which is asked").into(),
        );
    }
    Ok(())
}

impl Asked {
    fn read(a: &TasksArgs, v: &Vocabulary) -> Result<Self> {
        let limit = a.limit.unwrap_or(usize::MAX);
        let text = a.text.as_deref().map(|path| {
            let bytes = nn::format::read_limited(path, nn::format::DEFAULT_LIMIT)?;
            let text = String::from_utf8(bytes).map_err(|e| format!("{}: {e}", path.display()))?;
            let tokens = v
                .encode(&text)
                .map_err(|e| format!("{}: {e}", path.display()))?;
            let bytes = text.len() as f64 / tokens.len().max(1) as f64;
            let mut all = windows(&tokens, a.window, a.stride.unwrap_or(a.window / 2))
                .map_err(|e| format!("{}: {e}", path.display()))?;
            all.truncate(a.windows.unwrap_or(usize::MAX));
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((all, bytes))
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
        if let (Some(path), Some(labels)) = (&a.piqa, &a.labels) {
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
    ) -> Result<Value> {
        let began = Instant::now();
        let mut row = json!({
            "model": path.display().to_string(),
            "attention": attention,
            "pieces": pieces.map_or(Stage::Exact, |p| p.1).name(),
        });
        if let Some((requests, bytes)) = &self.text {
            let found = likelihoods(judge, requests, path, "text")?;
            let (sum, tokens) = total(&found);
            let nats = -sum / tokens as f64;
            row["text"] = json!({
                "nats": nats, "perplexity": nats.exp(), "bits_per_byte": nats / std::f64::consts::LN_2 / bytes, "tokens": tokens, "windows": found.len(),
            });
        }
        if !self.lambada.is_empty() {
            let found = likelihoods(judge, &self.lambada, path, "LAMBADA")?;
            let (sum, n) = (total(&found).0, found.len());
            let right = found.iter().filter(|l| l.greedy).count();
            row["lambada"] = json!({
                "right": right, "passages": n, "interval_95": wilson(right, n), "perplexity": (-sum / n as f64).exp(),
                "sums": found.iter().map(|l| l.sum).collect::<Vec<_>>(),
            });
        }
        if !self.piqa.is_empty() {
            let requests: Vec<Request> = self.piqa.iter().flat_map(|(_, r)| r.clone()).collect();
            let found = likelihoods(judge, &requests, path, "PIQA")?;
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
    path: &Path,
    what: &str,
) -> Result<Vec<Likelihood>> {
    let mut said = Instant::now();
    let found = judge.likelihoods(requests, &mut |done| {
        if said.elapsed() > Duration::from_secs(30) {
            said = Instant::now();
            eprintln!("{}: {what}, {done} of {}", path.display(), requests.len());
        }
    });
    found.map_err(|e| format!("{what}: {e}").into())
}

/// The rows as Markdown.
fn table(rows: &[Value]) -> String {
    let mut out = String::from(
        "| model | attention | approximated | nats a token | perplexity | LAMBADA, % | last-word perplexity | PIQA, % | by length, % | values outside | tokens/s |\n|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    let number = |v: &Value, digits: usize| match v.as_f64() {
        Some(x) => format!("{x:.digits$}"),
        None => "–".into(),
    };
    let share = |of: &Value, right: &str, all: &str, interval: &str| match (
        of[right].as_f64(),
        of[all].as_f64(),
        of[interval].as_array().map(Vec::as_slice),
    ) {
        (Some(right), Some(all), Some([low, high])) => format!(
            "{:.1} [{}, {}]",
            100.0 * right / all,
            number(low, 1),
            number(high, 1)
        ),
        _ => "–".into(),
    };
    for row in rows {
        let (t, l, p) = (&row["text"], &row["lambada"], &row["piqa"]);
        let cells = [
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
        ];
        out += &format!("| {} |\n", cells.join(" | "));
    }
    out
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

/// Options of `tokenize`.
#[derive(Args, Debug)]
pub struct TokenizeArgs {
    /// Text files, one behind the other.
    #[arg(required = true)]
    texts: Vec<PathBuf>,
    /// tokenizer.json, a GGUF, a run's alphabet.json, or a file of llama2.c.
    #[arg(long, value_name = "FILE")]
    tokenizer: PathBuf,
    /// Tokens of two bytes, the low one first.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

pub fn tokenize(a: &TokenizeArgs) -> Result<()> {
    let vocabulary = Vocabulary::load(&a.tokenizer)?;
    let (mut bytes, mut read) = (Vec::new(), 0);
    for path in &a.texts {
        let named = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let raw = nn::format::read_limited(path, nn::format::DEFAULT_LIMIT)?;
        read += raw.len();
        let text = String::from_utf8(raw).map_err(|e| named(&e))?;
        let tokens = vocabulary.encode(&text).map_err(|e| named(&e))?;
        bytes.extend(tokens.iter().flat_map(|t| t.to_le_bytes()));
    }
    std::fs::write(&a.output, &bytes).map_err(|e| format!("{}: {e}", a.output.display()))?;
    eprintln!(
        "{}: {} tokens of {} from {read} bytes",
        a.output.display(),
        bytes.len() / 2,
        vocabulary.len()
    );
    Ok(())
}

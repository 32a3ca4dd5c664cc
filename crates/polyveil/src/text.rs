//! Language models: calibrate on text, encrypt prompts, read answers.

use crate::Result;
use crate::arguments::{CalibrateArgs, DecryptArgs};
use crate::commands::{answers, insecure};
use crate::network::{load_polynomial, named, open, top};
use crate::terminal::note;
use clap::Args;
use compiler::Task;
use data::{Text, Windows};
use nn::attention::Denominator;
use nn::format::llama2c::{BEGIN, Tokenizer};
use nn::prompt::Vocabulary;
use nn::{AttentionScheme, Metadata, PolyGraph, PowerSoftmax, PromptFormat, SentenceFormat};
use runtime::{Client, ClientSpec};
use runtime::{Plan, Purpose, Step};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use zoo::prompts::{Trained, polynomials};

/// Windows of text that `calibrate` looks at unless it is told.
const WINDOWS: usize = 200;

/// What a plan for pictures says to text.
pub const NO_LANGUAGE: &str = "this plan takes no prompts: --text goes with language models (`polyveil calibrate --text` or `--tokens`)";

/// What stands in place of a promise about shared answers.
pub const BOUND: &str = "the bound above multiplies worst cases through divisions and says nothing here; `polyveil evaluate --prompts` or `--sentences` states an error before it runs. Such answers can't be shared (`decrypt --share`)";

/// Options of `calibrate` for language models.
#[derive(Args, Debug)]
pub struct TextArgs {
    /// Language model: text in UTF-8 to calibrate on, a passage a line.
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    text: Option<PathBuf>,
    /// Language model: or tokens, two bytes each, as they are trained on.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "text"])]
    tokens: Option<PathBuf>,
    /// Tokens of a prompt at most, the first one included.
    #[arg(long, value_name = "L")]
    pub length: Option<usize>,
    /// llama2.c's tokenizer [default: the characters of the run's alphabet.json].
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// The character that every prompt begins with and that is not encrypted, of a model by characters; a tokenizer's is its own.
    #[arg(long, value_name = "CHAR", conflicts_with = "tokenizer")]
    first: Option<char>,
    /// Exponent of Power-Softmax, even [default: the run's].
    #[arg(long, value_name = "P")]
    pub power: Option<u32>,
    /// What Power-Softmax adds to a divisor.
    #[arg(long, value_name = "E", default_value_t = 1e-3, requires = "power")]
    pub epsilon: f64,
    /// Power-Softmax divides by the mean of the powers, not by their sum.
    #[arg(long, requires = "power")]
    pub mean: bool,
    /// Precision of divisions and roots that are chosen here, in bits.
    #[arg(long, value_name = "B", default_value_t = 12.0)]
    pub bits: f64,
    /// Divisions and roots that are chosen here carry their numerators along: a level less each, at more values.
    #[arg(long)]
    pub carry: bool,
    /// At most so many calibration prompts may leave an interval; they are left out and counted.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub leave_out: usize,
}

impl TextArgs {
    /// Whether a language model is meant.
    pub fn given(&self) -> bool {
        self.text.is_some() || self.tokens.is_some()
    }

    fn attention(&self, trained: &Trained, model: &Path) -> Result<AttentionScheme> {
        match (self.power, trained.attention) {
            (Some(_), Some(_)) => Err(format!(
                "{}: the run says which attention it was trained with; leave --power out",
                model.display()
            )
            .into()),
            (Some(exponent), None) => {
                let power = PowerSoftmax::new(exponent, self.epsilon)?;
                Ok(AttentionScheme::Power(match self.mean {
                    true => power.over(Denominator::Mean),
                    false => power,
                }))
            }
            (None, Some(scheme)) => Ok(scheme),
            (None, None) => Err(format!(
                "{}: a checkpoint does not say how its attention becomes polynomial; give --power 4, best after training with it",
                model.display()
            )
            .into()),
        }
    }

    /// The vocabulary, and the public first token.
    fn vocabulary(&self, trained: &Trained) -> Result<(Vocabulary, Option<u32>)> {
        if let Some(path) = &self.tokenizer {
            let vocabulary = Vocabulary::Pieces(Tokenizer::load(path).map_err(named(path))?);
            let public = trained.public.unwrap_or(true);
            return Ok((vocabulary, public.then_some(BEGIN)));
        }
        let Some(alphabet) = &trained.alphabet else {
            return Err("the model's vocabulary is needed: --tokenizer FILE (a run on characters has its alphabet.json)".into());
        };
        let vocabulary = Vocabulary::Characters(alphabet.clone());
        let first = self.first.map(|c| vocabulary.encode(&c.to_string()));
        let first = first
            .transpose()?
            .and_then(|tokens| tokens.first().copied());
        match (trained.public, first) {
            (Some(true), None) => {
                Err("the run left its first token public: say which with --first CHAR".into())
            }
            (Some(false), Some(_)) => Err(
                "the run's intervals are for an encrypted first token: leave --first out".into(),
            ),
            _ => Ok((vocabulary, first)),
        }
    }

    /// Windows of the text that begin like prompts.
    fn windows(
        &self,
        (vocabulary, begin): (&Vocabulary, Option<u32>),
        limit: usize,
    ) -> Result<Vec<Vec<u32>>> {
        let length = self
            .length
            .ok_or("--length L is needed: tokens of a prompt at most")?;
        let text = match (&self.text, &self.tokens) {
            (_, Some(path)) => Text::binary(path, vocabulary.size()).map_err(named(path))?,
            (Some(path), None) => {
                let limit = nn::format::DEFAULT_LIMIT;
                let bytes = nn::format::read_limited(path, limit).map_err(named(path))?;
                let text = String::from_utf8(bytes).map_err(named(path))?;
                Text::new(
                    tokens(vocabulary, &text).map_err(named(path))?,
                    vocabulary.size(),
                )?
            }
            (None, None) => return Err("text is needed: --text FILE or --tokens FILE".into()),
        };
        let begin = begin.map(u16::try_from).transpose()?;
        let windows = Windows::new(text, length, begin)?;
        let all = windows.len();
        let take = limit.min(all);
        Ok((0..take)
            .map(|i| {
                let (mut tokens, mut next) = (Vec::new(), Vec::new());
                windows.window(i * all / take, &mut tokens, &mut next);
                tokens.into_iter().map(u32::from).collect()
            })
            .collect())
    }
}

/// A text as one stream: with a tokenizer, each line begins with its first token; by characters, as it is.
fn tokens(vocabulary: &Vocabulary, text: &str) -> Result<Vec<u16>> {
    let tokens = match vocabulary {
        Vocabulary::Characters(_) => vocabulary.encode(text)?,
        Vocabulary::Pieces(_) => {
            let lines = text.lines().filter(|l| !l.trim().is_empty());
            let lines: Vec<Vec<u32>> = lines
                .map(|l| vocabulary.encode(l))
                .collect::<nn::Result<_>>()?;
            lines.concat()
        }
    };
    Ok(tokens
        .into_iter()
        .map(u16::try_from)
        .collect::<std::result::Result<_, _>>()?)
}

/// A language model and text become a polynomial language model.
pub fn calibrate(a: &CalibrateArgs) -> Result<()> {
    let trained = Trained::load(&a.model).map_err(named(&a.model))?;
    let attention = a.text.attention(&trained, &a.model)?;
    let (vocabulary, begin) = a.text.vocabulary(&trained)?;
    let windows = a
        .text
        .windows((&vocabulary, begin), a.limit.unwrap_or(WINDOWS))?;
    let options = crate::commands::lowering(a);
    note(format_args!(
        "calibrating on {} windows, whole and cut short",
        windows.len()
    ));
    let made = polynomials(
        &trained,
        attention,
        (vocabulary, begin),
        &windows,
        &options,
        a.text.leave_out,
    )
    .map_err(|e| match e {
        nn::Error::Exceeded { .. } => format!("{e}; or let --leave-out N leave so many out").into(),
        e => named(&a.model)(e),
    })?;
    for node in made
        .approximations
        .described(&trained.model.graph(made.format.length(), attention)?)
    {
        note(format_args!("  {node}"));
    }
    if let Some((_, first)) = made.left_out.first() {
        let left_out = made.left_out.len();
        note(format_args!(
            "{left_out} of {} prompts leave an interval and are left out; the first: {first}",
            made.prompts
        ));
    }
    let name = |p: &Path| {
        p.file_stem()
            .map_or_else(String::new, |s| s.to_string_lossy().into_owned())
    };
    let provenance = format!(
        "language model of {} for prompts of {} tokens; {} prompts calibrated, {} of them left out",
        name(&a.model),
        made.format.length(),
        made.prompts,
        made.left_out.len()
    );
    let graph = made.graph.with_metadata(Metadata {
        name: a.name.clone().unwrap_or_else(|| name(&a.model)),
        provenance: vec![provenance],
        training: trained.record.clone(),
        prompts: Some(made.format),
        ..Metadata::default()
    })?;
    nn::format::artefact::save(&graph, &a.output)?;
    note(format_args!("wrote {}", a.output.display()));
    Ok(())
}

/// Whether the plan divides, so that its worst-case bound says nothing: a language model's or an encoder's.
pub fn divides(plan: &Plan) -> bool {
    let divides = |s: &Step| matches!(s.purpose, Purpose::Norm | Purpose::Attention);
    plan.steps.iter().any(divides)
}

/// How prompts become inputs, if the plan is a language model's.
pub fn format(task: &Task) -> Result<Option<PromptFormat>> {
    let format = task.client.as_ref();
    let format = format.filter(|c| !SentenceFormat::described_by(c));
    Ok(format.map(PromptFormat::from_json).transpose()?)
}

/// A calibrated language model and how it takes prompts.
pub fn language(model: &Path) -> Result<(PolyGraph, PromptFormat)> {
    let graph = load_polynomial(model)?;
    let format = graph.metadata().prompts.clone();
    let format = format.ok_or_else(|| format!("{}: {NO_LANGUAGE}", model.display()))?;
    Ok((graph, format))
}

/// The passages that it was calibrated on, as inputs: what its error is stated on.
pub fn passages(format: &PromptFormat) -> Result<Vec<nn::Tensor>> {
    let each = format.passages().iter().map(|t| format.input(t));
    Ok(each.collect::<nn::Result<_>>()?)
}

/// Prompts as a plan's input, one after another.
pub fn inputs(format: Option<&PromptFormat>, texts: &[String]) -> Result<Vec<f64>> {
    let format = format.ok_or(NO_LANGUAGE)?;
    if texts.is_empty() {
        return Err("this plan is a language model's: give the prompt, --text TEXT".into());
    }
    let mut values = Vec::new();
    for text in texts {
        values.extend(format.input(&format.encode(text)?)?.into_values());
    }
    Ok(values)
}

/// The position in the answer that follows a prompt of so many tokens.
pub fn after(format: &PromptFormat, tokens: usize) -> usize {
    tokens - format.public() - 1
}

/// Decrypts logits and prints what comes next.
pub fn decrypt(a: &DecryptArgs, client: &Client, format: &PromptFormat) -> Result<()> {
    if a.share {
        return Err("answers of a language model can't be shared: their worst-case error bound is too wide for noise to leave a token standing; keep them to yourself".into());
    }
    let name = a.answer.display().to_string();
    let logits = client.read_answer(BufReader::new(open(&a.answer)?), &name)?;
    note(
        "keep this to yourself: whoever sees decrypted values can attack the key (IND-CPA-D, SECURITY.md)",
    );
    insecure(client);
    let prompts: Vec<Option<&String>> = match &a.text[..] {
        [] => vec![None; a.count],
        texts => texts.iter().map(Some).collect(),
    };
    let each = answers(client, &logits, prompts.len())?;
    for (logits, prompt) in each.zip(prompts) {
        one(a, client.spec(), format, (logits, prompt))?;
    }
    Ok(())
}

/// Prints one answer of a batch.
fn one(
    a: &DecryptArgs,
    spec: &ClientSpec,
    format: &PromptFormat,
    (logits, prompt): (&[f64], Option<&String>),
) -> Result<()> {
    let (tokens, prompt) = match prompt {
        Some(text) => {
            let tokens = format.encode(text)?;
            (tokens.len(), Some(tokens))
        }
        None => (format.length(), None),
    };
    let last = after(format, tokens);
    let at = |position: usize| {
        format.logits_at(logits, position).ok_or_else(|| {
            format!(
                "the answer has {} values, this model's has others",
                logits.len()
            )
        })
    };
    let vocabulary = format.vocabulary();
    let next: Vec<u32> = (0..=last)
        .map(|p| Ok(token(&at(p)?)))
        .collect::<Result<_>>()?;
    let final_logits = at(last)?;
    let best: Vec<(u32, f64)> = candidates(&final_logits);
    if a.json {
        let candidates: Vec<serde_json::Value> = best
            .iter()
            .map(|&(token, p)| {
                serde_json::json!({ "token": token, "text": vocabulary.show(token), "probability": p, "logit": final_logits[token as usize] })
            })
            .collect();
        println!(
            "{}",
            serde_json::json!({ "network": spec.description.name, "next": next, "candidates": candidates, "may_be_shared": false })
        );
        return Ok(());
    }
    if prompt.is_none() {
        note(
            "positions beyond the prompt's end continue the passage that fills it up; --text PROMPT prints the prompt's alone",
        );
    }
    for (position, &next) in next.iter().enumerate() {
        let seen = prompt
            .as_ref()
            .map(|p| vocabulary.show(p[position + format.public()]));
        println!(
            "  {:4}  {:14} → {}",
            position,
            seen.unwrap_or_default(),
            vocabulary.show(next)
        );
    }
    println!("next token:");
    for (token, probability) in best {
        println!(
            "  {:14} {:5.1}%  (logit {:+.4})",
            vocabulary.show(token),
            100.0 * probability,
            final_logits[token as usize]
        );
    }
    Ok(())
}

/// The likeliest token.
pub fn token(logits: &[f64]) -> u32 {
    let best = top(logits, 1).first().copied().unwrap_or(0);
    u32::try_from(best).unwrap_or(u32::MAX)
}

/// The five likeliest tokens with their probabilities.
fn candidates(logits: &[f64]) -> Vec<(u32, f64)> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = logits.iter().map(|l| (l - largest).exp()).sum();
    let share = |i: usize| (logits[i] - largest).exp() / total;
    let best = top(logits, 5).into_iter();
    best.map(|i| (u32::try_from(i).unwrap_or(u32::MAX), share(i)))
        .collect()
}

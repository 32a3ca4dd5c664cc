//! Runs on text, and text from models.

use super::run::Lines;
use crate::Result;
use clap::Args;
use nn::attention::{AttentionScheme, Denominator, PowerSoftmax};
use nn::format::llama2c;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use train::generate::{Sampling, corpus};
use train::language::{LanguageConfig, Passages, export, models, programs};
use train::{Event, Trainer};
use zoo::language::LanguageModel;

/// Trains to the end, exports, and says what came out; saves every so many seconds.
pub fn execute(config: &LanguageConfig, folder: &Path, every: f64) -> Result<()> {
    let passages = Passages::open(&config.data)?;
    let (language, model, teacher) = models(config, &passages)?;
    eprintln!(
        "{} tokens to train on, {} held out for choices; {} parameters",
        passages.train.text().tokens().len(),
        passages.held_out.text().tokens().len(),
        model
            .parameters
            .iter()
            .map(|p| p.values.len())
            .sum::<usize>()
    );
    let mut trainer = Trainer::new(config, model, teacher, passages, folder)?;
    trainer.every = Duration::try_from_secs_f64(every)
        .map_err(|e| format!("--checkpoint-every {every}: {e}"))?;
    eprintln!(
        "Ctrl-C stops this run; the same command goes on from its last checkpoint, with the same result"
    );
    let mut lines = Lines::default();
    let _end = trainer.run(&mut |e| {
        match e {
            Event::Epoch {
                stage,
                epoch,
                loss,
                held_out,
                extremes,
                ..
            } => eprintln!(
                "{stage}, pass {epoch}: loss {loss:.4}, {:.4} on held-out text ({} values outside), inputs of activations in [{:.2}, {:.2}]",
                held_out.loss, held_out.outside, extremes.0, extremes.1
            ),
            other => lines.show(other),
        }
        ControlFlow::Continue(())
    })?;
    let score = trainer.score()?;
    let (position, passages) = (trainer.position(), trainer.sources());
    export(
        folder,
        config,
        &language,
        &trainer.model,
        passages,
        &score,
        &position.log,
    )?;
    let circuits = programs(&trainer.model).lines().count() - 1;
    eprintln!(
        "{}: {:.4} nats a token on {} held-out tokens, {:.1} % right, {} values outside of their intervals; {circuits} programs",
        folder.display(),
        score.loss,
        score.pictures,
        100.0 * score.accuracy(),
        score.outside
    );
    Ok(())
}

/// Options of `sample`.
#[derive(Args, Debug)]
pub struct SampleArgs {
    /// The model: a file of llama2.c, or a folder with config.json and model.safetensors.
    model: PathBuf,
    /// The corpus: tokens of two bytes, the low one first; FILE.json beside it says how it was drawn and how far it is.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Tokens to draw, at least; the last round of sequences is finished.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    tokens: u64,
    /// Decides every token.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Logits are divided by it.
    #[arg(long, default_value_t = 1.0, value_name = "T")]
    temperature: f32,
    /// No sequence is longer; as many as the model knows positions if absent.
    #[arg(long, value_name = "N")]
    length: Option<usize>,
    /// Sequences side by side.
    #[arg(long, default_value_t = 64, value_name = "N")]
    batch: usize,
    /// Begins every sequence.
    #[arg(long, default_value_t = llama2c::BEGIN as u16, value_name = "TOKEN")]
    begin: u16,
    /// Power-Softmax with this exponent instead of softmax, for a model that was trained with it.
    #[arg(long, value_name = "P")]
    power: Option<u32>,
    /// Its ε.
    #[arg(long, default_value_t = 1e-3, value_name = "E", requires = "power")]
    epsilon: f64,
    /// A tokenizer of llama2.c, to show what the first sequences say.
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
}

pub fn sample(a: &SampleArgs) -> Result<()> {
    let named = |e: nn::Error| format!("{}: {e}", a.model.display());
    let language = LanguageModel::load(&a.model).map_err(named)?;
    if !(a.temperature.is_finite() && a.temperature > 0.0) {
        return Err(format!(
            "--temperature {}: a number above 0; 1 is the model's own distribution",
            a.temperature
        )
        .into());
    }
    if a.batch == 0 {
        return Err("--batch 0: at least one sequence".into());
    }
    let vocabulary = language.architecture().sizes().vocabulary;
    if usize::from(a.begin) >= vocabulary {
        return Err(format!("--begin {}: the model knows {vocabulary} tokens", a.begin).into());
    }
    let attention = match a.power {
        None => AttentionScheme::Softmax,
        Some(p) => AttentionScheme::Power(PowerSoftmax::new(p, a.epsilon)?.over(Denominator::Mean)),
    };
    let tokenizer = a
        .tokenizer
        .as_deref()
        .map(llama2c::Tokenizer::load)
        .transpose()?;
    let sampling = Sampling {
        seed: a.seed,
        temperature: a.temperature,
        begin: a.begin,
        end: (u32::from(a.begin) == llama2c::BEGIN).then_some(llama2c::END as u16),
        length: a
            .length
            .unwrap_or_else(|| language.architecture().sizes().max_length),
        batch: a.batch,
    };
    let began = Instant::now();
    let (mut first, mut said) = (None, Instant::now());
    let done = corpus(
        &language,
        attention,
        &sampling,
        a.tokens,
        &a.output,
        &mut |p| {
            let start = *first.get_or_insert(p.tokens);
            if said.elapsed() < Duration::from_secs(30) {
                return;
            }
            said = Instant::now();
            eprintln!(
                "{} of {} tokens, {:.0} a second",
                p.tokens,
                a.tokens,
                (p.tokens - start) as f64 / began.elapsed().as_secs_f64()
            );
        },
    )?;
    eprintln!(
        "{}: {} tokens in {} sequences",
        a.output.display(),
        done.tokens,
        done.sequences
    );
    if let Some(tokenizer) = tokenizer {
        let text = data::Text::binary(&a.output, vocabulary)?;
        let tokens: Vec<u32> = text.tokens().iter().map(|&t| t.into()).collect();
        for story in tokens.split(|&t| t == u32::from(a.begin)).skip(1).take(3) {
            eprintln!("— {}", tokenizer.decode(story)?);
        }
    }
    Ok(())
}

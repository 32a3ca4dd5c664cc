//! Corpora to train on: drawn from a model, or cut from text; and vocabularies.

use crate::error::{Result, named};
use crate::files::{Content, Existing, Output};
use crate::inputs::text;
use crate::progress::{Listener, Progress, Say};
use data::Sentences;
use nn::AttentionScheme;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;
use task::Tokenizer;
use task::tokenizer::llama2c;
use task::tokenizer::wordpiece::{WordPiece, words};
use train::generate::{Sampling, corpus};
use zoo::language::LanguageModel;

/// What is drawn from a language model.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
pub struct Drawing {
    /// Tokens, at least; the last round of sequences is finished.
    #[cfg_attr(
        feature = "clap",
        arg(long, value_name = "N", default_value_t = 1_000_000)
    )]
    pub tokens: u64,
    /// Decides every token.
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", default_value_t = 1))]
    pub seed: u64,
    /// Logits are divided by it.
    #[cfg_attr(feature = "clap", arg(long, value_name = "T", default_value_t = 1.0))]
    pub temperature: f32,
    /// No sequence is longer; as many as the model knows positions if none.
    #[cfg_attr(feature = "clap", arg(long, value_name = "N"))]
    pub length: Option<usize>,
    /// Sequences side by side.
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", default_value_t = 64))]
    pub batch: usize,
    /// Begins every sequence.
    #[cfg_attr(feature = "clap", arg(long, value_name = "TOKEN", default_value_t = llama2c::BEGIN))]
    pub begin: u32,
    /// The attention that the model was trained with.
    #[cfg_attr(feature = "clap", arg(skip = AttentionScheme::Softmax))]
    pub attention: AttentionScheme,
}

impl Default for Drawing {
    fn default() -> Self {
        Self {
            tokens: 1_000_000,
            seed: 1,
            temperature: 1.0,
            length: None,
            batch: 64,
            begin: llama2c::BEGIN,
            attention: AttentionScheme::Softmax,
        }
    }
}

/// Draws text from a language model into a file of tokens ([`data::Text::binary`]); goes on where it was stopped. Gives the first
/// stories, if there is a tokenizer to read them by.
///
/// # Errors
/// Models and settings that do not fit; the file system's.
pub fn sample(
    model: &Path,
    a: &Drawing,
    tokenizer: Option<&Path>,
    output: &Path,
    tell: Listener<'_>,
) -> Result<Vec<String>> {
    let language = LanguageModel::load(model).map_err(named(model))?;
    if !(a.temperature.is_finite() && a.temperature > 0.0) {
        return Err(format!(
            "a temperature of {}: a number above 0 is needed; 1 is the model's own distribution",
            a.temperature
        )
        .into());
    }
    if a.batch == 0 {
        return Err("a batch of 0: at least one sequence is needed".into());
    }
    let sizes = language.architecture().sizes();
    if a.begin as usize >= sizes.vocabulary {
        let (begin, known) = (a.begin, sizes.vocabulary);
        return Err(format!("the first token {begin}: the model knows {known} tokens").into());
    }
    let tokenizer = tokenizer.map(Tokenizer::load).transpose()?;
    let sampling = Sampling {
        seed: a.seed,
        temperature: a.temperature,
        begin: a.begin,
        end: (a.begin == llama2c::BEGIN).then_some(llama2c::END),
        length: a.length.unwrap_or(sizes.max_length),
        batch: a.batch,
    };
    let (began, mut first) = (Instant::now(), None);
    let done = corpus(
        &language,
        a.attention,
        &sampling,
        a.tokens,
        output,
        &mut |p| {
            let start = *first.get_or_insert(p.tokens);
            let speed = (p.tokens - start) as f64 / began.elapsed().as_secs_f64();
            tell(Progress {
                message: &format!("{} of {} tokens, {speed:.0} a second", p.tokens, a.tokens),
                fraction: Some(p.tokens as f64 / a.tokens.max(1) as f64),
                remaining: None,
            });
        },
    )?;
    tell.note(format_args!(
        "{}: {} tokens in {} sequences",
        output.display(),
        done.tokens,
        done.sequences
    ));
    let Some(tokenizer) = tokenizer else {
        return Ok(Vec::new());
    };
    let text = data::Text::binary(output, sizes.vocabulary)?;
    let stories = text.tokens().split(|&t| t == a.begin).skip(1).take(3);
    Ok(stories
        .map(|story| tokenizer.decode(story))
        .collect::<task::Result<_>>()?)
}

/// Makes a vocabulary for encoders, BERT's `vocab.txt`, of at most `size` tokens from a file of labelled sentences.
///
/// # Errors
/// Sentences that can't be read, a size that holds no vocabulary.
pub fn vocabulary(
    sentences: &Path,
    size: usize,
    (output, existing): (&Path, Existing),
    tell: Listener<'_>,
) -> Result<()> {
    let file = Output::create(output, Content::Other, &[sentences], existing, tell)?;
    let set = Sentences::open(sentences, None)?;
    let mut counted: BTreeMap<String, u64> = BTreeMap::new();
    for word in set.lines().iter().flat_map(|(text, _)| words(text)) {
        *counted.entry(word).or_default() += 1;
    }
    let made = WordPiece::train(&counted, size)?;
    file.write_bytes(made.to_text().as_bytes())?;
    let longest = set.lines().iter().map(|(t, _)| made.encode(t).len()).max();
    tell.note(format_args!(
        "{}: {} pieces for {} words; the longest of {} sentences has {} tokens",
        output.display(),
        made.len(),
        counted.len(),
        set.len(),
        longest.unwrap_or(0)
    ));
    Ok(())
}

/// Text files, one behind the other, as a file of tokens ([`data::Text::binary`]).
///
/// # Errors
/// Text that the vocabulary has no tokens for.
pub fn tokenize(
    texts: &[PathBuf],
    tokenizer: &Path,
    (output, existing): (&Path, Existing),
    tell: Listener<'_>,
) -> Result<()> {
    let inputs: Vec<&Path> = texts.iter().map(PathBuf::as_path).collect();
    let inputs = [&inputs[..], &[tokenizer]].concat();
    let file = Output::create(output, Content::Other, &inputs, existing, tell)?;
    let vocabulary = Tokenizer::load(tokenizer).map_err(named(tokenizer))?;
    let (mut tokens, mut read) = (Vec::new(), 0);
    for path in texts {
        let text = text(path)?;
        read += text.len();
        tokens.extend(tokens_of(&vocabulary, &text).map_err(named(path))?);
    }
    file.write_bytes(&data::Text::to_bytes(&tokens, vocabulary.len()))?;
    tell.note(format_args!(
        "{}: {} tokens of {} from {read} bytes",
        output.display(),
        tokens.len(),
        vocabulary.len()
    ));
    Ok(())
}

/// A text's tokens; llama2.c's begin with its first token.
pub(super) fn tokens_of(tokenizer: &Tokenizer, text: &str) -> task::Result<Vec<u32>> {
    match tokenizer {
        Tokenizer::Scored(_) => tokenizer.sequence(text),
        _ => tokenizer.encode(text),
    }
}

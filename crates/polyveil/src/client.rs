//! The client's side on files: inputs become ciphertexts, answers become what they mean.

use crate::error::{Error, Help, Result, named};
use crate::evaluate::Excess;
use crate::files::{self, Access, folder_of};
use crate::network::{
    self, input_shape, label, normalization, picture, probabilities, top, top_lines,
};
use crate::progress::{Listener, Say};
use crate::session::rng;
use compiler::Task;
use nn::picture::Picture;
use nn::{PromptFormat, SentenceFormat};
use runtime::machine::require_disk;
use runtime::sharing::{RECORD_NAME, Terms};
use runtime::{Client, size};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Something to encrypt.
#[derive(Clone, Debug)]
pub enum Input {
    /// A picture, PNG or JPEG.
    Picture(PathBuf),
    /// A number of a set of labelled pictures, of which part.
    Item(PathBuf, usize, Option<data::Split>),
    /// A prompt or a sentence.
    Text(String),
}

/// What is done with inputs of another size than the network takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fitting {
    /// Pictures.
    pub picture: Scaling,
    /// Texts.
    pub text: Excess,
}

/// What is done with a picture of another size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scaling {
    /// It is refused.
    #[default]
    Refuse,
    /// It is scaled.
    Scale,
}

/// How a plan's inputs and answers are read.
enum Reading {
    Pictures,
    Prompts(PromptFormat),
    Sentences(SentenceFormat),
}

impl Reading {
    fn of(task: &Task) -> Result<Self> {
        Ok(match &task.client {
            None => Self::Pictures,
            Some(c) if SentenceFormat::described_by(c) => {
                Self::Sentences(SentenceFormat::from_json(c)?)
            }
            Some(c) => Self::Prompts(PromptFormat::from_json(c)?),
        })
    }
}

/// Inputs as the values that a plan takes, one after the other.
///
/// # Errors
/// Inputs of another kind or size than the network takes.
pub fn encode(
    client: &Client,
    inputs: &[Input],
    fitting: Fitting,
    tell: Listener<'_>,
) -> Result<Vec<f64>> {
    let task = network::task(client)?;
    let reading = Reading::of(&task)?;
    let mut values = Vec::new();
    for input in inputs {
        let tensor = match (&reading, input) {
            (Reading::Pictures, Input::Picture(path)) => {
                let shape = input_shape(client.spec())?;
                let loaded = Picture::load(path).map_err(named(path))?;
                picture(&loaded, shape, &normalization(&task), fitting.picture)
                    .map_err(named(path))?
            }
            (Reading::Pictures, Input::Item(path, index, split)) => {
                let shape = input_shape(client.spec())?;
                let loaded = item(path, *index, *split)?;
                picture(&loaded, shape, &normalization(&task), fitting.picture)
                    .map_err(named(path))?
            }
            (Reading::Prompts(format), Input::Text(text)) => format.input(&format.encode(text)?)?,
            (Reading::Sentences(format), Input::Text(text)) => {
                let tokens = match fitting.text {
                    Excess::Refuse => format.encode(text)?,
                    Excess::Cut => {
                        let (tokens, cut) = format.encode_cut(text)?;
                        if cut {
                            let count = tokens.len();
                            tell.note(format_args!("the sentence was cut to {count} tokens"));
                        }
                        tokens
                    }
                };
                format.input(&tokens)?
            }
            (Reading::Pictures, Input::Text(_)) => {
                return Err("this plan takes pictures, no prompts and no sentences".into());
            }
            (Reading::Prompts(_) | Reading::Sentences(_), _) => {
                return Err(Error::refused("this plan takes text", Help::GiveText));
            }
        };
        values.extend(tensor.into_values());
    }
    Ok(values)
}

fn item(path: &Path, index: usize, split: Option<data::Split>) -> Result<Picture> {
    let options = data::Options {
        split,
        ..data::Options::default()
    };
    let set = data::Dataset::open(path, &options)?.0;
    let (s, pixels) = (set.shape(), set.pixels(index)?.into_owned());
    let picture = Picture::from_pixels(s.width, s.height, s.channels, pixels);
    picture.ok_or_else(|| format!("pictures {s} are no pictures").into())
}

/// Encrypts values into a file for the server.
///
/// # Errors
/// Values that do not fit the plan, a lack of room on disk.
pub fn encrypt(client: &Client, values: &[f64], output: &Path, tell: Listener<'_>) -> Result<()> {
    tell.note(format_args!(
        "encrypting into {} ciphertexts: {}, about a second",
        client.spec().input.registers.len(),
        size(client.input_bytes())
    ));
    require_disk(folder_of(output), client.input_bytes())?;
    files::write(output, Access::Everyone, |out, name| {
        Ok(client
            .write_input(values, out, name, &mut rng())
            .map(drop)?)
    })
}

/// For whose eyes an answer is decrypted.
#[derive(Clone, Copy, Debug)]
pub enum Release {
    /// The key's owner's.
    Private,
    /// Anybody's: with noise, and counted.
    Shared(Terms),
    /// Anybody's: the class alone, and counted.
    Class(Terms),
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Decrypted {
    /// In words.
    pub text: String,
    /// As a JSON object.
    pub json: Value,
}

/// Decrypts an answer, for each of the prompts that were encrypted or for the first `count` inputs. What is shared is counted beside the
/// key.
///
/// # Errors
/// Answers of another key or plan; what sharing refuses.
pub fn decrypt(
    client: &Client,
    key: &Path,
    answer: &Path,
    release: &Release,
    (prompts, count): (&[String], usize),
    tell: Listener<'_>,
) -> Result<Vec<Decrypted>> {
    let (name, file) = (answer.display().to_string(), files::open(answer)?);
    let task = network::task(client)?;
    let reading = Reading::of(&task)?;
    match (&reading, release) {
        (Reading::Pictures, _) | (_, Release::Private) => {}
        _ => {
            return Err("such answers can't be shared: their worst-case error bound is too wide for noise to leave a class or a token standing; keep them to yourself".into());
        }
    }
    if !prompts.is_empty() && matches!(reading, Reading::Pictures) {
        return Err("this plan takes pictures, no prompts and no sentences".into());
    }
    // one key has one record, by whatever link it is reached
    let key = key.canonicalize().map_err(named(key))?;
    let record = folder_of(&key).join(RECORD_NAME);
    let mut warn = || {
        if client.parameters().spec().is_toy() {
            tell.note(
                "INSECURE: these are the keys of a toy parameter set, which protects nothing",
            );
        }
    };
    let (values, shared) = match release {
        Release::Class(terms) => {
            let shared = client.share_class(file, &name, &record, terms)?;
            warn();
            tell.note(&shared);
            let labels = &task.labels;
            return Ok(vec![Decrypted {
                text: label(labels, shared.class) + "\n",
                json: json!({ "class": shared.class, "label": labels.get(shared.class), "may_be_shared": true, "sharing": shared }),
            }]);
        }
        Release::Shared(terms) => {
            let shared = client.share_answer(file, &name, &record, terms, &mut rng())?;
            warn();
            tell.note(&shared);
            (shared.values.clone(), Some(shared))
        }
        Release::Private => {
            warn();
            (client.read_answer(file, &name)?, None)
        }
    };
    let port = &client.spec().output;
    let count = count.max(prompts.len());
    if count > port.batch {
        return Err(format!("{count} answers: the plan takes {} at a time", port.batch).into());
    }
    let each = values.chunks(port.places.len()).take(count);
    each.enumerate()
        .map(|(i, values)| match &reading {
            Reading::Prompts(format) => {
                let prompt = prompts.get(i).map(String::as_str);
                continuation(&client.spec().description.name, format, values, prompt)
            }
            _ => {
                let best = top(values, 1).first().copied();
                let labels = &task.labels;
                Ok(Decrypted {
                    text: top_lines(values, labels),
                    json: json!({ "class": best, "label": best.and_then(|b| labels.get(b)), "logits": values, "error_bound": client.spec().answer.error, "may_be_shared": shared.is_some(), "sharing": shared }),
                })
            }
        })
        .collect()
}

/// What comes after a prompt, and after each of its tokens.
fn continuation(
    network: &str,
    format: &PromptFormat,
    values: &[f64],
    prompt: Option<&str>,
) -> Result<Decrypted> {
    let prompt = prompt.map(|text| format.encode(text)).transpose()?;
    let tokens = prompt.as_ref().map_or(format.length(), Vec::len);
    let last = after(format, tokens);
    let at = |position: usize| {
        format.logits_at(values, position).ok_or_else(|| {
            Error::from(format!(
                "the answer has {} values, this model's has others",
                values.len()
            ))
        })
    };
    let vocabulary = format.vocabulary();
    let next: Vec<u32> = (0..=last)
        .map(|p| Ok(token(&at(p)?)))
        .collect::<Result<_>>()?;
    let logits = at(last)?;
    let shares = probabilities(&logits);
    let (mut text, mut candidates) = (String::new(), Vec::new());
    for (position, &next) in next.iter().enumerate() {
        let seen = prompt
            .as_ref()
            .map(|p| vocabulary.show(p[position + format.public()]));
        text += &format!(
            "  {position:4}  {:14} → {}\n",
            seen.unwrap_or_default(),
            vocabulary.show(next)
        );
    }
    text += "next token:\n";
    for i in top(&logits, 5) {
        let shown = vocabulary.show(u32::try_from(i).unwrap_or(u32::MAX));
        let (share, logit) = (shares[i], logits[i]);
        text += &format!("  {shown:14} {:5.1}%  (logit {logit:+.4})\n", 100.0 * share);
        candidates.push(json!({ "token": i, "text": shown, "probability": share, "logit": logit }));
    }
    Ok(Decrypted {
        text,
        json: json!({ "network": network, "next": next, "candidates": candidates, "may_be_shared": false }),
    })
}

/// The position in the answer that follows a prompt of so many tokens.
pub(crate) fn after(format: &PromptFormat, tokens: usize) -> usize {
    tokens - format.public() - 1
}

/// The likeliest token.
pub(crate) fn token(logits: &[f64]) -> u32 {
    let best = top(logits, 1).first().copied().unwrap_or(0);
    u32::try_from(best).unwrap_or(u32::MAX)
}

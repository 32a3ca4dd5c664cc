//! The client's side on files: inputs become ciphertexts, answers become what they mean.

use crate::error::{Error, Help, Result, named};
use crate::evaluate::Excess;
use crate::files::{self, Access, folder_of};
use crate::network::{self, answer_lines, label, picture};
use crate::progress::{Listener, Say};
use crate::session::rng;
use runtime::machine::require_disk;
use runtime::sharing::{RECORD_NAME, Terms};
use runtime::{Client, size};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use task::scores::argmax;
use task::{Answer, Outputs, Picture, Prompts, Task, Tokens};

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
    let mut values = Vec::new();
    for input in inputs {
        let tensor = match (&task, input) {
            (Task::Pictures(pictures), Input::Picture(path)) => {
                network::picture_file(path, pictures, fitting.picture)?
            }
            (Task::Pictures(pictures), Input::Item(path, index, split)) => {
                let loaded = item(path, *index, *split)?;
                picture(&loaded, pictures, fitting.picture).map_err(named(path))?
            }
            (Task::Sentences(format), Input::Text(text)) => {
                let (tokens, cut) = format.encode(text, fitting.text.into())?;
                if cut {
                    let count = tokens.len();
                    tell.note(format_args!("the sentence was cut to {count} tokens"));
                }
                format.input(&tokens)?
            }
            (task, Input::Text(text)) => task.encode(&task::Input::Text(text))?,
            (Task::Prompts(_) | Task::Sentences(_), _) => {
                return Err(Error::refused("this plan takes text", Help::GiveText));
            }
            (task, _) => return Err(format!("this plan takes {}", task.kind()).into()),
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
    let text = matches!(task, Task::Prompts(_) | Task::Sentences(_));
    let labels = task.outputs().map_or(&[][..], Outputs::names);
    match release {
        Release::Private => {}
        _ if !text => {}
        _ => {
            return Err("such answers can't be shared: their worst-case error bound is too wide for noise to leave a class or a token standing; keep them to yourself".into());
        }
    }
    if !prompts.is_empty() && !text {
        return Err(format!(
            "this plan takes {}, no prompts and no sentences",
            task.kind()
        )
        .into());
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
        .map(|(i, values)| match (&task, task.decode(values)?) {
            (Task::Prompts(format), Answer::Tokens(tokens)) => {
                let prompt = prompts.get(i).map(String::as_str);
                continuation(&client.spec().description.name, format, &tokens, prompt)
            }
            (_, answer) => {
                let best = (!values.is_empty()).then(|| argmax(values));
                Ok(Decrypted {
                    text: answer_lines(&answer),
                    json: json!({ "class": best, "label": best.and_then(|b| labels.get(b)), "logits": values, "error_bound": client.spec().answer.error, "may_be_shared": shared.is_some(), "sharing": shared }),
                })
            }
        })
        .collect()
}

/// What comes after a prompt, and after each of its tokens.
fn continuation(
    network: &str,
    format: &Prompts,
    answer: &Tokens<'_>,
    prompt: Option<&str>,
) -> Result<Decrypted> {
    let prompt = prompt.map(|text| format.encode(text)).transpose()?;
    let tokens = prompt.as_ref().map_or(format.length(), Vec::len);
    let (mut text, mut next, mut candidates) = (String::new(), Vec::new(), Vec::new());
    for position in 0..=after(format, tokens) {
        let Some(scores) = answer.at(position) else {
            break;
        };
        let shown = |p: &Vec<u32>| format.tokenizer().show(p[position + format.public()]);
        let (seen, best) = (prompt.as_ref().map(shown), scores.best());
        text += &format!(
            "  {position:4}  {:14} → {}\n",
            seen.unwrap_or_default(),
            scores.name(best)
        );
        next.push(best);
        candidates = scores.top(5);
    }
    text += "next token:\n";
    let each = candidates.iter().map(|c| {
        let (share, logit) = (c.probability, c.score);
        text += &format!(
            "  {:14} {:5.1}%  (logit {logit:+.4})\n",
            c.name,
            100.0 * share
        );
        json!({ "token": c.index, "text": c.name, "probability": share, "logit": logit })
    });
    let candidates: Vec<Value> = each.collect();
    Ok(Decrypted {
        text,
        json: json!({ "network": network, "next": next, "candidates": candidates, "may_be_shared": false }),
    })
}

/// The position in the answer that follows a prompt of so many tokens.
pub(crate) fn after(format: &Prompts, tokens: usize) -> usize {
    tokens - format.public() - 1
}

/// The likeliest token.
pub(crate) fn token(logits: &[f64]) -> u32 {
    u32::try_from(argmax(logits)).unwrap_or(u32::MAX)
}

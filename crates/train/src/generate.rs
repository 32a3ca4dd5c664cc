//! Text from a language model: many sequences side by side, one position at a time, keys and values kept.
//!
//! What a sequence becomes depends on the model, the seed and its number only, not on what runs beside it.

use crate::error::{Error, Result, need};
use crate::language;
use crate::mode::Mode;
use crate::model::{Layer, Model};
use crate::sequence::Public;
use nn::AttentionScheme;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::Path;
use zoo::language::LanguageModel;
use zoo::random::mix;

/// Sequences in progress, all at the same position.
pub struct Generator {
    /// For one position: rotations and attention, which know others, are done here.
    model: Model,
    /// Of each attention: keys and values, `sequences × channels × capacity`.
    caches: Vec<Option<[Vec<f32>; 2]>>,
    capacity: usize,
    position: usize,
    sequences: usize,
}

impl Generator {
    /// Nothing generated yet; sequences may become `capacity` tokens long.
    ///
    /// # Errors
    /// [`Error::Network`], [`Error::Unsupported`], [`Error::Setting`] for more tokens than the model knows positions.
    pub fn new(
        language: &LanguageModel,
        attention: AttentionScheme,
        capacity: usize,
    ) -> Result<Self> {
        let most = language.architecture().sizes().max_length;
        let remedy = format!("the model knows 1 to {most} positions");
        need((1..=most).contains(&capacity), "length", capacity, remedy)?;
        let model = language::model(language, 1, attention)?;
        Ok(Self {
            caches: model.layers.iter().map(|_| None).collect(),
            model,
            capacity,
            position: 0,
            sequences: 0,
        })
    }

    /// Begins so many sequences anew.
    pub fn begin(&mut self, sequences: usize) {
        self.position = 0;
        self.sequences = sequences;
        for (i, layer) in self.model.layers.iter().enumerate() {
            if let Layer::Attention(_) = layer {
                let keys = self.model.shapes[self.model.inputs[i][1]].len();
                let size = sequences * keys * self.capacity;
                self.caches[i] = Some([vec![0.0; size], vec![0.0; size]]);
            }
        }
    }

    /// Appends a token to each sequence; gives back the logits of what follows, a row each.
    ///
    /// # Panics
    /// When the tokens are not one for each sequence, or there is no room.
    pub fn step(&mut self, tokens: &[u32]) -> Vec<f32> {
        assert!(
            tokens.len() == self.sequences && self.position < self.capacity,
            "a token for each sequence, and room for it"
        );
        let n = self.sequences;
        let model = &mut self.model;
        model.begin(n, Mode::Evaluate);
        for i in 0..model.layers.len() {
            let value = match &model.layers[i] {
                Layer::Input => model.embedding.as_mut().map_or_else(Vec::new, |e| {
                    e.gather(tokens, &model.parameters, &mut model.workspace)
                }),
                Layer::Rotary(turn) => {
                    let mut y = model.workspace.take(n * model.shapes[i].len());
                    let x = model.values[model.inputs[i][0]].as_deref().unwrap_or(&[]);
                    turn.turn_at(self.position, x, &mut y);
                    y
                }
                Layer::Attention(a) => {
                    let mut y = model.workspace.take(n * model.shapes[i].len());
                    let [q, k, v] = [0, 1, 2]
                        .map(|k| model.values[model.inputs[i][k]].as_deref().unwrap_or(&[]));
                    if let Some([keys, values]) = &mut self.caches[i] {
                        append(keys, k, self.position, self.capacity);
                        append(values, v, self.position, self.capacity);
                        let public = Public {
                            first: model.public,
                            length: usize::MAX,
                        };
                        let reach = (self.position + 1, self.capacity);
                        a.step(q, [keys, values], n, reach, public, &mut y);
                    }
                    y
                }
                _ => model.compute(i, Mode::Evaluate),
            };
            model.values[i] = Some(value);
        }
        self.position += 1;
        model.values[model.output].clone().unwrap_or_default()
    }

    /// Ends a sequence; the last one takes its number.
    ///
    /// # Panics
    /// When there is none of this number.
    pub fn remove(&mut self, sequence: usize) {
        assert!(sequence < self.sequences, "one of the sequences");
        let last = self.sequences - 1;
        for cache in self.caches.iter_mut().flatten().flatten() {
            let size = cache.len() / self.sequences;
            if sequence != last {
                let (head, tail) = cache.split_at_mut(last * size);
                head[sequence * size..][..size].copy_from_slice(tail);
            }
            cache.truncate(last * size);
        }
        self.sequences = last;
    }
}

/// Column `position` of every channel becomes a row of `x`.
fn append(cache: &mut [f32], x: &[f32], position: usize, capacity: usize) {
    for (row, &x) in cache.chunks_exact_mut(capacity).zip(x) {
        row[position] = x;
    }
}

/// A token drawn from the softmax of logits/temperature, by a number in [0, 1).
fn draw(logits: &[f32], temperature: f32, at: f64) -> u32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |l: f32| f64::from(((l - largest) / temperature).exp());
    let weights: Vec<f64> = logits.iter().map(|&l| weight(l)).collect();
    let mut rest = at * weights.iter().sum::<f64>();
    for (i, w) in weights.iter().enumerate() {
        rest -= w;
        if rest < 0.0 {
            return i as u32;
        }
    }
    // rounding alone leads here: the last token that can be drawn
    weights.iter().rposition(|w| *w > 0.0).unwrap_or(0) as u32
}

/// How a corpus is drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// Decides every token.
    pub seed: u64,
    /// Logits are divided by it.
    pub temperature: f32,
    /// The first token of every sequence; where the model gives it, the sequence ends.
    pub begin: u32,
    /// Ends a sequence, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<u32>,
    /// No sequence is longer.
    pub length: usize,
    /// Sequences side by side; they are the same whatever their number.
    pub batch: usize,
}

/// How far a corpus is, beside it as `FILE.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// How it is drawn.
    pub sampling: Sampling,
    /// A digest of the model.
    pub model: String,
    /// Whole sequences in the file.
    pub sequences: u64,
    /// Tokens in the file.
    pub tokens: u64,
}

impl Sampling {
    /// Sequences number `first` on, as many as the batch: each begins with the begin token and ends before the next one.
    ///
    /// # Errors
    /// None that a generator of this length causes.
    pub fn round(&self, generator: &mut Generator, first: u64) -> Result<Vec<Vec<u32>>> {
        let mut done: Vec<Vec<u32>> = (0..self.batch).map(|_| vec![self.begin]).collect();
        let mut running: Vec<usize> = (0..self.batch).collect();
        generator.begin(self.batch);
        for position in 1..self.length {
            let tokens: Vec<u32> = running
                .iter()
                .map(|&s| done[s].last().copied().unwrap_or(self.begin))
                .collect();
            let logits = generator.step(&tokens);
            let row = logits.len() / running.len();
            let drawn: Vec<u32> = logits
                .par_chunks(row)
                .zip(&running)
                .map(|(logits, &s)| {
                    let key = mix(mix(self.seed).wrapping_add(first + s as u64));
                    let bits = mix(key.wrapping_add(position as u64));
                    let at = (bits >> 11) as f64 / (1u64 << 53) as f64;
                    draw(logits, self.temperature, at)
                })
                .collect();
            for at in (0..running.len()).rev() {
                let token = drawn[at];
                if token == self.begin || Some(token) == self.end {
                    running.swap_remove(at);
                    generator.remove(at);
                } else {
                    done[running[at]].push(token);
                }
            }
            if running.is_empty() {
                break;
            }
        }
        Ok(done)
    }
}

/// Draws sequences into a file of tokens ([`data::Text::binary`]) until it holds `tokens` of them; goes on with a file that was begun in the same way. `report`
/// is called with the progress after every round.
///
/// # Errors
/// [`Error::File`]; [`Error::Configuration`] for a file that was begun in another way.
pub fn corpus(
    language: &LanguageModel,
    attention: AttentionScheme,
    sampling: &Sampling,
    tokens: u64,
    path: &Path,
    report: &mut dyn FnMut(&Progress),
) -> Result<Progress> {
    use std::io::{Seek, SeekFrom, Write};
    let beside = path.with_added_extension("json");
    let digest = {
        let mut hash = blake3::Hasher::new();
        for (name, tensor) in language.to_checkpoint().tensors() {
            hash.update(name.as_bytes());
            for v in &tensor.values {
                hash.update(&v.to_le_bytes());
            }
        }
        hash.update(format!("{attention:?}").as_bytes());
        hash.finalize().to_hex().to_string()
    };
    let mut progress = Progress {
        sampling: sampling.clone(),
        model: digest,
        sequences: 0,
        tokens: 0,
    };
    if beside.exists() {
        let text = std::fs::read_to_string(&beside).map_err(Error::file(&beside))?;
        let remedy = format!("remove it and {} to begin anew", path.display());
        let there: Progress = serde_json::from_str(&text)
            .map_err(|e| Error::checkpoint(&beside, format!("{e}; {remedy}")))?;
        let as_begun = Progress {
            sequences: there.sequences,
            tokens: there.tokens,
            ..progress.clone()
        };
        if there != as_begun {
            return Err(Error::Configuration {
                path: beside.display().to_string(),
                field: "sampling or model".into(),
                had: format!("{:?}", there.sampling),
                needed: format!("{sampling:?}"),
            });
        }
        progress = there;
    } else if std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() > 0) {
        let detail =
            "it is there already, and nothing says that it was drawn here; choose another name";
        return Err(Error::checkpoint(path, detail));
    }
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(path)
        .map_err(Error::file(path))?;
    if file.try_lock().is_err() {
        let detail = "another process writes to it; wait for it, or choose another name";
        return Err(Error::checkpoint(path, detail));
    }
    // what a kill left behind the last whole round goes
    let vocabulary = language.architecture().sizes().vocabulary;
    let each = data::Text::token_bytes(vocabulary) as u64;
    file.set_len(each * progress.tokens)
        .map_err(Error::file(path))?;
    file.seek(SeekFrom::End(0)).map_err(Error::file(path))?;
    let mut generator = Generator::new(language, attention, sampling.length)?;
    while progress.tokens < tokens {
        let round = sampling.round(&mut generator, progress.sequences)?;
        let bytes = data::Text::to_bytes(&round.concat(), vocabulary);
        file.write_all(&bytes).map_err(Error::file(path))?;
        file.sync_data().map_err(Error::file(path))?;
        progress.sequences += round.len() as u64;
        progress.tokens += bytes.len() as u64 / each;
        let json = serde_json::to_string(&progress).unwrap_or_default();
        crate::checkpoint::write_whole(&beside, json.as_bytes())?;
        report(&progress);
    }
    Ok(progress)
}

//! What a language model makes of given text: log-likelihoods of tokens after others, from which perplexity, last-word accuracy and the choice
//! between answers follow.
//!
//! The forward pass is training's, in f32, with softmax, Power-Softmax or a run's own polynomials and programs, which have no guard here. Requests
//! are sorted by length and go in batches of one padded length; causal attention does not look at what stands behind. Logits are computed
//! where something is asked only: with 49,152 tokens the output layer is a fifth of SmolLM2's work.

use crate::activation::Function;
use crate::error::{Error, Result, need};
use crate::loss::argmax;
use crate::mode::Mode;
use crate::model::{Layer, Model};
use crate::{Parameterization, inverse::InverseUnit};
use nn::AttentionScheme;
use nn::approximations::{Approximations, Substitute};
use rayon::prelude::*;
use zoo::language::LanguageModel;

/// Tokens, and from which of them on each is to be found by those before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// All tokens.
    pub tokens: Vec<u32>,
    /// The first that is to be found, at least 1.
    pub first: usize,
}

/// How likely a request's tokens are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likelihood {
    /// Natural logarithm of the product of their probabilities.
    pub sum: f64,
    /// How many there are.
    pub tokens: usize,
    /// Whether each is the likeliest at its place.
    pub greedy: bool,
}

/// Windows of a text: `length` tokens each, the next one `stride` tokens later; every token but the first is found once, by as many tokens before
/// it as its window has. What is shorter than a stride at the end is left out.
///
/// # Errors
/// [`Error::Setting`] for a stride of 0 or beyond the length, or a text without a window.
pub fn windows(tokens: &[u32], length: usize, stride: usize) -> Result<Vec<Request>> {
    let remedy = format!(
        "from 1 to {}, less than the window",
        length.saturating_sub(1)
    );
    need((1..length).contains(&stride), "stride", stride, remedy)?;
    let remedy = format!("the text has {} tokens: take a longer one", tokens.len());
    need(length <= tokens.len(), "window", length, remedy)?;
    let starts = (0..=tokens.len() - length).step_by(stride);
    let window = |start: usize| Request {
        tokens: tokens[start..start + length].to_vec(),
        first: if start == 0 { 1 } else { length - stride },
    };
    Ok(starts.map(window).collect())
}

/// Which of a run's approximations a model computes with; each stage has those before it, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// None: exact functions.
    Exact,
    /// Polynomials in place of activations.
    Activations,
    /// Programs in place of norms' inverse roots.
    Roots,
    /// Programs in place of attention's divisions: everything.
    Divisions,
}

impl Stage {
    /// All, in order.
    pub const ALL: [Self; 4] = [Self::Exact, Self::Activations, Self::Roots, Self::Divisions];

    /// What its approximations stand for.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Activations => "activations",
            Self::Roots => "activations, roots",
            Self::Divisions => "activations, roots, divisions",
        }
    }

    fn of(substitute: &Substitute) -> Self {
        match substitute {
            Substitute::Polynomial(_) => Self::Activations,
            Substitute::Program(p) if p.function().has_root() => Self::Roots,
            Substitute::Program(_) => Self::Divisions,
        }
    }
}

/// A language model that judges text.
#[derive(Debug)]
pub struct Judge<'a> {
    language: &'a LanguageModel,
    attention: AttentionScheme,
    /// The text of `approximations.json`, and up to which stage it counts.
    approximations: Option<(&'a str, Stage)>,
    /// Tokens of a batch, about.
    pub batch: usize,
    /// Values that lay outside of their approximation's interval so far, padding included.
    pub outside: u64,
    /// Tokens that went through the network so far, without padding.
    pub tokens: u64,
}

/// Padded lengths are multiples of it.
const LENGTHS: usize = 16;
/// Rows of logits at once.
const ROWS: usize = 128;

impl<'a> Judge<'a> {
    /// With this attention and, where given, a run's approximations up to a stage.
    #[must_use]
    pub fn new(
        language: &'a LanguageModel,
        attention: AttentionScheme,
        approximations: Option<(&'a str, Stage)>,
    ) -> Self {
        Self {
            language,
            attention,
            approximations,
            batch: 1024,
            outside: 0,
            tokens: 0,
        }
    }

    /// The requests' likelihoods in their order; `progress` is told how many requests are done after each batch.
    ///
    /// # Errors
    /// [`Error::Network`] for a request that is longer than the model's context, a token that it doesn't have or approximations that don't fit it,
    /// [`Error::Setting`] for a request that asks for nothing or for its first token.
    pub fn likelihoods(
        &mut self,
        requests: &[Request],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Likelihood>> {
        for r in requests {
            self.check(r)?;
        }
        let limit = self.language.architecture().sizes().max_length;
        let padded = |r: &Request| r.tokens.len().next_multiple_of(LENGTHS).min(limit);
        let mut order: Vec<usize> = (0..requests.len()).collect();
        order.sort_by_key(|&i| padded(&requests[i]));
        let mut out = vec![None; requests.len()];
        let mut done = 0;
        for same in order.chunk_by(|&a, &b| padded(&requests[a]) == padded(&requests[b])) {
            let length = padded(&requests[same[0]]);
            let mut model = self.model(length)?;
            for batch in same.chunks((self.batch / length).max(1)) {
                let requests: Vec<&Request> = batch.iter().map(|&i| &requests[i]).collect();
                let found = self.found(&mut model, length, &requests);
                for (&i, l) in batch.iter().zip(found) {
                    out[i] = Some(l);
                }
                done += batch.len();
                progress(done);
            }
            self.outside += model.outside();
        }
        Ok(out.into_iter().flatten().collect())
    }

    fn check(&self, r: &Request) -> Result<()> {
        let limit = self.language.architecture().sizes().max_length;
        if r.tokens.len() > limit {
            let had = r.tokens.len();
            return Err(task::Error::TooLong { had, limit }.into());
        }
        let vocabulary = self.language.architecture().sizes().vocabulary;
        if let Some(&token) = r.tokens.iter().find(|&&t| t as usize >= vocabulary) {
            return Err(task::Error::Token { token, vocabulary }.into());
        }
        let (first, count) = (r.first, r.tokens.len());
        let remedy =
            format!("of {count} tokens, those from 1 on can be found by what is before them");
        need((1..count).contains(&first), "first", first, remedy)
    }

    /// The model for sequences of this length, with its approximations.
    fn model(&self, length: usize) -> Result<Model> {
        let graph = self.language.graph(length, self.attention)?;
        let mut model = Model::new(graph, Parameterization::Plain)?;
        if let Some((json, stage)) = self.approximations {
            let mut all = Approximations::from_json(model.template(), json)?;
            all.by_node.retain(|_, p| Stage::of(p) <= stage);
            set(&mut model, &all)?;
        }
        Ok(model)
    }

    fn found(
        &mut self,
        model: &mut Model,
        length: usize,
        requests: &[&Request],
    ) -> Vec<Likelihood> {
        let embedding = self.language.embedding();
        let (table, width) = (embedding.values(), embedding.shape()[1]);
        let mut x = vec![0.0; requests.len() * length * width];
        let mut asked = Vec::new();
        for (n, r) in requests.iter().enumerate() {
            self.tokens += r.tokens.len() as u64;
            let rows = x[n * length * width..].chunks_exact_mut(width);
            // what fills up is a token of the text: as tame as any
            let padding = std::iter::repeat(&r.tokens[r.tokens.len() - 1]);
            for (row, &token) in rows.zip(r.tokens.iter().chain(padding)).take(length) {
                row.copy_from_slice(&table[token as usize * width..][..width]);
            }
            for i in r.first..r.tokens.len() {
                asked.push((n, n * length + i - 1, r.tokens[i] as usize));
            }
        }
        let hidden = model.before_output(x, requests.len());
        let mut out = vec![
            Likelihood {
                sum: 0.0,
                tokens: 0,
                greedy: true,
            };
            requests.len()
        ];
        for asked in asked.chunks(ROWS) {
            let rows: Vec<usize> = asked.iter().map(|a| a.1).collect();
            let logits = model.logits_of(&hidden, &rows);
            let vocabulary = logits.len() / rows.len();
            let each: Vec<(f64, bool)> = logits
                .par_chunks_exact(vocabulary)
                .zip(asked)
                .map(|(row, &(_, _, token))| judged(row, token))
                .collect();
            for (&(n, _, _), (log, best)) in asked.iter().zip(each) {
                let l = &mut out[n];
                l.sum += log;
                l.tokens += 1;
                l.greedy &= best;
            }
        }
        out
    }
}

/// The logarithm of a token's probability, and whether it is the likeliest (the first of equals).
fn judged(logits: &[f32], token: usize) -> (f64, bool) {
    let best = argmax(logits);
    let largest = logits[best];
    let parts = logits.chunks(256);
    let sum: f64 = parts
        .map(|c| f64::from(c.iter().map(|l| (l - largest).exp()).sum::<f32>()))
        .sum();
    (f64::from(logits[token] - largest) - sum.ln(), best == token)
}

/// Gives a model's units these polynomials and programs, as a run left them.
fn set(model: &mut Model, all: &Approximations) -> Result<()> {
    model.public = all.first;
    for (id, substitute) in &all.by_node {
        let name = model.template().node(*id).name().to_string();
        let (low, high) = match substitute {
            Substitute::Polynomial(p) => p.interval(),
            Substitute::Program(p) => p.interval(),
        };
        let domain = (low as f32, high as f32);
        let known = match substitute {
            Substitute::Polynomial(p) => {
                let unit = model.units().position(|u| u.name == name);
                if let Some(unit) = unit {
                    model.set_polynomial(unit, p.coefficients(), domain, Function::Polynomial);
                }
                unit.is_some()
            }
            Substitute::Program(p) => {
                let root = p.function().has_root();
                if !root {
                    // its divisors are those of powers as they are
                    model.unscale_powers();
                }
                let has = |u: &&mut InverseUnit| u.name == name && u.function.has_root() == root;
                let unit = model.inverses_mut().find(has);
                unit.map(|u| {
                    (u.function, u.domain) = (p.function(), domain);
                    u.program = Some(p.clone());
                })
                .is_some()
            }
        };
        if !known {
            return Err(Error::Network(nn::Error::Malformed {
                format: "approximations.json",
                detail: format!(
                    "node {name} computes nothing that its approximation could stand for"
                ),
            }));
        }
    }
    Ok(())
}

impl Model {
    /// What the last layer is given for a batch of embedded sequences: rows of channels.
    fn before_output(&mut self, input: Vec<f32>, batch: usize) -> Vec<f32> {
        let before = self.inputs[self.output][0];
        self.forward_to(before, input, batch, Mode::Evaluate);
        self.values[before].take().unwrap_or_default()
    }

    /// The last layer's outputs for some rows of what it is given.
    fn logits_of(&self, hidden: &[f32], rows: &[usize]) -> Vec<f32> {
        let Layer::Linear(l) = &self.layers[self.output] else {
            unreachable!("a language model ends in a linear layer");
        };
        let rows = rows.iter().map(|row| &hidden[row * l.from..][..l.from]);
        let mut y = vec![0.0; rows.len() * l.to];
        l.forward(&rows.collect::<Vec<_>>().concat(), &mut y, &self.parameters);
        y
    }
}

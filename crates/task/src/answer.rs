//! What an answer is: scores of classes, labels that hold or don't, values with names, a tensor such as a picture, or the next token at every
//! position.

use crate::bytes::{Reader, Writer};
use crate::error::{Error, Result};
use crate::scores;
use crate::tokenizer::Tokenizer;
use nn::Shape;
use serde::Serialize;

/// What a network's outputs mean. Names are one for each output, or none.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Outputs {
    /// Scores of classes that exclude each other (logits of a softmax).
    Classes(Vec<String>),
    /// Scores of labels of which each holds or does not (logits of a sigmoid).
    Labels(Vec<String>),
    /// Numbers: a regression's.
    Values(Vec<String>),
    /// Probabilities of labels of which each holds or does not: of a network that ends in a sigmoid itself.
    Probabilities(Vec<String>),
    /// Numbers in this shape: a picture, a map.
    Tensor(Shape),
}

/// One alternative.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// Number of the class or token.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// Its probability.
    pub probability: f64,
    /// The network's output for it.
    pub score: f64,
}

/// A number with its name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Named {
    /// What it is.
    pub name: String,
    /// The number.
    pub value: f64,
}

/// What a network answered.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Answer<'a> {
    /// One of several classes.
    Classes(Scores<'a>),
    /// Every label with the probability that it holds.
    Labels(Vec<Candidate>),
    /// Numbers.
    Values(Vec<Named>),
    /// Every label with the probability that it holds, as the network gives it: of an approximated sigmoid, which may go a little beyond 0 and 1.
    Probabilities(Vec<Named>),
    /// Numbers in a shape, row-major.
    Tensor(Shape, Vec<f64>),
    /// The next token after each position.
    Tokens(Tokens<'a>),
}

/// Scores of alternatives that exclude each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores<'a> {
    values: Vec<f64>,
    names: Names<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Names<'a> {
    Classes(&'a [String]),
    Tokens(&'a Tokenizer),
}

impl Scores<'_> {
    /// The scores themselves.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The likeliest one.
    #[must_use]
    pub fn best(&self) -> usize {
        scores::argmax(&self.values)
    }

    /// A class's label or number, a token's text.
    #[must_use]
    pub fn name(&self, index: usize) -> String {
        match self.names {
            Names::Classes(labels) => name(labels, "class", index),
            Names::Tokens(t) => t.show(u32::try_from(index).unwrap_or(u32::MAX)),
        }
    }

    /// The likeliest ones, likeliest first.
    #[must_use]
    pub fn top(&self, count: usize) -> Vec<Candidate> {
        let probabilities = scores::softmax(&self.values);
        let best = scores::top(&self.values, count).into_iter();
        best.map(|index| Candidate {
            index,
            name: self.name(index),
            probability: probabilities[index],
            score: self.values[index],
        })
        .collect()
    }
}

fn name(names: &[String], what: &str, index: usize) -> String {
    let name = names.get(index).cloned();
    name.unwrap_or_else(|| format!("{what} {index}"))
}

/// Logits of a prompt's positions, of all or of some, `(V, 1, K)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tokens<'a> {
    pub(crate) tokenizer: &'a Tokenizer,
    /// How many tokens are public.
    pub(crate) public: usize,
    /// How many others there are.
    pub(crate) count: usize,
    /// The positions that there are logits of; all if none are said.
    pub(crate) chosen: Option<&'a [usize]>,
    pub(crate) values: &'a [f64],
}

impl<'a> Tokens<'a> {
    /// The scores of what follows a position (from 0, a public token's not counted); None where the answer does not hold that one.
    #[must_use]
    pub fn at(&self, position: usize) -> Option<Scores<'a>> {
        let at = scores::held(self.chosen, self.count, position)?;
        let columns = self.chosen.map_or(self.count, <[usize]>::len);
        let values = scores::column(self.values, columns, at)?;
        let names = Names::Tokens(self.tokenizer);
        Some(Scores { values, names })
    }

    /// The scores of what follows a prompt of so many tokens, the public one counted.
    #[must_use]
    pub fn after(&self, tokens: usize) -> Option<Scores<'a>> {
        self.at(tokens.checked_sub(1 + self.public)?)
    }
}

impl Outputs {
    /// What outputs of this shape are where nobody says: numbers, since scores of classes cannot be told from others.
    #[must_use]
    pub fn unsaid(output: Shape) -> Self {
        match output {
            Shape::Image { height, width, .. } if height * width > 1 => Self::Tensor(output),
            _ => Self::Values(Vec::new()),
        }
    }

    /// What they are, in the plural: classes, labels, values, probabilities, tensor.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Classes(_) => "classes",
            Self::Labels(_) => "labels",
            Self::Values(_) => "values",
            Self::Probabilities(_) => "probabilities",
            Self::Tensor(_) => "tensor",
        }
    }

    /// The names of classes, labels or values; empty where they have none.
    #[must_use]
    pub fn names(&self) -> &[String] {
        match self {
            Self::Classes(names)
            | Self::Labels(names)
            | Self::Values(names)
            | Self::Probabilities(names) => names,
            Self::Tensor(_) => &[],
        }
    }

    /// The labels of classes, of which one is the answer; none of other outputs.
    #[must_use]
    pub fn classes(&self) -> Option<&[String]> {
        match self {
            Self::Classes(names) => Some(names),
            _ => None,
        }
    }

    /// Which labels hold by these values, where outputs are labels: at the score or the probability at which they are as likely as not, one does not.
    #[must_use]
    pub fn holding(&self, values: &[f64]) -> Option<Vec<bool>> {
        let least = self.least()?;
        Some(values.iter().map(|&v| v > least).collect())
    }

    /// What an output must exceed for its label to hold; none where outputs are no labels.
    #[must_use]
    pub fn least(&self) -> Option<f64> {
        match self {
            Self::Labels(_) => Some(0.0),
            Self::Probabilities(_) => Some(0.5),
            _ => None,
        }
    }

    /// The name of output `i`: a class's, a label's or a value's, or its number.
    #[must_use]
    pub fn name(&self, i: usize) -> String {
        let what = match self {
            Self::Classes(_) => "class",
            Self::Labels(_) | Self::Probabilities(_) => "label",
            Self::Values(_) | Self::Tensor(_) => "output",
        };
        name(self.names(), what, i)
    }

    /// Whether these are the outputs of a network.
    ///
    /// # Errors
    /// [`Error::Count`] for names of another number, [`Error::Network`] for a shape of another number of values.
    pub fn check(&self, output: Shape) -> Result<()> {
        if let Self::Tensor(shape) = self {
            // a plan may keep the same values with other axes
            return match shape.len() == output.len() {
                true => Ok(()),
                false => crate::same("output", "this description", *shape, output),
            };
        }
        let (needed, had) = (output.len(), self.names().len());
        let what = match self {
            Self::Classes(_) => "class labels",
            Self::Labels(_) | Self::Probabilities(_) => "labels",
            Self::Values(_) | Self::Tensor(_) => "names of outputs",
        };
        match had {
            0 => Ok(()),
            _ => Error::check_count(what, needed, had),
        }
    }

    /// Refuses names that a terminal would obey. Tokens may be any text: those of a vocabulary of bytes are.
    pub(crate) fn check_names(&self) -> Result<()> {
        let what = match self {
            Self::Classes(_) => "class",
            Self::Labels(_) | Self::Probabilities(_) => "label",
            Self::Values(_) | Self::Tensor(_) => "output",
        };
        Error::check_names(what, self.names())
    }

    /// What these values say.
    ///
    /// # Errors
    /// [`Error::Count`] for another number of values than names, or none.
    pub fn decode<'a>(&'a self, values: &[f64]) -> Result<Answer<'a>> {
        let names = self.names();
        let needed = match self {
            Self::Tensor(shape) => shape.len(),
            _ => names.len(),
        };
        if values.is_empty() || needed != 0 && needed != values.len() {
            return Err(Error::Count {
                what: "values of an answer",
                needed: needed.max(1),
                had: values.len(),
            });
        }
        let named = || {
            let all = values.iter().copied().enumerate();
            let each = all.map(|(i, value)| Named {
                name: self.name(i),
                value,
            });
            each.collect()
        };
        let all = values.iter().copied().enumerate();
        Ok(match self {
            Self::Classes(labels) => Answer::Classes(Scores {
                values: values.into(),
                names: Names::Classes(labels),
            }),
            Self::Labels(_) => Answer::Labels(
                all.map(|(index, score)| Candidate {
                    index,
                    name: self.name(index),
                    probability: 1.0 / (1.0 + (-score).exp()),
                    score,
                })
                .collect(),
            ),
            Self::Probabilities(_) => Answer::Probabilities(named()),
            Self::Tensor(shape) => Answer::Tensor(*shape, values.into()),
            Self::Values(_) => Answer::Values(named()),
        })
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.u8(match self {
            Self::Classes(_) => 0,
            Self::Labels(_) => 1,
            Self::Values(_) => 2,
            Self::Probabilities(_) => 3,
            Self::Tensor(_) => 4,
        });
        let Self::Tensor(shape) = self else {
            return w.texts(self.names());
        };
        let (c, height, width) = shape.as_image().unwrap_or((shape.len(), 1, 1));
        let picture = usize::from(shape.as_image().is_some());
        [picture, c, height, width]
            .into_iter()
            .for_each(|n| w.size(n));
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self> {
        Ok(match r.u8()? {
            0 => Self::Classes(r.texts()?),
            1 => Self::Labels(r.texts()?),
            2 => Self::Values(r.texts()?),
            3 => Self::Probabilities(r.texts()?),
            4 => {
                let [picture, channels, height, width] =
                    [r.size()?, r.size()?, r.size()?, r.size()?];
                let shape = match (picture, height, width) {
                    (1, ..) => Shape::image(channels, height, width),
                    (0, 1, 1) => Shape::Vector(channels),
                    _ => return Err(Error::malformed("task", "an answer of an impossible shape")),
                };
                if shape.checked_len().is_none() {
                    return Err(Error::malformed("task", "an answer of an impossible shape"));
                }
                Self::Tensor(shape)
            }
            other => return Err(r.unknown("kind of outputs", other)),
        })
    }
}

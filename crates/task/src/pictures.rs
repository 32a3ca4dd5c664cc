//! Pictures as a network's inputs.

use crate::answer::Outputs;
use crate::bytes::{Reader, Writer};
use crate::error::{Error, Result};
use crate::picture::Picture;
use nn::{Shape, Tensor};
use serde::{Deserialize, Serialize};

/// What is taken from inputs and divided by: one number for each channel of a picture, whose bytes are v/255 first, or for each column of a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Normalization {
    /// Per channel.
    pub mean: Vec<f64>,
    /// Per channel, positive.
    pub deviation: Vec<f64>,
}

impl Normalization {
    /// ImageNet's, with which the usual CIFAR-10 networks are trained too.
    #[must_use]
    pub fn imagenet() -> Self {
        Self {
            mean: vec![0.485, 0.456, 0.406],
            deviation: vec![0.229, 0.224, 0.225],
        }
    }

    /// Refuses another number of channels, and what is not finite or divides by nothing.
    ///
    /// # Errors
    /// [`Error::Count`], [`Error::Value`].
    pub fn check(&self, channels: usize) -> Result<()> {
        for (what, list) in [("means", &self.mean), ("deviations", &self.deviation)] {
            Error::check_count(what, channels, list.len())?;
            for (i, &value) in list.iter().enumerate() {
                if !value.is_finite() || what == "deviations" && value <= 0.0 {
                    return Err(Error::Value {
                        column: format!("number {i} of the {what}"),
                        value,
                    });
                }
            }
        }
        Ok(())
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.numbers(&self.mean);
        w.numbers(&self.deviation);
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            mean: r.numbers()?,
            deviation: r.numbers()?,
        })
    }
}

/// How pictures become a network's inputs: `(v/255 − mean[c])/deviation[c]` for the byte v of channel c.
#[derive(Debug, Clone, PartialEq)]
pub struct Pictures {
    shape: Shape,
    normalization: Normalization,
    outputs: Outputs,
}

impl Pictures {
    /// For inputs of this shape, `(channels, height, width)`.
    ///
    /// # Errors
    /// [`Error::NoPicture`] for another shape, [`Error::Count`] and [`Error::Value`] for a normalisation that doesn't fit.
    pub fn new(shape: Shape, normalization: Normalization, outputs: Outputs) -> Result<Self> {
        match shape {
            Shape::Image { channels, .. } if shape.checked_len().is_some() => {
                normalization.check(channels)?;
            }
            _ => return Err(Error::NoPicture(shape)),
        }
        Ok(Self {
            shape,
            normalization,
            outputs,
        })
    }

    /// The network's input.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Width and height in pixels.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        match self.shape {
            Shape::Image { height, width, .. } => (width, height),
            _ => (0, 0),
        }
    }

    /// Mean and deviation of each channel.
    #[must_use]
    pub fn normalization(&self) -> &Normalization {
        &self.normalization
    }

    /// What the outputs mean.
    #[must_use]
    pub fn outputs(&self) -> &Outputs {
        &self.outputs
    }

    /// A picture as the network's input.
    ///
    /// # Errors
    /// Those of [`Picture::to_tensor`].
    pub fn input(&self, picture: &Picture) -> Result<Tensor> {
        picture.to_tensor(self.shape, &self.normalization)
    }

    /// No value of an input is larger.
    pub(crate) fn bound(&self) -> f64 {
        let n = &self.normalization;
        let ends = n.mean.iter().zip(&n.deviation);
        ends.fold(0.0, |m, (&mean, &deviation)| {
            m.max(mean.abs().max((1.0 - mean).abs()) / deviation)
        })
    }

    pub(crate) fn check(&self, input: Shape, output: Shape) -> Result<()> {
        crate::same("input", "pictures", self.shape, input)?;
        self.outputs.check(output)
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        self.shape.dims().into_iter().for_each(|d| w.size(d));
        self.normalization.write(w);
        self.outputs.write(w);
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self> {
        let shape = Shape::image(r.size()?, r.size()?, r.size()?);
        Self::new(shape, Normalization::read(r)?, Outputs::read(r)?)
    }
}

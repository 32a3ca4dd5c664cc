//! Pictures as a network's inputs.

use crate::answer::Outputs;
use crate::bytes::{Reader, Writer};
use crate::error::{Error, Result};
use crate::normalization::{Channels, Normalization};
use crate::picture::Picture;
use nn::{Shape, Tensor};

/// How pictures become a network's inputs: `(v/255 − mean[c])/deviation[c]` for the byte v of the network's channel c.
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
        outputs.check_names()?;
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
        // only where it is not the usual one: other tasks keep their bytes
        if self.normalization.channels == Channels::Bgr {
            w.u8(1);
        }
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self> {
        let shape = Shape::image(r.size()?, r.size()?, r.size()?);
        let (mut normalization, outputs) = (Normalization::read(r)?, Outputs::read(r)?);
        if !r.at_end() {
            normalization.channels = match r.u8()? {
                1 => Channels::Bgr,
                other => return Err(r.unknown("order of channels", other)),
            };
        }
        Self::new(shape, normalization, outputs)
    }
}

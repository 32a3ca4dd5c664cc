//! How inputs are normalised.

use crate::bytes::{Reader, Writer};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Order of a colour picture's channels in a network's input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channels {
    /// Red, green, blue, as in files.
    #[default]
    Rgb,
    /// Blue, green, red.
    Bgr,
}

/// What is taken from inputs and divided by: one number for each channel of a picture, whose bytes are v/255 first, or for each column of a row.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Normalization {
    /// Per channel of the network.
    pub mean: Vec<f64>,
    /// Per channel of the network, positive.
    pub deviation: Vec<f64>,
    /// Which of a picture's channels those are.
    #[serde(default)]
    pub channels: Channels,
}

/// Named normalisations of one channel or of red, green and blue.
const NAMED: [(&str, &[f64], &[f64]); 4] = [
    ("none", &[0.0], &[1.0]),
    ("imagenet", &[0.485, 0.456, 0.406], &[0.229, 0.224, 0.225]),
    (
        "cifar10",
        &[0.4914, 0.4822, 0.4465],
        &[0.2470, 0.2435, 0.2616],
    ),
    ("half", &[0.5], &[0.5]),
];

impl Normalization {
    /// By these means and deviations; channels of pictures in their usual order.
    #[must_use]
    pub fn new(mean: Vec<f64>, deviation: Vec<f64>) -> Self {
        Self {
            mean,
            deviation,
            channels: Channels::Rgb,
        }
    }

    /// ImageNet's.
    #[must_use]
    pub fn imagenet() -> Self {
        Self::new(NAMED[1].1.to_vec(), NAMED[1].2.to_vec())
    }

    /// The channel of a picture that is the network's channel `c`.
    #[must_use]
    pub fn source(&self, c: usize) -> usize {
        match self.channels {
            Channels::Rgb => c,
            Channels::Bgr => 2usize.saturating_sub(c),
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
        match self.channels {
            Channels::Bgr if channels != 3 => Err(Error::Normalization(format!(
                "an order of blue, green and red is for 3 channels, the network takes {channels}"
            ))),
            _ => Ok(()),
        }
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.numbers(&self.mean);
        w.numbers(&self.deviation);
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Self::new(r.numbers()?, r.numbers()?))
    }
}

impl std::fmt::Display for Normalization {
    /// What becomes of a pixel v.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let one = |list: &[f64]| match list {
            [first, rest @ ..] if rest.iter().all(|v| v == first) => format!("{first}"),
            list => format!("{list:?}"),
        };
        // as people write it: 0 to 255 where that is what is taken from
        let bytes = self.deviation.iter().all(|d| *d <= 0.02);
        let (unit, scale) = if bytes { ("v", 255.0) } else { ("v/255", 1.0) };
        let scaled = |list: &[f64]| -> Vec<f64> {
            let digits = |v: f64| (v * scale * 1e6).round() / 1e6;
            list.iter().map(|&v| digits(v)).collect()
        };
        let (mean, deviation) = (one(&scaled(&self.mean)), one(&scaled(&self.deviation)));
        let difference = match mean.as_str() {
            "0" => unit.into(),
            mean if unit == "v" && deviation == "1" => format!("v − {mean}"),
            mean => format!("({unit} − {mean})"),
        };
        match deviation.as_str() {
            "1" => write!(f, "{difference}")?,
            deviation => write!(f, "{difference}/{deviation}")?,
        }
        match (self.mean.len(), self.channels) {
            (3, Channels::Rgb) => write!(f, ", channels red, green, blue"),
            (_, Channels::Bgr) => write!(f, ", channels blue, green, red"),
            _ => Ok(()),
        }
    }
}

/// What somebody says of how inputs are normalised; with a network's channels it is a [`Normalization`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stated {
    /// One by its name ([`Stated::NAMES`]), instead of numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What is taken away: one number, or one for each channel in the network's order; 0 if none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mean: Vec<f64>,
    /// What is divided by then, likewise; 1 if none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deviation: Vec<f64>,
    /// What pixels 0 and 255 are before that; 0 and 1 if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<(f64, f64)>,
    /// The order of channels in the network's input; alone it says nothing of a normalisation.
    #[serde(default)]
    pub channels: Channels,
}

impl Stated {
    /// The normalisations that have a name.
    pub const NAMES: &str = "none, imagenet, cifar10, half";

    /// By name.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: Some(name.into()),
            ..Self::default()
        }
    }

    /// Whether it says how inputs are normalised.
    #[must_use]
    pub fn is_said(&self) -> bool {
        let numbers = !self.mean.is_empty() || !self.deviation.is_empty();
        self.name.is_some() || numbers || self.range.is_some()
    }

    /// A normalisation that is known otherwise, for channels in this order.
    ///
    /// # Errors
    /// [`Error::Normalization`] for blue, green and red where there are not 3 channels.
    pub fn ordered(&self, normalization: Normalization) -> Result<Normalization> {
        let channels = normalization.mean.len();
        let ordered = Normalization {
            channels: self.channels,
            ..normalization
        };
        ordered.check(channels).map(|()| ordered)
    }

    /// For a network of so many channels.
    ///
    /// # Errors
    /// [`Error::Normalization`] for a name that is not known, is of colours, or stands beside numbers, and for a range without width; those
    /// of [`Normalization::check`].
    pub fn normalization(&self, channels: usize) -> Result<Normalization> {
        let bad = |what: String| Err(Error::Normalization(what));
        let or = |list: &[f64], otherwise: f64| match list {
            [] => vec![otherwise],
            list => list.to_vec(),
        };
        let (mut mean, mut deviation) = (or(&self.mean, 0.0), or(&self.deviation, 1.0));
        if let Some(name) = &self.name {
            if !self.mean.is_empty() || !self.deviation.is_empty() || self.range.is_some() {
                return bad(format!(
                    "the normalisation {name} is given and numbers as well; give one of both"
                ));
            }
            let Some((_, m, d)) = NAMED.iter().find(|n| n.0 == name) else {
                return bad(format!(
                    "there is no normalisation {name}; known are {}",
                    Self::NAMES
                ));
            };
            if m.len() > 1 && channels != m.len() {
                return bad(format!(
                    "the normalisation {name} is of 3 channels, the network takes {channels}; name none or half, or give mean and deviation"
                ));
            }
            (mean, deviation) = (m.to_vec(), d.to_vec());
            if self.channels == Channels::Bgr {
                mean.reverse();
                deviation.reverse();
            }
        }
        let (low, high) = self.range.unwrap_or((0.0, 1.0));
        let width = high - low;
        if !(width.is_finite() && width > 0.0) {
            return bad(format!(
                "pixels can't go from {low} to {high}; the first is below the second"
            ));
        }
        let each = |list: Vec<f64>, to: &dyn Fn(f64) -> f64| -> Vec<f64> {
            match list[..] {
                [one] => vec![to(one); channels],
                _ => list.into_iter().map(to).collect(),
            }
        };
        let made = Normalization {
            mean: each(mean, &|m| (m - low) / width),
            deviation: each(deviation, &|d| d / width),
            channels: self.channels,
        };
        made.check(channels).map(|()| made)
    }
}

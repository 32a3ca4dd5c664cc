//! The options of programs that say how inputs are normalised.

use clap::Args;
use task::{Channels, Stated};

/// How inputs are normalised, where the network's file does not say.
#[derive(Args, Debug, Default)]
pub struct PixelArgs {
    /// How inputs were normalised when the network was trained; another choice gives wrong answers without a word. Pixels, 0 to 255: `imagenet`
    /// (torchvision, timm), `cifar10` (deviations 0.2470, 0.2435, 0.2616), `half` (inputs from −1 to 1), `none` (v/255 alone). Rows of numbers:
    /// `none` (as they are), `measured` (each column less its mean, by its deviation, in the data given here) [default: as the network's file
    /// says, or the network itself where it begins so].
    #[arg(long, value_name = "NAME", conflicts_with_all = ["mean", "deviation", "range"])]
    pub normalization: Option<String>,
    /// Or the numbers themselves: what is taken away, one or one for each channel in the network's order (of rows: each column), separated by
    /// commas.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "LIST",
        allow_hyphen_values = true
    )]
    pub mean: Vec<f64>,
    /// What is divided by then, likewise.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub deviation: Vec<f64>,
    /// What pixels 0 and 255 are before that, for example 0..255 [default: 0..1].
    #[arg(long, value_name = "A..B", value_parser = range, allow_hyphen_values = true)]
    pub range: Option<(f64, f64)>,
    /// Order of a colour picture's channels in the network's input: rgb or bgr.
    #[arg(long, value_name = "ORDER", value_parser = channels, default_value = "rgb")]
    pub channels: Channels,
}

fn range(text: &str) -> Result<(f64, f64), String> {
    let ends = text.split_once("..").map(|(a, b)| (a.parse(), b.parse()));
    match ends {
        Some((Ok(a), Ok(b))) => Ok((a, b)),
        _ => Err(format!("`{text}` is no range; write for example 0..255")),
    }
}

fn channels(text: &str) -> Result<Channels, String> {
    match text {
        "rgb" => Ok(Channels::Rgb),
        "bgr" => Ok(Channels::Bgr),
        _ => Err("known are rgb and bgr".into()),
    }
}

impl PixelArgs {
    /// What the options say.
    pub fn stated(&self) -> Stated {
        Stated {
            name: self.normalization.clone(),
            mean: self.mean.clone(),
            deviation: self.deviation.clone(),
            range: self.range,
            channels: self.channels,
        }
    }
}

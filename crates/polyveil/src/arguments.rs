//! Arguments of the commands: to move to the door.

use crate::machine::PredictionArgs;
use crate::sentences::SentenceArgs;
use crate::text::TextArgs;
use crate::{Result, size};
use clap::Args;
use std::path::PathBuf;

/// Options of `demo`.
#[derive(Args, Debug, Default)]
pub struct DemoArgs {
    /// Your own picture (PNG or JPEG) instead of the embedded one.
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// Scale the picture to the network's size (it must have that size otherwise).
    #[arg(long)]
    pub resize: bool,
    /// Another network: a calibrated .pvm.
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Print one JSON object on stdout.
    #[arg(long)]
    pub json: bool,
    /// Plan within this much memory, for example 12GB: fewer keys and shared transforms where they pay; refuse if none fits. Keys stay in
    /// memory here; `polyveil run` can leave them on disk.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_memory: Option<u64>,
    /// Write the report as SVG.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Do not decrypt intermediate values: leaves the measured precision per layer out and saves its time.
    #[arg(long)]
    pub no_precision: bool,
    #[command(flatten)]
    pub predict: PredictionArgs,
}

/// Options of `evaluate`.
#[derive(Args, Debug)]
pub struct EvaluateArgs {
    /// The network: a calibrated .pvm.
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    #[command(flatten)]
    pub data: Labelled,
    /// For a language model: a file of prompts, one a line.
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    pub prompts: Option<PathBuf>,
    /// For an encoder: labelled sentences, the class's number, a tab and the sentence a line.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "prompts"])]
    pub sentences: Option<PathBuf>,
    /// For a language model: LAMBADA, JSON lines with `text` whose last word is to be found; passages are cut at the left to what the plan takes.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "prompts", "sentences"])]
    pub lambada: Option<PathBuf>,
    /// For a language model: PIQA, JSON lines with `goal`, `sol1`, `sol2`; needs --labels. Cut as passages are.
    #[arg(long, value_name = "FILE", requires = "labels", conflicts_with_all = ["data", "prompts", "sentences", "lambada"])]
    pub piqa: Option<PathBuf>,
    /// The right answer of each of PIQA's questions, 0 or 1 a line.
    #[arg(long, value_name = "FILE", requires = "piqa")]
    pub labels: Option<PathBuf>,
    /// Cut sentences that are longer than the network takes; they are refused without it.
    #[arg(long, requires = "sentences")]
    pub truncate: bool,
    /// How many pictures, prompts, sentences, passages or questions.
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub count: usize,
    /// Index of the first.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub skip: usize,
    /// The network's plan, if it is compiled already; what it costs follows from it.
    #[arg(long, value_name = "FILE", conflicts_with = "max_memory")]
    pub plan: Option<PathBuf>,
    /// Inputs in one run, a power of two (as `compile --batch`).
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "plan")]
    pub batch: usize,
    /// Where the lines go (appended to).
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    #[command(flatten)]
    pub predict: PredictionArgs,
    /// Plan within this much memory, for example 12GB: fewer keys and shared transforms where they pay; refuse if none fits. Keys stay in
    /// memory here; `polyveil run` can leave them on disk.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_memory: Option<u64>,
}

/// A set of labelled pictures.
#[derive(Args, Debug)]
pub struct Labelled {
    /// Labelled pictures: CIFAR binary, a folder or tar of classes, IDX, npz.
    #[arg(long, value_name = "DATA", required_unless_present_any = ["prompts", "sentences", "lambada", "piqa"])]
    pub data: Option<PathBuf>,
    /// Which part, where there are several: train, validation or test.
    #[arg(long, value_name = "PART")]
    pub split: Option<data::Split>,
}

impl Labelled {
    /// Opens it.
    pub fn open(&self) -> Result<data::Dataset> {
        let path = self
            .data
            .as_ref()
            .ok_or("pictures are needed: --data DATA")?;
        Ok(data::Dataset::open(
            path,
            &data::Options {
                split: self.split,
                ..data::Options::default()
            },
        )?
        .0)
    }
}

/// Options of `calibrate`.
#[derive(Args, Debug)]
pub struct CalibrateArgs {
    /// The trained network.
    pub model: PathBuf,
    /// Pictures (PNG, JPEG), folders of them, or labelled pictures: CIFAR binary, folders or tars of classes, IDX, npz (its training part).
    #[arg(long, required_unless_present_any = ["text", "tokens", "sentences"], num_args = 1.., value_name = "DATA")]
    pub data: Vec<PathBuf>,
    #[command(flatten)]
    pub text: TextArgs,
    #[command(flatten)]
    pub sentences: SentenceArgs,
    /// Where the polynomial network goes (.pvm).
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Activation of a network whose file does not name it (state dicts).
    #[arg(long, value_name = "NAME")]
    pub activation: Option<String>,
    /// Degree of the polynomials.
    #[arg(long, default_value_t = 15, value_name = "D")]
    pub degree: usize,
    /// How much wider than the data the intervals are, relative to their width, at each end.
    #[arg(long, default_value_t = 0.1, value_name = "M")]
    pub margin: f64,
    /// Use at most so many pictures or sentences [default: 2000] or windows of text [default: 200], taken evenly.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Class labels, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub labels: Vec<String>,
    /// Name of the network in reports [default: the file's name].
    #[arg(long)]
    pub name: Option<String>,
}

/// Options of `compile`.
#[derive(Args, Debug)]
pub struct CompileArgs {
    /// The calibrated network (.pvm).
    pub model: PathBuf,
    /// Where the plan goes.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Plan within this much memory, for example 12GB: fewer keys, shared transforms or keys on disk (`run --max-memory`), whatever
    /// costs least; refuse if none fits.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_memory: Option<u64>,
    /// Inputs that one run takes side by side, a power of two: a run takes longer, each input less.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub batch: usize,
    /// Print the prediction as one JSON object on stdout.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub predict: PredictionArgs,
}

/// Options of `keygen`.
#[derive(Args, Debug)]
pub struct KeygenArgs {
    /// The client file, which `compile` writes beside the plan.
    pub client: PathBuf,
    /// The folder for both key files and the client file; made if missing.
    #[arg(short, long, value_name = "FOLDER")]
    pub output: PathBuf,
    /// Replace existing keys: what was encrypted with the old ones can then never be decrypted.
    #[arg(long)]
    pub replace: bool,
    /// Accept a toy parameter set, which protects nothing.
    #[arg(long)]
    pub insecure_toy: bool,
}

/// Options of `encrypt`.
#[derive(Args, Debug)]
pub struct EncryptArgs {
    /// client.key.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// The client file that the key was made from [default: network.client beside the key].
    #[arg(long, value_name = "FILE")]
    pub client: Option<PathBuf>,
    /// The picture (PNG or JPEG); several times for a plan that takes a batch.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["data", "text"])]
    pub image: Vec<PathBuf>,
    /// The prompt, for a language model, or the sentence, for an encoder: at most as many tokens as it was compiled for; several times for
    /// a plan that takes a batch.
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["image", "data"])]
    pub text: Vec<String>,
    /// Cut a sentence that is longer than that; it is refused without it.
    #[arg(long, requires = "text")]
    pub truncate: bool,
    /// Or a set of labelled pictures, of which one is encrypted.
    #[arg(
        long,
        value_name = "DATA",
        conflicts_with = "image",
        requires = "index"
    )]
    pub data: Option<PathBuf>,
    /// The picture's number in the set, from 0.
    #[arg(long, value_name = "N", requires = "data")]
    pub index: Option<usize>,
    /// Which part of the set, where there are several: train, validation or test.
    #[arg(long, value_name = "PART", requires = "data")]
    pub split: Option<data::Split>,
    /// Where the encrypted input goes.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Scale the picture to the network's size.
    #[arg(long)]
    pub resize: bool,
}

/// Options of `decrypt`.
#[derive(Args, Debug)]
pub struct DecryptArgs {
    /// The encrypted answer.
    pub answer: PathBuf,
    /// client.key.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// The client file that the key was made from [default: network.client beside the key].
    #[arg(long, value_name = "FILE")]
    pub client: Option<PathBuf>,
    /// The prompt that was encrypted, to print what comes after it, or each of several, in the same order; without it, the next token at
    /// every position of the plan.
    #[arg(long, value_name = "TEXT")]
    pub text: Vec<String>,
    /// How many inputs were encrypted together, for a plan that takes a batch.
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "text")]
    pub count: usize,
    /// Make an answer that may be passed on: with noise that hides what the exact one says about the key.
    #[arg(long)]
    pub share: bool,
    /// Share the class alone, without noise: where it leads by more than twice the error bound it says nothing about the error. A
    /// refusal ends this for the key.
    #[arg(long, requires = "share", conflicts_with = "class_bits")]
    pub class_only: bool,
    /// How many answers will ever be shared under this key; fixed at the first share, counted in releases.json beside the key.
    #[arg(long, value_name = "N", requires = "share")]
    pub releases: Option<u64>,
    /// Bits of statistical security of all shared answers together; fixed at the first share [default: 40].
    #[arg(long, value_name = "S", requires = "share")]
    pub security_bits: Option<u32>,
    /// Refuse unless the class is right but for a probability of 2^-B over the noise.
    #[arg(long, value_name = "B", default_value_t = runtime::sharing::DEFAULT_CLASS_BITS)]
    pub class_bits: u32,
    /// Print one JSON object on stdout.
    #[arg(long)]
    pub json: bool,
}

/// Options of `inspect`.
#[derive(Args, Debug)]
pub struct InspectArgs {
    /// Any file of Polyveil's.
    pub file: PathBuf,
    /// Print one JSON object on stdout.
    #[arg(long)]
    pub json: bool,
}

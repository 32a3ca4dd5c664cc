//! The command line's arguments.

#[path = "../../cli/src/overwrite.rs"]
mod overwrite;

use clap::{Args, Subcommand};
pub(crate) use overwrite::OverwriteArgs;
use polyveil::data;
use polyveil::pixels::PixelArgs;
use polyveil::training::corpus::Drawing;
use polyveil::training::search::Searching;
use polyveil::training::tasks::Asking;
use polyveil::training::{Adapting, Saving};
use std::path::PathBuf;

/// Options of `train`.
#[derive(Args, Debug)]
pub(crate) struct TrainArgs {
    /// What to train: TOML.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The run's folder.
    #[arg(short, long, value_name = "FOLDER")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) saving: Saving,
    #[command(flatten)]
    pub(crate) overwrite: OverwriteArgs,
}

/// A trained network and the pictures with which it becomes polynomial: what `adapt` and `search` start from.
#[derive(Args, Debug)]
pub(crate) struct StartArgs {
    /// The trained network: a state dict, ONNX, safetensors or .pvm.
    pub(crate) model: PathBuf,
    /// Its activation, where its file does not say.
    #[arg(long, value_name = "NAME")]
    pub(crate) activation: Option<String>,
    /// Pictures to train on.
    #[arg(long, value_name = "DATA", required_unless_present = "vectors")]
    pub(crate) train: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) table: VectorArgs,
    /// Which part of the pictures or rows, where there are several: train, validation or test [default: train, of pictures in an npz].
    #[arg(long, value_name = "PART")]
    pub(crate) split: Option<data::Split>,
    /// More pictures, mixed in towards the end; they calibrate, too.
    #[arg(long, value_name = "DATA")]
    pub(crate) second: Option<PathBuf>,
    /// So many pictures or rows are held out: never trained on, scored at the end, so that choices can be made by them [default: 1000, of fewer
    /// than 4000 a quarter].
    #[arg(long, value_name = "N")]
    pub(crate) held_out: Option<usize>,
    /// Take near-duplicates of held-out pictures out of the training pictures.
    #[arg(long)]
    pub(crate) drop_twins: bool,
    /// Class labels, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub(crate) labels: Vec<String>,
    #[command(flatten)]
    pub(crate) pixels: PixelArgs,
    /// Train on the pictures as they are, not on mirror images too: where left and right mean something, as in digits.
    #[arg(long)]
    pub(crate) no_flip: bool,
    /// Shift training pictures by up to so many pixels: 4 for 32×32 pixels, less for smaller ones, 0 where places mean something.
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub(crate) shift: usize,
    /// Multiply training pictures' contrast by up to this factor, so that intervals hold for harder pictures than the training's: 1.6 for
    /// photographs; 1 leaves it alone, where contrast means something.
    #[arg(long, default_value_t = 1.0, value_name = "F")]
    pub(crate) contrast: f64,
    /// Decides the order of pictures and what becomes of each (flips, shifts): the same seed gives the same network.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) seed: u64,
}

/// Rows of numbers instead of pictures.
#[derive(Args, Debug)]
pub(crate) struct VectorArgs {
    /// Or rows of numbers to train on: CSV, npy or npz.
    #[arg(long, value_name = "FILE", conflicts_with = "train")]
    pub(crate) vectors: Option<PathBuf>,
    /// Where the rows' classes are: a column, an array, or another npy file [default: label, class, target or y].
    #[arg(long, value_name = "NAME", requires = "vectors", conflicts_with_all = ["train"])]
    pub(crate) class_column: Option<String>,
    /// Numbers to predict instead of classes: columns, arrays or files, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "LIST", requires = "vectors", conflicts_with_all = ["train", "class_column"])]
    pub(crate) value_columns: Vec<String>,
    /// Columns that are no part of the rows, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "LIST", requires = "vectors", conflicts_with_all = ["train"])]
    pub(crate) without: Vec<String>,
    /// Whether a table's first line is a heading, yes or no [default: it is if some of it is no number].
    #[arg(long, value_name = "YES|NO", requires = "vectors", conflicts_with_all = ["train"])]
    pub(crate) heading: Option<data::Heading>,
}

/// Options of `adapt`.
#[derive(Args, Debug)]
pub(crate) struct AdaptArgs {
    #[command(flatten)]
    pub(crate) start: StartArgs,
    #[command(flatten)]
    pub(crate) how: Adapting,
    /// The run's folder.
    #[arg(short, long, value_name = "FOLDER")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) saving: Saving,
    #[command(flatten)]
    pub(crate) overwrite: OverwriteArgs,
}

/// Options of `score`.
#[derive(Args, Debug)]
pub(crate) struct ScoreArgs {
    /// Networks; the others are compared with the first.
    #[arg(required = true, num_args = 1..)]
    pub(crate) models: Vec<PathBuf>,
    /// Activation of networks whose files do not say.
    #[arg(long, value_name = "NAME")]
    pub(crate) activation: Option<String>,
    /// Labelled pictures, or rows of numbers (CSV, npy, npz).
    #[arg(long, value_name = "DATA", required_unless_present = "sentences")]
    pub(crate) data: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) pixels: PixelArgs,
    /// Or labelled sentences, `label TAB sentence` a line: the networks are then folders of runs on sentences, and the answer is a table.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "activation", "split", "class_column", "value_columns", "without", "heading"])]
    pub(crate) sentences: Option<PathBuf>,
    /// Cut sentences that are longer than a network takes; they are refused without it.
    #[arg(long, requires = "sentences", conflicts_with_all = ["data", "activation", "split", "class_column", "value_columns", "without", "heading"])]
    pub(crate) truncate: bool,
    /// Which part, where there are several: train, validation or test.
    #[arg(long, value_name = "PART")]
    pub(crate) split: Option<data::Split>,
    /// Rows: the column that holds the class, by its heading, or the array of an npz.
    #[arg(long, value_name = "NAME", conflicts_with = "value_columns")]
    pub(crate) class_column: Option<String>,
    /// Rows: or the columns that hold the numbers to be predicted, or 0 and 1 of several labels, separated by commas, or the array.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub(crate) value_columns: Vec<String>,
    /// Rows: columns that the network does not take, such as identifiers, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub(crate) without: Vec<String>,
    /// Rows: whether a table's first line is a heading, yes or no [default: it is if some of it is no number].
    #[arg(long, value_name = "YES|NO")]
    pub(crate) heading: Option<data::Heading>,
    /// One JSON object on stdout instead of lines.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `search`.
#[derive(Args, Debug)]
pub(crate) struct SearchArgs {
    #[command(flatten)]
    pub(crate) from: StartArgs,
    #[command(flatten)]
    pub(crate) searching: Searching,
    /// Cost table of the machine that will run the network (`polyveil bench --save` writes it) [default: the shipped one].
    #[arg(long, value_name = "FILE")]
    pub(crate) machine: Option<PathBuf>,
    /// Gets front.csv, front.md, front.svg and run.toml.
    #[arg(short, long, value_name = "FOLDER")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) overwrite: OverwriteArgs,
}

/// Options of `sample`.
#[derive(Args, Debug)]
pub(crate) struct SampleArgs {
    /// The model: a file of llama2.c, or a folder with config.json and model.safetensors.
    pub(crate) model: PathBuf,
    /// The corpus: tokens of two bytes, of four where the vocabulary has more than 65,536, the lowest first; FILE.json beside it says how it was drawn and how far it is.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) drawing: Drawing,
    /// Power-Softmax with this exponent instead of softmax, for a model that was trained with it.
    #[arg(long, value_name = "P")]
    pub(crate) power: Option<u32>,
    /// Its ε.
    #[arg(long, default_value_t = 1e-3, value_name = "E", requires = "power")]
    pub(crate) epsilon: f64,
    /// A tokenizer of llama2.c, to show what the first sequences say.
    #[arg(long, value_name = "FILE")]
    pub(crate) tokenizer: Option<PathBuf>,
}

/// Options of `vocabulary`.
#[derive(Args, Debug)]
pub(crate) struct VocabularyArgs {
    /// Labelled sentences, `label TAB sentence` a line; labels are not looked at.
    #[arg(long, value_name = "FILE")]
    pub(crate) sentences: PathBuf,
    /// Pieces at most.
    #[arg(long, default_value_t = 6000, value_name = "N")]
    pub(crate) size: usize,
    /// The vocabulary, BERT's `vocab.txt`.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) overwrite: OverwriteArgs,
}

/// Options of `tasks`.
#[derive(Args, Debug)]
pub(crate) struct TasksArgs {
    /// Runs' folders, folders with config.json and model.safetensors, or files of llama.cpp (GGUF) or llama2.c.
    #[arg(required = true)]
    pub(crate) models: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) asking: Asking,
    /// PIQA: JSON lines with `goal`, `sol1` and `sol2`.
    #[arg(long, value_name = "FILE", requires = "labels")]
    pub(crate) piqa: Option<PathBuf>,
    /// PIQA's right answers, 0 or 1 a line.
    #[arg(long, value_name = "FILE", requires = "piqa")]
    pub(crate) labels: Option<PathBuf>,
    /// Models that don't say their attention are judged with this Power-Softmax (of means), too.
    #[arg(long, value_name = "P")]
    pub(crate) power: Option<u32>,
    /// Its ε.
    #[arg(long, default_value_t = 1e-3, value_name = "E", requires = "power")]
    pub(crate) epsilon: f64,
    /// Prints JSON instead of a table, with every passage's and answer's log-likelihood.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `tokenize`.
#[derive(Args, Debug)]
pub(crate) struct TokenizeArgs {
    /// Text files, one behind the other.
    #[arg(required = true)]
    pub(crate) texts: Vec<PathBuf>,
    /// tokenizer.json, a GGUF, a run's alphabet.json, or a file of llama2.c.
    #[arg(long, value_name = "FILE")]
    pub(crate) tokenizer: PathBuf,
    /// Tokens of two bytes, of four where the vocabulary has more than 65,536, the lowest first.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) overwrite: OverwriteArgs,
}

/// Options of `table`.
#[derive(Args, Debug)]
pub(crate) struct TableArgs {
    /// NAME=FILE of each network; accuracy is compared with the first.
    #[arg(required = true, num_args = 1.., value_name = "NAME=FILE", value_parser = named)]
    pub(crate) models: Vec<(String, PathBuf)>,
    /// Activation of networks whose files do not say.
    #[arg(long, value_name = "NAME")]
    pub(crate) activation: Option<String>,
    /// Labelled pictures that neither training nor a choice has seen.
    #[arg(long, value_name = "DATA")]
    pub(crate) data: PathBuf,
    /// NAME=FILE of encrypted results (`polyveil evaluate -o FILE`) of one of the networks.
    #[arg(long, value_name = "NAME=FILE", value_parser = named)]
    pub(crate) measured: Vec<(String, PathBuf)>,
    /// Writes Markdown there instead of stdout.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) overwrite: OverwriteArgs,
}

fn named(text: &str) -> std::result::Result<(String, PathBuf), String> {
    let (name, path) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is not NAME=FILE"))?;
    Ok((name.into(), path.into()))
}

/// What is studied.
#[derive(Debug, Subcommand)]
pub(crate) enum Study {
    /// Degree × range of ReLU, GELU and SiLU → error, levels, predicted latency; ReLU by composite signs beside them.
    Activations {
        /// Writes FILE.md, FILE.csv and FILE.svg; text above the line that marks the tables in FILE.md stays.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        #[command(flatten)]
        overwrite: OverwriteArgs,
    },
    /// The same network with its skip connections as they are, removed, or replaced: accuracy, bootstraps, predicted latency.
    Skips {
        /// How each is trained: TOML; its network must be a `resnet`.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The runs' folder, one inside for each variant.
        #[arg(long, value_name = "FOLDER")]
        runs: PathBuf,
        #[command(flatten)]
        saving: Saving,
        /// Writes FILE.md and FILE.svg; text above the line that marks the table in FILE.md stays.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        #[command(flatten)]
        overwrite: OverwriteArgs,
    },
    /// Where language models' attention looks: distance and entropy of every head, networks side by side.
    Attention {
        /// Networks: NAME=FOLDER, the folder of a run on text. Windows are those held out in the first run's data.
        #[arg(required = true, value_name = "NAME=FOLDER")]
        networks: Vec<String>,
        /// So many windows, evenly spread.
        #[arg(long, default_value_t = 200, value_name = "N")]
        windows: usize,
        /// Writes FILE.md, FILE.csv and FILE.svg; text above the line that marks the table in FILE.md stays.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        #[command(flatten)]
        overwrite: OverwriteArgs,
    },
}

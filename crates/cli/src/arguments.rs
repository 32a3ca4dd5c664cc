//! The command line's arguments.

pub(crate) use crate::overwrite::OverwriteArgs;
use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser};
use polyveil::bench::Benching;
use polyveil::calibrate::Calibrating;
use polyveil::estimate::Estimating;
use polyveil::pixels::PixelArgs;
use polyveil::{data, size};
use std::path::PathBuf;

/// Standard input by its usual name.
fn readable() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().map(|path| match path.as_os_str() == "-" {
        true => "/dev/stdin".into(),
        false => path,
    })
}

/// Standard output by its usual name.
fn writable() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().map(|path| match path.as_os_str() == "-" {
        true => "/dev/stdout".into(),
        false => path,
    })
}

/// Options of `demo`.
#[derive(Args, Debug, Default)]
pub(crate) struct DemoArgs {
    /// Your own picture (PNG or JPEG) instead of the embedded one; - for standard input.
    #[arg(long, value_name = "FILE", value_parser = readable())]
    pub(crate) image: Option<PathBuf>,
    /// Scale the picture to the network's size (it must have that size otherwise).
    #[arg(long)]
    pub(crate) resize: bool,
    /// Another network: a calibrated .pvm.
    #[arg(long, value_name = "FILE")]
    pub(crate) model: Option<PathBuf>,
    /// Print one JSON object on stdout.
    #[arg(long)]
    pub(crate) json: bool,
    /// Plan within this much memory, for example 12GB: fewer keys and shared transforms where they pay; refuse if none fits. Keys stay in
    /// memory here; `polyveil run` can leave them on disk.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_memory: Option<u64>,
    /// Write the report as SVG.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Do not decrypt intermediate values: leaves the measured precision per layer out and saves its time.
    #[arg(long)]
    pub(crate) no_precision: bool,
    #[command(flatten)]
    pub(crate) predict: PredictionArgs,
    #[command(flatten)]
    pub(crate) overwrite: OverwriteArgs,
}

/// Options of `evaluate`.
#[derive(Args, Debug)]
pub(crate) struct EvaluateArgs {
    /// The network: a calibrated .pvm.
    #[arg(long, value_name = "FILE")]
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) data: Labelled,
    /// For a language model: a file of prompts, one a line.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "class_column", "value_columns", "without", "heading", "split"])]
    pub(crate) prompts: Option<PathBuf>,
    /// For an encoder: labelled sentences, the class's number, a tab and the sentence a line.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "prompts", "class_column", "value_columns", "without", "heading", "split"])]
    pub(crate) sentences: Option<PathBuf>,
    /// For a language model: LAMBADA, JSON lines with `text` whose last word is to be found; passages are cut at the left to what the plan takes.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "prompts", "sentences", "class_column", "value_columns", "without", "heading", "split"])]
    pub(crate) lambada: Option<PathBuf>,
    /// For a language model: PIQA, JSON lines with `goal`, `sol1`, `sol2`; needs --labels. Cut as passages are.
    #[arg(long, value_name = "FILE", requires = "labels", conflicts_with_all = ["data", "prompts", "sentences", "lambada", "class_column", "value_columns", "without", "heading", "split"])]
    pub(crate) piqa: Option<PathBuf>,
    /// The right answer of each of PIQA's questions, 0 or 1 a line.
    #[arg(long, value_name = "FILE", requires = "piqa", conflicts_with_all = ["data", "prompts", "sentences", "lambada", "class_column", "value_columns", "without", "heading", "split"])]
    pub(crate) labels: Option<PathBuf>,
    /// Cut sentences that are longer than the network takes; they are refused without it.
    #[arg(long, requires = "sentences", conflicts_with_all = ["data", "prompts", "lambada", "piqa", "labels", "class_column", "value_columns", "without", "heading", "split"])]
    pub(crate) truncate: bool,
    /// How many pictures, prompts, sentences, passages or questions.
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub(crate) count: usize,
    /// The first of them, counted from 0.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) skip: usize,
    /// The network's plan, if it is compiled already; what it costs follows from it.
    #[arg(long, value_name = "FILE", conflicts_with = "max_memory")]
    pub(crate) plan: Option<PathBuf>,
    /// Inputs in one run, a power of two (as `compile --batch`).
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "plan")]
    pub(crate) batch: usize,
    #[command(flatten)]
    pub(crate) answering: polyveil::positions::Answering,
    /// Where the lines go (appended to).
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Print the summary as one JSON object on stdout.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) predict: PredictionArgs,
    #[command(flatten)]
    pub(crate) overwrite: OverwriteArgs,
    /// Plan within this much memory, for example 12GB: fewer keys and shared transforms where they pay; refuse if none fits. Keys stay in
    /// memory here; `polyveil run` can leave them on disk.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_memory: Option<u64>,
}

/// A set of labelled pictures.
#[derive(Args, Debug)]
pub(crate) struct Labelled {
    /// Labelled pictures: CIFAR binary, a folder or tar of classes, IDX, npz; or rows of numbers: CSV, npy, npz.
    #[arg(long, value_name = "DATA", required_unless_present_any = ["prompts", "sentences", "lambada", "piqa"])]
    pub(crate) data: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) rows: RowArgs,
}

/// How sets are read: which part, and rows of numbers, of networks that take such.
#[derive(Args, Debug, Default)]
pub(crate) struct RowArgs {
    /// Which part of the set, where there are several: train, validation or test.
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
}

/// What a network's outputs are.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum AnswerKind {
    /// Scores of classes, one of which is the answer.
    Classes,
    /// Labels, each of which holds or does not.
    Labels,
    /// Numbers.
    Values,
    /// A picture or a map.
    Tensor,
}

/// Options of `values`.
#[derive(Args, Debug)]
pub(crate) struct ValuesArgs {
    /// The network: any file that is read, as it was trained or calibrated.
    pub(crate) model: PathBuf,
    /// One input, as the network takes it: a NumPy array (.npy).
    #[arg(long, value_name = "FILE")]
    pub(crate) input: PathBuf,
    /// Activation of a network whose file does not name it (state dicts).
    #[arg(long, value_name = "NAME")]
    pub(crate) activation: Option<String>,
    /// Which output of an ONNX model is the network's, where it has several.
    #[arg(long, value_name = "NAME")]
    pub(crate) network_output: Option<String>,
}

/// What stands for maxima over windows.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum PoolKind {
    /// Means over the same windows.
    Average,
}

/// Options of `calibrate`.
#[derive(Args, Debug)]
pub(crate) struct CalibrateArgs {
    /// The trained network.
    pub(crate) model: PathBuf,
    /// Pictures (PNG, JPEG), folders of them, or labelled pictures: CIFAR binary, folders or tars of classes, IDX, npz (its training part, or --split);
    /// or rows of numbers, for a network that takes such: CSV, npy, npz.
    #[arg(long, required_unless_present_any = ["text", "tokens", "sentences"], num_args = 1.., value_name = "DATA")]
    pub(crate) data: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) rows: RowArgs,
    #[command(flatten)]
    pub(crate) pixels: PixelArgs,
    /// Scale pictures to the network's size.
    #[arg(long, requires = "data", conflicts_with_all = ["text", "tokens", "sentences", "truncate"])]
    pub(crate) resize: bool,
    #[command(flatten)]
    pub(crate) text: TextArgs,
    #[command(flatten)]
    pub(crate) sentences: SentenceArgs,
    /// Where the polynomial network goes (.pvm).
    #[arg(short, long, value_name = "FILE", value_parser = writable())]
    pub(crate) output: PathBuf,
    /// Activation of a network whose file does not name it (state dicts).
    #[arg(long, value_name = "NAME")]
    pub(crate) activation: Option<String>,
    /// Which output of an ONNX model is the network's, where it has several.
    #[arg(long, value_name = "NAME")]
    pub(crate) network_output: Option<String>,
    /// What stands for maxima over windows (MaxPool): `average`, the means, without training; what that does to the answers is said.
    #[arg(long, value_name = "KIND")]
    pub(crate) pool: Option<PoolKind>,
    /// Degree of the polynomials: a higher one is nearer to the activation, and each doubling takes a level more, which is time. Without training 7
    /// to 31; where `adapt` trains the network, 4 does.
    #[arg(long, default_value_t = Calibrating::default().degree, value_name = "D")]
    pub(crate) degree: usize,
    /// How much wider than the data the intervals are, relative to their width, at each end: an answer is refused where a value leaves its interval,
    /// and a polynomial on a wider one is less precise.
    #[arg(long, default_value_t = Calibrating::default().margin, value_name = "M")]
    pub(crate) margin: f64,
    /// Use at most so many pictures, rows or sentences [default: 2000] or windows of text [default: 200], taken evenly: more find rarer values.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// What the outputs are, where the file does not say [default: classes with --labels or labelled data, else values, or a tensor
    /// where they are a picture; probabilities of labels where the network ends in a sigmoid].
    #[arg(long, value_name = "KIND")]
    pub(crate) answers: Option<AnswerKind>,
    /// Names of the classes or labels, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub(crate) labels: Vec<String>,
    /// The outputs are numbers of these names, separated by commas, not scores of classes [default: --value-columns].
    #[arg(long, value_delimiter = ',', value_name = "LIST", conflicts_with_all = ["labels"])]
    pub(crate) values: Vec<String>,
    /// Name of the network in reports [default: the file's name].
    #[arg(long)]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) overwrite: OverwriteArgs,
}

/// Options of `compile`.
#[derive(Args, Debug)]
pub(crate) struct CompileArgs {
    /// The calibrated network (.pvm).
    pub(crate) model: PathBuf,
    /// Where the plan goes.
    #[arg(short, long, value_name = "FILE", value_parser = writable())]
    pub(crate) output: PathBuf,
    /// Plan within this much memory, for example 12GB: fewer keys, shared transforms or keys on disk (`run --max-memory`), whatever
    /// costs least; refuse if none fits.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_memory: Option<u64>,
    /// The encryption's parameter set, to compare; leave it out otherwise. `standard-16`, `coefficients-16-K` for layers in coefficients with K = 2
    /// to 9 levels and weights of 16 bits, `coefficients-16-K-20` for weights of 20, or one without bootstrapping, `levelled-LOGN-LEVELSxBITS-DIGIT` (`levelled-14-6x38-3`: N = 2^14, 6 levels of 38 bits, keys in
    /// digits of 3 primes) [default: the cheapest that holds the network, at 128 bits of security].
    #[arg(long, value_name = "NAME", value_parser = polyveil::parameters)]
    pub(crate) parameters: Option<polyveil::ckks::ParametersSpec>,
    /// How ciphertexts hold values in linear layers: in `slots`, in `coefficients` (cheaper for large pictures and wide matrices), or `cheapest`.
    #[arg(long, value_name = "WHERE", default_value = "cheapest", value_parser = polyveil::layers)]
    pub(crate) layers: polyveil::compiler::Layers,
    /// Inputs that one run takes side by side, a power of two: a run takes longer, each input less. `encrypt` then takes as many at once.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) batch: usize,
    #[command(flatten)]
    pub(crate) answering: polyveil::positions::Answering,
    /// A plan without the alarm: nobody sees that a value left its interval under encryption. For research.
    #[arg(long)]
    pub(crate) no_alarm: bool,
    /// Print the prediction as one JSON object on stdout.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) predict: PredictionArgs,
    #[command(flatten)]
    pub(crate) overwrite: OverwriteArgs,
}

/// Options of `keygen`.
#[derive(Args, Debug)]
pub(crate) struct KeygenArgs {
    /// The client file, which `compile` writes beside the plan; - for standard input.
    #[arg(value_parser = readable())]
    pub(crate) client: PathBuf,
    /// The folder for both key files and the client file; made if missing.
    #[arg(short, long, value_name = "FOLDER")]
    pub(crate) output: PathBuf,
    /// Replace existing keys: what was encrypted with the old ones can then never be decrypted.
    #[arg(long)]
    pub(crate) replace: bool,
    /// Accept a toy parameter set, which protects nothing.
    #[arg(long)]
    pub(crate) insecure_toy: bool,
}

/// Options of `encrypt`.
#[derive(Args, Debug)]
pub(crate) struct EncryptArgs {
    /// client.key.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// The client file that the key was made from [default: network.client beside the key].
    #[arg(long, value_name = "FILE")]
    pub(crate) client: Option<PathBuf>,
    /// The picture (PNG or JPEG), - for standard input; several times for a plan that takes a batch.
    #[arg(long, value_name = "FILE", value_parser = readable(), required_unless_present_any = ["data", "text"], conflicts_with_all = ["class_column", "value_columns", "without", "heading", "split"])]
    pub(crate) image: Vec<PathBuf>,
    /// The prompt, for a language model, or the sentence, for an encoder: at most as many tokens as it was compiled for; several times for
    /// a plan that takes a batch.
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["image", "data", "class_column", "value_columns", "without", "heading", "split"])]
    pub(crate) text: Vec<String>,
    /// Cut a sentence that is longer than that; it is refused without it.
    #[arg(long, requires = "text", conflicts_with_all = ["image", "data", "index", "class_column", "value_columns", "without", "heading", "split"])]
    pub(crate) truncate: bool,
    /// Or a set of labelled pictures, or rows of numbers (CSV, npy, npz), of which one is encrypted, or for a plan that takes a batch as many.
    #[arg(long, value_name = "DATA", requires = "index", conflicts_with_all = ["image"])]
    pub(crate) data: Option<PathBuf>,
    /// Which picture or row of the set, counted from 0 (a table's heading is no row); several times for a plan that takes a batch.
    #[arg(long, value_name = "N", requires = "data", conflicts_with_all = ["image", "text"])]
    pub(crate) index: Vec<usize>,
    #[command(flatten)]
    pub(crate) rows: RowArgs,
    /// Where the encrypted input goes; - for standard output.
    #[arg(short, long, value_name = "FILE", value_parser = writable())]
    pub(crate) output: PathBuf,
    /// Scale the picture to the network's size.
    #[arg(long)]
    pub(crate) resize: bool,
    #[command(flatten)]
    pub(crate) overwrite: OverwriteArgs,
}

/// Options of `decrypt`.
#[derive(Args, Debug)]
pub(crate) struct DecryptArgs {
    /// The encrypted answer; - for standard input.
    #[arg(value_parser = readable())]
    pub(crate) answer: PathBuf,
    /// client.key.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// The client file that the key was made from [default: network.client beside the key].
    #[arg(long, value_name = "FILE")]
    pub(crate) client: Option<PathBuf>,
    /// The prompt that was encrypted, to print what comes after it, or each of several, in the same order; without it, the next token at
    /// every position of the plan.
    #[arg(long, value_name = "TEXT")]
    pub(crate) text: Vec<String>,
    /// How many inputs were encrypted together, for a plan that takes a batch; `encrypt` says it [default: 1].
    #[arg(long, value_name = "N", conflicts_with = "text")]
    pub(crate) count: Option<usize>,
    /// Make an answer that may be passed on: with noise that hides what the exact one says about the key.
    #[arg(long)]
    pub(crate) share: bool,
    /// Share the class alone, without noise: where it leads by more than twice the error bound it says nothing about the error. A
    /// refusal ends this for the key.
    #[arg(long, requires = "share", conflicts_with = "class_bits")]
    pub(crate) class_only: bool,
    /// How many answers will ever be shared under this key; fixed at the first share, counted in releases.json beside the key.
    #[arg(long, value_name = "N", requires = "share")]
    pub(crate) releases: Option<u64>,
    /// Bits of statistical security of all shared answers together; fixed at the first share [default: 40].
    #[arg(long, value_name = "S", requires = "share")]
    pub(crate) security_bits: Option<u32>,
    /// Refuse unless the class is right but for a probability of 2^-B over the noise.
    #[arg(long, value_name = "B", default_value_t = polyveil::runtime::sharing::DEFAULT_CLASS_BITS)]
    pub(crate) class_bits: u32,
    /// Write the values as a NumPy array, too, the first axis the answers', the others what --json calls the shape: pictures, maps, signals.
    #[arg(long, value_name = "FILE", conflicts_with = "class_only")]
    pub(crate) npy: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) overwrite: OverwriteArgs,
    /// Print one JSON object on stdout; of several answers one each, a line each.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `inspect`.
#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    /// Any file of Polyveil's; - for standard input: from a pipe no secret key, and no plan whose weights lie in a file beside it.
    #[arg(value_parser = readable())]
    pub(crate) file: PathBuf,
    /// Print one JSON object on stdout.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `calibrate` for language models; those of Power-Softmax, divisions and roots for all networks that have some.
#[derive(Args, Debug)]
pub(crate) struct TextArgs {
    /// Language model: text in UTF-8 to calibrate on, a passage a line.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "class_column", "value_columns", "without", "heading", "split"])]
    pub(crate) text: Option<PathBuf>,
    /// Language model: or tokens as they are trained on, two bytes each (four where the vocabulary has more than 65,536).
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "text", "class_column", "value_columns", "without", "heading", "split"])]
    pub(crate) tokens: Option<PathBuf>,
    /// Tokens of a prompt at most, the first one included.
    #[arg(long, value_name = "L")]
    pub(crate) length: Option<usize>,
    /// llama2.c's tokenizer [default: the characters of the run's alphabet.json].
    #[arg(long, value_name = "FILE")]
    pub(crate) tokenizer: Option<PathBuf>,
    /// The character that every prompt begins with and that is not encrypted, of a model by characters; a tokenizer's is its own.
    #[arg(long, value_name = "CHAR", conflicts_with = "tokenizer")]
    pub(crate) first: Option<char>,
    /// Exponent of Power-Softmax, even, in the place of attention's softmax [default: the run's].
    #[arg(long, value_name = "P")]
    pub(crate) power: Option<u32>,
    /// What Power-Softmax adds to a divisor.
    #[arg(long, value_name = "E", default_value_t = 1e-3, requires = "power")]
    pub(crate) epsilon: f64,
    /// Power-Softmax divides by the mean of the powers, not by their sum.
    #[arg(long, requires = "power")]
    pub(crate) power_mean: bool,
    /// Precision of divisions and roots that are chosen here, in bits.
    #[arg(long, value_name = "B", default_value_t = Calibrating::default().bits)]
    pub(crate) bits: f64,
    /// Divisions and roots that are chosen here carry their numerators along: a level less each, at more values.
    #[arg(long)]
    pub(crate) carry: bool,
    /// At most so many calibration prompts may leave an interval; they are left out and counted.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) leave_out: usize,
}

/// Options of `calibrate` for encoders.
#[derive(Args, Debug)]
pub(crate) struct SentenceArgs {
    /// Encoder that classifies sentences: labelled ones to calibrate on, the class's number, a tab and the sentence a line.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "text", "tokens", "class_column", "value_columns", "without", "heading", "split"])]
    pub(crate) sentences: Option<PathBuf>,
    /// Cut sentences that are longer than the network takes; they are refused without it.
    #[arg(long, requires = "sentences", conflicts_with_all = ["data", "text", "tokens", "class_column", "value_columns", "without", "heading", "split"])]
    pub(crate) truncate: bool,
}

/// Options of `estimate`.
#[derive(Args, Debug)]
pub(crate) struct EstimateArgs {
    /// Files of networks (.onnx, .pvm), names of published ones (below with --help), or config.json files of transformers (Llama, GPT-NeoX, BERT, RoBERTa).
    #[arg(value_name = "SHAPE", required_unless_present = "all")]
    pub(crate) shapes: Vec<String>,
    /// All transformers that are known by name, or with --size all networks for pictures.
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) estimating: Estimating,
    /// Cost table of this machine (`bench --save` writes it), or `shipped`.
    #[arg(long, value_name = "FILE")]
    pub(crate) machine: Option<PathBuf>,
    /// One JSON object for each row instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) overwrite: OverwriteArgs,
}

/// Options of `run`.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// The plan.
    #[arg(long, value_name = "FILE")]
    pub(crate) plan: PathBuf,
    /// The client's evaluation keys.
    #[arg(long, value_name = "FILE")]
    pub(crate) keys: Option<PathBuf>,
    /// The encrypted input; - for standard input.
    #[arg(long, value_name = "FILE", value_parser = readable())]
    pub(crate) input: PathBuf,
    /// Where the encrypted answer goes; - for standard output.
    #[arg(short, long, value_name = "FILE", value_parser = writable())]
    pub(crate) output: PathBuf,
    /// Go on from the checkpoint of a killed run.
    #[arg(long)]
    pub(crate) resume: bool,
    /// Where checkpoints go [default: OUTPUT.checkpoint].
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// Carry out the same steps in the clear beside, decrypt each layer, and stop at the first whose error exceeds its bound (needs --key too).
    #[arg(long)]
    pub(crate) check: bool,
    /// client.key, for --check on the owner's machine only.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Print one JSON object on stdout.
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the report as SVG.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Keep this limit, for example 6GB: leave keys on disk where they do not all fit, refuse where even that does not help.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_memory: Option<u64>,
    /// Leave keys on disk and read each when it is used; with --max-memory, those used most stay in memory as far as they fit. The
    /// key file must stay as it is until the run ends.
    #[arg(long)]
    pub(crate) keys_on_disk: bool,
    #[command(flatten)]
    pub(crate) predict: PredictionArgs,
    #[command(flatten)]
    pub(crate) overwrite: OverwriteArgs,
}

/// Options of every command that predicts.
#[derive(Args, Debug, Default)]
pub(crate) struct PredictionArgs {
    /// Cost table of this machine (`bench --save` writes it), or `shipped` [default: POLYVEIL_MACHINE, else
    /// polyveil/machine.json in the user's configuration folder, else the shipped one].
    #[arg(long, value_name = "FILE")]
    pub(crate) machine: Option<PathBuf>,
    /// Predict from the cost table as it is. Otherwise a probe of a second first measures how fast the machine is at the moment.
    #[arg(long)]
    pub(crate) no_probe: bool,
    /// Write the prediction as JSON, before anything runs.
    #[arg(long, value_name = "FILE")]
    pub(crate) prediction: Option<PathBuf>,
}

/// Options of `bench`.
#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) benching: Benching,
    /// Print an array of JSON objects on stdout.
    #[arg(long)]
    pub(crate) json: bool,
    /// Measure nothing: print what `bench --json` wrote to this file as Markdown, beside other libraries.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["toy", "json", "only", "runs", "bootstrap_runs", "seeds", "log_slots", "targets", "save"])]
    pub(crate) table: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) save: SaveArgs,
}

/// Options of `bench --save`.
#[derive(Args, Debug)]
pub(crate) struct SaveArgs {
    /// Measure this machine's cost table (half a minute), and keep it where predictions look for it.
    #[arg(long, conflicts_with_all = ["toy", "only", "log_slots", "targets"])]
    pub(crate) save: bool,
    /// With --save: fit it to the embedded network's steps too, which are what deep networks do (two minutes and 6 GB).
    #[arg(long, requires = "save", conflicts_with_all = ["toy", "only", "log_slots", "targets", "table"])]
    pub(crate) with_network: bool,
    /// With --save: where the table goes [default: POLYVEIL_MACHINE, else polyveil/machine.json in the user's configuration
    /// folder].
    #[arg(long, value_name = "FILE", requires = "save", conflicts_with_all = ["toy", "only", "log_slots", "targets", "table"])]
    pub(crate) machine: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) overwrite: OverwriteArgs,
}

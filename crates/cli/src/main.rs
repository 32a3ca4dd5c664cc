//! `polyveil`: a door to the library of the same name. JSON goes to stdout, everything else to stderr.

mod arguments;
mod commands;
#[cfg(test)]
#[path = "../tests/support/needs.rs"]
mod needs;
mod overwrite;
mod place;
mod remedy;
mod terminal;

use arguments::*;
use clap::{Args, Parser, Subcommand};
use polyveil::{Error, Result};
use std::process::ExitCode;

#[global_allocator]
static HEAP: ring::heap::Heap = ring::heap::Heap;

/// Neural networks on encrypted data.
///
/// The client encrypts a picture, the server computes on ciphertexts only, the client decrypts the answer.
#[derive(Parser, Debug)]
#[command(name = "polyveil", version = env!("POLYVEIL_VERSION"), max_term_width = 110, after_long_help = MANUAL)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Threads to compute with [default: all cores].
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
}

const MANUAL: &str = "\
A first look, all in one process:
  polyveil demo
  polyveil demo --image my-picture.png --resize

The same in steps, client and server apart:
  polyveil calibrate net.onnx --data pictures/ --normalization imagenet -o net.pvm
  polyveil compile net.pvm -o net.plan            # net.plan for the server, net.client for clients
  polyveil keygen net.client -o keys/             # client: client.key stays, evaluation.keys goes
  polyveil encrypt --key keys/client.key --image cat.png -o cat.input
  polyveil run --plan net.plan --keys keys/evaluation.keys --input cat.input -o cat.answer
  polyveil decrypt --key keys/client.key cat.answer

What is this file, and who may see it?
  polyveil inspect FILE

Words:
  polynomial network  the trained one with polynomials for activations: encryption has + and × alone
  calibrated          with the intervals on which its polynomials are right, as measured on data
  plan                the polynomial network as steps on ciphertexts, with weights: for the server
  level               a product that a ciphertext can still take part in
  bootstrap           gives a ciphertext new levels; most of a deep network's time
  evaluation keys     let the server compute, but not decrypt: client.key does that

Environment:
  POLYVEIL_BACKEND  portable, avx2 or ifma: the fastest instructions to use [default: all there are]
  POLYVEIL_MACHINE  the cost table of this machine (`polyveil bench --save` writes one)

Exit codes:
  0  done
  1  refused or failed: one line on stderr names the cause and the remedy
  2  wrong usage of the command line
  3  `run --check`: a layer's error exceeds its predicted bound
  4  an answer that cannot be right was not shown (`decrypt`, `demo`); `--json` says why.
     `evaluate` counts such answers, in each line and in its summary, and ends with 0

Security: the server is trusted to compute, not to see (honest but curious). See SECURITY.md, in particular before publishing decrypted answers.";

#[derive(Subcommand, Debug)]
enum Command {
    /// Classify a picture that the server never sees: client, server and back in one process.
    #[command(
        after_long_help = "Examples:\n  polyveil demo\n  polyveil demo --image cat.png --resize --report cat.svg\n  polyveil demo --json > demo.json\n\nThe network, the picture and all keys are made or embedded; nothing is downloaded. Before it starts, it prints how long it will take and how much memory; the encrypted evaluation takes some 20 seconds on two cores with AVX-512."
    )]
    Demo(DemoArgs),
    /// Run many inputs encrypted, and compare with the same polynomial network in the clear; goes on where it was stopped.
    #[command(
        after_long_help = "Examples:\n  polyveil evaluate --model resnet20.pvm --data test_batch.bin --count 10 -o results.jsonl\n  polyveil evaluate --model heart.pvm --data test.csv --class-column disease -o results.jsonl\n  polyveil evaluate --model stories.pvm --prompts prompts.txt -o results.jsonl\n  polyveil evaluate --model sst2.pvm --sentences sst2_dev.tsv -o results.jsonl\n  polyveil evaluate --model stories.pvm --batch 16 --lambada lambada.jsonl -o results.jsonl\n  polyveil evaluate --model stories.pvm --piqa valid.jsonl --labels valid.lst -o results.jsonl\n\nOne line of JSON for each picture, row, prompt, sentence, passage or answer goes to the results file, a summary to stdout (--json: as one JSON object). What an answer is compared with is the answer of the same polynomial network in the clear; how near that is to the network as it was trained, `calibrate` says. Started again with the same file, it does what is missing. An input whose values leave an interval in the clear is left out, and an answer that cannot be right is refused: both get a line that says so, the summary counts them (left_out, refused), and the exit code stays 0. Client and server share one process here, talking in bytes."
    )]
    Evaluate(EvaluateArgs),
    /// Turn a trained network into a polynomial one with calibrated intervals (.pvm), without training.
    #[command(
        after_long_help = "Examples:\n  polyveil calibrate net.onnx --data pictures/ --normalization imagenet --degree 31 -o net.pvm\n  polyveil calibrate heart.onnx --data train.csv --class-column disease \\\n      --normalization none -o heart.pvm\n  polyveil calibrate resnet20.model --activation silu --data data_batch_1.bin -o resnet20.pvm\n  polyveil calibrate runs/stories/ --tokens stories.tokens --tokenizer tok512.bin --length 33 \\\n      -o stories.pvm\n\nEach activation becomes a polynomial on the interval that its inputs lie in on DATA; no training. The command ends with how many answers stay what they were: where too few do, raise --degree, or let `polyveil adapt` train the polynomial network.\n\nMODEL: a torch state dict (.pt, .th, .model), safetensors, ONNX, or a .pvm to calibrate again. DATA: PNG/JPEG pictures of the right size, folders of them, or any set of labelled pictures; use training data, never the pictures that you report accuracy on.\n\nA network is given what it was trained on: where its file does not say how pixels become numbers, --normalization or --mean, --deviation, --range and --channels must (Caffe's networks: `--mean 103.939,116.779,123.68 --range 0..255 --channels bgr`).\n\nA language model is a folder of a training run (its approximations.json gives the polynomials), a folder of Hugging Face's, or a file of llama2.c; the last two get polynomials that are chosen on the text, and --power says with which attention. So it does for a vision transformer, a folder of Hugging Face's or a file of open_clip's, on pictures."
    )]
    Calibrate(Box<CalibrateArgs>),
    /// What a network computes in the clear, on one array: one JSON object with shape and values.
    #[command(
        after_long_help = "Example:\n  python -c \"import numpy; numpy.save('x.npy', numpy.ones((1, 3, 32, 32)))\"\n  polyveil values net.onnx --input x.npy\n\nThe array goes in as it is: normalised already, with a batch of 1 or none. Compare with what PyTorch or ONNX Runtime gives for the same array to see whether a file was read as it was meant, and with a .pvm to see what its polynomials do to an answer."
    )]
    Values(ValuesArgs),
    /// Compile a calibrated network into a plan for the server; says time, memory and precision of a run.
    #[command(
        after_long_help = "Examples:\n  polyveil compile resnet20.pvm -o resnet20.plan\n  polyveil compile resnet20.pvm -o resnet20.plan --max-memory 12GB\n\nThe plan holds the weights: whoever may know the model may see it. The same input and the same cost table (--machine, never the probe) give a byte-identical plan; where memory is short to compile in one way, another may be taken, and the plan says so."
    )]
    Compile(CompileArgs),
    /// What a network would cost encrypted: that of a file (.onnx, .pvm), and from shapes alone transformers by name or config.json and networks for pictures by name.
    #[command(
        after_long_help = "Examples:\n  polyveil estimate net.onnx\n  polyveil estimate pythia-70m --length 128\n  polyveil estimate my-model/config.json --length 64 --length 256 --batch 1\n  polyveil estimate resnet18 --size 224\n  polyveil estimate --all --length 128 --length 1024 > plans.md\n\nTransformers: stories260k, pythia-70m, pythia-160m, pythia-410m, pythia-1.4b, smollm2-135m, llama-7b, bert-base, roberta-base, vit-b-32, vit-b-16, clip-vit-b-32.\nNetworks for pictures (with --size): resnet18, resnet34, resnet50, resnet101, resnet152, wide_resnet50_2, wide_resnet101_2, mobilenet_v2, vgg11, vgg13, vgg16, vgg19 (each also with _bn), convnext_tiny, convnext_small, convnext_base, convnextv2_atto, convnextv2_femto, convnextv2_pico, convnextv2_nano, convnextv2_tiny, convnextv2_base, efficientnet_lite0 to efficientnet_lite4, clip_rn50.\n\nA network from a file is estimated with intervals of made-up inputs, means for maxima and Power-Softmax for softmax; --run runs it so. A transformer is estimated with Power-Softmax for softmax, as encryption has no exponential. The levels of its divisions, roots and activations are those that a network of this structure with random weights needs (--bits, --degree); training decides on them in the end. Tables compare with P2: Zimerman et al., arXiv 2410.09457, who proposed Power-Softmax and ran networks on an A100 GPU."
    )]
    Estimate(EstimateArgs),
    /// Client: make the secret key and the evaluation keys for a plan.
    #[command(
        after_long_help = "Examples:\n  polyveil keygen resnet20.client -o keys/\n  ssh server cat resnet20.client | polyveil keygen - -o keys/\n\nkeys/client.key       secret: stays with you; readable by you alone (mode 600)\nkeys/evaluation.keys  public: send it to the server\n\nBoth files are there in the end, or neither: what a killed keygen leaves is put right by the next one. With --replace the old ones stay (the secret one in keys/replaced) until the new ones are on disk. What a folder holds besides, as the record of what was shared (releases.json), goes with --replace alone."
    )]
    Keygen(KeygenArgs),
    /// Client: encrypt a picture, a row of a table, a sentence or a prompt.
    #[command(
        after_long_help = "Examples:\n  polyveil encrypt --key keys/client.key --image cat.png -o cat.input\n  polyveil encrypt --key keys/client.key --data table.csv --index 0 -o row.input\n  polyveil encrypt --key keys/client.key --data xrays.npz --split test --index 3 -o x.input\n  polyveil encrypt --key keys/client.key --text \"Once upon a time\" -o prompt.input"
    )]
    Encrypt(EncryptArgs),
    /// Server: carry out a plan on an encrypted input.
    #[command(
        after_long_help = "Examples:\n  polyveil run --plan resnet20.plan --keys keys/evaluation.keys --input cat.input -o cat.answer\n  polyveil run … --resume          # after a kill: goes on from the last bootstrap, the same answer\n  polyveil run … --max-memory 6GB  # reads keys from disk as needed: the same answer, later\n  polyveil run … --check --key keys/client.key   # owner's machine: each layer beside the clear one"
    )]
    Run(RunArgs),
    /// Client: decrypt an answer and print its classes, values or next tokens.
    #[command(
        after_long_help = "Examples:\n  polyveil decrypt --key keys/client.key cat.answer    # for your eyes only\n  polyveil decrypt --key keys/client.key cat.answer --share --releases 10   # to pass on\n  polyveil decrypt --key keys/client.key cat.answer --share --class-only --releases 10\n\nWhoever sees decrypted values can attack the key. --share adds Gaussian noise sized from the plan's error bound, the security and the number of answers that will be shared, and refuses where the noise would leave no class; --class-only shares the class without noise, unless it leads by so little that the error might decide. Answers must come from a server that ran the plan. See SECURITY.md.\n\nAn answer that cannot be right is not shown (exit code 4): one with values that are not finite or larger than calibration and the error bound allow, with imaginary parts, or with more than the bound where copies should agree or nothing should be. That finds other keys, damage, and most inputs whose values left an interval; it cannot find a wrong answer of ordinary size. A refusal under --share counts as a release, under --class-only as the refusal that ends it."
    )]
    Decrypt(DecryptArgs),
    /// Explain any file: kind, version, parameters, security, who may see it.
    #[command(
        after_long_help = "Examples:\n  polyveil inspect keys/evaluation.keys\n  polyveil inspect resnet20.plan --json"
    )]
    Inspect(InspectArgs),
    /// Measure the engine on this machine.
    #[command(
        after_long_help = "Examples:\n  polyveil bench --json > bench.json   # everything: about ten minutes and 6 GB\n  polyveil bench --table bench.json    # that file as Markdown, beside other libraries\n  polyveil bench --quick               # an insecure toy ring, seconds\n  polyveil bench --only bootstrap --log-slots 15 --targets 10 --threads 1\n  polyveil bench --save                # this machine's cost table, for predictions; half a minute\n  polyveil bench --save --with-network # fitted to a whole network too; two minutes and 6 GB\n\nCPU time is that of the whole process. `reference` is a fixed loop of multiply-adds in the first cache: about 0.10 ms on a quiet machine; where it is slower, so is everything else. It runs before and after every run of a row, whose `references` are its CPU time in those units. `stream` reads and writes back memory that is in no cache. Operations run on 27 ciphertext limbs without bootstrapping, bootstraps on the set that networks use; both have 128 bits of security and N = 2^16, dnum is 3 and 2. Rows are measured on one thread and on all; a bootstrap's precision on one, and only that of all slots on all threads."
    )]
    Bench(BenchArgs),
    /// Train a network (needs the sibling program polyveil-train, as do the four below).
    #[command(disable_help_flag = true)]
    Train(Sibling),
    /// Make a network polynomial and train it back.
    #[command(disable_help_flag = true)]
    Adapt(Sibling),
    /// Choose a degree for each activation: accuracy against latency.
    #[command(disable_help_flag = true)]
    Search(Sibling),
    /// Accuracy of networks on labelled pictures, in the clear.
    #[command(disable_help_flag = true)]
    Score(Sibling),
    /// Tables and charts from which choices of architecture follow.
    #[command(disable_help_flag = true)]
    Study(Sibling),
    /// Serve many clients, or be one (needs the sibling program polyveil-serve).
    #[command(disable_help_flag = true)]
    Serve(Sibling),
    /// Print a script that completes commands and options in a shell.
    #[command(
        after_long_help = "Example:\n  polyveil completions bash > ~/.local/share/bash-completion/completions/polyveil"
    )]
    Completions {
        /// bash, elvish, fish, powershell or zsh.
        shell: clap_complete::Shell,
    },
}

/// What helps where memory runs out; a run that has a checkpoint says so when it is started again.
const DRY: &str = " more could not be had; raise the memory limit (ulimit -v, the container's), close other programs, or use a larger machine. Files under their final names are whole; start again";

/// Arguments that are handed on.
#[derive(Args, Debug)]
struct Sibling {
    /// Handed on to the sibling.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<std::ffi::OsString>,
}

fn main() -> ExitCode {
    terminal::on_own_stack(work)
}

fn work() -> ExitCode {
    terminal::prepare();
    let cli: Cli = polyveil::command_line::parse(error);
    ring::heap::last_words("error: memory ran out: ", DRY);
    ring::heap::last_deed(polyveil::files::abandon_at_once);
    let asked = std::env::var("RAYON_NUM_THREADS").ok();
    let asked = asked.and_then(|t| t.parse().ok().filter(|t| *t > 0));
    let threads = cli
        .threads
        .or(asked)
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    if threads == 0 || threads > 1024 {
        error(&"--threads must be 1 to 1024");
        return ExitCode::from(2);
    }
    if let Err(e) = terminal::start_threads(threads) {
        error(&e);
        return ExitCode::from(1);
    }
    if let Some(name) = std::env::var_os("POLYVEIL_BACKEND") {
        let Some(backend) = ring::Backend::ALL.into_iter().find(|b| name == b.name()) else {
            error(&"POLYVEIL_BACKEND must be portable, avx2 or ifma; unset it for the fastest");
            return ExitCode::from(2);
        };
        ring::force_backend(Some(backend));
    }
    let done = match cli.command {
        Command::Demo(a) => commands::demo(&a),
        Command::Evaluate(a) => commands::evaluate(&a),
        Command::Calibrate(a) => commands::calibrate(&a),
        Command::Values(a) => commands::values(&a),
        Command::Compile(a) => commands::compile(&a),
        Command::Estimate(a) => commands::estimate(&a),
        Command::Keygen(a) => commands::keygen(&a),
        Command::Encrypt(a) => commands::encrypt(&a),
        Command::Run(a) => commands::run(&a),
        Command::Decrypt(a) => commands::decrypt(&a),
        Command::Inspect(a) => commands::inspect(&a),
        Command::Bench(a) => commands::bench(&a),
        Command::Completions { shell } => {
            commands::completions(shell, <Cli as clap::CommandFactory>::command())
        }
        Command::Train(a) => sibling(Some("train"), &a.arguments, cli.threads),
        Command::Adapt(a) => sibling(Some("adapt"), &a.arguments, cli.threads),
        Command::Search(a) => sibling(Some("search"), &a.arguments, cli.threads),
        Command::Score(a) => sibling(Some("score"), &a.arguments, cli.threads),
        Command::Serve(a) => sibling(None, &a.arguments, cli.threads),
        Command::Study(a) => sibling(Some("study"), &a.arguments, cli.threads),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            match remedy::remedy(&e) {
                Some(help) => error(&format_args!("{e}: {help}")),
                None => error(&e),
            }
            ExitCode::from(match e.cause() {
                Error::Runtime(polyveil::runtime::Error::Check { .. }) => 3,
                Error::Runtime(polyveil::runtime::Error::Answer { .. }) => 4,
                _ => 1,
            })
        }
    }
}

fn error(e: &dyn std::fmt::Display) {
    terminal::note(format_args!("error: {e}"));
}

/// Becomes `polyveil-train` for one of its commands, or `polyveil-serve`, which lie beside this program; comes back with an error only.
fn sibling(
    command: Option<&str>,
    arguments: &[std::ffi::OsString],
    threads: Option<usize>,
) -> Result<()> {
    use std::os::unix::process::CommandExt;
    let (name, package) = match command {
        Some(_) => ("polyveil-train", "polyveil-train-cli"),
        None => ("polyveil-serve", "polyveil-serve"),
    };
    let program = std::env::current_exe()?.with_file_name(name);
    if !program.exists() {
        return Err(format!(
            "`{}` is carried out by the program {name}, which is not built here ({} does not exist): `cargo build --release -p {package}`",
            command.unwrap_or("serve"),
            program.display()
        )
        .into());
    }
    let threads = threads.map(|n| ["--threads".to_string(), n.to_string()]);
    let e = std::process::Command::new(&program)
        .args(command)
        .args(threads.iter().flatten())
        .args(arguments)
        .exec();
    Err(format!("{}: {e}", program.display()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_help_are_not_broken_twice() {
        use clap::CommandFactory;
        for command in Cli::command().get_subcommands() {
            let text = command.get_after_long_help().map(ToString::to_string);
            let text = text.unwrap_or_default();
            let mut lines = text.lines().peekable();
            while let Some(line) = lines.next() {
                // paragraphs are for clap to break, lines of examples stay as they are on 100 columns
                let name = command.get_name();
                let fits = line.chars().count() <= 100;
                assert!(fits || !line.starts_with(' '), "{name}: {line}");
                let next = lines.peek().copied().unwrap_or_default();
                let ends = line.is_empty() || line.ends_with([':', '.', ')']) || next.is_empty();
                assert!(
                    ends || line.starts_with(' ') || line.starts_with("keys/"),
                    "{name}: {line}"
                );
            }
        }
        assert!(
            MANUAL
                .lines()
                .all(|l| l.chars().count() <= 100 || !l.starts_with(' '))
        );
    }

    #[test]
    fn help_names_every_network_that_can_be_estimated() {
        use clap::CommandFactory;
        let mut command = Cli::command();
        let estimate = command.find_subcommand_mut("estimate").expect("a command");
        let text = estimate.render_long_help().to_string().replace('\n', " ");
        let names = polyveil::estimate::published();
        for name in names
            .iter()
            .chain(&polyveil::estimate_pictures::published())
        {
            assert!(text.contains(name), "{name}: {text}");
        }
        assert!(text.contains("arXiv 2410.09457"), "P2 is explained");
    }

    #[test]
    fn the_command_line_holds_together() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}

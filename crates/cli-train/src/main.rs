//! `polyveil-train`: trains networks, makes them polynomial, and studies what that costs. Started by `polyveil train` and `polyveil adapt`.

mod arguments;
mod commands;
#[cfg(test)]
#[path = "../../cli/tests/support/needs.rs"]
mod needs;

use arguments::*;
use clap::{Parser, Subcommand};
use commands::terminal;
use std::process::ExitCode;

#[global_allocator]
static HEAP: ring::heap::Heap = ring::heap::Heap;

/// Train networks, and make trained networks polynomial.
#[derive(Parser, Debug)]
#[command(name = "polyveil-train", version = env!("POLYVEIL_VERSION"), max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Threads to compute with [default: all cores]. The result does not depend on it.
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Train a network as a configuration says; goes on where it was stopped.
    #[command(
        after_long_help = "Example:\n  polyveil train --config run.toml -o runs/first\n\nThe folder gets run.toml (every setting), log.csv, ranges.csv, checkpoint.safetensors and, at the end, network.pvm. Started again\nwith the same folder, the run goes on from its checkpoint and ends with the same weights as if it had not been stopped."
    )]
    Train(TrainArgs),
    /// Make a trained network polynomial and train it back.
    #[command(
        after_long_help = "Example:\n  polyveil adapt resnet20.silu.model --activation silu --train train_jpeg.tar.gz --second train_lossless.bin \\\n      --degree 4 --epochs 8 -o runs/degree4\n\nThe original network teaches the polynomial one. The folder's run.toml holds the schedule that was chosen: change it and start\n`polyveil train --config` for another."
    )]
    Adapt(AdaptArgs),
    /// Choose each activation's degree and each bootstrap's place under a budget.
    #[command(
        after_long_help = "Example:\n  polyveil-train search resnet20.silu.model --activation silu --train train_jpeg.tar.gz --second train_lossless.bin \\\n      --budget 60s -o searches/60s\n  polyveil-train train --config searches/60s/run.toml -o runs/60s\n\nEach activation's sensitivity to each degree is measured alone on calibration pictures; degrees and bootstraps are then chosen together.\nThe folder gets the whole front of divergence and accuracy against predicted latency, before fine-tuning (front.csv, front.md,\nfront.svg), and run.toml, with which `train` fine-tunes the chosen network."
    )]
    Search(SearchArgs),
    /// Accuracy of networks on labelled pictures or sentences, in f64 and without any guard: each against the first, paired.
    Score(ScoreArgs),
    /// Draw text from a language model: a corpus to train on.
    #[command(
        after_long_help = "Example:\n  polyveil-train sample stories260K.bin --tokens 20000000 -o stories.tokens --tokenizer tok512.bin\n\nEvery token depends on the model, the seed and its place only. Started again, the command goes on where it was stopped."
    )]
    Sample(SampleArgs),
    /// Make a vocabulary for encoders, BERT's `vocab.txt`, from a file of sentences.
    Vocabulary(VocabularyArgs),
    /// Language models side by side: perplexity, LAMBADA, PIQA; as they are and with each kind of approximation.
    #[command(
        after_long_help = "Example:\n  polyveil-train tasks SmolLM2.gguf runs/smollm2/power4 --tokenizer SmolLM2.gguf --text valid.txt --lambada lambada.jsonl --piqa piqa.jsonl --labels piqa.lst\n\nTexts are laid out and scored as in EleutherAI's lm-evaluation-harness (lambada_openai, piqa). In brackets, intervals that hold 95 %."
    )]
    Tasks(TasksArgs),
    /// Text files as tokens: what training reads with tokens = { kind = "binary" }.
    Tokenize(TokenizeArgs),
    /// Networks side by side as Markdown: accuracy, degrees, levels, bootstraps, predicted and measured latency.
    Table(TableArgs),
    /// Tables and charts from which choices of architecture follow.
    #[command(subcommand)]
    Study(Study),
    /// Print a script that completes commands and options in a shell.
    Completions {
        /// bash, elvish, fish, powershell or zsh.
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    terminal::on_own_stack(work)
}

fn work() -> ExitCode {
    ring::heap::last_words(
        "polyveil-train: memory ran out: ",
        " more could not be had; raise the memory limit (ulimit -v, the container's), train on smaller batches, or use a larger machine. Files under their final names are whole; a training run goes on from its checkpoint",
    );
    ring::heap::last_deed(polyveil::files::abandon_at_once);
    terminal::prepare();
    let cli: Cli = polyveil::command_line::parse(error);
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    if let Err(e) = terminal::start_threads(cli.threads.unwrap_or_else(cores)) {
        error(&e);
        return ExitCode::FAILURE;
    }
    terminal::goes_on(match &cli.command {
        Command::Train(_) | Command::Adapt(_) | Command::Sample(_) => {
            "the same command goes on where this stopped, with the same result"
        }
        _ => "start again",
    });
    let done = match &cli.command {
        Command::Train(a) => commands::train(a),
        Command::Adapt(a) => commands::adapt(a),
        Command::Search(a) => commands::search(a),
        Command::Score(a) => commands::score(a),
        Command::Sample(a) => commands::sample(a),
        Command::Vocabulary(a) => commands::vocabulary(a),
        Command::Tasks(a) => commands::tasks(a),
        Command::Tokenize(a) => commands::tokenize(a),
        Command::Table(a) => commands::table(a),
        Command::Study(s) => commands::study(s),
        Command::Completions { shell } => {
            commands::completions(*shell, <Cli as clap::CommandFactory>::command())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            match commands::remedy(&e) {
                Some(help) => error(&format_args!("{e}: {help}")),
                None => error(&e),
            }
            ExitCode::FAILURE
        }
    }
}

fn error(e: &dyn std::fmt::Display) {
    terminal::note(format_args!("polyveil-train: {e}"));
}

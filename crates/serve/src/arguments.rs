//! What can be asked on the command line.

#[path = "../../cli/src/overwrite.rs"]
mod overwrite;

use clap::{Args, Parser, Subcommand};
pub(crate) use overwrite::OverwriteArgs;
use polyveil::size;
use polyveil_serve::operator::NewQuotas;
use std::net::SocketAddr;
use std::path::PathBuf;

const MANUAL: &str = "\
The operator, on the server:
  polyveil-serve plan add resnet20.plan --data /srv/polyveil
  polyveil-serve account add ada --data /srv/polyveil > ada.token   # shown once: give it to Ada
  polyveil-serve start --data /srv/polyveil --listen 127.0.0.1:8080

A client:
  polyveil-serve enrol http://127.0.0.1:8080 --token-file ada.token --plan resnet20 -o keys/
  polyveil keygen keys/network.client -o keys/     # client.key stays here
  polyveil-serve upload keys/
  polyveil encrypt --key keys/client.key --image cat.png -o cat.input
  polyveil-serve ask cat.input --keys keys/ -o cat.answer
  polyveil decrypt --key keys/client.key cat.answer

TLS is a proxy's work (nginx, Caddy) in front of the server, which listens to this machine alone; or the server's own, where it was built
with the feature `tls`: start --certificate FILE --certificate-key FILE.";

/// Neural networks on encrypted data, for many clients.
#[derive(Parser, Debug)]
#[command(name = "polyveil-serve", version, max_term_width = 110, after_long_help = MANUAL)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Threads to compute with [default: all cores].
    #[arg(long, global = true, value_name = "N")]
    pub(crate) threads: Option<usize>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Server: serve the plans of a folder; ends with checkpoints at SIGTERM.
    Start(Start),
    /// Operator: publish, retire and list plans.
    #[command(subcommand)]
    Plan(PlanCommand),
    /// Operator: make, change, remove and list accounts.
    #[command(subcommand)]
    Account(AccountCommand),
    /// Client: look at a deployment from its address to a decrypted answer.
    Doctor(Doctor),
    /// Client: fetch a plan's client file, and remember the service in a folder of keys.
    Enrol(Enrol),
    /// Client: send the evaluation keys of a folder; goes on where it was stopped.
    Upload(Upload),
    /// Client: have an encrypted input evaluated, and wait for the answer; goes on where it was stopped.
    Ask(Ask),
    /// Client: remove the keys of a folder from the service, and its jobs.
    Forget(Upload),
}

#[derive(Args, Debug)]
pub(crate) struct Data {
    /// The folder of the service.
    #[arg(long = "data", value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct Start {
    #[command(flatten)]
    pub(crate) data: Data,
    /// Address to listen at: one of this machine alone, unless a network is trusted.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// Speak TLS: the server's certificate and those between it and its authority, PEM; SIGHUP reads it anew.
    #[arg(long, value_name = "FILE", requires = "certificate_key")]
    pub(crate) certificate: Option<PathBuf>,
    /// The certificate's key, PEM.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub(crate) certificate_key: Option<PathBuf>,
    /// Keep keys and answers in a bucket, `s3://NAME/PREFIX`; the environment says by which account (AWS_ACCESS_KEY_ID and so on).
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) bucket: Option<String>,
    /// Most memory to use [default: what the system leaves].
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_memory: Option<u64>,
    /// Runs at the same time; each has all threads.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) runs: usize,
    /// Cost table of this machine (`polyveil bench --save FILE`).
    #[arg(long, value_name = "FILE")]
    pub(crate) machine: Option<PathBuf>,
    /// Connections at the same time.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub(crate) connections: usize,
    /// Seconds without a byte after which a connection ends.
    #[arg(long, value_name = "S", default_value_t = 30.0)]
    pub(crate) idle: f64,
    /// Seconds in which a request's header must come.
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    pub(crate) header: f64,
    /// Days that keys stay unless they are used.
    #[arg(long, value_name = "D", default_value_t = 30.0)]
    pub(crate) key_days: f64,
    /// Days that answers stay.
    #[arg(long, value_name = "D", default_value_t = 7.0)]
    pub(crate) answer_days: f64,
    /// Seconds between looks for what is past its time.
    #[arg(long, value_name = "S", default_value_t = 60.0)]
    pub(crate) sweep: f64,
    /// Serve the client for browsers, too: the folder that web/build.sh makes.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) page: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum PlanCommand {
    /// Publish a plan; its client file and large weights lie beside it.
    Add {
        /// The plan.
        plan: PathBuf,
        /// Its name at the service [default: the file's].
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        data: Data,
        /// Cost table of the server's machine, for what clients are told.
        #[arg(long, value_name = "FILE")]
        machine: Option<PathBuf>,
        /// Publish a toy that protects nothing, for a test.
        #[arg(long)]
        insecure_toy: bool,
    },
    /// Take no new keys and jobs for a plan; jobs that wait are done.
    Retire {
        /// Its name.
        name: String,
        /// The plan that clients are told to use instead.
        #[arg(long, value_name = "NAME")]
        successor: Option<String>,
        #[command(flatten)]
        data: Data,
    },
    /// All plans, as JSON.
    List {
        #[command(flatten)]
        data: Data,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Quotas {
    /// Predicted CPU seconds of a day [default: 36000].
    #[arg(long, value_name = "S")]
    cpu_seconds: Option<f64>,
    /// Bytes of keys [default: 20GB].
    #[arg(long, value_name = "SIZE", value_parser = size)]
    key_bytes: Option<u64>,
    /// Jobs that are not done [default: 100].
    #[arg(long, value_name = "N")]
    open_jobs: Option<u64>,
}

impl From<&Quotas> for NewQuotas {
    fn from(q: &Quotas) -> Self {
        Self {
            cpu_seconds: q.cpu_seconds,
            key_bytes: q.key_bytes,
            open_jobs: q.open_jobs,
        }
    }
}

#[derive(Subcommand, Debug)]
pub(crate) enum AccountCommand {
    /// Make an account; prints its token, once.
    Add {
        /// Its name.
        name: String,
        #[command(flatten)]
        quotas: Quotas,
        #[command(flatten)]
        data: Data,
    },
    /// Change what an account may use.
    Quota {
        /// Its name.
        name: String,
        #[command(flatten)]
        quotas: Quotas,
        #[command(flatten)]
        data: Data,
    },
    /// Give an account another token, and end its old one; prints it, once.
    Renew {
        /// Its name.
        name: String,
        #[command(flatten)]
        data: Data,
    },
    /// Remove an account, with its keys and jobs.
    Remove {
        /// Its name.
        name: String,
        #[command(flatten)]
        data: Data,
    },
    /// All accounts, as JSON.
    List {
        #[command(flatten)]
        data: Data,
    },
}

#[derive(Args, Debug)]
pub(crate) struct At {
    /// The address of the service.
    pub(crate) url: String,
    /// The file that holds the account's token.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: PathBuf,
    /// Certificate of the authority that vouches for the service, PEM [default: those of the web].
    #[arg(long, value_name = "FILE")]
    pub(crate) authority: Option<PathBuf>,
    /// The way to the service is protected by something else than TLS.
    #[arg(long, conflicts_with = "authority")]
    pub(crate) protected_way: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) at: At,
    /// The plan to try [default: the one that takes least].
    #[arg(long, value_name = "NAME")]
    pub(crate) plan: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Enrol {
    #[command(flatten)]
    pub(crate) at: At,
    /// The plan to ask [default: the only one].
    #[arg(long, value_name = "NAME")]
    pub(crate) plan: Option<String>,
    /// The folder of keys.
    #[arg(short, long, value_name = "FOLDER")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) overwrite: OverwriteArgs,
    /// Take a toy that protects nothing, for a test.
    #[arg(long)]
    pub(crate) insecure_toy: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Upload {
    /// The folder of keys.
    pub(crate) keys: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct Ask {
    /// The encrypted input.
    pub(crate) input: PathBuf,
    /// The folder of keys.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) keys: PathBuf,
    /// Where the encrypted answer goes.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) overwrite: OverwriteArgs,
    /// Leave job and answer at the service until they are past their time.
    #[arg(long)]
    pub(crate) leave: bool,
}

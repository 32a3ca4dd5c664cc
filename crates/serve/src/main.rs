//! `polyveil-serve`: arguments → library → print. What the server logs goes to stdout as JSON lines, as do tokens and lists; everything else
//! goes to stderr.

mod arguments;
mod enrolled;
mod place;

use arguments::{AccountCommand, Ask, At, Cli, Command, Data, Doctor, Enrol, PlanCommand, Upload};
use enrolled::Enrolled;
use place::note;
use polyveil::files::{Content, Output};
use polyveil::machine::Machine;
use polyveil::network::CLIENT_FILE;
use polyveil::runtime::wire::container::Kind;
use polyveil_serve::api::Patience;
use polyveil_serve::bucket::Bucket;
use polyveil_serve::client::{EncryptedInput, PublicKeys, Token};
use polyveil_serve::engine::Capacity;
use polyveil_serve::operator::{self, Security};
use polyveil_serve::page::Page;
use polyveil_serve::tls::Tls;
use polyveil_serve::watch::Log;
use polyveil_serve::{Code, Error, Result, doctor, serve};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

const EVALUATION_KEYS: &str = "evaluation.keys";
/// Between two lines of progress.
const PAUSE: Duration = Duration::from_secs(2);

#[global_allocator]
static HEAP: ring::heap::Heap = ring::heap::Heap;

fn main() -> ExitCode {
    let cli: Cli = polyveil::command_line::parse(|what| note(&format!("error: {what}")));
    ring::heap::last_words(
        "error: memory ran out: ",
        " more could not be had; raise the memory limit or lower --max-memory. Jobs go on from their checkpoints when the server is started again",
    );
    let threads = cli
        .threads
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.clamp(1, 1024));
    if let Err(e) = pool.build_global() {
        note(&format!("error: {threads} threads: {e}; use fewer threads"));
        return ExitCode::from(1);
    }
    no_core();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            note(&format!("error: {}", place::with_option(e)));
            ExitCode::from(1)
        }
    }
}

/// A core would hold a token; a limit on file sizes is an error of the write that meets it.
fn no_core() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let none = Rlimit {
        current: Some(1),
        maximum: getrlimit(Resource::Core)
            .maximum
            .map_or(Some(1), |most| Some(most.min(1))),
    };
    let _ = setrlimit(Resource::Core, none);
    let met = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, met);
}

fn say(text: impl std::fmt::Display) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "{text}").and_then(|()| out.flush());
    written.map_err(Error::io("standard output"))
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Start(a) => start(&a),
        Command::Plan(a) => plan(a),
        Command::Account(a) => account(a),
        Command::Doctor(a) => examine(&a),
        Command::Enrol(a) => enrol(&a),
        Command::Upload(a) => upload(&a),
        Command::Ask(a) => ask(&a),
        Command::Forget(a) => forget(&a),
    }
}

fn machine(path: Option<&PathBuf>) -> Result<Machine> {
    Ok(match path {
        Some(path) => Machine::open(path, &mut |p| note(p.message))?,
        None => Machine::default(),
    })
}

fn seconds(what: &str, value: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(value).map_err(|e| {
        Error::new(
            Code::BadRequest,
            format!("{what} {value}: {e}"),
            "give a number of seconds",
        )
    })
}

/// The folder of a service; warns where it is there and open to others.
fn folder(data: &Data) -> Result<&Path> {
    polyveil::files::private_folder(&data.folder, "files", &mut |p| note(p.message))?;
    Ok(&data.folder)
}

fn start(a: &arguments::Start) -> Result<()> {
    const DAY: f64 = 86400.0;
    let idle = seconds("--idle", a.idle)?;
    let tls = match (&a.certificate, &a.certificate_key) {
        (Some(certificate), Some(key)) => Some(Arc::new(Tls::open(certificate, key)?)),
        _ => None,
    };
    let settings = polyveil_serve::Start {
        listen: a.listen,
        tls: tls.clone(),
        bucket: a
            .bucket
            .as_deref()
            .map(Bucket::open)
            .transpose()?
            .map(Arc::new),
        capacity: Capacity {
            memory: a.max_memory,
            runs: a.runs.clamp(1, 64),
            machine: machine(a.machine.as_ref())?,
            keys_stay: a.key_days.max(0.0) * DAY,
            answers_stay: a.answer_days.max(0.0) * DAY,
        },
        connections: descriptors(a.connections.clamp(1, 1 << 20)),
        patience: Patience {
            header: seconds("--header", a.header)?,
            idle,
            ..Patience::default()
        },
        sweep: seconds("--sweep", a.sweep.max(0.05))?,
        page: a.page.as_deref().map(Page::open).transpose()?.map(Arc::new),
    };
    let log = Arc::new(Log::new(std::io::stdout()));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    signals(stop, tls, log.clone())?;
    serve(folder(&a.data)?, &settings, log, stopped)
}

/// SIGTERM and SIGINT stop; SIGHUP reads the certificate anew, where there is one.
fn signals(
    stop: tokio::sync::watch::Sender<bool>,
    tls: Option<Arc<Tls>>,
    log: Arc<Log>,
) -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut heard = vec![SIGTERM, SIGINT];
    heard.extend(tls.is_some().then_some(SIGHUP));
    let signals = signal_hook::iterator::Signals::new(heard);
    let mut signals = signals.map_err(Error::io("signals"))?;
    let listening = move || {
        for signal in signals.forever() {
            match &tls {
                Some(tls) if signal == SIGHUP => match tls.reload() {
                    Ok(()) => log.say("certificate_read", serde_json::json!({})),
                    Err(e) => log.say("certificate_kept", serde_json::json!(e)),
                },
                // whoever asks twice does not wait for checkpoints
                _ if stop.send_replace(true) => std::process::exit(1),
                _ => {}
            }
        }
    };
    let thread = std::thread::Builder::new().name("signals".into());
    let thread = thread.spawn(listening).map_err(Error::io("a thread"))?;
    drop(thread);
    Ok(())
}

/// As many connections as there are descriptors for, with some left for files.
fn descriptors(wanted: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const FILES: u64 = 64;
    let had = getrlimit(Resource::Nofile);
    let needed = wanted as u64 + FILES;
    let possible = had.maximum.map_or(needed, |most| most.min(needed));
    if had.current.is_some_and(|now| now < possible) {
        let more = Rlimit {
            current: Some(possible),
            maximum: had.maximum,
        };
        let _ = setrlimit(Resource::Nofile, more);
    }
    let now = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    wanted.min(now.saturating_sub(FILES).max(1) as usize)
}

fn plan(command: PlanCommand) -> Result<()> {
    match command {
        PlanCommand::Add {
            plan,
            name,
            data,
            machine: table,
            insecure_toy,
        } => {
            let stem = plan.file_stem().map(|s| s.to_string_lossy().into_owned());
            let name = name.or(stem).unwrap_or_default();
            let security = match insecure_toy {
                true => Security::AnyForTests,
                false => Security::Required,
            };
            let added = operator::add_plan(
                folder(&data)?,
                &plan,
                &name,
                security,
                &machine(table.as_ref())?,
            )?;
            note(&format!(
                "{name} is served: keys of {}, {} of memory, about {} a run",
                polyveil::runtime::size(added.key_bytes),
                polyveil::runtime::size(added.run_memory + added.key_memory),
                polyveil::progress::duration(added.seconds)
            ));
            Ok(())
        }
        PlanCommand::Retire {
            name,
            successor,
            data,
        } => operator::command(
            folder(&data)?,
            operator::Command::RetirePlan { name, successor },
        )
        .map(drop),
        PlanCommand::List { data } => list(folder(&data)?, operator::Command::Plans),
    }
}

fn list(root: &Path, command: operator::Command) -> Result<()> {
    let all = operator::command(root, command)?;
    say(format_args!("{all:#}"))
}

fn account(command: AccountCommand) -> Result<()> {
    use operator::Command as Of;
    match command {
        AccountCommand::Add { name, quotas, data } => {
            let token = operator::add_account(folder(&data)?, &name, (&quotas).into())?;
            show(&name, &token)
        }
        AccountCommand::Renew { name, data } => {
            let token = operator::renew_token(folder(&data)?, &name)?;
            show(&name, &token)
        }
        AccountCommand::Quota { name, quotas, data } => {
            let quotas = (&quotas).into();
            list(folder(&data)?, Of::SetQuotas { name, quotas })
        }
        AccountCommand::Remove { name, data } => {
            operator::command(folder(&data)?, Of::RemoveAccount { name }).map(drop)
        }
        AccountCommand::List { data } => list(folder(&data)?, Of::Accounts),
    }
}

fn show(name: &str, token: &str) -> Result<()> {
    note(&format!("the token of {name}, which is shown this once:"));
    say(token)
}

/// What the arguments say of a service; the plan is not known yet.
fn enrolled(at: &At) -> Result<Enrolled> {
    let text = |file: &PathBuf| std::fs::read_to_string(file).map_err(Error::io(file.display()));
    Ok(Enrolled {
        url: at.url.clone(),
        plan: String::new(),
        token: Token::new(&text(&at.token_file)?)?.reveal().into(),
        authority: at.authority.as_ref().map(text).transpose()?,
        protected_way: at.protected_way,
    })
}

fn examine(a: &Doctor) -> Result<()> {
    let remote = enrolled(&a.at)?.remote()?;
    let folder = std::env::temp_dir().join(format!("polyveil-doctor-{}", std::process::id()));
    // under a name that others can foresee: one that is there is not taken
    let made = std::fs::DirBuilder::new().mode(0o700).create(&folder);
    made.map_err(Error::io(folder.display()))?;
    let remote = remote.patient(Duration::from_secs(10));
    let found = doctor::examine(&remote, a.plan.as_deref(), &folder, &mut |text| note(text));
    let _ = std::fs::remove_dir_all(&folder);
    found
}

fn enrol(a: &Enrol) -> Result<()> {
    let mut enrolled = enrolled(&a.at)?;
    let needed: Vec<&Path> = std::iter::once(&a.at.token_file)
        .chain(&a.at.authority)
        .map(PathBuf::as_path)
        .collect();
    let place = (a.output.as_path(), &needed[..], a.overwrite.existing());
    Enrolled::expect_place(place.0, place.1, place.2)?;
    let remote = enrolled.remote()?;
    let plan = match &a.plan {
        Some(name) => remote.plan(name)?,
        None => {
            let mut plans = remote.plans()?;
            match plans.pop() {
                Some(plan) if plans.is_empty() => plan,
                last => {
                    let names: Vec<String> =
                        plans.into_iter().chain(last).map(|p| p.name).collect();
                    let cause = format!(
                        "the service has {} plans: {}",
                        names.len(),
                        names.join(", ")
                    );
                    return Err(Error::new(Code::BadRequest, cause, "name one with --plan"));
                }
            }
        }
    };
    if plan.insecure && !a.insecure_toy {
        let cause = format!("{} is a toy that protects nothing", plan.name);
        return Err(Error::new(
            Code::Refused,
            cause,
            "choose another plan, or take it with --insecure-toy for a test",
        ));
    }
    let file = remote.client_file(&plan)?;
    enrolled.plan = plan.name.clone();
    let bytes = file.write(Vec::new(), "the client file")?;
    enrolled.write(place, &plan, &bytes)?;
    let path = a.output.join(CLIENT_FILE);
    note(&format!(
        "{}: {} of keys, about {} a run; now make them: polyveil keygen {} -o {}",
        plan.name,
        polyveil::runtime::size(plan.key_bytes),
        polyveil::progress::duration(plan.seconds),
        path.display(),
        a.output.display()
    ));
    Ok(())
}

/// The public keys of a folder; the secret one beside them is not opened.
fn public(folder: &Path) -> Result<PublicKeys> {
    PublicKeys::open(&folder.join(EVALUATION_KEYS))
}

fn upload(a: &Upload) -> Result<()> {
    let (enrolled, keys) = (Enrolled::open(&a.keys)?, public(&a.keys)?);
    let remote = enrolled.remote()?;
    remote.upload(&enrolled.plan, &keys, &mut |p| note(p.message))?;
    note(&format!("the keys {} are there", keys.digest()));
    Ok(())
}

fn ask(a: &Ask) -> Result<()> {
    let (enrolled, keys) = (Enrolled::open(&a.keys)?, public(&a.keys)?);
    let input = EncryptedInput::open(&a.input)?;
    // a name that can't be written is refused before anything is sent
    let own = [EVALUATION_KEYS, enrolled::NAME].map(|name| a.keys.join(name));
    let needed = [&a.input, &own[0], &own[1], &a.keys].map(PathBuf::as_path);
    let content = Content::Container(Kind::Answer);
    let existing = a.overwrite.existing();
    let out = Output::create(&a.output, content, &needed, existing, &mut |p| {
        note(p.message)
    });
    let out = out.map_err(place::refused)?;
    let remote = enrolled.remote()?;
    let job = remote.ask(&enrolled.plan, keys.digest(), &input)?;
    let id = job["id"].as_str().unwrap_or_default();
    note(&format!(
        "job {id}; started again, the same command goes on with it"
    ));
    let mut told: Option<Instant> = None;
    let job = remote.wait(id, &mut |p| {
        if told.is_none_or(|t| t.elapsed() > PAUSE) {
            note(p.message);
            told = Some(Instant::now());
        }
    })?;
    let mut failed = None;
    let written = out.write(|file, _| {
        let fetched = remote.answer(&job, file, &mut |_| {});
        fetched.map_err(|e| polyveil::Error::from(failed.insert(e).to_string()))
    });
    // what the service says keeps its code
    written.map_err(|e| failed.unwrap_or_else(|| e.into()))?;
    if !a.leave {
        remote.delete_job(id)?;
    }
    Ok(())
}

fn forget(a: &Upload) -> Result<()> {
    let (enrolled, keys) = (Enrolled::open(&a.keys)?, public(&a.keys)?);
    let remote = enrolled.remote()?;
    for job in remote.jobs()? {
        if job["keys"] == keys.digest() {
            remote.delete_job(job["id"].as_str().unwrap_or_default())?;
        }
    }
    remote.delete_keys(keys.digest())
}

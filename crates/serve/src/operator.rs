//! What an operator does on the server's folder: plans and accounts. While a server runs, it is asked through a socket in that folder, which
//! its owner alone can reach; otherwise the database is changed here.

use crate::book::{Book, NotOpened, TokenOf};
use crate::error::{Code, Error, Result};
use crate::records::{Account, Job, Keys, Plan, Quotas, Retired, State, expect_name, hex};
use crate::service::{Service, forget_job, random, token_hash};
use crate::store::{Kind, Store};
use polyveil::ckks::Level;
use polyveil::machine::{Machine, Probing};
use polyveil::runtime::VerifiedPlan;
use polyveil::runtime::plan::Port;
use polyveil::task::Task;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The database's file in the folder of a service.
pub const BOOK: &str = "book.redb";
const SOCKET: &str = "operator.sock";
/// Bytes of a command or its answer.
const LONGEST: u64 = 16 << 20;
/// How long a command takes at most.
const PATIENCE: Duration = Duration::from_secs(60);
/// Least security of a plan that is published.
const SECURE: u32 = 128;

/// A change of quotas: what is not named stays.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct NewQuotas {
    /// Predicted CPU seconds of a day.
    pub cpu_seconds: Option<f64>,
    /// Bytes of keys.
    pub key_bytes: Option<u64>,
    /// Jobs that are not done.
    pub open_jobs: Option<u64>,
}

impl NewQuotas {
    fn of(self, had: Quotas) -> Quotas {
        Quotas {
            cpu_seconds: self.cpu_seconds.unwrap_or(had.cpu_seconds),
            key_bytes: self.key_bytes.unwrap_or(had.key_bytes),
            open_jobs: self.open_jobs.unwrap_or(had.open_jobs),
        }
    }
}

/// What is changed or asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Command {
    /// A plan whose files are in the folder is served.
    AddPlan {
        /// It.
        plan: Box<Plan>,
    },
    /// A plan takes no new keys and jobs.
    RetirePlan {
        /// Its name.
        name: String,
        /// What is to be used instead.
        successor: Option<String>,
    },
    /// All plans.
    Plans,
    /// A new account.
    AddAccount {
        /// Its name.
        name: String,
        /// The hash of its token.
        token: String,
        /// What it may use.
        quotas: NewQuotas,
    },
    /// An account has another token, and its old one is none.
    RenewToken {
        /// Its name.
        name: String,
        /// The hash of its new token.
        token: String,
    },
    /// An account goes, with its keys and jobs.
    RemoveAccount {
        /// Its name.
        name: String,
    },
    /// An account may use more or less.
    SetQuotas {
        /// Its name.
        name: String,
        /// What.
        quotas: NewQuotas,
    },
    /// All accounts.
    Accounts,
}

fn conflict(cause: impl Into<String>, remedy: &str) -> Error {
    Error::new(Code::Conflict, cause, remedy)
}

fn no_account(name: &str) -> Error {
    conflict(
        format!("there is no account {name}"),
        "give the name of an account that is there",
    )
}

fn carry_out(book: &Book, command: Command) -> Result<Value> {
    match command {
        Command::Plans => Ok(json!(book.all::<Plan>()?)),
        Command::Accounts => {
            let all: Vec<Account> = book.all()?;
            let shown = all.iter().map(|a| json!({ "name": a.name, "quotas": a.quotas, "cpu_seconds_left_today": a.left() }));
            Ok(shown.collect())
        }
        Command::AddPlan { plan } => book.change(|c| {
            expect_name("the plan", &plan.name)?;
            if let Some(had) = c.get::<Plan>(&plan.name)?
                && had.digest != plan.digest
            {
                let cause = format!("another plan has the name {} ({})", plan.name, had.digest);
                return Err(conflict(
                    cause,
                    "choose another name, and retire the other plan once clients have changed",
                ));
            }
            c.put(&plan.name, &*plan)?;
            Ok(json!(plan))
        }),
        Command::RetirePlan { name, successor } => book.change(|c| {
            let Some(mut plan) = c.get::<Plan>(&name)? else {
                return Err(conflict(
                    format!("there is no plan {name}"),
                    "give the name of a plan that is there",
                ));
            };
            if let Some(next) = &successor
                && (*next == name || c.get::<Plan>(next)?.is_none_or(|p| p.retired.is_some()))
            {
                return Err(conflict(
                    format!("{next} is no other plan that is served"),
                    "publish the successor first",
                ));
            }
            plan.retired = Some(Retired { successor });
            c.put(&name, &plan)?;
            Ok(json!(plan))
        }),
        Command::AddAccount {
            name,
            token,
            quotas,
        } => book.change(|c| {
            expect_name("the account", &name)?;
            if c.get::<Account>(&name)?.is_some() {
                return Err(conflict(
                    format!("there is an account {name}"),
                    "choose another name, or remove it first",
                ));
            }
            let quotas = quotas.of(Quotas::default());
            let account = Account {
                name: name.clone(),
                token: token.clone(),
                quotas,
                day: 0,
                used: 0.0,
            };
            c.put(&name, &account)?;
            c.put(&token, &TokenOf(name.clone()))?;
            Ok(json!({ "name": name, "quotas": quotas }))
        }),
        Command::RenewToken { name, token } => book.change(|c| {
            let mut account: Account = c.get(&name)?.ok_or_else(|| no_account(&name))?;
            c.remove::<TokenOf>(&account.token)?;
            account.token = token.clone();
            c.put(&name, &account)?;
            c.put(&token, &TokenOf(name.clone()))?;
            Ok(json!({ "name": name }))
        }),
        Command::RemoveAccount { name } => book.change(|c| {
            let account: Account = c.get(&name)?.ok_or_else(|| no_account(&name))?;
            c.remove::<TokenOf>(&account.token)?;
            c.remove::<Account>(&name)?;
            // whoever gets the name next finds nothing of it
            for job in c.all::<Job>()?.iter().filter(|j| j.account == name) {
                forget_job(c, job)?;
            }
            for keys in c.all::<Keys>()?.iter().filter(|k| k.account == name) {
                c.remove::<Keys>(&Keys::name(&name, &keys.digest))?;
            }
            Ok(json!({ "removed": name }))
        }),
        Command::SetQuotas { name, quotas } => book.change(|c| {
            let mut account: Account = c.get(&name)?.ok_or_else(|| no_account(&name))?;
            account.quotas = quotas.of(account.quotas);
            c.put(&name, &account)?;
            Ok(json!({ "name": name, "quotas": account.quotas }))
        }),
    }
}

/// Carries out a command on the service of a folder, which may be running.
///
/// # Errors
/// What does not fit what there is; the file system's.
pub fn command(root: &Path, command: Command) -> Result<Value> {
    Store::open(root)?;
    match Book::open(&root.join(BOOK)) {
        Ok(book) => carry_out(&book, command),
        Err(NotOpened::InUse) => send(root, &command),
        Err(NotOpened::Failed(e)) => Err(e),
    }
}

fn send(root: &Path, command: &Command) -> Result<Value> {
    let path = root.join(SOCKET);
    let failed = |e| {
        let inner = Error::io(path.display())(e);
        let remedy = "wait until the server has started, and run as the user that it runs as";
        Error {
            remedy: remedy.into(),
            ..inner
        }
    };
    let mut stream = UnixStream::connect(&path).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    stream
        .write_all(format!("{}\n", json!(command)).as_bytes())
        .map_err(failed)?;
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST))
        .read_line(&mut line)
        .map_err(failed)?;
    let answer: std::result::Result<Value, Error> = serde_json::from_str(&line).map_err(|e| {
        let remedy = "use the version of the program that the server is";
        Error::new(
            Code::Internal,
            format!("the server's answer can't be read ({e})"),
            remedy,
        )
    })?;
    answer
}

/// Takes operators' commands as long as the process lives.
///
/// # Errors
/// The file system's.
pub fn listen(service: &Arc<Service>, root: &Path) -> Result<()> {
    let path = root.join(SOCKET);
    // whoever has the database is the only server: a socket that is there is a dead one's
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).map_err(Error::io(path.display()))?;
    let own = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&path, own).map_err(Error::io(path.display()))?;
    let service = service.clone();
    let thread = std::thread::Builder::new().name("operator".into());
    let taking = move || {
        for stream in listener.incoming().flatten() {
            // one at a time: commands are short
            let _ = answer(&service, stream);
        }
    };
    thread.spawn(taking).map_err(Error::io("a thread"))?;
    Ok(())
}

fn answer(service: &Service, mut stream: UnixStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new((&stream).take(LONGEST)).read_line(&mut line)?;
    let done = match serde_json::from_str::<Command>(&line) {
        Ok(command) => within(service, command),
        Err(e) => {
            let remedy = "use the version of the program that the server is";
            Err(Error::new(
                Code::BadRequest,
                format!("the command can't be read ({e})"),
                remedy,
            ))
        }
    };
    stream.write_all(format!("{}\n", json!(done)).as_bytes())
}

/// In the server: jobs of an account that goes end, and its files go.
fn within(service: &Service, command: Command) -> Result<Value> {
    let going = match &command {
        Command::RemoveAccount { name } => service.jobs(name)?,
        _ => Vec::new(),
    };
    let event = serde_json::to_value(&command).unwrap_or_default()["do"].clone();
    let removes = matches!(command, Command::RemoveAccount { .. });
    let done = carry_out(service.book(), command)?;
    for job in going.iter().filter(|job| job.state == State::Open) {
        service.engine().cancel(&job.id);
    }
    if removes {
        service.sweep()?;
    }
    service.log().say("operator", json!({ "command": event }));
    Ok(done)
}

/// A new account's token, which is shown once: what is kept is its hash.
///
/// # Errors
/// Those of [`command`].
pub fn add_account(root: &Path, name: &str, quotas: NewQuotas) -> Result<String> {
    let (token, hash) = new_token();
    let of = Command::AddAccount {
        name: name.into(),
        token: hash,
        quotas,
    };
    command(root, of)?;
    Ok(token)
}

/// Another token for an account, which is shown once; whoever has the old one is refused from now on.
///
/// # Errors
/// Those of [`command`].
pub fn renew_token(root: &Path, name: &str) -> Result<String> {
    let (token, hash) = new_token();
    let of = Command::RenewToken {
        name: name.into(),
        token: hash,
    };
    command(root, of)?;
    Ok(token)
}

fn new_token() -> (String, String) {
    let token = format!("pv_{}", random(32));
    let hash = token_hash(&token);
    (token, hash)
}

/// What may be published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// Plans of 128 bits.
    #[default]
    Required,
    /// Toys too, which protect nothing: for tests.
    AnyForTests,
}

/// Publishes a plan: verifies it, copies it with its client file and its weights into the folder, and says what a run takes.
///
/// # Errors
/// Files that do not belong together, plans that protect nothing, names that are taken.
pub fn add_plan(
    root: &Path,
    path: &Path,
    name: &str,
    security: Security,
    machine: &Machine,
) -> Result<Plan> {
    expect_name("the plan", name)?;
    let store = Store::open(root)?;
    let plan = polyveil::network::plan(path)?;
    let bits = plan.parameters().security_bits();
    let insecure = plan.parameters().spec().is_toy() || bits < SECURE;
    if insecure && security == Security::Required {
        let cause = format!(
            "{}: `{}` protects nothing: {bits} bits of security",
            path.display(),
            plan.parameters().spec().name
        );
        return Err(Error::new(
            Code::Refused,
            cause,
            "compile for a secure parameter set, or allow toys for a test",
        ));
    }
    let beside = path.with_extension("client");
    let client = polyveil::network::client_file(&beside)?;
    if client.spec().plan != *plan.digest() {
        let cause = format!(
            "{} is of another plan than {}",
            beside.display(),
            path.display()
        );
        return Err(Error::new(
            Code::WrongFile,
            cause,
            "take both from one compilation",
        ));
    }
    let digest = hex(plan.digest());
    // the plan last: with it, all of it is there
    for (ending, needed) in [("client", true), ("weights", false), ("plan", true)] {
        let from = path.with_extension(ending);
        let from = if ending == "plan" {
            path.to_path_buf()
        } else {
            from
        };
        if needed || from.exists() {
            copy(
                &from,
                &store.path(Kind::Plans, &format!("{digest}.{ending}")),
            )?;
        }
    }
    let file = std::fs::metadata(&beside).map_err(Error::io(beside.display()))?;
    let record = record(
        &plan,
        (name, insecure),
        (client.task(), file.len()),
        machine,
    )?;
    command(
        root,
        Command::AddPlan {
            plan: Box::new(record.clone()),
        },
    )?;
    Ok(record)
}

fn copy(from: &PathBuf, to: &Path) -> Result<()> {
    let mut file = std::fs::File::open(from).map_err(Error::io(from.display()))?;
    let copied = disk::Output::create(to, disk::Access::Owner).and_then(|mut out| {
        std::io::copy(&mut file, &mut out)?;
        out.finish()
    });
    copied.map_err(Error::io(to.display()))
}

fn record(
    plan: &VerifiedPlan,
    (name, insecure): (&str, bool),
    (task, client_bytes): (&Arc<[u8]>, u64),
    machine: &Machine,
) -> Result<Plan> {
    let (facts, of) = (plan.facts(), plan.plan());
    let made = machine.predict(plan, None, Probing::AsItIs)?;
    let more = facts.more_on(rayon::current_num_threads());
    let takes = match task.is_empty() {
        true => "rows".into(),
        false => Task::from_bytes(task)
            .map_err(polyveil::Error::from)?
            .kind()
            .to_string(),
    };
    Ok(Plan {
        name: name.into(),
        digest: hex(plan.digest()),
        network: of.description.name.clone(),
        takes,
        shape: of.input.shape.clone(),
        batch: of.input.batch,
        parameters: plan.parameters().spec().name.clone(),
        security_bits: plan.parameters().security_bits(),
        insecure,
        client_bytes,
        key_bytes: facts.key_file_bytes,
        input_bytes: input_bytes(plan, &of.input),
        steps: of.steps.len(),
        bootstraps: facts.bootstraps,
        cpu_seconds: made.cpu_seconds,
        seconds: made.seconds,
        key_memory: facts.key_sizes.values().map(|s| s.memory).sum(),
        run_memory: facts.peak_without_keys + more,
        least_memory: facts.keys_on_disk(0).peak_bytes + more,
        retired: None,
    })
}

/// Most bytes of an input's file: its header, what it says of itself, and for each ciphertext a seed and residues at their primes' bit lengths.
fn input_bytes(plan: &VerifiedPlan, port: &Port) -> u64 {
    const HEADER: u64 = 192;
    const SECTION: u64 = 44;
    let parameters = plan.parameters();
    let said =
        serde_json::to_vec(parameters.spec()).map_or(1 << 20, |json| json.len() as u64 + 256);
    let limbs = parameters.limbs(Level::new(port.level)).clone();
    let limb =
        |i: usize| (parameters.n() as u64 * u64::from(parameters.prime(i).bits())).div_ceil(8);
    let ciphertext: u64 = 32 + limbs.iter().map(|&i| limb(i)).sum::<u64>();
    HEADER + SECTION + said + port.registers.len() as u64 * (SECTION + ciphertext)
}

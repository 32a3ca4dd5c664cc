//! The database: accounts, plans, keys and jobs. A change is a transaction: it is on disk whole or not at all, whatever ends the process.

use crate::error::{Code, Error, Result};
use crate::records::{Account, Job, Keys, Plan};
use redb::backends::FileBackend;
use redb::{Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

type Table = TableDefinition<'static, &'static str, &'static [u8]>;

/// Something that is kept under a name.
pub trait Record: Serialize + DeserializeOwned {
    /// Where.
    const TABLE: Table;
}

impl Record for Account {
    const TABLE: Table = TableDefinition::new("accounts");
}
impl Record for Plan {
    const TABLE: Table = TableDefinition::new("plans");
}
impl Record for Keys {
    const TABLE: Table = TableDefinition::new("keys");
}
impl Record for Job {
    const TABLE: Table = TableDefinition::new("jobs");
}

/// The account that a token is of, by the token's hash.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct TokenOf(pub String);
impl Record for TokenOf {
    const TABLE: Table = TableDefinition::new("tokens");
}

/// The job of an account's idempotency key.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct JobOf(pub String);
impl Record for JobOf {
    const TABLE: Table = TableDefinition::new("requests");
}

/// The number of the next job.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Counter(pub u64);
impl Record for Counter {
    const TABLE: Table = TableDefinition::new("counters");
}

/// The database of a service.
#[derive(Debug)]
pub struct Book {
    path: PathBuf,
    /// None where it could not be opened anew.
    database: RwLock<Option<Database>>,
    /// A write failed, on a full disk say: the database refuses everything until it is opened anew, and is found whole then.
    failed: AtomicBool,
    /// Changes that could wait.
    soon: AtomicU64,
}

fn failed(e: impl Into<redb::Error>) -> Error {
    match e.into() {
        redb::Error::Io(e) => Error::io("the database")(e),
        redb::Error::PreviousIo => Error::new(
            Code::DiskFull,
            "the database: a write failed before",
            "try again in a moment; the operator must make room on the server's disk",
        ),
        e => Error::new(
            Code::Internal,
            format!("the database: {e}"),
            "try again; if it stays, the operator must look at the server's disk",
        ),
    }
}

/// What is wrong with opening it.
#[derive(Debug)]
pub enum NotOpened {
    /// Another process has it: the server.
    InUse,
    /// Something else.
    Failed(Error),
}

impl Book {
    /// Opens or makes it.
    ///
    /// # Errors
    /// [`NotOpened::InUse`] while another process has it.
    pub fn open(path: &Path) -> Result<Self, NotOpened> {
        let book = Self {
            path: path.into(),
            database: RwLock::new(Some(opened(path)?)),
            failed: AtomicBool::new(false),
            soon: AtomicU64::new(0),
        };
        // readers find every table
        let made = book.change(|c| {
            for table in TABLES {
                c.0.open_table(table).map_err(failed)?;
            }
            Ok(())
        });
        made.map_err(NotOpened::Failed)?;
        Ok(book)
    }

    /// Reads or changes the database, which is opened anew first where it failed before.
    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T>) -> Result<T> {
        if self.failed.load(Ordering::SeqCst) {
            let mut place = (self.database.write()).unwrap_or_else(PoisonError::into_inner);
            if self.failed.load(Ordering::SeqCst) {
                // the old one must be gone before
                *place = None;
                *place = Some(opened(&self.path).map_err(|e| match e {
                    NotOpened::Failed(e) => e,
                    NotOpened::InUse => gone(),
                })?);
                self.failed.store(false, Ordering::SeqCst);
            }
        }
        let place = (self.database.read()).unwrap_or_else(PoisonError::into_inner);
        let database = place.as_ref().ok_or_else(gone)?;
        let done = work(database);
        if let Err(e) = &done
            && matches!(e.code, Code::Internal | Code::DiskFull)
        {
            self.failed.store(true, Ordering::SeqCst);
        }
        done
    }

    /// What is kept under a name.
    ///
    /// # Errors
    /// The database's.
    pub fn get<R: Record>(&self, name: &str) -> Result<Option<R>> {
        self.with(|database| {
            let read = database.begin_read().map_err(failed)?;
            let table = read.open_table(R::TABLE).map_err(failed)?;
            let found = table.get(name).map_err(failed)?;
            found.map(|bytes| decoded(bytes.value())).transpose()
        })
    }

    /// All of a kind, by name.
    ///
    /// # Errors
    /// The database's.
    pub fn all<R: Record>(&self) -> Result<Vec<R>> {
        self.with(|database| {
            let read = database.begin_read().map_err(failed)?;
            listed(&read.open_table(R::TABLE).map_err(failed)?)
        })
    }

    /// Changes what is kept; an error leaves everything as it was.
    ///
    /// # Errors
    /// Those of `change`, and the database's.
    pub fn change<T>(&self, change: impl FnOnce(&Changing) -> Result<T>) -> Result<T> {
        self.changed(Durability::Immediate, change)
    }

    /// As [`Book::change`], of what may be lost where the process is killed within a moment: that a part of a file came, which is sent again then.
    /// One in so many is put on disk, and with it those before it.
    ///
    /// # Errors
    /// As [`Book::change`].
    pub fn change_soon<T>(&self, change: impl FnOnce(&Changing) -> Result<T>) -> Result<T> {
        let count = self.soon.fetch_add(1, Ordering::SeqCst);
        match count % SOON {
            0 => self.changed(Durability::Immediate, change),
            _ => self.changed(Durability::None, change),
        }
    }

    fn changed<T>(
        &self,
        durability: Durability,
        change: impl FnOnce(&Changing) -> Result<T>,
    ) -> Result<T> {
        self.with(|database| {
            let mut writing = database.begin_write().map_err(failed)?;
            writing.set_durability(durability).map_err(failed)?;
            let changing = Changing(writing);
            match change(&changing) {
                Ok(value) => {
                    changing.0.commit().map_err(failed)?;
                    Ok(value)
                }
                Err(e) => {
                    // what can't be taken back was never written
                    let _ = changing.0.abort();
                    Err(e)
                }
            }
        })
    }
}

/// Changes of which one is put on disk at once: with parts of 4 MiB, each 64 MiB.
const SOON: u64 = 16;

const TABLES: [Table; 7] = [
    Account::TABLE,
    Plan::TABLE,
    Keys::TABLE,
    Job::TABLE,
    TokenOf::TABLE,
    JobOf::TABLE,
    Counter::TABLE,
];

fn gone() -> Error {
    let remedy = "the operator must look at the server's disk";
    Error::new(
        Code::Internal,
        "the database could not be opened again",
        remedy,
    )
}

fn opened(path: &Path) -> Result<Database, NotOpened> {
    let file = own(path).map_err(|e| NotOpened::Failed(Error::io(path.display())(e)))?;
    let made = FileBackend::new(file).and_then(|b| Database::builder().create_with_backend(b));
    made.map_err(|e| match e {
        DatabaseError::DatabaseAlreadyOpen => NotOpened::InUse,
        e => NotOpened::Failed(failed(e)),
    })
}

/// The database's file, its owner's alone: who asked what, and hashes of tokens, are in it. Earlier versions left it to be read by others.
fn own(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false);
    let file = options.mode(0o600).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

fn decoded<R: Record>(bytes: &[u8]) -> Result<R> {
    serde_json::from_slice(bytes).map_err(|e| {
        Error::new(
            Code::Internal,
            format!("the database: a record can't be read ({e})"),
            "use the version of the program that wrote it",
        )
    })
}

fn listed<R: Record>(table: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Vec<R>> {
    let all = table.iter().map_err(failed)?;
    all.map(|entry| decoded(entry.map_err(failed)?.1.value()))
        .collect()
}

/// A change that is being made.
pub struct Changing(redb::WriteTransaction);

impl Changing {
    /// What is kept under a name.
    ///
    /// # Errors
    /// The database's.
    pub fn get<R: Record>(&self, name: &str) -> Result<Option<R>> {
        let table = self.0.open_table(R::TABLE).map_err(failed)?;
        let found = table.get(name).map_err(failed)?;
        found.map(|bytes| decoded(bytes.value())).transpose()
    }

    /// All of a kind, by name.
    ///
    /// # Errors
    /// The database's.
    pub fn all<R: Record>(&self) -> Result<Vec<R>> {
        listed(&self.0.open_table(R::TABLE).map_err(failed)?)
    }

    /// Keeps something under a name.
    ///
    /// # Errors
    /// The database's.
    pub fn put<R: Record>(&self, name: &str, record: &R) -> Result<()> {
        let bytes = serde_json::to_vec(record).map_err(|e| {
            let cause = format!("the database: a record can't be written ({e})");
            Error::new(Code::Internal, cause, "report this")
        })?;
        let mut table = self.0.open_table(R::TABLE).map_err(failed)?;
        table.insert(name, &*bytes).map_err(failed)?;
        Ok(())
    }

    /// Forgets what is kept under a name.
    ///
    /// # Errors
    /// The database's.
    pub fn remove<R: Record>(&self, name: &str) -> Result<()> {
        let mut table = self.0.open_table(R::TABLE).map_err(failed)?;
        table.remove(name).map_err(failed)?;
        Ok(())
    }
}

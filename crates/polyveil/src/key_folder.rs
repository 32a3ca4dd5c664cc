//! A folder of keys: one pair takes another's place whole, or not at all.
//!
//! Two renames are not one, so the old secret waits in the folder `replaced` until the new evaluation keys, which come last, stand beside the
//! new secret. What a killed program leaves is settled by the next one, by the key ids in the headers: either pair, never half of each. All of
//! it happens under a lock of the folder, for no longer than renames take; the lock is the one under which shared answers are counted.

use crate::error::{Result, named};
use crate::files::Filled;
use crate::network::CLIENT_FILE;
use crate::progress::{Listener, Say};
use runtime::KeyId;
use runtime::sharing::RECORD_NAME;
use runtime::wire::container::Header;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Where what is replaced waits.
const REPLACED: &str = "replaced";

/// A client's files in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFiles {
    /// Secret: stays with the client.
    pub secret: PathBuf,
    /// Public: goes to the server.
    pub public: PathBuf,
}

impl KeyFiles {
    /// Their names in a folder.
    pub fn within(folder: &Path) -> Self {
        Self {
            secret: folder.join("client.key"),
            public: folder.join("evaluation.keys"),
        }
    }
}

/// A folder of keys, locked.
pub(crate) struct KeyFolder {
    folder: PathBuf,
    files: KeyFiles,
    lock: File,
}

/// New files, on disk but not in their places.
pub(crate) struct NewKeys {
    pub(crate) secret: Filled,
    pub(crate) public: Filled,
    /// None where the client file lies in its place already.
    pub(crate) client: Option<Filled>,
}

/// What brings new keys in, one after the other.
#[derive(Debug)]
enum Move {
    Make(PathBuf),
    Rename(PathBuf, PathBuf),
    /// Names are on disk after it, too.
    Place(Filled),
    Remove(PathBuf),
    RemoveFolder(PathBuf),
    Sync,
}

impl KeyFolder {
    /// Locks a folder that is there, and settles what an earlier program left.
    pub(crate) fn lock(folder: &Path, tell: Listener<'_>) -> Result<Self> {
        let lock = File::open(folder).map_err(named(folder))?;
        lock.lock().map_err(named(folder))?;
        let locked = Self {
            folder: folder.into(),
            files: KeyFiles::within(folder),
            lock,
        };
        locked.settle(tell)?;
        Ok(locked)
    }

    /// Refuses a folder that holds keys.
    pub(crate) fn expect_empty(&self) -> Result<()> {
        let (secret, public) = (self.files.secret.exists(), self.files.public.exists());
        let why = match (secret, public) {
            (false, false) => return Ok(()),
            (true, false) => {
                "a secret key without its evaluation keys: they were taken away, or making keys was cut short"
            }
            (false, true) => {
                "evaluation keys without their secret key: it was taken away, or making keys was cut short"
            }
            (true, true) => match (id(&self.files.secret), id(&self.files.public)) {
                (Ok(a), Ok(b)) if a != b => "a secret key and evaluation keys of different pairs",
                _ => "keys",
            },
        };
        let folder = self.folder.display();
        Err(format!("{folder} already holds {why}; choose another folder, or replace them (what was encrypted with them is then lost)").into())
    }

    /// Puts new keys in the place of those that are there, if any.
    pub(crate) fn install(&self, new: NewKeys) -> Result<()> {
        let moves = self.moves(new).into_iter();
        for one in moves {
            if let Err(e) = self.carry_out(one) {
                // the first error is the one to tell
                let _ = self.settle(&mut crate::progress::silent);
                return Err(e);
            }
        }
        Ok(())
    }

    fn replaced(&self, name: &str) -> PathBuf {
        self.folder.join(REPLACED).join(name)
    }

    /// The files that belong to a secret key, it first.
    fn owned(&self) -> [(PathBuf, PathBuf); 3] {
        let secret = "client.key";
        [secret, CLIENT_FILE, RECORD_NAME].map(|name| (self.folder.join(name), self.replaced(name)))
    }

    fn moves(&self, new: NewKeys) -> Vec<Move> {
        let mut moves = Vec::new();
        let replaced = self.folder.join(REPLACED);
        let old = self.owned().into_iter().filter(|(at, _)| at.exists());
        // a client file that is used again stays
        let old: Vec<_> = old
            .filter(|(at, _)| new.client.is_some() || !at.ends_with(CLIENT_FILE))
            .collect();
        if !old.is_empty() {
            moves.push(Move::Make(replaced.clone()));
        }
        moves.extend(
            old.iter()
                .cloned()
                .map(|(at, aside)| Move::Rename(at, aside)),
        );
        moves.push(Move::Sync);
        moves.extend(new.client.map(Move::Place));
        moves.push(Move::Place(new.secret));
        // from here on the new pair holds
        moves.push(Move::Place(new.public));
        moves.extend(
            old.iter()
                .rev()
                .map(|(_, aside)| Move::Remove(aside.clone())),
        );
        if !old.is_empty() {
            moves.push(Move::RemoveFolder(replaced));
        }
        moves
    }

    fn carry_out(&self, one: Move) -> Result<()> {
        match one {
            Move::Make(folder) => std::fs::create_dir(&folder).map_err(named(&folder)),
            Move::Rename(from, to) => std::fs::rename(from, &to).map_err(named(&to)),
            Move::Place(file) => file.place(),
            Move::Remove(file) => std::fs::remove_file(&file).map_err(named(&file)),
            Move::RemoveFolder(folder) => std::fs::remove_dir(&folder).map_err(named(&folder)),
            Move::Sync => self.lock.sync_all().map_err(named(&self.folder)),
        }
    }

    /// Ends what was cut short: forwards where the new pair is whole, else back.
    fn settle(&self, tell: Listener<'_>) -> Result<()> {
        let replaced = self.folder.join(REPLACED);
        if !replaced.exists() {
            return Ok(());
        }
        let waits = |(_, aside): &(PathBuf, PathBuf)| aside.exists();
        let waiting: Vec<_> = self.owned().into_iter().filter(waits).collect();
        let whole = match (found(&self.files.secret)?, found(&self.files.public)?) {
            (Some(secret), Some(public)) => secret == public,
            // which of the two the evaluation keys belong to that were taken away, nobody knows
            (Some(_), None) if self.replaced("client.key").exists() => {
                return Err(named(&self.folder)(format!(
                    "keys were being replaced before, and that was cut short; the evaluation keys are gone since: keep client.key or {REPLACED}/client.key, whichever they belong to, and remove the folder {REPLACED}"
                )));
            }
            _ => false,
        };
        for (at, aside) in waiting.iter().rev() {
            match whole {
                true => std::fs::remove_file(aside).map_err(named(aside))?,
                false => std::fs::rename(aside, at).map_err(named(at))?,
            }
        }
        self.lock.sync_all().map_err(named(&self.folder))?;
        std::fs::remove_dir(&replaced).map_err(named(&replaced))?;
        if !waiting.is_empty() {
            let folder = self.folder.display();
            tell.note(match whole {
                true => format!("{folder}: keys were replaced before, and that was cut short at its end: the new pair is whole and stays"),
                false => format!("{folder}: keys were being replaced before, and that was cut short: the old pair is in its place again"),
            });
        }
        Ok(())
    }
}

/// The pair that a key file belongs to, by its header.
fn id(path: &Path) -> Result<KeyId> {
    let name = path.display().to_string();
    let mut file = File::open(path).map_err(named(path))?;
    Ok(Header::read(&mut file, &name)?.ids.key)
}

/// As [`id`], of a file that may not be there.
fn found(path: &Path) -> Result<Option<KeyId>> {
    path.exists().then(|| id(path)).transpose()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::files::{Content, Existing, Output};
    use ckks::ParametersSpec;
    use runtime::wire::container::Kind;
    use runtime::{Description, Operation, Plan, Port, Purpose, Step, VerifiedPlan};
    use std::io::Write;

    struct Folder(PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// A plan of one step, on a toy ring.
    pub(crate) fn plan_that_does_nothing(name: &str) -> VerifiedPlan {
        let port = |register, level| Port {
            name: "x".into(),
            shape: vec![4],
            registers: vec![register],
            slots: 4,
            places: (0..4).map(|s| (0, s)).collect(),
            batch: 1,
            level,
            unit: 1.0,
        };
        let plan = Plan {
            parameters: ParametersSpec::toy_levelled(6, 4),
            description: Description {
                name: name.into(),
                input_bound: 1.0,
                ..Description::default()
            },
            input: port(0, 2),
            output: port(1, 1),
            steps: vec![Step {
                layer: "lower".into(),
                purpose: Purpose::Weights,
                operation: Operation::Square {
                    input: 0,
                    output: 1,
                    constant: 0.0,
                },
                unit: 1.0,
                interval: None,
            }],
        };
        VerifiedPlan::new(plan).expect("verifies")
    }

    /// New keys for a folder, of a network with this name.
    fn staged(folder: &Path, network: &str) -> (NewKeys, KeyId) {
        let file = plan_that_does_nothing(network).client_file([].into());
        let client = runtime::Client::new(file.expect("no task"), &mut crate::session::rng());
        let filled = |name: &str, kind, bytes: Vec<u8>| {
            let content = Content::Container(kind);
            let output = Output::create(&folder.join(name), content, &[], Existing::Any);
            let filled = output
                .expect("opens")
                .fill(|out, _| Ok(out.write_all(&bytes)?));
            filled.expect("writes").0
        };
        let mut rng = crate::session::rng();
        let secret = client.write(Vec::new(), "x").expect("writes");
        let public = client.write_evaluation_keys(Vec::new(), "x", &mut rng, &mut |_, _| {});
        let file = client.file().write(Vec::new(), "x").expect("writes");
        let new = NewKeys {
            secret: filled("client.key", Kind::ClientKey, secret),
            public: filled(
                "evaluation.keys",
                Kind::EvaluationKeys,
                public.expect("writes"),
            ),
            client: Some(filled(CLIENT_FILE, Kind::ClientFile, file)),
        };
        (new, client.key())
    }

    /// A folder with a pair, and the record of what was shared under it.
    fn with_old(test: &str) -> (Folder, KeyId) {
        let name = format!("polyveil-key-folder-{test}-{}", std::process::id());
        let folder = Folder(std::env::temp_dir().join(name));
        std::fs::create_dir_all(&folder.0).expect("a folder");
        let (new, old) = staged(&folder.0, "old");
        open(&folder.0).install(new).expect("installs");
        std::fs::write(folder.0.join(RECORD_NAME), "old").expect("writes");
        (folder, old)
    }

    fn open(folder: &Path) -> KeyFolder {
        KeyFolder::lock(folder, &mut crate::progress::silent).expect("settles")
    }

    /// The id of the pair in a folder, which is whole and goes with its client file; whether a record is there.
    fn pair(folder: &Path) -> (KeyId, bool) {
        let files = KeyFiles::within(folder);
        let [secret, public] = [&files.secret, &files.public].map(|p| id(p).expect("there"));
        assert_eq!(secret, public);
        let client = crate::Client::open(&files.secret, None).expect("opens");
        assert_eq!(client.keys().key(), secret);
        (secret, folder.join(RECORD_NAME).exists())
    }

    #[test]
    fn a_pair_is_replaced_whole_wherever_it_is_cut_short() {
        let count = {
            let (folder, _) = with_old("count");
            let (new, _) = staged(&folder.0, "new");
            open(&folder.0).moves(new).len()
        };
        for done in 0..=count {
            let (folder, old) = with_old(&format!("cut-{done}"));
            let (new, key) = staged(&folder.0, "new");
            {
                let killed = open(&folder.0);
                let moves = killed.moves(new);
                let placed = |m: &Move| matches!(m, Move::Place(_));
                let commit = moves.iter().rposition(placed).expect("there");
                let moves = moves.into_iter().take(done);
                moves.for_each(|m| killed.carry_out(m).expect("moves"));
                drop(killed);
                let mut notes = 0;
                KeyFolder::lock(&folder.0, &mut |_| notes += 1).expect("settles");
                let (had, record) = pair(&folder.0);
                // what was shared under a key is counted as long as the key is there, and no longer
                assert_eq!(
                    (had, record),
                    if done > commit {
                        (key, false)
                    } else {
                        (old, true)
                    }
                );
                assert!(notes <= 1 && !folder.0.join(REPLACED).exists());
            }
            // and the next one goes through
            let (new, key) = staged(&folder.0, "next");
            open(&folder.0).install(new).expect("installs");
            assert_eq!(pair(&folder.0), (key, false));
        }
    }

    #[test]
    fn a_move_that_fails_leaves_the_old_pair() {
        let (folder, old) = with_old("fails");
        let (new, _) = staged(&folder.0, "new");
        let names = std::fs::read_dir(&folder.0).expect("a folder");
        let names = names.map(|e| e.expect("an entry").path());
        let public = |p: &PathBuf| {
            let name = p.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("evaluation.keys.") && name.ends_with(".partial")
        };
        let public: Vec<PathBuf> = names.filter(public).collect();
        std::fs::remove_file(&public[0]).expect("removes");
        open(&folder.0).install(new).expect_err("no such file");
        assert_eq!(pair(&folder.0), (old, true));
    }

    #[test]
    fn folders_with_halves_of_pairs_say_so() {
        let (folder, _) = with_old("halves");
        let files = KeyFiles::within(&folder.0);
        let refused = |words: &str| {
            let message = open(&folder.0)
                .expect_empty()
                .expect_err("holds keys")
                .to_string();
            assert!(
                message.contains(words) && message.contains("replace them"),
                "{message}"
            );
        };
        refused("already holds keys");
        let (other, _) = with_old("halves-of-another");
        let others = KeyFiles::within(&other.0);
        std::fs::copy(&others.public, &files.public).expect("copies");
        refused("different pairs");
        std::fs::remove_file(&files.public).expect("removes");
        refused("without its evaluation keys");
        // a new secret and an old one, and nobody knows whose evaluation keys were taken away
        std::fs::create_dir(folder.0.join(REPLACED)).expect("a folder");
        std::fs::copy(&others.secret, folder.0.join(REPLACED).join("client.key")).expect("copies");
        let Err(e) = KeyFolder::lock(&folder.0, &mut crate::progress::silent) else {
            panic!("cannot be settled");
        };
        assert!(e.to_string().contains("whichever they belong to"), "{e}");
    }
}

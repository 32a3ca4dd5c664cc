//! A folder of keys: one pair takes another's place whole, or not at all.
//!
//! Two renames are not one, so a folder `replaced` is made first: the new evaluation keys go there, and the old secret. Then the new secret takes its
//! place, and from there on the new pair holds. What a killed program leaves is settled by the next one, by the key ids in the headers: forwards where
//! the secret is that of the new keys, else back; either pair, never half of each, and no secret is removed that has no successor. All of it happens
//! under a lock of the folder, for no longer than renames take; the lock is the one under which shared answers are counted.

use crate::error::{Error, Help, Result, named};
use crate::files::{Content, Existing, Filled, expect_place};
use crate::network::{self, CLIENT_FILE, KEY};
use crate::progress::{Listener, Say};
use runtime::sharing::RECORD_NAME;
use runtime::wire::container::{Header, Kind};
use runtime::{ClientFile, KeyId};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Where what is replaced waits.
const REPLACED: &str = "replaced";
/// What waits there to come in, once the new secret is in its place: the evaluation keys, and the client file.
const NEW: [&str; 2] = ["new.client", "new.keys"];

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
            secret: folder.join(KEY),
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
    Stage(Filled, PathBuf),
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

    /// Refuses a folder whose file in the client file's place is none.
    pub(crate) fn expect_client_file(&self) -> Result<()> {
        let client = self.folder.join(CLIENT_FILE);
        let content = Content::Container(Kind::ClientFile);
        match expect_place(&client, content, &[], Existing::Kin) {
            Err(_) => Err(named(&client)(
                "it is no client file, and the new keys' client file would take its place; choose another folder",
            )),
            Ok(()) => Ok(()),
        }
    }

    /// Refuses a folder that holds keys, or what belongs to keys: another client file than `file` would go with new ones.
    pub(crate) fn expect_empty(&self, file: &ClientFile) -> Result<()> {
        let (secret, public) = (self.files.secret.exists(), self.files.public.exists());
        let client = self.folder.join(CLIENT_FILE);
        let other = client.exists() && network::client_file(&client).ok().as_ref() != Some(file);
        let why = match (secret, public) {
            (false, false) if self.folder.join(RECORD_NAME).exists() => {
                "releases.json, which counts what was shared under a key that was taken away"
            }
            (false, false) if other => {
                "network.client, another client file than that of these keys"
            }
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
        let what = format!(
            "{folder} already holds {why} (what was encrypted with them is lost without them)"
        );
        Err(Error::refused(what, Help::ReplaceKeys))
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
        let secret = KEY;
        [secret, CLIENT_FILE, RECORD_NAME].map(|name| (self.folder.join(name), self.replaced(name)))
    }

    fn moves(&self, new: NewKeys) -> Vec<Move> {
        let replaced = self.folder.join(REPLACED);
        let staged = NEW.map(|name| self.replaced(name));
        let old = self.owned().into_iter().filter(|(at, _)| at.exists());
        // a client file that is used again stays
        let old: Vec<_> = old
            .filter(|(at, _)| new.client.is_some() || !at.ends_with(CLIENT_FILE))
            .collect();
        let mut moves = vec![Move::Make(replaced.clone())];
        let client = new.client.is_some();
        // the keys first: without them nothing that is staged comes in
        moves.push(Move::Stage(new.public, staged[1].clone()));
        moves.extend(new.client.map(|file| Move::Stage(file, staged[0].clone())));
        let aside = |(at, aside): &(PathBuf, PathBuf)| Move::Rename(at.clone(), aside.clone());
        moves.extend(old.iter().map(aside));
        moves.push(Move::Sync);
        // from here on the new pair holds
        moves.push(Move::Place(new.secret));
        let [from, keys] = staged;
        let to = self.folder.join(CLIENT_FILE);
        moves.extend(client.then_some(Move::Rename(from, to)));
        moves.push(Move::Rename(keys, self.files.public.clone()));
        moves.push(Move::Sync);
        moves.extend(
            old.iter()
                .rev()
                .map(|(_, aside)| Move::Remove(aside.clone())),
        );
        moves.push(Move::RemoveFolder(replaced));
        moves
    }

    fn carry_out(&self, one: Move) -> Result<()> {
        match one {
            Move::Make(folder) => std::fs::create_dir(&folder).map_err(named(&folder)),
            Move::Stage(file, to) => file.place_at(&to),
            Move::Rename(from, to) => std::fs::rename(from, &to).map_err(named(&to)),
            Move::Place(file) => file.place(),
            Move::Remove(file) => std::fs::remove_file(&file).map_err(named(&file)),
            Move::RemoveFolder(folder) => std::fs::remove_dir(&folder).map_err(named(&folder)),
            Move::Sync => self.sync(),
        }
    }

    /// Puts the names in both folders on disk: a file that left one of them is in the other.
    fn sync(&self) -> Result<()> {
        let replaced = self.folder.join(REPLACED);
        disk::sync_folder(&replaced).map_err(named(&replaced))?;
        self.lock.sync_all().map_err(named(&self.folder))
    }

    /// Ends what was cut short: forwards where the new pair is whole, else back.
    fn settle(&self, tell: Listener<'_>) -> Result<()> {
        let replaced = self.folder.join(REPLACED);
        if !replaced.exists() {
            return Ok(());
        }
        let staged = NEW.map(|name| self.replaced(name));
        let public = &self.files.public;
        let places = [&self.folder.join(CLIENT_FILE), public];
        let waits = |(_, aside): &(PathBuf, PathBuf)| aside.exists();
        let waiting: Vec<_> = self.owned().into_iter().filter(waits).collect();
        let begun = staged.iter().any(|file| file.exists());
        let whole = match (
            found(&self.files.secret)?,
            found(public)?,
            found(&staged[1])?,
        ) {
            (Some(secret), _, Some(new)) => secret == new,
            (Some(secret), Some(public), None) => secret == public,
            // which of the two the evaluation keys belong to that were taken away, nobody knows
            (Some(_), None, None) if self.replaced(KEY).exists() => {
                return Err(named(&self.folder)(format!(
                    "keys were being replaced before, and that was cut short; the evaluation keys are gone since: keep client.key or {REPLACED}/client.key, whichever they belong to, and remove the folder {REPLACED}"
                )));
            }
            _ => false,
        };
        for (from, to) in staged.iter().zip(places).filter(|(from, _)| from.exists()) {
            match whole {
                true => std::fs::rename(from, to).map_err(named(to))?,
                // the secret never came to its place
                false => std::fs::remove_file(from).map_err(named(from))?,
            }
        }
        self.sync()?;
        for (at, aside) in waiting.iter().rev() {
            match whole {
                true => std::fs::remove_file(aside).map_err(named(aside))?,
                false => std::fs::rename(aside, at).map_err(named(at))?,
            }
        }
        self.sync()?;
        std::fs::remove_dir(&replaced).map_err(named(&replaced))?;
        let folder = self.folder.display();
        let how = match (whole, waiting.is_empty()) {
            (_, true) if !begun => return Ok(()),
            (true, _) => {
                "were being made before, and that was cut short at its end: the new pair is whole and stays"
            }
            (false, false) => {
                "were being replaced before, and that was cut short: the old pair is in its place again"
            }
            (false, true) => {
                "were being made before, and that was cut short: nothing of them is left"
            }
        };
        tell.note(format_args!("{folder}: keys {how}"));
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
    use crate::files::Output;
    use ckks::ParametersSpec;
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
            sequence: None,
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
            let silent = &mut crate::progress::silent;
            let output = Output::create(&folder.join(name), content, &[], Existing::Any, silent);
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

    /// What lies in a folder, without what killed writers left of files that never came to their places.
    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).expect("a folder");
        let name = |e: std::io::Result<std::fs::DirEntry>| e.expect("an entry").file_name();
        let mut names: Vec<String> = entries
            .map(|e| name(e).to_string_lossy().into_owned())
            .filter(|n| !n.ends_with(".partial"))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_first_pair_comes_whole_or_not_at_all_wherever_it_is_cut_short() {
        let empty = |test: &str| {
            let name = format!("polyveil-first-keys-{test}-{}", std::process::id());
            let folder = Folder(std::env::temp_dir().join(name));
            std::fs::create_dir_all(&folder.0).expect("a folder");
            folder
        };
        let (mut done, mut whole) = (0, 0);
        loop {
            let folder = empty(&done.to_string());
            let (new, key) = staged(&folder.0, "new");
            let killed = open(&folder.0);
            let moves = killed.moves(new);
            let count = moves.len();
            let moves = moves.into_iter().take(done);
            moves.for_each(|m| killed.carry_out(m).expect("moves"));
            drop(killed);
            drop(open(&folder.0));
            match names(&folder.0).is_empty() {
                true => assert_eq!(whole, 0, "gone after {done} moves"),
                false => {
                    assert_eq!(pair(&folder.0), (key, false));
                    let all = ["client.key", "evaluation.keys", "network.client"];
                    assert_eq!(names(&folder.0), all);
                    whole += 1;
                }
            }
            if done == count {
                break;
            }
            done += 1;
        }
        assert!(whole > 1 && whole < done, "{whole} of {done}");
    }

    #[test]
    fn folders_with_what_belongs_to_keys_are_not_empty() {
        let (folder, _) = with_old("belongings");
        let files = KeyFiles::within(&folder.0);
        let client = folder.0.join(CLIENT_FILE);
        let other = folder.0.join("other.client");
        let another = plan_that_does_nothing("another").client_file([].into());
        let another = another.expect("no task").write(Vec::new(), "x");
        std::fs::write(&other, another.expect("writes")).expect("writes");
        for file in [files.secret, files.public] {
            std::fs::remove_file(file).expect("removes");
        }
        let refused = |client: &Path| {
            let file = network::client_file(client).expect("reads");
            let e = open(&folder.0).expect_empty(&file).expect_err("not empty");
            e.to_string()
        };
        assert!(refused(&client).contains(RECORD_NAME));
        std::fs::remove_file(folder.0.join(RECORD_NAME)).expect("removes");
        assert!(refused(&other).contains(CLIENT_FILE));
        let same = folder.0.join("same.client");
        std::fs::copy(&client, &same).expect("copies");
        for client in [&client, &same] {
            let file = network::client_file(client).expect("reads");
            open(&folder.0).expect_empty(&file).expect("its own");
        }
        open(&folder.0).expect_client_file().expect("one");
        std::fs::write(&client, "mine").expect("writes");
        open(&folder.0).expect_client_file().expect_err("none");
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
        let file = network::client_file(&folder.0.join(CLIENT_FILE)).expect("reads");
        let refused = |words: &str| {
            let message = open(&folder.0)
                .expect_empty(&file)
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

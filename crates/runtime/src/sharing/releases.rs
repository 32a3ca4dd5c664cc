//! The record of the answers shared under a key: it lies beside the key and is the user's own; nobody can check that it is complete.

use super::terms::{DEFAULT_SECURITY, MOST_RELEASES, SECURITY, Terms, refuse};
use crate::{Error, Help, Result};
use disk::Access;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// A record is at most this long.
const LIMIT: u64 = 4096;
/// Of a key, in bytes; more than [`key_name`] gives.
const LONGEST_NAME: usize = 64;

/// Counts one release, on disk, unless `admit` refuses, which gets the record and its name; gives what `admit` made, and the record.
pub(crate) fn charge<T>(
    path: &Path,
    key: &str,
    terms: &Terms,
    admit: impl FnOnce(&mut Ledger, &str) -> Result<T>,
) -> Result<(T, Ledger)> {
    let name = path.display().to_string();
    let folder = disk::folder_of(path);
    let folder_name = folder.display().to_string();
    // two programs at once would count one release where there are two; held until the end of this function
    let lock = File::open(folder).map_err(Error::io(&folder_name))?;
    lock.lock().map_err(Error::io(&folder_name))?;
    let mut ledger = match Ledger::load(path, &name)? {
        Some(l) => {
            l.conforms(key, terms, &name)?;
            l
        }
        None => Ledger {
            key: key.into(),
            security: terms.security.unwrap_or(DEFAULT_SECURITY),
            releases: terms.releases.ok_or_else(|| {
                refuse(
                    "nothing was shared under this key before".into(),
                    Help::Terms.with(
                        "say how many answers will be, in all: it sizes the noise and is fixed for this key",
                    ),
                )
            })?,
            used: 0,
            class_refused: false,
        },
    };
    let admitted = admit(&mut ledger, &name)?;
    ledger.used += 1;
    ledger.write(path)?;
    Ok((admitted, ledger))
}

/// Names a key in its record without saying anything about it: BLAKE3 of the secret, in a domain of its own.
pub(crate) fn key_name(secret: &[i8]) -> String {
    // a domain, no text: a change would make every record that is there another key's
    let mut hasher = blake3::Hasher::new_derive_key("polyveil releases.json: name of a secret key");
    for &c in secret {
        hasher.update(&c.to_le_bytes());
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

/// The record of a key's shared answers: terms are settled at the first one, since its noise is sized for all that follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// Which key.
    key: String,
    pub(super) security: u32,
    pub(super) releases: u64,
    pub(super) used: u64,
    /// Whether the class of an answer was too close to be shared: it is the last that was tried.
    #[serde(default)]
    pub(super) class_refused: bool,
}

impl Ledger {
    fn load(path: &Path, name: &str) -> Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(f) => f,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(name)(e)),
        };
        let mut bytes = Vec::new();
        file.take(LIMIT + 1)
            .read_to_end(&mut bytes)
            .map_err(Error::io(name))?;
        Self::read(&bytes, name).map(Some)
    }
    /// Reads the bytes of a record.
    ///
    /// # Errors
    /// [`Error::File`] where they are too long, no record, or one whose numbers cannot be.
    pub fn read(bytes: &[u8], name: &str) -> Result<Self> {
        let damaged = |problem: String| {
            Error::file(
                name,
                "record of shared answers",
                problem,
                Help::MakeKeys
                    .with("without it nobody knows how many answers were shared: make new keys"),
            )
        };
        if bytes.len() as u64 > LIMIT {
            return Err(damaged(format!("is longer than {LIMIT} bytes")));
        }
        let ledger: Self =
            serde_json::from_slice(bytes).map_err(|e| damaged(format!("cannot be read ({e})")))?;
        // a longer name would make the record longer than what is read
        if ledger.key.len() > LONGEST_NAME
            || ledger.used > ledger.releases
            || !SECURITY.contains(&ledger.security)
            || !(1..=MOST_RELEASES).contains(&ledger.releases)
        {
            return Err(damaged("its key or its numbers cannot be".into()));
        }
        Ok(ledger)
    }
    /// Its text.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain data is always JSON") + "\n"
    }
    fn conforms(&self, key: &str, terms: &Terms, name: &str) -> Result<()> {
        if self.key != key {
            return Err(Error::file(
                name,
                "key",
                "these are the shared answers of another key",
                "keep each client's key in a folder of its own, together with its record",
            ));
        }
        if terms.releases.is_some_and(|r| r != self.releases)
            || terms.security.is_some_and(|s| s != self.security)
        {
            return Err(refuse(
                format!(
                    "this key's terms were fixed at its first share: {} releases at {} bits ({name})",
                    self.releases, self.security
                ),
                Help::Terms.with("ask for these, or make new keys for other terms"),
            ));
        }
        if self.used >= self.releases {
            return Err(refuse(
                format!(
                    "all {} releases promised for this key are used up ({name})",
                    self.releases
                ),
                Help::MakeKeys
                    .with("make new keys and promise more, or keep this answer to yourself"),
            ));
        }
        Ok(())
    }
    fn write(&self, path: &Path) -> Result<()> {
        // the count must outlive a crash: the answer leaves right after it
        let written = disk::write(path, Access::Everyone, self.to_json().as_bytes());
        written.map_err(Error::io(&path.display().to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_that_could_not_be_written_and_read_again_are_refused() {
        let ledger = Ledger {
            key: key_name(&[0, 1, -1]),
            security: DEFAULT_SECURITY,
            releases: 4,
            used: 1,
            class_refused: false,
        };
        let read = |text: &str| Ledger::read(text.as_bytes(), "releases.json");
        let text = ledger.to_json();
        assert_eq!(read(&text).expect("reads"), ledger);
        let long = LIMIT as usize - 128;
        for spoiled in [
            text.replacen(&ledger.key, &"a".repeat(long), 1),
            // what follows a record would be cut off by its next writer
            text.clone() + &" ".repeat(LIMIT as usize) + "}",
            text.replacen("\"used\": 1", "\"used\": 5", 1),
        ] {
            let message = read(&spoiled).expect_err("is refused").to_string();
            assert!(message.starts_with("releases.json: "), "{message}");
        }
    }
}

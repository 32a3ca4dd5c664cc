//! The program as its users run it, in a folder of its own.

use std::path::PathBuf;
use std::process::{Command, Output};

/// A folder that goes when the test ends.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("polyveil-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("plain paths").into()
    }
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> String {
        std::fs::write(self.0.join(name), bytes).expect("a file");
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The program with these arguments, not started.
pub(crate) fn command(arguments: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_polyveil"));
    command
        .args(arguments.split_whitespace())
        .args(more)
        // whatever was measured on this machine
        .env_remove("POLYVEIL_MACHINE")
        .env(
            "XDG_CONFIG_HOME",
            std::env::temp_dir().join("polyveil-none"),
        );
    command
}

fn polyveil(arguments: &str, more: &[&str]) -> Output {
    command(arguments, more).output().expect("it starts")
}

/// Runs, expects success, returns (stdout, stderr).
pub(crate) fn done(arguments: &str, more: &[&str]) -> (String, String) {
    let out = polyveil(arguments, more);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(out.status.success(), "{arguments}: {}", text(&out.stderr));
    (text(&out.stdout), text(&out.stderr))
}

/// Runs, expects no usage to be found, and these words.
#[allow(dead_code, reason = "not every test's")]
pub(crate) fn no_usage(arguments: &str, words: &[&str]) {
    let out = polyveil(arguments, &[]);
    let text = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{arguments}: {text}");
    assert!(out.stdout.is_empty(), "{arguments}");
    for w in words {
        assert!(text.contains(w), "{arguments}: {w:?} is missing in {text}");
    }
}

/// Runs, expects one line of refusal with these words; gives it.
pub(crate) fn refused(arguments: &str, more: &[&str], words: &[&str]) -> String {
    let out = polyveil(arguments, more);
    let text = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{arguments}: {text}");
    let last = text.trim_end().lines().last().unwrap_or_default();
    for w in words {
        assert!(last.contains(w), "{arguments}: {w:?} is missing in {last}");
    }
    last.into()
}

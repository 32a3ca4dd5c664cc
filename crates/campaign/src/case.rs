//! Tries and groups of them, and what many tries do.

/// Rows of a table as an array; unlike a list, they stay as they are laid out.
macro_rules! table {
    ($($row:expr);* $(;)?) => { [$($row),*] };
}

/// The groups of a file: whether their tries are made one at a time, name, tries of the short form (none where time decides), the
/// function that makes the tries, and what they are.
macro_rules! groups {
    ($($alone:ident $name:literal $short:literal $cases:ident $what:literal;)*) => {
        pub(super) fn groups() -> Vec<crate::case::Group> {
            vec![$(crate::case::Group {
                name: $name,
                what: $what,
                cases: $cases,
                alone: stringify!($alone) == "alone",
                short: $short,
            }),*]
        }
    };
}

use crate::attempt::{Done, Start, Try};
use crate::fault::{Fault, Kind, Verdict};
use crate::lab::Lab;
use std::time::Duration;

pub(crate) type Work = Box<dyn Fn(&mut Try<'_>) -> Verdict + Send + Sync>;

/// One try of a group.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) work: Work,
    /// A bit flip.
    pub(crate) flip: bool,
}

/// Tries of one kind.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) cases: fn(&Lab) -> Vec<Case>,
    /// Its tries disturb each other, or take what others need.
    pub(crate) alone: bool,
    /// How many of them the short form makes.
    pub(crate) short: usize,
}

pub(crate) fn case(
    name: impl Into<String>,
    work: impl Fn(&mut Try<'_>) -> Verdict + Send + Sync + 'static,
) -> Case {
    Case {
        name: name.into(),
        work: Box::new(work),
        flip: false,
    }
}

/// The same work so often; it draws from the try's own numbers.
pub(crate) fn repeat(
    count: usize,
    work: impl Fn(&mut Try<'_>) -> Verdict + Send + Sync + Clone + 'static,
) -> Vec<Case> {
    let each = |i: usize| case(i.to_string(), work.clone());
    (0..count).map(each).collect()
}

/// Whether a program is in the path.
pub(crate) fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}

/// Kills a run once it has written a checkpoint; whether there is one.
pub(crate) fn checkpoint(t: &mut Try<'_>) -> Verdict<bool> {
    for _ in 0..20 {
        let line = run_line("deep", "A", "x.answer");
        let mut running = t.start(&line, &[], &Start::default())?;
        while running.alive()? && !t.exists("x.answer.checkpoint") {
            std::thread::sleep(Duration::from_micros(200));
        }
        running.kill_after(Duration::ZERO)?;
        if t.exists("x.answer.checkpoint") {
            return Ok(true);
        }
        let _ = std::fs::remove_file(t.path("x.answer"));
    }
    Err(Fault::new(
        Kind::Skipped,
        "no run could be stopped at a checkpoint",
    ))
}

/// A client of a network of the laboratory, as tries name it.
pub(crate) fn run_line(net: &str, client: &str, answer: &str) -> String {
    format!(
        "{} --input @{net}/{client}/x.input -o {answer}",
        server_line(net, client)
    )
}

/// The server's side of [`run_line`], without input and output.
pub(crate) fn server_line(net: &str, client: &str) -> String {
    format!(
        "run --plan @{net}/net.plan --keys @{net}/{client}/evaluation.keys --no-probe --machine shipped"
    )
}

impl Try<'_> {
    /// Decrypts an answer, which must be there and right for these pixels.
    pub(crate) fn right(&mut self, net: &str, key: &str, answer: &str, pixels: &[u8]) -> Verdict {
        let line = format!("decrypt --key {key} {answer} --json");
        let done = self.polyveil(&line)?.ok()?;
        self.lab.net(net).compare(&done.json()?, pixels)
    }
    /// Decrypts an answer that may be refused, and must not be wrong for these pixels; whether it was refused.
    pub(crate) fn refused_or_right(
        &mut self,
        net: &str,
        key: &str,
        answer: &str,
        pixels: &[u8],
    ) -> Verdict<bool> {
        let line = format!("decrypt --key {key} {answer} --json");
        let done = self.polyveil(&line)?;
        if done.code != Some(0) {
            done.refused(&[])?;
            return Ok(true);
        }
        self.lab.net(net).compare(&done.json()?, pixels)?;
        Ok(false)
    }
    /// The lab's pixels of client A's (0) or B's (1) input.
    pub(crate) fn pixels(&self, index: usize) -> Vec<u8> {
        self.lab.pictures[index].clone()
    }
    /// Runs a client's input of the laboratory with more words.
    pub(crate) fn run(&mut self, net: &str, client: &str, more: &str) -> Verdict<Done> {
        let line = format!("{} {more}", run_line(net, client, "x.answer"));
        self.within(&line, &Start::default())
    }
}

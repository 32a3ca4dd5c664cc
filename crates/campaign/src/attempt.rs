//! One try: a folder of its own, the commands that it runs there, and what must not have happened.

use crate::fault::{Fault, Kind, Verdict, own};
use crate::lab::Lab;
use polyveil_fuzz::random::Random;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// No command of a campaign takes longer on a busy machine, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(180);
/// No command at full size does.
pub(crate) const AT_MOST: Duration = Duration::from_secs(900);
/// Signals that end a program which nobody stopped.
const CRASHES: [i32; 8] = [4, 5, 6, 7, 8, 11, 24, 25];

/// A command that ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) wall: Duration,
}

impl Done {
    /// The last line that it said.
    pub(crate) fn last(&self) -> &str {
        self.stderr.trim_end().lines().last().unwrap_or_default()
    }
    fn brief(&self) -> String {
        let how = match (self.code, self.signal) {
            (Some(code), _) => format!("exit {code}"),
            (_, Some(signal)) => format!("signal {signal}"),
            _ => "no end".into(),
        };
        let last: String = self.last().chars().take(240).collect();
        format!("{how}: {last}")
    }
    /// Expects success.
    pub(crate) fn ok(self) -> Verdict<Self> {
        match self.code {
            Some(0) => Ok(self),
            _ => Err(Fault::other(format!("must succeed: {}", self.brief()))),
        }
    }
    /// Expects a refusal: an exit code that is not 0 (nor that of wrong usage), and a last line with these words.
    pub(crate) fn refused(self, words: &[&str]) -> Verdict<Self> {
        if !matches!(self.code, Some(code) if code != 0 && code != 2) {
            return Err(Fault::other(format!("must be refused: {}", self.brief())));
        }
        let text = self.stderr.to_lowercase();
        if !text.contains("error:") && !text.contains("polyveil-train:") {
            let what = format!("a refusal without a word: {}", self.brief());
            return Err(Fault::other(what));
        }
        match words.iter().find(|w| !text.contains(&w.to_lowercase())) {
            Some(word) => Err(Fault::other(format!(
                "{word:?} is not in its message: {}",
                self.brief()
            ))),
            None => Ok(self),
        }
    }
    /// Expects a refusal by the library (1) or by the command line (2), with a message.
    pub(crate) fn turned_down(self) -> Verdict<Self> {
        match self.code {
            Some(code) if code != 0 && !self.stderr.trim().is_empty() => Ok(self),
            _ => Err(Fault::other(format!("must be refused: {}", self.brief()))),
        }
    }
    /// Expects success, or a refusal with a message.
    pub(crate) fn either(self) -> Verdict<Self> {
        match self.code {
            Some(0) => Ok(self),
            Some(_) => self.refused(&[]),
            None => Err(Fault::other(self.brief())),
        }
    }
    pub(crate) fn json(&self) -> Verdict<serde_json::Value> {
        serde_json::from_str(&self.stdout)
            .map_err(|e| Fault::other(format!("stdout is not JSON alone: {e}")))
    }
}

/// How a command is started.
#[derive(Clone, Default)]
pub(crate) struct Start<'a> {
    /// Shell words before the command, such as `ulimit -v 900000; exec`.
    pub(crate) before: &'a str,
    /// Shell words after it, such as `>&-`.
    pub(crate) after: &'a str,
    pub(crate) environment: &'a [(&'a str, &'a str)],
    /// Leaves `--threads` to the program.
    pub(crate) bare: bool,
}

impl<'a> Start<'a> {
    /// Behind these shell words.
    pub(crate) fn behind(before: &'a str) -> Self {
        Self {
            before,
            ..Self::default()
        }
    }
    /// In this environment.
    pub(crate) fn with(environment: &'a [(&'a str, &'a str)]) -> Self {
        Self {
            environment,
            ..Self::default()
        }
    }
}

/// A command under way.
pub(crate) struct Running {
    child: Child,
    began: Instant,
    outputs: [PathBuf; 2],
    stopped: bool,
}

/// A try.
pub(crate) struct Try<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) folder: PathBuf,
    pub(crate) random: Random,
    /// Commands so far, as one would type them.
    pub(crate) said: Vec<String>,
    keep: Vec<(PathBuf, blake3::Hash)>,
    started: usize,
}

fn quoted(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.into_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

impl<'a> Try<'a> {
    pub(crate) fn new(lab: &'a Lab, folder: PathBuf, random: Random) -> Verdict<Self> {
        fs::create_dir_all(&folder).map_err(own)?;
        Ok(Self {
            lab,
            folder,
            random,
            said: Vec::new(),
            keep: Vec::new(),
            started: 0,
        })
    }

    /// A path of the try's folder, or, after `@`, of the laboratory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        match name.strip_prefix('@') {
            Some(rest) => self.lab.root.join(rest),
            None => self.folder.join(name),
        }
    }

    /// Writes a file that must stay as it is.
    pub(crate) fn file(&mut self, name: &str, bytes: &[u8]) -> Verdict<PathBuf> {
        let path = self.scratch(name, bytes)?;
        self.keep.push((path.clone(), blake3::hash(bytes)));
        Ok(path)
    }
    /// Writes a file that may change.
    pub(crate) fn scratch(&self, name: &str, bytes: &[u8]) -> Verdict<PathBuf> {
        let path = self.path(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(own)?;
        }
        fs::write(&path, bytes).map_err(own)?;
        Ok(path)
    }
    pub(crate) fn folder(&self, name: &str) -> Verdict<PathBuf> {
        let path = self.path(name);
        fs::create_dir_all(&path).map_err(own)?;
        Ok(path)
    }
    /// Copies a file that must stay as it is.
    pub(crate) fn copy(&mut self, from: &str, to: &str) -> Verdict<PathBuf> {
        let bytes = self.bytes(from)?;
        self.file(to, &bytes)
    }
    pub(crate) fn bytes(&self, name: &str) -> Verdict<Vec<u8>> {
        let path = self.path(name);
        fs::read(&path).map_err(|e| Fault::new(Kind::Lost, format!("{}: {e}", path.display())))
    }
    pub(crate) fn exists(&self, name: &str) -> bool {
        fs::symlink_metadata(self.path(name)).is_ok()
    }
    /// From now on this file must stay as it is.
    pub(crate) fn guard(&mut self, name: &str) -> Verdict {
        let hash = blake3::hash(&self.bytes(name)?);
        self.keep.push((self.path(name), hash));
        Ok(())
    }
    /// This file may change after all.
    pub(crate) fn forget(&mut self, name: &str) {
        let path = self.path(name);
        self.keep.retain(|(p, _)| *p != path);
    }
    /// Whether files that must stay as they are did.
    pub(crate) fn kept(&self) -> Verdict {
        for (path, hash) in &self.keep {
            let now = fs::read(path).map(|b| blake3::hash(&b));
            if now.as_ref().ok() != Some(hash) {
                let what = now.map_or("is gone", |_| "was changed");
                let text = format!("{} {what}", path.display());
                return Err(Fault::new(Kind::Lost, text));
            }
        }
        Ok(())
    }
    /// Files of the folder that nobody asked for: names for which `known` does not hold.
    pub(crate) fn leftovers(&self, folder: &str, known: &[&str]) -> Verdict {
        let entries = fs::read_dir(self.path(folder)).map_err(own)?;
        let mut names: Vec<String> = entries
            .filter_map(|e| Some(e.ok()?.file_name().to_string_lossy().into_owned()))
            .filter(|n| !known.contains(&n.as_str()))
            .collect();
        names.sort();
        Kind::Other.unless(
            names.is_empty(),
            format!("left behind: {}", names.join(", ")),
        )
    }
    pub(crate) fn same(&self, one: &str, other: &str) -> Verdict {
        Kind::Silent.unless(
            self.bytes(one)? == self.bytes(other)?,
            format!("{one} and {other} differ"),
        )
    }

    /// Words with `@` in front become paths of the laboratory.
    pub(crate) fn words(&self, line: &str) -> Vec<OsString> {
        let word = |w: &str| match w.strip_prefix('@') {
            Some(_) => self.path(w).into_os_string(),
            None => w.into(),
        };
        line.split_whitespace().map(word).collect()
    }

    /// Runs `polyveil` with these words; it must not crash or hang.
    pub(crate) fn polyveil(&mut self, line: &str) -> Verdict<Done> {
        self.start(line, &[], &Start::default())?.end()
    }
    /// The same, with words that hold spaces.
    pub(crate) fn with(&mut self, line: &str, more: &[&str]) -> Verdict<Done> {
        let more: Vec<&OsStr> = more.iter().map(OsStr::new).collect();
        self.start(line, &more, &Start::default())?.end()
    }
    /// The same, within a shell's limits and redirections.
    pub(crate) fn within(&mut self, line: &str, start: &Start<'_>) -> Verdict<Done> {
        self.start(line, &[], start)?.end()
    }

    pub(crate) fn start(
        &mut self,
        line: &str,
        more: &[&OsStr],
        how: &Start<'_>,
    ) -> Verdict<Running> {
        let mut words = self.words(line);
        words.extend(more.iter().map(|w| (*w).to_owned()));
        let said = more
            .iter()
            .any(|w| w.to_string_lossy().starts_with("--threads"));
        if !how.bare && !said && !line.contains("--threads") {
            words.extend(["--threads".into(), "1".into()]);
        }
        self.spawn(&self.lab.polyveil.clone(), &words, how)
    }

    pub(crate) fn spawn(
        &mut self,
        program: &Path,
        words: &[OsString],
        how: &Start<'_>,
    ) -> Verdict<Running> {
        self.started += 1;
        let typed: Vec<String> = words.iter().map(|w| quoted(w)).collect();
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let environment: String = (how.environment.iter())
            .map(|(k, v)| format!("{k}={v} "))
            .collect();
        let line = format!(
            "{} {environment}{name} {} {}",
            how.before,
            typed.join(" "),
            how.after
        );
        self.said.push(line.trim().into());
        let output = |end: &str| {
            let mut name = self.folder.as_os_str().to_owned();
            name.push(format!(".{}.{end}", self.started));
            PathBuf::from(name)
        };
        let outputs = [output("out"), output("err")];
        let open = |path: &Path| File::create(path).map_err(own);
        let mut command = match how.before.is_empty() && how.after.is_empty() {
            true => Command::new(program),
            false => {
                let mut shell = Command::new("sh");
                let script = format!("{} \"$0\" \"$@\" {}", how.before, how.after);
                shell.arg("-c").arg(script).arg(program);
                shell
            }
        };
        command
            .args(words)
            .current_dir(&self.folder)
            .env_remove("POLYVEIL_MACHINE")
            .env_remove("RUST_BACKTRACE")
            .env("XDG_CONFIG_HOME", self.lab.root.join("none"))
            .envs(how.environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(open(&outputs[0])?)
            .stderr(open(&outputs[1])?);
        let child = command.spawn().map_err(own)?;
        Ok(Running {
            child,
            began: Instant::now(),
            outputs,
            stopped: false,
        })
    }
}

impl Running {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
    /// Whether it has not ended.
    pub(crate) fn alive(&mut self) -> Verdict<bool> {
        Ok(self.child.try_wait().map_err(own)?.is_none())
    }
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
    /// Sends a signal by its name, without `SIG`; it may end by it.
    pub(crate) fn signal(&mut self, name: &str) -> Verdict {
        self.stopped = true;
        let id = self.child.id().to_string();
        Command::new("kill")
            .args([format!("-{name}"), id])
            .stderr(Stdio::null())
            .status()
            .map(drop)
            .map_err(own)
    }
    /// It may end by SIGKILL.
    pub(crate) fn expected(&mut self) {
        self.stopped = true;
    }
    /// Kills it after a while, unless it ends before: whether it did, and what it printed.
    pub(crate) fn kill_and_read(mut self, after: Duration) -> Verdict<(bool, String)> {
        while self.began.elapsed() < after && self.alive()? {
            std::thread::sleep(Duration::from_micros(300));
        }
        self.stopped = true;
        let _ = self.child.kill();
        let done = self.end()?;
        Ok((done.signal.is_some(), done.stdout))
    }
    /// Kills it (SIGKILL) after a while, unless it ends before.
    pub(crate) fn kill_after(mut self, after: Duration) -> Verdict<Option<Done>> {
        while self.began.elapsed() < after {
            if !self.alive()? {
                return self.end().map(Some);
            }
            std::thread::sleep(Duration::from_micros(300));
        }
        self.stopped = true;
        let _ = self.child.kill();
        let done = self.end()?;
        Ok(done.signal.is_none().then_some(done))
    }
    /// Waits for its end; a panic, an abort and a hang are faults.
    pub(crate) fn end(self) -> Verdict<Done> {
        self.end_within(PATIENCE)
    }
    pub(crate) fn end_within(mut self, patience: Duration) -> Verdict<Done> {
        let mut pause = Duration::from_micros(200);
        let status = loop {
            if let Some(status) = self.child.try_wait().map_err(own)? {
                break status;
            }
            if self.began.elapsed() > patience {
                let _ = self.child.kill();
                let _ = self.child.wait();
                let what = format!("no end within {} s", patience.as_secs());
                return Err(Fault::new(Kind::Hang, what));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
        };
        let wall = self.began.elapsed();
        let [stdout, stderr] = self.outputs.map(|path| {
            let text = fs::read(&path).unwrap_or_default();
            let _ = fs::remove_file(&path);
            String::from_utf8_lossy(&text).into_owned()
        });
        let done = Done {
            code: status.code(),
            signal: status.signal(),
            stdout,
            stderr,
            wall,
        };
        if done.code == Some(101) || done.stderr.contains("panicked at") {
            let place = done.stderr.lines().find(|l| l.contains("panicked"));
            let text = format!("{} ({})", place.unwrap_or("panic"), done.brief());
            return Err(Fault::new(Kind::Panic, text));
        }
        let shells = done.code.filter(|c| CRASHES.contains(&(c - 128)));
        // SIGPIPE is how programs end whose reader went
        let crash = (done.signal).filter(|s| *s != 13 && (!self.stopped || CRASHES.contains(s)));
        if shells.is_some() || crash.is_some() {
            return Err(Fault::new(Kind::Abort, done.brief()));
        }
        Ok(done)
    }
}

/// A name with bytes that are no UTF-8.
pub(crate) fn raw(bytes: &[u8]) -> OsString {
    OsStr::from_bytes(bytes).to_owned()
}

//! What is printed: results to stdout; progress, notes and errors to stderr. A reader who went away, or a full disk behind a log, never
//! costs a result, and nothing that a file says of itself reaches the terminal as a control sequence.

use polyveil::nn::graph::is_plain;
use polyveil::runtime::machine::require_room;
use polyveil::runtime::{Limit, limits};
use polyveil::{Error, Progress, Result};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Text with control characters as JSON would write them; line feeds and tabs stay.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(c),
            c if is_plain(c.encode_utf8(&mut [0; 4])) => out.push(c),
            c => drop(write!(out, "\\u{:04x}", u32::from(c))),
        }
    }
    out
}

/// A result, as it is, on stdout.
///
/// # Errors
/// What can't be written, but for a reader who went away: that is how `head` ends.
pub(crate) fn say(text: impl std::fmt::Display) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(plain(&text.to_string()).as_bytes());
    match written.and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Error::from(format!("standard output: {e}")))
        }
        _ => Ok(()),
    }
}

/// As [`say`], with a line feed behind it.
///
/// # Errors
/// As [`say`].
pub(crate) fn say_line(text: impl std::fmt::Display) -> Result<()> {
    say(format_args!("{text}\n"))
}

/// To stderr; what can't be written is lost, the work goes on.
fn tell(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// One line of information.
pub(crate) fn note(text: impl std::fmt::Display) {
    tell(&(plain(&text.to_string()) + "\n"));
}

/// How work goes on that a signal stops.
static GOING_ON: Mutex<Option<String>> = Mutex::new(None);

/// Says how this work goes on, should a signal stop it.
pub(crate) fn goes_on(how: impl Into<String>) {
    if let Ok(mut place) = GOING_ON.lock() {
        *place = Some(how.into());
    }
}

/// Prepares the process: signals end it with a word about how to go on and leave no half-written file, a limit on file sizes is an error
/// of the write that meets it, and no core is dumped, which would hold what is secret.
pub(crate) fn prepare() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
    // nobody gets a core, whatever the limit; with one of 0 Linux still feeds a core to a program that collects them, with 1 to none
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let one = getrlimit(Resource::Core)
        .maximum
        .map_or(1, |most| most.min(1));
    let limit = Rlimit {
        current: Some(one),
        maximum: Some(one),
    };
    let _ = setrlimit(Resource::Core, limit);
    let met = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let _ = signal_hook::flag::register(SIGXFSZ, met);
    let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]) else {
        return;
    };
    let waiting = std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            if let Some(signal) = signals.forever().next() {
                polyveil::files::abandon();
                let how = GOING_ON.lock().ok().and_then(|how| how.clone());
                let how = how.unwrap_or_else(|| {
                    "files under their final names are whole; start again".into()
                });
                tell(&format!("\nstopped; {how}\n"));
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        });
    drop(waiting);
}

/// Stack of the thread that does the work: as much as systems usually give to a program.
const STACK: usize = 8 << 20;

/// Does the work on a stack of its own, so that a low limit on the program's (`ulimit -s`) ends nothing.
pub(crate) fn on_own_stack(work: fn() -> ExitCode) -> ExitCode {
    use rustix::process::{Resource, getrlimit};
    // this thread has an allocator's pool already: another one would map 64 MiB of what is left
    if getrlimit(Resource::As).current.is_some() {
        ring::heap::spare_addresses();
    }
    let thread = std::thread::Builder::new().name("main".into());
    match thread.stack_size(STACK).spawn(work) {
        // a panic has said what it is
        Ok(thread) => thread.join().unwrap_or(ExitCode::from(101)),
        Err(_) => work(),
    }
}

/// Address space of a thread: its stack and what the system puts beside it.
const THREAD_BYTES: u64 = (2 << 20) + (256 << 10);

/// Starts this program's pool of threads, on which the library works.
///
/// # Errors
/// More threads than there is memory for, or than the system allows.
pub(crate) fn start_threads(count: usize) -> Result<()> {
    if limits::here().is_some_and(|room| room.limit == Limit::Process) {
        ring::heap::spare_addresses();
    }
    let stacks = limits::resident() + count as u64 * THREAD_BYTES;
    let what = format!("a pool of {count} threads");
    require_room(&what, stacks, ", or use fewer threads")?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(count);
    let refused = |e| format!("{count} threads: {e}; use fewer threads");
    Ok(pool.build_global().map_err(refused)?)
}

/// Whether a line may be rewritten: on a terminal, unless it knows no codes (`TERM=dumb`) or its owner wants none (`NO_COLOR`).
fn rewrites(terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let dumb = variable("TERM").is_some_and(|t| t == "dumb");
    terminal && !dumb && variable("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// A line that is rewritten on a terminal; in a log, it comes where nothing else was said for a while.
pub(crate) struct Line {
    live: bool,
    last: Option<Instant>,
}

impl Line {
    pub(crate) fn new() -> Self {
        let live = rewrites(std::io::stderr().is_terminal(), |name| {
            std::env::var_os(name)
        });
        let last = (!live).then(Instant::now);
        Self { live, last }
    }
    /// Time between two lines of progress.
    pub(crate) fn pause(&self) -> Duration {
        match self.live {
            true => Duration::from_millis(100),
            false => Duration::from_secs(10),
        }
    }
    pub(crate) fn show(&mut self, text: &str) {
        if self.last.is_some_and(|l| l.elapsed() < self.pause()) {
            return;
        }
        self.last = Some(Instant::now());
        match self.live {
            true => tell(&format!("\r\x1b[K{}", plain(text))),
            false => note(text),
        }
    }
    /// Remarks stay, progress is rewritten.
    pub(crate) fn hear(&mut self, p: Progress<'_>) {
        if p.fraction.is_some() {
            self.show(p.message);
        } else {
            self.done();
            note(p.message);
        }
    }
    fn done(&mut self) {
        if self.live && self.last.is_some() {
            tell("\r\x1b[K");
        }
        self.last = (!self.live).then(Instant::now);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.done();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_core_is_dumped_and_nobody_looks_in() {
        use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};
        prepare();
        assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable));
        assert!(
            getrlimit(Resource::Core)
                .current
                .is_some_and(|most| most < 2)
        );
    }

    #[test]
    fn lines_are_rewritten_on_terminals_that_know_and_want_codes() {
        let with = |terminal, set: &[(&str, &str)]| {
            let value = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into());
            rewrites(terminal, value)
        };
        assert!(with(true, &[]) && with(true, &[("TERM", "xterm")]));
        // an empty NO_COLOR is none (no-color.org)
        assert!(with(true, &[("TERM", "xterm"), ("NO_COLOR", "")]));
        assert!(!with(true, &[("TERM", "dumb")]));
        assert!(!with(true, &[("TERM", "xterm"), ("NO_COLOR", "1")]));
        assert!(!with(false, &[("TERM", "xterm")]));
    }
}

//! What goes to stderr: progress, notes, errors.

use polyveil::Progress;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// One line of information.
pub(crate) fn note(text: impl std::fmt::Display) {
    eprintln!("{text}");
}

/// A line that is rewritten on a terminal, and repeated now and then in a log.
pub(crate) struct Line {
    live: bool,
    last: Option<Instant>,
}

impl Line {
    pub(crate) fn new() -> Self {
        Self {
            live: std::io::stderr().is_terminal(),
            last: None,
        }
    }
    fn show(&mut self, text: &str) {
        let pause = if self.live {
            Duration::from_millis(100)
        } else {
            Duration::from_secs(10)
        };
        if self.last.is_some_and(|l| l.elapsed() < pause) {
            return;
        }
        self.last = Some(Instant::now());
        if self.live {
            eprint!("\r\x1b[K{text}");
            // progress may be lost, the work goes on
            let _ = std::io::stderr().flush();
        } else {
            eprintln!("{text}");
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
            eprint!("\r\x1b[K");
        }
        self.last = None;
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.done();
    }
}

//! What goes to stderr: progress, notes, errors.

use runtime::Progress;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// One line, prefixed.
pub fn error(e: &dyn std::fmt::Display) {
    eprintln!("error: {e}");
}

/// One line of information.
pub fn note(text: impl std::fmt::Display) {
    eprintln!("{text}");
}

/// Seconds for people.
pub fn duration(seconds: f64) -> String {
    let s = seconds.max(0.0).round() as u64;
    match s {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", s / 60, s % 60),
        _ => format!("{} h {:02} min", s / 3600, s / 60 % 60),
    }
}

/// A line that is rewritten on a terminal, and repeated now and then in a log.
pub struct Line {
    live: bool,
    last: Option<Instant>,
}

impl Line {
    pub fn new() -> Self {
        Self {
            live: std::io::stderr().is_terminal(),
            last: None,
        }
    }
    pub fn show(&mut self, text: &str) {
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
    pub fn progress(&mut self, p: &Progress<'_>) {
        self.show(&format!(
            "  step {}/{} {} ({}), elapsed {}, about {} to go",
            p.steps.0 + 1,
            p.steps.1,
            p.layer,
            p.doing,
            duration(p.elapsed),
            duration(p.remaining)
        ));
    }
    pub fn done(&mut self) {
        if self.live && self.last.is_some() {
            eprint!("\r\x1b[K");
        }
        self.last = None;
    }
}

//! What long work says while it goes on: the library prints nothing.

use std::fmt::Display;

/// One message.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// In words.
    pub message: &'a str,
    /// The share that is done, 0 to 1; none for a remark, which is said once.
    pub fraction: Option<f64>,
    /// An estimate of the seconds to go.
    pub remaining: Option<f64>,
}

/// Who hears it, on the thread that works.
pub type Listener<'a> = &'a mut dyn FnMut(Progress<'_>);

/// Hears nothing.
pub fn silent(_: Progress<'_>) {}

/// Says something.
pub(crate) trait Say {
    /// A remark.
    fn note(&mut self, text: impl Display);
    /// So many of so many.
    fn count(&mut self, what: &str, done: usize, all: usize);
    /// A run's step.
    fn step(&mut self, p: &runtime::Progress<'_>);
}

impl Say for dyn FnMut(Progress<'_>) + '_ {
    fn note(&mut self, text: impl Display) {
        self(Progress {
            message: &text.to_string(),
            fraction: None,
            remaining: None,
        });
    }
    fn count(&mut self, what: &str, done: usize, all: usize) {
        self(Progress {
            message: &format!("  {what} {done}/{all}"),
            fraction: Some(done as f64 / all.max(1) as f64),
            remaining: None,
        });
    }
    fn step(&mut self, p: &runtime::Progress<'_>) {
        let all = p.elapsed + p.remaining;
        self(Progress {
            message: &format!(
                "  step {}/{} {} ({}), elapsed {}, about {} to go",
                p.steps.0 + 1,
                p.steps.1,
                p.layer,
                p.doing,
                duration(p.elapsed),
                duration(p.remaining)
            ),
            fraction: Some(if all > 0.0 { p.elapsed / all } else { 0.0 }),
            remaining: Some(p.remaining),
        });
    }
}

/// Seconds for people.
pub fn duration(seconds: f64) -> String {
    let s = seconds.max(0.0).round() as u64;
    match s {
        _ if seconds < 1.0 => format!("{:.2} s", seconds.max(0.0)),
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", s / 60, s % 60),
        _ => format!("{} h {:02} min", s / 3600, s / 60 % 60),
    }
}

//! Long work: on a thread of its own, while Python goes on.
//!
//! The thread that called waits without the interpreter's lock, hears what the work says, and asks for signals, which Python gives to its main
//! thread alone. Work that is to stop stops where it next says something: by unwinding, which drops what it holds, half-written files too.

use crate::errors;
use polyveil::{Listener, Progress};
use pyo3::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// Stack of the thread that works: as much as systems usually give to a program.
const STACK: usize = 8 << 20;
/// Time between two looks for signals.
const PAUSE: Duration = Duration::from_millis(100);

/// What unwinds work that is to stop.
struct Stopped;

/// A message of the work's.
struct Said {
    message: String,
    fraction: Option<f64>,
    remaining: Option<f64>,
}

/// Refuses a process that was forked from one that has worked: the threads of its pool are not in the copy, and it would wait for them for ever.
fn expect_own_process() -> PyResult<()> {
    static WORKED: OnceLock<u32> = OnceLock::new();
    let own = std::process::id();
    match *WORKED.get_or_init(|| own) == own {
        true => Ok(()),
        false => Err(errors::refused(
            "this process was forked from one in which Polyveil has worked already; start it anew: multiprocessing.set_start_method(\"spawn\")".into(),
        )),
    }
}

/// Does work while other threads of Python run. `hear` is called with what it says, (message, fraction, remaining), and with nothing while it says
/// nothing; an exception in it stops the work, as Ctrl-C does.
pub(crate) fn work<T: Send>(
    py: Python<'_>,
    hear: &Bound<'_, PyAny>,
    job: impl FnOnce(Listener<'_>) -> polyveil::Result<T> + Send,
) -> PyResult<T> {
    work_or(py, hear, errors::raised, job)
}

/// As [`work`], of work whose errors become Python's in another way.
pub(crate) fn work_or<T: Send, E: Send>(
    py: Python<'_>,
    hear: &Bound<'_, PyAny>,
    raised: fn(E) -> PyErr,
    job: impl FnOnce(Listener<'_>) -> Result<T, E> + Send,
) -> PyResult<T> {
    expect_own_process()?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (send, mut said) = mpsc::channel();
        let stop = &stop;
        let works = move || {
            let mut tell = |p: Progress<'_>| {
                if stop.load(Ordering::Relaxed) {
                    resume_unwind(Box::new(Stopped));
                }
                // who asked has stopped to listen only where the work is over
                let _ = send.send(Said {
                    message: p.message.into(),
                    fraction: p.fraction,
                    remaining: p.remaining,
                });
            };
            catch_unwind(AssertUnwindSafe(|| job(&mut tell)))
        };
        let thread = std::thread::Builder::new().name("polyveil".into());
        let worker = thread.stack_size(STACK).spawn_scoped(scope, works)?;
        let mut stopped = None;
        loop {
            let next = &mut said;
            let next: Result<Said, _> = py.detach(move || next.recv_timeout(PAUSE));
            let told = match next {
                Err(RecvTimeoutError::Disconnected) => break,
                _ if stopped.is_some() => continue,
                Ok(s) => hear.call1((s.message, s.fraction, s.remaining)),
                Err(RecvTimeoutError::Timeout) => hear.call0(),
            };
            if let Err(e) = told.and_then(|_| py.check_signals()) {
                stop.store(true, Ordering::Relaxed);
                stopped = Some(e);
            }
        }
        let ended = py.detach(move || worker.join());
        match (stopped, ended) {
            (Some(e), _) => Err(e),
            (None, Ok(Ok(done))) => done.map_err(raised),
            (None, Ok(Err(panic)) | Err(panic)) => Err(errors::panicked(&*panic)),
        }
    })
}

/// Panics, for the test that panics become exceptions.
#[pyfunction]
pub(crate) fn panics(py: Python<'_>, hear: &Bound<'_, PyAny>) -> PyResult<()> {
    work(py, hear, |_| panic!("on purpose"))
}

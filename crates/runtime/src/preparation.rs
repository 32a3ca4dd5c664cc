//! Memory that a run will need, fetched from the operating system ahead of it, beside the reading of keys.
//!
//! A fresh page is cleared before its first use, on a virtual machine a second time by its host: some 0.1 to 2 CPU seconds a GB. That
//! is paid once in a process and not again for its next picture, so it is kept out of the steps' time and told apart.

use crate::machine::{require_room, thread_cpu_seconds};
use crate::{Help, Result, limits};
use ring::buffer::{Reservation, reserve, reserved};
use std::thread::JoinHandle;
use std::time::Instant;

/// Memory on its way.
#[derive(Debug)]
#[must_use = "it is fetched beside what happens until `finish`"]
pub struct Preparation {
    reserved: Prepared,
    start: Instant,
    thread: Option<JoinHandle<f64>>,
}

/// Memory that is there.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prepared {
    /// Bytes.
    pub bytes: u64,
    /// CPU seconds of the fetching thread: others that took of the memory before it came bear the rest.
    pub cpu_seconds: f64,
    /// Wall seconds, keys read meanwhile included.
    pub seconds: f64,
}

impl Preparation {
    /// Sees to it that `bytes` of buffers are reserved in this process, and begins to fetch those that were not.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory) where the system does not give as many.
    pub fn begin(bytes: u64) -> Result<Self> {
        let start = Instant::now();
        let cpu = thread_cpu_seconds();
        let more = bytes.saturating_sub(reserved() as u64);
        // what compiling or reading left is no part of the run
        ring::heap::trim();
        let reservation = reserve(usize::try_from(more).unwrap_or(usize::MAX));
        if reservation.is_none() {
            let words = ", leave keys on disk, or compile for less memory";
            let needed = limits::resident().saturating_add(more);
            require_room("a run's buffers", needed, Help::Memory.with(words))?;
        }
        // where the system cannot fetch ahead, that was all of it
        let cpu_seconds = thread_cpu_seconds() - cpu;
        let reserved = Prepared {
            bytes: reservation.as_ref().map_or(0, |r| r.bytes() as u64),
            cpu_seconds,
            seconds: 0.0,
        };
        let thread = std::thread::Builder::new().name("fresh pages".into());
        Ok(Self {
            reserved,
            start,
            // without a thread, or in pieces, pages come at their first use
            thread: reservation.and_then(|r| thread.spawn(move || fetch(r)).ok()),
        })
    }
    /// Waits until all is there.
    pub fn finish(self) -> Prepared {
        let fetched = self.thread.and_then(|t| t.join().ok()).unwrap_or(0.0);
        Prepared {
            cpu_seconds: self.reserved.cpu_seconds + fetched,
            seconds: self.start.elapsed().as_secs_f64(),
            ..self.reserved
        }
    }
}

fn fetch(reservation: Reservation) -> f64 {
    let cpu = thread_cpu_seconds();
    reservation.populate();
    thread_cpu_seconds() - cpu
}

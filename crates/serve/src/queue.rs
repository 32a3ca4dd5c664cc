//! Where jobs wait: one interface, so that another queue can take its place.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A job that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The job's id.
    pub job: String,
    /// Digest of its keys: whoever holds them in memory takes it with least work.
    pub keys: String,
}

/// Jobs on their way to whoever carries them out. What is given out and not finished is not kept here: whoever starts a service anew puts
/// every job that is not done in again.
pub trait Queue: Send + Sync {
    /// A job waits from now on.
    fn put(&self, ticket: Ticket);
    /// The next one, waited for; none once the queue is closed.
    fn take(&self) -> Option<Ticket>;
    /// How many are before it: none where it does not wait.
    fn place(&self, job: &str) -> Option<usize>;
    /// It waits no longer; whether it did.
    fn remove(&self, job: &str) -> bool;
    /// How many wait.
    fn len(&self) -> usize;
    /// Whether none waits.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Nothing is given out any more.
    fn close(&self);
}

/// Of one process: first come, first served.
#[derive(Debug, Default)]
pub struct InProcess {
    state: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    tickets: VecDeque<Ticket>,
    closed: bool,
}

impl InProcess {
    fn state(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue for InProcess {
    fn put(&self, ticket: Ticket) {
        self.state().tickets.push_back(ticket);
        self.more.notify_one();
    }
    fn take(&self) -> Option<Ticket> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            if let Some(ticket) = state.tickets.pop_front() {
                return Some(ticket);
            }
            state = (self.more.wait(state)).unwrap_or_else(PoisonError::into_inner);
        }
    }
    fn place(&self, job: &str) -> Option<usize> {
        self.state().tickets.iter().position(|t| t.job == job)
    }
    fn remove(&self, job: &str) -> bool {
        let tickets = &mut self.state().tickets;
        let had = tickets.len();
        tickets.retain(|t| t.job != job);
        tickets.len() < had
    }
    fn len(&self) -> usize {
        self.state().tickets.len()
    }
    fn close(&self) {
        self.state().closed = true;
        self.more.notify_all();
    }
}

//! A global allocator that counts, for one thread at a time, what an execution holds and what it asks for at once.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::OnceLock;

/// What one execution allocated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Most bytes held at once, beyond what was held before.
    pub(crate) peak: usize,
    /// Largest single request in bytes.
    pub(crate) largest: usize,
}

#[derive(Clone, Copy)]
struct Account {
    counting: bool,
    live: isize,
    limit: usize,
    usage: Usage,
}

thread_local! {
    // constant and without a destructor, so that the allocator may use it at any time
    static ACCOUNT: Cell<Account> = const {
        Cell::new(Account { counting: false, live: 0, limit: 0, usage: Usage { peak: 0, largest: 0 } })
    };
}

/// Called with (bytes held with the request, limit) before a request is served that goes beyond the limit. It does not come back:
/// the request may be too large to be served, and an allocator must not unwind.
pub(crate) static EXCEEDED: OnceLock<fn(usize, usize) -> !> = OnceLock::new();

/// Counts on top of the system's allocator.
pub(crate) struct Counting;

impl Counting {
    fn change(taken: usize, given_back: usize) {
        let _ = ACCOUNT.try_with(|account| {
            let mut a = account.get();
            if !a.counting {
                return;
            }
            a.live += taken as isize - given_back as isize;
            let held = usize::try_from(a.live).unwrap_or(0);
            a.usage.peak = a.usage.peak.max(held);
            a.usage.largest = a.usage.largest.max(taken);
            if taken > given_back && held.max(taken) > a.limit {
                a.counting = false;
                account.set(a);
                if let Some(exceeded) = EXCEEDED.get() {
                    exceeded(held.max(taken), a.limit);
                }
            }
            account.set(a);
        });
    }
}

// SAFETY: every call is passed on to `System` as it came; the counts are plain cells and allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::change(layout.size(), 0);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::change(layout.size(), 0);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::change(size, layout.size());
        // SAFETY: the caller's promises about `at`, `layout` and `size` are passed on.
        unsafe { System.realloc(at, layout, size) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        Self::change(0, layout.size());
        // SAFETY: the caller's promises about `at` and `layout` are passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

struct Stop;

impl Drop for Stop {
    fn drop(&mut self) {
        let mut a = ACCOUNT.get();
        a.counting = false;
        ACCOUNT.set(a);
    }
}

/// Runs `work`, which may hold at most `limit` bytes at once and ask for at most as many; see [`EXCEEDED`].
pub(crate) fn counted<T>(limit: usize, work: impl FnOnce() -> T) -> (T, Usage) {
    ACCOUNT.set(Account {
        counting: true,
        live: 0,
        limit,
        usage: Usage::default(),
    });
    let stop = Stop; // also where `work` panics
    let out = work();
    drop(stop);
    (out, ACCOUNT.get().usage)
}

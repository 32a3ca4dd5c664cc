//! What happens where the system gives no more memory.
//!
//! Rust's own answer is to abort: a signal, no word of what helps. A program that takes [`Heap`] for its global allocator and says its
//! [`last_words`] ends with one line on stderr and exit code 1 instead. Nothing is unwound, and nothing is written under its final name.
//! Whoever only tries to allocate (`try_reserve`) ends there too: what a library can count it must count before. Without last words
//! everything is as Rust has it.

use std::alloc::{GlobalAlloc, Layout, System, handle_alloc_error};
use std::fmt::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// The system's allocator, which says the program's last words where there is no more memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heap;

/// What stands before and behind the number of bytes that could not be had.
static WORDS: OnceLock<(&str, &str)> = OnceLock::new();

/// What is done before the process ends.
static LAST: OnceLock<fn()> = OnceLock::new();

/// Has this process end, where memory is short, with one line on stderr (these words around the size that could not be had) and exit
/// code 1. The first call counts.
pub fn last_words(before: &'static str, behind: &'static str) {
    // a second program in this process would be one too many
    let _ = WORDS.set((before, behind));
}

/// Has this be done before such an end, such as the removal of half-written files. It must need no memory and wait for nothing; where it does need
/// some, it is not done a second time.
pub fn last_deed(deed: fn()) {
    let _ = LAST.set(deed);
}

/// Has all threads share one pool of small pieces. glibc's have one each, of 64 MiB of addresses, of which a limit on these leaves the
/// large ones too few. To be called before threads start.
pub fn spare_addresses() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets a number of the C library's allocator, which takes its own lock.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives back to the system what freed pieces hold of its pages: those between pieces in use stay resident otherwise, a gigabyte after the calibration of
/// a large network.
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the C library's allocator takes its own lock and leaves pieces in use alone.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Ends the process, as no memory of this size can be had.
pub(crate) fn end(bytes: usize) -> ! {
    exhausted(bytes);
    handle_alloc_error(Layout::from_size_align(bytes, 1).unwrap_or(Layout::new::<u64>()))
}

/// Ends the process if it has last words.
#[cold]
fn exhausted(bytes: usize) {
    let Some((before, behind)) = WORDS.get() else {
        return;
    };
    static BEGUN: AtomicBool = AtomicBool::new(false);
    static DONE: AtomicBool = AtomicBool::new(false);
    if let Some(deed) = LAST.get() {
        if !BEGUN.swap(true, Ordering::SeqCst) {
            deed();
            DONE.store(true, Ordering::SeqCst);
        }
        // a second thread waits for the first; the first one itself, where its deed lacks memory too, not for ever
        for _ in 0..1000 {
            if DONE.load(Ordering::SeqCst) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
    let mut line = Line {
        bytes: [0; 512],
        len: 0,
    };
    let (megabytes, rest) = (bytes / 1_000_000, bytes / 100_000 % 10);
    // too long a line is cut
    let _ = writeln!(line, "{before}{megabytes}.{rest} MB{behind}");
    #[cfg(unix)]
    // SAFETY: writes from a buffer of this length and ends the process: neither allocates nor takes a lock.
    unsafe {
        libc::write(2, line.bytes.as_ptr().cast(), line.len);
        libc::_exit(1);
    }
    #[cfg(not(unix))]
    std::process::exit(1);
}

/// A line on the stack.
struct Line {
    bytes: [u8; 512],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let free = self.bytes.get_mut(self.len..).unwrap_or_default();
        let len = text.len().min(free.len());
        free[..len].copy_from_slice(&text.as_bytes()[..len]);
        self.len += len;
        Ok(())
    }
}

fn or_end(at: *mut u8, bytes: usize) -> *mut u8 {
    if at.is_null() {
        exhausted(bytes);
    }
    at
}

// SAFETY: every call is passed on to `System` as it came, and so is what it gives.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise about `layout` is passed on.
        or_end(unsafe { System.alloc(layout) }, layout.size())
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise about `layout` is passed on.
        or_end(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promises about `at`, `layout` and `size` are passed on.
        or_end(unsafe { System.realloc(at, layout, size) }, size)
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises about `at` and `layout` are passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

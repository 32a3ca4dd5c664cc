//! What the machine has and what this process used: Linux's `/proc`, clocks and file systems.

use crate::limits;
use crate::{Error, Help, Limit, Remedy, Result, size};
use std::path::Path;

pub use system::{cpu_seconds, thread_cpu_seconds};
pub(crate) use system::{free_disk, read_at};

/// What a system with files and clocks is asked for.
#[cfg(unix)]
mod system {
    use rustix::time::ClockId;
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;
    use std::path::Path;

    /// CPU seconds of this process, all threads.
    pub fn cpu_seconds() -> f64 {
        seconds(ClockId::ProcessCPUTime)
    }
    /// CPU seconds of this thread.
    pub fn thread_cpu_seconds() -> f64 {
        seconds(ClockId::ThreadCPUTime)
    }
    fn seconds(clock: ClockId) -> f64 {
        let t = rustix::time::clock_gettime(clock);
        t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9
    }
    /// Bytes free for this user in the file system of `folder`, if known.
    pub(crate) fn free_disk(folder: &Path) -> Option<u64> {
        let s = rustix::fs::statvfs(folder).ok()?;
        Some(s.f_bavail * s.f_frsize)
    }
    /// Fills `bytes` with those of a file from `at` on.
    pub(crate) fn read_at(file: &File, bytes: &mut [u8], at: u64) -> std::io::Result<()> {
        file.read_exact_at(bytes, at)
    }
}

/// A client in a browser has neither.
#[cfg(not(unix))]
mod system {
    use std::fs::File;
    use std::path::Path;

    /// 0: there is no such clock.
    pub fn cpu_seconds() -> f64 {
        0.0
    }
    /// 0: there is no such clock.
    pub fn thread_cpu_seconds() -> f64 {
        0.0
    }
    pub(crate) fn free_disk(_: &Path) -> Option<u64> {
        None
    }
    pub(crate) fn read_at(_: &File, _: &mut [u8], _: u64) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

/// Largest resident size of this process so far (VmHWM), 0 where `/proc` has none.
pub fn peak_bytes() -> u64 {
    limits::kibibytes(Path::new("/proc/self/status"), "VmHWM:").unwrap_or(0)
}

/// Name of the processor, or of its architecture where the system does not say.
pub fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines()
        .find_map(|l| Some(l.strip_prefix("model name")?.split_once(':')?.1.trim()))
        .filter(|name| !name.is_empty())
        .unwrap_or(std::env::consts::ARCH)
        .into()
}

/// Memory that this process may still take, if known: see [`limits`].
pub fn available_memory() -> Option<u64> {
    limits::here().map(|room| room.bytes)
}

/// Refuses when `folder` has less than `needed` bytes free.
///
/// # Errors
/// [`Error::Disk`].
pub fn require_disk(folder: &Path, needed: u64) -> Result<()> {
    match free_disk(folder) {
        Some(had) if had < needed => Err(Error::Disk {
            path: folder.display().to_string(),
            needed,
            had,
        }),
        _ => Ok(()),
    }
}

/// Refuses when a process of `needed` bytes exceeds the limit that the user set, or what this one has and can still get.
///
/// # Errors
/// [`Error::Memory`].
pub fn require_memory(what: &str, needed: u64, limit: Option<u64>) -> Result<()> {
    if let Some(had) = limit.filter(|&l| l < needed) {
        // rounded up, so that what is named is enough
        let enough = needed.checked_next_multiple_of(10_000_000);
        let enough = size(enough.unwrap_or(needed)).replace(' ', "");
        let words = format!("allow at least {enough}, or compile for less memory");
        return Err(Error::Memory {
            what: what.into(),
            needed,
            had,
            limit: Limit::Allowed,
            remedy: Help::Memory.with(words),
        });
    }
    let words = ", leave keys on disk, or compile for less memory";
    require_room(what, needed, Help::Memory.with(words))
}

/// Refuses when a process of `needed` bytes exceeds what this one has and can still get; `instead` is what helps beside more memory, if
/// anything, with a comma before it.
///
/// # Errors
/// [`Error::Memory`].
pub fn require_room(what: &str, needed: u64, instead: impl Into<Remedy>) -> Result<()> {
    require_of(limits::here(), what, needed, instead)
}

/// As [`require_room`], of the room that there is; none is no limit.
///
/// # Errors
/// [`Error::Memory`].
pub fn require_of(
    room: Option<limits::Room>,
    what: &str,
    needed: u64,
    instead: impl Into<Remedy>,
) -> Result<()> {
    let Some(room) = room else {
        return Ok(());
    };
    let (had, limit) = (room.whole(), room.limit);
    let needed = match limit {
        // such a limit counts addresses, of which buffers take whole regions
        Limit::Process => needed.saturating_add(ring::buffer::REGION as u64),
        _ => needed,
    };
    if needed <= had {
        return Ok(());
    }
    let Remedy { words, help } = instead.into();
    Err(Error::Memory {
        what: what.into(),
        needed,
        had,
        limit,
        remedy: Remedy {
            words: format!("{}{words}", limit.remedy()),
            help,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_has_used_something() {
        assert!(peak_bytes() > 1 << 20 && cpu_seconds() > 0.0);
        assert!(free_disk(Path::new("/")).is_some() && !processor().is_empty());
    }

    #[test]
    fn too_little_memory_or_disk_is_refused_with_a_remedy() {
        let message = require_memory("this plan", 10_000_000_000, Some(2_000_000_000))
            .expect_err("limit")
            .to_string();
        assert!(
            message.contains("10.00 GB")
                && message.contains("2.00 GB")
                && message.contains("allow at least 10.00GB"),
            "{message}"
        );
        let message = require_memory("this plan", u64::MAX, None)
            .expect_err("free")
            .to_string();
        // whichever limit is the least where the test runs
        assert!(
            ["are free", "are left by"]
                .iter()
                .any(|w| message.contains(w)),
            "{message}"
        );
        let message = require_disk(Path::new("/"), u64::MAX)
            .expect_err("disk")
            .to_string();
        assert!(message.contains("are free"), "{message}");
    }
}

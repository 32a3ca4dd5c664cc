//! What the machine has and what this process used: Linux's `/proc`, clocks and file systems.

use crate::{Error, Help, Limit, Result, size};
use rustix::time::ClockId;
use std::path::Path;

/// CPU seconds of this process, all threads.
pub fn cpu_seconds() -> f64 {
    seconds(ClockId::ProcessCPUTime)
}

/// CPU seconds of this thread.
pub(crate) fn thread_cpu_seconds() -> f64 {
    seconds(ClockId::ThreadCPUTime)
}

fn seconds(clock: ClockId) -> f64 {
    let t = rustix::time::clock_gettime(clock);
    t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9
}

/// Largest resident size of this process so far (VmHWM), 0 where `/proc` has none.
pub fn peak_bytes() -> u64 {
    number("/proc/self/status", "VmHWM:").map_or(0, |kib| kib * 1024)
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

/// Memory that can be had without swapping, if known.
pub fn available_memory() -> Option<u64> {
    let kib = number("/proc/meminfo", "MemAvailable:").filter(|&kib| kib > 0);
    let system = kib.map(|kib| kib * 1024);
    // a container may allow less than the machine has
    let group = |file: &str, key: &str| number(&format!("/sys/fs/cgroup/memory.{file}"), key);
    let group = group("max", "")
        .zip(group("current", ""))
        .map(|(most, used)| {
            let cache = group("stat", "inactive_file").unwrap_or(0);
            most.saturating_sub(used.saturating_sub(cache))
        });
    match (system, group) {
        (Some(s), Some(g)) => Some(s.min(g)),
        (s, g) => s.or(g),
    }
}

/// The number behind a key, perhaps in kB, in one of the system's files.
fn number(path: &str, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let behind = |l: &str| {
        l.strip_prefix(key)?
            .trim_end_matches("kB")
            .trim()
            .parse()
            .ok()
    };
    text.lines().find_map(behind)
}

/// Bytes free for this user in the file system of `folder`, if known.
pub(crate) fn free_disk(folder: &Path) -> Option<u64> {
    let s = rustix::fs::statvfs(folder).ok()?;
    Some(s.f_bavail * s.f_frsize)
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

/// Refuses when `needed` bytes exceed the limit that the user set, or what is free.
///
/// # Errors
/// [`Error::Memory`].
pub fn require_memory(what: &str, needed: u64, limit: Option<u64>) -> Result<()> {
    let refuse = |had, limit, words: String| {
        Err(Error::Memory {
            what: what.into(),
            needed,
            had,
            limit,
            remedy: Help::Memory.with(words),
        })
    };
    if let Some(had) = limit.filter(|&l| l < needed) {
        // rounded up, so that what is named is enough
        let enough = needed.checked_next_multiple_of(10_000_000);
        let enough = size(enough.unwrap_or(needed)).replace(' ', "");
        let words = format!("allow at least {enough}, or compile for less memory");
        return refuse(had, Limit::Allowed, words);
    }
    match available_memory() {
        Some(had) if had < needed => refuse(
            had,
            Limit::Free,
            "close other programs, use a larger machine, leave keys on disk, or compile for less memory".into(),
        ),
        _ => Ok(()),
    }
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
        assert!(message.contains("are free"), "{message}");
        let message = require_disk(Path::new("/"), u64::MAX)
            .expect_err("disk")
            .to_string();
        assert!(message.contains("are free"), "{message}");
    }
}

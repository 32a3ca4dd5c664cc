//! What the machine has and what this process used: Linux's `/proc`, clocks and file systems.

use crate::{Error, Help, Limit, Result, size};
use std::path::Path;

/// CPU seconds of this process, all threads.
pub fn cpu_seconds() -> f64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9
}

/// CPU seconds of this thread.
pub(crate) fn thread_cpu_seconds() -> f64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9
}

/// Largest resident size of this process so far (VmHWM), 0 where `/proc` has none.
pub fn peak_bytes() -> u64 {
    field("/proc/self/status", "VmHWM:")
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
    let system = field("/proc/meminfo", "MemAvailable:");
    // a container may allow less than the machine has
    let number = |path: &str| {
        std::fs::read_to_string(path)
            .ok()
            .and_then(|t| t.trim().parse::<u64>().ok())
    };
    let group = match (
        number("/sys/fs/cgroup/memory.max"),
        number("/sys/fs/cgroup/memory.current"),
    ) {
        (Some(most), Some(used)) => {
            let cache = group_field("inactive_file");
            Some(most.saturating_sub(used.saturating_sub(cache)))
        }
        _ => None,
    };
    match (system, group) {
        (0, g) => g,
        (s, Some(g)) => Some(s.min(g)),
        (s, None) => Some(s),
    }
}

fn group_field(key: &str) -> u64 {
    let Ok(text) = std::fs::read_to_string("/sys/fs/cgroup/memory.stat") else {
        return 0;
    };
    text.lines()
        .find_map(|l| l.strip_prefix(key)?.trim().parse().ok())
        .unwrap_or(0)
}

fn field(path: &str, key: &str) -> u64 {
    let Ok(text) = std::fs::read_to_string(path) else {
        return 0;
    };
    text.lines()
        .find_map(|l| {
            l.strip_prefix(key)?
                .trim()
                .strip_suffix("kB")?
                .trim()
                .parse::<u64>()
                .ok()
        })
        .map_or(0, |kib| kib * 1024)
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
    if let Some(had) = limit.filter(|&l| l < needed) {
        return Err(Error::Memory {
            what: what.into(),
            needed,
            had,
            limit: Limit::Allowed,
            remedy: Help::Memory.with(format!(
                "allow at least {}, or compile for less memory",
                // rounded up, so that what is named is enough
                size(
                    needed
                        .checked_next_multiple_of(10_000_000)
                        .unwrap_or(needed)
                )
                .replace(' ', "")
            )),
        });
    }
    match available_memory() {
        Some(had) if had < needed => Err(Error::Memory {
            what: what.into(),
            needed,
            had,
            limit: Limit::Free,
            remedy: Help::Memory.with(
                "close other programs, use a larger machine, leave keys on disk, or compile for less memory",
            ),
        }),
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

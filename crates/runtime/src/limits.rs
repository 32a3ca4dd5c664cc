//! How much memory this process may still take, and what says so: the machine, a control group, the process's own limits.

use crate::Limit;
use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// Memory that can still be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes beyond what the process has now.
    pub bytes: u64,
    /// Bytes of the process that lie in memory now.
    pub resident: u64,
    /// What leaves no more.
    pub limit: Limit,
}

impl Room {
    /// Bytes that this process may have in all.
    pub fn whole(&self) -> u64 {
        self.bytes.saturating_add(self.resident)
    }
}

/// The least that any limit leaves to this process, by the files of a Linux system whose root is `root` (`/` but in tests); none where
/// there are none. Looked up anew at every call.
///
/// * What the machine can give without swapping: `MemAvailable`.
/// * Control groups of both versions, with all that lie above them: each one's limit less what it uses, but for cached files.
/// * The process's limits on its address space and data (`RLIMIT_AS`, `RLIMIT_DATA`) less what it has mapped.
pub fn room(root: &Path) -> Option<Room> {
    let own = root.join("proc/self");
    let status = own.join("status");
    let resident = kibibytes(&status, "VmRSS:").unwrap_or(0);
    let mut all = Vec::new();
    let mut add = |bytes: Option<u64>, limit| {
        all.extend(bytes.map(|bytes| Room {
            bytes,
            resident,
            limit,
        }));
    };
    let available = kibibytes(&root.join("proc/meminfo"), "MemAvailable:");
    add(available.filter(|&bytes| bytes > 0), Limit::Free);
    for (limit, used) in [
        ("Max address space", "VmSize:"),
        ("Max data size", "VmData:"),
    ] {
        let used = kibibytes(&status, used).unwrap_or(0);
        let most = number(&own.join("limits"), limit);
        add(most.map(|most| most.saturating_sub(used)), Limit::Process);
    }
    for (group, top, version) in groups(root) {
        let above = group
            .ancestors()
            .take_while(|folder| folder.starts_with(&top));
        above.for_each(|folder| add(version.room(folder), Limit::Group));
    }
    all.into_iter().min_by_key(|room| room.bytes)
}

/// [`room`] on this system.
pub fn here() -> Option<Room> {
    room(Path::new("/"))
}

/// Bytes of this process that lie in memory, 0 where the system does not say.
pub fn resident() -> u64 {
    kibibytes(Path::new("/proc/self/status"), "VmRSS:").unwrap_or(0)
}

/// The two ways in which control groups are read.
#[derive(Clone, Copy, PartialEq)]
enum Version {
    One,
    Two,
}

impl Version {
    /// What the group in this folder leaves; none where it has no limit.
    fn room(self, folder: &Path) -> Option<u64> {
        let (most, used, cached) = match self {
            Self::One => (
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            ),
            Self::Two => ("memory.max", "memory.current", "inactive_file"),
        };
        let stat = folder.join("memory.stat");
        let most = number(&folder.join(most), "");
        // groups above the one that a container is shown as its root
        let above = match self {
            Self::One => number(&stat, "hierarchical_memory_limit"),
            Self::Two => None,
        };
        let most = most.into_iter().chain(above).min()?;
        let used = number(&folder.join(used), "")?;
        Some(most.saturating_sub(used.saturating_sub(number(&stat, cached).unwrap_or(0))))
    }
}

/// Folders of the groups that this process is in, and where their hierarchies are mounted.
fn groups(root: &Path) -> Vec<(PathBuf, PathBuf, Version)> {
    let own = |name: &str| read_to_string(root.join("proc/self").join(name)).unwrap_or_default();
    let (groups, mounts) = (own("cgroup"), own("mountinfo"));
    let mut found = Vec::new();
    for line in groups.lines() {
        // hierarchy:controllers:path
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let version = match controllers {
            "" => Version::Two,
            list if list.split(',').any(|c| c == "memory") => Version::One,
            _ => continue,
        };
        for (mounted, point) in mounts.lines().filter_map(|line| mount(line, version)) {
            let top = root.join(point.trim_start_matches('/'));
            // a container may be shown its own group as the root of all
            let below = Path::new(path)
                .strip_prefix(mounted)
                .unwrap_or(Path::new(""));
            found.push((top.join(below), top, version));
        }
    }
    found
}

/// Of a line of `mountinfo`, which group is mounted where, if it is a hierarchy of this version that can limit memory.
fn mount(line: &str, version: Version) -> Option<(&str, &str)> {
    let (mount, system) = line.split_once(" - ")?;
    let mut system = system.split(' ');
    let (kind, options) = (system.next()?, system.nth(1)?);
    let fits = match version {
        Version::One => kind == "cgroup" && options.split(',').any(|o| o == "memory"),
        Version::Two => kind == "cgroup2",
    };
    let mut fields = mount.split(' ').skip(3);
    fits.then_some((fields.next()?, fields.next()?))
}

/// The first number behind a key in one of the system's files.
pub(crate) fn number(path: &Path, key: &str) -> Option<u64> {
    let text = read_to_string(path).ok()?;
    let behind = |l: &str| l.strip_prefix(key)?.split_whitespace().next()?.parse().ok();
    text.lines().find_map(behind)
}

/// The same, of kibibytes.
pub(crate) fn kibibytes(path: &Path, key: &str) -> Option<u64> {
    number(path, key).map(|kib| kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A system of these files, each as its path and content, in a folder that goes with it.
    struct System(PathBuf);

    impl System {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = format!("polyveil-limits-{name}-{}", std::process::id());
            let root = std::env::temp_dir().join(root);
            for (path, text) in files {
                let path = root.join(path);
                std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
                std::fs::write(path, text).expect("a file");
            }
            Self(root)
        }
        fn room(&self) -> Option<(u64, Limit)> {
            room(&self.0).map(|r| (r.bytes, r.limit))
        }
    }

    impl Drop for System {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    const MEMORY: (&str, &str) = (
        "proc/meminfo",
        "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n",
    );
    const V1: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n36 31 0:31 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n";
    const V2: &str = "24 1 0:22 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_machine_alone_limits_where_nothing_else_does() {
        assert_eq!(System::new("none", &[("etc/x", "")]).room(), None);
        let unlimited = "Limit  Soft Limit  Hard Limit  Units\nMax data size  unlimited  unlimited  bytes\nMax address space         unlimited            unlimited            bytes\n";
        let files = [
            MEMORY,
            ("proc/self/limits", unlimited),
            ("proc/self/status", "VmSize: 70 kB\n"),
        ];
        let had = System::new("machine", &files).room();
        assert_eq!(had, Some((8000 * 1024, Limit::Free)));
    }

    #[test]
    fn the_limits_of_the_process_count_less_what_it_has_mapped() {
        let status = (
            "proc/self/status",
            "Name: x\nVmSize:\t    2000 kB\nVmData:\t 500 kB\n",
        );
        let limited = |what: &str, most: u64| {
            let text = format!("Limit  Soft  Hard  Units\n{what}   {most}   unlimited   bytes\n");
            System::new(
                &what.replace(' ', ""),
                &[MEMORY, status, ("proc/self/limits", &text)],
            )
            .room()
        };
        assert_eq!(
            limited("Max address space", 3_000_000),
            Some((3_000_000 - 2_048_000, Limit::Process))
        );
        assert_eq!(
            limited("Max data size", 600_000),
            Some((600_000 - 512_000, Limit::Process))
        );
        assert_eq!(limited("Max address space", 1), Some((0, Limit::Process)));
    }

    #[test]
    fn a_group_of_version_two_and_those_above_it_count() {
        let group = ("proc/self/cgroup", "0::/user.slice/app.scope\n");
        let files = [
            MEMORY,
            group,
            ("proc/self/mountinfo", V2),
            ("sys/fs/cgroup/user.slice/app.scope/memory.max", "max\n"),
            ("sys/fs/cgroup/user.slice/app.scope/memory.current", "900\n"),
            ("sys/fs/cgroup/user.slice/memory.max", "5000\n"),
            ("sys/fs/cgroup/user.slice/memory.current", "4000\n"),
            (
                "sys/fs/cgroup/user.slice/memory.stat",
                "anon 1\ninactive_file 300\n",
            ),
        ];
        assert_eq!(
            System::new("nested", &files).room(),
            Some((1300, Limit::Group))
        );
        // in a container that sees its own group as the root
        let files = [
            MEMORY,
            ("proc/self/cgroup", "0::/../../elsewhere\n"),
            ("proc/self/mountinfo", V2),
            ("sys/fs/cgroup/memory.max", "5000\n"),
            ("sys/fs/cgroup/memory.current", "1000\n"),
        ];
        assert_eq!(
            System::new("rooted", &files).room(),
            Some((4000, Limit::Group))
        );
    }

    #[test]
    fn a_group_of_version_one_counts_beside_an_empty_hierarchy_of_version_two() {
        let files = [
            MEMORY,
            ("proc/self/cgroup", "4:memory:/process/abc\n1:cpu:/\n0::/\n"),
            (
                "proc/self/mountinfo",
                &format!("{V1}41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"),
            ),
            (
                "sys/fs/cgroup/memory/process/abc/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
            (
                "sys/fs/cgroup/memory/process/abc/memory.usage_in_bytes",
                "100\n",
            ),
            (
                "sys/fs/cgroup/memory/process/memory.limit_in_bytes",
                "7000\n",
            ),
            (
                "sys/fs/cgroup/memory/process/memory.usage_in_bytes",
                "2000\n",
            ),
            (
                "sys/fs/cgroup/memory/process/memory.stat",
                "cache 9\ntotal_inactive_file 500\n",
            ),
        ];
        assert_eq!(
            System::new("one", &files).room(),
            Some((5500, Limit::Group))
        );
        // a container's own folder is mounted, and a limit above it is known by a number only
        let point = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let files = [
            MEMORY,
            ("proc/self/cgroup", "4:cpu,memory:/docker/abc\n"),
            ("proc/self/mountinfo", point),
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "1000\n"),
            (
                "sys/fs/cgroup/memory/memory.stat",
                "hierarchical_memory_limit 6000\n",
            ),
        ];
        assert_eq!(
            System::new("docker", &files).room(),
            Some((5000, Limit::Group))
        );
    }

    #[test]
    fn this_process_has_room() {
        assert!(room(Path::new("/")).is_some_and(|r| r.bytes > 0) && resident() > 0);
    }
}

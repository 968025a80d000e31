//! What the kernel says about this process and the memory it may use. Linux tells; elsewhere there is nothing to tell.

use std::fs;
use std::path::{Path, PathBuf};

/// What this process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Process {
    pub(crate) resident_bytes: u64,
    /// User and system time.
    pub(crate) cpu_seconds: f64,
    pub(crate) open_files: u64,
}

impl Process {
    /// As of now; zeroes where nobody tells.
    pub(crate) fn now() -> Self {
        let read = |name: &str| fs::read_to_string(Path::new("/proc/self").join(name)).unwrap_or_default();
        Self {
            resident_bytes: resident_bytes(&read("status")),
            cpu_seconds: cpu_seconds(&read("stat")),
            // One of them is the directory that is being read.
            open_files: fs::read_dir("/proc/self/fd").map_or(0, |files| (files.count() as u64).saturating_sub(1)),
        }
    }
}

/// Bytes of memory that this process may use: the machine's, or its control group's where those are fewer. `None`:
/// nobody tells.
pub(crate) fn memory_bytes() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| kilobytes(&text, "MemTotal:"));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups).into_iter().filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
    machine.into_iter().chain(limits).min()
}

/// Where the limits of a process in these groups stand: its own group's, and those of the groups around it.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        for ancestor in Path::new(group.trim_start_matches('/')).ancestors() {
            files.push(Path::new(root).join(ancestor).join(name));
        }
    }
    files
}

/// `VmRSS:     1234 kB`
fn resident_bytes(status: &str) -> u64 {
    kilobytes(status, "VmRSS:").unwrap_or_default()
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Fields 14 and 15 of `proc_pid_stat(5)`, in hundredths of a second (`USER_HZ` is 100 on every architecture Linux has
/// a port of today). The second field may hold anything, and ends with the last parenthesis.
fn cpu_seconds(stat: &str) -> f64 {
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_ascii_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u32>().ok());
    ticks.map(f64::from).fold(0.0, |sum, ticks| sum + ticks) / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read() {
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    1234 kB\nVmData: 9 kB\n"), 1234 * 1024);
        let stat = "17 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0";
        assert!((cpu_seconds(stat) - 1.75).abs() < 1e-9);
        assert_eq!((resident_bytes(""), cpu_seconds("").to_bits()), (0, 0));
    }

    #[test]
    fn the_limits_of_all_groups_around_a_process_count() {
        let paths = |groups| limit_files(groups).into_iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        assert_eq!(
            paths("0::/kube/pod\n"),
            ["/sys/fs/cgroup/kube/pod/memory.max", "/sys/fs/cgroup/kube/memory.max", "/sys/fs/cgroup/memory.max"]
        );
        assert_eq!(
            paths("4:cpu,memory:/a\n3:cpu:/a\n"),
            ["/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_something_and_may_use_more() {
        let process = Process::now();
        assert!(process.resident_bytes > 100_000 && process.open_files > 2, "{process:?}");
        assert!(memory_bytes().unwrap() > process.resident_bytes);
    }
}

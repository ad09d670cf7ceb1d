//! Finds out how much memory can be had, from `/proc`, from control groups and from the limit on the address space.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Memory that is assumed where the system does not say what is available.
const ASSUMED_MEMORY: u64 = 4 << 30;

/// Returns this process's part of the [available memory](available_memory). Processes that were started together on this
/// machine all find the same memory free, so each counts on an equal part of it.
pub fn memory_for_this_process() -> u64 {
    available_memory().unwrap_or(ASSUMED_MEMORY) / processes_here(|name| env::var(name).ok())
}

/// Returns how many processes were started together on this machine, as torchrun and `--processes` tell it; of processes
/// that something else started, all may be here.
fn processes_here(variable: impl Fn(&str) -> Option<String>) -> u64 {
    let number = |name| variable(name)?.parse::<u64>().ok();
    number("WORLD_SIZE").map_or(1, |size| number("LOCAL_WORLD_SIZE").unwrap_or(size).max(1))
}

/// Returns how many bytes of memory can be had without swapping: what the system says, or less where a control group (a
/// container, a batch job) or a limit on the address space allows less. None where `/proc` does not tell.
pub fn available_memory() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let system = field(&meminfo, "MemAvailable:")? * 1024;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let headroom = groups.lines().filter_map(|line| {
        let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
        match controllers {
            "" => V2.headroom(Path::new("/sys/fs/cgroup"), group),
            "memory" => V1.headroom(Path::new("/sys/fs/cgroup/memory"), group),
            _ => None,
        }
    });
    Some(headroom.chain(address_space_left()).fold(system, u64::min))
}

/// Returns what a limit on the address space (`ulimit -v`) leaves, if there is one.
fn address_space_left() -> Option<u64> {
    // SAFETY: all zeros are a valid value, which the call fills in.
    let mut limit: libc::rlimit = unsafe { std::mem::zeroed() };
    // SAFETY: `limit` outlives the call.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) } == 0;
    if !known || limit.rlim_cur == libc::RLIM_INFINITY {
        return None;
    }
    let status = fs::read_to_string("/proc/self/status").ok()?;
    Some(limit.rlim_cur.saturating_sub(field(&status, "VmSize:")? * 1024))
}

/// The names of the files in which one version of control groups keeps its numbers.
struct GroupFiles {
    limit: &'static str,
    usage: &'static str,
    /// The field of `memory.stat` for file pages that the kernel drops when memory is short.
    droppable: &'static str,
}

const V1: GroupFiles =
    GroupFiles { limit: "memory.limit_in_bytes", usage: "memory.usage_in_bytes", droppable: "total_inactive_file" };
const V2: GroupFiles = GroupFiles { limit: "memory.max", usage: "memory.current", droppable: "inactive_file" };

impl GroupFiles {
    /// Returns the least that `group` or a group around it leaves free, if any has a limit. Inside a container the
    /// group's own path may be hidden; its mount point then has the numbers.
    fn headroom(&self, mount: &Path, group: &str) -> Option<u64> {
        let own: PathBuf = mount.join(group.trim_start_matches('/'));
        let folders = own.ancestors().take_while(|folder| folder.starts_with(mount));
        let number =
            |folder: &Path, name| -> Option<u64> { fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok() };
        let free = |folder: &Path| {
            let limit = number(folder, self.limit)?;
            let usage = number(folder, self.usage)?;
            let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
            let droppable = field(&stat, self.droppable).unwrap_or(0);
            Some(limit.saturating_sub(usage.saturating_sub(droppable)))
        };
        folders.filter_map(free).min()
    }
}

/// Returns the number after the word `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    lines.find_map(|mut words| (words.next() == Some(name)).then(|| words.next()?.parse().ok())?)
}

#[cfg(test)]
mod tests {
    use super::processes_here;

    #[test]
    fn processes_that_were_started_together_share_the_memory_of_their_machine() {
        let of = |variables: &[(&str, &str)]| {
            processes_here(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(of(&[]), 1);
        assert_eq!(of(&[("LOCAL_WORLD_SIZE", "4")]), 1);
        assert_eq!(of(&[("WORLD_SIZE", "8"), ("LOCAL_WORLD_SIZE", "4")]), 4);
        assert_eq!(of(&[("WORLD_SIZE", "8")]), 8);
        assert_eq!(of(&[("WORLD_SIZE", "0"), ("LOCAL_WORLD_SIZE", "x")]), 1);
    }
}

//! What the sandbox uses, read from the kernel when asked.

use std::fs;

use rclaude_types::agentd::Metrics;

/// Reads all there is to read; what the kernel does not tell stays zero.
pub(crate) fn read() -> Metrics {
    let disk = rustix::fs::statvfs("/").ok();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = field(&memory, "MemTotal:") * 1024;
    let available = field(&memory, "MemAvailable:") * 1024;
    let limit = number("/sys/fs/cgroup/memory.max")
        .or_else(|| number("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
        .filter(|limit| *limit < total);
    let used = number("/sys/fs/cgroup/memory.current")
        .or_else(|| number("/sys/fs/cgroup/memory/memory.usage_in_bytes"));
    Metrics {
        cpu_micros: cpu_micros(),
        memory_used_bytes: used.unwrap_or_else(|| total.saturating_sub(available)),
        memory_total_bytes: limit.unwrap_or(total),
        disk_free_bytes: disk.as_ref().map_or(0, |disk| disk.f_bavail * disk.f_frsize),
        disk_total_bytes: disk.as_ref().map_or(0, |disk| disk.f_blocks * disk.f_frsize),
        processes: processes(),
    }
}

/// How many processes of the sandbox the kernel has ended for want of memory.
pub(crate) fn oom_kills() -> u64 {
    let v2 = fs::read_to_string("/sys/fs/cgroup/memory.events");
    let text = v2.or_else(|_| fs::read_to_string("/sys/fs/cgroup/memory/memory.oom_control"));
    field(&text.unwrap_or_default(), "oom_kill")
}

fn cpu_micros() -> u64 {
    if let Ok(text) = fs::read_to_string("/sys/fs/cgroup/cpu.stat") {
        let micros = field(&text, "usage_usec");
        if micros > 0 {
            return micros;
        }
    }
    number("/sys/fs/cgroup/cpuacct/cpuacct.usage").unwrap_or_default() / 1000
}

fn processes() -> u32 {
    let Ok(entries) = fs::read_dir("/proc") else { return 0 };
    let is_pid = |name: &[u8]| name.first().is_some_and(u8::is_ascii_digit);
    let count = entries.flatten().filter(|it| is_pid(it.file_name().as_encoded_bytes())).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The number after the word `name` at the start of a line.
fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next() == Some(name)).then(|| words.next()?.parse().ok())?
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        assert_eq!(field("oom 1\noom_kill 7\n", "oom_kill"), 7);
        assert_eq!(field("oom 1", "kill"), 0);
    }
}

//! CPU time and memory of processes, from `/proc`.

use std::fs;

/// What a process has used.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    pub cpu_seconds: f64,
    pub rss_mib: f64,
    pub peak_mib: f64,
}

/// Clock ticks a second in `/proc`: fixed at 100 for all that Linux shows there.
const TICKS_PER_S: f64 = 100.0;
const KIB_PER_MIB: f64 = 1024.0;

impl Usage {
    /// Of a process, as far as it still runs.
    pub fn of(pid: u32) -> Self {
        let file = |name| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        Self::parse(&file("stat"), &file("status")).unwrap_or_default()
    }

    pub fn own() -> Self {
        Self::of(std::process::id())
    }

    /// See proc_pid_stat(5) and proc_pid_status(5).
    fn parse(stat: &str, status: &str) -> Option<Self> {
        // The second field is the program's name in parentheses and may hold anything; the third
        // is the first after it, so utime and stime, 14 and 15, are 11 and 12 from there.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.split_whitespace().next()?.parse::<f64>().ok()
        };
        Some(Self {
            cpu_seconds: (ticks(11)? + ticks(12)?) / TICKS_PER_S,
            rss_mib: kib("VmRSS")? / KIB_PER_MIB,
            peak_mib: kib("VmHWM")? / KIB_PER_MIB,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_do_not_shift_the_fields() {
        let stat = "12 (a) b (c) S 1 12 12 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 8 0 1 2 3";
        let status = "Name:\ta) b\nVmPeak:\t  9 kB\nVmHWM:\t  4096 kB\nVmRSS:\t  2048 kB\n";
        assert_eq!(Usage::parse(stat, status), Some(Usage { cpu_seconds: 3.0, rss_mib: 2.0, peak_mib: 4.0 }));
        assert_eq!(Usage::parse("", ""), None);
        assert!(Usage::own().rss_mib > 0.1);
    }
}

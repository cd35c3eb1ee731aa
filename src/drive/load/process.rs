//! What another process of this machine has used, as its processor-time clock and `/proc` tell. It changes nothing there.

use std::num::NonZeroU32;
use std::time::Duration;

use nix::time::clock_getcpuclockid;
use nix::unistd::{Pid, SysconfVar, sysconf};

/// Totals of a process at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Totals {
    cpu: Duration,
    kernel: Duration,
    resident: u64,
}

/// What a process used between two moments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Processor time, of all its threads.
    pub cpu: Duration,
    /// That part of it which the kernel used on its behalf.
    pub kernel: Duration,
    /// The time between.
    pub took: Duration,
    /// Resident memory at the end, in bytes.
    pub resident: u64,
}

impl Totals {
    /// Processor time of all threads so far.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        self.cpu
    }

    /// Resident memory, in bytes.
    #[must_use]
    pub fn resident(&self) -> u64 {
        self.resident
    }

    /// What was used since `before`, which was `took` ago.
    #[must_use]
    pub fn since(&self, before: &Self, took: Duration) -> Usage {
        let (cpu, kernel) = (self.cpu.saturating_sub(before.cpu), self.kernel.saturating_sub(before.kernel));
        Usage { cpu, kernel, took, resident: self.resident }
    }
}

impl Usage {
    /// Processor time for each of so many joins, in milliseconds.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "joins are far fewer than 2^52")]
    pub fn per_join(&self, joins: usize) -> f64 {
        self.cpu.as_secs_f64() * 1e3 / joins.max(1) as f64
    }
}

/// Reads the totals of `pid`; `None` where the process or the system has none.
#[must_use]
pub fn usage(pid: NonZeroU32) -> Option<Totals> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let ticks = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok().filter(|ticks| *ticks > 0)?;
    // Ticks, mostly of 10 ms, are too coarse for the processor time of a second.
    let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(pid.get()).ok()?)).ok()?;
    Some(Totals {
        cpu: clock.now().ok()?.into(),
        kernel: Duration::from_millis(kernel_ticks(&stat)? * 1000 / ticks),
        resident: resident(&status)?,
    })
}

/// System ticks: field 15, counted after the name, which may hold anything (proc(5)).
fn kernel_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(12)?.parse().ok()
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        assert_eq!(kernel_ticks("12 (a) b) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0"), Some(12));
        assert_eq!(kernel_ticks("12 (a"), None);
        assert_eq!(resident("Name:\tx\nVmRSS:\t    12 kB\n"), Some(12 * 1024));
    }

    #[test]
    fn this_process_has_used_something() {
        let totals = usage(NonZeroU32::new(std::process::id()).expect("not zero")).expect("proc is there");
        assert!(totals.resident > 0 && totals.cpu > Duration::ZERO, "{totals:?}");
    }
}

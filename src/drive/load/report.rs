//! What listeners heard, counted and told. Times are in the unit that their name says.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::process::Usage;
use super::seconds::BySecond;

/// Distance between two packets of a listener, in microseconds.
const FRAME: u64 = 20_000;
/// Resolution of the histogram of gap errors, in microseconds.
const STEP: u64 = 10;
/// Gap errors of 200 ms and more are counted together.
const STEPS: usize = 20_000;
/// Who has heard nothing for less than this when it ends waits for what is under way, and has lost nothing.
const UNDER_WAY: Duration = Duration::from_millis(200);

/// Counts of all listeners.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    join: Vec<Duration>,
    first: Vec<Duration>,
    failures: usize,
    first_failure: Option<String>,
    gaps: Gaps,
    lost: u64,
    late: u64,
    silent: u64,
}

/// Gap errors of packets: |time since the packet before - 20 ms|.
#[derive(Clone, Debug)]
pub struct Gaps {
    /// How many there were, each a packet's.
    packets: u64,
    /// How many fell into each [`STEP`].
    steps: Vec<u64>,
    /// The largest, in microseconds.
    worst: u64,
}

impl Default for Gaps {
    fn default() -> Self {
        Self { packets: 0, steps: vec![0; STEPS], worst: 0 }
    }
}

impl Gaps {
    fn add(&mut self, error: u64) {
        self.packets += 1;
        let place = usize::try_from(error / STEP).map_or(STEPS - 1, |place| place.min(STEPS - 1));
        self.steps[place] += 1;
        self.worst = self.worst.max(error);
    }

    /// How many packets they are of.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// What came since `before`, an earlier state of the same. The worst one is of all.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let steps = self.steps.iter().zip(&before.steps).map(|(now, before)| now - before).collect();
        Self { packets: self.packets - before.packets, steps, worst: self.worst }
    }

    /// The gap error in milliseconds that `share` of all gaps stay under.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts of packets are far below 2^52"
    )]
    pub fn below(&self, share: f64) -> f64 {
        let target = (self.packets as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (place, count) in self.steps.iter().enumerate() {
            seen += count;
            if seen >= target {
                return ((place as u64 + 1) * STEP) as f64 / 1000.0;
            }
        }
        self.worst as f64 / 1000.0
    }
}

impl Heard {
    /// A listener connected, so long after its first word.
    pub fn join(&mut self, took: Duration) {
        self.join.push(took);
    }

    /// Its first packet came, so long after `start`.
    pub fn first(&mut self, took: Duration) {
        self.first.push(took);
    }

    /// A packet came, so long after the one before it; `lost` sequence numbers were missing between them.
    pub fn packet(&mut self, since: Duration, lost: u64) {
        let expected = FRAME * (lost + 1);
        self.gaps.add(u64::try_from(since.as_micros()).unwrap_or(u64::MAX).abs_diff(expected));
        self.lost += lost;
    }

    /// A packet came out of order, or twice; `found` when it was counted as lost before.
    pub fn late(&mut self, found: bool) {
        self.late += 1;
        self.lost = self.lost.saturating_sub(u64::from(found));
    }

    /// A listener ends that should have heard something for so long, and has not.
    pub fn ended(&mut self, silence: Duration) {
        if silence >= UNDER_WAY {
            self.lost += u64::try_from(silence.as_micros()).unwrap_or(u64::MAX) / FRAME;
        }
    }

    /// A decoded frame held no sound.
    pub fn silent(&mut self) {
        self.silent += 1;
    }

    /// A listener ended with an error.
    pub fn failed(&mut self, error: String) {
        self.failures += 1;
        self.first_failure.get_or_insert(error);
    }

    /// The first such error.
    #[must_use]
    pub fn first_failure(&self) -> Option<&str> {
        self.first_failure.as_deref()
    }

    /// How many listeners connected.
    #[must_use]
    pub fn joined(&self) -> usize {
        self.join.len()
    }

    /// A line for people who wait.
    #[must_use]
    pub fn progress(&self) -> String {
        format!("{} joined, {} packets, {} lost", self.join.len(), self.gaps.packets, self.lost)
    }

    /// Gap errors of all packets so far.
    #[must_use]
    pub fn gaps(&self) -> &Gaps {
        &self.gaps
    }
}

/// The report of one run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Listeners that were asked for, those who took another's place among them.
    pub listeners: u32,
    /// How many of them came and went each second.
    pub churn: u32,
    /// Whether they came through the server's relay.
    pub relayed: bool,
    /// How often a listener connected: more than once where those who fall out come again.
    pub joined: usize,
    /// How often a listener ended with an error: more than once where those who fail come again.
    pub failed: usize,
    /// The first error.
    pub first_failure: Option<String>,
    /// Measured time in seconds, with all joined.
    pub seconds: f64,
    /// From the first word to DTLS connected, in milliseconds: median, 99 of 100, worst.
    pub join_ms: [f64; 3],
    /// From `start` to the first packet, in milliseconds: median, 99 of 100, worst.
    pub first_packet_ms: [f64; 3],
    /// Packets that came while it was measured.
    pub packets: u64,
    /// Packets that should have come.
    pub expected: u64,
    /// Sequence numbers that never came, and frames of the time in which listeners heard nothing any more.
    pub lost: u64,
    /// Packets out of order or twice.
    pub late: u64,
    /// Decoded frames of the sample that held no sound.
    pub silent: u64,
    /// |time between two packets - 20 ms| at the receiver, in milliseconds: median, 99 of 100, 999 of 1,000, worst.
    pub gap_error_ms: [f64; 4],
    /// The same and the server's processor time by the second; none where nothing was asked for.
    pub by_second: Option<BySecond>,
    /// Of the server's process, when its pid was given.
    pub server: Option<ServerUsage>,
    /// The server's processor time for a join of a listener that asks for no sound, in milliseconds.
    pub server_cpu_ms_per_join: Option<f64>,
}

/// What the server's process used.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServerUsage {
    /// Processor time per delivered packet, in microseconds; none where nothing was asked for.
    pub cpu_us_per_packet: Option<f64>,
    /// That part of it which the kernel used to send, to receive and to wake: a machine's own floor.
    pub kernel_us_per_packet: Option<f64>,
    /// Share of one core.
    pub cpu_share: f64,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// The same per listener, all of it.
    pub resident_bytes_per_listener: u64,
}

impl Report {
    /// Sums up, without the server's part.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts of packets are far below 2^52")]
    pub(super) fn new(listeners: u32, duration: Duration, heard: &Heard) -> Self {
        Self {
            listeners,
            churn: 0,
            relayed: false,
            joined: heard.join.len(),
            failed: heard.failures,
            first_failure: heard.first_failure().map(str::to_owned),
            seconds: duration.as_secs_f64(),
            join_ms: percentiles(&heard.join),
            first_packet_ms: percentiles(&heard.first),
            packets: heard.gaps.packets,
            expected: heard.gaps.packets + heard.lost,
            lost: heard.lost,
            late: heard.late,
            silent: heard.silent,
            gap_error_ms: [
                heard.gaps.below(0.5),
                heard.gaps.below(0.99),
                heard.gaps.below(0.999),
                heard.gaps.worst as f64 / 1000.0,
            ],
            by_second: None,
            server: None,
            server_cpu_ms_per_join: None,
        }
    }
}

impl ServerUsage {
    /// What delivering to `listeners` at a time has cost.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts of packets are far below 2^52")]
    pub(super) fn new(usage: &Usage, heard: &Heard, listeners: u32) -> Self {
        let alive = u64::try_from(heard.join.len()).unwrap_or(u64::MAX).clamp(1, u64::from(listeners));
        let packets = heard.gaps.packets;
        let each = |used: Duration| (packets > 0).then(|| used.as_secs_f64() * 1e6 / packets as f64);
        Self {
            cpu_us_per_packet: each(usage.cpu),
            kernel_us_per_packet: each(usage.kernel),
            cpu_share: usage.cpu.as_secs_f64() / usage.took.as_secs_f64().max(1e-9),
            resident_bytes: usage.resident,
            resident_bytes_per_listener: usage.resident / alive,
        }
    }
}

pub(super) fn percentiles(times: &[Duration]) -> [f64; 3] {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = |share: usize| {
        sorted.get((sorted.len() * share).div_ceil(100).saturating_sub(1)).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    [at(50), at(99), at(100)]
}

impl fmt::Display for Report {
    #[expect(clippy::cast_precision_loss, reason = "bytes of memory are far below 2^52")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { joined, listeners, failed, seconds, packets, expected, lost, late, silent, .. } = self;
        writeln!(f, "listeners          {joined} of {listeners} joined, {failed} failures, {seconds:.0} s measured")?;
        if let Some(error) = &self.first_failure {
            writeln!(f, "first failure      {error}")?;
        }
        let [median, p99, worst] = self.join_ms;
        writeln!(f, "join               median {median:.1} ms, p99 {p99:.1} ms, worst {worst:.1} ms")?;
        let [median, p99, worst] = self.first_packet_ms;
        writeln!(f, "start to packet    median {median:.1} ms, p99 {p99:.1} ms, worst {worst:.1} ms")?;
        writeln!(
            f,
            "packets            {packets} of {expected}, {lost} lost, {late} late, {silent} silent in the sample"
        )?;
        let [median, p99, p999, worst] = self.gap_error_ms;
        writeln!(
            f,
            "gap error          median {median:.2} ms, p99 {p99:.2} ms, p99.9 {p999:.2} ms, worst {worst:.2} ms"
        )?;
        if let Some(BySecond { gap_error_p99_ms: [tenth, half, most], cpu_us_per_packet }) = &self.by_second {
            write!(f, "by the second      gap error p99 {tenth:.2}, {half:.2}, {most:.2} ms")?;
            if let Some([tenth, half, most]) = cpu_us_per_packet {
                write!(f, "; server CPU {tenth:.2}, {half:.2}, {most:.2} us per delivered packet")?;
            }
            writeln!(f, " (a tenth, half and nine tenths of the seconds stay below)")?;
        }
        if let Some(server) = &self.server {
            let share = server.cpu_share * 100.0;
            let each = server
                .cpu_us_per_packet
                .zip(server.kernel_us_per_packet)
                .map(|(each, kernel)| format!("{each:.2} us per delivered packet ({kernel:.2} of it in the kernel), "));
            writeln!(f, "server CPU         {}{share:.1} % of a core", each.unwrap_or_default())?;
            let kib = |bytes: u64| bytes as f64 / 1024.0;
            writeln!(
                f,
                "server memory      {:.1} MiB, {:.0} KiB per listener",
                kib(server.resident_bytes) / 1024.0,
                kib(server.resident_bytes_per_listener)
            )?;
        }
        if let Some(each) = self.server_cpu_ms_per_join {
            writeln!(f, "server CPU         {each:.2} ms per join")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_and_losses_are_counted() {
        let mut heard = Heard::default();
        heard.join(Duration::from_millis(5));
        for _ in 0..98 {
            heard.packet(Duration::from_millis(20), 0);
        }
        heard.packet(Duration::from_millis(23), 0);
        heard.packet(Duration::from_millis(41), 1);
        let report = Report::new(2, Duration::from_secs(2), &heard);
        assert_eq!((report.joined, report.packets, report.lost, report.expected), (1, 100, 1, 101));
        assert!((report.gap_error_ms[0] - 0.01).abs() < 1e-9, "{report:?}");
        assert!((report.gap_error_ms[1] - 1.01).abs() < 1e-9, "{report:?}");
        assert!((report.gap_error_ms[3] - 3.0).abs() < 1e-9, "{report:?}");
        let lost = |heard: &Heard| Report::new(2, Duration::from_secs(2), heard).lost;
        heard.late(false);
        assert_eq!(lost(&heard), 1, "it came twice");
        heard.late(true);
        assert_eq!(lost(&heard), 0);
        heard.ended(Duration::from_millis(199));
        assert_eq!(lost(&heard), 0, "it is under way");
        heard.ended(Duration::from_millis(1_019));
        assert_eq!(lost(&heard), 50);
    }

    #[test]
    fn what_came_since_is_counted_alone() {
        let mut heard = Heard::default();
        for _ in 0..20 {
            heard.packet(Duration::from_millis(20), 0);
        }
        let before = heard.gaps().clone();
        for _ in 0..10 {
            heard.packet(Duration::from_millis(21), 0);
        }
        let since = heard.gaps().since(&before);
        assert_eq!(since.packets(), 10);
        assert!((since.below(1.0) - 1.01).abs() < 1e-9, "{since:?}");
        assert!((heard.gaps().below(0.5) - 0.01).abs() < 1e-9);
    }
}

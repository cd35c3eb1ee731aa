//! A run by the second. A machine that others share is slow in some seconds and not in others, which a mean over all does not tell from a
//! server that is slow.

use std::time::Duration;

use serde::Serialize;

use super::report::Gaps;

/// How the seconds of a run differ: of each figure, what a tenth, half and nine tenths of the seconds stay below.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BySecond {
    /// The gap error that 99 of 100 packets of the second stay below, in milliseconds.
    pub gap_error_p99_ms: [f64; 3],
    /// The server's processor time per delivered packet, in microseconds, when its pid was given.
    pub cpu_us_per_packet: Option<[f64; 3]>,
}

/// Looks once a second at what is counted from the beginning.
#[derive(Debug)]
pub struct Seconds {
    looks: usize,
    cpu: Option<Duration>,
    gaps: Gaps,
    costs: Vec<f64>,
    errors: Vec<f64>,
}

impl Seconds {
    /// Begins with what the server has used and what was heard so far.
    #[must_use]
    pub fn new(cpu: Option<Duration>, gaps: Gaps) -> Self {
        Self { looks: 0, cpu, gaps, costs: Vec::new(), errors: Vec::new() }
    }

    /// A second has passed. One in which nothing was heard tells nothing.
    #[expect(clippy::cast_precision_loss, reason = "packets of a second are far fewer than 2^52")]
    pub fn look(&mut self, cpu: Option<Duration>, gaps: Gaps) {
        self.looks += 1;
        let heard = gaps.since(&self.gaps);
        if heard.packets() > 0 {
            self.errors.push(heard.below(0.99));
            if let Some((now, before)) = cpu.zip(self.cpu) {
                self.costs.push(now.saturating_sub(before).as_secs_f64() * 1e6 / heard.packets() as f64);
            }
        }
        (self.cpu, self.gaps) = (cpu, gaps);
    }

    /// How many seconds have passed.
    #[must_use]
    pub fn looks(&self) -> usize {
        self.looks
    }

    /// Sums up; `None` where nothing was heard.
    #[must_use]
    pub fn sum_up(mut self) -> Option<BySecond> {
        let gap_error_p99_ms = tenths(&mut self.errors)?;
        Some(BySecond { gap_error_p99_ms, cpu_us_per_packet: tenths(&mut self.costs) })
    }
}

/// What a tenth, half and nine tenths of the values are at most.
fn tenths(values: &mut [f64]) -> Option<[f64; 3]> {
    values.sort_by(f64::total_cmp);
    let at = |tenths: usize| values.get((values.len() * tenths).div_ceil(10).checked_sub(1)?).copied();
    Some([at(1)?, at(5)?, at(9)?])
}

#[cfg(test)]
mod tests {
    use super::super::report::Heard;
    use super::*;

    /// A run of so many seconds: packets come `late` milliseconds too late, and each costs so many microseconds.
    fn run(seconds: impl IntoIterator<Item = (u64, u64, u64)>) -> Option<BySecond> {
        let (mut heard, mut cpu) = (Heard::default(), Duration::from_secs(7));
        let mut looks = Seconds::new(Some(cpu), heard.gaps().clone());
        for (packets, late, cost) in seconds {
            for _ in 0..packets {
                heard.packet(Duration::from_millis(20 + late), 0);
                cpu += Duration::from_micros(cost);
            }
            looks.look(Some(cpu), heard.gaps().clone());
        }
        looks.sum_up()
    }

    fn are(found: [f64; 3], wanted: [f64; 3]) -> bool {
        found.iter().zip(wanted).all(|(found, wanted)| (found - wanted).abs() < 1e-6)
    }

    #[test]
    fn seconds_are_told_apart() {
        // Seven as usual, two slow ones and a quick one, each alone, whatever came before. One without sound does not count.
        let seconds = [(50, 2, 3); 7].into_iter().chain([(9, 4, 6), (5, 1, 2), (0, 0, 0), (9, 4, 6)]);
        let told = run(seconds).expect("sound was heard");
        assert!(are(told.gap_error_p99_ms, [1.01, 2.01, 4.01]), "{told:?}");
        assert!(are(told.cpu_us_per_packet.expect("the pid is known"), [2.0, 3.0, 6.0]), "{told:?}");
    }

    #[test]
    fn a_run_without_sound_or_without_a_pid_tells_what_it_can() {
        assert_eq!(run([(0, 0, 0); 3]), None);
        assert_eq!(run([]), None);
        let mut heard = Heard::default();
        let mut looks = Seconds::new(None, heard.gaps().clone());
        heard.packet(Duration::from_millis(20), 0);
        looks.look(None, heard.gaps().clone());
        assert_eq!(looks.looks(), 1);
        let told = looks.sum_up().expect("sound was heard");
        assert_eq!(told.cpu_us_per_packet, None);
    }
}

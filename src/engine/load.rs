//! Whether a worker can take more listeners, by how long it takes to play a turn of audio to those it has. Pure; time is passed in.

use std::time::{Duration, Instant};

/// A worker that needs more than this of each turn's 20 ms takes nobody in: what is left is for checks, reports, handshakes and hiccups.
/// With 17 ms, a turn in a hundred began before the last one had ended.
const STRAINED: Duration = Duration::from_millis(15);
/// It takes listeners in again when it needs less than this.
const RELAXED: Duration = Duration::from_millis(13);
/// The mean runs over about so many turns: a third of a second.
const TURNS: u32 = 16;
/// Without a turn for so long there is no load.
const QUIET: Duration = Duration::from_secs(1);

/// The load of one worker.
#[derive(Debug, Default)]
pub struct Load {
    mean: Duration,
    strained: bool,
    last: Option<Instant>,
}

impl Load {
    /// A turn of audio has been played to all, in this time.
    pub fn turn(&mut self, took: Duration, now: Instant) {
        if self.last.is_none_or(|last| now.saturating_duration_since(last) >= QUIET) {
            *self = Self::default();
        }
        self.last = Some(now);
        self.mean = (self.mean * (TURNS - 1) + took) / TURNS;
        self.strained = self.mean > if self.strained { RELAXED } else { STRAINED };
    }

    /// Whether newcomers would cost those who listen.
    #[must_use]
    pub fn is_strained(&self, now: Instant) -> bool {
        self.strained && self.last.is_some_and(|last| now.saturating_duration_since(last) < QUIET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::net::{ms, zero};

    fn turns(load: &mut Load, now: &mut Instant, count: u32, took: Duration) -> bool {
        for _ in 0..count {
            *now += ms(20);
            load.turn(took, *now);
        }
        load.is_strained(*now)
    }

    #[test]
    fn a_hiccup_is_no_strain_and_a_lasting_load_is() {
        let (mut load, mut now) = (Load::default(), zero());
        assert!(!load.is_strained(now));
        assert!(!turns(&mut load, &mut now, 100, ms(12)));
        assert!(!turns(&mut load, &mut now, 1, ms(60)), "one slow turn is a hiccup");
        assert!(!turns(&mut load, &mut now, 50, ms(12)));
        assert!(turns(&mut load, &mut now, 50, ms(19)));
        assert!(turns(&mut load, &mut now, 100, ms(14)), "not enough to take more in");
        assert!(!turns(&mut load, &mut now, 100, ms(10)));
    }

    #[test]
    fn silence_is_no_load() {
        let (mut load, mut now) = (Load::default(), zero());
        assert!(turns(&mut load, &mut now, 100, ms(20)));
        assert!(!load.is_strained(now + QUIET));
        now += QUIET;
        assert!(!turns(&mut load, &mut now, 1, ms(20)), "it begins anew");
    }
}

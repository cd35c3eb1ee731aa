//! Whether a worker can take more listeners, by how long it takes to play a turn of audio to those it has. Pure; time is passed in.

use std::time::{Duration, Instant};

/// A worker takes nobody in when nearly all of its turns fit into this, of the 20 ms from one to the next, and no more than that would.
const STRAINED: Duration = Duration::from_millis(19);
/// It takes listeners in again when they fit into this.
const RELAXED: Duration = Duration::from_millis(17);
/// Nearly all: those that take longer than the mean by no more than so many times the mean deviation.
const DEVIATIONS: u32 = 2;
/// A turn that takes longer counts as this: one hiccup is no load.
const LONGEST: Duration = Duration::from_millis(25);
/// Mean and deviation run over about so many turns: a third of a second.
const TURNS: u32 = 16;
/// Without a turn for so long there is no load.
const QUIET: Duration = Duration::from_secs(1);

/// The load of one worker.
#[derive(Debug, Default)]
pub struct Load {
    mean: Duration,
    /// Mean of the distances from the mean.
    deviation: Duration,
    /// How many turns they are of, up to [`TURNS`].
    turns: u32,
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
        // As TCP estimates how long an answer takes (RFC 6298 section 2).
        let took = took.min(LONGEST);
        let before = self.turns.min(TURNS - 1);
        self.turns = before + 1;
        let distance = if before == 0 { Duration::ZERO } else { took.abs_diff(self.mean) };
        self.deviation = (self.deviation * before + distance) / self.turns;
        self.mean = (self.mean * before + took) / self.turns;
        let limit = if self.strained { RELAXED } else { STRAINED };
        self.strained = self.turns == TURNS && self.mean + self.deviation * DEVIATIONS > limit;
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
        assert!(turns(&mut load, &mut now, 50, ms(20)));
        assert!(turns(&mut load, &mut now, 100, ms(18)), "not enough to take more in");
        assert!(!turns(&mut load, &mut now, 100, ms(10)));
    }

    #[test]
    fn even_turns_may_fill_nearly_all_of_the_time_and_uneven_ones_may_not() {
        let (mut even, mut uneven, mut now) = (Load::default(), Load::default(), zero());
        for turn in 0..100 {
            now += ms(20);
            even.turn(ms(18), now);
            uneven.turn(ms(if turn % 2 == 0 { 12 } else { 18 }), now);
        }
        assert!(!even.is_strained(now));
        assert!(uneven.is_strained(now));
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

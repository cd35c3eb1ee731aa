//! When frames are due: pure arithmetic on a grid of 20 ms. It neither sleeps nor reads a clock.

use std::time::{Duration, Instant};

/// Length of a frame.
pub const FRAME_TIME: Duration = Duration::from_millis(20);

/// Frames that may leave at once after a late wake-up. More would only fill jitter buffers, and be heard as delay ever after.
pub const MAX_BURST: u64 = 3;

/// How much later than due something was done.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Lateness(pub Duration);

/// Frame n is due at start + n x 20 ms, for ever: errors of single wake-ups do not add up.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    start: Instant,
}

impl Grid {
    /// The grid whose frame 0 is due at `start`.
    #[must_use]
    pub const fn new(start: Instant) -> Self {
        Self { start }
    }

    /// When `frame` is due.
    #[must_use]
    pub fn due(&self, frame: u64) -> Instant {
        // 64 bits of nanoseconds last for 584 years.
        self.start + Duration::from_nanos(frame * 20_000_000)
    }

    /// The first frame that is due later than `now`.
    #[must_use]
    pub fn frame_after(&self, now: Instant) -> u64 {
        let Some(elapsed) = now.checked_duration_since(self.start) else {
            return 0;
        };
        // Fifty frames a second, and whole ones within it.
        let passed = elapsed.as_secs() * 50 + u64::from(elapsed.subsec_millis() / 20);
        passed + 1
    }
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Beat {
    /// Nothing, until this moment.
    Wait(Instant),
    /// Send this frame; then ask again.
    Due(Due),
}

/// A frame whose time has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Due {
    /// Its number on the grid.
    pub frame: u64,
    /// When it should have left.
    pub at: Instant,
    /// Frames before it that are given up, because they are too late.
    pub skipped: u64,
}

/// Walks a grid frame by frame; catches up after a late wake-up, but by no more than [`MAX_BURST`] frames.
#[derive(Debug)]
pub struct Pace {
    grid: Grid,
    next: u64,
}

impl Pace {
    /// Begins at frame 0 of `grid`.
    #[must_use]
    pub const fn new(grid: Grid) -> Self {
        Self { grid, next: 0 }
    }

    /// The next frame if it is due at `now`, else when it will be.
    pub fn poll(&mut self, now: Instant) -> Beat {
        let overdue = self.grid.frame_after(now).saturating_sub(self.next);
        if overdue == 0 {
            return Beat::Wait(self.grid.due(self.next));
        }
        let skipped = overdue.saturating_sub(MAX_BURST);
        let frame = self.next + skipped;
        self.next = frame + 1;
        Beat::Due(Due { frame, at: self.grid.due(frame), skipped })
    }

    /// After a rest on purpose: the next frame is the first one later than `now`, and none counts as skipped.
    pub fn resume(&mut self, now: Instant) {
        self.next = self.next.max(self.grid.frame_after(now));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The tests' only moment; all others are distances from it.
    fn origin() -> Instant {
        crate::tests::net::zero()
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Every frame that leaves at `now`.
    fn burst(pace: &mut Pace, now: Instant) -> Vec<Due> {
        std::iter::from_fn(|| match pace.poll(now) {
            Beat::Due(due) => Some(due),
            Beat::Wait(_) => None,
        })
        .collect()
    }

    #[test]
    fn frames_are_due_every_20_ms_from_the_start() {
        let start = origin();
        let mut pace = Pace::new(Grid::new(start));
        assert_eq!(pace.poll(start), Beat::Due(Due { frame: 0, at: start, skipped: 0 }));
        assert_eq!(pace.poll(start), Beat::Wait(start + ms(20)));
        assert_eq!(pace.poll(start + ms(19)), Beat::Wait(start + ms(20)));
        assert_eq!(pace.poll(start + ms(23)), Beat::Due(Due { frame: 1, at: start + ms(20), skipped: 0 }));
        assert_eq!(pace.poll(start + ms(23)), Beat::Wait(start + ms(40)));
    }

    #[test]
    fn a_late_wake_up_sends_three_frames_and_skips_the_older_ones() {
        let start = origin();
        let mut pace = Pace::new(Grid::new(start));
        let sent = burst(&mut pace, start + ms(205));
        assert_eq!(sent.iter().map(|due| due.frame).collect::<Vec<_>>(), [8, 9, 10]);
        assert_eq!(sent.iter().map(|due| due.skipped).collect::<Vec<_>>(), [8, 0, 0]);
    }

    #[test]
    fn a_rest_skips_nothing_and_comes_back_to_the_grid() {
        let start = origin();
        let mut pace = Pace::new(Grid::new(start));
        pace.resume(start + ms(1_003));
        assert_eq!(pace.poll(start + ms(1_003)), Beat::Wait(start + ms(1_020)));
        pace.resume(start);
        assert_eq!(pace.poll(start + ms(1_003)), Beat::Wait(start + ms(1_020)), "it never goes back");
    }

    #[test]
    fn a_month_later_the_grid_has_not_moved() {
        let start = origin();
        let frames = 30 * 24 * 3_600 * 50;
        assert_eq!(Grid::new(start).due(frames), start + Duration::from_secs(30 * 24 * 3_600));
        assert_eq!(Grid::new(start).frame_after(start + Duration::from_secs(30 * 24 * 3_600)), frames + 1);
    }

    proptest! {
        #[test]
        fn whatever_the_wake_ups(naps in prop::collection::vec(0_u64..200_000, 1..300)) {
            let start = origin();
            let grid = Grid::new(start);
            let mut pace = Pace::new(grid);
            let (mut now, mut next) = (start, 0);
            for nap in naps {
                now += Duration::from_micros(nap);
                let sent = burst(&mut pace, now);
                prop_assert!(sent.len() <= 3);
                for due in sent {
                    prop_assert_eq!(due.frame, next + due.skipped, "every frame is either sent or counted as skipped");
                    prop_assert_eq!(due.at, grid.due(due.frame));
                    prop_assert!(due.at <= now, "never early");
                    prop_assert!(now - due.at < FRAME_TIME * 3, "never later than the burst allows");
                    next = due.frame + 1;
                }
                prop_assert!(grid.due(next) > now, "nothing that is due stays behind");
            }
        }
    }
}

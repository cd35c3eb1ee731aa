//! One moment on both clocks. The time of day is what others know as well; it is set now and then. The monotonic time is nobody else's, and
//! stands still while the machine sleeps.

use std::time::{Duration, Instant};

/// What the clocks may differ by from one moment to another without a leap: whole seconds are counted.
const APART: Duration = Duration::from_secs(5);

/// A moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Moment {
    /// The monotonic time.
    pub now: Instant,
    /// The time of day, in seconds since 1970.
    pub unix: u64,
}

impl Moment {
    /// Whether the time of day was set since an earlier moment, or the machine slept: what others gave us for a time may have ended.
    #[must_use]
    pub fn has_leapt_since(&self, earlier: &Self) -> bool {
        let elapsed = self.now.saturating_duration_since(earlier.now);
        let expected = Duration::from_secs(earlier.unix).saturating_add(elapsed);
        Duration::from_secs(self.unix).abs_diff(expected) > APART
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::net::{secs, zero};

    #[test]
    fn a_leap_is_told_from_the_seconds_that_pass() {
        let at = |seconds, unix| Moment { now: zero() + secs(seconds), unix };
        let before = at(100, 1_000);
        for (seconds, unix, has_leapt) in [
            (100, 1_000, false),
            (86_500, 87_400, false),
            (100, 1_005, false),
            (160, 1_055, false),
            (100, 1_006, true),
            (160, 1_054, true),
            (100, 29_800, true),
            (100, 1_790_000_000, true),
            (160, 0, true),
        ] {
            assert_eq!(at(seconds, unix).has_leapt_since(&before), has_leapt, "{seconds} {unix}");
        }
    }
}

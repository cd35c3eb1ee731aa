//! The only clock: everybody else is handed `now`. It refuses to be set.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::engine::moment::Moment;

/// How often who waits looks whether the time of day has leapt.
const LOOK: Duration = Duration::from_secs(10);

/// Reads monotonic time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// The time now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this file is the one clock")]
    pub fn now(self) -> Instant {
        Instant::now()
    }

    /// The time of day, as the kernel stamps packets.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this file is the one clock")]
    pub fn wall(self) -> SystemTime {
        SystemTime::now()
    }

    /// The same moment on both.
    #[must_use]
    pub fn moment(self) -> Moment {
        let unix = self.wall().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Moment { now: self.now(), unix }
    }

    /// Waits until `until`, or until the time of day has leapt since `since`.
    pub async fn wait(self, since: Moment, until: Instant) {
        loop {
            let at = self.moment();
            if at.now >= until || at.has_leapt_since(&since) {
                return;
            }
            tokio::time::sleep_until(until.min(at.now + LOOK).into()).await;
        }
    }
}

/// Fills `bytes` from the system's cryptographic source.
///
/// # Panics
/// When the system has none: nothing can be secret then, and going on would be worse.
pub fn entropy(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the system has a source of randomness");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix::test]
    async fn a_wait_ends_in_time_or_with_a_leap() {
        let at = Clock.moment();
        let an_hour = at.now + Duration::from_secs(3600);
        for (since, until) in [(at, at.now), (Moment { unix: at.unix - 60, ..at }, an_hour)] {
            let waited = tokio::time::timeout(LOOK, Clock.wait(since, until)).await;
            assert!(waited.is_ok(), "{since:?} {until:?}");
        }
    }
}

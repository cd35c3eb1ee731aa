//! The only clock: everybody else is handed `now`. It refuses to be set.

use std::time::{Instant, SystemTime};

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
}

/// Fills `bytes` from the system's cryptographic source.
///
/// # Panics
/// When the system has none: nothing can be secret then, and going on would be worse.
pub fn entropy(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the system has a source of randomness");
}

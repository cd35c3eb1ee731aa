//! What somebody may spend: so much at once, and so much a second for ever. It reads no clock.

use std::time::Instant;

/// A purse that fills by itself.
#[derive(Debug)]
pub struct Budget {
    /// At most; it is full in the beginning.
    burst: u32,
    /// A second.
    rate: u32,
    left: u32,
    filled: Instant,
}

impl Budget {
    /// A full one.
    #[must_use]
    pub const fn new(burst: u32, rate: u32, now: Instant) -> Self {
        Self { burst, rate, left: burst, filled: now }
    }

    /// Takes so much, if it is there; otherwise nothing.
    #[must_use]
    pub fn spend(&mut self, cost: u32, now: Instant) -> bool {
        let earned = now.saturating_duration_since(self.filled).as_millis() * u128::from(self.rate) / 1000;
        if earned > 0 {
            self.left = u32::try_from(earned).unwrap_or(self.burst).saturating_add(self.left).min(self.burst);
            self.filled = now;
        }
        self.left.checked_sub(cost).map(|left| self.left = left).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::net::{ms, secs, zero};

    #[test]
    fn a_burst_passes_and_then_a_rate() {
        let mut budget = Budget::new(10, 4, zero());
        assert!(budget.spend(7, zero()) && !budget.spend(4, zero()), "what is refused costs nothing");
        assert!(budget.spend(3, zero()) && !budget.spend(1, zero()));
        assert!(!budget.spend(1, zero() + ms(249)) && budget.spend(1, zero() + ms(250)));
        assert!(!budget.spend(1, zero() + ms(251)) && budget.spend(4, zero() + ms(1250)));
        assert!(
            budget.spend(10, zero() + secs(1000)) && !budget.spend(1, zero() + secs(1000)),
            "it holds no more than a burst"
        );
        assert!(!budget.spend(1, zero()), "time does not go back");
    }
}

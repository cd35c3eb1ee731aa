//! What somebody may spend: so much at once, and so much a second for ever. It reads no clock.

use std::time::{Duration, Instant};

/// A purse that fills by itself.
#[derive(Debug)]
pub struct Budget {
    /// At most; it is full in the beginning.
    burst: u32,
    /// A second.
    rate: u32,
    left: u32,
    /// Until when all that was earned has been paid out.
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
        let earned = now.saturating_duration_since(self.filled).as_micros() * u128::from(self.rate) / 1_000_000;
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        if earned >= self.burst - self.left {
            self.left = self.burst;
            self.filled = self.filled.max(now);
        } else {
            self.left += earned;
            // What has been earned of the next one is kept, or whoever comes often would earn less.
            self.filled += Duration::from_micros((u64::from(earned) * 1_000_000).div_ceil(u64::from(self.rate)));
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
        assert!(!budget.spend(1, zero() + ms(1499)) && budget.spend(1, zero() + ms(1500)));
        assert!(
            budget.spend(10, zero() + secs(1000)) && !budget.spend(1, zero() + secs(1000)),
            "it holds no more than a burst"
        );
        assert!(!budget.spend(1, zero()), "time does not go back");
    }

    #[test]
    fn who_comes_often_earns_as_much_as_who_comes_seldom() {
        for step in [7, 13, 249] {
            let mut budget = Budget::new(10, 128, zero());
            assert!(budget.spend(10, zero()));
            let times = (1..).map(|turn| turn * step).take_while(|at| *at <= 10_000);
            let spent = times.map(|at| u32::from(budget.spend(1, zero() + ms(at)))).sum::<u32>();
            // No more than one for each time.
            let most = u32::try_from(10_000 / step).expect("few").min(1280);
            assert!(spent.abs_diff(most) <= 1, "{spent} of {most}, each {step} ms");
        }
    }
}

//! How often strangers are answered: so many times a second for each network, with some in reserve. Bounded, and nothing is kept of
//! those who asked little.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::engine::access::ClientAddr;

/// Answers to one network that are due each second: a carrier's NAT full of clients that join.
pub const RATE: u32 = 200;
/// Answers that it may have at once.
pub const BURST: u32 = 800;
/// Networks that are remembered; past that nobody new is answered until some have been quiet.
const NETWORKS: usize = 16_384;
/// How often the quiet ones are looked for when there are too many: not for each stranger.
const SWEEP: Duration = Duration::from_secs(1);
/// One answer's share of a second.
const SHARE: Duration = Duration::from_nanos(1_000_000_000 / RATE as u64);
/// Who has waited so long has all its answers again.
const FULL: Duration = SHARE.saturating_mul(BURST);

/// Who has been answered lately.
#[derive(Debug, Default)]
pub struct Limiter {
    /// When each network will have all its answers again. Strangers choose the keys, and the standard hasher is keyed.
    full: HashMap<IpAddr, Instant>,
    swept: Option<Instant>,
}

impl Limiter {
    /// Whether this client may be answered once more.
    #[must_use]
    pub fn admits(&mut self, client: ClientAddr, now: Instant) -> bool {
        let network = client.prefix();
        if self.full.len() >= NETWORKS && !self.full.contains_key(&network) {
            if self.swept.is_none_or(|swept| now >= swept + SWEEP) {
                self.forget(now);
            }
            if self.full.len() >= NETWORKS {
                return false;
            }
        }
        let full = self.full.entry(network).or_insert(now);
        let next = (*full).max(now) + SHARE;
        let admitted = next <= now + FULL;
        if admitted {
            *full = next;
        }
        admitted
    }

    /// Forgets those who have all their answers again.
    pub fn forget(&mut self, now: Instant) {
        self.swept = Some(now);
        self.full.retain(|_, full| *full > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::net::{ms, secs, zero};

    fn addr(number: u32) -> ClientAddr {
        ClientAddr::new(IpAddr::from(number.to_be_bytes()))
    }

    #[test]
    fn a_network_is_answered_so_often_and_its_neighbour_too() {
        let mut limiter = Limiter::default();
        let mut answered = |addr, now| (0..2 * BURST).filter(|_| limiter.admits(addr, now)).count();
        assert_eq!(answered(addr(1), zero()), BURST as usize);
        assert_eq!(answered(addr(2), zero()), BURST as usize);
        assert_eq!(answered(addr(1), zero() + ms(500)), RATE as usize / 2);
        assert_eq!(answered(addr(1), zero() + secs(60)), BURST as usize);
    }

    #[test]
    fn a_crowd_of_networks_does_not_grow_it() {
        let mut limiter = Limiter::default();
        let admitted = (0..40_000).filter(|number| limiter.admits(addr(*number), zero())).count();
        assert_eq!((admitted, limiter.full.len()), (NETWORKS, NETWORKS));
        assert!(limiter.admits(addr(7), zero()), "who was known is answered on");
        // All but one have been quiet for long enough, and nobody looks for them yet.
        assert!(!limiter.admits(addr(50_000), zero() + ms(999)), "a crowd costs one look a second");
        assert!(limiter.admits(addr(50_000), zero() + secs(1)), "the quiet ones are forgotten");
        limiter.forget(zero() + secs(9));
        assert!(limiter.full.is_empty());
    }
}

//! Counts wrong tokens per client address, so that nobody guesses one. It remembers a bounded number of addresses, reads no clock,
//! and keeps no token.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::access::ClientAddr;

/// Different wrong tokens that an address has within [`WINDOW`]: a person's typing errors fit, a guesser's list does not.
pub const LIMIT: usize = 10;

/// Counted from an address's first wrong token.
pub const WINDOW: Duration = Duration::from_secs(60);

/// Addresses that are remembered, in about 1 MiB at most. Who owns more networks than this can push the oldest out, and still has
/// only [`LIMIT`] tries for each.
pub const CAPACITY: usize = 4096;

/// The address had its wrong tokens; even a right one is refused until the window has passed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TooMany {
    /// In so many seconds the window will have passed: rounded up, or who waits for them comes too early.
    pub seconds: u64,
}

/// The wrong tokens of the last minute.
#[derive(Debug)]
pub struct Attempts {
    /// Keys are picked by strangers: the standard hasher is keyed, and `capacity` bounds it.
    clients: HashMap<IpAddr, Tries>,
    /// Each client once, in the order of its window's start.
    order: VecDeque<IpAddr>,
    /// Start of the youngest window.
    latest: Option<Instant>,
    capacity: usize,
    /// Keyed anew in each run.
    hasher: RandomState,
}

#[derive(Clone, Debug)]
struct Tries {
    since: Instant,
    /// Hashes of what was presented, [`LIMIT`] at most. Many who retry with the same old token have guessed once.
    wrong: Vec<u64>,
}

impl Tries {
    fn left(&self, now: Instant) -> Duration {
        WINDOW.saturating_sub(now.saturating_duration_since(self.since))
    }
}

impl Default for Attempts {
    fn default() -> Self {
        Self::new()
    }
}

impl Attempts {
    /// Nobody has tried yet; up to [`CAPACITY`] addresses.
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(CAPACITY)
    }

    fn with_capacity(capacity: usize) -> Self {
        Self { clients: HashMap::new(), order: VecDeque::new(), latest: None, capacity, hasher: RandomState::new() }
    }

    /// Counts a wrong token, unless this address has presented the same one in its window before.
    pub fn wrong(&mut self, addr: ClientAddr, token: &str, now: Instant) {
        // Callers on several threads may hand in times that are a little out of order; the windows stay in order all the same.
        let now = self.latest.map_or(now, |latest| latest.max(now));
        self.forget_passed(now);
        let key = addr.prefix();
        let hash = self.hasher.hash_one(token);
        if let Some(tries) = self.clients.get_mut(&key) {
            if tries.wrong.len() < LIMIT && !tries.wrong.contains(&hash) {
                tries.wrong.push(hash);
            }
            return;
        }
        if self.order.len() >= self.capacity {
            self.forget_oldest();
        }
        self.latest = Some(now);
        self.order.push_back(key);
        self.clients.insert(key, Tries { since: now, wrong: vec![hash] });
    }

    /// To be asked before a token is looked at.
    ///
    /// # Errors
    /// [`TooMany`] while the address's window lasts, once it holds [`LIMIT`] wrong tokens.
    pub fn check(&self, addr: ClientAddr, now: Instant) -> Result<(), TooMany> {
        let tries = self.clients.get(&addr.prefix()).filter(|tries| tries.wrong.len() >= LIMIT);
        let left = tries.map(|tries| tries.left(now)).unwrap_or_default();
        if left.is_zero() {
            return Ok(());
        }
        Err(TooMany { seconds: left.as_secs() + u64::from(left.subsec_nanos() > 0) })
    }

    fn forget_passed(&mut self, now: Instant) {
        while self.oldest().is_some_and(|tries| tries.left(now).is_zero()) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(key) = self.order.pop_front() {
            self.clients.remove(&key);
        }
    }

    fn oldest(&self) -> Option<&Tries> {
        self.order.front().and_then(|key| self.clients.get(key))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn start() -> Instant {
        crate::tests::net::zero()
    }

    fn client(n: u32) -> ClientAddr {
        ClientAddr::new(Ipv4Addr::from(n).into())
    }

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn the_eleventh_try_is_refused_until_the_window_has_passed() {
        let (mut attempts, t0) = (Attempts::new(), start());
        for n in 0..10 {
            assert_eq!(attempts.check(client(1), t0 + secs(n)), Ok(()));
            attempts.wrong(client(1), &n.to_string(), t0 + secs(n));
        }
        assert_eq!(attempts.check(client(1), t0 + secs(10)), Err(TooMany { seconds: 50 }));
        assert_eq!(attempts.check(client(1), t0 + MS * 10_001), Err(TooMany { seconds: 50 }));
        assert_eq!(attempts.check(client(1), t0 + MS * 59_999), Err(TooMany { seconds: 1 }));
        assert_eq!(attempts.check(client(1), t0 + WINDOW), Ok(()));
        assert_eq!(attempts.check(client(2), t0 + secs(10)), Ok(()), "others are not touched");
    }

    #[test]
    fn hammering_does_not_lengthen_the_wait_and_a_new_window_counts_anew() {
        let (mut attempts, t0) = (Attempts::new(), start());
        (0..1_000).for_each(|n| attempts.wrong(client(1), &n.to_string(), t0));
        assert_eq!(attempts.clients[&client(1).prefix()].wrong.len(), LIMIT, "no more is kept");
        attempts.wrong(client(1), "0", t0 + WINDOW);
        assert_eq!(attempts.check(client(1), t0 + WINDOW), Ok(()));
        (1..10).for_each(|n| attempts.wrong(client(1), &n.to_string(), t0 + WINDOW + secs(30)));
        assert_eq!(attempts.check(client(1), t0 + WINDOW + secs(30)), Err(TooMany { seconds: 30 }));
    }

    #[test]
    fn the_same_wrong_token_again_is_no_new_guess() {
        let (mut attempts, t0) = (Attempts::new(), start());
        (0..1_000).for_each(|_| attempts.wrong(client(1), "the old one", t0));
        (0..8).for_each(|n| attempts.wrong(client(1), &n.to_string(), t0));
        assert_eq!(attempts.check(client(1), t0), Ok(()));
        attempts.wrong(client(1), "the old one ", t0);
        assert!(attempts.check(client(1), t0).is_err(), "the tenth");
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        let (mut attempts, t0) = (Attempts::new(), start());
        let host = |net, n| ClientAddr::new(Ipv6Addr::new(0x2001, 0xdb8, 0, net, 0, 0, 0, n).into());
        (0..10).for_each(|n| attempts.wrong(host(1, n), &n.to_string(), t0));
        assert!(attempts.check(host(1, 77), t0).is_err());
        assert!(attempts.check(host(2, 77), t0).is_ok());
    }

    #[test]
    fn when_full_the_oldest_goes() {
        let (mut attempts, t0) = (Attempts::with_capacity(2), start());
        (0..10).for_each(|n| attempts.wrong(client(1), &n.to_string(), t0));
        (0..10).for_each(|n| attempts.wrong(client(2), &n.to_string(), t0 + MS));
        attempts.wrong(client(3), "0", t0 + MS * 2);
        assert!(attempts.check(client(1), t0 + secs(1)).is_ok());
        assert!(attempts.check(client(2), t0 + secs(1)).is_err());
    }

    proptest! {
        /// Under its capacity it does what one set of tokens per client would; over it, it never outgrows its bound.
        #[test]
        fn it_counts_like_a_plain_map_and_stays_bounded(
            capacity in 1_usize..12,
            steps in prop::collection::vec((0_u32..8, 0_u32..20, 0_u32..9_000), 0..400),
        ) {
            let (mut attempts, mut now) = (Attempts::with_capacity(capacity), start());
            let mut plain: HashMap<u32, (Instant, HashSet<u32>)> = HashMap::new();
            for (who, what, step) in steps {
                now += MS * step;
                attempts.wrong(client(who), &what.to_string(), now);
                let tries = plain.entry(who).or_insert((now, HashSet::new()));
                if now >= tries.0 + WINDOW {
                    *tries = (now, HashSet::new());
                }
                tries.1.insert(what);
                prop_assert!(attempts.order.len() <= capacity);
                prop_assert_eq!(attempts.order.len(), attempts.clients.len());
                for (&who, (since, wrong)) in plain.iter().filter(|_| capacity >= 8) {
                    let blocked = wrong.len() >= LIMIT && now < *since + WINDOW;
                    prop_assert_eq!(attempts.check(client(who), now).is_err(), blocked);
                }
            }
        }

        /// Several threads take the time before they take the lock.
        #[test]
        fn times_out_of_order_keep_the_windows_in_order(
            steps in prop::collection::vec((0_u32..40, 0_u32..200_000), 0..400),
        ) {
            let (mut attempts, t0) = (Attempts::with_capacity(12), start());
            for (who, at) in steps {
                attempts.wrong(client(who), "x", t0 + MS * at);
                prop_assert!(attempts.order.len() <= 12);
                prop_assert_eq!(attempts.order.len(), attempts.clients.len());
                prop_assert!(attempts.order.iter().is_sorted_by_key(|key| attempts.clients[key].since));
            }
        }
    }
}

//! When each session next wants a tick: one queue per worker instead of one timer per session, and the beat that keeps together what can
//! wait. It never reads a clock.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::wire::ids::SessionKey;

/// At most one deadline per session, the earliest that was asked for.
#[derive(Debug, Default)]
pub struct DeadlineQueue {
    order: BTreeSet<(Instant, SessionKey)>,
    armed: HashMap<SessionKey, Instant>,
}

impl DeadlineQueue {
    /// Asks for a tick at `at`. Returns whether this became the earliest of all.
    ///
    /// An earlier deadline of the same session stands: its tick comes early, and the session then asks again. So a
    /// session whose deadline moves on with every packet costs a look-up, not a re-ordering.
    pub fn arm(&mut self, key: SessionKey, at: Instant) -> bool {
        match self.armed.get(&key) {
            Some(&armed) if armed <= at => return false,
            Some(&armed) => {
                self.order.remove(&(armed, key));
            }
            None => {}
        }
        self.armed.insert(key, at);
        self.order.insert((at, key));
        self.order.first() == Some(&(at, key))
    }

    /// Forgets the session.
    pub fn disarm(&mut self, key: SessionKey) {
        if let Some(at) = self.armed.remove(&key) {
            self.order.remove(&(at, key));
        }
    }

    /// Takes one session whose deadline has come.
    pub fn pop_due(&mut self, now: Instant) -> Option<SessionKey> {
        let &(at, key) = self.order.first()?;
        if at > now {
            return None;
        }
        self.disarm(key);
        Some(key)
    }

    /// The earliest deadline.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.order.first().map(|&(at, _)| at)
    }
}

/// Times at which is done together what can wait that long: waking up costs as much as what there is to do.
#[derive(Clone, Copy, Debug)]
pub struct Beat {
    zero: Instant,
    every: Duration,
}

impl Beat {
    /// The beat that begins at `zero`, with so much from one to the next.
    #[must_use]
    pub fn new(zero: Instant, every: Duration) -> Self {
        Self { zero, every }
    }

    /// The first that is not before `at`.
    #[must_use]
    pub fn at_or_after(self, at: Instant) -> Instant {
        let since = at.saturating_duration_since(self.zero).as_nanos();
        let wait = since.next_multiple_of(self.every.as_nanos().max(1)) - since;
        at + Duration::from_nanos(u64::try_from(wait).unwrap_or_default())
    }

    /// The first after `at`.
    #[must_use]
    pub fn after(self, at: Instant) -> Instant {
        self.at_or_after(at + Duration::from_nanos(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::net::{ms, zero};

    #[test]
    fn the_beat_is_kept_wherever_one_asks() {
        let beat = Beat::new(zero(), ms(5));
        let table = [(0, 0, 5), (1, 5, 5), (4, 5, 5), (5, 5, 10), (6, 10, 10), (86_400_001, 86_400_005, 86_400_005)];
        for (at, not_before, after) in table {
            let at = zero() + ms(at);
            assert_eq!((beat.at_or_after(at), beat.after(at)), (zero() + ms(not_before), zero() + ms(after)));
        }
        let early = Beat::new(zero() + ms(100), ms(5));
        assert_eq!(early.at_or_after(zero()), zero(), "before it begins there is nothing to wait for");
    }

    #[test]
    fn sessions_come_due_in_order_and_once() {
        let zero = crate::tests::net::zero();
        let at = |ms| zero + Duration::from_millis(ms);
        let [a, b, c] = [SessionKey(1), SessionKey(2), SessionKey(3)];
        let mut queue = DeadlineQueue::default();
        assert!(queue.arm(a, at(30)));
        assert!(queue.arm(b, at(10)));
        assert!(!queue.arm(c, at(20)));
        assert!(!queue.arm(b, at(50)), "an earlier deadline stands");
        assert!(queue.arm(a, at(5)), "an earlier one replaces");
        assert_eq!(queue.next(), Some(at(5)));
        assert_eq!(queue.pop_due(at(4)), None);
        assert_eq!([queue.pop_due(at(15)), queue.pop_due(at(15)), queue.pop_due(at(15))], [Some(a), Some(b), None]);
        queue.disarm(c);
        assert_eq!((queue.next(), queue.pop_due(at(99))), (None, None));
    }
}

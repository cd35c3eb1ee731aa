//! The heavy steps of joins in line: an offer or a flight of DTLS costs as much as a hundred packets. Pure and bounded.

use std::collections::{HashMap, VecDeque};

use crate::wire::ids::SessionKey;

/// Offers that may wait on one worker: about half a second of work.
pub const OFFERS: usize = 1024;
/// Datagrams of DTLS handshakes that may wait: a few for each of those who were answered.
pub const HANDSHAKES: usize = 4096;
/// Those of one session: two flights of a long certificate chain. Whoever sends more fills its own places only.
pub const HANDSHAKES_PER_SESSION: u8 = 16;
/// Handshakes that go before an offer that waits. To end one join is worth more than to begin another, but not for ever.
const AHEAD: u8 = 8;

/// Who waits.
#[derive(Debug)]
pub struct JoinQueue<Step> {
    offers: VecDeque<Step>,
    handshakes: VecDeque<(SessionKey, Step)>,
    /// How many handshakes of each session wait.
    waiting: HashMap<SessionKey, u8>,
    /// Handshakes taken since the last offer.
    ahead: u8,
}

impl<Step> Default for JoinQueue<Step> {
    fn default() -> Self {
        Self { offers: VecDeque::new(), handshakes: VecDeque::new(), waiting: HashMap::new(), ahead: 0 }
    }
}

impl<Step> JoinQueue<Step> {
    /// Puts an offer last.
    ///
    /// # Errors
    /// Gives the step back when too many wait.
    pub fn offer(&mut self, step: Step) -> Result<(), Step> {
        if self.is_full() {
            return Err(step);
        }
        self.offers.push_back(step);
        Ok(())
    }

    /// Puts a datagram of a handshake of `key` last.
    ///
    /// # Errors
    /// Gives the step back when too many wait, of all or of this session.
    pub fn handshake(&mut self, key: SessionKey, step: Step) -> Result<(), Step> {
        let own = self.waiting.get(&key).copied().unwrap_or(0);
        if self.handshakes.len() >= HANDSHAKES || own >= HANDSHAKES_PER_SESSION {
            return Err(step);
        }
        self.waiting.insert(key, own + 1);
        self.handshakes.push_back((key, step));
        Ok(())
    }

    /// Whose turn it is.
    pub fn pop(&mut self) -> Option<Step> {
        if (self.ahead < AHEAD || self.offers.is_empty())
            && let Some((key, step)) = self.handshakes.pop_front()
        {
            self.ahead = self.ahead.saturating_add(1);
            match self.waiting.get_mut(&key) {
                Some(own) if *own > 1 => *own -= 1,
                _ => drop(self.waiting.remove(&key)),
            }
            return Some(step);
        }
        self.ahead = 0;
        self.offers.pop_front()
    }

    /// Whether another offer would be refused.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.offers.len() >= OFFERS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A session of its own for each.
    fn key(number: usize) -> SessionKey {
        SessionKey(u32::try_from(number).expect("few"))
    }

    #[test]
    fn handshakes_go_first_and_each_kind_in_its_order() {
        let mut queue = JoinQueue::default();
        for step in ["offer 1", "offer 2"] {
            queue.offer(step).expect("there is room");
        }
        for (number, step) in (0..).zip(["hello 1", "hello 2"]) {
            queue.handshake(key(number), step).expect("there is room");
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, ["hello 1", "hello 2", "offer 1", "offer 2"]);
    }

    #[test]
    fn what_does_not_fit_is_given_back() {
        let mut queue = JoinQueue::default();
        for step in 0..OFFERS {
            assert!(!queue.is_full());
            assert_eq!(queue.offer(step), Ok(()));
        }
        assert!(queue.is_full());
        assert_eq!(queue.offer(OFFERS), Err(OFFERS));
        for step in 0..HANDSHAKES {
            assert_eq!(queue.handshake(key(step), step), Ok(()), "offers take no room from handshakes");
        }
        assert_eq!(queue.handshake(key(HANDSHAKES), HANDSHAKES), Err(HANDSHAKES));
        assert_eq!(std::iter::from_fn(|| queue.pop()).count(), OFFERS + HANDSHAKES);
        assert!(!queue.is_full() && queue.waiting.is_empty());
    }

    #[test]
    fn a_flood_of_one_session_keeps_nobody_out() {
        let mut queue = JoinQueue::default();
        let flood = |queue: &mut JoinQueue<&str>| while queue.handshake(key(0), "flood").is_ok() {};
        flood(&mut queue);
        queue.handshake(key(1), "hello").expect("the flood has places of its own");
        queue.offer("offer").expect("there is room");
        let mut waited = HashMap::new();
        for turn in 0..40 {
            waited.entry(queue.pop().expect("the flood goes on")).or_insert(turn);
            flood(&mut queue);
        }
        assert_eq!(waited["offer"], usize::from(AHEAD));
        assert!(waited["hello"] <= usize::from(HANDSHAKES_PER_SESSION) + 1, "{waited:?}");
    }
}

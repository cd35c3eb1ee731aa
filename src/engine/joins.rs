//! The heavy steps of joins in line: an offer or a flight of DTLS costs as much as a hundred packets. Pure and bounded.

use std::collections::VecDeque;

/// Offers that may wait on one worker: about half a second of work.
pub const OFFERS: usize = 1024;
/// Datagrams of DTLS handshakes that may wait: a few for each of those who were answered.
pub const HANDSHAKES: usize = 4096;

/// Who waits. Handshakes go first: to end one join is worth more than to begin another.
#[derive(Debug)]
pub struct JoinQueue<Step> {
    offers: VecDeque<Step>,
    handshakes: VecDeque<Step>,
}

impl<Step> Default for JoinQueue<Step> {
    fn default() -> Self {
        Self { offers: VecDeque::new(), handshakes: VecDeque::new() }
    }
}

impl<Step> JoinQueue<Step> {
    /// Puts an offer last.
    ///
    /// # Errors
    /// Gives the step back when too many wait.
    pub fn offer(&mut self, step: Step) -> Result<(), Step> {
        push(&mut self.offers, OFFERS, step)
    }

    /// Puts a datagram of a handshake last.
    ///
    /// # Errors
    /// Gives the step back when too many wait.
    pub fn handshake(&mut self, step: Step) -> Result<(), Step> {
        push(&mut self.handshakes, HANDSHAKES, step)
    }

    /// Whose turn it is.
    pub fn pop(&mut self) -> Option<Step> {
        self.handshakes.pop_front().or_else(|| self.offers.pop_front())
    }

    /// Whether another offer would be refused.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.offers.len() >= OFFERS
    }
}

fn push<Step>(line: &mut VecDeque<Step>, most: usize, step: Step) -> Result<(), Step> {
    if line.len() >= most {
        return Err(step);
    }
    line.push_back(step);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshakes_go_first_and_each_kind_in_its_order() {
        let mut queue = JoinQueue::default();
        for step in ["offer 1", "offer 2"] {
            queue.offer(step).expect("there is room");
        }
        for step in ["hello 1", "hello 2"] {
            queue.handshake(step).expect("there is room");
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
            assert_eq!(queue.handshake(step), Ok(()), "offers take no room from handshakes");
        }
        assert_eq!(queue.handshake(HANDSHAKES), Err(HANDSHAKES));
        assert_eq!(std::iter::from_fn(|| queue.pop()).count(), OFFERS + HANDSHAKES);
        assert!(!queue.is_full());
    }
}

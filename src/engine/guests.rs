//! How many connections strangers may hold: all together, and from one address. It knows none of them.

use std::collections::HashMap;
use std::net::IpAddr;

use super::access::ClientAddr;

/// Connections for media from one address at the same time, or from one IPv6 network of a customer: an office, or a carrier's NAT.
pub const PER_ADDRESS: u32 = 1024;

/// Who is there.
#[derive(Debug)]
pub struct Guests {
    most: u32,
    per_address: u32,
    all: u32,
    /// Nobody is in here twice or with none, so `most` bounds it.
    by_prefix: HashMap<IpAddr, u32>,
}

impl Guests {
    /// Room for so many, and for so many from one address.
    #[must_use]
    pub fn new(most: u32, per_address: u32) -> Self {
        Self { most, per_address, all: 0, by_prefix: HashMap::new() }
    }

    /// One more from this address, if there is room.
    #[must_use]
    pub fn enter(&mut self, addr: ClientAddr) -> bool {
        if self.all >= self.most {
            return false;
        }
        let here = self.by_prefix.entry(addr.prefix()).or_default();
        if *here >= self.per_address {
            return false;
        }
        *here += 1;
        self.all += 1;
        true
    }

    /// One who had entered goes.
    pub fn leave(&mut self, addr: ClientAddr) {
        let prefix = addr.prefix();
        if let Some(here) = self.by_prefix.get_mut(&prefix) {
            self.all -= 1;
            *here -= 1;
            if *here == 0 {
                self.by_prefix.remove(&prefix);
            }
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.all
    }

    /// Whether there is nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> ClientAddr {
        ClientAddr::new(text.parse().expect("an address"))
    }

    #[test]
    fn an_address_has_its_share_and_all_have_theirs() {
        let mut guests = Guests::new(2 * PER_ADDRESS, PER_ADDRESS);
        let [a, b, c] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(addr);
        assert!((0..PER_ADDRESS).all(|_| guests.enter(a)));
        assert!(!guests.enter(a) && guests.enter(b));
        assert!((1..PER_ADDRESS).all(|_| guests.enter(b)));
        assert!(!guests.enter(c), "the house is full");
        guests.leave(a);
        guests.leave(c);
        assert!(guests.enter(c) && !guests.enter(a));
        assert_eq!(guests.len(), 2 * PER_ADDRESS);
        (0..PER_ADDRESS).for_each(|_| guests.leave(b));
        (1..PER_ADDRESS).for_each(|_| guests.leave(a));
        guests.leave(c);
        assert!(guests.is_empty() && guests.by_prefix.is_empty());
    }

    #[test]
    fn a_customer_has_one_share_of_all_its_addresses() {
        let mut guests = Guests::new(u32::MAX, PER_ADDRESS);
        let entered = (0..=PER_ADDRESS).filter(|host| guests.enter(addr(&format!("2001:db8:1:2::{host:x}")))).count();
        assert_eq!(u32::try_from(entered), Ok(PER_ADDRESS));
        assert!(guests.enter(addr("2001:db8:1:3::1")));
        assert!(guests.enter(addr("::ffff:192.0.2.1")) && guests.enter(addr("192.0.2.1")));
        assert_eq!(guests.by_prefix.len(), 3);
    }
}

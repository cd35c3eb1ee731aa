//! Relayed addresses that no socket has: made up out of blocks that are set aside for benchmarks, so that no host of the world is
//! meant by them, and telling their worker and their allocation.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::wire::ids::WorkerId;

/// 198.18.0.0/15 (RFC 2544 section C.2.2), of which 17 bits are ours.
const V4: u32 = 0xc612_0000;
/// `2001:2::/48` (RFC 5180 section 8), of which we use as many.
const V6: u128 = 0x2001_0002_0000 << 80;
const BITS: u32 = 17;
const MASK: u32 = (1 << BITS) - 1;
/// Ports below are services', and browsers shun them.
const LOWEST_PORT: u16 = 1024;

/// The family of a relayed address (RFC 8656 section 18.8).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// That of an address.
    #[must_use]
    pub const fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// Whether an address is made up. A datagram that claims to come from one does not.
#[must_use]
pub fn is_virtual(ip: IpAddr) -> bool {
    number(ip).is_some()
}

fn number(ip: IpAddr) -> Option<u32> {
    match ip {
        IpAddr::V4(ip) => (ip.to_bits() & !MASK == V4).then_some(ip.to_bits() & MASK),
        IpAddr::V6(ip) => {
            let low = u32::try_from(ip.to_bits().checked_sub(V6)?).ok()?;
            (low <= MASK).then_some(low)
        }
    }
}

/// How the addresses are dealt out among so many workers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Plan {
    /// Bits that tell the allocation; those above tell the worker.
    low: u32,
    workers: u8,
}

impl Plan {
    /// For `workers`, 1 to 64.
    #[must_use]
    pub const fn new(workers: u8) -> Self {
        let high = (workers as u32).next_power_of_two().trailing_zeros();
        Self { low: BITS - high, workers }
    }

    /// Allocations that one worker can have.
    #[must_use]
    pub const fn places(self) -> u32 {
        1 << self.low
    }

    /// The address of a worker's allocation. `drawn` makes its port, which nobody can guess.
    #[must_use]
    pub fn address(self, family: Family, worker: WorkerId, place: u32, drawn: u16) -> SocketAddr {
        let number = (u32::from(worker.0) << self.low | place & (self.places() - 1)) & MASK;
        let ip = match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(V4 | number)),
            Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(V6 | u128::from(number))),
        };
        SocketAddr::new(ip, LOWEST_PORT + drawn % (u16::MAX - LOWEST_PORT))
    }

    /// The worker and the place that an address tells, if it is made up and of one of the workers.
    #[must_use]
    pub fn place(self, ip: IpAddr) -> Option<(WorkerId, u32)> {
        let number = number(ip)?;
        let worker = u8::try_from(number >> self.low).ok().filter(|worker| *worker < self.workers)?;
        Some((WorkerId(worker), number & (self.places() - 1)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_blocks_have_borders() {
        let inside = ["198.18.0.0", "198.19.255.255", "2001:2::", "2001:2::1:ffff"];
        let outside =
            ["198.17.255.255", "198.20.0.0", "2001:2::2:0", "2001:1:ffff::", "2001:2:1::", "::", "::ffff:198.18.0.1"];
        for (ips, expected) in [(&inside[..], true), (&outside[..], false)] {
            for ip in ips {
                assert_eq!(is_virtual(ip.parse().expect("an address")), expected, "{ip}");
            }
        }
    }

    proptest! {
        #[test]
        fn an_address_tells_whose_it_is(workers in 1..=64_u8, worker in 0..64_u8, place: u32, drawn: u16, v6: bool) {
            let plan = Plan::new(workers);
            let (worker, place) = (worker % workers, place % plan.places());
            let family = if v6 { Family::V6 } else { Family::V4 };
            let address = plan.address(family, WorkerId(worker), place, drawn);
            prop_assert!(is_virtual(address.ip()) && address.port() >= LOWEST_PORT);
            prop_assert_eq!(Family::of(address.ip()), family);
            prop_assert_eq!(plan.place(address.ip()), Some((WorkerId(worker), place)));
        }
    }

    #[test]
    fn few_workers_have_many_places() {
        assert_eq!(
            [1, 2, 3, 8, 64].map(|workers| Plan::new(workers).places()),
            [131_072, 65_536, 32_768, 16_384, 2_048]
        );
        assert_eq!(
            Plan::new(3).place("198.19.255.255".parse().expect("an address")),
            None,
            "there is no fourth worker"
        );
    }
}

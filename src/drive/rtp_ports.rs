//! UDP sockets for sessions that ask for ports of their own (`rtp_port`), inside the operator's window. Those who ask for the same port
//! share it, on whichever worker they are; a port that nobody uses any more is given back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::watch;

use crate::engine::host::PortRange;
use crate::engine::relay::Registry;

use super::addresses::MediaAddress;
use super::udp::{MediaSocket, bind_alone};

/// Ports that are open at a time: a bound on sockets, however many sessions ask.
const MOST: usize = 256;
/// Ports that are tried for one session; other programs may hold some.
const TRIES: usize = 64;

/// The ports of all workers.
#[derive(Clone, Debug)]
pub struct RtpPorts(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    addresses: Vec<MediaAddress>,
    /// Ports that serve something else.
    taken: Vec<u16>,
    /// Whose clients may be sent what comes from here, if there is a relay.
    registry: Option<Arc<Registry>>,
    ports: Mutex<Ports>,
}

#[derive(Debug, Default)]
struct Ports {
    open: BTreeMap<u16, Open>,
    /// Given back, but perhaps not closed yet: whoever reads them has not heard of it.
    closing: BTreeMap<u16, Vec<Weak<MediaSocket>>>,
}

#[derive(Debug)]
struct Open {
    sockets: Vec<Arc<MediaSocket>>,
    sessions: u32,
    /// Dropped with the port.
    _close: watch::Sender<()>,
}

/// A session's hold on its port.
#[derive(Debug)]
pub struct RtpPort {
    shared: Arc<Shared>,
    /// The port.
    pub port: u16,
    /// A socket for each address.
    pub sockets: Vec<Arc<MediaSocket>>,
    /// Whoever opened the port reads its sockets until this ends.
    pub fresh: Option<watch::Receiver<()>>,
}

impl RtpPorts {
    /// On these addresses, and never on ports that are taken.
    #[must_use]
    pub fn new(addresses: &[MediaAddress], taken: Vec<u16>, registry: Option<Arc<Registry>>) -> Self {
        Self(Arc::new(Shared { addresses: addresses.to_vec(), taken, registry, ports: Mutex::default() }))
    }

    /// A port of this range: one that is open already, or the first that can be opened.
    #[must_use]
    pub fn take(&self, range: PortRange) -> Option<RtpPort> {
        let shared = &self.0;
        let mut ports = shared.ports();
        let Ports { open, closing } = &mut *ports;
        let hold = |port: u16, sockets: &[Arc<MediaSocket>], fresh| RtpPort {
            shared: shared.clone(),
            port,
            sockets: sockets.to_vec(),
            fresh,
        };
        if let Some((port, known)) = open.range_mut(range.min..=range.max).next() {
            known.sessions += 1;
            return Some(hold(*port, &known.sockets, None));
        }
        if open.len() == MOST {
            return None;
        }
        let mut free = (range.min..=range.max).filter(|port| !shared.taken.contains(port)).take(TRIES);
        // Those of its sockets that are not closed yet cannot be bound.
        let bind = |port: u16| {
            let socket = |(place, address): (usize, &MediaAddress)| {
                let known = closing.get(&port).and_then(|sockets| sockets.get(place)?.upgrade());
                known.or_else(|| bind_alone(std::slice::from_ref(address), port).ok()?.pop().map(Arc::new))
            };
            shared.addresses.iter().enumerate().map(socket).collect::<Option<Vec<_>>>()
        };
        let (port, sockets) = free.find_map(|port| Some((port, bind(port)?)))?;
        closing.remove(&port);
        if let Some(registry) = &shared.registry {
            registry.open(sockets.iter().map(|socket| socket.advertised));
        }
        let (close, fresh) = watch::channel(());
        let rtp = hold(port, &sockets, Some(fresh));
        open.insert(port, Open { sockets, sessions: 1, _close: close });
        Some(rtp)
    }
}

impl Shared {
    fn ports(&self) -> MutexGuard<'_, Ports> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RtpPort {
    /// Its addresses as candidates name them.
    #[must_use]
    pub fn candidates(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(|socket| socket.advertised).collect()
    }
}

impl Drop for RtpPort {
    fn drop(&mut self) {
        let mut ports = self.shared.ports();
        let Ports { open, closing } = &mut *ports;
        let Some(known) = open.get_mut(&self.port) else { return };
        known.sessions -= 1;
        if known.sessions == 0 {
            if let Some(registry) = &self.shared.registry {
                registry.close(self.port);
            }
            open.remove(&self.port);
            closing.retain(|_, sockets| sockets.iter().any(|socket| socket.strong_count() > 0));
            closing.insert(self.port, self.sockets.iter().map(Arc::downgrade).collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, UdpSocket};
    use std::sync::atomic::{AtomicU16, Ordering};

    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn ports(taken: Vec<u16>, registry: Option<Arc<Registry>>) -> RtpPorts {
        RtpPorts::new(&[MediaAddress { bound: LOOPBACK, advertised: LOOPBACK }], taken, registry)
    }

    /// Four ports in a row that nobody else had a moment ago, and that no other test gets.
    fn four() -> PortRange {
        static NEXT: AtomicU16 = AtomicU16::new(20_000);
        let free = |port: &u16| (*port..port + 4).all(|port| UdpSocket::bind((LOOPBACK, port)).is_ok());
        let mut fours =
            std::iter::repeat_with(|| NEXT.fetch_add(4, Ordering::Relaxed)).take_while(|port| *port < 30_000);
        let min = fours.find(free).expect("some are free");
        PortRange { min, max: min + 3 }
    }

    #[test]
    fn who_asks_for_the_same_port_shares_it_and_the_last_one_gives_it_back() {
        let registry = Arc::new(Registry::new(&[], 1));
        let (ports, range) = (ports(Vec::new(), Some(registry.clone())), four());
        let one = PortRange { min: range.min, max: range.min };
        let ann = ports.take(one).expect("it is free");
        let bob = ports.take(one).expect("it is shared");
        assert_eq!((ann.port, bob.port, ann.candidates()), (one.min, one.min, bob.candidates()));
        assert!(ann.fresh.is_some() && bob.fresh.is_none(), "one of them reads");
        let addr = SocketAddr::new(LOOPBACK, one.min);
        assert!(registry.is_candidate(addr) && UdpSocket::bind(addr).is_err());
        let closing = ann.fresh.clone().expect("it was checked");
        drop(ann);
        assert!(closing.has_changed().is_ok() && registry.is_candidate(addr), "somebody is left");
        drop(bob);
        assert!(closing.has_changed().is_err() && !registry.is_candidate(addr));
        UdpSocket::bind(addr).expect("it is free again");
    }

    #[test]
    fn who_comes_back_at_once_has_the_same_port_again() {
        let registry = Arc::new(Registry::new(&[], 1));
        let (ports, range) = (ports(Vec::new(), Some(registry.clone())), four());
        let one = PortRange { min: range.min, max: range.min };
        let ann = ports.take(one).expect("it is free");
        // As its reader has it, which has not heard yet that it is closed.
        let (read, closing) = (ann.sockets.clone(), ann.fresh.clone().expect("it is new"));
        drop(ann);
        assert!(closing.has_changed().is_err() && !registry.is_candidate(read[0].advertised));
        let bob = ports.take(one).expect("it may be had again");
        assert!(Arc::ptr_eq(&bob.sockets[0], &read[0]) && registry.is_candidate(read[0].advertised));
        assert!(bob.fresh.as_ref().is_some_and(|fresh| fresh.has_changed().is_ok()), "it is read anew");
        drop((read, bob));
        UdpSocket::bind((LOOPBACK, one.min)).expect("it is free again");
        assert!(ports.take(one).is_some());
    }

    #[test]
    fn a_range_takes_what_is_open_or_else_the_first_that_is_free() {
        let range = four();
        let held = UdpSocket::bind((LOOPBACK, range.min)).expect("it is free");
        let ports = ports(vec![range.min + 1], None);
        let ann = ports.take(range).expect("two are left");
        assert_eq!(ann.port, range.min + 2, "one is another program's, and one is taken");
        assert_eq!(ports.take(range).expect("it is shared").port, ann.port);
        let last = PortRange { min: range.max, max: range.max };
        assert_eq!(ports.take(last).expect("it is free").port, range.max);
        for port in [range.min, range.min + 1] {
            assert!(ports.take(PortRange { min: port, max: port }).is_none(), "{port}");
        }
        drop(held);
    }
}

//! What the world calls us: asks STUN servers under which addresses our media sockets are seen behind a NAT (RFC 8445 section 5.1.1.2),
//! for all sessions at once, and keeps the NAT's mappings open. Pure; nobody ever waits for it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use stun_types::attribute::XorMappedAddress;
use stun_types::message::{BINDING, Message, MessageClass};

use crate::wire::stun::{self, StunClass};

/// From the first request to the second; doubled by each (RFC 8489 section 6.2.1).
const RTO: Duration = Duration::from_millis(500);
/// Requests without an answer after which a server is left alone for a while.
const TRIES: u32 = 5;
/// A NAT forgets a mapping of UDP after 30 s at the soonest (RFC 8445 section 11 has 15 s for paths in use; those that carry media keep
/// themselves open).
const KEEPALIVE: Duration = Duration::from_secs(25);
/// Where there is no NAT, none need be kept open.
const NO_NAT: Duration = Duration::from_secs(600);
/// How long a server that does not answer is left alone.
const PAUSE: Duration = Duration::from_secs(60);
/// What no server has confirmed for so long is not told any more.
const LASTS: Duration = Duration::from_secs(150);
/// Sockets times servers: two servers of two families for each of a host's addresses.
const PROBES: usize = 64;

/// An address of ours as the world sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reflexive {
    /// Of the socket, as our host candidates name it.
    pub base: SocketAddr,
    /// Outside the NAT.
    pub mapped: SocketAddr,
}

/// The candidates of a session's own.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Locals {
    /// Of the UDP sockets.
    pub hosts: Vec<SocketAddr>,
    /// Where connections are taken.
    pub tcp: Vec<SocketAddr>,
    /// The same as seen from outside.
    pub reflexive: Vec<Reflexive>,
}

impl From<Vec<SocketAddr>> for Locals {
    fn from(hosts: Vec<SocketAddr>) -> Self {
        Self { tcp: hosts.clone(), hosts, reflexive: Vec::new() }
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ask {
    /// The socket to ask by.
    pub base: SocketAddr,
    /// Whom.
    pub server: SocketAddr,
    /// The request's transaction id, by which its answer is known.
    pub transaction: [u8; 12],
}

impl Ask {
    /// A Binding request without attributes (RFC 8489 section 5).
    #[must_use]
    pub fn datagram(&self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
        bytes[8..].copy_from_slice(&self.transaction);
        bytes
    }
}

/// One socket and one server.
#[derive(Debug)]
struct Probe {
    base: SocketAddr,
    server: SocketAddr,
    /// Of the request that waits for its answer.
    transaction: Option<[u8; 12]>,
    /// Requests since the last answer.
    tries: u32,
    next: Instant,
    answer: Option<(SocketAddr, Instant)>,
}

/// Asks for all sockets of the media port.
#[derive(Debug)]
pub struct Prober {
    bases: Vec<SocketAddr>,
    entropy: fn(&mut [u8]),
    probes: Vec<Probe>,
}

impl Prober {
    /// For sockets that others may see under another address.
    #[must_use]
    pub fn new(mut bases: Vec<SocketAddr>, entropy: fn(&mut [u8])) -> Self {
        bases.retain(|base| !base.ip().is_loopback());
        Self { bases, entropy, probes: Vec::new() }
    }

    /// Whether there is anything to ask for.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.bases.is_empty()
    }

    /// These are the servers, the first one's word going first; what is known of those that stay is kept.
    pub fn set_servers(&mut self, servers: &[SocketAddr], now: Instant) {
        let mut known = std::mem::take(&mut self.probes);
        for server in servers {
            for base in self.bases.iter().filter(|base| base.is_ipv4() == server.is_ipv4()) {
                let place = known.iter().position(|probe| probe.base == *base && probe.server == *server);
                let probe = place.map(|place| known.swap_remove(place));
                let new =
                    || Probe { base: *base, server: *server, transaction: None, tries: 0, next: now, answer: None };
                self.probes.push(probe.unwrap_or_else(new));
            }
        }
        self.probes.truncate(PROBES);
    }

    /// Hands over what is to be asked now; returns when it wants to be called again, if ever.
    pub fn tick(&mut self, now: Instant, mut ask: impl FnMut(Ask)) -> Option<Instant> {
        for probe in &mut self.probes {
            if now < probe.next {
                continue;
            }
            if probe.tries >= TRIES {
                probe.tries = 0;
                probe.transaction = None;
                probe.next = now + PAUSE;
                continue;
            }
            // Repeated as it was, so that an answer that is late counts as well.
            let transaction = *probe.transaction.get_or_insert_with(|| {
                let mut id = [0; 12];
                (self.entropy)(&mut id);
                id
            });
            probe.next = now + RTO * 2_u32.pow(probe.tries);
            probe.tries += 1;
            ask(Ask { base: probe.base, server: probe.server, transaction });
        }
        self.probes.iter().map(|probe| probe.next).min()
    }

    /// Takes a datagram that came `from` somewhere to the socket of `base`; returns whether it answers a request of ours.
    pub fn receive(&mut self, from: SocketAddr, base: SocketAddr, bytes: &[u8], now: Instant) -> bool {
        let Some(peek) =
            stun::peek(bytes).filter(|peek| peek.class == StunClass::Success || peek.class == StunClass::Error)
        else {
            return false;
        };
        let asked = |probe: &&mut Probe| {
            probe.transaction == Some(peek.transaction) && probe.server == from && probe.base == base
        };
        let Some(probe) = self.probes.iter_mut().find(asked) else { return false };
        let Some(mapped) = mapped(bytes).filter(|mapped| mapped.is_ipv4() == base.is_ipv4()) else {
            // It answers, but not what we asked.
            probe.tries = TRIES;
            return true;
        };
        probe.transaction = None;
        probe.tries = 0;
        probe.next = now + if mapped == base { NO_NAT } else { KEEPALIVE };
        probe.answer = Some((mapped, now));
        true
    }

    /// What our sockets are called outside; the word of the first server that answers counts.
    #[must_use]
    pub fn known(&self, now: Instant) -> Vec<Reflexive> {
        self.bases
            .iter()
            .filter_map(|base| self.answers(*base, now).next())
            .filter(|one| one.mapped != one.base)
            .collect()
    }

    /// Whether servers see a socket under different addresses: then nobody else reaches it under either.
    #[must_use]
    pub fn is_symmetric(&self, base: SocketAddr, now: Instant) -> bool {
        let mut answers = self.answers(base, now);
        let first = answers.next();
        answers.any(|other| Some(other) != first)
    }

    fn answers(&self, base: SocketAddr, now: Instant) -> impl Iterator<Item = Reflexive> {
        self.probes.iter().filter(move |probe| probe.base == base).filter_map(move |probe| {
            let (mapped, at) = probe.answer?;
            let lasts = if mapped == base { NO_NAT + LASTS } else { LASTS };
            (now < at + lasts).then_some(Reflexive { base, mapped })
        })
    }
}

/// The address in the answer of a STUN server.
fn mapped(bytes: &[u8]) -> Option<SocketAddr> {
    let message = Message::from_bytes(bytes).ok()?;
    if message.method() != BINDING || message.class() != MessageClass::Success {
        return None;
    }
    let mapped = message.attribute::<XorMappedAddress>().ok()?.addr(message.transaction_id());
    let sound = mapped.port() != 0
        && !mapped.ip().is_unspecified()
        && !mapped.ip().is_loopback()
        && !mapped.ip().is_multicast();
    sound.then_some(mapped)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stun_types::message::{MessageType, MessageWrite as _, MessageWriteExt as _, MessageWriteVec, TransactionId};

    use super::*;
    use crate::tests::net::{ms, secs, zero};

    const BASE: &str = "10.0.0.2:3479";
    const FIRST: &str = "192.0.2.1:3478";
    const SECOND: &str = "192.0.2.2:19302";

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn entropy(bytes: &mut [u8]) {
        thread_local!(static COUNT: std::cell::Cell<u8> = const { std::cell::Cell::new(0) });
        COUNT.set(COUNT.get().wrapping_add(1));
        bytes.fill(COUNT.get());
    }

    fn prober(bases: &[&str], servers: &[&str]) -> Prober {
        let mut prober = Prober::new(bases.iter().map(|base| addr(base)).collect(), entropy);
        prober.set_servers(&servers.iter().map(|server| addr(server)).collect::<Vec<_>>(), zero());
        prober
    }

    fn asked(prober: &mut Prober, now: Instant) -> Vec<Ask> {
        let mut asks = Vec::new();
        prober.tick(now, |ask| asks.push(ask));
        asks
    }

    fn answer_of(class: MessageClass, transaction: [u8; 12], mapped: &str) -> Vec<u8> {
        let id = TransactionId::from(u128::from_be_bytes(
            [&[0; 4], &transaction[..]].concat().try_into().expect("16 bytes"),
        ));
        let kind = MessageType::from_class_method(class, BINDING);
        let mut message = Message::builder(kind, id, MessageWriteVec::new());
        message.add_attribute(&XorMappedAddress::new(addr(mapped), id)).expect("it fits");
        message.finish()
    }

    fn answer(prober: &mut Prober, ask: Ask, mapped: &str, now: Instant) -> bool {
        prober.receive(ask.server, ask.base, &answer_of(MessageClass::Success, ask.transaction, mapped), now)
    }

    fn known(prober: &Prober, now: Instant) -> Vec<String> {
        prober.known(now).iter().map(|one| format!("{} {}", one.base, one.mapped)).collect()
    }

    #[test]
    fn a_request_is_one_of_binding() {
        let ask = Ask { base: addr(BASE), server: addr(FIRST), transaction: [7; 12] };
        let datagram = ask.datagram();
        let message = Message::from_bytes(&datagram).expect("it is STUN");
        assert_eq!((message.method(), message.class()), (BINDING, MessageClass::Request));
        assert_eq!(stun::peek(&datagram).expect("it is STUN").transaction, [7; 12]);
    }

    #[test]
    fn every_socket_asks_every_server_of_its_family_and_the_first_one_counts() {
        let mut prober =
            prober(&[BASE, "[2001:db8::2]:3479", "127.0.0.1:3479"], &[FIRST, "[2001:db8::9]:3478", SECOND]);
        let asks = asked(&mut prober, zero());
        let ways: Vec<_> = asks.iter().map(|ask| format!("{} {}", ask.base, ask.server)).collect();
        assert_eq!(
            ways,
            [format!("{BASE} {FIRST}"), "[2001:db8::2]:3479 [2001:db8::9]:3478".into(), format!("{BASE} {SECOND}")]
        );
        assert!(known(&prober, zero()).is_empty());
        assert!(answer(&mut prober, asks[2], "203.0.113.7:4000", zero()));
        assert_eq!(known(&prober, zero()), [format!("{BASE} 203.0.113.7:4000")], "the other one is not waited for");
        assert!(!prober.is_symmetric(addr(BASE), zero()));
        assert!(answer(&mut prober, asks[0], "203.0.113.7:4001", zero()));
        assert_eq!(known(&prober, zero()), [format!("{BASE} 203.0.113.7:4001")]);
        assert!(prober.is_symmetric(addr(BASE), zero()));
        assert!(answer(&mut prober, asks[1], "[2001:db8::2]:3479", zero()));
        assert_eq!(known(&prober, zero()).len(), 1, "that one has no NAT");
    }

    #[test]
    fn only_the_one_who_was_asked_answers() {
        let mut prober = prober(&[BASE], &[FIRST, SECOND]);
        let ask = asked(&mut prober, zero())[0];
        let good = answer_of(MessageClass::Success, ask.transaction, "203.0.113.7:4000");
        let now = zero();
        assert!(!prober.receive(addr(SECOND), ask.base, &good, now), "another server");
        assert!(!prober.receive(ask.server, addr("10.0.0.3:3479"), &good, now), "another socket");
        assert!(!prober.receive(
            ask.server,
            ask.base,
            &answer_of(MessageClass::Success, [99; 12], "203.0.113.7:4000"),
            now
        ));
        assert!(!prober.receive(ask.server, ask.base, &ask.datagram(), now), "a request is no answer");
        assert!(!prober.receive(ask.server, ask.base, &[22; 64], now));
        assert!(known(&prober, now).is_empty());
        assert!(prober.receive(ask.server, ask.base, &good, now));
        assert!(!prober.receive(ask.server, ask.base, &good, now), "once");
    }

    #[test]
    fn an_answer_that_says_nothing_is_taken_and_leaves_nothing() {
        for mapped in ["0.0.0.0:5", "127.0.0.1:5", "203.0.113.7:0", "224.0.0.1:5", "[2001:db8::1]:5"] {
            let mut prober = prober(&[BASE], &[FIRST]);
            let ask = asked(&mut prober, zero())[0];
            assert!(answer(&mut prober, ask, mapped, zero()), "{mapped}");
            assert!(known(&prober, zero()).is_empty(), "{mapped}");
        }
        let mut prober = prober(&[BASE], &[FIRST]);
        let ask = asked(&mut prober, zero())[0];
        let error = answer_of(MessageClass::Error, ask.transaction, "203.0.113.7:4000");
        assert!(prober.receive(ask.server, ask.base, &error, zero()));
        assert!(known(&prober, zero()).is_empty());
    }

    /// When each request left, in milliseconds, until `end`.
    fn times(prober: &mut Prober, end: u64) -> Vec<u64> {
        let mut times = Vec::new();
        let mut now = zero();
        while now < zero() + secs(end) {
            let wake = prober.tick(now, |_| times.push(u64::try_from((now - zero()).as_millis()).expect("short")));
            now = wake.expect("there is a server").max(now + ms(1));
        }
        times
    }

    #[test]
    fn a_dead_server_is_asked_ever_more_slowly_and_left_alone() {
        let mut prober = prober(&[BASE], &[FIRST]);
        let times = times(&mut prober, 100);
        assert_eq!(times[..5], [0, 500, 1_500, 3_500, 7_500]);
        assert_eq!(times[5..], [75_500, 76_000, 77_000, 79_000, 83_000], "as often again after a minute's pause");
    }

    #[test]
    fn a_mapping_is_kept_open_and_forgotten_when_nobody_confirms_it() {
        let mut prober = prober(&[BASE], &[FIRST]);
        let ask = asked(&mut prober, zero())[0];
        answer(&mut prober, ask, "203.0.113.7:4000", zero());
        assert_eq!(asked(&mut prober, zero() + secs(24)), []);
        let again = asked(&mut prober, zero() + secs(25));
        assert_eq!(again.len(), 1);
        assert_ne!(again[0].transaction, ask.transaction);
        answer(&mut prober, again[0], "203.0.113.7:5000", zero() + secs(25));
        assert_eq!(known(&prober, zero() + secs(25)), [format!("{BASE} 203.0.113.7:5000")], "it has moved");
        assert_eq!(known(&prober, zero() + secs(174)).len(), 1);
        assert_eq!(known(&prober, zero() + secs(175)).len(), 0);
    }

    #[test]
    fn a_host_without_a_nat_asks_rarely() {
        let mut prober = prober(&[BASE], &[FIRST]);
        let ask = asked(&mut prober, zero())[0];
        answer(&mut prober, ask, BASE, zero());
        assert_eq!((known(&prober, zero()).len(), prober.tick(zero(), |_| ())), (0, Some(zero() + NO_NAT)));
    }

    #[test]
    fn servers_that_stay_keep_what_they_said() {
        let mut prober = prober(&[BASE], &[FIRST, SECOND]);
        let asks = asked(&mut prober, zero());
        answer(&mut prober, asks[0], "203.0.113.7:4000", zero());
        prober.set_servers(&[addr("192.0.2.9:3478"), addr(FIRST)], zero() + secs(1));
        assert_eq!(known(&prober, zero() + secs(1)), [format!("{BASE} 203.0.113.7:4000")]);
        let asks = asked(&mut prober, zero() + secs(1));
        assert_eq!(asks.iter().map(|ask| ask.server.to_string()).collect::<Vec<_>>(), ["192.0.2.9:3478"]);
        prober.set_servers(&[], zero());
        assert_eq!((known(&prober, zero()).len(), prober.tick(zero(), |_| ())), (0, None));
        let many: Vec<_> = (0..200_u16).map(|port| SocketAddr::from(([192, 0, 2, 1], 1000 + port))).collect();
        prober.set_servers(&many, zero());
        assert_eq!(prober.probes.len(), PROBES);
        assert!(Prober::new(vec![addr("127.0.0.1:1")], entropy).is_idle() && !prober.is_idle());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..80), keep: bool) {
            let mut prober = prober(&[BASE], &[FIRST]);
            let ask = asked(&mut prober, zero())[0];
            if keep && bytes.len() >= 20 {
                let length = bytes.len() - 20;
                bytes[..8].copy_from_slice(&[1, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
                bytes[3] = u8::try_from(length).expect("short");
                bytes[8..20].copy_from_slice(&ask.transaction);
            }
            prober.receive(ask.server, ask.base, &bytes, zero());
        }
    }
}

//! The [`Protocol`] of turn-client-proto. That leaves out padding, keepalives and what a server's errors mean, which is done around it.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use stun_types::attribute::{Nonce, Realm, Username};
use stun_types::message::{
    IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageClass, MessageWrite as _, MessageWriteExt as _,
    MessageWriteVec,
};
use turn_client_proto::api::{Transmit, TurnConfig, TurnEvent, TurnPollRet, TurnRecvRet};
use turn_client_proto::prelude::TurnClientApi;
use turn_client_proto::stun::Instant as Time;
use turn_client_proto::tcp::TurnClientTcp;
use turn_client_proto::types::{TransportType, TurnCredentials};
use turn_client_proto::udp::TurnClientUdp;
use turn_types::attribute::Lifetime;
use turn_types::message::REFRESH;

use super::allocation::TRANSACTION;
use super::protocol::{Protocol, ProtocolEvent};
use super::{TurnServer, TurnTransport};

/// From the first try of a request to the second (RFC 8489 section 6.2.1).
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// From one try to the next at most.
const RETRY: Duration = Duration::from_secs(1);
/// Tries of a request, which then fill [`TRANSACTION`].
const TRIES: u32 = 5;
/// The library does not send two requests closer together.
const CADENCE: Duration = Duration::from_millis(50);
/// Turns of a loop that ends by itself, unless there is a bug.
const TURNS: usize = 1_000;
/// What a probe asks for: an allocation of a process that is gone goes ten minutes after it (RFC 8656 section 3.2).
const LIFETIME: u32 = 600;

enum Inner {
    Udp(TurnClientUdp),
    Tcp(TurnClientTcp),
}

/// Both have the same methods, which take types, so that no object of the trait can be.
macro_rules! with {
    ($self:expr, $client:ident => $done:expr) => {
        match &mut $self.inner {
            Inner::Udp($client) => $done,
            Inner::Tcp($client) => $done,
        }
    };
}

/// One allocation's client.
pub struct Client {
    inner: Inner,
    kind: TransportType,
    local: SocketAddr,
    remote: SocketAddr,
    username: String,
    credential: String,
    /// What the server wants to see in a signed request.
    realm: Option<String>,
    nonce: Option<String>,
    zero: Instant,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The library's own would tell the credentials.
        f.debug_struct("Client").field("remote", &self.remote).finish_non_exhaustive()
    }
}

impl Client {
    /// The client of an allocation at `server`, which is at `remote` as seen from `local`.
    #[must_use]
    pub fn new(server: &TurnServer, (local, remote): (SocketAddr, SocketAddr), now: Instant) -> Self {
        let mut config = TurnConfig::new(TurnCredentials::new(&server.username, &server.credential));
        let tries = (0..TRIES - 1).map(|doublings| (FIRST_RETRY * (1 << doublings)).min(RETRY));
        let last = TRANSACTION.saturating_sub(tries.sum());
        config.set_request_retransmits(FIRST_RETRY, RETRY, TRIES, last);
        let (inner, kind) = match server.transport {
            TurnTransport::Udp => (Inner::Udp(TurnClientUdp::allocate(local, remote, config)), TransportType::Udp),
            TurnTransport::Tcp | TurnTransport::Tls => {
                (Inner::Tcp(TurnClientTcp::allocate(local, remote, config)), TransportType::Tcp)
            }
        };
        let TurnServer { username, credential, .. } = server.clone();
        Self { inner, kind, local, remote, username, credential, realm: None, nonce: None, zero: now }
    }

    /// The library's clock begins with the allocation.
    fn time(&self, now: Instant) -> Time {
        let nanos = now.saturating_duration_since(self.zero).as_nanos();
        Time::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
    }

    fn learn(&mut self, bytes: &[u8]) {
        let Ok(message) = Message::from_bytes(bytes) else { return };
        if message.class() == MessageClass::Error
            && let (Ok(realm), Ok(nonce)) = (message.attribute::<Realm>(), message.attribute::<Nonce>())
        {
            self.realm = Some(realm.realm().to_owned());
            self.nonce = Some(nonce.nonce().to_owned());
        }
    }
}

impl Protocol for Client {
    fn receive(&mut self, bytes: &[u8], now: Instant, data: &mut dyn FnMut(SocketAddr, &[u8])) {
        self.learn(bytes);
        let (at, kind, local, remote) = (self.time(now), self.kind, self.local, self.remote);
        let received = with!(self, client => client.recv(Transmit::new(bytes, kind, remote, local), at));
        if let TurnRecvRet::PeerData(found) = received {
            data(found.peer, found.data());
        }
    }

    fn send(&mut self, peer: SocketAddr, data: &[u8], now: Instant) -> Option<Vec<u8>> {
        let at = self.time(now);
        let built = with!(self, client => client.send_to(TransportType::Udp, peer, data, at));
        Some(built.ok()??.build().data)
    }

    fn permit(&mut self, ip: IpAddr, now: Instant) {
        let at = self.time(now);
        // One that it has already needs nothing, and without an allocation the end is told by `run`.
        let _ = with!(self, client => client.create_permission(TransportType::Udp, ip, at));
    }

    fn bind(&mut self, peer: SocketAddr, now: Instant) {
        let at = self.time(now);
        // As above.
        let _ = with!(self, client => client.bind_channel(TransportType::Udp, peer, at));
    }

    fn probe(&mut self) -> Option<Vec<u8>> {
        let (realm, nonce) = (self.realm.as_ref()?, self.nonce.as_ref()?);
        let key = LongTermKeyCredentials::new(self.username.clone(), self.credential.clone(), realm.clone())
            .make_key(IntegrityAlgorithm::Sha1);
        let mut message = Message::builder_request(REFRESH, MessageWriteVec::new());
        message.add_attribute(&Lifetime::new(LIFETIME)).ok()?;
        message.add_attribute(&Username::new(&self.username).ok()?).ok()?;
        message.add_attribute(&Realm::new(realm).ok()?).ok()?;
        message.add_attribute(&Nonce::new(nonce).ok()?).ok()?;
        message.add_message_integrity_with_key(&key, IntegrityAlgorithm::Sha1).ok()?;
        Some(message.finish())
    }

    fn delete(&mut self, now: Instant) {
        let at = self.time(now);
        // As above.
        let _ = with!(self, client => client.delete(at));
    }

    fn run(&mut self, now: Instant, apply: &mut dyn FnMut(ProtocolEvent)) -> Option<Instant> {
        let at = self.time(now);
        for _ in 0..TURNS {
            let mut moved = false;
            while let Some(transmit) = with!(self, client => client.poll_transmit(at)) {
                moved = true;
                apply(ProtocolEvent::Transmit(transmit.data.to_vec()));
            }
            while let Some(event) = with!(self, client => client.poll_event()) {
                moved = true;
                event_of(&event).into_iter().for_each(&mut *apply);
            }
            match with!(self, client => client.poll(at)) {
                TurnPollRet::WaitUntil(until) if until > at => {
                    return Some(now + until.saturating_duration_since(at));
                }
                TurnPollRet::Closed => {
                    apply(ProtocolEvent::Ended);
                    return None;
                }
                // It has more to tell, or means to and may not yet.
                _ if moved => {}
                _ => break,
            }
        }
        Some(now + CADENCE)
    }
}

fn event_of(event: &TurnEvent) -> Option<ProtocolEvent> {
    Some(match event {
        TurnEvent::AllocationCreated(_, relayed) => ProtocolEvent::Allocated(*relayed),
        TurnEvent::AllocationCreateFailed(_) => ProtocolEvent::Ended,
        TurnEvent::PermissionCreated(_, ip) => ProtocolEvent::Permitted(*ip),
        TurnEvent::PermissionCreateFailed(_, ip) => ProtocolEvent::Refused(*ip),
        TurnEvent::ChannelCreated(_, peer) => ProtocolEvent::Bound(*peer),
        TurnEvent::ChannelCreateFailed(_, peer) => ProtocolEvent::Unbound(*peer),
        // Of allocations for TCP, which we never ask for.
        TurnEvent::TcpConnected(_) | TurnEvent::TcpConnectFailed(_) => return None,
    })
}

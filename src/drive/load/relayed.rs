//! A listener's way through the server's own relay: an allocation by UDP, and one channel to the server's candidate.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::engine::credentials::Credentials;
use crate::engine::turn::{Client, Protocol as _, ProtocolEvent, TurnServer, TurnTransport};
use crate::wire::ice_url::IceUrl;
use crate::wire::sdp;

use super::super::clock::Clock;
use super::listener::ListenerError;

/// A relay that does not answer by then does not.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longer than any answer of a relay.
const LONGEST: usize = 2048;
/// Bytes before the data of a channel (RFC 8656 section 12.4).
const HEADER: usize = 4;

/// One allocation.
pub struct Relayed {
    client: Client,
    server: SocketAddr,
    /// Our address there.
    pub address: SocketAddr,
    /// Whom the channel leads to.
    peer: Option<SocketAddr>,
}

impl Relayed {
    /// Allocates by `socket` at the relay that the server names in its greeting.
    ///
    /// # Errors
    /// When it names none, or that does not serve.
    pub async fn allocate(socket: &UdpSocket, greeting: &Value, clock: Clock) -> Result<Self, ListenerError> {
        let (url, server) =
            relay_of(greeting).ok_or_else(|| ListenerError::Refused("it names no relay by UDP".into()))?;
        let found = tokio::net::lookup_host((url.host.as_str(), url.port)).await?.next();
        let remote = found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let local = socket.local_addr()?;
        let client = Client::new(&server, (local, remote), clock.now());
        let mut relayed = Self { client, server: remote, address: local, peer: None };
        let allocated = |event: &ProtocolEvent| match event {
            ProtocolEvent::Allocated(address) => Some(*address),
            _ => None,
        };
        relayed.address = relayed.until(socket, clock, allocated).await?;
        Ok(relayed)
    }

    /// Opens a channel to the first candidate of an answer that is reached by UDP.
    ///
    /// # Errors
    /// When there is none, or the relay does not lead there.
    pub async fn reach(&mut self, socket: &UdpSocket, answer: &str, clock: Clock) -> Result<(), ListenerError> {
        let candidate = |text: &str| {
            let mut words = text.split(' ').skip(2);
            let (transport, _, ip, port) = (words.next()?, words.next()?, words.next()?, words.next()?);
            (transport == "udp").then(|| Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?))).flatten()
        };
        let peer = sdp::attributes(answer, "candidate").find_map(candidate);
        let peer = peer.ok_or_else(|| ListenerError::Refused("its answer names no candidate by UDP".into()))?;
        self.client.permit(peer.ip(), clock.now());
        let permitted = |event: &ProtocolEvent| (*event == ProtocolEvent::Permitted(peer.ip())).then_some(());
        self.until(socket, clock, permitted).await?;
        self.client.bind(peer, clock.now());
        let bound = |event: &ProtocolEvent| (*event == ProtocolEvent::Bound(peer)).then_some(());
        self.until(socket, clock, bound).await?;
        self.peer = Some(peer);
        Ok(())
    }

    /// Sends a datagram of ours.
    pub fn send(&mut self, socket: &UdpSocket, to: SocketAddr, bytes: &[u8], now: Instant) {
        // Whoever is not permitted is another candidate of the server, which we can do without.
        if let Some(bytes) = self.client.send(to, bytes, now) {
            drop(socket.send_to(&bytes, self.server));
        }
    }

    /// What a datagram of the relay brings, and from whom, where it comes by the channel.
    #[must_use]
    pub fn open<'a>(&self, bytes: &'a [u8]) -> Option<(SocketAddr, &'a [u8])> {
        let (header, data) = bytes.split_at_checked(HEADER).filter(|(header, _)| (0x40..0x80).contains(&header[0]))?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        Some((self.peer?, data.get(..length)?))
    }

    /// Takes a datagram of the relay that does not.
    pub fn receive(&mut self, bytes: &[u8], now: Instant, data: &mut dyn FnMut(SocketAddr, &[u8])) {
        self.client.receive(bytes, now, data);
    }

    /// Keeps allocation, permission and channel; returns when to come again.
    pub fn run(&mut self, socket: &UdpSocket, now: Instant) -> Option<Instant> {
        let server = self.server;
        self.client.run(now, &mut |event| {
            if let ProtocolEvent::Transmit(bytes) = event {
                drop(socket.send_to(&bytes, server));
            }
        })
    }

    /// Talks with the relay until it has said what is waited for.
    async fn until<T>(
        &mut self,
        socket: &UdpSocket,
        clock: Clock,
        wanted: impl Fn(&ProtocolEvent) -> Option<T>,
    ) -> Result<T, ListenerError> {
        let server = self.server;
        let socket = tokio::net::UdpSocket::from_std(socket.try_clone()?)?;
        let end = clock.now() + PATIENCE;
        let mut buffer = [0; LONGEST];
        loop {
            let (mut found, mut ended) = (None, false);
            let mut waiting = Vec::new();
            let wake = self.client.run(clock.now(), &mut |event| match event {
                ProtocolEvent::Transmit(bytes) => waiting.push(bytes),
                ProtocolEvent::Ended | ProtocolEvent::Refused(_) | ProtocolEvent::Unbound(_) => ended = true,
                event => found = found.take().or_else(|| wanted(&event)),
            });
            for bytes in waiting {
                socket.send_to(&bytes, server).await?;
            }
            if let Some(found) = found {
                return Ok(found);
            }
            if ended || clock.now() >= end {
                return Err(ListenerError::Refused("its relay does not serve us".into()));
            }
            let wake = wake.map_or(end, |wake| wake.min(end));
            tokio::select! {
                received = socket.recv_from(&mut buffer) => {
                    let (length, _) = received?;
                    self.client.receive(&buffer[..length], clock.now(), &mut |_, _| ());
                }
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
    }
}

/// The first relay by UDP of a greeting, and what it knows us by.
fn relay_of(greeting: &Value) -> Option<(IceUrl, TurnServer)> {
    greeting["ice_servers"].as_array()?.iter().find_map(|server| {
        let text = |name: &str| server[name].as_str().map(str::to_owned);
        let credentials = Credentials { username: text("username")?, credential: text("credential")? };
        server["urls"].as_array()?.iter().find_map(|url| {
            let url: IceUrl = url.as_str()?.parse().ok()?;
            let server = TurnServer::new(&url, credentials.clone(), None)?;
            (server.transport == TurnTransport::Udp).then_some((url, server))
        })
    })
}

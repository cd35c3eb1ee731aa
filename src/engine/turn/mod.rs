//! The client of outside TURN servers (RFC 8656), as sans-IO machines: one [`Allocation`] at a server, and the [`Shards`] of a worker,
//! which share allocations among sessions. They own no socket, resolve no name and read no clock.
//!
//! A session goes through an outside server when neither its client nor we can be reached otherwise. Allocations are made when the first
//! session asks, carry fifty sessions at most, and are deleted when old and empty: permissions cannot be taken back, so that one that
//! lived for ever would let ever more strangers in. A server that does not answer within five seconds is given up, and with it goes all
//! that went through it, to the next server.

mod allocation;
mod client;
mod protocol;
mod shards;

use std::net::IpAddr;
use std::time::Instant;

pub use allocation::{Allocation, AllocationEffect, Gone, KEEPALIVE, PERMISSIONS, TRANSACTION, Unsent};
pub use client::Client;
pub use protocol::{Protocol, ProtocolEvent};
pub use shards::{
    AGE, IDLE, IPS_PER_SESSION, LONGEST_BACKOFF, Relayed, SESSIONS_PER_SHARD, SHARDS, ShardEffect, ShardId, Shards,
};

use crate::wire::ice_url::{IceUrl, Scheme, UrlTransport};
use crate::wire::signal::IceServer;

use super::credentials::Credentials;
use super::relay::is_virtual;

/// By what we reach a server. What it sends on goes by UDP all the same.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum TurnTransport {
    /// Datagrams.
    Udp,
    /// A connection.
    Tcp,
    /// A connection by TLS.
    Tls,
}

/// An outside TURN server, and what it knows us by. `Debug` hides the credentials.
#[derive(Clone, Eq, PartialEq)]
pub struct TurnServer {
    /// By what it is reached.
    pub transport: TurnTransport,
    /// A name or an address, without brackets. By TLS, its certificate is for this.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The username.
    pub username: String,
    /// The password.
    pub credential: String,
    /// When the credentials end, if they do.
    pub until: Option<Instant>,
}

impl std::fmt::Debug for TurnServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TurnServer")
            .field("transport", &self.transport)
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl TurnServer {
    /// The one at `url`, if that is one which we can be a client of: a server that only tells addresses is none, and of DTLS there are no
    /// servers in the field.
    #[must_use]
    pub fn new(url: &IceUrl, credentials: Credentials, until: Option<Instant>) -> Option<Self> {
        let transport = match (url.scheme, url.transport) {
            (Scheme::Turn, UrlTransport::Udp) => TurnTransport::Udp,
            (Scheme::Turn, UrlTransport::Tcp) => TurnTransport::Tcp,
            (Scheme::Turns, UrlTransport::Tcp) => TurnTransport::Tls,
            (Scheme::Turns, UrlTransport::Udp) | (Scheme::Stun | Scheme::Stuns, _) => return None,
        };
        let Credentials { username, credential } = credentials;
        Some(Self { transport, host: url.host.clone(), port: url.port, username, credential, until })
    }
}

/// Servers that are turned to, at most: the best stand first.
const SERVERS: usize = 8;

/// The servers among what a client would be told, in their order.
#[must_use]
pub fn servers_of(servers: &[IceServer], until: Option<Instant>) -> Vec<TurnServer> {
    let of = |server: &IceServer| {
        let credentials = server.username.clone().zip(server.credential.clone());
        let credentials = credentials.map(|(username, credential)| Credentials { username, credential });
        let url = |url: &String| TurnServer::new(&url.parse().ok()?, credentials.clone()?, until);
        server.urls.iter().filter_map(url).collect::<Vec<_>>()
    };
    servers.iter().flat_map(of).take(SERVERS).collect()
}

/// Whether a peer at this address may be asked a permission for. Strangers name the addresses: none of them is to make a server send
/// to itself, to its own network's housekeeping or to many at once.
#[must_use]
pub fn is_peer(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let everywhere = match ip {
        IpAddr::V4(ip) => ip.is_broadcast() || ip.is_link_local() || ip.octets()[0] == 0,
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    // Those addresses are of this process, and mean nothing outside.
    !everywhere && !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast() && !is_virtual(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials() -> Credentials {
        Credentials { username: "17:ann".into(), credential: "north".into() }
    }

    #[test]
    fn a_server_is_what_its_url_says_and_hides_what_it_knows_us_by() {
        let of = |url: &str| TurnServer::new(&url.parse().expect("a URL"), credentials(), None);
        let udp = of("turn:[2001:db8::1]").expect("a relay");
        assert_eq!((udp.transport, &*udp.host, udp.port), (TurnTransport::Udp, "2001:db8::1", 3478));
        assert_eq!(of("turn:a?transport=tcp").map(|server| server.transport), Some(TurnTransport::Tcp));
        let tls = of("turns:a").expect("a relay");
        assert_eq!((tls.transport, tls.port), (TurnTransport::Tls, 5349));
        for other in ["turns:a?transport=udp", "stun:a", "stuns:a"] {
            assert_eq!(of(other), None, "{other}");
        }
        let text = format!("{udp:?}");
        assert!(!text.contains("ann") && !text.contains("north") && text.contains("2001:db8::1"), "{text}");
    }

    #[test]
    fn servers_are_those_of_a_client_that_relay_and_know_us() {
        let of = |urls: &[&str], name: Option<&str>| IceServer {
            urls: urls.iter().map(|url| (*url).to_owned()).collect(),
            username: name.map(str::to_owned),
            credential: name.map(str::to_owned),
        };
        let told = [
            of(&["stun:a"], None),
            of(&["turn:nobody"], None),
            of(&["turn:a?transport=udp", "nonsense", "stun:a", "turns:a:443?transport=tcp"], Some("ann")),
            of(&["turn:b?transport=tcp"], Some("bob")),
        ];
        let found = servers_of(&told, None);
        let places: Vec<_> =
            found.iter().map(|server| (server.transport, &*server.host, server.port, &*server.username)).collect();
        let expected = [
            (TurnTransport::Udp, "a", 3478, "ann"),
            (TurnTransport::Tls, "a", 443, "ann"),
            (TurnTransport::Tcp, "b", 3478, "bob"),
        ];
        assert_eq!(places, expected);
        let many: Vec<_> = (0..100).map(|number| of(&[&format!("turn:s{number}")], Some("ann"))).collect();
        assert_eq!(servers_of(&many, None).len(), SERVERS);
    }

    #[test]
    fn no_permission_is_asked_for_what_is_no_peer() {
        for ip in ["203.0.113.7", "10.0.0.1", "192.168.1.1", "2001:db8::1", "fd00::1", "::ffff:203.0.113.7"] {
            assert!(is_peer(ip.parse().expect("an address")), "{ip}");
        }
        for ip in [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "0.1.2.3",
            "255.255.255.255",
            "224.0.0.1",
            "169.254.169.254",
            "198.18.0.1",
            "::",
            "::1",
            "ff02::1",
            "fe80::1",
            "::ffff:127.0.0.1",
            "::ffff:0.0.0.0",
            "::ffff:224.0.0.1",
        ] {
            assert!(!is_peer(ip.parse().expect("an address")), "{ip}");
        }
    }
}

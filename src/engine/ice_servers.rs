//! What a client is told for its `RTCPeerConnection`: the relay under the address that it can reach, with credentials of its own.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::wire::ids::SessionId;
use crate::wire::signal::IceServer;

use super::credentials::TurnSecret;

/// How long credentials are good for a new allocation; those that are there go on.
pub const LIFE: Duration = Duration::from_secs(6 * 3600);
/// Letters of a user's name at the relay: 72 bits.
const NAME: usize = 12;

/// Tells clients of the relay.
#[derive(Clone, Debug)]
pub struct IceServers {
    /// Makes credentials.
    pub secret: TurnSecret,
    /// The relay's port, UDP and TCP.
    pub port: u16,
    /// The port where it is reached by TLS, if there is one.
    pub tls_port: Option<u16>,
    /// Where the world reaches it, if that is known.
    pub public: Option<IpAddr>,
    /// The same moment on both clocks; seconds since 1970.
    pub epoch: (Instant, u64),
}

/// How a session is called at the relay. Its id would let anybody who reads it resume the session, and names at a relay travel in the
/// clear.
#[must_use]
pub fn user(secret: &TurnSecret, id: &SessionId) -> String {
    let mut name = URL_SAFE_NO_PAD.encode(secret.sign(id.to_string().as_bytes()));
    name.truncate(NAME);
    name
}

impl IceServers {
    /// For the client of a session, which reached us under `host`, the `Host` of its request; none when a proxy passed it on and
    /// nobody said where the relay is to be found.
    #[must_use]
    pub fn of(&self, id: &SessionId, host: Option<&str>, now: Instant) -> Vec<IceServer> {
        let named = host.and_then(reachable);
        let Some(host) = self.public.map(literal).or_else(|| named.clone()) else { return Vec::new() };
        let (epoch, seconds) = self.epoch;
        let expiry = seconds + (now.saturating_duration_since(epoch) + LIFE).as_secs();
        let minted = self.secret.mint(&user(&self.secret, id), expiry);
        let port = self.port;
        let plain = ["udp", "tcp"].map(|transport| format!("turn:{host}:{port}?transport={transport}"));
        // A certificate is for a name, which is the one that the client came by.
        let by_tls =
            self.tls_port.map(|port| format!("turns:{}:{port}?transport=tcp", named.as_ref().unwrap_or(&host)));
        vec![IceServer {
            urls: plain.into_iter().chain(by_tls).collect(),
            username: Some(minted.username),
            credential: Some(minted.credential),
        }]
    }
}

/// An address as URLs write it (RFC 3986 section 3.2.2).
fn literal(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// The host of a `Host` header, if it is one that a URL of TURN may hold (RFC 7065 section 3.1): a client's browser wrote it, but that is
/// no reason to hand anything back to it.
fn reachable(header: &str) -> Option<String> {
    let host = match header.strip_prefix('[') {
        Some(rest) => {
            return rest.split_once(']').and_then(|(ip, _)| ip.parse().ok()).map(|ip| literal(IpAddr::V6(ip)));
        }
        None => header.split(':').next().unwrap_or_default(),
    };
    let sound = !host.is_empty()
        && host.len() <= 253
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    sound.then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::credentials::parts;
    use crate::engine::host::Hmac;
    use crate::tests::net::{secs, zero};

    fn servers(public: Option<&str>) -> IceServers {
        let secret = TurnSecret::new(b"secret", Hmac::default());
        IceServers {
            secret,
            port: 3478,
            tls_port: None,
            public: public.map(|ip| ip.parse().expect("an address")),
            epoch: (zero(), 1_000),
        }
    }

    fn urls(public: Option<&str>, host: Option<&str>) -> Vec<String> {
        let id = SessionId::from_random([7; 16]);
        servers(public).of(&id, host, zero()).into_iter().flat_map(|server| server.urls).collect()
    }

    #[test]
    fn the_relay_is_where_the_client_came_to_or_where_the_operator_says() {
        let at = |host: &str| ["udp", "tcp"].map(|transport| format!("turn:{host}:3478?transport={transport}"));
        for (header, host) in [
            ("example.org", "example.org"),
            ("example.org:8080", "example.org"),
            ("192.0.2.1:8080", "192.0.2.1"),
            ("[2001:db8::1]:8080", "[2001:db8::1]"),
            ("[::1]", "[::1]"),
        ] {
            assert_eq!(urls(None, Some(header)), at(host), "{header}");
        }
        assert_eq!(urls(Some("203.0.113.7"), Some("example.org")), at("203.0.113.7"));
        assert_eq!(urls(Some("2001:db8::7"), None), at("[2001:db8::7]"));
        for header in [None, Some(""), Some(":8080"), Some("a b"), Some("a?transport=x"), Some("[x]"), Some("[::1")] {
            assert_eq!(urls(None, header), [""; 0], "{header:?}");
        }
    }

    #[test]
    fn tls_goes_to_the_name_that_the_certificate_has() {
        let id = SessionId::from_random([7; 16]);
        let last = |public: Option<&str>, host: Option<&str>| {
            let servers = IceServers { tls_port: Some(443), ..servers(public) };
            servers.of(&id, host, zero()).remove(0).urls.pop().expect("some")
        };
        assert_eq!(last(None, Some("example.org:8443")), "turns:example.org:443?transport=tcp");
        assert_eq!(last(Some("203.0.113.7"), Some("example.org")), "turns:example.org:443?transport=tcp");
        assert_eq!(last(Some("203.0.113.7"), None), "turns:203.0.113.7:443?transport=tcp");
    }

    #[test]
    fn each_session_has_a_name_of_its_own_that_is_not_its_id() {
        let servers = servers(Some("203.0.113.7"));
        let [ann, bob] = [1, 2].map(|byte| SessionId::from_random([byte; 16]));
        let server = servers.of(&ann, None, zero() + secs(50)).remove(0);
        let username = server.username.expect("a name");
        assert_eq!(parts(&username), Some((1_050 + LIFE.as_secs(), &*user(&servers.secret, &ann))));
        assert_eq!(server.credential, Some(servers.secret.password(&username)));
        assert_ne!(user(&servers.secret, &ann), user(&servers.secret, &bob));
        assert_eq!(user(&servers.secret, &ann).len(), NAME);
        assert!(!username.contains(&ann.to_string()[..8]));
    }
}

//! URLs of STUN and TURN servers, as an `RTCIceServer` and an operator write them (RFC 7064 section 3.1, RFC 7065 section 3.1).

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use thiserror::Error;

/// Longest name of a host, in bytes (RFC 1035 section 2.3.4, without the dot at the end).
const LONGEST_HOST: usize = 253;

/// What a server does, and whether by TLS.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Scheme {
    /// Tells addresses.
    Stun,
    /// The same by TLS.
    Stuns,
    /// Relays.
    Turn,
    /// The same by TLS.
    Turns,
}

impl Scheme {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Stun, Self::Stuns, Self::Turn, Self::Turns];

    /// As URLs begin with it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stun => "stun",
            Self::Stuns => "stuns",
            Self::Turn => "turn",
            Self::Turns => "turns",
        }
    }

    /// Whether such a server relays.
    #[must_use]
    pub const fn relays(self) -> bool {
        matches!(self, Self::Turn | Self::Turns)
    }

    /// Whether it is reached by TLS, or by DTLS where the transport is UDP.
    #[must_use]
    pub const fn is_secure(self) -> bool {
        matches!(self, Self::Stuns | Self::Turns)
    }

    /// The port of a URL that names none (RFC 7064 section 3.2, RFC 7065 section 3.2).
    #[must_use]
    pub const fn default_port(self) -> u16 {
        if self.is_secure() { 5349 } else { 3478 }
    }

    /// The transport of a URL that names none: TLS is spoken over TCP.
    #[must_use]
    pub const fn default_transport(self) -> UrlTransport {
        if self.is_secure() { UrlTransport::Tcp } else { UrlTransport::Udp }
    }
}

/// By what a client reaches the server; what the relay sends on goes by UDP all the same.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum UrlTransport {
    /// UDP, or DTLS over it.
    Udp,
    /// TCP, or TLS over it.
    Tcp,
}

impl UrlTransport {
    /// As URLs write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// Where a STUN or TURN server is. `Display` writes it in full, with what the text left out.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct IceUrl {
    /// What it does.
    pub scheme: Scheme,
    /// A name, an IPv4 address, or an IPv6 address without its brackets.
    pub host: String,
    /// Never 0.
    pub port: u16,
    /// By what it is reached.
    pub transport: UrlTransport,
}

/// Why a text is no URL of a STUN or TURN server. It does not repeat the text: people write passwords in the wrong place.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum IceUrlFault {
    /// Another scheme, or none.
    #[error("the URL of an ICE server begins with stun:, stuns:, turn: or turns:")]
    Scheme,
    /// Two slashes after the scheme, as other URLs have.
    #[error("the URL of an ICE server has no // after the scheme")]
    Slashes,
    /// A username and a password before the host.
    #[error("the URL of an ICE server holds no username: credentials stand beside it")]
    Credentials,
    /// No name and no address.
    #[error("the host in the URL of an ICE server is a name, an IPv4 address or an IPv6 address in brackets")]
    Host,
    /// No number between 1 and 65535.
    #[error("the port in the URL of an ICE server is a number from 1 to 65535")]
    Port,
    /// Something else after `?`, or anything in the URL of a server that does not relay.
    #[error("only ?transport=udp or ?transport=tcp may follow in the URL of a TURN server")]
    Query,
}

impl FromStr for IceUrl {
    type Err = IceUrlFault;

    fn from_str(text: &str) -> Result<Self, IceUrlFault> {
        let (scheme, rest) = text.split_once(':').ok_or(IceUrlFault::Scheme)?;
        let named = |known: &Scheme| known.name().eq_ignore_ascii_case(scheme);
        let scheme = Scheme::ALL.into_iter().find(named).ok_or(IceUrlFault::Scheme)?;
        if rest.starts_with("//") {
            return Err(IceUrlFault::Slashes);
        }
        let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
        if place.contains('@') {
            return Err(IceUrlFault::Credentials);
        }
        let (host, port) = split_host(place)?;
        let port = port.map_or(Ok(scheme.default_port()), parse_port)?;
        let transport = match query {
            None => scheme.default_transport(),
            Some(query) if scheme.relays() => parse_transport(query).ok_or(IceUrlFault::Query)?,
            Some(_) => return Err(IceUrlFault::Query),
        };
        Ok(Self { scheme, host, port, transport })
    }
}

impl fmt::Display for IceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port, transport } = self;
        // No other host has a colon.
        let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{}:{open}{host}{close}:{port}", scheme.name())?;
        if scheme.relays() { write!(f, "?transport={}", transport.name()) } else { Ok(()) }
    }
}

/// The host without brackets, and the text of the port, if there is one.
fn split_host(place: &str) -> Result<(String, Option<&str>), IceUrlFault> {
    if let Some(rest) = place.strip_prefix('[') {
        let (ip, after) = rest.split_once(']').ok_or(IceUrlFault::Host)?;
        let ip: Ipv6Addr = ip.parse().map_err(|_| IceUrlFault::Host)?;
        let port = match after {
            "" => None,
            _ => Some(after.strip_prefix(':').ok_or(IceUrlFault::Host)?),
        };
        return Ok((ip.to_string(), port));
    }
    let (host, port) = place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port)));
    let sound = !host.is_empty()
        && host.len() <= LONGEST_HOST
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    if !sound {
        return Err(IceUrlFault::Host);
    }
    // A second colon means an IPv6 address whose brackets are missing.
    if port.is_some_and(|port| port.contains(':')) { Err(IceUrlFault::Host) } else { Ok((host.to_owned(), port)) }
}

fn parse_port(text: &str) -> Result<u16, IceUrlFault> {
    // What `parse` would take and no URL writes: a sign.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0).ok_or(IceUrlFault::Port)
}

fn parse_transport(query: &str) -> Option<UrlTransport> {
    let value = query.strip_prefix("transport=")?;
    [UrlTransport::Udp, UrlTransport::Tcp].into_iter().find(|known| known.name().eq_ignore_ascii_case(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_text_leaves_out_is_as_the_rfcs_say() {
        for (text, whole) in [
            ("turn:example.org", "turn:example.org:3478?transport=udp"),
            ("turn:example.org?transport=tcp", "turn:example.org:3478?transport=tcp"),
            ("turn:192.0.2.1:80", "turn:192.0.2.1:80?transport=udp"),
            ("turns:example.org", "turns:example.org:5349?transport=tcp"),
            ("turns:example.org:443?transport=udp", "turns:example.org:443?transport=udp"),
            ("turn:[2001:DB8:0::1]:99", "turn:[2001:db8::1]:99?transport=udp"),
            ("TURN:[::1]?transport=TCP", "turn:[::1]:3478?transport=tcp"),
            ("stun:a_b.example-1.org:65535", "stun:a_b.example-1.org:65535"),
            ("stun:example.org", "stun:example.org:3478"),
            ("stuns:example.org", "stuns:example.org:5349"),
        ] {
            let url: IceUrl = text.parse().expect(text);
            assert_eq!(url.to_string(), whole, "{text}");
        }
        let url: IceUrl = "turns:[::1]".parse().expect("a URL");
        let (host, transport) = ("::1".to_owned(), UrlTransport::Tcp);
        assert_eq!(url, IceUrl { scheme: Scheme::Turns, host, port: 5349, transport });
    }

    #[test]
    fn what_is_no_url_of_a_server_is_told_why() {
        for (text, fault) in [
            ("", IceUrlFault::Scheme),
            ("example.org", IceUrlFault::Scheme),
            ("example.org:3478", IceUrlFault::Scheme),
            ("http://example.org", IceUrlFault::Scheme),
            (" turn:example.org", IceUrlFault::Scheme),
            ("turn://example.org", IceUrlFault::Slashes),
            ("turn:user:secret@example.org", IceUrlFault::Credentials),
            ("turn:", IceUrlFault::Host),
            ("turn::3478", IceUrlFault::Host),
            ("turn:?transport=udp", IceUrlFault::Host),
            ("turn:exa mple.org", IceUrlFault::Host),
            ("turn:exämple.org", IceUrlFault::Host),
            ("turn:example.org/", IceUrlFault::Host),
            ("turn:2001:db8::1", IceUrlFault::Host),
            ("turn:[example.org]", IceUrlFault::Host),
            ("turn:[fe80::1%eth0]", IceUrlFault::Host),
            ("turn:[::1", IceUrlFault::Host),
            ("turn:[::1]3478", IceUrlFault::Host),
            ("turn:example.org:", IceUrlFault::Port),
            ("turn:example.org:0", IceUrlFault::Port),
            ("turn:example.org:+80", IceUrlFault::Port),
            ("turn:example.org:65536", IceUrlFault::Port),
            ("turn:[::1]:x", IceUrlFault::Port),
            ("turn:example.org?", IceUrlFault::Query),
            ("turn:example.org?transport=sctp", IceUrlFault::Query),
            ("turn:example.org?transport=udp&x=y", IceUrlFault::Query),
            ("stun:example.org?transport=udp", IceUrlFault::Query),
        ] {
            assert_eq!(text.parse::<IceUrl>(), Err(fault), "{text}");
        }
        assert_eq!(format!("turn:{}", "a".repeat(LONGEST_HOST + 1)).parse::<IceUrl>(), Err(IceUrlFault::Host));
    }

    proptest! {
        #[test]
        fn what_it_writes_it_reads(
            scheme in proptest::sample::select(&Scheme::ALL[..]),
            host in prop_oneof!["[a-zA-Z0-9._-]{1,40}", any::<Ipv6Addr>().prop_map(|ip| ip.to_string())],
            port in 1..=u16::MAX,
            tcp: bool,
        ) {
            let transport = match (scheme.relays(), tcp) {
                (false, _) => scheme.default_transport(),
                (true, false) => UrlTransport::Udp,
                (true, true) => UrlTransport::Tcp,
            };
            let url = IceUrl { scheme, host, port, transport };
            prop_assert_eq!(url.to_string().parse(), Ok(url));
        }

        #[test]
        fn no_text_makes_it_panic(text in "(stun|turn|turns)?:?\\[?\\PC{0,30}") {
            let _ = text.parse::<IceUrl>();
        }
    }
}

//! Who may come in: tokens, the origin of pages, and which address a client really has. It is handed plain header values and
//! reads no socket and no clock; it believes no forwarding header that an untrusted peer sent.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;

/// The well-known token. It opens the door to this machine's own user only.
pub const DEV_TOKEN: &str = "devtoken";

/// Headers that a proxy adds. One of them on a request means that its client may be anywhere, whatever the peer address says.
const FORWARDING_HEADERS: [&str; 16] = [
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-ray",
    "client-ip",
    "fastly-client-ip",
    "forwarded",
    "true-client-ip",
    "via",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-real-ip",
];

/// A token or password. Neither `Debug` nor `Display` gives it away.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Fewest characters of a token: less is guessed.
    pub const MIN_CHARS: usize = 8;
    /// Most bytes of a token. A fixed bound lets a comparison always read this many.
    pub const MAX_BYTES: usize = 256;

    /// The text itself, for the one place that shows or sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares with what a stranger presented, in a time that tells neither where they differ nor how long the secret is.
    #[must_use]
    pub fn matches(&self, presented: &str) -> bool {
        same(&self.0, presented).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A text that cannot serve as a token. The text is not repeated here.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum SecretFault {
    /// Fewer than [`Secret::MIN_CHARS`] characters.
    #[error("a token has at least {} characters", Secret::MIN_CHARS)]
    TooShort,
    /// More than [`Secret::MAX_BYTES`] bytes.
    #[error("a token has at most {} bytes", Secret::MAX_BYTES)]
    TooLong,
    /// White space or a control character, which no header carries unharmed.
    #[error("a token has no white space and no control characters in it")]
    Unprintable,
}

impl TryFrom<&str> for Secret {
    type Error = SecretFault;

    fn try_from(text: &str) -> Result<Self, SecretFault> {
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            Err(SecretFault::Unprintable)
        } else if text.chars().count() < Self::MIN_CHARS {
            Err(SecretFault::TooShort)
        } else if text.len() > Self::MAX_BYTES {
            Err(SecretFault::TooLong)
        } else {
            Ok(Self(text.into()))
        }
    }
}

/// Equality over fixed-size copies: `subtle` alone returns at once on slices of different length.
fn same(secret: &str, presented: &str) -> Choice {
    padded(secret).ct_eq(&padded(presented)) & secret.len().ct_eq(&presented.len())
}

fn padded(text: &str) -> [u8; Secret::MAX_BYTES] {
    let mut bytes = [0; Secret::MAX_BYTES];
    bytes.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
    bytes
}

/// Which tokens are good.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AuthMode {
    /// The operator set a token of their own: it alone is good.
    Token(Secret),
    /// No token was set, or `devtoken`: that one is good on this machine, `random` everywhere.
    Dev {
        /// 128 random bits, drawn for this run and shown with the page's address.
        random: Secret,
    },
}

impl AuthMode {
    /// The token to hand to a client that is not on this machine.
    #[must_use]
    pub const fn token(&self) -> &Secret {
        match self {
            Self::Token(token) | Self::Dev { random: token } => token,
        }
    }
}

/// What a presented token is worth.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// A token that lets in.
    Good(TokenKind),
    /// Any other text.
    Bad,
}

/// Which of the good tokens it was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TokenKind {
    /// The operator's token, or the random one of this run: a secret that a page must have been given.
    Real,
    /// [`DEV_TOKEN`], which every page in the world knows.
    Dev,
}

impl Verdict {
    /// Whether a token given in `api_key` or in a subprotocol lets in. A real one does from any origin; the well-known one
    /// only where [`Access::origin_allowed`] said yes, or any page that this machine's user visits could use the server.
    #[must_use]
    pub const fn admits(self, origin_allowed: bool) -> bool {
        match self {
            Self::Good(TokenKind::Real) => true,
            Self::Good(TokenKind::Dev) => origin_allowed,
            Self::Bad => false,
        }
    }
}

/// What is known of whoever presents a token.
#[derive(Clone, Copy, Debug)]
pub struct Visitor<'a> {
    /// The other end of the TCP connection, never an address out of a header.
    pub peer: IpAddr,
    /// The `Host` header (`:authority` in HTTP/2).
    pub host: Option<&'a str>,
    /// Whether the request carried any forwarding header: [`Forwarding::any`].
    pub forwarded: bool,
}

impl Visitor<'_> {
    /// Whether this is certainly a client on this machine that asked for this machine: a tunnel's end is a loopback peer too, and
    /// a page that rebinds its name to 127.0.0.1 is as well, but neither has a loopback `Host`.
    #[must_use]
    pub fn is_local(&self) -> bool {
        let names_loopback =
            || self.host.and_then(|host| host.parse::<Authority>().ok()).is_some_and(|host| host.is_loopback());
        unmapped(self.peer).is_loopback() && !self.forwarded && names_loopback()
    }
}

/// What the request's headers say about proxies on the way. Collected from `(name, value)` pairs in the order received.
#[derive(Clone, Debug, Default)]
pub struct Forwarding<'a> {
    cf_connecting_ip: Vec<&'a str>,
    x_forwarded_for: Vec<&'a str>,
    any: bool,
}

impl Forwarding<'_> {
    /// Whether any header was there that only proxies add.
    #[must_use]
    pub const fn any(&self) -> bool {
        self.any
    }

    /// The rightmost address that `trusted` does not know; each hop appends the address it saw, so all left of it may be invented.
    /// When every hop is trusted, the leftmost. `None` when there is no such header or garbage is met first.
    fn rightmost_unknown(&self, trusted: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        let mut leftmost = None;
        for hop in self.x_forwarded_for.iter().rev().flat_map(|line| line.rsplit(',')) {
            let addr = hop_addr(hop)?;
            if !trusted(addr) {
                return Some(addr);
            }
            leftmost = Some(addr);
        }
        leftmost
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Forwarding<'a> {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(headers: I) -> Self {
        let mut forwarding = Self::default();
        for (name, value) in headers {
            if name.eq_ignore_ascii_case("cf-connecting-ip") {
                forwarding.cf_connecting_ip.push(value);
            } else if name.eq_ignore_ascii_case("x-forwarded-for") {
                forwarding.x_forwarded_for.push(value);
            }
            forwarding.any |= FORWARDING_HEADERS.iter().any(|known| name.eq_ignore_ascii_case(known));
        }
        forwarding
    }
}

/// One entry of `X-Forwarded-For`: an address, with a port where the proxy adds it.
fn hop_addr(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let addr = bracketed.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|addr| addr.ip()));
    addr.ok().map(unmapped)
}

/// The address of a client as far as it can be known; never IPv4-mapped.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ClientAddr(IpAddr);

impl ClientAddr {
    /// Takes an address as it stands, without its IPv4 mapping.
    #[must_use]
    pub fn new(addr: IpAddr) -> Self {
        Self(unmapped(addr))
    }

    /// The address.
    #[must_use]
    pub const fn ip(self) -> IpAddr {
        self.0
    }

    /// The part that one client cannot change at will: all of an IPv4 address, the first 64 bits of an IPv6 one (a host
    /// picks the rest itself, RFC 4291 section 2.5.1).
    #[must_use]
    pub const fn prefix(self) -> IpAddr {
        match self.0 {
            IpAddr::V4(_) => self.0,
            IpAddr::V6(addr) => {
                let [a, b, c, d, ..] = addr.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
        }
    }
}

impl fmt::Display for ClientAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// `::ffff:a.b.c.d` is how a dual-stack socket writes `a.b.c.d` (RFC 4291 section 2.5.5.2).
const fn unmapped(addr: IpAddr) -> IpAddr {
    addr.to_canonical()
}

/// Host and port as `Host` and URLs write them. Compared without regard to case.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Authority {
    host: HostName,
    port: Option<u16>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum HostName {
    /// Lower case.
    Name(Box<str>),
    Addr(IpAddr),
}

impl Authority {
    fn is_loopback(&self) -> bool {
        match &self.host {
            HostName::Name(name) => &**name == "localhost",
            HostName::Addr(addr) => addr.is_loopback(),
        }
    }
}

impl FromStr for Authority {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (host, rest) = if let Some(bracketed) = text.strip_prefix('[') {
            let (addr, rest) = bracketed.split_once(']').ok_or(())?;
            let addr = addr.parse::<Ipv6Addr>().map_err(|_| ())?;
            (HostName::Addr(unmapped(addr.into())), rest)
        } else {
            let (name, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
            (host_name(name).ok_or(())?, rest)
        };
        let port = match rest.strip_prefix(':') {
            // `parse` alone would take "+80".
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse().map_err(|_| ())?),
            None if rest.is_empty() => None,
            _ => return Err(()),
        };
        Ok(Self { host, port })
    }
}

fn host_name(text: &str) -> Option<HostName> {
    let ok = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    let addr = || text.parse::<Ipv4Addr>().map(|addr| HostName::Addr(addr.into()));
    ok.then(|| addr().unwrap_or_else(|_| HostName::Name(text.to_ascii_lowercase().into())))
}

/// Where a page came from: scheme, host and port (RFC 6454 section 4). `null` is none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Origin {
    scheme: Box<str>,
    host: HostName,
    /// The scheme's own port where none was written; `None` for schemes without one.
    port: Option<u16>,
}

/// The text is not `scheme://host` or `scheme://host:port`.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("an origin is scheme://host or scheme://host:port, without a path or a closing slash")]
pub struct OriginFault;

impl FromStr for Origin {
    type Err = OriginFault;

    fn from_str(text: &str) -> Result<Self, OriginFault> {
        let (scheme, authority) = text.split_once("://").ok_or(OriginFault)?;
        let mut letters = scheme.bytes();
        let starts_well = letters.next().is_some_and(|b| b.is_ascii_alphabetic());
        if !starts_well || !letters.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')) {
            return Err(OriginFault);
        }
        let Authority { host, port } = authority.parse().map_err(|()| OriginFault)?;
        let scheme = scheme.to_ascii_lowercase().into_boxed_str();
        let port = port.or_else(|| default_port(&scheme));
        Ok(Self { scheme, host, port })
    }
}

impl Origin {
    /// Whether a page of this origin would reach `host` by its own address. The scheme may differ, because a tunnel ends
    /// TLS; a `Host` without a port means the default port of the page's scheme.
    fn is_host(&self, host: &Authority) -> bool {
        let default = default_port(&self.scheme);
        default.is_some() && self.host == host.host && self.port == host.port.or(default)
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// Pages of other origins that the operator lets in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AllowedOrigins {
    /// `*`: every page, also one whose origin is `null`.
    Any,
    /// These, beside the server's own.
    List(Vec<Origin>),
}

/// The rules of one server.
#[derive(Clone, Debug)]
pub struct Access {
    mode: AuthMode,
    allowed_origins: AllowedOrigins,
    trusted_proxies: Vec<IpNet>,
}

impl Access {
    /// Rules from the operator's choices. An empty `trusted_proxies` believes no header.
    #[must_use]
    pub const fn new(mode: AuthMode, allowed_origins: AllowedOrigins, trusted_proxies: Vec<IpNet>) -> Self {
        Self { mode, allowed_origins, trusted_proxies }
    }

    /// The client's address. Headers count only when `peer` is a trusted proxy; what they say wrongly, or not at all, leaves `peer`.
    ///
    /// `X-Forwarded-For` goes before `CF-Connecting-IP`: Cloudflare appends the same address to it, while a proxy that is not
    /// Cloudflare's appends to it too and passes on whatever `CF-Connecting-IP` a client made up.
    #[must_use]
    pub fn client_addr(&self, peer: IpAddr, headers: &Forwarding<'_>) -> ClientAddr {
        let peer = unmapped(peer);
        if !self.trusts(peer) {
            return ClientAddr(peer);
        }
        let named = match headers.cf_connecting_ip[..] {
            _ if !headers.x_forwarded_for.is_empty() => headers.rightmost_unknown(|addr| self.trusts(addr)),
            [addr] => hop_addr(addr),
            _ => None,
        };
        ClientAddr(named.unwrap_or(peer))
    }

    /// What `token` is worth when `visitor` presents it. Compares in constant time.
    #[must_use]
    pub fn verify(&self, token: &str, visitor: &Visitor<'_>) -> Verdict {
        if self.mode.token().matches(token) {
            Verdict::Good(TokenKind::Real)
        } else if matches!(self.mode, AuthMode::Dev { .. }) && token == DEV_TOKEN && visitor.is_local() {
            Verdict::Good(TokenKind::Dev)
        } else {
            Verdict::Bad
        }
    }

    /// Whether a page of this origin may use the server: the server's own pages, and those of the operator's list. A client
    /// that sends no `Origin` is not a browser and passes; `null` and garbage pass only where everything does.
    #[must_use]
    pub fn origin_allowed(&self, origin: Option<&str>, host: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        let AllowedOrigins::List(list) = &self.allowed_origins else {
            return true;
        };
        let Ok(origin) = origin.parse::<Origin>() else {
            return false;
        };
        let own = || host.and_then(|host| host.parse().ok()).is_some_and(|host| origin.is_host(&host));
        list.contains(&origin) || own()
    }

    /// Whether this is one of the operator's proxies.
    #[must_use]
    pub fn trusts(&self, addr: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|net| net.contains(&addr))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REAL: &str = "correct-horse-battery";

    fn secret(text: &str) -> Secret {
        Secret::try_from(text).expect("a good token")
    }

    fn access(mode: AuthMode, origins: &[&str]) -> Access {
        let origins = origins.iter().map(|text| text.parse().expect("a good origin")).collect();
        let proxies = ["127.0.0.0/8", "::1/128", "10.0.0.0/8"].map(|net| net.parse().expect("a good network"));
        Access::new(mode, AllowedOrigins::List(origins), proxies.to_vec())
    }

    fn own() -> Access {
        access(AuthMode::Token(secret(REAL)), &[])
    }

    fn dev() -> Access {
        access(AuthMode::Dev { random: secret(REAL) }, &[])
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn from(peer: &str, headers: &[(&str, &str)]) -> String {
        own().client_addr(ip(peer), &headers.iter().copied().collect()).to_string()
    }

    #[test]
    fn a_secret_is_never_printed() {
        let mode = AuthMode::Token(secret(REAL));
        assert!(!format!("{mode:?} {} {:?}", secret(REAL), own()).contains(REAL));
        assert_eq!(mode.token().expose(), REAL);
    }

    #[test]
    fn weak_secrets_are_refused() {
        assert_eq!(Secret::try_from("seven77"), Err(SecretFault::TooShort));
        assert_eq!(Secret::try_from(""), Err(SecretFault::TooShort));
        assert_eq!(Secret::try_from("eight 888"), Err(SecretFault::Unprintable));
        assert_eq!(Secret::try_from("eight\u{7}888"), Err(SecretFault::Unprintable));
        assert_eq!(Secret::try_from("x".repeat(257).as_str()), Err(SecretFault::TooLong));
        assert!(Secret::try_from("x".repeat(256).as_str()).is_ok());
        assert!(Secret::try_from(DEV_TOKEN).is_ok());
    }

    #[test]
    fn only_the_same_text_matches() {
        let secret = secret(REAL);
        assert!(secret.matches(REAL));
        let padded = format!("{REAL}\0");
        let long = REAL.repeat(40);
        for wrong in ["", "c", &REAL[1..], &REAL[..REAL.len() - 1], &padded, &long, "CORRECT-HORSE-BATTERY"] {
            assert!(!secret.matches(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn the_operators_token_works_from_anywhere_and_devtoken_nowhere() {
        let far = Visitor { peer: ip("203.0.113.9"), host: None, forwarded: true };
        let near = Visitor { peer: ip("127.0.0.1"), host: Some("localhost:8080"), forwarded: false };
        for visitor in [far, near] {
            assert_eq!(own().verify(REAL, &visitor), Verdict::Good(TokenKind::Real));
            assert_eq!(own().verify(DEV_TOKEN, &visitor), Verdict::Bad);
            assert_eq!(own().verify("", &visitor), Verdict::Bad);
        }
    }

    #[test]
    fn devtoken_works_from_this_machine_only() {
        let cases = [
            ("127.0.0.1", Some("localhost:8080"), false, true),
            ("127.8.8.8", Some("127.0.0.1:8080"), false, true),
            ("::1", Some("[::1]:8080"), false, true),
            ("::1", Some("[::1]"), false, true),
            ("::ffff:127.0.0.1", Some("LOCALHOST"), false, true),
            ("127.0.0.1", Some("localhost:8080"), true, false), // through a tunnel that keeps the Host
            ("127.0.0.1", Some("talk.example"), false, false),  // DNS rebinding, or a tunnel that adds no header
            ("127.0.0.1", Some("127.0.0.1.talk.example"), false, false),
            ("127.0.0.1", Some("localhost.talk.example"), false, false),
            ("127.0.0.1", Some("me@localhost"), false, false),
            ("127.0.0.1", Some("localhost:"), false, false),
            ("127.0.0.1", Some("localhost:+80"), false, false),
            ("127.0.0.1", Some(""), false, false),
            ("127.0.0.1", None, false, false),
            ("192.168.1.20", Some("localhost:8080"), false, false),
            ("fe80::1", Some("[::1]"), false, false),
        ];
        for (peer, host, forwarded, good) in cases {
            let visitor = Visitor { peer: ip(peer), host, forwarded };
            let want = if good { Verdict::Good(TokenKind::Dev) } else { Verdict::Bad };
            assert_eq!(dev().verify(DEV_TOKEN, &visitor), want, "{visitor:?}");
            assert_eq!(dev().verify(REAL, &visitor), Verdict::Good(TokenKind::Real), "{visitor:?}");
        }
    }

    #[test]
    fn an_untrusted_peer_cannot_name_another_address() {
        let headers = [("X-Forwarded-For", "198.51.100.1"), ("CF-Connecting-IP", "198.51.100.2")];
        assert_eq!(from("203.0.113.9", &headers), "203.0.113.9");
        assert_eq!(from("::ffff:203.0.113.9", &headers), "203.0.113.9");
    }

    #[test]
    fn a_trusted_proxy_names_the_client() {
        assert_eq!(from("127.0.0.1", &[]), "127.0.0.1");
        assert_eq!(from("::ffff:127.0.0.1", &[("cf-connecting-ip", "2001:db8::5")]), "2001:db8::5");
        assert_eq!(from("::1", &[("x-forwarded-for", "198.51.100.1")]), "198.51.100.1");
        assert_eq!(from("::1", &[("x-forwarded-for", "::ffff:198.51.100.1")]), "198.51.100.1");
        assert_eq!(from("::1", &[("x-forwarded-for", "198.51.100.1:4711")]), "198.51.100.1");
        assert_eq!(from("::1", &[("x-forwarded-for", "[2001:db8::5]:4711")]), "2001:db8::5");
        assert_eq!(from("::1", &[("x-forwarded-for", "[2001:db8::5]")]), "2001:db8::5");
    }

    #[test]
    fn forwarded_for_is_read_from_the_right() {
        let from = |line| from("127.0.0.1", &[("x-forwarded-for", line)]);
        assert_eq!(from("6.6.6.6, 198.51.100.1, 10.0.0.7"), "198.51.100.1");
        assert_eq!(from("10.0.0.9, 10.0.0.7"), "10.0.0.9");
        assert_eq!(from("6.6.6.6, garbage, 10.0.0.7"), "127.0.0.1");
        assert_eq!(from("garbage, 198.51.100.1"), "198.51.100.1");
        assert_eq!(from(""), "127.0.0.1");
    }

    #[test]
    fn several_forwarded_for_lines_are_one_list() {
        let lines = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "198.51.100.1, 10.0.0.7")];
        assert_eq!(from("127.0.0.1", &lines), "198.51.100.1");
    }

    #[test]
    fn a_made_up_cloudflare_header_does_not_win() {
        let headers = [("cf-connecting-ip", "6.6.6.6"), ("x-forwarded-for", "198.51.100.1")];
        assert_eq!(from("127.0.0.1", &headers), "198.51.100.1");
        let twice = [("cf-connecting-ip", "6.6.6.6"), ("cf-connecting-ip", "7.7.7.7")];
        assert_eq!(from("127.0.0.1", &twice), "127.0.0.1");
        assert_eq!(from("127.0.0.1", &[("cf-connecting-ip", "garbage")]), "127.0.0.1");
    }

    #[test]
    fn any_proxy_header_is_noticed() {
        let any = |name| Forwarding::from_iter([("accept", "*/*"), (name, "")]).any();
        assert!(any("Forwarded") && any("X-Real-IP") && any("x-forwarded-proto") && any("Via") && any("CF-Ray"));
        assert!(!any("user-agent") && !any("host"));
    }

    #[test]
    fn a_page_of_the_server_itself_is_allowed() {
        let cases = [
            ("http://box:8080", "box:8080", true),
            ("https://box:8080", "box:8080", true), // TLS ends in a tunnel
            ("HTTPS://Box", "bOX", true),
            ("https://box", "box:443", true),
            ("https://box:443", "box", true),
            ("http://box", "box:80", true),
            ("http://[2001:DB8::1]:8080", "[2001:db8:0::1]:8080", true),
            ("https://box", "box:80", false),
            ("https://box", "box:8080", false),
            ("http://box:8080", "box", false),
            ("http://box:443", "box", false),
            ("http://evil", "box", false),
            ("http://box.evil", "box", false),
            ("http://box@evil", "evil", false),
            ("http://box/", "box", false),
            ("app://box", "box", false),
            ("null", "null", false),
            ("null", "box", false),
            ("", "box", false),
            ("http://", "box", false),
        ];
        for (origin, host, allowed) in cases {
            assert_eq!(own().origin_allowed(Some(origin), Some(host)), allowed, "{origin} at {host}");
        }
        assert!(!own().origin_allowed(Some("http://box"), None));
        assert!(own().origin_allowed(None, Some("box")), "not a browser");
    }

    #[test]
    fn other_pages_need_the_operators_leave() {
        let access = access(AuthMode::Token(secret(REAL)), &["https://app.example", "capacitor://localhost"]);
        assert!(access.origin_allowed(Some("https://APP.example:443"), Some("box:8080")));
        assert!(access.origin_allowed(Some("capacitor://localhost"), Some("box:8080")));
        assert!(!access.origin_allowed(Some("http://app.example"), Some("box:8080")));
        assert!(!access.origin_allowed(Some("null"), Some("box:8080")));
        let any = Access::new(AuthMode::Token(secret(REAL)), AllowedOrigins::Any, Vec::new());
        assert!(any.origin_allowed(Some("https://any.example"), Some("box")) && any.origin_allowed(Some("null"), None));
    }

    #[test]
    fn an_api_key_passes_by_its_kind() {
        assert!(Verdict::Good(TokenKind::Real).admits(false) && Verdict::Good(TokenKind::Real).admits(true));
        assert!(Verdict::Good(TokenKind::Dev).admits(true) && !Verdict::Good(TokenKind::Dev).admits(false));
        assert!(!Verdict::Bad.admits(true));
    }

    #[test]
    fn an_ipv6_client_is_known_by_its_network() {
        let prefix = |text| ClientAddr::new(ip(text)).prefix().to_string();
        assert_eq!(prefix("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(prefix("::ffff:198.51.100.1"), "198.51.100.1");
    }

    proptest! {
        #[test]
        fn a_secret_matches_itself_alone(a in "[!-~]{8,256}", b in "[!-~]{0,300}") {
            prop_assert!(secret(&a).matches(&a));
            prop_assert_eq!(secret(&a).matches(&b), a == b);
        }

        #[test]
        fn headers_never_break_the_reader(peer: [u8; 16], a in ".{0,60}", b in "[0-9a-f:., \\[\\]]{0,60}") {
            let headers = [("x-forwarded-for", a.as_str()), ("x-forwarded-for", b.as_str()), ("cf-connecting-ip", b.as_str())];
            let addr = own().client_addr(IpAddr::from(peer), &headers.into_iter().collect()).ip();
            prop_assert_eq!(addr, addr.to_canonical());
            let _ = own().origin_allowed(Some(&a), Some(&b));
            let _ = own().origin_allowed(Some(&b), Some(&a));
        }
    }
}

//! What a client is told for its `RTCPeerConnection`: the servers of whichever source serves, or the relay under the address that it can
//! reach, with credentials of its own and for the paths that it wants.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::wire::ice_url::{IceUrl, Scheme, UrlTransport};
use crate::wire::ids::SessionId;
use crate::wire::signal::{IceServer, TurnConfig};

use super::credentials::{Credentials, TurnSecret};
use super::host::Policy;
use super::moment::Moment;
use super::providers::Offer;

/// Letters of a user's name at a relay: 72 bits.
const NAME: usize = 12;
/// Fresh credentials come when this part of their life is left.
const LEFT: u32 = 6;
/// But so long before their end at least: clients are looked after every ten seconds, and need a moment to take them.
const IN_TIME: Duration = Duration::from_secs(20);

/// Where our own relay listens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RelayPorts {
    /// UDP and TCP.
    pub plain: u16,
    /// TLS, if it is spoken.
    pub tls: Option<u16>,
}

/// Tells clients of servers.
#[derive(Clone, Debug)]
pub struct IceServers {
    /// Of this run: makes users' names, and credentials for our own relay.
    pub secret: TurnSecret,
    /// Our own relay, if there is one.
    pub relay: Option<RelayPorts>,
    /// Where the world reaches it, if that is known.
    pub public: Option<IpAddr>,
    /// How long credentials are good for a new allocation; those that are there go on.
    pub life: Duration,
    /// Since when our own relay counts the seconds.
    pub epoch: Moment,
    /// Servers that tell addresses, for clients of a server behind a NAT: a page that hides its own addresses is found by no other.
    pub stun: Vec<IceUrl>,
    /// What the operator shares with TURN servers, for those who ask for credentials over HTTP.
    pub shared: Option<(TurnSecret, Arc<[IceUrl]>)>,
}

/// Who is told.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// Its name at a relay.
    pub user: &'a str,
    /// The `Host` of its request; none when a proxy passed it on and nobody said where the relay is to be found.
    pub host: Option<&'a str>,
    /// Which paths it wants.
    pub policy: Option<Policy>,
    /// Whether we are behind a NAT that drops what comes from where nothing was sent to.
    pub behind_nat: bool,
}

/// What a client is told.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Told {
    /// The servers.
    pub servers: Vec<IceServer>,
    /// When the first of their credentials ends.
    pub end: Option<Instant>,
}

/// How a session is called at the relay. Its id would let anybody who reads it resume the session, and names at a relay travel in the
/// clear.
#[must_use]
pub fn user(secret: &TurnSecret, id: &SessionId) -> String {
    let mut name = URL_SAFE_NO_PAD.encode(secret.sign(id.to_string().as_bytes()));
    name.truncate(NAME);
    name
}

/// A name of somebody without a session.
#[must_use]
pub fn drawn_user(random: [u8; 16]) -> String {
    let mut name = URL_SAFE_NO_PAD.encode(random);
    name.truncate(NAME);
    name
}

impl IceServers {
    /// For a client, of what serves now.
    #[must_use]
    pub fn of(&self, offer: &Offer, asker: Asker<'_>, at: Moment) -> Told {
        let mut told = self.offered(offer, asker.user, at);
        told.servers = told.servers.into_iter().filter_map(|server| admitted(server, asker.policy)).collect();
        if asker.behind_nat && !told.servers.iter().any(tells_addresses) {
            let urls = self.stun.iter().map(IceUrl::to_string).collect();
            told.servers.extend(admitted(IceServer { urls, username: None, credential: None }, asker.policy));
        }
        if !told.servers.iter().any(relays)
            && let Some((relay, end)) = self.own(asker, at.now)
        {
            told.servers.extend(admitted(relay, asker.policy));
            told.end = Some(told.end.map_or(end, |known| known.min(end)));
        }
        // Whoever gives this policy waits to be told of something.
        if told.servers.is_empty() && asker.policy == Some(Policy::All) && !self.stun.is_empty() {
            let urls = self.stun.iter().map(IceUrl::to_string).collect();
            told.servers.push(IceServer { urls, username: None, credential: None });
        }
        if told.servers.is_empty() { Told::default() } else { told }
    }

    /// When somebody who was told of servers whose credentials end then should be told of others.
    #[must_use]
    pub fn renewal(&self, end: Instant) -> Instant {
        end.checked_sub((self.life / LEFT).max(IN_TIME)).unwrap_or(end)
    }

    /// Credentials for `user`, who asks for nothing else, and how long they are good.
    #[must_use]
    pub fn credentials(&self, offer: &Offer, asker: Asker<'_>, at: Moment) -> Option<(TurnConfig, Duration)> {
        if let Some((secret, urls)) = &self.shared {
            let Credentials { username, credential } = self.mint(secret, asker.user, at);
            let urls = urls.iter().map(IceUrl::to_string).collect();
            return Some((TurnConfig { urls, username, credential }, self.life));
        }
        let told = self.of(offer, asker, at);
        let config = turn_config(&told.servers).filter(|config| !config.username.is_empty())?;
        Some((config, told.end.map_or(self.life, |end| end.saturating_duration_since(at.now))))
    }

    fn offered(&self, offer: &Offer, user: &str, at: Moment) -> Told {
        match offer {
            Offer::Nothing => Told::default(),
            Offer::Servers { servers, end } => Told { servers: servers.to_vec(), end: *end },
            Offer::Minted { secret, urls } => {
                let server = server(urls.iter().map(IceUrl::to_string).collect(), self.mint(secret, user, at));
                Told { servers: vec![server], end: Some(at.now + self.life) }
            }
        }
    }

    /// Our own relay, where the client reaches it, and when its credentials end.
    fn own(&self, Asker { user, host, .. }: Asker<'_>, now: Instant) -> Option<(IceServer, Instant)> {
        let RelayPorts { plain, tls } = self.relay?;
        let named = host.and_then(reachable);
        let host = self.public.map(|ip| ip.to_string()).or_else(|| named.clone())?;
        let url =
            |scheme, host: &str, port, transport| IceUrl { scheme, host: host.to_owned(), port, transport }.to_string();
        let plain = [UrlTransport::Udp, UrlTransport::Tcp].map(|by| url(Scheme::Turn, &host, plain, by));
        // A certificate is for a name, which is the one that the client came by.
        let tls = tls.map(|port| url(Scheme::Turns, named.as_ref().unwrap_or(&host), port, UrlTransport::Tcp));
        let urls = plain.into_iter().chain(tls).collect();
        // It counts as we do, whatever becomes of the time of day.
        let elapsed = now.saturating_duration_since(self.epoch.now);
        let credentials = self.secret.mint(user, self.epoch.unix + (elapsed + self.life).as_secs());
        Some((server(urls, credentials), now + self.life))
    }

    /// Credentials for servers of others, who know nothing but the time of day.
    fn mint(&self, secret: &TurnSecret, user: &str, at: Moment) -> Credentials {
        secret.mint(user, at.unix + self.life.as_secs())
    }
}

fn server(urls: Vec<String>, Credentials { username, credential }: Credentials) -> IceServer {
    IceServer { urls, username: Some(username), credential: Some(credential) }
}

/// Whether a URL of this server is one of a relay. One that no browser understands is none.
fn relays(server: &IceServer) -> bool {
    server.urls.iter().any(|text| text.parse::<IceUrl>().is_ok_and(|url| url.scheme.relays()))
}

/// Whether a client learns from this server under which address it is seen by UDP (RFC 8656 section 3.2: a relay tells, too).
fn tells_addresses(server: &IceServer) -> bool {
    server.urls.iter().any(|text| text.parse::<IceUrl>().is_ok_and(|url| url.transport == UrlTransport::Udp))
}

/// What a client with this policy may use of a server.
fn admitted(server: IceServer, policy: Option<Policy>) -> Option<IceServer> {
    let IceServer { mut urls, username, credential } = server;
    if let Some(policy) = policy {
        urls.retain(|text| text.parse::<IceUrl>().is_ok_and(|url| policy.admits(&url)));
    }
    (!urls.is_empty()).then_some(IceServer { urls, username, credential })
}

/// The same for clients that take one set of credentials: the first that leads to a relay, and all that goes with it. Where there is no
/// relay, the servers that tell addresses.
#[must_use]
pub fn turn_config(servers: &[IceServer]) -> Option<TurnConfig> {
    let first = servers.iter().find(|server| relays(server)).or_else(|| servers.first())?;
    let same = |server: &&IceServer| server.username == first.username && server.credential == first.credential;
    Some(TurnConfig {
        urls: servers.iter().filter(same).flat_map(|server| server.urls.clone()).collect(),
        username: first.username.clone().unwrap_or_default(),
        credential: first.credential.clone().unwrap_or_default(),
    })
}

/// The host of a `Host` header, if it is one that a URL of TURN may hold: a client's browser wrote it, but that is no reason to hand
/// anything back to it.
fn reachable(header: &str) -> Option<String> {
    // Both are a host and maybe a port.
    format!("turn:{header}").parse().ok().filter(|_| !header.contains('?')).map(|url: IceUrl| url.host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::credentials::parts;
    use crate::engine::host::Hmac;
    use crate::tests::net::{secs, zero};

    const LIFE: Duration = secs(6 * 3600);
    const PLAIN: RelayPorts = RelayPorts { plain: 3478, tls: None };

    fn at(seconds: u64) -> Moment {
        Moment { now: zero() + secs(seconds), unix: 1_000 + seconds }
    }

    fn servers(relay: Option<RelayPorts>, public: Option<&str>) -> IceServers {
        IceServers {
            secret: TurnSecret::new(b"secret", Hmac::default()),
            relay,
            public: public.map(|ip| ip.parse().expect("an address")),
            life: LIFE,
            epoch: at(0),
            stun: vec!["stun:s.example".parse().expect("a URL")],
            shared: None,
        }
    }

    fn asker(host: Option<&str>, policy: Option<Policy>) -> Asker<'_> {
        Asker { user: "ann", host, policy, behind_nat: false }
    }

    fn urls(servers: &IceServers, offer: &Offer, host: Option<&str>, policy: Option<Policy>) -> Vec<String> {
        servers.of(offer, asker(host, policy), at(0)).servers.into_iter().flat_map(|server| server.urls).collect()
    }

    fn own(public: Option<&str>, host: Option<&str>) -> Vec<String> {
        urls(&servers(Some(PLAIN), public), &Offer::Nothing, host, None)
    }

    fn given(entries: &[(&[&str], Option<&str>)]) -> Offer {
        let server = |(urls, name): &(&[&str], Option<&str>)| IceServer {
            urls: urls.iter().map(|url| (*url).to_owned()).collect(),
            username: name.map(str::to_owned),
            credential: name.map(|name| format!("{name}'s")),
        };
        Offer::Servers { servers: entries.iter().map(server).collect(), end: None }
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
            assert_eq!(own(None, Some(header)), at(host), "{header}");
        }
        assert_eq!(own(Some("203.0.113.7"), Some("example.org")), at("203.0.113.7"));
        assert_eq!(own(Some("2001:db8::7"), None), at("[2001:db8::7]"));
        for header in [None, Some(""), Some(":8080"), Some("a b"), Some("a?transport=x"), Some("[x]"), Some("[::1")] {
            assert_eq!(own(None, header), [""; 0], "{header:?}");
        }
        assert_eq!(
            urls(&servers(None, Some("203.0.113.7")), &Offer::Nothing, None, None),
            [""; 0],
            "there is no relay"
        );
    }

    #[test]
    fn tls_goes_to_the_name_that_the_certificate_has() {
        let last = |public: Option<&str>, host: Option<&str>| {
            let servers = servers(Some(RelayPorts { plain: 3478, tls: Some(443) }), public);
            urls(&servers, &Offer::Nothing, host, None).pop().expect("some")
        };
        assert_eq!(last(None, Some("example.org:8443")), "turns:example.org:443?transport=tcp");
        assert_eq!(last(Some("203.0.113.7"), Some("example.org")), "turns:example.org:443?transport=tcp");
        assert_eq!(last(Some("203.0.113.7"), None), "turns:203.0.113.7:443?transport=tcp");
    }

    #[test]
    fn each_session_has_a_name_of_its_own_that_is_not_its_id() {
        let servers = servers(Some(PLAIN), Some("203.0.113.7"));
        let [ann, bob] = [1, 2].map(|byte| SessionId::from_random([byte; 16]));
        let name = user(&servers.secret, &ann);
        let asker = Asker { user: &name, ..asker(None, None) };
        let told = servers.of(&Offer::Nothing, asker, at(50));
        assert_eq!(told.end, Some(zero() + secs(50) + LIFE));
        let username = told.servers[0].username.clone().expect("a name");
        assert_eq!(parts(&username), Some((1_050 + LIFE.as_secs(), &*name)));
        assert_eq!(told.servers[0].credential, Some(servers.secret.password(&username)));
        assert_ne!(name, user(&servers.secret, &bob));
        assert_eq!((name.len(), drawn_user([7; 16]).len()), (NAME, NAME));
        assert!(!username.contains(&ann.to_string()[..8]));
    }

    #[test]
    fn our_relay_is_added_where_nothing_else_relays() {
        let servers = servers(Some(PLAIN), Some("203.0.113.7"));
        let both = ["turn:203.0.113.7:3478?transport=udp", "turn:203.0.113.7:3478?transport=tcp"];
        let stun = given(&[(&["stun:a.example"], None)]);
        assert_eq!(urls(&servers, &stun, None, None), [&["stun:a.example"][..], &both].concat());
        let turn = given(&[(&["stun:a.example"], None), (&["turn:a.example"], Some("me"))]);
        assert_eq!(urls(&servers, &turn, None, None), ["stun:a.example", "turn:a.example"]);
        assert_eq!(urls(&servers, &turn, None, Some(Policy::All)), ["stun:a.example", "turn:a.example"]);
        // What others have does not do for this client, and ours does.
        assert_eq!(urls(&servers, &turn, None, Some(Policy::Udp)), ["turn:a.example"]);
        assert_eq!(urls(&servers, &turn, None, Some(Policy::Tcp)), [both[1]]);
        assert_eq!(urls(&servers, &stun, None, Some(Policy::Udp)), [both[0]]);
    }

    #[test]
    fn clients_of_a_server_behind_a_nat_learn_their_own_address() {
        let servers = servers(Some(PLAIN), Some("203.0.113.7"));
        let of = |offer: &Offer, policy| {
            let told = servers.of(offer, Asker { behind_nat: true, ..asker(None, policy) }, at(0));
            told.servers.into_iter().map(|server| server.urls[0].clone()).collect::<Vec<_>>()
        };
        let (stun, own) = ("stun:s.example:3478", "turn:203.0.113.7:3478?transport=udp");
        assert_eq!(of(&Offer::Nothing, None), [stun, own]);
        assert_eq!(of(&Offer::Nothing, Some(Policy::All)), [stun, own]);
        assert_eq!(
            of(&Offer::Nothing, Some(Policy::Udp)),
            [own],
            "whoever wants a relay alone wants no address of its own"
        );
        // Others tell it as well; one that is reached by TCP does not.
        assert_eq!(of(&given(&[(&["turn:a.example"], Some("me"))]), None), ["turn:a.example"]);
        assert_eq!(of(&given(&[(&["stun:a.example"], None)]), None), ["stun:a.example", own]);
        assert_eq!(of(&given(&[(&["turns:a.example"], Some("me"))]), None), ["turns:a.example", stun]);
    }

    #[test]
    fn a_policy_leaves_what_goes_by_its_transport() {
        let servers = servers(None, None);
        let all = ["turn:a.example?transport=udp", "turn:a.example?transport=tcp", "turns:a.example", "stun:a.example"];
        let offer = given(&[(&all, Some("me")), (&["stun:b.example"], None)]);
        let of = |policy| urls(&servers, &offer, None, policy);
        assert_eq!(of(None), [&all[..], &["stun:b.example"]].concat());
        assert_eq!(of(Some(Policy::All)), of(None));
        assert_eq!(of(Some(Policy::Udp)), all[..1]);
        assert_eq!(of(Some(Policy::Tcp)), all[1..3]);
        let none = servers.of(&given(&[(&["stun:b.example"], None)]), asker(None, Some(Policy::Tcp)), at(0));
        assert_eq!(none, Told::default());
        // Who gives one waits to be told of something, and by `all` there is something.
        let nothing = |policy| urls(&servers, &Offer::Nothing, None, policy);
        assert_eq!(nothing(Some(Policy::All)), ["stun:s.example:3478"]);
        assert_eq!((nothing(None), nothing(Some(Policy::Udp))), (vec![], vec![]));
    }

    #[test]
    fn one_set_of_credentials_leads_to_a_relay_wherever_there_is_one() {
        let config = |entries: &[(&[&str], Option<&str>)]| {
            let Offer::Servers { servers, .. } = given(entries) else { panic!("it was given") };
            turn_config(&servers).map(|config| (config.urls, config.username, config.credential))
        };
        let of = |urls: &[&str], name: &str, credential: &str| {
            Some((urls.iter().map(|url| (*url).to_owned()).collect(), name.to_owned(), credential.to_owned()))
        };
        let stun: (&[&str], _) = (&["stun:s.example"], None);
        let entries = [
            stun,
            (&["turn:a.example"], Some("me")),
            (&["turn:b.example"], Some("you")),
            (&["turns:a.example"], Some("me")),
        ];
        assert_eq!(config(&entries), of(&["turn:a.example", "turns:a.example"], "me", "me's"));
        assert_eq!(config(&[stun]), of(&["stun:s.example"], "", ""));
        assert_eq!(config(&[]), None);
    }

    #[test]
    fn credentials_for_others_are_of_the_shared_secret_or_of_what_serves() {
        let secret = TurnSecret::new(b"north", Hmac::default());
        let urls: Arc<[IceUrl]> = vec!["turns:t.example".parse().expect("a URL")].into();
        let mut servers = servers(Some(PLAIN), None);
        let told = |servers: &IceServers, offer: &Offer, host| servers.credentials(offer, asker(host, None), at(0));
        assert_eq!(told(&servers, &Offer::Nothing, None), None);
        let (config, life) = told(&servers, &Offer::Nothing, Some("me.example")).expect("our own relay");
        assert_eq!((config.urls.len(), config.username.as_str(), life), (2, "22600:ann", LIFE));
        let Offer::Servers { servers: theirs, .. } = given(&[(&["turn:a.example"], Some("me"))]) else { panic!() };
        let offer = Offer::Servers { servers: theirs, end: Some(zero() + secs(700)) };
        let (config, life) = told(&servers, &offer, None).expect("somebody else's relay");
        assert_eq!((config.username.as_str(), life), ("me", secs(700)));
        servers.shared = Some((secret.clone(), urls.clone()));
        let (config, life) = told(&servers, &offer, None).expect("what the operator shares");
        assert_eq!(config.urls, ["turns:t.example:5349?transport=tcp"]);
        assert_eq!((config.username.as_str(), life), ("22600:ann", LIFE));
        assert_eq!(config.credential, secret.password("22600:ann"));
        let minted = servers.of(&Offer::Minted { secret, urls }, asker(None, None), at(0));
        assert_eq!((minted.servers.len(), minted.end), (1, Some(zero() + LIFE)));
        assert_eq!(minted.servers[0].credential, Some(config.credential));
    }

    #[test]
    fn outside_servers_go_by_the_time_of_day_and_our_relay_by_its_own() {
        let secret = TurnSecret::new(b"north", Hmac::default());
        let urls: Arc<[IceUrl]> = vec!["turn:t.example".parse().expect("a URL")].into();
        let mut servers = servers(Some(PLAIN), Some("203.0.113.7"));
        let offer = Offer::Minted { secret: secret.clone(), urls: urls.clone() };
        let expiry = |told: Told| parts(told.servers[0].username.as_deref().expect("a name")).expect("an expiry").0;
        // The clock of a board was set at last; a night was slept through; the clock had been ahead.
        for unix in [1_790_000_000, 1_050 + 8 * 3600, 7] {
            let later = Moment { unix, ..at(50) };
            assert_eq!(expiry(servers.of(&offer, asker(None, None), later)), unix + LIFE.as_secs());
            assert_eq!(expiry(servers.of(&Offer::Nothing, asker(None, None), later)), 1_050 + LIFE.as_secs());
            servers.shared = Some((secret.clone(), urls.clone()));
            let (config, _) = servers.credentials(&Offer::Nothing, asker(None, None), later).expect("shared");
            assert_eq!(config.username, format!("{}:ann", unix + LIFE.as_secs()));
        }
    }

    #[test]
    fn fresh_ones_come_in_time() {
        let mut servers = servers(None, None);
        let before = |servers: &IceServers| zero() + LIFE - servers.renewal(zero() + LIFE);
        assert_eq!(before(&servers), secs(3600));
        servers.life = secs(60);
        assert_eq!(before(&servers), IN_TIME);
    }
}

//! What every connection to the server must know, and the one place where a client's token is asked for. Access control decides.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use actix::{Addr, Recipient};
use actix_http::RequestHead;
use actix_web::http::header;
use actix_web::http::uri::Authority;
use actix_web::web;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::engine::access::{Access, ClientAddr, DEV_TOKEN, Forwarding, Visitor};
use crate::engine::attempts::Attempts;
use crate::engine::deadline::Beat;
use crate::engine::door::{Admission, Wishes};
use crate::engine::ice_servers::{Asker, IceServers, Told, user};
use crate::engine::providers::Serving;
use crate::engine::session::{Policy, PortRange, Profile};
use crate::wire::ids::SessionId;
use crate::wire::signal::{Hello, SignalFault, TurnConfig, VoiceCard};

use super::capacity::{Capacity, Directory};
use super::clock::Clock;
use super::health::Health;
use super::metrics::Metrics;
use super::reflexive::Outside;
use super::rooms::Lobby;
use super::session::ToClient;
use super::worker::{Open, Opened, Resume, Worker};

/// How long a client waits for a provider's first word; then it gets what comes next in line.
const FIRST_WORD: Duration = Duration::from_secs(1);

/// What every connection needs to know.
pub struct Gate {
    /// Reads time.
    pub clock: Clock,
    /// When clients are pinged, many at a time.
    pub beat: Beat,
    /// Counts.
    pub metrics: Metrics,
    /// Who may do what.
    pub access: Access,
    /// Who has guessed how often.
    pub attempts: Mutex<Attempts>,
    /// The same of pages of other origins: their visitors, whose address it is, know nothing of it and must not be locked out.
    pub foreign_attempts: Mutex<Attempts>,
    /// Keep sessions, each its own.
    pub workers: Vec<Addr<Worker>>,
    /// How many sessions there may be.
    pub capacity: Capacity,
    /// Which worker has which session.
    pub directory: Directory,
    /// Tells clients of servers.
    pub ice_servers: IceServers,
    /// What our sockets are called behind a NAT.
    pub outside: Outside,
    /// The way to the rooms.
    pub lobby: Lobby,
    /// Whether anybody may join them.
    pub rooms_open: bool,
    /// What serves at the moment.
    pub serving: watch::Receiver<Serving>,
    /// The UDP ports of which clients may choose.
    pub rtp_window: Option<PortRange>,
    /// What can be heard.
    pub voices: Vec<VoiceCard>,
    /// Whether all that runs which must.
    pub health: Health,
    /// Turns true when the server goes away.
    pub draining: watch::Receiver<bool>,
    /// What `/metrics` shows.
    pub registry: Registry,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("access", &self.access).finish_non_exhaustive()
    }
}

impl Gate {
    /// Resumes a session if it is still there, else opens one on the worker that has the fewest.
    ///
    /// # Errors
    /// When there is no room, or the server goes away.
    pub async fn open(
        &self,
        resume: Option<SessionId>,
        (profile, ports): (Profile, Option<PortRange>),
        client: IpAddr,
        door: Recipient<ToClient>,
    ) -> Result<(Opened, SessionId), SignalFault> {
        if let Some(id) = resume
            && let Some((worker, key)) = self.directory.find(&id)
            && let Some(worker) = self.workers.get(usize::from(worker.0))
            && let Ok(Some(opened)) = worker.send(Resume { key, client, door: door.clone() }).await
        {
            return Ok((opened, id));
        }
        let place = self.capacity.take().ok_or(SignalFault::OverCapacity("the server is full"))?;
        let worker = self.workers.get(usize::from(place.worker.0)).ok_or(SignalFault::Internal)?;
        let open = Open { place, profile, ports, client, door };
        let opened = worker.send(open).await.map_err(|_| SignalFault::Internal)??;
        let id = opened.id.ok_or(SignalFault::Internal)?;
        Ok((opened, id))
    }

    /// Waits a moment for a provider that has yet to say its first word.
    pub async fn providers_settled(&self) {
        let mut serving = self.serving.clone();
        let settled = serving.wait_for(|serving| !serving.is_waited_for);
        // Whatever came of it: there is something behind, or nothing.
        drop(tokio::time::timeout(FIRST_WORD, settled).await);
    }

    /// Waits a moment for a provider that has yet to say its first word, so that the first clients after a start get what the others do.
    ///
    /// # Errors
    /// When a client that wants relayed paths only could have none.
    pub async fn ice_ready(&self, knock: &Knock, profile: Profile) -> Result<(), SignalFault> {
        self.providers_settled().await;
        match profile.policy {
            Some(policy) if policy.is_relay_only() => {
                let told = self.told("", knock, profile.policy);
                let none = told.servers.is_empty();
                if none { Err(SignalFault::NoRelay(policy.name().to_owned())) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    /// What the client of a session is told for its peer connection.
    #[must_use]
    pub fn ice_servers(&self, knock: &Knock, id: &SessionId, policy: Option<Policy>) -> Told {
        let user = user(&self.ice_servers.secret, id);
        self.told(&user, knock, policy)
    }

    /// Credentials for somebody without a session, and how long they are good; none where nothing relays.
    #[must_use]
    pub fn turn_credentials(&self, knock: &Knock, user: &str) -> Option<(TurnConfig, Duration)> {
        let offer = self.serving.borrow().offer.clone();
        self.ice_servers.credentials(&offer, self.asker(user, knock, None), self.clock.moment())
    }

    fn told(&self, user: &str, knock: &Knock, policy: Option<Policy>) -> Told {
        let offer = self.serving.borrow().offer.clone();
        self.ice_servers.of(&offer, self.asker(user, knock, policy), self.clock.moment())
    }

    fn asker<'a>(&self, user: &'a str, knock: &'a Knock, policy: Option<Policy>) -> Asker<'a> {
        Asker { user, host: knock.relay_host(), policy, behind_nat: !self.outside.known().is_empty() }
    }

    /// Who is behind a request, as its head and its connection tell; nobody without a peer address.
    #[must_use]
    pub fn knock(&self, head: &RequestHead, peer: Option<SocketAddr>) -> Option<Knock> {
        let peer = peer?.ip().to_canonical();
        let headers = head.headers();
        // A value that is not text still tells that a proxy was there.
        let forwarding: Forwarding<'_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap_or("?"))).collect();
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| head.uri.authority().map(Authority::as_str));
        // A browser's origin that is not text is none of ours.
        let origin = headers.get(header::ORIGIN).map(|value| value.to_str().unwrap_or("null"));
        let pairs = form_pairs(head.uri.query().unwrap_or_default());
        Some(Knock {
            wishes: Wishes::from_pairs(pairs.into_iter().map(|(name, value)| (Cow::Owned(name), Cow::Owned(value)))),
            peer,
            client: self.access.client_addr(peer, &forwarding),
            forwarded: forwarding.any(),
            origin_allowed: self.access.origin_allowed(origin, host),
            host: host.map(str::to_owned),
        })
    }

    /// Asks access control about a token; `wrong` is what a wrong one is told. Whoever brings none has guessed none.
    #[must_use]
    pub fn admit(&self, token: &str, knock: &Knock, wrong: SignalFault) -> Admission {
        if token.is_empty() {
            return Admission::Bad(wrong);
        }
        let now = self.clock.now();
        // Anybody may send any origin: it has tries of its own, not endless ones.
        let attempts = if knock.origin_allowed { &self.attempts } else { &self.foreign_attempts };
        let mut attempts = attempts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(too_many) = attempts.check(knock.client, now) {
            self.metrics.wrong_token();
            return Admission::Bad(SignalFault::TooManyAttempts(too_many.seconds));
        }
        if self.is_good(token, knock) {
            return Admission::Good;
        }
        attempts.wrong(knock.client, token, now);
        self.metrics.wrong_token();
        Admission::Bad(wrong)
    }

    /// The same for a `hello`. Whoever comes back to a session was let in before, and is not kept out by what others at its address
    /// guess; that a session is there is told to nobody without the token.
    #[must_use]
    pub fn admit_hello(&self, hello: &Hello, knock: &Knock) -> Admission {
        let session = hello.session.as_deref().and_then(|id| id.parse().ok());
        if session.is_some_and(|id| self.directory.find(&id).is_some()) && self.is_good(&hello.token, knock) {
            return Admission::Good;
        }
        self.admit(&hello.token, knock, SignalFault::BadToken)
    }

    /// The same for the rooms. Whoever brings no token comes in where all may, or as the well-known one would.
    #[must_use]
    pub fn admit_to_rooms(&self, token: Option<&str>, knock: &Knock) -> Admission {
        match token.filter(|token| !token.is_empty()) {
            _ if self.rooms_open && knock.origin_allowed => Admission::Good,
            Some(token) => self.admit(token, knock, SignalFault::BadToken),
            None if self.is_good(DEV_TOKEN, knock) => Admission::Good,
            None => Admission::Bad(SignalFault::BadToken),
        }
    }

    fn is_good(&self, token: &str, knock: &Knock) -> bool {
        self.access.verify(token, &knock.visitor()).admits(knock.origin_allowed)
    }
}

/// Who knocks, as the upgrade request tells.
#[derive(Clone, Debug)]
pub struct Knock {
    /// What the address asks for.
    pub wishes: Wishes,
    /// The other end of the connection.
    pub peer: IpAddr,
    /// The client behind it.
    pub client: ClientAddr,
    /// The `Host` header.
    pub host: Option<String>,
    /// Whether a proxy passed this on.
    pub forwarded: bool,
    /// Whether the page's origin may use the server.
    pub origin_allowed: bool,
}

impl Knock {
    fn visitor(&self) -> Visitor<'_> {
        Visitor { peer: self.peer, host: self.host.as_deref(), forwarded: self.forwarded }
    }

    /// The host under which the client may find the relay: where a proxy is, the relay need not be.
    fn relay_host(&self) -> Option<&str> {
        self.host.as_deref().filter(|_| !self.forwarded)
    }
}

/// The pairs of a query string; one that is malformed has none.
pub(super) fn form_pairs(query: &str) -> Vec<(String, String)> {
    web::Query::<Vec<(String, String)>>::from_query(query).map(web::Query::into_inner).unwrap_or_default()
}

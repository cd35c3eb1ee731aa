//! What every connection to the server must know, and the one place where a client's token is asked for. Access control decides.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use actix::{Addr, Recipient};
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::engine::access::{Access, ClientAddr, Visitor};
use crate::engine::attempts::Attempts;
use crate::engine::deadline::Beat;
use crate::engine::door::{Admission, Wishes};
use crate::engine::ice_servers::IceServers;
use crate::engine::session::Profile;
use crate::wire::ids::SessionId;
use crate::wire::signal::{IceServer, SignalFault, VoiceCard};

use super::capacity::{Capacity, Directory};
use super::clock::Clock;
use super::metrics::Metrics;
use super::session::ToClient;
use super::worker::{Open, Opened, Resume, Worker};

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
    /// Keep sessions, each its own.
    pub workers: Vec<Addr<Worker>>,
    /// How many sessions there may be.
    pub capacity: Capacity,
    /// Which worker has which session.
    pub directory: Directory,
    /// Tells clients of the relay, unless there is none.
    pub ice_servers: Option<IceServers>,
    /// What can be heard.
    pub voices: Vec<VoiceCard>,
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
        profile: Profile,
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
        let opened = worker.send(Open { place, profile, client, door }).await.map_err(|_| SignalFault::Internal)??;
        let id = opened.id.ok_or(SignalFault::Internal)?;
        Ok((opened, id))
    }

    /// What the client of a session is told for its peer connection.
    #[must_use]
    pub fn ice_servers(&self, knock: &Knock, id: &SessionId) -> Vec<IceServer> {
        // Where a proxy is, the relay need not be.
        let host = knock.host.as_deref().filter(|_| !knock.forwarded);
        self.ice_servers.as_ref().map(|servers| servers.of(id, host, self.clock.now())).unwrap_or_default()
    }

    /// Asks access control about a token; `wrong` is what a wrong one is told.
    #[must_use]
    pub fn admit(&self, token: &str, knock: &Knock, wrong: SignalFault) -> Admission {
        let now = self.clock.now();
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(too_many) = attempts.check(knock.client, now) {
            self.metrics.wrong_token();
            return Admission::Bad(SignalFault::TooManyAttempts(too_many.retry_after.as_secs().max(1)));
        }
        let visitor = Visitor { peer: knock.peer, host: knock.host.as_deref(), forwarded: knock.forwarded };
        if self.access.verify(token, &visitor).admits(knock.origin_allowed) {
            return Admission::Good;
        }
        attempts.wrong(knock.client, now);
        self.metrics.wrong_token();
        Admission::Bad(wrong)
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

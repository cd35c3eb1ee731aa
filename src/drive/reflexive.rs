//! Asks STUN servers what our sockets are called outside, by those sockets, and tells all workers. One worker asks; an answer that the
//! kernel gives to another one is forwarded.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::net::{Protocol, Transmit};
use tokio::sync::watch;

use crate::engine::reflexive::{Prober, Reflexive};
use crate::wire::ice_url::IceUrl;

use super::clock::entropy;
use super::hub::Hub;

/// How long a name may take to be resolved.
const PATIENCE: Duration = Duration::from_secs(5);
/// Names move.
const RESOLVED: Duration = Duration::from_secs(600);
/// Names that cannot be resolved may be so later.
const UNRESOLVED: Duration = Duration::from_secs(30);
/// Addresses of one name, of each family, that are asked.
const EACH: usize = 1;

/// What our sockets are called outside, for all workers.
#[derive(Clone, Debug)]
pub struct Outside {
    servers: Arc<[IceUrl]>,
    bases: Arc<[SocketAddr]>,
    known: Arc<watch::Sender<Arc<[Reflexive]>>>,
}

impl Outside {
    /// To be asked of `servers` for the sockets of `bases`.
    #[must_use]
    pub fn new(servers: &[IceUrl], bases: Vec<SocketAddr>) -> Self {
        Self { servers: servers.into(), bases: bases.into(), known: Arc::new(watch::Sender::new(Arc::new([]))) }
    }

    /// What is known at the moment.
    #[must_use]
    pub fn known(&self) -> Arc<[Reflexive]> {
        self.known.borrow().clone()
    }

    /// What asks, if anything is to be asked.
    #[must_use]
    pub fn prober(&self) -> Option<Prober> {
        let prober = Prober::new(self.bases.to_vec(), entropy);
        (!prober.is_idle() && !self.servers.is_empty()).then_some(prober)
    }
}

/// Asks for as long as the worker's thread runs.
pub async fn keep(hub: Rc<Hub>, outside: Outside) {
    let Some(prober) = &hub.prober else { return };
    let mut resolve = hub.clock.now();
    loop {
        let now = hub.clock.now();
        if now >= resolve {
            let servers = resolved(&outside.servers).await;
            resolve = hub.clock.now() + if servers.is_empty() { UNRESOLVED } else { RESOLVED };
            prober.borrow_mut().set_servers(&servers, hub.clock.now());
        }
        let mut asks = Vec::new();
        let wake = prober.borrow_mut().tick(now, |ask| asks.push(ask));
        for ask in asks {
            hub.expect_elsewhere(ask.transaction);
            let contents = ask.datagram().to_vec().into();
            hub.send_datagram(Transmit { proto: Protocol::Udp, source: ask.base, destination: ask.server, contents });
        }
        tell(&hub, &outside, now);
        let wake = wake.map_or(resolve, |wake| wake.min(resolve));
        tokio::select! {
            () = tokio::time::sleep_until(wake.into()) => {}
            () = hub.answered.notified() => {}
        }
    }
}

/// Takes a datagram that no session wants; returns whether it is the answer of a STUN server.
pub fn receive(hub: &Hub, from: SocketAddr, base: SocketAddr, bytes: &[u8]) -> bool {
    let Some(prober) = &hub.prober else { return false };
    let taken = prober.borrow_mut().receive(from, base, bytes, hub.clock.now());
    if taken {
        hub.answered.notify_one();
    }
    taken
}

fn tell(hub: &Hub, outside: &Outside, now: Instant) {
    let Some(prober) = &hub.prober else { return };
    let prober = prober.borrow();
    let known: Arc<[Reflexive]> = prober.known(now).into();
    let changed = outside.known.send_if_modified(|told| {
        let changed = **told != *known;
        *told = known.clone();
        changed
    });
    if changed {
        for Reflexive { base, mapped } in known.iter() {
            let symmetric = prober.is_symmetric(*base, now);
            tracing::info!(%base, %mapped, symmetric, "seen under another address");
            if symmetric {
                tracing::warn!(%base, "this NAT has another address for everybody: clients behind such a NAT need a TURN server");
            }
        }
    }
}

/// Addresses of the servers, in their order; who cannot be resolved is left out.
async fn resolved(servers: &[IceUrl]) -> Vec<SocketAddr> {
    let lookups = servers.iter().map(|server| async move {
        let found = tokio::time::timeout(PATIENCE, tokio::net::lookup_host((server.host.as_str(), server.port))).await;
        match found {
            Ok(Ok(found)) => {
                let found: Vec<_> = found.collect();
                let of = |family: fn(&SocketAddr) -> bool| found.iter().copied().filter(family).take(EACH);
                of(SocketAddr::is_ipv4).chain(of(SocketAddr::is_ipv6)).collect()
            }
            Ok(Err(error)) => {
                tracing::info!(%server, %error, "STUN server");
                Vec::new()
            }
            Err(_) => {
                tracing::info!(%server, "STUN server: its name is not resolved in time");
                Vec::new()
            }
        }
    });
    futures_util::future::join_all(lookups).await.into_iter().flatten().collect()
}

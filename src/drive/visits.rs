//! Connections to HTTP whose clients have shown no token yet: how many there may be from one address, and how long one may go without a
//! request. It knows neither pages nor WebSockets; they tell it what their connection has come to.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use actix_service::{IntoServiceFactory, Service as _, ServiceFactory, apply_fn_factory};
use actix_web::web;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::engine::access::ClientAddr;

use super::gate::Gate;
use super::tcp::{Guest, Room};

/// In each of these a connection brings one whole request at least, or it ends: actix-http times the first only. What was answered
/// before is in the system's buffers by then, and arrives yet; by HTTP/2, whose own pings end what is slow sooner, some of it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What one address may have of all connections: a page alone takes six for some seconds, and an office or a carrier's NAT has many.
const SHARE: u32 = 4;

tokio::task_local! {
    /// That of the connection whose task this is: actix-http tells its services nothing of the connection that they serve.
    static VISIT: Rc<Visit>;
}

/// One connection.
#[derive(Default)]
struct Visit {
    /// None for a proxy's, and once the client is known.
    place: Cell<Option<Guest>>,
    asked: Cell<bool>,
    upgraded: Cell<bool>,
}

impl Visit {
    /// Until there was no request for this long; a WebSocket keeps its own time.
    async fn tires(&self, patience: Duration) {
        loop {
            sleep(patience).await;
            if self.upgraded.get() {
                std::future::pending::<()>().await;
            }
            if !self.asked.take() {
                return;
            }
        }
    }
}

/// The connection whose task this is has brought a request.
pub fn asked() {
    tell(|visit| visit.asked.set(true));
}

/// It is a WebSocket from now on.
pub fn upgraded() {
    tell(|visit| visit.upgraded.set(true));
}

/// Its client is no stranger any more: the place is for another one.
pub fn admitted() {
    tell(|visit| drop(visit.place.take()));
}

/// Tests have no connection.
fn tell(word: impl FnOnce(&Visit)) {
    let _ = VISIT.try_with(|visit| word(visit));
}

/// Who may come, and how long they may be silent.
#[derive(Clone, Debug)]
pub struct Visits {
    room: Room,
    gate: web::Data<Gate>,
    patience: Duration,
}

impl Visits {
    /// Room for so many, a quarter of them from one address.
    #[must_use]
    pub fn new(gate: web::Data<Gate>, most: usize, patience: Duration) -> Self {
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        Self { room: Room::new(most, most / SHARE), gate, patience }
    }

    /// Serves those who may come, for as long as they may stay.
    pub fn bound<I, F>(
        self,
        service: I,
    ) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = F::Error, InitError = F::InitError>
    where
        I: IntoServiceFactory<F, TcpStream>,
        F: ServiceFactory<TcpStream, Config = (), Response = ()>,
    {
        apply_fn_factory(service, move |stream: TcpStream, service: &F::Service| {
            // Boxed: what follows would have room for it twice.
            let serving = self.receive(&stream).map(|visit| (visit, Box::pin(service.call(stream))));
            let patience = self.patience;
            async move {
                let Some((visit, serving)) = serving else { return Ok(()) };
                tokio::select! {
                    biased;
                    served = VISIT.scope(visit.clone(), serving) => served,
                    () = visit.tires(patience) => Ok(()),
                }
            }
        })
    }

    fn receive(&self, stream: &TcpStream) -> Option<Rc<Visit>> {
        let peer = ClientAddr::new(stream.peer_addr().ok()?.ip());
        // All who come through a proxy come from there.
        if self.gate.access.trusts(peer.ip()) {
            return Some(Rc::default());
        }
        let place = self.room.enter(peer);
        if place.is_none() {
            tracing::debug!(%peer, "too many connections without a token");
        }
        place.map(|place| Rc::new(Visit { place: Cell::new(Some(place)), ..Visit::default() }))
    }
}

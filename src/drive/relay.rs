//! The relay's way into the world and into this process: moves what its clients send to our sessions, and what those send to them. It
//! decides nothing.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use str0m::net::{Protocol, Transmit};

use crate::engine::demux::{Path, Transport};
use crate::engine::ice_servers::user;
use crate::engine::relay::{Client, Leg, RelayDrop, RelayEffect, SWEEP, is_virtual};
use crate::wire::ids::SessionId;

use super::hub::Hub;
use super::post::{RelayUser, Stray, Word};
use super::udp::{Inbox, MediaSocket};
use super::worker::take;

/// Takes what clients send to one of the relay's sockets, for as long as the worker's thread runs.
pub async fn read(hub: Rc<Hub>, socket: Arc<MediaSocket>) {
    let mut inbox = Inbox::default();
    let local = socket.advertised;
    socket
        .read_on(
            &mut inbox,
            || hub.relay_gathers_until(),
            |remote, bytes: Option<&[u8]>| {
                let client = Client { leg: Leg::Udp, remote, local };
                let done = bytes.ok_or(RelayDrop::Garbage).and_then(|bytes| receive(&hub, client, bytes));
                done.unwrap_or_else(|reason| hub.metrics.relay_dropped(reason));
            },
        )
        .await;
}

/// Lets go of what has ended, for as long as the worker's thread runs.
pub async fn keep_time(hub: Rc<Hub>) {
    let Some(relay) = &hub.relay else { return };
    loop {
        tokio::time::sleep(SWEEP).await;
        relay.borrow_mut().tick(hub.clock.now());
    }
}

/// Takes what a client sent.
///
/// # Errors
/// Why nothing came of it.
pub fn receive(hub: &Hub, client: Client, bytes: &[u8]) -> Result<(), RelayDrop> {
    let relay = hub.relay.as_ref().ok_or(RelayDrop::Unknown)?;
    hub.metrics.relay_received();
    let mut passed = None;
    guarded(hub, || {
        relay.borrow_mut().receive(client, bytes, hub.clock.now(), |effect| match effect {
            RelayEffect::ToClient { client, bytes } => answer(hub, client, bytes),
            RelayEffect::ToPeer { from, to, bytes } => passed = Some((from, to, bytes.to_vec())),
        })
    })?;
    // Only now: whoever gets it may answer at once.
    if let Some((from, to, bytes)) = passed {
        if is_virtual(to.ip()) {
            return deliver(hub, to, from, &bytes).inspect(|()| hub.passes(hub.clock.now()));
        }
        let path = Path { transport: Transport::Udp, remote: from };
        if let Err(reason) = take(hub, path, to, Some(&bytes)) {
            hub.metrics.drop(reason);
        }
    }
    Ok(())
}

/// A bug in what handles a stranger's bytes costs these bytes, and not the relay of the whole worker.
fn guarded(hub: &Hub, run: impl FnOnce() -> Result<(), RelayDrop>) -> Result<(), RelayDrop> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        tracing::error!("a bug: the relay could not handle a message");
        hub.metrics.failure();
        Err(RelayDrop::Garbage)
    })
}

/// Hands what a peer sends to the client whose allocation it is for, on whichever worker that lives.
///
/// # Errors
/// Why nothing came of it.
pub fn deliver(hub: &Hub, relayed: SocketAddr, peer: SocketAddr, bytes: &[u8]) -> Result<(), RelayDrop> {
    let relay = hub.relay.as_ref().ok_or(RelayDrop::Unknown)?;
    let owner = relay.borrow().owner(relayed).ok_or(RelayDrop::Unknown)?;
    if owner == hub.id {
        return relay.borrow_mut().deliver(relayed, peer, bytes, hub.clock.now(), |effect| match effect {
            RelayEffect::ToClient { client, bytes } => answer(hub, client, bytes),
            // What comes from a peer goes to a client.
            RelayEffect::ToPeer { .. } => {}
        });
    }
    let path = Path { transport: Transport::Udp, remote: peer };
    hub.forward(owner, Stray { via: hub.id, path, destination: relayed, bytes: Bytes::copy_from_slice(bytes) });
    Ok(())
}

/// A session is over, and with it what its client has at the relay.
pub fn session_ends(hub: &Hub, id: &SessionId) {
    let Some(relay) = &hub.relay else { return };
    let Some(user) = user(relay.borrow().secret(), id).into_bytes().first_chunk().copied() else { return };
    end_user(hub, user);
    // Its connections may have come to any worker.
    for worker in hub.neighbours.borrow().others() {
        hub.tell(worker, Word::Left { user });
    }
}

/// Somebody has left the relay.
pub fn end_user(hub: &Hub, user: RelayUser) {
    if let (Some(relay), Ok(user)) = (&hub.relay, std::str::from_utf8(&user)) {
        relay.borrow_mut().end_user(user);
    }
}

fn answer(hub: &Hub, client: Client, bytes: Vec<u8>) {
    hub.metrics.relay_sent();
    let Client { leg, remote, local } = client;
    let contents = bytes.into();
    match leg {
        Leg::Udp => hub.send_datagram(Transmit { proto: Protocol::Udp, source: local, destination: remote, contents }),
        Leg::Tcp => {
            let transmit = Transmit { proto: Protocol::Tcp, source: local, destination: remote, contents };
            hub.relay_connections.push(transmit, &hub.metrics, hub.clock.now());
        }
    }
}

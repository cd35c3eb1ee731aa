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
        return guarded(hub, || {
            relay.borrow_mut().deliver(relayed, peer, bytes, hub.clock.now(), |effect| match effect {
                RelayEffect::ToClient { client, bytes } => answer(hub, client, bytes),
                // What comes from a peer goes to a client.
                RelayEffect::ToPeer { .. } => {}
            })
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::*;
    use crate::drive::metrics::{Metrics, render};
    use crate::engine::relay::{Family, Plan};
    use crate::engine::turn::{Client as TurnClient, Protocol as _, ProtocolEvent, TurnServer};
    use crate::tests::rig;
    use crate::wire::ids::WorkerId;

    #[test]
    fn a_bug_costs_what_a_peer_sent_and_nothing_else() {
        let (audio, (metrics, registry)) = (rig::audio(), Metrics::new());
        let (hub, _) = rig::hub_with(&audio, metrics, Some(rig::relay_parts().0));
        let relayed = Plan::new(1).address(Family::V4, WorkerId(0), 0, 0);
        let deliver = || deliver(&hub, relayed, SocketAddr::from(([192, 0, 2, 1], 1)), b"x");
        let unknown = deliver().expect_err("nobody has it");
        let in_use = hub.relay.as_ref().map(|relay| relay.borrow());
        assert_eq!(deliver(), Err(RelayDrop::Garbage), "as a bug would have it, it cannot be changed");
        drop(in_use);
        assert_eq!(deliver(), Err(unknown));
        assert!(render(&registry).contains("failures_total 1\n"));
    }

    #[actix::test]
    async fn what_clients_of_the_relay_say_to_each_other_does_not_wait_for_the_beat() {
        let audio = rig::audio();
        let (parts, secret) = rig::relay_parts();
        let epoch = parts.epoch;
        let now = epoch.now;
        let (hub, capacity) = rig::hub_with(&audio, Metrics::new().0, Some(parts));
        let _crowd: Vec<_> = (0..256).map(|_| rig::session(&hub, &capacity)).collect();
        let server = TurnServer::new(&"turn:a".parse().expect("a URL"), secret.mint("ann", epoch.unix + 3600), None);
        let (server, local) = (server.expect("a relay"), SocketAddr::from(([192, 0, 2, 1], 3478)));
        let own = |port| Client { leg: Leg::Udp, remote: SocketAddr::from(([192, 0, 2, 2], port)), local };
        let relay = hub.relay.as_ref().expect("it has one");
        // Talks with the relay, with the time that it leaves between two requests; gives the address that it has there.
        let time = Cell::new(now);
        let talk = |client: &mut TurnClient, own: Client| {
            let mut address = None;
            for _ in 0..10 {
                time.set(time.get() + Duration::from_millis(60));
                let (mut said, mut answers) = (Vec::new(), Vec::new());
                client.run(time.get(), &mut |event| match event {
                    ProtocolEvent::Transmit(bytes) => said.push(bytes),
                    ProtocolEvent::Allocated(relayed) => address = Some(relayed),
                    _ => {}
                });
                for bytes in &said {
                    let heard = relay.borrow_mut().receive(own, bytes, time.get(), |effect| match effect {
                        RelayEffect::ToClient { bytes, .. } => answers.push(bytes),
                        RelayEffect::ToPeer { .. } => {}
                    });
                    heard.expect("it is answered");
                }
                for bytes in &answers {
                    client.receive(bytes, time.get(), &mut |_, _| ());
                }
            }
            address
        };
        let [(mut ann, to_ann), (mut bob, to_bob)] = [1, 2].map(|port| {
            let mut client = TurnClient::new(&server, (own(port).remote, local), now);
            let address = talk(&mut client, own(port)).expect("an allocation");
            (client, address)
        });
        ann.permit(to_bob.ip(), time.get());
        talk(&mut ann, own(1));
        let word = ann.send(to_bob, b"word", time.get()).expect("it is permitted");
        assert_eq!(receive(&hub, own(1), &word), Err(RelayDrop::Forbidden));
        assert!(hub.relay_gathers_until().is_some(), "nobody heard it");
        bob.permit(to_ann.ip(), time.get());
        talk(&mut bob, own(2));
        receive(&hub, own(1), &word).expect("it goes to the other");
        assert!(hub.relay_gathers_until().is_none() && hub.gathers_until().is_some(), "what follows does not wait");
        hub.passes(now.checked_sub(Duration::from_secs(1)).expect("the machine runs"));
        assert!(hub.relay_gathers_until().is_some(), "the talk is over");
    }
}

//! What unit tests of a worker's parts are put into: its shared state, without sockets, and sessions in it.

use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;

use crate::drive::audio::AudioEngine;
use crate::drive::capacity::{Capacity, Directory};
use crate::drive::clock::{Clock, entropy};
use crate::drive::health::Health;
use crate::drive::hub::{Common, Hub, Resident};
use crate::drive::metrics::Metrics;
use crate::drive::post::Post;
use crate::drive::reflexive::Outside;
use crate::drive::rtp_ports::RtpPorts;
use crate::drive::seat::Seat;
use crate::drive::session::Session;
use crate::engine::credentials::TurnSecret;
use crate::engine::host::Hmac;
use crate::engine::relay::{Nonces, Plan, Registry, RelayParts};
use crate::engine::session::{Model, Profile, SessionCore};
use crate::wire::ids::{SessionId, WorkerId};

use super::net::host;

/// An audio engine that nobody listens to.
pub fn audio() -> AudioEngine {
    AudioEngine::start(Clock, &Health::default(), Box::new(|_, _| {})).expect("the audio threads start")
}

/// The first of two workers.
pub fn hub(audio: &AudioEngine, metrics: Metrics) -> (Rc<Hub>, Capacity) {
    hub_with(audio, metrics, None)
}

/// The same, with a relay.
pub fn hub_with(audio: &AudioEngine, metrics: Metrics, relay: Option<RelayParts>) -> (Rc<Hub>, Capacity) {
    let capacity = Capacity::new(1_000, 2);
    let (post, mut boxes) = Post::new(1);
    let common = Common {
        clock: Clock,
        metrics,
        audio: audio.handle(),
        health: Health::default(),
        capacity: capacity.clone(),
        directory: Directory::default(),
        post,
        relay,
        outside: Outside::new(&[], Vec::new()),
        rtp_ports: RtpPorts::new(&[], Vec::new(), None),
        turn: None,
    };
    (Rc::new(Hub::new(WorkerId(0), common, host(1), boxes.remove(0), (&[], &[]))), capacity)
}

/// The parts of a relay that has begun now, and its secret.
pub fn relay_parts() -> (RelayParts, TurnSecret) {
    let (epoch, hmac) = (Clock.moment(), Hmac::default());
    let secret = TurnSecret::new(b"a secret of this run", hmac);
    let parts = RelayParts {
        worker: WorkerId(0),
        plan: Plan::new(1),
        registry: Arc::new(Registry::new(&[], 2)),
        secret: secret.clone(),
        nonces: Nonces::new([3; 20], hmac, epoch.now),
        entropy,
        epoch,
    };
    (parts, secret)
}

/// A listener's session that has begun.
pub fn session(hub: &Rc<Hub>, capacity: &Capacity) -> Resident {
    let profile = Profile::new(Model::Speaker, false);
    let key = hub.next_key();
    let id = SessionId::from_random(u128::from(key.0).to_be_bytes());
    let seat = Seat::new(SessionCore::new(hub.host.clone(), profile, Vec::new()), key, id, hub.clone());
    let actor = Session::new(seat.clone(), capacity.take().expect("there is room")).start();
    let resident = Resident { actor, seat };
    hub.welcome(key, id, resident.clone());
    resident
}

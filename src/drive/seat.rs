//! One session's place at its worker: its core, and all that the effects of that reach. Media comes to it straight from the sockets, the
//! deadlines and the audio of the worker; what the client says comes through the session's actor.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Instant;

use actix::{Recipient, WeakAddr};

use crate::engine::demux::Path;
use crate::engine::error::SessionError;
use crate::engine::session::{Effect, Input, SessionCore, SessionState};
use crate::wire::ids::{SessionId, SessionKey, WorkerId};
use crate::wire::media::{AudioTurn, MediaTime};
use crate::wire::signal::SignalFault;

use super::hub::Hub;
use super::session::{DoorKey, Finish, Session, ToClient};

/// Where a datagram came from and to.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// Where from.
    pub path: Path,
    /// The worker that received it, if that was another one.
    pub via: Option<WorkerId>,
    /// Our address as candidates name it.
    pub destination: SocketAddr,
}

/// One session but for its mailbox.
pub struct Seat {
    core: SessionCore,
    key: SessionKey,
    id: SessionId,
    hub: Rc<Hub>,
    /// The actor, as soon as it runs.
    session: Option<WeakAddr<Session>>,
    door: Option<Recipient<ToClient>>,
    door_key: DoorKey,
    state: Option<SessionState>,
    /// Our place in the audience.
    place: Option<usize>,
    /// The tick that is on its way; an earlier one than needed does no harm.
    armed: Option<Instant>,
    /// The last turn.
    played: Option<MediaTime>,
    over: bool,
}

/// As the worker and the actor share it, on one thread. Neither holds it while the other runs.
pub type SharedSeat = Rc<RefCell<Seat>>;

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seat").field("id", &self.id).field("state", &self.state).finish_non_exhaustive()
    }
}

impl Seat {
    /// That of the session named `key` and `id`.
    #[must_use]
    pub fn new(core: SessionCore, key: SessionKey, id: SessionId, hub: Rc<Hub>) -> SharedSeat {
        Rc::new(RefCell::new(Self {
            core,
            key,
            id,
            hub,
            session: None,
            door: None,
            door_key: DoorKey::default(),
            state: None,
            place: None,
            armed: None,
            played: None,
            over: false,
        }))
    }

    /// The worker's shared state.
    #[must_use]
    pub fn hub(&self) -> &Rc<Hub> {
        &self.hub
    }

    /// The actor runs; the session is counted from now on.
    pub fn begin(seat: &SharedSeat, session: WeakAddr<Session>) {
        seat.borrow_mut().session = Some(session);
        Self::settle(seat);
    }

    /// The actor has stopped.
    pub fn end(&mut self) {
        self.leave_audience();
        self.hub.metrics.session(self.state.take(), None);
        self.hub.forget(self.key, &self.id);
    }

    /// Plays a turn of audio; returns whether [`settle`](Self::settle) is wanted.
    pub fn play(&mut self, turn: &AudioTurn, now: Instant) -> bool {
        // Who left the audience and came back behind those who have had this turn is not played it twice.
        if self.played.replace(turn.time) != Some(turn.time) {
            self.step(Input::Audio(turn), None, now);
        }
        !self.is_settled()
    }

    /// Takes a datagram.
    pub fn receive(seat: &SharedSeat, Origin { path, via, destination }: Origin, bytes: &[u8]) {
        Self::put(seat, Input::Datagram { path, destination, bytes }, via);
    }

    /// The deadline has come.
    pub fn tick(seat: &SharedSeat) {
        seat.borrow_mut().armed = None;
        Self::put(seat, Input::Tick, None);
    }

    /// Takes what the actor was told.
    pub fn tell(seat: &SharedSeat, input: Input<'_>) {
        Self::put(seat, input, None);
    }

    /// Whether this door is still ours.
    #[must_use]
    pub fn is_held_by(&self, door: DoorKey) -> bool {
        door == self.door_key && self.door.is_some() && !self.over
    }

    /// A WebSocket takes the session over, unless that is over itself.
    pub fn open_door(&mut self, door: Recipient<ToClient>) -> Option<DoorKey> {
        if self.over {
            return None;
        }
        if let Some(old) = self.door.replace(door) {
            // An old door whose mailbox is full finds out by its next word.
            drop(old.try_send(ToClient::Replaced));
        }
        self.door_key = self.door_key.next();
        Some(self.door_key)
    }

    /// A door is gone; returns whether it was still ours.
    pub fn close_door(&mut self, door: DoorKey) -> bool {
        let ours = door == self.door_key;
        if ours {
            self.door = None;
        }
        ours
    }

    /// Says something to the client; returns whether there is one who listens.
    pub fn say(&mut self, word: ToClient) -> bool {
        // A door that does not empty its mailbox is as good as shut; it learns so by its next word.
        let said = self.door.as_ref().is_some_and(|door| door.try_send(word).is_ok());
        if !said {
            self.door = None;
        }
        said
    }

    fn put(seat: &SharedSeat, input: Input<'_>, via: Option<WorkerId>) {
        let settled = {
            let mut this = seat.borrow_mut();
            let now = this.hub.clock.now();
            this.step(input, via, now);
            this.is_settled()
        };
        if !settled {
            Self::settle(seat);
        }
    }

    /// Whether all is accounted for as it is.
    fn is_settled(&self) -> bool {
        !self.over && self.state == Some(self.core.state()) && self.place.is_some() == self.core.is_listening()
    }

    fn step(&mut self, input: Input<'_>, via: Option<WorkerId>, now: Instant) {
        if self.over {
            return;
        }
        let Self { core, hub, door, key, id, over, .. } = self;
        // A bug in what handles a stranger's bytes costs that stranger's session, and not the worker.
        let drained = catch_unwind(AssertUnwindSafe(|| {
            core.handle(input, now)?.run(|effect| match effect {
                Effect::Transmit(transmit) => hub.send(transmit),
                Effect::Client(message) => {
                    if door.as_ref().is_some_and(|door| door.try_send(ToClient::Say(message)).is_err()) {
                        *door = None;
                    }
                }
                Effect::Register(ufrag) => hub.demux.borrow_mut().register(&ufrag, *key),
                Effect::Expect(transaction) => hub.expect(transaction, *key),
                Effect::Learn(path) => hub.learn(path, *key, via),
                Effect::Unroute => hub.demux.borrow_mut().forget(*key),
                Effect::Audience(note) => hub.note(note),
                Effect::Joined(took) => {
                    hub.metrics.joined(took);
                    tracing::info!(session = ?id, ?took, "media connected");
                }
                Effect::Drop(reason) => hub.metrics.drop(reason),
                Effect::LongWay => tracing::warn!(session = ?id, "our SRTP differs from that of str0m and is not used"),
                Effect::Ended(reason) => {
                    tracing::info!(session = ?id, ?reason, "session ended");
                    *over = true;
                }
            })
        }));
        let wake = match drained {
            Ok(Ok(wake)) => wake,
            Ok(Err(SessionError::Undrained)) | Err(_) => return self.give_up(),
            Ok(Err(error)) => {
                hub.metrics.failure();
                tracing::info!(session = ?id, %error, "peer connection given up");
                // What else the session waits for, a tick will tell.
                Some(now)
            }
        };
        if let Some(wake) = wake
            && self.armed.is_none_or(|armed| wake < armed)
        {
            self.armed = Some(wake);
            hub.arm(*key, wake);
        }
    }

    /// Nothing of the session can be relied upon any more.
    fn give_up(&mut self) {
        tracing::error!(session = ?self.id, "a bug: the session is given up");
        self.over = true;
        self.hub.metrics.failure();
        self.hub.demux.borrow_mut().forget(self.key);
        if let Some(note) = self.core.abandon() {
            self.hub.note(note);
        }
        self.say(ToClient::Say(SignalFault::Internal.into()));
    }

    /// Keeps counters and the list of listeners true, and ends the actor of a session that is over.
    pub fn settle(seat: &SharedSeat) {
        let mut this = seat.borrow_mut();
        if this.over {
            if let Some(session) = this.session.take().and_then(|session| session.upgrade()) {
                session.do_send(Finish);
            }
            return;
        }
        let state = Some(this.core.state());
        this.hub.metrics.session(this.state, state);
        this.state = state;
        match (this.core.is_listening(), this.place) {
            (true, None) => {
                let place = this.hub.audience.borrow_mut().insert(seat.clone());
                this.place = Some(place);
            }
            (false, Some(_)) => this.leave_audience(),
            _ => {}
        }
    }

    fn leave_audience(&mut self) {
        if let Some(place) = self.place.take() {
            self.hub.leave_audience(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use actix::prelude::*;

    use super::*;
    use crate::drive::audio::AudioEngine;
    use crate::drive::capacity::{Capacity, Directory};
    use crate::drive::clock::Clock;
    use crate::drive::hub::{Common, Resident};
    use crate::drive::metrics::{Metrics, render};
    use crate::drive::post::Post;
    use crate::drive::session::Attach;
    use crate::engine::session::{Model, Profile};
    use crate::tests::net::host;
    use crate::wire::signal::{ClientMsg, ServerMsg};

    /// A worker's shared state, without sockets.
    fn hub(audio: &AudioEngine, metrics: Metrics) -> (Rc<Hub>, Capacity) {
        let capacity = Capacity::new(10, 1);
        let (post, mut boxes) = Post::new(1);
        let common = Common {
            clock: Clock,
            metrics,
            audio: audio.handle(),
            capacity: capacity.clone(),
            directory: Directory::default(),
            post,
        };
        (Rc::new(Hub::new(WorkerId(0), common, host(1), boxes.remove(0), &[])), capacity)
    }

    fn session(hub: &Rc<Hub>, capacity: &Capacity, number: u8) -> Resident {
        let profile = Profile { model: Model::Speaker, sdk: false };
        let (key, id) = (hub.next_key(), SessionId::from_random([number; 16]));
        let seat = Seat::new(SessionCore::new(hub.host.clone(), profile, Vec::new()), key, id, hub.clone());
        let actor = Session::new(seat.clone(), capacity.take().expect("there is room")).start();
        let resident = Resident { actor, seat };
        hub.welcome(key, id, resident.clone());
        resident
    }

    #[actix::test]
    async fn a_bug_costs_one_session_and_nobody_else() {
        let audio = AudioEngine::start(Clock, Box::new(|_, _| {})).expect("the audio threads start");
        let (metrics, registry) = Metrics::new();
        let (hub, capacity) = hub(&audio, metrics);
        let [bad, good] = [1, 2].map(|number| session(&hub, &capacity, number));
        tokio::task::yield_now().await;
        assert_eq!(hub.sessions.borrow().len(), 2);
        let heard = Rc::new(RefCell::new(Vec::new()));
        let door = bad.actor.send(Attach(Client(heard.clone()).start().recipient())).await;
        assert!(matches!(door, Ok(Some(_))), "{door:?}");
        bad.seat.borrow_mut().core.bug = true;
        Seat::tick(&bad.seat);
        // It is over, whatever else is put in, and no door opens any more.
        Seat::tell(&bad.seat, Input::Client(ClientMsg::Stop));
        assert!(bad.seat.borrow().over);
        let attached = bad.actor.send(Attach(Client(Rc::default()).start().recipient())).await;
        assert!(!matches!(attached, Ok(Some(_))), "{attached:?}");
        while bad.actor.connected() {
            tokio::task::yield_now().await;
        }
        assert_eq!(hub.sessions.borrow().len(), 1);
        assert_eq!(*heard.borrow(), [ServerMsg::from(SignalFault::Internal).to_json()]);
        Seat::tick(&good.seat);
        assert!(!good.seat.borrow().over && good.actor.connected());
        let text = render(&registry);
        assert!(text.contains("sessions{state=\"idle\"} 1\n") && text.contains("failures_total 1\n"), "{text}");
    }

    /// A client, and what it was told.
    struct Client(Rc<RefCell<Vec<String>>>);

    impl Actor for Client {
        type Context = Context<Self>;
    }

    impl Handler<ToClient> for Client {
        type Result = ();

        fn handle(&mut self, word: ToClient, _ctx: &mut Context<Self>) {
            self.0.borrow_mut().push(match word {
                ToClient::Say(message) => message.to_json(),
                ToClient::Replaced => "replaced".to_owned(),
            });
        }
    }
}

//! The actor of one session: translates messages into inputs of the core and effects into messages and datagrams. It decides nothing.

use std::cell::RefCell;
use std::future::ready;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use actix::WeakAddr;
use actix::prelude::*;
use bytes::Bytes;
use tokio::sync::oneshot;

use crate::engine::demux::Path;
use crate::engine::session::{Effect, Input, SessionCore, SessionState};
use crate::wire::ids::{SessionId, SessionKey, WorkerId};
use crate::wire::media::AudioTurn;
use crate::wire::signal::{ClientMsg, ServerMsg, SignalFault};

use super::hub::{Hub, JoinStep, Place};

/// Messages that may wait for one session; what does not fit is dropped and counted.
const MAILBOX: usize = 32;

/// A datagram that the demultiplexer gave to this session.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Datagram {
    /// Where from.
    pub path: Path,
    /// The worker that received it, if that was another one.
    pub via: Option<WorkerId>,
    /// Our address as candidates name it.
    pub destination: SocketAddr,
    /// The bytes.
    pub bytes: Bytes,
}

/// The session's deadline has come.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Tick;

/// A client's message, from the door that it came through; answered whether that door is still the session's.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub struct FromClient {
    /// Which door.
    pub door: DoorKey,
    /// What.
    pub message: ClientMsg,
}

/// An offer whose turn has come; answered as [`FromClient`].
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub struct Admitted(pub FromClient);

/// A WebSocket takes the session over; the newest one wins.
#[derive(Debug, Message)]
#[rtype(result = "DoorKey")]
pub struct Attach(pub Recipient<ToClient>);

/// A door is gone.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Detach {
    /// Which door; an old one means nothing.
    pub door: DoorKey,
    /// By a Close frame, not by a broken connection.
    pub closed: bool,
}

/// A door's hold on its session. However it is let go, also with a reply that nobody took, the session is told.
#[derive(Debug)]
pub struct Line {
    session: Addr<Session>,
    door: DoorKey,
    /// Whether the client, or the server, has said goodbye.
    pub closed: bool,
}

impl Line {
    /// The hold of `door`.
    #[must_use]
    pub fn new(session: Addr<Session>, door: DoorKey) -> Self {
        Self { session, door, closed: false }
    }

    /// Passes a message on; answered whether the session still listens to this door.
    pub fn send(&self, message: ClientMsg) -> Request<Session, FromClient> {
        self.session.send(FromClient { door: self.door, message })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // The last word of this door, so the one that a full mailbox must not lose.
        self.session.do_send(Detach { door: self.door, closed: self.closed });
    }
}

/// The server goes away.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Shutdown;

/// What a session tells its door.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub enum ToClient {
    /// Send this.
    Say(ServerMsg),
    /// Another WebSocket took the session over.
    Replaced,
}

/// Tells the doors of one session apart.
#[derive(Clone, Copy, Debug, Default, Eq, MessageResponse, PartialEq)]
pub struct DoorKey(u32);

/// One session but for its mailbox: turns of audio are played on it without one.
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
    over: bool,
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seat").field("id", &self.id).field("state", &self.state).finish_non_exhaustive()
    }
}

impl Seat {
    /// Plays a turn of audio; returns whether the session must be accounted for anew.
    pub fn play(&mut self, turn: &AudioTurn, now: Instant) -> bool {
        self.step(Input::Audio(turn), None, now);
        self.state != Some(self.core.state())
    }

    fn step(&mut self, input: Input<'_>, via: Option<WorkerId>, now: Instant) {
        let Self { core, hub, door, key, id, over, .. } = self;
        let drained = core.handle(input, now).and_then(|drain| {
            drain.run(|effect| match effect {
                Effect::Transmit(transmit) => hub.send(transmit),
                Effect::Client(message) => {
                    // A door that does not empty its mailbox is as good as shut; it learns so by its next word.
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
        });
        match drained {
            Ok(Some(wake)) if self.armed.is_none_or(|armed| wake < armed) => {
                self.armed = Some(wake);
                hub.arm(*key, wake);
            }
            Ok(_) => {}
            Err(error) => {
                hub.metrics.failure();
                tracing::info!(session = ?self.id, %error, "peer connection given up");
                // What else the session waits for, a tick will tell.
                if let Some(session) = self.session.as_ref().and_then(WeakAddr::upgrade) {
                    session.do_send(Tick);
                }
            }
        }
    }

    fn is_held_by(&self, door: DoorKey) -> bool {
        door == self.door_key && self.door.is_some()
    }

    /// Keeps counters and the list of listeners true.
    pub fn account(seat: &Rc<RefCell<Self>>) {
        let mut this = seat.borrow_mut();
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
            self.hub.audience.borrow_mut().remove(place);
        }
    }
}

/// The actor of one session.
#[derive(Debug)]
pub struct Session {
    seat: Rc<RefCell<Seat>>,
    _place: Place,
}

impl Session {
    /// A session named `key` and `id`; it counts itself as soon as it runs.
    #[must_use]
    pub fn new(core: SessionCore, key: SessionKey, id: SessionId, hub: Rc<Hub>, place: Place) -> Self {
        let seat = Seat {
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
            over: false,
        };
        Self { seat: Rc::new(RefCell::new(seat)), _place: place }
    }

    fn step(&self, input: Input<'_>, ctx: &mut Context<Self>) {
        self.step_via(input, None, ctx);
    }

    fn step_via(&self, input: Input<'_>, via: Option<WorkerId>, ctx: &mut Context<Self>) {
        let over = {
            let mut seat = self.seat.borrow_mut();
            let now = seat.hub.clock.now();
            seat.step(input, via, now);
            seat.over
        };
        if over {
            ctx.stop();
        }
        Seat::account(&self.seat);
    }

    /// Takes a client's message, if its door is still ours.
    fn client(&self, FromClient { door, message }: FromClient, ctx: &mut Context<Self>) -> bool {
        let ours = self.seat.borrow().is_held_by(door);
        if ours {
            self.step(Input::Client(message), ctx);
        }
        ours
    }
}

impl Actor for Session {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.seat.borrow_mut().session = Some(ctx.address().downgrade());
        Seat::account(&self.seat);
    }

    fn stopped(&mut self, _ctx: &mut Context<Self>) {
        let mut seat = self.seat.borrow_mut();
        seat.leave_audience();
        let state = seat.state.take();
        seat.hub.metrics.session(state, None);
        seat.hub.forget(seat.key, &seat.id);
    }
}

impl Handler<Datagram> for Session {
    type Result = ();

    fn handle(&mut self, Datagram { path, via, destination, bytes }: Datagram, ctx: &mut Context<Self>) {
        self.step_via(Input::Datagram { path, destination, bytes: &bytes }, via, ctx);
    }
}

impl Handler<Tick> for Session {
    type Result = ();

    fn handle(&mut self, _: Tick, ctx: &mut Context<Self>) {
        self.seat.borrow_mut().armed = None;
        self.step(Input::Tick, ctx);
    }
}

impl Handler<FromClient> for Session {
    type Result = ResponseFuture<bool>;

    fn handle(&mut self, from: FromClient, ctx: &mut Context<Self>) -> Self::Result {
        if !self.seat.borrow().is_held_by(from.door) || !matches!(from.message, ClientMsg::Offer(_)) {
            return Box::pin(ready(self.client(from, ctx)));
        }
        // To negotiate is heavy work, which waits in line. Its door reads no further until then.
        let (taken, told) = oneshot::channel();
        let session = ctx.address();
        let seat = self.seat.borrow();
        if seat.hub.join(JoinStep::Offer { session, offer: from, taken }) {
            return Box::pin(async move { told.await.unwrap_or(false) });
        }
        seat.hub.metrics.join_refused();
        let fault = SignalFault::OverCapacity("too many join at this moment, try again");
        let said = seat.door.as_ref().map(|door| door.try_send(ToClient::Say(fault.into())));
        Box::pin(ready(said.is_some_and(|said| said.is_ok())))
    }
}

impl Handler<Admitted> for Session {
    type Result = bool;

    fn handle(&mut self, Admitted(from): Admitted, ctx: &mut Context<Self>) -> bool {
        self.client(from, ctx)
    }
}

impl Handler<Attach> for Session {
    type Result = DoorKey;

    fn handle(&mut self, Attach(door): Attach, ctx: &mut Context<Self>) -> DoorKey {
        let key = {
            let mut seat = self.seat.borrow_mut();
            if let Some(old) = seat.door.replace(door) {
                // An old door whose mailbox is full finds out by its next word.
                drop(old.try_send(ToClient::Replaced));
            }
            seat.door_key = DoorKey(seat.door_key.0.wrapping_add(1));
            seat.door_key
        };
        self.step(Input::Attached, ctx);
        key
    }
}

impl Handler<Detach> for Session {
    type Result = ();

    fn handle(&mut self, Detach { door, closed }: Detach, ctx: &mut Context<Self>) {
        if door == self.seat.borrow().door_key {
            self.seat.borrow_mut().door = None;
            self.step(if closed { Input::Closed } else { Input::Dropped }, ctx);
        }
    }
}

impl Handler<Shutdown> for Session {
    type Result = ();

    fn handle(&mut self, _: Shutdown, ctx: &mut Context<Self>) {
        self.step(Input::Closed, ctx);
    }
}

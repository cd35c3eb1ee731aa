//! The actor of one session: translates messages into inputs of the core and effects into messages and datagrams. It decides nothing.

use std::future::ready;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

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

/// One turn of audio.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Turn(pub Arc<AudioTurn>);

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

/// One session.
pub struct Session {
    core: SessionCore,
    key: SessionKey,
    id: SessionId,
    hub: Rc<Hub>,
    door: Option<Recipient<ToClient>>,
    door_key: DoorKey,
    state: Option<SessionState>,
    /// Our place in the audience.
    seat: Option<usize>,
    /// The tick that is on its way; an earlier one than needed does no harm.
    armed: Option<Instant>,
    _place: Place,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("id", &self.id).field("state", &self.state).finish_non_exhaustive()
    }
}

impl Session {
    /// A session named `key` and `id`; it counts itself as soon as it runs.
    #[must_use]
    pub fn new(core: SessionCore, key: SessionKey, id: SessionId, hub: Rc<Hub>, place: Place) -> Self {
        Self {
            core,
            key,
            id,
            hub,
            door: None,
            door_key: DoorKey::default(),
            state: None,
            seat: None,
            armed: None,
            _place: place,
        }
    }

    fn step(&mut self, input: Input<'_>, ctx: &mut Context<Self>) {
        self.step_via(input, None, ctx);
    }

    fn step_via(&mut self, input: Input<'_>, via: Option<WorkerId>, ctx: &mut Context<Self>) {
        let Self { core, hub, door, key, id, .. } = self;
        let mut over = false;
        let drained = core.handle(input, hub.clock.now()).and_then(|drain| {
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
                    over = true;
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
                ctx.notify(Tick);
            }
        }
        if over {
            ctx.stop();
        }
        self.account(ctx);
    }

    /// Takes a client's message, if its door is still ours.
    fn client(&mut self, FromClient { door, message }: FromClient, ctx: &mut Context<Self>) -> bool {
        let ours = self.is_held_by(door);
        if ours {
            self.step(Input::Client(message), ctx);
        }
        ours
    }

    fn is_held_by(&self, door: DoorKey) -> bool {
        door == self.door_key && self.door.is_some()
    }

    /// Keeps counters and the list of listeners true.
    fn account(&mut self, ctx: &Context<Self>) {
        let state = Some(self.core.state());
        self.hub.metrics.session(self.state, state);
        self.state = state;
        match (self.core.is_listening(), self.seat) {
            (true, None) => self.seat = Some(self.hub.audience.borrow_mut().insert(ctx.address())),
            (false, Some(seat)) => {
                self.seat = None;
                self.hub.audience.borrow_mut().remove(seat);
            }
            _ => {}
        }
    }
}

impl Actor for Session {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.account(ctx);
    }

    fn stopped(&mut self, _ctx: &mut Context<Self>) {
        self.hub.metrics.session(self.state.take(), None);
        if let Some(seat) = self.seat.take() {
            self.hub.audience.borrow_mut().remove(seat);
        }
        self.hub.forget(self.key, &self.id);
    }
}

impl Handler<Datagram> for Session {
    type Result = ();

    fn handle(&mut self, Datagram { path, via, destination, bytes }: Datagram, ctx: &mut Context<Self>) {
        self.step_via(Input::Datagram { path, destination, bytes: &bytes }, via, ctx);
    }
}

impl Handler<Turn> for Session {
    type Result = ();

    fn handle(&mut self, Turn(turn): Turn, ctx: &mut Context<Self>) {
        self.step(Input::Audio(&turn), ctx);
    }
}

impl Handler<Tick> for Session {
    type Result = ();

    fn handle(&mut self, _: Tick, ctx: &mut Context<Self>) {
        self.armed = None;
        self.step(Input::Tick, ctx);
    }
}

impl Handler<FromClient> for Session {
    type Result = ResponseFuture<bool>;

    fn handle(&mut self, from: FromClient, ctx: &mut Context<Self>) -> Self::Result {
        if !self.is_held_by(from.door) || !matches!(from.message, ClientMsg::Offer(_)) {
            return Box::pin(ready(self.client(from, ctx)));
        }
        // To negotiate is heavy work, which waits in line. Its door reads no further until then.
        let (taken, told) = oneshot::channel();
        let session = ctx.address();
        if self.hub.join(JoinStep::Offer { session, offer: from, taken }) {
            return Box::pin(async move { told.await.unwrap_or(false) });
        }
        self.hub.metrics.join_refused();
        let fault = SignalFault::OverCapacity("too many join at this moment, try again");
        let said = self.door.as_ref().map(|door| door.try_send(ToClient::Say(fault.into())));
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
        if let Some(old) = self.door.replace(door) {
            // An old door whose mailbox is full finds out by its next word.
            drop(old.try_send(ToClient::Replaced));
        }
        self.door_key = DoorKey(self.door_key.0.wrapping_add(1));
        self.step(Input::Attached, ctx);
        self.door_key
    }
}

impl Handler<Detach> for Session {
    type Result = ();

    fn handle(&mut self, Detach { door, closed }: Detach, ctx: &mut Context<Self>) {
        if door == self.door_key {
            self.door = None;
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

//! The actor of one session: what the client says, and who it is that says it, comes to the session through this one mailbox.

use std::future::ready;

use actix::prelude::*;
use tokio::sync::oneshot;

use crate::engine::session::Input;
use crate::wire::signal::{ClientMsg, ServerMsg, SignalFault};

use super::capacity::Place;
use super::hub::JoinStep;
use super::seat::{Seat, SharedSeat};

/// Messages that may wait for one session.
const MAILBOX: usize = 32;

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

/// A WebSocket takes the session over; the newest one wins. Answered with its key, unless the session is over.
#[derive(Debug, Message)]
#[rtype(result = "Option<DoorKey>")]
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

/// The session is over.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Finish;

/// What a session tells its door.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub enum ToClient {
    /// Send this.
    Say(ServerMsg),
    /// Tell the client of ICE servers afresh, so that it restarts ICE.
    Renew,
    /// Another WebSocket took the session over.
    Replaced,
}

/// Tells the doors of one session apart.
#[derive(Clone, Copy, Debug, Default, Eq, MessageResponse, PartialEq)]
pub struct DoorKey(u32);

impl DoorKey {
    /// The next one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

/// The actor of one session.
#[derive(Debug)]
pub struct Session {
    seat: SharedSeat,
    _place: Place,
}

impl Session {
    /// The actor of this seat.
    #[must_use]
    pub fn new(seat: SharedSeat, place: Place) -> Self {
        Self { seat, _place: place }
    }

    /// Takes a client's message, if its door is still ours.
    fn client(&self, FromClient { door, message }: FromClient) -> bool {
        let ours = self.seat.borrow().is_held_by(door);
        if ours {
            Seat::tell(&self.seat, Input::Client(message));
        }
        ours
    }
}

impl Actor for Session {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
        Seat::begin(&self.seat, ctx.address().downgrade());
    }

    fn stopped(&mut self, _ctx: &mut Context<Self>) {
        self.seat.borrow_mut().end();
    }
}

impl Handler<FromClient> for Session {
    type Result = ResponseFuture<bool>;

    fn handle(&mut self, from: FromClient, ctx: &mut Context<Self>) -> Self::Result {
        if !self.seat.borrow().is_held_by(from.door) || !matches!(from.message, ClientMsg::Offer(_)) {
            return Box::pin(ready(self.client(from)));
        }
        // To negotiate is heavy work, which waits in line. Its door reads no further until then.
        let (taken, told) = oneshot::channel();
        let session = ctx.address();
        let hub = self.seat.borrow().hub().clone();
        if hub.join(JoinStep::Offer { session, offer: from, taken }) {
            return Box::pin(async move { told.await.unwrap_or(false) });
        }
        hub.metrics.join_refused();
        let fault = SignalFault::OverCapacity("too many join at this moment, try again");
        Box::pin(ready(self.seat.borrow_mut().say(ToClient::Say(fault.into()))))
    }
}

impl Handler<Admitted> for Session {
    type Result = bool;

    fn handle(&mut self, Admitted(from): Admitted, _ctx: &mut Context<Self>) -> bool {
        self.client(from)
    }
}

impl Handler<Attach> for Session {
    type Result = Option<DoorKey>;

    fn handle(&mut self, Attach(door): Attach, _ctx: &mut Context<Self>) -> Option<DoorKey> {
        let key = self.seat.borrow_mut().open_door(door)?;
        Seat::tell(&self.seat, Input::Attached);
        Some(key)
    }
}

impl Handler<Detach> for Session {
    type Result = ();

    fn handle(&mut self, Detach { door, closed }: Detach, _ctx: &mut Context<Self>) {
        let ours = self.seat.borrow_mut().close_door(door);
        if ours {
            Seat::tell(&self.seat, if closed { Input::Closed } else { Input::Dropped });
        }
    }
}

impl Handler<Shutdown> for Session {
    type Result = ();

    fn handle(&mut self, _: Shutdown, _ctx: &mut Context<Self>) {
        Seat::tell(&self.seat, Input::Closed);
    }
}

impl Handler<Finish> for Session {
    type Result = ();

    fn handle(&mut self, _: Finish, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

//! One client's WebSocket: joins frames, pings, closes in good order, and leaves the rest to what it is for. The only folder that names
//! actix-web-actors, which upstream keeps but no longer develops.

mod listener;
mod member;
mod wire;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use actix_http::ws::Item;
use actix_web_actors::ws::{self, CloseCode, Message as Frame, ProtocolError, WebsocketContext};
use bytes::{Bytes, BytesMut};

use crate::engine::door::CloseReason;

use super::gate::{Gate, Knock};
use super::visits;

pub use listener::listen;
pub use member::meet;

/// How often a client is pinged.
const PING: Duration = Duration::from_secs(10);
/// Silence after which a connection is taken for broken, found by the third ping that was not answered: 30 s after the last that was. That
/// one's answer came somewhat later.
const SILENCE: Duration = Duration::from_secs(25);
/// How long the client's half of the closing handshake is waited for (RFC 6455 section 7.1.1).
const CLOSING: Duration = Duration::from_secs(2);

/// How the connection is ending.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ending {
    /// By a Close frame, the client's or ours.
    Closed,
    /// Another socket has its place.
    Replaced,
}

/// What a connection is for.
trait Role: Sized + Unpin + 'static {
    /// Messages of ours that may wait for a slow client.
    const MAILBOX: usize;

    /// Bytes that a message may have now.
    fn limit(&self) -> usize;

    /// The connection stands.
    fn started(ws: &mut Ws<Self>, ctx: &mut Ctx<Self>);

    /// A whole message came.
    fn text(ws: &mut Ws<Self>, text: &str, ctx: &mut Ctx<Self>);

    /// A whole message that is no text came, of so many bytes.
    fn binary(ws: &mut Ws<Self>, bytes: usize, ctx: &mut Ctx<Self>);

    /// Time passes.
    fn tick(ws: &mut Ws<Self>, now: Instant, ctx: &mut Ctx<Self>);

    /// The connection is gone.
    fn stopped(ws: &mut Ws<Self>);
}

struct Ws<R> {
    role: R,
    gate: Arc<Gate>,
    knock: Knock,
    /// A message whose last fragment has not come, and whether it is text.
    joining: Option<(BytesMut, bool)>,
    heard: Instant,
    ending: Option<Ending>,
    link: Rc<Link>,
}

/// What the actor of a connection and its bytes tell each other.
#[derive(Debug, Default)]
struct Link {
    /// Set when the client is no stranger any more: a stranger's bytes are counted.
    admitted: Cell<bool>,
    /// Why the bytes cannot be read on.
    fault: Cell<Option<CloseReason>>,
    /// Set when a client took long to take something, and could not be listened to meanwhile.
    slow: Cell<bool>,
}

impl Link {
    /// The client is known from now on.
    fn admit(&self) {
        self.admitted.set(true);
        visits::admitted();
    }
}

type Ctx<R> = WebsocketContext<Ws<R>>;

impl<R: Role> Ws<R> {
    fn new(role: R, gate: Arc<Gate>, knock: Knock) -> Self {
        let heard = gate.clock.now();
        Self { role, gate, knock, joining: None, heard, ending: None, link: Rc::default() }
    }

    fn text(&mut self, text: &str, ctx: &mut Ctx<R>) {
        if text.len() > self.role.limit() {
            return self.close(CloseReason::TooBig, Ending::Closed, ctx);
        }
        R::text(self, text, ctx);
    }

    fn binary(&mut self, bytes: usize, ctx: &mut Ctx<R>) {
        if bytes > self.role.limit() {
            return self.close(CloseReason::TooBig, Ending::Closed, ctx);
        }
        R::binary(self, bytes, ctx);
    }

    fn fragment(&mut self, item: Item, ctx: &mut Ctx<R>) {
        let (bytes, last) = match item {
            Item::FirstText(bytes) => (self.join(true, &bytes), false),
            Item::FirstBinary(bytes) => (self.join(false, &bytes), false),
            Item::Continue(bytes) => (self.extend(&bytes), false),
            Item::Last(bytes) => (self.extend(&bytes), true),
        };
        if bytes > self.role.limit() {
            return self.close(CloseReason::TooBig, Ending::Closed, ctx);
        }
        if last && let Some((bytes, text)) = self.joining.take() {
            match std::str::from_utf8(&bytes) {
                Ok(message) if text => self.text(message, ctx),
                Err(_) if text => self.close(CloseReason::InvalidUtf8, Ending::Closed, ctx),
                _ => R::binary(self, bytes.len(), ctx),
            }
        }
    }

    fn join(&mut self, text: bool, bytes: &Bytes) -> usize {
        self.joining = Some((BytesMut::from(&bytes[..]), text));
        bytes.len()
    }

    fn extend(&mut self, bytes: &Bytes) -> usize {
        let Some((joined, _)) = &mut self.joining else { return 0 };
        joined.extend_from_slice(bytes);
        joined.len()
    }

    /// Sends a Close frame and waits a little for the client's: closing the connection on unread bytes would lose our last words.
    fn close(&mut self, reason: CloseReason, ending: Ending, ctx: &mut Ctx<R>) {
        if self.ending.is_none() {
            self.ending = Some(ending);
            ctx.close(Some(ws::CloseReason {
                code: CloseCode::from(reason.code()),
                description: Some(reason.text().to_owned()),
            }));
            ctx.run_later(CLOSING, |_, ctx| ctx.stop());
        }
    }

    fn keep_alive(&mut self, ctx: &mut Ctx<R>) {
        // Nothing follows a Close frame (RFC 6455 section 5.5.1).
        if self.ending.is_some() {
            return;
        }
        let now = self.gate.clock.now();
        if self.link.slow.take() {
            // What it said meanwhile is still to be read.
            self.heard = now;
        }
        if now.saturating_duration_since(self.heard) >= SILENCE {
            return ctx.stop();
        }
        ctx.ping(b"");
        R::tick(self, now, ctx);
    }
}

impl<R: Role> Actor for Ws<R> {
    type Context = Ctx<R>;

    fn started(&mut self, ctx: &mut Ctx<R>) {
        ctx.set_mailbox_capacity(R::MAILBOX);
        self.gate.metrics.websocket(1);
        // All of a thread in step: it wakes once for many.
        let now = self.gate.clock.now();
        ctx.run_later(self.gate.beat.after(now) - now, |_, ctx| _ = ctx.run_interval(PING, Self::keep_alive));
        let mut draining = self.gate.draining.clone();
        let goodbye = async move { draining.wait_for(|draining| *draining).await.is_ok() };
        ctx.spawn(goodbye.into_actor(self).map(|_, ws, ctx| ws.close(CloseReason::GoingAway, Ending::Closed, ctx)));
        R::started(self, ctx);
    }

    fn stopped(&mut self, _ctx: &mut Ctx<R>) {
        self.gate.metrics.websocket(-1);
        R::stopped(self);
    }
}

impl<R: Role> StreamHandler<Result<Frame, ProtocolError>> for Ws<R> {
    fn handle(&mut self, frame: Result<Frame, ProtocolError>, ctx: &mut Ctx<R>) {
        self.heard = self.gate.clock.now();
        match frame {
            Ok(Frame::Close(_)) => {
                let ours = self.ending.is_some();
                self.ending.get_or_insert(Ending::Closed);
                if !ours {
                    ctx.close(None);
                }
                ctx.stop();
            }
            // Our Close frame is out: the rest is read, so that the connection ends well, and means nothing.
            Ok(_) if self.ending.is_some() => {}
            Ok(Frame::Text(text)) => self.text(&text, ctx),
            Ok(Frame::Binary(bytes)) => self.binary(bytes.len(), ctx),
            Ok(Frame::Continuation(item)) => self.fragment(item, ctx),
            Ok(Frame::Ping(bytes)) => ctx.pong(&bytes),
            Ok(Frame::Pong(_) | Frame::Nop) => {}
            // A second one after the first ended it already: nothing good comes any more.
            Err(_) if self.ending.is_some() => ctx.stop(),
            Err(error) => match (self.link.fault.take(), error) {
                (Some(reason), _) => self.close(reason, Ending::Closed, ctx),
                // Text frames are checked below us; the kind of error is only in its text.
                (None, ProtocolError::Io(error)) if error.to_string().contains("utf-8") => {
                    self.close(CloseReason::InvalidUtf8, Ending::Closed, ctx);
                }
                // A connection that broke may have brought a Close frame before: what came whole is handed on yet, then the
                // stream ends, and we do.
                (None, ProtocolError::Io(_)) => {}
                (None, _) => self.close(CloseReason::Protocol, Ending::Closed, ctx),
            },
        }
    }
}

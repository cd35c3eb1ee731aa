//! One client's WebSocket: joins frames, asks the door, forwards to the session. The only file that names actix-web-actors,
//! which upstream keeps but no longer develops.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use actix_http::ws::Item;
use actix_web::error::PayloadError;
use actix_web::web::{Bytes, BytesMut, Payload};
use actix_web::{HttpRequest, HttpResponse};
use actix_web_actors::ws::{self, CloseCode, Message as Frame, ProtocolError, WebsocketContext, WsResponseBuilder};

use futures_util::StreamExt as _;

use crate::engine::door::{Admission, CloseReason, Door, DoorEffect, LIMIT_CLIENT, LIMIT_SDK};
use crate::engine::ice_servers::{Told, turn_config};
use crate::engine::session::{PortRange, Profile};
use crate::logging::RedactedSdp;
use crate::wire::ids::SessionId;
use crate::wire::signal::{ClientMsg, HelloAck, IceServer, ServerMsg, SignalFault};

use super::gate::{Gate, Knock};
use super::session::{Line, ToClient};
use super::worker::Opened;

/// How often a client is pinged.
const PING: Duration = Duration::from_secs(10);
/// Silence after which a connection is taken for broken.
const SILENCE: Duration = Duration::from_secs(30);
/// How long the client's half of the closing handshake is waited for (RFC 6455 section 7.1.1).
const CLOSING: Duration = Duration::from_secs(2);
/// Messages of the session that may wait for a slow client: an answer and all its candidates fit.
const MAILBOX: usize = 64;

/// What a door is told whose session listens to another one.
const REPLACED: CloseReason = CloseReason::Policy("another connection resumed this session");
/// Bytes that a stranger may send in all: a greeting, and a few messages that are answered by errors.
const STRANGER_BYTES: usize = 64 * 1024;

/// Upgrades the request; the door opens on the new connection.
///
/// # Errors
/// When the request is no WebSocket handshake.
pub fn upgrade(
    gate: Arc<Gate>,
    knock: Knock,
    request: &HttpRequest,
    payload: Payload,
) -> actix_web::Result<HttpResponse> {
    let now = gate.clock.now();
    let mut door = Door::new(knock.wishes.clone(), gate.rtp_window, now);
    let knocked = knock.wishes.api_key.as_deref().map(|key| gate.admit(key, &knock, SignalFault::BadApiKey));
    // Only a client that has proven itself may make us buffer images.
    let limit = if knocked == Some(Admission::Good) { LIMIT_SDK } else { LIMIT_CLIENT };
    let admitted = Rc::new(Cell::new(false));
    let first = knocked.map(|admission| door.knock(admission)).unwrap_or_default();
    let socket = Ws {
        door,
        gate,
        knock,
        first,
        line: None,
        greeted: None,
        joining: None,
        heard: now,
        ending: None,
        admitted: admitted.clone(),
    };
    let mut strange = 0;
    let bounded = payload.map(move |chunk| {
        let chunk = chunk?;
        if !admitted.get() {
            strange += chunk.len();
            if strange > STRANGER_BYTES {
                return Err(PayloadError::Overflow);
            }
        }
        Ok(chunk)
    });
    WsResponseBuilder::new(socket, request, bounded).frame_size(limit).start()
}

/// How the connection is ending.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ending {
    /// By a Close frame, the client's or ours.
    Closed,
    /// Another socket has the session.
    Replaced,
}

struct Ws {
    door: Door,
    gate: Arc<Gate>,
    knock: Knock,
    first: Vec<DoorEffect>,
    line: Option<Line>,
    /// Who the client is, once it has a session.
    greeted: Option<(SessionId, Profile)>,
    /// A message whose last fragment has not come, and whether it is text.
    joining: Option<(BytesMut, bool)>,
    heard: Instant,
    ending: Option<Ending>,
    /// Set when the session is there: the stream of bytes is bounded by it.
    admitted: Rc<Cell<bool>>,
}

type Ctx = WebsocketContext<Ws>;

impl Ws {
    fn apply(&mut self, effects: Vec<DoorEffect>, ctx: &mut Ctx) {
        for effect in effects {
            match effect {
                DoorEffect::Send(message) => ctx.text(message.to_json()),
                DoorEffect::Check(hello) => {
                    let admission = self.gate.admit(&hello.token, &self.knock, SignalFault::BadToken);
                    let effects = self.door.admitted(admission, hello.session.as_deref());
                    self.apply(effects, ctx);
                }
                DoorEffect::Attach { resume, profile, ports } => self.attach(resume, (profile, ports), ctx),
                DoorEffect::Forward(message) => self.forward(message, ctx),
                DoorEffect::Renew => self.renew(ctx),
                DoorEffect::Close(reason) => self.close(reason, Ending::Closed, ctx),
            }
        }
    }

    /// Nothing else is read until the session is there.
    fn attach(&mut self, resume: Option<SessionId>, (profile, ports): (Profile, Option<PortRange>), ctx: &mut Ctx) {
        let (gate, knock, door) = (self.gate.clone(), self.knock.clone(), ctx.address().recipient());
        let opening = async move {
            gate.ice_ready(&knock, profile).await?;
            gate.open(resume, (profile, ports), knock.client.ip(), door).await
        };
        let opening = opening.into_actor(self).map(move |opened, ws, ctx| match opened {
            Ok((opened, id)) => ws.attached(opened, id, profile, ctx),
            Err(fault) => {
                let effects = ws.door.refuse(fault);
                ws.apply(effects, ctx);
            }
        });
        ctx.wait(opening);
    }

    fn attached(&mut self, Opened { line, id: new, media }: Opened, id: SessionId, profile: Profile, ctx: &mut Ctx) {
        self.line = Some(line);
        self.admitted.set(true);
        self.door.attached();
        self.greeted = Some((id, profile));
        let session_id = id.to_string();
        let ice_servers = self.ice_servers(id, profile);
        let config = profile.policy.and_then(|_| turn_config(&ice_servers)).map(ServerMsg::TurnConfig);
        if profile.sdk {
            let (server_ip, server_port) = (media.ip().to_string(), media.port());
            let session_id = session_id.clone();
            ctx.text(ServerMsg::SessionId { session_id, server_ip, server_port }.to_json());
        }
        // Before any acknowledgement, for clients that build their connection with the first one.
        if let Some(config) = config {
            ctx.text(config.to_json());
        }
        if !profile.sdk {
            let (voices, resumed) = (self.gate.voices.clone(), new.is_none());
            ctx.text(ServerMsg::HelloAck(HelloAck { voices, ice_servers, session_id, resumed }).to_json());
        }
    }

    /// What the client is to be told now; it will be told again when that ends.
    fn ice_servers(&mut self, id: SessionId, profile: Profile) -> Vec<IceServer> {
        let now = self.gate.clock.now();
        let Told { servers, end } = self.gate.ice_servers(&self.knock, &id, profile.policy);
        // An SDK that asked for no paths is told of none.
        let told = !profile.sdk || profile.policy.is_some();
        self.door.told(end.filter(|_| told).map(|end| self.gate.ice_servers.renewal(end)), now);
        servers
    }

    fn renew(&mut self, ctx: &mut Ctx) {
        let Some((id, profile)) = self.greeted else { return };
        let ice_servers = self.ice_servers(id, profile);
        let message = match profile.policy {
            Some(_) => turn_config(&ice_servers).map(ServerMsg::TurnConfig),
            None => Some(ServerMsg::IceServers { ice_servers }).filter(|_| !profile.sdk),
        };
        if let Some(message) = message {
            tracing::debug!(client = %self.knock.client, "ICE servers renewed");
            ctx.text(message.to_json());
        }
    }

    /// The client's next word waits until the session has taken this one.
    fn forward(&mut self, message: ClientMsg, ctx: &mut Ctx) {
        let Some(line) = &self.line else { return };
        if let ClientMsg::Offer(offer) = &message {
            tracing::debug!(client = %self.knock.client, sdp = %RedactedSdp::new(&offer.sdp), "offer");
        }
        let sending = line.send(message).into_actor(self).map(|taken, ws, ctx| match taken {
            Ok(true) => {}
            Ok(false) => ws.close(REPLACED, Ending::Replaced, ctx),
            Err(_) => {
                let effects = ws.door.refuse(SignalFault::Internal);
                ws.apply(effects, ctx);
            }
        });
        ctx.wait(sending);
    }

    fn text(&mut self, text: &str, ctx: &mut Ctx) {
        if text.len() > self.door.limit() {
            return self.close(CloseReason::TooBig, Ending::Closed, ctx);
        }
        let effects = self.door.text(text, self.heard);
        self.apply(effects, ctx);
    }

    fn fragment(&mut self, item: Item, ctx: &mut Ctx) {
        let (bytes, last) = match item {
            Item::FirstText(bytes) => (self.join(true, &bytes), false),
            Item::FirstBinary(bytes) => (self.join(false, &bytes), false),
            Item::Continue(bytes) => (self.extend(&bytes), false),
            Item::Last(bytes) => (self.extend(&bytes), true),
        };
        if bytes > self.door.limit() {
            return self.close(CloseReason::TooBig, Ending::Closed, ctx);
        }
        if last && let Some((bytes, text)) = self.joining.take() {
            match std::str::from_utf8(&bytes) {
                Ok(message) if text => self.text(message, ctx),
                Err(_) if text => self.close(CloseReason::InvalidUtf8, Ending::Closed, ctx),
                _ => self.binary(ctx),
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

    fn binary(&mut self, ctx: &mut Ctx) {
        let effects = self.door.binary(self.heard);
        self.apply(effects, ctx);
    }

    /// Sends a Close frame and waits a little for the client's: closing the connection on unread bytes would lose our last words.
    fn close(&mut self, reason: CloseReason, ending: Ending, ctx: &mut Ctx) {
        if self.ending.is_none() {
            self.ending = Some(ending);
            ctx.close(Some(ws::CloseReason {
                code: CloseCode::from(reason.code()),
                description: Some(reason.text().to_owned()),
            }));
            ctx.run_later(CLOSING, |_, ctx| ctx.stop());
        }
    }

    fn keep_alive(&mut self, ctx: &mut Ctx) {
        // Nothing follows a Close frame (RFC 6455 section 5.5.1).
        if self.ending.is_some() {
            return;
        }
        let now = self.gate.clock.now();
        if now.saturating_duration_since(self.heard) >= SILENCE {
            return ctx.stop();
        }
        ctx.ping(b"");
        let effects = self.door.tick(now);
        self.apply(effects, ctx);
    }
}

impl Actor for Ws {
    type Context = Ctx;

    fn started(&mut self, ctx: &mut Ctx) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.gate.metrics.websocket(1);
        // All of a thread in step: it wakes once for many.
        let now = self.gate.clock.now();
        ctx.run_later(self.gate.beat.after(now) - now, |_, ctx| _ = ctx.run_interval(PING, Self::keep_alive));
        let mut draining = self.gate.draining.clone();
        let goodbye = async move { draining.wait_for(|draining| *draining).await.is_ok() };
        ctx.spawn(goodbye.into_actor(self).map(|_, ws, ctx| ws.close(CloseReason::GoingAway, Ending::Closed, ctx)));
        let first = std::mem::take(&mut self.first);
        self.apply(first, ctx);
    }

    fn stopped(&mut self, _ctx: &mut Ctx) {
        self.gate.metrics.websocket(-1);
        if let Some(line) = &mut self.line {
            line.closed = self.ending == Some(Ending::Closed);
        }
    }
}

impl StreamHandler<Result<Frame, ProtocolError>> for Ws {
    fn handle(&mut self, frame: Result<Frame, ProtocolError>, ctx: &mut Ctx) {
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
            Ok(Frame::Binary(_)) => self.binary(ctx),
            Ok(Frame::Continuation(item)) => self.fragment(item, ctx),
            Ok(Frame::Ping(bytes)) => ctx.pong(&bytes),
            Err(ProtocolError::Overflow) => self.close(CloseReason::TooBig, Ending::Closed, ctx),
            // Text frames are checked below us; the kind of error is only in its text.
            Err(ProtocolError::Io(error)) if error.to_string().contains("utf-8") => {
                self.close(CloseReason::InvalidUtf8, Ending::Closed, ctx);
            }
            Err(ProtocolError::Io(error)) if error.to_string().contains("size limit") => {
                self.close(CloseReason::TooBig, Ending::Closed, ctx);
            }
            // A connection that broke may have brought a Close frame before: what came whole is handed on yet, then the
            // stream ends, and we do.
            Ok(Frame::Pong(_) | Frame::Nop) | Err(ProtocolError::Io(_)) => {}
            Err(_) => ctx.stop(),
        }
    }
}

impl Handler<ToClient> for Ws {
    type Result = ();

    fn handle(&mut self, message: ToClient, ctx: &mut Ctx) {
        match message {
            ToClient::Say(message) if self.ending.is_none() => {
                if let ServerMsg::WebrtcAnswer { sdp } | ServerMsg::Answer { sdp } = &message {
                    tracing::debug!(client = %self.knock.client, sdp = %RedactedSdp::new(sdp), "answer");
                }
                ctx.text(message.to_json());
            }
            ToClient::Renew if self.ending.is_none() => self.renew(ctx),
            ToClient::Say(_) | ToClient::Renew => {}
            ToClient::Replaced => {
                self.close(REPLACED, Ending::Replaced, ctx);
            }
        }
    }
}

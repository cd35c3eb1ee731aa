//! The WebSocket of somebody who listens or echoes: asks the door, forwards to the session.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use actix::prelude::*;
use actix_codec::Framed;
use actix_http::h1;
use futures_util::future::LocalBoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::engine::door::{Admission, CloseReason, Door, DoorEffect, LIMIT_CLIENT, LIMIT_SDK};
use crate::engine::ice_servers::{Told, turn_config};
use crate::engine::session::{PortRange, Profile};
use crate::logging::RedactedSdp;
use crate::wire::ids::SessionId;
use crate::wire::signal::{ClientMsg, HelloAck, IceServer, ServerMsg, SignalFault};

use super::super::gate::{Gate, Knock};
use super::super::session::{Line, ToClient};
use super::super::worker::Opened;
use super::wire::carry;
use super::{Ctx as Context, Ending, Role, Ws};

/// What a door is told whose session listens to another one.
const REPLACED: CloseReason = CloseReason::Policy("another connection resumed this session");

/// Opens the door on a connection; what comes back serves it to its end, and is an error when it broke.
pub fn listen<T>(gate: Arc<Gate>, knock: Knock, framed: Framed<T, h1::Codec>) -> LocalBoxFuture<'static, io::Result<()>>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut door = Door::new(knock.wishes.clone(), gate.rtp_window, gate.clock.now());
    let knocked = knock.wishes.api_key.as_deref().map(|key| gate.admit(key, &knock, SignalFault::BadApiKey));
    // Only a client that has proven itself may make us buffer images.
    let limit = if knocked == Some(Admission::Good) { LIMIT_SDK } else { LIMIT_CLIENT };
    let first = knocked.map(|admission| door.knock(admission)).unwrap_or_default();
    let listener = Listener { door, first, line: None, greeted: None };
    carry(Ws::new(listener, gate, knock), limit, framed)
}

struct Listener {
    door: Door,
    first: Vec<DoorEffect>,
    line: Option<Line>,
    /// Who the client is, once it has a session.
    greeted: Option<(SessionId, Profile)>,
}

type Ctx = Context<Listener>;

impl Ws<Listener> {
    fn apply(&mut self, effects: Vec<DoorEffect>, ctx: &mut Ctx) {
        for effect in effects {
            match effect {
                DoorEffect::Send(message) => ctx.text(message.to_json()),
                DoorEffect::Check(hello) => {
                    let admission = self.gate.admit_hello(&hello, &self.knock);
                    let effects = self.role.door.admitted(admission, hello.session.as_deref());
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
                let effects = ws.role.door.refuse(fault);
                ws.apply(effects, ctx);
            }
        });
        ctx.wait(opening);
    }

    fn attached(&mut self, Opened { line, id: new, media }: Opened, id: SessionId, profile: Profile, ctx: &mut Ctx) {
        self.role.line = Some(line);
        self.link.admit();
        self.role.door.attached();
        self.role.greeted = Some((id, profile));
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
        self.role.door.told(end.filter(|_| told).map(|end| self.gate.ice_servers.renewal(end)), now);
        servers
    }

    fn renew(&mut self, ctx: &mut Ctx) {
        let Some((id, profile)) = self.role.greeted else { return };
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
        let Some(line) = &self.role.line else { return };
        if let ClientMsg::Offer(offer) = &message {
            tracing::debug!(client = %self.knock.client, sdp = %RedactedSdp::new(&offer.sdp), "offer");
        }
        let sending = line.send(message).into_actor(self).map(|taken, ws, ctx| match taken {
            Ok(true) => {}
            Ok(false) => ws.close(REPLACED, Ending::Replaced, ctx),
            Err(_) => {
                let effects = ws.role.door.refuse(SignalFault::Internal);
                ws.apply(effects, ctx);
            }
        });
        ctx.wait(sending);
    }
}

impl Role for Listener {
    /// An answer and all its candidates fit.
    const MAILBOX: usize = 64;

    fn limit(&self) -> usize {
        self.door.limit()
    }

    fn started(ws: &mut Ws<Self>, ctx: &mut Ctx) {
        let first = std::mem::take(&mut ws.role.first);
        ws.apply(first, ctx);
    }

    fn text(ws: &mut Ws<Self>, text: &str, ctx: &mut Ctx) {
        let effects = ws.role.door.text(text, ws.heard);
        ws.apply(effects, ctx);
    }

    fn binary(ws: &mut Ws<Self>, _bytes: usize, ctx: &mut Ctx) {
        let effects = ws.role.door.binary(ws.heard);
        ws.apply(effects, ctx);
    }

    fn tick(ws: &mut Ws<Self>, now: Instant, ctx: &mut Ctx) {
        let effects = ws.role.door.tick(now);
        ws.apply(effects, ctx);
    }

    fn stopped(ws: &mut Ws<Self>) {
        if let Some(line) = &mut ws.role.line {
            line.closed = ws.ending == Some(Ending::Closed);
        }
    }
}

impl Handler<ToClient> for Ws<Listener> {
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

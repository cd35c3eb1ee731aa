//! The WebSocket of somebody in a room, or on the way there: asks the door, forwards to the rooms.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use actix::prelude::*;
use actix_codec::Framed;
use actix_http::h1;
use futures_util::future::LocalBoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::engine::door::{Admission, CloseReason, LIMIT_CLIENT};
use crate::engine::room::{RoomDoor, RoomDoorEffect};
use crate::wire::signal::{RoomMsg, RoomWord, SignalFault};

use super::super::gate::{Gate, Knock};
use super::super::rooms::{Place, ToMember};
use super::wire::carry;
use super::{Ctx as Context, Ending, Role, Ws};

/// Opens the door on a connection; `token` is what came with the handshake. What comes back serves it to its end, and is an error when it
/// broke.
pub fn meet<T>(
    gate: Arc<Gate>,
    knock: Knock,
    token: Option<&str>,
    framed: Framed<T, h1::Codec>,
) -> LocalBoxFuture<'static, io::Result<()>>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut door = RoomDoor::new(gate.clock.now());
    let knocked = token.map(|token| gate.admit_to_rooms(Some(token), &knock));
    let known = knocked == Some(Admission::Good);
    let first = knocked.map(|admission| door.knock(admission)).unwrap_or_default();
    let socket = Ws::new(Member { door, first, place: None }, gate, knock);
    if known {
        socket.link.admit();
    }
    carry(socket, LIMIT_CLIENT, framed)
}

struct Member {
    door: RoomDoor,
    first: Vec<RoomDoorEffect>,
    /// There once it has said something to the rooms.
    place: Option<Place>,
}

type Ctx = Context<Member>;

impl Ws<Member> {
    fn apply(&mut self, effects: Vec<RoomDoorEffect>, ctx: &mut Ctx) {
        for effect in effects {
            match effect {
                RoomDoorEffect::Send(word) => ctx.text(word.to_json()),
                RoomDoorEffect::Check(join) => {
                    let admission = self.gate.admit_to_rooms(join.token.as_deref(), &self.knock);
                    let effects = self.role.door.admitted(admission, join);
                    self.apply(effects, ctx);
                }
                RoomDoorEffect::Forward(message) => self.forward(message, ctx),
                RoomDoorEffect::Close(reason) => self.close(reason, Ending::Closed, ctx),
            }
        }
    }

    /// The member's next word waits until the rooms have dealt with this one.
    fn forward(&mut self, message: RoomMsg, ctx: &mut Ctx) {
        self.link.admit();
        let place = self.role.place.get_or_insert_with(|| self.gate.lobby.enter(ctx.address().recipient()));
        // Whoever joins is told of ICE servers.
        let gate = matches!(message, RoomMsg::Join(_)).then(|| self.gate.clone());
        let tell = place.telling(message, self.knock.client);
        let said = async move {
            if let Some(gate) = gate {
                gate.providers_settled().await;
            }
            tell().await
        };
        ctx.wait(said.into_actor(self).map(|dealt_with, ws, ctx| {
            if dealt_with.is_err() {
                ctx.text(RoomWord::from(&SignalFault::Internal).to_json());
                ws.close(CloseReason::after(&SignalFault::Internal), Ending::Closed, ctx);
            }
        }));
    }
}

impl Role for Member {
    /// What all others of a full room send a newcomer at once: their offers, and dozens of candidates each.
    const MAILBOX: usize = 1024;

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

    fn binary(ws: &mut Ws<Self>, bytes: usize, ctx: &mut Ctx) {
        let effects = ws.role.door.binary(bytes, ws.heard);
        ws.apply(effects, ctx);
    }

    fn tick(ws: &mut Ws<Self>, now: Instant, ctx: &mut Ctx) {
        let effects = ws.role.door.tick(now);
        ws.apply(effects, ctx);
    }

    fn stopped(ws: &mut Ws<Self>) {
        ws.role.place = None;
    }
}

impl Handler<ToMember> for Ws<Member> {
    type Result = ();

    fn handle(&mut self, message: ToMember, ctx: &mut Ctx) {
        let Some(Place { backlog, .. }) = &self.role.place else { return };
        if let ToMember::Say(text) = &message {
            backlog.taken(text.len());
        }
        if self.ending.is_some() {
            return;
        }
        if backlog.is_cut() {
            // Others have been told that it left; what was said meanwhile is lost.
            return self.close(CloseReason::Policy("too slow"), Ending::Closed, ctx);
        }
        match message {
            ToMember::Say(text) => ctx.text(text),
            ToMember::Joined { peers, session } => {
                let ice_servers = self.gate.ice_servers(&self.knock, &session, None).servers;
                let session = session.to_string();
                ctx.text(RoomWord::RoomJoined { peers, ice_servers, session }.to_json());
            }
            ToMember::Replaced => {
                self.close(CloseReason::Policy("another connection took the place"), Ending::Replaced, ctx);
            }
        }
    }
}

//! The one actor that owns the rooms: what members say comes in here, what others are told goes out to their sockets, and nobody waits
//! for a slow one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use actix::dev::SendError;
use actix::prelude::*;

use crate::engine::access::ClientAddr;
use crate::engine::room::{RoomEffect, RoomInput, RoomLimits, Rooms};
use crate::wire::ids::{MemberKey, SessionId};
use crate::wire::names::UserName;
use crate::wire::signal::RoomMsg;

use super::clock::entropy;
use super::metrics::Metrics;

/// Messages of members that may wait for the rooms. A member waits with its next one until the last is taken, so this is no bound.
const MAILBOX: usize = 1024;
/// Bytes that may wait for a slow socket: what a newcomer is sent by a full room fits a few times.
const BACKLOG: usize = 1024 * 1024;

/// What a member's socket is to do.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub enum ToMember {
    /// Tell that it is in.
    Joined {
        /// Who is there already.
        peers: Vec<UserName>,
        /// Proves that the place is its own.
        session: SessionId,
    },
    /// Send this text.
    Say(String),
    /// Close: the user has another socket.
    Replaced,
}

/// What waits for a socket.
#[derive(Debug, Default)]
pub struct Backlog {
    bytes: AtomicUsize,
    cut: AtomicBool,
}

impl Backlog {
    /// So much of it is on its way.
    pub fn taken(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Whether the socket has been given up because it was too slow.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }
}

/// The way to the rooms. They come to be with the first who asks, on its thread: members need no other one to reach each other then.
#[derive(Debug)]
pub struct Lobby {
    limits: RoomLimits,
    metrics: Metrics,
    next: AtomicU64,
    hall: OnceLock<Addr<Hall>>,
}

impl Lobby {
    /// To rooms with these limits.
    #[must_use]
    pub fn new(limits: RoomLimits, metrics: Metrics) -> Self {
        Self { limits, metrics, next: AtomicU64::new(0), hall: OnceLock::new() }
    }

    /// Whether whoever asks is served.
    #[must_use]
    pub fn works(&self) -> bool {
        self.hall.get().is_none_or(Addr::connected)
    }

    /// A place for a socket. In an arbiter's thread only.
    #[must_use]
    pub fn enter(&self, socket: Recipient<ToMember>) -> Place {
        let hall = self.hall.get_or_init(|| Hall::new(self.limits, self.metrics.clone()).start());
        let key = MemberKey(self.next.fetch_add(1, Ordering::Relaxed));
        let backlog = Arc::new(Backlog::default());
        hall.do_send(Enter { key, line: Line { socket, backlog: backlog.clone() } });
        Place { hall: hall.clone(), key, backlog }
    }
}

/// A socket's hold on its place. However it is let go, the others in its room are told.
#[derive(Debug)]
pub struct Place {
    hall: Addr<Hall>,
    key: MemberKey,
    /// What waits for the socket.
    pub backlog: Arc<Backlog>,
}

impl Place {
    /// Hands the member's words over once it is called; answered when they have been dealt with.
    pub fn telling(&self, message: RoomMsg, addr: ClientAddr) -> impl FnOnce() -> Request<Hall, Said> + use<> {
        let (hall, from) = (self.hall.clone(), self.key);
        move || hall.send(Said { from, message, addr })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The last word of this socket, so the one that a full mailbox must not lose.
        self.hall.do_send(Gone(self.key));
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Enter {
    key: MemberKey,
    line: Line,
}

/// Somebody said something.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Said {
    from: MemberKey,
    message: RoomMsg,
    addr: ClientAddr,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Gone(MemberKey);

struct Line {
    socket: Recipient<ToMember>,
    backlog: Arc<Backlog>,
}

impl Line {
    /// Whether the socket takes it, or has been given up before.
    fn send(&self, message: ToMember) -> bool {
        let Backlog { bytes, cut } = &*self.backlog;
        if cut.load(Ordering::Acquire) {
            return true;
        }
        let cost = if let ToMember::Say(text) = &message { text.len() } else { 0 };
        let fits = bytes.fetch_add(cost, Ordering::AcqRel) + cost <= BACKLOG
            // One that is gone says so itself.
            && !matches!(self.socket.try_send(message), Err(SendError::Full(_)));
        cut.store(!fits, Ordering::Release);
        fits
    }
}

/// All rooms, and the way to each member.
pub struct Hall {
    rooms: Rooms,
    lines: HashMap<MemberKey, Line>,
    metrics: Metrics,
    /// Empty between messages; kept for its memory.
    effects: Vec<RoomEffect>,
}

impl Hall {
    fn new(limits: RoomLimits, metrics: Metrics) -> Self {
        Self { rooms: Rooms::new(limits, entropy), lines: HashMap::new(), metrics, effects: Vec::new() }
    }

    fn step(&mut self, from: MemberKey, input: RoomInput) {
        let mut effects = std::mem::take(&mut self.effects);
        let mut slow = Vec::new();
        self.rooms.handle(from, input, &mut effects);
        loop {
            slow.extend(effects.drain(..).filter_map(|effect| self.apply(effect)));
            let Some(key) = slow.pop() else { break };
            tracing::debug!(?key, "a socket was too slow for its room");
            self.metrics.room_cut();
            self.lines.remove(&key);
            self.rooms.handle(key, RoomInput::Gone, &mut effects);
        }
        self.effects = effects;
        self.metrics.rooms(self.rooms.len(), self.rooms.members());
    }

    /// Gives the socket back that did not take it.
    fn apply(&self, effect: RoomEffect) -> Option<MemberKey> {
        let (to, message) = match effect {
            RoomEffect::Joined { to, peers, session } => (to, ToMember::Joined { peers, session }),
            RoomEffect::Say { to, text } => (to, ToMember::Say(text)),
            RoomEffect::Replaced(old) => (old, ToMember::Replaced),
        };
        let taken = self.lines.get(&to).is_none_or(|line| line.send(message));
        (!taken).then_some(to)
    }
}

impl Actor for Hall {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<Enter> for Hall {
    type Result = ();

    fn handle(&mut self, Enter { key, line }: Enter, _ctx: &mut Self::Context) {
        self.lines.insert(key, line);
    }
}

impl Handler<Said> for Hall {
    type Result = ();

    fn handle(&mut self, Said { from, message, addr }: Said, _ctx: &mut Self::Context) {
        if matches!(message, RoomMsg::Pass(_)) {
            self.metrics.room_message();
        }
        self.step(from, RoomInput::Said { message, addr });
    }
}

impl Handler<Gone> for Hall {
    type Result = ();

    fn handle(&mut self, Gone(key): Gone, _ctx: &mut Self::Context) {
        self.lines.remove(&key);
        self.step(key, RoomInput::Gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket that ends with the first message.
    struct Brief;

    impl Actor for Brief {
        type Context = Context<Self>;
    }

    impl Handler<ToMember> for Brief {
        type Result = ();

        fn handle(&mut self, _: ToMember, ctx: &mut Self::Context) {
            ctx.stop();
        }
    }

    #[actix::test]
    async fn a_socket_that_is_gone_is_not_a_slow_one() {
        let socket = Brief.start();
        let line = Line { socket: socket.clone().recipient(), backlog: Arc::default() };
        assert!(line.send(ToMember::Replaced));
        while socket.connected() {
            tokio::task::yield_now().await;
        }
        assert!(line.send(ToMember::Say("late".into())) && !line.backlog.is_cut());
        assert!(!line.send(ToMember::Say("x".repeat(BACKLOG))) && line.backlog.is_cut());
    }
}

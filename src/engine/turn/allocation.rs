//! One allocation at an outside TURN server, from its first request to its last: what the client of the protocol leaves out. It times each
//! request, reads the errors, keeps the way open, cuts the stream, and holds all that strangers can make grow within bounds.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::{Buf as _, BytesMut};
use stun_types::attribute::ErrorCode;
use stun_types::message::Message;
use thiserror::Error;
use turn_types::message::{ALLOCATE, REFRESH};

use crate::wire::classify::{Class, classify};
use crate::wire::framing::{Framing, Unframed};
use crate::wire::stun::{self, StunClass};

use super::protocol::{Protocol, ProtocolEvent};
use super::{TurnTransport, is_peer};

/// A server that has not answered a request by then is given up, and so is one that has not made the allocation by then.
pub const TRANSACTION: Duration = Duration::from_secs(5);
/// From one proof that the allocation is there to the next. NATs forget a way after thirty seconds (RFC 4787 section 4.3 has two minutes,
/// the field less).
pub const KEEPALIVE: Duration = Duration::from_secs(20);
/// When a proof is asked for again over UDP, counted from the first time.
const RETRIES: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_millis(1500), Duration::from_millis(2500), Duration::from_millis(3500)];
/// Addresses that one allocation lets through, at most: more than its sessions can name before it takes no newcomers, and after.
pub const PERMISSIONS: usize = 1_056;
/// Permissions and channels that are asked for at one time; the others wait in line.
const ASKED: usize = 8;
/// Peers of one allocation that have a channel; the others are sent to by indications.
const CHANNELS: usize = 256;
/// What was refused is not asked for again so soon.
const REFUSAL: Duration = Duration::from_secs(60);
/// Bytes that may wait for permissions: first checks, which are lost otherwise and come again a quarter of a second later.
const PARKED: usize = 32 * 1024;
/// Stale nonces in a row after which a server is not believed any more.
const STALE: u32 = 8;
/// Allocation Mismatch, Stale Nonce, Allocation Quota Reached, Insufficient Capacity, Unauthorized (RFC 8656 section 18).
const MISMATCH: u16 = ErrorCode::ALLOCATION_MISMATCH;
const STALE_NONCE: u16 = ErrorCode::STALE_NONCE;
const QUOTA: u16 = ErrorCode::ALLOCATION_QUOTA_REACHED;
const CAPACITY: u16 = ErrorCode::INSUFFICIENT_CAPACITY;
const UNAUTHORIZED: u16 = ErrorCode::UNAUTHORIZED;

/// Why an allocation is gone.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Gone {
    /// The server did not answer.
    #[error("no answer")]
    Silent,
    /// It does not know us by these credentials, or not any more.
    #[error("the credentials are refused")]
    Credentials,
    /// It knows no such allocation, or another one of this 5-tuple: a new socket is wanted.
    #[error("the server has forgotten the allocation")]
    Mismatch,
    /// It has no room for one more.
    #[error("the server is full")]
    Full,
    /// It refused for another reason, by this code.
    #[error("refused by code {0}")]
    Refused(u16),
    /// The connection is gone.
    #[error("the connection is gone")]
    Closed,
    /// What came by the connection is not TURN.
    #[error("no TURN comes by the connection")]
    Garbled,
    /// The allocation ended for want of a refresh, or was never made right.
    #[error("the allocation has ended")]
    Ended,
    /// We deleted it.
    #[error("deleted")]
    Deleted,
}

impl Gone {
    /// For counters; none when we wanted it so.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::Silent => Some("silent"),
            Self::Credentials => Some("credentials"),
            Self::Mismatch => Some("forgotten"),
            Self::Full => Some("full"),
            Self::Refused(_) => Some("refused"),
            Self::Closed => Some("closed"),
            Self::Garbled => Some("garbled"),
            Self::Ended => Some("ended"),
            Self::Deleted => None,
        }
    }
}

/// Why data for a peer goes nowhere.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Unsent {
    /// There is no allocation, not yet or not any more.
    #[error("no allocation")]
    NoAllocation,
    /// The peer has no permission.
    #[error("no permission")]
    NoPermission,
    /// Too much waits for permissions.
    #[error("no room")]
    NoRoom,
}

/// What comes out of an allocation.
#[derive(Debug)]
pub enum AllocationEffect<'a> {
    /// Send this to the server; over a connection, it is padded already.
    ToServer(Vec<u8>),
    /// This is our relayed address.
    Ready(SocketAddr),
    /// A peer has sent this.
    Data {
        /// To which address of ours.
        relayed: SocketAddr,
        /// Which one.
        peer: SocketAddr,
        /// What.
        bytes: &'a [u8],
    },
    /// There is no allocation any more, and nothing else will come.
    Gone(Gone),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Opening { since: Instant },
    Ready { relayed: SocketAddr },
    Deleting { since: Instant },
    Gone,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Permission {
    /// It waits in line.
    Wanted,
    /// The server was asked.
    Asked,
    Granted,
    Refused {
        at: Instant,
    },
}

/// A request that is not answered.
#[derive(Clone, Copy, Debug)]
struct Asked {
    method: u16,
    at: Instant,
}

/// A proof that was asked for.
#[derive(Debug)]
struct Probe {
    transaction: [u8; 12],
    bytes: Vec<u8>,
    at: Instant,
    tries: usize,
}

/// One allocation.
pub struct Allocation {
    transport: TurnTransport,
    protocol: Box<dyn Protocol>,
    state: State,
    /// What has come of a frame that is not whole.
    input: BytesMut,
    /// Bytes to come of a frame that is longer than any of use.
    passing: usize,
    asked: HashMap<[u8; 12], Asked>,
    /// The server has told how requests are to be signed.
    challenged: bool,
    stale: u32,
    permissions: HashMap<IpAddr, Permission>,
    line: VecDeque<IpAddr>,
    parked: VecDeque<(SocketAddr, Vec<u8>)>,
    parked_bytes: usize,
    /// Peers that a channel was asked for, and whether there is one or it waits.
    channels: HashSet<SocketAddr>,
    binding: HashSet<SocketAddr>,
    probe: Option<Probe>,
    proven: Instant,
    wake: Option<Instant>,
}

impl std::fmt::Debug for Allocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Allocation").field("state", &self.state).finish_non_exhaustive()
    }
}

type Apply<'a> = &'a mut dyn FnMut(AllocationEffect<'_>);

impl Allocation {
    /// Opens an allocation over a socket that is there since `now`; `opened` is when its server was first turned to.
    pub fn open(
        transport: TurnTransport,
        protocol: Box<dyn Protocol>,
        opened: Instant,
        now: Instant,
        apply: Apply<'_>,
    ) -> Self {
        let mut allocation = Self {
            transport,
            protocol,
            state: State::Opening { since: opened },
            input: BytesMut::new(),
            passing: 0,
            asked: HashMap::new(),
            challenged: false,
            stale: 0,
            permissions: HashMap::new(),
            line: VecDeque::new(),
            parked: VecDeque::new(),
            parked_bytes: 0,
            channels: HashSet::new(),
            binding: HashSet::new(),
            probe: None,
            proven: now,
            wake: None,
        };
        allocation.settle(now, apply);
        allocation
    }

    /// Our relayed address, while there is one.
    #[must_use]
    pub fn relayed(&self) -> Option<SocketAddr> {
        match self.state {
            State::Ready { relayed } => Some(relayed),
            _ => None,
        }
    }

    /// How many addresses are let through, or may be.
    #[must_use]
    pub fn permissions(&self) -> usize {
        self.permissions.len()
    }

    /// How many bytes wait for a permission.
    #[must_use]
    pub fn parked(&self) -> usize {
        self.parked_bytes
    }

    /// Takes a datagram, or the next bytes of the connection.
    pub fn receive(&mut self, bytes: &[u8], now: Instant, apply: Apply<'_>) {
        if self.transport == TurnTransport::Udp {
            self.message(bytes, now, apply);
        } else {
            self.input.extend_from_slice(bytes);
            while self.state != State::Gone {
                let passed = self.passing.min(self.input.len());
                self.input.advance(passed);
                self.passing -= passed;
                match Framing::Turn.next_frame(&mut self.input) {
                    Ok(Some(frame)) => self.message(&frame, now, apply),
                    Ok(None) => break,
                    // A peer may send what it likes, which is no reason to leave all others.
                    Err(Unframed::TooLong(length)) => self.passing = length.next_multiple_of(4),
                    Err(Unframed::Garbage) => self.end(Gone::Garbled, apply),
                }
            }
        }
        self.settle(now, apply);
    }

    /// Lets peers at this address through, as soon as the server does; one that the session most likely needs goes to the front of the
    /// line. Returns whether there was room.
    pub fn permit(&mut self, ip: IpAddr, first: bool, now: Instant, apply: Apply<'_>) -> bool {
        let ip = ip.to_canonical();
        let of_the_family = self.relayed().is_none_or(|relayed| relayed.is_ipv4() == ip.is_ipv4());
        if !is_peer(ip) || !of_the_family || self.state == State::Gone {
            return false;
        }
        match self.permissions.get(&ip) {
            Some(Permission::Refused { at }) if now < *at + REFUSAL => return false,
            Some(Permission::Wanted | Permission::Asked | Permission::Granted) => return true,
            None if self.permissions.len() == PERMISSIONS => return false,
            Some(Permission::Refused { .. }) | None => {}
        }
        self.permissions.insert(ip, Permission::Wanted);
        if first {
            self.line.push_front(ip);
        } else {
            self.line.push_back(ip);
        }
        self.settle(now, apply);
        true
    }

    /// Sends data to a peer. What the server has not yet permitted waits, a little.
    ///
    /// # Errors
    /// Why it goes nowhere.
    pub fn send(&mut self, peer: SocketAddr, data: &[u8], now: Instant, apply: Apply<'_>) -> Result<(), Unsent> {
        if self.relayed().is_none() {
            return Err(Unsent::NoAllocation);
        }
        match self.permissions.get(&peer.ip().to_canonical()) {
            Some(Permission::Granted) => {
                let bytes = self.protocol.send(peer, data, now).ok_or(Unsent::NoPermission)?;
                self.transmit(bytes, now, apply);
                // Checks are few, and most of them find no way.
                let worth_it = classify(data) != Class::Stun && self.channels.len() < CHANNELS;
                if worth_it && self.binding.len() < ASKED && self.channels.insert(peer) {
                    self.binding.insert(peer);
                    self.protocol.bind(peer, now);
                    self.settle(now, apply);
                }
                Ok(())
            }
            Some(Permission::Wanted | Permission::Asked) if self.parked_bytes + data.len() <= PARKED => {
                self.parked_bytes += data.len();
                self.parked.push_back((peer, data.to_vec()));
                Ok(())
            }
            Some(Permission::Wanted | Permission::Asked) => Err(Unsent::NoRoom),
            Some(Permission::Refused { .. }) | None => Err(Unsent::NoPermission),
        }
    }

    /// Something speaks against the allocation: it is to prove at once that it is there.
    pub fn doubt(&mut self, now: Instant, apply: Apply<'_>) {
        if self.relayed().is_some() && self.probe.is_none() {
            self.ask_for_proof(now, apply);
            self.settle(now, apply);
        }
    }

    /// Deletes the allocation at the server.
    pub fn delete(&mut self, now: Instant, apply: Apply<'_>) {
        match self.state {
            State::Ready { .. } => {
                self.state = State::Deleting { since: now };
                self.probe = None;
                self.line.clear();
                self.drop_parked(|_| false);
                // What else was asked is nothing to wait for.
                self.asked.clear();
                self.protocol.delete(now);
                self.settle(now, apply);
            }
            // It may come to be, and ends by itself then.
            State::Opening { .. } => self.end(Gone::Deleted, apply),
            State::Deleting { .. } | State::Gone => {}
        }
    }

    /// The time that [`deadline`](Self::deadline) told has come.
    pub fn tick(&mut self, now: Instant, apply: Apply<'_>) {
        let overdue = self.asked.values().any(|asked| now >= asked.at + TRANSACTION);
        match self.state {
            State::Opening { since } if overdue || now >= since + TRANSACTION => self.end(Gone::Silent, apply),
            State::Deleting { since } if now >= since + TRANSACTION => self.end(Gone::Deleted, apply),
            State::Ready { .. } if overdue => self.end(Gone::Silent, apply),
            State::Ready { .. } => self.prove(now, apply),
            State::Opening { .. } | State::Deleting { .. } | State::Gone => {}
        }
        self.settle(now, apply);
    }

    /// When a tick is wanted.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let own = match self.state {
            State::Gone => return None,
            State::Opening { since } | State::Deleting { since } => since + TRANSACTION,
            State::Ready { .. } => self.proof_due(),
        };
        let answer = self.asked.values().map(|asked| asked.at + TRANSACTION).min();
        [Some(own), answer, self.wake].into_iter().flatten().min()
    }

    /// One message of the server, or the data of a channel.
    fn message(&mut self, bytes: &[u8], now: Instant, apply: Apply<'_>) {
        if self.state == State::Gone {
            return;
        }
        if matches!(bytes.first(), Some(0..=0x3f)) {
            let Some(peek) = stun::peek(bytes) else { return };
            match peek.class {
                StunClass::Request => return,
                StunClass::Indication => {}
                // Who guesses a transaction has seen it; an answer counts once.
                StunClass::Success | StunClass::Error => {
                    let Some(asked) = self.asked.remove(&peek.transaction) else { return };
                    let code = (peek.class == StunClass::Error).then(|| code_of(bytes));
                    if self.answered(asked.method, peek.transaction, code, bytes, now, apply) {
                        return;
                    }
                }
            }
        }
        let ready = self.relayed();
        self.protocol.receive(bytes, now, &mut |peer, bytes| {
            if let Some(relayed) = ready {
                apply(AllocationEffect::Data { relayed, peer, bytes });
            }
        });
    }

    /// Reads an answer; returns whether that is all there is to do about it.
    fn answered(
        &mut self,
        method: u16,
        transaction: [u8; 12],
        code: Option<u16>,
        bytes: &[u8],
        now: Instant,
        apply: Apply<'_>,
    ) -> bool {
        let ours = self.probe.take_if(|probe| probe.transaction == transaction).is_some();
        let about_the_whole = method == ALLOCATE.value() || method == REFRESH.value();
        let Some(code) = code else {
            self.stale = 0;
            if method == REFRESH.value() {
                self.proven = now;
            }
            return ours;
        };
        let deleting = matches!(self.state, State::Deleting { .. });
        let challenge = code == UNAUTHORIZED && method == ALLOCATE.value() && !self.challenged;
        let gone = match code {
            _ if challenge => {
                self.challenged = true;
                None
            }
            STALE_NONCE => {
                self.stale += 1;
                (self.stale > STALE).then_some(Gone::Refused(code))
            }
            _ if deleting => Some(Gone::Deleted),
            UNAUTHORIZED => Some(Gone::Credentials),
            MISMATCH => Some(Gone::Mismatch),
            QUOTA | CAPACITY if method == ALLOCATE.value() => Some(Gone::Full),
            // A server that is there and does not like how we ask is none that is gone.
            _ if about_the_whole && !ours => Some(Gone::Refused(code)),
            _ => None,
        };
        if let Some(gone) = gone {
            self.end(gone, apply);
            return true;
        }
        if ours {
            // It may carry the new nonce, and is nothing else to the protocol.
            self.protocol.receive(bytes, now, &mut |_, _| {});
            if code == STALE_NONCE {
                self.ask_for_proof(now, apply);
            } else {
                self.proven = now;
            }
        }
        ours
    }

    fn proof_due(&self) -> Instant {
        match &self.probe {
            Some(probe) if self.transport == TurnTransport::Udp => {
                RETRIES.get(probe.tries).map_or(probe.at + TRANSACTION, |after| probe.at + *after)
            }
            Some(probe) => probe.at + TRANSACTION,
            None => self.proven + KEEPALIVE,
        }
    }

    /// Asks for a proof that the allocation is there, or asks again, when that is due.
    fn prove(&mut self, now: Instant, apply: Apply<'_>) {
        if now < self.proof_due() {
            return;
        }
        match &mut self.probe {
            None => self.ask_for_proof(now, apply),
            Some(probe) => {
                probe.tries += 1;
                let bytes = probe.bytes.clone();
                apply(AllocationEffect::ToServer(bytes));
            }
        }
    }

    fn ask_for_proof(&mut self, now: Instant, apply: Apply<'_>) {
        // Until this is answered; without a way to ask, later.
        self.proven = now;
        if let Some(bytes) = self.protocol.probe()
            && let Some(peek) = stun::peek(&bytes)
        {
            let transaction = peek.transaction;
            self.probe = Some(Probe { transaction, bytes: bytes.clone(), at: now, tries: 0 });
            self.transmit(bytes, now, apply);
        }
    }

    /// Asks for what waits in line, lets the protocol tell what it has to, and does as that wants.
    fn settle(&mut self, now: Instant, apply: Apply<'_>) {
        loop {
            if self.state == State::Gone {
                return;
            }
            self.ask_in_line(now);
            let mut events = Vec::new();
            self.wake = self.protocol.run(now, &mut |event| events.push(event));
            if events.is_empty() {
                return;
            }
            for event in events {
                self.event(event, now, apply);
            }
        }
    }

    fn ask_in_line(&mut self, now: Instant) {
        let Some(relayed) = self.relayed() else { return };
        let mut asked = self.permissions.values().filter(|known| **known == Permission::Asked).count();
        while asked < ASKED
            && let Some(ip) = self.line.pop_front()
        {
            if ip.is_ipv4() == relayed.is_ipv4() {
                self.permissions.insert(ip, Permission::Asked);
                self.protocol.permit(ip, now);
                asked += 1;
            } else {
                // It was wanted before the address was there.
                self.permissions.insert(ip, Permission::Refused { at: now });
            }
        }
    }

    fn event(&mut self, event: ProtocolEvent, now: Instant, apply: Apply<'_>) {
        if self.state == State::Gone {
            return;
        }
        match event {
            ProtocolEvent::Transmit(bytes) => self.transmit(bytes, now, apply),
            ProtocolEvent::Allocated(relayed) => self.allocated(relayed, now, apply),
            ProtocolEvent::Permitted(ip) => {
                self.permissions.insert(ip, Permission::Granted);
                let due = self.drop_parked(|peer| peer.ip().to_canonical() != ip);
                for (peer, data) in due {
                    // What the protocol does not let through now is lost, as it would have been at first.
                    let _ = self.send(peer, &data, now, apply);
                }
            }
            ProtocolEvent::Refused(ip) => {
                self.permissions.insert(ip, Permission::Refused { at: now });
                self.drop_parked(|peer| peer.ip().to_canonical() != ip);
            }
            ProtocolEvent::Bound(peer) | ProtocolEvent::Unbound(peer) => {
                self.binding.remove(&peer);
            }
            ProtocolEvent::Ended => {
                let deleting = matches!(self.state, State::Deleting { .. });
                self.end(if deleting { Gone::Deleted } else { Gone::Ended }, apply);
            }
        }
    }

    fn allocated(&mut self, relayed: SocketAddr, now: Instant, apply: Apply<'_>) {
        if !matches!(self.state, State::Opening { .. }) {
            return;
        }
        // Nobody could send anything there, us included.
        if relayed.ip().is_unspecified() || relayed.ip().is_multicast() || relayed.port() == 0 {
            return self.end(Gone::Ended, apply);
        }
        self.state = State::Ready { relayed };
        self.proven = now;
        apply(AllocationEffect::Ready(relayed));
    }

    /// Lets go of what waits and is not to be kept; returns it.
    fn drop_parked(&mut self, keep: impl Fn(SocketAddr) -> bool) -> VecDeque<(SocketAddr, Vec<u8>)> {
        let (kept, gone) = std::mem::take(&mut self.parked).into_iter().partition(|(peer, _)| keep(*peer));
        self.parked = kept;
        self.parked_bytes = self.parked.iter().map(|(_, data)| data.len()).sum();
        gone
    }

    /// Sends a message to the server, and notes a request.
    fn transmit(&mut self, mut bytes: Vec<u8>, now: Instant, apply: Apply<'_>) {
        if bytes.first().is_some_and(|first| *first < 0x40)
            && let Some(peek) = stun::peek(&bytes).filter(|peek| peek.class == StunClass::Request)
        {
            self.asked.entry(peek.transaction).or_insert(Asked { method: peek.method, at: now });
        }
        if self.transport != TurnTransport::Udp {
            // Only data of channels is not a multiple of four already (RFC 8656 section 12.5).
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        apply(AllocationEffect::ToServer(bytes));
    }

    fn end(&mut self, gone: Gone, apply: Apply<'_>) {
        if self.state != State::Gone {
            self.state = State::Gone;
            self.asked.clear();
            self.permissions.clear();
            self.line.clear();
            self.parked.clear();
            self.parked_bytes = 0;
            self.input.clear();
            apply(AllocationEffect::Gone(gone));
        }
    }
}

/// The code of an error; one that tells none counts as a bad request.
fn code_of(bytes: &[u8]) -> u16 {
    let code = Message::from_bytes(bytes).ok().and_then(|message| message.attribute::<ErrorCode>().ok());
    code.map_or(ErrorCode::BAD_REQUEST, |code| code.code())
}

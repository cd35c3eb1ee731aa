//! The closed relay: a TURN server (RFC 8656, RFC 8489) without sockets of its own, as a sans-IO machine. What a client sends through
//! it goes to our own sessions or to another allocation of ours, inside this process, and nowhere else.
//!
//! A peer that is not exactly a candidate or an allocation of ours is forbidden, so there is nothing to abuse. Strangers are answered
//! with at most three times what they sent, and not too often.

mod allocation;
mod answer;
mod limiter;
mod nonce;
mod registry;
mod requests;
mod virtuals;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;
use stun_types::attribute::{AttributeStaticType as _, ErrorCode, Nonce, Realm, Username, XorMappedAddress};
use stun_types::message::{
    BINDING, IntegrityAlgorithm, IntegrityKey, LongTermKeyCredentials, Message, MessageClass, Method,
};
use thiserror::Error;
use turn_types::attribute::{Data, DontFragment, XorPeerAddress};
use turn_types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, REFRESH, SEND};

use crate::engine::moment::Moment;
use crate::wire::ids::WorkerId;
use crate::wire::stun;

use super::access::ClientAddr;
use super::credentials::{self, TurnSecret};
use allocation::Allocation;
use answer::{Refusal, channel_data, data_indication, failure, success, unknown_types};
use limiter::Limiter;
pub use nonce::Nonces;
pub use registry::{Full, PER_USER, Registry};
pub use virtuals::{Family, Plan, is_virtual};

/// The realm of our credentials; short, because strangers are told it.
pub const REALM: &str = "voxcast";
/// How long an allocation lasts that asks for nothing else, and how long one may ask for (RFC 8656 section 7.2).
const LIFETIME: Duration = Duration::from_secs(600);
const LONGEST_LIFETIME: Duration = Duration::from_secs(3600);
/// How often that is looked for which has ended.
pub const SWEEP: Duration = Duration::from_secs(10);
/// A stranger is answered with no more than so many times what it sent.
const AMPLIFICATION: usize = 3;
/// Longest username that is looked at; ours are 40 characters.
const LONGEST_USERNAME: usize = 256;
/// Channel numbers. RFC 8656 section 12 has a quarter of those that RFC 5766 had, so that TURN can share a port with DTLS and RTP;
/// ours shares none, and clients in the field still use them all.
const CHANNEL_NUMBERS: std::ops::RangeInclusive<u16> = 0x4000..=0x7fff;
/// Bytes before the data of a channel: its number and the length (RFC 8656 section 12.4).
const CHANNEL_HEADER: usize = 4;
/// The protocol number of UDP, the one transport towards peers.
const UDP: u8 = 17;

/// How a client reaches the relay.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Leg {
    /// By datagrams.
    Udp,
    /// By a connection, with or without TLS.
    Tcp,
}

/// A client, as its five-tuple tells it (RFC 8656 section 3.2).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Client {
    /// How it reaches us.
    pub leg: Leg,
    /// Where it is.
    pub remote: SocketAddr,
    /// Our address that it reaches.
    pub local: SocketAddr,
}

/// What comes out of a relay.
#[derive(Debug, Eq, PartialEq)]
pub enum RelayEffect<'a> {
    /// Send this to a client. Over a connection it is padded already.
    ToClient {
        /// To whom.
        client: Client,
        /// What.
        bytes: Vec<u8>,
    },
    /// Hand this to a candidate or an allocation of ours.
    ToPeer {
        /// The relayed address that it comes from.
        from: SocketAddr,
        /// Whom it is for.
        to: SocketAddr,
        /// What.
        bytes: &'a [u8],
    },
}

/// Why bytes went nowhere. Counted, never logged one by one.
#[derive(Clone, Copy, Debug, Eq, Error, Hash, PartialEq)]
pub enum RelayDrop {
    /// No message of TURN.
    #[error("garbage")]
    Garbage,
    /// Of a client without an allocation, to an allocation that is gone, or by a channel that is not bound.
    #[error("unknown")]
    Unknown,
    /// To or from a peer without a permission.
    #[error("forbidden")]
    Forbidden,
    /// Strangers have been answered too often, or with too much.
    #[error("unanswered")]
    Unanswered,
}

impl RelayDrop {
    /// All of them, for counters.
    pub const ALL: [Self; 4] = [Self::Garbage, Self::Unknown, Self::Forbidden, Self::Unanswered];
}

/// What a relay is made of.
#[derive(Clone, Debug)]
pub struct RelayParts {
    /// Whose it is.
    pub worker: WorkerId,
    /// How addresses are dealt out.
    pub plan: Plan,
    /// What is ours.
    pub registry: Arc<Registry>,
    /// Makes passwords.
    pub secret: TurnSecret,
    /// Makes nonces.
    pub nonces: Nonces,
    /// Fills a buffer from a cryptographic source.
    pub entropy: fn(&mut [u8]),
    /// Since when seconds are counted.
    pub epoch: Moment,
}

/// The relay of one worker.
#[derive(Debug)]
pub struct Relay {
    parts: RelayParts,
    allocations: Slab<Allocation>,
    by_client: HashMap<Client, usize>,
    /// Each user's allocations here, as many as the registry lets it have.
    by_user: HashMap<Box<str>, Vec<usize>>,
    limiter: Limiter,
    swept: Instant,
}

impl Relay {
    /// One without allocations.
    #[must_use]
    pub fn new(parts: RelayParts) -> Self {
        let swept = parts.epoch.now;
        Self {
            parts,
            allocations: Slab::new(),
            by_client: HashMap::new(),
            by_user: HashMap::new(),
            limiter: Limiter::default(),
            swept,
        }
    }

    /// How many allocations this worker has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.allocations.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.allocations.is_empty()
    }

    /// What makes passwords.
    #[must_use]
    pub fn secret(&self) -> &TurnSecret {
        &self.parts.secret
    }

    /// Whether a client has an allocation.
    #[must_use]
    pub fn serves(&self, client: Client) -> bool {
        self.by_client.contains_key(&client)
    }

    /// The worker whose allocation a relayed address is.
    #[must_use]
    pub fn owner(&self, relayed: SocketAddr) -> Option<WorkerId> {
        self.parts.plan.place(relayed.ip()).map(|(worker, _)| worker)
    }

    /// Takes what a client sent.
    ///
    /// # Errors
    /// Why nothing came of it.
    pub fn receive(
        &mut self,
        client: Client,
        bytes: &[u8],
        now: Instant,
        mut apply: impl FnMut(RelayEffect<'_>),
    ) -> Result<(), RelayDrop> {
        match bytes.first() {
            Some(0x40..=0x7f) => self.channel_data(client, bytes, now, &mut apply),
            Some(0..=0x3f) => {
                // Looks closer at lengths than the parser does.
                stun::peek(bytes).ok_or(RelayDrop::Garbage)?;
                let message = Message::from_bytes(bytes).map_err(|_| RelayDrop::Garbage)?;
                match (message.class(), message.method()) {
                    (MessageClass::Request, method) => self.request(client, &message, method, now, &mut apply),
                    (MessageClass::Indication, SEND) => self.send(client, &message, now, &mut apply),
                    // A client that keeps its NAT open.
                    (MessageClass::Indication, BINDING) => Ok(()),
                    _ => Err(RelayDrop::Garbage),
                }
            }
            _ => Err(RelayDrop::Garbage),
        }
    }

    /// Takes what a peer sends to an allocation. Our own sessions are always permitted: the client, who asks for them by the offer and
    /// the answer that it exchanged, may not have come to say so yet, and the first check would be lost.
    ///
    /// # Errors
    /// Why nothing came of it.
    pub fn deliver(
        &mut self,
        relayed: SocketAddr,
        peer: SocketAddr,
        bytes: &[u8],
        now: Instant,
        mut apply: impl FnMut(RelayEffect<'_>),
    ) -> Result<(), RelayDrop> {
        let (_, place) = self.parts.plan.place(relayed.ip()).ok_or(RelayDrop::Unknown)?;
        let allocation = usize::try_from(place).ok().and_then(|place| self.allocations.get(place));
        let allocation = allocation.filter(|known| known.relayed == relayed && now < known.until);
        let allocation = allocation.ok_or(RelayDrop::Unknown)?;
        if !self.parts.registry.is_candidate(peer) && !allocation.permits(peer.ip(), now) {
            return Err(RelayDrop::Forbidden);
        }
        let client = allocation.client;
        let bytes = match allocation.channel(peer, now) {
            Some(number) => channel_data(number, bytes, client.leg).ok_or(RelayDrop::Garbage)?,
            None => data_indication(peer, bytes, self.parts.entropy),
        };
        apply(RelayEffect::ToClient { client, bytes });
        Ok(())
    }

    /// A client's connection is gone, and its allocation with it.
    pub fn disconnected(&mut self, client: Client) {
        if let Some(place) = self.by_client.get(&client) {
            self.free(*place);
        }
    }

    /// The user whose credentials these are has left: what it has goes.
    pub fn end_user(&mut self, user: &str) {
        for place in self.by_user.get(user).cloned().unwrap_or_default() {
            self.free(place);
        }
    }

    /// Lets go of what has ended; returns when it wants to be asked again, if ever.
    pub fn tick(&mut self, now: Instant) -> Option<Instant> {
        if now.saturating_duration_since(self.swept) >= SWEEP {
            self.swept = now;
            self.limiter.forget(now);
            let ended: Vec<_> =
                self.allocations.iter().filter(|(_, known)| now >= known.until).map(|(place, _)| place).collect();
            for place in ended {
                self.free(place);
            }
        }
        (!self.allocations.is_empty()).then(|| self.swept + SWEEP)
    }

    fn free(&mut self, place: usize) {
        if let Some(allocation) = self.allocations.try_remove(place) {
            self.by_client.remove(&allocation.client);
            let user = credentials::parts(&allocation.username).map_or("", |(_, user)| user);
            self.parts.registry.leave(user, allocation.relayed);
            if let Some(places) = self.by_user.get_mut(user) {
                places.retain(|known| *known != place);
                if places.is_empty() {
                    self.by_user.remove(user);
                }
            }
        }
    }

    fn live(&mut self, client: Client, now: Instant) -> Option<(usize, &mut Allocation)> {
        let place = *self.by_client.get(&client)?;
        let allocation = self.allocations.get_mut(place).filter(|known| now < known.until)?;
        Some((place, allocation))
    }

    fn channel_data(
        &mut self,
        client: Client,
        bytes: &[u8],
        now: Instant,
        apply: &mut impl FnMut(RelayEffect<'_>),
    ) -> Result<(), RelayDrop> {
        let (header, rest) = bytes.split_first_chunk::<CHANNEL_HEADER>().ok_or(RelayDrop::Garbage)?;
        let [number, length] = [[header[0], header[1]], [header[2], header[3]]].map(u16::from_be_bytes);
        let data = rest.get(..usize::from(length)).ok_or(RelayDrop::Garbage)?;
        let (_, allocation) = self.live(client, now).ok_or(RelayDrop::Unknown)?;
        let peer = allocation.peer(number, now).ok_or(RelayDrop::Unknown)?;
        apply(RelayEffect::ToPeer { from: allocation.relayed, to: peer, bytes: data });
        Ok(())
    }

    fn send(
        &mut self,
        client: Client,
        message: &Message<'_>,
        now: Instant,
        apply: &mut impl FnMut(RelayEffect<'_>),
    ) -> Result<(), RelayDrop> {
        let known = [XorPeerAddress::TYPE, Data::TYPE, DontFragment::TYPE];
        if !unknown_types(message, &known).is_empty() {
            return Err(RelayDrop::Garbage);
        }
        let peer = message.attribute::<XorPeerAddress>().map_err(|_| RelayDrop::Garbage)?;
        let peer = peer.addr(message.transaction_id());
        let data = message.raw_attribute(Data::TYPE).ok_or(RelayDrop::Garbage)?;
        let ours = self.parts.registry.is_ours(peer);
        let (_, allocation) = self.live(client, now).ok_or(RelayDrop::Unknown)?;
        if !ours || !allocation.permits(peer.ip(), now) {
            return Err(RelayDrop::Forbidden);
        }
        apply(RelayEffect::ToPeer { from: allocation.relayed, to: peer, bytes: &data.value });
        Ok(())
    }

    fn request(
        &mut self,
        client: Client,
        message: &Message<'_>,
        method: Method,
        now: Instant,
        apply: &mut impl FnMut(RelayEffect<'_>),
    ) -> Result<(), RelayDrop> {
        let asked = message.as_bytes().len();
        let answered = match method {
            BINDING => self.binding(client, message, now).map(|bytes| (bytes, false)),
            ALLOCATE | REFRESH | CREATE_PERMISSION | CHANNEL_BIND => self.authenticated(client, message, method, now),
            // RFC 8489 section 6.3: what nobody knows is not answered.
            _ => Err(RelayDrop::Garbage),
        };
        let (bytes, trusted) = answered?;
        if !trusted && client.leg == Leg::Udp && bytes.len() > AMPLIFICATION * asked {
            return Err(RelayDrop::Unanswered);
        }
        apply(RelayEffect::ToClient { client, bytes });
        Ok(())
    }

    fn binding(&mut self, client: Client, message: &Message<'_>, now: Instant) -> Result<Vec<u8>, RelayDrop> {
        self.admit_stranger(client, now)?;
        let unknown = unknown_types(message, &[Username::TYPE]);
        Ok(if unknown.is_empty() {
            let mapped = XorMappedAddress::new(client.remote, message.transaction_id());
            success(message, &[&mapped], None)
        } else {
            failure(message, &Refusal::Unknown(unknown), None, None)
        })
    }

    /// Strangers over UDP may lie about where they are. A connection proves it, and one that is not answered would wait for ever.
    fn admit_stranger(&mut self, client: Client, now: Instant) -> Result<(), RelayDrop> {
        if client.leg == Leg::Tcp || self.limiter.admits(ClientAddr::new(client.remote.ip()), now) {
            Ok(())
        } else {
            Err(RelayDrop::Unanswered)
        }
    }

    /// Answers a request that must be signed; tells whether it was.
    fn authenticated(
        &mut self,
        client: Client,
        message: &Message<'_>,
        method: Method,
        now: Instant,
    ) -> Result<(Vec<u8>, bool), RelayDrop> {
        let refusal = match self.authenticate(client, message, now) {
            Ok((username, key)) => match self.signed(client, message, method, (&username, &key), now) {
                Ok(answer) => return Ok((answer, true)),
                // Credentials that have ended are as good as none.
                Err(refusal @ Refusal::Challenge(_)) => refusal,
                Err(refusal) => return Ok((failure(message, &refusal, None, Some(&key)), true)),
            },
            Err(refusal) => refusal,
        };
        self.admit_stranger(client, now)?;
        let nonce = self.parts.nonces.make(client.remote, now);
        Ok((failure(message, &refusal, Some(&nonce), None), false))
    }

    /// RFC 8489 section 9.2.4.
    fn authenticate(
        &mut self,
        client: Client,
        message: &Message<'_>,
        now: Instant,
    ) -> Result<(String, IntegrityKey), Refusal> {
        if !message.has_attribute(stun_types::attribute::MessageIntegrity::TYPE) {
            return Err(Refusal::Challenge(ErrorCode::UNAUTHORIZED));
        }
        let (Ok(username), Ok(realm), Ok(nonce)) =
            (message.attribute::<Username>(), message.attribute::<Realm>(), message.attribute::<Nonce>())
        else {
            return Err(Refusal::Code(ErrorCode::BAD_REQUEST));
        };
        let username = username.username();
        if !self.parts.nonces.is_good(nonce.nonce(), client.remote, now) {
            return Err(Refusal::Challenge(ErrorCode::STALE_NONCE));
        }
        let unauthorized = || Refusal::Challenge(ErrorCode::UNAUTHORIZED);
        if realm.realm() != REALM || username.len() > LONGEST_USERNAME {
            return Err(unauthorized());
        }
        // Who has an allocation signs with what made it.
        let known = self.live(client, now).filter(|(_, allocation)| *allocation.username == *username);
        let key = if let Some((_, allocation)) = known {
            allocation.key.clone()
        } else {
            let password = self.parts.secret.password(username);
            LongTermKeyCredentials::new(username.into(), password, REALM.into()).make_key(IntegrityAlgorithm::Sha1)
        };
        message.validate_integrity_with_key(&key).map_err(|_| unauthorized())?;
        Ok((username.to_owned(), key))
    }
}

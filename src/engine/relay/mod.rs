//! The closed relay: a TURN server (RFC 8656, RFC 8489) without sockets of its own, as a sans-IO machine. What a client sends through
//! it goes to our own sessions or to another allocation of ours, inside this process, and nowhere else.
//!
//! A peer that is not exactly a candidate or an allocation of ours is forbidden, so there is nothing to abuse. Strangers are answered
//! with at most three times what they sent, and not too often.

mod allocation;
mod limiter;
mod nonce;
mod registry;
mod virtuals;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;
use stun_types::AddressFamily;
use stun_types::attribute::{
    Attribute as _, AttributeStaticType as _, AttributeType, AttributeWrite, ErrorCode, Nonce, Realm,
    UnknownAttributes, Username, XorMappedAddress,
};
use stun_types::message::{
    BINDING, IntegrityAlgorithm, IntegrityKey, LongTermKeyCredentials, Message, MessageClass, MessageType,
    MessageWrite as _, MessageWriteExt as _, MessageWriteVec, Method, TransactionId,
};
use thiserror::Error;
use turn_types::attribute::{
    AdditionalAddressFamily, ChannelNumber, Data, DontFragment, EvenPort, Lifetime, RequestedAddressFamily,
    RequestedTransport, ReservationToken, XorPeerAddress, XorRelayedAddress,
};
use turn_types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, DATA, REFRESH, SEND};

use crate::wire::ids::WorkerId;
use crate::wire::stun;

use super::access::ClientAddr;
use super::credentials::{self, TurnSecret};
use allocation::{Allocation, NoRoom, Unbound};
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
    /// The same moment on both clocks; seconds since 1970.
    pub epoch: (Instant, u64),
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

/// An answer that is not yet one: its error code, and what else goes with it.
enum Refusal {
    /// With this code.
    Code(u16),
    /// With a nonce, so that the client can try again: 401 or 438.
    Challenge(u16),
    /// 420, with the types that are not known.
    Unknown(Vec<AttributeType>),
}

impl Relay {
    /// One without allocations.
    #[must_use]
    pub fn new(parts: RelayParts) -> Self {
        let swept = parts.epoch.0;
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

    fn signed(
        &mut self,
        client: Client,
        message: &Message<'_>,
        method: Method,
        signer: Signer<'_>,
        now: Instant,
    ) -> Done {
        match method {
            ALLOCATE => self.allocate(client, message, signer, now),
            REFRESH => self.refresh(client, message, signer, now),
            CREATE_PERMISSION => self.create_permission(client, message, signer, now),
            _ => self.channel_bind(client, message, signer, now),
        }
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

/// Who signed a request, and with what.
type Signer<'a> = (&'a str, &'a IntegrityKey);
type Done = Result<Vec<u8>, Refusal>;

impl Relay {
    /// RFC 8656 section 7.2.
    fn allocate(&mut self, client: Client, message: &Message<'_>, (username, key): Signer<'_>, now: Instant) -> Done {
        let known = [
            RequestedTransport::TYPE,
            Lifetime::TYPE,
            DontFragment::TYPE,
            EvenPort::TYPE,
            ReservationToken::TYPE,
            RequestedAddressFamily::TYPE,
        ];
        check_types(message, &known)?;
        if let Some((_, allocation)) = self.live(client, now) {
            let (transaction, answer) = &allocation.made;
            // Its answer was lost on the way.
            return if *transaction == transaction_of(message) && *allocation.username == *username {
                Ok(answer.clone())
            } else {
                Err(Refusal::Code(ErrorCode::ALLOCATION_MISMATCH))
            };
        }
        let bad = Refusal::Code(ErrorCode::BAD_REQUEST);
        let Ok(transport) = message.attribute::<RequestedTransport>() else { return Err(bad) };
        if transport.protocol() != UDP {
            return Err(Refusal::Code(ErrorCode::UNSUPPORTED_TRANSPORT_PROTOCOL));
        }
        let family = Self::family(message)?;
        // Reserving a second port means nothing here: no two allocations share an address.
        let even = message.has_attribute(EvenPort::TYPE);
        let reserved = message.has_attribute(ReservationToken::TYPE)
            || message.attribute::<EvenPort>().is_ok_and(|even| even.requested());
        if reserved {
            return Err(Refusal::Code(ErrorCode::INSUFFICIENT_CAPACITY));
        }
        let (expiry, user) = credentials::parts(username).ok_or(Refusal::Challenge(ErrorCode::UNAUTHORIZED))?;
        if expiry <= self.unix(now) {
            return Err(Refusal::Challenge(ErrorCode::UNAUTHORIZED));
        }
        // One that has ended and was not swept yet.
        if let Some(place) = self.by_client.get(&client) {
            self.free(*place);
        }
        let place = self.allocations.vacant_key();
        let number = u32::try_from(place).ok().filter(|number| *number < self.parts.plan.places());
        let number = number.ok_or(Refusal::Code(ErrorCode::INSUFFICIENT_CAPACITY))?;
        let mut drawn = [0; 2];
        (self.parts.entropy)(&mut drawn);
        let mut relayed = self.parts.plan.address(family, self.parts.worker, number, u16::from_be_bytes(drawn));
        if even {
            relayed.set_port(relayed.port() & !1);
        }
        self.parts.registry.enter(user, relayed).map_err(|full| {
            Refusal::Code(match full {
                Full::User => ErrorCode::ALLOCATION_QUOTA_REACHED,
                Full::All => ErrorCode::INSUFFICIENT_CAPACITY,
            })
        })?;
        let lifetime =
            lifetime(message).filter(|asked| !asked.is_zero()).unwrap_or(LIFETIME).clamp(LIFETIME, LONGEST_LIFETIME);
        let transaction = message.transaction_id();
        let answer = success(
            message,
            &[
                &XorRelayedAddress::new(relayed, transaction),
                &seconds(lifetime),
                &XorMappedAddress::new(client.remote, transaction),
            ],
            Some(key),
        );
        let mut allocation = Allocation::new(client, relayed, username, key.clone(), now + lifetime);
        allocation.made = (transaction_of(message), answer.clone());
        self.allocations.insert(allocation);
        self.by_client.insert(client, place);
        self.by_user.entry(user.into()).or_default().push(place);
        Ok(answer)
    }

    /// The family that is asked for (RFC 8656 section 7.2, points 6 and 7). A second one is not given, which is no error.
    fn family(message: &Message<'_>) -> Result<Family, Refusal> {
        let unsupported = Refusal::Code(ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED);
        if !message.has_attribute(RequestedAddressFamily::TYPE) {
            return Ok(Family::V4);
        }
        if message.has_attribute(AdditionalAddressFamily::TYPE) {
            return Err(Refusal::Code(ErrorCode::BAD_REQUEST));
        }
        match message.attribute::<RequestedAddressFamily>().map(|asked| asked.family()) {
            Ok(AddressFamily::IPV4) => Ok(Family::V4),
            Ok(AddressFamily::IPV6) => Ok(Family::V6),
            Err(_) => Err(unsupported),
        }
    }

    /// RFC 8656 section 8.2.
    fn refresh(&mut self, client: Client, message: &Message<'_>, signer: Signer<'_>, now: Instant) -> Done {
        check_types(message, &[Lifetime::TYPE, RequestedAddressFamily::TYPE])?;
        let (place, allocation) = self.of_signer(client, signer.0, now)?;
        let asked = message.attribute::<RequestedAddressFamily>().ok().map(|asked| match asked.family() {
            AddressFamily::IPV4 => Family::V4,
            AddressFamily::IPV6 => Family::V6,
        });
        if asked.is_some_and(|family| family != Family::of(allocation.relayed.ip())) {
            return Err(Refusal::Code(ErrorCode::PEER_ADDRESS_FAMILY_MISMATCH));
        }
        let lifetime = match lifetime(message) {
            Some(Duration::ZERO) => {
                self.free(place);
                Duration::ZERO
            }
            asked => {
                let lifetime = asked.unwrap_or(LIFETIME).clamp(LIFETIME, LONGEST_LIFETIME);
                allocation.until = now + lifetime;
                lifetime
            }
        };
        Ok(success(message, &[&seconds(lifetime)], Some(signer.1)))
    }

    /// RFC 8656 section 10.2. All or none.
    fn create_permission(&mut self, client: Client, message: &Message<'_>, signer: Signer<'_>, now: Instant) -> Done {
        check_types(message, &[XorPeerAddress::TYPE])?;
        let registry = self.parts.registry.clone();
        let (_, allocation) = self.of_signer(client, signer.0, now)?;
        let mut ips = Vec::new();
        for (_, raw) in message.iter_attributes().filter(|(_, raw)| raw.get_type() == XorPeerAddress::TYPE) {
            let peer = XorPeerAddress::try_from(&raw).map_err(|_| Refusal::Code(ErrorCode::BAD_REQUEST))?;
            let ip = peer.addr(message.transaction_id()).ip();
            if !registry.is_our_ip(ip) {
                return Err(Refusal::Code(ErrorCode::FORBIDDEN));
            }
            check_family(allocation, ip)?;
            ips.push(ip);
        }
        if ips.is_empty() {
            return Err(Refusal::Code(ErrorCode::BAD_REQUEST));
        }
        for ip in ips {
            allocation.permit(ip, now).map_err(|NoRoom| Refusal::Code(ErrorCode::INSUFFICIENT_CAPACITY))?;
        }
        Ok(success(message, &[], Some(signer.1)))
    }

    /// RFC 8656 section 12.2.
    fn channel_bind(&mut self, client: Client, message: &Message<'_>, signer: Signer<'_>, now: Instant) -> Done {
        check_types(message, &[XorPeerAddress::TYPE, ChannelNumber::TYPE])?;
        let registry = self.parts.registry.clone();
        let (_, allocation) = self.of_signer(client, signer.0, now)?;
        let (Ok(number), Ok(peer)) = (message.attribute::<ChannelNumber>(), message.attribute::<XorPeerAddress>())
        else {
            return Err(Refusal::Code(ErrorCode::BAD_REQUEST));
        };
        let (number, peer) = (number.channel(), peer.addr(message.transaction_id()));
        if !CHANNEL_NUMBERS.contains(&number) {
            return Err(Refusal::Code(ErrorCode::BAD_REQUEST));
        }
        if !registry.is_ours(peer) {
            return Err(Refusal::Code(ErrorCode::FORBIDDEN));
        }
        check_family(allocation, peer.ip())?;
        allocation.bind(number, peer, now).map_err(|unbound| {
            Refusal::Code(match unbound {
                Unbound::Taken => ErrorCode::BAD_REQUEST,
                Unbound::NoRoom => ErrorCode::INSUFFICIENT_CAPACITY,
            })
        })?;
        Ok(success(message, &[], Some(signer.1)))
    }

    /// A client's allocation, if that is whose credentials made it.
    fn of_signer(&mut self, client: Client, username: &str, now: Instant) -> Result<(usize, &mut Allocation), Refusal> {
        let (place, allocation) = self.live(client, now).ok_or(Refusal::Code(ErrorCode::ALLOCATION_MISMATCH))?;
        if *allocation.username == *username {
            Ok((place, allocation))
        } else {
            Err(Refusal::Code(ErrorCode::WRONG_CREDENTIALS))
        }
    }

    fn unix(&self, now: Instant) -> u64 {
        let (epoch, seconds) = self.parts.epoch;
        seconds + now.saturating_duration_since(epoch).as_secs()
    }
}

fn check_family(allocation: &Allocation, ip: IpAddr) -> Result<(), Refusal> {
    if Family::of(allocation.relayed.ip()) == Family::of(ip) {
        Ok(())
    } else {
        Err(Refusal::Code(ErrorCode::PEER_ADDRESS_FAMILY_MISMATCH))
    }
}

fn transaction_of(message: &Message<'_>) -> [u8; 12] {
    message.as_bytes().get(8..20).and_then(|bytes| bytes.first_chunk().copied()).unwrap_or_default()
}

fn lifetime(message: &Message<'_>) -> Option<Duration> {
    message.attribute::<Lifetime>().ok().map(|lifetime| Duration::from_secs(lifetime.seconds().into()))
}

fn seconds(lifetime: Duration) -> Lifetime {
    Lifetime::new(u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX))
}

/// What a message has that must be understood and is not (RFC 8489 section 6.3.1), beside what signs it.
fn unknown_types(message: &Message<'_>, known: &[AttributeType]) -> Vec<AttributeType> {
    let signs = [
        Username::TYPE,
        Realm::TYPE,
        Nonce::TYPE,
        stun_types::attribute::MessageIntegrity::TYPE,
        stun_types::attribute::MessageIntegritySha256::TYPE,
    ];
    let types = message.iter_attributes().map(|(_, raw)| raw.get_type());
    types.filter(|kind| kind.comprehension_required() && !known.contains(kind) && !signs.contains(kind)).collect()
}

fn check_types(message: &Message<'_>, known: &[AttributeType]) -> Result<(), Refusal> {
    let unknown = unknown_types(message, known);
    if unknown.is_empty() { Ok(()) } else { Err(Refusal::Unknown(unknown)) }
}

/// Adds attributes and a signature. What is added is ours, short and of each type once, so that there is nothing to go wrong.
fn write(mut answer: MessageWriteVec, attributes: &[&dyn AttributeWrite], key: Option<&IntegrityKey>) -> Vec<u8> {
    for attribute in attributes {
        let added = answer.add_attribute(*attribute);
        debug_assert!(added.is_ok(), "{added:?}");
    }
    if let Some(key) = key {
        let signed = answer.add_message_integrity_with_key(key, IntegrityAlgorithm::Sha1);
        debug_assert!(signed.is_ok(), "{signed:?}");
    }
    answer.finish()
}

fn success(request: &Message<'_>, attributes: &[&dyn AttributeWrite], key: Option<&IntegrityKey>) -> Vec<u8> {
    write(Message::builder_success(request, MessageWriteVec::new()), attributes, key)
}

fn failure(request: &Message<'_>, refusal: &Refusal, nonce: Option<&str>, key: Option<&IntegrityKey>) -> Vec<u8> {
    let answer = Message::builder_error(request, MessageWriteVec::new());
    // Phrases are for people, who do not read this; without them an answer to a stranger stays short.
    let code = match refusal {
        Refusal::Code(code) | Refusal::Challenge(code) => *code,
        Refusal::Unknown(_) => ErrorCode::UNKNOWN_ATTRIBUTE,
    };
    let (Ok(error), Ok(realm)) = (ErrorCode::new(code, ""), Realm::new(REALM)) else { return Vec::new() };
    let nonce = nonce.filter(|_| matches!(refusal, Refusal::Challenge(_))).and_then(|nonce| Nonce::new(nonce).ok());
    match (refusal, nonce) {
        (_, Some(nonce)) => write(answer, &[&error, &realm, &nonce], key),
        (Refusal::Unknown(types), None) => write(answer, &[&error, &UnknownAttributes::new(types)], key),
        _ => write(answer, &[&error], key),
    }
}

/// RFC 8656 section 12.4. Over a connection it is padded to four bytes (section 12.5).
fn channel_data(number: u16, data: &[u8], leg: Leg) -> Option<Vec<u8>> {
    let length = u16::try_from(data.len()).ok()?;
    let mut bytes = Vec::with_capacity(CHANNEL_HEADER + data.len() + 3);
    bytes.extend(number.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend(data);
    if leg == Leg::Tcp {
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    Some(bytes)
}

/// RFC 8656 section 11.
fn data_indication(peer: SocketAddr, data: &[u8], entropy: fn(&mut [u8])) -> Vec<u8> {
    let mut drawn = [0; 16];
    entropy(&mut drawn[4..]);
    let transaction = TransactionId::from(u128::from_be_bytes(drawn));
    let kind = MessageType::from_class_method(MessageClass::Indication, DATA);
    let indication = Message::builder(kind, transaction, MessageWriteVec::new());
    write(indication, &[&XorPeerAddress::new(peer, transaction), &Data::new(data)], None)
}

//! Which allocations a worker has at which outside servers, and which session goes by which. Allocations are made when somebody wants one,
//! shared by a few dozen sessions, given no newcomers when old, and deleted when nobody is left.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::wire::ids::SessionKey;

use super::allocation::{Allocation, AllocationEffect, Gone, TRANSACTION, Unsent};
use super::client::Client;
use super::protocol::Protocol;
use super::{TurnServer, is_peer};

/// Sessions that share an allocation: what is lost with it.
pub const SESSIONS_PER_SHARD: usize = 50;
/// Allocations of one worker. Sessions beyond them have no relayed candidate.
pub const SHARDS: usize = 64;
/// Addresses that one session may have let through: where we see its client, and those that it names.
pub const IPS_PER_SESSION: usize = 16;
/// An allocation so old takes no newcomers: all whom it ever let through still are.
pub const AGE: Duration = Duration::from_secs(3600);
/// The same for one that lets so many addresses through. What its sessions may still name has room, unless many of them move often.
const CROWDED: usize = super::PERMISSIONS - SESSIONS_PER_SHARD * IPS_PER_SESSION;
/// The same for one whose credentials end so soon: a refresh may be refused then.
const ENDING: Duration = Duration::from_secs(300);
/// An allocation that nobody has used for so long is deleted.
pub const IDLE: Duration = Duration::from_secs(10);
/// A server that failed is left alone for so long, twice as long each time.
const BACKOFF: Duration = Duration::from_secs(1);
/// And no longer than this.
pub const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// How often in a row a server may forget an allocation and be asked for another at once (RFC 8656 section 6.4).
const MISMATCHES: u32 = 3;

/// Names a shard inside one worker; never used again.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ShardId(pub u64);

/// A relayed address of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Relayed {
    /// As candidates name it.
    pub address: SocketAddr,
    /// Our socket's address, towards the server.
    pub base: SocketAddr,
}

/// What comes out of shards.
#[derive(Debug)]
pub enum ShardEffect<'a> {
    /// Find this server, and open a socket of its own for this shard.
    Open {
        /// Which shard.
        shard: ShardId,
        /// Where.
        server: TurnServer,
    },
    /// Close it, and forget what is under way for it.
    Close {
        /// Which shard.
        shard: ShardId,
        /// Why.
        gone: Gone,
    },
    /// Send this to the shard's server; over a connection, it is framed already.
    ToServer {
        /// Which shard.
        shard: ShardId,
        /// What.
        bytes: Vec<u8>,
    },
    /// A peer has sent this to our relayed address.
    Data {
        /// Our address.
        relayed: SocketAddr,
        /// Which peer.
        peer: SocketAddr,
        /// What.
        bytes: &'a [u8],
    },
    /// The session has this address from now on.
    Ready {
        /// Whose.
        session: SessionKey,
        /// The address.
        relayed: Relayed,
    },
    /// The session waits for an address, and no server has one for now.
    Without {
        /// Whose.
        session: SessionKey,
    },
    /// The session's address is gone; it waits for another.
    Lost {
        /// Whose.
        session: SessionKey,
        /// The address.
        relayed: SocketAddr,
    },
}

type Apply<'a> = &'a mut dyn FnMut(ShardEffect<'_>);

/// Makes the protocol's client for a server, from our address and the server's.
type Maker = fn(&TurnServer, (SocketAddr, SocketAddr), Instant) -> Box<dyn Protocol>;

/// A server, and how it has fared.
#[derive(Clone, Debug)]
struct Place {
    server: TurnServer,
    failures: u32,
    mismatches: u32,
    not_before: Option<Instant>,
}

impl Place {
    fn is_open(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|at| now >= at) && self.server.until.is_none_or(|until| now < until)
    }

    fn failed(&mut self, gone: Gone, now: Instant) {
        if gone == Gone::Mismatch && self.mismatches < MISMATCHES {
            self.mismatches += 1;
            return;
        }
        let wait = BACKOFF.saturating_mul(1 << self.failures.min(16)).min(LONGEST_BACKOFF);
        self.failures += 1;
        self.not_before = Some(now + wait);
    }

    /// An allocation there has lasted.
    fn proved_good(&mut self) {
        (self.failures, self.mismatches) = (0, 0);
    }
}

#[derive(Debug)]
enum Link {
    /// The driver looks for the server.
    Opening,
    Open {
        allocation: Box<Allocation>,
        base: SocketAddr,
    },
}

#[derive(Debug)]
struct Shard {
    server: TurnServer,
    link: Link,
    since: Instant,
    members: BTreeSet<SessionKey>,
    /// Since when nobody uses it.
    idle: Option<Instant>,
    /// It is being deleted.
    retired: bool,
}

impl Shard {
    fn relayed(&self) -> Option<Relayed> {
        match &self.link {
            Link::Opening => None,
            Link::Open { allocation, base } => allocation.relayed().map(|address| Relayed { address, base: *base }),
        }
    }

    fn is_old(&self, now: Instant) -> bool {
        let crowded = matches!(&self.link, Link::Open { allocation, .. } if allocation.permissions() > CROWDED);
        // Credentials that are short-lived are not all end.
        let ending = |until: Instant| ENDING.min(until.saturating_duration_since(self.since) / 4);
        crowded || now >= self.since + AGE || self.server.until.is_some_and(|until| now + ending(until) >= until)
    }

    fn has_room(&self, now: Instant) -> bool {
        // One whose credentials end at once from the beginning is still the best there is.
        let fresh = self.relayed().is_none() || !self.is_old(now);
        !self.retired && fresh && self.members.len() < SESSIONS_PER_SHARD
    }

    fn deadline(&self) -> Option<Instant> {
        let link = match &self.link {
            Link::Opening => Some(self.since + TRANSACTION),
            Link::Open { allocation, .. } => allocation.deadline(),
        };
        let idle = self.idle.filter(|_| !self.retired).map(|since| since + IDLE);
        link.into_iter().chain(idle).min()
    }
}

/// A session that wants to be reachable by a relay.
#[derive(Debug, Default)]
struct Member {
    shard: Option<ShardId>,
    /// Its client, where we see it now.
    client: Option<IpAddr>,
    /// Whom it expects besides.
    ips: Vec<IpAddr>,
}

/// The shards of one worker.
pub struct Shards {
    places: Vec<Place>,
    all: BTreeMap<ShardId, Shard>,
    by_relayed: HashMap<SocketAddr, ShardId>,
    members: HashMap<SessionKey, Member>,
    /// Those without a shard.
    waiting: BTreeSet<SessionKey>,
    next: u64,
    make: Maker,
}

impl std::fmt::Debug for Shards {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shards")
            .field("shards", &self.all.len())
            .field("sessions", &self.members.len())
            .finish_non_exhaustive()
    }
}

impl Default for Shards {
    fn default() -> Self {
        Self::with(|server, route, now| Box::new(Client::new(server, route, now)))
    }
}

impl Shards {
    /// None yet, whose protocol `make` makes.
    #[must_use]
    pub fn with(make: Maker) -> Self {
        Self {
            places: Vec::new(),
            all: BTreeMap::new(),
            by_relayed: HashMap::new(),
            members: HashMap::new(),
            waiting: BTreeSet::new(),
            next: 0,
            make,
        }
    }

    /// These are the servers from now on, the best first. Allocations that are there stay; new ones are made at these, with these
    /// credentials. A server that failed is tried again with other credentials.
    pub fn set_servers(&mut self, servers: Vec<TurnServer>, now: Instant, apply: Apply<'_>) {
        let known = std::mem::take(&mut self.places);
        self.places = servers
            .into_iter()
            .map(|server| {
                let before = known.iter().find(|place| place.server == server);
                before.cloned().unwrap_or(Place { server, failures: 0, mismatches: 0, not_before: None })
            })
            .collect();
        self.seat_the_waiting(now, apply);
    }

    /// Whether there is a server that a session may wait for.
    #[must_use]
    pub fn are_configured(&self) -> bool {
        !self.places.is_empty()
    }

    /// How many allocations there are, or are being made or deleted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// How many sessions there are.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.members.len()
    }

    /// Whether this is a relayed address of ours.
    #[must_use]
    pub fn is_relayed(&self, source: SocketAddr) -> bool {
        self.by_relayed.contains_key(&source)
    }

    /// A session wants a relayed address for a client that we see at `client`. It is told of it by [`ShardEffect::Ready`], at once if one
    /// is there, and keeps it until it leaves. One that has joined already is told again where it stands.
    pub fn join(&mut self, session: SessionKey, client: IpAddr, now: Instant, apply: Apply<'_>) {
        let member = self.members.entry(session).or_default();
        // Who is seen by IPv6 may still send from where it was.
        member.client = within_reach(client).or(member.client);
        match member.shard.and_then(|shard| self.all.get(&shard)).map(Shard::relayed) {
            Some(Some(relayed)) => apply(ShardEffect::Ready { session, relayed }),
            Some(None) => {}
            None => self.seat_or_tell(session, now, apply),
        }
    }

    /// The session wants none any more.
    pub fn leave(&mut self, session: SessionKey, now: Instant, apply: Apply<'_>) {
        self.waiting.remove(&session);
        let Some(Member { shard: Some(id), .. }) = self.members.remove(&session) else { return };
        let Some(shard) = self.all.get_mut(&id) else { return };
        shard.members.remove(&session);
        if shard.members.is_empty() {
            shard.idle = Some(now);
            if shard.is_old(now) {
                self.retire(id, now, apply);
            }
        }
    }

    /// The session's client is seen at this address from now on. It is let through whatever the client has named: its media most likely
    /// comes from there.
    pub fn see(&mut self, session: SessionKey, client: IpAddr, now: Instant, apply: Apply<'_>) {
        let Some(member) = self.members.get_mut(&session) else { return };
        let Some(client) = within_reach(client) else { return };
        member.client = Some(client);
        if let Some(id) = member.shard {
            self.with_allocation(id, now, apply, |allocation, apply| allocation.permit(client, true, now, apply));
        }
    }

    /// The session expects a peer at this address; returns whether it may.
    pub fn permit(&mut self, session: SessionKey, ip: IpAddr, now: Instant, apply: Apply<'_>) -> bool {
        let Some(ip) = within_reach(ip) else { return false };
        let Some(member) = self.members.get_mut(&session) else { return false };
        if member.client != Some(ip) && !member.ips.contains(&ip) {
            if member.ips.len() == IPS_PER_SESSION - 1 {
                return false;
            }
            member.ips.push(ip);
        }
        let Some(id) = member.shard else { return true };
        self.with_allocation(id, now, apply, |allocation, apply| allocation.permit(ip, false, now, apply))
            .unwrap_or(true)
    }

    /// The session finds that nothing comes through its relay.
    pub fn doubt(&mut self, session: SessionKey, now: Instant, apply: Apply<'_>) {
        if let Some(id) = self.members.get(&session).and_then(|member| member.shard) {
            self.doubt_shard(id, now, apply);
        }
    }

    /// The system says that nobody is at the shard's server, which anybody could have made it say.
    pub fn doubt_shard(&mut self, shard: ShardId, now: Instant, apply: Apply<'_>) {
        self.with_allocation(shard, now, apply, |allocation, apply| allocation.doubt(now, apply));
    }

    /// The shard's socket is there: its address and the server's.
    pub fn opened(&mut self, id: ShardId, route: (SocketAddr, SocketAddr), now: Instant, apply: Apply<'_>) {
        let make = self.make;
        let Some(shard) = self.all.get_mut(&id).filter(|shard| matches!(shard.link, Link::Opening)) else { return };
        let protocol = make(&shard.server, route, now);
        let (transport, since) = (shard.server.transport, shard.since);
        let mut outcome = Outcome::default();
        let allocation =
            Allocation::open(transport, protocol, since, now, &mut |effect| outcome.take(id, effect, apply));
        shard.link = Link::Open { allocation: Box::new(allocation), base: route.0 };
        self.act(id, outcome, now, apply);
    }

    /// The shard's server cannot be reached, or its connection is gone.
    pub fn closed(&mut self, id: ShardId, now: Instant, apply: Apply<'_>) {
        // A server may well close what was deleted.
        let retired = self.all.get(&id).is_some_and(|shard| shard.retired);
        self.lose(id, if retired { Gone::Deleted } else { Gone::Closed }, now, apply);
    }

    /// A datagram of the shard's server has come, or the next bytes of the connection.
    pub fn receive(&mut self, id: ShardId, bytes: &[u8], now: Instant, apply: Apply<'_>) {
        self.with_allocation(id, now, apply, |allocation, apply| allocation.receive(bytes, now, apply));
    }

    /// Sends data to a peer from one of our relayed addresses.
    ///
    /// # Errors
    /// Why it goes nowhere.
    pub fn send(
        &mut self,
        relayed: SocketAddr,
        peer: SocketAddr,
        data: &[u8],
        now: Instant,
        apply: Apply<'_>,
    ) -> Result<(), Unsent> {
        let id = *self.by_relayed.get(&relayed).ok_or(Unsent::NoAllocation)?;
        self.with_allocation(id, now, apply, |allocation, apply| allocation.send(peer, data, now, apply))
            .unwrap_or(Err(Unsent::NoAllocation))
    }

    /// Does what is due; returns when to come again, if ever.
    pub fn tick(&mut self, now: Instant, apply: Apply<'_>) -> Option<Instant> {
        let due: Vec<_> = self
            .all
            .iter()
            .filter(|(_, shard)| shard.deadline().is_some_and(|at| now >= at))
            .map(|(id, shard)| (*id, matches!(shard.link, Link::Opening)))
            .collect();
        for (id, opening) in due {
            if opening {
                if self.all.get(&id).is_some_and(|shard| now >= shard.since + TRANSACTION) {
                    self.lose(id, Gone::Silent, now, apply);
                }
            } else {
                self.with_allocation(id, now, apply, |allocation, apply| allocation.tick(now, apply));
            }
            let idle = |shard: &Shard| shard.idle.is_some_and(|since| now >= since + IDLE);
            if self.all.get(&id).is_some_and(idle) {
                self.retire(id, now, apply);
            }
        }
        self.seat_the_waiting(now, apply);
        self.deadline()
    }

    /// When a tick is wanted.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let shards = self.all.values().filter_map(Shard::deadline);
        let waits = !self.waiting.is_empty() && self.all.len() < SHARDS;
        // One whose credentials end before waits for others.
        let place = |place: &Place| place.not_before.filter(|at| place.server.until.is_none_or(|until| *at < until));
        let places = self.places.iter().filter(|_| waits).filter_map(place);
        shards.chain(places).min()
    }

    /// Deletes all allocations: the worker goes away.
    pub fn retire_all(&mut self, now: Instant, apply: Apply<'_>) {
        self.places.clear();
        for id in self.all.keys().copied().collect::<Vec<_>>() {
            self.retire(id, now, apply);
        }
    }

    /// Gives a session a place at a shard, or tells it that there is none.
    fn seat_or_tell(&mut self, session: SessionKey, now: Instant, apply: Apply<'_>) {
        if !self.seat(session, now, apply) {
            self.waiting.insert(session);
            apply(ShardEffect::Without { session });
        }
    }

    /// Gives a session a place at a shard, an old or a new one; returns whether there was one.
    fn seat(&mut self, session: SessionKey, now: Instant, apply: Apply<'_>) -> bool {
        let usable = |(_, shard): &(&ShardId, &Shard)| shard.has_room(now);
        // One that is there before one that is not, the older before the newer, so that the newer empties.
        let ready = self.all.iter().filter(usable).find(|(_, shard)| shard.relayed().is_some());
        let place = ready.or_else(|| self.all.iter().find(usable)).map(|(id, _)| *id);
        let Some(id) = place.or_else(|| self.open(now, apply)) else { return false };
        let Some(shard) = self.all.get_mut(&id) else { return false };
        self.waiting.remove(&session);
        shard.members.insert(session);
        shard.idle = None;
        let relayed = shard.relayed();
        if let Some(member) = self.members.get_mut(&session) {
            member.shard = Some(id);
        }
        if let Some(relayed) = relayed {
            self.welcome(id, session, relayed, now, apply);
        }
        true
    }

    /// The session's shard has an address.
    fn welcome(&mut self, id: ShardId, session: SessionKey, relayed: Relayed, now: Instant, apply: Apply<'_>) {
        apply(ShardEffect::Ready { session, relayed });
        let Some(member) = self.members.get(&session) else { return };
        let (client, ips) = (member.client, member.ips.clone());
        self.with_allocation(id, now, apply, |allocation, apply| {
            // A client's own address is nearly always the one that its media comes from.
            if let Some(client) = client {
                allocation.permit(client, true, now, apply);
            }
            for ip in ips {
                allocation.permit(ip, false, now, apply);
            }
        });
    }

    fn open(&mut self, now: Instant, apply: Apply<'_>) -> Option<ShardId> {
        if self.all.len() == SHARDS {
            return None;
        }
        let server = self.places.iter().find(|place| place.is_open(now))?.server.clone();
        let id = ShardId(self.next);
        self.next += 1;
        let (link, members) = (Link::Opening, BTreeSet::new());
        self.all.insert(id, Shard { server: server.clone(), link, since: now, members, idle: None, retired: false });
        apply(ShardEffect::Open { shard: id, server });
        Some(id)
    }

    fn seat_the_waiting(&mut self, now: Instant, apply: Apply<'_>) {
        // Where there is no place for one, there is none for the next.
        while let Some(session) = self.waiting.first().copied()
            && self.seat(session, now, apply)
        {}
    }

    /// Deletes a shard that nobody uses.
    fn retire(&mut self, id: ShardId, now: Instant, apply: Apply<'_>) {
        let Some(shard) = self.all.get_mut(&id) else { return };
        if std::mem::replace(&mut shard.retired, true) {
            return;
        }
        if let Link::Opening = shard.link {
            return self.lose(id, Gone::Deleted, now, apply);
        }
        if let Some(Relayed { address, .. }) = shard.relayed() {
            self.by_relayed.remove(&address);
        }
        self.with_allocation(id, now, apply, |allocation, apply| allocation.delete(now, apply));
    }

    /// A shard is gone: its sessions are told, and get another.
    fn lose(&mut self, id: ShardId, gone: Gone, now: Instant, apply: Apply<'_>) {
        let Some(shard) = self.all.remove(&id) else { return };
        let had = self.by_relayed.iter().find(|(_, known)| **known == id).map(|(relayed, _)| *relayed);
        if let Some(relayed) = had {
            self.by_relayed.remove(&relayed);
        }
        apply(ShardEffect::Close { shard: id, gone });
        if gone != Gone::Deleted
            && let Some(place) = self.places.iter_mut().find(|place| place.server == shard.server)
        {
            if now >= shard.since + LONGEST_BACKOFF {
                place.proved_good();
            }
            place.failed(gone, now);
        }
        for session in &shard.members {
            if let Some(member) = self.members.get_mut(session) {
                member.shard = None;
                if let Some(relayed) = had {
                    apply(ShardEffect::Lost { session: *session, relayed });
                }
            }
        }
        for session in shard.members {
            self.seat_or_tell(session, now, apply);
        }
    }

    /// Lets a shard's allocation do something, and does what follows for the others.
    fn with_allocation<T>(
        &mut self,
        id: ShardId,
        now: Instant,
        apply: Apply<'_>,
        work: impl FnOnce(&mut Allocation, &mut dyn FnMut(AllocationEffect<'_>)) -> T,
    ) -> Option<T> {
        let Link::Open { allocation, .. } = &mut self.all.get_mut(&id)?.link else { return None };
        let mut outcome = Outcome::default();
        let done = work(allocation, &mut |effect| outcome.take(id, effect, apply));
        self.act(id, outcome, now, apply);
        Some(done)
    }

    fn act(&mut self, id: ShardId, Outcome { ready, gone }: Outcome, now: Instant, apply: Apply<'_>) {
        if let Some(gone) = gone {
            return self.lose(id, gone, now, apply);
        }
        let Some(address) = ready else { return };
        let Some(shard) = self.all.get_mut(&id) else { return };
        let Some(relayed) = shard.relayed() else { return };
        if self.by_relayed.contains_key(&address) {
            // Two servers cannot both have it; the one that came first is believed.
            return self.lose(id, Gone::Ended, now, apply);
        }
        self.by_relayed.insert(address, id);
        for session in shard.members.clone() {
            self.welcome(id, session, relayed, now, apply);
        }
    }
}

/// The address, if a peer there can be let through. We ask for allocations of IPv4 only.
fn within_reach(ip: IpAddr) -> Option<IpAddr> {
    let ip = ip.to_canonical();
    (ip.is_ipv4() && is_peer(ip)).then_some(ip)
}

/// What an allocation has said that concerns more than itself.
#[derive(Default)]
struct Outcome {
    ready: Option<SocketAddr>,
    gone: Option<Gone>,
}

impl Outcome {
    /// Passes on what goes out as it is, and keeps the rest.
    fn take(&mut self, shard: ShardId, effect: AllocationEffect<'_>, apply: Apply<'_>) {
        match effect {
            AllocationEffect::ToServer(bytes) => apply(ShardEffect::ToServer { shard, bytes }),
            AllocationEffect::Data { relayed, peer, bytes } => apply(ShardEffect::Data { relayed, peer, bytes }),
            AllocationEffect::Ready(relayed) => self.ready = Some(relayed),
            AllocationEffect::Gone(gone) => self.gone = Some(gone),
        }
    }
}

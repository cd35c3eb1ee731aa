//! The client of outside TURN servers, and the shards of a worker, on synthetic time. The servers are our own relay, which is one of TURN
//! whatever it does with what goes through it; faults are put between the two.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use proptest::prelude::*;
use stun_types::attribute::{AttributeStaticType as _, ErrorCode, Nonce, Realm};
use stun_types::message::{
    Message, MessageClass, MessageWrite as _, MessageWriteExt as _, MessageWriteVec, Method, TransactionId,
};
use turn_types::attribute::{Lifetime, RequestedTransport, XorPeerAddress};
use turn_types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, DATA, REFRESH};

use super::net::{Dice, ms, secs, zero};
use crate::engine::credentials::TurnSecret;
use crate::engine::host::Hmac;
use crate::engine::moment::Moment;
use crate::engine::relay::{Client, Leg, Nonces, Plan, REALM, Registry, Relay, RelayEffect, RelayParts};
use crate::engine::turn::{
    AGE, Allocation, AllocationEffect, Gone, IDLE, IPS_PER_SESSION, KEEPALIVE, LONGEST_BACKOFF, PERMISSIONS, Protocol,
    ProtocolEvent, Relayed, SESSIONS_PER_SHARD, SHARDS, ShardEffect, ShardId, Shards, TRANSACTION, TurnServer,
    TurnTransport, Unsent,
};
use crate::wire::framing::Framing;
use crate::wire::ids::{SessionKey, WorkerId};

/// Seconds since 1970 at the beginning of time.
const UNIX: u64 = 1_800_000_000;
/// From here to a server, and back.
const WAY: Duration = Duration::from_millis(10);
/// A peer that the servers let through.
const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7)), 50_000);
/// Our side of every socket.
const BASE: [u8; 4] = [192, 0, 2, 77];
/// Events without any move of the clock that are taken for spinning.
const SPINNING: u32 = 20_000;
const ALL: [TurnTransport; 3] = [TurnTransport::Udp, TurnTransport::Tcp, TurnTransport::Tls];

/// What shards told, without the bytes that go to servers.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Told {
    Open(ShardId, String),
    Close(ShardId, Gone),
    Ready(SessionKey, Relayed),
    Without(SessionKey),
    Lost(SessionKey, SocketAddr),
    Data(SocketAddr, SocketAddr, Vec<u8>),
}

/// Something under way.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Cargo {
    /// The server was found.
    Found(u64),
    ToServer(u64, Vec<u8>),
    ToUs(u64, Vec<u8>),
}

/// A server, which forgets everything when it is made anew.
struct Server {
    /// Tells it from others, and from itself in another life.
    seed: u8,
    life: u8,
    relay: Relay,
    nonces: Nonces,
    secret: TurnSecret,
    /// It takes everything and answers nothing.
    silent: bool,
    /// Nobody is there to connect to.
    shut: bool,
    /// What it answers the next request of a method, instead of what it would.
    errors: Vec<(Method, u16)>,
    /// What came, by method.
    requests: Vec<Method>,
    /// What went to peers: from, to and bytes.
    passed: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
}

struct Socket {
    host: String,
    client: Client,
    input: BytesMut,
}

struct Scene {
    shards: Shards,
    servers: BTreeMap<String, Server>,
    sockets: HashMap<ShardId, Socket>,
    flights: BinaryHeap<Reverse<(Instant, u64, Cargo)>>,
    order: u64,
    now: Instant,
    dice: Dice,
    /// Connections deliver their bytes in odd pieces.
    cuts: bool,
    /// Datagrams are lost so often, each way.
    loss: f64,
    told: Vec<(Instant, Told)>,
    /// What went to servers, by its first byte and length.
    sent: Vec<(Instant, u8, usize)>,
    still: u32,
}

fn entropy(bytes: &mut [u8]) {
    thread_local!(static DICE: std::cell::Cell<Dice> = const { std::cell::Cell::new(Dice::seeded(9)) });
    for byte in bytes {
        let mut dice = DICE.get();
        *byte = dice.roll().to_le_bytes()[0];
        DICE.set(dice);
    }
}

/// Peers that servers let through: the one, and enough others to fill any bound.
fn peers() -> Vec<SocketAddr> {
    let others = (0..=2_000_u16).map(|number| {
        let [high, low] = number.to_be_bytes();
        SocketAddr::from(([203, 1, high, low], 50_000))
    });
    others.chain([PEER]).collect()
}

impl Server {
    fn new(now: Instant, seed: u8, life: u8) -> Self {
        let hmac = Hmac::default();
        let registry = Arc::new(Registry::new(&peers(), 10_000));
        let secret = TurnSecret::new(b"shared", hmac);
        let nonces = Nonces::new([life; 20], hmac, zero());
        let parts = RelayParts {
            worker: WorkerId(seed),
            plan: Plan::new(8),
            registry,
            secret: secret.clone(),
            nonces: nonces.clone(),
            entropy,
            epoch: Moment { now, unix: UNIX },
        };
        Self {
            seed,
            life,
            relay: Relay::new(parts),
            nonces,
            secret,
            silent: false,
            shut: false,
            errors: Vec::new(),
            requests: Vec::new(),
            passed: Vec::new(),
        }
    }

    fn receive(&mut self, client: Client, bytes: &[u8], now: Instant) -> Vec<Vec<u8>> {
        let request = Message::from_bytes(bytes).ok().filter(|message| message.class() == MessageClass::Request);
        if let Some(request) = &request {
            self.requests.push(request.method());
            let signed = request.has_attribute(stun_types::attribute::MessageIntegrity::TYPE);
            let planned = self.errors.iter().position(|(method, _)| *method == request.method() && signed);
            if let Some(place) = planned {
                let (_, code) = self.errors.remove(place);
                let mut answer = Message::builder_error(request, MessageWriteVec::new());
                answer.add_attribute(&ErrorCode::builder(code).build().expect("a code")).expect("it fits");
                if code == 438 || code == 401 {
                    let nonce = self.nonces.make(client.remote, now + secs(1));
                    answer.add_attribute(&Realm::new(REALM).expect("short")).expect("it fits");
                    answer.add_attribute(&Nonce::new(&nonce).expect("short")).expect("it fits");
                }
                return vec![answer.finish()];
            }
        }
        if self.silent {
            return Vec::new();
        }
        let Self { relay, passed, .. } = self;
        let mut back = Vec::new();
        // What the relay has no use for goes nowhere, as with any server.
        let _ = relay.receive(client, bytes, now, |effect| match effect {
            RelayEffect::ToClient { bytes, .. } => back.push(bytes),
            RelayEffect::ToPeer { from, to, bytes } => passed.push((from, to, bytes.to_vec())),
        });
        back
    }

    fn count(&self, method: Method) -> usize {
        self.requests.iter().filter(|known| **known == method).count()
    }
}

impl Scene {
    /// These servers, the best first; nobody wants anything yet.
    fn with(servers: &[(&str, TurnTransport)]) -> Self {
        let mut scene = Self {
            shards: Shards::default(),
            servers: BTreeMap::new(),
            sockets: HashMap::new(),
            flights: BinaryHeap::new(),
            order: 0,
            now: zero(),
            dice: Dice::seeded(3),
            cuts: false,
            loss: 0.0,
            told: Vec::new(),
            sent: Vec::new(),
            still: 0,
        };
        let list = servers.iter().zip(0..).map(|((host, transport), seed)| {
            scene.servers.insert((*host).to_owned(), Server::new(zero(), seed, 0));
            scene.server(host, *transport)
        });
        let list = list.collect();
        scene.set_servers(list);
        scene
    }

    fn one(transport: TurnTransport) -> Self {
        Self::with(&[("one", transport)])
    }

    /// As it is configured, with credentials for a day.
    fn server(&self, host: &str, transport: TurnTransport) -> TurnServer {
        let minted = self.servers[host].secret.mint("voxcast", UNIX + 86_400);
        let (username, credential) = (minted.username, minted.credential);
        TurnServer { transport, host: host.into(), port: 3478, username, credential, until: None }
    }

    fn at(&mut self, host: &str) -> &mut Server {
        self.servers.get_mut(host).expect("it is there")
    }

    /// The server starts anew, and knows nobody.
    fn restart(&mut self, host: &str) {
        let (now, server) = (self.now, self.at(host));
        *server = Server::new(now, server.seed, server.life.wrapping_add(1));
    }

    fn put<T>(&mut self, work: impl FnOnce(&mut Shards, Instant, &mut dyn FnMut(ShardEffect<'_>)) -> T) -> T {
        let Self { shards, sockets, flights, order, now, told, sent, .. } = self;
        let now = *now;
        let mut fly = |at: Instant, cargo: Cargo| {
            *order += 1;
            flights.push(Reverse((at, *order, cargo)));
        };
        work(shards, now, &mut |effect| match effect {
            ShardEffect::Open { shard, server } => {
                let leg = if server.transport == TurnTransport::Udp { Leg::Udp } else { Leg::Tcp };
                let port = 10_000 + u16::try_from(shard.0).expect("few");
                let remote = SocketAddr::from((BASE, port));
                let client = Client { leg, remote, local: SocketAddr::from(([198, 51, 100, 1], server.port)) };
                sockets.insert(shard, Socket { host: server.host.clone(), client, input: BytesMut::new() });
                fly(now + WAY, Cargo::Found(shard.0));
                told.push((now, Told::Open(shard, server.host)));
            }
            ShardEffect::Close { shard, gone } => {
                assert!(sockets.remove(&shard).is_some(), "closed twice");
                told.push((now, Told::Close(shard, gone)));
            }
            ShardEffect::ToServer { shard, bytes } => {
                let socket = &sockets[&shard];
                assert!(socket.client.leg == Leg::Udp || bytes.len() % 4 == 0, "padded to four");
                sent.push((now, bytes[0], bytes.len()));
                fly(now + WAY, Cargo::ToServer(shard.0, bytes));
            }
            ShardEffect::Data { relayed, peer, bytes } => {
                told.push((now, Told::Data(relayed, peer, bytes.to_vec())));
            }
            ShardEffect::Ready { session, relayed } => told.push((now, Told::Ready(session, relayed))),
            ShardEffect::Without { session } => told.push((now, Told::Without(session))),
            ShardEffect::Lost { session, relayed } => told.push((now, Told::Lost(session, relayed))),
        })
    }

    fn set_servers(&mut self, servers: Vec<TurnServer>) {
        self.put(|shards, now, apply| shards.set_servers(servers, now, apply));
    }

    fn join(&mut self, session: u32) {
        self.put(|shards, now, apply| shards.join(SessionKey(session), PEER.ip(), now, apply));
    }

    fn leave(&mut self, session: u32) {
        self.put(|shards, now, apply| shards.leave(SessionKey(session), now, apply));
    }

    fn permit(&mut self, session: u32, ip: IpAddr) -> bool {
        self.put(|shards, now, apply| shards.permit(SessionKey(session), ip, now, apply))
    }

    /// The session's client is seen somewhere else.
    fn see(&mut self, session: u32, client: IpAddr) {
        self.put(|shards, now, apply| shards.see(SessionKey(session), client, now, apply));
    }

    fn send(&mut self, relayed: SocketAddr, peer: SocketAddr, data: &[u8]) -> Result<(), Unsent> {
        self.put(|shards, now, apply| shards.send(relayed, peer, data, now, apply))
    }

    /// A peer sends something to a relayed address.
    fn peer_sends(&mut self, relayed: SocketAddr, peer: SocketAddr, data: &[u8]) {
        let now = self.now;
        let mut back = Vec::new();
        for server in self.servers.values_mut() {
            let _ = server.relay.deliver(relayed, peer, data, now, |effect| {
                if let RelayEffect::ToClient { client, bytes } = effect {
                    back.push((client, bytes));
                }
            });
        }
        for (client, bytes) in back {
            let shard = self.sockets.iter().find(|(_, socket)| socket.client == client).map(|(id, _)| *id);
            self.fly_back(shard.expect("it has a socket"), bytes);
        }
    }

    fn fly_back(&mut self, shard: ShardId, bytes: Vec<u8>) {
        let by_udp = self.sockets[&shard].client.leg == Leg::Udp;
        if by_udp && self.dice.chance(self.loss) {
            return;
        }
        let at = self.now + WAY;
        let mut rest = bytes;
        while !by_udp && self.cuts && rest.len() > 1 {
            let tail = rest.split_off(1 + self.dice.below(rest.len() - 1));
            self.order += 1;
            self.flights.push(Reverse((at, self.order, Cargo::ToUs(shard.0, rest))));
            rest = tail;
        }
        self.order += 1;
        self.flights.push(Reverse((at, self.order, Cargo::ToUs(shard.0, rest))));
    }

    fn arrive(&mut self, cargo: Cargo) {
        match cargo {
            Cargo::Found(id) => {
                let Some(socket) = self.sockets.get(&ShardId(id)) else { return };
                let Client { remote, local, .. } = socket.client;
                if self.servers[&socket.host].shut {
                    self.put(|shards, now, apply| shards.closed(ShardId(id), now, apply));
                } else {
                    self.put(|shards, now, apply| shards.opened(ShardId(id), (remote, local), now, apply));
                }
            }
            Cargo::ToServer(id, bytes) => {
                let (now, shard) = (self.now, ShardId(id));
                let Some(Socket { host, client, input }) = self.sockets.get_mut(&shard) else { return };
                let (client, server) = (*client, self.servers.get_mut(host).expect("it is there"));
                let mut back = Vec::new();
                if client.leg == Leg::Udp {
                    if !self.dice.chance(self.loss) {
                        back.extend(server.receive(client, &bytes, now));
                    }
                } else {
                    input.extend_from_slice(&bytes);
                    while let Some(frame) = Framing::Turn.next_frame(input).expect("we frame well") {
                        back.extend(server.receive(client, &frame, now));
                    }
                }
                for bytes in back {
                    self.fly_back(shard, bytes);
                }
            }
            Cargo::ToUs(id, bytes) => {
                self.put(|shards, now, apply| shards.receive(ShardId(id), &bytes, now, apply));
            }
        }
    }

    fn next_event(&self) -> Option<Instant> {
        let flight = self.flights.peek().map(|Reverse((at, ..))| *at);
        flight.into_iter().chain(self.shards.deadline()).min()
    }

    fn step(&mut self, at: Instant) {
        self.still = if at > self.now { 0 } else { self.still + 1 };
        assert!(self.still < SPINNING, "somebody spins: {:?}", self.told.last());
        self.now = self.now.max(at);
        while self.flights.peek().is_some_and(|Reverse((at, ..))| *at <= self.now) {
            let Some(Reverse((_, _, cargo))) = self.flights.pop() else { break };
            self.arrive(cargo);
        }
        self.put(|shards, now, apply| shards.tick(now, apply));
    }

    fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.next_event().filter(|at| *at <= until) {
            self.step(at);
        }
        self.now = until;
    }

    /// Runs until something was told; gives what, and how long it took.
    #[track_caller]
    fn until<T>(&mut self, what: &str, limit: Duration, find: impl Fn(&Told) -> Option<T>) -> (T, Duration) {
        let (from, began) = (self.told.len(), self.now);
        let until = self.now + limit;
        loop {
            if let Some(found) = self.told[from..].iter().find_map(|(_, told)| find(told)) {
                return (found, self.now - began);
            }
            match self.next_event().filter(|at| *at <= until) {
                Some(at) => self.step(at),
                None => panic!("not {what} within {limit:?}: {:?}", &self.told[from..]),
            }
        }
    }

    /// A session that has a relayed address.
    #[track_caller]
    fn ready(&mut self, session: u32) -> SocketAddr {
        let before = self.told.len();
        self.join(session);
        let mine = |told: &Told| match told {
            Told::Ready(key, relayed) if *key == SessionKey(session) => Some(relayed.address),
            _ => None,
        };
        if let Some(address) = self.told[before..].iter().find_map(|(_, told)| mine(told)) {
            return address;
        }
        self.until("ready", secs(10), mine).0
    }

    fn is_told(&self, what: &Told) -> bool {
        self.told.iter().any(|(_, told)| told == what)
    }

    fn closes(&self) -> Vec<Gone> {
        let gone = |(_, told): &(Instant, Told)| match told {
            Told::Close(_, gone) => Some(*gone),
            _ => None,
        };
        self.told.iter().filter_map(gone).collect()
    }

    fn data(&self) -> Vec<(SocketAddr, SocketAddr, Vec<u8>)> {
        let data = |(_, told): &(Instant, Told)| match told {
            Told::Data(relayed, peer, bytes) => Some((*relayed, *peer, bytes.clone())),
            _ => None,
        };
        self.told.iter().filter_map(data).collect()
    }
}

fn opened(told: &Told) -> Option<(ShardId, String)> {
    match told {
        Told::Open(shard, host) => Some((*shard, host.clone())),
        _ => None,
    }
}

fn closed(told: &Told) -> Option<Gone> {
    match told {
        Told::Close(_, gone) => Some(*gone),
        _ => None,
    }
}

/// A check of ICE as far as anybody here looks.
fn check(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length.max(20)];
    bytes[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
    bytes
}

/// A packet of media as far as anybody here looks.
fn media(length: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..length.max(2)).map(|place| u8::try_from(place % 251).expect("small")).collect();
    bytes[..2].copy_from_slice(&[0x80, 111]);
    bytes
}

#[test]
fn data_goes_both_ways_over_every_transport_whatever_its_length() {
    for transport in ALL {
        let mut scene = Scene::one(transport);
        scene.cuts = true;
        assert_eq!(scene.told, [], "nobody wants anything");
        let relayed = scene.ready(1);
        // Checks go before the permission is there.
        assert_eq!(scene.send(relayed, PEER, &check(100)), Ok(()));
        scene.run_for(secs(1));
        let passed = std::mem::take(&mut scene.at("one").passed);
        assert_eq!(passed, [(relayed, PEER, check(100))], "{transport:?}");
        for length in 2..80 {
            scene.send(relayed, PEER, &media(length)).expect("it is let through");
            scene.peer_sends(relayed, PEER, &media(length));
            scene.run_for(ms(25));
        }
        let passed = std::mem::take(&mut scene.at("one").passed);
        assert_eq!(passed, (2..80).map(|length| (relayed, PEER, media(length))).collect::<Vec<_>>(), "{transport:?}");
        assert_eq!(scene.data(), (2..80).map(|length| (relayed, PEER, media(length))).collect::<Vec<_>>());
        // Media goes by a channel, which costs four bytes.
        assert_eq!(scene.at("one").count(CHANNEL_BIND), 1);
        let (_, first, length) = *scene.sent.last().expect("something was sent");
        assert!((0x40..0x50).contains(&first) && length <= 79 + 4 + 3, "{first:#x} {length}");
    }
}

#[test]
fn an_allocation_lasts_with_its_permissions_and_channels() {
    for transport in [TurnTransport::Udp, TurnTransport::Tcp] {
        let mut scene = Scene::one(transport);
        let relayed = scene.ready(1);
        scene.run_for(secs(1));
        scene.send(relayed, PEER, &media(40)).expect("it is let through");
        for _ in 0..3 * 60 * 4 {
            scene.run_for(secs(15));
            scene.send(relayed, PEER, &media(41)).expect("it is let through");
            scene.peer_sends(relayed, PEER, &media(42));
        }
        scene.run_for(secs(1));
        let server = scene.at("one");
        assert_eq!((server.relay.len(), server.count(ALLOCATE), server.passed.len()), (1, 2, 1 + 720));
        assert_eq!(scene.data().len(), 720);
        assert_eq!(scene.closes(), []);
        // A way through a NAT is kept, whoever speaks or not.
        let longest = scene.sent.windows(2).map(|pair| pair[1].0 - pair[0].0).max();
        assert!(longest.is_some_and(|longest| longest <= KEEPALIVE), "{longest:?}");
    }
}

#[test]
fn a_path_that_loses_a_tenth_is_good_enough() {
    let mut scene = Scene::one(TurnTransport::Udp);
    scene.loss = 0.1;
    let relayed = scene.ready(1);
    for peer in &peers()[..10] {
        scene.permit(1, peer.ip());
    }
    scene.run_for(secs(5));
    for _ in 0..20 * 60 {
        scene.send(relayed, PEER, &media(40)).expect("it is let through");
        scene.run_for(secs(1));
    }
    assert_eq!(scene.closes(), []);
    let passed = scene.at("one").passed.len();
    assert!((1_000..1_160).contains(&passed), "{passed}");
}

#[test]
fn silence_is_kept_open_and_costs_little() {
    let mut scene = Scene::one(TurnTransport::Udp);
    scene.ready(1);
    scene.run_for(secs(600));
    let sent = scene.sent.len();
    let longest = scene.sent.windows(2).map(|pair| pair[1].0 - pair[0].0).max();
    assert!(longest.is_some_and(|longest| longest <= KEEPALIVE + 2 * WAY), "{longest:?}");
    assert!(sent < 45, "{sent} messages in ten minutes");
}

#[test]
fn allocations_come_when_wanted_and_go_when_nobody_is_left() {
    for transport in [TurnTransport::Udp, TurnTransport::Tcp] {
        let mut scene = Scene::one(transport);
        scene.run_for(secs(3600));
        assert_eq!((scene.shards.len(), scene.sent.len()), (0, 0));
        scene.ready(1);
        scene.leave(1);
        scene.run_for(IDLE.saturating_sub(ms(1)));
        assert_eq!(scene.at("one").relay.len(), 1, "somebody may come back");
        scene.ready(2);
        assert_eq!(scene.at("one").count(ALLOCATE), 2, "it came to the same one");
        scene.run_for(secs(60));
        assert_eq!(scene.closes(), [], "somebody is there");
        scene.leave(2);
        // It has to ask twice.
        scene.at("one").errors = vec![(REFRESH, 438)];
        scene.run_for(IDLE + ms(100));
        assert_eq!((scene.shards.len(), scene.at("one").relay.len()), (0, 0), "deleted at the server too");
        assert_eq!(scene.closes(), [Gone::Deleted]);
        assert_eq!(scene.shards.deadline(), None, "and nothing wakes any more");
    }
}

#[test]
fn fifty_sessions_share_an_allocation() {
    let mut scene = Scene::one(TurnTransport::Udp);
    let mut addresses = BTreeMap::<SocketAddr, usize>::new();
    for session in 0..120 {
        let relayed = scene.ready(session);
        *addresses.entry(relayed).or_default() += 1;
    }
    assert_eq!(addresses.values().copied().collect::<BTreeSet<_>>(), BTreeSet::from([20, SESSIONS_PER_SHARD]));
    assert_eq!((addresses.len(), scene.shards.len(), scene.at("one").relay.len()), (3, 3, 3));
    let sockets: BTreeSet<_> = scene.sockets.values().map(|socket| socket.client.remote).collect();
    assert_eq!(sockets.len(), 3, "each from a socket of its own");
    // A place that is given up is taken again, the older shard before the newer.
    scene.leave(7);
    let again = scene.ready(500);
    let first = scene.ready(0);
    assert_eq!(again, first);
    // All at once are no more than one by one.
    let mut crowd = Scene::one(TurnTransport::Tcp);
    (0..120).for_each(|session| crowd.join(session));
    crowd.run_for(secs(2));
    assert_eq!(crowd.shards.len(), 3);
    assert_eq!(crowd.told.iter().filter(|(_, told)| matches!(told, Told::Ready(..))).count(), 120);
}

#[test]
fn a_worker_has_so_many_allocations_and_no_more() {
    let mut scene = Scene::one(TurnTransport::Udp);
    let room = u32::try_from(SHARDS * SESSIONS_PER_SHARD).expect("some thousands");
    (0..room + 5).for_each(|session| scene.join(session));
    scene.run_for(secs(2));
    let without = |scene: &Scene| scene.told.iter().filter(|(_, told)| matches!(told, Told::Without(_))).count();
    assert_eq!((scene.shards.len(), without(&scene)), (SHARDS, 5));
    // Who waits has the place of who leaves, and nobody else hears of it.
    scene.leave(3);
    scene.leave(4);
    scene.run_for(secs(1));
    scene.put(|shards, now, apply| shards.tick(now, apply));
    let served = |told: &Told| matches!(told, Told::Ready(SessionKey(key), _) if *key >= room);
    assert_eq!(scene.told.iter().filter(|(_, told)| served(told)).count(), 2);
    assert_eq!(without(&scene), 5);
    // Unless it asks.
    scene.join(room + 4);
    assert_eq!(without(&scene), 6);
}

#[test]
fn wrong_credentials_are_told_as_such_and_at_once() {
    for transport in ALL {
        let mut scene = Scene::with(&[("one", transport), ("two", TurnTransport::Udp)]);
        let wrong = TurnServer { credential: "guess".into(), ..scene.server("one", transport) };
        let good = scene.server("two", TurnTransport::Udp);
        scene.set_servers(vec![wrong, good]);
        scene.join(1);
        let (gone, took) = scene.until("refused", TRANSACTION, closed);
        assert_eq!(gone, Gone::Credentials);
        assert!(took < ms(100), "{took:?}");
        scene.until("ready at the other", ms(200), |told| matches!(told, Told::Ready(..)).then_some(()));
        // Other credentials are tried at once.
        let renewed = vec![scene.server("one", transport)];
        scene.leave(1);
        scene.set_servers(renewed);
        scene.run_for(secs(20));
        scene.ready(2);
        assert_eq!(scene.at("one").relay.len(), 1);
    }
}

#[test]
fn a_lone_server_that_refuses_is_asked_ever_less_often() {
    let mut scene = Scene::one(TurnTransport::Udp);
    let wrong = TurnServer { username: "1:late".into(), ..scene.server("one", TurnTransport::Udp) };
    scene.set_servers(vec![wrong]);
    scene.join(1);
    scene.run_for(secs(600));
    let opens: Vec<_> =
        scene.told.iter().filter(|(_, told)| matches!(told, Told::Open(..))).map(|(at, _)| *at).collect();
    let gaps: Vec<_> = opens.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps[0] >= secs(1) && gaps[0] < secs(2), "{gaps:?}");
    assert!(gaps.windows(2).all(|pair| pair[1] + ms(200) >= pair[0]), "{gaps:?}");
    assert!(gaps.last().is_some_and(|gap| *gap >= LONGEST_BACKOFF && *gap < LONGEST_BACKOFF + secs(1)), "{gaps:?}");
    assert!(opens.len() < 18, "{}", opens.len());
    let without = Told::Without(SessionKey(1));
    assert!(scene.is_told(&without));
    // Nobody waits any more, and nobody asks.
    scene.leave(1);
    assert_eq!(scene.shards.deadline(), None);
}

#[test]
fn a_server_that_knows_our_five_tuple_otherwise_gets_another() {
    let mut scene = Scene::one(TurnTransport::Udp);
    scene.at("one").errors = vec![(ALLOCATE, 437), (ALLOCATE, 437)];
    scene.join(1);
    let ((), took) = scene.until("ready", secs(1), |told| matches!(told, Told::Ready(..)).then_some(()));
    assert!(took < ms(300), "{took:?}");
    assert_eq!(scene.closes(), [Gone::Mismatch; 2]);
    let shards: BTreeSet<_> = scene.told.iter().filter_map(|(_, told)| opened(told)).map(|(shard, _)| shard).collect();
    assert_eq!(shards.len(), 3, "a socket of its own each time");
    // One that never stops is left alone.
    let mut scene = Scene::one(TurnTransport::Udp);
    scene.at("one").errors = vec![(ALLOCATE, 437); 1_000];
    scene.join(1);
    scene.run_for(secs(60));
    let tries = scene.closes().len();
    assert!((6..=12).contains(&tries), "{tries}");
}

#[test]
fn a_stale_nonce_costs_a_round_and_nothing_else() {
    for method in [ALLOCATE, REFRESH, CREATE_PERMISSION, CHANNEL_BIND] {
        for transport in [TurnTransport::Udp, TurnTransport::Tcp] {
            let mut scene = Scene::one(transport);
            scene.at("one").errors = vec![(method, 438), (method, 438)];
            let relayed = scene.ready(1);
            scene.run_for(secs(1));
            scene.send(relayed, PEER, &media(9)).expect("it is let through");
            scene.run_for(KEEPALIVE + secs(2));
            scene.send(relayed, PEER, &media(10)).expect("it is let through");
            scene.run_for(secs(1));
            assert_eq!(scene.at("one").errors, [], "{method:?}: it was asked");
            assert_eq!((scene.closes(), scene.at("one").passed.len()), (vec![], 2), "{method:?}");
            assert!((0x40..0x50).contains(&scene.sent.last().expect("sent").1), "{method:?}: by a channel");
        }
    }
    // A server that finds every nonce stale is none.
    let mut scene = Scene::one(TurnTransport::Udp);
    scene.at("one").errors = vec![(ALLOCATE, 438); 100];
    scene.join(1);
    let (gone, took) = scene.until("given up", TRANSACTION, closed);
    assert!(
        matches!(gone, Gone::Refused(438) | Gone::Ended | Gone::Silent) && took <= TRANSACTION,
        "{gone:?} {took:?}"
    );
}

#[test]
fn a_full_server_is_passed_over_and_left_alone() {
    for code in [486, 508] {
        let mut scene = Scene::with(&[("one", TurnTransport::Udp), ("two", TurnTransport::Tcp)]);
        scene.at("one").errors = vec![(ALLOCATE, code)];
        scene.join(1);
        let ((), took) = scene.until("ready", secs(1), |told| matches!(told, Told::Ready(..)).then_some(()));
        assert!(took < ms(200), "{took:?}");
        assert_eq!(scene.closes(), [Gone::Full]);
        assert_eq!((scene.at("one").relay.len(), scene.at("two").relay.len()), (0, 1));
        // The next shard is made at the better one again, when it has had its rest.
        (2..=50).for_each(|session| scene.join(session));
        scene.run_for(secs(2));
        scene.ready(99);
        assert_eq!((scene.at("one").relay.len(), scene.at("two").relay.len()), (1, 1));
    }
    // Another refusal is no different, but for its name.
    let mut scene = Scene::with(&[("one", TurnTransport::Udp), ("two", TurnTransport::Tcp)]);
    scene.at("one").errors = vec![(ALLOCATE, 403)];
    scene.ready(1);
    assert_eq!(scene.closes(), [Gone::Refused(403)]);
}

#[test]
fn a_server_that_is_silent_is_given_up_in_five_seconds() {
    for transport in ALL {
        let mut scene = Scene::with(&[("one", transport), ("two", TurnTransport::Udp)]);
        scene.at("one").silent = true;
        scene.join(1);
        let (gone, took) = scene.until("given up", secs(40), closed);
        assert_eq!(gone, Gone::Silent);
        assert!(took <= TRANSACTION && took > secs(4), "{transport:?} {took:?}");
        let sent = scene.at("one").requests.len();
        assert!(if transport == TurnTransport::Udp { (4..=6).contains(&sent) } else { sent == 1 }, "{sent} tries");
        scene.until("ready at the other", ms(200), |told| matches!(told, Told::Ready(..)).then_some(()));
    }
    // One that cannot be connected to.
    let mut scene = Scene::with(&[("one", TurnTransport::Tcp), ("two", TurnTransport::Tcp)]);
    scene.at("one").shut = true;
    scene.ready(1);
    assert_eq!(scene.closes(), [Gone::Closed]);
    // One whose name nobody can tell: the driver says nothing at all.
    let mut scene = Scene::one(TurnTransport::Udp);
    scene.join(1);
    scene.flights.clear();
    let (gone, took) = scene.until("given up", secs(40), closed);
    assert_eq!((gone, took), (Gone::Silent, TRANSACTION));
}

#[test]
fn silence_in_the_middle_moves_the_sessions_to_another_server() {
    for transport in [TurnTransport::Udp, TurnTransport::Tcp] {
        let mut scene = Scene::with(&[("one", transport), ("two", TurnTransport::Udp)]);
        let first = scene.ready(1);
        assert_eq!(scene.ready(2), first);
        scene.run_for(secs(1));
        scene.at("one").silent = true;
        scene.told.clear();
        let (gone, took) = scene.until("given up", secs(40), closed);
        assert_eq!(gone, Gone::Silent);
        assert!(took <= KEEPALIVE + TRANSACTION, "{took:?}");
        scene.run_for(ms(200));
        for session in [1, 2].map(SessionKey) {
            let told: Vec<_> = scene
                .told
                .iter()
                .filter_map(|(_, told)| match told {
                    Told::Lost(key, relayed) if *key == session => Some((false, *relayed)),
                    Told::Ready(key, relayed) if *key == session => Some((true, relayed.address)),
                    _ => None,
                })
                .collect();
            assert_eq!((told.len(), told[0]), (2, (false, first)), "{told:?}");
            assert!(told[1].0 && told[1].1 != first);
        }
        assert!(!scene.shards.is_relayed(first));
        assert_eq!(scene.send(first, PEER, &media(9)), Err(Unsent::NoAllocation));
        // Whom they expect is let through there too.
        scene.run_for(secs(1));
        let Some(Told::Ready(_, Relayed { address, .. })) =
            scene.told.iter().rev().map(|(_, told)| told).find(|told| matches!(told, Told::Ready(..))).cloned()
        else {
            panic!("it was ready")
        };
        assert_eq!(scene.send(address, PEER, &media(9)), Ok(()));
    }
}

#[test]
fn a_request_that_nobody_answers_ends_the_allocation_whatever_it_asks() {
    // The permission of a second session.
    let mut scene = Scene::one(TurnTransport::Udp);
    scene.ready(1);
    scene.run_for(secs(1));
    scene.at("one").silent = true;
    assert!(scene.permit(1, peers()[3].ip()));
    let (gone, took) = scene.until("given up", secs(40), closed);
    assert_eq!(gone, Gone::Silent);
    assert!(took <= TRANSACTION + ms(100), "{took:?}");
    // A channel.
    let mut scene = Scene::one(TurnTransport::Tcp);
    let relayed = scene.ready(1);
    scene.run_for(secs(1));
    scene.at("one").silent = true;
    scene.send(relayed, PEER, &media(9)).expect("it is let through");
    let (gone, took) = scene.until("given up", secs(40), closed);
    assert_eq!(gone, Gone::Silent);
    assert!(took <= TRANSACTION + ms(100), "{took:?}");
    // The last one, which nobody waits for any longer.
    let mut scene = Scene::one(TurnTransport::Udp);
    scene.ready(1);
    scene.run_for(secs(1));
    scene.at("one").silent = true;
    scene.leave(1);
    let (gone, took) = scene.until("gone", secs(40), closed);
    assert_eq!((gone, took), (Gone::Deleted, IDLE + TRANSACTION));
}

#[test]
fn an_allocation_that_is_deleted_at_a_silent_server_goes_in_time_and_nobody_spins() {
    let mut scene = Scene::one(TurnTransport::Udp);
    scene.ready(1);
    scene.run_for(secs(12));
    scene.leave(1);
    scene.run_for(secs(6));
    // It is asked for a proof soon, and to delete before that is overdue.
    scene.at("one").silent = true;
    scene.run_for(secs(10));
    assert_eq!(scene.closes(), [Gone::Deleted]);
}

#[test]
fn what_a_server_has_forgotten_is_found_out_and_made_anew() {
    for transport in [TurnTransport::Udp, TurnTransport::Tcp] {
        let mut scene = Scene::one(transport);
        let first = scene.ready(1);
        scene.run_for(secs(1));
        scene.restart("one");
        let (gone, took) = scene.until("found out", secs(40), closed);
        assert_eq!(gone, Gone::Mismatch);
        assert!(took <= KEEPALIVE + ms(100), "{took:?}");
        let ((), took) = scene.until("ready", secs(1), |told| matches!(told, Told::Ready(..)).then_some(()));
        assert!(took <= ms(100), "{took:?}");
        let lost = Told::Lost(SessionKey(1), first);
        assert!(scene.is_told(&lost));
        // Who has reason to doubt finds out in one round.
        scene.run_for(secs(1));
        scene.restart("one");
        scene.put(|shards, now, apply| shards.doubt(SessionKey(1), now, apply));
        let (gone, took) = scene.until("found out", secs(40), closed);
        // It finds the nonce stale first.
        assert_eq!((gone, took), (Gone::Mismatch, 4 * WAY));
    }
}

#[test]
fn a_doubt_that_was_wrong_changes_nothing_and_cannot_be_used_to_flood() {
    let mut scene = Scene::one(TurnTransport::Udp);
    scene.ready(1);
    scene.run_for(secs(1));
    let before = scene.at("one").count(REFRESH);
    for _ in 0..1_000 {
        scene.put(|shards, now, apply| shards.doubt(SessionKey(1), now, apply));
    }
    scene.run_for(secs(1));
    assert_eq!(scene.at("one").count(REFRESH), before + 1);
    assert_eq!(scene.closes(), []);
}

#[test]
fn a_refusal_of_what_keeps_an_allocation_ends_it_as_what_it_is() {
    for (code, gone) in [(437, Gone::Mismatch), (401, Gone::Credentials)] {
        let mut scene = Scene::one(TurnTransport::Udp);
        scene.ready(1);
        scene.at("one").errors = vec![(REFRESH, code)];
        assert_eq!(scene.until("gone", KEEPALIVE + secs(1), closed).0, gone, "{code}");
    }
    // A server that does not like the question is there all the same.
    let mut scene = Scene::one(TurnTransport::Udp);
    scene.ready(1);
    scene.at("one").errors = vec![(REFRESH, 400); 100];
    scene.run_for(secs(100));
    assert_eq!(scene.closes(), []);
    assert!(scene.at("one").errors.len() < 98);
}

#[test]
fn a_connection_that_breaks_or_brings_garbage_is_over() {
    let mut scene = Scene::one(TurnTransport::Tcp);
    scene.ready(1);
    let shard = *scene.sockets.keys().next().expect("one");
    scene.put(|shards, now, apply| shards.closed(shard, now, apply));
    assert_eq!(scene.closes(), [Gone::Closed]);
    assert_eq!(scene.at("one").count(ALLOCATE), 2);
    scene.until("ready", secs(3), |told| matches!(told, Told::Ready(..)).then_some(()));
    for garbage in [&[0xff; 9][..], &[0x80], b"\xe2\x82\xac"] {
        let mut scene = Scene::one(TurnTransport::Tcp);
        scene.ready(1);
        let shard = *scene.sockets.keys().next().expect("one");
        scene.put(|shards, now, apply| shards.receive(shard, garbage, now, apply));
        assert_eq!(scene.closes(), [Gone::Garbled], "{garbage:?}");
    }
    // What might be data of a channel, and is not, ends by silence: no answer is found in it.
    let mut scene = Scene::one(TurnTransport::Tcp);
    scene.join(1);
    scene.run_for(WAY);
    let shard = *scene.sockets.keys().next().expect("one");
    scene.put(|shards, now, apply| shards.receive(shard, b"HTTP/1.1 400 Bad Request\r\n\r\n", now, apply));
    assert_eq!(scene.until("given up", secs(6), closed).0, Gone::Silent);
}

#[test]
fn a_peer_that_sends_too_much_at_once_disturbs_nobody() {
    for transport in ALL {
        let mut scene = Scene::one(transport);
        scene.cuts = true;
        let relayed = scene.ready(1);
        scene.run_for(secs(1));
        for bound in [false, true] {
            for length in [2_000, 2_100, 9_001, 60_000] {
                scene.peer_sends(relayed, PEER, &media(length));
                scene.peer_sends(relayed, PEER, &media(77));
                scene.run_for(ms(100));
                let heard: Vec<_> = scene.data().iter().map(|(_, _, data)| data.len()).collect();
                assert_eq!(heard.last(), Some(&77), "{transport:?} {length} {bound}");
                let whole = transport == TurnTransport::Udp || length == 2_000;
                assert_eq!(heard.contains(&length), whole, "{transport:?} {length}");
                scene.told.retain(|(_, told)| !matches!(told, Told::Data(..)));
            }
            scene.send(relayed, PEER, &media(40)).expect("it is let through");
            scene.run_for(secs(1));
        }
        assert_eq!(scene.closes(), []);
    }
}

#[test]
fn forged_answers_are_nothing() {
    let mut scene = Scene::one(TurnTransport::Udp);
    let relayed = scene.ready(1);
    scene.run_for(secs(1));
    let shard = *scene.sockets.keys().next().expect("one");
    for (method, code) in [(REFRESH, 437), (ALLOCATE, 401), (CREATE_PERMISSION, 403), (REFRESH, 438)] {
        let mut request = Message::builder_request(method, MessageWriteVec::new());
        request.add_attribute(&Lifetime::new(1)).expect("it fits");
        let request = request.finish();
        let request = Message::from_bytes(&request).expect("ours");
        let mut answer = Message::builder_error(&request, MessageWriteVec::new());
        answer.add_attribute(&ErrorCode::builder(code).build().expect("a code")).expect("it fits");
        let bytes = answer.finish();
        scene.put(|shards, now, apply| shards.receive(shard, &bytes, now, apply));
    }
    // Nor is a request, or data of a peer that nobody let through.
    let transport = RequestedTransport::new(17);
    let mut request = Message::builder_request(ALLOCATE, MessageWriteVec::new());
    request.add_attribute(&transport).expect("it fits");
    let request = request.finish();
    let stranger = SocketAddr::from(([203, 1, 0, 9], 9));
    let transaction = TransactionId::from(77);
    let kind = stun_types::message::MessageType::from_class_method(MessageClass::Indication, DATA);
    let mut data = Message::builder(kind, transaction, MessageWriteVec::new());
    data.add_attribute(&XorPeerAddress::new(stranger, transaction)).expect("it fits");
    data.add_attribute(&turn_types::attribute::Data::new(&[1, 2, 3])).expect("it fits");
    for bytes in [request, data.finish(), vec![0x40, 9, 0, 1, 1], vec![0x55], vec![0; 20], vec![]] {
        scene.put(|shards, now, apply| shards.receive(shard, &bytes, now, apply));
    }
    scene.run_for(secs(30));
    assert_eq!((scene.closes(), scene.data()), (vec![], vec![]));
    assert_eq!(scene.send(relayed, PEER, &media(9)), Ok(()));
}

#[test]
fn only_peers_are_asked_for_and_only_so_many() {
    let mut scene = Scene::one(TurnTransport::Udp);
    let relayed = scene.ready(1);
    scene.run_for(secs(1));
    assert_eq!(scene.at("one").count(CREATE_PERMISSION), 1, "the client's own address");
    for ip in ["127.0.0.1", "0.0.0.0", "::1", "::", "224.0.0.9", "255.255.255.255", "::ffff:127.0.0.1", "198.18.0.1"] {
        assert!(!scene.permit(1, ip.parse().expect("an address")), "{ip}");
    }
    assert!(!scene.permit(2, PEER.ip()), "of a session that is not there");
    // Of another family than the relayed address there is no way, and they take nobody's place.
    for number in 1..40 {
        assert!(!scene.permit(1, IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, number])));
    }
    scene.run_for(secs(1));
    assert_eq!(scene.at("one").count(CREATE_PERMISSION), 1);
    let more = peers().into_iter().filter(|peer| scene.permit(1, peer.ip())).count();
    // PEER is among them, and was let through before.
    assert_eq!(more, IPS_PER_SESSION - 1 + 1);
    scene.run_for(secs(10));
    assert_eq!(scene.at("one").count(CREATE_PERMISSION), IPS_PER_SESSION);
    let outsider = peers()[100];
    assert_eq!(scene.send(relayed, outsider, &check(20)), Err(Unsent::NoPermission));
    assert_eq!(scene.send(SocketAddr::from(([1, 2, 3, 4], 5)), PEER, &check(20)), Err(Unsent::NoAllocation));
}

#[test]
fn an_allocation_that_lets_many_through_takes_no_newcomers_and_never_too_many() {
    let mut scene = Scene::one(TurnTransport::Udp);
    let mut peers = peers().into_iter();
    let first = scene.ready(0);
    // Fifteen for each of 18, and their clients' own: above half of what it may let through.
    for session in 0..18 {
        assert_eq!(scene.ready(session), first, "{session}");
        for peer in peers.by_ref().take(IPS_PER_SESSION - 1) {
            scene.permit(session, peer.ip());
        }
    }
    assert_ne!(scene.ready(900), first, "it is crowded");
    // Our relay lets 64 through; the others are refused there, and not asked for again and again.
    scene.run_for(secs(30));
    assert_eq!(scene.closes(), []);
    let asked = scene.at("one").count(CREATE_PERMISSION);
    assert!(asked <= 18 * IPS_PER_SESSION + 1, "{asked}");
    scene.run_for(secs(30));
    assert!(scene.at("one").count(CREATE_PERMISSION) <= asked + 5);
}

#[test]
fn where_a_client_is_seen_goes_before_where_it_says_it_is() {
    let mut scene = Scene::one(TurnTransport::Udp);
    let (all, relayed) = (peers(), scene.ready(1));
    scene.run_for(secs(1));
    for peer in &all[..IPS_PER_SESSION] {
        scene.permit(1, peer.ip());
    }
    let seen = all[700];
    scene.put(|shards, now, apply| shards.join(SessionKey(2), seen.ip(), now, apply));
    assert_eq!(scene.send(relayed, seen, &check(20)), Ok(()));
    assert_eq!(scene.send(relayed, all[12], &check(20)), Ok(()));
    scene.run_for(secs(2));
    let passed: Vec<_> = scene.at("one").passed.iter().map(|(_, to, _)| *to).collect();
    assert_eq!(passed, [seen, all[12]]);
}

#[test]
fn a_client_that_is_seen_elsewhere_is_let_through_there_whatever_it_has_named() {
    let mut scene = Scene::one(TurnTransport::Udp);
    let (all, last) = (peers(), IPS_PER_SESSION - 2);
    let (seen, relayed) = (all[700], scene.ready(1));
    scene.run_for(secs(1));
    for peer in &all[..=last] {
        assert!(scene.permit(1, peer.ip()));
    }
    assert!(!scene.permit(1, seen.ip()), "it has named as many as it may");
    scene.see(1, seen.ip());
    assert_eq!(scene.send(relayed, all[last], &check(20)), Ok(()));
    assert_eq!(scene.send(relayed, seen, &check(20)), Ok(()));
    scene.run_for(secs(2));
    let passed: Vec<_> = scene.at("one").passed.iter().map(|(_, to, _)| *to).collect();
    assert_eq!(passed, [seen, all[last]], "it goes before those that it has named");
    // The next allocation lets it through there, and no more where it was.
    scene.restart("one");
    let address = |told: &Told| match told {
        Told::Ready(_, relayed) => Some(relayed.address),
        _ => None,
    };
    let (relayed, _) = scene.until("ready again", KEEPALIVE + TRANSACTION, address);
    scene.run_for(secs(2));
    assert_eq!(scene.send(relayed, seen, &check(20)), Ok(()));
    assert_eq!(scene.send(relayed, all[last], &check(20)), Ok(()));
    assert_eq!(scene.send(relayed, PEER, &check(20)), Err(Unsent::NoPermission));
    // By IPv6 there is no way, and who wants no relay is not asked for.
    let asked = scene.at("one").count(CREATE_PERMISSION);
    scene.see(1, IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]));
    scene.see(2, PEER.ip());
    scene.run_for(secs(1));
    assert_eq!((scene.at("one").count(CREATE_PERMISSION), scene.shards.sessions()), (asked, 1));
}

#[test]
fn what_waits_for_a_permission_is_bounded_and_goes_when_it_comes_or_not_at_all() {
    let mut scene = Scene::one(TurnTransport::Udp);
    let relayed = scene.ready(1);
    let stranger = SocketAddr::from(([9, 9, 9, 9], 9));
    assert!(scene.permit(1, stranger.ip()));
    let mut parked = 0;
    while scene.send(relayed, stranger, &check(1_000)) == Ok(()) {
        parked += 1;
        assert!(parked < 1_000, "without bound");
    }
    assert_eq!((parked, scene.send(relayed, PEER, &check(1_000))), (32, Err(Unsent::NoRoom)));
    scene.run_for(secs(1));
    // Our relay refuses who is not ours.
    assert_eq!(scene.send(relayed, stranger, &check(20)), Err(Unsent::NoPermission));
    assert_eq!(scene.at("one").passed, []);
    assert_eq!(scene.send(relayed, PEER, &check(1_000)), Ok(()));
    scene.run_for(secs(1));
    assert_eq!(scene.at("one").passed.len(), 1);
    // It is not asked again before a minute has passed.
    let asked = scene.at("one").count(CREATE_PERMISSION);
    assert!(!scene.permit(1, stranger.ip()));
    scene.run_for(secs(61));
    assert!(scene.permit(1, stranger.ip()));
    scene.run_for(secs(1));
    assert_eq!(scene.at("one").count(CREATE_PERMISSION), asked + 1);
}

#[test]
fn an_old_allocation_takes_no_newcomers_and_goes_with_its_last_session() {
    let mut scene = Scene::one(TurnTransport::Udp);
    let first = scene.ready(1);
    scene.run_for(AGE.saturating_sub(secs(1)));
    assert_eq!(scene.ready(2), first);
    scene.run_for(secs(1));
    let second = scene.ready(3);
    assert_ne!(second, first);
    assert_eq!(scene.ready(1), first, "who has it keeps it");
    scene.leave(1);
    scene.run_for(secs(600));
    assert_eq!(scene.closes(), []);
    scene.leave(2);
    scene.run_for(ms(100));
    assert_eq!(scene.closes(), [Gone::Deleted], "at once, nobody may come back");
    assert_eq!(scene.at("one").relay.len(), 1);
    // The same before the credentials end.
    let mut scene = Scene::one(TurnTransport::Udp);
    let until = Some(zero() + secs(1_200));
    let ending = TurnServer { until, ..scene.server("one", TurnTransport::Udp) };
    scene.set_servers(vec![ending]);
    let first = scene.ready(1);
    scene.run_for(secs(890));
    assert_eq!(scene.ready(2), first);
    scene.run_for(secs(20));
    let renewed = vec![scene.server("one", TurnTransport::Udp)];
    scene.set_servers(renewed);
    assert_ne!(scene.ready(3), first);
    scene.run_for(secs(1_000));
    assert_eq!((scene.closes(), scene.ready(1)), (vec![], first), "who has it keeps it past the end");
    // Of a minute, three quarters are good for newcomers.
    let mut scene = Scene::one(TurnTransport::Udp);
    let short = TurnServer { until: Some(zero() + secs(60)), ..scene.server("one", TurnTransport::Udp) };
    scene.set_servers(vec![short]);
    let first = scene.ready(1);
    scene.run_for(secs(44));
    assert_eq!(scene.ready(2), first);
    scene.run_for(secs(1));
    assert_ne!(scene.ready(3), first);
    // And nobody is sent where the credentials have ended.
    let mut scene = Scene::one(TurnTransport::Udp);
    let ended = TurnServer { until: Some(zero()), ..scene.server("one", TurnTransport::Udp) };
    scene.set_servers(vec![ended]);
    scene.join(1);
    assert_eq!(scene.told, [(zero(), Told::Without(SessionKey(1)))]);
    scene.run_for(secs(600));
    assert_eq!((scene.sent.len(), scene.shards.deadline()), (0, None));
}

#[test]
fn who_waits_is_served_when_servers_are_told() {
    let mut scene = Scene::one(TurnTransport::Udp);
    let list = vec![scene.server("one", TurnTransport::Udp)];
    scene.set_servers(Vec::new());
    assert!(!scene.shards.are_configured());
    scene.join(1);
    assert_eq!(scene.told, [(zero(), Told::Without(SessionKey(1)))]);
    scene.set_servers(list);
    scene.until("ready", secs(1), |told| matches!(told, Told::Ready(..)).then_some(()));
    // The worker goes away: nothing is left at any server.
    scene.put(Shards::retire_all);
    scene.run_for(secs(1));
    assert_eq!((scene.at("one").relay.len(), scene.shards.len()), (0, 0));
}

type Maker = fn(&TurnServer, (SocketAddr, SocketAddr), Instant) -> Box<dyn Protocol>;

/// A client of another make, which is given an address at once and knows nothing else.
struct Given(Option<SocketAddr>);

impl Protocol for Given {
    fn receive(&mut self, _: &[u8], _: Instant, _: &mut dyn FnMut(SocketAddr, &[u8])) {}

    fn send(&mut self, _: SocketAddr, _: &[u8], _: Instant) -> Option<Vec<u8>> {
        None
    }

    fn permit(&mut self, _: IpAddr, _: Instant) {}

    fn bind(&mut self, _: SocketAddr, _: Instant) {}

    fn probe(&mut self) -> Option<Vec<u8>> {
        None
    }

    fn delete(&mut self, _: Instant) {}

    fn run(&mut self, _: Instant, apply: &mut dyn FnMut(ProtocolEvent)) -> Option<Instant> {
        self.0.take().into_iter().for_each(|address| apply(ProtocolEvent::Allocated(address)));
        None
    }
}

#[test]
fn addresses_that_are_none_or_are_given_twice_are_not_believed() {
    let twice = Shards::with(|_, _, _| Box::new(Given(Some(PEER))));
    let mut scene = Scene::one(TurnTransport::Udp);
    let list = vec![scene.server("one", TurnTransport::Udp)];
    scene.shards = twice;
    scene.set_servers(list.clone());
    (0..50).for_each(|session| assert_eq!(scene.ready(session), PEER));
    scene.join(50);
    assert_eq!(scene.until("given up", secs(1), closed).0, Gone::Ended);
    assert!(scene.shards.is_relayed(PEER));
    assert_eq!(scene.ready(0), PEER, "the one that came first is believed");
    let nowhere: [Maker; 3] = [
        |_, _, _| Box::new(Given(Some(SocketAddr::from(([0, 0, 0, 0], 9))))),
        |_, _, _| Box::new(Given(Some(SocketAddr::from(([9, 9, 9, 9], 0))))),
        |_, _, _| Box::new(Given(Some(SocketAddr::from(([224, 0, 0, 1], 9))))),
    ];
    for make in nowhere {
        let mut scene = Scene::one(TurnTransport::Udp);
        scene.shards = Shards::with(make);
        scene.set_servers(list.clone());
        scene.join(1);
        assert_eq!(scene.until("given up", secs(1), closed).0, Gone::Ended);
    }
}

#[test]
fn an_allocation_by_itself_keeps_its_bounds() {
    let mut ready = false;
    let given = Box::new(Given(Some(PEER)));
    let mut allocation = Allocation::open(TurnTransport::Udp, given, zero(), zero(), &mut |effect| {
        ready |= matches!(effect, AllocationEffect::Ready(PEER));
    });
    assert!(ready);
    let mut nothing = |effect: AllocationEffect<'_>| panic!("{effect:?}");
    let permitted = peers().into_iter().filter(|peer| allocation.permit(peer.ip(), false, zero(), &mut nothing));
    assert_eq!(permitted.count(), PERMISSIONS);
    assert_eq!(allocation.permissions(), PERMISSIONS);
    for _ in 0..2_000 {
        let _ = allocation.send(peers()[0], &check(1_400), zero(), &mut nothing);
    }
    assert!(allocation.parked() > 30_000 && allocation.parked() <= 32 * 1024, "{}", allocation.parked());
}

/// What a hostile or unlucky world does.
#[derive(Clone, Debug)]
enum Op {
    Join(u32),
    Leave(u32),
    Permit(u32, usize),
    Send(u32, usize, usize),
    Peer(u32, usize),
    Doubt(u32),
    Silent(bool, bool),
    Restart(bool),
    Fault(bool, u8, u16),
    Cut(u32),
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let sessions = 0..130_u32;
    prop_oneof![
        8 => sessions.clone().prop_map(Op::Join),
        4 => sessions.clone().prop_map(Op::Leave),
        4 => (sessions.clone(), 0..40_usize).prop_map(|(session, peer)| Op::Permit(session, peer)),
        4 => (sessions.clone(), 0..40_usize, 0..200_usize).prop_map(|(a, b, c)| Op::Send(a, b, c)),
        2 => (sessions.clone(), 0..40_usize).prop_map(|(session, peer)| Op::Peer(session, peer)),
        1 => sessions.clone().prop_map(Op::Doubt),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(one, silent)| Op::Silent(one, silent)),
        1 => any::<bool>().prop_map(Op::Restart),
        2 => (any::<bool>(), 0..4_u8, proptest::sample::select(vec![400, 401, 403, 437, 438, 486, 500, 508]))
            .prop_map(|(one, method, code)| Op::Fault(one, method, code)),
        1 => sessions.prop_map(Op::Cut),
        6 => (0..30_000_u64).prop_map(Op::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_bounds_hold_sessions_are_told_the_truth_and_nobody_spins(
        ops in proptest::collection::vec(op(), 0..150),
        transport in proptest::sample::select(&ALL[..]),
    ) {
        let mut scene = Scene::with(&[("one", transport), ("two", TurnTransport::Udp)]);
        scene.cuts = true;
        let peers = peers();
        let mut here = BTreeSet::new();
        // What each session believes, by what it was told.
        let mut believed = HashMap::<SessionKey, SocketAddr>::new();
        let mut read = 0;
        for op in ops {
            let host = |one: bool| if one { "one" } else { "two" };
            match op {
                Op::Join(session) => { here.insert(SessionKey(session)); scene.join(session); }
                Op::Leave(session) => { here.remove(&SessionKey(session)); believed.remove(&SessionKey(session)); scene.leave(session); }
                Op::Permit(session, peer) => { scene.permit(session, peers[peer].ip()); }
                Op::Send(session, peer, length) => if let Some(relayed) = believed.get(&SessionKey(session)) {
                    let _ = scene.send(*relayed, peers[peer], &media(length));
                }
                Op::Peer(session, peer) => if let Some(relayed) = believed.get(&SessionKey(session)) {
                    let _ = scene.send(*relayed, peers[peer], &check(20));
                }
                Op::Doubt(session) => scene.put(|shards, now, apply| shards.doubt(SessionKey(session), now, apply)),
                Op::Silent(one, silent) => scene.at(host(one)).silent = silent,
                Op::Restart(one) => scene.restart(host(one)),
                Op::Fault(one, method, code) => {
                    let method = [ALLOCATE, REFRESH, CREATE_PERMISSION, CHANNEL_BIND][usize::from(method)];
                    scene.at(host(one)).errors.push((method, code));
                }
                Op::Cut(session) => if let Some(relayed) = believed.get(&SessionKey(session)) {
                    let shard = scene.sockets.keys().min().copied();
                    let _ = relayed;
                    if let Some(shard) = shard { scene.put(|shards, now, apply| shards.closed(shard, now, apply)); }
                }
                Op::Wait(time) => scene.run_for(ms(time)),
            }
            for (_, told) in &scene.told[read..] {
                match told {
                    Told::Ready(session, relayed) => {
                        prop_assert!(here.contains(session) || !believed.contains_key(session));
                        if here.contains(session) { believed.insert(*session, relayed.address); }
                    }
                    Told::Lost(session, relayed) if here.contains(session) => {
                        prop_assert_eq!(believed.remove(session), Some(*relayed));
                    }
                    _ => {}
                }
            }
            read = scene.told.len();
            prop_assert!(scene.shards.len() <= SHARDS);
            prop_assert_eq!(scene.shards.len(), scene.sockets.len());
            prop_assert_eq!(scene.shards.sessions(), here.len());
            let mut shares = BTreeMap::<SocketAddr, usize>::new();
            for relayed in believed.values() {
                prop_assert!(scene.shards.is_relayed(*relayed), "told of what is not there");
                *shares.entry(*relayed).or_default() += 1;
            }
            prop_assert!(shares.values().all(|share| *share <= SESSIONS_PER_SHARD));
        }
        // Everything heals, and everybody is served.
        for host in ["one", "two"] {
            scene.at(host).silent = false;
            scene.at(host).errors.clear();
        }
        scene.run_for(KEEPALIVE + TRANSACTION + LONGEST_BACKOFF + secs(10));
        for (_, told) in &scene.told[read..] {
            match told {
                Told::Ready(session, relayed) => { believed.insert(*session, relayed.address); }
                Told::Lost(session, _) => { believed.remove(session); }
                _ => {}
            }
        }
        prop_assert_eq!(believed.keys().copied().collect::<BTreeSet<_>>(), here.clone());
        // And nothing is left when all have gone.
        for session in &here {
            scene.leave(session.0);
        }
        scene.run_for(IDLE + TRANSACTION + secs(1));
        prop_assert!(scene.shards.is_empty() && scene.sockets.is_empty());
        prop_assert_eq!(scene.shards.deadline(), None);
    }
}

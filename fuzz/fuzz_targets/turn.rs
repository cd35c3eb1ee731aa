//! Trust boundary: an outside TURN server, and the peers behind it. Whatever comes from there, in whatever pieces: nothing panics, nothing
//! spins, nothing outgrows its bounds, and sessions are told the truth about their relayed addresses.
#![no_main]

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use voxcast::engine::credentials::TurnSecret;
use voxcast::engine::host::Hmac;
use voxcast::engine::moment::Moment;
use voxcast::engine::relay::{Client, Leg, Nonces, Plan, Registry, Relay, RelayEffect, RelayParts};
use voxcast::engine::turn::{SESSIONS_PER_SHARD, SHARDS, ShardEffect, ShardId, Shards, TurnServer, TurnTransport};
use voxcast::wire::framing::Framing;
use voxcast::wire::ids::{SessionKey, WorkerId};

const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7)), 50_000);
/// Operations of one story.
const LONGEST: usize = 200;
/// Ticks at one moment that are taken for spinning.
const SPINNING: usize = 500;
/// Messages that one input may bring forth.
const MESSAGES: usize = 2_000;

#[expect(clippy::disallowed_methods, reason = "an Instant can only be read; time in here is counted from this one")]
static ZERO: LazyLock<Instant> = LazyLock::new(Instant::now);

#[derive(Arbitrary, Debug)]
enum Op {
    Join(u8),
    Leave(u8),
    Permit(u8, [u8; 4]),
    Send(u8, u8, u16),
    Doubt(u8),
    /// What was sent is answered by a server that means well.
    Deliver(u8),
    /// The next answer comes changed.
    Forge {
        at: u16,
        xor: u8,
        cut: Option<u16>,
    },
    Lose(u8),
    Raw(Vec<u8>),
    Closed,
    Forget,
    Pass(u16),
}

struct World {
    shards: Shards,
    relay: Relay,
    secret: TurnSecret,
    transport: TurnTransport,
    open: BTreeSet<ShardId>,
    /// Shards whose server was not looked for yet.
    wanted: VecDeque<ShardId>,
    up: VecDeque<(ShardId, Vec<u8>)>,
    down: VecDeque<(ShardId, Vec<u8>)>,
    streams: HashMap<ShardId, BytesMut>,
    here: BTreeSet<SessionKey>,
    believed: BTreeMap<SessionKey, SocketAddr>,
    now: Instant,
}

fn entropy(bytes: &mut [u8]) {
    bytes.fill(7);
}

fn relay(secret: &TurnSecret) -> Relay {
    Relay::new(RelayParts {
        worker: WorkerId(0),
        plan: Plan::new(1),
        registry: Arc::new(Registry::new(&[PEER], 1_000)),
        secret: secret.clone(),
        nonces: Nonces::new([3; 20], Hmac::default(), *ZERO),
        entropy,
        epoch: Moment { now: *ZERO, unix: 1_000 },
    })
}

impl World {
    fn new(transport: TurnTransport) -> Self {
        let secret = TurnSecret::new(b"shared", Hmac::default());
        let minted = secret.mint("voxcast", 1_000_000_000);
        let (username, credential) = (minted.username, minted.credential);
        let server = TurnServer { transport, host: "a".into(), port: 3478, username, credential, until: None };
        let mut world = Self {
            shards: Shards::default(),
            relay: relay(&secret),
            secret,
            transport,
            open: BTreeSet::new(),
            wanted: VecDeque::new(),
            up: VecDeque::new(),
            down: VecDeque::new(),
            streams: HashMap::new(),
            here: BTreeSet::new(),
            believed: BTreeMap::new(),
            now: *ZERO,
        };
        world.put(|shards, now, apply| shards.set_servers(vec![server], now, apply));
        world
    }

    fn put<T>(&mut self, work: impl FnOnce(&mut Shards, Instant, &mut dyn FnMut(ShardEffect<'_>)) -> T) -> T {
        let Self { shards, open, wanted, up, here, believed, now, transport, .. } = self;
        let mut messages = 0;
        work(shards, *now, &mut |effect| match effect {
            ShardEffect::Open { shard, .. } => {
                assert!(open.insert(shard));
                wanted.push_back(shard);
            }
            ShardEffect::Close { shard, .. } => assert!(open.remove(&shard)),
            ShardEffect::ToServer { shard, bytes } => {
                messages += 1;
                assert!(messages < MESSAGES && open.contains(&shard));
                assert!(*transport == TurnTransport::Udp || bytes.len() % 4 == 0);
                up.push_back((shard, bytes));
            }
            ShardEffect::Data { .. } => {}
            ShardEffect::Ready { session, relayed } => {
                assert!(here.contains(&session));
                believed.insert(session, relayed.address);
            }
            ShardEffect::Lost { session, relayed } => assert_eq!(believed.remove(&session), Some(relayed)),
            ShardEffect::Without { session } => assert!(!believed.contains_key(&session)),
        })
    }

    /// Servers are found at once.
    fn find(&mut self) {
        while let Some(shard) = self.wanted.pop_front() {
            let Client { remote, local, .. } = client(shard, Leg::Udp);
            self.put(|shards, now, apply| shards.opened(shard, (remote, local), now, apply));
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Join(session) => {
                let session = SessionKey(session.into());
                self.here.insert(session);
                self.put(|shards, now, apply| shards.join(session, PEER.ip(), now, apply));
            }
            Op::Leave(session) => {
                let session = SessionKey(session.into());
                self.here.remove(&session);
                self.believed.remove(&session);
                self.put(|shards, now, apply| shards.leave(session, now, apply));
            }
            Op::Permit(session, ip) => {
                self.put(|shards, now, apply| shards.permit(SessionKey(session.into()), ip.into(), now, apply));
            }
            Op::Send(session, first, length) => {
                let Some(relayed) = self.believed.get(&SessionKey(session.into())).copied() else { return };
                let mut data = vec![0; usize::from(length % 1_500) + 1];
                data[0] = first;
                let _ = self.put(|shards, now, apply| shards.send(relayed, PEER, &data, now, apply));
            }
            Op::Doubt(session) => {
                self.put(|shards, now, apply| shards.doubt(SessionKey(session.into()), now, apply));
            }
            Op::Deliver(count) => self.deliver(count.into()),
            Op::Forge { at, xor, cut } => {
                let Some((_, bytes)) = self.down.front_mut() else { return };
                let length = bytes.len().max(1);
                if let Some(byte) = bytes.get_mut(usize::from(at) % length) {
                    *byte ^= xor;
                }
                bytes.truncate(cut.map_or(bytes.len(), usize::from));
            }
            Op::Lose(count) => {
                self.up.drain(..usize::from(count).min(self.up.len()));
                self.down.drain(..usize::from(count / 2).min(self.down.len()));
            }
            Op::Raw(bytes) => {
                let Some(shard) = self.open.first().copied() else { return };
                self.put(|shards, now, apply| shards.receive(shard, &bytes, now, apply));
            }
            Op::Closed => {
                let Some(shard) = self.open.first().copied() else { return };
                self.put(|shards, now, apply| shards.closed(shard, now, apply));
            }
            Op::Forget => self.relay = relay(&self.secret),
            Op::Pass(milliseconds) => self.now += Duration::from_millis(u64::from(milliseconds) * 4),
        }
    }

    fn deliver(&mut self, count: usize) {
        let leg = if self.transport == TurnTransport::Udp { Leg::Udp } else { Leg::Tcp };
        for _ in 0..count {
            if let Some((shard, bytes)) = self.up.pop_front() {
                let Self { relay, down, streams, now, .. } = self;
                let mut take = |frame: &[u8]| {
                    let _ = relay.receive(client(shard, leg), frame, *now, |effect| {
                        if let RelayEffect::ToClient { bytes, .. } = effect {
                            down.push_back((shard, bytes));
                        }
                    });
                };
                if leg == Leg::Udp {
                    take(&bytes);
                } else {
                    let stream = streams.entry(shard).or_default();
                    stream.extend_from_slice(&bytes);
                    while let Some(frame) = Framing::Turn.next_frame(stream).expect("we frame well") {
                        take(&frame);
                    }
                }
            }
            if let Some((shard, bytes)) = self.down.pop_front() {
                self.put(|shards, now, apply| shards.receive(shard, &bytes, now, apply));
            }
        }
    }

    /// What must hold after anything.
    fn check(&mut self) {
        self.find();
        let mut ticks = 0;
        while self.shards.deadline().is_some_and(|at| at <= self.now) {
            self.put(|shards, now, apply| shards.tick(now, apply));
            self.find();
            ticks += 1;
            assert!(ticks < SPINNING, "it wants a tick again and again");
        }
        assert_eq!((self.shards.len(), self.shards.sessions()), (self.open.len(), self.here.len()));
        assert!(self.shards.len() <= SHARDS);
        let mut shares = BTreeMap::<SocketAddr, usize>::new();
        for relayed in self.believed.values() {
            assert!(self.shards.is_relayed(*relayed), "told of what is not there");
            *shares.entry(*relayed).or_default() += 1;
        }
        assert!(shares.values().all(|share| *share <= SESSIONS_PER_SHARD));
        self.up.truncate(MESSAGES);
        self.down.truncate(MESSAGES);
    }
}

fn client(shard: ShardId, leg: Leg) -> Client {
    let port = 10_000 + u16::try_from(shard.0 % 50_000).expect("below");
    let remote = SocketAddr::from(([192, 0, 2, 77], port));
    Client { leg, remote, local: SocketAddr::from(([198, 51, 100, 1], 3478)) }
}

fuzz_target!(|story: (bool, Vec<Op>)| {
    let (by_udp, ops) = story;
    let mut world = World::new(if by_udp { TurnTransport::Udp } else { TurnTransport::Tcp });
    for op in ops.into_iter().take(LONGEST) {
        world.run(op);
        world.check();
    }
});

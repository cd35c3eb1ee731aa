//! The way to outside TURN servers: finds them, opens a socket of its own for each shard of a worker, and moves what goes through it. It
//! decides nothing.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustls::pki_types::ServerName;
use str0m::net::Transmit;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use crate::engine::demux::{Path, Transport};
use crate::engine::ice_servers::{Asker, IceServers};
use crate::engine::providers::Serving;
use crate::engine::session::{Input, RelayWish};
use crate::engine::stream::Stream;
use crate::engine::turn::{Relayed, ShardEffect, ShardId, Shards, TurnServer, TurnTransport, servers_of};
use crate::wire::framing::Framing;
use crate::wire::ids::SessionKey;

use super::clock::Clock;
use super::hub::Hub;
use super::seat::{Origin, Seat};
use super::tcp::limit;
use super::tls::client_config;
use super::worker::deliver;

/// Longest datagram of a server: one of a peer, and what TURN puts around it.
const LONGEST: usize = 2048 + 64;
/// Read from a connection in one system call at most, and written to it.
const CHUNK: usize = 16 * 1024;
/// Addresses of a server's name that are tried.
const ADDRESSES: usize = 4;
/// A socket that says nothing but errors must not spin.
const PAUSE: Duration = Duration::from_millis(20);
/// How long goodbyes may take when the server goes away.
const GOODBYE: Duration = Duration::from_millis(500);

/// The outside TURN servers of the moment, the best first, for all workers.
pub type TurnServers = watch::Receiver<Vec<TurnServer>>;

/// What we are called at servers that share a secret with us.
const NAME: &str = "voxcast";
/// Credentials that should have been renewed already are looked at so often.
const RENEWAL: Duration = Duration::from_secs(5);

/// Keeps the list of outside TURN servers as the providers have them, with credentials of our own, for as long as anybody listens.
pub async fn provide(
    ice_servers: IceServers,
    mut serving: watch::Receiver<Serving>,
    clock: Clock,
    tell: watch::Sender<Vec<TurnServer>>,
) {
    // Our own relay leads to nothing but ourselves.
    let others = IceServers { relay: None, ..ice_servers };
    loop {
        let offer = serving.borrow_and_update().offer.clone();
        let at = clock.moment();
        let told = others.of(&offer, Asker { user: NAME, host: None, policy: None, behind_nat: false }, at);
        let list = servers_of(&told.servers, told.end);
        tell.send_if_modified(|known| std::mem::replace(known, list.clone()) != list);
        let renewal = told.end.map(|end| others.renewal(end).max(at.now + RENEWAL));
        let renewed = async {
            match renewal {
                Some(until) => clock.wait(at, until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = serving.changed() => if changed.is_err() { return },
            () = renewed => {}
            () = tell.closed() => return,
        }
    }
}

/// Where a shard's messages leave.
enum Way {
    /// It is to be looked for.
    Wanted,
    /// It is looked for.
    Opening(JoinHandle<()>),
    Udp(Rc<UdpSocket>, JoinHandle<()>),
    Stream(Rc<Queue>, JoinHandle<()>),
}

impl Drop for Way {
    fn drop(&mut self) {
        match self {
            Self::Wanted => {}
            Self::Opening(task) | Self::Udp(_, task) | Self::Stream(_, task) => task.abort(),
        }
    }
}

/// What waits to be sent by a connection.
struct Queue {
    stream: RefCell<Stream<Vec<u8>>>,
    woken: Notify,
}

/// What is left to do when nobody holds shards and sessions.
enum Chore {
    Open(ShardId, TurnServer),
    Doubt(ShardId),
    Ready(SessionKey, Relayed),
    Without(SessionKey),
    Lost(SessionKey, SocketAddr),
}

/// A worker's side of the outside TURN servers.
pub struct Outlets {
    shards: RefCell<Shards>,
    ways: RefCell<HashMap<ShardId, Way>>,
    chores: RefCell<VecDeque<Chore>>,
    wanted: Notify,
    rearmed: Notify,
    armed: Cell<Option<Instant>>,
    servers: Option<TurnServers>,
}

impl std::fmt::Debug for Outlets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outlets").field("shards", &self.shards.borrow()).finish_non_exhaustive()
    }
}

impl Outlets {
    /// To these servers, or to none ever.
    #[must_use]
    pub fn new(servers: Option<TurnServers>) -> Self {
        Self {
            shards: RefCell::default(),
            ways: RefCell::default(),
            chores: RefCell::default(),
            wanted: Notify::new(),
            rearmed: Notify::new(),
            armed: Cell::new(None),
            servers,
        }
    }

    /// Whether sessions may hope for a relayed candidate, now or when a provider has told of servers.
    #[must_use]
    pub fn are_there(&self) -> bool {
        self.servers.is_some()
    }

    fn want(&self, chore: Chore) {
        self.chores.borrow_mut().push_back(chore);
        self.wanted.notify_one();
    }

    /// Whether a datagram from this address of ours leaves by a relay.
    #[must_use]
    pub fn is_relayed(&self, source: SocketAddr) -> bool {
        self.shards.borrow().is_relayed(source)
    }
}

/// Lets the shards do something, and does what they want.
fn put<T>(hub: &Hub, work: impl FnOnce(&mut Shards, Instant, &mut dyn FnMut(ShardEffect<'_>)) -> T) -> T {
    let (done, _) = act(hub, work);
    rearm(&hub.turn);
    done
}

/// The time when shards want something may be another.
fn rearm(turn: &Outlets) {
    let deadline = turn.shards.borrow().deadline();
    if turn.armed.replace(deadline) != deadline {
        turn.rearmed.notify_one();
    }
}

/// The same without a look at the time; tells how many messages went to servers.
fn act<T>(hub: &Hub, work: impl FnOnce(&mut Shards, Instant, &mut dyn FnMut(ShardEffect<'_>)) -> T) -> (T, usize) {
    let turn = &hub.turn;
    let now = hub.clock.now();
    let mut data = Vec::new();
    let mut messages = 0;
    let done = work(&mut turn.shards.borrow_mut(), now, &mut |effect| match effect {
        ShardEffect::Open { shard, server } => {
            tracing::debug!(?shard, ?server, "TURN allocation wanted");
            hub.metrics.outlet(1);
            turn.ways.borrow_mut().insert(shard, Way::Wanted);
            turn.want(Chore::Open(shard, server));
        }
        ShardEffect::Close { shard, gone } => {
            turn.ways.borrow_mut().remove(&shard);
            hub.metrics.outlet(-1);
            if let Some(reason) = gone.name() {
                hub.metrics.outlet_lost(reason);
                tracing::warn!(?shard, reason = %gone, "TURN allocation lost");
            } else {
                tracing::debug!(?shard, "TURN allocation deleted");
            }
        }
        ShardEffect::ToServer { shard, bytes } => {
            messages += 1;
            send_by(hub, shard, bytes, now);
        }
        ShardEffect::Data { relayed, peer, bytes } => data.push((relayed, peer, bytes.to_vec())),
        ShardEffect::Ready { session, relayed } => turn.want(Chore::Ready(session, relayed)),
        ShardEffect::Without { session } => turn.want(Chore::Without(session)),
        ShardEffect::Lost { session, relayed } => turn.want(Chore::Lost(session, relayed)),
    });
    for (destination, remote, bytes) in data {
        hub.metrics.received(bytes.len());
        let origin = Origin { path: Path { transport: Transport::Relayed, remote }, via: None, destination };
        if let Err(reason) = deliver(hub, origin, &bytes) {
            hub.metrics.drop(reason);
        }
    }
    (done, messages)
}

/// Hands a message to the shard's socket. What the system has no room for is lost, as on the way.
fn send_by(hub: &Hub, shard: ShardId, bytes: Vec<u8>, now: Instant) {
    let refused = match hub.turn.ways.borrow().get(&shard) {
        Some(Way::Udp(socket, _)) => match try_send(socket, &bytes) {
            Ok(sent) => {
                hub.metrics.sent(1, sent);
                false
            }
            Err(error) => {
                hub.metrics.unsent("refused");
                error.kind() == io::ErrorKind::ConnectionRefused
            }
        },
        Some(Way::Stream(queue, _)) => {
            let mut stream = queue.stream.borrow_mut();
            if stream.push(bytes, now) {
                queue.woken.notify_one();
            }
            for _ in 0..stream.take_skipped() {
                hub.metrics.unsent("too_old");
            }
            false
        }
        Some(Way::Wanted | Way::Opening(_)) | None => {
            hub.metrics.unsent("no_socket");
            false
        }
    };
    if refused {
        // The system says that nobody listens there.
        hub.turn.want(Chore::Doubt(shard));
    }
}

/// The error of a datagram that was sent before is told to the next one, which has not been looked at.
fn try_send(socket: &UdpSocket, bytes: &[u8]) -> io::Result<usize> {
    match socket.try_send(bytes) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            // It goes all the same; what was told is worth a doubt.
            let _ = socket.try_send(bytes);
            Err(error)
        }
        sent => sent,
    }
}

/// A session wants something of the outside TURN servers.
pub fn wish(hub: &Hub, session: SessionKey, client: IpAddr, wish: RelayWish) {
    put(hub, |shards, now, apply| match wish {
        RelayWish::Join => shards.join(session, client, now, apply),
        RelayWish::Leave => shards.leave(session, now, apply),
        RelayWish::Permit(ip) => {
            // One too many has no way by the relay, and perhaps another.
            shards.permit(session, ip, now, apply);
        }
        RelayWish::Doubt => shards.doubt(session, now, apply),
    });
}

/// A session's client is seen at this address from now on.
pub fn see(hub: &Hub, session: SessionKey, client: IpAddr) {
    put(hub, |shards, now, apply| shards.see(session, client, now, apply));
}

/// Sends a datagram of a session from its relayed address.
pub fn send(hub: &Hub, transmit: &Transmit) {
    let Transmit { source, destination, contents, .. } = transmit;
    let (sent, messages) = act(hub, |shards, now, apply| shards.send(*source, *destination, contents, now, apply));
    // A packet that goes as it is, as nearly all do, moves no deadline.
    if messages != 1 {
        rearm(&hub.turn);
    }
    if sent.is_err() {
        hub.metrics.unsent("no_permission");
    }
}

/// Takes the servers of the moment, for as long as the worker's thread runs.
pub async fn follow(hub: Rc<Hub>) {
    let Some(mut servers) = hub.turn.servers.clone() else { return };
    loop {
        let list = servers.borrow_and_update().clone();
        put(&hub, |shards, now, apply| shards.set_servers(list, now, apply));
        if servers.changed().await.is_err() {
            return;
        }
    }
}

/// Does what shards and sessions have left to do, for as long as the worker's thread runs.
pub async fn do_chores(hub: Rc<Hub>) {
    loop {
        let chore = hub.turn.chores.borrow_mut().pop_front();
        let Some(chore) = chore else {
            hub.turn.wanted.notified().await;
            continue;
        };
        let (session, input) = match chore {
            Chore::Open(shard, server) => {
                // Unless nobody wants it any more.
                if let Some(way) = hub.turn.ways.borrow_mut().get_mut(&shard) {
                    *way = Way::Opening(actix::spawn(open(hub.clone(), shard, server)));
                }
                continue;
            }
            Chore::Doubt(shard) => {
                put(&hub, |shards, now, apply| shards.doubt_shard(shard, now, apply));
                continue;
            }
            Chore::Ready(session, relayed) => (session, Input::Relayed(relayed)),
            Chore::Without(session) => (session, Input::Unrelayed),
            Chore::Lost(session, relayed) => (session, Input::RelayLost(relayed)),
        };
        let seat = hub.sessions.borrow().get(&session).map(|resident| resident.seat.clone());
        if let Some(seat) = seat {
            Seat::tell(&seat, input);
        }
        // An answer that waited for this is heavy work.
        tokio::task::yield_now().await;
    }
}

/// Does what the shards want done in time, for as long as the worker's thread runs.
pub async fn keep_time(hub: Rc<Hub>) {
    loop {
        let deadline = hub.turn.shards.borrow().deadline();
        hub.turn.armed.set(deadline);
        match deadline {
            Some(at) if at <= hub.clock.now() => {
                put(&hub, |shards, now, apply| shards.tick(now, apply));
                tokio::task::yield_now().await;
            }
            Some(at) => {
                tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => {}
                    () = hub.turn.rearmed.notified() => {}
                }
            }
            None => hub.turn.rearmed.notified().await,
        }
    }
}

/// Deletes what is at the servers, and waits a moment for it.
pub async fn retire(hub: &Hub) {
    put(hub, Shards::retire_all);
    let gone = async {
        while !hub.turn.shards.borrow().is_empty() {
            tokio::time::sleep(PAUSE).await;
        }
    };
    // A server that does not answer finds out when the allocation ends.
    drop(tokio::time::timeout(GOODBYE, gone).await);
}

/// Finds the shard's server and opens a socket to it. Whoever waits for it gives up in time and stops this.
async fn open(hub: Rc<Hub>, shard: ShardId, server: TurnServer) {
    if let Err(error) = connect(&hub, shard, &server).await {
        tracing::warn!(?server, %error, "TURN server not reached");
        put(&hub, |shards, now, apply| shards.closed(shard, now, apply));
    }
}

async fn connect(hub: &Rc<Hub>, shard: ShardId, server: &TurnServer) -> io::Result<()> {
    let found = tokio::net::lookup_host((server.host.as_str(), server.port)).await?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for remote in found.take(ADDRESSES) {
        match connect_to(hub, shard, server, remote).await {
            Ok(()) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn connect_to(hub: &Rc<Hub>, shard: ShardId, server: &TurnServer, remote: SocketAddr) -> io::Result<()> {
    if server.transport == TurnTransport::Udp {
        let any: IpAddr = if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(remote).await?;
        // The runtime takes none at its word before that, and the first message would come half a second later.
        socket.writable().await?;
        let (local, socket) = (socket.local_addr()?, Rc::new(socket));
        let reading = actix::spawn(read_datagrams(hub.clone(), shard, socket.clone()));
        ready(hub, shard, Way::Udp(socket, reading), (local, remote));
        return Ok(());
    }
    let stream = TcpStream::connect(remote).await?;
    limit(&stream)?;
    let local = stream.local_addr()?;
    let queue = Rc::new(Queue {
        stream: RefCell::new(Stream::new(Framing::Turn, BytesMut::new(), hub.clock.now())),
        woken: Notify::new(),
    });
    let carrying = if server.transport == TurnTransport::Tls {
        let name = ServerName::try_from(server.host.clone()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(client_config().await?).connect(name, stream).await?;
        actix::spawn(carry(hub.clone(), shard, queue.clone(), stream))
    } else {
        actix::spawn(carry(hub.clone(), shard, queue.clone(), stream))
    };
    ready(hub, shard, Way::Stream(queue, carrying), (local, remote));
    Ok(())
}

/// The shard's socket is there.
fn ready(hub: &Hub, shard: ShardId, way: Way, route: (SocketAddr, SocketAddr)) {
    // The old one is this very task, which has nothing more to do.
    let old = hub.turn.ways.borrow_mut().insert(shard, way);
    put(hub, |shards, now, apply| shards.opened(shard, route, now, apply));
    drop(old);
}

async fn read_datagrams(hub: Rc<Hub>, shard: ShardId, socket: Rc<UdpSocket>) {
    let mut buffer = vec![0; LONGEST];
    loop {
        match socket.recv(&mut buffer).await {
            Ok(length) => put(&hub, |shards, now, apply| shards.receive(shard, &buffer[..length], now, apply)),
            Err(error) => {
                if error.kind() == io::ErrorKind::ConnectionRefused {
                    put(&hub, |shards, now, apply| shards.doubt_shard(shard, now, apply));
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Carries a connection's bytes to and fro until one end has enough.
async fn carry(hub: Rc<Hub>, shard: ShardId, queue: Rc<Queue>, stream: impl AsyncRead + AsyncWrite) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let reading = async {
        let mut buffer = vec![0; CHUNK];
        loop {
            match reader.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(length) => put(&hub, |shards, now, apply| shards.receive(shard, &buffer[..length], now, apply)),
            }
        }
    };
    let writing = async {
        loop {
            let batch = next_batch(&hub, &queue);
            if batch.is_empty() {
                queue.woken.notified().await;
                continue;
            }
            let written = async {
                writer.write_all(&batch).await?;
                writer.flush().await
            };
            if written.await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
    put(&hub, |shards, now, apply| shards.closed(shard, now, apply));
}

/// Takes what waits and is not too old. Whatever is taken is written to its end.
fn next_batch(hub: &Hub, queue: &Queue) -> Vec<u8> {
    let now = hub.clock.now();
    let mut stream = queue.stream.borrow_mut();
    stream.forget_stale(now);
    let mut batch = Vec::new();
    for piece in stream.pieces() {
        if !batch.is_empty() && batch.len() + piece.len() > CHUNK {
            break;
        }
        batch.extend_from_slice(piece);
    }
    let (datagrams, payload) = stream.sent(batch.len(), now);
    hub.metrics.sent(datagrams, payload);
    for _ in 0..stream.take_skipped() {
        hub.metrics.unsent("too_old");
    }
    batch
}

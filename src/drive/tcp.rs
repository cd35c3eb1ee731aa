//! The media port (RFC 6544) and the relay (RFC 8656) over TCP: accepts connections, finds each one's worker, and moves bytes between
//! the system and the machine that knows what they are. It decides nothing.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use nix::sys::socket::{MsgFlags, sendmsg};
use rustls::{ServerConfig, ServerConnection};
use socket2::SockRef;
use str0m::net::{DatagramSend, Transmit};
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::sync::Notify;

use crate::engine::access::ClientAddr;
use crate::engine::demux::{DropReason, Path, Transport};
use crate::engine::guests::Guests;
use crate::engine::neighbours::owner_of_check;
use crate::engine::relay::{Client, Leg, RelayDrop};
use crate::engine::stream::{PROOF, Stream, StreamEnd};
use crate::wire::framing::{Framing, Unframed};
use crate::wire::ids::WorkerId;

use super::clock::Clock;
use super::hub::Hub;
use super::metrics::Metrics;
use super::post::Post;
use super::relay;
use super::seat::Origin;
use super::worker::deliver;

/// Read in one system call at most: a peer sends checks and reports.
const CHUNK: usize = 4096;
/// Frames that one connection may bring before the others have their turn.
const SOME: usize = 64;
/// Pieces that one system call sends.
const PIECES: usize = 16;
/// Bytes that the system may keep beside those that are on their way: ten packets of audio. What is in there cannot be skipped any more.
const UNSENT: u32 = 2048;
/// Who takes no byte for so long, and does not even acknowledge one, is gone.
const UNACKNOWLEDGED: Duration = Duration::from_secs(15);
/// A listener that cannot accept, for want of files, must not spin.
const PAUSE: Duration = Duration::from_millis(100);

/// What a connection is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Service {
    /// A session's datagrams.
    Media,
    /// A client of the relay.
    Relay,
}

/// One address of the media port, or of the relay's, over TCP.
#[derive(Debug)]
pub struct MediaListener {
    /// It listens and does not block.
    pub listener: TcpListener,
    /// As candidates name it.
    pub advertised: SocketAddr,
}

/// How many connections there may be; shared by all addresses.
#[derive(Clone, Debug)]
pub struct Room(Arc<Mutex<Guests>>);

impl Room {
    /// Room for so many, and for so many from one address.
    #[must_use]
    pub fn new(most: u32, per_address: u32) -> Self {
        Self(Arc::new(Mutex::new(Guests::new(most, per_address))))
    }

    /// A place for one more from this address, if there is any.
    #[must_use]
    pub fn enter(&self, addr: ClientAddr) -> Option<Guest> {
        self.lock().enter(addr).then(|| Guest { room: self.clone(), addr })
    }

    fn lock(&self) -> MutexGuard<'_, Guests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place; given back when it is dropped.
#[derive(Debug)]
pub struct Guest {
    room: Room,
    addr: ClientAddr,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.room.lock().leave(self.addr);
    }
}

/// A connection on its way to the worker that its first frame names.
#[derive(Debug)]
pub struct Arrival {
    service: Service,
    tls: Option<Arc<ServerConfig>>,
    stream: TcpStream,
    remote: SocketAddr,
    destination: SocketAddr,
    /// What tells its worker, and what was read beyond that.
    first: Option<BytesMut>,
    rest: BytesMut,
    opened: Instant,
    guest: Guest,
}

/// What accepting needs to know.
#[derive(Clone, Debug)]
pub struct Reception {
    /// Reads time.
    pub clock: Clock,
    /// Counts.
    pub metrics: Metrics,
    /// How many there may be.
    pub room: Room,
    /// The way to the workers.
    pub post: Post,
}

/// Accepts connections for as long as the runtime lives; candidates name the listener as `advertised`.
pub async fn accept(
    service: Service,
    tls: Option<Arc<ServerConfig>>,
    (listener, advertised): (tokio::net::TcpListener, SocketAddr),
    reception: Reception,
) {
    let mut turn = 0;
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => match (reception.room.enter(ClientAddr::new(remote.ip())), service) {
                (Some(guest), Service::Media) => {
                    actix::spawn(receive(stream, remote, advertised, guest, reception.clone()));
                }
                (Some(guest), Service::Relay) => {
                    let (opened, rest) = (reception.clock.now(), BytesMut::new());
                    let Ok(stream) = stream.into_std() else { continue };
                    let arrival = Arrival {
                        service,
                        tls: tls.clone(),
                        stream,
                        remote,
                        destination: advertised,
                        first: None,
                        rest,
                        opened,
                        guest,
                    };
                    turn = (turn + 1) % reception.post.workers();
                    if !reception.post.arrive(WorkerId(turn), arrival) {
                        reception.metrics.tcp_closed(End::Dropped(DropReason::MailboxFull).name());
                    }
                }
                (None, _) => reception.metrics.tcp_closed("no_room"),
            },
            Err(error) => {
                tracing::debug!(%error, "media port over TCP");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Waits for a connection's first frame, and hands it to the worker that this names.
async fn receive(
    mut stream: tokio::net::TcpStream,
    remote: SocketAddr,
    destination: SocketAddr,
    guest: Guest,
    Reception { clock, metrics, post, .. }: Reception,
) {
    let opened = clock.now();
    let mut rest = BytesMut::new();
    let frame = async {
        loop {
            if let Some(first) = Framing::Ice.next_frame(&mut rest)? {
                return Ok::<_, End>(first);
            }
            rest.reserve(CHUNK);
            if stream.read_buf(&mut rest).await? == 0 {
                return Err(End::Closed);
            }
        }
    };
    let end = match tokio::time::timeout(PROOF, frame).await {
        Err(_) => End::Over(StreamEnd::Unproven),
        Ok(Err(end)) => end,
        Ok(Ok(first)) => match owner_of_check(&first, post.workers()).zip(stream.into_std().ok()) {
            None => End::Dropped(DropReason::UnknownUfrag),
            Some((worker, stream)) => {
                let (service, first) = (Service::Media, Some(first));
                let arrival = Arrival { service, tls: None, stream, remote, destination, first, rest, opened, guest };
                if post.arrive(worker, arrival) {
                    return;
                }
                End::Dropped(DropReason::MailboxFull)
            }
        },
    };
    metrics.tcp_closed(end.name());
}

/// Why a connection ended.
#[derive(Debug, Error)]
enum End {
    #[error("closed")]
    Closed,
    #[error("broken: {0}")]
    Broken(#[from] io::Error),
    #[error(transparent)]
    Garbled(#[from] Unframed),
    #[error(transparent)]
    Over(#[from] StreamEnd),
    #[error(transparent)]
    Dropped(DropReason),
    #[error("of no use to the relay: {0}")]
    Unrelayed(RelayDrop),
    #[error("dismissed")]
    Dismissed,
}

impl End {
    /// For counters.
    fn name(&self) -> &'static str {
        match self {
            Self::Closed | Self::Broken(_) => "by_peer",
            Self::Garbled(_) | Self::Dropped(_) | Self::Unrelayed(_) => "not_ours",
            Self::Over(StreamEnd::Unproven) => "unproven",
            Self::Over(StreamEnd::Silent) => "silent",
            Self::Over(StreamEnd::Stuck) => "stuck",
            Self::Dismissed => "by_us",
        }
    }
}

#[derive(Debug)]
struct Contents(DatagramSend);

impl std::ops::Deref for Contents {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// A worker's connections, by their peer's address: one for each of ours that it has reached. Two computers behind one NAT may have the same.
#[derive(Debug, Default)]
pub struct Connections(RefCell<HashMap<SocketAddr, Vec<Rc<Connection>>>>);

impl Connections {
    /// Puts a datagram on its connection's end.
    pub fn push(&self, transmit: Transmit, metrics: &Metrics, now: Instant) {
        let connections = self.0.borrow();
        let mut known = connections.get(&transmit.destination).into_iter().flatten();
        let connection = known.find(|known| known.destination == transmit.source);
        let Some(connection) = connection else { return metrics.unsent("no_connection") };
        let mut stream = connection.stream.borrow_mut();
        if stream.push(Contents(transmit.contents), now) {
            connection.woken.notify_one();
        }
        count_skipped(&mut stream, metrics);
    }

    /// Ends what this peer has.
    pub fn end(&self, remote: SocketAddr) {
        self.0.borrow().get(&remote).into_iter().flatten().for_each(|connection| connection.end());
    }

    /// Takes a connection in the place of one between the same addresses, which is of the past; returns whether it does. A session's
    /// datagrams are told apart by the peer's address alone, so that its peer has no second connection to another address of ours.
    fn insert(&self, connection: &Rc<Connection>) -> bool {
        let mut connections = self.0.borrow_mut();
        let known = connections.entry(connection.remote).or_default();
        if connection.service == Service::Media && known.iter().any(|known| known.destination != connection.destination)
        {
            return false;
        }
        known.extract_if(.., |known| known.destination == connection.destination).for_each(|old| old.end());
        known.push(connection.clone());
        true
    }

    /// Forgets a connection; returns whether it was still its peer's, and not replaced by another.
    fn remove(&self, connection: &Rc<Connection>) -> bool {
        let mut connections = self.0.borrow_mut();
        let Some(known) = connections.get_mut(&connection.remote) else { return false };
        let last = known.extract_if(.., |known| Rc::ptr_eq(known, connection)).count() > 0;
        if known.is_empty() {
            connections.remove(&connection.remote);
        }
        last
    }
}

type Socket = tokio::net::TcpStream;

/// What lies between the system and the frames.
enum Coat {
    Plain,
    Tls(Box<ServerConnection>),
}

impl Coat {
    /// Whether the system is to be given anything of what waits here and in `stream`.
    fn wants_write(&self, stream: &Stream<Contents>) -> bool {
        match self {
            Self::Plain => stream.is_waiting(),
            Self::Tls(tls) => tls.wants_write() || stream.is_waiting() && !tls.is_handshaking(),
        }
    }
}

/// One connection, as its task and its worker's sessions share it.
struct Connection {
    service: Service,
    remote: SocketAddr,
    destination: SocketAddr,
    coat: RefCell<Coat>,
    stream: RefCell<Stream<Contents>>,
    /// There is something to send, or it is over.
    woken: Notify,
    over: Cell<bool>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("service", &self.service)
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}

impl Connection {
    fn path(&self) -> Path {
        Path { transport: Transport::Tcp, remote: self.remote }
    }

    fn client(&self) -> Client {
        Client { leg: Leg::Tcp, remote: self.remote, local: self.destination }
    }

    fn end(&self) {
        self.over.set(true);
        self.woken.notify_one();
    }
}

/// Carries a connection's frames to and fro until one end has enough. For the worker's own thread.
pub async fn carry(hub: Rc<Hub>, arrival: Arrival) {
    let Arrival { service, tls, stream: socket, remote, destination, first, rest, opened, guest } = arrival;
    let Ok(socket) = Socket::from_std(socket) else { return };
    let tls = tls.map(ServerConnection::new).transpose();
    let Ok(coat) = tls.map(|tls| tls.map_or(Coat::Plain, |tls| Coat::Tls(Box::new(tls)))) else { return };
    let (framing, connections) = match service {
        Service::Media => (Framing::Ice, &hub.connections),
        Service::Relay => (Framing::Turn, &hub.relay_connections),
    };
    let connection = Rc::new(Connection {
        service,
        remote,
        destination,
        coat: RefCell::new(coat),
        stream: RefCell::new(Stream::new(framing, rest, opened)),
        woken: Notify::new(),
        over: Cell::new(false),
    });
    if !connections.insert(&connection) {
        return hub.metrics.tcp_closed(End::Dropped(DropReason::Refused).name());
    }
    hub.metrics.tcp_connection(1);
    let Err(end) = serve(&hub, &socket, &connection, first).await;
    let last = connections.remove(&connection);
    if let (true, Service::Relay, Some(relay)) = (last, service, &hub.relay) {
        relay.borrow_mut().disconnected(connection.client());
    }
    hub.metrics.tcp_connection(-1);
    hub.metrics.tcp_closed(end.name());
    tracing::debug!(%remote, reason = %end, "connection over");
    drop(guest);
}

async fn serve(
    hub: &Hub,
    socket: &Socket,
    connection: &Connection,
    first: Option<BytesMut>,
) -> Result<Infallible, End> {
    limit(socket)?;
    if let Some(first) = first {
        take(hub, connection, &first)?;
    }
    loop {
        let more = take_frames(hub, connection)?;
        write(hub, socket, connection)?;
        if more {
            tokio::task::yield_now().await;
            continue;
        }
        let (waiting, (deadline, why)) = {
            let stream = connection.stream.borrow();
            (connection.coat.borrow().wants_write(&stream), stream.deadline())
        };
        let interest = if waiting { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        tokio::select! {
            ready = socket.ready(interest) => {
                match ready.and_then(|ready| if ready.is_readable() { read(hub, socket, connection) } else { Ok(true) }) {
                    Ok(true) => {}
                    Ok(false) => return Err(End::Closed),
                    Err(error) => {
                        // TLS may have an alert to send.
                        let _ = write(hub, socket, connection);
                        return Err(error.into());
                    }
                }
            }
            () = connection.woken.notified() => {
                if connection.over.get() {
                    // Goodbyes go first.
                    write(hub, socket, connection)?;
                    return Err(End::Dismissed);
                }
            }
            () = tokio::time::sleep_until(deadline.into()) => return Err(why.into()),
        }
    }
}

/// Hands over frames that have come whole, [`SOME`] at the most; returns whether there may be more.
fn take_frames(hub: &Hub, connection: &Connection) -> Result<bool, End> {
    for _ in 0..SOME {
        let frame = connection.stream.borrow_mut().next_frame()?;
        let Some(bytes) = frame else { return Ok(false) };
        take(hub, connection, &bytes)?;
    }
    Ok(true)
}

fn take(hub: &Hub, connection: &Connection, bytes: &[u8]) -> Result<(), End> {
    let proven = match connection.service {
        Service::Media => take_media(hub, connection, bytes)?,
        Service::Relay => take_relayed(hub, connection, bytes)?,
    };
    if proven {
        connection.stream.borrow_mut().prove();
    }
    Ok(())
}

/// Hands a frame to its session; returns whether ICE knows the connection.
fn take_media(hub: &Hub, connection: &Connection, bytes: &[u8]) -> Result<bool, End> {
    let path = connection.path();
    hub.metrics.received(bytes.len());
    if let Err(reason) = deliver(hub, Origin { path, via: None, destination: connection.destination }, bytes) {
        hub.metrics.drop(reason);
        // Whatever else comes by a connection that is nobody's belongs to nobody, either.
        if reason != DropReason::MailboxFull {
            return Err(End::Dropped(reason));
        }
    }
    Ok(connection.stream.borrow().is_proven() || hub.demux.borrow().knows(path))
}

/// Hands a frame to the relay; returns whether that has an allocation for the client.
fn take_relayed(hub: &Hub, connection: &Connection, bytes: &[u8]) -> Result<bool, End> {
    if let Err(reason) = relay::receive(hub, connection.client(), bytes) {
        hub.metrics.relay_dropped(reason);
        if reason == RelayDrop::Garbage {
            return Err(End::Unrelayed(reason));
        }
    }
    Ok(hub.relay.as_ref().is_some_and(|relay| relay.borrow().serves(connection.client())))
}

/// Nothing waits for company, little waits in the system, and who takes nothing is found out.
pub(super) fn limit(socket: &Socket) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(UNSENT)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))
}

/// Reads what is there, a chunk at most; returns whether the peer may send more.
fn read(hub: &Hub, socket: &Socket, connection: &Connection) -> io::Result<bool> {
    let mut stream = connection.stream.borrow_mut();
    let read = match &mut *connection.coat.borrow_mut() {
        Coat::Plain => {
            let input = stream.input();
            input.reserve(CHUNK);
            socket.try_read_buf(input)
        }
        Coat::Tls(tls) => read_tls(socket, tls, stream.input()),
    };
    match read {
        Ok(0) => Ok(false),
        Ok(_) => {
            stream.heard(hub.clock.now());
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

/// Reads and decrypts; returns how many bytes the system had, or none when the peer said that these were its last.
fn read_tls(socket: &Socket, tls: &mut ServerConnection, input: &mut BytesMut) -> io::Result<usize> {
    let mut chunk = [0; CHUNK];
    let length = socket.try_read(&mut chunk)?;
    let mut rest = &chunk[..length];
    while !rest.is_empty() {
        tls.read_tls(&mut rest)?;
        let state = tls.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let ready = state.plaintext_bytes_to_read();
        let before = input.len();
        input.resize(before + ready, 0);
        tls.reader().read_exact(&mut input[before..])?;
        if state.peer_has_closed() {
            return Ok(0);
        }
    }
    Ok(length)
}

/// Sends what the system takes of what waits.
fn write(hub: &Hub, socket: &Socket, connection: &Connection) -> io::Result<()> {
    let now = hub.clock.now();
    let mut stream = connection.stream.borrow_mut();
    let mut coat = connection.coat.borrow_mut();
    stream.forget_stale(now);
    while coat.wants_write(&stream) {
        let sent = match &mut *coat {
            Coat::Plain => send(socket, &slices(&stream)),
            // What is encrypted goes first: the rest may still grow too old.
            Coat::Tls(tls) if tls.wants_write() => tls.write_tls(&mut Sending(socket)).map(|_| 0),
            // A record for each: clients in the field read one message of a record.
            Coat::Tls(tls) => tls.writer().write(stream.pieces().next().unwrap_or_default()),
        };
        match sent {
            Ok(bytes) => {
                let (datagrams, payload) = stream.sent(bytes, now);
                hub.metrics.sent(datagrams, payload);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    count_skipped(&mut stream, &hub.metrics);
    Ok(())
}

fn slices(stream: &Stream<Contents>) -> Vec<IoSlice<'_>> {
    stream.pieces().take(PIECES).map(IoSlice::new).collect()
}

/// Sends these bytes, or as many of them as the system takes.
fn send(socket: &Socket, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    // Each call ends a record, so that the limit of what is unsent is looked at before the next one: the system would append to a
    // segment that has room without asking.
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_EOR;
    socket.try_io(Interest::WRITABLE, || Ok(sendmsg::<()>(socket.as_raw_fd(), slices, &[], flags, None)?))
}

/// Where TLS writes to.
struct Sending<'a>(&'a Socket);

impl io::Write for Sending<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        send(self.0, &[IoSlice::new(bytes)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn count_skipped(stream: &mut Stream<Contents>, metrics: &Metrics) {
    for _ in 0..stream.take_skipped() {
        metrics.unsent("too_old");
    }
}

#[cfg(test)]
mod tests {
    use str0m::net::Protocol;

    use super::*;

    fn connection(service: Service, remote: SocketAddr, destination: SocketAddr) -> Rc<Connection> {
        Rc::new(Connection {
            service,
            remote,
            destination,
            coat: RefCell::new(Coat::Plain),
            stream: RefCell::new(Stream::new(Framing::Ice, BytesMut::new(), Clock.now())),
            woken: Notify::new(),
            over: Cell::new(false),
        })
    }

    #[test]
    fn one_peer_at_two_of_our_addresses_has_two_connections_to_the_relay_and_one_to_the_media_port() {
        let remote = SocketAddr::from(([192, 0, 2, 1], 50_000));
        let ours = [3478, 5349].map(|port| SocketAddr::from(([192, 0, 2, 2], port)));
        let (connections, metrics) = (Connections::default(), Metrics::new().0);
        let reaches = |connection: &Connection| {
            let contents = vec![0; 20].into();
            let source = connection.destination;
            let transmit = Transmit { proto: Protocol::Tcp, source, destination: remote, contents };
            connections.push(transmit, &metrics, Clock.now());
            !connection.over.get() && connection.stream.borrow().is_waiting()
        };
        let both = ours.map(|own| connection(Service::Relay, remote, own));
        assert!(both.iter().all(|each| connections.insert(each)) && both.iter().all(|each| reaches(each)));
        let newer = connection(Service::Relay, remote, ours[0]);
        assert!(connections.insert(&newer) && both[0].over.get() && !connections.remove(&both[0]));
        assert!(reaches(&newer) && reaches(&both[1]), "a newer one ends that of the same addresses and no other");
        connections.end(remote);
        assert!(newer.over.get() && both[1].over.get());
        assert!([&newer, &both[1]].into_iter().all(|each| connections.remove(each)));
        assert!(connections.0.borrow().is_empty());

        let both = ours.map(|own| connection(Service::Media, remote, own));
        assert!(connections.insert(&both[0]) && !connections.insert(&both[1]), "a session could not tell them apart");
        assert!(reaches(&both[0]) && !reaches(&both[1]));
        let newer = connection(Service::Media, remote, ours[0]);
        assert!(connections.insert(&newer) && both[0].over.get() && reaches(&newer));
    }
}

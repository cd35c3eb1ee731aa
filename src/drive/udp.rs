//! The media port: bound over UDP and TCP on every address; the UDP sockets read and write many datagrams at a time. It looks into none.

use std::convert::Infallible;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;

use super::addresses::MediaAddress;
use super::tcp::MediaListener;

/// Datagrams written in one system call.
pub const BATCH: usize = 64;
/// So few are written without preparing for more.
const FEW: usize = 4;
/// Datagrams read in one system call. Most calls find one or two, and all that could come is prepared for each time.
pub const READS: usize = 16;
/// Longer than any datagram of WebRTC, whose packets fit an Ethernet frame.
const LONGEST: usize = 2048;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// Kernel buffers wanted: a second of 2,000 listeners' reports, and a turn's packets to as many.
const BUFFER: usize = 4 * 1024 * 1024;
/// Less than this loses packets under load.
const BUFFER_NEEDED: usize = 1024 * 1024;

/// One bound address of the media port. It never blocks.
#[derive(Debug)]
pub struct MediaSocket {
    socket: UdpSocket,
    /// As candidates name it.
    pub advertised: SocketAddr,
}

/// The media port of all workers.
#[derive(Debug)]
pub struct MediaPort {
    /// For each worker, a socket per address.
    pub sockets: Vec<Vec<MediaSocket>>,
    /// The port.
    pub port: u16,
    /// The same port over TCP, one for each address. UDP sockets that share a port let every process of the same user in, unseen, and the
    /// kernel would give it a part of our datagrams; a port over TCP is one process's alone.
    pub listeners: Vec<MediaListener>,
}

/// Binds `port` on every address for each of so many workers. Port 0 takes one that the system chooses, the same for all.
///
/// # Errors
/// Which address could not be bound. With the port given, another program may hold it.
pub fn bind_all(addresses: &[MediaAddress], port: u16, workers: u8) -> io::Result<MediaPort> {
    /// A port that is free on one address may be taken on the next.
    const TRIES: usize = 16;
    let mut failure = io::Error::new(io::ErrorKind::AddrNotAvailable, "no usable address");
    for _ in 0..if port == 0 { TRIES } else { 1 } {
        match bind_once(addresses, port, workers) {
            Ok(bound) if bound.port != 0 => return Ok(bound),
            Ok(_) => {}
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn bind_once(addresses: &[MediaAddress], mut port: u16, workers: u8) -> io::Result<MediaPort> {
    let mut sockets: Vec<Vec<MediaSocket>> = (0..workers).map(|_| Vec::with_capacity(addresses.len())).collect();
    let mut listeners = Vec::with_capacity(addresses.len());
    for MediaAddress { bound, advertised } in addresses {
        for (worker, sockets) in sockets.iter_mut().enumerate() {
            let told = |transport: &'static str, port| {
                let address = SocketAddr::new(*bound, port);
                move |error: io::Error| io::Error::new(error.kind(), format!("{transport} {address}: {error}"))
            };
            let socket = bind(*bound, port, workers > 1).map_err(told("UDP", port))?;
            port = socket.local_addr()?.port();
            if worker == 0 {
                let listener = listen(*bound, port).map_err(told("TCP", port))?;
                listeners.push(MediaListener { listener, advertised: SocketAddr::new(*advertised, port) });
            }
            sockets.push(MediaSocket { socket, advertised: SocketAddr::new(*advertised, port) });
        }
    }
    // Without an address there is no port either.
    let port = if listeners.is_empty() { 0 } else { port };
    Ok(MediaPort { sockets, port, listeners })
}

/// Binds `port` over UDP on every address, for this process alone.
///
/// # Errors
/// When one of the addresses is not free.
pub fn bind_alone(addresses: &[MediaAddress], port: u16) -> io::Result<Vec<MediaSocket>> {
    let socket = |address: &MediaAddress| {
        let socket = bind(address.bound, port, false)?;
        Ok(MediaSocket { socket, advertised: SocketAddr::new(address.advertised, port) })
    };
    addresses.iter().map(socket).collect()
}

fn bind(ip: IpAddr, port: u16, shared: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(SocketAddr::new(ip, port)), Type::DGRAM, Some(Protocol::UDP))?;
    if ip.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    // The kernel gives each peer's datagrams to one of the sockets that share an address.
    socket.set_reuse_port(shared)?;
    // The system may give less; what matters is looked at below.
    let _ = socket.set_recv_buffer_size(BUFFER);
    let _ = socket.set_send_buffer_size(BUFFER);
    if ip.is_ipv4() {
        // As QUIC does (RFC 9000 section 14): what we send fits every path, nobody may cut it, and so it needs no number by which its pieces
        // would be found, which the system would draw with a hash and a lock. Where there is no such option, it goes without.
        let _ = set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::PROBE);
    }
    if socket.recv_buffer_size()? < BUFFER_NEEDED || socket.send_buffer_size()? < BUFFER_NEEDED {
        tracing::warn!(%ip, "the system gives small UDP buffers: raise net.core.rmem_max and net.core.wmem_max to {BUFFER} for high session counts");
    }
    socket.bind(&SocketAddr::new(ip, port).into())?;
    Ok(socket.into())
}

/// Listens on `port` over TCP alone, on every address. Port 0 takes one that the system chooses, the same for all.
///
/// # Errors
/// Which address could not be bound.
pub fn listen_all(addresses: &[MediaAddress], mut port: u16) -> io::Result<(Vec<MediaListener>, u16)> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for MediaAddress { bound, advertised } in addresses {
        let told =
            |error: io::Error| io::Error::new(error.kind(), format!("TCP {}: {error}", SocketAddr::new(*bound, port)));
        let listener = listen(*bound, port).map_err(told)?;
        port = listener.local_addr()?.port();
        listeners.push(MediaListener { listener, advertised: SocketAddr::new(*advertised, port) });
    }
    Ok((listeners, port))
}

fn listen(ip: IpAddr, port: u16) -> io::Result<TcpListener> {
    let address = SocketAddr::new(ip, port);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if ip.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    // Connections of a run before linger for a minute; a listener of another process is refused all the same.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Buffers for one reader.
pub struct Inbox {
    headers: MultiHeaders<SockaddrStorage>,
    bytes: Vec<u8>,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}

impl Default for Inbox {
    fn default() -> Self {
        Self { headers: MultiHeaders::preallocate(READS, None), bytes: vec![0; READS * LONGEST] }
    }
}

impl MediaSocket {
    /// Hands each datagram to `take`, with its source; one that is longer than any of WebRTC comes without its bytes. What comes
    /// between two reads waits until `rest` is over, if that names a time, and is told of by the system otherwise.
    ///
    /// # Errors
    /// What the socket or the runtime says; the socket can be read again.
    pub async fn receive(
        &self,
        inbox: &mut Inbox,
        rest: impl Fn() -> Option<Instant>,
        mut take: impl FnMut(SocketAddr, Option<&[u8]>),
    ) -> io::Result<Infallible> {
        // Known to the runtime no longer than needed: that wakes for every datagram of a socket that it knows, read or not.
        let mut known = None;
        loop {
            if let Some(until) = rest() {
                known = None;
                if self.read(inbox, &mut take)? < READS {
                    tokio::time::sleep_until(until.into()).await;
                    continue;
                }
            } else {
                let known = match &mut known {
                    Some(known) => known,
                    none => none.insert(tokio::net::UdpSocket::from_std(self.socket.try_clone()?)?),
                };
                known.readable().await?;
                // Whoever got fewer than there was room for need not ask whether that was all: the system tells of what comes now.
                let read = known.try_io(Interest::READABLE, || {
                    if self.read(inbox, &mut take)? < READS { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
                });
                read.or_else(|error| if error.kind() == io::ErrorKind::WouldBlock { Ok(()) } else { Err(error) })?;
            }
            // What they answer leaves before more is read.
            tokio::task::yield_now().await;
        }
    }

    /// The same for as long as the runtime lives: errors are of single datagrams.
    pub async fn read_on(
        &self,
        inbox: &mut Inbox,
        rest: impl Fn() -> Option<Instant>,
        mut take: impl FnMut(SocketAddr, Option<&[u8]>),
    ) {
        /// A socket that says nothing but errors must not spin.
        const PAUSE: Duration = Duration::from_millis(20);
        loop {
            let Err(error) = self.receive(inbox, &rest, &mut take).await;
            tracing::debug!(%error, address = %self.advertised, "socket");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Hands over what is there, [`READS`] datagrams at the most; returns how many there were.
    fn read(&self, inbox: &mut Inbox, take: &mut impl FnMut(SocketAddr, Option<&[u8]>)) -> io::Result<usize> {
        let Inbox { headers, bytes } = inbox;
        let mut found = [(None, None); READS];
        let mut chunks = bytes.chunks_exact_mut(LONGEST);
        let mut slices: [[IoSliceMut<'_>; 1]; READS] =
            std::array::from_fn(|_| [IoSliceMut::new(chunks.next().unwrap_or_default())]);
        let results = match recvmmsg(self.socket.as_raw_fd(), headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)
        {
            Ok(results) => results,
            Err(Errno::EAGAIN) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let mut count = 0;
        for (slot, message) in found.iter_mut().zip(results) {
            let whole = !message.flags.contains(MsgFlags::MSG_TRUNC);
            *slot = (message.address.and_then(address), whole.then_some(message.bytes));
            count += 1;
        }
        for ((source, length), bytes) in found[..count].iter().zip(bytes.chunks_exact(LONGEST)) {
            if let Some(source) = source {
                take(*source, length.map(|length| &bytes[..length]));
            }
        }
        Ok(count)
    }

    /// Sends as many of `datagrams` as the system takes; returns how many it took before the error, if there is one.
    ///
    /// # Errors
    /// What the system says of the first datagram that it did not take.
    pub fn send(
        &self,
        headers: &mut MultiHeaders<SockaddrStorage>,
        datagrams: &[(SocketAddr, impl AsRef<[u8]>)],
    ) -> Result<usize, Errno> {
        if datagrams.len() <= FEW {
            self.send_up_to::<FEW>(headers, datagrams)
        } else {
            self.send_up_to::<BATCH>(headers, datagrams)
        }
    }

    fn send_up_to<const MOST: usize>(
        &self,
        headers: &mut MultiHeaders<SockaddrStorage>,
        datagrams: &[(SocketAddr, impl AsRef<[u8]>)],
    ) -> Result<usize, Errno> {
        let datagrams = &datagrams[..datagrams.len().min(MOST)];
        let empty: &[u8] = &[];
        let mut slices: [[IoSlice<'_>; 1]; MOST] = std::array::from_fn(|_| [IoSlice::new(empty)]);
        let mut addresses: [Option<SockaddrStorage>; MOST] = [None; MOST];
        for ((slice, address), (remote, bytes)) in slices.iter_mut().zip(&mut addresses).zip(datagrams) {
            *slice = [IoSlice::new(bytes.as_ref())];
            *address = Some(SockaddrStorage::from(*remote));
        }
        let count = datagrams.len();
        sendmmsg(self.socket.as_raw_fd(), headers, &slices[..count], &addresses[..count], [], MsgFlags::MSG_DONTWAIT)
            .map(Iterator::count)
    }
}

/// What the system says of an address, if it is one of IP.
pub(super) fn address(storage: SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|addr| SocketAddr::V4((*addr).into()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|addr| SocketAddr::V6((*addr).into())))
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::net::UdpSocket as StdSocket;
    use std::time::Duration;

    use actix::System;

    use super::*;
    use crate::drive::clock::Clock;

    /// A socket of the media port on loopback.
    fn media() -> MediaSocket {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let addresses = [MediaAddress { bound: loopback, advertised: loopback }];
        let bound = bind_all(&addresses, 0, 1).expect("a port is free").sockets.pop().and_then(|mut all| all.pop());
        bound.expect("one was asked for")
    }

    /// Reads until so many datagrams have come from `peer`, as they come or by the beat.
    async fn hear(
        media: &MediaSocket,
        rest: impl Fn() -> Option<Instant>,
        peer: SocketAddr,
        count: usize,
    ) -> io::Result<Vec<Option<Vec<u8>>>> {
        let heard = RefCell::new(Vec::new());
        let mut inbox = Inbox::default();
        let reading = media.receive(&mut inbox, rest, |source, bytes: Option<&[u8]>| {
            assert_eq!(source, peer);
            heard.borrow_mut().push(bytes.map(<[u8]>::to_vec));
        });
        let enough = async {
            while heard.borrow().len() < count {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            error = reading => return error.map(|never| match never {}),
            () = enough => {}
            // Loopback delivers before `send_to` returns: what has not come by now never will.
            () = tokio::time::sleep(Duration::from_secs(10)) => panic!("{} of {count}", heard.borrow().len()),
        }
        Ok(heard.take())
    }

    /// The two ways to wait for datagrams, and one that goes from one to the other at every read.
    fn rests() -> [Box<dyn Fn() -> Option<Instant>>; 3] {
        let turn = Cell::new(false);
        let alternate = move || {
            turn.set(!turn.get());
            turn.get().then(|| Clock.now())
        };
        [Box::new(|| None), Box::new(|| Some(Clock.now())), Box::new(alternate)]
    }

    #[test]
    fn datagrams_come_in_order_and_one_that_is_too_long_without_its_bytes() {
        System::new().block_on(async {
            let (media, peer) = (media(), StdSocket::bind("127.0.0.1:0").expect("a port is free"));
            let own = peer.local_addr().expect("bound");
            let datagrams = [vec![1; 40], vec![2; LONGEST + 1], vec![3; LONGEST]];
            for datagram in &datagrams {
                peer.send_to(datagram, media.advertised).expect("loopback takes it");
            }
            let heard = hear(&media, || None, own, 3).await.expect("it is readable");
            assert_eq!(heard, [Some(vec![1; 40]), None, Some(vec![3; LONGEST])]);
        });
    }

    #[test]
    fn an_error_is_told_once_and_the_socket_reads_on() {
        System::new().block_on(async {
            let media = media();
            // Connected, so that the system tells of the peer's refusal (ICMP port unreachable), and the peer is not there yet.
            let peer_addr = StdSocket::bind("127.0.0.1:0").expect("a port is free").local_addr().expect("bound");
            media.socket.connect(peer_addr).expect("loopback is there");
            media.socket.send(b"anybody?").expect("it leaves");
            let peer = StdSocket::bind(peer_addr).expect("still free");
            peer.send_to(b"here I am", media.advertised).expect("loopback takes it");
            let refused = hear(&media, || None, peer_addr, 1).await;
            assert_eq!(refused.expect_err("nobody was there").kind(), io::ErrorKind::ConnectionRefused);
            let heard = hear(&media, || None, peer_addr, 1).await.expect("it reads on");
            assert_eq!(heard, [Some(b"here I am".to_vec())]);
        });
    }

    #[test]
    fn all_is_read_however_much_waits_and_however_it_is_waited_for() {
        System::new().block_on(async {
            let (media, peer) = (media(), StdSocket::bind("127.0.0.1:0").expect("a port is free"));
            let own = peer.local_addr().expect("bound");
            let counts = [1, 2, READS - 1, READS, READS + 1, 2 * READS, 1, 5 * READS + 3, 1];
            for (count, rest) in counts.into_iter().flat_map(|count| rests().map(|rest| (count, rest))) {
                let sent: Vec<_> = (0..count).map(|number| vec![u8::try_from(number).expect("few"); 40]).collect();
                for datagram in &sent {
                    peer.send_to(datagram, media.advertised).expect("loopback takes it");
                }
                let heard = hear(&media, rest, own, count).await.expect("it is readable");
                assert_eq!(heard.into_iter().flatten().collect::<Vec<_>>(), sent);
            }
        });
    }

    #[test]
    fn datagrams_that_come_while_the_reader_rests_are_taken_afterwards() {
        System::new().block_on(async {
            let (media, peer) = (media(), StdSocket::bind("127.0.0.1:0").expect("a port is free"));
            let own = peer.local_addr().expect("bound");
            let reads = Cell::new(0);
            let rest = || {
                // After the first read, which finds nothing, and after the second one.
                reads.set(reads.get() + 1);
                if reads.get() == 2 {
                    peer.send_to(b"late", media.advertised).expect("loopback takes it");
                }
                Some(Clock.now())
            };
            let heard = hear(&media, rest, own, 1).await.expect("it is readable");
            assert_eq!(heard, [Some(b"late".to_vec())]);
        });
    }

    #[test]
    fn a_datagram_that_no_packet_holds_is_refused_and_the_next_one_leaves() {
        System::new().block_on(async {
            let (media, peer) = (media(), StdSocket::bind("127.0.0.1:0").expect("a port is free"));
            let own = peer.local_addr().expect("bound");
            let mut headers = MultiHeaders::preallocate(BATCH, None);
            let datagrams = [(own, vec![1; 100]), (own, vec![2; 70_000]), (own, vec![3; 100])];
            assert_eq!(media.send(&mut headers, &datagrams), Ok(1), "it stops at the one that is too long");
            assert_eq!(media.send(&mut headers, &datagrams[1..]), Err(Errno::EMSGSIZE));
            assert_eq!(media.send(&mut headers, &datagrams[2..]), Ok(1));
        });
    }

    #[test]
    fn datagrams_are_sent_whole_or_not_at_all() {
        let media = System::new().block_on(async { media() });
        assert_eq!(rustix::net::sockopt::ip_mtu_discover(&media.socket), Ok(Ipv4PathMtuDiscovery::PROBE));
    }

    #[test]
    fn workers_share_the_port_and_nobody_else_does() {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let addresses = [MediaAddress { bound: loopback, advertised: loopback }];
        let held = bind_all(&addresses, 0, 3).expect("a port is free");
        assert_eq!(held.sockets.iter().map(Vec::len).collect::<Vec<_>>(), [1; 3]);
        assert_eq!(held.listeners.len(), 1);
        assert!(held.sockets.iter().flatten().all(|socket| socket.advertised == SocketAddr::new(loopback, held.port)));
        for workers in [1, 3] {
            let error = bind_all(&addresses, held.port, workers).expect_err("it is taken");
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
        }
        let port = held.port;
        drop(held);
        assert_eq!(bind_all(&addresses, port, 2).expect("it is free again").port, port);
        assert!(bind_all(&[], 0, 1).is_err(), "no address is no port");
    }
}

//! The UDP sockets of all listeners on one thread: one system call per packet, counted by its header and the kernel's time stamp. It
//! speaks no signalling.
//!
//! Listeners of one machine must cost less than the server that they measure. Everything but RTP goes to a listener's peer connection,
//! and so does one packet of RTP in fifty, so that reports go back as from a browser; one listener in fifty decrypts and decodes all.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use slab::Slab;
use str0m::net::Transmit;
use tokio::sync::oneshot;

use crate::engine::caller::{Caller, CallerEffect};
use crate::wire::classify::{Class, classify};
use crate::wire::media::{FRAME_SAMPLES, SAMPLE_RATE};

use super::super::clock::Clock;
use super::super::udp::address;
use super::listener::ListenerError;
use super::relayed::Relayed;
use super::report::Heard;

/// One listener in so many decodes what it hears.
const SAMPLE: usize = 50;
/// One packet in so many goes to the peer connection of a listener that does not.
const FED: u64 = 50;
/// Quieter than this, a frame of a tone is no tone: -40 dB of full scale.
const SILENCE: f32 = 0.01;
/// Longer than any datagram of WebRTC.
const LONGEST: usize = 2048;
/// Sockets told of in one system call.
const EVENTS: usize = 512;
/// Listeners who hear sound are read in turn, so often, and the system need not tell of them: packets carry its stamp, so that costs no
/// truth, and it spares the server what no listener behind a network asks of it, to note for each packet whom it wakes. Shorter than a
/// frame: one call for each finds all that comes.
const ROUND: Duration = Duration::from_millis(16);
/// The event that says that there are orders.
const ORDERS: u64 = u64::MAX;

/// What one listener brings.
pub struct Peer {
    /// Bound, and not blocking.
    pub socket: UdpSocket,
    /// The way through a relay, if it comes that way.
    pub relayed: Option<Relayed>,
    /// Answered, not connected yet.
    pub caller: Caller,
    /// When `start` was said; never where no voice is wanted.
    pub started: Arc<OnceLock<SystemTime>>,
    /// Told when media is connected.
    pub connected: oneshot::Sender<Instant>,
    /// Told when the peer connection has ended.
    pub ended: oneshot::Sender<ListenerError>,
}

enum Order {
    Add(Box<Peer>, oneshot::Sender<usize>),
    /// When it was given, in wall time: what does not come after that is not missed.
    Remove(usize, Duration),
    Stop(Duration),
}

/// The thread that listens.
pub struct Pump {
    clock: Clock,
    orders: Sender<Order>,
    bell: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Pump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pump").finish_non_exhaustive()
    }
}

impl Pump {
    /// Starts the thread; what is heard between `from` and `until` is measured.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn start(clock: Clock, heard: Arc<Mutex<Heard>>, from: Duration, until: Duration) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let bell = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?);
        epoll.add(bell.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, ORDERS))?;
        let (orders, inbox) = mpsc::channel();
        let room = Room {
            round: clock.now(),
            playing: Vec::new(),
            clock,
            epoll,
            bell: bell.clone(),
            inbox,
            heard,
            seats: Slab::new(),
            deadlines: BinaryHeap::new(),
            joined: 0,
            window: (from, until),
            buffer: vec![0; LONGEST],
            control: nix::cmsg_space!(TimeSpec),
        };
        let thread = thread::Builder::new().name("voxcast-load".into()).spawn(move || room.run())?;
        Ok(Self { clock, orders, bell, thread: Some(thread) })
    }

    /// Hands a listener over; returns its place.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn add(&self, peer: Peer) -> Result<usize, ListenerError> {
        let (place, told) = oneshot::channel();
        self.order(Order::Add(Box::new(peer), place));
        told.await.map_err(|_| ListenerError::NoAnswer)
    }

    /// A listener leaves, with a goodbye.
    pub fn remove(&self, place: usize) {
        self.order(Order::Remove(place, wall(self.clock.wall())));
    }

    fn order(&self, order: Order) {
        // A thread that is gone has been told to stop, or has panicked, which its listeners notice.
        if self.orders.send(order).is_ok() {
            let _ = self.bell.write(1);
        }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.order(Order::Stop(wall(self.clock.wall())));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Room {
    clock: Clock,
    epoll: Epoll,
    bell: Arc<EventFd>,
    inbox: Receiver<Order>,
    heard: Arc<Mutex<Heard>>,
    seats: Slab<Seat>,
    /// Places of those who are read in turn, and when the next round is due.
    playing: Vec<usize>,
    round: Instant,
    /// When peer connections want to run; an entry whose time is not its seat's is of the past.
    deadlines: BinaryHeap<Reverse<(Instant, usize)>>,
    joined: usize,
    /// In wall time.
    window: (Duration, Duration),
    buffer: Vec<u8>,
    control: Vec<u8>,
}

struct Seat {
    peer: Peer,
    local: SocketAddr,
    ear: Ear,
    deadline: Option<Instant>,
    connected: bool,
    /// Read in turn.
    playing: bool,
    /// Taken when the peer connection ends.
    open: bool,
}

/// What one listener has received.
#[derive(Default)]
struct Ear {
    ssrc: Option<u32>,
    /// The newest extended sequence number, and when it came.
    last: Option<(u64, Duration)>,
    /// Which of the 64 numbers up to that one are counted as lost; its own is the lowest bit.
    lost: u64,
    decoder: Option<opus::Decoder>,
    decoded: u64,
}

impl Room {
    fn run(mut self) {
        let mut events = vec![EpollEvent::empty(); EVENTS];
        loop {
            let now = self.clock.now();
            let deadline = self.deadlines.peek().map(|Reverse((at, _))| *at);
            let round = (!self.playing.is_empty()).then_some(self.round);
            let wait = deadline.into_iter().chain(round).min().map(|at| at.saturating_duration_since(now));
            // Rounded up: a tick that comes a moment early would be asked for again.
            let wait = wait.map_or(EpollTimeout::NONE, |wait| {
                EpollTimeout::try_from(wait + Duration::from_millis(1)).unwrap_or(EpollTimeout::MAX)
            });
            let count = match self.epoll.wait(&mut events, wait) {
                Ok(count) => count,
                Err(nix::errno::Errno::EINTR) => 0,
                Err(error) => {
                    tracing::error!(%error, "load client");
                    return;
                }
            };
            let heard = self.heard.clone();
            let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
            let now = self.clock.now();
            for event in &events[..count] {
                match usize::try_from(event.data()) {
                    Ok(place) if event.data() != ORDERS => {
                        self.read(place, now, &mut heard);
                    }
                    _ => {
                        let _ = self.bell.read();
                        if self.orders(now, &mut heard).is_break() {
                            return;
                        }
                    }
                }
            }
            if self.round <= now {
                self.round = (self.round + ROUND).max(now);
                for at in 0..self.playing.len() {
                    self.read(self.playing[at], now, &mut heard);
                }
            }
            while let Some(Reverse((at, place))) = self.deadlines.peek().copied()
                && at <= now
            {
                self.deadlines.pop();
                if self.seats.get(place).is_some_and(|seat| seat.deadline == Some(at)) {
                    self.advance(place, now, &mut heard);
                }
            }
        }
    }

    fn orders(&mut self, now: Instant, heard: &mut Heard) -> std::ops::ControlFlow<()> {
        while let Ok(order) = self.inbox.try_recv() {
            match order {
                Order::Add(peer, place) => match self.add(*peer) {
                    Ok(added) => {
                        let _ = place.send(added);
                        self.advance(added, now, heard);
                    }
                    Err(error) => tracing::warn!(%error, "load client"),
                },
                Order::Remove(place, at) => self.remove(place, (now, at), heard),
                Order::Stop(at) => {
                    let places: Vec<_> = self.seats.iter().map(|(place, _)| place).collect();
                    for place in places {
                        self.remove(place, (now, at), heard);
                    }
                    return std::ops::ControlFlow::Break(());
                }
            }
        }
        std::ops::ControlFlow::Continue(())
    }

    fn add(&mut self, peer: Peer) -> io::Result<usize> {
        setsockopt(&peer.socket, sockopt::ReceiveTimestampns, &true)?;
        let local = peer.relayed.as_ref().map_or_else(|| peer.socket.local_addr(), |relayed| Ok(relayed.address))?;
        let sampled = self.joined.is_multiple_of(SAMPLE);
        self.joined += 1;
        let decoder = if sampled { opus::Decoder::new(SAMPLE_RATE, opus::Channels::Mono).ok() } else { None };
        let ear = Ear { decoder, ..Ear::default() };
        let entry = self.seats.vacant_entry();
        let place = entry.key();
        self.epoll.add(peer.socket.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, place as u64))?;
        entry.insert(Seat { peer, local, ear, deadline: None, connected: false, playing: false, open: true });
        Ok(place)
    }

    fn remove(&mut self, place: usize, (now, at): (Instant, Duration), heard: &mut Heard) {
        // What has come and was not read yet is not lost.
        while self.read(place, now, heard) {}
        if let Some(mut seat) = self.seats.try_remove(place) {
            seat.ear.end(at, self.window, seat.peer.started.get(), heard);
            let Peer { socket, relayed, caller, .. } = &mut seat.peer;
            caller.close();
            let goodbye = caller.run(now, |effect| {
                if let CallerEffect::Transmit(transmit) = effect {
                    send(socket, relayed, &transmit, now);
                }
            });
            // Closed already, by the other side.
            drop(goodbye);
            if seat.playing {
                self.playing.retain(|playing| *playing != place);
            } else {
                let _ = self.epoll.delete(socket.as_fd());
            }
        }
    }

    /// Takes one datagram of a listener, if there is one; the system tells again when there are more.
    fn read(&mut self, place: usize, now: Instant, heard: &mut Heard) -> bool {
        let Some(seat) = self.seats.get_mut(place) else { return false };
        let mut slices = [IoSliceMut::new(&mut self.buffer)];
        let received = recvmsg::<SockaddrStorage>(
            seat.peer.socket.as_raw_fd(),
            &mut slices,
            Some(&mut self.control),
            MsgFlags::MSG_DONTWAIT,
        );
        // Errors of a UDP socket are of datagrams that went out before.
        let Ok(message) = received else { return false };
        let stamp = message.cmsgs().ok().and_then(|mut messages| {
            messages.find_map(|message| match message {
                ControlMessageOwned::ScmTimestampns(stamp) => Some(Duration::from(stamp)),
                _ => None,
            })
        });
        let (source, length) = (message.address.and_then(address), message.bytes);
        let bytes = &self.buffer[..length];
        let Some(source) = source else { return true };
        // All that is much comes by the channel.
        let opened = seat.peer.relayed.as_ref().map(|relayed| relayed.open(bytes));
        let (source, bytes) = match opened {
            None => (source, bytes),
            Some(Some(opened)) => opened,
            Some(None) => {
                let Seat { peer: Peer { relayed, caller, .. }, local, .. } = seat;
                if let Some(relayed) = relayed {
                    relayed.receive(bytes, now, &mut |peer, data| drop(caller.receive(peer, *local, data, now)));
                }
                self.advance(place, now, heard);
                return true;
            }
        };
        if classify(bytes) == Class::Rtp {
            if !seat.playing && self.epoll.delete(seat.peer.socket.as_fd()).is_ok() {
                seat.playing = true;
                self.playing.push(place);
            }
            let stamp = stamp.unwrap_or_else(|| wall(self.clock.wall()));
            let feed = seat.ear.hear(bytes, stamp, self.window, seat.peer.started.get(), heard);
            if !feed {
                return true;
            }
        }
        // Bytes that are none of WebRTC's are nothing to a listener either.
        drop(seat.peer.caller.receive(source, seat.local, bytes, now));
        self.advance(place, now, heard);
        true
    }

    /// Runs a peer connection until it waits.
    fn advance(&mut self, place: usize, now: Instant, heard: &mut Heard) {
        let Some(Seat { peer, ear, deadline, connected, open, .. }) = self.seats.get_mut(place) else { return };
        if !*open {
            return;
        }
        let mut joined = false;
        let mut closed = false;
        let Peer { socket, relayed, caller, .. } = &mut *peer;
        let ran = caller.run(now, |effect| match effect {
            // A full buffer loses a check or a report, which both come again.
            CallerEffect::Transmit(transmit) => send(socket, relayed, &transmit, now),
            CallerEffect::Connected => joined = true,
            CallerEffect::Packet(packet) => ear.decode(&packet.payload, heard),
            CallerEffect::KeyframeWanted(_) => {}
            CallerEffect::Closed => closed = true,
        });
        let relay = relayed.as_mut().and_then(|relayed| relayed.run(socket, now));
        if joined && !*connected {
            *connected = true;
            let (gone, _) = oneshot::channel();
            let _ = std::mem::replace(&mut peer.connected, gone).send(now);
        }
        let failure = match ran {
            Ok(at) if !closed => {
                let at = relay.map_or(at, |relay| at.min(relay));
                *deadline = Some(at);
                self.deadlines.push(Reverse((at, place)));
                return;
            }
            Ok(_) => ListenerError::Refused("the peer connection was closed".into()),
            Err(error) => error.into(),
        };
        *open = false;
        *deadline = None;
        let (gone, _) = oneshot::channel();
        let _ = std::mem::replace(&mut peer.ended, gone).send(failure);
    }
}

/// Sends a datagram, through the relay where there is one.
fn send(socket: &UdpSocket, relayed: &mut Option<Relayed>, transmit: &Transmit, now: Instant) {
    match relayed {
        Some(relayed) => relayed.send(socket, transmit.destination, &transmit.contents, now),
        None => drop(socket.send_to(&transmit.contents, transmit.destination)),
    }
}

impl Ear {
    /// Counts a packet of RTP; returns whether the peer connection is to have it too.
    fn hear(
        &mut self,
        bytes: &[u8],
        stamp: Duration,
        (from, until): (Duration, Duration),
        started: Option<&SystemTime>,
        heard: &mut Heard,
    ) -> bool {
        // The class is known, so the header is there (RFC 3550 section 5.1).
        let seq = u16::from_be_bytes([bytes[2], bytes[3]]);
        let ssrc = u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        if *self.ssrc.get_or_insert(ssrc) != ssrc {
            return true;
        }
        let Some((before, at)) = self.last else {
            if let Some(started) = started {
                heard.first(stamp.saturating_sub(wall(*started)));
            }
            self.last = Some((u64::from(seq) + (1 << 16), stamp));
            return true;
        };
        let extended = extend(before, seq);
        let distance = u32::try_from(extended.abs_diff(before)).unwrap_or(u32::MAX);
        let bit = 1_u64.checked_shl(distance).unwrap_or(0);
        if extended <= before {
            let found = self.lost & bit != 0;
            self.lost &= !bit;
            heard.late(found);
            return self.decoder.is_some();
        }
        self.lost = self.lost.checked_shl(distance).unwrap_or(0);
        if stamp >= from && stamp < until {
            heard.packet(stamp.saturating_sub(at), extended - before - 1);
            // All between the two.
            self.lost |= bit.wrapping_sub(1) & !1;
        }
        self.last = Some((extended, stamp));
        self.decoder.is_some() || extended.is_multiple_of(FED)
    }

    /// Counts what should have been heard since the last packet, up to the end of the window or until `now`.
    fn end(&self, now: Duration, (from, until): (Duration, Duration), started: Option<&SystemTime>, heard: &mut Heard) {
        let Some(started) = started else { return };
        let since = self.last.map_or_else(|| wall(*started), |(_, at)| at).max(from);
        heard.ended(now.min(until).saturating_sub(since));
    }

    /// Decodes what was decrypted, if this listener does.
    fn decode(&mut self, payload: &[u8], heard: &mut Heard) {
        let Some(decoder) = &mut self.decoder else { return };
        // Frames have up to 60 ms.
        let mut samples = [0.0_f32; 3 * FRAME_SAMPLES];
        let loud = decoder
            .decode_float(payload, &mut samples, false)
            .is_ok_and(|count| samples[..count].iter().any(|sample| sample.abs() > SILENCE));
        self.decoded += 1;
        // The first frame fades in.
        if !loud && self.decoded > 1 {
            heard.silent();
        }
    }
}

/// The extended sequence number next to `before` that ends in `seq` (RFC 3550 appendix A.1).
fn extend(before: u64, seq: u16) -> u64 {
    let [.., high, low] = before.to_be_bytes();
    let ahead = seq.wrapping_sub(u16::from_be_bytes([high, low]));
    if ahead < 1 << 15 { before + u64::from(ahead) } else { before.saturating_sub(u64::from(ahead.wrapping_neg())) }
}

/// Time since 1970, as the kernel stamps packets.
pub(super) fn wall(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::caller::CallerHost;

    #[test]
    fn sequence_numbers_go_on_across_their_end() {
        let start = (1 << 16) + 65_534;
        assert_eq!([65_535, 0, 1, 5].map(|seq| extend(start, seq)), [start + 1, start + 2, start + 3, start + 7]);
        assert_eq!([65_534, 65_533, 60_000].map(|seq| extend(start, seq)), [start, start - 1, start - 5534]);
    }

    fn packet(seq: u16) -> Vec<u8> {
        let mut bytes = vec![0x80, 111];
        bytes.extend(seq.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(7_u32.to_be_bytes());
        bytes
    }

    #[test]
    fn what_comes_is_counted_and_one_in_fifty_is_fed() {
        let (mut ear, mut heard) = (Ear::default(), Heard::default());
        let window = (Duration::from_secs(10), Duration::from_secs(20));
        let started = UNIX_EPOCH + Duration::from_millis(9_990);
        let mut fed = 0;
        for number in 0..200_u16 {
            if number == 100 {
                continue;
            }
            let stamp = Duration::from_secs(10) + Duration::from_millis(20) * u32::from(number);
            fed += u32::from(ear.hear(&packet(number.wrapping_sub(3)), stamp, window, Some(&started), &mut heard));
        }
        assert!((4..=6).contains(&fed), "the first, and one in fifty: {fed}");
        let mut lost = |ear: &mut Ear, seq, seconds| {
            assert!(!ear.hear(&packet(seq), Duration::from_secs(seconds), window, Some(&started), &mut heard));
            let report = super::super::Report::new(1, Duration::from_secs(10), &heard);
            (report.packets, report.lost, report.late)
        };
        assert_eq!(lost(&mut ear, 90, 15), (198, 1, 1), "it came twice");
        assert_eq!(lost(&mut ear, 97, 15), (198, 1, 2), "it is missing, but that was too long ago");
        assert_eq!(lost(&mut ear, 199, 15), (199, 3, 2), "198 and 197 are missing");
        assert_eq!(lost(&mut ear, 198, 15), (199, 2, 3));
        assert_eq!(lost(&mut ear, 198, 15), (199, 2, 4), "it is found once");
        assert_eq!(lost(&mut ear, 199, 15), (199, 2, 5));
        assert_eq!(lost(&mut ear, 202, 25), (199, 2, 5), "after the window nothing counts");
        assert_eq!(lost(&mut ear, 201, 25), (199, 2, 6));
        assert_eq!(lost(&mut ear, 197, 25), (199, 1, 7), "but what was missing in it may still come");
        let report = super::super::Report::new(1, Duration::from_secs(10), &heard);
        assert!((report.first_packet_ms[0] - 10.0).abs() < 1e-6);
    }

    #[test]
    fn who_falls_silent_loses_what_the_others_hear() {
        let window = (Duration::from_secs(10), Duration::from_secs(20));
        let lost = |ear: &Ear, started: Option<u64>, end| {
            let mut heard = Heard::default();
            let started = started.map(|started| UNIX_EPOCH + Duration::from_secs(started));
            ear.end(Duration::from_millis(end), window, started.as_ref(), &mut heard);
            super::super::Report::new(1, Duration::from_secs(10), &heard).lost
        };
        let heard_at = |millis| Ear { last: Some((1 << 16, Duration::from_millis(millis))), ..Ear::default() };
        assert_eq!(lost(&heard_at(15_000), Some(1), 18_000), 150, "it left before the end");
        assert_eq!(lost(&heard_at(15_000), Some(1), 30_000), 250, "what is after the window does not count");
        assert_eq!(lost(&heard_at(5_000), Some(1), 30_000), 500, "nor what is before it");
        assert_eq!(lost(&heard_at(19_801), Some(1), 30_000), 0, "something is under way at every moment");
        assert_eq!(lost(&heard_at(25_000), Some(1), 30_000), 0);
        assert_eq!(lost(&heard_at(5_000), Some(1), 9_000), 0);
        assert_eq!(lost(&Ear::default(), Some(1), 30_000), 500, "it never heard anything");
        assert_eq!(lost(&Ear::default(), Some(16), 30_000), 200);
        assert_eq!(lost(&Ear::default(), None, 30_000), 0, "it asked for nothing");
    }

    #[test]
    fn whoever_leaves_is_read_to_the_end_and_then_counted() {
        let now = wall(Clock.wall());
        let (from, until) = (now.saturating_sub(Duration::from_secs(10)), now + Duration::from_secs(100));
        // Listens; started; hears so many packets.
        let run = |started: bool, count: u16| {
            let heard = Arc::new(Mutex::new(Heard::default()));
            let pump = Pump::start(Clock, heard.clone(), from, until).expect("the system has a thread");
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
            socket.set_nonblocking(true).expect("it can");
            let local = socket.local_addr().expect("bound");
            let server = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
            for number in 0..count {
                server.send_to(&packet(number), local).expect("loopback takes it");
            }
            let end = wall(Clock.wall());
            let (caller, _) = Caller::listener(&CallerHost::default(), local, Clock.now());
            let said = Arc::new(OnceLock::new());
            if started {
                said.set(UNIX_EPOCH + from).expect("once");
            }
            let ((connected, _), (ended, _)) = (oneshot::channel(), oneshot::channel());
            let peer = Peer { socket, relayed: None, caller, started: said, connected, ended };
            let place = actix::System::new().block_on(pump.add(peer)).expect("the thread runs");
            pump.order(Order::Remove(place, end));
            drop(pump);
            let heard = heard.lock().expect("nobody panicked");
            let report = super::super::Report::new(1, Duration::from_secs(10), &heard);
            (report.packets, report.lost)
        };
        let (packets, lost) = run(true, 0);
        assert!(packets == 0 && (500..600).contains(&lost), "{lost}");
        assert_eq!(run(true, 40), (39, 0), "the first one is no gap, and what comes after the end is not missed");
        assert_eq!(run(false, 0), (0, 0));
    }
}

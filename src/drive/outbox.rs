//! Datagrams of all sessions of a worker on their way out: sent 64 at a time, and at the end of every turn of the loop.

use std::net::SocketAddr;
use std::rc::Rc;

use nix::errno::Errno;
use nix::sys::socket::{MultiHeaders, SockaddrStorage};
use str0m::net::{DatagramSend, Protocol, Transmit};

use super::metrics::Metrics;
use super::udp::{BATCH, MediaSocket};

/// The sockets of a worker and what waits to be sent on each.
pub struct Outbox {
    lanes: Vec<Lane>,
    headers: MultiHeaders<SockaddrStorage>,
    metrics: Metrics,
}

struct Lane {
    socket: Rc<MediaSocket>,
    waiting: Vec<(SocketAddr, Contents)>,
}

struct Contents(DatagramSend);

impl AsRef<[u8]> for Contents {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").field("lanes", &self.lanes.len()).finish_non_exhaustive()
    }
}

impl Outbox {
    /// An empty one over `sockets`.
    #[must_use]
    pub fn new(sockets: &[Rc<MediaSocket>], metrics: Metrics) -> Self {
        let lanes =
            sockets.iter().map(|socket| Lane { socket: socket.clone(), waiting: Vec::with_capacity(BATCH) }).collect();
        Self { lanes, headers: MultiHeaders::preallocate(BATCH, None), metrics }
    }

    /// Puts a datagram in. Returns whether it is the first one, so that a flush must be asked for.
    pub fn push(&mut self, transmit: Transmit) -> bool {
        let lane = self.lanes.iter_mut().find(|lane| lane.socket.advertised == transmit.source);
        let Some(lane) = lane.filter(|_| transmit.proto == Protocol::Udp) else {
            self.metrics.unsent("no_socket");
            return false;
        };
        lane.waiting.push((transmit.destination, Contents(transmit.contents)));
        let first = lane.waiting.len() == 1;
        if lane.waiting.len() == BATCH {
            lane.flush(&mut self.headers, &self.metrics);
        }
        first
    }

    /// Sends everything. What the system does not take is dropped: old audio is worth nothing.
    pub fn flush(&mut self) {
        for lane in &mut self.lanes {
            lane.flush(&mut self.headers, &self.metrics);
        }
    }
}

impl Lane {
    fn flush(&mut self, headers: &mut MultiHeaders<SockaddrStorage>, metrics: &Metrics) {
        let mut rest = &self.waiting[..];
        while !rest.is_empty() {
            match self.socket.send(headers, rest) {
                Ok(sent) => {
                    // The system may take fewer than it was given; it then says why when asked again.
                    let (done, left) = rest.split_at(sent);
                    metrics.sent(done.len(), done.iter().map(|(_, bytes)| bytes.as_ref().len()).sum());
                    rest = left;
                    if sent == 0 {
                        metrics.unsent("refused");
                        rest = &rest[1..];
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN | Errno::ENOBUFS) => {
                    for _ in rest {
                        metrics.unsent("buffer_full");
                    }
                    break;
                }
                // Of this one datagram: too long, no way there, forbidden. The others go on.
                Err(errno) => {
                    metrics.unsent(if errno == Errno::EMSGSIZE { "too_long" } else { "unreachable" });
                    rest = &rest[1..];
                }
            }
        }
        self.waiting.clear();
    }
}

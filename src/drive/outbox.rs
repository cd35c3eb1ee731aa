//! Datagrams of all sessions of a worker on their way out: sent 64 at a time, and at the end of every turn of the loop.

use std::net::SocketAddr;
use std::sync::Arc;

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
    socket: Arc<MediaSocket>,
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
    pub fn new(sockets: &[Arc<MediaSocket>], metrics: Metrics) -> Self {
        let lanes = sockets.iter().map(Lane::new).collect();
        Self { lanes, headers: MultiHeaders::preallocate(BATCH, None), metrics }
    }

    /// Sends by these sockets, too.
    pub fn open(&mut self, sockets: &[Arc<MediaSocket>]) {
        self.lanes.extend(sockets.iter().map(Lane::new));
    }

    /// Sends by no socket of this port any more; what waits there leaves now.
    pub fn close(&mut self, port: u16) {
        self.flush();
        self.lanes.retain(|lane| lane.socket.advertised.port() != port);
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
    fn new(socket: &Arc<MediaSocket>) -> Self {
        Self { socket: socket.clone(), waiting: Vec::with_capacity(BATCH) }
    }

    fn flush(&mut self, headers: &mut MultiHeaders<SockaddrStorage>, metrics: &Metrics) {
        let Self { socket, waiting } = self;
        send_all(
            waiting,
            |rest| socket.send(headers, rest),
            |those, fate| match fate {
                Fate::Sent => metrics.sent(those.len(), those.iter().map(|(_, bytes)| bytes.as_ref().len()).sum()),
                Fate::Unsent(reason) => those.iter().for_each(|_| metrics.unsent(reason)),
            },
        );
        waiting.clear();
    }
}

/// What became of datagrams.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    Sent,
    Unsent(&'static str),
}

/// Sends `datagrams` in their order, and tells the fate of each once. `send` takes as many as it likes and says how many, or why it does
/// not take the first. It is never asked more often than twice for each, and nobody waits: what the system has no room for is lost.
fn send_all<Datagram>(
    datagrams: &[Datagram],
    mut send: impl FnMut(&[Datagram]) -> Result<usize, Errno>,
    mut tell: impl FnMut(&[Datagram], Fate),
) {
    let mut rest = datagrams;
    let mut again = true;
    while !rest.is_empty() {
        let (done, fate) = match send(rest) {
            // It took nothing and does not say why.
            Ok(0) => (1, Fate::Unsent("refused")),
            Ok(count) => (count, Fate::Sent),
            // Of a datagram that was sent before (ICMP, RFC 1122 section 4.1.3.3), or of nothing at all: this one was not looked at.
            Err(Errno::EINTR | Errno::ECONNREFUSED) if again => {
                again = false;
                continue;
            }
            Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM) => (rest.len(), Fate::Unsent("buffer_full")),
            // Of this one datagram: too long, no way there, forbidden. The others go on.
            Err(Errno::EMSGSIZE) => (1, Fate::Unsent("too_long")),
            Err(_) => (1, Fate::Unsent("unreachable")),
        };
        again = true;
        let (those, left) = rest.split_at(done.min(rest.len()));
        tell(those, fate);
        rest = left;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What becomes of four datagrams when the system answers so, one answer a call and then "all taken".
    fn story(answers: &[Result<usize, Errno>]) -> String {
        let mut answers = answers.iter().copied();
        let mut story = Vec::new();
        send_all(
            &[0, 1, 2, 3],
            |rest| answers.next().unwrap_or(Ok(rest.len())),
            |those, fate| {
                let fate = match fate {
                    Fate::Sent => "sent",
                    Fate::Unsent(reason) => reason,
                };
                story.extend(those.iter().map(|datagram| format!("{datagram} {fate}")));
            },
        );
        story.join(", ")
    }

    #[test]
    fn what_the_system_says_decides_of_each_datagram() {
        let all = "0 sent, 1 sent, 2 sent, 3 sent";
        let table = [
            ("it takes all", vec![Ok(4)], all),
            ("it takes them by and by", vec![Ok(1), Ok(2), Ok(1)], all),
            ("a signal came", vec![Err(Errno::EINTR), Ok(4)], all),
            ("an earlier one was refused by its peer", vec![Ok(1), Err(Errno::ECONNREFUSED), Ok(3)], all),
            (
                "every call is refused",
                vec![Err(Errno::ECONNREFUSED); 8],
                "0 unreachable, 1 unreachable, 2 unreachable, 3 unreachable",
            ),
            (
                "the buffer is full",
                vec![Ok(1), Err(Errno::EAGAIN)],
                "0 sent, 1 buffer_full, 2 buffer_full, 3 buffer_full",
            ),
            (
                "the device's queue is full",
                vec![Err(Errno::ENOBUFS)],
                "0 buffer_full, 1 buffer_full, 2 buffer_full, 3 buffer_full",
            ),
            ("one is too long", vec![Ok(1), Err(Errno::EMSGSIZE)], "0 sent, 1 too_long, 2 sent, 3 sent"),
            ("one has no way", vec![Ok(2), Err(Errno::EHOSTUNREACH)], "0 sent, 1 sent, 2 unreachable, 3 sent"),
            ("one is forbidden", vec![Err(Errno::EPERM)], "0 unreachable, 1 sent, 2 sent, 3 sent"),
            (
                "the network is down",
                vec![Err(Errno::ENETUNREACH), Err(Errno::ENETDOWN)],
                "0 unreachable, 1 unreachable, 2 sent, 3 sent",
            ),
            ("it takes none and says nothing", vec![Ok(0)], "0 refused, 1 sent, 2 sent, 3 sent"),
            ("it claims more than there are", vec![Ok(9)], all),
        ];
        for (name, answers, expected) in table {
            assert_eq!(story(&answers), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn every_datagram_has_one_fate_in_order_and_nobody_spins(answers in proptest::collection::vec(0..8_u8, 0..300), count in 0..150_usize) {
            let datagrams: Vec<usize> = (0..count).collect();
            let mut told = Vec::new();
            let mut calls = 0;
            send_all(
                &datagrams,
                |rest| {
                    calls += 1;
                    match answers.get(calls - 1) {
                        Some(0) => Err(Errno::EINTR),
                        Some(1) => Err(Errno::ECONNREFUSED),
                        Some(2) => Err(Errno::EMSGSIZE),
                        Some(3) => Err(Errno::EPERM),
                        Some(4) => Err(Errno::ENOBUFS),
                        Some(5) => Ok(0),
                        Some(_) => Ok(1),
                        None => Ok(rest.len()),
                    }
                },
                |those, _| told.extend_from_slice(those),
            );
            prop_assert_eq!(told, datagrams);
            prop_assert!(calls <= 2 * count);
        }
    }
}

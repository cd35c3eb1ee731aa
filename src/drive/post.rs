//! What media workers send each other, and what the media port over TCP sends them, through bounded channels: one for each kind, because
//! datagrams and connections cost work and words do not. It decides nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::engine::demux::Path;
use crate::wire::ids::WorkerId;

use super::tcp::Arrival;

/// What may wait for a worker of each kind: what a second of 2,000 strayed listeners sends.
const WAITING: usize = 4096;
/// Connections that may wait for a worker.
const ARRIVING: usize = 256;

/// A datagram that the kernel gave to the wrong worker.
#[derive(Debug)]
pub struct Stray {
    /// Who received it.
    pub via: WorkerId,
    /// Where it came from.
    pub path: Path,
    /// Our address as candidates name it.
    pub destination: SocketAddr,
    /// The bytes.
    pub bytes: Bytes,
}

/// A session's name at the relay.
pub type RelayUser = [u8; 12];

/// What one worker tells another.
#[derive(Clone, Copy, Debug)]
pub enum Word {
    /// This path is the sender's.
    Learnt {
        /// Who has the proof.
        owner: WorkerId,
        /// Of what.
        path: Path,
    },
    /// This user of the relay has left.
    Left {
        /// Its name there.
        user: RelayUser,
    },
    /// The answer to this check is the sender's.
    Expected {
        /// Who sends the check.
        owner: WorkerId,
        /// Its transaction id.
        transaction: [u8; 12],
    },
}

/// Where a worker's post arrives.
#[derive(Debug)]
pub struct PostBox {
    /// Connections.
    pub arrivals: mpsc::Receiver<Arrival>,
    /// Datagrams.
    pub strays: mpsc::Receiver<Stray>,
    /// Words.
    pub words: mpsc::Receiver<Word>,
}

#[derive(Debug)]
struct Way {
    arrivals: mpsc::Sender<Arrival>,
    strays: mpsc::Sender<Stray>,
    words: mpsc::Sender<Word>,
}

/// The way to all workers of the process.
#[derive(Clone, Debug)]
pub struct Post {
    ways: Arc<[Way]>,
    workers: u8,
}

impl Post {
    /// Channels for `workers`, and the receiving end of each.
    #[must_use]
    pub fn new(workers: u8) -> (Self, Vec<PostBox>) {
        let way = |_| {
            let (arrivals, strays, words) = (mpsc::channel(ARRIVING), mpsc::channel(WAITING), mpsc::channel(WAITING));
            (
                Way { arrivals: arrivals.0, strays: strays.0, words: words.0 },
                PostBox { arrivals: arrivals.1, strays: strays.1, words: words.1 },
            )
        };
        let (ways, boxes): (Vec<_>, Vec<_>) = (0..workers).map(way).unzip();
        (Self { ways: ways.into(), workers }, boxes)
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> u8 {
        self.workers
    }

    /// Hands a connection over, or says that there was no room for it. Its peer may connect again.
    #[must_use]
    pub fn arrive(&self, to: WorkerId, arrival: Arrival) -> bool {
        self.ways.get(usize::from(to.0)).is_some_and(|way| way.arrivals.try_send(arrival).is_ok())
    }

    /// Forwards a datagram, or says that there was no room for it. It may be lost.
    #[must_use]
    pub fn forward(&self, to: WorkerId, stray: Stray) -> bool {
        self.ways.get(usize::from(to.0)).is_some_and(|way| way.strays.try_send(stray).is_ok())
    }

    /// Sends a word, or says that there was no room for it. It is told again by the next check.
    #[must_use]
    pub fn tell(&self, to: WorkerId, word: Word) -> bool {
        self.ways.get(usize::from(to.0)).is_some_and(|way| way.words.try_send(word).is_ok())
    }
}

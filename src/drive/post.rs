//! What media workers send each other, through one bounded channel each. It decides nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::engine::demux::Path;
use crate::wire::ids::WorkerId;

/// Parcels that may wait for a worker: what a second of 2,000 strayed listeners sends.
const WAITING: usize = 4096;

/// What one worker sends another.
#[derive(Debug)]
pub enum Parcel {
    /// A datagram that the kernel gave to the wrong one.
    Stray {
        /// Who received it.
        via: WorkerId,
        /// Where it came from.
        path: Path,
        /// Our address as candidates name it.
        destination: SocketAddr,
        /// The bytes.
        bytes: Bytes,
    },
    /// This path is the sender's.
    Learnt {
        /// Who has the proof.
        owner: WorkerId,
        /// Of what.
        path: Path,
    },
    /// The answer to this check is the sender's.
    Expected {
        /// Who sends the check.
        owner: WorkerId,
        /// Its transaction id.
        transaction: [u8; 12],
    },
}

/// The way to all workers of the process.
#[derive(Clone, Debug)]
pub struct Post {
    ways: Arc<[mpsc::Sender<Parcel>]>,
    workers: u8,
}

impl Post {
    /// Channels for `workers`, and the receiving end of each.
    #[must_use]
    pub fn new(workers: u8) -> (Self, Vec<mpsc::Receiver<Parcel>>) {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(WAITING)).unzip();
        (Self { ways: senders.into(), workers }, receivers)
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> u8 {
        self.workers
    }

    /// Sends a parcel, or says that there was no room for it. Senders go on: a datagram may be lost, and what is told is told again.
    #[must_use]
    pub fn send(&self, to: WorkerId, parcel: Parcel) -> bool {
        self.ways.get(usize::from(to.0)).is_some_and(|way| way.try_send(parcel).is_ok())
    }
}

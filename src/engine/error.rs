//! Whose fault it was, so that the driver's reaction is one `match` and counters tell an attack from a bug.

use str0m::RtcError;
use thiserror::Error;

/// A `SessionCore` could not do what it was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The peer's `PeerConnection` broke a protocol beyond repair; it was dropped, the session stands.
    #[error("peer connection failed: {0}")]
    Peer(#[from] RtcError),
    /// The driver let a `Drain` go without running it dry: a bug of ours.
    #[error("the last drain was not run")]
    Undrained,
}

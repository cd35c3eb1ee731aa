//! What an allocation needs of a client of TURN, whoever wrote it. It says nothing of sockets, streams and how long anything may take.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// What a client of TURN wants or has learnt.
#[derive(Debug, Eq, PartialEq)]
pub enum ProtocolEvent {
    /// Send this to the server.
    Transmit(Vec<u8>),
    /// The server has given us this address.
    Allocated(SocketAddr),
    /// Peers at this address are let through.
    Permitted(IpAddr),
    /// They are not, or not any more.
    Refused(IpAddr),
    /// Data for this peer goes by a channel from now on.
    Bound(SocketAddr),
    /// It does not, or not any more.
    Unbound(SocketAddr),
    /// There is no allocation, and there will be none.
    Ended,
}

/// One allocation's client of TURN (RFC 8656), of one 5-tuple. It takes and gives whole messages: what lies around them on a stream is for
/// its owner.
pub trait Protocol {
    /// Takes a message or the data of a channel from the server; data of a peer goes to `data`.
    fn receive(&mut self, bytes: &[u8], now: Instant, data: &mut dyn FnMut(SocketAddr, &[u8]));

    /// What to send to the server so that `data` goes to `peer`; none without a permission.
    fn send(&mut self, peer: SocketAddr, data: &[u8], now: Instant) -> Option<Vec<u8>>;

    /// Asks that peers at this address be let through, and asks again before that ends.
    fn permit(&mut self, ip: IpAddr, now: Instant);

    /// Asks for a channel to this peer, and asks again before that ends.
    fn bind(&mut self, peer: SocketAddr, now: Instant);

    /// A request that only an allocation that is there is answered well: a Refresh of its own, to be sent again by its owner. None before
    /// the server has told how to sign it.
    fn probe(&mut self) -> Option<Vec<u8>>;

    /// Asks the server to forget the allocation.
    fn delete(&mut self, now: Instant);

    /// Tells all that there is to tell; returns when to come again.
    fn run(&mut self, now: Instant, apply: &mut dyn FnMut(ProtocolEvent)) -> Option<Instant>;
}

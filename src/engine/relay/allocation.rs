//! One allocation (RFC 8656 section 3.2): what its client may reach, and under which numbers. Bounded; it sends nothing.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use stun_types::message::IntegrityKey;

use super::Client;

/// How long a permission lasts (RFC 8656 section 9).
pub const PERMISSION: Duration = Duration::from_secs(300);
/// How long a channel lasts (RFC 8656 section 12).
pub const CHANNEL: Duration = Duration::from_secs(600);
/// Permissions of one allocation. We have few addresses, and a room few members.
const PERMISSIONS: usize = 64;
/// Channels of one allocation.
const CHANNELS: usize = 64;

/// There is no room for one more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoRoom;

/// Why a channel is not bound.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unbound {
    /// Number or peer are bound otherwise.
    Taken,
    /// There is no room for one more.
    NoRoom,
}

#[derive(Debug)]
struct Channel {
    number: u16,
    peer: SocketAddr,
    until: Instant,
}

/// One allocation.
#[derive(Debug)]
pub struct Allocation {
    /// Its client.
    pub client: Client,
    /// Its address towards peers.
    pub relayed: SocketAddr,
    /// Whose credentials it was made with.
    pub username: Box<str>,
    /// What they sign with.
    pub key: IntegrityKey,
    /// The transaction that made it, and what that was answered: it is answered so again.
    pub made: ([u8; 12], Vec<u8>),
    /// When it ends.
    pub until: Instant,
    permissions: Vec<(IpAddr, Instant)>,
    channels: Vec<Channel>,
}

impl Allocation {
    /// One without permissions and channels.
    #[must_use]
    pub fn new(client: Client, relayed: SocketAddr, username: &str, key: IntegrityKey, until: Instant) -> Self {
        let (permissions, channels) = (Vec::new(), Vec::new());
        Self { client, relayed, username: username.into(), key, made: Default::default(), until, permissions, channels }
    }

    /// Whether a peer of this address may be sent to and heard.
    #[must_use]
    pub fn permits(&self, ip: IpAddr, now: Instant) -> bool {
        self.permissions.iter().any(|(known, until)| *known == ip && now < *until)
    }

    /// Permits this address from now on.
    ///
    /// # Errors
    /// When there are too many.
    pub fn permit(&mut self, ip: IpAddr, now: Instant) -> Result<(), NoRoom> {
        self.permissions.retain(|(known, until)| *known != ip && now < *until);
        if self.permissions.len() == PERMISSIONS {
            return Err(NoRoom);
        }
        self.permissions.push((ip, now + PERMISSION));
        Ok(())
    }

    /// Binds a number to a peer, or prolongs that; permits the peer, too.
    ///
    /// # Errors
    /// Why it is not bound.
    pub fn bind(&mut self, number: u16, peer: SocketAddr, now: Instant) -> Result<(), Unbound> {
        self.channels.retain(|channel| now < channel.until);
        let known = self.channels.iter().position(|channel| channel.number == number || channel.peer == peer);
        match known.map(|place| &self.channels[place]) {
            Some(channel) if channel.number != number || channel.peer != peer => return Err(Unbound::Taken),
            None if self.channels.len() == CHANNELS => return Err(Unbound::NoRoom),
            _ => {}
        }
        self.permit(peer.ip(), now).map_err(|NoRoom| Unbound::NoRoom)?;
        let channel = Channel { number, peer, until: now + CHANNEL };
        match known {
            Some(place) => self.channels[place] = channel,
            None => self.channels.push(channel),
        }
        Ok(())
    }

    /// The peer that a number is bound to.
    #[must_use]
    pub fn peer(&self, number: u16, now: Instant) -> Option<SocketAddr> {
        self.channels.iter().find(|channel| channel.number == number && now < channel.until).map(|channel| channel.peer)
    }

    /// The number that is bound to a peer.
    #[must_use]
    pub fn channel(&self, peer: SocketAddr, now: Instant) -> Option<u16> {
        self.channels.iter().find(|channel| channel.peer == peer && now < channel.until).map(|channel| channel.number)
    }
}

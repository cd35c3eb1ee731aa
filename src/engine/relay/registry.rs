//! Who may be reached through the relay, and how much of it is in use: what the workers' relays agree upon.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

/// Allocations of one user at the same time. A page makes one for each of its interfaces, of our addresses and of our transports, for
/// each line of media that is not bundled, and once more for each while ICE restarts.
pub const PER_USER: u32 = 256;

/// Why there is no room for an allocation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Full {
    /// For this user.
    User,
    /// For anybody.
    All,
}

/// The addresses that are ours, and the users of the relay.
#[derive(Debug)]
pub struct Registry {
    candidates: Box<[SocketAddr]>,
    /// Candidates of ports that are open for a while.
    passing: RwLock<Vec<SocketAddr>>,
    most: usize,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    /// Addresses of allocations. Permissions are for an address, whatever the port, so no two share one.
    relayed: HashMap<IpAddr, u16>,
    users: HashMap<Box<str>, u32>,
}

impl Registry {
    /// Of these candidates, with room for `most` allocations.
    #[must_use]
    pub fn new(candidates: &[SocketAddr], most: usize) -> Self {
        Self { candidates: candidates.into(), passing: RwLock::default(), most, book: Mutex::default() }
    }

    /// Whether this is exactly a candidate or an allocation of ours.
    #[must_use]
    pub fn is_ours(&self, addr: SocketAddr) -> bool {
        self.is_candidate(addr) || self.book().relayed.get(&addr.ip()) == Some(&addr.port())
    }

    /// The same for an address without a port, as permissions have it (RFC 8656 section 9).
    #[must_use]
    pub fn is_our_ip(&self, ip: IpAddr) -> bool {
        let is_ip = |candidate: &SocketAddr| candidate.ip() == ip;
        self.candidates.iter().any(is_ip) || self.passing().iter().any(is_ip) || self.book().relayed.contains_key(&ip)
    }

    /// Whether this is a candidate of our sessions.
    #[must_use]
    pub fn is_candidate(&self, addr: SocketAddr) -> bool {
        self.candidates.contains(&addr) || self.passing().contains(&addr)
    }

    /// These are candidates, too, until their port is closed.
    pub fn open(&self, candidates: impl Iterator<Item = SocketAddr>) {
        self.passing.write().unwrap_or_else(PoisonError::into_inner).extend(candidates);
    }

    /// No candidate has this port any more, unless it was there from the beginning.
    pub fn close(&self, port: u16) {
        self.passing.write().unwrap_or_else(PoisonError::into_inner).retain(|candidate| candidate.port() != port);
    }

    fn passing(&self) -> RwLockReadGuard<'_, Vec<SocketAddr>> {
        self.passing.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many allocations there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.book().relayed.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A user takes an address, if there is room.
    ///
    /// # Errors
    /// For whom there is none.
    pub(super) fn enter(&self, user: &str, relayed: SocketAddr) -> Result<(), Full> {
        let mut book = self.book();
        if book.relayed.len() >= self.most {
            return Err(Full::All);
        }
        match book.users.get_mut(user) {
            Some(count) if *count >= PER_USER => return Err(Full::User),
            Some(count) => *count += 1,
            None => drop(book.users.insert(user.into(), 1)),
        }
        book.relayed.insert(relayed.ip(), relayed.port());
        Ok(())
    }

    /// A user gives an address back.
    pub(super) fn leave(&self, user: &str, relayed: SocketAddr) {
        let mut book = self.book();
        book.relayed.remove(&relayed.ip());
        if let Some(count) = book.users.get_mut(user) {
            *count -= 1;
            if *count == 0 {
                book.users.remove(user);
            }
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

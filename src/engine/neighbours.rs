//! Which other worker a datagram belongs to that is none of this worker's. Pure and bounded; it learns only what the owners tell.
//!
//! All workers listen on the same addresses, and the kernel hands a peer's datagrams to whichever it likes. A check names its worker in its
//! ufrag. Everything after that comes by a path, or as an answer to a check, that its owner has told of.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use crate::wire::classify::{Class, classify};
use crate::wire::ids::WorkerId;
use crate::wire::stun::{self, StunClass};

use super::demux::Path;

/// Paths of others that are remembered: four of each of 16,384 sessions.
pub const PATHS: usize = 65_536;
/// Checks of others whose answers are waited for; an answer comes within seconds.
pub const CHECKS: usize = 16_384;

/// Which of so many workers a check of ICE asks for, to whom nobody has spoken yet: by its ufrag.
#[must_use]
pub fn owner_of_check(datagram: &[u8], workers: u8) -> Option<WorkerId> {
    let peek = stun::peek(datagram).filter(|peek| peek.class == StunClass::Request)?;
    WorkerId::of_ufrag(peek.local_ufrag()?).filter(|worker| worker.0 < workers)
}

/// What one worker knows of the others.
#[derive(Debug)]
pub struct Neighbours {
    own: WorkerId,
    count: u8,
    by_path: Remembered<Path>,
    by_check: Remembered<[u8; 12]>,
}

impl Neighbours {
    /// What worker `own` of `count` knows: nothing.
    #[must_use]
    pub fn new(own: WorkerId, count: u8) -> Self {
        Self { own, count, by_path: Remembered::new(PATHS), by_check: Remembered::new(CHECKS) }
    }

    /// Whether there are no others.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count < 2
    }

    /// All others.
    pub fn others(&self) -> impl Iterator<Item = WorkerId> + use<> {
        let own = self.own;
        (0..self.count).map(WorkerId).filter(move |worker| *worker != own)
    }

    /// `owner` has proof of `path`.
    pub fn learn(&mut self, path: Path, owner: WorkerId) {
        self.by_path.insert(path, owner);
    }

    /// `owner` sends a check with this transaction id, whose answer may come from anywhere.
    pub fn expect(&mut self, transaction: [u8; 12], owner: WorkerId) {
        self.by_check.insert(transaction, owner);
    }

    /// This worker has newer proof of `path`.
    pub fn forget(&mut self, path: Path) {
        self.by_path.remove(&path);
    }

    /// Whose `datagram` from `path` is, once it is known not to be ours.
    #[must_use]
    pub fn owner(&self, path: Path, datagram: &[u8]) -> Option<WorkerId> {
        if self.is_empty() {
            return None;
        }
        match classify(datagram) {
            Class::Stun => {
                let peek = stun::peek(datagram)?;
                match (peek.local_ufrag(), peek.class) {
                    (Some(ufrag), _) => {
                        WorkerId::of_ufrag(ufrag).filter(|worker| *worker != self.own && worker.0 < self.count)
                    }
                    (None, StunClass::Success | StunClass::Error) => {
                        self.by_path.get(&path).or_else(|| self.by_check.get(&peek.transaction))
                    }
                    (None, StunClass::Request | StunClass::Indication) => self.by_path.get(&path),
                }
            }
            Class::Dtls | Class::Rtp | Class::Rtcp => self.by_path.get(&path),
            Class::TurnChannel | Class::Unknown => None,
        }
    }

    /// How many paths and checks are remembered.
    #[must_use]
    pub fn len(&self) -> (usize, usize) {
        (self.by_path.owners.len(), self.by_check.owners.len())
    }
}

/// A map that forgets its oldest names.
#[derive(Debug)]
struct Remembered<Name> {
    /// The owner, and which entry of the queue stands for the name.
    owners: HashMap<Name, (WorkerId, u64)>,
    /// In the order of their coming; an entry whose number is not its name's is of the past.
    order: VecDeque<(Name, u64)>,
    next: u64,
    most: usize,
}

impl<Name: Copy + Eq + Hash> Remembered<Name> {
    fn new(most: usize) -> Self {
        Self { owners: HashMap::new(), order: VecDeque::new(), next: 0, most }
    }

    fn insert(&mut self, name: Name, owner: WorkerId) {
        if let Some((known, _)) = self.owners.get_mut(&name) {
            *known = owner;
            return;
        }
        if self.owners.len() == self.most {
            self.forget_oldest();
        }
        self.owners.insert(name, (owner, self.next));
        self.order.push_back((name, self.next));
        self.next += 1;
        // Names that were removed leave their entries behind: never more of them than of the others.
        if self.order.len() > 2 * self.most {
            let owners = &self.owners;
            self.order.retain(|(name, number)| owners.get(name).is_some_and(|(_, current)| current == number));
        }
    }

    fn forget_oldest(&mut self) {
        while let Some((name, number)) = self.order.pop_front() {
            if self.owners.get(&name).is_some_and(|(_, current)| *current == number) {
                self.owners.remove(&name);
                return;
            }
        }
    }

    fn remove(&mut self, name: &Name) {
        self.owners.remove(name);
    }

    fn get(&self, name: &Name) -> Option<WorkerId> {
        self.owners.get(name).map(|(owner, _)| *owner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::super::demux::{Demux, Transport};
    use super::*;
    use crate::wire::ids::SessionKey;

    fn path(port: u16) -> Path {
        Path { transport: Transport::Udp, remote: SocketAddr::from(([192, 0, 2, 1], port)) }
    }

    fn stun(kind: u16, transaction: u8, username: Option<&str>) -> Vec<u8> {
        let mut body = Vec::new();
        if let Some(name) = username {
            body.extend(6_u16.to_be_bytes());
            body.extend(u16::try_from(name.len()).expect("short").to_be_bytes());
            body.extend(name.as_bytes());
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut bytes = kind.to_be_bytes().to_vec();
        bytes.extend(u16::try_from(body.len()).expect("short").to_be_bytes());
        bytes.extend([0x21, 0x12, 0xa4, 0x42]);
        bytes.extend([transaction; 12]);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn a_stray_goes_to_its_owner_as_a_table() {
        let mut here = Neighbours::new(WorkerId(1), 3);
        here.learn(path(1), WorkerId(2));
        here.expect([7; 12], WorkerId(0));
        let answer = stun(0x0101, 7, None);
        let table = [
            ("a check that names another worker", 9, stun(1, 1, Some("Aann:x")), Some(WorkerId(0))),
            ("a check that names us, and nobody here", 9, stun(1, 1, Some("Bann:x")), None),
            ("a check that names a worker that is not there", 9, stun(1, 1, Some("Dann:x")), None),
            ("an answer by its path", 1, stun(0x0101, 1, None), Some(WorkerId(2))),
            ("an answer to a check of another, from anywhere", 9, answer.clone(), Some(WorkerId(0))),
            ("an answer to nobody", 9, stun(0x0101, 8, None), None),
            ("a request is no answer", 9, stun(1, 7, None), None),
            ("DTLS by its path", 1, vec![22; 64], Some(WorkerId(2))),
            ("DTLS from nowhere", 2, vec![22; 64], None),
            ("a report by its path", 1, [&[128, 200], &[0; 30][..]].concat(), Some(WorkerId(2))),
            ("garbage", 1, vec![255; 32], None),
        ];
        for (story, port, datagram, owner) in table {
            assert_eq!(here.owner(path(port), &datagram), owner, "{story}");
        }
        here.learn(path(1), WorkerId(0));
        assert_eq!(here.owner(path(1), &[22; 64]), Some(WorkerId(0)), "the newest proof wins");
        here.forget(path(1));
        assert_eq!(here.owner(path(1), &[22; 64]), None);
        let mut alone = Neighbours::new(WorkerId(0), 1);
        alone.learn(path(1), WorkerId(0));
        assert_eq!((alone.owner(path(1), &[22; 64]), alone.others().count()), (None, 0));
    }

    proptest! {
        #[test]
        fn memory_is_bounded_and_the_newest_are_remembered(names in proptest::collection::vec((0..64_u8, any::<bool>()), 0..400)) {
            let mut memory = Remembered::new(8);
            for (name, keep) in names {
                if keep {
                    memory.insert(name, WorkerId(name));
                    prop_assert_eq!(memory.get(&name), Some(WorkerId(name)));
                } else {
                    memory.remove(&name);
                    prop_assert_eq!(memory.get(&name), None);
                }
                prop_assert!(memory.owners.len() <= 8 && memory.order.len() <= 16);
            }
        }

        /// Workers of one process, each told what the others learn: every datagram reaches its session in one hop at most, from whichever
        /// worker the kernel gives its path to.
        #[test]
        fn every_datagram_reaches_its_session_in_one_hop(
            count in prop_oneof![Just(1_u8), Just(2), Just(8)],
            kernel in proptest::collection::vec(0..8_u8, 16),
            moves in proptest::collection::vec((0..16_u16, 0..8_u8), 1..120),
        ) {
            let mut workers: Vec<(Demux, Neighbours)> =
                (0..count).map(|own| (Demux::default(), Neighbours::new(WorkerId(own), count))).collect();
            let mut owners = HashMap::new();
            for (number, (port, owner)) in (0_u32..).zip(moves) {
                let (owner, via) = (owner % count, kernel[usize::from(port)] % count);
                let (ufrag, key) = (format!("{}{number}", WorkerId(owner).letter()), SessionKey(number));
                workers[usize::from(owner)].0.register(&ufrag, key);
                let check = stun(1, 1, Some(&format!("{ufrag}:peer")));
                prop_assert_eq!(find(&workers, via, port, &check), Some((owner, key)));
                // ICE accepts it: the owner learns the path, and tells the worker that it came by.
                let (demux, neighbours) = &mut workers[usize::from(owner)];
                demux.learn(path(port), key);
                neighbours.forget(path(port));
                if via != owner {
                    let (demux, neighbours) = &mut workers[usize::from(via)];
                    demux.cede(path(port));
                    neighbours.learn(path(port), WorkerId(owner));
                }
                owners.insert(port, (owner, key));
                for (port, owner) in &owners {
                    prop_assert_eq!(find(&workers, kernel[usize::from(*port)] % count, *port, &[22; 64]), Some(*owner));
                }
            }
        }
    }

    /// Where a datagram ends that the kernel gives to `via`.
    fn find(workers: &[(Demux, Neighbours)], via: u8, port: u16, datagram: &[u8]) -> Option<(u8, SessionKey)> {
        let (demux, neighbours) = &workers[usize::from(via)];
        if let Ok(key) = demux.route(path(port), datagram) {
            return Some((via, key));
        }
        let next = neighbours.owner(path(port), datagram)?.0;
        workers[usize::from(next)].0.route(path(port), datagram).ok().map(|key| (next, key))
    }
}

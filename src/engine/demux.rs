//! Which session a datagram belongs to. Pure and bounded; it answers nobody, and learns a path only when told that ICE accepted it.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::SocketAddr;

use str0m::net::Protocol;
use thiserror::Error;

use crate::wire::classify::{Class, classify};
use crate::wire::ids::SessionKey;
use crate::wire::stun::{self, StunClass};

/// The transport that a datagram came by.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Transport {
    /// The shared UDP socket.
    Udp,
    /// A framed TCP connection.
    Tcp,
    /// An outside TURN server's relayed address of ours. The same peer may be reached without it, by another path.
    Relayed,
}

impl Transport {
    /// As str0m calls it.
    #[must_use]
    pub fn protocol(self) -> Protocol {
        match self {
            Self::Udp | Self::Relayed => Protocol::Udp,
            Self::Tcp => Protocol::Tcp,
        }
    }
}

/// Where a peer's datagrams come from.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Path {
    /// By which transport.
    pub transport: Transport,
    /// The peer's address.
    pub remote: SocketAddr,
}

/// Why a datagram goes nowhere. Counted, never logged one by one, never answered.
#[derive(Clone, Copy, Debug, Eq, Error, Hash, Ord, PartialEq, PartialOrd)]
pub enum DropReason {
    /// No protocol that belongs here.
    #[error("garbage")]
    Garbage,
    /// STUN with a ufrag that is not of ours.
    #[error("unknown_ufrag")]
    UnknownUfrag,
    /// From an address that ICE has not accepted.
    #[error("unknown_source")]
    UnknownSource,
    /// The session's mailbox is full, or its worker's.
    #[error("mailbox_full")]
    MailboxFull,
    /// The session refused it: stale, malformed or not authentic.
    #[error("refused")]
    Refused,
}

impl DropReason {
    /// All of them, for counters.
    pub const ALL: [Self; 5] =
        [Self::Garbage, Self::UnknownUfrag, Self::UnknownSource, Self::MailboxFull, Self::Refused];
}

/// Paths of one session: each interface of a phone, twice over for address changes.
pub const PATHS_PER_SESSION: usize = 16;
/// Ufrags of one session: its own, and one more while a restart is under way.
pub const UFRAGS_PER_SESSION: usize = 2;

/// Checks of one session that wait for their answer: a first round over every pair of a dozen candidates.
pub const CHECKS_PER_SESSION: usize = 32;

/// The maps from names to sessions.
#[derive(Debug, Default)]
pub struct Demux {
    /// We draw the keys, strangers only look up.
    by_ufrag: HashMap<String, SessionKey>,
    /// Strangers choose the keys, but only those who passed an ICE check get in.
    by_path: HashMap<Path, SessionKey>,
    /// We draw the keys, and whoever names one was sent it: responses to checks whose path is not learnt yet.
    by_check: HashMap<[u8; 12], SessionKey>,
    /// What to forget when a session ends; its lists are the bounds of the three maps above.
    owned: HashMap<SessionKey, Owned>,
}

#[derive(Debug, Default)]
struct Owned {
    ufrags: VecDeque<String>,
    paths: VecDeque<Path>,
    checks: VecDeque<[u8; 12]>,
}

impl Demux {
    /// A ufrag of ours now names `key`; past the bound its oldest one goes.
    pub fn register(&mut self, ufrag: &str, key: SessionKey) {
        let name = ufrag.to_owned();
        claim(&mut self.by_ufrag, &mut self.owned, |owned| &mut owned.ufrags, UFRAGS_PER_SESSION, name, key);
    }

    /// ICE of `key` accepted a STUN message from `path`. The newest proof wins; past the bound the oldest path goes.
    pub fn learn(&mut self, path: Path, key: SessionKey) {
        claim(&mut self.by_path, &mut self.owned, |owned| &mut owned.paths, PATHS_PER_SESSION, path, key);
    }

    /// `key` sends a check with this transaction id to a path that has not been learnt; past the bound its oldest one goes.
    ///
    /// Without this the answer would be dropped whenever it overtakes the peer's own check, and ICE would ask again 250 ms later.
    pub fn expect(&mut self, transaction: [u8; 12], key: SessionKey) {
        claim(&mut self.by_check, &mut self.owned, |owned| &mut owned.checks, CHECKS_PER_SESSION, transaction, key);
    }

    /// Another worker has proof of `path` now, which is newer than ours.
    pub fn cede(&mut self, path: Path) {
        if let Some(key) = self.by_path.remove(&path)
            && let Some(owned) = self.owned.get_mut(&key)
        {
            owned.paths.retain(|known| *known != path);
        }
    }

    /// The session ended, or its `PeerConnection` did; returns the paths that led to it.
    pub fn forget(&mut self, key: SessionKey) -> VecDeque<Path> {
        let Some(Owned { ufrags, paths, checks }) = self.owned.remove(&key) else { return VecDeque::new() };
        for ufrag in &ufrags {
            self.by_ufrag.remove(ufrag);
        }
        for path in &paths {
            self.by_path.remove(path);
        }
        for check in &checks {
            self.by_check.remove(check);
        }
        paths
    }

    /// Whether `path` leads anywhere.
    #[must_use]
    pub fn knows(&self, path: Path) -> bool {
        self.by_path.contains_key(&path)
    }

    /// Whose `datagram` from `path` is.
    ///
    /// # Errors
    /// Why it is nobody's.
    pub fn route(&self, path: Path, datagram: &[u8]) -> Result<SessionKey, DropReason> {
        match classify(datagram) {
            Class::Stun => {
                let peek = stun::peek(datagram).ok_or(DropReason::Garbage)?;
                match peek.local_ufrag() {
                    Some(ufrag) => self.by_ufrag.get(ufrag).copied().ok_or(DropReason::UnknownUfrag),
                    // Responses carry no USERNAME: they come by a path that is known, or answer a check of ours. Whether they
                    // are authentic is for the session to say, as with all STUN.
                    None => self.by_path(path).or_else(|reason| match peek.class {
                        StunClass::Success | StunClass::Error => {
                            self.by_check.get(&peek.transaction).copied().ok_or(reason)
                        }
                        StunClass::Request | StunClass::Indication => Err(reason),
                    }),
                }
            }
            Class::Dtls | Class::Rtp | Class::Rtcp => self.by_path(path),
            Class::TurnChannel | Class::Unknown => Err(DropReason::Garbage),
        }
    }

    /// How many ufrags and paths are known.
    #[must_use]
    pub fn len(&self) -> (usize, usize) {
        (self.by_ufrag.len(), self.by_path.len())
    }

    /// How many checks wait for their answer.
    #[must_use]
    pub fn checks(&self) -> usize {
        self.by_check.len()
    }

    fn by_path(&self, path: Path) -> Result<SessionKey, DropReason> {
        self.by_path.get(&path).copied().ok_or(DropReason::UnknownSource)
    }
}

/// Makes `name` lead to `key`, and to nobody else; a session that has `most` names already loses its oldest.
fn claim<Name: Clone + Eq + Hash>(
    index: &mut HashMap<Name, SessionKey>,
    owned: &mut HashMap<SessionKey, Owned>,
    list: fn(&mut Owned) -> &mut VecDeque<Name>,
    most: usize,
    name: Name,
    key: SessionKey,
) {
    match index.insert(name.clone(), key) {
        Some(before) if before == key => return,
        Some(before) => {
            if let Some(theirs) = owned.get_mut(&before) {
                list(theirs).retain(|known| *known != name);
            }
        }
        None => {}
    }
    let names = list(owned.entry(key).or_default());
    if names.len() == most
        && let Some(oldest) = names.pop_front()
    {
        index.remove(&oldest);
    }
    names.push_back(name);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(port: u16) -> Path {
        Path { transport: Transport::Udp, remote: SocketAddr::from(([192, 0, 2, 1], port)) }
    }

    fn binding(username: Option<&str>) -> Vec<u8> {
        let mut body = Vec::new();
        if let Some(name) = username {
            body.extend(6_u16.to_be_bytes());
            body.extend(u16::try_from(name.len()).unwrap().to_be_bytes());
            body.extend(name.as_bytes());
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let kind: u16 = if username.is_some() { 0x0001 } else { 0x0101 };
        let mut bytes = kind.to_be_bytes().to_vec();
        bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend([0x21, 0x12, 0xa4, 0x42]);
        bytes.extend([7; 12]);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn the_front_door_as_a_table() {
        let (ann, bob) = (SessionKey(1), SessionKey(2));
        let mut demux = Demux::default();
        demux.register("ann0", ann);
        demux.register("bob0", bob);
        demux.learn(path(1), ann);
        let dtls = [22; 64];
        let rtp = [&[128, 111], &[0; 30][..]].concat();
        let report = [&[128, 200], &[0; 30][..]].concat();
        let table = [
            ("a check by its ufrag", binding(Some("ann0:x")), 9, Ok(ann)),
            ("a check by its ufrag, not by its path", binding(Some("bob0:x")), 1, Ok(bob)),
            ("a check with a stranger's ufrag", binding(Some("eve0:x")), 1, Err(DropReason::UnknownUfrag)),
            ("a check without a colon goes by path", binding(Some("ann0")), 9, Err(DropReason::UnknownSource)),
            ("a response by its path", binding(None), 1, Ok(ann)),
            ("a response from nowhere", binding(None), 2, Err(DropReason::UnknownSource)),
            ("DTLS by its path", dtls.to_vec(), 1, Ok(ann)),
            ("DTLS from nowhere", dtls.to_vec(), 2, Err(DropReason::UnknownSource)),
            ("RTP by its path", rtp, 1, Ok(ann)),
            ("RTCP by its path", report, 1, Ok(ann)),
            ("channel data", vec![0x40; 32], 1, Err(DropReason::Garbage)),
            ("nothing", vec![], 1, Err(DropReason::Garbage)),
        ];
        for (story, datagram, port, expected) in table {
            assert_eq!(demux.route(path(port), &datagram), expected, "{story}");
        }
        for transport in [Transport::Tcp, Transport::Relayed] {
            let other = Path { transport, ..path(1) };
            assert_eq!(demux.route(other, &dtls), Err(DropReason::UnknownSource), "another transport is another path");
        }
        demux.forget(ann);
        assert_eq!(demux.route(path(1), &dtls), Err(DropReason::UnknownSource));
        assert_eq!(demux.route(path(9), &binding(Some("ann0:x"))), Err(DropReason::UnknownUfrag));
        assert_eq!(demux.len(), (1, 0));
    }

    #[test]
    fn an_answer_to_our_check_finds_its_session_from_anywhere() {
        let mut demux = Demux::default();
        let answer = binding(None);
        assert_eq!(demux.route(path(3), &answer), Err(DropReason::UnknownSource));
        demux.expect([7; 12], SessionKey(1));
        assert_eq!(demux.route(path(3), &answer), Ok(SessionKey(1)));
        let mut request = answer.clone();
        request[0] = 0;
        assert_eq!(demux.route(path(3), &request), Err(DropReason::UnknownSource), "only an answer");
        assert_eq!(demux.route(path(3), &[22; 64]), Err(DropReason::UnknownSource), "the path is not learnt by it");
        demux.learn(path(3), SessionKey(2));
        assert_eq!(demux.route(path(3), &answer), Ok(SessionKey(2)), "a path that is known comes first");
        demux.forget(SessionKey(1));
        assert_eq!((demux.len(), demux.checks()), ((0, 1), 0));
    }

    #[test]
    fn a_path_goes_to_its_newest_proof_and_stays_when_the_old_owner_goes() {
        let mut demux = Demux::default();
        demux.learn(path(1), SessionKey(1));
        demux.learn(path(1), SessionKey(2));
        demux.forget(SessionKey(1));
        assert_eq!(demux.route(path(1), &[22; 64]), Ok(SessionKey(2)));
    }

    #[derive(Clone, Debug)]
    enum Op {
        Register(u8, u32),
        Learn(u16, u32),
        Expect(u8, u32),
        Cede(u16),
        Forget(u32),
        Route(u16, Vec<u8>),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (any::<u8>(), 0..6_u32).prop_map(|(ufrag, key)| Op::Register(ufrag, key)),
            (0..200_u16, 0..6_u32).prop_map(|(port, key)| Op::Learn(port, key)),
            (any::<u8>(), 0..6_u32).prop_map(|(check, key)| Op::Expect(check, key)),
            (0..200_u16).prop_map(Op::Cede),
            (0..6_u32).prop_map(Op::Forget),
            (0..200_u16, proptest::collection::vec(any::<u8>(), 0..80))
                .prop_map(|(port, bytes)| Op::Route(port, bytes)),
        ]
    }

    proptest! {
        #[test]
        fn it_never_outgrows_its_bounds_and_never_routes_to_the_gone(ops in proptest::collection::vec(op(), 0..400)) {
            let mut demux = Demux::default();
            let mut live = std::collections::HashSet::new();
            for op in ops {
                match op {
                    Op::Register(ufrag, key) => { demux.register(&format!("{key}-{ufrag}"), SessionKey(key)); live.insert(SessionKey(key)); }
                    Op::Learn(port, key) => { demux.learn(path(port), SessionKey(key)); live.insert(SessionKey(key)); }
                    Op::Expect(check, key) => { demux.expect([check; 12], SessionKey(key)); live.insert(SessionKey(key)); }
                    Op::Cede(port) => { demux.cede(path(port)); prop_assert!(demux.route(path(port), &[22; 64]).is_err()); }
                    Op::Forget(key) => { demux.forget(SessionKey(key)); live.remove(&SessionKey(key)); }
                    Op::Route(port, bytes) => if let Ok(key) = demux.route(path(port), &bytes) { prop_assert!(live.contains(&key)); }
                }
                let (ufrags, paths) = demux.len();
                prop_assert!(demux.checks() <= live.len() * CHECKS_PER_SESSION);
                prop_assert!(ufrags <= live.len() * UFRAGS_PER_SESSION && paths <= live.len() * PATHS_PER_SESSION);
                prop_assert_eq!(demux.owned.values().map(|owned| owned.paths.len()).sum::<usize>(), paths);
                prop_assert_eq!(demux.owned.values().map(|owned| owned.ufrags.len()).sum::<usize>(), ufrags);
            }
            for key in live { demux.forget(key); }
            prop_assert_eq!((demux.len(), demux.checks()), ((0, 0), 0));
        }
    }
}

//! Rooms: who is in which, who may send whom what, and what the others are told. It sees names and keys only: neither sockets nor what is
//! in the messages that it passes on, and it keeps nothing of a room that is empty.

mod door;

use std::collections::HashMap;
use std::net::IpAddr;

use crate::wire::ids::{MemberKey, SessionId};
use crate::wire::names::{RoomName, UserName};
use crate::wire::signal::{Join, Leave, Parcel, RoomMsg, RoomWord, SignalFault};

use super::access::ClientAddr;

pub use door::{RoomDoor, RoomDoorEffect};

/// How much there may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RoomLimits {
    /// People in one room.
    pub size: u32,
    /// Rooms.
    pub rooms: u32,
    /// Rooms that came to be from one address, or from one IPv6 network of a customer.
    pub per_address: u32,
}

/// Somebody's connection did something.
#[derive(Debug)]
pub enum RoomInput {
    /// It said this.
    Said {
        /// What.
        message: RoomMsg,
        /// From where.
        addr: ClientAddr,
    },
    /// It ended.
    Gone,
}

/// What the driver is to do, in this order.
#[derive(Debug, PartialEq)]
pub enum RoomEffect {
    /// Tell a connection that it is in a room. The ICE servers are the driver's, who knows them.
    Joined {
        /// Which.
        to: MemberKey,
        /// Who is there already.
        peers: Vec<UserName>,
        /// Proves that the place is its own.
        session: SessionId,
    },
    /// Send a connection this.
    Say {
        /// Which.
        to: MemberKey,
        /// A message.
        text: String,
    },
    /// Close a connection without a word to anybody: its user has another one.
    Replaced(MemberKey),
}

/// All rooms.
#[derive(Debug)]
pub struct Rooms {
    limits: RoomLimits,
    /// Fills bytes from a cryptographic source.
    entropy: fn(&mut [u8]),
    /// Nobody is in here without a connection and no room without anybody, so connections bound it.
    by_name: HashMap<RoomName, Room>,
    members: HashMap<MemberKey, RoomName>,
    /// Rooms by where they came to be from; none is in here with no room.
    opened: HashMap<IpAddr, u32>,
}

#[derive(Debug)]
struct Room {
    /// Never empty, in the order in which they came. Few enough to be looked through.
    members: Vec<Member>,
    opener: IpAddr,
}

#[derive(Debug)]
struct Member {
    key: MemberKey,
    user: UserName,
    session: SessionId,
}

/// How a join that may be is to be done.
enum Entry {
    /// A place of its own; in the room as it will be then.
    New,
    /// The user's place, which another connection has.
    Again(MemberKey),
}

impl Rooms {
    /// None yet; `entropy` fills bytes from a cryptographic source.
    #[must_use]
    pub fn new(limits: RoomLimits, entropy: fn(&mut [u8])) -> Self {
        Self { limits, entropy, by_name: HashMap::new(), members: HashMap::new(), opened: HashMap::new() }
    }

    /// One thing happens; what comes of it is added to `effects`.
    pub fn handle(&mut self, from: MemberKey, input: RoomInput, effects: &mut Vec<RoomEffect>) {
        let RoomInput::Said { message, addr } = input else { return self.leave(from, effects) };
        let done = match message {
            RoomMsg::Join(join) => self.join(from, &join, addr, effects),
            _ if !self.members.contains_key(&from) => Err(SignalFault::NoRoom),
            RoomMsg::Pass(parcel) => self.pass(from, parcel, effects),
            RoomMsg::Leave(Leave { room_id }) => self.leave_room(from, &room_id, effects),
            RoomMsg::Unreadable(fault) => Err(fault),
        };
        if let Err(fault) = done {
            say(effects, from, &RoomWord::from(&fault));
        }
    }

    /// How many rooms there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// How many people are in rooms.
    #[must_use]
    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// Whether nothing is kept of anybody.
    #[cfg(test)]
    pub(crate) fn is_bare(&self) -> bool {
        self.by_name.is_empty() && self.members.is_empty() && self.opened.is_empty()
    }

    /// Refused, it changes nothing.
    fn join(
        &mut self,
        key: MemberKey,
        join: &Join,
        addr: ClientAddr,
        effects: &mut Vec<RoomEffect>,
    ) -> Result<(), SignalFault> {
        match self.entry(key, join, addr)? {
            Entry::Again(old) => {
                if old != key {
                    // Whatever room the new connection was in, it is not there any more.
                    self.leave(key, effects);
                    self.members.remove(&old);
                    self.members.insert(key, join.room_id.clone());
                    effects.push(RoomEffect::Replaced(old));
                }
                let Some(room) = self.by_name.get_mut(&join.room_id) else { return Err(SignalFault::Internal) };
                if let Some(place) = room.members.iter_mut().find(|member| member.user == join.user_id) {
                    place.key = key;
                    let session = place.session;
                    effects.push(RoomEffect::Joined { to: key, peers: room.others(key), session });
                }
            }
            Entry::New => {
                self.leave(key, effects);
                let mut random = [0; 16];
                (self.entropy)(&mut random);
                let session = SessionId::from_random(random);
                let opened = &mut self.opened;
                let room = self.by_name.entry(join.room_id.clone()).or_insert_with(|| {
                    *opened.entry(addr.prefix()).or_default() += 1;
                    Room { members: Vec::new(), opener: addr.prefix() }
                });
                effects.push(RoomEffect::Joined { to: key, peers: room.others(key), session });
                let user = join.user_id.clone();
                room.tell(&RoomWord::PeerJoined { peer_id: user.clone() }, effects);
                room.members.push(Member { key, user, session });
                self.members.insert(key, join.room_id.clone());
            }
        }
        Ok(())
    }

    /// Whether and how somebody may come in. What it leaves by that counts as left.
    fn entry(&self, key: MemberKey, join: &Join, addr: ClientAddr) -> Result<Entry, SignalFault> {
        let Some(room) = self.by_name.get(&join.room_id) else {
            let left =
                self.members.get(&key).and_then(|name| self.by_name.get(name)).filter(|room| room.members.len() == 1);
            let here = |room: &&Room| room.opener == addr.prefix();
            let opened = self.opened.get(&addr.prefix()).copied().unwrap_or_default();
            let rooms = self.by_name.len() - usize::from(left.is_some());
            return if rooms >= self.limits.rooms as usize {
                Err(SignalFault::OverCapacity("the server has all the rooms that it may have"))
            } else if opened - u32::from(left.as_ref().is_some_and(here)) >= self.limits.per_address {
                Err(SignalFault::OverCapacity("there are too many rooms from your address"))
            } else {
                Ok(Entry::New)
            };
        };
        if let Some(there) = room.members.iter().find(|member| member.user == join.user_id) {
            let presented = join.session.as_deref().and_then(|session| session.parse::<SessionId>().ok());
            return match presented {
                Some(session) if session.matches(&there.session) => Ok(Entry::Again(there.key)),
                // Its own place, from which it goes.
                None if there.key == key => Ok(Entry::New),
                _ => Err(SignalFault::Taken(join.user_id.as_str().to_owned())),
            };
        }
        let others = room.members.iter().filter(|member| member.key != key).count();
        if others >= self.limits.size as usize { Err(SignalFault::RoomFull) } else { Ok(Entry::New) }
    }

    fn pass(&self, from: MemberKey, parcel: Parcel, effects: &mut Vec<RoomEffect>) -> Result<(), SignalFault> {
        let room = self.members.get(&from).and_then(|name| self.by_name.get(name)).ok_or(SignalFault::NoRoom)?;
        let find = |is: &dyn Fn(&Member) -> bool| room.members.iter().find(|member| is(member));
        let sender = find(&|member| member.key == from).ok_or(SignalFault::Internal)?;
        let unknown = || SignalFault::UnknownPeer(parcel.to.as_str().to_owned());
        let to = find(&|member| member.user == parcel.to && member.key != from).ok_or_else(unknown)?.key;
        effects.push(RoomEffect::Say { to, text: parcel.from(&sender.user) });
        Ok(())
    }

    fn leave_room(
        &mut self,
        key: MemberKey,
        room: &RoomName,
        effects: &mut Vec<RoomEffect>,
    ) -> Result<(), SignalFault> {
        if self.members.get(&key) != Some(room) {
            return Err(SignalFault::NotInRoom(room.as_str().to_owned()));
        }
        self.leave(key, effects);
        Ok(())
    }

    fn leave(&mut self, key: MemberKey, effects: &mut Vec<RoomEffect>) {
        let Some(name) = self.members.remove(&key) else { return };
        let Some(room) = self.by_name.get_mut(&name) else { return };
        if let Some(place) = room.members.iter().position(|member| member.key == key) {
            let Member { user, .. } = room.members.remove(place);
            room.tell(&RoomWord::PeerLeft { peer_id: user }, effects);
        }
        if room.members.is_empty() {
            let opener = room.opener;
            self.by_name.remove(&name);
            if let Some(opened) = self.opened.get_mut(&opener) {
                *opened -= 1;
                if *opened == 0 {
                    self.opened.remove(&opener);
                }
            }
        }
    }
}

impl Room {
    fn others(&self, key: MemberKey) -> Vec<UserName> {
        self.members.iter().filter(|member| member.key != key).map(|member| member.user.clone()).collect()
    }

    fn tell(&self, word: &RoomWord, effects: &mut Vec<RoomEffect>) {
        if !self.members.is_empty() {
            let text = word.to_json();
            effects.extend(self.members.iter().map(|member| RoomEffect::Say { to: member.key, text: text.clone() }));
        }
    }
}

fn say(effects: &mut Vec<RoomEffect>, to: MemberKey, word: &RoomWord) {
    effects.push(RoomEffect::Say { to, text: word.to_json() });
}

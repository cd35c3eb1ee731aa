//! Rooms on no clock and no socket: every short story of joins, leaves, drops, returns and strangers' sends, and many long ones, each held
//! against a second telling of the rules that is as plain as they are.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::engine::access::ClientAddr;
use crate::engine::room::{RoomEffect, RoomInput, RoomLimits, Rooms};
use crate::wire::ids::{MemberKey, SessionId};
use crate::wire::names::{RoomName, UserName};
use crate::wire::signal::{IceServer, Join, Leave, RoomMsg, RoomWord, SignalFault};

const ROOMS: [&str; 3] = ["red", "blue", "green"];
const USERS: [&str; 3] = ["ann", "bob", "cid"];
const LIMITS: RoomLimits = RoomLimits { size: 2, rooms: 2, per_address: 1 };

/// Not random: each is another one.
fn counted(bytes: &mut [u8]) {
    thread_local!(static NEXT: Cell<u64> = const { Cell::new(1) });
    let next = NEXT.replace(NEXT.get() + 1);
    bytes[..8].copy_from_slice(&next.to_be_bytes());
}

fn addr(socket: usize) -> ClientAddr {
    ClientAddr::new([192, 0, 2, u8::from(socket > 1)].into())
}

/// What happens. Sockets, rooms and users are places in their lists.
#[derive(Clone, Copy, Debug)]
enum Op {
    Join {
        socket: usize,
        room: usize,
        user: usize,
        proof: Proof,
    },
    Leave {
        socket: usize,
        room: usize,
    },
    Pass {
        socket: usize,
        to: usize,
    },
    /// The connection breaks, and another one takes its place.
    Drop {
        socket: usize,
    },
}

/// The session in a join.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Proof {
    None,
    /// The last one that was given for this place.
    Known,
    Wrong,
}

/// Somebody in a room, as the plain rules see it.
#[derive(Clone, Debug)]
struct Occupant {
    key: MemberKey,
    room: usize,
    user: usize,
    session: SessionId,
    opener: ClientAddr,
}

struct World {
    rooms: Rooms,
    sockets: Vec<MemberKey>,
    next: u64,
    occupants: Vec<Occupant>,
    /// The last session given for a place, also of one that is empty now.
    sessions: BTreeMap<(usize, usize), SessionId>,
}

/// What everybody is told, each in order. `joined` stands for the session, which only the rooms can draw.
type Told = BTreeMap<MemberKey, Vec<Value>>;

impl World {
    fn new(sockets: u64) -> Self {
        let rooms = Rooms::new(LIMITS, counted);
        let sockets: Vec<_> = (0..sockets).map(MemberKey).collect();
        let next = sockets.len() as u64;
        Self { rooms, sockets, next, occupants: Vec::new(), sessions: BTreeMap::new() }
    }

    fn others(&self, room: usize, key: MemberKey) -> impl Iterator<Item = &Occupant> {
        self.occupants.iter().filter(move |there| there.room == room && there.key != key)
    }

    /// Somebody's place is empty from now on.
    fn vacate(&mut self, key: MemberKey, told: &mut Told) {
        if let Some(place) = self.occupants.iter().position(|there| there.key == key) {
            let left = self.occupants.remove(place);
            for other in self.others(left.room, key) {
                told.entry(other.key).or_default().push(json!({"type": "peer-left", "peerId": USERS[left.user]}));
            }
        }
    }

    /// The rules of a join, told once more; an error's code, or what everybody is told.
    fn join(
        &mut self,
        socket: usize,
        room: usize,
        user: usize,
        session: Option<SessionId>,
    ) -> Result<Told, &'static str> {
        let key = self.sockets[socket];
        let mut told = Told::new();
        let owner = self.occupants.iter().find(|there| there.room == room && there.user == user).cloned();
        let peers = |world: &Self| world.others(room, key).map(|there| USERS[there.user]).collect::<Vec<_>>();
        if let Some(owner) = owner.clone()
            && session == Some(owner.session)
        {
            if owner.key != key {
                self.vacate(key, &mut told);
                told.entry(owner.key).or_default().push(json!("replaced"));
                self.occupants.iter_mut().filter(|there| there.key == owner.key).for_each(|there| there.key = key);
            }
            told.entry(key).or_default().push(json!({"joined": peers(self), "again": true}));
            return Ok(told);
        }
        if owner.is_some_and(|owner| owner.key != key || session.is_some()) {
            return Err("taken");
        }
        let mut after = self.occupants.clone();
        after.retain(|there| there.key != key);
        let inside = after.iter().filter(|there| there.room == room).count();
        let rooms = |of: &dyn Fn(&&Occupant) -> bool| {
            let mut rooms: Vec<_> = after.iter().filter(of).map(|there| there.room).collect();
            rooms.sort_unstable();
            rooms.dedup();
            rooms.len()
        };
        if inside >= 2 {
            return Err("room_full");
        }
        // Its own room counts as left also where it is the one that it comes back to.
        let exists = self.occupants.iter().any(|there| there.room == room);
        if !exists && (rooms(&|_| true) >= 2 || rooms(&|there| there.opener == addr(socket)) >= 1) {
            return Err("over_capacity");
        }
        self.vacate(key, &mut told);
        told.entry(key).or_default().push(json!({"joined": peers(self), "again": false}));
        let opener = self.others(room, key).next().map_or(addr(socket), |there| there.opener);
        for other in self.others(room, key) {
            told.entry(other.key).or_default().push(json!({"type": "peer-joined", "peerId": USERS[user]}));
        }
        let session = SessionId::from_random([0; 16]);
        self.occupants.push(Occupant { key, room, user, session, opener });
        Ok(told)
    }

    fn pass(&self, socket: usize, to: usize) -> Result<Told, &'static str> {
        let key = self.sockets[socket];
        let sender = self.occupants.iter().find(|there| there.key == key).ok_or("not_in_room")?;
        let to = self.others(sender.room, key).find(|there| there.user == to).ok_or("unknown_peer")?;
        Ok(Told::from([(to.key, vec![offer(USERS[to.user], Some(USERS[sender.user]))])]))
    }

    fn leave(&mut self, socket: usize, room: usize) -> Result<Told, &'static str> {
        let key = self.sockets[socket];
        self.occupants.iter().find(|there| there.key == key && there.room == room).ok_or("not_in_room")?;
        let mut told = Told::new();
        self.vacate(key, &mut told);
        Ok(told)
    }

    /// Does it, and holds what comes of it against the rules.
    fn step(&mut self, op: Op) {
        let (socket, message, expected) = match op {
            Op::Join { socket, room, user, proof } => {
                let session = match proof {
                    Proof::None => None,
                    Proof::Known => self.sessions.get(&(room, user)).copied(),
                    Proof::Wrong => Some(SessionId::from_random([0xff; 16])),
                };
                let mut join = json!({"type": "join", "roomId": ROOMS[room], "userId": USERS[user]});
                if let Some(session) = session {
                    join["session"] = session.to_string().into();
                }
                (socket, Some(join), self.join(socket, room, user, session))
            }
            Op::Leave { socket, room } => {
                (socket, Some(json!({"type": "leave", "roomId": ROOMS[room]})), self.leave(socket, room))
            }
            Op::Pass { socket, to } => (socket, Some(offer(USERS[to], None)), self.pass(socket, to)),
            Op::Drop { socket } => {
                let mut told = Told::new();
                self.vacate(self.sockets[socket], &mut told);
                (socket, None, Ok(told))
            }
        };
        let key = self.sockets[socket];
        let input = match message {
            Some(message) => RoomInput::Said {
                message: RoomMsg::parse(&message.to_string()).expect("a message"),
                addr: addr(socket),
            },
            None => RoomInput::Gone,
        };
        let told = self.told(key, input);
        match expected {
            Ok(expected) => assert_eq!(told, expected, "{op:?}"),
            Err(code) => {
                let [error] = &told[&key][..] else { panic!("{op:?}: {told:?}") };
                assert_eq!((error["code"].as_str(), told.len()), (Some(code), 1), "{op:?}");
            }
        }
        if let Op::Drop { socket } = op {
            self.sockets[socket] = MemberKey(self.next);
            self.next += 1;
        }
        assert_eq!(self.rooms.members(), self.occupants.len());
        let mut rooms: Vec<_> = self.occupants.iter().map(|there| there.room).collect();
        rooms.sort_unstable();
        rooms.dedup();
        assert_eq!(self.rooms.len(), rooms.len());
    }

    fn told(&mut self, key: MemberKey, input: RoomInput) -> Told {
        let mut effects = Vec::new();
        self.rooms.handle(key, input, &mut effects);
        let mut told = Told::new();
        for effect in effects {
            let (to, word) = match effect {
                RoomEffect::Say { to, text } => (to, serde_json::from_str(&text).expect("JSON")),
                RoomEffect::Replaced(old) => (old, json!("replaced")),
                RoomEffect::Joined { to, peers, session } => {
                    let own = self.occupants.iter_mut().find(|there| there.key == to).expect("it is in");
                    let again = own.session == session;
                    assert!(again || !self.sessions.values().any(|known| *known == session), "a session of its own");
                    own.session = session;
                    self.sessions.insert((own.room, own.user), session);
                    (to, json!({"joined": peers, "again": again}))
                }
            };
            told.entry(to).or_default().push(word);
        }
        told
    }

    /// Everybody goes, and nothing is left.
    fn end(mut self) {
        for socket in 0..self.sockets.len() {
            self.step(Op::Drop { socket });
        }
        assert!(self.rooms.is_empty() && self.rooms.is_bare(), "{:?}", self.rooms);
    }
}

fn offer(to: &str, from: Option<&str>) -> Value {
    let mut offer = json!({"type": "offer", "to": to, "sdp": {"type": "offer", "sdp": "v=0\r\n"}});
    if let Some(from) = from {
        offer["from"] = from.into();
    }
    offer
}

/// Everything that may happen to so many sockets, rooms and users.
fn ops(sockets: usize, rooms: usize, users: usize, proofs: &[Proof]) -> Vec<Op> {
    let mut ops = Vec::new();
    for socket in 0..sockets {
        ops.push(Op::Drop { socket });
        ops.extend((0..users).map(|to| Op::Pass { socket, to }));
        for room in 0..rooms {
            ops.push(Op::Leave { socket, room });
            for user in 0..users {
                ops.extend(proofs.iter().map(|proof| Op::Join { socket, room, user, proof: *proof }));
            }
        }
    }
    ops
}

#[test]
fn every_short_story_goes_by_the_rules() {
    let ops = ops(2, 2, 2, &[Proof::None, Proof::Known]);
    let first = ops.iter().filter(|op| matches!(op, Op::Join { socket: 0, room: 0, user: 0, proof: Proof::None }));
    for a in first {
        for b in &ops {
            for c in &ops {
                for d in &ops {
                    let mut world = World::new(2);
                    for op in [a, b, c, d] {
                        world.step(*op);
                    }
                    world.end();
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn long_stories_do_too(story in proptest::collection::vec(proptest::sample::select(ops(4, 3, 3, &[Proof::None, Proof::Known, Proof::Wrong])), 1..60)) {
        let mut world = World::new(4);
        for op in story {
 world.step(op);
 }
        world.end();
    }
}

/// Says it, and gives what the sockets are told.
fn said(world: &mut World, socket: usize, message: &Value) -> Told {
    let message = RoomMsg::parse(&message.to_string()).expect("a message");
    let mut effects = Vec::new();
    world.rooms.handle(world.sockets[socket], RoomInput::Said { message, addr: addr(socket) }, &mut effects);
    let mut told = Told::new();
    for effect in effects {
        if let RoomEffect::Say { to, text } = effect {
            told.entry(to).or_default().push(serde_json::from_str(&text).expect("JSON"));
        }
    }
    told
}

#[test]
fn before_a_join_all_else_is_answered_alike_and_after_it_told_apart() {
    let mut world = World::new(1);
    let words = [
        (json!({"type": "dance"}), "Unknown type: dance"),
        (json!({"type": "leave"}), "Invalid message: missing field `roomId` at line 1 column 16"),
        (json!({"type": "leave", "roomId": "blue"}), "Not in this room: blue"),
        (offer("bob", None), "No such peer: bob"),
        (offer("ann", None), "No such peer: ann"),
    ];
    let text = |told: &Told| told[&MemberKey(0)][0]["message"].as_str().expect("an error").to_owned();
    for (message, _) in &words {
        assert_eq!(text(&said(&mut world, 0, message)), "Must join a room first", "{message}");
    }
    world.step(Op::Join { socket: 0, room: 0, user: 0, proof: Proof::None });
    for (message, expected) in &words {
        assert_eq!(text(&said(&mut world, 0, message)), *expected, "{message}");
    }
    world.step(Op::Leave { socket: 0, room: 0 });
    for (message, _) in &words {
        assert_eq!(text(&said(&mut world, 0, message)), "Must join a room first", "{message}");
    }
}

fn user(name: &str) -> UserName {
    UserName::try_from(name).expect("a name")
}

fn golden(text: &str) -> BTreeMap<String, Value> {
    serde_json::from_str(text).expect("golden files are JSON")
}

#[test]
fn every_golden_message_of_a_member_is_read_as_it_was_meant() {
    let golden = golden(include_str!("golden/room-client.json"));
    let room_id = RoomName::try_from("blue").expect("a name");
    let join = Join { room_id: room_id.clone(), user_id: user("ann"), token: None, session: None };
    let token = Some("secret-token".to_owned());
    let session = Some("000102030405060708090a0b0c0d0e0f".to_owned());
    for (name, message) in golden {
        let read = RoomMsg::parse(&message.to_string()).expect("a message");
        match name.as_str() {
            "join" => assert_eq!(read, RoomMsg::Join(join.clone())),
            "join_token" => {
                let join = Join { token: token.clone(), session: session.clone(), ..join.clone() };
                assert_eq!(read, RoomMsg::Join(join));
                assert!(!format!("{read:?}").contains("secret") && !format!("{read:?}").contains("0001"));
            }
            "rejoin" => assert_eq!(read, RoomMsg::Join(Join { session: session.clone(), ..join.clone() })),
            "leave" => assert_eq!(read, RoomMsg::Leave(Leave { room_id: room_id.clone() })),
            "offer" | "answer" | "ice-candidate" => {
                let RoomMsg::Pass(parcel) = read else { panic!("{name}: {read:?}") };
                assert_eq!(parcel.to, user("bob"));
                let mut expected = message;
                expected["from"] = "ann".into();
                let passed: Value = serde_json::from_str(&parcel.from(&user("ann"))).expect("JSON");
                assert_eq!(passed, expected);
            }
            other => panic!("{other} wants a line here"),
        }
    }
}

#[test]
fn every_golden_message_to_a_member_is_what_it_says() {
    let turn = IceServer {
        urls: vec!["turn:192.0.2.1:3478".into()],
        username: Some("1700000000:me".into()),
        credential: Some("c2VjcmV0".into()),
    };
    let stun = IceServer { urls: vec!["stun:192.0.2.2:3478".into()], username: None, credential: None };
    let session = "000102030405060708090a0b0c0d0e0f".to_owned();
    let peers = vec![user("bob"), user("Cid Müller")];
    let words = [
        ("room-joined", RoomWord::RoomJoined { peers, ice_servers: vec![turn, stun], session }),
        ("peer-joined", RoomWord::PeerJoined { peer_id: user("bob") }),
        ("peer-left", RoomWord::PeerLeft { peer_id: user("bob") }),
        ("error", (&SignalFault::RoomFull).into()),
    ];
    let golden = golden(include_str!("golden/room-server.json"));
    for (name, word) in &words {
        let json: Value = serde_json::from_str(&word.to_json()).expect("JSON");
        assert_eq!(json, golden[*name], "{name}");
    }
    let others: BTreeSet<&str> = golden.keys().map(String::as_str).collect();
    let own: BTreeSet<&str> = words.iter().map(|(name, _)| *name).collect();
    assert_eq!(others.difference(&own).copied().collect::<Vec<_>>(), ["answer", "ice-candidate", "offer"], "passed on");
    assert!(!format!("{:?}", words[0].1).contains("c2Vj") && !format!("{:?}", words[0].1).contains("0001"));
}

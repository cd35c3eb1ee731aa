//! Trust boundary: what members of rooms say. Each line of the input is a text frame, its first byte says who sends it. Nothing is passed out
//! of a room, under another's name or with anything changed, and nothing is left of rooms that all have left.
#![no_main]

use std::cell::Cell;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use voxcast::engine::access::ClientAddr;
use voxcast::engine::room::{RoomEffect, RoomInput, RoomLimits, Rooms};
use voxcast::wire::ids::MemberKey;
use voxcast::wire::signal::{RoomMsg, RoomWord};

const MEMBERS: u8 = 4;
const LIMITS: RoomLimits = RoomLimits { size: 3, rooms: 2, per_address: 2 };
/// Longest error message: the fault's own words and a name, escaped twice.
const LONGEST_ERROR: usize = 2_048;

fn counted(bytes: &mut [u8]) {
    thread_local!(static NEXT: Cell<u64> = const { Cell::new(1) });
    let next = NEXT.replace(NEXT.get() + 1);
    bytes[..8].copy_from_slice(&next.to_be_bytes());
}

fuzz_target!(|text: &str| {
    let mut rooms = Rooms::new(LIMITS, counted);
    let mut places: [Option<(String, String)>; MEMBERS as usize] = Default::default();
    let addr = ClientAddr::new([192, 0, 2, 1].into());
    for line in text.lines() {
        let Some(first) = line.chars().next() else { continue };
        let from = MemberKey(u64::from(first) % u64::from(MEMBERS));
        let frame = &line[first.len_utf8()..];
        let input = match RoomMsg::parse(frame) {
            _ if frame.is_empty() => RoomInput::Gone,
            Ok(message) => RoomInput::Said { message, addr },
            Err(fault) => {
                let error = RoomWord::from(&fault).to_json();
                assert!(error.len() < LONGEST_ERROR, "{} bytes", error.len());
                continue;
            }
        };
        let (gone, joins) = match &input {
            RoomInput::Gone => (true, None),
            RoomInput::Said { message: RoomMsg::Join(join), .. } => {
                (false, Some((join.room_id.as_str().to_owned(), join.user_id.as_str().to_owned())))
            }
            RoomInput::Said { .. } => (false, None),
        };
        let left = matches!(&input, RoomInput::Said { message: RoomMsg::Leave(leave), .. }
            if places[place(from)].as_ref().is_some_and(|(room, _)| room == leave.room_id.as_str()));
        let mut effects = Vec::new();
        rooms.handle(from, input, &mut effects);
        let before = places.clone();
        if gone || left {
            places[place(from)] = None;
        }
        for effect in &effects {
            match effect {
                RoomEffect::Joined { to, .. } => {
                    assert_eq!(*to, from);
                    places[place(from)].clone_from(&joins);
                }
                RoomEffect::Replaced(old) => places[place(*old)] = None,
                RoomEffect::Say { to, text } => said(frame, (from, *to), text, &before),
            }
        }
        let inside = places.iter().flatten().count();
        assert_eq!(rooms.members(), inside);
        assert!(rooms.len() <= LIMITS.rooms as usize);
    }
    for key in (0..MEMBERS).map(u64::from).map(MemberKey) {
        rooms.handle(key, RoomInput::Gone, &mut Vec::new());
    }
    assert!(rooms.is_empty() && rooms.members() == 0);
});

fn place(key: MemberKey) -> usize {
    usize::try_from(key.0).expect("there are few")
}

/// What is passed on is what came, from whom it came, within a room.
fn said(frame: &str, (from, to): (MemberKey, MemberKey), text: &str, places: &[Option<(String, String)>]) {
    let word: Value = serde_json::from_str(text).expect("what is sent is JSON");
    match word["type"].as_str().expect("a type") {
        "error" => assert!(to == from && text.len() < LONGEST_ERROR),
        "peer-joined" | "peer-left" => assert_ne!(to, from),
        _ => {
            let (sender, receiver) = (places[place(from)].as_ref(), places[place(to)].as_ref());
            let ((room, user), (other, name)) = sender.zip(receiver).expect("both are in a room");
            assert!(room == other && from != to);
            assert_eq!((word["from"].as_str(), word["to"].as_str()), (Some(user.as_str()), Some(name.as_str())));
            // Numbers and lone surrogates that only some parsers take are passed as well: compared where ours does.
            if let Ok(Value::Object(mut said)) = serde_json::from_str(frame) {
                said.insert("from".into(), user.as_str().into());
                assert_eq!(Value::Object(said), word);
            }
        }
    }
}

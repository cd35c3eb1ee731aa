//! `GET /signal` on real sockets: who is let in, what is passed on and to whom, what closes, and that nobody waits for a slow one.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::client::{Socket, error_of, fragment};
use super::http::metric;
use super::server::{Server, TOKEN, await_that, run};

/// `bearer.` and the token of the tests.
const BEARER: &str = "voxcast, bearer.YS10b2tlbi1mb3ItdGVzdHM";
const PROTOCOL: &str = "sec-websocket-protocol";

fn open(server: &Server) -> Socket {
    Socket::open_at(server.http, "/signal", &[]).expect("upgraded")
}

fn join(room: &str, user: &str) -> Value {
    json!({"type": "join", "roomId": room, "userId": user, "token": TOKEN})
}

/// In the room; with what it was told.
fn joined(server: &Server, room: &str, user: &str) -> (Socket, Value) {
    let mut socket = open(server);
    socket.say(&join(room, user));
    let told = socket.hear();
    assert_eq!(told["type"], "room-joined", "{told}");
    (socket, told)
}

fn offer(to: &str) -> Value {
    json!({"type": "offer", "to": to, "from": "eve", "sdp": {"type": "offer", "sdp": "v=0\r\n"}, "more": [1, null]})
}

#[test]
fn those_in_a_room_find_each_other_and_nobody_else() {
    let server = Server::start(&[]);
    let (mut ann, told) = joined(&server, "blue", "ann");
    assert_eq!(told["peers"], json!([]));
    let [relay] = &told["iceServers"].as_array().expect("a list")[..] else { panic!("{told}") };
    assert_eq!(relay["urls"].as_array().map(Vec::len), Some(2), "the relay, by UDP and by TCP: {told}");
    assert!(relay["username"].is_string() && relay["credential"].is_string());
    assert_eq!(told["session"].as_str().map(str::len), Some(32));
    let (mut bob, told) = joined(&server, "blue", "bob");
    assert_eq!(told["peers"], json!(["ann"]));
    assert_eq!(ann.hear(), json!({"type": "peer-joined", "peerId": "bob"}));
    let (mut cid, _) = joined(&server, "red", "cid");

    bob.say(&offer("ann"));
    let mut passed = offer("ann");
    passed["from"] = "bob".into();
    assert_eq!(ann.hear(), passed);
    ann.say(&json!({"type": "ice-candidate", "to": "bob", "candidate": {"candidate": "x", "sdpMid": "0", "sdpMLineIndex": 0}}));
    assert_eq!(bob.hear()["from"], "ann");
    let unknown = |socket: &mut Socket, to: &str| socket.error(&offer(to));
    assert_eq!(unknown(&mut cid, "ann"), ("unknown_peer".into(), "No such peer: ann".into()));
    assert_eq!(unknown(&mut ann, "cid").0, "unknown_peer");
    assert_eq!(unknown(&mut ann, "ann").0, "unknown_peer", "oneself is nobody else");

    // Into another room, which is out of the first.
    bob.say(&json!({"type": "join", "roomId": "red", "userId": "bob"}));
    assert_eq!(bob.hear()["peers"], json!(["cid"]));
    assert_eq!(ann.hear(), json!({"type": "peer-left", "peerId": "bob"}));
    assert_eq!(cid.hear(), json!({"type": "peer-joined", "peerId": "bob"}));
    assert_eq!(bob.error(&json!({"type": "leave", "roomId": "blue"})).0, "not_in_room");
    bob.say(&json!({"type": "leave", "roomId": "red"}));
    assert_eq!(cid.hear(), json!({"type": "peer-left", "peerId": "bob"}));
    assert_eq!(bob.error(&offer("cid")), ("not_in_room".into(), "Must join a room first".into()));

    // However one goes, the others are told.
    let (dan, _) = joined(&server, "red", "dan");
    assert_eq!(cid.hear()["peerId"], "dan");
    dan.reset();
    assert_eq!(cid.hear(), json!({"type": "peer-left", "peerId": "dan"}));
    let (eve, _) = joined(&server, "red", "eve");
    assert_eq!(cid.hear()["peerId"], "eve");
    eve.slam();
    assert_eq!(cid.hear(), json!({"type": "peer-left", "peerId": "eve"}));
    cid.close();
    let (_, told) = joined(&server, "red", "cid");
    assert_eq!(told["peers"], json!([]), "the room was empty, and is another one");
}

#[test]
fn a_name_belongs_to_whoever_has_its_session() {
    let server = Server::start(&[]);
    let (mut ann, told) = joined(&server, "blue", "ann");
    let session = told["session"].clone();
    let (mut bob, _) = joined(&server, "blue", "bob");
    assert_eq!(ann.hear()["peerId"], "bob");
    let mut other = open(&server);
    assert_eq!(other.error(&join("blue", "ann")), ("taken".into(), "The user id is taken: ann".into()));
    let mut wrong = join("blue", "ann");
    wrong["session"] = "0".repeat(32).into();
    assert_eq!(other.error(&wrong).0, "taken");
    // Refused, it is still where it was: nowhere, but no stranger.
    assert_eq!(other.error(&offer("bob")).1, "Must join a room first");
    let mut owner = join("blue", "ann");
    owner["session"] = session.clone();
    other.say(&owner);
    let again = other.hear();
    assert_eq!((&again["peers"], &again["session"]), (&json!(["bob"]), &session));
    assert_eq!(ann.closed(), Some(1008), "the old socket is closed without a word");
    other.say(&offer("bob"));
    assert_eq!(bob.hear()["from"], "ann", "nobody was told of anything in between");
}

#[test]
fn tokens_come_in_a_join_or_with_the_handshake() {
    let server = Server::start(&[]);
    let mut socket = open(&server);
    let unauthorized: (String, String) = ("unauthorized".into(), "Bad token".into());
    assert_eq!(socket.error(&json!({"type": "join", "roomId": "blue", "userId": "ann"})), unauthorized);
    assert_eq!(socket.closed(), Some(1008));
    let mut socket = open(&server);
    assert_eq!(
        socket.error(&json!({"type": "join", "roomId": "blue", "userId": "ann", "token": "devtoken"})),
        unauthorized
    );
    assert_eq!(socket.closed(), Some(1008), "the operator has set another one");

    let mut socket = Socket::open_at(server.http, "/signal", &[(PROTOCOL, BEARER)]).expect("upgraded");
    socket.say(&json!({"type": "join", "roomId": "blue", "userId": "ann"}));
    assert_eq!(socket.hear()["type"], "room-joined");
    for wrong in ["voxcast, bearer.d3Jvbmc", "voxcast, bearer.!", "voxcast, bearer."] {
        let mut socket = Socket::open_at(server.http, "/signal", &[(PROTOCOL, wrong)]).expect("upgraded");
        assert_eq!(error_of(&socket.hear()), unauthorized, "{wrong}");
        assert_eq!(socket.closed(), Some(1008), "{wrong}");
    }

    // A page from elsewhere proves itself before anything else, or not at all.
    let elsewhere = ("origin", "https://elsewhere.example");
    assert_eq!(Socket::open_at(server.http, "/signal", &[elsewhere]).err(), Some(403));
    let mut socket = Socket::open_at(server.http, "/signal", &[elsewhere, (PROTOCOL, BEARER)]).expect("upgraded");
    socket.say(&json!({"type": "join", "roomId": "blue", "userId": "bob"}));
    assert_eq!(socket.hear()["peers"], json!(["ann"]));
    // Wrong ones are counted; none at all is no guess.
    for guess in 0..9 {
        let mut socket = open(&server);
        socket.say(&json!({"type": "join", "roomId": "blue", "userId": "x"}));
        assert_eq!(error_of(&socket.hear()), unauthorized);
        let mut socket = open(&server);
        socket.say(&json!({"type": "join", "roomId": "blue", "userId": "x", "token": format!("guessed-{guess}")}));
        let _ = socket.hear();
    }
    assert_eq!(open(&server).error(&join("blue", "x")).0, "too_many_attempts");
}

#[test]
fn open_rooms_and_this_machine_need_no_token() {
    let tokenless = json!({"type": "join", "roomId": "blue", "userId": "ann"});
    let server = Server::start(&[("ROOMS_OPEN", "true")]);
    let mut socket = open(&server);
    socket.say(&tokenless);
    assert_eq!(socket.hear()["type"], "room-joined");
    assert_eq!(
        Socket::open_at(server.http, "/signal", &[("origin", "https://elsewhere.example")]).err(),
        Some(403),
        "open to people, not to every page that they visit"
    );
    // One that an earlier server gave is none to this one, wherever it comes.
    let mut handshake =
        Socket::open_at(server.http, "/signal", &[(PROTOCOL, "voxcast, bearer.d3Jvbmc")]).expect("upgraded");
    handshake.say(&json!({"type": "join", "roomId": "red", "userId": "ann"}));
    assert_eq!(handshake.hear()["type"], "room-joined");
    let mut joining = open(&server);
    joining.say(&json!({"type": "join", "roomId": "red", "userId": "ben", "token": "wrong"}));
    assert_eq!(joining.hear()["type"], "room-joined");
    // But a page from elsewhere comes in by none.
    let elsewhere = [("origin", "https://elsewhere.example"), (PROTOCOL, "voxcast, bearer.d3Jvbmc")];
    let mut foreign = Socket::open_at(server.http, "/signal", &elsewhere).expect("upgraded");
    let _ = foreign.try_say(&tokenless);
    assert_eq!(error_of(&foreign.hear()).0, "unauthorized");
    let server = Server::start(&[("AUTH_TOKEN", "")]);
    let mut socket = open(&server);
    socket.say(&tokenless);
    assert_eq!(socket.hear()["type"], "room-joined", "as the well-known token would");
    for header in ["voxcast, bearer.", "voxcast, bearer.!"] {
        let elsewhere = [("origin", "https://elsewhere.example"), (PROTOCOL, header)];
        let mut foreign = Socket::open_at(server.http, "/signal", &elsewhere).expect("upgraded");
        let _ = foreign.try_say(&tokenless);
        assert_eq!(error_of(&foreign.hear()).0, "unauthorized", "{header}");
    }
    let mut proxied = Socket::open_at(server.http, "/signal", &[("x-forwarded-for", "203.0.113.9")]).expect("upgraded");
    assert_eq!(proxied.error(&tokenless).0, "unauthorized");
}

#[test]
fn what_is_wrong_is_told_and_the_connection_goes_on() {
    let server = Server::start(&[("ROOM_SIZE", "1"), ("MAX_ROOMS", "2"), ("ROOMS_PER_ADDRESS", "1")]);
    let mut socket = open(&server);
    let early: (String, String) = ("not_in_room".into(), "Must join a room first".into());
    assert_eq!(socket.error(&offer("bob")), early);
    assert_eq!(socket.error(&json!({"type": "dance"})), early);
    socket.send(Message::text("{"));
    assert_eq!(error_of(&socket.hear()), ("invalid_json".into(), "Invalid JSON".into()));
    for odd in ["", "a\nb", &"x".repeat(65)] {
        assert_eq!(socket.error(&join(odd, "ann")).0, "invalid_message");
        assert_eq!(socket.error(&join("blue", odd)).0, "invalid_message");
    }
    socket.say(&join("blue", "ann"));
    assert_eq!(socket.hear()["type"], "room-joined");
    assert_eq!(socket.error(&json!({"type": "dance"})), ("unknown_type".into(), "Unknown type: dance".into()));
    assert_eq!(socket.error(&json!({"type": "offer", "to": "bob", "sdp": "v=0"})).0, "invalid_message");
    socket.send(Message::binary(vec![1]));
    assert_eq!(error_of(&socket.hear()).0, "invalid_message");

    let mut other = open(&server);
    assert_eq!(other.error(&join("blue", "bob")), ("room_full".into(), "The room is full".into()));
    assert_eq!(other.error(&join("red", "bob")).0, "over_capacity", "one room from an address");
    socket.say(&json!({"type": "leave", "roomId": "blue"}));
    socket.say(&json!({"type": "dance"}));
    assert_eq!(error_of(&socket.hear()), early, "it has left");
    other.say(&join("red", "bob"));
    assert_eq!(other.hear()["type"], "room-joined");
}

#[test]
fn frames_have_their_limits_and_may_come_in_parts() {
    let server = Server::start(&[]);
    let mut stranger = open(&server);
    stranger.send(Message::text(format!(r#"{{"type":"x","y":"{}"}}"#, "x".repeat(16 * 1024))));
    assert_eq!(stranger.closed(), Some(1009));
    // Who proved themselves with the handshake is none, before the first join, too.
    let mut known = Socket::open_at(server.http, "/signal", &[(PROTOCOL, BEARER)]).expect("upgraded");
    known.send(Message::text("x".repeat(200 * 1024)));
    assert_eq!(error_of(&known.hear()).0, "invalid_json");
    let (mut ann, _) = joined(&server, "blue", "ann");
    let (mut bob, _) = joined(&server, "blue", "bob");
    let _ = ann.hear();
    let mut long = offer("bob");
    long["sdp"]["sdp"] = "x".repeat(255 * 1024).into();
    ann.say(&long);
    assert_eq!(bob.hear()["sdp"], long["sdp"]);
    let text = offer("bob").to_string();
    let (first, rest) = text.as_bytes().split_at(20);
    ann.send(fragment(OpCode::Data(Data::Text), false, first));
    ann.send(fragment(OpCode::Data(Data::Continue), true, rest));
    assert_eq!(bob.hear()["from"], "ann");
    long["sdp"]["sdp"] = "x".repeat(256 * 1024).into();
    ann.say(&long);
    assert_eq!(ann.closed(), Some(1009));
    assert_eq!(bob.hear()["type"], "peer-left");
    bob.send(Message::text("x"));
    assert_eq!(error_of(&bob.hear()).0, "invalid_json");
}

#[test]
fn a_slow_socket_is_cut_and_the_others_never_wait() {
    let server = Server::start(&[]);
    let (mut ann, _) = joined(&server, "blue", "ann");
    let (mut bob, _) = joined(&server, "blue", "bob");
    let (mut cid, _) = joined(&server, "blue", "cid");
    for _ in 0..2 {
        assert_eq!(ann.hear()["type"], "peer-joined");
    }
    assert_eq!(bob.hear()["type"], "peer-joined");
    // Bob reads nothing any more. What the kernel and the queue take is bounded, so he goes.
    let mut long = offer("bob");
    long["sdp"]["sdp"] = "x".repeat(200 * 1024).into();
    let mut senders = vec![ann];
    let left = 'flood: loop {
        // As much as one may send in a moment; then another one has its turn.
        let ann = senders.last_mut().expect("somebody");
        for _ in 0..15 {
            ann.say(&long);
            ann.say(&offer("cid"));
            loop {
                let heard = cid.hear();
                match heard["type"].as_str() {
                    Some("offer") => break,
                    Some("peer-left") => break 'flood heard,
                    _ => {}
                }
            }
        }
        assert!(senders.len() < 14, "nobody can fill a socket's memory for ever");
        senders.push(joined(&server, "blue", &format!("ann{}", senders.len())).0);
    };
    assert_eq!(left, json!({"type": "peer-left", "peerId": "bob"}));
    // He may come back, and the old socket ends once it is read.
    let (_, told) = joined(&server, "blue", "bob");
    assert!(told["peers"].as_array().expect("a list").contains(&"cid".into()));
    assert_eq!(bob.closed(), Some(1008));
}

#[test]
fn too_many_messages_end_the_connection_and_the_room_is_told() {
    let server = Server::start(&[]);
    let (mut ann, _) = joined(&server, "blue", "ann");
    let (mut bob, _) = joined(&server, "blue", "bob");
    let _ = ann.hear();
    for _ in 0..3000 {
        if ann.try_say(&offer("nobody")).is_err() {
            break;
        }
    }
    loop {
        let told = ann.hear();
        if told["code"] == "rate_limited" {
            break;
        }
        assert_eq!(told["code"], "unknown_peer");
    }
    assert_eq!(ann.closed(), Some(1008));
    assert_eq!(bob.hear(), json!({"type": "peer-left", "peerId": "ann"}));
}

#[test]
fn a_server_that_goes_away_says_so_and_members_are_pinged() {
    let server = Server::start(&[]);
    let (mut ann, _) = joined(&server, "blue", "ann");
    ann.pinged();
    assert_eq!(["voxcast_rooms", "voxcast_room_members"].map(|name| metric(server.http, name)), [1, 1]);
    server.signal("TERM");
    assert_eq!(ann.closed(), Some(1001));
    let (status, log) = server.ended();
    assert!(status.success());
    assert!(!log.contains(TOKEN), "no token in a log");
}

#[test]
fn a_dead_socket_leaves_when_it_answers_no_ping() {
    let server = Server::start(&[]);
    let (mut bob, _) = joined(&server, "blue", "bob");
    let (ann, _) = joined(&server, "blue", "ann");
    assert_eq!(bob.hear()["peerId"], "ann");
    // Ann's socket stays open, but nobody reads it or answers.
    assert_eq!(bob.hear(), json!({"type": "peer-left", "peerId": "ann"}));
    drop(ann);
}

#[test]
fn the_load_client_talks_in_rooms() {
    let server = Server::start(&[]);
    let url = format!("http://{}", server.http);
    let arguments = ["load", &url, "--rooms=4", "--people=3", "--messages=60", "--ramp=50", "--for=2s", "--json"];
    let (code, out, err) = run(&arguments, &[("AUTH_TOKEN", TOKEN)]);
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{code:?} {err}"));
    assert_eq!(
        (report["sockets"].as_u64(), report["joined"].as_u64(), report["failed"].as_u64()),
        (Some(12), Some(12), Some(0))
    );
    let sent = report["sent"].as_u64().expect("a count");
    assert!(sent >= 100, "{report}");
    assert_eq!(report["received"], report["sent"], "nothing is lost");
    assert_eq!(metric(server.http, "voxcast_room_messages_total"), sent);
    await_that("all have left", || metric(server.http, "voxcast_rooms") == 0);
    // One room more than an address may have.
    let server = Server::start(&[("ROOMS_PER_ADDRESS", "3")]);
    let url = format!("http://{}", server.http);
    let arguments = ["load", &url, "--rooms=4", "--people=1", "--messages=1", "--ramp=50", "--for=1s", "--json"];
    let (code, out, _) = run(&arguments, &[("AUTH_TOKEN", TOKEN)]);
    let report: Value = serde_json::from_str(&out).expect("a report");
    assert_eq!((code, report["joined"].as_u64(), report["failed"].as_u64()), (Some(1), Some(3), Some(1)));
    assert!(report["first_failure"].as_str().is_some_and(|text| text.contains("too many rooms")), "{report}");
}

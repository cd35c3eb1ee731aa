//! The words of `GET /ws` on real sockets: who is let in, what is refused, what closes, what is resumed.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::client::{Listener, Socket, error_of, fragment};
use voxcast::engine::session::GRACE;

use super::server::{Server, TOKEN, now, run};

fn error(code: &str, text: &str) -> (String, String) {
    (code.to_owned(), text.to_owned())
}

#[test]
fn a_greeting_is_acknowledged_with_voices_and_a_session() {
    let server = Server::start(&[]);
    let (mut socket, ack) = Socket::greeted(server.http);
    assert_eq!(ack["resumed"], false);
    let [relay] = &ack["ice_servers"].as_array().expect("a list")[..] else { panic!("{ack}") };
    assert_eq!(relay["urls"].as_array().map(Vec::len), Some(2), "the relay, by UDP and by TCP: {ack}");
    assert!(relay["username"].is_string() && relay["credential"].is_string());
    assert_eq!(ack["session_id"].as_str().expect("text").len(), 32);
    let names: Vec<_> =
        ack["voices"].as_array().expect("a list").iter().map(|voice| (&voice["id"], &voice["name"])).collect();
    assert_eq!(
        json!(names),
        json!([
            ["sine-220", "Low Tone (220 Hz)"],
            ["sine-440", "Mid Tone (440 Hz)"],
            ["sine-880", "High Tone (880 Hz)"]
        ])
    );
    socket.say(&json!({"type": "ping"}));
    assert_eq!(socket.hear(), json!({"type": "pong"}));
}

#[test]
fn what_is_wrong_is_told_and_the_connection_goes_on() {
    let server = Server::start(&[]);
    let mut socket = Socket::open(server.http, "", &[]).expect("upgraded");
    let early = error("unauthorized", "Not authenticated: send hello first");
    assert_eq!(socket.error(&json!({"type": "webrtc_offer", "sdp": "v=0"})), early);
    assert_eq!(socket.error(&json!({"type": "start", "voice_id": "sine-440"})), early);
    socket.say(&json!({"type": "hello", "token": TOKEN, "unknown": 1}));
    assert_eq!(socket.hear()["type"], "hello_ack");
    for (message, code, text) in [
        (json!({"type": "dance"}), "unknown_type", "Unknown type: dance"),
        (json!({"type": "webrtc_offer"}), "invalid_sdp", "Missing SDP"),
        (json!({"type": "start", "voice_id": "x"}), "unknown_voice", "Unknown voice: x"),
        (json!({"type": "start", "voice_id": "sine-440"}), "no_session", "No WebRTC session"),
        (json!({"type": "speak", "text": ""}), "empty_text", "Empty text"),
        (json!({"type": "speak", "text": "hi"}), "engine_failed", "Speech failed: no speech engine is configured"),
    ] {
        assert_eq!(socket.error(&message), error(code, text), "{message}");
    }
    for (message, code) in [
        (json!({"type": "start"}), "invalid_message"),
        (json!({"type": "start", "voice_id": 7}), "invalid_message"),
        (json!([1, 2]), "invalid_message"),
        (json!(["ping"]), "invalid_message"),
        (json!({"type": "offer", "sdp": "nonsense"}), "invalid_sdp"),
        (json!({"type": "ice-candidate", "candidate": {"candidate": "nonsense"}}), "invalid_candidate"),
    ] {
        assert_eq!(socket.error(&message).0, code, "{message}");
    }
    socket.send(Message::text("{"));
    assert_eq!(error_of(&socket.hear()), error("invalid_json", "Invalid JSON"));
    socket.send(Message::binary(vec![1, 2, 3]));
    assert_eq!(error_of(&socket.hear()).0, "invalid_message");
    socket.say(&json!({"type": "ping"}));
    assert_eq!(socket.hear()["type"], "pong");
}

#[test]
fn ten_wrong_tokens_a_minute_are_too_many() {
    let server = Server::start(&[]);
    let (mut resumed, ack) = Socket::greeted(server.http);
    for attempt in 0..11 {
        let mut socket = Socket::open(server.http, "", &[]).expect("upgraded");
        let (code, text) = socket.error(&json!({"type": "hello", "token": format!("wrong-token-{attempt}")}));
        if attempt < 10 {
            assert_eq!((code, text), error("unauthorized", "Bad token"), "attempt {attempt}");
        } else {
            assert_eq!(code, "too_many_attempts", "attempt {attempt}");
        }
        assert_eq!(socket.closed(), Some(1008));
    }
    let mut socket = Socket::open(server.http, "", &[]).expect("upgraded");
    assert_eq!(
        socket.error(&json!({"type": "hello", "token": TOKEN})).0,
        "too_many_attempts",
        "the right one is no excuse"
    );
    // Whoever has a session that is there gets back to it, with the token.
    for (token, session) in [("wrong-token", ack["session_id"].clone()), (TOKEN, json!("0".repeat(32)))] {
        let mut socket = Socket::open(server.http, "", &[]).expect("upgraded");
        let hello = json!({"type": "hello", "token": token, "session": session});
        assert_eq!(socket.error(&hello).0, "too_many_attempts", "{hello}");
    }
    let mut socket = Socket::open(server.http, "", &[]).expect("upgraded");
    socket.say(&json!({"type": "hello", "token": TOKEN, "session": ack["session_id"]}));
    assert_eq!(socket.hear()["resumed"], true);
    assert_eq!(resumed.closed(), Some(1008), "the newest one wins");
    // Behind the trusted proxy on this host, another client is another client.
    let mut other = Socket::open(server.http, "", &[("x-forwarded-for", "203.0.113.7")]).expect("upgraded");
    other.say(&json!({"type": "hello", "token": TOKEN}));
    assert_eq!(other.hear()["type"], "hello_ack");
}

#[test]
fn no_token_and_the_same_wrong_one_again_are_no_guesses() {
    let server = Server::start(&[]);
    for token in ["wrong-token", ""] {
        for attempt in 0..30 {
            let mut socket = Socket::open(server.http, "", &[]).expect("upgraded");
            let told = socket.error(&json!({"type": "hello", "token": token}));
            assert_eq!(told, error("unauthorized", "Bad token"), "{token:?} {attempt}");
        }
    }
    Socket::greeted(server.http);
}

#[test]
fn a_page_of_elsewhere_locks_out_itself_and_not_its_visitor() {
    let server = Server::start(&[]);
    let knock = |token: &str, headers: &[(&'static str, &str)]| {
        let mut socket = Socket::open(server.http, &format!("?api_key={token}"), headers).expect("upgraded");
        let told = socket.hear();
        told["code"].as_str().or(told["type"].as_str()).expect("text").to_owned()
    };
    let foreign = [("origin", "https://elsewhere.example")];
    for guess in 0..10 {
        assert_eq!(knock(&format!("wrong-token-{guess}"), &foreign), "unauthorized");
    }
    // Under no other foreign name is there another try, even with the right one.
    assert_eq!(knock(TOKEN, &[("origin", "https://third.example")]), "too_many_attempts");
    assert_eq!(knock(TOKEN, &[]), "session_id");
    for guess in 0..10 {
        assert_eq!(knock(&format!("wrong-token-{guess}"), &[]), "unauthorized");
    }
    assert_eq!(knock(TOKEN, &[]), "too_many_attempts");
}

#[test]
fn devtoken_is_for_this_machine_alone() {
    // No AUTH_TOKEN, and the well-known one: the same rule.
    for token in ["", "devtoken"] {
        let server = Server::start(&[("AUTH_TOKEN", token)]);
        let greet = |headers: &[(&'static str, &str)]| {
            let mut socket = Socket::open(server.http, "", headers).expect("upgraded");
            socket.say(&json!({"type": "hello", "token": "devtoken"}));
            socket.hear()["type"] == "hello_ack"
        };
        assert!(greet(&[]));
        assert!(greet(&[("host", "localhost:8080")]));
        assert!(!greet(&[("host", "voxcast.example")]), "a name that was made to point here");
        assert!(!greet(&[("x-forwarded-for", "127.0.0.1")]), "a proxy on this machine");
        assert!(!greet(&[("cf-connecting-ip", "203.0.113.7")]), "a tunnel");
        // Nor may a page of elsewhere use it.
        let foreign = [("origin", "https://elsewhere.example")];
        let mut page = Socket::open(server.http, "?api_key=devtoken", &foreign).expect("upgraded");
        assert_eq!(error_of(&page.hear()).0, "unauthorized");
    }
}

#[test]
fn ipv6_is_served_like_ipv4() {
    let server = Server::start(&[("HOST", "::")]);
    for ip in ["127.0.0.1", "::1"] {
        let address = std::net::SocketAddr::new(ip.parse().expect("an address"), server.http.port());
        let mut listener = Listener::connect(address);
        listener.start("sine-440");
        listener.frames(10);
    }
}

#[test]
fn an_api_key_lets_in_and_a_wrong_one_is_told_after_the_upgrade() {
    let server = Server::start(&[]);
    let query = format!("?api_key={TOKEN}&model=bit_invert&user_agent=x");
    let mut socket = Socket::open(server.http, &query, &[("origin", "https://elsewhere.example")]).expect("upgraded");
    let session = socket.hear();
    assert_eq!((&session["type"], &session["server_ip"]), (&json!("session_id"), &json!("127.0.0.1")));
    assert!(
        session["session_id"].as_str().is_some_and(|id| id.len() == 32) && session["server_port"].as_u64().is_some()
    );
    socket.say(&json!({"type": "set_image", "image_data": null, "prompt": null}));
    assert_eq!(socket.hear(), json!({"type": "set_image_ack", "success": true, "error": null}));
    socket.say(&json!({"type": "set_image", "image_data": "x".repeat(4 << 20)}));
    assert_eq!(socket.hear()["type"], "set_image_ack");
    socket.say(&json!({"type": "prompt", "prompt": "Hi \u{1f600}", "enhance_prompt": true}));
    assert_eq!(socket.hear(), json!({"type": "prompt_ack", "prompt": "Hi \u{1f600}", "success": true, "error": null}));
    let mut wrong = Socket::open(server.http, "?api_key=wrong-key", &[]).expect("upgraded");
    assert_eq!(error_of(&wrong.hear()), error("unauthorized", "Invalid API key"));
    assert_eq!(wrong.closed(), Some(1008));
}

#[test]
fn an_sdk_is_told_of_every_generation() {
    let server = Server::start(&[]);
    let mut socket = Socket::open(server.http, &format!("?api_key={TOKEN}"), &[]).expect("upgraded");
    let session = socket.hear()["session_id"].as_str().expect("text").to_owned();
    let mut listener = Listener::offer(socket, session);
    listener.start("sine-440");
    listener.frames(50);
    listener.stop();
    assert!(listener.until(|listener| listener.said.len() == 2), "{:?}", listener.said);
    assert_eq!(listener.said[0], json!({"type": "generation_started"}));
    assert_eq!(
        (&listener.said[1]["type"], &listener.said[1]["reason"]),
        (&json!("generation_ended"), &json!("stopped"))
    );
    let seconds = listener.said[1]["seconds"].as_f64().expect("a number");
    assert!((0.9..60.0).contains(&seconds), "{seconds}");
    listener.socket.say(&json!({"type": "prompt", "prompt": "Hi"}));
    assert!(listener.until(|listener| listener.said.len() == 3));
    let ack = &listener.said[2];
    assert_eq!((&ack["type"], &ack["success"], &ack["prompt"]), (&json!("prompt_ack"), &json!(false), &json!("Hi")));
}

#[test]
fn a_model_that_is_not_there_is_refused_to_those_who_know_our_models() {
    let server = Server::start(&[]);
    let mut socket = Socket::open(server.http, "?model=bit_invert", &[]).expect("upgraded");
    assert_eq!(
        socket.error(&json!({"type": "hello", "token": TOKEN})),
        error("unknown_model", "Unknown model: bit_invert")
    );
}

#[test]
fn messages_have_a_limit_before_and_after_the_greeting() {
    let server = Server::start(&[]);
    let big = |bytes: usize| Message::text(format!("{{\"type\":\"ping\",\"x\":\"{}\"}}", "x".repeat(bytes)));
    let mut stranger = Socket::open(server.http, "", &[]).expect("upgraded");
    stranger.send(big(15 * 1024));
    assert_eq!(stranger.hear()["type"], "pong");
    stranger.send(big(17 * 1024));
    assert_eq!(stranger.closed(), Some(1009));
    let mut stranger = Socket::open(server.http, "", &[]).expect("upgraded");
    stranger.send(Message::binary(vec![0; 17 * 1024]));
    assert_eq!(stranger.closed(), Some(1009), "bytes count as text does");
    let (mut client, _) = Socket::greeted(server.http);
    client.send(big(200 * 1024));
    assert_eq!(client.hear()["type"], "pong");
    client.send(big(300 * 1024));
    assert_eq!(client.closed(), Some(1009));
    // The limit is on the whole message, in however many fragments it comes.
    let (mut client, _) = Socket::greeted(server.http);
    client.send(fragment(OpCode::Data(Data::Text), false, b"{\"type\":"));
    client.send(fragment(OpCode::Data(Data::Continue), true, b"\"ping\"}"));
    assert_eq!(client.hear()["type"], "pong");
    client.send(fragment(OpCode::Data(Data::Text), false, &vec![b' '; 200 * 1024]));
    client.send(fragment(OpCode::Data(Data::Continue), false, &vec![b' '; 200 * 1024]));
    assert_eq!(client.closed(), Some(1009));
}

#[test]
fn text_that_is_not_utf8_closes() {
    let server = Server::start(&[]);
    let (mut whole, _) = Socket::greeted(server.http);
    whole.send(fragment(OpCode::Data(Data::Text), true, &[b'"', 0xff, b'"']));
    assert_eq!(whole.closed(), Some(1007));
    let (mut parts, _) = Socket::greeted(server.http);
    parts.send(fragment(OpCode::Data(Data::Text), false, b"\""));
    parts.send(fragment(OpCode::Data(Data::Continue), true, &[0xff, b'"']));
    assert_eq!(parts.closed(), Some(1007));
}

#[test]
fn a_stranger_who_says_nothing_is_shown_out() {
    let server = Server::start(&[]);
    let mut socket = Socket::open(server.http, "", &[]).expect("upgraded");
    assert_eq!(socket.closed(), Some(1008));
}

#[test]
fn a_client_that_says_nothing_is_asked_again_and_again_and_stays() {
    let server = Server::start(&[]);
    let (mut socket, _) = Socket::greeted(server.http);
    socket.pinged();
    socket.pinged();
    socket.say(&json!({"type": "ping"}));
    assert_eq!(socket.hear()["type"], "pong");
}

#[test]
fn a_flood_is_cut_off() {
    let server = Server::start(&[]);
    let (mut socket, _) = Socket::greeted(server.http);
    // As many as a slow machine handles no faster than it forgives them; one that closed takes no more.
    let _ = (0..2_000).try_for_each(|_| socket.try_say(&json!({"type": "ping"})));
    let mut pongs = 0;
    let refused = loop {
        let message = socket.hear();
        if message["type"] != "pong" {
            break error_of(&message).0;
        }
        pongs += 1;
    };
    assert_eq!(refused, "rate_limited");
    assert!(pongs >= 200, "{pongs}");
    assert_eq!(socket.closed(), Some(1008));
}

#[test]
fn a_dropped_socket_is_resumed_and_the_sound_never_stops() {
    let server = Server::start(&[]);
    let mut listener = Listener::connect(server.http);
    listener.start("sine-440");
    listener.frames(20);
    let fresh = Socket::open(server.http, "", &[]).expect("upgraded");
    // Dropping the old one closes its TCP connection without a Close frame.
    drop(std::mem::replace(&mut listener.socket, fresh));
    listener.frames(30);
    let session = listener.session.clone();
    listener.socket.say(&json!({"type": "hello", "token": TOKEN, "session": session}));
    assert!(listener.until(|listener| !listener.said.is_empty()));
    assert_eq!((&listener.said[0]["type"], &listener.said[0]["resumed"]), (&json!("hello_ack"), &json!(true)));
    assert_eq!(listener.said[0]["session_id"], json!(session));
    // Past the grace that a lost client has.
    listener.listen_for(Duration::from_secs(11));
    listener.frames(20);
    listener.stop();
    listener.listen_for(Duration::from_millis(200));
    listener.heard.assert_no_click(440.0);
    listener.heard.assert_time_is_true();
}

#[test]
fn the_newest_socket_wins_and_an_unknown_session_is_a_new_one() {
    let server = Server::start(&[]);
    let (mut old, ack) = Socket::greeted(server.http);
    let mut new = Socket::open(server.http, "", &[]).expect("upgraded");
    new.say(&json!({"type": "hello", "token": TOKEN, "session": ack["session_id"]}));
    assert_eq!(new.hear()["resumed"], true);
    assert_eq!(old.closed(), Some(1008));
    new.say(&json!({"type": "ping"}));
    assert_eq!(new.hear()["type"], "pong");
    for unknown in ["00000000000000000000000000000000", "nonsense", ""] {
        let mut other = Socket::open(server.http, "", &[]).expect("upgraded");
        other.say(&json!({"type": "hello", "token": TOKEN, "session": unknown}));
        let fresh = other.hear();
        assert_eq!((&fresh["type"], &fresh["resumed"]), (&json!("hello_ack"), &json!(false)));
        assert_ne!(fresh["session_id"], ack["session_id"]);
    }
}

#[test]
fn a_full_server_refuses_and_a_place_is_free_again_after_a_close() {
    let server = Server::start(&[("MAX_SESSIONS", "1")]);
    let (first, _) = Socket::greeted(server.http);
    let mut second = Socket::open(server.http, "", &[]).expect("upgraded");
    assert_eq!(second.error(&json!({"type": "hello", "token": TOKEN})).0, "over_capacity");
    assert_eq!(second.closed(), Some(1008));
    first.close();
    greeted_soon(&server).slam();
    greeted_soon(&server).close();
}

#[test]
fn listeners_of_the_load_client_whom_it_refused_come_again_if_they_are_to() {
    for again in [&["--again"][..], &[]] {
        // Of its own: a session ends a moment after its client has gone.
        let server = Server::start(&[("MAX_SESSIONS", "3")]);
        let url = format!("http://{}", server.http);
        let arguments = [&["load", &url, "--listeners=4", "--ramp=2", "--for=2s", "--json"][..], again].concat();
        let (code, out, err) = run(&arguments, &[("AUTH_TOKEN", TOKEN)]);
        let report: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{code:?} {err}"));
        let [joined, failed] = ["joined", "failed"].map(|name| report[name].as_u64().expect("a count"));
        assert_eq!(code, Some(1), "{report}");
        // Who comes again may get in when the others leave.
        assert!(if again.is_empty() { (joined, failed) == (3, 1) } else { joined >= 3 && failed > 1 }, "{report}");
        assert!(report["first_failure"].as_str().is_some_and(|text| text.contains("Over capacity")), "{report}");
    }
}

#[test]
fn the_load_client_tells_what_the_server_used_in_all_and_by_the_second() {
    let server = Server::start(&[]);
    let (url, pid) = (format!("http://{}", server.http), format!("--pid={}", server.pid()));
    for (way, silent) in [(&[][..], false), (&["--silent"], true)] {
        let arguments = [&["load", &url, &pid, "--listeners=3", "--ramp=30", "--for=4s", "--json"][..], way].concat();
        let (code, out, err) = run(&arguments, &[("AUTH_TOKEN", TOKEN)]);
        assert_eq!(code, Some(0), "{err}");
        let report: Value = serde_json::from_str(&out).expect("JSON");
        let used = &report["server"];
        assert!(used["cpu_share"].as_f64() > Some(0.0) && used["resident_bytes"].as_u64() > Some(1 << 20), "{report}");
        assert_eq!(report["server_cpu_ms_per_join"].as_f64() > Some(0.0), silent, "{report}");
        if silent {
            assert!(report["by_second"].is_null() && used["cpu_us_per_packet"].is_null(), "{report}");
            continue;
        }
        for figure in ["cpu_us_per_packet", "gap_error_p99_ms"] {
            let tenths = report["by_second"][figure].as_array().expect("three");
            let tenths: Vec<_> = tenths.iter().filter_map(Value::as_f64).collect();
            assert!(tenths.len() == 3 && tenths[0] > 0.0 && tenths.is_sorted(), "{figure}: {report}");
        }
        // The whole costs what its seconds do.
        let of_seconds = &report["by_second"]["cpu_us_per_packet"];
        let whole = used["cpu_us_per_packet"].as_f64().expect("sound was heard");
        assert!(of_seconds[0].as_f64() < Some(whole * 1.5) && of_seconds[2].as_f64() > Some(whole * 0.5), "{report}");
    }
}

/// A place is given back when the session has ended, which is a moment after its client has gone, and long before the grace of one
/// that was merely lost.
fn greeted_soon(server: &Server) -> Socket {
    let until = now() + GRACE / 2;
    while now() < until {
        let mut socket = Socket::open(server.http, "", &[]).expect("upgraded");
        socket.say(&json!({"type": "hello", "token": TOKEN}));
        if socket.hear()["type"] == "hello_ack" {
            return socket;
        }
    }
    panic!("the place is not free");
}

#[test]
fn a_client_that_is_gone_before_its_session_is_there_leaves_nothing_behind() {
    let server = Server::start(&[("MAX_SESSIONS", "1")]);
    for _ in 0..20 {
        let mut socket = Socket::open(server.http, "", &[]).expect("upgraded");
        socket.say(&json!({"type": "hello", "token": TOKEN}));
        socket.reset();
    }
    let until = now() + GRACE * 2;
    while now() < until {
        let mut socket = Socket::open(server.http, "", &[]).expect("upgraded");
        socket.say(&json!({"type": "hello", "token": TOKEN}));
        if socket.hear()["type"] == "hello_ack" {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("a place is held for ever");
}

#[test]
fn bytes_that_are_no_frames_end_the_connection_at_once() {
    let server = Server::start(&[]);
    let bytes: [(&[u8], u16); 7] = [
        (&[0xc1, 0x80, 1, 2, 3, 4], 1002),
        (&[0x83, 0x80, 1, 2, 3, 4], 1002),
        (&[0x81, 0x02, b'{', b'}'], 1002),
        (&[0x09, 0x80, 1, 2, 3, 4], 1002),
        (&[0x80, 0x80, 1, 2, 3, 4], 1002),
        (&[0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0], 1009),
        // What it announces is not waited for.
        (&[0x82, 0xff, 0, 0, 1, 0, 0, 0, 0, 0], 1009),
    ];
    for (bytes, code) in bytes {
        let (mut socket, _) = Socket::greeted(server.http);
        socket.raw(bytes);
        assert_eq!(socket.closed(), Some(code), "{bytes:x?}");
        socket.close();
    }
}

#[test]
fn a_stranger_cannot_make_us_buffer() {
    let server = Server::start(&[]);
    let mut stranger = Socket::open(server.http, "", &[]).expect("upgraded");
    // One frame that is never finished, far over what a stranger may send.
    let header = [0x81, 0xff, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0];
    stranger.raw(&header);
    stranger.raw(&[b' '; 8 * 1024].repeat(10));
    assert_eq!(stranger.closed(), Some(1009));
}

//! The words of `GET /ws`, held to the letter of the protocol and to the golden examples that the web client's tests read too.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::engine::session::{Model, Profile};
use crate::wire::signal::{
    CandidateInit, ClientMsg, ErrorMsg, HelloAck, IceServer, OfferStyle, ServerMsg, SignalFault, TurnConfig, VoiceCard,
};

use super::client::{Client, chromium_listener, chromium_sdk, offer};
use super::net::{Net, ms, secs};

fn golden(text: &str) -> BTreeMap<String, Value> {
    serde_json::from_str(text).expect("golden files are JSON")
}

/// What every golden message of a client must be read as.
fn word(message: &ClientMsg) -> String {
    match message {
        ClientMsg::Hello(hello) => format!("hello {} {:?}", hello.token, hello.session),
        ClientMsg::Offer(offer) => format!("offer {:?} {:?}", offer.style, offer.sdp),
        ClientMsg::Candidate(Some(init)) => {
            format!(
                "candidate {} {:?} {:?} {:?}",
                init.candidate, init.sdp_mid, init.sdp_m_line_index, init.username_fragment
            )
        }
        ClientMsg::Candidate(None) => "candidate end".into(),
        ClientMsg::Start(start) => format!("start {}", start.voice_id),
        ClientMsg::Stop => "stop".into(),
        ClientMsg::Speak(speak) => format!("speak {} {:?} {:?}", speak.text, speak.voice_id, speak.id),
        ClientMsg::Prompt(prompt) => format!("prompt {:?}", prompt.prompt),
        ClientMsg::SetImage(image) => format!("set_image {:?}", image.prompt),
        ClientMsg::Ping => "ping".into(),
    }
}

#[test]
fn every_golden_message_of_a_client_is_read_as_it_was_meant() {
    let expected = [
        ("hello", r"hello secret-token None"),
        ("hello_resume", r#"hello secret-token Some("000102030405060708090a0b0c0d0e0f")"#),
        ("webrtc_offer", r#"offer Complete "v=0\r\n""#),
        ("offer", r#"offer Trickle "v=0\r\n""#),
        (
            "ice-candidate",
            r#"candidate candidate:1 1 udp 2130706175 192.0.2.1 50000 typ host generation 0 ufrag abcd Some("0") Some(0) Some("abcd")"#,
        ),
        ("ice-candidate_end", "candidate end"),
        ("ice-candidate_empty", "candidate end"),
        ("start", "start sine-440"),
        ("stop", "stop"),
        ("speak", r#"speak Good morning Some("sine-440") Some("u1")"#),
        ("prompt", r#"prompt Some("Good morning")"#),
        ("set_image", "set_image None"),
        ("set_image_full", r#"set_image Some("Say it")"#),
        ("ping", "ping"),
    ];
    let golden = golden(include_str!("golden/client.json"));
    let names: BTreeSet<&str> = golden.keys().map(String::as_str).collect();
    assert_eq!(names, expected.iter().map(|(name, _)| *name).collect(), "each example has its line here");
    for (name, meaning) in expected {
        let mut example = golden[name].clone();
        assert_eq!(ClientMsg::parse(&example.to_string()).as_ref().map(word), Ok(meaning.to_owned()), "{name}");
        // Later clients may say more.
        example["newer_field"] = json!({ "deep": [1, null] });
        assert_eq!(ClientMsg::parse(&example.to_string()).as_ref().map(word), Ok(meaning.to_owned()), "{name}");
    }
}

/// Every message that the server can say, by its name in the golden file.
fn server_words() -> Vec<(&'static str, ServerMsg)> {
    let id = || "000102030405060708090a0b0c0d0e0f".to_owned();
    let voice =
        VoiceCard { id: "sine-440".into(), name: "Mid Tone (440 Hz)".into(), description: "Concert pitch.".into() };
    let turn = IceServer {
        urls: vec!["turn:192.0.2.1:3478".into()],
        username: Some("1700000000:me".into()),
        credential: Some("c2VjcmV0".into()),
    };
    let stun = IceServer { urls: vec!["stun:192.0.2.2:3478".into()], username: None, credential: None };
    let candidate = CandidateInit {
        candidate: "candidate:1 1 udp 2130706175 192.0.2.1 3479 typ host".into(),
        sdp_mid: Some("0".into()),
        sdp_m_line_index: Some(0),
        username_fragment: None,
    };
    let text = "Speech failed: no engine".to_owned();
    let prompt = || "Good morning".to_owned();
    vec![
        (
            "hello_ack",
            ServerMsg::HelloAck(HelloAck {
                voices: vec![voice],
                ice_servers: vec![turn.clone(), stun.clone()],
                session_id: id(),
                resumed: false,
            }),
        ),
        ("session_id", ServerMsg::SessionId { session_id: id(), server_ip: "192.0.2.1".into(), server_port: 3479 }),
        (
            "turn_config",
            ServerMsg::TurnConfig(TurnConfig {
                urls: turn.urls.clone(),
                username: "1700000000:me".into(),
                credential: "c2VjcmV0".into(),
            }),
        ),
        ("ice_servers", ServerMsg::IceServers { ice_servers: vec![turn, stun] }),
        ("webrtc_answer", ServerMsg::WebrtcAnswer { sdp: "v=0\r\n".into() }),
        ("answer", ServerMsg::Answer { sdp: "v=0\r\n".into() }),
        ("ice-candidate", ServerMsg::IceCandidate { candidate: Some(candidate) }),
        ("ice-candidate_end", ServerMsg::IceCandidate { candidate: None }),
        ("generation_started", ServerMsg::GenerationStarted),
        ("generation_tick", ServerMsg::GenerationTick { seconds: 10.0 }),
        ("generation_ended", ServerMsg::GenerationEnded { seconds: 12.5, reason: "stopped" }),
        ("prompt_ack", ServerMsg::PromptAck { prompt: prompt(), success: false, error: Some(text) }),
        ("prompt_ack_ok", ServerMsg::PromptAck { prompt: prompt(), success: true, error: None }),
        ("set_image_ack", ServerMsg::SetImageAck { success: true, error: None }),
        ("pong", ServerMsg::Pong),
        ("error", SignalFault::UnknownVoice("x".into()).into()),
    ]
}

/// Fails to compile when a message is added: then `server_words` and the golden file want one more line each.
fn server_kind(message: &ServerMsg) -> &'static str {
    match message {
        ServerMsg::HelloAck(_) => "hello_ack",
        ServerMsg::SessionId { .. } => "session_id",
        ServerMsg::TurnConfig(_) => "turn_config",
        ServerMsg::IceServers { .. } => "ice_servers",
        ServerMsg::WebrtcAnswer { .. } => "webrtc_answer",
        ServerMsg::Answer { .. } => "answer",
        ServerMsg::IceCandidate { .. } => "ice-candidate",
        ServerMsg::GenerationStarted => "generation_started",
        ServerMsg::GenerationTick { .. } => "generation_tick",
        ServerMsg::GenerationEnded { .. } => "generation_ended",
        ServerMsg::PromptAck { .. } => "prompt_ack",
        ServerMsg::SetImageAck { .. } => "set_image_ack",
        ServerMsg::Pong => "pong",
        ServerMsg::Error(ErrorMsg { .. }) => "error",
    }
}

#[test]
fn every_golden_message_of_the_server_is_what_it_says() {
    let golden = golden(include_str!("golden/server.json"));
    let words = server_words();
    let names: BTreeSet<&str> = golden.keys().map(String::as_str).collect();
    assert_eq!(names, words.iter().map(|(name, _)| *name).collect(), "each example has its line here");
    for (name, message) in words {
        let json: Value = serde_json::from_str(&message.to_json()).expect("a message is JSON");
        assert_eq!(json, golden[name], "{name}");
        assert_eq!(json["type"], server_kind(&message), "{name}");
        assert!(!message.to_json().contains('\n'), "one line");
    }
}

/// Fails to compile when a fault is added: then the table wants one more line.
fn fault_place(fault: &SignalFault) -> usize {
    match fault {
        SignalFault::InvalidJson => 0,
        SignalFault::UnknownType(_) => 1,
        SignalFault::InvalidMessage(_) => 2,
        SignalFault::BadToken => 3,
        SignalFault::BadApiKey => 4,
        SignalFault::NotAuthenticated => 5,
        SignalFault::TooManyAttempts(_) => 6,
        SignalFault::NoSession => 7,
        SignalFault::UnknownVoice(_) => 8,
        SignalFault::MissingSdp => 9,
        SignalFault::InvalidSdp(_) => 10,
        SignalFault::InvalidCandidate(_) => 11,
        SignalFault::NoRelay(_) => 12,
        SignalFault::BadPortRange(_) => 13,
        SignalFault::OverCapacity(_) => 14,
        SignalFault::RateLimited => 15,
        SignalFault::EngineFailed(_) => 16,
        SignalFault::EmptyText => 17,
        SignalFault::UnknownModel(_) => 18,
        SignalFault::RoomFull => 19,
        SignalFault::Taken(_) => 20,
        SignalFault::NoRoom => 21,
        SignalFault::NotInRoom(_) => 22,
        SignalFault::UnknownPeer(_) => 23,
        SignalFault::Internal => 24,
    }
}

#[test]
fn every_fault_has_its_code_and_its_text() {
    let x = || "X".to_owned();
    let table = [
        (SignalFault::InvalidJson, "invalid_json", "Invalid JSON"),
        (SignalFault::UnknownType(x()), "unknown_type", "Unknown type: X"),
        (SignalFault::InvalidMessage(x()), "invalid_message", "Invalid message: X"),
        (SignalFault::BadToken, "unauthorized", "Bad token"),
        (SignalFault::BadApiKey, "unauthorized", "Invalid API key"),
        (SignalFault::NotAuthenticated, "unauthorized", "Not authenticated: send hello first"),
        (SignalFault::TooManyAttempts(7), "too_many_attempts", "Too many attempts: try again in 7 s"),
        (SignalFault::NoSession, "no_session", "No WebRTC session"),
        (SignalFault::UnknownVoice(x()), "unknown_voice", "Unknown voice: X"),
        (SignalFault::MissingSdp, "invalid_sdp", "Missing SDP"),
        (SignalFault::InvalidSdp(x()), "invalid_sdp", "Invalid SDP: X"),
        (SignalFault::InvalidCandidate(x()), "invalid_candidate", "Invalid candidate: X"),
        (SignalFault::NoRelay(x()), "no_relay", "Relay-only over X is not allowed here: the server has no such relay"),
        (SignalFault::BadPortRange(x()), "bad_port_range", "RTP ports X are not allowed here"),
        (SignalFault::OverCapacity("full"), "over_capacity", "Over capacity: full"),
        (SignalFault::RateLimited, "rate_limited", "Too many messages"),
        (SignalFault::EngineFailed(x()), "engine_failed", "Speech failed: X"),
        (SignalFault::EmptyText, "empty_text", "Empty text"),
        (SignalFault::UnknownModel(x()), "unknown_model", "Unknown model: X"),
        (SignalFault::RoomFull, "room_full", "The room is full"),
        (SignalFault::Taken(x()), "taken", "The user id is taken: X"),
        (SignalFault::NoRoom, "not_in_room", "Must join a room first"),
        (SignalFault::NotInRoom(x()), "not_in_room", "Not in this room: X"),
        (SignalFault::UnknownPeer(x()), "unknown_peer", "No such peer: X"),
        (SignalFault::Internal, "internal", "Internal error"),
    ];
    for (place, (fault, code, text)) in table.iter().enumerate() {
        assert_eq!((fault_place(fault), fault.code(), fault.to_string().as_str()), (place, *code, *text));
        let json: Value = serde_json::from_str(&ServerMsg::from(fault).to_json()).expect("an error is JSON");
        assert_eq!(json, json!({ "type": "error", "code": code, "message": text, "error": text }));
    }
    for relay in [SignalFault::NoRelay("udp".into()), SignalFault::BadPortRange("1 to 2".into())] {
        assert!(relay.to_string().contains("not allowed"), "clients match these words");
    }
}

#[test]
fn bad_words_are_answered_by_the_right_fault() {
    let mut client = Client::listener();
    for (text, code, start) in [
        ("", "invalid_json", "Invalid JSON"),
        ("{", "invalid_json", "Invalid JSON"),
        ("nonsense", "invalid_json", "Invalid JSON"),
        (r#"{"type":"ping"} x"#, "invalid_json", "Invalid JSON"),
        ("{\"type\":\"stop\u{0}\"}", "invalid_json", "Invalid JSON"),
        ("null", "invalid_message", "Invalid message: "),
        ("[]", "invalid_message", "Invalid message: "),
        ("7", "invalid_message", "Invalid message: "),
        (r#""stop""#, "invalid_message", "Invalid message: "),
        ("{}", "invalid_message", "Invalid message: missing field `type`"),
        (r#"{"type":7}"#, "invalid_message", "Invalid message: "),
        (r#"{"type":null}"#, "invalid_message", "Invalid message: "),
        (r#"{"type":"dance"}"#, "unknown_type", "Unknown type: dance"),
        (r#"{"type":""}"#, "unknown_type", "Unknown type: "),
        (r#"{"type":"Stop"}"#, "unknown_type", "Unknown type: Stop"),
        (r#"{"type":"join","roomId":"blue","userId":"ann"}"#, "unknown_type", "Unknown type: join"),
        (r#"{"type":"hello"}"#, "invalid_message", "Invalid message: missing field `token`"),
        (r#"{"type":"hello","token":7}"#, "invalid_message", "Invalid message: "),
        (r#"{"type":"hello","token":"x","session":7}"#, "invalid_message", "Invalid message: "),
        (r#"{"type":"start"}"#, "invalid_message", "Invalid message: missing field `voice_id`"),
        (r#"{"type":"start","voice_id":null}"#, "invalid_message", "Invalid message: "),
        (r#"{"type":"start","voice_id":["sine-440"]}"#, "invalid_message", "Invalid message: "),
        (r#"{"type":"start","voice_id":"x"}"#, "unknown_voice", "Unknown voice: x"),
        (r#"{"type":"start","voice_id":""}"#, "unknown_voice", "Unknown voice: "),
        (r#"{"type":"start","voice_id":"sine-440"}"#, "no_session", "No WebRTC session"),
        (r#"{"type":"webrtc_offer"}"#, "invalid_sdp", "Missing SDP"),
        (r#"{"type":"offer"}"#, "invalid_sdp", "Missing SDP"),
        (r#"{"type":"offer","sdp":null}"#, "invalid_sdp", "Missing SDP"),
        (r#"{"type":"offer","sdp":""}"#, "invalid_sdp", "Missing SDP"),
        (r#"{"type":"offer","sdp":" \r\n"}"#, "invalid_sdp", "Missing SDP"),
        (r#"{"type":"offer","sdp":{"type":"offer"}}"#, "invalid_message", "Invalid message: "),
        (r#"{"type":"offer","sdp":"hello"}"#, "invalid_sdp", "Invalid SDP: "),
        (r#"{"type":"ice-candidate"}"#, "invalid_message", "Invalid message: missing field `candidate`"),
        (r#"{"type":"ice-candidate","candidate":"candidate:1"}"#, "invalid_message", "Invalid message: "),
        (r#"{"type":"ice-candidate","candidate":{"candidate":"x"}}"#, "invalid_candidate", "Invalid candidate: x"),
        (r#"{"type":"speak"}"#, "invalid_message", "Invalid message: missing field `text`"),
        (r#"{"type":"speak","text":""}"#, "empty_text", "Empty text"),
        (r#"{"type":"speak","text":" \n "}"#, "empty_text", "Empty text"),
        (r#"{"type":"speak","text":"Good morning"}"#, "engine_failed", "Speech failed: "),
        (r#"{"type":"set_image","image_data":7}"#, "invalid_message", "Invalid message: "),
    ] {
        let (got, message) = client.fault(text);
        assert_eq!(got, code, "{text}: {message}");
        assert!(message.starts_with(start), "{text}: {message}");
    }
    let long = format!(r#"{{"type":"{}"}}"#, "é".repeat(10_000));
    assert!(client.fault(&long).1.len() < 200, "a stranger's words are cut");
    let long = format!(r#"{{"type":"start","voice_id":"{}"}}"#, "é".repeat(10_000));
    assert!(client.fault(&long).1.len() < 200, "a stranger's words are cut");
}

#[test]
fn what_needs_no_answer_gets_none() {
    let mut client = Client::listener();
    for text in [
        r#"{"type":"stop"}"#,
        r#"{"type":"ice-candidate","candidate":null}"#,
        r#"{"type":"ice-candidate","candidate":{"candidate":"","sdpMid":"0"}}"#,
        r#"{"type":"ice-candidate","candidate":{}}"#,
        r#"{"type":"ice-candidate","candidate":{"candidate":"candidate:1 1 udp 1 192.0.2.1 9 typ host","sdpMid":null,"sdpMLineIndex":null}}"#,
        r#"{"type":"ice-candidate","candidate":{"candidate":"candidate:1 1 udp 1 0c.local 9 typ host"}}"#,
        r#"{"type":"ice-candidate","candidate":{"candidate":"candidate:1 1 tcp 1 192.0.2.1 9 typ host tcptype active"}}"#,
    ] {
        assert_eq!(client.say(text), [], "{text}");
    }
    assert!(matches!(&client.say(&offer("offer", &chromium_listener()))[..], [ServerMsg::Answer { .. }, ..]));
    for text in [
        r#"{"type":"ice-candidate","candidate":null}"#,
        r#"{"type":"ice-candidate","candidate":{"candidate":"candidate:1 1 udp 1 0c.local 9 typ host"}}"#,
        r#"{"type":"ice-candidate","candidate":{"candidate":"candidate:1 1 tcp 1 192.0.2.1 9 typ host tcptype active"}}"#,
        r#"{"type":"ice-candidate","candidate":{"candidate":"candidate:1 2 udp 1 192.0.2.1 9 typ host"}}"#,
        r#"{"type":"start","voice_id":"sine-440"}"#,
        r#"{"type":"start","voice_id":"sine-440","newer":1}"#,
        r#"{"type":"stop"}"#,
        r#"{"type":"stop"}"#,
    ] {
        assert_eq!(client.say(text), [], "{text}");
    }
}

#[test]
fn candidates_before_the_offer_are_kept_up_to_32() {
    let candidate = |host: u8| {
        let text = format!("candidate:1 1 udp 2130706175 203.0.113.{host} 50000 typ host");
        json!({ "type": "ice-candidate", "candidate": { "candidate": text, "sdpMid": "0" } }).to_string()
    };
    let mut client = Client::listener();
    for host in 1..=40 {
        assert_eq!(client.say(&candidate(host)), []);
    }
    client.say(&offer("webrtc_offer", &chromium_listener()));
    client.run_for(secs(10));
    let checked: BTreeSet<_> =
        client.sent.iter().map(|to| to.ip().to_string()).filter(|ip| ip.starts_with("203.")).collect();
    let kept: BTreeSet<_> = (1..=32).map(|host| format!("203.0.113.{host}")).collect();
    assert_eq!(checked, kept);
    assert_eq!(client.say(&candidate(99)), []);
    client.run_for(secs(5));
    assert!(client.sent.iter().any(|to| to.ip().to_string() == "203.0.113.99"), "later ones are checked as they come");
}

/// The SDP of the one answer among what was said.
#[track_caller]
fn answer(said: &[ServerMsg]) -> &str {
    match said {
        [ServerMsg::WebrtcAnswer { sdp } | ServerMsg::Answer { sdp }, ..] => sdp,
        _ => panic!("{said:?}"),
    }
}

#[test]
fn a_complete_answer_carries_our_candidates_and_a_trickled_one_lets_them_follow() {
    let mut client = Client::listener();
    let said = client.say(&offer("webrtc_offer", &chromium_listener()));
    let [ServerMsg::WebrtcAnswer { sdp }] = &said[..] else { panic!("{said:?}") };
    assert_eq!(sdp.matches("a=candidate:").count(), 2, "{sdp}");
    assert_eq!(sdp.matches(" 192.0.2.10 3479 typ host").count(), 2, "by UDP and by TCP: {sdp}");
    assert!(sdp.contains("a=end-of-candidates\r\n"), "{sdp}");
    assert!(sdp.contains("a=setup:passive") && sdp.contains("a=sendonly"), "{sdp}");
    assert!(sdp.contains("opus/48000/2") && !sdp.contains("PCMU"), "{sdp}");
    assert!(!sdp.lines().any(|line| line.ends_with(' ')) && sdp.ends_with("\r\n"));

    let mut client = Client::listener();
    let said = client.say(&offer("offer", &chromium_listener()));
    let [
        ServerMsg::Answer { sdp },
        ServerMsg::IceCandidate { candidate: Some(udp) },
        ServerMsg::IceCandidate { candidate: Some(tcp) },
        ServerMsg::IceCandidate { candidate: None },
    ] = &said[..]
    else {
        panic!("{said:?}")
    };
    assert!(!sdp.contains("candidate"), "{sdp}");
    for (init, transport) in [(udp, "udp"), (tcp, "tcp")] {
        let words: Vec<&str> = init.candidate.split(' ').collect();
        assert!(words[0].starts_with("candidate:"), "{init:?}");
        assert_eq!((words[2], &words[4..8]), (transport, &["192.0.2.10", "3479", "typ", "host"][..]));
        assert_eq!((init.sdp_mid.as_deref(), init.sdp_m_line_index), (Some("0"), Some(0)));
    }
}

#[test]
fn an_sdk_offer_of_one_video_line_is_answered_on_echo_and_refused_on_speaker() {
    let mut echo = Client::new(Model::Echo, true);
    let said = echo.say(&offer("offer", &chromium_sdk()));
    let sdp = answer(&said);
    assert!(sdp.contains("VP8/90000") && sdp.contains("a=sendrecv"), "{sdp}");
    assert!(!said.iter().any(|message| matches!(message, ServerMsg::GenerationStarted)), "never before media");
    let (code, text) = Client::listener().fault(&offer("offer", &chromium_sdk()));
    assert_eq!((code, text.as_str()), ("invalid_sdp", "Invalid SDP: no audio line that receives Opus"));
}

#[test]
fn candidates_stand_on_a_line_that_is_in_use() {
    // A picture first, which a listener's session has no use for.
    let audio = chromium_listener();
    let (session, line) = audio.split_at(audio.find("m=audio").expect("a line"));
    let video = line
        .replace("m=audio", "m=video")
        .replace("opus/48000/2", "VP8/90000")
        .replace("a=mid:0", "a=mid:v")
        .lines()
        .filter(|line| !line.starts_with("a=fmtp") && !line.starts_with("a=rtcp-fb"))
        .fold(String::new(), |text, line| text + line + "\r\n");
    let both = format!("{}{video}{line}", session.replace("BUNDLE 0", "BUNDLE v 0"));
    let said = Client::listener().say(&offer("webrtc_offer", &both));
    let sdp = answer(&said);
    let (rejected, used) = sdp.split_at(sdp.find("m=audio").expect("it is answered"));
    assert!(rejected.contains("m=video 0 "), "{sdp}");
    assert!(!rejected.contains("a=candidate:") && used.contains("a=candidate:"), "{sdp}");
    let said = Client::listener().say(&offer("offer", &both));
    let trickled: Vec<_> = said
        .iter()
        .filter_map(|message| match message {
            ServerMsg::IceCandidate { candidate: Some(init) } => Some((init.sdp_mid.as_deref(), init.sdp_m_line_index)),
            _ => None,
        })
        .collect();
    assert!(!trickled.is_empty() && trickled.iter().all(|line| *line == (Some("0"), Some(1))), "{trickled:?}");
}

#[test]
fn prompts_and_images_are_always_acknowledged() {
    for (model, success) in [(Model::Echo, true), (Model::Speaker, false)] {
        let mut client = Client::new(model, true);
        for (text, prompt) in [
            (json!({ "type": "prompt", "prompt": " Größe \"x\"\n", "enhance_prompt": true }), " Größe \"x\"\n"),
            (json!({ "type": "prompt", "prompt": "" }), ""),
            (json!({ "type": "prompt", "prompt": null, "enhance_prompt": null }), ""),
            (json!({ "type": "prompt" }), ""),
            (json!({ "type": "prompt", "prompt": ["odd"] }), ""),
        ] {
            let said = client.say(&text.to_string());
            let [ServerMsg::PromptAck { prompt: back, success: went, error }] = &said[..] else {
                panic!("{text}: {said:?}")
            };
            assert_eq!((back.as_str(), *went, error.is_none()), (prompt, success, success), "{text}");
        }
        for text in [
            json!({ "type": "set_image", "image_data": null, "prompt": null, "enhance_prompt": false }),
            json!({ "type": "set_image", "image_data": "iVBORw0KGgo=".repeat(100_000) }),
            json!({ "type": "set_image", "prompt": "Say it" }),
            json!({ "type": "set_image" }),
        ] {
            assert_eq!(client.say(&text.to_string()), [ServerMsg::SetImageAck { success: true, error: None }]);
        }
    }
}

#[test]
fn an_sdk_is_told_of_every_generation() {
    let mut net = Net::seeded(81);
    let bob = net.listener_as(Profile::new(Model::Speaker, true), true);
    net.run_for(secs(1));
    let first = net.record(bob).said.len();
    net.start(bob, "sine-440");
    net.run_for(ms(25_010));
    net.start(bob, "sine-880");
    net.run_for(secs(10));
    net.stop(bob);
    net.stop(bob);
    net.run_for(secs(1));
    net.start(bob, "sine-220");
    net.run_for(ms(1_010));
    net.stop(bob);
    let said: Vec<Value> = net.record(bob).said[first..]
        .iter()
        .map(|message| serde_json::from_str(&message.to_json()).expect("JSON"))
        .collect();
    let kinds: Vec<&str> = said.iter().filter_map(|message| message["type"].as_str()).collect();
    assert_eq!(
        kinds,
        [
            "generation_started",
            "generation_tick",
            "generation_tick",
            "generation_tick",
            "generation_ended",
            "generation_started",
            "generation_ended"
        ],
        "{}",
        net.story()
    );
    assert_eq!([&said[1]["seconds"], &said[2]["seconds"], &said[3]["seconds"]], [10.0, 20.0, 30.0]);
    let seconds = |place: usize| said[place]["seconds"].as_f64().expect("a number");
    assert!((seconds(4) - 35.0).abs() < 0.1, "{}", seconds(4));
    assert!((seconds(6) - 1.0).abs() < 0.1, "{}", seconds(6));
    assert_eq!((&said[4]["reason"], &said[6]["reason"]), (&json!("stopped"), &json!("stopped")));
    // A page is told nothing of the kind.
    let ann = net.call("sine-440");
    net.run_for(secs(11));
    net.stop(ann);
    assert_eq!(net.record(ann).said.len(), 1, "the answer alone");
}

#[test]
fn a_generation_is_told_of_its_seconds_with_the_packet_that_fills_them() {
    let mut net = Net::seeded(82);
    let guest = net.listener_as(Profile::new(Model::Speaker, true), true);
    net.run_for(secs(1));
    for round in 0..10_u64 {
        // So that whatever else is done once a second is not done right then.
        net.run_for(ms(20 * (1 + 7 * round)));
        let (said, turns) = (net.record(guest).said.len(), net.record(guest).turns);
        net.start(guest, "sine-440");
        let ticks = |net: &Net| {
            net.record(guest).said[said..]
                .iter()
                .filter(|said| matches!(said, ServerMsg::GenerationTick { .. }))
                .count()
        };
        for told in 1..=2 {
            net.run_until("a tick", secs(12), |net| ticks(net) == told);
            assert_eq!(net.record(guest).turns - turns, 500 * told as u64, "round {round}, tick {told}");
        }
        net.stop(guest);
    }
}

/// Offers: an answer or `invalid_sdp`, nothing else, and the session stands.
#[track_caller]
fn assert_total(model: Model, sdp: &str) -> bool {
    let mut client = Client::new(model, false);
    let style = if sdp.len().is_multiple_of(2) { OfferStyle::Complete } else { OfferStyle::Trickle };
    let kind = if style == OfferStyle::Complete { "webrtc_offer" } else { "offer" };
    let said = client.say(&offer(kind, sdp));
    let answered = match &said[..] {
        [ServerMsg::WebrtcAnswer { .. } | ServerMsg::Answer { .. }, ..] => true,
        [ServerMsg::Error(error)] => {
            assert_eq!(error.code, "invalid_sdp", "{}", error.message);
            assert!(error.message.len() < 600, "{}", error.message);
            false
        }
        other => panic!("{other:?}"),
    };
    client.run_for(ms(200));
    assert_eq!(client.say(r#"{"type":"stop"}"#), []);
    answered
}

#[test]
fn an_offer_cut_short_anywhere_is_answered_or_refused() {
    for (model, sdp) in [(Model::Speaker, chromium_listener()), (Model::Echo, chromium_sdk())] {
        assert!(assert_total(model, &sdp));
        for length in (0..sdp.len()).step_by(5) {
            assert_total(model, &sdp[..length]);
        }
    }
}

#[test]
fn an_offer_with_any_line_gone_or_odd_is_answered_or_refused() {
    for (model, sdp) in [(Model::Speaker, chromium_listener()), (Model::Echo, chromium_sdk())] {
        let lines: Vec<&str> = sdp.lines().collect();
        for place in 0..lines.len() {
            let with = |line: Vec<String>| {
                let mut all: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
                all.splice(place..=place, line);
                all.join("\r\n") + "\r\n"
            };
            let line = lines[place].to_owned();
            assert_total(model, &with(vec![]));
            assert_total(model, &with(vec![line.clone(), line.clone()]));
            assert_total(
                model,
                &with(vec![line.replace(|letter: char| letter.is_ascii_digit(), "99999999999999999999")]),
            );
            assert_total(model, &with(vec![line.replace(|letter: char| letter.is_ascii_digit(), "")]));
            assert_total(model, &with(vec![line.replace(|letter: char| letter.is_ascii_digit(), "0")]));
            assert_total(model, &with(vec![line.replace(' ', "")]));
            assert_total(model, &with(vec![line.replace(':', " : ")]));
            assert_total(model, &with(vec![line.chars().rev().collect()]));
            assert_total(model, &with(vec![format!("{line}é\u{0}\u{feff}"), line.clone()]));
            assert_total(model, &with(vec![line.repeat(50)]));
            assert_total(model, &with(vec![line.split(':').next().unwrap_or_default().to_owned()]));
            assert_total(model, &with(vec![line.to_uppercase()]));
        }
    }
}

#[test]
fn offers_that_lack_what_a_listener_needs_are_refused() {
    let sdp = chromium_listener();
    let without = |word: &str| sdp.split_inclusive("\r\n").filter(|line| !line.contains(word)).collect::<String>();
    let media = sdp.find("m=audio").expect("it has one");
    let (session, audio) = sdp.split_at(media);
    let mut answered = Vec::new();
    for (what, text) in [
        ("no fingerprint", without("a=fingerprint")),
        ("no ufrag", without("a=ice-ufrag")),
        ("no password", without("a=ice-pwd")),
        ("no media", session.to_owned()),
        ("no Opus", sdp.replace("opus/48000/2", "speex/16000")),
        ("sends only", sdp.replace("a=recvonly", "a=sendonly")),
        ("inactive", sdp.replace("a=recvonly", "a=inactive")),
        ("a ufrag too short", sdp.replace("a=ice-ufrag:Zq4T", "a=ice-ufrag:Zq4")),
        ("a ufrag too long", sdp.replace("a=ice-ufrag:Zq4T", &format!("a=ice-ufrag:{}", "Z".repeat(257)))),
        ("a password too short", sdp.replace("a=ice-pwd:0Fq2", "a=ice-pwd:")),
        ("100 media lines", format!("{session}{}", audio.repeat(100))),
        ("an odd fingerprint", sdp.replace("sha-256 5A", "sha-256 ZZ")),
        ("video only", chromium_sdk()),
        (
            "data only",
            format!(
                "{session}m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:Zq4T\r\na=ice-pwd:0Fq2mX7vKc1pTz9LrUe3sYbH\r\na=fingerprint:sha-256 5A:0C:11:9E:77:42:D3:08:6B:F1:2C:A4:90:3D:58:E6:14:BB:7F:21:C9:60:8E:35:DA:02:4F:97:EC:13:A8:56\r\na=setup:actpass\r\na=mid:0\r\na=sctp-port:5000\r\n"
            ),
        ),
    ] {
        if assert_total(Model::Speaker, &text) {
            answered.push(what);
        }
    }
    assert_eq!(answered, [""; 0]);
}

#[test]
fn an_offer_of_too_many_lines_is_refused_before_it_is_read() {
    let sdp = chromium_listener();
    let (session, audio) = sdp.split_at(sdp.find("m=audio").expect("it has one"));
    let lines = |count: usize| {
        let mids = (0..count).map(|mid| mid.to_string()).collect::<Vec<_>>().join(" ");
        let audio = |mid: usize| audio.replace("a=mid:0", &format!("a=mid:{mid}"));
        session.replace("BUNDLE 0", &format!("BUNDLE {mids}")) + &(0..count).map(audio).collect::<String>()
    };
    assert!(assert_total(Model::Speaker, &lines(16)), "sixteen are many");
    for count in [17, 100, 1_000] {
        let (code, text) = Client::listener().fault(&offer("offer", &lines(count)));
        assert_eq!((code, text.as_str()), ("invalid_sdp", "Invalid SDP: too many media lines"));
    }
}

#[test]
fn a_refused_offer_leaves_room_for_a_good_one() {
    let mut client = Client::listener();
    assert_eq!(client.fault(&offer("offer", &chromium_sdk())).0, "invalid_sdp");
    assert_eq!(client.fault(r#"{"type":"start","voice_id":"sine-440"}"#).0, "no_session");
    assert!(matches!(&client.say(&offer("offer", &chromium_listener()))[..], [ServerMsg::Answer { .. }, ..]));
    assert_eq!(client.say(r#"{"type":"start","voice_id":"sine-440"}"#), []);
}

//! Trust boundary: a text frame of a client. It is read or refused, never a panic, and a refusal quotes little of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use voxcast::wire::sdp;
use voxcast::wire::signal::{ClientMsg, ServerMsg};

/// Longest error message: the fault's own words and 64 characters of a stranger's, escaped twice.
const LONGEST_ERROR: usize = 2_048;

fuzz_target!(|text: &str| {
    let parsed = ClientMsg::parse(text);
    assert_eq!(parsed, ClientMsg::parse(text), "reading is a function");
    match parsed {
        Err(fault) => {
            let json = ServerMsg::from(&fault).to_json();
            assert!(json.len() < LONGEST_ERROR, "{} bytes", json.len());
            let json: serde_json::Value = serde_json::from_str(&json).expect("an error is JSON");
            assert_eq!(json["code"], fault.code());
            assert_eq!(json["message"], json["error"]);
        }
        Ok(ClientMsg::Start(start)) => again(&ClientMsg::Start(start.clone()), "start", "voice_id", &start.voice_id),
        Ok(ClientMsg::Speak(speak)) => assert!(!speak.text.trim().is_empty()),
        Ok(ClientMsg::Candidate(Some(init))) => {
            assert!(!init.candidate.is_empty());
            let _ = sdp::candidate_use(&init.candidate);
        }
        Ok(ClientMsg::Offer(offer)) => rewrite(&offer.sdp),
        Ok(_) => {}
    }
});

/// What was read, said again, is read the same.
fn again(message: &ClientMsg, kind: &str, field: &str, value: &str) {
    let mut text = serde_json::json!({ "type": kind });
    text[field] = value.into();
    assert_eq!(ClientMsg::parse(&text.to_string()).as_ref(), Ok(message));
}

/// What the server does to SDP before and after str0m.
fn rewrite(text: &str) {
    let bare = sdp::retain_candidates(text, |_| false);
    assert!(!bare.lines().any(|line| line.starts_with("a=candidate:")));
    assert_eq!(sdp::retain_candidates(&bare, |_| true), bare, "rewriting is stable");
    let _ = sdp::with_end_of_candidates(&bare);
    if let Some(credentials) = sdp::ice_credentials(text) {
        let fresh = sdp::IceCredentials { ufrag: "wAAAAAAA".into(), pwd: "AAAAAAAAAAAAAAAAAAAAAAAA".into() };
        assert_eq!(sdp::ice_credentials(&sdp::with_ice_credentials(text, &fresh)), Some(fresh));
        let _ = (credentials, sdp::are_ice_credentials_sound(text));
    }
}

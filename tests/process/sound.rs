//! The main job, by ear: pitch, silence, no click, again and again.

use std::time::Duration;

use super::client::Listener;
use super::heard::{level, pitch};
use super::server::Server;

const VOICES: [(&str, f64); 3] = [("sine-220", 220.0), ("sine-440", 440.0), ("sine-880", 880.0)];

/// Whether the last frame is, past what overlaps with the one before.
fn is_silent(listener: &Listener) -> bool {
    level(&listener.heard.last(1)[120..]) < -60.0
}

#[test]
fn each_voice_is_heard_at_its_pitch_and_ends_in_silence() {
    let server = Server::start(&[]);
    for (voice, frequency) in VOICES {
        let mut listener = Listener::connect(server.http);
        listener.start(voice);
        listener.frames(10);
        listener.whole(50);
        let heard = pitch(listener.heard.last(50));
        assert!((heard - frequency).abs() < 1.0, "{voice}: {heard} Hz");
        // A sine of amplitude 0.3 has -13.5 dB.
        let loud = level(listener.heard.last(50));
        assert!((loud + 13.47).abs() < 0.5, "{voice}: {loud} dB");
        listener.stop();
        assert!(listener.until(is_silent), "{voice}: no silence after stop");
        let before = listener.heard.frames();
        listener.listen_for(Duration::from_millis(400));
        let after = listener.heard.frames() - before;
        assert!(after < 10, "{voice}: {after} frames after stop");
        assert!(is_silent(&listener), "{voice}: not silent after stop");
        listener.heard.assert_no_click(frequency);
        listener.heard.assert_time_is_true();
    }
}

#[test]
fn start_stop_and_switch_never_click_again_and_again() {
    let server = Server::start(&[]);
    let mut listener = Listener::connect(server.http);
    for round in 0..4 {
        for (voice, frequency) in VOICES {
            listener.start(voice);
            // The switch takes a few frames; what comes after them is the new tone alone.
            listener.frames(6);
            listener.whole(25);
            let heard = pitch(listener.heard.last(25));
            assert!((heard - frequency).abs() < 1.0, "round {round}, {voice}: {heard} Hz");
        }
        listener.stop();
        assert!(listener.until(is_silent), "round {round}: no silence");
    }
    listener.heard.assert_no_click(880.0);
    listener.heard.assert_time_is_true();
}

#[test]
fn many_hear_the_same_voice_and_one_who_leaves_disturbs_nobody() {
    let server = Server::start(&[]);
    let mut first = Listener::connect(server.http);
    first.start("sine-440");
    first.frames(20);
    for _ in 0..5 {
        let mut second = Listener::connect(server.http);
        second.start("sine-440");
        second.frames(20);
        second.stop();
        second.frames(1);
        second.socket.close();
        first.frames(5);
    }
    first.heard.assert_no_click(440.0);
    first.heard.assert_time_is_true();
}

#[test]
fn a_second_offer_restarts_ice_and_the_sound_goes_on() {
    let server = Server::start(&[]);
    let mut listener = Listener::connect(server.http);
    listener.start("sine-220");
    listener.frames(20);
    for _ in 0..3 {
        listener.restart_ice();
        listener.frames(100);
    }
    listener.whole(50);
    let heard = pitch(listener.heard.last(50));
    assert!((heard - 220.0).abs() < 1.0, "{heard} Hz");
    listener.heard.assert_no_click(220.0);
    listener.heard.assert_time_is_true();
}

//! Sessions on UDP ports that their clients choose.

use std::net::UdpSocket;

use serde_json::json;
use voxcast::wire::sdp;

use super::client::{Listener, Socket, error_of};
use super::server::{Server, TOKEN, await_that};

/// Four ports in a row that nobody had a moment ago; each test looks in a thousand of its own.
fn free_ports(from: u16) -> u16 {
    let free = |port: &u16| (*port..port + 4).all(|port| UdpSocket::bind(("127.0.0.1", port)).is_ok());
    (from..from + 1_000).step_by(4).find(free).expect("some are free")
}

/// Greets and connects with this query.
fn connect(server: &Server, query: &str) -> Listener {
    let mut socket = Socket::open(server.http, query, &[]).expect("upgraded");
    socket.say(&json!({"type": "hello", "token": TOKEN}));
    let acknowledged = socket.hear();
    let session = acknowledged["session_id"].as_str().unwrap_or_else(|| panic!("{acknowledged}")).to_owned();
    Listener::offer(socket, session)
}

/// The UDP ports in an answer.
fn ports(listener: &Listener) -> Vec<u16> {
    let candidate = |text: &str| {
        let words: Vec<_> = text.split(' ').collect();
        (words[2] == "udp").then(|| words[5].parse().expect("a port"))
    };
    sdp::attributes(&listener.answer, "candidate").filter_map(candidate).collect()
}

#[test]
fn a_session_uses_the_port_that_it_asked_for_whichever_worker_has_it() {
    for workers in ["1", "3"] {
        let first = free_ports(10_000);
        let window = format!("{first}-{}", first + 3);
        let server = Server::start(&[("RTP_PORT_RANGE", &window), ("WORKERS", workers)]);
        let mut listeners: Vec<_> = (0..4).map(|_| connect(&server, &format!("?rtp_port={}", first + 1))).collect();
        listeners.push(connect(&server, &format!("?rtp_port_min={}&rtp_port_max={}", first + 2, first + 3)));
        listeners.push(connect(&server, ""));
        let asked: Vec<_> = listeners.iter().map(|listener| ports(listener)[0]).collect();
        assert_eq!(asked[..5], [[first + 1; 4].as_slice(), &[first + 2]].concat());
        assert!(asked[5] < first || asked[5] > first + 3, "{asked:?}");
        for listener in &mut listeners {
            assert_eq!(ports(listener).len(), 1);
            listener.start("sine-440");
            listener.frames(25);
        }
        assert!(UdpSocket::bind(("127.0.0.1", first + 1)).is_err());
        for listener in listeners {
            listener.socket.close();
        }
        await_that("given back", || UdpSocket::bind(("127.0.0.1", first + 1)).is_ok());
    }
}

#[test]
fn ports_outside_the_window_are_refused_and_one_that_is_not_free_is_told() {
    let first = free_ports(11_000);
    let held = UdpSocket::bind(("127.0.0.1", first)).expect("it is free");
    let window = format!("{first}-{}", first + 3);
    let server = Server::start(&[("RTP_PORT_RANGE", &window)]);
    let refused = |query: &str| {
        let mut socket = Socket::open(server.http, &format!("?api_key={TOKEN}&{query}"), &[]).expect("upgraded");
        let fault = error_of(&socket.hear());
        assert_eq!(socket.closed(), Some(1008));
        fault
    };
    for query in [
        format!("rtp_port={}", first - 1),
        format!("rtp_port_min={first}&rtp_port_max={}", first + 4),
        "rtp_port=any".to_owned(),
    ] {
        let (code, text) = refused(&query);
        assert!(code == "bad_port_range" && text.contains("not allowed"), "{query}: {code} {text}");
    }
    assert_eq!(refused(&format!("rtp_port={first}")).0, "over_capacity");
    drop(held);
    assert_eq!(ports(&connect(&server, &format!("?rtp_port={first}"))), [first]);
    let server = Server::start(&[]);
    let mut socket = Socket::open(server.http, &format!("?api_key={TOKEN}&rtp_port={first}"), &[]).expect("upgraded");
    assert_eq!(error_of(&socket.hear()).0, "bad_port_range", "no window was given");
}

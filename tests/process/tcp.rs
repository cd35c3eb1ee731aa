//! The media port over TCP: who may come in, who is heard, and who is shown out.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::json;
use socket2::{Domain, Socket as RawSocket, Type};
use str0m::ice::{StunMessage, TransId};
use voxcast::wire::framing::Framing;

use super::client::{Listener, Socket};
use super::heard::pitch;
use super::http::metric;
use super::server::{PATIENCE, Server, TOKEN, await_that, now};
use super::workers::stories;

/// Where media listens.
fn media(server: &Server) -> SocketAddr {
    let mut socket = Socket::open(server.http, &format!("?api_key={TOKEN}"), &[]).expect("upgraded");
    let told = socket.hear();
    assert_eq!(told["type"], "session_id", "{told}");
    let port = told["server_port"].as_u64().and_then(|port| port.try_into().ok()).expect("a port");
    SocketAddr::new(told["server_ip"].as_str().and_then(|ip| ip.parse().ok()).expect("an address"), port)
}

fn connect(server: &Server) -> Listener {
    Listener::connect_by(server.http, TcpStream::connect(media(server)).expect("media listens"))
}

fn closed(server: &Server, reason: &str) -> u64 {
    metric(server.http, &format!("voxcast_tcp_closed_total{{reason=\"{reason}\"}}"))
}

#[test]
fn a_listener_by_tcp_hears_its_voice_and_leaves_nothing_behind() {
    let server = Server::start(&[]);
    let mut listener = connect(&server);
    listener.start("sine-880");
    listener.frames(5);
    listener.whole(50);
    assert!((pitch(listener.heard.last(50)) - 880.0).abs() < 1.0);
    assert_eq!(metric(server.http, "voxcast_tcp_connections"), 1);
    listener.socket.say(&json!({"type": "stop"}));
    listener.frames(1);
    listener.heard.assert_no_click(880.0);
    // The session ends, and its connection with it; the goodbye comes before that.
    listener.hang_up();
    assert!(listener.until(|listener| listener.closed), "no goodbye");
    await_that("closed", || metric(server.http, "voxcast_tcp_connections") == 0);
    assert_eq!(closed(&server, "by_us"), 1);
}

#[test]
fn eight_workers_serve_those_who_come_by_tcp() {
    let server = Server::start(&[("WORKERS", "8")]);
    let peers = stories(&server, || connect(&server));
    for reason in ["unknown_ufrag", "unknown_source", "mailbox_full"] {
        assert_eq!(
            metric(server.http, &format!("voxcast_dropped_packets_total{{reason=\"{reason}\"}}")),
            0,
            "{reason}"
        );
    }
    for peer in peers {
        peer.socket.close();
    }
    await_that("closed", || metric(server.http, "voxcast_tcp_connections") == 0);
}

/// A check of ICE that a stranger made up, framed.
fn check(ufrag: &str) -> Vec<u8> {
    let username = format!("{ufrag}:else");
    let message = StunMessage::binding_request(&username, TransId::new(), true, 7, 1_845_501_695, true);
    let mut bytes = vec![0; 512];
    let length = message.to_bytes(Some(b"a guess"), &mut bytes, |_, _| [7; 20]).expect("512 bytes are enough");
    [&Framing::Ice.header(length).expect("short")[..], &bytes[..length]].concat()
}

/// Whether the server closes a connection on which these bytes were sent.
fn is_shown_out(at: SocketAddr, bytes: &[u8]) -> bool {
    let mut stream = TcpStream::connect(at).expect("media listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(bytes).expect("it is open");
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer);
    assert!(answer.is_empty(), "strangers are not answered");
    // A reset is what comes when bytes were left unread.
    ended.map_or_else(|error| error.kind() == std::io::ErrorKind::ConnectionReset, |_| true)
}

#[test]
fn strangers_are_shown_out_and_nobody_notices() {
    let server = Server::start(&[]);
    let at = media(&server);
    let mut listener = connect(&server);
    listener.start("sine-220");
    listener.frames(5);
    let ufrag = listener.answer.split("a=ice-ufrag:").nth(1).and_then(|rest| rest.lines().next()).expect("a ufrag");
    let own = check(ufrag);
    let rtp = [&[0, 40, 0x80, 111][..], &[0; 38]].concat();
    std::thread::scope(|scope| {
        let cases: [(&str, Vec<u8>); 8] = [
            ("says nothing", Vec::new()),
            ("speaks HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
            ("names nobody", check("Aeve1234")),
            ("names a worker that is not there", check("+eve1234")),
            ("begins with RTP", rtp.clone()),
            ("stops in the middle of a frame", own[..30].to_vec()),
            ("knows a name and no password", own.clone()),
            ("goes on with RTP that is nobody's", [own.clone(), rtp].concat()),
        ];
        let shown = cases.map(|(what, bytes)| (what, scope.spawn(move || is_shown_out(at, &bytes))));
        for (what, shown) in shown {
            assert!(shown.join().expect("no panic"), "{what}");
        }
    });
    assert_eq!((closed(&server, "unproven"), closed(&server, "not_ours")), (3, 5));
    listener.whole(50);
    assert!((pitch(listener.heard.last(50)) - 220.0).abs() < 1.0);
}

#[test]
fn one_address_has_its_share_of_connections() {
    const SHARE: usize = 1024;
    let server = Server::start(&[]);
    let at = media(&server);
    let held: Vec<TcpStream> = (0..SHARE).map(|_| TcpStream::connect(at).expect("media listens")).collect();
    assert!(is_shown_out(at, &[]));
    assert_eq!(closed(&server, "no_room"), 1);
    drop(held);
    await_that("left", || closed(&server, "by_peer") + closed(&server, "unproven") >= SHARE as u64);
    let mut listener = connect(&server);
    listener.start("sine-440");
    listener.frames(5);
}

/// A connection whose receiver keeps next to nothing, so that a listener that does not read is felt at once.
fn narrow(at: SocketAddr) -> TcpStream {
    let socket = RawSocket::new(Domain::for_address(at), Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(1).expect("the least that there is");
    socket.connect(&at.into()).expect("media listens");
    socket.into()
}

#[test]
fn a_listener_that_was_away_hears_what_is_new_and_one_that_stays_away_is_let_go() {
    let server = Server::start(&[]);
    let mut listener = Listener::connect_by(server.http, narrow(media(&server)));
    listener.start("sine-440");
    listener.frames(25);
    let skipped = || metric(server.http, "voxcast_unsent_packets_total{reason=\"too_old\"}");
    // Nobody reads until two seconds of audio were too old.
    let read = skipped();
    await_that("skipped", || skipped() >= read + 100);
    let before = listener.heard.frames();
    let begun = now();
    listener.frames(100);
    // What came at once had waited in the system's buffers; the rest came as it was played.
    let behind = Duration::from_secs(2).saturating_sub(now() - begun);
    assert!(behind < Duration::from_millis(1_500), "{behind:?} of old audio, {before} frames before");
    assert_eq!(closed(&server, "stuck"), 0);
    // Nobody reads any more.
    await_that("let go", || closed(&server, "stuck") == 1);
}

//! Pages, health, metrics, origins and errors over plain HTTP.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use socket2::{Domain, Socket as Socket2, Type};
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};
use voxcast::drive::limits;

use super::client::{Listener, Socket};
use super::server::{PATIENCE, Server, TOKEN, await_that};

/// Status, headers in lower case, and body.
pub fn request(server: SocketAddr, method: &str, path: &str, headers: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(server).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n{headers}\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, head.to_lowercase(), body.to_owned())
}

/// A counter or a gauge, with its labels; 0 when there is none.
pub fn metric(server: SocketAddr, name: &str) -> u64 {
    let (_, _, text) = request(server, "GET", "/metrics", "");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().expect("a count"))
}

/// A WebSocket's request as it stands, and all that comes back until the server closes.
fn handshake(server: SocketAddr, path: &str, version: u8) -> String {
    let mut stream = TcpStream::connect(server).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let key = "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==";
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{key}\r\nSec-WebSocket-Version: {version}\r\n\r\n"
    )
    .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it closes");
    answer.to_lowercase()
}

#[test]
fn a_handshake_that_leads_nowhere_is_answered_and_closed() {
    let server = Server::start(&[]);
    for (path, version, status) in [("/nowhere", 13, 404), ("/", 13, 404), ("/ws", 12, 400), ("/signal", 12, 400)] {
        let answer = handshake(server.http, path, version);
        assert!(answer.starts_with(&format!("http/1.1 {status} ")), "{path}: {answer}");
        for header in ["application/problem+json", "x-content-type-options: nosniff", "connection: close"] {
            assert!(answer.contains(header), "{path}: {answer}");
        }
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        let problem: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(problem["status"], status);
    }
    for path in ["/ws", "/signal"] {
        assert_eq!(request(server.http, "GET", path, "").0, 400, "no handshake at all");
        assert_eq!(request(server.http, "POST", path, "").0, 405);
    }
}

#[test]
fn pages_and_health_are_served() {
    let server = Server::start(&[]);
    let get = |path: &str| request(server.http, "GET", path, "");
    let (status, head, body) = get("/");
    assert_eq!(status, 200);
    assert!(
        head.contains("content-type: text/html; charset=utf-8")
            && head.contains("content-security-policy: default-src 'self'")
    );
    assert!(head.contains("x-content-type-options: nosniff"));
    assert!(body.contains("<audio") && body.contains("playsinline"));
    let (status, _, body) = get("/room?room=blue");
    assert!(status == 200 && body.contains("/assets/src/room/main.js"), "{status} {body}");
    for asset in
        ["/assets/style.css", "/assets/room.css", "/assets/src/main.js", "/assets/src/room/main.js", "/favicon.ico"]
    {
        assert_eq!(get(asset).0, 200, "{asset}");
    }
    assert_eq!(get("/healthz").0, 200);
    assert_eq!(get("/readyz").0, 200);
    let voices: Value = serde_json::from_str(&get("/api/voices").2).expect("JSON");
    assert_eq!(voices.as_array().map(Vec::len), Some(3));
    let tag = get("/assets/style.css")
        .1
        .lines()
        .find_map(|line| Some(line.strip_prefix("etag: ")?.to_owned()))
        .expect("a tag");
    assert_eq!(request(server.http, "GET", "/assets/style.css", &format!("If-None-Match: {tag}\r\n")).0, 304);
}

#[test]
fn the_client_module_is_for_pages_of_any_origin() {
    let server = Server::start(&[]);
    let from_elsewhere = "Origin: https://elsewhere.example\r\n";
    let open = |head: &str| {
        head.contains("access-control-allow-origin: *\r\n")
            && head.contains("cross-origin-resource-policy: cross-origin")
    };
    for (path, kind) in [
        ("/sdk/index.js", "content-type: text/javascript; charset=utf-8"),
        ("/sdk/index.d.ts", "content-type: text/typescript; charset=utf-8"),
    ] {
        let (status, head, body) = request(server.http, "GET", path, from_elsewhere);
        assert_eq!(status, 200, "{path}");
        assert!(open(&format!("{head}\r\n")) && head.contains(kind), "{path}: {head}");
        assert!(body.contains("VoxcastError"), "{path}");
        let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).expect("a tag");
        let (status, head, _) = request(server.http, "GET", path, &format!("{from_elsewhere}If-None-Match: {tag}\r\n"));
        assert!(status == 304 && open(&format!("{head}\r\n")), "{path}, unchanged: {head}");
    }
    // Every module that another one names is there.
    let mut names = vec!["index.js".to_owned()];
    for at in 0.. {
        let Some(name) = names.get(at).cloned() else { break };
        let (status, _, body) = request(server.http, "GET", &format!("/sdk/{name}"), "");
        assert_eq!(status, 200, "{name}");
        for next in body.lines().filter_map(|line| line.split_once(" from \"./")?.1.strip_suffix("\";")) {
            if !names.iter().any(|known| known == next) {
                names.push(next.to_owned());
            }
        }
    }
    assert!(names.len() > 8, "{names:?}");
    for path in ["/sdk/", "/sdk/package.json", "/sdk/../index.html", "/sdk/nothing.js"] {
        assert_eq!(request(server.http, "GET", path, "").0, 404, "{path}");
    }
    let (_, head, _) = request(server.http, "GET", "/assets/src/main.js", from_elsewhere);
    assert!(!head.contains("access-control-allow-origin"), "the pages are our own: {head}");
}

#[test]
fn probes_may_ask_for_the_head_alone() {
    let server = Server::start(&[]);
    for path in ["/", "/healthz", "/readyz", "/metrics"] {
        let (status, _, body) = request(server.http, "HEAD", path, "");
        assert_eq!((status, body.as_str()), (200, ""), "{path}");
    }
    assert!(request(server.http, "POST", "/healthz", "").1.contains("allow: get, head"));
}

#[test]
fn errors_are_problems() {
    let server = Server::start(&[]);
    for (method, path, status) in [
        ("GET", "/nowhere", 404),
        ("GET", "/assets/test/signal.test.js", 404),
        ("GET", "/assets/package.json", 404),
        ("GET", "/assets/../Cargo.toml", 404),
        ("POST", "/healthz", 405),
        ("GET", "/ws", 400),
    ] {
        let (found, head, body) = request(server.http, method, path, "");
        assert_eq!(found, status, "{method} {path}");
        assert!(head.contains("content-type: application/problem+json"), "{method} {path}: {head}");
        let problem: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(problem["status"], status, "{method} {path}");
        assert!(problem["title"].is_string() && problem["detail"].is_string());
    }
}

#[test]
fn pages_of_other_origins_are_kept_out() {
    let server = Server::start(&[("ALLOWED_ORIGINS", "https://friend.example")]);
    let own = format!("http://{}", server.http);
    let tunnel = format!("https://{}", server.http);
    for (origin, welcome) in [
        (own.as_str(), true),
        (tunnel.as_str(), true),
        ("https://friend.example", true),
        ("https://elsewhere.example", false),
        ("null", false),
    ] {
        let opened = Socket::open(server.http, "", &[("origin", origin)]);
        assert_eq!(opened.err(), (!welcome).then_some(403), "{origin}");
    }
}

#[test]
fn metrics_count_what_happens() {
    let server = Server::start(&[]);
    let mut listener = Listener::connect(server.http);
    listener.start("sine-440");
    listener.frames(50);
    let (status, _, text) = request(server.http, "GET", "/metrics", "");
    assert_eq!(status, 200);
    let value = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is missing in\n{text}")).parse().expect("a count")
    };
    assert_eq!(value("voxcast_sessions{state=\"streaming\"}"), 1);
    assert_eq!(value("voxcast_joins_total"), 1);
    assert_eq!(value("voxcast_join_duration_seconds_count"), 1);
    assert!(value("voxcast_sent_packets_total") >= 50);
    assert!(value("voxcast_sent_bytes_total") > value("voxcast_sent_packets_total"));
    assert!(value("voxcast_received_packets_total") > 0);
    assert!(value("voxcast_audio_encodes_total{kind=\"steady\"}") >= 40);
    assert_eq!(value("voxcast_audio_encodes_total{kind=\"fade_in\"}"), 1);
    assert!(value("voxcast_frame_lateness_seconds_count") >= 50);
    for name in [
        "voxcast_dropped_packets_total{reason=\"garbage\"}",
        "voxcast_audio_ring_full_total",
        "voxcast_audio_ring_empty_total",
        "voxcast_websockets",
    ] {
        value(name);
    }
    assert!(!text.contains(&listener.session), "a session id is a label");
    assert!(text.ends_with("# EOF\n"));
}

/// A connection from this address.
fn connect_from(from: [u8; 4], server: SocketAddr) -> TcpStream {
    let socket = Socket2::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("an address of loopback");
    socket.connect(&server.into()).expect("the server listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket.into()
}

/// Asks, and begins another request.
fn half_ask(mut stream: TcpStream) -> TcpStream {
    // Nobody may be there any more.
    let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nG");
    stream
}

fn is_answered(mut stream: &TcpStream) -> bool {
    let mut answer = [0; 9];
    stream.read_exact(&mut answer).is_ok() && answer == *b"HTTP/1.1 "
}

#[test]
fn strangers_of_one_address_keep_no_others_out() {
    limits::raise_open_files(2048);
    // A quarter of this, and of the 4096 beside it.
    let server = Server::start(&[("TRUSTED_PROXIES", "127.0.0.1"), ("MAX_SESSIONS", "1")]);
    let share = 1024;
    let ([many, other], proxy) = ([[127, 0, 0, 3], [127, 0, 0, 2]], [127, 0, 0, 1]);
    let (mut member, _) =
        tungstenite::client("ws://localhost/signal", connect_from(many, server.http)).expect("upgraded");
    let join = json!({"type": "join", "roomId": "blue", "userId": "ann", "token": TOKEN});
    member.send(Message::text(join.to_string())).expect("sent");
    assert!(matches!(member.read(), Ok(Message::Text(_))));
    let (stranger, _) = tungstenite::client("ws://localhost/ws", connect_from(many, server.http)).expect("upgraded");
    let ask = |from| half_ask(connect_from(from, server.http));
    let asked: Vec<_> = (0..share + 10).map(|_| ask(many)).collect();
    // A WebSocket without a token is one of them, one with a token is none.
    assert_eq!(asked.iter().filter(|stream| is_answered(stream)).count(), share - 1);
    for from in [other, proxy] {
        assert!(is_answered(&ask(from)), "{from:?}");
    }
    let of_many: Vec<_> = (0..=share).map(|_| connect_from(proxy, server.http)).collect();
    assert!(is_answered(&ask(proxy)), "all who come through a proxy come from there");
    drop((asked, stranger, of_many));
    await_that("free again", || is_answered(&ask(many)));
    member.send(Message::Ping(tungstenite::Bytes::new())).expect("it is open");
    // It is pinged, too.
    while !matches!(member.read().expect("it is open"), Message::Pong(_)) {}
}

/// A certificate for `localhost` in files of its own, and whoever trusts it.
pub struct Certified {
    folder: PathBuf,
    /// PEM files.
    pub chain: String,
    pub key: String,
    client: Arc<ClientConfig>,
}

impl Certified {
    /// `name` tells the tests of one process apart.
    pub fn new(name: &str) -> Self {
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let folder = std::env::temp_dir().join(format!("voxcast-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).expect("written");
            path.to_str().expect("text").to_owned()
        };
        let (chain, key) = (write("cert.pem", cert.pem()), write("key.pem", signing_key.serialize_pem()));
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).expect("a certificate");
        let client = Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());
        Self { folder, chain, key, client }
    }

    /// A connection by TLS that trusts nobody else.
    pub fn connect(&self, server: SocketAddr) -> StreamOwned<ClientConnection, TcpStream> {
        let name = "localhost".try_into().expect("a name");
        let session = ClientConnection::new(self.client.clone(), name).expect("a session");
        let stream = TcpStream::connect(server).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        StreamOwned::new(session, stream)
    }
}

impl Drop for Certified {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).expect("it is ours");
    }
}

#[test]
fn https_is_served_where_a_certificate_is_given() {
    let certified = Certified::new("https");
    let server = Server::start(&[("TLS_CERT", &certified.chain), ("TLS_KEY", &certified.key)]);
    let mut stream = certified.connect(server.http);
    write!(stream, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn websockets_are_served_by_tls_to_slow_readers_too() {
    let certified = Certified::new("wss");
    let server = Server::start(&[("TLS_CERT", &certified.chain), ("TLS_KEY", &certified.key)]);
    let hear = |socket: &mut WebSocket<_>| -> Value {
        loop {
            if let Message::Text(text) = socket.read().expect("a message") {
                return serde_json::from_str(&text).expect("JSON");
            }
        }
    };
    let join = |user: &str| {
        let (mut socket, _) =
            tungstenite::client("wss://localhost/signal", certified.connect(server.http)).expect("upgraded");
        let join = json!({"type": "join", "roomId": "blue", "userId": user, "token": TOKEN});
        socket.send(Message::text(join.to_string())).expect("sent");
        assert_eq!(hear(&mut socket)["type"], "room-joined");
        socket
    };
    let (mut ann, mut bob) = (join("ann"), join("bob"));
    assert_eq!(hear(&mut ann)["type"], "peer-joined");
    // More than sockets and TLS keep for somebody who does not read, less than the server does.
    for turn in 0..60 {
        let sdp = json!({"type": "offer", "sdp": "x".repeat(15 * 1024)});
        ann.send(Message::text(json!({"type": "offer", "to": "bob", "sdp": sdp, "turn": turn}).to_string()))
            .expect("sent");
    }
    for turn in 0..60 {
        assert_eq!(hear(&mut bob)["turn"], turn);
    }
}

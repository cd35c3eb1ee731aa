//! The relay as strangers and friends see it: an independent client of TURN by every transport, and nobody's way to anything else.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message};

use super::client::{Listener, Socket};
use super::http::{Certified, metric};
use super::server::{PATIENCE, Server, TOKEN, await_that, run};

/// What a client is told of the relay.
pub struct Told {
    urls: Vec<String>,
    username: String,
    pub credential: String,
}

impl Told {
    fn of(acknowledged: &Value) -> Self {
        let [relay] = &acknowledged["ice_servers"].as_array().expect("a list")[..] else { panic!("{acknowledged}") };
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let urls = relay["urls"].as_array().expect("a list").iter().map(text).collect();
        Self { urls, username: text(&relay["username"]), credential: text(&relay["credential"]) }
    }

    /// The port of the first URL that begins so.
    fn port(&self, scheme: &str) -> &str {
        let rest = self.urls.iter().find_map(|url| url.strip_prefix(scheme)?.strip_prefix(':'));
        rest.and_then(|rest| rest.split([':', '?']).nth(1)).expect("a port")
    }
}

/// Greets, and reads what is told. As long as the socket is open, the credentials' user is there.
pub fn told(server: &Server) -> (Socket, Told) {
    let (socket, acknowledged) = Socket::greeted(server.http);
    (socket, Told::of(&acknowledged))
}

fn command(told: &Told, arguments: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    let port = told.port(if arguments.contains(&"-S") { "turns" } else { "turn" });
    command.args(["60", "turnutils_uclient", "-u", &told.username, "-w", &told.credential, "-p", port]);
    command.args(arguments).arg("127.0.0.1");
    command
}

/// Runs coturn's own client; gives whether it came to an end, and what it wrote.
pub fn uclient(told: &Told, arguments: &[&str]) -> (bool, String) {
    let output = command(told, arguments).output().expect("turnutils_uclient is installed");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.success(), text)
}

#[test]
fn the_load_client_listens_through_it() {
    let server = Server::start(&[]);
    let url = format!("http://{}", server.http);
    for (way, relayed) in [(&["--relay"][..], true), (&[], false)] {
        let arguments = [&["load", &url, "--listeners=5", "--ramp=5", "--for=2s", "--json"][..], way].concat();
        let before = metric(server.http, "voxcast_relay_sent_packets_total");
        let (code, out, err) = run(&arguments, &[("AUTH_TOKEN", TOKEN)]);
        let report: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{code:?} {err}"));
        assert_eq!(
            (report["joined"].as_u64(), report["failed"].as_u64(), report["relayed"].as_bool()),
            (Some(5), Some(0), Some(relayed))
        );
        let heard = report["packets"].as_u64().expect("a count");
        assert!(heard > 300, "{report}");
        let passed = metric(server.http, "voxcast_relay_sent_packets_total") - before;
        assert_eq!(passed >= heard, relayed, "{passed} of {heard}");
    }
}

#[test]
fn an_independent_client_passes_data_from_allocation_to_allocation() {
    for workers in ["1", "4"] {
        let server = Server::start(&[("WORKERS", workers)]);
        let (_socket, told) = told(&server);
        // By UDP and by TCP, in channels and in indications, with lengths that are no multiples of four.
        for arguments in [&["-l", "171"][..], &["-t", "-l", "171"], &["-s", "-l", "66"], &["-t", "-s", "-l", "66"]] {
            let (done, text) = uclient(&told, &[&["-y", "-c", "-n", "40", "-m", "3"], arguments].concat());
            assert!(done, "{workers} workers, {arguments:?}: {text}");
            assert!(text.contains("Total lost packets 0 (0.000000%)"), "{workers} workers, {arguments:?}: {text}");
        }
    }
}

#[test]
fn an_independent_client_comes_by_tls() {
    let certified = Certified::new("turns");
    let server = Server::start(&[("TLS_CERT", &certified.chain), ("TLS_KEY", &certified.key)]);
    let (mut socket, _) = tungstenite::client("wss://localhost/ws", certified.connect(server.http)).expect("upgraded");
    socket.send(Message::text(json!({"type": "hello", "token": TOKEN}).to_string())).expect("it is open");
    let acknowledged = socket.read().expect("an answer").into_text().expect("text");
    let told = Told::of(&serde_json::from_str(&acknowledged).expect("JSON"));
    assert_eq!(told.urls.len(), 3, "{:?}", told.urls);
    assert!(told.urls[2].starts_with("turns:localhost:") && told.urls[2].ends_with("?transport=tcp"));
    for arguments in [&["-l", "171"][..], &["-s", "-l", "66"]] {
        let (done, text) = uclient(&told, &[&["-t", "-S", "-y", "-c", "-n", "40", "-m", "3"], arguments].concat());
        assert!(done && text.contains("Total lost packets 0 (0.000000%)"), "{arguments:?}: {text}");
    }
    // Who does not speak TLS is shown out.
    let plain = format!("127.0.0.1:{}", told.port("turns"));
    let mut stream = TcpStream::connect(&plain).expect("the relay listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(&[0; 64]).expect("it is open");
    let mut answer = Vec::new();
    // A reset, an alert, or nothing at all.
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.len() < 16, "{answer:?}");
}

#[test]
fn nobody_reaches_anything_else_through_it() {
    let server = Server::start(&[]);
    let (_socket, told) = told(&server);
    let victim = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    victim.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    let port = victim.local_addr().expect("bound").port().to_string();
    let (done, text) = uclient(&told, &["-e", "127.0.0.1", "-r", &port, "-c", "-n", "3", "-m", "1"]);
    assert!(!done, "{text}");
    assert!(victim.recv(&mut [0; 9]).is_err(), "something came");
    assert_eq!(metric(server.http, "voxcast_dropped_packets_total{reason=\"garbage\"}"), 0);
    // Nor with anything else than what it was told.
    let wrong = Told { credential: "guess".into(), ..told };
    let (done, text) = uclient(&wrong, &["-y", "-c", "-n", "1", "-m", "1"]);
    assert!(!done, "{text}");
}

#[test]
fn what_a_client_has_at_the_relay_goes_with_its_session() {
    let server = Server::start(&[("WORKERS", "2")]);
    let (socket, told) = told(&server);
    let allocations = || metric(server.http, "voxcast_relay_allocations");
    let arguments = ["-y", "-c", "-n", "3000", "-m", "2"];
    let mut client = command(&told, &arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    // It would go on for a minute.
    await_that("allocated", || allocations() > 0);
    socket.close();
    await_that("given back", || allocations() == 0);
    client.kill().and_then(|()| client.wait()).expect("it is ours");
}

#[test]
fn it_can_be_turned_off() {
    let server = Server::start(&[("RELAY", "off")]);
    let (_socket, acknowledged) = Socket::greeted(server.http);
    assert_eq!(acknowledged["ice_servers"], json!([]));
    let mut listener = Listener::connect(server.http);
    listener.start("sine-440");
    listener.frames(5);
}

//! Sessions that are reached by an outside TURN server, which is coturn: over UDP, TCP and TLS, when it dies, and when it does not know us.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::json;

use super::client::{Listener, Socket};
use super::http::{Certified, metric};
use super::server::{Server, await_that, now};

const SECRET: &str = "north-by-northwest";
/// Relayed ports of one server; each test has others.
const PORTS: u16 = 50;

/// An address of this machine that others reach it by: nobody is sent to loopback by a relay.
fn own_address() -> IpAddr {
    let interfaces = if_addrs::get_if_addrs().expect("interfaces");
    let mut addresses = interfaces.iter().map(if_addrs::Interface::ip);
    addresses.find(|ip| ip.is_ipv4() && !ip.is_loopback()).expect("a machine with an address beside loopback")
}

/// A port that is free, over UDP and TCP as far as anybody knows.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port is free").port()
}

fn await_port(port: u16) {
    await_that("listening", || TcpStream::connect(("127.0.0.1", port)).is_ok());
}

/// coturn on loopback, which relays from an address of this machine.
struct Coturn {
    child: Child,
    command: Command,
    port: u16,
    tls_port: u16,
}

impl Coturn {
    fn start(certified: Option<&Certified>) -> Self {
        static RANGE: AtomicU16 = AtomicU16::new(50_000);
        let (port, tls_port) = (free_port(), free_port());
        let first = RANGE.fetch_add(PORTS, Ordering::SeqCst);
        let mut command = Command::new("turnserver");
        command.args(["-n", "-L", "127.0.0.1", "--no-cli", "--no-dtls", "--realm=test.local", "--log-file=stdout"]);
        command.args(["-E", &own_address().to_string(), "-p", &port.to_string(), "--use-auth-secret"]);
        command.arg(format!("--static-auth-secret={SECRET}"));
        command.arg(format!("--min-port={first}")).arg(format!("--max-port={}", first + PORTS - 1));
        command.args(["--pidfile", &format!("{}/coturn-{port}.pid", std::env::temp_dir().display())]);
        match certified {
            Some(Certified { chain, key, .. }) => {
                command.args(["--tls-listening-port", &tls_port.to_string(), "--cert", chain, "--pkey", key]);
            }
            None => drop(command.arg("--no-tls")),
        }
        command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
        let child = command.spawn().expect("turnserver is installed");
        let coturn = Self { child, command, port, tls_port };
        await_port(if certified.is_some() { tls_port } else { port });
        coturn
    }

    /// Dies as a machine does, without a word.
    fn kill(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("it is ours");
    }

    /// Starts anew, and knows nobody.
    fn restart(&mut self) {
        self.child = self.command.spawn().expect("it started before");
        await_port(self.port);
    }

    fn url(&self, transport: &str) -> String {
        match transport {
            // The certificate is for a name; it leads to other addresses, too.
            "tls" => format!("turns:localhost:{}?transport=tcp", self.tls_port),
            _ => format!("turn:127.0.0.1:{}?transport={transport}", self.port),
        }
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        // Ended already, or ended now: a test leaves nothing behind.
        drop(self.child.kill());
        drop(self.child.wait());
        drop(std::fs::remove_file(std::env::temp_dir().join(format!("coturn-{}.pid", self.port))));
    }
}

fn server(urls: &str, more: &[(&str, &str)]) -> Server {
    let host = own_address().to_string();
    let all = [&[("HOST", host.as_str()), ("TURN_URLS", urls), ("TURN_SECRET", SECRET)], more].concat();
    Server::start(&all)
}

fn relayed_addresses(listener: &Listener) -> Vec<SocketAddr> {
    let lines = listener.answer.lines().filter(|line| line.starts_with("a=candidate:") && line.contains("typ relay"));
    let address = |line: &str| {
        let words: Vec<_> = line.split(' ').collect();
        SocketAddr::new(words[4].parse().expect("an address"), words[5].parse().expect("a port"))
    };
    lines.map(address).collect()
}

#[test]
fn a_listener_hears_through_an_outside_relay_by_every_transport() {
    let certified = Certified::new("turn");
    let coturn = Coturn::start(Some(&certified));
    for transport in ["udp", "tcp", "tls"] {
        let server = server(&coturn.url(transport), &[("SSL_CERT_FILE", &certified.chain), ("WORKERS", "1")]);
        let mut listener = Listener::connect_by_relays(server.http);
        listener.heard.may_miss = transport != "udp";
        let addresses = relayed_addresses(&listener);
        assert_eq!(addresses.len(), 1, "{transport}: {}", listener.answer);
        listener.start("sine-440");
        listener.whole(100);
        // A second one shares the allocation, and waits for nothing.
        let mut second = Listener::connect_by_relays(server.http);
        second.heard.may_miss = transport != "udp";
        assert_eq!(relayed_addresses(&second), addresses, "{transport}");
        second.start("sine-880");
        second.whole(50);
        listener.whole(50);
        let unsent = ["no_permission", "no_socket", "refused"]
            .map(|reason| metric(server.http, &format!("voxcast_unsent_packets_total{{reason=\"{reason}\"}}")));
        assert_eq!(unsent, [0; 3], "{transport}");
        assert_eq!(metric(server.http, "voxcast_outside_relay_allocations"), 1, "{transport}");
        // Nothing secret is told to anybody who reads the log.
        server.signal("TERM");
        let (status, log) = server.ended();
        assert!(status.success(), "{log}");
        assert!(!log.contains(SECRET) && !log.contains(":voxcast"), "{log}");
        assert!(log.contains("TURN allocation wanted") && log.contains("TURN allocation deleted"), "{log}");
    }
}

#[test]
fn when_the_relay_dies_its_listeners_are_told_and_hear_again() {
    for transport in ["udp", "tcp"] {
        let mut coturn = Coturn::start(None);
        let server = server(&coturn.url(transport), &[("WORKERS", "1")]);
        let mut listener = Listener::connect_by_relays(server.http);
        listener.heard.may_miss = true;
        listener.start("sine-440");
        listener.frames(50);
        coturn.kill();
        coturn.restart();
        let told = |listener: &Listener| listener.said.iter().any(|message| message["type"] == "ice_servers");
        assert!(listener.until(told), "{transport}: it was not told to restart");
        listener.said.clear();
        let restarted = now();
        listener.restart_ice();
        listener.frames(10);
        assert!(now() - restarted < std::time::Duration::from_secs(5), "{transport}: {:?}", now() - restarted);
        listener.frames(50);
        assert!(!listener.closed);
        assert_eq!(metric(server.http, "voxcast_outside_relay_allocations"), 1, "{transport}");
    }
}

#[test]
fn a_relay_that_does_not_know_us_costs_nobody_a_connection() {
    let coturn = Coturn::start(None);
    let urls = [coturn.url("udp"), coturn.url("tcp"), format!("turn:127.0.0.1:{}", free_port())].join(",");
    let server = server(&urls, &[("TURN_SECRET", "south-by-southeast")]);
    let mut listener = Listener::connect(server.http);
    assert_eq!(relayed_addresses(&listener), []);
    listener.start("sine-440");
    listener.frames(20);
    assert!(metric(server.http, "voxcast_outside_relay_losses_total{reason=\"credentials\"}") >= 2);
    server.signal("TERM");
    let (_, log) = server.ended();
    assert!(log.contains("the credentials are refused"), "{log}");
}

#[test]
fn a_client_that_trickles_is_told_of_the_relayed_candidate_before_the_end() {
    let coturn = Coturn::start(None);
    let server = server(&coturn.url("udp"), &[]);
    let (mut socket, _) = Socket::greeted(server.http);
    let offer = super::client::offer_of_a_listener();
    socket.say(&json!({"type": "offer", "sdp": offer}));
    assert_eq!(socket.hear()["type"], "answer");
    let mut kinds = Vec::new();
    loop {
        let message = socket.hear();
        assert_eq!(message["type"], "ice-candidate", "{message}");
        let Some(text) = message["candidate"]["candidate"].as_str() else { break };
        kinds.push(text.split(' ').nth(7).expect("a kind").to_owned());
    }
    assert_eq!(kinds.last().map(String::as_str), Some("relay"), "{kinds:?}");
}

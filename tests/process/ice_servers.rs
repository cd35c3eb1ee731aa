//! What clients are told of ICE servers: by providers that stand in for those of the world, by a secret of one's own, by policy, over HTTP.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use serde_json::Value;
use voxcast::config::{self, Command};
use voxcast::drive::server::Server as InProcess;
use voxcast::engine::access::Secret;
use voxcast::engine::credentials::TurnSecret;
use voxcast::engine::host::Hmac;
use voxcast::engine::providers::Source;

use super::client::{Socket, error_of};
use super::http::request;
use super::server::{Server, TOKEN, await_that};

const TWILIO: &str = r#"{"username":"u1","password":"p1","account_sid":"AC1","ttl":"3600","ice_servers":[
    {"url":"stun:global.stun.twilio.com:3478","urls":"stun:global.stun.twilio.com:3478"},
    {"url":"turn:global.turn.twilio.com:3478?transport=udp","username":"u1","urls":"turn:global.turn.twilio.com:3478?transport=udp","credential":"p1"}]}"#;
const CLOUDFLARE: &str = r#"{"iceServers":[{"urls":["stun:stun.cloudflare.com:3478"]},
    {"urls":["turn:turn.cloudflare.com:3478?transport=udp","turn:turn.cloudflare.com:53?transport=udp"],"username":"u2","credential":"p2"}]}"#;

/// A provider on loopback: answers each request by status and body, as soon as it may.
struct Provider {
    api: String,
    asked: Arc<AtomicUsize>,
    heard: Arc<Mutex<String>>,
    may: Option<mpsc::Sender<()>>,
}

impl Provider {
    fn start(status: u16, body: &'static str, is_slow: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let api = format!("http://{}", listener.local_addr().expect("bound"));
        let (asked, words) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(String::new())));
        let (may, until) = mpsc::channel::<()>();
        let (count, text) = (asked.clone(), words.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                *text.lock().expect("nobody panicked") = read_request(&stream);
                count.fetch_add(1, Ordering::SeqCst);
                if is_slow {
                    // Ends when the test lets go.
                    assert!(until.recv().is_err());
                }
                let head = format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nConnection: close\r\n");
                drop(write!(&stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()));
            }
        });
        Self { api, asked, heard: words, may: Some(may) }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn heard(&self) -> String {
        self.heard.lock().expect("nobody panicked").clone()
    }
}

/// Head and body, of the length that the head tells.
fn read_request(mut stream: &TcpStream) -> String {
    let mut text = String::new();
    let mut bytes = [0; 1024];
    loop {
        let count = stream.read(&mut bytes).expect("a request");
        text.push_str(std::str::from_utf8(&bytes[..count]).expect("text"));
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return text;
            }
        }
        assert!(count > 0, "a whole request: {text}");
    }
}

/// A server of this process, whose sources a test chooses; gives where it listens. It ends with what is returned.
fn in_process(sources: Vec<Source>) -> (SocketAddr, impl Drop) {
    struct End(Option<tokio::sync::oneshot::Sender<()>>, Option<std::thread::JoinHandle<()>>);
    impl Drop for End {
        fn drop(&mut self) {
            drop(self.0.take());
            drop(self.1.take().map(std::thread::JoinHandle::join));
        }
    }
    let settings = [
        ("HOST", "127.0.0.1"),
        ("PORT", "0"),
        ("MEDIA_PORT", "0"),
        ("RELAY_PORT", "0"),
        ("STUN_SERVERS", "none"),
        ("WORKERS", "1"),
        ("AUTH_TOKEN", TOKEN),
    ];
    let lookup = |name: &str| settings.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
    let Ok(Command::Serve(mut config)) = config::read(["voxcast"], &lookup, [0; 16]) else { panic!("good settings") };
    config.ice_sources = sources;
    let (tell, told) = mpsc::channel();
    let (end, ended) = tokio::sync::oneshot::channel();
    let thread = std::thread::spawn(move || {
        actix::System::new().block_on(async move {
            let server = InProcess::start(&config).await.expect("it starts");
            tell.send(server.http_addr).expect("it is waited for");
            drop(ended.await);
            server.stop().await;
        });
    });
    (told.recv().expect("it starts"), End(Some(end), Some(thread)))
}

fn twilio(api: &str) -> Source {
    let token = Secret::try_from("twilio-token").expect("long enough");
    Source::Twilio { account: "AC1".into(), token, api: api.to_owned() }
}

fn cloudflare(api: &str) -> Source {
    let token = Secret::try_from("flare-token").expect("long enough");
    Source::Cloudflare { key: "k1".into(), token, api: api.to_owned() }
}

/// The URLs that a client is told of in its greeting.
fn told(server: SocketAddr) -> Vec<String> {
    let (_socket, acknowledged) = Socket::greeted(server);
    urls(&acknowledged)
}

fn urls(acknowledged: &Value) -> Vec<String> {
    let servers = acknowledged["ice_servers"].as_array().expect("a list");
    let urls = servers.iter().flat_map(|server| server["urls"].as_array().expect("a list"));
    urls.map(|url| url.as_str().expect("text").to_owned()).collect()
}

#[test]
fn a_provider_is_asked_once_for_all_in_its_own_words() {
    let provider = Provider::start(201, TWILIO, false);
    let (server, _end) = in_process(vec![twilio(&provider.api)]);
    await_that("served by the provider", || told(server).iter().any(|url| url.contains("twilio")));
    for _ in 0..5 {
        assert_eq!(
            told(server),
            ["stun:global.stun.twilio.com:3478", "turn:global.turn.twilio.com:3478?transport=udp"]
        );
    }
    assert_eq!(provider.asked(), 1);
    let heard = provider.heard().to_lowercase();
    assert!(heard.starts_with("post /2010-04-01/accounts/ac1/tokens.json http/1.1\r\n"), "{heard}");
    assert!(heard.contains("authorization: basic qumxonr3awxpby10b2tlbg==\r\n"), "{heard}");
    assert!(
        heard.contains("content-type: application/x-www-form-urlencoded\r\n") && heard.ends_with("ttl=21600"),
        "{heard}"
    );
}

#[test]
fn the_next_one_serves_where_the_first_refuses() {
    let (first, second) = (Provider::start(401, "{}", false), Provider::start(201, CLOUDFLARE, false));
    let (server, _end) = in_process(vec![twilio(&first.api), cloudflare(&second.api)]);
    let wanted = ["stun:stun.cloudflare.com:3478", "turn:turn.cloudflare.com:3478?transport=udp"];
    await_that("served by the second", || told(server) == wanted);
    let heard = second.heard().to_lowercase();
    assert!(heard.starts_with("post /v1/turn/keys/k1/credentials/generate-ice-servers http/1.1\r\n"), "{heard}");
    assert!(heard.contains("authorization: bearer flare-token\r\n") && heard.ends_with("{\"ttl\":21600}"), "{heard}");
    // Somebody who asks for credentials over HTTP gets the same.
    let (status, _, body) =
        request(server, "GET", "/api/turn-credentials", &format!("Authorization: Bearer {TOKEN}\r\n"));
    let credentials: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(
        (status, credentials["username"].as_str(), credentials["credential"].as_str()),
        (200, Some("u2"), Some("p2"))
    );
}

#[test]
fn no_client_waits_for_a_provider_that_does_not_answer() {
    let mut provider = Provider::start(201, TWILIO, true);
    let (server, _end) = in_process(vec![twilio(&provider.api)]);
    // It comes while the provider is still silent, and our own relay does instead.
    let urls = told(server);
    assert!(urls.len() == 2 && urls.iter().all(|url| url.starts_with("turn:127.0.0.1:")), "{urls:?}");
    await_that("asked", || provider.asked() == 1);
    drop(provider.may.take());
    await_that("served by the provider", || told(server).iter().any(|url| url.contains("twilio")));
}

#[test]
fn a_secret_of_ones_own_makes_credentials_for_anybody_with_the_token() {
    let server = Server::start(&[
        ("TURN_URLS", "turn:t.example,turns:t.example:443"),
        ("TURN_SECRET", "north-by-northwest"),
        ("TURN_TTL", "2h"),
    ]);
    let get = |path: &str, headers: &str| request(server.http, "GET", path, headers);
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let (status, head, body) = get("/api/turn-credentials?user=alice", &bearer);
    assert_eq!(status, 200);
    assert!(head.contains("cache-control: no-store"), "{head}");
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(
        answer["urls"],
        serde_json::json!(["turn:t.example:3478?transport=udp", "turns:t.example:443?transport=tcp"])
    );
    assert_eq!(answer["ttl"], 7200);
    let username = answer["username"].as_str().expect("text");
    let (expiry, user) = username.split_once(':').expect("two parts");
    let left = expiry.parse::<u64>().expect("seconds") - unix();
    assert!(user == "alice" && (7_100..=7_200).contains(&left), "{username}");
    let secret = TurnSecret::new(b"north-by-northwest", Hmac::default());
    assert_eq!(answer["credential"], secret.password(username));
    // Others are drawn a name, another one each.
    let drawn =
        |()| serde_json::from_str::<Value>(&get("/api/turn-credentials", &bearer).2).expect("JSON")["username"].clone();
    assert_ne!(drawn(()), drawn(()));
    assert_eq!(get("/api/turn-credentials?user=a%20b", &bearer).0, 400);
    assert_eq!(get(&format!("/api/turn-credentials?user={}", "a".repeat(65)), &bearer).0, 400);
    assert_eq!(told(server.http), ["turn:t.example:3478?transport=udp", "turns:t.example:443?transport=tcp"]);
    // Without the token nothing is told, and guessing ends.
    let (status, head, _) = get("/api/turn-credentials", "");
    assert!(status == 401 && head.contains("www-authenticate: bearer"), "{head}");
    for _ in 0..20 {
        assert_eq!(get("/api/turn-credentials", "").0, 401, "who shows nothing guesses nothing");
    }
    assert_eq!(get("/api/turn-credentials", &bearer).0, 200);
    let guess = |n| get("/api/turn-credentials", &format!("Authorization: Bearer wrong-token-{n}\r\n"));
    for n in 0..10 {
        assert_eq!(guess(n).0, 401, "{n}");
    }
    let last = guess(10);
    assert!(last.0 == 429 && last.1.contains("retry-after: "), "{}", last.1);
    let (_, log) = {
        server.signal("TERM");
        server.ended()
    };
    assert!(!log.contains("north-by") && !log.contains(TOKEN), "{log}");
}

fn unix() -> u64 {
    let now = std::process::Command::new("date").arg("+%s").output().expect("date runs");
    String::from_utf8_lossy(&now.stdout).trim().parse().expect("seconds")
}

#[test]
fn a_policy_is_answered_before_anything_else_is_said() {
    let server = Server::start(&[]);
    let open = |query: &str| Socket::open(server.http, query, &[]).expect("upgraded");
    for (policy, transports) in [("all", &["udp", "tcp"][..]), ("udp", &["udp"]), ("tcp", &["tcp"])] {
        let mut socket = open(&format!("?api_key={TOKEN}&ice_transport_policy={policy}"));
        assert_eq!(socket.hear()["type"], "session_id");
        let config = socket.hear();
        assert_eq!(config["type"], "turn_config");
        let urls: Vec<_> =
            config["urls"].as_array().expect("a list").iter().map(|url| url.as_str().expect("text")).collect();
        assert!(urls.iter().zip(transports).all(|(url, by)| url.starts_with("turn:") && url.ends_with(by)), "{urls:?}");
        assert_eq!(urls.len(), transports.len());
        assert!(config["username"].as_str().is_some_and(|name| name.contains(':')) && config["credential"].is_string());
        let mut socket = open(&format!("?ice_transport_policy={policy}"));
        socket.say(&serde_json::json!({"type": "hello", "token": TOKEN}));
        assert_eq!(socket.hear()["urls"], config["urls"], "before the acknowledgement");
        let acknowledged = socket.hear();
        assert_eq!(
            (acknowledged["type"].as_str(), acknowledged["ice_servers"][0]["urls"].clone()),
            (Some("hello_ack"), config["urls"].clone())
        );
    }
    let mut socket = open(&format!("?api_key={TOKEN}"));
    socket.hear();
    socket.say(&serde_json::json!({"type": "ping"}));
    assert_eq!(socket.hear()["type"], "pong", "who asks for no paths is told of none");
}

#[test]
fn relay_only_without_a_relay_is_refused_at_once() {
    let server = Server::start(&[
        ("RELAY", "off"),
        ("ICE_SERVERS_JSON", r#"[{"urls":["stun:s.example","turn:t.example"],"username":"me","credential":"my own"}]"#),
    ]);
    for (query, hello) in
        [(format!("?api_key={TOKEN}&ice_transport_policy=tcp"), false), ("?ice_transport_policy=tcp".to_owned(), true)]
    {
        let mut socket = Socket::open(server.http, &query, &[]).expect("upgraded");
        if hello {
            socket.say(&serde_json::json!({"type": "hello", "token": TOKEN}));
        }
        let (code, text) = error_of(&socket.hear());
        assert_eq!(code, "no_relay");
        assert!(text.contains("not allowed"), "{text}");
        assert_eq!(socket.closed(), Some(1008));
    }
    let mut socket =
        Socket::open(server.http, &format!("?api_key={TOKEN}&ice_transport_policy=udp"), &[]).expect("upgraded");
    assert_eq!(socket.hear()["type"], "session_id");
    assert_eq!(socket.hear()["urls"], serde_json::json!(["turn:t.example"]));
    assert_eq!(told(server.http), ["stun:s.example", "turn:t.example"]);
}

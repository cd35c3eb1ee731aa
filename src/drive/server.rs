//! Binds everything, starts workers, audio and HTTP, and takes them down in order. It serves nobody itself.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use actix::prelude::*;
use actix_server::ServerHandle;
use actix_web::web;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use socket2::{Domain, Socket, TcpKeepalive, Type};
use thiserror::Error;
use tokio::sync::watch;

use crate::audio::pace::Lateness;
use crate::audio::voices::voices;
use crate::config::{Config, Host as ListenHost, TlsFiles};
use crate::engine::access::Access;
use crate::engine::credentials::TurnSecret;
use crate::engine::deadline::Beat;
use crate::engine::guests::PER_ADDRESS;
use crate::engine::host::Hmac;
use crate::engine::ice_servers::{IceServers, RelayPorts};
use crate::engine::providers::{Providers, Serving, Source};
use crate::engine::relay::{Nonces, Plan, Registry, RelayParts};
use crate::engine::session::Host;
use crate::wire::ids::WorkerId;
use crate::wire::media::AudioTurn;
use crate::wire::signal::VoiceCard;

use super::addresses::{MediaAddress, lan_address, media_addresses, watch as watch_addresses};
use super::audio::AudioEngine;
use super::banner::banner;
use super::capacity::{Capacity, Directory};
use super::clock::{Clock, entropy};
use super::gate::Gate;
use super::health::Health;
use super::hub::Common;
use super::limits;
use super::metrics::{AudioCollector, Metrics, RelayCollector};
use super::post::{Post, PostBox};
use super::priority;
use super::providers;
use super::reflexive::Outside;
use super::rooms::Lobby;
use super::rtp_ports::RtpPorts;
use super::serve::serve;
use super::tcp::{MediaListener, Reception, Room, Service, accept};
use super::turn::{self, TurnServers};
use super::udp::{MediaPort, MediaSocket, bind_all, listen_all};
use super::visits::PATIENCE;
use super::worker::{Play, Retire, Sockets, Worker};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// As long as a WebSocket may be silent.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);
/// From one time at which clients are pinged to the next; many have the same.
const PINGS: Duration = Duration::from_millis(100);
/// How long goodbyes may take; with what follows, the process is gone within 10 s.
const GOODBYE: Duration = Duration::from_secs(5);
/// WebSockets, idle connections and strangers together, beside the sessions.
const CONNECTIONS_BESIDE: usize = 4096;
/// Allocations at the relay for each session that there may be: one for each transport and interface of a page that goes through it.
const ALLOCATIONS: usize = 4;
/// One session in so many may have a connection to the media port over TCP: UDP is let through nearly everywhere.
const TCP_SHARE: u32 = 2;

/// Why the server did not start.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The HTTP address could not be bound.
    #[error("PORT: {address}: {source}")]
    Http {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The media port could not be bound.
    #[error("MEDIA_PORT: {0}")]
    Media(io::Error),
    /// The relay's port could not be bound.
    #[error("RELAY_PORT: {0}; RELAY=off does without a relay")]
    Relay(io::Error),
    /// The relay's port for TLS could not be bound.
    #[error("TURNS_PORT: {0}")]
    Turns(io::Error),
    /// The interfaces could not be listed.
    #[error("HOST: {0}")]
    Addresses(io::Error),
    /// No certificate, or one that does not go with its key.
    #[error("TLS_CERT and TLS_KEY: {0}")]
    Tls(String),
    /// The audio engine did not start.
    #[error("audio: {0}")]
    Audio(String),
    /// A thread or a runtime did not start.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// A server that runs.
#[derive(Debug)]
pub struct Server {
    http: ServerHandle,
    workers: Vec<Staff>,
    draining: watch::Sender<bool>,
    audio: AudioEngine,
    /// Where HTTP listens.
    pub http_addr: SocketAddr,
    /// The media port.
    pub media_port: u16,
    /// The relay's port, if there is one.
    pub relay_port: Option<u16>,
}

impl Server {
    /// Binds, starts and serves. Must be called inside an actix system.
    ///
    /// # Errors
    /// What could not be bound or started, named as the operator wrote it.
    pub async fn start(config: &Config) -> Result<Self, ServeError> {
        Self::start_with(config, PATIENCE).await
    }

    /// Tests have less patience with those who bring no request.
    async fn start_with(config: &Config, patience: Duration) -> Result<Self, ServeError> {
        let clock = Clock;
        let connections = usize::try_from(config.max_sessions.get()).unwrap_or(usize::MAX);
        let connections = connections.saturating_add(CONNECTIONS_BESIDE);
        limits::raise_open_files(connections.saturating_add(connections / TCP_SHARE as usize));
        let tls = config.tls.as_ref().map(tls_config).transpose()?;
        let listener = listen(config.host, config.port)?;
        let http_addr = listener.local_addr()?;
        let addresses = media_addresses(config.host, &config.public_ip).map_err(ServeError::Addresses)?;
        let bound = bind_all(&addresses, config.media_port, config.workers).map_err(ServeError::Media)?;
        let MediaPort { sockets, port: media_port, listeners: by_tcp } = bound;
        for socket in sockets.iter().take(1).flatten() {
            tracing::info!(address = %socket.advertised, "media address");
        }
        let RelayPort { sockets: relay_sockets, by_tcp: relay_by_tcp, by_tls, port: relay_port, tls_port } =
            RelayPort::bind(config, &addresses)?;
        let candidates: Vec<SocketAddr> = sockets.iter().take(1).flatten().map(|socket| socket.advertised).collect();

        let (metrics, mut registry) = Metrics::new();
        let listeners: Arc<OnceLock<Vec<Addr<Worker>>>> = Arc::default();
        let health = Health::default();
        let audio = start_audio(clock, &health, metrics.clone(), config.workers, listeners.clone())?;
        registry.register_collector(Box::new(AudioCollector(audio.handle())));

        let cards = cards();
        let host = Host::new(entropy, WorkerId(0).letter(), cards.clone());
        let relay = relay_port.map(|_| relay_parts(clock, &candidates, config));
        if let Some(parts) = &relay {
            registry.register_collector(Box::new(RelayCollector(parts.registry.clone())));
        }
        let ports = relay_port.map(|plain| RelayPorts { plain, tls: tls_port });
        let ice_servers = ice_servers(clock, relay.as_ref(), ports, config);
        let providers = Providers::new(config.ice_sources.clone(), config.turn_ttl);
        let (tell, serving) = watch::channel(Serving::default());
        actix::spawn(providers::keep(providers, clock, tell));
        let ours = relay.as_ref().map(|parts| parts.registry.clone());
        let capacity = Capacity::new(config.max_sessions.get(), config.workers);
        let directory = Directory::default();
        let (post, boxes) = Post::new(config.workers);
        let outside = Outside::new(&config.stun_servers, behind_nat(&sockets, &addresses));
        let common = Common {
            clock,
            metrics: metrics.clone(),
            audio: audio.handle(),
            health: health.clone(),
            capacity: capacity.clone(),
            directory: directory.clone(),
            post: post.clone(),
            relay,
            outside: outside.clone(),
            rtp_ports: RtpPorts::new(&addresses, [Some(media_port), relay_port].into_iter().flatten().collect(), ours),
            turn: outside_turn(config, &ice_servers, &serving, clock),
        };
        actix::spawn(watch_addresses(config.host, config.public_ip, addresses));
        let mut workers = Vec::with_capacity(sockets.len());
        let relay_sockets = relay_sockets.into_iter().chain(std::iter::repeat_with(Vec::new));
        let sockets = sockets.into_iter().zip(relay_sockets).map(|(media, relay)| Sockets { media, relay });
        for ((id, sockets), post_box) in (0..).map(WorkerId).zip(sockets).zip(boxes) {
            workers.push(Staff::start(id, &common, host.of_worker(id.letter()), post_box, sockets).await?);
        }
        let addresses = || workers.iter().map(|staff| staff.worker.clone()).collect::<Vec<_>>();
        drop(listeners.set(addresses()));

        let room = Room::new(config.max_sessions.get().div_ceil(TCP_SHARE), PER_ADDRESS);
        let reception = Reception { clock, metrics: metrics.clone(), room, post };
        let relay_tls = tls.clone().map(Arc::new);
        for (service, tls, listeners) in
            [(Service::Media, None, by_tcp), (Service::Relay, None, relay_by_tcp), (Service::Relay, relay_tls, by_tls)]
        {
            for MediaListener { listener, advertised } in listeners {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                health.spawn(accept(service, tls.clone(), (listener, advertised), reception.clone()));
            }
        }

        let lobby = Lobby::new(config.room_limits, metrics.clone());
        let (draining, drained) = watch::channel(false);
        let gate = web::Data::new(Gate {
            clock,
            beat: Beat::new(clock.now(), PINGS),
            metrics,
            access: Access::new(config.auth.clone(), config.allowed_origins.clone(), config.trusted_proxies.clone()),
            attempts: Mutex::default(),
            foreign_attempts: Mutex::default(),
            workers: addresses(),
            capacity,
            directory,
            ice_servers,
            serving,
            outside,
            lobby,
            rooms_open: config.rooms_open,
            rtp_window: config.rtp_port_range,
            voices: cards,
            health,
            draining: drained,
            registry,
        });
        let http = serve(gate, listener, tls, connections, patience)?;
        Ok(Self { http, workers, draining, audio, http_addr, media_port, relay_port })
    }

    /// What a person is shown.
    #[must_use]
    pub fn banner(&self, config: &Config) -> String {
        banner(self.http_addr, (self.media_port, self.relay_port), config.tls.is_some(), &config.auth, lan_address())
    }

    /// Takes no more sessions, says goodbye to all, and stops; within 10 s.
    pub async fn stop(self) {
        self.draining.send_replace(true);
        let goodbyes = futures_util::future::join_all(self.workers.iter().map(|staff| staff.worker.send(Retire)));
        if tokio::time::timeout(GOODBYE, goodbyes).await.is_err() {
            tracing::warn!("sessions did not end in time");
        }
        self.http.stop(true).await;
        self.audio.stop();
        for staff in &self.workers {
            staff.arbiter.stop();
        }
        let ended =
            tokio::task::spawn_blocking(move || self.workers.into_iter().for_each(|staff| drop(staff.arbiter.join())));
        if let Err(error) = tokio::time::timeout(Duration::from_secs(1), ended).await {
            tracing::warn!(%error, "the media workers did not end in time");
        }
    }
}

/// The addresses of sockets that others may see under another one: not of those whose other one the operator has told.
fn behind_nat(sockets: &[Vec<MediaSocket>], addresses: &[MediaAddress]) -> Vec<SocketAddr> {
    let own = |socket: &&MediaSocket| addresses.iter().any(|known| known.bound == socket.advertised.ip());
    sockets.iter().take(1).flatten().filter(own).map(|socket| socket.advertised).collect()
}

/// What the relays of a run share: secrets of this run, and what is ours.
fn relay_parts(clock: Clock, candidates: &[SocketAddr], config: &Config) -> RelayParts {
    let mut key = [0; 20];
    entropy(&mut key);
    let epoch = clock.moment();
    let plan = Plan::new(config.workers);
    let most = usize::try_from(config.max_sessions.get()).unwrap_or(usize::MAX).saturating_mul(ALLOCATIONS);
    RelayParts {
        worker: WorkerId(0),
        plan,
        registry: Arc::new(Registry::new(candidates, most)),
        secret: drawn_secret(),
        nonces: Nonces::new(key, Hmac::default(), epoch.now),
        entropy,
        epoch,
    }
}

/// Where the relay is bound, if there is one.
#[derive(Default)]
struct RelayPort {
    /// For each worker.
    sockets: Vec<Vec<MediaSocket>>,
    by_tcp: Vec<MediaListener>,
    by_tls: Vec<MediaListener>,
    port: Option<u16>,
    tls_port: Option<u16>,
}

impl RelayPort {
    fn bind(config: &Config, addresses: &[MediaAddress]) -> Result<Self, ServeError> {
        let Some(port) = config.relay_port else { return Ok(Self::default()) };
        let MediaPort { sockets, listeners, port } =
            bind_all(addresses, port, config.workers).map_err(ServeError::Relay)?;
        let tls = config.turns_port.map(|port| listen_all(addresses, port)).transpose().map_err(ServeError::Turns)?;
        let (by_tls, tls_port) = tls.map(|(listeners, port)| (listeners, Some(port))).unwrap_or_default();
        Ok(Self { sockets, by_tcp: listeners, by_tls, port: Some(port), tls_port })
    }
}

/// The voices as clients see them.
fn cards() -> Vec<VoiceCard> {
    let of = |text: &str| text.to_owned();
    voices()
        .map(|(_, info)| VoiceCard { id: of(info.id), name: of(info.name), description: of(info.description) })
        .collect()
}

/// What clients are told of servers from: users have the same names at our own relay as elsewhere.
fn ice_servers(clock: Clock, parts: Option<&RelayParts>, relay: Option<RelayPorts>, config: &Config) -> IceServers {
    let shared = config.ice_sources.iter().find_map(|source| match source {
        Source::Shared { secret, urls } => Some((secret.clone(), urls.clone().into())),
        _ => None,
    });
    IceServers {
        secret: parts.map_or_else(drawn_secret, |parts| parts.secret.clone()),
        relay,
        public: config.public_ip.v4.map(IpAddr::V4).or(config.public_ip.v6.map(IpAddr::V6)),
        life: config.turn_ttl,
        epoch: parts.map_or_else(|| clock.moment(), |parts| parts.epoch),
        stun: config.stun_servers.clone(),
        shared,
    }
}

/// The outside TURN servers by which our own sessions are reached, unless nobody told us of any.
fn outside_turn(
    config: &Config,
    ice_servers: &IceServers,
    serving: &watch::Receiver<Serving>,
    clock: Clock,
) -> Option<TurnServers> {
    if config.ice_sources.is_empty() {
        return None;
    }
    let (tell, servers) = watch::channel(Vec::new());
    actix::spawn(turn::provide(ice_servers.clone(), serving.clone(), clock, tell));
    Some(servers)
}

/// A secret of this run.
fn drawn_secret() -> TurnSecret {
    let mut secret = [0; 32];
    entropy(&mut secret);
    TurnSecret::new(&secret, Hmac::default())
}

/// The threads of the audio, and the way from there to the workers.
fn start_audio(
    clock: Clock,
    health: &Health,
    metrics: Metrics,
    workers: u8,
    listeners: Arc<OnceLock<Vec<Addr<Worker>>>>,
) -> Result<AudioEngine, ServeError> {
    /// Turns that may wait for a worker: a second. It leaves out the oldest itself; of a newest one nobody would tell it.
    const BEHIND: usize = 50;
    let under_way: Vec<Arc<AtomicUsize>> = (0..workers).map(|_| Arc::default()).collect();
    let sink = move |turn: Arc<AudioTurn>, Lateness(late)| {
        metrics.turn(late);
        for (worker, under_way) in listeners.get().into_iter().flatten().zip(&under_way) {
            if under_way.load(Ordering::Acquire) >= BEHIND {
                metrics.turn_skipped();
                continue;
            }
            under_way.fetch_add(1, Ordering::AcqRel);
            worker.do_send(Play { turn: turn.clone(), under_way: under_way.clone() });
        }
    };
    AudioEngine::start(clock, health, Box::new(sink)).map_err(|error| ServeError::Audio(error.to_string()))
}

/// A worker and its thread.
#[derive(Debug)]
struct Staff {
    worker: Addr<Worker>,
    arbiter: Arbiter,
}

impl Staff {
    async fn start(
        id: WorkerId,
        common: &Common,
        host: Host,
        post_box: PostBox,
        sockets: Sockets,
    ) -> Result<Self, ServeError> {
        let arbiter = Arbiter::new();
        let (tell, told) = tokio::sync::oneshot::channel();
        let common = common.clone();
        // Sockets and the hub belong to the worker's own thread.
        arbiter.spawn_fn(move || {
            priority::media_goes_first();
            drop(tell.send(Worker::new(id, common, Arc::new(host), post_box, sockets).start()));
        });
        let worker = told.await.map_err(|_| io::Error::other("a media worker did not start"))?;
        Ok(Self { worker, arbiter })
    }
}

/// `[::]` is bound dual stack; on a host without IPv6 it means all of IPv4.
fn listen(host: ListenHost, port: u16) -> Result<TcpListener, ServeError> {
    let address = host.at(port);
    match bind_tcp(address) {
        Err(error) if host.ip().is_unspecified() && host.ip().is_ipv6() && error.kind() != io::ErrorKind::AddrInUse => {
            let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
            tracing::warn!(%error, "no IPv6 on this host: HTTP listens on IPv4 only");
            bind_tcp(address).map_err(|source| ServeError::Http { address, source })
        }
        bound => bound.map_err(|source| ServeError::Http { address, source }),
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    // Accepted sockets have it from this one. A client that takes nothing for so long is gone, and its WebSocket could not
    // even be pinged: its output is full.
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    // One that is silent and is asked nothing may be gone, too.
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(UNACKNOWLEDGED))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn tls_config(files: &TlsFiles) -> Result<rustls::ServerConfig, ServeError> {
    let fault =
        |path: &std::path::Path, error: &dyn std::fmt::Display| ServeError::Tls(format!("{}: {error}", path.display()));
    let chain = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| fault(&files.cert, &error))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| fault(&files.key, &error))?;
    rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| ServeError::Tls(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::TcpStream;

    use actix_web::rt::task::spawn_blocking;
    use rcgen::CertifiedKey;
    use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
    use socket2::SockRef;

    use super::*;
    use crate::config::{self, Command};

    fn config(flags: &[&str]) -> Config {
        let flags = ["voxcast", "--host=127.0.0.1", "--port=0", "--media-port=0", "--relay-port=0"].iter().chain(flags);
        let Ok(Command::Serve(config)) = config::read(flags, &|_| None, [7; 16]) else { panic!("sound settings") };
        *config
    }

    async fn status(address: SocketAddr, request: &'static str) -> String {
        let answer = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address)?;
            write!(stream, "GET {request} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        });
        let answer = answer.await.expect("it ran").expect("it answers");
        answer.split(' ').nth(1).expect("a status line").to_owned()
    }

    #[actix::test]
    async fn while_it_drains_it_is_alive_but_not_ready() {
        let server = Server::start(&config(&[])).await.expect("it starts");
        let at = server.http_addr;
        assert_eq!(status(at, "/readyz").await, "200");
        server.draining.send_replace(true);
        assert_eq!(status(at, "/readyz").await, "503");
        assert_eq!(status(at, "/ws").await, "503", "no new session either");
        assert_eq!(status(at, "/healthz").await, "200");
        server.draining.send_replace(false);
        assert_ne!(status(at, "/ws").await, "503");
        server.stop().await;
    }

    #[actix::test]
    async fn without_audio_it_is_not_ready() {
        let server = Server::start(&config(&[])).await.expect("it starts");
        let at = server.http_addr;
        assert_eq!(status(at, "/readyz").await, "200");
        server.audio.stop();
        assert_eq!(status(at, "/readyz").await, "503");
        assert_eq!(status(at, "/healthz").await, "200");
        server.http.stop(true).await;
    }

    /// Longer than any of these waits is nobody's patience; shorter than actix-http's own, of an idle connection by HTTP/2.
    const SOON: Duration = Duration::from_secs(4);
    /// That of a server here, with those who bring no request.
    const IMPATIENT: Duration = Duration::from_secs(1);

    fn connect(address: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(SOON)).expect("a timeout");
        stream
    }

    /// Reads until this has come.
    fn read_until(stream: &mut impl Read, last: &[u8]) {
        let mut read = Vec::new();
        while !read.ends_with(last) {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap_or_else(|error| panic!("{error} after {read:?}"));
            read.extend(byte);
        }
    }

    /// Whether the server ends it.
    fn ends(stream: &mut impl Read) -> bool {
        match stream.read_to_end(&mut Vec::new()) {
            Ok(_) => true,
            Err(error) => matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof),
        }
    }

    #[actix::test]
    async fn a_request_that_does_not_come_ends_a_connection_but_no_websocket() {
        let server = Server::start_with(&config(&[]), IMPATIENT).await.expect("it starts");
        let at = server.http_addr;
        let done = spawn_blocking(move || {
            let mut socket = connect(at);
            let key = "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\nSec-WebSocket-Version: 13";
            write!(
                socket,
                "GET /ws HTTP/1.1\r\nHost: {at}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{key}\r\n\r\n"
            )
            .expect("sent");
            read_until(&mut socket, b"\r\n\r\n");
            for half in
                ["G", "GET /healthz HTTP/1.1\r\n", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nH"]
            {
                let mut stream = connect(at);
                write!(stream, "GET /healthz HTTP/1.1\r\nHost: {at}\r\n\r\n").expect("sent");
                read_until(&mut stream, b"ok\n");
                write!(stream, "{half}").expect("sent");
                assert!(ends(&mut stream), "{half}");
            }
            // A ping without a word, masked with zeros, and its answer (RFC 6455 section 5.2).
            socket.write_all(&[0x89, 0x80, 0, 0, 0, 0]).expect("it is open");
            read_until(&mut socket, b"\x8a\0");
        });
        done.await.expect("it went well");
        server.stop().await;
    }

    #[actix::test]
    async fn a_connection_by_http2_ends_when_no_request_comes() {
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let folder = std::env::temp_dir().join(format!("voxcast-http2-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let [chain, key] = [("cert.pem", cert.pem()), ("key.pem", signing_key.serialize_pem())].map(|(name, text)| {
            let path = folder.join(name);
            std::fs::write(&path, text).expect("written");
            path.to_str().expect("text").to_owned()
        });
        let config = config(&[&format!("--tls-cert={chain}"), &format!("--tls-key={key}")]);
        let server = Server::start_with(&config, IMPATIENT).await.expect("it starts");
        std::fs::remove_dir_all(&folder).expect("it is ours");
        let at = server.http_addr;
        let done = spawn_blocking(move || {
            let mut roots = RootCertStore::empty();
            roots.add(cert.der().clone()).expect("a certificate");
            let mut client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
            client.alpn_protocols = vec![b"h2".to_vec()];
            let session = ClientConnection::new(Arc::new(client), "localhost".try_into().expect("a name"));
            let mut stream = StreamOwned::new(session.expect("a session"), connect(at));
            // Settings without any, acknowledged, and `GET / HTTP/2` of `x` (RFC 9113 section 3.4, RFC 7541 appendix A).
            stream
                .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0")
                .expect("sent");
            stream.write_all(b"\0\0\x06\x01\x05\0\0\0\x01\x82\x84\x87\x41\x01x").expect("sent");
            read_until(&mut stream, b"</html>\n");
            assert!(ends(&mut stream));
        });
        done.await.expect("it went well");
        server.stop().await;
    }

    #[test]
    fn an_accepted_connection_does_not_wait_for_ever() {
        let listener = bind_tcp(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port is free");
        let _client = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let (accepted, _) = listener.accept().expect("a client");
        let accepted = SockRef::from(&accepted);
        assert_eq!(accepted.tcp_user_timeout().expect("Linux has it"), Some(UNACKNOWLEDGED));
        assert!(accepted.keepalive().expect("all have it"));
        assert_eq!(accepted.tcp_keepalive_time().expect("Linux has it"), UNACKNOWLEDGED);
    }
}

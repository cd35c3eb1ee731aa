//! Flags, environment and `.env` into one checked [`Config`], or an error that names the variable. It opens no socket and reads no
//! file but `.env`; [`read`] is pure, so that tests need not touch the process's environment.

use std::ffi::OsString;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;
use std::{env, fs, io};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::builder::StyledStr;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use ipnet::IpNet;
use thiserror::Error;

use crate::engine::access::{AllowedOrigins, AuthMode, DEV_TOKEN, Origin, Secret, SecretFault};
use crate::engine::credentials::TurnSecret;
use crate::engine::host::{Hmac, PortRange};
use crate::engine::providers::{self, Source};
use crate::engine::room::RoomLimits;
use crate::logging::{LogFilter, LogFormat};
use crate::wire::ice_url::{IceUrl, IceUrlFault, Scheme};
use crate::wire::ids::WorkerId;

/// What stands for a variable that nobody set; also shown by `--help`. The others are off by default.
const DEFAULTS: [(&str, &str); 17] = [
    ("HOST", "::"),
    ("PORT", "8080"),
    ("TRUSTED_PROXIES", "127.0.0.0/8,::1"),
    ("WORKERS", CORES),
    ("MAX_SESSIONS", "10000"),
    ("ROOMS_OPEN", "false"),
    ("ROOM_SIZE", "16"),
    ("MAX_ROOMS", "10000"),
    ("ROOMS_PER_ADDRESS", "64"),
    ("MEDIA_PORT", "3479"),
    ("RELAY", "on"),
    ("RELAY_PORT", "3478"),
    ("TURNS_PORT", "5349"),
    ("STUN_SERVERS", "stun:stun.cloudflare.com:3478,stun:stun.l.google.com:19302"),
    ("TURN_TTL", "6h"),
    ("LOG", "info"),
    ("LOG_FORMAT", "human"),
];

/// A media worker for each.
const CORES: &str = "cores";

/// Largest `.env` that is read: a typing error in a path must not read a disk.
const DOTENV_BYTES: u64 = 64 * 1024;

/// How long credentials for a relay may last: a minute leaves time to renew them, and a day is the most that providers give.
const TURN_TTLS: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(24 * 60 * 60);

/// Where the providers' interfaces are.
const TWILIO_API: &str = "https://api.twilio.com";
const CLOUDFLARE_API: &str = "https://rtc.live.cloudflare.com";

/// People in a room: everybody's browser has a connection to everybody else's, and none has hundreds.
const LARGEST_ROOM: u32 = 256;

/// Longest run of the load client. It must stop by itself, whatever was typed.
const LONGEST_LOAD: Duration = Duration::from_secs(24 * 60 * 60);

/// What the process was asked to do.
#[derive(Clone, Debug)]
pub enum Command {
    /// Serve, the default.
    Serve(Box<Config>),
    /// Be many listeners of a server.
    Load(LoadArgs),
}

/// Everything that the server can be told, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// `HOST`: where HTTP listens, and which addresses media uses.
    pub host: Host,
    /// `PORT`: HTTP, over TCP. 0 lets the system choose.
    pub port: u16,
    /// `TLS_CERT` and `TLS_KEY`; without them HTTP is plain.
    pub tls: Option<TlsFiles>,
    /// `ALLOWED_ORIGINS`: pages of other origins that may use the server.
    pub allowed_origins: AllowedOrigins,
    /// `TRUSTED_PROXIES`: peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// `AUTH_TOKEN`.
    pub auth: AuthMode,
    /// `MAX_SESSIONS`: more are refused.
    pub max_sessions: NonZeroU32,
    /// `ROOMS_OPEN`: whether anybody may join rooms, without a token.
    pub rooms_open: bool,
    /// `ROOM_SIZE`, `MAX_ROOMS` and `ROOMS_PER_ADDRESS`.
    pub room_limits: RoomLimits,
    /// `WORKERS`: threads that carry media, 1 to 64.
    pub workers: u8,
    /// `MEDIA_PORT`: ICE, DTLS and SRTP. 0 lets the system choose.
    pub media_port: u16,
    /// `RELAY` and `RELAY_PORT`: where the relay listens, if there is one. 0 lets the system choose.
    pub relay_port: Option<u16>,
    /// `TURNS_PORT`: where the relay listens for TLS, if there is a certificate. 0 lets the system choose.
    pub turns_port: Option<u16>,
    /// `RTP_PORT_RANGE`: UDP ports of which clients may choose.
    pub rtp_port_range: Option<PortRange>,
    /// `STUN_SERVERS`: who tells us our addresses behind a NAT.
    pub stun_servers: Vec<IceUrl>,
    /// Where the ICE servers of clients come from beside our own relay, the first one first: `TWILIO_ACCOUNT_SID` and
    /// `TWILIO_AUTH_TOKEN`, `CLOUDFLARE_TURN_KEY_ID` and `CLOUDFLARE_TURN_API_TOKEN`, `TURN_SECRET` and `TURN_URLS`, `ICE_SERVERS_JSON`.
    pub ice_sources: Vec<Source>,
    /// `TURN_TTL`: how long credentials for a relay are good.
    pub turn_ttl: Duration,
    /// `PUBLIC_IP`: what is advertised instead of the host's own addresses.
    pub public_ip: PublicIp,
    /// `LOG`, else `RUST_LOG`.
    pub log: LogFilter,
    /// `LOG_FORMAT`.
    pub log_format: LogFormat,
}

/// The address to listen on. An unspecified one stands for all of the machine's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Host(IpAddr);

impl Host {
    /// An address to listen on.
    #[must_use]
    pub const fn new(address: IpAddr) -> Self {
        Self(address)
    }

    /// Where to bind `port`. `[::]` is meant dual stack: the socket must not be IPv6 only.
    #[must_use]
    pub const fn at(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.0, port)
    }

    /// The address as given; `::` and `0.0.0.0` stand for all.
    #[must_use]
    pub const fn ip(self) -> IpAddr {
        self.0
    }

    /// Whether media may use `addr`, an address of this machine: with `::` any, with `0.0.0.0` any IPv4 one, else that one alone.
    #[must_use]
    pub fn admits(self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        match self.0 {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => true,
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => addr.is_ipv4(),
            only => only == addr,
        }
    }
}

/// Certificate chain and private key, both PEM. The files are read when the server binds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Addresses under which the world reaches this machine, at most one per family.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PublicIp {
    /// The IPv4 one.
    pub v4: Option<Ipv4Addr>,
    /// The IPv6 one.
    pub v6: Option<Ipv6Addr>,
}

/// Be many listeners of a running server, and report what they heard; or many people in rooms.
///
/// Joins LISTENERS sessions at RAMP a second, lets them listen, and prints loss, the distances between packets, and with --pid
/// the server's processor time and memory. It stops by itself. Aim it at your own servers only.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct LoadArgs {
    /// The server's page, such as `http://127.0.0.1:8080`.
    #[arg(value_parser = server_url)]
    pub url: String,
    /// How many listeners.
    #[arg(long, value_name = "N", default_value = "100")]
    pub listeners: NonZeroU32,
    /// How long to listen after the last join: 90, 90s, 5m or 1h.
    #[arg(id = "for", long = "for", value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub duration: Duration,
    /// Joins per second.
    #[arg(long, value_name = "N", default_value = "50")]
    pub ramp: NonZeroU32,
    /// How many of the listeners leave each second once all are there, the oldest first; as many new ones join.
    #[arg(long, value_name = "N", default_value = "0")]
    pub churn: u32,
    /// Whoever is refused or falls out comes again after a second, as browsers do; each time counts as failed.
    #[arg(long)]
    pub again: bool,
    /// Connect, and ask for no sound: what a session costs that waits, and what a join does.
    #[arg(long)]
    pub silent: bool,
    /// Come through the server's own relay, by UDP.
    #[arg(long)]
    pub relay: bool,
    /// Be people in so many rooms instead, who send each other messages.
    #[arg(long, value_name = "N", conflicts_with_all = ["listeners", "churn", "again", "silent", "relay", "voice"])]
    pub rooms: Option<NonZeroU32>,
    /// People in each room.
    #[arg(long, value_name = "N", default_value = "5", requires = "rooms")]
    pub people: NonZeroU32,
    /// Messages a second from one to another, in all rooms together.
    #[arg(long, value_name = "N", default_value = "1000", requires = "rooms")]
    pub messages: NonZeroU32,
    /// The voice to listen to.
    #[arg(long, value_name = "ID", default_value = "sine-440")]
    pub voice: String,
    /// The server's token; `AUTH_TOKEN` serves as well, and hides better.
    #[arg(long, value_parser = token, default_value = DEV_TOKEN, hide_default_value = true)]
    pub token: Secret,
    /// The server's process on this machine, whose processor time and memory are measured.
    #[arg(long)]
    pub pid: Option<NonZeroU32>,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Why there is no [`Command`].
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A value that does not parse, or does not go with another. Its text names the variable.
    #[error("{name}: {problem}")]
    Variable {
        /// As it is written in the environment.
        name: &'static str,
        /// What is wrong. The value of a secret is not in it.
        problem: String,
    },
    /// A line of `.env` is not `NAME=value`. The line itself is not shown: it may hold a secret.
    #[error(".env: line {line} is not NAME=value")]
    Dotenv {
        /// Counted from 1.
        line: usize,
    },
    /// `.env` is there and cannot be read.
    #[error(".env: {0}")]
    DotenvFile(#[source] io::Error),
    /// The system gave no random bytes.
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
    /// Wrong flags, or `--help` and `--version`, which are answered by this too.
    #[error(transparent)]
    Usage(#[from] clap::Error),
}

impl ConfigError {
    /// Prints what there is to say, help to standard output and faults to standard error, and gives the process's exit code: 0 for help, else 2.
    #[must_use]
    pub fn report(&self) -> ExitCode {
        match self {
            Self::Usage(usage) => {
                // A closed pipe is the only thing that can go wrong here, and then nobody reads a complaint either.
                let _ = usage.print();
                u8::try_from(usage.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
            }
            fault => {
                eprintln!("error: {fault}");
                ExitCode::from(2)
            }
        }
    }

    fn variable(name: &'static str, problem: impl Display) -> Self {
        Self::Variable { name, problem: problem.to_string() }
    }
}

/// Reads this process's flags, its environment, and `.env` in the current directory. A flag wins over the environment, and
/// the environment over `.env`.
///
/// # Errors
/// See [`ConfigError`]; [`ConfigError::report`] prints it.
pub fn from_process() -> Result<Command, ConfigError> {
    let file = dotenv_file()?;
    let from_file = |name: &str| file.iter().find(|(known, _)| known == name).map(|(_, value)| value.into());
    let mut entropy = [0; 16];
    getrandom::fill(&mut entropy).map_err(ConfigError::Random)?;
    read(env::args_os(), &|name| env::var_os(name).or_else(|| from_file(name)), entropy)
}

/// What [`from_process`] does, of given flags (the program's name first), environment, and 128 random bits for the token of a server without one.
///
/// # Errors
/// See [`ConfigError`].
pub fn read<A>(args: A, env: &dyn Fn(&str) -> Option<OsString>, entropy: [u8; 16]) -> Result<Command, ConfigError>
where
    A: IntoIterator<Item: Into<OsString> + Clone>,
{
    let matches = command().try_get_matches_from(args)?;
    let Flags { serve, command } = Flags::from_arg_matches(&matches)?;
    let env = Environment(env);
    match command {
        None => serve.check(&env, entropy).map(|config| Command::Serve(Box::new(config))),
        Some(Task::Load(mut load)) => {
            let given = matches.subcommand_matches("load").and_then(|load| load.value_source("token"));
            if given != Some(ValueSource::CommandLine)
                && let Some(token) = env.secret("AUTH_TOKEN", None)?
            {
                load.token = token;
            }
            Ok(Command::Load(load))
        }
    }
}

/// The pairs of a `.env` text, the first of each name counting.
///
/// # Errors
/// [`ConfigError::Dotenv`] for a line that is neither empty, a comment, nor `NAME=value`.
pub fn dotenv(text: &str) -> Result<Vec<(String, String)>, ConfigError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    dotenvy::from_read_iter(text.as_bytes()).collect::<Result<_, _>>().map_err(|fault| match fault {
        dotenvy::Error::LineParse(line, _) => ConfigError::Dotenv { line: line_number(text, &line) },
        dotenvy::Error::Io(fault) => ConfigError::DotenvFile(fault),
        other => ConfigError::DotenvFile(io::Error::other(other)),
    })
}

/// Where the broken line is that ends in `found`, from 1; the parser gives back either the line or its value. A value in
/// quotes may go over several lines: its first one is meant.
fn line_number(text: &str, found: &str) -> usize {
    let end = found.lines().next().unwrap_or_default().trim();
    let is_broken = |line: &str| dotenvy::from_read_iter(line.as_bytes()).any(|pair| pair.is_err());
    let index = text.lines().position(|line| line.trim().ends_with(end) && is_broken(line));
    index.unwrap_or_default() + 1
}

fn dotenv_file() -> Result<Vec<(String, String)>, ConfigError> {
    let size = match fs::metadata(".env") {
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(ConfigError::DotenvFile)?.len(),
    };
    if size > DOTENV_BYTES {
        return Err(ConfigError::DotenvFile(io::Error::other(format!("is larger than {DOTENV_BYTES} bytes"))));
    }
    dotenv(&fs::read_to_string(".env").map_err(ConfigError::DotenvFile)?)
}

/// The flags, with what `--help` says of each extended by its variable and its default.
fn command() -> clap::Command {
    Flags::command().mut_subcommand("load", |load| load.mut_args(|arg| with_help(arg, ""))).mut_args(|arg| {
        let name = arg.get_id().as_str().to_ascii_uppercase();
        let default = DEFAULTS.iter().find(|(known, _)| *known == name).map(|(_, text)| format!(" [default: {text}]"));
        with_help(arg, &format!(" [env: {name}]{}", default.unwrap_or_default()))
    })
}

/// Adds `notes`, and takes out the backticks that only the documentation wants.
fn with_help(arg: clap::Arg, notes: &str) -> clap::Arg {
    let plain = |help: &StyledStr| format!("{help}{notes}").replace('`', "");
    let short = arg.get_help().map(plain).unwrap_or_default();
    match arg.get_long_help().map(plain) {
        Some(long) => arg.help(short).long_help(long),
        None => arg.help(short),
    }
}

/// Streams generated audio to browsers over WebRTC.
///
/// Start it, open the page that it prints, press Start, and hear a tone. Pages, WebSockets and the API are on PORT (TCP), audio
/// is on the media port (UDP, and TCP where UDP is blocked): open both in a firewall.
///
/// Every setting is a flag, an environment variable, or a line of .env in the current directory; the first of these that is there
/// counts. An empty one stands for the default, whatever the next one says.
#[derive(Parser)]
#[command(name = "voxcast", version, args_conflicts_with_subcommands = true, after_long_help = EXAMPLES)]
struct Flags {
    #[command(flatten)]
    serve: ServeFlags,
    #[command(subcommand)]
    command: Option<Task>,
}

const EXAMPLES: &str = "\
Examples:
  voxcast
      this machine and its network, with a random token
  AUTH_TOKEN=$(openssl rand -hex 16) voxcast
      a token of your own
  voxcast --public-ip 203.0.113.7
      behind a NAT or a cloud's firewall that forwards the media port
  voxcast --tls-cert cert.pem --tls-key key.pem
      HTTPS
  voxcast load http://127.0.0.1:8080 --listeners 200 --for 60s
      200 listeners for a minute, and what they heard";

#[derive(Subcommand)]
enum Task {
    Load(LoadArgs),
}

/// As typed; [`Environment`] fills the gaps and [`ServeFlags::check`] parses. A field's name in capitals is its variable.
#[derive(Args)]
struct ServeFlags {
    /// Address to listen on.
    ///
    /// :: is every IPv6 and IPv4 address, 0.0.0.0 every IPv4 one. A single address also restricts media to it.
    #[arg(long, value_name = "ADDRESS", help_heading = "Pages and signalling")]
    host: Option<String>,
    /// TCP port of pages, API and WebSockets.
    ///
    /// 0 lets the system choose.
    #[arg(long, value_name = "PORT", help_heading = "Pages and signalling")]
    port: Option<String>,
    /// PEM file with the certificate chain, for HTTPS; goes with --tls-key.
    #[arg(long, value_name = "FILE", help_heading = "Pages and signalling")]
    tls_cert: Option<String>,
    /// PEM file with the certificate's private key.
    #[arg(long, value_name = "FILE", help_heading = "Pages and signalling")]
    tls_key: Option<String>,
    /// Token that clients show, 8 to 256 characters.
    ///
    /// Without one, or with devtoken, devtoken works on this machine only, and everybody else needs a random token that is printed at
    /// start. Other users of this machine can read flags: prefer the variable.
    #[arg(long, value_name = "TOKEN", help_heading = "Who may come in")]
    auth_token: Option<Unshown>,
    /// Pages of other origins that may use this server: `scheme://host[:port]`, parted by commas, or * for all.
    #[arg(long, value_name = "ORIGINS", help_heading = "Who may come in")]
    allowed_origins: Option<String>,
    /// Proxies whose headers tell the client's address: addresses or networks, parted by commas, or none.
    ///
    /// The headers are X-Forwarded-For, which a proxy must set, and CF-Connecting-IP where the former is missing.
    #[arg(long, value_name = "NETWORKS", help_heading = "Who may come in")]
    trusted_proxies: Option<String>,
    /// Most sessions at a time; more are refused.
    #[arg(long, value_name = "N", help_heading = "Who may come in")]
    max_sessions: Option<String>,
    /// Whether rooms need no token: true or false.
    #[arg(long, value_name = "SWITCH", help_heading = "Rooms")]
    rooms_open: Option<String>,
    /// Most people in a room, 1 to 256; each has a connection to each other one.
    #[arg(long, value_name = "N", help_heading = "Rooms")]
    room_size: Option<String>,
    /// Most rooms at a time; they exist while somebody is in them.
    #[arg(long, value_name = "N", help_heading = "Rooms")]
    max_rooms: Option<String>,
    /// Most rooms at a time that came to be from one address.
    #[arg(long, value_name = "N", help_heading = "Rooms")]
    rooms_per_address: Option<String>,
    /// Threads that carry the audio, each with its own sessions: 1 to 64, or `cores` for as many as this process may use.
    #[arg(long, value_name = "N", help_heading = "Audio")]
    workers: Option<String>,
    /// UDP and TCP port of the audio (ICE, DTLS, SRTP).
    ///
    /// 0 lets the system choose.
    #[arg(long, value_name = "PORT", help_heading = "Audio")]
    media_port: Option<String>,
    /// Address that clients send media to, when it is not one of this machine's.
    ///
    /// For a machine behind a NAT or in a cloud. One IPv4 and one IPv6 address at most, parted by a comma.
    #[arg(long, value_name = "ADDRESSES", help_heading = "Audio")]
    public_ip: Option<String>,
    /// Whether clients that cannot reach the media port may come through a relay of our own: on or off.
    ///
    /// It leads to this server's sessions only, and needs credentials that the server hands out by itself.
    #[arg(long, value_name = "SWITCH", help_heading = "Audio")]
    relay: Option<String>,
    /// UDP and TCP port of the relay (TURN).
    ///
    /// 0 lets the system choose.
    #[arg(long, value_name = "PORT", help_heading = "Audio")]
    relay_port: Option<String>,
    /// TCP port of the relay over TLS, where there is a certificate.
    ///
    /// 443 passes nearly everywhere. 0 lets the system choose.
    #[arg(long, value_name = "PORT", help_heading = "Audio")]
    turns_port: Option<String>,
    /// UDP ports of which clients may choose for their sessions, such as 40000-40100.
    ///
    /// For clients whose networks let through certain ports only. They say so with `rtp_port`, or with `rtp_port_min` and `rtp_port_max`.
    #[arg(long, value_name = "PORTS", help_heading = "Audio")]
    rtp_port_range: Option<String>,
    /// STUN servers that tell us our address behind a NAT, parted by commas, or none.
    #[arg(long, value_name = "URLS", help_heading = "ICE servers")]
    stun_servers: Option<String>,
    /// TURN servers of your own, parted by commas, for server and clients: `turn:host:port?transport=udp` and the like.
    ///
    /// They share `TURN_SECRET` with this server (coturn: use-auth-secret, static-auth-secret).
    #[arg(long, value_name = "URLS", help_heading = "ICE servers")]
    turn_urls: Option<String>,
    /// What `TURN_URLS` share with this server, 8 to 256 characters.
    ///
    /// Other users of this machine can read flags: prefer the variable. That goes for the tokens below, too.
    #[arg(long, value_name = "SECRET", help_heading = "ICE servers")]
    turn_secret: Option<Unshown>,
    /// How long credentials for a relay are good: 90, 90s, 5m or 1h. Clients that stay are given new ones in time.
    #[arg(long, value_name = "DURATION", help_heading = "ICE servers")]
    turn_ttl: Option<String>,
    /// ICE servers for clients as a JSON list: `[{"urls": …, "username": …, "credential": …}]`.
    #[arg(long, value_name = "JSON", help_heading = "ICE servers")]
    ice_servers_json: Option<Unshown>,
    /// Account at Twilio, whose TURN servers clients are given; goes with --twilio-auth-token.
    #[arg(long, value_name = "SID", help_heading = "ICE servers")]
    twilio_account_sid: Option<String>,
    /// Its token.
    #[arg(long, value_name = "TOKEN", help_heading = "ICE servers")]
    twilio_auth_token: Option<Unshown>,
    /// Key of Cloudflare's TURN service; goes with --cloudflare-turn-api-token.
    #[arg(long, value_name = "ID", help_heading = "ICE servers")]
    cloudflare_turn_key_id: Option<String>,
    /// Its token.
    #[arg(long, value_name = "TOKEN", help_heading = "ICE servers")]
    cloudflare_turn_api_token: Option<Unshown>,
    /// What is logged to standard error: off, error, warn, info, debug or trace.
    ///
    /// Parts have levels of their own, as in `info,voxcast::drive=debug`. `RUST_LOG` is read where this is unset. Libraries are never
    /// heard below info, whatever is asked for, because there they write passwords.
    #[arg(long, value_name = "FILTER", help_heading = "Logs")]
    log: Option<String>,
    /// How a log line looks: human, or json for a collector.
    #[arg(long, value_name = "FORMAT", help_heading = "Logs")]
    log_format: Option<String>,
}

/// A flag's text that no `Debug` may show.
#[derive(Clone)]
struct Unshown(String);

impl From<String> for Unshown {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl ServeFlags {
    fn check(self, env: &Environment<'_>, entropy: [u8; 16]) -> Result<Config, ConfigError> {
        let port = env.required("PORT", self.port, port_number)?;
        let media_port = env.required("MEDIA_PORT", self.media_port, port_number)?;
        if port != 0 && media_port == port {
            return Err(ConfigError::variable(
                "MEDIA_PORT",
                format!("{port} is PORT too, media needs a port of its own"),
            ));
        }
        let relay_port = env.required("RELAY_PORT", self.relay_port, port_number)?;
        let relay_port = env.required("RELAY", self.relay, on_or_off)?.then_some(relay_port);
        if let Some(relay_port) = relay_port.filter(|relay| *relay != 0 && (*relay == port || *relay == media_port)) {
            let whose = if relay_port == port { "PORT" } else { "MEDIA_PORT" };
            return Err(ConfigError::variable(
                "RELAY_PORT",
                format!("{relay_port} is {whose} too, the relay needs a port of its own"),
            ));
        }
        let tls = tls(env.text("TLS_CERT", self.tls_cert)?, env.text("TLS_KEY", self.tls_key)?)?;
        let turns_port = env.required("TURNS_PORT", self.turns_port, port_number)?;
        let turns_port = relay_port.filter(|_| tls.is_some()).map(|_| turns_port);
        let taken = [("PORT", Some(port)), ("MEDIA_PORT", Some(media_port)), ("RELAY_PORT", relay_port)];
        let asked = turns_port.filter(|port| *port != 0);
        if let Some((whose, Some(port))) = taken.iter().find(|(_, known)| asked.is_some() && *known == asked) {
            return Err(ConfigError::variable(
                "TURNS_PORT",
                format!("{port} is {whose} too, TURN over TLS needs a port of its own"),
            ));
        }
        let own_token = env.secret("AUTH_TOKEN", self.auth_token)?.filter(|token| token.expose() != DEV_TOKEN);
        let origins = env.parsed("ALLOWED_ORIGINS", self.allowed_origins, allowed_origins)?;
        let log = match env.parsed("LOG", self.log, str::parse::<LogFilter>)? {
            None => env.parsed("RUST_LOG", None, str::parse::<LogFilter>)?,
            given => given,
        };
        let rtp_port_range = env.parsed("RTP_PORT_RANGE", self.rtp_port_range, port_range)?;
        let udp = [("MEDIA_PORT", Some(media_port)), ("RELAY_PORT", relay_port)];
        let inside =
            |port: Option<u16>| port.is_some_and(|port| rtp_port_range.is_some_and(|range| range.contains(port)));
        if let Some((whose, Some(port))) = udp.into_iter().find(|(_, port)| inside(*port)) {
            return Err(ConfigError::variable("RTP_PORT_RANGE", format!("{port} is {whose}, which is in use already")));
        }
        let ice_sources = ice_sources(
            env,
            IceFlags {
                twilio: (self.twilio_account_sid, self.twilio_auth_token),
                cloudflare: (self.cloudflare_turn_key_id, self.cloudflare_turn_api_token),
                turn: (self.turn_urls, self.turn_secret),
                fixed: self.ice_servers_json,
            },
        )?;
        Ok(Config {
            host: env.required("HOST", self.host, host)?,
            port,
            tls,
            allowed_origins: origins.unwrap_or(AllowedOrigins::List(Vec::new())),
            trusted_proxies: env.required("TRUSTED_PROXIES", self.trusted_proxies, trusted_proxies)?,
            auth: own_token.map_or_else(|| AuthMode::Dev { random: random_token(entropy) }, AuthMode::Token),
            max_sessions: env.required("MAX_SESSIONS", self.max_sessions, max_sessions)?,
            rooms_open: env.required("ROOMS_OPEN", self.rooms_open, on_or_off)?,
            room_limits: RoomLimits {
                size: env.required("ROOM_SIZE", self.room_size, room_size)?,
                rooms: env.required("MAX_ROOMS", self.max_rooms, rooms)?,
                per_address: env.required("ROOMS_PER_ADDRESS", self.rooms_per_address, rooms)?,
            },
            workers: env.required("WORKERS", self.workers, workers)?,
            media_port,
            relay_port,
            turns_port,
            rtp_port_range,
            stun_servers: env.required("STUN_SERVERS", self.stun_servers, stun_servers)?,
            ice_sources,
            turn_ttl: env.required("TURN_TTL", self.turn_ttl, turn_ttl)?,
            public_ip: env.parsed("PUBLIC_IP", self.public_ip, public_ip)?.unwrap_or_default(),
            log: log.unwrap_or_default(),
            log_format: env.required("LOG_FORMAT", self.log_format, log_format)?,
        })
    }
}

/// The flags of other people's ICE servers; a name or an address each, and what proves us to it.
struct IceFlags {
    twilio: (Option<String>, Option<Unshown>),
    cloudflare: (Option<String>, Option<Unshown>),
    turn: (Option<String>, Option<Unshown>),
    fixed: Option<Unshown>,
}

/// Where the ICE servers of clients come from, in the order in which they are tried.
fn ice_sources(env: &Environment<'_>, flags: IceFlags) -> Result<Vec<Source>, ConfigError> {
    let IceFlags { twilio, cloudflare, turn, fixed } = flags;
    let twilio = both(
        ("TWILIO_ACCOUNT_SID", env.parsed("TWILIO_ACCOUNT_SID", twilio.0, account)?),
        ("TWILIO_AUTH_TOKEN", env.secret("TWILIO_AUTH_TOKEN", twilio.1)?),
    )?;
    let cloudflare = both(
        ("CLOUDFLARE_TURN_KEY_ID", env.parsed("CLOUDFLARE_TURN_KEY_ID", cloudflare.0, account)?),
        ("CLOUDFLARE_TURN_API_TOKEN", env.secret("CLOUDFLARE_TURN_API_TOKEN", cloudflare.1)?),
    )?;
    let turn = both(
        ("TURN_URLS", env.parsed("TURN_URLS", turn.0, turn_urls)?),
        ("TURN_SECRET", env.secret("TURN_SECRET", turn.1)?),
    )?;
    let fixed = env.text("ICE_SERVERS_JSON", fixed.map(|flag| flag.0))?;
    let fixed = fixed.map(|text| providers::fixed(&text)).transpose();
    let fixed = fixed.map_err(|fault| ConfigError::variable("ICE_SERVERS_JSON", fault))?.unwrap_or_default();
    let sources = [
        twilio.map(|(account, token)| Source::Twilio { account, token, api: TWILIO_API.to_owned() }),
        cloudflare.map(|(key, token)| Source::Cloudflare { key, token, api: CLOUDFLARE_API.to_owned() }),
        turn.map(|(urls, secret)| {
            let secret = TurnSecret::new(secret.expose().as_bytes(), Hmac::default());
            Source::Shared { secret, urls }
        }),
        (!fixed.is_empty()).then_some(Source::Fixed(fixed)),
    ];
    Ok(sources.into_iter().flatten().collect())
}

/// Two variables that go together.
fn both<A, B>(
    (name, value): (&'static str, Option<A>),
    (other_name, other): (&'static str, Option<B>),
) -> Result<Option<(A, B)>, ConfigError> {
    match (value, other) {
        (Some(value), Some(other)) => Ok(Some((value, other))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(ConfigError::variable(other_name, format!("is missing, and {name} is set"))),
        (None, Some(_)) => Err(ConfigError::variable(name, format!("is missing, and {other_name} is set"))),
    }
}

/// Where variables come from. An empty one stands for the default: whoever has a `.env` gets rid of its lines by that.
struct Environment<'a>(&'a dyn Fn(&str) -> Option<OsString>);

impl Environment<'_> {
    /// The text of a variable, a flag before the environment, as it stands.
    fn text(&self, name: &'static str, flag: Option<String>) -> Result<Option<String>, ConfigError> {
        let from_env = || (self.0)(name).map(OsString::into_string).transpose();
        let text = flag.map_or_else(from_env, |flag| Ok(Some(flag)));
        let text = text.map_err(|_| ConfigError::variable(name, "is not UTF-8"))?;
        Ok(text.filter(|text| !text.is_empty()))
    }

    fn parsed<T, E: Display>(
        &self,
        name: &'static str,
        flag: Option<String>,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, ConfigError> {
        let text = self.text(name, flag)?;
        let value = text.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(parse).transpose();
        value.map_err(|fault| ConfigError::variable(name, fault))
    }

    /// As `parsed`, of one of [`DEFAULTS`].
    fn required<T, E: Display>(
        &self,
        name: &'static str,
        flag: Option<String>,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<T, ConfigError> {
        let fallback = || {
            let (_, text) =
                DEFAULTS.iter().find(|(known, _)| *known == name).expect("a required variable has a default");
            parse(text).map_err(|fault| ConfigError::variable(name, fault))
        };
        self.parsed(name, flag, &parse)?.map_or_else(fallback, Ok)
    }

    /// As `parsed`, of a text whose blanks count and whose value no error shows.
    fn secret(&self, name: &'static str, flag: Option<Unshown>) -> Result<Option<Secret>, ConfigError> {
        let text = self.text(name, flag.map(|flag| flag.0))?;
        text.as_deref().map(token).transpose().map_err(|fault| ConfigError::variable(name, fault))
    }
}

fn token(text: &str) -> Result<Secret, SecretFault> {
    Secret::try_from(text)
}

/// 128 bits as 22 characters that need no escaping in a URL.
fn random_token(entropy: [u8; 16]) -> Secret {
    Secret::try_from(URL_SAFE_NO_PAD.encode(entropy).as_str()).expect("22 letters and digits make a good token")
}

fn port_number(text: &str) -> Result<u16, String> {
    whole(text).ok_or_else(|| format!("{text:?} is not a port number (0 to 65535)"))
}

fn workers(text: &str) -> Result<u8, String> {
    if text == CORES {
        // A system that does not tell has one.
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        return Ok(u8::try_from(cores).unwrap_or(WorkerId::MOST).min(WorkerId::MOST));
    }
    let most = WorkerId::MOST;
    whole(text)
        .filter(|count| (1..=most).contains(count))
        .ok_or_else(|| format!("{text:?} is not a number of workers (1 to {most}, or {CORES})"))
}

fn max_sessions(text: &str) -> Result<NonZeroU32, String> {
    whole(text).ok_or_else(|| format!("{text:?} is not a number of sessions (1 or more)"))
}

fn room_size(text: &str) -> Result<u32, String> {
    whole(text)
        .filter(|size| (1..=LARGEST_ROOM).contains(size))
        .ok_or_else(|| format!("{text:?} is not a number of people in a room (1 to {LARGEST_ROOM})"))
}

fn rooms(text: &str) -> Result<u32, String> {
    whole(text).filter(|rooms| *rooms > 0).ok_or_else(|| format!("{text:?} is not a number of rooms (1 or more)"))
}

/// Digits only: `parse` alone would take "+80".
fn whole<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    text.parse().map_err(|fault| format!("{text:?}: {fault}"))
}

fn host(text: &str) -> Result<Host, String> {
    let addr = ip(text).map_err(|fault| format!("{fault} such as ::, 0.0.0.0 or 127.0.0.1"))?;
    if addr.is_multicast() { Err(format!("{text} is a multicast address")) } else { Ok(Host(addr)) }
}

fn ip(text: &str) -> Result<IpAddr, String> {
    text.parse().map(|addr: IpAddr| addr.to_canonical()).map_err(|_| format!("{text:?} is not an IP address"))
}

fn tls(cert: Option<String>, key: Option<String>) -> Result<Option<TlsFiles>, ConfigError> {
    match (cert, key) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => Ok(Some(TlsFiles { cert: cert.into(), key: key.into() })),
        (Some(_), None) => Err(ConfigError::variable("TLS_KEY", "is missing, and TLS_CERT is set")),
        (None, Some(_)) => Err(ConfigError::variable("TLS_CERT", "is missing, and TLS_KEY is set")),
    }
}

fn allowed_origins(text: &str) -> Result<AllowedOrigins, String> {
    if text == "*" {
        return Ok(AllowedOrigins::Any);
    }
    let parse = |item: &str| item.parse::<Origin>().map_err(|fault| format!("{item:?}: {fault}"));
    list(text).map(parse).collect::<Result<_, _>>().map(AllowedOrigins::List)
}

fn trusted_proxies(text: &str) -> Result<Vec<IpNet>, String> {
    if text == "none" {
        return Ok(Vec::new());
    }
    let net = |item: &str| item.parse().or_else(|_| ip(item).map(IpNet::from));
    list(text)
        .map(|item| net(item).map_err(|_| format!("{item:?} is not an address or a network such as 10.0.0.0/8")))
        .collect()
}

fn port_range(text: &str) -> Result<PortRange, String> {
    let range = text.split_once('-').and_then(|(min, max)| PortRange::new(whole(min.trim())?, whole(max.trim())?));
    range.ok_or_else(|| format!("{text:?} is not a range of ports such as 40000-40100"))
}

/// A word that goes into the path of a URL.
fn account(text: &str) -> Result<String, &'static str> {
    let sound = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if sound { Ok(text.to_owned()) } else { Err("is letters, digits, - and _ only") }
}

fn turn_urls(text: &str) -> Result<Vec<IceUrl>, String> {
    ice_urls(text, |url| url.scheme.relays(), "is not the URL of a TURN server such as turn:turn.example:3478")
}

fn stun_servers(text: &str) -> Result<Vec<IceUrl>, String> {
    if text == "none" {
        return Ok(Vec::new());
    }
    ice_urls(text, |url| url.scheme == Scheme::Stun, "is not the URL of a STUN server such as stun:stun.example:3478")
}

fn ice_urls(text: &str, right: impl Fn(&IceUrl) -> bool, wrong: &str) -> Result<Vec<IceUrl>, String> {
    let parse = |item: &str| match item.parse::<IceUrl>() {
        Ok(url) if right(&url) => Ok(url),
        Ok(_) => Err(format!("{item:?} {wrong}")),
        // A password that stands in the wrong place is not repeated.
        Err(IceUrlFault::Credentials) => Err(IceUrlFault::Credentials.to_string()),
        Err(fault) => Err(format!("{item:?}: {fault}")),
    };
    list(text).map(parse).collect()
}

fn turn_ttl(text: &str) -> Result<Duration, String> {
    let time = duration(text).ok().filter(|time| TURN_TTLS.contains(time));
    time.ok_or_else(|| format!("{text:?} is not a time of 1m to 24h such as 90m or 6h"))
}

fn on_or_off(text: &str) -> Result<bool, String> {
    match text {
        "on" | "true" => Ok(true),
        "off" | "false" => Ok(false),
        _ => Err(format!("{text:?} is neither on nor off")),
    }
}

fn public_ip(text: &str) -> Result<PublicIp, String> {
    let mut public = PublicIp::default();
    for item in list(text) {
        let addr = ip(item)?;
        if addr.is_unspecified() || addr.is_multicast() || addr == IpAddr::V4(Ipv4Addr::BROADCAST) {
            return Err(format!("{item} is not the address of one machine"));
        }
        let second = match addr {
            IpAddr::V4(addr) => public.v4.replace(addr).is_some(),
            IpAddr::V6(addr) => public.v6.replace(addr).is_some(),
        };
        if second {
            return Err(format!("{item} is a second address of its family; one IPv4 and one IPv6 at most"));
        }
    }
    Ok(public)
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// `http://host[:port]`, given back without a closing slash.
fn server_url(text: &str) -> Result<String, String> {
    let url = text.trim_end_matches('/');
    let web = ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme));
    if web && url.parse::<Origin>().is_ok() {
        Ok(url.to_owned())
    } else {
        Err("not a server's address such as http://127.0.0.1:8080".to_owned())
    }
}

/// A whole number with `s`, `m` or `h`; seconds without.
fn duration(text: &str) -> Result<Duration, String> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit: u64 = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => 0,
    };
    let time = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).map(Duration::from_secs);
    time.filter(|time| (Duration::from_secs(1)..=LONGEST_LOAD).contains(time))
        .ok_or_else(|| "not a time of 1s to 24h such as 90s or 5m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTROPY: [u8; 16] = [0xfb; 16];

    fn run(flags: &[&str], env: &[(&str, &str)]) -> Result<Command, ConfigError> {
        let lookup = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        read(["voxcast"].iter().chain(flags), &lookup, ENTROPY)
    }

    fn config(flags: &[&str], env: &[(&str, &str)]) -> Config {
        match run(flags, env).expect("a good configuration") {
            Command::Serve(config) => *config,
            Command::Load(load) => panic!("not asked for: {load:?}"),
        }
    }

    fn load(flags: &[&str], env: &[(&str, &str)]) -> LoadArgs {
        match run(&[&["load"], flags].concat(), env).expect("good flags") {
            Command::Load(load) => load,
            Command::Serve(_) => panic!("load was asked for"),
        }
    }

    fn fault(name: &'static str, value: &str) -> String {
        let by_env = run(&[], &[(name, value)]).expect_err(value).to_string();
        let flag = format!("--{}={value}", name.to_lowercase().replace('_', "-"));
        let by_flag = run(&[&flag], &[]).expect_err(value).to_string();
        assert_eq!(by_env, by_flag);
        by_env
    }

    fn help(flags: &[&str]) -> String {
        run(flags, &[]).expect_err("help is not a command").to_string()
    }

    #[test]
    fn nothing_set_is_a_good_configuration() {
        let config = config(&[], &[]);
        assert_eq!(config.host.at(config.port), "[::]:8080".parse().expect("an address"));
        assert_eq!((config.media_port, config.max_sessions.get()), (3479, 10_000));
        assert_eq!((config.tls, config.public_ip), (None, PublicIp::default()));
        assert_eq!(config.room_limits, RoomLimits { size: 16, rooms: 10_000, per_address: 64 });
        assert!(!config.rooms_open);
        assert_eq!(config.allowed_origins, AllowedOrigins::List(Vec::new()));
        assert_eq!(config.trusted_proxies, ["127.0.0.0/8", "::1/128"].map(|net| net.parse().expect("a network")));
        assert_eq!((config.log, config.log_format), (LogFilter::default(), LogFormat::Human));
        assert_eq!(
            Ok(LogFilter::default()),
            DEFAULTS.iter().find(|(name, _)| *name == "LOG").expect("for help").1.parse()
        );
    }

    #[test]
    fn a_flag_wins_over_the_environment_and_empty_is_the_default() {
        let env = [("PORT", "1000"), ("MEDIA_PORT", ""), ("MAX_SESSIONS", " 7 "), ("RUST_LOG", "warn")];
        assert_eq!(config(&["--port", ""], &env).port, 8080);
        let config = config(&["--port", "2000"], &env);
        assert_eq!((config.port, config.media_port, config.max_sessions.get()), (2000, 3479, 7));
        assert_eq!(Ok(config.log), "warn".parse());
    }

    #[test]
    fn log_goes_before_rust_log() {
        assert_eq!(Ok(config(&[], &[("LOG", "error"), ("RUST_LOG", "what")]).log), "error".parse());
        let fault = run(&[], &[("RUST_LOG", "what")]).expect_err("no level").to_string();
        assert!(fault.starts_with("RUST_LOG: \"what\" is neither a level"), "{fault}");
    }

    #[test]
    fn a_wrong_value_names_its_variable() {
        let cases = [
            ("PORT", "http", "PORT: \"http\" is not a port number (0 to 65535)"),
            ("PORT", "65536", "PORT: \"65536\" is not a port number (0 to 65535)"),
            ("PORT", "+80", "PORT: \"+80\" is not a port number (0 to 65535)"),
            ("MEDIA_PORT", "-1", "MEDIA_PORT: \"-1\" is not a port number (0 to 65535)"),
            ("MEDIA_PORT", "8080", "MEDIA_PORT: 8080 is PORT too, media needs a port of its own"),
            ("MAX_SESSIONS", "0", "MAX_SESSIONS: \"0\" is not a number of sessions (1 or more)"),
            ("ROOMS_OPEN", "maybe", "ROOMS_OPEN: \"maybe\" is neither on nor off"),
            ("ROOM_SIZE", "0", "ROOM_SIZE: \"0\" is not a number of people in a room (1 to 256)"),
            ("ROOM_SIZE", "257", "ROOM_SIZE: \"257\" is not a number of people in a room (1 to 256)"),
            ("MAX_ROOMS", "0", "MAX_ROOMS: \"0\" is not a number of rooms (1 or more)"),
            ("ROOMS_PER_ADDRESS", "-1", "ROOMS_PER_ADDRESS: \"-1\" is not a number of rooms (1 or more)"),
            ("WORKERS", "0", "WORKERS: \"0\" is not a number of workers (1 to 64, or cores)"),
            ("WORKERS", "65", "WORKERS: \"65\" is not a number of workers (1 to 64, or cores)"),
            ("HOST", "localhost", "HOST: \"localhost\" is not an IP address such as ::, 0.0.0.0 or 127.0.0.1"),
            ("HOST", "224.0.0.1", "HOST: 224.0.0.1 is a multicast address"),
            ("TLS_CERT", "cert.pem", "TLS_KEY: is missing, and TLS_CERT is set"),
            ("TLS_KEY", "key.pem", "TLS_CERT: is missing, and TLS_KEY is set"),
            (
                "TRUSTED_PROXIES",
                "10.0.0.0/33",
                "TRUSTED_PROXIES: \"10.0.0.0/33\" is not an address or a network such as 10.0.0.0/8",
            ),
            ("PUBLIC_IP", "here", "PUBLIC_IP: \"here\" is not an IP address"),
            ("PUBLIC_IP", "0.0.0.0", "PUBLIC_IP: 0.0.0.0 is not the address of one machine"),
            ("LOG_FORMAT", "xml", "LOG_FORMAT: \"xml\": a log format is human or json"),
        ];
        for (name, value, want) in cases {
            assert_eq!(fault(name, value), want);
        }
        assert!(
            fault("ALLOWED_ORIGINS", "https://a.example,b")
                .starts_with("ALLOWED_ORIGINS: \"b\": an origin is scheme://host")
        );
        assert!(fault("ALLOWED_ORIGINS", "https://a.example/").starts_with("ALLOWED_ORIGINS: "));
        assert!(fault("PUBLIC_IP", "1.2.3.4,1.2.3.5").starts_with("PUBLIC_IP: 1.2.3.5 is a second address"));
        assert!(fault("LOG", "loud").starts_with("LOG: \"loud\" is neither"));
    }

    #[test]
    fn ice_servers_come_in_their_order_and_what_belongs_together_is_asked_for() {
        let names = |env: &[(&str, &str)]| config(&[], env).ice_sources.iter().map(Source::name).collect::<Vec<_>>();
        let json = r#"[{"urls":"turn:t.example","username":"me","credential":"my own"}]"#;
        let all = [
            ("ICE_SERVERS_JSON", json),
            ("TURN_URLS", "turn:t.example, turns:t.example"),
            ("TURN_SECRET", "correct-horse"),
            ("CLOUDFLARE_TURN_KEY_ID", "abc"),
            ("CLOUDFLARE_TURN_API_TOKEN", "correct-horse"),
            ("TWILIO_ACCOUNT_SID", "AC1"),
            ("TWILIO_AUTH_TOKEN", "correct-horse"),
        ];
        assert_eq!(names(&all), ["Twilio", "Cloudflare", "TURN_SECRET", "ICE_SERVERS_JSON"]);
        assert_eq!(names(&[("ICE_SERVERS_JSON", "[]")]), [""; 0]);
        let shown = format!("{:?}", config(&[], &all));
        assert!(!shown.contains("correct-horse") && !shown.contains("my own"), "{shown}");
        for (name, other) in [
            ("TURN_URLS", "TURN_SECRET"),
            ("CLOUDFLARE_TURN_KEY_ID", "CLOUDFLARE_TURN_API_TOKEN"),
            ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"),
        ] {
            let value = |name| all.iter().find(|(known, _)| *known == name).expect("it is there").1;
            assert_eq!(fault(name, value(name)), format!("{other}: is missing, and {name} is set"));
            assert_eq!(fault(other, value(other)), format!("{name}: is missing, and {other} is set"));
        }
        for (name, value, what) in [
            ("TURN_URLS", "stun:t.example", "is not the URL of a TURN server"),
            ("STUN_SERVERS", "turn:t.example", "is not the URL of a STUN server"),
            ("STUN_SERVERS", "stun:s.example,what", "\"what\": the URL of an ICE server begins"),
            ("RTP_PORT_RANGE", "40000", "is not a range of ports such as 40000-40100"),
            ("RTP_PORT_RANGE", "2-1", "is not a range of ports such as 40000-40100"),
            ("RTP_PORT_RANGE", "3000-4000", "3479 is MEDIA_PORT, which is in use already"),
            ("RTP_PORT_RANGE", "3478-3478", "3478 is RELAY_PORT, which is in use already"),
            ("TURN_TTL", "59s", "is not a time of 1m to 24h"),
            ("TURN_TTL", "25h", "is not a time of 1m to 24h"),
            ("TWILIO_ACCOUNT_SID", "../x", "is letters, digits"),
            ("ICE_SERVERS_JSON", "what", "is not a list of ICE servers"),
        ] {
            assert!(fault(name, value).contains(what), "{}", fault(name, value));
        }
        let hidden = fault("TURN_URLS", "turn:me:hunter2@t.example");
        assert!(!hidden.contains("hunter2"), "{hidden}");
        assert_eq!(config(&[], &[("STUN_SERVERS", "none")]).stun_servers, []);
        let plain = config(&[], &[]);
        assert_eq!((plain.stun_servers.len(), plain.turn_ttl), (2, Duration::from_secs(6 * 3600)));
    }

    #[cfg(unix)]
    #[test]
    fn a_value_that_is_not_utf8_names_its_variable() {
        use std::os::unix::ffi::OsStringExt as _;
        let odd = |name: &str| (name == "HOST").then(|| OsString::from_vec(vec![0xff]));
        let fault = read(["voxcast"], &odd, ENTROPY).expect_err("not UTF-8").to_string();
        assert_eq!(fault, "HOST: is not UTF-8");
    }

    #[test]
    fn tokens_are_checked_and_never_shown() {
        assert_eq!(fault("AUTH_TOKEN", "hunter2"), "AUTH_TOKEN: a token has at least 8 characters");
        assert_eq!(
            fault("AUTH_TOKEN", "hunter22 "),
            "AUTH_TOKEN: a token has no white space and no control characters in it"
        );
        let config = config(&[], &[("AUTH_TOKEN", "correct-horse")]);
        assert!(matches!(&config.auth, AuthMode::Token(token) if token.expose() == "correct-horse"));
        assert!(!format!("{config:?}").contains("correct-horse"));
    }

    #[test]
    fn without_a_token_a_random_one_is_made() {
        for env in [&[][..], &[("AUTH_TOKEN", "")], &[("AUTH_TOKEN", "devtoken")]] {
            let AuthMode::Dev { random } = config(&[], env).auth else { panic!("{env:?}") };
            assert_eq!(random.expose(), "-_v7-_v7-_v7-_v7-_v7-w");
        }
    }

    #[test]
    fn lists_are_parted_by_commas() {
        let env = [
            ("ALLOWED_ORIGINS", "https://a.example, http://b.example:81,"),
            ("TRUSTED_PROXIES", "10.0.0.0/8,::ffff:1.2.3.4"),
        ];
        let config = config(&["--public-ip", "2001:db8::1, 203.0.113.7"], &env);
        let origins = ["https://a.example", "http://b.example:81"].map(|text| text.parse().expect("an origin"));
        assert_eq!(config.allowed_origins, AllowedOrigins::List(origins.to_vec()));
        assert_eq!(config.trusted_proxies, ["10.0.0.0/8", "1.2.3.4/32"].map(|net| net.parse().expect("a network")));
        assert_eq!(config.public_ip.v4, Some(Ipv4Addr::new(203, 0, 113, 7)));
        assert_eq!(config.public_ip.v6, Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)));
    }

    #[test]
    fn lists_have_words_for_all_and_none() {
        let config = config(&["--allowed-origins=*", "--trusted-proxies=none"], &[]);
        assert_eq!((config.allowed_origins, config.trusted_proxies), (AllowedOrigins::Any, Vec::new()));
    }

    #[test]
    fn tls_takes_both_files_and_ports_may_be_the_systems_choice() {
        let config = config(&["--tls-cert=c", "--tls-key=k", "--port=0", "--media-port=0", "--log-format=json"], &[]);
        assert_eq!(config.tls, Some(TlsFiles { cert: "c".into(), key: "k".into() }));
        assert_eq!((config.port, config.media_port, config.log_format), (0, 0, LogFormat::Json));
    }

    #[test]
    fn a_host_says_which_addresses_media_may_use() {
        let admits =
            |host: &str, addr: &str| config(&["--host", host], &[]).host.admits(addr.parse().expect("an address"));
        assert!(admits("::", "10.0.0.1") && admits("::", "2001:db8::1"));
        assert!(admits("0.0.0.0", "10.0.0.1") && !admits("0.0.0.0", "::1"));
        assert!(admits("127.0.0.1", "::ffff:127.0.0.1") && !admits("127.0.0.1", "10.0.0.1"));
        assert!(admits("::1", "::1") && !admits("::1", "127.0.0.1"));
    }

    #[test]
    fn the_load_client_has_flags_of_its_own() {
        let plain = load(&["http://127.0.0.1:8080/"], &[("PORT", "not looked at")]);
        assert_eq!((plain.url.as_str(), plain.listeners.get(), plain.ramp.get()), ("http://127.0.0.1:8080", 100, 50));
        assert_eq!(
            (plain.duration, plain.voice.as_str(), plain.pid, plain.json),
            (Duration::from_secs(60), "sine-440", None, false)
        );
        assert_eq!(plain.token.expose(), DEV_TOKEN);
        assert_eq!((plain.churn, plain.again, plain.silent), (0, false, false));
        let flags =
            ["https://[::1]", "--for=5m", "--voice=x", "--pid=7", "--json", "--churn=20", "--again", "--silent"];
        let full = load(&flags, &[("AUTH_TOKEN", "correct-horse")]);
        assert_eq!(
            (full.duration, full.pid.map(NonZeroU32::get), full.json, full.churn, full.again, full.silent),
            (Duration::from_secs(300), Some(7), true, 20, true, true)
        );
        assert_eq!(full.token.expose(), "correct-horse");
        let given = load(&["http://h", "--token=battery-staple"], &[("AUTH_TOKEN", "correct-horse")]);
        assert_eq!(given.token.expose(), "battery-staple");
    }

    #[test]
    fn the_load_client_refuses_what_makes_no_sense() {
        for flags in [
            &["load"][..],
            &["load", "127.0.0.1:8080"],
            &["load", "ftp://h"],
            &["load", "http://h/path"],
            &["load", "http://h", "--listeners=0"],
            &["load", "http://h", "--for=0"],
            &["load", "http://h", "--for=25h"],
            &["load", "http://h", "--for=5 m"],
            &["load", "http://h", "--for=99999999999999999999h"],
            &["load", "http://h", "--ramp=0"],
            &["--port=1", "load", "http://h"],
            &["serve"],
            &["--what"],
        ] {
            assert!(matches!(run(flags, &[]), Err(ConfigError::Usage(_))), "{flags:?}");
        }
    }

    #[test]
    fn a_dotenv_is_read_and_a_wrong_line_is_named_but_not_shown() {
        let pairs = dotenv("\u{feff}# ours\nPORT=1\n\nexport AUTH_TOKEN='a b'\r\nPORT=2\n").expect("good lines");
        assert_eq!(pairs[0], ("PORT".to_owned(), "1".to_owned()));
        assert_eq!(pairs[1], ("AUTH_TOKEN".to_owned(), "a b".to_owned()));
        for (text, line) in
            [("what\n", 1), ("A=1\n\n# x\nhunter2 hunter2\n", 4), ("A=1\nB='open\nC=2\n", 2), ("A=1\nB=a b\n", 2)]
        {
            let fault = dotenv(text).expect_err(text).to_string();
            assert_eq!(fault, format!(".env: line {line} is not NAME=value"), "{text:?}");
        }
    }

    #[test]
    fn a_dollar_in_single_quotes_is_one() {
        let pairs = dotenv("AUTH_TOKEN='abc$ijk$$'\n").expect("a good line");
        assert_eq!(pairs[0].1, "abc$ijk$$");
    }

    #[test]
    fn help_names_every_variable_and_default() {
        // Long lines are wrapped.
        let text = help(&["--help"]).split_whitespace().collect::<Vec<_>>().join(" ");
        for arg in Flags::command().get_arguments() {
            let name = arg.get_id().as_str().to_uppercase();
            assert!(text.contains(&format!("[env: {name}]")), "{name}");
        }
        for (name, default) in DEFAULTS {
            assert!(text.contains(&format!("[env: {name}] [default: {default}]")), "{name}");
        }
        assert!(!text.contains('`') && text.contains("Examples:"), "{text}");
        assert!(help(&["load", "--help"]).contains("--listeners"));
        Flags::command().debug_assert();
    }

    #[test]
    fn the_example_file_shows_every_variable_and_is_good() {
        let example = include_str!("../.env.example");
        let setting =
            |line: &str| line.strip_prefix("# ").unwrap_or(line).split_once('=').map(|(name, _)| name.to_owned());
        let is_setting = |name: &String| name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        let shown: Vec<String> = example.lines().filter_map(setting).filter(is_setting).collect();
        let mut known: Vec<String> =
            Flags::command().get_arguments().map(|arg| arg.get_id().as_str().to_uppercase()).collect();
        known.sort_unstable();
        let mut sorted = shown.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, known);
        let lines = example.lines().map(|line| match line.strip_prefix("# ") {
            Some(rest) if setting(rest).as_ref().is_some_and(is_setting) => format!("{rest}\n"),
            _ => format!("{line}\n"),
        });
        let pairs = dotenv(&lines.collect::<String>()).expect("good lines");
        assert_eq!(pairs.len(), known.len());
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        config(&[], &pairs);
    }
}

//! Logs to standard error, and the words that must not be in them. Of what a client sent only SDP is logged, at `debug` and
//! through [`RedactedSdp`]; tokens and session ids hide themselves. Dependencies are never heard below `info`: there
//! they write ICE passwords and whole requests.

use std::fmt;
use std::io::{self, IsTerminal};
use std::str::FromStr;

use thiserror::Error;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// What stands where a secret was.
const REDACTED: &str = "[redacted]";

/// Targets of this crate begin so.
const OURS: &str = "voxcast";

/// Crates whose ordinary news is one line per packet or peer.
const QUIET: [&str; 5] = ["str0m", "is", "dimpl", "sctp_proto", "actix_server"];
/// Crates that warn of what strangers send: a line for each of their datagrams, or of their candidates.
const MUTE: [&str; 4] = ["stun_types", "stun_proto", "turn_types", "turn_client_proto"];

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LogFormat {
    /// For a person at a terminal.
    #[default]
    Human,
    /// One JSON object a line, for a collector.
    Json,
}

/// The text names no log format.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("a log format is human or json")]
pub struct LogFormatFault;

impl FromStr for LogFormat {
    type Err = LogFormatFault;

    fn from_str(text: &str) -> Result<Self, LogFormatFault> {
        match text.to_ascii_lowercase().as_str() {
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err(LogFormatFault),
        }
    }
}

/// Which lines are written: a level, and levels for parts of the program, as in `info,voxcast::drive=debug`.
///
/// Whatever the operator asks for, a dependency is capped at `info`: the ICE agent prints both passwords at `debug`, and the
/// WebSocket client prints its request, `api_key` and all, at `trace`.
#[derive(Clone, Debug, PartialEq)]
pub struct LogFilter(Targets);

impl Default for LogFilter {
    fn default() -> Self {
        "info".parse().expect("a level is a filter")
    }
}

/// The text is no filter.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{0:?} is neither a level (off, error, warn, info, debug, trace) nor target=level")]
pub struct LogFilterFault(String);

impl FromStr for LogFilter {
    type Err = LogFilterFault;

    fn from_str(text: &str) -> Result<Self, LogFilterFault> {
        let mut default = LevelFilter::INFO;
        let mut asked = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let fault = || LogFilterFault(part.to_owned());
            match part.split_once('=') {
                None => default = level(part).ok_or_else(fault)?,
                Some(("", _)) => return Err(fault()),
                Some((target, word)) => {
                    asked.push((target.trim().to_owned(), level(word).ok_or_else(fault)?));
                }
            }
        }
        let capped = default.min(LevelFilter::INFO);
        let quiet = QUIET.map(|target| (target.to_owned(), capped.min(LevelFilter::WARN)));
        let mute = MUTE.map(|target| (target.to_owned(), capped.min(LevelFilter::ERROR)));
        let asked = asked.into_iter().map(|(target, level)| {
            let cap = if target.starts_with(OURS) { LevelFilter::TRACE } else { LevelFilter::INFO };
            (target, level.min(cap))
        });
        // A later entry for the same target replaces an earlier one.
        Ok(Self(
            Targets::new()
                .with_default(capped)
                .with_target(OURS, default)
                .with_targets(quiet)
                .with_targets(mute)
                .with_targets(asked),
        ))
    }
}

/// `LevelFilter` would also take digits, and nothing.
fn level(word: &str) -> Option<LevelFilter> {
    let word = word.trim();
    let letters = !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphabetic());
    letters.then(|| word.parse().ok()).flatten()
}

/// Starts logging for the whole process.
///
/// # Errors
/// When logging has been started before.
pub fn init(format: LogFormat, filter: &LogFilter) -> Result<(), TryInitError> {
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let registry = tracing_subscriber::registry().with(filter.0.clone());
    match format {
        LogFormat::Human => {
            let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
            registry.with(lines.with_ansi(colour)).try_init()
        }
        LogFormat::Json => registry.with(lines.json().flatten_event(true).with_current_span(false)).try_init(),
    }
}

/// An SDP without its passwords: ICE passwords (RFC 8839 section 5.4), SDES and session keys. User fragments and
/// fingerprints stay; both travel in the clear anyway, and a log is read by them.
#[derive(Clone, Copy)]
pub struct RedactedSdp<'a>(&'a str);

impl<'a> RedactedSdp<'a> {
    /// Wraps the text; nothing is copied.
    #[must_use]
    pub const fn new(sdp: &'a str) -> Self {
        Self(sdp)
    }
}

/// Beginnings of SDP lines whose rest is secret.
const SECRET_LINES: [&str; 4] = ["a=ice-pwd:", "a=crypto:", "a=key-mgmt:", "k="];

impl fmt::Display for RedactedSdp<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.0.split_inclusive(['\r', '\n']) {
            let body = line.trim_end_matches(['\r', '\n']);
            let secret = SECRET_LINES.iter().find(|start| has_prefix(body.trim_start(), start));
            match secret {
                Some(start) => write!(f, "{start}{REDACTED}{}", &line[body.len()..])?,
                None => f.write_str(line)?,
            }
        }
        Ok(())
    }
}

fn has_prefix(text: &str, start: &str) -> bool {
    text.as_bytes().get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start.as_bytes()))
}

impl fmt::Debug for RedactedSdp<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tracing::Level;

    use super::*;

    fn filter(text: &str) -> Targets {
        text.parse::<LogFilter>().expect("a good filter").0
    }

    #[test]
    fn by_default_we_are_heard_at_info_and_the_engine_at_warn() {
        let filter = filter("info");
        assert!(filter.would_enable("voxcast::drive", &Level::INFO));
        assert!(!filter.would_enable("voxcast::drive", &Level::DEBUG));
        assert!(filter.would_enable("str0m::sdp", &Level::WARN) && !filter.would_enable("str0m::sdp", &Level::INFO));
    }

    #[test]
    fn debug_is_for_us_alone() {
        for text in ["trace", "debug,is=trace,str0m=debug,tungstenite=trace,h2=debug", "off,i=trace,s=trace,t=trace"] {
            let filter = filter(text);
            for target in
                ["is::agent", "str0m", "dimpl::dtls12", "tungstenite::handshake::client", "rustls", "actix_http"]
            {
                assert!(!filter.would_enable(target, &Level::DEBUG), "{target} in {text}");
            }
        }
        assert!(filter("trace").would_enable("voxcast", &Level::TRACE));
        assert!(filter("warn,voxcast::drive=debug").would_enable("voxcast::drive::ws", &Level::DEBUG));
        assert!(!filter("warn,voxcast::drive=debug").would_enable("voxcast::audio", &Level::INFO));
        assert!(filter("str0m=info").would_enable("str0m", &Level::INFO));
    }

    #[test]
    fn nothing_is_nothing() {
        assert!(!filter("off").would_enable("voxcast", &Level::ERROR));
        assert!(!filter("error").would_enable("str0m", &Level::WARN));
        assert!(filter("").would_enable("voxcast", &Level::INFO));
    }

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for text in ["verbose", "5", "voxcast=", "voxcast=loud", "=debug", "info,what"] {
            assert!(text.parse::<LogFilter>().is_err(), "{text}");
        }
        let fault = "info,what".parse::<LogFilter>().expect_err("not a level").to_string();
        assert!(fault.starts_with("\"what\" is neither"), "{fault}");
    }

    #[test]
    fn formats_have_two_names() {
        assert_eq!("JSON".parse(), Ok(LogFormat::Json));
        assert_eq!("human".parse(), Ok(LogFormat::Human));
        assert_eq!("xml".parse::<LogFormat>(), Err(LogFormatFault));
    }

    #[test]
    fn an_sdp_loses_its_passwords_and_nothing_else() {
        let sdp = "v=0\r\na=ice-ufrag:abcd\r\na=ice-pwd:hunter2\r\nA=ICE-PWD:hunter2\n a=crypto:1 AES inline:hunter2\r\n\
                   k=clear:hunter2\na=fingerprint:sha-256 AA:BB\r\na=ice-pwd:hunter2";
        let shown = RedactedSdp::new(sdp).to_string();
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.starts_with("v=0\r\na=ice-ufrag:abcd\r\na=ice-pwd:[redacted]\r\n"), "{shown}");
        assert!(shown.contains("a=fingerprint:sha-256 AA:BB\r\n"), "{shown}");
    }

    proptest! {
        #[test]
        fn redaction_takes_any_text_and_leaves_no_secret(a in ".{0,80}", b in ".{0,80}") {
            let sdp = format!("{a}\r\na=ice-pwd:hunter2\r\n{b}");
            prop_assert!(!RedactedSdp::new(&sdp).to_string().contains("hunter2"));
        }
    }
}

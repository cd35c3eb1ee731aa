//! What all sessions of a worker share, and what kinds of session there are. It keeps no session.

use std::sync::Arc;

use str0m::config::{CryptoProvider, DtlsCert};
use str0m::crypto::Sha1HmacProvider;

use crate::wire::ice_url::{IceUrl, UrlTransport};
use crate::wire::ids::{VoiceKey, WorkerId};
use crate::wire::sdp::IceCredentials;
use crate::wire::signal::VoiceCard;

use super::crypto;

/// What a session does with media.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Model {
    /// Plays voices.
    Speaker,
    /// Sends back what it receives.
    Echo,
}

/// Which paths a client wants, when it says so (`ice_transport_policy`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Policy {
    /// Every path, and ICE picks.
    All,
    /// Relayed ones only, the relay reached over UDP.
    Udp,
    /// Relayed ones only, the relay reached over TCP.
    Tcp,
}

impl Policy {
    /// As clients write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }

    /// What a client means by this text; a text that means nothing is no wish.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        [Self::All, Self::Udp, Self::Tcp].into_iter().find(|policy| policy.name() == text)
    }

    /// Whether the client's other paths are left alone.
    #[must_use]
    pub const fn is_relay_only(self) -> bool {
        matches!(self, Self::Udp | Self::Tcp)
    }

    /// Whether a client with this policy may use the server.
    #[must_use]
    pub fn admits(self, url: &IceUrl) -> bool {
        match self {
            Self::All => true,
            Self::Udp => url.scheme.relays() && url.transport == UrlTransport::Udp,
            Self::Tcp => url.scheme.relays() && url.transport == UrlTransport::Tcp,
        }
    }
}

/// Who the client is, as far as a session must know.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Profile {
    /// What the session does.
    pub model: Model,
    /// Authenticated by `api_key`: an SDK, which is told of every generation.
    pub sdk: bool,
    /// Which paths it wants.
    pub policy: Option<Policy>,
}

impl Profile {
    /// One that wants every path.
    #[must_use]
    pub const fn new(model: Model, sdk: bool) -> Self {
        Self { model, sdk, policy: None }
    }

    /// Whether only relayed candidates of the client are checked.
    #[must_use]
    pub fn is_relay_only(self) -> bool {
        self.policy.is_some_and(Policy::is_relay_only)
    }
}

/// UDP ports, both ends included.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PortRange {
    /// The first, never 0.
    pub min: u16,
    /// The last, never before the first.
    pub max: u16,
}

impl PortRange {
    /// From one port to another, if that is a range.
    #[must_use]
    pub fn new(min: u16, max: u16) -> Option<Self> {
        (min > 0 && min <= max).then_some(Self { min, max })
    }

    /// Whether a port is in it.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.min <= port && port <= self.max
    }

    /// Whether another range is in it as a whole.
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        self.contains(other.min) && self.contains(other.max)
    }
}

/// HMAC-SHA1 (RFC 2104), by the cryptography that str0m uses.
#[derive(Clone, Copy)]
pub struct Hmac(&'static dyn Sha1HmacProvider);

impl Default for Hmac {
    fn default() -> Self {
        Self(str0m::crypto::from_feature_flags().sha1_hmac_provider)
    }
}

impl std::fmt::Debug for Hmac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hmac").finish_non_exhaustive()
    }
}

impl Hmac {
    /// That of `parts`, one after the other.
    #[must_use]
    pub fn sha1(self, key: &[u8], parts: &[&[u8]]) -> [u8; 20] {
        self.0.sha1_hmac(key, parts)
    }
}

/// What all sessions of a worker share.
#[derive(Clone)]
pub struct Host {
    /// The cryptography that str0m uses.
    pub crypto: Arc<CryptoProvider>,
    /// One certificate per process run.
    pub certificate: DtlsCert,
    /// Fills a buffer from a cryptographic source.
    pub entropy: fn(&mut [u8]),
    /// First character of every ufrag: names the worker.
    pub worker: char,
    /// The voices; a voice's key is its place.
    pub voices: Vec<VoiceCard>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("worker", &self.worker).finish_non_exhaustive()
    }
}

impl Host {
    /// Draws a certificate and takes str0m's default cryptography.
    ///
    /// # Panics
    /// When the cryptography cannot make a certificate, which is a broken build.
    #[must_use]
    pub fn new(entropy: fn(&mut [u8]), worker: char, voices: Vec<VoiceCard>) -> Self {
        let crypto = crypto::provider();
        let certificate = crypto.dtls_provider.generate_certificate().expect("the provider makes certificates");
        Self { crypto, certificate, entropy, worker, voices }
    }

    /// The same for another worker: sessions of one process share its certificate.
    #[must_use]
    pub fn of_worker(&self, worker: char) -> Self {
        Self { worker, ..self.clone() }
    }

    /// Bytes from the cryptographic source.
    #[must_use]
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        (self.entropy)(&mut bytes);
        bytes
    }

    /// A ufrag of 8 characters that names the worker, 42 bits of it drawn, and a password of 24, 144 bits (RFC 8445 section 5.3
    /// wants 24 and 128).
    #[must_use]
    pub fn ice_credentials(&self) -> IceCredentials {
        let letter = |byte: &u8| char::from(WorkerId::ALPHABET[usize::from(byte & 63)]);
        let word = |bytes: &[u8]| bytes.iter().map(letter).collect::<String>();
        IceCredentials {
            ufrag: format!("{}{}", self.worker, word(&self.random::<7>())),
            pwd: word(&self.random::<24>()),
        }
    }

    /// The voice that clients call `id`.
    #[must_use]
    pub fn voice(&self, id: &str) -> Option<VoiceKey> {
        let place = self.voices.iter().position(|card| card.id == id)?;
        u16::try_from(place).ok().map(VoiceKey)
    }
}

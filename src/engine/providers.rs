//! Whose ICE servers clients are given: the first of several sources that works. Pure: it says what to ask a provider for and reads the
//! answers, keeps them until shortly before their end, and falls back where a provider fails. It mints nothing for a client.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use thiserror::Error;

use crate::wire::ice_url::IceUrl;
use crate::wire::signal::IceServer;

use super::access::Secret;
use super::credentials::TurnSecret;
use super::moment::Moment;

/// From a failure to the next try; doubled by each, up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_secs(1);
/// Between two tries at a provider that keeps failing.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// What the two providers say at most: a few servers of a few hundred bytes.
pub const LONGEST_ANSWER: usize = 64 * 1024;
/// A token is asked for anew when this part of its life is over.
const RENEWED: u32 = 2;
/// The last part of a token's life is given to nobody: who comes now wants to stay a while.
const SPARE: u32 = 4;

/// A source of ICE servers.
#[derive(Clone, Debug)]
pub enum Source {
    /// Twilio's Network Traversal Service.
    Twilio {
        /// `TWILIO_ACCOUNT_SID`.
        account: String,
        /// `TWILIO_AUTH_TOKEN`.
        token: Secret,
        /// Scheme and host of its API.
        api: String,
    },
    /// Cloudflare's TURN service.
    Cloudflare {
        /// `CLOUDFLARE_TURN_KEY_ID`.
        key: String,
        /// `CLOUDFLARE_TURN_API_TOKEN`.
        token: Secret,
        /// Scheme and host of its API.
        api: String,
    },
    /// TURN servers that share a secret with us.
    Shared {
        /// `TURN_SECRET`.
        secret: TurnSecret,
        /// `TURN_URLS`.
        urls: Vec<IceUrl>,
    },
    /// `ICE_SERVERS_JSON`: always the same.
    Fixed(Vec<IceServer>),
}

impl Source {
    /// What it is called in a log.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Twilio { .. } => "Twilio",
            Self::Cloudflare { .. } => "Cloudflare",
            Self::Shared { .. } => "TURN_SECRET",
            Self::Fixed(_) => "ICE_SERVERS_JSON",
        }
    }

    /// How to ask it, if it must be asked.
    fn request(&self, life: Duration) -> Option<Request> {
        let seconds = life.as_secs();
        match self {
            Self::Twilio { account, token, api } => Some(Request {
                url: format!("{api}/2010-04-01/Accounts/{account}/Tokens.json"),
                authorization: format!("Basic {}", STANDARD.encode(format!("{account}:{}", token.expose()))),
                content_type: "application/x-www-form-urlencoded",
                body: format!("Ttl={seconds}"),
            }),
            Self::Cloudflare { key, token, api } => Some(Request {
                url: format!("{api}/v1/turn/keys/{key}/credentials/generate-ice-servers"),
                authorization: format!("Bearer {}", token.expose()),
                content_type: "application/json",
                body: format!("{{\"ttl\":{seconds}}}"),
            }),
            Self::Shared { .. } | Self::Fixed(_) => None,
        }
    }
}

/// A POST to a provider. `Debug` hides what it is authorized by, and whose account it is.
#[derive(Clone, Eq, PartialEq)]
pub struct Request {
    /// Where to.
    pub url: String,
    /// The header of that name.
    pub authorization: String,
    /// The header of that name.
    pub content_type: &'static str,
    /// What.
    pub body: String,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("body", &self.body).finish_non_exhaustive()
    }
}

/// Why a provider gave nothing. Its text holds nothing that the provider said, which may be a secret.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ProviderFault {
    /// It was not reached, or did not answer in time.
    #[error("it cannot be reached")]
    Unreachable,
    /// It wants other credentials of ours.
    #[error("it refuses our credentials (status {0})")]
    Refused(u16),
    /// It could not.
    #[error("it answers with status {0}")]
    Status(u16),
    /// It answered in words that are not its own.
    #[error("its answer is not understood")]
    Malformed,
    /// None of its servers can be used.
    #[error("it names no usable server")]
    Empty,
}

/// An answer as providers write it: `urls` is a text or a list, and an old field is called `url`.
#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    urls: Option<OneOrMany>,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    credential: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct TwilioAnswer {
    ice_servers: Vec<Entry>,
    ttl: Seconds,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(u64),
    Text(String),
}

#[derive(Deserialize)]
struct CloudflareAnswer {
    #[serde(rename = "iceServers")]
    ice_servers: Entries,
}

/// Cloudflare has answered with one entry, and with a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entries {
    One(Entry),
    Many(Vec<Entry>),
}

impl Entry {
    /// The texts of its URLs.
    fn into_parts(self) -> (Vec<String>, Option<String>, Option<String>) {
        let urls = match (self.urls, self.url) {
            (Some(OneOrMany::Many(urls)), _) => urls,
            (Some(OneOrMany::One(url)), _) | (None, Some(url)) => vec![url],
            (None, None) => Vec::new(),
        };
        (urls, self.username, self.credential)
    }

    /// What a browser takes of it: it throws on a URL that it does not understand, and on TURN without credentials.
    fn usable(self, keep: impl Fn(&IceUrl) -> bool) -> Option<IceServer> {
        let (urls, username, credential) = self.into_parts();
        let known = username.is_some() && credential.is_some();
        let good = |url: &IceUrl| (known || !url.scheme.relays()) && keep(url);
        let urls: Vec<_> = urls.into_iter().filter(|text| text.parse::<IceUrl>().is_ok_and(|url| good(&url))).collect();
        (!urls.is_empty()).then_some(IceServer { urls, username, credential })
    }
}

/// The value of `ICE_SERVERS_JSON`: a list of `RTCIceServer`, each of which a browser must take.
///
/// # Errors
/// What is wrong with it. Usernames and credentials are not in the text.
pub fn fixed(text: &str) -> Result<Vec<IceServer>, String> {
    let entries: Vec<Entry> = serde_json::from_str(text)
        .map_err(|fault| format!("is not a list of ICE servers (line {}, column {})", fault.line(), fault.column()))?;
    let server = |entry: Entry| {
        let (urls, username, credential) = entry.into_parts();
        if urls.is_empty() {
            return Err("an ICE server has no urls".to_owned());
        }
        for text in &urls {
            let url: IceUrl = text.parse().map_err(|fault| format!("{text:?}: {fault}"))?;
            if url.scheme.relays() && (username.is_none() || credential.is_none()) {
                return Err(format!("{text:?} has no username or no credential"));
            }
        }
        Ok(IceServer { urls, username, credential })
    };
    entries.into_iter().map(server).collect()
}

/// What a provider gave.
#[derive(Clone, Debug)]
struct Token {
    servers: Arc<[IceServer]>,
    since: Moment,
    end: Instant,
    /// When it is given to nobody any more.
    last: Instant,
}

fn read(
    source: &Source,
    status: u16,
    body: &[u8],
    life: Duration,
) -> Result<(Vec<IceServer>, Duration), ProviderFault> {
    match status {
        200..=299 => {}
        401 | 403 => return Err(ProviderFault::Refused(status)),
        _ => return Err(ProviderFault::Status(status)),
    }
    let malformed = |_| ProviderFault::Malformed;
    let (servers, life): (Vec<_>, _) = match source {
        Source::Twilio { .. } => {
            let TwilioAnswer { ice_servers, ttl } = serde_json::from_slice(body).map_err(malformed)?;
            let seconds = match ttl {
                Seconds::Number(seconds) => Some(seconds),
                Seconds::Text(text) => text.parse().ok(),
            };
            let told = seconds.map(Duration::from_secs).ok_or(ProviderFault::Malformed)?;
            (ice_servers.into_iter().filter_map(|entry| entry.usable(|_| true)).collect(), told.min(life))
        }
        Source::Cloudflare { .. } => {
            let CloudflareAnswer { ice_servers } = serde_json::from_slice(body).map_err(malformed)?;
            let entries = match ice_servers {
                Entries::One(entry) => vec![entry],
                Entries::Many(entries) => entries,
            };
            // Browsers refuse to talk to the port of name servers, and wait for it in vain.
            (entries.into_iter().filter_map(|entry| entry.usable(|url| url.port != 53)).collect(), life)
        }
        Source::Shared { .. } | Source::Fixed(_) => return Err(ProviderFault::Malformed),
    };
    if servers.is_empty() || life.is_zero() {
        return Err(ProviderFault::Empty);
    }
    Ok((servers, life))
}

/// What serves at a moment.
#[derive(Clone, Debug, Default)]
pub struct Serving {
    /// What clients are given.
    pub offer: Offer,
    /// A source that goes before it has never answered yet: worth a short wait.
    pub is_waited_for: bool,
}

/// What a source has for clients.
#[derive(Clone, Debug, Default)]
pub enum Offer {
    /// Nothing serves.
    #[default]
    Nothing,
    /// The same for everybody.
    Servers {
        /// As clients get them.
        servers: Arc<[IceServer]>,
        /// When their credentials end, if they do.
        end: Option<Instant>,
    },
    /// Credentials are minted for each client.
    Minted {
        /// Shared with the servers.
        secret: TurnSecret,
        /// The servers.
        urls: Arc<[IceUrl]>,
    },
}

/// Names a source in the order of their going.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SourceIndex(usize);

/// The sources, in the order in which they are tried.
#[derive(Debug)]
pub struct Providers {
    slots: Vec<Slot>,
    life: Duration,
}

#[derive(Debug)]
struct Slot {
    source: Source,
    /// What was got.
    token: Option<Token>,
    asking: bool,
    answered: bool,
    /// Without a success since.
    failures: u32,
    /// Not to be asked before.
    next: Option<Instant>,
}

impl Slot {
    fn works(&self, now: Instant) -> bool {
        let lasts = self.token.as_ref().is_some_and(|token| now < token.last);
        lasts || matches!(self.source, Source::Shared { .. } | Source::Fixed(_))
    }
}

impl Providers {
    /// These sources, the first one first, whose credentials shall last for `life`.
    #[must_use]
    pub fn new(sources: Vec<Source>, life: Duration) -> Self {
        let slot = |source| Slot { source, token: None, asking: false, answered: false, failures: 0, next: None };
        Self { slots: sources.into_iter().map(slot).collect(), life }
    }

    /// Whom to ask now, if anybody; it is to be [`answered`](Self::answered). To be called again until there is nobody.
    pub fn ask(&mut self, at: Moment) -> Option<(SourceIndex, Request)> {
        let now = at.now;
        for slot in &mut self.slots {
            // When its end comes by a provider's clock, nobody knows any more.
            if slot.token.take_if(|token| at.has_leapt_since(&token.since)).is_some() {
                (slot.answered, slot.failures, slot.next) = (false, 0, None);
            }
        }
        let first = self.slots.iter().position(|slot| slot.works(now) && slot.failures == 0);
        // What goes behind one that works is not needed; one that works is asked anew half-way through.
        let needed = first.map_or(self.slots.len(), |first| first + 1);
        // One at a time: whether the next one is needed, its answer tells. One that failed does not keep the next one waiting.
        for (index, slot) in self.slots.iter_mut().enumerate().take(needed) {
            if slot.asking {
                return None;
            }
            let Some(request) = slot.source.request(self.life) else { continue };
            if slot.next.is_none_or(|next| now >= next) {
                slot.asking = true;
                return Some((SourceIndex(index), request));
            }
        }
        None
    }

    /// When [`ask`](Self::ask) has something to say again, unless an answer comes before. An end of what serves is such a time, too.
    #[must_use]
    pub fn wake(&self, now: Instant) -> Option<Instant> {
        let next = self.slots.iter().filter(|slot| !slot.asking).filter_map(|slot| slot.next);
        let last = self.slots.iter().filter_map(|slot| slot.token.as_ref()).map(|token| token.last);
        next.chain(last).filter(|at| *at > now).min()
    }

    /// What came of a request: status and body.
    ///
    /// # Errors
    /// Why the provider is none for now; the next one is tried.
    pub fn answered(
        &mut self,
        SourceIndex(index): SourceIndex,
        answer: Result<(u16, &[u8]), ProviderFault>,
        at: Moment,
    ) -> Result<(), ProviderFault> {
        let (life, now) = (self.life, at.now);
        let Some(slot) = self.slots.get_mut(index) else { return Ok(()) };
        slot.asking = false;
        slot.answered = true;
        match answer.and_then(|(status, body)| read(&slot.source, status, body, life)) {
            Ok((servers, life)) => {
                slot.failures = 0;
                slot.next = Some(now + life / RENEWED);
                let (end, last) = (now + life, now + life / SPARE * (SPARE - 1));
                slot.token = Some(Token { servers: servers.into(), since: at, end, last });
                Ok(())
            }
            Err(fault) => {
                slot.next = Some(now + PAUSE.saturating_mul(1 << slot.failures.min(6)).min(LONGEST_PAUSE));
                slot.failures += 1;
                Err(fault)
            }
        }
    }

    /// What a source is called.
    #[must_use]
    pub fn name(&self, SourceIndex(index): SourceIndex) -> &'static str {
        self.slots.get(index).map_or("", |slot| slot.source.name())
    }

    /// What serves now.
    #[must_use]
    pub fn serving(&self, now: Instant) -> Serving {
        let first = self.slots.iter().position(|slot| slot.works(now));
        let before = first.unwrap_or(self.slots.len());
        let is_waited_for = self.slots[..before].iter().any(|slot| !slot.answered);
        let offer = match first.map(|first| &self.slots[first]) {
            None => Offer::Nothing,
            Some(Slot { source: Source::Shared { secret, urls }, .. }) => {
                Offer::Minted { secret: secret.clone(), urls: urls.clone().into() }
            }
            Some(Slot { source: Source::Fixed(servers), .. }) => {
                Offer::Servers { servers: servers.clone().into(), end: None }
            }
            Some(Slot { token, .. }) => token.as_ref().map_or(Offer::Nothing, |Token { servers, end, .. }| {
                Offer::Servers { servers: servers.clone(), end: Some(*end) }
            }),
        };
        Serving { offer, is_waited_for }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::host::Hmac;
    use crate::tests::net::{secs, zero};

    const LIFE: Duration = secs(3600);
    const TWILIO: &str = r#"{"username":"u1","password":"p1","account_sid":"AC1","ttl":"1800","date_created":"Sun, 22 Nov 2026 10:00:00 +0000",
        "ice_servers":[{"url":"stun:global.stun.twilio.com:3478","urls":"stun:global.stun.twilio.com:3478"},
        {"url":"turn:global.turn.twilio.com:3478?transport=udp","username":"u1","urls":"turn:global.turn.twilio.com:3478?transport=udp","credential":"p1"},
        {"url":"turn:global.turn.twilio.com:443?transport=tcp","username":"u1","urls":"turn:global.turn.twilio.com:443?transport=tcp","credential":"p1"}]}"#;
    const CLOUDFLARE: &str = r#"{"iceServers":[{"urls":["stun:stun.cloudflare.com:3478","stun:stun.cloudflare.com:53"]},
        {"urls":["turn:turn.cloudflare.com:3478?transport=udp","turn:turn.cloudflare.com:53?transport=udp","turns:turn.cloudflare.com:443?transport=tcp"],
        "username":"u2","credential":"p2"}]}"#;

    fn secret(text: &str) -> Secret {
        Secret::try_from(text).expect("it is long enough")
    }

    fn twilio() -> Source {
        Source::Twilio { account: "AC1".into(), token: secret("twilio-token"), api: "https://twilio.test".into() }
    }

    fn cloudflare() -> Source {
        Source::Cloudflare { key: "k1".into(), token: secret("flare-token"), api: "https://flare.test".into() }
    }

    fn shared() -> Source {
        let urls = vec!["turn:t.example".parse().expect("a URL")];
        Source::Shared { secret: TurnSecret::new(b"north", Hmac::default()), urls }
    }

    fn fixed_one() -> Source {
        Source::Fixed(fixed(r#"[{"urls":"stun:fixed.example"}]"#).expect("it is good"))
    }

    fn at(seconds: u64) -> Instant {
        zero() + secs(seconds)
    }

    /// The same with the time of day set forward by so much.
    fn set(seconds: u64, by: u64) -> Moment {
        Moment { now: at(seconds), unix: 1_000_000 + seconds + by }
    }

    /// What serves, as one word.
    fn serves(providers: &Providers, seconds: u64) -> String {
        match providers.serving(at(seconds)).offer {
            Offer::Nothing => "nothing".into(),
            Offer::Minted { .. } => "minted".into(),
            Offer::Servers { servers, .. } => {
                let last = servers.last().expect("never empty");
                last.username.clone().unwrap_or_else(|| last.urls[0].clone())
            }
        }
    }

    fn asked(providers: &mut Providers, seconds: u64) -> Option<usize> {
        providers.ask(set(seconds, 0)).map(|(SourceIndex(index), _)| index)
    }

    fn answer(providers: &mut Providers, index: usize, body: &str, seconds: u64) {
        let done = providers.answered(SourceIndex(index), Ok((201, body.as_bytes())), set(seconds, 0));
        assert_eq!(done, Ok(()));
    }

    fn fail(providers: &mut Providers, index: usize, seconds: u64) {
        let done = providers.answered(SourceIndex(index), Err(ProviderFault::Unreachable), set(seconds, 0));
        assert_eq!(done, Err(ProviderFault::Unreachable));
    }

    #[test]
    fn providers_are_asked_in_their_own_words() {
        let request = twilio().request(secs(60)).expect("it must be asked");
        assert_eq!(request.url, "https://twilio.test/2010-04-01/Accounts/AC1/Tokens.json");
        // printf AC1:twilio-token | base64
        assert_eq!(request.authorization, "Basic QUMxOnR3aWxpby10b2tlbg==");
        assert_eq!((request.content_type, request.body.as_str()), ("application/x-www-form-urlencoded", "Ttl=60"));
        assert!(!format!("{request:?} {:?}", twilio()).contains("token\""), "{request:?}");
        let request = cloudflare().request(secs(60)).expect("it must be asked");
        assert_eq!(request.url, "https://flare.test/v1/turn/keys/k1/credentials/generate-ice-servers");
        assert_eq!(request.authorization, "Bearer flare-token");
        assert_eq!((request.content_type, request.body.as_str()), ("application/json", r#"{"ttl":60}"#));
        assert!(!format!("{request:?} {:?}", cloudflare()).contains("flare-token"));
        assert!(shared().request(LIFE).is_none() && fixed_one().request(LIFE).is_none());
    }

    #[test]
    fn their_answers_are_read_as_they_come() {
        let got = |source: &Source, status, body: &str| {
            read(source, status, body.as_bytes(), LIFE)
                .map(|(servers, life)| (servers.iter().flat_map(|one| one.urls.clone()).collect::<Vec<_>>(), life))
        };
        let (urls, life) = got(&twilio(), 201, TWILIO).expect("Twilio's");
        assert_eq!((urls.len(), life), (3, secs(1800)));
        let (urls, life) = got(&cloudflare(), 201, CLOUDFLARE).expect("Cloudflare's");
        let left = [
            "stun:stun.cloudflare.com:3478",
            "turn:turn.cloudflare.com:3478?transport=udp",
            "turns:turn.cloudflare.com:443?transport=tcp",
        ];
        assert_eq!((urls, life), (left.map(str::to_owned).to_vec(), LIFE));
        let one = r#"{"iceServers":{"urls":["turn:a.example"],"username":"u","credential":"c"}}"#;
        assert_eq!(got(&cloudflare(), 200, one).map(|(urls, _)| urls), Ok(vec!["turn:a.example".to_owned()]));
        for (status, body, fault) in [
            (401, TWILIO, ProviderFault::Refused(401)),
            (403, "", ProviderFault::Refused(403)),
            (429, "", ProviderFault::Status(429)),
            (503, TWILIO, ProviderFault::Status(503)),
            (302, TWILIO, ProviderFault::Status(302)),
            (200, "", ProviderFault::Malformed),
            (200, "<html>", ProviderFault::Malformed),
            (200, r#"{"ttl":"soon","ice_servers":[]}"#, ProviderFault::Malformed),
            (200, r#"{"ttl":-1,"ice_servers":[]}"#, ProviderFault::Malformed),
            (200, r#"{"ttl":60,"ice_servers":[]}"#, ProviderFault::Empty),
            (200, r#"{"ttl":60,"ice_servers":[{"urls":"turn:a.example"}]}"#, ProviderFault::Empty),
            (200, r#"{"ttl":60,"ice_servers":[{"urls":"http://a.example"}]}"#, ProviderFault::Empty),
            (200, r#"{"ttl":0,"ice_servers":[{"urls":"stun:a.example"}]}"#, ProviderFault::Empty),
        ] {
            assert_eq!(got(&twilio(), status, body), Err(fault), "{status} {body}");
        }
    }

    #[test]
    fn the_first_that_works_serves_and_is_asked_once_for_all() {
        let mut providers = Providers::new(vec![twilio(), cloudflare(), shared()], LIFE);
        assert!(providers.serving(at(0)).is_waited_for);
        assert_eq!(serves(&providers, 0), "minted", "until the first has said something");
        assert_eq!(asked(&mut providers, 0), Some(0));
        assert_eq!(asked(&mut providers, 0), None, "one at a time");
        answer(&mut providers, 0, TWILIO, 1);
        assert_eq!(serves(&providers, 1), "u1");
        assert!(!providers.serving(at(1)).is_waited_for);
        // Half of its 1,800 s later it is asked anew; the one that goes behind is not needed.
        assert_eq!((asked(&mut providers, 900), providers.wake(at(1))), (None, Some(at(901))));
        assert_eq!(asked(&mut providers, 901), Some(0));
        answer(&mut providers, 0, &TWILIO.replace("u1", "u3"), 902);
        assert_eq!((serves(&providers, 902).as_str(), asked(&mut providers, 902)), ("u3", None));
    }

    #[test]
    fn who_fails_is_passed_over_and_tried_again() {
        let mut providers = Providers::new(vec![twilio(), cloudflare(), fixed_one()], LIFE);
        assert_eq!(asked(&mut providers, 0), Some(0));
        fail(&mut providers, 0, 5);
        assert!(providers.serving(at(5)).is_waited_for, "the next one may yet answer");
        assert_eq!(asked(&mut providers, 5), Some(1));
        answer(&mut providers, 1, CLOUDFLARE, 6);
        assert_eq!(serves(&providers, 6), "u2");
        // The first is tried again and again, ever more slowly.
        let mut failed = 5;
        let mut pauses = Vec::new();
        while pauses.len() < 9 {
            let again = (failed..failed + 100).find(|second| asked(&mut providers, *second) == Some(0));
            let again = again.expect("it is tried again");
            pauses.push(again - failed);
            fail(&mut providers, 0, again);
            failed = again;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        let now = failed;
        assert_eq!(serves(&providers, now), "u2");
        let again = (now..now + 61).find(|second| asked(&mut providers, *second) == Some(0)).expect("within a minute");
        answer(&mut providers, 0, TWILIO, again);
        assert_eq!(serves(&providers, again), "u1", "it goes first again");
    }

    #[test]
    fn tokens_near_their_end_are_given_to_nobody() {
        let mut providers = Providers::new(vec![twilio(), fixed_one()], LIFE);
        assert_eq!(asked(&mut providers, 0), Some(0));
        answer(&mut providers, 0, TWILIO, 0);
        assert_eq!(asked(&mut providers, 900), Some(0));
        fail(&mut providers, 0, 905);
        assert_eq!(serves(&providers, 1349), "u1", "what there is goes on");
        assert_eq!(serves(&providers, 1350), "stun:fixed.example");
        assert!(!providers.serving(at(1350)).is_waited_for, "it has been heard of");
        let Offer::Servers { end, .. } = providers.serving(at(1349)).offer else { panic!("it serves") };
        assert_eq!(end, Some(at(1800)));
        assert!(providers.wake(at(1348)).is_some_and(|wake| wake <= at(1350)));
    }

    #[test]
    fn tokens_are_got_anew_when_the_time_of_day_has_leapt() {
        // A night is slept through, and the clock is set back.
        for (before, after) in [(0, 8 * 3600), (900_000, 0)] {
            let mut providers = Providers::new(vec![twilio(), fixed_one()], LIFE);
            assert!(providers.ask(set(0, before)).is_some());
            let first = providers.answered(SourceIndex(0), Ok((201, TWILIO.as_bytes())), set(0, before));
            assert_eq!((first, serves(&providers, 60).as_str()), (Ok(()), "u1"));
            assert!(providers.ask(set(60, before + 5)).is_none(), "clocks are nudged all the time");
            assert!(providers.ask(set(60, after)).is_some());
            assert_eq!(serves(&providers, 60), "stun:fixed.example", "nobody is given what may have ended");
            assert!(providers.serving(at(60)).is_waited_for);
            let again = providers.answered(SourceIndex(0), Ok((201, TWILIO.as_bytes())), set(61, after));
            assert_eq!((again, serves(&providers, 61).as_str()), (Ok(()), "u1"));
            assert!(providers.ask(set(62, after)).is_none(), "once");
        }
    }

    #[test]
    fn nothing_is_asked_where_nothing_can_be() {
        let mut none = Providers::new(Vec::new(), LIFE);
        assert_eq!((asked(&mut none, 0), none.wake(at(0)), serves(&none, 0).as_str()), (None, None, "nothing"));
        assert!(!none.serving(at(0)).is_waited_for);
        let mut shared = Providers::new(vec![shared(), twilio()], LIFE);
        assert_eq!((asked(&mut shared, 0), serves(&shared, 0).as_str()), (None, "minted"));
    }

    #[test]
    fn a_list_of_ones_own_is_checked_without_repeating_its_secrets() {
        let good = r#"[{"urls":["stun:a.example","turn:a.example"],"username":"me","credential":"hunter2"},{"url":"stun:b.example"}]"#;
        let servers = fixed(good).expect("it is good");
        assert_eq!((servers.len(), servers[0].urls.len(), servers[1].urls.len()), (2, 2, 1));
        assert!(fixed("[]").expect("it is empty").is_empty());
        for (text, fault) in [
            ("", "is not a list of ICE servers (line 1, column 0)"),
            (r#"{"urls":"stun:a"}"#, "is not a list of ICE servers (line 1, column 0)"),
            (r#"[{"urls":7,"credential":"hunter2"}]"#, "is not a list of ICE servers (line 1, column 10)"),
            (r#"[{"username":"hunter2"}]"#, "an ICE server has no urls"),
            (r#"[{"urls":[]}]"#, "an ICE server has no urls"),
            (
                r#"[{"urls":"turn:a.example","credential":"hunter2"}]"#,
                "\"turn:a.example\" has no username or no credential",
            ),
        ] {
            assert_eq!(fixed(text), Err(fault.to_owned()), "{text}");
        }
        let fault = fixed(r#"[{"urls":"http://a.example"}]"#).expect_err("another scheme");
        assert!(fault.starts_with("\"http://a.example\": the URL of an ICE server begins"), "{fault}");
    }
}

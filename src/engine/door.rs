//! One client's door: who may speak, in what order, how much. It authenticates, limits and answers what needs no session.

use std::time::{Duration, Instant};

use crate::wire::ids::SessionId;
use crate::wire::signal::{ClientMsg, Hello, ServerMsg, SignalFault};

use super::budget::Budget;
use super::session::{Model, Policy, PortRange, Profile};

/// A socket that has not authenticated by then is closed.
pub const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// Message bytes before authentication.
pub const LIMIT_STRANGER: usize = 16 * 1024;
/// Message bytes after `hello`.
pub const LIMIT_CLIENT: usize = 256 * 1024;
/// Message bytes on a socket that authenticated by `api_key`: images are received and discarded.
pub const LIMIT_SDK: usize = 16 * 1024 * 1024;
/// Messages that may come at once: a page trickles dozens of candidates.
const BURST: u32 = 256;
/// Messages a second that may come for ever.
const RATE: u32 = 64;

/// Never more often is a client told of fresh ICE servers, whatever a provider says of their life.
const RENEWALS: Duration = Duration::from_secs(20);

/// Why a socket is closed (RFC 6455 section 7.4.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CloseReason {
    /// The server goes away: 1001.
    GoingAway,
    /// Bytes that are no WebSocket's: 1002.
    Protocol,
    /// Text that is not UTF-8: 1007.
    InvalidUtf8,
    /// Not authenticated, too many messages, or replaced: 1008.
    Policy(&'static str),
    /// A message over the limit: 1009.
    TooBig,
}

impl CloseReason {
    /// That of a connection which a fault ended, whose text the client has been told.
    #[must_use]
    pub const fn after(fault: &SignalFault) -> Self {
        match fault {
            SignalFault::RateLimited => Self::Policy("too many messages"),
            SignalFault::OverCapacity(text) => Self::Policy(text),
            SignalFault::NoRelay(_) | SignalFault::BadPortRange(_) | SignalFault::UnknownModel(_) => {
                Self::Policy("not served here")
            }
            SignalFault::TooManyAttempts(_) => Self::Policy("too many attempts"),
            SignalFault::Internal => Self::Policy("internal error"),
            _ => Self::Policy("not authenticated"),
        }
    }

    /// The close code.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::GoingAway => 1001,
            Self::Protocol => 1002,
            Self::InvalidUtf8 => 1007,
            Self::Policy(_) => 1008,
            Self::TooBig => 1009,
        }
    }

    /// The text that goes with it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::GoingAway => "the server goes away",
            Self::Protocol => "a frame breaks the protocol",
            Self::InvalidUtf8 => "text is not UTF-8",
            Self::Policy(text) => text,
            Self::TooBig => "message too big",
        }
    }
}

/// What came of a token. The driver asks access control, which is none of the door's business.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Admission {
    /// Let in.
    Good,
    /// Kept out, and why.
    Bad(SignalFault),
}

/// What a client asks for in the address of its WebSocket.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Wishes {
    /// `api_key`.
    pub api_key: Option<String>,
    /// `model`.
    pub model: Option<String>,
    /// `ice_transport_policy`.
    pub ice_transport_policy: Option<String>,
    /// `rtp_port`, or `rtp_port_min` and `rtp_port_max`.
    pub rtp_ports: Option<PortWish>,
}

impl std::fmt::Debug for Wishes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wishes").field("model", &self.model).finish_non_exhaustive()
    }
}

/// The ports that a client asks for, as it wrote them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PortWish {
    min: String,
    max: String,
}

impl PortWish {
    /// The range, if it is one inside the operator's window.
    ///
    /// # Errors
    /// What was asked for, which cannot be served.
    fn within(&self, window: Option<PortRange>) -> Result<PortRange, SignalFault> {
        let number = |text: &str| text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
        let range = number(&self.min).zip(number(&self.max)).and_then(|(min, max)| PortRange::new(min, max));
        range.filter(|range| window.is_some_and(|window| window.covers(*range))).ok_or_else(|| {
            let text = if self.min == self.max { self.min.clone() } else { format!("{} to {}", self.min, self.max) };
            SignalFault::about(&text, SignalFault::BadPortRange)
        })
    }
}

impl Wishes {
    /// Reads a query string; unknown parameters are ignored, the first of a name counts.
    #[must_use]
    pub fn from_pairs<'a>(pairs: impl Iterator<Item = (std::borrow::Cow<'a, str>, std::borrow::Cow<'a, str>)>) -> Self {
        let mut wishes = Self::default();
        let (mut one, mut min, mut max) = (None, None, None);
        for (name, value) in pairs {
            let slot = match name.as_ref() {
                "api_key" => &mut wishes.api_key,
                "model" => &mut wishes.model,
                "ice_transport_policy" => &mut wishes.ice_transport_policy,
                _ if value.is_empty() && name.starts_with("rtp_port") => continue,
                "rtp_port" => &mut one,
                "rtp_port_min" => &mut min,
                "rtp_port_max" => &mut max,
                _ => continue,
            };
            slot.get_or_insert_with(|| value.into_owned());
        }
        let known = |text: Option<String>| text.unwrap_or_else(|| "?".to_owned());
        wishes.rtp_ports = match (one, min, max) {
            (None, None, None) => None,
            (Some(port), _, _) => Some(PortWish { min: port.clone(), max: port }),
            (None, min, max) => Some(PortWish { min: known(min), max: known(max) }),
        };
        wishes
    }

    /// The model and the kind of client, once `sdk` says whether the `api_key` was good. Whether there is a relay for its policy the
    /// driver knows.
    ///
    /// # Errors
    /// A model that we do not have.
    pub fn profile(&self, sdk: bool) -> Result<Profile, SignalFault> {
        let model = match self.model.as_deref() {
            None | Some("" | "speaker") => Model::Speaker,
            // An SDK sends names of its own.
            Some("echo") => Model::Echo,
            Some(_) if sdk => Model::Echo,
            Some(unknown) => return Err(SignalFault::about(unknown, SignalFault::UnknownModel)),
        };
        Ok(Profile { model, sdk, policy: self.ice_transport_policy.as_deref().and_then(Policy::of) })
    }
}

/// What the driver is to do.
#[derive(Debug, PartialEq)]
pub enum DoorEffect {
    /// Send this.
    Send(ServerMsg),
    /// Check this token, then call [`Door::admitted`].
    Check(Hello),
    /// Open a session or resume one; the acknowledgement is the driver's, who knows voices and addresses.
    Attach {
        /// The session to resume, if it is still there.
        resume: Option<SessionId>,
        /// What the session does.
        profile: Profile,
        /// The UDP ports that it may use; any where there are none.
        ports: Option<PortRange>,
    },
    /// Pass this on to the session.
    Forward(ClientMsg),
    /// Tell the client of fresh ICE servers: the credentials of those that it knows end soon. Then call [`Door::told`].
    Renew,
    /// Close the socket.
    Close(CloseReason),
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Stage {
    /// Waits for `hello` until then.
    Stranger(Instant),
    /// A token is being checked, or a session opened.
    Waiting,
    /// In.
    Client,
    /// Closed from our side: nothing more is listened to.
    Closed,
}

/// The state of one socket.
#[derive(Debug)]
pub struct Door {
    stage: Stage,
    wishes: Wishes,
    /// The operator's ports, of which a client may choose.
    window: Option<PortRange>,
    sdk: bool,
    budget: Budget,
    /// When the client wants fresh ICE servers.
    renew: Option<Instant>,
}

impl Door {
    /// A client knocks; one that gave an `api_key` must have it checked at once by [`Self::knock`]. Of the ports in `window` it may choose.
    #[must_use]
    pub fn new(wishes: Wishes, window: Option<PortRange>, now: Instant) -> Self {
        Self {
            stage: Stage::Stranger(now + HELLO_WITHIN),
            wishes,
            window,
            sdk: false,
            budget: Budget::new(BURST, RATE, now),
            renew: None,
        }
    }

    /// What came of the `api_key` in the address.
    #[must_use]
    pub fn knock(&mut self, admission: Admission) -> Vec<DoorEffect> {
        match admission {
            Admission::Good => {
                self.sdk = true;
                self.attach(None)
            }
            Admission::Bad(fault) => self.refuse(fault),
        }
    }

    /// A text frame.
    #[must_use]
    pub fn text(&mut self, text: &str, now: Instant) -> Vec<DoorEffect> {
        if self.stage == Stage::Closed {
            return Vec::new();
        }
        if !self.budget.spend(1, now) {
            return self.refuse(SignalFault::RateLimited);
        }
        let message = match ClientMsg::parse(text) {
            Ok(message) => message,
            Err(fault) => return vec![DoorEffect::Send(fault.into())],
        };
        match (&self.stage, message) {
            (Stage::Stranger(_), ClientMsg::Hello(hello)) => {
                self.stage = Stage::Waiting;
                vec![DoorEffect::Check(hello)]
            }
            (Stage::Stranger(_) | Stage::Client, ClientMsg::Ping) => {
                vec![DoorEffect::Send(ServerMsg::Pong)]
            }
            (Stage::Client, ClientMsg::Hello(_)) => {
                let fault = SignalFault::InvalidMessage("already authenticated".into());
                vec![DoorEffect::Send(fault.into())]
            }
            (Stage::Client, message) => vec![DoorEffect::Forward(message)],
            _ => vec![DoorEffect::Send(SignalFault::NotAuthenticated.into())],
        }
    }

    /// What came of the token in `hello`.
    #[must_use]
    pub fn admitted(&mut self, admission: Admission, session: Option<&str>) -> Vec<DoorEffect> {
        match admission {
            // An id that is none is an unknown one: a new session.
            Admission::Good => self.attach(session.and_then(|id| id.parse().ok())),
            Admission::Bad(fault) => self.refuse(fault),
        }
    }

    /// The client was told of ICE servers, of which it is to be told again at `renew`. Each time costs it a restart of ICE.
    pub fn told(&mut self, renew: Option<Instant>, now: Instant) {
        self.renew = renew.map(|renew| renew.max(now + RENEWALS));
    }

    /// The session is there: its words may come.
    pub fn attached(&mut self) {
        self.stage = Stage::Client;
    }

    /// A fault that ends the connection: its text, then a close.
    #[must_use]
    pub fn refuse(&mut self, fault: SignalFault) -> Vec<DoorEffect> {
        self.stage = Stage::Closed;
        let reason = CloseReason::after(&fault);
        vec![DoorEffect::Send(fault.into()), DoorEffect::Close(reason)]
    }

    /// A binary frame.
    #[must_use]
    pub fn binary(&mut self, now: Instant) -> Vec<DoorEffect> {
        if self.stage == Stage::Closed {
            return Vec::new();
        }
        if !self.budget.spend(1, now) {
            return self.refuse(SignalFault::RateLimited);
        }
        vec![DoorEffect::Send(SignalFault::InvalidMessage("binary frames are not read here".into()).into())]
    }

    /// Time passes: a stranger who says nothing is shown out, and a client's credentials near their end.
    #[must_use]
    pub fn tick(&mut self, now: Instant) -> Vec<DoorEffect> {
        match self.stage {
            Stage::Stranger(until) if now >= until => {
                self.stage = Stage::Closed;
                vec![DoorEffect::Close(CloseReason::Policy("no hello in time"))]
            }
            Stage::Client if self.renew.take_if(|renew| now >= *renew).is_some() => vec![DoorEffect::Renew],
            _ => Vec::new(),
        }
    }

    /// Bytes that a message may have now.
    #[must_use]
    pub fn limit(&self) -> usize {
        match self.stage {
            Stage::Client if self.sdk => LIMIT_SDK,
            Stage::Client => LIMIT_CLIENT,
            _ => LIMIT_STRANGER,
        }
    }

    fn attach(&mut self, resume: Option<SessionId>) -> Vec<DoorEffect> {
        let ports = self.wishes.rtp_ports.as_ref().map(|ports| ports.within(self.window)).transpose();
        match self.wishes.profile(self.sdk).and_then(|profile| Ok((profile, ports?))) {
            Ok((profile, ports)) => {
                self.stage = Stage::Waiting;
                vec![DoorEffect::Attach { resume, profile, ports }]
            }
            Err(fault) => self.refuse(fault),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::net::zero;

    fn code(effects: &[DoorEffect]) -> Vec<String> {
        effects
            .iter()
            .map(|effect| match effect {
                DoorEffect::Send(ServerMsg::Error(error)) => format!("{}: {}", error.code, error.message),
                DoorEffect::Send(message) => format!("{message:?}"),
                DoorEffect::Close(reason) => format!("close {}", reason.code()),
                other => format!("{other:?}").split([' ', '(']).next().unwrap().to_owned(),
            })
            .collect()
    }

    fn open(wishes: Wishes) -> Door {
        let mut door = Door::new(wishes, None, zero());
        assert_eq!(code(&door.text(r#"{"type":"hello","token":"t"}"#, zero())), ["Check"]);
        assert_eq!(code(&door.admitted(Admission::Good, None)), ["Attach"]);
        door.attached();
        door
    }

    #[test]
    fn nothing_passes_before_hello() {
        let mut door = Door::new(Wishes::default(), None, zero());
        for text in
            [r#"{"type":"webrtc_offer","sdp":"v=0"}"#, r#"{"type":"start","voice_id":"x"}"#, r#"{"type":"stop"}"#]
        {
            assert_eq!(code(&door.text(text, zero())), ["unauthorized: Not authenticated: send hello first"]);
        }
        assert_eq!(code(&door.text(r#"{"type":"ping"}"#, zero())), ["Pong"]);
        assert_eq!(door.limit(), LIMIT_STRANGER);
    }

    #[test]
    fn a_wrong_token_is_told_and_shown_out() {
        let mut door = Door::new(Wishes::default(), None, zero());
        let _ = door.text(r#"{"type":"hello","token":"t"}"#, zero());
        assert_eq!(
            code(&door.admitted(Admission::Bad(SignalFault::BadToken), None)),
            ["unauthorized: Bad token", "close 1008"]
        );
        assert_eq!(code(&door.text(r#"{"type":"hello","token":"t"}"#, zero())), [""; 0]);
        let mut door = Door::new(Wishes::default(), None, zero());
        assert_eq!(
            code(&door.knock(Admission::Bad(SignalFault::BadApiKey))),
            ["unauthorized: Invalid API key", "close 1008"]
        );
    }

    #[test]
    fn a_client_is_passed_on_and_greets_once() {
        let mut door = open(Wishes::default());
        assert_eq!(code(&door.text(r#"{"type":"stop"}"#, zero())), ["Forward"]);
        assert_eq!(
            code(&door.text(r#"{"type":"hello","token":"t"}"#, zero())),
            ["invalid_message: Invalid message: already authenticated"]
        );
        assert_eq!(door.limit(), LIMIT_CLIENT);
        assert_eq!(code(&door.binary(zero())), ["invalid_message: Invalid message: binary frames are not read here"]);
        assert_eq!(code(&door.text("{", zero())), ["invalid_json: Invalid JSON"]);
    }

    #[test]
    fn silence_and_floods_end_a_connection() {
        let mut door = Door::new(Wishes::default(), None, zero());
        assert_eq!(door.tick(zero() + HELLO_WITHIN.mul_f32(0.99)), []);
        assert_eq!(code(&door.tick(zero() + HELLO_WITHIN)), ["close 1008"]);
        let mut door = open(Wishes::default());
        let passed = (0..1000).take_while(|_| code(&door.text(r#"{"type":"stop"}"#, zero())) == ["Forward"]).count();
        assert_eq!(passed, 255, "hello was one of 256");
        assert_eq!(door.stage, Stage::Closed);
        let mut door = open(Wishes::default());
        for second in 1..600_u64 {
            for _ in 0..RATE {
                assert_eq!(code(&door.text(r#"{"type":"stop"}"#, zero() + Duration::from_secs(second))), ["Forward"]);
            }
        }
    }

    #[test]
    fn credentials_are_renewed_once_in_time() {
        let mut door = open(Wishes::default());
        let at = |seconds| zero() + Duration::from_secs(seconds);
        assert_eq!(code(&door.tick(at(9_999))), [""; 0], "it was told of none");
        door.told(Some(at(100)), at(0));
        assert_eq!(code(&door.tick(at(99))), [""; 0]);
        assert_eq!(code(&door.tick(at(100))), ["Renew"]);
        assert_eq!(code(&door.tick(at(110))), [""; 0], "it has been told");
        door.told(Some(at(0)), at(110));
        assert_eq!(code(&door.tick(at(129))), [""; 0], "not in every moment");
        assert_eq!(code(&door.tick(at(130))), ["Renew"]);
        door.told(None, at(130));
        assert_eq!(code(&door.tick(at(9_999))), [""; 0]);
    }

    #[test]
    fn wishes_are_read_from_the_query() {
        let wishes = |query: &'static str| {
            Wishes::from_pairs(
                query
                    .split('&')
                    .filter_map(|pair| pair.split_once('='))
                    .map(|(name, value)| (name.into(), value.into())),
            )
        };
        let code = |query, sdk| wishes(query).profile(sdk).map(|profile| profile.model).map_err(|fault| fault.code());
        assert_eq!(code("", false), Ok(Model::Speaker));
        assert_eq!(code("model=speaker&user_agent=x", true), Ok(Model::Speaker));
        assert_eq!(code("model=echo", false), Ok(Model::Echo));
        assert_eq!(code("model=bit_invert", true), Ok(Model::Echo));
        assert_eq!(code("model=bit_invert", false), Err("unknown_model"));
        assert_eq!(code("ice_transport_policy=all", true), Ok(Model::Speaker));
        let policy = |query| wishes(query).profile(true).expect("it can be served").policy;
        for (text, policy_of) in [("all", Some(Policy::All)), ("udp", Some(Policy::Udp)), ("tcp", Some(Policy::Tcp))] {
            assert_eq!(policy(&*format!("ice_transport_policy={text}").leak()), policy_of);
        }
        assert_eq!((policy("ice_transport_policy=relay"), policy("")), (None, None));
        let window = PortRange::new(5000, 5010);
        let ports = |query, window| {
            let ports = wishes(query).rtp_ports.expect("it asks").within(window);
            ports.map(|range| (range.min, range.max)).map_err(|fault| fault.to_string())
        };
        assert_eq!(wishes("").rtp_ports, None);
        assert_eq!(ports("rtp_port=5000", window), Ok((5000, 5000)));
        assert_eq!(ports("rtp_port=5000&rtp_port_min=&rtp_port_max=", window), Ok((5000, 5000)));
        assert_eq!(ports("rtp_port=&rtp_port_min=5002&rtp_port_max=5003", window), Ok((5002, 5003)));
        assert_eq!(ports("rtp_port_min=5001&rtp_port_max=5010", window), Ok((5001, 5010)));
        assert_eq!(ports("rtp_port=5001&rtp_port_min=5002&rtp_port_max=5003", window), Ok((5001, 5001)));
        for (query, text) in [
            ("rtp_port=4999", "4999"),
            ("rtp_port=0", "0"),
            ("rtp_port=+5000", "+5000"),
            ("rtp_port=x", "x"),
            ("rtp_port_min=5000", "5000 to ?"),
            ("rtp_port_max=5000", "? to 5000"),
            ("rtp_port_min=5000&rtp_port_max=5011", "5000 to 5011"),
            ("rtp_port_min=5005&rtp_port_max=5004", "5005 to 5004"),
        ] {
            assert_eq!(ports(query, window), Err(format!("RTP ports {text} are not allowed here")), "{query}");
        }
        assert!(ports("rtp_port=5000", None).is_err(), "the operator gave no window");
        assert_eq!(wishes("api_key=a&api_key=b").api_key.as_deref(), Some("a"));
        assert!(!format!("{:?}", wishes("api_key=secret")).contains("secret"));
    }
}

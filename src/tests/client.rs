//! A session without a network: what a client says goes in, what it is told comes out. For the words, where media is not the point.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::engine::reflexive::Locals;
use crate::engine::session::{Effect, Input, Model, Profile, SessionCore};
use crate::wire::signal::{ClientMsg, ServerMsg};

use super::net::{self, zero};

/// What Chromium offers to a listening page, host names hidden by multicast DNS.
pub fn chromium_listener() -> String {
    include_str!("golden/chromium-listener.sdp").replace('\n', "\r\n")
}

/// What Chromium offers for a realtime SDK: one video line that goes both ways.
pub fn chromium_sdk() -> String {
    include_str!("golden/chromium-sdk.sdp").replace('\n', "\r\n")
}

/// An offer as a client sends it.
pub fn offer(kind: &str, sdp: &str) -> String {
    serde_json::json!({ "type": kind, "sdp": sdp }).to_string()
}

/// One session and what it did.
pub struct Client {
    core: SessionCore,
    now: Instant,
    wake: Option<Instant>,
    /// Where datagrams were sent.
    pub sent: Vec<SocketAddr>,
}

impl Client {
    /// A session of some profile, attached.
    pub fn new(model: Model, sdk: bool) -> Self {
        Self::with(Profile::new(model, sdk), vec![net::SERVER])
    }

    /// The same with candidates of its own.
    pub fn with(profile: Profile, locals: impl Into<Locals>) -> Self {
        let core = SessionCore::new(net::host(0), profile, locals);
        let mut client = Self { core, now: zero(), wake: None, sent: Vec::new() };
        assert_eq!(client.put(Input::Attached), []);
        client
    }

    /// A listener.
    pub fn listener() -> Self {
        Self::new(Model::Speaker, false)
    }

    /// A text frame, and what it is answered.
    pub fn say(&mut self, text: &str) -> Vec<ServerMsg> {
        match ClientMsg::parse(text) {
            Ok(message) => self.put(Input::Client(message)),
            Err(fault) => vec![fault.into()],
        }
    }

    /// The same, where one fault is the answer: its code and its text.
    #[track_caller]
    pub fn fault(&mut self, text: &str) -> (&'static str, String) {
        let said = self.say(text);
        match <[ServerMsg; 1]>::try_from(said) {
            Ok([ServerMsg::Error(error)]) => {
                assert_eq!(error.message, error.error, "the same text twice");
                (error.code, error.message)
            }
            Ok([other]) => panic!("{text} is answered by {other:?}"),
            Err(said) => panic!("{text} is answered by {said:?}"),
        }
    }

    /// Lets time pass.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.wake.filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.put(Input::Tick);
        }
        self.now = until;
    }

    fn put(&mut self, input: Input<'_>) -> Vec<ServerMsg> {
        let (mut said, sent) = (Vec::new(), &mut self.sent);
        let apply = |effect| match effect {
            Effect::Client(message) => said.push(message),
            Effect::Transmit(transmit) => sent.push(transmit.destination),
            _ => {}
        };
        self.wake =
            self.core.handle(input, self.now).and_then(|drain| drain.run(apply)).expect("the peer broke nothing");
        said
    }
}

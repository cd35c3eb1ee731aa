//! What a client can do wrong, each with the stable code and the text that go on the wire.

use thiserror::Error;

/// Answered by an `error` message; the connection goes on unless the door closes it.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum SignalFault {
    /// The text is no JSON.
    #[error("Invalid JSON")]
    InvalidJson,
    /// A `type` that we do not know; clients match the text.
    #[error("Unknown type: {0}")]
    UnknownType(String),
    /// A field is missing or of the wrong kind, or the frame was binary.
    #[error("Invalid message: {0}")]
    InvalidMessage(String),
    /// `hello` with a wrong token.
    #[error("Bad token")]
    BadToken,
    /// `api_key` in the address is wrong; an SDK retries any other text.
    #[error("Invalid API key")]
    BadApiKey,
    /// Something else came before `hello`.
    #[error("Not authenticated: send hello first")]
    NotAuthenticated,
    /// This address has guessed too often.
    #[error("Too many attempts: try again in {0} s")]
    TooManyAttempts(u64),
    /// There is no `PeerConnection` yet, or no longer.
    #[error("No WebRTC session")]
    NoSession,
    /// No voice has this id.
    #[error("Unknown voice: {0}")]
    UnknownVoice(String),
    /// An offer without `sdp`; clients match the text.
    #[error("Missing SDP")]
    MissingSdp,
    /// An offer that cannot be answered.
    #[error("Invalid SDP: {0}")]
    InvalidSdp(String),
    /// A candidate that is none.
    #[error("Invalid candidate: {0}")]
    InvalidCandidate(String),
    /// The client may use relayed paths only, and there is no relay of that transport.
    #[error("Relay-only over {0} is not allowed here: the server has no such relay")]
    NoRelay(String),
    /// The ports asked for are outside the operator's window.
    #[error("RTP ports {0} are not allowed here")]
    BadPortRange(String),
    /// The server is full, or going away.
    #[error("Over capacity: {0}")]
    OverCapacity(&'static str),
    /// Too many messages in too little time.
    #[error("Too many messages")]
    RateLimited,
    /// The engine that should make the sound failed, or is not there.
    #[error("Speech failed: {0}")]
    EngineFailed(String),
    /// Nothing to say.
    #[error("Empty text")]
    EmptyText,
    /// A `model` that we do not have.
    #[error("Unknown model: {0}")]
    UnknownModel(String),
    /// Nobody else may come into this room.
    #[error("The room is full")]
    RoomFull,
    /// Somebody in the room has this user id.
    #[error("The user id is taken: {0}")]
    Taken(String),
    /// Not in any room yet, or not any more; clients match the text.
    #[error("Must join a room first")]
    NoRoom,
    /// In another room than the message says.
    #[error("Not in this room: {0}")]
    NotInRoom(String),
    /// Nobody else in the room has this user id.
    #[error("No such peer: {0}")]
    UnknownPeer(String),
    /// Our own fault.
    #[error("Internal error")]
    Internal,
}

impl SignalFault {
    /// The stable code that goes beside the text.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid_json",
            Self::UnknownType(_) => "unknown_type",
            Self::InvalidMessage(_) => "invalid_message",
            Self::BadToken | Self::BadApiKey | Self::NotAuthenticated => "unauthorized",
            Self::TooManyAttempts(_) => "too_many_attempts",
            Self::NoSession => "no_session",
            Self::UnknownVoice(_) => "unknown_voice",
            Self::MissingSdp | Self::InvalidSdp(_) => "invalid_sdp",
            Self::InvalidCandidate(_) => "invalid_candidate",
            Self::NoRelay(_) => "no_relay",
            Self::BadPortRange(_) => "bad_port_range",
            Self::OverCapacity(_) => "over_capacity",
            Self::RateLimited => "rate_limited",
            Self::EngineFailed(_) => "engine_failed",
            Self::EmptyText => "empty_text",
            Self::UnknownModel(_) => "unknown_model",
            Self::RoomFull => "room_full",
            Self::Taken(_) => "taken",
            Self::NoRoom | Self::NotInRoom(_) => "not_in_room",
            Self::UnknownPeer(_) => "unknown_peer",
            Self::Internal => "internal",
        }
    }

    /// The same fault with a stranger's words in it cut to a length fit for an answer.
    #[must_use]
    pub fn about(word: &str, fault: fn(String) -> Self) -> Self {
        /// Longest echo of a stranger's word, in characters.
        const LONGEST: usize = 64;
        fault(word.chars().take(LONGEST).collect())
    }
}

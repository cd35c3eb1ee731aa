//! The door to the rooms for one connection: who may speak, how much, how fast. It authenticates and limits; rooms are behind it.

use std::time::Instant;

use crate::engine::budget::Budget;
use crate::engine::door::{Admission, CloseReason, HELLO_WITHIN, LIMIT_CLIENT, LIMIT_STRANGER};
use crate::wire::signal::{Join, RoomMsg, RoomWord, SignalFault};

/// Messages that may come at once: in a room of sixteen a newcomer sends fifteen offers and dozens of candidates with each.
const BURST: u32 = 1024;
/// Messages a second that may come for ever.
const RATE: u32 = 128;
/// Bytes that may come at once: offers of many lines, to all of a room, and once more when ICE restarts.
const BURST_BYTES: u32 = 4 * 1024 * 1024;
/// Bytes a second that may come for ever.
const RATE_BYTES: u32 = 256 * 1024;

/// What the driver is to do.
#[derive(Debug, PartialEq)]
pub enum RoomDoorEffect {
    /// Send this.
    Send(RoomWord),
    /// Check the token in this join, or whether none is needed, then call [`RoomDoor::admitted`] with it.
    Check(Join),
    /// Pass this on to the rooms.
    Forward(RoomMsg),
    /// Close the connection.
    Close(CloseReason),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// Waits for a join with a token until then.
    Stranger(Instant),
    /// In.
    Client,
    /// Closed from our side: nothing more is listened to.
    Closed,
}

/// The state of one connection.
#[derive(Debug)]
pub struct RoomDoor {
    stage: Stage,
    messages: Budget,
    bytes: Budget,
}

impl RoomDoor {
    /// Somebody knocks; one who brought a token with the handshake must have it checked at once by [`Self::knock`].
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            stage: Stage::Stranger(now + HELLO_WITHIN),
            messages: Budget::new(BURST, RATE, now),
            bytes: Budget::new(BURST_BYTES, RATE_BYTES, now),
        }
    }

    /// What came of the token in the handshake.
    #[must_use]
    pub fn knock(&mut self, admission: Admission) -> Vec<RoomDoorEffect> {
        match admission {
            Admission::Good => {
                self.stage = Stage::Client;
                Vec::new()
            }
            Admission::Bad(fault) => self.refuse(&fault),
        }
    }

    /// A text frame.
    #[must_use]
    pub fn text(&mut self, text: &str, now: Instant) -> Vec<RoomDoorEffect> {
        if self.stage == Stage::Closed {
            return Vec::new();
        }
        if !self.spend(text.len(), now) {
            return self.refuse(&SignalFault::RateLimited);
        }
        match (self.stage, RoomMsg::parse(text)) {
            (_, Err(fault)) => vec![RoomDoorEffect::Send((&fault).into())],
            (Stage::Stranger(_), Ok(RoomMsg::Join(join))) => vec![RoomDoorEffect::Check(join)],
            (Stage::Stranger(_), Ok(_)) => vec![RoomDoorEffect::Send((&SignalFault::NoRoom).into())],
            (_, Ok(message)) => vec![RoomDoorEffect::Forward(message)],
        }
    }

    /// What came of the token in a join, or of its absence.
    #[must_use]
    pub fn admitted(&mut self, admission: Admission, join: Join) -> Vec<RoomDoorEffect> {
        match admission {
            Admission::Good => {
                self.stage = Stage::Client;
                vec![RoomDoorEffect::Forward(RoomMsg::Join(join))]
            }
            Admission::Bad(fault) => self.refuse(&fault),
        }
    }

    /// A binary frame.
    #[must_use]
    pub fn binary(&mut self, bytes: usize, now: Instant) -> Vec<RoomDoorEffect> {
        if self.stage == Stage::Closed {
            return Vec::new();
        }
        if !self.spend(bytes, now) {
            return self.refuse(&SignalFault::RateLimited);
        }
        let fault = SignalFault::InvalidMessage("binary frames are not read here".into());
        vec![RoomDoorEffect::Send((&fault).into())]
    }

    /// Time passes: a stranger who does not join is shown out.
    #[must_use]
    pub fn tick(&mut self, now: Instant) -> Vec<RoomDoorEffect> {
        match self.stage {
            Stage::Stranger(until) if now >= until => {
                self.stage = Stage::Closed;
                vec![RoomDoorEffect::Close(CloseReason::Policy("no join in time"))]
            }
            _ => Vec::new(),
        }
    }

    /// Bytes that a message may have now.
    #[must_use]
    pub const fn limit(&self) -> usize {
        match self.stage {
            Stage::Client => LIMIT_CLIENT,
            _ => LIMIT_STRANGER,
        }
    }

    /// A fault that ends the connection: its text, then a close.
    fn refuse(&mut self, fault: &SignalFault) -> Vec<RoomDoorEffect> {
        self.stage = Stage::Closed;
        vec![RoomDoorEffect::Send(fault.into()), RoomDoorEffect::Close(CloseReason::after(fault))]
    }

    fn spend(&mut self, bytes: usize, now: Instant) -> bool {
        self.messages.spend(1, now) && self.bytes.spend(u32::try_from(bytes).unwrap_or(u32::MAX), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::net::{secs, zero};

    const JOIN: &str = r#"{"type":"join","roomId":"r","userId":"u","token":"t"}"#;
    const LEAVE: &str = r#"{"type":"leave","roomId":"r"}"#;

    fn words(effects: &[RoomDoorEffect]) -> Vec<String> {
        effects
            .iter()
            .map(|effect| match effect {
                RoomDoorEffect::Send(RoomWord::Error(error)) => format!("{}: {}", error.code, error.message),
                RoomDoorEffect::Close(reason) => format!("close {} {}", reason.code(), reason.text()),
                other => format!("{other:?}").split(['(', ' ']).next().unwrap_or_default().to_owned(),
            })
            .collect()
    }

    fn check(door: &mut RoomDoor) -> Join {
        match door.text(JOIN, zero()).pop() {
            Some(RoomDoorEffect::Check(join)) => join,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_stranger_joins_with_a_token_and_does_nothing_else() {
        let mut door = RoomDoor::new(zero());
        for text in [LEAVE, r#"{"type":"dance"}"#, r#"{"type":"offer"}"#] {
            assert_eq!(words(&door.text(text, zero())), ["not_in_room: Must join a room first"]);
        }
        assert_eq!(words(&door.text("{", zero())), ["invalid_json: Invalid JSON"]);
        let odd = words(&door.text(r#"{"type":"join","roomId":"","userId":"u"}"#, zero()));
        assert!(
            odd[0].starts_with("invalid_message: Invalid message: expected 1 to 64 printable characters"),
            "{odd:?}"
        );
        assert_eq!(
            words(&door.binary(1, zero())),
            ["invalid_message: Invalid message: binary frames are not read here"]
        );
        assert_eq!(door.limit(), LIMIT_STRANGER);
        let join = check(&mut door);
        assert_eq!(words(&door.admitted(Admission::Good, join)), ["Forward"]);
        assert_eq!(door.limit(), LIMIT_CLIENT);
        assert_eq!(words(&door.text(LEAVE, zero())), ["Forward"]);
        assert_eq!(words(&door.text(JOIN, zero())), ["Forward"], "nobody is asked twice");
        assert_eq!(words(&door.tick(zero() + secs(3600))), [""; 0]);
    }

    #[test]
    fn a_wrong_token_is_told_and_shown_out() {
        let mut door = RoomDoor::new(zero());
        let join = check(&mut door);
        let refused = ["unauthorized: Bad token", "close 1008 not authenticated"];
        assert_eq!(words(&door.admitted(Admission::Bad(SignalFault::BadToken), join)), refused);
        assert_eq!(words(&door.text(JOIN, zero())), [""; 0], "nothing more is listened to");
        assert_eq!(words(&door.binary(1, zero())), [""; 0]);
        assert_eq!(words(&RoomDoor::new(zero()).knock(Admission::Bad(SignalFault::BadToken))), refused);
    }

    #[test]
    fn whoever_brought_a_token_with_the_handshake_is_no_stranger() {
        let mut door = RoomDoor::new(zero());
        assert_eq!(words(&door.knock(Admission::Good)), [""; 0]);
        assert_eq!(words(&door.text(JOIN, zero())), ["Forward"]);
    }

    #[test]
    fn a_stranger_who_does_not_join_is_shown_out() {
        let mut door = RoomDoor::new(zero());
        assert_eq!(words(&door.tick(zero() + secs(9))), [""; 0]);
        assert_eq!(words(&door.tick(zero() + HELLO_WITHIN)), ["close 1008 no join in time"]);
        assert_eq!(words(&door.text(JOIN, zero())), [""; 0]);
    }

    #[test]
    fn messages_and_bytes_have_their_limits() {
        let limited = ["rate_limited: Too many messages", "close 1008 too many messages"];
        let mut door = RoomDoor::new(zero());
        let _ = door.knock(Admission::Good);
        for _ in 0..BURST {
            assert_eq!(words(&door.text(LEAVE, zero())), ["Forward"]);
        }
        assert_eq!(words(&door.text(LEAVE, zero())), limited);
        let mut door = RoomDoor::new(zero());
        let _ = door.knock(Admission::Good);
        let long = format!(r#"{{"type":"leave","roomId":"r","x":"{}"}}"#, "x".repeat(LIMIT_CLIENT - 64));
        let fit = BURST_BYTES as usize / long.len();
        for _ in 0..fit {
            assert_eq!(words(&door.text(&long, zero())), ["Forward"]);
        }
        assert_eq!(words(&door.text(&long, zero())), limited);
        let mut door = RoomDoor::new(zero());
        for second in 0..60 {
            let now = zero() + secs(second);
            assert!((0..RATE).all(|_| door.binary(1, now).len() == 1), "for ever");
        }
    }
}

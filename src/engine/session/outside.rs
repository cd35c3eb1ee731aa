//! What a session has to do with outside TURN servers: it asks for a relayed address with its first offer, lets answers wait for one a
//! little, and has its client look for another way when that is gone.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::engine::leg::Leg;
use crate::engine::turn::Relayed;
use crate::wire::signal::{Offer, OfferStyle, ServerMsg, SignalFault};

use super::{Effect, SessionCore};

/// How long an answer, or the end of our candidates, waits for a relayed one.
pub const GATHERING: Duration = Duration::from_secs(2);

/// What a session wants of the outside TURN servers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RelayWish {
    /// A relayed address, or to be told of the one that it has.
    Join,
    /// None any more.
    Leave,
    /// That a peer at this address reaches it.
    Permit(IpAddr),
    /// To know whether the relayed address still works.
    Doubt,
}

/// What a session has to do with outside TURN servers.
#[derive(Default)]
pub(super) struct Outside {
    pub(super) relay: Relay,
    /// An offer whose answer waits for a relayed candidate.
    pub(super) held: Option<Offer>,
    /// The client has not been told the end of our candidates.
    pub(super) unended: bool,
    /// What its media went by is gone.
    pub(super) astray: bool,
}

/// How it stands with a relayed address from outside.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Relay {
    /// There are no servers.
    #[default]
    Off,
    /// Nobody has asked.
    Idle,
    /// It was asked for; who needs it waits until then.
    Awaited { until: Instant },
    /// It may come, and nobody waits.
    Late,
    /// It is there.
    There(Relayed),
}

impl SessionCore {
    /// The same where there are outside TURN servers, so that a relayed candidate may be had.
    #[must_use]
    pub fn with_outside_relay(mut self) -> Self {
        self.outside.relay = Relay::Idle;
        self
    }

    /// Answers an offer, or holds it back until there is a relayed candidate for the answer.
    pub(super) fn take_offer(&mut self, offer: Offer, now: Instant) -> Result<(), SignalFault> {
        // Who offers again does not wait: the answers come in order.
        let mut in_turn = self.outside.held.is_none();
        self.answer_held(now);
        // Nobody has asked yet, or what was held has just been refused and the relay given back with it.
        if self.outside.relay == Relay::Idle {
            self.outside.relay = Relay::Awaited { until: now + GATHERING };
            self.effects.push_back(Effect::Relay(RelayWish::Join));
            in_turn = true;
        }
        if matches!(self.outside.relay, Relay::Awaited { .. }) && offer.style == OfferStyle::Complete && in_turn {
            self.outside.held = Some(offer);
            return Ok(());
        }
        self.offer(&offer, now)
    }

    pub(super) fn answer_held(&mut self, now: Instant) {
        if let Some(offer) = self.outside.held.take()
            && let Err(fault) = self.offer(&offer, now)
        {
            self.say(fault.into());
        }
    }

    /// A relayed address is there.
    pub(super) fn relayed(&mut self, relayed: Relayed, now: Instant) {
        // What has been given back already is not the session's any more.
        if matches!(self.outside.relay, Relay::Off | Relay::Idle) {
            return;
        }
        let known = self.outside.relay == Relay::There(relayed);
        self.outside.relay = Relay::There(relayed);
        let candidate = self.leg.as_mut().and_then(|leg| leg.add_relayed(relayed));
        if self.outside.unended {
            if let Some(candidate) = candidate {
                self.say(ServerMsg::IceCandidate { candidate: Some(candidate) });
            }
            self.end_candidates();
        } else if self.outside.held.is_none() && !known {
            // The client has its answer, and learns of this one by the next only.
            let missing = self.leg.as_ref().is_some_and(|leg| !leg.is_connected());
            if missing || self.outside.astray {
                self.effects.push_back(Effect::Renew);
            }
        }
        self.outside.astray = false;
        self.answer_held(now);
    }

    /// What waits for a relayed address waits no longer.
    pub(super) fn waits_no_more(&mut self, now: Instant) {
        if matches!(self.outside.relay, Relay::Awaited { .. }) {
            self.outside.relay = Relay::Late;
        }
        self.end_candidates();
        self.answer_held(now);
    }

    pub(super) fn relay_lost(&mut self, address: SocketAddr, now: Instant) {
        if !matches!(self.outside.relay, Relay::There(relayed) if relayed.address == address) {
            return;
        }
        self.outside.relay = Relay::Awaited { until: now + GATHERING };
        self.outside.astray = self.leg.as_ref().is_some_and(|leg| leg.goes_by(address));
    }

    pub(super) fn end_candidates(&mut self) {
        if std::mem::take(&mut self.outside.unended) {
            self.say(ServerMsg::IceCandidate { candidate: None });
        }
    }

    /// The session wants no relayed address any more.
    pub(super) fn leave_relay(&mut self) {
        (self.outside.held, self.outside.unended, self.outside.astray) = (None, false, false);
        if !matches!(self.outside.relay, Relay::Off | Relay::Idle) {
            self.outside.relay = Relay::Idle;
            self.effects.push_back(Effect::Relay(RelayWish::Leave));
        }
    }

    pub(super) fn expect_peers(&mut self, peers: impl IntoIterator<Item = IpAddr>) {
        if self.outside.relay != Relay::Off {
            self.effects.extend(peers.into_iter().map(|ip| Effect::Relay(RelayWish::Permit(ip))));
        }
    }

    /// When the way by the relay is in doubt, for want of proof that the peer listens.
    pub(super) fn doubt_due(&self) -> Option<Instant> {
        let Relay::There(relayed) = self.outside.relay else { return None };
        self.leg.as_ref().filter(|leg| leg.is_connected() && leg.goes_by(relayed.address)).and_then(Leg::doubt_due)
    }
}

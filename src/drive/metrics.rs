//! What operators count, as Prometheus reads it: base units, and no label that grows with strangers. It decides nothing.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::engine::demux::DropReason;
use crate::engine::relay::{Registry as RelayRegistry, RelayDrop};
use crate::engine::session::SessionState;

use super::audio::AudioHandle;

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Reason {
    reason: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct State {
    state: &'static str,
}

/// All counters; a clone counts into the same.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sessions: [Gauge; 4],
    websockets: Gauge,
    packets_in: Counter,
    packets_out: Counter,
    bytes_in: Counter,
    bytes_out: Counter,
    drops: [Counter; DropReason::ALL.len()],
    unsent: [(&'static str, Counter); 8],
    relay_in: Counter,
    relay_out: Counter,
    relay_drops: [Counter; RelayDrop::ALL.len()],
    outlets: Gauge,
    outlets_lost: [(&'static str, Counter); 8],
    tcp_connections: Gauge,
    tcp_closed: [(&'static str, Counter); 7],
    joins: Counter,
    join_duration: Histogram,
    lateness: Histogram,
    turns_skipped: Counter,
    turn_duration: Histogram,
    joins_waiting: Gauge,
    joins_refused: Counter,
    forwarded: Counter,
    wrong_tokens: Counter,
    failures: Counter,
    rooms: Gauge,
    room_members: Gauge,
    room_messages: Counter,
    room_cuts: Counter,
}

const STATES: [(SessionState, &str); 4] = [
    (SessionState::Idle, "idle"),
    (SessionState::Connecting, "connecting"),
    (SessionState::Connected, "connected"),
    (SessionState::Streaming, "streaming"),
];

impl Metrics {
    /// All counters at zero, and the registry that shows them. Audio counts for itself.
    #[must_use]
    pub fn new() -> (Self, Registry) {
        let mut registry = Registry::with_prefix("voxcast");
        let inner = Inner {
            sessions: families(&mut registry),
            websockets: Gauge::default(),
            packets_in: Counter::default(),
            packets_out: Counter::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            drops: drops(&mut registry),
            unsent: unsent(&mut registry),
            relay_in: Counter::default(),
            relay_out: Counter::default(),
            relay_drops: relay_drops(&mut registry),
            outlets: Gauge::default(),
            outlets_lost: outlets_lost(&mut registry),
            tcp_connections: Gauge::default(),
            tcp_closed: tcp_closed(&mut registry),
            joins: Counter::default(),
            join_duration: Histogram::new([0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]),
            lateness: Histogram::new([0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.02, 0.06]),
            turns_skipped: Counter::default(),
            turn_duration: Histogram::new([
                0.001, 0.002_5, 0.005, 0.01, 0.012_5, 0.015, 0.017_5, 0.02, 0.04, 0.08, 0.16,
            ]),
            joins_waiting: Gauge::default(),
            joins_refused: Counter::default(),
            forwarded: Counter::default(),
            wrong_tokens: Counter::default(),
            failures: Counter::default(),
            rooms: Gauge::default(),
            room_members: Gauge::default(),
            room_messages: Counter::default(),
            room_cuts: Counter::default(),
        };
        registry.register("websockets", "Open WebSockets", inner.websockets.clone());
        registry.register("relay_received_packets", "Messages of the relay's clients", inner.relay_in.clone());
        registry.register("relay_sent_packets", "Messages to the relay's clients", inner.relay_out.clone());
        registry.register("outside_relay_allocations", "Allocations at outside TURN servers", inner.outlets.clone());
        registry.register(
            "tcp_connections",
            "Connections to the media port that carry a session",
            inner.tcp_connections.clone(),
        );
        registry.register("received_packets", "Datagrams received on the media port", inner.packets_in.clone());
        registry.register("sent_packets", "Datagrams sent from the media port", inner.packets_out.clone());
        registry.register_with_unit(
            "received",
            "Payload received on the media port",
            Unit::Bytes,
            inner.bytes_in.clone(),
        );
        registry.register_with_unit("sent", "Payload sent from the media port", Unit::Bytes, inner.bytes_out.clone());
        registry.register("joins", "Peer connections that connected", inner.joins.clone());
        registry.register_with_unit(
            "join_duration",
            "From the offer to DTLS connected",
            Unit::Seconds,
            inner.join_duration.clone(),
        );
        registry.register_with_unit(
            "frame_lateness",
            "How late a turn of audio left",
            Unit::Seconds,
            inner.lateness.clone(),
        );
        registry.register(
            "turns_skipped",
            "Turns of audio that a worker was too far behind for",
            inner.turns_skipped.clone(),
        );
        registry.register(
            "turn_duration_seconds",
            "How long a worker needs to play a turn of 20 ms to all its listeners",
            inner.turn_duration.clone(),
        );
        registry.register(
            "joins_waiting",
            "Offers and DTLS handshakes that wait for their turn",
            inner.joins_waiting.clone(),
        );
        registry.register(
            "joins_refused",
            "Clients that a worker with too much to do did not take in",
            inner.joins_refused.clone(),
        );
        registry.register(
            "forwarded_parcels",
            "Datagrams of another worker, and what workers tell each other of them",
            inner.forwarded.clone(),
        );
        registry.register("rooms", "Rooms with somebody in them", inner.rooms.clone());
        registry.register("room_members", "People in rooms", inner.room_members.clone());
        registry.register("room_messages", "Messages from one to another in a room", inner.room_messages.clone());
        registry.register("room_cuts", "Sockets that were too slow for their room", inner.room_cuts.clone());
        registry.register("wrong_tokens", "Tokens that were refused", inner.wrong_tokens.clone());
        registry.register("session_failures", "Peer connections given up by the engine", inner.failures.clone());
        (Self(Arc::new(inner)), registry)
    }

    /// A session moved from one state to another; `None` is not there.
    pub fn session(&self, from: Option<SessionState>, to: Option<SessionState>) {
        if from != to {
            let gauge = |state: SessionState| {
                STATES.iter().position(|(known, _)| *known == state).map(|place| &self.0.sessions[place])
            };
            from.and_then(gauge).map(Gauge::dec);
            to.and_then(gauge).map(Gauge::inc);
        }
    }

    /// A WebSocket opened or closed.
    pub fn websocket(&self, change: i64) {
        self.0.websockets.inc_by(change);
    }

    /// A datagram came in.
    pub fn received(&self, bytes: usize) {
        self.0.packets_in.inc();
        self.0.bytes_in.inc_by(bytes as u64);
    }

    /// Datagrams went out.
    pub fn sent(&self, packets: usize, bytes: usize) {
        self.0.packets_out.inc_by(packets as u64);
        self.0.bytes_out.inc_by(bytes as u64);
    }

    /// A datagram came in for nothing.
    pub fn drop(&self, reason: DropReason) {
        if let Some(place) = DropReason::ALL.iter().position(|known| *known == reason) {
            self.0.drops[place].inc();
        }
    }

    /// A datagram did not go out.
    pub fn unsent(&self, reason: &'static str) {
        count(&self.0.unsent, reason);
    }

    /// A client of the relay sent something.
    pub fn relay_received(&self) {
        self.0.relay_in.inc();
    }

    /// A client of the relay is sent something.
    pub fn relay_sent(&self) {
        self.0.relay_out.inc();
    }

    /// Something was of no use to the relay.
    pub fn relay_dropped(&self, reason: RelayDrop) {
        if let Some(place) = RelayDrop::ALL.iter().position(|known| *known == reason) {
            self.0.relay_drops[place].inc();
        }
    }

    /// One allocation at an outside TURN server more (1) or less (-1).
    pub fn outlet(&self, change: i64) {
        self.0.outlets.inc_by(change);
    }

    /// An allocation at an outside TURN server is gone, or never came to be.
    pub fn outlet_lost(&self, reason: &'static str) {
        count(&self.0.outlets_lost, reason);
    }

    /// One connection to the media port more (1) or less (-1) is carried.
    pub fn tcp_connection(&self, change: i64) {
        self.0.tcp_connections.inc_by(change);
    }

    /// A connection to the media port ended, or was not let in.
    pub fn tcp_closed(&self, reason: &'static str) {
        count(&self.0.tcp_closed, reason);
    }

    /// A peer connection connected, so long after its offer.
    pub fn joined(&self, took: Duration) {
        self.0.joins.inc();
        self.0.join_duration.observe(took.as_secs_f64());
    }

    /// A turn of audio left so late.
    pub fn turn(&self, late: Duration) {
        self.0.lateness.observe(late.as_secs_f64());
    }

    /// A worker was too far behind for a turn.
    pub fn turn_skipped(&self) {
        self.0.turns_skipped.inc();
    }

    /// A turn was played to all listeners of a worker, in this time.
    pub fn turn_played(&self, took: Duration) {
        self.0.turn_duration.observe(took.as_secs_f64());
    }

    /// One heavy step of a join more (1) or less (-1) waits.
    pub fn join_waits(&self, change: i64) {
        self.0.joins_waiting.inc_by(change);
    }

    /// A worker took somebody not in.
    pub fn join_refused(&self) {
        self.0.joins_refused.inc();
    }

    /// A worker sent another one something.
    pub fn forwarded(&self) {
        self.0.forwarded.inc();
    }

    /// A token was refused.
    pub fn wrong_token(&self) {
        self.0.wrong_tokens.inc();
    }

    /// So many rooms there are, with so many people in them.
    pub fn rooms(&self, rooms: usize, members: usize) {
        self.0.rooms.set(i64::try_from(rooms).unwrap_or(i64::MAX));
        self.0.room_members.set(i64::try_from(members).unwrap_or(i64::MAX));
    }

    /// Somebody in a room sends somebody else something.
    pub fn room_message(&self) {
        self.0.room_messages.inc();
    }

    /// A socket was given up, because it did not keep pace with its room.
    pub fn room_cut(&self) {
        self.0.room_cuts.inc();
    }

    /// The engine gave a peer connection up.
    pub fn failure(&self) {
        self.0.failures.inc();
    }
}

fn families(registry: &mut Registry) -> [Gauge; 4] {
    let family = Family::<State, Gauge>::default();
    registry.register("sessions", "Sessions by state", family.clone());
    STATES.map(|(_, state)| family.get_or_create_owned(&State { state }))
}

fn drops(registry: &mut Registry) -> [Counter; DropReason::ALL.len()] {
    let family = Family::<Reason, Counter>::default();
    registry.register("dropped_packets", "Datagrams received for nothing", family.clone());
    DropReason::ALL.map(|reason| family.get_or_create_owned(&Reason { reason: reason.to_string() }))
}

fn unsent(registry: &mut Registry) -> [(&'static str, Counter); 8] {
    let reasons =
        ["no_socket", "no_connection", "no_permission", "refused", "buffer_full", "too_long", "too_old", "unreachable"];
    by_reason(registry, "unsent_packets", "Datagrams that did not leave", reasons)
}

fn relay_drops(registry: &mut Registry) -> [Counter; RelayDrop::ALL.len()] {
    let family = Family::<Reason, Counter>::default();
    registry.register("relay_dropped_packets", "Messages and data that the relay passed on to nobody", family.clone());
    RelayDrop::ALL.map(|reason| family.get_or_create_owned(&Reason { reason: reason.to_string() }))
}

fn outlets_lost(registry: &mut Registry) -> [(&'static str, Counter); 8] {
    let reasons = ["silent", "credentials", "forgotten", "full", "refused", "closed", "garbled", "ended"];
    by_reason(
        registry,
        "outside_relay_losses",
        "Allocations at outside TURN servers that were lost or refused",
        reasons,
    )
}

fn tcp_closed(registry: &mut Registry) -> [(&'static str, Counter); 7] {
    let reasons = ["by_peer", "by_us", "no_room", "not_ours", "silent", "stuck", "unproven"];
    by_reason(registry, "tcp_closed", "Connections to the media port that ended", reasons)
}

fn by_reason<const N: usize>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    reasons: [&'static str; N],
) -> [(&'static str, Counter); N] {
    let family = Family::<Reason, Counter>::default();
    registry.register(name, help, family.clone());
    reasons.map(|reason| (reason, family.get_or_create_owned(&Reason { reason: reason.into() })))
}

fn count(counters: &[(&'static str, Counter)], reason: &str) {
    if let Some((_, counter)) = counters.iter().find(|(known, _)| *known == reason) {
        counter.inc();
    }
}

/// Shows the counters of the audio path, which are bare atomics because a real-time thread counts them.
#[derive(Debug)]
pub struct AudioCollector(pub AudioHandle);

impl Collector for AudioCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counters = self.0.counters();
        let plain = [
            ("audio_ring_full", "Blocks that a ring had no room for", counters.ring.full.value()),
            ("audio_ring_empty", "Turns that found no block in a ring", counters.ring.empty.value()),
            ("audio_frames_skipped", "Turns skipped because they were too late", counters.skipped.value()),
            ("audio_encode_failures", "Encodes that failed", counters.faults.value()),
        ];
        for (name, help, value) in plain {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        let kinds = [("steady", &counters.steady), ("fade_in", &counters.fade_in), ("fade_out", &counters.fade_out)];
        let mut family = encoder.encode_descriptor("audio_encodes", "Opus encodes", None, MetricType::Counter)?;
        for (kind, counter) in kinds {
            let counter = ConstCounter::new(counter.value());
            counter.encode(family.encode_family(&[("kind", kind)])?)?;
        }
        Ok(())
    }
}

/// Shows how much of the relay is in use.
#[derive(Debug)]
pub struct RelayCollector(pub Arc<RelayRegistry>);

impl Collector for RelayCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let gauge = ConstGauge::new(i64::try_from(self.0.len()).unwrap_or(i64::MAX));
        let help = "Allocations at the relay";
        gauge.encode(encoder.encode_descriptor("relay_allocations", help, None, gauge.metric_type())?)
    }
}

/// The text that Prometheus reads.
#[must_use]
pub fn render(registry: &Registry) -> String {
    let mut text = String::new();
    if prometheus_client::encoding::text::encode(&mut text, registry).is_err() {
        // Writing to a string does not fail; a collector that does has lost its place.
        let _ = writeln!(text, "# incomplete");
    }
    text
}

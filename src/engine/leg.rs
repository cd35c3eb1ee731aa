//! One `PeerConnection`'s end: str0m, its ICE credentials, and what plays on it. It sends no message and reads no clock.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use str0m::change::SdpOffer;
use str0m::format::Codec;
use str0m::ice::StunMessage;
use str0m::media::{Direction, MediaKind, Mid, Pt};
use str0m::net::{Protocol, TcpType, Transmit};
use str0m::rtp::{Extension, RtpWrite};
use str0m::{Candidate, IceCreds, Input, Rtc, RtcConfig};

use crate::wire::classify::{Class, classify};
use crate::wire::media::FrameLength;
use crate::wire::sdp::{self, CandidateUse, IceCredentials};
use crate::wire::signal::{CandidateInit, Offer, OfferStyle, SignalFault};
use crate::wire::stun::{self, StunClass};

use super::checks::Checks;
use super::crypto;
use super::demux::{PATHS_PER_SESSION, Path, Transport};
use super::echo::Echo;
use super::express::{Distrust, Express};
use super::host::{Host, Model, Profile};
use super::playout::{Playout, PlayoutPacket, first_number};
use super::reflexive::{Locals, Reflexive};
use super::turn::Relayed;

/// A peer that has not finished DTLS by then is given up.
const HALF_OPEN: Duration = Duration::from_secs(30);
/// A connected peer that has not proven by STUN that it listens is given up (RFC 7675 section 5.1 allows 30 s).
const CONSENT: Duration = Duration::from_secs(15);
/// A relay between us and such a peer is doubted by then: two checks have failed, and there is time left to find another.
const DOUBT: Duration = Duration::from_secs(8);
/// Between two checks of a path that works (RFC 7675 section 5.1 has 5 s). A peer's own checks prove as much.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Candidates of the peer that are checked; browsers have a dozen.
const REMOTE_CANDIDATES: usize = 64;
/// Paths by which checks are taken between two restarts of ICE. str0m pairs each with ours and checks them all, and who has overheard one check
/// can say it again from anywhere.
const CHECKED_PATHS: usize = 64;
/// Past those, one that was silent for so long may be forgotten for another, and the next one no sooner: whoever never restarts ICE may move
/// for as long as it likes.
const CHECKED_AGAIN: Duration = Duration::from_secs(30);
/// Media lines of an offer that are read.
const MEDIA_LINES: usize = 16;
/// Relayed addresses of one peer connection that are remembered: each outlives an hour, unless its server fails.
const RELAYED: usize = 8;
/// Type of a binding request (RFC 8489 section 5).
const BINDING_REQUEST: [u8; 2] = [0, 1];
/// Bytes that data channels may buffer: nobody uses them here.
const SCTP_BUFFER: usize = 8 * 1024;

/// A peer connection, beginning with what each packet reads.
#[repr(C)]
pub(super) struct Leg {
    /// Where our audio goes, once negotiated.
    audio: Option<(Mid, Pt)>,
    pub(super) playout: Playout,
    pub(super) express: Express,
    pub(super) rtc: Box<Rtc>,
    pub(super) echo: Echo,
    pub(super) checks: Checks,
    /// The last packet that str0m was given.
    written: Option<PlayoutPacket>,
    local: IceCredentials,
    remote: Option<IceCredentials>,
    /// str0m keeps the first for good (RFC 8122 section 5): another one needs another leg.
    fingerprint: String,
    /// Tells peer connections that share a certificate.
    origin: String,
    /// Whether the peer's other candidates are left alone.
    relay_only: bool,
    remote_candidates: usize,
    /// Paths that ICE accepted, the newest last.
    learnt: Vec<Path>,
    /// Those of the peer's checks since ICE began, or began anew, and when each was checked last.
    checked: Vec<(Path, Instant)>,
    /// When one of them was forgotten for another.
    forgot: Option<Instant>,
    /// Our relayed addresses, the newest last; those before it are gone.
    relayed: Vec<SocketAddr>,
    /// Which address of ours media leaves from.
    source: Option<SocketAddr>,
    /// The line that candidates belong to: its index and its mid.
    line: Option<(u16, String)>,
    opened: Instant,
    /// When ICE began, or began anew.
    begun: Instant,
    proven: Instant,
    /// Since then, what lies between has been doubted.
    pub(super) doubted: bool,
    /// A check of ours has left since the last answer to one.
    asks: bool,
    connected: bool,
}

/// What an offer came to.
pub(super) struct Answered {
    pub(super) sdp: String,
    /// Candidates that follow the answer, for an offer that trickles.
    pub(super) trickle: Vec<CandidateInit>,
    /// The ufrag to listen for.
    pub(super) ufrag: String,
    /// Where the peer's candidates say that it is.
    pub(super) peers: Vec<IpAddr>,
}

impl Leg {
    pub(super) fn new(
        host: &Host,
        profile: Profile,
        locals: &Locals,
        (fingerprint, origin): (&str, &str),
        now: Instant,
    ) -> Self {
        let local = host.ice_credentials();
        let mut config = RtcConfig::new();
        config.set_max_stun_rto(CHECK_INTERVAL);
        let config = config
            .set_crypto_provider(host.crypto.clone())
            .set_dtls_cert(host.certificate.clone())
            .set_local_ice_credentials(creds(&local))
            .set_rtp_mode(true)
            .set_stats_interval(None)
            .set_sctp_max_buffered_amount(SCTP_BUFFER)
            .clear_codecs()
            .enable_opus(true, false);
        let mut rtc = match profile.model {
            // TWCC alone costs 90 KB a session: an audio listener needs nothing but the mid.
            Model::Speaker => config.clear_extension_map().set_extension(1, Extension::RtpMid),
            Model::Echo => config.enable_vp8(true).enable_h264(true),
        }
        .build(now);
        let export = crypto::take_export();
        // Nobody would ever take those of an echo.
        let express = Express::new(export.filter(|_| profile.model == Model::Speaker));
        let hosts = locals.hosts.iter().map(|addr| Candidate::host(*addr, "udp"));
        let by_tcp = |addr: &SocketAddr| Candidate::builder().tcp().host(*addr).tcptype(TcpType::Passive).build();
        let reflexive = |one: &Reflexive| Candidate::server_reflexive(one.mapped, one.base, "udp");
        let others = locals.tcp.iter().map(by_tcp).chain(locals.reflexive.iter().map(reflexive));
        for candidate in hosts.chain(others).flatten() {
            rtc.add_local_candidate(candidate);
        }
        Self {
            audio: None,
            playout: Playout::new(host.random()),
            express,
            rtc: Box::new(rtc),
            echo: Echo::default(),
            checks: Checks::default(),
            written: None,
            local,
            remote: None,
            fingerprint: fingerprint.to_owned(),
            origin: origin.to_owned(),
            relay_only: profile.is_relay_only(),
            remote_candidates: 0,
            learnt: Vec::new(),
            checked: Vec::new(),
            forgot: None,
            relayed: Vec::new(),
            source: None,
            line: None,
            opened: now,
            begun: now,
            proven: now,
            doubted: false,
            asks: false,
            connected: false,
        }
    }

    /// Whether an offer with this fingerprint is of this leg's peer, who may restart ICE or draw another session id, but not both
    /// at once: that is a peer connection made anew with a certificate that was kept.
    pub(super) fn is_with(&self, fingerprint: &str, offer: &str) -> bool {
        let same_ice = || self.remote.is_some() && sdp::ice_credentials(offer) == self.remote;
        self.fingerprint.eq_ignore_ascii_case(fingerprint) && (self.origin == sdp::origin(offer) || same_ice())
    }

    /// Negotiates, renegotiates or restarts ICE. One mutation of str0m.
    pub(super) fn accept(
        &mut self,
        host: &Host,
        model: Model,
        offer: &Offer,
        now: Instant,
    ) -> Result<Answered, SignalFault> {
        self.checks.forget();
        self.express.forget();
        let invalid = |text: &str| SignalFault::InvalidSdp(text.chars().take(120).collect());
        match offer.sdp.lines().filter(|line| line.starts_with("m=")).count() {
            0 => return Err(invalid("no media lines")),
            1..=MEDIA_LINES => {}
            _ => return Err(invalid("too many media lines")),
        }
        let remote = sdp::ice_credentials(&offer.sdp).ok_or_else(|| invalid("no ICE credentials"))?;
        if !sdp::are_ice_credentials_sound(&offer.sdp) {
            return Err(invalid("ICE credentials of a wrong length"));
        }
        let restart = self.remote.as_ref().is_some_and(|known| *known != remote);
        let (mut count, relay_only) = (if restart { 0 } else { self.remote_candidates }, self.relay_only);
        let text = sdp::retain_candidates(&offer.sdp, |candidate| {
            let wanted = !relay_only || sdp::is_relayed(candidate);
            let usable = wanted && sdp::candidate_use(candidate) == CandidateUse::Usable && count < REMOTE_CANDIDATES;
            count += usize::from(usable);
            usable
        });
        let peers =
            sdp::attributes(&text, "candidate").filter_map(|candidate| candidate.split(' ').nth(4)?.parse().ok());
        let peers = peers.collect();
        let parsed = SdpOffer::from_sdp_string(&text).map_err(|error| invalid(&error.to_string()))?;
        let answer = self.rtc.sdp_api().accept_offer(parsed);
        // Whatever it says, it has taken these, and with a restart let the others go.
        self.remote_candidates = count;
        if restart {
            // str0m has minted credentials of its own, which name no worker and come from no cryptographic source; and it has begun anew
            // before it looked at what it may refuse.
            let mut api = self.rtc.direct_api();
            if answer.is_ok() {
                self.local = host.ice_credentials();
                (self.begun, self.proven) = (now, now);
                self.checked.clear();
            } else if let Some(known) = &self.remote {
                api.set_remote_ice_credentials(creds(known));
            }
            api.set_local_ice_credentials(creds(&self.local));
        }
        let answer = answer.map_err(|error| invalid(&error.to_string()))?;
        self.remote = Some(remote);
        let mut text = sdp::with_ice_credentials(&answer.to_sdp_string(), &self.local);
        if model == Model::Speaker {
            // A client may pause its line, for as many offers as it likes; one that never had any has nothing to hear here.
            if let Err(fault) = self.find_audio(host, &text) {
                self.audio = None;
                if self.line.is_none() {
                    return Err(fault);
                }
            }
            self.playout.set_paused(self.audio.is_none());
            if let Some((mid, _)) = &self.audio {
                // str0m neither reads nor writes these lines.
                let (ptime, maxptime) = sdp::packet_times(&offer.sdp, mid);
                let length = FrameLength::wanted(ptime, maxptime);
                self.playout.set_length(length);
                if ptime.or(maxptime).is_some() {
                    text = sdp::with_packet_time(&text, mid, length.ms());
                }
            }
        }
        // str0m keeps candidates whose way is gone.
        let text_of = |address: &SocketAddr| format!(" {} {} typ relay", address.ip(), address.port());
        let gone: Vec<_> =
            self.relayed.split_last().map(|(_, gone)| gone.iter().map(text_of).collect()).unwrap_or_default();
        if !gone.is_empty() {
            text =
                sdp::retain_candidates(&text, |candidate| !gone.iter().any(|gone| candidate.contains(gone.as_str())));
        }
        let line = sdp::first_in_use(&text);
        self.line = line.map(|(index, mid)| (index, mid.to_owned()));
        if let Some((1.., mid)) = line {
            // str0m puts them on the first line, and what is on one that was rejected goes with it.
            text = sdp::with_candidates_at(&text, mid);
        }
        let (sdp, trickle) = match offer.style {
            OfferStyle::Complete => (sdp::with_end_of_candidates(&text), Vec::new()),
            OfferStyle::Trickle => {
                let trickle = trickled(&text, self.line.as_ref());
                (sdp::retain_candidates(&text, |_| false), trickle)
            }
        };
        Ok(Answered { sdp, trickle, ufrag: self.local.ufrag.clone(), peers })
    }

    /// We have a relayed address now. Returns the candidate that the peer is to know, unless it does.
    pub(super) fn add_relayed(&mut self, relayed: Relayed) -> Option<CandidateInit> {
        if self.relayed.last() == Some(&relayed.address) {
            return None;
        }
        if self.relayed.len() == RELAYED {
            self.relayed.remove(0);
        }
        self.relayed.push(relayed.address);
        self.checks.forget();
        let candidate = Candidate::relayed(relayed.address, relayed.base, "udp").ok()?;
        let text = self.rtc.add_local_candidate(candidate)?.to_sdp_string();
        Some(candidate_at(self.line.as_ref(), text))
    }

    /// Whether what the peer hears, or is to hear, goes by this relayed address.
    pub(super) fn goes_by(&self, relayed: SocketAddr) -> bool {
        if self.connected { self.source == Some(relayed) } else { self.relayed.contains(&relayed) }
    }

    /// Hands a trickled candidate to ICE; returns where it says that the peer is.
    pub(super) fn candidate(&mut self, init: &CandidateInit) -> Result<Option<IpAddr>, SignalFault> {
        let stale = match (&init.username_fragment, &self.remote) {
            (Some(ufrag), Some(remote)) => *ufrag != remote.ufrag,
            _ => false,
        };
        let unwanted = self.relay_only && !sdp::is_relayed(&init.candidate);
        match sdp::candidate_use(&init.candidate) {
            CandidateUse::Malformed => Err(SignalFault::about(&init.candidate, SignalFault::InvalidCandidate)),
            CandidateUse::Usable if !stale && !unwanted && self.remote_candidates < REMOTE_CANDIDATES => {
                let candidate = Candidate::from_sdp_string(&init.candidate).ok();
                let peer = candidate.as_ref().map(|candidate| candidate.addr().ip());
                if let Some(candidate) = candidate {
                    self.remote_candidates += 1;
                    self.checks.forget();
                    self.rtc.add_remote_candidate(candidate);
                }
                Ok(peer)
            }
            CandidateUse::Usable | CandidateUse::NotForUs => Ok(None),
        }
    }

    /// Whether ICE accepts this STUN message; only then may its path be learnt. An authentic one renews consent.
    pub(super) fn accepts_stun(
        &mut self,
        host: &Host,
        (path, destination): (Path, SocketAddr),
        bytes: &[u8],
        input: &Input<'_>,
        now: Instant,
    ) -> bool {
        if !self.rtc.accepts(input) {
            return false;
        }
        // str0m takes the nominated source at its word; consent wants the proof.
        let Ok(message) = StunMessage::parse(bytes) else { return false };
        let password = if message.is_binding_request() {
            Some(&self.local.pwd)
        } else {
            self.remote.as_ref().map(|remote| &remote.pwd)
        };
        let authentic = password.is_some_and(|password| {
            message.verify(password.as_bytes(), |key, payloads| host.crypto.sha1_hmac_provider.sha1_hmac(key, payloads))
        });
        if !authentic {
            return false;
        }
        if message.is_binding_request() {
            if !self.checks(path, now) {
                return false;
            }
            self.checks.give((path, destination), bytes, now);
        } else {
            self.asks = false;
        }
        (self.proven, self.doubted) = (now, false);
        true
    }

    /// The answer to a check for which str0m need not be asked: as authentic, and as good for consent, as one that is
    /// [accepted](Self::accepts_stun).
    pub(super) fn answer(
        &mut self,
        host: &Host,
        way: (Path, SocketAddr),
        bytes: &[u8],
        now: Instant,
    ) -> Option<Transmit> {
        let answer = self.checks.answer(&host.crypto, &self.local.pwd, way, bytes, now)?;
        if !self.checks(way.0, now) {
            return None;
        }
        (self.proven, self.doubted) = (now, false);
        Some(answer)
    }

    /// Learns from what str0m asks and answers.
    pub(super) fn note_check(&mut self, host: &Host, made: &Transmit) {
        self.asks |= made.contents.starts_with(&BINDING_REQUEST);
        self.checks.note(&host.crypto, &self.local.pwd, made);
    }

    /// Whether what str0m wants next may be an answer or a second try.
    pub(super) fn is_urgent(&self) -> bool {
        !self.connected || self.asks
    }

    /// Takes note of a check that came by this path; returns whether ICE is to have it.
    fn checks(&mut self, path: Path, now: Instant) -> bool {
        if let Some((_, at)) = self.checked.iter_mut().find(|(known, _)| *known == path) {
            *at = now;
            return true;
        }
        if self.checked.len() == CHECKED_PATHS {
            let is_past = |at: Instant| now >= at + CHECKED_AGAIN;
            let oldest = self.checked.iter().enumerate().min_by_key(|(_, (_, at))| *at);
            let silent = oldest.filter(|(_, (_, at))| is_past(*at) && self.forgot.is_none_or(is_past));
            let Some((place, _)) = silent else { return false };
            self.checked.swap_remove(place);
            self.forgot = Some(now);
        }
        self.checked.push((path, now));
        true
    }

    /// ICE accepted a STUN message that came by `path`.
    pub(super) fn learn(&mut self, path: Path) {
        if !self.learnt.contains(&path) {
            if self.learnt.len() == PATHS_PER_SESSION {
                self.learnt.remove(0);
            }
            self.learnt.push(path);
        }
    }

    /// Whether ICE accepted this path. What else comes by another one was for the peer connection before, or for nobody.
    pub(super) fn has_learnt(&self, path: Path) -> bool {
        self.learnt.contains(&path)
    }

    /// The path that a datagram of ours goes by.
    fn path_of(&self, transmit: &Transmit) -> Path {
        let transport = match transmit.proto {
            _ if self.relayed.contains(&transmit.source) => Transport::Relayed,
            Protocol::Udp => Transport::Udp,
            _ => Transport::Tcp,
        };
        Path { transport, remote: transmit.destination }
    }

    /// Media leaves from here.
    pub(super) fn note_source(&mut self, transmit: &Transmit) {
        if !self.relayed.is_empty() && classify(&transmit.contents) != Class::Stun {
            self.source = Some(transmit.source);
        }
    }

    /// The transaction id of a check whose answer no learnt path would lead here.
    pub(super) fn check_into_the_unknown(&self, transmit: &Transmit) -> Option<[u8; 12]> {
        // Nearly everything that leaves is RTP, which does not begin with a zero.
        if transmit.contents.first() != Some(&0) || self.learnt.contains(&self.path_of(transmit)) {
            return None;
        }
        let peek = stun::peek(&transmit.contents)?;
        (peek.class == StunClass::Request).then_some(peek.transaction)
    }

    /// Whether audio has a way to go.
    pub(super) fn is_paused(&self) -> bool {
        self.audio.is_none()
    }

    /// Queues one packet of a voice.
    pub(super) fn write(&mut self, packet: PlayoutPacket, now: Instant) {
        if let Some((mid, pt)) = self.audio {
            let payload = packet.payload.clone();
            let write = RtpWrite::new(pt, packet.seq.into(), packet.time, now, payload).marker(packet.marker);
            self.write_rtp(mid, write);
            self.written = Some(packet);
        }
    }

    /// Learns from what str0m made of the packet that it was given last, if this is it.
    pub(super) fn learn_packet(&mut self, host: &Host, made: &Transmit) -> Result<(), Distrust> {
        let seq = made.contents.get(2..4).filter(|_| classify(&made.contents) == Class::Rtp);
        let is_it = |packet: &mut PlayoutPacket| seq.is_some_and(|seq| packet.seq.to_be_bytes().ends_with(seq));
        let Some(packet) = self.written.take_if(is_it) else {
            self.express.see(made);
            return Ok(());
        };
        self.express.learn(&host.crypto, &packet, made)
    }

    /// Queues one packet on `mid`.
    pub(super) fn write_rtp(&mut self, mid: Mid, write: RtpWrite) {
        if let Some(stream) = self.rtc.direct_api().stream_tx_by_mid(mid, None) {
            stream.write_rtp(write);
        }
    }

    pub(super) fn connect(&mut self, now: Instant) -> Duration {
        self.connected = true;
        self.proven = now;
        now.saturating_duration_since(self.opened)
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected
    }

    /// When to doubt what lies between, unless the peer does something.
    pub(super) fn doubt_due(&self) -> Option<Instant> {
        (!self.doubted).then(|| self.proven + DOUBT)
    }

    /// When this leg is given up, unless the peer does something.
    pub(super) fn deadline(&self) -> Instant {
        if self.connected { self.proven + CONSENT } else { self.begun + HALF_OPEN }
    }

    /// Finds the first line that takes our Opus.
    fn find_audio(&mut self, host: &Host, answer: &str) -> Result<(), SignalFault> {
        let mut audio = None;
        for mid in sdp::attributes(answer, "mid").map(Mid::from) {
            let Some(media) = self.rtc.media(mid) else { continue };
            let sends = matches!(media.direction(), Direction::SendOnly | Direction::SendRecv);
            if media.kind() != MediaKind::Audio || !sends {
                continue;
            }
            let pts = media.remote_pts();
            let opus =
                self.rtc.codec_config().find(|params| params.spec().codec == Codec::Opus && pts.contains(&params.pt()));
            if let Some(pt) = opus.map(str0m::format::PayloadParams::pt) {
                audio = Some((mid, pt));
                break;
            }
        }
        let Some((mid, pt)) = audio else {
            return Err(SignalFault::InvalidSdp("no audio line that receives Opus".into()));
        };
        if self.audio != Some((mid, pt)) {
            self.audio = Some((mid, pt));
            let mut api = self.rtc.direct_api();
            if let Some(stream) = api.stream_tx_by_mid(mid, None) {
                // Nobody asks for old audio again: frames stand alone and concealment is cheaper.
                stream.set_rtx_cache(0, Duration::ZERO, None);
                let ssrc = *stream.ssrc();
                let number = self.express.set_source(ssrc, self.playout.number(), || first_number(host.random()));
                self.playout.set_number(number);
                self.express.keep_sources(|ssrc| api.stream_tx(&ssrc.into()).is_some());
            }
        }
        Ok(())
    }
}

fn creds(credentials: &IceCredentials) -> IceCreds {
    IceCreds { ufrag: credentials.ufrag.clone(), pass: credentials.pwd.clone() }
}

/// The candidates of an answer as messages of their own. With BUNDLE all belong to one line.
fn trickled(answer: &str, line: Option<&(u16, String)>) -> Vec<CandidateInit> {
    sdp::attributes(answer, "candidate").map(|value| candidate_at(line, format!("candidate:{value}"))).collect()
}

fn candidate_at(line: Option<&(u16, String)>, candidate: String) -> CandidateInit {
    let (sdp_m_line_index, sdp_mid) = line.cloned().unzip();
    CandidateInit { candidate, sdp_mid, sdp_m_line_index, username_fragment: None }
}

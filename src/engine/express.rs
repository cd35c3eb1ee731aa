//! The short way of a packet: what str0m would make of it, made without str0m. It knows nothing of time.
//!
//! While nothing is put into str0m and none of its deadlines comes, all packets of a stream differ in their number, their time, their
//! marker and their payload alone. So the header and the way of one that str0m made serve for those that follow. str0m takes no note
//! of these; its sender reports (RFC 3550 section 6.4.1) are completed with their count before anybody sees them.

use std::net::SocketAddr;
use std::sync::Arc;

use str0m::config::CryptoProvider;
use str0m::net::{Protocol, Transmit};

use crate::wire::classify::{Class, classify};
use crate::wire::stun::{self, StunClass};

use super::crypto::Export;
use super::demux::Path;
use super::playout::PlayoutPacket;
use super::srtp::SrtpSender;

/// Header of an RTP packet without extensions (RFC 3550 section 5.1).
const FIXED: usize = 12;
/// With a mid of up to 16 characters (RFC 8843 section 15) in an extension (RFC 8285 section 4.2).
const LONGEST: usize = FIXED + 24;
const MARKER: u8 = 0x80;

/// What the next packet has in common with the last one that str0m made.
#[derive(Clone, Copy, Debug)]
struct Template {
    header: [u8; LONGEST],
    len: usize,
    proto: Protocol,
    source: SocketAddr,
    destination: SocketAddr,
    is_nameless: bool,
    /// str0m was told something since then that may have changed the way.
    doubted: bool,
}

/// Our SRTP is not that of str0m.
#[derive(Clone, Copy, Debug)]
pub(super) struct Distrust;

/// The short way of one peer connection, beginning with what each packet reads.
#[repr(C)]
pub(super) struct Express {
    template: Option<Template>,
    /// Of now; none before there is a source.
    sent: Option<Sent>,
    sender: Option<SrtpSender>,
    export: Option<Export>,
    /// What we make has been compared with what str0m makes.
    proven: bool,
    /// Of other sources that are still there.
    others: Vec<Sent>,
}

/// Packets of a source that went this way, and their bytes of payload, as a sender report counts them.
#[derive(Clone, Copy, Debug)]
struct Sent {
    ssrc: u32,
    /// The number that it goes on with when it is taken up again.
    next: u64,
    packets: u32,
    octets: u32,
}

impl Express {
    /// With the keys that `export` will bring; without one, no packet goes this way.
    pub(super) fn new(export: Option<Export>) -> Self {
        Self { template: None, sent: None, sender: None, export, proven: false, others: Vec::new() }
    }

    #[cfg(test)]
    pub(super) fn packets(&self) -> u32 {
        self.others.iter().chain(&self.sent).map(|sent| sent.packets).sum()
    }

    /// Packets are of this source from now on; the next one would have had the number `next`. Returns the number that it has: each source
    /// goes on where it was left, a new one begins with `first`, and the very first takes what there is.
    pub(super) fn set_source(&mut self, ssrc: u32, next: u64, first: impl FnOnce() -> u64) -> u64 {
        let Some(sent) = &mut self.sent else {
            self.sent = Some(Sent::none(ssrc));
            return next;
        };
        if sent.ssrc == ssrc {
            return next;
        }
        let known = self.others.iter().position(|sent| sent.ssrc == ssrc).map(|place| self.others.remove(place));
        let taken_up = known.unwrap_or_else(|| Sent { next: first(), ..Sent::none(ssrc) });
        let old = std::mem::replace(sent, taken_up);
        self.others.push(Sent { next, ..old });
        taken_up.next
    }

    /// Forgets what was sent of other sources, unless they are `there`.
    pub(super) fn keep_sources(&mut self, mut there: impl FnMut(u32) -> bool) {
        self.others.retain(|sent| there(sent.ssrc));
    }

    /// The source of what is sent.
    pub(super) fn source(&self) -> Option<u32> {
        self.sent.map(|sent| sent.ssrc)
    }

    /// str0m is told something that changes packets.
    pub(super) fn forget(&mut self) {
        self.template = None;
    }

    /// str0m is told something that may send packets another way.
    pub(super) fn doubt(&mut self) {
        if let Some(template) = &mut self.template {
            template.doubted = true;
        }
    }

    /// str0m is told this datagram, which came to `destination`.
    pub(super) fn expect(&mut self, path: Path, destination: SocketAddr, class: Class, bytes: &[u8]) {
        let Some(template) = &mut self.template else { return };
        let way = (path.transport.protocol(), destination, path.remote);
        // str0m looks for a better way whenever it is told something. What comes by this one tells that it holds; a check may ask for another.
        let holds = match class {
            // Once a report has come, str0m leaves the line's name away for good (RFC 8843 section 15).
            Class::Rtcp if template.is_nameless => true,
            Class::Stun => stun::peek(bytes).is_some_and(|peek| peek.class == StunClass::Success),
            _ => return self.forget(),
        };
        template.doubted |= !holds || way != (template.proto, template.source, template.destination);
    }

    /// Sees what str0m sends: what is not of ICE goes the way that packets go.
    pub(super) fn see(&mut self, made: &Transmit) {
        if let Some(template) = &mut self.template
            && classify(&made.contents) == Class::Rtcp
        {
            let way = (template.proto, template.source, template.destination);
            template.doubted = way != (made.proto, made.source, made.destination);
        }
    }

    /// Learns from what str0m made of `packet`. Keys and cipher are proven with the first one.
    ///
    /// # Errors
    /// [`Distrust`] when we would have made other bytes; no packet goes this way then.
    pub(super) fn learn(
        &mut self,
        crypto: &Arc<CryptoProvider>,
        packet: &PlayoutPacket,
        made: &Transmit,
    ) -> Result<(), Distrust> {
        let exported = self.export.as_ref().and_then(|export| export.lock().ok()?.take());
        if let Some(exported) = exported {
            self.sender = SrtpSender::new(crypto, &exported);
            self.proven = false;
        }
        self.template = Template::of(made);
        let (Some(sender), Some(template)) = (&mut self.sender, &self.template) else { return Ok(()) };
        if !self.proven {
            let header = template.header(packet);
            let ours = sender.protect_rtp(&header[..template.len], &packet.payload, packet.seq);
            self.proven = ours.is_ok_and(|ours| ours[..] == made.contents[..]);
            if !self.proven {
                (self.sender, self.export, self.template) = (None, None, None);
                return Err(Distrust);
            }
        }
        Ok(())
    }

    /// What str0m would make of `packet`, if that is known.
    pub(super) fn packet(&mut self, packet: &PlayoutPacket) -> Option<Transmit> {
        let template = self.template.as_ref().filter(|template| !template.doubted)?;
        let header = template.header(packet);
        // One source's numbers under another's name could be sealed twice with the same nonce.
        self.sent.filter(|sent| header[8..FIXED] == sent.ssrc.to_be_bytes())?;
        let bytes = self.sender.as_mut()?.protect_rtp(&header[..template.len], &packet.payload, packet.seq).ok()?;
        let sent = self.sent.as_mut()?;
        sent.packets = sent.packets.wrapping_add(1);
        sent.octets = sent.octets.wrapping_add(u32::try_from(packet.payload.len()).unwrap_or(u32::MAX));
        let Template { proto, source, destination, .. } = *template;
        Some(Transmit { proto, source, destination, contents: bytes.into() })
    }

    /// Completes our sender reports, if this has any.
    pub(super) fn complete(&self, made: Transmit) -> Transmit {
        let Some(sender) = self.sender.as_ref().filter(|_| classify(&made.contents) == Class::Rtcp) else {
            return made;
        };
        let sent = self.others.iter().chain(&self.sent).filter(|sent| sent.packets > 0);
        sent.fold(made, |made, Sent { ssrc, packets, octets, .. }| {
            // What was not made with these keys cannot be read here, and goes as it is.
            match sender.add_to_report(&made.contents, *ssrc, *packets, *octets) {
                Ok(Some(completed)) => Transmit { contents: completed.into(), ..made },
                Ok(None) | Err(_) => made,
            }
        })
    }
}

impl Sent {
    /// Nothing yet.
    const fn none(ssrc: u32) -> Self {
        Self { ssrc, next: 0, packets: 0, octets: 0 }
    }
}

impl Template {
    fn of(made: &Transmit) -> Option<Self> {
        let bytes = &made.contents[..];
        if classify(bytes) != Class::Rtp {
            return None;
        }
        let sources = 4 * usize::from(bytes[0] & 0x0f);
        let (extension, is_nameless) = if bytes[0] & 0x10 == 0 {
            (0, true)
        } else {
            let [high, low] = *bytes.get(FIXED + sources + 2..)?.first_chunk()?;
            (4 + 4 * usize::from(u16::from_be_bytes([high, low])), [high, low] == [0, 0])
        };
        let len = FIXED + sources + extension;
        let mut header = [0; LONGEST];
        header.get_mut(..len)?.copy_from_slice(bytes.get(..len)?);
        let Transmit { proto, source, destination, .. } = *made;
        Some(Self { header, len, proto, source, destination, is_nameless, doubted: false })
    }

    fn header(&self, packet: &PlayoutPacket) -> [u8; LONGEST] {
        let mut header = self.header;
        header[1] = header[1] & !MARKER | if packet.marker { MARKER } else { 0 };
        let [.., high, low] = packet.seq.to_be_bytes();
        header[2..4].copy_from_slice(&[high, low]);
        header[4..8].copy_from_slice(&packet.time.to_be_bytes());
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 10)), 3479);
    const THEIRS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7)), 7);
    const ELSEWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 8)), 7);
    const RECEIVER_REPORT: [u8; 8] = [0x80, 201, 0, 1, 0, 0, 0, 5];

    fn sent(destination: SocketAddr, bytes: &[u8]) -> Transmit {
        Transmit { proto: Protocol::Udp, source: OURS, destination, contents: bytes.to_vec().into() }
    }

    fn stun(kind: [u8; 2]) -> Vec<u8> {
        [&kind[..], &[0, 0, 0x21, 0x12, 0xa4, 0x42], &[7; 12]].concat()
    }

    /// Whether a packet that was once seen is believed in, after this datagram has come.
    fn believes(named: bool, remote: SocketAddr, class: Class, bytes: &[u8]) -> (Express, Option<bool>) {
        let mut express = Express::new(None);
        let header = [0x90, 111, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5];
        let extension: &[u8] = if named { &[0xbe, 0xde, 0, 1, 0x10, b'0', 0, 0] } else { &[0xbe, 0xde, 0, 0] };
        express.template = Template::of(&sent(THEIRS, &[&header[..], extension, b"sound"].concat()));
        express.expect(Path { transport: super::super::demux::Transport::Udp, remote }, OURS, class, bytes);
        let found = express.template.map(|template| !template.doubted);
        (express, found)
    }

    #[test]
    fn a_packet_is_believed_in_until_something_may_have_changed_it() {
        let (request, success) = (stun([0, 1]), stun([1, 1]));
        assert_eq!(believes(false, THEIRS, Class::Rtcp, &RECEIVER_REPORT).1, Some(true));
        assert_eq!(believes(false, ELSEWHERE, Class::Rtcp, &RECEIVER_REPORT).1, Some(false));
        assert_eq!(believes(true, THEIRS, Class::Rtcp, &RECEIVER_REPORT).1, None, "the name goes");
        assert_eq!(believes(false, THEIRS, Class::Stun, &success).1, Some(true));
        assert_eq!(believes(false, THEIRS, Class::Stun, &request).1, Some(false));
        assert_eq!(believes(false, THEIRS, Class::Stun, &success[..19]).1, Some(false));
        assert_eq!(believes(false, THEIRS, Class::Dtls, &[22]).1, None);

        let (mut express, found) = believes(true, ELSEWHERE, Class::Stun, &success);
        assert_eq!(found, Some(false));
        for (destination, bytes, believed) in [
            (THEIRS, &success[..], false),
            (ELSEWHERE, &RECEIVER_REPORT, false),
            (THEIRS, &RECEIVER_REPORT, true),
            (THEIRS, &success[..], true),
            (ELSEWHERE, &RECEIVER_REPORT, false),
        ] {
            express.see(&sent(destination, bytes));
            assert_eq!(express.template.map(|template| !template.doubted), Some(believed), "{destination} {bytes:?}");
        }
        express.doubt();
        assert!(express.template.is_some_and(|template| template.doubted));
        express.forget();
        assert!(express.template.is_none());
    }

    #[test]
    fn every_source_keeps_its_count_and_its_numbers_however_often_they_change() {
        let mut express = Express::new(None);
        let mut number = 70_000;
        for (ssrc, packets) in [(7, 3), (7, 2), (8, 0), (9, 4), (7, 1), (9, 1), (8, 0)] {
            number = express.set_source(ssrc, number, || 10 * u64::from(ssrc));
            let sent = express.sent.as_mut().expect("a source was set");
            sent.packets += packets;
            number += u64::from(packets);
        }
        assert_eq!((express.source(), number), (Some(8), 80));
        assert_eq!(express.packets(), 11);
        let counted: Vec<_> = express.others.iter().map(|sent| (sent.ssrc, sent.packets, sent.next)).collect();
        assert_eq!(counted, [(7, 6, 70_006), (9, 5, 95)]);
        express.keep_sources(|ssrc| ssrc != 7);
        assert_eq!(express.set_source(9, number, || 0), 95);
        assert_eq!(express.set_source(7, 96, || 1), 1, "it was forgotten");
    }
}

//! The short way of a check: what str0m would answer to it, answered without str0m. It reads no clock.
//!
//! A peer asks every few seconds whether we are still there (RFC 7675 section 5.1), with a check of ICE that differs from the one before
//! in its transaction id and its proof alone. str0m would answer as it did before and know no more than it did.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::config::CryptoProvider;
use str0m::ice::StunMessage;
use str0m::net::Transmit;

use super::demux::Path;

/// For so long after a check the ones like it need not be seen by str0m, which takes a peer that checks for alive for 15 s, whether it
/// answers or not.
const SEEN: Duration = Duration::from_secs(9);
/// Header (RFC 8489 section 5).
const HEADER: usize = 20;
/// MESSAGE-INTEGRITY and FINGERPRINT (RFC 8489 sections 14.5 and 14.7), with which every check of ICE ends.
const PROOF: usize = 24 + 8;
const INTEGRITY: [u8; 4] = [0x00, 0x08, 0, 20];
const FINGERPRINT: [u8; 4] = [0x80, 0x28, 0, 4];
/// More than a browser has to say between these.
const LONGEST: usize = 256;
/// An answer with the longest of addresses.
const ANSWER: usize = HEADER + 24 + PROOF;

/// The last check that str0m was given, and what it made of it.
#[derive(Debug, Default)]
pub(super) struct Checks {
    last: Option<Box<Check>>,
    #[cfg(test)]
    pub(super) answered: u32,
}

#[derive(Debug)]
struct Check {
    path: Path,
    /// Our address as candidates name it.
    destination: SocketAddr,
    attributes: Box<[u8]>,
    transaction: [u8; 12],
    at: Instant,
    /// Where the answer leaves from, once str0m has answered just as we would.
    source: Option<SocketAddr>,
}

impl Checks {
    /// The answer to a check that is like the one that str0m has answered lately, if it is authentic.
    pub(super) fn answer(
        &mut self,
        crypto: &Arc<CryptoProvider>,
        password: &str,
        (path, destination): (Path, SocketAddr),
        bytes: &[u8],
        now: Instant,
    ) -> Option<Transmit> {
        let last = self.last.as_ref().filter(|last| now < last.at + SEEN)?;
        if (last.path, last.destination) != (path, destination) || attributes(bytes) != Some(&last.attributes) {
            return None;
        }
        let source = last.source?;
        let check = StunMessage::parse(bytes).ok().filter(StunMessage::is_binding_request)?;
        let hmac = |key: &[u8], payloads: &[&[u8]]| crypto.sha1_hmac_provider.sha1_hmac(key, payloads);
        if !check.verify(password.as_bytes(), hmac) {
            return None;
        }
        let contents = reply(crypto, password, &check, path.remote)?;
        #[cfg(test)]
        {
            self.answered += 1;
        }
        Some(Transmit { proto: path.transport.protocol(), source, destination: path.remote, contents: contents.into() })
    }

    /// str0m is given this check.
    pub(super) fn give(&mut self, (path, destination): (Path, SocketAddr), bytes: &[u8], now: Instant) {
        let check = attributes(bytes).zip(bytes.get(8..HEADER).and_then(<[u8]>::first_chunk));
        self.last = check.map(|(attributes, transaction)| {
            let (attributes, transaction) = (attributes.into(), *transaction);
            Box::new(Check { path, destination, attributes, transaction, at: now, source: None })
        });
    }

    /// str0m sends this: perhaps what it has to say to the check that it was given.
    pub(super) fn note(&mut self, crypto: &Arc<CryptoProvider>, password: &str, made: &Transmit) {
        // Nearly everything else that leaves is no answer, and most answers are to nothing that is waited for here.
        let Some(last) = self.last.as_mut().filter(|last| last.source.is_none() && made.contents.first() == Some(&1))
        else {
            return;
        };
        let Some(answer) = StunMessage::parse(&made.contents).ok().filter(StunMessage::is_successful_binding_response)
        else {
            return;
        };
        let same_way = made.destination == last.path.remote && made.proto == last.path.transport.protocol();
        if same_way && made.contents.get(8..HEADER) == Some(&last.transaction) {
            let ours = reply(crypto, password, &answer, last.path.remote);
            last.source = ours.is_some_and(|ours| ours[..] == made.contents[..]).then_some(made.source);
        }
    }

    /// What str0m answers may be another thing from now on.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }
}

/// What a check says, without what is another in each one; None of what does not end as checks do.
fn attributes(bytes: &[u8]) -> Option<&[u8]> {
    let (head, proof) = bytes.split_at_checked(bytes.len().checked_sub(PROOF)?)?;
    let attributes = head.get(HEADER..)?;
    let ends_so = proof[..4] == INTEGRITY && proof[24..28] == FINGERPRINT;
    (ends_so && attributes.len() <= LONGEST).then_some(attributes)
}

/// The answer with the transaction id of `message`, to whom it came from.
fn reply(
    crypto: &Arc<CryptoProvider>,
    password: &str,
    message: &StunMessage<'_>,
    remote: SocketAddr,
) -> Option<Vec<u8>> {
    let hmac = |key: &[u8], payloads: &[&[u8]]| crypto.sha1_hmac_provider.sha1_hmac(key, payloads);
    let mut bytes = vec![0; ANSWER];
    let reply = StunMessage::binding_reply(message.trans_id(), remote);
    let len = reply.to_bytes(Some(password.as_bytes()), &mut bytes, hmac).ok()?;
    bytes.truncate(len);
    Some(bytes)
}

//! Nonces that nobody remembers (RFC 8489 section 9.2): each carries its time, and a proof that it was made here for this client.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;

use crate::engine::host::Hmac;

/// How long a nonce is good. A client asks for a new one with each old one that it shows, so a long life spares round trips; credentials
/// have an end of their own.
pub const LIFE: Duration = Duration::from_secs(3600);
/// Bytes of the time, in seconds, and of the proof: 24 letters together, so that an answer to a stranger stays short.
const TIME: usize = 4;
const PROOF: usize = 14;

/// Makes nonces and knows them again.
#[derive(Clone)]
pub struct Nonces {
    key: [u8; 20],
    hmac: Hmac,
    epoch: Instant,
}

impl std::fmt::Debug for Nonces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nonces").finish_non_exhaustive()
    }
}

impl Nonces {
    /// With this key. `epoch` is a time before all others.
    #[must_use]
    pub fn new(key: [u8; 20], hmac: Hmac, epoch: Instant) -> Self {
        Self { key, hmac, epoch }
    }

    /// A nonce for a client.
    #[must_use]
    pub fn make(&self, client: SocketAddr, now: Instant) -> String {
        let seconds = now.saturating_duration_since(self.epoch).as_secs();
        // 136 years.
        let time = u32::try_from(seconds).unwrap_or(u32::MAX).to_be_bytes();
        URL_SAFE_NO_PAD.encode([&time[..], &self.proof(time, client)].concat())
    }

    /// Whether a nonce was made for this client, not too long ago.
    #[must_use]
    pub fn is_good(&self, nonce: &str, client: SocketAddr, now: Instant) -> bool {
        let mut bytes = [0; TIME + PROOF];
        if URL_SAFE_NO_PAD.decode_slice(nonce, &mut bytes) != Ok(TIME + PROOF) {
            return false;
        }
        let (Some(time), Some(proof)) = (bytes.first_chunk().copied(), bytes.last_chunk::<PROOF>()) else {
            return false;
        };
        let made = self.epoch + Duration::from_secs(u32::from_be_bytes(time).into());
        bool::from(self.proof(time, client).ct_eq(proof)) && now.saturating_duration_since(made) < LIFE
    }

    fn proof(&self, time: [u8; TIME], client: SocketAddr) -> [u8; PROOF] {
        let ip = match client.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        let whole = self.hmac.sha1(&self.key, &[&time, &ip, &client.port().to_be_bytes()]);
        let mut proof = [0; PROOF];
        proof.copy_from_slice(&whole[..PROOF]);
        proof
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::net::{secs, zero};

    #[test]
    fn a_nonce_is_good_for_its_client_and_its_hour() {
        let nonces = Nonces::new([7; 20], Hmac::default(), zero());
        let [ann, bob] = ["192.0.2.1:5000", "192.0.2.1:5001"].map(|text| text.parse().expect("an address"));
        let now = zero() + secs(12);
        let nonce = nonces.make(ann, now);
        assert_eq!(nonce.len(), 24);
        assert!(nonces.is_good(&nonce, ann, now) && nonces.is_good(&nonce, ann, now + secs(3599)));
        assert!(!nonces.is_good(&nonce, ann, now + LIFE), "an hour is over");
        assert!(!nonces.is_good(&nonce, bob, now), "another port is another client");
        assert!(!Nonces::new([8; 20], Hmac::default(), zero()).is_good(&nonce, ann, now), "of another run");
        for place in 0..nonce.len() {
            let mut forged = nonce.clone().into_bytes();
            forged[place] = if forged[place] == b'A' { b'B' } else { b'A' };
            assert!(!nonces.is_good(std::str::from_utf8(&forged).expect("letters"), ann, now), "letter {place}");
        }
        for wrong in ["", "A", &nonce[..23], &format!("{nonce}A"), "é", "========================"] {
            assert!(!nonces.is_good(wrong, ann, now), "{wrong}");
        }
    }
}

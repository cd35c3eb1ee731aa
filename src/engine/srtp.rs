//! The sender's half of SRTP (RFC 3711, RFC 7714) with the keys that DTLS exported to str0m: for packets that need none of str0m's layers.
//! The ciphers are those that str0m uses.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, MAX_TAG_LEN, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use str0m::crypto::dtls::SrtpProfile;
use str0m::crypto::{AeadAes128Gcm, Aes128CmSha1_80, Aes128CmSha1_80Cipher, CryptoError, CryptoProvider};

/// What the master keys are expanded to (RFC 3711 section 4.3.2).
mod label {
    pub(super) const RTP_KEY: u8 = 0;
    pub(super) const RTP_AUTH: u8 = 1;
    pub(super) const RTP_SALT: u8 = 2;
    pub(super) const RTCP_KEY: u8 = 3;
    pub(super) const RTCP_AUTH: u8 = 4;
    pub(super) const RTCP_SALT: u8 = 5;
}

/// Header and sender of the first RTCP packet of a compound stay readable (RFC 3711 section 3.4).
const RTCP_CLEAR: usize = 8;
/// The E flag and the index.
const RTCP_INDEX: usize = 4;
/// A cipher may write a block less one byte past the text.
const SCRATCH: usize = 15;
/// An RTCP sender report (RFC 3550 section 6.4.1), and where its two counts are.
const SENDER_REPORT: u8 = 200;
const PACKET_COUNT: usize = 20;
const OCTET_COUNT: usize = 24;

/// Keys that DTLS exported for SRTP (RFC 5764 section 4.2), with the side that is ours.
pub(super) struct Exported {
    /// Both master keys, then both master salts; the client's first.
    pub(super) material: Vec<u8>,
    pub(super) profile: SrtpProfile,
    /// We are the DTLS client.
    pub(super) client: bool,
}

impl std::fmt::Debug for Exported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exported").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// Protects what we send. A packet of media needs the first of it alone.
#[repr(C)]
pub(super) struct SrtpSender {
    media: Cipher,
    /// RTCP is rare: its cipher is made when it is needed.
    control: Keys,
    crypto: Arc<CryptoProvider>,
}

/// Session keys (RFC 3711 section 4.3).
#[derive(Clone)]
enum Keys {
    Cm { key: [u8; 16], auth: [u8; 20], salt: [u8; 14] },
    Gcm128 { key: [u8; 16], salt: [u8; 12] },
    Gcm256 { key: [u8; 32], salt: [u8; 12] },
}

enum Cipher {
    Cm {
        cipher: Box<dyn Aes128CmSha1_80Cipher>,
        auth: [u8; 20],
        salt: [u8; 14],
    },
    /// Of either length, and aws-lc's own: str0m puts a box around it, and to find that out of all sessions' costs as much as to seal.
    Gcm {
        key: LessSafeKey,
        salt: [u8; 12],
    },
}

impl SrtpSender {
    /// The keys of our side; none for a profile that is not known here, or material of another length.
    pub(super) fn new(crypto: &Arc<CryptoProvider>, exported: &Exported) -> Option<Self> {
        let keys = |labels| Keys::derive(crypto, exported, labels);
        let media = keys([label::RTP_KEY, label::RTP_AUTH, label::RTP_SALT])?;
        let control = keys([label::RTCP_KEY, label::RTCP_AUTH, label::RTCP_SALT])?;
        Some(Self { media: media.cipher(crypto).ok()?, control, crypto: crypto.clone() })
    }

    /// An RTP packet from its header, which names the SSRC and the low half of `index`, and its payload. `index` is the extended
    /// sequence number (RFC 3711 section 3.3.1).
    ///
    /// # Errors
    /// When the cipher refuses, which it has no reason to.
    pub(super) fn protect_rtp(&mut self, header: &[u8], payload: &[u8], index: u64) -> Result<Vec<u8>, CryptoError> {
        let ssrc = word(header, 8).ok_or_else(too_short)?;
        let [.., r0, r1, r2, r3, s0, s1] = index.to_be_bytes();
        let (roc, seq) = (u32::from_be_bytes([r0, r1, r2, r3]), u16::from_be_bytes([s0, s1]));
        let clear = header.len();
        let end = clear + payload.len();
        match &mut self.media {
            Cipher::Cm { cipher, auth, salt } => {
                let mut packet = vec![0; end + SCRATCH];
                packet[..clear].copy_from_slice(header);
                cipher.encrypt(&Aes128CmSha1_80::rtp_iv(*salt, ssrc, index), payload, &mut packet[clear..])?;
                let hmac = |key: &[u8], parts: &[&[u8]]| self.crypto.sha1_hmac_provider.sha1_hmac(key, parts);
                Aes128CmSha1_80::rtp_hmac(hmac, auth, &mut packet, index, end);
                packet.truncate(end + Aes128CmSha1_80::HMAC_TAG_LEN);
                Ok(packet)
            }
            Cipher::Gcm { key, salt } => {
                let mut packet = Vec::with_capacity(end + MAX_TAG_LEN);
                packet.extend_from_slice(header);
                packet.extend_from_slice(payload);
                let nonce = Nonce::assume_unique_for_key(AeadAes128Gcm::rtp_iv(*salt, ssrc, roc, seq));
                let tag = key.seal_in_place_separate_tag(nonce, Aad::from(header), &mut packet[clear..]);
                packet.extend_from_slice(tag.map_err(refused)?.as_ref());
                Ok(packet)
            }
        }
    }

    /// Adds to the counts of our sender report in a compound that str0m protected and nobody has seen: the index stays, so what comes
    /// out must be the only version that is ever sent. Nothing comes out when there is no such report.
    ///
    /// # Errors
    /// When the packet was not protected with these keys.
    pub(super) fn add_to_report(
        &self,
        protected: &[u8],
        ssrc: u32,
        packets: u32,
        octets: u32,
    ) -> Result<Option<Vec<u8>>, CryptoError> {
        let (mut compound, index) = self.unprotect_rtcp(protected)?;
        let found = add_to_report(&mut compound, ssrc, packets, octets);
        found.then(|| self.protect_rtcp(&compound, index)).transpose()
    }

    fn unprotect_rtcp(&self, protected: &[u8]) -> Result<(Vec<u8>, u32), CryptoError> {
        let ssrc = word(protected, 4).ok_or_else(too_short)?;
        let after = match &self.control {
            Keys::Cm { .. } => Aes128CmSha1_80::HMAC_TAG_LEN,
            Keys::Gcm128 { .. } | Keys::Gcm256 { .. } => 0,
        };
        let split = protected.len().checked_sub(RTCP_INDEX + after).filter(|split| *split >= RTCP_CLEAR);
        let split = split.ok_or_else(too_short)?;
        let (text, trailer) = protected.split_at(split);
        let flagged = word(trailer, 0).ok_or_else(too_short)?;
        let index = flagged & 0x7fff_ffff;
        let (clear, sealed) = text.split_at(RTCP_CLEAR);
        let mut compound = vec![0; text.len() + SCRATCH];
        compound[..RTCP_CLEAR].copy_from_slice(clear);
        let out = &mut compound[RTCP_CLEAR..];
        let len = match self.control.cipher(&self.crypto)? {
            Cipher::Cm { mut cipher, auth, salt } => {
                let hmac = |key: &[u8], parts: &[&[u8]]| self.crypto.sha1_hmac_provider.sha1_hmac(key, parts);
                let (signed, tag) = protected.split_at(split + RTCP_INDEX);
                if !Aes128CmSha1_80::rtcp_verify(hmac, &auth, signed, tag) {
                    return Err(CryptoError::Other("SRTCP: not authentic".into()));
                }
                cipher.decrypt(&Aes128CmSha1_80::rtp_iv(salt, ssrc, index.into()), sealed, out)?;
                sealed.len()
            }
            Cipher::Gcm { key, salt } => {
                let nonce = Nonce::assume_unique_for_key(AeadAes128Gcm::rtcp_iv(salt, ssrc, index));
                let aad = Aad::from([clear, &flagged.to_be_bytes()].concat());
                out[..sealed.len()].copy_from_slice(sealed);
                key.open_in_place(nonce, aad, &mut out[..sealed.len()]).map_err(refused)?.len()
            }
        };
        compound.truncate(RTCP_CLEAR + len);
        Ok((compound, index))
    }

    fn protect_rtcp(&self, compound: &[u8], index: u32) -> Result<Vec<u8>, CryptoError> {
        let ssrc = word(compound, 4).ok_or_else(too_short)?;
        let (clear, text) = compound.split_at(RTCP_CLEAR);
        let flagged = (0x8000_0000 | index).to_be_bytes();
        let end = compound.len();
        let mut packet = vec![0; end + SCRATCH];
        packet[..RTCP_CLEAR].copy_from_slice(clear);
        let out = &mut packet[RTCP_CLEAR..];
        match self.control.cipher(&self.crypto)? {
            Cipher::Cm { mut cipher, auth, salt } => {
                cipher.encrypt(&Aes128CmSha1_80::rtp_iv(salt, ssrc, index.into()), text, out)?;
                packet[end..end + RTCP_INDEX].copy_from_slice(&flagged);
                let hmac = |key: &[u8], parts: &[&[u8]]| self.crypto.sha1_hmac_provider.sha1_hmac(key, parts);
                Aes128CmSha1_80::rtcp_hmac(hmac, &auth, &mut packet, end + RTCP_INDEX);
                packet.truncate(end + RTCP_INDEX + Aes128CmSha1_80::HMAC_TAG_LEN);
            }
            Cipher::Gcm { key, salt } => {
                let nonce = Nonce::assume_unique_for_key(AeadAes128Gcm::rtcp_iv(salt, ssrc, index));
                let aad = Aad::from([clear, &flagged].concat());
                out[..text.len()].copy_from_slice(text);
                let tag = key.seal_in_place_separate_tag(nonce, aad, &mut out[..text.len()]).map_err(refused)?;
                packet.truncate(end);
                packet.extend_from_slice(tag.as_ref());
                packet.extend_from_slice(&flagged);
            }
        }
        Ok(packet)
    }
}

impl Keys {
    fn derive(crypto: &CryptoProvider, exported: &Exported, [key, auth, salt]: [u8; 3]) -> Option<Self> {
        Some(match exported.profile {
            SrtpProfile::AES128_CM_SHA1_80 => {
                let master = Master::<16, 14>::of(exported)?;
                Self::Cm {
                    key: master.expand(crypto, key),
                    auth: master.expand(crypto, auth),
                    salt: master.expand(crypto, salt),
                }
            }
            SrtpProfile::AEAD_AES_128_GCM => {
                let master = Master::<16, 12>::of(exported)?;
                Self::Gcm128 { key: master.expand(crypto, key), salt: master.expand(crypto, salt) }
            }
            SrtpProfile::AEAD_AES_256_GCM => {
                let master = Master::<32, 12>::of(exported)?;
                Self::Gcm256 { key: master.expand(crypto, key), salt: master.expand(crypto, salt) }
            }
            _ => return None,
        })
    }

    fn cipher(&self, crypto: &CryptoProvider) -> Result<Cipher, CryptoError> {
        let gcm = |algorithm: &'static Algorithm, key: &[u8], salt| {
            let key = LessSafeKey::new(UnboundKey::new(algorithm, key).map_err(refused)?);
            Ok(Cipher::Gcm { key, salt })
        };
        match self {
            Self::Cm { key, auth, salt } => {
                let cipher = crypto.srtp_provider.aes_128_cm_sha1_80().create_cipher(*key, true);
                Ok(Cipher::Cm { cipher, auth: *auth, salt: *salt })
            }
            Self::Gcm128 { key, salt } => gcm(&AES_128_GCM, key, *salt),
            Self::Gcm256 { key, salt } => gcm(&AES_256_GCM, key, *salt),
        }
    }
}

/// One side's master key and salt.
struct Master<const KEY: usize, const SALT: usize> {
    key: [u8; KEY],
    salt: [u8; SALT],
}

impl<const KEY: usize, const SALT: usize> Master<KEY, SALT> {
    fn of(exported: &Exported) -> Option<Self> {
        let (keys, salts) = exported.material.split_at_checked(2 * KEY)?;
        if salts.len() != 2 * SALT {
            return None;
        }
        let side = usize::from(!exported.client);
        let (key, salt) = (keys.chunks_exact(KEY).nth(side)?, salts.chunks_exact(SALT).nth(side)?);
        Some(Self { key: key.try_into().ok()?, salt: salt.try_into().ok()? })
    }

    /// The pseudo-random function of RFC 3711 section 4.3.3 (RFC 6188 for 256 bits), with a key derivation rate of zero.
    fn expand<const LEN: usize>(&self, crypto: &CryptoProvider, label: u8) -> [u8; LEN] {
        let mut counter = [0; 16];
        counter[..SALT].copy_from_slice(&self.salt);
        counter[7] ^= label;
        let mut expanded = [0; LEN];
        for (round, chunk) in (0_u16..).zip(expanded.chunks_mut(16)) {
            counter[14..].copy_from_slice(&round.to_be_bytes());
            let mut block = [0; 32];
            if KEY == 32 {
                crypto.srtp_provider.srtp_aes_256_ecb_round(&self.key, &counter, &mut block);
            } else {
                crypto.srtp_provider.srtp_aes_128_ecb_round(&self.key, &counter, &mut block);
            }
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
        expanded
    }
}

/// Adds to the counts of the sender report of `ssrc` in a compound (RFC 3550 section 6.1); returns whether there is one.
fn add_to_report(compound: &mut [u8], ssrc: u32, packets: u32, octets: u32) -> bool {
    let mut rest = compound;
    while let Some(header) = word(rest, 0) {
        let [_, kind, high, low] = header.to_be_bytes();
        let len = 4 * (usize::from(u16::from_be_bytes([high, low])) + 1);
        let Some((packet, others)) = rest.split_at_mut_checked(len) else { return false };
        if kind == SENDER_REPORT && word(packet, 4) == Some(ssrc) {
            for (at, more) in [(PACKET_COUNT, packets), (OCTET_COUNT, octets)] {
                let Some(count) = word(packet, at) else { return false };
                packet[at..at + 4].copy_from_slice(&count.wrapping_add(more).to_be_bytes());
            }
            return true;
        }
        rest = others;
    }
    false
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn refused(_: Unspecified) -> CryptoError {
    CryptoError::Other("SRTP: the cipher refuses".into())
}

fn too_short() -> CryptoError {
    CryptoError::Other("SRTP: too short".into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::crypto;

    fn unhex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pair = |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
        digits.chunks(2).map(|digits| pair(digits).expect("hexadecimal")).collect()
    }

    fn bytes<const LEN: usize>(text: &str) -> [u8; LEN] {
        unhex(text).try_into().expect("as long as it says")
    }

    /// RFC 3711 appendix B.3.
    #[test]
    fn session_keys_are_those_of_the_standard() {
        let crypto = crypto::provider();
        let master = Master::<16, 14> {
            key: bytes("E1F97A0D3E018BE0D64FA32C06DE4139"),
            salt: bytes("0EC675AD498AFEEBB6960B3AABE6"),
        };
        assert_eq!(master.expand(&crypto, label::RTP_KEY), bytes::<16>("C61E7A93744F39EE10734AFE3FF7A087"));
        assert_eq!(master.expand(&crypto, label::RTP_SALT), bytes::<14>("30CBBC08863D8C85D49DB34A9AE1"));
        let auth = "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA48F0A0ACF3C34E2359E6CDBCEE049646C43D9327AD175578EF72270986371C10C9A369AC2F94A8C5FBCDDDC256D6E919A48B610EF17C2041E47403576";
        assert_eq!(master.expand(&crypto, label::RTP_AUTH), bytes::<80>(&auth[..160]));
    }

    fn quid(keys: &Keys) -> SrtpSender {
        let crypto = crypto::provider();
        SrtpSender { media: keys.cipher(&crypto).expect("a cipher"), control: keys.clone(), crypto }
    }

    const QUID_SALT: &str = "51756964 2070726f 2071756f";

    /// RFC 7714 sections 16.1.1 and 16.2.1.
    #[test]
    fn rtp_is_protected_as_the_standard_shows() {
        let header = unhex("8040f17b 8041f8d3 5501a0b2");
        let payload = b"Gallia est omnis divisa in partes tres";
        let key = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
        let short = Keys::Gcm128 { key: bytes(&key[..32]), salt: bytes(QUID_SALT) };
        let long = Keys::Gcm256 { key: bytes(key), salt: bytes(QUID_SALT) };
        for (keys, sealed) in [
            (
                short,
                "f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a 51c7d19b
                 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce",
            ),
            (
                long,
                "32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3 b50b2a02 76ffae0f
                 1ba63799 b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13",
            ),
        ] {
            let packet = quid(&keys).protect_rtp(&header, payload, 0xf17b).expect("the cipher takes it");
            assert_eq!(packet, [header.clone(), unhex(sealed)].concat());
        }
    }

    /// RFC 7714 section 17.1.
    const MARS: &str = "81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61
        deadbeef deadbeef deadbeef deadbeef deadbeef";

    #[test]
    fn rtcp_is_protected_as_the_standard_shows() {
        let keys = Keys::Gcm128 { key: bytes("000102030405060708090a0b0c0d0e0f"), salt: bytes(QUID_SALT) };
        let sender = quid(&keys);
        let sealed = unhex(
            "81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1 730d6fda 4ce09b46
             86303ded 0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade 800005d4",
        );
        assert_eq!(sender.protect_rtcp(&unhex(MARS), 0x5d4).expect("the cipher takes it"), sealed);
        assert_eq!(sender.unprotect_rtcp(&sealed).expect("it is authentic"), (unhex(MARS), 0x5d4));
    }

    fn any_keys() -> [Keys; 3] {
        [
            Keys::Cm { key: [1; 16], auth: [2; 20], salt: [3; 14] },
            Keys::Gcm128 { key: [4; 16], salt: [5; 12] },
            Keys::Gcm256 { key: [6; 32], salt: [7; 12] },
        ]
    }

    #[test]
    fn counts_are_added_to_the_report_of_the_sender_and_of_nobody_else() {
        let mars = u32::from_be_bytes(*b"Mars");
        // A receiver report goes before it, a description follows it.
        let before = unhex("80c90001 4d617273");
        let after = unhex("81ca0002 4d617273 01026869");
        let compound = [before.clone(), unhex(MARS), after.clone()].concat();
        for keys in any_keys() {
            let sender = quid(&keys);
            let sealed = sender.protect_rtcp(&compound, 7).expect("the cipher takes it");
            let more = sender.add_to_report(&sealed, mars, 0xffff_ffff, 0x10).expect("it is ours");
            let (plain, index) = sender.unprotect_rtcp(&more.expect("it is there")).expect("it is authentic");
            let mut expected = unhex(MARS);
            expected[20..28].copy_from_slice(&unhex("00000429 0000e940"));
            assert_eq!((plain, index), ([before.clone(), expected, after.clone()].concat(), 7));
            let other = sender.add_to_report(&sealed, mars + 1, 1, 1).expect("it is ours");
            assert_eq!(other, None, "the report of another source is none of ours");
            let mut forged = sealed;
            forged[9] ^= 1;
            assert!(sender.add_to_report(&forged, mars, 1, 1).is_err(), "what is not authentic is not touched");
        }
    }

    #[test]
    fn material_of_a_wrong_length_makes_no_sender() {
        let crypto = crypto::provider();
        for profile in SrtpProfile::ALL {
            let len = profile.keying_material_len();
            for (len, good) in [(len, true), (len - 1, false), (len + 1, false), (0, false)] {
                let exported = Exported { material: vec![1; len], profile: *profile, client: false };
                assert_eq!(SrtpSender::new(&crypto, &exported).is_some(), good, "{profile}, {len} bytes");
                assert!(!format!("{exported:?}").contains('1'.to_string().repeat(2).as_str()), "no key in a log");
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), ssrc: u32) {
            let mut compound = bytes.clone();
            add_to_report(&mut compound, ssrc, 1, 1);
            prop_assert_eq!(compound.len(), bytes.len());
            for keys in any_keys() {
                let _ = quid(&keys).add_to_report(&bytes, ssrc, 1, 1);
            }
        }
    }
}

//! The ciphers of str0m's SRTP and of DTLS, made when there is something to seal or open: an expanded key is 640 bytes, and a session has
//! ten of them. str0m asks for eight as soon as DTLS has exported its keys; who sends audio and receives reports needs one of those more than
//! seldom. DTLS has little to say after its handshake. AES-CM's (RFC 3711) are str0m's own: they keep no more than the key.

use std::sync::OnceLock;

use dimpl::crypto::{
    Aad, Buf, Cipher, Dtls12CipherSuite, HashAlgorithm, Nonce, SupportedDtls12CipherSuite, TmpBuf, aws_lc_rs,
};

use str0m::crypto::{
    AeadAes128Gcm, AeadAes128GcmCipher, AeadAes256Gcm, AeadAes256GcmCipher, CryptoError, SrtpProvider,
    SupportedAeadAes128Gcm, SupportedAeadAes256Gcm, SupportedAes128CmSha1_80,
};

use crate::wire::classify::{Class, classify};

/// The provider that str0m is given; its ciphers come from str0m's own one.
#[derive(Debug)]
pub(super) struct LateCiphers;

fn made_by() -> &'static dyn SrtpProvider {
    str0m::crypto::from_feature_flags().srtp_provider
}

impl SrtpProvider for LateCiphers {
    fn aes_128_cm_sha1_80(&self) -> &'static dyn SupportedAes128CmSha1_80 {
        made_by().aes_128_cm_sha1_80()
    }

    fn aead_aes_128_gcm(&self) -> &'static dyn SupportedAeadAes128Gcm {
        &LateCiphers
    }

    fn aead_aes_256_gcm(&self) -> &'static dyn SupportedAeadAes256Gcm {
        &LateCiphers
    }

    fn srtp_aes_128_ecb_round(&self, key: &[u8], input: &[u8], output: &mut [u8]) {
        made_by().srtp_aes_128_ecb_round(key, input, output);
    }

    fn srtp_aes_256_ecb_round(&self, key: &[u8], input: &[u8], output: &mut [u8]) {
        made_by().srtp_aes_256_ecb_round(key, input, output);
    }
}

/// A cipher that is not there yet. The one for RTP stays once it was made; reports are rare, and theirs goes after each.
struct Late<C: ?Sized, const KEY: usize> {
    key: [u8; KEY],
    encrypt: bool,
    made: Option<Box<C>>,
}

impl<C: ?Sized, const KEY: usize> Late<C, KEY> {
    fn new(key: [u8; KEY], encrypt: bool) -> Self {
        Self { key, encrypt, made: None }
    }

    /// For a packet with this header.
    fn with<R>(
        &mut self,
        header: &[u8],
        make: impl FnOnce([u8; KEY], bool) -> Box<C>,
        run: impl FnOnce(&mut C) -> R,
    ) -> R {
        if classify(header) == Class::Rtcp {
            return run(&mut make(self.key, self.encrypt));
        }
        run(self.made.get_or_insert_with(|| make(self.key, self.encrypt)))
    }
}

impl<C: ?Sized, const KEY: usize> std::fmt::Debug for Late<C, KEY> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Late").field("made", &self.made.is_some()).finish_non_exhaustive()
    }
}

macro_rules! late {
    ($supported:ident, $cipher:ident, $profile:ident, $key:literal, $supply:ident) => {
        impl $supported for LateCiphers {
            fn create_cipher(&self, key: [u8; $key], encrypt: bool) -> Box<dyn $cipher> {
                Box::new(Late::<dyn $cipher, $key>::new(key, encrypt))
            }
        }

        impl $cipher for Late<dyn $cipher, $key> {
            fn encrypt(
                &mut self,
                iv: &[u8; $profile::IV_LEN],
                aad: &[u8],
                input: &[u8],
                output: &mut [u8],
            ) -> Result<(), CryptoError> {
                let make = |key, encrypt| made_by().$supply().create_cipher(key, encrypt);
                self.with(aad, make, |cipher| cipher.encrypt(iv, aad, input, output))
            }

            fn decrypt(
                &mut self,
                iv: &[u8; $profile::IV_LEN],
                aads: &[&[u8]],
                input: &[u8],
                output: &mut [u8],
            ) -> Result<usize, CryptoError> {
                let make = |key, encrypt| made_by().$supply().create_cipher(key, encrypt);
                let header = aads.first().copied().unwrap_or_default();
                self.with(header, make, |cipher| cipher.decrypt(iv, aads, input, output))
            }
        }
    };
}

late!(SupportedAeadAes128Gcm, AeadAes128GcmCipher, AeadAes128Gcm, 16, aead_aes_128_gcm);
late!(SupportedAeadAes256Gcm, AeadAes256GcmCipher, AeadAes256Gcm, 32, aead_aes_256_gcm);

/// The suites of DTLS 1.2 with such ciphers, made anew for each record.
pub(super) fn suites() -> &'static [&'static dyn SupportedDtls12CipherSuite] {
    static SUITES: OnceLock<Vec<&'static dyn SupportedDtls12CipherSuite>> = OnceLock::new();
    SUITES.get_or_init(|| {
        let suites = aws_lc_rs::default_provider().cipher_suites.iter();
        suites.map(|suite| &*Box::leak(Box::new(LateSuite(*suite))) as _).collect()
    })
}

#[derive(Debug)]
struct LateSuite(&'static dyn SupportedDtls12CipherSuite);

impl SupportedDtls12CipherSuite for LateSuite {
    fn suite(&self) -> Dtls12CipherSuite {
        self.0.suite()
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        self.0.hash_algorithm()
    }

    fn key_lengths(&self) -> (usize, usize, usize) {
        self.0.key_lengths()
    }

    fn explicit_nonce_len(&self) -> usize {
        self.0.explicit_nonce_len()
    }

    fn tag_len(&self) -> usize {
        self.0.tag_len()
    }

    fn min_protected_fragment_len(&self) -> usize {
        self.0.min_protected_fragment_len()
    }

    fn create_cipher(&self, key: &[u8]) -> Result<Box<dyn Cipher>, dimpl::CryptoError> {
        // Whether it can be one is told at once.
        self.0.create_cipher(key)?;
        Ok(Box::new(LateRecords { suite: self.0, key: key.into() }))
    }
}

/// Seals and opens records.
struct LateRecords {
    suite: &'static dyn SupportedDtls12CipherSuite,
    key: Box<[u8]>,
}

impl std::fmt::Debug for LateRecords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LateRecords").field("suite", &self.suite).finish_non_exhaustive()
    }
}

impl Cipher for LateRecords {
    fn encrypt(&mut self, plaintext: &mut Buf, aad: Aad, nonce: Nonce) -> Result<(), dimpl::CryptoError> {
        self.suite.create_cipher(&self.key)?.encrypt(plaintext, aad, nonce)
    }

    fn decrypt(&mut self, ciphertext: &mut TmpBuf<'_>, aad: Aad, nonce: Nonce) -> Result<(), dimpl::CryptoError> {
        self.suite.create_cipher(&self.key)?.decrypt(ciphertext, aad, nonce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];
    const IV: [u8; 12] = [9; 12];
    const RTP: [u8; 12] = [0x80, 111, 0, 1, 0, 0, 3, 192, 0, 0, 0, 5];
    /// A sender report's header and sender, and the index.
    const RTCP: [u8; 12] = [0x80, 200, 0, 6, 0, 0, 0, 5, 0x80, 0, 0, 1];

    fn late(encrypt: bool) -> Late<dyn AeadAes256GcmCipher, 32> {
        Late::new(KEY, encrypt)
    }

    #[test]
    fn they_seal_and_open_as_str0ms_do() {
        for header in [RTP, RTCP] {
            let (mut ours, mut theirs) = ([0; 20 + 16], [0; 20 + 16]);
            late(true).encrypt(&IV, &header, &[5; 20], &mut ours).expect("it seals");
            let mut their = made_by().aead_aes_256_gcm().create_cipher(KEY, true);
            their.encrypt(&IV, &header, &[5; 20], &mut theirs).expect("it seals");
            assert_eq!(ours, theirs);

            let mut opened = [0; 36];
            let (fixed, index) = header.split_at(8);
            let length = late(false).decrypt(&IV, &[fixed, index], &ours, &mut opened).expect("it is authentic");
            assert_eq!(opened[..length], [5; 20]);
            ours[3] ^= 1;
            assert!(late(false).decrypt(&IV, &[fixed, index], &ours, &mut opened).is_err());
        }
    }

    #[test]
    fn only_one_for_rtp_stays() {
        let mut cipher = late(true);
        assert!(cipher.made.is_none());
        cipher.encrypt(&IV, &RTCP, &[5; 20], &mut [0; 36]).expect("it seals");
        assert!(cipher.made.is_none());
        cipher.encrypt(&IV, &RTP, &[5; 20], &mut [0; 36]).expect("it seals");
        assert!(cipher.made.is_some());
    }
}

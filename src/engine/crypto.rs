//! str0m's cryptography with a DTLS of our own making: one checked configuration for all sessions, silence that costs nothing, and
//! keys for SRTP that others than str0m can use.
//! The algorithms are aws-lc's and the protocol is dimpl's, as str0m has them by default.
//!
//! str0m's own provider builds a configuration per session, and every build tries out signatures on two curves, which costs as
//! much as the handshake. dimpl reads the certificate's key anew for each session and keeps what it read. And str0m asks DTLS for output with
//! every packet of audio, long after it has said its last word.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use dimpl::crypto::{Buf, HashAlgorithm, KeyProvider, SignatureAlgorithm, SigningKey, aws_lc_rs};
use dimpl::{Config, Dtls, DtlsCertificate};
use str0m::crypto::dtls::{
    DtlsCert, DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, DtlsVersion, ProtocolVersion,
};
use str0m::crypto::{CryptoError, CryptoProvider};

#[cfg(test)]
use str0m::crypto::dtls::{KeyingMaterial, SrtpProfile};

use super::ciphers::{self, LateCiphers};
use super::srtp::Exported;

/// Where the keys for SRTP come to lie when DTLS exports them.
pub(super) type Export = Arc<Mutex<Option<Exported>>>;

thread_local! {
    /// That of the DTLS end that was made last on this thread. str0m lets nobody reach the one it makes.
    static EXPORT: RefCell<Option<Export>> = const { RefCell::new(None) };
}

#[cfg(test)]
thread_local! {
    /// Both ends of a test take this profile instead of the one that they agreed upon.
    pub(crate) static PROFILE: std::cell::Cell<Option<SrtpProfile>> = const { std::cell::Cell::new(None) };
}

/// The export of the peer connection that was just built on this thread.
pub(super) fn take_export() -> Option<Export> {
    EXPORT.take()
}

/// The provider that all peer connections of a process share.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    static DTLS: SharedDtls = SharedDtls { config: OnceLock::new() };
    Arc::new(CryptoProvider {
        dtls_provider: &DTLS,
        srtp_provider: &LateCiphers,
        ..str0m::crypto::from_feature_flags()
    })
}

/// Makes DTLS instances that share one configuration.
#[derive(Debug)]
struct SharedDtls {
    /// For the MTU that was asked for first, which is every session's.
    config: OnceLock<Arc<Config>>,
}

impl SharedDtls {
    fn config(&self, mtu: Option<usize>) -> Result<Arc<Config>, CryptoError> {
        if let Some(config) = self.config.get()
            && mtu.is_none_or(|mtu| mtu == config.mtu())
        {
            return Ok(config.clone());
        }
        let crypto = dimpl::crypto::CryptoProvider {
            key_provider: &SharedKeys,
            cipher_suites: ciphers::suites(),
            ..aws_lc_rs::default_provider()
        };
        // ICE has checked that the peer is where it says it is (RFC 8842 section 5.3 leaves cookies to that).
        let builder = Config::builder().with_crypto_provider(crypto).use_server_cookie(false);
        let builder = if let Some(mtu) = mtu { builder.mtu(mtu) } else { builder };
        let config = Arc::new(builder.build().map_err(|error| CryptoError::Other(format!("DTLS: {error}")))?);
        // Who comes second, or with another MTU, keeps its own.
        let _ = self.config.set(config.clone());
        Ok(config)
    }
}

impl DtlsProvider for SharedDtls {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        str0m::crypto::from_feature_flags().dtls_provider.generate_certificate()
    }

    fn new_dtls(
        &self,
        cert: &DtlsCert,
        now: Instant,
        version: DtlsVersion,
        mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        let config = self.config(mtu)?;
        let cert = DtlsCertificate { certificate: cert.certificate.clone(), private_key: cert.private_key.clone() };
        let dtls = match version {
            DtlsVersion::Dtls12 => Dtls::new_12(config, cert, now),
            DtlsVersion::Dtls13 => Dtls::new_13(config, cert, now),
            DtlsVersion::Auto => Dtls::new_auto(config, cert, now),
            _ => return Err(CryptoError::Other("DTLS: a version that is not known here".into())),
        };
        let export = Export::default();
        EXPORT.set(Some(export.clone()));
        Ok(Box::new(QuietDtls { dtls, quiet: None, export }))
    }
}

/// Reads a key once for all sessions of a thread, which show one certificate.
#[derive(Debug)]
struct SharedKeys;

thread_local! {
    /// The key that was read last, and what it was read from.
    static KEY: RefCell<Option<(Vec<u8>, SharedKey)>> = const { RefCell::new(None) };
}

impl KeyProvider for SharedKeys {
    fn load_private_key(&self, key_der: &[u8]) -> Result<Box<dyn SigningKey>, dimpl::CryptoError> {
        let known =
            KEY.with_borrow(|known| known.as_ref().filter(|(der, _)| der == key_der).map(|(_, key)| key.clone()));
        if let Some(key) = known {
            return Ok(Box::new(key));
        }
        let key = aws_lc_rs::default_provider().key_provider.load_private_key(key_der)?;
        let key = SharedKey {
            algorithm: key.algorithm(),
            hash_algorithm: key.hash_algorithm(),
            supported: key.supported_hash_algorithms().into(),
            key: Arc::new(Mutex::new(key)),
        };
        KEY.set(Some((key_der.to_vec(), key.clone())));
        Ok(Box::new(key))
    }
}

/// A key that signs for several sessions: one at a time, as they are on one thread.
#[derive(Clone, Debug)]
struct SharedKey {
    algorithm: SignatureAlgorithm,
    hash_algorithm: HashAlgorithm,
    supported: Arc<[HashAlgorithm]>,
    key: Arc<Mutex<Box<dyn SigningKey>>>,
}

impl SigningKey for SharedKey {
    fn sign(&mut self, data: &[u8], hash_alg: HashAlgorithm, out: &mut Buf) -> Result<(), dimpl::CryptoError> {
        self.key.lock().unwrap_or_else(PoisonError::into_inner).sign(data, hash_alg, out)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        self.hash_algorithm
    }

    fn supported_hash_algorithms(&self) -> &[HashAlgorithm] {
        &self.supported
    }
}

/// A DTLS end that is not asked again while nothing can have changed its mind.
#[derive(Debug)]
struct QuietDtls {
    dtls: Dtls,
    /// It has nothing to say before this time, unless something is put in.
    quiet: Option<Instant>,
    export: Export,
}

impl QuietDtls {
    /// For everything that may make it speak.
    fn stirred(&mut self) -> &mut Dtls {
        self.quiet = None;
        &mut self.dtls
    }
}

impl DtlsInstance for QuietDtls {
    fn set_active(&mut self, active: bool) {
        self.stirred().set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.stirred().handle_packet(packet)
    }

    fn poll_output<'a>(&mut self, buf: &'a mut [u8]) -> DtlsOutput<'a> {
        if let Some(at) = self.quiet {
            return DtlsOutput::Timeout(at);
        }
        let output = self.dtls.poll_output(buf);
        #[cfg(test)]
        let output = match (output, PROFILE.get()) {
            (DtlsOutput::KeyingMaterial(material, _), Some(profile)) => {
                DtlsOutput::KeyingMaterial(KeyingMaterial::new(&material[..profile.keying_material_len()]), profile)
            }
            (output, _) => output,
        };
        match &output {
            DtlsOutput::Timeout(at) => self.quiet = Some(*at),
            DtlsOutput::KeyingMaterial(material, profile) => {
                let client = self.dtls.is_active();
                let exported = Exported { material: material.to_vec(), profile: *profile, client };
                // Not for one that nobody can ask any more.
                if Arc::strong_count(&self.export) > 1 {
                    *self.export.lock().unwrap_or_else(PoisonError::into_inner) = Some(exported);
                }
            }
            _ => {}
        }
        output
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.stirred().handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        self.stirred().send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.dtls.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.dtls.protocol_version()
    }

    fn is_closing(&self) -> bool {
        self.dtls.is_closing()
    }

    fn is_closed(&self) -> bool {
        self.dtls.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.stirred().close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::net::zero;

    #[test]
    fn one_configuration_serves_all_sessions_of_an_mtu() {
        let dtls = SharedDtls { config: OnceLock::new() };
        let first = dtls.config(Some(1150)).expect("the provider is sound");
        let second = dtls.config(Some(1150)).expect("it is there");
        let other = dtls.config(Some(900)).expect("another MTU is served too");
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!((first.mtu(), other.mtu()), (1150, 900));
        assert!(!first.use_server_cookie());
    }

    #[test]
    fn a_key_is_read_once_and_another_one_is_another_one() {
        let certificate =
            || provider().dtls_provider.generate_certificate().expect("it makes certificates").private_key;
        let known = || KEY.with_borrow(|known| known.as_ref().map(|(_, key)| Arc::as_ptr(&key.key)));
        let (first, other) = (certificate(), certificate());
        SharedKeys.load_private_key(&first).expect("it is a key");
        let read = known();
        let mut again = SharedKeys.load_private_key(&first).expect("it is a key");
        assert_eq!(known(), read);
        SharedKeys.load_private_key(&other).expect("it is a key");
        assert_ne!(known(), read);
        again.sign(b"words", again.hash_algorithm(), &mut Buf::new()).expect("it signs, though another was read since");
        assert!(SharedKeys.load_private_key(b"no key").is_err());
    }

    /// Plays one end's packets to the other until both are quiet; returns how many there were.
    fn talk(ends: &mut [Box<dyn DtlsInstance>; 2], now: Instant) -> (usize, [bool; 2]) {
        let (mut packets, mut connected) = (0, [false; 2]);
        let mut quiet = 0;
        let mut speaker = 0;
        let mut buffer = vec![0; 4096];
        while quiet < 2 {
            match ends[speaker].poll_output(&mut buffer) {
                DtlsOutput::Packet(packet) => {
                    let packet = packet.to_vec();
                    packets += 1;
                    quiet = 0;
                    ends[1 - speaker].handle_packet(&packet).expect("a good packet");
                }
                DtlsOutput::Timeout(at) if at <= now => ends[speaker].handle_timeout(now).expect("time is good"),
                DtlsOutput::Timeout(_) => {
                    quiet += 1;
                    speaker = 1 - speaker;
                }
                DtlsOutput::Connected => connected[speaker] = true,
                _ => {}
            }
        }
        (packets, connected)
    }

    #[test]
    fn silence_ends_with_whatever_is_put_in() {
        let crypto = provider();
        let cert = crypto.dtls_provider.generate_certificate().expect("it makes certificates");
        let now = zero();
        let end = |active| {
            let mut end = crypto.dtls_provider.new_dtls(&cert, now, DtlsVersion::Dtls12, Some(1150)).expect("an end");
            end.handle_timeout(now).expect("time is good");
            end.set_active(active);
            end
        };
        let mut ends = [end(true), end(false)];
        assert!(matches!(ends[1].poll_output(&mut [0; 4096]), DtlsOutput::Timeout(_)), "a server waits");
        let (packets, connected) = talk(&mut ends, now);
        assert!(packets >= 4, "flights went both ways");
        assert_eq!(connected, [true; 2]);
        assert_eq!(talk(&mut ends, now).0, 0, "both are quiet");
        assert_eq!(ends[0].send_application_data(b"word").expect("it is connected"), 4);
        assert_eq!(talk(&mut ends, now).0, 1, "words end the silence");
        ends[1].close().expect("it can close");
        assert!(talk(&mut ends, now).0 >= 1, "a goodbye ends the silence");
    }

    #[test]
    fn a_lost_flight_is_sent_again_when_its_time_has_come() {
        let crypto = provider();
        let cert = crypto.dtls_provider.generate_certificate().expect("it makes certificates");
        let now = zero();
        let mut end = crypto.dtls_provider.new_dtls(&cert, now, DtlsVersion::Dtls12, Some(1150)).expect("an end");
        end.handle_timeout(now).expect("time is good");
        end.set_active(true);
        let (mut flights, mut at) = (Vec::new(), now);
        while flights.len() < 3 {
            match end.poll_output(&mut [0; 4096]) {
                DtlsOutput::Packet(_) => flights.push(at - now),
                DtlsOutput::Timeout(wake) => {
                    at = at.max(wake);
                    end.handle_timeout(at).expect("time is good");
                }
                _ => {}
            }
        }
        assert!(flights.is_sorted() && flights[0].is_zero() && !flights[1].is_zero(), "{flights:?}");
    }
}

//! Credentials of TURN that end by themselves: the username says when, and a secret that only the issuer and the relay know makes the
//! password of it (draft-uberti-behave-turn-rest-00). Nothing is stored for them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::host::Hmac;

/// What a client shows to a relay. `Debug` hides the password.
#[derive(Clone, Eq, PartialEq)]
pub struct Credentials {
    /// `<expiry>:<user>`; the expiry is in seconds since 1970.
    pub username: String,
    /// base64 of the HMAC-SHA1 of the username.
    pub credential: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// The secret that an issuer shares with a relay. `Debug` hides it.
#[derive(Clone)]
pub struct TurnSecret {
    secret: Box<[u8]>,
    hmac: Hmac,
}

impl std::fmt::Debug for TurnSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TurnSecret").finish_non_exhaustive()
    }
}

impl TurnSecret {
    /// That of these bytes.
    #[must_use]
    pub fn new(secret: &[u8], hmac: Hmac) -> Self {
        Self { secret: secret.into(), hmac }
    }

    /// Credentials for `user` that end at `expiry`, in seconds since 1970.
    #[must_use]
    pub fn mint(&self, user: &str, expiry: u64) -> Credentials {
        let username = format!("{expiry}:{user}");
        let credential = self.password(&username);
        Credentials { username, credential }
    }

    /// The password that goes with a username.
    #[must_use]
    pub fn password(&self, username: &str) -> String {
        STANDARD.encode(self.sign(username.as_bytes()))
    }

    /// A proof that only who knows the secret can make.
    #[must_use]
    pub(super) fn sign(&self, text: &[u8]) -> [u8; 20] {
        self.hmac.sha1(&self.secret, &[text])
    }
}

/// When a username ends, and whose it is.
#[must_use]
pub fn parts(username: &str) -> Option<(u64, &str)> {
    let (expiry, user) = username.split_once(':')?;
    // What `parse` would take and nobody writes: a sign.
    let digits = expiry.bytes().all(|byte| byte.is_ascii_digit());
    expiry.parse().ok().filter(|_| digits).map(|expiry| (expiry, user))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_what_everybody_makes_of_it() {
        // printf '1700000000:alice' | openssl dgst -sha1 -hmac 'north' -binary | base64
        let secret = TurnSecret::new(b"north", Hmac::default());
        let minted = secret.mint("alice", 1_700_000_000);
        assert_eq!(minted.username, "1700000000:alice");
        assert_eq!(minted.credential, "Cd/49soE35ICqcJF/bCTn8Z4OyE=");
        assert_eq!(secret.password(&minted.username), minted.credential);
        assert!(!format!("{minted:?} {secret:?}").contains(&minted.credential));
    }

    #[test]
    fn a_username_tells_its_end_and_its_user() {
        assert_eq!(parts("17:alice:bob"), Some((17, "alice:bob")));
        assert_eq!(parts("17:"), Some((17, "")));
        for wrong in ["", "17", ":alice", "x:alice", "-1:alice", "+1:alice", "99999999999999999999:alice"] {
            assert_eq!(parts(wrong), None, "{wrong}");
        }
    }
}

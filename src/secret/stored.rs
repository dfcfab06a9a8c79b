//! [`StoredSecret`]: the form in which a store keeps a secret.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::{ClientSecret, SecretError};
use crate::crypto::{constant_time_eq, sha256};

/// The stored form of a client secret. It is sufficient to verify the secret, but not to use it.
///
/// Its text form ([`to_phc_string`](Self::to_phc_string), [`FromStr`]) is `$sha256$` and the digest in base64, or an
/// argon2id PHC string. With feature `legacy_hashes`, it may also be a bcrypt or PBKDF2 hash of an older system. You
/// may register a digest that was created elsewhere, if its secret is random with at least 128 bits. If a secret can be
/// guessed, anyone can find it from its digest.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredSecret(Scheme);

#[derive(Clone, PartialEq, Eq)]
enum Scheme {
    Sha256([u8; 32]),
    #[cfg(feature = "argon2")]
    Argon2(std::sync::Arc<str>),
    #[cfg(feature = "legacy_hashes")]
    Legacy(std::sync::Arc<str>),
}

/// A presented secret and its digest, which is computed once for all comparisons.
pub(crate) struct Presented<'a> {
    #[cfg_attr(not(feature = "argon2"), allow(dead_code))]
    text: &'a str,
    digest: [u8; 32],
}

impl<'a> Presented<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, digest: sha256(text.as_bytes()) }
    }
}

impl StoredSecret {
    pub(super) fn digest(secret: &str) -> Self {
        Self(Scheme::Sha256(sha256(secret.as_bytes())))
    }

    /// Returns a digest that no secret is known to have.
    pub(crate) fn of_no_secret() -> Self {
        Self(Scheme::Sha256([0; 32]))
    }

    #[cfg(feature = "argon2")]
    pub(super) fn argon2(secret: &str) -> Result<Self, SecretError> {
        Ok(Self(Scheme::Argon2(super::argon2::hash(secret)?.into())))
    }

    /// Returns whether a check takes so long that it must not run on an async thread.
    pub(crate) fn is_slow(&self) -> bool {
        !matches!(self.0, Scheme::Sha256(_))
    }

    /// Returns whether this is the stored form of the presented secret. The comparison takes constant time.
    pub(crate) fn matches(&self, presented: &Presented<'_>) -> bool {
        match &self.0 {
            Scheme::Sha256(digest) => constant_time_eq(digest, &presented.digest),
            #[cfg(feature = "argon2")]
            Scheme::Argon2(hash) => super::argon2::matches(hash, presented.text),
            #[cfg(feature = "legacy_hashes")]
            Scheme::Legacy(hash) => super::legacy::matches(hash, presented.text),
        }
    }

    /// Returns whether this is a hash of an older system.
    #[cfg(feature = "legacy_hashes")]
    pub(crate) fn is_legacy(&self) -> bool {
        matches!(self.0, Scheme::Legacy(_))
    }

    /// Returns the new stored form of a secret that matched this stored secret. It may take as long as a check. Returns `None` if
    /// the old hash does not cover the whole secret, because the rest was not verified.
    ///
    /// `is_random` is the operator's declaration. A secret that cannot be random is treated as a chosen one.
    #[cfg(feature = "legacy_hashes")]
    pub(crate) fn upgraded(&self, secret: &str, is_random: bool) -> Option<Self> {
        let Scheme::Legacy(hash) = &self.0 else { return None };
        if !super::legacy::covers(hash, secret) {
            return None;
        }
        let random = is_random.then(|| ClientSecret::assume_random(secret).ok()).flatten();
        random.map_or_else(|| ClientSecret::new(secret), Ok).ok()?.to_stored().ok()
    }

    /// Returns the SHA-256 digest of the secret, or `None` if this is a slow hash.
    pub(crate) fn as_digest(&self) -> Option<[u8; 32]> {
        #[allow(irrefutable_let_patterns)] // without features there is no other scheme
        if let Scheme::Sha256(digest) = self.0 { Some(digest) } else { None }
    }

    /// Returns the text form, for a database or a file.
    #[must_use]
    pub fn to_phc_string(&self) -> String {
        match &self.0 {
            Scheme::Sha256(digest) => format!("{SHA256}{}", STANDARD_NO_PAD.encode(digest)),
            #[cfg(feature = "argon2")]
            Scheme::Argon2(hash) => hash.to_string(),
            #[cfg(feature = "legacy_hashes")]
            Scheme::Legacy(hash) => hash.to_string(),
        }
    }
}

const SHA256: &str = "$sha256$";

impl FromStr for StoredSecret {
    type Err = SecretError;

    /// Returns an error if the text is not a supported digest or hash, for example a secret in plain text.
    fn from_str(text: &str) -> Result<Self, SecretError> {
        if let Some(digest) = text.strip_prefix(SHA256) {
            let digest = STANDARD_NO_PAD.decode(digest).ok().and_then(|digest| digest.try_into().ok());
            return digest.map(|digest| Self(Scheme::Sha256(digest))).ok_or_else(|| {
                SecretError::malformed("invalid digest: use `$sha256$` and the 32 bytes of the digest in base64 with the standard alphabet (`+` and `/`) and without `=`; hexadecimal is not accepted")
            });
        }
        #[cfg(feature = "argon2")]
        if let Some(checked) = super::argon2::check(text) {
            return checked.map(|()| Self(Scheme::Argon2(text.into()))).map_err(SecretError::malformed);
        }
        #[cfg(feature = "legacy_hashes")]
        if let Some(checked) = super::legacy::check(text) {
            return checked.map(|()| Self(Scheme::Legacy(text.into()))).map_err(SecretError::malformed);
        }
        Err(SecretError::malformed(
            "unsupported stored secret: use $sha256$…, which is the only form of an API key, with feature `argon2` $argon2id$…, or with feature `legacy_hashes` a \
                 bcrypt or PBKDF2 hash; a secret in plain text is not accepted",
        ))
    }
}

impl TryFrom<ClientSecret> for StoredSecret {
    type Error = SecretError;

    fn try_from(secret: ClientSecret) -> Result<Self, SecretError> {
        secret.to_stored()
    }
}

impl TryFrom<&ClientSecret> for StoredSecret {
    type Error = SecretError;

    fn try_from(secret: &ClientSecret) -> Result<Self, SecretError> {
        secret.to_stored()
    }
}

impl fmt::Debug for StoredSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Scheme::Sha256(_) => "StoredSecret($sha256$…)",
            #[cfg(feature = "argon2")]
            Scheme::Argon2(_) => "StoredSecret($argon2id$…)",
            #[cfg(feature = "legacy_hashes")]
            Scheme::Legacy(_) => "StoredSecret(hash of an older system)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Presented, StoredSecret};
    use crate::secret::ClientSecret;

    #[test]
    fn a_stored_secret_matches_only_its_secret_and_can_be_read_back_from_text() {
        let secret = ClientSecret::generate().unwrap();
        let stored: StoredSecret = secret.to_stored().unwrap().to_phc_string().parse().unwrap();
        assert!(stored.matches(&Presented::new(secret.expose())));
        assert!(!stored.matches(&Presented::new(ClientSecret::generate().unwrap().expose())));
        assert!(!stored.matches(&Presented::new("")));
    }

    #[cfg(feature = "argon2")]
    #[test]
    fn a_chosen_secret_is_salted_and_slow() {
        let secret = ClientSecret::new("correct horse").unwrap();
        let (one, two) = (secret.to_stored().unwrap(), secret.to_stored().unwrap());
        assert_ne!(one.to_phc_string(), two.to_phc_string());
        let stored: StoredSecret = one.to_phc_string().parse().unwrap();
        assert!(stored.is_slow());
        assert!(stored.matches(&Presented::new("correct horse")));
        assert!(!stored.matches(&Presented::new("correct horsf")));
    }

    #[test]
    fn secrets_in_plain_text_and_damaged_digests_are_refused() {
        for text in [
            "hunter2",
            "",
            "$sha256$",
            "$sha256$AAAA",
            "$md5$AAAA",
            "$argon2id$",
            "$argon2i$v=19$m=8,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAAAAAAA",
        ] {
            let error = text.parse::<StoredSecret>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"));
        }
    }

    #[test]
    fn debug_output_contains_only_the_scheme() {
        let stored = ClientSecret::generate().unwrap().to_stored().unwrap();
        assert_eq!(format!("{stored:?}"), "StoredSecret($sha256$…)");
    }
}

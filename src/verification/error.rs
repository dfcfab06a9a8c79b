//! The errors of a verification: "refused" and "could not decide" are two types.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{RefusedToken, VerifiedToken};
use crate::issuer::Issuer;
use crate::named::named;
use crate::revocation::NotCleared;

/// The result of a verification.
pub(crate) type Verified = Result<VerifiedToken, VerifyError>;

/// The reason why there is no [`VerifiedToken`](crate::verification::VerifiedToken).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The token is invalid: 401.
    #[error(transparent)]
    Refused(#[from] RefusedToken),
    /// The token could not be checked: 503.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl From<NotCleared> for VerifyError {
    fn from(error: NotCleared) -> Self {
        match error {
            NotCleared::Revoked => InvalidToken::Revoked.into(),
            NotCleared::Unknown(why) => Unavailable::new(UnavailableKind::Revocations).because(Arc::new(why)).into(),
        }
    }
}

impl From<InvalidToken> for VerifyError {
    fn from(reason: InvalidToken) -> Self {
        RefusedToken::from(reason).into()
    }
}

named! {
    /// The check that a token failed; [`RefusedToken`] adds the value. Callers are told only `invalid_token`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
    #[non_exhaustive]
    pub enum InvalidToken {
        /// The token is longer than 16 KiB.
        #[error("it is longer than 16 KiB, and no setting accepts that")]
        TooLong = "too_long",
        /// The token does not consist of three parts in base64url.
        #[error("it is not a JWS in compact form: three parts in base64url, separated by dots (RFC 7515 §7.1)")]
        Malformed = "malformed",
        /// The header is not a JOSE header.
        #[error("its header is malformed: expected a JSON object with `alg`, and with strings for `alg`, `typ` and `kid`")]
        Header = "header",
        /// `typ` is not `at+jwt`, or the `token_type` of an introspection response is not `Bearer`.
        #[error("its type is not that of a bearer access token")]
        Type = "type",
        /// `crit` requires an extension.
        #[error(
            "its header requires a critical extension: `crit` is present, and no setting accepts that (RFC 7515 §4.1.11)"
        )]
        Critical = "critical",
        /// `jku`, `jwk` or `x5u` contains a key or the URL of one.
        #[error("its header contains a key or the URL of one")]
        ForeignKey = "foreign_key",
        /// `kid` is not the name of a trusted key.
        #[error("its key is unknown")]
        UnknownKey = "unknown_key",
        /// `alg` is not the algorithm of the key.
        #[error("its algorithm differs from that of its key")]
        Algorithm = "algorithm",
        /// The signature does not match the key.
        #[error("its signature does not match the key that `kid` names")]
        Signature = "signature",
        /// A claim of RFC 9068 is missing, occurs twice, or has another type.
        #[error("invalid claims for a JWT access token")]
        Claims = "claims",
        /// `cnf` binds the token to a key or certificate (RFC 7800), and the verifier does not check that the caller has it.
        #[error("it is bound to a key or certificate, which is not checked here")]
        Bound = "bound",
        /// `iss` names another issuer.
        #[error("it is from another issuer")]
        Issuer = "issuer",
        /// `aud` does not name this API.
        #[error("it is for another audience")]
        Audience = "audience",
        /// The authorization server reports that the token is not active (RFC 7662 §2.2).
        #[error("the authorization server reports it as not active")]
        Inactive = "inactive",
        /// `exp` is in the past.
        #[error("it has expired")]
        Expired = "expired",
        /// `nbf` or `iat` is in the future.
        #[error("it is not valid yet")]
        NotYetValid = "not_yet_valid",
        /// The token was revoked, or all tokens of its client or key were.
        #[error("it was revoked")]
        Revoked = "revoked",
    }

    /// Returns a short name that never changes, for a metric's label or for `error.type` in a trace.
    pub const fn name();
}

/// A required part did not answer, so the token could not be checked. The answer is a 503 with `Retry-After`, never a
/// refusal, and the request is never admitted. The text is for the operator and names the part. The
/// [`source`](Error::source) is the cause.
#[derive(Clone, Debug)]
pub struct Unavailable {
    kind: UnavailableKind,
    /// 32 bits, which leaves room for the issuer without enlarging the error.
    retry_after: u32,
    issuer: Option<Arc<Issuer>>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

named! {
    /// The part that did not answer.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    #[non_exhaustive]
    pub enum UnavailableKind {
        /// The issuer must be asked first, and [`Verifier::verify_now`](crate::verification::Verifier::verify_now) sends no
        /// requests.
        NotAsked = "not_asked",
        /// The issuer's keys: they were not fetched yet, or they are too old. Also those of a [managed
        /// ring](crate::keys::rotation), if this process has not reached the key store for too long.
        Keys = "keys",
        /// The issuer's keys: they are available, but none has the name in the token. It may be a new key. The keys were fetched
        /// too recently to fetch them again, or the fetch failed.
        ///
        /// A caller can cause this with a random `kid`, so it says nothing about the health of this service. The documentation of
        /// `keys::remote` (feature `remote`) shows how to exclude it from outlier detection.
        UnknownKey = "unknown_key",
        /// The introspection endpoint (RFC 7662): it cannot be reached, or answers for no token.
        Introspection = "introspection",
        /// The introspection endpoint: it did not answer for this token, or too many others are being asked about, while it
        /// answers for others.
        ///
        /// A caller can cause this with a token of its choice, so it says nothing about the health of this service. The
        /// documentation of `keys::remote` (feature `remote`) shows how to exclude it from outlier detection.
        UnansweredToken = "unanswered_token",
        /// The view of the [revocations](crate::revocation): it is too old, or full.
        Revocations = "revocations",
        /// A part that a [policy](crate::resource_server::BearerAuthLayer::policy) needs.
        Policy = "policy",
    }

    /// Returns a short name that never changes, for a metric's label or for `error.type` in a trace.
    pub const fn name();
}

/// The default of `Retry-After`, in seconds.
const RETRY_AFTER_SECONDS: u32 = 1;

impl Unavailable {
    pub(crate) fn new(kind: UnavailableKind) -> Self {
        Self { kind, retry_after: RETRY_AFTER_SECONDS, issuer: None, source: None }
    }

    /// Creates the error of a [policy](crate::resource_server::BearerAuthLayer::policy) that cannot decide. `source` is the
    /// cause.
    pub fn by_policy(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(UnavailableKind::Policy).because(Arc::from(source.into()))
    }

    /// Sets the issuer that did not answer.
    #[cfg(feature = "remote")]
    pub(crate) fn with_issuer(self, issuer: Arc<Issuer>) -> Self {
        Self { issuer: Some(issuer), ..self }
    }

    /// Sets the cause, for the operator.
    pub(crate) fn because(self, source: Arc<dyn Error + Send + Sync>) -> Self {
        Self { source: Some(source), ..self }
    }

    /// Sets when the caller may try again. 1 s by default, which is also the minimum. A fraction of a second is rounded up, so
    /// that the caller does not retry too early.
    #[must_use]
    pub fn retry_after(mut self, time: Duration) -> Self {
        let seconds = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
        self.retry_after = u32::try_from(seconds).unwrap_or(u32::MAX).max(RETRY_AFTER_SECONDS);
        self
    }

    /// Returns the part that did not answer.
    #[must_use]
    pub fn kind(&self) -> UnavailableKind {
        self.kind
    }

    /// Returns when the caller may try again, in seconds: the `Retry-After` of the answer.
    #[must_use]
    pub fn retry_after_seconds(&self) -> u64 {
        self.retry_after.into()
    }

    /// Returns the issuer that did not answer, if the error concerns one. A log message per fetch contains the cause.
    #[must_use]
    pub fn issuer(&self) -> Option<&Issuer> {
        self.issuer.as_deref()
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            UnavailableKind::NotAsked => "the issuer must be asked first",
            UnavailableKind::Keys => "the issuer's keys are unavailable",
            UnavailableKind::UnknownKey => {
                "the token names a key that is not in the issuer's set, which cannot be fetched again yet"
            }
            UnavailableKind::Introspection => "the introspection endpoint is unavailable",
            UnavailableKind::UnansweredToken => "the introspection endpoint did not answer for this token",
            UnavailableKind::Revocations => "the revocations are unavailable",
            UnavailableKind::Policy => "the policy cannot decide",
        })
    }
}

impl Error for Unavailable {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

/// Compares what a caller could observe; the sources are not compared.
impl PartialEq for Unavailable {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, self.retry_after) == (other.kind, other.retry_after)
    }
}

impl Eq for Unavailable {}

#[cfg(test)]
mod tests {
    use std::error::Error as _;
    use std::time::Duration;

    use super::{Unavailable, UnavailableKind};

    #[test]
    fn retry_after_is_in_whole_seconds_and_at_least_one() {
        let seconds = |time| Unavailable::new(UnavailableKind::Keys).retry_after(time).retry_after_seconds();
        let times = [0, 1, 1_000, 1_001, 2_000, 30_000].map(Duration::from_millis);
        assert_eq!(times.map(seconds), [1, 1, 1, 2, 2, 30]);
        assert_eq!(seconds(Duration::MAX), u64::from(u32::MAX));
        assert_eq!(Unavailable::new(UnavailableKind::Keys).retry_after_seconds(), 1);
    }

    #[test]
    fn two_errors_are_equal_if_a_caller_cannot_distinguish_them() {
        let keys = || Unavailable::new(UnavailableKind::Keys);
        assert_eq!(keys(), keys().because(std::sync::Arc::from(Box::from("for the operator"))));
        assert_ne!(keys(), Unavailable::new(UnavailableKind::Revocations));
        assert_ne!(keys(), keys().retry_after(Duration::from_secs(5)));
    }

    #[test]
    fn the_error_names_the_part_that_did_not_answer_and_keeps_the_cause() {
        let error = Unavailable::by_policy("the directory is down");
        assert_eq!(error.to_string(), "the policy cannot decide");
        assert_eq!(error.source().unwrap().to_string(), "the directory is down");
        assert!(error.issuer().is_none());
        #[cfg(feature = "remote")]
        {
            let issuer: crate::issuer::Issuer = "https://auth.example.com".parse().unwrap();
            let error = Unavailable::new(UnavailableKind::Keys).with_issuer(std::sync::Arc::new(issuer.clone()));
            assert_eq!(error.issuer(), Some(&issuer));
        }
    }
}

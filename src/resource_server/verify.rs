//! [`Verifier`]: a token's text → [`VerifiedToken`].

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::jws::{Header, Jws, decode};
use super::trusted_issuer::TrustedIssuer;
use super::{InvalidToken, UndecidedKind, VerifiedToken, VerifyError};
use crate::audience::Audience;
use crate::clock::Clock;
use crate::issuer::Issuer;
use crate::keys::TrustedKeys;

/// Verifies the tokens of one issuer for one audience; a clone is the same verifier.
///
/// It comes from [`AuthorizationServer::verifier`](crate::AuthorizationServer::verifier), and usually goes into a
/// [`BearerAuthLayer`](super::BearerAuthLayer). For tokens that arrive by another way than HTTP, it verifies by
/// itself:
///
/// ```
/// # use tower_client_credentials::{AuthorizationServer, KeyRing, MemoryStore};
/// # let server = AuthorizationServer::new("https://auth.example.com", KeyRing::generate()?, MemoryStore::default())?;
/// let verifier = server.verifier("https://api.example.com")?;
/// let error = verifier.verify_now("a.b.c").unwrap_err();
/// assert_eq!(error.to_string(), "it is not a JWS in compact form");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Verifier {
    issuer: TrustedIssuer,
}

/// What verification comes to.
pub(super) type Verified = Result<VerifiedToken, VerifyError>;

/// What can be said of a token at once.
pub(super) enum Verification {
    Done(Verified),
    /// Somebody has to be asked.
    Waiting(PendingVerification),
}

pub(super) type PendingVerification = Pin<Box<dyn Future<Output = Verified> + Send>>;

impl Verifier {
    pub(crate) fn new(issuer: Issuer, audience: Audience, keys: TrustedKeys, clock: Arc<dyn Clock>) -> Self {
        Self { issuer: TrustedIssuer::new(issuer, audience, keys, clock) }
    }

    /// How far the issuer's clock may differ from ours, in whole seconds: 5 by default, 5 minutes at most, and more is
    /// taken for that. It applies to `exp`, `nbf` and `iat`.
    #[must_use]
    pub fn leeway(self, leeway: Duration) -> Self {
        Self { issuer: self.issuer.leeway(leeway) }
    }

    /// The audience that tokens must be for.
    #[must_use]
    pub fn audience(&self) -> &Audience {
        self.issuer.audience()
    }

    pub(super) fn now(&self) -> SystemTime {
        self.issuer.now()
    }

    /// Whether a token that this issuer was trusted with would be good here, too.
    pub(super) fn trusts_as(&self, issuer: &TrustedIssuer) -> bool {
        self.issuer.checks_the_same_as(issuer)
    }

    /// Verifies a token: a JWS in compact form, `typ: at+jwt`, signed by a trusted key, from the issuer, for the
    /// audience, in its time. It waits only where somebody has to be asked, for a key that is not here yet for instance.
    ///
    /// # Errors
    ///
    /// The first check that fails: [refused](VerifyError::Refused), or [not decided](VerifyError::Undecided). Its text
    /// is for the operator; tell the caller no more than "invalid", or "try again".
    pub async fn verify(&self, token: &str) -> Result<VerifiedToken, VerifyError> {
        match self.verify_now(token) {
            Err(VerifyError::Undecided(undecided)) if undecided.kind() == UndecidedKind::NotAsked => {
                self.ask(token).await
            }
            verified => verified,
        }
    }

    /// Verifies a token as [`verify`](Self::verify) does, by what is known already: it neither waits nor asks.
    ///
    /// # Errors
    ///
    /// As for [`verify`](Self::verify); besides, [`UndecidedKind::NotAsked`] where that would ask somebody.
    pub fn verify_now(&self, token: &str) -> Result<VerifiedToken, VerifyError> {
        let jws = Jws::split(token)?;
        let header = decode(jws.header)?;
        self.issuer.verify(token, &jws, &Header::parse(&header)?)
    }

    /// As [`verify`](Self::verify), allocating for the wait only where there is one.
    pub(super) fn begin(&self, token: &str) -> Verification {
        match self.verify_now(token) {
            Err(VerifyError::Undecided(undecided)) if undecided.kind() == UndecidedKind::NotAsked => {
                let (verifier, token) = (self.clone(), token.to_owned());
                Verification::Waiting(Box::pin(async move { verifier.ask(&token).await }))
            }
            verified => Verification::Done(verified),
        }
    }

    /// Asks whom [`verify_now`](Self::verify_now) would have to, and decides.
    #[expect(clippy::unused_async, reason = "keys elsewhere will be asked for here")]
    async fn ask(&self, token: &str) -> Verified {
        self.verify_now(token)
    }

    /// Checks again what can change. Every proof that is used twice comes through here.
    pub(super) fn still_good(&self, token: &VerifiedToken) -> Result<(), VerifyError> {
        match token.proven_by() {
            Some((_, key)) => self.issuer.still_good(token.parsed_claims(), key),
            None => Err(InvalidToken::UnknownKey.into()),
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

//! [`Verifier`]: verifies the text of a token and returns a [`VerifiedToken`].

mod readiness;
mod settings;

use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use tracing::Instrument as _;

#[cfg(feature = "remote")]
use super::introspection::{Asked, Introspector};
use super::jws::Jws;
use super::refused_token::{listed, quoted};
use super::token_cache::TokenCache;
use super::trusted_issuer::TrustedIssuer;
use super::{InvalidToken, RefusedToken, UnavailableKind, Verified, VerifiedToken, VerifyError};
use crate::audience::Audience;
use crate::clock::Clock;
use crate::debug_fields::debug_fields;
use crate::keys::FoundKey;
use crate::revocation::Revocations;
use crate::{metrics, telemetry};

/// Verifies the tokens of one issuer for one audience, or of [several issuers](Self::or). Clones share one verifier.
///
/// | the issuer | the verifier comes from |
/// |---|---|
/// | in this process | [`AuthorizationServer::verifier`](crate::AuthorizationServer::verifier) |
/// | elsewhere, by its URL or that of its keys | `RemoteIssuer`, feature `remote` |
/// | elsewhere, with fixed keys | [`Verifier::with_keys`] |
/// | elsewhere, whose tokens are opaque | `Introspection`, feature `remote` |
///
/// It is usually passed to a [`BearerAuthLayer`](crate::resource_server::BearerAuthLayer). It can also verify tokens that do
/// not arrive by HTTP:
///
/// ```
/// # use tower_client_credentials::{AuthorizationServer, KeyRing, MemoryStore};
/// # let server = AuthorizationServer::new("https://auth.example.com", KeyRing::generate()?, MemoryStore::default())?;
/// let verifier = server.verifier("https://api.example.com")?;
/// let error = verifier.verify_now("a.b.c").unwrap_err();
/// assert!(error.to_string().starts_with("it is not a JWS in compact form"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use = "a setting returns the changed verifier"]
pub struct Verifier {
    audience: Audience,
    clock: Arc<dyn Clock>,
    issuers: Arc<[TrustedIssuer]>,
    #[cfg(feature = "remote")]
    opaque: Option<Introspector>,
    pub(super) cache: Option<Arc<TokenCache>>,
}

/// The result of a verification, or the wait for it.
pub(crate) enum Verification {
    Done(Verified),
    /// An issuer must be asked first.
    Waiting(PendingVerification),
}

pub(crate) type PendingVerification = Pin<Box<dyn Future<Output = Verified> + Send>>;

impl Verifier {
    pub(crate) fn now(&self) -> SystemTime {
        self.clock.now()
    }

    /// Returns the revocations that are checked, of all issuers.
    pub(crate) fn revoked(&self) -> impl Iterator<Item = &Revocations> {
        self.issuers().filter_map(TrustedIssuer::revoked)
    }

    pub(super) fn issuers(&self) -> impl Iterator<Item = &TrustedIssuer> {
        self.issuers.iter()
    }

    #[cfg(all(test, feature = "remote"))]
    pub(crate) fn remote_keys(&self) -> Option<&crate::keys::remote::RemoteKeys> {
        self.issuers.first()?.remote_keys()
    }

    pub(super) fn named(&self, name: &str) -> Option<&TrustedIssuer> {
        self.issuers().find(|issuer| issuer.name() == name)
    }

    /// Returns the issuer that a token claims. If there is only one, its own checks compare the `iss`.
    fn issuer_of(&self, jws: &Jws<'_>) -> Result<&TrustedIssuer, RefusedToken> {
        match &*self.issuers {
            [only] if !self.may_ask() => Ok(only),
            _ => {
                let issuer = jws.unverified_issuer()?;
                self.named(&issuer).ok_or_else(|| self.unknown_issuer(&issuer))
            }
        }
    }

    #[cold]
    fn unknown_issuer(&self, issuer: &str) -> RefusedToken {
        let (found, expected) = (quoted(issuer), listed(self.issuers().map(TrustedIssuer::name)));
        let detail = format!(
            "`iss` is {found}, expected one of {expected}, compared character by character; \
             `Verifier::or` adds the verifier of another issuer"
        );
        RefusedToken::because(InvalidToken::Issuer, detail)
    }

    #[cfg(feature = "remote")]
    pub(crate) fn may_ask(&self) -> bool {
        self.opaque.is_some()
    }

    #[cfg(not(feature = "remote"))]
    #[expect(clippy::unused_self, reason = "same signature as with the feature `remote`")]
    pub(crate) fn may_ask(&self) -> bool {
        false
    }

    /// Returns the introspection endpoint for a token that claims none of the issuers.
    #[cfg(feature = "remote")]
    fn introspector_of(&self, token: &str) -> Option<&Introspector> {
        let introspector = self.opaque.as_ref()?;
        let issuer = Jws::split(token).and_then(|jws| jws.unverified_issuer());
        let is_ours = issuer.is_ok_and(|issuer| self.named(&issuer).is_some());
        (!is_ours).then_some(introspector)
    }

    /// Returns the introspector of this verifier, if it is the one that was asked.
    #[cfg(feature = "remote")]
    pub(super) fn introspector(&self, asked: &Asked) -> Option<&Introspector> {
        self.opaque.as_ref().filter(|own| own.ptr_eq(asked))
    }

    /// Returns whether a token that this issuer verified is valid for this verifier, too.
    pub(super) fn trusts_as(&self, issuer: &TrustedIssuer) -> bool {
        self.issuers().any(|own| own.checks_the_same_as(issuer))
    }

    /// Verifies a token: a JWS in compact form, with `typ: at+jwt`, signed by a trusted key, from the issuer, for the audience,
    /// within its lifetime. It waits only if an issuer must be asked, for example for a new key.
    ///
    /// # Errors
    ///
    /// The first check that fails: [refused](VerifyError::Refused) or [unavailable](VerifyError::Unavailable). The text is for the
    /// operator; tell the caller only "invalid" or "try again".
    pub async fn verify(&self, token: &str) -> Result<VerifiedToken, VerifyError> {
        match self.verify_now(token) {
            Err(VerifyError::Unavailable(unavailable)) if unavailable.kind() == UnavailableKind::NotAsked => {
                self.ask(token).await
            }
            verified => verified,
        }
    }

    /// Verifies a token like [`verify`](Self::verify), but neither waits nor sends requests.
    ///
    /// # Errors
    ///
    /// As for [`verify`](Self::verify), and [`UnavailableKind::NotAsked`] if that would ask the issuer: about a missing key or,
    /// rarely, about a signature that does not match the available key.
    pub fn verify_now(&self, token: &str) -> Result<VerifiedToken, VerifyError> {
        self.remembered(token.as_bytes()).unwrap_or_else(|| self.verify_and_remember(token))
    }

    fn verify_and_remember(&self, token: &str) -> Verified {
        self.verify_anew(token).map(|verified| self.remember(verified))
    }

    /// Caches a verified token. Refused tokens are never cached, so invalid ones evict nothing.
    fn remember(&self, verified: VerifiedToken) -> VerifiedToken {
        match &self.cache {
            // Introspected tokens are cached with the other introspection responses.
            Some(cache) if verified.proven_by().is_some() => cache.keep(&verified),
            _ => {}
        }
        verified
    }

    fn verify_anew(&self, token: &str) -> Verified {
        #[cfg(feature = "remote")]
        if let Some(introspector) = self.introspector_of(token) {
            return introspector.look_up(token);
        }
        let jws = Jws::split(token)?;
        self.issuer_of(&jws)?.verify(token, &jws)
    }

    /// Returns the result for a cached token, or `None` if it must be verified again.
    fn remembered(&self, token: &[u8]) -> Option<Verified> {
        let cache = self.cache.as_ref()?;
        let found = cache.find(token);
        metrics::token_looked_up(found.is_some());
        let found = found?;
        let (own, key) = self.prover_of(&found)?;
        match own.still_good(found.parsed_claims(), key) {
            Ok(()) => Some(Ok(found)),
            // Its key was removed or renamed, so all tokens with the same key and name are removed.
            Err(VerifyError::Refused(refused)) if refused.reason() == InvalidToken::UnknownKey => {
                cache.forget(|other| other.is_signed_as(&found));
                None
            }
            // The entry stays, so that the next use is refused as cheaply.
            Err(error) => Some(Err(error)),
        }
    }

    #[cfg(test)]
    pub(crate) fn remembers(&self, token: &str) -> bool {
        self.cache.as_ref().is_some_and(|cache| cache.find(token.as_bytes()).is_some())
    }

    /// Verifies a token like [`verify`](Self::verify), and allocates a future only if it must wait. `text` converts the token
    /// to text, which is not needed for a cached token.
    pub(crate) fn begin<'a, E>(&self, token: &[u8], text: impl Fn() -> Result<&'a str, E>) -> Result<Verification, E> {
        let outcome = match self.remembered(token) {
            Some(verified) => verified,
            None => self.verify_and_remember(text()?),
        };
        Ok(match outcome {
            Err(VerifyError::Unavailable(unavailable)) if unavailable.kind() == UnavailableKind::NotAsked => {
                let (verifier, token) = (self.clone(), text()?.to_owned());
                let asking = async move { verifier.ask(&token).await };
                Verification::Waiting(Box::pin(asking.instrument(telemetry::verification())))
            }
            verified => Verification::Done(verified),
        })
    }

    /// Sends the requests that [`verify_now`](Self::verify_now) does not, and decides.
    #[cfg(feature = "remote")]
    async fn ask(&self, token: &str) -> Verified {
        if let Some(introspector) = self.introspector_of(token) {
            return introspector.ask(token).await;
        }
        let jws = Jws::split(token)?;
        self.issuer_of(&jws)?.verify_later(token, &jws).await.map(|verified| self.remember(verified))
    }

    /// Without the feature `remote`, no verification needs a request.
    #[cfg(not(feature = "remote"))]
    #[expect(clippy::unused_async, reason = "same signature as with the feature `remote`")]
    async fn ask(&self, token: &str) -> Verified {
        self.verify_and_remember(token)
    }

    /// Checks again what can change. Every further use of a proof calls this.
    pub(crate) fn still_good(&self, token: &VerifiedToken) -> Result<(), VerifyError> {
        #[cfg(feature = "remote")]
        if let Some(introspector) = token.asked().and_then(|asked| self.introspector(asked)) {
            return introspector.still_good(token.parsed_claims());
        }
        let (own, key) = self.prover_of(token).ok_or(InvalidToken::Issuer)?;
        own.still_good(token.parsed_claims(), key)
    }

    /// Returns the issuer of this verifier whose checks a token has passed, and the key that signed the token.
    fn prover_of<'a>(&'a self, token: &'a VerifiedToken) -> Option<(&'a TrustedIssuer, &'a FoundKey)> {
        let (issuer, key) = token.proven_by()?;
        Some((self.issuers().find(|own| own.checks_the_same_as(issuer))?, key))
    }
}

debug_fields!(Verifier { issuers });

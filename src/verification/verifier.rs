//! [`Verifier`]: verifies the text of a token and returns a [`VerifiedToken`].

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use tracing::Instrument as _;

#[cfg(feature = "remote")]
use super::introspection::{Asked, Introspector};
use super::jws::Jws;
use super::refused_token::{listed, quoted};
use super::token_cache::TokenCache;
use super::trusted_issuer::TrustedIssuer;
use super::{InvalidToken, RefusedToken, TokenProfile, UnavailableKind, Verified, VerifiedToken, VerifyError};
use crate::audience::{Audience, InvalidAudience};
use crate::clock::{Clock, SystemClock};
use crate::issuer::{InvalidIssuer, Issuer};
use crate::keys::{FoundKey, KeySet, TrustedKeys};
use crate::revocation::Revocations;
use crate::uri::PlainHttp;
use crate::{metrics, telemetry};

/// The default number of cached tokens, and the default of their memory. Usual tokens (up to 1,000 bytes of text, as with RS256
/// and a few scopes) take up to 2.5 KiB, so both bounds are reached at about the same time.
const REMEMBERED: usize = 10_000;
const REMEMBERED_BYTES: usize = 24 * 1024 * 1024;

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
    pub(crate) fn new(issuer: Issuer, audience: Audience, keys: TrustedKeys, clock: Arc<dyn Clock>) -> Self {
        let trusted = TrustedIssuer::new(issuer, audience.clone(), keys, clock.clone());
        Self {
            audience,
            clock,
            issuers: Arc::new([trusted]),
            #[cfg(feature = "remote")]
            opaque: None,
            cache: None,
        }
        .cache(REMEMBERED, REMEMBERED_BYTES)
    }

    #[cfg(feature = "remote")]
    pub(super) fn of_opaque_tokens(audience: Audience, clock: Arc<dyn Clock>, introspector: Introspector) -> Self {
        Self { audience, clock, issuers: Arc::default(), opaque: Some(introspector), cache: None }
    }

    /// Creates a verifier of the tokens that `issuer` signs with these keys, for `audience`: an issuer in another process, with
    /// fixed keys. Nothing is fetched, so the issuer may have plain `http` with any host.
    ///
    /// # Errors
    ///
    /// If the issuer or the audience is invalid.
    ///
    /// ```
    /// use tower_client_credentials::keys::{KeySet, VerifyingKey};
    /// use tower_client_credentials::Verifier;
    ///
    /// # let pem = include_str!("../../tests/keys/p256.pub.pem");
    /// let keys = KeySet::from([VerifyingKey::from_pem(pem)?]);
    /// let verifier = Verifier::with_keys("https://auth.example.com", "https://api.example.com", keys)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_keys(issuer: impl AsRef<str>, audience: impl AsRef<str>, keys: KeySet) -> Result<Self, VerifierError> {
        // Nothing is fetched from the issuer: it is only compared with `iss`.
        let issuer = Issuer::new(issuer.as_ref(), PlainHttp::AnyHost)?;
        let audience = audience.as_ref().parse()?;
        Ok(Self::new(issuer, audience, TrustedKeys::Set(keys), Arc::new(SystemClock)))
    }

    /// Also verifies the tokens of another issuer. The `iss` of a token selects the issuer whose keys, audience and settings
    /// apply. An introspection endpoint is asked about tokens with any other `iss`, and about tokens that are not JWTs. The
    /// realm of a challenge is the audience of the first issuer.
    ///
    /// # Errors
    ///
    /// If both have an issuer in common, or both ask an introspection endpoint.
    pub fn or(mut self, other: Self) -> Result<Self, VerifierError> {
        if let Some(twice) = other.issuers().find(|issuer| self.named(issuer.name()).is_some()) {
            return Err(VerifierError::IssuerTwice(twice.name().to_owned()));
        }
        self.issuers = self.issuers().chain(other.issuers()).cloned().collect();
        self.cache = self.cache.or(other.cache);
        #[cfg(feature = "remote")]
        match (&self.opaque, other.opaque) {
            (Some(_), Some(_)) => return Err(VerifierError::IntrospectionTwice),
            (None, Some(introspector)) => self.opaque = Some(introspector),
            _ => {}
        }
        Ok(self.map(|issuer| issuer))
    }

    /// Sets how far the issuer's clock may differ from this one, in whole seconds. 5 by default and at most 5 minutes: a larger
    /// value counts as 5 minutes. It applies to `exp`, `nbf` and `iat`.
    #[must_use]
    pub fn leeway(self, leeway: Duration) -> Self {
        self.map(|issuer| issuer.leeway(leeway))
    }

    /// Refuses revoked tokens. Off by default, except that a verifier from a server with
    /// [revocations](crate::authorization_server::AuthorizationServerBuilder::revocations) already has them.
    ///
    /// Revocations concern the clients, tokens and keys of one issuer, so set them on each verifier before
    /// [joining](Self::or) several. A key is identified by its thumbprint (RFC 7638), independent of the issuer's name for it.
    ///
    /// They have no effect on opaque tokens: the introspection endpoint decides whether those are revoked.
    #[must_use]
    pub fn revocations(self, revocations: Revocations) -> Self {
        self.map(|issuer| issuer.revocations(revocations.clone()))
    }

    /// Sets the maximum number of cached tokens and of their bytes. 10,000 and 24 MiB by default; 0 for either is the same as
    /// [`without_cache`](Self::without_cache). Beyond either bound, the second use of a token evicts others at random, and a
    /// token that is used once is not cached. In addition, each core has copies of at most 16 frequent tokens, so that cores do
    /// not wait for each other.
    ///
    /// A cached token is found by its whole text, and its signature is not computed again. Everything that can change is
    /// checked at every use: the time, the audience, the trust in its key, and revocation. Clones share the cache, so create
    /// one verifier per API and clone it. Changing any setting starts with an empty cache.
    #[must_use]
    pub fn cache(mut self, tokens: usize, bytes: usize) -> Self {
        self.cache = (tokens > 0 && bytes > 0).then(|| Arc::new(TokenCache::new(tokens, bytes)));
        self
    }

    /// Turns the cache off: the signature is verified at every use. For measurements, or where 24 MiB are too much.
    #[must_use]
    pub fn without_cache(self) -> Self {
        self.cache(0, 0)
    }

    /// Sets the profile of the tokens, for an issuer that does not follow RFC 9068. It applies to all issuers of this verifier,
    /// so set it on each verifier before [joining](Self::or) them. RFC 9068 by default.
    #[must_use]
    pub fn tokens(self, profile: TokenProfile) -> Self {
        let profile = Arc::new(profile);
        self.map(|issuer| issuer.profile(profile.clone()))
    }

    /// Sets the clock. By default that of the [`AuthorizationServer`](crate::AuthorizationServer) in this process, otherwise
    /// the system clock.
    #[must_use]
    pub fn clock(self, clock: impl Clock) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(clock);
        Self { clock: clock.clone(), ..self.map(|issuer| issuer.clock(clock.clone())) }
    }

    /// Returns a verifier with changed issuers and an empty cache.
    fn map(self, change: impl Fn(TrustedIssuer) -> TrustedIssuer) -> Self {
        let cache = self.cache.as_ref().map(|cache| Arc::new(cache.emptied()));
        Self { issuers: self.issuers.iter().cloned().map(change).collect(), cache, ..self }
    }

    /// Returns the audience that tokens must have; with several issuers, that of the first.
    #[must_use]
    pub fn audience(&self) -> &Audience {
        &self.audience
    }

    /// Returns whether the tokens of any issuer can be verified. A health check uses it to decide whether a service gets
    /// requests.
    ///
    /// With [several issuers](Self::or), one that is down does not make the service unready for the others: its tokens get 503
    /// until its keys are available. [`readiness`](Self::readiness) shows which one. Always true if the keys of an issuer are
    /// in this process, or if an introspection endpoint is asked.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.readiness().any(|(_, is_ready)| is_ready)
    }

    /// Returns each issuer and whether its tokens can be verified, for an alarm, or for a health check that requires all
    /// issuers. An introspection endpoint is always ready, since it is asked about each token.
    ///
    /// ```
    /// # use tower_client_credentials::{AuthorizationServer, KeyRing, MemoryStore};
    /// # let server = AuthorizationServer::new("https://auth.example.com", KeyRing::generate()?, MemoryStore::default())?;
    /// let verifier = server.verifier("https://api.example.com")?;
    /// let not_ready: Vec<&str> =
    ///     verifier.readiness().filter(|(_, is_ready)| !is_ready).map(|(issuer, _)| issuer).collect();
    /// assert!(not_ready.is_empty(), "no keys yet of {not_ready:?}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn readiness(&self) -> impl Iterator<Item = (&str, bool)> {
        let issuers = self.issuers().map(|issuer| (issuer.name(), issuer.is_ready()));
        issuers.chain(self.introspection_issuer().map(|issuer| (issuer, true)))
    }

    /// Waits until [`is_ready`](Self::is_ready) returns true.
    pub async fn ready(&self) {
        let mut issuers: Vec<_> = self.issuers().map(|issuer| Box::pin(issuer.ready())).collect();
        poll_fn(|cx| {
            let any_is_ready = issuers.iter_mut().any(|issuer| issuer.as_mut().poll(cx).is_ready());
            if any_is_ready || self.is_ready() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    pub(crate) fn now(&self) -> SystemTime {
        self.clock.now()
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
    fn may_ask(&self) -> bool {
        self.opaque.is_some()
    }

    /// Returns the issuer whose introspection endpoint is asked.
    #[cfg(feature = "remote")]
    fn introspection_issuer(&self) -> Option<&str> {
        self.opaque.as_ref().map(Introspector::issuer)
    }

    #[cfg(not(feature = "remote"))]
    #[expect(clippy::unused_self, reason = "same signature as with the feature `remote`")]
    fn introspection_issuer(&self) -> Option<&str> {
        None
    }

    #[cfg(not(feature = "remote"))]
    #[expect(clippy::unused_self, reason = "same signature as with the feature `remote`")]
    fn may_ask(&self) -> bool {
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

    /// Without the feature `remote`, no one can be asked.
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

    /// Returns the issuer of this verifier that verified a token or would have, and the key that signed it.
    fn prover_of<'a>(&'a self, token: &'a VerifiedToken) -> Option<(&'a TrustedIssuer, &'a FoundKey)> {
        let (issuer, key) = token.proven_by()?;
        Some((self.issuers().find(|own| own.checks_the_same_as(issuer))?, key))
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("issuers", &self.issuers).finish_non_exhaustive()
    }
}

/// The settings of a verifier are invalid; the text says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifierError {
    /// The issuer is invalid.
    #[error(transparent)]
    Issuer(#[from] InvalidIssuer),
    /// The audience is invalid.
    #[error(transparent)]
    Audience(#[from] InvalidAudience),
    /// Two verifiers have the same issuer.
    #[error("duplicate issuer `{0}`; use a separate layer for the second verifier")]
    IssuerTwice(String),
    /// Two verifiers have introspection endpoints.
    #[error(
        "two introspection endpoints, and an opaque token does not name its own; use a separate layer for the second verifier"
    )]
    IntrospectionTwice,
}

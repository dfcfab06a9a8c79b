//! [`Verifier`]: a token's text → [`VerifiedToken`].

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
use super::{InvalidToken, RefusedToken, TokenProfile, UndecidedKind, Verified, VerifiedToken, VerifyError};
use crate::audience::{Audience, InvalidAudience};
use crate::clock::{Clock, SystemClock};
use crate::issuer::{InvalidIssuer, Issuer};
use crate::keys::{FoundKey, KeySet, TrustedKeys};
use crate::revocation::Revocations;
use crate::uri::PlainHttp;
use crate::{metrics, telemetry};

/// The default number of verified tokens that are remembered, and the default of the memory for them. Usual tokens (a text of up
/// to 1,000 bytes, as with RS256 and a few scopes) take up to 2.5 KiB, so both bounds are reached at once.
const REMEMBERED: usize = 10_000;
const REMEMBERED_BYTES: usize = 24 * 1024 * 1024;

/// Verifies the tokens of one issuer for one audience, or of [several](Self::or); a clone is the same verifier.
///
/// | the issuer | the verifier comes from |
/// |---|---|
/// | in this process | [`AuthorizationServer::verifier`](crate::AuthorizationServer::verifier) |
/// | elsewhere, by its URL or that of its keys | `RemoteIssuer`, feature `remote` |
/// | elsewhere, with fixed keys | [`Verifier::with_keys`] |
/// | elsewhere, whose tokens are opaque | `Introspection`, feature `remote` |
///
/// It usually goes into a [`BearerAuthLayer`](crate::resource_server::BearerAuthLayer). For tokens that arrive by another way than HTTP,
/// it verifies by itself:
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

/// What can be said of a token at once.
pub(crate) enum Verification {
    Done(Verified),
    /// Somebody has to be asked.
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

    /// Verifies the tokens that `issuer` signs by these keys, for `audience`: an issuer elsewhere, whose keys are given
    /// and never change. Since nothing is fetched, the issuer may have plain `http` with any host.
    ///
    /// # Errors
    ///
    /// When the issuer or the audience is none.
    ///
    /// ```
    /// use tower_client_credentials::{KeySet, Verifier, VerifyingKey};
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

    /// Verifies the tokens of another issuer as well: `iss` says which of them a token claims to be from, and that
    /// one's keys, audience and settings then have to prove it. An introspection endpoint is asked about tokens that claim
    /// to be from none of them, or are no JWTs. A challenge has the audience of the first as its realm.
    ///
    /// # Errors
    ///
    /// When both have an issuer in common, or both ask an introspection endpoint.
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

    /// How far the issuer's clock may differ from ours, in whole seconds: 5 by default, 5 minutes at most, and more is
    /// taken for that. It applies to `exp`, `nbf` and `iat`.
    #[must_use]
    pub fn leeway(self, leeway: Duration) -> Self {
        self.map(|issuer| issuer.leeway(leeway))
    }

    /// Refuses what is revoked. A verifier that comes from a server with
    /// [revocations](crate::AuthorizationServerBuilder::revocations) has them already.
    ///
    /// They are about the clients, tokens and keys of one issuer, so give each its own before several are
    /// [put together](Self::or). A key goes by its thumbprint (RFC 7638), whatever its issuer calls it.
    ///
    /// To a verifier of opaque tokens they do nothing: whether those are revoked is what its server is asked.
    #[must_use]
    pub fn revocations(self, revocations: Revocations) -> Self {
        self.map(|issuer| issuer.revocations(revocations.clone()))
    }

    /// Sets how many verified tokens are remembered, and how many bytes they may take: 10,000 and 24 MiB by default; 0 of
    /// either is as [`without_cache`](Self::without_cache). Beyond either bound, a token that is shown for the second time evicts
    /// others, which are chosen at random, and one that is shown once is not remembered. In addition, each core has a copy of at
    /// most 16 frequent tokens, so that cores do not wait for each other.
    ///
    /// A token that is remembered is compared to the letter, and its signature is not computed again. Whatever can change
    /// is checked at every use: the time, the audience, whether its key is still trusted, and whether it was revoked.
    /// Clones share what they remember, so make one verifier for an API and clone that; another setting begins with nothing.
    #[must_use]
    pub fn cache(mut self, tokens: usize, bytes: usize) -> Self {
        self.cache = (tokens > 0 && bytes > 0).then(|| Arc::new(TokenCache::new(tokens, bytes)));
        self
    }

    /// Remembers no token: every signature is verified, whenever it comes. For measurements, and where 24 MiB are too
    /// much to ask.
    #[must_use]
    pub fn without_cache(self) -> Self {
        self.cache(0, 0)
    }

    /// What the tokens are like, for an issuer that does not follow RFC 9068. Of [several issuers](Self::or), tell each
    /// verifier before they are joined: this is for all that are there.
    #[must_use]
    pub fn tokens(self, profile: TokenProfile) -> Self {
        let profile = Arc::new(profile);
        self.map(|issuer| issuer.profile(profile.clone()))
    }

    /// Where the time comes from: that of the [`AuthorizationServer`](crate::AuthorizationServer) in this process, else
    /// the system.
    #[must_use]
    pub fn clock(self, clock: impl Clock) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(clock);
        Self { clock: clock.clone(), ..self.map(|issuer| issuer.clock(clock.clone())) }
    }

    /// Another verifier, which has verified nothing yet.
    fn map(self, change: impl Fn(TrustedIssuer) -> TrustedIssuer) -> Self {
        let cache = self.cache.as_ref().map(|cache| Arc::new(cache.emptied()));
        Self { issuers: self.issuers.iter().cloned().map(change).collect(), cache, ..self }
    }

    /// The audience that tokens must be for; of several issuers, that of the first.
    #[must_use]
    pub fn audience(&self) -> &Audience {
        &self.audience
    }

    /// Returns whether the tokens of any issuer can be verified: the question of a health check before it sends requests to
    /// a service.
    ///
    /// Of [several issuers](Self::or), one that is down does not take the service out of use for the others: its tokens get
    /// 503 until its keys are here. To see which one that is, use [`readiness`](Self::readiness). It is always true if the
    /// keys of an issuer are in this process, or if an introspection endpoint is asked.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.readiness().any(|(_, is_ready)| is_ready)
    }

    /// Returns each issuer, and whether its tokens can be verified: for an alarm, or for a health check that needs all of
    /// them. An introspection endpoint is always ready, since it is asked about each token.
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
        issuers.chain(self.asked_issuer().map(|issuer| (issuer, true)))
    }

    /// Waits until [`is_ready`](Self::is_ready).
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

    /// The issuer that a token claims to be from. Where there is one only, its checks find out.
    fn issuer_of(&self, jws: &Jws<'_>) -> Result<&TrustedIssuer, RefusedToken> {
        match &*self.issuers {
            [only] if !self.asks_anybody() => Ok(only),
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
    fn asks_anybody(&self) -> bool {
        self.opaque.is_some()
    }

    /// Returns the issuer whose introspection endpoint is asked.
    #[cfg(feature = "remote")]
    fn asked_issuer(&self) -> Option<&str> {
        self.opaque.as_ref().map(Introspector::issuer)
    }

    #[cfg(not(feature = "remote"))]
    #[expect(clippy::unused_self, reason = "as with the feature `remote`")]
    fn asked_issuer(&self) -> Option<&str> {
        None
    }

    #[cfg(not(feature = "remote"))]
    #[expect(clippy::unused_self, reason = "as with the feature `remote`")]
    fn asks_anybody(&self) -> bool {
        false
    }

    /// Whom to ask about a token that claims to be from none of the issuers.
    #[cfg(feature = "remote")]
    fn introspector_of(&self, token: &str) -> Option<&Introspector> {
        let introspector = self.opaque.as_ref()?;
        let issuer = Jws::split(token).and_then(|jws| jws.unverified_issuer());
        let is_ours = issuer.is_ok_and(|issuer| self.named(&issuer).is_some());
        (!is_ours).then_some(introspector)
    }

    /// Its own introspector, if that is who was asked.
    #[cfg(feature = "remote")]
    pub(super) fn introspector(&self, asked: &Asked) -> Option<&Introspector> {
        self.opaque.as_ref().filter(|own| own.was(asked))
    }

    /// Whether a token that this issuer was trusted with would be good here, too.
    pub(super) fn trusts_as(&self, issuer: &TrustedIssuer) -> bool {
        self.issuers().any(|own| own.checks_the_same_as(issuer))
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
    /// As for [`verify`](Self::verify); also [`UndecidedKind::NotAsked`] where that would ask the issuer: about a key that is
    /// not here, or, once in a while, about a signature that is not that of the key which is here.
    pub fn verify_now(&self, token: &str) -> Result<VerifiedToken, VerifyError> {
        self.remembered(token.as_bytes()).unwrap_or_else(|| self.verify_and_remember(token))
    }

    fn verify_and_remember(&self, token: &str) -> Verified {
        self.verify_anew(token).map(|verified| self.remember(verified))
    }

    /// Every verification ends here. A token that was refused is not remembered, so that garbage displaces nothing.
    fn remember(&self, verified: VerifiedToken) -> VerifiedToken {
        match &self.cache {
            // The answer of an introspection endpoint is remembered with the other answers.
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

    /// What comes of a token that was verified before; `None` where it has to be verified anew.
    fn remembered(&self, token: &[u8]) -> Option<Verified> {
        let cache = self.cache.as_ref()?;
        let found = cache.find(token);
        metrics::token_looked_up(found.is_some());
        let found = found?;
        let (own, key) = self.prover_of(&found)?;
        match own.still_good(found.parsed_claims(), key) {
            Ok(()) => Some(Ok(found)),
            // Its key is gone, or goes by another name, and all that it signed under this name goes with it.
            Err(VerifyError::Refused(refused)) if refused.reason() == InvalidToken::UnknownKey => {
                cache.forget(|other| other.is_signed_as(&found));
                None
            }
            // It stays, so that who shows it again is refused as cheaply again.
            Err(error) => Some(Err(error)),
        }
    }

    #[cfg(test)]
    pub(crate) fn remembers(&self, token: &str) -> bool {
        self.cache.as_ref().is_some_and(|cache| cache.find(token.as_bytes()).is_some())
    }

    /// Verifies a token as [`verify`](Self::verify) does, and allocates for the wait only if there is one. `text` reads the token
    /// as text, which is not needed for a token that was verified before.
    pub(crate) fn begin<'a, E>(&self, token: &[u8], text: impl Fn() -> Result<&'a str, E>) -> Result<Verification, E> {
        let outcome = match self.remembered(token) {
            Some(verified) => verified,
            None => self.verify_and_remember(text()?),
        };
        Ok(match outcome {
            Err(VerifyError::Undecided(undecided)) if undecided.kind() == UndecidedKind::NotAsked => {
                let (verifier, token) = (self.clone(), text()?.to_owned());
                let asking = async move { verifier.ask(&token).await };
                Verification::Waiting(Box::pin(asking.instrument(telemetry::verification())))
            }
            verified => Verification::Done(verified),
        })
    }

    /// Asks whom [`verify_now`](Self::verify_now) would have to, and decides.
    #[cfg(feature = "remote")]
    async fn ask(&self, token: &str) -> Verified {
        if let Some(introspector) = self.introspector_of(token) {
            return introspector.ask(token).await;
        }
        let jws = Jws::split(token)?;
        self.issuer_of(&jws)?.verify_later(token, &jws).await.map(|verified| self.remember(verified))
    }

    /// There is nobody to ask.
    #[cfg(not(feature = "remote"))]
    #[expect(clippy::unused_async, reason = "as with the feature `remote`")]
    async fn ask(&self, token: &str) -> Verified {
        self.verify_and_remember(token)
    }

    /// Checks again what can change. Every proof that is used twice comes through here.
    pub(crate) fn still_good(&self, token: &VerifiedToken) -> Result<(), VerifyError> {
        #[cfg(feature = "remote")]
        if let Some(introspector) = token.asked().and_then(|asked| self.introspector(asked)) {
            return introspector.still_good(token.parsed_claims());
        }
        let (own, key) = self.prover_of(token).ok_or(InvalidToken::Issuer)?;
        own.still_good(token.parsed_claims(), key)
    }

    /// Who of our issuers a token was trusted to, or would have been, and the key that signed it.
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

/// A verifier cannot be made of these settings; the text says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifierError {
    /// The issuer is none.
    #[error(transparent)]
    Issuer(#[from] InvalidIssuer),
    /// The audience is none.
    #[error(transparent)]
    Audience(#[from] InvalidAudience),
    /// Two verifiers for one issuer: nobody could say which of them is to decide.
    #[error("the issuer {0} is there twice; give one verifier to one layer, and another to another")]
    IssuerTwice(String),
    /// Two introspection endpoints: nobody could say which of them knows a token.
    #[error(
        "there are two introspection endpoints, and a token does not say which of them knows it; give each its own layer"
    )]
    IntrospectionTwice,
}

//! The settings of a [`Verifier`].

use std::sync::Arc;
use std::time::Duration;

use super::Verifier;
use crate::audience::Audience;
use crate::clock::{Clock, SystemClock};
use crate::issuer::Issuer;
use crate::keys::{KeySet, TrustedKeys};
use crate::revocation::Revocations;
use crate::uri::PlainHttp;
#[cfg(feature = "remote")]
use crate::verification::introspection::Introspector;
use crate::verification::token_cache::TokenCache;
use crate::verification::trusted_issuer::TrustedIssuer;
use crate::verification::verifier_error::{self, Mistake};
use crate::verification::{TokenProfile, VerifierError};

/// The default number of cached tokens, and the default of their memory. Usual tokens (up to 1,000 bytes of text, as with RS256
/// and a few scopes) take up to 2.5 KiB, so both bounds are reached at about the same time.
const REMEMBERED: usize = 10_000;
const REMEMBERED_BYTES: usize = 24 * 1024 * 1024;

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
    pub(crate) fn of_opaque_tokens(audience: Audience, clock: Arc<dyn Clock>, introspector: Introspector) -> Self {
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
    /// # let pem = include_str!("../../../tests/keys/p256.pub.pem");
    /// let keys = KeySet::from([VerifyingKey::from_pem(pem)?]);
    /// let verifier = Verifier::with_keys("https://auth.example.com", "https://api.example.com", keys)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_keys(issuer: impl AsRef<str>, audience: impl AsRef<str>, keys: KeySet) -> Result<Self, VerifierError> {
        // Nothing is fetched from the issuer: it is only compared with `iss`.
        let issuer = Issuer::new(issuer.as_ref(), PlainHttp::AnyHost)?;
        let audience = verifier_error::audience(audience.as_ref())?;
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
            return Err(Mistake::IssuerTwice(twice.name().to_owned()).into());
        }
        self.issuers = self.issuers().chain(other.issuers()).cloned().collect();
        self.cache = self.cache.or(other.cache);
        #[cfg(feature = "remote")]
        match (&self.opaque, other.opaque) {
            (Some(_), Some(_)) => return Err(Mistake::IntrospectionTwice.into()),
            (None, Some(introspector)) => self.opaque = Some(introspector),
            _ => {}
        }
        Ok(self.map(|issuer| issuer))
    }

    /// Sets how far the clocks of the issuer and of the verifier may differ, in whole seconds. 5 by default and at most 5 minutes: a larger
    /// value counts as 5 minutes. It applies to `exp`, `nbf` and `iat`.
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
    pub fn cache(self, tokens: usize, bytes: usize) -> Self {
        Self { cache: (tokens > 0 && bytes > 0).then(|| Arc::new(TokenCache::new(tokens, bytes))), ..self }
    }

    /// Turns the cache off: the signature is verified at every use. For measurements, or where 24 MiB are too much.
    pub fn without_cache(self) -> Self {
        self.cache(0, 0)
    }

    /// Sets the profile of the tokens, for an issuer that does not follow RFC 9068. It applies to all issuers of this verifier,
    /// so set it on each verifier before [joining](Self::or) them. RFC 9068 by default.
    pub fn tokens(self, profile: TokenProfile) -> Self {
        let profile = Arc::new(profile);
        self.map(|issuer| issuer.profile(profile.clone()))
    }

    /// Sets the clock. By default that of the [`AuthorizationServer`](crate::AuthorizationServer) in this process, otherwise
    /// the system clock.
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
}

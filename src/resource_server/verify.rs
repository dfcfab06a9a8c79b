//! [`Verifier`]: a token's text → [`VerifiedToken`].

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::jws::{Header, Jws, decode};
use super::token_cache::TokenCache;
use super::trusted_issuer::TrustedIssuer;
use super::{InvalidToken, UndecidedKind, VerifiedToken, VerifyError};
use crate::audience::Audience;
use crate::clock::Clock;
use crate::issuer::Issuer;
use crate::keys::TrustedKeys;
use crate::metrics;

/// How many verified tokens are remembered, and how much memory they take, unless told otherwise.
const REMEMBERED: usize = 10_000;
const REMEMBERED_BYTES: usize = 16 * 1024 * 1024;

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
    pub(super) cache: Option<Arc<TokenCache>>,
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
        Self { issuer: TrustedIssuer::new(issuer, audience, keys, clock), cache: None }
            .cache(REMEMBERED, REMEMBERED_BYTES)
    }

    /// How far the issuer's clock may differ from ours, in whole seconds: 5 by default, 5 minutes at most, and more is
    /// taken for that. It applies to `exp`, `nbf` and `iat`.
    #[must_use]
    pub fn leeway(self, leeway: Duration) -> Self {
        let cache = self.cache.map(|cache| Arc::new(cache.emptied()));
        Self { issuer: self.issuer.leeway(leeway), cache }
    }

    /// How many verified tokens are remembered, and how many bytes they may take: 10,000 and 16 MiB by default, and 0 of
    /// either is as [`without_cache`](Self::without_cache). Where either is too much, the oldest go.
    ///
    /// A token that is remembered is compared to the letter, and its signature is not computed again. Whatever can change
    /// is checked at every use: the time, the audience, and whether its key is still trusted. Clones share what they
    /// remember, so make one verifier for an API and clone that; another setting begins with nothing.
    #[must_use]
    pub fn cache(mut self, tokens: usize, bytes: usize) -> Self {
        self.cache = (tokens > 0 && bytes > 0).then(|| Arc::new(TokenCache::new(tokens, bytes)));
        self
    }

    /// Remembers no token: every signature is verified, whenever it comes. For measurements, and where 16 MiB are too
    /// much to ask.
    #[must_use]
    pub fn without_cache(self) -> Self {
        self.cache(0, 0)
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
        self.remembered(token).unwrap_or_else(|| self.remember(self.verify_anew(token)))
    }

    fn verify_anew(&self, token: &str) -> Verified {
        let jws = Jws::split(token)?;
        let header = decode(jws.header)?;
        self.issuer.verify(token, &jws, &Header::parse(&header)?)
    }

    /// What comes of a token that was verified before; `None` where it has to be verified anew.
    fn remembered(&self, token: &str) -> Option<Verified> {
        let cache = self.cache.as_ref()?;
        let found = cache.find(token).filter(|found| found.is_by(self));
        metrics::token_looked_up(found.is_some());
        let found = found?;
        match self.still_good(&found) {
            Ok(()) => Some(Ok(found)),
            // Its key is gone, and all that it signed goes with it. There may be another of that name.
            Err(VerifyError::Refused(InvalidToken::UnknownKey)) => {
                cache.forget(|other| other.is_signed_as(&found));
                None
            }
            // It stays, so that who shows it again is refused as cheaply again.
            Err(error) => Some(Err(error)),
        }
    }

    /// Every verification ends here. What was refused is not remembered, so nobody can drive tokens out with garbage.
    fn remember(&self, verified: Verified) -> Verified {
        if let (Some(cache), Ok(token)) = (&self.cache, &verified) {
            cache.keep(token);
        }
        verified
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
        self.remember(self.verify_anew(token))
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

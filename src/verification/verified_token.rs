//! [`VerifiedToken`]: the proof that a request came with a good token.

#[cfg(feature = "axum")]
use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use super::claims::{Claims, ClaimsError};
#[cfg(feature = "remote")]
use super::introspection::{Asked, Introspector};
use super::jws;
use super::trusted_issuer::TrustedIssuer;
use super::verifier::Verifier;
use crate::client_id::ClientId;
use crate::keys::FoundKey;
use crate::scope::Scopes;

/// The proof that a request came with a good token, and what the token says.
///
/// Only a [`Verifier`] makes one, so a handler that takes it cannot run without a verification. It is in the
/// extensions of every request that a [`BearerAuthLayer`](crate::resource_server::BearerAuthLayer) lets through, and an axum
/// extractor (feature `axum`). A clone shares it.
///
/// To unit-test a handler, see `VerifiedToken::for_test`; to test a whole service, `TestIssuer` (both with feature
/// `test-util`).
///
/// ```
/// use tower_client_credentials::VerifiedToken;
///
/// fn may_see_all(token: &VerifiedToken) -> bool {
///     token.scopes().contains("invoices:all")
/// }
/// ```
///
/// ```compile_fail
/// # use tower_client_credentials::VerifiedToken;
/// let forged = VerifiedToken { token: todo!() }; // its parts are private: does not compile
/// ```
#[derive(Clone)]
pub struct VerifiedToken {
    token: Arc<Token>,
    /// The layer that admitted its request: the extractors refuse as it does.
    #[cfg(feature = "axum")]
    guard: Option<Arc<dyn Any + Send + Sync>>,
}

#[derive(Clone)]
struct Token {
    /// The token itself. It is shown to nobody.
    text: Arc<str>,
    claims: Claims,
    /// The claims as they came, for those that only the application knows: read from the token once more when it asks, so
    /// that those who do not ask need no room for them.
    payload: OnceLock<Vec<u8>>,
    proof: Proof,
}

/// What the claims rest on.
#[derive(Clone)]
enum Proof {
    /// Who was trusted with it, and the key that it was verified by.
    Key(TrustedIssuer, FoundKey),
    /// The answer of its server.
    #[cfg(feature = "remote")]
    Answer(Asked),
    /// Nothing: it is for a test.
    #[cfg(any(test, feature = "test-util"))]
    Nothing,
}

impl From<Token> for VerifiedToken {
    fn from(token: Token) -> Self {
        Self {
            token: Arc::new(token),
            #[cfg(feature = "axum")]
            guard: None,
        }
    }
}

impl VerifiedToken {
    /// Called by [`TrustedIssuer::verify`] alone, at the end of its checks.
    pub(super) fn new(text: &str, claims: Claims, issuer: TrustedIssuer, key: FoundKey) -> Self {
        Self::from(Token { text: text.into(), claims, payload: OnceLock::new(), proof: Proof::Key(issuer, key) })
    }

    /// Called by the [`Introspection`](crate::verification::Introspection) alone, when the server has answered.
    #[cfg(feature = "remote")]
    pub(super) fn introspected(text: &str, claims: Claims, payload: Vec<u8>, asked: Asked) -> Self {
        Self::from(Token { text: text.into(), claims, payload: payload.into(), proof: Proof::Answer(asked) })
    }

    /// The same proof in memory of its own.
    pub(super) fn apart(&self) -> Self {
        Self::from(Token::clone(&self.token))
    }

    /// Returns the same proof with the layer that admitted its request.
    #[cfg(feature = "axum")]
    pub(crate) fn admitted_by(self, guard: Arc<dyn Any + Send + Sync>) -> Self {
        Self { guard: Some(guard), ..self }
    }

    /// Returns the layer that admitted its request.
    #[cfg(feature = "axum")]
    pub(crate) fn guard<T: 'static>(&self) -> Option<&T> {
        self.guard.as_deref().and_then(|guard| guard.downcast_ref())
    }

    /// For how long it will be good yet.
    pub(crate) fn time_left(&self) -> Duration {
        match &self.token.proof {
            Proof::Key(issuer, _) => issuer.time_left(self.parsed_claims()),
            #[cfg(feature = "remote")]
            Proof::Answer(asked) => Introspector::time_left(asked, self.parsed_claims()),
            #[cfg(any(test, feature = "test-util"))]
            Proof::Nothing => Duration::ZERO,
        }
    }

    pub(super) fn text(&self) -> &Arc<str> {
        &self.token.text
    }

    /// What it takes of memory, about, and rather too much: as if its payload had been asked for.
    pub(super) fn size(&self) -> usize {
        let Token { text, claims, payload, .. } = &*self.token;
        let payload = payload.get().map_or(text.len() / 4 * 3, Vec::len);
        size_of::<Token>() + text.len() + payload + claims.size()
    }

    /// Whether this is the proof of that very token.
    pub(crate) fn is(&self, text: &[u8]) -> bool {
        self.token.text.as_bytes() == text
    }

    /// Whether both are one proof, of one verification.
    #[cfg(test)]
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.token.text, &other.token.text)
    }

    /// Whether both are counted together.
    #[cfg(test)]
    pub(super) fn shares_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.token, &other.token)
    }

    pub(super) fn parsed_claims(&self) -> &Claims {
        &self.token.claims
    }

    #[allow(irrefutable_let_patterns)] // without features there is no other proof
    pub(super) fn proven_by(&self) -> Option<(&TrustedIssuer, &FoundKey)> {
        if let Proof::Key(issuer, key) = &self.token.proof { Some((issuer, key)) } else { None }
    }

    #[cfg(feature = "remote")]
    pub(super) fn asked(&self) -> Option<&Asked> {
        if let Proof::Answer(asked) = &self.token.proof { Some(asked) } else { None }
    }

    /// Returns whether the same key signed both, under the same name.
    pub(super) fn is_signed_as(&self, other: &Self) -> bool {
        let (Some((_, one)), Some((_, other))) = (self.proven_by(), other.proven_by()) else { return false };
        one.is(other)
    }

    /// Whether this verifier made it, or one that checks the same.
    pub(crate) fn is_by(&self, verifier: &Verifier) -> bool {
        match &self.token.proof {
            Proof::Key(issuer, _) => verifier.trusts_as(issuer),
            #[cfg(feature = "remote")]
            Proof::Answer(asked) => verifier.introspector(asked).is_some(),
            #[cfg(any(test, feature = "test-util"))]
            Proof::Nothing => false,
        }
    }

    /// The client that the token was issued to.
    #[must_use]
    pub fn client_id(&self) -> &ClientId {
        &self.token.claims.client_id
    }

    /// Whom the token speaks for. With the client-credentials grant that is the client itself, by its id or by
    /// the subject that it was registered with.
    ///
    /// It is **never a user**: do not look it up in a table of users (RFC 9068 §5; CVE-2026-39976 came of
    /// that).
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.token.claims.subject
    }

    /// What the client may do.
    #[must_use]
    pub fn scopes(&self) -> &Scopes {
        &self.token.claims.scopes
    }

    /// The APIs that the token is for; the one that verified it is among them.
    pub fn audiences(&self) -> impl Iterator<Item = &str> {
        self.token.claims.audiences.iter().map(|audience| &**audience)
    }

    /// Who issued it.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.token.claims.issuer
    }

    /// The token's own name, unique per issuer (`jti`).
    #[must_use]
    pub fn token_id(&self) -> &str {
        &self.token.claims.token_id
    }

    /// When it was issued.
    #[must_use]
    pub fn issued_at(&self) -> SystemTime {
        self.token.claims.issued_at.to_system()
    }

    /// When it expires; a long task that began with it may ask again.
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        self.token.claims.expires_at.to_system()
    }

    /// The claims, in a shape of the application's own; claims that it does not name are passed over.
    ///
    /// # Errors
    ///
    /// When a claim is missing or of another type. The token is good all the same: it says something else than
    /// the application expects.
    ///
    /// ```
    /// # use tower_client_credentials::{ClaimsError, VerifiedToken};
    /// #[derive(serde::Deserialize)]
    /// struct Tenant<'a> {
    ///     tenant: &'a str,
    /// }
    ///
    /// fn tenant(token: &VerifiedToken) -> Result<&str, ClaimsError> {
    ///     Ok(token.claims::<Tenant<'_>>()?.tenant)
    /// }
    /// ```
    #[expect(clippy::expect_used, reason = "without claims, a good token would look like one of another shape")]
    #[expect(clippy::missing_panics_doc, reason = "the token was verified, so its payload can be decoded")]
    pub fn claims<'a, T: Deserialize<'a>>(&'a self) -> Result<T, ClaimsError> {
        let Token { text, payload, .. } = &*self.token;
        let payload = payload.get_or_init(|| jws::payload(text).expect("the text of a verified token is a JWS"));
        Ok(serde_json::from_slice(payload)?)
    }
}

#[cfg(any(test, feature = "test-util"))]
impl VerifiedToken {
    /// Called by [`VerifiedTokenBuilder`](crate::verification::VerifiedTokenBuilder) alone: a proof of nothing, for a test. Returns `None`
    /// when the claims are not those of an access token.
    pub(super) fn unverified(payload: Vec<u8>) -> Option<Self> {
        let claims = Claims::parse(&payload, &[])?;
        Some(Self::from(Token { text: "".into(), claims, payload: payload.into(), proof: Proof::Nothing }))
    }

    #[cfg(test)]
    #[allow(clippy::expect_used)]
    pub(super) fn for_test_with_text(text: &str) -> Self {
        let token = Self::for_test("billing").build().token;
        let token = Arc::into_inner(token).expect("the only one");
        Self::from(Token { text: text.into(), ..token })
    }
}

impl fmt::Debug for VerifiedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedToken")
            .field("client_id", self.client_id())
            .field("scopes", self.scopes())
            .field("token_id", &self.token_id())
            .finish_non_exhaustive()
    }
}

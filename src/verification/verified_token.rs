//! [`VerifiedToken`]: the proof that a token was verified.

#[cfg(feature = "axum")]
use std::any::Any;
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
use crate::debug_fields::debug_fields;
use crate::keys::FoundKey;
use crate::scope::Scopes;

/// The proof that a request came with a valid token, and the claims of the token.
///
/// Only a [`Verifier`] creates one, so a handler that takes it cannot run without a verification. It is in the extensions of
/// every request that a [`BearerAuthLayer`](crate::resource_server::BearerAuthLayer) admits, and it is an axum extractor
/// (feature `axum`). Clones share the data.
///
/// To unit-test a handler, see `VerifiedToken::for_test`. To test a whole service, see `TestIssuer`. Both need the feature
/// `test-util`.
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
/// let forged = VerifiedToken { token: panic!() }; // the fields are private: does not compile
/// ```
#[derive(Clone)]
pub struct VerifiedToken {
    token: Arc<Token>,
    /// The layer that admitted the request. The extractors refuse in the same way.
    #[cfg(feature = "axum")]
    guard: Option<Arc<dyn Any + Send + Sync>>,
}

#[derive(Clone)]
struct Token {
    /// The token itself. It is never shown.
    text: Arc<str>,
    claims: Claims,
    /// The claims unchanged, for claims that only the application knows. Decoded from the token on first use, so that
    /// callers that do not need them pay no memory.
    payload: OnceLock<Vec<u8>>,
    proof: Proof,
}

/// The evidence for the claims.
#[derive(Clone)]
enum Proof {
    /// The issuer that was trusted, and the key that verified the token.
    Key(TrustedIssuer, FoundKey),
    /// The answer of the introspection endpoint.
    #[cfg(feature = "remote")]
    Answer(Asked),
    /// None: the token is for a test.
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
    /// Creates the proof. Called only by [`TrustedIssuer::verify`], after all checks.
    pub(super) fn new(text: &str, claims: Claims, issuer: TrustedIssuer, key: FoundKey) -> Self {
        Self::from(Token { text: text.into(), claims, payload: OnceLock::new(), proof: Proof::Key(issuer, key) })
    }

    /// Creates the proof. Called only by [`Introspection`](crate::verification::Introspection), after the server has answered.
    #[cfg(feature = "remote")]
    pub(super) fn introspected(text: &str, claims: Claims, payload: Vec<u8>, asked: Asked) -> Self {
        Self::from(Token { text: text.into(), claims, payload: payload.into(), proof: Proof::Answer(asked) })
    }

    /// Returns the same proof in separate memory.
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

    /// Returns the remaining time during which the token is valid.
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

    /// Returns an upper estimate of the memory, in bytes, as if the payload were decoded.
    pub(super) fn size(&self) -> usize {
        let Token { text, claims, payload, .. } = &*self.token;
        let payload = payload.get().map_or(text.len() / 4 * 3, Vec::len);
        size_of::<Token>() + text.len() + payload + claims.size()
    }

    /// Returns whether this is the proof of exactly this token text.
    pub(crate) fn has_text(&self, text: &[u8]) -> bool {
        self.token.text.as_bytes() == text
    }

    /// Returns whether both come from the same verification.
    #[cfg(test)]
    pub(crate) fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.token.text, &other.token.text)
    }

    /// Returns whether both share their memory and reference count.
    #[cfg(test)]
    pub(super) fn shares_memory_with(&self, other: &Self) -> bool {
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
        one.is_same_key(other)
    }

    /// Returns whether this verifier created it, or one with the same checks.
    pub(crate) fn is_by(&self, verifier: &Verifier) -> bool {
        match &self.token.proof {
            Proof::Key(issuer, _) => verifier.trusts_as(issuer),
            #[cfg(feature = "remote")]
            Proof::Answer(asked) => verifier.introspector(asked).is_some(),
            #[cfg(any(test, feature = "test-util"))]
            Proof::Nothing => false,
        }
    }

    /// Returns the client that the token was issued to.
    #[must_use]
    pub fn client_id(&self) -> &ClientId {
        &self.token.claims.client_id
    }

    /// Returns the subject. With the client-credentials grant it is the client itself: its id, or the subject that it was
    /// registered with.
    ///
    /// It is **never a user**: do not look it up in a table of users (RFC 9068 §5; that mistake was CVE-2026-39976).
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.token.claims.subject
    }

    /// Returns the scopes granted to the client.
    #[must_use]
    pub fn scopes(&self) -> &Scopes {
        &self.token.claims.scopes
    }

    /// Returns the APIs that the token is for, including the one that verified it.
    pub fn audiences(&self) -> impl Iterator<Item = &str> {
        self.token.claims.audiences.iter().map(|audience| &**audience)
    }

    /// Returns the issuer.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.token.claims.issuer
    }

    /// Returns the token's identifier, unique per issuer (`jti`).
    #[must_use]
    pub fn token_id(&self) -> &str {
        &self.token.claims.token_id
    }

    /// Returns when the token was issued.
    #[must_use]
    pub fn issued_at(&self) -> SystemTime {
        self.token.claims.issued_at.to_system()
    }

    /// Returns when the token expires. A long task can check this time.
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        self.token.claims.expires_at.to_system()
    }

    /// Deserializes the claims into a type of the application. Claims that the type does not name are ignored.
    ///
    /// # Errors
    ///
    /// If a claim is missing or has another type. The token is still valid: its claims only differ from what the application
    /// expects.
    ///
    /// ```
    /// # use tower_client_credentials::verification::ClaimsError;
    /// # use tower_client_credentials::VerifiedToken;
    /// #[derive(serde::Deserialize)]
    /// struct Tenant<'a> {
    ///     tenant: &'a str,
    /// }
    ///
    /// fn tenant(token: &VerifiedToken) -> Result<&str, ClaimsError> {
    ///     Ok(token.claims::<Tenant<'_>>()?.tenant)
    /// }
    /// ```
    #[expect(clippy::expect_used, reason = "without this, a valid token would look like one with other claims")]
    #[expect(clippy::missing_panics_doc, reason = "the token was verified, so its payload can be decoded")]
    pub fn claims<'a, T: Deserialize<'a>>(&'a self) -> Result<T, ClaimsError> {
        let Token { text, payload, .. } = &*self.token;
        let payload = payload.get_or_init(|| jws::payload(text).expect("the text of a verified token is a JWS"));
        Ok(serde_json::from_slice(payload)?)
    }
}

#[cfg(any(test, feature = "test-util"))]
impl VerifiedToken {
    /// Creates a proof without a verification, for a test. Called only by
    /// [`VerifiedTokenBuilder`](crate::verification::VerifiedTokenBuilder). Returns `None` if the claims are not those of an
    /// access token.
    pub(super) fn unverified(payload: Vec<u8>) -> Option<Self> {
        let claims = Claims::parse(&payload, &[])?;
        Some(Self::from(Token { text: "".into(), claims, payload: payload.into(), proof: Proof::Nothing }))
    }

    #[cfg(test)]
    #[allow(clippy::expect_used)]
    pub(super) fn for_test_with_text(text: &str) -> Self {
        let token = Self::for_test("billing").build().token;
        let token = Arc::into_inner(token).expect("there is only one reference");
        Self::from(Token { text: text.into(), ..token })
    }
}

debug_fields!(VerifiedToken, |this| { client_id: this.client_id(), scopes: this.scopes(), token_id: this.token_id() });

//! [`BearerAuthLayer`]: lets a request through only with a token that was verified.

use tower::Layer;

use super::challenge::Challenges;
use super::{BearerAuth, Verifier};
use crate::scope::{Scope, Scopes};

/// Lets a request through only with a token that its [`Verifier`] accepts, and hands the proof on.
///
/// 1. The token is read from the `Authorization` header and nowhere else (RFC 6750 §2.1).
/// 2. A verified token must have every [required scope](Self::require_scope).
/// 3. The wrapped service finds a [`VerifiedToken`](super::VerifiedToken) in the request's extensions, and the
///    `Authorization` value marked as sensitive.
/// 4. Every other request is answered with the challenge of RFC 6750 §3.
///
/// Layers of one verifier may be nested, a common one outside and one with more scopes inside: the token is
/// verified once.
///
/// # Example
///
/// ```
/// use axum::{Router, routing::{get, post}};
/// use tower_client_credentials::{BearerAuthLayer, Scope};
/// # use tower_client_credentials::{AuthorizationServer, KeyRing, MemoryStore};
/// # let server = AuthorizationServer::new("https://auth.example.com", KeyRing::generate()?, MemoryStore::default())?;
///
/// let token = BearerAuthLayer::new(server.verifier("https://api.example.com")?);
/// let write = token.clone().require_scope(Scope::from_static("invoices:write"));
/// let app: Router = Router::new()
///     .route("/invoices", get(async || "all").merge(post(async || "made").layer(write)))
///     .layer(token);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct BearerAuthLayer {
    pub(super) verifier: Verifier,
    pub(super) required: Scopes,
    pub(super) challenges: Challenges,
}

impl BearerAuthLayer {
    /// Lets in whatever this verifier accepts.
    #[must_use]
    pub fn new(verifier: Verifier) -> Self {
        let challenges = Challenges::new(verifier.audience(), &Scopes::NONE);
        Self { verifier, required: Scopes::NONE, challenges }
    }

    /// Asks for one more scope; a token must have all of them. None by default.
    #[must_use]
    pub fn require_scope(mut self, scope: Scope) -> Self {
        self.required = self.required.with(&scope);
        self.challenges = Challenges::new(self.verifier.audience(), &self.required);
        self
    }
}

impl<S> Layer<S> for BearerAuthLayer {
    type Service = BearerAuth<S>;

    fn layer(&self, inner: S) -> BearerAuth<S> {
        BearerAuth::new(inner, self.clone())
    }
}

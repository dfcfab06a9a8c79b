//! [`BearerAuthLayer`]: lets a request through only with a token that was verified.

use tower::Layer;

use super::challenge::Challenges;
use super::required::RequiredScopes;
use super::{BearerAuth, Verifier};
use crate::event::EventSender;
use crate::scope::{Scope, Scopes};

/// Lets a request through only with a token that its [`Verifier`] accepts, and hands the proof on.
///
/// 1. The token is read from the `Authorization` header and nowhere else (RFC 6750 §2.1).
/// 2. A verified token must have every [required scope](Self::require_scope).
/// 3. The wrapped service finds a [`VerifiedToken`](super::VerifiedToken) in the request's extensions, and the
///    `Authorization` value marked as sensitive.
/// 4. Every other request is answered with the challenge of RFC 6750 §3.
///
/// A token may have 16 KiB. hyper's own bound on all headers together may be met before: over HTTP/2 it is 16 KiB by
/// default, and the answer a 431.
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
    pub(super) required: RequiredScopes,
    pub(super) challenges: Challenges,
    pub(super) optional: bool,
    pub(super) token_in_query: bool,
    pub(super) remove_authorization: bool,
    pub(super) events: Option<EventSender>,
}

impl BearerAuthLayer {
    /// Lets in whatever this verifier accepts.
    #[must_use]
    pub fn new(verifier: Verifier) -> Self {
        Self {
            challenges: Challenges::new(verifier.audience(), &Scopes::NONE),
            verifier,
            required: RequiredScopes::default(),
            optional: false,
            token_in_query: false,
            remove_authorization: false,
            events: None,
        }
    }

    /// Asks for one more scope; a token must have all of them. None by default.
    #[must_use]
    pub fn require_scope(self, scope: Scope) -> Self {
        self.require_scopes([scope])
    }

    /// Asks for more scopes; a token must have all of them.
    #[must_use]
    pub fn require_scopes(mut self, scopes: impl Into<Scopes>) -> Self {
        self.required = self.required.and(&scopes.into());
        self.named()
    }

    /// Asks for at least one of these scopes, besides all that are [required](Self::require_scope).
    ///
    /// An empty set lets nobody in.
    #[must_use]
    pub fn require_any_scope(mut self, scopes: impl Into<Scopes>) -> Self {
        self.required = self.required.and_any_of(scopes.into());
        self.named()
    }

    fn named(mut self) -> Self {
        self.challenges = Challenges::new(self.verifier.audience(), &self.required.named());
        self
    }

    /// Lets requests without a bearer token through as well, without a
    /// [`VerifiedToken`](super::VerifiedToken). A token that is there must be good, and have the required scopes.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// Takes the `Authorization` header away before the request goes on, so that the wrapped service cannot pass
    /// the token on to somebody else. Off by default; a token that was let through is marked as sensitive in any case.
    /// A token in the query stays there, as do credentials of another scheme that an [optional](Self::optional) layer
    /// lets through.
    #[must_use]
    pub fn remove_authorization(mut self) -> Self {
        self.remove_authorization = true;
        self
    }

    /// Reads the token from the query parameter `access_token` as well (RFC 6750 §2.3).
    ///
    /// Dangerous: URLs end up in logs, histories and `Referer` headers, and the token with them. For clients that
    /// cannot set a header. The answers should have `Cache-Control: private` (§2.3), which is for the wrapped service
    /// to set.
    #[must_use]
    pub fn dangerous_token_in_query(mut self) -> Self {
        self.token_in_query = true;
        self
    }

    /// Where [events](crate::event) go. Nowhere by default. Of nested layers each one reports its own decision; give the
    /// sender to one of them.
    #[must_use]
    pub fn events(mut self, events: EventSender) -> Self {
        self.events = Some(events);
        self
    }
}

impl<S> Layer<S> for BearerAuthLayer {
    type Service = BearerAuth<S>;

    fn layer(&self, inner: S) -> BearerAuth<S> {
        BearerAuth::new(inner, self.clone())
    }
}

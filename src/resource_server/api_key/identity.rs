//! [`ApiKeyIdentity`]: the proof that a request came with a known API key, and [`Caller`]: this proof or a verified token.

use std::any::Any;
use std::sync::Arc;

use http::Extensions;

use super::key::Key;
use crate::client_id::ClientId;
use crate::debug_fields::debug_fields;
use crate::scope::Scopes;
use crate::verification::VerifiedToken;

/// The proof that a request came with a known API key; see [`ApiKeys`](super::ApiKeys).
///
/// It is a type of its own, so that a handler that requires a [`VerifiedToken`] cannot run with an API key. A handler that
/// accepts both takes a [`Caller`]. Only a [`BearerAuthLayer`](crate::BearerAuthLayer) creates one. Clones share the data.
#[derive(Clone)]
pub struct ApiKeyIdentity(Arc<Inner>);

struct Inner {
    key: Arc<Key>,
    /// The set of keys that it is from.
    set: Arc<dyn Any + Send + Sync>,
    /// The layer that admitted the request. The extractors refuse in the same way.
    #[cfg_attr(not(feature = "axum"), expect(dead_code, reason = "only the extractors need it"))]
    guard: Arc<dyn Any + Send + Sync>,
}

impl ApiKeyIdentity {
    pub(super) fn new(key: Arc<Key>, set: Arc<dyn Any + Send + Sync>, guard: Arc<dyn Any + Send + Sync>) -> Self {
        Self(Arc::new(Inner { key, set, guard }))
    }

    /// Returns the client that the key belongs to.
    #[must_use]
    pub fn client_id(&self) -> &ClientId {
        self.0.key.client_id()
    }

    /// Returns the scopes of the key.
    #[must_use]
    pub fn scopes(&self) -> &Scopes {
        self.0.key.scopes()
    }

    pub(super) fn set(&self) -> &Arc<dyn Any + Send + Sync> {
        &self.0.set
    }

    pub(super) fn key(&self) -> &Arc<Key> {
        &self.0.key
    }

    #[cfg(feature = "axum")]
    pub(crate) fn guard<T: 'static>(&self) -> Option<&T> {
        self.0.guard.downcast_ref()
    }
}

debug_fields!(ApiKeyIdentity, |this| { client_id: this.client_id(), scopes: this.scopes() });

/// The caller of a route that accepts tokens and, during a migration, [API keys](super::ApiKeys). In axum it is an extractor
/// (feature `axum`).
///
/// ```
/// use tower_client_credentials::resource_server::Caller;
///
/// async fn invoices(caller: Caller) -> String {
///     match &caller {
///         Caller::Token(token) => format!("invoices for {}", token.subject()),
///         Caller::ApiKey(identity) => format!("invoices for {}, please migrate", identity.client_id()),
///     }
/// }
/// ```
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "handlers match on both; a third kind of caller must not pass unnoticed")]
pub enum Caller {
    /// The caller has a verified token.
    Token(VerifiedToken),
    /// The caller has an API key.
    ApiKey(ApiKeyIdentity),
}

impl Caller {
    /// Returns the caller that a [`BearerAuthLayer`](crate::BearerAuthLayer) admitted, from the extensions of its request.
    #[must_use]
    pub fn from_extensions(request: &Extensions) -> Option<Self> {
        let token = request.get::<VerifiedToken>().cloned().map(Self::Token);
        token.or_else(|| request.get::<ApiKeyIdentity>().cloned().map(Self::ApiKey))
    }

    /// Returns the client.
    #[must_use]
    pub fn client_id(&self) -> &ClientId {
        match self {
            Self::Token(token) => token.client_id(),
            Self::ApiKey(identity) => identity.client_id(),
        }
    }

    /// Returns the scopes that the caller has.
    #[must_use]
    pub fn scopes(&self) -> &Scopes {
        match self {
            Self::Token(token) => token.scopes(),
            Self::ApiKey(identity) => identity.scopes(),
        }
    }
}

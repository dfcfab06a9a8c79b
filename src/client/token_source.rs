//! [`TokenSource`]: where the tokens of a calling service come from.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use super::access_token::AccessToken;
use super::token_error::TokenSourceError;
use crate::scope::Scopes;

/// The future of [`TokenSource::token`].
pub type TokenFuture = Pin<Box<dyn Future<Output = Result<AccessToken, TokenSourceError>> + Send>>;

/// Gives the tokens that a [`ClientCredentialsLayer`](super::ClientCredentialsLayer) sends.
///
/// [`ClientCredentials::build`](super::ClientCredentials::build) makes the usual one, which caches and refreshes. Implement the
/// trait for tokens that come from elsewhere, or for a fallback:
///
/// ```
/// use std::sync::Arc;
/// use tower_client_credentials::client::{AccessToken, TokenFuture, TokenSource};
///
/// /// Asks one source, and when it fails, another.
/// #[derive(Debug)]
/// struct Either(Arc<dyn TokenSource>, Arc<dyn TokenSource>);
///
/// impl TokenSource for Either {
///     fn token(&self) -> TokenFuture {
///         let (first, second) = (self.0.token(), self.1.clone());
///         Box::pin(async move {
///             match first.await {
///                 Ok(token) => Ok(token),
///                 Err(_) => second.token().await,
///             }
///         })
///     }
///
///     fn invalidate(&self, token: &AccessToken) {
///         self.0.invalidate(token);
///         self.1.invalidate(token);
///     }
/// }
/// ```
pub trait TokenSource: fmt::Debug + Send + Sync + 'static {
    /// Returns a token that may be sent now, if one is there without waiting. The layer calls it for each request.
    fn ready(&self) -> Option<AccessToken> {
        None
    }

    /// Returns a token that may be sent at the time at which the future is ready.
    fn token(&self) -> TokenFuture;

    /// Tells that a resource server asks for these scopes in addition to those of the token. Returns the token with them, if the
    /// source may request it. By default it returns `None`. A source should request it even if the future is dropped: the request
    /// that was refused cannot always be repeated, but the next ones need the scopes. As long as the issuer does not grant them, the
    /// calls that do not need them should get the tokens from before.
    fn widen(&self, token: &AccessToken, scopes: &Scopes) -> Option<TokenFuture> {
        let _ = (token, scopes);
        None
    }

    /// Tells that a 401 names this URL as the metadata of the resource (RFC 9728 §5.1). Returns the token of the issuer that the
    /// metadata names now, which may be the same one. By default it returns `None`.
    fn discover(&self, resource_metadata: &str) -> Option<TokenFuture> {
        let _ = resource_metadata;
        None
    }

    /// Tells that a resource server refused this token. A source that keeps tokens should give out another one, if it can have one;
    /// a newer token is not affected. The layer does not tell it of the second token that a request was refused with. By default nothing is done.
    fn invalidate(&self, token: &AccessToken) {
        let _ = token;
    }

    /// Tells that a resource server refused a request with this token and did not explain why: by a 401 without a challenge, or by
    /// the gRPC status `UNAUTHENTICATED`. The token may be valid, for other paths. By default this is the same as
    /// [`invalidate`](Self::invalidate).
    fn refused_without_explanation(&self, token: &AccessToken) {
        self.invalidate(token);
    }
}

impl<T: TokenSource + ?Sized> TokenSource for Arc<T> {
    fn ready(&self) -> Option<AccessToken> {
        (**self).ready()
    }

    fn token(&self) -> TokenFuture {
        (**self).token()
    }

    fn widen(&self, token: &AccessToken, scopes: &Scopes) -> Option<TokenFuture> {
        (**self).widen(token, scopes)
    }

    fn discover(&self, resource_metadata: &str) -> Option<TokenFuture> {
        (**self).discover(resource_metadata)
    }

    fn invalidate(&self, token: &AccessToken) {
        (**self).invalidate(token);
    }

    fn refused_without_explanation(&self, token: &AccessToken) {
        (**self).refused_without_explanation(token);
    }
}

/// A static token is a source of itself.
impl TokenSource for AccessToken {
    fn ready(&self) -> Option<AccessToken> {
        Some(self.clone())
    }

    fn token(&self) -> TokenFuture {
        Box::pin(std::future::ready(Ok(self.clone())))
    }
}

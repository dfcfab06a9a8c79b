//! axum extractors for the verified token, its permissions and its claims (feature `axum`).

use std::convert::Infallible;

use axum_core::body::Body;
use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::BearerError;
use super::api_key::{ApiKeyIdentity, Caller};
use super::authorized::{Authorized, Requirement};
use super::decision::Guard;
use crate::verification::VerifiedToken;

/// Extracts the token that [`BearerAuthLayer`](super::BearerAuthLayer) verified. The extractor itself verifies nothing: on
/// a route without the layer it answers 500 and logs the reason. A request that the layer admitted by an
/// [API key](super::ApiKeys) gets the layer's own 401.
impl<S: Sync> FromRequestParts<S> for VerifiedToken {
    type Rejection = TokenRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, TokenRejection> {
        proof(parts).cloned()
    }
}

fn proof(parts: &Parts) -> Result<&VerifiedToken, TokenRejection> {
    parts.extensions.get().ok_or_else(|| TokenRejection::without_token(parts))
}

/// Extracts the caller that the layer admitted, with a token or an API key. On a route without the layer it answers 500.
impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = MissingVerifiedToken;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, MissingVerifiedToken> {
        Self::from_extensions(&parts.extensions).ok_or(MissingVerifiedToken)
    }
}

/// Extracts `Option<Caller>`: `None` if no layer admitted a token or an API key.
impl<S: Sync> OptionalFromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(Self::from_extensions(&parts.extensions))
    }
}

/// Extracts `Option<VerifiedToken>`: `None` if no layer verified a token.
impl<S: Sync> OptionalFromRequestParts<S> for VerifiedToken {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get().cloned())
    }
}

/// Extracts the token if it meets `R`. Otherwise it answers with the layer's own refusal, 403 `insufficient_scope`.
impl<S: Sync, R: Requirement> FromRequestParts<S> for Authorized<R> {
    type Rejection = TokenRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, TokenRejection> {
        let token = proof(parts)?;
        token.authorize().map_err(|error| TokenRejection::refused(error, token.guard(), parts))
    }
}

/// Extracts the claims of the verified token into a type of the application (feature `axum`); see
/// [`VerifiedToken::claims`]. A valid token without these claims is refused with the layer's own 403.
///
/// ```
/// use tower_client_credentials::{Claims, VerifiedToken};
///
/// #[derive(serde::Deserialize)]
/// struct Tenancy {
///     tenant: String,
/// }
///
/// async fn invoices(token: VerifiedToken, Claims(Tenancy { tenant }): Claims<Tenancy>) -> String {
///     format!("invoices of {tenant} for {}", token.client_id())
/// }
/// ```
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "handlers destructure axum extractors in their signature")]
pub struct Claims<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Claims<T> {
    type Rejection = TokenRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, TokenRejection> {
        let token = proof(parts)?;
        let refused = |reason| TokenRejection::refused(BearerError::forbidden(token, reason), token.guard(), parts);
        token.claims().map(Self).map_err(|error| refused(error.to_string()))
    }
}

/// The error of a handler that takes a [`VerifiedToken`] on a route without a [`BearerAuthLayer`](super::BearerAuthLayer). It
/// is a mistake in the program, not in the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a handler takes a VerifiedToken on a route without BearerAuthLayer; add .layer(BearerAuthLayer::new(…))")]
#[non_exhaustive]
pub struct MissingVerifiedToken;

impl IntoResponse for MissingVerifiedToken {
    fn into_response(self) -> Response {
        tracing::error!("{self}");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}

/// The rejection of a request whose token lacks what the handler requires, that has an API key instead of a token, or on a route
/// where no token was verified.
///
/// Its response is that of the [`BearerAuthLayer`](super::BearerAuthLayer) that protects the route.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct TokenRejection {
    /// Boxed, so that an extracted token is not moved as part of a large result.
    kind: Box<Kind>,
}

#[derive(Debug, thiserror::Error)]
enum Kind {
    #[error(transparent)]
    Missing(MissingVerifiedToken),
    #[error("{error}")]
    Refused { error: BearerError, response: Response },
}

impl TokenRejection {
    /// `guard` is the layer that admitted the request. Only tests insert a token without one.
    fn refused(error: BearerError, guard: Option<&Guard>, parts: &Parts) -> Self {
        let response = match guard {
            Some(guard) => guard.refuse(error.clone(), parts.into()).map(Body::new),
            None => error.status().into_response(),
        };
        Self { kind: Box::new(Kind::Refused { error, response }) }
    }

    /// Creates the rejection of a request without a token: of one with an API key, or on a route without the layer.
    #[cold]
    fn without_token(parts: &Parts) -> Self {
        let Some(identity) = parts.extensions.get::<ApiKeyIdentity>() else { return MissingVerifiedToken.into() };
        let error = BearerError::TokenRequired { client_id: identity.client_id().clone() };
        Self::refused(error, identity.guard(), parts)
    }

    /// Returns why the token was refused, or `None` if there is no token.
    #[must_use]
    pub fn error(&self) -> Option<&BearerError> {
        match &*self.kind {
            Kind::Missing(_) => None,
            Kind::Refused { error, .. } => Some(error),
        }
    }
}

impl From<MissingVerifiedToken> for TokenRejection {
    fn from(missing: MissingVerifiedToken) -> Self {
        Self { kind: Box::new(Kind::Missing(missing)) }
    }
}

impl IntoResponse for TokenRejection {
    fn into_response(self) -> Response {
        match *self.kind {
            Kind::Missing(missing) => missing.into_response(),
            Kind::Refused { response, .. } => response,
        }
    }
}

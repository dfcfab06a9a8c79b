//! The proof, what it may do and what it says, as axum extractors (feature `axum`).

use std::convert::Infallible;

use axum_core::body::Body;
use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::BearerError;
use super::authorized::{Authorized, Requirement};
use super::gate::Gate;
use crate::verification::VerifiedToken;

/// The proof that [`BearerAuthLayer`](super::BearerAuthLayer) left. It does not verify by itself: a route without
/// the layer answers 500, and the log says why.
impl<S: Sync> FromRequestParts<S> for VerifiedToken {
    type Rejection = MissingVerifiedToken;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, MissingVerifiedToken> {
        proof(parts).cloned()
    }
}

fn proof(parts: &Parts) -> Result<&VerifiedToken, MissingVerifiedToken> {
    parts.extensions.get().ok_or(MissingVerifiedToken)
}

/// `Option<VerifiedToken>`: `None` where no layer verified a token.
impl<S: Sync> OptionalFromRequestParts<S> for VerifiedToken {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get().cloned())
    }
}

/// The proof, and that it may do what `R` says; else the layer's own refusal, 403 `insufficient_scope`.
impl<S: Sync, R: Requirement> FromRequestParts<S> for Authorized<R> {
    type Rejection = TokenRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, TokenRejection> {
        let token = proof(parts)?;
        token.authorize().map_err(|error| TokenRejection::refused(error, token, parts))
    }
}

/// The claims of the verified token in a shape of the application's own, as an extractor (feature `axum`); see
/// [`VerifiedToken::claims`]. A token that does not have them is good and opens nothing here: the layer's own 403.
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
#[expect(clippy::exhaustive_structs, reason = "an extractor of axum is taken apart in the signature of a handler")]
pub struct Claims<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Claims<T> {
    type Rejection = TokenRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, TokenRejection> {
        let token = proof(parts)?;
        let refused = |reason| TokenRejection::refused(BearerError::forbidden(token, reason), token, parts);
        token.claims().map(Self).map_err(|error| refused(error.to_string()))
    }
}

/// A handler asks for a [`VerifiedToken`] on a route that no [`BearerAuthLayer`](super::BearerAuthLayer)
/// protects: a mistake in the program, not in the request.
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

/// A handler asks for more than the token of its request is good for, or for a token where none was verified.
///
/// Its response is that of the [`BearerAuthLayer`](super::BearerAuthLayer) that guards the route.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct TokenRejection {
    kind: Kind,
}

#[derive(Debug, thiserror::Error)]
enum Kind {
    #[error(transparent)]
    Missing(MissingVerifiedToken),
    #[error("{error}")]
    Refused { error: BearerError, response: Box<Response> },
}

impl TokenRejection {
    fn refused(error: BearerError, token: &VerifiedToken, parts: &Parts) -> Self {
        let response = match token.guard::<Gate>() {
            Some(guard) => guard.refuse(error.clone(), parts.into()).map(Body::new),
            // Only a test hands on a proof by itself.
            None => error.status().into_response(),
        };
        Self { kind: Kind::Refused { error, response: Box::new(response) } }
    }

    /// What the token is not good for; `None` where there is no token.
    #[must_use]
    pub fn error(&self) -> Option<&BearerError> {
        match &self.kind {
            Kind::Missing(_) => None,
            Kind::Refused { error, .. } => Some(error),
        }
    }
}

impl From<MissingVerifiedToken> for TokenRejection {
    fn from(missing: MissingVerifiedToken) -> Self {
        Self { kind: Kind::Missing(missing) }
    }
}

impl IntoResponse for TokenRejection {
    fn into_response(self) -> Response {
        match self.kind {
            Kind::Missing(missing) => missing.into_response(),
            Kind::Refused { response, .. } => *response,
        }
    }
}

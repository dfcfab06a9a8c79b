//! [`VerifiedToken`] as an axum extractor (feature `axum`).

use std::convert::Infallible;

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;

use super::VerifiedToken;

/// The proof that [`BearerAuthLayer`](super::BearerAuthLayer) left. It does not verify by itself: a route without
/// the layer answers 500, and the log says why.
impl<S: Sync> FromRequestParts<S> for VerifiedToken {
    type Rejection = MissingVerifiedToken;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, MissingVerifiedToken> {
        parts.extensions.get().cloned().ok_or(MissingVerifiedToken)
    }
}

/// `Option<VerifiedToken>`: `None` where no layer verified a token.
impl<S: Sync> OptionalFromRequestParts<S> for VerifiedToken {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get().cloned())
    }
}

/// A handler asks for a [`VerifiedToken`] on a route that no [`BearerAuthLayer`](super::BearerAuthLayer)
/// protects: a mistake in the program, not in the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a handler takes a VerifiedToken on a route without BearerAuthLayer; add .layer(BearerAuthLayer::new(…))")]
pub struct MissingVerifiedToken;

impl IntoResponse for MissingVerifiedToken {
    fn into_response(self) -> Response {
        tracing::error!("{self}");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}

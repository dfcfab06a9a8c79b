//! `POST /token`, the client-credentials grant (RFC 6749 §4.4), read from top to bottom.

mod authenticate;
mod grant;
mod mint;
mod request;
mod response;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Response};
use http_body_util::Full;

pub(super) use self::authenticate::Authenticator;
pub(super) use self::grant::GrantPolicy;
pub(super) use self::mint::Minter;
use self::request::TokenRequest;
use self::response::TokenResponse;
use super::body::BodyError;
use super::error::TokenError;

/// The stations of a token request, in the order in which it passes them.
#[derive(Debug)]
pub(super) struct TokenPipeline {
    pub(super) authenticator: Authenticator,
    pub(super) policy: GrantPolicy,
    pub(super) minter: Minter,
    /// The `WWW-Authenticate` of every 401.
    pub(super) challenge: HeaderValue,
}

impl TokenPipeline {
    /// Answers a request; `body` is what came of reading it.
    pub(super) async fn answer(&self, head: &Parts, body: Result<Bytes, BodyError>) -> Response<Full<Bytes>> {
        match self.token(head, body).await {
            Ok(response) => response.into_response(),
            Err(error) => {
                log(&error);
                error.into_response(&self.challenge, head.version)
            }
        }
    }

    async fn token(&self, head: &Parts, body: Result<Bytes, BodyError>) -> Result<TokenResponse, TokenError> {
        let request = TokenRequest::read(head, body)?;
        let client = self.authenticator.authenticate(&request.credentials).await?;
        let grant = self.policy.grant(client, &request)?;
        let token = self.minter.mint(&grant)?;
        tracing::debug!(client_id = %grant.client().id(), scope = %grant.scopes(), "issued an access token");
        Ok(TokenResponse::new(token, grant))
    }
}

fn log(error: &TokenError) {
    let source = std::error::Error::source(error);
    if error.status().is_server_error() {
        tracing::error!(%error, source, "could not answer a token request");
    } else {
        tracing::info!(%error, source, "refused a token request");
    }
}

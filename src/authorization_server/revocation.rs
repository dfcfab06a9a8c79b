//! `POST /revoke` (RFC 7009): a client revokes one of its own tokens before it expires.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;

use super::authenticate::AuthenticatedClient;
use super::error::{Fault, TokenError};
use super::head::Head;
use super::token::TokenPipeline;
use super::token_query::TokenQuery;
use crate::client_id::ClientId;
use crate::clock::UnixTime;
use crate::event::Outcome;
use crate::transport::answer;
use crate::verification::{IssuedToken, NotIssued};

const NAME: &str = "revocation endpoint";

impl TokenPipeline {
    /// Answers a request. `body` is its body, or the reason why its head or body is refused.
    pub(super) async fn answer_revocation(
        &self,
        head: &Head,
        body: Result<Bytes, TokenError>,
    ) -> Response<Full<Bytes>> {
        match self.revocation(head, body).await {
            Ok((client, token_id)) => {
                let outcome = || Outcome::Revoked { token_id: token_id.clone(), credential: client.used() };
                self.reporter.done(NAME, &head.extensions, client.id(), outcome);
                revoked()
            }
            Err(error) => {
                self.reporter.failed(NAME, &head.extensions, &error);
                self.refuse(error, head.version, &head.extensions)
            }
        }
    }

    /// Returns the client, and the `jti` of the token if there was one to revoke.
    async fn revocation(
        &self,
        head: &Head,
        body: Result<Bytes, TokenError>,
    ) -> Result<(AuthenticatedClient, Option<String>), TokenError> {
        let request = TokenQuery::read(&head.headers, &body?)?;
        let client = self.authenticator.authenticate(&request.credentials, head).await?;
        let Some(revocations) = &self.minter.revocations else {
            return Err(TokenError::new(Fault::UNAVAILABLE).of(client.id()).detailed("the server has no revocations"));
        };
        let token = self.issued_token_of(client.id(), &request.token).map_err(|error| error.of(client.id()))?;
        if let Some(token) = &token {
            let revoked = revocations.revoke_once(token.revocation()).await;
            revoked.map_err(|error| TokenError::unavailable(error).of(client.id()))?;
        }
        Ok((client, token.map(|token| token.id().to_owned())))
    }

    /// Returns the token to revoke, if there is one. RFC 7009 §2.1: a client may revoke only its own tokens. §2.2: it
    /// learns nothing about others. `token_type_hint` is only a hint and not needed: a token contains its type.
    fn issued_token_of(&self, client: &ClientId, token: &str) -> Result<Option<IssuedToken>, TokenError> {
        match self.minter.issued_tokens().recognise(token) {
            Ok(token) => {
                let is_of_use = token.is_of_use(UnixTime::now(&*self.minter.clock));
                Ok(Some(token).filter(|token| is_of_use && token.client_id() == client))
            }
            Err(NotIssued::Unknown) => Ok(None),
            Err(NotIssued::CutOff) => Err(TokenError::cut_off()),
            // §2.2.1: this server signed it, but no one can revoke it.
            Err(NotIssued::AnotherType) => Err(Fault::TOKEN_TYPE.into()),
        }
    }
}

/// Returns the answer to a revocation. RFC 7009 §2.2: the client ignores the body. It is JSON because some clients
/// parse every answer as JSON, and fail for an answer without a content type.
fn revoked() -> Response<Full<Bytes>> {
    answer(StatusCode::OK, Bytes::from_static(b"{}"))
}

//! `POST /introspect` (RFC 7662): returns the content of an active token to a resource server, as JSON, or as a JWT on
//! request (RFC 9701).

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use serde_json::{Map, Value};

use super::authenticate::AuthenticatedClient;
use super::error::{Fault, TokenError};
use super::head::Head;
use super::token::{Minter, TokenPipeline};
use super::token_query::TokenQuery;
use crate::clock::UnixTime;
use crate::event::Outcome;
use crate::keys::Signing;
use crate::registration::RegisteredClient;
use crate::transport::{json_answer, uncached_answer};
use crate::verification::{IssuedToken, NotIssued, VerifyError};

const NAME: &str = "introspection endpoint";

/// The result for a resource server: the content of an active token, or only that the token is not active.
struct Introspection {
    caller: AuthenticatedClient,
    token: Option<IssuedToken>,
}

impl TokenPipeline {
    /// Answers a request. `body` is its body, or the reason why its head or body is refused.
    pub(super) async fn answer_introspection(
        &self,
        head: &Head,
        body: Result<Bytes, TokenError>,
    ) -> Response<Full<Bytes>> {
        let answered = async {
            let introspection = self.introspection(head, body).await?;
            let response = self.introspected(&introspection, wants_jwt(&head.headers)).await?;
            Ok((introspection, response))
        };
        match answered.await {
            Ok((Introspection { caller, token }, response)) => {
                let token_id = || token.as_ref().map(|token| token.id().to_owned());
                let outcome = || Outcome::Introspected { token_id: token_id(), credential: caller.used() };
                self.reporter.done(NAME, &head.extensions, caller.id(), outcome);
                response
            }
            Err(error) => {
                self.reporter.failed(NAME, &head.extensions, &error);
                self.refuse(error, head.version, &head.extensions)
            }
        }
    }

    async fn introspection(&self, head: &Head, body: Result<Bytes, TokenError>) -> Result<Introspection, TokenError> {
        let request = TokenQuery::read(&head.headers, &body?)?;
        let client = self.authenticator.authenticate(&request.credentials, head).await?;
        if client.introspects().is_empty() {
            return Err(TokenError::new(Fault::MAY_NOT_INTROSPECT).of(client.id()));
        }
        let token = self.active_token(&client, &request.token).map_err(|error| error.of(client.id()))?;
        Ok(Introspection { caller: client, token })
    }

    /// Returns the token if it is active. RFC 7662 §2.2: the caller does not learn why a token is not active.
    fn active_token(&self, client: &RegisteredClient, token: &str) -> Result<Option<IssuedToken>, TokenError> {
        let token = match self.minter.issued_tokens().recognise(token) {
            Ok(token) => token,
            Err(NotIssued::CutOff) => return Err(TokenError::cut_off()),
            Err(NotIssued::Unknown | NotIssued::AnotherType) => return Ok(None),
        };
        let is_for = |audience: &str| client.introspects().iter().any(|own| own == audience);
        if !token.audiences().any(is_for) || !token.is_current(UnixTime::now(&*self.minter.clock)) {
            return Ok(None);
        }
        let checked = self.minter.revocations.as_ref().map_or(Ok(()), |revocations| token.check(revocations));
        match checked {
            Ok(()) => Ok(Some(token)),
            Err(VerifyError::Refused(_)) => Ok(None),
            Err(VerifyError::Unavailable(unavailable)) => Err(TokenError::unavailable(unavailable)),
        }
    }

    async fn introspected(
        &self,
        introspection: &Introspection,
        as_jwt: bool,
    ) -> Result<Response<Full<Bytes>>, TokenError> {
        let members = introspection.members()?;
        if !as_jwt {
            return Ok(json_answer(StatusCode::OK, &members));
        }
        let now = self.minter.clock.now();
        let claims = Claims {
            iss: self.minter.issuer.as_str(),
            aud: introspection.caller.id().as_str(),
            iat: UnixTime::at(now).as_secs(),
            token_introspection: members,
        };
        let payload = serde_json::to_vec(&claims).map_err(TokenError::unavailable)?;
        let (signature, key) = {
            let key = self.minter.keys.signing_key_at(now).map_err(TokenError::unavailable)?;
            match key.start_as(TYPE, &payload) {
                Signing::Done(signed) => return Ok(jwt(signed.map_err(TokenError::unsigned)?)),
                Signing::Waiting(signature) => (signature, key.verifying_key()),
            }
        };
        let signed = signature.await.map_err(TokenError::unsigned)?;
        Minter::check_still_trusted(&self.minter.keys, &key)?;
        Ok(jwt(signed))
    }
}

impl Introspection {
    /// Returns the members of RFC 7662 §2.2 and those that a grant hook added. The hook's claims do not replace the
    /// standard ones.
    fn members(&self) -> Result<Map<String, Value>, TokenError> {
        let members = self.token.as_ref().map(IssuedToken::members).transpose().map_err(TokenError::unavailable)?;
        let mut members = members.unwrap_or_default();
        members.insert("active".to_owned(), self.token.is_some().into());
        if self.token.is_some() {
            members.insert("token_type".to_owned(), "Bearer".into());
        }
        Ok(members)
    }
}

/// The claims of the JWT. RFC 9701 §5: the token's content is in a member of its own, so that the answer is not
/// accepted as the token.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    iat: u64,
    token_introspection: Map<String, Value>,
}

const TYPE: &str = "token-introspection+jwt";
const MEDIA_TYPE: &str = "application/token-introspection+jwt";

/// Returns whether the caller asks for a JWT by name, with at least the weight of JSON (RFC 9701 §4).
fn wants_jwt(headers: &HeaderMap) -> bool {
    let accepted = || {
        let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(','))
    };
    let quality = |media_type| accepted().filter_map(|range| quality_of(range, media_type)).max().unwrap_or_default();
    let jwt = quality(MEDIA_TYPE);
    jwt > 0 && jwt >= quality("application/json")
}

/// Returns the weight (RFC 9110 §12.4.2) of a media range that names this type, in thousandths.
fn quality_of(range: &str, media_type: &str) -> Option<u16> {
    let mut parts = range.split(';').map(str::trim);
    parts.next().filter(|name| name.eq_ignore_ascii_case(media_type))?;
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    let weight = weight.map_or(Ok(1.0), str::parse::<f32>).ok()?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to 1,000
    Some((weight.clamp(0.0, 1.0) * 1_000.0) as u16)
}

fn jwt(signed: String) -> Response<Full<Bytes>> {
    uncached_answer(StatusCode::OK, HeaderValue::from_static(MEDIA_TYPE), signed)
}

#[cfg(test)]
mod tests {
    use http::header::ACCEPT;
    use http::{HeaderMap, HeaderValue};

    use super::wants_jwt;

    fn accepting(values: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ACCEPT, HeaderValue::from_static(value));
        }
        wants_jwt(&headers)
    }

    #[test]
    fn a_caller_gets_a_jwt_only_if_it_asks_for_one_by_name() {
        const JWT: &str = "application/token-introspection+jwt";
        for values in [
            &[JWT][..],
            &["Application/Token-Introspection+JWT; q=0.5"],
            &["application/json;q=0.9, application/token-introspection+jwt"],
            &["application/json", JWT],
        ] {
            assert!(accepting(values), "{values:?}");
        }
        for values in [
            &[][..],
            &["*/*"],
            &["application/*"],
            &["application/json"],
            &["application/token-introspection+jwt;q=0"],
            &["application/token-introspection+jwt;q=x"],
            &["application/json, application/token-introspection+jwt;q=0.9"],
        ] {
            assert!(!accepting(values), "{values:?}");
        }
    }
}

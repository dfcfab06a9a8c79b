//! One request for a token (RFC 6749 §4.4.2) and its answer (§5): form → [`Granted`].

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Response, StatusCode, Uri};
use serde::{Deserialize, Deserializer};

use super::access_token::check_type;
use super::token_error::{TokenSourceError, TokenSourceErrorKind};
use crate::client_authentication::Form;
use crate::object::Object;
use crate::quoted::{quoted, shown_url};
use crate::scope::Scopes;
use crate::transport::retry_after;

/// What decides which token the issuer gives: the key of the cache, within one set of credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct TokenQuery {
    pub(super) scopes: Scopes,
    /// RFC 8707.
    pub(super) resources: Vec<String>,
    /// Further parameters, such as the `audience` of Auth0.
    pub(super) parameters: Vec<(String, String)>,
}

impl TokenQuery {
    /// Returns the form without the client's authentication.
    pub(super) fn form(&self) -> Form<'_> {
        let mut form: Form<'_> = vec![("grant_type".into(), "client_credentials".into())];
        if !self.scopes.is_empty() {
            form.push(("scope".into(), self.scopes.as_str().into()));
        }
        form.extend(self.resources.iter().map(|resource| ("resource".into(), resource.into())));
        form.extend(self.parameters.iter().map(|(name, value)| (name.into(), value.into())));
        form
    }
}

/// A token as the issuer gave it.
pub(super) struct Granted {
    pub(super) text: String,
    pub(super) expires_in: Option<Duration>,
    pub(super) scopes: Option<Scopes>,
}

/// RFC 6749 §5.1.
#[derive(Deserialize)]
struct TokenResponse {
    access_token: String,
    #[serde(default)]
    token_type: Option<String>,
    #[serde(default)]
    expires_in: Option<Seconds>,
    #[serde(default)]
    scope: Option<String>,
}

/// RFC 6749 §5.2.
#[derive(Deserialize)]
struct ErrorResponse {
    error: String,
    #[serde(default)]
    error_description: Option<String>,
}

/// A number of seconds. Some servers write it as text, some with a fraction.
struct Seconds(Duration);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Whole(u64),
            Number(f64),
            Text(String),
        }
        let seconds = match Written::deserialize(deserializer)? {
            Written::Whole(seconds) => return Ok(Self(Duration::from_secs(seconds))),
            Written::Number(seconds) => Some(seconds),
            Written::Text(text) => text.trim().parse::<f64>().ok(),
        };
        // A negative life is over; one that is too long is as long as it can be.
        let seconds = seconds.filter(|seconds| !seconds.is_nan());
        let seconds = seconds.ok_or_else(|| serde::de::Error::custom("`expires_in` is not a number of seconds"))?;
        Ok(Self(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)))
    }
}

/// Reads the answer of the token endpoint. `now` is for a `Retry-After` that is a date.
pub(super) fn read(endpoint: &Uri, response: &Response<Bytes>, now: SystemTime) -> Result<Granted, TokenSourceError> {
    let endpoint = &shown_url(&endpoint.to_string());
    match response.status() {
        StatusCode::OK => read_token(response.body()).map_err(|what| {
            let content_type = content_type(response.headers());
            invalid(format!("the answer of {endpoint} ({content_type}) cannot be used: {what}"))
        }),
        status if status.is_redirection() => {
            Err(invalid(format!("{endpoint} answered with a redirect ({status}), which is not followed")))
        }
        status => Err(read_error(endpoint, status, response).with_retry_after(retry_after(response.headers(), now))),
    }
}

fn invalid(message: String) -> TokenSourceError {
    TokenSourceError::of(TokenSourceErrorKind::InvalidAnswer, message)
}

fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    value.map_or_else(|| "without a content type".to_owned(), |value| quoted(&value))
}

fn read_token(body: &[u8]) -> Result<Granted, String> {
    let Object::<TokenResponse>(answer) = serde_json::from_slice(body).map_err(|error| {
        // The text of serde's error may quote the token.
        match error.classify() {
            serde_json::error::Category::Data => "a member is missing or has the wrong type (RFC 6749 §5.1)",
            _ => "it is not JSON",
        }
    })?;
    check_type(answer.token_type.as_deref())?;
    let scopes = answer.scope.map(|scope| scope.parse()).transpose();
    Ok(Granted {
        text: answer.access_token,
        expires_in: answer.expires_in.map(|Seconds(life)| life),
        // A token is no worse for a scope that is written wrongly.
        scopes: scopes.unwrap_or_default(),
    })
}

fn read_error(endpoint: &str, status: StatusCode, response: &Response<Bytes>) -> TokenSourceError {
    let is_busy = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    let answer = serde_json::from_slice::<Object<ErrorResponse>>(response.body());
    match answer {
        Ok(Object(answer)) if !is_busy => {
            TokenSourceError::refused(endpoint, status.as_u16(), &answer.error, answer.error_description.as_deref())
        }
        _ if is_busy || status == StatusCode::REQUEST_TIMEOUT => {
            TokenSourceError::of(TokenSourceErrorKind::Unavailable, format!("{endpoint} answered {status}"))
        }
        _ => invalid(format!("{endpoint} answered {status} without an OAuth error; is this the token endpoint?")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use bytes::Bytes;
    use http::{Response, Uri};

    use super::{Granted, TokenQuery, read};
    use crate::client::token_error::{TokenSourceError, TokenSourceErrorKind};

    fn endpoint() -> Uri {
        Uri::from_static("https://auth.example.com/token")
    }

    fn answer(status: u16, body: &str) -> Result<Granted, TokenSourceError> {
        let response = Response::builder().status(status).body(Bytes::from(body.to_owned())).unwrap();
        read(&endpoint(), &response, SystemTime::now())
    }

    fn life(expires_in: &str) -> Option<Duration> {
        let body = format!(r#"{{"access_token": "a", "token_type": "bearer", "expires_in": {expires_in}}}"#);
        answer(200, &body).map_or_else(|error| panic!("{expires_in}: {error}"), |granted| granted.expires_in)
    }

    #[test]
    fn every_spelling_of_a_life_is_read() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(life("3600"), seconds(3_600));
        assert_eq!(life("\"3599\""), seconds(3_599), "Entra ID v1 writes text");
        assert_eq!(life("60.0"), seconds(60));
        assert_eq!(life("0"), seconds(0));
        assert_eq!(life("-5"), seconds(0));
        assert_eq!(life("null"), None);
        assert_eq!(life("1e300"), Some(Duration::MAX));
    }

    #[test]
    fn an_answer_that_cannot_be_used_is_named_without_its_token() {
        for (body, says) in [
            ("<html>secret</html>", "not JSON"),
            ("", "not JSON"),
            (r#"["secret", "Bearer"]"#, "wrong type"),
            (r#"{"token_type": "Bearer"}"#, "missing"),
            (r#"{"access_token": 5, "token_type": "Bearer"}"#, "wrong type"),
            (r#"{"access_token": "secret"}"#, "`token_type` is missing"),
            (r#"{"access_token": "secret", "token_type": "DPoP"}"#, "`token_type` is \"DPoP\""),
            (r#"{"access_token": "secret", "token_type": "Bearer", "expires_in": "soon"}"#, "wrong type"),
        ] {
            let error = answer(200, body).err().unwrap_or_else(|| panic!("{body} is accepted"));
            assert_eq!(error.kind(), TokenSourceErrorKind::InvalidAnswer, "{body}");
            assert!(error.to_string().contains(says) && !error.to_string().contains("secret"), "{body}: {error}");
        }
    }

    #[test]
    fn a_refusal_has_its_code_and_an_escaped_description() {
        let error =
            answer(401, r#"{"error": "invalid_client", "error_description": "no\nsuch client"}"#).err().unwrap();
        assert_eq!((error.kind(), error.code()), (TokenSourceErrorKind::Refused, Some("invalid_client")));
        assert!(error.to_string().contains(r"no\nsuch client"), "{error}");
        for (status, kind) in [
            (500, TokenSourceErrorKind::Unavailable),
            (503, TokenSourceErrorKind::Unavailable),
            (429, TokenSourceErrorKind::Unavailable),
            (404, TokenSourceErrorKind::InvalidAnswer),
            (307, TokenSourceErrorKind::InvalidAnswer),
        ] {
            assert_eq!(answer(status, "<html>").err().unwrap().kind(), kind, "{status}");
        }
    }

    #[test]
    fn an_error_says_how_long_the_issuer_asks_to_wait() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_700);
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let response = Response::builder().status(503).header("retry-after", date).body(Bytes::new()).unwrap();
        let error = read(&endpoint(), &response, now).err().unwrap();
        assert_eq!(error.retry_after(), Some(Duration::from_secs(77)));
    }

    #[test]
    fn no_error_shows_the_query_of_the_endpoint() {
        let endpoint = Uri::from_static("https://auth.example.com/token?key=hunter2");
        for (status, body) in [(200, "{}"), (307, ""), (400, r#"{"error": "invalid_client"}"#), (404, ""), (503, "")] {
            let response = Response::builder().status(status).body(Bytes::from_static(body.as_bytes())).unwrap();
            let error = read(&endpoint, &response, SystemTime::now()).err().unwrap().to_string();
            assert!(error.contains("https://auth.example.com/token?…") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_form_has_every_parameter_and_encodes_each() {
        let query = TokenQuery {
            scopes: "a b".parse().unwrap(),
            resources: vec!["https://api.example.com/?x=1&y".to_owned()],
            parameters: vec![("audience".to_owned(), "a+b".to_owned())],
        };
        assert_eq!(
            serde_urlencoded::to_string(query.form()).unwrap(),
            "grant_type=client_credentials&scope=a+b&resource=https%3A%2F%2Fapi.example.com%2F%3Fx%3D1%26y&audience=a%2Bb"
        );
    }
}

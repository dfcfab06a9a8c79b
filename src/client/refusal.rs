//! What an answer of a resource server says about the token that was sent.

use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};

use crate::scope::Scopes;

/// What a resource server says about a token that it refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The token is invalid.
    InvalidToken,
    /// Nothing. The cause may be the token, or the path, which may want another kind of credential.
    Unexplained,
}

/// gRPC's code `UNAUTHENTICATED`.
const UNAUTHENTICATED: &[u8] = b"16";

/// gRPC's code `PERMISSION_DENIED`.
const PERMISSION_DENIED: &[u8] = b"7";

/// Returns whether the answer is a success whose status does not depend on its headers, as that of gRPC does.
#[inline]
pub(super) fn is_plain_success(status: StatusCode, headers: &HeaderMap) -> bool {
    status.is_success() && !has_grpc_type(headers)
}

/// It looks at each header, which takes less time than hashing the name, unless there are dozens.
#[inline]
fn has_grpc_type(headers: &HeaderMap) -> bool {
    let media_type = headers.iter().find(|(name, _)| **name == CONTENT_TYPE);
    media_type.is_some_and(|(_, value)| value.as_bytes().starts_with(b"application/grpc"))
}

/// Returns whether the answer refuses the token, so that another token may help, and what it says about the token.
///
/// These answers do: a 401 with `error="invalid_token"` in a `Bearer` challenge (RFC 6750 §3.1), a 401 without any challenge, and a gRPC
/// answer that has status 16 in its head, which means that no message follows. A 401 with another error or another scheme is
/// about something else.
pub(super) fn refuses_token(status: StatusCode, headers: &HeaderMap) -> Option<Refusal> {
    let is_unauthorized = status == StatusCode::UNAUTHORIZED || is_grpc(status, headers, UNAUTHENTICATED);
    if !is_unauthorized {
        return None;
    }
    let mut values = headers.get_all(WWW_AUTHENTICATE).iter().peekable();
    if values.peek().is_none() {
        return Some(Refusal::Unexplained);
    }
    let mut challenges = values.filter_map(|value| value.to_str().ok()).flat_map(challenges);
    challenges.any(|challenge| challenge.is_bearer_error("invalid_token")).then_some(Refusal::InvalidToken)
}

/// Returns the URL of the resource's metadata that a 401 names (RFC 9728 §5.1).
pub(super) fn resource_metadata(status: StatusCode, headers: &HeaderMap) -> Option<String> {
    if status != StatusCode::UNAUTHORIZED {
        return None;
    }
    let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(challenges).find_map(|challenge| challenge.parameter("resource_metadata"))
}

/// Returns the scopes that the answer asks for, in a `Bearer` challenge with `error="insufficient_scope"` (RFC 6750 §3.1).
pub(super) fn required_scopes(status: StatusCode, headers: &HeaderMap) -> Option<Scopes> {
    if status != StatusCode::FORBIDDEN && !is_grpc(status, headers, PERMISSION_DENIED) {
        return None;
    }
    let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let scope = values.flat_map(challenges).find_map(|challenge| {
        let is_about_scope = challenge.is_bearer_error("insufficient_scope");
        challenge.parameter("scope").filter(|_| is_about_scope)
    })?;
    scope.parse().ok().filter(|scopes: &Scopes| !scopes.is_empty())
}

/// A trailers-only answer has its status among the headers.
fn is_grpc(status: StatusCode, headers: &HeaderMap, code: &[u8]) -> bool {
    status == StatusCode::OK
        && has_grpc_type(headers)
        && headers.get("grpc-status").is_some_and(|status| status.as_bytes() == code)
}

/// One challenge of a `WWW-Authenticate` header (RFC 9110 §11.6.1).
struct Challenge<'a> {
    scheme: &'a str,
    parameters: Vec<(&'a str, String)>,
}

impl Challenge<'_> {
    fn is_bearer_error(&self, error: &str) -> bool {
        self.scheme.eq_ignore_ascii_case("Bearer") && self.parameter("error").as_deref() == Some(error)
    }

    /// Returns a parameter that the challenge has exactly once.
    fn parameter(&self, name: &str) -> Option<String> {
        let mut found = self.parameters.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Some(value.clone()),
            _ => None,
        }
    }
}

/// Reads the challenges of one header value, up to the first mistake in it.
fn challenges(value: &str) -> impl Iterator<Item = Challenge<'_>> {
    let mut challenges = Vec::<Challenge<'_>>::new();
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (token, behind) = split_token(rest);
        if token.is_empty() {
            break;
        }
        match behind.trim_start_matches([' ', '\t']).strip_prefix('=') {
            // A parameter of the challenge that was begun before.
            Some(behind) if !behind.starts_with('=') => {
                let Some((text, behind)) = split_value(behind.trim_start_matches([' ', '\t'])) else {
                    // Padding of a token68, or a mistake, which the next round finds.
                    rest = behind;
                    continue;
                };
                let Some(challenge) = challenges.last_mut() else { break };
                challenge.parameters.push((token, text));
                rest = behind;
            }
            // Padding of a token68.
            Some(_) => rest = behind.trim_start_matches('='),
            None => {
                challenges.push(Challenge { scheme: token, parameters: Vec::new() });
                rest = behind;
            }
        }
    }
    challenges.into_iter()
}

/// `token` or `token68` (RFC 9110 §5.6.2, §11.2), and the rest.
fn split_token(text: &str) -> (&str, &str) {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(&byte);
    let end = text.bytes().position(|byte| !is_token(byte)).unwrap_or(text.len());
    text.split_at(end)
}

/// `token / quoted-string` (RFC 9110 §5.6.4), and the rest.
fn split_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (token, rest) = split_token(text);
        return (!token.is_empty()).then(|| (token.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, quoted.get(at + 1..)?)),
            '\\' => value.push(characters.next()?.1),
            _ => value.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};
    use proptest::prelude::*;

    use super::{Refusal, challenges, refuses_token, required_scopes};

    fn refuses(status: u16, headers: &[(&'static str, &str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        refuses_token(StatusCode::from_u16(status).unwrap(), &map).is_some()
    }

    #[test]
    fn a_401_about_the_token_refuses_it() {
        assert!(refuses(401, &[]));
        for challenge in [
            r#"Bearer error="invalid_token""#,
            r#"bearer realm="a, b=\"c\"", ERROR=invalid_token"#,
            r#"Bearer realm="x" , error = "invalid_token""#,
            r#"Basic realm="x", Bearer error="invalid_token""#,
            r#"Negotiate abc==, Bearer scope="a", error="invalid_token", error_description="expired""#,
            r#"Negotiate abc=, Bearer error="invalid_token""#,
            r#"Negotiate abc, Bearer error="invalid_token""#,
            r#"DPoP algs="ES256", Bearer error="invalid_token""#,
        ] {
            assert!(refuses(401, &[("www-authenticate", challenge)]), "{challenge}");
        }
        assert!(refuses(
            401,
            &[("www-authenticate", "Basic"), ("www-authenticate", r#"Bearer error="invalid_token""#)]
        ));
    }

    #[test]
    fn a_refusal_is_explained_by_a_challenge_only() {
        let mut headers = HeaderMap::new();
        assert_eq!(refuses_token(StatusCode::UNAUTHORIZED, &headers), Some(Refusal::Unexplained));
        headers.append("www-authenticate", r#"Bearer error="invalid_token""#.parse().unwrap());
        assert_eq!(refuses_token(StatusCode::UNAUTHORIZED, &headers), Some(Refusal::InvalidToken));
    }

    #[test]
    fn a_401_about_something_else_does_not() {
        for challenge in [
            "Bearer",
            r#"Bearer realm="x""#,
            r#"Bearer error="insufficient_scope""#,
            r#"Bearer error="invalid_request""#,
            r#"Bearer error="invalid_token", error="insufficient_scope""#,
            r#"Bearer realm="error=\"invalid_token\"""#,
            r#"DPoP error="invalid_token""#,
            r#"Basic realm="Bearer error=invalid_token""#,
            r#"Bearer, Basic error="invalid_token""#,
            r#"Bearer error="invalid_token"#,
            "",
            ",",
        ] {
            assert!(!refuses(401, &[("www-authenticate", challenge)]), "{challenge}");
        }
        for status in [200, 400, 403, 407, 500, 503] {
            assert!(!refuses(status, &[("www-authenticate", r#"Bearer error="invalid_token""#)]), "{status}");
        }
    }

    #[test]
    fn a_grpc_answer_refuses_the_token_by_status_16_in_its_head() {
        let grpc = ("content-type", "application/grpc+proto");
        assert!(refuses(200, &[grpc, ("grpc-status", "16")]));
        assert!(!refuses(200, &[grpc, ("grpc-status", "7")]));
        assert!(!refuses(200, &[grpc]), "the status comes after a message");
        assert!(!refuses(200, &[("content-type", "application/json"), ("grpc-status", "16")]));
        let other = ("www-authenticate", r#"Bearer error="insufficient_scope""#);
        assert!(!refuses(200, &[grpc, ("grpc-status", "16"), other]));
        assert!(refuses(200, &[("date", "now"), grpc, ("grpc-status", "16")]));
        // Only the first media type counts.
        assert!(!refuses(200, &[("content-type", "application/json"), grpc, ("grpc-status", "16")]));
    }

    #[test]
    fn the_scopes_that_an_answer_asks_for_are_those_of_its_bearer_challenge() {
        let required = |status: u16, headers: &[(&'static str, &str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, value.parse().unwrap());
            }
            required_scopes(StatusCode::from_u16(status).unwrap(), &map).map(|scopes| scopes.to_string())
        };
        let challenge = ("www-authenticate", r#"Bearer error="insufficient_scope", scope="a b""#);
        assert_eq!(required(403, &[challenge]).as_deref(), Some("a b"));
        let grpc = ("content-type", "application/grpc");
        assert_eq!(required(200, &[grpc, ("grpc-status", "7"), challenge]).as_deref(), Some("a b"));
        assert_eq!(required(401, &[challenge]), None);
        assert_eq!(required(200, &[grpc, ("grpc-status", "16"), challenge]), None);
        for other in [
            r#"Bearer error="insufficient_scope""#,
            r#"Bearer error="insufficient_scope", scope="""#,
            r#"Bearer error="insufficient_scope", scope="a", scope="b""#,
            r#"Bearer error="insufficient_scope", scope="é""#,
            r#"Bearer error="invalid_token", scope="a""#,
            r#"DPoP error="insufficient_scope", scope="a""#,
        ] {
            assert_eq!(required(403, &[("www-authenticate", other)]), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_a_panic(value in ".{0,200}") {
            challenges(&value).for_each(|challenge| drop(challenge.parameter("error")));
        }

        #[test]
        fn text_of_a_challenge_is_read_to_its_end(value in "[ -~\\t]{0,100}") {
            let _ = challenges(&value).count();
        }
    }
}

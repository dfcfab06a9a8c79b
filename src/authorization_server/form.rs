//! A POST body as form parameters (RFC 6749 §3.2 and appendix B): `http` → [`Form`].

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, Method};
use percent_encoding::percent_decode;

use super::body::BodyError;
use super::error::{Fault, TokenError};

/// The parameters of a request. Each name occurs once, but for those that may repeat; a parameter without a
/// value counts as omitted (RFC 6749 §3.2).
#[cfg_attr(test, derive(Debug))]
pub(super) struct Form(Vec<(String, String)>);

/// RFC 8707 §2 lets a request name several resources; nothing else may repeat.
const REPEATABLE: &str = "resource";

impl Form {
    /// Takes a form POST apart. `body` is what came of reading it, so that a request which is wrong in its head
    /// is refused for that.
    pub(super) fn read(head: &Parts, body: Result<Bytes, BodyError>) -> Result<Self, TokenError> {
        if head.method != Method::POST {
            return Err(Fault::METHOD.into());
        }
        if !is_form(&head.headers) {
            return Err(Fault::CONTENT_TYPE.into());
        }
        Self::parse(&body?)
    }

    fn parse(body: &[u8]) -> Result<Self, TokenError> {
        // The parser below mends what is malformed (`%zz` stays, invalid UTF-8 becomes U+FFFD): we refuse it first.
        if !is_strictly_encoded(body) {
            return Err(Fault::ENCODING.into());
        }
        let pairs: Vec<(String, String)> =
            serde_urlencoded::from_bytes(body).map_err(|error| TokenError::from(Fault::ENCODING).because(error))?;
        if pairs.iter().any(|(name, value)| has_control(name) || has_control(value)) {
            return Err(Fault::CONTROL_CHARACTER.into());
        }
        if repeats(&pairs) {
            return Err(Fault::REPEATED.into());
        }
        Ok(Self(pairs))
    }

    /// The value of a parameter that occurs once.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The values of a parameter that may repeat.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(own, value)| own == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }
}

/// Exactly one content type, `application/x-www-form-urlencoded`, with or without parameters.
pub(super) fn is_form(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(content_type), None) = (types.next(), types.next()) else { return false };
    let essence = content_type.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}

/// Decodes one form-encoded component, the way RFC 6749 appendix B wants it; `None` when it is malformed.
pub(super) fn decode_component(component: &[u8]) -> Option<String> {
    if !is_strictly_encoded(component) {
        return None;
    }
    let spaced: Vec<u8> = component.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    String::from_utf8(percent_decode(&spaced).collect()).ok()
}

/// Whether every `%` begins an escape, and the decoded text is UTF-8.
fn is_strictly_encoded(text: &[u8]) -> bool {
    let mut rest = text;
    while let [byte, tail @ ..] = rest {
        rest = match (byte, tail) {
            (b'%', [high, low, tail @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => tail,
            (b'%', _) => return false,
            _ => tail,
        };
    }
    let decoded: Cow<'_, [u8]> = percent_decode(text).into();
    std::str::from_utf8(&decoded).is_ok()
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

fn repeats(pairs: &[(String, String)]) -> bool {
    let mut seen = HashSet::new();
    pairs.iter().map(|(name, _)| name.as_str()).filter(|name| *name != REPEATABLE).any(|name| !seen.insert(name))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::{CONTENT_TYPE, Form, HeaderMap, decode_component, is_form};

    const FORM: &str = "application/x-www-form-urlencoded";

    fn form(body: &str) -> Form {
        Form::parse(body.as_bytes()).unwrap()
    }

    #[test]
    fn values_are_decoded_and_empty_ones_are_omitted() {
        let form = form("a=x+y%26&b=&resource=1&resource=2&c");
        assert_eq!(form.get("a"), Some("x y&"));
        assert_eq!((form.get("b"), form.get("c"), form.get("d")), (None, None, None));
        assert_eq!(form.all("resource").collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn malformed_and_repeated_parameters_are_refused() {
        for body in
            ["a=%", "a=%f", "a=%zz", "a=%FF", "a=%C3", "a=%00", "a=%0a", "%7f=a", "a=1&a=1", "a=1&a=", "a=\u{85}"]
        {
            assert!(Form::parse(body.as_bytes()).is_err(), "{body:?}");
        }
        assert!(Form::parse(b"a=\xff").is_err());
        assert!(Form::parse("a=%EF%BF%BD".as_bytes()).is_ok(), "U+FFFD itself is a character like any other");
    }

    #[test]
    fn the_content_type_is_form_in_any_case_with_any_parameter_and_comes_once() {
        let accepted = |types: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in types {
                headers.append(CONTENT_TYPE, HeaderValue::from_static(value));
            }
            is_form(&headers)
        };
        assert!(accepted(&[FORM]));
        assert!(accepted(&["Application/X-WWW-Form-Urlencoded ; charset=utf-8"]));
        assert!(!accepted(&[]));
        assert!(!accepted(&["application/json"]));
        assert!(!accepted(&["application/x-www-form-urlencodedx"]));
        assert!(!accepted(&[FORM, FORM]));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Form::parse(&body);
            let _ = decode_component(&body);
        }

        #[test]
        fn what_is_printed_is_parsed_back(value in "[^\\p{Cc}]+", other in "[^\\p{Cc}]+") {
            let printed = serde_urlencoded::to_string([("a", &value), ("b", &other)]).unwrap();
            let form = form(&printed);
            prop_assert_eq!((form.get("a"), form.get("b")), (Some(value.as_str()), Some(other.as_str())));
        }
    }
}

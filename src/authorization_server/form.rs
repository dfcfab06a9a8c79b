//! A POST body as form parameters (RFC 6749 §3.2 and appendix B): `http` → [`Form`].

use std::borrow::Cow;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};

use super::error::{Fault, TokenError};
use crate::quoted::quoted;
use crate::registration::ClientAuthMethod;

/// The parameters of a request. Each name occurs once, except those that may repeat. A parameter without a value counts
/// as omitted (RFC 6749 §3.2).
#[cfg_attr(test, derive(Debug))]
pub(super) struct Form<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

/// The usual maximum number of parameters.
const FEW: usize = 8;

/// The only parameter that may repeat (RFC 8707 §2).
const REPEATABLE: &str = "resource";

/// Limits that apply before the client is authenticated. A request needs fewer than ten parameters; the rest is for
/// extensions.
const MAX_PARAMETERS: usize = 64;
const MAX_RESOURCES: usize = 32;

/// Checks the head of a request: the method, the content type and the query. It runs before the body is read, so that an
/// invalid request gets its answer at once and does not hold a connection.
pub(super) fn check_head(head: &Parts) -> Result<(), TokenError> {
    check_form_post(head)?;
    check_query(head.uri.query())
}

/// Checks that the request is a POST of a form that is not compressed.
pub(super) fn check_form_post(head: &Parts) -> Result<(), TokenError> {
    if head.method != Method::POST {
        return Err(Fault::METHOD.into());
    }
    if !is_content_type(&head.headers, FORM) {
        return Err(Fault::CONTENT_TYPE.into());
    }
    if let Some(coding) = content_coding(&head.headers) {
        let detail = format!(
            "Content-Encoding is {} and must be absent or `identity`: turn compression of requests off in the client, or \
             decompress them in a layer outside of the token endpoint",
            quoted(&String::from_utf8_lossy(coding.as_bytes())),
        );
        return Err(TokenError::from(Fault::CONTENT_ENCODING).detailed(detail));
    }
    Ok(())
}

/// Checks that the query contains no credentials. RFC 6749 §2.3.1: they MUST NOT be in the request URI, where they
/// would end up in logs. Other query parameters are ignored.
pub(super) fn check_query(query: Option<&str>) -> Result<(), TokenError> {
    let pairs = query.into_iter().flat_map(|query| query.split('&'));
    let mut names = pairs.filter_map(|pair| component(pair, |byte| byte == b'=')).map(|(name, _)| name);
    if names.any(|name| ClientAuthMethod::PARAMETERS.contains(&&*name)) {
        return Err(Fault::QUERY.into());
    }
    Ok(())
}

impl<'a> Form<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, TokenError> {
        let text = std::str::from_utf8(body).map_err(|_| Fault::ENCODING)?;
        let (mut pairs, mut resources) = (Vec::with_capacity(FEW), 0);
        let mut rest = Some(text);
        while let Some(text) = rest {
            let (name, mut end) = component(text, |byte| byte == b'=' || byte == b'&').ok_or(Fault::ENCODING)?;
            // A parameter without `=` has no value.
            let mut value = None;
            if let Some((b'=', behind)) = end {
                let (decoded, end_of_pair) = component(behind, |byte| byte == b'&').ok_or(Fault::ENCODING)?;
                (value, end) = (Some(decoded), end_of_pair);
            }
            if value.is_some() || !name.is_empty() {
                resources += usize::from(name == REPEATABLE);
                if pairs.len() == MAX_PARAMETERS || resources > MAX_RESOURCES {
                    return Err(Fault::TOO_MANY_PARAMETERS.into());
                }
                pairs.push((name, value.unwrap_or(Cow::Borrowed(""))));
            }
            rest = end.map(|(_, rest)| rest);
        }
        let hides_control = |part: &Cow<'_, str>| matches!(part, Cow::Owned(decoded) if has_control(decoded));
        if has_control(text) || pairs.iter().any(|(name, value)| hides_control(name) || hides_control(value)) {
            return Err(Fault::CONTROL_CHARACTER.into());
        }
        if repeats(&pairs) {
            return Err(Fault::REPEATED.into());
        }
        Ok(Self(pairs))
    }

    /// Returns the value of a parameter that occurs once.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Takes the value of a parameter that occurs once, without copying it.
    pub(super) fn take(&mut self, name: &str) -> Option<Cow<'a, str>> {
        let (_, value) = self.0.iter_mut().find(|(own, value)| own == name && !value.is_empty())?;
        Some(std::mem::take(value))
    }

    /// Returns the values of a parameter that may repeat.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(own, value)| own == name && !value.is_empty()).map(|(_, value)| &**value)
    }
}

const FORM: &[u8] = b"application/x-www-form-urlencoded";

/// Returns whether there is exactly one content type, and it is `media_type`, with or without parameters.
#[inline]
pub(crate) fn is_content_type(headers: &HeaderMap, media_type: &[u8]) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter().map(HeaderValue::as_bytes);
    let (Some(content_type), None) = (types.next(), types.next()) else { return false };
    // Fast path for the usual spelling.
    content_type == media_type || {
        let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
        essence.trim_ascii().eq_ignore_ascii_case(media_type)
    }
}

/// Returns the first value of `Content-Encoding` other than `identity` (RFC 9110 §8.4). Such a body cannot be read
/// here: decompressing the bodies of unauthenticated callers would allow attacks on memory.
fn content_coding(headers: &HeaderMap) -> Option<&HeaderValue> {
    let is_identity = |coding: &[u8]| coding.is_empty() || coding.eq_ignore_ascii_case(b"identity");
    let is_plain =
        |value: &HeaderValue| value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).all(is_identity);
    headers.get_all(CONTENT_ENCODING).iter().find(|value| !is_plain(value))
}

/// A decoded component, the byte that ended it, and the rest of the text.
type Component<'a> = (Cow<'a, str>, Option<(u8, &'a str)>);

/// Returns the form-encoded component up to the first byte that `ends` it, decoded as in RFC 6749 appendix B. Such a
/// byte must be below `@`. Returns `None` if an escape is malformed, or the decoded text is not UTF-8. Each byte is
/// read once, and the text is copied only if it is encoded, which is rare.
#[inline]
pub(super) fn component(text: &str, ends: impl Fn(u8) -> bool) -> Option<Component<'_>> {
    let mut is_encoded = false;
    let end = text.bytes().position(|byte| {
        // All bytes with a meaning are below `@`.
        byte < b'@' && {
            is_encoded |= matches!(byte, b'%' | b'+');
            ends(byte)
        }
    });
    let component = text.get(..end.unwrap_or(text.len()))?;
    let rest = end.and_then(|end| Some((*text.as_bytes().get(end)?, text.get(end + 1..)?)));
    Some((if is_encoded { Cow::Owned(decode(component)?) } else { Cow::Borrowed(component) }, rest))
}

fn decode(component: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(component.len());
    let mut rest = component.bytes();
    while let Some(byte) = rest.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => hex_digit(rest.next()?)? << 4 | hex_digit(rest.next()?)?,
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

fn has_control(text: &str) -> bool {
    if !text.is_ascii() {
        return text.chars().any(char::is_control);
    }
    // Without early exit, so that the compiler can vectorize it.
    text.bytes().fold(false, |found, byte| found | byte.is_ascii_control())
}

/// Returns whether a parameter occurs twice. A few names are compared with each other; many are sorted, so that an
/// attacker's request does not take quadratic time.
fn repeats(pairs: &[(Cow<'_, str>, Cow<'_, str>)]) -> bool {
    let names = || pairs.iter().map(|(name, _)| &**name).filter(|name| *name != REPEATABLE);
    if pairs.len() <= FEW {
        return names().enumerate().any(|(place, name)| names().take(place).any(|earlier| earlier == name));
    }
    let mut names: Vec<&str> = names().collect();
    names.sort_unstable();
    !names.is_sorted_by(|one, next| one < next)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::{CONTENT_TYPE, Form, HeaderMap, component, is_content_type};

    const FORM: &str = "application/x-www-form-urlencoded";

    fn form(body: &str) -> Form<'_> {
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
        let many = "1=&2=&3=&4=&5=&6=&7=&8=&9=";
        assert!(Form::parse(many.as_bytes()).is_ok());
        assert!(Form::parse(format!("{many}&%31=").as_bytes()).is_err());
        assert!(Form::parse("a=%EF%BF%BD".as_bytes()).is_ok(), "U+FFFD itself is a valid character");
    }

    #[test]
    fn more_than_64_parameters_or_32_resources_are_refused() {
        let parameters = |count: usize| {
            let names: Vec<_> = (0..count).map(|number| format!("p{number}=&")).collect();
            names.concat()
        };
        let resources = |count: usize| "resource=https://a.example&".repeat(count);
        assert!(Form::parse(parameters(64).as_bytes()).is_ok());
        assert_eq!(form(&(parameters(32) + &resources(32))).all("resource").count(), 32);
        for body in [parameters(65), resources(33), parameters(33) + &resources(32), "a&".repeat(32 * 1024)] {
            let error = Form::parse(body.as_bytes()).unwrap_err();
            assert_eq!(error.kind().code(), "invalid_request", "{body:.80}");
            assert!(error.to_string().contains("64"), "{error}");
        }
    }

    #[test]
    fn the_content_type_occurs_once_in_any_case_and_with_any_parameter() {
        let accepted = |types: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in types {
                headers.append(CONTENT_TYPE, HeaderValue::from_static(value));
            }
            is_content_type(&headers, FORM.as_bytes())
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
            let _ = component(&String::from_utf8_lossy(&body), |_| false);
        }

        #[test]
        fn a_body_is_parsed_as_by_serde_urlencoded(body in "([a-f=&+é]|%2[0-9a-fA-F])*") {
            if let Ok(Form(pairs)) = Form::parse(body.as_bytes()) {
                let others: Vec<(String, String)> = serde_urlencoded::from_str(&body).unwrap();
                let own: Vec<_> = pairs.into_iter().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
                prop_assert_eq!(own, others);
            }
        }

        #[test]
        fn encoded_values_are_parsed_back(value in "[^\\p{Cc}]+", other in "[^\\p{Cc}]+") {
            let printed = serde_urlencoded::to_string([("a", &value), ("b", &other)]).unwrap();
            let form = form(&printed);
            prop_assert_eq!((form.get("a"), form.get("b")), (Some(value.as_str()), Some(other.as_str())));
        }
    }
}

//! A POST body as form parameters (RFC 6749 §3.2 and appendix B): `http` → [`Form`].

use std::borrow::Cow;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, Method};

use super::body::BodyError;
use super::error::{Fault, TokenError};

/// The parameters of a request. Each name occurs once, but for those that may repeat; a parameter without a
/// value counts as omitted (RFC 6749 §3.2).
#[cfg_attr(test, derive(Debug))]
pub(super) struct Form<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

/// As many parameters as a request has.
const FEW: usize = 8;

/// RFC 8707 §2 lets a request name several resources; nothing else may repeat.
const REPEATABLE: &str = "resource";

/// The body of a form POST. `body` is what came of reading it, so that a request which is wrong in its head is refused
/// for that.
pub(super) fn body(head: &Parts, body: Result<Bytes, BodyError>) -> Result<Bytes, TokenError> {
    if head.method != Method::POST {
        return Err(Fault::METHOD.into());
    }
    if !is_form(&head.headers) {
        return Err(Fault::CONTENT_TYPE.into());
    }
    Ok(body?)
}

impl<'a> Form<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, TokenError> {
        let text = std::str::from_utf8(body).map_err(|_| Fault::ENCODING)?;
        let mut pairs = Vec::with_capacity(FEW);
        let mut rest = Some(text);
        while let Some(text) = rest {
            let (pair, next) = split_once(text, b'&');
            if !pair.is_empty() {
                // A parameter without `=` is one without a value.
                let (name, value) = split_once(pair, b'=');
                let decoded = decode_component(name).zip(decode_component(value.unwrap_or_default()));
                pairs.push(decoded.ok_or(Fault::ENCODING)?);
            }
            rest = next;
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

    /// The value of a parameter that occurs once.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The values of a parameter that may repeat.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(own, value)| own == name && !value.is_empty()).map(|(_, value)| &**value)
    }
}

/// Exactly one content type, `application/x-www-form-urlencoded`, with or without parameters.
pub(super) fn is_form(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(content_type), None) = (types.next(), types.next()) else { return false };
    let essence = content_type.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}

/// What is before the first such ASCII character, and what is behind it. In a text as short as these, it is found faster
/// so than by the search of `str`.
pub(super) fn split_once(text: &str, ascii: u8) -> (&str, Option<&str>) {
    match text.bytes().position(|byte| byte == ascii) {
        Some(end) => (text.get(..end).unwrap_or_default(), text.get(end + 1..)),
        None => (text, None),
    }
}

/// Decodes one form-encoded component, the way RFC 6749 appendix B wants it; `None` when an escape is malformed, or the
/// text behind it is not UTF-8. Nothing is copied where there is nothing to decode, which is nearly always.
pub(super) fn decode_component(component: &str) -> Option<Cow<'_, str>> {
    if !component.as_bytes().contains(&b'%') && !component.as_bytes().contains(&b'+') {
        return Some(Cow::Borrowed(component));
    }
    let mut decoded = Vec::with_capacity(component.len());
    let mut rest = component.bytes();
    while let Some(byte) = rest.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => hex_digit(rest.next()?)? << 4 | hex_digit(rest.next()?)?,
            other => other,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
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
    // Not only up to the first one: so the compiler can look at many bytes at once.
    text.bytes().fold(false, |found, byte| found | byte.is_ascii_control())
}

/// A few are compared, many are sorted: a request has a few parameters, and an attacker's many still cost no square.
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

    use super::{CONTENT_TYPE, Form, HeaderMap, decode_component, is_form};

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
            let _ = decode_component(&String::from_utf8_lossy(&body));
        }

        #[test]
        fn what_is_printed_is_parsed_back(value in "[^\\p{Cc}]+", other in "[^\\p{Cc}]+") {
            let printed = serde_urlencoded::to_string([("a", &value), ("b", &other)]).unwrap();
            let form = form(&printed);
            prop_assert_eq!((form.get("a"), form.get("b")), (Some(value.as_str()), Some(other.as_str())));
        }
    }
}

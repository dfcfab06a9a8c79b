//! `client_secret_basic` (RFC 6749 §2.3.1): id and secret, form-encoded, in the `Authorization` header.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use zeroize::Zeroizing;

use super::{Fault, Form, SecretCredentials, TokenError, client_id};
use crate::authorization_server::form::component;
use crate::registration::ClientAuthMethod;

pub(crate) fn read(header: &HeaderValue, form: &Form<'_>) -> Result<SecretCredentials, TokenError> {
    let malformed =
        || TokenError::new(Fault::CLIENT).detailed("the Authorization header is not valid Basic authentication");
    let mut pair = decode(header).ok_or_else(malformed)?;
    let (id, secret) = split(&pair).ok_or_else(malformed)?;
    // Some clients repeat their id in the body. RFC 6749 does not forbid it if the ids are equal.
    if form.get("client_id").is_some_and(|repeated| repeated != id) {
        return Err(Fault::CLIENT_ID_DIFFERS.into());
    }
    let client_id = client_id(&id)?;
    let secret = match secret {
        Cow::Owned(decoded) => Zeroizing::new(decoded),
        // Keeps the buffer: a copy would be one more buffer to wipe.
        Cow::Borrowed(secret) => {
            let before = pair.len() - secret.len();
            pair.drain(..before);
            pair
        }
    };
    SecretCredentials::new(client_id, secret, ClientAuthMethod::ClientSecretBasic)
}

/// Returns `form( id ) ":" form( secret )` from `Basic base64( form( id ) ":" form( secret ) )`.
fn decode(header: &HeaderValue) -> Option<Zeroizing<String>> {
    let (scheme, token) = header.as_bytes().split_at_checked(5)?;
    let token = token.strip_prefix(b" ")?.trim_ascii();
    if !scheme.eq_ignore_ascii_case(b"Basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(token).ok()?);
    // Invalid UTF-8 is wiped, too.
    pair.map(Zeroizing::new).map_err(|error| Zeroizing::new(error.into_bytes())).ok()
}

fn split(pair: &str) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    let (id, end) = component(pair, |byte| byte == b':')?;
    let (_, secret) = end?;
    let (secret, _) = component(secret, |_| false)?;
    Some((id, secret))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn read(header: &HeaderValue) -> Option<(String, String)> {
        let pair = super::decode(header)?;
        super::split(&pair).map(|(id, secret)| (id.into_owned(), secret.into_owned()))
    }

    fn basic(scheme: &str, pair: &[u8]) -> Option<(String, String)> {
        read(&HeaderValue::from_str(&format!("{scheme} {}", STANDARD.encode(pair))).unwrap())
    }

    #[test]
    fn the_scheme_is_case_insensitive_and_the_first_colon_separates() {
        let pair = Some(("Open".to_owned(), "Sesame:x".to_owned()));
        for scheme in ["Basic", "basic", "bAsIc", "BASIC", "Basic "] {
            assert_eq!(basic(scheme, b"Open:Sesame:x"), pair, "{scheme}");
        }
        assert_eq!(basic("Basic", b"Open:"), Some(("Open".to_owned(), String::new())));
        assert_eq!(basic("Basic", b"a+b%3A:%25+"), Some(("a b:".to_owned(), "% ".to_owned())));
    }

    #[test]
    fn a_header_that_is_not_an_encoded_pair_is_refused() {
        for pair in [&b"nocolon"[..], b"a%zz:b", b"a:%", b"a:\xff", b""] {
            assert_eq!(basic("Basic", pair), None, "{pair:?}");
        }
        for header in ["Basic", "Basic ", "Basic ||", "Basic YQ", "Basic YTpi=", "Bearer YTpi", "BasicYTpi", ""] {
            assert_eq!(read(&HeaderValue::from_static(header)), None, "{header}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(32_u8..=255, 0..60)) {
            if let Ok(header) = HeaderValue::from_bytes(&bytes) {
                let _ = read(&header);
            }
        }

        #[test]
        fn an_encoded_pair_is_read_back(id in "[ -~]+", secret in "[ -~]+") {
            let encode = |text: &str| serde_urlencoded::to_string([("", text)]).unwrap().split_off(1);
            let pair = format!("{}:{}", encode(&id), encode(&secret));
            prop_assert_eq!(basic("Basic", pair.as_bytes()), Some((id, secret)));
        }
    }
}

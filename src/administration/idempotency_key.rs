//! [`IdempotencyKey`]: a request that creates a client at most once (draft-ietf-httpapi-idempotency-key-header).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;

use super::AdministrationRefusal;
use crate::client_id::ClientId;
use crate::crypto::sha256;
use crate::store::StoreError;

/// The value of `Idempotency-Key`. The id of the client follows from it and from the administrator, so a repeated request finds
/// the client that the first one created, on every replica and after a restart, and nothing has to be remembered.
pub(super) struct IdempotencyKey(String);

const NAME: &str = "idempotency-key";

/// The maximum length of a key, in bytes.
const MAX_BYTES: usize = 255;

/// The number of bytes of the digest that become the id.
const ID_BYTES: usize = 18;

impl IdempotencyKey {
    /// Reads the header: a string of RFC 9651 §3.3.3, or the same text without quotes, as many clients send it.
    pub(super) fn read(headers: &HeaderMap) -> Result<Option<Self>, AdministrationRefusal> {
        let invalid = || {
            AdministrationRefusal::request(
                "invalid `Idempotency-Key`: send it once, as a string of 1 to 255 visible ASCII characters",
            )
        };
        let mut values = headers.get_all(NAME).iter();
        let value = match (values.next(), values.next()) {
            (None, _) => return Ok(None),
            (Some(value), None) => value.to_str().map_err(|_| invalid())?.trim(),
            _ => return Err(invalid()),
        };
        let key = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
        let is_valid = (1..=MAX_BYTES).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_valid || key.contains(['"', '\\']) {
            return Err(invalid());
        }
        Ok(Some(Self(key.to_owned())))
    }

    /// Returns the id of the client that this administrator creates with the key.
    pub(super) fn client_id(&self, administrator: &ClientId) -> Result<ClientId, AdministrationRefusal> {
        // No id contains a line feed.
        let digest = sha256(format!("idempotency key\n{administrator}\n{}", self.0).as_bytes());
        id_of(digest.get(..ID_BYTES).unwrap_or(&digest))
    }
}

/// Returns a client id from random bytes or those of a digest.
pub(super) fn id_of(bytes: &[u8]) -> Result<ClientId, AdministrationRefusal> {
    let id = URL_SAFE_NO_PAD.encode(bytes).parse::<ClientId>();
    Ok(id.map_err(StoreError::new)?)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::IdempotencyKey;
    use crate::client_id::ClientId;

    fn read(values: &[&str]) -> Result<Option<String>, http::StatusCode> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("Idempotency-Key", HeaderValue::from_str(value).unwrap());
        }
        let key = IdempotencyKey::read(&headers).map_err(|refusal| refusal.status())?;
        Ok(key.map(|key| key.client_id(&ClientId::from_static("admin")).unwrap().to_string()))
    }

    #[test]
    fn a_key_is_read_with_and_without_quotes_and_leads_to_one_id_per_administrator() {
        assert_eq!(read(&[]), Ok(None));
        let id = read(&["8e03978e-40d5-43dd-bc93-6894a57f9324"]).unwrap().unwrap();
        assert_eq!(read(&["\"8e03978e-40d5-43dd-bc93-6894a57f9324\""]), Ok(Some(id.clone())));
        assert_ne!(read(&["\"another\""]), Ok(Some(id.clone())));
        let key = IdempotencyKey("8e03978e-40d5-43dd-bc93-6894a57f9324".to_owned());
        assert_ne!(key.client_id(&ClientId::from_static("other")).unwrap().to_string(), id);
        assert_eq!(id.len(), 24);
    }

    #[test]
    fn a_malformed_key_is_refused() {
        let long = "a".repeat(256);
        for values in [&[""][..], &["\"\""], &["a b"], &["\"a"], &["a\\b"], &[&long], &["a", "a"]] {
            assert_eq!(read(values), Err(http::StatusCode::BAD_REQUEST), "{values:?}");
        }
    }
}

//! The trust bundle of a SPIFFE trust domain (SPIFFE Trust Domain and Bundle §4).

use serde_json::{Map, Value, json};

/// The keys for JWT-SVIDs of a bundle, as a JWK Set.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) keys: Vec<u8>,
    #[cfg_attr(not(any(feature = "remote", test)), expect(dead_code, reason = "a fixed bundle is never replaced"))]
    pub(super) sequence: Option<u64>,
    /// In seconds.
    #[cfg_attr(not(any(feature = "remote", test)), expect(dead_code, reason = "a fixed bundle is never replaced"))]
    pub(super) refresh_hint: Option<u64>,
}

/// Returns the keys with the `use` `jwt-svid`. Keys without `use`, or with another one, are ignored (§4.2).
pub(super) fn svid_keys(json: &[u8]) -> Result<Bundle, String> {
    const MALFORMED: &str = "the trust bundle is not a JWK Set (SPIFFE Trust Domain and Bundle §4)";
    let bundle: Map<String, Value> = serde_json::from_slice(json).map_err(|_| MALFORMED)?;
    let keys = bundle.get("keys").and_then(Value::as_array).ok_or(MALFORMED)?;
    let keys: Vec<Value> = keys.iter().filter_map(svid_key).collect();
    if keys.is_empty() {
        return Err("the trust bundle has no key with the `use` `jwt-svid` and a `kid`".to_owned());
    }
    let number = |name: &str| bundle.get(name).and_then(Value::as_u64);
    let (sequence, refresh_hint) = (number("spiffe_sequence"), number("spiffe_refresh_hint"));
    Ok(Bundle { keys: json!({ "keys": keys }).to_string().into_bytes(), sequence, refresh_hint })
}

/// Returns the key as a JWK for signatures. A JWT-SVID selects its key by `kid`, so a key without one is useless.
fn svid_key(key: &Value) -> Option<Value> {
    let mut key = key.as_object().filter(|key| key.get("use").is_some_and(|name| name == "jwt-svid"))?.clone();
    key.get("kid").filter(|kid| kid.as_str().is_some_and(|kid| !kid.is_empty()))?;
    key.insert("use".to_owned(), "sig".into());
    Some(Value::Object(key))
}

/// The keys of a bundle from the Workload API.
#[cfg(feature = "workload_api")]
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StreamedKeys {
    /// A JWK Set.
    Some(Vec<u8>),
    /// The trust domain has no keys any more.
    None,
}

/// Returns the keys of a bundle from the Workload API. All of its keys are for JWT-SVIDs, so they need no `use` (SPIFFE Workload
/// API §6.2.2). Keys with the `use` of another kind of SVID are ignored.
#[cfg(feature = "workload_api")]
pub(super) fn streamed_keys(json: &[u8]) -> Result<StreamedKeys, String> {
    const MALFORMED: &str = "it is not a JWK Set (RFC 7517 §5)";
    let bundle: Map<String, Value> = serde_json::from_slice(json).map_err(|_| MALFORMED)?;
    let mut keys = bundle.get("keys").and_then(Value::as_array).ok_or(MALFORMED)?.clone();
    if keys.is_empty() {
        return Ok(StreamedKeys::None);
    }
    for key in keys.iter_mut().filter_map(Value::as_object_mut) {
        if key.get("use").is_none_or(|name| name == "sig") {
            key.insert("use".to_owned(), "jwt-svid".into());
        }
    }
    let keys: Vec<Value> = keys.iter().filter_map(svid_key).collect();
    if keys.is_empty() {
        return Err("none of its keys has a `kid` and is for JWT-SVIDs".to_owned());
    }
    Ok(StreamedKeys::Some(json!({ "keys": keys }).to_string().into_bytes()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::svid_keys;

    #[cfg(feature = "workload_api")]
    #[test]
    fn keys_of_the_workload_api_need_no_use_and_an_empty_set_is_not_an_error() {
        use super::{StreamedKeys, streamed_keys};
        let bundle = json!({"keys": [
            {"kid": "a", "kty": "EC"},
            {"kid": "b", "use": "sig", "kty": "EC"},
            {"kid": "c", "use": "jwt-svid", "kty": "EC"},
            {"kid": "d", "use": "x509-svid", "kty": "EC"},
            {"kty": "EC"},
            7,
        ]});
        let Ok(StreamedKeys::Some(keys)) = streamed_keys(bundle.to_string().as_bytes()) else { panic!("no keys") };
        let keys: Value = serde_json::from_slice(&keys).unwrap();
        let key = |name| json!({"kid": name, "use": "sig", "kty": "EC"});
        assert_eq!(keys, json!({"keys": [key("a"), key("b"), key("c")]}));
        assert_eq!(streamed_keys(br#"{"keys": []}"#), Ok(StreamedKeys::None));
        for bundle in
            ["", "[]", "{}", r#"{"keys": [{"kty": "EC"}]}"#, r#"{"keys": [{"use": "x509-svid", "kid": "a"}]}"#]
        {
            assert!(streamed_keys(bundle.as_bytes()).is_err(), "{bundle}");
        }
    }

    #[test]
    fn only_keys_for_jwt_svids_are_used() {
        let bundle = json!({"spiffe_sequence": 7, "spiffe_refresh_hint": 60, "keys": [
            {"use": "x509-svid", "kid": "a", "kty": "EC"},
            {"use": "jwt-svid", "kid": "b", "kty": "EC"},
            {"use": "jwt-svid", "kty": "EC"},
            {"use": "jwt-svid", "kid": "", "kty": "EC"},
            {"use": "sig", "kid": "c", "kty": "EC"},
            {"kid": "d", "kty": "EC"},
        ]});
        let bundle = svid_keys(bundle.to_string().as_bytes()).unwrap();
        assert_eq!((bundle.sequence, bundle.refresh_hint), (Some(7), Some(60)));
        let keys: Value = serde_json::from_slice(&bundle.keys).unwrap();
        assert_eq!(keys, json!({"keys": [{"use": "sig", "kid": "b", "kty": "EC"}]}));
        for bundle in ["", "[]", "{}", r#"{"keys": []}"#, r#"{"keys": [{"use": "x509-svid", "kid": "a"}]}"#] {
            assert!(svid_keys(bundle.as_bytes()).is_err(), "{bundle}");
        }
    }
}

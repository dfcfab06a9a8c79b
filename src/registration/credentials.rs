//! [`Credentials`]: what a client without shared secrets has, and the method that follows from it.

use super::{ClientAuthMethod, Credential, CredentialKind, MAX_KEY_URLS, MAX_NESTING, MAX_SHARED_SECRETS};
use crate::clock::UnixTime;

/// The credentials of a client other than its secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) list: Vec<Credential>,
    /// The time until which older forms of assertions are accepted.
    pub(crate) legacy_until: Option<UnixTime>,
    /// The last known use of the allowance for older assertions.
    pub(crate) legacy_audience_used: Option<UnixTime>,
}

impl Credentials {
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty() && self.legacy_until.is_none()
    }

    pub(super) fn numbers(&self) -> CredentialNumbers {
        let count =
            |is_counted: fn(&CredentialKind) -> bool| self.list.iter().filter(|own| is_counted(own.kind())).count();
        CredentialNumbers {
            secrets: count(|kind| matches!(kind, CredentialKind::Secret(_))),
            key_urls: count(|kind| matches!(kind, CredentialKind::KeysUrl(_))),
            nesting: self.list.iter().map(|own| own.kind().nesting()).max().unwrap_or_default(),
        }
    }

    fn methods(&self) -> impl Iterator<Item = ClientAuthMethod> {
        self.list.iter().map(Credential::method)
    }
}

/// The numbers of a client's credentials of the kinds of which only some are tried, and how deep the JSON values in its credentials are
/// nested.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CredentialNumbers {
    secrets: usize,
    key_urls: usize,
    nesting: usize,
}

impl CredentialNumbers {
    /// Larger than all others: those of a record, which can be older than the limits.
    pub(super) const UNLIMITED: Self = Self { secrets: usize::MAX, key_urls: usize::MAX, nesting: usize::MAX };

    /// Returns a mistake if there are more credentials of a kind than are tried, and more than there were `before`: the others
    /// would be refused as wrong. The same for the nesting, beyond which a store may not be able to read the record again.
    pub(super) fn too_many(self, before: Self) -> Option<String> {
        let kinds = [
            ("`client_secret_jwt`", self.secrets, before.secrets, MAX_SHARED_SECRETS),
            ("a `jwks_uri`", self.key_urls, before.key_urls, MAX_KEY_URLS),
        ];
        let too_many = kinds.into_iter().find(|(_, number, before, most)| number > most.max(before));
        if let Some((name, number, _, most)) = too_many {
            return Some(format!(
                "it has {number} credentials for {name}, and only {most} are tried; remove the old and expired ones"
            ));
        }
        (self.nesting > MAX_NESTING.max(before.nesting)).then(|| {
            format!(
                "it has `jwks` or `claims` with {} nested arrays and objects, and at most {MAX_NESTING} are allowed; remove the inner \
                 ones",
                self.nesting
            )
        })
    }
}

/// Returns the method of a client that has secrets. `set` is the shorthand `token_endpoint_auth_method` (RFC 7591 §2), and
/// `last` is the method that the client had.
pub(super) fn method_of_secrets(
    last: ClientAuthMethod,
    set: Option<ClientAuthMethod>,
) -> Result<ClientAuthMethod, String> {
    match set {
        None if last.is_secret() => Ok(last),
        None => Ok(ClientAuthMethod::default()),
        Some(method) if method.is_secret() => Ok(method),
        Some(method) => Err(format!(
            "its `token_endpoint_auth_method` is `{method}`, but it has a secret; remove the secret, or omit the method: each \
             credential has its own"
        )),
    }
}

/// Returns the method of a client that has no secrets: that of its first credential. The shorthand must not contradict the
/// credentials.
pub(super) fn method_without_secrets(
    last: ClientAuthMethod,
    set: Option<ClientAuthMethod>,
    credentials: Option<&Credentials>,
) -> Result<ClientAuthMethod, String> {
    let methods = || credentials.into_iter().flat_map(Credentials::methods);
    match (set, methods().next()) {
        (None, Some(first)) => Ok(first),
        (None, None) => Ok(Some(last).filter(|last| last.is_secret()).unwrap_or_default()),
        (Some(method), Some(_)) => match methods().find(|own| *own != method) {
            None => Ok(method),
            Some(other) => Err(format!(
                "its `token_endpoint_auth_method` is `{method}`, but it has a credential for `{other}`; omit the method: each \
                 credential has its own"
            )),
        },
        (Some(method), None) if method.is_secret() => Ok(method),
        (Some(method), None) => {
            Err(format!("its `token_endpoint_auth_method` is `{method}`, but it has no credential for it; add one"))
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::registration::{Client, ClientRules, Credential, RegisteredClient};
    use crate::secret::ClientSecret;

    #[test]
    fn a_fifth_secret_for_client_secret_jwt_or_url_of_keys_is_refused_since_only_four_are_tried() {
        let secret = || Credential::client_secret_jwt(&ClientSecret::generate().unwrap()).unwrap();
        let url = || Credential::jwks_uri("https://client.example/keys").unwrap();
        for (credential, says) in [
            (&secret as &dyn Fn() -> _, "it has 5 credentials for `client_secret_jwt`"),
            (&url, "5 credentials for a `jwks_uri`"),
        ] {
            let mut client = Client::with_credential("a", credential()).audience("https://api.example");
            for number in 1..=5 {
                let registered = client.clone().register();
                assert_eq!(registered.is_ok(), number <= 4, "{number}: {registered:?}");
                if let Err(error) = registered {
                    assert!(error.to_string().contains(says), "{error}");
                }
                client = client.credential(credential());
            }
        }
    }

    #[test]
    fn deeply_nested_jwks_or_claims_cannot_be_registered_and_a_record_that_has_them_is_read_and_can_only_get_others_less_deep()
     {
        let array = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        // The set or the claims are one level themselves.
        let jwks = |levels: usize| {
            let key = r#"{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
            Credential::jwks(format!(r#"{{"keys":[{key}],"a":{}}}"#, array(levels - 1))).unwrap()
        };
        let claims = |levels: usize| {
            let value: serde_json::Value = serde_json::from_str(&array(levels - 1)).unwrap();
            Credential::platform("https://i.example", "s", [("a", value)]).unwrap()
        };
        for credential in [&jwks as &dyn Fn(usize) -> _, &claims] {
            let client = |levels| Client::with_credential("a", credential(levels)).audience("https://api.example");
            let allowed = client(16).register().unwrap();
            for levels in [17, 100] {
                assert_eq!(
                    client(levels).register().unwrap_err().to_string(),
                    format!(
                        "client `a`: it has `jwks` or `claims` with {levels} nested arrays and objects, and at most 16 are allowed; \
                         remove the inner ones"
                    )
                );
            }
            let record = |levels: usize| {
                let record = serde_json::to_string(&allowed).unwrap().replace(&array(15), &array(levels - 1));
                serde_json::from_str::<RegisteredClient>(&record)
            };
            let deep = record(100).unwrap();
            assert_eq!(deep.edit().disabled().enabled(true).register().unwrap(), deep);
            let changed = |levels| deep.edit().without_credential("1").credential(credential(levels)).register();
            assert!(changed(100).is_ok() && changed(101).is_err());

            let mut rules = ClientRules::default();
            (rules.accepted.keys, rules.accepted.platforms) = (true, vec!["https://i.example".to_owned()]);
            assert!(rules.check(&deep).is_ok() && rules.check_stored(&deep).is_err());
        }
    }

    #[test]
    fn a_record_with_more_credentials_than_can_be_registered_is_read_and_can_only_get_fewer() {
        let url = |number: usize| {
            let method = "private_key_jwt";
            serde_json::json!({"label": number.to_string(), "method": method, "jwks_uri": format!("https://a.example/{number}")})
        };
        let credentials: Vec<_> = (1..=6).map(url).collect();
        let record = serde_json::json!({
            "client_id": "a", "client_secrets": [], "audiences": ["https://api.example"], "credentials": credentials,
        });
        let six: RegisteredClient = serde_json::from_value(record).unwrap();
        assert_eq!(six.edit().register().unwrap(), six);
        assert!(six.edit().disabled().register().is_ok());
        let more = |client: &RegisteredClient| {
            client.edit().credential(Credential::jwks_uri("https://a.example/7").unwrap()).register()
        };
        let why = more(&six).unwrap_err().to_string();
        assert_eq!(
            why,
            "client `a`: it has 7 credentials for a `jwks_uri`, and only 4 are tried; remove the old and expired ones"
        );
        let five = six.edit().without_credential("1").register().unwrap();
        assert!(more(&five).is_err());

        // A server that reads it from its store warns, and one that has it in a file or in memory starts.
        let mut rules = ClientRules::default();
        (rules.accepted.keys, rules.accepted.key_urls) = (true, true);
        assert!(rules.check(&five).is_ok());
        assert!(rules.check_stored(&five).unwrap_err().to_string().contains("it has 5 credentials"));
        assert!(rules.check_stored(&five.edit().without_credential("2").register().unwrap()).is_ok());
    }
}

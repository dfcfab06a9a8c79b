//! [`Credentials`]: what a client without shared secrets has, and the method that follows from it.

use super::{ClientAuthMethod, Credential, CredentialKind, MAX_KEY_URLS, MAX_SHARED_SECRETS};
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

    /// Returns a mistake if there are more credentials of a kind than are tried: the others would be refused as wrong.
    pub(super) fn too_many(&self) -> Option<String> {
        let count =
            |is_counted: fn(&CredentialKind) -> bool| self.list.iter().filter(|own| is_counted(own.kind())).count();
        let kinds = [
            ("`client_secret_jwt`", count(|kind| matches!(kind, CredentialKind::Secret(_))), MAX_SHARED_SECRETS),
            ("a `jwks_uri`", count(|kind| matches!(kind, CredentialKind::KeysUrl(_))), MAX_KEY_URLS),
        ];
        let (name, number, most) = kinds.into_iter().find(|(_, number, most)| number > most)?;
        Some(format!(
            "it has {number} credentials for {name}, and only {most} are tried; remove the old and expired ones"
        ))
    }

    fn methods(&self) -> impl Iterator<Item = ClientAuthMethod> {
        self.list.iter().map(Credential::method)
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
    use crate::registration::{Client, Credential};
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
}

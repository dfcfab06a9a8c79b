//! [`Credentials`]: what a client without shared secrets has, and the method that follows from it.

use super::{ClientAuthMethod, Credential};
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

//! [`Credentials`]: the credentials of a request, read from its head and its form.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::assertion::{self, AssertionCredentials};
use super::secret::{SecretCredentials, basic, post};
use crate::authorization_server::error::{Fault, TokenError};
use crate::authorization_server::form::Form;

/// The credentials of a request, by kind: well-formed, but not yet checked.
pub(in crate::authorization_server) enum Credentials {
    Secret(SecretCredentials),
    Assertion(AssertionCredentials),
}

impl Credentials {
    /// Reads the credentials of the one method by which the request authenticates.
    pub(in crate::authorization_server) fn read(headers: &HeaderMap, form: &Form<'_>) -> Result<Self, TokenError> {
        let mut headers = headers.get_all(AUTHORIZATION).iter();
        let header = headers.next();
        let in_body = ["client_secret", "client_assertion"].map(|name| form.get(name));
        let methods = headers.count() + usize::from(header.is_some()) + in_body.iter().flatten().count();
        match (header, in_body) {
            _ if methods > 1 => Err(Fault::TWO_METHODS.into()),
            (Some(header), _) => basic::read(header, form).map(Self::Secret),
            (_, [Some(secret), _]) => post::read(secret, form).map(Self::Secret),
            (_, [_, Some(text)]) => assertion::read(text, form).map(Self::Assertion),
            _ => Err(TokenError::new(Fault::CLIENT).detailed("the request has no client credentials")),
        }
    }
}

//! [`TokenQuery`]: a request about a token (RFC 7009 §2.1, RFC 7662 §2.1).

use http::HeaderMap;

use super::authenticate::Credentials;
use super::error::{Fault, TokenError};
use super::form::Form;

/// A well-formed request with a token that was not checked yet.
pub(crate) struct TokenQuery {
    pub(crate) credentials: Credentials,
    pub(crate) token: String,
}

impl TokenQuery {
    pub(crate) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, TokenError> {
        let form = Form::parse(body)?;
        let credentials = Credentials::read(headers, &form)?;
        let token = form.get("token").ok_or(Fault::NO_TOKEN)?.to_owned();
        Ok(Self { credentials, token })
    }
}

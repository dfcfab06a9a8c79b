//! The request about a token (RFC 7009 §2.1, RFC 7662 §2.1): `http` → [`PresentedToken`].

use bytes::Bytes;
use http::request::Parts;

use super::authenticate::Credentials;
use super::request::no_credentials_in_query;
use crate::authorization_server::body::BodyError;
use crate::authorization_server::error::{Fault, TokenError};
use crate::authorization_server::form::{self, Form};

/// A well-formed request that shows a token to the server. What the token is has yet to be seen.
pub(in crate::authorization_server) struct PresentedToken {
    pub(in crate::authorization_server) credentials: Credentials,
    pub(in crate::authorization_server) token: String,
}

impl PresentedToken {
    pub(in crate::authorization_server) fn read(
        head: &Parts,
        body: Result<Bytes, BodyError>,
    ) -> Result<Self, TokenError> {
        let body = form::body(head, body)?;
        let form = Form::parse(&body)?;
        no_credentials_in_query(head.uri.query())?;
        let credentials = Credentials::read(&head.headers, &form)?;
        let token = form.get("token").ok_or(Fault::NO_TOKEN)?.to_owned();
        Ok(Self { credentials, token })
    }
}

//! The request for a token (RFC 6749 §4.4.2, RFC 8707 §2): `http` → [`TokenRequest`].

use bytes::Bytes;
use http::Method;
use http::request::Parts;

use super::authenticate::Credentials;
use crate::audience::Audience;
use crate::authorization_server::body::BodyError;
use crate::authorization_server::error::{Fault, TokenError};
use crate::authorization_server::form::{self, Form, component, is_form};
use crate::scope::Scopes;

/// A well-formed request of the client-credentials grant.
pub(super) struct TokenRequest {
    pub(super) credentials: Credentials,
    /// `None` when the client leaves the choice to us.
    pub(super) scopes: Option<Scopes>,
    pub(super) resources: Vec<Audience>,
}

impl TokenRequest {
    pub(super) fn read(head: &Parts, body: Result<Bytes, BodyError>) -> Result<Self, TokenError> {
        let body = form::body(head, body)?;
        let form = Form::parse(&body)?;
        no_credentials_in_query(head.uri.query())?;
        grant_type(&form)?;
        Ok(Self {
            credentials: Credentials::read(&head.headers, &form)?,
            scopes: scopes(&form)?,
            resources: resources(&form)?,
        })
    }
}

/// Whether a request at the token path is none of ours: a form that names another grant, and ours nowhere.
pub(in crate::authorization_server) fn is_another_grant(head: &Parts, body: &[u8]) -> bool {
    head.method == Method::POST
        && is_form(&head.headers)
        && serde_urlencoded::from_bytes::<Vec<(String, String)>>(body).is_ok_and(|pairs| {
            let mut grants = pairs.iter().filter(|(name, _)| name == "grant_type").map(|(_, value)| value).peekable();
            grants.peek().is_some() && grants.all(|grant| !grant.is_empty() && grant != CLIENT_CREDENTIALS)
        })
}

const CLIENT_CREDENTIALS: &str = "client_credentials";

/// RFC 6749 §2.3.1: the credentials MUST NOT be in the request URI, where they end up in logs. Other parameters there
/// are not read.
pub(super) fn no_credentials_in_query(query: Option<&str>) -> Result<(), TokenError> {
    let pairs = query.into_iter().flat_map(|query| query.split('&'));
    let mut names = pairs.filter_map(|pair| component(pair, |byte| byte == b'=')).map(|(name, _)| name);
    if names.any(|name| CREDENTIALS.contains(&&*name)) {
        return Err(Fault::QUERY.into());
    }
    Ok(())
}

const CREDENTIALS: [&str; 2] = ["client_secret", "client_assertion"];

fn grant_type(form: &Form<'_>) -> Result<(), TokenError> {
    match form.get("grant_type") {
        Some(CLIENT_CREDENTIALS) => Ok(()),
        Some(_) => Err(Fault::GRANT_TYPE.into()),
        None => Err(Fault::NO_GRANT_TYPE.into()),
    }
}

fn scopes(form: &Form<'_>) -> Result<Option<Scopes>, TokenError> {
    let scopes = form.get("scope").map(str::parse::<Scopes>).transpose();
    let scopes = scopes.map_err(|error| TokenError::from(Fault::SCOPE_SYNTAX).because(error))?;
    Ok(scopes.filter(|scopes| !scopes.is_empty()))
}

fn resources(form: &Form<'_>) -> Result<Vec<Audience>, TokenError> {
    let resources: Result<_, _> = form.all("resource").map(str::parse).collect();
    resources.map_err(|error: crate::InvalidAudience| TokenError::from(Fault::RESOURCE_SYNTAX).because(error))
}

//! The request for a token (RFC 6749 §4.4.2, RFC 8707 §2): `http` → [`TokenRequest`].

use http::HeaderMap;

use super::audience_parameter::AudienceParameter;
use super::authenticate::Credentials;
use crate::audience::{Audience, InvalidAudience};
use crate::authorization_server::error::{Fault, TokenError};
use crate::authorization_server::form::Form;
use crate::scope::Scopes;

/// A well-formed request of the client-credentials grant.
pub(super) struct TokenRequest {
    pub(super) credentials: Credentials,
    /// `None` when the client leaves the choice to us.
    pub(super) scopes: Option<Scopes>,
    pub(super) resources: Vec<Audience>,
    /// Whether the request has a parameter `audience` that names no resource here.
    pub(super) has_ignored_audience: bool,
}

impl TokenRequest {
    pub(super) fn read(
        headers: &HeaderMap,
        body: &[u8],
        audience_parameter: &AudienceParameter,
    ) -> Result<Self, TokenError> {
        let form = Form::parse(body)?;
        grant_type(&form)?;
        Ok(Self {
            credentials: Credentials::read(headers, &form)?,
            scopes: scopes(&form)?,
            resources: resources(&form, audience_parameter)?,
            has_ignored_audience: !audience_parameter.is_accepted() && form.get("audience").is_some(),
        })
    }
}

/// Returns whether a form at the token path is for the wrapped service: it names another grant, and ours nowhere.
pub(in crate::authorization_server) fn is_another_grant(body: &[u8]) -> bool {
    serde_urlencoded::from_bytes::<Vec<(String, String)>>(body).is_ok_and(|pairs| {
        let mut grants = pairs.iter().filter(|(name, _)| name == "grant_type").map(|(_, value)| value).peekable();
        grants.peek().is_some() && grants.all(|grant| !grant.is_empty() && grant != CLIENT_CREDENTIALS)
    })
}

const CLIENT_CREDENTIALS: &str = "client_credentials";

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

/// `resource` may repeat (RFC 8707 §2). An accepted `audience` is another name of it, and may not name another resource.
fn resources(form: &Form<'_>, audience_parameter: &AudienceParameter) -> Result<Vec<Audience>, TokenError> {
    let malformed = |error: InvalidAudience| TokenError::from(Fault::RESOURCE_SYNTAX).because(error);
    let resources: Result<Vec<Audience>, _> = form.all("resource").map(str::parse).collect();
    let resources = resources.map_err(malformed)?;
    let audience = audience_parameter.is_accepted().then(|| form.get("audience")).flatten();
    let Some(audience) = audience else { return Ok(resources) };
    let audience: Audience = audience.parse().map_err(malformed)?;
    if resources.is_empty() {
        return Ok(vec![audience]);
    }
    let normal = audience.normal_form();
    let is_the_same = |resource: &Audience| *resource == audience || resource.normal_form() == normal;
    if resources.iter().all(is_the_same) { Ok(resources) } else { Err(Fault::AUDIENCE_DIFFERS.into()) }
}

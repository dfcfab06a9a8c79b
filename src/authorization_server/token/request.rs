//! [`TokenRequest`]: a token request (RFC 6749 §4.4.2, RFC 8707 §2).

use std::borrow::Cow;
use std::fmt;

use http::HeaderMap;
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};

use crate::audience::{Audience, InvalidAudience};
use crate::authorization_server::authenticate::Credentials;
use crate::authorization_server::error::{Fault, TokenError};
use crate::authorization_server::form::Form;
use crate::scope::{InvalidScope, Scopes};

/// A well-formed request for the client-credentials grant.
pub(super) struct TokenRequest<'a> {
    pub(super) credentials: Credentials,
    /// `None` if the request has no `scope`, and gets the default.
    pub(super) scopes: Option<RequestedScopes<'a>>,
    pub(super) resources: Vec<Audience>,
    /// Whether the request has a parameter `audience` that is ignored.
    pub(super) has_ignored_audience: bool,
}

impl<'a> TokenRequest<'a> {
    pub(super) fn read(headers: &HeaderMap, body: &'a [u8], accepts_audience: bool) -> Result<Self, TokenError> {
        let mut form = Form::parse(body)?;
        grant_type(&form)?;
        Ok(Self {
            credentials: Credentials::read(headers, &form)?,
            resources: resources(&form, accepts_audience)?,
            has_ignored_audience: !accepts_audience && form.get("audience").is_some(),
            scopes: scopes(&mut form)?,
        })
    }
}

/// Returns whether a form at the token path is for the wrapped service: it names another grant, and nowhere
/// `client_credentials`.
pub(crate) fn is_another_grant(body: &[u8]) -> bool {
    serde_urlencoded::from_bytes::<GrantTypes>(body).is_ok_and(|grants| grants.are_others)
}

/// The result of all parameters named `grant_type`. The parameters themselves are not stored.
struct GrantTypes {
    are_others: bool,
}

impl<'de> Deserialize<'de> for GrantTypes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(GrantTypesVisitor)
    }
}

struct GrantTypesVisitor;

impl<'de> Visitor<'de> for GrantTypesVisitor {
    type Value = GrantTypes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("form parameters")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pairs: A) -> Result<GrantTypes, A::Error> {
        let (mut is_named, mut names_ours) = (false, false);
        while let Some((Text(name), Text(value))) = pairs.next_element()? {
            if name == "grant_type" {
                is_named = true;
                names_ours |= value.is_empty() || value == CLIENT_CREDENTIALS;
            }
        }
        Ok(GrantTypes { are_others: is_named && !names_ours })
    }
}

/// A string that is copied only if it is encoded.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

const CLIENT_CREDENTIALS: &str = "client_credentials";

fn grant_type(form: &Form<'_>) -> Result<(), TokenError> {
    match form.get("grant_type") {
        Some(CLIENT_CREDENTIALS) => Ok(()),
        Some(_) => Err(Fault::GRANT_TYPE.into()),
        None => Err(Fault::NO_GRANT_TYPE.into()),
    }
}

/// The scopes of a request, well-formed. A large set takes memory, so it is created only after the client is
/// authenticated.
pub(super) enum RequestedScopes<'a> {
    Few(Scopes),
    Many(Cow<'a, str>),
}

/// The maximum length in bytes of a text that is parsed into a set before the client is authenticated.
const FEW_SCOPES: usize = 1024;

impl RequestedScopes<'_> {
    pub(super) fn scopes(&self) -> Result<Scopes, TokenError> {
        match self {
            Self::Few(scopes) => Ok(scopes.clone()),
            Self::Many(text) => text.parse().map_err(malformed_scope),
        }
    }
}

fn malformed_scope(error: InvalidScope) -> TokenError {
    TokenError::from(Fault::SCOPE_SYNTAX).because(error)
}

fn scopes<'a>(form: &mut Form<'a>) -> Result<Option<RequestedScopes<'a>>, TokenError> {
    let Some(text) = form.take("scope") else { return Ok(None) };
    if text.len() > FEW_SCOPES {
        let has_scope = Scopes::check(&text).map_err(malformed_scope)?;
        return Ok(has_scope.then_some(RequestedScopes::Many(text)));
    }
    let scopes: Scopes = text.parse().map_err(malformed_scope)?;
    Ok((!scopes.is_empty()).then_some(RequestedScopes::Few(scopes)))
}

/// Returns the requested resources. `resource` may repeat (RFC 8707 §2). An accepted `audience` is a synonym, and must
/// not name a different resource.
fn resources(form: &Form<'_>, accepts_audience: bool) -> Result<Vec<Audience>, TokenError> {
    let malformed = |error: InvalidAudience| TokenError::from(Fault::RESOURCE_SYNTAX).because(error);
    let resources: Result<Vec<Audience>, _> = form.all("resource").map(str::parse).collect();
    let resources = resources.map_err(malformed)?;
    let audience = accepts_audience.then(|| form.get("audience")).flatten();
    let Some(audience) = audience else { return Ok(resources) };
    let audience: Audience = audience.parse().map_err(malformed)?;
    if resources.is_empty() {
        return Ok(vec![audience]);
    }
    let normal = audience.normal_form();
    let is_the_same = |resource: &Audience| *resource == audience || resource.normal_form() == normal;
    if resources.iter().all(is_the_same) { Ok(resources) } else { Err(Fault::AUDIENCE_DIFFERS.into()) }
}

#[cfg(test)]
mod tests {
    use super::{FEW_SCOPES, Form, RequestedScopes, is_another_grant, scopes};

    #[test]
    fn a_set_of_scopes_is_made_before_authentication_only_of_a_short_text() {
        for (length, is_few) in [(1, true), (FEW_SCOPES, true), (FEW_SCOPES + 1, false), (2 * FEW_SCOPES, false)] {
            let text = "s".repeat(length);
            let body = format!("scope={text}");
            let requested = scopes(&mut Form::parse(body.as_bytes()).unwrap()).unwrap().unwrap();
            assert_eq!(matches!(requested, RequestedScopes::Few(_)), is_few, "{length}");
            assert_eq!(requested.scopes().unwrap().as_str(), text);
        }
    }

    #[test]
    fn a_form_is_for_the_wrapped_service_if_it_names_a_grant_and_nowhere_ours() {
        for body in ["grant_type=refresh_token", "a=b&grant_type=password&a=b", "grant_type=a&grant_type=b"] {
            assert!(is_another_grant(body.as_bytes()), "{body}");
        }
        for body in [
            "",
            "a=b",
            "grant_type",
            "grant_type=",
            "grant_type=client_credentials",
            "grant%5Ftype=client%5Fcredentials",
            "grant_type=password&grant_type=client_credentials",
            "grant_type=client_credentials&grant_type=password",
            "grant_type=&grant_type=password",
            "grant_type=password&grant_type=",
            "other=password",
        ] {
            assert!(!is_another_grant(body.as_bytes()), "{body}");
        }
    }
}

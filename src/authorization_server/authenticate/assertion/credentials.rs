//! The parameters of an assertion (RFC 7521 §4.2).

use super::invalid::{AssertionRule, Refusal};
use crate::authorization_server::form::Form;
use crate::quoted::quoted;

/// An assertion as it was sent.
pub(crate) struct AssertionCredentials {
    pub(super) text: Box<str>,
    pub(super) kind: AssertionKind,
    /// The parameter `client_id`, which may be absent (RFC 7521 §4.2).
    pub(super) client_id: Option<Box<str>>,
}

/// The kind of an assertion. It selects the credentials with which the assertion is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AssertionKind {
    /// A JWT of the client, or of a platform.
    JwtBearer,
    /// A JWT-SVID.
    JwtSpiffe,
}

/// The `client_assertion_type` of draft-ietf-oauth-spiffe-client-auth.
pub(super) const JWT_SPIFFE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe";

/// The `client_assertion_type` of RFC 7523 §2.2.
pub(super) const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Reads the parameters that belong to the assertion in this text.
pub(super) fn read(text: &str, form: &Form<'_>) -> Result<AssertionCredentials, Refusal> {
    let kind = match form.get("client_assertion_type") {
        Some(JWT_BEARER) => AssertionKind::JwtBearer,
        Some(JWT_SPIFFE) => AssertionKind::JwtSpiffe,
        found => {
            let found = found.map_or_else(|| "absent".to_owned(), quoted);
            let text = format!(
                "the parameter `client_assertion_type` is {found}, expected \"{JWT_BEARER}\"; set it in the client"
            );
            return Err(Refusal::new(AssertionRule::AssertionType, text));
        }
    };
    Ok(AssertionCredentials { text: text.into(), kind, client_id: form.get("client_id").map(Box::from) })
}

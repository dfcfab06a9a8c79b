//! The scopes of a grant: those that the request names (RFC 6749 §3.3), or the default, within what the client and the resources
//! allow.

use super::GrantPolicy;
use crate::audience::Audience;
use crate::authorization_server::authenticate::AuthenticatedClient;
use crate::authorization_server::error::{Fault, TokenError};
use crate::registration::shorten;
use crate::scope::Scopes;

impl GrantPolicy {
    pub(super) fn scopes(
        &self,
        client: &AuthenticatedClient,
        requested: Option<&Scopes>,
        audiences: &[Audience],
    ) -> Result<Scopes, TokenError> {
        let Some(requested) = requested else {
            let default = client.default_scopes().unwrap_or(&self.default_scopes).intersection(client.scopes());
            return Ok(self.rules.scopes_at(&default, audiences));
        };
        if let Some(stray) = client.scopes().first_missing(requested) {
            let detail = format!(
                "the client is not allowed `{stray}`: its `scope` does not list it; to allow it, add it to the client with .scope(…)",
                stray = shorten(stray)
            );
            return Err(TokenError::new(Fault::SCOPE).of(client.id()).detailed(detail));
        }
        let granted = self.rules.scopes_at(requested, audiences);
        if granted.is_empty() {
            let detail = self.rules.why_no_scope(requested, audiences);
            return Err(TokenError::new(Fault::SCOPE).of(client.id()).detailed(detail));
        }
        Ok(granted)
    }
}

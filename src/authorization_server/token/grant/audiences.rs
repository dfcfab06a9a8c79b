//! The audiences of a grant: those that the request names by `resource` (RFC 8707 §2), or the default.

use super::GrantPolicy;
use crate::audience::Audience;
use crate::authorization_server::authenticate::AuthenticatedClient;
use crate::authorization_server::error::{Fault, TokenError};
use crate::registration::{ClientRules, RegisteredClient};

impl GrantPolicy {
    /// Returns the audiences of the grant. By default these are not all audiences of the client, because a token for
    /// one API must not be valid for another.
    pub(super) fn audiences(
        &self,
        client: &AuthenticatedClient,
        requested: &[Audience],
    ) -> Result<Vec<Audience>, TokenError> {
        if requested.is_empty() {
            let default = self.rules.default_audience(client).ok_or_else(|| {
                let (detail, may_name_one) = self.rules.why_no_default(client);
                let fault = if may_name_one { Fault::NO_RESOURCE } else { Fault::NO_AUDIENCE };
                TokenError::new(fault).of(client.id()).detailed(detail)
            })?;
            return Ok(vec![default.clone()]);
        }
        let mut granted = Vec::new();
        let mut registered = RegisteredAudiences::new(&self.rules, client);
        for resource in requested {
            let Some(audience) = registered.find(resource) else {
                let detail = self.rules.why_no_audience(client, resource);
                return Err(TokenError::new(Fault::RESOURCE).of(client.id()).detailed(detail));
            };
            if !granted.contains(audience) {
                granted.push(audience.clone());
            }
        }
        Ok(granted)
    }
}

/// The audiences of a client, for looking up the resources of its request.
struct RegisteredAudiences<'a> {
    rules: &'a ClientRules,
    client: &'a RegisteredClient,
    /// The audiences with their normal forms. Created once, and only if a resource is spelled differently.
    normal: Option<Vec<(String, &'a Audience)>>,
}

impl<'a> RegisteredAudiences<'a> {
    fn new(rules: &'a ClientRules, client: &'a RegisteredClient) -> Self {
        Self { rules, client, normal: None }
    }

    /// Returns the audience in the spelling of the registration: the audience with the same text, or the first that is
    /// equivalent by RFC 3986 §6.2.2 and §6.2.3. Clients that derive the resource from a URL may add or omit the slash
    /// after the authority.
    fn find(&mut self, resource: &Audience) -> Option<&'a Audience> {
        let same = self.rules.audience_of(self.client, resource);
        same.or_else(|| self.find_equivalent(&resource.normal_form()))
    }

    fn find_equivalent(&mut self, requested: &str) -> Option<&'a Audience> {
        let Self { rules, client, .. } = *self;
        let normal = self.normal.get_or_insert_with(|| {
            rules.audiences_of(client).map(|audience| (audience.normal_form(), audience)).collect()
        });
        normal.iter().find(|(normal, _)| normal == requested).map(|(_, audience)| *audience)
    }
}

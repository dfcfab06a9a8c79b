//! [`RegisteredAudiences`]: finds the audience of a client that a requested `resource` names (RFC 8707 §2).

use crate::audience::Audience;
use crate::registration::{ClientRules, RegisteredClient};

/// The audiences of a client, for looking up the resources of its request.
pub(super) struct RegisteredAudiences<'a> {
    rules: &'a ClientRules,
    client: &'a RegisteredClient,
    /// The audiences with their normal forms. Created once, and only if a resource is spelled differently.
    normal: Option<Vec<(String, &'a Audience)>>,
}

impl<'a> RegisteredAudiences<'a> {
    pub(super) fn new(rules: &'a ClientRules, client: &'a RegisteredClient) -> Self {
        Self { rules, client, normal: None }
    }

    /// Returns the audience in the spelling of the registration: the audience with the same text, or the first that is
    /// equivalent by RFC 3986 §6.2.2 and §6.2.3. Clients that derive the resource from a URL may add or omit the slash
    /// after the authority.
    pub(super) fn find(&mut self, resource: &Audience) -> Option<&'a Audience> {
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

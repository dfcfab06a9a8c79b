//! [`ClientRules`]: which scopes and audiences exist, and what a client's registration may say of them.

use std::collections::HashMap;

use super::client::{ClientError, RegisteredClient};
use crate::audience::Audience;
use crate::scope::Scopes;

/// What a server knows of scopes and audiences, for a [`ClientStore`](crate::ClientStore) to hold its clients
/// against.
#[derive(Clone, Debug, Default)]
pub struct ClientRules {
    pub(crate) known_scopes: Option<Scopes>,
    /// The audiences that exist, with the scopes that exist at each; empty when clients alone say which.
    pub(crate) resources: HashMap<Audience, Option<Scopes>>,
    pub(crate) default_audience: Option<Audience>,
}

impl ClientRules {
    /// Holds a registration against the rules.
    ///
    /// # Errors
    ///
    /// When no request could ever get the client a token, and when it lists a scope or an audience that does
    /// not exist.
    pub fn check(&self, client: &RegisteredClient) -> Result<(), ClientError> {
        let wrong = |mistake: String| Err(ClientError::new(client.id(), mistake));
        if client.may_use_grant() && client.audiences().is_empty() && self.default_audience.is_none() {
            return wrong(
                "there is no audience that it could ever get; give it one with .audience(…), or the server a default"
                    .to_owned(),
            );
        }
        let mut named = client.audiences().iter().chain(client.introspects());
        if let Some(unknown) = named.find(|audience| !self.exists(audience)) {
            return wrong(format!(
                "its audience {unknown} is none of the server's resources; add it with .resource(…)"
            ));
        }
        let known = self.known_scopes.as_ref();
        if let Some(unknown) = known.and_then(|known| known.first_missing(client.scopes())) {
            return wrong(format!("its scope `{unknown}` is not known to the server; add it with .known_scopes(…)"));
        }
        Ok(())
    }

    /// Reports a scope that the settings name, and that does not exist.
    pub(crate) fn unknown_scope<'a>(&'a self, default_scopes: &'a Scopes) -> Option<&'a str> {
        let known = self.known_scopes.as_ref()?;
        let named = self.resources.values().flatten().chain([default_scopes]).flat_map(Scopes::iter);
        named.into_iter().find(|scope| !known.contains(scope))
    }

    fn exists(&self, audience: &Audience) -> bool {
        self.resources.is_empty()
            || self.resources.contains_key(audience)
            || self.default_audience.as_ref() == Some(audience)
    }

    pub(crate) fn known_scopes(&self) -> Option<&Scopes> {
        self.known_scopes.as_ref()
    }

    /// The server's default audience, which is for clients without any of their own.
    fn default_audience_of(&self, client: &RegisteredClient) -> Option<&Audience> {
        self.default_audience.as_ref().filter(|_| client.audiences().is_empty())
    }

    /// What a request without `resource` gets: the client's own default, else the server's.
    pub(crate) fn default_audience<'a>(&'a self, client: &'a RegisteredClient) -> Option<&'a Audience> {
        let own = client.default_audience().filter(|audience| self.exists(audience));
        own.or(self.default_audience_of(client))
    }

    pub(crate) fn may_have_audience(&self, client: &RegisteredClient, audience: &Audience) -> bool {
        let own = client.audiences().contains(audience) || self.default_audience_of(client) == Some(audience);
        own && self.exists(audience)
    }

    /// Those of the scopes that exist, and that are allowed at every one of the audiences: what a token for
    /// several says, it says to each of them (RFC 9068 §3).
    pub(crate) fn scopes_at(&self, scopes: &Scopes, audiences: &[Audience]) -> Scopes {
        let tied = audiences.iter().filter_map(|audience| self.resources.get(audience)?.as_ref());
        let bounds = tied.chain(&self.known_scopes);
        bounds.fold(scopes.clone(), |scopes, bound| scopes.intersection(bound))
    }
}

//! The settings of a client for the tokens that it gets: scopes and audiences.

use std::collections::HashSet;

use super::{Client, keep};
use crate::audience::Audience;
use crate::scope::{Scope, Scopes};

/// Settings for the scopes and audiences of the client.
impl Client {
    /// Adds a scope that the client may get. A new client has no scopes.
    pub fn scope(mut self, scope: Scope) -> Self {
        self.added.push(scope);
        self
    }

    /// Moves the individually added scopes into the set, all at once. One by one, it would take quadratic time.
    pub(super) fn gather_scopes(&mut self) {
        if !self.added.is_empty() {
            self.client.scopes = self.client.scopes.union(&self.added.drain(..).collect());
        }
    }

    /// Sets the scopes that the client may get. Replaces all scopes that were set or [added](Self::scope) before.
    pub fn scopes(mut self, scopes: impl IntoIterator<Item = Scope>) -> Self {
        self.added.clear();
        self.client.scopes = scopes.into_iter().collect();
        self
    }

    /// Removes a scope, also from the [default scopes](Self::default_scopes). Does nothing if the client does not have
    /// the scope.
    pub fn without_scope(mut self, scope: &Scope) -> Self {
        self.gather_scopes();
        self.client.scopes = self.client.scopes.without(scope);
        self.client.default_scopes = self.client.default_scopes.map(|defaults| defaults.without(scope));
        self
    }

    /// Sets the scopes of a request without `scope` (RFC 6749 §3.3). By default these are the server's default scopes
    /// that the client may get.
    pub fn default_scopes(mut self, scopes: impl Into<Scopes>) -> Self {
        self.client.default_scopes = Some(scopes.into());
        self
    }

    /// Removes the [default scopes](Self::default_scopes): the server's default scopes apply again.
    pub fn without_default_scopes(mut self) -> Self {
        self.client.default_scopes = None;
        self
    }

    /// Adds an audience that the client may get, as an absolute URI (RFC 8707 §2). A client that never had an audience
    /// gets the server's default audience.
    pub fn audience(mut self, audience: impl AsRef<str>) -> Self {
        add_audience(&mut self.client.audiences, audience.as_ref(), &mut self.mistake);
        self.is_limited |= !self.client.audiences.is_empty();
        self
    }

    /// Sets the audiences that the client may get. Replaces all audiences that were set or [added](Self::audience)
    /// before, and removes the [default audience](Self::default_audience) if it is no longer in the list.
    ///
    /// An empty list removes all audiences; see [`without_audience`](Self::without_audience) for the consequences.
    pub fn audiences(mut self, audiences: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.client.audiences = parse_audiences(audiences, &mut self.mistake);
        let audiences = &self.client.audiences;
        self.is_limited |= !audiences.is_empty();
        self.client.default_audience = self.client.default_audience.filter(|default| audiences.contains(default));
        self
    }

    /// Removes an audience, also as the [default audience](Self::default_audience). Does nothing if the client does not
    /// have the audience.
    ///
    /// A client without audiences gets the server's default audience, so removing the last audience could extend the
    /// rights of a client. Therefore [`register`](Self::register) refuses a client whose audiences were all removed,
    /// unless it gets [no tokens](Self::without_grant) or explicitly [the server's default
    /// audience](Self::server_default_audience). For the same reason, it refuses the [grant](Self::grant) for a client
    /// that had neither the grant nor an audience.
    ///
    /// ```
    /// use tower_client_credentials::{Client, ClientSecret};
    ///
    /// const API: &str = "https://api.example.com";
    /// let client = Client::new("billing", ClientSecret::generate()?).audience(API).register()?;
    /// assert!(client.edit().without_audience(API).register().is_err());
    /// assert!(client.edit().without_audience(API).without_grant().register().is_ok());
    /// assert!(client.edit().server_default_audience().register().is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn without_audience(mut self, audience: impl AsRef<str>) -> Self {
        let is_another = |own: &Audience| own != audience.as_ref();
        self.client.audiences.retain(is_another);
        self.client.default_audience = self.client.default_audience.filter(is_another);
        self
    }

    /// Removes all audiences, so that the client gets the server's default audience, and no other. This is the state of
    /// a new client without audiences.
    pub fn server_default_audience(mut self) -> Self {
        self.client.audiences.clear();
        self.client.default_audience = None;
        self.is_limited = false;
        self
    }

    /// Adds an audience that the client may get, and makes it the default for requests without `resource`. Only needed
    /// for a client with several audiences: a single audience is always the default.
    pub fn default_audience(mut self, audience: impl AsRef<str>) -> Self {
        self.client.default_audience = audience.as_ref().parse().ok();
        self.audience(audience)
    }

    /// Unsets the [default audience](Self::default_audience), but keeps the audience itself.
    pub fn without_default_audience(mut self) -> Self {
        self.client.default_audience = None;
        self
    }

    /// Adds an audience whose tokens the client may introspect (RFC 7662 §4), for a client that serves that API and
    /// receives its tokens. By default the list is empty, and the client may not use the introspection endpoint.
    pub fn introspects(mut self, audience: impl AsRef<str>) -> Self {
        add_audience(&mut self.client.introspects, audience.as_ref(), &mut self.mistake);
        self
    }

    /// Sets the audiences whose tokens the client may [introspect](Self::introspects), for reading a record.
    pub(crate) fn introspects_all(mut self, audiences: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.client.introspects = parse_audiences(audiences, &mut self.mistake);
        self
    }

    /// Removes an audience whose tokens the client may [introspect](Self::introspects). Does nothing if the audience is
    /// not in the list.
    pub fn without_introspects(mut self, audience: impl AsRef<str>) -> Self {
        self.client.introspects.retain(|own| own != audience.as_ref());
        self
    }
}

/// Adds an audience to a list, unless it is already there.
fn add_audience(audiences: &mut Vec<Audience>, audience: &str, mistake: &mut Option<String>) {
    let parsed = audience.parse::<Audience>().map_err(|error| format!("`{audience}` is {error}"));
    if let Some(audience) = keep(parsed, mistake)
        && !audiences.contains(&audience)
    {
        audiences.push(audience);
    }
}

/// Parses a list of audiences without duplicates. A set finds the duplicates, since a registration may have any number
/// of audiences.
fn parse_audiences(
    audiences: impl IntoIterator<Item = impl AsRef<str>>,
    mistake: &mut Option<String>,
) -> Vec<Audience> {
    let (mut seen, mut parsed) = (HashSet::new(), Vec::new());
    for audience in audiences {
        let audience = audience.as_ref();
        let result = audience.parse::<Audience>().map_err(|error| format!("`{audience}` is {error}"));
        parsed.extend(keep(result, mistake).filter(|audience| seen.insert(audience.clone())));
    }
    parsed
}

//! [`ClientRules`]: the scopes and audiences that a server knows, and the checks of registrations against them.

use std::collections::HashMap;

use super::accepted_credentials::AcceptedCredentials;
use super::client_error::{ClientError, ClientErrorKind};
use super::registered_client::RegisteredClient;
use crate::audience::Audience;
use crate::scope::Scopes;

/// The scopes and audiences that a server knows. Registrations are checked against them.
///
/// | store of the client | when the client is checked |
/// |---|---|
/// | a [`MemoryStore`](crate::MemoryStore) | when the server is built, and at each later change; both fail for an invalid client |
/// | a file | the same; a file with an invalid client is not read |
/// | another store | when the client is read: the server warns once an hour, in the log and by an [event](crate::event::Outcome::InvalidRegistration), and ignores unknown scopes and audiences |
///
/// An unknown scope or audience is never granted. The error tells the operator which one it is, and how to add or
/// remove it.
#[derive(Clone, Debug, Default)]
pub struct ClientRules {
    pub(crate) known_scopes: Option<Scopes>,
    /// The existing audiences, with the scopes that exist for each. If it is empty, every audience that a client lists
    /// exists.
    pub(crate) resources: HashMap<Audience, Option<Scopes>>,
    pub(crate) default_audience: Option<Audience>,
    /// The credentials other than secrets that the server accepts.
    pub(crate) accepted: AcceptedCredentials,
}

/// The maximum number of mistakes in one message.
const MAX_MISTAKES: usize = 5;

impl ClientRules {
    /// Checks a registration.
    ///
    /// Returns an error if no request could ever get a token for the client, or if it lists a scope or an audience that
    /// does not exist. The text contains each mistake with its field, its value and how to fix it.
    ///
    /// # Errors
    ///
    /// When a scope or audience of the client is not one of the server's, or when it can get no audience.
    pub fn check(&self, client: &RegisteredClient) -> Result<(), ClientError> {
        error_of(client, self.mistakes(client))
    }

    /// Checks a registration that was read, as [`check`](Self::check) does, and returns an error as well if some of its
    /// credentials are never tried, or could not be registered now. Such a client works, so it is only worth a warning.
    pub(crate) fn check_stored(&self, client: &RegisteredClient) -> Result<(), ClientError> {
        error_of(client, client.too_many_credentials(None).into_iter().chain(self.mistakes(client)))
    }

    fn mistakes<'a>(&'a self, client: &'a RegisteredClient) -> impl Iterator<Item = String> + 'a {
        let can_get_none = client.may_use_grant() && client.audiences().is_empty() && self.default_audience.is_none();
        let lists = [("audiences", client.audiences()), ("introspects", client.introspects())];
        let audiences = lists.into_iter().flat_map(|(field, list)| list.iter().map(move |audience| (field, audience)));
        let audiences = audiences.filter(|(_, audience)| !self.exists(audience));
        let scopes =
            self.known_scopes.iter().flat_map(|known| client.scopes().iter().filter(|scope| !known.contains(scope)));
        let is_issuer = self.accepted.platforms.iter().any(|issuer| issuer == client.id().as_str());
        can_get_none
            .then(|| NO_AUDIENCE.to_owned())
            .into_iter()
            .chain(is_issuer.then(|| "its id is the issuer of a platform; give it another id".to_owned()))
            .chain(self.credentials_not_accepted(client))
            .chain(audiences.map(|(field, audience)| no_resource(field, audience)))
            .chain(scopes.map(unknown_scope))
    }

    /// Returns a mistake for each credential that the server does not accept.
    fn credentials_not_accepted<'a>(&'a self, client: &'a RegisteredClient) -> impl Iterator<Item = String> + 'a {
        let others = client.credentials().iter();
        others.filter_map(|credential| {
            let why = credential.kind().why_not(credential.label(), client.id(), &self.accepted)?;
            Some(format!("its credential `{}` is {why}, or remove the credential", credential.label()))
        })
    }

    /// Returns a scope that the settings contain, but that does not exist.
    pub(crate) fn unknown_scope<'a>(&'a self, default_scopes: &'a Scopes) -> Option<&'a str> {
        let known = self.known_scopes.as_ref()?;
        let named = self.resources.values().flatten().chain([default_scopes]).flat_map(Scopes::iter);
        named.into_iter().find(|scope| !known.contains(scope))
    }

    /// Returns two spellings of one resource with different scopes: the spelling with more scopes would bypass the
    /// limits of the other. All scopes exist for the default audience unless it is one of the resources.
    pub(crate) fn different_scopes_of_one_resource(&self) -> Option<(&Audience, &Audience)> {
        let default = self.default_audience.iter().filter(|default| !self.resources.contains_key(*default));
        let all = self.resources.iter().map(|(audience, scopes)| (audience, scopes.as_ref()));
        let mut all: Vec<_> = all.chain(default.map(|audience| (audience, None))).collect();
        // Sorted, so that the result does not depend on the hash order.
        all.sort_unstable_by_key(|(audience, _)| audience.as_str());
        let mut known: HashMap<String, (&Audience, Option<&Scopes>)> = HashMap::new();
        all.into_iter().find_map(|(audience, scopes)| {
            let (first, of_first) = *known.entry(audience.normal_form()).or_insert((audience, scopes));
            let is_same = match (of_first, scopes) {
                (Some(one), Some(other)) => one.first_missing(other).is_none() && other.first_missing(one).is_none(),
                (one, other) => one.is_none() && other.is_none(),
            };
            (!is_same).then_some((first, audience))
        })
    }

    pub(crate) fn exists(&self, audience: &Audience) -> bool {
        self.resources.is_empty()
            || self.resources.contains_key(audience)
            || self.default_audience.as_ref() == Some(audience)
    }

    pub(crate) fn known_scopes(&self) -> Option<&Scopes> {
        self.known_scopes.as_ref()
    }

    /// Returns the server's default audience if the client lists no audience.
    fn default_audience_of(&self, client: &RegisteredClient) -> Option<&Audience> {
        self.default_audience.as_ref().filter(|_| client.audiences().is_empty())
    }

    /// Returns the audience of a request without `resource`: the client's default, otherwise the server's.
    pub(crate) fn default_audience<'a>(&'a self, client: &'a RegisteredClient) -> Option<&'a Audience> {
        let own = client.default_audience().filter(|audience| self.exists(audience));
        own.or(self.default_audience_of(client))
    }

    /// Returns the audiences that the client may request, in the spelling of its registration.
    pub(crate) fn audiences_of<'a>(&'a self, client: &'a RegisteredClient) -> impl Iterator<Item = &'a Audience> {
        let own = client.audiences().iter().chain(self.default_audience_of(client));
        own.filter(|audience| self.exists(audience))
    }

    /// Returns the audience with this text among [`audiences_of`](Self::audiences_of). It needs only one look-up among
    /// the existing audiences.
    pub(crate) fn audience_of<'a>(&'a self, client: &'a RegisteredClient, audience: &Audience) -> Option<&'a Audience> {
        let mut own = client.audiences().iter().chain(self.default_audience_of(client));
        own.find(|own| *own == audience).filter(|audience| self.exists(audience))
    }

    /// Returns why a request without `resource` gets no token, as text after the client's name, and whether a request
    /// with `resource` could get one.
    pub(crate) fn why_no_default(&self, client: &RegisteredClient) -> (String, bool) {
        let audiences = client.audiences();
        let unknown = client.default_audience().filter(|audience| !self.exists(audience));
        match (unknown, audiences.first()) {
            (_, None) => (NO_AUDIENCE.to_owned(), false),
            (Some(unknown), _) => {
                let field = if audiences.len() == 1 { "audiences" } else { "default_audience" };
                (no_resource(field, unknown), audiences.iter().any(|audience| self.exists(audience)))
            }
            (None, Some(first)) if !audiences.iter().any(|audience| self.exists(audience)) => {
                (no_resource("audiences", first), false)
            }
            (None, Some(_)) => (SEVERAL_AUDIENCES.to_owned(), true),
        }
    }

    /// Returns why the client may not have this audience, as text after the client's name.
    pub(crate) fn why_no_audience(&self, client: &RegisteredClient, audience: &Audience) -> String {
        if client.audiences().contains(audience) {
            return no_resource("audiences", audience);
        }
        let audience = shorten(audience);
        let lists = match self.default_audience_of(client) {
            Some(default) => {
                format!("whose `audiences` are empty, so it has only the server's default `{default}`")
            }
            None => "whose `audiences` do not list it".to_owned(),
        };
        format!(
            "a token for `{audience}` is not allowed for this client, {lists}; to allow it, add it to the client with \
                 .audience(\"{audience}\")"
        )
    }

    /// Returns why none of these scopes of the client can be granted for these audiences.
    pub(crate) fn why_no_scope(&self, scopes: &Scopes, audiences: &[Audience]) -> String {
        let reasons = scopes.iter().take(MAX_MISTAKES).filter_map(|scope| {
            if self.known_scopes.as_ref().is_some_and(|known| !known.contains(scope)) {
                return Some(unknown_scope(scope));
            }
            let lacks = |audience: &&Audience| {
                self.resources.get(*audience).and_then(Option::as_ref).is_some_and(|tied| !tied.contains(scope))
            };
            let audience = audiences.iter().find(lacks)?;
            Some(format!(
                    "its scope `{scope}` does not exist at `{audience}`; add it there with .resource_with_scopes(…), or request a token \
                     for another resource"
            ))
        });
        reasons.collect::<Vec<_>>().join("; ")
    }

    /// Returns the scopes that exist and are allowed for all of the audiences. A token for several audiences has the
    /// same scopes for each of them (RFC 9068 §3).
    pub(crate) fn scopes_at(&self, scopes: &Scopes, audiences: &[Audience]) -> Scopes {
        let tied = audiences.iter().filter_map(|audience| self.resources.get(audience)?.as_ref());
        let bounds = tied.chain(&self.known_scopes);
        bounds.fold(scopes.clone(), |scopes, bound| scopes.intersection(bound))
    }
}

const NO_AUDIENCE: &str = "its `audiences` are empty, and the server has no default audience; add an audience to the client \
                           with .audience(…), or set the server's default with .default_audience(…)";

const SEVERAL_AUDIENCES: &str = "the request has no `resource`, and the client has several `audiences` but no default; add \
                                 `resource` to the request, or set the client's default with .default_audience(…)";

fn error_of(client: &RegisteredClient, mistakes: impl Iterator<Item = String>) -> Result<(), ClientError> {
    let mut mistakes = mistakes.take(MAX_MISTAKES).peekable();
    if mistakes.peek().is_none() {
        return Ok(());
    }
    let mistakes = mistakes.collect::<Vec<_>>().join("; ");
    Err(ClientError::of(ClientErrorKind::ServerSettings, client.id().to_string(), mistakes))
}

fn no_resource(field: &str, audience: &Audience) -> String {
    format!(
        "its `{field}` has `{audience}`, which the server does not know; add it to the server with \
         .resource(\"{audience}\"), or remove it from the client"
    )
}

fn unknown_scope(scope: &str) -> String {
    format!(
        "its `scope` has `{scope}`, which the server does not know; add it to the server with .known_scopes(…), or remove \
         it from the client"
    )
}

/// Returns the beginning of a caller's text, so that a log line has a bounded length.
pub(crate) fn shorten(text: &str) -> &str {
    text.split_at_checked(100).map_or(text, |(beginning, _)| beginning)
}

//! [`Client`], a registration as it is written, and [`RegisteredClient`], one that holds together.

use std::fmt;
use std::time::Duration;

use crate::audience::Audience;
use crate::client_id::{ClientId, InvalidClientId};
use crate::clock::UnixTime;
use crate::scope::{Scope, Scopes};
use crate::secret::{SecretError, StoredSecret};
use crate::store::RegisteredSecret;
use crate::token_lifetime::TokenLifetime;

/// How a client proves who it is at the token endpoint: the names of RFC 7591 §2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ClientAuthMethod {
    /// `client_secret_basic`: id and secret in the `Authorization` header (RFC 6749 §2.3.1). The default, as in
    /// RFC 7591, and what every client library can do.
    #[default]
    ClientSecretBasic,
    /// `client_secret_post`: id and secret in the body. For clients that cannot do the other; the RFC does not
    /// recommend it, since bodies are logged more readily than the `Authorization` header.
    ClientSecretPost,
}

impl ClientAuthMethod {
    pub(super) const ALL: [Self; 2] = [Self::ClientSecretBasic, Self::ClientSecretPost];

    /// The registered name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClientSecretBasic => "client_secret_basic",
            Self::ClientSecretPost => "client_secret_post",
        }
    }
}

impl fmt::Display for ClientAuthMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A client's registration as it is written down; [`register`](Self::register) checks it.
///
/// A client may do nothing that is not listed here: it gets the [scopes](Self::scope) and
/// [audiences](Self::audience) that it was given, and authenticates by the one
/// [method](Self::authentication) that it was given. A mistake is kept, and comes to light when the client is
/// registered, under the client's name.
///
/// ```
/// use std::time::Duration;
/// use tower_client_credentials::{Client, ClientSecret, Scope};
///
/// let client = Client::new("billing", ClientSecret::generate()?)
///     .scope(Scope::from_static("invoices:read"))
///     .audience("https://api.example.com")
///     .token_lifetime(Duration::from_secs(60))
///     .register()?;
/// assert_eq!(client.id().as_str(), "billing");
///
/// let error = Client::new("billing", ClientSecret::generate()?).audience("api").register().unwrap_err();
/// assert!(error.to_string().starts_with("client `billing`: "));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    /// A malformed id is an error under the text that was given.
    id: Result<ClientId, ClientError>,
    client: Registration,
    mistake: Option<String>,
}

impl Client {
    /// A client that authenticates with this secret, and may get nothing yet.
    pub fn new<S>(id: impl Into<String>, secret: S) -> Self
    where
        S: TryInto<StoredSecret, Error: Into<SecretError>>,
    {
        Self::blank(id.into()).secret(secret)
    }

    /// Without a secret, which is how a record begins.
    pub(super) fn blank(id: String) -> Self {
        let id = id.parse().map_err(|error: InvalidClientId| ClientError { client: id, mistake: error.to_string() });
        let client = Registration {
            secrets: Vec::new(),
            method: ClientAuthMethod::default(),
            scopes: Scopes::NONE,
            default_scopes: None,
            audiences: Vec::new(),
            default_audience: None,
            subject: None,
            token_lifetime: None,
            introspects: Vec::new(),
            may_use_grant: true,
            enabled: true,
        };
        Self { id, client, mistake: None }
    }

    /// A registration to change, and to register again.
    #[must_use]
    pub fn of(client: RegisteredClient) -> Self {
        let RegisteredClient { id, registration } = client;
        Self { id: Ok(id), client: registration, mistake: None }
    }

    /// One more secret that is accepted, so that a client can move to a new one while the old one still works. Its
    /// label is its number; a [`RegisteredSecret`] has one of its own, and may expire.
    #[must_use]
    pub fn secret<S>(mut self, secret: S) -> Self
    where
        S: TryInto<StoredSecret, Error: Into<SecretError>>,
    {
        let mut number = 1_u32;
        while self.client.secret(&number.to_string()).is_some() {
            number += 1;
        }
        let secret = RegisteredSecret::new(number.to_string(), secret);
        match keep(secret, &mut self.mistake) {
            Some(secret) => self.registered_secret(secret),
            None => self,
        }
    }

    /// The same with a label, and with times if it has any.
    #[must_use]
    pub fn registered_secret(mut self, secret: RegisteredSecret) -> Self {
        if self.client.secret(secret.label()).is_some() {
            let twice: Result<(), _> = Err(format!("two of its secrets are labelled `{}`", secret.label()));
            keep(twice, &mut self.mistake);
        }
        self.client.secrets.push(secret);
        self
    }

    /// Replaces the secret of the same label where it stands, or adds it.
    #[must_use]
    pub fn replace_secret(mut self, secret: RegisteredSecret) -> Self {
        match self.client.secrets.iter_mut().find(|own| own.label() == secret.label()) {
            Some(own) => *own = secret,
            None => self.client.secrets.push(secret),
        }
        self
    }

    /// Takes the secret of this label away.
    #[must_use]
    pub fn without_secret(mut self, label: &str) -> Self {
        self.client.secrets.retain(|own| own.label() != label);
        self
    }

    /// How the client authenticates, `client_secret_basic` by default. Only this method is accepted.
    #[must_use]
    pub fn authentication(mut self, method: ClientAuthMethod) -> Self {
        self.client.method = method;
        self
    }

    /// One more scope that the client may get. None by default.
    #[must_use]
    pub fn scope(mut self, scope: Scope) -> Self {
        self.client.scopes = self.client.scopes.with(&scope);
        self
    }

    /// More scopes that the client may get.
    #[must_use]
    pub fn scopes(self, scopes: impl IntoIterator<Item = Scope>) -> Self {
        scopes.into_iter().fold(self, Self::scope)
    }

    /// The scopes that a request without `scope` gets (RFC 6749 §3.3). By default those of the server that the
    /// client may have.
    #[must_use]
    pub fn default_scopes(mut self, scopes: impl Into<Scopes>) -> Self {
        self.client.default_scopes = Some(scopes.into());
        self
    }

    /// One more audience that the client may get, an absolute URI (RFC 8707 §2). Without any, it gets the
    /// server's default.
    #[must_use]
    pub fn audience(mut self, audience: impl AsRef<str>) -> Self {
        let audience = audience.as_ref();
        let parsed = audience.parse::<Audience>().map_err(|error| format!("`{audience}` is {error}"));
        if let Some(audience) = keep(parsed, &mut self.mistake)
            && !self.client.audiences.contains(&audience)
        {
            self.client.audiences.push(audience);
        }
        self
    }

    /// One more audience that the client may get, and the one that a request without `resource` gets. Needed
    /// only by a client with several; one alone is its default.
    #[must_use]
    pub fn default_audience(mut self, audience: impl AsRef<str>) -> Self {
        self.client.default_audience = audience.as_ref().parse().ok();
        self.audience(audience)
    }

    /// What its tokens say as `sub`, by default the client's id (RFC 9068 §2.2).
    ///
    /// Choose nothing that could be taken for a user's id; see
    /// [`VerifiedToken::subject`](crate::VerifiedToken::subject).
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        let subject = subject.into();
        let checked = if subject.is_empty() { Err("its subject is empty") } else { Ok(subject) };
        self.client.subject = keep(checked, &mut self.mistake);
        self
    }

    /// How long its tokens live, in whole seconds; by default as the server says.
    #[must_use]
    pub fn token_lifetime(mut self, lifetime: Duration) -> Self {
        self.client.token_lifetime = keep(TokenLifetime::new(lifetime), &mut self.mistake);
        self
    }

    /// Lets the client authenticate, and gives it no token: its requests for one are `unauthorized_client`.
    #[must_use]
    pub fn without_grant(mut self) -> Self {
        self.client.may_use_grant = false;
        self
    }

    /// One more audience whose tokens the client may introspect (RFC 7662 §4): it serves that API, and was handed
    /// them. None by default, and without any it may not ask at all.
    #[must_use]
    pub fn introspects(mut self, audience: impl AsRef<str>) -> Self {
        let audience = audience.as_ref();
        let parsed = audience.parse::<Audience>().map_err(|error| format!("`{audience}` is {error}"));
        if let Some(audience) = keep(parsed, &mut self.mistake)
            && !self.client.introspects.contains(&audience)
        {
            self.client.introspects.push(audience);
        }
        self
    }

    /// Keeps the registration, and refuses the client as if it had none.
    #[must_use]
    pub fn disabled(self) -> Self {
        self.enabled(false)
    }

    /// Whether the client is let in at all; it is by default.
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.client.enabled = enabled;
        self
    }

    /// Checks the registration as a whole.
    ///
    /// # Errors
    ///
    /// The first mistake, under the client's name.
    pub fn register(self) -> Result<RegisteredClient, ClientError> {
        let Self { id, client, mistake } = self;
        let id = id?;
        let defaults = client.default_scopes.as_ref();
        let mistake = mistake.or_else(|| {
            let stray = defaults?.iter().find(|scope| !client.scopes.contains(scope))?;
            Some(format!("its default scope `{stray}` is none of its scopes; add it with .scope(…)"))
        });
        match mistake {
            None => Ok(RegisteredClient { id, registration: client }),
            Some(mistake) => Err(ClientError::new(&id, mistake)),
        }
    }
}

/// Keeps the first error for later.
fn keep<T, E: fmt::Display>(result: Result<T, E>, mistake: &mut Option<String>) -> Option<T> {
    result.map_err(|error| mistake.get_or_insert_with(|| error.to_string())).ok()
}

/// A registration that holds together; only [`Client::register`] makes one.
///
/// With serde it reads and writes one record, named as in RFC 7591 §2 where that has a name, for a column of JSON or a
/// file; what is read is checked as by [`Client::register`]. Of a secret it has the `hash`, which is what
/// [`StoredSecret::to_phc_string`] says. Where a secret in the clear cannot be helped, it stands under `dangerous_plain`:
/// it is hashed each time it is read, and as a hash it is written.
///
/// ```
/// use tower_client_credentials::{Client, ClientSecret, RegisteredClient};
///
/// let client = Client::new("billing", ClientSecret::generate()?).audience("https://api.example.com").register()?;
/// let record = serde_json::to_string(&client)?;
/// assert!(record.starts_with(r#"{"client_id":"billing","client_secrets":[{"label":"1","hash":"$sha256$"#));
/// assert_eq!(serde_json::from_str::<RegisteredClient>(&record)?, client);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredClient {
    pub(super) id: ClientId,
    pub(super) registration: Registration,
}

/// The settings of a client apart from its id, so that a [`Client`] with a malformed id holds no made-up one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registration {
    pub(super) secrets: Vec<RegisteredSecret>,
    pub(super) method: ClientAuthMethod,
    pub(super) scopes: Scopes,
    pub(super) default_scopes: Option<Scopes>,
    pub(super) audiences: Vec<Audience>,
    pub(super) default_audience: Option<Audience>,
    pub(super) subject: Option<String>,
    pub(super) token_lifetime: Option<TokenLifetime>,
    pub(super) introspects: Vec<Audience>,
    pub(super) may_use_grant: bool,
    pub(super) enabled: bool,
}

impl RegisteredClient {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> &ClientId {
        &self.id
    }

    /// Its secrets, the expired ones included.
    #[must_use]
    pub fn secrets(&self) -> &[RegisteredSecret] {
        &self.registration.secrets
    }

    /// The secret of this label.
    #[must_use]
    pub fn secret(&self, label: &str) -> Option<&RegisteredSecret> {
        self.registration.secret(label)
    }

    /// The secret at this place, and one that is good and newer: by the times at which they were made, where both are
    /// known and differ, else by their order.
    pub(crate) fn superseded(&self, at: usize, now: UnixTime) -> Option<(&RegisteredSecret, &RegisteredSecret)> {
        let old = self.registration.secrets.get(at)?;
        let is_newer = |(place, other): &(usize, &RegisteredSecret)| match (old.created(), other.created()) {
            (Some(old), Some(other)) if old != other => other > old,
            _ => *place > at,
        };
        let live =
            self.registration.secrets.iter().enumerate().filter(|(place, other)| *place != at && other.is_live(now));
        live.rev().find(is_newer).map(|(_, newer)| (old, newer))
    }

    /// The one way in which it may authenticate.
    #[must_use]
    pub fn authentication(&self) -> ClientAuthMethod {
        self.registration.method
    }

    /// The scopes that it may get.
    #[must_use]
    pub fn scopes(&self) -> &Scopes {
        &self.registration.scopes
    }

    /// The scopes that a request without `scope` gets; `None` leaves it to the server.
    #[must_use]
    pub fn default_scopes(&self) -> Option<&Scopes> {
        self.registration.default_scopes.as_ref()
    }

    /// The audiences that it may get; with none, it gets the server's default.
    #[must_use]
    pub fn audiences(&self) -> &[Audience] {
        &self.registration.audiences
    }

    /// The audience that a request without `resource` gets: the one that was set, or the only one.
    #[must_use]
    pub fn default_audience(&self) -> Option<&Audience> {
        match (&self.registration.default_audience, self.registration.audiences.as_slice()) {
            (Some(audience), _) => Some(audience),
            (None, [only]) => Some(only),
            _ => None,
        }
    }

    /// What its tokens say as `sub`.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.registration.subject.as_deref().unwrap_or(&self.id)
    }

    /// How long its tokens live; `None` leaves it to the server.
    #[must_use]
    pub fn token_lifetime(&self) -> Option<Duration> {
        self.registration.token_lifetime.map(TokenLifetime::to_duration)
    }

    /// The audiences whose tokens it may introspect.
    #[must_use]
    pub fn introspects(&self) -> &[Audience] {
        &self.registration.introspects
    }

    pub(crate) fn lifetime(&self) -> Option<TokenLifetime> {
        self.registration.token_lifetime
    }

    /// Whether it may get tokens by the client-credentials grant.
    #[must_use]
    pub fn may_use_grant(&self) -> bool {
        self.registration.may_use_grant
    }

    /// Whether it may authenticate at all.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.registration.enabled
    }
}

impl Registration {
    fn secret(&self, label: &str) -> Option<&RegisteredSecret> {
        self.secrets.iter().find(|secret| secret.label() == label)
    }
}

/// A client's registration is wrong; the text names the client and the mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("client `{client}`: {mistake}")]
pub struct ClientError {
    client: String,
    mistake: String,
}

impl ClientError {
    pub(crate) fn new(client: &ClientId, mistake: impl Into<String>) -> Self {
        Self { client: client.to_string(), mistake: mistake.into() }
    }

    /// A mistake in a record, whose id may be invalid.
    pub(super) fn of_record(client: String, mistake: String) -> Self {
        Self { client, mistake }
    }

    /// The mistake without the client's name.
    pub(super) fn mistake(&self) -> &str {
        &self.mistake
    }

    /// The id of the client, as it was given.
    #[must_use]
    pub fn client(&self) -> &str {
        &self.client
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Client;
    use crate::scope::{Scope, Scopes};
    use crate::secret::ClientSecret;

    const READ: Scope = Scope::from_static("read");

    fn client(id: &str) -> Client {
        Client::new(id, ClientSecret::generate().unwrap())
    }

    #[test]
    fn each_mistake_is_reported_under_the_clients_name() {
        for (client, mistake) in [
            (client("b").audience("api"), "`api` is not an audience"),
            (client("b").default_audience("api"), "`api` is not an audience"),
            (client("b").default_scopes(READ), "default scope `read`"),
            (client("b").subject(""), "subject is empty"),
            (client("b").token_lifetime(Duration::ZERO), "lifetime"),
        ] {
            let error = client.register().unwrap_err();
            assert_eq!(error.client(), "b");
            assert!(error.to_string().contains(mistake), "{error}");
        }
    }

    #[test]
    fn a_malformed_id_is_reported_as_it_was_given_and_no_other_id_stands_in_for_it() {
        for id in ["é", "", "a\nb"] {
            let client = client(id).scope(READ).audience("api");
            assert!(!format!("{client:?}").contains("ClientId(\"?\")"), "{client:?}");
            let error = client.register().unwrap_err();
            assert_eq!(error.client(), id);
            assert!(error.to_string().contains("client id"), "{error}");
        }
        // `?` is an id like any other.
        assert_eq!(client("?").register().unwrap().id(), &"?");
    }

    #[test]
    fn the_only_audience_is_the_default_and_of_several_the_chosen_one() {
        let (one, two) = ("https://one.example", "https://two.example");
        let default = |client: Client| client.register().unwrap().default_audience().map(ToString::to_string);
        assert_eq!(default(client("b")), None);
        assert_eq!(default(client("b").audience(one)).as_deref(), Some(one));
        assert_eq!(default(client("b").audience(one).audience(two)), None);
        assert_eq!(default(client("b").audience(one).default_audience(two)).as_deref(), Some(two));
    }

    #[test]
    fn the_subject_is_the_id_unless_it_was_set() {
        assert_eq!(client("b").register().unwrap().subject(), "b");
        assert_eq!(client("b").subject("svc:b").register().unwrap().subject(), "svc:b");
    }

    #[test]
    fn scopes_are_collected() {
        let client = client("b").scope(READ).scopes([READ, Scope::from_static("write")]).register().unwrap();
        assert_eq!(client.scopes(), &"read write".parse::<Scopes>().unwrap());
    }
}

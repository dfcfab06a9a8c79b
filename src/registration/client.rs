//! [`Client`], a registration, and [`RegisteredClient`], a registration that was checked.

use std::collections::HashSet;
use std::fmt;
use std::hint::black_box;
use std::time::{Duration, SystemTime};

use super::credentials::{Credentials, method_of_secrets, method_without_secrets};
use super::other_members::OtherMembers;
use super::{ClientAuthMethod, Credential, RegisteredSecret};
use crate::audience::Audience;
use crate::client_id::{ClientId, InvalidClientId};
use crate::clock::UnixTime;
use crate::scope::{Scope, Scopes};
use crate::secret::{SecretError, StoredSecret};
use crate::token_lifetime::TokenLifetime;

/// The registration of a client. [`register`](Self::register) checks it.
///
/// A client may do only what its registration lists: it gets only the [scopes](Self::scope) and
/// [audiences](Self::audience) listed there, and authenticates only by the [method](Self::authentication) set there.
/// Setters do not fail: [`register`](Self::register) returns the first error, with the client's id.
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
    /// The id, or the error for a malformed one with the original text.
    id: Result<ClientId, ClientError>,
    client: Registration,
    /// Scopes that were added individually and are not in `client.scopes` yet.
    added: Vec<Scope>,
    /// The method, if it was set.
    method: Option<ClientAuthMethod>,
    /// Whether the server's default audience could extend the rights that the client has or had.
    is_limited: bool,
    mistake: Option<String>,
}

impl Client {
    /// Creates a client that authenticates with this secret, and has no scopes or audiences yet.
    pub fn new<S>(id: impl Into<String>, secret: S) -> Self
    where
        S: TryInto<StoredSecret, Error: Into<SecretError>>,
    {
        Self::blank(id.into()).secret(secret)
    }

    /// Creates a client that authenticates with this credential, without a shared secret, and has no scopes or audiences
    /// yet.
    pub fn with_credential(id: impl Into<String>, credential: Credential) -> Self {
        Self::blank(id.into()).credential(credential)
    }

    /// Creates a client without any credential, to which you [add](Self::credential) some. Without one, every request of
    /// the client is refused.
    pub fn without_credentials(id: impl Into<String>) -> Self {
        Self::blank(id.into())
    }

    /// Creates a client without a secret, for reading a record.
    pub(crate) fn blank(id: String) -> Self {
        let id = id.parse().map_err(|error: InvalidClientId| ClientError { client: id, mistake: error.to_string() });
        let client = Registration {
            secrets: Vec::new(),
            credentials: None,
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
            other: None,
        };
        Self { id, client, added: Vec::new(), method: None, is_limited: false, mistake: None }
    }

    /// Returns a registration for changing a registered client; see also [`RegisteredClient::edit`].
    #[must_use]
    pub fn of(client: RegisteredClient) -> Self {
        let RegisteredClient { id, registration } = client;
        let is_limited = !registration.audiences.is_empty() || !registration.may_use_grant;
        Self { id: Ok(id), client: registration, added: Vec::new(), method: None, is_limited, mistake: None }
    }

    /// Adds a secret. All secrets are accepted, so a client can change to a new one while the old one still works. The
    /// label is a number. To set the label and an expiry, use [`registered_secret`](Self::registered_secret).
    #[must_use]
    pub fn secret<S>(mut self, secret: S) -> Self
    where
        S: TryInto<StoredSecret, Error: Into<SecretError>>,
    {
        let secret = RegisteredSecret::new(self.client.free_label(), secret);
        match keep(secret, &mut self.mistake) {
            Some(secret) => self.registered_secret(secret),
            None => self,
        }
    }

    /// Adds a secret with a label and, optionally, times.
    #[must_use]
    pub fn registered_secret(mut self, secret: RegisteredSecret) -> Self {
        self.check_label(secret.label(), "secret");
        self.client.secrets.push(secret);
        self
    }

    /// Adds a credential other than a secret. All credentials and secrets are accepted, each by its own method.
    #[must_use]
    pub fn credential(mut self, credential: Credential) -> Self {
        let credential = match credential.label() {
            "" => credential.labelled(self.client.free_label()),
            label => {
                self.check_label(label, "credential");
                credential
            }
        };
        self.client.credentials.get_or_insert_default().list.push(credential);
        self
    }

    /// Removes the credential with this label. Does nothing if the client has no such credential.
    #[must_use]
    pub fn without_credential(mut self, label: &str) -> Self {
        if let Some(credentials) = &mut self.client.credentials {
            credentials.list.retain(|own| own.label() != label);
        }
        self
    }

    /// Accepts assertions of older clients until this time: with the URL of the token endpoint as `aud`, and valid for up
    /// to one hour.
    ///
    /// By default `aud` must be the issuer identifier, and nothing else (RFC 10070). Many client libraries still send the
    /// URL of the token endpoint, as RFC 7523 §3 suggested, and some sign assertions for an hour. Each use is reported by
    /// the event [`LegacyAssertionUsed`](crate::event::Outcome::LegacyAssertionUsed) and counted, so that you see which
    /// clients still need it.
    #[must_use]
    pub fn legacy_assertions_until(mut self, time: SystemTime) -> Self {
        self.client.credentials.get_or_insert_default().legacy_until = Some(UnixTime::at(time));
        self
    }

    /// Removes the permission for [older assertions](Self::legacy_assertions_until).
    #[must_use]
    pub fn without_legacy_assertions(mut self) -> Self {
        if let Some(credentials) = &mut self.client.credentials {
            credentials.legacy_until = None;
        }
        self
    }

    /// Checks that this method does not contradict the credentials, for reading a record.
    pub(super) fn check_method(&self, method: ClientAuthMethod) -> Result<(), String> {
        self.client.method_with(Some(method)).map(drop)
    }

    fn check_label(&mut self, label: &str, what: &str) {
        if self.client.has_label(label) {
            let twice: Result<(), _> = Err(format!("duplicate label `{label}`; give each {what} a label of its own"));
            keep(twice, &mut self.mistake);
        }
    }

    /// Replaces the secret with the same label at its position, or adds it.
    #[must_use]
    pub fn replace_secret(mut self, secret: RegisteredSecret) -> Self {
        match self.client.secrets.iter_mut().find(|own| own.label() == secret.label()) {
            Some(own) => *own = secret,
            None => self.client.secrets.push(secret),
        }
        self
    }

    /// Removes the secret with this label.
    #[must_use]
    pub fn without_secret(mut self, label: &str) -> Self {
        self.client.secrets.retain(|own| own.label() != label);
        self
    }

    /// Sets how the client authenticates, for a client whose credentials are all of one kind; this is the member
    /// `token_endpoint_auth_method` of RFC 7591. For secrets the default is `client_secret_basic`, and no other method is
    /// accepted for them. Each other [credential](Self::credential) has its own method, so it need not be set: a method
    /// that contradicts the credentials is an error.
    #[must_use]
    pub fn authentication(mut self, method: ClientAuthMethod) -> Self {
        self.method = Some(method);
        self
    }

    /// Adds a scope that the client may get. A new client has no scopes.
    #[must_use]
    pub fn scope(mut self, scope: Scope) -> Self {
        self.added.push(scope);
        self
    }

    /// Moves the individually added scopes into the set, all at once. One by one, it would take quadratic time.
    fn gather_scopes(&mut self) {
        if !self.added.is_empty() {
            self.client.scopes = self.client.scopes.union(&self.added.drain(..).collect());
        }
    }

    /// Sets the scopes that the client may get. Replaces all scopes that were set or [added](Self::scope) before.
    #[must_use]
    pub fn scopes(mut self, scopes: impl IntoIterator<Item = Scope>) -> Self {
        self.added.clear();
        self.client.scopes = scopes.into_iter().collect();
        self
    }

    /// Removes a scope, also from the [default scopes](Self::default_scopes). Does nothing if the client does not have
    /// the scope.
    #[must_use]
    pub fn without_scope(mut self, scope: &Scope) -> Self {
        self.gather_scopes();
        self.client.scopes = self.client.scopes.without(scope);
        self.client.default_scopes = self.client.default_scopes.map(|defaults| defaults.without(scope));
        self
    }

    /// Sets the scopes of a request without `scope` (RFC 6749 §3.3). By default these are the server's default scopes
    /// that the client may get.
    #[must_use]
    pub fn default_scopes(mut self, scopes: impl Into<Scopes>) -> Self {
        self.client.default_scopes = Some(scopes.into());
        self
    }

    /// Removes the [default scopes](Self::default_scopes): the server's default scopes apply again.
    #[must_use]
    pub fn without_default_scopes(mut self) -> Self {
        self.client.default_scopes = None;
        self
    }

    /// Adds an audience that the client may get, as an absolute URI (RFC 8707 §2). A client that never had an audience
    /// gets the server's default audience.
    #[must_use]
    pub fn audience(mut self, audience: impl AsRef<str>) -> Self {
        add_audience(&mut self.client.audiences, audience.as_ref(), &mut self.mistake);
        self.is_limited |= !self.client.audiences.is_empty();
        self
    }

    /// Sets the audiences that the client may get. Replaces all audiences that were set or [added](Self::audience)
    /// before, and removes the [default audience](Self::default_audience) if it is no longer in the list.
    ///
    /// An empty list removes all audiences; see [`without_audience`](Self::without_audience) for the consequences.
    #[must_use]
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
    #[must_use]
    pub fn without_audience(mut self, audience: impl AsRef<str>) -> Self {
        let is_another = |own: &Audience| own != audience.as_ref();
        self.client.audiences.retain(is_another);
        self.client.default_audience = self.client.default_audience.filter(is_another);
        self
    }

    /// Removes all audiences, so that the client gets the server's default audience, and no other. This is the state of
    /// a new client without audiences.
    #[must_use]
    pub fn server_default_audience(mut self) -> Self {
        self.client.audiences.clear();
        self.client.default_audience = None;
        self.is_limited = false;
        self
    }

    /// Adds an audience that the client may get, and makes it the default for requests without `resource`. Only needed
    /// for a client with several audiences: a single audience is always the default.
    #[must_use]
    pub fn default_audience(mut self, audience: impl AsRef<str>) -> Self {
        self.client.default_audience = audience.as_ref().parse().ok();
        self.audience(audience)
    }

    /// Unsets the [default audience](Self::default_audience), but keeps the audience itself.
    #[must_use]
    pub fn without_default_audience(mut self) -> Self {
        self.client.default_audience = None;
        self
    }

    /// Sets the `sub` of the client's tokens. The default is the client's id (RFC 9068 §2.2).
    ///
    /// Do not use a value that could be the id of a user; see
    /// [`VerifiedToken::subject`](crate::VerifiedToken::subject).
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        let subject = subject.into();
        let checked = if subject.is_empty() {
            Err("its subject is empty; use a non-empty text, or omit it")
        } else {
            Ok(subject)
        };
        self.client.subject = keep(checked, &mut self.mistake);
        self
    }

    /// Removes the [subject](Self::subject): the `sub` of the client's tokens is its id again.
    #[must_use]
    pub fn without_subject(mut self) -> Self {
        self.client.subject = None;
        self
    }

    /// Sets the lifetime of the client's tokens, in whole seconds. The default is the server's.
    #[must_use]
    pub fn token_lifetime(mut self, lifetime: Duration) -> Self {
        self.client.token_lifetime = keep(TokenLifetime::new(lifetime), &mut self.mistake);
        self
    }

    /// Removes the [lifetime](Self::token_lifetime): the server's applies again.
    #[must_use]
    pub fn without_token_lifetime(mut self) -> Self {
        self.client.token_lifetime = None;
        self
    }

    /// Lets the client authenticate but get no tokens: a token request gets `unauthorized_client`.
    #[must_use]
    pub fn without_grant(self) -> Self {
        self.grant(false)
    }

    /// Sets whether the client may get tokens by the client-credentials grant. The default is `true`. If a registered
    /// client had neither the grant nor an audience, add an [audience](Self::audience) or [the server's
    /// default](Self::server_default_audience) together with the grant.
    #[must_use]
    pub fn grant(mut self, allowed: bool) -> Self {
        self.client.may_use_grant = allowed;
        self
    }

    /// Adds an audience whose tokens the client may introspect (RFC 7662 §4), for a client that serves that API and
    /// receives its tokens. By default the list is empty, and the client may not use the introspection endpoint.
    #[must_use]
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
    #[must_use]
    pub fn without_introspects(mut self, audience: impl AsRef<str>) -> Self {
        self.client.introspects.retain(|own| own != audience.as_ref());
        self
    }

    /// Disables the client: its registration is kept, but its authentication fails.
    #[must_use]
    pub fn disabled(self) -> Self {
        self.enabled(false)
    }

    /// Sets whether the client may authenticate. The default is `true`.
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.client.enabled = enabled;
        self
    }

    /// Sets the members of the record that this release does not know.
    pub(crate) fn other_members(mut self, other: OtherMembers) -> Self {
        self.client.other = (!other.is_empty()).then(|| Box::new(other));
        self
    }

    /// Checks the registration.
    ///
    /// # Errors
    ///
    /// Returns the first error, with the client's id.
    pub fn register(mut self) -> Result<RegisteredClient, ClientError> {
        self.gather_scopes();
        let Self { id, mut client, method, is_limited, mistake, .. } = self;
        let id = id?;
        client.credentials = client.credentials.filter(|credentials| !credentials.is_empty());
        let mistake = mistake.or_else(|| client.method_with(method).map(|method| client.method = method).err());
        let would_get_default = is_limited && client.may_use_grant && client.audiences.is_empty();
        let defaults = client.default_scopes.as_ref();
        let mistake = mistake.or_else(|| {
            let stray = defaults?.iter().find(|scope| !client.scopes.contains(scope))?;
            Some(format!("its default scope `{stray}` is not in its scopes; add it with .scope(…)"))
        });
        let mistake = mistake.or_else(|| would_get_default.then(|| NO_AUDIENCE_LEFT.to_owned()));
        match mistake {
            None => Ok(RegisteredClient { id, registration: client }),
            Some(mistake) => Err(ClientError::new(&id, mistake)),
        }
    }
}

const NO_AUDIENCE_LEFT: &str = "its `audiences` are empty, so it would get the server's default audience, which it may not \
                                have had; add an audience with .audience(…), choose the server's default explicitly with \
                                .server_default_audience(), or issue no tokens with .without_grant()";

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

/// Stores the first error.
fn keep<T, E: fmt::Display>(result: Result<T, E>, mistake: &mut Option<String>) -> Option<T> {
    result.map_err(|error| mistake.get_or_insert_with(|| error.to_string())).ok()
}

/// A registration that was checked. Only [`Client::register`] creates one.
///
/// With serde, it is serialized as one record, for a JSON column or a file. The members have the names of RFC 7591 §2
/// where these exist. Deserializing checks the record as [`Client::register`] does. A secret has a `hash`, in the
/// format of [`StoredSecret::to_phc_string`]. If a secret in plain text is unavoidable, use `dangerous_plain` instead:
/// it is hashed whenever the record is read, and written as a `hash`. With `random: true` in addition, it is treated as
/// a [random](crate::ClientSecret::assume_random) secret, and stored as a digest.
///
/// Servers of different releases can share a store. A record with a member that this release does not know has
/// `version: 2`. If the member is listed in its `must_understand`, the record is refused, and the requests of this client
/// get a 503. Otherwise the member is ignored, and kept when the client is changed. A record without `version` must not
/// have unknown members.
///
/// ```
/// use tower_client_credentials::registration::RegisteredClient;
/// use tower_client_credentials::{Client, ClientSecret};
///
/// let client = Client::new("billing", ClientSecret::generate()?).audience("https://api.example.com").register()?;
/// let record = serde_json::to_string(&client)?;
/// assert!(record.starts_with(r#"{"client_id":"billing","client_secrets":[{"label":"1","hash":"$sha256$"#));
/// assert_eq!(serde_json::from_str::<RegisteredClient>(&record)?, client);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredClient {
    pub(crate) id: ClientId,
    pub(crate) registration: Registration,
}

/// The settings of a client without its id, so that a [`Client`] with a malformed id needs no placeholder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Registration {
    pub(crate) secrets: Vec<RegisteredSecret>,
    /// The credentials other than secrets. Boxed, since most clients have none.
    pub(crate) credentials: Option<Box<Credentials>>,
    pub(crate) method: ClientAuthMethod,
    pub(crate) scopes: Scopes,
    pub(crate) default_scopes: Option<Scopes>,
    pub(crate) audiences: Vec<Audience>,
    pub(crate) default_audience: Option<Audience>,
    pub(crate) subject: Option<String>,
    pub(crate) token_lifetime: Option<TokenLifetime>,
    pub(crate) introspects: Vec<Audience>,
    pub(crate) may_use_grant: bool,
    pub(crate) enabled: bool,
    /// Behind a pointer, because almost no client has any.
    pub(crate) other: Option<Box<OtherMembers>>,
}

impl RegisteredClient {
    /// Returns this registration for changes. [Register](Client::register) it again afterwards.
    ///
    /// ```
    /// use tower_client_credentials::{Client, ClientSecret, Scope};
    ///
    /// let (read, write) = (Scope::from_static("read"), Scope::from_static("write"));
    /// let client = Client::new("billing", ClientSecret::generate()?).scopes([read, write.clone()]).register()?;
    /// let client = client.edit().without_scope(&write).register()?;
    /// assert_eq!(client.scopes().as_str(), "read");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn edit(&self) -> Client {
        Client::of(self.clone())
    }

    /// Reads a little of each part that a request for a token uses. Of a million clients, hardly one is in the caches of the
    /// processor, and so it waits for the memory of all parts at once instead of for one after the other.
    pub(crate) fn read_ahead(&self) {
        let Registration { secrets, scopes, audiences, default_audience, .. } = &self.registration;
        let first = |text: &str| text.as_bytes().first().copied();
        black_box((
            secrets.first().map(RegisteredSecret::is_slow),
            audiences.first().map(|audience| first(audience)),
            first(scopes.as_str()),
            default_audience.is_some(),
        ));
    }

    /// Returns the client's id.
    #[must_use]
    pub fn id(&self) -> &ClientId {
        &self.id
    }

    /// Returns the client's secrets, including expired ones.
    #[must_use]
    pub fn secrets(&self) -> &[RegisteredSecret] {
        &self.registration.secrets
    }

    /// Returns the secret with this label.
    #[must_use]
    pub fn secret(&self, label: &str) -> Option<&RegisteredSecret> {
        self.registration.secret(label)
    }

    /// Returns the lowest number that is not the label of a secret.
    pub(crate) fn free_label(&self) -> String {
        self.registration.free_label()
    }

    /// Returns the secret at this position, and a newer secret that has not expired, if there is one. The creation
    /// times decide which one is newer; if they are unknown or equal, the order does.
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

    /// Returns the credentials other than secrets, including expired ones.
    #[must_use]
    pub fn credentials(&self) -> &[Credential] {
        self.registration.credentials.as_ref().map_or(&[], |credentials| &credentials.list)
    }

    /// Returns the time until which [older assertions](Client::legacy_assertions_until) are accepted.
    #[must_use]
    pub fn legacy_assertions(&self) -> Option<SystemTime> {
        self.legacy_until().map(UnixTime::to_system)
    }

    pub(crate) fn legacy_until(&self) -> Option<UnixTime> {
        self.registration.credentials.as_ref()?.legacy_until
    }

    /// Returns the method by which the client may authenticate with its secrets. For a client without secrets, it is the
    /// method of its first [credential](Self::credentials).
    #[must_use]
    pub fn authentication(&self) -> ClientAuthMethod {
        self.registration.method
    }

    /// Returns the scopes that the client may get.
    #[must_use]
    pub fn scopes(&self) -> &Scopes {
        &self.registration.scopes
    }

    /// Returns the scopes of a request without `scope`. `None` means the server's default scopes.
    #[must_use]
    pub fn default_scopes(&self) -> Option<&Scopes> {
        self.registration.default_scopes.as_ref()
    }

    /// Returns the audiences that the client may get. If the list is empty, it gets the server's default audience.
    #[must_use]
    pub fn audiences(&self) -> &[Audience] {
        &self.registration.audiences
    }

    /// Returns the audience of a request without `resource`: the one that was set, or the only one.
    #[must_use]
    pub fn default_audience(&self) -> Option<&Audience> {
        match (&self.registration.default_audience, self.registration.audiences.as_slice()) {
            (Some(audience), _) => Some(audience),
            (None, [only]) => Some(only),
            _ => None,
        }
    }

    /// Returns the `sub` of the client's tokens.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.registration.subject.as_deref().unwrap_or(&self.id)
    }

    /// Returns the lifetime of the client's tokens. `None` means the server's lifetime.
    #[must_use]
    pub fn token_lifetime(&self) -> Option<Duration> {
        self.registration.token_lifetime.map(TokenLifetime::to_duration)
    }

    /// Returns the audiences whose tokens the client may introspect.
    #[must_use]
    pub fn introspects(&self) -> &[Audience] {
        &self.registration.introspects
    }

    pub(crate) fn lifetime(&self) -> Option<TokenLifetime> {
        self.registration.token_lifetime
    }

    /// Returns whether the client may get tokens by the client-credentials grant.
    #[must_use]
    pub fn may_use_grant(&self) -> bool {
        self.registration.may_use_grant
    }

    /// Returns whether the client may authenticate.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.registration.enabled
    }
}

impl Registration {
    fn labels(&self) -> impl Iterator<Item = &str> {
        let others = self.credentials.iter().flat_map(|credentials| &credentials.list).map(Credential::label);
        self.secrets.iter().map(RegisteredSecret::label).chain(others)
    }

    /// Returns the method, with this shorthand.
    fn method_with(&self, set: Option<ClientAuthMethod>) -> Result<ClientAuthMethod, String> {
        if self.secrets.is_empty() {
            method_without_secrets(self.method, set, self.credentials.as_deref())
        } else {
            method_of_secrets(self.method, set)
        }
    }

    fn has_label(&self, label: &str) -> bool {
        self.labels().any(|own| own == label)
    }

    fn free_label(&self) -> String {
        let labels: HashSet<&str> = self.labels().collect();
        let mut label = String::from("1");
        let mut number = 1_u32;
        while labels.contains(&*label) {
            number += 1;
            label = number.to_string();
        }
        label
    }

    fn secret(&self, label: &str) -> Option<&RegisteredSecret> {
        self.secrets.iter().find(|secret| secret.label() == label)
    }
}

/// A client's registration is invalid. The text names the client, and says how to fix it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("client `{client}`: {mistake}")]
pub struct ClientError {
    client: String,
    mistake: String,
}

impl ClientError {
    /// Creates an error for this client. The text must say how to fix it, and must not contain a secret.
    #[must_use]
    pub fn new(client: &ClientId, mistake: impl Into<String>) -> Self {
        Self { client: client.to_string(), mistake: mistake.into() }
    }

    /// Creates an error for a record, whose client id may be invalid.
    pub(crate) fn of_record(client: String, mistake: String) -> Self {
        Self { client, mistake }
    }

    /// Returns the text without the client's id.
    pub(crate) fn mistake(&self) -> &str {
        &self.mistake
    }

    /// Returns the client id as it was given.
    #[must_use]
    pub fn client(&self) -> &str {
        &self.client
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Audience, Client, RegisteredClient};
    use crate::scope::{Scope, Scopes};
    use crate::secret::ClientSecret;

    const READ: Scope = Scope::from_static("read");

    fn client(id: &str) -> Client {
        Client::new(id, ClientSecret::generate().unwrap())
    }

    #[test]
    fn each_error_contains_the_id_of_the_client() {
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
    fn the_error_for_a_malformed_id_contains_the_original_text() {
        for id in ["é", "", "a\nb"] {
            let client = client(id).scope(READ).audience("api");
            assert!(!format!("{client:?}").contains("ClientId(\"?\")"), "{client:?}");
            let error = client.register().unwrap_err();
            assert_eq!(error.client(), id);
            assert!(error.to_string().contains("client id"), "{error}");
        }
        // `?` is a valid id.
        assert_eq!(client("?").register().unwrap().id(), &"?");
    }

    #[test]
    fn the_default_audience_is_the_only_one_or_the_one_that_was_set() {
        let (one, two) = ("https://one.example", "https://two.example");
        let default = |client: Client| client.register().unwrap().default_audience().map(ToString::to_string);
        assert_eq!(default(client("b")), None);
        assert_eq!(default(client("b").audience(one)).as_deref(), Some(one));
        assert_eq!(default(client("b").audience(one).audience(two)), None);
        assert_eq!(default(client("b").audience(one).default_audience(two)).as_deref(), Some(two));
    }

    #[test]
    fn the_subject_is_the_id_unless_another_one_was_set() {
        assert_eq!(client("b").register().unwrap().subject(), "b");
        assert_eq!(client("b").subject("svc:b").register().unwrap().subject(), "svc:b");
    }

    const WRITE: Scope = Scope::from_static("write");

    #[test]
    fn audiences_are_kept_without_duplicates_and_in_order() {
        let audience = |number: usize| format!("https://api.example.com/{number}");
        let many: Vec<_> = (0..1_000).chain(500..1_500).map(audience).collect();
        let registered = client("b").audiences(&many).register().unwrap();
        assert!(registered.audiences().iter().map(ToString::to_string).eq((0..1_500).map(audience)));
        let record = serde_json::to_string(&registered)
            .unwrap()
            .replace(r#""audiences":["#, r#""audiences":["https://a","https://a","#);
        let read: RegisteredClient = serde_json::from_str(&record).unwrap();
        assert_eq!(read.audiences().len(), 1_501);
        let error = client("b").audiences(["https://a", "b", "c"]).register().unwrap_err().to_string();
        assert!(error.contains("`b`") && !error.contains("`c`"), "{error}");
    }

    #[test]
    fn a_secret_is_labelled_with_the_lowest_free_number() {
        let labels = |client: Client| {
            let client = client.register().unwrap();
            client.secrets().iter().map(|secret| secret.label().to_owned()).collect::<Vec<_>>()
        };
        let secret = || ClientSecret::generate().unwrap();
        let three = client("b").secret(secret()).secret(secret());
        assert_eq!(labels(three.clone()), ["1", "2", "3"]);
        assert_eq!(labels(three.without_secret("2").secret(secret()).secret(secret())), ["1", "3", "2", "4"]);
    }

    #[test]
    fn scope_adds_a_scope_and_scopes_replaces_all_of_them() {
        let scopes = |client: Client| client.register().unwrap().scopes().to_string();
        assert_eq!(scopes(client("b").scope(READ).without_scope(&READ).scope(WRITE)), "write");
        assert_eq!(scopes(client("b").scope(READ).scopes([WRITE])), "write");
        assert_eq!(scopes(client("b").scope(READ).scope(WRITE).scope(READ)), "read write");
        assert_eq!(scopes(client("b").scopes([READ, WRITE, READ])), "read write");
        let both = client("b").scopes([READ, WRITE]).register().unwrap();
        assert_eq!(scopes(both.edit().scopes([READ])), "read");
        assert_eq!(scopes(both.edit().scopes([])), "");
        assert_eq!(scopes(both.edit().scopes([WRITE]).scope(READ)), "write read");
    }

    #[test]
    fn audience_adds_an_audience_and_audiences_replaces_all_of_them() {
        let (one, two) = ("https://one.example", "https://two.example");
        let both = client("b").default_audience(one).audience(two).register().unwrap();
        let changed = both.edit().audiences([two]).register().unwrap();
        assert_eq!((changed.audiences().len(), changed.default_audience().unwrap().as_str()), (1, two));
        let changed = both.edit().audiences([two, one, two]).register().unwrap();
        assert_eq!((changed.audiences().len(), changed.default_audience().unwrap().as_str()), (2, one));
        assert!(
            both.edit().audiences(["api"]).register().unwrap_err().to_string().contains("`api` is not an audience")
        );
    }

    #[test]
    fn a_client_whose_audiences_were_all_removed_gets_the_servers_default_only_explicitly() {
        const ONE: &str = "https://one.example";
        let full = client("b").default_audience(ONE).register().unwrap();
        let nothing: [&str; 0] = [];
        let without_grant = full.edit().without_audience(ONE).without_grant().register().unwrap();
        for widened in [
            full.edit().without_audience(ONE),
            full.edit().audiences(nothing),
            full.edit().server_default_audience().audience(ONE).without_audience(ONE),
            client("b").audience(ONE).without_audience(ONE),
            client("b").audiences([ONE]).audiences(nothing),
            client("b").without_grant().register().unwrap().edit().grant(true),
            without_grant.edit().grant(true),
        ] {
            let error = widened.clone().register().unwrap_err().to_string();
            for part in ["client `b`: ", "the server's default", ".server_default_audience()", ".without_grant()"] {
                assert!(error.contains(part), "`{part}` is not in: {error}");
            }
            let said = widened.clone().server_default_audience().register().unwrap();
            assert!(said.audiences().is_empty() && said.default_audience().is_none());
            assert_eq!(widened.clone().audience(ONE).register().unwrap().audiences(), [ONE]);
            assert!(!widened.without_grant().register().unwrap().may_use_grant());
        }
        for never in [client("b"), client("b").audiences(nothing), client("b").without_grant().grant(true)] {
            let never = never.register().unwrap();
            assert!(never.audiences().is_empty() && never.may_use_grant());
            // The default audience gives it no more rights than before.
            assert_eq!(never.edit().without_audience(ONE).disabled().register().unwrap().audiences(), nothing);
        }
    }

    /// Removing scopes never extends a client's rights: a client without scopes gets none, and its default scopes are
    /// limited to its scopes.
    #[test]
    fn a_client_whose_default_scopes_were_all_removed_does_not_get_those_of_the_server() {
        let full = client("b").scopes([READ, WRITE]).default_scopes(WRITE).register().unwrap();
        let less = full.edit().without_scope(&WRITE).register().unwrap();
        assert_eq!(less.default_scopes().map(Scopes::as_str), Some(""));
        let record = serde_json::to_string(&less).unwrap();
        assert_eq!(serde_json::from_str::<RegisteredClient>(&record).unwrap(), less, "{record}");
        let none = less.edit().without_scope(&READ).register().unwrap();
        assert!(none.scopes().is_empty());
    }

    #[test]
    fn every_setting_of_a_client_can_be_removed() {
        let (one, two) = ("https://one.example", "https://two.example");
        let full = client("b")
            .scopes([READ, WRITE])
            .default_scopes([READ, WRITE])
            .default_audience(one)
            .audience(two)
            .introspects(one)
            .introspects(two)
            .subject("svc:b")
            .token_lifetime(Duration::from_secs(60))
            .without_grant()
            .register()
            .unwrap();
        let less = full
            .edit()
            .without_scope(&WRITE)
            .without_audience(one)
            .without_introspects(two)
            .without_subject()
            .without_token_lifetime()
            .grant(true)
            .register()
            .unwrap();
        assert_eq!((less.scopes().as_str(), less.default_scopes().map(Scopes::as_str)), ("read", Some("read")));
        assert_eq!((less.audiences().len(), less.default_audience().unwrap().as_str()), (1, two));
        assert_eq!(less.introspects().iter().map(Audience::as_str).collect::<Vec<_>>(), [one]);
        assert_eq!((less.subject(), less.token_lifetime(), less.may_use_grant()), ("b", None, true));
        assert_eq!(less.edit().without_default_scopes().register().unwrap().default_scopes(), None);
        assert_eq!(full.edit().without_default_audience().register().unwrap().default_audience(), None);
        let same = full.edit().without_scope(&Scope::from_static("other")).without_audience("https://other.example");
        assert_eq!(same.register().unwrap(), full);
    }

    #[test]
    fn many_scopes_are_added_in_linear_time() {
        let many = 20_000;
        let scopes = (0..many).map(|number| format!("scope:{number}").parse::<Scope>().unwrap());
        let start = std::time::Instant::now();
        let client = client("b").scopes(scopes).register().unwrap();
        assert_eq!(client.scopes().iter().count(), many);
        // Creating a set for each scope took minutes.
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }
}

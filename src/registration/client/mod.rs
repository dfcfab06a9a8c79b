//! [`Client`]: the registration of a client, before it is checked.

mod authentication;
mod details;
mod scopes_and_audiences;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use super::client_error::{ClientError, ClientErrorKind};
use super::credentials::CredentialNumbers;
use super::other_members::OtherMembers;
use super::registered_client::{RegisteredClient, Registration};
use super::{ClientAuthMethod, Credential};
use crate::client_id::{ClientId, InvalidClientId};
use crate::scope::Scope;
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
#[must_use = "the registration is not checked until .register()"]
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
    /// The numbers of its credentials before the change.
    had: CredentialNumbers,
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
        let id = id
            .parse()
            .map_err(|error: InvalidClientId| ClientError::of(ClientErrorKind::Registration, id, error.to_string()));
        let client = Registration { may_use_grant: true, enabled: true, ..Registration::default() };
        let had = CredentialNumbers::default();
        Self { id, client, added: Vec::new(), method: None, is_limited: false, had, mistake: None }
    }

    /// Returns a registration for changing a registered client; see also [`RegisteredClient::edit`].
    pub fn from_registered(client: RegisteredClient) -> Self {
        let had = client.credential_numbers();
        let RegisteredClient { id, registration } = client;
        let is_limited = !registration.audiences.is_empty() || !registration.may_use_grant;
        Self { id: Ok(id), client: registration, added: Vec::new(), method: None, is_limited, had, mistake: None }
    }

    /// Sets the `sub` of the client's tokens. The default is the client's id (RFC 9068 §2.2).
    ///
    /// Do not use a value that could be the id of a user; see
    /// [`VerifiedToken::subject`](crate::VerifiedToken::subject).
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
    pub fn without_subject(mut self) -> Self {
        self.client.subject = None;
        self
    }

    /// Sets the lifetime of the client's tokens, in whole seconds. The default is the server's.
    pub fn token_lifetime(mut self, lifetime: Duration) -> Self {
        self.client.token_lifetime = keep(TokenLifetime::new(lifetime), &mut self.mistake);
        self
    }

    /// Removes the [lifetime](Self::token_lifetime): the server's applies again.
    pub fn without_token_lifetime(mut self) -> Self {
        self.client.token_lifetime = None;
        self
    }

    /// Lets the client authenticate but get no tokens: a token request gets `unauthorized_client`.
    pub fn without_grant(self) -> Self {
        self.grant(false)
    }

    /// Sets whether the client may get tokens by the client-credentials grant. The default is `true`. If a registered
    /// client had neither the grant nor an audience, add an [audience](Self::audience) or [the server's
    /// default](Self::server_default_audience) together with the grant.
    pub fn grant(mut self, allowed: bool) -> Self {
        self.client.may_use_grant = allowed;
        self
    }

    /// Disables the client: its registration is kept, but its authentication fails.
    pub fn disabled(self) -> Self {
        self.enabled(false)
    }

    /// Sets whether the client may authenticate. The default is `true`.
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.client.enabled = enabled;
        self
    }

    /// Sets the members of the record that this release does not know.
    pub(crate) fn other_members(mut self, other: OtherMembers) -> Self {
        self.client.other = (!other.is_empty()).then(|| Box::new(other));
        self
    }

    /// Accepts more credentials than are tried, for reading a record: it can be older than the limits.
    pub(crate) fn with_any_number_of_credentials(self) -> Self {
        Self { had: CredentialNumbers::UNLIMITED, ..self }
    }

    /// Checks the registration.
    ///
    /// # Errors
    ///
    /// Returns the first error, with the client's id.
    pub fn register(mut self) -> Result<RegisteredClient, ClientError> {
        self.gather_scopes();
        let Self { id, mut client, method, is_limited, had, mistake, .. } = self;
        let id = id?;
        client.credentials = client.credentials.filter(|credentials| !credentials.is_empty());
        client.details = client.details.filter(|details| !details.is_empty());
        let mistake = mistake.or_else(|| client.method_with(method).map(|method| client.method = method).err());
        let mistake = mistake.or_else(|| client.credentials.as_ref()?.numbers().too_many(had));
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

/// Stores the first error.
fn keep<T, E: fmt::Display>(result: Result<T, E>, mistake: &mut Option<String>) -> Option<T> {
    result.map_err(|error| mistake.get_or_insert_with(|| error.to_string())).ok()
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
    pub fn edit(&self) -> Client {
        Client::from_registered(self.clone())
    }
}

//! [`RegisteredClient`]: a registration that was checked.

use std::collections::HashSet;
use std::hint::black_box;
use std::time::{Duration, SystemTime};

use super::credentials::{CredentialNumbers, Credentials, method_of_secrets, method_without_secrets};
use super::other_members::OtherMembers;
use super::{ClientAuthMethod, Credential, Details, MayGrant, RegisteredSecret};
use crate::audience::Audience;
use crate::client_id::ClientId;
use crate::clock::UnixTime;
use crate::scope::Scopes;
use crate::token_lifetime::TokenLifetime;

/// A registration that was checked. Only [`Client::register`](crate::Client::register) creates one.
///
/// With serde, it is serialized as one record, for a JSON column or a file. The members have the names of RFC 7591 §2 where
/// these exist. Deserializing checks the record as [`Client::register`](crate::Client::register) does, but accepts more
/// credentials for `client_secret_jwt` or with a `jwks_uri` than the four that are tried, and deeper `jwks` and `claims` than can be
/// registered: the record can be older than these limits. A secret has a `hash`, in the format of [`StoredSecret::to_phc_string`](crate::secret::StoredSecret::to_phc_string). If a secret in plain text is
/// unavoidable, use `dangerous_plain` instead: it is hashed whenever the record is read, and written as a `hash`. With
/// `random: true` in addition, it is treated as a [random](crate::ClientSecret::assume_random) secret, and stored as a digest.
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

/// The settings of a client without its id, so that a [`Client`](crate::Client) with a malformed id needs no placeholder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// Behind a pointer, because most clients have none.
    pub(crate) details: Option<Box<Details>>,
    /// Behind a pointer, because almost no client has any.
    pub(crate) other: Option<Box<OtherMembers>>,
}

impl RegisteredClient {
    pub(super) fn credential_numbers(&self) -> CredentialNumbers {
        self.registration.credentials.as_ref().map(|credentials| credentials.numbers()).unwrap_or_default()
    }

    /// Returns a mistake if the client has more credentials of a kind than are tried, and more than `before` the change.
    pub(crate) fn too_many_credentials(&self, before: Option<&Self>) -> Option<String> {
        self.credential_numbers().too_many(before.map(Self::credential_numbers).unwrap_or_default())
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
    pub fn credentials(&self) -> &[Credential] {
        self.registration.credentials.as_ref().map_or(&[], |credentials| &credentials.list)
    }

    /// Returns the time until which [older assertions](super::Client::legacy_assertions_until) are accepted.
    #[must_use]
    pub fn legacy_assertions(&self) -> Option<SystemTime> {
        self.legacy_until().map(UnixTime::to_system)
    }

    /// Returns when the client last sent an assertion that only the allowance makes acceptable, to the hour: with the URL of the token
    /// endpoint as `aud`, or valid for too long. `None` if it did not, or if the server does not [record it](crate::authorization_server::ClientAssertions::record_legacy_uses).
    #[must_use]
    pub fn legacy_audience_used(&self) -> Option<SystemTime> {
        self.legacy_audience_use().map(UnixTime::to_system)
    }

    pub(crate) fn legacy_audience_use(&self) -> Option<UnixTime> {
        self.registration.credentials.as_ref()?.legacy_audience_used
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

    /// Returns the name of the client, for people.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.details()?.name.as_deref()
    }

    /// Returns the entries of the free [metadata](crate::Client::metadata), sorted by their keys.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        let entries = self.details().into_iter().flat_map(|details| &details.metadata);
        entries.map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Returns when the client was registered, if it is known.
    #[must_use]
    pub fn issued(&self) -> Option<SystemTime> {
        self.details()?.issued_at.map(UnixTime::to_system)
    }

    /// Returns the scopes, audiences and workloads that the client may give to other clients, as an administrator.
    #[must_use]
    pub fn may_grant(&self) -> Option<&MayGrant> {
        self.details()?.may_grant.as_ref()
    }

    fn details(&self) -> Option<&Details> {
        self.registration.details.as_deref()
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
    pub(super) fn method_with(&self, set: Option<ClientAuthMethod>) -> Result<ClientAuthMethod, String> {
        if self.secrets.is_empty() {
            method_without_secrets(self.method, set, self.credentials.as_deref())
        } else {
            method_of_secrets(self.method, set)
        }
    }

    pub(super) fn has_label(&self, label: &str) -> bool {
        self.labels().any(|own| own == label)
    }

    pub(super) fn free_label(&self) -> String {
        let labels: HashSet<&str> = self.labels().collect();
        let mut label = String::from("1");
        let mut number = 1_u32;
        while labels.contains(&*label) {
            number += 1;
            label = number.to_string();
        }
        label
    }

    pub(super) fn secret(&self, label: &str) -> Option<&RegisteredSecret> {
        self.secrets.iter().find(|secret| secret.label() == label)
    }
}

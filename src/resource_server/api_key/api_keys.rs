//! [`ApiKeys`]: the API keys that a route accepts until a date.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderName;
use http::header::AUTHORIZATION;

use super::identity::ApiKeyIdentity;
use super::key::{ApiKeyUsage, Client, Key};
use super::wrong_keys::{LIMIT, WrongKeys};
use crate::client_id::ClientId;
use crate::debug_fields::debug_fields;
use crate::quoted::quoted;
use crate::resource_server::policy::{PolicyError, RequestHead};
use crate::scope::Scopes;
use crate::secret::StoredSecret;

/// The prefix of the secrets that this crate generates, which may be API keys.
const GENERATED: &str = "tcc_";

/// The API keys that a [`BearerAuthLayer`](crate::BearerAuthLayer::api_keys) accepts in addition to tokens, until a date: for the
/// migration of clients with static keys. A clone is the same set.
///
/// 1. A key is kept as a digest. It must be random, with 128 bits or more, since a key that can be guessed can
///    be found from its digest.
/// 2. Wrong keys are counted by address. Beyond the [limit](Self::wrong_keys_per_minute) they get 429. The right key always
///    passes.
/// 3. A key is never logged. The log, the events and the metrics name its client.
/// 4. A key has scopes, and is admitted only where they are sufficient.
/// 5. If the verifier has [revocations](crate::Verifier::revocations), the keys of a client are refused within a second after
///    all its tokens were revoked, which includes that it was disabled or deleted. They stay refused until this process ends. A
///    process that starts later refuses them as long as the store has the revocation. While the revocations are unavailable,
///    every key gets 503.
/// 6. A value that looks like a key is never sent to an introspection endpoint, also if it is wrong. Set the
///    [prefix](Self::prefix) or the [format](Self::format) of your keys if the layer accepts opaque tokens.
/// 7. From the end date on, every key gets the 401 of an invalid token. The log names the clients that still use one.
///
/// # Deployment caveat
///
/// A key does not expire and is not bound to one API, unlike a token. Choose an end date that is near, and follow
/// [`usage`](Self::usage) until no client uses a key.
///
/// The set does not follow the registered secrets: if a secret is an API key as well, and is rotated or removed at its client, it
/// still opens the API. A key that leaks is removed by a restart without it, or at once by revoking the tokens of its client. Before a restart, remove the keys of clients that were disabled
/// or deleted, since the store forgets a revocation when the tokens have expired.
///
/// # Example
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use tower_client_credentials::resource_server::ApiKeys;
/// use tower_client_credentials::{BearerAuthLayer, ClientSecret, Scope, Verifier};
///
/// const READ: Scope = Scope::from_static("invoices:read");
///
/// # fn protect(verifier: Verifier) -> Result<BearerAuthLayer, Box<dyn std::error::Error>> {
/// let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1_803_859_200); // 2027-03-01
/// // From a file that has a digest for each key. `ClientSecret::assume_random(key)?.to_stored()?` makes it from the key.
/// let billing = "$sha256$gSVtwUOEHnIMQxnGbFfpPsaMNuPOUFQYy2d8L4JA2cE".parse()?;
/// let keys = ApiKeys::until(end).key("billing".parse()?, billing, READ)?;
///
/// let protect = BearerAuthLayer::new(verifier).require_scope(READ).api_keys(keys.clone());
/// for usage in keys.usage() {
///     println!("{} sent {} requests with an API key", usage.client_id(), usage.requests());
/// }
/// # Ok(protect)
/// # }
/// ```
#[derive(Clone)]
#[must_use = "the keys are not used until a layer has them"]
pub struct ApiKeys(pub(super) Arc<Inner>);

#[derive(Clone)]
pub(super) struct Inner {
    pub(super) end: SystemTime,
    pub(super) by_digest: HashMap<[u8; 32], Arc<Key>>,
    pub(super) clients: HashMap<ClientId, Arc<Client>>,
    /// The header of the key. `None` if it is behind `Bearer`.
    pub(super) header: Option<HeaderName>,
    pub(super) limit: u32,
    pub(super) wrong: Arc<WrongKeys>,
    pub(super) peer: Option<Arc<PeerAddress>>,
    pub(super) policies: Vec<Arc<Policy>>,
    pub(super) prefixes: Vec<String>,
    pub(super) formats: Vec<Arc<Format>>,
}

type PeerAddress = dyn Fn(RequestHead<'_>) -> Option<IpAddr> + Send + Sync;
type Format = dyn Fn(&str) -> bool + Send + Sync;
type Policy = dyn Fn(&ApiKeyIdentity, RequestHead<'_>) -> Result<(), PolicyError> + Send + Sync;

/// A setting of [`ApiKeys`] is invalid. The text says how to fix it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidApiKey(String);

impl ApiKeys {
    /// Creates an empty set. From `end` on, by the clock of the verifier, no key is accepted.
    pub fn until(end: SystemTime) -> Self {
        Self(Arc::new(Inner {
            end,
            by_digest: HashMap::new(),
            clients: HashMap::new(),
            header: None,
            limit: LIMIT,
            wrong: Arc::default(),
            peer: None,
            policies: Vec::new(),
            prefixes: vec![GENERATED.to_owned()],
            formats: Vec::new(),
        }))
    }

    /// Adds a key of a client, with the scopes that it has. A client may have several keys.
    ///
    /// The digest of a key is the SHA-256 of its bytes. If the old system stores it in hexadecimal, `$sha256$` and the same bytes
    /// in base64 without padding are its text form.
    ///
    /// A key may have up to 1,024 bytes. The length cannot be seen in the digest: a longer key is never found, and gets the 401 of
    /// a malformed token.
    ///
    /// # Errors
    ///
    /// If the key is stored as a slow hash, which cannot be looked up, or if it is in the set already.
    pub fn key(
        self,
        client_id: ClientId,
        digest: StoredSecret,
        scopes: impl Into<Scopes>,
    ) -> Result<Self, InvalidApiKey> {
        let Some(digest) = digest.as_digest() else {
            return Err(InvalidApiKey(format!(
                "the API key of client `{client_id}` has a slow hash, expected a digest: a key is found by its digest; use \
                 ClientSecret::assume_random(key)?.to_stored()?, or replace a key that a person chose"
            )));
        };
        if let Some(other) = self.0.by_digest.get(&digest) {
            let other = other.client_id();
            return Err(InvalidApiKey(format!(
                "clients `{other}` and `{client_id}` have the same API key, expected a key of its own for each; leave one out"
            )));
        }
        Ok(self.with(|keys| {
            let client = keys.clients.entry(client_id.clone()).or_insert_with(|| Arc::new(Client::new(client_id)));
            let key = Key { client: client.clone(), scopes: scopes.into() };
            keys.by_digest.insert(digest, Arc::new(key));
        }))
    }

    /// Reads the key from a header of its own, such as `X-Api-Key`. By default it is in `Authorization`, behind `Bearer`.
    ///
    /// A request with this header and a bearer token is malformed: it gets 400.
    ///
    /// # Errors
    ///
    /// If the header is `Authorization`.
    pub fn header(self, name: HeaderName) -> Result<Self, InvalidApiKey> {
        if name == AUTHORIZATION {
            let why = "the header of API keys is `authorization`, expected another one; without .header(…), a key is read from \
                       `Authorization: Bearer KEY`";
            return Err(InvalidApiKey(why.to_owned()));
        }
        Ok(self.with(|keys| keys.header = Some(name)))
    }

    /// Adds a prefix that all keys of one kind have, and no token has, such as `sk_live_`. A value behind `Bearer` with this prefix
    /// is refused if it is not one of the keys, and never verified as a token. So a mistyped or revoked key is not sent to an
    /// [introspection](crate::Introspection) endpoint. `tcc_`, the prefix of generated secrets, is one by default.
    ///
    /// # Errors
    ///
    /// If the prefix is empty, or that of a JWT (`ey`), since every token would be refused.
    pub fn prefix(self, prefix: impl Into<String>) -> Result<Self, InvalidApiKey> {
        let prefix = prefix.into();
        if prefix.is_empty() || prefix.starts_with("ey") || "ey".starts_with(&prefix) {
            let found = quoted(&prefix);
            return Err(InvalidApiKey(format!(
                "the prefix of API keys is {found}, expected one that no token has: a JWT begins with `ey`; use for example `sk_live_`"
            )));
        }
        Ok(self.with(|keys| keys.prefixes.push(prefix)))
    }

    /// Adds a function that recognizes the keys of one kind, for keys without a [prefix](Self::prefix), for example by their length
    /// and characters. Opaque tokens must not match: they would be refused.
    pub fn format(self, is_key: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.with(|keys| keys.formats.push(Arc::new(is_key)))
    }

    /// Sets how many wrong keys per minute and address get 401. Further ones get 429 with `Retry-After`. The default is 100, as
    /// for wrong random secrets at the token endpoint. The right key always passes.
    pub fn wrong_keys_per_minute(self, limit: u32) -> Self {
        self.with(|keys| keys.limit = limit)
    }

    /// Sets how to find the address of a caller, by which wrong keys are counted. By default all callers share one count.
    ///
    /// Behind proxies, use [`TrustedProxies::client_address`](crate::authorization_server::TrustedProxies::client_address):
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use axum::extract::ConnectInfo;
    /// # use tower_client_credentials::authorization_server::TrustedProxies;
    /// # use tower_client_credentials::resource_server::ApiKeys;
    /// # fn keys(keys: ApiKeys, proxies: TrustedProxies) -> ApiKeys {
    /// keys.peer_address(move |request| {
    ///     let ConnectInfo(peer) = request.extensions().get::<ConnectInfo<SocketAddr>>()?;
    ///     Some(proxies.client_address(peer.ip(), request.headers()))
    /// })
    /// # }
    /// ```
    pub fn peer_address(self, address: impl Fn(RequestHead<'_>) -> Option<IpAddr> + Send + Sync + 'static) -> Self {
        self.with(|keys| keys.peer = Some(Arc::new(address)))
    }

    /// Adds your own policy over the identity and the request. If there are several, all must agree. None by default.
    ///
    /// The policies of the layer judge tokens only. A layer that has one refuses every API key (403) unless its keys have a
    /// policy, too.
    pub fn policy(
        self,
        decide: impl Fn(&ApiKeyIdentity, RequestHead<'_>) -> Result<(), PolicyError> + Send + Sync + 'static,
    ) -> Self {
        self.with(|keys| keys.policies.push(Arc::new(decide)))
    }

    /// Returns how often the clients have used their keys since this process started, with the clients that never did, sorted by
    /// id.
    #[must_use]
    pub fn usage(&self) -> Vec<ApiKeyUsage> {
        let mut usage: Vec<_> = self.0.clients.values().map(|client| client.usage()).collect();
        usage.sort_unstable_by(|one, other| one.client_id().as_str().cmp(other.client_id().as_str()));
        usage
    }

    fn with(mut self, set: impl FnOnce(&mut Inner)) -> Self {
        set(Arc::make_mut(&mut self.0));
        self
    }
}

debug_fields!(ApiKeys, |this| { end: this.0.end, keys: this.0.by_digest.len(), header: this.0.header });

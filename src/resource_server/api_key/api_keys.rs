//! [`ApiKeys`]: the API keys that a route accepts until a date.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};

use super::identity::ApiKeyIdentity;
use super::key::{ApiKeyUsage, Client, Key};
use super::wrong_keys::{LIMIT, WrongKeys};
use crate::client_id::ClientId;
use crate::crypto::sha256;
use crate::metrics;
use crate::quoted::quoted;
use crate::resource_server::bearer::BearerToken;
use crate::resource_server::error::BearerError;
use crate::resource_server::policy::{Forbidden, PolicyError, RequestHead};
use crate::revocation::{Revocations, RevokedClients};
use crate::scope::Scopes;
use crate::secret::StoredSecret;
use crate::verification::{Verifier, VerifyError};

/// The maximum length of an API key: that of a secret, so that every key of which a [`ClientSecret`](crate::ClientSecret) can
/// be made is accepted. A longer text is a token, and is not looked up.
const LONGEST: usize = crate::secret::LONGEST;

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
/// The set does not follow the registered secrets: `rotate_secret` does not change it. A key that leaks is removed by a restart
/// without it, or at once by revoking the tokens of its client. Before a restart, remove the keys of clients that were disabled
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
pub struct ApiKeys(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    end: SystemTime,
    by_digest: HashMap<[u8; 32], Arc<Key>>,
    clients: HashMap<ClientId, Arc<Client>>,
    /// The header of the key. `None` if it is behind `Bearer`.
    header: Option<HeaderName>,
    limit: u32,
    wrong: Arc<WrongKeys>,
    peer: Option<Arc<PeerAddress>>,
    policies: Vec<Arc<Policy>>,
    prefixes: Vec<String>,
    formats: Vec<Arc<Format>>,
}

type PeerAddress = dyn Fn(RequestHead<'_>) -> Option<IpAddr> + Send + Sync;
type Format = dyn Fn(&str) -> bool + Send + Sync;
type Policy = dyn Fn(&ApiKeyIdentity, RequestHead<'_>) -> Result<(), PolicyError> + Send + Sync;

/// A setting of [`ApiKeys`] is invalid. The text says how to fix it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidApiKey(String);

/// What a request presents as an API key.
pub(in crate::resource_server) enum Presented {
    /// Nothing that can be a key.
    Nothing,
    /// One of the keys.
    Known(Arc<Key>),
    /// A key that is not known. Behind `Bearer` it may be a token.
    Unknown,
    /// Several keys, or a key and a token.
    Several,
}

impl ApiKeys {
    /// Creates an empty set. From `end` on, by the clock of the verifier, no key is accepted.
    #[must_use]
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
    #[must_use]
    pub fn format(self, is_key: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.with(|keys| keys.formats.push(Arc::new(is_key)))
    }

    /// Sets how many wrong keys per minute and address get 401. Further ones get 429 with `Retry-After`. The default is 100, as
    /// for wrong random secrets at the token endpoint. The right key always passes.
    #[must_use]
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
    #[must_use]
    pub fn peer_address(self, address: impl Fn(RequestHead<'_>) -> Option<IpAddr> + Send + Sync + 'static) -> Self {
        self.with(|keys| keys.peer = Some(Arc::new(address)))
    }

    /// Adds your own policy over the identity and the request. If there are several, all must agree. None by default.
    ///
    /// The policies of the layer judge tokens only. A layer that has one refuses every API key (403) unless its keys have a
    /// policy, too.
    #[must_use]
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

    /// Creates the proof of a key of this set. `guard` is the layer that admits its request.
    pub(in crate::resource_server) fn prove(&self, key: Arc<Key>, guard: Arc<dyn Any + Send + Sync>) -> ApiKeyIdentity {
        ApiKeyIdentity::new(key, self.0.clone(), guard)
    }

    /// Returns the key of a proof that this set created.
    pub(in crate::resource_server) fn key_of(&self, identity: &ApiKeyIdentity) -> Option<Arc<Key>> {
        let is_own = std::ptr::addr_eq(Arc::as_ptr(identity.set()), Arc::as_ptr(&self.0));
        is_own.then(|| identity.key().clone())
    }

    /// Returns the header of the key, or `None` if it is behind `Bearer`.
    pub(in crate::resource_server) fn own_header(&self) -> Option<&HeaderName> {
        self.0.header.as_ref()
    }

    /// Looks up the key of a request.
    pub(in crate::resource_server) fn find(&self, headers: &HeaderMap) -> Presented {
        let bearer = BearerToken::read(headers);
        let Some(name) = &self.0.header else {
            return match bearer {
                Ok(bearer) => self.look_up(bearer.as_bytes()),
                Err(_) => Presented::Nothing,
            };
        };
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next(), bearer) {
            (None, ..) => Presented::Nothing,
            (Some(value), None, Err(BearerError::NoCredentials)) => match self.look_up(value.as_bytes()) {
                Presented::Nothing => Presented::Unknown,
                found => found,
            },
            _ => Presented::Several,
        }
    }

    /// Returns whether a value is a key or looks like one, so that it must not leave this process.
    pub(in crate::resource_server) fn is_like_a_key(&self, text: &[u8]) -> bool {
        let has_prefix = self.0.prefixes.iter().any(|prefix| text.starts_with(prefix.as_bytes()));
        let is_format = || match std::str::from_utf8(text) {
            Ok(text) => self.0.formats.iter().any(|is_key| is_key(text)),
            Err(_) => false,
        };
        has_prefix || (!self.0.formats.is_empty() && is_format()) || matches!(self.look_up(text), Presented::Known(_))
    }

    /// Returns whether a wrong key can be told from an opaque token: by its header, or by a setting of its form.
    #[cfg(feature = "remote")]
    pub(in crate::resource_server) fn is_told_from_a_token(&self) -> bool {
        self.0.header.is_some() || self.0.prefixes.len() > 1 || !self.0.formats.is_empty()
    }

    fn look_up(&self, text: &[u8]) -> Presented {
        if text.is_empty() || text.len() > LONGEST {
            return Presented::Nothing;
        }
        // The time of a look-up by the digest reveals nothing about the digests of the set: a caller cannot choose a digest.
        self.0.by_digest.get(&sha256(text)).cloned().map_or(Presented::Unknown, Presented::Known)
    }

    /// Counts a wrong key, and returns its refusal.
    pub(in crate::resource_server) fn wrong(
        &self,
        error: BearerError,
        request: RequestHead<'_>,
        now: SystemTime,
    ) -> BearerError {
        let peer = self.0.peer.as_ref().and_then(|address| address(request));
        match self.0.wrong.count(peer, self.0.limit, now) {
            Ok(()) => error,
            Err(retry_after_seconds) => BearerError::TooManyAttempts { retry_after_seconds },
        }
    }

    /// Checks the date of a known key, and counts its use.
    pub(in crate::resource_server) fn check_date(&self, key: &Key, now: SystemTime) -> Result<(), BearerError> {
        key.client.count(now);
        if now < self.0.end {
            return Ok(());
        }
        let end = self.0.end.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Err(BearerError::ApiKeysEnded { client_id: key.client_id().clone(), end })
    }

    /// Refuses a key if the tokens of its client are revoked, or if that is unknown.
    pub(in crate::resource_server) fn check_revoked(key: &Key, verifier: &Verifier) -> Result<(), BearerError> {
        // Checked before the flag: a poll that ends in between does not make the flag more recent.
        let ready = verifier.revoked().try_for_each(Revocations::check_ready);
        if key.client.is_revoked() {
            return Err(BearerError::ApiKeyRevoked { client_id: key.client_id().clone() });
        }
        ready.map_err(|error| VerifyError::from(error).into())
    }

    /// Creates the counter of each client, so that an alert on an increase notices its first request.
    pub(in crate::resource_server) fn expect_requests(&self) {
        self.0.clients.keys().for_each(|client| metrics::expect_api_key_requests(client.as_str()));
    }

    /// Refuses the keys of clients whose tokens are revoked, now and from now on.
    pub(in crate::resource_server) fn follow(&self, revocations: &Revocations) {
        let watcher: Arc<dyn RevokedClients> = self.0.clone();
        // Before the look at the view, so that no revocation is missed.
        revocations.watch(&watcher);
        for (id, client) in &self.0.clients {
            if revocations.revokes_client(id) {
                client.revoke();
            }
        }
    }

    /// Asks the policies. `has_others` says whether the layer has policies for tokens, which cannot judge a key.
    pub(in crate::resource_server) fn judge(
        &self,
        identity: &ApiKeyIdentity,
        request: RequestHead<'_>,
        has_others: bool,
    ) -> Result<(), BearerError> {
        if has_others && self.0.policies.is_empty() {
            let reason =
                "the policy of the route judges tokens only, and the caller has an API key; set ApiKeys::policy";
            return Err(refused(identity, Forbidden::new(reason).into()));
        }
        let refused = |error| refused(identity, error);
        self.0.policies.iter().try_for_each(|policy| policy(identity, request).map_err(refused))
    }
}

impl RevokedClients for Inner {
    fn revoked(&self, client_id: &ClientId) {
        self.clients.get(client_id).into_iter().for_each(|client| client.revoke());
    }
}

fn refused(identity: &ApiKeyIdentity, error: PolicyError) -> BearerError {
    let (client_id, granted) = (identity.client_id().clone(), identity.scopes().clone());
    match error {
        PolicyError::Unavailable(unavailable) => unavailable.into(),
        PolicyError::Refused(forbidden) => match forbidden.into_parts() {
            (_, Some(required)) => BearerError::InsufficientScope { client_id, granted, required },
            (reason, None) => BearerError::Forbidden { client_id, reason },
        },
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeys")
            .field("end", &self.0.end)
            .field("keys", &self.0.by_digest.len())
            .field("header", &self.0.header)
            .finish_non_exhaustive()
    }
}

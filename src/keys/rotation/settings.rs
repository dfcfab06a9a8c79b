//! [`KeyManagerBuilder`]: the settings of a managed ring, with safe defaults.

use std::sync::Arc;
use std::time::Duration;

use super::KeyRingError;
use super::document::PrivateKeys;
use super::keeper::Keeper;
use super::key_encryption::KeyEncryptionKey;
use super::lifecycle::Waits;
use super::manager::KeyManager;
use super::store::KeyStore;
use crate::clock::{Clock, SystemClock, millis};
use crate::event::EventSender;
use crate::keys::{Algorithm, SigningKey};
use crate::metrics;
use crate::timing::{CLOCK_SKEW, DEFAULT_LONGEST_TOKEN_LIFETIME, MAX_DATED_AHEAD};
use crate::token_lifetime::TokenLifetime;

/// Builds a [`KeyManager`]. Each setting has a safe default. Give all replicas the same settings.
#[derive(Debug)]
#[must_use = "a builder does nothing until `connect` is awaited"]
pub struct KeyManagerBuilder(pub(super) Settings);

#[derive(Debug)]
pub(super) struct Settings {
    pub(super) store: Arc<dyn KeyStore>,
    pub(super) key_encryption_key: KeyEncryptionKey,
    pub(super) name: String,
    pub(super) algorithm: Algorithm,
    pub(super) every: Option<Duration>,
    pub(super) max_age: Duration,
    pub(super) longest_token: Duration,
    pub(super) leeway: Duration,
    pub(super) margin: Duration,
    pub(super) lease: Duration,
    pub(super) poll_interval: Duration,
    pub(super) store_timeout: Duration,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) events: Option<EventSender>,
    pub(super) accepts_stored: bool,
    /// Keys behind signers, which the store cannot contain.
    pub(super) external: PrivateKeys,
}

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How many calls of the store must fit into the time for which a replica may use the ring: it reads the ring, renews the lease and reads
/// the ring again.
const CALLS_PER_RENEWAL: u32 = 3;

impl KeyManagerBuilder {
    pub(super) fn new(store: impl KeyStore, key_encryption_key: KeyEncryptionKey) -> Self {
        Self(Settings {
            store: Arc::new(store),
            key_encryption_key,
            name: "default".to_owned(),
            algorithm: Algorithm::ES256,
            every: Some(90 * DAY),
            max_age: Duration::from_secs(300),
            longest_token: DEFAULT_LONGEST_TOKEN_LIFETIME,
            leeway: Duration::from_secs(5),
            margin: Duration::from_secs(60),
            lease: Duration::from_secs(30),
            poll_interval: Duration::from_millis(250),
            store_timeout: Duration::from_secs(2),
            clock: Arc::new(SystemClock),
            events: None,
            accepts_stored: false,
            external: PrivateKeys::new(),
        })
    }

    /// Sets the name of the ring in the store. The default is `default`. Two services that share a store need two names.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.0.name = name.into();
        self
    }

    /// Sets the algorithm of the keys of a new ring. The default is ES256. It has no effect on a ring that exists:
    /// [`KeyManager::change_algorithm`] changes that.
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.0.algorithm = algorithm;
        self
    }

    /// Sets after how long the next key signs. The default is 90 days. `None` turns the schedule off: only
    /// [`KeyManager::rotate`] rotates.
    pub fn every(mut self, every: impl Into<Option<Duration>>) -> Self {
        self.0.every = every.into();
        self
    }

    /// Sets how long caches may keep the key set, in whole seconds. The default is 5 minutes. The key set says so in
    /// `Cache-Control`, instead of
    /// [`documents_max_age`](crate::authorization_server::AuthorizationServerBuilder::documents_max_age). A key signs only after
    /// it was published everywhere for this long plus the [margin](Self::margin). At most 7 days.
    ///
    /// The waits of a ring never become shorter: a longer `max_age`, `longest_token`, `leeway` or `margin` of one replica counts for all,
    /// also when the setting is lowered later.
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.0.max_age = max_age;
        self
    }

    /// Sets the longest lifetime of a token. The default is 24 hours. Servers with this ring issue no token that lives longer. A
    /// key that no longer signs stays published for this long, plus [leeway](Self::leeway) and [margin](Self::margin). At most 365 days.
    pub fn longest_token(mut self, lifetime: Duration) -> Self {
        self.0.longest_token = lifetime;
        self
    }

    /// Sets the greatest leeway of the verifiers, local and remote ones. The default is 5 seconds, and at most an hour is possible.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.0.leeway = leeway;
        self
    }

    /// Sets how much longer than necessary each step waits. The default is 60 seconds. It covers requests and answers in
    /// transit, and a signature that is under way. The waits for old keys include 13 seconds more, since the clocks of replicas
    /// may differ by 5 seconds in either direction, and a token may be dated 3 seconds ahead. At most a day.
    pub fn margin(mut self, margin: Duration) -> Self {
        self.0.margin = margin;
        self
    }

    /// Sets how long a replica counts as alive after it last reached the store. The default is 30 seconds. A replica that cannot
    /// reach the store stops signing, verifying and publishing after two thirds of this, and answers 503. Others wait for it
    /// this long before they take a step that needs it. At most a day, and long enough for the
    /// [store timeout](Self::store_timeout).
    pub fn lease(mut self, lease: Duration) -> Self {
        self.0.lease = lease;
        self
    }

    /// Sets the time between two looks at the store. The default is 250 ms, so that a distrusted key is gone within a second.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.0.poll_interval = interval;
        self
    }

    /// Sets how long a call of the store may take. The default is 2 seconds. Three calls must take less than two thirds of the
    /// [lease](Self::lease): a replica reads the ring, renews its lease, and reads the ring again before it uses it.
    pub fn store_timeout(mut self, timeout: Duration) -> Self {
        self.0.store_timeout = timeout;
        self
    }

    /// Sets the wall clock that, together with the monotonic one, tells when the lease ends. The default is that of the operating
    /// system. Steps of keys go by the clock of the store. Give the same clock to a server with this ring.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.0.clock = Arc::new(clock);
        self
    }

    /// Sends [events](crate::event) about the steps of keys to this sender. None by default.
    pub fn events(mut self, events: EventSender) -> Self {
        self.0.events = Some(events);
        self
    }

    /// Accepts the stored ring when it is opened, as [`KeyManager::accept_stored`] does, although live replicas know a later version.
    /// Without this, no process can open a ring that was restored from an older copy. For a tool of the operator; a service that
    /// starts with it would accept every restored ring.
    pub fn accept_stored(mut self) -> Self {
        self.0.accepts_stored = true;
        self
    }

    /// Adds a key behind a [`Signer`](crate::keys::Signer), which the store cannot contain. Give it to every replica, and then
    /// [publish](KeyManager::publish) it once.
    pub fn external_key(mut self, key: SigningKey) -> Self {
        self.0.external.insert(key.key_id().to_owned(), Arc::new(key));
        self
    }

    /// Opens the ring, or creates it with a key that signs and the next one. Then follows it in the background, for as long as
    /// the manager or a clone of its ring exists. If the runtime ends before that, the ring is not used any more, also after a command:
    /// connect again.
    ///
    /// # Errors
    ///
    /// If a setting is invalid, the store cannot be reached, or the ring cannot be decrypted.
    pub async fn connect(self) -> Result<KeyManager, KeyRingError> {
        self.0.check()?;
        metrics::expect_key_ring_refusals();
        let (ring, keeper) = Keeper::start(self.0).await?;
        Ok(KeyManager { ring, keeper })
    }
}

impl Settings {
    fn check(&self) -> Result<(), KeyRingError> {
        let invalid = |why: &str| Err(KeyRingError::Settings(why.to_owned()));
        if self.algorithm == Algorithm::HS256 {
            return invalid("a shared ring needs an asymmetric algorithm; use for example ES256");
        }
        if self.poll_interval.is_zero()
            || self.store_timeout.is_zero()
            || self.every.is_some_and(|every| every.is_zero())
        {
            return invalid("the poll interval, the store timeout or `every` is 0; use a larger value");
        }
        if self.longest_token.as_secs() == 0 {
            return invalid(
                "`longest_token` is less than a second, so that no token could be issued; use a larger value",
            );
        }
        if self.lease < self.poll_interval.saturating_mul(4) {
            return invalid(
                "the lease is less than four times the poll interval, so that it would end between two polls; raise `lease` or \
                 lower `poll_interval`",
            );
        }
        // One wrong value would make all replicas wait, and for ever: the waits of a ring never become shorter.
        for (name, found, longest) in [
            ("lease", self.lease, DAY),
            ("max_age", self.max_age, 7 * DAY),
            ("longest_token", self.longest_token, TokenLifetime::LONGEST),
            ("leeway", self.leeway, HOUR),
            ("margin", self.margin, DAY),
        ] {
            if found > longest {
                return invalid(&format!(
                    "`{name}` is {found:?}, and at most {longest:?} is possible; use a smaller value"
                ));
            }
        }
        let (timeout, usable) = (self.store_timeout, self.usable());
        if timeout.saturating_mul(CALLS_PER_RENEWAL) >= usable {
            return invalid(&format!(
                "`store_timeout` is {timeout:?}, and two thirds of `lease` are {usable:?}, in which {CALLS_PER_RENEWAL} calls of the \
                 store must end; use a `store_timeout` below {:?}, or a longer `lease`",
                usable / CALLS_PER_RENEWAL
            ));
        }
        Ok(())
    }

    /// Returns the waits that follow from the settings.
    pub(super) fn waits(&self) -> Waits {
        waits(self.max_age, self.longest_token, self.leeway, self.margin)
    }

    /// Returns how long a replica may use the ring without reaching the store.
    pub(super) fn usable(&self) -> Duration {
        self.lease.saturating_mul(2) / 3
    }
}

/// Returns the waits that follow from these times.
pub(super) fn waits(max_age: Duration, longest_token: Duration, leeway: Duration, margin: Duration) -> Waits {
    // A clock that is ahead signs a token that lives longer, and one that is behind accepts it for longer.
    let clocks = CLOCK_SKEW.saturating_mul(2).saturating_add(MAX_DATED_AHEAD);
    let before_removal = longest_token.saturating_add(leeway).saturating_add(clocks);
    Waits {
        before_signing: millis(max_age.saturating_add(margin)),
        before_removal: millis(before_removal.saturating_add(margin)),
    }
}

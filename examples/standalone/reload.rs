//! The state that a reload replaces while the service runs: as a whole, or not at all.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use tokio::signal::unix::Signal;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tower_client_credentials::authorization_server::TrustedProxies;

use crate::audit::Audit;
use crate::build::{self, Built, Context, Kept, Readiness};
use crate::config::{Config, Limits, LogFormat, Mistake, Source};
use crate::keys::ServiceKeys;
use crate::serve::Health;
use crate::tls::Tls;
use crate::{log, metrics};

/// Everything that a reload replaces.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) app: Router,
    pub(crate) tls: Option<Tls>,
    pub(crate) proxies: Option<TrustedProxies>,
    pub(crate) limits: Limits,
    health: Health,
    kept: Kept,
    config: Config,
    source: Source,
}

impl State {
    /// Builds the whole state. `kept` is from the state that it replaces.
    pub(crate) async fn build(
        config: Config,
        source: Source,
        address: SocketAddr,
        health: &Health,
        kept: Option<Kept>,
    ) -> Result<Self, Mistake> {
        let tls = Tls::of(&config.tls, &source)?;
        let proxies = build::proxies(&config, &source)?;
        let context = Context { address, health, kept, creates: true };
        let Built { app, kept, .. } = Box::pin(build::app(&config, &source, context)).await?;
        let (limits, health) = (config.limits.clone(), health.clone());
        Ok(Self { app, tls, proxies, limits, health, kept, config, source })
    }

    fn record_certificate(&self) {
        if let Some(tls) = &self.tls {
            tls.record_expiry();
        }
    }

    pub(crate) fn readiness(&self) -> Readiness {
        self.kept.readiness(&self.health)
    }

    pub(crate) fn audit(&self) -> Option<&Audit> {
        self.kept.audit.as_ref()
    }

    pub(crate) fn keys(&self) -> &ServiceKeys {
        &self.kept.keys
    }
}

/// The current state. A request is served by the state of its arrival.
pub(crate) struct Live(RwLock<Arc<State>>);

impl Live {
    pub(crate) fn new(state: State) -> Self {
        state.record_certificate();
        Self(RwLock::new(Arc::new(state)))
    }

    pub(crate) fn state(&self) -> Arc<State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, state: State) {
        state.record_certificate();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
    }
}

/// How often a key file is looked at, so that its key signs soon after it may.
const LOOK: Duration = Duration::from_secs(30);

/// What a reload needs, and what it cannot change.
pub(crate) struct Reloader {
    path: PathBuf,
    address: SocketAddr,
    health: Health,
    live: Arc<Live>,
    fixed: Fixed,
}

/// The settings that take effect only at a start.
struct Fixed {
    listen: SocketAddr,
    issuer: String,
    metrics: Option<SocketAddr>,
    connections: u32,
    log: LogFormat,
    audit: Option<PathBuf>,
    rotate_days: Option<NonZeroU32>,
    encryption_keys: (Option<String>, Option<PathBuf>, Option<PathBuf>),
    /// The store, if the keys are in it.
    store_of_keys: Option<String>,
}

impl Fixed {
    fn of(config: &Config, source: &Source) -> Self {
        let keys = &config.keys;
        Self {
            listen: config.listen,
            issuer: build::issuer(config, config.listen),
            metrics: config.metrics.listen,
            connections: config.limits.connections.get(),
            log: config.log.format,
            audit: config.audit.file.clone(),
            rotate_days: keys.rotate_days,
            encryption_keys: (
                keys.encryption_key_env.clone(),
                keys.encryption_key_file.clone(),
                keys.previous_encryption_key_file.clone(),
            ),
            store_of_keys: keys.rotate_days.map(|_| build::store_url(config, source)),
        }
    }

    fn refuse_change(&self, config: &Config, source: &Source) -> Result<(), Mistake> {
        let now = Self::of(config, source);
        let setting = match () {
            () if self.listen != now.listen => "listen",
            // Its tokens would be refused by the replicas that were not reloaded, and by every verifier.
            () if self.issuer != now.issuer => "issuer",
            () if self.metrics != now.metrics => "metrics.listen",
            () if self.connections != now.connections => "limits.connections",
            () if self.log != now.log => "log.format",
            () if self.audit != now.audit => "audit.file",
            () if self.rotate_days != now.rotate_days => "keys.rotate_days",
            () if self.encryption_keys.0 != now.encryption_keys.0 => "keys.encryption_key_env",
            () if self.encryption_keys.1 != now.encryption_keys.1 => "keys.encryption_key_file",
            () if self.encryption_keys.2 != now.encryption_keys.2 => "keys.previous_encryption_key_file",
            () if self.store_of_keys != now.store_of_keys => "store",
            () => return Ok(()),
        };
        let why = "a reload cannot change this setting; restart the service, or undo the change";
        Err(source.mistake_in(setting, why))
    }
}

impl Reloader {
    pub(crate) fn new(path: PathBuf, address: SocketAddr, health: &Health, live: &Arc<Live>) -> Self {
        let state = live.state();
        let fixed = Fixed::of(&state.config, &state.source);
        Self { path, address, health: health.clone(), live: live.clone(), fixed }
    }

    /// Reloads at each signal, and reads the certificate and the key file again at intervals. All happen in one task, so that none
    /// replaces the state that another is building.
    pub(crate) async fn run(self, mut hangup: Signal) {
        // Independent timers, so that the shorter interval does not restart the longer one.
        let mut certificate_at = self.next_certificate();
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let has_certificate = self.live.state().config.tls.certificate.is_some();
            tokio::select! {
                signal = hangup.recv() => {
                    if signal.is_none() {
                        return;
                    }
                    let reloaded = Box::pin(self.reload()).await;
                    report("the configuration", reloaded.map(|()| true));
                    certificate_at = self.next_certificate();
                }
                () = sleep_until(certificate_at), if has_certificate => {
                    certificate_at = self.next_certificate();
                    match self.renew_certificate() {
                        Ok(false) => {}
                        renewed => report("the certificate", renewed),
                    }
                }
                _ = look.tick() => self.live.state().keys().look(),
            }
        }
    }

    fn next_certificate(&self) -> Instant {
        Instant::now() + Duration::from_secs(self.live.state().config.tls.reread_seconds.get().into())
    }

    /// Builds a new state from the file and the files that it names, and replaces the current state only if all of it is valid.
    ///
    /// Everything that can fail is done before the one assignment at the end. Whatever else a reload is to renew belongs into
    /// [`State::build`]. A replaced key file is last: its key is published at once, and nothing can fail after that.
    async fn reload(&self) -> Result<(), Mistake> {
        let (config, source) = Config::load(&self.path)?;
        source.log_warnings();
        self.fixed.refuse_change(&config, &source)?;
        let kept = self.live.state().kept.clone();
        let state = State::build(config, source, self.address, &self.health, Some(kept)).await?;
        state.keys().read_again().map_err(|why| state.source.mistake_in("keys.load_or_create", why))?;
        self.live.set(state);
        Ok(())
    }

    /// Reads the certificate again, as tools such as cert-manager replace it without a signal. Returns whether it changed.
    fn renew_certificate(&self) -> Result<bool, Mistake> {
        let current = self.live.state();
        let tls = Tls::of(&current.config.tls, &current.source)?;
        let is_same = match (&tls, &current.tls) {
            (Some(read), Some(used)) => read.is_same(used),
            _ => true,
        };
        if !is_same {
            self.live.set(State { tls, ..(*current).clone() });
        }
        Ok(!is_same)
    }
}

/// Tells the operator, and a script that waits for the line.
fn report(what: &str, reloaded: Result<bool, Mistake>) {
    metrics::reloaded(reloaded.is_ok());
    match reloaded {
        Ok(_) => {
            tracing::info!("reloaded {what}");
            log::say(&format!("reloaded {what}"));
        }
        Err(error) => {
            tracing::error!(
                %error,
                "could not reload {what}: nothing was changed, and the service continues with the previous state; fix the \
                 error and send SIGHUP again"
            );
            log::say(&format!("could not reload {what}"));
        }
    }
}

//! The state that a reload replaces while the service runs: as a whole, or not at all.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use tokio::signal::unix::Signal;
use tower_client_credentials::authorization_server::TrustedProxies;

use crate::build::{self, Context, Kept};
use crate::config::{Config, Limits, LogFormat, Mistake, Source};
use crate::metrics;
use crate::serve::Health;
use crate::tls::Tls;

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
        let (app, kept) = build::app(&config, &source, context).await?;
        let (limits, health) = (config.limits.clone(), health.clone());
        Ok(Self { app, tls, proxies, limits, health, kept, config, source })
    }

    /// Returns whether the service should receive requests.
    pub(crate) fn is_ready(&self) -> bool {
        self.health.is_ready() && self.kept.revocations.is_ready()
    }
}

/// The current state. A request is served by the state of its arrival.
pub(crate) struct Live(RwLock<Arc<State>>);

impl Live {
    pub(crate) fn new(state: State) -> Self {
        Self(RwLock::new(Arc::new(state)))
    }

    pub(crate) fn state(&self) -> Arc<State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, state: State) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
    }
}

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
    metrics: Option<SocketAddr>,
    connections: u32,
    log: LogFormat,
}

impl Fixed {
    fn of(config: &Config) -> Self {
        Self {
            listen: config.listen,
            metrics: config.metrics.listen,
            connections: config.limits.connections.get(),
            log: config.log.format,
        }
    }

    fn refuse_change(&self, config: &Config, source: &Source) -> Result<(), Mistake> {
        let now = Self::of(config);
        let setting = match () {
            () if self.listen != now.listen => "listen",
            () if self.metrics != now.metrics => "metrics.listen",
            () if self.connections != now.connections => "limits.connections",
            () if self.log != now.log => "log.format",
            () => return Ok(()),
        };
        let why = "a reload cannot change this setting; restart the service, or undo the change";
        Err(source.mistake_in(setting, why))
    }
}

impl Reloader {
    pub(crate) fn new(path: PathBuf, address: SocketAddr, health: &Health, live: &Arc<Live>) -> Self {
        let fixed = Fixed::of(&live.state().config);
        Self { path, address, health: health.clone(), live: live.clone(), fixed }
    }

    /// Reloads at each signal, and reads the certificate again at intervals. Both happen in one task, so that neither replaces
    /// the state that the other is building.
    pub(crate) async fn run(self, mut hangup: Signal) {
        loop {
            let files = self.live.state().config.tls.clone();
            let interval = Duration::from_secs(files.reread_seconds.get().into());
            tokio::select! {
                signal = hangup.recv() => {
                    if signal.is_none() {
                        return;
                    }
                    let reloaded = Box::pin(self.reload()).await;
                    report("the configuration", reloaded.map(|()| true));
                }
                () = tokio::time::sleep(interval), if files.certificate.is_some() => {
                    match self.renew_certificate() {
                        Ok(false) => {}
                        renewed => report("the certificate", renewed),
                    }
                }
            }
        }
    }

    /// Builds a new state from the file and the files that it names, and replaces the current state only if all of it is valid.
    ///
    /// Everything that can fail is done before the one assignment at the end. Whatever else a reload is to renew belongs into
    /// [`State::build`].
    async fn reload(&self) -> Result<(), Mistake> {
        let (config, source) = Config::load(&self.path)?;
        source.log_warnings();
        self.fixed.refuse_change(&config, &source)?;
        let kept = self.live.state().kept.clone();
        let state = State::build(config, source, self.address, &self.health, Some(kept)).await?;
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
            println!("reloaded {what}");
        }
        Err(error) => {
            tracing::error!(
                %error,
                "could not reload {what}: nothing was changed, and the service continues with the previous state; fix the \
                 error and send SIGHUP again"
            );
            println!("could not reload {what}");
        }
    }
}

//! A token service with protected demo routes, configured by one file.
//!
//! Run `cargo run --example standalone -- --config examples/standalone.toml`. The comments in that file document the settings.
//! To install it as a program, `cargo install --locked --path . --example standalone --features argon2,axum,metrics,sqlite`; the
//! files in `examples/deploy` run it as a service.
//!
//! - `arguments.rs`: the arguments of the command line.
//! - `config.rs`: the settings, and errors with their place in the file.
//! - `renamed.rs`: settings with former names.
//! - `assertions.rs`: clients without shared secrets, platforms and trust domains.
//! - `client_secrets.rs`: checks that the key-encryption key decrypts the secrets in the store.
//! - `build.rs`: builds the server, its clients and its routes.
//! - `keys.rs`: the keys: generated, in a file that is read again, or in the store, where they rotate.
//! - `check.rs`: `--check`, which prints the effective configuration.
//! - `store.rs`: opens the store that a URL names.
//! - `log.rs`: logging, without secrets.
//! - `audit.rs`, `caller.rs`: the audit log, and the address of a caller.
//! - `places.rs`: connection limits, in total and per address.
//! - `serve.rs`: connections, HTTP/1.1 and HTTP/2 on one port, until SIGTERM.
//! - `connection.rs`: serves one connection until it ends or is idle for too long.
//! - `tls.rs`, `certificate.rs`: the certificate, its key, and when it expires.
//! - `reload.rs`: SIGHUP, which replaces the whole state or nothing.
//! - `metrics.rs`, `histogram.rs`, `monitoring.rs`: `/metrics` for Prometheus, on a listener of its own.
//! - `health.rs`: `--health`, for the health check of a container.

#![allow(clippy::print_stdout, clippy::print_stderr)] // its output is for people and for scripts

mod administration;
mod arguments;
mod assertions;
mod audit;
mod build;
mod caller;
mod certificate;
mod check;
mod client_secrets;
mod config;
mod connection;
mod health;
mod histogram;
mod keys;
mod log;
mod metrics;
mod monitoring;
mod places;
mod reload;
mod renamed;
mod serve;
mod store;
mod tls;
mod wording;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use tokio::net::TcpListener;

use self::arguments::Arguments;
use self::config::{Config, Mistake, Source};
use self::metrics::Prometheus;
use self::reload::{Live, Reloader, State};
use self::serve::Health;

#[tokio::main]
async fn main() -> ExitCode {
    match Box::pin(run(Arguments::parse())).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(mistake) => {
            log::fail(&mistake.to_string());
            ExitCode::FAILURE
        }
    }
}

async fn run(Arguments { config: path, check, health }: Arguments) -> Result<(), Mistake> {
    let (config, source) = Config::load(&path)?;
    if health {
        return health::ask(&config).await;
    }
    log::start(config.log.format, if check { "warn" } else { "info" });
    source.log_warnings();
    if check {
        return Box::pin(check::check(config, &source)).await;
    }
    // Before anything is counted.
    let monitoring = match config.metrics.listen {
        Some(address) => {
            let prometheus = Prometheus::install().map_err(|why| source.mistake_in("metrics.listen", why))?;
            Some((listen("metrics.listen", address, &source).await?, prometheus))
        }
        None => None,
    };
    let (listener, address) = listen("listen", config.listen, &source).await?;
    // From here on, the signal no longer ends the process.
    let hangup = serve::reload_signal().map_err(|error| Mistake::new("SIGHUP", error))?;
    let health = Health::default();
    let live = Arc::new(Live::new(State::build(config, source, address, &health, None).await?));
    let stop = serve::stop_signal().map_err(|error| Mistake::new("SIGTERM", error))?;
    tokio::spawn(Reloader::new(path, address, &health, &live).run(hangup));
    let scheme = if live.state().tls.is_some() { "https" } else { "http" };
    log::say(&format!("listening on {scheme}://{address}"));
    if let Some(((listener, address), prometheus)) = monitoring {
        log::say(&format!("metrics on http://{address}/metrics"));
        tokio::spawn(monitoring::serve(listener, prometheus, live.clone()));
    }
    serve::serve(listener, &live, &health, stop).await;
    live.state().keys().leave().await;
    if let Some(audit) = live.state().audit() {
        audit.flush().await;
    }
    Ok(())
}

/// Opens a listener on the address of a setting.
async fn listen(setting: &str, address: SocketAddr, source: &Source) -> Result<(TcpListener, SocketAddr), Mistake> {
    let cannot_listen = |error: io::Error| {
        source.mistake_in(setting, format!("cannot listen on {address}: {error}; choose another address"))
    };
    let listener = TcpListener::bind(address).await.map_err(cannot_listen)?;
    let address = listener.local_addr().map_err(cannot_listen)?;
    Ok((listener, address))
}

//! A token service with protected demo routes, configured by one file.
//!
//! Run `cargo run --example standalone -- --config examples/standalone.toml`. The comments in that file document the settings.
//!
//! - `config.rs`: the settings, and errors with their place in the file.
//! - `renamed.rs`: settings with former names.
//! - `build.rs`: builds the server, its clients and its routes.
//! - `store.rs`: opens the store that a URL names.
//! - `log.rs`: logging, without secrets.
//! - `places.rs`: connection limits, in total and per address.
//! - `serve.rs`: connections, HTTP/1.1 and h2c on one port, until SIGTERM.
//! - `connection.rs`: serves one connection until it ends or is idle for too long.

#![allow(clippy::print_stdout, clippy::print_stderr)] // its output is for people and for scripts

mod build;
mod config;
mod connection;
mod log;
mod places;
mod renamed;
mod serve;
mod store;

use std::path::PathBuf;
use std::process::ExitCode;

use tokio::net::TcpListener;

use self::config::{Config, Mistake};
use self::serve::Health;

#[tokio::main]
async fn main() -> ExitCode {
    log::start();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(mistake) => {
            eprintln!("{mistake}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Mistake> {
    let (config, source) = Config::load(&config_path()?)?;
    let cannot_listen = |error: std::io::Error| {
        source.mistake_in("listen", format!("cannot listen on {}: {error}; choose another address", config.listen))
    };
    let listener = TcpListener::bind(config.listen).await.map_err(cannot_listen)?;
    let address = listener.local_addr().map_err(cannot_listen)?;
    let health = Health::default();
    let proxies = build::proxies(&config, &source)?;
    let app = build::app(&config, &source, proxies.clone(), address, &health).await?;
    let stop = serve::stop_signal().map_err(|error| Mistake::new("SIGTERM", error))?;
    println!("listening on http://{address}");
    serve::serve(listener, app, &config.limits, proxies, &health, stop).await;
    Ok(())
}

/// Reads the arguments, which are exactly `--config FILE.toml`.
fn config_path() -> Result<PathBuf, Mistake> {
    let mut arguments = std::env::args_os().skip(1);
    match (arguments.next(), arguments.next(), arguments.next()) {
        (Some(flag), Some(path), None) if flag == "--config" => Ok(path.into()),
        _ => Err(Mistake::new("standalone", "usage: standalone --config FILE.toml")),
    }
}

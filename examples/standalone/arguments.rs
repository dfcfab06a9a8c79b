//! The arguments of the command line.

use std::path::PathBuf;

use clap::Parser;

/// A token service: it issues OAuth 2.0 access tokens by client credentials, and serves demo routes that they protect.
///
/// One file has all settings; `examples/standalone.toml` documents them. Environment variables override them, such as
/// `TCC_LISTEN`. SIGHUP reloads the file, the keys and the certificate. SIGTERM ends the service after the requests in progress.
#[derive(Parser)]
#[command(name = "standalone", version, verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) config: PathBuf,
    /// Checks the file, the keys, the certificate and the store, prints the effective configuration without secrets, and ends.
    ///
    /// It connects to the store as a start would, but creates neither a key nor an SQLite file. In Postgres it creates missing
    /// tables, as a start does. The exit code is 0 if the service would start, except that the addresses to listen on are not
    /// checked: a running service may use them.
    #[arg(long, conflicts_with = "health")]
    pub(crate) check: bool,
    /// Asks the running service whether it is ready, and ends with 0 if it is. For the health check of a container.
    #[arg(long)]
    pub(crate) health: bool,
}

//! `--check`: validates everything that a start validates, and prints the effective configuration.

use std::io::{self, ErrorKind, Write as _};

use crate::build::{self, Context};
use crate::config::{Config, Mistake, Source};
use crate::serve::Health;
use crate::tls::Tls;

/// Builds everything, serves nothing, and prints the configuration without secrets.
pub(crate) async fn check(mut config: Config, source: &Source) -> Result<(), Mistake> {
    Tls::of(&config.tls, source)?;
    let health = Health::default();
    let context = Context { address: config.listen, health: &health, kept: None, creates: false };
    let built = build::app(&config, source, context).await?;
    config.paths = built.paths;
    config.issuer = Some(build::issuer(&config, config.listen));
    config.store = Some(build::store_url(&config, source));
    let text = toml::to_string_pretty(&config.without_secrets()).map_err(|error| Mistake::new("--check", error))?;
    let about = "# OK: the service would start. Its effective configuration, in which secrets are not shown:";
    match writeln!(io::stdout(), "{about}\n{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Mistake::new("standard output", error)),
        _ => Ok(()), // as in `standalone --check | head`
    }
}

//! Clients without shared secrets: their settings, and the library settings that are built from them.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use toml::Spanned;
use toml::value::{Date, Datetime};
use tower_client_credentials::authorization_server::{ClientAssertions, PlatformIssuer, TrustDomain};
use tower_client_credentials::keys::{HmacAlgorithm, KeySet};
use tower_client_credentials::registration::{ClientAuthMethod, Credential};
use tower_client_credentials::store::ReplayLog;
use tower_client_credentials::{Algorithm, ClientSecret};

use crate::build::read_file;
use crate::config::{Config, Mistake, Source};
use crate::keys::optional_encryption_key;

/// The rules for assertions.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Assertions {
    pub(crate) max_lifetime_seconds: u32,
    pub(crate) clock_skew_seconds: u32,
    pub(crate) algorithms: Vec<String>,
    pub(crate) client_key_urls: String,
    pub(crate) client_secret_jwt: bool,
}

impl Default for Assertions {
    fn default() -> Self {
        let client_key_urls = "off".to_owned();
        Self {
            max_lifetime_seconds: 300,
            clock_skew_seconds: 10,
            algorithms: Vec::new(),
            client_key_urls,
            client_secret_jwt: false,
        }
    }
}

/// A platform whose tokens authenticate workloads.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Platform {
    pub(crate) issuer: Option<String>,
    #[serde(default)]
    pub(crate) also_named: Vec<String>,
    pub(crate) jwks_file: Option<PathBuf>,
    pub(crate) jwks_uri: Option<String>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) bearer_token_file: Option<PathBuf>,
    #[serde(default)]
    pub(crate) private_addresses: bool,
    #[serde(default)]
    pub(crate) in_cluster: bool,
}

/// A SPIFFE trust domain.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Domain {
    pub(crate) name: String,
    pub(crate) bundle_file: Option<PathBuf>,
    pub(crate) bundle_url: Option<String>,
    #[serde(default)]
    pub(crate) workload_api: bool,
    #[serde(default)]
    pub(crate) private_addresses: bool,
}

/// The authentication method of a client.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Method {
    #[default]
    ClientSecretBasic,
    ClientSecretPost,
    ClientSecretJwt,
    PrivateKeyJwt,
    SpiffeJwt,
    PlatformJwt,
}

impl Method {
    /// Returns the method for a registration.
    pub(crate) fn registered(self) -> ClientAuthMethod {
        match self {
            Self::ClientSecretBasic => ClientAuthMethod::ClientSecretBasic,
            Self::ClientSecretPost => ClientAuthMethod::ClientSecretPost,
            Self::ClientSecretJwt => ClientAuthMethod::ClientSecretJwt,
            Self::PrivateKeyJwt => ClientAuthMethod::PrivateKeyJwt,
            Self::SpiffeJwt => ClientAuthMethod::SpiffeJwt,
            Self::PlatformJwt => ClientAuthMethod::PlatformJwt,
        }
    }

    pub(crate) fn is_secret(self) -> bool {
        matches!(self, Self::ClientSecretBasic | Self::ClientSecretPost)
    }
}

/// One of several credentials of a client. The names are those of RFC 7591 §2 where it defines one.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CredentialSettings {
    pub(crate) method: Method,
    pub(crate) label: Option<String>,
    /// In seconds since 1970.
    pub(crate) expires_at: Option<u64>,
    pub(crate) client_secret_hash: Option<String>,
    pub(crate) client_secret_env: Option<String>,
    pub(crate) client_secret_file: Option<PathBuf>,
    pub(crate) dangerous_plain_client_secret: Option<String>,
    #[serde(default)]
    pub(crate) random_client_secret: bool,
    pub(crate) jwks: Option<Value>,
    pub(crate) jwks_file: Option<PathBuf>,
    pub(crate) jwks_uri: Option<String>,
    pub(crate) token_endpoint_auth_signing_alg: Option<String>,
    pub(crate) spiffe_id: Option<String>,
    pub(crate) issuer: Option<String>,
    pub(crate) subject: Option<String>,
    #[serde(default)]
    pub(crate) claims: Map<String, Value>,
}

impl CredentialSettings {
    /// Returns whether any credential is set.
    pub(crate) fn has_any(&self) -> bool {
        let secrets = [&self.client_secret_hash, &self.client_secret_env, &self.dangerous_plain_client_secret];
        let is_secret = self.client_secret_file.is_some() || secrets.into_iter().any(Option::is_some);
        is_secret || self.has_keys() || self.spiffe_id.is_some()
    }

    /// Returns whether it has the keys of a client, at one of the three places.
    pub(crate) fn has_keys(&self) -> bool {
        self.jwks.is_some() || self.jwks_file.is_some() || self.jwks_uri.is_some()
    }

    /// Returns the secret for `client_secret_jwt`, which comes from a file or a variable. A hash would not do, and a secret in this
    /// file would be readable for everyone who can read the file.
    fn shared_secret(&self, source: &Source) -> Result<Credential, String> {
        if self.client_secret_hash.is_some() || self.dangerous_plain_client_secret.is_some() {
            return Err(
                "client_secret_jwt needs the secret itself, from client_secret_file or client_secret_env".to_owned()
            );
        }
        let secret = match (&self.client_secret_env, &self.client_secret_file) {
            (Some(variable), None) => ClientSecret::assume_random_from_env(variable).map_err(text)?,
            (None, Some(path)) => {
                let path = source.resolve(path);
                let content = read_file(&path).map_err(|error| {
                    format!("cannot read {}: {error}; put the secret there, on one line", path.display())
                })?;
                ClientSecret::assume_random(content.strip_suffix('\n').unwrap_or(&content)).map_err(text)?
            }
            _ => return Err("client_secret_jwt needs one of client_secret_file and client_secret_env".to_owned()),
        };
        Credential::client_secret_jwt(&secret).map_err(text)
    }

    /// Returns the credential, which is not a secret that the client sends.
    pub(crate) fn credential(&self, source: &Source) -> Result<Credential, String> {
        let credential = match self.method {
            Method::ClientSecretJwt => self.shared_secret(source)?,
            Method::PrivateKeyJwt => self.keys(source)?,
            Method::SpiffeJwt => {
                let id = self.spiffe_id.as_deref().ok_or("spiffe_id is missing")?;
                Credential::spiffe_id(id.parse().map_err(text)?)
            }
            Method::PlatformJwt => {
                let issuer = self.issuer.as_deref().ok_or("issuer is missing")?;
                let subject = self.subject.as_deref().ok_or("subject is missing")?;
                let claims = self.claims.iter().map(|(name, value)| (name.clone(), value.clone()));
                Credential::platform(issuer, subject, claims).map_err(text)?
            }
            Method::ClientSecretBasic | Method::ClientSecretPost => {
                return Err("a secret is needed for this method".to_owned());
            }
        };
        let credential = match &self.token_endpoint_auth_signing_alg {
            Some(name) if self.method == Method::ClientSecretJwt => {
                let algorithm = HmacAlgorithm::from_name(name);
                let algorithm = algorithm.ok_or_else(|| format!("`{name}` is not one of HS256, HS384 and HS512"))?;
                credential.hmac_algorithm(algorithm).map_err(text)?
            }
            Some(name) => credential.signing_algorithm(algorithm(name)?).map_err(text)?,
            None => credential,
        };
        let credential = match &self.label {
            Some(label) => credential.with_label(label).map_err(text)?,
            None => credential,
        };
        Ok(match self.expires_at {
            Some(seconds) => credential.expires_at(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
            None => credential,
        })
    }

    fn keys(&self, source: &Source) -> Result<Credential, String> {
        match (&self.jwks, &self.jwks_file, &self.jwks_uri) {
            (Some(jwks), None, None) => Credential::jwks(jwks.to_string()).map_err(text),
            (None, Some(path), None) => {
                let path = source.resolve(path);
                let jwks = read_file(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
                Credential::jwks(jwks).map_err(text)
            }
            (None, None, Some(url)) => Credential::jwks_uri(url).map_err(text),
            _ => Err("it needs exactly one of jwks, jwks_file and jwks_uri".to_owned()),
        }
    }
}

fn text(error: impl Display) -> String {
    error.to_string()
}

/// Returns the settings of the server, with this log.
pub(crate) fn assertions(config: &Config, source: &Source, log: impl ReplayLog) -> Result<ClientAssertions, Mistake> {
    let Assertions { max_lifetime_seconds, clock_skew_seconds, algorithms, client_key_urls, client_secret_jwt } =
        &config.assertions;
    let seconds = |seconds: &u32| Duration::from_secs((*seconds).into());
    let mut settings =
        ClientAssertions::new(log).max_lifetime(seconds(max_lifetime_seconds)).clock_skew(seconds(clock_skew_seconds));
    if !algorithms.is_empty() {
        let algorithms: Result<Vec<_>, _> = algorithms.iter().map(|name| algorithm(name)).collect();
        settings = settings.algorithms(algorithms.map_err(|why| source.mistake_in("assertions.algorithms", why))?);
    }
    settings =
        with_key_urls(settings, client_key_urls).map_err(|why| source.mistake_in("assertions.client_key_urls", why))?;
    if *client_secret_jwt {
        settings = match optional_encryption_key(&config.keys, source)? {
            Some(key) => settings.client_secret_jwt_with(key),
            None => settings.client_secret_jwt(),
        };
    }
    for platform in &config.platforms {
        let found = platform_issuer(platform.get_ref(), source);
        settings = settings.platform(found.map_err(|why| source.mistake_at(platform.span(), why))?);
    }
    for domain in &config.trust_domains {
        let found = trust_domain(domain, source);
        settings = settings.trust_domain(found.map_err(|why| source.mistake_at(domain.span(), why))?);
    }
    Ok(settings)
}

#[cfg(feature = "remote")]
fn with_key_urls(settings: ClientAssertions, value: &str) -> Result<ClientAssertions, String> {
    match value {
        "off" => Ok(settings),
        "public" => Ok(settings.client_key_urls()),
        "private" => Ok(settings.dangerous_private_client_key_urls()),
        other => Err(format!("`{other}` is not one of off, public and private")),
    }
}

#[cfg(not(feature = "remote"))]
fn with_key_urls(settings: ClientAssertions, value: &str) -> Result<ClientAssertions, String> {
    if value == "off" { Ok(settings) } else { Err(NOT_REMOTE.to_owned()) }
}

#[cfg(not(feature = "remote"))]
const NOT_REMOTE: &str = "this program was built without `remote`, which fetches keys: build it with --features remote";

fn platform_issuer(platform: &Platform, source: &Source) -> Result<PlatformIssuer, String> {
    let Platform { issuer, also_named, jwks_file, jwks_uri, in_cluster, .. } = platform;
    let named = |issuer: PlatformIssuer| also_named.iter().fold(issuer, PlatformIssuer::also_named);
    match (issuer, jwks_file, jwks_uri, in_cluster) {
        (Some(issuer), Some(path), None, false) => {
            let path = source.resolve(path);
            let jwks = read_file(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            Ok(named(PlatformIssuer::new(issuer, KeySet::from_jwks(jwks).map_err(text)?)))
        }
        (Some(_), None, Some(_), false) | (None, None, None, true) => remote_platform(platform, source).map(named),
        _ => Err("a platform needs `issuer` and one of jwks_file and jwks_uri, or in_cluster = true alone".to_owned()),
    }
}

#[cfg(feature = "remote")]
fn remote_platform(platform: &Platform, source: &Source) -> Result<PlatformIssuer, String> {
    let (Some(issuer), Some(url)) = (&platform.issuer, &platform.jwks_uri) else {
        return PlatformIssuer::in_cluster().map_err(|error| format!("in_cluster: {error}"));
    };
    let mut found = PlatformIssuer::at(issuer, url);
    if let Some(path) = &platform.ca_file {
        let path = source.resolve(path);
        let pem = read_file(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        found = found.ca_certificates(pem);
    }
    if let Some(path) = &platform.bearer_token_file {
        found = found.bearer_token_file(source.resolve(path));
    }
    Ok(if platform.private_addresses { found.private_addresses() } else { found })
}

#[cfg(not(feature = "remote"))]
fn remote_platform(_: &Platform, _: &Source) -> Result<PlatformIssuer, String> {
    Err(NOT_REMOTE.to_owned())
}

fn trust_domain(domain: &Spanned<Domain>, source: &Source) -> Result<TrustDomain, String> {
    let Domain { name, bundle_file, bundle_url, workload_api, private_addresses } = domain.get_ref();
    match (bundle_file, bundle_url) {
        (None, None) if *workload_api => at_workload_api(name),
        _ if *workload_api => Err("workload_api = true excludes bundle_file and bundle_url".to_owned()),
        #[cfg(feature = "remote")]
        (Some(path), None) => Ok(TrustDomain::in_file(name, source.resolve(path))),
        #[cfg(not(feature = "remote"))]
        (Some(path), None) => {
            let path = source.resolve(path);
            let bundle = read_file(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            TrustDomain::new(name, bundle).map_err(text)
        }
        #[cfg(feature = "remote")]
        (None, Some(url)) => {
            let found = TrustDomain::at(name, url);
            Ok(if *private_addresses { found.private_addresses() } else { found })
        }
        #[cfg(not(feature = "remote"))]
        (None, Some(_)) => {
            let _ = private_addresses;
            Err(NOT_REMOTE.to_owned())
        }
        _ => Err("a trust domain needs exactly one of bundle_file, bundle_url and workload_api = true".to_owned()),
    }
}

#[cfg(feature = "workload_api")]
fn at_workload_api(name: &str) -> Result<TrustDomain, String> {
    let api = tower_client_credentials::workload_api::WorkloadApi::from_env().map_err(text)?;
    Ok(TrustDomain::from_workload_api(name, api))
}

#[cfg(not(feature = "workload_api"))]
fn at_workload_api(_: &str) -> Result<TrustDomain, String> {
    Err("this program was built without `workload_api`: build it with --features workload_api".to_owned())
}

fn algorithm(name: &str) -> Result<Algorithm, String> {
    crate::keys::algorithm(name)
}

/// Returns the start of a day, in UTC.
pub(crate) fn start_of_day(date: &Datetime) -> Result<SystemTime, String> {
    let Datetime { date: Some(Date { year, month, day }), time: None, offset: None } = *date else {
        return Err(format!("`{date}` is not a date; write one like 2027-01-31, without quotes"));
    };
    // The days since 1970 of a date in the Gregorian calendar, with years that begin in March.
    let (year, month, day) = (u64::from(year), u64::from(month), u64::from(day));
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.saturating_sub(1), month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468).ok_or_else(|| format!("`{date}` is before 1970"))?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(days * 24 * 60 * 60))
}

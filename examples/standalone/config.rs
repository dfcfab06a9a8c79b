//! The configuration: its settings, and errors that name their place in the file.

use std::ffi::OsStr;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use tower_client_credentials::authorization_server::AttemptLimits;
use tower_client_credentials::{Audience, Scope, Scopes};

use crate::assertions::{Assertions, CredentialSettings, Domain, Method, Platform};
use crate::renamed;

/// The whole configuration file. Every setting outside the lists at the end can be set by the environment instead.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    #[serde(deserialize_with = "address")]
    pub(crate) listen: SocketAddr,
    pub(crate) issuer: Option<String>,
    #[serde(default)]
    pub(crate) dangerous_plain_http: bool,
    #[serde(default)]
    pub(crate) proxy_strips_issuer_path: bool,
    pub(crate) public_url: Option<String>,
    pub(crate) store: Option<String>,
    #[serde(default)]
    pub(crate) imported_secrets_are_random: bool,
    #[serde(default)]
    pub(crate) paths: Paths,
    #[serde(default)]
    pub(crate) proxies: Proxies,
    #[serde(default)]
    pub(crate) tls: TlsFiles,
    #[serde(default)]
    pub(crate) limits: Limits,
    #[serde(default)]
    pub(crate) attempts: Attempts,
    #[serde(default)]
    pub(crate) log: Log,
    #[serde(default)]
    pub(crate) audit: Audit,
    #[serde(default)]
    pub(crate) metrics: Metrics,
    pub(crate) keys: Keys,
    #[serde(default)]
    pub(crate) tokens: Tokens,
    #[serde(default)]
    pub(crate) metadata: Metadata,
    #[serde(default)]
    pub(crate) administration: Administration,
    #[serde(default)]
    pub(crate) assertions: Assertions,
    #[serde(default)]
    pub(crate) platforms: Vec<Spanned<Platform>>,
    #[serde(default)]
    pub(crate) trust_domains: Vec<Spanned<Domain>>,
    #[serde(default)]
    pub(crate) resources: Vec<Spanned<Resource>>,
    #[serde(default)]
    pub(crate) clients: Vec<Spanned<Client>>,
    #[serde(default)]
    pub(crate) routes: Vec<Spanned<Route>>,
}

/// The paths of the endpoints.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Paths {
    pub(crate) token: Option<String>,
    pub(crate) authorization: Option<String>,
    pub(crate) revocation: Option<String>,
    pub(crate) introspection: Option<String>,
    pub(crate) jwks: Option<String>,
    pub(crate) metadata: Option<String>,
}

/// The proxies that are trusted to report a caller's address.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Proxies {
    pub(crate) trusted: Vec<String>,
    pub(crate) header: Option<String>,
}

/// The certificate and the private key of the service.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TlsFiles {
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) reread_seconds: NonZeroU32,
}

impl Default for TlsFiles {
    fn default() -> Self {
        Self { certificate: None, key: None, reread_seconds: const { NonZeroU32::new(60).unwrap() } }
    }
}

/// The limits on failed attempts per minute; see [`AttemptLimits`].
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Attempts {
    pub(crate) random_by_address: u32,
    pub(crate) chosen_by_address: NonZeroU32,
    pub(crate) chosen_by_client: NonZeroU32,
}

impl Default for Attempts {
    fn default() -> Self {
        Self {
            random_by_address: 100,
            chosen_by_address: const { NonZeroU32::new(10).unwrap() },
            chosen_by_client: const { NonZeroU32::new(100).unwrap() },
        }
    }
}

impl Attempts {
    pub(crate) fn limits(&self) -> AttemptLimits {
        AttemptLimits::default()
            .generated_by_address(self.random_by_address)
            .chosen_by_address(self.chosen_by_address.get())
            .chosen_by_client(self.chosen_by_client.get())
    }
}

/// The form of the log.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    pub(crate) format: LogFormat,
}

/// Text for people, or one JSON object per line for a collector of logs.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    #[default]
    Text,
    Json,
}

impl FromStr for LogFormat {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(()),
        }
    }
}

/// The events for auditors, one JSON object per line.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Audit {
    /// `-` is standard output.
    pub(crate) file: Option<PathBuf>,
}

/// The listener for monitoring.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Metrics {
    #[serde(deserialize_with = "optional_address")]
    pub(crate) listen: Option<SocketAddr>,
}

/// The limits of sizes, numbers and times.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    pub(crate) body_bytes: usize,
    pub(crate) body_seconds: u32,
    pub(crate) head_seconds: u32,
    pub(crate) idle_seconds: u32,
    pub(crate) connections: NonZeroU32,
    pub(crate) connections_per_address: NonZeroU32,
    pub(crate) streams: NonZeroU32,
    pub(crate) notice_seconds: u32,
    pub(crate) drain_seconds: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 64 * 1024,
            body_seconds: 10,
            head_seconds: 10,
            idle_seconds: 60,
            connections: const { NonZeroU32::new(10_000).unwrap() },
            connections_per_address: const { NonZeroU32::new(1_000).unwrap() },
            streams: const { NonZeroU32::new(32).unwrap() },
            notice_seconds: 0,
            drain_seconds: 30,
        }
    }
}

/// The key that signs, and the keys that only verify.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keys {
    pub(crate) generate: Option<String>,
    pub(crate) sign: Option<PathBuf>,
    pub(crate) load_or_create: Option<PathBuf>,
    pub(crate) algorithm: Option<String>,
    #[serde(default)]
    pub(crate) trust: Vec<PathBuf>,
    pub(crate) rotate_days: Option<NonZeroU32>,
    pub(crate) encryption_key_env: Option<String>,
    pub(crate) encryption_key_file: Option<PathBuf>,
    pub(crate) previous_encryption_key_file: Option<PathBuf>,
}

/// The content and lifetime of tokens.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tokens {
    pub(crate) lifetime_seconds: u32,
    #[serde(deserialize_with = "scopes", serialize_with = "joined")]
    pub(crate) scope: Vec<Scope>,
    #[serde(deserialize_with = "scopes", serialize_with = "joined")]
    pub(crate) default_scope: Vec<Scope>,
    pub(crate) accept_audience_parameter: bool,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { lifetime_seconds: 600, scope: Vec::new(), default_scope: Vec::new(), accept_audience_parameter: false }
    }
}

/// Settings of the public documents.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Metadata {
    pub(crate) response_types_supported: Vec<String>,
    pub(crate) cross_origin: bool,
}

impl Default for Metadata {
    fn default() -> Self {
        Self { response_types_supported: vec!["none".to_owned()], cross_origin: false }
    }
}

/// The administration of clients over HTTP.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Administration {
    pub(crate) audience: Option<String>,
    pub(crate) path: Option<String>,
}

/// An API that tokens can be for.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Resource {
    pub(crate) audience: Audience,
    #[serde(default)]
    pub(crate) default: bool,
    #[serde(default, deserialize_with = "optional_scopes", serialize_with = "optional_joined")]
    pub(crate) scope: Option<Vec<Scope>>,
}

/// A client with a secret, a key, a SPIFFE ID, or a list of credentials. The names are those of RFC 7591 §2 where it defines one, and otherwise those of store
/// records.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Client {
    pub(crate) client_id: String,
    pub(crate) client_secret_hash: Option<String>,
    pub(crate) client_secret_env: Option<String>,
    pub(crate) client_secret_file: Option<PathBuf>,
    pub(crate) dangerous_plain_client_secret: Option<String>,
    #[serde(default)]
    pub(crate) random_client_secret: bool,
    pub(crate) token_endpoint_auth_method: Option<Method>,
    pub(crate) token_endpoint_auth_signing_alg: Option<String>,
    pub(crate) jwks: Option<serde_json::Value>,
    pub(crate) jwks_file: Option<PathBuf>,
    pub(crate) jwks_uri: Option<String>,
    pub(crate) spiffe_id: Option<String>,
    #[serde(default)]
    pub(crate) credentials: Vec<CredentialSettings>,
    pub(crate) legacy_assertions_until: Option<toml::value::Datetime>,
    #[serde(default, deserialize_with = "scopes", serialize_with = "joined")]
    pub(crate) scope: Vec<Scope>,
    #[serde(default, deserialize_with = "optional_scopes", serialize_with = "optional_joined")]
    pub(crate) default_scope: Option<Vec<Scope>>,
    #[serde(default)]
    pub(crate) audiences: Vec<Audience>,
    #[serde(default)]
    pub(crate) introspects: Vec<Audience>,
    pub(crate) subject: Option<String>,
    /// In seconds.
    pub(crate) token_lifetime: Option<u32>,
    #[serde(default = "yes")]
    pub(crate) grant: bool,
    #[serde(default = "yes")]
    pub(crate) enabled: bool,
}

fn yes() -> bool {
    true
}

/// A demo route, which returns the claims of the caller's token.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Route {
    pub(crate) path: String,
    pub(crate) scope: Option<Scope>,
    pub(crate) audience: Option<Audience>,
    pub(crate) grpc_refusals: Option<bool>,
}

impl Config {
    /// Reads the file, then applies the environment.
    pub(crate) fn load(path: &Path) -> Result<(Self, Source), Mistake> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Mistake::new(path.display(), format!("{error}; pass a file such as examples/standalone.toml to --config"))
        })?;
        let mut source = Source { path: path.to_owned(), text, warnings: Vec::new() };
        let mut warnings = Vec::new();
        source.refuse_lists_for_tables()?;
        // The error's own text would show the whole line, which may contain a secret.
        let mistake = |error: toml::de::Error| {
            let span = error.span().unwrap_or(0..0);
            let why = source.member_of_a_client(&span).map(|member| without_value(member, error.message()));
            source.mistake_at(span, why.as_deref().unwrap_or(error.message()))
        };
        let mut document = DeTable::parse(&source.text).map_err(mistake)?;
        for (span, warning) in
            renamed::rename(document.get_mut()).map_err(|(span, why)| source.mistake_at(span, why))?
        {
            warnings.push(source.mistake_at(span, warning).to_string());
        }
        let mut config = Self::deserialize(toml::Deserializer::from(document)).map_err(mistake)?;
        for (variable, value) in std::env::vars_os() {
            let Some(setting) = variable.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
            if !config.keeps_a_secret_in(&variable) {
                let value = value.to_str().ok_or("the value is not UTF-8; use UTF-8 text".to_owned());
                match value.and_then(|value| config.set(present_name(setting, &mut warnings)?, value)) {
                    Err(why) if why == NO_SUCH_SETTING && is_from_kubernetes(setting) => {
                        let variable = variable.display();
                        warnings.push(format!(
                            "{variable} is not a setting; it is ignored because Kubernetes sets it for a service; set \
                             `enableServiceLinks: false` in the pod, or rename the service"
                        ));
                    }
                    set => set.map_err(|why| Mistake::new(variable.display(), why))?,
                }
            }
        }
        config.use_the_default_encryption_key();
        #[cfg(not(feature = "metrics"))]
        if config.metrics.listen.is_some() {
            let why = "this program was built without `metrics`: build it with --features metrics";
            return Err(source.mistake_in("metrics.listen", why));
        }
        source.warnings = warnings;
        Ok((config, source))
    }

    /// Takes the key-encryption key from the variable that the tool `clients` reads, too, if it is needed and no other place is set.
    fn use_the_default_encryption_key(&mut self) {
        let keys = &mut self.keys;
        let is_needed = keys.rotate_days.is_some() || self.assertions.client_secret_jwt;
        let is_elsewhere = keys.encryption_key_env.is_some() || keys.encryption_key_file.is_some();
        if is_needed && !is_elsewhere && std::env::var_os(ENCRYPTION_KEY).is_some() {
            keys.encryption_key_env = Some(ENCRYPTION_KEY.to_owned());
        }
    }

    /// A variable that holds a secret is not a setting, regardless of its name.
    fn keeps_a_secret_in(&self, variable: &OsStr) -> bool {
        if variable == ENCRYPTION_KEY {
            return true;
        }
        // The environment can set this, too, and maybe after the variable that it names.
        let of_keys = std::env::var_os(format!("{PREFIX}KEYS_ENCRYPTION_KEY_ENV"));
        let of_keys = of_keys.as_deref().or(self.keys.encryption_key_env.as_deref().map(OsStr::new));
        of_keys == Some(variable) || self.clients.iter().any(|client| client.get_ref().keeps_its_secret_in(variable))
    }

    /// Returns the configuration with a placeholder for each secret.
    pub(crate) fn without_secrets(&self) -> Self {
        let mut shown = self.clone();
        shown.store = self.store.as_deref().map(without_password);
        for client in &mut shown.clients {
            let Client { client_secret_hash, dangerous_plain_client_secret, credentials, .. } = client.get_mut();
            let listed = credentials.iter_mut().flat_map(|credential| {
                [&mut credential.client_secret_hash, &mut credential.dangerous_plain_client_secret]
            });
            for secret in listed.chain([client_secret_hash, dangerous_plain_client_secret]).flatten() {
                NOT_SHOWN.clone_into(secret);
            }
        }
        shown
    }

    /// Sets one setting from the environment.
    fn set(&mut self, setting: &str, value: &str) -> Result<(), String> {
        let Self {
            paths,
            proxies,
            tls,
            limits,
            attempts,
            audit,
            log,
            metrics,
            keys,
            tokens,
            metadata,
            administration,
            assertions,
            ..
        } = self;
        match setting {
            "LISTEN" => self.listen = parse(value, ADDRESS)?,
            "ISSUER" => self.issuer = optional(value),
            "DANGEROUS_PLAIN_HTTP" => self.dangerous_plain_http = parse(value, SWITCH)?,
            "PROXY_STRIPS_ISSUER_PATH" => self.proxy_strips_issuer_path = parse(value, SWITCH)?,
            "PUBLIC_URL" => self.public_url = optional(value),
            "STORE" => self.store = optional(value),
            "IMPORTED_SECRETS_ARE_RANDOM" => self.imported_secrets_are_random = parse(value, SWITCH)?,
            "ADMINISTRATION_AUDIENCE" => administration.audience = optional(value),
            "ADMINISTRATION_PATH" => administration.path = optional(value),
            "PATHS_TOKEN" => paths.token = optional(value),
            "PATHS_AUTHORIZATION" => paths.authorization = optional(value),
            "PATHS_REVOCATION" => paths.revocation = optional(value),
            "PATHS_INTROSPECTION" => paths.introspection = optional(value),
            "PATHS_JWKS" => paths.jwks = optional(value),
            "PATHS_METADATA" => paths.metadata = optional(value),
            "PROXIES_TRUSTED" => proxies.trusted = list(value, "a range of addresses")?,
            "PROXIES_HEADER" => proxies.header = optional(value),
            "TLS_CERTIFICATE" => tls.certificate = optional(value).map(PathBuf::from),
            "TLS_KEY" => tls.key = optional(value).map(PathBuf::from),
            "TLS_REREAD_SECONDS" => tls.reread_seconds = parse(value, POSITIVE)?,
            "ATTEMPTS_RANDOM_BY_ADDRESS" => attempts.random_by_address = parse(value, NUMBER)?,
            "ATTEMPTS_CHOSEN_BY_ADDRESS" => attempts.chosen_by_address = parse(value, POSITIVE)?,
            "ATTEMPTS_CHOSEN_BY_CLIENT" => attempts.chosen_by_client = parse(value, POSITIVE)?,
            "AUDIT_FILE" => audit.file = optional(value).map(PathBuf::from),
            "LOG_FORMAT" => log.format = parse(value, "text or json")?,
            "METRICS_LISTEN" => {
                metrics.listen = optional(value).map(|value| parse(&value, ADDRESS)).transpose()?;
            }
            "LIMITS_BODY_BYTES" => limits.body_bytes = parse(value, NUMBER)?,
            "LIMITS_BODY_SECONDS" => limits.body_seconds = parse(value, NUMBER)?,
            "LIMITS_HEAD_SECONDS" => limits.head_seconds = parse(value, NUMBER)?,
            "LIMITS_IDLE_SECONDS" => limits.idle_seconds = parse(value, NUMBER)?,
            "LIMITS_CONNECTIONS" => limits.connections = parse(value, POSITIVE)?,
            "LIMITS_CONNECTIONS_PER_ADDRESS" => limits.connections_per_address = parse(value, POSITIVE)?,
            "LIMITS_STREAMS" => limits.streams = parse(value, POSITIVE)?,
            "LIMITS_NOTICE_SECONDS" => limits.notice_seconds = parse(value, NUMBER)?,
            "LIMITS_DRAIN_SECONDS" => limits.drain_seconds = parse(value, NUMBER)?,
            "KEYS_GENERATE" => keys.generate = optional(value),
            "KEYS_SIGN" => keys.sign = optional(value).map(PathBuf::from),
            "KEYS_LOAD_OR_CREATE" => keys.load_or_create = optional(value).map(PathBuf::from),
            "KEYS_ALGORITHM" => keys.algorithm = optional(value),
            "KEYS_ROTATE_DAYS" => {
                keys.rotate_days = optional(value).map(|days| parse(&days, POSITIVE)).transpose()?;
            }
            "KEYS_ENCRYPTION_KEY_ENV" => keys.encryption_key_env = optional(value),
            "KEYS_ENCRYPTION_KEY_FILE" => keys.encryption_key_file = optional(value).map(PathBuf::from),
            "KEYS_PREVIOUS_ENCRYPTION_KEY_FILE" => {
                keys.previous_encryption_key_file = optional(value).map(PathBuf::from);
            }
            "KEYS_TRUST" => keys.trust = list(value, "a path")?,
            "TOKENS_LIFETIME_SECONDS" => tokens.lifetime_seconds = parse(value, NUMBER)?,
            "TOKENS_SCOPE" => tokens.scope = list(value, SCOPE)?,
            "TOKENS_DEFAULT_SCOPE" => tokens.default_scope = list(value, SCOPE)?,
            "TOKENS_ACCEPT_AUDIENCE_PARAMETER" => tokens.accept_audience_parameter = parse(value, SWITCH)?,
            "METADATA_RESPONSE_TYPES_SUPPORTED" => metadata.response_types_supported = list(value, "a response type")?,
            "METADATA_CROSS_ORIGIN" => metadata.cross_origin = parse(value, SWITCH)?,
            "ASSERTIONS_MAX_LIFETIME_SECONDS" => assertions.max_lifetime_seconds = parse(value, NUMBER)?,
            "ASSERTIONS_CLOCK_SKEW_SECONDS" => assertions.clock_skew_seconds = parse(value, NUMBER)?,
            "ASSERTIONS_ALGORITHMS" => assertions.algorithms = list(value, "an algorithm")?,
            "ASSERTIONS_CLIENT_KEY_URLS" => {
                assertions.client_key_urls = optional(value).unwrap_or_else(|| "off".to_owned());
            }
            "ASSERTIONS_CLIENT_SECRET_JWT" => assertions.client_secret_jwt = parse(value, SWITCH)?,
            _ => return Err(NO_SUCH_SETTING.to_owned()),
        }
        Ok(())
    }
}

/// The message about an invalid value in a client. The value is omitted: it may be a secret, also under another name.
fn without_value(member: &str, message: &str) -> String {
    let expected = match message.rsplit_once(", expected ") {
        Some((_, expected)) => expected,
        None if member.contains("scope") => SCOPES,
        None => "an absolute URI, such as https://api.example.com",
    };
    format!("invalid value of `{member}`, expected {expected}; the value is not shown, since it may be a secret")
}

/// The prefix of all variables.
const PREFIX: &str = "TCC_";

/// The variable with the key-encryption key, unless another one is set.
const ENCRYPTION_KEY: &str = "TCC_KEY_ENCRYPTION_KEY";

const NO_SUCH_SETTING: &str = "there is no such setting; see examples/standalone.toml for the list";

/// Returns the setting that a variable names, without the prefix. The variable may have a former name.
fn present_name<'a>(setting: &'a str, warnings: &mut Vec<String>) -> Result<&'a str, String> {
    let Some(name) = renamed::variable(setting) else { return Ok(setting) };
    if std::env::var_os(format!("{PREFIX}{name}")).is_some() {
        return Err(format!("this is the former name of {PREFIX}{name}, and both are set; keep {PREFIX}{name}"));
    }
    warnings.push(format!(
        "{PREFIX}{setting} is now called {PREFIX}{name}; the former name is still accepted; rename the variable"
    ));
    Ok(name)
}

/// Returns whether a variable has one of the forms that Kubernetes sets in each pod for each service of the namespace:
/// `X_SERVICE_HOST`, `X_SERVICE_PORT[_NAME]`, `X_PORT` and `X_PORT_80_TCP[_ADDR|_PORT|_PROTO]`, where `X` is the name of the
/// service. For a service named `tcc`, these variables have our prefix.
fn is_from_kubernetes(setting: &str) -> bool {
    let setting = format!("_{setting}");
    let numbered_port = setting.rsplit_once("_PORT_").is_some_and(|(_, rest)| is_port_and_protocol(rest))
        || ["_ADDR", "_PORT", "_PROTO"].iter().any(|end| {
            let port = setting.strip_suffix(end).and_then(|setting| setting.rsplit_once("_PORT_"));
            port.is_some_and(|(_, rest)| is_port_and_protocol(rest))
        });
    numbered_port
        || setting.ends_with("_PORT")
        || setting.ends_with("_SERVICE_HOST")
        || setting.contains("_SERVICE_PORT_")
}

/// For example `80_TCP`.
fn is_port_and_protocol(text: &str) -> bool {
    text.split_once('_')
        .is_some_and(|(port, protocol)| port.parse::<u16>().is_ok() && ["TCP", "UDP", "SCTP"].contains(&protocol))
}

const ADDRESS: &str = "an IP address and a port, such as 127.0.0.1:3000";
const NUMBER: &str = "a whole number";
const POSITIVE: &str = "a whole number above 0";
const SWITCH: &str = "true or false";
const SCOPES: &str = "scopes in one string, separated by spaces, such as \"read write\"";
const SCOPE: &str = "a scope, of visible ASCII characters other than \" and \\";

fn parse<T: FromStr>(value: &str, what: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("`{value}` is not {what}"))
}

/// An empty value counts as absent.
fn optional(value: &str) -> Option<String> {
    Some(value).filter(|value| !value.is_empty()).map(str::to_owned)
}

/// Like the `scope` parameter: separated by spaces.
fn list<T: FromStr>(value: &str, what: &str) -> Result<Vec<T>, String> {
    value.split_whitespace().map(|item| parse(item, what)).collect()
}

/// Scopes as RFC 6749 §3.3 and RFC 7591 §2 write them: one string, separated by spaces.
fn scopes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Scope>, D::Error> {
    struct Text;

    impl Visitor<'_> for Text {
        type Value = Vec<Scope>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(SCOPES)
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<Scope>, E> {
            list(text, SCOPE).map_err(E::custom)
        }
    }

    deserializer.deserialize_str(Text)
}

fn joined<S: Serializer>(scopes: &[Scope], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&scopes.iter().cloned().collect::<Scopes>())
}

#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
fn optional_joined<S: Serializer>(scopes: &Option<Vec<Scope>>, serializer: S) -> Result<S::Ok, S::Error> {
    match scopes {
        Some(scopes) => joined(scopes, serializer),
        None => serializer.serialize_none(),
    }
}

fn optional_scopes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Scope>>, D::Error> {
    scopes(deserializer).map(Some)
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    parse(&String::deserialize(deserializer)?, ADDRESS).map_err(D::Error::custom)
}

fn optional_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    address(deserializer).map(Some)
}

/// The placeholder for a secret in the output of `--check`.
const NOT_SHOWN: &str = "(not shown)";

/// Returns the URL of a store without a password, which is before the `@` or in a parameter. A malformed URL may have either in
/// another place, so more than the password may be left out.
pub(crate) fn without_password(url: &str) -> String {
    let (url, query) = url.split_once('?').map_or((url, None), |(url, query)| (url, Some(query)));
    let query = match query {
        Some(query) if query.to_ascii_lowercase().contains("pass") => format!("?{NOT_SHOWN}"),
        Some(query) if query.contains('@') => format!("?{NOT_SHOWN}"),
        Some(query) => format!("?{query}"),
        None => String::new(),
    };
    let shown = url.split_once("://").and_then(|(scheme, rest)| {
        let (user, host) = rest.rsplit_once('@')?;
        let user = user.split_once(':').map_or(user, |(user, _)| user);
        Some(format!("{scheme}://{user}:{NOT_SHOWN}@{host}"))
    });
    shown.unwrap_or_else(|| url.to_owned()) + &query
}

impl Client {
    fn keeps_its_secret_in(&self, variable: &OsStr) -> bool {
        let listed = self.credentials.iter().filter_map(|credential| credential.client_secret_env.as_deref());
        self.client_secret_env.as_deref().into_iter().chain(listed).any(|name| name == variable)
    }
}

/// The settings that are tables.
const TABLES: [&str; 13] = [
    "paths",
    "proxies",
    "tls",
    "limits",
    "attempts",
    "log",
    "audit",
    "metrics",
    "keys",
    "tokens",
    "metadata",
    "administration",
    "assertions",
];

/// The configuration file, for messages that name it.
#[derive(Clone)]
pub(crate) struct Source {
    path: PathBuf,
    text: String,
    warnings: Vec<String>,
}

impl Source {
    /// Logs what should be changed in the file or in the environment. Not part of reading, since the file says how to log.
    pub(crate) fn log_warnings(&self) {
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
    }

    /// Paths in the file are relative to the file's folder.
    pub(crate) fn resolve(&self, path: &Path) -> PathBuf {
        self.folder().join(path)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// Returns the path of the file with another extension.
    pub(crate) fn beside(&self, ending: &str) -> PathBuf {
        self.path.with_extension(ending)
    }

    /// serde accepts a list for a table, with the settings in the order of their declaration. This rejects such lists.
    fn refuse_lists_for_tables(&self) -> Result<(), Mistake> {
        let Ok(document) = DeTable::parse(&self.text) else { return Ok(()) };
        for (name, value) in document.get_ref() {
            let DeValue::Array(items) = value.get_ref() else { continue };
            let name = name.get_ref();
            if TABLES.contains(&name.as_ref()) {
                return Err(self.mistake_at(value.span(), format!("`{name}` is a list; make it a table, [{name}]")));
            }
            if let Some(item) = items.iter().find(|item| matches!(item.get_ref(), DeValue::Array(_))) {
                return Err(self.mistake_at(item.span(), format!("a list in `{name}`; make it a table, [[{name}]]")));
            }
        }
        Ok(())
    }

    /// Returns the member of a client whose value is at this place, or `clients` for a value that is not a client.
    fn member_of_a_client(&self, place: &Range<usize>) -> Option<&str> {
        let document = DeTable::parse(&self.text).ok()?;
        let (_, clients) = document.get_ref().iter().find(|(name, _)| name.get_ref() == "clients")?;
        let is_in = |value: &Spanned<DeValue<'_>>| {
            let span = value.span();
            span.start <= place.start && place.start < span.end
        };
        let DeValue::Array(items) = clients.get_ref() else { return is_in(clients).then_some("clients") };
        for item in items {
            let DeValue::Table(members) = item.get_ref() else {
                if is_in(item) {
                    return Some("clients");
                }
                continue;
            };
            if let Some((name, _)) = members.iter().find(|(_, value)| is_in(value)) {
                return self.text.get(name.span());
            }
        }
        None
    }

    /// An error at a place in the file.
    pub(crate) fn mistake_at(&self, span: Range<usize>, why: impl fmt::Display) -> Mistake {
        let before = self.text.get(..span.start).unwrap_or(&self.text);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        Mistake::new(format_args!("{}:{line}", self.path.display()), why)
    }

    /// An error in a setting, such as `paths.token`, regardless of its source.
    pub(crate) fn mistake_in(&self, setting: &str, why: impl fmt::Display) -> Mistake {
        let variable = format!("{PREFIX}{}", setting.to_uppercase().replace('.', "_"));
        if std::env::var_os(&variable).is_some() {
            return Mistake::new(variable, why);
        }
        self.mistake_at(self.find(setting).unwrap_or(0..0), why)
    }

    /// Returns the place of a setting in the file, or of its table if the setting is missing.
    fn find(&self, setting: &str) -> Option<Range<usize>> {
        let document = DeTable::parse(&self.text).ok()?;
        let (mut table, mut place) = (document.get_ref(), None);
        for name in setting.split('.') {
            let Some((key, value)) = table.iter().find(|(key, _)| key.get_ref() == name) else { break };
            place = Some(key.span());
            let DeValue::Table(inner) = value.get_ref() else { break };
            table = inner;
        }
        place
    }
}

/// An error in the configuration, with its place. The text says how to fix it.
#[derive(Debug)]
pub(crate) struct Mistake {
    place: String,
    why: String,
}

impl Mistake {
    pub(crate) fn new(place: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self { place: place.to_string(), why: why.to_string() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.why)
    }
}

//! What the file may say, and where in it a mistake is.

use std::ffi::OsStr;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer};
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use tower_client_credentials::{Audience, Scope};

/// The whole file. Every setting outside the lists at the end can come from the environment instead.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    #[serde(deserialize_with = "address")]
    pub(crate) listen: SocketAddr,
    pub(crate) issuer: Option<String>,
    pub(crate) public_url: Option<String>,
    pub(crate) store: Option<String>,
    #[serde(default)]
    pub(crate) paths: Paths,
    #[serde(default)]
    pub(crate) limits: Limits,
    pub(crate) keys: Keys,
    #[serde(default)]
    pub(crate) tokens: Tokens,
    #[serde(default)]
    pub(crate) metadata: Metadata,
    #[serde(default)]
    pub(crate) resources: Vec<Spanned<Resource>>,
    #[serde(default)]
    pub(crate) clients: Vec<Spanned<Client>>,
    #[serde(default)]
    pub(crate) routes: Vec<Spanned<Route>>,
}

/// Where the endpoints are.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Paths {
    pub(crate) token: Option<String>,
    pub(crate) revocation: Option<String>,
    pub(crate) introspection: Option<String>,
    pub(crate) jwks: Option<String>,
    pub(crate) metadata: Option<String>,
}

/// How much of everything, and for how long.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    pub(crate) body_bytes: usize,
    pub(crate) body_seconds: u32,
    pub(crate) head_seconds: u32,
    pub(crate) connections: NonZeroU32,
    pub(crate) notice_seconds: u32,
    pub(crate) drain_seconds: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 64 * 1024,
            body_seconds: 10,
            head_seconds: 10,
            connections: const { NonZeroU32::new(10_000).unwrap() },
            notice_seconds: 0,
            drain_seconds: 30,
        }
    }
}

/// The key that signs, and those that only verify.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keys {
    pub(crate) generate: Option<String>,
    pub(crate) sign: Option<PathBuf>,
    pub(crate) algorithm: Option<String>,
    #[serde(default)]
    pub(crate) trust: Vec<PathBuf>,
}

/// What a token holds, and for how long.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tokens {
    pub(crate) lifetime_seconds: u32,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) default_scopes: Vec<Scope>,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { lifetime_seconds: 600, scopes: Vec::new(), default_scopes: Vec::new() }
    }
}

/// What the public documents say beside the facts.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Metadata {
    pub(crate) response_types_supported: Vec<String>,
    pub(crate) cross_origin: bool,
}

/// An API that tokens can be for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Resource {
    pub(crate) audience: Audience,
    #[serde(default)]
    pub(crate) default: bool,
    pub(crate) scopes: Option<Vec<Scope>>,
}

/// A client, with exactly one secret.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) secret_hash: Option<String>,
    pub(crate) secret_env: Option<String>,
    pub(crate) secret_file: Option<PathBuf>,
    pub(crate) dangerous_plain_secret: Option<String>,
    #[serde(default)]
    pub(crate) method: Method,
    #[serde(default)]
    pub(crate) scopes: Vec<Scope>,
    pub(crate) default_scopes: Option<Vec<Scope>>,
    #[serde(default)]
    pub(crate) audiences: Vec<Audience>,
    #[serde(default)]
    pub(crate) introspects: Vec<Audience>,
    pub(crate) subject: Option<String>,
    pub(crate) token_lifetime_seconds: Option<u32>,
    #[serde(default)]
    pub(crate) without_grant: bool,
    #[serde(default)]
    pub(crate) disabled: bool,
}

/// How a client authenticates.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Method {
    #[default]
    ClientSecretBasic,
    ClientSecretPost,
}

/// A demo route, which tells the caller what its token says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Route {
    pub(crate) path: String,
    pub(crate) scope: Option<Scope>,
    pub(crate) audience: Option<Audience>,
    pub(crate) grpc_refusals: Option<bool>,
}

impl Config {
    /// Reads the file, then what the environment says instead.
    pub(crate) fn load(path: &Path) -> Result<(Self, Source), Mistake> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Mistake::new(path.display(), format!("{error}; give --config a file like examples/standalone.toml"))
        })?;
        let source = Source { path: path.to_owned(), text };
        let mut config: Self = toml::from_str(&source.text).map_err(|error| {
            // The error's own text would show the whole line, and there may be a secret in it.
            source.mistake_at(error.span().unwrap_or(0..0), error.message())
        })?;
        for (variable, value) in std::env::vars_os() {
            let Some(setting) = variable.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
            if !config.clients.iter().any(|client| client.get_ref().keeps_its_secret_in(&variable)) {
                let value = value.to_str().ok_or("it is not UTF-8; write it as text".to_owned());
                value
                    .and_then(|value| config.set(setting, value))
                    .map_err(|why| Mistake::new(variable.display(), why))?;
            }
        }
        Ok((config, source))
    }

    /// One setting from the environment.
    fn set(&mut self, setting: &str, value: &str) -> Result<(), String> {
        let Self { paths, limits, keys, tokens, metadata, .. } = self;
        match setting {
            "LISTEN" => self.listen = parse(value, ADDRESS)?,
            "ISSUER" => self.issuer = optional(value),
            "PUBLIC_URL" => self.public_url = optional(value),
            "STORE" => self.store = optional(value),
            "PATHS_TOKEN" => paths.token = optional(value),
            "PATHS_REVOCATION" => paths.revocation = optional(value),
            "PATHS_INTROSPECTION" => paths.introspection = optional(value),
            "PATHS_JWKS" => paths.jwks = optional(value),
            "PATHS_METADATA" => paths.metadata = optional(value),
            "LIMITS_BODY_BYTES" => limits.body_bytes = parse(value, NUMBER)?,
            "LIMITS_BODY_SECONDS" => limits.body_seconds = parse(value, NUMBER)?,
            "LIMITS_HEAD_SECONDS" => limits.head_seconds = parse(value, NUMBER)?,
            "LIMITS_CONNECTIONS" => limits.connections = parse(value, "a whole number above 0")?,
            "LIMITS_NOTICE_SECONDS" => limits.notice_seconds = parse(value, NUMBER)?,
            "LIMITS_DRAIN_SECONDS" => limits.drain_seconds = parse(value, NUMBER)?,
            "KEYS_GENERATE" => keys.generate = optional(value),
            "KEYS_SIGN" => keys.sign = optional(value).map(PathBuf::from),
            "KEYS_ALGORITHM" => keys.algorithm = optional(value),
            "KEYS_TRUST" => keys.trust = list(value, "a path")?,
            "TOKENS_LIFETIME_SECONDS" => tokens.lifetime_seconds = parse(value, NUMBER)?,
            "TOKENS_SCOPES" => tokens.scopes = list(value, SCOPE)?,
            "TOKENS_DEFAULT_SCOPES" => tokens.default_scopes = list(value, SCOPE)?,
            "METADATA_RESPONSE_TYPES_SUPPORTED" => metadata.response_types_supported = list(value, "a response type")?,
            "METADATA_CROSS_ORIGIN" => metadata.cross_origin = parse(value, "true or false")?,
            _ => return Err("there is no such setting; examples/standalone.toml lists them".to_owned()),
        }
        Ok(())
    }
}

/// Where the names of variables begin.
const PREFIX: &str = "TCC_";

const ADDRESS: &str = "an IP address and a port, such as 127.0.0.1:3000";
const NUMBER: &str = "a whole number";
const SCOPE: &str = "a scope, of visible ASCII characters other than \" and \\";

fn parse<T: FromStr>(value: &str, what: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("`{value}` is not {what}"))
}

/// Empty is as if it were not there.
fn optional(value: &str) -> Option<String> {
    Some(value).filter(|value| !value.is_empty()).map(str::to_owned)
}

/// As the `scope` parameter does it: separated by spaces.
fn list<T: FromStr>(value: &str, what: &str) -> Result<Vec<T>, String> {
    value.split_whitespace().map(|item| parse(item, what)).collect()
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    parse(&String::deserialize(deserializer)?, ADDRESS).map_err(serde::de::Error::custom)
}

impl Client {
    /// A variable that holds a secret is no setting, whatever its name.
    fn keeps_its_secret_in(&self, variable: &OsStr) -> bool {
        self.secret_env.as_deref().is_some_and(|name| name == variable)
    }
}

/// The file, for messages that say where.
pub(crate) struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// A path in the file is seen from the file's own folder.
    pub(crate) fn resolve(&self, path: &Path) -> PathBuf {
        self.folder().join(path)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// The file's name with another ending.
    pub(crate) fn beside(&self, ending: &str) -> PathBuf {
        self.path.with_extension(ending)
    }

    /// A mistake at a place in the file.
    pub(crate) fn mistake_at(&self, span: Range<usize>, why: impl fmt::Display) -> Mistake {
        let before = self.text.get(..span.start).unwrap_or(&self.text);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        Mistake::new(format_args!("{}:{line}", self.path.display()), why)
    }

    /// A mistake in a setting, such as `paths.token`, wherever it comes from.
    pub(crate) fn mistake_in(&self, setting: &str, why: impl fmt::Display) -> Mistake {
        let variable = format!("{PREFIX}{}", setting.to_uppercase().replace('.', "_"));
        if std::env::var_os(&variable).is_some() {
            return Mistake::new(variable, why);
        }
        self.mistake_at(self.find(setting).unwrap_or(0..0), why)
    }

    /// Where the file has a setting; without it, its table.
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

/// What is wrong, and where; the text says the mend.
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

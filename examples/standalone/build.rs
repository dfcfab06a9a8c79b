//! Builds the server, its clients and its routes from the configuration.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use serde_json::{Value, json};
use tower::util::MapRequestLayer;
use tower_client_credentials::authorization_server::{ConfigError, ForwardedHeader, TrustedProxies};
use tower_client_credentials::event::EventSender;
use tower_client_credentials::keys::rotation::{KeyManager, RingStatus};
use tower_client_credentials::registration::RegisteredSecret;
use tower_client_credentials::secret::{SecretError, StoredSecret};
use tower_client_credentials::{
    AuthorizationServer, BearerAuthLayer, ClientId, ClientSecret, ClientStore as _, KeyRing, MemoryStore, Revocations,
    Scopes, TokenEndpointLayer, VerifiedToken,
};
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;
use tower_http::timeout::RequestBodyDeadlineLayer;

use crate::administration;
use crate::assertions::{CredentialSettings, Method, assertions, start_of_day};
use crate::audit::Audit;
use crate::config::{self, Client, Config, Mistake, Paths, Proxies, Resource, Source};
use crate::keys::{self, ServiceKeys};
use crate::log;
use crate::serve::Health;
use crate::store::{self, Registry, Store, chain};
use crate::wording::with_settings;
use crate::{caller, client_secrets};

/// What the configuration is built for.
pub(crate) struct Context<'a> {
    /// The address at which the service listens.
    pub(crate) address: SocketAddr,
    pub(crate) health: &'a Health,
    /// What the state before a reload had.
    pub(crate) kept: Option<Kept>,
    /// Whether a missing key or SQLite file is created.
    pub(crate) creates: bool,
}

/// What a reload takes over as long as its settings do not change: reopening a store in memory, or generating another key, would
/// lose what the service promised to its clients.
#[derive(Clone)]
pub(crate) struct Kept {
    store_url: String,
    store: Store,
    revocations: Revocations,
    pub(crate) keys: ServiceKeys,
    pub(crate) audit: Option<Audit>,
}

/// The result of a build: the router, and the parts that a reload keeps.
pub(crate) struct Built {
    pub(crate) app: Router,
    pub(crate) kept: Kept,
    /// The path of each endpoint.
    pub(crate) paths: Paths,
}

impl Kept {
    pub(crate) fn readiness(&self, health: &Health) -> Readiness {
        let keys = self.keys.manager().map(KeyManager::status);
        let has_keys = self.keys.manager().is_none_or(KeyManager::is_ready);
        Readiness { is_ready: health.is_ready() && self.revocations.is_ready() && has_keys, keys }
    }
}

/// Whether the service should receive requests, and the state of the keys if they are in the store.
pub(crate) struct Readiness {
    is_ready: bool,
    keys: Option<RingStatus>,
}

/// Builds the router: the demo routes, `/health/…`, and the endpoints of the server.
pub(crate) async fn app(config: &Config, source: &Source, context: Context<'_>) -> Result<Built, Mistake> {
    let Context { address, health, kept, creates } = context;
    let was_kept = kept.is_some();
    keys::refuse_contradictions(&config.keys, config.assertions.client_secret_jwt, source)?;
    let keys = ServiceKeys::outside_the_store(&config.keys, source, kept.as_ref().map(|kept| &kept.keys), creates)?;
    let kept = open_store(config, source, kept, keys, creates).await?;
    let keys = kept.keys.ring();
    refuse_clients_in_both(config, source, &kept.store).await?;
    client_secrets::check(config, source, &kept.store).await?;
    let (store, revocations) = (kept.store.clone(), kept.revocations.clone());
    let proxies = proxies(config, source)?;
    let events = kept.audit.as_ref().map(|audit| audit.events.clone());
    let server = server(config, source, (proxies.clone(), events.clone()), address, keys, store, revocations)?;
    let paths = effective_paths(&server);
    let administration = administration::layer(config, source, &server, &kept.store)?;
    let body_deadline = Duration::from_secs(config.limits.body_seconds.into());
    let routes = routes(config, source, &server, events.as_ref())?;
    if !was_kept {
        warn_of_lost_state(config, source, &kept);
        log_paths(&paths);
    }
    let readiness = {
        let (kept, health) = (kept.clone(), health.clone());
        move || kept.readiness(&health)
    };
    let app = routes
        .merge(health_routes(readiness))
        .layer(RequestBodyDeadlineLayer::new(body_deadline)) // the token endpoint has its own deadline
        .layer(TokenEndpointLayer::new(server));
    let app = match administration {
        Some(administration) => app.layer(administration),
        None => app,
    };
    // The headers are marked first, before anything that could log them.
    let app = app.layer(log::requests()).layer(SetSensitiveRequestHeadersLayer::new([AUTHORIZATION]));
    let app = app.layer(MapRequestLayer::new(caller::find(proxies)));
    Ok(Built { app, kept, paths })
}

/// Returns the path of each endpoint, or `off`.
fn effective_paths(server: &AuthorizationServer) -> Paths {
    let path = |wanted: &str| {
        let found = server.paths().find(|(name, _)| *name == wanted);
        Some(found.map_or("off", |(_, path)| path).to_owned())
    };
    Paths {
        token: path("token"),
        authorization: path("authorization"),
        revocation: path("revocation"),
        introspection: path("introspection"),
        jwks: path("jwks"),
        metadata: path("metadata"),
    }
}

/// Logs the paths, since a request to another one, for example without the prefix of a proxy, gets 404 and logs nothing.
fn log_paths(paths: &Paths) {
    let Paths { token, authorization, revocation, introspection, jwks, metadata } = paths;
    tracing::info!(token, authorization, revocation, introspection, jwks, metadata, "the paths of the endpoints");
}

/// Warns of state that the service loses when it ends.
fn warn_of_lost_state(config: &Config, source: &Source, kept: &Kept) {
    if let Some(algorithm) = &config.keys.generate {
        warn_of_generated_key(algorithm);
    }
    if kept.store_url.starts_with("memory:") {
        tracing::warn!(
            "state is kept in memory: revocations are lost when this process ends, and other replicas do not see them. To keep \
             them, set `store`, {}",
            store::EXAMPLE
        );
    } else {
        tracing::info!(store = config::without_password(&store_url(config, source)), "opened the store");
    }
}

/// Returns the URL of the store. The default is SQLite next to the configuration file if the feature is enabled, otherwise memory.
pub(crate) fn store_url(config: &Config, source: &Source) -> String {
    config.store.clone().unwrap_or_else(|| {
        let sqlite = source.beside("db").file_name().map(|name| format!("sqlite://{}", name.display()));
        sqlite.filter(|_| cfg!(feature = "sqlite")).unwrap_or_else(|| "memory:".to_owned())
    })
}

/// Opens the configured store, follows its revocations and opens the keys in it, unless the state before the reload did. `keys` are
/// those that are not in the store.
async fn open_store(
    config: &Config,
    source: &Source,
    kept: Option<Kept>,
    keys: Option<ServiceKeys>,
    creates: bool,
) -> Result<Kept, Mistake> {
    let store_url = store_url(config, source);
    let audit = kept.as_ref().and_then(|kept| kept.audit.clone());
    if let Some(kept) = kept.filter(|kept| kept.store_url == store_url) {
        // A reload cannot change whether the keys are in the store.
        let keys = keys.unwrap_or_else(|| kept.keys.clone());
        return Ok(Kept { keys, ..kept });
    }
    // A reload that changes the store keeps the audit log.
    let audit = match audit {
        Some(audit) => Some(audit),
        None => Audit::of(config, source, creates)?,
    };
    let mistake = |why: String| source.mistake_in("store", why);
    let is_created_later = !creates && store::is_missing_file(&store_url, source.folder());
    let url = if is_created_later { "memory:" } else { &store_url };
    let (store, key_store) = store::open(url, source.folder()).await.map_err(mistake)?;
    let revocations = Revocations::follow(store.clone()).await.map_err(|error| mistake(chain(&error)))?;
    let keys = if let Some(keys) = keys {
        keys
    } else {
        let events = audit.as_ref().map(|audit| audit.events.clone());
        ServiceKeys::in_the_store(&config.keys, source, (key_store, &store_url), events, creates).await?
    };
    Ok(Kept { store_url, store, revocations, keys, audit })
}

/// Returns the issuer identifier. By default it is the URL of the listening address.
pub(crate) fn issuer(config: &Config, address: SocketAddr) -> String {
    let scheme = if config.tls.certificate.is_some() { "https" } else { "http" };
    config.issuer.clone().unwrap_or_else(|| format!("{scheme}://{address}"))
}

/// Rejects a client that is both listed and in the store: the listed one would be served regardless of changes in the store.
async fn refuse_clients_in_both(config: &Config, source: &Source, store: &Store) -> Result<(), Mistake> {
    for client in &config.clients {
        // A malformed id is rejected when the clients are registered.
        let Ok(id) = client.get_ref().client_id.parse::<ClientId>() else { continue };
        let found = store.find(&id).await.map_err(|error| source.mistake_in("store", chain(&error)))?;
        if found.is_some() {
            let why = format!(
                "client `{id}` is in the store as well, and would get tokens even if it is disabled or deleted \
                 there; remove it from this file, or from the store with `clients delete {id}`, which revokes its tokens"
            );
            return Err(source.mistake_at(client.span(), why));
        }
    }
    Ok(())
}

fn server(
    config: &Config,
    source: &Source,
    (proxies, events): (Option<TrustedProxies>, Option<EventSender>),
    address: SocketAddr,
    keys: KeyRing,
    store: Store,
    revocations: Revocations,
) -> Result<AuthorizationServer, Mistake> {
    let Config { paths, limits, tokens, metadata, attempts, .. } = config;
    let issuer = issuer(config, address);
    let listed = clients(config, source)?;
    let assertions = assertions(config, source, store.clone())?;
    let clients = Registry { listed: listed.clone(), store };
    let assertions = assertions.record_legacy_uses(clients.clone());
    #[cfg(feature = "legacy_hashes")]
    let hashes = clients.clone();
    let mut builder = AuthorizationServer::builder(issuer, keys, clients)
        .attempt_limits(attempts.limits())
        .revocations(revocations)
        .client_assertions(assertions)
        .known_scopes(administration::known_scopes(config))
        .default_scopes(tokens.default_scope.iter().cloned().collect::<Scopes>())
        .token_lifetime(Duration::from_secs(tokens.lifetime_seconds.into()))
        .body_limit(limits.body_bytes)
        .body_timeout(Duration::from_secs(limits.body_seconds.into()))
        .response_types_supported(&metadata.response_types_supported)
        .peer_address(|extensions| extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.ip()));
    for resource in &config.resources {
        let Resource { audience, scope, .. } = resource.get_ref();
        builder = match scope {
            None => builder.resource(audience),
            Some(scopes) => builder.resource_with_scopes(audience, scopes.iter().cloned().collect::<Scopes>()),
        };
    }
    if let Some(audience) = administration::resource(config, source)? {
        builder = builder.resource_with_scopes(audience, administration::scopes());
    }
    if let Some(resource) = default_resource(config, source)? {
        builder = builder.default_audience(&resource.audience);
    }
    if config.dangerous_plain_http {
        builder = builder.dangerous_plain_http();
    }
    if config.proxy_strips_issuer_path {
        builder = builder.proxy_strips_issuer_path();
    }
    if let Some(proxies) = proxies {
        builder = builder.trusted_proxies(proxies);
    }
    if let Some(events) = events {
        builder = builder.events(events);
    }
    if config.imported_secrets_are_random {
        #[cfg(feature = "legacy_hashes")]
        {
            builder = builder.imported_secrets_are_random();
        }
        #[cfg(not(feature = "legacy_hashes"))]
        return Err(source.mistake_in(
            "imported_secrets_are_random",
            "this program was built without support for hashes from older systems: build it with --features legacy_hashes",
        ));
    }
    if let Some(url) = &config.public_url {
        builder = builder.public_url(url);
    }
    if let Some(path) = &paths.token {
        builder = builder.token_path(unless_off(path));
    }
    if let Some(path) = &paths.authorization {
        builder = builder.authorization_path(unless_off(path));
    }
    if let Some(path) = &paths.revocation {
        builder = builder.revocation_path(unless_off(path));
    }
    if let Some(path) = &paths.introspection {
        builder = builder.introspection_path(unless_off(path));
    }
    if let Some(path) = &paths.jwks {
        builder = builder.jwks_path(unless_off(path));
    }
    if let Some(path) = &paths.metadata {
        builder = builder.metadata_path(unless_off(path));
    }
    if tokens.accept_audience_parameter {
        builder = builder.accept_audience_parameter();
    }
    #[cfg(feature = "legacy_hashes")]
    {
        builder = builder.upgrade_hashes(hashes);
    }
    if metadata.cross_origin {
        builder = builder.cross_origin_documents();
    }
    let server = builder.build().map_err(|error| locate(&error, config, source))?;
    let checked = listed.enforce(server.client_rules());
    checked.map_err(|error| locate(&error.into(), config, source))?;
    Ok(server)
}

/// Returns the trusted proxies. Ranges and header must be set together.
pub(crate) fn proxies(config: &Config, source: &Source) -> Result<Option<TrustedProxies>, Mistake> {
    let Proxies { trusted, header } = &config.proxies;
    let header = match header {
        None if trusted.is_empty() => return Ok(None),
        None => {
            let why = "the header of the trusted proxies is missing; say header = \"X-Forwarded-For\" or \"Forwarded\", \
                       the one that the proxies write";
            return Err(source.mistake_in("proxies.trusted", why));
        }
        Some(name) => name.parse::<ForwardedHeader>().map_err(|why| source.mistake_in("proxies.header", why))?,
    };
    let proxies = TrustedProxies::new(header, trusted).map_err(|why| source.mistake_in("proxies.trusted", why))?;
    Ok(Some(proxies))
}

/// Returns the resource that is marked as the default, or the only resource.
fn default_resource<'a>(config: &'a Config, source: &Source) -> Result<Option<&'a Resource>, Mistake> {
    let mut marked = config.resources.iter().filter(|resource| resource.get_ref().default);
    match (marked.next(), marked.next(), config.resources.as_slice()) {
        (_, Some(second), _) => Err(source.mistake_at(second.span(), "a second default resource; mark only one")),
        (Some(one), None, _) | (None, None, [one]) => Ok(Some(one.get_ref())),
        (None, None, _) => Ok(None),
    }
}

fn unless_off(path: &str) -> Option<&str> {
    Some(path).filter(|path| *path != "off")
}

/// Finds the setting that caused an error of the server.
fn locate(error: &ConfigError, config: &Config, source: &Source) -> Mistake {
    let paths = [
        ("paths.token", &config.paths.token),
        ("paths.authorization", &config.paths.authorization),
        ("paths.revocation", &config.paths.revocation),
        ("paths.introspection", &config.paths.introspection),
        ("paths.jwks", &config.paths.jwks),
        ("paths.metadata", &config.paths.metadata),
    ];
    let setting = match error {
        ConfigError::Client(error) => {
            let client = config.clients.iter().rfind(|client| client.get_ref().client_id == error.client());
            return source.mistake_at(client.map_or(0..0, toml::Spanned::span), with_settings(&error.to_string()));
        }
        ConfigError::Issuer(_) => "issuer",
        ConfigError::PublicUrl(_) => "public_url",
        ConfigError::NoIssuerPath(_) => "proxy_strips_issuer_path",
        ConfigError::Lifetime(_) => "tokens.lifetime_seconds",
        ConfigError::Path(path) => {
            paths.iter().find(|(_, own)| own.as_ref() == Some(path)).map_or("paths", |(setting, _)| *setting)
        }
        ConfigError::PathTwice(_) => "paths",
        ConfigError::Assertions(_) => "assertions",
        _ => "resources",
    };
    source.mistake_in(setting, with_settings(&error.to_string()))
}

/// Logs how to keep a key, since a key that is generated at each start is lost at the next one.
fn warn_of_generated_key(algorithm: &str) {
    let options = match algorithm {
        "EdDSA" => "ED25519",
        "ES384" => "EC -pkeyopt ec_paramgen_curve:P-384",
        _ => "EC -pkeyopt ec_paramgen_curve:P-256",
    };
    tracing::warn!(
        "the signing key is generated at each start (keys.generate): its tokens are refused after a restart and by other \
         replicas. To keep a key, make one with `openssl genpkey -algorithm {options} -out signing.pem`, and replace \
         keys.generate with keys.sign = \"signing.pem\""
    );
}

/// Reads regular files only: opening a named pipe waits for a writer and could prevent the service from starting.
pub(crate) fn read_file(path: &Path) -> io::Result<String> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    std::fs::read_to_string(path)
}

pub(crate) fn clients(config: &Config, source: &Source) -> Result<MemoryStore, Mistake> {
    let registered = config
        .clients
        .iter()
        .map(|client| register(client.get_ref(), source).map_err(|why| source.mistake_at(client.span(), why)));
    let registered = registered.collect::<Result<Vec<_>, _>>()?;
    MemoryStore::try_from(registered).map_err(|error| locate(&error.into(), config, source))
}

fn register(client: &Client, source: &Source) -> Result<tower_client_credentials::Client, String> {
    let named = |why: String| format!("client `{}`: {why}", client.client_id);
    let mut registered = with_credentials(client, source).map_err(named)?.scopes(client.scope.iter().cloned());
    if let Some(scopes) = &client.default_scope {
        registered = registered.default_scopes(scopes.iter().cloned().collect::<Scopes>());
    }
    if let [first, others @ ..] = client.audiences.as_slice() {
        registered = others.iter().fold(registered.default_audience(first), tower_client_credentials::Client::audience);
    }
    registered = client.introspects.iter().fold(registered, tower_client_credentials::Client::introspects);
    if let Some(subject) = &client.subject {
        registered = registered.subject(subject);
    }
    if let Some(seconds) = client.token_lifetime {
        registered = registered.token_lifetime(Duration::from_secs(seconds.into()));
    }
    if !client.grant {
        registered = registered.without_grant();
    }
    Ok(registered.enabled(client.enabled))
}

const SECRETS: &str = "client_secret_hash, client_secret_env, client_secret_file and dangerous_plain_client_secret";

/// Returns the client with its credentials only.
fn with_credentials(client: &Client, source: &Source) -> Result<tower_client_credentials::Client, String> {
    let shorthand = client.token_endpoint_auth_method;
    let listed = if client.credentials.is_empty() { vec![only_credential(client)] } else { client.credentials.clone() };
    if !client.credentials.is_empty() {
        if only_credential(client).has_any() {
            return Err(
                "it has `credentials`, and another credential outside of the list; put that into the list".to_owned()
            );
        }
        let is_another = |own: Method| listed.iter().any(|credential| credential.method != own);
        if let Some(own) = shorthand.filter(|own| is_another(*own)).map(Method::registered) {
            return Err(format!(
                "token_endpoint_auth_method is {own}, but credentials has another method; omit the former"
            ));
        }
    }
    let mut registered = tower_client_credentials::Client::without_credentials(&client.client_id);
    let mut of_secrets = None;
    for (number, settings) in listed.iter().enumerate() {
        let at =
            |why: String| if client.credentials.is_empty() { why } else { format!("credentials[{number}]: {why}") };
        if !settings.method.is_secret() {
            registered = registered.credential(settings.credential(source).map_err(at)?);
            continue;
        }
        if *of_secrets.get_or_insert(settings.method) != settings.method {
            return Err(at("the secrets of a client have one method; use the same for all".to_owned()));
        }
        let secret = secret(settings, source).map_err(at)?;
        let secret = match &settings.label {
            Some(label) => RegisteredSecret::new(label, secret),
            None => RegisteredSecret::new((number + 1).to_string(), secret),
        };
        let secret = secret.map_err(|error| at(error.to_string()))?;
        registered = registered.registered_secret(match settings.expires_at {
            Some(seconds) => secret.expires_at(std::time::UNIX_EPOCH + Duration::from_secs(seconds)),
            None => secret,
        });
    }
    if let Some(method) = of_secrets.or(shorthand) {
        registered = registered.authentication(method.registered());
    }
    if let Some(date) = &client.legacy_assertions_until {
        registered = registered.legacy_assertions_until(start_of_day(date)?);
    }
    Ok(registered)
}

/// Returns the credential of a client without a list of them. The settings say what its method is.
fn only_credential(client: &Client) -> CredentialSettings {
    let mut only = CredentialSettings {
        client_secret_hash: client.client_secret_hash.clone(),
        client_secret_env: client.client_secret_env.clone(),
        client_secret_file: client.client_secret_file.clone(),
        dangerous_plain_client_secret: client.dangerous_plain_client_secret.clone(),
        random_client_secret: client.random_client_secret,
        jwks: client.jwks.clone(),
        jwks_file: client.jwks_file.clone(),
        jwks_uri: client.jwks_uri.clone(),
        token_endpoint_auth_signing_alg: client.token_endpoint_auth_signing_alg.clone(),
        spiffe_id: client.spiffe_id.clone(),
        ..CredentialSettings::default()
    };
    let secret = client.token_endpoint_auth_method.filter(|method| method.is_secret());
    only.method = match (only.has_keys(), only.spiffe_id.is_some()) {
        (false, false) if client.token_endpoint_auth_method == Some(Method::ClientSecretJwt) => Method::ClientSecretJwt,
        (true, false) => Method::PrivateKeyJwt,
        (false, true) => Method::SpiffeJwt,
        _ => secret.unwrap_or_default(),
    };
    only
}

/// Returns the one secret of a credential. No message contains it.
fn secret(client: &CredentialSettings, source: &Source) -> Result<StoredSecret, String> {
    let CredentialSettings {
        client_secret_hash,
        client_secret_env,
        client_secret_file,
        dangerous_plain_client_secret,
        ..
    } = client;
    let random = client.random_client_secret;
    let text = |error: SecretError| error.to_string();
    let take = |plain: &str| if random { ClientSecret::assume_random(plain) } else { ClientSecret::new(plain) };
    match (client_secret_hash, client_secret_env, client_secret_file, dangerous_plain_client_secret) {
        (Some(_), None, None, None) if random => Err(
            "random_client_secret is for plain secrets; a client_secret_hash of a random secret starts with $sha256$"
                .to_owned(),
        ),
        (Some(hash), None, None, None) => hash.parse().map_err(text),
        (None, Some(variable), None, None) => {
            let secret =
                if random { ClientSecret::assume_random_from_env(variable) } else { ClientSecret::from_env(variable) };
            secret.and_then(StoredSecret::try_from).map_err(text)
        }
        (None, None, Some(path), None) => {
            let path = source.resolve(path);
            let content = read_file(&path).map_err(|error| {
                format!("cannot read {}: {error}; put the secret there, on one line", path.display())
            })?;
            let line = content.strip_suffix('\n').unwrap_or(&content);
            take(line).and_then(StoredSecret::try_from).map_err(text)
        }
        (None, None, None, Some(plain)) => take(plain).and_then(StoredSecret::try_from).map_err(text),
        (None, None, None, None) => Err(format!("it has no secret; give it one of {SECRETS}")),
        _ => Err(format!("it has several secrets; keep one of {SECRETS}")),
    }
}

fn routes(
    config: &Config,
    source: &Source,
    server: &AuthorizationServer,
    events: Option<&EventSender>,
) -> Result<Router, Mistake> {
    let default = default_resource(config, source)?.map(|resource| &resource.audience);
    let mut router = Router::new();
    let mut paths = HashSet::from([LIVE, READY]);
    for route in &config.routes {
        let (route, mistake) = (route.get_ref(), |why: String| source.mistake_at(route.span(), why));
        let path = route.path.as_str();
        if !is_plain_path(path) {
            return Err(mistake(format!("`{path}` is not a path; write one like /api/read, without parameters")));
        }
        if !paths.insert(path) {
            return Err(mistake(format!("duplicate path `{path}`; give each route a path of its own")));
        }
        let audience = route.audience.as_ref().or(default).ok_or_else(|| {
            mistake(format!("`{path}` has no audience; give it one, or mark a resource as the default"))
        })?;
        let verifier = server.verifier(audience).map_err(|error| mistake(error.to_string()))?;
        let mut protect = BearerAuthLayer::new(verifier);
        if let Some(scope) = &route.scope {
            if !config.tokens.scope.contains(scope) {
                return Err(mistake(format!("unknown scope `{scope}`; add it to tokens.scope")));
            }
            protect = protect.require_scope(scope.clone());
        }
        if let Some(events) = events {
            protect = protect.events(events.clone());
        }
        if route.grpc_refusals == Some(false) {
            protect = protect.without_grpc_refusals();
        }
        router = router.route(path, any(whoami).layer(protect));
    }
    Ok(router)
}

/// Returns the path if axum takes it literally.
fn is_plain_path(path: &str) -> bool {
    let characters = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    path.starts_with('/') && path.bytes().all(characters)
}

/// Returns the claims of the caller's token.
async fn whoami(token: VerifiedToken) -> Json<Value> {
    Json(json!({
        "client_id": token.client_id(),
        "subject": token.subject(),
        "scope": token.scopes().as_str(),
        "audiences": token.audiences().collect::<Vec<_>>(),
    }))
}

const LIVE: &str = "/health/live";
const READY: &str = "/health/ready";

/// Live means that the process answers. Ready means that it should receive requests.
pub(crate) fn health_routes(readiness: impl Fn() -> Readiness + Clone + Send + Sync + 'static) -> Router {
    let ready = async move || answer(&readiness());
    Router::new().route(LIVE, get(StatusCode::NO_CONTENT)).route(READY, get(ready))
}

fn answer(Readiness { is_ready, keys }: &Readiness) -> Response {
    match keys {
        None if *is_ready => StatusCode::NO_CONTENT.into_response(),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Some(keys) => {
            let status = if *is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            (status, Json(json!({ "keys": keys::status_json(keys) }))).into_response()
        }
    }
}

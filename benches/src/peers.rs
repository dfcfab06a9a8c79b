//! Other implementations, each set up as its own documentation describes, with its keys loaded in advance: none fetches
//! anything during the measurement.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{FromRef, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use oxide_auth::endpoint::{OwnerConsent, Solicitation};
use oxide_auth::frontends::simple::endpoint::{FnSolicitor, client_credentials_flow};
use oxide_auth::frontends::simple::request::{Request as OxideRequest, Status};
use oxide_auth::primitives::generator::RandomGenerator;
use oxide_auth::primitives::issuer::TokenMap;
use oxide_auth::primitives::registrar::{Client, ClientMap, PasswordPolicy, RegisteredUrl, RegistrarError};
use serde_json::Value;

use crate::subject::{API, ISSUER};

const ROUTE: &str = "/invoices";

/// Two of the peers enable both backends of jsonwebtoken 11, which then panics unless one is selected. This selects the faster
/// one.
pub fn settle_jsonwebtoken() {
    let _ = jsonwebtoken11::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}

pub async fn jwt_authorizer(jwks: &str) -> axum07::Router {
    use jwt_authorizer::{IntoLayer as _, JwtAuthorizer, Validation};
    let validation = Validation::new().iss(&[ISSUER]).aud(&[API]);
    let authorizer: jwt_authorizer::Authorizer<Value> =
        JwtAuthorizer::from_jwks_text(jwks).validation(validation).build().await.unwrap();
    axum07::Router::new().route(ROUTE, axum07::routing::get(async || "invoices")).layer(authorizer.into_layer())
}

#[derive(Clone, FromRef)]
struct WithDecoder {
    decoder: axum_jwt_auth::Decoder<Value>,
}

pub fn axum_jwt_auth(jwks: &str) -> Router {
    use jsonwebtoken10::jwk::JwkSet;
    use jsonwebtoken10::{Algorithm, DecodingKey, Validation};
    let jwks: JwkSet = serde_json::from_str(jwks).unwrap();
    let keys = jwks.keys.iter().map(|key| DecodingKey::from_jwk(key).unwrap()).collect();
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_audience(&[API]);
    validation.set_issuer(&[ISSUER]);
    let decoder = axum_jwt_auth::LocalDecoder::builder().keys(keys).validation(validation).build().unwrap();
    let handler = async |_: axum_jwt_auth::Claims<Value>| "invoices";
    Router::new().route(ROUTE, get(handler)).with_state(WithDecoder { decoder: Arc::new(decoder) })
}

pub async fn tower_oauth2_resource_server(jwks: &str) -> Router {
    use tower_oauth2_resource_server::server::OAuth2ResourceServer;
    use tower_oauth2_resource_server::tenant::TenantConfiguration;
    use tower_oauth2_resource_server::validation::ClaimsValidationSpec;
    let claims = ClaimsValidationSpec::new().iss(ISSUER).exp(true).aud(&vec![API.to_owned()]);
    let tenant = TenantConfiguration::static_builder(jwks).audiences(&[API]).claims_validation(claims).build().unwrap();
    let server = <OAuth2ResourceServer>::builder().add_tenant(tenant).build().await.unwrap();
    Router::new().route(ROUTE, get(async || "invoices")).layer(server.into_layer())
}

pub fn oauth_resource_server(jwks: &str) -> Router {
    use oauth_resource_server::http_layer::HttpAuthLayer;
    use oauth_resource_server::{KeyNaming, OAuthConfig, OAuthValidator};
    let config = OAuthConfig {
        enabled: true,
        issuer: ISSUER.to_owned(),
        audience: API.to_owned(),
        resource: API.to_owned(),
        required_scopes: vec!["invoices:read".to_owned()],
        ..OAuthConfig::default()
    };
    let config = config.resolve(KeyNaming::Dotted("oauth")).unwrap().unwrap();
    let validator = OAuthValidator::builder(&config).initial_jwks(jwks).build().unwrap();
    let layer = HttpAuthLayer::builder().oauth(Arc::new(validator)).build().unwrap();
    Router::new().route(ROUTE, get(async || "invoices")).layer(layer)
}

/// By default, oxide-auth hashes secrets as if people had chosen them. This compares digests, as our server does for generated
/// secrets.
struct Digests;

impl PasswordPolicy for Digests {
    fn store(&self, _: &str, secret: &[u8]) -> Vec<u8> {
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, secret).as_ref().to_vec()
    }

    fn check(&self, id: &str, secret: &[u8], stored: &[u8]) -> Result<(), RegistrarError> {
        let digest = self.store(id, secret);
        aws_lc_rs::constant_time::verify_slices_are_equal(&digest, stored).map_err(|_| RegistrarError::Unspecified)
    }
}

struct Oxide {
    registrar: ClientMap,
    issuer: Mutex<TokenMap<RandomGenerator>>,
}

/// Random tokens, which are kept in memory.
pub fn oxide_auth(clients: impl IntoIterator<Item = String>, secret: &str) -> Router {
    let mut registrar = ClientMap::new();
    registrar.set_password_policy(Digests);
    for id in clients {
        let url = RegisteredUrl::Semantic("https://client.example.com/".parse().unwrap());
        registrar.register_client(Client::confidential(&id, url, "invoices:read".parse().unwrap(), secret.as_bytes()));
    }
    let issuer = Mutex::new(TokenMap::new(RandomGenerator::new(32)));
    Router::new().route("/token", post(oxide_token)).with_state(Arc::new(Oxide { registrar, issuer }))
}

async fn oxide_token(State(oxide): State<Arc<Oxide>>, headers: HeaderMap, body: Bytes) -> Response {
    let auth = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let Ok(urlbody) = serde_urlencoded::from_bytes(&body) else { return StatusCode::BAD_REQUEST.into_response() };
    let request = OxideRequest { query: HashMap::new(), urlbody, auth };
    let mut solicitor = FnSolicitor(|_: &mut OxideRequest, about: Solicitation<'_>| {
        OwnerConsent::Authorized(about.pre_grant().client_id.clone())
    });
    let mut issuer = oxide.issuer.lock().unwrap();
    let answer = client_credentials_flow(&oxide.registrar, &mut *issuer, &mut solicitor).execute(request);
    match answer {
        Ok(answer) if answer.status == Status::Ok => {
            let body = answer.body.map(|body| body.as_str().to_owned()).unwrap_or_default();
            ([(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
        _ => StatusCode::UNAUTHORIZED.into_response(),
    }
}

mod authkestra {
    use super::*;
    use authkestra_engine::store::memory::MemoryStore;
    use authkestra_engine::token::TokenManager;
    use authkestra_op::handlers::token::{TokenRequest, handle_token};
    use authkestra_op::store::CompositeOpStore;
    use authkestra_op::{ClientRegistration, GrantType, OpConfig};

    #[derive(Clone)]
    struct Op {
        clients: MemoryStore<ClientRegistration>,
        codes: MemoryStore<authkestra_op::AuthorizationCode>,
        refresh: MemoryStore<authkestra_op::refresh::RefreshToken>,
        devices: MemoryStore<authkestra_op::device::DeviceCodeSession>,
        config: Arc<OpConfig>,
        tokens: Arc<TokenManager>,
    }

    /// Uses EdDSA, since it has no ES256, and a client without a secret, since it would hash a secret as if a person had chosen
    /// it.
    #[allow(deprecated)] // a field that has to be there
    pub async fn router(clients: impl IntoIterator<Item = String>) -> Router {
        use authkestra_engine::store::KvStore as _;
        let (registry, year) = (MemoryStore::new(), std::time::Duration::from_secs(31_536_000));
        for id in clients {
            let client = ClientRegistration {
                client_id: id.clone(),
                client_secret_hash: None,
                redirect_uris: vec![],
                grant_types: vec![GrantType::ClientCredentials],
                scopes: vec!["invoices:read".to_owned()],
                require_pkce: false,
                allowed_audiences: vec![API.to_owned()],
                token_endpoint_auth_method: None,
                jwks: None,
            };
            registry.set(&id, client, year).await.unwrap();
        }
        let config = OpConfig {
            issuer: ISSUER.to_owned(),
            scopes_supported: vec!["invoices:read".to_owned()],
            response_types_supported: vec!["code".to_owned()],
            grant_types_supported: vec!["client_credentials".to_owned()],
            id_token_signing_alg: "EdDSA".to_owned(),
            authorization_code_ttl_secs: 60,
            access_token_ttl_secs: 600,
            device_code_ttl_secs: 600,
            token_exchange_enabled: false,
        };
        let key = include_bytes!("../../tests/keys/ed25519.pem");
        let tokens = TokenManager::new_ed25519(key, Some(ISSUER.to_owned()), Some("k".to_owned())).unwrap();
        let op = Op {
            clients: registry,
            codes: MemoryStore::new(),
            refresh: MemoryStore::new(),
            devices: MemoryStore::new(),
            config: Arc::new(config),
            tokens: Arc::new(tokens),
        };
        Router::new().route("/token", post(token)).with_state(op)
    }

    async fn token(State(op): State<Op>, body: Bytes) -> Response {
        let Ok(request) = serde_urlencoded::from_bytes::<TokenRequest>(&body) else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        let mut store = CompositeOpStore::new(op.clients, op.codes, op.refresh, op.devices);
        match handle_token(request, None, &op.config, &mut store, &op.tokens).await {
            Ok(answer) => {
                let json = serde_json::to_vec(&answer).unwrap();
                ([(header::CONTENT_TYPE, "application/json")], json).into_response()
            }
            Err(error) => (StatusCode::UNAUTHORIZED, error.error_description).into_response(),
        }
    }
}

pub use authkestra::router as authkestra;

//! A resource server in a separate process, which knows only the URL of its issuer.
//!
//! ```text
//! cargo run --example standalone -- --config examples/standalone.toml
//! cargo run --example remote_issuer --features axum,remote
//! TOKEN=$(curl -s -u svc-basic:basic-secret-for-demonstrations -d grant_type=client_credentials -d scope=read \
//!     http://127.0.0.1:3000/token | sed 's/.*"access_token":"\([^"]*\)".*/\1/')
//! curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:3001/invoices
//! ```
//!
//! The processes can start in any order. After the issuer is stopped, a caller with a token is still admitted. The variables
//! ISSUER and LISTEN set other addresses. `DANGEROUS_PLAIN_HTTP=true` accepts an issuer such as `http://keycloak:8080` in a
//! compose file, and `USE_ENVIRONMENT_PROXY=true` sends requests to the issuer through the proxy that `HTTPS_PROXY` names.

#![allow(clippy::print_stdout)] // prints the listening address

#[path = "common/failure.rs"]
mod failure;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Router, routing::get};
use tower_client_credentials::{BearerAuthLayer, RemoteIssuer, Scope, VerifiedToken, Verifier};

use self::failure::Failure;

const API: &str = "https://api.example.test/";
const READ: Scope = Scope::from_static("read");

#[tokio::main]
async fn main() -> Result<(), Failure> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let setting = |name, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());

    let mut issuer = RemoteIssuer::new(setting("ISSUER", "http://127.0.0.1:3000"), API)?;
    if setting("DANGEROUS_PLAIN_HTTP", "") == "true" {
        issuer = issuer.dangerous_plain_http();
    }
    if setting("USE_ENVIRONMENT_PROXY", "") == "true" {
        issuer = issuer.use_environment_proxy();
    }
    // Alternatively, `connect().await` waits for the keys before the service starts.
    let verifier = issuer.build()?;
    let protect = BearerAuthLayer::new(verifier.clone()).require_scope(READ);

    let app = Router::new()
        .route("/invoices", get(invoices).layer(protect))
        .route("/health/ready", get(ready).with_state(verifier));

    let listener = tokio::net::TcpListener::bind(setting("LISTEN", "127.0.0.1:3001")).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

async fn invoices(token: VerifiedToken) -> String {
    format!("invoices for {}\n", token.client_id())
}

/// The readiness check for a load balancer. With several issuers, `is_ready` is true as soon as the tokens of one of them can
/// be verified; `verifier.readiness()` lists all of them, for alerting.
async fn ready(State(verifier): State<Verifier>) -> StatusCode {
    if verifier.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

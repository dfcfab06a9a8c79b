//! Both server layers around an axum service: one issues tokens, the other requires them on a route.
//!
//! Run `cargo run --features axum --example quickstart`, then paste the two `curl` lines that it prints.

#![allow(clippy::print_stdout)] // its output is for people

#[path = "common/failure.rs"]
mod failure;

use axum::{Router, routing::get};
use tower_client_credentials::{
    AuthorizationServer, BearerAuthLayer, Client, ClientSecret, KeyRing, MemoryStore, Scope, TokenEndpointLayer,
    VerifiedToken,
};

use self::failure::Failure;

const ISSUER: &str = "http://127.0.0.1:3000";
const API: &str = "https://api.example.com";
const READ: Scope = Scope::from_static("invoices:read");

#[tokio::main]
async fn main() -> Result<(), Failure> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).init();

    let clients = MemoryStore::try_from([Client::new("billing", secret()?).scope(READ).audience(API)])?;
    let server = AuthorizationServer::new(ISSUER, KeyRing::generate()?, clients)?;
    let protect = BearerAuthLayer::new(server.verifier(API)?).require_scope(READ);

    let app = Router::new().route("/invoices", get(invoices).layer(protect)).layer(TokenEndpointLayer::new(server));

    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app).await?;
    Ok(())
}

async fn invoices(token: VerifiedToken) -> String {
    format!("invoices for {}\n", token.client_id())
}

/// Returns the client's secret from the environment, or generates one and prints two commands that use it.
fn secret() -> Result<ClientSecret, Failure> {
    const VARIABLE: &str = "BILLING_SECRET";
    if std::env::var_os(VARIABLE).is_some() {
        return Ok(ClientSecret::from_env(VARIABLE)?);
    }
    let secret = ClientSecret::generate()?;
    println!("{VARIABLE} is not set. These commands get and use a token with a secret for this run:\n");
    println!(
        "TOKEN=$(curl -s -u billing:{} -d grant_type=client_credentials -d scope={READ} {ISSUER}/token | \
         sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/')",
        secret.expose()
    );
    println!("curl -H \"Authorization: Bearer $TOKEN\" {ISSUER}/invoices\n");
    Ok(secret)
}

//! An MCP server (Model Context Protocol, streamable HTTP) that requires a token. Its metadata (RFC 9728) directs clients from
//! the refusal to the issuer, which runs in the same process here.
//!
//! Run `MCP_SECRET=… cargo run --example mcp`, then `curl -i -X POST http://127.0.0.1:3000/mcp`, and follow
//! `resource_metadata`.

#![allow(clippy::print_stdout)] // its output is for people

#[path = "common/failure.rs"]
mod failure;

use std::sync::Arc;

use axum::Router;
use rmcp::handler::server::tool::Extension;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{tool, tool_router};
use tokio::net::TcpListener;
use tower_client_credentials::authorization_server::ClientAssertions;
use tower_client_credentials::registration::Credential;
use tower_client_credentials::resource_server::{ResourceMetadata, ResourceMetadataLayer};
use tower_client_credentials::{
    AuthorizationServer, BearerAuthLayer, Client, ClientSecret, KeyRing, MemoryStore, Scope, TokenEndpointLayer,
    VerifiedToken,
};

use self::failure::Failure;

const USE: Scope = Scope::from_static("mcp:use");

#[derive(Clone)]
struct Tools;

#[tool_router(server_handler)]
impl Tools {
    /// The head of the HTTP request is in the extensions of a call, and the proof is in the extensions of that head.
    #[tool(description = "Who is calling")]
    fn whoami(Extension(head): Extension<http::request::Parts>) -> String {
        let caller = head.extensions.get::<VerifiedToken>().map(|token| token.client_id().to_string());
        caller.unwrap_or_else(|| "nobody".to_owned())
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    let issuer = format!("http://{}", listener.local_addr()?);
    let resource = format!("{issuer}/mcp");

    // By default, the TypeScript SDK requests no scope. Such a client gets the default scopes.
    let agent =
        Client::new("agent", ClientSecret::from_env("MCP_SECRET")?).scope(USE).default_scopes(USE).audience(&resource);
    // MCP clients require an authorization endpoint in the metadata, also for client credentials.
    let mut clients = vec![agent];
    // A client with a key of its own instead of a secret (RFC 7523), if its public keys are given.
    if let Ok(keys) = std::env::var("MCP_JWKS") {
        let signing = Client::with_credential("agent-key", Credential::jwks(keys)?);
        clients.push(signing.scope(USE).default_scopes(USE).audience(&resource));
    }
    let clients = MemoryStore::try_from(clients)?;
    let server = AuthorizationServer::builder(&issuer, KeyRing::generate()?, clients.clone())
        .authorization_path("/authorize")
        .client_assertions(ClientAssertions::new(clients))
        .build()?;
    let metadata = ResourceMetadata::builder(&resource)
        .authorization_server(&issuer)
        .scopes_supported(USE)
        .name("Who is calling")
        .build()?;
    let protect = BearerAuthLayer::new(server.verifier(&resource)?).require_scope(USE).resource_metadata(&metadata)?;

    let mcp: StreamableHttpService<Tools, LocalSessionManager> =
        StreamableHttpService::new(|| Ok(Tools), Arc::default(), StreamableHttpServerConfig::default());
    let app = Router::new()
        .route_service("/mcp", mcp)
        .layer(protect)
        .layer(ResourceMetadataLayer::new(metadata))
        .layer(TokenEndpointLayer::new(server));

    println!("{resource}");
    axum::serve(listener, app).await?;
    Ok(())
}

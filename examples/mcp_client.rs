//! A client of an MCP server: it finds the authorization server of the MCP server, authenticates with the client-credentials grant,
//! and lists the tools.
//!
//! `MCP_CLIENT_ID=agent MCP_CLIENT_SECRET=… cargo run --features remote --example mcp_client -- https://mcp.example.com/mcp`. With a
//! PEM key in `MCP_PRIVATE_KEY` in place of the secret, it authenticates by `private_key_jwt`.

#![allow(clippy::print_stdout)] // its output is for people

#[path = "common/failure.rs"]
mod failure;

use bytes::Bytes;
use http::{Request, Response, header};
use serde_json::{Value, json};
use tower::{BoxError, Layer as _, Service, ServiceExt as _, service_fn};
use tower_client_credentials::client::{ClientAuthentication, SecretSource};
use tower_client_credentials::{ClientCredentials, ClientCredentialsLayer, Scope, Scopes, SigningKey};

use self::failure::Failure;

const PROTOCOL: &str = "2025-11-25";

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let url = std::env::args().nth(1).ok_or("the URL of the MCP server is missing")?;
    // Redirects are not followed: a redirected request would carry a token that is not meant for its destination.
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let http = service_fn(move |request: Request<Bytes>| {
        let client = client.clone();
        async move {
            let response = client.execute(reqwest::Request::try_from(request)?).await?;
            let mut answer = Response::builder().status(response.status());
            if let Some(headers) = answer.headers_mut() {
                headers.clone_from(response.headers());
            }
            Ok::<_, BoxError>(answer.body(response.bytes().await?)?)
        }
    });

    // A service that knows its issuer names it here. This program trusts the one that the MCP server names when it is first used.
    let (resource, named) = metadata(&mut http.clone(), &url).await?;
    let issuer = std::env::var("MCP_ISSUER").unwrap_or(named);
    let authentication = match std::env::var("MCP_PRIVATE_KEY") {
        Ok(pem) => ClientAuthentication::private_key_jwt(SigningKey::from_pem(&pem)?),
        Err(_) => SecretSource::from_env("MCP_CLIENT_SECRET").into(),
    };
    let client_id = std::env::var("MCP_CLIENT_ID")?;
    // More scopes are requested only if they are in this list.
    let more: Scopes = [Scope::from_static("mcp:basic"), Scope::from_static("mcp:write")].into_iter().collect();
    let credentials = ClientCredentials::new(issuer, client_id, authentication).max_scopes(more);
    let mut mcp = ClientCredentialsLayer::discover(resource, [credentials])?.layer(http);

    let hello = json!({
        "protocolVersion": PROTOCOL, "capabilities": {},
        "clientInfo": {"name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION")},
    });
    let (welcome, session) =
        call(&mut mcp, &url, None, json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello})).await?;
    println!("connected to {}", welcome.pointer("/result/serverInfo/name").unwrap_or(&Value::Null));
    call(&mut mcp, &url, session.clone(), json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await?;
    let (tools, _) =
        call(&mut mcp, &url, session, json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {}})).await?;
    println!("tools: {}", tools.pointer("/result/tools").unwrap_or(&Value::Null));
    Ok(())
}

/// Returns the resource and the first authorization server in the metadata of the MCP server (RFC 9728 §3.1).
async fn metadata<S>(http: &mut S, url: &str) -> Result<(String, String), BoxError>
where
    S: Service<Request<Bytes>, Response = Response<Bytes>, Error: Into<BoxError>>,
{
    let uri: http::Uri = url.parse()?;
    let (scheme, host) = (uri.scheme_str().unwrap_or_default(), uri.authority().ok_or("the URL has no host")?);
    let path = if uri.path() == "/" { "" } else { uri.path() };
    let root = format!("{scheme}://{host}/.well-known/oauth-protected-resource");
    let mut answer = send(http, Request::get(format!("{root}{path}")).body(Bytes::new())?).await?;
    if !answer.status().is_success() {
        answer = send(http, Request::get(root).body(Bytes::new())?).await?;
    }
    let metadata: Value = serde_json::from_slice(answer.body())?;
    let text = |pointer: &str| metadata.pointer(pointer).and_then(Value::as_str);
    let issuer = text("/authorization_servers/0").ok_or("the MCP server names no authorization server")?;
    // The metadata may be for the whole host of the MCP server, and for no other one.
    let resource = text("/resource").filter(|resource| *resource == format!("{scheme}://{host}")).unwrap_or(url);
    Ok((resource.to_owned(), issuer.to_owned()))
}

/// Sends one message (MCP, transport Streamable HTTP). Returns the answer and the session.
async fn call<S>(
    mcp: &mut S,
    url: &str,
    session: Option<String>,
    message: Value,
) -> Result<(Value, Option<String>), BoxError>
where
    S: Service<Request<Bytes>, Response = Response<Bytes>, Error: Into<BoxError>>,
{
    let mut request = Request::post(url)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, text/event-stream")
        .header("mcp-protocol-version", PROTOCOL);
    if let Some(session) = &session {
        request = request.header("mcp-session-id", session);
    }
    let answer = send(mcp, request.body(message.to_string().into())?).await?;
    if !answer.status().is_success() {
        return Err(format!("the MCP server answered {}", answer.status()).into());
    }
    let session = answer.headers().get("mcp-session-id").and_then(|id| id.to_str().ok()).map(str::to_owned).or(session);
    let text = std::str::from_utf8(answer.body())?;
    // The answer is JSON, or the data of an event.
    let json = text.lines().find_map(|line| line.strip_prefix("data:")).unwrap_or(text);
    Ok((serde_json::from_str(json).unwrap_or_default(), session))
}

async fn send<S>(service: &mut S, request: Request<Bytes>) -> Result<Response<Bytes>, BoxError>
where
    S: Service<Request<Bytes>, Response = Response<Bytes>, Error: Into<BoxError>>,
{
    let ready = service.ready().await.map_err(Into::into)?;
    ready.call(request).await.map_err(Into::into)
}

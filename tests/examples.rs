//! The examples that are separate programs: their output, and their interoperability; and the quick-start of the README, as a
//! newcomer copies it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::request::{GRANT, TokenRequest, post};
use common::stack::{Answer, Protocol, Site};
use common::{READ, forge};
use http::HeaderName;
use http::header::{ACCEPT, AUTHORIZATION};
use rmcp::transport::auth::{AuthError, ClientCredentialsConfig, JwtSigningAlgorithm, OAuthState};
use serde_json::{Value, json};
use tower_client_credentials::authorization_server::ClientAssertions;
use tower_client_credentials::registration::Credential;
use tower_client_credentials::resource_server::{ResourceMetadata, ResourceMetadataLayer};
use tower_client_credentials::{
    AuthorizationServer, BearerAuthLayer, Client, ClientAuthMethod, KeyRing, MemoryStore, TokenEndpointLayer,
    VerifiedToken,
};

/// An example, built by `cargo test` together with this test.
fn example(name: &str) -> Command {
    let mut path = std::env::current_exe().unwrap();
    path.pop(); // the test
    path.pop(); // deps
    path.push("examples");
    path.push(name);
    assert!(path.exists(), "{} is not built: cargo build --example {name}", path.display());
    let mut command = Command::new(path);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

#[test]
fn tonic_is_refused_without_a_token_and_served_with_one_from_the_same_port() {
    let output = example("tonic").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    let expected = "without a token: Unauthenticated, an access token is needed\n\
                    with a token: [\"invoice 1 for billing\", \"invoice 2 for billing\"]\n\
                    with another: [\"invoice 1 for billing\", \"invoice 2 for billing\"]\n";
    assert_eq!(said, expected);
}

#[test]
fn the_error_that_ends_an_example_is_a_sentence_with_its_causes() {
    for (name, arguments) in [("tonic", &["nowhere"][..]), ("mcp", &["127.0.0.1:99999"]), ("pkcs11", &[])] {
        let output = example(name).args(arguments).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        assert!(said.starts_with("Error: ") && !said.contains(['{', '"']), "{name}: {said}");
    }
}

#[cfg(feature = "remote")]
#[test]
fn client_calls_with_hyper_with_reqwest_and_without_a_layer() {
    let output = example("client").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    let expected = "hyper: invoices for billing\n\
                    reqwest: invoices for billing\n\
                    without a layer: invoices for billing\n\
                    another host: the request was not sent\n\
                    1 token was requested for 3 calls\n";
    assert_eq!(said, expected);
}

const README: &str = include_str!("../README.md");

/// Returns the code blocks under a heading of the README: language and text.
fn blocks(heading: &str) -> Vec<(&'static str, &'static str)> {
    let (_, section) = README.split_once(&format!("\n## {heading}\n")).expect("the heading");
    let (section, _) = section.split_once("\n## ").expect("another heading after it");
    section.split("```").skip(1).step_by(2).map(|block| block.split_once('\n').unwrap()).collect()
}

/// A new package outside of the repository, with the dependencies that the README adds.
struct Newcomer {
    folder: tempfile::TempDir,
}

impl Newcomer {
    /// Runs the lines of `cargo add`, but takes this crate from here. Cargo's cache has every version of the lock file, so no
    /// network is needed.
    fn adds(lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let package = "[package]\nname = \"newcomer\"\nversion = \"0.0.0\"\nedition = \"2024\"\n";
        fs::write(folder.path().join("Cargo.toml"), package).unwrap();
        fs::create_dir(folder.path().join("src")).unwrap();
        fs::write(folder.path().join("src/main.rs"), "fn main() {}").unwrap();
        fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock"), folder.path().join("Cargo.lock")).unwrap();
        let newcomer = Self { folder };
        for line in lines.lines() {
            let arguments = line.strip_prefix("cargo ").expect("a line of Cargo").split(' ');
            let mut add = newcomer.cargo();
            add.args(arguments.flat_map(|argument| match argument {
                "tower-client-credentials" => vec!["--path", env!("CARGO_MANIFEST_DIR")],
                other => vec![other],
            }));
            let output = add.arg("--offline").output().unwrap();
            assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        }
        newcomer
    }

    fn cargo(&self) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.current_dir(self.folder.path());
        cargo
    }

    /// Returns the compiler errors of a program.
    fn compile(&self, program: &str) -> Result<(), String> {
        fs::write(self.folder.path().join("src/main.rs"), program).unwrap();
        // The target directory of `tests/bare`, which has the same dependencies, built without the features of the tests.
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bare");
        let output = self.cargo().args(["check", "--offline", "--target-dir"]).arg(target).output().unwrap();
        output.status.success().then_some(()).ok_or_else(|| String::from_utf8(output.stderr).unwrap())
    }
}

#[test]
fn the_quick_starts_of_the_readme_compile_with_their_own_cargo_add_lines() {
    let blocks = blocks("Quick-start");
    let [
        ("sh", lines),
        ("rust,no_run", program),
        ("sh", _),
        ("rust,no_run", protect),
        ("sh", lines_of_call),
        ("rust,no_run", call),
    ] = &*blocks
    else {
        panic!("{blocks:?}")
    };
    let caller = Newcomer::adds(lines_of_call);
    caller.compile(call).unwrap_or_else(|error| panic!("{error}"));
    let protecting = Newcomer::adds(&lines.replace("--features axum", "--features axum,remote"));
    protecting.compile(protect).unwrap_or_else(|error| panic!("{error}"));

    let newcomer = Newcomer::adds(lines);
    newcomer.compile(program).unwrap_or_else(|error| panic!("{error}"));

    // The features come only from these lines; otherwise this test could not fail.
    let plain = lines.lines().map(|line| line.split(" --features").next().unwrap()).collect::<Vec<_>>().join("\n");
    let error = Newcomer::adds(&plain).compile(program).expect_err("no feature is on");
    assert!(error.contains("VerifiedToken"), "{error}");

    // A type that signs any token exists only for tests.
    let error = newcomer.compile("use tower_client_credentials::verification::TestIssuer;\nfn main() {}").unwrap_err();
    assert!(error.contains("TestIssuer") && error.contains("test-util"), "{error}");
}

/// An MCP server, which ends with the test.
struct Mcp {
    child: Child,
    resource: String,
    site: Site,
}

const SECRET: &str = "correct-horse-battery-staple";

impl Mcp {
    fn start() -> Self {
        let mut child = example("mcp").arg("127.0.0.1:0").env("MCP_SECRET", SECRET).spawn().unwrap();
        let mut resource = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut resource).unwrap();
        let resource = resource.trim().to_owned();
        let address = resource.strip_prefix("http://").unwrap().strip_suffix("/mcp").unwrap().parse().unwrap();
        Self { child, resource, site: Site::at(address, Protocol::Http1) }
    }

    /// Returns the path of a URL from the server.
    fn path<'a>(&self, url: &'a Value) -> &'a str {
        let origin = self.resource.strip_suffix("/mcp").unwrap();
        url.as_str().unwrap().strip_prefix(origin).expect("a URL of this server")
    }
}

impl Drop for Mcp {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// rmcp refuses metadata without an authorization endpoint.
#[tokio::test]
async fn rmcp_reads_the_metadata_of_the_mcp_example() {
    let mcp = Mcp::start();
    let issuer = mcp.resource.strip_suffix("/mcp").unwrap();
    let manager = rmcp::transport::auth::AuthorizationManager::new(&mcp.resource).await.unwrap();
    let resolution = manager.resolve_metadata().await.unwrap();
    assert!(resolution.source.is_discovered(), "{resolution:?}");
    let metadata = resolution.metadata;
    assert_eq!(metadata.issuer.as_deref(), Some(issuer));
    assert_eq!(metadata.token_endpoint, format!("{issuer}/token"));
    assert_eq!(metadata.authorization_endpoint, format!("{issuer}/authorize"));
    assert_eq!(metadata.response_types_supported, Some(vec!["none".to_owned()]));
    let answer = mcp.site.get("/authorize?response_type=code&client_id=agent").await;
    assert_eq!((answer.status.as_u16(), answer.json()["error"].as_str()), (400, Some("unsupported_response_type")));
}

fn message(body: &Value) -> TokenRequest {
    post(body.to_string())
        .to("/mcp")
        .content_types(&["application/json"])
        .header(ACCEPT, "application/json, text/event-stream")
}

fn initialize() -> TokenRequest {
    message(&json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {
            "protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"},
        },
    }))
}

/// Returns the result of a call, from a JSON document or from the last of several server-sent events.
fn result(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    let body = std::str::from_utf8(&answer.body).unwrap();
    let json = body.lines().rev().find_map(|line| line.strip_prefix("data:").filter(|data| !data.trim().is_empty()));
    let message: Value = serde_json::from_str(json.unwrap_or(body)).unwrap();
    message["result"].clone()
}

/// Follows the path of a discovering client: from the refusal to the metadata of the resource, to that of its issuer, to the
/// token.
#[tokio::test]
async fn mcp_directs_a_client_from_the_refusal_to_the_token_that_is_accepted() {
    let mcp = Mcp::start();
    let refused = mcp.site.send(initialize()).await;
    assert_eq!(refused.status, 401, "{refused:?}");
    let challenge = refused.header("www-authenticate").unwrap();
    let (_, metadata) = challenge.split_once("resource_metadata=\"").expect("the URL of the metadata");
    let metadata = json!(metadata.strip_suffix('"').unwrap());

    let metadata = mcp.site.get(mcp.path(&metadata)).await.json();
    assert_eq!(metadata["resource"], mcp.resource.as_str(), "RFC 9728 §3.3");
    assert_eq!(mcp.path(&metadata["authorization_servers"][0]), "");
    let issuer = mcp.site.get("/.well-known/oauth-authorization-server").await.json();
    assert_eq!(issuer["issuer"], metadata["authorization_servers"][0], "RFC 8414 §3.3");

    let request = post(GRANT)
        .basic("agent", SECRET)
        .param("resource", metadata["resource"].as_str().unwrap())
        .param("scope", metadata["scopes_supported"][0].as_str().unwrap())
        .to(mcp.path(&issuer["token_endpoint"]));
    let bearer = format!("Bearer {}", mcp.site.send(request).await.assert_token());

    let initialized = mcp.site.send(initialize().header(AUTHORIZATION, &bearer)).await;
    assert_eq!(result(&initialized)["protocolVersion"], "2025-03-26");
    let session = initialized.header("mcp-session-id").unwrap();
    let in_session = |body: Value| {
        message(&body).header(AUTHORIZATION, &bearer).header(HeaderName::from_static("mcp-session-id"), session)
    };
    let notified = mcp.site.send(in_session(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))).await;
    assert_eq!(notified.status, 202, "{notified:?}");
    let call =
        json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "whoami", "arguments": {}}});
    let called = mcp.site.send(in_session(call.clone())).await;
    assert_eq!(result(&called)["content"][0]["text"], "agent");

    // The session does not replace the token: each message needs it.
    let stolen = message(&call).header(HeaderName::from_static("mcp-session-id"), session);
    assert_eq!(mcp.site.send(stolen).await.status, 401);
}

/// A resource and its issuer on a port of their own, with a client for each method. Returns the URL of the resource.
async fn discoverable() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = format!("http://{}", listener.local_addr().unwrap());
    let resource = format!("{issuer}/mcp");
    let point = forge::signing_key().verifying_key().to_encoded_point(false);
    let (x, y) = (forge::encode(point.x().unwrap()), forge::encode(point.y().unwrap()));
    let keys = json!({"keys": [{"kty": "EC", "crv": "P-256", "x": x, "y": y}]}).to_string();
    let clients = [
        Client::with_credential("key", Credential::jwks(keys).unwrap()),
        common::client("post").authentication(ClientAuthMethod::ClientSecretPost),
    ];
    let clients = clients.map(|client| client.scope(READ).default_scopes(READ).audience(&resource));
    let clients = MemoryStore::try_from(clients).unwrap();
    let server = AuthorizationServer::builder(&issuer, KeyRing::generate().unwrap(), clients.clone())
        .authorization_path("/authorize")
        .client_assertions(ClientAssertions::new(clients))
        .build()
        .unwrap();
    let metadata = ResourceMetadata::builder(&resource).authorization_server(&issuer).build().unwrap();
    let protect = BearerAuthLayer::new(server.verifier(&resource).unwrap());
    let protect = protect.require_scope(READ).resource_metadata(&metadata).unwrap();
    let whoami = axum::routing::get(async |token: VerifiedToken| token.client_id().to_string()).layer(protect);
    let app = axum::Router::new()
        .route("/mcp", whoami)
        .layer(ResourceMetadataLayer::new(metadata))
        .layer(TokenEndpointLayer::new(server));
    tokio::spawn(async { axum::serve(listener, app).await.unwrap() });
    resource
}

/// rmcp goes from the metadata of the resource (RFC 9728) to that of its issuer (RFC 8414), and requests a token there. Returns the
/// name that the resource has for the caller.
async fn caller_by_rmcp(resource: &str, config: ClientCredentialsConfig) -> Result<String, AuthError> {
    let mut state = OAuthState::new(resource, None).await.unwrap();
    state.authenticate_client_credentials(config).await?;
    let token = state.into_authorization_manager().unwrap().get_access_token().await.unwrap();
    let answer = reqwest::Client::new().get(resource).bearer_auth(token).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    Ok(answer.text().await.unwrap())
}

fn key_of_rmcp(resource: &str, client: &str, audience: Option<&str>) -> ClientCredentialsConfig {
    ClientCredentialsConfig::PrivateKeyJwt {
        client_id: client.to_owned(),
        signing_key: common::KEY.as_bytes().to_vec(),
        signing_algorithm: JwtSigningAlgorithm::ES256,
        token_endpoint_audience: audience.map(ToOwned::to_owned),
        scopes: vec![READ.to_string()],
        resource: Some(resource.to_owned()),
    }
}

#[tokio::test]
async fn rmcp_discovers_the_issuer_and_gets_a_token_by_private_key_jwt_and_by_a_secret() {
    let resource = discoverable().await;
    assert_eq!(caller_by_rmcp(&resource, key_of_rmcp(&resource, "key", None)).await.unwrap(), "key");
    let secret = ClientCredentialsConfig::ClientSecret {
        client_id: "post".to_owned(),
        client_secret: common::SECRET.clone(),
        scopes: vec![READ.to_string()],
        resource: Some(resource.clone()),
    };
    assert_eq!(caller_by_rmcp(&resource, secret).await.unwrap(), "post");
}

#[tokio::test]
async fn rmcp_with_another_audience_or_as_another_client_is_refused() {
    let resource = discoverable().await;
    let token_endpoint = resource.replace("/mcp", "/token");
    for config in [key_of_rmcp(&resource, "key", Some(&token_endpoint)), key_of_rmcp(&resource, "post", None)] {
        let error = caller_by_rmcp(&resource, config).await.unwrap_err().to_string();
        assert!(error.contains("invalid_client"), "{error}");
    }
}

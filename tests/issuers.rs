//! Issuers in separate processes, whose tokens our resource server verifies over sockets while their keys change:
//! `oidc-provider` (npm), `authlib` (Python), and our `standalone`.
//!
//! `scripts/test-issuers` installs them and sets their locations.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use std::process::Stdio;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::forge;
use common::request::{TokenRequest, post};
use common::stack::{Answer, Protocol, Site, Stack};
use http::StatusCode;
use http_body_util::Full;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tower::{Layer as _, Service as _, ServiceExt as _};
use tower_client_credentials::client::SecretSource;
use tower_client_credentials::{
    BearerAuthLayer, ClientCredentials, ClientCredentialsLayer, ClientSecret, Introspection, RemoteIssuer, Scope,
    Verifier,
};

const API: &str = "https://api.example.test/";
const OPAQUE_API: &str = "https://opaque.example.test/";
const BILLING_SECRET: &str = "billing-secret-that-is-long-enough"; // authlib does not decode one (RFC 6749 §2.3.1)
const READ: Scope = Scope::from_static("invoices:read");

/// A process that prints its address, and is ended when this is dropped.
struct Process {
    child: Child,
    /// Kept open, because a process that writes to a closed pipe ends.
    _output: BufReader<ChildStdout>,
    url: String,
    site: Site,
}

impl Process {
    async fn start(mut command: Command) -> Self {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("{error}: {command:?}; see scripts/test-issuers"));
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let read = tokio::time::timeout(Duration::from_secs(60), output.read_line(&mut line)).await;
        read.expect("a line in time").unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}")).to_owned();
        let address = url.strip_prefix("http://").unwrap().parse().unwrap();
        Self { child, _output: output, site: Site::at(address, Protocol::Http1), url }
    }

    /// Ends the process, and waits until its address is free.
    async fn stop(mut self) {
        self.child.kill().await.unwrap();
    }

    async fn token(&self, request: TokenRequest) -> String {
        let answer = self.site.send(request).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }

    async fn rotate(&self) {
        assert_eq!(self.site.send(post("").to("/rotate")).await.status, 200);
    }
}

fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run scripts/test-issuers"))
}

fn oidc_provider() -> Command {
    let mut command = Command::new(setting("ISSUERS_NODE"));
    command.arg("tests/issuers/node/issuer.js");
    command
}

fn authlib() -> Command {
    let mut command = Command::new(setting("ISSUERS_PYTHON"));
    command.arg("tests/issuers/python/issuer.py");
    command
}

/// Starts `standalone` at an address, with a key.
fn standalone(listen: &str, key: &str) -> Command {
    let mut command = Command::new(format!("{}/standalone", setting("ISSUERS_EXAMPLES")));
    command.args(["--config", "examples/standalone.toml"]).env("TCC_LISTEN", listen).env("TCC_ISSUER", "");
    command.env("TCC_KEYS_GENERATE", "").env("TCC_KEYS_SIGN", std::fs::canonicalize(key).unwrap());
    command
}

fn billing_asks(resource: &str) -> TokenRequest {
    let request = post("grant_type=client_credentials&scope=invoices%3Aread");
    request.param("resource", resource).basic("billing", BILLING_SECRET)
}

fn svc_basic_asks() -> TokenRequest {
    post("grant_type=client_credentials&scope=read").basic("svc-basic", "basic-secret-for-demonstrations")
}

/// Our resource server.
async fn protected(verifier: Verifier, scope: Scope) -> Site {
    Stack::PLAIN.protect(&common::server(), [BearerAuthLayer::new(verifier).require_scope(scope)]).await
}

async fn show(site: &Site, token: &str) -> Answer {
    site.get_authorized(&format!("Bearer {token}")).await
}

/// Unknown keys are fetched at once, so that the test does not have to wait between two rotations.
fn issuer(url: &str) -> RemoteIssuer {
    RemoteIssuer::new(url, API).unwrap().unknown_key_cooldown(Duration::ZERO)
}

/// Checks that tokens of this issuer open a route before and after its keys change, without a restart, and that tokens of a key
/// that it no longer publishes do not.
async fn keys_change(issuer_process: &Process, request: impl Fn() -> TokenRequest, scope: Scope) {
    let site = protected(issuer(&issuer_process.url).connect().await.unwrap(), scope).await;
    let mut tokens = Vec::new();
    for _ in 0..3 {
        let token = issuer_process.token(request()).await;
        let answer = show(&site, &token).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["token"]["issuer"], issuer_process.url);
        println!("kid {} opens the route", forge::parts(&token).0["kid"]);
        tokens.push(token);
        issuer_process.rotate().await;
    }
    let [first, second, third] = tokens.try_into().unwrap();
    // The key set fetched for the third token contains the second token's key, and no longer the first one's.
    assert_eq!(show(&site, &third).await.status, 200);
    assert_eq!(show(&site, &second).await.status, 200);
    assert_eq!(show(&site, &first).await.status, 401);
    println!("kid {} is trusted no longer", forge::parts(&first).0["kid"]);
    let (signed, _) = third.rsplit_once('.').unwrap();
    assert_eq!(show(&site, &format!("{signed}.{}", forge::encode([1; 64]))).await.status, 401, "a forged signature");
}

#[tokio::test]
async fn oidc_provider_can_rotate_its_keys() {
    let provider = Process::start(oidc_provider()).await;
    keys_change(&provider, || billing_asks(API), READ).await;
    // A token for another API is refused here.
    let wrong = RemoteIssuer::new(&provider.url, "https://other.example.test/").unwrap().connect().await.unwrap();
    let token = provider.token(billing_asks(API)).await;
    assert_eq!(show(&protected(wrong, READ).await, &token).await.status, 401);
}

#[tokio::test]
async fn authlib_can_rotate_its_keys() {
    let server = Process::start(authlib()).await;
    keys_change(&server, || billing_asks(API), READ).await;
}

/// The calling side finds their token endpoints, and replaces a token whose key they no longer publish.
#[tokio::test]
async fn a_calling_service_gets_tokens_of_others_and_replaces_those_of_a_former_key() {
    for (name, command) in [("oidc-provider", oidc_provider()), ("authlib", authlib())] {
        let process = Process::start(command).await;
        let site = protected(issuer(&process.url).connect().await.unwrap(), READ).await;
        let credentials = ClientCredentials::new(&process.url, "billing", SecretSource::from_value(BILLING_SECRET));
        let source = credentials.resource(API).scope(READ).build().unwrap();
        let client = HyperClient::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let layer = ClientCredentialsLayer::from_source(source.clone(), site.url("/")).unwrap();
        let mut service = layer.layer(client);
        let mut call = async || {
            let request = http::Request::get(site.url("/")).body(Full::default()).unwrap();
            service.ready().await.unwrap().call(request).await.unwrap().status()
        };
        assert_eq!((call().await, call().await), (StatusCode::OK, StatusCode::OK), "{name}");
        assert_eq!(source.statistics().obtained, 1, "{name}");
        // With the second rotation, the key of the token is published no longer; a token of the new key makes the resource server
        // fetch the keys.
        process.rotate().await;
        process.rotate().await;
        let token = process.token(billing_asks(API)).await;
        assert_eq!(show(&site, &token).await.status, 200, "{name}");
        assert_eq!(call().await, StatusCode::OK, "{name}");
        let statistics = source.statistics();
        assert_eq!((statistics.obtained, statistics.refused), (2, 1), "{name}");
        println!("{name}: a calling service replaced the token of a former key");
    }
}

#[tokio::test]
async fn several_issuers_are_accepted_side_by_side() {
    let (one, other) = (Process::start(oidc_provider()).await, Process::start(authlib()).await);
    let both = issuer(&one.url).connect().await.unwrap().or(issuer(&other.url).connect().await.unwrap()).unwrap();
    let site = protected(both, READ).await;
    for process in [&one, &other] {
        let token = process.token(billing_asks(API)).await;
        assert_eq!(show(&site, &token).await.json()["token"]["issuer"], process.url);
    }
}

#[tokio::test]
async fn opaque_tokens_of_oidc_provider_are_introspected_until_they_are_revoked() {
    let provider = Process::start(oidc_provider()).await;
    let keys = issuer(&provider.url).connect().await.unwrap();
    let asks = || {
        let secret = ClientSecret::new("the secret of the api: long enough").unwrap();
        Introspection::new(&provider.url, OPAQUE_API)
            .unwrap()
            .at(format!("{}/token/introspection", provider.url))
            .unwrap()
            .client_secret_basic("the api", secret)
            .unwrap()
            .believed_for(Duration::ZERO)
    };
    for (what, introspection) in [("plain", asks()), ("signed (RFC 9701)", asks().signed_answers(&keys).unwrap())] {
        let site = protected(introspection.build().unwrap(), READ).await;
        let token = provider.token(billing_asks(OPAQUE_API)).await;
        let answer = show(&site, &token).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["token"]["client_id"], "billing");
        let revoke = post("").param("token", &token).basic("billing", BILLING_SECRET);
        assert_eq!(provider.site.send(revoke.to("/token/revocation")).await.status, 200);
        let answer = show(&site, &token).await;
        assert_eq!(answer.status, 401, "{answer:?}");
        println!("{what} answers: admitted, and refused once it was revoked");
    }
    // The issuer stops, and the token cannot be verified.
    let site = protected(asks().build().unwrap(), READ).await;
    provider.stop().await;
    let answer = show(&site, "opaque").await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, Some("1")), "{answer:?}");
    assert_eq!(answer.header("www-authenticate"), None);
}

#[tokio::test]
async fn standalone_can_return_with_another_key() {
    let old = Process::start(standalone("127.0.0.1:0", "tests/keys/p256.pem")).await;
    let url = old.url.clone();
    let site = protected(issuer(&url).connect().await.unwrap(), Scope::from_static("read")).await;
    let token = old.token(svc_basic_asks()).await;
    assert_eq!(show(&site, &token).await.status, 200);
    old.stop().await;
    assert_eq!(show(&site, &token).await.status, 200, "while the issuer is gone");
    let new = Process::start(standalone(url.strip_prefix("http://").unwrap(), "tests/keys/ed25519.pem")).await;
    let next = new.token(svc_basic_asks()).await;
    assert_ne!(forge::parts(&token).0["kid"], forge::parts(&next).0["kid"]);
    assert_eq!(show(&site, &next).await.status, 200);
    assert_eq!(show(&site, &token).await.status, 401, "its key is published no longer");
}

#[tokio::test]
async fn the_example_starts_before_its_issuer_and_recovers_when_it_is_available() {
    let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = reserved.local_addr().unwrap().to_string();
    let mut command = Command::new(format!("{}/remote_issuer", setting("ISSUERS_EXAMPLES")));
    command.env("ISSUER", format!("http://{address}")).env("LISTEN", "127.0.0.1:0");
    drop(reserved);
    let example = Process::start(command).await;
    assert_eq!(example.site.get("/health/ready").await.status, 503);
    let issuer = Process::start(standalone(&address, "tests/keys/p256.pem")).await;
    let started = Instant::now();
    while example.site.get("/health/ready").await.status != 200 {
        assert!(started.elapsed() < Duration::from_secs(60), "it does not recover");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("ready {:?} after its issuer", started.elapsed());
    let token = issuer.token(svc_basic_asks()).await;
    let request = http::Request::get("/invoices").header("authorization", format!("Bearer {token}"));
    let answer = example.site.send(request.body(common::stack::Body::default()).unwrap()).await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"invoices for svc-basic\n"[..]));
}

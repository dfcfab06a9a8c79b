//! Requests to an issuer, over sockets: the proxy of the environment, plain http, and a proxy in front of an issuer with a
//! path.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use common::request::{GRANT, billing_asks, post};
use common::stack::{Protocol, Site};
use common::{API, SECRET, client, clients};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;
use tower_client_credentials::authorization_server::{AuthorizationServerBuilder, ConfigError};
use tower_client_credentials::{
    AuthorizationServer, ClientSecret, Introspection, KeyRing, MemoryStore, RemoteIssuer, Revocations,
    TokenEndpointLayer, VerifiedToken,
};

fn store() -> MemoryStore {
    let api = client("api").without_grant().introspects(API);
    MemoryStore::try_from(clients().into_iter().chain([api]).collect::<Vec<_>>()).unwrap()
}

/// An issuer at this host, on its own port.
async fn issuer_at(host: &str) -> Option<(String, Site)> {
    let listener = TcpListener::bind(format!("{host}:0")).await.ok()?;
    let address = listener.local_addr().unwrap();
    let issuer = format!("http://{host}:{}", address.port());
    let server = AuthorizationServer::builder(&issuer, KeyRing::generate().unwrap(), store())
        .introspection_path("/introspect")
        .build()
        .unwrap();
    let app: Router = Router::new().layer(TokenEndpointLayer::new(server));
    tokio::spawn(async move { axum::serve(listener, app).await });
    Some((issuer, Site::at(address, Protocol::Http1)))
}

/// A malicious proxy: it records each request, and answers for every host with its own keys.
struct HostileProxy {
    address: SocketAddr,
    keys: AuthorizationServer,
    seen: Arc<Mutex<Vec<String>>>,
}

/// An issuer that is only reachable through the proxy.
const FAR: &str = "http://auth.example.test";

impl HostileProxy {
    /// `plays` is the issuer in whose name it signs tokens.
    async fn playing(plays: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let builder = AuthorizationServer::builder(plays, KeyRing::generate().unwrap(), store());
        let keys = builder.dangerous_plain_http().build().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let app: Router = Router::new().layer(TokenEndpointLayer::new(keys.clone()));
        let noted = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, app.clone(), noted.clone()));
            }
        });
        Self { address, keys, seen }
    }

    async fn forged_token(&self) -> String {
        let request: http::Request<common::stack::Body> = billing_asks(GRANT).into();
        let response = self.keys.token_service().oneshot(request).await.unwrap();
        common::stack::Answer::read(response).await.json()["access_token"].as_str().unwrap().to_owned()
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

/// One request, as received. The response is that of `app` for the path.
async fn answer(mut stream: TcpStream, app: Router, noted: Arc<Mutex<Vec<String>>>) -> std::io::Result<()> {
    let mut text = Vec::new();
    while !text.windows(4).any(|four| four == b"\r\n\r\n") {
        if stream.read_buf(&mut text).await? == 0 {
            break;
        }
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let target = text.split(' ').nth(1).unwrap_or_default().parse::<Uri>().unwrap_or_default();
    noted.lock().unwrap().push(text);
    // A tunnel (CONNECT) has no path, and is refused here.
    let path = if target.path().is_empty() { "/" } else { target.path() };
    let request = Request::get(path).body(axum::body::Body::empty()).unwrap();
    let answer = common::stack::Answer::read(app.oneshot(request).await.unwrap()).await;
    let head = format!(
        "HTTP/1.1 {} X\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        answer.status.as_u16(),
        answer.body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&answer.body).await
}

/// The input of the process below, and its report.
const TASK: &str = "TCC_TEST_TASK";
const REPORT: &str = "report: ";

/// A resource server in a separate process, since all tests of a process share its environment.
#[ignore = "started by the tests below, with the variables that they choose"]
#[tokio::test]
async fn the_resource_server_that_the_other_tests_start() {
    let Ok(task) = std::env::var(TASK) else { return };
    let task: Value = serde_json::from_str(&task).unwrap();
    let text = |name: &str| task[name].as_str().unwrap();
    let opted_in = task["use_environment_proxy"] == true;
    let mut remote = RemoteIssuer::new(text("issuer"), API)
        .unwrap()
        .connect_timeout(Duration::from_secs(task["patience"].as_u64().unwrap()));
    let secret = ClientSecret::new(text("secret")).unwrap();
    let mut asking = Introspection::new(text("issuer"), API).unwrap().client_secret_basic("api", secret).unwrap();
    asking = asking.at(format!("{}/introspect", text("issuer"))).unwrap();
    if opted_in {
        (remote, asking) = (remote.use_environment_proxy(), asking.use_environment_proxy());
    }
    if task["dangerous_plain_http"] == true {
        (remote, asking) = (remote.dangerous_plain_http(), asking.dangerous_plain_http());
    }
    let said = |verified: Result<VerifiedToken, _>| {
        verified.map_or_else(
            |error: tower_client_credentials::verification::VerifyError| error.to_string(),
            |_| "admitted".to_owned(),
        )
    };
    let (good, forged) = match remote.connect().await {
        Ok(verifier) => (said(verifier.verify(text("good")).await), said(verifier.verify(text("forged")).await)),
        Err(error) => (error.to_string(), error.to_string()),
    };
    let introspected = said(asking.build().unwrap().verify(text("good")).await);
    println!("{REPORT}{}", json!({"good": good, "forged": forged, "introspected": introspected}));
}

/// Runs that process with these proxy variables, and returns its report.
async fn resource_server(proxy: &HostileProxy, variables: &[&str], task: &Value) -> Value {
    let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_resource_server_that_the_other_tests_start", "--ignored", "--nocapture"]);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUEST_METHOD"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    for name in variables {
        command.env(name, format!("http://{}", proxy.address));
    }
    let output = command.env(TASK, task.to_string()).stderr(Stdio::inherit()).output().await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let report = said.lines().find_map(|line| line.split_once(REPORT)).unwrap_or_else(|| panic!("no report: {said}"));
    serde_json::from_str(report.1).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_to_this_machine_goes_through_the_proxy_of_the_environment() {
    let all = &["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"][..];
    let mut hosts = 0;
    for host in ["127.0.0.1", "localhost", "[::1]"] {
        let Some((issuer, site)) = issuer_at(host).await else {
            println!("{host}: there is no such address on this machine");
            continue;
        };
        hosts += 1;
        let good = site.send(billing_asks(GRANT)).await.json()["access_token"].as_str().unwrap().to_owned();
        for (variables, opted_in) in [(&all[..1], false), (&all[4..5], false), (all, false), (all, true)] {
            let proxy = HostileProxy::playing(&issuer).await;
            let task = json!({
                "issuer": issuer, "good": good, "forged": proxy.forged_token().await, "secret": *SECRET,
                "use_environment_proxy": opted_in, "patience": 20,
            });
            let report = resource_server(&proxy, variables, &task).await;
            let seen = proxy.seen();
            println!("{issuer}, {variables:?}, opted in: {opted_in}: {} requests at the proxy, {report}", seen.len());
            assert_eq!(seen, Vec::<String>::new(), "{host} {variables:?}");
            assert_eq!((&report["good"], &report["introspected"]), (&json!("admitted"), &json!("admitted")));
            assert_ne!(report["forged"], "admitted", "a token of the proxy's own key");
        }
    }
    assert!(hosts >= 2, "only {hosts} hosts were tried");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_to_other_hosts_go_through_the_proxy_of_the_environment_only_if_enabled() {
    let proxy = HostileProxy::playing(FAR).await;
    let task = |issuer: &str, opted_in: bool| {
        json!({
            "issuer": issuer, "good": "opaque", "forged": "opaque", "secret": *SECRET,
            "use_environment_proxy": opted_in, "dangerous_plain_http": true, "patience": 1,
        })
    };
    let all = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];
    let https = FAR.replace("http://", "https://");
    for issuer in [FAR, &https] {
        let report = resource_server(&proxy, &all, &task(issuer, false)).await;
        println!("{issuer}: {} requests at the proxy, {report}", proxy.seen().len());
        assert_eq!(proxy.seen(), Vec::<String>::new());
    }
    let report = resource_server(&proxy, &all, &task(&https, true)).await;
    let tunnels = proxy.seen().iter().filter(|seen| seen.starts_with("CONNECT auth.example.test:443")).count();
    println!("{https}, opted in: {tunnels} tunnels, {report}");
    assert!(tunnels >= 2 && tunnels == proxy.seen().len(), "{:?}", proxy.seen());
    let secrets = ["uthorization: Basic", "opaque"];
    assert!(!proxy.seen().iter().any(|seen| secrets.iter().any(|secret| seen.contains(secret))), "{:?}", proxy.seen());

    // The danger of plain http: the proxy answers for the issuer.
    let mut far = task(FAR, true);
    (far["good"], far["patience"]) = (proxy.forged_token().await.into(), 20.into());
    let report = resource_server(&proxy, &all, &far).await;
    println!("{FAR}, opted in: {} requests at the proxy, {report}", proxy.seen().len() - tunnels);
    assert_eq!(report["good"], "admitted");
    let asked = |line: &str| proxy.seen().iter().any(|seen| seen.starts_with(line));
    assert!(asked("GET http://auth.example.test/.well-known/oauth-authorization-server HTTP/1.1"));
    assert!(asked("POST http://auth.example.test/introspect HTTP/1.1"));
}

#[test]
fn plain_http_beyond_loopback_needs_the_setting_that_the_error_names() {
    let builder = |issuer: &str| AuthorizationServer::builder(issuer, KeyRing::generate().unwrap(), store());
    let inside = "http://keycloak:8080/realms/m";
    let error = builder(inside).build().unwrap_err();
    assert!(matches!(error, ConfigError::Issuer(_)) && error.to_string().contains("`dangerous_plain_http`"), "{error}");
    let error = builder("https://h").public_url("http://edge").build().unwrap_err();
    assert!(
        matches!(error, ConfigError::PublicUrl(_)) && error.to_string().contains("`dangerous_plain_http`"),
        "{error}"
    );
    let server = builder(inside).dangerous_plain_http().public_url("http://edge").build().unwrap();
    assert_eq!(server.issuer().as_str(), inside);
    for issuer in ["http://u@keycloak", "http://keycloak:99999", "http://[127.0.0.1]", "ftp://keycloak"] {
        assert!(builder(issuer).dangerous_plain_http().build().is_err(), "{issuer}");
        let error = builder("https://h").dangerous_plain_http().public_url(issuer).build().unwrap_err();
        assert!(matches!(error, ConfigError::PublicUrl(_)), "{issuer}: {error}");
    }
}

/// How a proxy treats the path of an issuer that shares its host.
#[derive(Clone, Copy, Debug)]
enum Prefix {
    Kept,
    Stripped,
}

/// A reverse proxy that sends `/auth/…` and the metadata path of RFC 8414 §3.1 to the issuer behind it, and nothing else.
async fn behind(prefix: Prefix, app: Router, mut request: Request) -> Response {
    let uri = request.uri().to_string();
    let below = uri.strip_prefix("/auth/");
    let forwarded = match (below, prefix) {
        (Some(rest), Prefix::Stripped) => format!("/{rest}"),
        (Some(_), Prefix::Kept) => uri,
        (None, _) if uri == "/.well-known/oauth-authorization-server/auth" => uri,
        (None, _) => return StatusCode::BAD_GATEWAY.into_response(),
    };
    *request.uri_mut() = forwarded.parse().unwrap();
    app.oneshot(request).await.unwrap()
}

async fn issuer_with_a_path(prefix: Prefix, settings: fn(AuthorizationServerBuilder) -> AuthorizationServerBuilder) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let issuer = format!("http://{address}/auth");
    let revocations = Revocations::follow(MemoryStore::default()).await.unwrap();
    let builder = AuthorizationServer::builder(&issuer, KeyRing::generate().unwrap(), store()).revocations(revocations);
    let server = settings(builder).build().unwrap();
    let app: Router = Router::new().layer(TokenEndpointLayer::new(server));
    let proxy = Router::new().fallback(move |request| behind(prefix, app.clone(), request));
    tokio::spawn(async move { axum::serve(listener, proxy).await });

    let site = Site::at(address, Protocol::Http1);
    let metadata = site.get("/.well-known/oauth-authorization-server/auth").await.json();
    let endpoint = |name: &str| {
        let url = metadata[name].as_str().unwrap_or_else(|| panic!("no {name}: {metadata}"));
        url.strip_prefix(&format!("http://{address}")).expect("a URL of the proxy").to_owned()
    };
    println!("{prefix:?}: {metadata}");
    assert_eq!(metadata["issuer"], issuer);
    let paths = ["token_endpoint", "jwks_uri", "introspection_endpoint", "revocation_endpoint"].map(endpoint);
    assert_eq!(paths, ["/auth/token", "/auth/.well-known/jwks.json", "/auth/introspect", "/auth/revoke"]);

    let token = site.send(billing_asks(GRANT).to(&paths[0])).await.json()["access_token"].as_str().unwrap().to_owned();
    let verifier = RemoteIssuer::new(&issuer, API).unwrap().connect().await.unwrap();
    assert_eq!(verifier.verify(&token).await.unwrap().client_id(), &"billing");
    let about = |path: &str, id: &str| post(format!("token={token}")).to(path).basic(id, &SECRET);
    assert_eq!(site.send(about(&paths[2], "api")).await.json()["active"], true);
    assert_eq!(site.send(about(&paths[3], "billing")).await.status, 200);
    assert_eq!(site.send(about(&paths[2], "api")).await.json()["active"], false);
    // The other paths of the host belong to other services.
    assert_eq!(site.send(billing_asks(GRANT).to("/token")).await.status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_with_a_path_behind_a_proxy_that_keeps_it_needs_no_further_setting() {
    issuer_with_a_path(Prefix::Kept, |builder| builder).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_with_a_path_behind_a_proxy_that_strips_it_needs_one_setting() {
    issuer_with_a_path(Prefix::Stripped, AuthorizationServerBuilder::proxy_strips_issuer_path).await;
}

#[test]
fn configured_paths_are_those_of_requests_as_they_arrive_behind_a_proxy_that_strips() {
    let builder = |issuer: &str| {
        AuthorizationServer::builder(issuer, KeyRing::generate().unwrap(), store()).proxy_strips_issuer_path()
    };
    assert!(builder("https://h/auth").token_path("/oauth/token").public_url("https://edge").build().is_ok());
    for issuer in ["https://h", "https://h/"] {
        let error = builder(issuer).build().unwrap_err().to_string();
        assert!(error.contains(issuer) && error.contains("proxy_strips_issuer_path"), "{error}");
    }
}

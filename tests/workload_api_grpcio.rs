//! The SPIFFE Workload API of a program in Python: Google's gRPC library, the messages that the package `spiffe` has from the
//! published `workloadapi.proto`, and SVIDs signed by `PyJWT`.
//!
//! `scripts/test-clients` runs it with the environment variable `WORKLOAD_API_PYTHON`, a Python with these packages.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tower::{ServiceExt as _, service_fn};
use tower_client_credentials::authorization_server::{ClientAssertions, TrustDomain};
use tower_client_credentials::client::{CachedTokenSource, ClientAuthentication, TokenSourceErrorKind};
use tower_client_credentials::registration::Credential;
use tower_client_credentials::workload_api::WorkloadApi;
use tower_client_credentials::{AuthorizationServer, Client, ClientCredentials, KeyRing, MemoryStore};

const ISSUER: &str = "https://auth.example.com";
const API: &str = "https://api.example.com";
const BILLING: &str = "spiffe://example.org/billing";

struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Agent {
    /// Starts the program, and waits until it listens.
    fn start(socket: &str) -> Self {
        let python =
            std::env::var("WORKLOAD_API_PYTHON").expect("run scripts/test-clients, which sets WORKLOAD_API_PYTHON");
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/python/workload_api.py");
        let mut child =
            Command::new(python).args([program, socket, ISSUER]).stdout(Stdio::piped()).spawn().expect("Python");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }
}

fn source(server: &AuthorizationServer, authentication: ClientAuthentication) -> CachedTokenSource {
    let server = server.clone();
    let endpoint = service_fn(move |request: Request<Full<Bytes>>| server.token_service().oneshot(request));
    ClientCredentials::new(ISSUER, BILLING, authentication)
        .resource(API)
        .token_endpoint(format!("{ISSUER}/token"))
        .http_service(endpoint)
        .build()
        .unwrap()
}

#[tokio::test]
async fn an_svid_and_the_bundle_that_verifies_it_come_from_the_same_agent() {
    let folder = tempfile::tempdir().unwrap();
    let socket = format!("unix://{}", folder.path().join("agent.sock").display());
    let _agent = Agent::start(&socket);
    let api = WorkloadApi::at(&socket).unwrap();
    let client = Client::with_credential(BILLING, Credential::spiffe_id(BILLING.parse().unwrap())).audience(API);
    let store = MemoryStore::try_from([client]).unwrap();
    let assertions =
        ClientAssertions::new(store.clone()).trust_domain(TrustDomain::from_workload_api("example.org", api.clone()));
    let server = AuthorizationServer::builder(ISSUER, KeyRing::generate().unwrap(), store);
    let server = server.client_assertions(assertions).build().unwrap();
    source(&server, ClientAuthentication::jwt_svid_of(api.clone(), BILLING)).token().await.unwrap();
    // The default identity is another workload, which is no client.
    let other = source(&server, ClientAuthentication::jwt_svid(api.clone())).token().await.unwrap_err();
    assert_eq!(other.kind(), TokenSourceErrorKind::Refused, "{other}");
    let none = source(&server, ClientAuthentication::jwt_svid_of(api, "spiffe://example.org/none")).token().await;
    let none = none.unwrap_err().to_string();
    assert!(none.contains("PermissionDenied") && none.contains("no identity issued"), "{none}");
}

//! The third-party client crate `oauth2` gets tokens and uses them, over sockets and on every stack.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use std::time::Duration;

use common::stack::{INVALID_TOKEN, Site, Stack, on_every_stack};
use common::{API, NOW, OTHER_API, READ, SECRET, WRONG_SECRET, at, client, clients, clock, server, settings};
use oauth2::basic::{BasicClient, BasicErrorResponse, BasicErrorResponseType, BasicTokenResponse, BasicTokenType};
use oauth2::{AuthType, ClientId, ClientSecret, RequestTokenError, Scope, TokenResponse as _, TokenUrl};
use serde_json::json;
use tower_client_credentials::{AuthorizationServer, BearerAuthLayer, MemoryStore};

type Refused = RequestTokenError<std::io::Error, BasicErrorResponse>;

/// A route that requires scope `invoices:read`.
async fn readable(stack: Stack, server: &AuthorizationServer) -> Site {
    stack.protect(server, [BearerAuthLayer::new(server.verifier(API).unwrap()).require_scope(READ)]).await
}

/// Sends a token request of the crate.
struct Caller<'a> {
    id: &'a str,
    secret: &'a str,
    method: AuthType,
    scope: &'a str,
    resources: &'a [&'a str],
}

/// `billing`, which authenticates by Basic.
fn billing() -> Caller<'static> {
    Caller { id: "billing", secret: &SECRET, method: AuthType::BasicAuth, scope: "invoices:read", resources: &[] }
}

/// `reports`, which authenticates in the body.
fn reports() -> Caller<'static> {
    Caller { id: "reports", method: AuthType::RequestBody, ..billing() }
}

impl Caller<'_> {
    async fn asks(&self, site: &Site) -> Result<BasicTokenResponse, Refused> {
        let client = BasicClient::new(ClientId::new(self.id.to_owned()))
            .set_client_secret(ClientSecret::new(self.secret.to_owned()))
            .set_auth_type(self.method.clone())
            .set_token_uri(TokenUrl::new(site.url("/token")).unwrap());
        let request = client.exchange_client_credentials().add_scopes(self.scopes());
        let request =
            self.resources.iter().fold(request, |request, resource| request.add_extra_param("resource", *resource));
        request.request_async(&|request| site.call(request)).await
    }

    fn scopes(&self) -> impl Iterator<Item = Scope> {
        self.scope.split(' ').map(|scope| Scope::new(scope.to_owned()))
    }

    /// Returns the error code that the crate reports for a refusal.
    async fn is_refused(&self, site: &Site) -> BasicErrorResponseType {
        match self.asks(site).await {
            Err(RequestTokenError::ServerResponse(refusal)) => refusal.error().clone(),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn it_gets_a_token_by_each_method_and_uses_it() {
    on_every_stack(async |stack| {
        let site = readable(stack, &server()).await;
        for caller in [billing(), reports()] {
            let token = caller.asks(&site).await.unwrap();
            assert_eq!(token.token_type(), &BasicTokenType::Bearer);
            assert_eq!(token.expires_in(), Some(Duration::from_secs(600)));
            assert_eq!(token.scopes(), Some(&vec![Scope::new("invoices:read".to_owned())]));
            assert!(token.refresh_token().is_none());
            let answer = site.get_authorized(&format!("Bearer {}", token.access_token().secret())).await;
            assert_eq!(answer.json()["token"]["client_id"], caller.id);
        }
    })
    .await;
}

#[tokio::test]
async fn it_gets_a_token_with_credentials_of_unusual_characters() {
    let (id, secret) = (r#"o:d%d+ &=/@?~" x"#, r#"s: %41+&=/@?~" \ "#);
    let hash = "$argon2id$v=19$m=8,t=1,p=1$cGVwcGVyLWFuZC1zYWx0IQ$k3UUTXUUcmIffflmWoqY281DLypxMM+riwXl5u0M1Vk";
    let stored: tower_client_credentials::secret::StoredSecret = hash.parse().unwrap();
    let odd = tower_client_credentials::Client::new(id, stored).scope(READ).audience(API);
    let server = settings(MemoryStore::try_from([odd]).unwrap()).build().unwrap();
    on_every_stack(async |stack| {
        let site = readable(stack, &server).await;
        Caller { id, secret, ..billing() }.asks(&site).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn it_gets_a_token_for_the_requested_resource() {
    let both = client("billing").scope(READ).audience(API).audience(OTHER_API);
    let server = settings(MemoryStore::try_from([both]).unwrap()).build().unwrap();
    on_every_stack(async |stack| {
        let site = readable(stack, &server).await;
        let use_token_for = async |resources: &[&str]| {
            let token = Caller { resources, ..billing() }.asks(&site).await.unwrap();
            site.get_authorized(&format!("Bearer {}", token.access_token().secret())).await
        };
        assert_eq!(use_token_for(&[API]).await.json()["token"]["audiences"], json!([API]));
        assert_eq!(use_token_for(&[API, OTHER_API]).await.json()["token"]["audiences"], json!([API, OTHER_API]));
        use_token_for(&[OTHER_API]).await.assert_challenged(401, &format!("{INVALID_TOKEN}, scope=\"{READ}\""));
        let refusal = billing().is_refused(&site).await;
        assert_eq!(refusal, BasicErrorResponseType::Extension("invalid_target".to_owned()));
    })
    .await;
}

#[tokio::test]
async fn it_reports_the_reason_of_a_refusal() {
    on_every_stack(async |stack| {
        let site = readable(stack, &server()).await;
        for caller in [
            Caller { secret: &WRONG_SECRET, ..billing() },
            Caller { secret: &WRONG_SECRET, ..reports() },
            Caller { id: "nobody", ..billing() },
            Caller { id: "nobody", ..reports() },
            Caller { id: "retired", ..billing() },
            Caller { method: AuthType::RequestBody, ..billing() },
            Caller { method: AuthType::BasicAuth, ..reports() },
        ] {
            assert_eq!(caller.is_refused(&site).await, BasicErrorResponseType::InvalidClient);
        }
        for scope in ["admin", "invoices:read admin", "invoices\"read"] {
            let refusal = Caller { scope, ..billing() }.is_refused(&site).await;
            assert_eq!(refusal, BasicErrorResponseType::InvalidScope);
        }
    })
    .await;
}

#[tokio::test]
async fn its_token_opens_the_route_only_with_the_scope_and_until_it_expires() {
    let clock = clock();
    let server = settings(MemoryStore::try_from(clients()).unwrap()).clock(clock.clone()).build().unwrap();
    on_every_stack(async |stack| {
        clock.set(at(NOW));
        let site = readable(stack, &server).await;
        let show = async |token: &BasicTokenResponse| {
            site.get_authorized(&format!("Bearer {}", token.access_token().secret())).await
        };
        let write = Caller { scope: "invoices:write", ..billing() }.asks(&site).await.unwrap();
        show(&write).await.assert_insufficient_scope(&[READ]);

        let read = billing().asks(&site).await.unwrap();
        assert_eq!(show(&read).await.status, 200);
        clock.advance(read.expires_in().unwrap() + Duration::from_secs(5));
        show(&read).await.assert_challenged(401, &format!("{INVALID_TOKEN}, scope=\"{READ}\""));
    })
    .await;
}

/// The example `standalone` with its own file, as a process that ends with the test.
mod against_standalone {
    use std::process::Stdio;

    use common::stack::{Framework, Protocol};
    use tokio::io::{AsyncBufReadExt as _, BufReader};
    use tokio::process::{Child, Command};

    use super::*;

    async fn standalone() -> (Child, std::net::SocketAddr) {
        let mut path = std::env::current_exe().unwrap();
        path.pop(); // the test
        path.pop(); // deps
        let mut child = Command::new(path.join("examples/standalone"))
            .args(["--config", concat!(env!("CARGO_MANIFEST_DIR"), "/examples/standalone.toml")])
            .envs([("TCC_LISTEN", "127.0.0.1:0"), ("TCC_ISSUER", ""), ("RUST_LOG", "off")])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the example, which `cargo test` builds together with this test");
        let line = BufReader::new(child.stdout.take().unwrap()).lines().next_line().await.unwrap().unwrap();
        (child, line.strip_prefix("listening on http://").unwrap().parse().unwrap())
    }

    #[tokio::test]
    async fn it_gets_a_token_of_each_client_and_uses_it() {
        let (_service, address) = standalone().await;
        let odd = ("svc-odd: % + & = / @ ? ~ \"", "odd secret: % + & = / @ ? ~ \"", AuthType::BasicAuth);
        let basic = ("svc-basic", "basic-secret-for-demonstrations", AuthType::BasicAuth);
        let post = ("svc-post", "post-secret-for-demonstrations", AuthType::RequestBody);
        for protocol in [Protocol::Http1, Protocol::H2c] {
            println!("on {:?}", (Framework::Axum, protocol));
            let site = Site::at(address, protocol);
            for (id, secret, method) in [basic.clone(), post.clone(), odd.clone()] {
                let caller = Caller { id, secret, method, scope: "read", resources: &[] };
                let token = caller.asks(&site).await.unwrap();
                let status = async |path: &str| {
                    let bearer = format!("Bearer {}", token.access_token().secret());
                    let request = http::Request::get(path).header("authorization", bearer);
                    site.send(request.body(common::stack::Body::default()).unwrap()).await.status.as_u16()
                };
                assert_eq!(
                    [status("/api/open").await, status("/api/read").await, status("/api/write").await],
                    [200, 200, 403]
                );
                let greedy = Caller { scope: "admin", ..caller };
                assert_eq!(greedy.is_refused(&site).await, BasicErrorResponseType::InvalidScope);
            }
        }
    }
}

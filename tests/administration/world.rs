//! A token service with an administration, its administrators, and requests to it.

use std::sync::Arc;

use http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, IF_MATCH};
use http::{HeaderName, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tower::{Layer as _, service_fn};
use tower_client_credentials::administration::{ClientAdministration, ClientAdministrationLayer};
use tower_client_credentials::authorization_server::{AuthorizationServer, ClientAssertions};
use tower_client_credentials::event::{self, EventReceiver};
use tower_client_credentials::registration::MayGrant;
use tower_client_credentials::store::{ClientAdmin, MemoryStore, RevocationStore};
use tower_client_credentials::{Client, KeyRing, Revocations, Scope, Scopes, TokenEndpointLayer};

use crate::common::request::{GRANT, post};
use crate::common::stack::{Answer, Body, Site, Stack};
use crate::common::{API, ISSUER, KEY, OTHER_API, SECRET, client};
use crate::workloads::{of_team, trusting};

/// The audience of the administration.
pub const ADMINISTRATION: &str = "https://auth.example.com/clients";

/// The server's default audience, which only `root` may grant.
pub const DEFAULT: &str = "https://default.example.com";

pub const READ: Scope = Scope::from_static("clients:read");
pub const WRITE: Scope = Scope::from_static("clients:write");
pub const MANAGE: Scope = Scope::from_static("clients:administrators");

#[derive(Clone)]
pub struct World {
    pub site: Site,
    pub store: Arc<dyn ClientAdmin>,
    pub events: Arc<tokio::sync::Mutex<EventReceiver>>,
}

fn administrator(id: &str, scopes: &[Scope], may_grant: MayGrant) -> Client {
    let defaults: Scopes = scopes.iter().cloned().collect();
    client(id).scopes(scopes.to_vec()).default_scopes(defaults).audience(ADMINISTRATION).may_grant(may_grant)
}

impl World {
    /// `root` may do everything, `other-root` too. `team` manages clients for one API and for its workloads, `other-team`
    /// for the API only, and `auditor` only reads.
    pub async fn with(store: impl ClientAdmin + RevocationStore + Clone) -> Self {
        Self::over(store.clone(), store).await
    }

    /// The administration works on `administered`, which leads to the same store.
    pub async fn over(administered: impl ClientAdmin, store: impl ClientAdmin + RevocationStore + Clone) -> Self {
        Self::revoking(administered, store.clone(), store).await
    }

    /// The revocations are in a store of their own.
    pub async fn revoking(
        administered: impl ClientAdmin,
        store: impl ClientAdmin + Clone,
        revocations: impl RevocationStore,
    ) -> Self {
        let invoices =
            MayGrant::new().scope(&crate::common::READ).scope(&crate::common::WRITE).audience(API.parse().unwrap());
        let all = [READ, WRITE, MANAGE];
        for client in [
            administrator("root", &all, MayGrant::everything()),
            administrator("other-root", &all, MayGrant::everything()),
            administrator("team", &[READ, WRITE], of_team(invoices.clone())),
            administrator("other-team", &[READ, WRITE], invoices),
            administrator("auditor", &[READ], MayGrant::new()),
            client("payments").scope(Scope::from_static("pay")).audience(OTHER_API),
        ] {
            store.create(client.register().unwrap()).await.unwrap();
        }
        let known: Scopes = [READ, WRITE, MANAGE, crate::common::READ, crate::common::WRITE, Scope::from_static("pay")]
            .into_iter()
            .collect();
        let (sender, events) = event::channel();
        let server = AuthorizationServer::builder(ISSUER, KeyRing::from_pem(KEY).unwrap(), store.clone())
            .default_audience(DEFAULT)
            .client_assertions(trusting(
                ClientAssertions::new(MemoryStore::default()).client_key_urls().client_secret_jwt(),
            ))
            .known_scopes(known)
            .revocations(Revocations::follow(revocations).await.unwrap())
            .store_timeout(crate::PATIENCE)
            .events(sender)
            .build()
            .unwrap();
        let administration = ClientAdministration::new(&server, administered, ADMINISTRATION).unwrap();
        let inner = service_fn(async |_: Request<_>| Ok(Response::new(Full::<hyper::body::Bytes>::from("inner"))));
        let service =
            ClientAdministrationLayer::new(administration).layer(TokenEndpointLayer::new(server).layer(inner));
        let site = Stack::PLAIN.serve::<_, _>(assert_service(service)).await;
        Self { site, store: Arc::new(store), events: Arc::new(tokio::sync::Mutex::new(events)) }
    }

    /// Requests a token with the secret that every client in the tests has.
    pub async fn token(&self, id: &str) -> String {
        self.token_with(id, &SECRET).await.unwrap_or_else(|answer| panic!("{answer:?}"))
    }

    pub async fn token_with(&self, id: &str, secret: &str) -> Result<String, Answer> {
        let answer = self.site.send_patiently(post(GRANT).basic(id, secret)).await;
        match answer.json()["access_token"].as_str() {
            Some(token) => Ok(token.to_owned()),
            None => Err(answer),
        }
    }

    /// Returns requests as this administrator.
    pub async fn by(&self, id: &str) -> Administrator {
        Administrator { world: self.clone(), token: self.token(id).await }
    }

    pub async fn exists(&self, id: &str) -> bool {
        self.store.load(&id.parse().unwrap()).await.unwrap().is_some()
    }
}

/// Fixes the type of the body.
fn assert_service<S: tower::Service<Request<Incoming>>>(service: S) -> S {
    service
}

/// An administrator with its token.
#[derive(Clone)]
pub struct Administrator {
    pub world: World,
    pub token: String,
}

impl Administrator {
    pub async fn send(&self, method: Method, path: &str, headers: &[(HeaderName, &str)], body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(AUTHORIZATION, format!("Bearer {}", self.token));
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let body: Body = Full::from(body.to_owned()).map_err(|never| match never {}).boxed_unsync();
        let answer = self.world.site.send_patiently(request.body(body).unwrap()).await;
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{answer:?}");
        answer
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, &[], &body.to_string()).await
    }

    /// Creates a client, and returns the answer to a request that must succeed.
    pub async fn creates(&self, body: Value) -> Value {
        let answer = self.post("/clients", &body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()
    }

    pub async fn tag(&self, id: &str) -> String {
        let answer = self.get(&format!("/clients/{id}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.header(ETAG).unwrap().to_owned()
    }

    /// Makes a change with the current version of the client.
    pub async fn change(&self, method: Method, id: &str, rest: &str, body: &str) -> Answer {
        let tag = self.tag(id).await;
        self.send(method, &format!("/clients/{id}{rest}"), &[(IF_MATCH, &tag)], body).await
    }

    pub async fn put(&self, id: &str, body: &Value) -> Answer {
        self.change(Method::PUT, id, "", &body.to_string()).await
    }
}

pub fn invoices() -> Value {
    json!({ "scope": "invoices:read", "audiences": [API], "client_name": "Billing" })
}

//! The grants of a server: known scopes and audiences, a hook for the final decision, clients without the grant.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::request::{GRANT, TokenRequest, billing_asks};
use common::stack::{Answer, Site, Stack, on_every_stack};
use common::{API, OTHER_API, READ, WRITE, client, clock, forge, settings};
use http::Extensions;
use serde_json::{Value, json};
use tower_client_credentials::authorization_server::{
    AttemptLimits, AuthorizationServerBuilder, GrantHook, GrantRefusal, HookFuture, PendingGrant,
};
use tower_client_credentials::event::{self, Outcome};
use tower_client_credentials::registration::RegisteredClient;
use tower_client_credentials::store::{AdminError, ClientAdmin as _, StoreFuture};
use tower_client_credentials::{AuthorizationServer, Client, ClientId, ClientStore, MemoryStore, Scope, Scopes};

const ADMIN: Scope = Scope::from_static("admin");

fn billing() -> Client {
    client("billing").scopes([READ, WRITE]).default_audience(API).audience(OTHER_API)
}

fn with_billing() -> AuthorizationServerBuilder {
    settings(MemoryStore::try_from([billing()]).unwrap())
}

/// Returns the response to a request for these scopes at these resources.
async fn asks(server: &AuthorizationServer, scope: &str, resources: &[&str]) -> Answer {
    let request = billing_asks(GRANT).param("scope", scope);
    let request = resources.iter().fold(request, |request, resource| request.param("resource", resource));
    send(server, request).await
}

/// Returns the response on one stack, after asserting that every stack gives an equal one.
async fn send(server: &AuthorizationServer, request: TokenRequest) -> Answer {
    let answer = Stack::PLAIN.issue(server).await.send(request.clone()).await;
    on_every_stack(async |stack| {
        let other = stack.issue(server).await.send(request.clone()).await;
        assert_eq!((other.status, other.json().get("scope")), (answer.status, answer.json().get("scope")));
    })
    .await;
    answer
}

fn claims(answer: &Answer) -> Value {
    forge::parts(&answer.assert_token()).1
}

fn mistake(server: AuthorizationServerBuilder) -> String {
    server.build().expect_err("a mistake").to_string()
}

mod known_scopes_and_audiences {
    use super::*;

    #[test]
    fn are_all_that_a_client_may_list() {
        let error = mistake(with_billing().known_scopes([READ]));
        assert!(error.starts_with("client `billing`: ") && error.contains("`invoices:write`"), "{error}");
        let error = mistake(with_billing().resource(API));
        assert!(error.starts_with("client `billing`: ") && error.contains(OTHER_API), "{error}");
        assert!(with_billing().known_scopes([READ, WRITE]).resource(API).resource(OTHER_API).build().is_ok());
        assert!(with_billing().resource(API).default_audience(OTHER_API).build().is_ok());
    }

    #[test]
    fn are_named_once_and_defaults_are_among_the_known_ones() {
        assert!(mistake(with_billing().resource_with_scopes(API, READ).resource(API)).contains("duplicate resource"));
        let known = || with_billing().known_scopes([READ, WRITE]);
        assert!(mistake(known().default_scopes(ADMIN)).contains("`admin`"));
        assert!(mistake(known().resource_with_scopes(API, ADMIN).resource(OTHER_API)).contains("`admin`"));
    }

    #[test]
    fn have_the_same_scopes_in_each_spelling() {
        const SLASH: &str = "HTTPS://api.example.com:443/";
        let server = || with_billing().resource(OTHER_API);
        for builder in [
            server().resource_with_scopes(API, READ).resource_with_scopes(SLASH, [READ, WRITE]),
            server().resource_with_scopes(API, [READ, WRITE]).resource_with_scopes(SLASH, READ),
            server().resource_with_scopes(API, READ).resource(SLASH),
            server().resource_with_scopes(API, READ).default_audience(SLASH),
        ] {
            let error = mistake(builder);
            assert!(error.starts_with(&format!("`{SLASH}` and `{API}` are spellings of one resource")), "{error}");
        }
        for builder in [
            server().resource(API).resource(SLASH).default_audience(SLASH),
            server().resource_with_scopes(API, [READ, WRITE]).resource_with_scopes(SLASH, [WRITE, READ]),
            server().resource_with_scopes(API, READ).resource_with_scopes("https://api.example.com/v2", WRITE),
        ] {
            assert!(builder.build().is_ok());
        }
    }

    #[test]
    fn must_be_absolute_uris() {
        for builder in [
            with_billing().resource("api"),
            with_billing().resource_with_scopes("api", READ),
            with_billing().default_audience("api"),
        ] {
            assert!(mistake(builder).contains("absolute URI"));
        }
    }

    #[test]
    fn a_client_that_could_never_get_an_audience_is_rejected() {
        let error = mistake(settings(MemoryStore::try_from([client("lost")]).unwrap()));
        assert!(error.starts_with("client `lost`: ") && error.contains(".audience("), "{error}");
        assert!(settings(MemoryStore::try_from([client("lost")]).unwrap()).default_audience(API).build().is_ok());
    }

    #[tokio::test]
    async fn scopes_of_an_audience_are_granted_only_for_it() {
        let server = with_billing()
            .resource_with_scopes(API, [READ, WRITE])
            .resource_with_scopes(OTHER_API, READ)
            .build()
            .unwrap();
        let both = "invoices:read invoices:write";
        assert_eq!(asks(&server, both, &[API]).await.json()["scope"], both);
        assert_eq!(asks(&server, both, &[OTHER_API]).await.json()["scope"], "invoices:read");
        let several = asks(&server, both, &[API, OTHER_API]).await;
        assert_eq!(several.json()["scope"], "invoices:read", "only scopes allowed at each resource");
        assert_eq!(claims(&several)["aud"], json!([API, OTHER_API]));
        asks(&server, "invoices:write", &[OTHER_API]).await.assert_refused(400, "invalid_scope");
    }
}

#[tokio::test]
async fn a_client_without_this_grant_is_unauthorized_once_it_is_authenticated() {
    let server = settings(MemoryStore::try_from([billing().without_grant()]).unwrap()).build().unwrap();
    on_every_stack(async |stack| {
        let site = stack.issue(&server).await;
        site.send(billing_asks(GRANT)).await.assert_refused(400, "unauthorized_client");
        let stranger = common::request::post(GRANT).basic("billing", &common::WRONG_SECRET);
        site.send(stranger).await.assert_refused(401, "invalid_client");
    })
    .await;
}

mod a_grant_hook {
    use super::*;

    fn hooked(
        hook: impl Fn(&mut PendingGrant) -> Result<(), GrantRefusal> + Send + Sync + 'static,
    ) -> AuthorizationServer {
        with_billing()
            .known_scopes([READ, WRITE, ADMIN])
            .resource_with_scopes(OTHER_API, READ)
            .resource(API)
            .grant_hook(hook)
            .build()
            .unwrap()
    }

    #[tokio::test]
    async fn narrows_the_scopes() {
        let server = hooked(|grant| {
            grant.set_scopes(READ);
            Ok(())
        });
        let answer = asks(&server, "invoices:read invoices:write", &[]).await;
        assert_eq!(
            (&answer.json()["scope"], &claims(&answer)["scope"]),
            (&json!("invoices:read"), &json!("invoices:read"))
        );
    }

    #[tokio::test]
    async fn extends_the_scopes_within_what_the_server_knows_and_each_resource_allows() {
        let server = hooked(|grant| {
            grant.set_scopes([READ, ADMIN, Scope::from_static("unheard-of")]);
            Ok(())
        });
        assert_eq!(asks(&server, "invoices:read", &[API]).await.json()["scope"], "invoices:read admin");
        assert_eq!(asks(&server, "invoices:read", &[OTHER_API]).await.json()["scope"], "invoices:read");
    }

    #[tokio::test]
    async fn cannot_extend_the_scopes_of_a_server_without_known_scopes() {
        let extend = |grant: &mut PendingGrant| {
            grant.set_scopes([READ, WRITE, ADMIN]);
            Ok(())
        };
        let server = with_billing().grant_hook(extend).build().unwrap();
        assert_eq!(asks(&server, "invoices:read", &[]).await.json()["scope"], "invoices:read invoices:write");
    }

    #[tokio::test]
    async fn adds_claims_and_response_members_and_cannot_replace_a_standard_one() {
        const CLAIMS: [&str; 11] =
            ["iss", "sub", "aud", "client_id", "iat", "exp", "nbf", "jti", "scope", "cnf", "act"];
        const MEMBERS: [&str; 8] = [
            "access_token",
            "token_type",
            "expires_in",
            "refresh_token",
            "scope",
            "error",
            "error_description",
            "error_uri",
        ];
        let server = hooked(|grant| {
            for name in CLAIMS {
                grant.add_claim(name, "stolen");
            }
            for name in MEMBERS {
                grant.add_response_member(name, "mac");
            }
            grant.add_claim("tenant", "acme");
            grant.add_response_member("hint", json!({"a": 1}));
            Ok(())
        });
        let answer = asks(&server, "invoices:read", &[]).await;
        let claims = claims(&answer);
        assert_eq!((&claims["tenant"], &answer.json()["hint"]), (&json!("acme"), &json!({"a": 1})));
        assert!(!claims.to_string().contains("stolen") && !answer.json().to_string().contains("mac\""), "{answer:?}");
    }

    #[tokio::test]
    async fn refuses_with_the_text_of_the_rfc_and_its_own_text_for_the_operator() {
        let scope = asks(&hooked(|_| Err(GrantRefusal::scope("not on Sundays"))), "invoices:read", &[]).await;
        scope.assert_refused(400, "invalid_scope");
        assert_eq!(scope.reason.as_deref(), Some("invalid_scope: client `billing`: not on Sundays"));
        let client = asks(&hooked(|_| Err(GrantRefusal::client("unpaid"))), "invoices:read", &[]).await;
        client.assert_refused(400, "unauthorized_client");
        assert!(!String::from_utf8_lossy(&client.body).contains("unpaid"));
        let unavailable = asks(&hooked(|_| Err(GrantRefusal::unavailable("no database"))), "invoices:read", &[]).await;
        unavailable.assert_refused(503, "temporarily_unavailable");
    }

    /// A policy that waits, and reads the request's extensions.
    struct Waiting;

    #[derive(Clone)]
    struct Tenant(&'static str);

    impl GrantHook for Waiting {
        fn decide<'a>(&'a self, grant: &'a mut PendingGrant, extensions: &'a Extensions) -> HookFuture<'a> {
            HookFuture::new(async move {
                tokio::task::yield_now().await;
                grant.add_claim("tenant", extensions.get::<Tenant>().map_or("none", |tenant| tenant.0));
                assert_eq!((grant.client().id().as_str(), grant.audiences().len()), ("billing", 1));
                assert_eq!(grant.scopes(), &Scopes::from(READ));
                Ok(())
            })
        }
    }

    #[tokio::test]
    async fn may_wait_and_read_the_extensions_of_the_request() {
        use tower::ServiceExt as _;
        let server = with_billing().grant_hook(Waiting).build().unwrap();
        let mut request = http::Request::from(billing_asks(GRANT).param("scope", "invoices:read"));
        request.extensions_mut().insert(Tenant("acme"));
        let response = server.token_service().oneshot(request).await.unwrap();
        assert_eq!(claims(&Answer::read(response).await)["tenant"], "acme");
    }
}

#[tokio::test]
async fn a_token_that_no_resource_server_would_accept_is_not_issued() {
    let hook = |grant: &mut PendingGrant| {
        grant.add_claim("everything", "x".repeat(16 * 1024));
        Ok(())
    };
    let server = with_billing().grant_hook(hook).build().unwrap();
    asks(&server, "invoices:read", &[]).await.assert_refused(503, "temporarily_unavailable");
}

/// A store that never answers, and one whose clients were never checked against the rules.
mod a_custom_store {
    use std::sync::Arc;

    use tower_client_credentials::registration::RegisteredClient;
    use tower_client_credentials::store::StoreError;
    use tower_client_credentials::{ClientId, ClientStore};

    use super::*;

    #[derive(Debug)]
    struct Silent;

    impl ClientStore for Silent {
        fn find<'a>(&'a self, _: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>> {
            StoreFuture::new(async move { std::future::pending().await })
        }
    }

    #[tokio::test]
    async fn that_does_not_answer_in_time_is_a_503() {
        let server = settings(Silent).store_timeout(Duration::from_millis(1)).build().unwrap();
        let answer = send(&server, billing_asks(GRANT)).await;
        answer.assert_refused(503, "temporarily_unavailable");
    }

    #[derive(Debug)]
    struct Unchecked;

    impl ClientStore for Unchecked {
        fn find<'a>(&'a self, _: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>> {
            StoreFuture::new(async move { Ok(Some(Arc::new(billing().register().map_err(StoreError::new)?))) })
        }
    }

    #[tokio::test]
    async fn gives_no_client_an_unknown_audience_or_scope() {
        let server = settings(Unchecked).resource(OTHER_API).known_scopes([READ]).build().unwrap();
        asks(&server, "", &[]).await.assert_refused(400, "invalid_target");
        asks(&server, "", &[API]).await.assert_refused(400, "invalid_target");
        asks(&server, "invoices:write", &[OTHER_API]).await.assert_refused(400, "invalid_scope");
    }
}

mod settings_of_the_documents {
    use super::*;

    async fn site(builder: AuthorizationServerBuilder) -> Site {
        Stack::PLAIN.issue(&builder.build().unwrap()).await
    }

    #[tokio::test]
    async fn the_metadata_is_correct_and_omits_empty_members() {
        let metadata = site(with_billing()).await.get("/.well-known/oauth-authorization-server").await.json();
        assert_eq!(metadata["response_types_supported"], json!(["none"]), "some clients insist on it");
        assert_eq!(metadata.get("scopes_supported"), None);
        assert_eq!(metadata.get("authorization_endpoint"), None);
        let without = with_billing().response_types_supported(None::<&str>);
        let metadata = site(without).await.get("/.well-known/oauth-authorization-server").await.json();
        assert_eq!(metadata.get("response_types_supported"), None);
        let builder = with_billing()
            .known_scopes([READ, WRITE])
            .response_types_supported(["code", "none"])
            .public_url("https://edge.example/oauth/");
        let metadata = site(builder).await.get("/.well-known/oauth-authorization-server").await.json();
        assert_eq!(metadata["response_types_supported"], json!(["code", "none"]));
        assert_eq!(metadata["scopes_supported"], json!(["invoices:read", "invoices:write"]));
        assert_eq!(metadata["token_endpoint"], "https://edge.example/oauth/token");
        assert_eq!(metadata["jwks_uri"], "https://edge.example/oauth/.well-known/jwks.json");
        assert_eq!(metadata["issuer"], common::ISSUER);
    }

    #[tokio::test]
    async fn the_path_of_a_disabled_document_goes_to_the_wrapped_service() {
        let site = site(with_billing().jwks_path(None).metadata_path(None)).await;
        for path in ["/.well-known/jwks.json", "/.well-known/oauth-authorization-server"] {
            assert_eq!(site.get(path).await.json()["path"], path);
        }
    }

    #[tokio::test]
    async fn the_token_endpoint_can_be_disabled_so_that_only_the_documents_are_served() {
        let site = site(with_billing().token_path(None).documents_max_age(Duration::from_secs(60))).await;
        assert_eq!(site.send(billing_asks(GRANT)).await.json()["path"], "/token");
        let metadata = site.get("/.well-known/oauth-authorization-server").await;
        assert_eq!(metadata.json().get("token_endpoint"), None);
        assert_eq!(metadata.header("cache-control"), Some("public, max-age=60"));
    }

    #[tokio::test]
    async fn every_path_can_be_moved() {
        let site = site(with_billing().token_path("/oauth/token").jwks_path("/keys").metadata_path("/about")).await;
        site.send(billing_asks(GRANT).to("/oauth/token")).await.assert_token();
        assert!(site.get("/keys").await.json()["keys"].is_array());
        let about = site.get("/about").await.json();
        assert_eq!(
            (about["token_endpoint"].as_str(), about["jwks_uri"].as_str()),
            (Some("https://auth.example.com/oauth/token"), Some("https://auth.example.com/keys"))
        );
        assert_eq!(site.send(billing_asks(GRANT)).await.json()["path"], "/token");
    }

    #[tokio::test]
    async fn an_authorization_endpoint_is_optional_and_supports_no_response_type() {
        const PATH: &str = "/authorize";
        let server = with_billing().authorization_path(PATH).public_url("https://edge.example").build().unwrap();
        assert!(server.authorization_service().is_some());
        on_every_stack(async |stack| {
            let site = stack.issue(&server).await;
            let metadata = site.get("/.well-known/oauth-authorization-server").await.json();
            assert_eq!(metadata["authorization_endpoint"], "https://edge.example/authorize");
            let asks = |method: &str| {
                let uri = format!("{PATH}?response_type=code&client_id=billing&redirect_uri=https://a.example");
                billing_asks("response_type=code").method(method).to(&uri)
            };
            for method in ["GET", "POST"] {
                let answer = site.send(asks(method)).await;
                answer.assert_refused(400, "unsupported_response_type");
                assert_eq!(answer.header("location"), None, "it redirects nowhere");
            }
            let stalled = asks("POST").stream(common::request::Stream::of(["x"]).then_stalls());
            site.send(stalled).await.assert_refused(400, "unsupported_response_type");
            let head = site.send(asks("HEAD")).await;
            assert_eq!((head.status.as_u16(), head.body.len()), (400, 0));
            for method in ["PUT", "DELETE", "OPTIONS"] {
                let answer = site.send(asks(method)).await;
                assert_eq!(
                    (answer.status.as_u16(), answer.header("allow")),
                    (405, Some("GET, HEAD, POST")),
                    "{method}"
                );
                assert_eq!(answer.json()["error"], "invalid_request");
            }
        })
        .await;
        let off = with_billing().build().unwrap();
        assert!(off.authorization_service().is_none());
        let site = Stack::PLAIN.issue(&off).await;
        assert_eq!(site.get(PATH).await.json()["path"], PATH, "the inner service's");
        assert!(mistake(with_billing().authorization_path("/token")).contains("two endpoints have the path `/token`"));
        assert!(mistake(with_billing().authorization_path("authorize")).contains("begin with a slash"));
    }

    #[test]
    fn limits_that_would_reject_every_request_are_invalid() {
        let none_by_client = AttemptLimits::default().chosen_by_client(0);
        let none_by_address = AttemptLimits::default().chosen_by_address(0);
        for builder in [
            with_billing().attempt_limits(none_by_client),
            with_billing().attempt_limits(none_by_address),
            with_billing().body_limit(0),
            with_billing().body_timeout(Duration::ZERO),
            with_billing().store_timeout(Duration::ZERO),
        ] {
            assert!(mistake(builder).contains(" of 0 "));
        }
        assert!(with_billing().slow_checks(0, usize::MAX).build().is_ok(), "taken as the nearest that can be");
    }

    #[test]
    fn impossible_or_shared_paths_of_endpoints_are_invalid() {
        for path in ["token", "", "/a b", "/a?b", "/a#b"] {
            assert!(mistake(with_billing().token_path(path)).contains("begin with a slash"), "{path}");
        }
        assert!(mistake(with_billing().jwks_path("/token")).contains("two endpoints have the path `/token`"));
        assert!(mistake(with_billing().public_url("http://edge.example")).contains("public URL"));
        assert!(mistake(with_billing().token_lifetime(Duration::from_millis(999))).contains("lifetime"));
    }

    #[tokio::test]
    async fn web_pages_can_read_the_documents_if_enabled_and_the_token_endpoint_never() {
        const ORIGIN: &str = "access-control-allow-origin";
        let (closed, open) = (site(with_billing()).await, site(with_billing().cross_origin_documents()).await);
        for path in ["/.well-known/jwks.json", "/.well-known/oauth-authorization-server"] {
            assert_eq!(closed.get(path).await.header(ORIGIN), None);
            assert_eq!(open.get(path).await.header(ORIGIN), Some("*"));
        }
        assert_eq!(open.send(billing_asks(GRANT)).await.header(ORIGIN), None);
        let preflight = open.send(billing_asks("").method("OPTIONS").to("/.well-known/jwks.json")).await;
        assert_eq!((preflight.status.as_u16(), preflight.header(ORIGIN)), (204, Some("*")));
        let preflight = closed.send(billing_asks("").method("OPTIONS").to("/.well-known/jwks.json")).await;
        assert_eq!(preflight.status, 405);
    }
}

/// A store that checks no client when a server is built, like a database.
#[derive(Debug)]
struct Elsewhere(MemoryStore);

impl ClientStore for Elsewhere {
    fn find<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>> {
        StoreFuture::new(async move { self.0.find(id).await })
    }
}

mod a_registration_that_does_not_fit_the_server {
    use super::*;

    const UNKNOWN_API: &str = "https://unknown.example.com";

    /// A server that knows two scopes and two resources, one of which has only one of the scopes.
    fn with(client: Client) -> AuthorizationServerBuilder {
        settings(Elsewhere(MemoryStore::try_from([client]).unwrap()))
            .known_scopes([READ, WRITE])
            .resource(API)
            .resource_with_scopes(OTHER_API, READ)
    }

    fn billing() -> Client {
        client("billing").scopes([READ, WRITE])
    }

    async fn refused(client: Client, request: TokenRequest, error: &str) -> (String, String) {
        let answer = send(&with(client).build().unwrap(), request).await;
        answer.assert_refused(400, error);
        let description = answer.json()["error_description"].as_str().unwrap().to_owned();
        (description, answer.reason.expect("a reason for the operator"))
    }

    #[tokio::test]
    async fn gets_the_scopes_and_audiences_that_the_server_knows() {
        let server = with(billing().scope(ADMIN).audience(API).audience(UNKNOWN_API)).build().unwrap();
        let answer = asks(&server, "invoices:read admin", &[API]).await;
        assert_eq!(answer.json()["scope"], "invoices:read");
    }

    #[tokio::test]
    async fn is_refused_an_unknown_scope_with_the_scope_and_how_to_fix_it() {
        let asks = billing_asks(GRANT).param("scope", "admin");
        let (_, reason) = refused(billing().scope(ADMIN).audience(API), asks, "invalid_scope").await;
        let cause = "client `billing`: its `scope` has `admin`, which the server does not know; add it to the server with \
                     .known_scopes(…), or remove it from the client";
        assert!(reason.ends_with(cause), "{reason}");
    }

    #[tokio::test]
    async fn is_refused_an_unknown_audience_with_the_audience_and_how_to_fix_it() {
        let cause = "`https://unknown.example.com`, which the server does not know; add it to the server with \
                     .resource(\"https://unknown.example.com\"), or remove it from the client";
        let one = || billing().audience(UNKNOWN_API);
        let (description, reason) = refused(one(), billing_asks(GRANT), "invalid_target").await;
        assert!(reason.ends_with(&format!("client `billing`: its `audiences` has {cause}")), "{reason}");
        assert!(!description.contains("missing"), "the caller cannot fix it: {description}");

        let asks = billing_asks(GRANT).param("resource", UNKNOWN_API);
        let (_, reason) = refused(one(), asks, "invalid_target").await;
        assert!(reason.ends_with(&format!("client `billing`: its `audiences` has {cause}")), "{reason}");

        let two = || billing().audience(API).default_audience(UNKNOWN_API);
        let (description, reason) = refused(two(), billing_asks(GRANT), "invalid_target").await;
        assert!(reason.ends_with(&format!("client `billing`: its `default_audience` has {cause}")), "{reason}");
        assert!(description.contains("resource is missing"), "the caller can name the other one: {description}");
        send(&with(two()).build().unwrap(), billing_asks(GRANT).param("resource", API)).await.assert_token();
    }

    #[tokio::test]
    async fn is_told_that_it_has_no_audience() {
        let (description, reason) = refused(billing(), billing_asks(GRANT), "invalid_target").await;
        assert!(reason.contains("its `audiences` are empty") && reason.contains(".default_audience("), "{reason}");
        assert!(!description.contains("missing"), "{description}");
    }

    #[tokio::test]
    async fn is_reported_by_an_event_once_an_hour_and_whenever_the_mistake_changes() {
        let clients = MemoryStore::try_from([billing().scope(ADMIN).audience(API).audience(UNKNOWN_API)]).unwrap();
        let (events, mut listener) = event::channel();
        let clock = clock();
        let server = settings(Elsewhere(clients.clone()))
            .known_scopes([READ, WRITE])
            .resource(API)
            .clock(clock.clone())
            .events(events)
            .build()
            .unwrap();
        let site = Stack::PLAIN.issue(&server).await;
        let mut reports = async || {
            site.send(billing_asks(GRANT).param("resource", API)).await.assert_token();
            let events = std::iter::from_fn(|| listener.try_recv());
            let reports = events.filter_map(|event| match event.outcome {
                Outcome::InvalidRegistration { reason, .. } => Some((event.client_id.unwrap().to_string(), reason)),
                _ => None,
            });
            reports.collect::<Vec<_>>()
        };
        let told = reports().await;
        let [(id, reason)] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!(id, "billing");
        for part in ["client `billing`: ", "`audiences` has `https://unknown.example.com`", "`scope` has `admin`"] {
            assert!(reason.contains(part), "{part} is not in {reason}");
        }
        clock.advance(Duration::from_secs(61));
        assert_eq!(reports().await, [], "it was read again, and there is nothing new");
        clock.advance(Duration::from_secs(3_600));
        assert_eq!(reports().await, told);

        let billing_id = ClientId::from_static("billing");
        let (_, revision) = clients.load(&billing_id).await.unwrap().unwrap();
        clients.replace(billing().audience(API).scope(ADMIN).register().unwrap(), revision).await.unwrap();
        clock.advance(Duration::from_secs(61));
        let told = reports().await;
        assert!(told.len() == 1 && !told[0].1.contains("audiences"), "{told:?}");

        let (_, revision) = clients.load(&billing_id).await.unwrap().unwrap();
        clients.replace(billing().audience(API).register().unwrap(), revision).await.unwrap();
        clock.advance(Duration::from_secs(7_200));
        assert_eq!(reports().await, []);
    }

    #[tokio::test]
    async fn is_rejected_by_a_store_in_memory_that_a_server_uses() {
        let clients = MemoryStore::try_from([billing().audience(API)]).unwrap();
        let _server = settings(clients.clone()).known_scopes([READ, WRITE]).resource(API).build().unwrap();
        let stranger = client("stranger").scope(ADMIN).audience(API).register().unwrap();
        let refused = clients.create(stranger.clone()).await.unwrap_err();
        assert!(matches!(&refused, AdminError::Invalid(_)) && refused.to_string().contains("`admin`"), "{refused}");
        assert!(clients.create_all(vec![stranger]).await.is_err(), "it is not reported as an existing client");
        let wider =
            clients.update(&ClientId::from_static("billing"), |client| client.edit().audience(UNKNOWN_API)).await;
        assert!(matches!(wider, Err(AdminError::Invalid(_))), "{wider:?}");
    }
}

#[tokio::test]
async fn a_scope_that_does_not_exist_at_the_resource_is_refused_with_both() {
    let server = with_billing().resource_with_scopes(API, WRITE).resource_with_scopes(OTHER_API, READ).build().unwrap();
    let refused = asks(&server, "invoices:read invoices:write", &[API, OTHER_API]).await;
    refused.assert_refused(400, "invalid_scope");
    let reason = refused.reason.unwrap();
    for part in
        ["`invoices:read` does not exist at `https://api.", "`invoices:write` does not exist at `https://other."]
    {
        assert!(reason.contains(part), "{part} is not in {reason}");
    }
}

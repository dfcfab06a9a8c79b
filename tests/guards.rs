//! Features of a guard beyond required scopes: methods, policies, report-only guards, an end at expiry, metadata of its API,
//! and the extractors behind it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use common::forge::good;
use common::stack::{Answer, NO_ERROR_CODE, Site, Stack, on_every_stack};
use common::{API, READ, WRITE, server};
use http::header::AUTHORIZATION;
use http::{Method, Request};
use tower_client_credentials::event::{self, Outcome};
use tower_client_credentials::resource_server::{BearerError, Forbidden, Methods};
use tower_client_credentials::verification::Unavailable;
use tower_client_credentials::{BearerAuthLayer, VerifiedToken};

fn guard() -> BearerAuthLayer {
    BearerAuthLayer::new(server().verifier(API).unwrap())
}

/// A request with a token of these scopes.
async fn ask(site: &Site, method: Method, path: &str, scope: &str) -> Answer {
    let bearer = format!("Bearer {}", good().claim("scope", scope).sign());
    let request = Request::builder().method(method).uri(path).header(AUTHORIZATION, bearer);
    site.send(request.body(common::stack::Body::default()).unwrap()).await
}

const FORBIDDEN: &str = NO_ERROR_CODE;

mod methods {
    use super::*;

    #[tokio::test]
    async fn require_their_own_scopes_and_no_method_is_exempt() {
        let delete = tower_client_credentials::Scope::from_static("invoices:delete");
        let guard = guard()
            .require_scopes_for(Methods::SAFE, READ)
            .require_scopes_for(Methods::UNSAFE, WRITE)
            .require_scopes_for(Method::DELETE, delete.clone());
        let purge = Method::from_bytes(b"PURGE").unwrap();
        on_every_stack(async |stack| {
            let site = stack.protect(&server(), [guard.clone()]).await;
            for (method, scope) in [
                (Method::GET, "invoices:read"),
                (Method::OPTIONS, "invoices:read"),
                (Method::POST, "invoices:write"),
                (purge.clone(), "invoices:write"),
                (Method::DELETE, "invoices:write invoices:delete"),
            ] {
                assert_eq!(ask(&site, method.clone(), "/", scope).await.status, 200, "{method}");
            }
            ask(&site, Method::GET, "/", "invoices:write").await.assert_insufficient_scope(&[READ]);
            for method in [Method::POST, Method::PUT, Method::PATCH, purge.clone()] {
                ask(&site, method, "/", "invoices:read").await.assert_insufficient_scope(&[WRITE]);
            }
            let needed = [WRITE, delete.clone()];
            ask(&site, Method::DELETE, "/", "invoices:write").await.assert_insufficient_scope(&needed);
        })
        .await;
    }
}

mod a_policy {
    use super::*;

    /// A policy that admits the owner of a path, requires a scope elsewhere, and cannot decide about `/unknown`.
    fn own_path(guard: BearerAuthLayer) -> BearerAuthLayer {
        guard.policy(|token, request| match request.uri().path().strip_prefix('/').unwrap() {
            "unknown" => Err(Unavailable::by_policy("the directory is down").into()),
            "admin" if !token.scopes().contains("admin") => {
                Err(Forbidden::insufficient_scope(tower_client_credentials::Scope::from_static("admin")).into())
            }
            "admin" => Ok(()),
            own if own == token.subject() => Ok(()),
            _ => Err(Forbidden::new("it is another one's").into()),
        })
    }

    #[tokio::test]
    async fn admits_refuses_or_cannot_decide() {
        on_every_stack(async |stack| {
            let site = stack.protect(&server(), [own_path(guard())]).await;
            assert_eq!(ask(&site, Method::GET, "/billing", "").await.status, 200);
            assert_eq!(ask(&site, Method::GET, "/admin", "admin").await.status, 200);

            let refused = ask(&site, Method::GET, "/reports", "").await;
            refused.assert_challenged(403, FORBIDDEN);
            let reason = "the policy of the route refused the token of client `billing`: it is another one's";
            assert_eq!(refused.reason.as_deref(), Some(reason));

            let admin = tower_client_credentials::Scope::from_static("admin");
            ask(&site, Method::GET, "/admin", "").await.assert_insufficient_scope(&[admin]);

            let unknown = ask(&site, Method::GET, "/unknown", "").await;
            assert_eq!((unknown.status.as_u16(), unknown.header("retry-after")), (503, Some("1")), "{unknown:?}");
            assert_eq!((unknown.header("www-authenticate"), unknown.body.len()), (None, 0), "{unknown:?}");
            assert!(!format!("{:?}", unknown.headers).contains("directory"), "the reason is not sent to the caller");
        })
        .await;
    }

    #[tokio::test]
    async fn is_not_asked_about_a_refused_token() {
        let never = guard().require_scope(READ).policy(|_, _| panic!("the policy was called"));
        let site = Stack::PLAIN.protect(&server(), [never]).await;
        assert_eq!(site.get("/").await.status, 401);
        assert_eq!(site.get_authorized("Bearer a.b.c").await.status, 401);
        assert_eq!(ask(&site, Method::GET, "/", "").await.status, 403);
    }

    #[tokio::test]
    async fn must_agree_with_all_others_and_sets_the_retry_time() {
        let later = Unavailable::by_policy("closed").retry_after(std::time::Duration::from_secs(30));
        let both = own_path(guard()).policy(move |_, _| Err(later.clone().into()));
        let site = Stack::PLAIN.protect(&server(), [both]).await;
        assert_eq!(ask(&site, Method::GET, "/billing", "").await.header("retry-after"), Some("30"));
        assert_eq!(ask(&site, Method::GET, "/reports", "").await.status, 403);
    }

    #[tokio::test]
    async fn sees_the_token_that_another_layer_verified_and_nothing_is_verified_twice() {
        // The outer layer removes the header, so the inner ones can only use the proof.
        let common = guard();
        let outer = common.clone().remove_authorization().require_scopes_for(Method::POST, WRITE);
        let (inner, middle) = (own_path(common.clone()), common.require_scope(READ));
        on_every_stack(async |stack| {
            let site = stack.protect(&server(), [inner.clone(), middle.clone(), outer.clone()]).await;
            assert_eq!(ask(&site, Method::POST, "/billing", "invoices:read invoices:write").await.status, 200);
            ask(&site, Method::POST, "/billing", "invoices:read").await.assert_insufficient_scope(&[WRITE]);
            ask(&site, Method::GET, "/billing", "").await.assert_insufficient_scope(&[READ]);
            ask(&site, Method::GET, "/reports", "invoices:read").await.assert_challenged(403, FORBIDDEN);
        })
        .await;
    }
}

mod report_only {
    use super::*;

    #[tokio::test]
    async fn admit_every_request_and_attach_a_proof_if_there_is_one() {
        let unsure = |_: &VerifiedToken, _: tower_client_credentials::resource_server::RequestHead<'_>| {
            Err(Unavailable::by_policy("the directory is down").into())
        };
        let watched = guard().require_scope(READ).policy(unsure).dangerous_only_report();
        on_every_stack(async |stack| {
            let (events, mut listener) = event::channel();
            let site = stack.protect(&server(), [watched.clone().events(events)]).await;
            for (answer, client) in [
                (site.get("/").await, None),
                (site.get_authorized("Bearer a b").await, None),
                (site.get_authorized("Bearer a.b.c").await, None),
                (ask(&site, Method::GET, "/", "").await, Some("billing")),
                (ask(&site, Method::GET, "/", "invoices:read").await, Some("billing")),
            ] {
                assert_eq!(answer.status, 200, "{answer:?}");
                assert_eq!(answer.json()["token"]["client_id"].as_str(), client, "{answer:?}");
            }
            let mut would = || match listener.try_recv().unwrap().outcome {
                Outcome::WouldReject(failure) => failure.downcast_ref::<BearerError>().unwrap().clone(),
                outcome => panic!("{outcome:?}"),
            };
            assert_eq!(would(), BearerError::NoCredentials);
            assert_eq!(would(), BearerError::InvalidRequest);
            assert!(matches!(would(), BearerError::InvalidToken(_)));
            assert!(matches!(would(), BearerError::InsufficientScope { .. }));
            assert!(matches!(would(), BearerError::Unavailable(_)));
        })
        .await;
    }

    #[tokio::test]
    async fn report_a_valid_request_as_admitted() {
        let (events, mut listener) = event::channel();
        let watched = guard().require_scope(READ).dangerous_only_report().events(events);
        let site = Stack::PLAIN.protect(&server(), [watched]).await;
        assert_eq!(ask(&site, Method::GET, "/", "invoices:read").await.status, 200);
        assert!(matches!(listener.try_recv().unwrap().outcome, Outcome::Admitted { .. }));
    }
}

mod an_end_at_expiry {
    use std::convert::Infallible;
    use std::time::Duration;

    use futures_util::{StreamExt as _, stream};
    use http::Response;
    use http_body_util::{BodyExt as _, StreamBody};
    use hyper::body::{Bytes, Frame, Incoming};
    use hyper_util::client::legacy::Client;
    use hyper_util::rt::TokioExecutor;
    use tower::{Layer as _, service_fn};

    use super::*;

    /// The 600 seconds of `good()`, and the leeway.
    const LEFT: Duration = Duration::from_secs(605);
    const ALMOST: Duration = Duration::from_secs(604);

    async fn pass(time: Duration) {
        tokio::time::advance(time).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    /// Waits for something that must already have happened: paused time advances when all tasks are idle.
    async fn soon<T>(future: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(5), future).await.expect("an end in time")
    }

    /// Sends one frame, and then neither more data nor the end.
    async fn endless(_: Request<Incoming>) -> Result<Response<common::stack::Body>, Infallible> {
        let frames = stream::iter([Ok(Frame::data(Bytes::from_static(b"first")))]).chain(stream::pending());
        Ok(Response::new(StreamBody::new(frames).boxed_unsync()))
    }

    async fn open(stack: Stack, guard: BearerAuthLayer) -> Incoming {
        let site = stack.serve(guard.layer(service_fn(endless))).await;
        let http2 = stack.protocol == common::stack::Protocol::H2c;
        let client = Client::builder(TokioExecutor::new()).http2_only(http2).build_http();
        let request = Request::get(site.url("/")).header(AUTHORIZATION, format!("Bearer {}", good().sign()));
        let mut body: Incoming =
            client.request(request.body(common::stack::Body::default()).unwrap()).await.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
        tokio::time::pause();
        body
    }

    #[tokio::test]
    async fn aborts_a_response_in_progress_with_an_error() {
        on_every_stack(async |stack| {
            let mut body = open(stack, guard().end_at_expiry()).await;
            pass(ALMOST).await;
            assert!(futures_util::FutureExt::now_or_never(body.frame()).is_none(), "it is open yet");
            pass(Duration::from_secs(2)).await;
            assert!(
                soon(body.frame()).await.unwrap().is_err(),
                "a normal end could be mistaken for a complete response"
            );
            tokio::time::resume();
        })
        .await;
    }

    #[tokio::test]
    async fn applies_only_where_it_is_enabled_and_not_to_a_guard_that_only_reports() {
        for guard in [guard(), guard().end_at_expiry().dangerous_only_report()] {
            let mut body = open(Stack::PLAIN, guard).await;
            pass(LEFT * 2).await;
            assert!(futures_util::FutureExt::now_or_never(body.frame()).is_none());
            tokio::time::resume();
        }
    }

    #[tokio::test]
    async fn refuses_a_request_that_has_no_response_yet() {
        let (events, mut listener) = event::channel();
        let guard = guard().end_at_expiry().events(events);
        let never = service_fn(async |_: Request<Incoming>| {
            std::future::pending::<Result<Response<common::stack::Body>, Infallible>>().await
        });
        let site = Stack::PLAIN.serve(guard.layer(never)).await;
        let token = good().sign();
        let asked = tokio::spawn(async move {
            let request = Request::get("/").header(AUTHORIZATION, format!("Bearer {token}")).body(Vec::new()).unwrap();
            let (mut head, body) = request.into_parts();
            head.uri = site.url("/").parse().unwrap();
            site.call(Request::from_parts(head, body)).await.unwrap()
        });
        assert!(matches!(listener.recv().await.unwrap().outcome, Outcome::Admitted { .. }));
        tokio::time::pause();
        pass(ALMOST).await;
        assert!(!asked.is_finished());
        pass(Duration::from_secs(2)).await;
        let answer = soon(asked).await.unwrap();
        assert_eq!(answer.status(), 401);
        assert!(answer.headers()["www-authenticate"].to_str().unwrap().contains("invalid_token"));
    }

    #[tokio::test]
    async fn does_not_change_complete_responses() {
        on_every_stack(async |stack| {
            let site = stack.protect(&server(), [guard().end_at_expiry()]).await;
            let answer = ask(&site, Method::GET, "/", "").await;
            assert_eq!(answer.json()["token"]["client_id"], "billing");
            assert!(answer.header("content-length").is_some(), "{answer:?}");
        })
        .await;
    }
}

mod the_metadata_of_a_resource {
    use serde_json::json;
    use tower::{Layer as _, ServiceExt as _};
    use tower_client_credentials::resource_server::{InvalidResourceMetadata, ResourceMetadata, ResourceMetadataLayer};

    use super::*;

    const RESOURCE: &str = "https://api.example.com/mcp";
    const PATH: &str = "/.well-known/oauth-protected-resource/mcp";

    fn metadata() -> ResourceMetadata {
        ResourceMetadata::builder(RESOURCE)
            .authorization_server("https://auth.example.com")
            .scopes_supported([READ, WRITE])
            .name("Invoices")
            .documentation("https://example.com/docs")
            .build()
            .unwrap()
    }

    async fn site(stack: Stack, metadata: ResourceMetadata) -> Site {
        let guard = BearerAuthLayer::new(server().verifier(RESOURCE).unwrap()).require_scope(READ);
        let guard = guard.resource_metadata(&metadata).unwrap();
        stack.serve(ResourceMetadataLayer::new(metadata).layer(stack.app(&server(), [guard]))).await
    }

    #[tokio::test]
    async fn is_at_its_well_known_path_without_a_token() {
        on_every_stack(async |stack| {
            let site = site(stack, metadata()).await;
            let answer = site.get(PATH).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(answer.header("content-type"), Some("application/json"));
            assert_eq!(answer.header("cache-control"), Some("public, max-age=300"));
            assert_eq!(answer.header("access-control-allow-origin"), None);
            let expected = json!({
                "resource": RESOURCE,
                "authorization_servers": ["https://auth.example.com"],
                "scopes_supported": ["invoices:read", "invoices:write"],
                "bearer_methods_supported": ["header"],
                "resource_name": "Invoices",
                "resource_documentation": "https://example.com/docs",
            });
            assert_eq!(answer.json(), expected);

            let head = ask(&site, Method::HEAD, PATH, "").await;
            assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
            assert_eq!(head.header("content-length"), Some(answer.body.len().to_string().as_str()));
            assert_eq!(ask(&site, Method::POST, PATH, "").await.header("allow"), Some("GET, HEAD"));

            let etag = answer.header("etag").unwrap();
            let request =
                Request::get(PATH).header("if-none-match", etag).body(common::stack::Body::default()).unwrap();
            assert_eq!(site.send(request).await.status, 304);
        })
        .await;
    }

    #[tokio::test]
    async fn is_named_in_every_challenge() {
        let parameter = format!(r#", resource_metadata="https://api.example.com{PATH}""#);
        on_every_stack(async |stack| {
            let site = site(stack, metadata()).await;
            let other_scope = good().claim("aud", RESOURCE).claim("scope", "").sign();
            for (answer, status, code) in [
                (site.get("/mcp").await, 401, None),
                (site.get_authorized("Bearer a b").await, 400, Some("invalid_request")),
                (site.get_authorized("Bearer a.b.c").await, 401, Some("invalid_token")),
                (site.get_authorized(&format!("Bearer {other_scope}")).await, 403, Some("insufficient_scope")),
            ] {
                assert_eq!(answer.status, status, "{answer:?}");
                let challenge = answer.header("www-authenticate").unwrap();
                assert!(challenge.starts_with(r#"Bearer realm="https://api.example.com/mcp""#), "{challenge}");
                assert!(challenge.ends_with(&parameter), "{challenge}");
                assert_eq!(challenge.contains("error="), code.is_some(), "{challenge}");
                assert!(code.is_none_or(|code| challenge.contains(&format!("error=\"{code}\""))), "{challenge}");
            }
            let good = good().claim("aud", RESOURCE).sign();
            assert_eq!(site.get_authorized(&format!("Bearer {good}")).await.status, 200);
        })
        .await;
    }

    #[tokio::test]
    async fn can_be_read_by_web_pages_where_enabled() {
        let open = ResourceMetadata::builder(RESOURCE).authorization_server("https://auth.example.com").cross_origin();
        let site = site(Stack::PLAIN, open.build().unwrap()).await;
        assert_eq!(site.get(PATH).await.header("access-control-allow-origin"), Some("*"));
        let preflight = ask(&site, Method::OPTIONS, PATH, "").await;
        assert_eq!(preflight.header("access-control-allow-methods"), Some("GET, HEAD"));
        let members = site.get(PATH).await.json();
        assert!(members.get("scopes_supported").is_none(), "what has no elements is left out: {members}");
    }

    #[tokio::test]
    async fn is_a_service_that_can_be_routed() {
        let metadata = metadata();
        let app = axum::Router::new().route_service(metadata.path(), metadata.service());
        let request = Request::get(PATH).body(axum::body::Body::empty()).unwrap();
        let answer = Answer::read(app.oneshot(request).await.unwrap()).await;
        assert_eq!(answer.json()["resource"], RESOURCE);
    }

    #[test]
    fn of_another_resource_is_an_error() {
        let error = guard().resource_metadata(&metadata()).unwrap_err();
        assert!(matches!(error, InvalidResourceMetadata::OtherResource { .. }));
        assert_eq!(
            error.to_string(),
            "the metadata is for `https://api.example.com/mcp` but the verifier's audience is `https://api.example.com`; \
             they must be equal, byte for byte"
        );
    }
}

mod extractors {
    use axum::Router;
    use axum::routing::get;
    use tower_client_credentials::resource_server::{AnyOf, Authorized, Permission};
    use tower_client_credentials::{Claims, Scope};

    use super::*;

    struct Read;
    impl Permission for Read {
        const SCOPE: Scope = READ;
    }

    struct Write;
    impl Permission for Write {
        const SCOPE: Scope = WRITE;
    }

    #[derive(serde::Deserialize)]
    struct Tenancy {
        tenant: String,
    }

    fn app() -> Router {
        Router::new()
            .route("/read", get(async |token: Authorized<Read>| token.client_id().to_string()))
            .route("/both", get(async |_: Authorized<(Read, Write)>| "both"))
            .route("/any", get(async |_: Authorized<AnyOf<(Read, Write)>>| "any"))
            .route("/tenant", get(async |Claims(Tenancy { tenant }): Claims<Tenancy>| tenant))
            .route(
                "/who",
                get(async |token: Option<VerifiedToken>| format!("{:?}", token.map(|t| t.client_id().clone()))),
            )
    }

    #[tokio::test]
    async fn admit_tokens_with_the_scopes_of_their_types() {
        on_every_stack(async |stack| {
            let site = stack.serve(app().layer(guard())).await;
            for (path, scope, body) in [
                ("/read", "invoices:read", "billing"),
                ("/both", "invoices:write invoices:read", "both"),
                ("/any", "invoices:read", "any"),
                ("/any", "invoices:write", "any"),
            ] {
                let answer = ask(&site, Method::GET, path, scope).await;
                assert_eq!((answer.status.as_u16(), &*answer.body), (200, body.as_bytes()), "{path} {scope}");
            }
        })
        .await;
    }

    #[tokio::test]
    async fn refuse_like_the_guard_with_challenge_event_and_reason() {
        on_every_stack(async |stack| {
            let (events, mut listener) = event::channel();
            let site = stack.serve(app().layer(guard().events(events))).await;
            for (path, scope, needed) in [
                ("/read", "invoices:write", &[READ][..]),
                ("/both", "invoices:read", &[READ, WRITE]),
                ("/any", "other", &[READ, WRITE]),
            ] {
                let answer = ask(&site, Method::GET, path, scope).await;
                answer.assert_insufficient_scope(needed);
                assert!(answer.reason.unwrap().starts_with("the token of client `billing` has the scopes"));
                assert!(matches!(listener.try_recv().unwrap().outcome, Outcome::Admitted { .. }));
                let rejected = listener.try_recv().unwrap();
                assert!(matches!(rejected.outcome, Outcome::Rejected(ref failure) if matches!(failure.downcast_ref(), Some(BearerError::InsufficientScope { .. }))));
                assert_eq!(rejected.client_id.as_deref(), Some("billing"));
            }
        })
        .await;
    }

    #[tokio::test]
    async fn read_claims_of_the_application_and_refuse_a_token_without_them() {
        on_every_stack(async |stack| {
            let site = stack.serve(app().layer(guard())).await;
            let show = async |token: String| {
                let request = Request::get("/tenant").header(AUTHORIZATION, format!("Bearer {token}"));
                site.send(request.body(common::stack::Body::default()).unwrap()).await
            };
            assert_eq!(show(good().claim("tenant", "acme").sign()).await.body, "acme");
            for draft in [good(), good().claim("tenant", 5)] {
                let answer = show(draft.sign()).await;
                answer.assert_challenged(403, FORBIDDEN);
                assert!(answer.reason.unwrap().contains("the token's claims do not fit the requested type"));
            }
        })
        .await;
    }

    #[tokio::test]
    async fn stay_strict_behind_a_guard_that_only_reports() {
        let site = Stack::PLAIN.serve(app().layer(guard().dangerous_only_report())).await;
        ask(&site, Method::GET, "/read", "other").await.assert_insufficient_scope(&[READ]);
        assert_eq!(site.get("/who").await.body, "None");
        assert_eq!(site.get("/read").await.status, 500, "there is no proof");
    }

    #[tokio::test]
    async fn answer_500_on_a_route_without_a_guard() {
        let site = Stack::PLAIN.serve(app()).await;
        for path in ["/read", "/both", "/any", "/tenant"] {
            assert_eq!(ask(&site, Method::GET, path, "invoices:read invoices:write").await.status, 500, "{path}");
        }
    }
}

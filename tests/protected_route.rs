//! A protected route, over sockets and on every stack: the requests that it admits and refuses by RFC 6750 and RFC 9068 §4.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use common::forge::{self, good};
use common::request::{GRANT, billing_asks, post};
use common::stack::{Answer, INVALID_REQUEST, INVALID_TOKEN, NO_ERROR_CODE, Site, Stack, on_every_stack};
use common::{API, ISSUER, KEY, NOW, OTHER_API, READ, WRITE, at, clients, clock, server, settings};
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderName, Method, Request};
use serde_json::{Value, json};
use tower::Layer as _;
use tower_client_credentials::verification::InvalidToken;
use tower_client_credentials::{
    AuthorizationServer, BearerAuthLayer, KeyRing, MemoryStore, Scopes, SigningKey, VerifiedToken, Verifier,
};
use tower_http::cors::{AllowOrigin, CorsLayer};

fn verifier(server: &AuthorizationServer) -> Verifier {
    server.verifier(API).unwrap()
}

/// A route that any valid token opens.
async fn route(stack: Stack) -> Site {
    let server = server();
    stack.protect(&server, [BearerAuthLayer::new(verifier(&server))]).await
}

async fn show(site: &Site, token: &str) -> Answer {
    site.get_authorized(&format!("Bearer {token}")).await
}

/// Whether the request reached the route, with a token or without.
#[track_caller]
fn assert_admitted(answer: &Answer) {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["path"], "/");
}

/// Sends each token on every stack, and asserts that each is admitted.
async fn are_admitted(tokens: &[String]) {
    on_every_stack(async |stack| {
        let site = route(stack).await;
        for token in tokens {
            println!("{token}");
            assert_admitted(&show(&site, token).await);
        }
    })
    .await;
}

/// Sends each token on every stack, and asserts that each is refused with the same text, and for this reason.
async fn are_refused(reason: InvalidToken, tokens: &[String]) {
    on_every_stack(async |stack| {
        let site = route(stack).await;
        for token in tokens {
            println!("{token}");
            show(&site, token).await.assert_invalid_token(&reason);
        }
    })
    .await;
}

mod a_valid_token {
    use super::*;

    #[tokio::test]
    async fn reaches_the_service_as_a_proof_with_its_contents() {
        let token = good()
            .claim("sub", "svc:billing")
            .claim("aud", json!([OTHER_API, API]))
            .claim("scope", "invoices:read invoices:write")
            .claim("tenant", "acme")
            .sign();
        on_every_stack(async |stack| {
            let answer = show(&route(stack).await, &token).await;
            assert_admitted(&answer);
            let expected = json!({
                "client_id": "billing",
                "subject": "svc:billing",
                "scopes": ["invoices:read", "invoices:write"],
                "audiences": [OTHER_API, API],
                "issuer": ISSUER,
                "token_id": "one",
                "issued_at": NOW,
                "expires_at": NOW + 600,
                "tenant": "acme",
            });
            assert_eq!(answer.json()["token"], expected);
        })
        .await;
    }

    #[tokio::test]
    async fn of_the_token_endpoint_opens_the_route() {
        on_every_stack(async |stack| {
            let site = route(stack).await;
            let token = site.send(billing_asks(GRANT).param("scope", "invoices:read")).await.assert_token();
            let answer = show(&site, &token).await;
            assert_eq!(answer.json()["token"]["client_id"], "billing");
            assert_eq!(answer.json()["token"]["scopes"], json!(["invoices:read"]));
        })
        .await;
    }

    #[tokio::test]
    async fn for_another_api_is_refused() {
        let clients = [common::client("billing").audience(API).audience(OTHER_API)];
        let server = settings(MemoryStore::try_from(clients).unwrap()).build().unwrap();
        on_every_stack(async |stack| {
            let site = stack.protect(&server, [BearerAuthLayer::new(verifier(&server))]).await;
            for (resource, status) in [(API, 200), (OTHER_API, 401)] {
                let token = site.send(billing_asks(GRANT).param("resource", resource)).await.assert_token();
                assert_eq!(show(&site, &token).await.status, status, "{resource}");
            }
        })
        .await;
    }

    #[tokio::test]
    async fn is_marked_as_sensitive_for_logs_behind_the_layer() {
        on_every_stack(async |stack| {
            let answer = show(&route(stack).await, &good().sign()).await;
            assert_eq!(answer.json()["authorization_is_sensitive"], true);
            // The server and the client of this test do not mark it: without a guard it is not marked.
            let open = show(&stack.issue(&server()).await, &good().sign()).await;
            assert_eq!(open.json()["authorization_is_sensitive"], false);
        })
        .await;
    }

    #[tokio::test]
    async fn is_accepted_behind_a_scheme_in_any_case() {
        let token = good().sign();
        on_every_stack(async |stack| {
            let site = route(stack).await;
            for scheme in ["Bearer", "bearer", "BEARER", "bEaReR", "Bearer  "] {
                assert_admitted(&site.get_authorized(&format!("{scheme} {token}")).await);
            }
        })
        .await;
    }

    #[tokio::test]
    async fn may_have_the_long_media_type_and_any_trusted_key() {
        are_admitted(&["at+jwt", "AT+JWT", "application/at+jwt"].map(|typ| good().header("typ", typ).sign())).await;
        let keys = KeyRing::from_pem(include_str!("keys/ed25519.pem"))
            .unwrap()
            .also_trust(SigningKey::from_pem(KEY).unwrap().verifying_key());
        let server = AuthorizationServer::builder(ISSUER, keys, MemoryStore::try_from(clients()).unwrap());
        let server = server.clock(clock()).build().unwrap();
        on_every_stack(async |stack| {
            let site = stack.protect(&server, [BearerAuthLayer::new(verifier(&server))]).await;
            assert_admitted(&show(&site, &good().sign()).await);
            let own = site.send(billing_asks(GRANT)).await.assert_token();
            assert_eq!(forge::parts(&own).0["alg"], "EdDSA");
            assert_admitted(&show(&site, &own).await);
        })
        .await;
    }

    #[tokio::test]
    async fn may_have_unknown_claims_and_header_members() {
        let tokens = [
            good().header("x", 5),
            good().header("cty", "JWT"),
            good().claim("roles", json!(["a", {"b": [1.5, null]}])),
            good().claim("aud", json!([API])),
            good().claim("nbf", NOW),
            good().without_claim("scope"),
        ];
        are_admitted(&tokens.map(|draft| draft.sign())).await;
    }
}

mod a_request {
    use super::*;

    #[tokio::test]
    async fn without_a_bearer_token_is_challenged_without_an_error_code() {
        let token = good().sign();
        on_every_stack(async |stack| {
            let site = route(stack).await;
            site.get("/").await.assert_challenged(401, NO_ERROR_CODE);
            let basic = "Basic YmlsbGluZzpzZWNyZXQ=";
            for header in ["", basic, "DPoP x", "Digest username=\"a\"", &token, &format!("Bearer{token}"), "Beare x"] {
                site.get_authorized(header).await.assert_challenged(401, NO_ERROR_CODE);
            }
        })
        .await;
    }

    #[tokio::test]
    async fn with_two_authorization_headers_is_malformed() {
        let bearer = format!("Bearer {}", good().sign());
        on_every_stack(async |stack| {
            let site = route(stack).await;
            for (one, two) in [(&*bearer, &*bearer), (&bearer, "Basic YTpi"), ("Basic YTpi", &bearer), (&bearer, "")] {
                let answer = site.get_with(&[(AUTHORIZATION, one), (AUTHORIZATION, two)]).await;
                answer.assert_challenged(400, INVALID_REQUEST);
            }
        })
        .await;
    }

    #[tokio::test]
    async fn with_anything_but_one_token68_after_bearer_is_malformed() {
        let token = good().sign();
        let padded_within = token.replacen('.', "=.", 1);
        let spaced = token.replacen('.', " .", 1);
        on_every_stack(async |stack| {
            let site = route(stack).await;
            for header in [
                "Bearer",
                "Bearer a b",
                "Bearer =",
                "Bearer \"a\"",
                "Bearer realm=\"x\"",
                &format!("Bearer {token}, Bearer {token}"),
                &format!("Bearer {token} {token}"),
                &format!("Bearer {padded_within}"),
                &format!("Bearer {spaced}"),
                &format!("Bearer {token}\u{e9}"),
            ] {
                println!("{header}");
                site.get_authorized(header).await.assert_challenged(400, INVALID_REQUEST);
            }
        })
        .await;
    }

    #[tokio::test]
    async fn with_its_token_in_the_query_the_body_or_another_header_has_no_token() {
        let token = good().sign();
        on_every_stack(async |stack| {
            let site = route(stack).await;
            let in_query = site.get(&format!("/?access_token={token}")).await;
            in_query.assert_challenged(401, NO_ERROR_CODE);
            let in_body = site.send(post(format!("access_token={token}")).to("/")).await;
            in_body.assert_challenged(401, NO_ERROR_CODE);
            for name in [HeaderName::from_static("proxy-authorization"), HeaderName::from_static("x-access-token")] {
                let answer = site.get_with(&[(name, &format!("Bearer {token}"))]).await;
                answer.assert_challenged(401, NO_ERROR_CODE);
            }
            let in_cookie = site.get_with(&[(COOKIE, &format!("access_token={token}"))]).await;
            in_cookie.assert_challenged(401, NO_ERROR_CODE);
            // A token in the query does not affect the one in the header.
            let request = Request::get("/?access_token=x").header(AUTHORIZATION, format!("Bearer {token}"));
            assert_admitted(&site.send(request.body(common::stack::Body::default()).unwrap()).await);
        })
        .await;
    }

    #[tokio::test]
    async fn of_any_method_needs_a_token() {
        on_every_stack(async |stack| {
            let site = route(stack).await;
            for method in [Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
                let request = Request::builder().method(method).uri("/");
                let answer = site.send(request.body(common::stack::Body::default()).unwrap()).await;
                answer.assert_challenged(401, NO_ERROR_CODE);
            }
        })
        .await;
    }

    #[tokio::test]
    async fn that_is_a_preflight_passes_a_cors_layer_outside_and_not_the_guard() {
        let origin = "https://app.example.com";
        let preflight = || {
            let request = Request::options("/")
                .header("origin", origin)
                .header("access-control-request-method", "GET")
                .header("access-control-request-headers", "authorization");
            request.body(common::stack::Body::default()).unwrap()
        };
        on_every_stack(async |stack| {
            route(stack).await.send(preflight()).await.assert_challenged(401, NO_ERROR_CODE);

            let server = server();
            let cors = CorsLayer::new()
                .allow_origin(AllowOrigin::exact(origin.parse().unwrap()))
                .allow_methods([Method::GET])
                .allow_headers([AUTHORIZATION]);
            let app = stack.app(&server, [BearerAuthLayer::new(verifier(&server))]);
            let site = stack.serve(cors.layer(app)).await;
            let answer = site.send(preflight()).await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
            assert_eq!(answer.header("access-control-allow-headers"), Some("authorization"));
            // Only the preflight passes: the following request needs a token, and the page may read the refusal.
            let follows = site.get_with(&[(HeaderName::from_static("origin"), origin)]).await;
            assert_eq!(follows.status, 401);
            assert_eq!(follows.header("access-control-allow-origin"), Some(origin));
        })
        .await;
    }
}

/// `bad_tokens.rs` has all other kinds of bad tokens.
mod a_token {
    use super::*;

    #[tokio::test]
    async fn may_have_at_most_16_kib() {
        const LONGEST: usize = 16 * 1024;
        let of_length = |length: usize| {
            let filled = |filling: usize| good().claim("filling", "a".repeat(filling)).sign();
            let token = filled((length - filled(0).len()) * 3 / 4);
            // base64 does not have every length: fewer than four characters are missing.
            assert!((length - 4..=length).contains(&token.len()), "{}", token.len());
            token
        };
        are_admitted(&[of_length(LONGEST)]).await;
        are_refused(InvalidToken::TooLong, &[of_length(LONGEST + 5)]).await;
    }
}

/// Clocks may differ by the leeway, five seconds by default.
mod the_time {
    use super::*;

    #[tokio::test]
    async fn is_over_for_a_token_that_expired_more_than_the_leeway_ago() {
        are_admitted(&[1, 0, -4].map(expires_in)).await;
        are_refused(InvalidToken::Expired, &[-5, -6, -3600].map(expires_in)).await;
    }

    fn expires_in(secs: i64) -> String {
        good().claim("iat", NOW - 4000).claim("exp", NOW.checked_add_signed(secs).unwrap()).sign()
    }

    #[tokio::test]
    async fn has_not_come_for_a_token_that_is_valid_or_issued_more_than_the_leeway_ahead() {
        for claim in ["nbf", "iat"] {
            let ahead = |secs| good().claim(claim, NOW + secs).sign();
            are_admitted(&[0, 1, 5].map(ahead)).await;
            are_refused(InvalidToken::NotYetValid, &[6, 3600].map(ahead)).await;
        }
        // The later of both counts.
        let one_of_two = [("nbf", "iat"), ("iat", "nbf")]
            .map(|(past, ahead)| good().claim(past, NOW - 60).claim(ahead, NOW + 6).sign());
        are_refused(InvalidToken::NotYetValid, &one_of_two).await;
    }

    /// RFC 7519 §2. The claims are written as text, since JSON libraries normalize numbers.
    fn with_time(name: &str, time: &str) -> String {
        let draft = good().claim("iat", NOW - 4000).claim(name, "MARKER");
        draft.clone().claims_text(draft.claims.replace("\"MARKER\"", time)).sign()
    }

    #[tokio::test]
    async fn may_have_a_fraction_and_is_rounded_to_the_stricter_side() {
        let good = [
            ("exp", "1699999996.0"),
            ("exp", "1699999996.9"),
            ("exp", "1.7e9"),
            ("nbf", "1700000004.1"),
            ("nbf", "1700000005.0"),
            ("iat", "1700000005.9"),
            ("iat", "17E8"),
        ];
        are_admitted(&good.map(|(name, time)| with_time(name, time))).await;
        are_refused(InvalidToken::Expired, &[with_time("exp", "1699999995.9")]).await;
        let early = [("nbf", "1700000005.1"), ("iat", "1700000006.0"), ("nbf", "1.7000001e9")];
        are_refused(InvalidToken::NotYetValid, &early.map(|(name, time)| with_time(name, time))).await;
        let bad = ["-1.5", "-1700000000.0", "1e12", "1e999", "253402300800.5", "NaN", "1700000600."];
        are_refused(InvalidToken::Claims, &bad.map(|time| with_time("exp", time))).await;
    }

    #[tokio::test]
    async fn passes_and_a_valid_token_expires() {
        let clock = clock();
        let server = settings(MemoryStore::try_from(clients()).unwrap()).clock(clock.clone()).build().unwrap();
        on_every_stack(async |stack| {
            clock.set(at(NOW));
            let site = stack.protect(&server, [BearerAuthLayer::new(verifier(&server))]).await;
            let token = site.send(billing_asks(GRANT)).await.assert_token();
            for (later, good) in [(0, true), (604, true), (605, false), (100_000, false)] {
                clock.set(at(NOW + later));
                let answer = show(&site, &token).await;
                if good { assert_admitted(&answer) } else { answer.assert_invalid_token(&InvalidToken::Expired) }
            }
        })
        .await;
    }

    #[tokio::test]
    async fn may_be_checked_with_another_leeway() {
        let server = server();
        on_every_stack(async |stack| {
            for (leeway, expired_for, good) in [(0, 0, false), (0, -1, true), (60, 59, true), (60, 60, false)] {
                let verifier = verifier(&server).leeway(std::time::Duration::from_secs(leeway));
                let site = stack.protect(&server, [BearerAuthLayer::new(verifier)]).await;
                let answer = show(&site, &expires_in(-expired_for)).await;
                if good { assert_admitted(&answer) } else { answer.assert_invalid_token(&InvalidToken::Expired) }
            }
        })
        .await;
    }
}

mod scopes {
    use super::*;

    fn with_scope(scope: &str) -> String {
        good().claim("scope", scope).sign()
    }

    #[tokio::test]
    async fn that_are_missing_are_named_in_the_refusal() {
        let server = server();
        let read = BearerAuthLayer::new(verifier(&server)).require_scope(READ);
        let both = read.clone().require_scope(WRITE);
        on_every_stack(async |stack| {
            let site = stack.protect(&server, [read.clone()]).await;
            for scope in ["invoices:read", "x invoices:read y"] {
                assert_admitted(&show(&site, &with_scope(scope)).await);
            }
            for scope in ["", "invoices", "invoices:reader", "invoices:write", "Invoices:read"] {
                show(&site, &with_scope(scope)).await.assert_insufficient_scope(&[READ]);
            }
            show(&site, &good().without_claim("scope").sign()).await.assert_insufficient_scope(&[READ]);

            let site = stack.protect(&server, [both.clone()]).await;
            assert_admitted(&show(&site, &with_scope("invoices:write invoices:read")).await);
            for scope in ["invoices:read", "invoices:write", ""] {
                show(&site, &with_scope(scope)).await.assert_insufficient_scope(&[READ, WRITE]);
            }
        })
        .await;
    }

    #[tokio::test]
    async fn do_not_help_an_invalid_token() {
        let server = server();
        let read = BearerAuthLayer::new(verifier(&server)).require_scope(READ);
        on_every_stack(async |stack| {
            let site = stack.protect(&server, [read.clone()]).await;
            site.get("/").await.assert_challenged(401, r#", scope="invoices:read""#);
            let forged = good().sign_with(&forge::foreign_key());
            show(&site, &forged)
                .await
                .assert_invalid_token_where(&InvalidToken::Signature, r#", scope="invoices:read""#);
            let without = good().without_claim("scope").sign_with(&forge::foreign_key());
            show(&site, &without)
                .await
                .assert_invalid_token_where(&InvalidToken::Signature, r#", scope="invoices:read""#);
        })
        .await;
    }
}

mod nested_guards {
    use super::*;

    #[tokio::test]
    async fn require_the_scopes_of_both() {
        let server = server();
        let common = BearerAuthLayer::new(verifier(&server));
        let (read, write) = (common.clone().require_scope(READ), common.require_scope(WRITE));
        on_every_stack(async |stack| {
            let site = stack.protect(&server, [write.clone(), read.clone()]).await;
            let with_scope = |scope: &str| good().claim("scope", scope).sign();
            assert_admitted(&show(&site, &with_scope("invoices:read invoices:write")).await);
            show(&site, &with_scope("invoices:read")).await.assert_insufficient_scope(&[WRITE]);
            show(&site, &with_scope("invoices:write")).await.assert_insufficient_scope(&[READ]);
        })
        .await;
    }

    /// The clock moves between its readings: at the second one, the token has expired.
    #[derive(Clone, Debug)]
    struct OneLook(std::sync::Arc<std::sync::atomic::AtomicBool>);

    impl tower_client_credentials::clock::Clock for OneLook {
        fn now(&self) -> std::time::SystemTime {
            let has_looked = self.0.swap(true, std::sync::atomic::Ordering::SeqCst);
            at(if has_looked { NOW + 100_000 } else { NOW })
        }
    }

    #[tokio::test]
    async fn check_the_time_again() {
        let clock = OneLook(std::sync::Arc::default());
        let server = settings(MemoryStore::try_from(clients()).unwrap()).clock(clock.clone()).build().unwrap();
        on_every_stack(async |stack| {
            let guard = BearerAuthLayer::new(verifier(&server));
            let site = stack.protect(&server, [guard.clone(), guard]).await;
            clock.0.store(false, std::sync::atomic::Ordering::SeqCst);
            show(&site, &good().sign()).await.assert_invalid_token(&InvalidToken::Expired);
        })
        .await;
    }

    #[tokio::test]
    async fn with_the_same_verifier_verify_once_so_the_outer_one_may_remove_the_header() {
        let server = server();
        on_every_stack(async |stack| {
            let outer = BearerAuthLayer::new(verifier(&server)).remove_authorization();
            let same = BearerAuthLayer::new(verifier(&server)).require_scope(READ);
            let site = stack.protect(&server, [same, outer.clone()]).await;
            let answer = show(&site, &good().sign()).await;
            assert_admitted(&answer);
            assert_eq!(answer.json()["authorization_is_sensitive"], Value::Null, "the header was removed");

            let other = BearerAuthLayer::new(server.verifier(OTHER_API).unwrap());
            let site = stack.protect(&server, [other, outer]).await;
            assert_eq!(show(&site, &good().sign()).await.status, 401, "nothing was verified for the other API");
        })
        .await;
    }

    #[tokio::test]
    async fn accept_the_proof_of_one_token_for_no_other() {
        let server = server();
        let guard = BearerAuthLayer::new(verifier(&server));
        on_every_stack(async |stack| {
            let swapped = tower::util::MapRequestLayer::new(|mut request: Request<hyper::body::Incoming>| {
                request.headers_mut().insert(AUTHORIZATION, http::HeaderValue::from_static("Bearer a.b.c"));
                request
            });
            let inner = swapped.layer(stack.app(&server, [guard.clone()]));
            let site = stack.serve(guard.layer(inner)).await;
            show(&site, &good().sign()).await.assert_invalid_token(&InvalidToken::Malformed);
        })
        .await;
    }

    #[tokio::test]
    async fn with_optional_credentials_pass_on_their_own_proof_or_none() {
        let server = server();
        on_every_stack(async |stack| {
            let outer = BearerAuthLayer::new(verifier(&server)).remove_authorization();
            let inner = BearerAuthLayer::new(server.verifier(OTHER_API).unwrap()).optional();
            let site = stack.protect(&server, [inner, outer]).await;
            let answer = show(&site, &good().sign()).await;
            assert_eq!((answer.status.as_u16(), &answer.json()["token"]), (200, &Value::Null));
        })
        .await;
    }

    #[tokio::test]
    async fn for_two_apis_admit_only_a_token_for_both() {
        let server = server();
        let other = BearerAuthLayer::new(server.verifier(OTHER_API).unwrap());
        on_every_stack(async |stack| {
            let guards = [BearerAuthLayer::new(verifier(&server)), other.clone()];
            let site = stack.protect(&server, guards).await;
            assert_admitted(&show(&site, &good().claim("aud", json!([API, OTHER_API])).sign()).await);
            // Admitted by the outer guard, and refused by the inner one.
            let answer = show(&site, &good().claim("aud", OTHER_API).sign()).await;
            answer.assert_invalid_token(&InvalidToken::Audience);
        })
        .await;
    }

    #[tokio::test]
    async fn do_not_trust_a_proof_that_another_layer_put_into_the_request() {
        let server = server();
        on_every_stack(async |stack| {
            let app = stack.app(&server, [BearerAuthLayer::new(verifier(&server))]);
            let planted = tower::util::MapRequestLayer::new(|mut request: Request<hyper::body::Incoming>| {
                request.extensions_mut().insert(VerifiedToken::for_test("admin").scope(READ).build());
                request
            });
            let site = stack.serve(planted.layer(app)).await;
            site.get("/").await.assert_challenged(401, NO_ERROR_CODE);
            let answer = show(&site, &good().sign()).await;
            assert_eq!(answer.json()["token"]["client_id"], "billing");
        })
        .await;
    }
}

mod options {
    use super::*;

    #[tokio::test]
    async fn optional_credentials_may_be_missing_but_not_invalid() {
        let server = server();
        on_every_stack(async |stack| {
            let guard = BearerAuthLayer::new(verifier(&server)).require_scope(WRITE).optional();
            let site = stack.protect(&server, [guard]).await;
            for answer in [site.get("/").await, site.get_authorized("Basic YTpi").await] {
                assert_eq!((answer.status.as_u16(), &answer.json()["token"]), (200, &Value::Null));
            }
            assert_admitted(&show(&site, &good().claim("scope", "invoices:write").sign()).await);
            show(&site, &good().claim("scope", "invoices:read").sign()).await.assert_insufficient_scope(&[WRITE]);
            let refused = show(&site, "a.b.c").await;
            refused.assert_invalid_token_where(&InvalidToken::Malformed, r#", scope="invoices:write""#);
            site.get_authorized("Bearer").await.assert_challenged(400, INVALID_REQUEST);
        })
        .await;
    }

    #[tokio::test]
    async fn one_of_several_scopes_is_enough_with_any_of() {
        let server = server();
        on_every_stack(async |stack| {
            let guard = BearerAuthLayer::new(verifier(&server)).require_any_scope([READ, WRITE]);
            let site = stack.protect(&server, [guard]).await;
            for scope in ["invoices:read", "invoices:write", "other invoices:write"] {
                assert_admitted(&show(&site, &good().claim("scope", scope).sign()).await);
            }
            show(&site, &good().claim("scope", "other").sign()).await.assert_insufficient_scope(&[READ, WRITE]);
        })
        .await;
    }

    /// RFC 6750 §3. MCP clients request the scopes that the challenge names.
    #[tokio::test]
    async fn a_401_names_the_scopes_that_every_token_must_have_for_the_method() {
        let server = server();
        let guard = BearerAuthLayer::new(verifier(&server)).require_scope(READ);
        let guard = guard.require_any_scope([READ, WRITE]).require_scopes_for(Method::PUT, WRITE);
        let both = ", scope=\"invoices:read invoices:write\"";
        let read = ", scope=\"invoices:read\"";
        on_every_stack(async |stack| {
            let site = stack.protect(&server, [guard.clone()]).await;
            for (method, scope) in [("GET", read), ("POST", read), ("PUT", both)] {
                let request = || post("").method(method).to("/");
                site.send(request()).await.assert_challenged(401, &format!("{NO_ERROR_CODE}{scope}"));
                let refused = site.send(request().header(AUTHORIZATION, "Bearer a.b.c")).await;
                refused.assert_challenged(401, &format!("{INVALID_TOKEN}{scope}"));
                // A malformed request would not be fixed by another scope.
                let malformed = site.send(request().header(AUTHORIZATION, "Bearer a b")).await;
                malformed.assert_challenged(400, INVALID_REQUEST);
            }
        })
        .await;
    }

    #[tokio::test]
    async fn one_of_several_scopes_is_not_named_before_a_token_is_there() {
        let server = server();
        let guard = BearerAuthLayer::new(verifier(&server)).require_any_scope([READ, WRITE]);
        let site = Stack::PLAIN.protect(&server, [guard]).await;
        site.send(post("").to("/")).await.assert_challenged(401, NO_ERROR_CODE);
    }

    #[tokio::test]
    async fn any_of_no_scopes_admits_no_request_and_names_no_scope() {
        let server = server();
        let guard = BearerAuthLayer::new(verifier(&server)).require_any_scope(Scopes::NONE);
        let answer = show(&Stack::PLAIN.protect(&server, [guard]).await, &good().sign()).await;
        assert_eq!(answer.status, 403);
        assert!(!answer.header("www-authenticate").unwrap().contains("scope=\""), "{answer:?}");
    }

    #[tokio::test]
    async fn a_token_in_the_query_is_read_only_with_a_dangerous_setting_and_only_alone() {
        let server = server();
        on_every_stack(async |stack| {
            let guard = BearerAuthLayer::new(verifier(&server)).dangerous_token_in_query();
            let site = stack.protect(&server, [guard]).await;
            let query = format!("/?x=1&access_token={}", good().sign());
            assert_admitted(&site.get(&query).await);
            let request = Request::get(&query).header(AUTHORIZATION, format!("Bearer {}", good().sign()));
            site.send(request.body(common::stack::Body::default()).unwrap())
                .await
                .assert_challenged(400, INVALID_REQUEST);
            site.get("/?x=1").await.assert_challenged(401, NO_ERROR_CODE);
        })
        .await;
    }
}

mod a_handler_that_takes_the_proof {
    use super::*;

    /// A bug in the program and not in the request; a valid token does not hide it.
    #[tokio::test]
    async fn answers_500_on_a_route_without_a_guard_instead_of_running() {
        let handler = async |token: VerifiedToken| token.client_id().to_string();
        let bare = axum::Router::new().route("/", axum::routing::get(handler));
        on_every_stack(async |stack| {
            let site = stack.serve(bare.clone()).await;
            for answer in [site.get("/").await, show(&site, &good().sign()).await] {
                assert_eq!((answer.status.as_u16(), answer.body.len()), (500, 0), "{answer:?}");
            }

            let guarded = bare.clone().layer(BearerAuthLayer::new(verifier(&server())));
            let site = stack.serve(guarded).await;
            assert_eq!(show(&site, &good().sign()).await.body, "billing");
        })
        .await;
    }
}

/// hyper closes an HTTP/1.1 connection whose request body was not read, and a sender that is still writing may lose the
/// response.
mod the_body_of_a_refused_request {
    use std::convert::Infallible;
    use std::time::Duration;

    use common::request::{Stream, TokenRequest};
    use http::{Response, Version};
    use http_body_util::Empty;
    use hyper::body::Bytes;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::time::Instant;
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    const HEAD: &str = "POST / HTTP/1.1\r\nhost: x\r\n";

    /// Reads the heads of responses without a body until there are this many, or until the server closes its side.
    async fn read_answers(connection: &mut TcpStream, count: usize) -> Vec<String> {
        let mut received = String::new();
        let mut buffer = [0; 4_096];
        while received.matches("\r\n\r\n").count() < count {
            match connection.read(&mut buffer).await.unwrap() {
                0 => break,
                bytes => received.push_str(std::str::from_utf8(&buffer[..bytes]).unwrap()),
            }
        }
        received.split_terminator("\r\n\r\n").map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn may_follow_its_head_late_and_leaves_the_http_1_connection_open() {
        on_every_stack(async |stack| {
            let mut connection =
                route(Stack { protocol: common::stack::Protocol::Http1, ..stack }).await.connect().await;
            connection.set_nodelay(true).unwrap();
            for (length, body) in
                [("content-length: 5", "hello"), ("transfer-encoding: chunked", "5\r\nhello\r\n0\r\n\r\n")]
            {
                connection.write_all(format!("{HEAD}{length}\r\n\r\n").as_bytes()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(50)).await; // long enough for a response that does not wait
                connection.write_all(body.as_bytes()).await.unwrap();
                let answers = read_answers(&mut connection, 1).await;
                assert!(answers.len() == 1 && answers[0].starts_with("HTTP/1.1 401 "), "{answers:?}");
                assert!(!answers[0].contains("connection: close"), "{answers:?}");
            }
        })
        .await;
    }

    #[tokio::test]
    async fn is_not_invited_by_100_continue() {
        let mut connection = route(Stack::PLAIN).await.connect().await;
        let head = format!("{HEAD}content-length: 5\r\nexpect: 100-continue\r\n\r\n");
        connection.write_all(head.as_bytes()).await.unwrap();
        let answers = read_answers(&mut connection, 1).await;
        assert!(answers[0].starts_with("HTTP/1.1 401 "), "{answers:?}");
    }

    /// The status of the refusal, the time that it took, and how many pieces of the body were read.
    async fn refused(request: TokenRequest, version: Version, body: Stream) -> (u16, Duration, usize) {
        let progress = body.progress();
        let mut request = request.stream(body);
        *request.version_mut() = version;
        let guard = BearerAuthLayer::new(verifier(&server()));
        let inner = service_fn(async |_| Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())));
        let begun = Instant::now();
        let answer = guard.layer(inner).oneshot(request).await.unwrap();
        (answer.status().as_u16(), begun.elapsed(), progress.taken())
    }

    const PIECE: [u8; 8 * 1_024] = [b'a'; 8 * 1_024];

    fn pieces(count: usize) -> Stream {
        Stream::of(std::iter::repeat_n(PIECE.to_vec(), count))
    }

    #[tokio::test(start_paused = true)]
    async fn is_read_for_64_kib_and_half_a_second_at_most() {
        for (body, time, taken) in [
            (pieces(8), 0, 8),
            (pieces(40), 0, 9),
            (pieces(2).then_stalls(), 500, 2),
            (pieces(0).then_stalls(), 500, 0),
        ] {
            let expected = (401, Duration::from_millis(time), taken);
            assert_eq!(refused(post(""), Version::HTTP_11, body).await, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn is_not_read_over_http_2() {
        assert_eq!(refused(post(""), Version::HTTP_2, pieces(2).then_stalls()).await, (401, Duration::ZERO, 0));
    }

    /// Without a tokio runtime there is no timer.
    #[test]
    fn is_not_waited_for_without_a_tokio_runtime() {
        let answer = futures_util::FutureExt::now_or_never(async {
            let request = post("").stream(pieces(2).then_stalls());
            let guard = BearerAuthLayer::new(verifier(&server()));
            let inner = service_fn(async |_| Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())));
            guard.layer(inner).oneshot(request).await.unwrap().status()
        });
        assert_eq!(answer, Some(http::StatusCode::UNAUTHORIZED));
    }
}

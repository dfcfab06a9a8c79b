//! The token endpoint, over sockets and on every stack: the responses that RFC 6749 §3.2, §4.4 and §5 require.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::request::{FORM, GRANT, Stream, TokenRequest, billing_asks, post};
use common::stack::{Answer, Protocol, Site, on_every_stack};
use common::{
    API, ISSUER, NOW, OTHER_API, READ, SECRET, WRITE, WRONG_SECRET, at, client, clients, clock, forge, server, settings,
};
use http::Request;
use http::header::AUTHORIZATION;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower::ServiceExt as _;
use tower_client_credentials::authorization_server::AuthorizationServerBuilder;
use tower_client_credentials::registration::RegisteredClient;
use tower_client_credentials::secret::StoredSecret;
use tower_client_credentials::store::{StoreError, StoreFuture};
use tower_client_credentials::{
    AuthorizationServer, Client, ClientAuthMethod, ClientId, ClientSecret, ClientStore, KeyRing, MemoryStore, Scope,
    Scopes, SigningKey,
};

const KIB: usize = 1024;

/// Sends each request to one server on every stack, and asserts that each is refused in the same way.
async fn are_refused(server: AuthorizationServer, status: u16, error: &str, requests: &[TokenRequest]) {
    on_every_stack(async |stack| {
        let site = stack.issue(&server).await;
        for request in requests {
            println!("{request:?}");
            site.send(request.clone()).await.assert_refused(status, error);
        }
    })
    .await;
}

/// Sends each request to one server on every stack, and asserts that each gets a token.
async fn get_tokens(server: AuthorizationServer, requests: &[TokenRequest]) {
    on_every_stack(async |stack| {
        let site = stack.issue(&server).await;
        for request in requests {
            println!("{request:?}");
            site.send(request.clone()).await.assert_token();
        }
    })
    .await;
}

/// Returns the claims of the token that a request gets.
async fn claims(site: &Site, request: TokenRequest) -> Value {
    forge::parts(&site.send(request).await.assert_token()).1
}

mod a_valid_request {
    use super::*;

    #[tokio::test]
    async fn gets_the_members_of_section_5_1_and_never_a_refresh_token() {
        on_every_stack(async |stack| {
            let site = stack.issue(&server()).await;
            let answer = site.send(billing_asks(GRANT).param("scope", "invoices:read invoices:write")).await;
            let token = answer.assert_token();
            let expected = json!({
                "access_token": token, "token_type": "Bearer", "expires_in": 600,
                "scope": "invoices:read invoices:write",
            });
            assert_eq!(answer.json(), expected);
        })
        .await;
    }

    #[tokio::test]
    async fn gets_an_rfc_9068_token_signed_by_a_published_key() {
        on_every_stack(async |stack| {
            let site = stack.issue(&server()).await;
            let token = site.send(billing_asks(GRANT).param("scope", "invoices:read")).await.assert_token();
            let (header, claims) = forge::parts(&token);
            assert_eq!(header, json!({"alg": "ES256", "typ": "at+jwt", "kid": forge::key_id()}));
            let expected = json!({
                "iss": ISSUER, "sub": "billing", "aud": API, "client_id": "billing",
                "iat": NOW, "exp": NOW + 600, "jti": claims["jti"], "scope": "invoices:read",
            });
            assert_eq!(claims, expected);
            assert!(forge::is_signed_by(&site.get("/.well-known/jwks.json").await.json(), &token));
        })
        .await;
    }

    #[tokio::test]
    async fn gets_a_token_with_a_unique_id() {
        on_every_stack(async |stack| {
            let site = stack.issue(&server()).await;
            let names = [claims(&site, billing_asks(GRANT)).await, claims(&site, billing_asks(GRANT)).await];
            let [one, two] = names.map(|claims| claims["jti"].as_str().unwrap().to_owned());
            assert_ne!(one, two);
            assert_eq!(one.len(), 22, "128 bits in base64url");
        })
        .await;
    }

    #[tokio::test]
    async fn may_carry_the_credentials_in_the_body_for_a_client_registered_for_that() {
        let request = post(GRANT).param("client_id", "reports").param("client_secret", &SECRET);
        get_tokens(server(), &[request]).await;
    }

    #[tokio::test]
    async fn gets_the_lifetime_and_subject_of_its_client() {
        let clients = [client("billing").audience(API).token_lifetime(Duration::from_secs(60)).subject("svc:billing")];
        let server =
            settings(MemoryStore::try_from(clients).unwrap()).token_lifetime(Duration::from_secs(300)).build().unwrap();
        on_every_stack(async |stack| {
            let answer = stack.issue(&server).await.send(billing_asks(GRANT)).await;
            let claims = forge::parts(&answer.assert_token()).1;
            assert_eq!(answer.json()["expires_in"], 60);
            assert_eq!(claims["exp"], NOW + 60);
            assert_eq!((&claims["sub"], &claims["client_id"]), (&json!("svc:billing"), &json!("billing")));
        })
        .await;
    }

    #[tokio::test]
    async fn is_dated_by_the_clock_of_the_server() {
        let clock = clock();
        let server = settings(MemoryStore::try_from(clients()).unwrap()).clock(clock.clone()).build().unwrap();
        on_every_stack(async |stack| {
            clock.set(at(NOW + 1000));
            let claims = claims(&stack.issue(&server).await, billing_asks(GRANT)).await;
            assert_eq!((&claims["iat"], &claims["exp"]), (&json!(NOW + 1000), &json!(NOW + 1600)));
        })
        .await;
    }

    #[tokio::test]
    async fn may_have_unknown_and_empty_parameters_which_are_ignored() {
        let server = settings(MemoryStore::try_from(clients()).unwrap()).default_scopes(READ).build().unwrap();
        on_every_stack(async |stack| {
            let site = stack.issue(&server).await;
            let plain = site.send(billing_asks(GRANT)).await.json();
            for extra in ["token_type=mac", "scope=", "scope=+", "resource=", "client_id=", "client_secret=", "&&", "x"]
            {
                let answer = site.send(billing_asks(format!("{GRANT}&{extra}"))).await;
                let claims = forge::parts(&answer.assert_token()).1;
                assert_eq!(claims["aud"], API, "{extra}");
                let mut json = answer.json();
                json["access_token"] = plain["access_token"].clone();
                assert_eq!(json, plain, "{extra}");
            }
        })
        .await;
    }
}

mod the_request_line_and_head {
    use super::*;

    #[tokio::test]
    async fn another_method_than_post_is_not_allowed() {
        on_every_stack(async |stack| {
            let site = stack.issue(&server()).await;
            for method in ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "post", "Post"] {
                let answer = site.send(billing_asks(GRANT).method(method)).await;
                answer.assert_refused(405, "invalid_request");
            }
            let answer = site.send(billing_asks(GRANT).method("HEAD")).await;
            assert_eq!((answer.status.as_u16(), answer.body.len()), (405, 0));
            answer.assert_is_of_the_token_endpoint();
        })
        .await;
    }

    #[tokio::test]
    async fn there_must_be_exactly_one_content_type_and_it_must_be_a_form() {
        let requests = [
            &[][..],
            &["application/json"],
            &["multipart/form-data"],
            &["application/x-www-form-urlencodedx"],
            &["application/x-www-form-urlencoded, application/x-www-form-urlencoded"],
            &["application/ x-www-form-urlencoded"],
            &[""],
            &[FORM, FORM],
            &[FORM, "application/json"],
        ]
        .map(|types| billing_asks(GRANT).content_types(types));
        are_refused(server(), 400, "invalid_request", &requests).await;
    }

    #[tokio::test]
    async fn the_content_type_may_have_any_case_parameters_and_spaces() {
        let requests = [
            "application/x-www-form-urlencoded",
            "APPLICATION/X-WWW-Form-URLEncoded",
            "application/x-www-form-urlencoded;charset=UTF-8",
            "application/x-www-form-urlencoded ; charset=\"utf-8\"",
            "application/x-www-form-urlencoded;",
        ]
        .map(|content_type| billing_asks(GRANT).content_types(&[content_type]));
        get_tokens(server(), &requests).await;
    }

    #[tokio::test]
    async fn parameters_in_the_query_are_not_read() {
        on_every_stack(async |stack| {
            let site = stack.issue(&server()).await;
            let in_query = billing_asks("").to("/token?grant_type=client_credentials");
            site.send(in_query).await.assert_refused(400, "invalid_request");
            let in_both = billing_asks(GRANT).to("/token?scope=admin&resource=x&grant_type=password");
            assert_eq!(site.send(in_both).await.json()["scope"], Value::Null);
        })
        .await;
    }

    #[tokio::test]
    async fn credentials_in_the_query_are_refused() {
        let uri = format!("/token?client_id=reports&client_secret={}", *SECRET);
        let escaped = format!("/token?x&client%5Fsecret={}", *SECRET);
        let requests = [
            post(GRANT).to(&uri),
            billing_asks(GRANT).to(&escaped),
            billing_asks(GRANT).to("/token?client_assertion=x"),
        ];
        are_refused(server(), 400, "invalid_request", &requests).await;
    }

    /// The requests that are refused by their head alone, with the status.
    fn refused_by_the_head() -> [(TokenRequest, u16); 6] {
        [
            (billing_asks("").method("GET"), 405),
            (billing_asks("").method("PUT"), 405),
            (billing_asks("").content_types(&["application/json"]), 400),
            (billing_asks("").content_types(&[]), 400),
            (billing_asks("").to("/token?client_secret=x"), 400),
            (post("").to("/token?scope=a&client_assertion=x"), 400),
        ]
    }

    /// The body never ends, and waiting for it would exceed the time limit of this test.
    #[tokio::test]
    async fn a_wrong_head_is_refused_at_once_regardless_of_the_speed_of_the_body() {
        on_every_stack(async |stack| {
            let site = stack.issue(&server()).await;
            for (request, status) in refused_by_the_head() {
                println!("{request:?}");
                let mut request = request.stream(Stream::of([GRANT]).then_stalls());
                request.headers_mut().insert(http::header::CONTENT_LENGTH, (GRANT.len() + 1).into());
                let answer = site.send(request).await;
                answer.assert_refused(status, "invalid_request");
                // The rest of the body would be parsed as the next request.
                let closes = (stack.protocol == Protocol::Http1).then_some("close");
                assert_eq!(answer.header("connection"), closes, "{answer:?}");
            }
            site.send(billing_asks(GRANT)).await.assert_token();
        })
        .await;
    }

    #[tokio::test]
    async fn a_wrong_head_is_refused_without_reading_the_body() {
        for (request, status) in refused_by_the_head() {
            let stream = Stream::of([GRANT]);
            let progress = stream.progress();
            let answer = server().token_service().oneshot(request.stream(stream)).await.unwrap();
            assert_eq!((answer.status().as_u16(), progress.taken()), (status, 0));
        }
    }

    /// hyper sends `100 Continue` when the body is read.
    #[tokio::test]
    async fn a_wrong_head_with_expect_100_continue_gets_the_refusal_and_no_100() {
        on_every_stack(async |stack| {
            if stack.protocol == Protocol::H2c {
                return;
            }
            let mut connection = stack.issue(&server()).await.connect().await;
            let head = "GET /token HTTP/1.1\r\nhost: x\r\ncontent-length: 29\r\nexpect: 100-continue\r\n\r\n";
            connection.write_all(head.as_bytes()).await.unwrap();
            let mut answer = String::new();
            connection.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
        })
        .await;
    }

    #[tokio::test]
    async fn a_refusal_by_the_head_is_an_event_like_every_other_refusal() {
        let (events, mut listener) = tower_client_credentials::event::channel();
        let server = settings(MemoryStore::try_from(clients()).unwrap()).events(events).build().unwrap();
        for (request, status) in refused_by_the_head() {
            server.token_service().oneshot(Request::from(request)).await.unwrap();
            let outcome = listener.try_recv().unwrap().outcome;
            let tower_client_credentials::event::Outcome::Refused(error) = outcome else { panic!("{outcome:?}") };
            assert_eq!(error.status().as_u16(), status);
        }
    }

    #[tokio::test]
    async fn other_parameters_in_the_query_are_not_read() {
        let request =
            billing_asks(GRANT).to("/token?grant_type=password&scope=nobodys&client_id=x&client_secretx=y&%zz");
        get_tokens(server(), &[request]).await;
    }

    #[tokio::test]
    async fn every_other_path_goes_to_the_wrapped_service() {
        on_every_stack(async |stack| {
            let site = stack.issue(&server()).await;
            for path in ["/", "/token/", "/tokens", "/Token", "/api/token", "/.well-known/jwks.json/", "/%74oken"] {
                let answer = site.send(billing_asks(GRANT).to(path)).await;
                assert_eq!((answer.status.as_u16(), answer.json()["path"].as_str()), (200, Some(path)));
            }
        })
        .await;
    }

    #[tokio::test]
    async fn the_path_can_be_set_and_follows_the_path_of_the_issuer() {
        let clients = || MemoryStore::try_from(clients()).unwrap();
        let moved = settings(clients()).token_path("/oauth/v2/token").build().unwrap();
        let keys = KeyRing::generate().unwrap();
        let tenant = AuthorizationServer::new("https://auth.example.com/tenant/", keys, clients()).unwrap();
        on_every_stack(async |stack| {
            for (server, path) in [(&moved, "/oauth/v2/token"), (&tenant, "/tenant/token")] {
                let site = stack.issue(server).await;
                assert_eq!(site.send(billing_asks(GRANT)).await.json()["path"], "/token");
                assert_eq!(site.send(billing_asks(GRANT).to(path)).await.json()["token_type"], "Bearer");
            }
        })
        .await;
    }
}

mod the_body {
    use super::*;

    /// A valid request in a body of this many bytes.
    fn of_length(bytes: usize) -> String {
        let start = format!("{GRANT}&filling=");
        let filling = "a".repeat(bytes - start.len());
        start + &filling
    }

    /// The same without an announced length.
    fn streamed(body: &str) -> Request<common::stack::Body> {
        billing_asks("").stream(Stream::of(body.as_bytes().chunks(8 * KIB).map(<[u8]>::to_vec)))
    }

    #[tokio::test]
    async fn of_64_kib_is_accepted_and_a_larger_one_gets_a_413_after_it_was_read_to_its_end() {
        on_every_stack(async |stack| {
            let site = stack.issue(&server()).await;
            let good = of_length(64 * KIB);
            site.send(billing_asks(good.clone())).await.assert_token();
            site.send(streamed(&good)).await.assert_token();
            for bytes in [64 * KIB + 1, 100 * KIB, 128 * KIB] {
                let large = of_length(bytes);
                for answer in [site.send(billing_asks(large.clone())).await, site.send(streamed(&large)).await] {
                    answer.assert_refused(413, "invalid_request");
                    assert_closes(&answer, stack.protocol);
                }
            }
        })
        .await;
    }

    /// Over HTTP/1.1, the unread rest of a body would be parsed as the next request.
    #[track_caller]
    fn assert_closes(answer: &Answer, protocol: Protocol) {
        assert_eq!(answer.header("connection"), (protocol == Protocol::Http1).then_some("close"), "{answer:?}");
    }

    #[tokio::test]
    async fn can_be_limited_to_another_size() {
        let server = settings(MemoryStore::try_from(clients()).unwrap()).body_limit(100).build().unwrap();
        on_every_stack(async |stack| {
            let site = stack.issue(&server).await;
            site.send(billing_asks(of_length(100))).await.assert_token();
            site.send(billing_asks(of_length(101))).await.assert_refused(413, "invalid_request");
            site.send(streamed(&of_length(101))).await.assert_refused(413, "invalid_request");
        })
        .await;
    }

    #[tokio::test]
    async fn without_end_is_read_for_64_kib_beyond_the_limit_and_no_further() {
        on_every_stack(async |stack| {
            let site = stack.issue(&server()).await;
            let endless = Stream::of([of_length(128 * KIB + 1)]).then_stalls();
            site.send(billing_asks("").stream(endless)).await.assert_refused(413, "invalid_request");
        })
        .await;
    }

    /// Data in flight when the response was sent must be read from the connection. Otherwise the system of the caller resets
    /// the connection and discards the response.
    #[tokio::test]
    async fn that_is_too_large_is_read_completely_if_it_exceeds_the_limit_by_at_most_64_kib() {
        for (pieces, taken) in [(9, 9), (16, 16), (17, 17), (40, 17)] {
            let stream = Stream::of(std::iter::repeat_n(vec![b'a'; 8 * KIB], pieces));
            let progress = stream.progress();
            let answer = server().token_service().oneshot(billing_asks("").stream(stream)).await.unwrap();
            assert_eq!(answer.status(), 413);
            assert_eq!(progress.taken(), taken, "of {pieces} pieces of 8 KiB");
        }
    }

    /// A server with a short timeout.
    fn impatient(patience: Duration) -> AuthorizationServer {
        settings(MemoryStore::try_from(clients()).unwrap()).body_timeout(patience).build().unwrap()
    }

    const SHORT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn that_was_announced_as_too_large_is_refused_regardless_of_the_data_that_follow() {
        on_every_stack(async |stack| {
            let site = stack.issue(&impatient(SHORT)).await;
            let mut request = billing_asks("").stream(Stream::of([GRANT]).then_stalls());
            request.headers_mut().insert(http::header::CONTENT_LENGTH, 1_000_000.into());
            site.send(request).await.assert_refused(413, "invalid_request");
        })
        .await;
    }

    #[tokio::test]
    async fn that_stops_arriving_gets_a_408() {
        on_every_stack(async |stack| {
            let site = stack.issue(&impatient(SHORT)).await;
            let stalled = billing_asks("").stream(Stream::of([GRANT]).then_stalls());
            let answer = site.send(stalled).await;
            answer.assert_refused(408, "invalid_request");
            assert_closes(&answer, stack.protocol);
        })
        .await;
    }

    /// A request as raw bytes, with a body that may differ from the announced length.
    fn raw_post(announced: usize, body: &str) -> String {
        let head = format!("POST /token HTTP/1.1\r\nhost: x\r\ncontent-type: {FORM}\r\n");
        format!("{head}content-length: {announced}\r\n\r\n{body}")
    }

    /// Reads until the server closes its side.
    async fn assert_raw_refusal(connection: &mut tokio::net::TcpStream, status: u16) {
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(serde_json::from_str::<Value>(body).unwrap()["error"], "invalid_request", "{answer}");
    }

    #[tokio::test]
    async fn that_is_not_read_to_its_end_closes_the_http_1_connection_after_the_response() {
        on_every_stack(async |stack| {
            if stack.protocol == Protocol::H2c {
                return;
            }
            for (server, announced, sent, status) in
                [(server(), 1_000_000, 128 * KIB + 1, 413), (impatient(SHORT), 100, 50, 408)]
            {
                let mut connection = stack.issue(&server).await.connect().await;
                let request = raw_post(announced, &of_length(sent));
                connection.write_all(request.as_bytes()).await.unwrap();
                assert_raw_refusal(&mut connection, status).await;
            }
        })
        .await;
    }

    #[tokio::test]
    async fn that_breaks_off_is_refused_and_not_treated_as_complete() {
        on_every_stack(async |stack| {
            if stack.protocol == Protocol::H2c {
                return;
            }
            let mut connection = stack.issue(&server()).await.connect().await;
            let request = raw_post(1000, &format!("{GRANT}&client_id=reports&client_secret={}", *SECRET));
            connection.write_all(request.as_bytes()).await.unwrap();
            connection.shutdown().await.unwrap();
            assert_raw_refusal(&mut connection, 400).await;
        })
        .await;
    }

    #[tokio::test]
    async fn that_is_refused_does_not_affect_the_other_streams_of_an_http_2_connection() {
        on_every_stack(async |stack| {
            if stack.protocol == Protocol::Http1 {
                return;
            }
            let site = stack.issue(&impatient(Duration::from_millis(300))).await;
            let io = TokioIo::new(site.connect().await);
            let (connection, driver) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
            let driver = tokio::spawn(driver);
            let send = async |request: Request<common::stack::Body>| {
                let (mut head, body) = request.into_parts();
                head.uri = site.url("/token").parse().unwrap();
                let mut connection = connection.clone();
                Answer::read(connection.send_request(Request::from_parts(head, body)).await.unwrap()).await
            };
            let endless = Stream::of([of_length(200 * KIB)]).then_stalls();
            let stalled = Stream::of([GRANT]).then_stalls();
            let (endless, stalled, good) = tokio::join!(
                send(billing_asks("").stream(endless)),
                send(billing_asks("").stream(stalled)),
                send(billing_asks(GRANT).into()),
            );
            endless.assert_refused(413, "invalid_request");
            stalled.assert_refused(408, "invalid_request");
            good.assert_token();
            send(billing_asks(GRANT).into()).await.assert_token();
            assert!(!driver.is_finished());
        })
        .await;
    }

    #[tokio::test]
    async fn that_is_malformed_is_refused() {
        let requests = [
            &b"scope=%"[..],
            b"scope=%f",
            b"scope=%zz",
            b"scope=a%+b",
            b"scope=%FF",
            b"scope=%C3",
            b"scope=%ED%A0%80",
            b"scope=\xff",
            b"scope=a%00",
            b"scope=a\x00",
            b"scope=a%0A",
            b"scope=a\tb",
            b"scope=a%7F",
            b"scope=a%C2%85",
            b"%zz=a",
            b"a%00=b",
        ]
        .map(|extra| billing_asks([format!("{GRANT}&").as_bytes(), extra].concat()));
        are_refused(server(), 400, "invalid_request", &requests).await;
    }
}

mod parameters {
    use super::*;

    #[tokio::test]
    async fn the_grant_type_must_be_there() {
        let requests = ["", "grant_type", "grant_type=", "scope=invoices%3Aread", "Grant_Type=client_credentials"];
        are_refused(server(), 400, "invalid_request", &requests.map(billing_asks)).await;
    }

    #[tokio::test]
    async fn another_grant_type_is_not_supported() {
        let requests = [
            "grant_type=CLIENT_CREDENTIALS",
            "grant_type=client_credentials+",
            "grant_type=password&username=a&password=b",
            "grant_type=authorization_code&code=c",
            "grant_type=refresh_token&refresh_token=r",
            "grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer",
        ];
        are_refused(server(), 400, "unsupported_grant_type", &requests.map(billing_asks)).await;
    }

    #[tokio::test]
    async fn a_repeated_parameter_is_refused_even_if_both_are_equal() {
        let requests = [
            "grant_type=client_credentials",
            "scope=invoices:read&scope=invoices:read",
            "scope=invoices:read&scope=invoices:write",
            "scope=&scope=invoices:read",
            "client_id=billing&client_id=billing",
            "unknown=1&unknown=2",
            "scope=invoices:read&sc%6Fpe=invoices:read",
        ]
        .map(|extra| billing_asks(format!("{GRANT}&{extra}")));
        are_refused(server(), 400, "invalid_request", &requests).await;
    }
}

mod client_authentication {
    use super::*;

    /// Every character that has a meaning in a URI, a form or the `Authorization` header.
    const ODD_ID: &str = r#"o:d%d+ &=/@?~" x"#;
    const ODD_SECRET: &str = r#"s: %41+&=/@?~" \ "#;

    /// `Open:Sesame`, which other libraries use in tests as well.
    const SESAME: &str =
        "$argon2id$v=19$m=8,t=1,p=1$cGVwcGVyLWFuZC1zYWx0IQ$l36bkGIORopg3/RZkYtfuF48TiGoojXiCn2RcuZyEPg";
    const ODD_HASH: &str =
        "$argon2id$v=19$m=8,t=1,p=1$cGVwcGVyLWFuZC1zYWx0IQ$k3UUTXUUcmIffflmWoqY281DLypxMM+riwXl5u0M1Vk";

    /// A secret chosen by a person, hashed at the lowest cost, since its strength is not under test.
    fn chosen(hash: &str) -> StoredSecret {
        hash.parse().unwrap()
    }

    fn odd() -> Client {
        Client::new(ODD_ID, chosen(ODD_HASH)).audience(API)
    }

    fn serving<const N: usize>(clients: [Client; N]) -> AuthorizationServer {
        settings(MemoryStore::try_from(clients).unwrap()).build().unwrap()
    }

    #[tokio::test]
    async fn id_and_secret_are_form_decoded() {
        let encoded = "o%3Ad%25d%2B%20%26%3D%2F%40%3F~%22%20x:s%3A+%2541%2B%26%3D%2F%40%3F%7E%22+%5C+";
        let requests = [post(GRANT).basic(ODD_ID, ODD_SECRET), post(GRANT).basic_pair(encoded)];
        get_tokens(serving([odd()]), &requests).await;
    }

    #[tokio::test]
    async fn odd_characters_are_accepted_in_the_body_as_well() {
        let request = post(GRANT).param("client_id", ODD_ID).param("client_secret", ODD_SECRET);
        get_tokens(serving([odd().authentication(ClientAuthMethod::ClientSecretPost)]), &[request]).await;
    }

    #[tokio::test]
    async fn a_generated_secret_is_accepted_with_and_without_form_encoding() {
        let plain = format!("billing:{}", *SECRET);
        get_tokens(server(), &[post(GRANT).basic_pair(plain), post(GRANT).basic("billing", &SECRET)]).await;
    }

    #[tokio::test]
    async fn the_scheme_is_accepted_in_any_case() {
        let requests = ["Basic", "basic", "BASIC", "bAsIc", "Basic "]
            .map(|scheme| post(GRANT).header(AUTHORIZATION, &format!("{scheme} T3BlbjpTZXNhbWU=")));
        get_tokens(serving([Client::new("Open", chosen(SESAME)).audience(API)]), &requests).await;
    }

    #[tokio::test]
    async fn a_malformed_header_is_a_failed_client_authentication() {
        let headers = [
            "",
            "Basic",
            "Basic ||",
            "Basic T3BlbjpTZXNhbWU",
            "Basic T3Blbj pTZXNhbWU=",
            "BasicT3BlbjpTZXNhbWU=",
            "Basis T3BlbjpTZXNhbWU=",
            "Bearer T3BlbjpTZXNhbWU=",
            "T3BlbjpTZXNhbWU=",
        ]
        .map(|header| post(GRANT).header(AUTHORIZATION, header));
        let pairs = [
            &b"nocolon"[..],
            b"",
            b":",
            b"Open:",
            b":Sesame",
            b"Open:%",
            b"Open:%zz",
            b"Op%C3:Sesame",
            b"Open:\xff",
            b"Open:Sesame\n",
        ]
        .map(|pair| post(GRANT).basic_pair(pair));
        let server = serving([Client::new("Open", chosen(SESAME)).audience(API)]);
        are_refused(server, 401, "invalid_client", &[&headers[..], &pairs].concat()).await;
    }

    #[tokio::test]
    async fn exactly_one_method_must_be_used() {
        let billing = || billing_asks(GRANT);
        let requests = [
            billing().param("client_secret", &SECRET),
            billing().param("client_id", "billing").param("client_secret", &SECRET),
            billing().basic("billing", &SECRET),
            billing().header(AUTHORIZATION, "Bearer x"),
            billing().param("client_assertion", "a.b.c"),
            post(GRANT)
                .param("client_id", "reports")
                .param("client_secret", &SECRET)
                .param("client_assertion", "a.b.c"),
            post(GRANT).header(AUTHORIZATION, "Bearer x").param("client_id", "reports").param("client_secret", &SECRET),
        ];
        are_refused(server(), 400, "invalid_request", &requests).await;
    }

    #[tokio::test]
    async fn a_client_id_in_the_body_must_be_that_of_the_header() {
        let differing = ["reports", "Billing", "billing "].map(|id| billing_asks(GRANT).param("client_id", id));
        are_refused(server(), 400, "invalid_request", &differing).await;
        get_tokens(server(), &[billing_asks(GRANT).param("client_id", "billing")]).await;
    }

    #[tokio::test]
    async fn only_the_method_that_the_client_is_registered_for_is_accepted() {
        let requests = [
            post(GRANT).basic("reports", &SECRET),
            post(GRANT).param("client_id", "billing").param("client_secret", &SECRET),
        ];
        are_refused(server(), 401, "invalid_client", &requests).await;
    }

    #[tokio::test]
    async fn every_failed_client_authentication_gets_the_same_response_byte_for_byte() {
        let causes = [
            (post(GRANT), "has no client credentials"),
            (post(GRANT).param("client_id", "billing"), "has no client credentials"),
            (post(GRANT).param("client_secret", &SECRET), "no client_id"),
            (
                post(GRANT).param("client_id", "billing").param("client_assertion", "a.b.c"),
                "the parameter `client_assertion_type` is absent",
            ),
            (
                post(GRANT)
                    .param("client_id", "billing")
                    .param("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
                    .param("client_assertion", "a.b.c"),
                "the server accepts no client assertions",
            ),
            (post(GRANT).basic("unknown", &SECRET), "`unknown`: the client is not registered"),
            (post(GRANT).basic("billing", &WRONG_SECRET), "`billing`: the secret matches none"),
            (post(GRANT).basic("billing", ""), "`billing`: the secret matches none"),
            (post(GRANT).basic("billing", &"a".repeat(1025)), "longer than any stored secret"),
            (post(GRANT).basic("retired", &SECRET), "`retired`: the client is disabled"),
            (
                post(GRANT).basic("reports", &SECRET),
                "`reports`: the client is registered for client_secret_post but used client_secret_basic",
            ),
            (post(GRANT).header(AUTHORIZATION, "Basic ||"), "not valid Basic authentication"),
        ];
        on_every_stack(async |stack| {
            let site = stack.issue(&server()).await;
            let expected = site.send(post(GRANT)).await;
            expected.assert_refused(401, "invalid_client");
            for (request, cause) in &causes {
                let answer = site.send(request.clone()).await;
                // Only it is reported.
                let reason = answer.reason.clone().unwrap();
                assert!(reason.contains(cause) && !reason.contains(SECRET.as_str()), "{reason}");
                assert_eq!(Answer { reason: expected.reason.clone(), ..answer }, expected, "{cause}");
            }
        })
        .await;
    }

    #[tokio::test]
    async fn each_of_several_secrets_is_accepted_so_that_a_client_can_move_to_a_new_one() {
        let billing = client("billing").secret(ClientSecret::new(WRONG_SECRET.as_str()).unwrap()).audience(API);
        let requests = [&SECRET, &WRONG_SECRET].map(|secret| post(GRANT).basic("billing", secret));
        get_tokens(serving([billing]), &requests).await;
    }
}

mod scopes {
    use super::*;

    #[tokio::test]
    async fn that_the_client_does_not_have_are_refused() {
        let requests = ["admin", "invoices:read admin", "Invoices:read", "invoices", "invoices:read,invoices:write"]
            .map(|scope| billing_asks(GRANT).param("scope", scope));
        are_refused(server(), 400, "invalid_scope", &requests).await;
    }

    #[tokio::test]
    async fn that_are_malformed_are_refused() {
        let requests = ["a\"b", "a\\b", "é", "invoices:read é"].map(|scope| billing_asks(GRANT).param("scope", scope));
        are_refused(server(), 400, "invalid_scope", &requests).await;
    }

    #[tokio::test]
    async fn are_granted_as_requested_without_extra_spaces_and_repetitions() {
        let scopes = ["basic", "test", "0"].map(Scope::from_static);
        let server =
            settings(MemoryStore::try_from([client("billing").scopes(scopes).audience(API)]).unwrap()).build().unwrap();
        on_every_stack(async |stack| {
            let site = stack.issue(&server).await;
            for (asked, granted) in [
                ("basic", "basic"),
                ("test basic", "test basic"),
                ("basic  test 0    ", "basic test 0"),
                (" test basic test", "test basic"),
            ] {
                let answer = site.send(billing_asks(GRANT).param("scope", asked)).await;
                let claims = forge::parts(&answer.assert_token()).1;
                assert_eq!(answer.json()["scope"], granted, "{asked}");
                assert_eq!(claims["scope"], granted, "{asked}");
            }
        })
        .await;
    }

    /// The scopes of a request that names none: the client's own defaults, or the server's.
    #[tokio::test]
    async fn default_to_those_of_the_client_or_else_the_servers_within_the_clients_scopes() {
        let may_read_and_write = || client("billing").scopes([READ, WRITE]).audience(API);
        let both: Scopes = [READ, WRITE].into();
        for (client, server, granted) in [
            (may_read_and_write(), Scopes::NONE, None),
            (may_read_and_write(), READ.into(), Some("invoices:read")),
            (may_read_and_write().default_scopes(WRITE), READ.into(), Some("invoices:write")),
            (may_read_and_write().default_scopes(Scopes::NONE), READ.into(), None),
            (client("billing").scope(WRITE).audience(API), both, Some("invoices:write")),
            (client("billing").audience(API), READ.into(), None),
        ] {
            let server = settings(MemoryStore::try_from([client]).unwrap()).default_scopes(server).build().unwrap();
            on_every_stack(async |stack| {
                let answer = stack.issue(&server).await.send(billing_asks(GRANT)).await;
                let (json, claims) = (answer.json(), forge::parts(&answer.assert_token()).1);
                assert_eq!(json.get("scope").map(|scope| scope.as_str().unwrap()), granted);
                assert_eq!(claims.get("scope").map(|scope| scope.as_str().unwrap()), granted);
            })
            .await;
        }
    }
}

mod resources {
    use super::*;

    const THIRD_API: &str = "https://third.example.com";

    fn serving(client: Client, default: Option<&str>) -> AuthorizationServer {
        let settings = settings(MemoryStore::try_from([client]).unwrap());
        default.into_iter().fold(settings, AuthorizationServerBuilder::default_audience).build().unwrap()
    }

    fn for_both() -> Client {
        client("billing").audience(API).audience(OTHER_API)
    }

    fn asking_for(resources: &[&str]) -> TokenRequest {
        resources.iter().fold(billing_asks(GRANT), |request, resource| request.param("resource", resource))
    }

    #[tokio::test]
    async fn become_the_audience_of_the_token() {
        for (server, asked, granted) in [
            (serving(for_both(), None), &[API][..], json!(API)),
            (serving(for_both(), None), &[OTHER_API], json!(OTHER_API)),
            (serving(for_both(), None), &[OTHER_API, API], json!([OTHER_API, API])),
            (serving(for_both(), None), &[API, API], json!(API)),
            (serving(client("billing"), Some(THIRD_API)), &[THIRD_API], json!(THIRD_API)),
        ] {
            on_every_stack(async |stack| {
                let claims = claims(&stack.issue(&server).await, asking_for(asked)).await;
                assert_eq!(claims["aud"], granted);
            })
            .await;
        }
    }

    #[tokio::test]
    async fn default_to_the_clients_default_or_else_the_servers() {
        for (server, granted) in [
            (serving(client("billing").audience(API), None), API),
            (serving(client("billing").audience(API), Some(THIRD_API)), API),
            (serving(for_both().default_audience(OTHER_API), None), OTHER_API),
            (serving(client("billing"), Some(THIRD_API)), THIRD_API),
        ] {
            on_every_stack(async |stack| {
                assert_eq!(claims(&stack.issue(&server).await, billing_asks(GRANT)).await["aud"], granted);
            })
            .await;
        }
    }

    #[tokio::test]
    async fn are_never_all_that_the_client_may_request() {
        are_refused(serving(for_both(), None), 400, "invalid_target", &[asking_for(&[])]).await;
    }

    /// RFC 3986 §6.2.2 and §6.2.3. Clients that derive the resource from a URL add or drop the slash.
    #[tokio::test]
    async fn in_another_spelling_get_the_registered_spelling() {
        const SLASH: &str = "https://api.example.com/";
        const MCP: &str = "https://api.example.com/a%2Fb/mcp";
        let registered = |audience: &str| serving(client("billing").audience(audience).audience(OTHER_API), None);
        for (audience, spellings) in [
            (
                SLASH,
                &[SLASH, API, "HTTPS://API.example.com/", "https://api.example.com:443", "https://%61pi.example.com"][..],
            ),
            (
                API,
                &[API, SLASH, "HTTPS://api.example.com", "https://api.example.com:443/", "https://api.example.com:/."],
            ),
            (MCP, &[MCP, "https://API.example.com/a%2fb/./%6dcp", "https://api.example.com/a%2Fb/x/../mcp"]),
        ] {
            let server = registered(audience);
            on_every_stack(async |stack| {
                let site = stack.issue(&server).await;
                for spelling in spellings {
                    assert_eq!(claims(&site, asking_for(&[spelling])).await["aud"], audience, "{spelling}");
                    let twice = asking_for(&[spelling, OTHER_API, audience]);
                    assert_eq!(claims(&site, twice).await["aud"], json!([audience, OTHER_API]), "{spelling}");
                }
                let stray = asking_for(&[&format!("{audience}x")]);
                site.send(stray).await.assert_refused(400, "invalid_target");
            })
            .await;
        }
        // The default of the server, and an audience with its own scopes at the server.
        let defaults = settings(MemoryStore::try_from([client("billing").scopes([READ, WRITE])]).unwrap());
        let server = defaults.default_audience(SLASH).resource_with_scopes(SLASH, READ).build().unwrap();
        on_every_stack(async |stack| {
            let request = asking_for(&[API]).param("scope", "invoices:read invoices:write");
            let claims = claims(&stack.issue(&server).await, request).await;
            assert_eq!((&claims["aud"], &claims["scope"]), (&json!(SLASH), &json!("invoices:read")));
        })
        .await;
    }

    #[tokio::test]
    async fn with_two_registered_spellings_get_the_same_spelling_or_else_the_first() {
        const SLASH: &str = "https://api.example.com/";
        let server = serving(client("billing").audience(SLASH).audience(API), None);
        on_every_stack(async |stack| {
            let site = stack.issue(&server).await;
            for (asked, granted) in [(API, API), (SLASH, SLASH), ("HTTPS://api.example.com", SLASH)] {
                assert_eq!(claims(&site, asking_for(&[asked])).await["aud"], granted, "{asked}");
            }
        })
        .await;
    }

    #[tokio::test]
    async fn may_be_named_by_the_audience_parameter_where_the_server_accepts_it() {
        let server =
            settings(MemoryStore::try_from([for_both()]).unwrap()).accept_audience_parameter().build().unwrap();
        on_every_stack(async |stack| {
            let site = stack.issue(&server).await;
            for audience in [OTHER_API, "https://OTHER.example.com/"] {
                let request = asking_for(&[]).param("audience", audience);
                assert_eq!(claims(&site, request).await["aud"], OTHER_API, "{audience}");
                for resources in [&[OTHER_API][..], &["https://other.example.com:443"], &[OTHER_API, OTHER_API]] {
                    let both = asking_for(resources).param("audience", audience);
                    assert_eq!(claims(&site, both).await["aud"], OTHER_API, "{audience} and {resources:?}");
                }
            }
            for (audience, resources) in
                [(API, &[OTHER_API][..]), (API, &[API, OTHER_API]), (THIRD_API, &[]), ("api", &[]), ("api", &[API])]
            {
                let request = asking_for(resources).param("audience", audience);
                site.send(request).await.assert_refused(400, "invalid_target");
            }
            let empty = asking_for(&[API]).param("audience", "");
            assert_eq!(claims(&site, empty).await["aud"], API, "a parameter without a value counts as omitted");
        })
        .await;
    }

    /// RFC 6749 §3.2: unrecognised parameters are ignored.
    #[tokio::test]
    async fn are_not_named_by_the_audience_parameter_where_the_server_does_not_accept_it() {
        let server = serving(for_both(), None);
        on_every_stack(async |stack| {
            let site = stack.issue(&server).await;
            for audience in [OTHER_API, "api", "x y"] {
                let request = asking_for(&[API]).param("audience", audience);
                assert_eq!(claims(&site, request).await["aud"], API, "{audience}");
            }
            let alone = asking_for(&[]).param("audience", API);
            site.send(alone).await.assert_refused(400, "invalid_target");
        })
        .await;
    }

    #[tokio::test]
    async fn that_are_not_absolute_uris_or_not_registered_are_refused() {
        let stray = format!("{API}/v1");
        let requests = [
            &["api"][..],
            &["/api"],
            &["//api.example.com"],
            &["https://"],
            &["https://api.example.com#fragment"],
            &["https://api.example.com#"],
            &["https://api.example.com/ "],
            &[&stray],
            &[THIRD_API],
            &["http://api.example.com"],
            &["https://api.example.com:8443"],
            &["https://user@api.example.com"],
            &["https://api.example.com?"],
            &[API, THIRD_API],
            &[API, "api"],
        ]
        .map(asking_for);
        are_refused(serving(for_both(), None), 400, "invalid_target", &requests).await;
        // The default of the server is for clients without an audience of their own.
        are_refused(serving(for_both(), Some(THIRD_API)), 400, "invalid_target", &requests).await;
    }
}

mod a_store_that_cannot_answer {
    use super::*;

    #[derive(Debug)]
    struct Unreachable;

    impl ClientStore for Unreachable {
        fn find<'a>(&'a self, _: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>> {
            StoreFuture::new(async move { Err(StoreError::new("postgres://tcc:hunter2@db refused the connection")) })
        }
    }

    #[tokio::test]
    async fn causes_a_503_with_retry_after_that_reveals_nothing_about_the_store() {
        on_every_stack(async |stack| {
            let site = stack.issue(&settings(Unreachable).build().unwrap()).await;
            for secret in [&SECRET, &WRONG_SECRET] {
                let answer = site.send(post(GRANT).basic("billing", secret)).await;
                answer.assert_refused(503, "temporarily_unavailable");
                assert_eq!(answer.header("retry-after"), Some("1"));
                assert!(!format!("{answer:?}").contains("hunter2"));
            }
        })
        .await;
    }
}

mod published_documents {
    use super::*;

    const JWKS: &str = "/.well-known/jwks.json";
    const METADATA: &str = "/.well-known/oauth-authorization-server";

    async fn ask(site: &Site, method: &str, path: &str, known: &[&str]) -> Answer {
        let request = known.iter().fold(Request::builder().method(method).uri(path), |request, etag| {
            request.header(http::header::IF_NONE_MATCH, *etag)
        });
        site.send(request.body(common::stack::Body::default()).unwrap()).await
    }

    #[tokio::test]
    async fn the_key_set_has_only_the_public_numbers_of_every_trusted_key() {
        let next = SigningKey::from_pem(include_str!("keys/ed25519.pem")).unwrap();
        let keys = KeyRing::from_pem(common::KEY).unwrap().also_trust(next.verifying_key());
        let server = AuthorizationServer::new(ISSUER, keys, MemoryStore::try_from(clients()).unwrap()).unwrap();
        let point = p256::ecdsa::VerifyingKey::from(&forge::signing_key()).to_encoded_point(false);
        on_every_stack(async |stack| {
            let answer = ask(&stack.issue(&server).await, "GET", JWKS, &[]).await;
            assert_eq!(answer.header("content-type"), Some("application/jwk-set+json"));
            let keys = answer.json()["keys"].as_array().unwrap().clone();
            let expected = json!({
                "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": forge::key_id(),
                "x": forge::encode(point.x().unwrap()), "y": forge::encode(point.y().unwrap()),
            });
            assert_eq!(keys[0], expected);
            assert_eq!((&keys[1]["crv"], &keys[1]["kid"]), (&json!("Ed25519"), &json!(next.key_id())));
            assert!(keys.len() == 2 && keys.iter().all(|key| key.get("d").is_none()), "{keys:?}");
        })
        .await;
    }

    #[tokio::test]
    async fn the_metadata_of_rfc_8414_has_the_supported_members_and_omits_empty_ones() {
        on_every_stack(async |stack| {
            let answer = ask(&stack.issue(&server()).await, "GET", METADATA, &[]).await;
            assert_eq!(answer.header("content-type"), Some("application/json"));
            let expected = json!({
                "issuer": ISSUER,
                "token_endpoint": "https://auth.example.com/token",
                "jwks_uri": "https://auth.example.com/.well-known/jwks.json",
                "response_types_supported": ["none"],
                "grant_types_supported": ["client_credentials"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            });
            assert_eq!(answer.json(), expected);
        })
        .await;
    }

    #[tokio::test]
    async fn the_path_of_the_issuer_follows_the_well_known_part_of_the_metadata_path() {
        for issuer in ["https://auth.example.com/tenant", "https://auth.example.com/tenant/"] {
            let keys = KeyRing::from_pem(common::KEY).unwrap();
            let server =
                AuthorizationServer::builder(issuer, keys, MemoryStore::default()).jwks_path("/keys").build().unwrap();
            on_every_stack(async |stack| {
                let site = stack.issue(&server).await;
                let metadata = ask(&site, "GET", "/.well-known/oauth-authorization-server/tenant", &[]).await.json();
                assert_eq!(metadata["issuer"], issuer);
                assert_eq!(metadata["token_endpoint"], "https://auth.example.com/tenant/token");
                assert_eq!(metadata["jwks_uri"], "https://auth.example.com/keys");
                assert_eq!(ask(&site, "GET", METADATA, &[]).await.json()["path"], METADATA, "not ours");
                assert!(ask(&site, "GET", "/keys", &[]).await.json()["keys"].is_array());
            })
            .await;
        }
    }

    #[tokio::test]
    async fn are_cacheable_by_anyone_and_support_conditional_requests() {
        on_every_stack(async |stack| {
            let site = stack.issue(&server()).await;
            for path in [JWKS, METADATA] {
                let answer = ask(&site, "GET", path, &[]).await;
                assert_eq!(answer.header("cache-control"), Some("public, max-age=300"));
                let etag = answer.header("etag").unwrap();
                for known in [&[etag][..], &["\"other\"", etag], &["*"], &[&format!("\"other\", W/{etag}")]] {
                    for method in ["GET", "HEAD"] {
                        let unchanged = ask(&site, method, path, known).await;
                        assert_eq!((unchanged.status.as_u16(), unchanged.body.len()), (304, 0), "{known:?}");
                        for name in ["etag", "cache-control"] {
                            assert_eq!(unchanged.header(name), answer.header(name), "{known:?}");
                        }
                    }
                }
                for unknown in [&["\"other\""][..], &[etag.trim_matches('"')], &["W/\"other\""], &[""]] {
                    assert_eq!(ask(&site, "GET", path, unknown).await, answer, "{unknown:?}");
                }
            }
            let etag = |answer: Answer| answer.header("etag").unwrap().to_owned();
            let [jwks, metadata] = [ask(&site, "GET", JWKS, &[]).await, ask(&site, "GET", METADATA, &[]).await];
            assert_ne!(etag(jwks), etag(metadata));
        })
        .await;
    }

    #[tokio::test]
    async fn head_has_the_headers_of_get_and_every_other_method_is_not_allowed() {
        on_every_stack(async |stack| {
            let site = stack.issue(&server()).await;
            for path in [JWKS, METADATA] {
                let get = ask(&site, "GET", path, &[]).await;
                let head = ask(&site, "HEAD", path, &[]).await;
                assert_eq!(get.header("content-length"), Some(get.body.len().to_string().as_str()));
                assert!(head.body.is_empty());
                assert_eq!(Answer { body: get.body.clone(), ..head }, get);
                for method in ["POST", "PUT", "DELETE", "OPTIONS", "get"] {
                    let answer = ask(&site, method, path, &[]).await;
                    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, Some("GET, HEAD")), "{method}");
                }
            }
        })
        .await;
    }
}

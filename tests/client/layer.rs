//! The treatment of one request by the layer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use tower::{BoxError, Layer as _, Service, ServiceExt as _, service_fn};
use tower_client_credentials::ClientCredentialsLayer;
use tower_client_credentials::client::{AccessToken, CallError, TokenFuture, TokenSource, TokenSourceErrorKind};

use super::world::{API, Issue, ResourceServer, Verdict, World};

fn request(path: &str) -> Request<Full<Bytes>> {
    Request::post(format!("{API}{path}")).header("x-own", "1").body(Full::from("body")).unwrap()
}

fn world() -> World {
    World::new(|_| Issue::Token(Some(600)))
}

/// Sends one request, and returns its status and how often it arrived.
async fn call(world: &World) -> (u16, usize) {
    let layer = ClientCredentialsLayer::from_source(world.source(), API).unwrap();
    let mut service = layer.layer(ResourceServer(world.clone()));
    let status = service.call(request("/a")).await.unwrap().status();
    assert_eq!(world.lock().seen.violations, Vec::<String>::new());
    (status.as_u16(), world.arrivals("/a"))
}

/// Refuses the first token.
fn first_token_gets(verdict: Verdict) -> World {
    let mut calls = 0;
    world().resource_rule(move |_, _| {
        calls += 1;
        if calls == 1 { verdict } else { Verdict::Accept }
    })
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_replaced_and_the_request_repeated_once() {
    for verdict in [Verdict::InvalidToken, Verdict::Bare401] {
        let world = first_token_gets(verdict);
        assert_eq!(call(&world).await, (200, 2), "{verdict:?}");
        assert_eq!(world.token_requests(), 2, "{verdict:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_another_reason_is_passed_on() {
    for challenge in
        [r#"Bearer realm="x""#, r#"Bearer error="insufficient_scope""#, "Basic", r#"DPoP error="invalid_token""#]
    {
        let world = first_token_gets(Verdict::Challenge(challenge));
        assert_eq!(call(&world).await, (401, 1), "{challenge}");
        assert_eq!(world.token_requests(), 1, "{challenge}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_refusal_is_passed_on() {
    let world = world().resource_rule(|_, _| Verdict::InvalidToken);
    assert_eq!(call(&world).await, (401, 2));
}

#[tokio::test(start_paused = true)]
async fn the_refusal_is_passed_on_if_no_new_token_can_be_obtained() {
    let world = World::new(|now| if now.is_zero() { Issue::Token(Some(600)) } else { Issue::NoConnection })
        .resource_rule(|_, _| Verdict::InvalidToken);
    assert_eq!(call(&world).await, (401, 1));
    // The refused token is discarded in any case.
    assert_eq!(world.token_requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_error_says_whether_the_token_or_the_call_failed() {
    let down = World::new(|_| Issue::Refuse("invalid_client"));
    let layer = ClientCredentialsLayer::from_source(down.source(), API).unwrap();
    let error = layer.layer(ResourceServer(down.clone())).oneshot(request("/a")).await.unwrap_err();
    let CallError::Token(token) = &error else { panic!("{error}") };
    assert_eq!((token.kind(), token.code()), (TokenSourceErrorKind::Refused, Some("invalid_client")));
    assert!(error.is_before_call() && error.to_string().contains("invalid_client"), "{error}");
    assert_eq!(down.lock().seen.calls, 0);

    let failing = service_fn(|_: Request<Full<Bytes>>| async { Err::<Response<()>, BoxError>("no route".into()) });
    let layer = ClientCredentialsLayer::from_source(world().source(), API).unwrap();
    let error = layer.layer(failing).oneshot(request("/a")).await.unwrap_err();
    assert!(matches!(error, CallError::Call(_)) && !error.is_before_call());
    assert!(error.to_string().contains("no route"), "{error}");
}

/// The repeated request equals the first one except for its token.
#[tokio::test(start_paused = true)]
async fn the_repeated_request_equals_the_first_one_except_for_its_token() {
    #[derive(Clone, Debug, PartialEq)]
    struct Marker(u8);

    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = seen.clone();
    let inner = service_fn(move |request: Request<Full<Bytes>>| {
        let mut seen = record.lock().unwrap();
        let (head, body) = request.into_parts();
        let mut headers = head.headers;
        let token = headers.remove("authorization").unwrap();
        assert!(token.is_sensitive());
        seen.push((head.method, head.uri, head.version, headers, head.extensions.get::<Marker>().cloned(), body));
        let mut response = Response::new(());
        if seen.len() == 1 {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
        }
        async { Ok::<_, BoxError>(response) }
    });
    let layer = ClientCredentialsLayer::from_source(world().source(), API).unwrap();
    let mut request = request("/a?b");
    request.headers_mut().append("x-own", "2".parse().unwrap());
    request.headers_mut().append("authorization", "Bearer of-the-caller".parse().unwrap());
    request.extensions_mut().insert(Marker(1));
    *request.version_mut() = http::Version::HTTP_2;
    layer.layer(inner).oneshot(request).await.unwrap();
    let seen = seen.lock().unwrap();
    let [first, second] = &seen[..] else { panic!("{} calls", seen.len()) };
    assert_eq!(
        (&first.0, &first.1, first.2, &first.3, &first.4),
        (&second.0, &second.1, second.2, &second.3, &second.4)
    );
    assert_eq!(format!("{:?}", first.5), format!("{:?}", second.5));
    assert_eq!(first.4, Some(Marker(1)));
}

/// A part of a request that shows how many hold it.
#[derive(Clone, Debug)]
struct Held(Arc<()>);

/// The method, the URI, the headers and an extension of a request, without its token.
type Parts = (Method, Uri, HeaderMap, bool);

/// Records requests, refuses the first token for the path `/refused`, and panics for `/panic`.
fn recording(
    seen: &Arc<Mutex<Vec<Parts>>>,
) -> impl Service<Request<Full<Bytes>>, Response = Response<()>, Error = BoxError> + Clone {
    let seen = seen.clone();
    service_fn(move |request: Request<Full<Bytes>>| {
        let path = request.uri().path().to_owned();
        assert_ne!(path, "/panic", "as the test wants it");
        let (head, _) = request.into_parts();
        let mut headers = head.headers;
        headers.remove("authorization").unwrap();
        let mut seen = seen.lock().unwrap();
        let is_first = seen.iter().all(|(_, uri, ..)| uri.path() != path);
        seen.push((head.method, head.uri, headers, head.extensions.get::<Held>().is_some()));
        let mut response = Response::new(());
        if path == "/refused" && is_first {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
        }
        async { Ok(response) }
    })
}

/// The next request on a thread uses the memory of the one before, which may have belonged to another service.
#[tokio::test(start_paused = true)]
async fn a_repeated_request_has_nothing_of_the_request_before() {
    let (seen, world) = (Arc::default(), world());
    let source = world.source();
    source.token().await.unwrap();
    let own = AccessToken::bearer("of-another-source").unwrap();
    let mut other = ClientCredentialsLayer::from_source(own, API).unwrap().layer(recording(&seen));
    let mut service = ClientCredentialsLayer::from_source(source, API).unwrap().layer(recording(&seen));
    let held = Held(Arc::default());
    for length in [10, 2_000] {
        seen.lock().unwrap().clear();
        let mut long = request("/accepted");
        long.headers_mut().insert("x-long", "a".repeat(length).parse().unwrap());
        long.extensions_mut().insert(held.clone());
        assert_eq!(other.call(long).await.unwrap().status(), 200);
        assert_eq!(Arc::strong_count(&held.0), 1, "the memory for the next request keeps no extensions");
        let get = Request::get(format!("{API}/refused")).header("accept", "*/*").body(Full::default()).unwrap();
        assert_eq!(service.call(get).await.unwrap().status(), 200);
        let seen = seen.lock().unwrap();
        let [_, first, second] = &seen[..] else { panic!("{} calls", seen.len()) };
        assert_eq!((first, first.3), (second, false));
    }
    assert_eq!(Arc::strong_count(&held.0), 1);
    assert_eq!(world.token_requests(), 3, "the first token, and another one after each refusal");
}

#[tokio::test(start_paused = true)]
async fn a_service_whose_inner_service_panicked_keeps_nothing_of_the_request() {
    let (seen, source) = (Arc::default(), world().source());
    source.token().await.unwrap();
    let mut service = ClientCredentialsLayer::from_source(source, API).unwrap().layer(recording(&seen));
    let held = Held(Arc::default());
    let mut panicking = request("/panic");
    panicking.extensions_mut().insert(held.clone());
    catch_unwind(AssertUnwindSafe(|| drop(service.call(panicking)))).unwrap_err();
    service.ready().await.unwrap();
    assert_eq!(Arc::strong_count(&held.0), 1);
    assert_eq!(service.call(request("/refused")).await.unwrap().status(), 200);
    let seen = seen.lock().unwrap();
    let [first, second] = &seen[..] else { panic!("{} calls", seen.len()) };
    assert_eq!(first, second);
}

#[tokio::test(start_paused = true)]
async fn a_layer_without_repetition_replaces_the_token_for_the_next_request() {
    let world = first_token_gets(Verdict::InvalidToken);
    let layer = ClientCredentialsLayer::from_source(world.source(), API).unwrap().without_repeat();
    let mut service = layer.layer(ResourceServer(world.clone()));
    assert_eq!(service.call(request("/a")).await.unwrap().status(), 401);
    assert_eq!(service.call(request("/b")).await.unwrap().status(), 200);
    assert_eq!((world.arrivals("/a"), world.arrivals("/b"), world.token_requests()), (1, 1, 2));
}

#[tokio::test]
async fn a_static_token_is_sent_and_its_refusal_passed_on() {
    let calls = Arc::new(Mutex::new(0));
    let count = calls.clone();
    let inner = service_fn(move |request: Request<Full<Bytes>>| {
        assert_eq!(request.headers()["authorization"], "Bearer static");
        *count.lock().unwrap() += 1;
        let response = Response::builder().status(401).body(()).unwrap();
        async { Ok::<_, BoxError>(response) }
    });
    let layer = ClientCredentialsLayer::from_source(AccessToken::bearer("static").unwrap(), API).unwrap();
    assert_eq!(layer.layer(inner).oneshot(request("/a")).await.unwrap().status(), 401);
    assert_eq!(*calls.lock().unwrap(), 1);
}

/// A source that cannot give a token without waiting, and that has only one.
#[tokio::test]
async fn a_request_is_not_repeated_with_the_token_that_was_refused() {
    #[derive(Debug)]
    struct Stubborn;

    impl TokenSource for Stubborn {
        fn token(&self) -> TokenFuture {
            Box::pin(async {
                tokio::task::yield_now().await;
                Ok(AccessToken::bearer("the-only-one").unwrap())
            })
        }
    }

    let calls = Arc::new(Mutex::new(0));
    let count = calls.clone();
    let inner = service_fn(move |_: Request<Full<Bytes>>| {
        *count.lock().unwrap() += 1;
        let response = Response::builder().status(401).body(()).unwrap();
        async { Ok::<_, BoxError>(response) }
    });
    let layer = ClientCredentialsLayer::from_source(Stubborn, API).unwrap();
    assert_eq!(layer.layer(inner).oneshot(request("/a")).await.unwrap().status(), 401);
    assert_eq!(*calls.lock().unwrap(), 1);
}

/// The inner service is called only when it is ready, also for the second time.
#[tokio::test(start_paused = true)]
async fn every_call_of_the_inner_service_follows_its_readiness() {
    #[derive(Default)]
    struct Strict<S> {
        inner: S,
        is_ready: bool,
    }

    impl<S: Clone> Clone for Strict<S> {
        fn clone(&self) -> Self {
            Self { inner: self.inner.clone(), is_ready: false }
        }
    }

    impl<S: Service<Request<Full<Bytes>>>> Service<Request<Full<Bytes>>> for Strict<S> {
        type Response = S::Response;
        type Error = S::Error;
        type Future = S::Future;

        fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), S::Error>> {
            self.is_ready = true;
            self.inner.poll_ready(cx)
        }

        fn call(&mut self, request: Request<Full<Bytes>>) -> S::Future {
            assert!(std::mem::take(&mut self.is_ready), "called before it was ready");
            self.inner.call(request)
        }
    }

    let mut calls = 0;
    let world = world().resource_rule(move |_, _| {
        calls += 1;
        if calls % 2 == 0 { Verdict::InvalidToken } else { Verdict::Accept }
    });
    let layer = ClientCredentialsLayer::from_source(world.source(), API).unwrap();
    let mut service = layer.layer(Strict { inner: ResourceServer(world.clone()), is_ready: false });
    for number in 0..4 {
        service.ready().await.unwrap().call(request(&format!("/{number}"))).await.unwrap();
    }
}

#[test]
fn concurrent_threads_get_no_token_that_was_invalidated_before() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async {
        let world = World::new(|_| Issue::Token(Some(600))).issue_latency(std::time::Duration::ZERO);
        let source = world.source();
        let invalidated = Arc::new(Mutex::new(std::collections::HashSet::new()));
        let tasks: Vec<_> = (0..16_u32)
            .map(|number| {
                let (source, invalidated) = (source.clone(), invalidated.clone());
                tokio::spawn(async move {
                    for round in 0..500_u32 {
                        let before = invalidated.lock().unwrap().clone();
                        let Ok(token) = source.token().await else {
                            tokio::task::yield_now().await;
                            continue;
                        };
                        assert!(!before.contains(token.expose()), "an invalidated token was returned");
                        if (round + number) % 50 == 0 {
                            source.invalidate(&token);
                            invalidated.lock().unwrap().insert(token.expose().to_owned());
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let seen = world.lock().seen.clone();
        assert!(seen.most_in_flight <= 1 && seen.token_requests >= 2, "{seen:?}");
    });
}

/// A service that becomes ready for the repetition only after the token has expired.
#[tokio::test(start_paused = true)]
async fn a_repetition_that_waits_for_the_service_is_not_sent_with_an_expired_token() {
    type Gate = std::pin::Pin<Box<tokio::time::Sleep>>;

    #[derive(Clone)]
    struct Busy {
        inner: ResourceServer,
        is_busy: Arc<std::sync::atomic::AtomicBool>,
        gate: Arc<Mutex<Option<Gate>>>,
    }

    impl Service<Request<Full<Bytes>>> for Busy {
        type Response = Response<Full<Bytes>>;
        type Error = std::convert::Infallible;
        type Future = <ResourceServer as Service<Request<Full<Bytes>>>>::Future;

        fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
            if !self.is_busy.load(std::sync::atomic::Ordering::Relaxed) {
                return std::task::Poll::Ready(Ok(()));
            }
            let mut gate = self.gate.lock().unwrap();
            let gate = gate.get_or_insert_with(|| Box::pin(tokio::time::sleep(std::time::Duration::from_secs(700))));
            gate.as_mut().poll(cx).map(Ok)
        }

        fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
            self.is_busy.store(true, std::sync::atomic::Ordering::Relaxed);
            self.inner.call(request)
        }
    }

    // If the issuer is down by then, the caller gets the first answer.
    for (second, tokens, status, sent) in
        [(Verdict::Accept, 3, 200, 2), (Verdict::InvalidToken, 3, 401, 2), (Verdict::Accept, 2, 401, 1)]
    {
        let mut calls = 0;
        let world = world().resource_rule(move |_, _| {
            calls += 1;
            if calls == 1 { Verdict::InvalidToken } else { second }
        });
        let mut issued = 0;
        world.issue_rule(move |_| {
            issued += 1;
            if issued > tokens { Issue::NoConnection } else { Issue::Token(Some(600)) }
        });
        let layer = ClientCredentialsLayer::from_source(world.source(), API).unwrap();
        let inner = Busy { inner: ResourceServer(world.clone()), is_busy: Arc::default(), gate: Arc::default() };
        assert_eq!(layer.layer(inner).oneshot(request("/a")).await.unwrap().status(), status);
        assert_eq!(world.lock().seen.violations, Vec::<String>::new());
        assert_eq!((world.arrivals("/a"), world.token_requests()), (sent, 3));
    }
}

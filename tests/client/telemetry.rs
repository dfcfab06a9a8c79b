//! The logs and metrics of the client, which contain no secret and no token.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::time::sleep;
use tower::{Layer as _, Service as _};
use tower_client_credentials::client::TokenSourceError;
use tower_client_credentials::event::{self, EventSender, Outcome};
use tower_client_credentials::{ClientCredentialsLayer, ClientId};
use tracing::Instrument as _;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt as _;

use super::world::{API, Issue, ResourceServer, Verdict, World};

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A refused token, an outage, and a recovery. Returns the `Debug` and `Display` output of everything that an application gets.
async fn life_of_a_caller(events: Option<EventSender>) -> String {
    let world = World::new(|now| match now.as_secs() {
        50..200 => Issue::Html,
        200..300 => Issue::Refuse("invalid_client"),
        _ => Issue::Token(Some(60)),
    });
    let mut calls = 0;
    let world = world.resource_rule(move |_, _| {
        calls += 1;
        if calls == 2 { Verdict::InvalidToken } else { Verdict::Accept }
    });
    let credentials = world.credentials();
    let credentials = match events {
        Some(events) => credentials.events(events),
        None => credentials,
    };
    let source = credentials.build().unwrap();
    let layer = ClientCredentialsLayer::from_source(source.clone(), API).unwrap();
    let mut service = layer.layer(ResourceServer(world.clone()));
    let mut said = format!("{source:?} {layer:?} {:?}", world.credentials());
    for number in 0..50 {
        let request = Request::get(format!("{API}/{number}")).body(Full::<Bytes>::default()).unwrap();
        let span = tracing::info_span!("call", http.request.resend_count = tracing::field::Empty);
        if let Err(error) = service.call(request).instrument(span).await {
            said = format!("{said} {error} {error:?}");
        }
        sleep(Duration::from_secs(10)).await;
    }
    let token = source.token().await.unwrap();
    said = format!("{said} {token:?} {:?}", source.statistics());
    assert_eq!(world.lock().seen.violations, Vec::<String>::new());
    said
}

fn in_simulated_time<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(work)
}

#[test]
fn no_log_line_and_no_output_has_a_secret_or_a_token() {
    thread_local!(static IS_RECORDED: Cell<bool> = const { Cell::new(false) });

    let sink = Sink::default();
    let writer = sink.clone();
    let layer = tracing_subscriber::fmt::layer()
        .with_span_events(FmtSpan::FULL)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .with_filter(dynamic_filter_fn(|_, _| IS_RECORDED.get()));
    // For all threads: a subscriber of one thread may miss what others used before it.
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).unwrap();
    IS_RECORDED.set(true);
    let said = in_simulated_time(life_of_a_caller(None));
    IS_RECORDED.set(false);
    let log = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    for expected in [
        "obtained an access token",
        "could not obtain an access token",
        "a resource server refused an access token",
        "obtain_token{otel.kind=\"internal\" oauth.issuer=https://auth.example.com oauth.client_id=billing oauth.scope=\"read\"",
        "wait_for_token{otel.kind=\"internal\" oauth.issuer=https://auth.example.com oauth.client_id=billing",
        "http_request{otel.name=\"POST\" otel.kind=\"client\" http.request.method=\"POST\" \
         server.address=\"auth.example.com\" server.port=443 url.full=https://auth.example.com/token?… ",
        "http.response.status_code=200",
        "error.type=\"400\"",
        "http.request.resend_count=1",
        "error.type=\"invalid_answer\"",
        "error.type=\"refused\"",
    ] {
        assert!(log.contains(expected), "{expected} in {log}");
    }
    for text in [&log, &said] {
        for secret in ["the-secret-of-billing", "hunter2", "token-0", "token-1", "token-2", "Basic "] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    assert!(said.contains("invalid_client") && said.contains("not JSON"), "{said}");
}

#[test]
fn requests_for_tokens_waits_and_refusals_are_counted() {
    let recorder = metrics_util::debugging::DebuggingRecorder::new();
    metrics::with_local_recorder(&recorder, || in_simulated_time(life_of_a_caller(None)));
    let counted: BTreeMap<String, String> = recorder
        .snapshotter()
        .snapshot()
        .into_vec()
        .into_iter()
        .map(|(key, _, _, value)| {
            let labels = key.key().labels().map(|label| format!(" {}={}", label.key(), label.value()));
            (format!("{}{}", key.key().name(), labels.collect::<String>()), format!("{value:?}"))
        })
        .collect();
    let issuer = "issuer=https://auth.example.com";
    for name in [
        format!("client_credentials_obtained_tokens_total {issuer} outcome=obtained"),
        format!("client_credentials_obtained_tokens_total {issuer} outcome=invalid_answer"),
        format!("client_credentials_obtained_tokens_total {issuer} outcome=refused"),
        format!("client_credentials_obtained_token_expires_timestamp_seconds {issuer}"),
        format!("client_credentials_token_obtained_timestamp_seconds {issuer}"),
        format!("client_credentials_token_waits_total {issuer}"),
    ] {
        assert!(counted.contains_key(&name), "{name} in {counted:?}");
    }
    assert_eq!(counted[&format!("client_credentials_refused_tokens_total {issuer}")], "Counter(1)");
}

#[test]
fn each_request_for_a_token_and_each_refused_token_is_an_event() {
    let (sender, mut events) = event::channel();
    in_simulated_time(life_of_a_caller(Some(sender)));
    let (mut obtained, mut failed, mut refused, mut waited) = (0, Vec::new(), 0, 0);
    while let Some(event) = events.try_recv() {
        assert_eq!(event.client_id.as_ref().map(ClientId::as_str), Some("billing"));
        let text = format!("{event:?}");
        assert!(!text.contains("the-secret-of-billing") && !text.contains("token-"), "{text}");
        match event.outcome {
            Outcome::TokenObtained { issuer, scopes, expires_at, waiting, duration, .. } => {
                assert_eq!((issuer.as_str(), scopes.as_str()), ("https://auth.example.com", "read"));
                // Requesting it took 50 ms.
                assert_eq!(duration, Duration::from_millis(50));
                assert_eq!(expires_at, Some(event.at - duration + Duration::from_secs(60)));
                obtained += 1;
                waited += waiting;
            }
            Outcome::TokenNotObtained { failure, waiting, .. } => {
                assert!(failure.downcast_ref::<TokenSourceError>().is_some(), "{failure:?}");
                failed.push(failure.reason());
                waited += waiting;
            }
            Outcome::ObtainedTokenRefused { explained, .. } => {
                assert!(explained);
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(obtained > 3 && failed.contains(&"invalid_answer") && failed.contains(&"refused"), "{obtained} {failed:?}");
    // The first call, the one whose token was refused, and those during the outage.
    assert!(refused == 1 && waited > 3, "{refused} {waited}");
    assert_eq!(events.dropped(), 0);
}

/// 100 calls that come while there is no token.
#[tokio::test(start_paused = true)]
async fn the_event_of_a_token_counts_the_calls_that_waited() {
    let (sender, mut events) = event::channel();
    let world = World::new(|_| Issue::Token(Some(60)));
    let source = world.credentials().events(sender).build().unwrap();
    let calls: Vec<_> = (0..100)
        .map(|_| {
            tokio::spawn({
                let source = source.clone();
                async move { source.token().await.unwrap() }
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    sleep(Duration::from_secs(50)).await;
    source.token().await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let mut waiting = Vec::new();
    while let Some(event) = events.try_recv() {
        let Outcome::TokenObtained { waiting: calls, .. } = event.outcome else { panic!("{event:?}") };
        waiting.push(calls);
    }
    assert_eq!(waiting, [100, 0], "the second one is a refresh in the background");
}

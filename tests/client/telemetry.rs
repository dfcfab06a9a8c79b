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
use tower_client_credentials::ClientCredentialsLayer;
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
async fn life_of_a_caller() -> String {
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
    let source = world.source();
    let layer = ClientCredentialsLayer::from_source(source.clone(), API).unwrap();
    let mut service = layer.layer(ResourceServer(world.clone()));
    let mut said = format!("{source:?} {layer:?} {:?}", world.credentials());
    for number in 0..50 {
        let request = Request::get(format!("{API}/{number}")).body(Full::<Bytes>::default()).unwrap();
        if let Err(error) = service.call(request).await {
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
    let said = in_simulated_time(life_of_a_caller());
    IS_RECORDED.set(false);
    let log = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    for expected in [
        "obtained an access token",
        "could not obtain an access token",
        "a resource server refused an access token",
        "obtain_token{otel.kind=\"client\" oauth.client_id=billing",
        "http.response.status_code=200",
        "error.type=\"invalid_answer\"",
        "error.type=\"refused\"",
    ] {
        assert!(log.contains(expected), "{expected} in {log}");
    }
    for text in [&log, &said] {
        for secret in ["the-secret-of-billing", "token-0", "token-1", "token-2", "Basic "] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    assert!(said.contains("invalid_client") && said.contains("not JSON"), "{said}");
}

#[test]
fn requests_for_tokens_waits_and_refusals_are_counted() {
    let recorder = metrics_util::debugging::DebuggingRecorder::new();
    metrics::with_local_recorder(&recorder, || in_simulated_time(life_of_a_caller()));
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
        format!("client_credentials_token_waits_total {issuer}"),
    ] {
        assert!(counted.contains_key(&name), "{name} in {counted:?}");
    }
    assert_eq!(counted[&format!("client_credentials_refused_tokens_total {issuer}")], "Counter(1)");
}

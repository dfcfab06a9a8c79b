//! Logging, at the levels that `RUST_LOG` sets, and without secrets.

use std::io::{self, Write as _};
use std::sync::OnceLock;
use std::time::SystemTime;

use axum::http::{Request, Version};
use serde_json::json;
use tower_client_credentials::clock::Rfc3339;
use tower_http::classify::{ServerErrorsAsFailures, SharedClassifier};
use tower_http::trace::{DefaultOnBodyChunk, DefaultOnEos, DefaultOnRequest, DefaultOnResponse, MakeSpan, TraceLayer};
use tracing::level_filters::LevelFilter;
use tracing::{Metadata, Span};
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, filter_fn};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::caller;
use crate::config::LogFormat;

/// The format, once the configuration is known.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// Starts logging to standard error. `RUST_LOG` sets the levels, `default` without it, restricted by [`is_safe`].
pub(crate) fn start(format: LogFormat, default: &str) {
    let _ = FORMAT.set(format);
    let wanted = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        // The fields are members of the line itself, as collectors of logs expect.
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(wanted.and(filter_fn(is_safe)))).init();
}

/// The crates whose logs are known to contain no secrets at any level.
const KNOWN: [&str; 3] = ["standalone", "tower_client_credentials", "tower_http"];

/// Returns whether a line is safe to log. Other libraries print their input at DEBUG and TRACE, for example h2 the path of a
/// malformed request with its query, and header values. They log at most at INFO, even if `RUST_LOG` sets more.
fn is_safe(metadata: &Metadata<'_>) -> bool {
    let library = metadata.target().split("::").next().unwrap_or_default();
    *metadata.level() <= LevelFilter::INFO || KNOWN.contains(&library)
}

/// Prints a line about the life of the service on standard output, in the format of the log.
pub(crate) fn say(text: &str) {
    // A pipe that nothing reads any more must not stop the service.
    let _ = writeln!(io::stdout(), "{}", line("INFO", text));
}

/// Prints the error that ends the process on standard error, in the format of the log.
pub(crate) fn fail(text: &str) {
    let _ = writeln!(io::stderr(), "{}", line("ERROR", text));
}

fn line(level: &str, text: &str) -> String {
    match FORMAT.get() {
        Some(LogFormat::Json) => {
            let now = Rfc3339(SystemTime::now()).to_string();
            json!({ "timestamp": now, "level": level, "message": text, "target": "standalone" }).to_string()
        }
        _ => text.to_owned(),
    }
}

/// The layer that logs each request.
pub(crate) type Requests = TraceLayer<
    SharedClassifier<ServerErrorsAsFailures>,
    PathOnly,
    DefaultOnRequest,
    DefaultOnResponse,
    DefaultOnBodyChunk,
    DefaultOnEos,
    (),
>;

/// Returns the layer that logs each request. It does not log a 503: the part that answered it has logged the reason, and a health
/// check that is not ready is no error.
pub(crate) fn requests() -> Requests {
    TraceLayer::new_for_http().make_span_with(PathOnly).on_failure(())
}

/// Creates a span that names a request by its caller and its path, and never by its query, which may contain a secret or a token. The default
/// span of `TraceLayer` has the whole URI.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PathOnly;

impl<B> MakeSpan<B> for PathOnly {
    fn make_span(&mut self, request: &Request<B>) -> Span {
        let (method, path, version): (_, _, Version) = (request.method(), request.uri().path(), request.version());
        let caller = caller::of(request.extensions()).map(tracing::field::display);
        tracing::info_span!("request", %method, path, ?version, client.address = caller)
    }
}

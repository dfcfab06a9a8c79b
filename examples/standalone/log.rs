//! Logging, at the levels that `RUST_LOG` sets, and without secrets.

use axum::http::{Request, Version};
use tower_http::classify::{ServerErrorsAsFailures, SharedClassifier};
use tower_http::trace::{MakeSpan, TraceLayer};
use tracing::level_filters::LevelFilter;
use tracing::{Metadata, Span};
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, filter_fn};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::LogFormat;

/// Starts logging to standard error. `RUST_LOG` sets the levels, `info` by default, restricted by [`is_safe`].
pub(crate) fn start(format: LogFormat) {
    let wanted = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        // The fields are members of the line itself, as collectors of logs expect.
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
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

/// Returns the layer that logs each request.
pub(crate) fn requests() -> TraceLayer<SharedClassifier<ServerErrorsAsFailures>, PathOnly> {
    TraceLayer::new_for_http().make_span_with(PathOnly)
}

/// Creates a span that names a request by its path and never by its query, which may contain a secret or a token. The default
/// span of `TraceLayer` has the whole URI.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PathOnly;

impl<B> MakeSpan<B> for PathOnly {
    fn make_span(&mut self, request: &Request<B>) -> Span {
        let (method, path, version): (_, _, Version) = (request.method(), request.uri().path(), request.version());
        tracing::debug_span!("request", %method, path, ?version)
    }
}

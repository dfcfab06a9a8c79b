//! The limits of a connection, and the task that serves one connection until it ends, is idle for too long, or the process
//! stops. The example `hyper` uses the same module.
//!
//! hyper closes idle connections only over HTTP/1.1. Over HTTP/2, a client that acknowledges PINGs, or never reads its
//! responses, could keep its connection open indefinitely.

use std::convert::Infallible;
use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;
use tower::{Service, ServiceExt as _};

/// The maximum number of bytes per connection in memory: of a head or a body over HTTP/1.1, and of all unread bodies over
/// HTTP/2. hyper's defaults are 400 KiB and 1 MiB.
const MAX_BUFFERED: u32 = 64 * 1024;

/// The maximum size of the headers of one request over HTTP/2, as in hyper.
const MAX_HEADERS: u32 = 16 * 1024;

/// Creates a server with limits on the resources of one connection. The layers cannot set them, because a request reaches a
/// layer only after hyper has parsed it.
///
/// `head` is the time for the head of a request to arrive over HTTP/1.1. `streams` is the maximum number of concurrent requests
/// over HTTP/2, each with a body and a response in memory.
pub(crate) fn server(head: Duration, streams: u32) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    // Without a timer, hyper waits indefinitely for a head.
    http.http1().timer(TokioTimer::new()).header_read_timeout(head).max_buf_size(MAX_BUFFERED as usize);
    http.http2()
        .timer(TokioTimer::new())
        // Detects and closes connections whose peer is gone.
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20))
        .max_concurrent_streams(streams)
        .initial_stream_window_size(MAX_BUFFERED)
        .initial_connection_window_size(MAX_BUFFERED)
        .max_send_buf_size(MAX_BUFFERED as usize)
        .max_header_list_size(MAX_HEADERS)
        // Rapid reset: requests that the client cancels before they are served (CVE-2023-44487), and requests that the server
        // resets after a protocol violation by the client (CVE-2025-8671). Beyond these numbers, the connection is closed.
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(100);
    http
}

/// How long a connection may stay open without a request in progress.
#[derive(Clone, Copy)]
pub(crate) struct IdleLimits {
    /// The time until its first request has arrived.
    pub(crate) first_request: Duration,
    /// The time until each later request. A request is in progress until its response is created, not until the client has read
    /// it: all bodies of this example are complete by then. A service that streams bodies must count those as in progress too.
    pub(crate) idle: Duration,
}

/// How long an idle connection may take to close gracefully.
const GRACE: Duration = Duration::from_secs(5);

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// Serves a connection until it is closed. When `stop` becomes `true`, no further request is accepted, and the requests in
/// progress are finished.
pub(crate) async fn serve<I, S, B>(
    http: auto::Builder<TokioExecutor>,
    stream: I,
    app: S,
    limits: IdleLimits,
    mut stop: watch::Receiver<bool>,
) -> Result<(), BoxError>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    // Keeps the sender alive, so that the receiver never sees it closed.
    let in_progress = Arc::new(watch::Sender::new(0_usize));
    let mut requests = in_progress.subscribe();
    let counter = in_progress.clone();
    let service = service_fn(move |request| {
        let request_in_progress = InProgress::new(&counter);
        let response = app.clone().oneshot(request);
        async move {
            let response = response.await;
            drop(request_in_progress);
            response
        }
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));

    let unused = async {
        // hyper starts its own timer only after it has detected the HTTP version.
        if timeout(limits.first_request, requests.changed()).await.is_err() {
            return Unused::NoRequest;
        }
        idle(&mut requests, limits.idle).await;
        Unused::Idle
    };
    let stopped = async { drop(stop.wait_for(|stop| *stop).await) };
    let unused = tokio::select! {
        ended = connection.as_mut() => return ended,
        unused = unused => unused,
        () = stopped => {
            connection.as_mut().graceful_shutdown();
            return connection.await;
        }
    };
    tracing::debug!(?unused, "closing a connection");
    if let Unused::NoRequest = unused {
        return Ok(());
    }
    connection.as_mut().graceful_shutdown();
    // A request that has arrived in the meantime still gets its response.
    tokio::select! {
        ended = connection => ended,
        () = idle(&mut requests, GRACE) => Ok(()),
    }
}

/// Why a connection is closed.
#[derive(Debug)]
enum Unused {
    NoRequest,
    Idle,
}

/// Waits until no request has been in progress for this time.
async fn idle(requests: &mut watch::Receiver<usize>, time: Duration) {
    while requests.wait_for(|in_progress| *in_progress == 0).await.is_ok() {
        if timeout(time, requests.changed()).await.is_err() {
            return;
        }
    }
}

/// Counts a request until it is dropped.
struct InProgress(Arc<watch::Sender<usize>>);

impl InProgress {
    fn new(counter: &Arc<watch::Sender<usize>>) -> Self {
        counter.send_modify(|in_progress| *in_progress += 1);
        Self(counter.clone())
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.send_modify(|in_progress| *in_progress -= 1);
    }
}

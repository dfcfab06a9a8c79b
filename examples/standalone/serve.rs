//! Accepts connections, HTTP/1.1 and h2c on one port, until SIGTERM. The requests in progress may then finish.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tower::ServiceExt as _;
use tower_client_credentials::authorization_server::TrustedProxies;

use crate::config::Limits;
use crate::connection::{self, IdleLimits};
use crate::places::Places;

/// The readiness of the service. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Health(Arc<AtomicBool>);

impl Health {
    pub(crate) fn is_ready(&self) -> bool {
        !self.0.load(Ordering::Relaxed)
    }

    fn stopping(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Returns a future that completes on SIGTERM or Ctrl-C. From this call on, neither ends the process, even if the future is not
/// polled.
pub(crate) fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Serves until `stop` completes.
///
/// It then reports that it is not ready and keeps serving for the notice period that a load balancer needs. After that it
/// accepts no more connections, and waits for the requests in progress for a limited time.
pub(crate) async fn serve(
    listener: TcpListener,
    app: Router,
    limits: &Limits,
    proxies: Option<TrustedProxies>,
    health: &Health,
    stop: impl Future<Output = ()>,
) {
    let (stop_connections, stopping) = watch::channel(false);
    let places = Places::new(limits, proxies);
    let head = Duration::from_secs(limits.head_seconds.into());
    let http = connection::server(head, limits.streams.get());
    let idle_limits = IdleLimits { first_request: head, idle: Duration::from_secs(limits.idle_seconds.into()) };

    let mut stop = pin!(async {
        stop.await;
        health.stopping();
        println!("draining");
        tokio::time::sleep(Duration::from_secs(limits.notice_seconds.into())).await;
    });
    loop {
        let accepted = async {
            let place = places.any().await;
            (accept(&listener).await, place)
        };
        let ((stream, peer), place) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stop => break,
        };
        let Some(place) = places.of(place, peer.ip()) else { continue };
        let app = app.clone().map_request(move |mut request: http::Request<_>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            request
        });
        let connection = connection::serve(http.clone(), stream, app, idle_limits, stopping.clone());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, %peer, "a connection failed");
            }
            drop(place);
        });
    }

    drop(listener);
    drop(stopping);
    stop_connections.send_replace(true);
    // The channel is closed when every connection has ended.
    let drain = Duration::from_secs(limits.drain_seconds.into());
    let drained = tokio::time::timeout(drain, stop_connections.closed()).await;
    println!("{}", if drained.is_ok() { "drained" } else { "aborted the requests that were still in progress" });
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // Either this connection failed, or too many files are open at the moment. Neither is a reason to stop.
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

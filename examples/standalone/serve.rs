//! Accepts connections, HTTP/1.1 and HTTP/2 on one port, with or without TLS, until SIGTERM. The requests in progress may then finish.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tower::{ServiceExt as _, service_fn};

use crate::connection::{self, BoxError, IdleLimits};
use crate::log;
use crate::places::Places;
use crate::reload::{Live, State};

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

/// Returns the signals to reload. From this call on, they do not end the process.
pub(crate) fn reload_signal() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// Serves until `stop` completes.
///
/// It then reports that it is not ready and keeps serving for the notice period that a load balancer needs. After that it
/// accepts no more connections, and waits for the requests in progress for a limited time.
pub(crate) async fn serve(listener: TcpListener, live: &Arc<Live>, health: &Health, stop: impl Future<Output = ()>) {
    let (stop_connections, stopping) = watch::channel(false);
    let places = Places::new(live.state().limits.connections);

    let mut stop = pin!(async {
        stop.await;
        health.stopping();
        log::say("draining");
        tokio::time::sleep(Duration::from_secs(live.state().limits.notice_seconds.into())).await;
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
        let state = live.state();
        let per_address = state.limits.connections_per_address;
        let Some(place) = places.of(place, peer.ip(), per_address, state.proxies.as_ref()) else { continue };
        let connection = serve_one(stream, peer, state, live.clone(), stopping.clone());
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
    let drain = Duration::from_secs(live.state().limits.drain_seconds.into());
    let drained = timeout(drain, stop_connections.closed()).await;
    log::say(if drained.is_ok() { "drained" } else { "aborted the requests that were still in progress" });
}

/// Serves one connection. Its limits are those of its start; each request is served by the state of its arrival.
async fn serve_one(
    stream: TcpStream,
    peer: SocketAddr,
    state: Arc<State>,
    live: Arc<Live>,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), BoxError> {
    let head = Duration::from_secs(state.limits.head_seconds.into());
    let limits = IdleLimits { first_request: head, idle: Duration::from_secs(state.limits.idle_seconds.into()) };
    let http = connection::server(head, state.limits.streams.get());
    let app = service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        live.state().app.clone().oneshot(request.map(Body::new))
    });
    let Some(tls) = state.tls.clone() else {
        drop(state);
        return connection::serve(http, stream, app, limits, stopping).await;
    };
    drop(state); // a connection that lasts must not keep it
    let handshake = timeout(head, TlsAcceptor::from(tls.config).accept(stream));
    let stream = tokio::select! {
        handshake = handshake => handshake.map_err(|_| "the TLS handshake took too long")??,
        _ = stopping.wait_for(|stop| *stop) => return Ok(()),
    };
    connection::serve(http, stream, app, limits, stopping).await
}

pub(crate) async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
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

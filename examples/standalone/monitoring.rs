//! The listener for monitoring: `/metrics`, and the health of the service without TLS. It is separate, since metrics are not for
//! the callers of the service.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::build;
use crate::connection::{self, IdleLimits};
use crate::metrics::{self, Prometheus};
use crate::reload::Live;
use crate::serve::accept;

/// The maximum number of connections; further ones wait.
const CONNECTIONS: usize = 64;

/// Serves until the process ends, also while it drains.
pub(crate) async fn serve(listener: TcpListener, prometheus: Prometheus, live: Arc<Live>) {
    let head = Duration::from_secs(10);
    let http = connection::server(head, 8);
    let limits = IdleLimits { first_request: head, idle: Duration::from_secs(60) };
    let (_never, stop) = watch::channel(false);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let app = routes(prometheus, live);
    loop {
        let place = places.clone().acquire_owned().await;
        let (stream, _) = accept(&listener).await;
        let connection = connection::serve(http.clone(), stream, app.clone(), limits, stop.clone());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection for monitoring failed");
            }
            drop(place);
        });
    }
}

fn routes(prometheus: Prometheus, live: Arc<Live>) -> Router {
    let metrics = async move || ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], prometheus.render());
    Router::new().route("/metrics", get(metrics)).merge(build::health_routes(move || live.state().readiness()))
}

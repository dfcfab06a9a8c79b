//! The address of the caller of a request, behind trusted proxies the one that they report: for the log and for the audit log.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request};
use axum::http::Extensions;
use tower_client_credentials::authorization_server::TrustedProxies;

/// The address of the caller, in the extensions of each request.
#[derive(Clone, Copy)]
pub(crate) struct Caller(IpAddr);

/// Returns a function that puts the address into the extensions of a request.
pub(crate) fn find(proxies: Option<TrustedProxies>) -> impl Fn(Request) -> Request + Clone + Send + Sync {
    move |mut request: Request| {
        if let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>() {
            let address = match &proxies {
                Some(proxies) => proxies.client_address(peer.ip(), request.headers()),
                None => peer.ip(),
            };
            request.extensions_mut().insert(Caller(address));
        }
        request
    }
}

/// Returns the address from the extensions of a request.
pub(crate) fn of(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get::<Caller>().map(|caller| caller.0)
}

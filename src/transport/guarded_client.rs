//! [`GuardedClient`]: fetches from hosts that clients or platforms name in the configuration, within further bounds.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::fetch_places::FetchPlaces;
use super::reqwest_client::{settings, transfer};
use super::{HttpClient, HttpError, HttpFuture};
use crate::debug_fields::debug_fields;
use crate::private_address::is_private;

/// How a host is reached.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostAccess {
    /// Whether addresses of private networks and of this machine are allowed.
    pub(crate) private_addresses: bool,
    /// The only certificates that are trusted, in PEM. By default the system's.
    pub(crate) ca_certificates: Option<Vec<u8>>,
    /// A file with a bearer token for the requests. It is read for each request, since it changes.
    pub(crate) bearer_token_file: Option<PathBuf>,
}

/// The maximum size of a file with a token, in bytes.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

pub(crate) struct GuardedClient {
    client: reqwest::Client,
    access: HostAccess,
    places: FetchPlaces,
}

impl GuardedClient {
    pub(crate) fn new(access: HostAccess) -> Result<Self, HttpError> {
        let mut builder = settings().no_proxy();
        if !access.private_addresses {
            builder = builder.dns_resolver(Arc::new(PublicAddresses));
        }
        if let Some(pem) = &access.ca_certificates {
            let certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(HttpError::new)?;
            if certificates.is_empty() {
                return Err(HttpError::new("the file of CA certificates contains none; use certificates in PEM"));
            }
            builder = builder.tls_certs_only(certificates);
        }
        let client = builder.build().map_err(HttpError::new)?;
        Ok(Self { client, access, places: FetchPlaces::default() })
    }

    async fn bearer_token(&self) -> Result<Option<HeaderValue>, HttpError> {
        let Some(path) = self.access.bearer_token_file.clone() else { return Ok(None) };
        let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(path)).await.map_err(HttpError::new)?;
        let token = read.map_err(HttpError::new)?;
        let token = token.trim();
        if token.len() > MAX_TOKEN_BYTES {
            return Err(HttpError::new("the file of the bearer token is too long"));
        }
        let mut header = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| HttpError::new("the file of the bearer token has characters that no token has"))?;
        header.set_sensitive(true);
        Ok(Some(header))
    }
}

impl HttpClient for GuardedClient {
    fn send(&self, mut request: Request<Bytes>, most: usize) -> HttpFuture<'_> {
        HttpFuture::new(async move {
            let host = request.uri().host().unwrap_or_default().to_owned();
            // An address in the URL itself is never resolved.
            let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
            if address.is_ok_and(|address| !self.access.private_addresses && is_private(address)) {
                return Err(HttpError::new(PRIVATE));
            }
            if let Some(token) = self.bearer_token().await? {
                request.headers_mut().insert(AUTHORIZATION, token);
            }
            let place = self.places.enter(&host).await.map_err(HttpError::new)?;
            let answer = transfer(&self.client, request, most).await?;
            place.succeed();
            Ok(answer)
        })
    }
}

const PRIVATE: &str = "the host has an address of a private network or of this machine; allow such addresses if you trust the \
                       URL";

/// Resolves names to public addresses only. Checked at each connection, because the owner of a name can change its
/// addresses at any time.
struct PublicAddresses;

impl Resolve for PublicAddresses {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let name = name.as_str().to_owned();
            let found = tokio::task::spawn_blocking(move || (name.as_str(), 0).to_socket_addrs()).await??;
            let found: Vec<SocketAddr> = found.filter(|address| !is_private(address.ip())).collect();
            if found.is_empty() {
                return Err(PRIVATE.into());
            }
            let addresses: Addrs = Box::new(found.into_iter());
            Ok(addresses)
        })
    }
}

debug_fields!(GuardedClient { access });

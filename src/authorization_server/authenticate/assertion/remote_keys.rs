//! Key sets and trust bundles at URLs and in files (feature `remote`).

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::CACHE_CONTROL;
use http::{HeaderValue, Request, Response, StatusCode, Uri};

use super::key_place::KeyFormat;
use super::spiffe_bundle;
#[cfg(feature = "workload_api")]
use super::streamed_bundle::StreamedBundle;
use crate::clock::Clock;
use crate::crypto::Random;
use crate::keys::Algorithm;
use crate::keys::remote::{KeySource, Place, Policy, RemoteKeys};
use crate::transport::{GuardedClient, HostAccess, HttpClient, HttpError, HttpFuture, Limits};
use crate::uri::{self, PlainHttp};
#[cfg(feature = "workload_api")]
use crate::workload_api::WorkloadApi;

const MINUTE: Duration = Duration::from_secs(60);

/// How often a file is read again. A file costs little to read, and its owner expects a change to be seen at once.
const FILE_AGE: Duration = Duration::from_secs(5);

/// Returns the policy for the keys of clients: fresh for at most 10 minutes, and stale for at most 1 hour. If an operator asked
/// for a refresh, a shared cache must not answer with the keys that are to be dropped.
pub(super) fn policy_of_clients(is_refresh: bool) -> Policy {
    Policy {
        most_fresh: 10 * MINUTE,
        oldest: 60 * MINUTE,
        revalidate_first: is_refresh,
        // Anyone can name a client in an assertion. Only one that authenticates keeps its set fresh.
        refreshed_after_use: Some(60 * MINUTE),
        ..Policy::default()
    }
}

pub(super) fn at_url(
    url: &str,
    access: HostAccess,
    format: KeyFormat,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
) -> Result<RemoteKeys, String> {
    let uri = uri::secure(url, PlainHttp::Loopback).map_err(|why| format!("invalid URL of keys: {why}"))?;
    let client = GuardedClient::new(access).map_err(|error| format!("keys at {url}: {error}"))?;
    Ok(open(Arc::new(client), Place::At(uri), format, Policy::default(), None, clock, random))
}

pub(super) fn in_file(
    path: PathBuf,
    format: KeyFormat,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
) -> Result<RemoteKeys, String> {
    // A missing or malformed file is a mistake when the server is built; later, the last keys are used.
    let body = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let keys = match format {
        KeyFormat::Jwks => body,
        KeyFormat::SpiffeBundle => spiffe_bundle::svid_keys(&body)?.keys,
    };
    crate::keys::KeySet::from_jwks(&keys).map_err(|error| format!("{}: {error}", path.display()))?;
    let policy = Policy { fresh: FILE_AGE, least_fresh: FILE_AGE, most_fresh: FILE_AGE, ..Policy::default() };
    // Only shown in messages.
    let uri = Uri::builder().path_and_query(path.to_string_lossy().replace(' ', "%20")).build();
    let uri = uri.unwrap_or_else(|_| Uri::from_static("/keys"));
    Ok(open(Arc::new(FileClient(path)), Place::At(uri), format, policy, None, clock, random))
}

/// Returns the keys of a trust domain at the Workload API, and a receiver that is told of each change.
#[cfg(feature = "workload_api")]
pub(super) fn at_workload_api(
    api: WorkloadApi,
    trust_domain: &str,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
) -> (RemoteKeys, tokio::sync::watch::Receiver<()>) {
    let bundle = StreamedBundle::new(api, trust_domain, random.clone());
    let changes = bundle.changes();
    // A fetch reads what the stream has delivered. It costs nothing, and shows how old the bundle is.
    let policy = Policy { fresh: MINUTE, least_fresh: MINUTE, most_fresh: MINUTE, ..Policy::default() };
    // Only shown in messages and metrics.
    let uri = format!("spiffe://{trust_domain}").parse().unwrap_or_else(|_| Uri::from_static("/keys"));
    (open(Arc::new(bundle), Place::At(uri), KeyFormat::Jwks, policy, None, clock, random), changes)
}

pub(super) fn open(
    client: Arc<dyn HttpClient>,
    place: Place,
    format: KeyFormat,
    policy: Policy,
    algorithms: Option<Vec<Algorithm>>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
) -> RemoteKeys {
    let client: Arc<dyn HttpClient> = match format {
        KeyFormat::Jwks => client,
        KeyFormat::SpiffeBundle => Arc::new(BundleClient { client, last_sequence: Mutex::default() }),
    };
    let source = KeySource {
        client,
        place,
        algorithms,
        limits: Limits::default(),
        plain_http: PlainHttp::Loopback,
        known: Mutex::default(),
    };
    RemoteKeys::new(source, policy, clock, random)
}

/// Reads a file for each request.
#[derive(Debug)]
struct FileClient(PathBuf);

impl HttpClient for FileClient {
    fn send(&self, _: Request<Bytes>, most: usize) -> HttpFuture<'_> {
        HttpFuture::new(async move {
            let path = self.0.clone();
            let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await.map_err(HttpError::new)?;
            let body = read.map_err(HttpError::new)?;
            if body.len() > most {
                return Err(HttpError::new("the file is longer than 256 KiB"));
            }
            Ok(Response::new(body.into()))
        })
    }
}

/// Makes a JWK Set of the keys for JWT-SVIDs in a trust bundle.
#[derive(Debug)]
struct BundleClient {
    client: Arc<dyn HttpClient>,
    /// An older bundle must not replace a newer one.
    last_sequence: Mutex<Option<u64>>,
}

impl HttpClient for BundleClient {
    fn send(&self, request: Request<Bytes>, most: usize) -> HttpFuture<'_> {
        HttpFuture::new(async move {
            let mut response = self.client.send(request, most).await?;
            if response.status() != StatusCode::OK {
                return Ok(response);
            }
            let bundle = spiffe_bundle::svid_keys(response.body()).map_err(HttpError::new)?;
            if let Some(sequence) = bundle.sequence {
                let mut last = self.last_sequence.lock().unwrap_or_else(PoisonError::into_inner);
                if last.is_some_and(|last| sequence < last) {
                    return Err(HttpError::new(
                        "the `spiffe_sequence` of the trust bundle went back; publish the newest bundle",
                    ));
                }
                *last = Some(sequence);
            }
            *response.body_mut() = bundle.keys.into();
            if let Some(seconds) = bundle.refresh_hint {
                // The hint of the bundle counts, within the bounds for key sets.
                response.headers_mut().insert(CACHE_CONTROL, max_age(seconds));
            }
            Ok(response)
        })
    }
}

fn max_age(seconds: u64) -> HeaderValue {
    HeaderValue::try_from(format!("max-age={seconds}")).unwrap_or(HeaderValue::from_static("max-age=300"))
}

//! The calls of the Workload API, each on a connection of its own: a restarted agent has a new socket.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::endpoint::Endpoint;
use super::messages::{JwtBundlesRequest, JwtBundlesResponse, JwtSvid, JwtSvidRequest, JwtSvidResponse};
use super::{TIMEOUT, WorkloadApiError};
use crate::quoted::{quoted_within, with_sources};

/// The longest message, in bytes. One with bundles has those of all trust domains; 4 MiB is also the default limit of gRPC.
const LONGEST_MESSAGE: usize = 4 * 1024 * 1024;

/// The longest shown message of an error, in bytes.
const LONGEST_TEXT: usize = 256;

/// How often the connection of a stream is checked. A server of gRPC closes one that is checked more often than every 5 minutes.
const PING: Duration = Duration::from_secs(10 * 60);

/// The bundles of all trust domains, and again after each change.
pub(crate) struct BundleStream(Streaming<JwtBundlesResponse>);

impl BundleStream {
    /// Waits for the next message. It is complete: what it does not contain is withdrawn (SPIFFE Workload API §4.4).
    pub(crate) async fn next(&mut self) -> Result<HashMap<String, Bytes>, WorkloadApiError> {
        let message = self.0.message().await.map_err(|status| refused(&status))?;
        let ended = || WorkloadApiError { text: "it ended the stream of bundles".to_owned(), is_denied: false };
        Ok(message.ok_or_else(ended)?.bundles)
    }
}

pub(super) async fn stream_jwt_bundles(endpoint: &Endpoint) -> Result<BundleStream, WorkloadApiError> {
    let (mut grpc, path) = prepared(endpoint, "/SpiffeWorkloadAPI/FetchJWTBundles").await?;
    let stream = grpc.server_streaming(request(JwtBundlesRequest {}), path, ProstCodec::default()).await;
    Ok(BundleStream(stream.map_err(|status| refused(&status))?.into_inner()))
}

pub(super) async fn fetch_jwt_svids(
    endpoint: &Endpoint,
    audience: &str,
    spiffe_id: Option<&str>,
) -> Result<Vec<JwtSvid>, WorkloadApiError> {
    let (mut grpc, path) = prepared(endpoint, "/SpiffeWorkloadAPI/FetchJWTSVID").await?;
    let asked =
        JwtSvidRequest { audience: vec![audience.to_owned()], spiffe_id: spiffe_id.unwrap_or_default().to_owned() };
    let answer = grpc.unary(request(asked), path, ProstCodec::<_, JwtSvidResponse>::default()).await;
    Ok(answer.map_err(|status| refused(&status))?.into_inner().svids)
}

async fn prepared(endpoint: &Endpoint, path: &'static str) -> Result<(Grpc<Channel>, PathAndQuery), WorkloadApiError> {
    let mut grpc = Grpc::new(channel(endpoint)?).max_decoding_message_size(LONGEST_MESSAGE);
    grpc.ready().await.map_err(|error| no_connection(&error))?;
    Ok((grpc, PathAndQuery::from_static(path)))
}

fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    // A browser cannot set it, so a web page cannot make one send the request (SPIFFE Workload Endpoint §4).
    request.metadata_mut().insert("workload.spiffe.io", MetadataValue::from_static("true"));
    request
}

fn channel(endpoint: &Endpoint) -> Result<Channel, WorkloadApiError> {
    let settings = |uri: String| {
        let settings = tonic::transport::Endpoint::from_shared(uri).map_err(|error| no_connection(&error))?;
        Ok(settings.connect_timeout(TIMEOUT).http2_keep_alive_interval(PING))
    };
    match endpoint {
        Endpoint::Tcp(address) => Ok(settings(format!("http://{address}"))?.connect_lazy()),
        #[cfg(unix)]
        Endpoint::Unix(path) => {
            let path = path.clone();
            let connector = tower::service_fn(move |_: http::Uri| {
                let path = path.clone();
                async move { tokio::net::UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
            });
            // A socket has no host; the name only fills the `:authority` header.
            Ok(settings("http://localhost".to_owned())?.connect_with_connector_lazy(connector))
        }
        #[cfg(not(unix))]
        Endpoint::Unix(_) => {
            Err(WorkloadApiError { text: "this system has no Unix domain sockets".to_owned(), is_denied: false })
        }
    }
}

fn no_connection(error: &(dyn std::error::Error + 'static)) -> WorkloadApiError {
    WorkloadApiError { text: with_sources(error), is_denied: false }
}

fn refused(status: &Status) -> WorkloadApiError {
    let mut text = format!("{:?}: {}", status.code(), quoted_within(status.message(), LONGEST_TEXT));
    if let Some(source) = std::error::Error::source(status) {
        text = format!("{text}: {}", with_sources(source));
    }
    WorkloadApiError { text, is_denied: status.code() == Code::PermissionDenied }
}

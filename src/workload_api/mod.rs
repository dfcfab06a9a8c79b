//! [`WorkloadApi`]: the SPIFFE Workload API of this machine, such as that of a SPIRE agent (feature `workload_api`).
//!
//! It gives a workload its JWT-SVIDs, and the trust bundles that verify those of others:
//!
//! - [`ClientAuthentication::jwt_svid`](crate::client::ClientAuthentication::jwt_svid) authenticates a client with its JWT-SVID.
//! - [`TrustDomain::from_workload_api`](crate::authorization_server::TrustDomain::from_workload_api) lets an authorization server
//!   accept the JWT-SVIDs of a trust domain.
//!
//! It is gRPC over a local socket. The agent recognizes the process that connects, so there is no credential. Each request has
//! the metadata `workload.spiffe.io: true` (SPIFFE Workload Endpoint §4).

mod connection;
mod endpoint;
mod messages;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::connection::BundleStream;
use self::endpoint::Endpoint;
pub use self::endpoint::InvalidEndpoint;
use crate::deadline::within;
use crate::quoted::quoted;

/// How long the Workload API may take to give an SVID.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The SPIFFE Workload API at an address. Clones share it. Nothing is connected before it is used.
///
/// ```no_run
/// use tower_client_credentials::client::ClientAuthentication;
/// use tower_client_credentials::workload_api::WorkloadApi;
///
/// let svid = ClientAuthentication::jwt_svid(WorkloadApi::from_env()?);
/// let svid = ClientAuthentication::jwt_svid(WorkloadApi::at("unix:///run/spire/agent.sock")?);
/// # Ok::<(), tower_client_credentials::workload_api::InvalidEndpoint>(())
/// ```
#[derive(Clone)]
pub struct WorkloadApi(Arc<Endpoint>);

impl WorkloadApi {
    /// Takes the address from the environment variable `SPIFFE_ENDPOINT_SOCKET` (SPIFFE Workload Endpoint §4).
    ///
    /// # Errors
    ///
    /// If the variable is not set, or is not an address.
    pub fn from_env() -> Result<Self, InvalidEndpoint> {
        const VARIABLE: &str = "SPIFFE_ENDPOINT_SOCKET";
        let address = std::env::var(VARIABLE).map_err(|error| InvalidEndpoint::variable(VARIABLE, &error))?;
        Self::at(&address)
    }

    /// Takes this address: `unix:///` and an absolute path, or `tcp://` and a loopback address with a port.
    ///
    /// # Errors
    ///
    /// If it is neither. Other addresses are refused, because the connection is not encrypted.
    pub fn at(address: &str) -> Result<Self, InvalidEndpoint> {
        Ok(Self(Arc::new(address.parse()?)))
    }

    /// Fetches a new JWT-SVID for this audience: that of `spiffe_id`, or the default one.
    pub(crate) async fn jwt_svid(&self, audience: &str, spiffe_id: Option<&str>) -> Result<String, WorkloadApiError> {
        let svids = within(TIMEOUT, connection::fetch_jwt_svids(&self.0, audience, spiffe_id)).await;
        let svids = svids.map_err(|late| self.failed(late.to_string()))?.map_err(|error| self.named(error))?;
        let mut svids = svids.into_iter();
        let found = match spiffe_id {
            // The first one is the default (SPIFFE Workload API §5.3).
            None => svids.next(),
            Some(id) => svids.find(|svid| svid.spiffe_id == id),
        };
        let found = found.filter(|svid| !svid.svid.is_empty());
        found.map(|svid| svid.svid).ok_or_else(|| {
            let wanted = spiffe_id.map_or_else(|| "the workload".to_owned(), quoted);
            self.failed(format!("it gave no JWT-SVID of {wanted}; register the workload at the SPIFFE server"))
        })
    }

    /// Starts a stream of the JWT bundles of all trust domains.
    pub(crate) async fn jwt_bundles(&self) -> Result<BundleStream, WorkloadApiError> {
        connection::stream_jwt_bundles(&self.0).await.map_err(|error| self.named(error))
    }

    /// Returns the error with the address.
    pub(crate) fn named(&self, error: WorkloadApiError) -> WorkloadApiError {
        WorkloadApiError { text: format!("the Workload API at {}: {}", self.0, error.text), ..error }
    }

    fn failed(&self, text: String) -> WorkloadApiError {
        self.named(WorkloadApiError { text, is_denied: false })
    }
}

impl fmt::Debug for WorkloadApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WorkloadApi").field(&format_args!("{}", self.0)).finish()
    }
}

/// The Workload API failed. The text is for the operator.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct WorkloadApiError {
    text: String,
    /// Whether it refused this workload, which means that former answers must not be used any more (§6.2.2).
    pub(crate) is_denied: bool,
}

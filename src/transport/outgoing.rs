//! [`Outgoing`]: the settings of requests to an issuer, which key fetching, introspection and the calling side have in common.

use std::sync::Arc;
use std::time::Duration;

use super::HttpClient;
use crate::uri::PlainHttp;

/// The limits of one exchange.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) time: Duration,
    pub(crate) body: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { time: Duration::from_secs(5), body: 256 * 1024 }
    }
}

/// How requests to an issuer are sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outgoing {
    own: Option<Arc<dyn HttpClient>>,
    environment_proxy: bool,
    pub(crate) plain_http: PlainHttp,
    pub(crate) limits: Limits,
}

/// There is no HTTP client.
#[derive(Debug)]
pub(crate) enum NoHttpClient {
    /// A proxy setting for the crate's own client, which was replaced.
    ProxyOfOwnClient,
    /// The crate's own client could not be built.
    #[cfg(feature = "remote")]
    Failed(super::HttpError),
    /// The crate's own client needs the feature `remote`.
    #[cfg(not(feature = "remote"))]
    Missing,
}

impl Outgoing {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    pub(crate) fn accept_plain_http(&mut self) {
        self.plain_http = PlainHttp::AnyHost;
    }

    pub(crate) fn use_environment_proxy(&mut self) {
        self.environment_proxy = true;
    }

    /// Replaces the crate's own client.
    pub(crate) fn set_client(&mut self, client: impl HttpClient) {
        self.own = Some(Arc::new(client));
    }

    /// Returns the application's client, or otherwise the crate's, which is the same one at the next call.
    pub(crate) fn client(&mut self) -> Result<Arc<dyn HttpClient>, NoHttpClient> {
        match &self.own {
            Some(_) if self.environment_proxy => Err(NoHttpClient::ProxyOfOwnClient),
            Some(client) => Ok(client.clone()),
            None => {
                let client = default_client(self.environment_proxy)?;
                self.own = Some(client.clone());
                self.environment_proxy = false;
                Ok(client)
            }
        }
    }
}

#[cfg(feature = "remote")]
fn default_client(environment_proxy: bool) -> Result<Arc<dyn HttpClient>, NoHttpClient> {
    Ok(Arc::new(super::ReqwestClient::new(environment_proxy).map_err(NoHttpClient::Failed)?))
}

#[cfg(not(feature = "remote"))]
fn default_client(_: bool) -> Result<Arc<dyn HttpClient>, NoHttpClient> {
    Err(NoHttpClient::Missing)
}

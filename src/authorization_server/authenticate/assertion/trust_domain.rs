//! [`TrustDomain`]: a SPIFFE trust domain and its bundle.

#[cfg(feature = "remote")]
use std::path::PathBuf;

use super::key_place::KeyPlace;
use super::spiffe_bundle;
use crate::keys::KeySet;
use crate::registration::InvalidCredential;
#[cfg(feature = "remote")]
use crate::transport::HostAccess;
#[cfg(feature = "workload_api")]
use crate::workload_api::WorkloadApi;

/// A SPIFFE trust domain whose JWT-SVIDs authenticate workloads (draft-ietf-oauth-spiffe-client-auth). An SVID is sent as
/// `client_assertion` with the type `urn:ietf:params:oauth:client-assertion-type:jwt-spiffe`.
///
/// Its `sub` must be the [SPIFFE ID](crate::registration::Credential::spiffe_id) of the client, and its `aud` the issuer
/// identifier of this server and nothing else. It is accepted several times, because workloads reuse it.
#[derive(Clone, Debug)]
pub struct TrustDomain {
    pub(super) name: String,
    pub(super) place: KeyPlace,
}

impl TrustDomain {
    /// Creates a trust domain, such as `example.org`, with a fixed bundle (SPIFFE Trust Domain and Bundle §4).
    ///
    /// # Errors
    ///
    /// If the bundle has no usable key for JWT-SVIDs.
    pub fn new(name: impl Into<String>, bundle: impl AsRef<[u8]>) -> Result<Self, InvalidCredential> {
        let keys = spiffe_bundle::svid_keys(bundle.as_ref()).map_err(InvalidCredential::new)?.keys;
        Ok(Self { name: name.into(), place: KeyPlace::Fixed(KeySet::from_jwks(keys)?) })
    }
}

#[cfg(feature = "workload_api")]
impl TrustDomain {
    /// Creates a trust domain whose bundle comes from the SPIFFE Workload API of this machine. That is the trust domain of the
    /// machine itself, or one that its SPIFFE server federates with.
    ///
    /// A change takes effect at once. While the agent cannot be reached, the last bundle is used for up to 24 hours; after that,
    /// and before the first bundle, the answer is 503. If the agent withdraws the bundle, its keys are not used any more.
    ///
    /// ```no_run
    /// use tower_client_credentials::authorization_server::TrustDomain;
    /// use tower_client_credentials::workload_api::WorkloadApi;
    ///
    /// let domain = TrustDomain::from_workload_api("example.org", WorkloadApi::from_env()?);
    /// # Ok::<(), tower_client_credentials::workload_api::InvalidEndpoint>(())
    /// ```
    pub fn from_workload_api(name: impl Into<String>, api: WorkloadApi) -> Self {
        let name = name.into();
        Self { place: KeyPlace::WorkloadApi { api, trust_domain: name.clone() }, name }
    }
}

#[cfg(feature = "remote")]
impl TrustDomain {
    /// Creates a trust domain whose bundle is in this file. The file is read again every few seconds; if that fails, the
    /// last bundle is used for up to 24 hours.
    pub fn in_file(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), place: KeyPlace::File(path.into()) }
    }

    /// Creates a trust domain whose bundle is fetched from this URL (the profile `https_web`). `spiffe_refresh_hint` is
    /// honored from 1 minute to 24 hours.
    pub fn at(name: impl Into<String>, url: impl Into<String>) -> Self {
        Self { name: name.into(), place: KeyPlace::Url { url: url.into(), access: HostAccess::default() } }
    }

    /// Allows a URL with an address of a private network or of this machine. By default only public addresses are
    /// connected to.
    #[must_use]
    pub fn private_addresses(mut self) -> Self {
        if let KeyPlace::Url { access, .. } = &mut self.place {
            access.private_addresses = true;
        }
        self
    }
}

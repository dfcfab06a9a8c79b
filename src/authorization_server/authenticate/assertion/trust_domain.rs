//! [`TrustDomain`]: a SPIFFE trust domain and its bundle.

#[cfg(feature = "remote")]
use std::path::PathBuf;

use super::key_place::KeyPlace;
use super::spiffe_bundle;
use crate::keys::KeySet;
use crate::registration::InvalidCredential;
#[cfg(feature = "remote")]
use crate::transport::HostAccess;

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

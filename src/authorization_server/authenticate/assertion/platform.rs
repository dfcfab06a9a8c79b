//! [`PlatformIssuer`]: a platform that issues tokens for its workloads, such as a Kubernetes cluster.

#[cfg(feature = "remote")]
use std::path::PathBuf;

use super::key_place::KeyPlace;
use crate::keys::KeySet;
#[cfg(feature = "remote")]
use crate::transport::HostAccess;

/// A platform whose tokens authenticate workloads: a Kubernetes cluster, a CI system or a cloud. The token is sent as
/// `client_assertion` with the type `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`.
///
/// Its `iss` must be a name of the platform, its `sub` and claims those of the client's
/// [credential](crate::registration::Credential::platform), and its `aud` the issuer identifier of this server and nothing
/// else. It may be valid for up to one hour, and is accepted several times, because workloads reuse it by design. Keys are
/// fetched only from the URL that is configured here, never from a host in a token.
///
/// ```
/// use tower_client_credentials::keys::KeySet;
/// use tower_client_credentials::authorization_server::PlatformIssuer;
///
/// let keys = KeySet::from_jwks(r#"{"keys": [
///     {"kty": "OKP", "crv": "Ed25519", "kid": "2026", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
/// ]}"#)?;
/// let cluster = PlatformIssuer::new("https://kubernetes.default.svc.cluster.local", keys);
/// # Ok::<(), tower_client_credentials::keys::KeyError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a platform is not trusted until a server has it"]
pub struct PlatformIssuer {
    pub(super) names: Vec<String>,
    pub(super) place: KeyPlace,
}

impl PlatformIssuer {
    /// Creates a platform with this `iss` and fixed keys.
    pub fn new(issuer: impl Into<String>, keys: KeySet) -> Self {
        Self { names: vec![issuer.into()], place: KeyPlace::Fixed(keys) }
    }

    /// Accepts another `iss`, with the same keys: the issuer of a cluster can change.
    pub fn also_named(mut self, issuer: impl Into<String>) -> Self {
        self.names.push(issuer.into());
        self
    }
}

/// The folder with the files of a pod (Kubernetes).
#[cfg(feature = "remote")]
const POD: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

#[cfg(feature = "remote")]
impl PlatformIssuer {
    /// Creates a platform with this `iss`, whose keys are fetched from this URL.
    pub fn at(issuer: impl Into<String>, jwks_url: impl Into<String>) -> Self {
        let place = KeyPlace::Url { url: jwks_url.into(), access: HostAccess::default() };
        Self { names: vec![issuer.into()], place }
    }

    /// Creates the platform of the cluster in which this process runs: the issuer
    /// `https://kubernetes.default.svc.cluster.local`, with the keys of its API server. The service's own token is sent
    /// to that server only.
    ///
    /// # Errors
    ///
    /// If the certificates of the pod cannot be read.
    pub fn in_cluster() -> Result<Self, std::io::Error> {
        let ca = std::fs::read(format!("{POD}/ca.crt"))?;
        let issuer = "https://kubernetes.default.svc.cluster.local";
        let platform = Self::at(issuer, "https://kubernetes.default.svc/openid/v1/jwks");
        Ok(platform.ca_certificates(ca).bearer_token_file(format!("{POD}/token")).private_addresses())
    }

    /// Trusts only these certificates for the URL of the keys, in PEM. By default those of the system.
    pub fn ca_certificates(self, pem: impl Into<Vec<u8>>) -> Self {
        self.with(|access| access.ca_certificates = Some(pem.into()))
    }

    /// Sends the bearer token in this file with each request for keys. The file is read for each request.
    pub fn bearer_token_file(self, path: impl Into<PathBuf>) -> Self {
        self.with(|access| access.bearer_token_file = Some(path.into()))
    }

    /// Allows a URL of keys with an address of a private network or of this machine. By default only public addresses are
    /// connected to.
    pub fn private_addresses(self) -> Self {
        self.with(|access| access.private_addresses = true)
    }

    fn with(mut self, change: impl FnOnce(&mut HostAccess)) -> Self {
        if let KeyPlace::Url { access, .. } = &mut self.place {
            change(access);
        }
        self
    }
}

//! TLS by files that can be replaced while the service runs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::build::read_file;
use crate::config::{Mistake, Source, TlsFiles};
use crate::{certificate, metrics};

/// A certificate with its key, ready to serve.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) config: Arc<ServerConfig>,
    /// The content of the certificate file, which shows whether it was replaced.
    chain: Arc<str>,
    /// When the first of the certificates expires. `None` if that cannot be read.
    expiry: Option<Duration>,
}

impl Tls {
    /// Reads the files. Returns `None` if none are set.
    pub(crate) fn of(files: &TlsFiles, source: &Source) -> Result<Option<Self>, Mistake> {
        let (certificate, key) = match (&files.certificate, &files.key) {
            (None, None) => return Ok(None),
            (Some(certificate), Some(key)) => (source.resolve(certificate), source.resolve(key)),
            (None, Some(_)) => {
                return Err(source.mistake_in("tls.key", "the certificate is missing; set tls.certificate, too"));
            }
            (Some(_), None) => {
                let why = "the private key of the certificate is missing; set tls.key, too";
                return Err(source.mistake_in("tls.certificate", why));
            }
        };
        let at =
            |setting, path: &Path, why: String| source.mistake_in(setting, format_args!("{}: {why}", path.display()));
        let chain = read_file(&certificate).map_err(|error| {
            at("tls.certificate", &certificate, format!("{error}; put the certificate and its chain there, in PEM"))
        })?;
        let certificates = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>();
        let certificates = certificates.map_err(|error| at("tls.certificate", &certificate, error.to_string()))?;
        if certificates.is_empty() {
            let why = "it has no certificate; expected PEM with -----BEGIN CERTIFICATE-----";
            return Err(at("tls.certificate", &certificate, why.to_owned()));
        }
        let expiry = certificates.iter().filter_map(|one| certificate::expiry(one).ok()).min();
        let text = read_file(&key).map_err(|error| {
            at("tls.key", &key, format!("{error}; put the private key of the certificate there, in PEM"))
        })?;
        let private = PrivateKeyDer::from_pem_slice(text.as_bytes())
            .map_err(|_| at("tls.key", &key, "it has no private key; expected PEM without a passphrase".to_owned()))?;
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, private));
        let mut config = config.map_err(|error| {
            at("tls.key", &key, format!("{error}; use the private key that belongs to {}", certificate.display()))
        })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Some(Self { config: Arc::new(config), chain: chain.into(), expiry }))
    }

    /// Records when the certificate expires. Called when it is served.
    pub(crate) fn record_expiry(&self) {
        if let Some(expiry) = self.expiry {
            metrics::certificate_expires(expiry);
        }
    }

    /// Returns whether both have the same certificate.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.chain == other.chain
    }
}

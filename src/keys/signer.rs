//! [`Signer`]: a private key that never leaves a KMS, an HSM or a PKCS#11 token.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::VerifyingKey;

/// The future of [`Signer::sign`].
pub type SignFuture<'a> = Pin<Box<dyn Future<Output = Result<Signature, SignError>> + Send + 'a>>;

/// Signs with a private key that this process does not have: that of a KMS, an HSM or a PKCS#11 token.
///
/// Pass it to [`SigningKey::from_signer`](super::SigningKey::from_signer). A key in memory needs no `Signer`: it signs at once,
/// without a future.
///
/// # Contract
///
/// - `message` is the JWS signing input (RFC 7515 §5.1), not its digest. The signature must be for the algorithm of
///   [`verifying_key`](Self::verifying_key), and made with the private half of that key. Each signature is verified before a token
///   leaves the process, so a wrong one is a 503, never an invalid token.
/// - [`SignerLimits`] sets the deadline and how many signatures are under way at once. At the deadline the future is dropped. A
///   thread that a future waits for is not interrupted by this, so limit such threads yourself, for example by a pool of
///   PKCS#11 sessions that a thread returns when it is done.
/// - An error is a 503 with `Retry-After` for the caller. Its text and its sources are logged, so they must contain no secret.
///
/// # Example
///
/// ```
/// use tower_client_credentials::keys::{SignError, SignFuture, Signature, Signer, SignerLimits, VerifyingKey};
/// use tower_client_credentials::{KeyRing, SigningKey};
///
/// #[derive(Debug)]
/// struct Kms {
///     key: VerifyingKey,
/// }
///
/// impl Signer for Kms {
///     fn verifying_key(&self) -> VerifyingKey {
///         self.key.clone()
///     }
///
///     fn sign<'a>(&'a self, message: &'a [u8]) -> SignFuture<'a> {
///         Box::pin(async move {
///             let der = call_the_kms(message).await.map_err(SignError::new)?;
///             Ok(Signature::ecdsa_der(der))
///         })
///     }
/// }
/// # async fn call_the_kms(_: &[u8]) -> Result<Vec<u8>, std::io::Error> { Err(std::io::ErrorKind::TimedOut.into()) }
/// # let key = VerifyingKey::from_pem(include_str!("../../tests/keys/p256.pub.pem"))?;
/// let keys = KeyRing::new(SigningKey::from_signer(Kms { key }, SignerLimits::default())?);
/// # Ok::<(), tower_client_credentials::keys::KeyError>(())
/// ```
pub trait Signer: fmt::Debug + Send + Sync + 'static {
    /// Returns the public half of the key, with the algorithm that it signs with. Called once.
    fn verifying_key(&self) -> VerifyingKey;

    /// Signs the message.
    ///
    /// # Errors
    ///
    /// If there is no signature, for whatever reason.
    fn sign<'a>(&'a self, message: &'a [u8]) -> SignFuture<'a>;
}

/// A signature, as a [`Signer`] returns it.
#[derive(Clone, Debug)]
pub struct Signature(pub(super) SignatureForm);

#[derive(Clone, Debug)]
pub(super) enum SignatureForm {
    Jws(Vec<u8>),
    EcdsaDer(Vec<u8>),
}

impl Signature {
    /// Creates a signature in the form of JWS (RFC 7518 §3): for ECDSA the numbers `r` and `s` one after the other, each as long
    /// as the curve's order. PKCS#11 returns this form.
    #[must_use]
    pub fn jws(bytes: impl Into<Vec<u8>>) -> Self {
        Self(SignatureForm::Jws(bytes.into()))
    }

    /// Creates an ECDSA signature in DER (RFC 3279 §2.2.3), the form that AWS KMS, Google Cloud KMS and OpenSSL return.
    #[must_use]
    pub fn ecdsa_der(der: impl Into<Vec<u8>>) -> Self {
        Self(SignatureForm::EcdsaDer(der.into()))
    }
}

/// There is no signature. The caller gets 503; the source says why, for the operator.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the key could not sign")]
pub struct SignError(#[source] Arc<dyn Error + Send + Sync>);

impl SignError {
    /// Wraps the cause.
    #[must_use]
    pub fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(source.into().into())
    }

    /// Returns the cause.
    pub(crate) fn into_source(self) -> Arc<dyn Error + Send + Sync> {
        self.0
    }
}

/// The limits on the calls of a [`Signer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignerLimits {
    pub(super) deadline: Duration,
    pub(super) at_once: usize,
    pub(super) waiting: usize,
}

impl SignerLimits {
    /// Sets how long a signature may take, including the wait for its turn. The default is 2 seconds, as for a store call. Beyond
    /// it, the caller gets 503.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets how many signatures are under way at once. The default is 32.
    #[must_use]
    pub fn at_once(mut self, signatures: usize) -> Self {
        self.at_once = signatures;
        self
    }

    /// Sets how many signatures may wait for their turn. The default is 1,024. When the queue is full, the caller gets 503.
    #[must_use]
    pub fn waiting(mut self, signatures: usize) -> Self {
        self.waiting = signatures;
        self
    }
}

impl Default for SignerLimits {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(2), at_once: 32, waiting: 1_024 }
    }
}

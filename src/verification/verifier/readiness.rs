//! The readiness of a [`Verifier`]: whether it has the keys of its issuers.

use std::future::poll_fn;
use std::task::Poll;

use super::Verifier;
#[cfg(feature = "remote")]
use crate::verification::introspection::Introspector;

impl Verifier {
    /// Returns whether the tokens of any issuer can be verified. A health check uses it to decide whether a service gets
    /// requests.
    ///
    /// With [several issuers](Self::or), one that is down does not make the service unready for the others: its tokens get 503
    /// until its keys are available. [`readiness`](Self::readiness) shows which one. Always true if the keys of an issuer are
    /// in this process, or if an introspection endpoint is asked.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.readiness().any(|(_, is_ready)| is_ready)
    }

    /// Returns each issuer and whether its tokens can be verified, for an alarm, or for a health check that requires all
    /// issuers. An introspection endpoint is always ready, since it is asked about each token.
    ///
    /// ```
    /// # use tower_client_credentials::{AuthorizationServer, KeyRing, MemoryStore};
    /// # let server = AuthorizationServer::new("https://auth.example.com", KeyRing::generate()?, MemoryStore::default())?;
    /// let verifier = server.verifier("https://api.example.com")?;
    /// let not_ready: Vec<&str> =
    ///     verifier.readiness().filter(|(_, is_ready)| !is_ready).map(|(issuer, _)| issuer).collect();
    /// assert!(not_ready.is_empty(), "no keys yet of {not_ready:?}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn readiness(&self) -> impl Iterator<Item = (&str, bool)> {
        let issuers = self.issuers().map(|issuer| (issuer.name(), issuer.is_ready()));
        issuers.chain(self.introspection_issuer().map(|issuer| (issuer, true)))
    }

    /// Waits until [`is_ready`](Self::is_ready) returns true.
    pub async fn ready(&self) {
        let mut issuers: Vec<_> = self.issuers().map(|issuer| Box::pin(issuer.ready())).collect();
        poll_fn(|cx| {
            let any_is_ready = issuers.iter_mut().any(|issuer| issuer.as_mut().poll(cx).is_ready());
            if any_is_ready || self.is_ready() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Returns the issuer whose introspection endpoint is asked.
    #[cfg(feature = "remote")]
    fn introspection_issuer(&self) -> Option<&str> {
        self.opaque.as_ref().map(Introspector::issuer)
    }

    #[cfg(not(feature = "remote"))]
    #[expect(clippy::unused_self, reason = "same signature as with the feature `remote`")]
    fn introspection_issuer(&self) -> Option<&str> {
        None
    }
}

//! Verifies a signature with keys that may have to be fetched.

use super::claims::shown_text;
use super::failure::Failure;
use super::invalid::{AssertionRule, Refusal};
use crate::authorization_server::error::{Fault, TokenError};
use crate::clock::UnixTime;
use crate::keys::{FoundKey, NoKey, TrustedKeys};
use crate::verification::Jws;

/// A signed JWT, with what its header names.
#[derive(Clone, Copy)]
pub(super) struct Signed<'a> {
    pub(super) jws: &'a Jws<'a>,
    pub(super) kid: &'a str,
    pub(super) alg: &'a str,
    /// The time of issue that it claims, with the skew added.
    #[cfg_attr(not(feature = "remote"), expect(dead_code, reason = "only fetched keys can be newer than a token"))]
    pub(super) issued_by: Option<UnixTime>,
}

impl Signed<'_> {
    /// Checks the signature with one of these keys. Fetches keys and waits for them, if that may change the result.
    pub(super) async fn verify(&self, keys: &TrustedKeys) -> Result<(), Failure> {
        #[cfg(feature = "remote")]
        return self.verify_until(keys, keys.deadline()).await;
        #[cfg(not(feature = "remote"))]
        self.verify_until(keys).await
    }

    /// Does what [`verify`](Self::verify) does, and waits until this time at most.
    #[cfg_attr(not(feature = "remote"), expect(clippy::unused_async, reason = "only fetched keys are waited for"))]
    pub(super) async fn verify_until(
        &self,
        keys: &TrustedKeys,
        #[cfg(feature = "remote")] deadline: tokio::time::Instant,
    ) -> Result<(), Failure> {
        let found = match keys.find(self.kid, self.alg) {
            #[cfg(feature = "remote")]
            Err(NoKey::NotAsked) => {
                keys.ask(self.kid, self.alg, deadline).await.map_err(|no_key| self.without_key(no_key))?;
                keys.find(self.kid, self.alg)
            }
            found => found,
        };
        let found = found.map_err(|no_key| self.without_key(no_key))?;
        if self.is_by(&found) {
            return Ok(());
        }
        #[cfg(feature = "remote")]
        if keys.may_be_replaced(&found) {
            keys.ask_for_replacement(&found, deadline).await;
            let named = keys.find(self.kid, self.alg).map_err(|no_key| self.without_key(no_key))?;
            if !named.is_same_key(&found) && self.is_by(&named) {
                return Ok(());
            }
        }
        let text = "the signature of the assertion does not match the key with this `kid`; check that the issuer signs with the \
                    key that it publishes under this name";
        Err(Refusal::new(AssertionRule::Signature, text).into())
    }

    fn is_by(&self, found: &FoundKey) -> bool {
        self.jws.is_signed_by(&found.key)
    }

    #[cold]
    fn without_key(&self, no_key: NoKey) -> Failure {
        let unknown = || {
            let (expected, fix) = ("the `kid` of a published key", "publish the key before signing with it");
            Refusal::claim(AssertionRule::Key, "kid", &shown_text(self.kid), expected, fix).into()
        };
        match no_key {
            NoKey::Unknown => unknown(),
            NoKey::CutOff => {
                let detail = "this process is cut off from the store of its keys";
                TokenError::new(Fault::UNAVAILABLE).detailed(detail).retry_after(1).into()
            }
            NoKey::Algorithm(own) => {
                let expected = own.map_or_else(|| "the algorithm of a published key".to_owned(), |own| own.to_string());
                let fix = "sign with the algorithm of the key";
                Refusal::claim(AssertionRule::Algorithm, "alg", &shown_text(self.alg), &expected, fix).into()
            }
            // A set that is newer than the assertion lacks the key.
            #[cfg(feature = "remote")]
            NoKey::Lacked { at, .. } if self.issued_by.is_some_and(|issued| issued < at) => unknown(),
            #[cfg(feature = "remote")]
            NoKey::NotAsked => unavailable(None, std::time::Duration::from_secs(1)),
            #[cfg(feature = "remote")]
            NoKey::Lacked { retry_after, .. } => unavailable(None, retry_after),
            #[cfg(feature = "remote")]
            NoKey::Unavailable { error, retry_after } | NoKey::TooEarly { error, retry_after } => {
                unavailable(error.map(|error| (*error).clone()), retry_after)
            }
        }
    }
}

#[cfg(feature = "remote")]
fn unavailable(error: Option<crate::transport::FetchError>, retry_after: std::time::Duration) -> Failure {
    let detail = "the keys for the assertion cannot be fetched now";
    let unavailable = TokenError::new(Fault::UNAVAILABLE).detailed(detail).retry_after(retry_after.as_secs().max(1));
    error.into_iter().fold(unavailable, TokenError::because).into()
}

//! [`WorkloadKey`]: names a workload in the index of a client store.

use std::fmt;

use super::{NamedWorkload, RegisteredClient, SpiffeId};
use crate::crypto::sha256;

/// The workload that a credential is for, as the index of a [`ClientStore`](crate::ClientStore) names it: a digest of 32 bytes of the
/// issuer and the subject of a platform's tokens, or of a SPIFFE ID or a pattern.
///
/// ```
/// use tower_client_credentials::Client;
/// use tower_client_credentials::registration::Credential;
///
/// let svid = Credential::spiffe_id("spiffe://example.org/billing".parse()?);
/// let client = Client::with_credential("billing", svid).audience("https://api.example.com").register()?;
/// assert_eq!(client.workload_keys().len(), 1);
/// assert_eq!(client.workload_keys()[0].to_string().len(), 64);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadKey([u8; 32]);

impl WorkloadKey {
    pub(crate) fn platform(issuer: &str, subject: &str) -> Self {
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        Self(sha256(format!("platform:{}:{issuer}{subject}", issuer.len()).as_bytes()))
    }

    pub(crate) fn spiffe(id: &SpiffeId) -> Self {
        Self::spiffe_text(id.as_str())
    }

    fn spiffe_text(text: &str) -> Self {
        Self(sha256(format!("spiffe:{text}").as_bytes()))
    }

    /// Returns the keys under which clients for this SPIFFE ID may be: the ID, and each pattern that matches it. `None` if the path
    /// has more than [`MAX_SEGMENTS`] segments.
    pub(crate) fn matching(id: &SpiffeId) -> Option<Vec<Self>> {
        let text = id.as_str();
        let path = text.len().checked_sub(id.path().len())?;
        let ends = id.path().bytes().enumerate().filter(|(_, byte)| *byte == b'/').map(|(at, _)| path + at + 1);
        let above = ends.filter_map(|end| text.get(..end));
        let mut keys = vec![Self::spiffe(id)];
        keys.extend(above.take(MAX_SEGMENTS + 1).map(|above| Self::spiffe_text(&format!("{above}*"))));
        (keys.len() <= MAX_SEGMENTS + 1).then_some(keys)
    }

    /// Returns the digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The maximum number of segments in the path of a SPIFFE ID that is looked up, so that a look-up has a bound.
pub(crate) const MAX_SEGMENTS: usize = 32;

/// Shows the digest in hexadecimal.
impl fmt::Display for WorkloadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for WorkloadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WorkloadKey({self})")
    }
}

impl RegisteredClient {
    /// Returns the keys of the workloads that the client has credentials for, sorted, including credentials that have expired. A store
    /// stores them with the client, for [`ClientStore::find_by_workload`](crate::ClientStore::find_by_workload).
    #[must_use]
    pub fn workload_keys(&self) -> Vec<WorkloadKey> {
        let keys = self.credentials().iter().filter_map(|credential| {
            Some(match credential.kind().workload()? {
                NamedWorkload::Platform(identity) => WorkloadKey::platform(identity.issuer(), identity.subject()),
                NamedWorkload::Spiffe(id) => WorkloadKey::spiffe(id),
            })
        });
        let mut keys: Vec<_> = keys.collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_SEGMENTS, WorkloadKey};
    use crate::registration::SpiffeId;

    fn id(text: &str) -> SpiffeId {
        text.parse().unwrap()
    }

    #[test]
    fn an_issuer_and_a_subject_are_kept_apart_and_a_platform_is_no_trust_domain() {
        assert_eq!(WorkloadKey::platform("ab", "c"), WorkloadKey::platform("ab", "c"));
        assert_ne!(WorkloadKey::platform("ab", "c"), WorkloadKey::platform("a", "bc"));
        assert_ne!(WorkloadKey::platform("", "spiffe://a/b"), WorkloadKey::spiffe(&id("spiffe://a/b")));
    }

    #[test]
    fn a_spiffe_id_is_looked_up_by_itself_and_by_each_pattern_that_matches_it_and_by_no_other() {
        for (text, patterns) in [
            ("spiffe://a/b", vec!["spiffe://a/*"]),
            ("spiffe://a/b/c", vec!["spiffe://a/*", "spiffe://a/b/*"]),
            ("spiffe://a/b/c/d", vec!["spiffe://a/*", "spiffe://a/b/*", "spiffe://a/b/c/*"]),
        ] {
            let found = WorkloadKey::matching(&id(text)).unwrap();
            let expected = [text].into_iter().chain(patterns.iter().copied());
            assert_eq!(found, expected.map(|text| WorkloadKey::spiffe(&id(text))).collect::<Vec<_>>(), "{text}");
            assert!(patterns.iter().all(|pattern| id(pattern).matches(&id(text))), "{text}");
        }
    }

    #[test]
    fn the_number_of_keys_of_a_spiffe_id_is_bounded() {
        let deep = |segments: usize| WorkloadKey::matching(&id(&format!("spiffe://a{}", "/b".repeat(segments))));
        assert_eq!(deep(MAX_SEGMENTS).unwrap().len(), MAX_SEGMENTS + 1);
        assert!(deep(MAX_SEGMENTS + 1).is_none() && deep(1_000).is_none());
    }
}

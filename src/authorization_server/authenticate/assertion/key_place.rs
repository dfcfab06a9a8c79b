//! [`KeyPlace`] and [`KeyFormat`]: where the keys of a platform or a trust domain come from, and in which format.

use std::sync::{Arc, Once};

#[cfg(feature = "remote")]
use super::remote_keys;
use crate::clock::Clock;
use crate::crypto::Random;
#[cfg(feature = "remote")]
use crate::keys::remote::RemoteKeys;
use crate::keys::{KeySet, TrustedKeys};
#[cfg(feature = "remote")]
use crate::transport::HostAccess;
#[cfg(feature = "workload_api")]
use crate::workload_api::WorkloadApi;

#[derive(Clone, Debug)]
pub(super) enum KeyPlace {
    Fixed(KeySet),
    #[cfg(feature = "remote")]
    Url {
        url: String,
        access: HostAccess,
    },
    #[cfg(feature = "remote")]
    File(std::path::PathBuf),
    #[cfg(feature = "workload_api")]
    WorkloadApi {
        api: WorkloadApi,
        trust_domain: String,
    },
}

/// The format of the document with the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyFormat {
    /// RFC 7517 §5.
    Jwks,
    /// A JWK Set whose keys for JWT-SVIDs have the `use` `jwt-svid` (SPIFFE Trust Domain and Bundle §4).
    SpiffeBundle,
}

/// The keys of a platform or a trust domain. Remote ones are fetched from the first use on.
#[derive(Debug)]
pub(super) struct WorkloadKeys {
    keys: TrustedKeys,
    /// Tells that the keys changed, for keys that are not only polled.
    #[cfg(feature = "remote")]
    changes: Option<tokio::sync::watch::Receiver<()>>,
    start: Once,
}

impl WorkloadKeys {
    #[cfg_attr(
        not(feature = "remote"),
        expect(unused_variables, clippy::unnecessary_wraps, reason = "only fetched keys need them, and can fail")
    )]
    pub(super) fn open(
        place: KeyPlace,
        format: KeyFormat,
        clock: &Arc<dyn Clock>,
        random: &Arc<dyn Random>,
    ) -> Result<Self, String> {
        #[cfg(feature = "remote")]
        #[cfg_attr(
            not(feature = "workload_api"),
            expect(unused_mut, reason = "only the Workload API tells of changes")
        )]
        let mut changes = None;
        let keys = match place {
            KeyPlace::Fixed(keys) => TrustedKeys::Set(keys),
            #[cfg(feature = "remote")]
            KeyPlace::Url { url, access } => {
                TrustedKeys::Remote(remote_keys::at_url(&url, access, format, clock.clone(), random.clone())?)
            }
            #[cfg(feature = "remote")]
            KeyPlace::File(path) => {
                TrustedKeys::Remote(remote_keys::in_file(path, format, clock.clone(), random.clone())?)
            }
            #[cfg(feature = "workload_api")]
            KeyPlace::WorkloadApi { api, trust_domain } => {
                let (keys, told) = remote_keys::at_workload_api(api, &trust_domain, clock.clone(), random.clone());
                changes = Some(told);
                TrustedKeys::Remote(keys)
            }
        };
        Ok(Self {
            keys,
            #[cfg(feature = "remote")]
            changes,
            start: Once::new(),
        })
    }

    /// Returns the keys. The first call starts to keep them fresh, which needs a runtime.
    pub(super) fn keys(&self) -> &TrustedKeys {
        #[cfg(feature = "remote")]
        if let TrustedKeys::Remote(keys) = &self.keys {
            self.start.call_once(|| match &self.changes {
                None => RemoteKeys::keep_fresh(keys),
                Some(changes) => RemoteKeys::follow(keys, changes.clone()),
            });
        }
        #[cfg(not(feature = "remote"))]
        self.start.call_once(|| ());
        &self.keys
    }
}

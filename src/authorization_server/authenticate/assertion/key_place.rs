//! [`KeyPlace`]: where the keys of a platform or a trust domain come from.

use std::sync::{Arc, Once};

use super::key_format::KeyFormat;
#[cfg(feature = "remote")]
use super::remote_keys;
use crate::clock::Clock;
use crate::crypto::Random;
#[cfg(feature = "remote")]
use crate::keys::remote::RemoteKeys;
use crate::keys::{KeySet, TrustedKeys};
#[cfg(feature = "remote")]
use crate::transport::HostAccess;

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
}

/// The keys of a platform or a trust domain. Remote ones are fetched from the first use on.
#[derive(Debug)]
pub(super) struct WorkloadKeys {
    keys: TrustedKeys,
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
        };
        Ok(Self { keys, start: Once::new() })
    }

    /// Returns the keys. The first call starts to keep them fresh, which needs a runtime.
    pub(super) fn keys(&self) -> &TrustedKeys {
        #[cfg(feature = "remote")]
        if let TrustedKeys::Remote(keys) = &self.keys {
            self.start.call_once(|| RemoteKeys::keep_fresh(keys));
        }
        #[cfg(not(feature = "remote"))]
        self.start.call_once(|| ());
        &self.keys
    }
}

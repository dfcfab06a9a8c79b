//! The settings of a client that do not affect its own tokens: its name, free metadata, and its rights as an administrator.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::{Client, keep};
use crate::clock::UnixTime;
use crate::registration::details::{check_metadata, check_name};
use crate::registration::{Details, MayGrant};

/// Settings that do not affect the client's own tokens.
impl Client {
    /// Sets the name of the client, for people (`client_name` of RFC 7591 §2). It has at most 256 bytes in one line. By default
    /// a client has none.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        let name = name.into();
        if keep(check_name(&name), &mut self.mistake).is_some() {
            self.details().name = Some(name);
        }
        self
    }

    /// Removes the [name](Self::name).
    pub fn without_name(mut self) -> Self {
        self.details().name = None;
        self
    }

    /// Sets the free metadata: texts that only people and other programs read, such as the team that owns the client. At most 64
    /// entries and 4 KiB, with keys of up to 64 bytes. Replaces all earlier entries.
    pub fn metadata(mut self, entries: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>) -> Self {
        let entries = entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect::<BTreeMap<_, _>>();
        if keep(check_metadata(&entries), &mut self.mistake).is_some() {
            self.details().metadata = entries;
        }
        self
    }

    /// Sets when the client was registered, in whole seconds (`client_id_issued_at` of RFC 7591 §3.2.1).
    pub fn issued_at(mut self, time: SystemTime) -> Self {
        self.details().issued_at = Some(UnixTime::at(time));
        self
    }

    /// Sets the scopes, audiences and workloads that the client may give to other clients, as an administrator of an
    /// [administration API](crate::administration). By default it may give none.
    pub fn may_grant(mut self, may_grant: MayGrant) -> Self {
        self.details().may_grant = Some(may_grant);
        self
    }

    /// Removes [`may_grant`](Self::may_grant).
    pub fn without_may_grant(mut self) -> Self {
        self.details().may_grant = None;
        self
    }

    fn details(&mut self) -> &mut Details {
        self.client.details.get_or_insert_default()
    }
}

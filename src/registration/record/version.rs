//! The version of a record: which members a reader must know.

use super::Record;
use crate::quoted::shortened;

/// The version of a record that has new members.
const VERSION: u64 = 2;

/// The members of the first release (f06e5ac), and the two that describe the version.
pub(super) const MEMBERS: [&str; 14] = [
    "client_id",
    "client_secrets",
    "token_endpoint_auth_method",
    "scope",
    "default_scope",
    "audiences",
    "default_audience",
    "subject",
    "token_lifetime",
    "introspects",
    "grant",
    "enabled",
    "version",
    "must_understand",
];

/// The members that were added after the first release. A record that uses one lists it in `must_understand`.
pub(super) const NEW_MEMBERS: &[NewMember] = &[
    NewMember { name: "credentials", is_used: |record| !record.credentials.is_empty() },
    NewMember { name: "legacy_assertions_until", is_used: |record| record.legacy_assertions_until.is_some() },
];

pub(super) struct NewMember {
    pub(super) name: &'static str,
    pub(super) is_used: fn(&Record) -> bool,
}

pub(super) fn is_known(member: &str) -> bool {
    MEMBERS.contains(&member) || NEW_MEMBERS.iter().any(|new| new.name == member)
}

impl Record {
    /// Sets the version that the members need, and lists the new ones.
    pub(super) fn mark_version(&mut self, new: &[NewMember]) {
        self.must_understand = new.iter().filter(|new| (new.is_used)(self)).map(|new| new.name.to_owned()).collect();
        self.version = (!self.must_understand.is_empty() || !self.other.is_empty()).then_some(VERSION);
    }

    /// Returns a member that makes a record without `version` invalid, and the error with the path of the member.
    pub(crate) fn unknown_member(&self) -> Option<(&str, String)> {
        let unknown = self.other.first().filter(|_| self.version.is_none_or(|version| version < VERSION))?;
        let known = MEMBERS.iter().copied().chain(NEW_MEMBERS.iter().map(|new| new.name));
        let known = known.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let name = shown(unknown);
        Some((unknown, format!("{name}: unknown field `{name}`, expected one of {known}")))
    }

    /// Returns an error if this release could misread the record.
    pub(super) fn check_version(&self) -> Result<(), String> {
        if let Some(version) = self.version.filter(|version| !(1..=VERSION).contains(version)) {
            return Err(format!(
                "version: this release reads records up to version {VERSION}, found version {version}; use a newer release"
            ));
        }
        if let Some(unknown) = self.must_understand.iter().find(|name| !is_known(name)) {
            return Err(format!(
                "must_understand: this release does not know the member `{}`, and so must not use the client; use the \
                 release that wrote the record, or remove the member",
                shown(unknown)
            ));
        }
        self.unknown_member().map_or(Ok(()), |(_, why)| Err(why))
    }
}

/// Returns the name of a member, escaped and truncated.
fn shown(member: &str) -> String {
    shortened(&member.escape_debug().to_string())
}

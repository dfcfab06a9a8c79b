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

/// The members that were added after the first release. A record that uses one of the first group lists it in `must_understand`.
/// Those of the second group neither restrict the client nor decide how it authenticates, so an older release ignores them.
pub(super) const NEW_MEMBERS: &[NewMember] = &[
    NewMember::decisive("credentials", |record| !record.credentials.is_empty()),
    NewMember::decisive("legacy_assertions_until", |record| record.legacy_assertions_until.is_some()),
    NewMember::ignorable("legacy_audience_used_at", |record| record.legacy_audience_used_at.is_some()),
    NewMember::ignorable("client_name", |record| record.client_name.is_some()),
    NewMember::ignorable("client_id_issued_at", |record| record.client_id_issued_at.is_some()),
    NewMember::ignorable("metadata", |record| !record.metadata.is_empty()),
    NewMember::ignorable("may_grant", |record| record.may_grant.is_some()),
];

pub(super) struct NewMember {
    pub(super) name: &'static str,
    is_used: fn(&Record) -> bool,
    must_be_understood: bool,
}

impl NewMember {
    pub(super) const fn decisive(name: &'static str, is_used: fn(&Record) -> bool) -> Self {
        Self { name, is_used, must_be_understood: true }
    }

    pub(super) const fn ignorable(name: &'static str, is_used: fn(&Record) -> bool) -> Self {
        Self { name, is_used, must_be_understood: false }
    }
}

pub(super) fn is_known(member: &str) -> bool {
    MEMBERS.contains(&member) || NEW_MEMBERS.iter().any(|new| new.name == member)
}

impl Record {
    /// Sets the version that the members need, and lists the new ones.
    pub(super) fn mark_version(&mut self, new: &[NewMember]) {
        let used: Vec<_> = new.iter().filter(|new| (new.is_used)(self)).collect();
        self.version = (!used.is_empty() || !self.other.is_empty()).then_some(VERSION);
        let decisive = used.into_iter().filter(|new| new.must_be_understood);
        self.must_understand = decisive.map(|new| new.name.to_owned()).collect();
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

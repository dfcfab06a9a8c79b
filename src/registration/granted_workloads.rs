//! [`GrantedWorkloads`]: the workloads for which an administrator may give credentials to clients.

use serde::{Deserialize, Serialize};

use super::error_path::at;
use super::{CredentialKind, NamedWorkload, SpiffeId};
use crate::object::Object;
use crate::quoted::{LONGEST_URL, OneLine};

/// The workloads for which an administrator may give credentials to clients. By default none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct GrantedWorkloads {
    spiffe_ids: Vec<SpiffeId>,
    of_platforms: Vec<OfPlatform>,
}

/// Workloads of a platform.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OfPlatform {
    issuer: String,
    subject: Subject,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Exact(String),
    Prefix(String),
}

/// The characters that separate the parts of a subject, as in `system:serviceaccount:prod:billing` and `repo:acme/app:ref:…`.
const SEPARATORS: [char; 2] = [':', '/'];

impl GrantedWorkloads {
    pub(super) fn add_spiffe_id(&mut self, id: SpiffeId) {
        if !self.spiffe_ids.contains(&id) {
            self.spiffe_ids.push(id);
        }
    }

    pub(super) fn add_subject(&mut self, issuer: String, subject: Subject) {
        let of_platform = OfPlatform { issuer, subject };
        if !self.of_platforms.contains(&of_platform) {
            self.of_platforms.push(of_platform);
        }
    }

    /// Returns whether a credential of this kind is for a listed workload, or for no workload.
    pub(super) fn allow(&self, kind: &CredentialKind) -> bool {
        kind.workload().is_none_or(|workload| match workload {
            NamedWorkload::Spiffe(id) => self.allow_spiffe_id(id),
            NamedWorkload::Platform(identity) => self.allow_subject(identity.issuer(), identity.subject()),
        })
    }

    /// Returns whether the ID, or everything that the pattern matches, is listed.
    pub(super) fn allow_spiffe_id(&self, id: &SpiffeId) -> bool {
        // The text of a pattern begins like that of each ID that it matches, so a pattern matches itself and the narrower ones.
        self.spiffe_ids.iter().any(|own| own.matches(id))
    }

    pub(super) fn allow_subject(&self, issuer: &str, subject: &str) -> bool {
        self.of_platforms.iter().any(|own| own.issuer == issuer && own.subject.matches(subject))
    }

    /// Returns whether everything that `other` lists is listed here, too.
    pub(super) fn cover(&self, other: &Self) -> bool {
        let covers = |theirs: &OfPlatform| {
            self.of_platforms.iter().any(|own| own.issuer == theirs.issuer && own.subject.covers(&theirs.subject))
        };
        other.spiffe_ids.iter().all(|id| self.allow_spiffe_id(id)) && other.of_platforms.iter().all(covers)
    }
}

impl Subject {
    fn matches(&self, subject: &str) -> bool {
        match self {
            Self::Exact(own) => own == subject,
            Self::Prefix(prefix) => is_below(prefix, subject),
        }
    }

    fn covers(&self, other: &Self) -> bool {
        match other {
            Self::Exact(subject) => self.matches(subject),
            Self::Prefix(prefix) => self == other || matches!(self, Self::Prefix(own) if is_below(own, prefix)),
        }
    }
}

/// Returns whether the subject begins with the prefix, and the prefix ends where a part of the subject ends: `team-a` must not be
/// the start of `team-ab`.
fn is_below(prefix: &str, subject: &str) -> bool {
    let rest = subject.strip_prefix(prefix).filter(|rest| !rest.is_empty());
    rest.is_some_and(|rest| prefix.ends_with(SEPARATORS) || rest.starts_with(SEPARATORS))
}

/// An element of `platform_workloads` in a record: with a subject, or with the start of several.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlatformWorkloadRecord {
    issuer: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject_prefix: Option<String>,
}

impl GrantedWorkloads {
    /// Returns the members `spiffe_ids` and `platform_workloads` of a record.
    pub(super) fn to_record(&self) -> (Vec<String>, Vec<Object<PlatformWorkloadRecord>>) {
        let platform = |own: &OfPlatform| {
            let (subject, subject_prefix) = match &own.subject {
                Subject::Exact(subject) => (Some(subject.clone()), None),
                Subject::Prefix(prefix) => (None, Some(prefix.clone())),
            };
            Object(PlatformWorkloadRecord { issuer: own.issuer.clone(), subject, subject_prefix })
        };
        (self.spiffe_ids.iter().map(ToString::to_string).collect(), self.of_platforms.iter().map(platform).collect())
    }

    /// Creates the value from these members. An error begins with the rest of its path.
    pub(super) fn checked(
        spiffe_ids: &[String],
        platform_workloads: Vec<Object<PlatformWorkloadRecord>>,
    ) -> Result<Self, String> {
        let mut checked = Self::default();
        for (number, text) in spiffe_ids.iter().enumerate() {
            let parsed = text.parse().map_err(|error| format!("`{}`: {error}", OneLine(text, LONGEST_URL)));
            checked.add_spiffe_id(at(&format!(".spiffe_ids[{number}]"), parsed)?);
        }
        for (number, Object(record)) in platform_workloads.into_iter().enumerate() {
            let subject = match (record.subject, record.subject_prefix) {
                (Some(subject), None) => Ok(Subject::Exact(subject)),
                (None, Some(prefix)) => Ok(Subject::Prefix(prefix)),
                _ => Err("needs either `subject` or `subject_prefix`"),
            };
            let subject = at(&format!(".platform_workloads[{number}]"), subject)?;
            checked.add_subject(record.issuer, subject);
        }
        Ok(checked)
    }
}

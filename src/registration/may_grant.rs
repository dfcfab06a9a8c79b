//! [`MayGrant`]: the scopes, audiences and workloads that an administrator may give to other clients.

use serde::{Deserialize, Serialize};

use super::error_path::at;
use super::granted_workloads::{GrantedWorkloads, PlatformWorkloadRecord, Subject};
use super::{CredentialKind, SpiffeId};
use crate::audience::Audience;
use crate::object::Object;
use crate::quoted::{LONGEST_URL, OneLine};
use crate::scope::{Scope, Scopes};

/// The scopes and audiences that a client may give to other clients, as an administrator of an
/// [administration API](crate::administration), and the workloads for which it may give them credentials.
///
/// A credential for a workload is a right: the requests of the workload without `client_id` are those of the client that has it,
/// and are refused if several clients have it.
///
/// ```
/// use tower_client_credentials::registration::MayGrant;
///
/// let cluster = "https://kubernetes.default.svc.cluster.local";
/// let may_grant = MayGrant::new()
///     .workload("spiffe://example.org/team-a/*".parse()?)
///     .platform_workload(cluster, "system:serviceaccount:shared:team-a")
///     .platform_subject_prefix(cluster, "system:serviceaccount:team-a:");
/// assert!(may_grant.allows_workload(&"spiffe://example.org/team-a/billing".parse()?));
/// assert!(!may_grant.allows_workload(&"spiffe://example.org/team-b/billing".parse()?));
/// assert!(may_grant.allows_platform_workload(cluster, "system:serviceaccount:team-a:billing"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// By default it is empty. It does not make a client an administrator: for that, the client needs the scopes of the
/// administration in addition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "it allows nothing until a client has it"]
pub struct MayGrant {
    scopes: Scopes,
    audiences: Vec<Audience>,
    workloads: GrantedWorkloads,
    everything: bool,
}

impl MayGrant {
    /// Allows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Allows every scope, audience and workload, also those that do not exist yet. For the first administrator.
    pub fn everything() -> Self {
        Self { everything: true, ..Self::default() }
    }

    /// Allows a scope in addition.
    pub fn scope(self, scope: &Scope) -> Self {
        Self { scopes: self.scopes.with(scope), ..self }
    }

    /// Allows an audience in addition. It is compared code point by code point.
    pub fn audience(mut self, audience: Audience) -> Self {
        if !self.audiences.contains(&audience) {
            self.audiences.push(audience);
        }
        self
    }

    /// Allows credentials for the JWT-SVIDs of a workload in addition. A pattern that ends with `/*` also allows each ID and each
    /// pattern below it.
    pub fn workload(mut self, id: SpiffeId) -> Self {
        self.workloads.add_spiffe_id(id);
        self
    }

    /// Allows credentials for a workload of a platform in addition, with exactly this issuer and this subject. An
    /// administrator decides which claims such a credential requires.
    pub fn platform_workload(mut self, issuer: impl Into<String>, subject: impl Into<String>) -> Self {
        self.workloads.add_subject(issuer.into(), Subject::Exact(subject.into()));
        self
    }

    /// Allows credentials for the workloads of a platform whose subjects begin with this prefix in addition, such as
    /// `system:serviceaccount:team-a:`. The prefix ends at a `:` or `/` of the subject: `repo:team-a` allows
    /// `repo:team-a/app`, and not `repo:team-ab`. An empty prefix allows nothing.
    pub fn platform_subject_prefix(mut self, issuer: impl Into<String>, prefix: impl Into<String>) -> Self {
        self.workloads.add_subject(issuer.into(), Subject::Prefix(prefix.into()));
        self
    }

    /// Returns the scopes.
    #[must_use]
    pub fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// Returns the audiences.
    #[must_use]
    pub fn audiences(&self) -> &[Audience] {
        &self.audiences
    }

    /// Returns whether every scope, audience and workload is allowed.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.everything
    }

    /// Returns whether the scope is allowed.
    #[must_use]
    pub fn allows_scope(&self, scope: &str) -> bool {
        self.everything || self.scopes.contains(scope)
    }

    /// Returns whether the audience is allowed.
    #[must_use]
    pub fn allows_audience(&self, audience: &Audience) -> bool {
        self.everything || self.audiences.contains(audience)
    }

    /// Returns whether credentials for this SPIFFE ID are allowed, or for all that the pattern matches.
    #[must_use]
    pub fn allows_workload(&self, id: &SpiffeId) -> bool {
        self.everything || self.workloads.allow_spiffe_id(id)
    }

    /// Returns whether credentials for this workload of a platform are allowed.
    #[must_use]
    pub fn allows_platform_workload(&self, issuer: &str, subject: &str) -> bool {
        self.everything || self.workloads.allow_subject(issuer, subject)
    }

    /// Returns whether a credential of this kind is for a workload that is allowed, or for no workload.
    pub(crate) fn allows_credential(&self, kind: &CredentialKind) -> bool {
        self.everything || self.workloads.allow(kind)
    }

    /// Returns whether everything that `other` allows is allowed here, too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.everything
            || !other.everything
                && other.scopes.iter().all(|scope| self.scopes.contains(scope))
                && other.audiences.iter().all(|audience| self.audiences.contains(audience))
                && self.workloads.cover(&other.workloads)
    }
}

/// The members of [`MayGrant`] in a record, before they are checked.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MayGrantRecord {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    scope: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    audiences: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    spiffe_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    platform_workloads: Vec<Object<PlatformWorkloadRecord>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    everything: bool,
}

impl From<&MayGrant> for MayGrantRecord {
    fn from(may_grant: &MayGrant) -> Self {
        let (spiffe_ids, platform_workloads) = may_grant.workloads.to_record();
        Self {
            scope: may_grant.scopes.to_string(),
            audiences: may_grant.audiences.iter().map(ToString::to_string).collect(),
            spiffe_ids,
            platform_workloads,
            everything: may_grant.everything,
        }
    }
}

impl MayGrantRecord {
    /// Creates the value. An error begins with the rest of its path.
    pub(crate) fn checked(self) -> Result<MayGrant, String> {
        let mut checked = MayGrant { everything: self.everything, ..MayGrant::default() };
        checked.scopes = match self.scope.as_str() {
            "" => Scopes::NONE,
            scope => at(".scope", scope.parse())?,
        };
        for (number, audience) in self.audiences.iter().enumerate() {
            let parsed = audience
                .parse::<Audience>()
                .map_err(|error| format!("`{}` is {error}", OneLine(audience, LONGEST_URL)));
            checked = checked.audience(at(&format!(".audiences[{number}]"), parsed)?);
        }
        checked.workloads = GrantedWorkloads::checked(&self.spiffe_ids, self.platform_workloads)?;
        Ok(checked)
    }
}

#[cfg(test)]
mod tests {
    use super::{MayGrant, MayGrantRecord};
    use crate::audience::Audience;
    use crate::registration::SpiffeId;
    use crate::scope::Scope;

    const API: Audience = Audience::from_static("https://api.example");
    const OTHER: Audience = Audience::from_static("https://other.example");
    const READ: Scope = Scope::from_static("read");
    const WRITE: Scope = Scope::from_static("write");

    #[test]
    fn an_administrator_covers_another_only_if_it_allows_all_that_the_other_allows() {
        let (none, all) = (MayGrant::new(), MayGrant::everything());
        let read = MayGrant::new().scope(&READ).audience(API);
        let both = read.clone().scope(&WRITE).audience(OTHER);
        assert!(
            all.covers(&all) && all.covers(&both) && both.covers(&read) && read.covers(&none) && none.covers(&none)
        );
        assert!(!both.covers(&all) && !read.covers(&both) && !none.covers(&read));
        assert!(!read.covers(&MayGrant::new().audience(OTHER)) && !read.covers(&MayGrant::new().scope(&WRITE)));
        assert!(read.allows_scope("read") && !read.allows_scope("write") && all.allows_scope("write"));
        assert!(read.allows_audience(&API) && !read.allows_audience(&OTHER) && all.allows_audience(&OTHER));
        assert!(!read.allows_audience(&Audience::from_static("https://api.example/")));
    }

    fn id(text: &str) -> SpiffeId {
        text.parse().unwrap()
    }

    #[test]
    fn a_pattern_allows_itself_and_what_is_below_it_and_no_sibling() {
        let below = MayGrant::new().workload(id("spiffe://td/team-a/*"));
        for (text, is_allowed) in [
            ("spiffe://td/team-a/*", true),
            ("spiffe://td/team-a/b", true),
            ("spiffe://td/team-a/b/*", true),
            ("spiffe://td/team-a", false),
            ("spiffe://td/team-ab/*", false),
            ("spiffe://td/team-ab/b", false),
            ("spiffe://td/*", false),
            ("spiffe://td.other/team-a/b", false),
        ] {
            assert_eq!(below.allows_workload(&id(text)), is_allowed, "{text}");
            assert_eq!(below.covers(&MayGrant::new().workload(id(text))), is_allowed, "{text}");
        }
        let exact = MayGrant::new().workload(id("spiffe://td/a"));
        assert!(exact.allows_workload(&id("spiffe://td/a")) && !exact.allows_workload(&id("spiffe://td/a/*")));
        assert!(MayGrant::everything().allows_workload(&id("spiffe://td/*")));
        assert!(!exact.covers(&MayGrant::everything()) && MayGrant::everything().covers(&exact));
    }

    #[test]
    fn a_prefix_of_subjects_ends_at_a_separator_and_an_exact_subject_has_no_end() {
        let exact = |subject: &str| MayGrant::new().platform_workload("https://i", subject);
        let prefix = |prefix: &str| MayGrant::new().platform_subject_prefix("https://i", prefix);
        for (may_grant, subject, is_allowed) in [
            (exact("a:b"), "a:b", true),
            (exact("a:b"), "a:b:c", false),
            (exact("a:b"), "a:", false),
            (prefix("a:b:"), "a:b:c", true),
            (prefix("a:b"), "a:b:c", true),
            (prefix("a:b"), "a:b/c", true),
            (prefix("a:b"), "a:bc", false),
            (prefix("a:b"), "a:b", false),
            (prefix("a:b:"), "a:b:", false),
            (prefix("a:b:"), "a:b/c", false),
            (prefix(""), "a:b", false),
        ] {
            assert_eq!(may_grant.allows_platform_workload("https://i", subject), is_allowed, "{may_grant:?} {subject}");
            assert_eq!(may_grant.covers(&exact(subject)), is_allowed, "{may_grant:?} {subject}");
            assert!(!may_grant.allows_platform_workload("https://i/", subject));
        }
        assert!(prefix("a:").covers(&prefix("a:")) && prefix("a:").covers(&prefix("a:b")));
        assert!(!prefix("a:b").covers(&prefix("a:bc")) && !prefix("a:b").covers(&prefix("a:")));
        assert!(!exact("a:b").covers(&prefix("a:b")) && MayGrant::everything().covers(&prefix("a:")));
        assert!(!prefix("a:").covers(&MayGrant::new().platform_subject_prefix("https://j", "a:")));
    }

    #[test]
    fn a_record_of_it_is_read_again_and_its_mistakes_have_a_path() {
        let rights = MayGrant::new().scope(&READ).scope(&WRITE).audience(API);
        let workloads = rights.clone().workload(id("spiffe://td/a/*")).workload(id("spiffe://td/b"));
        let workloads = workloads.platform_workload("https://i", "a").platform_subject_prefix("https://i", "b:");
        // A list without workloads is written as before there were any.
        let written = serde_json::to_string(&MayGrantRecord::from(&rights)).unwrap();
        assert_eq!(written, r#"{"scope":"read write","audiences":["https://api.example"]}"#);
        for value in [MayGrant::new(), MayGrant::everything(), rights, workloads] {
            let json = serde_json::to_string(&MayGrantRecord::from(&value)).unwrap();
            assert_eq!(serde_json::from_str::<MayGrantRecord>(&json).unwrap().checked().unwrap(), value, "{json}");
        }
        let why = |json: &str| serde_json::from_str::<MayGrantRecord>(json).unwrap().checked().unwrap_err();
        assert!(why(r#"{"audiences":["https://a","api"]}"#).starts_with(".audiences[1]: `api` is"));
        assert!(why(r#"{"scope":"a  \"b"}"#).starts_with(".scope: "));
        assert!(why(r#"{"spiffe_ids":["spiffe://a/b*"]}"#).starts_with(".spiffe_ids[0]: `spiffe://a/b*`: invalid"));
        for workload in [r#"{"issuer":"i"}"#, r#"{"issuer":"i","subject":"a","subject_prefix":"b"}"#] {
            let why = why(&format!(r#"{{"platform_workloads":[{workload}]}}"#));
            assert!(why.starts_with(".platform_workloads[0]: "), "{why}");
        }
    }
}

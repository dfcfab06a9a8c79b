//! [`MayGrant`]: the scopes and audiences that an administrator may give to other clients.

use serde::{Deserialize, Serialize};

use super::error_path::at;
use crate::audience::Audience;
use crate::quoted::{LONGEST_URL, OneLine};
use crate::scope::{Scope, Scopes};

/// The scopes and audiences that a client may give to other clients, as an administrator of an
/// [administration API](crate::administration).
///
/// By default it is empty. It does not make a client an administrator: for that, the client needs the scopes of the
/// administration in addition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MayGrant {
    scopes: Scopes,
    audiences: Vec<Audience>,
    everything: bool,
}

impl MayGrant {
    /// Allows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Allows every scope and every audience, also those that do not exist yet. For the first administrator.
    #[must_use]
    pub fn everything() -> Self {
        Self { everything: true, ..Self::default() }
    }

    /// Allows a scope in addition.
    #[must_use]
    pub fn scope(mut self, scope: &Scope) -> Self {
        self.scopes = self.scopes.with(scope);
        self
    }

    /// Allows an audience in addition. It is compared code point by code point.
    #[must_use]
    pub fn audience(mut self, audience: Audience) -> Self {
        if !self.audiences.contains(&audience) {
            self.audiences.push(audience);
        }
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

    /// Returns whether every scope and every audience is allowed.
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

    /// Returns whether everything that `other` allows is allowed here, too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.everything
            || !other.everything
                && other.scopes.iter().all(|scope| self.scopes.contains(scope))
                && other.audiences.iter().all(|audience| self.audiences.contains(audience))
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
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    everything: bool,
}

impl From<&MayGrant> for MayGrantRecord {
    fn from(may_grant: &MayGrant) -> Self {
        Self {
            scope: may_grant.scopes.to_string(),
            audiences: may_grant.audiences.iter().map(ToString::to_string).collect(),
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
        Ok(checked)
    }
}

#[cfg(test)]
mod tests {
    use super::{MayGrant, MayGrantRecord};
    use crate::audience::Audience;
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

    #[test]
    fn a_record_of_it_is_read_again_and_its_mistakes_have_a_path() {
        for value in [MayGrant::new(), MayGrant::everything(), MayGrant::new().scope(&READ).scope(&WRITE).audience(API)]
        {
            let json = serde_json::to_string(&MayGrantRecord::from(&value)).unwrap();
            assert_eq!(serde_json::from_str::<MayGrantRecord>(&json).unwrap().checked().unwrap(), value, "{json}");
        }
        let why = |json: &str| serde_json::from_str::<MayGrantRecord>(json).unwrap().checked().unwrap_err();
        assert!(why(r#"{"audiences":["https://a","api"]}"#).starts_with(".audiences[1]: `api` is"));
        assert!(why(r#"{"scope":"a  \"b"}"#).starts_with(".scope: "));
    }
}

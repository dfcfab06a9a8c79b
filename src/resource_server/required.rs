//! The scopes that a route asks for.

use crate::scope::Scopes;

/// All of some, and at least one of each group of others.
#[derive(Clone, Debug, Default)]
pub(super) struct RequiredScopes {
    all: Scopes,
    any: Vec<Scopes>,
}

impl RequiredScopes {
    pub(super) fn and(mut self, scopes: &Scopes) -> Self {
        self.all = self.all.union(scopes);
        self
    }

    pub(super) fn and_any_of(mut self, group: Scopes) -> Self {
        self.any.push(group);
        self
    }

    pub(super) fn are_in(&self, granted: &Scopes) -> bool {
        granted.contains_all(&self.all)
            && self.any.iter().all(|group| group.iter().any(|scope| granted.contains(scope)))
    }

    /// Every scope that is named: what the challenge tells a client to ask for (RFC 6750 §3).
    pub(super) fn named(&self) -> Scopes {
        self.any.iter().fold(self.all.clone(), |named, group| named.union(group))
    }
}

#[cfg(test)]
mod tests {
    use super::RequiredScopes;
    use crate::scope::Scopes;

    fn scopes(text: &str) -> Scopes {
        text.parse().unwrap()
    }

    #[test]
    fn all_of_some_and_one_of_each_group_are_required() {
        let required = RequiredScopes::default().and(&scopes("a b")).and_any_of(scopes("c d")).and_any_of(scopes("e"));
        for (granted, enough) in [
            ("a b c e", true),
            ("e d b a x", true),
            ("a b e", false),
            ("a c e", false),
            ("a b c d", false),
            ("", false),
        ] {
            assert_eq!(required.are_in(&scopes(granted)), enough, "{granted}");
        }
        assert_eq!(required.named().as_str(), "a b c d e");
        assert!(RequiredScopes::default().are_in(&Scopes::NONE));
    }
}

//! [`RequiredScopes`]: the scopes that a route requires.

use http::Method;

use super::methods::Methods;
use crate::scope::Scopes;

/// Required scopes: all of one set, at least one of each group, and all of those for the request's method.
#[derive(Clone, Debug, Default)]
pub(super) struct RequiredScopes {
    all: Scopes,
    any: Vec<Scopes>,
    by_method: Vec<(Methods, Scopes)>,
}

impl RequiredScopes {
    pub(super) fn all_of(&mut self, scopes: &Scopes) {
        self.all = self.all.union(scopes);
    }

    pub(super) fn any_of(&mut self, group: Scopes) {
        self.any.push(group);
    }

    pub(super) fn all_for(&mut self, methods: Methods, scopes: Scopes) {
        self.by_method.push((methods, scopes));
    }

    pub(super) fn are_in(&self, granted: &Scopes, method: &Method) -> bool {
        granted.contains_all(&self.all)
            && self.any.iter().all(|group| group.iter().any(|scope| granted.contains(scope)))
            && self.for_method(method).all(|scopes| granted.contains_all(scopes))
    }

    /// Returns every scope that is named for this method. The challenge tells the client to request them (RFC 6750 §3).
    pub(super) fn named(&self, method: &Method) -> Scopes {
        self.any.iter().chain(self.for_method(method)).fold(self.all.clone(), |named, scopes| named.union(scopes))
    }

    /// Returns the scopes that every request must have. The challenge tells a client without a valid token to request them. The
    /// alternatives of a group are not among them, since the client may not be allowed all of them.
    pub(super) fn of_every_method(&self) -> &Scopes {
        &self.all
    }

    /// Returns the same for a method that requires more, or `None` if this method does not.
    pub(super) fn of_this_method(&self, method: &Method) -> Option<Scopes> {
        let mut more = self.for_method(method).peekable();
        more.peek()?;
        Some(more.fold(self.all.clone(), |named, scopes| named.union(scopes)))
    }

    fn for_method(&self, method: &Method) -> impl Iterator<Item = &Scopes> {
        self.by_method.iter().filter(|(methods, _)| methods.contain(method)).map(|(_, scopes)| scopes)
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::{Methods, RequiredScopes};
    use crate::scope::Scopes;

    fn scopes(text: &str) -> Scopes {
        text.parse().unwrap()
    }

    #[test]
    fn a_token_needs_all_required_scopes_and_one_of_each_group() {
        let mut required = RequiredScopes::default();
        required.all_of(&scopes("a b"));
        required.any_of(scopes("c d"));
        required.any_of(scopes("e"));
        for (granted, enough) in [
            ("a b c e", true),
            ("e d b a x", true),
            ("a b e", false),
            ("a c e", false),
            ("a b c d", false),
            ("", false),
        ] {
            assert_eq!(required.are_in(&scopes(granted), &Method::GET), enough, "{granted}");
        }
        assert_eq!(required.named(&Method::GET).as_str(), "a b c d e");
        assert_eq!(required.of_every_method().as_str(), "a b");
        assert!(RequiredScopes::default().are_in(&Scopes::NONE, &Method::GET));
    }

    #[test]
    fn a_method_requires_its_scopes_in_addition() {
        let mut required = RequiredScopes::default();
        required.all_of(&scopes("a"));
        required.all_for(Methods::UNSAFE, scopes("w"));
        required.all_for(Method::DELETE.into(), scopes("d"));
        for (method, granted, enough) in [
            (Method::GET, "a", true),
            (Method::POST, "a", false),
            (Method::POST, "a w", true),
            (Method::POST, "w", false),
            (Method::DELETE, "a w", false),
            (Method::DELETE, "a w d", true),
        ] {
            assert_eq!(required.are_in(&scopes(granted), &method), enough, "{method} {granted}");
        }
        assert_eq!(required.named(&Method::GET).as_str(), "a");
        assert_eq!(required.named(&Method::DELETE).as_str(), "a w d");
        assert_eq!(required.of_every_method().as_str(), "a");
        assert_eq!(required.of_this_method(&Method::GET), None);
        assert_eq!(required.of_this_method(&Method::DELETE).unwrap().as_str(), "a w d");
    }
}

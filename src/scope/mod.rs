//! [`Scope`], a single permission, and [`Scopes`], a set of them (RFC 6749 §3.3).

mod index;

use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use self::index::Index;

use crate::text::{Text, vocabulary};

/// A single permission: a `scope-token` of RFC 6749 §3.3, such as `invoices:read`.
///
/// It consists of visible ASCII characters other than `"` and `\`, and is case-sensitive.
///
/// ```
/// use tower_client_credentials::Scope;
///
/// const READ: Scope = Scope::from_static("invoices:read");
/// assert_eq!(READ, "invoices:read");
/// ```
///
/// ```compile_fail
/// # use tower_client_credentials::Scope;
/// const READ: Scope = Scope::from_static("invoices read"); // a space: does not compile
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope(Text);

vocabulary!(Scope, InvalidScope, check, "a scope (RFC 6749 §3.3)");

const fn check(text: &str) -> Result<(), &'static str> {
    let mut rest = text.as_bytes();
    if rest.is_empty() {
        return Err("it is empty");
    }
    while let [byte, tail @ ..] = rest {
        // For one short scope, this lookup is faster than the comparisons of `is_scope_character_or_space`.
        if !matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e) {
            return Err(if *byte == b' ' {
                "it has a space; give each scope on its own"
            } else {
                "only visible ASCII characters other than \" and \\ are allowed"
            });
        }
        rest = tail;
    }
    Ok(())
}

/// Returns whether a `scope` parameter may have the byte (RFC 6749 §3.3). Optimised for long texts.
#[allow(clippy::needless_bitwise_bool)] // lazy ones are branches: one byte after the other
const fn is_scope_character_or_space(byte: u8) -> bool {
    (byte >= b' ') & (byte < 0x7f) & (byte != b'"') & (byte != b'\\')
}

/// A set of scopes, in the order in which they were first named. Its text is the `scope` parameter.
///
/// Parsing is lenient where RFC 6749 §3.3 is unambiguous: extra spaces and repeated scopes are dropped. Clones share the text.
///
/// ```
/// use tower_client_credentials::Scopes;
///
/// let scopes: Scopes = "read  write read ".parse()?;
/// assert_eq!(scopes.as_str(), "read write");
/// assert!(scopes.contains("write"));
/// # Ok::<(), tower_client_credentials::scope::InvalidScope>(())
/// ```
#[derive(Clone)]
pub struct Scopes(Kind);

#[derive(Clone)]
enum Kind {
    /// Up to [`SHORT`] bytes: searching the text is faster than hashing a scope.
    Short(Text),
    Long(Arc<Long>),
}

/// A text of many scopes, and their positions. Clones share the index, so it is built once.
struct Long {
    text: Text,
    index: OnceLock<Option<Index>>,
}

const SHORT: usize = 128;

impl Long {
    fn contains(&self, scope: &str) -> bool {
        match self.index.get_or_init(|| Index::new(&self.text)) {
            Some(index) => index.contains(&self.text, scope),
            None => self.text.split(' ').any(|own| own == scope),
        }
    }
}

impl Scopes {
    /// The empty set.
    pub const NONE: Self = Self(Kind::Short(Text::Literal("")));

    /// Checks the syntax without building a set. Returns whether there is any scope.
    #[allow(clippy::needless_bitwise_bool)] // lazy ones are branches: one byte after the other
    pub(crate) fn check(text: &str) -> Result<bool, InvalidScope> {
        // Checks all of the text without an early exit, so that the compiler can vectorise the loop.
        let is_well_formed = text.bytes().fold(true, |good, byte| good & is_scope_character_or_space(byte));
        if !is_well_formed {
            text.split(' ').filter(|scope| !scope.is_empty()).try_for_each(check).map_err(InvalidScope)?;
        }
        Ok(text.bytes().any(|byte| byte != b' '))
    }

    fn new(text: Text) -> Self {
        let is_short = text.len() <= SHORT;
        Self(if is_short { Kind::Short(text) } else { Kind::Long(Arc::new(Long { text, index: OnceLock::new() })) })
    }

    /// Returns the scopes, separated by single spaces.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Kind::Short(text) => text,
            Kind::Long(long) => &long.text,
        }
    }

    /// Returns the approximate heap memory in bytes: the text, and for a long one also the index, which the first search
    /// builds.
    pub(crate) fn size(&self) -> usize {
        match &self.0 {
            Kind::Short(text) => text.len(),
            Kind::Long(long) => long.text.len() + size_of::<Long>() + Index::size_for(&long.text),
        }
    }

    /// Returns whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.as_str().is_empty()
    }

    /// Returns an iterator over the scopes, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> + Clone {
        // The text has no other white space, and for short texts this is faster than searching for a space.
        self.as_str().split_ascii_whitespace()
    }

    /// Returns whether the set contains this scope.
    #[must_use]
    pub fn contains(&self, scope: &str) -> bool {
        match &self.0 {
            Kind::Short(_) => self.iter().any(|own| own == scope),
            Kind::Long(long) => long.contains(scope),
        }
    }

    /// Returns whether the set contains all of `others`.
    #[must_use]
    pub fn contains_all(&self, others: &Self) -> bool {
        self == others || self.first_missing(others).is_none()
    }

    /// Returns the first of `others` that the set lacks.
    pub(crate) fn first_missing<'a>(&self, others: &'a Self) -> Option<&'a str> {
        others.iter().find(|scope| !self.contains(scope))
    }

    /// Returns the set with one more scope.
    #[must_use]
    pub fn with(&self, scope: &Scope) -> Self {
        self.union(&scope.clone().into())
    }

    /// Returns the set without one scope.
    #[must_use]
    pub fn without(&self, scope: &Scope) -> Self {
        join(self.iter().filter(|own| *own != scope.as_str()))
    }

    /// Returns the union of both sets.
    #[must_use]
    pub fn union(&self, others: &Self) -> Self {
        if self.is_empty() {
            return others.clone();
        }
        join(self.iter().chain(others.iter().filter(|scope| !self.contains(scope))))
    }

    /// Returns the scopes that are in both sets.
    #[must_use]
    pub fn intersection(&self, others: &Self) -> Self {
        join(self.iter().filter(|scope| others.contains(scope)))
    }
}

// Equality and hashing are those of the text.
impl PartialEq for Scopes {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Kind::Short(one), Kind::Short(other)) => one == other,
            (Kind::Long(one), Kind::Long(other)) if Arc::ptr_eq(one, other) => true,
            _ => self.as_str() == other.as_str(),
        }
    }
}

impl Eq for Scopes {}

impl Hash for Scopes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

/// Joins valid, distinct scopes.
fn join<'a>(scopes: impl Iterator<Item = &'a str>) -> Scopes {
    let mut text = String::new();
    for scope in scopes {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(scope);
    }
    Scopes::new(text.into())
}

/// The number of scopes that most requests have at most. These are compared without a set.
const FEW: usize = 8;

impl FromStr for Scopes {
    type Err = InvalidScope;

    fn from_str(text: &str) -> Result<Self, InvalidScope> {
        let named = || text.split(' ').filter(|scope| !scope.is_empty());
        let (mut first, mut is_tidy) = ([""; FEW], true);
        for (place, scope) in text.split(' ').enumerate() {
            let is_new = !scope.is_empty() && !first.iter().take(place).any(|earlier| *earlier == scope);
            match first.get_mut(place) {
                Some(first) if is_new => *first = scope,
                _ => is_tidy = false,
            }
            if !scope.is_empty() {
                check(scope).map_err(InvalidScope)?;
            }
        }
        // The text is already in the normal form.
        if is_tidy {
            return Ok(Self::new(text.into()));
        }
        // A hash set, since a caller chooses the number of scopes.
        let mut seen = HashSet::new();
        Ok(join(named().filter(|scope| seen.insert(*scope))))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        let scopes: Vec<Scope> = scopes.into_iter().collect();
        // A set of one scope shares its text, so that a million clients with the same scope need no copies.
        if let [only] = &*scopes {
            return only.clone().into();
        }
        let mut seen = HashSet::new();
        join(scopes.iter().map(Scope::as_str).filter(|scope| seen.insert(*scope)))
    }
}

impl From<Scope> for Scopes {
    fn from(scope: Scope) -> Self {
        Self::new(scope.0)
    }
}

impl<const N: usize> From<[Scope; N]> for Scopes {
    fn from(scopes: [Scope; N]) -> Self {
        scopes.into_iter().collect()
    }
}

impl Default for Scopes {
    fn default() -> Self {
        Self::NONE
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Scope, Scopes};

    #[test]
    fn extra_spaces_and_repetitions_are_dropped() {
        let scopes: Scopes = "basic  test 0    test".parse().unwrap();
        assert_eq!(scopes.iter().collect::<Vec<_>>(), ["basic", "test", "0"]);
        assert_eq!(scopes.as_str(), "basic test 0");
        for untidy in [" a", "a ", "a  b", "a b a", "1 2 3 4 5 6 7 8 9 1", "a a"] {
            let scopes: Scopes = untidy.parse().unwrap();
            let mut named = scopes.iter().collect::<Vec<_>>();
            assert_eq!(scopes.as_str(), named.join(" "), "{untidy:?}");
            named.sort_unstable();
            assert!(named.is_sorted_by(|one, next| one < next), "{untidy:?}");
        }
    }

    #[test]
    fn the_empty_set_is_the_empty_text() {
        let scopes: Scopes = "  ".parse().unwrap();
        assert!(scopes.is_empty());
        assert_eq!(scopes, Scopes::NONE);
        assert_eq!(scopes.iter().count(), 0);
    }

    #[test]
    fn characters_outside_the_grammar_are_refused() {
        for text in ["a\"b", "a\\b", "a\tb", "é", "a\u{7f}"] {
            assert!(text.parse::<Scopes>().is_err(), "{text:?}");
            assert!(text.parse::<Scope>().is_err(), "{text:?}");
        }
        assert!("".parse::<Scope>().is_err());
    }

    #[test]
    fn both_checks_accept_the_same_characters() {
        for byte in 0..=u8::MAX {
            let text = [byte];
            let is_scope = std::str::from_utf8(&text).is_ok_and(|text| super::check(text).is_ok());
            assert_eq!(super::is_scope_character_or_space(byte), is_scope || byte == b' ', "{byte}");
        }
    }

    #[test]
    fn checking_and_parsing_accept_the_same_texts() {
        for text in ["", "  ", "a", " a  b a ", "a\"b", "é", "a\tb"] {
            assert_eq!(
                Scopes::check(text).ok(),
                text.parse::<Scopes>().ok().map(|scopes| !scopes.is_empty()),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_scope_is_added_once_and_kept_in_order() {
        let read = Scope::from_static("read");
        let scopes = Scopes::NONE.with(&read).with(&Scope::from_static("write")).with(&read);
        assert_eq!(scopes.as_str(), "read write");
        assert_eq!(scopes.intersection(&"write other".parse().unwrap()).as_str(), "write");
    }

    /// Returns `count` scopes with consecutive numbers in their names, starting with `from`.
    fn numbered(from: usize, count: usize) -> Scopes {
        (from..from + count).map(|number| format!("scope-{number}").parse::<Scope>().unwrap()).collect()
    }

    #[test]
    fn long_sets_are_compared_like_short_ones() {
        let (long, shifted) = (numbered(0, 200), numbered(100, 200));
        assert_eq!(long.intersection(&shifted), numbered(100, 100));
        assert_eq!(shifted.intersection(&long), numbered(100, 100));
        assert_eq!(long.union(&shifted), numbered(0, 300));
        assert!(numbered(0, 300).contains_all(&shifted) && !long.contains_all(&shifted));
        assert_eq!(long.first_missing(&shifted), Some("scope-200"));
        assert_eq!(long.first_missing(&numbered(20, 100)), None);
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in ".*") {
            let _ = text.parse::<Scopes>();
        }

        #[test]
        fn a_printed_set_is_parsed_back(text in "[!#-\\[\\]-~ ]*") {
            let scopes: Scopes = text.parse().unwrap();
            prop_assert_eq!(scopes.as_str().parse::<Scopes>().unwrap(), scopes);
        }
    }
}

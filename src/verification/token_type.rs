//! The type of a token, in `typ` of its header.

/// Returns whether `typ` is `at+jwt` or `application/at+jwt` (RFC 9068 §4). Media types are case-insensitive.
pub(super) fn is_access_token(typ: &str) -> bool {
    typ.eq_ignore_ascii_case("at+jwt") || typ.eq_ignore_ascii_case("application/at+jwt")
}

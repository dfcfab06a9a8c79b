//! The paths in the errors of records.

use std::fmt;

/// Prefixes an error with the path of its member.
pub(super) fn at<T, E: fmt::Display>(path: &str, result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| format!("{path}: {error}"))
}

//! The paths in the errors of records.

use std::fmt;

use serde_path_to_error::{Path, Segment};

/// Prefixes an error with the path of its member.
pub(crate) fn at<T, E: fmt::Display>(path: &str, result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| format!("{path}: {error}"))
}

/// Returns the path of a member in its record, or `None` for the record itself.
pub(crate) fn member(path: &Path) -> Option<String> {
    let mut text = String::new();
    for segment in path {
        match segment {
            // A member that `toml` uses internally for a value with its position.
            Segment::Map { key } if key.starts_with("$__") => {}
            Segment::Map { key } if text.is_empty() => text.push_str(key),
            Segment::Map { key } => text.extend([".", key]),
            Segment::Seq { index } => text.extend(["[", &index.to_string(), "]"]),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    Some(text).filter(|text| !text.is_empty())
}

/// Removes the value that serde quotes, since it may be a secret.
pub(crate) fn without_value(message: &str) -> String {
    let message = message.trim_end();
    let has_value = ["invalid ", "unknown variant "].iter().any(|start| message.starts_with(start));
    let end = match message.rfind(", expected ") {
        Some(expected) => expected.checked_sub(1),
        None => message.rfind('"'),
    };
    match (message.find(['"', '`']), end) {
        (Some(start), Some(end)) if has_value && start < end => {
            let (before, after) = (message.get(..=start), message.get(end..));
            format!("{}…{}", before.unwrap_or_default(), after.unwrap_or_default())
        }
        _ => message.to_owned(),
    }
}

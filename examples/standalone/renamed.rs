//! Settings with former names. They are accepted with a warning that gives the new name.
//!
//! Clients use the names of RFC 7591 and of store records, and scopes are always one string, separated by spaces (RFC 6749
//! §3.3).

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// How the value of a setting changed with its name.
#[derive(Clone, Copy)]
enum Value {
    Same,
    /// `["a", "b"]` is now `"a b"`.
    Joined,
    /// `true` is now `false`.
    Negated,
}

/// The table, the former name, the current name, and the change of the value.
const RENAMED: [(&str, &str, &str, Value); 14] = [
    ("tokens", "scopes", "scope", Value::Joined),
    ("tokens", "default_scopes", "default_scope", Value::Joined),
    ("resources", "scopes", "scope", Value::Joined),
    ("clients", "id", "client_id", Value::Same),
    ("clients", "secret_hash", "client_secret_hash", Value::Same),
    ("clients", "secret_env", "client_secret_env", Value::Same),
    ("clients", "secret_file", "client_secret_file", Value::Same),
    ("clients", "dangerous_plain_secret", "dangerous_plain_client_secret", Value::Same),
    ("clients", "method", "token_endpoint_auth_method", Value::Same),
    ("clients", "scopes", "scope", Value::Joined),
    ("clients", "default_scopes", "default_scope", Value::Joined),
    ("clients", "token_lifetime_seconds", "token_lifetime", Value::Same),
    ("clients", "without_grant", "grant", Value::Negated),
    ("clients", "disabled", "enabled", Value::Negated),
];

/// The former names of settings in the environment, without the prefix.
const RENAMED_VARIABLES: [(&str, &str); 2] =
    [("TOKENS_SCOPES", "TOKENS_SCOPE"), ("TOKENS_DEFAULT_SCOPES", "TOKENS_DEFAULT_SCOPE")];

/// Returns the current name of a variable with a former name, without the prefix.
pub(crate) fn variable(setting: &str) -> Option<&'static str> {
    RENAMED_VARIABLES.iter().find(|(former, _)| *former == setting).map(|(_, name)| *name)
}

/// A place in the file, and the message about it.
pub(crate) type Remark = (Range<usize>, String);

/// Renames all settings to their current names. Returns a warning for the first use of each former name.
///
/// # Errors
///
/// If a setting is present under both names.
pub(crate) fn rename(document: &mut DeTable<'_>) -> Result<Vec<Remark>, Remark> {
    let mut warnings = Vec::new();
    for (table, former, name, value) in RENAMED {
        let Some(found) = document.get_mut(table) else { continue };
        let mut first = None;
        match found.get_mut() {
            DeValue::Table(table) => first = rename_one(table, former, name, value)?,
            DeValue::Array(tables) => {
                for table in tables.iter_mut() {
                    if let DeValue::Table(table) = table.get_mut() {
                        let renamed = rename_one(table, former, name, value)?;
                        first = first.or(renamed);
                    }
                }
            }
            _ => {}
        }
        let how = match value {
            Value::Same => "",
            Value::Joined => ", and it is one string: \"a b\" instead of [\"a\", \"b\"]",
            Value::Negated => ", and its meaning is inverted: `false` instead of `true`",
        };
        let warning = format!("`{former}` in `{table}` is now called `{name}`{how}; the former name is still accepted");
        warnings.extend(first.map(|place| (place, warning)));
    }
    Ok(warnings)
}

/// Renames a setting in one table, and returns the place of the former name.
fn rename_one(
    table: &mut DeTable<'_>,
    former: &str,
    name: &'static str,
    value: Value,
) -> Result<Option<Range<usize>>, Remark> {
    let Some((key, found)) = table.remove_entry(former) else { return Ok(None) };
    if table.contains_key(name) {
        let both = format!("`{former}` is the former name of `{name}`, and both are set; keep `{name}`");
        return Err((key.span(), both));
    }
    let place = found.span();
    let found = match (value, found.into_inner()) {
        (Value::Joined, DeValue::Array(items)) => match joined(&items) {
            Some(text) => DeValue::String(text.into()),
            None => DeValue::Array(items),
        },
        (Value::Negated, DeValue::Boolean(value)) => DeValue::Boolean(!value),
        (_, other) => other,
    };
    table.insert(Spanned::new(key.span(), Cow::Borrowed(name)), Spanned::new(place, found));
    Ok(Some(key.span()))
}

/// Joins scopes into one string. Returns `None` if that would change their meaning.
fn joined(items: &[Spanned<DeValue<'_>>]) -> Option<String> {
    let item = |item: &Spanned<DeValue<'_>>| match item.get_ref() {
        DeValue::String(text) if !text.is_empty() && !text.contains(' ') => Some(text.to_string()),
        _ => None,
    };
    Some(items.iter().map(item).collect::<Option<Vec<_>>>()?.join(" "))
}

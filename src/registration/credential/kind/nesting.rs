//! How deep the JSON values in a credential are nested.

use serde_json::Value;

/// The maximum number of nested arrays and objects in the `jwks` or `claims` of a credential. In the record of a client they are
/// deeper than in a request, and a parser that refuses deep JSON could not read the record again.
pub(crate) const MAX_NESTING: usize = 16;

/// More are not counted, so that a value of any depth needs little stack.
const MAX_COUNTED: usize = 128;

/// Returns the number of nested arrays and objects in an object with these values, at most 128.
pub(super) fn nesting<'a>(values: impl Iterator<Item = &'a Value>) -> usize {
    deepest(values, MAX_COUNTED)
}

fn deepest<'a>(values: impl Iterator<Item = &'a Value>, most: usize) -> usize {
    let Some(most) = most.checked_sub(1) else { return 0 };
    let inner = values.map(|value| match value {
        Value::Array(list) => deepest(list.iter(), most),
        Value::Object(object) => deepest(object.values(), most),
        _ => 0,
    });
    1 + inner.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::nesting;

    #[test]
    fn arrays_and_objects_are_counted_where_they_are_deepest_and_up_to_128() {
        let of = |value: &Value| nesting([&json!([]), value, &Value::Null].into_iter());
        for (value, levels) in [
            (json!("a"), 2),
            (json!({}), 2),
            (json!([{"a": 1, "b": [[]]}, [2]]), 5),
            ((0..126).fold(json!(1), |inner, _| json!([inner])), 127),
            ((0..1_000).fold(json!(1), |inner, _| json!([inner])), 128),
        ] {
            assert_eq!(of(&value), levels, "{value}");
        }
        assert_eq!(nesting(std::iter::empty()), 1);
    }
}

//! Shared data structures: a bounded map, and values that are striped to avoid lock contention.

mod bounded_map;
mod striped;

pub(crate) use self::bounded_map::BoundedMap;
pub(crate) use self::striped::Striped;

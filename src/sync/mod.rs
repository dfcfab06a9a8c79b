//! Structures that several modules share: a bounded map, and values that threads seldom meet at.

mod bounded_map;
mod striped;

pub(crate) use self::bounded_map::BoundedMap;
pub(crate) use self::striped::Striped;

//! Shared data structures: a bounded map, work whose result is shared, and values that are striped to avoid lock contention.

mod abort_on_drop;
mod bounded_map;
mod dyn_future;
mod in_flight;
mod locks;
mod single_flight;
mod striped;
mod through_arc;

pub(crate) use self::abort_on_drop::AbortOnDrop;
pub(crate) use self::bounded_map::BoundedMap;
pub use self::dyn_future::DynFuture;
pub(crate) use self::in_flight::{Finish, InFlight};
pub(crate) use self::locks::{lock, read, write};
pub(crate) use self::single_flight::{Flight, SingleFlight};
pub(crate) use self::striped::Striped;
pub(crate) use self::through_arc::through_arc;

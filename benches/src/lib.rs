//! The subjects of the benchmarks: the token endpoint and the protected route of the crate, and the bare work that is
//! unavoidable.

pub mod assertions;
pub mod attached;
pub mod bare;
pub mod caller;
#[cfg(feature = "calling-peers")]
pub mod calling_peers;
pub mod forms;
pub mod lean;
pub mod measure;
#[cfg(feature = "peers")]
pub mod peers;
pub mod slots;
pub mod subject;

//! The client role.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]
#![allow(unreachable_pub, clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod destinations;
mod discovery;
mod hostile;
mod issuers;
mod layer;
mod metadata_outage;
mod model;
mod refusals;
mod scopes;
mod sequences;
mod slow_discovery;
mod sockets;
mod telemetry;
mod world;

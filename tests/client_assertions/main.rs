//! Client authentication by signed assertions (RFC 7523, RFC 10070), with assertions that other libraries sign.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../common/mod.rs"]
mod common;

mod accepted;
mod endpoints;
#[cfg(feature = "remote")]
mod key_urls;
mod legacy_uses;
mod refused;
mod secrets;
mod workloads;
mod world;

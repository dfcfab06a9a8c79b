//! The hooks of an application: the bodies of refusals, and API keys in addition to tokens during a migration.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests, which may

#[path = "../common/mod.rs"]
mod common;

mod api_keys;
mod refusal_body;

//! The hooks of an application: the bodies of refusals, and API keys beside tokens during a migration.

#[path = "../common/mod.rs"]
mod common;

mod api_keys;
mod refusal_body;

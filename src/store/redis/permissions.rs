//! Checks when connecting that the server and the user can be used.

use super::link::{CLUSTER, Link};
use super::scripts::{Keys, PERMISSIONS};
use crate::store::StoreError;

/// Refuses a node of a cluster, if the server reports that it is one.
pub(super) async fn refuse_cluster(link: &Link) -> Result<(), StoreError> {
    let mut command = redis::cmd("INFO");
    command.arg("cluster");
    let told = link.command::<String>(&command).await.unwrap_or_default();
    if told.lines().any(|line| line == "cluster_enabled:1") { Err(StoreError::new(CLUSTER)) } else { Ok(()) }
}

/// Refuses a user without read access, and warns about one without write access. Redis 6 does not report permissions.
pub(super) async fn check(link: &Link, keys: &Keys) -> Result<(), StoreError> {
    let [reading, writing, waking] = link.script::<[Vec<String>; 3]>(&keys.call(&PERMISSIONS)?).await?;
    if !reading.is_empty() {
        let commands = reading.join(", ");
        return Err(StoreError::new(format!("the Redis user may not read: its ACL must allow {commands}")));
    }
    if !writing.is_empty() {
        tracing::warn!(
            missing = writing.join(", "),
            "the Redis user cannot change clients or revoke tokens: each attempt fails without writing anything; allow it the \
             missing commands, or use it only in processes that verify tokens"
        );
    }
    if !waking.is_empty() {
        tracing::warn!(
            missing = waking.join(", "),
            "the Redis user cannot publish: other processes see each change only with their next poll"
        );
    }
    Ok(())
}

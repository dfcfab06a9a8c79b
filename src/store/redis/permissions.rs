//! What keeps a server from being used at all, asked when connecting.

use super::link::{CLUSTER, Link};
use super::scripts::{Keys, Scripts};
use crate::store::StoreError;

/// Refuses a node of a cluster, where the server tells that it is one.
pub(super) async fn refuse_cluster(link: &Link) -> Result<(), StoreError> {
    let mut command = redis::cmd("INFO");
    command.arg("cluster");
    let told = link.command::<String>(&command).await.unwrap_or_default();
    if told.lines().any(|line| line == "cluster_enabled:1") { Err(StoreError::new(CLUSTER)) } else { Ok(()) }
}

/// Refuses a user that may not read, and warns of one that may not write. Redis 6 does not tell.
pub(super) async fn check(link: &Link, scripts: &Scripts, keys: &Keys) -> Result<(), StoreError> {
    let mut call = scripts.permissions.prepare_invoke();
    keys.give(&mut call)?;
    let [reading, writing, waking] = link.script::<[Vec<String>; 3]>(&call).await?;
    if !reading.is_empty() {
        let commands = reading.join(", ");
        return Err(StoreError::new(format!(
            "the ACL of this user must allow {commands}; without it nothing can be read"
        )));
    }
    if !writing.is_empty() {
        tracing::warn!(
            missing = writing.join(", "),
            "this user of Redis cannot change clients or revoke tokens; each attempt fails, and writes nothing; allow it the \
             commands, or use it only where tokens are verified"
        );
    }
    if !waking.is_empty() {
        tracing::warn!(
            missing = waking.join(", "),
            "this user of Redis cannot wake other processes, which hear of each change with their next poll"
        );
    }
    Ok(())
}

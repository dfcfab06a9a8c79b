//! The index of clients by their workloads.

use std::sync::atomic::Ordering;

use super::Shared;
use super::clients::{NO_CLIENTS, record};
use crate::client_id::ClientId;
use crate::registration::{RegisteredClient, WorkloadKey};
use crate::store::StoreError;

/// How many clients are searched by each script. Other calls wait only milliseconds for it.
const SEARCHED_AT_ONCE: u64 = 1_000;

/// Returns the workloads of a client, with spaces between them.
pub(super) fn of(client: &RegisteredClient) -> String {
    client.workload_keys().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

pub(super) async fn find(shared: &Shared, keys: &[WorkloadKey]) -> Result<Vec<ClientId>, StoreError> {
    let mut call = shared.scripts.find_by_workload.prepare_invoke();
    shared.keys.give(&mut call)?;
    for key in keys {
        call.arg(key.to_string());
    }
    let mut found = shared.link.script::<Vec<String>>(&call).await?.into_iter();
    if found.next().as_deref() == Some("1") {
        shared.had_clients.store(true, Ordering::Relaxed);
    } else if shared.had_clients.load(Ordering::Relaxed) {
        return Err(StoreError::new(NO_CLIENTS));
    }
    found.map(|id| id.parse().map_err(StoreError::new)).collect()
}

/// Makes the index of a database that has none. Changes of this version at the same time keep it up to date.
pub(super) async fn prepare(shared: &Shared) -> Result<(), StoreError> {
    let mut start = "-".to_owned();
    loop {
        let mut call = shared.scripts.unindexed.prepare_invoke();
        shared.keys.give(&mut call)?;
        call.arg(&start).arg(SEARCHED_AT_ONCE);
        let mut answer = shared.link.script::<Vec<String>>(&call).await?.into_iter();
        let (state, last) = (answer.next().unwrap_or_default(), answer.next().unwrap_or_default());
        if state != "more" {
            return Ok(());
        }
        let mut call = shared.scripts.index.prepare_invoke();
        shared.keys.give(&mut call)?;
        call.arg(u8::from(last.is_empty()));
        // No request can use a record that this version does not understand.
        for (client, revision) in answer.filter_map(|text| record(&text).ok()) {
            call.arg(client.id().as_str()).arg(revision.to_string()).arg(of(&client));
        }
        shared.link.script::<u8>(&call).await?;
        start = format!("({last}");
    }
}

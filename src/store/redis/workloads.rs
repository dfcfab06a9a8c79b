//! The index of clients by their workloads.

use super::clients::record;
use super::scripts::{FIND_BY_WORKLOAD, INDEX, UNINDEXED};
use super::{RedisStore, Shared};
use crate::registration::RegisteredClient;
use crate::store::StoreError;

/// How many clients are searched by each script. Other calls wait only milliseconds for it.
const SEARCHED_AT_ONCE: u64 = 1_000;

/// Returns the workloads of a client, with spaces between them.
pub(super) fn of(client: &RegisteredClient) -> String {
    client.workload_keys().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

impl RedisStore {
    pub(super) async fn ids_of_workloads(&self, keys: Vec<String>) -> Result<Vec<String>, StoreError> {
        let mut call = self.shared.keys.call(&FIND_BY_WORKLOAD)?;
        call.arg(keys);
        let mut found = self.shared.link.script::<Vec<String>>(&call).await?.into_iter();
        self.shared.note_clients(found.next().as_deref() == Some("1"))?;
        Ok(found.collect())
    }
}

/// Makes the index of a database that has none. Changes of this version at the same time keep it up to date.
pub(super) async fn prepare(shared: &Shared) -> Result<(), StoreError> {
    let mut start = "-".to_owned();
    loop {
        let mut call = shared.keys.call(&UNINDEXED)?;
        call.arg(&start).arg(SEARCHED_AT_ONCE);
        let mut answer = shared.link.script::<Vec<String>>(&call).await?.into_iter();
        let (state, last) = (answer.next().unwrap_or_default(), answer.next().unwrap_or_default());
        if state != "more" {
            return Ok(());
        }
        let mut call = shared.keys.call(&INDEX)?;
        call.arg(u8::from(last.is_empty()));
        // No request can use a record that this version does not understand.
        for (client, revision) in answer.filter_map(|text| record(&text).ok()) {
            call.arg(client.id().as_str()).arg(revision.to_string()).arg(of(&client));
        }
        shared.link.script::<u8>(&call).await?;
        start = format!("({last}");
    }
}

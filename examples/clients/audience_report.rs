//! `clients audience-report`: the clients that would break without their allowance for older assertions.

use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use tower_client_credentials::clock::Rfc3339;
use tower_client_credentials::registration::RegisteredClient;
use tower_client_credentials::store::ClientAdmin as _;

use crate::store::Store;
use crate::{Failure, print};

pub(crate) async fn run(store: &Store, json: bool) -> Result<(), Failure> {
    let mut after = None;
    loop {
        let clients = store.list(after.as_ref(), const { NonZeroUsize::new(1_000).unwrap() }).await?;
        let Some(last) = clients.last() else { return Ok(()) };
        after = Some(last.id().clone());
        for client in clients.iter().filter(|client| client.legacy_assertions().is_some()) {
            show(client, json)?;
        }
    }
}

fn show(client: &RegisteredClient, json: bool) -> Result<(), Failure> {
    let seconds = |time: Option<SystemTime>| {
        time.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map(|since| since.as_secs())
    };
    let (id, last, until) = (client.id(), seconds(client.legacy_audience_used()), seconds(client.legacy_assertions()));
    if json {
        return print(json!({ "client_id": id, "last_use": last, "allowed_until": until }));
    }
    let (last, until) = (client.legacy_audience_used(), client.legacy_assertions().unwrap_or(UNIX_EPOCH));
    let last = last.map_or_else(|| "never used".to_owned(), |at| format!("last used at {}", Rfc3339(at)));
    Ok(writeln!(io::stdout(), "{id}\t{last}\tallowed until {}", Rfc3339(until))?)
}

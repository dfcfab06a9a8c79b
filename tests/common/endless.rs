//! A store whose tokens may live indefinitely.

use std::time::{Duration, SystemTime};

use tower_client_credentials::store::{Change, ClientAdmin, Cursor, Revocation, RevocationStore};
use tower_client_credentials::{ClientId, Revocations};

use super::client;

/// Checks every kind of revocation whose end is computed from the longest lifetime of a token: none panics, and each is
/// reported.
pub async fn revokes_and_disables(store: impl ClientAdmin + RevocationStore + Clone) {
    const BILLING: ClientId = ClientId::from_static("billing");
    assert_eq!(store.longest_token_lifetime(), Duration::MAX);
    store.create(client("billing").register().unwrap()).await.unwrap();
    let revocations = Revocations::follow(store.clone()).await.unwrap();
    revocations.revoke_token(&BILLING, "one").await.unwrap();
    revocations.revoke_client(&BILLING).await.unwrap();
    revocations.revoke_key("a key").await.unwrap();
    let (_, revision) = store.load(&BILLING).await.unwrap().unwrap();
    store.replace(client("billing").disabled().register().unwrap(), revision).await.unwrap();
    // 5 minutes after the longest lifetime, and never after the year 9999.
    let ends: Vec<u64> = store
        .changes(&Cursor::start())
        .await
        .unwrap()
        .changes
        .iter()
        .filter_map(|change| match change {
            Change::Revoked(revocation) => Some(Revocation::expires_at(revocation)),
            _ => None,
        })
        .collect();
    assert!(ends.len() >= 4 && ends.iter().all(|end| *end == 253_402_300_799), "{ends:?}");
    assert_eq!(store.purge(SystemTime::now()).await.unwrap(), 0);
}

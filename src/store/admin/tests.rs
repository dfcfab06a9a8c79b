use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{AdminError, ClientAdmin as _, SecretRotation};
use crate::client_id::ClientId;
use crate::clock::UnixTime;
use crate::registration::{Client, ClientError, RegisteredClient};
use crate::scope::Scope;
use crate::secret::{ClientSecret, Presented};
use crate::store::{ClientStore as _, MemoryStore};

static BILLING: ClientId = ClientId::from_static("billing");
const READ: Scope = Scope::from_static("read");
const WRITE: Scope = Scope::from_static("write");

async fn store(client: Client) -> MemoryStore {
    let store = MemoryStore::default();
    store.create(client.register().unwrap()).await.unwrap();
    store
}

fn billing() -> Client {
    Client::new("billing", ClientSecret::generate().unwrap()).scopes([READ, WRITE])
}

async fn found(store: &MemoryStore) -> RegisteredClient {
    (*store.find(&BILLING).await.unwrap().unwrap()).clone()
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Returns the labels of the secrets that are valid at that time.
fn live(client: &RegisteredClient, seconds: u64) -> Vec<&str> {
    let live = client.secrets().iter().filter(|secret| secret.is_live(UnixTime::from_secs(seconds).unwrap()));
    live.map(super::RegisteredSecret::label).collect()
}

#[tokio::test]
async fn an_update_sees_the_client_and_sets_its_scopes() {
    let store = store(billing()).await;
    store.update(&BILLING, |client| client.edit().scopes([READ])).await.unwrap();
    assert_eq!(found(&store).await.scopes().as_str(), "read");
    let toggle = |client: &RegisteredClient| {
        let edited = client.edit();
        if client.scopes().contains("write") { edited.without_scope(&WRITE) } else { edited.scope(WRITE) }
    };
    store.update(&BILLING, toggle).await.unwrap();
    assert_eq!(found(&store).await.scopes().as_str(), "read write");
    store.update(&BILLING, toggle).await.unwrap();
    assert_eq!(found(&store).await.scopes().as_str(), "read");
}

#[tokio::test]
async fn an_update_that_fails_changes_nothing() {
    let store = store(billing()).await;
    let refused = store.try_update(&BILLING, |client| Err(ClientError::new(client.id(), "no").into())).await;
    assert_eq!(refused.unwrap_err().to_string(), "client `billing`: no");
    assert_eq!(found(&store).await.scopes().as_str(), "read write");
    let missing = store.expire_secret(&BILLING, "7", at(9)).await;
    assert!(matches!(missing, Err(AdminError::NotFound)), "{missing:?}");
}

#[tokio::test]
async fn a_rotated_secret_takes_over_and_the_old_one_works_for_a_time() {
    let store = store(billing()).await;
    let rotated = store.rotate_secret(&BILLING, SecretRotation::new().at(at(1_000))).await.unwrap();
    let client = found(&store).await;
    assert_eq!(rotated.label, "2");
    assert!(client.secret("2").unwrap().stored().matches(&Presented::new(rotated.secret.expose())));
    assert!(client.secret("2").unwrap().stored().to_phc_string().starts_with("$sha256$"));
    assert_eq!(client.secret("2").unwrap().created(), Some(at(1_000)));
    assert!(!format!("{rotated:?}").contains(rotated.secret.expose()));
    assert_eq!(live(&client, 1_000 + 86_399), ["1", "2"]);
    assert_eq!(live(&client, 1_000 + 86_400), ["2"]);

    // The first secret keeps its earlier expiry.
    let soon = SecretRotation::new().keep_old_for(Duration::from_secs(172_800)).label("new").at(at(2_000));
    assert_eq!(store.rotate_secret(&BILLING, soon).await.unwrap().label, "new");
    let client = found(&store).await;
    assert_eq!(live(&client, 1_000 + 86_400), ["2", "new"]);
    assert_eq!(live(&client, 2_000 + 172_800), ["new"]);

    // Secrets that had already expired are removed.
    let late = SecretRotation::new().label("late").at(at(1_000 + 86_400));
    store.rotate_secret(&BILLING, late).await.unwrap();
    let client = found(&store).await;
    assert_eq!(client.secrets().iter().map(super::RegisteredSecret::label).collect::<Vec<_>>(), ["2", "new", "late"]);
}

#[tokio::test]
async fn with_no_overlap_only_the_new_secret_works_under_any_clock() {
    let store = store(billing()).await;
    store.rotate_secret(&BILLING, SecretRotation::new().at(at(1_000))).await.unwrap();
    let leaked = SecretRotation::new().keep_old_for(Duration::ZERO).at(at(2_000));
    let rotated = store.rotate_secret(&BILLING, leaked).await.unwrap();
    assert_eq!(rotated.label, "3", "the new secret has a new label");
    for seconds in [0, 1_999, 2_000, 2_001] {
        assert_eq!(live(&found(&store).await, seconds), ["3"], "at {seconds}");
    }
    let taken = SecretRotation::new().keep_old_for(Duration::ZERO).label("3");
    let taken = store.rotate_secret(&BILLING, taken).await;
    assert!(matches!(taken, Err(AdminError::Invalid(_))), "{taken:?}");
    assert_eq!(live(&found(&store).await, 2_000), ["3"]);
}

#[tokio::test]
async fn an_update_that_returns_another_client_is_refused_and_changes_neither() {
    let store = store(billing()).await;
    let other = ClientId::from_static("other");
    let other_client = || Client::new("other", ClientSecret::new("k".repeat(43)).unwrap());
    store.create(other_client().scopes([READ]).register().unwrap()).await.unwrap();
    let before = (found(&store).await, store.load(&other).await.unwrap());
    for _ in 0..2 {
        let refused = store.update(&BILLING, |_| other_client()).await;
        let Err(AdminError::Invalid(error)) = refused else { panic!("{refused:?}") };
        let text = "client `billing`: the change returned the client `other`; start from `client.edit()`";
        assert!(error.to_string().contains(text), "{error}");
    }
    assert_eq!((found(&store).await, store.load(&other).await.unwrap()), before);
}

#[tokio::test]
async fn an_invalid_rotation_is_an_error_and_changes_nothing() {
    let store = store(billing()).await;
    let before = found(&store).await;
    let taken = store.rotate_secret(&BILLING, SecretRotation::new().label("1")).await;
    assert!(matches!(taken, Err(AdminError::Invalid(_))), "{taken:?}");
    let malformed = store.rotate_secret(&BILLING, SecretRotation::new().label("")).await;
    assert!(matches!(malformed, Err(AdminError::Secret(_))), "{malformed:?}");
    let missing = store.rotate_secret(&ClientId::from_static("other"), SecretRotation::new()).await;
    assert!(matches!(missing, Err(AdminError::NotFound)), "{missing:?}");
    assert_eq!(found(&store).await, before);
    let for_ever = SecretRotation::new().keep_old_for(Duration::MAX).at(at(5));
    store.rotate_secret(&BILLING, for_ever).await.unwrap();
    assert_eq!(live(&found(&store).await, 4_000_000_000), ["1", "2"]);
}

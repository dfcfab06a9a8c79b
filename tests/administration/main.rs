//! The administration API over sockets, on SQLite and Postgres: each operation, right and wrong.

#![cfg(unix)]
#![allow(unreachable_pub)] // in modules of a test
#![allow(clippy::print_stdout)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests, which may

#[path = "../common/mod.rs"]
mod common;
mod failing_store;
mod scenarios;
mod workloads;
mod world;

use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt as _;
use std::pin::Pin;

use common::servers::Postgres;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use tempfile::TempDir;
use tower_client_credentials::store::{ClientAdmin as _, FileStore, PostgresStore, SqliteStore};

use self::world::World;

type Scenario = fn(World) -> Pin<Box<dyn Future<Output = ()>>>;

/// A disk or a database that is busy with other tests must not fail a test.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

async fn on_sqlite(scenario: Scenario) {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite://{}", folder.path().join("clients.db").display());
    let store = SqliteStore::builder(url).call_timeout(PATIENCE).open().await.unwrap();
    scenario(World::with(store).await).await;
}

/// Declares a test for each scenario on SQLite, and one that runs all of them on one Postgres.
macro_rules! scenarios {
    ($($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                on_sqlite(|world| Box::pin(scenarios::$name(world))).await;
            }
        )*

        #[tokio::test(flavor = "multi_thread")]
        async fn all_of_it_holds_on_postgres() {
            let server = Postgres::with(&["fsync=off", "max_connections=400"]);
            let all: &[(&str, Scenario)] = &[$((stringify!($name), |world| Box::pin(scenarios::$name(world)))),*];
            for (name, scenario) in all {
                println!("{name}");
                let schema = format!("CREATE SCHEMA {name}");
                let mut connection = PgConnection::connect(&server.url()).await.unwrap();
                sqlx::raw_sql(AssertSqlSafe(schema)).execute(&mut connection).await.unwrap();
                let url = format!("{}&options=-csearch_path%3D{name}", server.url());
                let store = PostgresStore::builder(url).call_timeout(PATIENCE).connect().await.unwrap();
                scenario(World::with(store).await).await;
            }
        }
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_answer_fails_is_reported_as_made() {
    let store = tower_client_credentials::MemoryStore::default();
    let failing = failing_store::FailsAfterChange::new(store.clone());
    scenarios::a_change_without_an_answer(World::over(failing, store).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_secret_is_shown_even_if_the_store_does_not_answer_after_the_change() {
    let store = tower_client_credentials::MemoryStore::default();
    let failing = failing_store::FailsAfterChange::new(store.clone());
    scenarios::a_new_secret_without_an_answer_of_the_store(World::over(failing, store).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_secret_of_a_client_that_was_deleted_in_the_meantime_is_not_shown() {
    let store = tower_client_credentials::MemoryStore::default();
    let deleted = failing_store::FailsAfterChange::deleted(store.clone());
    scenarios::a_client_that_is_deleted_after_its_change(World::over(deleted, store).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disable_or_delete_whose_revocation_failed_is_completed_by_repeating_it() {
    let (store, revocations) = <(tower_client_credentials::MemoryStore, failing_store::FailingRevocations)>::default();
    let world = World::revoking(store.clone(), store, revocations.clone()).await;
    scenarios::a_repeated_disable_and_delete(world, &revocations).await;
}

/// The clients are in a folder that is read-only, as a `ConfigMap` is, and the revocations in another one.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_revoked_without_writing_the_clients() {
    let folder = TempDir::new().unwrap();
    let [config, state] = ["config", "state"].map(|name| folder.path().join(name));
    for folder in [&config, &state] {
        fs::create_dir(folder).unwrap();
    }
    let path = config.join("clients.toml");
    let store = FileStore::builder(&path).create_missing().revocations_at(state.join("revoked")).open().await.unwrap();
    let world = World::with(store).await;
    let text = format!("# kept by hand\n{}", fs::read_to_string(&path).unwrap());
    fs::write(&path, &text).unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o500)).unwrap();
    scenarios::the_tokens_of_a_client_are_revoked(world).await;
    fs::set_permissions(&config, fs::Permissions::from_mode(0o700)).unwrap();
    // Also if the user of the test may write everything.
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_more_credentials_than_can_be_registered_can_be_changed_and_deleted() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("clients.toml");
    let client =
        "[[clients]]\nclient_id = \"old\"\nclient_secrets = []\naudiences = [\"https://api.example\"]\n".to_owned();
    let credentials = (1..=6).map(|number| {
        format!(
            "[[clients.credentials]]\nlabel = \"{number}\"\nmethod = \"private_key_jwt\"\n\
             jwks_uri = \"https://client.example/{number}\"\n"
        )
    });
    fs::write(&path, [client].into_iter().chain(credentials).collect::<String>()).unwrap();
    let store = FileStore::builder(&path).open().await.unwrap();
    scenarios::a_client_with_six_urls_of_keys(World::with(store).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_another_client_and_an_invalid_id_do_not_disturb_the_pages() {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite://{}", folder.path().join("clients.db").display());
    let store = SqliteStore::builder(&url).call_timeout(PATIENCE).open().await.unwrap();
    for id in ["b", "c", "d"] {
        store.create(common::client(id).register().unwrap()).await.unwrap();
    }
    let world = World::with(store).await;
    let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let disturbed = "UPDATE tcc_clients SET record = (SELECT record FROM tcc_clients WHERE id = 'team') WHERE id = 'b';
        UPDATE tcc_clients SET record = (SELECT record FROM tcc_clients WHERE id = 'auditor') WHERE id = 'd';
        UPDATE tcc_clients SET id = 'c' || char(10) WHERE id = 'c';";
    sqlx::raw_sql(disturbed).execute(&mut connection).await.unwrap();
    scenarios::pages_with_records_of_other_clients(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_record_is_shown_as_such_and_does_not_hide_its_page() {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite://{}", folder.path().join("clients.db").display());
    let store = SqliteStore::builder(&url).call_timeout(PATIENCE).open().await.unwrap();
    for id in ["b", "c"] {
        store.create(common::client(id).register().unwrap()).await.unwrap();
    }
    let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let broken = "UPDATE tcc_clients SET record = '{\"client_id\":\"b\",\"client_secrets\":5}' WHERE id = 'b'";
    sqlx::raw_sql(broken).execute(&mut connection).await.unwrap();
    scenarios::a_page_with_an_unreadable_record(World::with(store).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_a_secret_in_plain_text_can_be_shown_and_changed() {
    let store = tower_client_credentials::MemoryStore::default();
    scenarios::a_client_with_a_secret_in_plain_text(World::with(store).await).await;
}

scenarios! {
    a_client_is_created_changed_and_deleted
    every_change_is_an_event_without_secrets
    each_kind_of_request_needs_its_scope
    an_administrator_gives_only_what_it_may_grant
    only_an_administrator_for_administrators_chooses_an_id
    a_new_client_gets_a_token_at_once
    a_client_with_a_scope_that_no_longer_exists_can_be_disabled
    another_state_than_the_one_that_results_is_refused
    an_administrator_cannot_take_over_a_client_with_more_rights
    a_change_needs_the_current_version
    unknown_members_and_other_ids_are_refused
    no_administrator_removes_itself
    two_administrators_that_remove_each_other_leave_one
    a_repeated_idempotency_key_creates_one_client
    a_body_that_is_too_large_or_not_json_is_refused
    a_disabled_or_weakened_administrator_is_refused_at_once
    one_of_many_concurrent_updates_wins
    clients_are_listed_by_page
    a_url_of_keys_in_a_private_network_is_refused
    jwks_and_claims_that_are_nested_too_deep_are_refused
    a_credential_for_a_workload_of_another_team_is_refused
    a_credential_for_a_listed_workload_is_accepted
    a_credential_that_a_client_had_before_is_not_checked_again
    an_administrator_gives_on_only_the_workloads_of_its_own_list
    a_request_of_a_workload_stays_that_of_the_client_of_its_team
}

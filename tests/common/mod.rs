//! The shared parts of the tests over sockets: servers on every stack, requests as callers write them, responses as callers
//! read them, and tokens that our servers would not sign.

#![allow(dead_code, unreachable_pub)] // each test file uses a part of it
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

#[cfg(unix)]
pub mod disk;
pub mod endless;
pub mod faults;
pub mod follower;
pub mod forge;
pub mod http2;
pub mod proxy;
pub mod request;
#[cfg(unix)]
pub mod servers;
pub mod stack;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub mod used_credentials;

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use tower_client_credentials::authorization_server::AuthorizationServerBuilder;
use tower_client_credentials::clock::ManualClock;
use tower_client_credentials::{
    AuthorizationServer, Client, ClientAuthMethod, ClientSecret, ClientStore, KeyRing, MemoryStore, Scope,
};

/// Enables all log lines of the process, so that the subscriber of one thread gets those of its thread. Without a second
/// subscriber, a line that a thread without one reaches first stays disabled for all threads.
pub fn enable_log_lines() {
    static ENABLED: std::sync::Once = std::sync::Once::new();
    ENABLED.call_once(|| tracing::subscriber::set_global_default(tracing_subscriber::registry()).unwrap());
}

pub const ISSUER: &str = "https://auth.example.com";
pub const API: &str = "https://api.example.com";
pub const OTHER_API: &str = "https://other.example.com";
pub const READ: Scope = Scope::from_static("invoices:read");
pub const WRITE: Scope = Scope::from_static("invoices:write");

/// The signing key of every server in the tests, so that they can sign tokens themselves.
pub const KEY: &str = include_str!("../keys/p256.pem");

/// The time that every clock in the tests shows until a test changes it.
pub const NOW: u64 = 1_700_000_000;

/// The secret of every client in the tests, unless a test chooses another one.
pub static SECRET: LazyLock<String> = LazyLock::new(generated_secret);

/// A well-formed secret that no client has.
pub static WRONG_SECRET: LazyLock<String> = LazyLock::new(generated_secret);

fn generated_secret() -> String {
    ClientSecret::generate().unwrap().expose().to_owned()
}

/// A client with [`SECRET`] and without permissions.
pub fn client(id: &str) -> Client {
    Client::new(id, ClientSecret::new(SECRET.as_str()).unwrap())
}

/// `billing` authenticates by Basic, `reports` in the body. Both may read and write, for one API.
pub fn clients() -> [Client; 3] {
    let may_read_and_write = |id| client(id).scopes([READ, WRITE]).audience(API);
    [
        may_read_and_write("billing"),
        may_read_and_write("reports").authentication(ClientAuthMethod::ClientSecretPost),
        may_read_and_write("retired").disabled(),
    ]
}

pub fn clock() -> ManualClock {
    ManualClock::at(at(NOW))
}

pub fn at(secs: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(secs)
}

/// The settings of a server whose clock shows [`NOW`].
pub fn settings(clients: impl ClientStore) -> AuthorizationServerBuilder {
    AuthorizationServer::builder(ISSUER, KeyRing::from_pem(KEY).unwrap(), clients).clock(clock())
}

/// A server with [`clients`].
pub fn server() -> AuthorizationServer {
    settings(MemoryStore::try_from(clients()).unwrap()).build().unwrap()
}

/// Returns the text of an error and of its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let all = std::iter::successors(Some(error), |error| error.source());
    all.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

//! The connection. It is restored automatically, and each wait for it has a limit.

use std::fmt;
use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, FromRedisValue, Pipeline, RedisError, RedisResult, ScriptInvocation};
use tokio::time::Instant;

use crate::deadline::within;
use crate::store::StoreError;
use crate::sync::lock;

pub(super) struct Link {
    client: Client,
    timeout: Duration,
    current: Mutex<Current>,
}

#[derive(Clone)]
struct Current {
    manager: ConnectionManager,
    number: u64,
    made: Instant,
}

impl Link {
    /// Creates the link; it connects at the first call.
    pub(super) fn new(client: Client, timeout: Duration) -> RedisResult<Self> {
        let current = Mutex::new(Current { manager: connect(&client, timeout)?, number: 0, made: Instant::now() });
        Ok(Self { client, timeout, current })
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) async fn script<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, StoreError> {
        self.call(async |mut manager| call.invoke_async(&mut manager).await).await
    }

    pub(super) async fn command<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        self.call(|mut manager| async move { command.query_async(&mut manager).await }).await
    }

    pub(super) async fn pipeline<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, StoreError> {
        self.call(|mut manager| async move { pipeline.query_async(&mut manager).await }).await
    }

    async fn call<T, F>(&self, call: impl FnOnce(ConnectionManager) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let Current { manager, number, .. } = lock(&self.current).clone();
        match within(self.timeout, call(manager)).await {
            Ok(answer) => answer.map_err(|error| {
                if is_of_a_replica(&error) {
                    self.replace(number);
                }
                failed(&error)
            }),
            Err(late) => {
                self.replace(number);
                Err(StoreError::new(late))
            }
        }
    }

    /// Replaces the connection with this number, at most once a second. The first call that gives it up does so: a silent
    /// connection may stay open until TCP times out, and a connection to a former primary for as long as that runs.
    fn replace(&self, number: u64) {
        let mut current = lock(&self.current);
        if current.number == number
            && current.made.elapsed() >= LEAST_AGE
            && let Ok(manager) = connect(&self.client, self.timeout)
        {
            *current = Current { manager, number: number + 1, made: Instant::now() };
        }
    }
}

/// The minimum age of a connection that is replaced.
const LEAST_AGE: Duration = Duration::from_secs(1);

/// Returns whether the server has become a replica. Its host name may lead to another server now.
fn is_of_a_replica(error: &RedisError) -> bool {
    match error.code() {
        Some("READONLY" | "MASTERDOWN") => true,
        // Up to version 6, the error of a command in a script is part of the text of another error.
        Some("ERR") => error.detail().is_some_and(|text| text.contains("-READONLY ") || text.contains("-MASTERDOWN ")),
        _ => false,
    }
}

fn failed(error: &RedisError) -> StoreError {
    if is_of_a_replica(error) {
        return StoreError::new(REPLICA);
    }
    match error.code() {
        Some("MOVED" | "ASK" | "CLUSTERDOWN" | "CROSSSLOT") => StoreError::new(CLUSTER),
        _ => StoreError::of_client(error),
    }
}

/// The error for a cluster node: this client does not follow slots that move between nodes.
pub(super) const CLUSTER: &str = "this server is a node of a Redis cluster, which is not supported: use a server with \
    `cluster-enabled no`, or an endpoint that hides the cluster";

/// The error for a replica: its data may be old, and it accepts no revocation.
const REPLICA: &str = "READONLY the server is a replica, which may be far behind; use the address of the primary";

/// Creates a connection manager, which reconnects automatically. The time limit of a caller is set around each call instead.
fn connect(client: &Client, timeout: Duration) -> RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(timeout))
        .set_response_timeout(None)
        .set_number_of_retries(3)
        .set_max_delay(Duration::from_millis(500));
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Host and port only, without user and password.
        write!(f, "{}", self.client.get_connection_info().addr())
    }
}

#[cfg(test)]
mod tests {
    use super::is_of_a_replica;

    #[test]
    fn the_errors_of_a_replica_are_known_by_their_code_or_in_a_script_of_redis_6_by_their_text() {
        let is_of_a_replica = |answer: &str| {
            let answer = redis::parse_redis_value(format!("{answer}\r\n").as_bytes());
            is_of_a_replica(&answer.and_then(redis::Value::extract_error).unwrap_err())
        };
        for of_replica in [
            "-READONLY You can't write against a read only replica.",
            "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            "-ERR Error running script (call to f_4ba3bde96d46e4eb8c1ea1a0ac3c4f2d): @user_script:12: @user_script: 12: -READONLY \
             You can't write against a read only replica.",
        ] {
            assert!(is_of_a_replica(of_replica), "{of_replica}");
        }
        for other in
            ["-ERR unknown command 'READONLY-X'", "-NOPERM this user may not", "-ERR Error running script: -OOM full"]
        {
            assert!(!is_of_a_replica(other), "{other}");
        }
    }
}

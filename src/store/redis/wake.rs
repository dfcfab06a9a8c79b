//! Publish/subscribe: notifies a reader of changes before its next poll.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use redis::aio::PubSub;
use redis::{Client, RedisResult, Value};

use crate::deadline::within;
use crate::store::wake::Signal;

/// How long to wait before subscribing again after a failure. Polling continues meanwhile.
const PAUSE: Duration = Duration::from_secs(1);

/// The time limit of making a connection.
const CONNECTING: Duration = Duration::from_secs(10);

/// How long a tested connection has to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// Listens forever on its own connection.
pub(super) async fn listen(client: Client, channel: String, signal: Arc<Signal>) {
    loop {
        if let Err(error) = listen_once(&client, &channel, &signal).await {
            tracing::debug!(%error, "the Redis subscription failed and will be retried; polling continues");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn subscribe(client: &Client, channel: &str) -> RedisResult<PubSub> {
    let mut subscription = client.get_async_pubsub().await?;
    subscription.subscribe(channel).await?;
    Ok(subscription)
}

/// Listens until the connection ends, or is silent and does not answer.
async fn listen_once(client: &Client, channel: &str, signal: &Signal) -> RedisResult<()> {
    let Ok(subscription) = within(CONNECTING, subscribe(client, channel)).await else { return Ok(()) };
    let subscription = subscription?;
    signal.wake(); // changes may have been missed before
    let (mut requests, mut messages) = subscription.split();
    loop {
        match signal.silence.next(messages.next()).await {
            Some(Some(_)) => signal.wake(),
            Some(None) => return Ok(()),
            None => match within(ANSWER, requests.ping::<Value>()).await {
                Ok(answer) => {
                    answer?;
                    signal.silence.end();
                }
                Err(_) => return Ok(()),
            },
        }
    }
}

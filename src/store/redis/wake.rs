//! Publish/subscribe: notifies a reader of changes before its next poll.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::StreamExt as _;
use redis::aio::PubSub;
use redis::{Client, RedisResult, Value};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::deadline::within;
use crate::store::silence::Silence;

/// How long to wait before subscribing again after a failure. Polling continues meanwhile.
const PAUSE: Duration = Duration::from_secs(1);

/// The time limit of making a connection.
const CONNECTING: Duration = Duration::from_secs(10);

/// How long a tested connection has to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// A subscription on its own connection. It starts with the first wait and ends when this is dropped.
pub(super) struct Wake {
    client: Client,
    channel: String,
    changed: Arc<Notify>,
    silence: Arc<Silence>,
    task: OnceLock<AbortHandle>,
}

impl Wake {
    pub(super) fn new(client: Client, channel: String) -> Self {
        Self { client, channel, changed: Arc::default(), silence: Arc::default(), task: OnceLock::new() }
    }

    /// Tests the connection if it was silent: the feed has changes, of which it should have notified, or cannot be read.
    pub(super) fn suspect(&self) {
        self.silence.suspect();
    }

    pub(super) async fn wait(&self) {
        let changed = self.changed.notified();
        self.task.get_or_init(|| {
            let (client, channel) = (self.client.clone(), self.channel.clone());
            let (changed, silence) = (self.changed.clone(), self.silence.clone());
            tokio::spawn(async move {
                loop {
                    if let Err(error) = listen(&client, &channel, &changed, &silence).await {
                        tracing::debug!(%error, "the Redis subscription failed and will be retried; polling continues");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            })
            .abort_handle()
        });
        changed.await;
    }
}

async fn subscribe(client: &Client, channel: &str) -> RedisResult<PubSub> {
    let mut subscription = client.get_async_pubsub().await?;
    subscription.subscribe(channel).await?;
    Ok(subscription)
}

/// Listens until the connection ends, or is silent and does not answer.
async fn listen(client: &Client, channel: &str, changed: &Notify, silence: &Silence) -> RedisResult<()> {
    let Ok(subscription) = within(CONNECTING, subscribe(client, channel)).await else { return Ok(()) };
    let subscription = subscription?;
    changed.notify_waiters(); // changes may have been missed before
    let (mut requests, mut messages) = subscription.split();
    loop {
        silence.end();
        match silence.next(messages.next()).await {
            Some(Some(_)) => changed.notify_waiters(),
            Some(None) => return Ok(()),
            None => match within(ANSWER, requests.ping::<Value>()).await {
                Ok(answer) => drop(answer?),
                Err(_) => return Ok(()),
            },
        }
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

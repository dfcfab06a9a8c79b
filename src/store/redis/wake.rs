//! Publish/subscribe: notifies a reader of changes before its next poll.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::StreamExt as _;
use redis::{Client, RedisResult};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// How long to wait before subscribing again after a failure. Polling continues meanwhile.
const PAUSE: Duration = Duration::from_secs(1);

/// A subscription on its own connection. It starts with the first wait and ends when this is dropped.
pub(super) struct Wake {
    client: Client,
    channel: String,
    changed: Arc<Notify>,
    task: OnceLock<AbortHandle>,
}

impl Wake {
    pub(super) fn new(client: Client, channel: String) -> Self {
        Self { client, channel, changed: Arc::default(), task: OnceLock::new() }
    }

    pub(super) async fn wait(&self) {
        let changed = self.changed.notified();
        self.task.get_or_init(|| {
            let (client, channel, changed) = (self.client.clone(), self.channel.clone(), self.changed.clone());
            tokio::spawn(async move {
                loop {
                    if let Err(error) = listen(&client, &channel, &changed).await {
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

/// Listens until the connection ends.
async fn listen(client: &Client, channel: &str, changed: &Notify) -> RedisResult<()> {
    let mut subscription = client.get_async_pubsub().await?;
    subscription.subscribe(channel).await?;
    changed.notify_waiters(); // changes may have been missed before
    let mut messages = subscription.on_message();
    while messages.next().await.is_some() {
        changed.notify_waiters();
    }
    Ok(())
}

impl Drop for Wake {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

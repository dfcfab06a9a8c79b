//! Publish/subscribe: somebody changed something, so that a follower need not wait for its next poll.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::StreamExt as _;
use redis::{Client, RedisResult};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// How long a subscription that broke waits before it is made anew; polls go on meanwhile.
const PAUSE: Duration = Duration::from_secs(1);

/// Subscribed from the first wait on, by a connection of its own, until it is dropped.
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
                        tracing::debug!(%error, "not subscribed to Redis for now; polls go on");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            })
            .abort_handle()
        });
        changed.await;
    }
}

/// Until the connection ends.
async fn listen(client: &Client, channel: &str, changed: &Notify) -> RedisResult<()> {
    let mut subscription = client.get_async_pubsub().await?;
    subscription.subscribe(channel).await?;
    changed.notify_waiters(); // of what was missed before
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

//! [`UnknownClient`]: the decoy that is checked in place of an unknown client, so that its request takes as much work as one with a
//! wrong secret, and gets the same answer.

use std::sync::Arc;

use super::{Client, ClientError, RegisteredClient};
use crate::registration::RegisteredSecret;
use crate::secret::StoredSecret;

/// A client with one generated secret that no one knows. It is in no store.
#[derive(Debug)]
pub(crate) struct UnknownClient(Arc<RegisteredClient>);

impl UnknownClient {
    pub(crate) fn new() -> Result<Self, ClientError> {
        Ok(Self(Arc::new(Client::new("decoy", StoredSecret::of_no_secret()).register()?)))
    }

    pub(super) fn secrets(&self) -> &[RegisteredSecret] {
        self.0.secrets()
    }

    pub(super) fn client(&self) -> Arc<RegisteredClient> {
        self.0.clone()
    }
}

//! [`Decoy`]: the client whose place an unknown one takes, so that its request costs what a wrong secret costs.

use std::sync::Arc;

use super::{Client, ClientError, RegisteredClient};
use crate::secret::StoredSecret;

/// A client with one generated secret, which no client knows. It is in no registry.
#[derive(Debug)]
pub(in crate::authorization_server) struct Decoy(Arc<RegisteredClient>);

impl Decoy {
    pub(in crate::authorization_server) fn new() -> Result<Self, ClientError> {
        Ok(Self(Arc::new(Client::new("decoy", StoredSecret::of_no_secret()).register()?)))
    }

    pub(super) fn client(&self) -> Arc<RegisteredClient> {
        self.0.clone()
    }
}

//! [`Actor`]: the administrator that sends a request, as its registration is now.

use std::sync::Arc;

use super::{AdministrationRefusal, Inner};
use crate::clock::UnixTime;
use crate::deadline;
use crate::registration::RegisteredClient;
use crate::store::{Revision, StoreError};
use crate::verification::VerifiedToken;

/// An administrator: its token, and its registration at the time of the request. A change is made only if the registration is
/// still at this revision, so no change rests on rights that the administrator has lost.
pub(super) struct Actor {
    pub(super) client: Arc<RegisteredClient>,
    pub(super) revision: Revision,
    /// Whether it may change administrators.
    pub(super) is_for_administrators: bool,
}

impl Inner {
    /// Returns the administrator of this token. The token was verified, but its client may have been changed since it was issued.
    pub(super) async fn actor(&self, token: &VerifiedToken, is_change: bool) -> Result<Actor, AdministrationRefusal> {
        let needed = if is_change { &self.scopes.write } else { &self.scopes.read };
        if !token.scopes().contains(needed) {
            return Err(AdministrationRefusal::insufficient_scope(needed));
        }
        let found = deadline::within(self.server.store_timeout, self.store.load(token.client_id())).await;
        let found = found.map_err(StoreError::new)??;
        let lost = || {
            AdministrationRefusal::denied(
                "the registration of the administrator no longer allows this; another administrator or the command-line tool \
                 can restore it",
            )
        };
        let (client, revision) = found.ok_or_else(lost)?;
        let has = |scope: &str| client.scopes().contains(scope) && token.scopes().contains(scope);
        let is_administrator = client.is_enabled()
            && client.may_use_grant()
            && client.audiences().contains(&self.audience)
            && has(needed)
            && is_live(&client, UnixTime::now(&*self.server.clock));
        if !is_administrator {
            return Err(lost());
        }
        let is_for_administrators = has(&self.scopes.administrators);
        Ok(Actor { client, revision, is_for_administrators })
    }
}

/// Returns whether the client has a secret or another credential that has not expired.
pub(super) fn is_live(client: &RegisteredClient, now: UnixTime) -> bool {
    client.secrets().iter().any(|secret| secret.is_live(now)) || client.credentials().iter().any(|own| own.is_live(now))
}

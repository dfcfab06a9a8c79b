//! The rule that no administrator removes the last one by a change: none changes its own rights.
//!
//! Another administrator makes each such change, and only if its own registration is unchanged at the same moment. So each removal
//! leaves the administrator that made it. This is about changes only: the credentials of an administrator can expire, or be lost,
//! and then the command-line tool restores them at the store.

use super::actor::{Actor, is_live};
use super::{AdministrationRefusal, Inner};
use crate::clock::UnixTime;
use crate::registration::RegisteredClient;

impl Inner {
    /// Checks a change of the administrator's own registration. `None` deletes it.
    pub(super) fn check_own_change(
        &self,
        actor: &Actor,
        changed: Option<&RegisteredClient>,
    ) -> Result<(), AdministrationRefusal> {
        let now = UnixTime::now(&*self.server.clock);
        let own = &*actor.client;
        let keeps = |changed: &RegisteredClient| {
            let reserved = self.scopes.all();
            let is_reserved = |scope: &&str| reserved.contains(scope);
            changed.is_enabled()
                && changed.may_use_grant()
                && changed.audiences().contains(&self.audience)
                && own.scopes().iter().filter(is_reserved).all(|scope| changed.scopes().contains(scope))
                && changed.may_grant() == own.may_grant()
                && is_live(changed, now)
        };
        if changed.is_some_and(keeps) {
            return Ok(());
        }
        Err(AdministrationRefusal::conflict(
            "an administrator cannot delete or disable itself, change its own rights, or remove its last credential; another \
             administrator can do this, so that no change removes the last administrator",
        ))
    }
}

//! [`SharedParts`]: the parts of a server that an administration of its clients shares with it.

use std::sync::Arc;
use std::time::Duration;

use super::{AuthorizationServer, BodyLimits};
use crate::clock::Clock;
use crate::crypto::Random;
use crate::event::EventSender;
use crate::registration::ClientRules;
use crate::revocation::Revocations;

/// The parts of a server that an administration of its clients shares with it.
pub(crate) struct SharedParts {
    pub(crate) rules: ClientRules,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) revocations: Option<Revocations>,
    pub(crate) events: Option<EventSender>,
    pub(crate) body_limits: BodyLimits,
    pub(crate) store_timeout: Duration,
}

impl AuthorizationServer {
    pub(crate) fn shared_parts(&self) -> SharedParts {
        let (token, minter) = (&self.inner.token, &self.inner.token.minter);
        SharedParts {
            rules: token.policy.rules.clone(),
            clock: minter.clock.clone(),
            random: minter.random.clone(),
            revocations: minter.revocations.clone(),
            events: token.reporter.events.clone(),
            body_limits: self.inner.body_limits,
            store_timeout: token.policy.timeout,
        }
    }
}

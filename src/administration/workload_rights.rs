//! The decision whether an administrator may give a client a credential for a workload.
//!
//! The server finds the client of a workload by its credentials. So with a credential for the workload of another team, an
//! administrator could make that workload's requests those of its own client, or have them refused, because two clients have it.

use super::AdministrationRefusal;
use super::actor::Actor;
use crate::quoted::{LONGEST_URL, OneLine};
use crate::registration::{Credential, CredentialKind, NamedWorkload, RegisteredClient};

impl Actor {
    /// Checks the credentials for workloads that the client did not have before. Those that it had are not checked again, so that
    /// an administrator can still change a client that another one gave such a credential.
    pub(super) fn check_new_workloads(
        &self,
        client: &RegisteredClient,
        before: Option<&RegisteredClient>,
    ) -> Result<(), AdministrationRefusal> {
        if self.is_for_administrators {
            return Ok(());
        }
        let had =
            |new: &Credential| before.is_some_and(|before| before.credentials().iter().any(|old| is_at_most(new, old)));
        let is_allowed =
            |new: &Credential| self.client.may_grant().is_some_and(|list| list.allows_credential(new.kind()));
        let mut credentials = client.credentials().iter();
        credentials
            .find_map(|new| beyond(new.kind()).filter(|_| !is_allowed(new) && !had(new)))
            .map_or(Ok(()), |text| Err(AdministrationRefusal::denied(text)))
    }
}

/// Returns whether a credential for a workload accepts at most what the other one does: it is for the same workload or fewer, requires
/// the same claims, and does not live longer.
fn is_at_most(new: &Credential, old: &Credential) -> bool {
    let is_as_narrow = match (new.kind(), old.kind()) {
        (CredentialKind::Spiffe(new), CredentialKind::Spiffe(old)) => old.matches(new),
        (CredentialKind::Platform(new), CredentialKind::Platform(old)) => {
            let has = |claim| new.claims().contains(claim);
            new.issuer() == old.issuer() && new.subject() == old.subject() && old.claims().iter().all(has)
        }
        _ => false,
    };
    let ends_no_later = old.expires().is_none_or(|old| new.expires().is_some_and(|new| new <= old));
    is_as_narrow && ends_no_later
}

/// Returns why an administrator may not give a credential for this workload. `None` if it is for no workload.
fn beyond(kind: &CredentialKind) -> Option<String> {
    let (workload, member) = match kind.workload()? {
        NamedWorkload::Spiffe(id) => (format!("`{}`", OneLine(id.as_str(), LONGEST_URL)), "spiffe_ids"),
        NamedWorkload::Platform(identity) => {
            let [subject, issuer] = [identity.subject(), identity.issuer()].map(|text| OneLine(text, LONGEST_URL / 2));
            (format!("`{subject}` of `{issuer}`"), "platform_workloads")
        }
    };
    Some(format!(
        "the workload {workload} is not in the `may_grant` of the administrator, so it can give no client a credential for it; have \
         an administrator for administrators add the credential, or list the workload in `{member}` of `may_grant`"
    ))
}

//! Authenticates the client of a workload: the one that the request names, or the only one of the workload.

use super::credentials::AssertionCredentials;
use super::invalid::Refusal;
use super::workloads::Workload;
use super::{Answer, AssertionAuthenticator, AuthenticatedClient, Basis, Proven, WorkloadClients};
use crate::authorization_server::error::TokenError;
use crate::authorization_server::head::Head;
use crate::client_id::ClientId;
use crate::clock::UnixTime;

impl AssertionAuthenticator {
    /// Authenticates the client of a workload for which a platform or a trust domain vouches. The token is not recorded,
    /// because workloads reuse it by design.
    pub(super) async fn authenticate_workload(
        &self,
        credentials: &AssertionCredentials,
        workload: &Workload<'_>,
        head: &Head,
    ) -> Result<AuthenticatedClient, TokenError> {
        let proven = match credentials.client_id.as_deref() {
            Some(name) => {
                let id: ClientId = name.parse().map_err(|_| Refusal::unknown_client())?;
                self.prove_workload(&id, workload).await?
            }
            None => self.prove_unnamed(workload).await?,
        };
        let used = proven.client.credentials().get(proven.credential);
        if used.is_some_and(|credential| Workload::is_default_account(credential.kind())) {
            self.audit.default_account(&proven.client, &head.extensions);
        }
        Ok(proven.into_client())
    }

    /// Checks that this client is registered for the workload.
    async fn prove_workload(&self, id: &ClientId, workload: &Workload<'_>) -> Result<Proven, TokenError> {
        let check = |answer: &Answer| {
            let client = answer.client.clone().ok_or_else(Refusal::unknown_client)?;
            let credential = workload.credential_of(&client, UnixTime::now(&*self.clock))?;
            if !client.is_enabled() {
                return Err(Refusal::disabled_client());
            }
            Ok(Proven { client, as_of: answer.as_of, credential, legacy: None })
        };
        let answer = self.clients.find(id).await?;
        let proven = match check(&answer) {
            Ok(proven) => Ok(proven),
            Err(refusal) if answer.basis != Basis::Acceptance => {
                self.clients.refused(id, &answer);
                Err(refusal)
            }
            Err(_) => check(&self.clients.find_lately(id).await?),
        };
        proven.map_err(|refusal| TokenError::from(refusal).of(id))
    }

    /// Finds the only client of a workload whose request has no `client_id`, and checks that it is registered for the workload. The
    /// token was verified before, so only a workload of a trusted issuer causes a look-up.
    async fn prove_unnamed(&self, workload: &Workload<'_>) -> Result<Proven, TokenError> {
        let keys = workload.keys()?;
        let answer = self.clients.find_workload(&keys).await?;
        let first = match only_client(answer.clients, workload) {
            Ok(id) => self.prove_workload(&id, workload).await.map_err(|error| (error, Some(id))),
            Err(refusal) => Err((refusal.into(), None)),
        };
        match first {
            Ok(proven) => Ok(proven),
            Err((error, _)) if !answer.is_stale => Err(error),
            // The workload may have moved to another client.
            Err((error, former)) => match only_client(self.clients.find_workload_lately(&keys).await?, workload)? {
                id if Some(&id) == former.as_ref() => Err(error),
                id => self.prove_workload(&id, workload).await,
            },
        }
    }

    /// Returns the only client of a workload, from an answer that is recent enough for a refusal.
    pub(super) async fn client_of(&self, workload: &Workload<'_>) -> Result<Result<ClientId, Refusal>, TokenError> {
        let keys = match workload.keys() {
            Ok(keys) => keys,
            Err(refusal) => return Ok(Err(refusal)),
        };
        Ok(only_client(self.clients.find_workload_lately(&keys).await?, workload))
    }
}

/// Returns the only client of a workload. A store without an index of workloads knows none.
fn only_client(found: WorkloadClients, workload: &Workload<'_>) -> Result<ClientId, Refusal> {
    match found.as_deref() {
        Some([only]) => Ok(only.clone()),
        Some([]) => Err(Refusal::no_client_for(workload.name())),
        Some(several) => Err(Refusal::several_clients(workload.name(), several)),
        None => Err(Refusal::needs_client_id(
            workload.name(),
            "the client store has no index of workloads, and so no client",
        )),
    }
}

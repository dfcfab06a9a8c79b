//! [`Claim`]: the client that the caller claims to be, and the result of the immediate checks.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use super::{UnknownClient, check};
use crate::authorization_server::authenticate::{Answer, AuthenticatedClient, UsedCredential};
use crate::authorization_server::error::TokenError;
use crate::clock::UnixTime;
use crate::registration::{ClientAuthMethod, RegisteredClient};
use crate::secret::{Presented, StoredSecret};

/// The client that the caller claims to be, and the result of the immediate checks.
pub(super) struct Claim {
    /// The client, or the [decoy](UnknownClient) if the id is unknown.
    pub(super) client: Arc<RegisteredClient>,
    is_registered: bool,
    as_of: SystemTime,
    method: ClientAuthMethod,
    /// The position of the client's secret whose digest matches the presented one.
    pub(super) secret: Option<usize>,
    /// The secrets with a slow hash, with their positions among the client's secrets.
    pub(super) slow: Vec<(usize, StoredSecret)>,
}

impl Claim {
    pub(super) fn new(
        answer: &Answer,
        unknown: &UnknownClient,
        method: ClientAuthMethod,
        presented: &Presented<'_>,
        now: UnixTime,
    ) -> Self {
        let Answer { client, as_of, .. } = answer.clone();
        let is_registered = client.is_some();
        // From here on, both cases take the same steps.
        let client = client.unwrap_or_else(|| unknown.client());
        // A client without secrets takes the work of the decoy, too.
        let has_secrets = !client.secrets().is_empty();
        let secrets = if has_secrets { client.secrets() } else { unknown.secrets() };
        let live = secrets.iter().enumerate().filter(|(_, secret)| secret.is_live(now));
        let live = live.map(|(at, secret)| (at, secret.stored()));
        let secret = check::matching_digest(live.clone(), presented).filter(|_| has_secrets);
        let slow = live.filter(|(_, stored)| stored.is_slow()).map(|(at, stored)| (at, stored.clone())).collect();
        Self { client, is_registered, as_of, method, secret, slow }
    }

    pub(super) fn is_acceptable(&self) -> bool {
        self.client.is_enabled() && self.client.authentication() == self.method && self.is_registered
    }

    /// Returns a proof, or the reason for the refusal, for the operator.
    pub(super) fn settle(self, secret: Option<usize>) -> Result<AuthenticatedClient, Cow<'static, str>> {
        let secret = self.accepted(secret)?;
        Ok(AuthenticatedClient::new(self.client, self.as_of, UsedCredential::secret(secret)))
    }

    /// Returns the accepted secret, or the reason for the refusal, for the operator.
    fn accepted(&self, secret: Option<usize>) -> Result<usize, Cow<'static, str>> {
        let client = &self.client;
        if !self.is_registered {
            return Err("the client is not registered".into());
        }
        let Some(secret) = secret else {
            return Err("the secret matches none of the client's current secrets".into());
        };
        if !client.is_enabled() {
            return Err("the client is disabled".into());
        }
        if client.authentication() != self.method {
            let (registered, used) = (client.authentication(), self.method);
            let why = format!("the client is registered for {registered} but used {used}; see Client::authentication");
            return Err(why.into());
        }
        Ok(secret)
    }

    /// Returns the text for the operator about a refusal beyond the limit. It has the reason: a client that was disabled and still
    /// has the right secret is not a guesser.
    pub(super) fn beyond_the_limit(&self, secret: Option<usize>) -> String {
        let why = self.accepted(secret).err().unwrap_or_default();
        // Not formatted, since a flood of guesses pays for it.
        ["too many failed attempts in this minute from this address; the last one failed because ", &why].concat()
    }

    /// Adds to the refusal of an attempt at a chosen secret, which is not checked, whether the client is disabled.
    pub(super) fn not_attempted(&self, error: TokenError) -> TokenError {
        if !error.is_authentication_failure() {
            return error;
        }
        let state = if self.client.is_enabled() { "" } else { "; the client is disabled" };
        error.detailed(format!(
            "too many failed attempts in this minute; even the right secret is refused until the next one{state}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::{Answer, Claim, ClientAuthMethod, Presented, UnixTime, UnknownClient};
    use crate::authorization_server::authenticate::Basis;
    use crate::registration::Client;
    use crate::secret::ClientSecret;

    const METHOD: ClientAuthMethod = ClientAuthMethod::ClientSecretBasic;

    fn claim(client: Option<Client>, presented: &str) -> Claim {
        let client = client.map(|client| client.register().unwrap().into());
        let answer = Answer { client, basis: Basis::Refusal, as_of: SystemTime::UNIX_EPOCH };
        Claim::new(
            &answer,
            &UnknownClient::new().unwrap(),
            METHOD,
            &Presented::new(presented),
            UnixTime::at(SystemTime::UNIX_EPOCH),
        )
    }

    #[test]
    fn an_unknown_client_is_checked_against_as_many_secrets_as_a_known_one_and_never_accepted() {
        let (own, other) = (ClientSecret::generate().unwrap(), ClientSecret::generate().unwrap());
        let known = claim(Some(Client::new("billing", &own)), other.expose());
        let unknown = claim(None, other.expose());
        assert_eq!(unknown.client.secrets().len(), known.client.secrets().len());
        assert_eq!((known.secret, unknown.secret), (None, None));
        assert_eq!((known.slow.len(), unknown.slow.len()), (0, 0));
        assert!(known.is_acceptable() && !unknown.is_acceptable());
        assert!(unknown.settle(None).is_err());
        // Even a secret that matches the decoy's is no proof.
        assert!(claim(None, other.expose()).settle(Some(0)).is_err());
        assert!(claim(Some(Client::new("billing", &own)), own.expose()).settle(Some(0)).is_ok());
    }
}

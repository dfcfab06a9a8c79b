//! The changes of a client that exists.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Map, Value};

use super::actor::Actor;
use super::client_metadata::{ClientMetadata, check_size, credential, object, refuse_unknown, registered};
use super::entity_tag::{self, EntityTag};
use super::request::Change;
use super::{AdministrationRefusal, AdministrationRefusalKind, Inner, view};
use crate::client_id::ClientId;
use crate::deadline;
use crate::private_address::has_private_host;
use crate::registration::{Credential, RegisteredClient};
use crate::revocation::Revocations;
use crate::secret::ClientSecret;
use crate::store::{AdminError, ClientChange, Revision, SecretRotation, StoreError};
use crate::transport::json_answer;

/// The result of a change, before it is made.
enum Changed {
    Registration(RegisteredClient),
    /// With a secret that is shown once, and its label.
    WithSecret(RegisteredClient, String, ClientSecret),
    Deleted,
    /// Only the tokens of the client are revoked.
    TokensRevoked,
}

impl Inner {
    /// Makes a change of a client.
    pub(super) async fn change(
        &self,
        actor: &Actor,
        id: &ClientId,
        change: &Change,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Response<Full<Bytes>>, AdministrationRefusal> {
        if !change.has_body() && !matches!(body, b"" | b"{}") {
            return Err(AdministrationRefusal::request("this request has no body; send none, or `{}`"));
        }
        let (client, revision) = self.load(id).await?;
        // Whether the administrator may change this client comes first, so that a refusal does not depend on its version.
        self.rights().check(actor, &client)?;
        EntityTag::of(&client, revision)?.check(headers)?;
        let changed = self.changed(&client, change, body)?;
        let result = match &changed {
            Changed::Registration(result) | Changed::WithSecret(result, ..) => {
                if change.only_reduces() {
                    self.rights().check(actor, result)?;
                } else {
                    check_size(result)?;
                    self.check_result(actor, result, Some(&client))?;
                }
                Some(result)
            }
            Changed::Deleted => None,
            Changed::TokensRevoked => Some(&*client),
        };
        if id == actor.client.id() {
            self.check_own_change(actor, result)?;
        }
        match changed {
            Changed::Registration(result) => {
                self.apply(actor, ClientChange::replace(result.clone(), revision)).await?;
                // Also if it was disabled before: its revocation can have failed, if it is in another store than the client.
                self.finish(&result, !result.is_enabled(), None).await
            }
            Changed::WithSecret(result, label, secret) => {
                self.apply(actor, ClientChange::replace(result.clone(), revision)).await?;
                self.finish(&result, false, Some((label, secret))).await
            }
            Changed::Deleted => {
                // Before as well, so that the request can be repeated if the revocation fails. Afterwards there is no client.
                self.after_change(id, true).await?;
                let delete = ClientChange::delete(id.clone()).provided(id.clone(), revision);
                self.apply(actor, delete).await?;
                self.after_change(id, true).await.map_err(AdministrationRefusal::after_change)?;
                Ok(without_content())
            }
            Changed::TokensRevoked => {
                // The registration is not written, so that this also works where only revocations can be: with a file that
                // is read-only, or with a role that cannot change clients. So the checks above and this are two steps; a
                // revocation that is repeated does no harm.
                if let Some(revocations) = self.revocations() {
                    revocations.revoke_client(id).await?;
                }
                Ok(without_content())
            }
        }
    }

    /// Returns what the change makes of the client.
    fn changed(
        &self,
        client: &RegisteredClient,
        change: &Change,
        body: &[u8],
    ) -> Result<Changed, AdministrationRefusal> {
        let now = self.server.clock.now();
        let edited = client.edit();
        let edited = match change {
            Change::Update => {
                return Ok(Changed::Registration(ClientMetadata::read(body)?.into_replacement(client)?));
            }
            Change::Delete => return Ok(Changed::Deleted),
            Change::RevokeTokens => return Ok(Changed::TokensRevoked),
            Change::AddSecret => {
                let rotation = rotation(body)?.at(now);
                let secret = ClientSecret::generate_with(&*self.server.random);
                let secret = secret.map_err(|error| AdministrationRefusal::unavailable(&error))?;
                let stored = secret.to_stored().map_err(|error| AdministrationRefusal::unavailable(&error))?;
                let (changed, label) = rotation.apply(client, &stored)?;
                return Ok(Changed::WithSecret(changed.register()?, label, secret));
            }
            Change::AddCredential => return Ok(Changed::Registration(with_credential(client, body)?)),
            Change::RemoveCredential(label) => {
                let has = client.secret(label).is_some() || client.credentials().iter().any(|own| own.label() == label);
                if !has {
                    return Err(AdministrationRefusal::not_found(
                        "the client has no secret or credential with this label",
                    ));
                }
                edited.without_secret(label).without_credential(label)
            }
            Change::Disable => edited.disabled(),
            Change::Enable => edited.enabled(true),
            Change::RefreshKeys => edited.refresh_keys(now),
        };
        Ok(Changed::Registration(edited.register()?))
    }

    /// Checks a registration that results from a request: the rules of the server, the rights of the administrator, and the workloads
    /// and URLs that it did not have before.
    pub(super) fn check_result(
        &self,
        actor: &Actor,
        client: &RegisteredClient,
        before: Option<&RegisteredClient>,
    ) -> Result<(), AdministrationRefusal> {
        self.rights().check(actor, client)?;
        actor.check_new_workloads(client, before)?;
        if let Some(mistake) = client.too_many_credentials(before) {
            return Err(AdministrationRefusal::metadata(format!("credentials: {mistake}")));
        }
        self.server.rules.check(client)?;
        if self.private_key_urls {
            return Ok(());
        }
        let urls = |client: &'_ RegisteredClient| -> Vec<String> {
            client.credentials().iter().filter_map(Credential::keys_url).map(str::to_owned).collect()
        };
        let known = before.map(urls).unwrap_or_default();
        match urls(client).into_iter().find(|url| !known.contains(url) && has_private_host(url)) {
            Some(_) => Err(AdministrationRefusal::metadata(
                "jwks_uri: its host is an address of a private network or of this machine, which is not allowed here",
            )),
            None => Ok(()),
        }
    }

    /// Writes a change, if the administrator is still unchanged.
    pub(super) async fn apply(&self, actor: &Actor, change: ClientChange) -> Result<(), AdminError> {
        let change = change.provided(actor.client.id().clone(), actor.revision);
        let applied = deadline::within(self.server.store_timeout, self.store.apply(change)).await;
        applied.map_err(StoreError::new)?
    }

    pub(super) async fn load(&self, id: &ClientId) -> Result<(Arc<RegisteredClient>, Revision), AdministrationRefusal> {
        let found = deadline::within(self.server.store_timeout, self.store.load(id)).await;
        found.map_err(StoreError::new)??.ok_or_else(AdministrationRefusal::unknown_client)
    }

    pub(super) fn revocations(&self) -> Option<&Revocations> {
        self.server.revocations.as_ref()
    }

    /// Answers a change that the store has made.
    async fn finish(
        &self,
        result: &RegisteredClient,
        is_former: bool,
        secret: Option<(String, ClientSecret)>,
    ) -> Result<Response<Full<Bytes>>, AdministrationRefusal> {
        let finished = async {
            self.after_change(result.id(), is_former).await?;
            let secret = secret.map(|(label, secret)| (Some(label), secret));
            self.shown(StatusCode::OK, result, secret).await
        };
        finished.await.map_err(AdministrationRefusal::after_change)
    }

    /// Lets this process know of the change at once, and revokes the tokens of a former client. Others learn of a change by the feed of
    /// the store.
    pub(super) async fn after_change(&self, id: &ClientId, is_former: bool) -> Result<(), AdministrationRefusal> {
        let Some(revocations) = self.revocations() else { return Ok(()) };
        if is_former {
            revocations.revoke_former_client(id).await?;
        } else {
            revocations.client_changed(id);
        }
        Ok(())
    }

    /// Returns the client after the change, and its new secret, with its label if the caller did not create the client with it.
    ///
    /// If the store made the change, but does not answer now, and there is a secret, it is the registration as it was written, without
    /// a version: the secret is in no other answer. A client that was deleted in the meantime has no use for it.
    pub(super) async fn shown(
        &self,
        status: StatusCode,
        written: &RegisteredClient,
        secret: Option<(Option<String>, ClientSecret)>,
    ) -> Result<Response<Full<Bytes>>, AdministrationRefusal> {
        let (mut body, tag) = match self.load(written.id()).await {
            Ok((client, revision)) => (view::of(&client)?, Some(EntityTag::of(&client, revision)?)),
            Err(refusal) if secret.is_some() && refusal.kind() == AdministrationRefusalKind::Unavailable => {
                (view::of(written)?, None)
            }
            Err(refusal) => return Err(refusal),
        };
        if let Some((label, secret)) = secret {
            body.insert("client_secret".to_owned(), secret.expose().into());
            body.extend(label.map(|label| ("client_secret_label".to_owned(), label.into())));
            // RFC 7591 §3.2.1: 0 means that it never expires.
            body.insert("client_secret_expires_at".to_owned(), 0.into());
        }
        Ok(entity_tag::answer(status, &body, tag))
    }
}

/// The answer to a request whose client is gone, or unchanged (RFC 7592 §2.3).
fn without_content() -> Response<Full<Bytes>> {
    let mut response = json_answer(StatusCode::NO_CONTENT, &Value::Null).map(|_| Full::default());
    response.headers_mut().remove(http::header::CONTENT_TYPE);
    response
}

/// Reads the body of a request for a new secret.
fn rotation(body: &[u8]) -> Result<SecretRotation, AdministrationRefusal> {
    let members = if body.is_empty() { Map::new() } else { object(body)? };
    refuse_unknown(members.keys(), |name| matches!(name, "label" | "keep_old_for"))?;
    let mut rotation = SecretRotation::new();
    match members.get("label") {
        None | Some(Value::Null) => {}
        Some(Value::String(label)) => rotation = rotation.label(label),
        Some(_) => return Err(AdministrationRefusal::metadata("label: must be a string")),
    }
    match members.get("keep_old_for") {
        None | Some(Value::Null) => Ok(rotation),
        Some(seconds) => match seconds.as_u64() {
            Some(seconds) => Ok(rotation.keep_old_for(Duration::from_secs(seconds))),
            None => Err(AdministrationRefusal::metadata("keep_old_for: must be a number of seconds")),
        },
    }
}

/// Returns the client with the credential in the body in addition.
pub(super) fn with_credential(
    client: &RegisteredClient,
    body: &[u8],
) -> Result<RegisteredClient, AdministrationRefusal> {
    let mut record = view::record(client)?;
    let existing = record.get("credentials").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let element = credential(object(body)?.into(), existing)?;
    match record.get_mut("credentials") {
        Some(Value::Array(list)) => list.push(element),
        _ => {
            record.insert("credentials".to_owned(), vec![element].into());
        }
    }
    // A shorthand for all credentials would contradict a credential of another method.
    if client.secrets().is_empty() {
        record.remove("token_endpoint_auth_method");
    }
    registered(record)
}

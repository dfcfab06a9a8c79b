//! Creates a client (RFC 7591 §3).

use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;

use super::actor::Actor;
use super::client_metadata::ClientMetadata;
use super::entity_tag::{self, EntityTag};
use super::idempotency_key::{IdempotencyKey, id_of};
use super::{AdministrationRefusal, AdministrationRefusalKind, Inner, view};
use crate::client_id::ClientId;
use crate::clock::UnixTime;
use crate::registration::RegisteredClient;
use crate::secret::{ClientSecret, SecretError};
use crate::store::{AdminError, ClientChange, StoreError};

/// The number of random bytes of an id.
const ID_BYTES: usize = 18;

impl Inner {
    /// Creates a client. Returns its id also if the request is refused, if the id is known.
    pub(super) async fn create(
        &self,
        actor: &Actor,
        headers: &HeaderMap,
        body: &[u8],
    ) -> (Option<ClientId>, Result<Response<Full<Bytes>>, AdministrationRefusal>) {
        let metadata = match ClientMetadata::read(body) {
            Ok(metadata) => metadata,
            Err(refusal) => return (None, Err(refusal)),
        };
        let (id, has_key) = match self.id_of_new(actor, headers, &metadata) {
            Ok(id) => id,
            Err(refusal) => return (metadata.client_id, Err(refusal)),
        };
        let created = self.create_as(actor, &id, has_key, metadata).await;
        (Some(id), created)
    }

    /// Returns the id of a new client, and whether the request has an idempotency key: the id in the request, or else one from the
    /// key, or else a random one.
    fn id_of_new(
        &self,
        actor: &Actor,
        headers: &HeaderMap,
        metadata: &ClientMetadata,
    ) -> Result<(ClientId, bool), AdministrationRefusal> {
        let key = IdempotencyKey::read(headers)?;
        if let Some(chosen) = &metadata.client_id {
            check_chosen(chosen, actor)?;
        }
        let id = match (&metadata.client_id, &key) {
            // The key would not be remembered, so the same key with another id would create another client.
            (Some(_), Some(_)) => {
                return Err(AdministrationRefusal::request(
                    "send `client_id` or `Idempotency-Key`, not both: a request that repeats a chosen id gets 409",
                ));
            }
            (Some(id), None) => id.clone(),
            (None, Some(key)) => key.client_id(actor.client.id())?,
            (None, None) => {
                let mut bytes = [0; ID_BYTES];
                self.server.random.fill(&mut bytes).map_err(StoreError::new)?;
                id_of(&bytes)?
            }
        };
        Ok((id, key.is_some()))
    }

    async fn create_as(
        &self,
        actor: &Actor,
        id: &ClientId,
        has_key: bool,
        metadata: ClientMetadata,
    ) -> Result<Response<Full<Bytes>>, AdministrationRefusal> {
        let needs_secret = metadata.needs_secret();
        let now = self.server.clock.now();
        let secret = if needs_secret {
            Some(ClientSecret::generate_with(&*self.server.random).map_err(unavailable)?)
        } else {
            None
        };
        let stored = secret.as_ref().map(ClientSecret::to_stored).transpose().map_err(unavailable)?;
        let client = metadata.into_new(id, stored.as_ref(), UnixTime::at(now))?;
        self.check_result(actor, &client, None)?;
        match self.apply(actor, ClientChange::create(client.clone())).await {
            // A request may have asked for the id before, and the answer that it is unknown may be remembered.
            Ok(()) => self.after_change(id, false).await.map_err(AdministrationRefusal::after_change)?,
            Err(AdminError::Exists) if has_key => return self.repeated(id, &client).await,
            Err(AdminError::Exists) => {
                return Err(AdministrationRefusal::conflict(format!(
                    "a client with the id `{id}` exists; choose another id"
                )));
            }
            Err(error) => return Err(error.into()),
        }
        self.created(&client, secret).await.map_err(AdministrationRefusal::after_change)
    }

    /// Answers a request that created the client.
    async fn created(
        &self,
        client: &RegisteredClient,
        secret: Option<ClientSecret>,
    ) -> Result<Response<Full<Bytes>>, AdministrationRefusal> {
        let mut response = self.shown(StatusCode::CREATED, client, secret.map(|secret| (None, secret))).await?;
        if let Ok(location) = HeaderValue::try_from(format!("{}/{}", self.last_segment(), encoded(client.id()))) {
            response.headers_mut().insert(LOCATION, location);
        }
        Ok(response)
    }

    /// Returns the last segment of the path, to which a reference is relative: a proxy may have removed those before it.
    fn last_segment(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Answers a repeated request: with the client of the first one, and without its secret, which was shown once.
    async fn repeated(
        &self,
        id: &ClientId,
        requested: &RegisteredClient,
    ) -> Result<Response<Full<Bytes>>, AdministrationRefusal> {
        let (existing, revision) = self.load(id).await?;
        let comparable = |client: &RegisteredClient| {
            let mut record = view::record(client)?;
            record.remove("client_secrets");
            record.remove("client_id_issued_at");
            Ok::<_, AdministrationRefusal>(record)
        };
        if comparable(&existing)? != comparable(requested)? {
            return Err(AdministrationRefusal::new(
                AdministrationRefusalKind::IdempotencyKeyReused,
                format!(
                    "the client `{id}` of this `Idempotency-Key` exists, and differs from the request; use another key"
                ),
            ));
        }
        Ok(entity_tag::answer(StatusCode::OK, &view::of(&existing)?, Some(EntityTag::of(&existing, revision)?)))
    }
}

/// Checks an id that the administrator chose. It becomes the `sub` of the client's tokens, so it could be the `subject` of another
/// client, the id of a user, or that of a deleted client which an API still knows.
fn check_chosen(id: &ClientId, actor: &Actor) -> Result<(), AdministrationRefusal> {
    if !actor.is_for_administrators {
        return Err(AdministrationRefusal::denied(
            "a chosen `client_id` needs the scope for administrators, since tokens have it as `sub`; omit `client_id`, and the \
             server generates one",
        ));
    }
    // RFC 3986 §5.2.4: clients and proxies remove these segments from the path of a request.
    if matches!(id.as_str(), "." | "..") {
        return Err(AdministrationRefusal::metadata(
            "client_id: `.` and `..` cannot be a segment of a path; choose another id, or omit it",
        ));
    }
    Ok(())
}

fn unavailable(error: SecretError) -> AdministrationRefusal {
    AdministrationRefusal::unavailable(&error)
}

/// Encodes an id as a segment of a path (RFC 3986 §3.3).
fn encoded(id: &ClientId) -> String {
    let mut text = String::new();
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let [high, low] =
                [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16).unwrap_or_default());
            text.extend(['%', high.to_ascii_uppercase(), low.to_ascii_uppercase()]);
        }
    }
    text
}

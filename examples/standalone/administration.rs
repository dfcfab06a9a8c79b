//! The administration of clients over HTTP, for `[administration]`.

use std::num::NonZeroUsize;
use std::sync::Arc;

use tower_client_credentials::administration::{
    ClientAdministration, ClientAdministrationLayer, InvalidAdministration,
};
use tower_client_credentials::registration::{RegisteredClient, WorkloadKey};
use tower_client_credentials::store::{
    AdminError, ChangeFeed, Changes, ClientAdmin, ClientChange, Cursor, ListedClient, Revision, StoreFuture,
};
use tower_client_credentials::{Audience, AuthorizationServer, ClientId, ClientStore, MemoryStore, Scope, Scopes};

use crate::build::clients;
use crate::config::{Config, Mistake, Source};
use crate::store::Store;

/// The scopes of administrators.
pub(crate) fn scopes() -> Scopes {
    ["clients:read", "clients:write", "clients:administrators"].map(Scope::from_static).into_iter().collect()
}

/// Returns the scopes that the server knows.
pub(crate) fn known_scopes(config: &Config) -> Scopes {
    let known: Scopes = config.tokens.scope.iter().cloned().collect();
    if config.administration.audience.is_some() { known.union(&scopes()) } else { known }
}

/// Returns the audience of the administration if the server must be told of it: without any resource, it knows all audiences.
pub(crate) fn resource<'a>(config: &'a Config, source: &Source) -> Result<Option<&'a str>, Mistake> {
    let Some(audience) = config.administration.audience.as_deref() else {
        if config.administration.path.is_some() {
            let why = "has no effect without `audience`; set it to the URL of the administration";
            return Err(source.mistake_in("administration.path", why));
        }
        return Ok(None);
    };
    if let Err(error) = audience.parse::<Audience>() {
        let why = format!("invalid audience `{audience}`: {error}");
        return Err(source.mistake_in("administration.audience", why));
    }
    if let Some(resource) = config.resources.iter().find(|resource| resource.get_ref().audience == *audience) {
        let why = "the audience of the administration must not be a resource; remove it from this list";
        return Err(source.mistake_at(resource.span(), why));
    }
    Ok(Some(audience).filter(|_| !config.resources.is_empty()))
}

/// Returns the layer, if the administration is on.
pub(crate) fn layer(
    config: &Config,
    source: &Source,
    server: &AuthorizationServer,
    store: &Store,
) -> Result<Option<ClientAdministrationLayer>, Mistake> {
    let Some(audience) = &config.administration.audience else { return Ok(None) };
    let clients = ClientsOfTheStore { listed: clients(config, source)?, store: store.clone() };
    let mut builder = ClientAdministration::builder(server, clients, audience);
    if let Some(path) = &config.administration.path {
        builder = builder.path(path);
    }
    // What the service may fetch may also be registered.
    if config.assertions.client_key_urls == "private" {
        builder = builder.dangerous_private_client_key_urls();
    }
    let administration = builder.build().map_err(|error| {
        let setting = if matches!(error, InvalidAdministration::Path(_)) {
            "administration.path"
        } else {
            "administration.audience"
        };
        source.mistake_in(setting, error)
    })?;
    Ok(Some(ClientAdministrationLayer::new(administration)))
}

/// The clients of the store. Those of the configuration file can be changed only there, and their ids cannot be taken: the service
/// does not start if a client is in both.
#[derive(Clone, Debug)]
struct ClientsOfTheStore {
    listed: MemoryStore,
    store: Store,
}

impl ClientStore for ClientsOfTheStore {
    fn find<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>> {
        self.store.find(id)
    }

    fn find_by_workload<'a>(&'a self, keys: &'a [WorkloadKey]) -> StoreFuture<'a, Option<Vec<ClientId>>> {
        self.store.find_by_workload(keys)
    }
}

impl ClientAdmin for ClientsOfTheStore {
    fn apply(&self, change: ClientChange) -> StoreFuture<'_, (), AdminError> {
        StoreFuture::new(async move {
            match self.listed.find(change.client_id()).await? {
                Some(_) => Err(AdminError::Exists),
                None => self.store.apply(change).await,
            }
        })
    }

    fn load<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<(Arc<RegisteredClient>, Revision)>> {
        self.store.load(id)
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a ClientId>,
        limit: NonZeroUsize,
    ) -> StoreFuture<'a, Vec<Arc<RegisteredClient>>> {
        self.store.list(after, limit)
    }

    fn list_entries<'a>(
        &'a self,
        after: Option<&'a ClientId>,
        limit: NonZeroUsize,
    ) -> StoreFuture<'a, Vec<ListedClient>> {
        self.store.list_entries(after, limit)
    }
}

impl ChangeFeed for ClientsOfTheStore {
    fn changes<'a>(&'a self, cursor: &'a Cursor) -> StoreFuture<'a, Changes> {
        self.store.changes(cursor)
    }
}

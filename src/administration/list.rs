//! The requests that only read: a page of clients, and one client.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::{Map, Value, json};

use super::entity_tag::{self, EntityTag};
use super::page::Page;
use super::{AdministrationRefusal, Inner, view};
use crate::client_id::ClientId;
use crate::deadline;
use crate::store::{ListedClient, StoreError};
use crate::transport::json_answer;

impl Inner {
    pub(super) async fn list(&self, query: Option<&str>) -> Result<Response<Full<Bytes>>, AdministrationRefusal> {
        let Page { after, limit } = Page::read(query)?;
        // One more, to find out whether there is another page.
        let one_more = limit.saturating_add(1);
        let found = deadline::within(self.server.store_timeout, self.store.list_entries(after.as_ref(), one_more));
        let mut entries = found.await.map_err(StoreError::new)??;
        let has_more = entries.len() > limit.get();
        entries.truncate(limit.get());
        let shown = entries.iter().map(|entry| match entry {
            ListedClient::Client(client) => Ok(Value::from(view::of(client)?)),
            // The reason may quote the record.
            ListedClient::Unreadable { client_id, .. } => Ok(json!({ "client_id": client_id, "is_unreadable": true })),
        });
        let mut page = Map::new();
        page.insert("clients".to_owned(), shown.collect::<Result<Vec<_>, AdministrationRefusal>>()?.into());
        if let Some(last) = entries.last().filter(|_| has_more) {
            page.insert("next".to_owned(), last.client_id().as_str().into());
        }
        Ok(json_answer(StatusCode::OK, &page))
    }

    pub(super) async fn read(&self, id: &ClientId) -> Result<Response<Full<Bytes>>, AdministrationRefusal> {
        let (client, revision) = self.load(id).await?;
        Ok(entity_tag::answer(StatusCode::OK, &view::of(&client)?, Some(EntityTag::of(&client, revision)?)))
    }
}

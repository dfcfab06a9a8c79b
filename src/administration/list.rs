//! The requests that only read: a page of clients, and one client.

use bytes::Bytes;
use http::header::ETAG;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::{Map, Value};

use super::entity_tag::EntityTag;
use super::page::Page;
use super::{AdministrationRefusal, Inner, view};
use crate::client_id::ClientId;
use crate::deadline;
use crate::store::StoreError;

impl Inner {
    pub(super) async fn list(&self, query: Option<&str>) -> Result<Response<Full<Bytes>>, AdministrationRefusal> {
        let Page { after, limit } = Page::read(query)?;
        // One more, to find out whether there is another page.
        let one_more = limit.saturating_add(1);
        let found = deadline::within(self.server.store_timeout, self.store.list(after.as_ref(), one_more)).await;
        let mut clients = found.map_err(StoreError::new)??;
        let has_more = clients.len() > limit.get();
        clients.truncate(limit.get());
        let shown = clients.iter().map(|client| Ok(Value::from(view::of(client)?)));
        let mut page = Map::new();
        page.insert("clients".to_owned(), shown.collect::<Result<Vec<_>, AdministrationRefusal>>()?.into());
        if let Some(last) = clients.last().filter(|_| has_more) {
            page.insert("next".to_owned(), last.id().as_str().into());
        }
        Ok(view::json(StatusCode::OK, &page.into()))
    }

    pub(super) async fn read(&self, id: &ClientId) -> Result<Response<Full<Bytes>>, AdministrationRefusal> {
        let (client, revision) = self.load(id).await?;
        let mut response = view::json(StatusCode::OK, &view::of(&client)?.into());
        response.headers_mut().insert(ETAG, EntityTag::of(&client, revision)?.into_header());
        Ok(response)
    }
}

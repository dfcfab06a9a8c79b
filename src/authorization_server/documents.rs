//! [`Documents`]: the key set and the metadata, rendered once for each change of the keys.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;

use crate::debug_fields::debug_fields;
use crate::keys::{KeyRing, KeySnapshot};
use crate::transport::{Document, DocumentSettings, InvalidDocument};

type RenderMetadata = Box<dyn Fn(&KeySnapshot) -> Result<Document, InvalidDocument> + Send + Sync>;

/// The documents of a server. They follow its key ring.
pub(super) struct Documents {
    keys: KeyRing,
    settings: DocumentSettings,
    metadata: RenderMetadata,
    rendered: ArcSwap<Rendered>,
}

struct Rendered {
    of: Arc<KeySnapshot>,
    jwks: Document,
    metadata: Document,
}

impl Documents {
    pub(super) fn new(
        keys: KeyRing,
        settings: DocumentSettings,
        metadata: impl Fn(&KeySnapshot) -> Result<Document, InvalidDocument> + Send + Sync + 'static,
    ) -> Result<Self, InvalidDocument> {
        let rendered = Rendered::new(keys.snapshot(), settings, &metadata)?;
        Ok(Self { keys, settings, metadata: Box::new(metadata), rendered: ArcSwap::from_pointee(rendered) })
    }

    /// Answers with the key set. A server that was cut off from its key store does not know it: a cache that kept an old set could
    /// refuse the tokens of other replicas.
    pub(super) fn answer_jwks(&self, head: &Parts) -> Response<Full<Bytes>> {
        let rendered = self.current();
        if rendered.of.is_cut_off() {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            return response;
        }
        rendered.jwks.answer(head)
    }

    pub(super) fn answer_metadata(&self, head: &Parts) -> Response<Full<Bytes>> {
        self.current().metadata.answer(head)
    }

    /// Returns the documents of the current keys. The first request after a change renders them.
    fn current(&self) -> Arc<Rendered> {
        let rendered = self.rendered.load_full();
        let keys = self.keys.snapshot();
        if Arc::ptr_eq(&rendered.of, &keys) {
            return rendered;
        }
        match Rendered::new(keys, self.settings, &self.metadata) {
            Ok(new) => {
                let new = Arc::new(new);
                self.rendered.store(new.clone());
                new
            }
            Err(error) => {
                tracing::error!(%error, "cannot render the key set and the metadata; the previous ones are served");
                rendered
            }
        }
    }
}

impl Rendered {
    fn new(
        of: Arc<KeySnapshot>,
        settings: DocumentSettings,
        metadata: &impl Fn(&KeySnapshot) -> Result<Document, InvalidDocument>,
    ) -> Result<Self, InvalidDocument> {
        let max_age = of.max_age().unwrap_or(settings.max_age);
        let jwks =
            Document::new("application/jwk-set+json", &of.to_jwk_set(), DocumentSettings { max_age, ..settings })?;
        let metadata = metadata(&of)?;
        Ok(Self { of, jwks, metadata })
    }
}

debug_fields!(Documents { settings });

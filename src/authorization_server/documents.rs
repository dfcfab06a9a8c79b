//! [`Documents`]: the key set and the metadata, rendered once for each change of the keys.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::Response;
use http::request::Parts;
use http_body_util::Full;

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

    pub(super) fn answer_jwks(&self, head: &Parts) -> Response<Full<Bytes>> {
        self.current().jwks.answer(head)
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
        let jwks = Document::new("application/jwk-set+json", &of.to_jwk_set(), settings)?;
        let metadata = metadata(&of)?;
        Ok(Self { of, jwks, metadata })
    }
}

impl fmt::Debug for Documents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Documents").field("settings", &self.settings).finish_non_exhaustive()
    }
}

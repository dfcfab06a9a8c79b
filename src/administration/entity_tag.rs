//! [`EntityTag`]: the version of a client, for conditional requests (RFC 9110 §13.1.1).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{ETAG, IF_MATCH};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Map, Value};

use super::{AdministrationRefusal, view};
use crate::crypto::sha256;
use crate::registration::RegisteredClient;
use crate::store::{Revision, StoreError};
use crate::transport::{json_answer, names_strongly};

/// The strong validator of a client: its revision in the store, and a digest of what an administrator sees of it.
///
/// The revision changes with each change, also of a secret. In a store that counts anew after a restart, the digest tells two
/// clients with one revision apart. No secret and no digest of one is part of it.
pub(super) struct EntityTag(HeaderValue);

/// The number of bytes of the digest.
const DIGEST_BYTES: usize = 12;

impl EntityTag {
    pub(super) fn of(client: &RegisteredClient, revision: Revision) -> Result<Self, AdministrationRefusal> {
        let shown = serde_json::to_vec(&view::of(client)?).map_err(StoreError::new)?;
        let digest = sha256(&shown);
        let digest = URL_SAFE_NO_PAD.encode(digest.get(..DIGEST_BYTES).unwrap_or(&digest));
        let tag = format!("\"{revision}-{digest}\"");
        Ok(Self(HeaderValue::try_from(tag).map_err(StoreError::new)?))
    }

    /// Checks the condition of a change. It must be there, so that no change undoes another one that its sender did not see.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), AdministrationRefusal> {
        let mut conditions = headers.get_all(IF_MATCH).iter().peekable();
        if conditions.peek().is_none() {
            return Err(AdministrationRefusal::unconditional());
        }
        let holds = conditions.any(|condition| names_strongly(condition.as_bytes(), self.0.as_bytes()));
        if holds { Ok(()) } else { Err(AdministrationRefusal::stale()) }
    }
}

/// Returns an answer that no cache stores (RFC 7591 §3.2.1), with the version of the client that it shows, if it is known.
pub(super) fn answer(
    status: StatusCode,
    shown: &Map<String, Value>,
    version: Option<EntityTag>,
) -> Response<Full<Bytes>> {
    let mut response = json_answer(status, shown);
    response.headers_mut().extend(version.map(|EntityTag(version)| (ETAG, version)));
    response
}

//! Reads the record of a client in a store, and names the client in the error.

use serde::Deserialize;

use super::Record;
use crate::client_id::ClientId;
use crate::object::Object;
use crate::registration::{ClientError, RegisteredClient};

/// Reads a record in JSON from a store. The path of a member is determined only for an invalid record, because that
/// takes time.
pub(crate) fn from_json(text: &str) -> Result<RegisteredClient, InvalidRecord> {
    if let Ok(Object(record)) = serde_json::from_str::<Object<Record>>(text) {
        return Ok(record.register()?);
    }
    serde_json::from_str(text).map_err(|error| {
        let id = serde_json::from_str::<Object<Named>>(text).map(|Object(named)| named.client_id);
        let id = id.ok().and_then(|id| id.parse::<ClientId>().ok());
        InvalidRecord::Malformed(match id {
            Some(id) => format!("client `{id}`: {error}"),
            None => format!("a client's record: {error}"),
        })
    })
}

/// The error for an invalid record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidRecord {
    #[error("{0}")]
    Malformed(String),
    #[error(transparent)]
    Client(#[from] ClientError),
}

#[derive(Deserialize)]
struct Named {
    client_id: String,
}

#[cfg(test)]
mod tests {
    use super::{InvalidRecord, from_json};
    use crate::registration::ClientErrorKind;

    #[test]
    fn the_error_of_a_record_that_does_not_fit_together_has_the_kind_of_a_record() {
        let record = r#"{"client_id":"billing","audiences":["api"]}"#;
        let Err(InvalidRecord::Client(error)) = from_json(record) else { panic!("`api` is no audience") };
        assert_eq!((error.kind(), error.client()), (ClientErrorKind::Record, "billing"), "{error}");
    }
}

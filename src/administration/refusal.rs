//! [`AdministrationRefusal`]: why a request of an administrator was not carried out, and its answer.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;

use super::AdministrationRefusalKind as Kind;
use crate::event::Failure;
use crate::quoted::{OneLine, with_sources};
use crate::registration::ClientError;
use crate::scope::Scope;
use crate::store::{AdminError, StoreError};
use crate::transport::json_answer;

/// Why a request to the administration API was not carried out. Its `Display` is for the operator.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}: {}", .0.kind.code(), OneLine(&.0.text, MAX_SHOWN))]
pub struct AdministrationRefusal(Box<Refusal>);

#[derive(Clone, Debug)]
struct Refusal {
    kind: Kind,
    text: Cow<'static, str>,
    /// What the caller does not learn: the error of a part that did not answer.
    internal: Option<String>,
    header: Option<(http::HeaderName, HeaderValue)>,
    /// Whether another change came first, so that the request can be decided again.
    is_race: bool,
    /// Whether the change was made nevertheless, and only a later step failed.
    was_made: bool,
}

/// The maximum length of the text for the operator, in bytes. It can repeat text of the request.
const MAX_SHOWN: usize = 1_024;

/// The maximum length of a description, in bytes.
const MAX_DESCRIPTION: usize = 600;

impl AdministrationRefusal {
    pub(super) fn new(kind: Kind, text: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Refusal {
            kind,
            text: text.into(),
            internal: None,
            header: None,
            is_race: false,
            was_made: false,
        }))
    }

    /// RFC 7591 §3.2.2.
    pub(super) fn metadata(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::InvalidClientMetadata, text)
    }

    pub(super) fn request(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::InvalidRequest, text)
    }

    pub(super) fn denied(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::AccessDenied, text)
    }

    /// RFC 6750 §3.1: the token lacks a scope.
    pub(super) fn insufficient_scope(scope: &Scope) -> Self {
        let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"");
        let text = format!("this needs a token with the scope `{scope}`");
        let mut refusal = Self::new(Kind::InsufficientScope, text);
        refusal.0.header = HeaderValue::try_from(challenge).ok().map(|challenge| (WWW_AUTHENTICATE, challenge));
        refusal
    }

    pub(super) fn unknown_client() -> Self {
        Self::new(Kind::NotFound, "there is no client with this id")
    }

    pub(super) fn not_found(text: &'static str) -> Self {
        Self::new(Kind::NotFound, text)
    }

    pub(super) fn conflict(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Conflict, text)
    }

    pub(super) fn stale() -> Self {
        let text = "the client has changed since it was read; read it again, and send its `ETag` in `If-Match`";
        Self::new(Kind::PreconditionFailed, text)
    }

    /// RFC 6585 §3.
    pub(super) fn unconditional() -> Self {
        let text = "a change needs `If-Match` with the `ETag` of the client that was read";
        Self::new(Kind::PreconditionRequired, text)
    }

    pub(super) fn method(allowed: &'static str) -> Self {
        let text = "the method is not supported here";
        let mut refusal = Self::new(Kind::MethodNotAllowed, text);
        refusal.0.header = Some((ALLOW, HeaderValue::from_static(allowed)));
        refusal
    }

    pub(super) fn unavailable(error: &(dyn std::error::Error + 'static)) -> Self {
        let text = "a part of the service does not answer; try again later";
        let mut refusal = Self::new(Kind::Unavailable, text);
        refusal.0.internal = Some(with_sources(error));
        refusal.0.header = Some((RETRY_AFTER, HeaderValue::from_static("1")));
        refusal
    }

    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Returns the HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.kind.status()
    }

    /// Returns the code in the member `error`: `invalid_client_metadata` (RFC 7591 §3.2.2), `insufficient_scope` (RFC 6750
    /// §3.1), or one of this API, such as `access_denied`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.0.kind.code()
    }

    /// Returns the text for the caller.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.0.text
    }

    /// Marks a failure after the change was made.
    pub(super) fn after_change(mut self) -> Self {
        self.0.was_made = true;
        self
    }

    /// Returns whether the change was made nevertheless: the store has it, but a later step did not answer.
    #[must_use]
    pub fn was_made(&self) -> bool {
        self.0.was_made
    }

    pub(super) fn is_race(&self) -> bool {
        self.0.is_race
    }

    pub(super) fn internal(&self) -> Option<&str> {
        self.0.internal.as_deref()
    }

    pub(super) fn response(&self) -> Response<Full<Bytes>> {
        let body = json!({ "error": self.0.kind.code(), "error_description": ascii(&self.0.text) });
        let mut response = json_answer(self.0.kind.status(), &body);
        if let Some((name, value)) = self.0.header.clone() {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl From<StoreError> for AdministrationRefusal {
    fn from(error: StoreError) -> Self {
        Self::unavailable(&error)
    }
}

impl From<ClientError> for AdministrationRefusal {
    fn from(error: ClientError) -> Self {
        Self::metadata(error.mistake().to_owned())
    }
}

impl From<AdminError> for AdministrationRefusal {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Exists => Self::conflict("a client with this id exists"),
            AdminError::NotFound => Self::unknown_client(),
            AdminError::Conflict => {
                let mut refusal =
                    Self::conflict("the client or the administrator was changed at the same time; try again");
                refusal.0.is_race = true;
                refusal
            }
            AdminError::Invalid(error) => error.into(),
            AdminError::Secret(error) => Self::metadata(error.to_string()),
            AdminError::Store(error) => error.into(),
        }
    }
}

impl From<AdministrationRefusal> for Failure {
    fn from(refusal: AdministrationRefusal) -> Self {
        Self::new(refusal.code(), refusal.status(), refusal)
    }
}

/// RFC 7591 §3.2.2: the description is ASCII text.
fn ascii(text: &str) -> String {
    let mut ascii = String::new();
    for character in text.chars() {
        if ascii.len() >= MAX_DESCRIPTION {
            ascii.push_str("...");
            break;
        }
        match character {
            '…' => ascii.push_str("..."),
            ' '..='~' => ascii.push(character),
            _ => ascii.push('?'),
        }
    }
    ascii
}

#[cfg(test)]
mod tests {
    use super::ascii;

    #[test]
    fn a_request_writes_neither_lines_nor_long_texts_into_the_log() {
        let text = format!("unknown field `a\n2026-01-01 ERROR forged\u{1b}[2J{}`", "x".repeat(5_000));
        let shown = super::AdministrationRefusal::metadata(text).to_string();
        assert!(
            shown.starts_with("invalid_client_metadata: unknown field `a\\n2026-01-01 ERROR forged\\u{1b}"),
            "{shown}"
        );
        assert!(!shown.contains(char::is_control) && shown.len() < 1_200, "{shown}");
    }

    #[test]
    fn a_description_is_ascii_and_has_a_bounded_length() {
        assert_eq!(ascii("add .audience(…) – or\n not"), "add .audience(...) ? or? not");
        let long = ascii(&"é".repeat(10_000));
        assert!(long.len() < 700 && long.is_ascii(), "{} bytes", long.len());
    }
}

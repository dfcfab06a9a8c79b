//! [`Line`]: an event as one JSON object, in the schema that `manual/observability.md` documents.

use std::net::IpAddr;
use std::time::SystemTime;

use serde::Serialize;

use super::{Event, Failure, Outcome, UsedCredential};
use crate::audience::Audience;
use crate::client_id::ClientId;
use crate::clock::Rfc3339;

/// One line. A member without a value is left out. The names and their meanings do not change; later versions may add members.
#[derive(Default, Serialize)]
pub(super) struct Line<'a> {
    time: String,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authenticated: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    administrator: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    newer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audiences: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<u64>,
}

impl<'a> Line<'a> {
    pub(super) fn of(event: &'a Event, caller: Option<IpAddr>) -> Self {
        let line = Self {
            time: Rfc3339(event.at).to_string(),
            event: event.outcome.name(),
            client_id: event.client_id.as_ref().map(ClientId::as_str),
            caller,
            ..Self::default()
        };
        line.with(&event.outcome)
    }

    /// Returns the line that says how many events were lost since the last such line.
    pub(super) fn of_gap(at: SystemTime, lost: u64) -> Self {
        Self { time: Rfc3339(at).to_string(), event: "audit_log_gap", lost: Some(lost), ..Self::default() }
    }

    /// Returns the line with its end.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).unwrap_or_default(); // strings and numbers can always be written
        bytes.push(b'\n');
        bytes
    }

    fn with(self, outcome: &'a Outcome) -> Self {
        let text = |scopes: &'a crate::scope::Scopes| Some(scopes.as_str()).filter(|text| !text.is_empty());
        let time = |time: SystemTime| Some(Rfc3339(time).to_string());
        match outcome {
            Outcome::Issued { token_id, key_id, scopes, audiences, credential } => Self {
                token_id: Some(token_id),
                key_id: Some(key_id),
                scope: text(scopes),
                audiences: Some(audiences.iter().map(Audience::as_str).collect()),
                ..self.by(credential)
            },
            Outcome::Revoked { token_id, credential } | Outcome::Introspected { token_id, credential } => {
                Self { token_id: token_id.as_deref(), ..self.by(credential) }
            }
            Outcome::AuthenticationFailed(failure) => Self { authenticated: Some(false), ..self.failed(failure) },
            Outcome::Refused(failure)
            | Outcome::Unavailable(failure)
            | Outcome::Rejected(failure)
            | Outcome::VerificationUnavailable(failure)
            | Outcome::WouldReject(failure) => self.failed(failure),
            Outcome::OldSecretUsed { label, newer } => {
                Self { authenticated: Some(true), credential: Some(label), newer: Some(newer), ..self }
            }
            Outcome::LegacyAssertionUsed { claim, until } => Self { claim: Some(claim), until: time(*until), ..self },
            Outcome::InvalidRegistration { reason }
            | Outcome::StoreLostData { reason }
            | Outcome::KeyRingRefused { reason }
            | Outcome::AuditLogFailed { reason } => Self { detail: Some(reason.clone()), ..self },
            Outcome::KeyRingChanged { key_id, step } => Self { key_id: Some(key_id), step: Some(step), ..self },
            Outcome::DefaultServiceAccountUsed | Outcome::AudienceParameterIgnored | Outcome::AdmittedByApiKey => {
                Self { authenticated: Some(true), ..self }
            }
            Outcome::Admitted { token_id } => Self { authenticated: Some(true), token_id: Some(token_id), ..self },
            Outcome::ClientAdministered { operation, client, token_id } => {
                let line = self.administered(operation, token_id);
                Self { client_id: Some(client.as_str()), ..line }
            }
            Outcome::AdministrationRefused { operation, client, token_id, failure } => {
                let line = self.administered(operation, token_id).failed(failure);
                Self { client_id: client.as_ref().map(ClientId::as_str), ..line }
            }
            Outcome::TokenObtained { issuer, scopes, expires_at, .. } => {
                Self { issuer: Some(issuer.as_str()), scope: text(scopes), until: expires_at.and_then(time), ..self }
            }
            Outcome::TokenNotObtained { issuer, scopes, failure, .. } => {
                Self { issuer: Some(issuer.as_str()), scope: text(scopes), ..self.failed(failure) }
            }
            Outcome::ObtainedTokenRefused { issuer, .. } => Self { issuer: Some(issuer.as_str()), ..self },
        }
    }

    fn by(self, credential: &'a UsedCredential) -> Self {
        let label = Some(credential.label()).filter(|label| !label.is_empty());
        Self { authenticated: Some(true), method: Some(credential.method()), credential: label, ..self }
    }

    fn failed(self, failure: &'a Failure) -> Self {
        let (reason, status) = (failure.reason(), failure.status().as_u16());
        Self { reason: Some(reason), status: Some(status), detail: Some(failure.to_string()), ..self }
    }

    /// The client of such an event is the administrator, who was authenticated.
    fn administered(self, operation: &'static str, token_id: &'a str) -> Self {
        Self {
            authenticated: Some(true),
            administrator: self.client_id,
            operation: Some(operation),
            token_id: Some(token_id),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use http::{Extensions, StatusCode};
    use serde_json::Value;

    use super::Line;
    use crate::client_id::ClientId;
    use crate::event::{Event, Failure, Outcome, UsedCredential};
    use crate::issuer::Issuer;
    use crate::scope::{Scope, Scopes};
    use crate::text::Text;
    use crate::uri::PlainHttp;

    fn at(millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(1_795_949_729_000 + millis)
    }

    fn failure(reason: &'static str, status: StatusCode) -> Failure {
        Failure::new(reason, status, std::io::Error::other("the text for the operator"))
    }

    fn line(outcome: Outcome) -> String {
        let client_id = Some(ClientId::from_static("billing"));
        let event = Event { at: at(250), outcome, client_id, extensions: Extensions::new() };
        String::from_utf8(Line::of(&event, Some([198, 51, 100, 7].into())).to_bytes()).unwrap()
    }

    /// One outcome of each kind, with the rest of its line after the time.
    #[allow(clippy::too_many_lines)] // a table
    fn all() -> Vec<(Outcome, &'static str)> {
        let credential = || UsedCredential::new("client_secret_basic", Text::Literal("2026"));
        let issuer = || Issuer::new("https://auth.example.com", PlainHttp::AnyHost).unwrap();
        let scopes = || Scopes::from([Scope::from_static("read"), Scope::from_static("write")]);
        let client = || ClientId::from_static("reports");
        let (jti, reason) = (|| "jti-1".to_owned(), || "why".to_owned());
        let audiences = || vec!["https://api.example.com".parse().unwrap()];
        vec![
            (
                Outcome::Issued {
                    token_id: jti(),
                    key_id: "kid-1".to_owned(),
                    scopes: scopes(),
                    audiences: audiences(),
                    credential: credential(),
                },
                r#""event":"issued","client_id":"billing","authenticated":true,"method":"client_secret_basic","credential":"2026","token_id":"jti-1","key_id":"kid-1","scope":"read write","audiences":["https://api.example.com"],"caller":"198.51.100.7"}"#,
            ),
            (
                Outcome::Revoked { token_id: Some(jti()), credential: credential() },
                r#""event":"revoked","client_id":"billing","authenticated":true,"method":"client_secret_basic","credential":"2026","token_id":"jti-1","caller":"198.51.100.7"}"#,
            ),
            (
                Outcome::Introspected { token_id: None, credential: credential() },
                r#""event":"introspected","client_id":"billing","authenticated":true,"method":"client_secret_basic","credential":"2026","caller":"198.51.100.7"}"#,
            ),
            (
                Outcome::AuthenticationFailed(failure("invalid_client", StatusCode::UNAUTHORIZED)),
                r#""event":"authentication_failed","client_id":"billing","authenticated":false,"reason":"invalid_client","status":401,"detail":"the text for the operator","caller":"198.51.100.7"}"#,
            ),
            (
                Outcome::Refused(failure("invalid_scope", StatusCode::BAD_REQUEST)),
                r#""event":"refused","client_id":"billing","reason":"invalid_scope","status":400,"detail":"the text for the operator","caller":"198.51.100.7"}"#,
            ),
            (
                Outcome::Unavailable(failure("temporarily_unavailable", StatusCode::SERVICE_UNAVAILABLE)),
                r#""event":"unavailable","client_id":"billing","reason":"temporarily_unavailable","status":503,"detail":"the text for the operator","caller":"198.51.100.7"}"#,
            ),
            (
                Outcome::OldSecretUsed { label: "1".to_owned(), newer: "2".to_owned() },
                r#""event":"old_secret_used","client_id":"billing","authenticated":true,"credential":"1","newer":"2","caller":"198.51.100.7"}"#,
            ),
            (
                Outcome::LegacyAssertionUsed { claim: "aud", until: at(0) },
                r#""event":"legacy_assertion_used","client_id":"billing","claim":"aud","until":"2026-11-29T10:55:29Z","caller":"198.51.100.7"}"#,
            ),
            (
                Outcome::DefaultServiceAccountUsed,
                r#""event":"default_service_account_used","client_id":"billing","authenticated":true,"caller":"198.51.100.7"}"#,
            ),
            (
                Outcome::InvalidRegistration { reason: reason() },
                r#""event":"invalid_registration","client_id":"billing","detail":"why","caller":"198.51.100.7"}"#,
            ),
            (
                Outcome::StoreLostData { reason: reason() },
                r#""event":"store_lost_data","client_id":"billing","detail":"why","caller":"198.51.100.7"}"#,
            ),
            (
                Outcome::KeyRingChanged { key_id: "kid-1".to_owned(), step: "signing" },
                r#""event":"key_ring_changed","client_id":"billing","key_id":"kid-1","step":"signing","caller":"198.51.100.7"}"#,
            ),
            (
                Outcome::KeyRingRefused { reason: reason() },
                r#""event":"key_ring_refused","client_id":"billing","detail":"why","caller":"198.51.100.7"}"#,
            ),
            (
                Outcome::AuditLogFailed { reason: reason() },
                r#""event":"audit_log_failed","client_id":"billing","detail":"why","caller":"198.51.100.7"}"#,
            ),
            (
                Outcome::AudienceParameterIgnored,
                r#""event":"audience_parameter_ignored","client_id":"billing","authenticated":true,"caller":"198.51.100.7"}"#,
            ),
            (
                Outcome::Admitted { token_id: jti() },
                r#""event":"admitted","client_id":"billing","authenticated":true,"token_id":"jti-1","caller":"198.51.100.7"}"#,
            ),
            (
                Outcome::AdmittedByApiKey,
                r#""event":"admitted_by_api_key","client_id":"billing","authenticated":true,"caller":"198.51.100.7"}"#,
            ),
            (
                Outcome::Rejected(failure("revoked", StatusCode::UNAUTHORIZED)),
                r#""event":"rejected","client_id":"billing","reason":"revoked","status":401,"detail":"the text for the operator","caller":"198.51.100.7"}"#,
            ),
            (
                Outcome::VerificationUnavailable(failure("keys", StatusCode::SERVICE_UNAVAILABLE)),
                r#""event":"verification_unavailable","client_id":"billing","reason":"keys","status":503,"detail":"the text for the operator","caller":"198.51.100.7"}"#,
            ),
            (
                Outcome::WouldReject(failure("expired", StatusCode::UNAUTHORIZED)),
                r#""event":"would_reject","client_id":"billing","reason":"expired","status":401,"detail":"the text for the operator","caller":"198.51.100.7"}"#,
            ),
            (
                Outcome::ClientAdministered { operation: "disable", client: client(), token_id: jti() },
                r#""event":"client_administered","client_id":"reports","authenticated":true,"administrator":"billing","operation":"disable","token_id":"jti-1","caller":"198.51.100.7"}"#,
            ),
            (
                Outcome::AdministrationRefused {
                    operation: "disable",
                    client: Some(client()),
                    token_id: jti(),
                    failure: failure("insufficient_rights", StatusCode::FORBIDDEN),
                },
                r#""event":"administration_refused","client_id":"reports","authenticated":true,"administrator":"billing","operation":"disable","token_id":"jti-1","reason":"insufficient_rights","status":403,"detail":"the text for the operator","caller":"198.51.100.7"}"#,
            ),
            (
                Outcome::TokenObtained {
                    issuer: issuer(),
                    scopes: scopes(),
                    expires_at: Some(at(0)),
                    waiting: 1,
                    duration: Duration::ZERO,
                },
                r#""event":"token_obtained","client_id":"billing","scope":"read write","issuer":"https://auth.example.com","until":"2026-11-29T10:55:29Z","caller":"198.51.100.7"}"#,
            ),
            (
                Outcome::TokenNotObtained {
                    issuer: issuer(),
                    scopes: Scopes::NONE,
                    failure: failure("refused", StatusCode::SERVICE_UNAVAILABLE),
                    waiting: 1,
                    duration: Duration::ZERO,
                },
                r#""event":"token_not_obtained","client_id":"billing","issuer":"https://auth.example.com","reason":"refused","status":503,"detail":"the text for the operator","caller":"198.51.100.7"}"#,
            ),
            (
                Outcome::ObtainedTokenRefused { issuer: issuer(), explained: true },
                r#""event":"obtained_token_refused","client_id":"billing","issuer":"https://auth.example.com","caller":"198.51.100.7"}"#,
            ),
        ]
    }

    #[test]
    fn each_event_is_one_line_in_the_documented_schema() {
        for (outcome, expected) in all() {
            assert_eq!(line(outcome), format!("{{\"time\":\"2026-11-29T10:55:29.250Z\",{expected}\n"));
        }
        let gap = Line::of_gap(at(0), 3).to_bytes();
        assert_eq!(
            String::from_utf8(gap).unwrap(),
            "{\"time\":\"2026-11-29T10:55:29Z\",\"event\":\"audit_log_gap\",\"lost\":3}\n"
        );
    }

    #[test]
    fn a_line_break_in_a_text_does_not_end_the_line() {
        let line = line(Outcome::KeyRingRefused { reason: "a\nb\r\"c".to_owned() });
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["detail"], "a\nb\r\"c");
    }

    /// Returns the names in the first column of a table of the page, between two lines.
    fn listed(page: &str, from: &str, to: &str) -> BTreeSet<String> {
        let section = page.split(from).nth(1).and_then(|rest| rest.split(to).next()).unwrap();
        let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        cells.map(str::to_owned).collect()
    }

    #[test]
    fn the_manual_lists_every_event_and_every_member_of_the_lines() {
        let page = include_str!("../../manual/observability.md");
        let lines: Vec<Value> =
            all().into_iter().map(|(outcome, _)| serde_json::from_str(&line(outcome)).unwrap()).collect();
        let gap: Value = serde_json::from_slice(&Line::of_gap(at(0), 1).to_bytes()).unwrap();
        let lines = || lines.iter().chain([&gap]);
        let events: BTreeSet<String> = lines().map(|line| line["event"].as_str().unwrap().to_owned()).collect();
        assert_eq!(listed(page, "\n| `event` of a line |", "\n\n"), events);
        let members: BTreeSet<String> = lines().flat_map(|line| line.as_object().unwrap().keys().cloned()).collect();
        assert_eq!(listed(page, "\n| member of a line |", "\n\n"), members);
    }
}

//! [`Outcome`]: the content of an event, with owned data only.

use std::time::{Duration, SystemTime};

use super::Failure;
use crate::audience::Audience;
use crate::client_id::ClientId;
use crate::issuer::Issuer;
use crate::scope::Scopes;
use crate::text::Text;

/// The result of a decision.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The token endpoint issued a token.
    #[non_exhaustive]
    Issued {
        /// The id of the token (`jti`).
        token_id: String,
        /// The `kid` of the key that signed it.
        key_id: String,
        /// The scopes of the token.
        scopes: Scopes,
        /// The audiences of the token.
        audiences: Vec<Audience>,
        /// The credential by which the client authenticated.
        credential: UsedCredential,
    },
    /// The revocation endpoint answered a request with success.
    #[non_exhaustive]
    Revoked {
        /// The id of the revoked token (`jti`). `None` if there was nothing to revoke: the token had expired, belonged
        /// to another client, or was invalid.
        token_id: Option<String>,
        /// The credential by which the client authenticated.
        credential: UsedCredential,
    },
    /// The introspection endpoint answered a request with success.
    #[non_exhaustive]
    Introspected {
        /// The id of the token (`jti`). `None` if the token is not active.
        token_id: Option<String>,
        /// The credential by which the client authenticated.
        credential: UsedCredential,
    },
    /// The token, revocation or introspection endpoint could not authenticate the client.
    AuthenticationFailed(Failure),
    /// The token, revocation or introspection endpoint refused a request for a reason other than authentication.
    Refused(Failure),
    /// The token, revocation or introspection endpoint could not decide: a part that it needs did not answer, or was at
    /// its limit.
    Unavailable(Failure),
    /// A client authenticated with a secret that it should have replaced by a newer one. Sent in addition to the
    /// decision, once an hour for each secret.
    #[non_exhaustive]
    OldSecretUsed {
        /// The label of the secret that the client used.
        label: String,
        /// The label of a newer secret that is valid, too.
        newer: String,
    },
    /// A client authenticated with an assertion that is accepted only because of
    /// [`Client::legacy_assertions_until`](crate::Client::legacy_assertions_until). Sent in addition to the decision, for
    /// each use.
    #[non_exhaustive]
    LegacyAssertionUsed {
        /// The claim that differs from the rules: `aud`, the URL of the token endpoint, or `exp`, too far ahead.
        claim: &'static str,
        /// The time from which such an assertion is refused.
        until: SystemTime,
    },
    /// A client authenticated as the `default` service account of a Kubernetes namespace, which every pod has that names no
    /// other. Sent in addition to the decision, once an hour for each client.
    DefaultServiceAccountUsed,
    /// A client that was read from a store lists scopes or audiences that the server does not know, or can get no
    /// audience. It gets only what the server knows; see [`ClientRules`](crate::registration::ClientRules). Sent in
    /// addition to the decision, once an hour, without the extensions of the request.
    #[non_exhaustive]
    InvalidRegistration {
        /// The client, each invalid field with its value, and how to fix it.
        reason: String,
    },
    /// The revocation store lost writes that it had acknowledged, for example by a failover, a restore from an older
    /// copy, or because the server was emptied. This process still refuses all tokens that it knows to be revoked, and
    /// writes the revocations to the store again. Processes that start later know only what the store has. The clients
    /// may be in the state before the lost writes. Sent at most once a minute, without a client and without extensions.
    #[non_exhaustive]
    StoreLostData {
        /// How the loss was detected.
        reason: String,
    },
    /// A key of a [managed ring](crate::keys::rotation) took a step. Sent by the replica that took it, without a client and
    /// without extensions.
    #[non_exhaustive]
    KeyRingChanged {
        /// The `kid`.
        key_id: String,
        /// The new state: `published`, `signing`, `retired` or `distrusted`; or `removed`.
        step: &'static str,
    },
    /// A [managed ring](crate::keys::rotation) in its store was altered, restored from an older copy, or cannot be read. What is
    /// not authentic is not used. Sent once for each reason, without a client and without extensions.
    #[non_exhaustive]
    KeyRingRefused {
        /// How it was detected.
        reason: String,
    },
    /// An [`AuditLog`](super::AuditLog) cannot be written. Events wait in its queue, and are lost when that is full. Sent once for each failure,
    /// without a client and without extensions.
    #[non_exhaustive]
    AuditLogFailed {
        /// The file and the error.
        reason: String,
    },
    /// An authenticated client sent the parameter `audience`, which has no effect without
    /// [`accept_audience_parameter`](crate::authorization_server::AuthorizationServerBuilder::accept_audience_parameter).
    /// Sent in addition to the decision, once an hour for each client.
    AudienceParameterIgnored,
    /// A protected route admitted a request.
    #[non_exhaustive]
    Admitted {
        /// The id of the token (`jti`).
        token_id: String,
    },
    /// A protected route admitted a request by an [API key](crate::resource_server::ApiKeys) of the client, without a token.
    AdmittedByApiKey,
    /// A protected route rejected a request.
    Rejected(Failure),
    /// A protected route could not decide about a request, because a part that it needs did not answer.
    VerificationUnavailable(Failure),
    /// A protected route that [only reports](crate::BearerAuthLayer::dangerous_only_report) admitted a request that it
    /// would reject otherwise.
    WouldReject(Failure),
    /// An administrator changed a client through the [administration API](crate::administration). The event's client is the
    /// administrator.
    #[non_exhaustive]
    ClientAdministered {
        /// The operation: `create`, `update`, `delete`, `add_secret`, `add_credential`, `remove_credential`, `disable`, `enable`,
        /// `revoke_tokens` or `refresh_keys`.
        operation: &'static str,
        /// The client that was changed.
        client: ClientId,
        /// The id of the administrator's token (`jti`). The event [`Issued`](Self::Issued) with this id has the credential by
        /// which the administrator authenticated.
        token_id: String,
    },
    /// An administrator requested a change through the [administration API](crate::administration), which was not made. If the
    /// store did not answer (`temporarily_unavailable`), it may have been made. The event's client is the administrator.
    #[non_exhaustive]
    AdministrationRefused {
        /// The requested operation; see [`ClientAdministered`](Self::ClientAdministered).
        operation: &'static str,
        /// The client that was to be changed, if it is known.
        client: Option<ClientId>,
        /// The id of the administrator's token (`jti`).
        token_id: String,
        /// The reason, with an [`AdministrationRefusal`](crate::administration::AdministrationRefusal).
        failure: Failure,
    },
    /// The calling side obtained a token.
    #[non_exhaustive]
    TokenObtained {
        /// The issuer of the token.
        issuer: Issuer,
        /// The requested scopes.
        scopes: Scopes,
        /// The end of the token by the clock of the calling side. `None` if the issuer named none.
        expires_at: Option<SystemTime>,
        /// The number of calls that waited for the token. 0 for a refresh ahead of the end.
        waiting: usize,
        /// How long the request for the token took, discovery included.
        duration: Duration,
    },
    /// The calling side requested a token and got none.
    #[non_exhaustive]
    TokenNotObtained {
        /// The issuer that was asked.
        issuer: Issuer,
        /// The requested scopes.
        scopes: Scopes,
        /// The reason, which is a [`TokenSourceErrorKind`](crate::client::TokenSourceErrorKind::name), and the
        /// [error](crate::client::TokenSourceError).
        failure: Failure,
        /// The number of calls that waited for the token.
        waiting: usize,
        /// How long the request for the token took, discovery included.
        duration: Duration,
    },
    /// A resource server refused a token of the calling side, which is replaced.
    #[non_exhaustive]
    ObtainedTokenRefused {
        /// The issuer of the token.
        issuer: Issuer,
        /// Whether the resource server said that the token is invalid (`invalid_token`, RFC 6750 §3.1).
        explained: bool,
    },
}

impl Outcome {
    /// Returns a stable name of the outcome, such as `authentication_failed`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Issued { .. } => "issued",
            Self::Revoked { .. } => "revoked",
            Self::Introspected { .. } => "introspected",
            Self::AuthenticationFailed(_) => "authentication_failed",
            Self::Refused(_) => "refused",
            Self::Unavailable(_) => "unavailable",
            Self::OldSecretUsed { .. } => "old_secret_used",
            Self::LegacyAssertionUsed { .. } => "legacy_assertion_used",
            Self::DefaultServiceAccountUsed => "default_service_account_used",
            Self::InvalidRegistration { .. } => "invalid_registration",
            Self::StoreLostData { .. } => "store_lost_data",
            Self::KeyRingChanged { .. } => "key_ring_changed",
            Self::KeyRingRefused { .. } => "key_ring_refused",
            Self::AuditLogFailed { .. } => "audit_log_failed",
            Self::AudienceParameterIgnored => "audience_parameter_ignored",
            Self::Admitted { .. } => "admitted",
            Self::AdmittedByApiKey => "admitted_by_api_key",
            Self::Rejected(_) => "rejected",
            Self::VerificationUnavailable(_) => "verification_unavailable",
            Self::WouldReject(_) => "would_reject",
            Self::ClientAdministered { .. } => "client_administered",
            Self::AdministrationRefused { .. } => "administration_refused",
            Self::TokenObtained { .. } => "token_obtained",
            Self::TokenNotObtained { .. } => "token_not_obtained",
            Self::ObtainedTokenRefused { .. } => "obtained_token_refused",
        }
    }
}

/// The credential by which a client authenticated. It shows whether an old credential is still in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedCredential {
    method: &'static str,
    label: Text,
}

impl UsedCredential {
    pub(crate) fn new(method: &'static str, label: Text) -> Self {
        Self { method, label }
    }

    /// Returns the registered name of the authentication method, such as `client_secret_basic`.
    #[must_use]
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// Returns the label of the credential in the registration of the client.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }
}

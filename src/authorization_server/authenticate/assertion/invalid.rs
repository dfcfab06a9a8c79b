//! [`AssertionRule`]: the rules of client assertions, and the reason for a refusal.

use std::fmt;

use crate::authorization_server::error::{Fault, TokenError};
use crate::client_id::ClientId;
use crate::named::named;
use crate::quoted::quoted_within;

named! {
    /// A rule of client assertions that an assertion can break (RFC 7523 §3, RFC 10070).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    #[non_exhaustive]
    pub enum AssertionRule {
        /// The parameter `client_assertion_type` is one that the server supports.
        AssertionType = "assertion_type",
        /// The assertion is a JWS in compact form of at most 16 KiB (RFC 7515 §7.1).
        Form = "form",
        /// The header is a JSON object with an `alg` and members of the right types.
        Header = "header",
        /// `typ` is absent, `JWT` or `client-authentication+jwt`.
        Type = "type",
        /// No header parameter is critical (`crit`).
        Critical = "critical",
        /// The header brings no key of its own (`jwk`, `jku`, `x5u`).
        ForeignKey = "foreign_key",
        /// The algorithm is one that the server accepts, and that of the client's key.
        Algorithm = "algorithm",
        /// The payload is a JSON object with unique names.
        Payload = "payload",
        /// `iss` is the client id.
        Issuer = "issuer",
        /// `sub` is the client id.
        Subject = "subject",
        /// The parameter `client_id`, if present, is the client id of the assertion. For the token of a workload that several clients have a
        /// credential for, it is required.
        ClientId = "client_id",
        /// `aud` is the issuer identifier of this server, as the only value.
        Audience = "audience",
        /// `exp` has not passed.
        Expiry = "expiry",
        /// `exp` is not too far ahead.
        Lifetime = "lifetime",
        /// `nbf`, if present, has passed.
        NotBefore = "not_before",
        /// `iat`, if present, is not in the future.
        IssuedAt = "issued_at",
        /// `jti` has 1 to 128 bytes.
        TokenId = "token_id",
        /// The client is registered, and enabled.
        Client = "client",
        /// The client has a current credential for this kind of assertion.
        Credential = "credential",
        /// The client has a key with this `kid`.
        Key = "key",
        /// The signature is valid.
        Signature = "signature",
        /// The assertion was not used before.
        Replay = "replay",
    }

    /// Returns a stable name, for logs and metrics.
    pub const fn name();
}

/// The rule that a refused assertion breaks: the [source](std::error::Error::source) of a
/// [`TokenError`](crate::authorization_server::TokenError). The text of that error has the value found, the value expected, and how to fix it.
///
/// ```
/// use std::error::Error as _;
/// use tower_client_credentials::authorization_server::{AssertionRule, InvalidAssertion, TokenError};
///
/// fn is_wrong_audience(error: &TokenError) -> bool {
///     let invalid = error.source().and_then(|source| source.downcast_ref::<InvalidAssertion>());
///     invalid.is_some_and(|invalid| invalid.rule() == AssertionRule::Audience)
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client assertion breaks the rule `{}`", .0.name())]
pub struct InvalidAssertion(AssertionRule);

impl InvalidAssertion {
    /// Returns the rule.
    #[must_use]
    pub const fn rule(self) -> AssertionRule {
        self.0
    }
}

/// Why an assertion is refused, for the operator.
#[derive(Debug)]
pub(super) struct Refusal {
    rule: AssertionRule,
    text: String,
}

impl Refusal {
    pub(super) fn new(rule: AssertionRule, text: impl Into<String>) -> Self {
        Self { rule, text: text.into() }
    }

    /// Creates a refusal for a claim or a header parameter. `found` is quoted.
    pub(super) fn claim(
        rule: AssertionRule,
        name: &str,
        found: &dyn fmt::Display,
        expected: &str,
        how_to_fix: &str,
    ) -> Self {
        Self::new(rule, format!("`{name}` of the assertion is {found}, expected {expected}; {how_to_fix}"))
    }

    pub(super) fn unknown_client() -> Self {
        Self::new(AssertionRule::Client, "the client is not registered")
    }

    /// Returns the refusal of a workload that no client has a credential for, without `client_id`.
    pub(super) fn no_client_for(workload: &str) -> Self {
        let text = format!(
            "no client has a credential for the workload {}; add one to a client, or correct the identity of the workload",
            quoted_within(workload, 128)
        );
        Self::new(AssertionRule::Client, text)
    }

    /// Returns the refusal of a workload whose client the store cannot find without `client_id`.
    pub(super) fn needs_client_id(workload: &str, why: &str) -> Self {
        let text = format!(
            "{why} for the workload {}: send the `client_id` of the client that has a credential for it",
            quoted_within(workload, 128)
        );
        Self::new(AssertionRule::ClientId, text)
    }

    /// Returns the refusal of a workload of several clients, without `client_id`.
    pub(super) fn several_clients(workload: &str, clients: &[ClientId]) -> Self {
        let names = clients.iter().take(2).map(|id| quoted_within(id, 128)).collect::<Vec<_>>().join(" and ");
        let text = format!(
            "the workload {} belongs to several clients, among them {names}: send the `client_id` of one of them",
            quoted_within(workload, 128)
        );
        Self::new(AssertionRule::ClientId, text)
    }

    #[cfg(feature = "remote")]
    pub(super) fn expired_credential() -> Self {
        let text = "the credential of the client expired while its keys were fetched; add a current credential";
        Self::new(AssertionRule::Credential, text)
    }

    pub(super) fn disabled_client() -> Self {
        Self::new(AssertionRule::Client, "the client is disabled")
    }

    pub(super) fn used_before(jti: &str) -> Self {
        let text = format!(
            "the assertion with the `jti` {} was used before; sign a new assertion for each request, also for a retry",
            quoted_within(jti, 128)
        );
        Self::new(AssertionRule::Replay, text)
    }

    pub(super) fn rule(&self) -> AssertionRule {
        self.rule
    }

    pub(super) fn into_parts(self) -> (InvalidAssertion, String) {
        (InvalidAssertion(self.rule), self.text)
    }
}

/// Returns the error that every refused assertion gets, with its reason for the operator.
impl From<Refusal> for TokenError {
    fn from(refusal: Refusal) -> Self {
        let (rule, text) = refusal.into_parts();
        Self::new(Fault::CLIENT).detailed(text).because(rule)
    }
}

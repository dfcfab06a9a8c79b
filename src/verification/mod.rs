//! Verification: the text of an access token → a [`VerifiedToken`], independent of the transport.
//!
//! A [`Verifier`] checks signature, type, issuer, audience and times (RFC 9068 §4) and whether the token is revoked. It
//! returns a proof that only it can create. If a required part does not answer, the result is [`Unavailable`], never a refusal.
//! The [resource server](crate::resource_server) does this for HTTP requests.

mod claims;
mod error;
mod eviction_rng;
mod foreign_claims;
#[cfg(feature = "remote")]
mod introspection;
mod issued_token;
mod jws;
mod refused_token;
#[cfg(feature = "remote")]
mod remote_issuer;
#[cfg(any(test, feature = "test-util"))]
mod test_util;
mod token_cache;
mod token_profile;
mod token_type;
mod trusted_issuer;
mod validity_period;
#[cfg(test)]
mod vector_tests;
#[cfg(test)]
mod verified_again_tests;
mod verified_token;
mod verifier;
mod verifier_error;

pub use self::claims::ClaimsError;
pub(crate) use self::error::Verified;
pub use self::error::{InvalidToken, Unavailable, UnavailableKind, VerifyError};
pub(crate) use self::foreign_claims::Unique;
#[cfg(feature = "remote")]
pub use self::introspection::Introspection;
pub(crate) use self::issued_token::{IssuedToken, IssuedTokens, NotIssued};
pub(crate) use self::jws::{Jws, LONGEST_TOKEN};
pub use self::refused_token::RefusedToken;
#[cfg(feature = "remote")]
pub use self::remote_issuer::RemoteIssuer;
#[cfg(any(test, feature = "test-util"))]
pub use self::test_util::{TestIssuer, TestTokenBuilder, VerifiedTokenBuilder};
pub use self::token_profile::TokenProfile;
pub use self::verified_token::VerifiedToken;
pub use self::verifier::Verifier;
pub(crate) use self::verifier::{PendingVerification, Verification};
pub use self::verifier_error::{VerifierError, VerifierErrorKind};

//! The claims of a JWT access token (RFC 9068 §2.2): JSON → [`Claims`].

mod members;
#[cfg(test)]
mod tests;

use std::ops::Deref;

use self::members::{Aud, Member, Members};
use super::refused_token::quoted;
use super::{InvalidToken, RefusedToken};
use crate::client_id::ClientId;
use crate::clock::UnixTime;
use crate::issuer::Issuer;
use crate::keys::VerifyingKey;
use crate::revocation::{Cleared, Named};
use crate::scope::Scopes;
use crate::text::Text;

/// Well-formed claims: every claim that RFC 9068 requires is present once and has its type. The values are checked by
/// [`verify`](crate::verification::verifier).
#[derive(Clone, Debug)]
pub(crate) struct Claims {
    pub(super) issuer: Text,
    pub(super) subject: Text,
    pub(super) audiences: Audiences,
    pub(super) client_id: ClientId,
    pub(super) issued_at: UnixTime,
    pub(super) expires_at: UnixTime,
    pub(super) not_before: Option<UnixTime>,
    pub(super) token_id: Text,
    pub(super) scopes: Scopes,
    /// Whether `cnf` is present, with any value: the token is bound to a key or certificate (RFC 7800).
    pub(super) bound: bool,
    /// Not a claim: the result of the last revocation check.
    pub(super) cleared: Cleared,
}

/// The claim that binds a token to a key or certificate (RFC 7800 §3.1).
pub(super) const BINDING: &str = "cnf";

/// One audience, or any number of audiences (RFC 7519 §4.1.3).
#[derive(Clone, Debug)]
pub(super) enum Audiences {
    One(Text),
    Several(Box<[Text]>),
}

impl Deref for Audiences {
    type Target = [Text];

    fn deref(&self) -> &[Text] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Several(several) => several,
        }
    }
}

impl Claims {
    /// Returns `None` if a claim is missing, occurs twice, or has another type. A value that equals one of the `usual` texts
    /// shares its memory: all tokens of an issuer have its `iss`, and most have the same audience.
    pub(super) fn parse(json: &[u8], usual: &[&Text]) -> Option<Self> {
        let json = std::str::from_utf8(json).ok()?;
        let claims = Members::read_plain(json).map_or_else(|| serde_json::from_str(json).ok(), Some)?;
        let text = |text: Member<'_>| Text::shared_with(usual, &text.0);
        let client_id = ClientId::try_from(&*claims.client_id?.0).ok()?;
        let subject = claims.subject.filter(|subject| !subject.0.is_empty())?;
        Some(Self {
            issuer: text(claims.issuer?),
            subject: Text::shared_with(&[client_id.text()], &subject.0),
            audiences: match claims.audiences? {
                Aud::One(one) => Audiences::One(text(one)),
                Aud::Several(several) => Audiences::Several(several.into_iter().map(text).collect()),
            },
            client_id,
            issued_at: claims.issued_at?.rounded_down()?,
            expires_at: claims.expires_at?.rounded_down()?,
            not_before: match claims.not_before {
                Some(not_before) => Some(not_before.rounded_up()?),
                None => None,
            },
            token_id: (&*claims.token_id?.0).into(),
            scopes: claims.scopes.map_or(Ok(Scopes::NONE), |scopes| scopes.0.parse()).ok()?,
            bound: claims.bound,
            cleared: Cleared::default(),
        })
    }

    /// Returns an estimate of the heap memory, in bytes, without shared texts.
    pub(super) fn size(&self) -> usize {
        const EACH: usize = 32; // overhead of an unshared text
        let Self { subject, audiences, client_id, token_id, scopes, .. } = self;
        let audiences = match audiences {
            Audiences::One(_) => 0,
            Audiences::Several(several) => several.iter().map(|audience| audience.len() + 2 * EACH).sum(),
        };
        4 * EACH + subject.len() + audiences + client_id.len() + token_id.len() + scopes.size()
    }

    /// Returns the `iss` found and the one expected, for the operator.
    #[cold]
    pub(super) fn of_another_issuer(&self, issuer: &Issuer) -> RefusedToken {
        let detail = format!(
            "`iss` is {}, expected {}, compared character by character; give the verifier this issuer to accept it",
            quoted(&self.issuer),
            quoted(issuer.as_str())
        );
        RefusedToken::because(InvalidToken::Issuer, detail)
    }

    /// Returns the properties by which a revocation can name this token. `key` is the key that signed it.
    pub(super) fn named<'a>(&'a self, key: &'a VerifyingKey) -> Named<'a> {
        let Self { client_id, token_id, issued_at, .. } = self;
        Named { client_id, token_id, issued_at: *issued_at, key_id: key.key_id() }
    }
}

/// The claims cannot be deserialized into the requested type; see
/// [`VerifiedToken::claims`](crate::verification::VerifiedToken::claims).
#[derive(Debug, thiserror::Error)]
#[error("the token's claims do not fit the requested type: {0}")]
pub struct ClaimsError(serde_json::Error);

// Not `#[from]`: it would set the source, too, whose text is already part of this error's text.
impl From<serde_json::Error> for ClaimsError {
    fn from(error: serde_json::Error) -> Self {
        Self(error)
    }
}

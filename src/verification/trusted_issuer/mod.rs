//! [`TrustedIssuer`]: the checks of RFC 9068 §4 and RFC 8725 §3 for the tokens of one issuer.

mod cached_token_checks;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use super::claims::Claims;
use super::jws::{Header, Jws, Presence, decode};
use super::token_type::is_access_token;
use super::{InvalidToken, RefusedToken, TokenProfile, Unavailable, UnavailableKind, VerifiedToken, VerifyError};
use crate::audience::Audience;
use crate::clock::Clock;
#[cfg(feature = "remote")]
use crate::clock::UnixTime;
use crate::debug_fields::debug_fields;
use crate::issuer::Issuer;
use crate::keys::{FoundKey, NoKey, TrustedKeys};
use crate::revocation::Revocations;
use crate::timing::{DEFAULT_LEEWAY, MAX_LEEWAY};
#[cfg(feature = "remote")]
use crate::transport::FetchError;

/// An issuer, its keys, and the requirements on its tokens. Clones share the settings.
#[derive(Clone)]
pub(super) struct TrustedIssuer(Arc<Settings>);

#[derive(Clone)]
struct Settings {
    issuer: Issuer,
    /// The issuer again, shared with errors.
    #[cfg(feature = "remote")]
    shared_issuer: Arc<Issuer>,
    audience: Audience,
    keys: TrustedKeys,
    clock: Arc<dyn Clock>,
    leeway: Duration,
    revocations: Option<Revocations>,
    /// `None` means RFC 9068, which has a faster reader.
    profile: Option<Arc<TokenProfile>>,
    last_header: LastHeader,
}

/// The last header of a valid token, and the key that it named. All tokens of one key usually have the same header, so
/// it need not be parsed each time.
#[derive(Default)]
struct LastHeader(RwLock<Option<(Box<str>, FoundKey)>>);

impl LastHeader {
    fn key(&self, header: &str) -> Option<FoundKey> {
        let last = self.0.read().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|(last, _)| **last == *header).map(|(_, found)| found.clone())
    }

    fn keep(&self, header: &str, found: &FoundKey) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some((header.into(), found.clone()));
    }
}

/// Cloned settings will be changed, so the clone starts empty: a result under other settings does not apply.
impl Clone for LastHeader {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl TrustedIssuer {
    pub(super) fn new(issuer: Issuer, audience: Audience, keys: TrustedKeys, clock: Arc<dyn Clock>) -> Self {
        let leeway = DEFAULT_LEEWAY;
        let (revocations, profile, last_header) = (None, None, LastHeader::default());
        Self(Arc::new(Settings {
            #[cfg(feature = "remote")]
            shared_issuer: Arc::new(issuer.clone()),
            issuer,
            audience,
            keys,
            clock,
            leeway,
            revocations,
            profile,
            last_header,
        }))
    }

    pub(super) fn leeway(self, leeway: Duration) -> Self {
        self.with(|settings| settings.leeway = leeway.min(MAX_LEEWAY))
    }

    pub(super) fn clock(self, clock: Arc<dyn Clock>) -> Self {
        self.with(|settings| settings.clock = clock)
    }

    pub(super) fn profile(self, profile: Arc<TokenProfile>) -> Self {
        self.with(|settings| settings.profile = Some(profile))
    }

    /// Returns an issuer with changed settings.
    fn with(self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::clone(&self.0);
        change(&mut settings);
        Self(Arc::new(settings))
    }

    /// Returns the `iss` of its tokens.
    pub(super) fn name(&self) -> &str {
        self.0.issuer.as_str()
    }

    pub(super) fn revocations(self, revocations: Revocations) -> Self {
        self.with(|settings| settings.revocations = Some(revocations))
    }

    /// Returns its revocations, if they are checked.
    pub(super) fn revoked(&self) -> Option<&Revocations> {
        self.0.revocations.as_ref()
    }

    pub(super) fn now(&self) -> SystemTime {
        self.0.clock.now()
    }

    /// Returns whether its keys are available.
    pub(super) fn is_ready(&self) -> bool {
        self.0.keys.are_there()
    }

    pub(super) async fn ready(&self) {
        self.0.keys.ready().await;
    }

    #[cfg(all(test, feature = "remote"))]
    pub(super) fn remote_keys(&self) -> Option<&crate::keys::remote::RemoteKeys> {
        match &self.0.keys {
            TrustedKeys::Remote(keys) => Some(keys),
            _ => None,
        }
    }

    /// Fetches keys, and waits for them, if they may change the result: the token's key is missing, or its signature does not
    /// match the key that it names. Returns the key that signed the token, and the payload.
    #[cfg(feature = "remote")]
    async fn ask(&self, jws: &Jws<'_>, header: &Header<'_>) -> Result<(FoundKey, Vec<u8>), VerifyError> {
        let keys = &self.0.keys;
        let deadline = keys.deadline();
        let asked = keys.ask(&header.kid, &header.alg, deadline).await;
        asked.map_err(|no_key| self.without_key(no_key, Some((jws, header))))?;
        let found = self.trusted_key(jws, header).map_err(without_more_questions)?;
        match jws.verified_payload(&found.key) {
            Err(InvalidToken::Signature) => {}
            payload => return Ok((found, payload?)),
        }
        keys.ask_for_replacement(&found, deadline).await;
        let named = self.trusted_key(jws, header).map_err(without_more_questions)?;
        // The signature did not match this key before, so there is no need to check it again.
        if named.is_same_key(&found) {
            return Err(InvalidToken::Signature.into());
        }
        let payload = jws.verified_payload(&named.key)?;
        Ok((named, payload))
    }

    /// Verifies a token that [`verify`](Self::verify) could not decide on with the available keys, and fetches keys for it.
    #[cfg(feature = "remote")]
    pub(super) async fn verify_later(&self, token: &str, jws: &Jws<'_>) -> Result<VerifiedToken, VerifyError> {
        let header = decode(jws.header)?;
        let header = Header::parse(&header)?;
        self.check_type(&header)?;
        let (found, payload) = self.ask(jws, &header).await?;
        self.0.last_header.keep(jws.header, &found);
        self.accept(token, found, &payload).map_err(without_more_questions)
    }

    /// Returns whether both make the same checks, so that a token is valid for both or for neither.
    #[inline]
    pub(super) fn checks_the_same_as(&self, other: &Self) -> bool {
        let (one, other) = (&*self.0, &*other.0);
        std::ptr::eq(one, other)
            || (&one.issuer, &one.audience, one.leeway) == (&other.issuer, &other.audience, other.leeway)
                && one.keys.ptr_eq(&other.keys)
                && Arc::ptr_eq(&one.clock, &other.clock)
                && match (&one.revocations, &other.revocations) {
                    (None, None) => true,
                    (Some(one), Some(other)) => one.ptr_eq(other),
                    _ => false,
                }
                && one.profile.as_ref().map(Arc::as_ptr) == other.profile.as_ref().map(Arc::as_ptr)
    }

    /// Verifies a token with the available keys: its type, key and signature, and then the claims.
    pub(super) fn verify(&self, token: &str, jws: &Jws<'_>) -> Result<VerifiedToken, VerifyError> {
        let Settings { keys, last_header, .. } = &*self.0;
        let known = last_header.key(jws.header).filter(|found| keys.still_trust(found).is_ok());
        let is_known = known.is_some();
        let found = known.map_or_else(|| self.key_of_access_token(jws), Ok)?;
        let payload = self.signed_payload(jws, &found)?;
        if !is_known {
            last_header.keep(jws.header, &found);
        }
        self.accept(token, found, &payload)
    }

    /// Checks the claims of a payload that a trusted key signed.
    #[inline]
    fn accept(&self, token: &str, found: FoundKey, payload: &[u8]) -> Result<VerifiedToken, VerifyError> {
        let Settings { issuer, audience, profile, .. } = &*self.0;
        let claims = match profile {
            None => Claims::parse(payload, &[issuer.text(), audience.text()])
                .ok_or_else(|| TokenProfile::default().why_not(payload, issuer)),
            Some(profile) => profile.parse(payload, issuer),
        }?;
        // RFC 7800 §3.1, RFC 9449 §7.2: accepted as a bearer token, a stolen one could be used without the key.
        if claims.bound && !profile.as_ref().is_some_and(|profile| profile.accepts_bound_tokens) {
            return Err(TokenProfile::bound().into());
        }
        self.check(&claims, &found.key)?;
        Ok(VerifiedToken::new(token, claims, self.clone(), found))
    }

    #[cfg_attr(not(feature = "remote"), expect(clippy::unused_self, reason = "only fetched keys can be replaced"))]
    fn signed_payload(&self, jws: &Jws<'_>, found: &FoundKey) -> Result<Vec<u8>, VerifyError> {
        jws.verified_payload(&found.key).map_err(|invalid| match invalid {
            #[cfg(feature = "remote")]
            InvalidToken::Signature if self.0.keys.may_be_replaced(found) => {
                Unavailable::new(UnavailableKind::NotAsked).into()
            }
            _ => invalid.into(),
        })
    }

    fn key_of_access_token(&self, jws: &Jws<'_>) -> Result<FoundKey, VerifyError> {
        let header = decode(jws.header)?;
        let header = Header::parse(&header)?;
        self.check_type(&header)?;
        self.trusted_key(jws, &header)
    }

    /// Checks the type (RFC 9068 §4), so that an ID token or another JWT of the issuer is not accepted as an access token.
    #[inline]
    fn check_type(&self, header: &Header<'_>) -> Result<(), VerifyError> {
        let profile = self.0.profile.as_deref();
        if !profile.map_or_else(|| is_access_token(&header.typ), |profile| profile.admits_type(header)) {
            return Err(RefusedToken::header(InvalidToken::Type, &header.typ).into());
        }
        Ok(())
    }

    /// Returns the payload of a JWS of any type (RFC 7515 §5.2) that a trusted, available key signed.
    #[cfg(any(test, feature = "remote"))]
    pub(super) fn proven(&self, jws: &Jws<'_>, header: &Header<'_>) -> Result<Vec<u8>, VerifyError> {
        self.signed_payload(jws, &self.trusted_key(jws, header)?)
    }

    /// Like [`proven`](Self::proven), after fetching keys if that may help.
    #[cfg(feature = "remote")]
    pub(super) async fn proven_later(&self, jws: &Jws<'_>, header: &Header<'_>) -> Result<Vec<u8>, VerifyError> {
        Ok(self.ask(jws, header).await?.1)
    }

    /// Returns the trusted key that the header names. A key in the header itself is never used.
    fn trusted_key(&self, jws: &Jws<'_>, header: &Header<'_>) -> Result<FoundKey, VerifyError> {
        // RFC 7515 §4.1.11: an extension that must be understood. This crate supports none.
        if header.crit == Presence::Present {
            return Err(InvalidToken::Critical.into());
        }
        let brings_key = [header.jku, header.jwk, header.x5u].contains(&Presence::Present);
        if brings_key && !self.0.profile.as_ref().is_some_and(|profile| profile.ignores_foreign_keys) {
            return Err(header.brings_key().into());
        }
        let found = self.0.keys.find(&header.kid, &header.alg);
        found.map_err(|no_key| self.without_key(no_key, Some((jws, header))))
    }

    /// Returns the error for a token without a matching key. `token` is present if the key was looked up by the name in the
    /// token's header.
    #[cold]
    #[cfg_attr(not(feature = "remote"), expect(clippy::unused_self, reason = "only fetched keys have an issuer"))]
    fn without_key(&self, no_key: NoKey, token: Option<(&Jws<'_>, &Header<'_>)>) -> VerifyError {
        let header = token.map(|(_, header)| header);
        match (no_key, header) {
            (NoKey::Unknown, Some(header)) => RefusedToken::header(InvalidToken::UnknownKey, &header.kid).into(),
            (NoKey::Unknown, None) => InvalidToken::UnknownKey.into(),
            (NoKey::Algorithm(Some(own)), Some(header)) => RefusedToken::algorithm(&header.alg, own).into(),
            (NoKey::Algorithm(None), Some(header)) => RefusedToken::header(InvalidToken::Algorithm, &header.alg).into(),
            (NoKey::Algorithm(_), None) => InvalidToken::Algorithm.into(),
            (NoKey::CutOff, _) => Unavailable::new(UnavailableKind::Keys).into(),
            #[cfg(feature = "remote")]
            (NoKey::NotAsked, _) => Unavailable::new(UnavailableKind::NotAsked).into(),
            #[cfg(feature = "remote")]
            (NoKey::Unavailable { error, retry_after }, _) => {
                self.unavailable(UnavailableKind::Keys, error, retry_after).into()
            }
            #[cfg(feature = "remote")]
            (NoKey::TooEarly { error, retry_after }, _) => {
                self.unavailable(UnavailableKind::UnknownKey, error, retry_after).into()
            }
            #[cfg(feature = "remote")]
            (NoKey::Lacked { at, .. }, Some(header)) if self.is_issued_before(token, at) => {
                RefusedToken::header(InvalidToken::UnknownKey, &header.kid).into()
            }
            #[cfg(feature = "remote")]
            (NoKey::Lacked { retry_after, .. }, _) => {
                self.0.keys.count_lacked();
                self.unavailable(UnavailableKind::UnknownKey, None, retry_after).into()
            }
        }
    }

    /// Returns whether the token claims to be issued before this time, by any clock within the leeway. The key set of that time
    /// contained every key in use until then. A caller that lies about the time only gets its own token refused.
    #[cfg(feature = "remote")]
    fn is_issued_before(&self, token: Option<(&Jws<'_>, &Header<'_>)>, time: UnixTime) -> bool {
        let issued_at = token.and_then(|(jws, _)| jws.unverified_time_of_issue());
        issued_at.is_some_and(|issued_at| issued_at.after(self.0.leeway) < time)
    }

    #[cfg(feature = "remote")]
    fn unavailable(&self, kind: UnavailableKind, error: Option<Arc<FetchError>>, retry_after: Duration) -> Unavailable {
        let unavailable = Unavailable::new(kind).retry_after(retry_after).with_issuer(self.0.shared_issuer.clone());
        error.into_iter().fold(unavailable, |unavailable, error| unavailable.because(error))
    }
}

/// Turns [`UnavailableKind::NotAsked`] after a fetch into [`UnavailableKind::Keys`]: the key set changed between the fetch and the
/// lookup, and the caller should repeat the request.
#[cfg(feature = "remote")]
fn without_more_questions(error: VerifyError) -> VerifyError {
    match error {
        VerifyError::Unavailable(unavailable) if unavailable.kind() == UnavailableKind::NotAsked => {
            Unavailable::new(UnavailableKind::Keys).into()
        }
        error => error,
    }
}

debug_fields!(TrustedIssuer, |this| { issuer: this.0.issuer, audience: this.0.audience });

#[cfg(all(test, feature = "remote"))]
mod tests {
    use super::{Unavailable, UnavailableKind, VerifyError, without_more_questions};

    #[test]
    fn not_asked_becomes_unavailable_keys_and_other_errors_are_unchanged() {
        let kind = |kind| match without_more_questions(Unavailable::new(kind).into()) {
            VerifyError::Unavailable(unavailable) => unavailable.kind(),
            VerifyError::Refused(refused) => panic!("{refused}"),
        };
        assert_eq!(kind(UnavailableKind::NotAsked), UnavailableKind::Keys);
        for other in [UnavailableKind::Keys, UnavailableKind::UnknownKey, UnavailableKind::Revocations] {
            assert_eq!(kind(other), other);
        }
    }
}

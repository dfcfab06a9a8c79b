//! [`Minter`]: creates and signs tokens, JWT access tokens (RFC 9068): [`Grant`] → [`AccessToken`].

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::grant::Grant;
use super::too_long;
use crate::audience::Audience;
use crate::authorization_server::authenticate::AuthenticatedClient;
use crate::authorization_server::error::{Fault, TokenError};
use crate::authorization_server::json::Object;
use crate::client_id::ClientId;
use crate::clock::{Clock, Moment, UnixTime};
use crate::crypto::Random;
use crate::issuer::Issuer;
use crate::keys::{KeyRing, Signing, VerifyingKey};
use crate::revocation::{Cleared, Date, Mark, Marked, Named, Revocations, Wait};
use crate::timing::{MAX_CLIENT_ANSWER_AGE, MAX_DATED_AHEAD, MAX_USUAL_WAIT};
use crate::verification::{IssuedTokens, LONGEST_TOKEN};

/// The capacity for the claims of most tokens, in bytes.
const USUAL_PAYLOAD: usize = 512;

/// Signs tokens for grants.
#[derive(Clone, Debug)]
pub(crate) struct Minter {
    pub(crate) issuer: Issuer,
    pub(crate) keys: KeyRing,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) revocations: Option<Revocations>,
}

/// A signed token. Only [`Minter::mint`] creates one. Its text is a credential, so it has no `Debug`, and cannot be
/// logged.
#[derive(Clone)]
pub(super) struct AccessToken {
    text: TokenText,
    id: TokenId,
    issued_at: UnixTime,
    expires_in: u64,
    /// The public half of the key that signed it.
    key: VerifyingKey,
}

/// A token, or the wait for its signature. A key in memory signs at once.
pub(super) enum Minted {
    Now(AccessToken),
    Later(PendingToken<'static>),
}

pub(super) type PendingToken<'a> = Pin<Box<dyn Future<Output = Result<AccessToken, TokenError>> + Send + 'a>>;

impl Minted {
    pub(super) async fn token(self) -> Result<AccessToken, TokenError> {
        match self {
            Self::Now(token) => Ok(token),
            Self::Later(token) => token.await,
        }
    }
}

impl AccessToken {
    pub(super) fn as_str(&self) -> &str {
        match &self.text {
            TokenText::New(text) => text,
            TokenText::Shared(text) => text,
        }
    }

    /// Returns the `jti`.
    pub(super) fn id(&self) -> &str {
        self.id.as_str()
    }

    /// Returns the id of the key that signed it.
    pub(super) fn key_id(&self) -> &str {
        self.key.key_id()
    }

    /// Returns the remaining lifetime in seconds.
    pub(super) fn expires_in(&self) -> u64 {
        self.expires_in
    }

    /// Returns the same token, for use `later` seconds later. The text is copied only for the first reuse.
    pub(super) fn reused(&self, later: u64) -> Self {
        let expires_in = self.expires_in.saturating_sub(later);
        let text = match &self.text {
            TokenText::New(text) => text.as_str().into(),
            TokenText::Shared(text) => text.clone(),
        };
        Self { text: TokenText::Shared(text), expires_in, key: self.key.clone(), ..*self }
    }
}

/// The text of a token. Most tokens are returned once, and need no sharing.
#[derive(Clone)]
enum TokenText {
    New(String),
    Shared(Arc<str>),
}

impl Minter {
    /// Returns what recognizes the tokens that this server signed.
    pub(crate) fn issued_tokens(&self) -> IssuedTokens {
        IssuedTokens::new(self.issuer.clone(), self.keys.clone())
    }

    /// Signs a token. The key is selected once, and its name, its checks and its signature are those of the same key.
    pub(super) fn mint(&self, grant: &Grant) -> Result<Minted, TokenError> {
        let now = self.clock.now();
        let key = self.keys.signing_key_at(now);
        let key = key.map_err(|error| TokenError::unavailable(error).of(grant.client().id()))?;
        let Date { issued_at, marked } = self.date(grant.client(), key.key_id(), UnixTime::at(now))?;
        let id = TokenId::generate(&*self.random, marked.map(|marked| marked.mark))?;
        let expires_at = issued_at.after(grant.lifetime().to_duration());
        let expires_at = marked.map_or(expires_at, |marked| marked.expires_by.min(expires_at));
        // The claims of RFC 9068 §2.2, with integer times.
        let mut claims = Object::with_capacity(USUAL_PAYLOAD);
        claims.string("iss", self.issuer.as_str()).string("sub", grant.client().subject());
        match grant.audiences() {
            // One audience is a string, several are a list (RFC 7519 §4.1.3).
            [one] => claims.string("aud", one.as_str()),
            several => claims.strings("aud", several.iter().map(Audience::as_str)),
        };
        claims.string("client_id", grant.client().id().as_str());
        claims.number("iat", issued_at.as_secs()).number("exp", expires_at.as_secs()).string("jti", id.as_str());
        if !grant.scopes().is_empty() {
            claims.string("scope", grant.scopes().as_str());
        }
        claims.members(grant.claims());
        let payload = claims.finish();
        let length = key.token_len(payload.len());
        if length > LONGEST_TOKEN {
            return Err(too_long::error(&self.issuer, grant, length));
        }
        let expires_in = expires_at.as_secs().saturating_sub(issued_at.as_secs());
        match key.start(payload.as_bytes()) {
            Signing::Done(text) => {
                let text = TokenText::New(text.map_err(TokenError::unsigned)?);
                Ok(Minted::Now(AccessToken { text, id, issued_at, expires_in, key: key.verifying_key() }))
            }
            Signing::Waiting(signature) => {
                let (keys, key, client) = (self.keys.clone(), key.verifying_key(), grant.client().id().clone());
                Ok(Minted::Later(Box::pin(async move {
                    let text =
                        TokenText::New(signature.await.map_err(|error| TokenError::unsigned(error).of(&client))?);
                    Self::check_still_trusted(&keys, &key).map_err(|error| error.of(&client))?;
                    Ok(AccessToken { text, id, issued_at, expires_in, key })
                })))
            }
        }
    }

    /// Checks a key whose signature took a while: it may have been removed from the ring in the meantime, for example because it
    /// leaked.
    pub(crate) fn check_still_trusted(keys: &KeyRing, key: &VerifyingKey) -> Result<(), TokenError> {
        if keys.current().accepts(key) {
            return Ok(());
        }
        let detail = "the key was removed from the ring while it signed; the next request gets another key";
        Err(TokenError::new(Fault::UNAVAILABLE).detailed(detail))
    }

    /// Returns whether the key of a token that this server signed is still trusted, and the token is known not to be revoked.
    pub(super) fn is_valid(&self, token: &AccessToken, client_id: &ClientId) -> bool {
        if !self.keys.current().accepts(&token.key) {
            return false;
        }
        let Some(revocations) = &self.revocations else { return true };
        let (token_id, issued_at, key_id) = (token.id(), token.issued_at, token.key.key_id());
        revocations.check(Named { client_id, token_id, issued_at, key_id }, &Cleared::default()).is_ok()
    }

    /// Returns the issue time of a new token: now, or after the last revocation of the client, at most three seconds
    /// ahead, which verifiers accept. A token is dated soon after the client store returned the client, so that the
    /// revocation of a removed client covers it.
    fn date(&self, client: &AuthenticatedClient, key_id: &str, now: UnixTime) -> Result<Date, TokenError> {
        let Some(revocations) = &self.revocations else { return Ok(Date::usual(now)) };
        if revocations.has_key(key_id) {
            let detail = "the signing key is revoked with all its tokens; give the server another key";
            return Err(unavailable(client, detail));
        }
        let revoked = revocations.issued_until(client.id());
        let next = revoked.map_or(now, |until| until.second.after(Duration::from_secs(1)).max(now));
        let date = if next > now.after(MAX_DATED_AHEAD) {
            self.date_by_two_clocks(revocations, client)?
        } else {
            Date::usual(next)
        };
        let vouched_for = client.as_of().checked_add(MAX_CLIENT_ANSWER_AGE);
        if vouched_for.is_none_or(|end| date.issued_at.to_system() > end) {
            return Err(unavailable(
                client,
                "too much time passed between the client's look-up and the signature of its token",
            ));
        }
        Ok(date)
    }

    /// Dates a token when the wall clock is behind the last revocation: the clock was set back, or that time is in the
    /// future.
    #[cold]
    fn date_by_two_clocks(&self, revocations: &Revocations, client: &AuthenticatedClient) -> Result<Date, TokenError> {
        let (now, fresh) = (Moment::now(&*self.clock), Mark::generate(&*self.random)?);
        let date = revocations.date(client.id(), now, fresh).map_err(|Wait(seconds)| {
            let detail = "the client's tokens are revoked up to a time in the future";
            let error = unavailable(client, detail).retry_after(seconds.min(60));
            if seconds <= MAX_USUAL_WAIT.as_secs() { error.short_wait() } else { error }
        })?;
        if date.marked.is_some() && client.as_of() > now.wall {
            // Its age would be negative, so the check of its age alone would accept it for too long.
            return Err(unavailable(client, "the client was looked up before the wall clock was set back"));
        }
        if let Some(Marked { mark, expires_by }) = date.marked.filter(|marked| marked.mark == fresh) {
            let (client_id, mark) = (client.id().as_str(), String::from_utf8_lossy(mark.as_bytes()).into_owned());
            tracing::warn!(
                client_id,
                token_ids = mark,
                now = date.issued_at.as_secs(),
                until = expires_by.as_secs(),
                "the wall clock was set back after the client's tokens were revoked: its new tokens are valid in this process \
                     only, until the clock has passed the time of the revocation; correct the clock"
            );
        }
        Ok(date)
    }
}

fn unavailable(client: &AuthenticatedClient, detail: &str) -> TokenError {
    TokenError::new(Fault::UNAVAILABLE).of(client.id()).detailed(detail)
}

/// A token id: 128 random bits in base64url, unique without coordination. Ids with the same [`Mark`] have 56 random
/// bits each.
#[derive(Clone, Copy)]
struct TokenId([u8; 22]);

impl TokenId {
    #[expect(clippy::expect_used, reason = "both lengths are constants")]
    fn generate(random: &dyn Random, mark: Option<Mark>) -> Result<Self, TokenError> {
        let (mut bits, mut text) = ([0; 16], [0; 22]);
        random.fill(&mut bits)?;
        URL_SAFE_NO_PAD.encode_slice(bits, &mut text).expect("16 bytes are 22 characters in base64url");
        if let (Some(mark), Some(start)) = (mark, text.first_chunk_mut()) {
            *start = *mark.as_bytes();
        }
        Ok(Self(text))
    }

    #[expect(clippy::expect_used, reason = "only `generate` makes one")]
    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("base64url is ASCII")
    }
}

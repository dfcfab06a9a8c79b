//! The token itself, a JWT access token (RFC 9068): [`Grant`] → [`AccessToken`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::authenticate::AuthenticatedClient;
use super::grant::Grant;
use super::too_long;
use crate::audience::Audience;
use crate::authorization_server::error::{Fault, TokenError};
use crate::authorization_server::json::Object;
use crate::client_id::ClientId;
use crate::clock::{Clock, UnixTime};
use crate::issuer::Issuer;
use crate::keys::KeyRing;
use crate::random::Random;
use crate::resource_server::{LONGEST_TOKEN, OwnTokens};
use crate::revocation::{Cleared, Named, Revocations};
use crate::store::{MOST_AHEAD, VOUCHED_FOR};

/// Room for the claims that most tokens have, in bytes.
const USUAL_PAYLOAD: usize = 512;

/// Signs what was granted.
#[derive(Clone, Debug)]
pub(in crate::authorization_server) struct Minter {
    pub(in crate::authorization_server) issuer: Issuer,
    pub(in crate::authorization_server) keys: KeyRing,
    pub(in crate::authorization_server) clock: Arc<dyn Clock>,
    pub(in crate::authorization_server) random: Arc<dyn Random>,
    pub(in crate::authorization_server) revocations: Option<Revocations>,
}

/// A signed token; only [`Minter::mint`] makes one. Whoever holds its text may use it.
pub(super) struct AccessToken {
    text: TokenText,
    id: TokenId,
    issued_at: UnixTime,
    expires_in: u64,
}

impl AccessToken {
    pub(super) fn as_str(&self) -> &str {
        match &self.text {
            TokenText::New(text) => text,
            TokenText::Again(text) => text,
        }
    }

    /// Its name, the `jti`.
    pub(super) fn id(&self) -> &str {
        self.id.as_str()
    }

    /// How long it lives from now on, in seconds.
    pub(super) fn expires_in(&self) -> u64 {
        self.expires_in
    }

    /// Returns the same token, to be given out once more, that many seconds later. From one that was given out
    /// before, the next is made without a copy.
    pub(super) fn again(&self, later: u64) -> Self {
        let expires_in = self.expires_in.saturating_sub(later);
        let text = match &self.text {
            TokenText::New(text) => text.as_str().into(),
            TokenText::Again(text) => text.clone(),
        };
        Self { text: TokenText::Again(text), expires_in, ..*self }
    }
}

/// Most are given out once, and there is nothing to share.
enum TokenText {
    New(String),
    Again(Arc<str>),
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(…)")
    }
}

impl Minter {
    /// What it signed, and what others signed in its name.
    pub(in crate::authorization_server) fn own_tokens(&self) -> OwnTokens {
        OwnTokens::new(self.issuer.clone(), self.keys.clone())
    }

    pub(super) fn mint(&self, grant: &Grant) -> Result<AccessToken, TokenError> {
        let id = TokenId::generate(&*self.random)?;
        let issued_at = self.issued_at(grant.client())?;
        let expires_in = grant.lifetime().to_duration();
        let expires_at = issued_at.after(expires_in);
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
        let key = self.keys.signing_key();
        let length = key.token_len(payload.len());
        if length > LONGEST_TOKEN {
            return Err(too_long::error(&self.issuer, grant, length));
        }
        let text = key.sign(payload.as_bytes());
        let text = text.ok_or_else(|| TokenError::new(Fault::UNAVAILABLE).detailed("the key could not sign"))?;
        Ok(AccessToken { text: TokenText::New(text), id, issued_at, expires_in: expires_in.as_secs() })
    }

    /// Whether a token that it signed for this client is known to be good still.
    pub(super) fn stands_by(&self, token: &AccessToken, client_id: &ClientId) -> bool {
        let Some(revocations) = &self.revocations else { return true };
        let (token_id, issued_at, key_id) = (token.id(), token.issued_at, self.keys.signing_key().key_id());
        revocations.check(Named { client_id, token_id, issued_at, key_id }, &Cleared::default()).is_ok()
    }

    /// Now, or after what was called back of the client: at most three seconds ahead, which verifiers allow for; and not long
    /// after the registry had the client, or its callback would not reach the token.
    fn issued_at(&self, client: &AuthenticatedClient) -> Result<UnixTime, TokenError> {
        let unavailable = |detail| TokenError::new(Fault::UNAVAILABLE).of(client.id()).detailed(detail);
        let now = UnixTime::now(&*self.clock);
        let Some(revocations) = &self.revocations else { return Ok(now) };
        if revocations.has_key(self.keys.signing_key().key_id()) {
            let detail = "all that the signing key signs is revoked; give the server another key";
            return Err(unavailable(detail));
        }
        let revoked = revocations.issued_until(client.id());
        let next = revoked.map_or(now, |until| until.second.after(Duration::from_secs(1)));
        let mut set_back = 0;
        if next > now.after(MOST_AHEAD) {
            // The wall clock may have been set back since: the other clock says when the wait is over, and then dates the
            // token, which by the wall clock alone would be among the revoked ones.
            let latest = revoked.map_or(now, |until| until.now(&*self.clock));
            if next > latest.after(MOST_AHEAD) {
                let wait = next.as_secs() - latest.after(MOST_AHEAD).as_secs();
                let detail = "its tokens are revoked up to a time that has yet to come";
                return Err(unavailable(detail).retry_after(wait.min(60)));
            }
            set_back = latest.as_secs() - now.as_secs();
        }
        let issued_at = next.max(now.after(Duration::from_secs(set_back)));
        // The registry was asked by the wall clock, so this is held against the wall clock too.
        let vouched_for = client.as_of().checked_add(VOUCHED_FOR + Duration::from_secs(set_back));
        if vouched_for.is_none_or(|end| issued_at.to_system() > end) {
            return Err(unavailable("it was looked up too long before its token was to be signed"));
        }
        Ok(issued_at)
    }
}

/// 128 random bits in base64url: unique without asking anybody.
#[derive(Clone, Copy)]
struct TokenId([u8; 22]);

impl TokenId {
    #[expect(clippy::expect_used, reason = "both lengths are constants")]
    fn generate(random: &dyn Random) -> Result<Self, TokenError> {
        let (mut bits, mut text) = ([0; 16], [0; 22]);
        random.fill(&mut bits)?;
        URL_SAFE_NO_PAD.encode_slice(bits, &mut text).expect("16 bytes are 22 characters in base64url");
        Ok(Self(text))
    }

    #[expect(clippy::expect_used, reason = "only `generate` makes one")]
    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("base64url is ASCII")
    }
}

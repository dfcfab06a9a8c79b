//! [`AccessToken`]: a token that can be sent.

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use super::lifetime::Lifetime;
use crate::clock::Moment;
use crate::debug_fields::debug_fields;
use crate::quoted::quoted;
use crate::scope::Scopes;

/// The longest token that is accepted, in bytes. It is the bound that resource servers have for the header.
const MAX_LENGTH: usize = 16 * 1024;

/// An access token with its prepared `Authorization` header. A clone shares both.
///
/// Its `Debug` shows neither. Two tokens are equal when their text is.
///
/// ```
/// use tower_client_credentials::client::AccessToken;
///
/// let token = AccessToken::bearer("mF_9.B5f-4.1JqM")?;
/// let mut headers = http::HeaderMap::new();
/// token.authorize(&mut headers);
/// assert_eq!(headers["authorization"], "Bearer mF_9.B5f-4.1JqM");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct AccessToken(Arc<Inner>);

struct Inner {
    header: HeaderValue,
    lifetime: Option<Lifetime>,
    scopes: Option<Scopes>,
    /// Whether a resource server accepted the token. Copies share it.
    was_accepted: Arc<AtomicBool>,
    /// The cache that the token came from, which it must not keep alive.
    cache: Option<Weak<dyn Any + Send + Sync>>,
}

impl AccessToken {
    /// Takes a bearer token (RFC 6750 §2.1) from text, for a [`TokenSource`](super::TokenSource) of your own.
    ///
    /// The token has no lifetime: the source decides when it may be sent.
    ///
    /// # Errors
    ///
    /// When the text is empty, longer than 16 KiB, or has characters that a token cannot have. The message does not show it.
    pub fn bearer(text: &str) -> Result<Self, InvalidAccessToken> {
        Self::new(text, None, None, None)
    }

    pub(super) fn new(
        text: &str,
        lifetime: Option<Lifetime>,
        scopes: Option<Scopes>,
        cache: Option<Weak<dyn Any + Send + Sync>>,
    ) -> Result<Self, InvalidAccessToken> {
        if text.is_empty() || text.len() > MAX_LENGTH {
            return Err(InvalidAccessToken("it must have 1 to 16,384 characters"));
        }
        // RFC 6750 §2.1 allows fewer. Servers that issue other visible characters accept them again.
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidAccessToken("only visible ASCII characters are allowed"));
        }
        let header = HeaderValue::try_from(format!("Bearer {text}"));
        let mut header = header.map_err(|_| InvalidAccessToken("it cannot be sent in a header"))?;
        header.set_sensitive(true);
        Ok(Self(Arc::new(Inner { header, lifetime, scopes, was_accepted: Arc::default(), cache })))
    }

    /// Returns a copy with memory of its own, so that threads which send the two write to no common counter.
    pub(super) fn unshared(&self) -> Self {
        // A `HeaderValue` shares its memory with its clones, and can be copied only from bytes.
        let mut header = HeaderValue::from_bytes(self.0.header.as_bytes()).unwrap_or_else(|_| self.0.header.clone());
        header.set_sensitive(true);
        let Inner { lifetime, scopes, was_accepted, cache, .. } = &*self.0;
        Self(Arc::new(Inner {
            header,
            lifetime: *lifetime,
            scopes: scopes.clone(),
            was_accepted: was_accepted.clone(),
            cache: cache.clone(),
        }))
    }

    /// Sets the `Authorization` header, in place of any that is there.
    pub fn authorize(&self, headers: &mut HeaderMap) {
        headers.insert(AUTHORIZATION, self.0.header.clone());
    }

    /// Returns the value of the `Authorization` header. It is marked as sensitive.
    #[must_use]
    pub fn header(&self) -> &HeaderValue {
        &self.0.header
    }

    /// Returns the text of the token. Do not log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        let text = self.0.header.to_str().unwrap_or_default();
        text.strip_prefix("Bearer ").unwrap_or_default()
    }

    /// Returns the scopes that the issuer named in its answer. `None` if it named none, which means those that were requested
    /// (RFC 6749 §5.1).
    #[must_use]
    pub fn scopes(&self) -> Option<&Scopes> {
        self.0.scopes.as_ref()
    }

    /// Returns when the token ends, by the clock of its source. `None` if the issuer did not say.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.0.lifetime.and_then(Lifetime::expires_at)
    }

    /// Notes that a resource server accepted the token.
    #[inline]
    pub(super) fn accepted(&self) {
        // Only the first time, so that threads do not write to the same memory.
        if !self.0.was_accepted.load(Ordering::Relaxed) {
            self.0.was_accepted.store(true, Ordering::Relaxed);
        }
    }

    /// Returns whether the two share their memory.
    #[inline]
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn was_accepted(&self) -> bool {
        self.0.was_accepted.load(Ordering::Relaxed)
    }

    pub(super) fn lifetime(&self) -> Option<&Lifetime> {
        self.0.lifetime.as_ref()
    }

    /// Returns whether a cache may give the token to a caller, and no new one is due yet.
    pub(super) fn is_fresh(&self, now: Moment) -> bool {
        self.0.lifetime.is_some_and(|lifetime| lifetime.is_fresh(now))
    }

    /// Returns the cache that the token came from, if it still exists.
    pub(super) fn cache<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        Arc::downcast(self.0.cache.as_ref()?.upgrade()?).ok()
    }

    /// Returns whether the token came from this cache.
    pub(super) fn came_from<T>(&self, cache: &Arc<T>) -> bool {
        self.0.cache.as_ref().is_some_and(|own| std::ptr::addr_eq(own.as_ptr(), Arc::as_ptr(cache)))
    }
}

impl PartialEq for AccessToken {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.header == other.0.header
    }
}

impl Eq for AccessToken {}

debug_fields!(AccessToken, |this| { expires_at: this.expires_at() });

/// The text is not an access token; the message says why, and never shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid access token (RFC 6750 §2.1): {0}")]
pub struct InvalidAccessToken(&'static str);

/// Returns whether a `token_type` is the one that is sent as `Bearer` (RFC 6749 §7.1), and else what to say about it.
pub(super) fn check_type(token_type: Option<&str>) -> Result<(), String> {
    match token_type {
        Some(token_type) if token_type.eq_ignore_ascii_case("Bearer") => Ok(()),
        // "The client MUST NOT use an access token if it does not understand the token type" (RFC 6749 §7.1).
        Some(other) => Err(format!("`token_type` is {}, expected \"Bearer\"", quoted(other))),
        None => Err("`token_type` is missing, expected \"Bearer\" (RFC 6749 §5.1)".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::AccessToken;

    #[test]
    fn no_output_shows_the_token() {
        let token = AccessToken::bearer("a-secret-token").unwrap();
        assert!(!format!("{token:?} {:?}", token.header()).contains("secret"));
        assert_eq!(token.expose(), "a-secret-token");
        assert!(token.unshared().header().is_sensitive());
    }

    #[test]
    fn text_that_could_end_the_header_is_refused() {
        for text in ["", "a b", "a\r\nx: y", "a\u{7f}", "é", &"a".repeat(16 * 1024 + 1)] {
            assert!(AccessToken::bearer(text).is_err(), "{text:?}");
        }
    }
}

//! Other implementations of the calling side, each with a token that was obtained in advance. They add a header to a request; none
//! repeats a refused request by itself.

use std::sync::Arc;
use std::time::SystemTime;

use aliri_tokens::jitter::RandomEarlyJitter;
use aliri_tokens::sources::ConstTokenSource;
use aliri_tokens::{TokenWatcher, backoff};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Request};
use huskarl::authorizer::HttpAuthorizer;
use huskarl::cache::{InMemoryTokenCache, TokenError, TokenSource};
use huskarl::core::platform::MaybeSendBoxFuture;
use huskarl::grant::core::{RawTokenResponse, TokenResponse};

use crate::measure::now;

/// `HttpAuthorizer` over `InMemoryTokenCache`, as in the example `cached_client` of the crate. The source below it is asked once.
#[derive(Clone)]
pub struct Huskarl(Arc<HttpAuthorizer>);

struct OneToken(Arc<TokenResponse>);

impl TokenSource for OneToken {
    fn token(&self) -> MaybeSendBoxFuture<'_, Result<Arc<TokenResponse>, TokenError>> {
        Box::pin(async { Ok(self.0.clone()) })
    }
}

impl Huskarl {
    pub fn new(token: &str) -> Self {
        let answer = serde_json::json!({"access_token": token, "token_type": "Bearer", "expires_in": 36_000});
        let answer: RawTokenResponse = serde_json::from_value(answer).unwrap();
        let token = answer.into_token_response(None, SystemTime::now()).unwrap();
        let cache = InMemoryTokenCache::builder().source(OneToken(Arc::new(token))).build();
        Self(Arc::new(HttpAuthorizer::builder().cache(cache).build()))
    }

    pub fn authorize(&self, request: &mut Request<()>) {
        let headers: HeaderMap = now(self.0.get_headers(request.method(), request.uri())).unwrap();
        request.headers_mut().extend(headers);
    }
}

/// `TokenWatcher`, whose borrowed token is formatted into a header.
#[derive(Clone)]
pub struct Aliri(TokenWatcher);

impl Aliri {
    pub async fn new(token: &str) -> Self {
        let source = ConstTokenSource::new(token.to_owned()).with_token_valid_for(aliri_clock::DurationSecs(36_000));
        let jitter = RandomEarlyJitter::new(aliri_clock::DurationSecs(30));
        let watcher = TokenWatcher::spawn_from_token_source(source, jitter, backoff::ErrorBackoffConfig::default());
        Self(watcher.await.unwrap())
    }

    pub fn authorize(&self, request: &mut Request<()>) {
        let header = {
            let token = self.0.token();
            HeaderValue::try_from(format!("Bearer {}", token.access_token().as_str())).unwrap()
        };
        request.headers_mut().insert(AUTHORIZATION, header);
    }
}

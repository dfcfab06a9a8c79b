//! The HTTP client that comes with the crate, by reqwest.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use reqwest::redirect;

use super::{HttpClient, HttpError};

/// The system's certificates, and the proxy of the environment.
#[derive(Debug)]
pub(crate) struct ReqwestClient(reqwest::Client);

/// Connections that are not used go: keys are fetched every few minutes.
const IDLE: Duration = Duration::from_secs(30);

impl ReqwestClient {
    pub(crate) fn new() -> Result<Self, HttpError> {
        let client = reqwest::Client::builder()
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .referer(false)
            .pool_idle_timeout(IDLE)
            .build();
        client.map(Self).map_err(HttpError::new)
    }
}

impl HttpClient for ReqwestClient {
    async fn send(&self, request: Request<Bytes>, most: usize) -> Result<Response<Bytes>, HttpError> {
        let request = reqwest::Request::try_from(request).map_err(HttpError::new)?;
        let mut answer = self.0.execute(request).await.map_err(HttpError::new)?;
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(HttpError::new)? {
            if body.len() + chunk.len() > most {
                return Err(HttpError::too_long(most));
            }
            body.extend_from_slice(&chunk);
        }
        let mut response = Response::new(body.freeze());
        *response.status_mut() = answer.status();
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        Ok(response)
    }
}

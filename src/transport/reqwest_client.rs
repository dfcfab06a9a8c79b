//! The HTTP client that comes with the crate, built on reqwest.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use reqwest::redirect;

use super::{HttpClient, HttpError};

/// Trusts the certificates of the system, and connects directly unless the proxy of the environment is asked for.
#[derive(Debug)]
pub(crate) struct ReqwestClient {
    direct: reqwest::Client,
    /// Never used for this machine: no proxy can reach it, and a request that went to one anyway would hand over the secret
    /// and the token in it.
    by_environment: Option<reqwest::Client>,
}

/// Unused connections are closed after this time: keys are fetched every few minutes.
const IDLE: Duration = Duration::from_secs(30);

impl ReqwestClient {
    /// With `environment_proxy`, requests go as `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` say.
    pub(crate) fn new(environment_proxy: bool) -> Result<Self, HttpError> {
        let direct = settings().no_proxy().build().map_err(HttpError::new)?;
        let by_environment = environment_proxy.then(|| settings().build()).transpose().map_err(HttpError::new)?;
        Ok(Self { direct, by_environment })
    }

    fn client_for(&self, url: &reqwest::Url) -> &reqwest::Client {
        match &self.by_environment {
            // By the host as reqwest reads it: that is where it connects.
            Some(client) if !url.host_str().is_some_and(crate::uri::is_this_machine) => client,
            _ => &self.direct,
        }
    }
}

fn settings() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
        // Each redirect is a request of its own, and chooses its client anew.
        .redirect(redirect::Policy::none())
        .referer(false)
        .pool_idle_timeout(IDLE)
}

impl HttpClient for ReqwestClient {
    async fn send(&self, request: Request<Bytes>, most: usize) -> Result<Response<Bytes>, HttpError> {
        let request = reqwest::Request::try_from(request).map_err(HttpError::new)?;
        let answer = self.client_for(request.url()).execute(request).await;
        let mut answer = answer.map_err(|error| {
            let is_connect = error.is_connect();
            // The error of a fetch names the URL already, cut off.
            let error = error.without_url();
            if is_connect { HttpError::no_connection(error) } else { HttpError::new(error) }
        })?;
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| HttpError::new(error.without_url()))? {
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

//! The crate's own HTTP client, built on reqwest.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use reqwest::redirect;

use super::{HttpClient, HttpError, HttpFuture};

/// A client that trusts the system's certificates, and connects directly unless the environment's proxy is enabled.
#[derive(Debug)]
pub(crate) struct ReqwestClient {
    direct: reqwest::Client,
    /// Not used for this machine: a proxy cannot reach it, and a request sent to one would disclose the secret and the token in
    /// it.
    by_environment: Option<reqwest::Client>,
}

/// How long unused connections stay open. Keys are fetched every few minutes.
const IDLE: Duration = Duration::from_secs(30);

impl ReqwestClient {
    /// Creates the client. With `environment_proxy`, it uses `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`.
    pub(crate) fn new(environment_proxy: bool) -> Result<Self, HttpError> {
        let direct = settings().no_proxy().build().map_err(HttpError::new)?;
        let by_environment = environment_proxy.then(|| settings().build()).transpose().map_err(HttpError::new)?;
        Ok(Self { direct, by_environment })
    }

    fn client_for(&self, url: &reqwest::Url) -> &reqwest::Client {
        match &self.by_environment {
            // The host as parsed by reqwest, which is what it connects to.
            Some(client) if !url.host_str().is_some_and(crate::uri::is_this_machine) => client,
            _ => &self.direct,
        }
    }
}

pub(super) fn settings() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
        // Each redirect is a separate request, which selects its client again.
        .redirect(redirect::Policy::none())
        .referer(false)
        .pool_idle_timeout(IDLE)
}

impl HttpClient for ReqwestClient {
    fn send(&self, request: Request<Bytes>, most: usize) -> HttpFuture<'_> {
        HttpFuture::new(async move {
            let request = reqwest::Request::try_from(request).map_err(HttpError::new)?;
            exchange(self.client_for(request.url()), request, most).await
        })
    }
}

/// Sends a request by this client, and reads the answer within the limit.
pub(super) async fn transfer(
    client: &reqwest::Client,
    request: Request<Bytes>,
    most: usize,
) -> Result<Response<Bytes>, HttpError> {
    let request = reqwest::Request::try_from(request).map_err(HttpError::new)?;
    exchange(client, request, most).await
}

async fn exchange(
    client: &reqwest::Client,
    request: reqwest::Request,
    most: usize,
) -> Result<Response<Bytes>, HttpError> {
    let answer = client.execute(request).await;
    let mut answer = answer.map_err(|error| {
        let is_connect = error.is_connect();
        // The fetch error already contains the URL, truncated.
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use bytes::Bytes;
    use http::{Request, Response};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    use super::{HttpError, ReqwestClient};
    use crate::transport::HttpClient as _;

    /// A server that sends the same answer to each request, and then repeats `rest` until the caller disconnects.
    struct Server {
        url: String,
        requests: Arc<Mutex<Vec<String>>>,
    }

    impl Server {
        async fn start(answer: &'static str, rest: &'static str) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/", listener.local_addr().unwrap());
            let requests = Arc::new(Mutex::new(Vec::new()));
            let heard = requests.clone();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(answer_to(stream, heard.clone(), answer, rest));
                }
            });
            Self { url, requests }
        }

        /// Fails instead of waiting for an answer forever.
        async fn ask(&self, most: usize) -> Result<Response<Bytes>, HttpError> {
            let client = ReqwestClient::new(false).unwrap();
            let request = Request::get(&self.url).body(Bytes::new()).unwrap();
            timeout(Duration::from_secs(30), client.send(request, most)).await.unwrap()
        }
    }

    async fn answer_to(mut stream: TcpStream, heard: Arc<Mutex<Vec<String>>>, answer: &str, rest: &str) {
        let (mut request, mut bytes) = (Vec::new(), [0; 4_096]);
        while !request.ends_with(b"\r\n\r\n") {
            let read = stream.read(&mut bytes).await.unwrap();
            assert!(read > 0, "the caller disconnected");
            request.extend_from_slice(&bytes[..read]);
        }
        heard.lock().unwrap().push(String::from_utf8(request).unwrap());
        stream.write_all(answer.as_bytes()).await.unwrap();
        while !rest.is_empty() && stream.write_all(rest.as_bytes()).await.is_ok() {}
    }

    const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";

    #[tokio::test]
    async fn a_body_may_be_as_long_as_the_limit_and_no_longer() {
        let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
                      a\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n";
        let server = Server::start(answer, "").await;
        assert_eq!(server.ask(20).await.unwrap().body(), "01234567890123456789");
        assert!(server.ask(19).await.unwrap_err().is_too_long());
    }

    #[tokio::test]
    async fn an_endless_body_is_an_error() {
        let server = Server::start(CHUNKED, "a\r\n0123456789\r\n").await;
        assert!(server.ask(100_003).await.unwrap_err().is_too_long());
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed_and_the_user_agent_names_the_crate() {
        let answer = "HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let server = Server::start(answer, "").await;
        assert_eq!(server.ask(100).await.unwrap().status(), 302);
        let requests = server.requests.lock().unwrap();
        assert_eq!(requests.len(), 1, "{requests:?}");
        let name = concat!("user-agent: ", env!("CARGO_PKG_NAME"), "/");
        assert!(requests[0].to_lowercase().contains(name), "{requests:?}");
    }
}

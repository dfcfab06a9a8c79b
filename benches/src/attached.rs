//! The layer of the client role with a token in its cache, around a service that costs almost nothing.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, Response};
use http_body_util::Full;
use tower::{Service, service_fn};
use tower_client_credentials::client::{CachedTokenSource, SecretSource};
use tower_client_credentials::{ClientCredentials, ClientCredentialsLayer};

const API: &str = "https://api.example.com";

#[derive(Clone)]
pub struct Inner;

impl Service<Request<()>> for Inner {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        black_box(request.headers().get(AUTHORIZATION));
        ready(Ok(Response::new(())))
    }
}

/// Returns a layer that has a token of 800 characters.
pub fn layer() -> ClientCredentialsLayer {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    ClientCredentialsLayer::from_source(runtime.block_on(source(&"x".repeat(800))), API).expect("an origin")
}

pub async fn source(token: &str) -> CachedTokenSource {
    let answer = format!(r#"{{"access_token": "{token}", "token_type": "Bearer", "expires_in": 36000}}"#);
    let issuer = service_fn(move |_: Request<Full<Bytes>>| {
        ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(answer.clone()))))
    });
    let source = ClientCredentials::new("https://auth.example.com", "billing", SecretSource::from_value("secret"))
        .token_endpoint("https://auth.example.com/token")
        .http_service(issuer)
        .build()
        .expect("the settings");
    source.token().await.expect("a token");
    source
}

pub fn request() -> Request<()> {
    Request::get(format!("{API}/invoices")).header("accept", "application/json").body(()).expect("a request")
}

/// Makes a call whose answer is there at the first poll. The future is polled where it was made, as a task does.
///
/// # Panics
///
/// If it is not, or is an error.
#[inline(always)] // Otherwise the compiler decides for which services the request and the answer are copied once more.
pub fn call<S>(service: &mut S, request: Request<()>)
where
    S: Service<Request<()>, Error: std::fmt::Debug>,
{
    let answer = pin!(service.call(request)).poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(answer) = answer else { panic!("it had to wait") };
    black_box(answer.expect("an answer"));
}

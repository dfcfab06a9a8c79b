//! [`ResourceMetadataEndpoint`], which wraps a service, and [`ResourceMetadataService`], which serves only the document.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use tower::Service;

use super::ResourceMetadata;
use crate::transport::{EndpointFuture, ResponseBody, without_body, wraps_service};

impl ResourceMetadata {
    fn answer<B>(&self, request: Request<B>) -> Response<Full<Bytes>> {
        let (head, _) = request.into_parts();
        let response = self.inner.document.answer(&head);
        if head.method == Method::HEAD { without_body(response) } else { response }
    }
}

/// A service that also serves the metadata; created by [`ResourceMetadataLayer`](super::ResourceMetadataLayer).
#[derive(Clone, Debug)]
pub struct ResourceMetadataEndpoint<S> {
    inner: S,
    metadata: ResourceMetadata,
}

impl<S> ResourceMetadataEndpoint<S> {
    pub(super) fn new(inner: S, metadata: ResourceMetadata) -> Self {
        Self { inner, metadata }
    }
}

wraps_service!(ResourceMetadataEndpoint<S>);

impl<S, B, R> Service<Request<B>> for ResourceMetadataEndpoint<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = EndpointFuture<S::Future, Ready<Result<Response<Full<Bytes>>, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if request.uri().path() == self.metadata.path() {
            EndpointFuture::own(Box::pin(self.metadata.service().call(request)))
        } else {
            EndpointFuture::inner(self.inner.call(request))
        }
    }
}

/// A service that serves the document of a [`ResourceMetadata`] at any path. For `Router::route_service` at its
/// [path](ResourceMetadata::path).
#[derive(Clone, Debug)]
pub struct ResourceMetadataService {
    metadata: ResourceMetadata,
}

impl ResourceMetadataService {
    pub(super) fn new(metadata: ResourceMetadata) -> Self {
        Self { metadata }
    }
}

impl<B> Service<Request<B>> for ResourceMetadataService {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(self.metadata.answer(request)))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use bytes::Bytes;
    use futures_util::FutureExt as _;
    use http::{Request, Response, StatusCode};
    use http_body_util::Full;
    use tower::{Layer as _, Service as _, service_fn};

    use super::Infallible;
    use crate::resource_server::{ResourceMetadata, ResourceMetadataLayer};

    #[test]
    #[should_panic(expected = "`Ready` polled after completion")]
    fn metadata_that_is_polled_after_completion_panics() {
        let metadata = ResourceMetadata::builder("https://api.example.com");
        let metadata = metadata.authorization_server("https://auth.example.com").build().unwrap();
        let inner = service_fn(async |_| Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())));
        let request = Request::get(metadata.path()).body(Full::<Bytes>::default()).unwrap();
        let mut future = pin!(ResourceMetadataLayer::new(metadata).layer(inner).call(request));
        assert_eq!(future.as_mut().now_or_never().unwrap().unwrap().status(), StatusCode::OK);
        let _ = future.as_mut().now_or_never();
    }
}

//! [`ClientAdministrationService`]: the administration as a service.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response};
use http_body::Body;
use http_body_util::Full;
use tower::{BoxError, Layer as _, Service};

use super::report::Report;
use super::request::Operation;
use super::{AdministrationRefusal, AdministrationRefusalKind, ClientAdministration, Inner};
use crate::authorization_server::{BodyError, ReadBody, is_content_type};
use crate::client_id::ClientId;
use crate::resource_server::{BearerAuth, ResponseFuture};
use crate::store::StoreError;
use crate::transport::{ResponseBody, without_body};
use crate::verification::VerifiedToken;

/// The administration API with the check of its tokens. It expects the whole path of a request.
#[derive(Clone, Debug)]
pub struct ClientAdministrationService {
    protected: BearerAuth<AdministrationOperations>,
}

/// The operations of the administration API. Only requests with a verified token reach them.
#[derive(Clone, Debug)]
pub struct AdministrationOperations {
    administration: ClientAdministration,
}

impl ClientAdministrationService {
    pub(super) fn new(administration: &ClientAdministration) -> Self {
        let operations = AdministrationOperations { administration: administration.clone() };
        Self { protected: administration.inner.protect.layer(operations) }
    }
}

impl<B> Service<Request<B>> for ClientAdministrationService
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<ResponseBody<Full<Bytes>>>;
    type Error = Infallible;
    type Future = ResponseFuture<AdministrationOperations, B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.protected.call(request)
    }
}

impl<B> Service<Request<B>> for AdministrationOperations
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let inner = self.administration.inner.clone();
        let (head, body) = request.into_parts();
        Box::pin(async move {
            let is_head = head.method == Method::HEAD;
            // The token is there: the layer around this service has verified it.
            let response = match head.extensions.get::<VerifiedToken>().cloned() {
                Some(token) => answer(inner, token, head, body).await,
                None => AdministrationRefusal::denied("the request has no token").response(),
            };
            Ok(if is_head { without_body(response) } else { response })
        })
    }
}

async fn answer<B>(inner: Arc<Inner>, token: VerifiedToken, head: Parts, body: B) -> Response<Full<Bytes>>
where
    B: Body<Error: Into<BoxError>>,
{
    let operation = match Operation::read(&inner.path, &head.method, &head.uri) {
        Ok(operation) => operation,
        Err(refusal) => return refusal.response(),
    };
    let body = if operation.is_change() { read_body(&inner, &head, body).await } else { Ok(Bytes::new()) };
    // A task of its own: a caller that disconnects does not stop a change between the store and its report.
    let task = tokio::spawn(async move { inner.carry_out(&token, &operation, &head, body).await });
    match task.await {
        Ok(response) => response,
        Err(error) => {
            tracing::error!(%error, "a request of an administrator did not complete");
            AdministrationRefusal::unavailable(&StoreError::new(error)).response()
        }
    }
}

/// Reads the body of a change, within the limits of the server.
async fn read_body<B>(inner: &Inner, head: &Parts, body: B) -> Result<Bytes, AdministrationRefusal>
where
    B: Body<Error: Into<BoxError>>,
{
    let body = ReadBody::new(head, body, inner.server.body_limits).await.map_err(|error| match error {
        BodyError::TooLarge => {
            AdministrationRefusal::new(AdministrationRefusalKind::PayloadTooLarge, "the body is too large")
        }
        BodyError::TooSlow => {
            AdministrationRefusal::new(AdministrationRefusalKind::Timeout, "the body did not arrive in time")
        }
        BodyError::Broken(_) => AdministrationRefusal::request("the body could not be read"),
    })?;
    if !body.is_empty() && !is_content_type(&head.headers, b"application/json") {
        let text = "the body must have the content type `application/json`";
        return Err(AdministrationRefusal::new(AdministrationRefusalKind::UnsupportedMediaType, text));
    }
    Ok(body)
}

/// How often a request is decided anew because another change came first.
const MAX_ATTEMPTS: usize = 5;

impl Inner {
    async fn carry_out(
        &self,
        token: &VerifiedToken,
        operation: &Operation,
        head: &Parts,
        body: Result<Bytes, AdministrationRefusal>,
    ) -> Response<Full<Bytes>> {
        let (mut client, mut result) = (None, Err(AdministrationRefusal::unknown_client()));
        for _ in 0..MAX_ATTEMPTS {
            (client, result) = self.attempt(token, operation, head, body.as_ref()).await;
            if !result.as_ref().is_err_and(AdministrationRefusal::is_race) {
                break;
            }
        }
        let report = Report {
            operation: operation.name(),
            is_change: operation.is_change(),
            client: client.as_ref().or(operation.client_id()),
            token,
            extensions: &head.extensions,
        };
        self.report(&report, result.as_ref().map(drop));
        result.unwrap_or_else(|refusal| refusal.response())
    }

    /// Returns the id of a client that was created or would be, and the answer.
    async fn attempt(
        &self,
        token: &VerifiedToken,
        operation: &Operation,
        head: &Parts,
        body: Result<&Bytes, &AdministrationRefusal>,
    ) -> (Option<ClientId>, Result<Response<Full<Bytes>>, AdministrationRefusal>) {
        let actor = match self.actor(token, operation.is_change()).await {
            Ok(actor) => actor,
            Err(refusal) => return (None, Err(refusal)),
        };
        let body = match body {
            Ok(body) => body,
            Err(refusal) => return (None, Err(refusal.clone())),
        };
        match operation {
            Operation::List => (None, self.list(head.uri.query()).await),
            Operation::Read(id) => (None, self.read(id).await),
            Operation::Create => self.create(&actor, &head.headers, body).await,
            Operation::Change(id, change) => (None, self.change(&actor, id, change, &head.headers, body).await),
        }
    }
}

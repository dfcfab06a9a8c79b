//! [`BearerAuthLayer`]: lets a request through only with a token that was verified.

use std::sync::Arc;

use tower::Layer;

use super::challenge::Challenges;
use super::gate::Gate;
use super::grpc::GrpcRefusals;
use super::policy::Policy;
use super::{BearerAuth, InvalidResourceMetadata, Methods, PolicyError, RequestHead, ResourceMetadata};
use crate::event::EventSender;
use crate::scope::{Scope, Scopes};
use crate::verification::{VerifiedToken, Verifier};

/// Lets a request through only with a token that its [`Verifier`] accepts, and hands the proof on.
///
/// 1. The token is read from the `Authorization` header and nowhere else (RFC 6750 §2.1).
/// 2. A verified token must have every [required scope](Self::require_scope).
/// 3. The wrapped service finds a [`VerifiedToken`](super::VerifiedToken) in the request's extensions, and the
///    `Authorization` value marked as sensitive.
/// 4. Every other request is answered with the challenge of RFC 6750 §3, which names the required scopes. A gRPC call gets a trailers-only answer instead,
///    with the challenge among its metadata: `UNAUTHENTICATED` (16), or `PERMISSION_DENIED` (7) where the token is good and
///    not enough. A gRPC call is a `POST` of content type `application/grpc` over HTTP/2 or later, or of
///    `application/grpc-web` or `application/grpc-web-text` over any version, with or without a format such as `+proto`.
///    A gRPC-Web call gets the status and the metadata in the body, so that a page of another origin can read them whatever
///    headers CORS exposes.
/// 5. Where nobody can tell, the answer is a 503 with `Retry-After`, in gRPC `UNAVAILABLE` (14).
/// 6. Before an HTTP/1.1 request is refused, its body is read, up to 64 KiB and for half a second. Otherwise hyper closes
///    the connection, and a caller that is still sending may fail to read the answer. Where the body has yet to arrive, this
///    needs the timer of Tokio's runtime.
///
/// A token may have 16 KiB. hyper's own bound on all headers together may be met before: over HTTP/2 it is 16 KiB by
/// default, and the answer a 431.
///
/// # With tonic
///
/// `tonic::service::LayerExt` puts the layer around one service, so that others on the same server, such as the health check
/// and reflection, stay open. gRPC-Web is translated inside of it:
///
/// ```no_run
/// # use tower_client_credentials::BearerAuthLayer;
/// # use tonic::body::Body;
/// # #[derive(Clone)] struct Invoices;
/// # impl tonic::server::NamedService for Invoices { const NAME: &'static str = "example.Invoices"; }
/// # impl tower::Service<http::Request<Body>> for Invoices {
/// #     type Response = http::Response<Body>;
/// #     type Error = std::convert::Infallible;
/// #     type Future = std::future::Ready<Result<Self::Response, Self::Error>>;
/// #     fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> { unreachable!() }
/// #     fn call(&mut self, _: http::Request<Body>) -> Self::Future { unreachable!() }
/// # }
/// use tonic::service::LayerExt as _;
/// use tonic::transport::Server;
/// use tonic_web::GrpcWebLayer;
/// use tower::ServiceBuilder;
///
/// # async fn serve(protect: BearerAuthLayer) -> Result<(), Box<dyn std::error::Error>> {
/// let (_, health) = tonic_health::server::health_reporter();
/// Server::builder()
///     .accept_http1(true)
///     .add_service(health)
///     .add_service(ServiceBuilder::new().layer(protect).layer(GrpcWebLayer::new()).named_layer(Invoices))
///     .serve("127.0.0.1:50051".parse()?)
///     .await?;
/// # Ok(())
/// # }
/// ```
///
/// # Behind a forward-auth proxy
///
/// The trailers-only answer of gRPC has the HTTP status **200**, also where it refuses. A proxy that asks this service
/// whether to admit a request, and reads only the status (`auth_request` of nginx, `ForwardAuth` of Traefik, the HTTP form
/// of Envoy's `ext_authz`), would take it for an admission, since such a proxy sends the caller's content type along. Give
/// the layer of such a route [`without_grpc_refusals`](Self::without_grpc_refusals): every refusal is then a 4xx, or a 503.
///
/// # Nesting
///
/// Layers of one verifier may be nested, a common one outside and one with more scopes inside: the token is
/// verified once.
///
/// # Example
///
/// ```
/// use axum::{Router, routing::{get, post}};
/// use tower_client_credentials::{BearerAuthLayer, Scope};
/// # use tower_client_credentials::{AuthorizationServer, KeyRing, MemoryStore};
/// # let server = AuthorizationServer::new("https://auth.example.com", KeyRing::generate()?, MemoryStore::default())?;
///
/// let token = BearerAuthLayer::new(server.verifier("https://api.example.com")?);
/// let write = token.clone().require_scope(Scope::from_static("invoices:write"));
/// let app: Router = Router::new()
///     .route("/invoices", get(async || "all").merge(post(async || "made").layer(write)))
///     .layer(token);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct BearerAuthLayer {
    gate: Arc<Gate>,
}

impl BearerAuthLayer {
    /// Lets in whatever this verifier accepts.
    #[must_use]
    pub fn new(verifier: Verifier) -> Self {
        Self { gate: Arc::new(Gate::new(verifier)) }
    }

    /// Asks for one more scope; a token must have all of them. None by default.
    #[must_use]
    pub fn require_scope(self, scope: Scope) -> Self {
        self.require_scopes([scope])
    }

    /// Asks for more scopes; a token must have all of them.
    #[must_use]
    pub fn require_scopes(self, scopes: impl Into<Scopes>) -> Self {
        self.with(|gate| {
            gate.required.all_of(&scopes.into());
            gate.challenges = Arc::new(gate.challenges.with_scopes(gate.required.of_every_method()));
        })
    }

    /// Asks for at least one of these scopes, besides all that are [required](Self::require_scope).
    ///
    /// An empty set lets nobody in.
    #[must_use]
    pub fn require_any_scope(self, scopes: impl Into<Scopes>) -> Self {
        self.with(|gate| gate.required.any_of(scopes.into()))
    }

    /// Asks for more scopes where the request has one of these [methods](Methods); a token must have all of them, besides
    /// those that every method asks for. None by default. (All gRPC calls are `POST`.)
    ///
    /// To read with one and write with another leaves no method out:
    ///
    /// ```
    /// # use tower_client_credentials::{BearerAuthLayer, Methods, Scope, Verifier};
    /// # fn protect(verifier: Verifier) -> BearerAuthLayer {
    /// BearerAuthLayer::new(verifier)
    ///     .require_scopes_for(Methods::SAFE, Scope::from_static("invoices:read"))
    ///     .require_scopes_for(Methods::UNSAFE, Scope::from_static("invoices:write"))
    ///     .require_scopes_for(http::Method::DELETE, Scope::from_static("invoices:delete"))
    /// # }
    /// ```
    #[must_use]
    pub fn require_scopes_for(self, methods: impl Into<Methods>, scopes: impl Into<Scopes>) -> Self {
        self.with(|gate| gate.required.all_for(methods.into(), scopes.into()))
    }

    /// A policy of one's own over the proof and the request, asked after the scopes were found to be enough. Of several, all
    /// must agree. None by default.
    ///
    /// It is asked about every verified token, so it must not block; a request that an [optional](Self::optional) layer lets
    /// through without a token is none of its business. What has to be looked up belongs into a layer behind this one.
    /// To refuse and to be unable to decide are two types, [`Forbidden`](super::Forbidden) (403) and
    /// [`Undecided`](super::Undecided) (503), and either becomes the error by `into` or `?`.
    ///
    /// ```
    /// # use tower_client_credentials::{BearerAuthLayer, Forbidden, Verifier};
    /// # fn protect(verifier: Verifier) -> BearerAuthLayer {
    /// BearerAuthLayer::new(verifier).policy(|token, request| {
    ///     let tenant = request.uri().path().split('/').nth(1);
    ///     if tenant == Some(token.subject()) { Ok(()) } else { Err(Forbidden::new("it is another tenant's").into()) }
    /// })
    /// # }
    /// ```
    #[must_use]
    pub fn policy(
        self,
        decide: impl Fn(&VerifiedToken, RequestHead<'_>) -> Result<(), PolicyError> + Send + Sync + 'static,
    ) -> Self {
        self.with(|gate| gate.policies.push(Policy(Arc::new(decide))))
    }

    /// Names the [metadata](ResourceMetadata) of this API in every challenge, so that a client which is refused finds its
    /// issuer (RFC 9728 §5.1). None by default.
    ///
    /// # Errors
    ///
    /// When it is the metadata of another resource than the verifier's audience.
    pub fn resource_metadata(self, metadata: &ResourceMetadata) -> Result<Self, InvalidResourceMetadata> {
        let audience = self.gate.verifier.audience();
        if metadata.resource() != audience {
            let (metadata, audience) = (metadata.resource().clone(), audience.clone());
            return Err(InvalidResourceMetadata::OtherResource { metadata, audience });
        }
        let challenges = Challenges::new(audience, Some(metadata), self.gate.required.of_every_method());
        Ok(self.with(|gate| gate.challenges = Arc::new(challenges)))
    }

    /// Ends what is still under way when the token expires (with the verifier's leeway). Off by default: who was let in is
    /// served to the end.
    ///
    /// 1. A request that has no answer yet, a long upload for instance, is refused as one with an expired token is, and what
    ///    the wrapped service was doing for it is dropped, as it is when a caller hangs up.
    /// 2. A gRPC stream ends with the status 16, `UNAUTHENTICATED`, also in gRPC-Web.
    /// 3. Any other answer breaks off with an error, since an end could be taken for the whole of it: over HTTP/1.1 the
    ///    connection closes, over HTTP/2 the stream is reset.
    ///
    /// The time left is taken from the verifier's clock once, and then kept by tokio's, which must be running. When it is
    /// off, it costs nothing.
    #[must_use]
    pub fn end_at_expiry(self) -> Self {
        self.with(|gate| gate.ends_at_expiry = true)
    }

    /// Decides and reports, and **lets every request through**: to watch a guard before it is put in force.
    ///
    /// Dangerous: nothing is protected. What would be refused is a warning in the log and an
    /// [event](crate::event::Outcome::WouldReject). The wrapped service finds a [`VerifiedToken`] only where one was verified,
    /// here or by a layer outside, also if it would not have been enough; take it as `Option<VerifiedToken>` for as long as this is on. Nothing
    /// [ends at expiry](Self::end_at_expiry). The extractors that ask for more themselves stay as strict as they are.
    #[must_use]
    pub fn dangerous_only_report(self) -> Self {
        self.with(|gate| gate.only_reports = true)
    }

    /// Lets requests without a bearer token through as well, without a
    /// [`VerifiedToken`](super::VerifiedToken). A token that is there must be good, and have the required scopes.
    #[must_use]
    pub fn optional(self) -> Self {
        self.with(|gate| gate.optional = true)
    }

    /// Takes the `Authorization` header away before the request goes on, so that the wrapped service cannot pass
    /// the token on to somebody else. Off by default; a token that was let through is marked as sensitive in any case.
    /// A layer that [only reports](Self::dangerous_only_report) does either with a token that it would refuse as well.
    /// A token in the query stays there, as do credentials of another scheme that an [optional](Self::optional) layer
    /// lets through.
    #[must_use]
    pub fn remove_authorization(self) -> Self {
        self.with(|gate| gate.remove_authorization = true)
    }

    /// Reads the token from the query parameter `access_token` as well (RFC 6750 §2.3).
    ///
    /// Dangerous: URLs end up in logs, histories and `Referer` headers, and the token with them. For clients that
    /// cannot set a header. The answers should have `Cache-Control: private` (§2.3), which is for the wrapped service
    /// to set.
    #[must_use]
    pub fn dangerous_token_in_query(self) -> Self {
        self.with(|gate| gate.token_in_query = true)
    }

    /// Answers gRPC calls, gRPC-Web included, as every other request: a refusal is a 401, 403 or 503 without `grpc-status`,
    /// and a stream that [ends at expiry](Self::end_at_expiry) breaks off. By default they are answered as gRPC, with the
    /// HTTP status 200.
    ///
    /// For a route that a forward-auth proxy asks: see [above](Self#behind-a-forward-auth-proxy). gRPC clients understand
    /// such an answer, too, by the table of gRPC from HTTP statuses to its own, but get no message.
    #[must_use]
    pub fn without_grpc_refusals(self) -> Self {
        self.with(|gate| gate.grpc_refusals = GrpcRefusals::Off)
    }

    /// Answers calls of content type `application/grpc` as gRPC over HTTP/1.1, too. By default such a call gets the answer
    /// of HTTP, since gRPC needs HTTP/2.
    ///
    /// Dangerous: any HTTP/1.1 request of that content type is refused with the status 200, which a proxy, a cache or a
    /// monitor outside takes for a success. It is for a layer **inside** one that translates gRPC-Web to gRPC and leaves the
    /// version of the request as it was, such as `tonic_web::GrpcWebLayer`, which turns the answer back into gRPC-Web. Put
    /// this layer outside of it instead, where you can. `GrpcWebLayer` leaves the status in the headers: for pages of other
    /// origins, CORS must then expose `grpc-status` and `grpc-message`, or a refused stream looks like an empty one.
    #[must_use]
    pub fn dangerous_grpc_refusals_over_http1(self) -> Self {
        self.with(|gate| gate.grpc_refusals = GrpcRefusals::AnyVersion)
    }

    /// Where [events](crate::event) go. Nowhere by default. Of nested layers each one reports its own decision; give the
    /// sender to one of them.
    #[must_use]
    pub fn events(self, events: EventSender) -> Self {
        self.with(|gate| gate.events = Some(events))
    }

    fn with(mut self, set: impl FnOnce(&mut Gate)) -> Self {
        set(Arc::make_mut(&mut self.gate));
        self
    }

    #[cfg(test)]
    pub(super) fn gate(self) -> Arc<Gate> {
        self.gate
    }
}

impl<S> Layer<S> for BearerAuthLayer {
    type Service = BearerAuth<S>;

    fn layer(&self, inner: S) -> BearerAuth<S> {
        BearerAuth::new(inner, self.gate.clone())
    }
}

//! [`BearerAuthLayer`]: admits only requests with a verified token.

use std::sync::Arc;

use http::Extensions;
use tower::Layer;

use super::challenge::Challenges;
use super::decision::Guard;
use super::grpc::GrpcRefusals;
use super::policy::Policy;
use super::{
    ApiKeys, BearerAuth, BearerError, InvalidResourceMetadata, Methods, PolicyError, RequestHead, ResourceMetadata,
};
use crate::event::EventSender;
use crate::scope::{Scope, Scopes};
use crate::transport::{RefusalBody, RefusalHook};
use crate::verification::{VerifiedToken, Verifier};

/// A layer that admits a request only with a token that its [`Verifier`] accepts, and passes the token to the inner service.
///
/// 1. The token is read only from the `Authorization` header (RFC 6750 §2.1).
/// 2. A verified token must have every [required scope](Self::require_scope).
/// 3. The wrapped service finds a [`VerifiedToken`](crate::VerifiedToken) in the request's extensions. The `Authorization`
///    value is marked as sensitive.
/// 4. Every other request is answered with the challenge of RFC 6750 §3, which names the required scopes. A gRPC call gets a
///    trailers-only answer instead, with the challenge in its metadata: `UNAUTHENTICATED` (16), or `PERMISSION_DENIED` (7)
///    if the token is valid but not sufficient. A gRPC call is a `POST` with the content type `application/grpc` over HTTP/2
///    or later, or with `application/grpc-web` or `application/grpc-web-text` over any version, with or without a format
///    such as `+proto`. A gRPC-Web call gets the status and the metadata in the body, so that a page of another origin can
///    read them regardless of the headers that CORS exposes.
/// 5. If the token cannot be verified because a required part does not answer, the answer is a 503 with `Retry-After`, in
///    gRPC `UNAVAILABLE` (14).
/// 6. Before an HTTP/1.1 request is refused, its body is read, up to 64 KiB and for half a second. Otherwise hyper closes
///    the connection, and a caller that is still sending may fail to read the answer. Waiting for a body that has not yet
///    arrived needs the timer of Tokio's runtime.
///
/// A token may have 16 KiB. hyper's own limit on all headers together may apply first: over HTTP/2 it is 16 KiB by default,
/// and the answer is a 431.
///
/// # With tonic
///
/// `tonic::service::LayerExt` applies the layer to one service, so that others on the same server, such as the health check
/// and reflection, stay open. Put the gRPC-Web translation inside this layer:
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
/// A trailers-only gRPC answer has the HTTP status **200**, also for a refusal. Some proxies ask this service whether to
/// admit a request, read only the status, and send the caller's content type along: `auth_request` of nginx, `ForwardAuth`
/// of Traefik, the HTTP form of Envoy's `ext_authz`. Such a proxy would take the 200 for an admission. Set
/// [`without_grpc_refusals`](Self::without_grpc_refusals) on the layer of such a route: every refusal is then a 4xx or a 503.
///
/// # Nesting
///
/// Layers with the same verifier may be nested, for example a common outer one and an inner one that requires more scopes. The
/// token is verified once.
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
#[must_use = "a layer protects nothing until it wraps a service"]
pub struct BearerAuthLayer {
    guard: Arc<Guard>,
}

impl BearerAuthLayer {
    /// Creates a layer that admits every token that the verifier accepts.
    pub fn new(verifier: Verifier) -> Self {
        Self { guard: Arc::new(Guard::new(verifier)) }
    }

    /// Requires one more scope; a token must have all required scopes. None by default.
    pub fn require_scope(self, scope: Scope) -> Self {
        self.require_scopes([scope])
    }

    /// Requires more scopes; a token must have all required scopes. None by default.
    pub fn require_scopes(self, scopes: impl Into<Scopes>) -> Self {
        self.with(|guard| {
            guard.required.all_of(&scopes.into());
            guard.challenges = Arc::new(guard.challenges.with_scopes(guard.required.of_every_method()));
        })
    }

    /// Requires at least one of these scopes, in addition to all [required](Self::require_scope) ones.
    ///
    /// An empty set refuses every request.
    pub fn require_any_scope(self, scopes: impl Into<Scopes>) -> Self {
        self.with(|guard| guard.required.any_of(scopes.into()))
    }

    /// Requires more scopes for requests with one of these [methods](Methods). A token must have all of them, in addition to
    /// those that every method requires. None by default. All gRPC calls are `POST`.
    ///
    /// One scope to read and another to write cover all methods:
    ///
    /// ```
    /// # use tower_client_credentials::resource_server::Methods;
    /// # use tower_client_credentials::{BearerAuthLayer, Scope, Verifier};
    /// # fn protect(verifier: Verifier) -> BearerAuthLayer {
    /// BearerAuthLayer::new(verifier)
    ///     .require_scopes_for(Methods::SAFE, Scope::from_static("invoices:read"))
    ///     .require_scopes_for(Methods::UNSAFE, Scope::from_static("invoices:write"))
    ///     .require_scopes_for(http::Method::DELETE, Scope::from_static("invoices:delete"))
    /// # }
    /// ```
    pub fn require_scopes_for(self, methods: impl Into<Methods>, scopes: impl Into<Scopes>) -> Self {
        self.with(|guard| guard.required.all_for(methods.into(), scopes.into()))
    }

    /// Adds your own policy over the verified token and the request. It runs after the scopes were checked. If there are
    /// several policies, all must agree. None by default.
    ///
    /// The policy runs for every verified token and must not block; put a check that needs a lookup into a layer inside this
    /// one. It does not run for a request that an [optional](Self::optional) layer admits without a token. A policy returns
    /// [`Forbidden`](super::Forbidden) to refuse (403), or [`Unavailable`](crate::verification::Unavailable) if it cannot
    /// decide (503). Both convert into the error with `into` or `?`.
    ///
    /// ```
    /// # use tower_client_credentials::resource_server::Forbidden;
    /// # use tower_client_credentials::{BearerAuthLayer, Verifier};
    /// # fn protect(verifier: Verifier) -> BearerAuthLayer {
    /// BearerAuthLayer::new(verifier).policy(|token, request| {
    ///     let tenant = request.uri().path().split('/').nth(1);
    ///     if tenant == Some(token.subject()) { Ok(()) } else { Err(Forbidden::new("the resource belongs to another tenant").into()) }
    /// })
    /// # }
    /// ```
    pub fn policy(
        self,
        decide: impl Fn(&VerifiedToken, RequestHead<'_>) -> Result<(), PolicyError> + Send + Sync + 'static,
    ) -> Self {
        self.with(|guard| guard.policies.push(Policy(Arc::new(decide))))
    }

    /// Adds the URL of this API's [metadata](ResourceMetadata) to every challenge, so that a refused client can find the issuer
    /// (RFC 9728 §5.1). None by default.
    ///
    /// # Errors
    ///
    /// If the metadata's resource differs from the verifier's audience.
    pub fn resource_metadata(self, metadata: &ResourceMetadata) -> Result<Self, InvalidResourceMetadata> {
        let audience = self.guard.verifier.audience();
        if metadata.resource() != audience {
            let (metadata, audience) = (metadata.resource().clone(), audience.clone());
            return Err(InvalidResourceMetadata::OtherResource { metadata, audience });
        }
        let challenges = Challenges::new(audience, Some(metadata), self.guard.required.of_every_method());
        Ok(self.with(|guard| guard.challenges = Arc::new(challenges)))
    }

    /// Ends a request that is still in progress when the token expires (with the verifier's leeway). Off by default: an
    /// admitted request is served to the end.
    ///
    /// 1. A request without an answer yet, for example a long upload, is refused like one with an expired token. The wrapped
    ///    service's future is dropped, as when a caller disconnects.
    /// 2. A gRPC stream ends with the status 16, `UNAUTHENTICATED`, also in gRPC-Web.
    /// 3. Any other answer breaks off with an error, since a normal end could be taken for a complete answer: over HTTP/1.1 the
    ///    connection closes, over HTTP/2 the stream is reset.
    ///
    /// The remaining time is read once from the verifier's clock, and then measured by tokio, which must be running. When
    /// off, this setting costs nothing.
    pub fn end_at_expiry(self) -> Self {
        self.with(|guard| guard.ends_at_expiry = true)
    }

    /// Decides and reports, but **admits every request**: to observe a layer before it is enforced.
    ///
    /// Dangerous: nothing is protected. A request that would be refused gives a warning in the log and an
    /// [event](crate::event::Outcome::WouldReject). The wrapped service finds a [`VerifiedToken`] only if this layer or an
    /// outer one verified one, even if it would not have been sufficient; take it as `Option<VerifiedToken>` while this is on.
    /// Nothing [ends at expiry](Self::end_at_expiry). Extractors with requirements of their own still enforce them.
    pub fn dangerous_only_report(self) -> Self {
        self.with(|guard| guard.only_reports = true)
    }

    /// Also admits requests without a bearer token, and without a [`VerifiedToken`](crate::VerifiedToken). Off by default. If
    /// there is a token, it must be valid and have the required scopes.
    pub fn optional(self) -> Self {
        self.with(|guard| guard.optional = true)
    }

    /// Removes the `Authorization` header before the request is passed on, so that the wrapped service cannot forward the
    /// token. Off by default; an admitted token is always marked as sensitive.
    ///
    /// A layer that [only reports](Self::dangerous_only_report) also removes or marks a token that it would refuse. A token in
    /// the query is not removed, nor are credentials of another scheme that an [optional](Self::optional) layer admits.
    pub fn remove_authorization(self) -> Self {
        self.with(|guard| guard.remove_authorization = true)
    }

    /// Also reads the token from the query parameter `access_token` (RFC 6750 §2.3). For clients that cannot set a header.
    ///
    /// Dangerous: URLs, and the tokens in them, end up in logs, browser histories and `Referer` headers. The wrapped service
    /// should set `Cache-Control: private` on its answers (§2.3).
    pub fn dangerous_token_in_query(self) -> Self {
        self.with(|guard| guard.token_in_query = true)
    }

    /// Answers gRPC calls, including gRPC-Web, like every other request: a refusal is a 401, 403 or 503 without `grpc-status`,
    /// and a stream that [ends at expiry](Self::end_at_expiry) breaks off. By default they are answered as gRPC, with the HTTP
    /// status 200.
    ///
    /// For a route that a forward-auth proxy asks: see [above](Self#behind-a-forward-auth-proxy). gRPC clients understand such
    /// an answer, too, since gRPC maps HTTP statuses to its own, but they get no message.
    pub fn without_grpc_refusals(self) -> Self {
        self.with(|guard| guard.grpc_refusals = GrpcRefusals::Off)
    }

    /// Answers calls with the content type `application/grpc` as gRPC over HTTP/1.1, too. By default such a call gets an HTTP
    /// answer, since gRPC needs HTTP/2.
    ///
    /// Dangerous: any HTTP/1.1 request with that content type is refused with the status 200, which an outer proxy, cache or
    /// monitor takes for a success. The setting is for a layer **inside** one that translates gRPC-Web to gRPC and keeps the
    /// version of the request, such as `tonic_web::GrpcWebLayer`, which turns the answer back into gRPC-Web. If you can, put
    /// this layer outside of `GrpcWebLayer` instead. `GrpcWebLayer` leaves the status in the headers: for pages of other origins, CORS
    /// must then expose `grpc-status` and `grpc-message`, or a refused stream looks like an empty one.
    pub fn dangerous_grpc_refusals_over_http1(self) -> Self {
        self.with(|guard| guard.grpc_refusals = GrpcRefusals::AnyVersion)
    }

    /// Accepts these API keys in addition to tokens, until their end date: for the migration of clients with static keys. None by
    /// default. When off, this setting costs nothing.
    ///
    /// The wrapped service finds an [`ApiKeyIdentity`](super::ApiKeyIdentity) in the request's extensions instead of a
    /// [`VerifiedToken`]. A handler that takes both takes a [`Caller`](super::Caller). The extractors of [`VerifiedToken`] refuse
    /// the request with 401. The scopes that the layer requires apply to keys, too. The key is marked as sensitive, or
    /// [removed](Self::remove_authorization). Outer layers that log headers must hide the header of the key.
    ///
    /// If the verifier has [revocations](Verifier::revocations), the keys of a client are refused from the moment at which all
    /// its tokens are revoked, for example because it is disabled; see [`ApiKeys`].
    pub fn api_keys(self, keys: ApiKeys) -> Self {
        keys.expect_requests();
        self.guard.verifier.revoked().for_each(|revocations| keys.follow(revocations));
        self.with(|guard| {
            #[cfg(feature = "remote")]
            if guard.verifier.may_ask() && !keys.is_told_from_a_token() {
                tracing::warn!(
                    "wrong API keys may be sent to the introspection endpoint, because they look like opaque tokens; set \
                     ApiKeys::prefix, ApiKeys::format or ApiKeys::header"
                );
            }
            guard.api_keys = Some(keys);
        })
    }

    /// Sets a hook that writes the bodies of refusals, for an application with an error format of its own, such as RFC 9457.
    /// By default refusals have no body.
    ///
    /// The hook gets the error and the extensions of the request. It cannot change the status, the challenge, or any header
    /// other than the content type. It runs for refused requests only, also for those that an extractor refuses, and must not
    /// block. It does not run for gRPC calls, whose refusals have no body.
    ///
    /// Do not write the error's `Display` into the body: that text is for the operator, and tells an attacker which check
    /// failed. [`BearerError::description`](super::BearerError::description) is the text for the caller.
    ///
    /// ```
    /// use serde_json::json;
    /// use tower_client_credentials::transport::RefusalBody;
    /// # use tower_client_credentials::{BearerAuthLayer, Verifier};
    /// # fn protect(verifier: Verifier) -> BearerAuthLayer {
    /// BearerAuthLayer::new(verifier).refusal_body(|error, _| {
    ///     RefusalBody::problem_json(&json!({"title": error.description(), "status": error.status().as_u16()}))
    /// })
    /// # }
    /// ```
    pub fn refusal_body(
        self,
        write: impl Fn(&BearerError, &Extensions) -> RefusalBody + Send + Sync + 'static,
    ) -> Self {
        self.with(|guard| guard.refusal_body = Some(RefusalHook::new(write)))
    }

    /// Sends [events](crate::event) to this sender. None by default. Each of several nested layers reports its own decision;
    /// give the sender to one of them.
    pub fn events(self, events: EventSender) -> Self {
        self.with(|guard| guard.events = Some(events))
    }

    fn with(mut self, set: impl FnOnce(&mut Guard)) -> Self {
        set(Arc::make_mut(&mut self.guard));
        self
    }

    #[cfg(test)]
    pub(super) fn guard(self) -> Arc<Guard> {
        self.guard
    }
}

impl<S> Layer<S> for BearerAuthLayer {
    type Service = BearerAuth<S>;

    fn layer(&self, inner: S) -> BearerAuth<S> {
        BearerAuth::new(inner, self.guard.clone())
    }
}

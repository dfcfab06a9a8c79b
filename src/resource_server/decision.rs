//! The decision on a request to a protected route, separate from the `tower` plumbing.

mod with_api_key;

use std::error::Error as _;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, Entry};
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::Full;

use super::RequestHead;
use super::api_key::{ApiKeyIdentity, ApiKeys};
use super::authorization_scheme::BearerToken;
use super::challenge::Challenges;
use super::error::BearerError;
use super::expiry::Expiry;
use super::grpc::{Grpc, GrpcRefusals};
use super::policy::Policy;
use super::required::RequiredScopes;
use crate::client_id::ClientId;
use crate::event::{Event, EventSender, Outcome};
use crate::scope::Scopes;
use crate::transport::{RefusalHook, without_body};
use crate::verification::{PendingVerification, Verification, Verified};
use crate::verification::{UnavailableKind, VerifiedToken, Verifier};
use crate::{metrics, telemetry};

/// The decision on a request. Only a verified token admits it, except where credentials are optional.
pub(super) struct Admission {
    token: Option<VerifiedToken>,
    /// The API key, if there is no token.
    identity: Option<ApiKeyIdentity>,
    decision: Result<(), BearerError>,
}

impl Admission {
    fn without_token(decision: Result<(), BearerError>) -> Self {
        Self { token: None, identity: None, decision }
    }
}

/// A decision, or the verification that it waits for.
pub(super) enum Decision {
    Made(Admission),
    /// The token is being verified; [`Guard::conclude`] continues with the result.
    Waiting(PendingVerification),
}

/// The settings of a [`BearerAuthLayer`](super::BearerAuthLayer). All its services share one instance, since some routers
/// build a new service for each request.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // switches, each of which goes with every other
pub(super) struct Guard {
    pub(super) verifier: Verifier,
    pub(super) required: RequiredScopes,
    pub(super) policies: Vec<Policy>,
    pub(super) challenges: Arc<Challenges>,
    pub(super) grpc_refusals: GrpcRefusals,
    pub(super) refusal_body: Option<RefusalHook<BearerError>>,
    pub(super) api_keys: Option<ApiKeys>,
    pub(super) optional: bool,
    pub(super) only_reports: bool,
    pub(super) ends_at_expiry: bool,
    pub(super) token_in_query: bool,
    pub(super) remove_authorization: bool,
    pub(super) events: Option<EventSender>,
}

impl Guard {
    pub(super) fn new(verifier: Verifier) -> Self {
        Self {
            challenges: Arc::new(Challenges::new(verifier.audience(), None, &Scopes::NONE)),
            verifier,
            required: RequiredScopes::default(),
            policies: Vec::new(),
            grpc_refusals: GrpcRefusals::default(),
            refusal_body: None,
            api_keys: None,
            optional: false,
            only_reports: false,
            ends_at_expiry: false,
            token_in_query: false,
            remove_authorization: false,
            events: None,
        }
    }

    /// Decides on a request, or returns the verification to wait for.
    pub(super) fn admit<B>(self: &Arc<Self>, request: &Request<B>) -> Decision {
        if let Some(keys) = &self.api_keys
            && let Some(admission) = self.admit_by_key(keys, request.into())
        {
            return Decision::Made(admission);
        }
        Decision::Made(match self.verification(request) {
            Ok(Verification::Waiting(verification)) => return Decision::Waiting(verification),
            Ok(Verification::Done(verified)) => self.conclude(verified, request),
            Err(BearerError::NoCredentials) if self.optional => Admission::without_token(Ok(())),
            Err(error) => Admission::without_token(Err(self.counted(error, request.into()))),
        })
    }

    /// Applies the scope requirements and policies to a verification result.
    pub(super) fn conclude<B>(&self, verified: Verified, request: &Request<B>) -> Admission {
        match verified {
            Ok(token) => {
                Admission { decision: self.authorize(&token, request.into()), token: Some(token), identity: None }
            }
            Err(error) => Admission::without_token(Err(self.counted(error.into(), request.into()))),
        }
    }

    fn authorize(&self, token: &VerifiedToken, request: RequestHead<'_>) -> Result<(), BearerError> {
        if !self.required.are_in(token.scopes(), request.method()) {
            return Err(BearerError::insufficient_scope(token, self.required.named(request.method())));
        }
        self.policies.iter().try_for_each(|policy| policy.check(token, request))
    }

    /// Verifies the token, unless an outer layer with the same verifier has done so. That layer may also have removed the
    /// header.
    fn verification<B>(&self, request: &Request<B>) -> Result<Verification, BearerError> {
        let known = request.extensions().get::<VerifiedToken>().filter(|token| token.is_by(&self.verifier));
        let again = |token| Verification::Done(self.verifier.still_good(token).map(|()| VerifiedToken::clone(token)));
        match (known, self.bearer(request.headers(), request.uri())) {
            (Some(token), Err(BearerError::NoCredentials)) => Ok(again(token)),
            (Some(token), Ok(bearer)) if token.has_text(bearer.as_bytes()) => Ok(again(token)),
            (_, bearer) => {
                let bearer = bearer?;
                self.verifier.begin(bearer.as_bytes(), || bearer.text())
            }
        }
    }

    fn bearer<'a>(&self, headers: &'a HeaderMap, uri: &'a Uri) -> Result<BearerToken<'a>, BearerError> {
        match uri.query() {
            Some(query) if self.token_in_query => BearerToken::read_also_in_query(headers, query),
            _ => BearerToken::read(headers),
        }
    }

    /// Carries out a decision: reports it, then either refuses the request or passes this layer's token to the inner service.
    pub(super) fn carry_out<B>(
        self: &Arc<Self>,
        admission: Admission,
        request: &mut Request<B>,
    ) -> Result<Option<Box<Expiry>>, Box<Response<Full<Bytes>>>> {
        self.report(&admission, (&*request).into());
        if self.api_keys.is_some() {
            self.hand_on_identity(&admission, request);
        }
        match admission.decision {
            Err(error) if !self.only_reports => Err(Box::new(self.answer(error, (&*request).into()))),
            decision => {
                // Credentials of another scheme are passed on unchanged.
                let has_bearer = admission.token.is_some() || decision.is_err_and(|e| e != BearerError::NoCredentials);
                if has_bearer {
                    self.cover(request.headers_mut());
                }
                let expiry = admission.token.as_ref().and_then(|token| self.expiry(token, request));
                self.hand_on(admission.token, request);
                Ok(expiry)
            }
        }
    }

    fn expiry<B>(self: &Arc<Self>, token: &VerifiedToken, request: &Request<B>) -> Option<Box<Expiry>> {
        let left = (self.ends_at_expiry && !self.only_reports).then(|| token.time_left())?;
        let grpc = Grpc::from_request(request.into(), self.grpc_refusals);
        let mut expiry = Expiry::new(left, self.challenges.clone(), grpc);
        if let (Some(hook), None) = (&self.refusal_body, grpc) {
            expiry.write_body(hook, request);
        }
        Some(Box::new(expiry))
    }

    /// Hides the token from the wrapped service, which must neither forward nor log it. A refused token may be valid elsewhere.
    fn cover(&self, headers: &mut HeaderMap) {
        if self.remove_authorization {
            headers.remove(AUTHORIZATION);
        } else if !self.only_reports {
            // There is at most one value: requests with two are refused.
            headers.get_mut(AUTHORIZATION).into_iter().for_each(|value| value.set_sensitive(true));
        } else if let Entry::Occupied(mut values) = headers.entry(AUTHORIZATION) {
            values.iter_mut().for_each(|value| value.set_sensitive(true));
        }
    }

    /// Sets the token of the request. A token from another verifier is removed, and so is the identity of an API key that an
    /// outer layer accepted and this layer did not check, except by a layer that only reports.
    fn hand_on<B>(self: &Arc<Self>, token: Option<VerifiedToken>, request: &mut Request<B>) {
        let Some(token) = token else {
            if !self.only_reports {
                request.extensions_mut().remove::<VerifiedToken>();
                if self.api_keys.is_none() {
                    request.extensions_mut().remove::<ApiKeyIdentity>();
                }
            }
            return;
        };
        #[cfg(feature = "axum")]
        let token = token.admitted_by(self.clone());
        request.extensions_mut().insert(token);
    }

    /// Refuses an admitted request that does not meet the additional requirement of its handler.
    #[cfg(feature = "axum")]
    pub(super) fn refuse(&self, error: BearerError, request: RequestHead<'_>) -> Response<Full<Bytes>> {
        self.report_refusal(&error, request);
        self.answer(error, request)
    }

    /// Returns the refusal in the protocol of the request.
    fn answer(&self, error: BearerError, request: RequestHead<'_>) -> Response<Full<Bytes>> {
        let of_method = self.required.of_this_method(request.method());
        let grpc = Grpc::from_request(request, self.grpc_refusals);
        let mut refusal = self.challenges.answer(error, of_method.as_ref(), grpc);
        // A gRPC refusal has no HTTP body.
        if let (Some(hook), None) = (&self.refusal_body, grpc) {
            hook.apply(&mut refusal, request.extensions());
            if request.method() == Method::HEAD {
                refusal = without_body(refusal);
            }
        }
        refusal
    }

    fn report(&self, admission: &Admission, request: RequestHead<'_>) {
        match (&admission.decision, &admission.token) {
            (Ok(()), None) => match &admission.identity {
                Some(identity) => self.report_identity(identity, request),
                None => metrics::bearer_decided("anonymous", ""),
            },
            (Ok(()), Some(token)) => {
                metrics::bearer_decided("admitted", "");
                telemetry::decided(Some(token.client_id()), None);
                tracing::debug!(
                    oauth.client_id = %token.client_id(),
                    oauth.token_id = token.token_id(),
                    "admitted a request to a protected route"
                );
                let outcome = || Outcome::Admitted { token_id: token.token_id().to_owned() };
                self.send(outcome, Some(token.client_id()), request);
            }
            (Err(error), _) if self.only_reports => {
                metrics::bearer_decided("would_refuse", error.reason());
                tracing::warn!(%error, "error.type" = error.reason(), "report only: admitted a request that would be refused");
                self.send(|| Outcome::WouldReject(error.clone().into()), error.client_id(), request);
            }
            (Err(error), _) => self.report_refusal(error, request),
        }
    }

    fn report_refusal(&self, error: &BearerError, request: RequestHead<'_>) {
        let (reason, status) = (error.reason(), error.status().as_u16());
        telemetry::decided(error.client_id(), Some(reason));
        if let BearerError::Unavailable(unavailable) = error {
            metrics::bearer_decided("unavailable", reason);
            // The fetch has logged the issuer's answer once. Logging it here, too, would let callers fill the log.
            let issuer = unavailable.issuer().map(tracing::field::display);
            let source = unavailable.source().filter(|_| issuer.is_none()).map(tracing::field::display);
            if matches!(unavailable.kind(), UnavailableKind::UnknownKey | UnavailableKind::UnansweredToken) {
                // Callers can cause this with a random `kid`, so it is not a warning.
                tracing::info!(
                    error = %unavailable,
                    "error.type" = reason,
                    http.response.status_code = status,
                    oauth.issuer = issuer,
                    "answered 503 to a request to a protected route: its token cannot be verified now"
                );
                return self.send(|| Outcome::VerificationUnavailable(error.clone().into()), None, request);
            }
            tracing::warn!(
                error = %unavailable,
                "error.type" = reason,
                http.response.status_code = status,
                oauth.issuer = issuer,
                source,
                "answered 503 to a request to a protected route: its token cannot be verified now"
            );
            self.send(|| Outcome::VerificationUnavailable(error.clone().into()), None, request);
        } else {
            metrics::bearer_decided("refused", reason);
            tracing::info!(
                %error,
                "error.type" = reason,
                http.response.status_code = status,
                "refused a request to a protected route"
            );
            self.send(|| Outcome::Rejected(error.clone().into()), error.client_id(), request);
        }
    }

    fn send(&self, outcome: impl FnOnce() -> Outcome, client_id: Option<&ClientId>, request: RequestHead<'_>) {
        let Some(events) = &self.events else { return };
        let (at, client_id, extensions) = (self.verifier.now(), client_id.cloned(), request.extensions().clone());
        events.send(Event { at, outcome: outcome(), client_id, extensions });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::header::AUTHORIZATION;
    use http::{HeaderValue, Request};
    use http_body_util::{BodyExt as _, Full};
    use tower::ServiceExt as _;

    use super::{Decision, Guard, VerifiedToken};
    use crate::{AuthorizationServer, BearerAuthLayer, Client, ClientSecret, KeyRing, MemoryStore};

    const API: &str = "https://api.example.com";

    /// Returns a server and one of its tokens.
    async fn server() -> (AuthorizationServer, String) {
        let secret = ClientSecret::generate().unwrap();
        let client =
            Client::new("billing", &secret).audience(API).authentication(crate::ClientAuthMethod::ClientSecretPost);
        let clients = MemoryStore::try_from([client]).unwrap();
        let server =
            AuthorizationServer::new("https://auth.example.com", KeyRing::generate().unwrap(), clients).unwrap();
        let form = format!("grant_type=client_credentials&client_id=billing&client_secret={}", secret.expose());
        let request = Request::post("/token").header("content-type", "application/x-www-form-urlencoded");
        let response =
            server.token_service().oneshot(request.body(Full::<bytes::Bytes>::from(form)).unwrap()).await.unwrap();
        let answer: serde_json::Value =
            serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
        (server, answer["access_token"].as_str().unwrap().to_owned())
    }

    fn admitted(layer: &Arc<Guard>, request: &Request<()>) -> VerifiedToken {
        let Decision::Made(admission) = layer.admit(request) else { panic!("the decision needs no remote issuer") };
        admission.decision.unwrap();
        admission.token.unwrap()
    }

    #[tokio::test]
    async fn a_token_that_a_layer_outside_verified_is_not_verified_again() {
        let (server, token) = server().await;
        let layer = || Arc::new(Guard::new(server.verifier(API).unwrap()));
        let mut request = Request::get("/").header(AUTHORIZATION, format!("Bearer {token}")).body(()).unwrap();
        let outer = admitted(&layer(), &request);
        assert!(!admitted(&layer(), &request).ptr_eq(&outer), "no layer has passed it on yet");
        layer().hand_on(Some(outer.clone()), &mut request);
        assert!(admitted(&layer(), &request).ptr_eq(&outer));
    }

    /// Returns what the wrapped service receives if a layer without a token of its own admits the request.
    async fn handed_on(
        layer: impl FnOnce(BearerAuthLayer) -> BearerAuthLayer,
        authorization: &[&str],
    ) -> (bool, Vec<HeaderValue>) {
        let (server, token) = server().await;
        let mut request = Request::get("/").header(AUTHORIZATION, format!("Bearer {token}")).body(()).unwrap();
        let outer = Arc::new(Guard::new(server.verifier(API).unwrap()));
        let proof = admitted(&outer, &request);
        outer.hand_on(Some(proof), &mut request);
        request.headers_mut().remove(AUTHORIZATION);
        for value in authorization {
            request.headers_mut().append(AUTHORIZATION, value.parse().unwrap());
        }
        let inner = layer(BearerAuthLayer::new(server.verifier("https://other.example.com").unwrap())).guard();
        let Decision::Made(admission) = inner.admit(&request) else { panic!("the decision needs no remote issuer") };
        assert!(inner.carry_out(admission, &mut request).is_ok());
        let values = request.headers().get_all(AUTHORIZATION).iter().cloned().collect();
        (request.extensions().get::<VerifiedToken>().is_some(), values)
    }

    #[tokio::test]
    async fn a_report_only_layer_keeps_the_verified_token_and_hides_a_token_that_it_would_refuse() {
        let reports = BearerAuthLayer::dangerous_only_report;
        for refused in [&["Bearer a.b.c"][..], &["Bearer a.b.c", "Bearer d.e.f"]] {
            let (has_proof, values) = handed_on(reports, refused).await;
            assert!(has_proof);
            assert_eq!(values.len(), refused.len());
            assert!(values.iter().all(HeaderValue::is_sensitive));
            let removes = |layer| reports(layer).remove_authorization();
            assert_eq!(handed_on(removes, refused).await, (true, Vec::new()));
            // Credentials of another scheme stay.
            assert_eq!(handed_on(removes, &["Basic YQ=="]).await, (true, vec![HeaderValue::from_static("Basic YQ==")]));
        }
    }

    #[tokio::test]
    async fn an_optional_layer_removes_the_token_of_another_verifier() {
        assert_eq!(handed_on(BearerAuthLayer::optional, &[]).await, (false, Vec::new()));
    }
}

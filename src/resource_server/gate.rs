//! The decision over a request to a protected route, apart from the plumbing: `http` → [`VerifiedToken`].

use std::error::Error as _;

use http::Request;
use http::header::AUTHORIZATION;

use super::bearer::BearerToken;
use super::challenge::BearerError;
use super::verify::{PendingVerification, Verification, Verified};
use super::{BearerAuthLayer, VerifiedToken};
use crate::event::{Event, Outcome};

/// What is decided over a request: a proof is the only way in, but where credentials are optional.
pub(super) type Admission = Result<Option<VerifiedToken>, BearerError>;

/// What can be said of a request at once.
pub(super) enum Decision {
    Made(Admission),
    /// Its token is being verified; [`BearerAuthLayer::conclude`] goes on from there.
    Waiting(PendingVerification),
}

impl BearerAuthLayer {
    /// Decides over a request, or says what has to be waited for.
    pub(super) fn admit<B>(&self, request: &Request<B>) -> Decision {
        Decision::Made(match self.verification(request) {
            Ok(Verification::Waiting(verification)) => return Decision::Waiting(verification),
            Ok(Verification::Done(verified)) => self.conclude(verified),
            Err(BearerError::NoCredentials) if self.optional => Ok(None),
            Err(error) => Err(error),
        })
    }

    /// What a verified token must have besides.
    pub(super) fn conclude(&self, verified: Verified) -> Admission {
        let token = verified?;
        if !self.required.are_in(token.scopes()) {
            let (client_id, granted) = (token.client_id().clone(), token.scopes().clone());
            return Err(BearerError::InsufficientScope { client_id, granted });
        }
        Ok(Some(token))
    }

    /// A layer of the same verifier further outside may have done the work, and taken the header away.
    fn verification<B>(&self, request: &Request<B>) -> Result<Verification, BearerError> {
        let known = request.extensions().get::<VerifiedToken>().filter(|token| token.is_by(&self.verifier));
        let again = |token| Verification::Done(self.verifier.still_good(token).map(|()| VerifiedToken::clone(token)));
        match (known, self.bearer(request)) {
            (Some(token), Err(BearerError::NoCredentials)) => Ok(again(token)),
            (Some(token), Ok(bearer)) if token.is(bearer.as_str()) => Ok(again(token)),
            (_, bearer) => Ok(self.verifier.begin(bearer?.as_str())),
        }
    }

    fn bearer<'a, B>(&self, request: &'a Request<B>) -> Result<BearerToken<'a>, BearerError> {
        match request.uri().query() {
            Some(query) if self.token_in_query => BearerToken::read_also_in_query(request.headers(), query),
            _ => BearerToken::read(request.headers()),
        }
    }

    /// Carries a decision out: reports it, and leaves the inner service this layer's proof, and nobody else's.
    pub(super) fn carry_out<B>(&self, admission: Admission, request: &mut Request<B>) -> Result<(), BearerError> {
        self.report(request, &admission);
        self.hand_on(admission?, request);
        Ok(())
    }

    fn hand_on<B>(&self, token: Option<VerifiedToken>, request: &mut Request<B>) {
        let Some(token) = token else {
            request.extensions_mut().remove::<VerifiedToken>();
            return;
        };
        if self.remove_authorization {
            request.headers_mut().remove(AUTHORIZATION);
        } else if let Some(value) = request.headers_mut().get_mut(AUTHORIZATION) {
            value.set_sensitive(true);
        }
        request.extensions_mut().insert(token);
    }

    fn report<B>(&self, request: &Request<B>, admission: &Admission) {
        match admission {
            Ok(_) => {}
            Err(BearerError::Undecided(undecided)) => {
                let source = undecided.source().map(tracing::field::display);
                tracing::warn!(error = %undecided, source, "could not decide over a request to a protected route");
            }
            Err(error) => tracing::info!(%error, "refused a request to a protected route"),
        }
        let Some(events) = &self.events else { return };
        let (outcome, client_id) = match admission {
            Ok(None) => return,
            Ok(Some(token)) => (Outcome::Admitted { token_id: token.token_id().to_owned() }, Some(token.client_id())),
            Err(error @ BearerError::Undecided(_)) => (Outcome::Undecided(error.clone()), None),
            Err(error) => (Outcome::Rejected(error.clone()), error.client_id()),
        };
        events.send(Event {
            at: self.verifier.now(),
            outcome,
            client_id: client_id.cloned(),
            extensions: request.extensions().clone(),
        });
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http::header::AUTHORIZATION;
    use http_body_util::{BodyExt as _, Full};
    use tower::ServiceExt as _;

    use super::{Decision, VerifiedToken};
    use crate::{AuthorizationServer, BearerAuthLayer, Client, ClientSecret, KeyRing, MemoryStore};

    const API: &str = "https://api.example.com";

    /// A server, and a token of it.
    async fn server() -> (AuthorizationServer, String) {
        let secret = ClientSecret::generate().unwrap();
        let client =
            Client::new("billing", &secret).audience(API).authentication(crate::ClientAuthMethod::ClientSecretPost);
        let clients = MemoryStore::from([client]);
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

    fn admitted(layer: &BearerAuthLayer, request: &Request<()>) -> VerifiedToken {
        let Decision::Made(admission) = layer.admit(request) else { panic!("nobody has to be asked") };
        admission.unwrap().unwrap()
    }

    #[tokio::test]
    async fn a_token_that_a_layer_outside_verified_is_not_verified_again() {
        let (server, token) = server().await;
        let layer = || BearerAuthLayer::new(server.verifier(API).unwrap());
        let mut request = Request::get("/").header(AUTHORIZATION, format!("Bearer {token}")).body(()).unwrap();
        let outer = admitted(&layer(), &request);
        assert!(!admitted(&layer(), &request).is_same_as(&outer), "nobody handed it on yet");
        layer().hand_on(Some(outer.clone()), &mut request);
        assert!(admitted(&layer(), &request).is_same_as(&outer));
    }
}

//! The calling side: JWT-SVIDs from the Workload API as credentials.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tower::{ServiceExt as _, service_fn};
use tower_client_credentials::ClientCredentials;
use tower_client_credentials::client::{CachedTokenSource, ClientAuthentication, TokenSourceErrorKind};

use crate::agent::{Agent, JwtSvidRequest};
use crate::common::{API, ISSUER, READ, chain};
use crate::{BILLING, OTHER, World};

/// A source of tokens of this client at the server.
fn source(world: &World, client: &str, authentication: ClientAuthentication) -> CachedTokenSource {
    let server = world.server.clone();
    let endpoint = service_fn(move |request: Request<Full<Bytes>>| server.token_service().oneshot(request));
    ClientCredentials::new(ISSUER, client, authentication)
        .resource(API)
        .scope(READ)
        .token_endpoint(format!("{ISSUER}/token"))
        .http_service(endpoint)
        .build()
        .unwrap()
}

fn asked(spiffe_id: &str) -> JwtSvidRequest {
    JwtSvidRequest { audience: vec![ISSUER.to_owned()], spiffe_id: spiffe_id.to_owned() }
}

#[tokio::test]
async fn a_client_authenticates_with_a_new_svid_for_each_request_for_a_token() {
    let agent = Agent::started();
    let world = World::new(&agent);
    for _ in 0..2 {
        let source = source(&world, BILLING, ClientAuthentication::jwt_svid(agent.api()));
        source.token().await.unwrap();
        source.token().await.unwrap();
        assert_eq!(agent.asked(), [asked("")], "the second token is from the cache");
    }
}

#[tokio::test]
async fn a_workload_with_several_identities_chooses_one_and_the_default_is_the_first() {
    let agent = Agent::started();
    agent.tell_keys(&[("example.org", &[(23, "s1")]), ("other.org", &[(24, "s1")])]);
    agent.identify_as(&[(OTHER, 24), (BILLING, 23)]);
    let world = World::new(&agent);
    source(&world, OTHER, ClientAuthentication::jwt_svid(agent.api())).token().await.unwrap();
    source(&world, BILLING, ClientAuthentication::jwt_svid_of(agent.api(), BILLING)).token().await.unwrap();
    assert_eq!(agent.asked(), [asked(""), asked(BILLING)]);
}

#[tokio::test]
async fn an_agent_without_an_svid_or_without_an_answer_is_an_error_of_the_credential() {
    let mut agent = Agent::started();
    let world = World::new(&agent);
    let error = async |authentication: ClientAuthentication| {
        let error = source(&world, BILLING, authentication).token().await.unwrap_err();
        assert_eq!(error.kind(), TokenSourceErrorKind::Credential);
        chain(&error)
    };
    let other = error(ClientAuthentication::jwt_svid_of(agent.api(), "spiffe://example.org/other")).await;
    assert!(other.contains("PermissionDenied") && other.contains("agent.sock"), "{other}");
    agent.hang();
    let late = error(ClientAuthentication::jwt_svid(agent.api())).await;
    assert!(late.contains("no answer within") && late.contains("agent.sock"), "{late}");
    agent.kill();
    let gone = error(ClientAuthentication::jwt_svid(agent.api())).await;
    assert!(gone.contains("agent.sock"), "{gone}");
}

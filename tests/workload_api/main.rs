//! The SPIFFE Workload API: trust bundles for the server, and JWT-SVIDs for the calling side, over a Unix domain socket.
//!
//! The agent in `agent.rs` is a server of tonic. `tests/workload_api_grpcio.rs` makes the same calls to a server of Google's gRPC
//! library, with messages that its generator made from the published `workloadapi.proto`.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod agent;
#[path = "../common/mod.rs"]
mod common;
mod svids;

use std::time::{Duration, Instant};

use agent::{Agent, Told, svid};
use common::request::{GRANT, post};
use common::{API, ISSUER, NOW, READ, at, clock};
use http_body_util::BodyExt as _;
use tonic::Code;
use tower::ServiceExt as _;
use tower_client_credentials::authorization_server::{ClientAssertions, TrustDomain};
use tower_client_credentials::clock::ManualClock;
use tower_client_credentials::event::{self, EventReceiver, Outcome};
use tower_client_credentials::registration::Credential;
use tower_client_credentials::{AuthorizationServer, Client, KeyRing, MemoryStore};

const JWT_SPIFFE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe";
const BILLING: &str = "spiffe://example.org/billing";
const OTHER: &str = "spiffe://other.org/billing";

/// How long to wait for what another thread does.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server that trusts `example.org` and `other.org` by the agent.
pub(crate) struct World {
    server: AuthorizationServer,
    events: EventReceiver,
    clock: ManualClock,
}

impl World {
    pub(crate) fn new(agent: &Agent) -> Self {
        let with = |id: &str| {
            let credential = Credential::spiffe_id(id.parse().unwrap());
            Client::with_credential(id, credential).scope(READ).audience(API)
        };
        let store = MemoryStore::try_from([with(BILLING), with(OTHER)]).unwrap();
        let assertions = ClientAssertions::new(store.clone())
            .trust_domain(TrustDomain::from_workload_api("example.org", agent.api()))
            .trust_domain(TrustDomain::from_workload_api("other.org", agent.api()));
        let ((sender, events), clock) = (event::channel(), clock());
        let builder = AuthorizationServer::builder(ISSUER, KeyRing::from_pem(common::KEY).unwrap(), store);
        let server = builder.clock(clock.clone()).client_assertions(assertions).events(sender).build().unwrap();
        Self { server, events, clock }
    }

    /// Sends an SVID, and returns the status.
    async fn send(&mut self, svid: &str) -> u16 {
        self.send_with_text(svid).await.0
    }

    /// Sends an SVID, and returns the status and the text for the operator.
    async fn send_with_text(&mut self, svid: &str) -> (u16, String) {
        let request = post(GRANT).param("client_assertion_type", JWT_SPIFFE).param("client_assertion", svid);
        let request: http::Request<_> = request.into();
        let answer = self.server.token_service().oneshot(request).await.unwrap();
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        if head.status.as_u16() == 503 {
            assert!(head.headers.contains_key("retry-after"), "{body:?}");
        }
        let text = match self.events.try_recv().expect("an event").outcome {
            Outcome::AuthenticationFailed(error) | Outcome::Unavailable(error) => common::chain(&error),
            outcome => format!("{outcome:?}"),
        };
        (head.status.as_u16(), text)
    }

    /// Sends an SVID until it gets this status. Returns the text for the operator.
    async fn until(&mut self, svid: &str, expected: u16) -> String {
        let start = Instant::now();
        loop {
            let (status, text) = self.send_with_text(svid).await;
            if status == expected {
                return text;
            }
            assert!(start.elapsed() < PATIENCE, "the status is still {status} and not {expected}: {text}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn billing() -> String {
    svid(BILLING, 23, "s1", NOW)
}

#[tokio::test]
async fn an_svid_is_verified_with_the_bundle_of_its_trust_domain() {
    let agent = Agent::started();
    agent.tell_keys(&[("example.org", &[(23, "s1")]), ("other.org", &[(24, "s1")]), ("third.org", &[(25, "s1")])]);
    let mut world = World::new(&agent);
    for _ in 0..2 {
        world.until(&billing(), 200).await;
        world.until(&svid(OTHER, 24, "s1", NOW), 200).await;
    }
    for (id, seed) in [(BILLING, 24), (OTHER, 23), ("spiffe://third.org/billing", 25)] {
        assert_eq!(world.send(&svid(id, seed, "s1", NOW)).await, 401, "{id} {seed}");
    }
    let (status, text) = world.send_with_text(&svid(BILLING, 23, "s2", NOW)).await;
    assert!(status == 401 && text.contains("kid"), "{status} {text}");
}

#[tokio::test]
async fn a_new_key_is_accepted_at_once_and_a_removed_one_is_refused_after_the_next_message() {
    let agent = Agent::started();
    let mut world = World::new(&agent);
    world.until(&billing(), 200).await;
    agent.tell_keys(&[("example.org", &[(23, "s1"), (26, "s2")])]);
    // Without a wait: the agent is asked for the unknown name.
    let next = svid(BILLING, 26, "s2", NOW);
    assert_eq!(world.send(&next).await, 200);
    agent.tell_keys(&[("example.org", &[(26, "s2")])]);
    world.until(&billing(), 401).await;
    assert_eq!(world.send(&next).await, 200);
    // A name that means another key.
    agent.tell_keys(&[("example.org", &[(27, "s2")])]);
    world.until(&svid(BILLING, 27, "s2", NOW), 200).await;
    assert_eq!(world.send(&next).await, 401);
}

#[tokio::test]
async fn the_last_bundle_outlives_the_agent_for_24_hours_and_a_new_agent_is_found() {
    let mut agent = Agent::started();
    let mut world = World::new(&agent);
    world.until(&billing(), 200).await;
    agent.kill();
    // A name that the bundle lacks cannot be decided while the agent is gone.
    let unknown = svid(BILLING, 26, "s2", NOW);
    let text = world.until(&unknown, 503).await;
    assert!(text.contains("spiffe://example.org") && text.contains("agent.sock"), "{text}");
    assert_eq!(world.send(&billing()).await, 200);
    let later = NOW + 23 * 3_600;
    world.clock.set(at(later));
    assert_eq!(world.send(&svid(BILLING, 23, "s1", later)).await, 200);
    let (mut later, start) = (NOW, Instant::now());
    let last = loop {
        later += 24 * 3_600 + 60;
        world.clock.set(at(later));
        let svid = svid(BILLING, 23, "s1", later);
        // Until it notices that the stream is cut, the bundle is current.
        match world.send(&svid).await {
            503 => break svid,
            status => assert!(status == 200 && start.elapsed() < PATIENCE, "{status}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    agent.start();
    world.until(&last, 200).await;
}

#[tokio::test]
async fn an_agent_that_starts_after_the_server_is_found_and_until_then_the_answer_is_503() {
    let mut agent = Agent::new();
    let mut world = World::new(&agent);
    for _ in 0..3 {
        let (status, text) = world.send_with_text(&billing()).await;
        assert!(status == 503 && text.contains("agent.sock"), "{status} {text}");
    }
    agent.start();
    world.until(&billing(), 200).await;
}

#[tokio::test]
async fn a_stream_that_is_cut_is_opened_again_and_delivers_what_was_missed() {
    let agent = Agent::started();
    let mut world = World::new(&agent);
    world.until(&billing(), 200).await;
    let before = agent.streams();
    agent.tell(Told::Cut);
    let start = Instant::now();
    while agent.streams() == before {
        assert!(start.elapsed() < PATIENCE, "no new stream");
        assert_eq!(world.send(&billing()).await, 200, "while it is cut");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    agent.tell_keys(&[("example.org", &[(26, "s2")])]);
    world.until(&billing(), 401).await;
    assert_eq!(world.send(&svid(BILLING, 26, "s2", NOW)).await, 200);
}

#[tokio::test]
async fn a_bundle_that_the_agent_withdraws_is_not_used_any_more() {
    let agent = Agent::started();
    let mut world = World::new(&agent);
    let empty: (Told, &str) =
        (Told::Bundles([("spiffe://example.org".into(), r#"{"keys": []}"#.into())].into()), "empty");
    let missing =
        (Told::Bundles([("spiffe://third.org".into(), "{}".into())].into()), "no bundle of `spiffe://example.org`");
    let nothing = (Told::Bundles([].into()), "no bundle of `spiffe://example.org`");
    let denied = (Told::Refused(Code::PermissionDenied), "no identity issued");
    for (told, says) in [empty, missing, nothing, denied] {
        agent.tell_keys(&[("example.org", &[(23, "s1")])]);
        world.until(&billing(), 200).await;
        agent.tell(told);
        let text = world.until(&billing(), 503).await;
        assert!(text.contains(says), "{says}: {text}");
    }
}

#[tokio::test]
async fn an_agent_that_denies_the_question_for_an_unknown_name_withdraws_nothing_from_other_clients() {
    let agent = Agent::started();
    let mut world = World::new(&agent);
    world.until(&billing(), 200).await;
    agent.deny_new(true);
    let before = agent.streams();
    let (status, text) = world.send_with_text(&svid(BILLING, 26, "made up", NOW)).await;
    assert!(status == 503 && text.contains("no identity issued"), "{status} {text}");
    assert_eq!(agent.streams(), before + 1, "the agent was asked");
    for _ in 0..3 {
        assert_eq!(world.send(&billing()).await, 200);
    }
    // The first stream is still followed.
    agent.tell_keys(&[("example.org", &[(27, "s3")])]);
    world.until(&svid(BILLING, 27, "s3", NOW), 200).await;
    // What it says counts: its refusal withdraws the bundle.
    agent.tell(Told::Refused(Code::PermissionDenied));
    world.until(&svid(BILLING, 27, "s3", NOW), 503).await;
}

#[tokio::test]
async fn a_trust_domain_that_the_agent_does_not_know_gets_503_and_the_operator_reads_its_name() {
    let agent = Agent::started();
    let mut world = World::new(&agent);
    let text = world.until(&svid(OTHER, 24, "s1", NOW), 503).await;
    assert!(text.contains("no bundle of `spiffe://other.org`"), "{text}");
    world.until(&billing(), 200).await;
    agent.tell_keys(&[("example.org", &[(23, "s1")]), ("other.org", &[(24, "s1")])]);
    world.until(&svid(OTHER, 24, "s1", NOW), 200).await;
}

#[tokio::test]
async fn a_bundle_that_is_malformed_or_too_long_does_not_replace_the_last_one() {
    let agent = Agent::started();
    let mut world = World::new(&agent);
    let filler = |length: usize| format!(r#"{{"keys": [], "filler": "{}"}}"#, "x".repeat(length));
    let keys = |length: usize| filler(length).replace("[]", r#"[{"kty": "EC", "kid": "s1", "crv": "P-256"}]"#);
    for (bundle, says) in [
        ("not JSON".to_owned(), "JWK Set"),
        ("{}".to_owned(), "JWK Set"),
        (r#"{"keys": [{"kty": "EC", "use": "x509-svid", "kid": "s1"}]}"#.to_owned(), "JWT-SVIDs"),
        (keys(0), "usable key"),
        // Longer than a key set, and longer than a message may be.
        (keys(0).replace("EC", &"x".repeat(300 * 1024)), "longer than 262144"),
        (keys(5 * 1024 * 1024), "OutOfRange"),
    ] {
        agent.tell_keys(&[("example.org", &[(23, "s1")])]);
        world.until(&billing(), 200).await;
        agent.tell_document(bundle);
        // The agent is asked anew for an unknown name, so from here on the bundle has arrived.
        let text = world.until(&svid(BILLING, 26, "s2", NOW), 503).await;
        assert!(text.contains(says), "{says}: {text}");
        assert_eq!(world.send(&billing()).await, 200, "{says}");
        // The budget for unknown names.
        world.clock.advance(Duration::from_secs(30));
    }
}

#[tokio::test]
async fn a_message_with_the_bundles_of_many_trust_domains_is_read() {
    let agent = Agent::started();
    let names: Vec<String> = (0..2_000).map(|number| format!("domain{number}.example")).collect();
    let mut all: Vec<(&str, &[(u8, &str)])> = names.iter().map(|name| (name.as_str(), &[(25, "s1")][..])).collect();
    all.push(("example.org", &[(23, "s1")]));
    agent.tell_keys(&all);
    let mut world = World::new(&agent);
    world.until(&billing(), 200).await;
}

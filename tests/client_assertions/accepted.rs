//! Assertions that are accepted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use serde_json::{Value, json};
use tower_client_credentials::MemoryStore;
use tower_client_credentials::authorization_server::ClientAssertions;
use tower_client_credentials::clock::Clock;
use tower_client_credentials::event::{self, Outcome};

use crate::common::forge::Draft;
use crate::common::{ISSUER, NOW, settings};
use crate::world::{Sign as _, World, asks, clients, good, of_key};

/// Assertions with their names. Each has a `jti` of its own.
fn rows() -> Vec<(&'static str, String)> {
    let mut number = 0;
    let mut row = |name: &'static str, draft: Draft, sign: fn(&Draft) -> String| {
        number += 1;
        (name, sign(&draft.claim("jti", format!("jti {number}"))))
    };
    let by_key: fn(&Draft) -> String = |draft| draft.es256(7);
    let by_other: fn(&Draft) -> String = |draft| draft.es256(8);
    let mut rows = vec![
        row("as in the RFCs", of_key(), by_key),
        row("one audience in an array", of_key().claim("aud", json!([ISSUER])), by_key),
        row("no kid", good("key", "ES256", None), by_key),
        row("no typ", of_key().without_header("typ"), by_key),
        row("no iat", of_key().without_claim("iat"), by_key),
        row("no nbf", of_key().without_claim("nbf"), by_key),
        row("an expiry at the limit", of_key().claim("exp", NOW + 310), by_key),
        row("an expiry within the skew", of_key().claim("exp", NOW - 9), by_key),
        row("a fraction of a second", of_key().claim("exp", json!(1_700_000_060.5)), by_key),
        row("nbf within the skew", of_key().claim("nbf", NOW + 10), by_key),
        row("iat within the skew", of_key().claim("iat", NOW + 10), by_key),
        row("an old iat", of_key().claim("iat", NOW - 86_400), by_key),
        row("claims that are not used", of_key().claim("scope", "admin").claim("azp", Value::Null), by_key),
        row("header members that are not used", of_key().header("x5t", "AAAA").header("x5c", json!(["AAAA"])), by_key),
        row("RS256", good("rsa", "RS256", Some("r1")), Draft::rs256),
        row("RS256 without kid", good("rsa", "RS256", None), Draft::rs256),
        row("PS256", good("pss", "PS256", Some("r1")), Draft::ps256),
        row("EdDSA", good("ed", "EdDSA", Some("e1")), Draft::eddsa),
        row("the name Ed25519", good("ed", "Ed25519", Some("e1")), Draft::eddsa),
        row("ES384", good("p384", "ES384", Some("p1")), Draft::es384),
        row("the URL of the token endpoint, allowed", old_audience(), by_key),
        row("an hour, allowed", good("old", "ES256", Some("k1")).claim("exp", NOW + 3_610), by_key),
        row("the first of two keys without kid", good("two", "ES256", None), by_key),
        row("the second of two keys without kid", good("two", "ES256", None), by_other),
        row("a client with a secret and a key", good("mixed", "ES256", Some("k1")), by_key),
        row("a credential that has not expired yet", good("soon", "ES256", Some("k1")), by_key),
        ("a jti of 128 bytes", of_key().claim("jti", "j".repeat(128)).es256(7)),
        ("a jti with any character", of_key().claim("jti", "\u{1f511}\n\0").es256(7)),
    ];
    for typ in ["JWT", "jwt", "application/jwt", "Application/Client-Authentication+JWT"] {
        rows.push(row("another typ", of_key().header("typ", typ), by_key));
    }
    rows
}

fn old_audience() -> Draft {
    good("old", "ES256", Some("k1")).claim("aud", format!("{ISSUER}/token"))
}

#[tokio::test]
async fn every_assertion_that_follows_the_rules_gets_a_token_once() {
    let mut world = World::new();
    let rows = rows();
    assert!(rows.len() >= 20, "{}", rows.len());
    for (name, assertion) in rows {
        assert_eq!(world.failed_rules(&assertion, None).await, [], "{name}");
        let seen = world.send(asks(&assertion)).await;
        assert_eq!(seen.status.as_u16(), 200, "{name}: {seen:?}");
        while !matches!(world.outcome(), Outcome::Issued { .. }) {}
        assert_eq!(world.send(asks(&assertion)).await.status.as_u16(), 401, "{name}, for the second time");
        let (rule, text) = world.broken_rule();
        assert_eq!((rule.name(), text.contains("used before")), ("replay", true), "{name}: {text}");
    }
}

/// A clock that advances by a second each time it is read.
#[derive(Debug)]
struct Steps(AtomicU64);

impl Clock for Steps {
    fn now(&self) -> SystemTime {
        crate::common::at(self.0.fetch_add(1, Ordering::SeqCst))
    }
}

#[tokio::test]
async fn an_assertion_is_accepted_once_also_while_it_expires() {
    // It is accepted until 70 seconds from now. Each round reaches the end at another point of a request.
    for start in 40..60 {
        let store = MemoryStore::try_from(clients()).unwrap();
        let assertions = ClientAssertions::new(store.clone());
        let clock = Steps(AtomicU64::new(NOW + start));
        let server = settings(store).clock(clock).client_assertions(assertions).build().unwrap();
        let world = World { server, events: event::channel().1 };
        let mut accepted = 0;
        // A request reads the clock at least once.
        for _ in start..=70 {
            accepted += usize::from(world.send(asks(&of_key().es256(7))).await.status.as_u16() == 200);
        }
        assert_eq!(accepted, 1, "from second {start}");
    }
}

#[tokio::test]
async fn the_parameter_client_id_may_repeat_the_id() {
    let world = World::new();
    let request = asks(&of_key().es256(7)).param("client_id", "key");
    assert_eq!(world.send(request).await.status.as_u16(), 200);
}

#[tokio::test]
async fn the_event_of_a_token_names_the_method_and_the_credential() {
    let mut world = World::new();
    let old = good("two", "ES256", None);
    for (assertion, label) in [(old.es256(7), "last"), (old.claim("jti", "two").es256(8), "1")] {
        world.send(asks(&assertion)).await;
        let Outcome::Issued { credential, .. } = world.outcome() else { panic!("no token") };
        assert_eq!((credential.method(), credential.label()), ("private_key_jwt", label));
    }
    let secret = crate::common::request::post(crate::common::request::GRANT).basic("mixed", &crate::common::SECRET);
    world.send(secret).await;
    let Outcome::Issued { credential, .. } = world.outcome() else { panic!("no token") };
    assert_eq!((credential.method(), credential.label()), ("client_secret_basic", "1"));
}

#[tokio::test]
async fn each_use_of_the_allowance_for_older_clients_is_an_event() {
    let mut world = World::new();
    let old = || good("old", "ES256", Some("k1"));
    for (draft, found) in [
        (old_audience(), Some("aud")),
        (old_audience().claim("jti", "two"), Some("aud")),
        (old().claim("jti", "three").claim("exp", NOW + 3_600), Some("exp")),
        (old().claim("jti", "four"), None),
    ] {
        assert_eq!(world.send(asks(&draft.es256(7))).await.status.as_u16(), 200);
        if let Some(found) = found {
            let Outcome::LegacyAssertionUsed { claim, until, .. } = world.outcome() else { panic!("no event") };
            assert_eq!((claim, until), (found, crate::common::at(NOW + 1)));
        }
        assert!(matches!(world.outcome(), Outcome::Issued { .. }));
    }
}

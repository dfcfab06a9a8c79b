//! Tests of readiness with several issuers, some of which are down.

use tokio::time::{Instant, timeout};

use super::tests::{API, ISSUER, KEYS, SECOND, Site, Wall, issuer, ring, token};
use crate::deadline::in_time;
use crate::verification::{RemoteIssuer, UnavailableKind, Verifier, VerifyError};
use crate::{ClientSecret, Introspection};

const OTHER: &str = "https://other.example.com";

/// Returns another issuer, at a site where it publishes the same keys.
fn other(site: &Site) -> Verifier {
    let other = RemoteIssuer::new(OTHER, API).unwrap().jwks_url(KEYS).unwrap();
    other.http_client(site.clone()).clock(Wall(Instant::now())).build().unwrap()
}

fn down() -> Site {
    let site = Site::of(&ring());
    site.is_down(true);
    site
}

#[test]
fn one_issuer_that_is_down_does_not_make_the_service_unready() {
    in_time(async {
        let keys = ring();
        let (up, out) = (Site::of(&keys), down());
        for (first, second, first_is_up) in [(&up, &out, true), (&out, &up, false)] {
            let both = issuer(first).build().unwrap().or(other(second)).unwrap();
            assert!(!both.is_ready(), "nothing has been fetched yet");
            timeout(SECOND, both.ready()).await.expect("ready as soon as one of them is");
            assert!(both.is_ready());
            assert_eq!(both.readiness().collect::<Vec<_>>(), [(ISSUER, first_is_up), (OTHER, !first_is_up)]);
        }
        let both = issuer(&up).build().unwrap().or(other(&out)).unwrap();
        both.ready().await;
        assert!(both.verify(&token(&keys)).await.is_ok());
    });
}

#[test]
fn readiness_follows_each_issuer() {
    in_time(async {
        let (one, two) = (down(), down());
        let both = issuer(&one).build().unwrap().or(other(&two)).unwrap();
        assert!(timeout(SECOND, both.ready()).await.is_err() && !both.is_ready());
        assert_eq!(both.readiness().collect::<Vec<_>>(), [(ISSUER, false), (OTHER, false)]);
        two.is_down(false);
        both.ready().await;
        assert_eq!(both.readiness().collect::<Vec<_>>(), [(ISSUER, false), (OTHER, true)]);
        one.is_down(false);
        tokio::time::sleep(31 * SECOND).await;
        assert_eq!(both.readiness().collect::<Vec<_>>(), [(ISSUER, true), (OTHER, true)]);
    });
}

#[test]
fn an_introspection_endpoint_is_ready_while_an_issuer_is_down() {
    in_time(async {
        let introspection = Introspection::new(OTHER, API)
            .unwrap()
            .at("https://other.example.com/introspect")
            .unwrap()
            .client_secret_basic("the api", ClientSecret::new("a secret of 32 characters or more").unwrap())
            .unwrap()
            .build()
            .unwrap();
        assert_eq!(introspection.readiness().collect::<Vec<_>>(), [(OTHER, true)]);
        let keys = ring();
        let out = down();
        let both = issuer(&out).build().unwrap().or(introspection).unwrap();
        assert!(both.is_ready());
        timeout(SECOND, both.ready()).await.expect("it is ready");
        assert_eq!(both.readiness().collect::<Vec<_>>(), [(ISSUER, false), (OTHER, true)]);
        match both.verify(&token(&keys)).await {
            Err(VerifyError::Unavailable(unavailable)) => assert_eq!(unavailable.kind(), UnavailableKind::Keys),
            verified => panic!("{verified:?}"),
        }
    });
}

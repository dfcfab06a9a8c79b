//! Tests of key discovery: the two well-known URLs, `jwks_uri`, and the entity tags of documents.

use http::StatusCode;
use serde_json::json;
use tokio::time::sleep;

use super::tests::{
    HOUR, ISSUER, KEYS, METADATA, OPENID, Page, SECOND, Site, UNKNOWN, connected, refusal, ring, token,
};
use crate::deadline::in_time;
use crate::keys::KeyRing;

const MOVED: &str = "https://keys.example.com/moved";

fn page(status: u16, headers: &[(&'static str, &str)], body: &str) -> Page {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Page { status: StatusCode::from_u16(status).unwrap(), headers, body: body.to_owned() }
}

fn metadata(issuer: &str) -> String {
    json!({"issuer": issuer, "jwks_uri": KEYS}).to_string()
}

fn key_set(keys: &KeyRing) -> Page {
    page(200, &[("etag", "\"1\"")], &serde_json::to_string(&keys.to_jwk_set()).unwrap())
}

#[test]
fn openid_metadata_is_used_with_any_answer_of_the_other_url() {
    in_time(async {
        for first in [
            page(500, &[], "oops"),
            page(503, &[], ""),
            page(429, &[], ""),
            page(404, &[], "<html>"),
            page(403, &[], ""),
            page(200, &[], "<html>"),
            page(200, &[], "[]"),
            page(200, &[], &metadata("https://auth.example.com/another")),
            page(200, &[], &json!({"issuer": ISSUER}).to_string()),
            page(200, &[], &json!({"issuer": ISSUER, "jwks_uri": "http://keys.example.com"}).to_string()),
            page(200, &[], &" ".repeat(256 * 1024 + 1)),
            page(302, &[("location", "https://elsewhere.example/")], ""),
        ] {
            let keys = ring();
            let site = Site::of(&keys);
            let answer = format!("{} {:.40}", first.status, first.body);
            site.set_page(METADATA, first);
            site.set(OPENID, &metadata(ISSUER));
            let verifier = connected(&site).await;
            assert!(verifier.verify(&token(&keys)).await.is_ok(), "{answer}");
            assert_eq!(site.discoveries(), 2, "{answer}");
        }
    });
}

#[test]
fn openid_metadata_is_used_if_the_other_url_does_not_answer() {
    in_time(async {
        let keys = ring();
        let site = Site::of(&keys);
        site.hangs_at(METADATA);
        site.set(OPENID, &metadata(ISSUER));
        assert!(connected(&site).await.verify(&token(&keys)).await.is_ok());
    });
}

#[test]
fn the_error_names_both_urls_and_their_answers() {
    in_time(async {
        let site = Site::of(&ring());
        site.set_page(METADATA, page(404, &[], ""));
        site.set(OPENID, &metadata("https://auth.example.com/another"));
        let (error, took) = refusal(&site).await;
        for part in [METADATA, "404", OPENID, "https://auth.example.com/another"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(took < SECOND, "waiting does not help: {took:?}");

        // If either may recover, the call waits.
        for (first, second) in [(500, 404), (404, 500)] {
            let site = Site::of(&ring());
            site.set_page(METADATA, page(first, &[], ""));
            site.set_page(OPENID, page(second, &[], ""));
            let (error, took) = refusal(&site).await;
            for part in [METADATA, OPENID, "404 Not Found", "500 Internal Server Error"] {
                assert_eq!(error.matches(part).count(), 1, "{part} once in {error}");
            }
            assert_eq!(took, 30 * SECOND, "{error}");
        }
    });
}

#[test]
fn the_tag_of_one_url_is_not_sent_to_another_and_the_keys_of_the_new_one_are_used() {
    in_time(async {
        let (old, new) = (ring(), ring());
        let site = Site::of(&old);
        site.set_page(KEYS, key_set(&old));
        site.set_page(MOVED, key_set(&new));
        let verifier = connected(&site).await;
        let proof = verifier.verify(&token(&old)).await.unwrap();
        site.set(METADATA, &json!({"issuer": ISSUER, "jwks_uri": MOVED}).to_string());
        sleep(10 * 24 * HOUR).await;
        assert_eq!(verifier.verify(&token(&old)).await.unwrap_err(), UNKNOWN, "withdrawn");
        assert_eq!(verifier.still_good(&proof).unwrap_err(), UNKNOWN);
        assert!(verifier.verify(&token(&new)).await.is_ok());
        // The new URL gets its own tag, and only after it sent one.
        let conditional = site.0.conditional.lock().unwrap().clone();
        let (to_old, to_new): (Vec<_>, Vec<_>) = conditional.into_iter().partition(|url| url == KEYS);
        assert!(to_old.len() > 100 && to_new.len() > 1_000, "{} and {}", to_old.len(), to_new.len());
        let unchanged = site.0.unchanged.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!(unchanged, to_old.len() + to_new.len());
        assert_eq!(unchanged + 2, site.fetches(), "each URL sent its set once");
    });
}

#[test]
fn a_changed_redirect_gets_the_new_set_and_not_the_tag_of_the_former_target() {
    in_time(async {
        let (old, new) = (ring(), ring());
        let site = Site::of(&old);
        let targets = ["https://keys.example.com/v1", "https://keys.example.com/v2"];
        site.set_page(targets[0], key_set(&old));
        site.set_page(targets[1], key_set(&new));
        let redirect = |to: &str| page(307, &[("location", to)], "");
        site.set_page(KEYS, redirect(targets[0]));
        let verifier = connected(&site).await;
        verifier.verify(&token(&old)).await.unwrap();
        sleep(9 * super::tests::MINUTE).await;
        assert_eq!(
            *site.0.conditional.lock().unwrap(),
            [targets[0]],
            "the target is asked with its own tag, the redirect with none"
        );
        site.set_page(KEYS, redirect(targets[1]));
        sleep(9 * super::tests::MINUTE).await;
        assert_eq!(verifier.verify(&token(&old)).await.unwrap_err(), UNKNOWN, "withdrawn");
        assert!(verifier.verify(&token(&new)).await.is_ok());
    });
}

#[test]
fn a_tag_is_valid_until_the_set_changes() {
    in_time(async {
        let (old, new) = (ring(), ring());
        let site = Site::of(&old);
        site.set_page(KEYS, key_set(&old));
        // RFC 9110 §15.4.5 requires the tag in every 304, but some servers omit it.
        site.0.is_terse.store(true, std::sync::atomic::Ordering::SeqCst);
        let verifier = connected(&site).await;
        let tags = || site.0.conditional.lock().unwrap().len();
        sleep(HOUR).await;
        let (fetches, conditional) = (site.fetches(), tags());
        assert!(fetches > 6, "{fetches}");
        assert_eq!(conditional, fetches - 1, "all but the first");
        // The new set has no tag.
        site.publish(&new);
        sleep(HOUR).await;
        assert!(site.fetches() > fetches + 6);
        assert_eq!(tags(), conditional + 1, "one more request had the tag, and got the new set");
        assert!(verifier.verify(&token(&new)).await.is_ok());
    });
}

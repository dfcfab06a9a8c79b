//! Tests of tokens that name a key that is not in the set: how many fetches they cause, and how they are answered.

use std::time::Duration;

use tokio::time::{Instant, advance, sleep};

use super::tests::{
    BEGIN, KeyRing, MINUTE, NoKey, SECOND, Site, UNKNOWN, connected, issuer, naming, ring, token, token_of,
};
use crate::VerifiedToken;
use crate::deadline::in_time;
use crate::verification::{InvalidToken, UnavailableKind, Verifier, VerifyError};

/// Returns the `Retry-After` for a token whose key may be new.
#[track_caller]
fn assert_too_early(verified: Result<VerifiedToken, VerifyError>) -> u64 {
    match verified {
        Err(VerifyError::Unavailable(unavailable)) if unavailable.kind() == UnavailableKind::UnknownKey => {
            unavailable.retry_after_seconds()
        }
        verified => panic!("{verified:?}"),
    }
}

/// Returns a ring with both keys, the new one first.
fn rotated(new: &KeyRing, old: &KeyRing) -> KeyRing {
    new.clone().also_trust(old.signing_key().verifying_key())
}

/// Uses up the three fetches in a row with names that the issuer does not have.
async fn use_up(verifier: &Verifier) {
    for name in ["first", "second", "third"] {
        assert_eq!(verifier.verify(&naming(name)).await.unwrap_err(), UNKNOWN);
    }
}

#[test]
fn a_new_key_is_admitted_immediately_after_a_request_with_a_random_key_name() {
    in_time(async {
        let (old, new) = (ring(), ring());
        let site = Site::of(&old);
        let verifier = connected(&site).await;
        assert_eq!(verifier.verify(&naming("a stranger")).await.unwrap_err(), UNKNOWN);
        site.publish(&rotated(&new, &old));
        assert!(verifier.verify(&token(&new)).await.is_ok());
        assert_eq!(site.fetches(), 3);
    });
}

#[test]
fn a_new_key_is_answered_503_until_a_fetch_is_allowed_and_then_admitted() {
    in_time(async {
        let (old, new) = (ring(), ring());
        let site = Site::of(&old);
        let verifier = connected(&site).await;
        use_up(&verifier).await;
        site.publish(&rotated(&new, &old));
        assert_eq!(assert_too_early(verifier.verify(&token(&new)).await), 10);
        sleep(Duration::from_millis(3_500)).await;
        assert_eq!(assert_too_early(verifier.verify_now(&token(&new))), 7, "rounded up");
        sleep(7 * SECOND).await;
        assert!(verifier.verify(&token(&new)).await.is_ok());
        assert_eq!(site.fetches(), 1 + 3 + 1);
    });
}

#[test]
fn retry_after_is_the_time_of_an_earlier_regular_fetch() {
    in_time(async {
        let (old, new) = (ring(), ring());
        let site = Site::of(&old);
        let verifier = issuer(&site).unknown_key_cooldown(60 * MINUTE).connect().await.unwrap();
        use_up(&verifier).await;
        site.publish(&rotated(&new, &old));
        let retry_after = assert_too_early(verifier.verify(&token(&new)).await);
        assert!((7 * 60..=8 * 60).contains(&retry_after), "{retry_after}");
        sleep(Duration::from_secs(retry_after)).await;
        assert!(verifier.verify(&token(&new)).await.is_ok());
    });
}

#[test]
fn a_hundred_thousand_random_names_in_ten_minutes_cause_at_most_65_fetches() {
    in_time(async {
        let keys = ring();
        let site = Site::of(&keys);
        let verifier = connected(&site).await;
        let (before, good) = (site.fetches(), token(&keys));
        let (mut max_remembered, mut refused, mut too_early) = (0, 0, 0);
        for round in 0..100_000_u32 {
            let name = format!("{round:x}{}", "x".repeat(100));
            match verifier.verify(&naming(&name)).await.unwrap_err() {
                VerifyError::Refused(refusal) if refusal.reason() == InvalidToken::UnknownKey => refused += 1,
                error => {
                    assert!((1..=10).contains(&assert_too_early(Err(error))));
                    too_early += 1;
                }
            }
            max_remembered = max_remembered.max(verifier.remote_keys().unwrap().unknown_names());
            if round % 100 == 0 {
                advance(600 * Duration::from_millis(1)).await;
                assert!(verifier.verify_now(&good).is_ok());
            }
        }
        let fetches = site.fetches() - before;
        println!(
            "100,000 random kids in 10 minutes: {fetches} fetches, {refused} answers of 401 and {too_early} of 503, at most \
             {max_remembered} names remembered"
        );
        assert!((60..=65).contains(&fetches), "{fetches}");
        assert!(max_remembered <= 1_000);
    });
}

#[test]
fn a_new_key_is_admitted_within_ten_seconds_during_a_flood_of_random_names_and_never_refused() {
    in_time(async {
        let mut keys = ring();
        let site = Site::of(&keys);
        let verifier = connected(&site).await;
        site.takes(Duration::from_millis(50));
        let strangers = verifier.clone();
        let flood = tokio::spawn(async move {
            for name in 0_u64.. {
                let (strangers, name) = (strangers.clone(), name.to_string());
                tokio::spawn(async move { strangers.verify(&naming(&name)).await.unwrap_err() });
                sleep(Duration::from_millis(5)).await;
            }
        });
        let (started, before) = (Instant::now(), site.fetches());
        let (mut slowest, mut too_early) = (Duration::ZERO, 0);
        for _ in 0..20 {
            // At another time within the interval in each round.
            sleep(Duration::from_millis(30_770)).await;
            let new = ring();
            site.publish(&rotated(&new, &keys));
            let (published, token) = (Instant::now(), token(&new));
            while let Err(error) = verifier.verify(&token).await {
                assert!((1..=10).contains(&assert_too_early(Err(error))));
                too_early += 1;
                sleep(Duration::from_millis(100)).await;
            }
            slowest = slowest.max(published.elapsed());
            keys = new;
        }
        flood.abort();
        let (fetches, elapsed) = (site.fetches() - before, started.elapsed());
        println!(
            "20 new keys in {elapsed:?} of 200 random kids a second: {fetches} fetches, {too_early} answers of 503 to valid \
             tokens, none of 401; the slowest key was admitted after {slowest:?}"
        );
        assert!(slowest > 5 * SECOND && slowest <= 10 * SECOND + Duration::from_millis(200), "{slowest:?}");
        assert!(fetches as u64 <= 3 + elapsed.as_secs() / 10, "{fetches}");
    });
}

#[test]
fn a_name_that_a_set_lacked_is_refused_without_a_fetch_for_ten_seconds_or_until_the_keys_change() {
    in_time(async {
        let keys = ring();
        let site = Site::of(&keys);
        let (verifier, next) = (connected(&site).await, ring());
        let early = token(&next);
        // A set that is fetched now proves that the issuer lacks the key, since the token is older.
        sleep(10 * SECOND).await;
        assert_eq!(verifier.verify(&early).await.unwrap_err(), UNKNOWN);
        let fetches = site.fetches();
        sleep(9 * SECOND).await;
        assert_eq!(verifier.verify(&early).await.unwrap_err(), UNKNOWN);
        assert_eq!(site.fetches(), fetches, "remembered");
        site.publish(&rotated(&next, &keys));
        sleep(SECOND).await;
        assert!(verifier.verify(&early).await.is_ok(), "fetched again after the cooldown");

        let (third, fourth) = (ring(), ring());
        assert_eq!(verifier.verify(&token(&third)).await.unwrap_err(), UNKNOWN);
        site.publish(&third.clone().also_trust(fourth.signing_key().verifying_key()));
        assert!(verifier.verify(&token(&fourth)).await.is_ok());
        assert!(verifier.verify_now(&token(&third)).is_ok(), "the set fetched for the other token has it");
    });
}

#[test]
fn a_set_that_was_requested_before_the_token_arrived_does_not_refuse_it() {
    in_time(async {
        let (old, new) = (ring(), ring());
        let site = Site::of(&old);
        let verifier = connected(&site).await;
        use_up(&verifier).await;
        sleep(10 * SECOND).await;
        // The issuer answers with the set at the time of the request, half a second later.
        site.answers_as_of_the_request(SECOND / 2);
        let stranger = tokio::spawn({
            let verifier = verifier.clone();
            async move { verifier.verify(&naming("a stranger")).await.unwrap_err() }
        });
        sleep(SECOND / 4).await;
        site.publish(&rotated(&new, &old));
        assert_eq!(assert_too_early(verifier.verify(&token(&new)).await), 10, "it joined a fetch that began too early");
        assert_eq!(stranger.await.unwrap(), UNKNOWN);
        sleep(10 * SECOND).await;
        assert!(verifier.verify(&token(&new)).await.is_ok());
    });
}

#[test]
fn a_request_that_joins_an_earlier_fetch_waits_for_the_next_one_if_allowed() {
    in_time(async {
        let (old, new) = (ring(), ring());
        let site = Site::of(&old);
        let verifier = connected(&site).await;
        site.answers_as_of_the_request(SECOND);
        let stranger = tokio::spawn({
            let verifier = verifier.clone();
            async move { verifier.verify(&naming("a stranger")).await.unwrap_err() }
        });
        sleep(SECOND / 2).await;
        site.publish(&rotated(&new, &old));
        assert!(verifier.verify(&token(&new)).await.is_ok());
        assert_eq!((stranger.await.unwrap(), site.fetches()), (UNKNOWN, 3));
    });
}

#[test]
fn an_unknown_name_is_answered_503_while_the_issuer_is_down_within_the_same_budget() {
    in_time(async {
        let (old, new) = (ring(), ring());
        let site = Site::of(&old);
        let verifier = connected(&site).await;
        site.is_down(true);
        let before = site.fetches() + site.discoveries();
        for _ in 0..1_000 {
            let retry_after = assert_too_early(verifier.verify(&token(&new)).await);
            assert!((1..=30).contains(&retry_after), "{retry_after}");
        }
        let attempts = site.fetches() + site.discoveries() - before;
        assert!(attempts <= 1 + 2 * 2, "{attempts}");
        site.publish(&rotated(&new, &old));
        site.is_down(false);
        sleep(31 * SECOND).await;
        assert!(verifier.verify(&token(&new)).await.is_ok());
    });
}

#[test]
fn a_token_with_an_algorithm_that_no_key_has_is_refused_without_a_fetch() {
    in_time(async {
        let site = Site::of(&ring());
        let verifier = connected(&site).await;
        let remote = verifier.remote_keys().unwrap();
        for alg in ["HS256", "none", "", "es256"] {
            assert!(matches!(remote.find("any", alg), Err(NoKey::Algorithm(None))), "{alg}");
        }
        let rs256_only = issuer(&site).algorithms([super::tests::Algorithm::ES256]).connect().await.unwrap();
        assert!(matches!(rs256_only.remote_keys().unwrap().find("any", "RS256"), Err(NoKey::Algorithm(None))));
        assert!(matches!(remote.find("any", "RS256"), Err(NoKey::NotAsked)));
    });
}

#[test]
fn guessing_the_name_of_the_next_key_does_not_cause_its_tokens_to_be_refused() {
    in_time(async {
        let (old, new) = (ring(), ring());
        let site = Site::of(&old);
        let (started, verifier) = (Instant::now(), connected(&site).await);
        sleep(MINUTE).await;
        let name = new.signing_key().verifying_key().key_id().to_owned();
        assert_eq!(verifier.verify(&naming(&name)).await.unwrap_err(), UNKNOWN);
        site.publish(&rotated(&new, &old));
        let (published, mut too_early) = (Instant::now(), 0);
        let token = token_of(&new, BEGIN + started.elapsed().as_secs());
        while let Err(error) = verifier.verify(&token).await {
            let left = (10 * SECOND).saturating_sub(published.elapsed());
            assert_eq!(assert_too_early(Err(error)), left.as_secs() + u64::from(left.subsec_nanos() > 0));
            too_early += 1;
            // Further guesses change nothing.
            assert_too_early(verifier.verify(&naming(&name)).await);
            sleep(SECOND / 2).await;
        }
        assert_eq!((too_early, published.elapsed(), site.fetches()), (20, 10 * SECOND, 3));
    });
}

#[test]
fn a_token_older_than_a_set_without_its_key_is_refused_without_another_fetch() {
    in_time(async {
        let (withdrawn, new) = (ring(), ring());
        let site = Site::of(&withdrawn);
        let (old, verifier) = (token(&withdrawn), connected(&site).await);
        site.publish(&new);
        sleep(9 * MINUTE).await;
        let fetches = site.fetches();
        for _ in 0..9 {
            assert_eq!(verifier.verify(&old).await.unwrap_err(), UNKNOWN);
            sleep(SECOND).await;
        }
        assert_eq!(site.fetches() - fetches, 1);
        // Within the leeway, the issuer's clock may be slow.
        assert_too_early(verifier.verify(&token_of(&withdrawn, BEGIN + 9 * 60 - 4)).await);
        assert_eq!(verifier.verify(&token_of(&withdrawn, BEGIN + 9 * 60 - 6)).await.unwrap_err(), UNKNOWN);
    });
}

#[test]
fn a_fetch_for_an_unknown_name_bypasses_shared_caches() {
    in_time(async {
        let (old, new) = (ring(), ring());
        let site = Site::of(&old);
        let verifier = connected(&site).await;
        assert_eq!(site.revalidations(), 0, "a regular fetch may be answered from a cache");
        site.publish(&rotated(&new, &old));
        assert!(verifier.verify(&token(&new)).await.is_ok());
        assert_eq!((site.fetches(), site.revalidations()), (2, 1));
    });
}

/// A pseudorandom sequence that is the same in every run.
struct TestRng(u64);

impl TestRng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Random names, rotations, outages and slow answers in any order. A token of a published key, whose name was not used before
/// it was published, is never refused. It is admitted as soon as the issuer was up for the time until one more fetch is
/// allowed.
#[test]
fn a_valid_token_of_a_new_key_is_never_refused_under_random_names_and_outages() {
    in_time(async {
        let (mut admitted, mut too_early, mut refused) = (0, 0, 0);
        for seed in 0..60 {
            let mut rng = TestRng(seed);
            let mut keys = ring();
            let site = Site::of(&keys);
            let verifier = connected(&site).await;
            let (started, before) = (Instant::now(), site.fetches());
            let mut published = Instant::now();
            let (mut is_down, mut outages) = (false, 0);
            for step in 0..200 {
                match rng.below(8) {
                    0 => {
                        let new = ring();
                        site.publish(&rotated(&new, &keys));
                        (keys, published) = (new, Instant::now());
                    }
                    1 => {
                        is_down = !is_down && rng.below(3) == 0;
                        site.is_down(is_down);
                        outages += u64::from(is_down);
                        published = Instant::now();
                    }
                    2 => site.takes(Duration::from_millis(rng.below(2_000))),
                    3 => sleep(Duration::from_millis(rng.below(15_000))).await,
                    4 => {
                        let waited = published.elapsed();
                        match verifier.verify(&token(&keys)).await {
                            Ok(_) => admitted += 1,
                            Err(error) => {
                                assert!(assert_too_early(Err(error)) <= 30, "seed {seed}, step {step}");
                                // A fetch in flight took at most 4 s, and the next one is allowed after 10 s.
                                assert!(is_down || waited <= 14 * SECOND, "seed {seed}, step {step}: {waited:?}");
                                too_early += 1;
                            }
                        }
                    }
                    _ => match verifier.verify(&naming(&format!("{seed} {step}"))).await.unwrap_err() {
                        VerifyError::Refused(_) => refused += 1,
                        error @ VerifyError::Unavailable(_) => {
                            assert!(assert_too_early(Err(error)) <= 30, "seed {seed}, step {step}");
                        }
                    },
                }
            }
            // Regular fetches and retries after failures are not in the budget; few of the latter reach the keys.
            let (fetches, elapsed) = (site.fetches() - before, started.elapsed());
            let allowed = 3 + elapsed.as_secs() / 10 + elapsed.as_secs() / (7 * 60) + outages;
            assert!(fetches as u64 <= allowed, "seed {seed}: {fetches} fetches in {elapsed:?}");
        }
        println!("{admitted} admitted, {too_early} answered 503, {refused} random names refused");
        assert!(admitted > 500 && too_early > 50 && refused > 500);
    });
}

#[test]
fn a_name_that_a_set_lacked_causes_no_fetch_for_ten_seconds_after_the_request_for_that_set() {
    in_time(async {
        let site = Site::of(&ring());
        let verifier = connected(&site).await;
        site.takes(4 * SECOND);
        let (requested, before) = (Instant::now(), site.fetches());
        assert_eq!(verifier.verify(&naming("stranger")).await.unwrap_err(), UNKNOWN);
        sleep((9 * SECOND).saturating_sub(requested.elapsed())).await;
        assert_eq!(assert_too_early(verifier.verify(&naming("stranger")).await), 1, "second until the next fetch");
        assert_eq!(site.fetches() - before, 1);
        sleep(SECOND).await;
        assert_eq!(verifier.verify(&naming("stranger")).await.unwrap_err(), UNKNOWN);
        assert_eq!(site.fetches() - before, 2, "ten seconds after the request");
    });
}

#[test]
fn a_name_that_a_set_lacked_causes_a_fetch_again_once_the_keys_have_changed() {
    in_time(async {
        let (old, new, newest) = (ring(), ring(), ring());
        let site = Site::of(&old);
        let verifier = connected(&site).await;
        assert_eq!(verifier.verify(&token(&newest)).await.unwrap_err(), UNKNOWN);
        site.publish(&rotated(&new, &old));
        assert!(verifier.verify(&token(&new)).await.is_ok());
        site.publish(&rotated(&newest, &new));
        assert!(verifier.verify(&token(&newest)).await.is_ok());
    });
}

#[test]
fn after_a_fetch_of_the_same_keys_a_missing_name_causes_no_other_fetch() {
    in_time(async {
        let site = Site::of(&ring());
        let verifier = issuer(&site).unknown_key_cooldown(60 * MINUTE).connect().await.unwrap();
        assert_eq!(verifier.verify(&naming("stranger")).await.unwrap_err(), UNKNOWN);
        sleep(10 * MINUTE).await;
        let fetches = site.fetches();
        assert_eq!(fetches, 3, "the first one, one for the unknown name, and a regular one");
        assert_too_early(verifier.verify(&naming("stranger")).await);
        assert_eq!((verifier.remote_keys().unwrap().unknown_names(), site.fetches()), (1, fetches));
    });
}

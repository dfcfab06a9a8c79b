use std::collections::HashSet;
use std::hash::{BuildHasher as _, BuildHasherDefault};
use std::thread;

use super::place::{AlreadyHashed, Keys, Place};
use super::{OVERHEAD, TokenCache, VerifiedToken};
use crate::watchdog::Watchdog;

const MANY: usize = usize::MAX;

fn token(number: usize) -> VerifiedToken {
    VerifiedToken::for_test_with_text(&format!("a.b.{number:0>40}"))
}

fn tokens_and_bytes(cache: &TokenCache) -> (usize, usize) {
    let ledger = cache.ledger();
    let entries: usize = cache.shards.iter().map(|shard| shard.read().len()).sum();
    let bytes: usize = ledger.lines.iter().map(|line| line.bytes).sum();
    assert_eq!((entries, bytes), (ledger.lines.len(), ledger.bytes), "the ledger has one line per entry");
    for (number, line) in ledger.lines.iter().enumerate() {
        assert_eq!(cache.shard(line.place).read()[&line.place].line, number);
    }
    (entries, bytes)
}

fn has(cache: &TokenCache, number: usize) -> bool {
    let token = token(number);
    cache.find(token.text().as_bytes()).is_some_and(|found| found.text() == token.text())
}

#[test]
fn a_token_is_found_only_by_its_whole_text() {
    let cache = TokenCache::new(10, MANY);
    let kept = token(1);
    cache.keep(&kept);
    assert!(cache.find(kept.text().as_bytes()).unwrap().ptr_eq(&kept));
    let same_tail = kept.text().replacen('a', "A", 1);
    for other in [same_tail.as_str(), &kept.text()[1..], &format!("a{}", kept.text()), &**token(2).text(), "short", ""]
    {
        assert!(cache.find(other.as_bytes()).is_none(), "{other}");
    }
}

/// Returns the hit rate in percent if this many tokens are used in turn.
fn hits(cache: &TokenCache, tokens: usize) -> usize {
    let tokens: Vec<_> = (0..tokens).map(token).collect();
    let (mut found, rounds) = (0, 20);
    for round in 0..rounds {
        for token in &tokens {
            match cache.find(token.text().as_bytes()) {
                Some(_) => found += usize::from(round > 0),
                None => cache.keep(token),
            }
        }
    }
    found * 100 / (tokens.len() * (rounds - 1))
}

#[test]
fn most_tokens_stay_cached_if_one_more_than_fits_is_used_in_turn() {
    let cache = TokenCache::new(1_000, MANY);
    let share = hits(&cache, 1_001);
    assert!(share >= 95, "{share} %");
    assert_eq!(tokens_and_bytes(&cache).0, 1_000);
    // At most two thirds of these could stay.
    let share = hits(&TokenCache::new(1_000, MANY), 1_500);
    assert!(share >= 30, "{share} %");
}

#[test]
fn most_tokens_stay_cached_under_the_byte_bound_too() {
    let each = token(0).size() + OVERHEAD;
    let cache = TokenCache::new(MANY, 1_000 * each);
    let share = hits(&cache, 1_001);
    assert!(share >= 95, "{share} %");
    assert_eq!(tokens_and_bytes(&cache), (1_000, 1_000 * each));
}

#[test]
fn a_token_is_cached_on_its_second_use_in_a_full_cache() {
    let cache = TokenCache::new(10, MANY);
    for number in 0..1_000 {
        cache.keep(&token(number));
        assert_eq!(has(&cache, number), number < 10, "{number}");
        cache.keep(&token(number));
        assert!(has(&cache, number), "{number}");
        assert_eq!(tokens_and_bytes(&cache).0, 10.min(number + 1));
    }
}

#[test]
fn tokens_that_are_used_once_evict_nothing() {
    let each = token(0).size() + OVERHEAD;
    for cache in [TokenCache::new(10, MANY), TokenCache::new(MANY, 10 * each)] {
        (0..1_000).for_each(|number| cache.keep(&token(number)));
        assert!((0..10).all(|number| has(&cache, number)));
        assert_eq!(tokens_and_bytes(&cache), (10, 10 * each));
    }
}

#[test]
fn a_long_token_evicts_only_as_much_as_it_needs() {
    let each = token(0).size() + OVERHEAD;
    let cache = TokenCache::new(MANY, 10 * each);
    (0..25).for_each(|number| cache.keep(&token(number)));
    assert_eq!(tokens_and_bytes(&cache), (10, 10 * each));

    let long = VerifiedToken::for_test_with_text(&"x".repeat(each));
    (0..2).for_each(|_| cache.keep(&long));
    assert!(cache.find(long.text().as_bytes()).is_some());
    let (tokens, bytes) = tokens_and_bytes(&cache);
    assert!((6..10).contains(&tokens) && bytes <= 10 * each, "{tokens} {bytes}");

    let too_long = VerifiedToken::for_test_with_text(&"y".repeat(10 * each));
    (0..2).for_each(|_| cache.keep(&too_long));
    assert!(cache.find(too_long.text().as_bytes()).is_none());
    assert_eq!(tokens_and_bytes(&cache), (tokens, bytes), "a token that can never fit evicts nothing");
}

#[test]
fn a_repeated_token_has_only_one_entry() {
    let cache = TokenCache::new(10, MANY);
    (0..5).for_each(|_| cache.keep(&token(1)));
    assert_eq!(tokens_and_bytes(&cache).0, 1);
    (2..11).for_each(|number| cache.keep(&token(number)));
    (0..5).for_each(|_| cache.keep(&token(1)));
    assert!((1..11).all(|number| has(&cache, number)), "it evicts nothing");
}

#[test]
fn two_tokens_with_the_same_tail_are_never_confused() {
    let cache = TokenCache::new(10, MANY);
    let tail = "0123456789abcdef";
    let [one, other] = ["one", "other"].map(|head| VerifiedToken::for_test_with_text(&format!("{head}.{tail}")));
    cache.keep(&one);
    assert!(cache.find(other.text().as_bytes()).is_none());
    cache.keep(&other);
    assert!(cache.find(one.text().as_bytes()).is_none() && cache.find(other.text().as_bytes()).is_some());
    assert_eq!(tokens_and_bytes(&cache).0, 1);
}

#[test]
fn removed_tokens_are_gone_and_free_their_space() {
    let cache = TokenCache::new(100, MANY);
    (0..100).for_each(|number| cache.keep(&token(number)));
    cache.forget(|token| token.text().ends_with('7'));
    assert_eq!(tokens_and_bytes(&cache).0, 90);
    assert!(!has(&cache, 7) && has(&cache, 8));
    (100..110).for_each(|number| cache.keep(&token(number)));
    assert!(has(&cache, 0), "ten fit");
}

/// Looks up a token until it is copied, and returns the copy.
fn copy(cache: &TokenCache, token: &VerifiedToken) -> VerifiedToken {
    (0..9).filter_map(|_| cache.find(token.text().as_bytes())).last().unwrap()
}

#[test]
fn a_frequent_token_is_copied_for_the_core_that_uses_it() {
    let cache = TokenCache::new(10, MANY);
    let kept = token(1);
    cache.keep(&kept);
    assert!((0..8).all(|_| cache.find(kept.text().as_bytes()).unwrap().shares_memory_with(&kept)));
    let copied = cache.find(kept.text().as_bytes()).unwrap();
    assert!(!copied.shares_memory_with(&kept) && copied.ptr_eq(&kept));
    assert!(cache.find(kept.text().as_bytes()).unwrap().shares_memory_with(&copied), "once");
    let same_tail = kept.text().replacen('a', "A", 1);
    assert!(cache.find(same_tail.as_bytes()).is_none(), "copies are compared by their whole text, too");
}

#[test]
fn tokens_that_are_used_in_turn_are_not_copied() {
    // Fixed keys: with others, one token in a thousand runs might have a slot to itself.
    let cache = TokenCache::with_keys(1_000, MANY, Keys(0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03));
    let tokens: Vec<_> = (0..1_000).map(token).inspect(|token| cache.keep(token)).collect();
    for _ in 0..100 {
        assert!(tokens.iter().all(|token| cache.find(token.text().as_bytes()).is_some()));
    }
    assert_eq!(cache.per_core.copies(), 0);
}

#[test]
fn a_long_token_is_not_copied() {
    let cache = TokenCache::new(10, MANY);
    let kept = VerifiedToken::for_test_with_text(&"x".repeat(4_097));
    cache.keep(&kept);
    assert!(copy(&cache, &kept).shares_memory_with(&kept));
}

#[test]
fn a_more_frequent_token_replaces_a_copied_one() {
    let cache = TokenCache::new(1_000, MANY);
    let tokens: Vec<_> = (0..1_000).map(token).inspect(|token| cache.keep(token)).collect();
    for token in &tokens {
        assert!(!copy(&cache, token).shares_memory_with(token));
    }
    // All were used on one core. The texts are so much alike that with some keys not each of its 16 places is taken.
    assert!((8..=16).contains(&cache.per_core.copies()), "{}", cache.per_core.copies());
}

#[test]
fn removed_tokens_have_no_copies() {
    let cache = TokenCache::new(10, MANY);
    let [one, other] = [token(1), token(2)];
    cache.keep(&one);
    cache.keep(&other);
    copy(&cache, &one);
    cache.forget(|token| token.text() == one.text());
    assert!(!has(&cache, 1) && has(&cache, 2));
}

#[test]
fn the_bounds_hold_with_several_threads() {
    let cache = TokenCache::new(200, MANY);
    let work = |thread: usize| {
        for round in 0..2_000 {
            let number = (thread * 37 + round) % 400;
            match cache.find(token(number).text().as_bytes()) {
                Some(found) => assert!(found.has_text(token(number).text().as_bytes())),
                None => cache.keep(&token(number)),
            }
            if round % 500 == 499 {
                cache.forget(|token| token.text().ends_with('3'));
            }
        }
    };
    thread::scope(|scope| (0..8).for_each(|thread| drop(scope.spawn(move || work(thread)))));
    assert!((1..=200).contains(&tokens_and_bytes(&cache).0));
    let newest = token(7_777);
    (0..2).for_each(|_| cache.keep(&newest));
    assert!(cache.find(newest.text().as_bytes()).is_some());
}

#[test]
fn hashes_are_distinct_and_evenly_distributed_with_any_keys() {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let lows: fn(u64) -> u128 = |number| u128::from(number) | 0x0123_4567_89ab_cdef << 64;
    let highs: fn(u64) -> u128 = |number| u128::from(number) << 64 | 0x0123_4567_89ab_cdef;
    for keys in [Keys(ODD, !ODD), Keys(u64::MAX, ODD), Keys(ODD, u64::MAX)] {
        for tail in [lows, highs] {
            let hashes: Vec<_> = (1..=1_000_u64).map(|number| keys.hash(tail(number.wrapping_mul(ODD)))).collect();
            assert_eq!(hashes.iter().collect::<HashSet<_>>().len(), 1_000, "each half of a tail counts");
            for bit in 0..64 {
                let set = hashes.iter().filter(|hash| **hash >> bit & 1 == 1).count();
                assert!((380..620).contains(&set), "bit {bit} is set in {set} of 1,000");
            }
        }
    }
}

#[test]
fn a_place_is_not_hashed_again() {
    assert_eq!(
        BuildHasherDefault::<AlreadyHashed>::default().hash_one(Place(0x0123_4567_89ab_cdef)),
        0x0123_4567_89ab_cdef
    );
}

#[test]
fn tokens_are_spread_over_all_shards() {
    let cache = TokenCache::new(MANY, MANY);
    (0..2_000).for_each(|number| cache.keep(&token_of_random_tail(number)));
    assert!(cache.shards.iter().all(|shard| !shard.read().is_empty()));
}

/// Returns a token whose tail differs in many bits, as signatures do.
fn token_of_random_tail(number: u64) -> VerifiedToken {
    VerifiedToken::for_test_with_text(&format!("a.b.{:0>20}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

#[test]
fn a_long_token_that_evicts_several_is_itself_kept() {
    let _watchdog = Watchdog::start();
    let each = token(0).size() + OVERHEAD;
    for _ in 0..100 {
        let cache = TokenCache::new(MANY, 10 * each);
        (0..10).for_each(|number| cache.keep(&token(number)));
        let long = VerifiedToken::for_test_with_text(&"x".repeat(6 * each));
        (0..2).for_each(|_| cache.keep(&long));
        assert!(cache.find(long.text().as_bytes()).is_some());
        let (tokens, bytes) = tokens_and_bytes(&cache);
        assert!(tokens < 6 && bytes <= 10 * each, "{tokens} {bytes}");
    }
}

#[test]
fn every_token_can_be_evicted() {
    let each = token(0).size() + OVERHEAD;
    for cache in [TokenCache::new(10, MANY), TokenCache::new(MANY, 10 * each)] {
        (0..10).for_each(|number| cache.keep(&token(number)));
        for number in 10..500 {
            (0..2).for_each(|_| cache.keep(&token(number)));
        }
        assert_eq!(tokens_and_bytes(&cache).0, 10);
        assert!((0..10).all(|number| !has(&cache, number)), "one of the first was not evicted by 490 evictions");
    }
}

#[test]
fn its_debug_output_shows_its_size_and_no_token() {
    let cache = TokenCache::new(10, MANY);
    cache.keep(&token(1));
    let shown = format!("{cache:?}");
    assert!(shown.contains("tokens: 1") && shown.contains("bytes: ") && !shown.contains("a.b."), "{shown}");
}

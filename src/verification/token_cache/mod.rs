//! [`TokenCache`]: tokens that were verified before, and need not be again.
//!
//! The mechanism alone: it says that a text is a token that was verified, to the letter. Whether it is good still is for
//! [`Verifier`](crate::verification::Verifier) to check, at every hit.

mod near;
mod newcomers;

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use self::near::NearTokens;
use self::newcomers::Newcomers;
use super::VerifiedToken;
use super::dice::Dice;
use crate::metrics;
use crate::sync::Striped;

/// So many that threads seldom meet at one lock.
const SHARDS: usize = 64;

/// How much of its end a token is found by: the last 96 bits of the signature, which differ from token to token.
const TAIL: usize = 16;

/// The memory of an entry in addition to its token, in bytes, roughly: its share of a map, and its line.
const OVERHEAD: usize = 128;

/// Verified tokens by their texts, within a number of tokens and of bytes. Beyond either, tokens chosen at random are
/// evicted: of tokens that are shown in turn, a few more than fit, most stay, where evicting the oldest would keep none.
/// When there is no room, a token is kept from the second time on: one that is shown once evicts nothing, and takes no time for
/// it.
///
/// Only verified tokens are kept, so garbage evicts nothing. A look-up locks the copies of its core and, if the token is not
/// among them, one shard for reading.
pub(super) struct TokenCache {
    most_tokens: usize,
    most_bytes: usize,
    keys: Keys,
    shards: Striped<Shard, SHARDS>,
    /// Locked before a shard by who looks up; else not while a shard is.
    near: NearTokens,
    /// Locked by every change, and always before a shard.
    ledger: Mutex<Ledger>,
}

/// On cache lines of its own, so that who locks it does not slow down who uses its neighbour.
#[derive(Default)]
#[repr(align(128))]
struct Shard {
    entries: RwLock<Entries>,
}

type Entries = HashMap<Place, Entry, BuildHasherDefault<AlreadyHashed>>;

/// The hash of a token's tail. Two tokens of one place drive each other out, and are told apart all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Place(u64);

struct Entry {
    /// Here too, so that the processor need not wait for the token to know where its text is.
    text: Arc<str>,
    token: VerifiedToken,
    /// Its line in the ledger.
    line: usize,
}

/// Random, so that nobody can choose tokens that meet in one place.
struct Keys(u64, u64);

impl Keys {
    fn random() -> Self {
        // The one source of randomness that is at hand everywhere and cannot fail.
        let state = RandomState::new();
        Self(state.hash_one(0), state.hash_one(1))
    }

    /// A product of two halves, each under a key: all of its bits depend on all of theirs. Signatures are as good as random
    /// to begin with, so no more is asked of it than to keep the few from meeting that somebody picked out.
    #[allow(clippy::cast_possible_truncation)] // into halves
    fn hash(&self, tail: u128) -> u64 {
        let product = u128::from(tail as u64 ^ self.0) * u128::from((tail >> 64) as u64 ^ self.1);
        (product ^ product >> 64) as u64
    }
}

impl TokenCache {
    pub(super) fn new(most_tokens: usize, most_bytes: usize) -> Self {
        Self::with_keys(most_tokens, most_bytes, Keys::random())
    }

    fn with_keys(most_tokens: usize, most_bytes: usize, keys: Keys) -> Self {
        Self {
            most_tokens,
            most_bytes,
            keys,
            shards: Striped::default(),
            near: NearTokens::new(),
            ledger: Mutex::new(Ledger {
                lines: Vec::new(),
                bytes: 0,
                dice: Dice::random(),
                newcomers: Newcomers::default(),
            }),
        }
    }

    /// One of the same size, with nothing in it.
    pub(super) fn emptied(&self) -> Self {
        Self::new(self.most_tokens, self.most_bytes)
    }

    /// The proof of this very token. The whole text is compared, and not in constant time: to get so far, one has to
    /// show the last 96 bits of a good signature, and who has these has the token.
    pub(super) fn find(&self, text: &[u8]) -> Option<VerifiedToken> {
        let place = self.place(text)?;
        let mut near = self.near.of_this_thread();
        if let Some(copy) = near.as_mut().and_then(|near| near.find(place, text)) {
            return Some(copy);
        }
        let entries = self.shard(place).read();
        let entry = entries.get(&place).filter(|entry| entry.text.as_bytes() == text)?;
        if let Some(near) = &mut near {
            near.count(place, &entry.token);
        }
        Some(entry.token.clone())
    }

    /// Remembers a token that was verified just now; if it would evict another, only the second time.
    pub(super) fn keep(&self, token: &VerifiedToken) {
        let bytes = token.size() + OVERHEAD;
        let Some(place) = self.place(token.text().as_bytes()).filter(|_| bytes <= self.most_bytes) else { return };
        let shard = self.shard(place);
        let entry = |line| Entry { text: token.text().clone(), token: token.clone(), line };
        let mut ledger = self.ledger();
        let is_full = ledger.lines.len() >= self.most_tokens || bytes > self.most_bytes - ledger.bytes;
        if is_full && !ledger.newcomers.have_come_before(place, self.most_tokens) {
            return;
        }
        let mut newest = self.line_for(&mut ledger, shard, Line { place, bytes });
        shard.write().insert(place, entry(newest));
        while ledger.bytes > self.most_bytes || ledger.lines.len() > self.most_tokens {
            let evicted = ledger.any_but(newest);
            let last = ledger.lines.len() - 1;
            self.evict(&mut ledger, evicted);
            if newest == last {
                newest = evicted;
            }
        }
    }

    /// The line of a token that is about to be inserted: that of the token which it replaces, or of one that is evicted
    /// because there are enough of them, or a new one.
    fn line_for(&self, ledger: &mut Ledger, shard: &Shard, line: Line) -> usize {
        let former = shard.read().get(&line.place).map(|entry| entry.line);
        let Some(reused) = former.or_else(|| ledger.any().filter(|_| ledger.lines.len() >= self.most_tokens)) else {
            return ledger.append(line);
        };
        if former.is_none() {
            self.remove(ledger.place(reused));
            metrics::cached_token_evicted();
        }
        ledger.replace(reused, line);
        reused
    }

    fn evict(&self, ledger: &mut Ledger, line: usize) {
        self.remove(ledger.place(line));
        self.strike(ledger, line);
        metrics::cached_token_evicted();
    }

    /// Takes a line out of the ledger, and tells the entry of the line that takes its place.
    fn strike(&self, ledger: &mut Ledger, line: usize) {
        ledger.strike(line);
        if let Some(moved) = ledger.place(line)
            && let Some(entry) = self.shard(moved).write().get_mut(&moved)
        {
            entry.line = line;
        }
    }

    fn remove(&self, place: Option<Place>) {
        // Dropped here, when the shard is unlocked again.
        let _removed = place.and_then(|place| self.shard(place).write().remove(&place));
    }

    /// Forgets every token that fits, such as those of a key that is trusted no longer.
    pub(super) fn forget(&self, fits: impl Fn(&VerifiedToken) -> bool) {
        let mut ledger = self.ledger();
        for shard in self.shards.iter() {
            // Removed one by one: each removal may renumber an entry of the same shard.
            let places: Vec<_> =
                shard.read().iter().filter(|(_, entry)| fits(&entry.token)).map(|(place, _)| *place).collect();
            for place in places {
                let removed = shard.write().remove(&place);
                if let Some(entry) = removed {
                    self.strike(&mut ledger, entry.line);
                }
            }
        }
        self.near.forget(fits);
    }

    /// `None` for what is too short to be signed.
    fn place(&self, text: &[u8]) -> Option<Place> {
        Some(Place(self.keys.hash(u128::from_ne_bytes(*text.last_chunk::<TAIL>()?))))
    }

    /// Chooses by bits that a map looks at last.
    fn shard(&self, Place(hash): Place) -> &Shard {
        self.shards.of(hash >> 32)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ledger { lines, bytes, .. } = &*self.ledger();
        f.debug_struct("TokenCache").field("tokens", &lines.len()).field("bytes", bytes).finish_non_exhaustive()
    }
}

impl Shard {
    fn read(&self) -> RwLockReadGuard<'_, Entries> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Entries> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line for each entry, in no order. The entry knows the number of its line.
struct Ledger {
    lines: Vec<Line>,
    bytes: usize,
    dice: Dice,
    newcomers: Newcomers,
}

struct Line {
    place: Place,
    bytes: usize,
}

impl Ledger {
    fn append(&mut self, line: Line) -> usize {
        metrics::token_cached(line.bytes);
        self.bytes += line.bytes;
        self.lines.push(line);
        self.lines.len() - 1
    }

    fn replace(&mut self, number: usize, line: Line) {
        let Some(own) = self.lines.get_mut(number) else { return };
        self.bytes = self.bytes - own.bytes + line.bytes;
        metrics::cached_token_gone(own.bytes);
        metrics::token_cached(line.bytes);
        *own = line;
    }

    /// Takes a line out; the last one takes its place.
    fn strike(&mut self, number: usize) {
        let line = self.lines.swap_remove(number);
        self.bytes -= line.bytes;
        metrics::cached_token_gone(line.bytes);
    }

    fn place(&self, number: usize) -> Option<Place> {
        self.lines.get(number).map(|line| line.place)
    }

    fn any(&mut self) -> Option<usize> {
        (!self.lines.is_empty()).then(|| self.dice.below(self.lines.len()))
    }

    /// Returns a random line other than `number`. There must be at least two.
    fn any_but(&mut self, number: usize) -> usize {
        let other = self.dice.below(self.lines.len() - 1);
        other + usize::from(other >= number)
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.lines.iter().for_each(|line| metrics::cached_token_gone(line.bytes));
    }
}

/// A [`Place`] is a hash: its map has no need of another.
#[derive(Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    /// Never called: the one key is a `u64`.
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::{BuildHasher as _, BuildHasherDefault};
    use std::thread;

    use super::{AlreadyHashed, Keys, OVERHEAD, Place, TokenCache, VerifiedToken};
    use crate::watchdog::Watchdog;

    const MANY: usize = usize::MAX;

    fn token(number: usize) -> VerifiedToken {
        VerifiedToken::for_test_with_text(&format!("a.b.{number:0>40}"))
    }

    fn of(cache: &TokenCache) -> (usize, usize) {
        let ledger = cache.ledger();
        let entries: usize = cache.shards.iter().map(|shard| shard.read().len()).sum();
        let bytes: usize = ledger.lines.iter().map(|line| line.bytes).sum();
        assert_eq!((entries, bytes), (ledger.lines.len(), ledger.bytes), "the ledger has a line for each entry");
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
    fn a_token_is_found_by_its_whole_text_and_nothing_less() {
        let cache = TokenCache::new(10, MANY);
        let kept = token(1);
        cache.keep(&kept);
        assert!(cache.find(kept.text().as_bytes()).unwrap().is_same_as(&kept));
        let same_tail = kept.text().replacen('a', "A", 1);
        for other in
            [same_tail.as_str(), &kept.text()[1..], &format!("a{}", kept.text()), &**token(2).text(), "short", ""]
        {
            assert!(cache.find(other.as_bytes()).is_none(), "{other}");
        }
    }

    /// The share of look-ups that find their token, in percent, when this many tokens are shown in turn.
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
    fn of_tokens_that_are_shown_in_turn_most_stay_though_one_more_than_fits_is_shown() {
        let cache = TokenCache::new(1_000, MANY);
        let share = hits(&cache, 1_001);
        assert!(share >= 95, "{share} %");
        assert_eq!(of(&cache).0, 1_000);
        // At best two thirds of these could stay.
        let share = hits(&TokenCache::new(1_000, MANY), 1_500);
        assert!(share >= 30, "{share} %");
    }

    #[test]
    fn the_bound_on_bytes_keeps_most_tokens_too() {
        let each = token(0).size() + OVERHEAD;
        let cache = TokenCache::new(MANY, 1_000 * each);
        let share = hits(&cache, 1_001);
        assert!(share >= 95, "{share} %");
        assert_eq!(of(&cache), (1_000, 1_000 * each));
    }

    #[test]
    fn a_token_that_came_twice_is_there_whatever_it_evicts() {
        let cache = TokenCache::new(10, MANY);
        for number in 0..1_000 {
            cache.keep(&token(number));
            assert_eq!(has(&cache, number), number < 10, "{number}");
            cache.keep(&token(number));
            assert!(has(&cache, number), "{number}");
            assert_eq!(of(&cache).0, 10.min(number + 1));
        }
    }

    #[test]
    fn tokens_that_come_once_evict_nothing() {
        let each = token(0).size() + OVERHEAD;
        for cache in [TokenCache::new(10, MANY), TokenCache::new(MANY, 10 * each)] {
            (0..1_000).for_each(|number| cache.keep(&token(number)));
            assert!((0..10).all(|number| has(&cache, number)));
            assert_eq!(of(&cache), (10, 10 * each));
        }
    }

    #[test]
    fn a_long_token_evicts_no_more_than_it_needs_room_for() {
        let each = token(0).size() + OVERHEAD;
        let cache = TokenCache::new(MANY, 10 * each);
        (0..25).for_each(|number| cache.keep(&token(number)));
        assert_eq!(of(&cache), (10, 10 * each));

        let long = VerifiedToken::for_test_with_text(&"x".repeat(each));
        (0..2).for_each(|_| cache.keep(&long));
        assert!(cache.find(long.text().as_bytes()).is_some());
        let (tokens, bytes) = of(&cache);
        assert!((6..10).contains(&tokens) && bytes <= 10 * each, "{tokens} {bytes}");

        let too_long = VerifiedToken::for_test_with_text(&"y".repeat(10 * each));
        (0..2).for_each(|_| cache.keep(&too_long));
        assert!(cache.find(too_long.text().as_bytes()).is_none());
        assert_eq!(of(&cache), (tokens, bytes), "what would never fit drives out nothing");
    }

    #[test]
    fn a_token_that_comes_again_takes_no_second_place() {
        let cache = TokenCache::new(10, MANY);
        (0..5).for_each(|_| cache.keep(&token(1)));
        assert_eq!(of(&cache).0, 1);
        (2..11).for_each(|number| cache.keep(&token(number)));
        (0..5).for_each(|_| cache.keep(&token(1)));
        assert!((1..11).all(|number| has(&cache, number)), "it evicts nothing");
    }

    #[test]
    fn two_tokens_of_one_tail_are_never_taken_for_each_other() {
        let cache = TokenCache::new(10, MANY);
        let tail = "0123456789abcdef";
        let [one, other] = ["one", "other"].map(|head| VerifiedToken::for_test_with_text(&format!("{head}.{tail}")));
        cache.keep(&one);
        assert!(cache.find(other.text().as_bytes()).is_none());
        cache.keep(&other);
        assert!(cache.find(one.text().as_bytes()).is_none() && cache.find(other.text().as_bytes()).is_some());
        assert_eq!(of(&cache).0, 1);
    }

    #[test]
    fn what_is_forgotten_is_gone_and_leaves_room() {
        let cache = TokenCache::new(100, MANY);
        (0..100).for_each(|number| cache.keep(&token(number)));
        cache.forget(|token| token.text().ends_with('7'));
        assert_eq!(of(&cache).0, 90);
        assert!(!has(&cache, 7) && has(&cache, 8));
        (100..110).for_each(|number| cache.keep(&token(number)));
        assert!(has(&cache, 0), "ten had room");
    }

    /// Shows a token so often that it gets a copy, and returns that.
    fn copy(cache: &TokenCache, token: &VerifiedToken) -> VerifiedToken {
        (0..9).filter_map(|_| cache.find(token.text().as_bytes())).last().unwrap()
    }

    #[test]
    fn a_token_that_comes_often_is_copied_for_the_core_that_it_comes_to() {
        let cache = TokenCache::new(10, MANY);
        let kept = token(1);
        cache.keep(&kept);
        assert!((0..8).all(|_| cache.find(kept.text().as_bytes()).unwrap().shares_with(&kept)));
        let copied = cache.find(kept.text().as_bytes()).unwrap();
        assert!(!copied.shares_with(&kept) && copied.is_same_as(&kept));
        assert!(cache.find(kept.text().as_bytes()).unwrap().shares_with(&copied), "once");
        let same_tail = kept.text().replacen('a', "A", 1);
        assert!(cache.find(same_tail.as_bytes()).is_none(), "a copy, too, is compared to the letter");
    }

    #[test]
    fn tokens_that_come_in_turn_are_not_copied() {
        // Fixed keys: under others, one token in a thousand runs might have a slot to itself.
        let cache = TokenCache::with_keys(1_000, MANY, Keys(0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03));
        let tokens: Vec<_> = (0..1_000).map(token).inspect(|token| cache.keep(token)).collect();
        for _ in 0..100 {
            assert!(tokens.iter().all(|token| cache.find(token.text().as_bytes()).is_some()));
        }
        assert_eq!(cache.near.copies(), 0);
    }

    #[test]
    fn a_long_token_is_not_copied() {
        let cache = TokenCache::new(10, MANY);
        let kept = VerifiedToken::for_test_with_text(&"x".repeat(4_097));
        cache.keep(&kept);
        assert!(copy(&cache, &kept).shares_with(&kept));
    }

    #[test]
    fn a_token_that_comes_more_often_than_the_one_that_is_copied_takes_its_place() {
        let cache = TokenCache::new(1_000, MANY);
        let tokens: Vec<_> = (0..1_000).map(token).inspect(|token| cache.keep(token)).collect();
        for token in &tokens {
            assert!(!copy(&cache, token).shares_with(token));
        }
        assert_eq!(cache.near.copies(), 16, "all came to one core");
    }

    #[test]
    fn what_is_forgotten_has_no_copy_left() {
        let cache = TokenCache::new(10, MANY);
        let [one, other] = [token(1), token(2)];
        cache.keep(&one);
        cache.keep(&other);
        copy(&cache, &one);
        cache.forget(|token| token.text() == one.text());
        assert!(!has(&cache, 1) && has(&cache, 2));
    }

    #[test]
    fn threads_share_it_and_its_bounds_hold() {
        let cache = TokenCache::new(200, MANY);
        let work = |thread: usize| {
            for round in 0..2_000 {
                let number = (thread * 37 + round) % 400;
                match cache.find(token(number).text().as_bytes()) {
                    Some(found) => assert!(found.is(token(number).text().as_bytes())),
                    None => cache.keep(&token(number)),
                }
                if round % 500 == 499 {
                    cache.forget(|token| token.text().ends_with('3'));
                }
            }
        };
        thread::scope(|scope| (0..8).for_each(|thread| drop(scope.spawn(move || work(thread)))));
        assert!((1..=200).contains(&of(&cache).0));
        let newest = token(7_777);
        (0..2).for_each(|_| cache.keep(&newest));
        assert!(cache.find(newest.text().as_bytes()).is_some());
    }

    #[test]
    fn tokens_have_places_of_their_own_and_places_even_bits_whatever_the_keys_are() {
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
    fn a_place_is_hashed_once() {
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

    /// One whose end differs in many bits, as signatures do.
    fn token_of_random_tail(number: u64) -> VerifiedToken {
        VerifiedToken::for_test_with_text(&format!("a.b.{:0>20}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    #[test]
    fn a_long_token_that_evicts_several_is_kept_itself() {
        let _watchdog = Watchdog::start();
        let each = token(0).size() + OVERHEAD;
        for _ in 0..100 {
            let cache = TokenCache::new(MANY, 10 * each);
            (0..10).for_each(|number| cache.keep(&token(number)));
            let long = VerifiedToken::for_test_with_text(&"x".repeat(6 * each));
            (0..2).for_each(|_| cache.keep(&long));
            assert!(cache.find(long.text().as_bytes()).is_some());
            let (tokens, bytes) = of(&cache);
            assert!(tokens < 6 && bytes <= 10 * each, "{tokens} {bytes}");
        }
    }

    #[test]
    fn every_token_may_be_the_one_that_is_evicted() {
        let each = token(0).size() + OVERHEAD;
        for cache in [TokenCache::new(10, MANY), TokenCache::new(MANY, 10 * each)] {
            (0..10).for_each(|number| cache.keep(&token(number)));
            for number in 10..500 {
                (0..2).for_each(|_| cache.keep(&token(number)));
            }
            assert_eq!(of(&cache).0, 10);
            assert!((0..10).all(|number| !has(&cache, number)), "one of the first was never chosen in 490 times");
        }
    }

    #[test]
    fn its_debug_output_says_how_much_it_holds_and_shows_no_token() {
        let cache = TokenCache::new(10, MANY);
        cache.keep(&token(1));
        let shown = format!("{cache:?}");
        assert!(shown.contains("tokens: 1") && shown.contains("bytes: ") && !shown.contains("a.b."), "{shown}");
    }
}

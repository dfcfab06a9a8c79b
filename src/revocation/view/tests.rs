//! Tests of [`View`].

use super::{Bounds, Full, View};
use crate::client_id::ClientId;
use crate::clock::{Moment, SystemClock, UnixTime};
use crate::revocation::Named;
use crate::store::Revocation;

const BILLING: ClientId = ClientId::from_static("billing");
const OTHER: ClientId = ClientId::from_static("other");

fn view(tokens_per_client: usize, entries: usize) -> View {
    View::new(Bounds { tokens_per_client, entries })
}

/// Returns a time before the expiry of every entry in these tests.
fn now() -> Moment {
    Moment { wall: std::time::UNIX_EPOCH, ..Moment::now(&SystemClock) }
}

fn add(view: &View, revocation: &Revocation) -> Result<(), Full> {
    view.add(revocation, now())
}

fn holds(view: &View, revocation: &Revocation) -> bool {
    view.holds(revocation, now())
}

fn until(view: &View, client_id: &ClientId) -> Option<UnixTime> {
    view.issued_until(client_id).map(|until| until.second)
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_secs(seconds).unwrap()
}

fn token(id: &str, issued_at: u64, expires_at: u64) -> Revocation {
    Revocation::Token { token_id: id.to_owned(), client_id: BILLING, issued_at, expires_at }
}

fn client(client_id: ClientId, issued_until: u64, expires_at: u64) -> Revocation {
    Revocation::Client { client_id, issued_until, expires_at, replaces_tokens: false }
}

/// The entry that replaces those of many tokens of [`BILLING`].
fn coarse(issued_until: u64, expires_at: u64) -> Revocation {
    Revocation::Client { client_id: BILLING, issued_until, expires_at, replaces_tokens: true }
}

fn key(id: &str, expires_at: u64) -> Revocation {
    Revocation::Key { key_id: id.to_owned(), expires_at }
}

fn revokes(view: &View, client_id: &ClientId, token_id: &str, issued_at: u64) -> bool {
    view.revokes(Named { client_id, token_id, issued_at: at(issued_at), key_id: "k" })
}

#[test]
fn a_token_is_revoked_by_its_jti_its_client_or_its_key() {
    let view = view(10, 10);
    assert!(!revokes(&view, &BILLING, "a", 5));
    add(&view, &token("a", 5, 100)).unwrap();
    assert!(revokes(&view, &BILLING, "a", 5) && !revokes(&view, &BILLING, "b", 5) && !revokes(&view, &OTHER, "a", 5));
    add(&view, &client(OTHER, 7, 100)).unwrap();
    assert!(revokes(&view, &OTHER, "x", 7) && !revokes(&view, &OTHER, "x", 8) && !revokes(&view, &BILLING, "x", 7));
    assert_eq!((until(&view, &OTHER), until(&view, &BILLING)), (Some(at(7)), None));
    add(&view, &key("other", 100)).unwrap();
    assert!(!revokes(&view, &OTHER, "x", 8));
    add(&view, &key("k", 100)).unwrap();
    assert!(revokes(&view, &OTHER, "x", 8));
    assert_eq!(view.entries(), 4);
}

#[test]
fn an_entry_that_is_added_twice_is_kept_once_until_the_later_expiry() {
    let view = view(10, 10);
    for (id, expires_at) in [("a", 100), ("a", 100), ("b", 100), ("a", 200), ("a", 50)] {
        add(&view, &token(id, 5, expires_at)).unwrap();
    }
    for (until, expires_at) in [(3, 100), (2, 300), (3, 100)] {
        add(&view, &client(OTHER, until, expires_at)).unwrap();
    }
    assert_eq!(view.entries(), 3);
    view.purge(at(150));
    assert!(revokes(&view, &BILLING, "a", 5) && !revokes(&view, &BILLING, "b", 5) && revokes(&view, &OTHER, "x", 3));
}

#[test]
fn a_later_revocation_with_an_earlier_expiry_does_not_shorten_the_former_one() {
    let view = view(10, 10);
    add(&view, &client(BILLING, 5, 1_000)).unwrap();
    add(&view, &client(BILLING, 9, 100)).unwrap();
    view.purge(at(999));
    assert!(revokes(&view, &BILLING, "x", 5));
    add(&view, &key("k", 2_000)).unwrap();
    add(&view, &key("k", 1_500)).unwrap();
    add(&view, &token("a", 20, 2_000)).unwrap();
    add(&view, &token("a", 20, 1_500)).unwrap();
    view.purge(at(1_999));
    assert!(view.has_key("k"));
    view.purge(at(2_000));
    assert_eq!(view.entries(), 0);
}

#[test]
fn only_a_new_entry_changes_the_generation() {
    let view = view(10, 10);
    let before = view.generation();
    add(&view, &token("a", 5, 100)).unwrap();
    let after = view.generation();
    assert_ne!(before, after);
    add(&view, &token("a", 5, 100)).unwrap();
    assert_eq!(view.generation(), after);
}

#[test]
fn entries_are_removed_in_the_second_of_their_expiry_and_not_before() {
    let view = view(10, 10);
    for revocation in [token("a", 5, 100), client(OTHER, 7, 100), key("k", 100)] {
        add(&view, &revocation).unwrap();
    }
    view.purge(at(99));
    assert_eq!(view.entries(), 3);
    assert!(revokes(&view, &BILLING, "a", 5));
    view.purge(at(100));
    assert_eq!(view.entries(), 0);
    assert!(view.parts.iter().all(|part| part.read().unwrap().is_empty()));
    assert!(!revokes(&view, &BILLING, "a", 5) && !revokes(&view, &OTHER, "x", 7));
}

#[test]
fn too_many_revoked_tokens_of_a_client_revoke_all_up_to_the_most_recent() {
    let view = view(3, 100);
    for (id, issued_at) in [("a", 10), ("b", 30), ("c", 20)] {
        add(&view, &token(id, issued_at, 100)).unwrap();
    }
    assert_eq!(view.entries(), 3);
    assert!(!revokes(&view, &BILLING, "x", 5), "three tokens are held individually");
    add(&view, &token("d", 25, 90)).unwrap();
    assert_eq!((view.entries(), until(&view, &BILLING)), (1, Some(at(30))));
    assert!(revokes(&view, &BILLING, "x", 30) && !revokes(&view, &BILLING, "x", 31));
    add(&view, &token("e", 31, 100)).unwrap();
    assert!(revokes(&view, &BILLING, "e", 31) && !revokes(&view, &BILLING, "x", 31));
    view.purge(at(99));
    assert!(revokes(&view, &BILLING, "a", 10) && revokes(&view, &BILLING, "d", 25));
}

#[test]
fn the_order_of_revoked_tokens_does_not_change_the_entry_that_replaces_them() {
    let added_in = |order: [u64; 4]| {
        let view = view(3, 100);
        for time in order {
            add(&view, &token(&time.to_string(), time, 100 + time)).unwrap();
        }
        (view.entries(), until(&view, &BILLING))
    };
    assert_eq!(added_in([1, 2, 3, 4]), (1, Some(at(4))));
    assert_eq!(added_in([4, 3, 2, 1]), added_in([1, 2, 3, 4]));
}

#[test]
fn a_client_that_revokes_too_many_tokens_gets_one_entry_per_second() {
    let view = view(2, 100);
    for (id, issued_at) in [("a", 10), ("b", 10)] {
        assert_eq!(view.coarsen(token(id, issued_at, 100)), token(id, issued_at, 100));
        add(&view, &token(id, issued_at, 100)).unwrap();
    }
    assert_eq!(view.coarsen(token("c", 11, 100)), coarse(11, 100));
    add(&view, &coarse(11, 100)).unwrap();
    assert_eq!(view.entries(), 1);
    assert!(holds(&view, &token("d", 11, 100)), "no further write is needed");
    assert_eq!(view.coarsen(token("e", 12, 100)), coarse(12, 100));
}

#[test]
fn a_client_gets_one_entry_per_second_until_it_revokes_fewer_than_ten_tokens_between_two_purges() {
    let view = view(2, 100);
    let revoke = |ids: std::ops::Range<u64>| {
        for number in ids {
            add(&view, &token(&number.to_string(), number, 100)).unwrap();
        }
        view.purge(at(1));
    };
    let is_coarsened = || view.coarsen(token("x", 50, 100)) == coarse(50, 100);
    // Three tokens cause one entry for all of them, which counts, too.
    for (ids, expected) in [(10..19, true), (20..29, true), (30..31, false), (40..49, true), (50..51, false)] {
        revoke(ids.clone());
        assert_eq!(is_coarsened(), expected, "{ids:?}");
    }
}

#[test]
fn a_revoked_token_that_has_expired_does_not_count_against_the_limit() {
    let wall = std::time::UNIX_EPOCH + std::time::Duration::from_secs(50);
    let learned = Moment { wall, ..now() };
    let entries = |first_expires_at| {
        let view = view(2, 100);
        for (id, expires_at) in [("a", first_expires_at), ("b", 100), ("c", 100)] {
            view.add(&token(id, 10, expires_at), learned).unwrap();
        }
        view.entries()
    };
    assert_eq!([50, 51].map(entries), [3, 1]);
}

#[test]
fn a_client_has_at_most_ten_times_its_limit_of_tokens_even_if_all_have_expired() {
    let wall = std::time::UNIX_EPOCH + std::time::Duration::from_secs(50);
    let view = view(2, 100);
    for number in 0..20_u32 {
        view.add(&token(&number.to_string(), 10, 20), Moment { wall, ..now() }).unwrap();
    }
    assert_eq!(view.entries(), 20);
    view.add(&token("20", 10, 20), Moment { wall, ..now() }).unwrap();
    assert_eq!(view.entries(), 1);
}

#[test]
fn many_revoked_tokens_are_no_revocation_of_their_client_which_is_recorded_even_if_it_revokes_no_further_token() {
    let view = view(2, 100);
    for id in ["a", "b", "c"] {
        add(&view, &token(id, 10, 100)).unwrap();
    }
    assert_eq!((view.entries(), until(&view, &BILLING)), (1, Some(at(10))));
    add(&view, &coarse(20, 100)).unwrap();
    assert!(!view.revokes_client(&BILLING));
    assert!(!holds(&view, &client(BILLING, 20, 100)) && holds(&view, &coarse(20, 100)));
    add(&view, &client(BILLING, 20, 100)).unwrap();
    assert!(view.revokes_client(&BILLING) && holds(&view, &client(BILLING, 20, 100)));
    // A later entry for tokens does not undo it, neither here nor in a store to which the view is written again.
    add(&view, &coarse(30, 200)).unwrap();
    assert!(view.revokes_client(&BILLING));
    let written: Vec<_> = (0..).map_while(|part| view.part_entries(part)).flatten().collect();
    assert_eq!(written, [client(BILLING, 30, 200)]);
}

#[test]
fn tokens_covered_by_the_revocation_of_their_client_are_removed_unless_they_expire_later() {
    let view = view(10, 100);
    for (id, issued_at, expires_at) in [("a", 1, 50), ("b", 2, 90), ("c", 9, 50)] {
        add(&view, &token(id, issued_at, expires_at)).unwrap();
    }
    add(&view, &client(BILLING, 5, 60)).unwrap();
    assert_eq!(view.entries(), 3, "the revocation of the client, b and c");
    view.purge(at(60));
    assert!(revokes(&view, &BILLING, "b", 2) && !revokes(&view, &BILLING, "a", 1));
}

#[test]
fn a_full_view_rejects_new_entries_and_keeps_the_old_ones() {
    let view = view(10, 2);
    add(&view, &token("a", 5, 100)).unwrap();
    add(&view, &key("k2", 100)).unwrap();
    for more in [token("b", 5, 100), client(OTHER, 5, 100), key("k3", 100)] {
        assert_eq!(add(&view, &more), Err(Full));
    }
    assert_eq!(add(&view, &token("a", 5, 100)), Ok(()), "the view has this entry already");
    assert!(revokes(&view, &BILLING, "a", 5) && view.entries() == 2);
    view.purge(at(100));
    assert_eq!(add(&view, &token("b", 5, 200)), Ok(()));
}

#[test]
fn a_full_view_accepts_another_revocation_of_a_client_that_it_has() {
    let view = view(10, 1);
    add(&view, &client(BILLING, 5, 100)).unwrap();
    for (until, expires_at) in [(4, 100), (6, 100), (6, 200)] {
        assert_eq!(add(&view, &client(BILLING, until, expires_at)), Ok(()));
    }
    assert_eq!((view.entries(), revokes(&view, &BILLING, "x", 6)), (1, true));
    assert_eq!(add(&view, &client(OTHER, 6, 100)), Err(Full));
}

#[test]
fn the_entries_of_all_parts_make_up_an_equal_view() {
    let one = view(10, 100);
    for revocation in [token("a", 8, 50), token("b", 9, 90), client(BILLING, 5, 60), client(OTHER, 7, 80), key("k", 70)]
    {
        add(&one, &revocation).unwrap();
    }
    let entries: Vec<Revocation> = (0..).map_while(|part| one.part_entries(part)).flatten().collect();
    assert_eq!(entries.len(), 5);
    let other = view(10, 100);
    for revocation in &entries {
        add(&other, revocation).unwrap();
    }
    assert!(entries.iter().all(|revocation| holds(&one, revocation) && holds(&other, revocation)));
    assert_eq!(one.entries(), other.entries());
}

#[test]
fn a_full_view_accepts_a_revocation_of_a_client_that_replaces_its_tokens() {
    let view = view(10, 3);
    for (id, issued_at) in [("a", 5), ("b", 9), ("c", 20)] {
        add(&view, &token(id, issued_at, 100)).unwrap();
    }
    for (until, expires_at) in [(4, 1_000), (20, 99)] {
        assert_eq!(add(&view, &client(BILLING, until, expires_at)), Err(Full), "it replaces no token");
    }
    assert_eq!(add(&view, &client(BILLING, 9, 1_000)), Ok(()));
    assert_eq!((view.entries(), revokes(&view, &BILLING, "x", 9), revokes(&view, &BILLING, "c", 20)), (2, true, true));
}

#[test]
fn state_that_depends_on_a_revocation_is_removed_with_it() {
    let view = view(10, 10);
    add(&view, &client(BILLING, 5, 100)).unwrap();
    add(&view, &client(BILLING, 4, 100)).unwrap();
    assert!(holds(&view, &client(BILLING, 4, 100)) && !holds(&view, &client(BILLING, 4, 101)));
    view.purge(at(100));
    assert_eq!(view.entries(), 0);
    assert!(view.parts.iter().all(|part| part.read().unwrap().is_empty()));
}

#[test]
fn the_view_holds_the_revocation_of_a_key_up_to_its_expiry_and_not_longer() {
    let view = view(10, 10);
    assert!(!holds(&view, &key("k", 100)));
    add(&view, &key("k", 100)).unwrap();
    assert!(holds(&view, &key("k", 99)) && holds(&view, &key("k", 100)));
    assert!(!holds(&view, &key("k", 101)) && !holds(&view, &key("other", 100)));
}

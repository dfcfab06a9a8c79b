//! Tests of the fair queue: which request is served next, and which is refused.

use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::select_all;
use futures_util::task::Poll;
use futures_util::{FutureExt as _, poll};

use super::{Busy, Caller, FairQueue, Turn};
use crate::client_id::ClientId;
use crate::clock::ManualClock;
use crate::deadline::in_time;

static FLOOD: Caller = Caller { site: None, network: None, id: ClientId::from_static("flood") };
static OTHER: Caller = Caller { site: None, network: None, id: ClientId::from_static("other") };

fn queue(at_once: usize, queued: usize) -> FairQueue {
    queue_and_clock(at_once, queued).0
}

fn queue_and_clock(at_once: usize, queued: usize) -> (FairQueue, ManualClock) {
    let clock = ManualClock::at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_200));
    (FairQueue::new(at_once, queued, Arc::new(clock.clone())), clock)
}

fn caller(network: u8, id: &str) -> Caller {
    Caller::new(Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, network))), id.parse().unwrap())
}

type Waiting<'a> = Pin<Box<dyn Future<Output = Result<Turn, Busy>> + 'a>>;

/// Joins the queue, and returns the turn if there is one at once.
async fn ask<'a>(queue: &'a FairQueue, caller: &'a Caller) -> (Waiting<'a>, Option<Result<Turn, Busy>>) {
    let mut waiting: Waiting<'a> = Box::pin(queue.turn(caller));
    let outcome = match poll!(&mut waiting) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    };
    (waiting, outcome)
}

async fn line_up<'a>(queue: &'a FairQueue, caller: &'a Caller, requests: usize) -> Vec<Waiting<'a>> {
    let mut waiting = Vec::new();
    for _ in 0..requests {
        let (request, outcome) = ask(queue, caller).await;
        assert!(outcome.is_none());
        waiting.push(request);
    }
    waiting
}

async fn is_turned_away(waiting: &mut Waiting<'_>) -> bool {
    matches!(poll!(waiting), Poll::Ready(Err(Busy)))
}

#[test]
fn a_client_that_arrives_during_a_flood_is_served_next() {
    in_time(async {
        let queue = queue(1, 100);
        let first = queue.turn(&FLOOD).await.unwrap();
        let mut flood = line_up(&queue, &FLOOD, 90).await;
        let other = line_up(&queue, &OTHER, 1).await.remove(0);
        drop(first);
        let other = other.await.expect("it waits only for the running check");
        assert!(poll!(&mut flood[0]).is_pending());
        drop(other);
        assert!(poll!(&mut flood[0]).is_ready());
    });
}

#[test]
fn a_client_with_repeated_requests_during_a_flood_gets_every_second_turn() {
    in_time(async {
        let queue = queue(1, 100);
        let mut turn = queue.turn(&FLOOD).await.unwrap();
        let mut flood = line_up(&queue, &FLOOD, 90).await.into_iter();
        for _ in 0..40 {
            let other = line_up(&queue, &OTHER, 1).await.remove(0);
            drop(turn);
            drop(other.await.unwrap());
            turn = flood.next().unwrap().await.unwrap();
        }
    });
}

#[test]
fn one_client_never_takes_all_places_if_there_are_several() {
    in_time(async {
        let queue = queue(3, 100);
        let held = [queue.turn(&FLOOD).await.unwrap(), queue.turn(&FLOOD).await.unwrap()];
        let mut flood = line_up(&queue, &FLOOD, 1).await;
        let other = ask(&queue, &OTHER).await.1.expect("a place at once").unwrap();
        drop(other);
        assert!(poll!(&mut flood[0]).is_pending());
        drop(held);
        assert!(poll!(&mut flood[0]).is_ready());
    });
}

#[test]
fn when_the_queue_is_full_the_last_request_of_the_longest_line_is_refused() {
    in_time(async {
        let queue = queue(1, 4);
        let _held = queue.turn(&FLOOD).await.unwrap();
        let mut flood = line_up(&queue, &FLOOD, 4).await;
        assert!(matches!(ask(&queue, &FLOOD).await.1, Some(Err(Busy))), "the new request, if its own line is longest");
        let mut other = line_up(&queue, &OTHER, 2).await;
        assert!(is_turned_away(&mut flood[3]).await && is_turned_away(&mut flood[2]).await);
        assert!(matches!(ask(&queue, &OTHER).await.1, Some(Err(Busy))), "no line has more than its share");
        let third = Caller { site: None, network: None, id: ClientId::from_static("third") };
        let (_third, outcome) = ask(&queue, &third).await;
        assert!(outcome.is_none());
        let away = [is_turned_away(&mut flood[1]).await, is_turned_away(&mut other[1]).await];
        assert_eq!(away.iter().filter(|away| **away).count(), 1);
        assert!(poll!(&mut flood[0]).is_pending() && poll!(&mut other[0]).is_pending());
    });
}

#[test]
fn a_caller_that_hangs_up_leaves_the_queue_and_its_turn_goes_to_the_next() {
    in_time(async {
        let queue = queue(1, 3);
        let first = queue.turn(&FLOOD).await.unwrap();
        drop(line_up(&queue, &FLOOD, 3).await);
        let mut waiting = line_up(&queue, &OTHER, 3).await;
        drop(first);
        // The first one has got its turn, and hangs up before it is polled.
        drop(waiting.remove(0));
        drop(waiting.remove(0).await.unwrap());
        drop(waiting.remove(0).await.unwrap());
        let state = queue.state();
        assert!(state.running.is_empty() && state.lines.is_empty());
    });
}

#[test]
fn many_clients_get_equally_many_turns() {
    in_time(async {
        let queue = queue(1, 1_000);
        let ids: Vec<Caller> = (0..10).map(|number| caller(1, &format!("client-{number}"))).collect();
        let first = queue.turn(&FLOOD).await.unwrap();
        let mut waiting = Vec::new();
        // The first client has ten waiting requests before the last one has any.
        for id in &ids {
            waiting.push(line_up(&queue, id, 10).await.into_iter());
        }
        drop(first);
        for _ in 0..10 {
            for line in &mut waiting {
                drop(line.next().unwrap().await.unwrap());
            }
        }
    });
}

#[test]
fn during_a_flood_against_many_ids_a_caller_at_another_address_is_served_next_under_any_id() {
    in_time(async {
        let queue = queue(1, 8);
        let ids: Vec<Caller> = (0..12).map(|number| caller(1, &format!("client-{number}"))).collect();
        let first = queue.turn(&ids[0]).await.unwrap();
        let mut flood = Vec::new();
        for id in ids.iter().cycle().take(100) {
            let (caller, outcome) = ask(&queue, id).await;
            flood.extend(outcome.is_none().then_some(caller));
        }
        // With an id of the flood, and with another one.
        let owners = [caller(2, "client-0"), caller(3, "unrelated")];
        let mut waiting = Vec::new();
        for owner in &owners {
            waiting.extend(line_up(&queue, owner, 1).await);
        }
        drop(first);
        for owner in waiting {
            drop(owner.await.expect("a place in the queue and the next turn"));
        }
        assert!(select_all(&mut flood).now_or_never().is_some(), "then the flood is served");
    });
}

#[test]
fn a_network_with_many_ids_gets_only_every_second_turn() {
    in_time(async {
        let queue = queue(1, 1_000);
        let (one, two) = ([caller(1, "a"), caller(1, "b"), caller(1, "c")], caller(2, "a"));
        let first = queue.turn(&one[0]).await.unwrap();
        let mut flood = Vec::new();
        for id in &one {
            flood.push(line_up(&queue, id, 10).await.into_iter());
        }
        let mut other = line_up(&queue, &two, 10).await.into_iter();
        drop(first);
        for number in 0..10 {
            drop(other.next().unwrap().await.unwrap());
            // The first was served before the others lined up.
            drop(flood[(number + 1) % 3].next().unwrap().await.unwrap());
        }
    });
}

#[test]
fn networks_with_recent_wrong_secrets_are_served_last_and_refused_first() {
    in_time(async {
        let (queue, clock) = queue_and_clock(1, 4);
        let attackers: Vec<Caller> = (1..=4).map(|network| caller(network, "billing")).collect();
        let owner = caller(9, "billing");
        for attacker in &attackers {
            for _ in 0..10 {
                queue.turn(attacker).await.unwrap().refuse();
            }
        }
        // As many as may wait, each from its own network.
        let first = queue.turn(&attackers[0]).await.unwrap();
        let mut flood = Vec::new();
        for attacker in &attackers {
            flood.extend(line_up(&queue, attacker, 1).await);
        }
        let mut owners = line_up(&queue, &owner, 4).await;
        for attacker in &mut flood {
            assert!(is_turned_away(attacker).await);
        }
        assert!(matches!(ask(&queue, &attackers[1]).await.1, Some(Err(Busy))));
        drop(owners.split_off(2));
        flood = line_up(&queue, &attackers[1], 2).await;
        drop(first);
        for owner in owners {
            assert!(poll!(&mut flood[0]).is_pending(), "the owner is served first although it has more requests");
            drop(owner.await.unwrap());
        }
        for attacker in flood {
            drop(attacker.await.unwrap());
        }
        clock.advance(Duration::from_secs(120));
        let first = queue.turn(&owner).await.unwrap();
        let mut owners = line_up(&queue, &owner, 2).await;
        let other = line_up(&queue, &attackers[0], 1).await.remove(0);
        drop(first);
        drop(other.await.expect("after two minutes it is treated like any other network"));
        assert!(poll!(&mut owners[0]).is_ready());
    });
}

#[test]
fn in_a_shared_network_a_client_with_recent_wrong_secrets_is_served_after_the_others() {
    in_time(async {
        let queue = queue(1, 3);
        let (guessed, other) = (["a", "b", "c"].map(|id| caller(1, id)), caller(1, "other"));
        for caller in &guessed {
            for _ in 0..10 {
                queue.turn(caller).await.unwrap().refuse();
            }
        }
        let first = queue.turn(&guessed[0]).await.unwrap();
        let mut flood = Vec::new();
        for caller in &guessed {
            flood.extend(line_up(&queue, caller, 1).await);
        }
        let mut others = line_up(&queue, &other, 2).await.into_iter();
        assert!(is_turned_away(&mut flood[1]).await && is_turned_away(&mut flood[2]).await);
        drop(first);
        for _ in 0..2 {
            drop(others.next().unwrap().await.unwrap());
        }
        assert!(poll!(&mut flood[0]).is_ready());
    });
}

#[test]
fn a_refusal_by_the_full_queue_does_not_count_as_a_wrong_secret() {
    in_time(async {
        let queue = queue(1, 2);
        let (stranger, owner) = (caller(1, "billing"), caller(9, "billing"));
        let _first = queue.turn(&stranger).await.unwrap();
        let _waiting = line_up(&queue, &owner, 2).await;
        for _ in 0..100 {
            assert!(matches!(ask(&queue, &owner).await.1, Some(Err(Busy))));
        }
        let state = queue.state();
        assert_eq!(state.refused.networks.count(&owner.network), 0);
        assert_eq!(state.refused.callers.count(&owner), 0);
    });
}

/// Returns a client id as used at an address in the IPv6 /48 with the number `site`.
fn of_site(site: u16, network: u16, id: &str) -> Caller {
    let address = std::net::Ipv6Addr::new(0x2001, 0xdb8, site, network, 0, 0, 0, 1);
    Caller::new(Some(address.into()), id.parse().unwrap())
}

#[test]
fn an_owner_in_the_same_site_as_an_attacker_is_served_first() {
    in_time(async {
        let queue = queue(1, 4);
        let (attacker, owner, other) = (of_site(1, 1, "billing"), of_site(1, 2, "billing"), of_site(2, 1, "unrelated"));
        for _ in 0..100 {
            queue.turn(&attacker).await.unwrap().refuse();
        }
        let first = queue.turn(&attacker).await.unwrap();
        let mut flood = line_up(&queue, &attacker, 3).await;
        let owner = line_up(&queue, &owner, 1).await.remove(0);
        let others = line_up(&queue, &other, 2).await;
        assert!(is_turned_away(&mut flood[2]).await && is_turned_away(&mut flood[1]).await);
        drop(first);
        // The site of the attacker was served last. It is no flood, so it has the second turn.
        let mut others = others.into_iter();
        drop(others.next().unwrap().await.unwrap());
        drop(owner.await.expect("the owner's turn comes before the attacker's"));
        drop(others.next().unwrap().await.unwrap());
        drop(flood.remove(0).await.unwrap());
    });
}

#[test]
fn an_attacker_with_a_whole_site_does_not_delay_other_sites() {
    in_time(async {
        let queue = queue(1, 4);
        let attackers: Vec<Caller> = (0..30).map(|network| of_site(1, network, "billing")).collect();
        for attacker in &attackers {
            queue.turn(attacker).await.unwrap().refuse();
        }
        let owner = of_site(2, 1, "billing");
        let first = queue.turn(&attackers[0]).await.unwrap();
        let mut flood = Vec::new();
        for attacker in &attackers[1..5] {
            flood.extend(line_up(&queue, attacker, 1).await);
        }
        let owners = line_up(&queue, &owner, 2).await;
        assert!(matches!(ask(&queue, &attackers[6]).await.1, Some(Err(Busy))));
        drop(first);
        for owner in owners {
            assert!(poll!(&mut flood[0]).is_pending());
            drop(owner.await.unwrap());
        }
        assert!(poll!(&mut flood[0]).is_ready());
    });
}

#[test]
fn among_networks_with_equally_many_requests_the_one_with_more_wrong_secrets_is_refused() {
    in_time(async {
        let queue = queue(1, 2);
        let (flood, owner) = ([caller(1, "billing"), caller(2, "billing")], caller(3, "billing"));
        queue.turn(&flood[1]).await.unwrap().refuse();
        let _first = queue.turn(&flood[0]).await.unwrap();
        let mut one = line_up(&queue, &flood[0], 1).await;
        let mut two = line_up(&queue, &flood[1], 1).await;
        let mut owner = line_up(&queue, &owner, 1).await;
        assert!(is_turned_away(&mut two[0]).await);
        assert!(poll!(&mut one[0]).is_pending() && poll!(&mut owner[0]).is_pending());
    });
}

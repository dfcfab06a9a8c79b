//! Whose turn it is for a slow check: a bounded number at once, a bounded number that wait, shared fairly between the
//! networks of the callers, and within a network between client ids.
//!
//! 1. The networks that wait take turns, and within each network the ids that wait there, however many callers they have;
//!    the network and the id that were just served go last.
//! 2. One id at one network never has all of several places at once, so that the caller of another finds one free.
//! 3. When more wait than may, the last of the longest line of the network with the most callers has to come back later, be
//!    it the newcomer or not. Of several with as many, it is the one that was refused more often.
//! 4. A network that was refused [`FLOOD`] times of late, since its secrets were wrong or since it had several callers, is
//!    served after all others and turned away before them. The same holds for an id among those of its network. So an
//!    outsider that guesses at secrets delays its own network, and not the owner of the secret at another one.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::refusals::Refusals;
use crate::client_id::ClientId;
use crate::clock::Clock;

/// From so many refusals on in this minute and the last one, others come first. A person who mistypes a secret stays below.
const FLOOD: u32 = 10;

/// Addresses that are counted as one caller; all callers without a known address share one.
pub(super) type Network = Option<IpAddr>;

/// A client id, as shown by the callers of one network.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pair {
    pub(super) network: Network,
    pub(super) id: ClientId,
}

/// A clone hands out the same turns.
#[derive(Clone)]
pub(super) struct Turns {
    at_once: usize,
    queued: usize,
    state: Arc<Mutex<State>>,
}

struct State {
    /// Whose turn it is, once for each.
    running: Vec<Pair>,
    /// Those that wait; none is empty, and no pair has two. The networks take turns in the order of their first lines.
    lines: VecDeque<Line>,
    refused_networks: Refusals<Network>,
    refused_pairs: Refusals<Pair>,
}

struct Line {
    pair: Pair,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

/// Leave to do one slow check; the next one's turn comes when it is dropped.
#[must_use]
pub(super) struct Turn {
    turns: Turns,
    pair: Pair,
}

/// There are too many.
#[derive(Debug)]
pub(super) struct Busy;

type Granted = Vec<(oneshot::Sender<Turn>, Turn)>;

impl Turns {
    pub(super) fn new(at_once: usize, queued: usize, clock: Arc<dyn Clock>) -> Self {
        let state = State {
            running: Vec::new(),
            lines: VecDeque::new(),
            refused_networks: Refusals::new(clock.clone()),
            refused_pairs: Refusals::new(clock),
        };
        Self { at_once, queued, state: Arc::new(Mutex::new(state)) }
    }

    /// Waits for a turn. Whoever stops waiting leaves the line.
    pub(super) async fn turn(&self, pair: &Pair) -> Result<Turn, Busy> {
        self.line_up(pair).await.map_err(|_| Busy)
    }

    fn line_up(&self, pair: &Pair) -> oneshot::Receiver<Turn> {
        let (waiter, turn) = oneshot::channel();
        let mut state = self.state();
        state.join(pair, waiter);
        let granted = self.grant(&mut state);
        state.turn_away(self.queued);
        drop(state);
        hand_out(granted);
        turn
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.refused_networks.expire();
        state.refused_pairs.expire();
        state
    }

    /// Fills the free places.
    fn grant(&self, state: &mut State) -> Granted {
        let mut granted = Vec::new();
        while state.running.len() < self.at_once
            && let Some((pair, caller)) = state.next(self.at_once.saturating_sub(1).max(1))
        {
            state.running.push(pair.clone());
            granted.push((caller, Turn { turns: self.clone(), pair }));
        }
        granted
    }
}

impl State {
    fn join(&mut self, pair: &Pair, caller: oneshot::Sender<Turn>) {
        match self.lines.iter_mut().find(|line| line.pair == *pair) {
            Some(line) => line.waiting.push_back(caller),
            None => self.lines.push_back(Line { pair: pair.clone(), waiting: VecDeque::from([caller]) }),
        }
    }

    /// The first caller of the line that is next and whose pair has fewer than `most` places.
    fn next(&mut self, most: usize) -> Option<(Pair, oneshot::Sender<Turn>)> {
        self.let_leave();
        let has_less = |pair: &Pair| self.running.iter().filter(|running| *running == pair).count() < most;
        let lines = || self.lines.iter().enumerate().filter(|(_, line)| has_less(&line.pair));
        // Of several with the same key, the first is taken.
        let (_, first) = lines().min_by_key(|(_, line)| self.refused_networks.count(&line.pair.network) >= FLOOD)?;
        let in_network = lines().filter(|(_, line)| line.pair.network == first.pair.network);
        let (at, _) = in_network.min_by_key(|(_, line)| self.refused_pairs.count(&line.pair) >= FLOOD)?;
        let line = self.lines.get_mut(at)?;
        let (pair, caller) = (line.pair.clone(), line.waiting.pop_front()?);
        self.forget_empty_lines();
        self.put_last(&pair);
        Some((pair, caller))
    }

    fn waiting(&self) -> usize {
        self.lines.iter().map(|line| line.waiting.len()).sum()
    }

    /// Forgets those who stopped waiting.
    fn let_leave(&mut self) {
        for line in &mut self.lines {
            line.waiting.retain(|caller| !caller.is_closed());
        }
        self.forget_empty_lines();
    }

    fn forget_empty_lines(&mut self) {
        self.lines.retain(|line| !line.waiting.is_empty());
    }

    /// Puts the network of the pair behind the others, and the pair behind those of its network.
    fn put_last(&mut self, pair: &Pair) {
        let lines = self.lines.make_contiguous();
        lines.sort_by_key(|line| (line.pair.network == pair.network, line.pair == *pair));
    }

    /// Turns callers away while more wait than may.
    fn turn_away(&mut self, queued: usize) {
        if self.waiting() > queued {
            self.let_leave();
        }
        while self.waiting() > queued {
            let Some(line) = self.first_to_leave().and_then(|at| self.lines.get_mut(at)) else { return };
            line.waiting.pop_back();
            let pair = line.pair.clone();
            self.forget_empty_lines();
            // The only caller of a network did no more than others: had it come earlier, it would wait.
            if self.lines.iter().any(|line| line.pair.network == pair.network) {
                self.refuse(&pair);
            }
        }
    }

    /// The line whose last caller is turned away first; of several that are alike, the one that came later.
    fn first_to_leave(&self) -> Option<usize> {
        // Of each network: its place in the order, and how many wait there.
        let mut networks = HashMap::<Network, (usize, usize)>::new();
        for (at, line) in self.lines.iter().enumerate() {
            networks.entry(line.pair.network).or_insert((at, 0)).1 += line.waiting.len();
        }
        let weighed = networks.iter().map(|(network, (place, waiting))| {
            (weight(self.refused_networks.count(network), *waiting), *place, network)
        });
        let (.., network) = weighed.max_by_key(|(weight, place, _)| (*weight, *place))?;
        let lines = self.lines.iter().enumerate().filter(|(_, line)| line.pair.network == *network);
        let line = lines.max_by_key(|(_, line)| weight(self.refused_pairs.count(&line.pair), line.waiting.len()));
        line.map(|(at, _)| at)
    }

    fn refuse(&mut self, pair: &Pair) {
        self.refused_networks.add(pair.network);
        self.refused_pairs.add(pair.clone());
    }

    fn release(&mut self, pair: &Pair) {
        if let Some(at) = self.running.iter().position(|running| running == pair) {
            self.running.swap_remove(at);
        }
        self.put_last(pair);
    }
}

/// The network, or the line, with the greater weight is turned away first.
fn weight(refused: u32, waiting: usize) -> (bool, usize, u32) {
    (refused >= FLOOD, waiting, refused)
}

/// Not while the state is locked: a turn that finds its caller gone is dropped, which locks it.
fn hand_out(granted: Granted) {
    for (caller, turn) in granted {
        drop(caller.send(turn));
    }
}

impl Turn {
    /// The secret was wrong.
    pub(super) fn refuse(&self) {
        self.turns.state().refuse(&self.pair);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.turns.state();
        state.release(&self.pair);
        let granted = self.turns.grant(&mut state);
        drop(state);
        hand_out(granted);
    }
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turns").field("at_once", &self.at_once).field("queued", &self.queued).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::pin::Pin;
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use futures_util::future::select_all;
    use futures_util::task::Poll;
    use futures_util::{FutureExt as _, poll};

    use super::{Busy, Pair, Turn, Turns};
    use crate::client_id::ClientId;
    use crate::clock::ManualClock;
    use crate::deadline::in_time;

    static FLOOD: Pair = Pair { network: None, id: ClientId::from_static("flood") };
    static OTHER: Pair = Pair { network: None, id: ClientId::from_static("other") };

    fn turns(at_once: usize, queued: usize) -> Turns {
        turns_and_clock(at_once, queued).0
    }

    fn turns_and_clock(at_once: usize, queued: usize) -> (Turns, ManualClock) {
        let clock = ManualClock::at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_200));
        (Turns::new(at_once, queued, Arc::new(clock.clone())), clock)
    }

    fn pair(network: u8, id: &str) -> Pair {
        Pair { network: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, network))), id: id.parse().unwrap() }
    }

    type Waiting<'a> = Pin<Box<dyn Future<Output = Result<Turn, Busy>> + 'a>>;

    /// Gets into line, and perhaps a turn.
    async fn ask<'a>(turns: &'a Turns, pair: &'a Pair) -> (Waiting<'a>, Option<Result<Turn, Busy>>) {
        let mut waiting: Waiting<'a> = Box::pin(turns.turn(pair));
        let outcome = match poll!(&mut waiting) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        };
        (waiting, outcome)
    }

    async fn line_up<'a>(turns: &'a Turns, pair: &'a Pair, callers: usize) -> Vec<Waiting<'a>> {
        let mut waiting = Vec::new();
        for _ in 0..callers {
            let (caller, outcome) = ask(turns, pair).await;
            assert!(outcome.is_none());
            waiting.push(caller);
        }
        waiting
    }

    async fn is_turned_away(waiting: &mut Waiting<'_>) -> bool {
        matches!(poll!(waiting), Poll::Ready(Err(Busy)))
    }

    #[test]
    fn another_client_that_asks_during_a_flood_is_next() {
        in_time(async {
            let turns = turns(1, 100);
            let first = turns.turn(&FLOOD).await.unwrap();
            let mut flood = line_up(&turns, &FLOOD, 90).await;
            let other = line_up(&turns, &OTHER, 1).await.remove(0);
            drop(first);
            let other = other.await.expect("the one check under way is all that it waited for");
            assert!(poll!(&mut flood[0]).is_pending());
            drop(other);
            assert!(poll!(&mut flood[0]).is_ready());
        });
    }

    #[test]
    fn who_asks_again_and_again_during_a_flood_gets_every_second_turn() {
        in_time(async {
            let turns = turns(1, 100);
            let mut turn = turns.turn(&FLOOD).await.unwrap();
            let mut flood = line_up(&turns, &FLOOD, 90).await.into_iter();
            for _ in 0..40 {
                let other = line_up(&turns, &OTHER, 1).await.remove(0);
                drop(turn);
                drop(other.await.unwrap());
                turn = flood.next().unwrap().await.unwrap();
            }
        });
    }

    #[test]
    fn one_client_leaves_a_place_free_where_there_are_several() {
        in_time(async {
            let turns = turns(3, 100);
            let held = [turns.turn(&FLOOD).await.unwrap(), turns.turn(&FLOOD).await.unwrap()];
            let mut flood = line_up(&turns, &FLOOD, 1).await;
            let other = ask(&turns, &OTHER).await.1.expect("a place at once").unwrap();
            drop(other);
            assert!(poll!(&mut flood[0]).is_pending());
            drop(held);
            assert!(poll!(&mut flood[0]).is_ready());
        });
    }

    #[test]
    fn beyond_the_bound_the_last_of_the_longest_line_is_turned_away() {
        in_time(async {
            let turns = turns(1, 4);
            let _held = turns.turn(&FLOOD).await.unwrap();
            let mut flood = line_up(&turns, &FLOOD, 4).await;
            assert!(
                matches!(ask(&turns, &FLOOD).await.1, Some(Err(Busy))),
                "the newcomer, where its own line is longest"
            );
            let mut other = line_up(&turns, &OTHER, 2).await;
            assert!(is_turned_away(&mut flood[3]).await && is_turned_away(&mut flood[2]).await);
            assert!(matches!(ask(&turns, &OTHER).await.1, Some(Err(Busy))), "and no line has more than its share");
            let third = Pair { network: None, id: ClientId::from_static("third") };
            let (_third, outcome) = ask(&turns, &third).await;
            assert!(outcome.is_none());
            let away = [is_turned_away(&mut flood[1]).await, is_turned_away(&mut other[1]).await];
            assert_eq!(away.iter().filter(|away| **away).count(), 1);
            assert!(poll!(&mut flood[0]).is_pending() && poll!(&mut other[0]).is_pending());
        });
    }

    #[test]
    fn a_caller_that_hangs_up_leaves_the_line_and_its_turn_goes_to_the_next() {
        in_time(async {
            let turns = turns(1, 3);
            let first = turns.turn(&FLOOD).await.unwrap();
            drop(line_up(&turns, &FLOOD, 3).await);
            let mut waiting = line_up(&turns, &OTHER, 3).await;
            drop(first);
            // The first has been called, and hangs up before it looks.
            drop(waiting.remove(0));
            drop(waiting.remove(0).await.unwrap());
            drop(waiting.remove(0).await.unwrap());
            let state = turns.state();
            assert!(state.running.is_empty() && state.lines.is_empty());
        });
    }

    #[test]
    fn many_clients_get_as_many_turns_each() {
        in_time(async {
            let turns = turns(1, 1_000);
            let ids: Vec<Pair> = (0..10).map(|number| pair(1, &format!("client-{number}"))).collect();
            let first = turns.turn(&FLOOD).await.unwrap();
            let mut waiting = Vec::new();
            // The first of them has ten callers in line before the last has one.
            for id in &ids {
                waiting.push(line_up(&turns, id, 10).await.into_iter());
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
    fn during_a_flood_against_many_ids_a_caller_at_another_address_is_next_under_any_of_them() {
        in_time(async {
            let turns = turns(1, 8);
            let ids: Vec<Pair> = (0..12).map(|number| pair(1, &format!("client-{number}"))).collect();
            let first = turns.turn(&ids[0]).await.unwrap();
            let mut flood = Vec::new();
            for id in ids.iter().cycle().take(100) {
                let (caller, outcome) = ask(&turns, id).await;
                flood.extend(outcome.is_none().then_some(caller));
            }
            // Under an id of the flood, and under one of its own.
            let owners = [pair(2, "client-0"), pair(2, "unrelated")];
            let mut waiting = Vec::new();
            for owner in &owners {
                waiting.extend(line_up(&turns, owner, 1).await);
            }
            drop(first);
            for owner in waiting {
                drop(owner.await.expect("a place in the queue, and the next turn"));
            }
            assert!(select_all(&mut flood).now_or_never().is_some(), "then it is the turn of the flood");
        });
    }

    #[test]
    fn however_many_ids_one_network_names_it_gets_every_second_turn() {
        in_time(async {
            let turns = turns(1, 1_000);
            let (one, two) = ([pair(1, "a"), pair(1, "b"), pair(1, "c")], pair(2, "a"));
            let first = turns.turn(&one[0]).await.unwrap();
            let mut flood = Vec::new();
            for id in &one {
                flood.push(line_up(&turns, id, 10).await.into_iter());
            }
            let mut other = line_up(&turns, &two, 10).await.into_iter();
            drop(first);
            for number in 0..10 {
                drop(other.next().unwrap().await.unwrap());
                // The first was served before the others lined up.
                drop(flood[(number + 1) % 3].next().unwrap().await.unwrap());
            }
        });
    }

    #[test]
    fn networks_with_wrong_secrets_of_late_go_behind_all_others_and_are_turned_away_first() {
        in_time(async {
            let (turns, clock) = turns_and_clock(1, 4);
            let attackers: Vec<Pair> = (1..=4).map(|network| pair(network, "billing")).collect();
            let owner = pair(9, "billing");
            for attacker in &attackers {
                for _ in 0..10 {
                    turns.turn(attacker).await.unwrap().refuse();
                }
            }
            // As many as may wait, each from a network of its own.
            let first = turns.turn(&attackers[0]).await.unwrap();
            let mut flood = Vec::new();
            for attacker in &attackers {
                flood.extend(line_up(&turns, attacker, 1).await);
            }
            let mut owners = line_up(&turns, &owner, 4).await;
            for attacker in &mut flood {
                assert!(is_turned_away(attacker).await);
            }
            assert!(matches!(ask(&turns, &attackers[1]).await.1, Some(Err(Busy))));
            drop(owners.split_off(2));
            flood = line_up(&turns, &attackers[1], 2).await;
            drop(first);
            for owner in owners {
                assert!(poll!(&mut flood[0]).is_pending(), "the owner is first though it came in greater number");
                drop(owner.await.unwrap());
            }
            for attacker in flood {
                drop(attacker.await.unwrap());
            }
            clock.advance(Duration::from_secs(120));
            let first = turns.turn(&owner).await.unwrap();
            let mut owners = line_up(&turns, &owner, 2).await;
            let other = line_up(&turns, &attackers[0], 1).await.remove(0);
            drop(first);
            drop(other.await.expect("two minutes later it is a network like any other"));
            assert!(poll!(&mut owners[0]).is_ready());
        });
    }

    #[test]
    fn where_all_callers_share_a_network_a_client_with_wrong_secrets_of_late_goes_behind_the_others() {
        in_time(async {
            let turns = turns(1, 3);
            let (guessed, other) = (["a", "b", "c"].map(|id| pair(1, id)), pair(1, "other"));
            for pair in &guessed {
                for _ in 0..10 {
                    turns.turn(pair).await.unwrap().refuse();
                }
            }
            let first = turns.turn(&guessed[0]).await.unwrap();
            let mut flood = Vec::new();
            for pair in &guessed {
                flood.extend(line_up(&turns, pair, 1).await);
            }
            let mut others = line_up(&turns, &other, 2).await.into_iter();
            assert!(is_turned_away(&mut flood[1]).await && is_turned_away(&mut flood[2]).await);
            drop(first);
            for _ in 0..2 {
                drop(others.next().unwrap().await.unwrap());
            }
            assert!(poll!(&mut flood[0]).is_ready());
        });
    }

    #[test]
    fn a_caller_that_found_the_queue_full_of_other_networks_is_not_taken_for_one_that_guesses() {
        in_time(async {
            let turns = turns(1, 2);
            let (strangers, owner) = ([1, 2, 3].map(|network| pair(network, "billing")), pair(9, "billing"));
            let first = turns.turn(&strangers[0]).await.unwrap();
            let mut waiting = line_up(&turns, &strangers[1], 1).await;
            waiting.extend(line_up(&turns, &strangers[2], 1).await);
            for _ in 0..100 {
                assert!(matches!(ask(&turns, &owner).await.1, Some(Err(Busy))));
            }
            assert_eq!(turns.state().refused_networks.count(&owner.network), 0);
            drop((first, waiting));
            // One with several callers is.
            let _first = turns.turn(&strangers[0]).await.unwrap();
            let _waiting = line_up(&turns, &strangers[1], 2).await;
            assert!(matches!(ask(&turns, &strangers[1]).await.1, Some(Err(Busy))));
            assert_eq!(turns.state().refused_networks.count(&strangers[1].network), 1);
        });
    }

    #[test]
    fn of_networks_with_as_many_callers_the_one_that_was_refused_more_often_is_turned_away() {
        in_time(async {
            let turns = turns(1, 2);
            let (flood, owner) = ([pair(1, "billing"), pair(2, "billing")], pair(3, "billing"));
            turns.turn(&flood[1]).await.unwrap().refuse();
            let _first = turns.turn(&flood[0]).await.unwrap();
            let mut one = line_up(&turns, &flood[0], 1).await;
            let mut two = line_up(&turns, &flood[1], 1).await;
            let mut owner = line_up(&turns, &owner, 1).await;
            assert!(is_turned_away(&mut two[0]).await);
            assert!(poll!(&mut one[0]).is_pending() && poll!(&mut owner[0]).is_pending());
        });
    }
}

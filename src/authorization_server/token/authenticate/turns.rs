//! Whose turn it is for a slow check: a bounded number at once, a bounded number that wait, shared fairly between client
//! ids.
//!
//! 1. The ids that wait take turns, whoever of them has more callers; the one that was just served goes last.
//! 2. One id never has all of several places at once, so that the caller of another finds one free.
//! 3. When more wait than may, the last of the longest line has to come back later, be it the newcomer or not.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::client_id::ClientId;

/// A clone hands out the same turns.
#[derive(Clone)]
pub(super) struct Turns {
    at_once: usize,
    queued: usize,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Whose turn it is, once for each.
    running: Vec<ClientId>,
    /// Those that wait, the next to be served in front; none is empty, and no id has two.
    lines: VecDeque<Line>,
}

struct Line {
    id: ClientId,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

/// Leave to do one slow check; the next one's turn comes when it is dropped.
#[must_use]
pub(super) struct Turn {
    turns: Turns,
    id: ClientId,
}

/// There are too many.
#[derive(Debug)]
pub(super) struct Busy;

type Granted = Vec<(oneshot::Sender<Turn>, Turn)>;

impl Turns {
    pub(super) fn new(at_once: usize, queued: usize) -> Self {
        Self { at_once, queued, state: Arc::default() }
    }

    /// Waits for a turn. Whoever stops waiting leaves the line.
    pub(super) async fn turn(&self, id: &ClientId) -> Result<Turn, Busy> {
        self.line_up(id).await.map_err(|_| Busy)
    }

    fn line_up(&self, id: &ClientId) -> oneshot::Receiver<Turn> {
        let (waiter, turn) = oneshot::channel();
        let mut state = self.state();
        state.join(id, waiter);
        let granted = self.grant(&mut state);
        state.turn_away(self.queued);
        drop(state);
        hand_out(granted);
        turn
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills the free places.
    fn grant(&self, state: &mut State) -> Granted {
        let mut granted = Vec::new();
        while state.running.len() < self.at_once
            && let Some((id, caller)) = state.next(self.at_once.saturating_sub(1).max(1))
        {
            state.running.push(id.clone());
            granted.push((caller, Turn { turns: self.clone(), id }));
        }
        granted
    }
}

impl State {
    fn join(&mut self, id: &ClientId, caller: oneshot::Sender<Turn>) {
        match self.lines.iter_mut().find(|line| line.id == *id) {
            Some(line) => line.waiting.push_back(caller),
            None => self.lines.push_back(Line { id: id.clone(), waiting: VecDeque::from([caller]) }),
        }
    }

    /// The first caller of the first line whose id has fewer than `most` places, and who is still there.
    fn next(&mut self, most: usize) -> Option<(ClientId, oneshot::Sender<Turn>)> {
        self.let_leave();
        let has_less = |id: &ClientId| self.running.iter().filter(|running| *running == id).count() < most;
        let at = self.lines.iter().position(|line| has_less(&line.id))?;
        let mut line = self.lines.remove(at)?;
        let caller = line.waiting.pop_front()?;
        let id = line.id.clone();
        if !line.waiting.is_empty() {
            self.lines.push_back(line);
        }
        Some((id, caller))
    }

    fn waiting(&self) -> usize {
        self.lines.iter().map(|line| line.waiting.len()).sum()
    }

    /// Forgets those who stopped waiting.
    fn let_leave(&mut self) {
        self.lines.retain_mut(|line| {
            line.waiting.retain(|caller| !caller.is_closed());
            !line.waiting.is_empty()
        });
    }

    /// Drops the last of the longest line while more wait than may; of two lines as long, the one that came later.
    fn turn_away(&mut self, queued: usize) {
        if self.waiting() > queued {
            self.let_leave();
        }
        while self.waiting() > queued {
            let Some(longest) = self.lines.iter_mut().max_by_key(|line| line.waiting.len()) else { return };
            longest.waiting.pop_back();
            self.lines.retain(|line| !line.waiting.is_empty());
        }
    }

    fn release(&mut self, id: &ClientId) {
        if let Some(at) = self.running.iter().position(|running| running == id) {
            self.running.swap_remove(at);
        }
        if let Some(line) = self.lines.iter().position(|line| line.id == *id).and_then(|at| self.lines.remove(at)) {
            self.lines.push_back(line);
        }
    }
}

/// Not while the state is locked: a turn that finds its caller gone is dropped, which locks it.
fn hand_out(granted: Granted) {
    for (caller, turn) in granted {
        drop(caller.send(turn));
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.turns.state();
        state.release(&self.id);
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
    use std::pin::Pin;

    use futures_util::poll;
    use futures_util::task::Poll;

    use super::{Busy, Turn, Turns};
    use crate::client_id::ClientId;

    static FLOOD: ClientId = ClientId::from_static("flood");
    static OTHER: ClientId = ClientId::from_static("other");

    type Waiting<'a> = Pin<Box<dyn Future<Output = Result<Turn, Busy>> + 'a>>;

    /// Gets into line, and perhaps a turn.
    async fn ask<'a>(turns: &'a Turns, id: &'a ClientId) -> (Waiting<'a>, Option<Result<Turn, Busy>>) {
        let mut waiting: Waiting<'a> = Box::pin(turns.turn(id));
        let outcome = match poll!(&mut waiting) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        };
        (waiting, outcome)
    }

    async fn line_up<'a>(turns: &'a Turns, id: &'a ClientId, callers: usize) -> Vec<Waiting<'a>> {
        let mut waiting = Vec::new();
        for _ in 0..callers {
            let (caller, outcome) = ask(turns, id).await;
            assert!(outcome.is_none());
            waiting.push(caller);
        }
        waiting
    }

    async fn is_turned_away(waiting: &mut Waiting<'_>) -> bool {
        matches!(poll!(waiting), Poll::Ready(Err(Busy)))
    }

    #[tokio::test]
    async fn whoever_else_asks_during_a_flood_is_next() {
        let turns = Turns::new(1, 100);
        let first = turns.turn(&FLOOD).await.unwrap();
        let mut flood = line_up(&turns, &FLOOD, 90).await;
        let other = line_up(&turns, &OTHER, 1).await.remove(0);
        drop(first);
        let other = other.await.expect("the one check under way is all that it waited for");
        assert!(poll!(&mut flood[0]).is_pending());
        drop(other);
        assert!(poll!(&mut flood[0]).is_ready());
    }

    #[tokio::test]
    async fn who_asks_again_and_again_during_a_flood_gets_every_second_turn() {
        let turns = Turns::new(1, 100);
        let mut turn = turns.turn(&FLOOD).await.unwrap();
        let mut flood = line_up(&turns, &FLOOD, 90).await.into_iter();
        for _ in 0..40 {
            let other = line_up(&turns, &OTHER, 1).await.remove(0);
            drop(turn);
            drop(other.await.unwrap());
            turn = flood.next().unwrap().await.unwrap();
        }
    }

    #[tokio::test]
    async fn one_client_leaves_a_place_free_where_there_are_several() {
        let turns = Turns::new(3, 100);
        let held = [turns.turn(&FLOOD).await.unwrap(), turns.turn(&FLOOD).await.unwrap()];
        let mut flood = line_up(&turns, &FLOOD, 1).await;
        let other = ask(&turns, &OTHER).await.1.expect("a place at once").unwrap();
        drop(other);
        assert!(poll!(&mut flood[0]).is_pending());
        drop(held);
        assert!(poll!(&mut flood[0]).is_ready());
    }

    #[tokio::test]
    async fn beyond_the_bound_the_last_of_the_longest_line_is_turned_away() {
        let turns = Turns::new(1, 4);
        let _held = turns.turn(&FLOOD).await.unwrap();
        let mut flood = line_up(&turns, &FLOOD, 4).await;
        assert!(matches!(ask(&turns, &FLOOD).await.1, Some(Err(Busy))), "the newcomer, where its own line is longest");
        let mut other = line_up(&turns, &OTHER, 2).await;
        assert!(is_turned_away(&mut flood[3]).await && is_turned_away(&mut flood[2]).await);
        assert!(matches!(ask(&turns, &OTHER).await.1, Some(Err(Busy))), "and nobody has more than its share");
        let third = ClientId::from_static("third");
        let (_third, outcome) = ask(&turns, &third).await;
        assert!(outcome.is_none());
        let away = [is_turned_away(&mut flood[1]).await, is_turned_away(&mut other[1]).await];
        assert_eq!(away.iter().filter(|away| **away).count(), 1);
        assert!(poll!(&mut flood[0]).is_pending() && poll!(&mut other[0]).is_pending());
    }

    #[tokio::test]
    async fn who_hangs_up_leaves_the_line_and_a_turn_that_finds_nobody_goes_to_the_next() {
        let turns = Turns::new(1, 3);
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
    }

    #[tokio::test]
    async fn many_clients_get_as_many_turns_each() {
        let turns = Turns::new(1, 1_000);
        let ids: Vec<ClientId> = (0..10).map(|number| format!("client-{number}").parse().unwrap()).collect();
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
    }
}

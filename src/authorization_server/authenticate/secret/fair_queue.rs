//! [`FairQueue`]: limits how many slow checks run and wait, and shares them fairly between callers.
//!
//! A [`Caller`] belongs to a site, in it to a network, and in that to a client id. The rules are the same at each of
//! these three levels:
//!
//! 1. Sites take turns. The networks of a site take turns, and the client ids of a network do. The number of their
//!    requests does not matter. The one that was served last goes last.
//! 2. If several checks may run at the same time, one caller never has all of them, so another caller can start at
//!    once.
//! 3. When the queue is full, the last request of the site, network and id with the most requests is refused. This may
//!    be the new request. If several have equally many, the one with more wrong secrets is refused.
//! 4. A network is a *flood* after [`FLOOD`] wrong secrets in the current and the previous minute. It is served after
//!    all others, and refused before them. The same applies to a client id among those of its network. One network
//!    alone does not make its site a flood, since a site may belong to many customers of one provider. A site is a
//!    flood after [`SITE_FLOOD`] wrong secrets from several networks.
//!
//! So an outsider that guesses secrets delays its own network, but not the owner of the secret in another network.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::refusals::Refusals;
use crate::client_id::ClientId;
use crate::clock::Clock;
use crate::debug_fields::debug_fields;
use crate::network::{network, site};

/// The number of wrong secrets that makes a network or a client id a flood. A person who mistypes a secret stays below
/// it.
const FLOOD: u32 = 10;

/// The number of wrong secrets that makes a site a flood. Each of its networks counts for at most [`FLOOD`].
const SITE_FLOOD: u32 = 3 * FLOOD;

/// A client id as used in one network. All callers without a known address belong to one network.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Caller {
    site: Option<IpAddr>,
    network: Option<IpAddr>,
    id: ClientId,
}

impl Caller {
    pub(super) fn new(address: Option<IpAddr>, id: ClientId) -> Self {
        Self { site: address.map(site), network: address.map(network), id }
    }
}

/// The queue. A clone is the same queue.
#[derive(Clone)]
pub(super) struct FairQueue {
    at_once: usize,
    queued: usize,
    state: Arc<Mutex<State>>,
}

struct State {
    /// The caller of each running check.
    running: Vec<Caller>,
    /// The waiting requests, in the order in which they are served. No line is empty, and no caller has two lines.
    lines: VecDeque<Line>,
    refused: Refused,
}

struct Line {
    caller: Caller,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

/// The recent wrong secrets, by level.
struct Refused {
    sites: Refusals<Option<IpAddr>>,
    networks: Refusals<Option<IpAddr>>,
    callers: Refusals<Caller>,
}

/// Permission to do one slow check. Dropping it lets the next request have its turn.
#[must_use]
pub(super) struct Turn {
    queue: FairQueue,
    caller: Caller,
}

/// The queue is full.
#[derive(Debug)]
pub(super) struct Busy;

type Granted = Vec<(oneshot::Sender<Turn>, Turn)>;

impl FairQueue {
    pub(super) fn new(at_once: usize, queued: usize, clock: Arc<dyn Clock>) -> Self {
        let state = State { running: Vec::new(), lines: VecDeque::new(), refused: Refused::new(&clock) };
        Self { at_once, queued, state: Arc::new(Mutex::new(state)) }
    }

    /// Waits for a turn. Dropping the future leaves the queue.
    pub(super) async fn turn(&self, caller: &Caller) -> Result<Turn, Busy> {
        self.join(caller).await.map_err(|_| Busy)
    }

    fn join(&self, caller: &Caller) -> oneshot::Receiver<Turn> {
        let (waiter, turn) = oneshot::channel();
        let mut state = self.state();
        state.join(caller, waiter);
        let granted = self.grant(&mut state);
        state.turn_away(self.queued);
        drop(state);
        send(granted);
        turn
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.refused.expire();
        state
    }

    /// Starts requests while checks can be started.
    fn grant(&self, state: &mut State) -> Granted {
        let mut granted = Vec::new();
        while state.running.len() < self.at_once
            && let Some((caller, waiter)) = state.next(self.at_once.saturating_sub(1).max(1))
        {
            state.running.push(caller.clone());
            granted.push((waiter, Turn { queue: self.clone(), caller }));
        }
        granted
    }
}

impl State {
    fn join(&mut self, caller: &Caller, waiter: oneshot::Sender<Turn>) {
        match self.lines.iter_mut().find(|line| line.caller == *caller) {
            Some(line) => line.waiting.push_back(waiter),
            None => self.lines.push_back(Line { caller: caller.clone(), waiting: VecDeque::from([waiter]) }),
        }
    }

    /// Removes the next request of a caller with fewer than `max` running checks.
    fn next(&mut self, max: usize) -> Option<(Caller, oneshot::Sender<Turn>)> {
        self.remove_closed();
        let has_place = |caller: &Caller| self.running.iter().filter(|running| *running == caller).count() < max;
        let lines = || self.lines.iter().enumerate().filter(|(_, line)| has_place(&line.caller));
        // Among lines with the same key, the first one is taken.
        let (_, first) = lines().min_by_key(|(_, line)| self.refused.is_flood(&line.caller))?;
        let in_network = lines().filter(|(_, line)| line.caller.network == first.caller.network);
        let (at, _) = in_network.min_by_key(|(_, line)| self.refused.is_caller_flood(&line.caller))?;
        let line = self.lines.get_mut(at)?;
        let (caller, waiter) = (line.caller.clone(), line.waiting.pop_front()?);
        self.remove_empty();
        self.put_last(&caller);
        Some((caller, waiter))
    }

    fn waiting(&self) -> usize {
        self.lines.iter().map(|line| line.waiting.len()).sum()
    }

    /// Removes the requests whose callers stopped waiting.
    fn remove_closed(&mut self) {
        for line in &mut self.lines {
            line.waiting.retain(|waiter| !waiter.is_closed());
        }
        self.remove_empty();
    }

    fn remove_empty(&mut self) {
        self.lines.retain(|line| !line.waiting.is_empty());
    }

    /// Moves the caller's site behind the other sites, its network behind the others of the site, and the caller behind
    /// the others of the network.
    fn put_last(&mut self, caller: &Caller) {
        let Caller { site, network, .. } = *caller;
        let lines = self.lines.make_contiguous();
        lines.sort_by_key(|line| (line.caller.site == site, line.caller.network == network, line.caller == *caller));
    }

    fn turn_away(&mut self, queued: usize) {
        if self.waiting() > queued {
            self.remove_closed();
        }
        while self.waiting() > queued {
            let Some(line) = self.first_to_leave().and_then(|at| self.lines.get_mut(at)) else { return };
            line.waiting.pop_back();
            self.remove_empty();
        }
    }

    /// Returns the line whose last request is refused first.
    fn first_to_leave(&self) -> Option<usize> {
        let refused = &self.refused;
        let all: Vec<_> = self.lines.iter().enumerate().collect();
        let floods: Vec<_> = all.iter().copied().filter(|(_, line)| refused.is_flood(&line.caller)).collect();
        let lines = if floods.is_empty() { all } else { floods };
        let lines = heaviest(lines, |caller| (caller.site, false, refused.sites.count(&caller.site)))?;
        let lines = heaviest(lines, |caller| (caller.network, false, refused.networks.count(&caller.network)))?;
        let lines =
            heaviest(lines, |caller| (&caller.id, refused.is_caller_flood(caller), refused.callers.count(caller)))?;
        lines.first().map(|(at, _)| *at)
    }

    fn release(&mut self, caller: &Caller) {
        if let Some(at) = self.running.iter().position(|running| running == caller) {
            self.running.swap_remove(at);
        }
        self.put_last(caller);
    }
}

/// Groups lines by a key, and returns the lines of the group that is refused first: a flood before others, then the
/// group with the most requests, then the one with more wrong secrets, then the later one.
fn heaviest<'a, K: Copy + Eq + Hash>(
    lines: Vec<(usize, &'a Line)>,
    key_flood_and_refused: impl Fn(&'a Caller) -> (K, bool, u32),
) -> Option<Vec<(usize, &'a Line)>> {
    // Per group: whether it is a flood, its number of requests, its wrong secrets, and the position of its first line.
    let mut groups = HashMap::<K, (bool, usize, u32, usize)>::new();
    for (place, line) in &lines {
        let (key, is_flood, refused) = key_flood_and_refused(&line.caller);
        groups.entry(key).or_insert((is_flood, 0, refused, *place)).1 += line.waiting.len();
    }
    let (key, _) = groups.into_iter().max_by_key(|(_, weight)| *weight)?;
    Some(lines.into_iter().filter(|(_, line)| key_flood_and_refused(&line.caller).0 == key).collect())
}

impl Refused {
    fn new(clock: &Arc<dyn Clock>) -> Self {
        Self {
            sites: Refusals::new(clock.clone()),
            networks: Refusals::new(clock.clone()),
            callers: Refusals::new(clock.clone()),
        }
    }

    fn expire(&mut self) {
        self.sites.expire();
        self.networks.expire();
        self.callers.expire();
    }

    fn add(&mut self, caller: &Caller) {
        if self.networks.count(&caller.network) < FLOOD {
            self.sites.add(caller.site);
        }
        self.networks.add(caller.network);
        self.callers.add(caller.clone());
    }

    fn is_flood(&self, caller: &Caller) -> bool {
        self.networks.count(&caller.network) >= FLOOD || self.sites.count(&caller.site) >= SITE_FLOOD
    }

    fn is_caller_flood(&self, caller: &Caller) -> bool {
        self.callers.count(caller) >= FLOOD
    }
}

/// Sends the turns. Must not be called while the state is locked: a turn whose request is gone is dropped here, which
/// locks the state.
fn send(granted: Granted) {
    for (waiter, turn) in granted {
        drop(waiter.send(turn));
    }
}

impl Turn {
    /// Counts a wrong secret.
    pub(super) fn refuse(&self) {
        self.queue.state().refused.add(&self.caller);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        state.release(&self.caller);
        let granted = self.queue.grant(&mut state);
        drop(state);
        send(granted);
    }
}

debug_fields!(FairQueue { at_once, queued });

#[cfg(test)]
mod tests;

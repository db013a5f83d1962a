//! The table of all slots: who is free, what is cached where, who waits.
//!
//! Shared by the workers behind one lock that is taken when a client comes or goes, never per query.

use std::collections::{BTreeSet, VecDeque};

use tokio::sync::oneshot;

/// Position in the table; the slot's shown pid is [`FIRST_PID`] plus this.
pub type SlotIndex = usize;

/// The first number shown as a pid: above the largest that Linux hands out (`PID_MAX_LIMIT`),
/// so that no `kill` of an operator ever hits a stranger.
pub const FIRST_PID: u32 = 4_194_305;

/// Hash of (user, database, start-up parameters).
pub type PoolKey = u64;

#[derive(Debug)]
pub struct SlotTable {
    slots: Vec<Entry>,
    workers: usize,
    /// The free slots by each of the keys that they have cached.
    with_key: Ranked<PoolKey>,
    /// The free slots by the number of sets that they have cached.
    by_held: Ranked<usize>,
    free: usize,
    waiting: VecDeque<Waiter>,
    next_ticket: u64,
    /// Nobody gets a slot, see [`SlotTable::hold`].
    held: bool,
}

#[derive(Debug, Default)]
struct Entry {
    busy: bool,
    /// What the slot has cached.
    keys: Vec<PoolKey>,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    key: PoolKey,
    grant: oneshot::Sender<SlotIndex>,
}

/// The answer to a request for a slot.
#[derive(Debug)]
pub enum Admission {
    Granted(SlotIndex),
    /// All slots are busy, or nobody gets one now: the slot comes through the channel. Take the ticket back with [`SlotTable::give_up`].
    Wait {
        ticket: u64,
        slot: oneshot::Receiver<SlotIndex>,
    },
}

impl SlotTable {
    /// Slot `i` lives on worker `i % workers`.
    pub fn new(slots: usize, workers: usize) -> SlotTable {
        let mut table = SlotTable {
            slots: Vec::new(),
            workers: workers.max(1),
            with_key: Ranked::default(),
            by_held: Ranked::default(),
            free: slots,
            waiting: VecDeque::new(),
            next_ticket: 0,
            held: false,
        };
        table.slots.resize_with(slots, Entry::default);
        for slot in 0..slots {
            table.offer(slot);
        }
        table
    }

    pub fn busy(&self) -> usize {
        self.slots.len() - self.free
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Lets clients wait for a slot although there are free ones, or ends that.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
        while self.grant_next(0) {}
    }

    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Asks for a slot for a client that is on `worker` and wants connections of `key`.
    ///
    /// Preference: a free slot of this worker with the connections cached, one of another worker
    /// with them (cheaper than a new backend process), then one with nothing cached, so that no
    /// cached set is thrown away early, each time this worker's first.
    pub fn acquire(&mut self, worker: usize, key: PoolKey) -> Admission {
        if self.free == 0 || self.held {
            let (grant, slot) = oneshot::channel();
            let ticket = self.next_ticket;
            self.next_ticket += 1;
            self.waiting.push_back(Waiter { ticket, key, grant });
            return Admission::Wait { ticket, slot };
        }
        match self.best_free(worker, key) {
            Some(slot) => {
                self.take(slot);
                Admission::Granted(slot)
            }
            None => unreachable!("a free slot was counted"),
        }
    }

    fn best_free(&self, worker: usize, key: PoolKey) -> Option<SlotIndex> {
        self.with_key
            .best(key, worker)
            .or_else(|| self.by_held.best(self.by_held.lowest()?, worker))
    }

    fn take(&mut self, slot: SlotIndex) {
        self.withdraw(slot);
        self.slots[slot].busy = true;
        self.free -= 1;
    }

    /// A free slot is found from now on.
    fn offer(&mut self, slot: SlotIndex) {
        let (worker, keys) = (slot % self.workers, &self.slots[slot].keys);
        for key in keys {
            self.with_key.insert(*key, worker, slot);
        }
        self.by_held.insert(keys.len(), worker, slot);
    }

    /// The reverse of [`SlotTable::offer`], before anything of the slot changes.
    fn withdraw(&mut self, slot: SlotIndex) {
        let (worker, keys) = (slot % self.workers, &self.slots[slot].keys);
        for key in keys {
            self.with_key.remove(*key, worker, slot);
        }
        self.by_held.remove(keys.len(), worker, slot);
    }

    /// A slot is free again and has these sets cached; `None`: the same as before. The first client
    /// that waits gets it at once.
    pub fn release(&mut self, slot: SlotIndex, keys: Option<Vec<PoolKey>>) {
        let Some(entry) = self.slots.get_mut(slot) else {
            return;
        };
        if !std::mem::replace(&mut entry.busy, false) {
            return;
        }
        if let Some(keys) = keys {
            entry.keys = keys;
        }
        self.offer(slot);
        self.free += 1;
        self.grant_next(slot % self.workers);
    }

    /// Gives the first client that waits a free slot, one of `worker` if it can be; `false`: there is
    /// no such client or slot.
    fn grant_next(&mut self, worker: usize) -> bool {
        if self.held {
            return false;
        }
        while let Some(waiter) = self.waiting.pop_front() {
            let Some(best) = self.best_free(worker, waiter.key) else {
                self.waiting.push_front(waiter);
                return false;
            };
            // A waiter whose client has gone drops its end: the next one gets the slot.
            if waiter.grant.send(best).is_ok() {
                self.take(best);
                return true;
            }
        }
        false
    }

    /// What a free slot has cached has changed (life times, a node that is gone).
    pub fn cached(&mut self, slot: SlotIndex, keys: Vec<PoolKey>) {
        let Some(busy) = self.slots.get(slot).map(|entry| entry.busy) else {
            return;
        };
        if busy {
            self.slots[slot].keys = keys;
        } else {
            self.withdraw(slot);
            self.slots[slot].keys = keys;
            self.offer(slot);
        }
    }

    /// The client that held this ticket has gone. A slot granted meanwhile has to be released by the caller.
    pub fn give_up(&mut self, ticket: u64) {
        // Tickets are given out in rising order.
        if let Ok(at) = self.waiting.binary_search_by_key(&ticket, |w| w.ticket) {
            self.waiting.remove(at);
        }
    }
}

/// Slots in an order: the lowest index of one worker, or of all, is found in logarithmic time.
#[derive(Debug)]
struct Ranked<K> {
    by_worker: BTreeSet<(K, usize, SlotIndex)>,
    all: BTreeSet<(K, SlotIndex)>,
}

impl<K> Default for Ranked<K> {
    fn default() -> Ranked<K> {
        Ranked {
            by_worker: BTreeSet::new(),
            all: BTreeSet::new(),
        }
    }
}

impl<K: Copy + Ord> Ranked<K> {
    fn insert(&mut self, rank: K, worker: usize, slot: SlotIndex) {
        self.by_worker.insert((rank, worker, slot));
        self.all.insert((rank, slot));
    }

    fn remove(&mut self, rank: K, worker: usize, slot: SlotIndex) {
        self.by_worker.remove(&(rank, worker, slot));
        self.all.remove(&(rank, slot));
    }

    /// A slot of this rank: of the worker, else of any.
    fn best(&self, rank: K, worker: usize) -> Option<SlotIndex> {
        let own = (rank, worker, 0)..=(rank, worker, SlotIndex::MAX);
        let any = (rank, 0)..=(rank, SlotIndex::MAX);
        match self.by_worker.range(own).next() {
            Some((_, _, slot)) => Some(*slot),
            None => self.all.range(any).next().map(|(_, slot)| *slot),
        }
    }

    fn lowest(&self) -> Option<K> {
        self.all.first().map(|(rank, _)| *rank)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn granted(admission: Admission) -> SlotIndex {
        match admission {
            Admission::Granted(slot) => slot,
            Admission::Wait { .. } => panic!("had to wait"),
        }
    }

    #[test]
    fn a_slot_with_the_connections_cached_is_preferred_this_workers_first() {
        let mut table = SlotTable::new(4, 2);
        for slot in 0..4 {
            assert_eq!(granted(table.acquire(slot % 2, 7)), slot);
        }
        table.release(0, Some(vec![7]));
        table.release(1, Some(vec![7]));
        table.release(2, Some(vec![]));
        table.release(3, Some(vec![]));
        assert_eq!(granted(table.acquire(1, 7)), 1);
        assert_eq!(
            granted(table.acquire(1, 7)),
            0,
            "another worker's before none"
        );
        assert_eq!(granted(table.acquire(0, 7)), 2);
    }

    #[test]
    fn an_empty_slot_is_preferred_to_one_with_other_connections() {
        let mut table = SlotTable::new(2, 1);
        let a = granted(table.acquire(0, 1));
        table.release(a, Some(vec![1]));
        assert_eq!(granted(table.acquire(0, 2)), 1);
    }

    #[test]
    fn those_who_wait_are_served_in_their_order() {
        let mut table = SlotTable::new(1, 1);
        let slot = granted(table.acquire(0, 1));
        let mut wait = || match table.acquire(0, 1) {
            Admission::Wait { slot, .. } => slot,
            Admission::Granted(_) => panic!("granted twice"),
        };
        let (mut first, mut second) = (wait(), wait());
        table.release(slot, Some(vec![]));
        assert_eq!(first.try_recv(), Ok(0));
        assert!(second.try_recv().is_err());
        table.release(slot, Some(vec![]));
        assert_eq!(second.try_recv(), Ok(0));
    }

    #[test]
    fn while_clients_are_held_nobody_gets_a_slot_and_then_all_do_in_their_order() {
        let mut table = SlotTable::new(2, 1);
        let busy = granted(table.acquire(0, 1));
        table.hold(true);
        let mut wait = || match table.acquire(0, 1) {
            Admission::Wait { slot, .. } => slot,
            Admission::Granted(_) => panic!("granted although held"),
        };
        let (mut first, mut second, mut third) = (wait(), wait(), wait());
        table.release(busy, Some(vec![]));
        assert_eq!(table.busy(), 0);
        assert!(first.try_recv().is_err());
        table.hold(false);
        assert_eq!((first.try_recv(), second.try_recv()), (Ok(0), Ok(1)));
        assert!(third.try_recv().is_err());
        table.release(0, None);
        assert_eq!(third.try_recv(), Ok(0));
    }

    #[test]
    fn a_client_that_left_the_queue_is_passed_over() {
        let mut table = SlotTable::new(1, 1);
        let slot = granted(table.acquire(0, 1));
        let Admission::Wait { ticket, slot: gone } = table.acquire(0, 1) else {
            panic!("granted twice")
        };
        drop(gone);
        let Admission::Wait { slot: mut next, .. } = table.acquire(0, 1) else {
            panic!("granted twice")
        };
        table.release(slot, Some(vec![]));
        assert_eq!(next.try_recv(), Ok(0));
        table.give_up(ticket);
        assert_eq!(table.waiting(), 0);
        assert_eq!(table.busy(), 1);
    }

    #[test]
    fn a_slot_released_twice_is_counted_once() {
        let mut table = SlotTable::new(1, 1);
        let slot = granted(table.acquire(0, 1));
        table.release(slot, Some(vec![]));
        table.release(slot, Some(vec![]));
        assert_eq!(table.busy(), 0);
    }

    #[test]
    fn a_slot_given_back_unused_keeps_what_it_has_cached() {
        let mut table = SlotTable::new(2, 1);
        let slot = granted(table.acquire(0, 7));
        table.release(slot, Some(vec![7]));
        let slot = granted(table.acquire(0, 7));
        table.release(slot, None);
        assert_eq!(granted(table.acquire(0, 7)), slot);
    }

    /// The rule of [`SlotTable::acquire`], told by a look at every slot.
    fn by_looking_at_all(table: &SlotTable, worker: usize, key: PoolKey) -> Option<SlotIndex> {
        let rank = |index: usize, slot: &Entry| {
            let elsewhere = usize::from(index % table.workers != worker);
            if slot.keys.contains(&key) {
                elsewhere
            } else {
                2 + 2 * slot.keys.len() + elsewhere
            }
        };
        let free = table.slots.iter().enumerate().filter(|(_, s)| !s.busy);
        free.min_by_key(|(index, slot)| rank(*index, slot))
            .map(|(index, _)| index)
    }

    #[derive(Clone, Debug)]
    enum Step {
        Acquire(usize, PoolKey),
        Release(SlotIndex, Option<Vec<PoolKey>>),
        Cached(SlotIndex, Vec<PoolKey>),
    }

    fn step() -> impl Strategy<Value = Step> {
        let keys = || prop::collection::vec(0u64..5, 0..4);
        prop_oneof![
            3 => (0usize..3, 0u64..6).prop_map(|(worker, key)| Step::Acquire(worker, key)),
            2 => (0usize..9, prop::option::of(keys())).prop_map(|(slot, keys)| Step::Release(slot, keys)),
            1 => (0usize..9, keys()).prop_map(|(slot, keys)| Step::Cached(slot, keys)),
        ]
    }

    proptest! {
        #[test]
        fn the_slot_found_is_the_one_that_a_look_at_all_would_choose(
            slots in 1usize..9,
            workers in 1usize..4,
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let mut table = SlotTable::new(slots, workers);
            let mut queue = VecDeque::new();
            for step in steps {
                match step {
                    Step::Acquire(worker, key) => {
                        let want = by_looking_at_all(&table, worker % workers, key);
                        match table.acquire(worker % workers, key) {
                            Admission::Granted(slot) => prop_assert_eq!(Some(slot), want),
                            Admission::Wait { ticket, slot } => {
                                prop_assert_eq!(want, None);
                                queue.push_back((ticket, slot));
                            }
                        }
                    }
                    Step::Release(slot, keys) => {
                        let was_busy = table.slots.get(slot).is_some_and(|s| s.busy);
                        table.release(slot, keys);
                        if was_busy && let Some((_, mut first)) = queue.pop_front() {
                            // Only one slot was free.
                            prop_assert_eq!(first.try_recv(), Ok(slot));
                        }
                    }
                    Step::Cached(slot, keys) => table.cached(slot, keys),
                }
                if queue.len() > 3 {
                    let (ticket, _) = queue.remove(1).unwrap();
                    table.give_up(ticket);
                }
                prop_assert_eq!(table.waiting(), queue.len());
                for worker in 0..workers {
                    for key in 0..6 {
                        prop_assert_eq!(table.best_free(worker, key), by_looking_at_all(&table, worker, key));
                    }
                }
            }
        }
    }
}

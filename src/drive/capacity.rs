//! How many sessions the process has, and where each of them lives: what its workers agree upon.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::wire::ids::{SessionId, SessionKey, WorkerId};

/// How many sessions the process has, against how many it may have, and on which worker.
#[derive(Clone, Debug)]
pub struct Capacity(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    most: u32,
    used: AtomicU32,
    by_worker: Box<[Burden]>,
}

/// What one worker carries.
#[derive(Debug, Default)]
struct Burden {
    sessions: AtomicU32,
    /// It took nobody in when it was last asked.
    strained: AtomicBool,
}

impl Capacity {
    /// Room for `most` sessions on so many workers.
    #[must_use]
    pub fn new(most: u32, workers: u8) -> Self {
        let by_worker = (0..workers).map(|_| Burden::default()).collect();
        Self(Arc::new(Counts { most, used: AtomicU32::new(0), by_worker }))
    }

    /// Takes one place, if there is one: on the worker with the fewest sessions of those that take somebody in.
    #[must_use]
    pub fn take(&self) -> Option<Place> {
        let Counts { most, used, by_worker } = &*self.0;
        used.fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| (used < *most).then_some(used + 1)).ok()?;
        let load = |burden: &Burden| (burden.strained.load(Ordering::Acquire), burden.sessions.load(Ordering::Acquire));
        let (place, burden) = by_worker.iter().enumerate().min_by_key(|(_, burden)| load(burden))?;
        burden.sessions.fetch_add(1, Ordering::AcqRel);
        Some(Place { capacity: self.clone(), worker: WorkerId(u8::try_from(place).ok()?) })
    }

    /// Whether a worker takes anybody in. It decides by itself; this only spares others the way to it.
    pub fn tell(&self, worker: WorkerId, strained: bool) {
        if let Some(burden) = self.0.by_worker.get(usize::from(worker.0)) {
            burden.strained.store(strained, Ordering::Release);
        }
    }
}

/// One session's place; given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    capacity: Capacity,
    /// Where the session is to live.
    pub worker: WorkerId,
}

impl Drop for Place {
    fn drop(&mut self) {
        let Counts { used, by_worker, .. } = &*self.capacity.0;
        used.fetch_sub(1, Ordering::AcqRel);
        if let Some(burden) = by_worker.get(usize::from(self.worker.0)) {
            burden.sessions.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Where the sessions of the process live, by the id that clients resume with.
#[derive(Clone, Debug, Default)]
pub struct Directory(Arc<Mutex<HashMap<SessionId, (WorkerId, SessionKey)>>>);

impl Directory {
    /// Where this session lives.
    #[must_use]
    pub fn find(&self, id: &SessionId) -> Option<(WorkerId, SessionKey)> {
        self.lock().get(id).copied()
    }

    /// A session of this id is there.
    pub fn insert(&self, id: SessionId, at: (WorkerId, SessionKey)) {
        self.lock().insert(id, at);
    }

    /// It is gone.
    pub fn remove(&self, id: &SessionId) {
        self.lock().remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, (WorkerId, SessionKey)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_where_there_are_fewest_and_come_back() {
        let capacity = Capacity::new(6, 3);
        let by_worker = || capacity.0.by_worker.iter().map(|burden| burden.sessions.load(Ordering::Acquire));
        let mut places: Vec<Place> = (0..6).map(|_| capacity.take().expect("there is room")).collect();
        assert_eq!(by_worker().collect::<Vec<_>>(), [2, 2, 2]);
        assert!(capacity.take().is_none(), "it is full");
        places.retain(|place| place.worker != WorkerId(1));
        assert_eq!(by_worker().collect::<Vec<_>>(), [2, 0, 2]);
        let next = [capacity.take(), capacity.take()].map(|place| place.map(|place| place.worker));
        assert_eq!(next, [Some(WorkerId(1)); 2], "each was given back before the next");
        capacity.tell(WorkerId(1), true);
        places.truncate(2);
        let others: Vec<_> = (0..3).filter_map(|_| capacity.take()).map(|place| place.worker).collect();
        assert!(
            others.iter().all(|worker| *worker != WorkerId(1)),
            "one that takes nobody in is passed by: {others:?}"
        );
        (0..3).map(WorkerId).for_each(|worker| capacity.tell(worker, true));
        assert!(capacity.take().is_some(), "each decides by itself");
        drop(places);
        assert_eq!(by_worker().sum::<u32>(), 0);
    }
}

//! `queued.max.request.bytes`: one budget for the request frames of all connections. When it is used up, connections
//! stop reading until requests have been answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Waker};

use parking_lot::Mutex;

#[derive(Debug)]
pub struct RequestMemory {
    /// None: unbounded, as Kafka's default; a frame's memory still only follows what arrives.
    budget: Option<Budget>,
}

#[derive(Debug)]
struct Budget {
    available: AtomicI64,
    waiting: Mutex<Vec<Waker>>,
}

impl RequestMemory {
    pub fn new(bytes: Option<usize>) -> Arc<RequestMemory> {
        let budget = bytes.map(|bytes| Budget {
            available: AtomicI64::new(i64::try_from(bytes).unwrap_or(i64::MAX)),
            waiting: Mutex::default(),
        });
        Arc::new(RequestMemory { budget })
    }

    /// As Kafka's pool: granted while anything at all is left, so that a frame larger than the budget gets through,
    /// and the budget is overrun by one frame a thread at most. None: `cx` is woken when memory has come back.
    pub fn take(self: &Arc<RequestMemory>, bytes: usize, cx: &mut Context<'_>) -> Option<MemoryGrant> {
        let Some(budget) = &self.budget else { return Some(MemoryGrant { from: None, bytes }) };
        if budget.available.load(Ordering::Acquire) <= 0 {
            let mut waiting = budget.waiting.lock();
            // Looked at again under the lock, under which memory comes back: no wake can be missed.
            if budget.available.load(Ordering::Acquire) <= 0 {
                if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                    waiting.push(cx.waker().clone());
                }
                return None;
            }
        }
        budget.available.fetch_sub(bytes as i64, Ordering::AcqRel);
        Some(MemoryGrant { from: Some(self.clone()), bytes })
    }
}

/// Memory that one request holds; dropped when it has been answered.
#[derive(Debug)]
pub struct MemoryGrant {
    from: Option<Arc<RequestMemory>>,
    pub bytes: usize,
}

impl Drop for MemoryGrant {
    fn drop(&mut self) {
        let Some(budget) = self.from.as_ref().and_then(|memory| memory.budget.as_ref()) else { return };
        let before = budget.available.fetch_add(self.bytes as i64, Ordering::AcqRel);
        if before <= 0 {
            let waiting = std::mem::take(&mut *budget.waiting.lock());
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);
    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn an_exhausted_budget_makes_readers_wait() {
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(wakes.clone());
        let mut cx = Context::from_waker(&waker);
        let memory = RequestMemory::new(Some(100));
        let first = memory.take(60, &mut cx).unwrap();
        let overrun = memory.take(60, &mut cx).expect("some is left");
        assert!(memory.take(1, &mut cx).is_none());
        assert!(memory.take(1, &mut cx).is_none());
        drop(overrun);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        assert!(memory.take(40, &mut cx).is_some());
        drop(first);
    }

    #[test]
    fn no_limit_grants_everything() {
        let mut cx = Context::from_waker(Waker::noop());
        let memory = RequestMemory::new(None);
        let _grants: Vec<_> = (0..10).map(|_| memory.take(1 << 40, &mut cx).unwrap()).collect();
    }
}

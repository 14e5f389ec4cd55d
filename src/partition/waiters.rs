//! Fetches parked on partitions: each sleeps until the bytes it misses have been written, and is woken once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use ottla_storage::log::WriteObserver;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Far more bytes than are ever missing: nothing wakes a waiter that has not been armed yet.
const NOT_ARMED: i64 = i64::MAX / 2;

/// One parked fetch; it may be parked on many partitions.
#[derive(Debug)]
pub struct Waiter {
    missing_bytes: AtomicI64,
    has_news: AtomicBool,
    notify: Notify,
}

impl Waiter {
    pub fn new() -> Arc<Waiter> {
        Arc::new(Waiter {
            missing_bytes: AtomicI64::new(NOT_ARMED),
            has_news: AtomicBool::new(false),
            notify: Notify::new(),
        })
    }

    /// Starts to count, before the caller looks how much is there: what is written from here on is either seen by the
    /// look or subtracted, so no wake-up is lost (one may come early).
    pub fn disarm(&self) {
        self.missing_bytes.store(NOT_ARMED, Ordering::SeqCst);
    }

    /// Sleep until `bytes` more have been written. False: so many have arrived since [`Waiter::disarm`].
    pub fn arm(&self, bytes: u64) -> bool {
        let bytes = i64::try_from(bytes).unwrap_or(NOT_ARMED).min(NOT_ARMED);
        self.missing_bytes.fetch_sub(NOT_ARMED - bytes, Ordering::SeqCst) > NOT_ARMED - bytes
    }

    /// Something other than data has changed: the leader epoch, or the topic is deleted.
    pub fn has_news(&self) -> bool {
        self.has_news.load(Ordering::SeqCst)
    }

    /// The fetch is to answer now, whatever there is.
    pub fn tell_news(&self) {
        self.has_news.store(true, Ordering::SeqCst);
        self.notify.notify_one();
    }

    pub async fn woken(&self) {
        self.notify.notified().await;
    }

    fn arrived(&self, bytes: i64) {
        let missing = self.missing_bytes.fetch_sub(bytes, Ordering::SeqCst);
        if missing > 0 && missing <= bytes {
            self.notify.notify_one();
        }
    }
}

/// The fetches that are parked on one partition.
#[derive(Debug, Default)]
pub struct Waiters {
    parked: Mutex<Parked>,
}

#[derive(Debug, Default)]
struct Parked {
    next_id: u64,
    by_id: BTreeMap<u64, Arc<Waiter>>,
}

impl Waiters {
    /// Parks `waiter` here until the guard is dropped.
    pub fn park(self: &Arc<Waiters>, waiter: &Arc<Waiter>) -> ParkedFetch {
        let mut parked = self.parked.lock();
        let id = parked.next_id;
        parked.next_id += 1;
        parked.by_id.insert(id, waiter.clone());
        ParkedFetch { waiters: self.clone(), id }
    }

    pub fn tell_news(&self) {
        for waiter in self.parked.lock().by_id.values() {
            waiter.tell_news();
        }
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.parked.lock().by_id.len()
    }
}

impl WriteObserver for Waiters {
    fn on_written(&self, _high_watermark: i64, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(NOT_ARMED);
        for waiter in self.parked.lock().by_id.values() {
            waiter.arrived(bytes);
        }
    }
}

/// A place among the [`Waiters`] of a partition.
#[derive(Debug)]
pub struct ParkedFetch {
    waiters: Arc<Waiters>,
    id: u64,
}

impl Drop for ParkedFetch {
    fn drop(&mut self) {
        self.waiters.parked.lock().by_id.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn is_woken(waiter: &Waiter) -> bool {
        tokio::time::timeout(Duration::from_millis(1), waiter.woken()).await.is_ok()
    }

    #[tokio::test]
    async fn a_fetch_is_woken_when_its_bytes_are_there_and_not_before() {
        let (waiters, waiter) = (Arc::new(Waiters::default()), Waiter::new());
        let _parked = waiters.park(&waiter);
        assert!(waiter.arm(100));
        waiters.on_written(1, 60);
        assert!(!is_woken(&waiter).await);
        waiters.on_written(2, 40);
        assert!(is_woken(&waiter).await);
        waiters.on_written(3, 1000);
        assert!(!is_woken(&waiter).await, "woken once");
    }

    #[tokio::test]
    async fn bytes_of_all_its_partitions_count() {
        let (first, second, waiter) = (Arc::new(Waiters::default()), Arc::new(Waiters::default()), Waiter::new());
        let _parked = [first.park(&waiter), second.park(&waiter)];
        assert!(waiter.arm(100));
        first.on_written(1, 50);
        second.on_written(1, 50);
        assert!(is_woken(&waiter).await);
    }

    #[test]
    fn bytes_that_arrive_before_it_sleeps_are_not_lost() {
        let (waiters, waiter) = (Arc::new(Waiters::default()), Waiter::new());
        let _parked = waiters.park(&waiter);
        waiters.on_written(1, 100);
        assert!(!waiter.arm(100));
        waiter.disarm();
        waiters.on_written(1, 99);
        assert!(waiter.arm(100));
    }

    #[tokio::test]
    async fn news_wake_all_and_dropped_fetches_leave_nothing_behind() {
        let (waiters, one, other) = (Arc::new(Waiters::default()), Waiter::new(), Waiter::new());
        let parked = [waiters.park(&one), waiters.park(&other)];
        assert!(one.arm(u64::MAX) && other.arm(1));
        waiters.tell_news();
        assert!(one.has_news() && other.has_news());
        assert!(is_woken(&one).await && is_woken(&other).await);
        drop(parked);
        assert_eq!(waiters.count(), 0);
    }
}

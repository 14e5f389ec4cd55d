//! How many connections there may be: `max.connections` and `max.connections.per.ip`, counted for all listeners.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;

use anyhow::Context as _;
use parking_lot::Mutex;
use tokio::sync::Notify;

#[derive(Debug)]
pub struct ConnectionLimits {
    max: usize,
    max_per_ip: usize,
    overrides: HashMap<IpAddr, usize>,
    counts: Mutex<Counts>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    per_ip: HashMap<IpAddr, usize>,
    refusal_logged: bool,
}

impl ConnectionLimits {
    /// `overrides`: addresses or host names, as in max.connections.per.ip.overrides.
    pub fn new(
        max: usize,
        max_per_ip: usize,
        overrides: &BTreeMap<String, usize>,
    ) -> anyhow::Result<Arc<ConnectionLimits>> {
        let mut by_address = HashMap::new();
        for (host, limit) in overrides {
            let addresses = (host.as_str(), 0).to_socket_addrs();
            let addresses = addresses.with_context(|| format!("max.connections.per.ip.overrides: {host}"))?;
            by_address.extend(addresses.map(|address| (address.ip().to_canonical(), *limit)));
        }
        Ok(Arc::new(ConnectionLimits {
            max,
            max_per_ip,
            overrides: by_address,
            counts: Mutex::default(),
            freed: Notify::new(),
        }))
    }

    /// Returns once there is room under `max.connections`.
    pub async fn room(&self) {
        loop {
            let freed = self.freed.notified();
            if self.counts.lock().total < self.max {
                return;
            }
            freed.await;
        }
    }

    /// Counts a connection until the permit is dropped; None if its address has too many. Said once in the log: who
    /// connects too often does so again and again.
    pub fn admit(self: &Arc<ConnectionLimits>, ip: IpAddr) -> Option<ConnectionPermit> {
        let ip = ip.to_canonical();
        let limit = self.overrides.get(&ip).copied().unwrap_or(self.max_per_ip);
        let mut counts = self.counts.lock();
        let count = counts.per_ip.get(&ip).copied().unwrap_or(0);
        if count >= limit {
            if !std::mem::replace(&mut counts.refusal_logged, true) {
                tracing::warn!(%ip, limit, "connection refused: the address has max.connections.per.ip (logged once)");
            }
            return None;
        }
        counts.per_ip.insert(ip, count + 1);
        counts.total += 1;
        Some(ConnectionPermit { limits: self.clone(), ip })
    }

    pub fn total(&self) -> usize {
        self.counts.lock().total
    }
}

#[derive(Debug)]
pub struct ConnectionPermit {
    limits: Arc<ConnectionLimits>,
    ip: IpAddr,
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut counts = self.limits.counts.lock();
        counts.total -= 1;
        if let Some(count) = counts.per_ip.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                counts.per_ip.remove(&self.ip);
            }
        }
        drop(counts);
        self.limits.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn an_address_has_its_own_limit() {
        let overrides = BTreeMap::from([("127.0.0.2".to_owned(), 1)]);
        let limits = ConnectionLimits::new(usize::MAX, 2, &overrides).unwrap();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = limits.admit(ip("127.0.0.1")).unwrap();
        let _second = limits.admit(ip("::ffff:127.0.0.1")).expect("the same address, written otherwise");
        assert!(limits.admit(ip("127.0.0.1")).is_none());
        let _other = limits.admit(ip("127.0.0.2")).unwrap();
        assert!(limits.admit(ip("127.0.0.2")).is_none());
        drop(first);
        assert!(limits.admit(ip("127.0.0.1")).is_some());
        assert_eq!(limits.total(), 2);
    }

    #[test]
    fn room_comes_back_when_a_connection_closes() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let limits = ConnectionLimits::new(1, 9, &BTreeMap::new()).unwrap();
        let permit = limits.admit("::1".parse().unwrap()).unwrap();
        runtime.block_on(async {
            let mut room = std::pin::pin!(limits.room());
            assert!(room.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            drop(permit);
            room.await;
        });
    }
}

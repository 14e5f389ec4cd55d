//! log.cleaner.io.max.bytes.per.second: how long to wait after so many bytes. The time comes from the caller, who also
//! does the waiting.

use std::time::{Duration, Instant};

/// Shared by all cleaner threads.
#[derive(Debug)]
pub struct Throttle {
    bytes_per_second: f64,
    /// When all that was read and written so far is paid for.
    paid_at: Option<Instant>,
}

impl Throttle {
    pub fn new(bytes_per_second: f64) -> Throttle {
        Throttle { bytes_per_second: bytes_per_second.max(1.0), paid_at: None }
    }

    /// `bytes` were read or written: how long to wait before the next.
    pub fn spend(&mut self, bytes: usize, now: Instant) -> Duration {
        let seconds = bytes as f64 / self.bytes_per_second;
        let paid_at = self.paid_at.unwrap_or(now).max(now) + Duration::from_secs_f64(seconds);
        self.paid_at = Some(paid_at);
        paid_at - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_add_up_and_idle_time_is_not_saved() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut throttle = Throttle::new(1000.0);
        assert_eq!(throttle.spend(500, at(0)), Duration::from_millis(500));
        assert_eq!(throttle.spend(500, at(100)), Duration::from_millis(900));
        assert_eq!(throttle.spend(100, at(5000)), Duration::from_millis(100));
        assert_eq!(Throttle::new(f64::MAX).spend(1 << 30, at(0)), Duration::ZERO);
    }
}

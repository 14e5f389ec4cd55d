//! When to close a connection that does nothing (`connections.max.idle.ms`). Traffic only sets a flag: the clock is
//! asked when the timer fires.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// Traffic is looked for so many times in the allowed time, which is how exactly it is kept.
const LOOKS: u32 = 8;
/// What "never" is for a timer.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

#[derive(Debug)]
pub struct IdleTimer {
    period: Duration,
    timer: Pin<Box<Sleep>>,
    idle_periods: u32,
}

impl IdleTimer {
    pub fn new(max_idle: Duration) -> IdleTimer {
        let period = max_idle.min(FOREVER) / LOOKS;
        IdleTimer { period, timer: Box::pin(sleep(period)), idle_periods: 0 }
    }

    /// Ready: the time is over. `active`: there was traffic; reset when it has been taken into account.
    pub fn poll(&mut self, cx: &mut Context<'_>, active: &mut bool) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            self.idle_periods = if std::mem::take(active) { 0 } else { self.idle_periods + 1 };
            if self.idle_periods >= LOOKS {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(Instant::now() + self.period);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[test]
    fn only_silence_ends_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let begun = Instant::now();
            let mut idle = IdleTimer::new(Duration::from_millis(40));
            let mut active = true;
            poll_fn(|cx| {
                active |= begun.elapsed() < Duration::from_millis(100);
                idle.poll(cx, &mut active)
            })
            .await;
            assert!(begun.elapsed() >= Duration::from_millis(140));
        });
    }
}

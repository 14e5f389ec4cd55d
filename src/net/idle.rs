//! When a connection has been idle long enough to give its buffers back, and when to close it
//! (`connections.max.idle.ms`). Traffic only sets a flag: the clock is asked when the timer fires.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// How often traffic is looked for, and so the time without it after which buffers go.
const PERIOD: Duration = Duration::from_secs(1);
/// What "never" is for a timer.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

#[derive(Debug)]
pub struct IdleTimer {
    max_idle: Duration,
    timer: Pin<Box<Sleep>>,
    resting: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Nothing happened for a while: give memory back.
    Rest,
    /// Nothing happened for `max_idle`.
    Close,
}

impl IdleTimer {
    pub fn new(max_idle: Duration) -> IdleTimer {
        let max_idle = max_idle.min(FOREVER);
        IdleTimer { max_idle, timer: Box::pin(sleep(max_idle.min(PERIOD))), resting: false }
    }

    /// `active`: there was traffic since the last call; reset when it has been taken into account. Call again after it
    /// was ready.
    pub fn poll(&mut self, cx: &mut Context<'_>, active: &mut bool) -> Poll<Idle> {
        if self.resting && *active {
            self.resting = false;
            self.fire_in(self.max_idle.min(PERIOD));
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if std::mem::take(active) {
                self.fire_in(self.max_idle.min(PERIOD));
            } else if self.resting || self.max_idle <= PERIOD {
                return Poll::Ready(Idle::Close);
            } else {
                self.resting = true;
                self.fire_in(self.max_idle - PERIOD);
                return Poll::Ready(Idle::Rest);
            }
        }
    }

    fn fire_in(&mut self, after: Duration) {
        self.timer.as_mut().reset(Instant::now() + after);
    }
}

//! One io_uring a runtime thread: operations are queued by the tasks of the thread, submitted together, and wake
//! their tasks when done. With `chunk.rs` the only file with `unsafe`. What an operation is lives in `op.rs`.
//!
//! A task of its own drives the ring. It runs when something was queued, which puts it behind the tasks that are
//! already runnable, so that what they queue goes along with one `io_uring_enter`; and when the eventfd says that
//! something completed. Completions appear only inside `io_uring_enter` (DEFER_TASKRUN), where the kernel says so
//! by a flag in shared memory.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use io_uring::IoUring;
use rustix::event::EventfdFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use super::op::Op;
use super::plain::named;
use super::{BLOCK, Backend, ChunkPool, Io, OpenOptions};
use crate::Result;

/// Operations that the kernel works on at a time; further ones wait. The completion queue has twice the room, so it
/// never overflows.
const ENTRIES: u32 = 128;

/// So many queued operations are submitted at once, not when the driver runs.
const SUBMIT_AT: usize = 32;

thread_local! {
    static RING: RefCell<Option<Rc<Ring>>> = const { RefCell::new(None) };
}

/// Gives this thread (a current_thread tokio runtime inside a LocalSet) its own ring, until the guard is dropped.
/// Without it `File`'s async operations fall back to plain system calls. Call inside the runtime's context.
pub fn install_ring(io: &Io) -> Result<RingGuard> {
    #[cfg(any(test, feature = "sim"))]
    if let super::Disk::Simulated(disk) = &io.disk {
        return Ok(RingGuard { installed: None, _simulated: Some(super::sim::install(disk)), not_send: PhantomData });
    }
    if io.backend() == Backend::Plain {
        return Ok(RingGuard::new(None));
    }
    let (ring, eventfd) = named("set up", Path::new("io_uring"), Ring::with_eventfd())?;
    let ring = Rc::new(ring);
    let driver = tokio::task::spawn_local(drive(ring.clone(), eventfd));
    let before = RING.replace(Some(ring.clone()));
    assert!(before.is_none(), "this thread has a ring already");
    Ok(RingGuard::new(Some((ring, driver))))
}

/// Keeps this thread's ring installed. Dropping it waits for the operations in flight.
#[must_use = "the ring is gone when the guard is dropped"]
pub struct RingGuard {
    installed: Option<(Rc<Ring>, JoinHandle<()>)>,
    #[cfg(any(test, feature = "sim"))]
    _simulated: Option<super::sim::QueueGuard>,
    not_send: PhantomData<*const ()>,
}

impl RingGuard {
    fn new(installed: Option<(Rc<Ring>, JoinHandle<()>)>) -> RingGuard {
        RingGuard {
            installed,
            #[cfg(any(test, feature = "sim"))]
            _simulated: None,
            not_send: PhantomData,
        }
    }
}

impl Drop for RingGuard {
    fn drop(&mut self) {
        if let Some((ring, driver)) = self.installed.take() {
            let _ = RING.try_with(|current| current.replace(None));
            driver.abort();
            ring.finish();
        }
    }
}

/// Carries `op` out on this thread's ring, or with blocking system calls if there is none.
pub(super) async fn run(op: Op) -> (Op, io::Result<()>) {
    match RING.with_borrow(Option::clone) {
        Some(ring) => {
            let slot = ring.start(op);
            InFlight { ring, slot: Some(slot) }.await
        }
        None => op.run(),
    }
}

/// Wakes up for what was queued and for what completed.
async fn drive(ring: Rc<Ring>, eventfd: AsyncFd<OwnedFd>) {
    poll_fn(|context| {
        // The eventfd is never read: each signal is a new edge for epoll, whatever the counter says.
        while let Poll::Ready(Ok(mut ready)) = eventfd.poll_read_ready(context) {
            ready.clear_ready();
        }
        ring.turn(Some(context.waker()));
        Poll::Pending
    })
    .await
}

struct Ring {
    state: RefCell<State>,
    /// The driver will run anyway.
    driver_woken: Cell<bool>,
}

struct State {
    uring: IoUring,
    /// Operations by number; the kernel hands the number back.
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// Not yet with the kernel, in the order they came.
    queued: VecDeque<usize>,
    /// In the submission queue or with the kernel.
    in_flight: u32,
    driver: Option<Waker>,
}

enum Slot {
    Free,
    /// Queued or in flight. Nobody waits if the future was dropped; the operation is carried out all the same.
    Busy {
        op: Op,
        waiter: Waiter,
    },
    Done {
        op: Op,
        result: io::Result<()>,
    },
}

enum Waiter {
    NotPolled,
    Task(Waker),
    Gone,
}

/// The future of an operation in a slot.
struct InFlight {
    ring: Rc<Ring>,
    slot: Option<usize>,
}

impl Future for InFlight {
    type Output = (Op, io::Result<()>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let slot = self.slot.expect("not polled after it is done");
        let done = self.ring.state.borrow_mut().poll(slot, context);
        if done.is_ready() {
            self.slot = None;
        }
        done
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            let abandoned = self.ring.state.borrow_mut().abandon(slot);
            drop(abandoned); // after the borrow: it may own anything
        }
    }
}

impl Ring {
    fn new() -> io::Result<Ring> {
        let state = State {
            uring: set_up()?,
            slots: Vec::new(),
            free: Vec::new(),
            queued: VecDeque::new(),
            in_flight: 0,
            driver: None,
        };
        Ok(Ring { state: RefCell::new(state), driver_woken: Cell::new(false) })
    }

    fn with_eventfd() -> io::Result<(Ring, AsyncFd<OwnedFd>)> {
        let ring = Ring::new()?;
        let eventfd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        ring.state.borrow().uring.submitter().register_eventfd(eventfd.as_raw_fd())?;
        // SAFETY: the descriptor is owned by the `AsyncFd` from here on, and nothing takes or closes it before.
        let eventfd = unsafe { AsyncFd::register_with_interest(eventfd, Interest::READABLE) }?;
        Ok((ring, eventfd))
    }

    /// Queues `op`; returns its slot.
    fn start(&self, op: Op) -> usize {
        let mut state = self.state.borrow_mut();
        let slot = state.insert(op);
        if state.queued.len() >= SUBMIT_AT && state.in_flight < ENTRIES {
            drop(state);
            self.turn(None);
        } else {
            self.wake_driver(state.driver.as_ref());
        }
        slot
    }

    fn wake_driver(&self, driver: Option<&Waker>) {
        if let Some(driver) = driver
            && !self.driver_woken.replace(true)
        {
            driver.wake_by_ref();
        }
    }

    /// Submits what is queued and takes in what completed, in at most one system call; none if there is neither.
    fn turn(&self, driver: Option<&Waker>) {
        let mut state = self.state.borrow_mut();
        if let Some(driver) = driver {
            self.driver_woken.set(false);
            state.driver.get_or_insert_with(|| driver.clone()).clone_from(driver);
        }
        state.submit(0);
        let finished = state.reap();
        if state.has_more_to_submit() {
            self.wake_driver(state.driver.as_ref());
        }
        drop(state);
        finished.into_iter().for_each(Finished::announce);
    }

    /// Waits until nothing is queued or in flight.
    fn finish(&self) {
        loop {
            let mut state = self.state.borrow_mut();
            if state.queued.is_empty() && state.in_flight == 0 {
                return;
            }
            state.submit(1);
            let finished = state.reap();
            drop(state);
            finished.into_iter().for_each(Finished::announce);
        }
    }
}

impl Drop for Ring {
    /// The kernel may still write to the memory that the operations own.
    fn drop(&mut self) {
        self.finish();
    }
}

/// What is left of an operation after its slot: a task to wake, or what nobody waits for, to be dropped.
enum Finished {
    Wake(Waker),
    Abandoned(#[expect(dead_code, reason = "held to be dropped outside the borrow of the ring")] Op),
}

impl Finished {
    fn announce(self) {
        if let Finished::Wake(task) = self {
            task.wake();
        }
    }
}

impl State {
    fn insert(&mut self, op: Op) -> usize {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::Free);
            self.slots.len() - 1
        });
        self.slots[slot] = Slot::Busy { op, waiter: Waiter::NotPolled };
        self.queued.push_back(slot);
        slot
    }

    fn release(&mut self, slot: usize) -> Slot {
        self.free.push(slot);
        std::mem::replace(&mut self.slots[slot], Slot::Free)
    }

    fn poll(&mut self, slot: usize, context: &mut Context<'_>) -> Poll<(Op, io::Result<()>)> {
        if let Slot::Busy { waiter, .. } = &mut self.slots[slot] {
            match waiter {
                Waiter::Task(task) => task.clone_from(context.waker()),
                _ => *waiter = Waiter::Task(context.waker().clone()),
            }
            return Poll::Pending;
        }
        match self.release(slot) {
            Slot::Done { op, result } => Poll::Ready((op, result)),
            _ => unreachable!("a slot is free only after its future is done"),
        }
    }

    /// The future of `slot` is dropped: a finished operation goes with it, any other is carried out.
    fn abandon(&mut self, slot: usize) -> Option<Slot> {
        match &mut self.slots[slot] {
            Slot::Busy { waiter, .. } => {
                *waiter = Waiter::Gone;
                None
            }
            _ => Some(self.release(slot)),
        }
    }

    fn has_more_to_submit(&mut self) -> bool {
        !self.uring.submission().is_empty() || (!self.queued.is_empty() && self.in_flight < ENTRIES)
    }

    /// Hands queued operations to the kernel, as many as it takes, and has it publish what completed; waits for
    /// `wait_for` completions.
    fn submit(&mut self, wait_for: usize) {
        while self.in_flight < ENTRIES
            && let Some(slot) = self.queued.pop_front()
        {
            let Slot::Busy { op, .. } = &mut self.slots[slot] else { unreachable!("only busy slots are queued") };
            let entry = op.entry().user_data(slot as u64);
            // SAFETY: the entry refers to memory and a descriptor that `op` owns, and `op` stays in its slot until
            // the completion is reaped: futures never take a busy slot's operation, and `Ring::drop` waits for all.
            // Moving `op` with the slots moves none of it: the parts, the iovecs and the buffer are behind pointers.
            let pushed = unsafe { self.uring.submission().push(&entry) };
            pushed.expect("the submission queue has room for all that may be in flight");
            self.in_flight += 1;
        }
        let submission = self.uring.submission();
        let nothing_to_do = submission.is_empty() && !submission.taskrun() && !submission.cq_overflow();
        drop(submission);
        if nothing_to_do && wait_for == 0 {
            return;
        }
        if let Err(e) = self.uring.submit_and_wait(wait_for) {
            match e.raw_os_error() {
                // What was not taken stays in the submission queue for the next turn.
                Some(libc::EINTR | libc::EAGAIN | libc::EBUSY) => {}
                _ => {
                    // No operation on this ring can ever finish, and its memory cannot be freed.
                    tracing::error!("io_uring_enter: {e}");
                    std::process::abort();
                }
            }
        }
    }

    /// Takes in the completions that are there; operations that have something left are queued again.
    fn reap(&mut self) -> Vec<Finished> {
        let State { uring, slots, free, queued, in_flight, .. } = self;
        let mut finished = Vec::new();
        for completion in uring.completion() {
            *in_flight -= 1;
            let number = completion.user_data() as usize;
            let answer = match completion.result() {
                error if error < 0 => Err(io::Error::from_raw_os_error(-error)),
                moved => Ok(moved as usize),
            };
            let slot = &mut slots[number];
            let Slot::Busy { op, .. } = slot else { unreachable!("only busy slots complete") };
            match op.advance(answer) {
                None => queued.push_back(number),
                Some(result) => finished.extend(slot.finish(result)),
            }
            if matches!(slot, Slot::Free) {
                free.push(number);
            }
        }
        finished
    }
}

impl Slot {
    /// From busy to done, or to free if nobody waits.
    fn finish(&mut self, result: io::Result<()>) -> Option<Finished> {
        let Slot::Busy { op, waiter } = std::mem::replace(self, Slot::Free) else {
            unreachable!("only busy slots complete")
        };
        if let Waiter::Gone = waiter {
            return Some(Finished::Abandoned(op));
        }
        *self = Slot::Done { op, result };
        match waiter {
            Waiter::Task(task) => Some(Finished::Wake(task)),
            _ => None, // the first poll will find it done
        }
    }
}

/// The cheapest ring that the kernel has: completions without interrupts since Linux 6.1, cheaper ones since 5.19.
fn set_up() -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .build(ENTRIES)
        .or_else(|_| IoUring::builder().setup_coop_taskrun().setup_taskrun_flag().setup_submit_all().build(ENTRIES))
        .or_else(|_| IoUring::new(ENTRIES))
}

/// Tries in `dir` all that the backend needs: a ring, O_DIRECT, allocated space, a write and a read on the ring.
pub(super) fn probe(io: &Io, dir: &Path) -> Result<()> {
    let path = dir.join(format!(".ottla-probe-{}", std::process::id()));
    let probed = probe_file(io, &path);
    io.remove_file(&path).and(probed)
}

fn probe_file(io: &Io, path: &Path) -> Result<()> {
    let ring = named("set up io_uring for", path, Ring::new())?;
    let file = io.open(path, OpenOptions { create: true, direct: true, ..OpenOptions::default() })?;
    if !file.is_direct() {
        return named("open with O_DIRECT", path, Err(io::ErrorKind::Unsupported.into()));
    }
    file.allocate(2 * BLOCK as u64)?;
    let content = [0xa5; BLOCK];
    let mut writer = ChunkPool::new(0).take(BLOCK);
    writer.append(&content);
    ring.probe_op(Op::write(&file, vec![writer.direct_slice(0).into()], BLOCK as u64, true))?;
    let read = ring.probe_op(Op::read(&file, BLOCK as u64, BLOCK))?;
    let verified = if read[..] == content { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) };
    named("read back", path, verified)
}

impl Ring {
    /// Carries out one operation, waiting for it.
    fn probe_op(&self, op: Op) -> Result<Bytes> {
        let slot = self.start(op);
        self.finish();
        let Slot::Done { op, result } = self.state.borrow_mut().release(slot) else {
            unreachable!("all that was started is done")
        };
        op.file().named(op.name(), result).map(|()| op.into_bytes())
    }
}

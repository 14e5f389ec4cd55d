//! Operations of one thread's tasks on the simulated disk, carried out one at a time in an order by the seed, so that
//! writers overtake each other as they do on a real disk. The counterpart of `uring.rs`.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Poll, Waker};

use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_local, yield_now};

use super::super::op::Op;
use super::SimDisk;

thread_local! {
    static QUEUE: RefCell<Option<Rc<RefCell<Queue>>>> = const { RefCell::new(None) };
}

struct Queue {
    disk: SimDisk,
    jobs: Vec<Job>,
    driver: Option<Waker>,
}

enum Job {
    Transfer {
        op: Op,
        /// It began before the crash, if there was one.
        in_time: bool,
        answer: oneshot::Sender<(Op, io::Result<()>)>,
    },
    Call(Box<dyn FnOnce()>),
}

/// Gives this thread its queue, until the guard is dropped.
pub(in super::super) fn install(disk: &SimDisk) -> QueueGuard {
    let queue = Rc::new(RefCell::new(Queue { disk: disk.clone(), jobs: Vec::new(), driver: None }));
    let before = QUEUE.replace(Some(queue.clone()));
    assert!(before.is_none(), "this thread has a queue already");
    QueueGuard { driver: spawn_local(drive(queue)) }
}

#[derive(Debug)]
pub(in super::super) struct QueueGuard {
    driver: JoinHandle<()>,
}

impl Drop for QueueGuard {
    /// What is still queued is in flight for good.
    fn drop(&mut self) {
        self.driver.abort();
        if let Some(queue) = QUEUE.take() {
            let Queue { disk, jobs, .. } = &mut *queue.borrow_mut();
            jobs.drain(..).for_each(|job| job.leave_in_flight(disk));
        }
    }
}

/// Carries `op` out when its turn comes; at once on a thread without a queue.
pub(in super::super) async fn run(op: Op) -> (Op, io::Result<()>) {
    let Some(queue) = QUEUE.with_borrow(Option::clone) else { return op.run() };
    let (answer, answered) = oneshot::channel();
    let in_time = !queue.borrow().disk.has_crashed();
    push(&queue, Job::Transfer { op, in_time, answer });
    answered.await.expect("the guard outlives the tasks")
}

/// Does blocking work when its turn comes.
pub(in super::super) async fn in_turn<T: 'static>(work: impl FnOnce() -> T + 'static) -> T {
    let Some(queue) = QUEUE.with_borrow(Option::clone) else { return work() };
    let (answer, answered) = oneshot::channel();
    push(&queue, Job::Call(Box::new(move || drop(answer.send(work())))));
    answered.await.expect("the guard outlives the tasks")
}

fn push(queue: &RefCell<Queue>, job: Job) {
    let mut queue = queue.borrow_mut();
    queue.jobs.push(job);
    if let Some(driver) = queue.driver.take() {
        driver.wake();
    }
}

async fn drive(queue: Rc<RefCell<Queue>>) {
    loop {
        poll_fn(|context| {
            let mut queue = queue.borrow_mut();
            if queue.jobs.is_empty() {
                queue.driver = Some(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        // Tasks get a chance to add to what is there.
        let patience = queue.borrow().disk.state.lock().rng.below(4);
        for _ in 0..patience {
            yield_now().await;
        }
        let (job, disk) = {
            let mut queue = queue.borrow_mut();
            let pick = queue.disk.state.lock().rng.below(queue.jobs.len() as u64) as usize;
            (queue.jobs.swap_remove(pick), queue.disk.clone())
        };
        job.carry_out(&disk);
    }
}

impl Job {
    fn carry_out(self, disk: &SimDisk) {
        match self {
            Job::Call(work) => work(),
            Job::Transfer { op, in_time, answer } => {
                let crashed = disk.has_crashed();
                let pending = if in_time { op.pending_write() } else { None };
                let done = op.run();
                if let Some((file, pos, bytes)) = pending.filter(|_| crashed || disk.has_crashed()) {
                    disk.note_in_flight(&file, pos, bytes);
                }
                let _ = answer.send(done);
            }
        }
    }

    fn leave_in_flight(self, disk: &SimDisk) {
        if let Job::Transfer { op, in_time: true, .. } = self
            && let Some((file, pos, bytes)) = op.pending_write()
        {
            disk.note_in_flight(&file, pos, bytes);
        }
    }
}

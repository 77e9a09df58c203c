//! Where the answers that the journal's thread sets free are given out: on the thread whose clients wait for them.
//!
//! To wake a task of another thread costs a system call each time. So all of a worker's clients whose increments one sync has
//! covered are told by one task of that worker, which is woken once.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::reply::Waiter;

/// Those who wait for one sync, by the thread that looks after them.
pub(super) type Waiters = Vec<(Arc<Desk>, Vec<Waiter>)>;

/// One thread's.
#[derive(Default)]
pub(super) struct Desk {
    /// Those who can be told, and whether what they wait for is on disk.
    told: Mutex<Vec<(Vec<Waiter>, bool)>>,
    work: Notify,
    /// Its task has ended.
    over: AtomicBool,
}

thread_local! {
    static OWN: RefCell<Option<Arc<Desk>>> = const { RefCell::new(None) };
}

/// Whatever ends the task of a desk, nobody is left there.
struct Clerk(Arc<Desk>);

impl Drop for Clerk {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::SeqCst);
        self.0.tell();
    }
}

impl Desk {
    /// That of this thread, which runs tasks.
    fn own() -> Arc<Self> {
        OWN.with_borrow_mut(|own| {
            if let Some(desk) = own.as_ref().filter(|desk| !desk.over.load(Ordering::Relaxed)) {
                return desk.clone();
            }
            let desk = Arc::new(Self::default());
            let clerk = Clerk(desk.clone());
            Handle::current().spawn(async move {
                loop {
                    clerk.0.work.notified().await;
                    clerk.0.tell();
                }
            });
            own.insert(desk).clone()
        })
    }

    /// One more waits.
    pub(super) fn line_up(waiters: &mut Waiters, waiter: Waiter) {
        let own = Self::own();
        match waiters.iter_mut().find(|(desk, _)| Arc::ptr_eq(desk, &own)) {
            Some((_, line)) => line.push(waiter),
            None => waiters.push((own, vec![waiter])),
        }
    }

    /// What they wait for is on disk, or cannot be put there.
    pub(super) fn tell_all(waiters: Waiters, written: bool) {
        for (desk, line) in waiters {
            desk.told.lock().unwrap_or_else(PoisonError::into_inner).push((line, written));
            if desk.over.load(Ordering::SeqCst) {
                desk.tell();
            } else {
                desk.work.notify_one();
            }
        }
    }

    fn tell(&self) {
        let told = std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner));
        for (line, written) in told {
            line.into_iter().for_each(if written { Waiter::written } else { Waiter::unwritten });
        }
    }
}

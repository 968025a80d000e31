//! The threads that serve connections: one runtime for each, so that a connection, its requests, their connections to
//! vendors and their timers stay on one core from beginning to end. Nothing is stolen, and nothing wakes another thread.

use std::future::Future;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// All of them. They end when this is dropped; what still runs on them is dropped with them.
pub(super) struct Workers {
    workers: Box<[Worker]>,
    stop: DropGuard,
}

struct Worker {
    handle: Handle,
    /// Connections it serves.
    load: Arc<AtomicUsize>,
    ended: oneshot::Receiver<()>,
}

/// A place on the worker that has the fewest connections; given back when dropped.
pub(super) struct Place {
    worker: usize,
    handle: Handle,
    load: Arc<AtomicUsize>,
}

impl Workers {
    /// Starts so many.
    pub(super) fn start(count: NonZeroUsize) -> io::Result<Self> {
        let stop = CancellationToken::new();
        // Those that were started end with the guard if another cannot be.
        let guard = stop.clone().drop_guard();
        let workers = (0..count.get()).map(|number| Worker::start(number, stop.clone())).collect::<io::Result<_>>()?;
        Ok(Self { workers, stop: guard })
    }

    /// Where the next connection goes: new ones to those that have few, so that a long-lived crowd spreads evenly.
    pub(super) fn place(&self) -> Place {
        let loads = self.workers.iter().map(|worker| worker.load.load(Ordering::Relaxed)).enumerate();
        let (worker, _) = loads.min_by_key(|(_, load)| *load).expect("there is at least one worker");
        let Worker { handle, load, .. } = &self.workers[worker];
        load.fetch_add(1, Ordering::Relaxed);
        Place { worker, handle: handle.clone(), load: Arc::clone(load) }
    }

    /// Ends the threads. What has not ended by itself is dropped.
    pub(super) async fn shutdown(self) {
        let Self { workers, stop } = self;
        drop(stop);
        for worker in workers {
            if worker.ended.await.is_err() {
                tracing::error!("a worker ended in a panic");
            }
        }
    }
}

impl Worker {
    fn start(number: usize, stop: CancellationToken) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().thread_name("lookup").build()?;
        let (handle, (end, ended)) = (runtime.handle().clone(), oneshot::channel());
        thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            runtime.block_on(stop.cancelled());
            // A name that is being looked up cannot be called off: nobody waits for it.
            runtime.shutdown_background();
            // Nobody may be there any more.
            let _ = end.send(());
        })?;
        Ok(Self { handle, load: Arc::default(), ended })
    }
}

impl Place {
    /// Which worker it is, counted from 0.
    pub(super) fn worker(&self) -> usize {
        self.worker
    }

    /// Runs a task there.
    pub(super) fn spawn(self, tasks: &TaskTracker, task: impl Future<Output = ()> + Send + 'static) {
        let handle = self.handle.clone();
        // Boxed, or it would take its size twice: before it begins and while it runs.
        let task = Box::pin(task);
        tasks.spawn_on(
            async move {
                let _place = self;
                task.await;
            },
            &handle,
        );
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.load.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(count: usize) -> Workers {
        Workers::start(NonZeroUsize::new(count).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn connections_spread_evenly_and_stay_on_their_thread() {
        let workers = workers(3);
        let places: Vec<Place> = (0..6).map(|_| workers.place()).collect();
        let mut numbers: Vec<usize> = places.iter().map(Place::worker).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 0, 1, 1, 2, 2]);
        let tasks = TaskTracker::new();
        let (sender, mut names) = tokio::sync::mpsc::unbounded_channel();
        for place in places {
            let (sender, number) = (sender.clone(), place.worker());
            place.spawn(&tasks, async move {
                for _ in 0..3 {
                    let _ = sender.send((number, thread::current().name().map(str::to_owned)));
                    tokio::task::yield_now().await;
                }
            });
        }
        drop(sender);
        while let Some((number, name)) = names.recv().await {
            assert_eq!(name, Some(format!("worker-{number}")));
        }
        tasks.close();
        tasks.wait().await;
        assert!(workers.workers.iter().all(|worker| worker.load.load(Ordering::Relaxed) == 0));
        workers.shutdown().await;
    }

    #[tokio::test]
    async fn what_does_not_end_is_dropped_and_its_place_is_free() {
        let workers = workers(1);
        let (tasks, (alive, gone)) = (TaskTracker::new(), oneshot::channel::<()>());
        let place = workers.place();
        let load = Arc::clone(&place.load);
        place.spawn(&tasks, async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        workers.shutdown().await;
        assert!(gone.await.is_err());
        assert_eq!(load.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_panic_costs_its_own_task_alone() {
        let workers = workers(1);
        let tasks = TaskTracker::new();
        workers.place().spawn(&tasks, async { panic!("on purpose") });
        let (sender, received) = oneshot::channel();
        workers.place().spawn(&tasks, async move {
            let _ = sender.send(7);
        });
        assert_eq!(received.await.unwrap(), 7);
        tasks.close();
        tasks.wait().await;
        workers.shutdown().await;
    }
}

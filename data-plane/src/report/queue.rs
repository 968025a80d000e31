//! Records between the requests and the spool. Putting one there takes no lock that busy threads share, makes no
//! allocation and, but for the first record after a pause, wakes nobody.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::pipeline::account::Record;
use crate::stripe::{self, Apart, STRIPES};

/// Records of one thread at most; one is a few hundred bytes.
const QUEUE: usize = 16_384;
/// Records in one batch at most; far below the largest message.
pub(super) const BATCH: usize = 512;
/// How long a batch waits for company.
const GATHER: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(super) struct Queue {
    parts: [Apart<Mutex<Vec<Record>>>; STRIPES],
    /// There is something.
    some: Notify,
    /// There is a batch.
    full: Notify,
}

impl Queue {
    /// Whether there was room.
    pub(super) fn put(&self, record: Record) -> bool {
        let mut part = lock(&self.parts[stripe::mine()].0);
        if part.len() == QUEUE {
            return false;
        }
        part.push(record);
        let waiting = part.len();
        drop(part);
        if waiting == 1 {
            self.some.notify_one();
        }
        if waiting == BATCH {
            self.full.notify_one();
        }
        true
    }

    /// Until there is something and it has had company, or a batch; whether it was told to stop.
    pub(super) async fn gather(&self, stop: &CancellationToken) -> bool {
        tokio::select! {
            biased;
            () = self.some.notified() => {}
            () = stop.cancelled() => return true,
        }
        tokio::select! {
            () = sleep(GATHER) => {}
            () = self.full.notified() => {}
            () = stop.cancelled() => {}
        }
        false
    }

    /// All that is there, in batches.
    pub(super) fn take(&self) -> Vec<Vec<Record>> {
        let mut batches: Vec<Vec<Record>> = Vec::new();
        for part in &self.parts {
            let mut part = lock(&part.0);
            let capacity = part.len();
            let mut records = mem::replace(&mut *part, Vec::with_capacity(capacity));
            drop(part);
            while !records.is_empty() {
                match batches.last_mut().filter(|batch| batch.len() < BATCH) {
                    Some(batch) => batch.extend(records.drain(..records.len().min(BATCH - batch.len()))),
                    None if records.len() <= BATCH => batches.push(mem::take(&mut records)),
                    None => batches.push(records.drain(..BATCH).collect()),
                }
            }
        }
        batches
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A list of records is whole after every statement: a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::thread;

    use futures_util::FutureExt as _;
    use http::Method;
    use uuid::Uuid;

    use super::*;
    use crate::pipeline::account::Outcome;

    pub(crate) fn record(id: u128) -> Record {
        Record {
            id: Uuid::from_u128(id),
            started_at_us: 1,
            endpoint_id: Uuid::nil(),
            provider_id: None,
            api_key_id: Uuid::nil(),
            admitted: true,
            outcome: Outcome::Answered,
            refusal: None,
            status: None,
            upstream_status: None,
            requested_model: None,
            served_model: None,
            input_tokens: None,
            output_tokens: None,
            cached_input_tokens: None,
            cache_write_tokens: None,
            reasoning_tokens: None,
            input_audio_tokens: None,
            output_audio_tokens: None,
            estimated: false,
            finish_reason: None,
            tool_calls: None,
            error_type: None,
            first_token_us: None,
            duration_us: 0,
            first_byte_us: None,
            streamed: false,
            request_bytes: 0,
            response_bytes: 0,
            method: Method::GET,
            path: "/".into(),
            revision: 1,
            cost_nanos: None,
            price_version: None,
            unpriced: false,
            start: None,
            denial: None,
            exceeded: None,
            trace: None,
            attempts: Vec::new(),
        }
    }

    #[test]
    fn what_many_threads_put_is_taken_once_in_batches() {
        let queue = Arc::new(Queue::default());
        let threads: Vec<_> = (0..5_u128)
            .map(|thread| {
                let queue = Arc::clone(&queue);
                thread::spawn(move || (0..700).filter(|number| queue.put(record(thread * 1000 + number))).count())
            })
            .collect();
        let mut taken = Vec::new();
        while threads.iter().any(|thread| !thread.is_finished()) {
            taken.extend(queue.take());
        }
        let put: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        taken.extend(queue.take());
        assert!(taken.iter().all(|batch| (1..=BATCH).contains(&batch.len())));
        let ids: Vec<Uuid> = taken.iter().flatten().map(|record| record.id).collect();
        assert_eq!(ids.len(), put);
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), put);
        assert_eq!(put, 3_500, "there was room for all");
    }

    #[test]
    fn a_full_queue_says_so() {
        let queue = Queue::default();
        let room = QUEUE;
        assert!((0..room as u128).all(|id| queue.put(record(id))));
        assert!(!queue.put(record(0)));
        let batches = queue.take();
        assert_eq!(batches.iter().map(Vec::len).sum::<usize>(), room);
        assert!(queue.put(record(0)));
    }

    #[tokio::test]
    async fn a_record_waits_for_company_and_a_batch_for_nobody() {
        let queue = Queue::default();
        let stop = CancellationToken::new();
        assert_eq!(queue.gather(&stop).now_or_never(), None, "there is nothing");
        queue.put(record(1));
        assert_eq!(queue.gather(&stop).now_or_never(), None, "more may come");
        queue.take();
        queue.put(record(1));
        assert!(!queue.gather(&stop).await, "nothing more came");
        queue.take();
        assert!((0..BATCH as u128).all(|id| queue.put(record(id))));
        assert_eq!(queue.gather(&stop).now_or_never(), Some(false));
        stop.cancel();
        assert_eq!(queue.gather(&stop).now_or_never(), Some(true));
    }
}

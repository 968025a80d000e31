//! What is written down before the first byte goes to a vendor, so that a request outlives the process that carries it:
//! its start entry. Knows not where that is kept.

use uuid::Uuid;

/// A request that is about to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// Serves it.
    pub worker: usize,
    /// The request id.
    pub id: Uuid,
    /// Unix microseconds.
    pub started_at_us: u64,
    /// The endpoint called.
    pub endpoint_id: Uuid,
    /// The key that opened it.
    pub api_key_id: Uuid,
    /// Where it goes first.
    pub provider_id: Uuid,
    /// Of the configuration that decided.
    pub revision: u64,
    /// Of the request.
    pub method: &'a str,
    /// As far as it is known by now; `None`: the body has not told yet.
    pub model: Option<&'a str>,
    /// After the context, without the query.
    pub path: &'a str,
}

/// Where the start of a request stands; settled once its record is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Serves it.
    pub worker: u32,
    /// Place in that worker's file.
    pub slot: u32,
    /// 1, 2, 3, ... within the worker.
    pub number: u64,
}

/// It could not be written down, and then nothing may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotWritten;

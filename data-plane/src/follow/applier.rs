//! From an update to a served runtime: check, compile, swap, write down. Blocking work, called off the async threads;
//! the old runtime serves until the one pointer is stored.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use arc_swap::ArcSwapOption;
use proto::config::{Ack, Entry, Hello, Pinned, Rejection};

use super::{
    last_good::LastGood,
    replica::{Change, Fault, Position, Replica},
};
use crate::runtime::{self, Compiled, Configuration, Runtime};

/// Why a change is not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error("the update was refused")]
    Fault(#[from] Fault),
    /// A defect: compiling must reject, not panic. The old runtime goes on serving.
    #[error("compiling the configuration panicked")]
    Panicked,
}

/// Everything that changes when an update is applied, in one owner.
pub(crate) struct Applier {
    replica: Replica,
    /// The bodies behind the runtime that serves; differs from the replica where something is rejected.
    served: Configuration,
    rejected: Vec<Rejection>,
    pinned: Vec<Entry>,
    last_good: LastGood,
    runtime: Arc<ArcSwapOption<Runtime>>,
}

impl Applier {
    pub(crate) fn new(last_good: LastGood, runtime: Arc<ArcSwapOption<Runtime>>) -> Self {
        Self {
            replica: Replica::default(),
            served: Configuration::default(),
            rejected: Vec::new(),
            pinned: Vec::new(),
            last_good,
            runtime,
        }
    }

    /// Serves what is on disk, if anything is.
    pub(crate) fn restore(&mut self) -> Option<Position> {
        let loaded = self.last_good.load()?;
        self.replica = loaded.replica;
        self.served = Configuration::default();
        for entry in loaded.pinned {
            // An entry that is no longer understood is no fallback.
            let _ = self.served.put(entry);
        }
        match self.compile() {
            Ok(()) => self.replica.position(),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the last known good configuration does not compile; waiting for the control plane"
                );
                None
            }
        }
    }

    pub(crate) fn position(&self) -> Option<Position> {
        self.replica.position()
    }

    /// Serves the change or, on an error, what was served before. The answer is the acknowledgement.
    pub(crate) fn apply(&mut self, change: Change) -> Result<Ack, ApplyError> {
        let started = Instant::now();
        let logged = change.clone();
        self.replica.apply(change)?;
        self.compile()?;
        let apply_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let persisted = match self.last_good.persist(&self.replica, Some(logged), &self.pinned) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the last known good configuration could not be written; serving goes on, a restart would not"
                );
                false
            }
        };
        Ok(Ack {
            cursor: self.replica.position().map(Position::to_wire),
            state_hash: self.replica.hash().to_bytes().to_vec().into(),
            rejected: self.rejected.clone(),
            apply_us,
            persisted,
        })
    }

    fn compile(&mut self) -> Result<(), ApplyError> {
        let wanted = self.replica.entries();
        let served = &self.served;
        let compiled = catch_unwind(AssertUnwindSafe(|| Runtime::compile(wanted, served)));
        let Ok(Compiled { runtime, served, rejected }) = compiled else {
            // Forget the position, so that the control plane sends everything anew.
            self.replica = Replica::default();
            return Err(ApplyError::Panicked);
        };
        self.runtime.store(Some(Arc::new(runtime)));
        self.pinned = if rejected.is_empty() {
            Vec::new()
        } else {
            let differs = |key, entry: &Entry| wanted.get(key).is_none_or(|wanted| wanted.body != entry.body);
            served.iter().filter(|(key, entry)| differs(**key, entry)).map(|(_, entry)| entry.clone()).collect()
        };
        for rejection in &rejected {
            tracing::warn!(resource.id = %rejection.key.1, pointer = rejection.pointer, code = rejection.code.label(),
                "a resource was rejected, its last good form stays: {}", rejection.message);
        }
        self.rejected = rejected.into_iter().map(to_wire).collect();
        self.served = served;
        Ok(())
    }

    /// The first message of a stream.
    pub(crate) fn hello(&self, node: &str, boot: uuid::Uuid) -> Hello {
        let position = self.replica.position();
        Hello {
            node: node.to_owned(),
            boot: boot.into_bytes().to_vec().into(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cursor: position.map(Position::to_wire),
            state_hash: position.map(|_| self.replica.hash().to_bytes().to_vec().into()).unwrap_or_default(),
            pinned: self
                .pinned
                .iter()
                .map(|entry| Pinned { kind: entry.kind, id: entry.id.clone(), revision: entry.revision })
                .collect(),
            protocol: 1,
        }
    }
}

fn to_wire(rejection: runtime::Rejection) -> Rejection {
    let runtime::Rejection { key: (kind, id), revision, pointer, code, message } = rejection;
    Rejection { kind, id: id.into_bytes().to_vec().into(), revision, pointer, code: code.label().to_owned(), message }
}

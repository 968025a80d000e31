//! Everything that is kept. The only room that names sqlx; one file per noun, each a few functions over a
//! [`Transaction`] that hold SQL and no rules of their own beyond what the rows must satisfy.

pub mod access_token;
pub mod api_key;
pub mod audit;
pub mod authority;
pub mod books;
pub mod catalog;
pub mod change;
pub mod deployment;
pub mod endpoint;
pub mod engine;
pub mod gateway;
pub mod installation;
pub mod master_key;
pub mod member;
pub mod node;
pub mod one_time_token;
pub mod organization;
pub mod period;
pub mod price;
pub mod provider;
pub mod proxy;
pub mod quota;
pub mod request;
pub mod secret;
pub mod session;
pub mod template;
pub mod throttle;
pub mod unlogged;
pub mod usage;
pub mod usage_sum;
mod usage_total;
pub mod wake;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use time::OffsetDateTime;
use tokio::sync::watch;
use uuid::Uuid;

pub use catalog::{Catalog, Changes};
pub use change::{Author, Change, Committed};
pub use engine::{Engine, Location, OpenError, Transaction};

use crate::model::error::Error;

/// The store, opened, migrated and with its first rows; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Engine,
    /// Raised whenever a revision may have moved, here or in another control plane.
    revisions: watch::Sender<u64>,
    /// Raised by this process's own commits, for the announcement to others.
    commits: watch::Sender<u64>,
    /// Raised whenever a deployment's status may have moved.
    progress: watch::Sender<u64>,
    installation: installation::Installation,
    /// Periods of usage that this process has made or found.
    periods: Mutex<HashSet<String>>,
}

impl Store {
    /// Opens the store; makes organization, lineage and the gateway `default` when it is new.
    pub async fn open(location: &Location) -> Result<Self, OpenError> {
        let engine = Engine::open(location).await?;
        let installation = installation::ensure(&engine).await.map_err(OpenError::Prepare)?;
        Ok(Self(Arc::new(Inner {
            engine,
            revisions: watch::Sender::new(0),
            commits: watch::Sender::new(0),
            progress: watch::Sender::new(0),
            installation,
            periods: Mutex::default(),
        })))
    }

    /// Which database, for single statements and reads.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// A transaction that only reads, at one moment.
    pub async fn read(&self) -> Result<Transaction, Error> {
        self.0.engine.read().await
    }

    /// Random, made with the store: revisions of different lineages cannot be compared.
    pub fn lineage(&self) -> Uuid {
        self.0.installation.lineage
    }

    /// The organization that the first start made.
    pub fn first_organization(&self) -> Uuid {
        self.0.installation.organization_id
    }

    /// Changes whenever a revision may have moved. The number is a count of wake-ups, not a revision: read the store.
    pub fn revisions(&self) -> watch::Receiver<u64> {
        self.0.revisions.subscribe()
    }

    /// Changes whenever a deployment's status may have moved.
    pub fn progress(&self) -> watch::Receiver<u64> {
        self.0.progress.subscribe()
    }

    /// Wakes everyone who follows [`Self::revisions`].
    pub(crate) fn wake(&self) {
        self.0.revisions.send_modify(|count| *count += 1);
    }

    /// Wakes everyone who follows, here and in other control planes: something was committed.
    pub(crate) fn committed(&self) {
        self.wake();
        self.0.commits.send_modify(|count| *count += 1);
    }

    pub(crate) fn knows_period(&self, name: &str) -> bool {
        self.0.periods.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    pub(crate) fn learn_period(&self, name: &str) {
        self.0.periods.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
    }

    pub(crate) fn forget_period(&self, name: &str) {
        self.0.periods.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Wakes everyone who follows [`Self::progress`].
    pub(crate) fn progressed(&self) {
        self.0.progress.send_modify(|count| *count += 1);
    }
}

/// A resource after a write, and the organization's revision that the write made.
#[derive(Clone, Debug)]
pub struct Written<T> {
    /// As it is read from now on.
    pub value: T,
    /// Of the organization.
    pub revision: i64,
}

/// Now, cut to the microseconds that both engines keep.
pub fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(now.nanosecond() / 1000 * 1000).expect("below a second")
}

/// A pattern for `LIKE .. ESCAPE '\\'` that finds this text anywhere.
pub(crate) fn contains(text: &str) -> String {
    let mut pattern = String::from("%");
    for character in text.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

/// Microseconds since 1970, for the columns that SQL compares.
pub fn microseconds(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1000).expect("within 290,000 years of 1970")
}

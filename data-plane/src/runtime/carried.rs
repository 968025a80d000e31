//! What belongs to a resource and outlives the configuration it stands in: a count of its requests, its figures. It lies
//! outside; the compiled resource only remembers where, once somebody has looked.

use std::sync::{Arc, OnceLock};

/// A place for it. Empty in a fresh configuration, so that compiling stays a function of what is compiled.
#[derive(Debug)]
pub(crate) struct Carried<T>(OnceLock<Arc<T>>);

impl<T> Carried<T> {
    /// It; `find` is asked the first time.
    pub(crate) fn get(&self, find: impl FnOnce() -> Arc<T>) -> &Arc<T> {
        self.0.get_or_init(find)
    }

    /// It, if somebody has looked.
    pub(crate) fn found(&self) -> Option<&Arc<T>> {
        self.0.get()
    }
}

impl<T> Default for Carried<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

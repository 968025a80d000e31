//! Figures by the name of what they are about. A name's figures outlive the configuration it stands in; they go a while
//! after the last configuration that knew it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Sweeps that a name stays after it was last known: ten minutes, so that nothing is lost between two scrapes.
const KEPT: u32 = 60;

/// All of one kind.
#[derive(Debug, Default)]
pub(crate) struct Registry<T>(Mutex<BTreeMap<Box<str>, Entry<T>>>);

#[derive(Debug, Default)]
struct Entry<T> {
    figures: Arc<T>,
    unknown: u32,
}

impl<T: Default> Registry<T> {
    /// Its figures. Takes a lock: asked once per name and configuration.
    pub(crate) fn of(&self, name: &str) -> Arc<T> {
        let mut entries = self.lock();
        if let Some(entry) = entries.get(name) {
            return Arc::clone(&entry.figures);
        }
        Arc::clone(&entries.entry(name.into()).or_default().figures)
    }

    /// All of them, by name.
    pub(crate) fn all(&self) -> Vec<(Box<str>, Arc<T>)> {
        self.lock().iter().map(|(name, entry)| (name.clone(), Arc::clone(&entry.figures))).collect()
    }

    /// Forgets what has long been unknown and is not in use.
    pub(crate) fn sweep(&self, known: impl Fn(&str) -> bool) {
        self.lock().retain(|name, entry| {
            let gone = Arc::strong_count(&entry.figures) == 1 && !known(name);
            entry.unknown = if gone { entry.unknown + 1 } else { 0 };
            entry.unknown < KEPT
        });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Entry<T>>> {
        // The map is whole after every statement: a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_gone_is_forgotten_after_a_while() {
        let registry = Registry::<u32>::default();
        let (kept, gone) = (registry.of("kept"), registry.of("gone"));
        assert!(Arc::ptr_eq(&kept, &registry.of("kept")));
        drop((kept, registry.of("known")));
        for sweep in 0..2 * KEPT {
            assert_eq!(registry.all().len(), 3, "in use until now, sweep {sweep}");
            registry.sweep(|name| name != "gone");
        }
        drop(gone);
        for _ in 0..KEPT {
            assert_eq!(registry.all().len(), 3);
            registry.sweep(|name| name != "gone");
        }
        let names: Vec<_> = registry.all().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["kept".into(), "known".into()]);
    }
}

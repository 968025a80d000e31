//! What the control plane sent, as it was sent: entries by key. The input of compilation and the content of the
//! last-known-good file.

use std::collections::BTreeMap;
use std::collections::btree_map::Iter;

use proto::config::Entry;
use uuid::Uuid;

/// Kind (the wire enum's number) and id.
pub type Key = (i32, Uuid);

/// A gateway's whole configuration at one revision.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    /// Of the organization; 0: before anything.
    pub revision: u64,
    entries: BTreeMap<Key, Entry>,
}

impl Configuration {
    /// Nothing yet, at this revision.
    pub fn at(revision: u64) -> Self {
        Self { revision, entries: BTreeMap::new() }
    }

    /// Adds or replaces. The old entry; `Err` gives the entry back if its id has not 16 bytes.
    pub fn put(&mut self, entry: Entry) -> Result<Option<Entry>, Entry> {
        match Uuid::from_slice(&entry.id) {
            Ok(id) => Ok(self.entries.insert((entry.kind, id), entry)),
            Err(_) => Err(entry),
        }
    }

    /// Takes one away.
    pub fn remove(&mut self, key: Key) -> Option<Entry> {
        self.entries.remove(&key)
    }

    /// The entry under a key.
    pub fn get(&self, key: Key) -> Option<&Entry> {
        self.entries.get(&key)
    }

    /// All entries, by kind and id.
    pub fn iter(&self) -> Iter<'_, Key, Entry> {
        self.entries.iter()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<'a> IntoIterator for &'a Configuration {
    type Item = (&'a Key, &'a Entry);
    type IntoIter = Iter<'a, Key, Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

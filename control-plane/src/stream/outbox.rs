//! The parts of one update, made as the node takes them: a slow node holds one part in memory, not a configuration.

use std::{collections::BTreeSet, ops::Bound, sync::Arc};

use proto::config::{Cursor, Entry, EntryKey, Update};
use uuid::Uuid;

use crate::{
    publisher::{Delta, Published, Standing},
    snapshot::Key,
};

/// A part is closed before it exceeds this, so that nothing else waits long behind it.
const PART: usize = 512 << 10;
/// What an entry takes beside its body.
const OVERHEAD: usize = 48;

/// An update under way.
#[derive(Debug)]
pub(super) struct Outbox {
    published: Arc<Published>,
    from: Option<Cursor>,
    /// Of a delta; what is not in the configuration any more is removed.
    keys: Option<BTreeSet<Key>>,
    urgent: bool,
    after: Bound<Key>,
    part: u32,
}

impl Outbox {
    /// Everything.
    pub(super) fn reset(published: Arc<Published>) -> Self {
        Self { published, from: None, keys: None, urgent: false, after: Bound::Unbounded, part: 0 }
    }

    /// What a node needs that stands there.
    pub(super) fn delta(published: Arc<Published>, from: &Standing, delta: Delta) -> Self {
        let from = Some(cursor(from.lineage, from.revision));
        let Delta { keys, urgent } = delta;
        Self { published, from, keys: Some(keys), urgent, after: Bound::Unbounded, part: 0 }
    }

    /// Where the node stands once it has taken everything.
    pub(super) fn to(&self) -> Standing {
        let snapshot = &self.published.snapshot;
        Standing { lineage: snapshot.lineage, revision: revision_of(&self.published), hash: snapshot.hash }
    }

    /// The next part; the last one says so.
    pub(super) fn next(&mut self) -> Update {
        let snapshot = &self.published.snapshot;
        let mut update = Update {
            from: self.from.clone(),
            to: Some(cursor(snapshot.lineage, revision_of(&self.published))),
            reset: self.from.is_none(),
            urgent: self.urgent,
            committed_at_us: self.published.committed_at_us,
            part: self.part,
            ..Update::default()
        };
        let range = (self.after, Bound::Unbounded);
        let mut size = 0;
        let mut add = |key: &Key, entry: Option<&Entry>| {
            size += OVERHEAD + entry.map_or(0, |entry| entry.body.len());
            // A single entry larger than a part travels alone.
            if size > PART && (!update.put.is_empty() || !update.remove.is_empty()) {
                return false;
            }
            self.after = Bound::Excluded(*key);
            match entry {
                Some(entry) => update.put.push(entry.clone()),
                None => update.remove.push(EntryKey { kind: key.0, id: key.1.into_bytes().to_vec().into() }),
            }
            true
        };
        update.last = match &self.keys {
            Some(keys) => keys.range(range).all(|key| add(key, snapshot.entries.get(key))),
            None => snapshot.entries.range(range).all(|(key, entry)| add(key, Some(entry))),
        };
        if update.last {
            update.state_hash = snapshot.hash.to_bytes().to_vec().into();
        }
        self.part += 1;
        update
    }
}

fn revision_of(published: &Published) -> u64 {
    u64::try_from(published.snapshot.revision).expect("revisions count up from 1")
}

fn cursor(lineage: Uuid, revision: u64) -> Cursor {
    Cursor { lineage: lineage.into_bytes().to_vec().into(), revision }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Snapshot, tests::entries};

    fn published(bodies: &[(u128, &str)]) -> Arc<Published> {
        let snapshot = Snapshot::new(Uuid::from_u128(1), 9, entries(bodies));
        Arc::new(Published::after(Uuid::nil(), None, snapshot, false))
    }

    fn all(mut outbox: Outbox) -> Vec<Update> {
        let mut parts = Vec::new();
        loop {
            let part = outbox.next();
            let last = part.last;
            parts.push(part);
            if last {
                return parts;
            }
        }
    }

    #[test]
    fn a_large_reset_comes_in_small_parts_that_hold_everything_once() {
        let body = "x".repeat(100_000);
        let bodies: Vec<_> = (0..30).map(|id| (id, body.as_str())).collect();
        let parts = all(Outbox::reset(published(&bodies)));
        assert!(parts.len() >= 6, "{}", parts.len());
        for (index, part) in parts.iter().enumerate() {
            assert!(prost::Message::encoded_len(part) <= PART + 1024);
            assert_eq!((part.part as usize, part.reset, part.last), (index, true, index + 1 == parts.len()));
            assert_eq!(part.state_hash.is_empty(), !part.last);
        }
        let ids: Vec<_> = parts.iter().flat_map(|part| &part.put).map(|entry| entry.id.clone()).collect();
        let expected: Vec<_> = (0..30_u128).map(|id| bytes::Bytes::from(id.to_be_bytes().to_vec())).collect();
        assert_eq!(ids, expected);
    }

    #[test]
    fn an_oversize_entry_travels_alone_and_an_empty_update_is_one_part() {
        let body = "x".repeat(PART + 1);
        let parts = all(Outbox::reset(published(&[(1, "a"), (2, &body), (3, "c")])));
        assert_eq!(parts.iter().map(|part| part.put.len()).collect::<Vec<_>>(), [1, 1, 1]);
        let parts = all(Outbox::reset(published(&[])));
        assert_eq!((parts.len(), parts[0].put.len(), parts[0].last), (1, 0, true));
    }

    #[test]
    fn a_delta_removes_what_is_gone() {
        let published = published(&[(2, "b")]);
        let from = Standing { lineage: Uuid::from_u128(1), revision: 3, hash: published.snapshot.hash };
        let keys = [1_u128, 2].into_iter().map(|id| (4, Uuid::from_u128(id))).collect();
        let outbox = Outbox::delta(published.clone(), &from, Delta { keys, urgent: true });
        assert_eq!(outbox.to().revision, 9);
        let parts = all(outbox);
        let update = &parts[0];
        assert_eq!((parts.len(), update.put.len(), update.remove.len(), update.urgent), (1, 1, 1, true));
        assert_eq!(update.from.as_ref().map(|cursor| cursor.revision), Some(3));
        assert!(!update.reset);
    }
}
